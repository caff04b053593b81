/* Random convolutions, how to run them on a path, their formula in double precision, and the
 * gradients that finite differences of it give. */
#ifndef SP_CHECK_KERNEL_CONV_H
#define SP_CHECK_KERNEL_CONV_H

#include "kernel.h"

enum { CONV_SEQ_MAX = 4 };

struct conv_case {
    struct sp_conv a; /* without outputs */
    int64_t n_tok, n_state, cu_seqlens[CONV_SEQ_MAX + 1];
    const float *state_in[CONV_SEQ_MAX];
    const float *dy, *dstate_out; /* (n_tok, d_inner), ldy; (n_seq, d_conv - 1, d_inner) */
};
struct conv_result {
    float *y, *state, *dx, *dw, *dbias, *dstate;
};

static inline void conv_make(struct conv_case *s, int64_t n_seq, const int64_t *len,
                             int64_t d_inner, int64_t d_conv, bool bias, bool state, int64_t pad) {
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

static inline struct sp_conv conv_args(const struct conv_case *s) {
    struct sp_conv a = s->a;
    a.cu_seqlens = s->cu_seqlens;
    if (a.state_in) a.state_in = s->state_in;
    return a;
}

static inline struct conv_result conv_forward(const struct sp_kernels *k, const struct conv_case *s,
                                              int64_t cut) {
    struct conv_result r = {.y = kernel_floats(s->n_tok * s->a.ldy),
                            .state = kernel_floats(s->a.n_seq * s->n_state)};
    struct sp_conv a = conv_args(s);
    float *state[CONV_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) state[i] = r.state + i * s->n_state;
    a.state_out = state;
    a.y = r.y;
    for (int64_t i = 0; i < a.n_seq; i++) {
        k->conv_fwd(&a, i, 0, cut);
        if (cut < a.d_inner) k->conv_fwd(&a, i, cut, a.d_inner);
    }
    return r;
}

static inline void conv_backward(const struct sp_kernels *k, const struct conv_case *s, int64_t cut,
                                 struct conv_result *r) {
    struct sp_conv a = conv_args(s);
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
    const float *dstate_out[CONV_SEQ_MAX];
    float *dstate_in[CONV_SEQ_MAX];
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
static inline void conv_oracle(const struct conv_case *s, int64_t seq, double *y, double *state) {
    const struct sp_conv *a = &s->a;
    int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start, past = a->d_conv - 1;
    for (int64_t c = 0; c < a->d_inner; c++) {
        double line[512]; /* the state, then the inputs */
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

static inline double conv_loss(const struct conv_case *s) {
    static double y[256 * 8], state[SP_CONV_WIDTH_MAX * 8];
    double sum = 0;
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        conv_oracle(s, seq, y, state);
        for (int64_t i = 0; i < len * s->a.d_inner; i++)
            sum += y[i] * (double)s->dy[start * s->a.d_inner + i];
        for (int64_t i = 0; i < s->n_state; i++)
            sum += state[i] * (double)s->dstate_out[seq * s->n_state + i];
    }
    return sum;
}

/* Central differences with two steps, as in kernel_scan_bwd.c. */
static inline double conv_slopes_error(const struct conv_case *s, const float *param,
                                       const float *grad, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; param && i < n; i++) {
        float *at = (float *)(uintptr_t)(param + i), value = *at;
        double d[2];
        for (int j = 0; j < 2; j++) {
            float high = value + (j ? 0.5e-2f : 1e-2f), low = value - (j ? 0.5e-2f : 1e-2f);
            *at = high;
            d[j] = conv_loss(s);
            *at = low;
            d[j] = (d[j] - conv_loss(s)) / ((double)high - (double)low);
        }
        *at = value;
        double want = (4 * d[1] - d[0]) / 3;
        diff += (want - (double)grad[i]) * (want - (double)grad[i]);
        norm += want * want;
    }
    return diff == 0 ? 0 : sqrt(diff / norm);
}

/* The largest of conv_slopes_error over all that has a gradient. */
static inline double conv_slopes_worst(double worst, const struct conv_case *s,
                                       const struct conv_result *r) {
    const int64_t d = s->a.d_inner;
    worst = kernel_worst(worst, conv_slopes_error(s, s->a.x, r->dx, s->n_tok * d));
    worst = kernel_worst(worst, conv_slopes_error(s, s->a.w, r->dw, d * s->a.d_conv));
    worst = kernel_worst(worst, conv_slopes_error(s, s->a.bias, r->dbias, d));
    if (s->a.state_in)
        worst = kernel_worst(
            worst, conv_slopes_error(s, s->state_in[0], r->dstate, s->a.n_seq * s->n_state));
    return worst;
}

#endif
