/* Decode: one token of each sequence. A channel's states are spread over 4 threads, 4 states at a
 * time, so that a warp's accesses to the states of its 8 channels are of whole lines; what belongs
 * to the channel alone (delta, gate) is computed by one of them and handed round.
 *
 * The whole mixer's step is two kernels, since dt, B and C are sums over all channels. The first
 * takes SLICE channels of ROWS sequences: convolution step, then the slice's share of the x_proj
 * product. The second takes 32 channels of ROWS sequences: adds the shares, always in the order of
 * the slices, then dt_proj, softplus, states, gate. Each weight is read once per ROWS sequences. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int LANES = 4; /* threads of a channel */
constexpr int GROUP = 4; /* states of one access */
constexpr int BLOCK_CH = THREADS / LANES;

template <class T> __device__ __forceinline__ const T *as(const float *p) {
    return reinterpret_cast<const T *>(p);
}

/* A thread's channel, and which of its threads it is. */
struct place {
    int64_t c;
    int lane;
    bool here; /* the channel exists */
};
__device__ __forceinline__ place my_place(int64_t d_inner) {
    place p;
    p.c = (int64_t)blockIdx.y * BLOCK_CH + threadIdx.x / LANES;
    p.lane = (int)threadIdx.x % LANES;
    p.here = p.c < d_inner;
    return p;
}
/* x of thread r of this thread's channel. */
__device__ __forceinline__ float from_lane(float x, int r) {
    return __shfl_sync(SP_ALL_LANES, x, r, LANES);
}

/* One token of R sequences for the thread's share of its channel's states: y[r] = sum of C h, of
 * all states, in all threads of the channel. from, to: the channel's states (from NULL: zeros; to
 * NULL: not wanted). load(r, n0, n, B, C) gives B and C of sequence r and n states from n0 on. */
