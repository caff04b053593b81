/* Random selective scans, how to run them on a path, and a second implementation of the formulas in
 * double precision, written from the paper and sharing nothing with kernels/. */
#ifndef SP_CHECK_KERNEL_SCAN_H
#define SP_CHECK_KERNEL_SCAN_H

#include "kernel.h"

enum { SCAN_SEQ_MAX = 8 };
enum { SCAN_NO_Z = 1, SCAN_NO_D = 2, SCAN_NO_BIAS = 4, SCAN_NO_STATE = 8, SCAN_N_OPTIONS = 16 };

struct scan_case {
    struct sp_scan a;                /* without outputs */
    int64_t n_tok, n_chunk, n_state; /* n_state: d_inner * d_state */
    int64_t cu_seqlens[SCAN_SEQ_MAX + 1], cu_chunks[SCAN_SEQ_MAX + 1];
    const float *state_in[SCAN_SEQ_MAX];
    const float *dy;         /* (n_tok, d_inner), ldy */
    const float *dstate_out; /* (n_seq, d_inner, d_state) */
};

/* Outputs, all of one case, in dense buffers but for the rows of length ldy. */
struct scan_result {
    float *y, *state, *chunk;
    float *dx, *ddt, *dz, *dB, *dC, *dA, *dD, *dbias, *dstate;
};

static inline void scan_make(struct scan_case *s, int64_t n_seq, const int64_t *len,
                             int64_t d_inner, int64_t d_state, int options, int64_t pad) {
    memset(s, 0, sizeof *s);
    for (int64_t i = 0; i < n_seq; i++) {
        s->cu_seqlens[i + 1] = s->cu_seqlens[i] + len[i];
        s->cu_chunks[i + 1] = s->cu_chunks[i] + (len[i] + SP_SCAN_CHUNK - 1) / SP_SCAN_CHUNK;
    }
    s->n_tok = s->cu_seqlens[n_seq];
    s->n_chunk = s->cu_chunks[n_seq];
    s->n_state = d_inner * d_state;
    struct sp_scan *a = &s->a;
    *a = (struct sp_scan){.n_seq = n_seq, .d_inner = d_inner, .d_state = d_state};
    a->ldx = a->lddt = a->ldz = a->ldy = d_inner + pad;
    a->ldb = a->ldc = d_state + pad;
    a->x = kernel_random(s->n_tok * a->ldx, -2, 2);
    a->dt = kernel_random(s->n_tok * a->lddt, -6, 2);
    a->z = options & SCAN_NO_Z ? NULL : kernel_random(s->n_tok * a->ldz, -4, 4);
    a->B = kernel_random(s->n_tok * a->ldb, -1, 1);
    a->C = kernel_random(s->n_tok * a->ldc, -1, 1);
    float *A = kernel_floats(s->n_state);
    for (int64_t i = 0; i < s->n_state; i++) A[i] = -expf(check_random_float(-3, 3));
    a->A = A;
    a->D = options & SCAN_NO_D ? NULL : kernel_random(d_inner, -1, 1);
    a->dt_bias = options & SCAN_NO_BIAS ? NULL : kernel_random(d_inner, -1, 1);
    float *state = kernel_random(n_seq * s->n_state, -1, 1);
    for (int64_t i = 0; i < n_seq; i++) s->state_in[i] = state + i * s->n_state;
    a->state_in = options & SCAN_NO_STATE ? NULL : s->state_in;
    s->dy = kernel_random(s->n_tok * a->ldy, -1, 1);
    s->dstate_out = kernel_random(n_seq * s->n_state, -1, 1);
}

/* The case with its own pointers set again: a copy of it may be moved. */
static inline struct sp_scan scan_args(const struct scan_case *s) {
    struct sp_scan a = s->a;
    a.cu_seqlens = s->cu_seqlens;
    a.cu_chunks = s->cu_chunks;
    if (a.state_in) a.state_in = s->state_in;
    return a;
}

