/* Causal convolution and SiLU, forward and backward: a double-precision oracle and its finite
 * differences, the plain C path, states, packing, spreading, and the bench. */
#include "kernel.h"

enum { SEQ_MAX = 4 };
static const int64_t lengths[] = {0, 1, 2, 3, 4, 63, 64, 65};
static const int64_t inners[] = {1, 7, 15, 16, 17, 31, 64, 70, 100};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

struct conv_case {
    struct sp_conv a; /* without outputs */
    int64_t n_tok, n_state, cu_seqlens[SEQ_MAX + 1];
    const float *state_in[SEQ_MAX];
    const float *dy, *dstate_out; /* (n_tok, d_inner), ldy; (n_seq, d_conv - 1, d_inner) */
};
struct conv_result {
    float *y, *state, *dx, *dw, *dbias, *dstate;
};

static void make(struct conv_case *s, int64_t n_seq, const int64_t *len, int64_t d_inner,
                 int64_t d_conv, bool bias, bool state, int64_t pad) {
    memset(s, 0, sizeof *s);
    for (int64_t i = 0; i < n_seq; i++) s->cu_seqlens[i + 1] = s->cu_seqlens[i] + len[i];
    s->n_tok = s->cu_seqlens[n_seq];
    s->n_state = (d_conv - 1) * d_inner;
    struct sp_conv *a = &s->a;
    *a = (struct sp_conv){.n_seq = n_seq, .d_inner = d_inner, .d_conv = d_conv};
    a->ldx = a->ldy = d_inner + pad;
    a->x = kernel_random(s->n_tok * a->ldx, -2, 2);
    a->w = kernel_random(d_inner * d_conv, -1, 1);
    a->bias = bias ? kernel_random(d_inner, -1, 1) : NULL;
    float *states = kernel_random(n_seq * s->n_state, -2, 2);
    for (int64_t i = 0; i < n_seq; i++) s->state_in[i] = states + i * s->n_state;
    a->state_in = state ? s->state_in : NULL;
    s->dy = kernel_random(s->n_tok * a->ldy, -1, 1);
    s->dstate_out = kernel_random(n_seq * s->n_state, -1, 1);
}

static void random_case(struct conv_case *s, int i) {
    int64_t n_seq = check_random_int(1, SEQ_MAX), len[SEQ_MAX];
    for (int j = 0; j < SEQ_MAX; j++) len[j] = PICK(lengths);
    make(s, n_seq, len, PICK(inners), i % 3 ? 4 : check_random_int(1, SP_CONV_WIDTH_MAX), i % 2,
         i % 5 != 0, check_random_int(0, 3));
}

static struct sp_conv args(const struct conv_case *s) {
    struct sp_conv a = s->a;
    a.cu_seqlens = s->cu_seqlens;
    if (a.state_in) a.state_in = s->state_in;
    return a;
}

static struct conv_result forward(const struct sp_kernels *k, const struct conv_case *s,
                                  int64_t cut) {
    struct conv_result r = {.y = kernel_floats(s->n_tok * s->a.ldy),
                            .state = kernel_floats(s->a.n_seq * s->n_state)};
    struct sp_conv a = args(s);
    float *state[SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) state[i] = r.state + i * s->n_state;
    a.state_out = state;
    a.y = r.y;
    for (int64_t i = 0; i < a.n_seq; i++) {
        k->conv_fwd(&a, i, 0, cut);
        if (cut < a.d_inner) k->conv_fwd(&a, i, cut, a.d_inner);
    }
    return r;
}

static void backward(const struct sp_kernels *k, const struct conv_case *s, int64_t cut,
                     struct conv_result *r) {
    struct sp_conv a = args(s);
    int64_t wide = s->n_tok * a.ldy;
    r->dx = kernel_floats(wide);
    r->dw = kernel_floats(a.d_inner * a.d_conv);
    r->dbias = kernel_floats(a.d_inner);
    r->dstate = kernel_floats(a.n_seq * s->n_state);
    struct sp_conv_grad g = {.dy = s->dy,
                             .lddy = a.ldy,
                             .dx = r->dx,
                             .lddx = a.ldy,
                             .dw = r->dw,
                             .dbias = a.bias ? r->dbias : NULL};
    const float *dstate_out[SEQ_MAX];
    float *dstate_in[SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        dstate_out[i] = s->dstate_out + i * s->n_state;
        dstate_in[i] = r->dstate + i * s->n_state;
    }
    g.dstate_out = dstate_out;
    g.dstate_in = dstate_in;
    for (int64_t i = 0; i < a.n_seq; i++) {
        k->conv_bwd(&a, &g, i, 0, cut);
        if (cut < a.d_inner) k->conv_bwd(&a, &g, i, cut, a.d_inner);
    }
}

