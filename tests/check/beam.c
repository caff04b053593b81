/* Beam search: against every sequence there is, on few tokens and short hypotheses; against a
 * search of the same rules that reads everything again; starts together and alone. */
#include "../../lib/beam.h"
#include "check.h"

#include <math.h>

enum { STARTS = 9, LETTERS = 4, LONGEST = 4, SEQUENCES = 341, VOCAB = 264 };
static struct sp_error err;
static struct sp_lm *lm;
static struct sp_lm_seq *start[STARTS];

/* What the searches below may choose: tokens of the alphabet, which depends on the start and on the
 * length so far, and two that end. `whole` is a token behind which a hypothesis is finished. */
struct rules {
    uint32_t letter[LETTERS], end[2], whole;
    uint8_t role[VOCAB], first[VOCAB];
};

static const uint8_t *follow(void *ctx, size_t s, const uint32_t *id, size_t n) {
    const struct rules *r = ctx;
    (void)s;
    if (n > 0 && id[n - 1] == r->whole) return NULL;
    return n == 0 ? r->first : r->role;
}

static struct rules make_rules(bool with_whole) {
    struct rules r = {.whole = UINT32_MAX};
    for (int i = 0; i < LETTERS; i++) r.letter[i] = (uint32_t)(97 + 7 * i);
    r.end[0] = 10;
    r.end[1] = r.letter[1]; /* a part of the text, and an end as well */
    for (int i = 0; i < LETTERS; i++) r.role[r.letter[i]] = SP_BEAM_TEXT;
    memcpy(r.first, r.role, sizeof r.first);
    for (int i = 0; i < 2; i++) r.role[r.end[i]] |= SP_BEAM_END;
    if (with_whole) r.whole = r.letter[3];
    return r;
}

/* ---- the same by brute force ---------------------------------------------------------------- */

struct found {
    uint32_t id[LONGEST];
    size_t n;
    bool ended;
    double logprob, score;
};

static double score_of(double logprob, size_t n, double alpha) {
    return alpha > 0 && n > 1 ? logprob / pow((double)n, alpha) : logprob;
}

/* The logarithm of the probability of n tokens, then of one of the ends (or of none). */
static double weigh(const struct sp_lm_seq *from, const struct rules *r, const uint32_t *id,
                    size_t n, bool end) {
    uint32_t text[2][LONGEST + 1];
    const uint32_t *ids[2] = {text[0], text[1]};
    const struct sp_lm_seq *seq[2] = {from, from};
    size_t length[2] = {n + end, n + end};
    double logprob[2];
    for (int i = 0; i < 2; i++) {
        if (n > 0) memcpy(text[i], id, n * sizeof *id);
        text[i][n] = r->end[i];
    }
    if (sp_lm_score(lm, seq, ids, length, 2, logprob, &err)) return NAN;
    return end ? log(exp(logprob[0]) + exp(logprob[1])) : logprob[0];
}

static int by_score(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : 0;
}

static size_t finish(struct found *all, size_t n_all, const struct sp_lm_seq *from,
                     const struct rules *r, const uint32_t *id, size_t n, double alpha) {
    bool whole = n > 0 && id[n - 1] == r->whole;
    if (n == 0) return n_all; /* nothing ends here: see first */
    struct found *f = &all[n_all];
    *f = (struct found){.n = n, .ended = !whole};
    memcpy(f->id, id, n * sizeof *id);
    f->logprob = weigh(from, r, id, n, f->ended);
    f->score = score_of(f->logprob, n + f->ended, alpha);
    return n_all + 1;
}

/* Every sequence, best first; its number. */
static size_t enumerate(const struct sp_lm_seq *from, const struct rules *r, double alpha,
                        struct found *all) {
    size_t n_all = 0;
    for (size_t n = 0, count = 1; n <= LONGEST; n++, count *= LETTERS)
        for (size_t code = 0; code < count; code++) {
            uint32_t id[LONGEST];
            bool legal = true;
            for (size_t i = 0, left = code; i < n; i++, left /= LETTERS) {
                id[i] = r->letter[left % LETTERS];
                legal &= i + 1 == n || id[i] != r->whole;
            }
            if (legal) n_all = finish(all, n_all, from, r, id, n, alpha);
        }
    qsort(all, n_all, sizeof *all, by_score);
    return n_all;
}

