/* What `state` says of states: norms, differences, hashes of all weights. Owns nothing. */
#ifndef SP_STATE_REPORT_H
#define SP_STATE_REPORT_H

#include "state.h"

struct sp_part_report {
    double norm, largest; /* of the finite elements */
    uint64_t n_bad;       /* NaN and infinite */
};
struct sp_layer_report {
    struct sp_part_report conv, ssm;
};
/* layer is one of the state's. */
struct sp_layer_report sp_state_report_layer(const struct sp_state *s, uint32_t layer);
struct sp_part_report sp_state_report_last(const struct sp_state *s);
size_t sp_state_bytes(const struct sp_state *s); /* of its numbers, in a file */
/* SP_E_DATA names the first layer with NaN or infinity. */
enum sp_code sp_state_check_finite(const struct sp_state *s, struct sp_error *err);

/* ||a - b|| / ||b|| of one layer; b zero and a not, or NaN: infinity. Both states have the layer,
 * and the same shape. */
double sp_state_diff_conv(const struct sp_state *a, const struct sp_state *b, uint32_t layer);
double sp_state_diff_ssm(const struct sp_state *a, const struct sp_state *b, uint32_t layer);

#define SP_STATE_FIELDS 8
struct sp_state_diff {
    bool equal;
    size_t n_field;
    const char *field[SP_STATE_FIELDS]; /* names of what differs beside the numbers */
    bool has_last;                      /* both have one */
    double last, largest;
};
/* SP_E_DATA when layers or shapes differ, so that there is nothing to compare. */
enum sp_code sp_state_compare(struct sp_state_diff *d, const struct sp_state *a,
                              const struct sp_state *b, double within, struct sp_error *err);

/* XXH3-128 of the bytes of all *.safetensors of a model's directory, in the order of their names.
 */
enum sp_code sp_state_hash_weights(struct sp_hash *hash, const char *dir, struct sp_error *err);

#endif