/* Written from the definition: y is (len, d_inner), state (d_conv - 1, d_inner). */
static void oracle(const struct conv_case *s, int64_t seq, double *y, double *state) {
    const struct sp_conv *a = &s->a;
    int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start, past = a->d_conv - 1;
    for (int64_t c = 0; c < a->d_inner; c++) {
        double line[256]; /* the state, then the inputs */
        for (int64_t i = 0; i < past; i++)
            line[i] = a->state_in ? (double)s->state_in[seq][i * a->d_inner + c] : 0;
        for (int64_t t = 0; t < len; t++) line[past + t] = (double)a->x[(start + t) * a->ldx + c];
        for (int64_t t = 0; t < len; t++) {
            double u = a->bias ? (double)a->bias[c] : 0;
            for (int64_t k = 0; k < a->d_conv; k++)
                u += (double)a->w[c * a->d_conv + k] * line[t + k];
            y[t * a->d_inner + c] = u / (1 + exp(-u));
        }
        for (int64_t i = 0; i < past; i++) state[i * a->d_inner + c] = line[len + i];
    }
}

static double oracle_distance(const struct conv_case *s, const struct conv_result *r) {
    double diff = 0, norm = 0, *state = kernel_alloc(s->n_state, sizeof *state);
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        double *y = kernel_alloc(len * s->a.d_inner, sizeof *y);
        oracle(s, seq, y, state);
        for (int64_t i = 0; i < s->n_state; i++)
            if (state[i] != (double)r->state[seq * s->n_state + i]) return INFINITY;
        for (int64_t t = 0; t < len; t++) {
            for (int64_t c = 0; c < s->a.d_inner; c++) {
                double want = y[t * s->a.d_inner + c];
                double d = want - (double)r->y[(start + t) * s->a.ldy + c];
                diff += d * d;
                norm += want * want;
            }
        }
    }
    return diff == 0 ? 0 : sqrt(diff / norm);
}

static double loss(const struct conv_case *s) {
    static double y[256 * 8], state[SP_CONV_WIDTH_MAX * 8];
    double sum = 0;
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        oracle(s, seq, y, state);
        for (int64_t i = 0; i < len * s->a.d_inner; i++)
            sum += y[i] * (double)s->dy[start * s->a.d_inner + i];
        for (int64_t i = 0; i < s->n_state; i++)
            sum += state[i] * (double)s->dstate_out[seq * s->n_state + i];
    }
    return sum;
}

/* Central differences with two steps, as in kernel_scan_bwd.c. */
static double slopes_error(const struct conv_case *s, const float *param, const float *grad,
                           int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; param && i < n; i++) {
        float *at = (float *)(uintptr_t)(param + i), value = *at;
        double d[2];
        for (int j = 0; j < 2; j++) {
            float high = value + (j ? 0.5e-2f : 1e-2f), low = value - (j ? 0.5e-2f : 1e-2f);
            *at = high;
            d[j] = loss(s);
            *at = low;
            d[j] = (d[j] - loss(s)) / ((double)high - (double)low);
        }
        *at = value;
        double want = (4 * d[1] - d[0]) / 3;
        diff += (want - (double)grad[i]) * (want - (double)grad[i]);
        norm += want * want;
    }
    return diff == 0 ? 0 : sqrt(diff / norm);
}

