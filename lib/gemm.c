/* oneDNN behind gemm.h: the primitives and their execution on the pool. */
#include "gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_BYTES ((int64_t)3 << 19) /* of a block of a weight: most of a core's cache */
#define HUGE_BYTES ((size_t)2 << 20)
#define ROUND_UP(x, unit) (((x) + (unit)-1) / (unit) * (unit))

struct thread_room {
    dnnl_stream_t stream;
    void *scratch; /* oneDNN's */
    size_t scratch_bytes;
    void *x; /* (tile, d_in): a tile's input, where that is not dense or not whole */
    size_t x_bytes;
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
    struct thread_room room[SP_POOL_THREADS_MAX];
};

/* A primitive for one shape, and each thread's handles for its arguments. */
struct product {
    dnnl_primitive_t primitive;
    size_t scratch_bytes;
    int n_thread;
    dnnl_memory_t *src, *dst, *scratch; /* (n_thread) */
};

enum { FULL, LAST, N_WIDTH }; /* all blocks but the last have one width */

struct sp_packed {
    struct sp_gemm *gemm;
    int64_t d_out, d_in, block, n_block;
    enum sp_dtype compute; /* asked for */
    bool bf16;             /* the products really are bf16 */
    float *bias;
    void *data;
    size_t stride; /* bytes from one block to the next */
    dnnl_memory_desc_t weight_md[N_WIDTH];
    dnnl_memory_t *weight, *bias_memory; /* (n_block) */
    struct product product[N_WIDTH];
};

static enum sp_code failed(struct sp_error *err, dnnl_status_t status, const char *what) {
    if (status == dnnl_out_of_memory)
        return sp_error_set(err, SP_E_DEVICE, "out of memory: oneDNN, %s", what);
    return sp_error_set(err, SP_E_DEVICE, "oneDNN fails with status %d: %s", (int)status, what);
}

static enum sp_code no_memory(struct sp_error *err, size_t n_bytes) {
    return sp_error_set(err, SP_E_DEVICE, "out of memory: %zu bytes for a product", n_bytes);
}

void *sp_gemm_alloc(size_t n_bytes) {
    if (n_bytes > SIZE_MAX - HUGE_BYTES) return NULL;
    if (n_bytes < HUGE_BYTES) return aligned_alloc(64, ROUND_UP(n_bytes + !n_bytes, 64));
    size_t rounded = ROUND_UP(n_bytes, HUGE_BYTES);
    void *p = aligned_alloc(HUGE_BYTES, rounded);
    /* Advice: without it weights cost a walk of the page table every 4 KiB. */
    if (p) madvise(p, rounded, MADV_HUGEPAGE);
    return p;
}

/* Makes *buffer at least n_bytes long; what was in it is lost. */
static enum sp_code grow(void **buffer, size_t *have, size_t n_bytes, struct sp_error *err) {
    if (*have >= n_bytes) return SP_OK;
    free(*buffer);
    *have = 0;
    *buffer = sp_gemm_alloc(n_bytes);
    if (!*buffer) return no_memory(err, n_bytes);
    *have = n_bytes;
    return SP_OK;
}

