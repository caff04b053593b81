/* Masked slots: what stands where a text says ?__, by a language model (lm.h), or by a tag head
 * that finds the answer in a document.
 *
 * Words before a slot are read, by the state. Candidates come from a beam search (beam.h) behind
 * them, or are choices of the caller's. Words behind a slot weigh them: each candidate is read with
 * the words that follow it, from a fork of the state. Several slots are filled from left to right,
 * several fillings of the slots so far being kept at each.
 *
 * struct sp_fill borrows the language model and owns its tables; texts and answers are the
 * caller's, and go before it. Answers do not depend on which questions are asked together.
 */
#ifndef SP_FILL_H
#define SP_FILL_H

#include "lm.h"
#include <stdio.h>

#define SP_FILL_SLOTS_MAX 16
#define SP_FILL_WIDTH_MAX 256
#define SP_FILL_TOKENS_MAX 512
#define SP_FILL_QUERY_BYTES_MAX ((size_t)1 << 20)

/* What may stand in a slot, where the caller knows. */
struct sp_fill_choices {
    size_t n;
    char **item; /* (n), none of them blank */
};
/* Splits at commas; "\," is a comma, "\\" a backslash; white space around choices goes. SP_E_USAGE
 * for a choice without text. */
enum sp_code sp_fill_choices_parse(struct sp_fill_choices *c, const char *text,
                                   struct sp_error *err);
void sp_fill_choices_clear(struct sp_fill_choices *c);

struct sp_fill_options {
    size_t n_best;     /* answers wanted */
    size_t width;      /* of the beam; also fillings kept between two slots; n_best at least */
    size_t max_tokens; /* of an answer */
    const char *until; /* ASCII characters before which an answer ends, besides control characters;
                          NULL: none. Borrowed */
    /* Choices of each slot; fewer than slots: the last of them serve the rest; none: search. */
    size_t n_choices;
    const struct sp_fill_choices *choices;
};

struct sp_fill;
/* SP_E_USAGE for options that make no sense. */
enum sp_code sp_fill_new(struct sp_fill **f, struct sp_lm *lm, const struct sp_fill_options *o,
                         struct sp_error *err);
void sp_fill_free(struct sp_fill *f); /* NULL is fine */
/* The model finds answers in documents that it reads behind the question: questions have a doc and
 * no context, one slot, and no choices. An answer that no document has is "unknown". */
bool sp_fill_finds(const struct sp_fill *f);
/* How many questions are well asked together: what their states take stays within bounds. */
size_t sp_fill_batch(const struct sp_fill *f);

/* ---- questions ------------------------------------------------------------------------------ */

/* A text with its slots, put into the model's fill_template, encoded once for all its contexts. */
struct sp_fill_text;
/* alone: nothing has been read before it. SP_E_DATA for a text without a slot, with too many, with
 * nothing between two of them, or that is no text; or where nothing would stand before the first.
 */
enum sp_code sp_fill_text_new(struct sp_fill_text **t, const struct sp_fill *f, const char *text,
                              size_t n, bool alone, struct sp_error *err);
void sp_fill_text_free(struct sp_fill_text *t);

/* Sequences that have read the documents, each as often as the model asks for: texts (n) of
 * n_text[i] bytes. A document that does not end a line is given an end of line, unless the model
 * has a fill_template. SP_E_DATA where one is empty or no text. On failure they are NULL. */
enum sp_code sp_fill_read(struct sp_fill *f, const char *const *text, const size_t *n_text,
                          size_t n, struct sp_lm_seq **seq, struct sp_error *err);

struct sp_fill_question {
    const struct sp_fill_text *text;
    const struct sp_lm_seq *context; /* what was read before; NULL: nothing. Left as it is */
    const char *doc;                 /* (n_doc) for a model that finds: the document */
    size_t n_doc;
};

struct sp_fill_answer {
    double p;    /* what it means is in fill(1) */
    char **text; /* (n_slot): valid UTF-8, without white space around it */
};
struct sp_fill_answers {
    size_t n, n_slot;
    struct sp_fill_answer *item; /* (n), best first */
};
void sp_fill_answers_clear(struct sp_fill_answers *a);

/* out (n). On failure there is nothing to clear. */
enum sp_code sp_fill_ask(struct sp_fill *f, const struct sp_fill_question *q, size_t n,
                         struct sp_fill_answers *out, struct sp_error *err);

/* ---- output --------------------------------------------------------------------------------- */

/* TEXT: a line per answer, [id TAB] [query TAB] p TAB answer [TAB answer of the next slot]...;
 * JSONL: a line per question; FILLED: the text with its best answers in it. */
enum sp_fill_format { SP_FILL_AS_TEXT, SP_FILL_AS_JSONL, SP_FILL_AS_FILLED };
struct sp_fill_layout {
    enum sp_fill_format format;
    bool with_id, with_query; /* of TEXT */
};
/* SP_E_DEVICE when out of memory; f keeps errors of writing. */
enum sp_code sp_fill_write(FILE *f, const struct sp_fill_layout *layout, const char *id,
                           const struct sp_fill_text *t, const struct sp_fill_answers *a,
                           struct sp_error *err);

#endif
