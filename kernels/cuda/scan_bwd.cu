/* The selective scan backward. With a_t = exp(delta_t A), b_t = delta_t B_t x_t, h_t = a_t h_{t-1}
 * + b_t and v_t the gradient of the output before the gate, the gradient of h_t is g_t = v_t C_t +
 * a_{t+1} g_{t+1},   g after the last token: the final state's gradient, a scan like the forward
 * one from the end; from it dC_t += v_t h_t,  dB_t += g_t delta_t x_t,  dx_t = delta_t sum g_t B_t
 * + D v_t, d delta_t = sum g_t (A (h_t - b_t) + B_t x_t),  dA += sum over t of g_t delta_t (h_t -
 * b_t).
 *
 * A block takes one sequence and 32 channels, and walks over its chunks of SP_SCAN_CHUNK tokens
 * from the last to the first; the states in a chunk are computed again from the saved one before
 * it. A warp owns 8 of the channels for the whole chunk, as 4 threads over channels (2 each) x 8
 * over time (8 tokens each), so that both scans are 3 steps of shuffles and never leave the warp.
 *
 * dB and dC are sums over all channels. A warp adds up its 8 channels by shuffles that halve what a
 * lane holds at each step; the warps add theirs in shared memory, one after the other: at step s,
 * warp w works on state s - w, in one of as many slots as there are warps, and the last warp passes
 * the block's sum on: per token and state one atomic of the block's 32 channels, or one store into
 * the block's own part of a workspace. */
#include "block.h"
#include "launch.h"
#include "sum.h"