static void check_differences(const struct sp_kernels *k) {
    double worst = 0;
    for (int i = 0; i < 6; i++) {
        struct conv_case s;
        int64_t len[3] = {2, 0, 9}, d_conv = i < 3 ? 4 : i - 1;
        make(&s, 3, len, 3, d_conv, i % 2 == 0, i % 3 != 0, 0);
        struct conv_result r = {0};
        backward(k, &s, 3, &r);
        worst = kernel_worst(worst, slopes_error(&s, s.a.x, r.dx, s.n_tok * 3));
        worst = kernel_worst(worst, slopes_error(&s, s.a.w, r.dw, 3 * d_conv));
        worst = kernel_worst(worst, slopes_error(&s, s.a.bias, r.dbias, 3));
        if (s.a.state_in)
            worst = kernel_worst(worst, slopes_error(&s, s.state_in[0], r.dstate, 3 * s.n_state));
        kernel_end_case();
    }
    check_ok(worst < 1e-5, "conv_bwd %s: %.2g from finite differences in double precision", k->name,
             worst);
}

enum { N_OUTPUT = 5 };
static void compare(const struct conv_case *s, const struct conv_result *a,
                    const struct conv_result *b, struct kernel_error e[N_OUTPUT]) {
    int64_t wide = s->n_tok * s->a.ldy;
    kernel_compare(&e[0], a->y, b->y, wide);
    kernel_compare(&e[1], a->dx, b->dx, wide);
    kernel_compare(&e[2], a->dw, b->dw, s->a.d_inner * s->a.d_conv);
    kernel_compare(&e[3], a->dbias, b->dbias, s->a.d_inner);
    kernel_compare(&e[4], a->dstate, b->dstate, s->a.n_seq * s->n_state);
}

static bool same_bits(const struct conv_case *s, const struct conv_result *a,
                      const struct conv_result *b) {
    int64_t wide = s->n_tok * s->a.ldy, n_state = s->a.n_seq * s->n_state;
    return kernel_same_bits(a->y, b->y, wide) && kernel_same_bits(a->state, b->state, n_state) &&
           kernel_same_bits(a->dx, b->dx, wide) &&
           kernel_same_bits(a->dw, b->dw, s->a.d_inner * s->a.d_conv) &&
           kernel_same_bits(a->dbias, b->dbias, s->a.d_inner) &&
           kernel_same_bits(a->dstate, b->dstate, n_state);
}

static void check_random_shapes(void) {
    double exact[4] = {0};
    struct kernel_error ref[4][N_OUTPUT] = {0};
    bool cut[4] = {true, true, true, true};
    for (int i = 0; i < 60; i++) {
        struct conv_case s;
        random_case(&s, i);
        struct conv_result plain = {0};
        for (int p = 0; p < kernel_state.n_path; p++) {
            const struct sp_kernels *k = &kernel_state.path[p];
            struct conv_result r = forward(k, &s, s.a.d_inner);
            backward(k, &s, s.a.d_inner, &r);
            if (p == 0) plain = r;
            exact[p] = kernel_worst(exact[p], oracle_distance(&s, &r));
            compare(&s, &r, &plain, ref[p]);
            struct conv_result again = forward(k, &s, s.a.d_inner > 16 ? 16 : s.a.d_inner);
            backward(k, &s, s.a.d_inner > 16 ? 16 : s.a.d_inner, &again);
            cut[p] = cut[p] && same_bits(&s, &r, &again);
        }
        kernel_end_case();
    }
    for (int p = 0; p < kernel_state.n_path; p++) {
        const char *name = kernel_state.path[p].name;
        check_ok(exact[p] < KERNEL_TOLERANCE,
                 "conv_fwd %s: %.2g from double precision, states exact", name, exact[p]);
        double worst = 0;
        for (int i = 0; i < N_OUTPUT; i++) worst = kernel_worst(worst, kernel_error(&ref[p][i]));
        check_ok(worst < KERNEL_TOLERANCE, "conv %s: both ways, %.2g from plain C", name, worst);
        check_ok(cut[p], "conv %s: bits do not depend on how channels are spread", name);
    }
}

