/* Answers from scores, against the enumeration of every stretch. */
#include "../../lib/task.h"
#include "check.h"

#include <math.h>

#define LABELS 5
#define TOKENS 7

static const char *const labels[LABELS] = {"I-answer", "O", "N-year", "B-answer", "I-year"};
enum { I = 0, O = 1, B = 3 };

static void head_init(struct sp_head *h) {
    memset(h, 0, sizeof *h);
    h->type = SP_HEAD_TAG;
    for (; h->n_label < LABELS; h->n_label++)
        snprintf(h->label[h->n_label], SP_NAME_MAX, "%s", labels[h->n_label]);
}

/* Words of one letter, "b" and "B" being told apart; some tokens go on with the word before. */
struct sample {
    int n;
    char text[3 * TOKENS + 1];
    uint64_t span[2 * TOKENS];
    bool joined[TOKENS];
    float scores[TOKENS * LABELS];
};

static void sample_init(struct sample *s) {
    size_t at = 0;
    memset(s, 0, sizeof *s);
    s->n = (int)check_random_int(1, TOKENS);
    for (int t = 0; t < s->n; t++) {
        s->joined[t] = t > 0 && check_random_int(0, 2) == 0;
        if (t > 0 && !s->joined[t]) s->text[at++] = " \n"[check_random_int(0, 1)];
        s->span[2 * t] = at;
        s->text[at++] = "abcB"[check_random_int(0, 3)];
        s->span[2 * t + 1] = at;
    }
    check_fill(s->scores, TOKENS * LABELS, -4, 4);
}

static bool same_words(const char *text, uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end) {
    for (; a < a_end && b < b_end; a++, b++) {
        bool blank_a = text[a] == ' ' || text[a] == '\n',
             blank_b = text[b] == ' ' || text[b] == '\n';
        if (blank_a != blank_b || (!blank_a && text[a] != text[b])) return false;
    }
    return a == a_end && b == b_end;
}

/* Softmax over the three tags; tag O, B or I of token t. */
static double marginal(const struct sample *s, int t, int tag) {
    const float *x = s->scores + t * LABELS;
    return exp((double)x[tag]) / (exp((double)x[O]) + exp((double)x[B]) + exp((double)x[I]));
}

/* The weight of a stretch, by the formula of the header. */
static double weight_of(const struct sample *s, int first, int last, int longest, bool joined) {
    double weight = marginal(s, first, B), before = weight;
    for (int t = first; t <= last; t++) {
        int next_end = t + 1; /* of the next word */
        while (joined && next_end + 1 < s->n && s->joined[next_end + 1]) next_end++;
        double on = t + 1 == s->n                    ? 0
                    : joined && s->joined[t + 1]     ? 1
                    : next_end - first + 1 > longest ? 0
                                                     : fmin(1, marginal(s, t + 1, I) / before);
        weight *= t == last ? 1 - on : on;
        before = t + 1 < s->n ? marginal(s, t + 1, I) : 0;
    }
    return weight;
}

/* p of no answer (a_end 0), or of the words of these bytes. */
static double expected(const struct sample *s, int from, int longest, bool joined, uint64_t a,
                       uint64_t a_end) {
    double none = 1, sum = 0, same = 0;
    for (int first = from; first < s->n; first++) {
        if (joined && s->joined[first]) continue;
        none *= 1 - marginal(s, first, B);
        for (int last = first; last < s->n; last++) {
            double weight = weight_of(s, first, last, longest, joined);
            sum += weight;
            if (same_words(s->text, s->span[2 * first], s->span[2 * last + 1], a, a_end))
                same += weight;
        }
    }
    return (a_end ? same : none) / (none + sum);
}