/* oneDNN must not use what $STATEPIPE_CPU masks; fails harmlessly when it has been used before. */
static void mask_isa(const struct sp_kernels *k) {
    if (strcmp(k->name, "ref") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    if (strcmp(k->name, "avx2") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
}

/* ---- one shape ------------------------------------------------------------------------------ */

static void strided_md(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t row_stride,
                       int64_t col_stride, dnnl_data_type_t type) {
    dnnl_dims_t dim = {rows, cols}, stride = {row_stride, col_stride};
    dnnl_memory_desc_init_by_strides(md, 2, dim, type, stride);
}

/* The descriptor of a (SP_GEMM_TILE, d_in) x (d_in, width) product; weight's layout as given. */
static dnnl_status_t product_desc(struct sp_gemm *g, bool bf16, int64_t d_in, int64_t width,
                                  bool bias, const dnnl_memory_desc_t *weight,
                                  dnnl_primitive_desc_t *pd) {
    dnnl_memory_desc_t src, dst, bias_md;
    strided_md(&src, SP_GEMM_TILE, d_in, d_in, 1, bf16 ? dnnl_bf16 : dnnl_f32);
    strided_md(&dst, SP_GEMM_TILE, width, width, 1, dnnl_f32);
    strided_md(&bias_md, 1, width, width, 1, dnnl_f32);
    dnnl_matmul_desc_t desc;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, &src, weight, bias ? &bias_md : NULL, &dst);
    if (status) return status;
    dnnl_primitive_attr_t attr;
    status = dnnl_primitive_attr_create(&attr);
    if (status) return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!status) status = dnnl_primitive_desc_create(pd, &desc, attr, g->engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static void product_free(struct product *p) {
    for (int t = 0; t < p->n_thread; t++) {
        if (p->src && p->src[t]) dnnl_memory_destroy(p->src[t]);
        if (p->dst && p->dst[t]) dnnl_memory_destroy(p->dst[t]);
        if (p->scratch && p->scratch[t]) dnnl_memory_destroy(p->scratch[t]);
    }
    free(p->src);
    free(p->dst);
    free(p->scratch);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    *p = (struct product){0};
}

static dnnl_status_t product_handles(struct product *p, struct sp_gemm *g,
                                     const_dnnl_primitive_desc_t pd) {
    const dnnl_memory_desc_t *src = dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0);
    const dnnl_memory_desc_t *dst = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    p->n_thread = sp_pool_threads(g->pool);
    p->src = calloc((size_t)p->n_thread, sizeof *p->src);
    p->dst = calloc((size_t)p->n_thread, sizeof *p->dst);
    p->scratch = calloc((size_t)p->n_thread, sizeof *p->scratch);
    if (!p->src || !p->dst || !p->scratch) return dnnl_out_of_memory;
    dnnl_status_t status = dnnl_success;
    for (int t = 0; t < p->n_thread && !status; t++) {
        status = dnnl_memory_create(&p->src[t], src, g->engine, DNNL_MEMORY_NONE);
        if (!status) status = dnnl_memory_create(&p->dst[t], dst, g->engine, DNNL_MEMORY_NONE);
        if (!status)
            status = dnnl_memory_create(&p->scratch[t], scratch, g->engine, DNNL_MEMORY_NONE);
    }
    return status;
}

static dnnl_status_t product_new(struct product *p, struct sp_packed *w, int64_t width,
                                 const dnnl_memory_desc_t *weight) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status =
        product_desc(w->gemm, w->bf16, w->d_in, width, w->bias != NULL, weight, &pd);
    if (!status) status = dnnl_primitive_create(&p->primitive, pd);
    if (!status) status = product_handles(p, w->gemm, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}

/* ---- packing -------------------------------------------------------------------------------- */

struct packing {
    struct sp_packed *w;
    const void *source;
    enum sp_dtype dtype;
    size_t plain_bytes;
    void **plain; /* (threads): (block, d_in) of f32, and of bf16 behind it */
    dnnl_status_t *status;
};

static int64_t block_width(const struct sp_packed *w, int64_t block) {
    return block < w->n_block - 1 ? w->block : w->d_out - (w->n_block - 1) * w->block;
}

/* Rows of the source as the products' type, dense, in room (plain_bytes); where they are. */
static void *block_convert(const struct packing *p, int64_t first, int64_t n, void *room) {
    const struct sp_packed *w = p->w;
    size_t n_value = (size_t)(n * w->d_in);
    const char *from =
        (const char *)p->source + (size_t)(first * w->d_in) * sp_dtype_size(p->dtype);
    if (w->bf16 && p->dtype == SP_BF16) return memcpy(room, from, n_value * 2);
    float *plain = room;
    uint16_t *half = (uint16_t *)(void *)(plain + w->block * w->d_in);
    sp_tensor_to_f32(plain, from, p->dtype, n_value);
    if (w->compute != SP_BF16) return plain;
    w->gemm->k->to_bf16(half, plain, (int64_t)n_value);
    if (w->bf16) return half;
    sp_tensor_to_f32(plain, half, SP_BF16, n_value);
    return plain;
}

static dnnl_status_t block_reorder(struct sp_packed *w, int64_t block, void *plain, int thread) {
    int64_t width = block_width(w, block);
    dnnl_memory_desc_t md;
    strided_md(&md, w->d_in, width, 1, w->d_in, w->bf16 ? dnnl_bf16 : dnnl_f32);
    const dnnl_memory_desc_t *packed = &w->weight_md[block == w->n_block - 1 ? LAST : FULL];
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL;
    dnnl_engine_t engine = w->gemm->engine;
    dnnl_stream_t stream = w->gemm->room[thread].stream;
    dnnl_status_t status = dnnl_memory_create(&from, &md, engine, plain);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(&pd, &md, engine, packed, engine, NULL);
    if (!status) status = dnnl_primitive_create(&reorder, pd);
    dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, w->weight[block]}};
    if (!status) status = dnnl_primitive_execute(reorder, stream, 2, arg);
    if (!status) status = dnnl_stream_wait(stream);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (from) dnnl_memory_destroy(from);
    return status;
}