namespace {

constexpr int CH = 2;         /* channels of a thread */
constexpr int K = 8;          /* tokens of a thread */
constexpr int LANES_CH = 4;   /* threads of a warp over channels */
constexpr int LANES_TIME = 8; /* and over time */
constexpr int WARPS = 4;      /* over channels */
constexpr int TILE = K * LANES_TIME;
constexpr int WARP_CH = CH * LANES_CH, BLOCK_CH = WARP_CH * WARPS;
constexpr int SLOT = 2 * TILE; /* sums of one state: TILE of dB, then TILE of dC */
static_assert(TILE == SP_SCAN_CHUNK, "a tile starts from a saved state");

struct args {
    sp_scan a;
    sp_scan_grad g;
    float *part; /* (gridDim.y, 2, n_tok, d_state): dB and dC of each 32 channels; NULL: atomics */
    float *sums; /* (n_seq, d_inner, d_state + 2): dA, dD, d dt_bias of each sequence */
    int64_t n_tok;
};

struct place {
    int warp, lane_ch, lane_time, n_ch;
    int64_t c0, start, end;
};
__device__ __forceinline__ place my_place(const sp_scan &a) {
    place p;
    const int lane = (int)threadIdx.x % 32;
    p.warp = (int)threadIdx.x / 32;
    p.lane_ch = lane % LANES_CH;
    p.lane_time = lane / LANES_CH;
    p.c0 = (int64_t)blockIdx.y * BLOCK_CH + p.warp * WARP_CH + p.lane_ch * CH;
    p.n_ch = sp_left<CH>(a.d_inner, p.c0);
    p.start = sp_read(&a.cu_seqlens[blockIdx.x]);
    p.end = sp_read(&a.cu_seqlens[blockIdx.x + 1]);
    return p;
}

/* What a thread keeps of a tile, per token and channel. */
struct part {
    float delta[K][CH], x[K][CH], v[K][CH]; /* v: gradient of the output before the gate */
    float y[K][CH];                         /* sum of C h */
    float gb[K][CH], gah[K][CH];            /* sum of g B, sum of g A (h - b) */
};

template <class T> __device__ __forceinline__ const T *as(const float *p) {
    return reinterpret_cast<const T *>(p);
}

/* How many of a thread's tokens are read and written together: its 2 channels are 8 or 4 bytes. */
template <class T, bool VEC> constexpr int ROWS = VEC ? sp_row_group<T, CH> : 1;

/* x, delta and v of the thread's tokens from t0 on; past the end, delta = x = v = 0: a state stays,
 * and nothing gets a gradient. */
template <class T, bool VEC>
__device__ __forceinline__ void begin_tile(const args &k, const place &p, int64_t t0, part *my) {
    const sp_scan &a = k.a;
    float bias[CH] = {};
    if (a.dt_bias) sp_load<CH, VEC>(bias, a.dt_bias + p.c0, p.n_ch);
    constexpr int G = ROWS<T, VEC>;
#pragma unroll
    for (int first = 0; first < K; first += G) {
        const int64_t t = t0 + first;
        float x[G][CH], dt[G][CH], dy[G][CH], z[G][CH];
        sp_load_rows<G, CH, VEC>(x, as<T>(a.x), a.ldx, t, p.end, p.c0, p.n_ch);
        sp_load_rows<G, CH, VEC>(dt, as<T>(a.dt), a.lddt, t, p.end, p.c0, p.n_ch);
        sp_load_rows<G, CH, VEC>(dy, as<T>(k.g.dy), k.g.lddy, t, p.end, p.c0, p.n_ch);
        if (a.z) sp_load_rows<G, CH, VEC>(z, as<T>(a.z), a.ldz, t, p.end, p.c0, p.n_ch);
#pragma unroll
        for (int e = 0; e < G * CH; e++) {
            const int r = e / CH, v = e % CH, i = first + r;
            my->x[i][v] = x[r][v];
            my->delta[i][v] = t + r < p.end && v < p.n_ch ? sp_softplus(dt[r][v] + bias[v]) : 0;
            my->v[i][v] = dy[r][v];
            if (a.z) my->v[i][v] *= z[r][v] * sp_sigmoid(z[r][v]);
            my->y[i][v] = my->gb[i][v] = my->gah[i][v] = 0;
        }
    }
}

/* dx, ddt and dz; adds what the tile gives to dD and d dt_bias. */
template <class T, bool VEC>
__device__ __forceinline__ void end_tile(const args &k, const place &p, int64_t t0, part *my,
                                         float (&dD)[CH], float (&dbias)[CH]) {
    const sp_scan &a = k.a;
    float bias[CH] = {}, D[CH] = {};
    if (a.dt_bias) sp_load<CH, VEC>(bias, a.dt_bias + p.c0, p.n_ch);
    if (a.D) sp_load<CH, VEC>(D, a.D + p.c0, p.n_ch);
    constexpr int G = ROWS<T, VEC>;
#pragma unroll
    for (int first = 0; first < K; first += G) {
        const int64_t t = t0 + first;
        float dt[G][CH], out[G][CH];
        sp_load_rows<G, CH, VEC>(dt, as<T>(a.dt), a.lddt, t, p.end, p.c0, p.n_ch);
#pragma unroll
        for (int e = 0; e < G * CH; e++) {
            const int r = e / CH, v = e % CH, i = first + r;
            const float x = my->x[i][v], gb = my->gb[i][v], u = dt[r][v] + bias[v];
            out[r][v] = fmaf(my->delta[i][v], gb, D[v] * my->v[i][v]);
            dt[r][v] = (my->gah[i][v] + x * gb) * (u > 20 ? 1 : sp_sigmoid(u));
            dD[v] = fmaf(my->v[i][v], x, dD[v]);
            dbias[v] += t + r < p.end && v < p.n_ch ? dt[r][v] : 0;
        }
        sp_store_rows<G, CH, VEC>(reinterpret_cast<T *>(k.g.dx), k.g.lddx, out, t, t, p.end, p.c0,
                                  p.n_ch);
        sp_store_rows<G, CH, VEC>(reinterpret_cast<T *>(k.g.ddt), k.g.lddt, dt, t, t, p.end, p.c0,
                                  p.n_ch);
        if (!a.z) continue;
        float z[G][CH];
        sp_load_rows<G, CH, VEC>(z, as<T>(a.z), a.ldz, t, p.end, p.c0, p.n_ch);
        sp_load_rows<G, CH, VEC>(out, as<T>(k.g.dy), k.g.lddy, t, p.end, p.c0, p.n_ch);
#pragma unroll
        for (int e = 0; e < G * CH; e++) {
            const int r = e / CH, v = e % CH, i = first + r;
            const float gate = sp_sigmoid(z[r][v]), y = fmaf(D[v], my->x[i][v], my->y[i][v]);
            out[r][v] *= y * gate * (1 + z[r][v] * (1 - gate));
        }
        sp_store_rows<G, CH, VEC>(reinterpret_cast<T *>(k.g.dz), k.g.lddz, out, t, t, p.end, p.c0,
                                  p.n_ch);
    }
}

/* The state before the thread's first token, from the one before the tile, h (in all lanes). */
__device__ __forceinline__ float state_before(const float (&decay)[K], const float (&add)[K],
                                              float h, int lane_time) {
    float P = 1, H = lane_time == 0 ? h : 0;
#pragma unroll
    for (int i = 0; i < K; i++) {
        H = fmaf(decay[i], H, add[i]);
        P *= decay[i];
    }
#pragma unroll
    for (int step = 1; step < LANES_TIME; step *= 2) {
        const float h_up = __shfl_up_sync(SP_ALL_LANES, H, step * LANES_CH);
        const float p_up =
            2 * step < LANES_TIME ? __shfl_up_sync(SP_ALL_LANES, P, step * LANES_CH) : 1;
        if (lane_time >= step) {
            H = fmaf(P, h_up, H);
            P *= p_up;
        }
    }
    const float h_up = __shfl_up_sync(SP_ALL_LANES, H, LANES_CH);
    return lane_time == 0 ? h : h_up;
}

/* The gradient that reaches the state after the thread's last token from later ones; *g: the one
 * after the tile's last token (in all lanes), replaced by the one before its first (in the lanes of
 * the first tokens). */
__device__ __forceinline__ float gradient_after(const float (&decay)[K], const float (&vc)[K],
                                                float *g, int lane_time) {
    const bool last = lane_time == LANES_TIME - 1;
    float P = 1, G = last ? *g : 0;
#pragma unroll
    for (int i = K - 1; i >= 0; i--) {
        G = (G + vc[i]) * decay[i];
        P *= decay[i];
    }
#pragma unroll
    for (int step = 1; step < LANES_TIME; step *= 2) {
        const float g_down = __shfl_down_sync(SP_ALL_LANES, G, step * LANES_CH);
        const float p_down =
            2 * step < LANES_TIME ? __shfl_down_sync(SP_ALL_LANES, P, step * LANES_CH) : 1;
        if (lane_time < LANES_TIME - step) {
            G = fmaf(P, g_down, G);
            P *= p_down;
        }
    }
    const float g_down = __shfl_down_sync(SP_ALL_LANES, G, LANES_CH);
    const float after = last ? *g : g_down;
    *g = G;
    return after;
}

/* Adds x over the 4 threads over channels; of the K sums each of them is left with two, those of
 * tokens first and first + 1, first = 2 * (bits of lane_ch swapped). */
__device__ __forceinline__ void sum_channels(const float (&x)[K], int lane_ch, float (&sum)[2]) {
    float half[K / 2];
    const bool high = lane_ch & 1, higher = lane_ch & 2;
#pragma unroll
    for (int i = 0; i < K / 2; i++) {
        const float mine = high ? x[i + K / 2] : x[i], other = high ? x[i] : x[i + K / 2];
        half[i] = mine + __shfl_xor_sync(SP_ALL_LANES, other, 1);
    }
#pragma unroll
    for (int i = 0; i < K / 4; i++) {
        const float mine = higher ? half[i + K / 4] : half[i];
        const float other = higher ? half[i] : half[i + K / 4];
        sum[i] = mine + __shfl_xor_sync(SP_ALL_LANES, other, 2);
    }
}

/* Sums over the warp's threads over time, of both channels: the lanes of even lane_time are left
 * with channel 0's, the others with channel 1's. */
__device__ __forceinline__ float sum_time(const float (&x)[CH], int lane_time) {
    const bool odd = lane_time & 1;
    float sum = odd ? x[1] : x[0];
    sum += __shfl_xor_sync(SP_ALL_LANES, odd ? x[0] : x[1], LANES_CH);
    sum += __shfl_xor_sync(SP_ALL_LANES, sum, 2 * LANES_CH);
    return sum + __shfl_xor_sync(SP_ALL_LANES, sum, 4 * LANES_CH);
}

/* Shared memory: what goes from tile to tile, and the sums that go from warp to warp. */
struct shared_view {
    float *carry; /* (d_state, 32): gradient of the state after the tile */
    float *dA;    /* (d_state, 32) */
    float *slots; /* (WARPS, SLOT) */
};
__device__ __forceinline__ shared_view view_of(float *shared, int64_t d_state) {
    return {shared, shared + d_state * BLOCK_CH, shared + 2 * d_state * BLOCK_CH};
}

/* One state n of the thread's channels over the tile; db and dc: its shares of dB and dC. */
template <class T>
__device__ __forceinline__ void scan_state(const args &k, const place &p, int64_t t0, int64_t n,
                                           const float *chunk, const shared_view &s, part *my,
                                           float (&db)[K], float (&dc)[K]) {
    const sp_scan &a = k.a;
    float B[K], C[K], dA[CH];
#pragma unroll
    for (int i = 0; i < K; i++) {
        const int64_t t = t0 + i < p.end ? t0 + i : p.end - 1;
        B[i] = sp_widen(sp_read(as<T>(a.B) + t * a.ldb + n));
        C[i] = sp_widen(sp_read(as<T>(a.C) + t * a.ldc + n));
        db[i] = dc[i] = 0;
    }
#pragma unroll
    for (int v = 0; v < CH; v++) {
        const bool here = v < p.n_ch;
        const int64_t at = (p.c0 + v) * a.d_state + n;
        const float A = here ? sp_read(&a.A[at]) : 0, h0 = here ? sp_read(&chunk[at]) : 0;
        float *carry = &s.carry[n * BLOCK_CH + p.warp * WARP_CH + p.lane_ch * CH + v];
        float decay[K], add[K], g = sp_shared_load(carry);
#pragma unroll
        for (int i = 0; i < K; i++) {
            decay[i] = sp_exp2(my->delta[i][v] * (A * SP_LOG2E));
            add[i] = my->delta[i][v] * my->x[i][v] * B[i];
        }
        float h = state_before(decay, add, h0, p.lane_time);
        float kept[K], vc[K]; /* a h: what of the state before a token is left after it */
#pragma unroll
        for (int i = 0; i < K; i++) {
            kept[i] = decay[i] * h;
            h = kept[i] + add[i];
            my->y[i][v] = fmaf(C[i], h, my->y[i][v]);
            dc[i] = fmaf(my->v[i][v], h, dc[i]);
            vc[i] = my->v[i][v] * C[i];
        }
        float after = gradient_after(decay, vc, &g, p.lane_time);
        dA[v] = 0;
#pragma unroll
        for (int i = K - 1; i >= 0; i--) {
            after += vc[i];
            my->gb[i][v] = fmaf(after, B[i], my->gb[i][v]);
            db[i] = fmaf(after, my->delta[i][v] * my->x[i][v], db[i]);
            const float gah = after * kept[i];
            my->gah[i][v] = fmaf(gah, A, my->gah[i][v]);
            dA[v] = fmaf(gah, my->delta[i][v], dA[v]);
            after *= decay[i];
        }
        __syncwarp(); /* all have read the carry */
        if (p.lane_time == 0 && !SP_PLANTED("stale carry")) sp_shared_store(carry, g);
    }
    const float sum = sum_time(dA, p.lane_time);
    if (p.lane_time < CH) {
        float *to = &s.dA[n * BLOCK_CH + p.warp * WARP_CH + p.lane_ch * CH + p.lane_time];
        sp_shared_store(to, sp_shared_load(to) + sum);
    }
}

/* Takes the warp's sums of dB and dC of state n on to the next warp, or out of the block. */
__device__ __forceinline__ void pass_on(const args &k, const place &p, int64_t t0, int64_t n,
                                        float *slot, const float (&db)[K], const float (&dc)[K]) {
    float sum[2][2];
    sum_channels(db, p.lane_ch, sum[0]);
    sum_channels(dc, p.lane_ch, sum[1]);
    const int first = (p.lane_ch & 1) * 4 + (p.lane_ch & 2);
#pragma unroll
    for (int which = 0; which < 2; which++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int64_t t = t0 + first + i;
            float *here = &slot[which * TILE + p.lane_time * K + first + i];
            float total[1] = {sum[which][i]};
            if (p.warp > 0) total[0] += sp_shared_load(here);
            if (p.warp < WARPS - 1) {
                sp_shared_store(here, total[0]);
            } else if (t < p.end) {
                const int64_t at = t * k.a.d_state + n;
                if (!k.part && SP_PLANTED("a store for an atomic")) {
                    sp_write((which ? k.g.dC : k.g.dB) + at, total[0]);
                } else if (!k.part) {
                    atomicAdd((which ? k.g.dC : k.g.dB) + at, total[0]);
                } else {
                    const int64_t row = (int64_t)blockIdx.y * 2 + which;
                    sp_store<1, false>(k.part + row * k.n_tok * k.a.d_state + at, total, 1);
                }
            }
        }
    }
}

