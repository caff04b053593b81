/* The CUDA kernels' distance from double precision, by kernel and type, as a table (--bench). The
 * oracles are the formulas of kernels.h and of the files in kernels/cuda, one document at a time,
 * with no part of them in common with the kernels. Kernels that are not here are exact (gather,
 * convert, add_bias, top_k) or sum in double precision (sum_squares): rows.c and vectors.c. */
#include "../check/kernel_conv.h"
#include "../check/kernel_scan.h"
#include "check_cuda.h"

enum { LEN = 150, D = 40, N = 16, STATES = D * N };

/* ||got - want|| / ||want||. */
static double distance(const float *got, const double *want, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        diff += isnan(d) ? INFINITY : d * d;
        norm += want[i] * want[i];
    }
    return sqrt(diff / norm);
}
static double *doubles(int64_t n) {
    return kernel_alloc(n, sizeof(double));
}
/* typed: outputs that are rounded to the type; sums: those that stay float32 (0: none). */
static void tell(const char *kernel, enum sp_cuda_type type, bool ok, double typed, double sums) {
    const char *name = cuda_type_name[type];
    if (check_state.bench) {
        printf("# error of %-12s %-4s:", kernel, name);
        if (typed > 0) printf(" %.2g of what is in its type", typed);
        if (sums > 0) printf("%s %.2g of what is float32", typed > 0 ? "," : "", sums);
        printf("\n");
    }
    check_ok(ok && typed < cuda_tolerance[type] && sums < 1e-6,
             "%s_cuda %s: %.2g from double precision, what stays float32 %.2g", kernel, name, typed,
             sums);
    kernel_end_case();
}

static double sigmoid(double u) {
    return 1 / (1 + exp(-u));
}

/* ---- the scan ---------------------------------------------------------------------------------*/

struct scan_grads {
    double *dx, *ddt, *dz, *dB, *dC, *dA, *dD, *dbias, *dstate;
};

/* From the end: g is the gradient of h after token t, of one channel. h: (LEN + 1, N), its states.
 */
static void channel_back(const struct scan_case *s, int64_t c, const double *h, double *g,
                         struct scan_grads *o) {
    const struct sp_scan *a = &s->a;
    for (int64_t t = LEN - 1; t >= 0; t--) {
        double x = (double)a->x[t * D + c], z = (double)a->z[t * D + c];
        double u = (double)a->dt[t * D + c] + (double)a->dt_bias[c], delta = log1p(exp(u));
        double dy = (double)s->dy[t * D + c], v = dy * z * sigmoid(z), y = (double)a->D[c] * x;
        double ddelta = 0, dx = (double)a->D[c] * v;
        for (int64_t n = 0; n < N; n++) {
            double A = (double)a->A[c * N + n], B = (double)a->B[t * N + n];
            double C = (double)a->C[t * N + n], decay = exp(delta * A);
            double before = h[t * N + n], after = h[(t + 1) * N + n];
            g[n] += v * C;
            y += C * after;
            o->dC[t * N + n] += v * after;
            o->dB[t * N + n] += g[n] * delta * x;
            o->dA[c * N + n] += g[n] * delta * decay * before;
            ddelta += g[n] * (A * decay * before + B * x);
            dx += g[n] * delta * B;
            g[n] *= decay;
        }
        o->dx[t * D + c] = dx;
        o->ddt[t * D + c] = ddelta * sigmoid(u);
        o->dz[t * D + c] = dy * y * sigmoid(z) * (1 + z * (1 - sigmoid(z)));
        o->dD[c] += v * x;
        o->dbias[c] += ddelta * sigmoid(u);
    }
}
static struct scan_grads scan_back(const struct scan_case *s) {
    struct scan_grads o = {doubles(LEN * D), doubles(LEN * D), doubles(LEN * D),
                           doubles(LEN * N), doubles(LEN * N), doubles(STATES),
                           doubles(D),       doubles(D),       doubles(STATES)};
    double *h = doubles((LEN + 1) * N);
    const struct sp_scan *a = &s->a;
    for (int64_t c = 0; c < D; c++) {
        for (int64_t n = 0; n < N; n++) {
            h[n] = (double)s->state_in[0][c * N + n];
            o.dstate[c * N + n] = (double)s->dstate_out[c * N + n];
            for (int64_t t = 0; t < LEN; t++) {
                double delta = log1p(exp((double)a->dt[t * D + c] + (double)a->dt_bias[c]));
                h[(t + 1) * N + n] = exp(delta * (double)a->A[c * N + n]) * h[t * N + n] +
                                     delta * (double)a->B[t * N + n] * (double)a->x[t * D + c];
            }
        }
        channel_back(s, c, h, o.dstate + c * N, &o);
    }
    return o;
}

