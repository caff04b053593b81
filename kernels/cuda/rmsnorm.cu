/* RMSNorm with residual: a warp per row. The first 1024 columns of a row stay in registers between
 * its two passes; what is longer is read again. */
#include "block.h"
#include "launch.h"
#include "sum.h"

namespace {

/* Columns of one access, of 16 bytes of T (as many floats are one or two); what a warp takes at
 * once; accesses of a lane that stay in registers. */
template <class T> constexpr int CH_OF = 16 / (int)sizeof(T);
template <class T> constexpr int STRIDE_OF = 32 * CH_OF<T>;
template <class T> constexpr int KEEP_OF = 1024 / STRIDE_OF<T>;
constexpr int FWD_WARPS = 4, BWD_WARPS = 4; /* the latter at most */
constexpr int64_t BWD_BLOCKS = 256;         /* at most; each leaves a part of dw */

struct fwd_args {
    sp_rmsnorm a;
    int64_t n_row;
};
struct bwd_args {
    sp_rmsnorm a;
    sp_rmsnorm_grad g;
    float *part; /* (blocks, d) of dw, or NULL */
    int64_t n_row;
};

/* x += residual where there is one; leaves the sum in v and, then, in memory. */
template <class T, bool VEC>
__device__ __forceinline__ void load_sum(const sp_rmsnorm &a, int64_t row, int64_t col, int n,
                                         float (&v)[CH_OF<T>]) {
    constexpr int CH = CH_OF<T>;
    float *x = a.x + row * a.ldx + col;
    sp_load<CH, VEC>(v, x, n);
    if (!a.residual) return;
    float r[CH];
    sp_load<CH, VEC>(r, reinterpret_cast<const T *>(a.residual) + row * a.ldr + col, n);
#pragma unroll
    for (int i = 0; i < CH; i++) v[i] += r[i];
    sp_store<CH, VEC>(x, v, n);
}

template <class T, bool VEC>
__device__ __forceinline__ void store_normed(const sp_rmsnorm &a, int64_t row, int64_t col, int n,
                                             float (&v)[CH_OF<T>], float rstd) {
    constexpr int CH = CH_OF<T>;
    float w[CH];
#pragma unroll
    for (int i = 0; i < CH; i++) w[i] = 1;
    if (a.w) sp_load<CH, VEC>(w, a.w + col, n);
#pragma unroll
    for (int i = 0; i < CH; i++) v[i] = v[i] * rstd * w[i];
    sp_store<CH, VEC>(reinterpret_cast<T *>(a.y) + row * a.ldy + col, v, n);
}

template <class T, bool VEC>
__global__ void __launch_bounds__(32 * FWD_WARPS, 6) rmsnorm_fwd(const fwd_args k) {
    constexpr int CH = CH_OF<T>, STRIDE = STRIDE_OF<T>, KEEP = KEEP_OF<T>;
    const sp_rmsnorm &a = k.a;
    const int64_t row = (int64_t)blockIdx.x * FWD_WARPS + threadIdx.x / 32;
    const int64_t first = (int64_t)(threadIdx.x % 32) * CH;
    if (row >= k.n_row) return;
    float keep[KEEP][CH], v[CH], sum = 0;
#pragma unroll
    for (int p = 0; p < KEEP; p++) {
        int64_t col = first + p * STRIDE;
        load_sum<T, VEC>(a, row, col, sp_left<CH>(a.d, col), keep[p]);
#pragma unroll
        for (int i = 0; i < CH; i++) sum = fmaf(keep[p][i], keep[p][i], sum);
    }
    for (int64_t col = first + KEEP * STRIDE; col < a.d; col += STRIDE) {
        load_sum<T, VEC>(a, row, col, sp_left<CH>(a.d, col), v);
#pragma unroll
        for (int i = 0; i < CH; i++) sum = fmaf(v[i], v[i], sum);
    }
    float rstd[1] = {1 / sqrtf(sp_warp_sum(sum) / (float)a.d + a.eps)};
#pragma unroll
    for (int p = 0; p < KEEP; p++) {
        int64_t col = first + p * STRIDE;
        store_normed<T, VEC>(a, row, col, sp_left<CH>(a.d, col), keep[p], rstd[0]);
    }
    for (int64_t col = first + KEEP * STRIDE; col < a.d; col += STRIDE) {
        int n = sp_left<CH>(a.d, col);
        sp_load<CH, VEC>(v, a.x + row * a.ldx + col, n);
        store_normed<T, VEC>(a, row, col, n, v, rstd[0]);
    }
    if (a.rstd && first == 0) sp_store<1, false>(a.rstd + row, rstd, 1);
}

/* What backward reads of one access. */
template <class T> struct bwd_columns { float x[CH_OF<T>], dy[CH_OF<T>], w[CH_OF<T>]; };
template <class T, bool VEC>
__device__ __forceinline__ void load_columns(const bwd_args &k, int64_t row, int64_t col,
                                             bwd_columns<T> &c) {
    constexpr int CH = CH_OF<T>;
    const sp_rmsnorm &a = k.a;
    const int n = sp_left<CH>(a.d, col);
    sp_load<CH, VEC>(c.x, a.x + row * a.ldx + col, n);
    sp_load<CH, VEC>(c.dy, reinterpret_cast<const T *>(k.g.dy) + row * k.g.lddy + col, n);
#pragma unroll
    for (int i = 0; i < CH; i++) c.w[i] = 1;
    if (a.w) sp_load<CH, VEC>(c.w, a.w + col, n);
}
template <class T> __device__ __forceinline__ float add_dot(const bwd_columns<T> &c, float dot) {
#pragma unroll
    for (int i = 0; i < CH_OF<T>; i++) dot = fmaf(c.dy[i] * c.w[i], c.x[i], dot);
    return dot;
}
/* pull: rstd^2 * mean(u * x). */
template <class T, bool VEC>
__device__ __forceinline__ void add_columns(const bwd_args &k, int64_t row, int64_t col,
                                            const bwd_columns<T> &c, float rstd, float pull,
                                            float *dw) {
    constexpr int CH = CH_OF<T>;
    const int n = sp_left<CH>(k.a.d, col);
    float *dx = k.g.dx + row * k.g.lddx + col, v[CH];
    sp_load<CH, VEC>(v, dx, n);
#pragma unroll
    for (int i = 0; i < CH; i++) v[i] += rstd * (c.dy[i] * c.w[i] - c.x[i] * pull);
    sp_store<CH, VEC>(dx, v, n);
#pragma unroll
    for (int i = 0; i < CH; i++) {
        if (i >= n || !k.part) break;
        float sum = sp_shared_load(&dw[col + i]);
        sp_shared_store(&dw[col + i], fmaf(c.dy[i] * c.x[i], rstd, sum));
    }
}

/* With u = dy * w: dx += rstd * (u - x * rstd^2 * mean(u * x)), dw += dy * x * rstd. The sums of
 * dw over a warp's rows are in shared memory, (warps, d); a lane touches its own columns only. */
template <class T, bool VEC>
__global__ void __launch_bounds__(32 * BWD_WARPS, 3) rmsnorm_bwd(const bwd_args k) {
    constexpr int CH = CH_OF<T>, STRIDE = STRIDE_OF<T>, KEEP = KEEP_OF<T>;
    SP_SHARED(float, shared);
    const sp_rmsnorm &a = k.a;
    const int warps = (int)blockDim.x / 32, warp = (int)threadIdx.x / 32;
    const int64_t first = (int64_t)(threadIdx.x % 32) * CH, rest = first + KEEP * STRIDE;
    float *dw = shared + warp * a.d;
    for (int64_t col = first; col < a.d && k.part; col += STRIDE)
        for (int i = 0; i < sp_left<CH>(a.d, col); i++) sp_shared_store(&dw[col + i], 0.f);
    for (int64_t row = (int64_t)blockIdx.x * warps + warp; row < k.n_row;
         row += (int64_t)gridDim.x * warps) {
        bwd_columns<T> keep[KEEP], c;
        float dot = 0, rstd[1];
#pragma unroll
        for (int p = 0; p < KEEP; p++) {
            load_columns<T, VEC>(k, row, first + p * STRIDE, keep[p]);
            dot = add_dot(keep[p], dot);
        }
        for (int64_t col = rest; col < a.d; col += STRIDE) {
            load_columns<T, VEC>(k, row, col, c);
            dot = add_dot(c, dot);
        }
        sp_load<1, false>(rstd, a.rstd + row, 1);
        const float pull = sp_warp_sum(dot) / (float)a.d * rstd[0] * rstd[0];
#pragma unroll
        for (int p = 0; p < KEEP; p++)
            add_columns<T, VEC>(k, row, first + p * STRIDE, keep[p], rstd[0], pull, dw);
        for (int64_t col = rest; col < a.d; col += STRIDE) {
            load_columns<T, VEC>(k, row, col, c);
            add_columns<T, VEC>(k, row, col, c, rstd[0], pull, dw);
        }
    }
    if (!k.part) return;
    __syncthreads();
    for (int64_t col = threadIdx.x; col < a.d; col += blockDim.x) {
        float sum[1] = {0};
        for (int i = 0; i < warps; i++) sum[0] += sp_shared_load(&shared[i * a.d + col]);
        sp_store<1, false>(k.part + blockIdx.x * a.d + col, sum, 1);
    }
}

template <class T> bool aligned(const sp_rmsnorm &a, const sp_rmsnorm_grad *g) {
    uintptr_t wide = (uintptr_t)a.x | (uintptr_t)a.w,
              typed = (uintptr_t)a.residual | (uintptr_t)a.y;
    int64_t rows = a.d | a.ldx | (a.residual ? a.ldr : 0);
    if (g) {
        wide |= (uintptr_t)g->dx;
        typed = (uintptr_t)g->dy;
        rows |= g->lddx | g->lddy;
    } else {
        rows |= a.ldy;
    }
    return (wide | typed) % 16 == 0 && rows % CH_OF<T> == 0;
}

template <class T> int launch_fwd(const fwd_args &k, cudaStream_t stream) {
    auto kernel = aligned<T>(k.a, nullptr) ? rmsnorm_fwd<T, true> : rmsnorm_fwd<T, false>;
    dim3 grid((unsigned)((k.n_row + FWD_WARPS - 1) / FWD_WARPS));
    SP_LAUNCH(kernel, grid, dim3(32 * FWD_WARPS), 0, stream, k);
    return SP_LAST_ERROR();
}

/* Warps of a backward block: as many as keep dw within what a block gets unasked. */
int bwd_warps(int64_t d) {
    int64_t fit = (48 << 10) / (d * (int64_t)sizeof(float));
    return fit >= BWD_WARPS ? BWD_WARPS : fit >= 1 ? (int)fit : 1;
}
int64_t bwd_blocks(int64_t d, int64_t n_row) {
    int64_t n = (n_row + bwd_warps(d) - 1) / bwd_warps(d);
    return n < BWD_BLOCKS ? n : BWD_BLOCKS;
}

template <class T> int launch_bwd(const bwd_args &k, cudaStream_t stream) {
    auto kernel = aligned<T>(k.a, &k.g) ? rmsnorm_bwd<T, true> : rmsnorm_bwd<T, false>;
    const int warps = bwd_warps(k.a.d);
    const int shared = k.part ? warps * (int)k.a.d * (int)sizeof(float) : 0;
    if (shared > 48 << 10) {
        int error = SP_ALLOW_SHARED(kernel, shared);
        if (error) return error;
    }
    const int64_t n_block = bwd_blocks(k.a.d, k.n_row);
    SP_LAUNCH(kernel, dim3((unsigned)n_block), dim3((unsigned)(32 * warps)), (size_t)shared, stream,
              k);
    int error = SP_LAST_ERROR();
    if (error || !k.part) return error;
    return sp_sum_parts_cuda(k.g.dw, k.part, n_block, k.a.d, stream);
}

} // namespace

int sp_rmsnorm_fwd_cuda(const struct sp_rmsnorm *a, enum sp_cuda_type type, int64_t n_row,
                        sp_cuda_stream stream) {
    if (n_row == 0) return 0;
    fwd_args k = {*a, n_row};
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (type == SP_CUDA_BF16) return launch_fwd<sp_bf16>(k, on);
    if (type == SP_CUDA_F16) return launch_fwd<sp_half>(k, on);
    return launch_fwd<float>(k, on);
}

int64_t sp_rmsnorm_bwd_cuda_workspace(const struct sp_rmsnorm *a, int64_t n_row) {
    return bwd_blocks(a->d, n_row) * a->d;
}

int sp_rmsnorm_bwd_cuda(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g,
                        enum sp_cuda_type type, int64_t n_row, float *workspace,
                        sp_cuda_stream stream) {
    if (n_row == 0) return 0;
    bwd_args k = {*a, *g, g->dw ? workspace : nullptr, n_row};
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (type == SP_CUDA_BF16) return launch_bwd<sp_bf16>(k, on);
    if (type == SP_CUDA_F16) return launch_bwd<sp_half>(k, on);
    return launch_bwd<float>(k, on);
}
