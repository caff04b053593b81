/* Tagging: the best legal sequence of tags, and how sure each tag is. */
#include "task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of the forward pass that are kept between two stored ones: the others are computed again, so
 * that memory is (n / BLOCK + BLOCK) rows and not n. */
#define BLOCK 512

/* Terms this far below the largest one of a sum do not change a double: e^-40 < 2^-57. */
#define NEGLIGIBLE 40.0

struct lattice {
    const struct sp_head *head;
    const float *scores; /* (n, n_label) */
    size_t n, n_label;
    struct sp_tag_rules rules;
    double *step;  /* (n_label, n_label): to, from; -INFINITY where it is not legal */
    double *go_on; /* the same where a token goes on with a word */
    double *start; /* (n_label) */
    double *end;   /* (n_label) */
};

static bool is_inside(const char *label) {
    return label[0] == 'I' && label[1] == '-';
}

/* I-x continues N-x, B-x, S-x and I-x; any other label may follow anything. */
static bool may_follow(const char *from, const char *to) {
    if (!is_inside(to)) return true;
    return from[0] && strchr("NBSI", from[0]) && from[1] == '-' && strcmp(from + 2, to + 2) == 0;
}

/* Inside a word: O goes on with O, a field with its I; where a set has none, a label with itself.
 */
static bool goes_on(const struct sp_head *head, size_t from, size_t to) {
    if (from == to && !is_inside(head->label[from])) {
        for (uint32_t i = 0; i < head->n_label; i++)
            if (i != from && is_inside(head->label[i]) &&
                may_follow(head->label[from], head->label[i]))
                return false;
        return true;
    }
    return is_inside(head->label[to]) && may_follow(head->label[from], head->label[to]);
}

static void lattice_fill(struct lattice *g) {
    size_t n_label = g->n_label;
    const float *transitions = g->rules.transitions;
    for (size_t to = 0; to < n_label; to++) {
        const char *label = g->head->label[to];
        for (size_t from = 0; from < n_label; from++) {
            double t = transitions ? (double)transitions[from * n_label + to] : 0;
            g->step[to * n_label + from] = may_follow(g->head->label[from], label) ? t : -INFINITY;
            g->go_on[to * n_label + from] = goes_on(g->head, from, to) ? t : -INFINITY;
        }
        const float *edge = transitions ? transitions + n_label * n_label : NULL;
        g->start[to] = is_inside(label) ? -INFINITY : edge ? (double)edge[to] : 0;
        g->end[to] = edge ? (double)edge[n_label + to] : 0;
    }
}

/* The steps into token t. */
static const double *steps_at(const struct lattice *g, size_t t) {
    return g->rules.joined && g->rules.joined[t] ? g->go_on : g->step;
}

/* Neither NaN nor infinite: then every sequence without an I has a finite score. */
static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static enum sp_code lattice_check(const struct lattice *g, struct sp_error *err) {
    const struct sp_head *head = g->head;
    const float *transitions = g->rules.transitions;
    bool can_begin = false;
    if (head->type != SP_HEAD_TAG)
        return sp_error_set(err, SP_E_USAGE, "head '%s' is not a tag head", head->name);
    for (size_t i = 0; i < g->n_label; i++) can_begin = can_begin || !is_inside(head->label[i]);
    if (!can_begin)
        return sp_error_set(err, SP_E_DATA, "head '%s' has no label but I-...: nothing can begin",
                            head->name);
    if (transitions && !all_finite(transitions, (g->n_label + 2) * g->n_label))
        return sp_error_set(err, SP_E_DATA, "head '%s': transitions are not finite", head->name);
    for (size_t t = 0; t < g->n; t++)
        if (!all_finite(g->scores + t * g->n_label, g->n_label))
            return sp_error_set(err, SP_E_DATA, "the scores of token %zu are not finite", t);
    return SP_OK;
}

/* ---- the best sequence ---- */

static double favoured(const struct lattice *g, size_t t, size_t label) {
    double score = (double)g->scores[t * g->n_label + label];
    return g->rules.bonus ? score + (double)g->rules.bonus[label] : score;
}

static void best_sequence(const struct lattice *g, double *row, uint8_t *back, uint32_t *tag) {
    size_t n_label = g->n_label;
    double *next = row + n_label;
    for (size_t j = 0; j < n_label; j++) row[j] = g->start[j] + favoured(g, 0, j);
    for (size_t t = 1; t < g->n; t++) {
        for (size_t j = 0; j < n_label; j++) {
            const double *step = steps_at(g, t) + j * n_label;
            size_t best = 0;
            double most = row[0] + step[0];
            for (size_t i = 1; i < n_label; i++) {
                double v = row[i] + step[i];
                if (v > most) most = v, best = i;
            }
            back[t * n_label + j] = (uint8_t)best;
            next[j] = most + favoured(g, t, j);
        }
        memcpy(row, next, n_label * sizeof *row);
    }
    size_t best = 0;
    for (size_t j = 1; j < n_label; j++)
        if (row[j] + g->end[j] > row[best] + g->end[best]) best = j;
    for (size_t t = g->n; t-- > 0;) {
        tag[t] = (uint32_t)best;
        if (t > 0) best = back[t * n_label + best];
    }
}

