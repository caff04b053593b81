/* The CPU backend: kernels of the dispatch table spread over the pool, products from gemm.h, and
 * for few rows the matrix-vector kernels on the weights as they are mapped. */
#include "backend_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATVEC_ITEM_BYTES 65536 /* of weights: some microseconds of memory traffic */
#define MATVEC_BLOCK_BYTES (48 << 10)
#define MATVEC_BLOCK_ROWS 8
#define SMALL_WORK 8192 /* elements below which one thread is faster than two */
#define NORM_ROWS 16    /* per item */

struct sp_weight {
    struct sp_cpu *cpu;
    const void *data; /* (d_out, d_in), as stored: the caller's */
    enum sp_dtype stored, compute;
    int64_t d_out, d_in;
    const float *bias; /* the caller's, or NULL */
    void *copy;        /* what the matrix-vector kernels read when that is not data; or NULL */
    struct sp_packed *packed;
};

/* ---- memory --------------------------------------------------------------------------------- */

enum sp_code sp_cpu_grow(float **buffer, size_t *have, size_t n_bytes, struct sp_error *err) {
    if (*have >= n_bytes) return SP_OK;
    free(*buffer);
    *have = 0;
    *buffer = sp_gemm_alloc(n_bytes);
    if (!*buffer) return sp_error_memory(err, "a buffer");
    *have = n_bytes;
    return SP_OK;
}

static enum sp_code cpu_alloc(struct sp_backend *be, size_t n_bytes, void **dev,
                              struct sp_error *err) {
    (void)be;
    *dev = sp_gemm_alloc(n_bytes);
    if (!*dev) return sp_error_memory(err, "a buffer");
    memset(*dev, 0, n_bytes);
    return SP_OK;
}

static void cpu_release(struct sp_backend *be, void *dev) {
    (void)be;
    free(dev);
}

static enum sp_code cpu_copy(struct sp_backend *be, void *dst, const void *src, size_t n_bytes,
                             struct sp_error *err) {
    (void)be, (void)err;
    if (n_bytes > 0) memcpy(dst, src, n_bytes);
    return SP_OK;
}

static enum sp_code cpu_sync(struct sp_backend *be, struct sp_error *err) {
    (void)err;
    sp_pool_rest(sp_cpu_of(be)->pool);
    return SP_OK;
}

static enum sp_code cpu_download(struct sp_backend *be, void *host, const void *dev, size_t n_bytes,
                                 struct sp_error *err) {
    cpu_copy(be, host, dev, n_bytes, err);
    return cpu_sync(be, err);
}

static enum sp_code cpu_zero(struct sp_backend *be, void *dev, size_t n_bytes,
                             struct sp_error *err) {
    (void)be, (void)err;
    if (n_bytes > 0) memset(dev, 0, n_bytes);
    return SP_OK;
}

/* ---- weights and products ------------------------------------------------------------------- */

static enum sp_code cpu_weight_new(struct sp_backend *be, const struct sp_tensor *w,
                                   const float *bias, enum sp_dtype compute, struct sp_weight **out,
                                   struct sp_error *err) {
    *out = NULL;
    bool known = w->dtype == SP_F32 || w->dtype == SP_F16 || w->dtype == SP_BF16;
    if (!known || w->rank != 2 || (compute != SP_F32 && compute != SP_BF16))
        return sp_error_set(err, SP_E_BUG, "a weight of type %s and rank %u for products in %s",
                            sp_dtype_name(w->dtype), w->rank, sp_dtype_name(compute));
    struct sp_weight *weight = calloc(1, sizeof *weight);
    if (!weight) return sp_error_memory(err, "a buffer");
    *weight = (struct sp_weight){.cpu = sp_cpu_of(be),
                                 .data = w->data,
                                 .stored = w->dtype,
                                 .compute = compute,
                                 .d_out = (int64_t)w->dim[0],
                                 .d_in = (int64_t)w->dim[1],
                                 .bias = bias};
    *out = weight;
    return SP_OK;
}

static void cpu_weight_free(struct sp_backend *be, struct sp_weight *w) {
    (void)be;
    if (!w) return;
    sp_packed_free(w->packed);
    free(w->copy);
    free(w);
}

