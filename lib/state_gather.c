/* STATE records to a state: checked one by one, in any order, until no layer is missing. */
#include "state.h"
#include "state_common.h"

#include <stdlib.h>
#include <string.h>

/* Rows are made for all layers that are still to come, up to this; then they double. What a record
 * claims costs no more. */
#define FIRST_ROWS_BYTES ((size_t)16 << 20)

struct sp_state_rows {
    struct sp_state_common common; /* of all records */
    struct sp_state state;         /* its conv, ssm and last_hidden, rows in order of arrival */
    uint32_t *layer;               /* (cap), of each row */
    size_t n, cap;
    bool half; /* some row was of a half type */
};

void sp_state_gather_clear(struct sp_state_gather *g) {
    if (g->rows) {
        free(g->rows->state.conv);
        free(g->rows->state.ssm);
        free(g->rows->state.last_hidden);
        free(g->rows->layer);
        free(g->rows);
    }
    *g = (struct sp_state_gather){0};
}

bool sp_state_gather_has(const struct sp_state_gather *g, uint32_t layer) {
    for (size_t i = 0; g->rows && i < g->rows->n; i++)
        if (g->rows->layer[i] == layer) return true;
    return false;
}

bool sp_state_gather_lacks_last(const struct sp_state_gather *g) {
    return g->rows && !g->rows->state.has_last;
}

enum sp_code sp_state_record_layer(const struct sp_record *rec, bool *is_last, uint32_t *layer,
                                   struct sp_error *err) {
    uint64_t number;
    *is_last = false;
    sp_record_get_bool(rec, "last", is_last);
    if (*is_last) return SP_OK;
    if (!sp_record_get_u64(rec, "layer", &number) || number >= UINT32_MAX)
        return sp_error_set(err, SP_E_DATA, "a STATE record says no layer");
    *layer = (uint32_t)number;
    return SP_OK;
}

/* ---- checking ------------------------------------------------------------------------------ */

/* The tensors are what the record's own numbers say: f32, or both of one half type. */
static enum sp_code check_tensors(struct sp_record *rec, bool is_last,
                                  const struct sp_state_common *c, struct sp_error *err) {
    struct sp_tensor *t;
    uint64_t hidden[1] = {c->d_model}, conv[2] = {c->d_conv - 1, c->d_inner},
             ssm[2] = {c->d_inner, c->d_state}, id;
    if (!c->d_model || !c->d_conv || !c->d_inner || !c->d_state)
        return sp_error_set(err, SP_E_DATA, "a STATE record with a dimension of 0");
    if (is_last) {
        if (!sp_record_get_u64(rec, "id", &id) || id > UINT32_MAX)
            return sp_error_set(err, SP_E_DATA, "the state's last token has no id");
        return sp_record_need_tensor(rec, "hidden", SP_F32, 1, hidden, &t, err);
    }
    const struct sp_tensor *found = sp_record_tensor(rec, "ssm");
    bool half = found && (found->dtype == SP_BF16 || found->dtype == SP_F16);
    enum sp_dtype dtype = half ? found->dtype : SP_F32;
    enum sp_code code = sp_record_need_tensor(rec, "conv", dtype, 2, conv, &t, err);
    if (!code && t->dim[0] != conv[0])
        code = sp_error_set(err, SP_E_DATA, "a state's convolution has %llu rows, not %llu",
                            (unsigned long long)t->dim[0], (unsigned long long)conv[0]);
    return code ? code : sp_record_need_tensor(rec, "ssm", dtype, 2, ssm, &t, err);
}

/* Against what is there already. */
static enum sp_code check_fits(const struct sp_state_gather *g, const struct sp_state_common *c,
                               bool is_last, uint32_t layer, struct sp_error *err) {
    if (is_last && g->rows->state.has_last)
        return sp_error_set(err, SP_E_DATA, "the state has two last tokens");
    if (!is_last && sp_state_gather_has(g, layer))
        return sp_error_set(err, SP_E_DATA, "the state has layer %u twice", layer);
    if (memcmp(&g->rows->common, c, sizeof *c) != 0)
        return sp_error_set(err, SP_E_DATA,
                            "the state's parts do not belong together: they differ in model, "
                            "tokens read, origin or shape");
    return SP_OK;
}

