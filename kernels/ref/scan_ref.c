/* The selective scan and its gradient, a channel at a time, as the recurrence is written:
 * arXiv 2312.00752, equation 2 with the discretisation of kernels.h. */
#include "ref.h"

#include <math.h>
#include <string.h>

static float softplus(float u) {
    return u > 20 ? u : log1pf(expf(u));
}
static float sigmoid(float u) {
    return 1 / (1 + expf(-u));
}
static const float *entry(const float *const *list, int64_t seq) {
    return list ? list[seq] : NULL;
}

/* What one channel's recurrence reads at one token. */
struct input {
    float u, delta, x; /* u: dt with its bias */
    const float *B, *C;
};

static struct input input_at(const struct sp_scan *a, int64_t t, int64_t c) {
    float u = a->dt[t * a->lddt + c] + (a->dt_bias ? a->dt_bias[c] : 0);
    return (struct input){u, softplus(u), a->x[t * a->ldx + c], a->B + t * a->ldb,
                          a->C + t * a->ldc};
}

/* One step of the recurrence; `next` may be `h`. */
static void advance(const struct input *in, const float *A, int64_t d_state, const float *h,
                    float *next) {
    for (int64_t n = 0; n < d_state; n++)
        next[n] = expf(in->delta * A[n]) * h[n] + in->delta * in->x * in->B[n];
}

/* The output before the gate. */
static float output(const struct sp_scan *a, const struct input *in, const float *h, int64_t c) {
    double sum = a->D ? (double)a->D[c] * (double)in->x : 0;
    for (int64_t n = 0; n < a->d_state; n++) sum += (double)in->C[n] * (double)h[n];
    return (float)sum;
}

static void load_state(const float *from, int64_t d_state, float *h) {
    if (from) {
        memcpy(h, from, (size_t)d_state * sizeof *h);
    } else {
        memset(h, 0, (size_t)d_state * sizeof *h);
    }
}

void sp_scan_fwd_ref(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start, d_state = a->d_state;
    const float *state_in = entry(a->state_in, seq);
    float *state_out = a->state_out ? a->state_out[seq] : NULL;
    size_t h_bytes = (size_t)d_state * sizeof(float);
    float h[SP_SCAN_STATE_MAX];
    for (int64_t c = c0; c < c1; c++) {
        const float *A = a->A + c * d_state;
        load_state(state_in ? state_in + c * d_state : NULL, d_state, h);
        for (int64_t t = 0; t < len; t++) {
            if (a->chunk_state && t % SP_SCAN_CHUNK == 0) {
                int64_t row = a->cu_chunks[seq] + t / SP_SCAN_CHUNK;
                memcpy(a->chunk_state + (row * a->d_inner + c) * d_state, h, h_bytes);
            }
            struct input in = input_at(a, start + t, c);
            advance(&in, A, d_state, h, h);
            float y = output(a, &in, h, c);
            if (a->z) {
                float z = a->z[(start + t) * a->ldz + c];
                y *= z * sigmoid(z);
            }
            a->y[(start + t) * a->ldy + c] = y;
        }
        if (state_out) memcpy(state_out + c * d_state, h, h_bytes);
    }
}

/* What the backward pass of one channel carries from token to token. */
struct carry {
    float dh[SP_SCAN_STATE_MAX];
    double dA[SP_SCAN_STATE_MAX], dD, ddt_bias;
};

/* One token backward: h is the state before it, next the one after. */
static void retreat(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t t, int64_t c,
                    const float *h, const float *next, struct carry *k) {
    struct input in = input_at(a, t, c);
    const float *A = a->A + c * a->d_state;
    float *dB = g->dB + t * a->d_state, *dC = g->dC + t * a->d_state;
    float dv = g->dy[t * g->lddy + c]; /* gradient of the output before the gate */
    if (a->z) {
        float z = a->z[t * a->ldz + c], gate = sigmoid(z);
        g->dz[t * g->lddz + c] = dv * output(a, &in, next, c) * gate * (1 + z * (1 - gate));
        dv *= z * gate;
    }
    double ddelta = 0, dx = a->D ? (double)(dv * a->D[c]) : 0;
    for (int64_t n = 0; n < a->d_state; n++) {
        float decay = expf(in.delta * A[n]);
        float dh = k->dh[n] + dv * in.C[n], ddecay = dh * h[n] * decay;
        dC[n] += dv * next[n];
        dB[n] += dh * in.delta * in.x;
        dx += (double)(dh * in.delta * in.B[n]);
        ddelta += (double)(ddecay * A[n]) + (double)(dh * in.B[n] * in.x);
        k->dA[n] += (double)(ddecay * in.delta);
        k->dh[n] = dh * decay;
    }
    float ddt = (float)ddelta * (in.u > 20 ? 1 : sigmoid(in.u));
    g->dx[t * g->lddx + c] = (float)dx;
    g->ddt[t * g->lddt + c] = ddt;
    k->dD += (double)(dv * in.x);
    k->ddt_bias += (double)ddt;
}

/* The chunks from last to first; each chunk's states are computed again from chunk_state. */
static void scan_bwd_channel(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq,
                             int64_t c, struct carry *k) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start, d_state = a->d_state;
    float *h = g->scratch; /* (SP_SCAN_CHUNK + 1, d_state) */
    for (int64_t chunk = (len + SP_SCAN_CHUNK - 1) / SP_SCAN_CHUNK - 1; chunk >= 0; chunk--) {
        int64_t t0 = chunk * SP_SCAN_CHUNK;
        int64_t n = len - t0 < SP_SCAN_CHUNK ? len - t0 : SP_SCAN_CHUNK;
        int64_t row = a->cu_chunks[seq] + chunk;
        load_state(a->chunk_state + (row * a->d_inner + c) * d_state, d_state, h);
        for (int64_t i = 0; i < n; i++) {
            struct input in = input_at(a, start + t0 + i, c);
            advance(&in, a->A + c * d_state, d_state, h + i * d_state, h + (i + 1) * d_state);
        }
        for (int64_t i = n - 1; i >= 0; i--)
            retreat(a, g, start + t0 + i, c, h + i * d_state, h + (i + 1) * d_state, k);
    }
}

void sp_scan_bwd_ref(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq, int64_t c0,
                     int64_t c1) {
    int64_t d_state = a->d_state;
    const float *dstate_out = entry(g->dstate_out, seq);
    float *dstate_in = g->dstate_in ? g->dstate_in[seq] : NULL;
    struct carry k;
    for (int64_t c = c0; c < c1; c++) {
        load_state(dstate_out ? dstate_out + c * d_state : NULL, d_state, k.dh);
        memset(k.dA, 0, (size_t)d_state * sizeof *k.dA);
        k.dD = k.ddt_bias = 0;
        scan_bwd_channel(a, g, seq, c, &k);
        for (int64_t n = 0; n < d_state; n++) g->dA[c * d_state + n] += (float)k.dA[n];
        if (g->dD) g->dD[c] += (float)k.dD;
        if (g->ddt_bias) g->ddt_bias[c] += (float)k.ddt_bias;
        if (dstate_in) memcpy(dstate_in + c * d_state, k.dh, (size_t)d_state * sizeof *k.dh);
    }
}
