/* A layer whose products are in bf16: what is wide between them, x, z, the convolution's and the
 * scan's output, takes 16 bits a number, which products would round it to all the same. The
 * residual stream, dt, B and C, which move every decay, sums and states stay f32. */
#include "backend_cuda.h"

/* Falcon-Mamba: dt, B and C each to a root mean square of one. */
static enum sp_code normalise_parts(struct sp_cuda *c, const struct sp_layer *a, int64_t n_tok,
                                    struct sp_error *err) {
    const struct sp_mixer *m = &a->mixer;
    const int64_t width[] = {m->dt_rank, m->d_state, m->d_state};
    struct sp_rmsnorm norm = {.x = a->dbc, .eps = m->part_norm_eps};
    norm.ldx = norm.ldy = m->dt_rank + 2 * m->d_state;
    for (int i = 0; i < 3; i++) {
        norm.d = width[i];
        norm.y = norm.x;
        SP_CUDA_TRY(sp_rmsnorm_fwd_cuda(&norm, SP_CUDA_F32, n_tok, c->compute), "a norm");
        norm.x += width[i];
    }
    return SP_OK;
}

static enum sp_code convolve(struct sp_cuda *c, const struct sp_layer *a, struct sp_error *err) {
    const struct sp_mixer *m = &a->mixer;
    struct sp_conv conv = {.n_seq = m->n_seq, .d_inner = m->d_inner, .d_conv = m->d_conv};
    conv.cu_seqlens = a->cu_seqlens;
    conv.x = m->xz;
    conv.ldx = m->ldxz;
    conv.w = m->conv_w;
    conv.bias = m->conv_bias;
    conv.state_in = (const float *const *)m->conv_state;
    conv.state_out = m->conv_state;
    conv.y = m->y;
    conv.ldy = m->ldy;
    return sp_cuda_conv(c, &conv, SP_CUDA_BF16, err);
}

static enum sp_code scan(struct sp_cuda *c, const struct sp_layer *a, struct sp_error *err) {
    const struct sp_mixer *m = &a->mixer;
    struct sp_scan scan = {.n_seq = m->n_seq, .d_inner = m->d_inner, .d_state = m->d_state};
    scan.cu_seqlens = a->cu_seqlens;
    scan.x = scan.y = m->y;
    scan.dt = a->dt;
    scan.z = (const float *)(const void *)((const uint16_t *)(const void *)m->xz + m->d_inner);
    scan.B = a->dbc + m->dt_rank;
    scan.C = scan.B + m->d_state;
    scan.ldx = scan.ldy = m->ldy;
    scan.lddt = m->d_inner;
    scan.ldz = m->ldxz;
    scan.ldb = scan.ldc = m->dt_rank + 2 * m->d_state;
    scan.A = m->A;
    scan.D = m->D;
    scan.dt_bias = m->dt_bias;
    scan.state_in = (const float *const *)m->ssm_state;
    scan.state_out = m->ssm_state;
    return sp_cuda_scan(c, &scan, SP_CUDA_BF16, err);
}

static enum sp_code cuda_layer(struct sp_backend *be, const struct sp_layer *a, bool *done,
                               struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    const struct sp_mixer *m = &a->mixer;
    const int64_t n_tok = a->cu_seqlens[m->n_seq], parts = m->dt_rank + 2 * m->d_state;
    *done = sp_cuda_weight_type(a->in_proj) == SP_CUDA_BF16 && !sp_cuda_weight_biased(a->in_proj);
    if (!*done) return SP_OK;
    struct sp_rmsnorm norm = {.d = a->d_model, .x = a->u, .ldx = a->d_model, .w = a->norm};
    norm.eps = a->norm_eps;
    norm.y = a->normed;
    norm.ldy = a->d_model;
    SP_CUDA_TRY(sp_rmsnorm_fwd_cuda(&norm, SP_CUDA_BF16, n_tok, c->compute), "a norm");
    struct sp_cuda_rows in = {.x = a->normed, .y = m->xz, .ldx = a->d_model, .ldy = m->ldxz};
    struct sp_cuda_rows to_parts = {.x = m->y, .y = a->dbc, .ldx = m->ldy, .ldy = parts};
    struct sp_cuda_rows to_dt = {.x = a->dbc, .y = a->dt, .ldx = parts, .ldy = m->d_inner};
    struct sp_cuda_rows out = {.x = m->y, .y = a->u, .ldx = m->ldy, .ldy = a->d_model};
    in.n_row = to_parts.n_row = to_dt.n_row = out.n_row = n_tok;
    in.x_type = in.y_type = to_parts.x_type = out.x_type = SP_CUDA_BF16;
    out.add = true;
    SP_TRY(sp_cuda_product(c, a->in_proj, &in, err));
    SP_TRY(convolve(c, a, err));
    SP_TRY(sp_cuda_product(c, m->x_proj, &to_parts, err));
    if (m->part_norm_eps >= 0) SP_TRY(normalise_parts(c, a, n_tok, err));
    SP_TRY(sp_cuda_product(c, m->dt_proj, &to_dt, err));
    SP_TRY(scan(c, a, err));
    return sp_cuda_product(c, a->out_proj, &out, err);
}

void sp_cuda_layer_install(struct sp_backend *be) {
    be->layer = cuda_layer;
}
