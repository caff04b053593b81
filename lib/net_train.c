/* Forward and backward pass of the network, on struct sp_backend.
 *
 * The order of operations of a layer is net.c's: norm, in_proj, convolution and SiLU, x_proj,
 * [norms of dt, B, C], dt_proj, scan with gate and skip, out_proj, residual. Activations that the
 * backward pass needs are kept per layer; what is only passed along is kept once.
 *
 * Source: Gu and Dao, arXiv 2312.00752, section 3; the backward pass is the chain rule over it.
 */
#include "net_train.h"

#include "model.h"

#include <math.h>

/* ---- products ---------------------------------------------------------------------------------
 */

/* A linear layer y = x W^T + bias with W (d_out, d_in); offsets into the flat buffers. */
struct linear {
    int64_t w, bias, d_out, d_in;
};

static enum sp_code linear_fwd(struct sp_train_net *net, const struct linear *l, int64_t n,
                               const float *x, int64_t ldx, float *y, int64_t ldy, bool add_to,
                               struct sp_error *err) {
    struct sp_backend *be = net->be;
    SP_TRY(be->gemm(be, false, true, n, l->d_out, l->d_in, x, ldx, net->value + l->w, l->d_in, y,
                    ldy, add_to, err));
    if (l->bias < 0) return SP_OK;
    return be->gemm(be, false, false, n, l->d_out, 1, net->ones, 1, net->value + l->bias, l->d_out,
                    y, ldy, true, err);
}

/* Adds to the gradients of W and bias; dx = (or +=) dy W. */
static enum sp_code linear_bwd(struct sp_train_net *net, const struct linear *l, int64_t n,
                               const float *x, int64_t ldx, const float *dy, int64_t lddy,
                               float *dx, int64_t lddx, bool add_to, struct sp_error *err) {
    struct sp_backend *be = net->be;
    SP_TRY(be->gemm(be, true, false, l->d_out, l->d_in, n, dy, lddy, x, ldx, net->grad + l->w,
                    l->d_in, true, err));
    SP_TRY(be->gemm(be, false, false, n, l->d_in, l->d_out, dy, lddy, net->value + l->w, l->d_in,
                    dx, lddx, add_to, err));
    if (l->bias < 0) return SP_OK;
    return be->gemm(be, false, false, 1, l->d_out, n, net->ones, n, dy, lddy, net->grad + l->bias,
                    l->d_out, true, err);
}

static struct linear in_proj(const struct sp_train_net *net, int64_t i) {
    const struct sp_layer_offsets *o = &net->set->layer[i];
    return (struct linear){o->in_w, o->in_b, 2 * net->set->config.d_inner,
                           net->set->config.d_model};
}
static struct linear x_proj(const struct sp_train_net *net, int64_t i) {
    const struct sp_config *c = &net->set->config;
    return (struct linear){net->set->layer[i].x_w, -1, c->dt_rank + 2 * c->d_state, c->d_inner};
}
/* Its bias is the scan's dt_bias. */
static struct linear dt_proj(const struct sp_train_net *net, int64_t i) {
    const struct sp_config *c = &net->set->config;
    return (struct linear){net->set->layer[i].dt_w, -1, c->d_inner, c->dt_rank};
}
static struct linear out_proj(const struct sp_train_net *net, int64_t i) {
    const struct sp_layer_offsets *o = &net->set->layer[i];
    return (struct linear){o->out_w, o->out_b, net->set->config.d_model, net->set->config.d_inner};
}
static struct linear head_proj(const struct sp_train_net *net) {
    const struct sp_param_set *s = net->set;
    return (struct linear){s->head_w, s->head_b, s->n_class, s->config.d_model};
}

/* ---- the arguments of the kernels --------------------------------------------------------------
 */

static bool reversed(const struct sp_train_net *net, int64_t i) {
    return sp_config_reverses(&net->set->config, i);
}

/* Pointers to the states of one layer; NULL when the batch has none of that kind, and for a
 * reversed layer, which starts from nothing in each window. */
