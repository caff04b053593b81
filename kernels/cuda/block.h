/* Reductions within a warp and a block, in an order that does not depend on the schedule. */
#ifndef SP_CUDA_BLOCK_H
#define SP_CUDA_BLOCK_H

#include "port.h"

#define SP_ALL_LANES 0xffffffffu

/* The sum of all lanes, in every lane. */
static __device__ __forceinline__ float sp_warp_sum(float x) {
#pragma unroll
    for (int lanes = 16; lanes >= 1; lanes /= 2) x += __shfl_xor_sync(SP_ALL_LANES, x, lanes);
    return x;
}

#endif
