/* The keys that all STATE records of one state share. */
#include "state_common.h"

#include "state.h"

#include <string.h>

static const struct {
    const char *key;
    size_t at;
} hashes[] = {{"model", offsetof(struct sp_state_common, model)},
              {"tokenizer", offsetof(struct sp_state_common, tokenizer)},
              {"prefix", offsetof(struct sp_state_common, prefix)}},
  numbers[] = {{"n_tok", offsetof(struct sp_state_common, n_tok)},
               {"n_layer", offsetof(struct sp_state_common, n_layer)},
               {"d_model", offsetof(struct sp_state_common, d_model)},
               {"d_inner", offsetof(struct sp_state_common, d_inner)},
               {"d_state", offsetof(struct sp_state_common, d_state)},
               {"d_conv", offsetof(struct sp_state_common, d_conv)}};
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct sp_state_common sp_state_common_of(const struct sp_state *s) {
    return (struct sp_state_common){.model = s->model,
                                    .tokenizer = s->tokenizer,
                                    .prefix = s->prefix,
                                    .n_tok = s->n_tok,
                                    .n_layer = s->n_layer,
                                    .d_model = (uint64_t)s->d_model,
                                    .d_inner = (uint64_t)s->d_inner,
                                    .d_state = (uint64_t)s->d_state,
                                    .d_conv = (uint64_t)s->d_conv,
                                    .origin = s->origin};
}

enum sp_code sp_state_common_read(const struct sp_record *rec, struct sp_state_common *c,
                                  struct sp_error *err) {
    memset(c, 0, sizeof *c);
    const void *bytes;
    size_t n;
    for (size_t i = 0; i < COUNT(hashes); i++) {
        if (!sp_record_get_bin(rec, hashes[i].key, &bytes, &n) || n != sizeof c->model.byte)
            return sp_error_set(err, SP_E_DATA, "a STATE record has no hash '%s'", hashes[i].key);
        memcpy((char *)c + hashes[i].at, bytes, n);
    }
    for (size_t i = 0; i < COUNT(numbers); i++) {
        uint64_t v;
        if (!sp_record_get_u64(rec, numbers[i].key, &v))
            return sp_error_set(err, SP_E_DATA, "a STATE record has no number '%s'",
                                numbers[i].key);
        memcpy((char *)c + numbers[i].at, &v, sizeof v);
    }
    char name[SP_NAME_MAX];
    enum sp_origin origin;
    enum sp_code code = sp_record_copy_str(rec, "origin", name, sizeof name, err);
    if (!code && !sp_origin_find(name, &origin))
        code = sp_error_set(err, SP_E_DATA, "the state's origin '%s' is unknown", name);
    if (!code) c->origin = origin;
    return code;
}

enum sp_code sp_state_common_store(const struct sp_state_common *c, struct sp_record *rec,
                                   struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < COUNT(hashes) && !code; i++)
        code = sp_record_set_bin(rec, hashes[i].key, (const char *)c + hashes[i].at,
                                 sizeof c->model.byte, err);
    for (size_t i = 0; i < COUNT(numbers) && !code; i++) {
        uint64_t v;
        memcpy(&v, (const char *)c + numbers[i].at, sizeof v);
        code = sp_record_set_u64(rec, numbers[i].key, v, err);
    }
    const char *origin = sp_origin_name((enum sp_origin)c->origin);
    return code ? code : sp_record_set_str(rec, "origin", origin, strlen(origin), err);
}

static int64_t cut(uint64_t v) {
    return v > INT32_MAX ? INT32_MAX : (int64_t)v;
}

struct sp_state sp_state_common_shape(const struct sp_state_common *c) {
    return (struct sp_state){.n_layer = (uint32_t)cut(c->n_layer),
                             .d_model = cut(c->d_model),
                             .d_inner = cut(c->d_inner),
                             .d_state = cut(c->d_state),
                             .d_conv = cut(c->d_conv)};
}
