/* Beam search over a language model: from each start, a sequence that has read something, the most
 * probable continuations.
 *
 * Hypotheses fork the sequence and share its state until they read on, so nothing is read again;
 * those of all starts read their next token in one batch. Whoever searches owns the list until
 * sp_beam_list_clear; the starts are borrowed and left as they were. Results do not depend on which
 * starts are searched together, and ties are broken: the better parent's child first, then the
 * lower id; of finished hypotheses the one that was finished first.
 */
#ifndef SP_BEAM_H
#define SP_BEAM_H

#include "lm.h"

/* What a token may do behind a hypothesis; one that may do both is counted for both. */
enum sp_beam_role {
    SP_BEAM_TEXT = 1, /* become a part of it */
    SP_BEAM_END = 2,  /* follow it when it is finished, without being a part of it */
};

struct sp_beam_options {
    size_t width;      /* hypotheses that go on; 1: greedy */
    size_t n_best;     /* finished ones that are kept */
    size_t max_tokens; /* of a hypothesis: behind so many, SP_BEAM_TEXT counts for nothing */
    /* Hypotheses are ranked by logprob / n^length_alpha (Wu et al. 2016, arXiv 1609.08144, eq. 14),
     * n their tokens with the end; 0: by their probability. Not negative. */
    double length_alpha;
    /* The roles (sp_lm_vocab) of sp_beam_role bits of every token behind the n tokens at id, which
     * continue start `start`; NULL: the hypothesis is finished as it is. Borrowed until the next
     * call; a hypothesis may be asked about twice. */
    const uint8_t *(*follow)(void *ctx, size_t start, const uint32_t *id, size_t n);
    void *ctx;
};

struct sp_beam_hyp {
    uint32_t *id; /* (n) */
    size_t n;
    bool ended;     /* by a token of role SP_BEAM_END, whichever: logprob has their sum */
    double logprob; /* natural logarithm of the probability of its tokens, and of its end */
    double score;   /* what it is ranked by */
};
/* Finished hypotheses, best first. */
struct sp_beam_list {
    size_t n;
    struct sp_beam_hyp *item;
};
void sp_beam_list_clear(struct sp_beam_list *l);

/* out (n_start). A start whose hypotheses all come to nothing (no role for any token) has an empty
 * list. The search of a start ends when no hypothesis can still get among its n_best. On failure
 * there is nothing to clear. SP_E_USAGE where a start has read nothing (sp_lm_seq_ready). */
enum sp_code sp_beam_search(struct sp_lm *lm, const struct sp_lm_seq *const *start, size_t n_start,
                            const struct sp_beam_options *o, struct sp_beam_list *out,
                            struct sp_error *err);

#endif
