/* What every STATE record of one state says alike. Internal to the state_*.c. Owns nothing. */
#ifndef SP_STATE_COMMON_H
#define SP_STATE_COMMON_H

#include "statepipe.h"

/* Without padding: two of them are compared byte by byte. */
struct sp_state_common {
    struct sp_hash model, tokenizer, prefix;
    uint64_t n_tok, n_layer, d_model, d_inner, d_state, d_conv;
    uint64_t origin; /* enum sp_origin */
};

struct sp_state_common sp_state_common_of(const struct sp_state *s);
/* The keys of a record; SP_E_DATA names the one that is missing. */
enum sp_code sp_state_common_read(const struct sp_record *rec, struct sp_state_common *c,
                                  struct sp_error *err);
enum sp_code sp_state_common_store(const struct sp_state_common *c, struct sp_record *rec,
                                   struct sp_error *err);
/* The dimensions, cut to what sp_state_alloc tells from a real one. */
struct sp_state sp_state_common_shape(const struct sp_state_common *c);

#endif
