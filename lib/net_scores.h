/* A head of the model over a stream of hidden states: what bin/head.c runs.
 *
 * struct sp_scores owns the model, the backend, the head and its buffers. Scores of tag and class
 * heads are raw (before any softmax), one row per token; a class head's answer for a document is
 * its last row. Scores of a language model are raw too; `top_logprob` and `logprob` are natural
 * logarithms of probabilities, `surprisal` is -log2 of them.
 *
 * Choices as evaluation harnesses score them (github.com/EleutherAI/lm-evaluation-harness): each is
 * a document that goes on from the text before it (DOC with `choice`); its DOCEND gets the
 * logarithm of its probability, the same per token and per byte, and whether each of its tokens
 * was the most probable one.
 */
#ifndef SP_NET_SCORES_H
#define SP_NET_SCORES_H

#include "net_sample.h"
#include "net_stream.h"

struct sp_scores_options {
    const char *model;   /* -m, or NULL */
    const char *head;    /* --head, or NULL: the model's default */
    const char *device;  /* "auto", ... */
    int n_thread;        /* 0: all cores */
    enum sp_dtype dtype; /* of products */
    int64_t top;         /* language models: the most probable next tokens instead of all; or 0 */
    bool score;          /* language models: the probability of each token given those before it */
    bool surprisal;      /* the same in bits, for extract */
    bool choices;        /* the probabilities of the choices of documents alone */
    /* Language models: each document's next token, in a stream of tokens (net_sample.h), n_max of
     * one document at most. NULL: scores. */
    const struct sp_sample_options *sample;
    uint64_t n_max;
};

struct sp_scores;
enum sp_code sp_scores_new(struct sp_scores **s, const struct sp_scores_options *options,
                           struct sp_error *err);
void sp_scores_free(struct sp_scores *s);
/* The callbacks of a filter whose ctx is the sp_scores. */
void sp_scores_install(struct sp_scores *s, struct sp_filter *f);
/* What runs; "" before the first HELLO. */
void sp_scores_describe(struct sp_scores *s, char *out, size_t size);

#endif
