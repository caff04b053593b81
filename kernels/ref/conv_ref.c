/* The convolution reads the rows of its state and of x as one sequence ("extended rows"): row e is
 * row e of the state for e < d_conv - 1, and row e - (d_conv - 1) of x after that. Token t reads
 * extended rows t .. t + d_conv - 1; the final state is the last d_conv - 1 of them. */
#include "ref.h"

#include <math.h>
#include <stddef.h>

static float extended(const struct sp_conv *a, int64_t seq, int64_t e, int64_t c) {
    int64_t n_state = a->d_conv - 1;
    if (e >= n_state) return a->x[(a->cu_seqlens[seq] + e - n_state) * a->ldx + c];
    const float *state = a->state_in ? a->state_in[seq] : NULL;
    return state ? state[e * a->d_inner + c] : 0;
}

static float before_silu(const struct sp_conv *a, int64_t seq, int64_t t, int64_t c) {
    float sum = a->bias ? a->bias[c] : 0;
    for (int64_t k = 0; k < a->d_conv; k++)
        sum += a->w[c * a->d_conv + k] * extended(a, seq, t + k, c);
    return sum;
}

void sp_conv_fwd_ref(const struct sp_conv *a, int64_t seq, int64_t c0, int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    for (int64_t t = 0; t < len; t++) {
        for (int64_t c = c0; c < c1; c++) {
            float u = before_silu(a, seq, t, c);
            a->y[(start + t) * a->ldy + c] = u / (1 + expf(-u));
        }
    }
    float *state = a->state_out ? a->state_out[seq] : NULL;
    if (!state) return;
    /* Upward, because the two states may be one buffer and row j comes from row j + len or x. */
    for (int64_t j = 0; j < a->d_conv - 1; j++)
        for (int64_t c = c0; c < c1; c++) state[j * a->d_inner + c] = extended(a, seq, len + j, c);
}

/* Where the gradient of an extended row goes; NULL when nobody wants it. */
static float *extended_grad(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq,
                            int64_t e, int64_t c) {
    int64_t n_state = a->d_conv - 1;
    if (e >= n_state) return &g->dx[(a->cu_seqlens[seq] + e - n_state) * g->lddx + c];
    float *state = g->dstate_in ? g->dstate_in[seq] : NULL;
    return state ? &state[e * a->d_inner + c] : NULL;
}

void sp_conv_bwd_ref(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq, int64_t c0,
                     int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    const float *dstate_out = g->dstate_out ? g->dstate_out[seq] : NULL;
    for (int64_t c = c0; c < c1; c++) {
        /* Downward, because the two gradients may be one buffer. */
        for (int64_t e = len + a->d_conv - 2; e >= 0; e--) {
            float *to = extended_grad(a, g, seq, e, c);
            if (to) *to = dstate_out && e >= len ? dstate_out[(e - len) * a->d_inner + c] : 0;
        }
        double dbias = 0, dw[SP_CONV_WIDTH_MAX] = {0};
        for (int64_t t = 0; t < len; t++) {
            float u = before_silu(a, seq, t, c), gate = 1 / (1 + expf(-u));
            float du = g->dy[(start + t) * g->lddy + c] * gate * (1 + u * (1 - gate));
            for (int64_t k = 0; k < a->d_conv; k++) {
                float *to = extended_grad(a, g, seq, t + k, c);
                if (to) *to += du * a->w[c * a->d_conv + k];
                dw[k] += (double)du * (double)extended(a, seq, t + k, c);
            }
            dbias += (double)du;
        }
        for (int64_t k = 0; k < a->d_conv; k++) g->dw[c * a->d_conv + k] += (float)dw[k];
        if (g->dbias) g->dbias[c] += (float)dbias;
    }
}
