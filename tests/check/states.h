/* Random states for the checks of them: three of d_model, five of d_inner, two of d_state; of one
 * model, tokenizer and document. */
#ifndef SP_CHECK_STATES_H
#define SP_CHECK_STATES_H

#include "../../lib/state.h"
#include "check.h"

static struct sp_error check_err;

static inline void check_must(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", check_err.msg);
    exit(1);
}

static inline struct sp_state *check_state_random(uint32_t first, uint32_t last, uint32_t n_layer,
                                                  int64_t d_conv) {
    struct sp_state *s, shape = {.layer_first = first,
                                 .layer_last = last,
                                 .n_layer = n_layer,
                                 .d_model = 3,
                                 .d_inner = 5,
                                 .d_state = 2,
                                 .d_conv = d_conv};
    check_must(sp_state_alloc(&s, &shape, &check_err));
    size_t layers = last - first + 1;
    check_fill(s->conv, (int64_t)(layers * sp_state_conv_size(s)), -2, 2);
    check_fill(s->ssm, (int64_t)(layers * sp_state_ssm_size(s)), -2, 2);
    for (size_t i = 0; i < sizeof s->model.byte; i++) {
        s->model.byte[i] = (uint8_t)(i + 1);
        s->tokenizer.byte[i] = (uint8_t)(i + 100);
    }
    sp_state_hash_ids(&s->prefix, (uint32_t[]){1, 2, 3}, 3);
    s->n_tok = 3;
    if (last + 1 == n_layer) {
        s->has_last = true;
        s->last_id = 3;
        check_fill(s->last_hidden, s->d_model, -1, 1);
    }
    return s;
}

static inline bool check_state_same(const struct sp_state *a, const struct sp_state *b) {
    size_t layers = a->layer_last - a->layer_first + 1;
    return sp_hash_equal(&a->model, &b->model) && sp_hash_equal(&a->tokenizer, &b->tokenizer) &&
           sp_hash_equal(&a->prefix, &b->prefix) && a->origin == b->origin &&
           a->dtype == b->dtype && a->n_tok == b->n_tok && a->layer_first == b->layer_first &&
           a->layer_last == b->layer_last && a->n_layer == b->n_layer && a->d_model == b->d_model &&
           a->d_inner == b->d_inner && a->d_state == b->d_state && a->d_conv == b->d_conv &&
           a->has_last == b->has_last && a->last_id == b->last_id &&
           memcmp(a->conv, b->conv, layers * sp_state_conv_size(a) * sizeof(float)) == 0 &&
           memcmp(a->ssm, b->ssm, layers * sp_state_ssm_size(a) * sizeof(float)) == 0 &&
           (!a->has_last || memcmp(a->last_hidden, b->last_hidden, 12) == 0);
}

#endif
