/* A CUDA emulator for kernels that keep to kernels/cuda/port.h: g++ compiles the kernel, and each
 * CUDA thread is a fiber of one host thread that runs until it has to wait (or is made to).
 *
 * What is emulated: a grid of blocks, one after the other; __syncthreads, __syncwarp, the *_sync
 * shuffles and ballot with their masks, as rendezvous; atomics; dynamic shared memory, which starts
 * as NaN and is as long as the launch said, to the byte. What is not: the order between blocks, the
 * memory model below a barrier (each access is seen at once), registers, speed, the compiler.
 *
 * Under ThreadSanitizer fibers are told to be unordered but for the start and the end of a launch,
 * __syncthreads and __syncwarp, so that it sees a race in any schedule; a shuffle orders nothing.
 * This file is included by port.h; a check includes emu_control.h. */
#ifndef SP_EMU_H
#define SP_EMU_H

#include "cuda/cuda_runtime_api.h"
#include "emu_control.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct emu_thread {
    dim3 thread_idx, block_idx, block_dim, grid_dim;
};
extern emu_thread *emu_current;
#define threadIdx (emu_current->thread_idx)
#define blockIdx (emu_current->block_idx)
#define blockDim (emu_current->block_dim)
#define gridDim (emu_current->grid_dim)

/* The launch's error stays until emu_last_error takes it, as cudaGetLastError does. `kernel` tells
 * kernels apart; only one that has asked (emu_allow_shared) gets more than 48 KiB. */
#define EMU_LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    emu_launch(reinterpret_cast<const void *>(kernel), grid, block,                                \
               emu_shared_of(shared, __FILE__, __LINE__), stream, emu_bind(kernel, __VA_ARGS__))
void emu_launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                std::function<void()> body);
/* A kernel with its arguments, which are copied now, as a launch does, and used when it runs. */
template <class K, class... A> static inline std::function<void()> emu_bind(K kernel, A... a) {
    return [=] { kernel(a...); };
}
/* NULL: a launch runs at once. Else it is checked and handed to this, to run later (runtime.cc). */
extern cudaError_t (*emu_defer)(cudaStream_t stream, std::function<void()> work);
cudaError_t emu_allow_shared(const void *kernel, int bytes);
extern size_t emu_shared_most; /* what a kernel can be allowed; 227 KiB unless runtime.cc says so */
cudaError_t emu_last_error();

enum emu_rendezvous {
    EMU_SHUFFLE_UP,
    EMU_SHUFFLE_DOWN,
    EMU_SHUFFLE_XOR,
    EMU_SHUFFLE,
    EMU_BALLOT,
    EMU_SYNCWARP
};
void emu_barrier(const char *file, int line);
uint64_t emu_warp(emu_rendezvous op, unsigned mask, uint64_t bits, unsigned arg, int width);
void *emu_shared();
/* One access of each thread, told by port.h's helpers: the place where a schedule may preempt. */
enum emu_access {
    EMU_GLOBAL_LOAD,
    EMU_GLOBAL_STORE,
    EMU_SHARED_LOAD,
    EMU_SHARED_STORE,
    EMU_ATOMIC
};
void emu_touch(emu_access kind, size_t bytes);
void emu_count_exponential();

/* IEEE half precision, round to nearest even. */
float emu_from_half(uint16_t bits);
uint16_t emu_to_half(float x);

/* Bugs for a check of the checks (planted.cc): is this one wanted? */
bool emu_planted_at(const char *kind, const char *file, int line);
bool emu_planted(const char *name);

static inline size_t emu_shared_of(size_t bytes, const char *file, int line) {
    return bytes > 0 && emu_planted_at("shared", file, line) ? bytes - 4 : bytes;
}

#define __syncthreads() emu_barrier(__FILE__, __LINE__)
#define __syncwarp() emu_syncwarp(__FILE__, __LINE__)
static inline void emu_syncwarp(const char *file, int line) {
    if (!emu_planted_at("barrier", file, line)) emu_warp(EMU_SYNCWARP, ~0u, 0, 0, 32);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned)emu_warp(EMU_BALLOT, mask, predicate != 0, 0, 32);
}
template <class T>
static inline T emu_shuffle(emu_rendezvous op, unsigned mask, T value, unsigned arg, int width) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves one register or two");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emu_warp(op, mask, bits, arg, width);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return emu_shuffle(EMU_SHUFFLE_UP, mask, value, delta, width);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return emu_shuffle(EMU_SHUFFLE_DOWN, mask, value, delta, width);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    return emu_shuffle(EMU_SHUFFLE_XOR, mask, value, (unsigned)lanes, width);
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return emu_shuffle(EMU_SHUFFLE, mask, value, (unsigned)lane, width);
}

static inline float atomicAdd(float *at, float value) {
    emu_touch(EMU_ATOMIC, sizeof *at);
    float old;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    float sum = old + value;
    while (!__atomic_compare_exchange(at, &old, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        sum = old + value;
    return old;
}

#endif