static void check_enumeration(void) {
    struct sp_head head;
    struct sp_error err;
    int n_wrong = 0, n_answer = 0;
    double worst = 0;
    head_init(&head);
    for (int round = 0; round < 400; round++) {
        struct sample s;
        sample_init(&s);
        int from = (int)check_random_int(0, s.n - 1), longest = (int)check_random_int(1, 4);
        bool joined = round % 4 > 1;
        const struct sp_answer_text text = {s.text, strlen(s.text), s.span,
                                            joined ? s.joined : NULL, (size_t)from};
        struct sp_answers got;
        if (sp_answers_from_scores(&head, s.scores, (size_t)s.n, &text, (size_t)longest, &got,
                                   &err)) {
            n_wrong++;
            continue;
        }
        double total = got.p_none;
        double diff = fabs(got.p_none - expected(&s, from, longest, joined, 0, 0));
        if (!(diff <= worst)) worst = diff;
        for (size_t i = 0; i < got.n; i++) {
            const struct sp_answer *a = &got.item[i];
            diff = fabs(a->p - expected(&s, from, longest, joined, a->start, a->end));
            if (!(diff <= worst)) worst = diff;
            total += a->p;
            n_answer++;
            n_wrong += i > 0 && a->p > got.item[i - 1].p;
            for (size_t k = 0; k < i; k++)
                n_wrong += same_words(s.text, a->start, a->end, got.item[k].start, got.item[k].end);
        }
        if (!(fabs(total - 1) <= worst)) worst = fabs(total - 1);
        sp_answers_clear(&got);
    }
    check_ok(n_wrong == 0 && n_answer > 1000, "%d answers: in order, each once", n_answer);
    check_ok(worst < 1e-12, "p against the enumeration: largest difference %.2g", worst);
}

/* Words of three tokens each, all of them likely: whole ones, as many as fit, and at least one. */
static void check_whole_words(void) {
    static const struct {
        size_t longest, n_word;
    } cases[] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 2}, {8, 2}, {9, 3}, {100, 3}};
    enum { N = 9 };
    struct sp_head head;
    struct sp_error err;
    char text[] = "abc abc abc";
    bool joined[N];
    uint64_t span[2 * N];
    float scores[N * LABELS] = {0};
    head_init(&head);
    for (int t = 0; t < N; t++) {
        joined[t] = t % 3 > 0;
        span[2 * t] = (uint64_t)(t + t / 3);
        span[2 * t + 1] = span[2 * t] + 1;
        scores[t * LABELS + (t == 0 ? B : I)] = 20;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct sp_answer_text at = {text, strlen(text), span, joined, 0};
        struct sp_answers got;
        enum sp_code code =
            sp_answers_from_scores(&head, scores, N, &at, cases[i].longest, &got, &err);
        check_ok(!code && got.n > 0 && got.item[0].start == 0 &&
                     got.item[0].end == 4 * cases[i].n_word - 1 && got.item[0].p > 0.99,
                 "at most %zu tokens: %zu words of 3", cases[i].longest, cases[i].n_word);
        sp_answers_clear(&got);
    }
}

static void check_refusals(void) {
    struct sp_head head;
    struct sp_error err;
    struct sp_answers got;
    struct sample s;
    sample_init(&s);
    const struct sp_answer_text text = {s.text, strlen(s.text), s.span, NULL, 0};
    head_init(&head);
    check_ok(sp_head_finds_answers(&head), "a head with the three tags finds answers");
    s.scores[0] = NAN;
    enum sp_code code = sp_answers_from_scores(&head, s.scores, (size_t)s.n, &text, 4, &got, &err);
    check_ok(code == SP_E_DATA && !got.item && strstr(err.msg, "token 0"), "NaN: %s", err.msg);
    snprintf(head.label[I], SP_NAME_MAX, "I-other");
    code = sp_answers_from_scores(&head, s.scores, (size_t)s.n, &text, 4, &got, &err);
    check_ok(code == SP_E_USAGE && !sp_head_finds_answers(&head), "other tags: %s", err.msg);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("enumeration")) check_enumeration();
    if (check_wanted("whole_words")) check_whole_words();
    if (check_wanted("refusals")) check_refusals();
    return check_end();
}
