/* Beam search. */
#include "beam.h"
#include "logits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 64 /* logits are made for so many hypotheses at a time */

struct hyp {
    struct sp_lm_seq *seq;
    uint32_t *id; /* (n), of max_tokens */
    size_t n;
    double logprob;
};

/* A child that a hypothesis could have. */
struct child {
    size_t parent; /* in the order of its start */
    uint32_t id;
    double logprob;
};

struct search {
    struct sp_lm *lm;
    const struct sp_beam_options *o;
    const struct sp_kernels *k;
    size_t n_start, vocab;
    struct sp_beam_list *out;
    /* Hypotheses that go on, and those that come from them: (n_start, width) each, of which each
     * start has the first n[start]. */
    struct hyp *live, *next;
    size_t *n_live, *n_next;
    uint32_t *ids;       /* (2, n_start, width, max_tokens) */
    struct child *child; /* (width * width): of one start */
    size_t n_child;
    float *logits, *scratch; /* (ROWS, vocab), (vocab) */
    uint32_t *top;           /* (width) */
    /* One batch: (n_start * width) */
    struct sp_lm_seq **seq;
    uint32_t *id;
};

void sp_beam_list_clear(struct sp_beam_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->item[i].id);
    free(l->item);
    *l = (struct sp_beam_list){0};
}

/* What a hypothesis of n tokens (its end is one) is ranked by. */
static double score_of(const struct search *s, double logprob, size_t n) {
    double alpha = s->o->length_alpha;
    return alpha > 0 && n > 1 ? logprob / pow((double)n, alpha) : logprob;
}

/* ---- finished ones -------------------------------------------------------------------------- */

static enum sp_code finish(struct search *s, size_t start, const struct hyp *h, double logprob,
                           bool ended, struct sp_error *err) {
    struct sp_beam_list *l = &s->out[start];
    struct sp_beam_hyp new = {.n = h->n, .ended = ended, .logprob = logprob};
    new.score = score_of(s, logprob, h->n + ended);
    size_t at = l->n;
    while (at > 0 && l->item[at - 1].score < new.score) at--;
    if (at == s->o->n_best) return SP_OK;
    new.id = malloc((h->n + 1) * sizeof *new.id);
    if (!new.id) return sp_error_memory(err, "hypotheses");
    memcpy(new.id, h->id, h->n * sizeof *new.id);
    if (l->n == s->o->n_best) free(l->item[--l->n].id);
    memmove(l->item + at + 1, l->item + at, (l->n - at) * sizeof *l->item);
    l->item[at] = new;
    l->n++;
    return SP_OK;
}

/* Can what comes from a hypothesis still get among the best? Its score may rise as it gets longer,
 * its probability does not. */
static bool hopeless(const struct search *s, size_t start, double logprob) {
    const struct sp_beam_list *l = &s->out[start];
    double best = score_of(s, logprob, s->o->max_tokens + 1);
    return l->n == s->o->n_best && best <= l->item[l->n - 1].score;
}

/* ---- children ------------------------------------------------------------------------------- */

/* Logarithm of what the tokens that have a role make up of the softmax; -INFINITY for none. */
static double mass_of(const uint8_t *role, enum sp_beam_role which, const float *x, size_t n,
                      double log_sum) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (role[i] & which) sum += exp((double)x[i] - log_sum);
    return sum > 0 ? log(sum) : -INFINITY;
}

/* One hypothesis: its end, and the children that it can have. x, its logits, are used up. */
static enum sp_code expand(struct search *s, size_t start, size_t parent, float *x,
                           struct sp_error *err) {
    const struct hyp *h = &s->live[start * s->o->width + parent];
    const uint8_t *role = s->o->follow(s->o->ctx, start, h->id, h->n);
    if (!role) return sp_error_set(err, SP_E_BUG, "a hypothesis was finished at second sight only");
    double log_sum = sp_log_sum_exp(s->k, x, (int64_t)s->vocab, s->scratch);
    double end = mass_of(role, SP_BEAM_END, x, s->vocab, log_sum);
    enum sp_code code = SP_OK;
    if (end > -INFINITY) code = finish(s, start, h, h->logprob + end, true, err);
    if (code || h->n == s->o->max_tokens) return code;
    for (size_t i = 0; i < s->vocab; i++)
        if (!(role[i] & SP_BEAM_TEXT)) x[i] = -INFINITY;
    size_t k = s->o->width < s->vocab ? s->o->width : s->vocab;
    sp_logits_top(x, (int64_t)s->vocab, (int64_t)k, s->top);
    for (size_t i = 0; i < k && x[s->top[i]] > -INFINITY; i++)
        s->child[s->n_child++] =
            (struct child){parent, s->top[i], h->logprob + ((double)x[s->top[i]] - log_sum)};
    return SP_OK;
}

