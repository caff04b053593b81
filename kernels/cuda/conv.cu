/* The causal convolution with SiLU, forward and backward.
 *
 * As in the plain C path, state and x are one sequence of "extended rows": row e is the state's for
 * e < d_conv - 1, and x's row e - (d_conv - 1) after that; token t reads rows t .. t + d_conv - 1.
 * A thread owns CH channels and a run of tokens, and slides a window of W rows over it in
 * registers; of 16-bit types its 4 channels are 8 bytes of a row, and neighbours read and write 16
 * together, of two rows (block.h). W is 4, 8 or 16, and a width in between a convolution of W whose
 * first taps are not there; windows of 16 rows leave room for one channel of a thread only. A
 * sequence's runs are spread over the block's warps and over blocks (grid.z); only its first run
 * reads the state, so the threads that have it also write the final one, which may be the same
 * buffer. */
#include "block.h"
#include "launch.h"
#include "sum.h"

namespace {

constexpr int WARPS = 4;

/* Tokens of a thread at a time (W - 1 rows before them are read, too); and by the window's width,
 * channels of a thread, and how many blocks should fit on a multiprocessor. More blocks, or longer
 * runs forward, made kernels spill. */
constexpr int RUN_FWD = 16;
template <int W> constexpr int CHANNELS = W > 8 ? 1 : 4;
template <int W> constexpr int RUN_BWD = W > 8 ? 64 : 32;
template <int W, bool VEC> constexpr int BLOCKS_FWD = W == 4 && VEC ? 6 : 4;
template <int W> constexpr int BLOCKS_BWD = W == 8 ? 2 : 3;

struct args {
    sp_conv a;
    sp_conv_grad g;
    float *part; /* backward: (n_seq * gridDim.z * WARPS, d_inner, d_conv + 1): dw and dbias */
};

/* A thread's channels and the sequence it works on. */
template <int CH> struct place {
    int64_t c0, seq, start, len, n_state;
    int n_ch, first_tap;
};
template <int W, int CH> __device__ __forceinline__ place<CH> my_place(const sp_conv &a) {
    place<CH> p;
    p.seq = blockIdx.x;
    p.start = sp_read(&a.cu_seqlens[p.seq]);
    p.len = sp_read(&a.cu_seqlens[p.seq + 1]) - p.start;
    p.c0 = ((int64_t)blockIdx.y * 32 + threadIdx.x % 32) * CH;
    p.n_ch = sp_left<CH>(a.d_inner, p.c0);
    p.n_state = a.d_conv - 1;
    p.first_tap = W - (int)a.d_conv;
    return p;
}

/* Extended row e of a state and of rows of T that begin with the sequence; zeros where there is
 * none. */
template <class T, int CH, bool VEC>
__device__ __forceinline__ void load_row(const place<CH> &p, const float *state, int64_t d_inner,
                                         const T *x, int64_t ldx, int64_t e, float (&row)[CH]) {
    if (e >= p.n_state) {
        int n = e - p.n_state < p.len ? p.n_ch : 0;
        sp_load<CH, VEC>(row, x + (e - p.n_state) * ldx + p.c0, n);
    } else {
        bool there = state && e >= 0;
        sp_load<CH, VEC>(row, there ? state + e * d_inner + p.c0 : state, there ? p.n_ch : 0);
    }
}

/* The taps of the thread's channels, w[k][v]; those before first_tap are zero. */
template <int W, int CH, bool VEC>
__device__ __forceinline__ void load_taps(const sp_conv &a, const place<CH> &p, float (&w)[W][CH]) {
    if (VEC && p.first_tap == 0) {
        float taps[W];
#pragma unroll
        for (int v = 0; v < CH; v++) {
            sp_load<W, true>(taps, a.w + (p.c0 + v) * W, v < p.n_ch ? W : 0);
#pragma unroll
            for (int k = 0; k < W; k++) w[k][v] = taps[k];
        }
        return;
    }
#pragma unroll
    for (int k = 0; k < W; k++)
#pragma unroll
        for (int v = 0; v < CH; v++) {
            w[k][v] = 0;
            if (k >= p.first_tap && v < p.n_ch)
                w[k][v] = sp_read(&a.w[(p.c0 + v) * a.d_conv + k - p.first_tap]);
        }
}

template <int W, int CH>
__device__ __forceinline__ float before_silu(const float (&window)[W][CH], const float (&w)[W][CH],
                                             int first_tap, float bias, int v) {
    float sum = bias;
#pragma unroll
    for (int k = 0; k < W; k++)
        if (k >= first_tap) sum = fmaf(w[k][v], window[k][v], sum);
    return sum;
}

template <int W, int CH>
__device__ __forceinline__ void slide(float (&window)[W][CH], const float (&next)[CH]) {
#pragma unroll
    for (int v = 0; v < CH; v++) {
#pragma unroll
        for (int k = 0; k + 1 < W; k++) window[k][v] = window[k + 1][v];
        window[W - 1][v] = next[v];
    }
}

/* How many rows are read and written together. */
template <class T, int CH, bool VEC> constexpr int ROWS = VEC ? sp_row_group<T, CH> : 1;

/* Whose run of RUN tokens starts where: run r belongs to a warp of block r / WARPS. */
#define FOR_RUNS(t0, len, RUN)                                                                     \
    for (int64_t t0 = ((int64_t)blockIdx.z * WARPS + threadIdx.x / 32) * (RUN); t0 < (len);        \
         t0 += (int64_t)gridDim.z * WARPS * (RUN))

/* Each thread moves its channels, from the oldest row up: one buffer may be both states. */
template <class T, int CH, bool VEC>
__device__ void store_final(const sp_conv &a, const place<CH> &p, const float *from, float *to) {
    const T *x = reinterpret_cast<const T *>(a.x) + p.start * a.ldx;
    float row[CH];
    for (int64_t i = 0; i < p.n_state; i++) {
        const int64_t j = SP_PLANTED("state from the newest row") ? p.n_state - 1 - i : i;
        load_row<T, CH, VEC>(p, from, a.d_inner, x, a.ldx, p.len + j, row);
        sp_store<CH, VEC>(to + j * a.d_inner + p.c0, row, p.n_ch);
    }
}

template <class T, int W, bool VEC>
__global__ void __launch_bounds__(32 * WARPS, BLOCKS_FWD<W, VEC>) conv_fwd(const args k) {
    constexpr int CH = CHANNELS<W>, RUN = RUN_FWD;
    const sp_conv &a = k.a;
    const place<CH> p = my_place<W, CH>(a);
    const float *state = a.state_in ? sp_read(&a.state_in[p.seq]) : nullptr;
    const T *x = reinterpret_cast<const T *>(a.x) + p.start * a.ldx;
    T *y = reinterpret_cast<T *>(a.y) + p.start * a.ldy;
    constexpr int G = ROWS<T, CH, VEC>;
    float w[W][CH], bias[CH] = {};
    load_taps<W, CH, VEC>(a, p, w);
    if (a.bias) sp_load<CH, VEC>(bias, a.bias + p.c0, p.n_ch);
    FOR_RUNS(t0, p.len, RUN) {
        float window[W][CH], row[CH];
        const int64_t e = t0 - p.first_tap - (W == 8 && VEC && SP_PLANTED("8 taps a row early"));
#pragma unroll
        for (int i = 0; i + 1 < W; i++) {
            load_row<T, CH, VEC>(p, state, a.d_inner, x, a.ldx, e + i, row);
            slide<W, CH>(window, row);
        }
#pragma unroll
        for (int i = 0; i < RUN; i += G) {
            const int64_t t = t0 + i;
            if (t >= p.len) break;
            float rows[G][CH];
            sp_load_rows<G, CH, VEC>(rows, x, a.ldx, t, p.len, p.c0, p.n_ch);
#pragma unroll
            for (int r = 0; r < G; r++) {
                slide<W, CH>(window, rows[r]);
#pragma unroll
                for (int v = 0; v < CH; v++) {
                    float u = before_silu<W, CH>(window, w, p.first_tap, bias[v], v);
                    rows[r][v] = u * sp_sigmoid(u);
                }
            }
            sp_store_rows<G, CH, VEC>(y, a.ldy, rows, t, t, p.len, p.c0, p.n_ch);
        }
    }
    float *to = a.state_out ? sp_read(&a.state_out[p.seq]) : nullptr;
    static_assert(RUN >= W - 1, "no other run reads the state");
    if (to && blockIdx.z == 0 && threadIdx.x < 32) store_final<T, CH, VEC>(a, p, state, to);
}

/* One part of dw and dbias: a row of d_conv + 1 per channel. */
template <int W, int CH>
__device__ __forceinline__ void store_part(const args &k, const place<CH> &p,
                                           const float (&dw)[W][CH], const float (&dbias)[CH]) {
    const int64_t width = k.a.d_conv + 1;
    int64_t row = (p.seq * gridDim.z + blockIdx.z) * WARPS + threadIdx.x / 32;
#pragma unroll
    for (int v = 0; v < CH; v++) {
        if (v >= p.n_ch) continue;
        float *to = k.part + (row * k.a.d_inner + p.c0 + v) * width, one[1];
#pragma unroll
        for (int i = 0; i < W; i++) {
            one[0] = dw[i][v];
            if (i >= p.first_tap) sp_store<1, false>(to + i - p.first_tap, one, 1);
        }
        one[0] = dbias[v];
        sp_store<1, false>(to + k.a.d_conv, one, 1);
    }
}

/* Where the gradients of extended rows e .. e + G - 1 in [from, stop) go: into dx, or of the state
 * into dstate_in. */
template <class T, int G, int CH, bool VEC>
__device__ __forceinline__ void store_grads(const args &k, const place<CH> &p, float *state,
                                            int64_t e, int64_t from, int64_t stop,
                                            float (&rows)[G][CH]) {
    for (int r = 0; r < G && e + r < p.n_state; r++)
        if (state && e + r >= from && e + r < stop)
            sp_store<CH, VEC>(state + (e + r) * k.a.d_inner + p.c0, rows[r], p.n_ch);
    T *dx = reinterpret_cast<T *>(k.g.dx) + p.start * k.g.lddx;
    sp_store_rows<G, CH, VEC>(dx, k.g.lddx, rows, e - p.n_state,
                              from > p.n_state ? from - p.n_state : 0, stop - p.n_state, p.c0,
                              p.n_ch);
}

/* Extended rows t + n_state .. of x's tokens t .. t + G - 1, and those of dy; the first may be
 * before the sequence. */
template <class T, int G, int CH, bool VEC>
__device__ __forceinline__ void load_pairs(const args &k, const place<CH> &p, const float *state,
                                           const T *x, const T *dy, int64_t t, float (&row)[G][CH],
                                           float (&grad)[G][CH]) {
    const sp_conv &a = k.a;
    if (t >= 0) {
        sp_load_rows<G, CH, VEC>(row, x, a.ldx, t, p.len, p.c0, p.n_ch);
        sp_load_rows<G, CH, VEC>(grad, dy, k.g.lddy, t, p.len, p.c0, p.n_ch);
        return;
    }
#pragma unroll
    for (int r = 0; r < G; r++) {
        const bool here = t + r >= 0 && t + r < p.len;
        load_row<T, CH, VEC>(p, state, a.d_inner, x, a.ldx, t + r + p.n_state, row[r]);
        sp_load<CH, VEC>(grad[r], dy + (t + r) * k.g.lddy + p.c0, here ? p.n_ch : 0);
    }
}

/* grad: dy of the window's last token, is replaced by its du; dw and dbias get their share if it is
 * of the thread's run. */
template <int W, int CH>
__device__ __forceinline__ void add_token(const float (&window)[W][CH], const float (&w)[W][CH],
                                          int first_tap, const float (&bias)[CH], int n, bool mine,
                                          float (&grad)[CH], float (&dw)[W][CH],
                                          float (&dbias)[CH]) {
#pragma unroll
    for (int v = 0; v < CH; v++) {
        float u = before_silu<W, CH>(window, w, first_tap, bias[v], v);
        float gate = sp_sigmoid(u);
        grad[v] = v < n ? grad[v] * gate * (1 + u * (1 - gate)) : 0;
        if (!mine || v >= n) continue;
#pragma unroll
        for (int j = 0; j < W; j++)
            if (j >= first_tap) dw[j][v] = fmaf(grad[v], window[j][v], dw[j][v]);
        dbias[v] += grad[v];
    }
}

/* A run's tokens give du = dy * silu'(u); extended row e collects du[e - j] w[j] over the taps j. A
 * thread computes du for its run and for the W - 1 tokens before it, as the rows that it completes,
 * those of its run's tokens' first taps, need; the rows after the sequence's last token's first tap
 * belong to the last run. So each row is written by one thread, and dw only counts the run. */
template <class T, int W, bool VEC>
__global__ void __launch_bounds__(32 * WARPS, BLOCKS_BWD<W>) conv_bwd(const args k) {
    constexpr int CH = CHANNELS<W>, RUN = RUN_BWD<W>;
    const sp_conv &a = k.a;
    const place<CH> p = my_place<W, CH>(a);
    const float *state = a.state_in ? sp_read(&a.state_in[p.seq]) : nullptr;
    const float *dout = k.g.dstate_out ? sp_read(&k.g.dstate_out[p.seq]) : nullptr;
    float *din = k.g.dstate_in ? sp_read(&k.g.dstate_in[p.seq]) : nullptr;
    const T *x = reinterpret_cast<const T *>(a.x) + p.start * a.ldx;
    const T *dy = reinterpret_cast<const T *>(k.g.dy) + p.start * k.g.lddy;
    constexpr int G = ROWS<T, CH, VEC>;
    float w[W][CH], bias[CH] = {}, dw[W][CH] = {}, dbias[CH] = {};
    load_taps<W, CH, VEC>(a, p, w);
    if (a.bias) sp_load<CH, VEC>(bias, a.bias + p.c0, p.n_ch);
    FOR_RUNS(t0, p.len, RUN) {
        float window[W][CH], du[W][CH] = {}, row[CH];
        const int64_t before = t0 - (W - 1); /* the first token whose du is needed */
        for (int i = 0; i + 1 < W; i++) {
            load_row<T, CH, VEC>(p, state, a.d_inner, x, a.ldx, before - p.first_tap + i, row);
            slide<W, CH>(window, row);
        }
        const int64_t stop = t0 + RUN < p.len ? t0 + RUN : p.len + p.n_state;
        for (int64_t t = before; t < stop + p.first_tap; t += G) {
            float rows[G][CH], grads[G][CH];
            load_pairs<T, G, CH, VEC>(k, p, state, x, dy, t, rows, grads);
#pragma unroll
            for (int r = 0; r < G; r++) {
                slide<W, CH>(window, rows[r]);
                const int n = t + r >= 0 && t + r < p.len ? p.n_ch : 0;
                const int64_t own =
                    t0 - (W == 8 && VEC && SP_PLANTED("8 taps count a token twice"));
                const bool mine = t + r >= own && t + r < t0 + RUN;
                add_token<W, CH>(window, w, p.first_tap, bias, n, mine, grads[r], dw, dbias);
                slide<W, CH>(du, grads[r]);
                /* du[W - 1 - i] is token t - i's, and row e takes it with its tap i - first_tap. */
                const int64_t late = t + r - p.first_tap - p.len;
#pragma unroll
                for (int v = 0; v < CH; v++) rows[r][v] = 0;
                if (dout && late >= 0 && late < p.n_state)
                    sp_load<CH, VEC>(rows[r], dout + late * a.d_inner + p.c0, p.n_ch);
#pragma unroll
                for (int i = 0; i < W; i++)
#pragma unroll
                    for (int v = 0; v < CH; v++)
                        if (i >= p.first_tap)
                            rows[r][v] = fmaf(du[W - 1 - i][v], w[i][v], rows[r][v]);
            }
            store_grads<T, G, CH, VEC>(k, p, din, t - p.first_tap, t0, stop, rows);
        }
    }
    /* Without a token, the gradient of the state goes through. */
    if (p.len == 0 && din && blockIdx.z == 0 && threadIdx.x < 32) {
        for (int64_t e = 0; e < p.n_state; e++) {
            float row[CH] = {};
            if (dout) sp_load<CH, VEC>(row, dout + e * a.d_inner + p.c0, p.n_ch);
            sp_store<CH, VEC>(din + e * a.d_inner + p.c0, row, p.n_ch);
        }
    }
    store_part<W, CH>(k, p, dw, dbias);
}

/* dw (d_inner, d_conv) and dbias from the parts' sums (d_inner, d_conv + 1). */
__global__ void __launch_bounds__(128)
    conv_add_sums(float *dw, float *dbias, const float *sum, int64_t n, int64_t d_conv) {
    int64_t i = (int64_t)blockIdx.x * 128 + threadIdx.x;
    if (i >= n) return;
    int64_t c = i / (d_conv + 1), j = i % (d_conv + 1);
    float *to = j < d_conv ? dw + c * d_conv + j : dbias ? dbias + c : nullptr, a[1], b[1];
    if (!to) return;
    sp_load<1, false>(a, sum + i, 1);
    sp_load<1, false>(b, to, 1);
    b[0] += a[0];
    sp_store<1, false>(to, b, 1);
}

/* run(w) with the W of the window that holds d_conv taps, as a type. */
template <int W> struct window { static constexpr int width = W; };
template <class F> auto by_width(int64_t d_conv, F run) {
    return d_conv <= 4 ? run(window<4>{}) : d_conv <= 8 ? run(window<8>{}) : run(window<16>{});
}

unsigned splits(int64_t len_max, int run) {
    int64_t n = (len_max + run * WARPS - 1) / (run * WARPS);
    return (unsigned)(n < 1 ? 1 : n > 64 ? 64 : n);
}
unsigned splits_bwd(const sp_conv &a, int64_t len_max) {
    return by_width(a.d_conv, [&](auto w) { return splits(len_max, RUN_BWD<w.width>); });
}
dim3 grid_of(const sp_conv &a, int ch, unsigned split) {
    return dim3((unsigned)a.n_seq, (unsigned)((a.d_inner + 32 * ch - 1) / (32 * ch)), split);
}

/* Whether every access can be of a whole pack; states as in scan_fwd.cu. */
template <class T> bool aligned(const sp_conv &a, const sp_conv_grad *g) {
    const uintptr_t rows = (uintptr_t)a.x | (uintptr_t)(g ? g->dy : a.y) |
                           (uintptr_t)(g ? g->dx : nullptr) | (uintptr_t)a.bias | (uintptr_t)a.w;
    const int64_t wide = a.d_inner | a.ldx | (g ? g->lddy | g->lddx : a.ldy);
    return rows % 16 == 0 && wide % (16 / (int)sizeof(T)) == 0;
}

template <class T, int W> int launch_fwd(const args &k, int64_t len_max, cudaStream_t stream) {
    constexpr bool can = W <= 8; /* four channels of a thread */
    auto kernel = can && aligned<T>(k.a, nullptr) ? conv_fwd<T, W, can> : conv_fwd<T, W, false>;
    SP_LAUNCH(kernel, grid_of(k.a, CHANNELS<W>, splits(len_max, RUN_FWD)), dim3(32 * WARPS), 0,
              stream, k);
    return SP_LAST_ERROR();
}

template <class T, int W> int launch_bwd(const args &k, int64_t len_max, cudaStream_t stream) {
    constexpr bool can = W <= 8; /* four channels of a thread */
    auto kernel = can && aligned<T>(k.a, &k.g) ? conv_bwd<T, W, can> : conv_bwd<T, W, false>;
    dim3 grid = grid_of(k.a, CHANNELS<W>, splits_bwd(k.a, len_max));
    SP_LAUNCH(kernel, grid, dim3(32 * WARPS), 0, stream, k);
    int error = SP_LAST_ERROR();
    if (error) return error;
    /* The first part takes the sum of the others. */
    const int64_t n = k.a.d_inner * (k.a.d_conv + 1), n_part = (int64_t)grid.x * grid.z * WARPS;
    error = sp_sum_parts_cuda(k.part, k.part + n, n_part - 1, n, stream);
    if (error) return error;
    SP_LAUNCH(conv_add_sums, dim3((unsigned)((n + 127) / 128)), dim3(128), 0, stream, k.g.dw,
              k.g.dbias, k.part, n, k.a.d_conv);
    return SP_LAST_ERROR();
}

} // namespace

int sp_conv_fwd_cuda(const struct sp_conv *a, enum sp_cuda_type type, int64_t len_max,
                     sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    args k = {*a, {}, nullptr};
    return sp_by_type(type, [&](auto t) {
        return by_width(a->d_conv, [&](auto w) {
            return launch_fwd<decltype(t), w.width>(k, len_max, static_cast<cudaStream_t>(stream));
        });
    });
}

int64_t sp_conv_bwd_cuda_workspace(const struct sp_conv *a, int64_t len_max) {
    return a->n_seq * splits_bwd(*a, len_max) * WARPS * a->d_inner * (a->d_conv + 1);
}

int sp_conv_bwd_cuda(const struct sp_conv *a, const struct sp_conv_grad *g, enum sp_cuda_type type,
                     int64_t len_max, float *workspace, sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    args k = {*a, *g, workspace};
    return sp_by_type(type, [&](auto t) {
        return by_width(a->d_conv, [&](auto w) {
            return launch_bwd<decltype(t), w.width>(k, len_max, static_cast<cudaStream_t>(stream));
        });
    });
}
