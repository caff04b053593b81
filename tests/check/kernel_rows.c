/* RMSNorm and cross-entropy: double-precision oracles and their finite differences, the plain C
 * path, rows computed apart, and the bench. */
#include "kernel_norm.h"

static const int64_t widths[] = {1, 7, 15, 16, 17, 40, 64, 100, 768};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

static struct norm_result run_norm(const struct sp_kernels *k, const struct norm_case *s,
                                   bool apart) {
    int64_t n = s->n_row * s->a.ldx;
    struct norm_result r = {kernel_copy(s->a.x, n), kernel_floats(n), kernel_floats(s->n_row),
                            kernel_copy(s->dx, n), kernel_floats(s->a.d)};
    struct sp_rmsnorm a = s->a;
    a.x = r.x;
    a.y = r.y;
    a.rstd = r.rstd;
    struct sp_rmsnorm_grad g = {s->dy, a.ldx, r.dx, a.ldx, a.w ? r.dw : NULL};
    int64_t step = apart ? 1 : s->n_row;
    for (int64_t i = 0; i < s->n_row; i += step) k->rmsnorm_fwd(&a, i, i + step);
    for (int64_t i = 0; i < s->n_row; i += step) k->rmsnorm_bwd(&a, &g, i, i + step);
    return r;
}

static bool same_norm(const struct norm_case *s, const struct norm_result *a,
                      const struct norm_result *b) {
    int64_t n = s->n_row * s->a.ldx;
    return kernel_same_bits(a->x, b->x, n) && kernel_same_bits(a->y, b->y, n) &&
           kernel_same_bits(a->rstd, b->rstd, s->n_row) && kernel_same_bits(a->dx, b->dx, n) &&
           kernel_same_bits(a->dw, b->dw, s->a.d);
}

static void check_norm(const struct sp_kernels *k) {
    double exact = 0, worst = 0;
    struct kernel_error e[3] = {0};
    bool apart = true;
    for (int i = 0; i < 60; i++) {
        struct norm_case s;
        norm_make(&s, i, PICK(widths));
        int64_t n = s.n_row * s.a.ldx;
        struct norm_result plain = run_norm(&kernel_state.path[0], &s, false);
        struct norm_result r = run_norm(k, &s, false), one = run_norm(k, &s, true);
        if (s.a.d > 1 && s.a.d <= 100) exact = kernel_worst(exact, norm_distance(&s, &r));
        kernel_compare(&e[0], r.y, plain.y, n);
        /* alone in its row, a number has next to no gradient: nothing is left but rounding */
        if (s.a.d > 1) kernel_compare(&e[1], r.dx, plain.dx, n);
        kernel_compare(&e[2], r.dw, plain.dw, s.a.d);
        apart = apart && kernel_same_bits(r.x, plain.x, n) && same_norm(&s, &r, &one);
        kernel_end_case();
    }
    check_ok(exact < 1e-6, "rmsnorm %s: both ways, %.2g from double precision", k->name, exact);
    for (int i = 0; i < 3; i++) worst = kernel_worst(worst, kernel_error(&e[i]));
    check_ok(worst < KERNEL_TOLERANCE, "rmsnorm %s: both ways, %.2g from plain C", k->name, worst);
    check_ok(apart, "rmsnorm %s: the bits of a row do not depend on the other rows", k->name);
}

