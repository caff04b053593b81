/* Slots by a tag head: the question is read, then the document, and a stretch of it is the answer.
 */
#include "fill_internal.h"
#include "mark.h"
#include "records_write.h"
#include "task.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

static const char no_answer[] = "unknown";
/* Comes first where it is at least so likely: with less, the best stretch is right more often than
 * this is (of synthetic questions about held-out CVs, one in seven of which has no answer). */
#define NO_ANSWER_P 0.7

/* A question with its document as the model reads them. */
struct reading {
    char *text;         /* (n_text), valid UTF-8 */
    size_t n_text, doc; /* where the document begins */
    struct sp_tokens tokens;
    size_t n_tok;  /* without the padding */
    float *scores; /* (tokens.n, n_label) */
    bool *joined;  /* (n_tok) */
};

static void reading_clear(struct reading *r) {
    free(r->text);
    free(r->scores);
    free(r->joined);
    sp_tokens_clear(&r->tokens);
}

static char *put(char *at, const char *text, size_t n) {
    memcpy(at, text, n);
    return at + n;
}

/* The model's template with both put in; by default the question is a line above the document. */
static enum sp_code expand(struct reading *r, const char *template, const char *query,
                           const char *doc, size_t n_doc, struct sp_error *err) {
    static const char query_field[] = "{query}", doc_field[] = "{doc}", marked[] = "{marked_doc}";
    if (!template[0]) template = "{query}\n{doc}";
    const char *q = strstr(template, query_field), *d = strstr(template, marked);
    char *doc_marked = NULL, *text = NULL;
    size_t n_field = d ? strlen(marked) : strlen(doc_field), n_whole;
    if (d) doc = doc_marked = sp_mark_words(query, strlen(query), doc, n_doc, &n_doc, NULL, NULL);
    if (!d) d = strstr(template, doc_field);
    if (doc) text = malloc(strlen(template) + strlen(query) + n_doc + 1);
    if (text) {
        char *at = put(text, template, (size_t)(q - template));
        at = put(at, query, strlen(query));
        q += strlen(query_field);
        at = put(at, q, (size_t)(d - q));
        r->doc = (size_t)(at - text);
        at = put(at, doc, n_doc);
        d += n_field;
        at = put(at, d, strlen(d));
        r->text = sp_utf8_repair(text, (size_t)(at - text), &n_whole);
        r->n_text = n_whole;
    }
    free(doc_marked);
    free(text);
    return r->text ? SP_OK : sp_error_memory(err, "a document");
}

/* Behind the text stand as many padding tokens as the tags come late. */
static enum sp_code pad(struct reading *r, const struct sp_lm *lm, struct sp_error *err) {
    size_t n = r->tokens.n + sp_model_config(sp_lm_model(lm))->delay;
    uint32_t *id = realloc(r->tokens.id, (n + 1) * sizeof *id);
    if (!id) return sp_error_memory(err, "a document");
    r->tokens.id = id;
    r->n_tok = r->tokens.n;
    for (size_t i = r->n_tok; i < n; i++)
        id[i] = sp_tokenizer_pad(sp_lm_tokenizer(lm), sp_lm_eos(lm));
    r->tokens.n = n;
    return SP_OK;
}

static enum sp_code read_question(const struct sp_fill *f, const struct sp_fill_question *q,
                                  struct reading *r, struct sp_error *err) {
    const struct sp_config *c = sp_model_config(sp_lm_model(f->lm));
    enum sp_code code = q->doc ? sp_fill_doc_check(f, q->doc, q->n_doc, err)
                               : sp_error_set(err, SP_E_DATA,
                                              "no document: this model finds answers in one; give "
                                              "--doc FILE, or \"doc\" in the line");
    if (!code) code = expand(r, c->fill_template, q->text->string, q->doc, q->n_doc, err);
    if (!code) code = sp_lm_encode(f->lm, r->text, r->n_text, true, &r->tokens, err);
    if (!code) code = pad(r, f->lm, err);
    if (code) return code;
    r->scores = calloc(r->tokens.n * sp_lm_head(f->lm)->n_label + 1, sizeof *r->scores);
    r->joined = calloc(r->n_tok + 1, sizeof *r->joined);
    if (!r->scores || !r->joined) return sp_error_memory(err, "a document");
    sp_words_join(r->tokens.span, r->n_tok, r->text, r->n_text, r->joined);
    return SP_OK;
}

static enum sp_code add(struct sp_fill_answers *out, const char *text, size_t n, double p,
                        struct sp_error *err) {
    struct sp_fill_answer *a = &out->item[out->n++];
    a->p = p;
    a->text = calloc(1, sizeof *a->text);
    char *bare = malloc(n + 1), *shown = malloc(SP_UTF8_MAX * n + 1);
    size_t n_bare = 0;
    for (size_t i = 0; bare && i < n; i++)
        if (text[i] != SP_MARK) bare[n_bare++] = text[i];
    bool ok = a->text && bare && shown;
    if (ok) {
        shown[sp_text_clean(shown, bare, n_bare)] = 0;
        a->text[0] = shown;
    } else {
        free(shown);
    }
    free(bare);
    return ok ? SP_OK : sp_error_memory(err, "answers");
}