static void pack_item(void *ctx, int64_t block, int thread) {
    struct packing *p = ctx;
    omp_set_num_threads(1);
    if (!p->plain[thread]) p->plain[thread] = sp_gemm_alloc(p->plain_bytes);
    if (!p->plain[thread]) {
        p->status[block] = dnnl_out_of_memory;
        return;
    }
    void *plain = block_convert(p, block * p->w->block, block_width(p->w, block), p->plain[thread]);
    p->status[block] = block_reorder(p->w, block, plain, thread);
}

static enum sp_code pack(struct sp_packed *w, const void *source, enum sp_dtype dtype,
                         struct sp_error *err) {
    struct sp_gemm *g = w->gemm;
    struct packing p = {.w = w, .source = source, .dtype = dtype};
    p.plain_bytes = (size_t)(w->block * w->d_in) * (sizeof(float) + sizeof(uint16_t));
    p.plain = calloc((size_t)sp_pool_threads(g->pool), sizeof *p.plain);
    p.status = calloc((size_t)w->n_block, sizeof *p.status);
    enum sp_code code = SP_OK;
    if (p.plain && p.status) {
        sp_pool_run(g->pool, w->n_block, pack_item, &p);
        for (int64_t b = 0; b < w->n_block && !code; b++)
            if (p.status[b]) code = failed(err, p.status[b], "packing a weight");
        for (int t = 0; t < sp_pool_threads(g->pool); t++) free(p.plain[t]);
    } else {
        code = no_memory(err, p.plain_bytes);
    }
    free(p.plain);
    free(p.status);
    return code;
}

/* Asks oneDNN which layouts it wants, and takes memory for them. */
static enum sp_code packed_layout(struct sp_packed *w, struct sp_error *err) {
    for (int k = 0; k < N_WIDTH; k++) {
        int64_t width = k == LAST ? block_width(w, w->n_block - 1) : w->block;
        dnnl_memory_desc_t any;
        dnnl_dims_t dim = {w->d_in, width};
        dnnl_memory_desc_init_by_tag(&any, 2, dim, w->bf16 ? dnnl_bf16 : dnnl_f32,
                                     dnnl_format_tag_any);
        dnnl_primitive_desc_t pd;
        dnnl_status_t status =
            product_desc(w->gemm, w->bf16, w->d_in, width, w->bias != NULL, &any, &pd);
        if (status) return failed(err, status, "choosing a layout");
        w->weight_md[k] = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        dnnl_primitive_desc_destroy(pd);
    }
    w->stride = ROUND_UP(dnnl_memory_desc_get_size(&w->weight_md[FULL]), 64);
    size_t last = ROUND_UP(dnnl_memory_desc_get_size(&w->weight_md[LAST]), 64);
    size_t n_bytes = w->stride * (size_t)(w->n_block - 1) + last;
    w->data = sp_gemm_alloc(n_bytes);
    if (!w->data) return no_memory(err, n_bytes);
    memset(w->data, 0, n_bytes); /* oneDNN's padding is zero */
    return SP_OK;
}

