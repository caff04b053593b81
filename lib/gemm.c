/* oneDNN behind gemm.h: the engine, and the plain products of training. */
#include "gemm_dnnl.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

enum sp_code sp_gemm_failed(struct sp_error *err, dnnl_status_t status, const char *what) {
    if (status == dnnl_out_of_memory)
        return sp_error_set(err, SP_E_DEVICE, "out of memory: oneDNN, %s", what);
    return sp_error_set(err, SP_E_DEVICE, "oneDNN fails with status %d: %s", (int)status, what);
}

void *sp_gemm_alloc(size_t n_bytes) {
    if (n_bytes > SIZE_MAX - HUGE_BYTES) return NULL;
    if (n_bytes < HUGE_BYTES) return aligned_alloc(64, SP_ROUND_UP(n_bytes + !n_bytes, 64));
    size_t rounded = SP_ROUND_UP(n_bytes, HUGE_BYTES);
    void *p = aligned_alloc(HUGE_BYTES, rounded);
    /* Advice: without it weights cost a walk of the page table every 4 KiB. */
    if (p) madvise(p, rounded, MADV_HUGEPAGE);
    return p;
}

/* oneDNN must not use what $STATEPIPE_CPU masks; fails harmlessly when it has been used before. */
static void mask_isa(const struct sp_kernels *k) {
    if (strcmp(k->name, "ref") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    if (strcmp(k->name, "avx2") == 0) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
}

void sp_gemm_strided_md(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t row_stride,
                        int64_t col_stride, dnnl_data_type_t type) {
    dnnl_dims_t dim = {rows, cols}, stride = {row_stride, col_stride};
    dnnl_memory_desc_init_by_strides(md, 2, dim, type, stride);
}

dnnl_status_t sp_gemm_product_desc(struct sp_gemm *g, bool bf16, int64_t d_in, int64_t width,
                                   bool bias, const dnnl_memory_desc_t *weight,
                                   dnnl_primitive_desc_t *pd) {
    dnnl_memory_desc_t src, dst, bias_md;
    sp_gemm_strided_md(&src, SP_GEMM_TILE, d_in, d_in, 1, bf16 ? dnnl_bf16 : dnnl_f32);
    sp_gemm_strided_md(&dst, SP_GEMM_TILE, width, width, 1, dnnl_f32);
    sp_gemm_strided_md(&bias_md, 1, width, width, 1, dnnl_f32);
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
    p.part = SP_ROUND_UP((longer + 7) / 8, 16);
    if (p.part < 128) p.part = 128;
    int threads = omp_get_max_threads();
    sp_pool_run(g->pool, (longer + p.part - 1) / p.part, plain_item, &p);
    omp_set_num_threads(threads);
    int status = atomic_load(&p.status);
    return status ? sp_gemm_failed(err, (dnnl_status_t)status, "a product of training") : SP_OK;
}

/* ---- the engine ----------------------------------------------------------------------------- */

/* Name of the kernel that a usual product gets, or NULL where oneDNN has none. */
static bool kernel_name(struct sp_gemm *g, bool bf16, char *out, size_t size) {
    dnnl_memory_desc_t any;
    dnnl_dims_t dim = {256, 256};
    dnnl_memory_desc_init_by_tag(&any, 2, dim, bf16 ? dnnl_bf16 : dnnl_f32, dnnl_format_tag_any);
    dnnl_primitive_desc_t pd = NULL;
    if (sp_gemm_product_desc(g, bf16, 256, 256, false, &any, &pd)) return false;
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
    if (!g) return sp_error_memory(err, "products");
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
        return sp_gemm_failed(err, status, "starting");
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
        free(g->room[t].plain);
        free(g->room[t].block);
        free(g->room[t].y);
    }
    free(g->rounded);
    if (g->engine) dnnl_engine_destroy(g->engine);
    free(g);
}
