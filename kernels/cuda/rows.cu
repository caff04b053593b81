/* Rows as products need them: converted to another type, a bias added. */
#include "launch.h"
#include "port.h"

namespace {

constexpr int THREADS = 128, CH = 8;

/* A thread's place in rows of d: a block takes THREADS * CH columns of one row. */
struct place {
    int64_t row, col;
    int n;
};
__device__ __forceinline__ place my_place(int64_t d) {
    place p;
    p.row = blockIdx.x;
    p.col = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * CH;
    p.n = sp_left<CH>(d, p.col);
    return p;
}
dim3 grid_of(int64_t n_row, int64_t d) {
    return dim3((unsigned)n_row, (unsigned)((d + THREADS * CH - 1) / (THREADS * CH)));
}

template <class TO, class FROM, bool VEC>
__global__ void __launch_bounds__(THREADS)
    convert(TO *to, int64_t ld_to, const FROM *from, int64_t ld_from, int64_t d) {
    const place p = my_place(d);
    float v[CH];
    sp_load<CH, VEC>(v, from + p.row * ld_from + p.col, p.n);
    sp_store<CH, VEC>(to + p.row * ld_to + p.col, v, p.n);
}

template <bool VEC>
__global__ void __launch_bounds__(THREADS)
    add_bias(float *y, int64_t ldy, int64_t d, const float *bias) {
    const place p = my_place(d);
    float v[CH], b[CH];
    sp_load<CH, VEC>(v, y + p.row * ldy + p.col, p.n);
    sp_load<CH, VEC>(b, bias + p.col, p.n);
#pragma unroll
    for (int i = 0; i < CH; i++) v[i] += b[i];
    sp_store<CH, VEC>(y + p.row * ldy + p.col, v, p.n);
}

bool rows_aligned(const void *p, size_t size, int64_t ld) {
    return (uintptr_t)p % 16 == 0 && (size_t)ld * size % 16 == 0;
}

} // namespace

int sp_convert_cuda(void *to, enum sp_cuda_type to_type, int64_t ld_to, const void *from,
                    enum sp_cuda_type from_type, int64_t ld_from, int64_t n_row, int64_t d,
                    sp_cuda_stream stream) {
    if (n_row == 0 || d == 0) return 0;
    return sp_by_type(to_type, [&](auto t) {
        return sp_by_type(from_type, [&](auto f) {
            using TO = decltype(t);
            using FROM = decltype(f);
            bool wide =
                rows_aligned(to, sizeof(TO), ld_to) && rows_aligned(from, sizeof(FROM), ld_from);
            auto kernel = wide ? convert<TO, FROM, true> : convert<TO, FROM, false>;
            SP_LAUNCH(kernel, grid_of(n_row, d), dim3(THREADS), 0,
                      static_cast<cudaStream_t>(stream), static_cast<TO *>(to), ld_to,
                      static_cast<const FROM *>(from), ld_from, d);
            return (int)SP_LAST_ERROR();
        });
    });
}

int sp_add_bias_cuda(float *y, int64_t ldy, int64_t n_row, int64_t d, const float *bias,
                     sp_cuda_stream stream) {
    if (n_row == 0 || d == 0) return 0;
    bool wide = rows_aligned(y, sizeof *y, ldy) && rows_aligned(bias, sizeof *bias, 0);
    auto kernel = wide ? add_bias<true> : add_bias<false>;
    SP_LAUNCH(kernel, grid_of(n_row, d), dim3(THREADS), 0, static_cast<cudaStream_t>(stream), y,
              ldy, d, bias);
    return SP_LAST_ERROR();
}