static enum sp_code packed_handles(struct sp_packed *w, struct sp_error *err) {
    w->weight = calloc((size_t)w->n_block, sizeof *w->weight);
    w->bias_memory = calloc((size_t)w->n_block, sizeof *w->bias_memory);
    if (!w->weight || !w->bias_memory) return no_memory(err, (size_t)w->n_block * 16);
    for (int64_t b = 0; b < w->n_block; b++) {
        int kind = b == w->n_block - 1 ? LAST : FULL;
        char *data = (char *)w->data + (size_t)b * w->stride;
        dnnl_status_t status =
            dnnl_memory_create(&w->weight[b], &w->weight_md[kind], w->gemm->engine, data);
        dnnl_memory_desc_t md;
        strided_md(&md, 1, block_width(w, b), block_width(w, b), 1, dnnl_f32);
        if (!status && w->bias)
            status = dnnl_memory_create(&w->bias_memory[b], &md, w->gemm->engine,
                                        w->bias + b * w->block);
        if (status) return failed(err, status, "memory of a weight");
    }
    return SP_OK;
}

/* Blocks of about BLOCK_BYTES, so that one stays in a core's cache while the tiles go by; several
 * of them in an even number, as most machines have threads. */
static void choose_blocks(struct sp_packed *w) {
    int64_t row_bytes = w->d_in * (w->bf16 ? 2 : 4), most = BLOCK_BYTES / row_bytes;
    if (most > SP_GEMM_BLOCK_MAX) most = SP_GEMM_BLOCK_MAX;
    if (most < 16) most = 16;
    int64_t n_block = (w->d_out + most - 1) / most;
    if (n_block > 1) n_block += n_block % 2;
    w->block = ROUND_UP((w->d_out + n_block - 1) / n_block, 16);
    w->n_block = (w->d_out + w->block - 1) / w->block;
    if (w->n_block == 1) w->block = w->d_out;
}

/* The primitives, and room for each thread to run them in. */
static enum sp_code packed_products(struct sp_packed *w, struct sp_error *err) {
    struct sp_gemm *g = w->gemm;
    size_t x_bytes = (size_t)(SP_GEMM_TILE * w->d_in) * sizeof(float);
    for (int k = 0; k < N_WIDTH; k++) {
        int64_t width = k == LAST ? block_width(w, w->n_block - 1) : w->block;
        dnnl_status_t status = product_new(&w->product[k], w, width, &w->weight_md[k]);
        if (status) return failed(err, status, "making a product");
        for (int t = 0; t < sp_pool_threads(g->pool); t++) {
            struct thread_room *room = &g->room[t];
            size_t scratch_bytes = w->product[k].scratch_bytes;
            enum sp_code code = grow(&room->scratch, &room->scratch_bytes, scratch_bytes, err);
            if (!code) code = grow(&room->x, &room->x_bytes, x_bytes, err);
            if (code) return code;
        }
    }
    return SP_OK;
}