/* Forward on path k, channels cut at `cut`: what one and two workers would do. */
static inline struct scan_result scan_forward(const struct sp_kernels *k, const struct scan_case *s,
                                              int64_t cut) {
    struct scan_result r = {.y = kernel_floats(s->n_tok * s->a.ldy),
                            .state = kernel_floats(s->a.n_seq * s->n_state),
                            .chunk = kernel_floats(s->n_chunk * s->n_state)};
    struct sp_scan a = scan_args(s);
    float *state_out[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) state_out[i] = r.state + i * s->n_state;
    a.state_out = state_out;
    a.y = r.y;
    a.chunk_state = r.chunk;
    for (int64_t i = 0; i < a.n_seq; i++) {
        k->scan_fwd(&a, i, 0, cut);
        if (cut < a.d_inner) k->scan_fwd(&a, i, cut, a.d_inner);
    }
    return r;
}

/* Backward on path k from the forward result r, into r. */
static inline void scan_backward(const struct sp_kernels *k, const struct scan_case *s, int64_t cut,
                                 struct scan_result *r) {
    struct sp_scan a = scan_args(s);
    a.chunk_state = r->chunk;
    int64_t wide = s->n_tok * a.ldy, narrow = s->n_tok * a.d_state;
    r->dx = kernel_floats(wide);
    r->ddt = kernel_floats(wide);
    r->dz = a.z ? kernel_floats(wide) : NULL;
    r->dB = kernel_floats(narrow);
    r->dC = kernel_floats(narrow);
    r->dA = kernel_floats(s->n_state);
    r->dD = a.D ? kernel_floats(a.d_inner) : NULL;
    r->dbias = a.dt_bias ? kernel_floats(a.d_inner) : NULL;
    r->dstate = kernel_floats(a.n_seq * s->n_state);
    struct sp_scan_grad g = {.dy = s->dy,
                             .lddy = a.ldy,
                             .dx = r->dx,
                             .ddt = r->ddt,
                             .dz = r->dz,
                             .lddx = a.ldy,
                             .lddt = a.ldy,
                             .lddz = a.ldy,
                             .dB = r->dB,
                             .dC = r->dC,
                             .dA = r->dA,
                             .dD = r->dD,
                             .ddt_bias = r->dbias};
    const float *dstate_out[SCAN_SEQ_MAX];
    float *dstate_in[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        dstate_out[i] = s->dstate_out + i * s->n_state;
        dstate_in[i] = r->dstate + i * s->n_state;
    }
    g.dstate_out = dstate_out;
    g.dstate_in = dstate_in;
    g.scratch = kernel_floats(sp_scan_bwd_scratch(a.d_state));
    for (int64_t i = a.n_seq - 1; i >= 0; i--) {
        k->scan_bwd(&a, &g, i, 0, cut);
        if (cut < a.d_inner) k->scan_bwd(&a, &g, i, cut, a.d_inner);
    }
}

/* One sequence in double precision: y (len, d_inner) and h (d_inner, d_state), which holds the
 * state before and is left with the state after. Rows as in the case. */
static inline void scan_oracle(const struct scan_case *s, int64_t seq, double *y, double *h) {
    const struct sp_scan *a = &s->a;
    for (int64_t t = s->cu_seqlens[seq]; t < s->cu_seqlens[seq + 1]; t++) {
        for (int64_t c = 0; c < a->d_inner; c++) {
            double x = (double)a->x[t * a->ldx + c], sum = a->D ? (double)a->D[c] * x : 0;
            double u = (double)a->dt[t * a->lddt + c] + (a->dt_bias ? (double)a->dt_bias[c] : 0);
            double delta = log1p(exp(-fabs(u))) + fmax(u, 0);
            for (int64_t n = 0; n < a->d_state; n++) {
                double *state = &h[c * a->d_state + n];
                *state = exp(delta * (double)a->A[c * a->d_state + n]) * *state +
                         delta * (double)a->B[t * a->ldb + n] * x;
                sum += (double)a->C[t * a->ldc + n] * *state;
            }
            double z = a->z ? (double)a->z[t * a->ldz + c] : 0;
            y[(t - s->cu_seqlens[seq]) * a->d_inner + c] = a->z ? sum * z / (1 + exp(-z)) : sum;
        }
    }
}

#endif
