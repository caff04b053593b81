/* Masked slots: opening, and one slot after another of all questions that are asked together. */
#include "fill_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BYTES ((size_t)256 << 20) /* of states of the hypotheses of a batch */
#define BATCH_MAX 64

/* ---- opening -------------------------------------------------------------------------------- */

enum sp_code sp_fill_new(struct sp_fill **out, struct sp_lm *lm, const struct sp_fill_options *o,
                         struct sp_error *err) {
    *out = NULL;
    if (o->n_best < 1 || o->width < o->n_best || o->width > SP_FILL_WIDTH_MAX ||
        o->max_tokens < 1 || o->max_tokens > SP_FILL_TOKENS_MAX)
        return sp_error_set(err, SP_E_USAGE,
                            "at most %d hypotheses, as many as answers at least, of 1 to %d tokens",
                            SP_FILL_WIDTH_MAX, SP_FILL_TOKENS_MAX);
    struct sp_fill *f = calloc(1, sizeof *f);
    if (!f) return sp_error_memory(err, "slots");
    f->lm = lm;
    f->o = *o;
    f->finds = sp_lm_head(lm)->type == SP_HEAD_TAG;
    enum sp_code code = SP_OK;
    const char *template = sp_model_config(sp_lm_model(lm))->fill_template;
    if (template[0] && f->finds == (strncmp(template, "{doc}", 5) == 0))
        code = sp_error_set(err, SP_E_DATA,
                            "%.300s: \"fill_template\" is not one of a head '%s': its {query} "
                            "stands %s the {doc}",
                            sp_model_dir(sp_lm_model(lm)), sp_lm_head(lm)->name,
                            f->finds ? "behind" : "before");
    else if (!f->finds)
        code = sp_fill_vocab_init(&f->vocab, lm, o->until, err);
    else if (o->n_choices > 0 || o->until)
        code = sp_error_set(err, SP_E_USAGE,
                            "%.300s finds answers in documents: --choices and --until need a "
                            "language model",
                            sp_model_dir(sp_lm_model(lm)));
    if (code) {
        sp_fill_free(f);
        return code;
    }
    *out = f;
    return SP_OK;
}

void sp_fill_free(struct sp_fill *f) {
    if (f) sp_fill_vocab_clear(&f->vocab);
    free(f);
}

bool sp_fill_finds(const struct sp_fill *f) {
    return f->finds;
}

size_t sp_fill_batch(const struct sp_fill *f) {
    const struct sp_config *c = sp_model_config(sp_lm_model(f->lm));
    size_t state = (size_t)(c->n_layer * c->d_inner * (c->d_state + c->d_conv)) * sizeof(float);
    size_t n = BATCH_BYTES / (state * f->o.width);
    return n < 1 ? 1 : n > BATCH_MAX ? BATCH_MAX : n;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static void path_clear(struct sp_fill *f, struct sp_fill_path *p) {
    for (size_t k = 0; k < SP_FILL_SLOTS_MAX; k++) free(p->answer[k]);
    sp_lm_seq_free(f->lm, p->seq);
    *p = (struct sp_fill_path){0};
}

/* Before the first slot of each: one path, which has read what stands there. */
static enum sp_code begin(struct sp_fill_asking *a, struct sp_error *err) {
    size_t n = 0;
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < a->n; i++) {
        const struct sp_fill_question *q = &a->question[i];
        struct sp_fill_path *p = &a->path[i * a->f->o.width];
        code = q->context ? sp_lm_seq_fork(a->f->lm, q->context, &p->seq, err)
                          : sp_lm_seq_new(a->f->lm, &p->seq, err);
        if (code) break;
        a->n_path[i] = 1;
        a->seq[n] = p->seq;
        a->id[n] = q->text->before.id;
        a->n_id[n++] = q->text->before.n;
    }
    return code ? code : sp_lm_read(a->f->lm, a->seq, a->id, a->n_id, n, err);
}

/* ---- from candidates to paths and answers ---------------------------------------------------- */