enum sp_code sp_packed_new(struct sp_packed **p, struct sp_gemm *g, const void *source,
                           enum sp_dtype dtype, int64_t d_out, int64_t d_in, const float *bias,
                           enum sp_dtype compute, struct sp_error *err) {
    *p = NULL;
    struct sp_packed *w = calloc(1, sizeof *w);
    if (!w) return no_memory(err, sizeof *w);
    w->gemm = g;
    w->d_out = d_out;
    w->d_in = d_in;
    w->compute = compute;
    w->bf16 = compute == SP_BF16 && g->has_bf16;
    choose_blocks(w);
    enum sp_code code = SP_OK;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    if (bias) {
        w->bias = sp_gemm_alloc((size_t)d_out * sizeof(float));
        if (w->bias)
            memcpy(w->bias, bias, (size_t)d_out * sizeof(float));
        else
            code = no_memory(err, (size_t)d_out * sizeof(float));
    }
    if (!code) code = packed_layout(w, err);
    if (!code) code = packed_handles(w, err);
    if (!code) code = packed_products(w, err);
    if (!code) code = pack(w, source, dtype, err);
    omp_set_num_threads(threads);
    if (code) {
        sp_packed_free(w);
        return code;
    }
    *p = w;
    return SP_OK;
}

void sp_packed_free(struct sp_packed *w) {
    if (!w) return;
    for (int k = 0; k < N_WIDTH; k++) product_free(&w->product[k]);
    for (int64_t b = 0; b < w->n_block; b++) {
        if (w->weight && w->weight[b]) dnnl_memory_destroy(w->weight[b]);
        if (w->bias_memory && w->bias_memory[b]) dnnl_memory_destroy(w->bias_memory[b]);
    }
    free(w->weight);
    free(w->bias_memory);
    free(w->bias);
    free(w->data);
    free(w);
}

/* ---- running -------------------------------------------------------------------------------- */

struct running {
    struct sp_packed *w;
    const void *x; /* f32, or rounded */
    size_t element;
    int64_t ldx, n_row, n_tile;
    float *y;
    int64_t ldy;
    bool add;
    _Atomic int status;
};

/* The tile's input as oneDNN takes it: dense and whole, padded with zeros. */
static const void *tile_input(const struct running *r, int64_t row, int64_t n, int thread) {
    const struct sp_packed *w = r->w;
    const char *x = (const char *)r->x + (size_t)(row * r->ldx) * r->element;
    if (n == SP_GEMM_TILE && r->ldx == w->d_in) return x;
    char *room = w->gemm->room[thread].x;
    size_t row_bytes = (size_t)w->d_in * r->element;
    for (int64_t i = 0; i < n; i++)
        memcpy(room + (size_t)i * row_bytes, x + (size_t)(i * r->ldx) * r->element, row_bytes);
    memset(room + (size_t)n * row_bytes, 0, (size_t)(SP_GEMM_TILE - n) * row_bytes);
    return room;
}

static void tile_output(const struct running *r, const float *from, int64_t n, int64_t width,
                        float *y) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = from + i * width;
        if (r->add)
            for (int64_t o = 0; o < width; o++) y[i * r->ldy + o] += row[o];
        else
            memcpy(y + i * r->ldy, row, (size_t)width * sizeof(float));
    }
}