/* Fills the carry with the final state's gradient, dA with zeros. A warp's channels are its own. */
__device__ void begin_block(const args &k, const place &p, const shared_view &s) {
    const int64_t d_state = k.a.d_state, c0 = (int64_t)blockIdx.y * BLOCK_CH;
    const float *from = k.g.dstate_out ? sp_read(&k.g.dstate_out[blockIdx.x]) : nullptr;
    for (int64_t i = threadIdx.x % 32; i < WARP_CH * d_state; i += 32) {
        const int64_t c = p.warp * WARP_CH + i / d_state, n = i % d_state;
        const bool here = from && c0 + c < k.a.d_inner;
        const float g = here ? sp_read(&from[(c0 + c) * d_state + n]) : 0;
        sp_shared_store(&s.carry[n * BLOCK_CH + c], g);
        sp_shared_store(&s.dA[n * BLOCK_CH + c], 0.f);
    }
    __syncwarp();
}
__device__ void end_block(const args &k, const place &p, const shared_view &s,
                          const float (&dD)[CH], const float (&dbias)[CH]) {
    const int64_t d_state = k.a.d_state, c0 = (int64_t)blockIdx.y * BLOCK_CH;
    float *to = k.g.dstate_in ? sp_read(&k.g.dstate_in[blockIdx.x]) : nullptr;
    float *sums = k.sums + (int64_t)blockIdx.x * k.a.d_inner * (d_state + 2), one[1];
    for (int64_t i = threadIdx.x % 32; i < WARP_CH * d_state; i += 32) {
        const int64_t c = p.warp * WARP_CH + i / d_state, n = i % d_state;
        if (c0 + c >= k.a.d_inner) continue;
        one[0] = sp_shared_load(&s.carry[n * BLOCK_CH + c]);
        if (to) sp_store<1, false>(to + (c0 + c) * d_state + n, one, 1);
        one[0] = sp_shared_load(&s.dA[n * BLOCK_CH + c]);
        sp_store<1, false>(sums + (c0 + c) * (d_state + 2) + n, one, 1);
    }
    const float d = sum_time(dD, p.lane_time), b = sum_time(dbias, p.lane_time);
    if (p.lane_time >= p.n_ch) return;
    float *row = sums + (p.c0 + p.lane_time) * (d_state + 2) + d_state;
    one[0] = d;
    sp_store<1, false>(row, one, 1);
    one[0] = b;
    sp_store<1, false>(row + 1, one, 1);
}

