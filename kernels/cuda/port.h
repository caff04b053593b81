/* What a kernel here is written in: CUDA C++ through nvcc, or the same source through g++ and the
 * emulator of tests/emu. All memory is reached through the helpers below, so that the emulator
 * counts each access and may preempt a thread there; only *_sync shuffles are used, and shared
 * memory is the launch's dynamic one (SP_SHARED). No CUB, no static shared memory, no fast-math. */
#ifndef SP_CUDA_PORT_H
#define SP_CUDA_PORT_H

#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define SP_TOUCH(kind, bytes)
#define SP_SHARED(type, name)                                                                      \
    extern __shared__ float4 sp_shared_memory[];                                                   \
    type *name = reinterpret_cast<type *>(sp_shared_memory)
#define SP_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    (kernel)<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define SP_LAST_ERROR() cudaGetLastError()
#define SP_PLANTED(name) false
#define SP_ALLOW_SHARED(kernel, bytes)                                                             \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)
#else
#include "emu.h"
#define SP_TOUCH(kind, bytes) emu_touch(kind, bytes)
#define SP_SHARED(type, name) type *name = static_cast<type *>(emu_shared())
#define SP_LAUNCH EMU_LAUNCH
#define SP_LAST_ERROR() emu_last_error()
/* A bug that a check of the checks asks for; never one on a device. */
#define SP_PLANTED(name)                                                                           \
    ([] {                                                                                          \
        static const bool wanted = emu_planted(name);                                              \
        return wanted;                                                                             \
    }())
#define SP_ALLOW_SHARED(kernel, bytes)                                                             \
    emu_allow_shared(reinterpret_cast<const void *>(kernel), bytes)
#endif

/* Sixteen-bit activations, as they are stored. */
struct sp_bf16 {
    uint16_t bits;
};
struct sp_half {
    uint16_t bits;
};

static __device__ __forceinline__ uint32_t sp_bits(float x) {
#ifdef __CUDACC__
    return __float_as_uint(x);
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}
static __device__ __forceinline__ float sp_float(uint32_t bits) {
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

static __device__ __forceinline__ float sp_widen(float x) {
    return x;
}
static __device__ __forceinline__ float sp_widen(sp_bf16 x) {
    return sp_float((uint32_t)x.bits << 16);
}
static __device__ __forceinline__ float sp_widen(sp_half x) {
#ifdef __CUDACC__
    return __half2float(__ushort_as_half(x.bits));
#else
    return emu_from_half(x.bits);
#endif
}
/* To the nearest, ties to even; NaN stays NaN. */
static __device__ __forceinline__ void sp_narrow(float x, float *to) {
    *to = x;
}
static __device__ __forceinline__ void sp_narrow(float x, sp_bf16 *to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to->bits) : "f"(x));
#else
    uint32_t bits = sp_bits(x), round = 0x7fff + (bits >> 16 & 1);
    to->bits = (uint16_t)(x == x ? (bits + round) >> 16 : bits >> 16 | 64);
#endif
}
static __device__ __forceinline__ void sp_narrow(float x, sp_half *to) {
#ifdef __CUDACC__
    to->bits = __half_as_ushort(__float2half_rn(x));
#else
    to->bits = emu_to_half(x);
#endif
}

/* What T holds of x. */
template <class T> static __device__ __forceinline__ float sp_rounded(float x) {
    T narrow;
    sp_narrow(x, &narrow);
    return sp_widen(narrow);
}

/* 2^x. On the device to 2^-22 relative, denormals flushed (PTX ISA, ex2.approx); libm's here. */
static __device__ __forceinline__ float sp_exp2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    emu_count_exponential();
    return exp2f(x);
#endif
}
#define SP_LOG2E 1.44269504088896341f

/* softplus with its guard, and the logistic function; both are computed once per element, not per
 * state, and so in full precision. */
static __device__ __forceinline__ float sp_softplus(float u) {
    return u > 20 ? u : log1pf(expf(u));
}
static __device__ __forceinline__ float sp_sigmoid(float u) {
    return 1 / (1 + expf(-u));
}

/* One value of global memory as it is: a length, an id, a pointer. */
template <class T> static __device__ __forceinline__ T sp_read(const T *from) {
    SP_TOUCH(EMU_GLOBAL_LOAD, sizeof(T));
    return *from;
}

template <class T> static __device__ __forceinline__ void sp_write(T *to, T value) {
    SP_TOUCH(EMU_GLOBAL_STORE, sizeof(T));
    *to = value;
}

