/* Generation: prompts are read and decoded together, their texts come out in the order of the
 * prompts.
 *
 * A batch has a fixed number of places; a text that ends gives its place to the next prompt. What
 * becomes of a prompt does not depend on the others (lm.h, sample.h). The options' pointers are
 * borrowed while it runs.
 */
#ifndef SP_GENERATE_H
#define SP_GENERATE_H

#include "lm.h"
#include "sample.h"

#define SP_GENERATE_BATCH_MAX 64 /* texts decoded at a time */

enum sp_generate_end {
    SP_END_LENGTH, /* n_max tokens */
    SP_END_EOS,    /* the model's end of text, which is not part of it */
    SP_END_STOP,   /* a stop string, which is not part of the text but of what was read */
    SP_END_EMPTY   /* the prompt was empty and there was no state: nothing to go on from */
};
const char *sp_generate_end_name(enum sp_generate_end end); /* "length", ... */

enum sp_generate_next { SP_NEXT_PROMPT, SP_NEXT_LATER /* not yet known */, SP_NEXT_NONE };

/* One text, as its callback sees it. */
struct sp_generated {
    uint64_t number;             /* of the prompt, from 0 */
    uint64_t n_tok;              /* tokens drawn, without eos */
    enum sp_generate_end end;    /* said at the end only */
    const struct sp_lm_seq *seq; /* has read the prompt and, at the end, every token drawn if
                                    `whole` was asked for */
};

struct sp_generate_options {
    struct sp_sample_options sample;
    int64_t n_max; /* tokens of a text */
    /* > 0: of each text the best of so many hypotheses (beam.h), in place of what `sample` says. */
    int64_t beam;
    double length_alpha; /* of beam.h */
    const char *const *stop;
    size_t n_stop;
    const struct sp_lm_seq *from; /* what every prompt goes on from, or NULL */
    bool at_once;                 /* a text comes out whole, at its end; with `beam` it does */
    bool whole;                   /* for a state: the last token is read too */
    int64_t batch;                /* 1 .. SP_GENERATE_BATCH_MAX; hypotheses count as texts */
    void *ctx;
    /* The ids of the next prompt, malloc'ed, which are taken over. idle: it may wait for one. */
    enum sp_code (*next)(void *ctx, bool idle, uint32_t **id, size_t *n,
                         enum sp_generate_next *what, struct sp_error *err);
    /* The next n bytes of a text (0 are possible at its end); texts do not interleave. */
    enum sp_code (*text)(void *ctx, const struct sp_generated *g, const char *bytes, size_t n,
                         bool end, struct sp_error *err);
};

/* Until there is no prompt left. SP_E_DATA and the like as in lm.h; errors of the callbacks. */
enum sp_code sp_generate_run(struct sp_lm *lm, const struct sp_generate_options *o,
                             struct sp_error *err);

#endif
