/* The CPU backend's inside, shared by its files: backend_cpu.c (memory, weights, forward kernels)
 * and backend_cpu_grad.c (backward kernels, optimiser, tables). Device memory is host memory.
 */
#ifndef SP_BACKEND_CPU_H
#define SP_BACKEND_CPU_H

#include "backend.h"
#include "gemm.h"
#include "pool.h"

struct sp_cpu {
    struct sp_backend be;
    struct sp_pool *pool;
    struct sp_kernels k;
    struct sp_gemm *gemm;
    float *rounded; /* inputs of a matrix-vector product, rounded to bf16 */
    size_t rounded_bytes;
    float *parts; /* sums that parts of a gradient make apart, before they are added in order */
    size_t parts_bytes;
};

/* Work is cut by its shape alone, never by the number of threads: sums of parts keep their order.
 */
#define SP_CPU_PARTS 8

static inline struct sp_cpu *sp_cpu_of(struct sp_backend *be) {
    return be->ctx;
}
static inline int64_t sp_cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Makes *buffer at least n_bytes long, uninitialised, 64-byte aligned. */
enum sp_code sp_cpu_grow(float **buffer, size_t *have, size_t n_bytes, struct sp_error *err);
/* Channels per item: a multiple of 16 that gives every thread several items, or all of them where
 * the work (in elements) is not worth waking anyone. */
int64_t sp_cpu_channels(int64_t d_inner, int64_t work);
/* Installs the operations of backend_cpu_grad.c. */
void sp_cpu_grad_install(struct sp_backend *be);

#endif
