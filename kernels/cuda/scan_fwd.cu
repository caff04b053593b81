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
 * Long sequences can be cut into segments, a block each, in three launches: every segment but the
 * last from a state of zeros, for its last state alone (LOCAL below); the states before all
 * segments, since h = exp(A sum delta) h + h from zeros; the scan of each segment from its own. */
#include "block.h"
#include "launch.h"

namespace {

constexpr int CH = 4;         /* channels of a thread */
constexpr int LANES_CH = 8;   /* threads of a warp over channels */
constexpr int LANES_TIME = 4; /* and over time */
constexpr int WARPS = 4;      /* warps of a block, over time */
constexpr int GROUP = 4;      /* states that are worked on together */
constexpr int BLOCK_CH = CH * LANES_CH;

template <class T> __device__ __forceinline__ const T *as(const float *p) {
    return reinterpret_cast<const T *>(p);
}

/* Blocks of scan_fwd that an SM is to hold at least, by tokens per thread: what ptxas takes for a
 * bound on registers, and the highest that made it spill on none of the architectures. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int BLOCKS[5] = {0, 8, 4, 0, 3};
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int BLOCKS[5] = {0, 6, 5, 0, 3};
#else
constexpr int BLOCKS[5] = {0, 8, 5, 0, 4};
#endif

struct args {
    sp_scan a;
    int64_t segment, n_segment; /* a segment's tokens, and how many the longest has; 0: none */
    float *states;              /* (n_seq, n_segment, d_inner, d_state) before each segment */
    float *deltas;              /* (n_seq, n_segment, WARPS, d_inner): sums of delta in each */
};

/* What a thread keeps of its part of a tile, per token and channel. */
template <int K> struct part { float delta[K][CH], dx[K][CH] /* delta * x */, y[K][CH]; };

/* A thread's place: its first channel and how many of its channels exist. */
struct place {
    int warp, lane_ch, lane_time, n_ch;
    int64_t c0;
};

__device__ __forceinline__ place my_place(int64_t d_inner) {
    place p;
    int lane = (int)threadIdx.x % 32;
    p.warp = (int)threadIdx.x / 32;
    p.lane_ch = lane % LANES_CH;
    p.lane_time = lane / LANES_CH;
    p.c0 = (int64_t)blockIdx.y * BLOCK_CH + p.lane_ch * CH;
    p.n_ch = sp_left<CH>(d_inner, p.c0);
    return p;
}

/* Reads K tokens from t0 on; what is past the end leaves a state as it is: delta = 0. */
template <class T, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void begin_tile(const sp_scan &a, const place &p, int64_t t0,
                                           int64_t end, part<K> *my) {
    float bias[CH] = {}, D[CH] = {};
    if (a.dt_bias) sp_load<CH, VEC>(bias, a.dt_bias + p.c0, p.n_ch);
    if (a.D && !LOCAL) sp_load<CH, VEC>(D, a.D + p.c0, p.n_ch);
#pragma unroll
    for (int k = 0; k < K; k++) {
        float x[CH], dt[CH];
        int n = t0 + k < end ? p.n_ch : 0;
        sp_load<CH, VEC>(x, as<T>(a.x) + (t0 + k) * a.ldx + p.c0, n);
        sp_load<CH, VEC>(dt, as<T>(a.dt) + (t0 + k) * a.lddt + p.c0, n);
#pragma unroll
        for (int v = 0; v < CH; v++) {
            float delta = v < n ? sp_softplus(dt[v] + bias[v]) : 0;
            my->delta[k][v] = delta;
            my->dx[k][v] = delta * x[v];
            my->y[k][v] = D[v] * x[v];
        }
    }
}