/* ---- adding -------------------------------------------------------------------------------- */

static enum sp_code start(struct sp_state_gather *g, const struct sp_state_common *c,
                          struct sp_error *err) {
    g->rows = calloc(1, sizeof *g->rows);
    if (!g->rows) return sp_error_memory(err, "a state");
    g->rows->common = *c;
    g->rows->state = sp_state_common_shape(c);
    return SP_OK;
}

/* Room for one more row. Tensors of a row's dimensions exist, so that its bytes fit. */
static enum sp_code grow(struct sp_state_rows *rows, uint32_t layer, struct sp_error *err) {
    struct sp_state *s = &rows->state;
    if (rows->n < rows->cap) return SP_OK;
    size_t conv = sp_state_conv_size(s), ssm = sp_state_ssm_size(s), cap = 2 * rows->cap;
    if (cap == 0) {
        size_t most = FIRST_ROWS_BYTES / ((conv + ssm) * sizeof(float)), to_come;
        to_come = (size_t)(rows->common.n_layer - layer);
        cap = to_come < most ? to_come : most > 0 ? most : 1;
    }
    /* One element more, for a convolution of width 1. */
    float *grown_conv = realloc(s->conv, (cap * conv + 1) * sizeof *grown_conv);
    if (grown_conv) s->conv = grown_conv;
    float *grown_ssm = realloc(s->ssm, cap * ssm * sizeof *grown_ssm);
    if (grown_ssm) s->ssm = grown_ssm;
    uint32_t *grown_layer = realloc(rows->layer, cap * sizeof *grown_layer);
    if (grown_layer) rows->layer = grown_layer;
    if (!grown_conv || !grown_ssm || !grown_layer) return sp_error_memory(err, "a state");
    rows->cap = cap;
    return SP_OK;
}

static enum sp_code add_layer(struct sp_state_rows *rows, struct sp_record *rec, uint32_t layer,
                              struct sp_error *err) {
    struct sp_state *s = &rows->state;
    enum sp_code code = grow(rows, layer, err);
    if (code) return code;
    size_t conv = sp_state_conv_size(s), ssm = sp_state_ssm_size(s);
    enum sp_dtype dtype = sp_record_tensor(rec, "ssm")->dtype;
    sp_tensor_to_f32(s->conv + rows->n * conv, sp_record_tensor(rec, "conv")->data, dtype, conv);
    sp_tensor_to_f32(s->ssm + rows->n * ssm, sp_record_tensor(rec, "ssm")->data, dtype, ssm);
    if (rows->n == 0) s->dtype = dtype;
    if (dtype != s->dtype) s->dtype = SP_F32; /* parts of several types: none is cut again */
    rows->half = rows->half || dtype != SP_F32;
    rows->layer[rows->n++] = layer;
    return SP_OK;
}

static enum sp_code add_last(struct sp_state *s, struct sp_record *rec, struct sp_error *err) {
    uint64_t id = 0;
    const struct sp_tensor *t = sp_record_tensor(rec, "hidden");
    s->last_hidden = malloc(t->n_bytes);
    if (!s->last_hidden) return sp_error_memory(err, "a state");
    memcpy(s->last_hidden, t->data, t->n_bytes);
    sp_record_get_u64(rec, "id", &id);
    s->last_id = (uint32_t)id;
    s->has_last = true;
    return SP_OK;
}

