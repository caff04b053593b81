/* The CUDA convolution under the emulator: forward against the formula in double precision and the
 * plain C path, backward against the plain C path and finite differences, states, in every type. */
#include "../check/kernel_conv.h"
#include "check_cuda.h"

enum { LEN_MAX = 300 };
static const int64_t lengths[] = {0, 1, 2, 3, 7, 16, 17, 33, 64, 70, 140, LEN_MAX};
static const int64_t inners[] = {1, 4, 7, 36, 128, 131};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

/* Windows of 4, 8 and 16 taps in turn, some of them whole; some have rows that accesses of 16 bytes
 * want. N_CASE cases are all combinations. */
enum { N_CASE = 60 };
static void random_case(struct conv_case *s, int i) {
    static const int64_t taps[] = {0, 4, 8, SP_CONV_WIDTH_MAX};
    const bool wide = i % 5 > 2, whole = i % 4 == 1;
    const int64_t pad = wide ? 8 : 3;
    int64_t n_seq = check_random_int(1, CONV_SEQ_MAX), len[CONV_SEQ_MAX];
    for (int j = 0; j < CONV_SEQ_MAX; j++) len[j] = PICK(lengths);
    int64_t most = taps[i % 3 + 1], d_conv = check_random_int(taps[i % 3] + 1, most);
    conv_make(s, n_seq, len, wide ? 8 * check_random_int(1, 18) : PICK(inners),
              whole ? most : d_conv, i % 2, i % 5 != 0, i % 4 ? 0 : pad);
}

static int64_t longest(const struct sp_conv *a) {
    int64_t most = 0;
    for (int64_t i = 0; i < a->n_seq; i++) {
        int64_t len = a->cu_seqlens[i + 1] - a->cu_seqlens[i];
        most = len > most ? len : most;
    }
    return most;
}

/* Forward; `in_place`: the final states go into the buffers of the initial ones. */
static bool forward(struct conv_case *s, enum sp_cuda_type type, bool in_place,
                    struct conv_result *r) {
    struct sp_conv a = conv_args(s);
    int64_t wide = s->n_tok * a.ldy;
    a.x = cuda_typed(a.x, wide, type);
    a.y = cuda_output(wide, type);
    r->state = cuda_output(a.n_seq * s->n_state, SP_CUDA_F32);
    float *state[CONV_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        state[i] = r->state + i * s->n_state;
        if (in_place && a.state_in && s->n_state)
            memcpy(state[i], a.state_in[i], (size_t)s->n_state * sizeof(float));
    }
    if (in_place && a.state_in) a.state_in = (const float *const *)state;
    a.state_out = state;
    cuda_next_schedule();
    bool ok = cuda_launched(sp_conv_fwd_cuda(&a, type, longest(&a), NULL));
    r->y = cuda_to_floats(a.y, wide, type);
    return ok && cuda_padding_kept(r->y, s->n_tok, a.d_inner, a.ldy);
}

static bool backward(struct conv_case *s, enum sp_cuda_type type, struct conv_result *r) {
    struct sp_conv a = conv_args(s);
    int64_t wide = s->n_tok * a.ldy, n_w = a.d_inner * a.d_conv;
    a.x = cuda_typed(a.x, wide, type);
    r->dw = kernel_floats(n_w);
    r->dbias = kernel_floats(a.d_inner);
    r->dstate = cuda_output(a.n_seq * s->n_state, SP_CUDA_F32);
    struct sp_conv_grad g = {.dy = cuda_typed(s->dy, wide, type),
                             .lddy = a.ldy,
                             .dx = cuda_output(wide, type),
                             .lddx = a.ldy,
                             .dw = r->dw,
                             .dbias = a.bias ? r->dbias : NULL};
    const float *dstate_out[CONV_SEQ_MAX];
    float *dstate_in[CONV_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        dstate_out[i] = s->dstate_out + i * s->n_state;
        dstate_in[i] = r->dstate + i * s->n_state;
    }
    g.dstate_out = dstate_out;
    g.dstate_in = dstate_in;
    float *work = cuda_output(sp_conv_bwd_cuda_workspace(&a, longest(&a)), SP_CUDA_F32);
    cuda_next_schedule();
    bool ok = cuda_launched(sp_conv_bwd_cuda(&a, &g, type, longest(&a), work, NULL));
    r->dx = cuda_to_floats(g.dx, wide, type);
    return ok && cuda_padding_kept(r->dx, s->n_tok, a.d_inner, a.ldy);
}