static void type_inputs(struct sp_scan *a, int64_t n_tok, enum sp_cuda_type type) {
    a->x = cuda_typed(a->x, n_tok * D, type);
    a->dt = cuda_typed(a->dt, n_tok * D, type);
    a->z = cuda_typed(a->z, n_tok * D, type);
    a->B = cuda_typed(a->B, n_tok * N, type);
    a->C = cuda_typed(a->C, n_tok * N, type);
}

static void check_scan(enum sp_cuda_type type) {
    struct scan_case s;
    int64_t len = LEN;
    scan_make(&s, 1, &len, D, N, 0, 0);
    struct sp_scan a = scan_args(&s);
    type_inputs(&a, LEN, type);
    float *state = kernel_floats(STATES), *before = kernel_floats(STATES);
    a.state_out = &state;
    a.chunk_state = kernel_floats(s.n_chunk * STATES);
    a.y = cuda_output(LEN * D, type);
    double *y = doubles(LEN * D), *h = doubles(STATES), fwd[2], cut[2];
    for (int64_t i = 0; i < STATES; i++) h[i] = (double)s.state_in[0][i];
    scan_oracle(&s, 0, y, h);
    float *work = kernel_floats(sp_scan_split_cuda_workspace(&a, LEN, 64));
    bool cut_ok = cuda_launched(sp_scan_split_cuda(&a, type, type, LEN, LEN, 64, work, NULL));
    cut[0] = distance(cuda_to_floats(a.y, LEN * D, type), y, LEN * D);
    cut[1] = distance(state, h, STATES);
    bool fwd_ok = cuda_launched(sp_scan_fwd_cuda(&a, type, type, LEN, NULL));
    fwd[0] = distance(cuda_to_floats(a.y, LEN * D, type), y, LEN * D);
    fwd[1] = distance(state, h, STATES);
    const float *after = s.dstate_out;
    struct sp_scan_grad g = {.dy = cuda_typed(s.dy, LEN * D, type), .lddy = D};
    g.lddx = g.lddt = g.lddz = D;
    g.dx = cuda_output(LEN * D, type);
    g.ddt = cuda_output(LEN * D, type);
    g.dz = cuda_output(LEN * D, type);
    g.dB = kernel_floats(LEN * N);
    g.dC = kernel_floats(LEN * N);
    g.dA = kernel_floats(STATES);
    g.dD = kernel_floats(D);
    g.ddt_bias = kernel_floats(D);
    g.dstate_out = &after;
    g.dstate_in = &before;
    struct scan_grads o = scan_back(&s);
    work = kernel_floats(sp_scan_bwd_cuda_workspace(&a, LEN, 1));
    bool ok = cuda_launched(sp_scan_bwd_cuda(&a, &g, type, LEN, 1, work, NULL));
    double typed = distance(cuda_to_floats(g.dx, LEN * D, type), o.dx, LEN * D);
    typed = fmax(typed, distance(cuda_to_floats(g.ddt, LEN * D, type), o.ddt, LEN * D));
    typed = fmax(typed, distance(cuda_to_floats(g.dz, LEN * D, type), o.dz, LEN * D));
    double sums = fmax(distance(g.dB, o.dB, LEN * N), distance(g.dC, o.dC, LEN * N));
    sums = fmax(sums, fmax(distance(g.dA, o.dA, STATES), distance(before, o.dstate, STATES)));
    sums = fmax(sums, fmax(distance(g.dD, o.dD, D), distance(g.ddt_bias, o.dbias, D)));
    tell("scan_fwd", type, fwd_ok, fwd[0], fwd[1]);
    tell("scan_split", type, cut_ok, cut[0], cut[1]);
    tell("scan_bwd", type, ok, typed, sums);
}