static bool same_answers(const struct sp_fill_asking *a, const struct sp_fill_candidate *x,
                         const struct sp_fill_candidate *y) {
    if (x->question != y->question) return false;
    const struct sp_fill_path *p = &a->path[x->path], *q = &a->path[y->path];
    for (size_t k = 0; k < a->slot; k++)
        if (strcmp(p->answer[k], q->answer[k]) != 0) return false;
    return strcmp(x->shown, y->shown) == 0;
}

static int by_logprob(const void *a, const void *b) {
    const struct sp_fill_candidate *x = a, *y = b;
    if (x->question != y->question) return x->question < y->question ? -1 : 1;
    if (x->logprob != y->logprob) return x->logprob > y->logprob ? -1 : 1;
    if (x->path != y->path) return x->path < y->path ? -1 : 1;
    return strcmp(x->text, y->text);
}

/* One answer for candidates that differ in white space, or in how they are cut into tokens: the
 * best of them, with the probability of all. Sorted by question and probability. */
static void merge(struct sp_fill_asking *a) {
    size_t kept = 0;
    if (a->n_candidate > 0) qsort(a->candidate, a->n_candidate, sizeof *a->candidate, by_logprob);
    for (size_t i = 0, first = 0; i < a->n_candidate; i++) {
        struct sp_fill_candidate *c = &a->candidate[i];
        if (kept == 0 || a->candidate[kept - 1].question != c->question) first = kept;
        size_t at = first;
        while (at < kept && !same_answers(a, &a->candidate[at], c)) at++;
        if (at < kept) {
            a->candidate[at].logprob = sp_fill_log_add(a->candidate[at].logprob, c->logprob);
            sp_fill_candidate_clear(c);
        } else {
            struct sp_fill_candidate moved = *c;
            a->candidate[kept++] = moved;
        }
    }
    a->n_candidate = kept;
    if (kept > 0) qsort(a->candidate, kept, sizeof *a->candidate, by_logprob);
}

/* The best candidates become the paths to the next slot, and read up to there. */
static enum sp_code advance(struct sp_fill_asking *a, struct sp_error *err) {
    const size_t width = a->f->o.width, n_path = a->n * width;
    struct sp_fill_path *next = calloc(n_path, sizeof *next);
    enum sp_code code = next ? SP_OK : sp_error_memory(err, "hypotheses");
    size_t n = 0;
    memset(a->n_path, 0, a->n * sizeof *a->n_path);
    for (size_t i = 0; !code && i < a->n_candidate; i++) {
        const struct sp_fill_candidate *c = &a->candidate[i];
        bool last = a->slot + 1 == a->question[c->question].text->n_slot;
        if (last || a->n_path[c->question] == width) continue;
        const struct sp_fill_path *from = &a->path[c->path];
        struct sp_fill_path *p = &next[c->question * width + a->n_path[c->question]++];
        code = sp_lm_seq_fork(a->f->lm, from->seq, &p->seq, err);
        p->logprob = c->logprob;
        for (size_t k = 0; k < a->slot && !code; k++)
            if (!(p->answer[k] = strdup(from->answer[k]))) code = sp_error_memory(err, "answers");
        if (!code && !(p->answer[a->slot] = strdup(c->shown)))
            code = sp_error_memory(err, "answers");
        if (code) break;
        a->seq[n] = p->seq;
        a->id[n] = c->tokens.id;
        a->n_id[n++] = c->tokens.n;
    }
    for (size_t i = 0; i < n_path; i++) path_clear(a->f, &a->path[i]);
    if (next) memcpy(a->path, next, n_path * sizeof *next);
    free(next);
    return code ? code : sp_lm_read(a->f->lm, a->seq, a->id, a->n_id, n, err);
}

/* The answers of question i, whose candidates are [from, to). Where nothing follows its one slot,
 * logprob is the probability itself; else the candidates share 1 among them. */
