/* Documents to a stream of tokens: bytes go in as they come, DOC, TEXT, CHUNK and DOCEND records
 * come out. What is written depends on the bytes only, not on how they were portioned. A stream
 * borrows its tokenizer and its writer; it holds the text that no safe boundary has been seen
 * behind, a chunk of tokens, and (with several passes) the tokens of one document. */
#ifndef SP_TOKEN_STREAM_H
#define SP_TOKEN_STREAM_H

#include "statepipe.h"

#define SP_CHUNK_TOKENS 256
#define SP_CHUNK_TOKENS_MAX 65536

struct sp_token_stream;

struct sp_token_stream_options {
    size_t chunk;         /* tokens */
    uint32_t passes;      /* >= 1 */
    uint32_t pad, pad_id; /* padding tokens behind the last pass */
    bool frame;           /* put the post-processor's tokens around each document */
    int64_t begin_id;     /* what stands for an empty text with choices; -1: nothing */
    bool refuse_invalid;  /* invalid UTF-8 fails the document; else it becomes U+FFFD */
    bool marked;          /* DOC says that the state before byte `mark` is worth keeping */
    uint64_t mark;
    size_t max_doc; /* bytes of a document that has to be held (passes > 1) */
};

enum sp_code sp_token_stream_new(struct sp_token_stream **s, const struct sp_tokenizer *tok,
                                 struct sp_writer *w, const struct sp_token_stream_options *o,
                                 struct sp_error *err);
void sp_token_stream_free(struct sp_token_stream *s);

/* Writes doc (id and what else is known; `doc` and `pad` are set here), takes it over, and opens
 * the document. */
enum sp_code sp_token_stream_begin(struct sp_token_stream *s, struct sp_record *doc,
                                   struct sp_error *err);
/* SP_E_DATA fails the document: see sp_token_stream_fail. */
enum sp_code sp_token_stream_feed(struct sp_token_stream *s, const char *bytes, size_t n,
                                  struct sp_error *err);
/* The open document has no text and its choices need something to go on from: where no frame is
 * there, puts begin_id, as evaluation harnesses do. */
enum sp_code sp_token_stream_begin_empty(struct sp_token_stream *s, struct sp_error *err);
/* Encodes the rest and writes DOCEND; open: the document may be continued, so nothing is put behind
 * it, and DOCEND says so. */
enum sp_code sp_token_stream_end(struct sp_token_stream *s, bool open, struct sp_error *err);
/* One of the ways in which the document that has just ended open may go on (DOC with cont, choice,
 * and fork but for the last). Its tokens are those of both texts together, without as many as the
 * first has alone: what evaluation harnesses take for a continuation's. Its text is written alone.
 */
struct sp_token_choice {
    const char *text; /* (n_text) bytes: of that document */
    size_t n_text;
    const char *choice; /* (n_choice) bytes */
    size_t n_choice, index;
    bool last;
};
enum sp_code sp_token_stream_choice(struct sp_token_stream *s, const struct sp_token_choice *c,
                                    struct sp_error *err);
/* The open document ends with an ERR that says why. */
enum sp_code sp_token_stream_fail(struct sp_token_stream *s, const struct sp_error *why,
                                  struct sp_error *err);

/* Invalid sequences of the document so far: how many, and the byte offset of the first. */
uint64_t sp_token_stream_invalid(const struct sp_token_stream *s, uint64_t *first);
/* Documents begun, those that failed, and those that ended open. */
void sp_token_stream_count(const struct sp_token_stream *s, uint64_t *n_doc, uint64_t *n_error,
                           uint64_t *n_open);

#endif
