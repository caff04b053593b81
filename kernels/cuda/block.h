/* Reductions within a warp and a block, in an order that does not depend on the schedule. */
#ifndef SP_CUDA_BLOCK_H
#define SP_CUDA_BLOCK_H

#include "port.h"

#define SP_ALL_LANES 0xffffffffu

/* The sum over each run of LANES lanes (a power of two), in every lane. */
template <int LANES = 32, class T> static __device__ __forceinline__ T sp_warp_sum(T x) {
#pragma unroll
    for (int lanes = LANES / 2; lanes >= 1; lanes /= 2)
        x += __shfl_xor_sync(SP_ALL_LANES, x, lanes);
    return x;
}

#endif