template <class T, int K, bool VEC>
__device__ __forceinline__ void end_tile(const sp_scan &a, const place &p, int64_t t0, int64_t end,
                                         part<K> *my) {
#pragma unroll
    for (int k = 0; k < K; k++) {
        int n = t0 + k < end ? p.n_ch : 0;
        if (a.z) {
            float z[CH];
            sp_load<CH, VEC>(z, as<T>(a.z) + (t0 + k) * a.ldz + p.c0, n);
#pragma unroll
            for (int v = 0; v < CH; v++) my->y[k][v] *= z[v] * sp_sigmoid(z[v]);
        }
        T *y = reinterpret_cast<T *>(a.y);
        sp_store<CH, VEC>(y + (t0 + k) * a.ldy + p.c0, my->y[k], n);
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
template <class T, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void scan_group(const sp_scan &a, const place &p, int64_t t0,
                                           int64_t end, int64_t n0, float4 *slot, float *chunk,
                                           part<K> *my) {
    float B[GROUP][K], C[GROUP][K];
    int n = sp_left<GROUP>(a.d_state, n0);
#pragma unroll
    for (int k = 0; k < K; k++) {
        /* Past the end the last token's are read: they change nothing there. */
        int64_t t = t0 + k < end ? t0 + k : end - 1;
        float row[GROUP];
        sp_load<GROUP, VEC>(row, as<T>(a.B) + t * a.ldb + n0, n);
#pragma unroll
        for (int j = 0; j < GROUP; j++) B[j][k] = row[j];
        if (LOCAL) continue;
        sp_load<GROUP, VEC>(row, as<T>(a.C) + t * a.ldc + n0, n);
#pragma unroll
        for (int j = 0; j < GROUP; j++) C[j][k] = row[j];
    }
#pragma unroll
    for (int v = 0; v < CH; v++) {
        float A[GROUP];
        int64_t at = (p.c0 + v) * a.d_state + n0;
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
template <class T, int K, bool VEC, bool LOCAL>
__device__ __forceinline__ void scan_tokens(const sp_scan &a, int64_t start, int64_t end,
                                            const float *from, float *to, float *chunks,
                                            float *deltas) {
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
    const int n_tile = (int)((end - start + TILE - 1) / TILE);
    const int n_step = n_tile > 0 ? n_tile * period + WARPS - 1 : 0;
    int64_t t0 = start + p.warp * WARP_TOK + p.lane_time * K;
    int tile = 0, group = -p.warp;
    part<K> my;
    float sum[CH] = {};
    for (int step = 0; step < n_step; step++) {
        if (group >= 0 && group < n_group && tile < n_tile) {
            if (group == 0) begin_tile<T, K, VEC, LOCAL>(a, p, t0, end, &my);
            float *chunk = nullptr;
            if (chunks && p.warp == 0 && tile * TILE % SP_SCAN_CHUNK == 0)
                chunk = chunks + (int64_t)(tile * TILE / SP_SCAN_CHUNK) * a.d_inner * a.d_state;
            scan_group<T, K, VEC, LOCAL>(a, p, t0, end, (int64_t)group * GROUP,
                                         carry + group * BLOCK_CH, chunk, &my);
            if (group == n_group - 1) {
                if (LOCAL) add_deltas<K>(my, sum);
                if (!LOCAL) end_tile<T, K, VEC>(a, p, t0, end, &my);
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

/* The K of a sequence depends on its own length only, and so do its bits: in a launch of kernels of
 * several K, each takes the sequences that are its own. */
constexpr int64_t LEN_1 = LANES_TIME * WARPS, LEN_2 = 2 * LEN_1;
template <bool VEC> __host__ __device__ constexpr int k_of(int64_t len) {
    return !VEC || len > LEN_2 ? 4 : len > LEN_1 ? 2 : 1;
}

template <class T, int K, bool VEC>
__global__ void __launch_bounds__(32 * WARPS, BLOCKS[K]) scan_fwd(const args k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, n_state = a.d_inner * a.d_state;
    int64_t start = sp_read(&a.cu_seqlens[seq]), end = sp_read(&a.cu_seqlens[seq + 1]);
    const int64_t len = end - start;
    if (k_of<VEC>(len) != K) return; /* the whole block */
    const int64_t first = SP_PLANTED("another document's state") ? 0 : seq;
    const float *from = a.state_in ? sp_read(&a.state_in[first]) : nullptr;
    float *to = a.state_out ? sp_read(&a.state_out[seq]) : nullptr;
    float *chunks = a.chunk_state;
    if (chunks) chunks += sp_read(&a.cu_chunks[seq]) * n_state;
    if (k.segment > 0) {
        const int64_t segment = blockIdx.z, skip = segment * k.segment;
        if (segment > 0 && skip >= len) return; /* the whole block */
        const int64_t before = segment > 0 && SP_PLANTED("stale segment") ? segment - 1 : segment;
        if (len > k.segment) from = k.states + (seq * k.n_segment + before) * n_state;
        if (len > skip + k.segment) to = nullptr, end = start + skip + k.segment;
        if (chunks) chunks += skip / SP_SCAN_CHUNK * n_state;
        start += skip;
    }
    scan_tokens<T, K, VEC, false>(a, start, end, from, to, chunks, nullptr);
}

/* The states that the segments but the last leave behind when they start from zeros: into the place
 * of the state before the next one. */
template <class T, int K, bool VEC>
__global__ void __launch_bounds__(32 * WARPS) scan_segments(const args k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, at = seq * k.n_segment + blockIdx.z;
    const int64_t start = sp_read(&a.cu_seqlens[seq]) + blockIdx.z * k.segment;
    const int64_t end = start + k.segment;
    if (end >= sp_read(&a.cu_seqlens[seq + 1])) return; /* the last: the whole block */
    scan_tokens<T, K, VEC, true>(a, start, end, nullptr,
                                 k.states + (at + 1) * a.d_inner * a.d_state, nullptr,
                                 k.deltas + at * WARPS * a.d_inner);
}

/* A thread follows one state of one sequence over its segments. */
constexpr int JOIN_THREADS = 128;
__global__ void __launch_bounds__(JOIN_THREADS) join_segments(const args k) {
    const sp_scan &a = k.a;
    const int64_t seq = blockIdx.x, n_state = a.d_inner * a.d_state;
    const int64_t i = (int64_t)blockIdx.y * JOIN_THREADS + threadIdx.x, c = i / a.d_state;
    const int64_t len = sp_read(&a.cu_seqlens[seq + 1]) - sp_read(&a.cu_seqlens[seq]);
    if (i >= n_state || len <= k.segment) return;
    const float *from = a.state_in ? sp_read(&a.state_in[seq]) : nullptr;
    const float A = sp_read(&a.A[i]) * SP_LOG2E;
    float h = from ? sp_read(&from[i]) : 0, *to = k.states + seq * k.n_segment * n_state + i;
    const float *deltas = k.deltas + seq * k.n_segment * WARPS * a.d_inner + c;
    sp_write(to, h);
    for (int64_t after = k.segment; after < len; after += k.segment) {
        float sum = 0;
        for (int w = 0; w < WARPS; w++) sum += sp_read(&deltas[w * a.d_inner]);
        deltas += WARPS * a.d_inner;
        to += n_state;
        h = fmaf(sp_exp2(A * sum), h, sp_read(to));
        sp_write(to, h);
    }
}

/* Whether every access can be of a whole pack. States come from the caller's arrays of pointers,
 * which are on the device: the contract of sp_scan_fwd_cuda has them aligned like the rest. */
template <class T> bool aligned(const sp_scan &a) {
    const uintptr_t wide = sizeof(T) * CH - 1, states = sizeof(float) * GROUP - 1;
    uintptr_t low = (uintptr_t)a.x | (uintptr_t)a.dt | (uintptr_t)a.z | (uintptr_t)a.y |
                    (uintptr_t)a.B | (uintptr_t)a.C;
    uintptr_t low32 =
        (uintptr_t)a.A | (uintptr_t)a.D | (uintptr_t)a.dt_bias | (uintptr_t)a.chunk_state;
    int64_t rows = a.ldx | a.lddt | a.ldz | a.ldy | a.ldb | a.ldc | a.d_state | a.d_inner;
    return (low & wide) == 0 && (low32 & states) == 0 && rows % 4 == 0;
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

template <class T> int launch(const args &k, int64_t len_max, cudaStream_t stream) {
    const unsigned n = k.segment > 0 ? (unsigned)k.n_segment : 1;
    int error = 0;
    if (!aligned<T>(k.a)) return launch_kernel(scan_fwd<T, 4, false>, k, n, stream);
    if (len_max > LEN_2) error = launch_kernel(scan_fwd<T, 4, true>, k, n, stream);
    if (!error && len_max > LEN_1) error = launch_kernel(scan_fwd<T, 2, true>, k, 1, stream);
    return error ? error : launch_kernel(scan_fwd<T, 1, true>, k, 1, stream);
}

template <class T> int launch_split(const args &k, int64_t len_max, cudaStream_t stream) {
    const unsigned n = (unsigned)k.n_segment - 1;
    int error = aligned<T>(k.a) ? launch_kernel(scan_segments<T, 4, true>, k, n, stream)
                                : launch_kernel(scan_segments<T, 4, false>, k, n, stream);
    if (error) return error;
    const int64_t n_state = k.a.d_inner * k.a.d_state;
    dim3 grid((unsigned)k.a.n_seq, (unsigned)((n_state + JOIN_THREADS - 1) / JOIN_THREADS));
    SP_LAUNCH(join_segments, grid, dim3(JOIN_THREADS), 0, stream, k);
    error = SP_LAST_ERROR();
    return error ? error : launch<T>(k, len_max, stream);
}

int64_t segments_of(int64_t len_max, int64_t segment) {
    return (len_max + segment - 1) / segment;
}

} // namespace

int sp_scan_fwd_cuda(const struct sp_scan *a, enum sp_cuda_type type, int64_t len_max,
                     sp_cuda_stream stream) {
    if (a->n_seq == 0) return 0;
    const args k = {*a, 0, 0, nullptr, nullptr};
    return sp_by_type(type, [&](auto t) {
        return launch<decltype(t)>(k, len_max, static_cast<cudaStream_t>(stream));
    });
}

int64_t sp_scan_split_cuda_workspace(const struct sp_scan *a, int64_t len_max, int64_t segment) {
    if (len_max <= segment) return 0;
    return a->n_seq * segments_of(len_max, segment) * a->d_inner * (a->d_state + WARPS);
}

int sp_scan_split_cuda(const struct sp_scan *a, enum sp_cuda_type type, int64_t len_max,
                       int64_t segment, float *workspace, sp_cuda_stream stream) {
    if (len_max <= segment) return sp_scan_fwd_cuda(a, type, len_max, stream);
    if (a->n_seq == 0) return 0;
    const int64_t n = segments_of(len_max, segment), n_state = a->d_inner * a->d_state;
    const args k = {*a, segment, n, workspace, workspace + a->n_seq * n * n_state};
    return sp_by_type(type, [&](auto t) {
        return launch_split<decltype(t)>(k, len_max, static_cast<cudaStream_t>(stream));
    });
}
