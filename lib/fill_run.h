/* Questions as they come: asked in batches, answered in their order, with the errors of each.
 *
 * A run owns the questions that it holds, and what was given to them to own.
 */
#ifndef SP_FILL_RUN_H
#define SP_FILL_RUN_H

#include "fill.h"

struct sp_fill_run {
    struct sp_lm *lm;
    struct sp_fill *fill;
    FILE *out;
    enum sp_fill_format format;
    bool with_id, with_query; /* in lines of text */
    /* (n_doc) of questions without a document of their own, where the model finds answers in one.
     * Borrowed; NULL: none. */
    const char *doc;
    size_t n_doc;
    /* A question that failed: its id (NULL where the message names a file), and why. */
    void (*report)(const char *id, const struct sp_error *why);
    uint64_t n_asked, n_failed;
    enum sp_code failed_code; /* of the last that failed */
    struct sp_fill_ask_item *item;
    size_t n, cap;
};

/* Of one question: the text, and what was read before it: a sequence, or a document that is read
 * when the question is asked, or nothing. */
struct sp_fill_ask_item {
    char *id;
    struct sp_fill_text *text;
    struct sp_lm_seq *context;
    char *doc; /* (n_doc) */
    size_t n_doc;
    bool owns_text, owns_context; /* the run frees them */
};
/* Takes over the item's id and doc and what it says, also on failure. Asks when a batch is full. */
enum sp_code sp_fill_run_add(struct sp_fill_run *r, const struct sp_fill_ask_item *item,
                             struct sp_error *err);
/* The same with a text that is made here (n bytes); id is copied, and item has none. */
enum sp_code sp_fill_run_ask(struct sp_fill_run *r, const char *id, const char *text, size_t n,
                             const struct sp_fill_ask_item *item, struct sp_error *err);
/* Lines {"id", "doc", "query"} of a descriptor, to its end; without "doc" the context is what was
 * read before (may be NULL, is borrowed), without "id" the line's number is the id. Before a read
 * would block, all that came is asked. name is for messages. */
enum sp_code sp_fill_run_jsonl(struct sp_fill_run *r, int fd, const char *name,
                               struct sp_lm_seq *context, struct sp_error *err);
/* A question that could not be made; id NULL as above. SP_OK, or an error that is the whole run's.
 */
enum sp_code sp_fill_run_fail(struct sp_fill_run *r, const char *id, const struct sp_error *why,
                              struct sp_error *err);
/* Asks what it holds and writes the answers. */
enum sp_code sp_fill_run_flush(struct sp_fill_run *r, struct sp_error *err);
void sp_fill_run_clear(struct sp_fill_run *r);

#endif
