/* The forward pass: residual blocks of RMSNorm and the Mamba mixer, on any backend.
 *
 * Gu and Dao, arXiv 2312.00752, figure 3 and algorithm 2; Falcon-Mamba (arXiv 2410.05355) adds
 * weightless RMS norms on dt, B and C. Per layer, with u the residual stream:
 *   x, z = split(W_in norm(u));  x = silu(conv(x));  dt, B, C = split(W_x x)
 *   u += W_out (scan(x, W_dt dt, A, B, C, D) * silu(z))
 */
#include "model.h"
#include "net_reverse.h"
#include "net_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct layer {
    struct sp_weight *in_proj, *x_proj, *dt_proj, *out_proj;
    float *in_bias, *out_bias;                       /* host, or NULL */
    float *norm, *conv_w, *conv_b, *dt_bias, *A, *D; /* device; conv_b may be NULL */
};

struct sp_seq {
    float *conv; /* (layers, d_conv - 1, d_inner), device */
    float *ssm;  /* (layers, d_inner, d_state), device */
};

struct sp_net {
    const struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be;
    uint32_t first, last;
    enum sp_dtype dtype;
    struct layer *layer; /* (last - first + 1) */
    /* Work space for n_row rows, device. */
    int64_t n_row;
    size_t n_bytes;
    float *work;
    float *u, *norm, *xz, *x, *dbc, *dt;
    float *turned; /* (n_row, d_model): of a net with reversed layers */
    bool reverses;
    struct sp_windows windows; /* of a batch */
    /* The states of one layer, for the kernels; host. */
    int64_t n_seq;
    float **conv_state, **ssm_state;
    uintptr_t *key; /* of a batch, for the backend's replay; (KEY_HEAD + 2 * n_seq) */
};
#define KEY_HEAD 3

static int64_t layers_of(const struct sp_net *net) {
    return net->last - net->first + 1;
}
static int64_t conv_floats(const struct sp_net *net) {
    return (net->c->d_conv - 1) * net->c->d_inner;
}
static int64_t ssm_floats(const struct sp_net *net) {
    return net->c->d_inner * net->c->d_state;
}

/* ---- loading -------------------------------------------------------------------------------- */

static enum sp_code load_vector(struct sp_net *net, int64_t layer, const char *name, uint32_t rank,
                                const int64_t *dim, float **out, struct sp_error *err) {
    const struct sp_tensor *t;
    enum sp_code code = sp_weights_find(net->model, layer, name, rank, dim, false, &t, err);
    return code ? code : sp_weights_device(net->be, t, out, err);
}

static enum sp_code load_matrix(struct sp_net *net, int64_t layer, const char *name, int64_t d_out,
                                int64_t d_in, const float *bias, enum sp_dtype compute,
                                struct sp_weight **out, struct sp_error *err) {
    const struct sp_tensor *t;
    const int64_t dim[] = {d_out, d_in};
    enum sp_code code = sp_weights_find(net->model, layer, name, 2, dim, false, &t, err);
    return code ? code : net->be->weight_new(net->be, t, bias, compute, out, err);
}

static enum sp_code load_bias(struct sp_net *net, int64_t layer, const char *name, int64_t d,
                              float **out, struct sp_error *err) {
    const struct sp_tensor *t;
    if (!net->c->use_bias) return SP_OK;
    enum sp_code code = sp_weights_find(net->model, layer, name, 1, &d, false, &t, err);
    return code ? code : sp_weights_host(t, out, err);
}