/* ---- posteriors: forward-backward, in logarithms ---- */

static double log_sum_exp(const double *x, size_t n) {
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    if (most == -INFINITY) return most;
    for (size_t i = 0; i < n; i++)
        if (x[i] > most - NEGLIGIBLE) sum += exp(x[i] - most);
    return most + log(sum);
}

static void forward_row(const struct lattice *g, const double *alpha, size_t t, double *next,
                        double *term) {
    size_t n_label = g->n_label;
    const double *step = steps_at(g, t);
    for (size_t j = 0; j < n_label; j++) {
        for (size_t i = 0; i < n_label; i++) term[i] = alpha[i] + step[j * n_label + i];
        next[j] = log_sum_exp(term, n_label) + (double)g->scores[t * n_label + j];
    }
}

/* beta of row t from beta of row t + 1, in place. */
static void backward_row(const struct lattice *g, size_t t, double *beta, double *term) {
    size_t n_label = g->n_label;
    const double *step = steps_at(g, t + 1);
    double *next = term + n_label;
    for (size_t j = 0; j < n_label; j++)
        next[j] = beta[j] + (double)g->scores[(t + 1) * n_label + j];
    for (size_t i = 0; i < n_label; i++) {
        for (size_t j = 0; j < n_label; j++) term[j] = next[j] + step[j * n_label + i];
        beta[i] = log_sum_exp(term, n_label);
    }
}

/* kept (n / BLOCK + 1, n_label): alpha of rows 0, BLOCK, ...; alpha (BLOCK, n_label); work (3,
 * n_label). */
static void posteriors(const struct lattice *g, double *kept, double *alpha, double *work,
                       const uint32_t *tag, float *p) {
    size_t n_label = g->n_label, n = g->n;
    double *beta = work, *term = work + n_label;
    for (size_t j = 0; j < n_label; j++) kept[j] = g->start[j] + (double)g->scores[j];
    memcpy(alpha, kept, n_label * sizeof *alpha);
    for (size_t t = 1; t < n; t++) {
        double *next = t % BLOCK ? alpha + n_label : kept + t / BLOCK * n_label;
        forward_row(g, alpha, t, next, term);
        memcpy(alpha, next, n_label * sizeof *alpha);
    }
    memcpy(beta, g->end, n_label * sizeof *beta);
    for (size_t j = 0; j < n_label; j++) term[j] = alpha[j] + beta[j];
    double total = log_sum_exp(term, n_label);
    for (size_t block = (n - 1) / BLOCK + 1; block-- > 0;) {
        size_t first = block * BLOCK, last = first + BLOCK < n ? first + BLOCK : n;
        memcpy(alpha, kept + block * n_label, n_label * sizeof *alpha);
        for (size_t t = first + 1; t < last; t++)
            forward_row(g, alpha + (t - first - 1) * n_label, t, alpha + (t - first) * n_label,
                        term);
        for (size_t t = last; t-- > first;) {
            if (t + 1 < n) backward_row(g, t, beta, term);
            double v = exp(alpha[(t - first) * n_label + tag[t]] + beta[tag[t]] - total);
            p[t] = (float)(v < 1 ? v : 1);
        }
    }
}

enum sp_code sp_viterbi(const struct sp_head *head, const float *scores, size_t n,
                        const struct sp_tag_rules *rules, uint32_t *tag, float *p,
                        struct sp_error *err) {
    struct lattice g = {
        .head = head, .scores = scores, .n = n, .n_label = head->n_label, .rules = *rules};
    enum sp_code code = lattice_check(&g, err);
    if (code || n == 0) return code;
    size_t n_label = g.n_label;
    uint8_t *back = n <= SIZE_MAX / n_label ? malloc(n * n_label) : NULL;
    double *step = calloc((2 * n_label + 2) * n_label, sizeof *step);
    double *work = calloc((n / BLOCK + 1 + BLOCK + 3) * n_label, sizeof *work);
    if (!back || !step || !work) {
        code = sp_error_set(err, SP_E_DEVICE, "out of memory for the tags of %zu tokens", n);
    } else {
        g.step = step;
        g.go_on = step + n_label * n_label;
        g.start = g.go_on + n_label * n_label;
        g.end = g.start + n_label;
        lattice_fill(&g);
        best_sequence(&g, work, back, tag);
        double *alpha = work + 3 * n_label;
        posteriors(&g, alpha + BLOCK * n_label, alpha, work, tag, p);
    }
    free(back);
    free(step);
    free(work);
    return code;
}
