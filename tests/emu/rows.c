/* The CUDA kernels that work on rows, under the emulator, against the plain C path: RMSNorm with
 * residual forward and backward, cross-entropy, gather and scatter-add; gradients also against
 * finite differences in double precision. */
#include "../check/kernel_norm.h"
#include "check_cuda.h"

static const int64_t widths[] = {1, 3, 4, 31, 96, 128, 130, 260, 1028, 1099};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

/* A norm's buffers; rows of x, residual, y are ld wide. */
struct norm {
    struct sp_rmsnorm a;
    int64_t n_row, ld;
    float *dy;
};
static struct norm make_norm(bool residual) {
    struct norm m = {.n_row = check_random_int(1, 9)};
    int64_t d = PICK(widths), ld = d + check_random_int(0, 1) * 4;
    m.ld = ld;
    m.a = (struct sp_rmsnorm){.d = d, .ldx = ld, .ldr = ld, .ldy = ld, .eps = 1e-5f};
    m.a.x = kernel_random(m.n_row * ld, -2, 2);
    m.a.residual = residual ? kernel_random(m.n_row * ld, -2, 2) : NULL;
    m.a.w = check_random() % 4 ? kernel_random(d, -2, 2) : NULL;
    m.dy = kernel_random(m.n_row * ld, -1, 1);
    return m;
}

static void check_norm_fwd(enum sp_cuda_type type) {
    struct kernel_error y = {0}, x = {0}, rstd = {0};
    bool ok = true;
    for (int i = 0; i < cuda_cases(24); i++) {
        struct norm m = make_norm(i % 2);
        int64_t n = m.n_row * m.ld;
        struct sp_rmsnorm a = m.a, want = m.a;
        a.residual = cuda_typed(m.a.residual, n, type);
        a.x = kernel_copy(m.a.x, n);
        a.y = cuda_output(n, type);
        a.rstd = cuda_output(m.n_row, SP_CUDA_F32);
        want.y = kernel_floats(n);
        want.rstd = kernel_floats(m.n_row);
        kernel_state.path[0].rmsnorm_fwd(&want, 0, m.n_row);
        cuda_next_schedule();
        ok = cuda_launched(sp_rmsnorm_fwd_cuda(&a, type, m.n_row, NULL)) && ok;
        float *got = cuda_to_floats(a.y, n, type);
        ok = ok && cuda_padding_kept(got, m.n_row, a.d, m.ld);
        for (int64_t r = 0; r < m.n_row; r++) {
            kernel_compare(&y, got + r * m.ld, want.y + r * m.ld, a.d);
            kernel_compare(&x, a.x + r * m.ld, want.x + r * m.ld, m.ld);
        }
        kernel_compare(&rstd, a.rstd, want.rstd, m.n_row);
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&y) < cuda_tolerance[type] && kernel_error(&rstd) < 1e-6,
             "rmsnorm_fwd_cuda %s: %.2g from plain C, rstd %.2g", cuda_type_name[type],
             kernel_error(&y), kernel_error(&rstd));
    check_ok(kernel_error(&x) == 0, "rmsnorm_fwd_cuda %s: the residual's sum to the bit",
             cuda_type_name[type]);
}

static void check_norm_bwd(enum sp_cuda_type type) {
    struct kernel_error dx = {0}, dw = {0};
    bool ok = true, same = true;
    for (int i = 0; i < cuda_cases(24); i++) {
        struct norm m = make_norm(false);
        int64_t n = m.n_row * m.ld, d = m.a.d;
        float *start = kernel_random(n, -1, 1), *start_w = kernel_random(d, -1, 1), *first = NULL;
        struct sp_rmsnorm a = m.a;
        a.rstd = kernel_random(m.n_row, 0.5f, 2);
        const void *dy = cuda_typed(m.dy, n, type);
        struct sp_rmsnorm_grad want = {.dy = m.dy, .lddy = m.ld, .lddx = m.ld};
        want.dx = kernel_copy(start, n);
        want.dw = i % 5 ? kernel_copy(start_w, d) : NULL;
        kernel_state.path[0].rmsnorm_bwd(&a, &want, 0, m.n_row);
        for (int again = 0; again < 2; again++) {
            struct sp_rmsnorm_grad g = want;
            g.dy = dy;
            g.dx = kernel_copy(start, n);
            g.dw = want.dw ? kernel_copy(start_w, d) : NULL;
            float *work = cuda_output(sp_rmsnorm_bwd_cuda_workspace(&a, m.n_row), SP_CUDA_F32);
            cuda_next_schedule();
            ok = cuda_launched(sp_rmsnorm_bwd_cuda(&a, &g, type, m.n_row, work, NULL)) && ok;
            kernel_compare(&dx, g.dx, want.dx, n);
            if (g.dw) kernel_compare(&dw, g.dw, want.dw, d);
            if (g.dw && first) same = same && kernel_same_bits(g.dw, first, d);
            first = g.dw;
        }
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&dx) < 1e-6 && kernel_error(&dw) < 1e-6,
             "rmsnorm_bwd_cuda %s: dx %.2g, dw %.2g from plain C", cuda_type_name[type],
             kernel_error(&dx), kernel_error(&dw));
    check_ok(same, "rmsnorm_bwd_cuda %s: dw has the same bits in every schedule",
             cuda_type_name[type]);
}

