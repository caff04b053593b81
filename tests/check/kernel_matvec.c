/* Products with few rows: the plain C path against a sum written here, the others against it; what
 * the bits may depend on; the bench beside the memory's read bandwidth. */
#include "kernel.h"

static const int64_t depths[] = {1, 5, 15, 16, 17, 31, 48, 64, 100, 768};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

struct matvec_case {
    const void *w; /* (d_out, d_in), ldw: float or bf16 */
    const float *x, *bias;
    int64_t d_in, d_out, n_row, ldw, ldx, ldy;
    bool bf16, add;
};

static const void *random_weights(int64_t n, bool bf16) {
    float *w = kernel_random(n, -1, 1);
    if (!bf16) return w;
    uint16_t *half = kernel_alloc(n, sizeof *half);
    kernel_state.path[0].to_bf16(half, w, n);
    return half;
}

static void make(struct matvec_case *s, int i) {
    *s = (struct matvec_case){.d_in = PICK(depths),
                              .d_out = check_random_int(1, 40),
                              .n_row = check_random_int(1, 9),
                              .bf16 = i % 2,
                              .add = i % 4 / 2};
    s->ldw = s->d_in + check_random_int(0, 3);
    s->ldx = s->d_in + check_random_int(0, 3);
    s->ldy = s->d_out + check_random_int(0, 3);
    s->w = random_weights(s->d_out * s->ldw, s->bf16);
    s->x = kernel_random(s->n_row * s->ldx, -1, 1);
    s->bias = i % 3 ? kernel_random(s->d_out, -1, 1) : NULL;
}

/* Rows [r0, r1), outputs [o0, o1), into y, which holds 0.25 before. */
static void run(const struct sp_kernels *k, const struct matvec_case *s, int64_t r0, int64_t r1,
                int64_t o0, int64_t o1, float *y) {
    const float *x = s->x + r0 * s->ldx;
    if (s->bf16) {
        k->matvec_bf16(s->w, s->ldw, x, s->ldx, r1 - r0, s->d_in, s->bias, y + r0 * s->ldy, s->ldy,
                       o0, o1, s->add);
    } else {
        k->matvec_f32(s->w, s->ldw, x, s->ldx, r1 - r0, s->d_in, s->bias, y + r0 * s->ldy, s->ldy,
                      o0, o1, s->add);
    }
}

static float *fresh(const struct matvec_case *s) {
    float *y = kernel_floats(s->n_row * s->ldy);
    for (int64_t i = 0; i < s->n_row * s->ldy; i++) y[i] = 0.25f;
    return y;
}

static double weight(const struct matvec_case *s, int64_t o, int64_t i) {
    if (!s->bf16) return (double)((const float *)s->w)[o * s->ldw + i];
    uint32_t u = (uint32_t)((const uint16_t *)s->w)[o * s->ldw + i] << 16;
    float w;
    memcpy(&w, &u, sizeof w);
    return (double)w;
}

/* The worst error of y, each relative to the sum of its terms' sizes: terms may cancel. */
static double oracle_distance(const struct matvec_case *s, const float *y) {
    double worst = 0;
    for (int64_t r = 0; r < s->n_row; r++) {
        for (int64_t o = 0; o < s->d_out; o++) {
            double sum = s->add ? 0.25 : s->bias ? (double)s->bias[o] : 0, size = fabs(sum);
            for (int64_t i = 0; i < s->d_in; i++) {
                double term = weight(s, o, i) * (double)s->x[r * s->ldx + i];
                sum += term;
                size += fabs(term);
            }
            worst = kernel_worst(worst, fabs(sum - (double)y[r * s->ldy + o]) / size);
        }
        for (int64_t o = s->d_out; o < s->ldy; o++)
            if (y[r * s->ldy + o] != 0.25f) return INFINITY; /* not ours to write */
    }
    return worst;
}