/* a + b in one go, and b from the state after a, the state being one buffer. */
static void check_splits(const struct sp_kernels *k) {
    bool same = true;
    for (int64_t d_conv = 1; d_conv <= 6; d_conv++) {
        for (int64_t split = 0; split <= 9; split++) {
            struct conv_case s;
            int64_t len = 9;
            make(&s, 1, &len, 21, d_conv, true, split % 2, 1);
            struct conv_result whole = forward(k, &s, 21);
            float *state =
                s.a.state_in ? kernel_copy(s.state_in[0], s.n_state) : kernel_floats(s.n_state);
            float *y = kernel_floats(9 * s.a.ldy);
            int64_t ends[3] = {0, split, 9};
            for (int part = 0; part < 2; part++) {
                struct sp_conv a = args(&s);
                a.cu_seqlens = ends + part;
                a.state_in = (const float *const *)&state;
                a.state_out = &state;
                a.y = y;
                k->conv_fwd(&a, 0, 0, 21);
            }
            same = same && kernel_same_bits(y, whole.y, 9 * s.a.ldy) &&
                   kernel_same_bits(state, whole.state, s.n_state);
            kernel_end_case();
        }
    }
    check_ok(same, "conv_fwd %s: a + b and b after a have the same bits at every split", k->name);
}

/* The gradient of the state may replace the one it comes from. */
static void check_gradient_alias(const struct sp_kernels *k) {
    bool same = true;
    for (int64_t len = 0; len < 6; len++) {
        struct conv_case s;
        make(&s, 1, &len, 20, 4, true, true, 0);
        struct conv_result r = {0};
        backward(k, &s, 20, &r);
        float *state = kernel_copy(s.dstate_out, s.n_state);
        struct sp_conv a = args(&s);
        struct sp_conv_grad g = {.dy = s.dy,
                                 .lddy = 20,
                                 .dx = kernel_floats(len * 20),
                                 .lddx = 20,
                                 .dw = kernel_floats(80)};
        g.dstate_out = (const float *const *)&state;
        g.dstate_in = &state;
        k->conv_bwd(&a, &g, 0, 0, 20);
        same = same && kernel_same_bits(state, r.dstate, s.n_state) &&
               kernel_same_bits(g.dx, r.dx, len * 20);
        kernel_end_case();
    }
    check_ok(same, "conv_bwd %s: the two gradients of the state may be one buffer", k->name);
}

struct bench {
    const struct sp_kernels *k;
    struct sp_conv a;
    struct sp_conv_grad g;
    bool backward;
};
static void bench_run(void *context) {
    struct bench *b = context;
    if (b->backward) {
        b->k->conv_bwd(&b->a, &b->g, 0, 0, b->a.d_inner);
    } else {
        b->k->conv_fwd(&b->a, 0, 0, b->a.d_inner);
    }
}

static void bench(int64_t len, bool back) {
    struct conv_case s;
    make(&s, 1, &len, 1536, 4, true, true, 0);
    char shape[64];
    snprintf(shape, sizeof shape, "1 x %d, inner 1536, width 4", (int)len);
    double ref = 0;
    for (int p = 0; p < kernel_state.n_path; p++) {
        int64_t wide = s.n_tok * 1536;
        struct bench b = {.k = &kernel_state.path[p], .a = args(&s), .backward = back};
        b.a.y = kernel_floats(wide);
        b.g = (struct sp_conv_grad){.dy = s.dy,
                                    .lddy = 1536,
                                    .dx = kernel_floats(wide),
                                    .lddx = 1536,
                                    .dw = kernel_floats(1536 * 4),
                                    .dbias = kernel_floats(1536)};
        double seconds = kernel_seconds(bench_run, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row(back ? "conv_bwd" : "conv_fwd", shape, b.k->name, seconds, ref,
                         (double)wide, "elements/ns");
    }
    kernel_end_case();
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    if (check_wanted("conv")) check_random_shapes();
    for (int p = 0; p < kernel_state.n_path; p++) {
        if (check_wanted("conv_fwd")) check_splits(&kernel_state.path[p]);
        if (check_wanted("conv_bwd")) check_differences(&kernel_state.path[p]);
        if (check_wanted("conv_bwd")) check_gradient_alias(&kernel_state.path[p]);
    }
    if (check_state.bench) {
        bench(512, false);
        bench(1, false);
        bench(512, true);
    }
    return check_end();
}
