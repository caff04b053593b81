/* A product of few rows, bound by reading the matrix once: a warp per output and ROWS rows, lanes
 * over the inputs. Each row's sum is made in the same order whatever is beside it. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int WARPS = 4, ROWS = 8;

template <class W, bool VEC>
__global__ void __launch_bounds__(32 * WARPS) matvec(const sp_cuda_matvec a) {
    constexpr int CH = 16 / (int)sizeof(W); /* inputs of one access */
    const int64_t o = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int64_t row0 = (int64_t)blockIdx.y * ROWS;
    if (o >= a.d_out) return; /* the whole warp */
    const W *w = static_cast<const W *>(a.w) + o * a.ldw;
    const int n_row = sp_left<ROWS>(a.n_row, row0);
    float sum[ROWS] = {};
    for (int64_t i = threadIdx.x % 32 * CH; i < a.d_in; i += 32 * CH) {
        const int n = sp_left<CH>(a.d_in, i);
        float m[CH], x[CH];
        sp_load<CH, VEC>(m, w + i, n);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= n_row) break;
            sp_load<CH, VEC>(x, a.x + (row0 + r) * a.ldx + i, n);
#pragma unroll
            for (int c = 0; c < CH; c++)
                sum[r] = fmaf(a.round_x ? sp_rounded<W>(x[c]) : x[c], m[c], sum[r]);
        }
    }
    float bias = a.bias ? sp_read(a.bias + o) : 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r >= n_row) break;
        const float total = sp_warp_sum(sum[r]) + bias;
        float *y = a.y + (row0 + r) * a.ldy + o;
        if (threadIdx.x % 32 == 0) sp_write(y, a.add ? sp_read(y) + total : total);
    }
}

template <class W> bool aligned(const sp_cuda_matvec &a) {
    return ((uintptr_t)a.w | (uintptr_t)a.x) % 16 == 0 && a.ldw * (int64_t)sizeof(W) % 16 == 0 &&
           a.ldx % 4 == 0;
}

} // namespace

int sp_matvec_cuda(const struct sp_cuda_matvec *a, sp_cuda_stream stream) {
    if (a->n_row == 0 || a->d_out == 0) return 0;
    return sp_by_type(a->w_type, [&](auto w) {
        using W = decltype(w);
        auto kernel = aligned<W>(*a) ? matvec<W, true> : matvec<W, false>;
        dim3 grid((unsigned)((a->d_out + WARPS - 1) / WARPS),
                  (unsigned)((a->n_row + ROWS - 1) / ROWS));
        SP_LAUNCH(kernel, grid, dim3(32 * WARPS), 0, static_cast<cudaStream_t>(stream), *a);
        return (int)SP_LAST_ERROR();
    });
}
