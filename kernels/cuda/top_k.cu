/* The best of a row of logits, in order. A value and its id are one key of 64 bits whose order is
 * the one wanted, so that a maximum of keys is never a matter of who came first.
 *
 * A block takes a row. Each thread goes over its share of it once and keeps its LIST best; then the
 * block's best is taken from the tops of these lists k times. A thread whose list runs out goes
 * over its share again, for what is below the last that it gave: with 256 threads that is rare. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int WARPS = 8, THREADS = 32 * WARPS, CH = 4, LIST = 4;
typedef unsigned long long key; /* 0: none */

struct args {
    const float *x;
    float *value;
    uint32_t *id;
    int64_t ldx, n_class, k;
};

/* Larger values first, then smaller ids, NaN last; -0 is 0. */
__device__ __forceinline__ key key_of(float x, uint32_t id) {
    const uint32_t bits = sp_bits(x + 0.f);
    const uint32_t order = x != x ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (key)order << 32 | ~id;
}

/* The thread's LIST best below `limit`; whether there are as many. */
template <bool VEC>
__device__ __forceinline__ bool fill(const args &a, const float *row, key limit,
                                     key (&list)[LIST]) {
#pragma unroll
    for (int j = 0; j < LIST; j++) list[j] = 0;
    for (int64_t i = (int64_t)threadIdx.x * CH; i < a.n_class; i += THREADS * CH) {
        const int n = sp_left<CH>(a.n_class, i);
        float x[CH];
        sp_load<CH, VEC>(x, row + i, n);
#pragma unroll
        for (int c = 0; c < CH; c++) {
            key new_one = c < n ? key_of(x[c], (uint32_t)(i + c)) : 0;
            if (new_one >= limit) continue;
#pragma unroll
            for (int j = 0; j < LIST; j++) {
                const key lower = new_one < list[j] ? new_one : list[j];
                list[j] = new_one < list[j] ? list[j] : new_one;
                new_one = lower;
            }
        }
    }
    return list[LIST - 1] != 0;
}

/* The largest of all threads'. slots: one per warp, not those of the call before: a thread may
 * still be reading these. */
__device__ __forceinline__ key block_max(key mine, key *slots) {
#pragma unroll
    for (int lanes = 16; lanes >= 1; lanes /= 2) {
        const key other = __shfl_xor_sync(SP_ALL_LANES, mine, lanes);
        mine = other > mine ? other : mine;
    }
    if (threadIdx.x % 32 == 0) sp_shared_store(&slots[threadIdx.x / 32], mine);
    __syncthreads();
    mine = sp_shared_load(&slots[0]);
    for (int i = 1; i < WARPS; i++) {
        const key other = sp_shared_load(&slots[i]);
        mine = other > mine ? other : mine;
    }
    return mine;
}

template <bool VEC> __global__ void __launch_bounds__(THREADS) top_k(const args a) {
    SP_SHARED(key, slots);
    const int64_t row = blockIdx.x;
    const float *x = a.x + row * a.ldx;
    key list[LIST];
    bool more = fill<VEC>(a, x, ~(key)0, list);
    for (int64_t j = 0; j < a.k; j++) {
        const int64_t buffer = SP_PLANTED("one buffer of maxima") ? 0 : j % 2;
        const key best = block_max(list[0], slots + buffer * WARPS);
        const uint32_t id = ~(uint32_t)best;
        if (list[0] == best) {
#pragma unroll
            for (int i = 1; i < LIST; i++) list[i - 1] = list[i];
            list[LIST - 1] = 0;
            if (list[0] == 0 && more) more = fill<VEC>(a, x, best, list);
        }
        if (threadIdx.x > 0) continue;
        sp_write(a.value + row * a.k + j, sp_read(x + id));
        sp_write(a.id + row * a.k + j, id);
    }
}

} // namespace

int sp_top_k_cuda(const float *x, int64_t ldx, int64_t n_row, int64_t n_class, int64_t k,
                  float *value, uint32_t *id, sp_cuda_stream stream) {
    if (n_row == 0) return 0;
    args a = {x, value, id, ldx, n_class, k};
    auto kernel = (uintptr_t)x % 16 == 0 && ldx % CH == 0 ? top_k<true> : top_k<false>;
    SP_LAUNCH(kernel, dim3((unsigned)n_row), dim3(THREADS), 2 * WARPS * sizeof(key),
              static_cast<cudaStream_t>(stream), a);
    return SP_LAST_ERROR();
}