/* ---- decode -----------------------------------------------------------------------------------*/

static void check_scan_step(enum sp_cuda_type type) {
    enum { SEQS = 3 };
    struct scan_case s;
    const int64_t len[SEQS] = {1, 1, 1};
    scan_make(&s, SEQS, len, D, N, 0, 0);
    struct sp_scan a = scan_args(&s);
    type_inputs(&a, SEQS, type);
    a.y = cuda_output(SEQS * D, type);
    float *states = kernel_floats(SEQS * STATES), *state[SEQS];
    double *y = doubles(SEQS * D), *h = doubles(SEQS * STATES);
    for (int64_t i = 0; i < SEQS; i++) {
        state[i] = states + i * STATES;
        for (int64_t j = 0; j < STATES; j++) h[i * STATES + j] = (double)s.state_in[i][j];
        scan_oracle(&s, i, y + i * D, h + i * STATES);
    }
    a.state_out = state;
    bool ok = cuda_launched(sp_scan_step_cuda(&a, type, NULL));
    tell("scan_step", type, ok, distance(cuda_to_floats(a.y, SEQS * D, type), y, SEQS * D),
         distance(states, h, SEQS * STATES));
}

enum { TAPS = 4, RANK = 8, PARTS = RANK + 2 * N };

/* One sequence; the weights as the device has them. conv (TAPS - 1, D): the state before. */
static void mixer_oracle(const struct sp_mixer_step *a, const float *x_proj, const float *dt_proj,
                         const float *conv, double *h, double *y) {
    double x[D], part[PARTS] = {0};
    for (int64_t c = 0; c < D; c++) {
        double u =
            (double)a->conv_bias[c] + (double)a->conv_w[c * TAPS + TAPS - 1] * (double)a->xz[c];
        for (int k = 0; k < TAPS - 1; k++)
            u += (double)a->conv_w[c * TAPS + k] * (double)conv[k * D + c];
        x[c] = u * sigmoid(u);
        for (int64_t o = 0; o < PARTS; o++) part[o] += (double)x_proj[o * D + c] * x[c];
    }
    for (int64_t c = 0; c < D; c++) {
        double u = (double)a->dt_bias[c], z = (double)a->xz[D + c], sum = (double)a->D[c] * x[c];
        for (int r = 0; r < RANK; r++) u += (double)dt_proj[c * RANK + r] * part[r];
        const double delta = log1p(exp(u));
        for (int64_t n = 0; n < N; n++) {
            double *state = &h[c * N + n];
            *state = exp(delta * (double)a->A[c * N + n]) * *state + delta * part[RANK + n] * x[c];
            sum += part[RANK + N + n] * *state;
        }
        y[c] = sum * z * sigmoid(z);
    }
}

static void check_mixer_step(enum sp_cuda_type type) {
    struct sp_mixer_step a = {.n_seq = 1, .d_inner = D, .d_conv = TAPS, .d_state = N};
    float *x_proj = kernel_random(PARTS * D, -1, 1), *dt_proj = kernel_random(D * RANK, -1, 1);
    float *conv = kernel_random((TAPS - 1) * D, -1, 1), *ssm = kernel_random(STATES, -1, 1);
    double *h = doubles(STATES), *y = doubles(D);
    a.dt_rank = RANK;
    a.part_norm_eps = -1;
    a.xz = kernel_random(2 * D, -2, 2);
    a.ldxz = 2 * D;
    a.conv_w = kernel_random(D * TAPS, -1, 1);
    a.conv_bias = kernel_random(D, -1, 1);
    a.x_proj = cuda_typed(x_proj, PARTS * D, type);
    a.dt_proj = cuda_typed(dt_proj, D * RANK, type);
    a.x_type = a.dt_type = type;
    a.dt_bias = kernel_random(D, -4, 1);
    a.A = kernel_random(STATES, -4, 0);
    a.D = kernel_random(D, -1, 1);
    for (int64_t i = 0; i < STATES; i++) h[i] = (double)ssm[i];
    mixer_oracle(&a, x_proj, dt_proj, conv, h, y);
    a.conv_state = &conv;
    a.ssm_state = &ssm;
    a.y = kernel_floats(D);
    a.ldy = D;
    float *work = kernel_floats(sp_mixer_step_cuda_workspace(&a));
    bool ok = cuda_launched(sp_mixer_step_cuda(&a, work, NULL));
    tell("mixer_step", type, ok, 0, fmax(distance(a.y, y, D), distance(ssm, h, STATES)));
}