static void compare_rows(struct kernel_error *e, const float *got, const float *want,
                         const struct conv_case *s) {
    for (int64_t t = 0; t < s->n_tok; t++)
        kernel_compare(e, got + t * s->a.ldy, want + t * s->a.ldy, s->a.d_inner);
}

static void check_fwd(enum sp_cuda_type type) {
    struct kernel_error y = {0}, exact = {0};
    bool ok = true, states = true;
    for (int i = 0; i < cuda_cases(N_CASE); i++) {
        struct conv_case s;
        random_case(&s, i);
        struct conv_result r;
        ok = forward(&s, type, i % 2, &r) && ok;
        struct conv_result want = conv_forward(&kernel_state.path[0], &s, s.a.d_inner);
        compare_rows(&y, r.y, want.y, &s);
        states = states && kernel_same_bits(r.state, want.state, s.a.n_seq * s.n_state);
        double *line = kernel_alloc(LEN_MAX * s.a.d_inner, sizeof *line);
        double *state = kernel_alloc(s.n_state, sizeof *state);
        for (int64_t seq = 0; seq < s.a.n_seq; seq++) {
            int64_t start = s.cu_seqlens[seq], len = s.cu_seqlens[seq + 1] - start;
            conv_oracle(&s, seq, line, state);
            for (int64_t j = 0; j < len * s.a.d_inner; j++) {
                int64_t at = (start + j / s.a.d_inner) * s.a.ldy + j % s.a.d_inner;
                double d = (double)r.y[at] - line[j];
                exact.diff += isnan(d) ? INFINITY : d * d;
                exact.norm += line[j] * line[j];
            }
        }
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    check_ok(ok && kernel_error(&y) < cuda_tolerance[type], "conv_fwd_cuda %s: %.2g from plain C",
             name, kernel_error(&y));
    check_ok(kernel_error(&exact) < cuda_tolerance[type],
             "conv_fwd_cuda %s: %.2g from double precision", name, kernel_error(&exact));
    check_ok(states, "conv_fwd_cuda %s: final states to the bit, also in place", name);
}

static void check_bwd(enum sp_cuda_type type) {
    struct kernel_error dx = {0}, dw = {0}, dstate = {0};
    bool ok = true, same = true;
    for (int i = 0; i < cuda_cases(N_CASE); i++) {
        struct conv_case s;
        random_case(&s, i);
        struct conv_result r, again, want = {0};
        ok = backward(&s, type, &r) && ok;
        ok = backward(&s, type, &again) && ok;
        conv_backward(&kernel_state.path[0], &s, s.a.d_inner, &want);
        compare_rows(&dx, r.dx, want.dx, &s);
        int64_t n_w = s.a.d_inner * s.a.d_conv;
        kernel_compare(&dw, r.dw, want.dw, n_w);
        kernel_compare(&dw, r.dbias, want.dbias, s.a.d_inner);
        kernel_compare(&dstate, r.dstate, want.dstate, s.a.n_seq * s.n_state);
        same = same && kernel_same_bits(r.dw, again.dw, n_w) &&
               kernel_same_bits(r.dbias, again.dbias, s.a.d_inner);
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    check_ok(ok && kernel_error(&dx) < cuda_tolerance[type],
             "conv_bwd_cuda %s: dx %.2g from plain C", name, kernel_error(&dx));
    check_ok(kernel_error(&dw) < 1e-6 && kernel_error(&dstate) < 1e-6,
             "conv_bwd_cuda %s: dw and dbias %.2g, initial states %.2g from plain C", name,
             kernel_error(&dw), kernel_error(&dstate));
    check_ok(same, "conv_bwd_cuda %s: sums have the same bits in every schedule", name);
}

static void check_differences(void) {
    double worst = 0;
    bool ok = true;
    const int64_t taps[] = {4, 3, 2, 8, 6, 5, 16, 8};
    for (int i = 0; i < 8; i++) {
        struct conv_case s;
        int64_t len[3] = {2, 0, 19}, d_inner = i < 6 ? 3 : 8;
        conv_make(&s, 3, len, d_inner, taps[i], i % 2 == 0, i != 1, 0);
        struct conv_result r = {0};
        ok = backward(&s, SP_CUDA_F32, &r) && ok;
        worst = conv_slopes_worst(worst, &s, &r);
        kernel_end_case();
    }
    check_ok(ok && worst < 1e-5, "conv_bwd_cuda: %.2g from finite differences in double precision",
             worst);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++) {
        check_fwd((enum sp_cuda_type)type);
        check_bwd((enum sp_cuda_type)type);
    }
    check_differences();
    return check_end();
}