template <class T, bool VEC> __global__ void __launch_bounds__(32 * WARPS) scan_bwd(const args k) {
    SP_SHARED(float, shared);
    const sp_scan &a = k.a;
    const place p = my_place(a);
    const shared_view s = view_of(shared, a.d_state);
    const int64_t n_chunk = (p.end - p.start + TILE - 1) / TILE;
    const int64_t first = n_chunk > 0 ? sp_read(&a.cu_chunks[blockIdx.x]) : 0;
    const int64_t period = a.d_state > WARPS ? a.d_state : WARPS;
    float dD[CH] = {}, dbias[CH] = {}, db[K], dc[K];
    part my;
    begin_block(k, p, s);
    const int64_t n_step = n_chunk > 0 ? n_chunk * period + WARPS - 1 : 0;
    int64_t chunk = n_chunk - 1, n = -p.warp;
    for (int64_t step = 0; step < n_step; step++) {
        const int64_t t0 = p.start + chunk * TILE + p.lane_time * K;
        if (n >= 0 && n < a.d_state && chunk >= 0) {
            if (n == 0) begin_tile<T, VEC>(k, p, t0, &my);
            const int64_t from = SP_PLANTED("stale chunk") && chunk > 0 ? chunk - 1 : chunk;
            const float *saved = a.chunk_state + (first + from) * a.d_inner * a.d_state;
            scan_state<T>(k, p, t0, n, saved, s, &my, db, dc);
            const int n_slot = SP_PLANTED("a slot short") ? WARPS - 2 : WARPS;
            pass_on(k, p, t0, n, s.slots + (step - p.warp) % n_slot * SLOT, db, dc);
            if (n == a.d_state - 1) end_tile<T, VEC>(k, p, t0, &my, dD, dbias);
        }
        if (++n == period) {
            n = 0;
            chunk--;
        }
        __syncthreads();
    }
    end_block(k, p, s, dD, dbias);
}