/* ---- convolution ------------------------------------------------------------------------------*/

static void check_conv(enum sp_cuda_type type, int W) {
    struct conv_case s;
    int64_t len = LEN;
    conv_make(&s, 1, &len, D, W, true, true, 0);
    struct sp_conv a = conv_args(&s);
    a.x = cuda_typed(a.x, LEN * D, type);
    a.y = cuda_output(LEN * D, type);
    struct sp_conv_grad g = {.dy = cuda_typed(s.dy, LEN * D, type), .lddy = D, .lddx = D};
    g.dx = cuda_output(LEN * D, type);
    g.dw = kernel_floats(D * W);
    g.dbias = kernel_floats(D);
    double *y = doubles(LEN * D), *dx = doubles(LEN * D), *dw = doubles(D * W), *db = doubles(D);
    for (int64_t t = 0; t < LEN; t++)
        for (int64_t c = 0; c < D; c++) {
            double u = (double)a.bias[c], in[SP_CONV_WIDTH_MAX];
            for (int k = 0; k < W; k++) {
                int64_t e = t + k - (W - 1);
                in[k] =
                    e >= 0 ? (double)s.a.x[e * D + c] : (double)s.state_in[0][(e + W - 1) * D + c];
                u += (double)a.w[c * W + k] * in[k];
            }
            y[t * D + c] = u * sigmoid(u);
            double du = (double)s.dy[t * D + c] * sigmoid(u) * (1 + u * (1 - sigmoid(u)));
            db[c] += du;
            for (int k = 0; k < W; k++) {
                int64_t e = t + k - (W - 1);
                dw[c * W + k] += du * in[k];
                if (e >= 0) dx[e * D + c] += du * (double)a.w[c * W + k];
            }
        }
    bool fwd_ok = cuda_launched(sp_conv_fwd_cuda(&a, type, LEN, NULL));
    double fwd = distance(cuda_to_floats(a.y, LEN * D, type), y, LEN * D);
    float *work = kernel_floats(sp_conv_bwd_cuda_workspace(&a, LEN));
    bool ok = cuda_launched(sp_conv_bwd_cuda(&a, &g, type, LEN, work, NULL));
    double typed = distance(cuda_to_floats(g.dx, LEN * D, type), dx, LEN * D);
    double sums = fmax(distance(g.dw, dw, D * W), distance(g.dbias, db, D));
    tell(W == 4 ? "conv_fwd" : "conv8_fwd", type, fwd_ok, fwd, 0);
    tell(W == 4 ? "conv_bwd" : "conv8_bwd", type, ok, typed, sums);
}

/* ---- rows -------------------------------------------------------------------------------------*/

