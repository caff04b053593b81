/* How sums over many blocks are made without atomics, so that their bits are the same every time:
 * each block leaves its part in a row of a workspace, and a second kernel adds the rows in order.
 */
#ifndef SP_CUDA_SUM_H
#define SP_CUDA_SUM_H

#include "port.h"

/* to[i] += sum of part[p * n + i] over p < n_part, for i < n. */
int sp_sum_parts_cuda(float *to, const float *part, int64_t n_part, int64_t n, cudaStream_t stream);

#endif
