/* The selective scan forward: every path against a double-precision oracle and the plain C path,
 * the invariants that states rest on, unusual values, and the bench. */
#include "kernel_scan.h"

static const int64_t lengths[] = {0, 1, 2, 63, 64, 65, 130};
static const int64_t inners[] = {1, 7, 15, 16, 17, 31, 48, 70};
static const int64_t state_sizes[] = {1, 5, 8, 15, 16, 17, 33, 64};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

static void random_case(struct scan_case *s) {
    int64_t n_seq = check_random_int(1, 4), len[4];
    for (int i = 0; i < 4; i++) len[i] = PICK(lengths);
    scan_make(s, n_seq, len, PICK(inners), PICK(state_sizes),
              (int)(check_random() % SCAN_N_OPTIONS), check_random_int(0, 5));
}

enum { N_OUTPUT = 3 };
static void compare(const struct scan_case *s, const struct scan_result *a,
                    const struct scan_result *b, struct kernel_error e[N_OUTPUT]) {
    kernel_compare(&e[0], a->y, b->y, s->n_tok * s->a.ldy);
    kernel_compare(&e[1], a->state, b->state, s->a.n_seq * s->n_state);
    kernel_compare(&e[2], a->chunk, b->chunk, s->n_chunk * s->n_state);
}

/* Of y and the final states: the chunks are compared with the plain C path only. */
static double oracle_distance(const struct scan_case *s, const struct scan_result *r) {
    double diff = 0, norm = 0, *h = kernel_alloc(s->n_state, sizeof *h);
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        double *y = kernel_alloc(len * s->a.d_inner, sizeof *y);
        for (int64_t i = 0; i < s->n_state; i++)
            h[i] = s->a.state_in ? (double)s->state_in[seq][i] : 0;
        scan_oracle(s, seq, y, h);
        for (int64_t i = 0; i < s->n_state; i++) {
            double d = h[i] - (double)r->state[seq * s->n_state + i];
            diff += d * d;
            norm += h[i] * h[i];
        }
        for (int64_t t = 0; t < len; t++) {
            for (int64_t c = 0; c < s->a.d_inner; c++) {
                double want = y[t * s->a.d_inner + c];
                double d = want - (double)r->y[(start + t) * s->a.ldy + c];
                diff += d * d;
                norm += want * want;
            }
        }
    }
    return diff == 0 ? 0 : sqrt(diff / (norm > 0 ? norm : 1e-300));
}

static void check_random_shapes(void) {
    double oracle[4] = {0};
    struct kernel_error ref[4][N_OUTPUT] = {0};
    for (int i = 0; i < 60; i++) {
        struct scan_case s;
        random_case(&s);
        struct scan_result plain = {0};
        for (int p = 0; p < kernel_state.n_path; p++) {
            struct scan_result r = scan_forward(&kernel_state.path[p], &s, s.a.d_inner);
            if (p == 0) plain = r;
            oracle[p] = kernel_worst(oracle[p], oracle_distance(&s, &r));
            compare(&s, &r, &plain, ref[p]);
        }
        kernel_end_case();
    }
    for (int p = 0; p < kernel_state.n_path; p++) {
        const char *name = kernel_state.path[p].name;
        check_ok(oracle[p] < KERNEL_TOLERANCE, "scan_fwd %s: %.2g from double precision", name,
                 oracle[p]);
        double worst = 0;
        for (int i = 0; i < N_OUTPUT; i++) worst = kernel_worst(worst, kernel_error(&ref[p][i]));
        check_ok(worst < KERNEL_TOLERANCE, "scan_fwd %s: %.2g from plain C", name, worst);
    }
}

/* Part [t0, t1) of a case's only sequence, from `state`. */
static struct scan_case part_of(const struct scan_case *s, int64_t t0, int64_t t1,
                                const float *state) {
    struct scan_case part = *s;
    part.a.x += t0 * s->a.ldx;
    part.a.dt += t0 * s->a.lddt;
    if (part.a.z) part.a.z += t0 * s->a.ldz;
    part.a.B += t0 * s->a.ldb;
    part.a.C += t0 * s->a.ldc;
    part.state_in[0] = state;
    part.a.state_in = part.state_in;
    part.cu_seqlens[1] = part.n_tok = t1 - t0;
    part.cu_chunks[1] = part.n_chunk = (t1 - t0 + SP_SCAN_CHUNK - 1) / SP_SCAN_CHUNK;
    return part;
}