/* dA, dD, d dt_bias += the sums over sequences (d_inner, d_state + 2). */
__global__ void __launch_bounds__(128) scan_add_sums(const args k) {
    const int64_t d_state = k.a.d_state, width = d_state + 2;
    const int64_t i = (int64_t)blockIdx.x * 128 + threadIdx.x, c = i / width, n = i % width;
    if (i >= k.a.d_inner * width) return;
    float *to = n < d_state ? k.g.dA + c * d_state + n : n == d_state ? k.g.dD : k.g.ddt_bias;
    if (!to) return;
    if (n >= d_state) to += c;
    float x[1], sum[1];
    sp_load<1, false>(x, k.sums + i, 1);
    sp_load<1, false>(sum, to, 1);
    sum[0] += x[0];
    sp_store<1, false>(to, sum, 1);
}

template <class T> bool aligned(const args &k) {
    const uintptr_t rows = (uintptr_t)k.a.x | (uintptr_t)k.a.dt | (uintptr_t)k.a.z |
                           (uintptr_t)k.g.dy | (uintptr_t)k.g.dx | (uintptr_t)k.g.ddt |
                           (uintptr_t)k.g.dz;
    const uintptr_t vectors = (uintptr_t)k.a.D | (uintptr_t)k.a.dt_bias;
    const int64_t wide =
        k.a.d_inner | k.a.ldx | k.a.lddt | k.a.ldz | k.g.lddy | k.g.lddx | k.g.lddt | k.g.lddz;
    return rows % 16 == 0 && vectors % 8 == 0 && wide % (16 / (int)sizeof(T)) == 0;
}

