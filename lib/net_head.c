/* The ends of the network: embedding look-up, and heads (final norm, product, bias). */
#include "net_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- embedding ------------------------------------------------------------------------------ */

static enum sp_code find_table(const struct sp_model *m, const struct sp_tensor **t,
                               struct sp_error *err) {
    *t = sp_model_tensor(m, "backbone.embeddings.weight");
    if (*t) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "%.300s: no embeddings", sp_model_dir(m));
}

static enum sp_code check_id(const struct sp_model *m, uint32_t id, struct sp_error *err) {
    const int64_t n = sp_model_config(m)->vocab_size;
    if (id < (uint64_t)n) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "token id %u: the model knows ids below %lld only; was the text tokenized "
                        "for another model?",
                        id, (long long)n);
}

static enum sp_code not_finite(const struct sp_model *m, uint32_t id, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA,
                        "%.300s: the embedding of token id %u holds NaN or infinity",
                        sp_model_dir(m), id);
}

enum sp_code sp_embed(const struct sp_model *m, const uint32_t *id, int64_t n, float *hidden,
                      struct sp_error *err) {
    const struct sp_tensor *t;
    SP_TRY(find_table(m, &t, err));
    size_t d = (size_t)sp_model_config(m)->d_model, row_bytes = d * sp_dtype_size(t->dtype);
    for (int64_t i = 0; i < n; i++) {
        SP_TRY(check_id(m, id[i], err));
        const char *row = (const char *)t->data + id[i] * row_bytes;
        if (!sp_weights_finite(row, t->dtype, d)) return not_finite(m, id[i], err);
        sp_tensor_to_f32(hidden + (size_t)i * d, row, t->dtype, d);
    }
    return SP_OK;
}

struct sp_embed_net {
    struct sp_backend *be;
    const struct sp_model *m;
    float *table, *rows; /* device: (vocabulary, d_model), (n, d_model) */
    size_t rows_bytes;
};

enum sp_code sp_embed_net_new(struct sp_embed_net **out, const struct sp_model *m,
                              struct sp_backend *be, struct sp_error *err) {
    const struct sp_tensor *t;
    *out = NULL;
    SP_TRY(find_table(m, &t, err));
    struct sp_embed_net *e = calloc(1, sizeof *e);
    if (!e) return sp_error_memory(err, "an embedding");
    e->be = be;
    e->m = m;
    enum sp_code code = sp_weights_device(be, t, &e->table, err);
    if (code) {
        sp_embed_net_free(e);
        return code;
    }
    *out = e;
    return SP_OK;
}

void sp_embed_net_free(struct sp_embed_net *e) {
    if (!e) return;
    e->be->release(e->be, e->table);
    e->be->release(e->be, e->rows);
    free(e);
}

enum sp_code sp_embed_net_forward(struct sp_embed_net *e, const uint32_t *id, int64_t n,
                                  float *hidden, struct sp_error *err) {
    const int64_t d = sp_model_config(e->m)->d_model;
    const size_t n_bytes = (size_t)(n * d) * sizeof *hidden;
    if (n <= 0) return SP_OK;
    for (int64_t i = 0; i < n; i++) SP_TRY(check_id(e->m, id[i], err));
    SP_TRY(sp_weights_room(e->be, &e->rows, &e->rows_bytes, n_bytes, err));
    SP_TRY(e->be->gather(e->be, e->table, d, id, n, e->rows, err));
    SP_TRY(e->be->download(e->be, hidden, e->rows, n_bytes, err));
    for (int64_t i = 0; i < n; i++)
        if (!sp_weights_finite(hidden + i * d, SP_F32, (size_t)d))
            return not_finite(e->m, id[i], err);
    return SP_OK;
}

/* ---- heads ---------------------------------------------------------------------------------- */

struct sp_head_net {
    struct sp_backend *be;
    const struct sp_config *c;
    const struct sp_head *head;
    int64_t n_out;
    float *norm;              /* (d_model), device */
    float *bias, *transition; /* host, or NULL */
    struct sp_weight *weight; /* (n_out, d_model) */
    float *hidden, *scores;   /* device: (rows, d_model), (rows, n_out) */
    size_t hidden_bytes, scores_bytes;
};

static enum sp_code load_task(struct sp_head_net *h, const struct sp_model *m, enum sp_dtype dtype,
                              struct sp_error *err) {
    char name[64];
    const struct sp_tensor *w, *bias, *trans;
    const int64_t n = h->head->n_label, dim[] = {n, h->c->d_model}, trans_dim[] = {n + 2, n};
    snprintf(name, sizeof name, "statepipe.%s.weight", h->head->name);
    enum sp_code code = sp_weights_find(m, -1, name, 2, dim, false, &w, err);
    snprintf(name, sizeof name, "statepipe.%s.bias", h->head->name);
    if (!code) code = sp_weights_find(m, -1, name, 1, dim, true, &bias, err);
    snprintf(name, sizeof name, "statepipe.%s.trans", h->head->name);
    if (!code) code = sp_weights_find(m, -1, name, 2, trans_dim, true, &trans, err);
    if (!code && bias) code = sp_weights_host(bias, &h->bias, err);
    if (!code && trans) code = sp_weights_host(trans, &h->transition, err);
    h->n_out = n;
    return code ? code : h->be->weight_new(h->be, w, h->bias, dtype, &h->weight, err);
}