struct converting {
    struct sp_weight *w;
    bool half;
};

static void convert_row(void *ctx, int64_t row, int thread) {
    (void)thread;
    struct converting *c = ctx;
    const struct sp_weight *w = c->w;
    size_t n = (size_t)w->d_in;
    const char *from = (const char *)w->data + (size_t)row * n * sp_dtype_size(w->stored);
    if (!c->half) {
        sp_tensor_to_f32((float *)w->copy + (size_t)row * n, from, w->stored, n);
        return;
    }
    uint16_t *to = (uint16_t *)w->copy + (size_t)row * n;
    float part[256];
    for (size_t i = 0; i < n; i += 256) {
        size_t k = n - i < 256 ? n - i : 256;
        sp_tensor_to_f32(part, from + i * sp_dtype_size(w->stored), w->stored, k);
        w->cpu->k.to_bf16(to + i, part, (int64_t)k);
    }
}

/* The matrix as the matrix-vector kernels can read it: mapped where that is possible, and bf16
 * weights stay bf16 even for products in f32, which is exact and half the traffic. */
static enum sp_code step_matrix(struct sp_weight *w, const void **data, bool *half,
                                struct sp_error *err) {
    *half = w->compute == SP_BF16 || w->stored == SP_BF16;
    *data = w->stored == (*half ? SP_BF16 : SP_F32) ? w->data : w->copy;
    if (*data) return SP_OK;
    size_t n_bytes = (size_t)(w->d_out * w->d_in) * (*half ? 2 : 4);
    w->copy = sp_gemm_alloc(n_bytes);
    if (!w->copy) return sp_error_memory(err, "a buffer");
    struct converting c = {.w = w, .half = *half};
    sp_pool_run(w->cpu->pool, w->d_out, convert_row, &c);
    *data = w->copy;
    return SP_OK;
}

struct matvec {
    const struct sp_weight *w;
    const void *data;
    bool half, add;
    const float *x;
    float *y;
    int64_t ldx, ldy, n_row, per_item;
};

/* Rows of x go by in blocks that stay in the first cache while all outputs of the item pass; the
 * item's weights stay in the second. */
static void matvec_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct matvec *m = ctx;
    const struct sp_weight *w = m->w;
    int64_t o0 = item * m->per_item, o1 = sp_cpu_min(o0 + m->per_item, w->d_out);
    const struct sp_kernels *k = &w->cpu->k;
    const int64_t d_in = w->d_in, fit = MATVEC_BLOCK_BYTES / (d_in * (int64_t)sizeof *m->x);
    const int64_t block = fit < MATVEC_BLOCK_ROWS ? MATVEC_BLOCK_ROWS : fit / 4 * 4;
    for (int64_t r = 0, n; r < m->n_row; r += n) {
        n = sp_cpu_min(block, m->n_row - r);
        const float *x = m->x + r * m->ldx;
        float *y = m->y + r * m->ldy;
        if (m->half)
            k->matvec_bf16(m->data, d_in, x, m->ldx, n, d_in, w->bias, y, m->ldy, o0, o1, m->add);
        else
            k->matvec_f32(m->data, d_in, x, m->ldx, n, d_in, w->bias, y, m->ldy, o0, o1, m->add);
    }
    if (!m->add || !w->bias) return;
    for (int64_t r = 0; r < m->n_row; r++)
        for (int64_t o = o0; o < o1; o++) m->y[r * m->ldy + o] += w->bias[o];
}

static enum sp_code round_rows(struct sp_cpu *cpu, struct matvec *m, struct sp_error *err) {
    int64_t d = m->w->d_in;
    size_t n = (size_t)(m->n_row * d);
    enum sp_code code = sp_cpu_grow(&cpu->rounded, &cpu->rounded_bytes, n * sizeof(float), err);
    if (code) return code;
    uint16_t half[256];
    for (int64_t r = 0; r < m->n_row; r++) {
        for (int64_t i = 0; i < d; i += 256) {
            int64_t k = sp_cpu_min(256, d - i);
            cpu->k.to_bf16(half, m->x + r * m->ldx + i, k);
            sp_tensor_to_f32(cpu->rounded + r * d + i, half, SP_BF16, (size_t)k);
        }
    }
    m->x = cpu->rounded;
    m->ldx = d;
    return SP_OK;
}

