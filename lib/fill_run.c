/* Questions as they come. */
#include "fill_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void item_clear(struct sp_fill_run *r, struct sp_fill_ask_item *item) {
    free(item->id);
    free(item->doc);
    if (item->owns_text) sp_fill_text_free(item->text);
    if (item->owns_context) sp_lm_seq_free(r->lm, item->context);
    *item = (struct sp_fill_ask_item){0};
}

enum sp_code sp_fill_run_fail(struct sp_fill_run *r, const char *id, const struct sp_error *why,
                              struct sp_error *err) {
    r->n_asked++;
    r->n_failed++;
    r->failed_code = why->code;
    *err = *why;
    /* What is out of memory or broken here is so for all. */
    if (why->code == SP_E_DEVICE || why->code == SP_E_BUG || why->code == SP_E_IO) return why->code;
    r->report(id, why);
    return SP_OK;
}

/* Sequences that have read the documents of items that have one. */
static enum sp_code read_docs(struct sp_fill_run *r, struct sp_fill_ask_item *item, size_t n,
                              struct sp_error *err) {
    const char **text = calloc(n, sizeof *text);
    size_t *n_text = calloc(n, sizeof *n_text), *which = calloc(n, sizeof *which), n_doc = 0;
    struct sp_lm_seq **seq = calloc(n, sizeof *seq);
    enum sp_code code = text && n_text && which && seq ? SP_OK : sp_error_memory(err, "documents");
    for (size_t i = 0; !code && i < n; i++) {
        if (!item[i].doc || item[i].context || sp_fill_finds(r->fill)) continue;
        text[n_doc] = item[i].doc;
        n_text[n_doc] = item[i].n_doc;
        which[n_doc++] = i;
    }
    if (!code && n_doc > 0) code = sp_fill_read(r->fill, text, n_text, n_doc, seq, err);
    for (size_t i = 0; !code && i < n_doc; i++) {
        item[which[i]].context = seq[i];
        item[which[i]].owns_context = true;
    }
    free(text);
    free(n_text);
    free(which);
    free(seq);
    return code;
}

/* Answers to n items, written when all of them are there. */
static enum sp_code ask(struct sp_fill_run *r, struct sp_fill_ask_item *item, size_t n,
                        struct sp_error *err) {
    struct sp_fill_layout layout = {r->format, r->with_id, r->with_query};
    struct sp_fill_question *q = calloc(n, sizeof *q);
    struct sp_fill_answers *a = calloc(n, sizeof *a);
    enum sp_code code = q && a ? read_docs(r, item, n, err) : sp_error_memory(err, "questions");
    for (size_t i = 0; !code && i < n; i++)
        q[i] = (struct sp_fill_question){item[i].text, item[i].context,
                                         item[i].doc ? item[i].doc : r->doc,
                                         item[i].doc ? item[i].n_doc : r->n_doc};
    if (!code) code = sp_fill_ask(r->fill, q, n, a, err);
    for (size_t i = 0; !code && i < n; i++) {
        code = sp_fill_write(r->out, &layout, item[i].id, item[i].text, &a[i], err);
        r->n_asked++;
    }
    for (size_t i = 0; a && i < n; i++) sp_fill_answers_clear(&a[i]);
    free(q);
    free(a);
    return code;
}

enum sp_code sp_fill_run_flush(struct sp_fill_run *r, struct sp_error *err) {
    struct sp_error why;
    enum sp_code code = r->n > 0 ? ask(r, r->item, r->n, &why) : SP_OK;
    bool apart = code != SP_OK; /* one of them fails: each alone tells which */
    code = SP_OK;
    for (size_t i = 0; apart && !code && i < r->n; i++)
        if (ask(r, &r->item[i], 1, &why)) code = sp_fill_run_fail(r, r->item[i].id, &why, err);
    for (size_t i = 0; i < r->n; i++) item_clear(r, &r->item[i]);
    r->n = 0;
    if (!code && fflush(r->out) != 0)
        code = sp_error_set(err, SP_E_IO, "writing standard output: %s", strerror(errno));
    return code;
}

enum sp_code sp_fill_run_add(struct sp_fill_run *r, const struct sp_fill_ask_item *item,
                             struct sp_error *err) {
    struct sp_fill_ask_item taken = *item;
    if (!r->item) {
        r->cap = sp_fill_batch(r->fill);
        r->item = calloc(r->cap, sizeof *r->item);
        if (!r->item) {
            item_clear(r, &taken);
            return sp_error_memory(err, "questions");
        }
    }
    r->item[r->n++] = taken;
    return r->n == r->cap ? sp_fill_run_flush(r, err) : SP_OK;
}

enum sp_code sp_fill_run_ask(struct sp_fill_run *r, const char *id, const char *text, size_t n,
                             const struct sp_fill_ask_item *item, struct sp_error *err) {
    struct sp_fill_ask_item asked = *item;
    struct sp_error why;
    bool alone = !asked.context && !asked.doc;
    if (sp_fill_text_new(&asked.text, r->fill, text, n, alone, &why)) {
        item_clear(r, &asked);
        return sp_fill_run_fail(r, id, &why, err);
    }
    asked.owns_text = true;
    asked.id = strdup(id);
    if (asked.id) return sp_fill_run_add(r, &asked, err);
    item_clear(r, &asked);
    return sp_error_memory(err, "a question");
}

void sp_fill_run_clear(struct sp_fill_run *r) {
    for (size_t i = 0; i < r->n; i++) item_clear(r, &r->item[i]);
    free(r->item);
    r->item = NULL;
    r->n = 0;
}