static void check_splits(const struct sp_kernels *k) {
    bool same = true;
    for (int i = 0; i < 4; i++) {
        struct scan_case s;
        int64_t len = 68, d_inner = PICK(inners), d_state = PICK(state_sizes);
        for (int64_t split = 0; split <= len; split++) {
            scan_make(&s, 1, &len, d_inner, d_state, i == 0 ? SCAN_NO_STATE : 0, i);
            struct scan_result whole = scan_forward(k, &s, d_inner);
            struct scan_case first = part_of(&s, 0, split, s.a.state_in ? s.state_in[0] : NULL);
            struct scan_result a = scan_forward(k, &first, d_inner);
            struct scan_case second = part_of(&s, split, len, a.state);
            struct scan_result b = scan_forward(k, &second, d_inner);
            same = same && kernel_same_bits(b.state, whole.state, s.n_state) &&
                   kernel_same_bits(a.y, whole.y, split * s.a.ldy) &&
                   kernel_same_bits(b.y, whole.y + split * s.a.ldy, (len - split) * s.a.ldy);
            kernel_end_case();
        }
    }
    check_ok(same, "scan_fwd %s: a + b and b after a have the same bits at every split", k->name);
}

static void check_packing(const struct sp_kernels *k) {
    bool alone = true, cut = true;
    for (int i = 0; i < 20; i++) {
        struct scan_case s;
        random_case(&s);
        struct scan_result packed = scan_forward(k, &s, s.a.d_inner);
        for (int64_t seq = 0; seq < s.a.n_seq; seq++) {
            int64_t t0 = s.cu_seqlens[seq], t1 = s.cu_seqlens[seq + 1];
            struct scan_case one = part_of(&s, t0, t1, s.a.state_in ? s.state_in[seq] : NULL);
            one.a.n_seq = 1;
            struct scan_result r = scan_forward(k, &one, s.a.d_inner);
            alone = alone && kernel_same_bits(r.y, packed.y + t0 * s.a.ldy, (t1 - t0) * s.a.ldy) &&
                    kernel_same_bits(r.state, packed.state + seq * s.n_state, s.n_state) &&
                    kernel_same_bits(r.chunk, packed.chunk + s.cu_chunks[seq] * s.n_state,
                                     one.n_chunk * s.n_state);
        }
        if (s.a.d_inner > 16) {
            struct scan_result r = scan_forward(k, &s, 16);
            cut = cut && kernel_same_bits(r.y, packed.y, s.n_tok * s.a.ldy) &&
                  kernel_same_bits(r.state, packed.state, s.a.n_seq * s.n_state);
        }
        kernel_end_case();
    }
    check_ok(alone, "scan_fwd %s: packed sequences have the bits they have alone", k->name);
    check_ok(cut, "scan_fwd %s: bits do not depend on how channels are spread", k->name);
}

/* y over x, dt or z; the final state over the initial one; no outputs beside y. */
static void check_aliases(const struct sp_kernels *k) {
    bool y_same = true, state_same = true, optional = true;
    for (int i = 0; i < 30; i++) {
        struct scan_case s;
        random_case(&s);
        struct scan_result want = scan_forward(k, &s, s.a.d_inner);
        struct sp_scan a = scan_args(&s);
        int64_t wide = s.n_tok * a.ldy;
        const float **over = i % 3 == 0 || !a.z ? &a.x : i % 3 == 1 ? &a.dt : &a.z;
        a.y = kernel_copy(*over, wide);
        *over = a.y;
        float *states[SCAN_SEQ_MAX];
        for (int64_t seq = 0; seq < a.n_seq; seq++) {
            states[seq] =
                a.state_in ? kernel_copy(a.state_in[seq], s.n_state) : kernel_floats(s.n_state);
        }
        a.state_in = (const float *const *)states;
        a.state_out = states;
        for (int64_t seq = 0; seq < a.n_seq; seq++) {
            k->scan_fwd(&a, seq, 0, a.d_inner);
            state_same = state_same &&
                         kernel_same_bits(states[seq], want.state + seq * s.n_state, s.n_state);
        }
        for (int64_t t = 0; t < s.n_tok; t++)
            y_same = y_same && kernel_same_bits(a.y + t * a.ldy, want.y + t * a.ldy, a.d_inner);

        struct sp_scan bare = scan_args(&s);
        bare.y = kernel_floats(wide);
        for (int64_t seq = 0; seq < a.n_seq; seq++) k->scan_fwd(&bare, seq, 0, a.d_inner);
        optional = optional && kernel_same_bits(bare.y, want.y, wide);
        kernel_end_case();
    }
    check_ok(y_same, "scan_fwd %s: y may be x, dt or z", k->name);
    check_ok(state_same, "scan_fwd %s: the two states may be one buffer", k->name);
    check_ok(optional, "scan_fwd %s: final and chunk states are optional", k->name);
}

