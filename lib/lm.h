/* A language model in one process: tokenizer, layers and head, and sequences that fork.
 *
 * struct sp_lm owns the model, the tokenizer, the backend, the net and the head; whoever makes a
 * sequence gives it back to sp_lm_seq_free before the sp_lm is freed. Not thread-safe: one sp_lm,
 * one caller.
 *
 * A sequence is what has been read: the state of every layer, the last hidden vector (which
 * predicts the next token) and what a state file says beside them. Forks share their state until
 * one of them reads on; only then is it copied, and the last that holds it never copies.
 *
 * Results are those of the pipe, bit for bit: one call of sp_lm_read is one document of the pipe
 * or, for a sequence that has read before, its continuation (DOC cont, --load-state): its tokens
 * are cut into chunks of SP_CHUNK_TOKENS, and a chunk's number of rows chooses its path
 * (net_pack.h). No bit depends on which sequences are computed together. Next-token logits take the
 * matrix-vector path always, as head --sample does.
 *
 * When a call fails, the sequences given to it may have read a part; they can only be freed.
 */
#ifndef SP_LM_H
#define SP_LM_H

#include "statepipe.h"

struct sp_lm;
struct sp_lm_seq;

struct sp_lm_options {
    const char *model; /* -m; NULL: $STATEPIPE_MODEL, else the shipped model */
    const char *head;  /* a language model's; NULL: the default head, else the first that is one */
    /* Else a tag head that finds answers will do (sp_head_finds_answers), else the model in this
     * one's folder `fill`. */
    bool or_answers;
    const char *device;  /* "auto", ... */
    int n_thread;        /* 0: all cores */
    enum sp_dtype dtype; /* of products: SP_F32 or SP_BF16 */
};

/* SP_E_USAGE for a model without such a head. */
enum sp_code sp_lm_open(struct sp_lm **lm, const struct sp_lm_options *options,
                        struct sp_error *err);
void sp_lm_free(struct sp_lm *lm); /* NULL is fine */
/* What runs, for -v. */
void sp_lm_describe(struct sp_lm *lm, char *out, size_t size);

const struct sp_model *sp_lm_model(const struct sp_lm *lm);
const struct sp_tokenizer *sp_lm_tokenizer(const struct sp_lm *lm);
const struct sp_head *sp_lm_head(const struct sp_lm *lm);
int64_t sp_lm_vocab(const struct sp_lm *lm); /* columns of logits: the vocabulary as padded */
int64_t sp_lm_eos(const struct sp_lm *lm);   /* the id that ends a text; -1: none */
/* Ids below sp_lm_vocab that stand for no text (padding of the vocabulary), in order: no search
 * may choose them. Borrowed. */
const uint32_t *sp_lm_textless(const struct sp_lm *lm, size_t *n);

/* Appends the ids of a text as tokenize --open makes them: invalid UTF-8 becomes U+FFFD, and with
 * `frame` the tokens that the post-processor puts before a document (a bos, say) are in front.
 * Spans are bytes of the text after that replacement. */
enum sp_code sp_lm_encode(const struct sp_lm *lm, const char *text, size_t n, bool frame,
                          struct sp_tokens *out, struct sp_error *err);

/* ---- sequences ------------------------------------------------------------------------------ */

/* Nothing read: no memory for a state is taken before the first token. */
enum sp_code sp_lm_seq_new(struct sp_lm *lm, struct sp_lm_seq **seq, struct sp_error *err);
/* Goes on from a state, which is copied. SP_E_DATA where it does not belong to the model or its
 * tokenizer, or lacks layers. */
enum sp_code sp_lm_seq_load(struct sp_lm *lm, const struct sp_state *s, struct sp_lm_seq **seq,
                            struct sp_error *err);
/* A new state, the caller's: of all layers, with the last hidden vector. */
enum sp_code sp_lm_seq_store(struct sp_lm *lm, const struct sp_lm_seq *seq, struct sp_state **s,
                             struct sp_error *err);
/* Another sequence that has read the same, in time that does not depend on how much that is. */
enum sp_code sp_lm_seq_fork(struct sp_lm *lm, const struct sp_lm_seq *seq, struct sp_lm_seq **fork,
                            struct sp_error *err);
void sp_lm_seq_free(struct sp_lm *lm, struct sp_lm_seq *seq); /* NULL is fine */

uint64_t sp_lm_seq_n_tok(const struct sp_lm_seq *seq);
/* Can it predict a token: something was read, or its state came with the last hidden vector. */
bool sp_lm_seq_ready(const struct sp_lm_seq *seq);
/* The last token's id, and the hash of all (sp_state_hash_ids). id is read only when ready. */
uint32_t sp_lm_seq_last_id(const struct sp_lm_seq *seq);
const struct sp_hash *sp_lm_seq_prefix(const struct sp_lm_seq *seq);

/* ---- computing: n_seq distinct sequences in as few batches as there can be --------------------
 */

/* Each seq[i] reads the n[i] tokens at id[i], in chunks. SP_E_DATA for an id that is not the
 * model's (before anything is read), or where the layers give NaN or infinity. */
enum sp_code sp_lm_read(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *const *id,
                        const size_t *n, size_t n_seq, struct sp_error *err);
/* Decoding: each seq[i] reads one token, id[i]. */
enum sp_code sp_lm_step(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *id,
                        size_t n_seq, struct sp_error *err);
/* logits (n_seq, sp_lm_vocab): of each sequence's next token. SP_E_USAGE where one is not ready,
 * SP_E_DATA for NaN or infinity. */
enum sp_code sp_lm_logits(struct sp_lm *lm, const struct sp_lm_seq *const *seq, size_t n_seq,
                          float *logits, struct sp_error *err);
/* logprob[i]: natural logarithm of the probability of the n[i] tokens at id[i] behind seq[i], which
 * is left as it was (the same sequence may stand in several places). 0 for no tokens. The sum of
 * what head --score writes for the document's continuation. */
enum sp_code sp_lm_score(struct sp_lm *lm, const struct sp_lm_seq *const *seq,
                         const uint32_t *const *id, const size_t *n, size_t n_seq, double *logprob,
                         struct sp_error *err);
/* For a tag head: the n[i] tokens at id[i], which seq[i] reads, and the head's scores of each:
 * scores[i] (n[i], n_label). */
enum sp_code sp_lm_tag(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *const *id,
                       const size_t *n, size_t n_seq, float *const *scores, struct sp_error *err);

#endif