static const float **layer_states(struct sp_train_net *net, const struct sp_train_batch *b,
                                  int kind, int64_t layer) {
    const struct sp_config *c = &net->set->config;
    const void *source[SP_TRAIN_STATE_PTRS] = {b->conv_in, b->ssm_in,   b->conv_out,
                                               b->ssm_out, b->dconv_in, b->dssm_in};
    const float *const *from = source[kind];
    if (!from || reversed(net, layer)) return NULL;
    bool conv = kind == CONV_IN || kind == CONV_OUT || kind == DCONV_IN;
    int64_t size = conv ? (c->d_conv - 1) * c->d_inner : c->d_inner * c->d_state;
    const float **to = net->state_ptr + (int64_t)kind * net->n_seq_max;
    for (int64_t s = 0; s < b->n_seq; s++) to[s] = from[s] ? from[s] + layer * size : NULL;
    return to;
}

static struct sp_rmsnorm layer_norm(struct sp_train_net *net, int64_t i) {
    const struct sp_config *c = &net->set->config;
    struct sp_train_kept *k = &net->layer[i];
    return (struct sp_rmsnorm){.d = c->d_model,
                               .x = k->h,
                               .ldx = c->d_model,
                               .w = net->value + net->set->layer[i].norm,
                               .eps = (float)c->norm_eps,
                               .y = reversed(net, i) ? net->turned : k->normed,
                               .ldy = c->d_model,
                               .rstd = k->rstd};
}

static struct sp_rmsnorm final_norm(struct sp_train_net *net) {
    const struct sp_config *c = &net->set->config;
    return (struct sp_rmsnorm){.d = c->d_model,
                               .x = net->final_h,
                               .ldx = c->d_model,
                               .w = net->value + net->set->norm_f,
                               .eps = (float)c->norm_eps,
                               .y = net->final_normed,
                               .ldy = c->d_model,
                               .rstd = net->final_rstd};
}

/* The norm of dt (part 0), B (1) or C (2): column ranges of x_proj's output. */
static struct sp_rmsnorm part_norm(struct sp_train_net *net, int64_t i, int part, int64_t *column) {
    const struct sp_config *c = &net->set->config;
    struct sp_train_kept *k = &net->layer[i];
    *column = part == 0 ? 0 : c->dt_rank + (part - 1) * c->d_state;
    return (struct sp_rmsnorm){.d = part == 0 ? c->dt_rank : c->d_state,
                               .x = k->xp + *column,
                               .ldx = sp_train_xp_columns(c),
                               .eps = (float)c->mixer_norm_eps,
                               .y = k->xn + *column,
                               .ldy = sp_train_xp_columns(c),
                               .rstd = k->xn_rstd + part * net->n_tok_max};
}

static struct sp_conv layer_conv(struct sp_train_net *net, const struct sp_train_batch *b,
                                 int64_t i) {
    const struct sp_config *c = &net->set->config;
    const struct sp_layer_offsets *o = &net->set->layer[i];
    struct sp_train_kept *k = &net->layer[i];
    bool turned = reversed(net, i);
    return (struct sp_conv){.n_seq = turned ? net->windows.n : b->n_seq,
                            .d_inner = c->d_inner,
                            .d_conv = c->d_conv,
                            .cu_seqlens = turned ? net->windows.cu_seqlens : b->cu_seqlens,
                            .x = k->xz,
                            .ldx = 2 * c->d_inner,
                            .w = net->value + o->conv_w,
                            .bias = o->conv_b < 0 ? NULL : net->value + o->conv_b,
                            .state_in = layer_states(net, b, CONV_IN, i),
                            .state_out = (float *const *)layer_states(net, b, CONV_OUT, i),
                            .y = k->xc,
                            .ldy = c->d_inner};
}