/* A beam search that reads every hypothesis again at every token, and stops at the longest. */
static size_t again(const struct sp_lm_seq *from, const struct rules *r, double alpha, size_t width,
                    struct found *all) {
    struct found live[SEQUENCES] = {{.n = 0}}, child[SEQUENCES * LETTERS];
    size_t n_live = 1, n_all = 0;
    for (size_t n = 0; n <= LONGEST; n++) {
        size_t n_child = 0;
        for (size_t i = 0; i < n_live; i++) {
            n_all = finish(all, n_all, from, r, live[i].id, n, alpha);
            if (n == LONGEST || (n > 0 && live[i].id[n - 1] == r->whole)) continue;
            for (int k = 0; k < LETTERS; k++) {
                struct found *c = &child[n_child++];
                *c = live[i];
                c->id[c->n++] = r->letter[k];
                c->score = weigh(from, r, c->id, c->n, false);
            }
        }
        qsort(child, n_child, sizeof *child, by_score);
        n_live = n_child < width ? n_child : width;
        memcpy(live, child, n_live * sizeof *live);
    }
    qsort(all, n_all, sizeof *all, by_score);
    return n_all;
}

/* ---- checks --------------------------------------------------------------------------------- */

static bool same(const struct sp_beam_list *l, const struct found *all, size_t n_all, size_t n) {
    bool ok = l->n == (n_all < n ? n_all : n);
    for (size_t i = 0; ok && i < l->n; i++) {
        const struct sp_beam_hyp *h = &l->item[i];
        ok = h->n == all[i].n && h->ended == all[i].ended &&
             memcmp(h->id, all[i].id, h->n * sizeof *h->id) == 0 &&
             fabs(h->logprob - all[i].logprob) < 1e-5 && fabs(h->score - all[i].score) < 1e-5;
    }
    return ok;
}

static const struct sp_lm_seq *const *view(void) {
    return (const struct sp_lm_seq *const *)start;
}

static void search(const struct sp_beam_options *o, struct sp_beam_list *out, size_t n) {
    if (sp_beam_search(lm, view(), n, o, out, &err)) check_ok(false, "search: %s", err.msg);
}

static void clear(struct sp_beam_list *l, size_t n) {
    for (size_t i = 0; i < n; i++) sp_beam_list_clear(&l[i]);
}

/* As wide as there are sequences: the best of all, in order. */
static void check_exhaustive(void) {
    static struct found all[SEQUENCES];
    int wrong = 0, beaten = 0;
    for (int variant = 0; variant < 4; variant++) {
        struct rules r = make_rules(variant & 1);
        struct sp_beam_list l[STARTS], greedy[STARTS];
        struct sp_beam_options o = {.width = 256, .max_tokens = LONGEST, .follow = follow};
        o.ctx = &r;
        o.length_alpha = variant & 2 ? 0.8 : 0;
        for (size_t n_best = 1; n_best <= SEQUENCES; n_best *= 18) {
            o.n_best = n_best;
            search(&o, l, STARTS);
            for (size_t i = 0; i < STARTS; i++) {
                size_t n = enumerate(start[i], &r, o.length_alpha, all);
                wrong += !same(&l[i], all, n, n_best);
            }
            clear(l, STARTS);
        }
        o.width = o.n_best = 1;
        search(&o, greedy, STARTS);
        o.width = 256;
        search(&o, l, STARTS);
        for (size_t i = 0; i < STARTS; i++) {
            wrong += greedy[i].item->score > l[i].item->score + 1e-9;
            beaten += greedy[i].item->score < l[i].item->score - 1e-3;
        }
        clear(l, STARTS);
        clear(greedy, STARTS);
    }
    check_ok(wrong == 0, "exhaustive: a wide beam finds the best of all sequences, in order");
    check_ok(beaten > 0, "exhaustive: greedy misses the best %d times", beaten);
}

