/* Causal convolution and SiLU, forward and backward: a double-precision oracle and its finite
 * differences, the plain C path, states, packing, spreading, and the bench. */
#include "kernel_conv.h"

static const int64_t lengths[] = {0, 1, 2, 3, 4, 63, 64, 65};
static const int64_t inners[] = {1, 7, 15, 16, 17, 31, 64, 70, 100};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

static void random_case(struct conv_case *s, int i) {
    int64_t n_seq = check_random_int(1, CONV_SEQ_MAX), len[CONV_SEQ_MAX];
    for (int j = 0; j < CONV_SEQ_MAX; j++) len[j] = PICK(lengths);
    conv_make(s, n_seq, len, PICK(inners), i % 3 ? 4 : check_random_int(1, SP_CONV_WIDTH_MAX),
              i % 2, i % 5 != 0, check_random_int(0, 3));
}

static double oracle_distance(const struct conv_case *s, const struct conv_result *r) {
    double diff = 0, norm = 0, *state = kernel_alloc(s->n_state, sizeof *state);
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        double *y = kernel_alloc(len * s->a.d_inner, sizeof *y);
        conv_oracle(s, seq, y, state);
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

static void check_differences(const struct sp_kernels *k) {
    double worst = 0;
    for (int i = 0; i < 6; i++) {
        struct conv_case s;
        int64_t len[3] = {2, 0, 9}, d_conv = i < 3 ? 4 : i - 1;
        conv_make(&s, 3, len, 3, d_conv, i % 2 == 0, i % 3 != 0, 0);
        struct conv_result r = {0};
        conv_backward(k, &s, 3, &r);
        worst = conv_slopes_worst(worst, &s, &r);
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
            struct conv_result r = conv_forward(k, &s, s.a.d_inner);
            conv_backward(k, &s, s.a.d_inner, &r);
            if (p == 0) plain = r;
            exact[p] = kernel_worst(exact[p], oracle_distance(&s, &r));
            compare(&s, &r, &plain, ref[p]);
            struct conv_result again = conv_forward(k, &s, s.a.d_inner > 16 ? 16 : s.a.d_inner);
            conv_backward(k, &s, s.a.d_inner > 16 ? 16 : s.a.d_inner, &again);
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
            conv_make(&s, 1, &len, 21, d_conv, true, split % 2, 1);
            struct conv_result whole = conv_forward(k, &s, 21);
            float *state =
                s.a.state_in ? kernel_copy(s.state_in[0], s.n_state) : kernel_floats(s.n_state);
            float *y = kernel_floats(9 * s.a.ldy);
            int64_t ends[3] = {0, split, 9};
            for (int part = 0; part < 2; part++) {
                struct sp_conv a = conv_args(&s);
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
        conv_make(&s, 1, &len, 20, 4, true, true, 0);
        struct conv_result r = {0};
        conv_backward(k, &s, 20, &r);
        float *state = kernel_copy(s.dstate_out, s.n_state);
        struct sp_conv a = conv_args(&s);
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
    conv_make(&s, 1, &len, 1536, 4, true, true, 0);
    char shape[64];
    snprintf(shape, sizeof shape, "1 x %d, inner 1536, width 4", (int)len);
    double ref = 0;
    for (int p = 0; p < kernel_state.n_path; p++) {
        int64_t wide = s.n_tok * 1536;
        struct bench b = {.k = &kernel_state.path[p], .a = conv_args(&s), .backward = back};
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