static struct sp_scan layer_scan(struct sp_train_net *net, const struct sp_train_batch *b,
                                 int64_t i) {
    const struct sp_config *c = &net->set->config;
    const struct sp_layer_offsets *o = &net->set->layer[i];
    struct sp_train_kept *k = &net->layer[i];
    int64_t cols = sp_train_xp_columns(c);
    bool turned = reversed(net, i);
    return (struct sp_scan){.n_seq = turned ? net->windows.n : b->n_seq,
                            .d_inner = c->d_inner,
                            .d_state = c->d_state,
                            .cu_seqlens = turned ? net->windows.cu_seqlens : b->cu_seqlens,
                            .x = k->xc,
                            .dt = k->dt,
                            .z = k->xz + c->d_inner,
                            .B = k->xn + c->dt_rank,
                            .C = k->xn + c->dt_rank + c->d_state,
                            .ldx = c->d_inner,
                            .lddt = c->d_inner,
                            .ldz = 2 * c->d_inner,
                            .ldb = cols,
                            .ldc = cols,
                            .A = net->A + i * c->d_inner * c->d_state,
                            .D = net->value + o->d,
                            .dt_bias = net->value + o->dt_b,
                            .state_in = layer_states(net, b, SSM_IN, i),
                            .state_out = (float *const *)layer_states(net, b, SSM_OUT, i),
                            .y = k->y,
                            .ldy = c->d_inner,
                            .chunk_state = k->chunk,
                            .cu_chunks = turned ? net->window_chunks : net->cu_chunks};
}

/* ---- forward -----------------------------------------------------------------------------------
 */

/* Hidden states after layer i: the next layer's input. */
static float *layer_output(struct sp_train_net *net, int64_t i) {
    return i + 1 < net->set->config.n_layer ? net->layer[i + 1].h : net->final_h;
}

/* net->turned: rows of x in the order of a reversed layer, or back again. */
static enum sp_code turn(struct sp_train_net *net, const float *x, int64_t n,
                         struct sp_error *err) {
    return net->be->gather(net->be, x, net->set->config.d_model, net->windows.order, n, net->turned,
                           err);
}

/* The residual: h = the layer's input + out_proj(y). */
static enum sp_code layer_add(struct sp_train_net *net, int64_t i, int64_t n,
                              struct sp_error *err) {
    struct sp_backend *be = net->be;
    struct sp_train_kept *k = &net->layer[i];
    struct linear out = out_proj(net, i);
    int64_t d = out.d_out, di = out.d_in;
    float *h = layer_output(net, i);
    SP_TRY(be->copy(be, h, k->h, (size_t)(n * d) * sizeof *h, err));
    if (!reversed(net, i)) return linear_fwd(net, &out, n, k->y, di, h, d, true, err);
    SP_TRY(linear_fwd(net, &out, n, k->y, di, net->turned, d, false, err));
    return be->scatter_add(be, h, d, net->windows.order, n, net->turned, err);
}

static enum sp_code layer_fwd(struct sp_train_net *net, const struct sp_train_batch *b, int64_t i,
                              struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    struct sp_backend *be = net->be;
    struct sp_train_kept *k = &net->layer[i];
    int64_t n = b->cu_seqlens[b->n_seq], d = c->d_model, di = c->d_inner,
            cols = sp_train_xp_columns(c);
    struct linear in = in_proj(net, i), xp = x_proj(net, i), dt = dt_proj(net, i);
    struct sp_rmsnorm norm = layer_norm(net, i);
    struct sp_conv conv = layer_conv(net, b, i);
    struct sp_scan scan = layer_scan(net, b, i);
    SP_TRY(be->rmsnorm_fwd(be, &norm, n, err));
    if (reversed(net, i))
        SP_TRY(be->gather(be, net->turned, d, net->windows.order, n, k->normed, err));
    SP_TRY(linear_fwd(net, &in, n, k->normed, d, k->xz, 2 * di, false, err));
    SP_TRY(be->conv_fwd(be, &conv, err));
    SP_TRY(linear_fwd(net, &xp, n, k->xc, di, k->xp, cols, false, err));
    for (int part = 0; k->xn != k->xp && part < SP_TRAIN_NORMED; part++) {
        int64_t column;
        struct sp_rmsnorm part_n = part_norm(net, i, part, &column);
        SP_TRY(be->rmsnorm_fwd(be, &part_n, n, err));
    }
    SP_TRY(linear_fwd(net, &dt, n, k->xn, cols, k->dt, di, false, err));
    SP_TRY(be->scan_fwd(be, &scan, false, err));
    return layer_add(net, i, n, err);
}

