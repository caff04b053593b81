/* The selective scan forward, fused as kernels.h has it, parallel over channels and time.
 *
 * A block takes one sequence and 32 channels, and walks over the sequence in tiles of 16 * K
 * tokens. A thread owns K tokens x 4 channels of a tile; a warp is 8 threads over channels (one
 * access of a warp is 4 rows of 128 bytes) x 4 over time; the block's 4 warps follow each other in
 * time. The recurrence h = a h + b composes as (a2 a1, a2 b1 + b2), so a thread reduces its K
 * tokens to one pair, 2 steps of shuffles make the warp's inclusive scan, and a second run over the
 * K tokens gives the outputs (Blelloch, "Prefix Sums and Their Applications", 1990).
 *
 * From warp to warp the state itself is handed on, through shared memory, in a wavefront: at step
 * s, warp w works on the states' group s - w (4 states each). So a warp starts from the true state
 * at its first token, no pair has to cross warps, one barrier per group is enough, and each slot of
 * shared memory, 32 channels x d_state floats in all, is touched by one warp per step.
 *
 * Sequences can be cut into segments, a block each, in three launches: every whole segment from a
 * state of zeros, for its last state alone (LOCAL below); the states before and after these, since
 * h = exp(A sum delta) h + h from zeros; the scan of each segment from its own.
 *
 * T is the type of x, z and y, P that of dt, B and C. Of 16-bit types a thread's 4 channels are 8
 * bytes: neighbours read and write 16 together (block.h). */
#include "block.h"
#include "launch.h"

namespace {

constexpr int CH = 4;         /* channels of a thread */
constexpr int LANES_CH = 8;   /* threads of a warp over channels */
constexpr int LANES_TIME = 4; /* and over time */
constexpr int WARPS = 4;      /* warps of a block, over time */
constexpr int GROUP = 4;      /* states that are worked on together */
constexpr int BLOCK_CH = CH * LANES_CH;
static_assert(BLOCK_CH == SP_CUDA_SCAN_CHANNELS, "what callers reckon with");

template <class T> __device__ __forceinline__ const T *as(const float *p) {
    return reinterpret_cast<const T *>(p);
}

/* Blocks of scan_fwd that an SM is to hold at least, by tokens per thread: what ptxas takes for a
 * bound on registers, and the highest that made it spill on none of the architectures. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int BLOCKS[5] = {0, 5, 4, 0, 3};
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int BLOCKS[5] = {0, 6, 5, 0, 3};
#else
constexpr int BLOCKS[5] = {0, 8, 5, 0, 4};
#endif
template <class T, int K>
constexpr int BLOCKS_OF = sizeof(T) == 2 && K == 4 ? 3 : BLOCKS[K]; /* 16-bit types want more */

struct args {
    sp_scan a;
    int64_t segment; /* tokens; 0: sequences are not cut */
    float *states; /* (slots, d_inner, d_state): before each segment and after the last whole one */
    float *deltas; /* (slots, WARPS, d_inner): sums of delta in each whole segment */
};

/* Where sequence seq's slots begin: it needs one more than it has whole segments. */
__device__ __forceinline__ int64_t first_slot(const args &k, int64_t seq) {
    return (sp_read(&k.a.cu_seqlens[seq]) - sp_read(k.a.cu_seqlens)) / k.segment + seq;
}

/* What a thread keeps of its part of a tile, per token and channel. */
template <int K> struct part { float delta[K][CH], dx[K][CH] /* delta * x */, y[K][CH]; };

/* A thread's place: its first channel and how many of its channels exist. */
struct place {
    int warp, lane_ch, lane_time, n_ch, c0;
};

__device__ __forceinline__ place my_place(int64_t d_inner) {
    place p;
    int lane = (int)threadIdx.x % 32;
    p.warp = (int)threadIdx.x / 32;
    p.lane_ch = lane % LANES_CH;
    p.lane_time = lane / LANES_CH;
    p.c0 = (int)blockIdx.y * BLOCK_CH + p.lane_ch * CH;
    p.n_ch = sp_left<CH>(d_inner, p.c0);
    return p;
}

/* How many of a thread's K tokens are read and written together. */
template <class T, int K, bool VEC>
constexpr int ROWS = VEC &&K % sp_row_group<T, CH> == 0 ? sp_row_group<T, CH> : 1;

/* Reads K tokens from t0 on; what is past the end leaves a state as it is: delta = 0. */
template <class T, class P, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void begin_tile(const sp_scan &a, const place &p, int t0, int end,
                                           part<K> *my) {
    float bias[CH] = {}, D[CH] = {};
    if (a.dt_bias) sp_load<CH, VEC>(bias, a.dt_bias + p.c0, p.n_ch);
    if (a.D && !LOCAL) sp_load<CH, VEC>(D, a.D + p.c0, p.n_ch);
    constexpr int G = ROWS<T, K, VEC>;
#pragma unroll
    for (int first = 0; first < K; first += G) {
        const int t = t0 + first;
        float x[G][CH], dt[G][CH];
        sp_load_rows<G, CH, VEC>(x, as<T>(a.x), a.ldx, t, end, p.c0, p.n_ch);
        sp_load_rows<G, CH, VEC>(dt, as<P>(a.dt), a.lddt, t, end, p.c0, p.n_ch);
#pragma unroll
        for (int i = 0; i < G * CH; i++) {
            const int r = i / CH, v = i % CH;
            float delta = t + r < end && v < p.n_ch ? sp_softplus(dt[r][v] + bias[v]) : 0;
            my->delta[first + r][v] = delta;
            my->dx[first + r][v] = delta * x[r][v];
            my->y[first + r][v] = D[v] * x[r][v];
        }
    }
}

template <class T, int K, bool VEC>
__device__ __forceinline__ void end_tile(const sp_scan &a, const place &p, int t0, int end,
                                         const part<K> &my) {
    constexpr int G = ROWS<T, K, VEC>;
#pragma unroll
    for (int first = 0; first < K; first += G) {
        const int t = t0 + first;
        float y[G][CH], z[G][CH];
        if (a.z) sp_load_rows<G, CH, VEC>(z, as<T>(a.z), a.ldz, t, end, p.c0, p.n_ch);
#pragma unroll
        for (int i = 0; i < G * CH; i++) {
            const int r = i / CH, v = i % CH;
            y[r][v] = my.y[first + r][v];
            if (a.z) y[r][v] *= z[r][v] * sp_sigmoid(z[r][v]);
        }
        T *to = reinterpret_cast<T *>(a.y);
        sp_store_rows<G, CH, VEC>(to, a.ldy, y, t, t, end, p.c0, p.n_ch);
    }
}

/* LOCAL's sums of delta: of the thread's tokens, then over the warp's, in all its lanes. */
template <int K> __device__ __forceinline__ void add_deltas(const part<K> &my, float (&sum)[CH]) {
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int v = 0; v < CH; v++) sum[v] += my.delta[k][v];
}
__device__ __forceinline__ void store_deltas(const place &p, float (&sum)[CH], float *to) {
#pragma unroll
    for (int v = 0; v < CH; v++)
#pragma unroll
        for (int lanes = LANES_CH; lanes < 32; lanes *= 2)
            sum[v] += __shfl_xor_sync(SP_ALL_LANES, sum[v], lanes);
    if (p.lane_time == 0) sp_store<CH, false>(to + p.c0, sum, p.n_ch);
}

