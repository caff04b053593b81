/* The CPU's dispatch table and the contract of each kernel.
 *
 * Every buffer belongs to the caller, is float32, row-major, and needs no alignment beyond a
 * float's; "ld" is the distance between rows in elements. Kernels allocate nothing and cannot fail.
 * A kernel works on the part of the problem that its last arguments name, so that the backend can
 * spread it over threads; parts are disjoint in everything that is written, unless said otherwise.
 * What is computed for a row never depends on which other rows are in the same call.
 *
 * Source of the mathematics: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State
 * Spaces" (arXiv 2312.00752), sections 2, 3.2 and algorithm 2; discretisation as in its reference
 * code: A by zero-order hold, B by Euler.
 */
#ifndef SP_KERNELS_H
#define SP_KERNELS_H

#include <stdint.h>

/* Packed sequences: sequence s is rows [cu_seqlens[s], cu_seqlens[s + 1]) of every (n_tok, ...)
 * buffer. Each starts from its own state and leaves its own state behind. */

/* y[t] = silu(bias + sum_k w[:, k] * x[t - d_conv + 1 + k]) per channel; inputs before the
 * sequence's first come from its state. */
struct sp_conv {
    int64_t n_seq, d_inner, d_conv;
    const int64_t *cu_seqlens; /* (n_seq + 1) */
    const float *x;            /* (n_tok, d_inner), ldx */
    int64_t ldx;
    const float *w;    /* (d_inner, d_conv) */
    const float *bias; /* (d_inner) or NULL */
    /* Per sequence the last d_conv - 1 inputs, (d_conv - 1, d_inner), oldest first. state_in or one
     * of its entries NULL: zeros; state_out or an entry NULL: not wanted. May be the same buffers.
     */
    const float *const *state_in; /* (n_seq) */
    float *const *state_out;      /* (n_seq) */
    float *y;                     /* (n_tok, d_inner), ldy; not x */
    int64_t ldy;
};
#define SP_CONV_WIDTH_MAX 16 /* d_conv at most */
struct sp_conv_grad {
    const float *dy; /* (n_tok, d_inner), lddy */
    int64_t lddy;
    float *dx; /* (n_tok, d_inner), lddx; written */
    int64_t lddx;
    float *dw;    /* (d_inner, d_conv); added to */
    float *dbias; /* (d_inner) or NULL; added to */
    /* Gradient from the final and of the initial convolution states; NULL as above. */
    const float *const *dstate_out; /* (n_seq) */
    float *const *dstate_in;        /* (n_seq); written */
};

/* The fused selective scan. Per token t, channel c, state n:
 *   delta  = softplus(dt[t,c] + dt_bias[c])              (delta = its argument above 20)
 *   h[n]   = exp(delta * A[c,n]) * h[n] + delta * B[t,n] * x[t,c]
 *   y[t,c] = (sum_n C[t,n] * h[n] + D[c] * x[t,c]) * silu(z[t,c])
 * Nothing of size (n_tok, d_inner, d_state) is ever stored. */
struct sp_scan {
    int64_t n_seq, d_inner, d_state;
    const int64_t *cu_seqlens; /* (n_seq + 1) */
    const float *x;            /* (n_tok, d_inner), ldx: the convolution's output */
    const float *dt;           /* (n_tok, d_inner), lddt: before bias and softplus */
    const float *z;            /* (n_tok, d_inner), ldz: gate, or NULL for none */
    const float *B, *C;        /* (n_tok, d_state), ldb, ldc */
    int64_t ldx, lddt, ldz, ldb, ldc;
    const float *A;       /* (d_inner, d_state), = -exp(A_log) */
    const float *D;       /* (d_inner) or NULL */
    const float *dt_bias; /* (d_inner) or NULL */
    /* Per sequence (d_inner, d_state); NULL (or an entry NULL): zero, not wanted. May be equal. */
    const float *const *state_in; /* (n_seq) */
    float *const *state_out;      /* (n_seq) */
    float *y;                     /* (n_tok, d_inner), ldy; may be x, dt or z */
    int64_t ldy;
    /* For the backward pass, or NULL: the state before token 0, SP_SCAN_CHUNK, 2 * SP_SCAN_CHUNK,
     * ... of each sequence. Sequence s starts at row cu_chunks[s] of (n_chunk, d_inner, d_state).
     */
    float *chunk_state;
    const int64_t *cu_chunks; /* (n_seq + 1); cu_chunks[s+1]-[s] = ceil(len / SP_SCAN_CHUNK) */
};
#define SP_SCAN_CHUNK 64
#define SP_SCAN_STATE_MAX 256 /* d_state at most: a model with more is refused when opened */
struct sp_scan_grad {
    const float *dy; /* (n_tok, d_inner), lddy */
    int64_t lddy;
    float *dx, *ddt, *dz; /* (n_tok, d_inner), lddx, lddt, lddz; written; dz NULL when z is. ddt is
                             the gradient of dt before bias and softplus. */
    int64_t lddx, lddt, lddz;
    float *dB, *dC;  /* (n_tok, d_state), dense; ADDED to by every channel: one copy per thread */
    float *dA;       /* (d_inner, d_state); added to */
    float *dD;       /* (d_inner) or NULL; added to */
    float *ddt_bias; /* (d_inner) or NULL; added to */
    const float *const *dstate_out; /* (n_seq): gradient from the final state, or NULL */
    float *const *dstate_in;        /* (n_seq): gradient of the initial state, written, or NULL */
    float *scratch;                 /* sp_scan_bwd_scratch(d_state) floats, one copy per thread */
};
/* One block of 16 channels recomputes a chunk's states: (SP_SCAN_CHUNK + 1, d_state, 16) and some.
 */
