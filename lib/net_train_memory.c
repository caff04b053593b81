/* The network in training: its buffers. */
#include "net_train.h"

#include <stdlib.h>

/* Logits are computed in blocks of rows, so that a large vocabulary does not multiply with a batch.
 */
#define LOGITS_MAX ((int64_t)4 << 20)

/* Allocates n_row * n_column floats on the device, remembered for sp_train_net_free. */
static enum sp_code device(struct sp_train_net *net, float **out, int64_t n_row, int64_t n_column,
                           struct sp_error *err) {
    size_t n_bytes;
    void *p;
    if (net->n_buffer == SP_TRAIN_BUFFERS_MAX)
        return sp_error_set(err, SP_E_BUG, "too many buffers");
    if (__builtin_mul_overflow((size_t)n_row, (size_t)n_column, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, sizeof **out, &n_bytes))
        return sp_error_set(err, SP_E_DEVICE, "a buffer of %lld x %lld floats is too large",
                            (long long)n_row, (long long)n_column);
    SP_TRY(net->be->alloc(net->be, n_bytes, &p, err));
    net->buffer[net->n_buffer++] = p;
    *out = p;
    return SP_OK;
}

/* One buffer per kind of activation, for all layers. */
static enum sp_code keep_all(struct sp_train_net *net, struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    int64_t n = net->n_tok_max, cols = sp_train_xp_columns(c), L = c->n_layer;
    bool normed = c->arch == SP_ARCH_FALCON_MAMBA;
    struct sp_train_kept base = {0};
    SP_TRY(device(net, &base.h, L, n * c->d_model, err));
    SP_TRY(device(net, &base.normed, L, n * c->d_model, err));
    SP_TRY(device(net, &base.rstd, L, n, err));
    SP_TRY(device(net, &base.xz, L, n * 2 * c->d_inner, err));
    SP_TRY(device(net, &base.xc, L, n * c->d_inner, err));
    SP_TRY(device(net, &base.xp, L, n * cols, err));
    SP_TRY(device(net, &base.dt, L, n * c->d_inner, err));
    SP_TRY(device(net, &base.y, L, n * c->d_inner, err));
    SP_TRY(device(net, &base.chunk, L, net->n_chunk_max * c->d_inner * c->d_state, err));
    base.xn = base.xp;
    if (normed) SP_TRY(device(net, &base.xn, L, n * cols, err));
    if (normed) SP_TRY(device(net, &base.xn_rstd, L, SP_TRAIN_NORMED * n, err));
    for (int64_t i = 0; i < L; i++)
        net->layer[i] = (struct sp_train_kept){
            .h = base.h + i * n * c->d_model,
            .normed = base.normed + i * n * c->d_model,
            .rstd = base.rstd + i * n,
            .xz = base.xz + i * n * 2 * c->d_inner,
            .xc = base.xc + i * n * c->d_inner,
            .xp = base.xp + i * n * cols,
            .xn = base.xn + i * n * cols,
            .xn_rstd = normed ? base.xn_rstd + i * SP_TRAIN_NORMED * n : NULL,
            .dt = base.dt + i * n * c->d_inner,
            .y = base.y + i * n * c->d_inner,
            .chunk = base.chunk + i * net->n_chunk_max * c->d_inner * c->d_state};
    return SP_OK;
}

static enum sp_code work_space(struct sp_train_net *net, struct sp_error *err) {
    const struct sp_config *c = &net->set->config;
    int64_t n = net->n_tok_max, d = c->d_model, di = c->d_inner, s = c->d_state;
    int64_t size = sp_param_set_size(net->set), n_a = c->n_layer * di;
    SP_TRY(device(net, &net->value, 1, size, err));
    SP_TRY(device(net, &net->grad, 1, size, err));
    SP_TRY(device(net, &net->A, n_a, s, err));
    SP_TRY(device(net, &net->dA, n_a, s, err));
    SP_TRY(device(net, &net->final_h, n, d, err));
    SP_TRY(device(net, &net->final_normed, n, d, err));
    SP_TRY(device(net, &net->final_rstd, n, 1, err));
    SP_TRY(device(net, &net->logits, net->n_block, net->set->n_class, err));
    SP_TRY(device(net, &net->loss, n, 1, err));
    SP_TRY(device(net, &net->ones, n, 1, err));
    SP_TRY(device(net, &net->eye, s, s, err));
    if (c->reverse) SP_TRY(device(net, &net->turned, n, d, err));
    SP_TRY(device(net, &net->dh, n, d, err));
    SP_TRY(device(net, &net->dnormed, n, d, err));
    SP_TRY(device(net, &net->dxz, n, 2 * di, err));
    SP_TRY(device(net, &net->dy, n, di, err));
    SP_TRY(device(net, &net->dxc, n, di, err));
    SP_TRY(device(net, &net->ddt, n, di, err));
    SP_TRY(device(net, &net->dB, n, s, err));
    SP_TRY(device(net, &net->dC, n, s, err));
    SP_TRY(device(net, &net->dxp, n, sp_train_xp_columns(c), err));
    if (c->arch == SP_ARCH_FALCON_MAMBA)
        SP_TRY(device(net, &net->dxn, n, sp_train_xp_columns(c), err));
    return keep_all(net, err);
}

