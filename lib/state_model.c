/* States beside what they are to fit: a model, a stream, another state. */
#include "state.h"

#include "model.h"

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

/* What two fingerprints are to be called in a message. */
struct pair {
    char ours[SP_HASH_HEX_SIZE], theirs[SP_HASH_HEX_SIZE];
};
static struct pair hex_of(const struct sp_hash *ours, const struct sp_hash *theirs) {
    struct pair p;
    sp_hash_hex(ours, p.ours);
    sp_hash_hex(theirs, p.theirs);
    return p;
}

/* owner has the model or is it. */
static enum sp_code check_model(const struct sp_state *s, const struct sp_hash *model,
                                const char *owner, struct sp_error *err) {
    if (sp_hash_equal(&s->model, model)) return SP_OK;
    struct pair p = hex_of(&s->model, model);
    return sp_error_set(err, SP_E_DATA,
                        "the state belongs to another model (fingerprint %.12s) than %s (%.12s)",
                        p.ours, owner, p.theirs);
}

enum sp_code sp_state_check_tokenizer(const struct sp_state *s, const struct sp_hash *tokenizer,
                                      const char *owner, struct sp_error *err) {
    static const struct sp_hash unknown;
    if (sp_hash_equal(&s->tokenizer, &unknown) || sp_hash_equal(tokenizer, &unknown) ||
        sp_hash_equal(&s->tokenizer, tokenizer))
        return SP_OK;
    struct pair p = hex_of(&s->tokenizer, tokenizer);
    return sp_error_set(err, SP_E_DATA,
                        "the state was made with another tokenizer (%.12s) than %.200s (%.12s)",
                        p.ours, owner, p.theirs);
}

static enum sp_code check_shape(const struct sp_state *s, const struct sp_state *like,
                                const char *owner, struct sp_error *err) {
    const struct {
        const char *name;
        int64_t ours, theirs;
    } dims[] = {{"layers in all", s->n_layer, like->n_layer},
                {"d_model", s->d_model, like->d_model},
                {"d_inner", s->d_inner, like->d_inner},
                {"d_state", s->d_state, like->d_state},
                {"d_conv", s->d_conv, like->d_conv}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        if (dims[i].ours != dims[i].theirs)
            return sp_error_set(err, SP_E_DATA,
                                "the state is of another shape: %s %lld, %s has %lld", dims[i].name,
                                (long long)dims[i].ours, owner, (long long)dims[i].theirs);
    return SP_OK;
}

/* Adds what to do to a message. */
static enum sp_code advise(struct sp_error *err, const char *remedy) {
    struct sp_error full;
    sp_error_set(&full, err->code, "%.380s: %s", err->msg, remedy);
    *err = full;
    return err->code;
}

static bool is_zero(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

/* Of reversed layers, which start from nothing in each window, a state remembers nothing. */
static enum sp_code check_reversed(const struct sp_state *s, const struct sp_config *c,
                                   struct sp_error *err) {
    const size_t conv = sp_state_conv_size(s), ssm = sp_state_ssm_size(s);
    for (uint32_t i = s->layer_first; i <= s->layer_last; i++) {
        const size_t at = i - s->layer_first;
        if (!sp_config_reverses(c, i) ||
            (is_zero(s->conv + at * conv, conv) && is_zero(s->ssm + at * ssm, ssm)))
            continue;
        return sp_error_set(err, SP_E_DATA,
                            "the state has numbers other than 0 for layer %u, which is reversed "
                            "and has no state",
                            i);
    }
    return SP_OK;
}

enum sp_code sp_state_check(const struct sp_state *s, const struct sp_model *m,
                            uint32_t layer_first, uint32_t layer_last, struct sp_error *err) {
    const struct sp_config *c = sp_model_config(m);
    const struct sp_state like = {.n_layer = (uint32_t)c->n_layer,
                                  .d_model = c->d_model,
                                  .d_inner = c->d_inner,
                                  .d_state = c->d_state,
                                  .d_conv = c->d_conv};
    if (check_model(s, sp_model_fingerprint(m), sp_model_dir(m), err))
        return advise(err, "use the model that it was made with");
    enum sp_code code = check_shape(s, &like, "the model", err);
    if (code) return code;
    if (s->layer_first <= layer_first && s->layer_last >= layer_last)
        return check_reversed(s, c, err);
    return sp_error_set(err, SP_E_DATA,
                        "the state has layers %u-%u, but %u-%u are needed: join the states of the "
                        "other layers with cat",
                        s->layer_first, s->layer_last, layer_first, layer_last);
}

enum sp_code sp_state_check_stream(const struct sp_state *s, const struct sp_hello *hello,
                                   struct sp_error *err) {
    if (!sp_state_check_tokenizer(s, &hello->tokenizer, "this stream", err)) return SP_OK;
    return advise(err, "tokenize with the one of the state's model");
}

enum sp_code sp_state_check_like(const struct sp_state *s, const struct sp_state *like,
                                 const char *name, struct sp_error *err) {
    enum sp_code code = check_model(s, &like->model, name, err);
    if (!code) code = sp_state_check_tokenizer(s, &like->tokenizer, name, err);
    return code ? code : check_shape(s, like, name, err);
}

enum sp_code sp_state_check_layers(const struct sp_state *s, const struct sp_state *like,
                                   const char *name, struct sp_error *err) {
    if (s->layer_first == like->layer_first && s->layer_last == like->layer_last) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "the state has layers %u-%u, %s has %u-%u", s->layer_first,
                        s->layer_last, name, like->layer_first, like->layer_last);
}