static void check_shapes(const struct sp_kernels *k) {
    double worst = 0;
    bool rows = true, outputs = true;
    for (int i = 0; i < 120; i++) {
        struct matvec_case s;
        make(&s, i);
        int64_t n = s.n_row * s.ldy;
        float *y = fresh(&s), *by_row = fresh(&s), *by_output = fresh(&s);
        run(k, &s, 0, s.n_row, 0, s.d_out, y);
        for (int64_t r = 0; r < s.n_row; r++) run(k, &s, r, r + 1, 0, s.d_out, by_row);
        int64_t cut = check_random_int(0, s.d_out);
        run(k, &s, 0, s.n_row, 0, cut, by_output);
        run(k, &s, 0, s.n_row, cut, s.d_out, by_output);
        worst = kernel_worst(worst, oracle_distance(&s, y));
        rows = rows && kernel_same_bits(y, by_row, n);
        outputs = outputs && kernel_same_bits(y, by_output, n);
        kernel_end_case();
    }
    check_ok(worst < KERNEL_TOLERANCE, "matvec %s: %.2g from double precision", k->name, worst);
    check_ok(rows, "matvec %s: the bits of a row do not depend on the other rows", k->name);
    check_ok(outputs, "matvec %s: bits do not depend on how outputs are spread", k->name);
}

struct bench {
    const struct sp_kernels *k;
    struct matvec_case s;
    float *y;
    double sum;
};
static void bench_run(void *context) {
    struct bench *b = context;
    run(b->k, &b->s, 0, b->s.n_row, 0, b->s.d_out, b->y);
}
/* The same bytes, read by the least that reads them: one load and one addition for each vector. */
static void bench_read(void *context) {
    struct bench *b = context;
    const uint64_t *p = b->s.w;
    int64_t n = b->s.d_out * b->s.d_in * (b->s.bf16 ? 2 : 4) / 8;
    typedef uint64_t lanes __attribute__((vector_size(64)));
    lanes sum[4] = {0};
    for (int64_t i = 0; i + 32 <= n; i += 32) {
        for (int j = 0; j < 4; j++) {
            lanes value;
            memcpy(&value, p + i + 8 * j, sizeof value);
            sum[j] += value;
        }
    }
    b->sum += (double)(sum[0][0] + sum[1][0] + sum[2][0] + sum[3][0]);
}

static void bench(int64_t d_in, int64_t d_out, int64_t n_row, bool bf16) {
    struct bench b = {.s = {.d_in = d_in,
                            .d_out = d_out,
                            .n_row = n_row,
                            .bf16 = bf16,
                            .ldw = d_in,
                            .ldx = d_in,
                            .ldy = d_out}};
    b.s.w = random_weights(d_in * d_out, bf16);
    b.s.x = kernel_random(n_row * d_in, -1, 1);
    b.y = kernel_floats(n_row * d_out);
    double bytes = (double)(d_in * d_out * (bf16 ? 2 : 4)), ref = 0;
    char shape[64];
    snprintf(shape, sizeof shape, "%s, %d x %d, rows %d", bf16 ? "bf16" : "f32", (int)d_out,
             (int)d_in, (int)n_row);
    for (int p = 0; p < kernel_state.n_path; p++) {
        b.k = &kernel_state.path[p];
        double seconds = kernel_seconds(bench_run, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row("matvec", shape, b.k->name, seconds, ref, bytes, "GB/s");
    }
    kernel_bench_row("matvec", shape, "read", kernel_seconds(bench_read, &b), ref, bytes, "GB/s");
    kernel_end_case();
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int p = 0; p < kernel_state.n_path; p++)
        if (check_wanted("matvec")) check_shapes(&kernel_state.path[p]);
    if (check_state.bench) {
        bench(768, 50280, 1, false); /* the 130m output head: from memory */
        bench(768, 50280, 1, true);
        bench(768, 50280, 4, false);
        bench(768, 50280, 4, true);
        bench(768, 50280, 16, false);
        bench(768, 50280, 16, true);
        bench(768, 3072, 1, false); /* its in_proj */
        bench(768, 3072, 1, true);
        bench(768, 3072, 64, false);
    }
    return check_end();
}