static enum sp_code load_lm(struct sp_head_net *h, const struct sp_model *m, enum sp_dtype dtype,
                            struct sp_error *err) {
    const struct sp_tensor *w;
    const int64_t dim[] = {h->c->vocab_size, h->c->d_model};
    const char *name = h->c->tied ? "backbone.embeddings.weight" : "lm_head.weight";
    enum sp_code code = sp_weights_find(m, -1, name, 2, dim, false, &w, err);
    h->n_out = dim[0];
    return code ? code : h->be->weight_new(h->be, w, NULL, dtype, &h->weight, err);
}

static const struct sp_head *find_head(const struct sp_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_head; i++)
        if (strcmp(c->head[i].name, name) == 0) return &c->head[i];
    return NULL;
}

static enum sp_code no_head(const struct sp_model *m, const char *name, struct sp_error *err) {
    const struct sp_config *c = sp_model_config(m);
    char list[SP_HEADS_MAX * (SP_NAME_MAX + 2)] = "";
    for (uint32_t i = 0; i < c->n_head; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", c->head[i].name);
    }
    return sp_error_set(err, SP_E_USAGE, "%.150s has no head '%.40s'; it has: %s", sp_model_dir(m),
                        name, list);
}

enum sp_code sp_head_net_new(struct sp_head_net **out, const struct sp_model *m,
                             struct sp_backend *be, const char *name, enum sp_dtype dtype,
                             struct sp_error *err) {
    *out = NULL;
    const struct sp_config *c = sp_model_config(m);
    const struct sp_head *head = find_head(c, name ? name : c->default_head);
    if (!head) return no_head(m, name ? name : c->default_head, err);
    struct sp_head_net *h = calloc(1, sizeof *h);
    if (!h) return sp_error_memory(err, "a head");
    h->be = be;
    h->c = c;
    h->head = head;
    const struct sp_tensor *norm;
    enum sp_code code =
        sp_weights_find(m, -1, "backbone.norm_f.weight", 1, &c->d_model, false, &norm, err);
    if (!code) code = sp_weights_device(be, norm, &h->norm, err);
    if (!code)
        code = head->type == SP_HEAD_LM ? load_lm(h, m, dtype, err) : load_task(h, m, dtype, err);
    if (code) {
        sp_head_net_free(h);
        return code;
    }
    *out = h;
    return SP_OK;
}

void sp_head_net_free(struct sp_head_net *h) {
    if (!h) return;
    h->be->weight_free(h->be, h->weight);
    h->be->release(h->be, h->norm);
    h->be->release(h->be, h->hidden);
    h->be->release(h->be, h->scores);
    free(h->bias);
    free(h->transition);
    free(h);
}

const struct sp_head *sp_head_net_head(const struct sp_head_net *h) {
    return h->head;
}
int64_t sp_head_net_outputs(const struct sp_head_net *h) {
    return h->n_out;
}
const float *sp_head_net_transitions(const struct sp_head_net *h) {
    return h->transition;
}

enum sp_code sp_head_net_forward(struct sp_head_net *h, const float *hidden, int64_t n_row,
                                 bool step, float *scores, struct sp_error *err) {
    if (n_row <= 0) return SP_OK;
    struct sp_backend *be = h->be;
    const int64_t d = h->c->d_model;
    const size_t in_bytes = (size_t)(n_row * d) * sizeof(float);
    const size_t out_bytes = (size_t)(n_row * h->n_out) * sizeof(float);
    enum sp_code code = sp_weights_room(be, &h->hidden, &h->hidden_bytes, in_bytes, err);
    if (!code) code = sp_weights_room(be, &h->scores, &h->scores_bytes, out_bytes, err);
    if (!code) code = be->upload(be, h->hidden, hidden, in_bytes, err);
    struct sp_rmsnorm norm = {.d = d, .x = h->hidden, .ldx = d, .w = h->norm, .ldy = d};
    norm.y = h->hidden;
    norm.eps = (float)h->c->norm_eps;
    if (!code) code = be->rmsnorm_fwd(be, &norm, n_row, err);
    if (!code)
        code =
            be->linear(be, h->weight, h->hidden, d, n_row, step, h->scores, h->n_out, false, err);
    return code ? code : be->download(be, scores, h->scores, out_bytes, err);
}
