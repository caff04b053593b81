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

#ifdef __cplusplus
}
#endif

#endif