template <int R, bool VEC, class LOAD>
__device__ __forceinline__ void step_states(const place &p, const float *A_row, int64_t d_state,
                                            int n_row, const float (&delta)[R],
                                            const float (&dx)[R], const float *const (&from)[R],
                                            float *const (&to)[R], LOAD load, float (&y)[R]) {
#pragma unroll
    for (int r = 0; r < R; r++) y[r] = 0;
    for (int64_t n0 = p.lane * GROUP; n0 < d_state; n0 += LANES * GROUP) {
        const int n = p.here ? sp_left<GROUP>(d_state, n0) : 0;
        float A[GROUP], B[GROUP], C[GROUP], h[GROUP];
        sp_load<GROUP, VEC>(A, A_row + n0, n);
#pragma unroll
        for (int r = 0; r < R; r++) {
            if (r >= n_row) break;
            load(r, n0, n, B, C);
            sp_load<GROUP, VEC>(h, from[r] ? from[r] + n0 : A_row, from[r] ? n : 0);
#pragma unroll
            for (int j = 0; j < GROUP; j++) {
                h[j] = fmaf(sp_exp2(delta[r] * (A[j] * SP_LOG2E)), h[j], dx[r] * B[j]);
                y[r] = fmaf(C[j], h[j], y[r]);
            }
            if (to[r]) sp_store<GROUP, VEC>(to[r] + n0, h, n);
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++)
        if (r < n_row) y[r] = sp_warp_sum<LANES>(y[r]);
}

template <class T, bool VEC> __global__ void __launch_bounds__(THREADS) scan_step(const sp_scan a) {
    const place p = my_place(a.d_inner);
    const int64_t seq = blockIdx.x, at = p.c * a.d_state;
    const float *state = a.state_in ? sp_warp_read(&a.state_in[seq]) : nullptr;
    float *state_out = a.state_out ? sp_warp_read(&a.state_out[seq]) : nullptr;
    float x[1] = {0}, dt[1] = {0};
    if (p.lane == 0 && p.here) {
        sp_load<1, false>(x, as<T>(a.x) + seq * a.ldx + p.c, 1);
        sp_load<1, false>(dt, as<T>(a.dt) + seq * a.lddt + p.c, 1);
        dt[0] = sp_softplus(dt[0] + (a.dt_bias ? sp_read(&a.dt_bias[p.c]) : 0));
    }
    const float delta[1] = {from_lane(dt[0], 0)}, dx[1] = {from_lane(dt[0] * x[0], 0)};
    const float *const from[1] = {state ? state + at : nullptr};
    float *const to[1] = {state_out ? state_out + at : nullptr};
    float y[1];
    step_states<1, VEC>(
        p, a.A + at, a.d_state, 1, delta, dx, from, to,
        [&](int, int64_t n0, int n, float(&B)[GROUP], float(&C)[GROUP]) {
            sp_load<GROUP, VEC>(B, as<T>(a.B) + seq * a.ldb + n0, n);
            sp_load<GROUP, VEC>(C, as<T>(a.C) + seq * a.ldc + n0, n);
        },
        y);
    if (p.lane > 0 || !p.here) return;
    if (a.D) y[0] = fmaf(sp_read(&a.D[p.c]), x[0], y[0]);
    if (a.z) {
        float z[1];
        sp_load<1, false>(z, as<T>(a.z) + seq * a.ldz + p.c, 1);
        y[0] *= z[0] * sp_sigmoid(z[0]);
    }
    sp_store<1, false>(reinterpret_cast<T *>(a.y) + seq * a.ldy + p.c, y, 1);
}

/* ---- the whole mixer -------------------------------------------------------------------------*/

constexpr int ROWS = 4;        /* sequences of a block */
constexpr int CH = 4;          /* channels of a thread in the convolution: a warp has a sequence */
constexpr int SLICE = 32 * CH; /* channels of a block of the first kernel */
static_assert(ROWS == WARPS && ROWS == LANES, "a warp, or a channel's thread, per sequence");

struct args {
    sp_mixer_step a;
    float *x;    /* (n_seq, d_inner): the convolution's output */
    float *part; /* (slices, n_seq, n_out): shares of dt, B, C before dt_proj */
    int64_t n_out, n_slice;
};

/* The convolution's step of one sequence and the thread's channels: x is left in xc, the state is
 * moved on, row by row from the oldest. */
template <bool VEC>
__device__ __forceinline__ void conv_step(const sp_mixer_step &a, int64_t seq, int64_t c0, int n_ch,
                                          float (&xc)[CH]) {
    float *state = sp_warp_read(&a.conv_state[seq]), row[CH], w[CH][GROUP];
#pragma unroll
    for (int v = 0; v < CH; v++) xc[v] = 0;
    if (a.conv_bias) sp_load<CH, VEC>(xc, a.conv_bias + c0, n_ch);
    for (int64_t k0 = 0; k0 < a.d_conv; k0 += GROUP) {
        const int n_tap = sp_left<GROUP>(a.d_conv, k0);
#pragma unroll
        for (int v = 0; v < CH; v++)
            sp_load<GROUP, VEC>(w[v], a.conv_w + (c0 + v) * a.d_conv + k0, v < n_ch ? n_tap : 0);
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            if (i >= n_tap) break;
            const int64_t k = k0 + i;
            const float *from = k < a.d_conv - 1 ? state + k * a.d_inner : a.xz + seq * a.ldxz;
            sp_load<CH, VEC>(row, from + c0, n_ch);
#pragma unroll
            for (int v = 0; v < CH; v++) xc[v] = fmaf(w[v][i], row[v], xc[v]);
            if (k > 0 && !SP_PLANTED("state not moved on"))
                sp_store<CH, VEC>(state + (k - 1) * a.d_inner + c0, row, n_ch);
        }
    }
#pragma unroll
    for (int v = 0; v < CH; v++) xc[v] *= sp_sigmoid(xc[v]);
}