int64_t n_block_ch(const sp_scan &a) {
    return (a.d_inner + BLOCK_CH - 1) / BLOCK_CH;
}

/* A block's shared memory, in floats: for each state, and beside them. */
constexpr int64_t SHARED_STATE = 2 * BLOCK_CH, SHARED_REST = WARPS * SLOT;

template <class T> int launch(const args &k, cudaStream_t stream) {
    auto kernel = aligned<T>(k) ? scan_bwd<T, true> : scan_bwd<T, false>;
    const int shared = (int)((k.a.d_state * SHARED_STATE + SHARED_REST) * (int64_t)sizeof(float));
    if (shared > 48 << 10) {
        int error = SP_ALLOW_SHARED(kernel, shared);
        if (error) return error;
    }
    dim3 grid((unsigned)k.a.n_seq, (unsigned)n_block_ch(k.a));
    SP_LAUNCH(kernel, grid, dim3(32 * WARPS), (size_t)shared, stream, k);
    int error = SP_LAST_ERROR();
    if (error) return error;
    const int64_t n = k.n_tok * k.a.d_state, n_sum = k.a.d_inner * (k.a.d_state + 2);
    if (k.part) { /* rows of parts are dB and dC in turn: a row of both is one sum of 2 n */
        error = sp_sum_parts_cuda(k.part, k.part + 2 * n, grid.y - 1, 2 * n, stream);
        if (!error) error = sp_sum_parts_cuda(k.g.dB, k.part, 1, n, stream);
        if (!error) error = sp_sum_parts_cuda(k.g.dC, k.part + n, 1, n, stream);
        if (error) return error;
    }
    error = sp_sum_parts_cuda(k.sums, k.sums + n_sum, k.a.n_seq - 1, n_sum, stream);
    if (error) return error;
    SP_LAUNCH(scan_add_sums, dim3((unsigned)((n_sum + 127) / 128)), dim3(128), 0, stream, k);
    return SP_LAST_ERROR();
}

} // namespace

int64_t sp_scan_bwd_cuda_state_max(size_t shared) {
    return ((int64_t)(shared / sizeof(float)) - SHARED_REST) / SHARED_STATE;
}

int64_t sp_scan_bwd_cuda_workspace(const struct sp_scan *a, int64_t n_tok, int deterministic) {
    int64_t parts = deterministic ? n_block_ch(*a) * 2 * n_tok * a->d_state : 0;
    return parts + a->n_seq * a->d_inner * (a->d_state + 2);
}

int sp_scan_bwd_cuda(const struct sp_scan *a, const struct sp_scan_grad *g, enum sp_cuda_type type,
                     int64_t n_tok, int deterministic, float *workspace, sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    args k = {*a, *g, nullptr, workspace, n_tok};
    if (deterministic && n_tok > 0) {
        k.part = workspace;
        k.sums += n_block_ch(*a) * 2 * n_tok * a->d_state;
    }
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (type == SP_CUDA_BF16) return launch<sp_bf16>(k, on);
    if (type == SP_CUDA_F16) return launch<sp_half>(k, on);
    return launch<float>(k, on);
}
