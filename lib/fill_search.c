/* What may stand in a slot, and how well it fits. */
#include "fill_search.h"
#include "logits.h"
#include "records_write.h"
#include "utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHED_PER_BEAM 8 /* candidates of a beam that are read with the words that follow */
#define ROWS 64            /* logits are made for so many candidates at a time */

double sp_fill_log_add(double a, double b) {
    double most = a > b ? a : b;
    return most == -INFINITY ? most : most + log1p(exp((a > b ? b : a) - most));
}

static const struct sp_fill_slot *slot_of(const struct sp_fill_asking *a, size_t question) {
    return &a->question[question].text->slot[a->slot];
}

void sp_fill_candidate_clear(struct sp_fill_candidate *c) {
    free(c->text);
    free(c->shown);
    sp_tokens_clear(&c->tokens);
}

/* Adds a candidate of this text (n). A text that its path has already is dropped where it will be
 * read anew (once); where not, the two are different ways to write it. */
static enum sp_code add(struct sp_fill_asking *a, struct sp_fill_candidate c, const char *text,
                        size_t n, bool once, struct sp_error *err) {
    if (a->n_candidate == a->cap_candidate) {
        size_t cap = 2 * a->cap_candidate + 64;
        struct sp_fill_candidate *grown = realloc(a->candidate, cap * sizeof *grown);
        if (!grown) return sp_error_memory(err, "candidates");
        a->candidate = grown;
        a->cap_candidate = cap;
    }
    for (size_t i = a->n_candidate; once && i-- > 0 && a->candidate[i].path == c.path;)
        if (strncmp(a->candidate[i].text, text, n) == 0 && !a->candidate[i].text[n]) return SP_OK;
    c.text = strndup(text, n);
    c.shown = malloc(SP_UTF8_MAX * n + 1);
    a->candidate[a->n_candidate++] = c;
    if (!c.text || !c.shown) return sp_error_memory(err, "candidates");
    c.shown[sp_text_clean(c.shown, text, n)] = 0;
    if (!c.shown[0]) /* nothing that a person would see */
        sp_fill_candidate_clear(&a->candidate[--a->n_candidate]);
    return SP_OK;
}

/* ---- search -----------------------------------------------------------------------------------
 */

/* The paths of a batch that are searched from at once: those of one mode. */
struct searching {
    struct sp_fill_asking *a;
    enum sp_fill_mode mode;
    size_t n;
    const struct sp_lm_seq **start; /* (n) */
    size_t *question, *path;        /* (n) */
    char *text;                     /* of a hypothesis */
    uint8_t *pending;               /* (vocabulary) roles behind a part of what is pending: */
    const char *pending_of;         /* that is left of it */
    uint8_t *changed;               /* the role that is not as in the table, */
    uint8_t was;                    /* and how it is there */
};

/* Tokens that go on with what is pending, or with all of it and more. */
static const uint8_t *follow_pending(struct searching *s, const char *left) {
    const struct sp_fill_vocab *v = &s->a->f->vocab;
    const size_t n = strlen(left);
    if (s->pending_of == left) return s->pending;
    for (size_t id = 0; id < v->n; id++) {
        const struct sp_fill_token *t = &v->token[id];
        s->pending[id] = 0;
        if (!t->text || memcmp(t->text, left, t->n < n ? t->n : n) != 0) continue;
        s->pending[id] = t->n <= n ? SP_BEAM_TEXT
                                   : sp_fill_role(v, s->mode, SP_FILL_BLANK, t->text + n, t->n - n);
    }
    s->pending_of = left;
    return s->pending;
}

static const uint8_t *follow(void *ctx, size_t start, const uint32_t *id, size_t n) {
    struct searching *s = ctx;
    struct sp_fill *f = s->a->f;
    const struct sp_fill_slot *slot = slot_of(s->a, s->question[start]);
    if (s->changed) *s->changed = s->was;
    s->changed = NULL;
    size_t len = 0, n_own = 0; /* tokens beyond what was pending */
    for (size_t i = 0; i < n; i++) {
        len += sp_fill_decode(&f->vocab, id + i, 1, s->text + len);
        n_own += len > slot->n_pending;
    }
    if (len < slot->n_pending) return follow_pending(s, slot->pending + len);
    const char *answer = s->text + slot->n_pending;
    len -= slot->n_pending;
    if (sp_fill_end(&f->vocab, answer, len) < len) return NULL;
    size_t valid = sp_utf8_valid(answer, len);
    if (valid < len && !sp_utf8_incomplete(answer + valid, len - valid)) return f->vocab.none;
    bool unfinished = valid < len || sp_fill_trim(&answer, len) == 0;
    bool last = n_own == f->o.max_tokens;
    if (unfinished) return last ? f->vocab.none : f->vocab.role[s->mode][SP_FILL_BLANK];
    uint8_t *role = f->vocab.role[s->mode][last ? SP_FILL_LAST : SP_FILL_WORDS];
    if (s->mode == SP_FILL_FOLLOWED) {
        s->changed = &role[slot->after_id];
        s->was = *s->changed;
        *s->changed |= SP_BEAM_END;
    }
    return role;
}