/* Logits of moderate size, of +-80, equal ones, and rows that are to be ignored. */
static void check_xent(const struct sp_kernels *k) {
    double worst_loss = 0, worst_grad = 0;
    bool ignored = true, apart = true;
    for (int i = 0; i < 60; i++) {
        int64_t n = PICK(widths), ldl = n + i % 3, n_row = 5;
        float range = i % 3 == 0 ? 80 : i % 3 == 1 ? 4 : 0, scale = 0.125f, loss[5], loss_one[5];
        float *logits = kernel_random(n_row * ldl, -range, range),
              *grad = kernel_copy(logits, n_row * ldl);
        int32_t target[5];
        for (int64_t r = 0; r < n_row; r++) target[r] = (int32_t)check_random_int(-1, n - 1);
        struct sp_xent a = {n, grad, ldl, target, scale, loss};
        k->xent(&a, 0, n_row);
        struct sp_xent one = {n, kernel_copy(logits, n_row * ldl), ldl, target, scale, loss_one};
        for (int64_t r = n_row - 1; r >= 0; r--) k->xent(&one, r, r + 1);
        apart = apart && kernel_same_bits(one.logits, grad, n_row * ldl) &&
                kernel_same_bits(loss, loss_one, n_row);
        for (int64_t r = 0; r < n_row; r++) {
            double sum = 0, diff = 0, norm = 1e-300;
            const float *x = logits + r * ldl, *dx = grad + r * ldl;
            for (int64_t j = 0; j < n; j++) sum += exp((double)x[j]);
            for (int64_t j = 0; j < n; j++) {
                double p = target[r] < 0 ? 0 : exp((double)x[j]) / sum - (j == target[r] ? 1 : 0);
                diff += pow(p * (double)scale - (double)dx[j], 2);
                norm += pow(p * (double)scale, 2);
            }
            if (target[r] < 0) {
                ignored = ignored && diff == 0 && loss[r] == 0;
                continue;
            }
            double want = log(sum) - (double)x[target[r]];
            worst_loss = kernel_worst(worst_loss, fabs(want - (double)loss[r]) / (1 + want));
            /* p - 1 loses what rounding took from p: the error counts against the scale */
            worst_grad = kernel_worst(worst_grad, sqrt(diff) / (sqrt(norm) + (double)scale));
        }
        kernel_end_case();
    }
    check_ok(worst_loss < KERNEL_TOLERANCE, "xent %s: loss %.2g from double precision", k->name,
             worst_loss);
    check_ok(worst_grad < KERNEL_TOLERANCE, "xent %s: gradient %.2g from double precision", k->name,
             worst_grad);
    check_ok(ignored, "xent %s: rows without target have neither loss nor gradient", k->name);
    check_ok(apart, "xent %s: the bits of a row do not depend on the other rows", k->name);
}

struct bench {
    const struct sp_kernels *k;
    struct sp_rmsnorm norm;
    struct sp_rmsnorm_grad grad;
    struct sp_xent xent;
    int64_t n_row;
};
static void bench_norm_fwd(void *context) {
    struct bench *b = context;
    b->k->rmsnorm_fwd(&b->norm, 0, b->n_row);
}
static void bench_norm_bwd(void *context) {
    struct bench *b = context;
    b->k->rmsnorm_bwd(&b->norm, &b->grad, 0, b->n_row);
}
static void bench_xent(void *context) {
    struct bench *b = context;
    b->k->xent(&b->xent, 0, b->n_row);
}

static void bench(const char *name, const char *shape, void (*function)(void *), int64_t n_row,
                  int64_t d) {
    double ref = 0;
    for (int p = 0; p < kernel_state.n_path; p++) {
        struct bench b = {.k = &kernel_state.path[p], .n_row = n_row};
        int32_t *target = kernel_alloc(n_row, sizeof *target);
        float *x = kernel_random(n_row * d, -1, 1), *w = kernel_random(d, -1, 1);
        b.norm = (struct sp_rmsnorm){
            d, x, d, NULL, 0, w, 1e-5f, kernel_floats(n_row * d), d, kernel_random(n_row, 1, 2)};
        b.grad = (struct sp_rmsnorm_grad){x, d, kernel_floats(n_row * d), d, kernel_floats(d)};
        b.xent = (struct sp_xent){d, x, d, target, 1e-3f, kernel_floats(n_row)};
        double seconds = kernel_seconds(function, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row(name, shape, b.k->name, seconds, ref, (double)(n_row * d), "elements/ns");
        kernel_end_case();
    }
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int p = 0; p < kernel_state.n_path; p++) {
        if (check_wanted("rmsnorm")) check_norm(&kernel_state.path[p]);
        if (check_wanted("xent")) check_xent(&kernel_state.path[p]);
    }
    if (check_state.bench) {
        bench("rmsnorm_fwd", "512 x 768", bench_norm_fwd, 512, 768);
        bench("rmsnorm_bwd", "512 x 768", bench_norm_bwd, 512, 768);
        bench("xent", "8 x 50280", bench_xent, 8, 50280);
    }
    return check_end();
}
