/* exp over its whole range (--exhaustive: every float), rounding to bf16, sums of squares, AdamW.
 */
#include "kernel.h"

/* |got - e^x| in units of the last place of the float nearest to e^x; denormal results have the
 * place of the smallest one. */
static double ulp_error(float got, float x) {
    double want = exp((double)x);
    if (want > (double)3.4028235677973366e38) return isinf(got) && got > 0 ? 0 : INFINITY;
    int exponent;
    frexp(want, &exponent);
    double place = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - want) / place;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every `stride`th float, in runs, with the worst error in ULP. */
static double worst_exp(const struct sp_kernels *k, uint64_t stride) {
    enum { RUN = 4096 };
    static float x[RUN], y[RUN];
    double worst = 0;
    for (uint64_t bits = check_random() % stride; bits < 0x100000000u;) {
        int64_t n = 0;
        for (; n < RUN && bits < 0x100000000u; bits += stride) x[n++] = from_bits((uint32_t)bits);
        k->vexp(y, x, n);
        for (int64_t i = 0; i < n; i++) {
            double e = isnan(x[i]) ? (isnan(y[i]) ? 0 : INFINITY) : ulp_error(y[i], x[i]);
            worst = kernel_worst(worst, e);
        }
    }
    return worst;
}

static void check_exp(const struct sp_kernels *k, bool exhaustive) {
    double worst = worst_exp(k, exhaustive ? 1 : 2039);
    check_ok(worst < 1.02, "vexp %s: %.3f ULP over %s", k->name, worst,
             exhaustive ? "all floats" : "every 2039th float");
    static const float edges[] = {-INFINITY, -1e30f, -105,  -104,    -103.97f, -103,
                                  -88,       -87.4f, -0.0f, 0,       1e-40f,   88.72283f,
                                  88.72284f, 89,     1e30f, INFINITY};
    enum { N_EDGE = sizeof edges / sizeof edges[0] };
    float y[N_EDGE];
    worst = 0;
    k->vexp(y, edges, N_EDGE);
    for (int i = 0; i < N_EDGE; i++) worst = kernel_worst(worst, ulp_error(y[i], edges[i]));
    check_ok(worst < 1 && y[0] == 0 && y[8] == 1 && y[9] == 1,
             "vexp %s: %.3f ULP at the ends, 1 at 0, 0 at -infinity", k->name, worst);
    float part[40], x[40];
    bool same = true;
    check_fill(x, 40, -50, 50);
    for (int n = 0; n < 40; n++) {
        float whole[40];
        k->vexp(whole, x, 40);
        memset(part, 0, sizeof part);
        k->vexp(part, x, n);
        same = same && kernel_same_bits(part, whole, n) && (n == 39 || part[n] == 0);
    }
    check_ok(same, "vexp %s: bits do not depend on the run, nothing is written past it", k->name);
}

static void check_bf16(const struct sp_kernels *k) {
    static const uint32_t bits[] = {0,          0x80000000, 0x3f808000, 0x3f818000, 0x3f808001,
                                    0x3f807fff, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                    0x7fffffff, 0xffffffff, 0x00000001, 0x0000c000, 0x00018000};
    static const uint16_t want[] = {0,      0x8000, 0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x7f80, 0x7f80,
                                    0xff80, 0x7fc0, 0x7fff, 0xffff, 0,      1,      2};
    enum { N = sizeof bits / sizeof bits[0] };
    float x[N];
    uint16_t y[N + 1], same[N];
    memcpy(x, bits, sizeof x);
    y[N] = 0x1234;
    k->to_bf16(y, x, N);
    check_ok(memcmp(y, want, sizeof want) == 0 && y[N] == 0x1234,
             "to_bf16 %s: to nearest, ties to even; NaN stays NaN", k->name);
    bool equal = true;
    for (int i = 0; i < 20000; i++) {
        uint32_t random[N];
        int64_t n = check_random_int(0, N);
        for (int j = 0; j < N; j++) random[j] = (uint32_t)check_random();
        memcpy(x, random, sizeof x);
        k->to_bf16(y, x, n);
        kernel_state.path[0].to_bf16(same, x, n);
        equal = equal && memcmp(y, same, (size_t)n * sizeof *y) == 0;
    }
    check_ok(equal && y[N] == 0x1234, "to_bf16 %s: the plain C path's bits", k->name);
}

static void check_sum_squares(const struct sp_kernels *k) {
    double worst = 0;
    static const int64_t lengths[] = {0, 1, 15, 16, 17, 1000, 1023, 1024, 1025, 100000};
    for (int i = 0; i < 10; i++) {
        float *x = kernel_random(lengths[i], -3, 3);
        double want = 0;
        for (int64_t j = 0; j < lengths[i]; j++) want += (double)x[j] * (double)x[j];
        double d = fabs(k->sum_squares(x, lengths[i]) - want) / (want > 0 ? want : 1);
        worst = kernel_worst(worst, d);
        kernel_end_case();
    }
    check_ok(worst < KERNEL_TOLERANCE, "sum_squares %s: %.2g from double precision", k->name,
             worst);
}

