/* The CPU backend's other half: backward kernels, the optimiser, losses and tables. Where many
 * rows or channels add into one place, SP_CPU_PARTS parts sum apart and are added in order, so that
 * the bits do not depend on who did what. */
#include "backend_cpu.h"

#include <string.h>

#define XENT_ROWS 4
#define ELEMENTS_PER_ITEM 65536
#define TABLE_COLUMNS 64

struct grad_job {
    const struct sp_cpu *cpu;
    const struct sp_conv *conv;
    const struct sp_conv_grad *conv_grad;
    const struct sp_scan *scan;
    const struct sp_scan_grad *scan_grad;
    const struct sp_rmsnorm *norm;
    const struct sp_rmsnorm_grad *norm_grad;
    const struct sp_xent *xent;
    const struct sp_adamw *adamw;
    int64_t n, per_item;
    float *parts;
    int64_t part_stride; /* floats */
};

/* total[i] += the sum over parts, in their order. */
static void add_parts(float *total, const float *parts, int64_t n_part, int64_t stride, int64_t n) {
    for (int64_t p = 0; p < n_part; p++)
        for (int64_t i = 0; i < n; i++) total[i] += parts[p * stride + i];
}

static void norm_bwd_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct grad_job *j = ctx;
    struct sp_rmsnorm_grad g = *j->norm_grad;
    if (g.dw) g.dw = j->parts + item * j->part_stride;
    j->cpu->k.rmsnorm_bwd(j->norm, &g, item * j->per_item,
                          sp_cpu_min((item + 1) * j->per_item, j->n));
}

static enum sp_code cpu_rmsnorm_bwd(struct sp_backend *be, const struct sp_rmsnorm *a,
                                    const struct sp_rmsnorm_grad *g, int64_t n_row,
                                    struct sp_error *err) {
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct grad_job j = {.cpu = cpu, .norm = a, .norm_grad = g, .n = n_row};
    j.per_item = (n_row + SP_CPU_PARTS - 1) / SP_CPU_PARTS;
    if (n_row <= 0) return SP_OK;
    int64_t n_item = (n_row + j.per_item - 1) / j.per_item;
    size_t n_bytes = (size_t)(n_item * a->d) * sizeof(float);
    enum sp_code code = g->dw ? sp_cpu_grow(&cpu->parts, &cpu->parts_bytes, n_bytes, err) : SP_OK;
    if (code) return code;
    if (g->dw) memset(cpu->parts, 0, n_bytes);
    j.parts = cpu->parts;
    j.part_stride = a->d;
    sp_pool_run(cpu->pool, n_item, norm_bwd_item, &j);
    if (g->dw) add_parts(g->dw, cpu->parts, n_item, a->d, a->d);
    return SP_OK;
}

/* One item owns its channels through all sequences, in order: their dw and dbias are its own. */
static void conv_bwd_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct grad_job *j = ctx;
    int64_t c0 = item * j->per_item, c1 = sp_cpu_min(c0 + j->per_item, j->conv->d_inner);
    for (int64_t s = 0; s < j->conv->n_seq; s++)
        j->cpu->k.conv_bwd(j->conv, j->conv_grad, s, c0, c1);
}

static enum sp_code cpu_conv_bwd(struct sp_backend *be, const struct sp_conv *a,
                                 const struct sp_conv_grad *g, struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct grad_job j = {.cpu = cpu, .conv = a, .conv_grad = g};
    j.per_item = sp_cpu_channels(a->d_inner, a->cu_seqlens[a->n_seq] * a->d_inner * a->d_conv);
    sp_pool_run(cpu->pool, (a->d_inner + j.per_item - 1) / j.per_item, conv_bwd_item, &j);
    return SP_OK;
}

static void scan_bwd_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct grad_job *j = ctx;
    const struct sp_scan *a = j->scan;
    int64_t n_bc = a->cu_seqlens[a->n_seq] * a->d_state;
    struct sp_scan_grad g = *j->scan_grad;
    g.dB = j->parts + item * j->part_stride;
    g.dC = g.dB + n_bc;
    g.scratch = g.dC + n_bc;
    int64_t c0 = item * j->per_item, c1 = sp_cpu_min(c0 + j->per_item, a->d_inner);
    for (int64_t s = 0; s < a->n_seq; s++) j->cpu->k.scan_bwd(a, &g, s, c0, c1);
}

static enum sp_code cpu_scan_bwd(struct sp_backend *be, const struct sp_scan *a,
                                 const struct sp_scan_grad *g, struct sp_error *err) {
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct grad_job j = {.cpu = cpu, .scan = a, .scan_grad = g};
    int64_t n_bc = a->cu_seqlens[a->n_seq] * a->d_state;
    j.per_item = ((a->d_inner + SP_CPU_PARTS - 1) / SP_CPU_PARTS + 15) / 16 * 16;
    int64_t n_item = (a->d_inner + j.per_item - 1) / j.per_item;
    j.part_stride = 2 * n_bc + sp_scan_bwd_scratch(a->d_state);
    size_t n_bytes = (size_t)(n_item * j.part_stride) * sizeof(float);
    enum sp_code code = sp_cpu_grow(&cpu->parts, &cpu->parts_bytes, n_bytes, err);
    if (code) return code;
    for (int64_t i = 0; i < n_item; i++)
        memset(cpu->parts + i * j.part_stride, 0, (size_t)(2 * n_bc) * sizeof(float));
    j.parts = cpu->parts;
    sp_pool_run(cpu->pool, n_item, scan_bwd_item, &j);
    add_parts(g->dB, cpu->parts, n_item, j.part_stride, n_bc);
    add_parts(g->dC, cpu->parts + n_bc, n_item, j.part_stride, n_bc);
    return SP_OK;
}

