/* Rows of a table: gather, and the sum of gradients back into them. The sum takes no atomics: the
 * block of an id's first occurrence adds all its rows, in their order, so that its bits are the
 * same every time. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int WARPS = 4;
/* Columns of an access: 16 bytes of T, and what a block takes at once. */
template <class T> constexpr int CH_OF = 16 / (int)sizeof(T);
template <class T> constexpr int64_t STRIDE_OF = 32 * WARPS *CH_OF<T>;

struct args {
    float *table; /* (any, d), of T when gathering */
    const uint32_t *id;
    float *row; /* (n, d), of T */
    int64_t d, n;
};

template <class T, bool VEC> __global__ void __launch_bounds__(32 * WARPS) gather(const args a) {
    constexpr int CH = CH_OF<T>;
    const int64_t i = blockIdx.x;
    const T *from = reinterpret_cast<const T *>(a.table) + (int64_t)sp_read(&a.id[i]) * a.d;
    T *to = reinterpret_cast<T *>(a.row) + i * a.d;
    for (int64_t col = (int64_t)threadIdx.x * CH; col < a.d; col += STRIDE_OF<T>) {
        const int n = sp_left<CH>(a.d, col);
        float v[CH];
        sp_load<CH, VEC>(v, from + col, n);
        sp_store<CH, VEC>(to + col, v, n);
    }
}

/* The lanes whose id, of 32 from `from` on, is `id`. */
__device__ __forceinline__ unsigned same_ids(const args &a, int64_t from, uint32_t id) {
    const int64_t i = from + threadIdx.x % 32;
    return __ballot_sync(SP_ALL_LANES, i < a.n && sp_read(&a.id[i]) == id);
}

template <class T, bool VEC>
__global__ void __launch_bounds__(32 * WARPS) scatter_add(const args a) {
    constexpr int CH = CH_OF<T>;
    const int64_t i = blockIdx.x;
    const uint32_t id = sp_read(&a.id[i]);
    bool first = true;
    for (int64_t j = 0; j < i && first; j += 32) {
        unsigned same = same_ids(a, j, id);
        if (i - j < 32 && !SP_PLANTED("a row lost")) same &= (1u << (i - j)) - 1;
        first = same == 0;
    }
    if (!first) return; /* the whole block */
    for (int64_t start = 0; start < a.d; start += STRIDE_OF<T>) {
        const int64_t col = start + (int64_t)threadIdx.x * CH;
        const int n = sp_left<CH>(a.d, col);
        float *to = a.table + (int64_t)id * a.d + col, sum[CH], v[CH];
        sp_load<CH, VEC>(sum, to, n);
        for (int64_t j = i / 32 * 32; j < a.n; j += 32) {
            unsigned same = same_ids(a, j, id); /* none is before i */
            for (int lane = 0; lane < 32; lane++) {
                if (!(same >> lane & 1)) continue;
                sp_load<CH, VEC>(v, reinterpret_cast<const T *>(a.row) + (j + lane) * a.d + col, n);
#pragma unroll
                for (int c = 0; c < CH; c++) sum[c] += v[c];
            }
        }
        sp_store<CH, VEC>(to, sum, n);
    }
}

template <class T> int launch(const args &a, bool add, cudaStream_t stream) {
    const bool vec = a.d % CH_OF<T> == 0 && ((uintptr_t)a.row | (uintptr_t)a.table) % 16 == 0;
    auto kernel = add   ? vec ? scatter_add<T, true> : scatter_add<T, false>
                    : vec ? gather<T, true>
                        : gather<T, false>;
    SP_LAUNCH(kernel, dim3((unsigned)a.n), dim3(32 * WARPS), 0, stream, a);
    return SP_LAST_ERROR();
}

int launch_as(const args &a, bool add, enum sp_cuda_type type, sp_cuda_stream stream) {
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (a.n == 0) return 0;
    if (type == SP_CUDA_BF16) return launch<sp_bf16>(a, add, on);
    if (type == SP_CUDA_F16) return launch<sp_half>(a, add, on);
    return launch<float>(a, add, on);
}

} // namespace

int sp_gather_cuda(const void *table, int64_t d, const uint32_t *id, int64_t n, void *y,
                   enum sp_cuda_type type, sp_cuda_stream stream) {
    args a = {static_cast<float *>(const_cast<void *>(table)), id, static_cast<float *>(y), d, n};
    return launch_as(a, false, type, stream);
}

int sp_scatter_add_cuda(float *table_grad, int64_t d, const uint32_t *id, int64_t n, const void *dy,
                        enum sp_cuda_type type, sp_cuda_stream stream) {
    args a = {table_grad, id, static_cast<float *>(const_cast<void *>(dy)), d, n};
    return launch_as(a, true, type, stream);
}
