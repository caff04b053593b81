/* What the two files of gemm.h share: the engine and its threads' memory. Internal to gemm*.c. */
#ifndef SP_GEMM_DNNL_H
#define SP_GEMM_DNNL_H

#include "gemm.h"

#include <oneapi/dnnl/dnnl.h>

#define SP_ROUND_UP(x, unit) (((x) + (unit)-1) / (unit) * (unit))

struct sp_gemm_room {
    dnnl_stream_t stream;
    void *scratch; /* oneDNN's */
    size_t scratch_bytes;
    void *x; /* (tile, d_in): a tile's input, where that is not dense or not whole */
    size_t x_bytes;
    void *plain; /* (block, d_in) of f32, and of bf16 behind it: what is packed */
    size_t plain_bytes;
    void *block; /* a packed block that is not kept */
    size_t block_bytes;
    float *y; /* (tile, block): a tile's output, where that is not dense: oneDNN's fast kernels
                 write dense matrices only */
};

struct sp_gemm {
    struct sp_pool *pool;
    const struct sp_kernels *k;
    dnnl_engine_t engine;
    bool has_bf16;
    void *rounded; /* (rows, d_in): x rounded to bf16, padded to whole tiles */
    size_t rounded_bytes;
    struct sp_gemm_room room[SP_POOL_THREADS_MAX];
};

/* SP_E_DEVICE, with what was being done. */
enum sp_code sp_gemm_failed(struct sp_error *err, dnnl_status_t status, const char *what);
/* The descriptor of a (SP_GEMM_TILE, d_in) x (d_in, width) product; weight's layout as given. */
dnnl_status_t sp_gemm_product_desc(struct sp_gemm *g, bool bf16, int64_t d_in, int64_t width,
                                   bool bias, const dnnl_memory_desc_t *weight,
                                   dnnl_primitive_desc_t *pd);
/* A matrix of the strides given. */
void sp_gemm_strided_md(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t row_stride,
                        int64_t col_stride, dnnl_data_type_t type);

#endif
