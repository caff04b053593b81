/* States in parts: layers cut out of one, and one made of parts. */
#include "state_ops.h"

#include <string.h>

static void copy_rows(struct sp_state *to, const struct sp_state *from, uint32_t first,
                      uint32_t last) {
    size_t conv = sp_state_conv_size(to), ssm = sp_state_ssm_size(to), n = last - first + 1;
    size_t at = first - to->layer_first, source = first - from->layer_first;
    if (conv) memcpy(to->conv + at * conv, from->conv + source * conv, n * conv * sizeof(float));
    memcpy(to->ssm + at * ssm, from->ssm + source * ssm, n * ssm * sizeof(float));
}

static void copy_last(struct sp_state *to, const struct sp_state *from) {
    to->has_last = true;
    to->last_id = from->last_id;
    memcpy(to->last_hidden, from->last_hidden, (size_t)to->d_model * sizeof(float));
}

/* Zeros, with all but numbers and layers as in like. */
static enum sp_code alloc_like(struct sp_state **out, const struct sp_state *like, uint32_t first,
                               uint32_t last, struct sp_error *err) {
    struct sp_state shape = *like;
    shape.layer_first = first;
    shape.layer_last = last;
    enum sp_code code = sp_state_alloc(out, &shape, err);
    if (!code) sp_state_copy_names(*out, like);
    return code;
}

enum sp_code sp_state_slice(struct sp_state **out, const struct sp_state *s, int64_t first,
                            int64_t last, struct sp_error *err) {
    *out = NULL;
    if (first > last || first < s->layer_first || last > s->layer_last)
        return sp_error_set(err, SP_E_USAGE, "layers %lld-%lld: the state has layers %u-%u",
                            (long long)first, (long long)last, s->layer_first, s->layer_last);
    uint32_t from = (uint32_t)first, to = (uint32_t)last;
    enum sp_code code = alloc_like(out, s, from, to, err);
    if (code) return code;
    copy_rows(*out, s, from, to);
    if (s->has_last && to == s->n_layer - 1) copy_last(*out, s);
    return SP_OK;
}

/* b beside the first part: of the same reading of the same document? */
static enum sp_code check_reading(const struct sp_state_part *a, const struct sp_state_part *b,
                                  struct sp_error *err) {
    if (a->state->origin != b->state->origin)
        return sp_error_set(err, SP_E_DATA, "the state's origin is %s, that of %s is %s",
                            sp_origin_name(b->state->origin), a->name,
                            sp_origin_name(a->state->origin));
    if (a->state->n_tok == b->state->n_tok && sp_hash_equal(&a->state->prefix, &b->state->prefix))
        return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "the state has read other tokens (%llu) than %s (%llu): only parts of one "
                        "document's state are merged (see mix)",
                        (unsigned long long)b->state->n_tok, a->name,
                        (unsigned long long)a->state->n_tok);
}

/* Two parts: may both be in one state? */
static enum sp_code check_apart(const struct sp_state_part *a, const struct sp_state_part *b,
                                struct sp_error *err) {
    const struct sp_state *x = a->state, *y = b->state;
    if (y->layer_first <= x->layer_last && x->layer_first <= y->layer_last)
        return sp_error_set(err, SP_E_DATA, "layer %u is in %s too",
                            x->layer_first > y->layer_first ? x->layer_first : y->layer_first,
                            a->name);
    if (x->has_last && y->has_last)
        return sp_error_set(err, SP_E_DATA, "the last token is in %s too", a->name);
    return SP_OK;
}

static enum sp_code check_parts(const struct sp_state_part *part, size_t n, struct sp_error *err) {
    for (size_t i = 1; i < n; i++) {
        enum sp_code code = sp_state_check_like(part[i].state, part[0].state, part[0].name, err);
        if (!code) code = check_reading(&part[0], &part[i], err);
        for (size_t k = 0; k < i && !code; k++) code = check_apart(&part[k], &part[i], err);
        if (code) return sp_error_prefix(err, "%s", part[i].name);
    }
    return SP_OK;
}

/* The first layer from at on that no part has; the parts do not overlap. */
static uint32_t covered_until(const struct sp_state_part *part, size_t n, uint32_t at) {
    for (size_t i = 0; i < n; i++)
        if (part[i].state->layer_first == at) {
            at = part[i].state->layer_last + 1;
            i = (size_t)-1; /* look at all again, for what goes on from here */
        }
    return at;
}

enum sp_code sp_state_merge(struct sp_state **out, const struct sp_state_part *part, size_t n,
                            struct sp_error *err) {
    *out = NULL;
    enum sp_code code = check_parts(part, n, err);
    if (code) return code;
    uint32_t first = UINT32_MAX, last = 0;
    for (size_t i = 0; i < n; i++) {
        if (part[i].state->layer_first < first) first = part[i].state->layer_first;
        if (part[i].state->layer_last > last) last = part[i].state->layer_last;
    }
    uint32_t gap = covered_until(part, n, first), end = last;
    for (size_t i = 0; i < n; i++)
        if (part[i].state->layer_first > gap && part[i].state->layer_first <= end)
            end = part[i].state->layer_first - 1;
    if (gap <= last && gap == end)
        return sp_error_set(err, SP_E_DATA, "layer %u is in none of the files", gap);
    if (gap <= last)
        return sp_error_set(err, SP_E_DATA, "layers %u-%u are in none of the files", gap, end);
    code = alloc_like(out, part[0].state, first, last, err);
    for (size_t i = 0; i < n && !code; i++) {
        const struct sp_state *s = part[i].state;
        copy_rows(*out, s, s->layer_first, s->layer_last);
        if (s->has_last) copy_last(*out, s);
        if (s->dtype != part[0].state->dtype) (*out)->dtype = SP_F32;
    }
    return code;
}
