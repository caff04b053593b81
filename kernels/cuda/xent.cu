/* Cross-entropy: a block per row, which reads the logits twice (the maximum and the sum of
 * exponentials are found together, arXiv 1805.02867) and writes their gradient in place. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int WARPS = 8, CH = 4;

/* sum of exp(x - top) over what has been seen; top -inf before the first. */
struct running {
    float top, sum;
};
__device__ __forceinline__ running merge(running a, running b) {
    const float top = fmaxf(a.top, b.top);
    if (top == -INFINITY) return {top, a.sum + b.sum};
    return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
}
/* The same with n single values. */
__device__ __forceinline__ running merge(running a, const float (&x)[CH], int n) {
    float top = a.top;
#pragma unroll
    for (int j = 0; j < CH; j++)
        if (j < n) top = fmaxf(top, x[j]);
    if (top == -INFINITY) return a;
    a.sum *= expf(a.top - top);
#pragma unroll
    for (int j = 0; j < CH; j++)
        if (j < n) a.sum += expf(x[j] - top);
    return {top, a.sum};
}

__device__ __forceinline__ running merge_block(running mine) {
    SP_SHARED(float2, shared);
#pragma unroll
    for (int lanes = 16; lanes >= 1; lanes /= 2) {
        running other = {__shfl_xor_sync(SP_ALL_LANES, mine.top, lanes),
                         __shfl_xor_sync(SP_ALL_LANES, mine.sum, lanes)};
        /* The lower lane's first, in both: the same bits in all lanes. */
        mine = (int)threadIdx.x & lanes ? merge(other, mine) : merge(mine, other);
    }
    if (threadIdx.x % 32 == 0)
        sp_shared_store(&shared[threadIdx.x / 32], float2{mine.top, mine.sum});
    __syncthreads();
    float2 first = sp_shared_load(&shared[0]);
    running all = {first.x, first.y};
    for (int i = 1; i < WARPS; i++) {
        float2 next = sp_shared_load(&shared[i]);
        all = merge(all, running{next.x, next.y});
    }
    return all;
}

constexpr int64_t STRIDE = 32 * WARPS * CH;

/* Of a row that the block has. */
template <bool VEC> __device__ __forceinline__ running run_over(const float *row, int64_t n_class) {
    running mine = {-INFINITY, 0};
    for (int64_t i = (int64_t)threadIdx.x * CH; i < n_class; i += STRIDE) {
        const int n = sp_left<CH>(n_class, i);
        float x[CH];
        sp_load<CH, VEC>(x, row + i, n);
        mine = merge(mine, x, n);
    }
    return merge_block(mine);
}

template <bool VEC>
__global__ void __launch_bounds__(32 * WARPS)
    log_sum_exp(const float *x, int64_t ldx, int64_t n_class, float *out) {
    const running all = run_over<VEC>(x + blockIdx.x * ldx, n_class);
    if (threadIdx.x == 0) sp_write(out + blockIdx.x, all.top + logf(all.sum));
}

template <bool VEC> __global__ void __launch_bounds__(32 * WARPS) xent(const sp_xent a) {
    const int64_t row = blockIdx.x;
    const int32_t target = sp_read(&a.target[row]);
    float *logits = a.logits + row * a.ldl, x[CH];
    const running all = run_over<VEC>(logits, target >= 0 ? a.n_class : 0);
    if (threadIdx.x == 0) {
        float loss[1] = {0};
        if (target >= 0) {
            sp_load<1, false>(loss, logits + target, 1);
            loss[0] = logf(all.sum) - (loss[0] - all.top);
        }
        sp_store<1, false>(a.loss + row, loss, 1);
    }
    __syncthreads(); /* the target's logit has been read */
    const float factor = a.scale / all.sum;
    for (int64_t i = (int64_t)threadIdx.x * CH; i < a.n_class; i += STRIDE) {
        const int n = sp_left<CH>(a.n_class, i);
        if (target >= 0) sp_load<CH, VEC>(x, logits + i, n);
#pragma unroll
        for (int j = 0; j < CH; j++) {
            x[j] = target >= 0 && j < n ? expf(x[j] - all.top) * factor : 0;
            if (i + j == target) x[j] -= a.scale;
        }
        sp_store<CH, VEC>(logits + i, x, n);
    }
}

} // namespace

int sp_xent_cuda(const struct sp_xent *a, int64_t n_row, sp_cuda_stream stream) {
    if (n_row == 0) return 0;
    auto kernel = (uintptr_t)a->logits % 16 == 0 && a->ldl % CH == 0 ? xent<true> : xent<false>;
    SP_LAUNCH(kernel, dim3((unsigned)n_row), dim3(32 * WARPS), WARPS * sizeof(float2),
              static_cast<cudaStream_t>(stream), *a);
    return SP_LAST_ERROR();
}

int sp_log_sum_exp_cuda(const float *x, int64_t ldx, int64_t n_row, int64_t n_class, float *out,
                        sp_cuda_stream stream) {
    if (n_row == 0) return 0;
    auto kernel = (uintptr_t)x % 16 == 0 && ldx % CH == 0 ? log_sum_exp<true> : log_sum_exp<false>;
    SP_LAUNCH(kernel, dim3((unsigned)n_row), dim3(32 * WARPS), WARPS * sizeof(float2),
              static_cast<cudaStream_t>(stream), x, ldx, n_class, out);
    return SP_LAST_ERROR();
}
