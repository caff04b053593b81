/* A batch of questions at one of their slots (fill.c, fill_search.c). Internal to fill*.c. */
#ifndef SP_FILL_SEARCH_H
#define SP_FILL_SEARCH_H

#include "fill_internal.h"

/* A filling of the slots before this one. */
struct sp_fill_path {
    struct sp_lm_seq *seq; /* has read all up to the slot, but for what is pending */
    double logprob;        /* of what it has read since the first slot */
    char *answer[SP_FILL_SLOTS_MAX];
};

/* Something that may stand in the slot. */
struct sp_fill_candidate {
    size_t question, path;   /* path: in sp_fill_asking.path */
    char *text;              /* with the white space that it was found with */
    char *shown;             /* as a person sees it: valid UTF-8, white space made one */
    double logprob;          /* of the path, of it, and of what follows */
    struct sp_tokens tokens; /* with what is pending and the words that follow */
};

struct sp_fill_asking {
    struct sp_fill *f;
    const struct sp_fill_question *question; /* (n) */
    size_t n, slot;
    struct sp_fill_path *path; /* (n, width), of each question the first n_path */
    size_t *n_path;            /* (n) */
    struct sp_fill_candidate *candidate;
    size_t n_candidate, cap_candidate;
    /* What is read in one call: (n * width). */
    struct sp_lm_seq **seq;
    const uint32_t **id;
    size_t *n_id;
};

/* Candidates of a->slot for every question that has one: found by search, or chosen by the caller.
 * Those of searches have their logprob where nothing follows the slot. */
enum sp_code sp_fill_propose(struct sp_fill_asking *a, struct sp_error *err);
/* Gives the others their logprob, with the words that follow. */
enum sp_code sp_fill_weigh(struct sp_fill_asking *a, struct sp_error *err);
void sp_fill_candidate_clear(struct sp_fill_candidate *c);
double sp_fill_log_add(double a, double b); /* log(exp(a) + exp(b)) */

#endif
