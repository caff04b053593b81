/* Packed weights: one primitive per width of a block, made once, run tile by tile on the pool. */
#include "gemm_dnnl.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Rows after which a weight is worth a packed copy of its own, which has to be paid for with memory
 * that the kernel clears: until then its blocks are packed one by one into a thread's room, used,
 * and forgotten. The layout is the same, and with it every bit. */
#define ROWS_UNTIL_PACKED 512
#define BLOCK_BYTES ((int64_t)3 << 19) /* of a block of a weight: most of a core's cache */

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
    const void *source; /* (d_out, d_in) of source_dtype: the caller's */
    enum sp_dtype source_dtype;
    int64_t rows_seen;
    void *data;    /* NULL: not packed yet */
    size_t stride; /* bytes from one block to the next */
    size_t n_bytes;
    dnnl_memory_desc_t weight_md[N_WIDTH];
    dnnl_memory_t *weight, *bias_memory; /* (n_block) */
    struct product product[N_WIDTH];
};

/* Makes *buffer at least n_bytes long; what was in it is lost. */
static enum sp_code grow(void **buffer, size_t *have, size_t n_bytes, struct sp_error *err) {
    if (*have >= n_bytes) return SP_OK;
    free(*buffer);
    *have = 0;
    *buffer = sp_gemm_alloc(n_bytes);
    if (!*buffer) return sp_error_memory(err, "a product");
    *have = n_bytes;
    return SP_OK;
}

/* ---- one shape ------------------------------------------------------------------------------ */

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
        sp_gemm_product_desc(w->gemm, w->bf16, w->d_in, width, w->bias != NULL, weight, &pd);
    if (!status) status = dnnl_primitive_create(&p->primitive, pd);
    if (!status) status = product_handles(p, w->gemm, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}

/* ---- packing -------------------------------------------------------------------------------- */

struct packing {
    struct sp_packed *w;
    dnnl_status_t *status; /* (n_block) */
};

static int64_t block_width(const struct sp_packed *w, int64_t block) {
    return block < w->n_block - 1 ? w->block : w->d_out - (w->n_block - 1) * w->block;
}

/* Rows of the source as the products' type, dense: where they are, or in room. */
static const void *block_convert(const struct sp_packed *w, int64_t first, int64_t n, void *room) {
    size_t n_value = (size_t)(n * w->d_in);
    enum sp_dtype dtype = w->source_dtype;
    const char *from = (const char *)w->source + (size_t)(first * w->d_in) * sp_dtype_size(dtype);
    if (dtype == (w->bf16 ? SP_BF16 : SP_F32) && (w->bf16 || w->compute != SP_BF16)) return from;
    float *plain = room;
    uint16_t *half = (uint16_t *)(void *)(plain + w->block * w->d_in);
    sp_tensor_to_f32(plain, from, dtype, n_value);
    if (w->compute != SP_BF16) return plain;
    w->gemm->k->to_bf16(half, plain, (int64_t)n_value);
    if (w->bf16) return half;
    sp_tensor_to_f32(plain, half, SP_BF16, n_value);
    return plain;
}

