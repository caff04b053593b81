/* Tokens to text, as they come: what may be written already, and where a stop string ends it.
 *
 * A sp_token_out owns its bytes and borrows tokenizer and stop strings. Bytes that may be written
 * are whole UTF-8 (what is invalid whatever follows stays as it is) and cannot become part of a
 * stop string.
 */
#ifndef SP_TOKEN_OUT_H
#define SP_TOKEN_OUT_H

#include "statepipe.h"

/* What a token adds to a text: *n bytes at *s, after a blank where *blank says so (WordPiece; at
 * the start of a text, and before what BERT's decoder joins, there is none). False for an id that
 * is not in the vocabulary. */
bool sp_token_text(const struct sp_tokenizer *tok, uint32_t id, bool at_start, const char **s,
                   size_t *n, bool *blank);

/* Ids below n_vocab, a model's, that stand for no text: *n of them, malloc'ed. */
enum sp_code sp_token_textless(const struct sp_tokenizer *tok, int64_t n_vocab, uint32_t **id,
                               size_t *n, struct sp_error *err);

/* Starts with zeros and the first three set. */
struct sp_token_out {
    const struct sp_tokenizer *tok;
    const char *const *stop; /* (n_stop), none of them empty */
    size_t n_stop;
    char *bytes;
    size_t n, cap;
    size_t n_ready; /* of them may be written */
    bool stopped;   /* a stop string came: bytes end before it, and nothing more is taken */
};

/* A token that goes on with a text. Ids that are not in the vocabulary add nothing. */
enum sp_code sp_token_out_add(struct sp_token_out *t, uint32_t id, struct sp_error *err);
/* Nothing more will come: all bytes are ready. */
void sp_token_out_end(struct sp_token_out *t);
/* The first n bytes, which were ready, have been written. */
void sp_token_out_drop(struct sp_token_out *t, size_t n);
void sp_token_out_clear(struct sp_token_out *t);

#endif