/* Each hypothesis of start i becomes a candidate. */
static enum sp_code take(struct searching *s, size_t i, const struct sp_beam_list *l,
                         struct sp_error *err) {
    const struct sp_fill_vocab *v = &s->a->f->vocab;
    const size_t n_pending = slot_of(s->a, s->question[i])->n_pending;
    enum sp_code code = SP_OK;
    for (size_t k = 0; !code && k < l->n; k++) {
        const struct sp_beam_hyp *h = &l->item[k];
        const char *text = s->text + n_pending;
        size_t n = sp_fill_decode(v, h->id, h->n, s->text) - n_pending;
        struct sp_fill_candidate c = {.question = s->question[i], .path = s->path[i]};
        c.logprob = s->a->path[c.path].logprob + h->logprob;
        code = add(s->a, c, text, sp_fill_end(v, text, n), s->mode != SP_FILL_OPEN, err);
    }
    return code;
}

/* From all paths to a slot of this mode. */
static enum sp_code search(struct searching *s, struct sp_error *err) {
    const struct sp_fill *f = s->a->f;
    struct sp_beam_options o = {.width = f->o.width, .follow = follow, .ctx = s};
    o.n_best = s->mode == SP_FILL_OPEN ? 2 * f->o.n_best : WEIGHED_PER_BEAM * f->o.width;
    s->n = 0;
    for (size_t i = 0; i < s->a->n; i++) {
        if (s->a->slot >= s->a->question[i].text->n_slot || slot_of(s->a, i)->mode != s->mode)
            continue;
        for (size_t p = 0; p < s->a->n_path[i]; p++) {
            s->question[s->n] = i;
            s->path[s->n] = i * f->o.width + p;
            s->start[s->n] = s->a->path[s->path[s->n]].seq;
            s->n++;
        }
        size_t n = f->o.max_tokens + slot_of(s->a, i)->n_pending;
        if (n > o.max_tokens) o.max_tokens = n;
    }
    if (s->n == 0) return SP_OK;
    struct sp_beam_list *l = calloc(s->n, sizeof *l);
    s->text = malloc((o.max_tokens + 1) * f->vocab.text_bytes_max + 1);
    enum sp_code code = l && s->text ? SP_OK : sp_error_memory(err, "a search");
    if (!code) code = sp_beam_search(f->lm, s->start, s->n, &o, l, err);
    if (s->changed) *s->changed = s->was;
    s->changed = NULL;
    for (size_t i = 0; !code && i < s->n; i++) code = take(s, i, &l[i], err);
    for (size_t i = 0; l && i < s->n; i++) sp_beam_list_clear(&l[i]);
    free(l);
    free(s->text);
    return code;
}

static enum sp_code search_all(struct sp_fill_asking *a, struct sp_error *err) {
    const size_t n = a->n * a->f->o.width;
    struct searching s = {.a = a};
    s.start = calloc(n, sizeof *s.start);
    s.question = calloc(n, sizeof *s.question);
    s.path = calloc(n, sizeof *s.path);
    s.pending = calloc(a->f->vocab.n, 1);
    enum sp_code code =
        s.start && s.question && s.path && s.pending ? SP_OK : sp_error_memory(err, "a search");
    for (int mode = 0; !code && mode < SP_FILL_MODES; mode++) {
        s.mode = mode;
        s.pending_of = NULL;
        code = search(&s, err);
    }
    free(s.start);
    free(s.question);
    free(s.path);
    free(s.pending);
    return code;
}

/* ---- choices ----------------------------------------------------------------------------------
 */

static const struct sp_fill_choices *choices_of(const struct sp_fill_asking *a) {
    const struct sp_fill_options *o = &a->f->o;
    return &o->choices[a->slot < o->n_choices ? a->slot : o->n_choices - 1];
}

static enum sp_code offer(struct sp_fill_asking *a, struct sp_error *err) {
    const struct sp_fill_choices *choices = choices_of(a);
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < a->n; i++)
        for (size_t p = 0; a->slot < a->question[i].text->n_slot && p < a->n_path[i]; p++)
            for (size_t k = 0; !code && k < choices->n; k++) {
                struct sp_fill_candidate c = {.question = i, .path = i * a->f->o.width + p};
                code = add(a, c, choices->item[k], strlen(choices->item[k]), true, err);
            }
    return code;
}

enum sp_code sp_fill_propose(struct sp_fill_asking *a, struct sp_error *err) {
    return a->f->o.n_choices > 0 ? offer(a, err) : search_all(a, err);
}