template <class W, bool VEC> __global__ void __launch_bounds__(THREADS) mixer_conv(const args k) {
    constexpr int N = 16 / (int)sizeof(W); /* weights of one access */
    constexpr int OUT_LANES = SLICE / N, OUTS = 32 / OUT_LANES;
    SP_SHARED(float4, shared); /* (ROWS, SLICE) floats */
    const sp_mixer_step &a = k.a;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int64_t seq0 = (int64_t)blockIdx.x * ROWS, slice0 = (int64_t)blockIdx.y * SLICE;
    const int n_row = sp_left<ROWS>(a.n_seq, seq0);
    if (warp < n_row) {
        const int64_t c0 = slice0 + lane * CH;
        const int n_ch = sp_left<CH>(a.d_inner, c0);
        float xc[CH];
        conv_step<VEC>(a, seq0 + warp, c0, n_ch, xc);
        sp_store<CH, VEC>(k.x + (seq0 + warp) * a.d_inner + c0, xc, n_ch);
#pragma unroll
        for (int v = 0; v < CH; v++)
            if (a.round_inputs) xc[v] = sp_rounded<W>(xc[v]);
        sp_shared_store(&shared[warp * 32 + lane], float4{xc[0], xc[1], xc[2], xc[3]});
    }
    __syncthreads();
    const int col = lane % OUT_LANES * N;
    for (int64_t o0 = warp * OUTS; o0 < k.n_out; o0 += WARPS * OUTS) {
        const int64_t o = o0 + lane / OUT_LANES;
        const int n = o < k.n_out ? sp_left<N>(a.d_inner, slice0 + col) : 0;
        float w[N];
        sp_load<N, VEC>(w, static_cast<const W *>(a.x_proj) + o * a.d_inner + slice0 + col, n);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= n_row) break;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < N; i += 4) {
                const float4 x = sp_shared_load(&shared[r * 32 + (col + i) / 4]);
                sum = fmaf(x.x, w[i], sum);
                sum = fmaf(x.y, w[i + 1], sum);
                sum = fmaf(x.z, w[i + 2], sum);
                sum = fmaf(x.w, w[i + 3], sum);
            }
            sum = sp_warp_sum<OUT_LANES>(sum);
            if (lane % OUT_LANES == 0 && n > 0)
                sp_write(k.part + (blockIdx.y * a.n_seq + seq0 + r) * k.n_out + o, sum);
        }
    }
}

/* A block's dt (before dt_proj), B and C in shared memory, per sequence; the three parts start at
 * multiples of an access, and what is between them is zero. */
struct layout {
    int64_t dt_ld, n_ld, row_ld;
};
__host__ __device__ inline layout layout_of(int64_t dt_rank, int64_t d_state) {
    const int64_t dt_ld = (dt_rank + 7) / 8 * 8, n_ld = (d_state + 3) / 4 * 4;
    return {dt_ld, n_ld, dt_ld + 2 * n_ld};
}

/* Adds the slices' shares up. */
__device__ __forceinline__ void add_shares(const args &k, const layout &l, int64_t seq0, int n_row,
                                           float *shared) {
    const sp_mixer_step &a = k.a;
    for (int64_t i = threadIdx.x; i < n_row * l.row_ld; i += THREADS) {
        const int64_t r = i / l.row_ld, at = i % l.row_ld;
        const int64_t part = at < l.dt_ld ? 0 : at < l.dt_ld + l.n_ld ? 1 : 2;
        const int64_t j = part == 0 ? at : (at - l.dt_ld) % l.n_ld;
        float sum = 0;
        if (j < (part == 0 ? a.dt_rank : a.d_state)) {
            const int64_t o = j + (part == 0 ? 0 : a.dt_rank + (part - 1) * a.d_state);
            const int64_t first = k.n_slice > 1 && SP_PLANTED("a slice lost");
            for (int64_t s = first; s < k.n_slice; s++)
                sum += sp_read(k.part + (s * a.n_seq + seq0 + r) * k.n_out + o);
        }
        sp_shared_store(&shared[i], sum);
    }
}

/* Falcon-Mamba: each part of each row to a root mean square of one; a warp takes one at a time. */
__device__ __forceinline__ void normalise_parts(const args &k, const layout &l, int n_row,
                                                float *shared) {
    const int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x / 32; i < 3 * n_row; i += WARPS) {
        const int part = i % 3;
        float *x = shared + i / 3 * l.row_ld + (part ? l.dt_ld + (part - 1) * l.n_ld : 0), sum = 0;
        const int64_t n = part ? k.a.d_state : k.a.dt_rank;
        for (int64_t j = lane; j < n; j += 32) {
            const float v = sp_shared_load(&x[j]);
            sum = fmaf(v, v, sum);
        }
        const float rstd = 1 / sqrtf(sp_warp_sum(sum) / (float)n + k.a.part_norm_eps);
        for (int64_t j = lane; j < n; j += 32) sp_shared_store(&x[j], sp_shared_load(&x[j]) * rstd);
    }
}

