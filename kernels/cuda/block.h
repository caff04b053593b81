/* What threads of a warp do together: reductions, in an order that does not depend on the schedule,
 * and accesses of 16 bytes to rows of which each thread needs less. */
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

/* A thread that owns CH elements of each row, less than 16 bytes, shares accesses with its
 * neighbours: G of them own 16 bytes together, each reads those of one of G rows, and they
 * exchange. So many rows are G. */
template <class T, int CH> constexpr int sp_row_group = 16 / (CH * (int)sizeof(T));

/* threadIdx.x, asked for anew: what follows from it is computed where it is needed, and keeps no
 * register in between. */
static __device__ __forceinline__ int sp_thread(void) {
#ifdef __CUDACC__
    int x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
#else
    return (int)threadIdx.x;
#endif
}

/* Among threads j = 0 .. G - 1: unit r of thread j, of 4 / G words, becomes unit j of thread r. */
template <int G> static __device__ __forceinline__ void sp_transpose(uint32_t (&w)[4], int j) {
    constexpr int U = 4 / G;
#pragma unroll
    for (int step = 1; step < G; step *= 2) {
#pragma unroll
        for (int i = 0; i < G; i++) {
            if (i & step) continue;
#pragma unroll
            for (int q = 0; q < U; q++) {
                uint32_t &low = w[i * U + q], &high = w[(i + step) * U + q];
                uint32_t got = __shfl_xor_sync(SP_ALL_LANES, j & step ? low : high, step);
                if (j & step)
                    low = got;
                else
                    high = got;
            }
        }
    }
}

/* x[r] = elements [c, c + CH) of row t + r of rows of length ld, n_ch of them, the thread's own;
 * zero for rows that are not before `end`. With VEC and the G of a group a thread has all of its
 * elements or none, its neighbours own what is beside them in memory (threadIdx.x counts), and 16
 * bytes are read at once from addresses that are multiples of that. All threads of the warp come
 * here. */
template <int G, int CH, bool VEC, class T>
static __device__ __forceinline__ void sp_load_rows(float (&x)[G][CH], const T *rows, int64_t ld,
                                                    int64_t t, int64_t end, int64_t c, int n_ch) {
    if constexpr (VEC && G > 1 && G == sp_row_group<T, CH>) {
        const int j = sp_thread() % G;
        uint32_t w[4] = {};
        if (t + j < end && n_ch == CH) {
            SP_TOUCH(EMU_GLOBAL_LOAD, 16);
            const uint4 pack = *reinterpret_cast<const uint4 *>(rows + (t + j) * ld + (c - j * CH));
            w[0] = pack.x;
            w[1] = pack.y;
            w[2] = pack.z;
            w[3] = pack.w;
        }
        if (!SP_PLANTED("rows not exchanged")) sp_transpose<G>(w, j);
#pragma unroll
        for (int i = 0; i < G * CH; i++) x[i / CH][i % CH] = sp_unpacked<T>(w, i);
    } else {
#pragma unroll
        for (int r = 0; r < G; r++)
            sp_load<CH, VEC>(x[r], rows + (t + r) * ld + c, t + r < end ? n_ch : 0);
    }
}
/* Those of rows t + r in [from, end), likewise. */
template <int G, int CH, bool VEC, class T>
static __device__ __forceinline__ void sp_store_rows(T *rows, int64_t ld, const float (&x)[G][CH],
                                                     int64_t t, int64_t from, int64_t end,
                                                     int64_t c, int n_ch) {
    if constexpr (VEC && G > 1 && G == sp_row_group<T, CH>) {
        const int j = sp_thread() % G;
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < G * CH; i++) sp_packed<T>(x[i / CH][i % CH], w, i);
        sp_transpose<G>(w, j);
        if (t + j >= from && t + j < end && n_ch == CH) {
            SP_TOUCH(EMU_GLOBAL_STORE, 16);
            *reinterpret_cast<uint4 *>(rows + (t + j) * ld + (c - j * CH)) =
                uint4{w[0], w[1], w[2], w[3]};
        }
    } else {
#pragma unroll
        for (int r = 0; r < G; r++)
            if (t + r >= from && t + r < end)
                sp_store<CH, VEC>(rows + (t + r) * ld + c, x[r], n_ch);
    }
}

#endif
