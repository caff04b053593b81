/* What `state` makes of states: parts, mixtures, half types. Every function that hands out a state
 * hands it over to the caller (sp_state_free); names are borrowed, for messages. */
#ifndef SP_STATE_OPS_H
#define SP_STATE_OPS_H

#include "state.h"

/* The layers first..last of s as a state of their own; the last token goes with the model's last
 * layer. SP_E_USAGE when s does not have them. */
enum sp_code sp_state_slice(struct sp_state **out, const struct sp_state *s, int64_t first,
                            int64_t last, struct sp_error *err);

struct sp_state_part {
    const char *name;
    struct sp_state *state;
};
/* One state of parts of one document's state, in any order. SP_E_DATA names the part that is of
 * another model, tokenizer, shape, document or origin, the layer that two parts have, and the
 * layers that none has. Parts of several types in a file make one of f32. */
enum sp_code sp_state_merge(struct sp_state **out, const struct sp_state_part *part, size_t n,
                            struct sp_error *err);

/* A weighted sum, after State Soup (Pióro et al., arXiv 2406.08423): each number is the sum over
 * the parts of weight times value, in double, rounded once to f32. Start with zeros. */
struct sp_state_mix {
    struct sp_state *first; /* the first part's shape and hashes; without rows */
    const char *first_name;
    double *sum; /* (layers, conv + ssm of a layer), then (d_model) of the last token */
    size_t n;
    double largest; /* weight so far, by magnitude */
};
/* SP_E_DATA when s is not of the model, tokenizer, shape and layers of the parts before it. name
 * must live until _end. */
enum sp_code sp_state_mix_add(struct sp_state_mix *m, const struct sp_state *s, const char *name,
                              double weight, struct sp_error *err);
/* The mixture, of origin mixed: n_tok is the sum of all parts', prefix the XXH3-128 of the chain of
 * all parts' prefixes and weights, the last token's id that of the part of the largest weight (the
 * first of them), its vector the weighted sum; no last token unless all parts have one. SP_E_DATA
 * for numbers that f32 cannot hold. Leaves m empty. */
enum sp_code sp_state_mix_end(struct sp_state_mix *m, struct sp_state **out, struct sp_error *err);
void sp_state_mix_clear(struct sp_state_mix *m);
/* "FILE:WEIGHT", the weight a finite decimal number behind the last colon: the length of FILE and
 * the weight. SP_E_USAGE otherwise. */
enum sp_code sp_state_mix_parse(const char *operand, size_t *n_name, double *weight,
                                struct sp_error *err);

/* What rounding to a half type has cost. Relative errors are |rounded - x| / |x|. */
struct sp_state_loss {
    uint64_t n, n_zero;  /* numbers that are not 0; those of them that have become 0 */
    double largest, rms; /* relative error of the worst number; ||rounded - x|| / ||x|| */
};
/* Rounds conv and ssm to what dtype holds, in place, for a file of that type. A state of origin
 * read becomes one of origin converted, unless dtype is f32. SP_E_DATA where a number is too large
 * for f16; then s is left as it was. */
enum sp_code sp_state_convert(struct sp_state *s, enum sp_dtype dtype, struct sp_state_loss *conv,
                              struct sp_state_loss *ssm, struct sp_error *err);

#endif