static enum sp_code linear_step(struct sp_weight *w, const float *x, int64_t ldx, int64_t n_row,
                                float *y, int64_t ldy, bool add, struct sp_error *err) {
    struct matvec m = {.w = w, .add = add, .x = x, .ldx = ldx, .n_row = n_row, .y = y, .ldy = ldy};
    enum sp_code code = step_matrix(w, &m.data, &m.half, err);
    if (!code && w->compute == SP_BF16) code = round_rows(w->cpu, &m, err);
    if (code) return code;
    int64_t row_bytes = w->d_in * (m.half ? 2 : 4);
    m.per_item = (MATVEC_ITEM_BYTES / row_bytes + 15) / 16 * 16;
    if (m.per_item == 0) m.per_item = 16;
    sp_pool_run(w->cpu->pool, (w->d_out + m.per_item - 1) / m.per_item, matvec_item, &m);
    return SP_OK;
}

static enum sp_code cpu_linear(struct sp_backend *be, struct sp_weight *w, const float *x,
                               int64_t ldx, int64_t n_row, bool step, float *y, int64_t ldy,
                               bool add, struct sp_error *err) {
    if (n_row <= 0) return SP_OK;
    if (step) return linear_step(w, x, ldx, n_row, y, ldy, add, err);
    if (!w->packed) {
        enum sp_code code = sp_packed_new(&w->packed, sp_cpu_of(be)->gemm, w->data, w->stored,
                                          w->d_out, w->d_in, w->bias, w->compute, err);
        if (code) return code;
    }
    return sp_packed_run(w->packed, x, ldx, n_row, y, ldy, add, err);
}

static enum sp_code cpu_gemm(struct sp_backend *be, bool trans_a, bool trans_b, int64_t m,
                             int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                             int64_t ldb, float *c, int64_t ldc, bool add, struct sp_error *err) {
    return sp_gemm_plain(sp_cpu_of(be)->gemm, trans_a, trans_b, m, n, k, a, lda, b, ldb, c, ldc,
                         add, err);
}

/* ---- forward kernels ------------------------------------------------------------------------ */

int64_t sp_cpu_channels(int64_t d_inner, int64_t work) {
    if (work < SMALL_WORK) return d_inner;
    int64_t channels = (d_inner / 16 + 15) / 16 * 16;
    return channels < 16 ? 16 : channels > 128 ? 128 : channels;
}

struct kernel_job {
    const struct sp_kernels *k;
    const struct sp_conv *conv;
    const struct sp_scan *scan;
    const struct sp_rmsnorm *norm;
    int64_t n_row, d_inner, channels, n_block;
    bool step;
};

static void norm_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct kernel_job *j = ctx;
    j->k->rmsnorm_fwd(j->norm, item * NORM_ROWS, sp_cpu_min((item + 1) * NORM_ROWS, j->n_row));
}

static enum sp_code cpu_rmsnorm_fwd(struct sp_backend *be, const struct sp_rmsnorm *a,
                                    int64_t n_row, struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct kernel_job j = {.k = &cpu->k, .norm = a, .n_row = n_row};
    sp_pool_run(cpu->pool, (n_row + NORM_ROWS - 1) / NORM_ROWS, norm_item, &j);
    return SP_OK;
}

static void conv_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct kernel_job *j = ctx;
    int64_t c0 = item % j->n_block * j->channels;
    j->k->conv_fwd(j->conv, item / j->n_block, c0, sp_cpu_min(c0 + j->channels, j->d_inner));
}

static enum sp_code cpu_conv_fwd(struct sp_backend *be, const struct sp_conv *a,
                                 struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct kernel_job j = {.k = &cpu->k, .conv = a, .d_inner = a->d_inner};
    j.channels = sp_cpu_channels(a->d_inner, a->cu_seqlens[a->n_seq] * a->d_inner * a->d_conv);
    j.n_block = (a->d_inner + j.channels - 1) / j.channels;
    sp_pool_run(cpu->pool, a->n_seq * j.n_block, conv_item, &j);
    return SP_OK;
}