/* A = -exp(A_log), in double: the decay of a channel is exp(delta A), token after token. */
static enum sp_code load_decay(struct sp_net *net, int64_t layer, float **out,
                               struct sp_error *err) {
    const struct sp_tensor *t;
    const int64_t dim[] = {net->c->d_inner, net->c->d_state};
    float *host = NULL;
    void *dev = NULL;
    size_t n = (size_t)ssm_floats(net);
    enum sp_code code = sp_weights_find(net->model, layer, "mixer.A_log", 2, dim, false, &t, err);
    if (!code) code = sp_weights_host(t, &host, err);
    for (size_t i = 0; !code && i < n; i++) host[i] = (float)-exp((double)host[i]);
    if (!code) code = net->be->alloc(net->be, n * sizeof(float), &dev, err);
    if (!code) code = net->be->upload(net->be, dev, host, n * sizeof(float), err);
    if (!code) code = net->be->sync(net->be, err);
    free(host);
    if (code) net->be->release(net->be, dev);
    *out = code ? NULL : dev;
    return code;
}

static enum sp_code load_layer(struct sp_net *net, struct layer *l, int64_t i,
                               struct sp_error *err) {
    const struct sp_config *c = net->c;
    const int64_t d = c->d_model, inner = c->d_inner, conv[] = {inner, 1, c->d_conv};
    enum sp_code code = load_vector(net, i, "norm.weight", 1, &d, &l->norm, err);
    if (!code) code = load_vector(net, i, "mixer.conv1d.weight", 3, conv, &l->conv_w, err);
    if (!code && c->use_conv_bias)
        code = load_vector(net, i, "mixer.conv1d.bias", 1, &inner, &l->conv_b, err);
    if (!code) code = load_vector(net, i, "mixer.dt_proj.bias", 1, &inner, &l->dt_bias, err);
    if (!code) code = load_vector(net, i, "mixer.D", 1, &inner, &l->D, err);
    if (!code) code = load_decay(net, i, &l->A, err);
    if (!code) code = load_bias(net, i, "mixer.in_proj.bias", 2 * inner, &l->in_bias, err);
    if (!code) code = load_bias(net, i, "mixer.out_proj.bias", d, &l->out_bias, err);
    if (!code)
        code = load_matrix(net, i, "mixer.in_proj.weight", 2 * inner, d, l->in_bias, net->dtype,
                           &l->in_proj, err);
    if (!code)
        code = load_matrix(net, i, "mixer.x_proj.weight", c->dt_rank + 2 * c->d_state, inner, NULL,
                           net->dtype, &l->x_proj, err);
    /* Rounding dt moves every decay, and this product is small: always f32. */
    if (!code)
        code = load_matrix(net, i, "mixer.dt_proj.weight", inner, c->dt_rank, NULL, SP_F32,
                           &l->dt_proj, err);
    if (!code)
        code = load_matrix(net, i, "mixer.out_proj.weight", d, inner, l->out_bias, net->dtype,
                           &l->out_proj, err);
    return code;
}

static void free_layer(struct sp_net *net, struct layer *l) {
    struct sp_backend *be = net->be;
    float *dev[] = {l->norm, l->conv_w, l->conv_b, l->dt_bias, l->A, l->D};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++) be->release(be, dev[i]);
    be->weight_free(be, l->in_proj);
    be->weight_free(be, l->x_proj);
    be->weight_free(be, l->dt_proj);
    be->weight_free(be, l->out_proj);
    free(l->in_bias);
    free(l->out_bias);
}

enum sp_code sp_net_new(struct sp_net **out, const struct sp_model *m, struct sp_backend *be,
                        const struct sp_net_options *options, struct sp_error *err) {
    *out = NULL;
    const struct sp_config *c = sp_model_config(m);
    if (options->layer_first > options->layer_last || options->layer_last >= c->n_layer)
        return sp_error_set(err, SP_E_USAGE, "layers %u-%u: the model has layers 0-%lld",
                            options->layer_first, options->layer_last, (long long)c->n_layer - 1);
    struct sp_net *net = calloc(1, sizeof *net);
    if (!net) return sp_error_memory(err, "a network");
    net->model = m;
    net->c = c;
    net->be = be;
    net->first = options->layer_first;
    net->last = options->layer_last;
    net->dtype = options->dtype;
    net->layer = calloc((size_t)layers_of(net), sizeof *net->layer);
    enum sp_code code = net->layer ? SP_OK : sp_error_memory(err, "a network");
    for (int64_t i = 0; !code && i < layers_of(net); i++) {
        net->reverses |= sp_config_reverses(c, net->first + i);
        code = load_layer(net, &net->layer[i], net->first + i, err);
    }
    if (code) {
        sp_net_free(net);
        return code;
    }
    *out = net;
    return SP_OK;
}