/* Tiles vary fastest, so that a block of the weight stays in the cache. */
static void run_item(void *ctx, int64_t item, int thread) {
    struct running *r = ctx;
    struct sp_packed *w = r->w;
    struct thread_room *room = &w->gemm->room[thread];
    int64_t block = item / r->n_tile, row = item % r->n_tile * SP_GEMM_TILE;
    int64_t n = r->n_row - row < SP_GEMM_TILE ? r->n_row - row : SP_GEMM_TILE;
    struct product *p = &w->product[block == w->n_block - 1 ? LAST : FULL];
    const void *x = tile_input(r, row, n, thread);
    float *y = r->y + row * r->ldy + block * w->block;
    bool direct = !r->add && n == SP_GEMM_TILE && w->n_block == 1 && r->ldy == w->d_out;
    dnnl_memory_set_data_handle(p->src[thread], (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(p->dst[thread], direct ? y : room->y);
    dnnl_memory_set_data_handle(p->scratch[thread], room->scratch);
    dnnl_exec_arg_t arg[] = {{DNNL_ARG_SRC, p->src[thread]},
                             {DNNL_ARG_WEIGHTS, w->weight[block]},
                             {DNNL_ARG_DST, p->dst[thread]},
                             {DNNL_ARG_SCRATCHPAD, p->scratch[thread]},
                             {DNNL_ARG_BIAS, w->bias_memory[block]}};
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_primitive_execute(p->primitive, room->stream, w->bias ? 5 : 4, arg);
    if (status) atomic_store(&r->status, (int)status);
    if (!direct) tile_output(r, room->y, n, block_width(w, block), y);
}

struct rounding {
    struct sp_packed *w;
    const float *x;
    int64_t ldx, n_row;
};

static void round_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    struct rounding *r = ctx;
    int64_t d = r->w->d_in, end = (item + 1) * SP_GEMM_TILE;
    for (int64_t row = item * SP_GEMM_TILE; row < end && row < r->n_row; row++) {
        const float *x = r->x + row * r->ldx;
        if (r->w->bf16) {
            r->w->gemm->k->to_bf16((uint16_t *)r->w->gemm->rounded + row * d, x, d);
            continue;
        }
        float *y = (float *)r->w->gemm->rounded + row * d;
        for (int64_t i = 0; i < d; i++) y[i] = sp_f32_from_bf16(sp_bf16_from_f32(x[i]));
    }
}

enum sp_code sp_packed_run(struct sp_packed *w, const float *x, int64_t ldx, int64_t n_row,
                           float *y, int64_t ldy, bool add, struct sp_error *err) {
    struct sp_gemm *g = w->gemm;
    int64_t n_tile = (n_row + SP_GEMM_TILE - 1) / SP_GEMM_TILE;
    struct running run = {
        .w = w, .x = x, .ldx = ldx, .n_row = n_row, .n_tile = n_tile, .y = y, .ldy = ldy};
    run.add = add;
    run.element = w->bf16 ? 2 : sizeof(float);
    int threads = omp_get_max_threads();
    if (w->compute == SP_BF16) {
        enum sp_code code =
            grow(&g->rounded, &g->rounded_bytes, (size_t)(n_row * w->d_in) * run.element, err);
        if (code) return code;
        struct rounding rounding = {.w = w, .x = x, .ldx = ldx, .n_row = n_row};
        sp_pool_run(g->pool, n_tile, round_item, &rounding);
        run.x = g->rounded;
        run.ldx = w->d_in;
    }
    sp_pool_run(g->pool, n_tile * w->n_block, run_item, &run);
    omp_set_num_threads(threads);
    int status = atomic_load(&run.status);
    return status ? failed(err, (dnnl_status_t)status, "running a product") : SP_OK;
}

/* ---- plain products ------------------------------------------------------------------------- */

struct plain {
    bool trans_a, trans_b, add, by_row;
    int64_t m, n, k, lda, ldb, ldc, part;
    const float *a, *b;
    float *c;
    _Atomic int status;
};

static void plain_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    struct plain *p = ctx;
    int64_t first = item * p->part, m = p->m, n = p->n;
    const float *a = p->a, *b = p->b;
    float *c = p->c;
    if (p->by_row) {
        m = p->m - first < p->part ? p->m - first : p->part;
        a += p->trans_a ? first : first * p->lda;
        c += first * p->ldc;
    } else {
        n = p->n - first < p->part ? p->n - first : p->part;
        b += p->trans_b ? first * p->ldb : first;
        c += first;
    }
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', m, n, p->k,
                                      1.0f, a, p->lda, b, p->ldb, p->add ? 1.0f : 0.0f, c, p->ldc);
    if (status) atomic_store(&p->status, (int)status);
}