static enum sp_code constants(struct sp_train_net *net, struct sp_error *err) {
    int64_t n = net->n_tok_max, s = net->set->config.d_state;
    for (int64_t i = 0; i < n; i++) net->loss_host[i] = 1;
    SP_TRY(net->be->upload(net->be, net->ones, net->loss_host, (size_t)n * sizeof(float), err));
    float *eye = calloc((size_t)(s * s), sizeof *eye);
    if (!eye) return sp_error_memory(err, "training");
    for (int64_t i = 0; i < s; i++) eye[i * s + i] = 1;
    enum sp_code code = net->be->upload(net->be, net->eye, eye, (size_t)(s * s) * sizeof *eye, err);
    free(eye);
    return code;
}

/* A shorter one per sequence, beside those that are full. */
static int64_t windows_max(const struct sp_train_net *net) {
    const int64_t window = net->set->config.reverse;
    return window ? net->n_tok_max / window + net->n_seq_max : net->n_seq_max;
}

static bool host_memory(struct sp_train_net *net) {
    const struct sp_config *c = &net->set->config;
    size_t n_a = (size_t)(c->n_layer * c->d_inner * c->d_state + 1);
    net->layer = calloc((size_t)c->n_layer + 1, sizeof *net->layer);
    net->a_host = malloc(n_a * sizeof *net->a_host);
    net->da_host = malloc(n_a * sizeof *net->da_host);
    net->loss_host = malloc((size_t)net->n_tok_max * sizeof *net->loss_host);
    net->logits_host =
        malloc((size_t)(net->n_block * net->set->n_class) * sizeof *net->logits_host);
    net->cu_chunks = malloc((size_t)(net->n_seq_max + 1) * sizeof *net->cu_chunks);
    net->state_ptr =
        malloc((size_t)(net->n_seq_max * SP_TRAIN_STATE_PTRS) * sizeof *net->state_ptr);
    if (c->reverse)
        net->window_chunks = malloc((size_t)(windows_max(net) + 1) * sizeof *net->window_chunks);
    return net->layer && net->a_host && net->da_host && net->loss_host && net->logits_host &&
           net->cu_chunks && net->state_ptr && (!c->reverse || net->window_chunks);
}

enum sp_code sp_train_net_new(struct sp_train_net **out, const struct sp_param_set *set,
                              struct sp_backend *be, int64_t n_tok_max, int64_t n_seq_max,
                              struct sp_error *err) {
    *out = NULL;
    struct sp_train_net *net = calloc(1, sizeof *net);
    if (!net) return sp_error_memory(err, "the network");
    net->set = set;
    net->be = be;
    net->n_tok_max = n_tok_max;
    net->n_seq_max = n_seq_max;
    net->n_chunk_max = n_tok_max / SP_SCAN_CHUNK + windows_max(net);
    net->n_block = LOGITS_MAX / set->n_class + 1;
    if (net->n_block > n_tok_max) net->n_block = n_tok_max;
    enum sp_code code = SP_OK;
    if (!host_memory(net)) code = sp_error_memory(err, "the network");
    if (!code) code = work_space(net, err);
    if (!code) code = constants(net, err);
    if (code) {
        sp_train_net_free(net);
        return code;
    }
    *out = net;
    return SP_OK;
}

void sp_train_net_free(struct sp_train_net *net) {
    if (!net) return;
    for (int i = 0; i < net->n_buffer; i++) net->be->release(net->be, net->buffer[i]);
    free(net->layer);
    free(net->a_host);
    free(net->da_host);
    free(net->loss_host);
    free(net->logits_host);
    free(net->cu_chunks);
    free(net->window_chunks);
    sp_windows_clear(&net->windows);
    free(net->state_ptr);
    free(net);
}

float *sp_train_net_values(struct sp_train_net *net) {
    return net->value;
}
float *sp_train_net_grads(struct sp_train_net *net) {
    return net->grad;
}