/* One state of one channel over the warp's tokens: h is the state before them (in the lanes of the
 * first tokens; ignored elsewhere); returned in the lanes of the last: the state after them. With
 * LOCAL that is all that is wanted. */
template <int K, bool LOCAL>
__device__ __forceinline__ float scan_state(part<K> *my, int v, float A, const float (&B)[K],
                                            const float (&C)[K], float h, int lane_time) {
    float decay[K], add[K], P = 1, H = lane_time == 0 ? h : 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
        decay[k] = sp_exp2(my->delta[k][v] * A);
        add[k] = my->dx[k][v] * B[k];
        H = fmaf(decay[k], H, add[k]);
        P *= decay[k];
    }
    float h_up = __shfl_up_sync(SP_ALL_LANES, H, LANES_CH),
          p_up = __shfl_up_sync(SP_ALL_LANES, P, LANES_CH);
    if (lane_time >= 1) {
        H = fmaf(P, h_up, H);
        P *= p_up;
    }
    h_up = __shfl_up_sync(SP_ALL_LANES, H, 2 * LANES_CH);
    if (lane_time >= 2) H = fmaf(P, h_up, H);
    if (LOCAL) return H;
    h_up = __shfl_up_sync(SP_ALL_LANES, H, LANES_CH);
    if (lane_time >= 1) h = h_up;
#pragma unroll
    for (int k = 0; k < K; k++) {
        h = fmaf(decay[k], h, add[k]);
        my->y[k][v] = fmaf(C[k], h, my->y[k][v]);
    }
    return H;
}