/* More rows than blocks, so that a warp takes several; and a row whose dw does not fit into what
 * shared memory a block gets unasked. */
static void check_norm_large(int64_t d, int64_t n_row) {
    struct kernel_error dx = {0}, dw = {0};
    float *x = kernel_random(n_row * d, -2, 2), *dy = kernel_random(n_row * d, -1, 1);
    struct sp_rmsnorm a = {.d = d, .x = x, .ldx = d, .rstd = kernel_random(n_row, 0.5f, 2)};
    struct sp_rmsnorm_grad want = {.dy = dy, .lddy = d, .lddx = d}, g = want;
    want.dx = kernel_floats(n_row * d);
    want.dw = kernel_floats(d);
    g.dx = kernel_floats(n_row * d);
    g.dw = kernel_floats(d);
    float *work = cuda_output(sp_rmsnorm_bwd_cuda_workspace(&a, n_row), SP_CUDA_F32);
    kernel_state.path[0].rmsnorm_bwd(&a, &want, 0, n_row);
    cuda_next_schedule();
    bool ok = cuda_launched(sp_rmsnorm_bwd_cuda(&a, &g, SP_CUDA_F32, n_row, work, NULL));
    kernel_compare(&dx, g.dx, want.dx, n_row * d);
    kernel_compare(&dw, g.dw, want.dw, d);
    kernel_end_case();
    check_ok(ok && kernel_error(&dx) < 1e-6 && kernel_error(&dw) < 2e-6,
             "rmsnorm_bwd_cuda: %d rows of %d: dx %.2g, dw %.2g from plain C", (int)n_row, (int)d,
             kernel_error(&dx), kernel_error(&dw));
}

static void check_xent(void) {
    static const int64_t classes[] = {1, 2, 5, 8, 1000, 1024, 1031, 3000};
    struct kernel_error grad = {0}, loss = {0};
    bool ok = true, kept = true;
    for (int i = 0; i < cuda_cases(24); i++) {
        int64_t n_row = check_random_int(1, 5), n_class = PICK(classes), ld = n_class + i % 5;
        struct sp_xent want = {.n_class = n_class, .ldl = ld, .scale = 0.25f}, a;
        want.logits = kernel_random(n_row * ld, -30, 30);
        int32_t *target = kernel_alloc(n_row, sizeof *target);
        for (int64_t r = 0; r < n_row; r++) {
            target[r] = (int32_t)check_random_int(i % 3 ? 0 : -1, n_class - 1);
            want.logits[r * ld] = i % 4 == 0 && target[r] != 0 ? -INFINITY : want.logits[r * ld];
        }
        want.target = target;
        want.loss = kernel_floats(n_row);
        a = want;
        a.logits = kernel_copy(want.logits, n_row * ld);
        a.loss = cuda_output(n_row, SP_CUDA_F32);
        kernel_state.path[0].xent(&want, 0, n_row);
        cuda_next_schedule();
        ok = cuda_launched(sp_xent_cuda(&a, n_row, NULL)) && ok;
        kernel_compare(&grad, a.logits, want.logits, n_row * ld);
        kernel_compare(&loss, a.loss, want.loss, n_row);
        for (int64_t r = 0; r < n_row; r++)
            kept = kept && kernel_same_bits(a.logits + r * ld + n_class,
                                            want.logits + r * ld + n_class, ld - n_class);
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&grad) < 1e-6 && kernel_error(&loss) < 1e-6,
             "xent_cuda: gradient %.2g, loss %.2g from plain C", kernel_error(&grad),
             kernel_error(&loss));
    check_ok(kept, "xent_cuda: what is between rows is kept");
}

