/* The CUDA kernels' launchers, for C. Arguments are the structs of kernels/kernels.h, with its
 * contracts; the difference: every pointer in them, also cu_seqlens, cu_chunks and the arrays of
 * state pointers, is the device's, and x, dt, z, B, C, y and their gradients are of `type` (states,
 * A, D, biases, weights and what is summed stay float32). A launcher queues its work on the stream
 * and returns a cudaError_t, 0 if accepted. Accesses to rows are of 16 bytes where pointers
 * and row distances are multiples of that (B's and C's: of 4 elements), else of single elements; in
 * 16-bit types of 8 for B, C, tokens before a convolution's run, and a scan of up to 16 tokens.
 * Always single: what the scan backward has by state (A, B, C, dB, dC, states), rows of more than
 * 8 taps, what decode has by channel (x, dt, z), and the sums of parts and of segments. */
#ifndef SP_CUDA_LAUNCH_H
#define SP_CUDA_LAUNCH_H

#include "../kernels.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum sp_cuda_type { SP_CUDA_F32, SP_CUDA_BF16, SP_CUDA_F16 };
typedef void *sp_cuda_stream; /* cudaStream_t */

/* All sequences of a, of at most 2^30 tokens. x, z and y are of `type`, dt, B and C of part_type,
 * which is the same, or f32 beside bf16. len_max: the longest one's length, or an upper bound: the
 * rest of a sequence behind its whole SP_SCAN_CHUNKs takes smaller tiles when it has up to 16 or up
 * to 32 tokens, a launch for each of the three that there may be. A sequence's bits depend on
 * nothing but itself, and it keeps them when it is cut at a multiple of SP_SCAN_CHUNK and goes on
 * from its state_out. a->n_seq up to 2^31 - 1. */
int sp_scan_fwd_cuda(const struct sp_scan *a, enum sp_cuda_type type, enum sp_cuda_type part_type,
                     int64_t len_max, sp_cuda_stream stream);

/* The same with sequences cut into segments of `segment` tokens (a multiple of SP_SCAN_CHUNK) that
 * run in parallel: whole segments from a state of zeros first, for the state that each leaves; then
 * the states before all segments; then the scan from these. For few and long ones, of up to 65535
 * segments: it reads x, dt and B twice. Bits stay as said above, the cut being at a multiple of
 * `segment`. n_tok: of all sequences. workspace: so many floats. */
#define SP_CUDA_SCAN_CHANNELS 32 /* of a block */
int64_t sp_scan_split_cuda_workspace(const struct sp_scan *a, int64_t n_tok, int64_t segment);
int sp_scan_split_cuda(const struct sp_scan *a, enum sp_cuda_type type, enum sp_cuda_type part_type,
                       int64_t n_tok, int64_t len_max, int64_t segment, float *workspace,
                       sp_cuda_stream stream);
/* Sequences of one token each (decode): row s of x, dt, z, B, C, y is sequence s's; a->cu_seqlens
 * and chunk_state are not used. */
int sp_scan_step_cuda(const struct sp_scan *a, enum sp_cuda_type type, sp_cuda_stream stream);

/* A decode step of a whole mixer, between its in_proj and its out_proj, for n_seq sequences of one
 * token: convolution step, x_proj, dt_proj, scan step, gate. Activations are float32. Two launches,
 * as dt, B and C are sums over all channels; a row's bits do not depend on n_seq. */
struct sp_mixer_step {
    int64_t n_seq, d_inner, d_conv, d_state, dt_rank;
    const float *xz; /* (n_seq, 2 * d_inner), ldxz: x, then z */
    int64_t ldxz;
    const float *conv_w;    /* (d_inner, d_conv) */
    const float *conv_bias; /* (d_inner) or NULL */
    const void *x_proj;     /* (dt_rank + 2 * d_state, d_inner), of x_type */
    const void *dt_proj;    /* (d_inner, dt_rank), of dt_type */
    enum sp_cuda_type x_type, dt_type;
    int round_inputs;         /* what either product reads is rounded to its matrix's type first */
    float part_norm_eps;      /* Falcon-Mamba: dt, B, C are normalised (RMS) first; negative: not */
    const float *dt_bias;     /* (d_inner) or NULL */
    const float *A;           /* (d_inner, d_state) */
    const float *D;           /* (d_inner) or NULL */
    float *const *conv_state; /* (n_seq) of (d_conv - 1, d_inner), moved on in place */
    float *const *ssm_state;  /* (n_seq) of (d_inner, d_state), in place */
    float *y;                 /* (n_seq, d_inner), ldy */
    int64_t ldy;
};
/* workspace: so many floats. */
int64_t sp_mixer_step_cuda_workspace(const struct sp_mixer_step *a);
int sp_mixer_step_cuda(const struct sp_mixer_step *a, float *workspace, sp_cuda_stream stream);

/* From a->chunk_state, as sp_scan_fwd_cuda left it; dy, dx, ddt, dz of `type`, the other gradients
 * float32; g->scratch is not used. dB and dC get one atomic per token, state and 32 channels, or
 * with `deterministic` none: then all sums have the same bits every time. The workspace is
 * of so many floats. A block takes 256 d_state + 2048 bytes of shared memory; with `shared` bytes
 * for a block, d_state is state_max at most: 248 on 7.5, which has 64 KiB. */