static int by_logprob(const void *a, const void *b) {
    const struct child *x = a, *y = b;
    if (x->logprob != y->logprob) return x->logprob > y->logprob ? -1 : 1;
    if (x->parent != y->parent) return x->parent < y->parent ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The best children of a start go on. All have as many tokens, so the length changes no order. */
static enum sp_code choose(struct search *s, size_t start, struct sp_error *err) {
    const size_t width = s->o->width;
    enum sp_code code = SP_OK;
    if (s->n_child > 0) qsort(s->child, s->n_child, sizeof *s->child, by_logprob);
    for (size_t i = 0; !code && i < s->n_child && i < width; i++) {
        const struct child *c = &s->child[i];
        if (hopeless(s, start, c->logprob)) break;
        const struct hyp *parent = &s->live[start * width + c->parent];
        struct hyp *h = &s->next[start * width + i];
        code = sp_lm_seq_fork(s->lm, parent->seq, &h->seq, err);
        if (code) break;
        memcpy(h->id, parent->id, parent->n * sizeof *h->id);
        h->id[parent->n] = c->id;
        h->n = parent->n + 1;
        h->logprob = c->logprob;
        s->n_next[start] = i + 1;
    }
    s->n_child = 0;
    return code;
}

/* ---- one token ------------------------------------------------------------------------------ */

static void free_all(struct search *s, struct hyp *h, size_t *n) {
    for (size_t i = 0; i < s->n_start; i++) {
        for (size_t k = 0; k < n[i]; k++) sp_lm_seq_free(s->lm, h[i * s->o->width + k].seq);
        n[i] = 0;
    }
}

/* Hypotheses that are finished as they are leave. */
static enum sp_code settle(struct search *s, struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < s->n_start; i++) {
        struct hyp *h = s->live + i * s->o->width;
        size_t kept = 0;
        for (size_t k = 0; k < s->n_live[i]; k++) {
            bool whole = !s->o->follow(s->o->ctx, i, h[k].id, h[k].n);
            if (whole && !code) code = finish(s, i, &h[k], h[k].logprob, false, err);
            if (whole) {
                sp_lm_seq_free(s->lm, h[k].seq);
                continue;
            }
            struct hyp held = h[kept]; /* an exchange: each has its own room for ids */
            h[kept++] = h[k];
            h[k] = held;
        }
        s->n_live[i] = kept;
    }
    return code;
}

/* The children of all, from logits that are made for a few at a time. */
static enum sp_code look(struct search *s, struct sp_error *err) {
    const size_t width = s->o->width;
    size_t start = 0, parent = 0, n;
    enum sp_code code = SP_OK;
    do {
        size_t from_start = start, from_parent = parent;
        for (n = 0; n < ROWS && start < s->n_start;) {
            if (parent < s->n_live[start]) s->seq[n++] = s->live[start * width + parent++].seq;
            if (parent >= s->n_live[start]) start++, parent = 0;
        }
        if (n > 0)
            code = sp_lm_logits(s->lm, (const struct sp_lm_seq *const *)s->seq, n, s->logits, err);
        for (size_t i = 0; !code && i < n; i++) {
            while (s->n_live[from_start] == 0) from_start++;
            code = expand(s, from_start, from_parent, s->logits + i * s->vocab, err);
            if (!code && ++from_parent == s->n_live[from_start]) {
                code = choose(s, from_start++, err);
                from_parent = 0;
            }
        }
    } while (!code && n > 0);
    return code;
}

