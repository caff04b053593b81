/* States beside the model that they belong to. */
#include "state.h"

enum sp_code sp_state_new(struct sp_state **s, const struct sp_model *m, uint32_t layer_first,
                          uint32_t layer_last, struct sp_error *err) {
    const struct sp_config *c = sp_model_config(m);
    struct sp_state shape = {.layer_first = layer_first,
                             .layer_last = layer_last,
                             .n_layer = (uint32_t)c->n_layer,
                             .d_model = c->d_model,
                             .d_inner = c->d_inner,
                             .d_state = c->d_state,
                             .d_conv = c->d_conv};
    enum sp_code code = sp_state_alloc(s, &shape, err);
    if (!code) (*s)->model = *sp_model_fingerprint(m);
    return code;
}

static enum sp_code check_shape(const struct sp_state *s, const struct sp_config *c,
                                struct sp_error *err) {
    const struct {
        const char *name;
        int64_t state, model;
    } dims[] = {{"layers in all", s->n_layer, c->n_layer},
                {"d_model", s->d_model, c->d_model},
                {"d_inner", s->d_inner, c->d_inner},
                {"d_state", s->d_state, c->d_state},
                {"d_conv", s->d_conv, c->d_conv}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        if (dims[i].state != dims[i].model)
            return sp_error_set(err, SP_E_DATA,
                                "the state is of another shape: %s %lld, the model has %lld",
                                dims[i].name, (long long)dims[i].state, (long long)dims[i].model);
    return SP_OK;
}

enum sp_code sp_state_check(const struct sp_state *s, const struct sp_model *m,
                            uint32_t layer_first, uint32_t layer_last, struct sp_error *err) {
    const struct sp_hash *model = sp_model_fingerprint(m);
    if (!sp_hash_equal(&s->model, model)) {
        char of_state[SP_HASH_HEX_SIZE], of_model[SP_HASH_HEX_SIZE];
        sp_hash_hex(&s->model, of_state);
        sp_hash_hex(model, of_model);
        return sp_error_set(err, SP_E_DATA,
                            "the state belongs to another model (fingerprint %.12s) than %s "
                            "(%.12s): use the model that it was made with",
                            of_state, sp_model_dir(m), of_model);
    }
    enum sp_code code = check_shape(s, sp_model_config(m), err);
    if (code) return code;
    if (s->layer_first <= layer_first && s->layer_last >= layer_last) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "the state has layers %u-%u, but %u-%u are needed: join the states of the "
                        "other layers with cat",
                        s->layer_first, s->layer_last, layer_first, layer_last);
}