#define SP_SCAN_LANES 16
static inline int64_t sp_scan_bwd_scratch(int64_t d_state) {
    return (SP_SCAN_CHUNK + 2) * d_state * SP_SCAN_LANES * 2 + SP_SCAN_CHUNK * SP_SCAN_LANES * 8 +
           16 * SP_SCAN_LANES;
}

/* y = x * rsqrt(mean(x^2) + eps) * w, row by row (RMSNorm, arXiv 1910.07467). With residual, first
 * x += residual, in place, and y is of the sum. */
struct sp_rmsnorm {
    int64_t d; /* columns */
    float *x;  /* (n_row, d), ldx; only written with residual */
    int64_t ldx;
    const float *residual; /* (n_row, d), ldr, or NULL */
    int64_t ldr;
    const float *w; /* (d) or NULL: ones */
    float eps;
    float *y; /* (n_row, d), ldy; may be x when residual is NULL */
    int64_t ldy;
    float *rstd; /* (n_row), for the backward pass, or NULL */
};
struct sp_rmsnorm_grad {
    const float *dy; /* (n_row, d), lddy */
    int64_t lddy;
    float *dx; /* (n_row, d), lddx; ADDED to: the residual path's gradient is there already */
    int64_t lddx;
    float *dw; /* (d) or NULL; ADDED to by every row: one copy per thread */
};

/* Cross-entropy of softmax(logits) with integer targets; rows with target < 0 are ignored. */
struct sp_xent {
    int64_t n_class;
    float *logits; /* (n_row, n_class), ldl; replaced by d loss / d logits * scale */
    int64_t ldl;
    const int32_t *target; /* (n_row) */
    float scale;           /* usually 1 / number of counted rows */
    float *loss;           /* (n_row): -log p(target), 0 for ignored rows */
};

/* One AdamW step (arXiv 1711.05101, algorithm 2) on a run of parameters. */
struct sp_adamw {
    float *param, *m, *v;
    const float *grad;
    float lr, beta1, beta2, eps, weight_decay;
    float bias1, bias2; /* 1 - beta^step */
    float grad_scale;   /* applied to grad first: clipping */
};

struct sp_kernels {
    const char *name; /* "ref", "avx2", "avx512" */

    /* Sequence seq, channels [c0, c1). c0 is a multiple of 16; c1 too or d_inner. */
    void (*conv_fwd)(const struct sp_conv *a, int64_t seq, int64_t c0, int64_t c1);
    void (*conv_bwd)(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq, int64_t c0,
                     int64_t c1);
    void (*scan_fwd)(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1);
    /* The same for sequences of one token (decode): no transposition of the state. */
    void (*scan_step)(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1);
    void (*scan_bwd)(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq, int64_t c0,
                     int64_t c1);

    /* Rows [r0, r1). */
    void (*rmsnorm_fwd)(const struct sp_rmsnorm *a, int64_t r0, int64_t r1);
    void (*rmsnorm_bwd)(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g, int64_t r0,
                        int64_t r1);
    void (*xent)(const struct sp_xent *a, int64_t r0, int64_t r1);

    /* y[r, o] (+)= sum_k x[r, k] * w[o, k] for few rows r < n_row (at least 1) and outputs o in
     * [o0, o1): a product bound by reading w once. The bits of a row do not depend on n_row. add: y
     * += instead of y =. bias (d_out) may be NULL and is added when not `add`. */
    void (*matvec_f32)(const float *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                       int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                       int64_t o1, int add);
    void (*matvec_bf16)(const uint16_t *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                        int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                        int64_t o1, int add);

    void (*adamw)(const struct sp_adamw *a, int64_t i0, int64_t i1);
    /* Element-wise helpers over runs of n floats. */
    /* e^x within 1.02 ULP (of the smallest denormal where the result is denormal), 0 and infinity
     * where e^x rounds to them. `make check` looks at every 2039th float, kernel_vector
     * --exhaustive at all of them. */
    void (*vexp)(float *y, const float *x, int64_t n);
    void (*to_bf16)(uint16_t *y, const float *x, int64_t n); /* round to nearest even */
    double (*sum_squares)(const float *x, int64_t n);
};

/* Fills *k with the fastest path that this CPU has, or that $STATEPIPE_CPU (ref, avx2, avx512)
 * allows: a mask, not a promise (sp_kernels_env_ok; the CPU backend refuses another value).
 * Thread-safe. */
void sp_kernels_init(struct sp_kernels *k);
/* The paths this machine can run, slowest first; n is their number. For tests and doctor. */
int sp_kernels_paths(const char *names[4]);
/* 0 when $STATEPIPE_CPU is set to what is no path of this CPU's: *value is what it says. */
int sp_kernels_env_ok(const char **value);
/* A given path; 0 when the CPU does not have it. */
int sp_kernels_get(struct sp_kernels *k, const char *name);

/* Installed in this order, each overriding what it is better at (kernels/dispatch.c). */
void sp_kernels_ref(struct sp_kernels *k);
void sp_kernels_avx2(struct sp_kernels *k);
void sp_kernels_avx512(struct sp_kernels *k);

#endif
