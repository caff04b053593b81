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

/* A pointer that the whole warp needs: read by one lane. */
template <class T> static __device__ __forceinline__ T *sp_warp_read(T *const *from) {
    T *value = nullptr;
    if (threadIdx.x % 32 == 0) value = sp_read(from);
    const unsigned long long at = reinterpret_cast<unsigned long long>(value);
    return reinterpret_cast<T *>(__shfl_sync(SP_ALL_LANES, at, 0));
}

#endif