/* Where each sequence's chunks of the scan begin. */
static void count_chunks(int64_t *cu_chunks, const int64_t *cu_seqlens, int64_t n_seq) {
    cu_chunks[0] = 0;
    for (int64_t s = 0; s < n_seq; s++) {
        int64_t len = cu_seqlens[s + 1] - cu_seqlens[s];
        cu_chunks[s + 1] = cu_chunks[s] + (len + SP_SCAN_CHUNK - 1) / SP_SCAN_CHUNK;
    }
}

static enum sp_code forward(struct sp_train_net *net, const struct sp_train_batch *b,
                            struct sp_error *err) {
    struct sp_backend *be = net->be;
    const struct sp_config *c = &net->set->config;
    int64_t n = b->cu_seqlens[b->n_seq];
    if (n > net->n_tok_max || b->n_seq > net->n_seq_max)
        return sp_error_set(err, SP_E_BUG, "batch of %lld tokens, %lld sequences: over the limit",
                            (long long)n, (long long)b->n_seq);
    count_chunks(net->cu_chunks, b->cu_seqlens, b->n_seq);
    if (c->reverse) {
        SP_TRY(sp_windows_make(&net->windows, c->reverse, b->cu_seqlens, b->n_seq, err));
        count_chunks(net->window_chunks, net->windows.cu_seqlens, net->windows.n);
    }
    float *first = c->n_layer > 0 ? net->layer[0].h : net->final_h;
    SP_TRY(be->gather(be, net->value + net->set->embed, c->d_model, b->id, n, first, err));
    for (int64_t i = 0; i < c->n_layer; i++) SP_TRY(layer_fwd(net, b, i, err));
    struct sp_rmsnorm norm = final_norm(net);
    return be->rmsnorm_fwd(be, &norm, n, err);
}

static int64_t count_right(const float *logits, int64_t n, int64_t n_class, const int32_t *target) {
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * n_class;
        if (target[i] < 0) continue;
        int64_t best = 0;
        for (int64_t k = 1; k < n_class; k++)
            if (row[k] > row[best]) best = k;
        right += best == target[i];
    }
    return right;
}

/* Head and cross-entropy, block of rows by block; with backward, into net->dnormed too. */
static enum sp_code head_pass(struct sp_train_net *net, const struct sp_train_batch *b, float scale,
                              bool backward, struct sp_train_result *result, struct sp_error *err) {
    struct sp_backend *be = net->be;
    struct linear head = head_proj(net);
    int64_t n = b->cu_seqlens[b->n_seq], d = head.d_in, n_class = head.d_out;
    *result = (struct sp_train_result){0};
    for (int64_t at = 0; at < n; at += net->n_block) {
        int64_t rows = n - at < net->n_block ? n - at : net->n_block;
        const float *x = net->final_normed + at * d;
        SP_TRY(linear_fwd(net, &head, rows, x, d, net->logits, n_class, false, err));
        if (!backward) {
            SP_TRY(be->download(be, net->logits_host, net->logits,
                                (size_t)(rows * n_class) * sizeof *net->logits, err));
            result->n_right += count_right(net->logits_host, rows, n_class, b->target + at);
        }
        struct sp_xent xent = {.n_class = n_class,
                               .logits = net->logits,
                               .ldl = n_class,
                               .target = b->target + at,
                               .scale = scale,
                               .loss = net->loss + at};
        SP_TRY(be->xent(be, &xent, rows, err));
        if (backward)
            SP_TRY(linear_bwd(net, &head, rows, x, d, net->logits, n_class, net->dnormed + at * d,
                              d, false, err));
    }
    SP_TRY(be->download(be, net->loss_host, net->loss, (size_t)n * sizeof *net->loss, err));
    for (int64_t i = 0; i < n; i++) {
        result->loss += (double)net->loss_host[i];
        result->n_target += b->target[i] >= 0;
    }
    return SP_OK;
}

/* ---- backward ----------------------------------------------------------------------------------
 */