static void check_norm(enum sp_cuda_type type) {
    enum { ROWS = 20, COLUMNS = 768 };
    const int64_t n = ROWS * COLUMNS;
    struct sp_rmsnorm a = {.d = COLUMNS, .ldx = COLUMNS, .ldy = COLUMNS, .eps = 1e-5f};
    a.x = kernel_random(n, -2, 2);
    a.w = kernel_random(COLUMNS, -2, 2);
    a.y = cuda_output(n, type);
    a.rstd = kernel_floats(ROWS);
    float *dy = kernel_random(n, -1, 1);
    struct sp_rmsnorm_grad g = {.dy = cuda_typed(dy, n, type), .lddy = COLUMNS, .lddx = COLUMNS};
    g.dx = kernel_floats(n);
    g.dw = kernel_floats(COLUMNS);
    double *y = doubles(n), *dx = doubles(n), *dw = doubles(COLUMNS);
    for (int64_t r = 0; r < ROWS; r++) {
        const float *x = a.x + r * COLUMNS, *d = dy + r * COLUMNS;
        double sum = 0, dot = 0;
        for (int64_t c = 0; c < COLUMNS; c++) {
            sum += (double)x[c] * (double)x[c];
            dot += (double)d[c] * (double)a.w[c] * (double)x[c];
        }
        double rstd = 1 / sqrt(sum / COLUMNS + 1e-5);
        for (int64_t c = 0; c < COLUMNS; c++) {
            double w = (double)a.w[c], v = (double)x[c], u = (double)d[c];
            y[r * COLUMNS + c] = v * rstd * w;
            dx[r * COLUMNS + c] = rstd * (u * w - v * rstd * rstd * dot / COLUMNS);
            dw[c] += u * v * rstd;
        }
    }
    bool fwd_ok = cuda_launched(sp_rmsnorm_fwd_cuda(&a, type, ROWS, NULL));
    double fwd = distance(cuda_to_floats(a.y, n, type), y, n);
    float *work = kernel_floats(sp_rmsnorm_bwd_cuda_workspace(&a, ROWS));
    bool ok = cuda_launched(sp_rmsnorm_bwd_cuda(&a, &g, type, ROWS, work, NULL));
    double sums = fmax(distance(g.dx, dx, n), distance(g.dw, dw, COLUMNS));
    tell("rmsnorm_fwd", type, fwd_ok, fwd, 0);
    tell("rmsnorm_bwd", type, ok, 0, sums);
}

static void check_xent(void) {
    enum { ROWS = 4, CLASSES = 5000 };
    struct sp_xent a = {.n_class = CLASSES, .ldl = CLASSES, .scale = 0.25f};
    a.logits = kernel_random(ROWS * CLASSES, -8, 8);
    a.loss = kernel_floats(ROWS);
    int32_t target[ROWS] = {0, 17, 4999, 2500};
    a.target = target;
    double *grad = doubles(ROWS * CLASSES), loss[ROWS];
    for (int64_t r = 0; r < ROWS; r++) {
        const float *x = a.logits + r * CLASSES;
        double sum = 0;
        for (int64_t c = 0; c < CLASSES; c++) sum += exp((double)x[c]);
        loss[r] = log(sum) - (double)x[target[r]];
        for (int64_t c = 0; c < CLASSES; c++)
            grad[r * CLASSES + c] = (exp((double)x[c]) / sum - (c == target[r])) * 0.25;
    }
    bool ok = cuda_launched(sp_xent_cuda(&a, ROWS, NULL));
    tell("xent", SP_CUDA_F32, ok, distance(a.logits, grad, ROWS * CLASSES),
         distance(a.loss, loss, ROWS));
}

static void check_adamw(void) {
    enum { COUNT = 3000 };
    struct sp_adamw a = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
    a.weight_decay = 0.1f;
    a.bias1 = 0.19f;
    a.bias2 = 0.0199f;
    a.grad_scale = 0.5f;
    a.param = kernel_random(COUNT, -1, 1);
    a.m = kernel_random(COUNT, -1, 1);
    a.v = kernel_random(COUNT, 0, 1);
    a.grad = kernel_random(COUNT, -1, 1);
    double *p = doubles(COUNT), *m = doubles(COUNT), *v = doubles(COUNT);
    for (int i = 0; i < COUNT; i++) {
        double b1 = (double)a.beta1, b2 = (double)a.beta2, grad = (double)a.grad[i] * 0.5;
        m[i] = b1 * (double)a.m[i] + (1 - b1) * grad;
        v[i] = b2 * (double)a.v[i] + (1 - b2) * grad * grad;
        double step = m[i] / (double)a.bias1 / (sqrt(v[i] / (double)a.bias2) + 1e-8);
        p[i] = (double)a.param[i];
        p[i] -= (double)a.lr * (step + (double)a.weight_decay * p[i]);
    }
    bool ok = cuda_launched(sp_adamw_cuda(&a, COUNT, NULL));
    double moments = fmax(distance(a.m, m, COUNT), distance(a.v, v, COUNT));
    tell("adamw", SP_CUDA_F32, ok, distance(a.param, p, COUNT), moments);
}