/* The best stretches, and that there is none in its place among them, or second. */
static enum sp_code answer(const struct sp_fill *f, const struct reading *r,
                           struct sp_fill_answers *out, struct sp_error *err) {
    const struct sp_head *head = sp_lm_head(f->lm);
    const size_t late = (r->tokens.n - r->n_tok) * head->n_label;
    struct sp_answer_text text = {
        .bytes = r->text, .n_bytes = r->n_text, .span = r->tokens.span, .joined = r->joined};
    struct sp_answers found;
    while (text.from < r->n_tok && r->tokens.span[2 * text.from] < r->doc) text.from++;
    enum sp_code code = sp_answers_from_scores(head, r->scores + late, r->n_tok, &text,
                                               f->o.max_tokens, &found, err);
    if (code) return code;
    *out = (struct sp_fill_answers){.n_slot = 1};
    out->item = calloc(f->o.n_best + 1, sizeof *out->item);
    if (!out->item) code = sp_error_memory(err, "answers");
    bool told = false;
    for (size_t i = 0; !code && out->n < f->o.n_best && (i < found.n || !told);) {
        bool may_tell = i > 0 || found.p_none >= NO_ANSWER_P || found.n == 0;
        if (!told && may_tell && (i == found.n || found.p_none > found.item[i].p)) {
            told = true;
            code = add(out, no_answer, strlen(no_answer), found.p_none, err);
        } else {
            const struct sp_answer *a = &found.item[i++];
            code = add(out, r->text + a->start, (size_t)(a->end - a->start), a->p, err);
        }
    }
    sp_answers_clear(&found);
    return code;
}

/* Every pass of every document, the last with scores. */
static enum sp_code score(struct sp_fill *f, struct reading *r, size_t n, struct sp_error *err) {
    struct sp_lm_seq **seq = calloc(n, sizeof *seq);
    const uint32_t **id = calloc(n, sizeof *id);
    size_t *n_id = calloc(n, sizeof *n_id);
    float **scores = calloc(n, sizeof *scores);
    enum sp_code code = seq && id && n_id && scores ? SP_OK : sp_error_memory(err, "documents");
    for (size_t i = 0; !code && i < n; i++) {
        code = sp_lm_seq_new(f->lm, &seq[i], err);
        id[i] = r[i].tokens.id;
        n_id[i] = r[i].n_tok;
        scores[i] = r[i].scores;
    }
    for (uint32_t pass = 1; !code && pass < sp_model_config(sp_lm_model(f->lm))->passes; pass++)
        code = sp_lm_read(f->lm, seq, id, n_id, n, err);
    for (size_t i = 0; !code && i < n; i++) n_id[i] = r[i].tokens.n;
    if (!code) code = sp_lm_tag(f->lm, seq, id, n_id, n, scores, err);
    for (size_t i = 0; seq && i < n; i++) sp_lm_seq_free(f->lm, seq[i]);
    free(seq);
    free(id);
    free(n_id);
    free(scores);
    return code;
}

/* In a document without a word there is no answer, whatever a model says. */
static bool is_blank(const struct sp_fill_question *q) {
    const char *start = q->doc;
    return q->doc && sp_fill_trim(&start, q->n_doc) == 0;
}

static enum sp_code answer_none(struct sp_fill_answers *out, struct sp_error *err) {
    *out = (struct sp_fill_answers){.n_slot = 1, .item = calloc(1, sizeof *out->item)};
    if (!out->item) return sp_error_memory(err, "answers");
    return add(out, no_answer, strlen(no_answer), 1, err);
}

enum sp_code sp_fill_find(struct sp_fill *f, const struct sp_fill_question *q, size_t n,
                          struct sp_fill_answers *out, struct sp_error *err) {
    struct reading *r = calloc(n, sizeof *r);
    size_t n_read = 0, at = 0;
    enum sp_code code = r ? SP_OK : sp_error_memory(err, "questions");
    for (size_t i = 0; !code && i < n; i++)
        if (!is_blank(&q[i])) code = read_question(f, &q[i], &r[n_read++], err);
    if (!code && n_read > 0) code = score(f, r, n_read, err);
    for (size_t i = 0; !code && i < n; i++)
        code = is_blank(&q[i]) ? answer_none(&out[i], err) : answer(f, &r[at++], &out[i], err);
    for (size_t i = 0; code && i < n; i++) sp_fill_answers_clear(&out[i]);
    for (size_t i = 0; r && i < n; i++) reading_clear(&r[i]);
    free(r);
    return code;
}