void sp_net_free(struct sp_net *net) {
    if (!net) return;
    for (int64_t i = 0; net->layer && i < layers_of(net); i++) free_layer(net, &net->layer[i]);
    free(net->layer);
    net->be->release(net->be, net->work);
    free(net->conv_state);
    free(net->ssm_state);
    free(net->key);
    sp_windows_clear(&net->windows);
    free(net);
}

/* ---- what a sequence remembers -------------------------------------------------------------- */

enum sp_code sp_seq_new(struct sp_net *net, struct sp_seq **out, struct sp_error *err) {
    *out = NULL;
    struct sp_seq *seq = calloc(1, sizeof *seq);
    if (!seq) return sp_error_memory(err, "a sequence");
    size_t layers = (size_t)layers_of(net);
    void *conv = NULL, *ssm = NULL;
    enum sp_code code =
        net->be->alloc(net->be, layers * (size_t)conv_floats(net) * sizeof(float), &conv, err);
    if (!code)
        code = net->be->alloc(net->be, layers * (size_t)ssm_floats(net) * sizeof(float), &ssm, err);
    seq->conv = conv;
    seq->ssm = ssm;
    if (code) {
        sp_seq_free(net, seq);
        return code;
    }
    *out = seq;
    return SP_OK;
}

void sp_seq_free(struct sp_net *net, struct sp_seq *seq) {
    if (!seq) return;
    net->be->release(net->be, seq->conv);
    net->be->release(net->be, seq->ssm);
    free(seq);
}

enum sp_code sp_seq_reset(struct sp_net *net, struct sp_seq *seq, struct sp_error *err) {
    size_t layers = (size_t)layers_of(net) * sizeof(float);
    enum sp_code code = net->be->zero(net->be, seq->conv, layers * (size_t)conv_floats(net), err);
    return code ? code : net->be->zero(net->be, seq->ssm, layers * (size_t)ssm_floats(net), err);
}

enum sp_code sp_seq_copy(struct sp_net *net, struct sp_seq *to, const struct sp_seq *from,
                         struct sp_error *err) {
    size_t layers = (size_t)layers_of(net) * sizeof(float);
    struct sp_backend *be = net->be;
    enum sp_code code = be->copy(be, to->conv, from->conv, layers * (size_t)conv_floats(net), err);
    return code ? code : be->copy(be, to->ssm, from->ssm, layers * (size_t)ssm_floats(net), err);
}

size_t sp_seq_bytes(const struct sp_net *net) {
    return (size_t)(layers_of(net) * (conv_floats(net) + ssm_floats(net))) * sizeof(float);
}

enum sp_code sp_seq_load(struct sp_net *net, struct sp_seq *seq, const struct sp_state *s,
                         struct sp_error *err) {
    const struct sp_config *c = net->c;
    if (s->d_inner != c->d_inner || s->d_state != c->d_state || s->d_conv != c->d_conv ||
        s->layer_first > net->first || s->layer_last < net->last)
        return sp_error_set(err, SP_E_DATA,
                            "the state is of another shape, or has layers %u-%u where %u-%u are "
                            "needed",
                            s->layer_first, s->layer_last, net->first, net->last);
    size_t skip = net->first - s->layer_first, layers = (size_t)layers_of(net);
    size_t conv = (size_t)conv_floats(net), ssm = (size_t)ssm_floats(net);
    enum sp_code code = net->be->upload(net->be, seq->conv, s->conv + skip * conv,
                                        layers * conv * sizeof(float), err);
    if (!code)
        code = net->be->upload(net->be, seq->ssm, s->ssm + skip * ssm, layers * ssm * sizeof(float),
                               err);
    return code ? code : net->be->sync(net->be, err);
}