/* dt_proj's output for the thread's channel, of all ROWS sequences, in all its threads. */
template <class W, bool VEC>
__device__ __forceinline__ void project_dt(const args &k, const layout &l, const place &p,
                                           int n_row, const float *shared, float (&dt)[ROWS]) {
    constexpr int N = 16 / (int)sizeof(W);
    const sp_mixer_step &a = k.a;
#pragma unroll
    for (int r = 0; r < ROWS; r++) dt[r] = 0;
    for (int64_t i = p.lane * N; i < a.dt_rank; i += LANES * N) {
        float w[N];
        const int n = p.here ? sp_left<N>(a.dt_rank, i) : 0;
        sp_load<N, VEC>(w, static_cast<const W *>(a.dt_proj) + p.c * a.dt_rank + i, n);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= n_row) break;
#pragma unroll
            for (int j = 0; j < N; j += 4) {
                const float4 v =
                    sp_shared_load(reinterpret_cast<const float4 *>(shared + r * l.row_ld + i + j));
                const float x[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int m = 0; m < 4; m++)
                    dt[r] = fmaf(a.round_inputs ? sp_rounded<W>(x[m]) : x[m], w[j + m], dt[r]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < n_row) dt[r] = sp_warp_sum<LANES>(dt[r]);
}

__device__ __forceinline__ float pick(const float (&x)[ROWS], int r) {
    return r == 0 ? x[0] : r == 1 ? x[1] : r == 2 ? x[2] : x[3];
}

template <class W, bool VEC>
__global__ void __launch_bounds__(THREADS, 4) mixer_state(const args k) {
    SP_SHARED(float, shared); /* (ROWS, row_ld) */
    const sp_mixer_step &a = k.a;
    const layout l = layout_of(a.dt_rank, a.d_state);
    const place p = my_place(a.d_inner);
    const int64_t seq0 = (int64_t)blockIdx.x * ROWS;
    const int n_row = sp_left<ROWS>(a.n_seq, seq0);
    add_shares(k, l, seq0, n_row, shared);
    __syncthreads();
    if (a.part_norm_eps >= 0) {
        normalise_parts(k, l, n_row, shared);
        __syncthreads();
    }
    float dt[ROWS], delta[ROWS], dx[ROWS], y[ROWS];
    project_dt<W, VEC>(k, l, p, n_row, shared, dt);
    /* Thread r of a channel has sequence r's softplus, D, gate and output. */
    const bool mine = p.here && p.lane < n_row;
    const int64_t row = seq0 + p.lane;
    const float x = mine ? sp_read(&k.x[row * a.d_inner + p.c]) : 0;
    const float bias = mine && a.dt_bias ? sp_read(&a.dt_bias[p.c]) : 0;
    const float my_delta = sp_softplus(pick(dt, p.lane) + bias);
    float *states[ROWS];
    const float *from[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        delta[r] = from_lane(my_delta, r);
        dx[r] = from_lane(my_delta * x, r);
        states[r] = r < n_row ? sp_warp_read(&a.ssm_state[seq0 + r]) + p.c * a.d_state : nullptr;
        from[r] = states[r];
    }
    step_states<ROWS, VEC>(
        p, a.A + p.c * a.d_state, a.d_state, n_row, delta, dx, from, states,
        [&](int r, int64_t n0, int, float(&B)[GROUP], float(&C)[GROUP]) {
            const float *at = shared + r * l.row_ld + l.dt_ld + n0;
            const float4 b = sp_shared_load(reinterpret_cast<const float4 *>(at));
            const float4 c = sp_shared_load(reinterpret_cast<const float4 *>(at + l.n_ld));
            B[0] = b.x, B[1] = b.y, B[2] = b.z, B[3] = b.w;
            C[0] = c.x, C[1] = c.y, C[2] = c.z, C[3] = c.w;
        },
        y);
    if (!mine) return;
    const float z = sp_read(&a.xz[row * a.ldxz + a.d_inner + p.c]);
    const float D = a.D ? sp_read(&a.D[p.c]) : 0;
    sp_write(&a.y[row * a.ldy + p.c], fmaf(D, x, pick(y, p.lane)) * z * sp_sigmoid(z));
}

/* Whether every access can be of a whole pack; states as in scan_fwd.cu. */
template <class T> bool aligned(const sp_scan &a) {
    const uintptr_t typed = (uintptr_t)a.B | (uintptr_t)a.C;
    return typed % (sizeof(T) * GROUP) == 0 && (uintptr_t)a.A % 16 == 0 &&
           (a.ldb | a.ldc | a.d_state) % GROUP == 0;
}
template <class W> bool weight_aligned(const void *w, int64_t ldw) {
    return (uintptr_t)w % 16 == 0 && ldw * (int64_t)sizeof(W) % 16 == 0;
}
/* But for the weights. */
bool aligned(const args &k) {
    const sp_mixer_step &a = k.a;
    const uintptr_t all = (uintptr_t)a.xz | (uintptr_t)a.conv_w | (uintptr_t)a.conv_bias |
                          (uintptr_t)a.A | (uintptr_t)k.x;
    const int64_t floats = a.d_inner | a.d_state | a.ldxz;
    return all % 16 == 0 && floats % 4 == 0 && (a.d_conv < GROUP || a.d_conv % GROUP == 0);
}

int64_t slices_of(const sp_mixer_step &a) {
    return (a.d_inner + SLICE - 1) / SLICE;
}

unsigned row_groups(const args &k) {
    return (unsigned)((k.a.n_seq + ROWS - 1) / ROWS);
}

template <class W> int launch_conv(const args &k, cudaStream_t stream) {
    const bool wide = aligned(k) && weight_aligned<W>(k.a.x_proj, k.a.d_inner);
    auto kernel = wide ? mixer_conv<W, true> : mixer_conv<W, false>;
    SP_LAUNCH(kernel, dim3(row_groups(k), (unsigned)k.n_slice), dim3(THREADS),
              ROWS * SLICE * sizeof(float), stream, k);
    return SP_LAST_ERROR();
}

template <class W> int launch_state(const args &k, cudaStream_t stream) {
    const bool wide = aligned(k) && weight_aligned<W>(k.a.dt_proj, k.a.dt_rank);
    auto kernel = wide ? mixer_state<W, true> : mixer_state<W, false>;
    const size_t shared = ROWS * (size_t)layout_of(k.a.dt_rank, k.a.d_state).row_ld * sizeof(float);
    if (shared > 48 << 10) {
        int error = SP_ALLOW_SHARED(kernel, (int)shared);
        if (error) return error;
    }
    SP_LAUNCH(kernel, dim3(row_groups(k), (unsigned)((k.a.d_inner + BLOCK_CH - 1) / BLOCK_CH)),
              dim3(THREADS), shared, stream, k);
    return SP_LAST_ERROR();
}

} // namespace

