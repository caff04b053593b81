/* Viterbi and its posteriors against the enumeration of every legal sequence. */
#include "../../lib/task.h"
#include "check.h"

#include <math.h>

#define LABELS 5
#define TOKENS 6

static const char *const labels[LABELS] = {"O", "B-degree", "I-degree", "N-year", "I-year"};

static void head_init(struct sp_head *h) {
    memset(h, 0, sizeof *h);
    h->type = SP_HEAD_TAG;
    for (; h->n_label < LABELS; h->n_label++)
        snprintf(h->label[h->n_label], SP_NAME_MAX, "%s", labels[h->n_label]);
}

/* By the rule as it is written: I-x stands behind B-x, N-x or I-x. */
static bool legal(const int *tag, int n) {
    for (int t = 0; t < n; t++) {
        if (tag[t] == 2 && (t == 0 || (tag[t - 1] != 1 && tag[t - 1] != 2))) return false;
        if (tag[t] == 4 && (t == 0 || (tag[t - 1] != 3 && tag[t - 1] != 4))) return false;
    }
    return true;
}

static double score_of(const int *tag, int n, const float *scores, const float *transitions) {
    double s = 0;
    for (int t = 0; t < n; t++) {
        s += (double)scores[t * LABELS + tag[t]];
        if (transitions && t > 0) s += (double)transitions[tag[t - 1] * LABELS + tag[t]];
    }
    if (transitions) {
        s += (double)transitions[LABELS * LABELS + tag[0]];
        s += (double)transitions[(LABELS + 1) * LABELS + tag[n - 1]];
    }
    return s;
}

/* The best sequence and the share of all weight that goes through each of its tags. */
static void enumerate(int n, const float *scores, const float *transitions, int *best, double *p) {
    double most = -INFINITY, sum = 0, through[TOKENS][LABELS] = {{0}};
    int n_all = 1, tag[TOKENS];
    for (int t = 0; t < n; t++) n_all *= LABELS;
    for (int k = 0; k < n_all; k++) {
        for (int t = 0, v = k; t < n; t++, v /= LABELS) tag[t] = v % LABELS;
        if (!legal(tag, n)) continue;
        double s = score_of(tag, n, scores, transitions);
        if (s > most) {
            most = s;
            memcpy(best, tag, sizeof tag);
        }
        sum += exp(s);
        for (int t = 0; t < n; t++) through[t][tag[t]] += exp(s);
    }
    for (int t = 0; t < n; t++) p[t] = through[t][best[t]] / sum;
}

static void check_enumeration(void) {
    struct sp_head head;
    struct sp_error err;
    float scores[TOKENS * LABELS], transitions[(LABELS + 2) * LABELS], p[TOKENS];
    uint32_t tag[TOKENS];
    int best[TOKENS] = {0}, n_wrong = 0;
    double expect[TOKENS], worst = 0;
    head_init(&head);
    for (int round = 0; round < 300; round++) {
        int n = (int)check_random_int(1, TOKENS);
        const float *trans = round % 3 ? transitions : NULL;
        float range = round % 2 ? 6 : 1;
        check_fill(scores, TOKENS * LABELS, -range, range);
        check_fill(transitions, (LABELS + 2) * LABELS, -3, 3);
        enumerate(n, scores, trans, best, expect);
        if (sp_viterbi(&head, scores, (size_t)n, trans, tag, p, &err)) n_wrong++;
        for (int t = 0; t < n; t++) {
            n_wrong += tag[t] != (uint32_t)best[t];
            double diff = fabs((double)p[t] - expect[t]);
            if (!(diff <= worst)) worst = diff;
        }
    }
    check_ok(n_wrong == 0, "enumeration: the best of all legal sequences");
    check_ok(worst < 1e-6, "enumeration: posteriors, largest difference %.2g", worst);
}

/* A long one: what is computed again in blocks is the same as in one piece. Without transitions and
 * without I labels, tags are independent: p is a softmax. */
static void check_long(void) {
    enum { N = 3000 };
    struct sp_head head;
    struct sp_error err;
    head_init(&head);
    snprintf(head.label[2], SP_NAME_MAX, "B-other");
    snprintf(head.label[4], SP_NAME_MAX, "N-other");
    float *scores = malloc(N * LABELS * sizeof *scores), *p = malloc(N * sizeof *p);
    uint32_t *tag = malloc(N * sizeof *tag);
    check_fill(scores, N * LABELS, -5, 5);
    double worst = 0;
    int n_wrong = sp_viterbi(&head, scores, N, NULL, tag, p, &err) != SP_OK;
    for (int t = 0; t < N; t++) {
        const float *row = scores + t * LABELS;
        double sum = 0;
        for (int k = 0; k < LABELS; k++) {
            sum += exp((double)row[k]);
            n_wrong += row[k] > row[tag[t]];
        }
        double diff = fabs((double)p[t] - exp((double)row[tag[t]]) / sum);
        if (!(diff <= worst)) worst = diff;
    }
    check_ok(n_wrong == 0 && worst < 1e-6, "long: 3000 tokens in blocks, p off by %.2g", worst);
    free(scores);
    free(p);
    free(tag);
}

/* Scores that favour what is not legal, by far. */
static void check_extreme(void) {
    struct sp_head head;
    struct sp_error err;
    float scores[4 * LABELS] = {0}, p[4];
    uint32_t tag[4];
    head_init(&head);
    for (int t = 0; t < 4; t++) scores[t * LABELS + 2] = 3e4f;
    scores[1 * LABELS + 4] = 6e4f;
    bool ok = sp_viterbi(&head, scores, 4, NULL, tag, p, &err) == SP_OK;
    int as_int[4];
    for (int t = 0; ok && t < 4; t++) {
        as_int[t] = (int)tag[t];
        ok = p[t] >= 0 && p[t] <= 1;
    }
    check_ok(ok && legal(as_int, 4),
             "extreme: illegal favourites give a legal answer, 0 <= p <= 1");
    check_ok(sp_viterbi(&head, scores, 0, NULL, tag, p, &err) == SP_OK, "extreme: no tokens");
}

static void check_refusals(void) {
    struct sp_head head;
    struct sp_error err;
    float scores[2 * LABELS] = {0}, transitions[(LABELS + 2) * LABELS] = {0}, p[2];
    uint32_t tag[2];
    head_init(&head);
    scores[7] = NAN;
    check_ok(sp_viterbi(&head, scores, 2, NULL, tag, p, &err) == SP_E_DATA &&
                 strstr(err.msg, "token 1"),
             "refused: a score that is NaN: %s", err.msg);
    scores[7] = 0;
    transitions[3] = INFINITY;
    check_ok(sp_viterbi(&head, scores, 2, transitions, tag, p, &err) == SP_E_DATA,
             "refused: infinite transitions: %s", err.msg);
    for (uint32_t i = 0; i < LABELS; i++) snprintf(head.label[i], SP_NAME_MAX, "I-degree");
    check_ok(sp_viterbi(&head, scores, 2, NULL, tag, p, &err) == SP_E_DATA,
             "refused: nothing but I labels: %s", err.msg);
    head.type = SP_HEAD_CLASS;
    check_ok(sp_viterbi(&head, scores, 2, NULL, tag, p, &err) == SP_E_USAGE,
             "refused: a class head: %s", err.msg);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("enumeration")) check_enumeration();
    if (check_wanted("long")) check_long();
    if (check_wanted("extreme")) check_extreme();
    if (check_wanted("refused")) check_refusals();
    return check_end();
}
