/* States in memory: allocation, the chained hash of what was read, whether one fits a model. */
#include "state.h"

#include "io.h"

#include <stdlib.h>
#include <string.h>

/* Dimensions above these are forged; products of them stay far below 2^63. */
#define DIM_MAX ((int64_t)1 << 20)
#define LAYERS_MAX 65536u

static const char *const origins[] = {"read", "mixed", "tuned", "converted"};

const char *sp_origin_name(enum sp_origin origin) {
    return (size_t)origin < sizeof origins / sizeof *origins ? origins[origin] : "unknown";
}

bool sp_origin_find(const char *name, enum sp_origin *origin) {
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++)
        if (strcmp(name, origins[i]) == 0) return *origin = (enum sp_origin)i, true;
    return false;
}

void sp_state_free(struct sp_state *s) {
    if (!s) return;
    free(s->conv);
    free(s->ssm);
    free(s->last_hidden);
    free(s);
}

enum sp_code sp_state_alloc(struct sp_state **out, const struct sp_state *shape,
                            struct sp_error *err) {
    return sp_state_alloc_parts(out, shape, true, err);
}

enum sp_code sp_state_alloc_parts(struct sp_state **out, const struct sp_state *shape, bool rows,
                                  struct sp_error *err) {
    *out = NULL;
    if (shape->layer_last < shape->layer_first || shape->layer_last >= shape->n_layer ||
        shape->n_layer > LAYERS_MAX || shape->d_model < 1 || shape->d_model > DIM_MAX ||
        shape->d_inner < 1 || shape->d_inner > DIM_MAX || shape->d_state < 1 ||
        shape->d_state > DIM_MAX || shape->d_conv < 1 || shape->d_conv > DIM_MAX)
        return sp_error_set(err, SP_E_DATA, "a state of impossible dimensions");
    size_t layers = shape->layer_last - shape->layer_first + 1;
    struct sp_state *s = calloc(1, sizeof *s);
    if (s) {
        *s = (struct sp_state){.layer_first = shape->layer_first,
                               .layer_last = shape->layer_last,
                               .n_layer = shape->n_layer,
                               .d_model = shape->d_model,
                               .d_inner = shape->d_inner,
                               .d_state = shape->d_state,
                               .d_conv = shape->d_conv};
        /* calloc checks the products; one element more, for a convolution of width 1. */
        if (rows) s->conv = calloc(layers * sp_state_conv_size(s) + 1, sizeof *s->conv);
        if (rows) s->ssm = calloc(layers * sp_state_ssm_size(s), sizeof *s->ssm);
        s->last_hidden = calloc((size_t)s->d_model, sizeof *s->last_hidden);
        if (s->last_hidden && (!rows || (s->conv && s->ssm))) {
            *out = s;
            return SP_OK;
        }
    }
    sp_state_free(s);
    return sp_error_set(err, SP_E_DEVICE, "out of memory for a state of %zu layers", layers);
}

void sp_state_hash_ids(struct sp_hash *prefix, const uint32_t *id, size_t n) {
    uint8_t link[sizeof prefix->byte + 4];
    for (size_t i = 0; i < n; i++) {
        memcpy(link, prefix->byte, sizeof prefix->byte);
        for (size_t b = 0; b < 4; b++) link[sizeof prefix->byte + b] = (uint8_t)(id[i] >> (8 * b));
        sp_hash_bytes(prefix, link, sizeof link);
    }
}

void sp_state_copy_names(struct sp_state *to, const struct sp_state *from) {
    to->model = from->model;
    to->tokenizer = from->tokenizer;
    to->prefix = from->prefix;
    to->origin = from->origin;
    to->dtype = from->dtype;
    to->n_tok = from->n_tok;
}