int sp_scan_step_cuda(const struct sp_scan *a, enum sp_cuda_type type, sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    return sp_by_type(type, [&](auto t) {
        using T = decltype(t);
        auto kernel = aligned<T>(*a) ? scan_step<T, true> : scan_step<T, false>;
        dim3 grid((unsigned)a->n_seq, (unsigned)((a->d_inner + BLOCK_CH - 1) / BLOCK_CH));
        SP_LAUNCH(kernel, grid, dim3(THREADS), 0, static_cast<cudaStream_t>(stream), *a);
        return (int)SP_LAST_ERROR();
    });
}

int64_t sp_mixer_step_cuda_workspace(const struct sp_mixer_step *a) {
    return a->n_seq * (a->d_inner + slices_of(*a) * (a->dt_rank + 2 * a->d_state));
}

int sp_mixer_step_cuda(const struct sp_mixer_step *a, float *workspace, sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    args k = {*a, workspace, workspace + a->n_seq * a->d_inner, a->dt_rank + 2 * a->d_state,
              slices_of(*a)};
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    int error = sp_by_type(a->x_type, [&](auto w) { return launch_conv<decltype(w)>(k, on); });
    if (error) return error;
    return sp_by_type(a->dt_type, [&](auto w) { return launch_state<decltype(w)>(k, on); });
}
