/* Answers: the stretches of a document that a tag head takes for the answer to a question. */
#include "task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Stretches that are looked at by their text; those behind have no weight to speak of. */
#define KEPT 256

enum { OUTSIDE, BEGIN, INSIDE, LABELS };

static const char *const label_name[LABELS] = {"O", "B-answer", "I-answer"};

struct stretch {
    double logit; /* of its probability, against that of no answer */
    size_t first, last;
};

struct search {
    size_t label[LABELS]; /* columns of the scores */
    size_t n_label;
    const float *scores;      /* (n, n_label) */
    const float *transitions; /* or NULL */
    size_t n;
    size_t n_kept;
    struct stretch kept[KEPT]; /* best first */
    double most, sum;          /* over all stretches: sum of exp(logit - most) */
};

bool sp_head_finds_answers(const struct sp_head *head) {
    size_t found = 0;
    for (uint32_t i = 0; head->type == SP_HEAD_TAG && i < head->n_label; i++)
        for (int k = 0; k < LABELS; k++) found += strcmp(head->label[i], label_name[k]) == 0;
    return found == LABELS;
}

static double step(const struct search *s, int from, int to) {
    return s->transitions ? (double)s->transitions[s->label[from] * s->n_label + s->label[to]] : 0;
}
/* edge 0: the first tag, 1: the last. */
static double edge(const struct search *s, size_t edge, int tag) {
    return s->transitions ? (double)s->transitions[(s->n_label + edge) * s->n_label + s->label[tag]]
                          : 0;
}
/* What token t gains by a tag that is not O. */
static double gain(const struct search *s, size_t t, int tag) {
    const float *x = s->scores + t * s->n_label;
    return (double)x[s->label[tag]] - (double)x[s->label[OUTSIDE]];
}

static void weigh(struct search *s, double logit, size_t first, size_t last) {
    if (logit > s->most) {
        s->sum *= exp(s->most - logit);
        s->most = logit;
    }
    s->sum += exp(logit - s->most);
    if (s->n_kept == KEPT && logit <= s->kept[KEPT - 1].logit) return;
    size_t at = s->n_kept < KEPT ? s->n_kept++ : KEPT - 1;
    for (; at > 0 && s->kept[at - 1].logit < logit; at--) s->kept[at] = s->kept[at - 1];
    s->kept[at] = (struct stretch){logit, first, last};
}

/* All stretches that begin at a token, as logarithms against the document without an answer. */
static void weigh_from(struct search *s, size_t first, const bool *joined, size_t n_token_max) {
    double logit = gain(s, first, BEGIN);
    logit += first > 0 ? step(s, OUTSIDE, BEGIN) - step(s, OUTSIDE, OUTSIDE)
                       : edge(s, 0, BEGIN) - edge(s, 0, OUTSIDE);
    for (size_t last = first; last < s->n && last - first < n_token_max; last++) {
        int tag = last == first ? BEGIN : INSIDE;
        if (last > first)
            logit += gain(s, last, INSIDE) + step(s, last - 1 == first ? BEGIN : INSIDE, INSIDE) -
                     step(s, OUTSIDE, OUTSIDE);
        if (last + 1 < s->n && joined && joined[last + 1]) continue;
        double behind = last + 1 < s->n ? step(s, tag, OUTSIDE) - step(s, OUTSIDE, OUTSIDE)
                                        : edge(s, 1, tag) - edge(s, 1, OUTSIDE);
        weigh(s, logit + behind, first, last);
    }
}

static bool same_words(const char *text, const struct sp_answer *a, const struct sp_answer *b) {
    static const char blank[] = " \t\n\v\f\r";
    uint64_t i = a->start, k = b->start;
    for (;;) {
        bool gap_a = i < a->end && strchr(blank, text[i]),
             gap_b = k < b->end && strchr(blank, text[k]);
        while (i < a->end && strchr(blank, text[i])) i++;
        while (k < b->end && strchr(blank, text[k])) k++;
        if (i == a->end || k == b->end) return i == a->end && k == b->end;
        if (gap_a != gap_b || text[i++] != text[k++]) return false;
    }
}

static int by_p(const void *a, const void *b) {
    const struct sp_answer *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p ? -1 : 1) : x->start < y->start ? -1 : x->start > y->start;
}

static enum sp_code prepare(struct search *s, const struct sp_head *head, struct sp_error *err) {
    if (!sp_head_finds_answers(head))
        return sp_error_set(err, SP_E_USAGE,
                            "head '%s' does not find answers: it has no tags O, B-answer, I-answer",
                            head->name);
    for (uint32_t i = 0; i < head->n_label; i++)
        for (int k = 0; k < LABELS; k++)
            if (strcmp(head->label[i], label_name[k]) == 0) s->label[k] = i;
    for (size_t i = 0; i < s->n * s->n_label; i++)
        if (!isfinite(s->scores[i]))
            return sp_error_set(err, SP_E_DATA, "the scores of token %zu are not finite",
                                i / s->n_label);
    return SP_OK;
}

enum sp_code sp_answers_from_scores(const struct sp_head *head, const float *scores, size_t n,
                                    const struct sp_tag_rules *rules, const uint64_t *span,
                                    const char *text, size_t n_text, size_t from,
                                    size_t n_token_max, struct sp_answers *out,
                                    struct sp_error *err) {
    struct search *s = calloc(1, sizeof *s);
    *out = (struct sp_answers){.item = calloc(KEPT, sizeof *out->item)};
    enum sp_code code = s && out->item ? SP_OK : sp_error_memory(err, "answers");
    if (!code) {
        *s = (struct search){.n_label = head->n_label,
                             .scores = scores,
                             .transitions = rules->transitions,
                             .n = n,
                             .sum = 1}; /* no answer: a logit of 0 */
        code = prepare(s, head, err);
    }
    for (size_t t = from; !code && t < n; t++)
        if (!rules->joined || !rules->joined[t]) weigh_from(s, t, rules->joined, n_token_max);
    for (size_t i = 0; !code && i < s->n_kept; i++) {
        const struct stretch *k = &s->kept[i];
        struct sp_span found = {true, span[2 * k->first], span[2 * k->last + 1], 0};
        if (found.end > n_text || found.start >= found.end) continue; /* padding has no text */
        sp_span_trim(text, &found, SP_DEGREE);
        struct sp_answer a = {found.start, found.end, exp(k->logit - s->most) / s->sum};
        if (a.start == a.end) continue;
        size_t at = 0;
        while (at < out->n && !same_words(text, &out->item[at], &a)) at++;
        if (at == out->n)
            out->item[out->n++] = a;
        else
            out->item[at].p += a.p;
    }
    if (!code) {
        out->p_none = exp(-s->most) / s->sum;
        qsort(out->item, out->n, sizeof *out->item, by_p);
    } else {
        sp_answers_clear(out);
    }
    free(s);
    return code;
}

void sp_answers_clear(struct sp_answers *a) {
    free(a->item);
    *a = (struct sp_answers){0};
}
