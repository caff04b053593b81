/* Viterbi and its posteriors against the enumeration of every legal sequence. */
#include "../../lib/task.h"
#include "check.h"

#include <math.h>

#define LABELS 5
#define TOKENS 6

static const char *const labels[LABELS] = {"O", "B-degree", "I-degree", "N-year", "I-year"};

static const struct sp_tag_rules none;

static void head_init(struct sp_head *h) {
    memset(h, 0, sizeof *h);
    h->type = SP_HEAD_TAG;
    for (; h->n_label < LABELS; h->n_label++)
        snprintf(h->label[h->n_label], SP_NAME_MAX, "%s", labels[h->n_label]);
}

/* By the rules as they are written: I-x stands behind B-x, N-x or I-x; inside a word O goes on with
 * O, x with I-x. */
static bool legal(const int *tag, const bool *joined, int n) {
    static const int next[LABELS] = {0, 2, 2, 4, 4};
    for (int t = 0; t < n; t++) {
        if (joined && t > 0 && joined[t] && tag[t] != next[tag[t - 1]]) return false;
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

/* The best sequence with the bonus, and the share of all weight that goes through each of its tags
 * without it. */
static void enumerate(int n, const float *scores, const struct sp_tag_rules *rules, int *best,
                      double *p) {
    double most = -INFINITY, sum = 0, through[TOKENS][LABELS] = {{0}};
    int n_all = 1, tag[TOKENS];
    for (int t = 0; t < n; t++) n_all *= LABELS;
    for (int k = 0; k < n_all; k++) {
        for (int t = 0, v = k; t < n; t++, v /= LABELS) tag[t] = v % LABELS;
        if (!legal(tag, rules->joined, n)) continue;
        double s = score_of(tag, n, scores, rules->transitions), with = s;
        for (int t = 0; rules->bonus && t < n; t++) with += (double)rules->bonus[tag[t]];
        if (with > most) {
            most = with;
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
    float scores[TOKENS * LABELS], transitions[(LABELS + 2) * LABELS], p[TOKENS], bonus[LABELS];
    uint32_t tag[TOKENS];
    bool joined[TOKENS];
    int best[TOKENS] = {0}, n_wrong = 0;
    double expect[TOKENS], worst = 0;
    head_init(&head);
    for (int round = 0; round < 300; round++) {
        int n = (int)check_random_int(1, TOKENS);
        const float *trans = round % 3 ? transitions : NULL;
        float range = round % 2 ? 6 : 1;
        check_fill(scores, TOKENS * LABELS, -range, range);
        check_fill(transitions, (LABELS + 2) * LABELS, -3, 3);
        for (int t = 0; t < n; t++) joined[t] = check_random_int(0, 2) == 0;
        const bool *use = round % 4 < 2 ? joined : NULL;
        struct sp_tag_rules rules = {
            .transitions = trans, .joined = use, .bonus = round % 5 < 2 ? bonus : NULL};
        check_fill(bonus, LABELS, -2, 2);
        enumerate(n, scores, &rules, best, expect);
        if (sp_viterbi(&head, scores, (size_t)n, &rules, tag, p, &err)) n_wrong++;
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
    int n_wrong = sp_viterbi(&head, scores, N, &none, tag, p, &err) != SP_OK;
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
    bool ok = sp_viterbi(&head, scores, 4, &none, tag, p, &err) == SP_OK;
    int as_int[4];
    for (int t = 0; ok && t < 4; t++) {
        as_int[t] = (int)tag[t];
        ok = p[t] >= 0 && p[t] <= 1;
    }
    check_ok(ok && legal(as_int, NULL, 4),
             "extreme: illegal favourites give a legal answer, 0 <= p <= 1");
    check_ok(sp_viterbi(&head, scores, 0, &none, tag, p, &err) == SP_OK, "extreme: no tokens");
}

static void check_refusals(void) {
    struct sp_head head;
    struct sp_error err;
    float scores[2 * LABELS] = {0}, transitions[(LABELS + 2) * LABELS] = {0}, p[2];
    uint32_t tag[2];
    head_init(&head);
    scores[7] = NAN;
    check_ok(sp_viterbi(&head, scores, 2, &none, tag, p, &err) == SP_E_DATA &&
                 strstr(err.msg, "token 1"),
             "refused: a score that is NaN: %s", err.msg);
    scores[7] = 0;
    transitions[3] = INFINITY;
    check_ok(sp_viterbi(&head, scores, 2, &(struct sp_tag_rules){.transitions = transitions}, tag,
                        p, &err) == SP_E_DATA,
             "refused: infinite transitions: %s", err.msg);
    for (uint32_t i = 0; i < LABELS; i++) snprintf(head.label[i], SP_NAME_MAX, "I-degree");
    check_ok(sp_viterbi(&head, scores, 2, &none, tag, p, &err) == SP_E_DATA,
             "refused: nothing but I labels: %s", err.msg);
    head.type = SP_HEAD_CLASS;
    check_ok(sp_viterbi(&head, scores, 2, &none, tag, p, &err) == SP_E_USAGE,
             "refused: a class head: %s", err.msg);
}

/* Tokens written with a bar between them, and those that go on with a word. */
static void check_words(void) {
    static const struct {
        const char *cut, *joined;
    } words[] = {
        {"Univ|ersity| of| X", "0100"},
        {"Ph|.|D|.", "0000"},
        {"20|14|-|18", "0100"},
        {"B|Sc|2014", "010"},
        {"Z\xc3|\xbc"
         "rich",
         "01"},
        {"\xc3|\x89"
         "cole",
         "01"},
        {"caf\xc3\xa9|s", "01"},
        {"\xe5\x8c\x97|\xe4\xba\xac", "00"},
        {"a|\xff|b", "000"},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[64], got[16] = "";
        uint64_t span[8][2] = {{0}};
        bool joined[8];
        size_t n_text = 0, n = 0;
        for (const char *c = words[i].cut; *c; c++) {
            if (*c != '|') text[n_text++] = *c;
            if (*c == '|' || !c[1]) {
                span[n][1] = n_text;
                if (++n < 8) span[n][0] = n_text;
            }
        }
        sp_words_join(&span[0][0], n, text, n_text, joined);
        for (size_t t = 0; t < n; t++) got[t] = joined[t] ? '1' : '0';
        check_ok(strcmp(got, words[i].joined) == 0, "words: %zu tokens: %s", n, got);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("enumeration")) check_enumeration();
    if (check_wanted("words")) check_words();
    if (check_wanted("long")) check_long();
    if (check_wanted("extreme")) check_extreme();
    if (check_wanted("refused")) check_refusals();
    return check_end();
}
