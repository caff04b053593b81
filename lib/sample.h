/* The next token from logits: greedy, or drawn from what temperature, top-k, top-p, min-p and a
 * repetition penalty leave. A sampler owns its working memory; the logits stay as they are.
 *
 * In this order, which is transformers': the penalty on tokens seen lately, division by the
 * temperature, top-k, top-p of what top-k left, min-p. Each of the three keeps the best of an order
 * in which equal logits stand by id, so what is kept does not depend on how it is found.
 *
 * A draw is a function of seed, stream (which text) and step (which of its draws) alone: texts
 * generated together are those generated one by one, in one program or in a pipe.
 */
#ifndef SP_SAMPLE_H
#define SP_SAMPLE_H

#include "statepipe.h"

#define SP_SAMPLE_WINDOW 64 /* tokens of a text that the repetition penalty looks back over */

struct sp_sample_options {
    double temperature; /* 0: the best token, whatever the cuts */
    int64_t top_k;      /* keep the k best; 0: all */
    double top_p;       /* keep the fewest best of probability p (Holtzman, 1904.09751); 1: all */
    double min_p;      /* keep those of at least this part of the best's probability (2407.01082) */
    double repetition; /* logits > 0 of tokens seen are divided by it, others multiplied
                          (CTRL, 1909.05858); 1: none */
    uint64_t seed;
};

/* The last tokens of a text, in no order that matters. Starts with zeros. */
struct sp_recent {
    uint32_t id[SP_SAMPLE_WINDOW];
    uint64_t n; /* seen in all */
};
void sp_recent_add(struct sp_recent *r, const uint32_t *id, size_t n);

struct sp_sampler;
/* n_vocab columns of logits; the n_never ids at never, which are copied, are not chosen. SP_E_BUG
 * where nothing is left to choose. */
enum sp_code sp_sampler_new(struct sp_sampler **s, const struct sp_sample_options *o,
                            int64_t n_vocab, const uint32_t *never, size_t n_never,
                            struct sp_error *err);
void sp_sampler_free(struct sp_sampler *s);

/* What a draw may give: *n ids and their weights (probabilities but for a common factor; of a
 * single id, 1), best first unless nothing was cut, when they stand in order of id and those with
 * weight 0 cannot be drawn. Borrowed until the next call. logits (n_vocab), finite; recent may be
 * NULL. */
void sp_sampler_cut(struct sp_sampler *s, const float *logits, const struct sp_recent *recent,
                    const uint32_t **id, const double **weight, int64_t *n);
uint32_t sp_sampler_next(struct sp_sampler *s, const float *logits, const struct sp_recent *recent,
                         uint64_t stream, uint64_t step);

/* Uniform in [0, 1), of 53 bits: a hash of the three (splitmix64's finaliser, three times). */
double sp_sample_uniform(uint64_t seed, uint64_t stream, uint64_t step);

#endif