static enum sp_code answer(struct sp_fill_asking *a, size_t i, size_t from, size_t to,
                           struct sp_fill_answers *out, struct sp_error *err) {
    const struct sp_fill_text *t = a->question[i].text;
    bool whole = t->n_slot == 1 && t->slot[0].mode == SP_FILL_OPEN && a->f->o.n_choices == 0;
    double log_sum = whole ? 0 : -INFINITY;
    for (size_t c = from; !whole && c < to; c++)
        log_sum = sp_fill_log_add(log_sum, a->candidate[c].logprob);
    size_t n = to - from < a->f->o.n_best ? to - from : a->f->o.n_best;
    *out = (struct sp_fill_answers){.n_slot = t->n_slot};
    out->item = calloc(n + 1, sizeof *out->item);
    if (!out->item) return sp_error_memory(err, "answers");
    for (; out->n < n; out->n++) {
        const struct sp_fill_candidate *c = &a->candidate[from + out->n];
        struct sp_fill_answer *to_fill = &out->item[out->n];
        double p = exp(c->logprob - log_sum);
        to_fill->p = p > 1 ? 1 : p;
        to_fill->text = calloc(t->n_slot, sizeof *to_fill->text);
        bool ok = to_fill->text;
        for (size_t k = 0; ok && k < t->n_slot; k++) {
            char *text = strdup(k < a->slot ? a->path[c->path].answer[k] : c->shown);
            to_fill->text[k] = text;
            ok = text;
        }
        if (ok) continue;
        out->n++;
        return sp_error_memory(err, "answers");
    }
    return SP_OK;
}

/* ---- asking -----------------------------------------------------------------------------------
 */

void sp_fill_answers_clear(struct sp_fill_answers *a) {
    for (size_t i = 0; i < a->n; i++) {
        for (size_t k = 0; a->item[i].text && k < a->n_slot; k++) free(a->item[i].text[k]);
        free(a->item[i].text);
    }
    free(a->item);
    *a = (struct sp_fill_answers){0};
}

static void clear_candidates(struct sp_fill_asking *a) {
    for (size_t i = 0; i < a->n_candidate; i++) sp_fill_candidate_clear(&a->candidate[i]);
    a->n_candidate = 0;
}

/* The slot a->slot of every question that has one. */
static enum sp_code fill_slot(struct sp_fill_asking *a, struct sp_fill_answers *out,
                              struct sp_error *err) {
    enum sp_code code = sp_fill_propose(a, err);
    if (!code) code = sp_fill_weigh(a, err);
    if (code) return code;
    merge(a);
    for (size_t from = 0, to; !code && from < a->n_candidate; from = to) {
        size_t i = a->candidate[from].question;
        for (to = from; to < a->n_candidate && a->candidate[to].question == i;) to++;
        if (a->slot + 1 == a->question[i].text->n_slot) code = answer(a, i, from, to, &out[i], err);
    }
    return code ? code : advance(a, err);
}

static enum sp_code alloc_asking(struct sp_fill_asking *a, struct sp_error *err) {
    const size_t n = a->n * a->f->o.width;
    a->path = calloc(n, sizeof *a->path);
    a->n_path = calloc(a->n, sizeof *a->n_path);
    a->seq = calloc(n, sizeof *a->seq);
    a->id = calloc(n, sizeof *a->id);
    a->n_id = calloc(n, sizeof *a->n_id);
    return a->path && a->n_path && a->seq && a->id && a->n_id ? SP_OK
                                                              : sp_error_memory(err, "questions");
}

enum sp_code sp_fill_ask(struct sp_fill *f, const struct sp_fill_question *q, size_t n,
                         struct sp_fill_answers *out, struct sp_error *err) {
    struct sp_fill_asking a = {.f = f, .question = q, .n = n};
    size_t n_slot = 0;
    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        out[i].n_slot = q[i].text->n_slot;
        if (q[i].text->n_slot > n_slot) n_slot = q[i].text->n_slot;
    }
    if (n == 0) return SP_OK;
    if (f->finds) return sp_fill_find(f, q, n, out, err);
    enum sp_code code = alloc_asking(&a, err);
    if (!code) code = begin(&a, err);
    for (a.slot = 0; !code && a.slot < n_slot; a.slot++) {
        code = fill_slot(&a, out, err);
        clear_candidates(&a);
    }
    clear_candidates(&a);
    for (size_t i = 0; a.path && i < n * f->o.width; i++) path_clear(f, &a.path[i]);
    for (size_t i = 0; code && i < n; i++) sp_fill_answers_clear(&out[i]);
    free(a.path);
    free(a.n_path);
    free(a.seq);
    free(a.id);
    free(a.n_id);
    free(a.candidate);
    return code;
}