/* How many of the N elements from `at` on are before `end`. */
template <int N> static __device__ __forceinline__ int sp_left(int64_t end, int64_t at) {
    return end - at >= N ? N : end > at ? (int)(end - at) : 0;
}

/* Of two 16-bit values in a word, the one in its low or high half. */
static __device__ __forceinline__ float sp_widen_part(sp_bf16, uint32_t word, bool high) {
    return sp_float(high ? word & 0xffff0000u : word << 16);
}
static __device__ __forceinline__ float sp_widen_part(sp_half, uint32_t word, bool high) {
    return sp_widen(sp_half{(uint16_t)(high ? word >> 16 : word)});
}

/* Element i of T in words. */
template <class T> static __device__ __forceinline__ float sp_unpacked(const uint32_t *w, int i) {
    if constexpr (sizeof(T) == 4) {
        return sp_float(w[i]);
    } else {
        return sp_widen_part(T{}, w[i / 2], i % 2);
    }
}
template <class T> static __device__ __forceinline__ void sp_packed(float x, uint32_t *w, int i) {
    if constexpr (sizeof(T) == 4) {
        w[i] = sp_bits(x);
    } else {
        T narrow;
        sp_narrow(x, &narrow);
        w[i / 2] = i % 2 ? w[i / 2] | (uint32_t)narrow.bits << 16 : narrow.bits;
    }
}

/* What one access of N elements, 4, 8 or 16 bytes, moves. */
template <class T, int N> struct alignas(sizeof(T) * N) sp_pack {
    uint32_t words[sizeof(T) * N / 4];
};

/* x[0..N) = from[0..n), the rest zero: with VEC, when all is there (n >= N), in accesses of a pack,
 * else one by one. With VEC, `from` is aligned to the pack: all of x or 16 bytes of it. */
template <int N, bool VEC, class T>
static __device__ __forceinline__ void sp_load(float (&x)[N], const T *from, int n) {
    constexpr int P = N * (int)sizeof(T) <= 16 ? N : 16 / (int)sizeof(T);
    static_assert(N % P == 0, "whole packs");
    if constexpr (VEC) {
        if (n >= N) {
#pragma unroll
            for (int first = 0; first < N; first += P) {
                SP_TOUCH(EMU_GLOBAL_LOAD, sizeof(T) * P);
                sp_pack<T, P> pack = *reinterpret_cast<const sp_pack<T, P> *>(from + first);
#pragma unroll
                for (int i = 0; i < P; i++) x[first + i] = sp_unpacked<T>(pack.words, i);
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = 0;
        if (i < n) {
            SP_TOUCH(EMU_GLOBAL_LOAD, sizeof(T));
            x[i] = sp_widen(from[i]);
        }
    }
}
/* to[0..min(n, N)) = x, likewise. */
template <int N, bool VEC, class T>
static __device__ __forceinline__ void sp_store(T *to, const float (&x)[N], int n) {
    constexpr int P = N * (int)sizeof(T) <= 16 ? N : 16 / (int)sizeof(T);
    static_assert(N % P == 0, "whole packs");
    if constexpr (VEC) {
        if (n >= N) {
#pragma unroll
            for (int first = 0; first < N; first += P) {
                SP_TOUCH(EMU_GLOBAL_STORE, sizeof(T) * P);
                sp_pack<T, P> pack;
#pragma unroll
                for (int i = 0; i < P; i++) sp_packed<T>(x[first + i], pack.words, i);
                *reinterpret_cast<sp_pack<T, P> *>(to + first) = pack;
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (i < n || SP_PLANTED("store past the tail")) {
            SP_TOUCH(EMU_GLOBAL_STORE, sizeof(T));
            sp_narrow(x[i], &to[i]);
        }
    }
}
/* One value of shared memory, of up to 16 bytes. */
template <class T> static __device__ __forceinline__ T sp_shared_load(const T *from) {
    SP_TOUCH(EMU_SHARED_LOAD, sizeof(T));
    return *from;
}
template <class T> static __device__ __forceinline__ void sp_shared_store(T *to, T value) {
    SP_TOUCH(EMU_SHARED_STORE, sizeof(T));
    *to = value;
}

/* run(T{}) for the elements' type that `type` names; an enum sp_cuda_type. */
template <class F> static inline int sp_by_type(int type, F run) {
    return type == 1 ? run(sp_bf16{}) : type == 2 ? run(sp_half{}) : run(0.f);
}

#endif