static void check_narrow(void) {
    static struct found all[SEQUENCES];
    int wrong = 0;
    for (int variant = 0; variant < 4; variant++)
        for (size_t width = 1; width <= 6; width++) {
            struct rules r = make_rules(variant & 1);
            struct sp_beam_list l[STARTS];
            struct sp_beam_options o = {
                .width = width, .n_best = 3, .max_tokens = LONGEST, .follow = follow, .ctx = &r};
            o.length_alpha = variant & 2 ? 1.2 : 0;
            search(&o, l, STARTS);
            for (size_t i = 0; i < STARTS; i++) {
                size_t n = again(start[i], &r, o.length_alpha, width, all);
                wrong += !same(&l[i], all, n, 3);
            }
            clear(l, STARTS);
        }
    check_ok(wrong == 0, "narrow: the same as a search that reads everything again");
}

static void check_together(void) {
    struct rules r = make_rules(true);
    struct sp_beam_list l[STARTS], one;
    struct sp_beam_options o = {
        .width = 13, .n_best = 40, .max_tokens = 7, .follow = follow, .ctx = &r};
    int wrong = 0;
    search(&o, l, STARTS);
    for (size_t i = 0; i < STARTS; i++) {
        if (sp_beam_search(lm, view() + i, 1, &o, &one, &err)) exit(1);
        wrong += one.n != l[i].n || one.n != 40;
        for (size_t k = 0; k < one.n && k < l[i].n; k++)
            wrong += one.item[k].logprob != l[i].item[k].logprob ||
                     one.item[k].n != l[i].item[k].n ||
                     memcmp(one.item[k].id, l[i].item[k].id, one.item[k].n * sizeof(uint32_t)) != 0;
        sp_beam_list_clear(&one);
    }
    check_ok(wrong == 0, "together: the bits are those of each start alone");
    clear(l, STARTS);
}

static void check_edges(void) {
    struct rules r = make_rules(false);
    struct sp_beam_list l[STARTS];
    struct sp_beam_options o = {.width = 4, .n_best = 4, .follow = follow, .ctx = &r};
    search(&o, l, 1);
    check_ok(l[0].n == 0, "edges: nothing may end before its first token: no answer");
    clear(l, 1);
    memset(r.first, 0, sizeof r.first);
    o.max_tokens = 3;
    search(&o, l, 1);
    check_ok(l[0].n == 0, "edges: no token has a role: no answer");
    clear(l, 1);
    struct sp_lm_seq *empty;
    if (sp_lm_seq_new(lm, &empty, &err)) exit(1);
    const struct sp_lm_seq *none = empty;
    check_ok(sp_beam_search(lm, &none, 1, &o, l, &err) == SP_E_USAGE, "edges: nothing read: %s",
             err.msg);
    o.width = 0;
    check_ok(sp_beam_search(lm, view(), 1, &o, l, &err) == SP_E_USAGE, "edges: no width: %s",
             err.msg);
    sp_lm_seq_free(lm, empty);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    struct sp_lm_options o = {
        .model = "tests/golden/tiny", .device = "cpu", .n_thread = 2, .dtype = SP_F32};
    if (sp_lm_open(&lm, &o, &err)) {
        check_ok(false, "open: %s", err.msg);
        return check_end();
    }
    for (size_t i = 0; i < STARTS; i++) {
        uint32_t id[20];
        const uint32_t *ids = id;
        size_t n = (size_t)check_random_int(1, 20);
        for (size_t k = 0; k < n; k++) id[k] = (uint32_t)check_random_int(0, 255);
        if (sp_lm_seq_new(lm, &start[i], &err) || sp_lm_read(lm, &start[i], &ids, &n, 1, &err))
            exit(1);
    }
    if (check_wanted("exhaustive")) check_exhaustive();
    if (check_wanted("narrow")) check_narrow();
    if (check_wanted("together")) check_together();
    if (check_wanted("edges")) check_edges();
    for (size_t i = 0; i < STARTS; i++) sp_lm_seq_free(lm, start[i]);
    sp_lm_free(lm);
    return check_end();
}
