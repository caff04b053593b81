/* The CUDA kernels' launchers, for C. Arguments are the structs of kernels/kernels.h, with its
 * contracts; the difference: every pointer in them, also cu_seqlens, cu_chunks and the arrays of
 * state pointers, is the device's, and x, dt, z, B, C, y and their gradients are of `type` (states,
 * A, D, biases, weights and what is summed stay float32). A launcher queues its work on the stream
 * and returns a cudaError_t, 0 when it was accepted. Accesses are of 16 bytes (8 for four 16-bit
 * elements) where pointers and row distances are multiples of that, else of single elements. */
#ifndef SP_CUDA_LAUNCH_H
#define SP_CUDA_LAUNCH_H

#include "../kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sp_cuda_type { SP_CUDA_F32, SP_CUDA_BF16, SP_CUDA_F16 };
typedef void *sp_cuda_stream; /* cudaStream_t */

/* All sequences of a. len_max: the longest one's length, or an upper bound; short ones take smaller
 * tiles. a->n_seq up to 2^31 - 1. */
int sp_scan_fwd_cuda(const struct sp_scan *a, enum sp_cuda_type type, int64_t len_max,
                     sp_cuda_stream stream);

/* From a->chunk_state, as sp_scan_fwd_cuda left it; dy, dx, ddt, dz of `type`, the other gradients
 * float32; g->scratch is not used. dB and dC get one atomic per token, state and 32 channels, or
 * with `deterministic` none: then all sums have the same bits every time. workspace: so many
 * floats. */
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

#ifdef __cplusplus
}
#endif

#endif