int64_t sp_scan_bwd_cuda_state_max(size_t shared);
int64_t sp_scan_bwd_cuda_workspace(const struct sp_scan *a, int64_t n_tok, int deterministic);
int sp_scan_bwd_cuda(const struct sp_scan *a, const struct sp_scan_grad *g, enum sp_cuda_type type,
                     int64_t n_tok, int deterministic, float *workspace, sp_cuda_stream stream);

/* The convolution; x, y, dy, dx of `type`. dstate_in and dstate_out are different buffers. dw and
 * dbias are summed in an order that depends on the lengths only; workspace: so many floats. */
int sp_conv_fwd_cuda(const struct sp_conv *a, enum sp_cuda_type type, int64_t len_max,
                     sp_cuda_stream stream);
int64_t sp_conv_bwd_cuda_workspace(const struct sp_conv *a, int64_t len_max);
int sp_conv_bwd_cuda(const struct sp_conv *a, const struct sp_conv_grad *g, enum sp_cuda_type type,
                     int64_t len_max, float *workspace, sp_cuda_stream stream);

/* RMSNorm: x, w, rstd and dx are float32 (the residual stream), residual, y and dy of `type`. dw is
 * summed in an order that depends on n_row only; workspace: so many floats, unused without dw. */
int sp_rmsnorm_fwd_cuda(const struct sp_rmsnorm *a, enum sp_cuda_type type, int64_t n_row,
                        sp_cuda_stream stream);
int64_t sp_rmsnorm_bwd_cuda_workspace(const struct sp_rmsnorm *a, int64_t n_row);
int sp_rmsnorm_bwd_cuda(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g,
                        enum sp_cuda_type type, int64_t n_row, float *workspace,
                        sp_cuda_stream stream);

/* Logits are float32. */
int sp_xent_cuda(const struct sp_xent *a, int64_t n_row, sp_cuda_stream stream);

/* y[i] = table[id[i]], and table_grad[id[i]] += dy[i], rows of d; table, y and dy of `type`, the
 * gradient float32; ids on the device, in range. The same bits every time. */
int sp_gather_cuda(const void *table, int64_t d, const uint32_t *id, int64_t n, void *y,
                   enum sp_cuda_type type, sp_cuda_stream stream);
int sp_scatter_add_cuda(float *table_grad, int64_t d, const uint32_t *id, int64_t n, const void *dy,
                        enum sp_cuda_type type, sp_cuda_stream stream);

/* y (n_row, d_out; ldy) = x W^T + bias, or y += with add (bias included), for few rows: a product
 * bound by reading W once. x, y and bias are float32; a row's bits do not depend on n_row. */
struct sp_cuda_matvec {
    const void *w; /* (d_out, d_in), ldw, of w_type */
    enum sp_cuda_type w_type;
    int64_t ldw, d_in, d_out;
    const float *x; /* (n_row, d_in), ldx */
    int64_t ldx, n_row;
    int round_x;       /* to w_type first */
    const float *bias; /* (d_out) or NULL */
    float *y;          /* (n_row, d_out), ldy; not x */
    int64_t ldy;
    int add;
};
int sp_matvec_cuda(const struct sp_cuda_matvec *a, sp_cuda_stream stream);

/* Rows of d from one type to another (also the same: a copy), to the nearest, ties to even. */
int sp_convert_cuda(void *to, enum sp_cuda_type to_type, int64_t ld_to, const void *from,
                    enum sp_cuda_type from_type, int64_t ld_from, int64_t n_row, int64_t d,
                    sp_cuda_stream stream);
/* Each row of y (n_row, d; ldy) += bias (d). */
int sp_add_bias_cuda(float *y, int64_t ldy, int64_t n_row, int64_t d, const float *bias,
                     sp_cuda_stream stream);

/* AdamW on n parameters; the bits of the plain C path but for what the compiler fuses. */
int sp_adamw_cuda(const struct sp_adamw *a, int64_t n, sp_cuda_stream stream);
/* *out (on the device) = sum of squares, in an order fixed by n. workspace: so many doubles. */
int64_t sp_sum_squares_cuda_workspace(int64_t n);
int sp_sum_squares_cuda(const float *x, int64_t n, double *workspace, double *out,
                        sp_cuda_stream stream);

/* Per row of x (n_row, n_class; ldx): the k best, best first, equal ones by id; k from 1 (greedy
 * choice) to min(n_class, SP_CUDA_TOP_MAX). value, id: (n_row, k). NaN comes last. */
#define SP_CUDA_TOP_MAX 1024
int sp_top_k_cuda(const float *x, int64_t ldx, int64_t n_row, int64_t n_class, int64_t k,
                  float *value, uint32_t *id, sp_cuda_stream stream);
/* out[r] = log of the sum of exp(x[r]): log p of class c is x[r, c] - out[r]. */
int sp_log_sum_exp_cuda(const float *x, int64_t ldx, int64_t n_row, int64_t n_class, float *out,
                        sp_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