/* The children take their parents' place and read their token. Parents are freed first: the last
 * child then has its parent's state for itself. */
static enum sp_code step(struct search *s, size_t *n_row, struct sp_error *err) {
    free_all(s, s->live, s->n_live);
    struct hyp *live = s->live;
    size_t *n_live = s->n_live;
    s->live = s->next, s->next = live;
    s->n_live = s->n_next, s->n_next = n_live;
    *n_row = 0;
    for (size_t i = 0; i < s->n_start; i++)
        for (size_t k = 0; k < s->n_live[i]; k++) {
            const struct hyp *h = &s->live[i * s->o->width + k];
            s->seq[*n_row] = h->seq;
            s->id[(*n_row)++] = h->id[h->n - 1];
        }
    return sp_lm_step(s->lm, s->seq, s->id, *n_row, err);
}

/* ---- the search ----------------------------------------------------------------------------- */

static enum sp_code alloc_search(struct search *s, struct sp_error *err) {
    const size_t width = s->o->width, n = s->n_start * width, max = s->o->max_tokens;
    s->live = calloc(n, sizeof *s->live);
    s->next = calloc(n, sizeof *s->next);
    s->n_live = calloc(s->n_start, sizeof *s->n_live);
    s->n_next = calloc(s->n_start, sizeof *s->n_next);
    s->ids = calloc(2 * n * (max + 1), sizeof *s->ids);
    s->child = calloc(width * width, sizeof *s->child);
    s->logits = malloc(ROWS * s->vocab * sizeof *s->logits);
    s->scratch = malloc(s->vocab * sizeof *s->scratch);
    s->top = calloc(width, sizeof *s->top);
    s->seq = calloc(n > ROWS ? n : ROWS, sizeof *s->seq);
    s->id = calloc(n, sizeof *s->id);
    bool ok = s->live && s->next && s->n_live && s->n_next && s->ids && s->child && s->logits &&
              s->scratch && s->top && s->seq && s->id;
    for (size_t i = 0; ok && i < n; i++) {
        s->live[i].id = s->ids + i * (max + 1);
        s->next[i].id = s->ids + (n + i) * (max + 1);
    }
    for (size_t i = 0; ok && i < s->n_start; i++) {
        s->out[i].item = calloc(s->o->n_best + 1, sizeof *s->out[i].item);
        ok = s->out[i].item;
    }
    return ok ? SP_OK : sp_error_memory(err, "a search");
}

static void clear_search(struct search *s) {
    if (s->live && s->n_live) free_all(s, s->live, s->n_live);
    if (s->next && s->n_next) free_all(s, s->next, s->n_next);
    void *held[] = {s->live,   s->next,    s->n_live, s->n_next, s->ids, s->child,
                    s->logits, s->scratch, s->top,    s->seq,    s->id};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) free(held[i]);
}

enum sp_code sp_beam_search(struct sp_lm *lm, const struct sp_lm_seq *const *start, size_t n_start,
                            const struct sp_beam_options *o, struct sp_beam_list *out,
                            struct sp_error *err) {
    struct sp_kernels k;
    struct search s = {.lm = lm, .o = o, .k = &k, .n_start = n_start, .out = out};
    memset(out, 0, n_start * sizeof *out);
    if (n_start == 0) return SP_OK;
    if (o->width == 0 || o->n_best == 0 || !(o->length_alpha >= 0))
        return sp_error_set(err, SP_E_USAGE,
                            "a beam search of no width, for no answers or with a negative "
                            "length normalisation");
    s.vocab = (size_t)sp_lm_vocab(lm);
    sp_kernels_init(&k);
    enum sp_code code = alloc_search(&s, err);
    for (size_t i = 0; !code && i < n_start; i++) {
        code = sp_lm_seq_fork(lm, start[i], &s.live[i * o->width].seq, err);
        s.n_live[i] = !code;
    }
    size_t n_row = n_start;
    while (!code && n_row > 0) {
        code = settle(&s, err);
        if (!code) code = look(&s, err);
        if (!code) code = step(&s, &n_row, err);
    }
    clear_search(&s);
    for (size_t i = 0; code && i < n_start; i++) sp_beam_list_clear(&out[i]);
    return code;
}