static void check_log_sum_exp(void) {
    enum { ROWS = 4, CLASSES = 5000 };
    float *x = kernel_random(ROWS * CLASSES, -8, 8), *out = kernel_floats(ROWS);
    double want[ROWS];
    for (int64_t r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int64_t c = 0; c < CLASSES; c++) sum += exp((double)x[r * CLASSES + c]);
        want[r] = log(sum);
    }
    bool ok = cuda_launched(sp_log_sum_exp_cuda(x, CLASSES, ROWS, CLASSES, out, NULL));
    tell("log_sum_exp", SP_CUDA_F32, ok, 0, distance(out, want, ROWS));
}

/* ---- products and sums ------------------------------------------------------------------------*/

/* With the rounding of x that decode asks for: x is of the matrix's type to begin with. */
static void check_matvec(enum sp_cuda_type type) {
    enum { ROWS = 5, IN = 768, OUT = 50 };
    struct sp_cuda_matvec a = {.w_type = type, .ldw = IN, .d_in = IN, .d_out = OUT};
    float *w = kernel_random(OUT * IN, -1, 1), *x = kernel_random(ROWS * IN, -1, 1);
    double *y = doubles(ROWS * OUT);
    a.w = cuda_typed(w, OUT * IN, type);
    cuda_typed(x, ROWS * IN, type);
    a.x = x;
    a.ldx = IN;
    a.n_row = ROWS;
    a.round_x = 1;
    a.y = kernel_floats(ROWS * OUT);
    a.ldy = OUT;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t o = 0; o < OUT; o++)
            for (int64_t i = 0; i < IN; i++)
                y[r * OUT + o] += (double)w[o * IN + i] * (double)x[r * IN + i];
    bool ok = cuda_launched(sp_matvec_cuda(&a, NULL));
    tell("matvec", type, ok, 0, distance(a.y, y, ROWS * OUT));
}

static void check_scatter_add(enum sp_cuda_type type) {
    enum { ROWS = 200, TABLE = 7, COLUMNS = 96 };
    float *sum = kernel_random(TABLE * COLUMNS, -1, 1), *dy = kernel_random(ROWS * COLUMNS, -1, 1);
    const void *typed = cuda_typed(dy, ROWS * COLUMNS, type);
    uint32_t *id = kernel_alloc(ROWS, sizeof *id);
    double *want = doubles(TABLE * COLUMNS);
    for (int64_t i = 0; i < TABLE * COLUMNS; i++) want[i] = (double)sum[i];
    for (int64_t r = 0; r < ROWS; r++) {
        id[r] = (uint32_t)check_random_int(0, TABLE - 1);
        for (int64_t c = 0; c < COLUMNS; c++)
            want[id[r] * COLUMNS + c] += (double)dy[r * COLUMNS + c];
    }
    bool ok = cuda_launched(sp_scatter_add_cuda(sum, COLUMNS, id, ROWS, typed, type, NULL));
    tell("scatter_add", type, ok, 0, distance(sum, want, TABLE * COLUMNS));
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++) {
        cuda_next_schedule();
        check_scan((enum sp_cuda_type)type);
        check_scan_step((enum sp_cuda_type)type);
        check_mixer_step((enum sp_cuda_type)type);
        check_conv((enum sp_cuda_type)type, 4);
        check_conv((enum sp_cuda_type)type, 8);
        check_norm((enum sp_cuda_type)type);
    }
    check_xent();
    check_adamw();
    for (int type = 0; type < CUDA_N_TYPE; type++) {
        check_matvec((enum sp_cuda_type)type);
        check_scatter_add((enum sp_cuda_type)type);
    }
    check_log_sum_exp();
    return check_end();
}