static void xent_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct grad_job *j = ctx;
    j->cpu->k.xent(j->xent, item * XENT_ROWS, sp_cpu_min((item + 1) * XENT_ROWS, j->n));
}

static enum sp_code cpu_xent(struct sp_backend *be, const struct sp_xent *a, int64_t n_row,
                             struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct grad_job j = {.cpu = cpu, .xent = a, .n = n_row};
    sp_pool_run(cpu->pool, (n_row + XENT_ROWS - 1) / XENT_ROWS, xent_item, &j);
    return SP_OK;
}

static void adamw_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct grad_job *j = ctx;
    j->cpu->k.adamw(j->adamw, item * ELEMENTS_PER_ITEM,
                    sp_cpu_min((item + 1) * ELEMENTS_PER_ITEM, j->n));
}

static enum sp_code cpu_adamw(struct sp_backend *be, const struct sp_adamw *a, int64_t n,
                              struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct grad_job j = {.cpu = cpu, .adamw = a, .n = n};
    sp_pool_run(cpu->pool, (n + ELEMENTS_PER_ITEM - 1) / ELEMENTS_PER_ITEM, adamw_item, &j);
    return SP_OK;
}

struct squares {
    const struct sp_cpu *cpu;
    const float *x;
    int64_t n;
    double *part; /* (pieces) */
};

static void squares_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct squares *s = ctx;
    int64_t first = item * ELEMENTS_PER_ITEM;
    s->part[item] =
        s->cpu->k.sum_squares(s->x + first, sp_cpu_min(ELEMENTS_PER_ITEM, s->n - first));
}

static enum sp_code cpu_sum_squares(struct sp_backend *be, const float *x, int64_t n, double *out,
                                    struct sp_error *err) {
    struct sp_cpu *cpu = sp_cpu_of(be);
    int64_t n_item = (n + ELEMENTS_PER_ITEM - 1) / ELEMENTS_PER_ITEM;
    size_t n_bytes = (size_t)n_item * sizeof(double);
    enum sp_code code = sp_cpu_grow(&cpu->parts, &cpu->parts_bytes, n_bytes, err);
    *out = 0;
    if (code) return code;
    struct squares s = {.cpu = cpu, .x = x, .n = n, .part = (double *)(void *)cpu->parts};
    sp_pool_run(cpu->pool, n_item, squares_item, &s);
    for (int64_t i = 0; i < n_item; i++) *out += s.part[i];
    sp_pool_rest(cpu->pool);
    return SP_OK;
}

static enum sp_code cpu_gather(struct sp_backend *be, const float *table, int64_t d,
                               const uint32_t *id, int64_t n, float *y, struct sp_error *err) {
    (void)be, (void)err;
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * d, table + (int64_t)id[i] * d, (size_t)d * sizeof(float));
    return SP_OK;
}

struct scatter {
    float *table;
    const float *dy;
    const uint32_t *id;
    int64_t d, n;
};

/* An id may come twice: an item takes some columns of all rows, so that their sums keep order. */
static void scatter_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct scatter *s = ctx;
    int64_t c0 = item * TABLE_COLUMNS, c1 = sp_cpu_min(c0 + TABLE_COLUMNS, s->d);
    for (int64_t i = 0; i < s->n; i++) {
        float *row = s->table + (int64_t)s->id[i] * s->d;
        for (int64_t c = c0; c < c1; c++) row[c] += s->dy[i * s->d + c];
    }
}

static enum sp_code cpu_scatter_add(struct sp_backend *be, float *table_grad, int64_t d,
                                    const uint32_t *id, int64_t n, const float *dy,
                                    struct sp_error *err) {
    (void)err;
    struct scatter s = {.table = table_grad, .dy = dy, .id = id, .d = d, .n = n};
    sp_pool_run(sp_cpu_of(be)->pool, (d + TABLE_COLUMNS - 1) / TABLE_COLUMNS, scatter_item, &s);
    return SP_OK;
}

void sp_cpu_grad_install(struct sp_backend *be) {
    be->rmsnorm_bwd = cpu_rmsnorm_bwd;
    be->conv_bwd = cpu_conv_bwd;
    be->scan_bwd = cpu_scan_bwd;
    be->xent = cpu_xent;
    be->adamw = cpu_adamw;
    be->sum_squares = cpu_sum_squares;
    be->gather = cpu_gather;
    be->scatter_add = cpu_scatter_add;
}
