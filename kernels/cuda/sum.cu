#include "sum.h"

namespace {

constexpr int THREADS = 128;

__global__ void __launch_bounds__(THREADS)
    sum_parts(float *to, const float *part, int64_t n_part, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float sum[1], x[1];
    sp_load<1, false>(sum, to + i, 1);
    if (SP_PLANTED("a part lost")) n_part--;
    for (int64_t p = 0; p < n_part; p++) {
        sp_load<1, false>(x, part + p * n + i, 1);
        sum[0] += x[0];
    }
    sp_store<1, false>(to + i, sum, 1);
}

} // namespace

int sp_sum_parts_cuda(float *to, const float *part, int64_t n_part, int64_t n,
                      cudaStream_t stream) {
    if (n == 0 || n_part == 0) return 0;
    dim3 grid((unsigned)((n + THREADS - 1) / THREADS));
    SP_LAUNCH(sum_parts, grid, dim3(THREADS), 0, stream, to, part, n_part, n);
    return SP_LAST_ERROR();
}
