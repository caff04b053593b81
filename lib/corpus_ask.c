/* Questions about a finished document: what was noted while it was written, asked by rules. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 6          /* for every question that is wanted */
#define ABSENT_PERCENT 8 /* how often what the text does not say is asked for all the same */
#define ANSWER_MAX 110   /* bytes */

static bool kind_is(const struct sp_note *n, struct sp_slice kind) {
    return n->kind.n == kind.n && memcmp(n->kind.s, kind.s, kind.n) == 0;
}

const struct sp_note *sp_ask_note(const struct sp_maker *m, struct sp_slice kind) {
    for (size_t i = 0; m->doc && m->asked && i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        if (n->group == m->asked->group && kind_is(n, kind)) return n;
    }
    return NULL;
}

/* Length of the white space at s[0], soft hyphens and non-breaking spaces too. */
static size_t space(const char *s) {
    if (strncmp(s, "\xC2\xA0", 2) == 0 || strncmp(s, "\xC2\xAD", 2) == 0) return 2;
    return *s && strchr(" \n\r\t\f", *s) ? 1 : 0;
}

char *sp_ask_line(const struct sp_text *t, size_t start, size_t end) {
    char *line = malloc(end - start + 1);
    size_t n = 0;
    if (!line) return NULL;
    for (size_t i = start, skip; i < end; i += skip ? skip : 1) {
        skip = space(t->s + i);
        bool soft = skip == 2 && t->s[i + 1] == '\xAD';
        if (!skip)
            line[n++] = t->s[i];
        else if (!soft && n && line[n - 1] != ' ')
            line[n++] = ' ';
    }
    while (n && line[n - 1] == ' ') n--;
    line[n] = 0;
    return line;
}

/* Narrows [*start, *end) to its last, or first, number of four digits; false: there is none. With
 * `two` there must be two of them. */
static bool cut_year(const char *s, size_t *start, size_t *end, bool last, bool two) {
    size_t found = 0, at = 0;
    for (size_t i = *start, run = 0; i <= *end; i++) {
        if (i < *end && isdigit((unsigned char)s[i])) {
            run++;
            continue;
        }
        if (run == 4 && (!found || last)) at = i - 4;
        found += run == 4;
        run = 0;
    }
    if (found < (two ? 2 : 1)) return false;
    *start = at;
    *end = at + 4;
    return true;
}

/* The kinds that questions are of, and the notes that answer them: the first that there are. */
static const struct {
    const char *kind, *note[2];
} kind_table[] = {
    {"role", {"role", "student"}}, {"years", {"year", NULL}}, {"start", {"year", NULL}}};

static const struct sp_note *draw_note(struct sp_maker *m, struct sp_slice kind) {
    const struct sp_note *drawn = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < m->doc->n_note; i++)
        if (kind_is(&m->doc->note[i], kind) && sp_draw_below(&m->random, ++n) == 0)
            drawn = &m->doc->note[i];
    return drawn;
}

static const struct sp_note *draw_target(struct sp_maker *m, const char *kind) {
    const char *const own[2] = {kind, NULL}, *const *name = own;
    for (size_t i = 0; i < sizeof kind_table / sizeof *kind_table; i++)
        if (strcmp(kind_table[i].kind, kind) == 0) name = kind_table[i].note;
    const struct sp_note *target = NULL;
    for (int i = 0; i < 2 && name[i] && !target; i++)
        target = draw_note(m, (struct sp_slice){name[i], strlen(name[i])});
    return target;
}

/* Where the answer stands; false: this note does not answer this kind. */
static bool answer_place(const struct sp_maker *m, const char *kind, size_t *start, size_t *end) {
    const struct sp_note *n = m->asked;
    *start = n->start;
    *end = n->end;
    if (strcmp(kind, "start") == 0)
        return cut_year(m->doc->s, start, end, false, !n->period.ongoing);
    if (strcmp(kind, "year") != 0) return true;
    return !n->period.ongoing && cut_year(m->doc->s, start, end, true, false);
}

static bool add_answer(struct sp_cv_question *q, char *text) {
    bool there = text,
         fresh = text && *text && strlen(text) <= ANSWER_MAX && q->n_answer < SP_CV_ANSWERS_MAX;
    for (uint32_t i = 0; fresh && i < q->n_answer; i++) fresh = strcmp(q->answer[i], text) != 0;
    if (fresh)
        q->answer[q->n_answer++] = text;
    else
        free(text);
    return there;
}

/* The answer as printed, and how else the text prints it. */
static bool find_answers(struct sp_maker *m, struct sp_cv_question *q) {
    if (!m->asked) return add_answer(q, strdup("unknown"));
    if (!answer_place(m, q->kind, &q->start, &q->end)) return true;
    if (!add_answer(q, sp_ask_line(m->doc, q->start, q->end))) return false;
    bool whole = q->start == m->asked->start && q->end == m->asked->end;
    for (size_t i = 0; q->n_answer && whole && i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        if (n->group == m->asked->group && kind_is(n, m->asked->kind) &&
            !add_answer(q, sp_ask_line(m->doc, n->start, n->end)))
            return false;
    }
    return true;
}

static void question_clear(struct sp_cv_question *q) {
    free(q->query);
    for (uint32_t i = 0; i < q->n_answer; i++) free(q->answer[i]);
    memset(q, 0, sizeof *q);
}

/* One question, or none (q->query NULL): what was drawn cannot be asked. */
static bool ask_one(struct sp_maker *m, struct sp_cv_question *q) {
    char rule[SP_RULE_NAME_MAX];
    memset(q, 0, sizeof *q);
    char *kind = sp_expand_apart(m, "ask");
    if (!kind) return false;
    int n = snprintf(rule, sizeof rule, "ask.%s", kind);
    if (n < (int)sizeof rule) memcpy(q->kind, kind, strlen(kind) + 1);
    m->asked = draw_target(m, q->kind);
    bool wanted =
        m->asked || strcmp(q->kind, "unknown") == 0 || sp_draw_percent(&m->random, ABSENT_PERCENT);
    free(kind);
    if (n >= (int)sizeof rule)
        return sp_expand_fail(m, SP_E_DATA, "rule ask: the name of a kind is too long");
    if (!wanted) return true;
    int year = sp_draw_int(&m->random, m->adult_year, m->now_year);
    m->period = m->asked ? m->asked->period : (struct sp_period){year - 2, 1, year, 1, false};
    if (!find_answers(m, q)) return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    if (!q->n_answer) return true;
    q->query = sp_expand_apart(m, rule);
    if (q->query && strlen(q->query) >= SP_CV_LINE_MAX) {
        free(q->query);
        q->query = NULL;
    }
    return !m->failed;
}

bool sp_ask(struct sp_maker *m, uint32_t n, struct sp_cv *cv) {
    struct sp_text doc = m->out;
    memset(&m->out, 0, sizeof m->out);
    m->doc = &doc;
    m->labelled = false;
    cv->question = calloc(n, sizeof *cv->question);
    bool ok = cv->question || sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    for (uint32_t i = 0; ok && i < TRIES * n && cv->n_question < n; i++) {
        struct sp_cv_question *q = &cv->question[cv->n_question];
        ok = ask_one(m, q);
        bool twice = false;
        for (size_t k = 0; ok && q->query && k < cv->n_question; k++)
            twice |= strcmp(cv->question[k].query, q->query) == 0;
        if (ok && q->query && !twice)
            cv->n_question++;
        else
            question_clear(q);
    }
    m->doc = NULL;
    m->out = doc;
    return ok;
}