static void check_step(const struct sp_kernels *k) {
    bool same = true;
    for (int i = 0; i < 40; i++) {
        int64_t len[4] = {1, 1, 1, 1};
        struct scan_case s;
        scan_make(&s, 4, len, PICK(inners), PICK(state_sizes),
                  (int)(check_random() % SCAN_N_OPTIONS), check_random_int(0, 3));
        struct scan_result want = scan_forward(k, &s, s.a.d_inner);
        float *state = kernel_floats(4 * s.n_state), *states[4];
        struct sp_scan a = scan_args(&s);
        a.y = kernel_floats(4 * a.ldy);
        for (int j = 0; j < 4; j++) states[j] = state + j * s.n_state;
        a.state_out = i % 8 == 0 ? NULL : states;
        for (int j = 0; j < 4; j++) {
            int64_t cut = a.d_inner > 16 ? 16 : a.d_inner;
            k->scan_step(&a, j, 0, cut);
            if (cut < a.d_inner) k->scan_step(&a, j, cut, a.d_inner);
        }
        same = same && kernel_same_bits(a.y, want.y, 4 * a.ldy) &&
               (!a.state_out || kernel_same_bits(state, want.state, 4 * s.n_state));
        kernel_end_case();
    }
    check_ok(same, "scan_step %s: the bits of scan_fwd", k->name);
}

static void make_positive(const float *x, int64_t n) {
    for (int64_t i = 0; x && i < n; i++) ((float *)(uintptr_t)x)[i] = fabsf(x[i]);
}

/* Values at the ends of softplus, the gate and the decay; NaN stays in its channel, from its token
 * on; infinities end where the plain C path has them. All terms of the sums are positive: what a
 * huge one leaves after cancelling would say nothing. */
static void check_unusual(void) {
    static const float values[] = {-1e30f, -1e4f,  -200, -104, -88,  -20,   0,     1e-30f, 19.99f,
                                   20,     20.01f, 88,   104,  1e4f, 1e10f, 1e30f, NAN};
    double worst[4] = {0};
    for (int i = 0; i < 60; i++) {
        struct scan_case s;
        int64_t len[2] = {20, 70};
        scan_make(&s, 2, len, PICK(inners), PICK(state_sizes), i % SCAN_N_OPTIONS, 0);
        make_positive(s.a.x, s.n_tok * s.a.d_inner);
        make_positive(s.a.B, s.n_tok * s.a.d_state);
        make_positive(s.a.C, s.n_tok * s.a.d_state);
        make_positive(s.a.D, s.a.d_inner);
        make_positive(s.state_in[0], 2 * s.n_state);
        const float *into[3] = {s.a.dt, s.a.z ? s.a.z : s.a.dt, s.a.x};
        for (int j = 0; j < 12; j++) {
            int64_t at = check_random_int(0, s.n_tok * s.a.d_inner - 1);
            float *place = (float *)(uintptr_t)into[j % 3];
            float value = PICK(values);
            place[at] = j % 3 == 2 ? fminf(fabsf(value), 1e10f) : value;
        }
        struct scan_result plain = {0};
        for (int p = 0; p < kernel_state.n_path; p++) {
            struct scan_result r = scan_forward(&kernel_state.path[p], &s, s.a.d_inner);
            if (p == 0) plain = r;
            for (int64_t t = 0; t < s.n_tok; t++) {
                double e =
                    kernel_special_error(r.y + t * s.a.ldy, plain.y + t * s.a.ldy, s.a.d_inner);
                worst[p] = kernel_worst(worst[p], e);
            }
            double e = kernel_special_error(r.state, plain.state, 2 * s.n_state);
            worst[p] = kernel_worst(worst[p], e);
        }
        kernel_end_case();
    }
    for (int p = 1; p < kernel_state.n_path; p++)
        check_ok(worst[p] < 1e-5, "scan_fwd %s: unusual values, row by row %.2g from plain C",
                 kernel_state.path[p].name, worst[p]);
}