/* Forward and backward of one case, against the formula and its differences. */
static void check_norm_differences(void) {
    double worst = 0;
    bool ok = true;
    for (int i = 0; i < cuda_cases(24); i++) {
        struct norm_case s;
        norm_make(&s, i, i % 3 ? 8 * check_random_int(1, 12) : check_random_int(2, 100));
        const int64_t n = s.n_row * s.a.ldx;
        struct norm_result r = {kernel_copy(s.a.x, n), kernel_floats(n), kernel_floats(s.n_row),
                                kernel_copy(s.dx, n), kernel_floats(s.a.d)};
        struct sp_rmsnorm a = s.a;
        a.x = r.x;
        a.y = r.y;
        a.rstd = r.rstd;
        struct sp_rmsnorm_grad g = {s.dy, a.ldx, r.dx, a.ldx, a.w ? r.dw : NULL};
        float *work = cuda_output(sp_rmsnorm_bwd_cuda_workspace(&a, s.n_row), SP_CUDA_F32);
        cuda_next_schedule();
        ok = cuda_launched(sp_rmsnorm_fwd_cuda(&a, SP_CUDA_F32, s.n_row, NULL)) && ok;
        cuda_next_schedule();
        ok = cuda_launched(sp_rmsnorm_bwd_cuda(&a, &g, SP_CUDA_F32, s.n_row, work, NULL)) && ok;
        worst = kernel_worst(worst, norm_distance(&s, &r));
        kernel_end_case();
    }
    check_ok(ok && worst < 1e-6,
             "rmsnorm_cuda: both ways, %.2g from double precision and its "
             "finite differences",
             worst);
}

static double xent_loss(const double *x, int64_t n, int64_t target) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i]);
    return log(sum) - x[target];
}

static void check_xent_differences(void) {
    enum { N = 37 };
    struct kernel_error e = {0};
    bool ok = true;
    for (int i = 0; i < 5; i++) {
        float *logits = kernel_random(N, -3, 3), loss, want[N];
        double x[N];
        int32_t target = (int32_t)check_random_int(0, N - 1), *at = kernel_alloc(1, sizeof *at);
        *at = target;
        for (int j = 0; j < N; j++) x[j] = (double)logits[j];
        for (int j = 0; j < N; j++) {
            const double keep = x[j];
            x[j] = keep + 1e-5;
            double slope = xent_loss(x, N, target);
            x[j] = keep - 1e-5;
            want[j] = (float)((slope - xent_loss(x, N, target)) / 2e-5);
            x[j] = keep;
        }
        struct sp_xent a = {N, logits, N, at, 1, kernel_floats(1)};
        cuda_next_schedule();
        ok = cuda_launched(sp_xent_cuda(&a, 1, NULL)) && ok;
        kernel_compare(&e, logits, want, N);
        loss = (float)xent_loss(x, N, target);
        ok = ok && fabsf(a.loss[0] - loss) <= 1e-6f * loss;
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&e) < 1e-6,
             "xent_cuda: gradient %.2g from finite differences in double precision",
             kernel_error(&e));
}

static void check_table(enum sp_cuda_type type) {
    enum { N_ID = 50, N_TABLE = 20 };
    bool ok = true;
    for (int i = 0; i < cuda_cases(9); i++) {
        int64_t d = PICK(widths), n = check_random_int(1, N_ID);
        float *table = kernel_random(N_TABLE * d, -1, 1), *dy = kernel_random(n * d, -1, 1);
        const void *typed = cuda_typed(table, N_TABLE * d, type),
                   *dyt = cuda_typed(dy, n * d, type);
        float *want = kernel_random(N_TABLE * d, -1, 1), *sum = kernel_copy(want, N_TABLE * d);
        uint32_t *id = kernel_alloc(n, sizeof *id);
        void *y = cuda_output(n * d, type);
        for (int64_t j = 0; j < n; j++) id[j] = (uint32_t)check_random_int(0, N_TABLE - 1);
        cuda_next_schedule();
        ok = cuda_launched(sp_gather_cuda(typed, d, id, n, y, type, NULL)) && ok;
        cuda_next_schedule();
        ok = cuda_launched(sp_scatter_add_cuda(sum, d, id, n, dyt, type, NULL)) && ok;
        float *rows = cuda_to_floats(y, n * d, type);
        for (int64_t j = 0; j < n; j++) {
            ok = ok && kernel_same_bits(rows + j * d, table + id[j] * d, d);
            for (int64_t c = 0; c < d; c++) want[id[j] * d + c] += dy[j * d + c];
        }
        ok = ok && kernel_same_bits(sum, want, N_TABLE * d);
        kernel_end_case();
    }
    check_ok(ok, "gather_cuda and scatter_add_cuda %s: the bits of plain C", cuda_type_name[type]);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++) {
        check_norm_fwd((enum sp_cuda_type)type);
        check_norm_bwd((enum sp_cuda_type)type);
        check_table((enum sp_cuda_type)type);
    }
    check_norm_large(20, cuda_cases(2100));
    check_norm_large(13000, 3);
    check_xent();
    check_norm_differences();
    check_xent_differences();
    return check_end();
}