static void scan_item(void *ctx, int64_t item, int thread) {
    (void)thread;
    const struct kernel_job *j = ctx;
    int64_t seq = item / j->n_block, c0 = item % j->n_block * j->channels;
    int64_t c1 = sp_cpu_min(c0 + j->channels, j->d_inner);
    if (j->step)
        j->k->scan_step(j->scan, seq, c0, c1);
    else
        j->k->scan_fwd(j->scan, seq, c0, c1);
}

static enum sp_code cpu_scan_fwd(struct sp_backend *be, const struct sp_scan *a, bool step,
                                 struct sp_error *err) {
    (void)err;
    struct sp_cpu *cpu = sp_cpu_of(be);
    struct kernel_job j = {.k = &cpu->k, .scan = a, .d_inner = a->d_inner, .step = step};
    int64_t n_tok = a->cu_seqlens[a->n_seq] - a->cu_seqlens[0];
    j.channels = sp_cpu_channels(a->d_inner, n_tok * a->d_inner * a->d_state);
    j.n_block = (a->d_inner + j.channels - 1) / j.channels;
    sp_pool_run(cpu->pool, a->n_seq * j.n_block, scan_item, &j);
    return SP_OK;
}

/* ---- the backend ---------------------------------------------------------------------------- */

static void cpu_describe(struct sp_backend *be, char *out, size_t size) {
    struct sp_cpu *cpu = sp_cpu_of(be);
    char products[200];
    sp_gemm_describe(cpu->gemm, products, sizeof products);
    snprintf(out, size, "cpu: kernels %s, %d thread%s, %s", cpu->k.name, sp_pool_threads(cpu->pool),
             sp_pool_threads(cpu->pool) == 1 ? "" : "s", products);
}

static void cpu_free(struct sp_backend *be) {
    struct sp_cpu *cpu = sp_cpu_of(be);
    sp_gemm_free(cpu->gemm);
    sp_pool_free(cpu->pool);
    free(cpu->rounded);
    free(cpu->parts);
    free(cpu);
}

/* A path that is misspelt, or that this CPU lacks, must not pass for one that was measured. */
static enum sp_code check_variable(struct sp_error *err) {
    const char *value, *names[4];
    char list[64] = "";
    if (sp_kernels_env_ok(&value)) return SP_OK;
    int n = sp_kernels_paths(names);
    for (int i = 0; i < n; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
    }
    return sp_error_set(err, SP_E_USAGE,
                        "$STATEPIPE_CPU is '%.40s', which is none of ref, avx2, avx512 that this "
                        "CPU has (%s): unset it or choose one of these",
                        value, list);
}

enum sp_code sp_backend_cpu_new(struct sp_backend **be, int n_thread, struct sp_error *err) {
    *be = NULL;
    enum sp_code known = check_variable(err);
    if (known) return known;
    struct sp_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return sp_error_memory(err, "a buffer");
    sp_kernels_init(&cpu->k);
    cpu->be = (struct sp_backend){.abi = SP_BACKEND_ABI,
                                  .name = "cpu",
                                  .cut = 1,
                                  .ctx = cpu,
                                  .free = cpu_free,
                                  .describe = cpu_describe,
                                  .alloc = cpu_alloc,
                                  .release = cpu_release,
                                  .upload = cpu_copy,
                                  .download = cpu_download,
                                  .copy = cpu_copy,
                                  .zero = cpu_zero,
                                  .sync = cpu_sync,
                                  .weight_new = cpu_weight_new,
                                  .weight_free = cpu_weight_free,
                                  .linear = cpu_linear,
                                  .gemm = cpu_gemm,
                                  .rmsnorm_fwd = cpu_rmsnorm_fwd,
                                  .conv_fwd = cpu_conv_fwd,
                                  .scan_fwd = cpu_scan_fwd};
    sp_cpu_grad_install(&cpu->be);
    enum sp_code code = sp_pool_new(&cpu->pool, n_thread, err);
    if (!code) code = sp_gemm_new(&cpu->gemm, cpu->pool, &cpu->k, err);
    if (code) {
        cpu_free(&cpu->be);
        return code;
    }
    *be = &cpu->be;
    return SP_OK;
}