/* Softplus and SiLU alone, in sequences of one token: one state from zero and B = C = x = 1 leave
 * y = delta; no state's output and D = 1 leave y = silu(z). Errors in ULP of the exact value, from
 * huge to tiny arguments, where the result is not denormal. */
enum { N_CURVE = 1 << 15 };
static double curve_error(const struct sp_kernels *k, bool gate) {
    static float u[N_CURVE], y[N_CURVE], one[16], A[16], zero[1];
    for (int i = 0; i < N_CURVE; i++)
        u[i] = check_random_float(-80, 100) * (i % 2 ? 1 : ldexpf(1, -i % 60));
    for (int i = 0; i < 16; i++) {
        one[i] = 1;
        A[i] = -1;
    }
    int64_t ends[2] = {0, 1};
    struct sp_scan a = {.n_seq = 1,
                        .d_inner = 16,
                        .d_state = 1,
                        .cu_seqlens = ends,
                        .x = one,
                        .B = gate ? zero : one,
                        .C = one,
                        .A = A,
                        .D = gate ? one : NULL};
    for (int i = 0; i < N_CURVE; i += 16) {
        a.dt = gate ? one : u + i;
        a.z = gate ? u + i : NULL;
        a.y = y + i;
        k->scan_fwd(&a, 0, 0, 16);
    }
    double worst = 0;
    for (int i = 0; i < N_CURVE; i++) {
        double x = (double)u[i], want = fmax(x, 0) + log1p(exp(-fabs(x)));
        if (gate) want = x / (1 + exp(-x));
        int exponent;
        frexp(want, &exponent);
        double place = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
        worst = kernel_worst(worst, fabs(want - (double)y[i]) / place);
    }
    return worst;
}

static void check_curves(const struct sp_kernels *k) {
    double softplus = curve_error(k, false), silu = curve_error(k, true);
    check_ok(softplus < 3, "scan_fwd %s: softplus within %.2f ULP", k->name, softplus);
    check_ok(silu < 4, "scan_fwd %s: silu within %.2f ULP", k->name, silu);
}

struct bench {
    const struct sp_kernels *k;
    struct sp_scan a;
    bool step;
};
static void bench_run(void *context) {
    struct bench *b = context;
    for (int64_t seq = 0; seq < b->a.n_seq; seq++)
        (b->step ? b->k->scan_step : b->k->scan_fwd)(&b->a, seq, 0, b->a.d_inner);
}

static void bench(int64_t n_seq, int64_t len_each, int64_t d_state, bool step) {
    struct scan_case s;
    int64_t len[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < n_seq; i++) len[i] = len_each;
    scan_make(&s, n_seq, len, 1536, d_state, 0, 0);
    float *state[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < n_seq; i++) state[i] = kernel_copy(s.state_in[i], s.n_state);
    char shape[64];
    snprintf(shape, sizeof shape, "%d x %d, inner 1536, state %d", (int)n_seq, (int)len_each,
             (int)d_state);
    double ref = 0;
    for (int p = 0; p < kernel_state.n_path; p++) {
        struct bench b = {.k = &kernel_state.path[p], .a = scan_args(&s), .step = step};
        b.a.state_in = (const float *const *)state;
        b.a.state_out = state;
        b.a.y = kernel_floats(s.n_tok * s.a.ldy);
        double seconds = kernel_seconds(bench_run, &b);
        if (p == 0) ref = seconds;
        kernel_bench_row(step ? "scan_step" : "scan_fwd", shape, b.k->name, seconds, ref,
                         (double)(s.n_tok * s.n_state), "states/ns");
    }
    kernel_end_case();
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    if (check_wanted("scan_fwd")) check_random_shapes();
    if (check_wanted("scan_fwd")) check_unusual();
    for (int p = 0; p < kernel_state.n_path; p++) {
        const struct sp_kernels *k = &kernel_state.path[p];
        if (check_wanted("scan_fwd")) check_curves(k);
        if (check_wanted("scan_fwd")) check_splits(k);
        if (check_wanted("scan_fwd")) check_packing(k);
        if (check_wanted("scan_fwd")) check_aliases(k);
        if (check_wanted("scan_step")) check_step(k);
    }
    if (check_state.bench) {
        bench(1, 512, 16, false);
        bench(1, 512, 64, false);
        bench(1, 1, 16, true);
        bench(8, 1, 16, true);
    }
    return check_end();
}
