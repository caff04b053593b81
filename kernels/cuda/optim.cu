/* What training does to all parameters at once: AdamW, and the sum of squares that clipping needs.
 */
#include "block.h"
#include "launch.h"

namespace {

constexpr int THREADS = 256, CH = 4;

template <bool VEC> __global__ void __launch_bounds__(THREADS) adamw(const sp_adamw a, int64_t n) {
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * CH;
    const int here = sp_left<CH>(n, i);
    if (here == 0) return;
    float param[CH], grad[CH], m[CH], v[CH];
    sp_load<CH, VEC>(param, a.param + i, here);
    sp_load<CH, VEC>(grad, a.grad + i, here);
    sp_load<CH, VEC>(m, a.m + i, here);
    sp_load<CH, VEC>(v, a.v + i, here);
#pragma unroll
    for (int c = 0; c < CH; c++) {
        const float g = grad[c] * a.grad_scale;
        m[c] = a.beta1 * m[c] + (1 - a.beta1) * g;
        v[c] = a.beta2 * v[c] + (1 - a.beta2) * g * g;
        const float step = (m[c] / a.bias1) / (sqrtf(v[c] / a.bias2) + a.eps);
        param[c] -= a.lr * (step + a.weight_decay * param[c]);
    }
    sp_store<CH, VEC>(a.param + i, param, here);
    sp_store<CH, VEC>(a.m + i, m, here);
    sp_store<CH, VEC>(a.v + i, v, here);
}

constexpr int WARPS = THREADS / 32;

/* Each block's part of the sum: a float's square is exact in double precision. */
template <bool VEC>
__global__ void __launch_bounds__(THREADS) sum_squares(const float *x, int64_t n, double *part) {
    SP_SHARED(double, shared);
    const int64_t stride = (int64_t)gridDim.x * THREADS * CH;
    double sum = 0;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * CH; i < n; i += stride) {
        float v[CH];
        sp_load<CH, VEC>(v, x + i, sp_left<CH>(n, i));
#pragma unroll
        for (int c = 0; c < CH; c++) sum += (double)v[c] * (double)v[c];
    }
    sum = sp_warp_sum(sum);
    if (threadIdx.x % 32 == 0) sp_shared_store(&shared[threadIdx.x / 32], sum);
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int i = 1; i < WARPS; i++) sum += sp_shared_load(&shared[i]);
    sp_write(part + blockIdx.x, sum);
}

/* One warp. */
__global__ void __launch_bounds__(32) add_doubles(const double *part, int64_t n, double *out) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += 32) sum += sp_read(&part[i]);
    sum = sp_warp_sum(sum);
    if (threadIdx.x == 0) sp_write(out, sum);
}

} // namespace

int sp_adamw_cuda(const struct sp_adamw *a, int64_t n, sp_cuda_stream stream) {
    if (n == 0) return 0;
    const uintptr_t all =
        (uintptr_t)a->param | (uintptr_t)a->m | (uintptr_t)a->v | (uintptr_t)a->grad;
    auto kernel = all % 16 == 0 ? adamw<true> : adamw<false>;
    dim3 grid((unsigned)((n + THREADS * CH - 1) / (THREADS * CH)));
    SP_LAUNCH(kernel, grid, dim3(THREADS), 0, static_cast<cudaStream_t>(stream), *a, n);
    return SP_LAST_ERROR();
}

int64_t sp_sum_squares_cuda_workspace(int64_t n) {
    const int64_t of_block = THREADS * CH * 4, n_block = (n + of_block - 1) / of_block;
    return n_block < 1 ? 1 : n_block > 1024 ? 1024 : n_block;
}

int sp_sum_squares_cuda(const float *x, int64_t n, double *workspace, double *out,
                        sp_cuda_stream stream) {
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    const int64_t n_block = sp_sum_squares_cuda_workspace(n);
    auto kernel = (uintptr_t)x % 16 == 0 ? sum_squares<true> : sum_squares<false>;
    SP_LAUNCH(kernel, dim3((unsigned)n_block), dim3(THREADS), WARPS * sizeof(double), on, x, n,
              workspace);
    int error = SP_LAST_ERROR();
    if (error) return error;
    SP_LAUNCH(add_doubles, dim3(1), dim3(32), 0, on, workspace, n_block, out);
    return SP_LAST_ERROR();
}
