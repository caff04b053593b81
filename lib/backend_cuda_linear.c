/* The CUDA backend's weights and products. Decode rows take a matrix-vector kernel, others cuBLAS,
 * always in tiles of as many rows, so that cuBLAS chooses one algorithm per weight and a row's bits
 * do not depend on how many rows come with it. */
#include "backend_cuda.h"

#include <stdlib.h>

#define TILE 256 /* rows of a product */

struct sp_weight {
    void *w;     /* (d_out, d_in), of type, device */
    float *bias; /* (d_out), device, or NULL */
    enum sp_cuda_type type;
    int64_t d_out, d_in;
};

static size_t type_size(enum sp_cuda_type type) {
    return type == SP_CUDA_F32 ? 4 : 2;
}

/* ---- weights ----------------------------------------------------------------------------------*/

struct converting {
    const struct sp_tensor *from;
    enum sp_cuda_type to;
};

/* Pieces begin and end with an element. */
static void fill_converted(const void *ctx, void *to, size_t offset, size_t n) {
    const struct converting *v = ctx;
    size_t size = sp_dtype_size(v->from->dtype), first = offset / type_size(v->to);
    const char *from = (const char *)v->from->data + first * size;
    if (v->to == SP_CUDA_F32) {
        sp_tensor_to_f32(to, from, v->from->dtype, n / 4);
        return;
    }
    float part[256];
    for (size_t i = 0; i < n / 2; i += 256) {
        size_t k = n / 2 - i < 256 ? n / 2 - i : 256;
        sp_tensor_to_f32(part, from + i * size, v->from->dtype, k);
        sp_tensor_from_f32((uint16_t *)to + i, part, SP_BF16, k);
    }
}

static void cuda_weight_free(struct sp_backend *be, struct sp_weight *w) {
    if (!w) return;
    sp_cuda_graphs_clear(sp_cuda_of(be));
    be->release(be, w->w);
    be->release(be, w->bias);
    free(w);
}

static enum sp_code fill_weight(struct sp_backend *be, struct sp_weight *weight,
                                const struct sp_tensor *w, const float *bias,
                                struct sp_error *err) {
    size_t n = (size_t)(weight->d_out * weight->d_in) * type_size(weight->type);
    size_t n_bias = (size_t)weight->d_out * sizeof *bias;
    struct converting v = {.from = w, .to = weight->type};
    void *dev = NULL;
    SP_TRY(be->alloc(be, n, &weight->w, err));
    SP_TRY(sp_cuda_upload(sp_cuda_of(be), weight->w, n, fill_converted, &v, err));
    if (!bias) return SP_OK;
    SP_TRY(be->alloc(be, n_bias, &dev, err));
    weight->bias = dev;
    return be->upload(be, dev, bias, n_bias, err);
}

static enum sp_code cuda_weight_new(struct sp_backend *be, const struct sp_tensor *w,
                                    const float *bias, enum sp_dtype compute,
                                    struct sp_weight **out, struct sp_error *err) {
    *out = NULL;
    bool known = w->dtype == SP_F32 || w->dtype == SP_F16 || w->dtype == SP_BF16;
    if (!known || w->rank != 2 || (compute != SP_F32 && compute != SP_BF16))
        return sp_error_set(err, SP_E_BUG, "a weight of type %s and rank %u for products in %s",
                            sp_dtype_name(w->dtype), w->rank, sp_dtype_name(compute));
    struct sp_weight *weight = calloc(1, sizeof *weight);
    if (!weight) return sp_error_memory(err, "a weight");
    weight->type = compute == SP_BF16 ? SP_CUDA_BF16 : SP_CUDA_F32;
    weight->d_out = (int64_t)w->dim[0];
    weight->d_in = (int64_t)w->dim[1];
    enum sp_code code = fill_weight(be, weight, w, bias, err);
    if (code) {
        cuda_weight_free(be, weight);
        return code;
    }
    *out = weight;
    return SP_OK;
}