static dnnl_status_t block_reorder(struct sp_packed *w, int64_t block, const void *plain,
                                   int thread) {
    int64_t width = block_width(w, block);
    dnnl_memory_desc_t md;
    sp_gemm_strided_md(&md, w->d_in, width, 1, w->d_in, w->bf16 ? dnnl_bf16 : dnnl_f32);
    const dnnl_memory_desc_t *packed = &w->weight_md[block == w->n_block - 1 ? LAST : FULL];
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL;
    dnnl_engine_t engine = w->gemm->engine;
    dnnl_stream_t stream = w->gemm->room[thread].stream;
    dnnl_status_t status = dnnl_memory_create(&from, &md, engine, (void *)(uintptr_t)plain);
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

/* Into w->weight[block]. */
static dnnl_status_t block_pack(struct sp_packed *w, int64_t block, int thread) {
    struct sp_gemm_room *room = &w->gemm->room[thread];
    size_t plain_bytes = (size_t)(w->block * w->d_in) * (sizeof(float) + sizeof(uint16_t));
    struct sp_error ignored;
    omp_set_num_threads(1);
    if (grow(&room->plain, &room->plain_bytes, plain_bytes, &ignored)) return dnnl_out_of_memory;
    const void *plain = block_convert(w, block * w->block, block_width(w, block), room->plain);
    return block_reorder(w, block, plain, thread);
}

static void pack_item(void *ctx, int64_t block, int thread) {
    struct packing *p = ctx;
    p->status[block] = block_pack(p->w, block, thread);
}

/* For good. */
static enum sp_code pack(struct sp_packed *w, struct sp_error *err) {
    struct sp_gemm *g = w->gemm;
    struct packing p = {.w = w};
    p.status = calloc((size_t)w->n_block, sizeof *p.status);
    w->data = sp_gemm_alloc(w->n_bytes);
    enum sp_code code = SP_OK;
    if (p.status && w->data) {
        memset(w->data, 0, w->n_bytes); /* oneDNN's padding is zero */
        for (int64_t b = 0; b < w->n_block; b++)
            dnnl_memory_set_data_handle(w->weight[b], (char *)w->data + (size_t)b * w->stride);
        sp_pool_run(g->pool, w->n_block, pack_item, &p);
        for (int64_t b = 0; b < w->n_block && !code; b++)
            if (p.status[b]) code = sp_gemm_failed(err, p.status[b], "packing a weight");
    } else {
        code = sp_error_memory(err, "a packed weight");
    }
    free(p.status);
    if (!code) return SP_OK;
    free(w->data);
    w->data = NULL;
    return code;
}

/* Asks oneDNN which layouts it wants. */
static enum sp_code packed_layout(struct sp_packed *w, struct sp_error *err) {
    for (int k = 0; k < N_WIDTH; k++) {
        int64_t width = k == LAST ? block_width(w, w->n_block - 1) : w->block;
        dnnl_memory_desc_t any;
        dnnl_dims_t dim = {w->d_in, width};
        dnnl_memory_desc_init_by_tag(&any, 2, dim, w->bf16 ? dnnl_bf16 : dnnl_f32,
                                     dnnl_format_tag_any);
        dnnl_primitive_desc_t pd;
        dnnl_status_t status =
            sp_gemm_product_desc(w->gemm, w->bf16, w->d_in, width, w->bias != NULL, &any, &pd);
        if (status) return sp_gemm_failed(err, status, "choosing a layout");
        w->weight_md[k] = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        dnnl_primitive_desc_destroy(pd);
    }
    w->stride = SP_ROUND_UP(dnnl_memory_desc_get_size(&w->weight_md[FULL]), 64);
    size_t last = SP_ROUND_UP(dnnl_memory_desc_get_size(&w->weight_md[LAST]), 64);
    w->n_bytes = w->stride * (size_t)(w->n_block - 1) + last;
    return SP_OK;
}

static enum sp_code packed_handles(struct sp_packed *w, struct sp_error *err) {
    w->weight = calloc((size_t)w->n_block, sizeof *w->weight);
    w->bias_memory = calloc((size_t)w->n_block, sizeof *w->bias_memory);
    if (!w->weight || !w->bias_memory) return sp_error_memory(err, "a packed weight");
    for (int64_t b = 0; b < w->n_block; b++) {
        int kind = b == w->n_block - 1 ? LAST : FULL;
        dnnl_status_t status = dnnl_memory_create(&w->weight[b], &w->weight_md[kind],
                                                  w->gemm->engine, DNNL_MEMORY_NONE);
        dnnl_memory_desc_t md;
        sp_gemm_strided_md(&md, 1, block_width(w, b), block_width(w, b), 1, dnnl_f32);
        if (!status && w->bias)
            status = dnnl_memory_create(&w->bias_memory[b], &md, w->gemm->engine,
                                        w->bias + b * w->block);
        if (status) return sp_gemm_failed(err, status, "memory of a weight");
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
    w->block = SP_ROUND_UP((w->d_out + n_block - 1) / n_block, 16);
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
        if (status) return sp_gemm_failed(err, status, "making a product");
        for (int t = 0; t < sp_pool_threads(g->pool); t++) {
            struct sp_gemm_room *room = &g->room[t];
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
    if (!w) return sp_error_memory(err, "a packed weight");
    w->gemm = g;
    w->d_out = d_out;
    w->d_in = d_in;
    w->compute = compute;
    w->source = source;
    w->source_dtype = dtype;
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
            code = sp_error_memory(err, "a packed weight");
    }
    if (!code) code = packed_layout(w, err);
    if (!code) code = packed_handles(w, err);
    if (!code) code = packed_products(w, err);
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

static void run_tile(struct running *r, int64_t block, int64_t tile, int thread) {
    struct sp_packed *w = r->w;
    struct sp_gemm_room *room = &w->gemm->room[thread];
    int64_t row = tile * SP_GEMM_TILE;
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

/* Tiles vary fastest, so that a block of the weight stays in the cache. */
static void run_item(void *ctx, int64_t item, int thread) {
    struct running *r = ctx;
    run_tile(r, item / r->n_tile, item % r->n_tile, thread);
}

/* The same of a weight that is not packed: all tiles of a block, which only this thread has. */
static void run_block(void *ctx, int64_t block, int thread) {
    struct running *r = ctx;
    struct sp_packed *w = r->w;
    struct sp_gemm_room *room = &w->gemm->room[thread];
    struct sp_error ignored;
    dnnl_status_t status = dnnl_out_of_memory;
    if (!grow(&room->block, &room->block_bytes, w->stride, &ignored)) {
        memset(room->block, 0, w->stride); /* oneDNN's padding is zero */
        dnnl_memory_set_data_handle(w->weight[block], room->block);
        status = block_pack(w, block, thread);
    }
    if (status) atomic_store(&r->status, (int)status);
    for (int64_t tile = 0; !status && tile < r->n_tile; tile++) run_tile(r, block, tile, thread);
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
    w->rows_seen += n_row;
    if (!w->data && w->rows_seen > ROWS_UNTIL_PACKED) {
        enum sp_code code = pack(w, err);
        if (code) return code;
    }
    if (w->data)
        sp_pool_run(g->pool, n_tile * w->n_block, run_item, &run);
    else
        sp_pool_run(g->pool, w->n_block, run_block, &run);
    omp_set_num_threads(threads);
    int status = atomic_load(&run.status);
    return status ? sp_gemm_failed(err, (dnnl_status_t)status, "running a product") : SP_OK;
}
