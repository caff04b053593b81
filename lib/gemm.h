/* Matrix products on the CPU: oneDNN's primitives, executed tile by tile on our own pool.
 *
 * A packed weight is cut into blocks of outputs and a product into tiles of SP_GEMM_TILE rows, the
 * last one padded, so that one primitive per block does all the work whatever the number of rows:
 * a row's bits depend on nothing but the row. oneDNN is called with one OpenMP thread on each
 * worker, because libgomp's own workers would spin between products.
 *
 * Packing is put off until a weight has met many rows; until then its blocks are packed as they are
 * used, which takes the memory of one of them.
 *
 * A gemm owns its engine, streams and scratch memory and borrows the pool and the kernels; a packed
 * weight owns its copy, borrows the weight, and is freed before its gemm. One caller at a time.
 */
#ifndef SP_GEMM_H
#define SP_GEMM_H

#include "../kernels/kernels.h"
#include "pool.h"

#define SP_GEMM_TILE 64        /* rows */
#define SP_GEMM_BLOCK_MAX 2048 /* outputs */

/* n_bytes, 64-byte aligned, uninitialised, in huge pages where they are many; free() it. NULL when
 * out of memory. */
void *sp_gemm_alloc(size_t n_bytes);

struct sp_gemm;
enum sp_code sp_gemm_new(struct sp_gemm **g, struct sp_pool *pool, const struct sp_kernels *k,
                         struct sp_error *err);
void sp_gemm_free(struct sp_gemm *g);
/* The instruction sets of f32 and of bf16 products, as oneDNN names its kernels: asks by making a
 * primitive. */
void sp_gemm_describe(struct sp_gemm *g, char *out, size_t size);

/* w (d_out, d_in) of f32, f16 or bf16; bias (d_out) or NULL is copied. compute SP_F32 or SP_BF16;
 * where the CPU has no bf16 products, rounded inputs are multiplied in f32. */
struct sp_packed;
enum sp_code sp_packed_new(struct sp_packed **p, struct sp_gemm *g, const void *w,
                           enum sp_dtype dtype, int64_t d_out, int64_t d_in, const float *bias,
                           enum sp_dtype compute, struct sp_error *err);
void sp_packed_free(struct sp_packed *p);
/* y (n_row, d_out; ldy) = or += x (n_row, d_in; ldx) w^T + bias. */
enum sp_code sp_packed_run(struct sp_packed *p, const float *x, int64_t ldx, int64_t n_row,
                           float *y, int64_t ldy, bool add, struct sp_error *err);

/* C (m, n) = or += op(A) op(B), f32, unpacked; see struct sp_backend. Cut by its shape alone. */
enum sp_code sp_gemm_plain(struct sp_gemm *g, bool trans_a, bool trans_b, int64_t m, int64_t n,
                           int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float *c, int64_t ldc, bool add, struct sp_error *err);

#endif