enum sp_code sp_gemm_plain(struct sp_gemm *g, bool trans_a, bool trans_b, int64_t m, int64_t n,
                           int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float *c, int64_t ldc, bool add, struct sp_error *err) {
    struct plain p = {.trans_a = trans_a, .trans_b = trans_b, .add = add, .by_row = m >= n};
    p.m = m, p.n = n, p.k = k, p.lda = lda, p.ldb = ldb, p.ldc = ldc;
    p.a = a, p.b = b, p.c = c;
    if (m <= 0 || n <= 0) return SP_OK;
    int64_t longer = m >= n ? m : n;
    /* Parts large enough that packing the other operand again for each does not matter. */
    p.part = ROUND_UP((longer + 7) / 8, 16);
    if (p.part < 128) p.part = 128;
    int threads = omp_get_max_threads();
    sp_pool_run(g->pool, (longer + p.part - 1) / p.part, plain_item, &p);
    omp_set_num_threads(threads);
    int status = atomic_load(&p.status);
    return status ? failed(err, (dnnl_status_t)status, "a product of training") : SP_OK;
}

/* ---- the engine ----------------------------------------------------------------------------- */

/* Name of the kernel that a usual product gets, or NULL where oneDNN has none. */
static bool kernel_name(struct sp_gemm *g, bool bf16, char *out, size_t size) {
    dnnl_memory_desc_t any;
    dnnl_dims_t dim = {256, 256};
    dnnl_memory_desc_init_by_tag(&any, 2, dim, bf16 ? dnnl_bf16 : dnnl_f32, dnnl_format_tag_any);
    dnnl_primitive_desc_t pd = NULL;
    if (product_desc(g, bf16, 256, 256, false, &any, &pd)) return false;
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    snprintf(out, size, "%s", name);
    dnnl_primitive_desc_destroy(pd);
    return true;
}

void sp_gemm_describe(struct sp_gemm *g, char *out, size_t size) {
    char f32[64] = "none", bf16[64] = "f32 of rounded inputs";
    kernel_name(g, false, f32, sizeof f32);
    if (g->has_bf16) kernel_name(g, true, bf16, sizeof bf16);
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d: f32 %s, bf16 %s", v->major, v->minor, v->patch, f32,
             bf16);
}

enum sp_code sp_gemm_new(struct sp_gemm **out, struct sp_pool *pool, const struct sp_kernels *k,
                         struct sp_error *err) {
    *out = NULL;
    struct sp_gemm *g = calloc(1, sizeof *g);
    if (!g) return no_memory(err, sizeof *g);
    g->pool = pool;
    g->k = k;
    mask_isa(k);
    dnnl_status_t status = dnnl_engine_create(&g->engine, dnnl_cpu, 0);
    for (int t = 0; t < sp_pool_threads(pool) && !status; t++) {
        status = dnnl_stream_create(&g->room[t].stream, g->engine, dnnl_stream_default_flags);
        g->room[t].y = sp_gemm_alloc(sizeof(float) * SP_GEMM_TILE * SP_GEMM_BLOCK_MAX);
        if (!g->room[t].y) status = dnnl_out_of_memory;
    }
    if (status) {
        sp_gemm_free(g);
        return failed(err, status, "starting");
    }
    char name[64];
    g->has_bf16 = kernel_name(g, true, name, sizeof name) && !strstr(name, "ref");
    *out = g;
    return SP_OK;
}

void sp_gemm_free(struct sp_gemm *g) {
    if (!g) return;
    for (int t = 0; t < sp_pool_threads(g->pool); t++) {
        if (g->room[t].stream) dnnl_stream_destroy(g->room[t].stream);
        free(g->room[t].scratch);
        free(g->room[t].x);
        free(g->room[t].y);
    }
    free(g->rounded);
    if (g->engine) dnnl_engine_destroy(g->engine);
    free(g);
}