/* ---- products ---------------------------------------------------------------------------------*/

/* C (m, n; ldc) = op(A) op(B) + beta C, row-major: for cuBLAS, which is column-major, all matrices
 * are transposed, and so their order is the other way round. */
struct product {
    bool trans_a, trans_b, add;
    int64_t m, n, k, lda, ldb, ldc;
    const void *a, *b;
    cudaDataType type, c_type;
    void *c;
};
static enum sp_code multiply(struct sp_cuda *c, const struct product *p, struct sp_error *err) {
    const float one = 1, beta = p->add ? 1 : 0;
    SP_CUDA_BLAS_TRY(cublasGemmEx_64(c->blas, p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                     p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, p->n, p->m, p->k, &one,
                                     p->b, p->type, p->ldb, p->a, p->type, p->lda, &beta, p->c,
                                     p->c_type, p->ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     "a product by cuBLAS");
    return SP_OK;
}

static enum sp_code cuda_gemm(struct sp_backend *be, bool trans_a, bool trans_b, int64_t m,
                              int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                              int64_t ldb, float *c, int64_t ldc, bool add, struct sp_error *err) {
    struct product p = {.trans_a = trans_a, .trans_b = trans_b, .add = add, .m = m, .n = n, .k = k};
    p.a = a;
    p.b = b;
    p.c = c;
    p.lda = lda;
    p.ldb = ldb;
    p.ldc = ldc;
    p.type = p.c_type = CUDA_R_32F;
    return m > 0 && n > 0 ? multiply(sp_cuda_of(be), &p, err) : SP_OK;
}

static cudaDataType blas_type(enum sp_cuda_type type) {
    return type == SP_CUDA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static enum sp_code copy_rows(struct sp_cuda *c, void *to, enum sp_cuda_type to_type, int64_t ld_to,
                              const void *from, enum sp_cuda_type from_type, int64_t ld_from,
                              int64_t n_row, int64_t d, struct sp_error *err) {
    SP_CUDA_TRY(sp_convert_cuda(to, to_type, ld_to, from, from_type, ld_from, n_row, d, c->compute),
                "copying rows");
    return SP_OK;
}

/* Rows [at, at + n_row) of r: a tile is full, or its other rows hold anything: each is its own. */
static enum sp_code run_tile(struct sp_cuda *c, const struct sp_weight *w,
                             const struct sp_cuda_rows *r, int64_t at, int64_t n_row,
                             struct sp_error *err) {
    struct product p = {.trans_b = true, .add = r->add, .m = TILE, .n = w->d_out, .k = w->d_in};
    const bool full = n_row == TILE;
    const char *x = (const char *)r->x + (size_t)(at * r->ldx) * type_size(r->x_type);
    char *y = (char *)r->y + (size_t)(at * r->ldy) * type_size(r->y_type);
    p.a = x;
    p.lda = r->ldx;
    p.b = w->w;
    p.ldb = w->d_in;
    p.c = full ? y : c->y.dev;
    p.ldc = full ? r->ldy : w->d_out;
    p.type = blas_type(w->type);
    p.c_type = blas_type(r->y_type);
    if (!full || w->type != r->x_type) {
        SP_TRY(copy_rows(c, c->x.dev, w->type, w->d_in, x, r->x_type, r->ldx, n_row, w->d_in, err));
        p.a = c->x.dev;
        p.lda = w->d_in;
    }
    if (!full && r->add)
        SP_TRY(copy_rows(c, p.c, r->y_type, p.ldc, y, r->y_type, r->ldy, n_row, w->d_out, err));
    SP_TRY(multiply(c, &p, err));
    if (full) return SP_OK;
    return copy_rows(c, y, r->y_type, r->ldy, p.c, r->y_type, p.ldc, n_row, w->d_out, err);
}

enum sp_code sp_cuda_product(struct sp_cuda *c, const struct sp_weight *w,
                             const struct sp_cuda_rows *r, struct sp_error *err) {
    SP_TRY(sp_cuda_grow(c, &c->x, (size_t)(TILE * w->d_in) * type_size(w->type), err));
    SP_TRY(sp_cuda_grow(c, &c->y, (size_t)(TILE * w->d_out) * type_size(r->y_type), err));
    for (int64_t at = 0; at < r->n_row; at += TILE)
        SP_TRY(run_tile(c, w, r, at, r->n_row - at < TILE ? r->n_row - at : TILE, err));
    if (!w->bias) return SP_OK;
    SP_CUDA_TRY(sp_add_bias_cuda(r->y, r->ldy, r->n_row, w->d_out, w->bias, c->compute),
                "adding a bias");
    return SP_OK;
}

enum sp_cuda_type sp_cuda_weight_type(const struct sp_weight *w) {
    return w->type;
}

bool sp_cuda_weight_biased(const struct sp_weight *w) {
    return w->bias != NULL;
}

static enum sp_code cuda_linear(struct sp_backend *be, struct sp_weight *w, const float *x,
                                int64_t ldx, int64_t n_row, bool step, float *y, int64_t ldy,
                                bool add, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    if (n_row <= 0) return SP_OK;
    if (step) {
        struct sp_cuda_matvec m = {.w = w->w, .w_type = w->type, .ldw = w->d_in, .d_in = w->d_in};
        m.d_out = w->d_out;
        m.x = x;
        m.ldx = ldx;
        m.n_row = n_row;
        m.round_x = w->type != SP_CUDA_F32;
        m.bias = w->bias;
        m.y = y;
        m.ldy = ldy;
        m.add = add;
        SP_CUDA_TRY(sp_matvec_cuda(&m, c->compute), "a matrix-vector product");
        return SP_OK;
    }
    struct sp_cuda_rows r = {.x = x, .y = y, .ldx = ldx, .ldy = ldy, .n_row = n_row, .add = add};
    return sp_cuda_product(c, w, &r, err);
}

static enum sp_code cuda_mixer_step(struct sp_backend *be, const struct sp_mixer *m,
                                    struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    const size_t n = (size_t)m->n_seq * sizeof *m->conv_state;
    struct sp_cuda_list l[] = {{m->conv_state, n, NULL}, {m->ssm_state, n, NULL}};
    SP_TRY(sp_cuda_lists(c, l, 2, err));
    struct sp_mixer_step a = {.n_seq = m->n_seq, .d_inner = m->d_inner, .d_conv = m->d_conv};
    a.d_state = m->d_state;
    a.dt_rank = m->dt_rank;
    a.xz = m->xz;
    a.ldxz = m->ldxz;
    a.conv_w = m->conv_w;
    a.conv_bias = m->conv_bias;
    a.x_proj = m->x_proj->w;
    a.dt_proj = m->dt_proj->w;
    a.x_type = m->x_proj->type;
    a.dt_type = m->dt_proj->type;
    a.round_inputs = 1;
    a.part_norm_eps = m->part_norm_eps;
    a.dt_bias = m->dt_bias;
    a.A = m->A;
    a.D = m->D;
    a.conv_state = (float *const *)l[0].dev;
    a.ssm_state = (float *const *)l[1].dev;
    a.y = m->y;
    a.ldy = m->ldy;
    const size_t n_work = (size_t)sp_mixer_step_cuda_workspace(&a) * sizeof(float);
    SP_TRY(sp_cuda_grow(c, &c->work, n_work, err));
    SP_CUDA_TRY(sp_mixer_step_cuda(&a, c->work.dev, c->compute), "a decode step");
    return SP_OK;
}

void sp_cuda_linear_install(struct sp_backend *be) {
    be->weight_new = cuda_weight_new;
    be->weight_free = cuda_weight_free;
    be->linear = cuda_linear;
    be->gemm = cuda_gemm;
    be->mixer_step = cuda_mixer_step;
}