/* ---- weighing ---------------------------------------------------------------------------------
 */

/* The tokens of what is pending, the candidate, and the words that follow: as one text. */
static enum sp_code encode(struct sp_fill_asking *a, struct sp_fill_candidate *c,
                           struct sp_error *err) {
    const struct sp_fill_slot *slot = slot_of(a, c->question);
    char *text = NULL;
    int n = asprintf(&text, "%s%s%s", slot->pending, c->text, slot->after);
    if (n < 0) return sp_error_memory(err, "candidates");
    enum sp_code code = sp_lm_encode(a->f->lm, text, (size_t)n, false, &c->tokens, err);
    free(text);
    return code;
}

/* Adds the probability of the end to the logprob of n candidates behind which nothing follows. */
static enum sp_code weigh_end(struct sp_fill_asking *a, struct sp_fill_candidate *const *c,
                              size_t n, float *logits, float *scratch, struct sp_error *err) {
    struct sp_lm *lm = a->f->lm;
    const struct sp_fill_vocab *v = &a->f->vocab;
    const uint8_t *role = v->role[SP_FILL_OPEN][SP_FILL_WORDS];
    struct sp_lm_seq *seq[ROWS] = {0};
    const uint32_t *id[ROWS];
    size_t n_id[ROWS];
    struct sp_kernels k;
    sp_kernels_init(&k);
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < n; i++) {
        code = sp_lm_seq_fork(lm, a->path[c[i]->path].seq, &seq[i], err);
        id[i] = c[i]->tokens.id;
        n_id[i] = c[i]->tokens.n;
    }
    if (!code) code = sp_lm_read(lm, seq, id, n_id, n, err);
    if (!code) code = sp_lm_logits(lm, (const struct sp_lm_seq *const *)seq, n, logits, err);
    for (size_t i = 0; !code && i < n; i++) {
        const float *x = logits + i * v->n;
        double log_sum = sp_log_sum_exp(&k, x, (int64_t)v->n, scratch), sum = 0;
        for (size_t t = 0; t < v->n; t++)
            if (role[t] & SP_BEAM_END) sum += exp((double)x[t] - log_sum);
        c[i]->logprob += log(sum);
    }
    for (size_t i = 0; i < n; i++) sp_lm_seq_free(lm, seq[i]);
    return code;
}

/* Choices with nothing behind them: their end counts, as it does in a search. */
static enum sp_code weigh_ends(struct sp_fill_asking *a, struct sp_error *err) {
    struct sp_fill_candidate *group[ROWS];
    size_t n = 0;
    float *logits = malloc(ROWS * a->f->vocab.n * sizeof *logits);
    float *scratch = malloc(a->f->vocab.n * sizeof *scratch);
    enum sp_code code = logits && scratch ? SP_OK : sp_error_memory(err, "candidates");
    for (size_t i = 0; !code && i <= a->n_candidate; i++) {
        bool all = i == a->n_candidate;
        if (!all && slot_of(a, a->candidate[i].question)->mode == SP_FILL_OPEN)
            group[n++] = &a->candidate[i];
        if (n < ROWS && (!all || n == 0)) continue;
        code = weigh_end(a, group, n, logits, scratch, err);
        n = 0;
    }
    free(logits);
    free(scratch);
    return code;
}

enum sp_code sp_fill_weigh(struct sp_fill_asking *a, struct sp_error *err) {
    const size_t n_all = a->n_candidate + 1;
    const bool chosen = a->f->o.n_choices > 0;
    const struct sp_lm_seq **seq = calloc(n_all, sizeof *seq);
    const uint32_t **id = calloc(n_all, sizeof *id);
    size_t *n_id = calloc(n_all, sizeof *n_id), *which = calloc(n_all, sizeof *which), n = 0;
    double *logprob = calloc(n_all, sizeof *logprob);
    bool ok = seq && id && n_id && which && logprob;
    enum sp_code code = ok ? SP_OK : sp_error_memory(err, "candidates");
    for (size_t i = 0; !code && i < a->n_candidate; i++) {
        struct sp_fill_candidate *c = &a->candidate[i];
        if (!chosen && slot_of(a, c->question)->mode == SP_FILL_OPEN) continue;
        code = encode(a, c, err);
        seq[n] = a->path[c->path].seq;
        id[n] = c->tokens.id;
        n_id[n] = c->tokens.n;
        which[n++] = i;
    }
    if (!code) code = sp_lm_score(a->f->lm, seq, id, n_id, n, logprob, err);
    for (size_t i = 0; !code && i < n; i++) {
        struct sp_fill_candidate *c = &a->candidate[which[i]];
        c->logprob = a->path[c->path].logprob + logprob[i];
    }
    if (!code && chosen) code = weigh_ends(a, err);
    free(seq);
    free(id);
    free(n_id);
    free(which);
    free(logprob);
    return code;
}
