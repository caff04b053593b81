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
    double p;
    size_t first, last;
};

struct search {
    size_t n, n_token_max;
    const bool *joined;           /* or NULL */
    const double *begin, *inside; /* (n): that an answer begins at a token, goes on in it */
    double sum;                   /* over all stretches */
    size_t n_kept;
    struct stretch kept[KEPT]; /* best first */
};

bool sp_head_finds_answers(const struct sp_head *head) {
    size_t found = 0;
    for (uint32_t i = 0; head->type == SP_HEAD_TAG && i < head->n_label; i++)
        for (int k = 0; k < LABELS; k++) found += strcmp(head->label[i], label_name[k]) == 0;
    return found == LABELS;
}

static void keep(struct search *s, double p, size_t first, size_t last) {
    s->sum += p;
    if (s->n_kept == KEPT && p <= s->kept[KEPT - 1].p) return;
    size_t at = s->n_kept < KEPT ? s->n_kept++ : KEPT - 1;
    for (; at > 0 && s->kept[at - 1].p < p; at--) s->kept[at] = s->kept[at - 1];
    s->kept[at] = (struct stretch){p, first, last};
}

/* The last token of the word that t is in. */
static size_t word_end(const struct search *s, size_t t) {
    while (s->joined && t + 1 < s->n && s->joined[t + 1]) t++;
    return t;
}

/* That an answer from `first` on which covers token t, with probability p_t, covers the next one
 * too: the rest of its word, or a next word that fits. */
static double goes_on(const struct search *s, size_t first, size_t t, double p_t) {
    if (t + 1 == s->n) return 0;
    if (s->joined && s->joined[t + 1]) return 1;
    if (word_end(s, t + 1) - first >= s->n_token_max) return 0;
    return p_t > s->inside[t + 1] ? s->inside[t + 1] / p_t : 1;
}

/* All stretches that begin at a token: together they are as likely as that one begins there. */
static void keep_from(struct search *s, size_t first) {
    double p = s->begin[first];
    for (size_t last = first; p > 0; last++) {
        double on = goes_on(s, first, last, last == first ? s->begin[first] : s->inside[last]);
        if (on < 1) keep(s, p * (1 - on), first, last);
        p *= on;
    }
}

/* Softmax over the three tags. */
static void marginals(const float *scores, size_t n_label, const size_t *label, size_t n,
                      double *begin, double *inside) {
    for (size_t t = 0; t < n; t++) {
        const float *x = scores + t * n_label;
        double e[LABELS], most = fmaxf(fmaxf(x[label[0]], x[label[1]]), x[label[2]]), sum = 0;
        for (int k = 0; k < LABELS; k++) sum += e[k] = exp((double)x[label[k]] - most);
        begin[t] = e[BEGIN] / sum;
        inside[t] = e[INSIDE] / sum;
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

/* The columns of the three tags. */
static enum sp_code find_labels(const struct sp_head *head, const float *scores, size_t n,
                                size_t *label, struct sp_error *err) {
    if (!sp_head_finds_answers(head))
        return sp_error_set(err, SP_E_USAGE,
                            "head '%s' does not find answers: it has no tags O, B-answer, I-answer",
                            head->name);
    for (uint32_t i = 0; i < head->n_label; i++)
        for (int k = 0; k < LABELS; k++)
            if (strcmp(head->label[i], label_name[k]) == 0) label[k] = i;
    for (size_t i = 0; i < n * head->n_label; i++)
        if (!isfinite(scores[i]))
            return sp_error_set(err, SP_E_DATA, "the scores of token %zu are not finite",
                                i / head->n_label);
    return SP_OK;
}

/* What is kept, by its words. */
static void collect(const struct search *s, const struct sp_answer_text *text, double sum,
                    struct sp_answers *out) {
    for (size_t i = 0; i < s->n_kept; i++) {
        const struct stretch *k = &s->kept[i];
        struct sp_span found = {true, text->span[2 * k->first], text->span[2 * k->last + 1], 0};
        if (found.end > text->n_bytes || found.start >= found.end) continue;
        sp_span_trim(text->bytes, &found, SP_DEGREE);
        struct sp_answer a = {found.start, found.end, k->p / sum};
        if (a.start == a.end) continue;
        size_t at = 0;
        while (at < out->n && !same_words(text->bytes, &out->item[at], &a)) at++;
        if (at < out->n)
            out->item[at].p += a.p;
        else
            out->item[out->n++] = a;
    }
    if (out->n > 0) qsort(out->item, out->n, sizeof *out->item, by_p);
}

enum sp_code sp_answers_from_scores(const struct sp_head *head, const float *scores, size_t n,
                                    const struct sp_answer_text *text, size_t n_token_max,
                                    struct sp_answers *out, struct sp_error *err) {
    size_t label[LABELS] = {0};
    struct search *s = calloc(1, sizeof *s);
    double *p = calloc(2 * n + 1, sizeof *p), none = 1;
    *out = (struct sp_answers){.item = calloc(KEPT, sizeof *out->item)};
    enum sp_code code = s && p && out->item ? find_labels(head, scores, n, label, err)
                                            : sp_error_memory(err, "answers");
    if (!code) {
        marginals(scores, head->n_label, label, n, p, p + n);
        *s = (struct search){.n = n,
                             .n_token_max = n_token_max,
                             .joined = text->joined,
                             .begin = p,
                             .inside = p + n};
        for (size_t t = text->from; t < n; t++) {
            if (text->joined && text->joined[t]) continue;
            keep_from(s, t);
            none *= 1 - p[t];
        }
        out->p_none = none / (none + s->sum);
        collect(s, text, none + s->sum, out);
    } else {
        sp_answers_clear(out);
    }
    free(s);
    free(p);
    return code;
}

void sp_answers_clear(struct sp_answers *a) {
    free(a->item);
    *a = (struct sp_answers){0};
}