enum sp_code sp_seq_store(struct sp_net *net, const struct sp_seq *seq, struct sp_state *s,
                          struct sp_error *err) {
    const struct sp_config *c = net->c;
    if (s->d_inner != c->d_inner || s->d_state != c->d_state || s->d_conv != c->d_conv ||
        s->layer_first != net->first || s->layer_last != net->last)
        return sp_error_set(err, SP_E_BUG, "a state of another shape to store in");
    size_t layers = (size_t)layers_of(net) * sizeof(float);
    enum sp_code code =
        net->be->download(net->be, s->conv, seq->conv, layers * (size_t)conv_floats(net), err);
    return code ? code
                : net->be->download(net->be, s->ssm, seq->ssm, layers * (size_t)ssm_floats(net),
                                    err);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* One piece of device memory, cut into the buffers; each (rows, its width). */
static enum sp_code room_for(struct sp_net *net, int64_t n_row, int64_t n_seq,
                             struct sp_error *err) {
    const struct sp_config *c = net->c;
    const int64_t width[] = {c->d_model,
                             c->d_model,
                             2 * c->d_inner,
                             c->d_inner,
                             c->dt_rank + 2 * c->d_state,
                             c->d_inner,
                             net->reverses ? c->d_model : 0};
    float **buffer[] = {&net->u, &net->norm, &net->xz, &net->x, &net->dbc, &net->dt, &net->turned};
    enum { N = sizeof width / sizeof *width };
    if (n_row > net->n_row) {
        int64_t total = 0, at = 0;
        for (size_t i = 0; i < N; i++) total += (n_row * width[i] + 15) / 16 * 16;
        net->n_row = 0;
        enum sp_code code =
            sp_weights_room(net->be, &net->work, &net->n_bytes, (size_t)total * sizeof(float), err);
        if (code) return code;
        for (size_t i = 0; i < N; i++) {
            *buffer[i] = net->work + at;
            at += (n_row * width[i] + 15) / 16 * 16;
        }
        net->n_row = n_row;
    }
    if (n_seq <= net->n_seq) return SP_OK;
    free(net->conv_state);
    free(net->ssm_state);
    free(net->key);
    net->conv_state = calloc((size_t)n_seq, sizeof *net->conv_state);
    net->ssm_state = calloc((size_t)n_seq, sizeof *net->ssm_state);
    net->key = calloc(KEY_HEAD + 2 * (size_t)n_seq, sizeof *net->key);
    net->n_seq = net->conv_state && net->ssm_state && net->key ? n_seq : 0;
    return net->n_seq ? SP_OK : sp_error_memory(err, "a batch");
}

/* Falcon-Mamba: dt, B and C each to a root mean square of one. */
static enum sp_code normalise_parts(struct sp_net *net, int64_t n_row, struct sp_error *err) {
    const struct sp_config *c = net->c;
    const int64_t ld = c->dt_rank + 2 * c->d_state;
    const int64_t at[] = {0, c->dt_rank, c->dt_rank + c->d_state};
    const int64_t width[] = {c->dt_rank, c->d_state, c->d_state};
    for (int i = 0; i < 3; i++) {
        struct sp_rmsnorm a = {.d = width[i], .ldx = ld, .ldy = ld};
        a.x = a.y = net->dbc + at[i];
        a.eps = (float)c->mixer_norm_eps;
        enum sp_code code = net->be->rmsnorm_fwd(net->be, &a, n_row, err);
        if (code) return code;
    }
    return SP_OK;
}

static enum sp_code convolve(struct sp_net *net, const struct layer *l,
                             const struct sp_batch *batch, struct sp_error *err) {
    const struct sp_config *c = net->c;
    struct sp_conv a = {.n_seq = batch->n_seq, .d_inner = c->d_inner, .d_conv = c->d_conv};
    a.cu_seqlens = batch->cu_seqlens;
    a.x = net->xz;
    a.ldx = 2 * c->d_inner;
    a.w = l->conv_w;
    a.bias = l->conv_b;
    a.state_in = (const float *const *)net->conv_state;
    a.state_out = net->conv_state;
    a.y = net->x;
    a.ldy = c->d_inner;
    return net->be->conv_fwd(net->be, &a, err);
}

/* y replaces x. Sequences of one token in a decode batch go to the kernel for that, which needs
 * states, each run of others to the general one: which of them a row meets must not depend on its
 * neighbours. */
static enum sp_code scan(struct sp_net *net, const struct layer *l, const struct sp_batch *batch,
                         struct sp_error *err) {
    const struct sp_config *c = net->c;
    const int64_t *cu = batch->cu_seqlens;
    struct sp_scan a = {.d_inner = c->d_inner, .d_state = c->d_state};
    a.x = a.y = net->x;
    a.dt = net->dt;
    a.z = net->xz + c->d_inner;
    a.B = net->dbc + c->dt_rank;
    a.C = a.B + c->d_state;
    a.ldx = a.ldy = a.lddt = c->d_inner;
    a.ldz = 2 * c->d_inner;
    a.ldb = a.ldc = c->dt_rank + 2 * c->d_state;
    a.A = l->A;
    a.D = l->D;
    a.dt_bias = l->dt_bias;
    enum sp_code code = SP_OK;
    for (int64_t s = 0, end; s < batch->n_seq && !code; s = end) {
        bool steps = batch->step && batch->states;
        bool one = steps && cu[s + 1] - cu[s] == 1;
        for (end = s + 1; end < batch->n_seq; end++)
            if ((steps && cu[end + 1] - cu[end] == 1) != one) break;
        a.n_seq = end - s;
        a.cu_seqlens = cu + s;
        a.state_in = (const float *const *)net->ssm_state + s;
        a.state_out = net->ssm_state + s;
        code = net->be->scan_fwd(net->be, &a, one, err);
    }
    return code;
}

/* From xz to y, which is in net->x. */
static enum sp_code mix(struct sp_net *net, const struct layer *l, const struct sp_batch *batch,
                        struct sp_error *err) {
    const struct sp_config *c = net->c;
    struct sp_backend *be = net->be;
    const int64_t n = batch->cu_seqlens[batch->n_seq], inner = c->d_inner;
    const int64_t parts = c->dt_rank + 2 * c->d_state;
    const bool step = batch->step;
    SP_TRY(convolve(net, l, batch, err));
    SP_TRY(be->linear(be, l->x_proj, net->x, inner, n, step, net->dbc, parts, false, err));
    if (c->arch == SP_ARCH_FALCON_MAMBA) SP_TRY(normalise_parts(net, n, err));
    SP_TRY(be->linear(be, l->dt_proj, net->dbc, parts, n, step, net->dt, inner, false, err));
    return scan(net, l, batch, err);
}

static struct sp_mixer mixer_of(const struct sp_net *net, const struct layer *l,
                                const struct sp_batch *batch) {
    const struct sp_config *c = net->c;
    struct sp_mixer m = {.n_seq = batch->n_seq, .d_inner = c->d_inner, .d_conv = c->d_conv};
    m.d_state = c->d_state;
    m.dt_rank = c->dt_rank;
    m.xz = net->xz;
    m.ldxz = 2 * c->d_inner;
    m.conv_w = l->conv_w;
    m.conv_bias = l->conv_b;
    m.x_proj = l->x_proj;
    m.dt_proj = l->dt_proj;
    m.part_norm_eps = c->arch == SP_ARCH_FALCON_MAMBA ? (float)c->mixer_norm_eps : -1;
    m.dt_bias = l->dt_bias;
    m.A = l->A;
    m.D = l->D;
    m.conv_state = net->conv_state;
    m.ssm_state = net->ssm_state;
    m.y = net->x;
    m.ldy = c->d_inner;
    return m;
}

/* The same where the backend has it in one. */
static enum sp_code mix_one(struct sp_net *net, const struct layer *l, const struct sp_batch *batch,
                            struct sp_error *err) {
    struct sp_mixer m = mixer_of(net, l, batch);
    return net->be->mixer_step(net->be, &m, err);
}

/* And where it has the layer in one. */
static enum sp_code whole_layer(struct sp_net *net, const struct layer *l,
                                const struct sp_batch *batch, bool *done, struct sp_error *err) {
    struct sp_layer a = {.mixer = mixer_of(net, l, batch), .cu_seqlens = batch->cu_seqlens};
    a.d_model = net->c->d_model;
    a.u = net->u;
    a.norm = l->norm;
    a.norm_eps = (float)net->c->norm_eps;
    a.in_proj = l->in_proj;
    a.out_proj = l->out_proj;
    a.normed = net->norm;
    a.dbc = net->dbc;
    a.dt = net->dt;
    return net->be->layer(net->be, &a, done, err);
}

static enum sp_code normalise(struct sp_net *net, const struct layer *l, int64_t n,
                              struct sp_error *err) {
    const struct sp_config *c = net->c;
    struct sp_rmsnorm norm = {.d = c->d_model, .x = net->u, .ldx = c->d_model, .w = l->norm};
    norm.eps = (float)c->norm_eps;
    norm.y = net->norm;
    norm.ldy = c->d_model;
    return net->be->rmsnorm_fwd(net->be, &norm, n, err);
}

static enum sp_code run_layer(struct sp_net *net, const struct layer *l,
                              const struct sp_batch *batch, struct sp_error *err) {
    const struct sp_config *c = net->c;
    struct sp_backend *be = net->be;
    const int64_t n = batch->cu_seqlens[batch->n_seq], inner = c->d_inner;
    const bool step = batch->step;
    bool done = false;
    if (!step && be->layer) SP_TRY(whole_layer(net, l, batch, &done, err));
    if (done) return SP_OK;
    SP_TRY(normalise(net, l, n, err));
    SP_TRY(
        be->linear(be, l->in_proj, net->norm, c->d_model, n, step, net->xz, 2 * inner, false, err));
    SP_TRY(batch->one && be->mixer_step ? mix_one(net, l, batch, err) : mix(net, l, batch, err));
    return be->linear(be, l->out_proj, net->x, inner, n, step, net->u, c->d_model, true, err);
}

/* A reversed layer: its windows are sequences that nothing comes before and nothing is kept of. The
 * rows of y are put in order into dt, which has been used. */
static enum sp_code run_reversed(struct sp_net *net, const struct layer *l,
                                 const struct sp_batch *batch, struct sp_error *err) {
    const struct sp_config *c = net->c;
    struct sp_backend *be = net->be;
    const struct sp_windows *w = &net->windows;
    const struct sp_batch turned = {
        .n_seq = w->n, .cu_seqlens = w->cu_seqlens, .step = batch->step};
    const int64_t n = w->cu_seqlens[w->n], inner = c->d_inner, d = c->d_model;
    const bool step = batch->step;
    memset(net->conv_state, 0, (size_t)w->n * sizeof *net->conv_state);
    memset(net->ssm_state, 0, (size_t)w->n * sizeof *net->ssm_state);
    SP_TRY(normalise(net, l, n, err));
    SP_TRY(be->gather(be, net->norm, d, w->order, n, net->turned, err));
    SP_TRY(be->linear(be, l->in_proj, net->turned, d, n, step, net->xz, 2 * inner, false, err));
    SP_TRY(mix(net, l, &turned, err));
    SP_TRY(be->gather(be, net->x, inner, w->order, n, net->dt, err));
    return be->linear(be, l->out_proj, net->dt, inner, n, step, net->u, d, true, err);
}

static enum sp_code run_layers(struct sp_net *net, const struct sp_batch *batch,
                               struct sp_error *err) {
    for (int64_t i = 0; i < layers_of(net); i++) {
        if (sp_config_reverses(net->c, net->first + i)) {
            SP_TRY(run_reversed(net, &net->layer[i], batch, err));
            continue;
        }
        for (int64_t s = 0; s < batch->n_seq; s++) {
            net->conv_state[s] = batch->states[s]->conv + i * conv_floats(net);
            net->ssm_state[s] = batch->states[s]->ssm + i * ssm_floats(net);
        }
        SP_TRY(run_layer(net, &net->layer[i], batch, err));
    }
    return SP_OK;
}

/* Decode: what is done to which memory depends on the sequences and their order only. */
static enum sp_code replay_layers(struct sp_net *net, const struct sp_batch *batch,
                                  struct sp_error *err) {
    struct sp_backend *be = net->be;
    size_t n = 0;
    bool done;
    net->key[n++] = (uintptr_t)net;
    net->key[n++] = (uintptr_t)net->work;
    net->key[n++] = (uintptr_t)net->n_row;
    for (int64_t s = 0; s < batch->n_seq; s++) {
        net->key[n++] = (uintptr_t)batch->states[s]->conv;
        net->key[n++] = (uintptr_t)batch->states[s]->ssm;
    }
    SP_TRY(be->replay_begin(be, net->key, n * sizeof *net->key, &done, err));
    if (done) return SP_OK;
    struct sp_error second;
    enum sp_code code = run_layers(net, batch, err);
    enum sp_code end = be->replay_end(be, code ? &second : err);
    return code ? code : end;
}

/* Sends hidden and queues all layers. */
static enum sp_code queue_layers(struct sp_net *net, const struct sp_batch *batch,
                                 const float *hidden, size_t n_bytes, struct sp_error *err) {
    struct sp_backend *be = net->be;
    int64_t n_seq = batch->n_seq;
    if (net->reverses) {
        SP_TRY(sp_windows_make(&net->windows, net->c->reverse, batch->cu_seqlens, n_seq, err));
        if (n_seq < net->windows.n) n_seq = net->windows.n;
    }
    SP_TRY(room_for(net, batch->cu_seqlens[batch->n_seq], n_seq, err));
    SP_TRY(be->upload(be, net->u, hidden, n_bytes, err));
    return batch->one && be->replay_begin && !net->reverses ? replay_layers(net, batch, err)
                                                            : run_layers(net, batch, err);
}

static size_t hidden_bytes(const struct sp_net *net, const struct sp_batch *batch) {
    return (size_t)(batch->cu_seqlens[batch->n_seq] * net->c->d_model) * sizeof(float);
}

enum sp_code sp_net_forward(struct sp_net *net, const struct sp_batch *batch, float *hidden,
                            struct sp_error *err) {
    const size_t n_bytes = hidden_bytes(net, batch);
    if (n_bytes == 0) return SP_OK;
    SP_TRY(queue_layers(net, batch, hidden, n_bytes, err));
    return net->be->download(net->be, hidden, net->u, n_bytes, err);
}

bool sp_net_overlaps(const struct sp_net *net) {
    return net->be->fetch_begin != NULL;
}

int64_t sp_net_cut(const struct sp_net *net) {
    return net->be->cut;
}

enum sp_code sp_net_begin(struct sp_net *net, const struct sp_batch *batch, const float *hidden,
                          struct sp_error *err) {
    const size_t n_bytes = hidden_bytes(net, batch);
    SP_TRY(queue_layers(net, batch, hidden, n_bytes, err));
    return net->be->fetch_begin(net->be, net->u, n_bytes, err);
}

enum sp_code sp_net_end(struct sp_net *net, float *hidden, struct sp_error *err) {
    return net->be->fetch_end(net->be, hidden, err);
}