/* The states [n0, n0 + n) over the warp's tokens; slot: where the block's states of this group are,
 * [channel of a thread][thread over channels], 4 states each. chunk: where the state before the
 * tile is saved, or NULL. */
template <class P, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void scan_group(const sp_scan &a, const place &p, int t0, int end,
                                           int n0, float4 *slot, float *chunk, part<K> *my) {
    float B[GROUP][K], C[GROUP][K];
    int n = sp_left<GROUP>(a.d_state, n0);
#pragma unroll
    for (int k = 0; k < K; k++) {
        /* Past the end the last token's are read: they change nothing there. */
        const int64_t t = t0 + k < end ? t0 + k : end - 1;
        float row[GROUP];
        sp_load<GROUP, VEC>(row, as<P>(a.B) + t * a.ldb + n0, n);
#pragma unroll
        for (int j = 0; j < GROUP; j++) B[j][k] = row[j];
        if (LOCAL) continue;
        sp_load<GROUP, VEC>(row, as<P>(a.C) + t * a.ldc + n0, n);
#pragma unroll
        for (int j = 0; j < GROUP; j++) C[j][k] = row[j];
    }
#pragma unroll
    for (int v = 0; v < CH; v++) {
        float A[GROUP];
        int64_t at = (int64_t)(p.c0 + v) * a.d_state + n0;
        int n_here = v < p.n_ch ? n : 0;
        sp_load<GROUP, VEC>(A, a.A + at, n_here);
        float h[GROUP] = {};
        float4 *mine = &slot[v * LANES_CH + p.lane_ch];
        if (p.lane_time == 0) {
            float4 from = sp_shared_load(mine);
            h[0] = from.x;
            h[1] = from.y;
            h[2] = from.z;
            h[3] = from.w;
            if (chunk) sp_store<GROUP, VEC>(chunk + at, h, n_here);
        }
#pragma unroll
        for (int j = 0; j < GROUP; j++)
            h[j] = scan_state<K, LOCAL>(my, v, A[j] * SP_LOG2E, B[j], C[j], h[j], p.lane_time);
        __syncwarp(); /* the shuffles have carried what was read, but order no memory */
        if (p.lane_time == LANES_TIME - 1) sp_shared_store(mine, float4{h[0], h[1], h[2], h[3]});
    }
}

/* All states of the block between global memory (NULL: zeros, nothing) and shared memory. */
template <bool VEC>
__device__ void load_states(const sp_scan &a, const float *from, float4 *carry, int n_group) {
    for (int i = (int)threadIdx.x; i < n_group * BLOCK_CH; i += 32 * WARPS) {
        int64_t c =
            (int64_t)blockIdx.y * BLOCK_CH + i % BLOCK_CH % LANES_CH * CH + i % BLOCK_CH / LANES_CH;
        int64_t n0 = i / BLOCK_CH * GROUP;
        float h[GROUP] = {};
        int n = sp_left<GROUP>(a.d_state, n0);
        if (from && c < a.d_inner) sp_load<GROUP, VEC>(h, from + c * a.d_state + n0, n);
        sp_shared_store(&carry[i], float4{h[0], h[1], h[2], h[3]});
    }
}
template <bool VEC>
__device__ void store_states(const sp_scan &a, float *to, const float4 *carry, int n_group) {
    for (int i = (int)threadIdx.x; i < n_group * BLOCK_CH; i += 32 * WARPS) {
        int64_t c =
            (int64_t)blockIdx.y * BLOCK_CH + i % BLOCK_CH % LANES_CH * CH + i % BLOCK_CH / LANES_CH;
        int64_t n0 = i / BLOCK_CH * GROUP;
        int n = sp_left<GROUP>(a.d_state, n0);
        float4 from = sp_shared_load(&carry[i]);
        float h[GROUP] = {from.x, from.y, from.z, from.w};
        if (c < a.d_inner) sp_store<GROUP, VEC>(to + c * a.d_state + n0, h, n);
    }
}

/* Tokens [start, end) of a sequence from one state to another (NULL: zeros, not wanted). chunks:
 * where the states before the tokens start, start + SP_SCAN_CHUNK, ... go, or NULL. deltas: with
 * LOCAL, where the sums of delta go. */
