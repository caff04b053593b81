/* The selective scan backward: every path against finite differences of the double-precision
 * oracle and against the plain C path, packing and spreading, and the bench. */
#include "kernel_scan_grad.h"

static const int64_t lengths[] = {0, 1, 2, 63, 64, 65, 130};
static const int64_t inners[] = {1, 7, 15, 16, 17, 31, 48, 70};
static const int64_t state_sizes[] = {1, 5, 8, 15, 16, 17, 33, 64};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

static void check_differences(const struct sp_kernels *k) {
    double worst = 0;
    for (int options = 0; options < SCAN_N_OPTIONS; options++) {
        struct scan_case s;
        int64_t len[3] = {3, 0, options == 0 ? 67 : 6};
        scan_make(&s, 3, len, 3, 5, options, 0);
        if (s.a.dt_bias) { /* into the softplus guard, and out on the other side */
            ((float *)(uintptr_t)s.a.dt)[0] = 25;
            ((float *)(uintptr_t)s.a.dt)[4] = -25;
        }
        struct scan_result r = scan_forward(k, &s, 3);
        scan_backward(k, &s, 3, &r);
        worst = kernel_worst(worst, scan_worst_slopes_error(&s, &r));
        kernel_end_case();
    }
    check_ok(worst < 1e-4, "scan_bwd %s: %.2g from finite differences in double precision", k->name,
             worst);
}

static void check_random_shapes(void) {
    struct kernel_error e[4][SCAN_N_GRAD] = {0};
    bool cut[4] = {true, true, true, true};
    for (int i = 0; i < 60; i++) {
        struct scan_case s;
        int64_t n_seq = check_random_int(1, 4), len[4];
        for (int j = 0; j < 4; j++) len[j] = PICK(lengths);
        scan_make(&s, n_seq, len, PICK(inners), PICK(state_sizes), i % SCAN_N_OPTIONS,
                  check_random_int(0, 5));
        struct scan_result plain = scan_forward(&kernel_state.path[0], &s, s.a.d_inner);
        scan_backward(&kernel_state.path[0], &s, s.a.d_inner, &plain);
        for (int p = 0; p < kernel_state.n_path; p++) {
            struct scan_result r = plain, again = plain;
            scan_backward(&kernel_state.path[p], &s, s.a.d_inner, &r);
            scan_compare(&s, &r, &plain, e[p]);
            scan_backward(&kernel_state.path[p], &s, s.a.d_inner > 16 ? 16 : s.a.d_inner, &again);
            cut[p] = cut[p] && scan_same_bits(&s, &r, &again);
        }
        kernel_end_case();
    }
    for (int p = 0; p < kernel_state.n_path; p++) {
        const char *name = kernel_state.path[p].name;
        double worst = 0;
        for (int i = 0; i < SCAN_N_GRAD; i++) worst = kernel_worst(worst, kernel_error(&e[p][i]));
        check_ok(worst < KERNEL_TOLERANCE, "scan_bwd %s: %.2g from plain C", name, worst);
        check_ok(cut[p], "scan_bwd %s: bits do not depend on how channels are spread", name);
    }
}

/* Sums over tokens and channels are added to what is there; the rest is written. */
static void check_added(const struct sp_kernels *k) {
    struct scan_case s;
    int64_t len = 70;
    scan_make(&s, 1, &len, 20, 16, 0, 0);
    struct scan_result r = scan_forward(k, &s, 20);
    scan_backward(k, &s, 20, &r);
    struct scan_result once = r;
    float *sums[] = {r.dB, r.dC, r.dA, r.dD, r.dbias};
    const int64_t n[] = {70 * 16, 70 * 16, 20 * 16, 20, 20};
    struct sp_scan a = scan_args(&s);
    a.chunk_state = r.chunk;
    struct sp_scan_grad g = {.dy = s.dy, .lddy = 20, .lddx = 20, .lddt = 20, .lddz = 20};
    g.dx = kernel_random(70 * 20, -1, 1);
    g.ddt = kernel_random(70 * 20, -1, 1);
    g.dz = kernel_random(70 * 20, -1, 1);
    float **into[] = {&g.dB, &g.dC, &g.dA, &g.dD, &g.ddt_bias};
    for (int i = 0; i < 5; i++) {
        *into[i] = kernel_floats(n[i]);
        for (int64_t j = 0; j < n[i]; j++) (*into[i])[j] = 1000;
    }
    g.scratch = kernel_random(sp_scan_bwd_scratch(16), -1, 1);
    const float *dstate_out = s.dstate_out;
    g.dstate_out = &dstate_out;
    k->scan_bwd(&a, &g, 0, 0, 20);
    bool added = true;
    for (int i = 0; i < 5; i++)
        for (int64_t j = 0; j < n[i]; j++)
            added = added &&
                    fabsf((*into[i])[j] - 1000 - sums[i][j]) < 1e-3f + 1e-5f * fabsf(sums[i][j]);
    check_ok(added, "scan_bwd %s: dB, dC, dA, dD, ddt_bias are added to", k->name);
    check_ok(kernel_same_bits(g.dx, once.dx, 70 * 20) &&
                 kernel_same_bits(g.ddt, once.ddt, 70 * 20) &&
                 kernel_same_bits(g.dz, once.dz, 70 * 20),
             "scan_bwd %s: dx, ddt, dz are written, dirty scratch is harmless", k->name);
}

struct bench {
    const struct sp_kernels *k;
    struct sp_scan a;
    struct sp_scan_grad g;
};
static void bench_run(void *context) {
    struct bench *b = context;
    b->k->scan_bwd(&b->a, &b->g, 0, 0, b->a.d_inner);
}

static void bench(int64_t len, int64_t d_inner, int64_t d_state) {
    struct scan_case s;
    scan_make(&s, 1, &len, d_inner, d_state, 0, 0);
    char shape[64];
    snprintf(shape, sizeof shape, "1 x %d, inner %d, state %d", (int)len, (int)d_inner,
             (int)d_state);
    double ref = 0;
    struct scan_result r = scan_forward(&kernel_state.path[0], &s, d_inner);
    scan_backward(&kernel_state.path[0], &s, d_inner, &r);
    for (int p = 0; p < kernel_state.n_path; p++) {
        struct bench b = {.k = &kernel_state.path[p], .a = scan_args(&s)};
        b.a.chunk_state = r.chunk;
        b.g = (struct sp_scan_grad){.dy = s.dy,
                                    .lddy = d_inner,
                                    .dx = r.dx,
                                    .ddt = r.ddt,
                                    .dz = r.dz,
                                    .lddx = d_inner,
                                    .lddt = d_inner,
                                    .lddz = d_inner,
                                    .dB = r.dB,
                                    .dC = r.dC,
                                    .dA = r.dA,
                                    .dD = r.dD,
                                    .ddt_bias = r.dbias,
                                    .scratch = kernel_floats(sp_scan_bwd_scratch(d_state))};
        double seconds = kernel_seconds(bench_run, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row("scan_bwd", shape, b.k->name, seconds, ref, (double)(s.n_tok * s.n_state),
                         "states/ns");
    }
    kernel_end_case();
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    if (check_wanted("scan_bwd")) check_random_shapes();
    for (int p = 0; p < kernel_state.n_path; p++) {
        if (check_wanted("scan_bwd")) check_differences(&kernel_state.path[p]);
        if (check_wanted("scan_bwd")) check_added(&kernel_state.path[p]);
    }
    if (check_state.bench) {
        bench(512, 1536, 16);
        bench(512, 256, 16);
        bench(256, 256, 64);
    }
    return check_end();
}