/* Ten steps of algorithm 2 in double against the kernel, cut into odd runs. */
static void check_adamw(const struct sp_kernels *k) {
    enum { N = 77, CUT = 21, STEPS = 10 };
    float *param = kernel_random(N, -1, 1), *m = kernel_floats(N), *v = kernel_floats(N);
    double exact[N], exact_m[N] = {0}, exact_v[N] = {0};
    for (int i = 0; i < N; i++) exact[i] = (double)param[i];
    float *whole = kernel_copy(param, N), *whole_m = kernel_floats(N), *whole_v = kernel_floats(N);
    for (int step = 1; step <= STEPS; step++) {
        float *grad = kernel_random(N, -3, 3);
        struct sp_adamw a = {param,
                             m,
                             v,
                             grad,
                             0.01f,
                             0.9f,
                             0.95f,
                             1e-8f,
                             0.1f,
                             (float)(1 - pow(0.9, step)),
                             (float)(1 - pow(0.95, step)),
                             0.5f};
        k->adamw(&a, 0, CUT);
        k->adamw(&a, CUT, N);
        struct sp_adamw b = a;
        b.param = whole;
        b.m = whole_m;
        b.v = whole_v;
        k->adamw(&b, 0, N);
        for (int i = 0; i < N; i++) {
            double g = 0.5 * (double)grad[i];
            exact_m[i] = 0.9 * exact_m[i] + 0.1 * g;
            exact_v[i] = 0.95 * exact_v[i] + 0.05 * g * g;
            double update = exact_m[i] / (1 - pow(0.9, step)) /
                            (sqrt(exact_v[i] / (1 - pow(0.95, step))) + 1e-8);
            exact[i] -= 0.01 * (update + 0.1 * exact[i]);
        }
    }
    double worst = 0;
    for (int i = 0; i < N; i++) worst = kernel_worst(worst, fabs(exact[i] - (double)param[i]));
    check_ok(worst < 2e-6, "adamw %s: ten steps, %.2g from double precision", k->name, worst);
    check_ok(kernel_same_bits(param, whole, N) && kernel_same_bits(m, whole_m, N) &&
                 kernel_same_bits(v, whole_v, N),
             "adamw %s: bits do not depend on the runs", k->name);
    kernel_end_case();
}

struct bench {
    const struct sp_kernels *k;
    struct sp_adamw adamw;
    float *x, *y;
    uint16_t *half;
    int64_t n;
    double sum;
};
static void bench_exp(void *context) {
    struct bench *b = context;
    b->k->vexp(b->y, b->x, b->n);
}
static void bench_bf16(void *context) {
    struct bench *b = context;
    b->k->to_bf16(b->half, b->x, b->n);
}
static void bench_squares(void *context) {
    struct bench *b = context;
    b->sum += b->k->sum_squares(b->x, b->n);
}
static void bench_adamw(void *context) {
    struct bench *b = context;
    b->k->adamw(&b->adamw, 0, b->n);
}

static void bench(const char *name, void (*function)(void *), int64_t n) {
    struct bench b = {.n = n,
                      .x = kernel_random(n, -10, 10),
                      .y = kernel_floats(n),
                      .half = kernel_alloc(n, sizeof(uint16_t))};
    b.adamw = (struct sp_adamw){kernel_random(n, -1, 1),
                                kernel_floats(n),
                                kernel_floats(n),
                                b.x,
                                1e-3f,
                                0.9f,
                                0.95f,
                                1e-8f,
                                0.1f,
                                0.5f,
                                0.5f,
                                1};
    char shape[32];
    snprintf(shape, sizeof shape, "%d", (int)n);
    double ref = 0;
    for (int p = 0; p < kernel_state.n_path; p++) {
        b.k = &kernel_state.path[p];
        double seconds = kernel_seconds(function, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row(name, shape, b.k->name, seconds, ref, (double)n, "elements/ns");
    }
    kernel_end_case();
}

int main(int argc, char **argv) {
    bool exhaustive = false;
    for (int i = 1; i < argc; i++) exhaustive = exhaustive || strcmp(argv[i], "--exhaustive") == 0;
    kernel_start(argc, argv);
    for (int p = 0; p < kernel_state.n_path; p++) {
        const struct sp_kernels *k = &kernel_state.path[p];
        if (check_wanted("vexp")) check_exp(k, exhaustive);
        if (check_wanted("to_bf16")) check_bf16(k);
        if (check_wanted("sum_squares")) check_sum_squares(k);
        if (check_wanted("adamw")) check_adamw(k);
    }
    if (check_state.bench) {
        bench("vexp", bench_exp, 16384);
        bench("to_bf16", bench_bf16, 16384);
        bench("sum_squares", bench_squares, 1 << 20);
        bench("adamw", bench_adamw, 1 << 20);
    }
    return check_end();
}