template <class T, class P, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void scan_tokens(const sp_scan &a, int start, int end, const float *from,
                                            float *to, float *chunks, float *deltas) {
    constexpr int WARP_TOK = K * LANES_TIME, TILE = WARP_TOK * WARPS;
    static_assert(SP_SCAN_CHUNK % TILE == 0, "a chunk starts where a tile does");
    SP_SHARED(float4, carry);
    const place p = my_place(a.d_inner);
    const int n_group = (int)((a.d_state + GROUP - 1) / GROUP);
    /* No barrier: the slots of warp 0's first group are filled by itself, and a thread reads its
     * own one before the warp's first __syncwarp; others are read after a step's barrier. */
    load_states<VEC>(a, from, carry, n_group);
    /* A tile takes `period` steps of a warp; a group must have left the last warp before the first
     * one comes to it again. */
    const int period = n_group > WARPS || SP_PLANTED("forward wave too close") ? n_group : WARPS;
    const int n_tile = (end - start + TILE - 1) / TILE;
    const int n_step = n_tile > 0 ? n_tile * period + WARPS - 1 : 0;
    int t0 = start + p.warp * WARP_TOK + p.lane_time * K;
    int tile = 0, group = -p.warp;
    part<K> my;
    float sum[CH] = {};
    for (int step = 0; step < n_step; step++) {
        if (group >= 0 && group < n_group && tile < n_tile) {
            if (group == 0) begin_tile<T, P, K, VEC, LOCAL>(a, p, t0, end, &my);
            float *chunk = nullptr;
            if (chunks && p.warp == 0 && tile * TILE % SP_SCAN_CHUNK == 0)
                chunk = chunks + (int64_t)(tile * TILE / SP_SCAN_CHUNK) * a.d_inner * a.d_state;
            scan_group<P, K, VEC, LOCAL>(a, p, t0, end, group * GROUP, carry + group * BLOCK_CH,
                                         chunk, &my);
            if (group == n_group - 1) {
                if (LOCAL) add_deltas<K>(my, sum);
                if (!LOCAL) end_tile<T, K, VEC>(a, p, t0, end, my);
            }
        }
        if (++group == period) {
            group = 0;
            tile++;
            t0 += TILE;
        }
        __syncthreads();
    }
    if (to) store_states<VEC>(a, to, carry, n_group);
    if (LOCAL) store_deltas(p, sum, deltas + p.warp * a.d_inner);
}

/* Tokens behind the last whole SP_SCAN_CHUNK are few enough for smaller tiles, or none: a launch of
 * its own scans them, from the state behind the others. So a sequence that is cut at a multiple of
 * SP_SCAN_CHUNK keeps its bits. Without a place for that state all is one. */
constexpr int64_t LEN_1 = LANES_TIME * WARPS, LEN_2 = 2 * LEN_1;
template <bool VEC> __device__ __forceinline__ int64_t tail_of(int64_t len, const float *state) {
    const int64_t rest = len % SP_SCAN_CHUNK;
    return VEC && rest <= LEN_2 && (state || len <= LEN_2) ? rest : 0;
}
/* Whether tokens of a tail are those of tiles with K; an empty sequence has one, too. */
template <int K> __device__ __forceinline__ bool is_mine(int64_t tail, int64_t len) {
    return K == 2 ? tail > LEN_1 : (tail > 0 && tail <= LEN_1) || len == 0;
}

/* What a block scans: tokens, and the states before and after them. */
struct stretch {
    int start, end;
    int64_t chunk; /* of the first token, in chunk_state */
    const float *from;
    float *to;
    bool here;
};
template <int K, bool VEC> __device__ __forceinline__ stretch my_stretch(const args &k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, n_state = a.d_inner * a.d_state;
    const int64_t first = SP_PLANTED("another document's state") ? 0 : seq;
    const int64_t start = sp_read(&a.cu_seqlens[seq]),
                  len = sp_read(&a.cu_seqlens[seq + 1]) - start;
    float *to = a.state_out ? sp_read(&a.state_out[seq]) : nullptr;
    const int64_t tail = tail_of<VEC>(len, to), body = len - tail;
    stretch s = {(int)start, (int)(start + body), 0, nullptr, to, false};
    if (a.chunk_state) s.chunk = sp_read(&a.cu_chunks[seq]);
    if (a.state_in) s.from = sp_read(&a.state_in[first]);
    if (K < 4) {
        s.here = is_mine<K>(tail, len);
        s.start += (int)body;
        s.end = s.start + (int)tail;
        s.chunk += body / SP_SCAN_CHUNK;
        if (body > 0 && !SP_PLANTED("a tail from the first state")) s.from = to;
    } else if (k.segment > 0) {
        const int64_t n = blockIdx.z, skip = n * k.segment;
        const int64_t before = n > 0 && SP_PLANTED("stale segment") ? n - 1 : n;
        s.here = skip < body || (n == 0 && len == 0 && !VEC);
        if (len >= k.segment) s.from = k.states + (first_slot(k, seq) + before) * n_state;
        s.start += (int)skip;
        s.chunk += skip / SP_SCAN_CHUNK;
        if (body - skip >= k.segment) s.end = s.start + (int)k.segment, s.to = nullptr;
    } else {
        s.here = body > 0 || (len == 0 && !VEC);
    }
    return s;
}