/* From the gradients of dt (after its product), B and C to that of x_proj's output, in net->dxp. */
static enum sp_code dt_b_c_bwd(struct sp_train_net *net, int64_t i, int64_t n,
                               struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    struct sp_backend *be = net->be;
    struct sp_train_kept *k = &net->layer[i];
    struct linear dt = dt_proj(net, i);
    int64_t cols = sp_train_xp_columns(c), s = c->d_state;
    bool normed = k->xn != k->xp;
    float *dxn = normed ? net->dxn : net->dxp;
    SP_TRY(linear_bwd(net, &dt, n, k->xn, cols, net->ddt, c->d_inner, dxn, cols, false, err));
    if (!normed) {
        SP_TRY(be->gemm(be, false, false, n, s, s, net->dB, s, net->eye, s, dxn + c->dt_rank, cols,
                        false, err));
        return be->gemm(be, false, false, n, s, s, net->dC, s, net->eye, s, dxn + c->dt_rank + s,
                        cols, false, err);
    }
    SP_TRY(be->zero(be, net->dxp, (size_t)(n * cols) * sizeof(float), err));
    for (int part = 0; part < SP_TRAIN_NORMED; part++) {
        int64_t column;
        struct sp_rmsnorm norm = part_norm(net, i, part, &column);
        struct sp_rmsnorm_grad g = {.dy = part == 0   ? dxn
                                          : part == 1 ? net->dB
                                                      : net->dC,
                                    .lddy = part == 0 ? cols : s,
                                    .dx = net->dxp + column,
                                    .lddx = cols};
        SP_TRY(be->rmsnorm_bwd(be, &norm, &g, n, err));
    }
    return SP_OK;
}

static enum sp_code scan_bwd(struct sp_train_net *net, const struct sp_train_batch *b, int64_t i,
                             struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    const struct sp_layer_offsets *o = &net->set->layer[i];
    struct sp_backend *be = net->be;
    int64_t n = b->cu_seqlens[b->n_seq], di = c->d_inner;
    size_t n_bytes = (size_t)(n * c->d_state) * sizeof(float);
    struct sp_scan scan = layer_scan(net, b, i);
    struct sp_scan_grad g = {.dy = net->dy,
                             .lddy = di,
                             .dx = net->dxc,
                             .ddt = net->ddt,
                             .dz = net->dxz + di,
                             .lddx = di,
                             .lddt = di,
                             .lddz = 2 * di,
                             .dB = net->dB,
                             .dC = net->dC,
                             .dA = net->dA + i * di * c->d_state,
                             .dD = net->grad + o->d,
                             .ddt_bias = net->grad + o->dt_b,
                             .dstate_in = (float *const *)layer_states(net, b, DSSM_IN, i)};
    SP_TRY(be->zero(be, net->dB, n_bytes, err));
    SP_TRY(be->zero(be, net->dC, n_bytes, err));
    return be->scan_bwd(be, &scan, &g, err);
}

static enum sp_code conv_bwd(struct sp_train_net *net, const struct sp_train_batch *b, int64_t i,
                             struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    const struct sp_layer_offsets *o = &net->set->layer[i];
    struct sp_conv conv = layer_conv(net, b, i);
    struct sp_conv_grad g = {.dy = net->dxc,
                             .lddy = c->d_inner,
                             .dx = net->dxz,
                             .lddx = 2 * c->d_inner,
                             .dw = net->grad + o->conv_w,
                             .dbias = o->conv_b < 0 ? NULL : net->grad + o->conv_b,
                             .dstate_in = (float *const *)layer_states(net, b, DCONV_IN, i)};
    return net->be->conv_bwd(net->be, &conv, &g, err);
}