static enum sp_code add(struct sp_state_gather *g, struct sp_record *rec, struct sp_error *err) {
    struct sp_state_common c;
    bool is_last;
    uint32_t layer = 0;
    enum sp_code code = sp_state_record_layer(rec, &is_last, &layer, err);
    if (!code) code = sp_state_common_read(rec, &c, err);
    if (code) return code;
    if (!is_last && layer >= c.n_layer)
        return sp_error_set(err, SP_E_DATA, "the state's layer %u is not one of %llu", layer,
                            (unsigned long long)c.n_layer);
    code = check_tensors(rec, is_last, &c, err);
    if (!code) code = g->rows ? check_fits(g, &c, is_last, layer, err) : start(g, &c, err);
    if (code) return code;
    return is_last ? add_last(&g->rows->state, rec, err) : add_layer(g->rows, rec, layer, err);
}

enum sp_code sp_state_gather_add(struct sp_state_gather *g, struct sp_record *rec,
                                 struct sp_error *err) {
    enum sp_code code = add(g, rec, err);
    if (!code) g->n++;
    sp_record_free(rec);
    return code;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* The range of layers; SP_E_DATA unless each is there. They are distinct already. */
static enum sp_code find_range(const struct sp_state_rows *rows, struct sp_state *s, bool *sorted,
                               struct sp_error *err) {
    uint32_t first = UINT32_MAX, last = 0, n = (uint32_t)rows->n;
    *sorted = true;
    for (size_t i = 0; i < rows->n; i++) {
        if (rows->layer[i] < first) first = rows->layer[i];
        if (rows->layer[i] > last) last = rows->layer[i];
        *sorted = *sorted && (i == 0 || rows->layer[i] > rows->layer[i - 1]);
    }
    if (n == 0) return sp_error_set(err, SP_E_DATA, "the state has no layers");
    if (last - first + 1 != n)
        return sp_error_set(err, SP_E_DATA, "the state has %u of the layers %u-%u: %u are missing",
                            n, first, last, last - first + 1 - n);
    s->layer_first = first;
    s->layer_last = last;
    return SP_OK;
}

/* Takes the rows as they are where they came in order, and copies them where not. */
static void take_rows(struct sp_state_rows *rows, bool sorted, struct sp_state *s) {
    size_t conv = sp_state_conv_size(s), ssm = sp_state_ssm_size(s);
    for (size_t i = 0; i < rows->n && !sorted; i++) {
        size_t to = rows->layer[i] - s->layer_first;
        memcpy(s->conv + to * conv, rows->state.conv + i * conv, conv * sizeof(float));
        memcpy(s->ssm + to * ssm, rows->state.ssm + i * ssm, ssm * sizeof(float));
    }
    if (sorted) {
        s->conv = rows->state.conv;
        s->ssm = rows->state.ssm;
        rows->state.conv = rows->state.ssm = NULL;
    }
    if (rows->state.has_last)
        memcpy(s->last_hidden, rows->state.last_hidden, (size_t)s->d_model * sizeof(float));
}

enum sp_code sp_state_gather_end(struct sp_state_gather *g, struct sp_state **out,
                                 struct sp_error *err) {
    *out = NULL;
    if (!g->rows) return SP_OK;
    struct sp_state shape = sp_state_common_shape(&g->rows->common);
    bool sorted;
    enum sp_code code = find_range(g->rows, &shape, &sorted, err);
    if (!code) code = sp_state_alloc_parts(out, &shape, !sorted, err);
    if (!code) {
        const struct sp_state_common *c = &g->rows->common;
        struct sp_state *s = *out;
        s->model = c->model;
        s->tokenizer = c->tokenizer;
        s->prefix = c->prefix;
        s->n_tok = c->n_tok;
        s->origin = (enum sp_origin)c->origin;
        /* Half types have lost something, whatever their writer says. */
        if (s->origin == SP_ORIGIN_READ && g->rows->half) s->origin = SP_ORIGIN_CONVERTED;
        s->dtype = g->rows->state.dtype;
        s->has_last = g->rows->state.has_last;
        s->last_id = g->rows->state.last_id;
        take_rows(g->rows, sorted, s);
    }
    sp_state_gather_clear(g);
    return code;
}