template <class T, class P, int K, bool VEC>
__global__ void __launch_bounds__(32 * WARPS, BLOCKS_OF<T, K>) scan_fwd(const args k) {
    const stretch s = my_stretch<K, VEC>(k);
    if (!s.here) return; /* the whole block */
    float *chunks = k.a.chunk_state;
    if (chunks) chunks += s.chunk * k.a.d_inner * k.a.d_state;
    scan_tokens<T, P, K, VEC, false>(k.a, s.start, s.end, s.from, s.to, chunks, nullptr);
}

/* The states that whole segments leave behind when they start from zeros: into the slot after
 * theirs. */
template <class T, class P, int K, bool VEC>
__global__ void __launch_bounds__(32 * WARPS) scan_segments(const args k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, start = sp_read(&a.cu_seqlens[seq]) + blockIdx.z * k.segment;
    const int64_t end = start + k.segment;
    if (end > sp_read(&a.cu_seqlens[seq + 1])) return; /* the whole block */
    const int64_t slot = first_slot(k, seq) + blockIdx.z;
    scan_tokens<T, P, K, VEC, true>(a, (int)start, (int)end, nullptr,
                                    k.states + (slot + 1) * a.d_inner * a.d_state, nullptr,
                                    k.deltas + slot * WARPS * a.d_inner);
}

/* A thread follows one state of one sequence over its whole segments, and out of them where no
 * block of scan_fwd comes after. */
constexpr int JOIN_THREADS = 128;
template <bool VEC> __global__ void __launch_bounds__(JOIN_THREADS) join_segments(const args k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, n_state = a.d_inner * a.d_state;
    const int64_t i = (int64_t)blockIdx.y * JOIN_THREADS + threadIdx.x, c = i / a.d_state;
    const int64_t len = sp_read(&a.cu_seqlens[seq + 1]) - sp_read(&a.cu_seqlens[seq]);
    const int64_t slot = first_slot(k, seq), n = len / k.segment;
    if (i >= n_state || n == 0) return;
    const float *from = a.state_in ? sp_read(&a.state_in[seq]) : nullptr;
    float *out = a.state_out ? sp_read(&a.state_out[seq]) : nullptr;
    const float A = sp_read(&a.A[i]) * SP_LOG2E;
    float h = from ? sp_read(&from[i]) : 0, *to = k.states + slot * n_state + i;
    const float *deltas = k.deltas + slot * WARPS * a.d_inner + c;
    sp_write(to, h);
    for (int64_t whole = 0; whole < n; whole++) {
        float sum = 0;
        for (int w = 0; w < WARPS; w++) sum += sp_read(&deltas[w * a.d_inner]);
        deltas += WARPS * a.d_inner;
        to += n_state;
        h = fmaf(sp_exp2(A * sum), h, sp_read(to));
        sp_write(to, h);
    }
    if (out && n * k.segment == len - tail_of<VEC>(len, out)) sp_write(out + i, h);
}

/* Whether every access can be of a whole pack. States come from the caller's arrays of pointers,
 * which are on the device: the contract of sp_scan_fwd_cuda has them aligned like the rest. */
template <class T, class P> bool aligned(const sp_scan &a) {
    const uintptr_t rows = (uintptr_t)a.x | (uintptr_t)a.z | (uintptr_t)a.y | (uintptr_t)a.dt |
                           (uintptr_t)a.A | (uintptr_t)a.D | (uintptr_t)a.dt_bias |
                           (uintptr_t)a.chunk_state;
    const uintptr_t groups = (uintptr_t)a.B | (uintptr_t)a.C;
    const int64_t wide = a.ldx | a.ldz | a.ldy | a.d_inner, narrow = a.ldb | a.ldc | a.d_state;
    return rows % 16 == 0 && wide % (16 / (int)sizeof(T)) == 0 &&
           a.lddt % (16 / (int)sizeof(P)) == 0 && groups % (sizeof(P) * GROUP) == 0 &&
           narrow % GROUP == 0;
}