/* net->dh: from the gradient of the layer's output to that of its input. */
static enum sp_code layer_bwd(struct sp_train_net *net, const struct sp_train_batch *b, int64_t i,
                              struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    struct sp_train_kept *k = &net->layer[i];
    int64_t n = b->cu_seqlens[b->n_seq], d = c->d_model, di = c->d_inner,
            cols = sp_train_xp_columns(c);
    struct linear in = in_proj(net, i), xp = x_proj(net, i), out = out_proj(net, i);
    const float *dh = net->dh, *dnormed = net->dnormed;
    if (reversed(net, i)) {
        SP_TRY(turn(net, net->dh, n, err));
        dh = net->turned;
    }
    SP_TRY(linear_bwd(net, &out, n, k->y, di, dh, d, net->dy, di, false, err));
    SP_TRY(scan_bwd(net, b, i, err));
    SP_TRY(dt_b_c_bwd(net, i, n, err));
    SP_TRY(linear_bwd(net, &xp, n, k->xc, di, net->dxp, cols, net->dxc, di, true, err));
    SP_TRY(conv_bwd(net, b, i, err));
    SP_TRY(linear_bwd(net, &in, n, k->normed, d, net->dxz, 2 * di, net->dnormed, d, false, err));
    if (reversed(net, i)) {
        SP_TRY(turn(net, net->dnormed, n, err));
        dnormed = net->turned;
    }
    struct sp_rmsnorm norm = layer_norm(net, i);
    struct sp_rmsnorm_grad g = {.dy = dnormed,
                                .lddy = d,
                                .dx = net->dh,
                                .lddx = d,
                                .dw = net->grad + net->set->layer[i].norm};
    return net->be->rmsnorm_bwd(net->be, &norm, &g, n, err);
}

/* A = -exp(A_log), so dA_log = dA A. */
static enum sp_code a_log_bwd(struct sp_train_net *net, struct sp_error *err) {
    struct sp_backend *be = net->be;
    const int64_t *part = net->set->part;
    const struct sp_config *c = &net->set->config;
    int64_t n = c->n_layer * c->d_inner * c->d_state;
    SP_TRY(be->download(be, net->da_host, net->dA, (size_t)n * sizeof *net->dA, err));
    for (int64_t i = 0; i < n; i++) net->da_host[i] *= net->a_host[i];
    return be->upload(be, net->grad + part[SP_PARAM_A_LOG], net->da_host,
                      (size_t)n * sizeof *net->dA, err);
}

enum sp_code sp_train_net_gradient(struct sp_train_net *net, const struct sp_train_batch *b,
                                   float scale, struct sp_train_result *result,
                                   struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    struct sp_backend *be = net->be;
    int64_t n = b->cu_seqlens[b->n_seq], d = c->d_model;
    size_t a_bytes = (size_t)(c->n_layer * c->d_inner * c->d_state) * sizeof(float);
    SP_TRY(forward(net, b, err));
    SP_TRY(be->zero(be, net->grad, (size_t)sp_param_set_size(net->set) * sizeof(float), err));
    SP_TRY(be->zero(be, net->dA, a_bytes, err));
    SP_TRY(head_pass(net, b, scale, true, result, err));
    struct sp_rmsnorm norm = final_norm(net);
    struct sp_rmsnorm_grad g = {.dy = net->dnormed,
                                .lddy = d,
                                .dx = net->dh,
                                .lddx = d,
                                .dw = net->grad + net->set->norm_f};
    SP_TRY(be->zero(be, net->dh, (size_t)(n * d) * sizeof(float), err));
    SP_TRY(be->rmsnorm_bwd(be, &norm, &g, n, err));
    for (int64_t i = c->n_layer - 1; i >= 0; i--) SP_TRY(layer_bwd(net, b, i, err));
    SP_TRY(be->scatter_add(be, net->grad + net->set->embed, d, b->id, n, net->dh, err));
    return a_log_bwd(net, err);
}

enum sp_code sp_train_net_evaluate(struct sp_train_net *net, const struct sp_train_batch *b,
                                   struct sp_train_result *result, struct sp_error *err) {
    SP_TRY(forward(net, b, err));
    return head_pass(net, b, 0, false, result, err);
}

enum sp_code sp_train_net_refresh(struct sp_train_net *net, struct sp_error *err) {
    struct sp_backend *be = net->be;
    const struct sp_config *c = &net->set->config;
    int64_t n = c->n_layer * c->d_inner * c->d_state;
    const float *a_log = net->value + net->set->part[SP_PARAM_A_LOG];
    SP_TRY(be->download(be, net->a_host, a_log, (size_t)n * sizeof *a_log, err));
    for (int64_t i = 0; i < n; i++) net->a_host[i] = -expf(net->a_host[i]);
    return be->upload(be, net->A, net->a_host, (size_t)n * sizeof *net->A, err);
}