int shared_bytes(const sp_scan &a) {
    return (int)((a.d_state + GROUP - 1) / GROUP) * BLOCK_CH * (int)sizeof(float4);
}
unsigned channel_blocks(const sp_scan &a) {
    return (unsigned)((a.d_inner + BLOCK_CH - 1) / BLOCK_CH);
}

template <class KERNEL>
int launch_kernel(KERNEL kernel, const args &k, unsigned grid_z, cudaStream_t stream) {
    const int shared = shared_bytes(k.a);
    if (shared > 48 << 10) {
        int error = SP_ALLOW_SHARED(kernel, shared);
        if (error) return error;
    }
    dim3 grid((unsigned)k.a.n_seq, channel_blocks(k.a), grid_z);
    SP_LAUNCH(kernel, grid, dim3(32 * WARPS), (size_t)shared, stream, k);
    return SP_LAST_ERROR();
}

template <class T, class P> int launch(const args &k, int64_t len_max, cudaStream_t stream) {
    const unsigned n = k.segment > 0 ? (unsigned)((len_max + k.segment - 1) / k.segment) : 1;
    int error = 0;
    if (!aligned<T, P>(k.a)) return launch_kernel(scan_fwd<T, P, 4, false>, k, n, stream);
    if (len_max > LEN_2) error = launch_kernel(scan_fwd<T, P, 4, true>, k, n, stream);
    if (!error && len_max > LEN_1) error = launch_kernel(scan_fwd<T, P, 2, true>, k, 1, stream);
    return error ? error : launch_kernel(scan_fwd<T, P, 1, true>, k, 1, stream);
}

template <class T, class P> int launch_split(const args &k, int64_t len_max, cudaStream_t stream) {
    const unsigned n = (unsigned)(len_max / k.segment);
    const bool wide = aligned<T, P>(k.a);
    int error = wide ? launch_kernel(scan_segments<T, P, 4, true>, k, n, stream)
                     : launch_kernel(scan_segments<T, P, 4, false>, k, n, stream);
    if (error) return error;
    const int64_t n_state = k.a.d_inner * k.a.d_state;
    dim3 grid((unsigned)k.a.n_seq, (unsigned)((n_state + JOIN_THREADS - 1) / JOIN_THREADS));
    SP_LAUNCH(wide ? join_segments<true> : join_segments<false>, grid, dim3(JOIN_THREADS), 0,
              stream, k);
    error = SP_LAST_ERROR();
    return error ? error : launch<T, P>(k, len_max, stream);
}

/* run(T{}, P{}) for the types that there are: P is T, or float beside bf16. */
template <class F> int by_types(enum sp_cuda_type type, enum sp_cuda_type part_type, F run) {
    if (part_type == type) return sp_by_type(type, [&](auto t) { return run(t, t); });
    if (type == SP_CUDA_BF16 && part_type == SP_CUDA_F32) return run(sp_bf16{}, 0.f);
    return (int)cudaErrorInvalidValue;
}

int64_t n_slot(const sp_scan &a, int64_t n_tok, int64_t segment) {
    return n_tok / segment + a.n_seq;
}

} // namespace

int sp_scan_fwd_cuda(const struct sp_scan *a, enum sp_cuda_type type, enum sp_cuda_type part_type,
                     int64_t len_max, sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    const args k = {*a, 0, nullptr, nullptr};
    return by_types(type, part_type, [&](auto t, auto p) {
        return launch<decltype(t), decltype(p)>(k, len_max, static_cast<cudaStream_t>(stream));
    });
}

int64_t sp_scan_split_cuda_workspace(const struct sp_scan *a, int64_t n_tok, int64_t segment) {
    return n_slot(*a, n_tok, segment) * a->d_inner * (a->d_state + WARPS);
}

int sp_scan_split_cuda(const struct sp_scan *a, enum sp_cuda_type type, enum sp_cuda_type part_type,
                       int64_t n_tok, int64_t len_max, int64_t segment, float *workspace,
                       sp_cuda_stream stream) {
    if (len_max < segment) return sp_scan_fwd_cuda(a, type, part_type, len_max, stream);
    if (a->n_seq == 0) return 0;
    const int64_t n_state = a->d_inner * a->d_state;
    const args k = {*a, segment, workspace, workspace + n_slot(*a, n_tok, segment) * n_state};
    return by_types(type, part_type, [&](auto t, auto p) {
        return launch_split<decltype(t), decltype(p)>(k, len_max,
                                                      static_cast<cudaStream_t>(stream));
    });
}
