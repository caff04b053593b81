/* Questions about a finished document: what was noted while it was written, asked by rules. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TRIES 6        /* for every question that is wanted */
#define ANSWER_MAX 110 /* bytes */
#define SWAP_PERCENT 30
#define SYNONYM_PERCENT 25

static struct sp_slice slice(const char *s) {
    return (struct sp_slice){s, strlen(s)};
}

static bool kind_is(const struct sp_note *n, struct sp_slice kind) {
    return n->kind.n == kind.n && memcmp(n->kind.s, kind.s, kind.n) == 0;
}

static const struct sp_note *find_note(const struct sp_maker *m, uint32_t group,
                                       struct sp_slice kind) {
    for (size_t i = 0; i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        if (n->group == group && kind_is(n, kind)) return n;
    }
    return NULL;
}

const struct sp_note *sp_ask_note(const struct sp_maker *m, struct sp_slice kind) {
    if (!m->doc || !m->beside) return NULL;
    const struct sp_note *own = find_note(m, m->beside->group, kind);
    bool stands = m->swap && (kind_is(m->swap, kind) || (kind_is(m->swap, slice("firm")) && own &&
                                                         kind_is(own, slice("employer"))));
    return stands ? m->swap : own;
}

bool sp_ask_given(struct sp_maker *m, const struct sp_note *note) {
    if (m->n_given == SP_ASK_GIVEN_MAX) return false;
    m->given[m->n_given++] = note;
    m->swapped |= note == m->swap;
    return true;
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

/* Of jobs that are over: any, or the last one, or the first. */
enum pick { PICK_ANY = 0, PICK_LAST, PICK_FIRST };

/* The kinds that questions are of, the notes that answer them (the first that there are), a note to
 * ask beside where a record or a job lacks them, in how many of 100 tries what the text does not
 * say is asked for all the same (seldom, where most texts do not say it), and which jobs. */
static const struct kind {
    const char *name, *note[2], *beside;
    uint32_t absent;
    enum pick pick;
} kind_table[] = {
    {"role", {"role", NULL}, "employer", 8, PICK_ANY},
    {"employer", {"employer", NULL}, "role", 15, PICK_ANY},
    {"student", {"student", "degree"}, "inst", 3, PICK_ANY},
    {"degree", {"degree", NULL}, "inst", 10, PICK_ANY},
    {"inst", {"inst", NULL}, "degree", 10, PICK_ANY},
    {"field", {"field", NULL}, "inst", 8, PICK_ANY},
    {"year", {"year", NULL}, "inst", 12, PICK_ANY},
    {"years", {"year", NULL}, "inst", 8, PICK_ANY},
    {"start", {"year", NULL}, "inst", 12, PICK_ANY},
    {"job", {"job", NULL}, "firm", 12, PICK_ANY},
    {"firm", {"firm", NULL}, "job", 12, PICK_ANY},
    {"lastjob", {"job", NULL}, NULL, 8, PICK_LAST},
    {"lastfirm", {"firm", NULL}, NULL, 8, PICK_LAST},
    {"firstjob", {"job", NULL}, NULL, 0, PICK_FIRST},
    {"left", {"when", NULL}, NULL, 0, PICK_ANY},
    {"joined", {"when", NULL}, NULL, 0, PICK_ANY},
    {"unknown", {"unknown", NULL}, NULL, 100, PICK_ANY},
};

/* Others: notes of their own name. */
static struct kind find_kind(const char *name) {
    for (size_t i = 0; i < sizeof kind_table / sizeof *kind_table; i++)
        if (strcmp(kind_table[i].name, name) == 0) return kind_table[i];
    return (struct kind){name, {name, NULL}, NULL, 8, PICK_ANY};
}

static bool of_record(const struct sp_note *n) {
    return n->group < SP_CV_RECORDS_MAX;
}

/* Does the text say that the note's studies go on? */
static bool is_studying(const struct sp_maker *m, const struct sp_note *n) {
    return of_record(n) && m->record[n->group].period.ongoing &&
           (find_note(m, n->group, slice("year")) || find_note(m, n->group, slice("student")));
}

/* When the note's studies, or job, were. */
static struct sp_period period_of(const struct sp_maker *m, const struct sp_note *n) {
    struct sp_period period = of_record(n) ? m->record[n->group].period : n->period;
    if (of_record(n)) period.ongoing = is_studying(m, n);
    return period;
}

/* Is the note's job the last, or the first, of those that are over, for all that the text says? */
static bool is_picked(const struct sp_maker *m, enum pick pick, const struct sp_note *n) {
    char year[16];
    bool last = pick == PICK_LAST;
    const struct sp_period *p = &n->period;
    snprintf(year, sizeof year, "%d", last ? p->y2 : p->y1);
    bool picked = memmem(m->doc->s, m->doc->n, year, strlen(year)) != NULL, alone = true;
    for (size_t i = 0; picked && i < m->doc->n_note; i++) {
        const struct sp_note *o = &m->doc->note[i];
        const struct sp_period *q = &o->period;
        if (o->group == n->group || o->group < SP_GROUP_JOB || o->group >= SP_GROUP_PRESENT)
            continue;
        alone = false;
        picked = last ? q->y2 * 12 + q->m2 < p->y2 * 12 + p->m2
                      : q->y1 * 12 + q->m1 > p->y1 * 12 + p->m1;
    }
    return picked && (last || !alone);
}

/* Is it when a job was, and no time within it? */
static bool is_job_time(const struct sp_maker *m, const struct sp_note *n) {
    const struct sp_note *job = find_note(m, n->group, slice("firm"));
    if (!job) job = find_note(m, n->group, slice("job"));
    return job && job->period.y1 == n->period.y1 && job->period.y2 == n->period.y2;
}

/* A degree says what somebody is a student for only while they study. */
static bool answers_kind(const struct sp_maker *m, const struct kind *kind,
                         const struct sp_note *n) {
    if (kind->pick != PICK_ANY) return is_picked(m, kind->pick, n);
    if (kind_is(n, slice("when"))) return is_job_time(m, n);
    return strcmp(kind->name, "student") != 0 || !kind_is(n, slice("degree")) || is_studying(m, n);
}

/* One of the notes `name`; with `lacking`, of those whose record or job says nothing of that. */
static const struct sp_note *draw_note(struct sp_maker *m, const struct kind *kind,
                                       const char *name, const char *lacking) {
    const struct sp_note *drawn = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < m->doc->n_note; i++) {
        const struct sp_note *note = &m->doc->note[i];
        if (!kind_is(note, slice(name))) continue;
        if (lacking ? find_note(m, note->group, slice(lacking)) != NULL
                    : !answers_kind(m, kind, note))
            continue;
        if (sp_draw_below(&m->random, ++n) == 0) drawn = note;
    }
    return drawn;
}

/* Might a reader say what the person is, though no note does: by a job, or by studies? */
static bool hints_role(const struct sp_maker *m) {
    bool found = false;
    for (size_t i = 0; !found && i < m->doc->n_note; i++)
        found = kind_is(&m->doc->note[i], slice("job")) || is_studying(m, &m->doc->note[i]);
    return found;
}

static bool is_noted(const struct sp_maker *m, const char *kind) {
    bool found = false;
    for (size_t i = 0; !found && i < m->doc->n_note; i++)
        found = kind_is(&m->doc->note[i], slice(kind));
    return found;
}

/* Sets what is asked for, and beside what; false: nothing comes of this kind. */
static bool draw_target(struct sp_maker *m, const struct kind *kind) {
    bool absent = sp_draw_percent(&m->random, kind->absent);
    m->asked = m->beside = NULL;
    if (absent && kind->beside) m->beside = draw_note(m, kind, kind->beside, kind->note[0]);
    for (int i = 0; i < 2 && kind->note[i] && !m->asked && !m->beside; i++)
        m->asked = draw_note(m, kind, kind->note[i], NULL);
    if (m->asked) m->beside = m->asked;
    if (!m->beside && kind->pick != PICK_ANY && is_noted(m, kind->note[0])) return false;
    return m->beside || (absent && (strcmp(kind->name, "role") != 0 || !hints_role(m)));
}

/* Where the answer stands; false: this note does not answer this kind. */
static bool answer_place(const struct sp_maker *m, const struct kind *kind, const struct sp_note *n,
                         struct sp_cv_place *place) {
    *place = (struct sp_cv_place){n->start, n->end};
    if (strcmp(kind->name, "start") == 0 || strcmp(kind->name, "joined") == 0)
        return cut_year(m->doc->s, &place->start, &place->end, false, !n->period.ongoing);
    if (strcmp(kind->name, "year") != 0 && strcmp(kind->name, "left") != 0) return true;
    return !n->period.ongoing && cut_year(m->doc->s, &place->start, &place->end, true, false);
}

static bool is_letter(char ch) {
    return isalnum((unsigned char)ch) || (unsigned char)ch >= 0x80;
}

/* Is it the same, but for case and punctuation? */
static bool same_letters(const char *a, size_t n_a, const char *b, size_t n_b) {
    for (size_t i = 0, k = 0;; i++, k++) {
        while (i < n_a && !is_letter(a[i])) i++;
        while (k < n_b && !is_letter(b[k])) k++;
        if (i == n_a || k == n_b) return i == n_a && k == n_b;
        if (tolower((unsigned char)a[i]) != tolower((unsigned char)b[k])) return false;
    }
}

/* Cuts the next name off a list "a;b". */
static bool next_name(struct sp_slice *rest, struct sp_slice *name) {
    if (!rest->n) return false;
    const char *end = memchr(rest->s, ';', rest->n);
    *name = (struct sp_slice){rest->s, end ? (size_t)(end - rest->s) : rest->n};
    size_t used = name->n + (end != NULL);
    *rest = (struct sp_slice){rest->s + used, rest->n - used};
    return true;
}

/* The names of a degree that the rule ask.same lists; n 0: none. */
static struct sp_slice synonyms(const struct sp_maker *m, const char *degree, size_t n) {
    const struct sp_rule *r = sp_rule_find(m->c, "ask.same", 8);
    for (uint32_t i = 0; r && i < r->n; i++) {
        struct sp_slice rest = r->body[i], name;
        while (next_name(&rest, &name))
            if (same_letters(name.s, name.n, degree, n)) return r->body[i];
    }
    return (struct sp_slice){0};
}

char *sp_ask_synonym(const struct sp_maker *m, const char *degree) {
    const struct sp_slice names = synonyms(m, degree, strlen(degree));
    struct sp_slice rest = names, name = {0};
    uint32_t n = 0;
    if (!m->synonym || !names.n) return NULL;
    while (next_name(&rest, &name)) n++;
    rest = names;
    for (uint32_t i = 0; i <= m->synonym % n; i++) next_name(&rest, &name);
    return strndup(name.s, name.n);
}

/* Do two notes say the same, but for case and punctuation? A degree says as much as one that goes
 * on behind it: a Bachelor of Arts is a Bachelor. */
static bool says_so(const struct sp_maker *m, const struct sp_note *given,
                    const struct sp_note *n) {
    const char *s = m->doc->s;
    size_t i = given->start, k = n->start;
    for (;; i++, k++) {
        while (i < given->end && !is_letter(s[i])) i++;
        bool between = k == n->end || !is_letter(s[k]);
        while (k < n->end && !is_letter(s[k])) k++;
        if (i == given->end) return k == n->end || (between && kind_is(n, slice("degree")));
        if (k == n->end || tolower((unsigned char)s[i]) != tolower((unsigned char)s[k]))
            return false;
    }
}

/* Also where a degree goes by another of its names. */
static bool says(const struct sp_maker *m, const struct sp_note *given, const struct sp_note *n) {
    if (says_so(m, given, n)) return true;
    if (!kind_is(n, slice("degree"))) return false;
    const char *s = m->doc->s;
    const struct sp_slice names = synonyms(m, s + n->start, n->end - n->start);
    return names.n && synonyms(m, s + given->start, given->end - given->start).s == names.s;
}

/* Draws what the question might say in place of what is beside its answer: another record's degree,
 * another job's employer. Mostly nothing fits then. */
static void draw_swap(struct sp_maker *m, const struct kind *kind) {
    uint32_t count = 0;
    m->swap = NULL;
    if (!m->asked || strcmp(kind->name, "student") == 0 || kind->pick != PICK_ANY ||
        kind_is(m->asked, slice("when")))
        return;
    if (!sp_draw_percent(&m->random, SWAP_PERCENT)) return;
    for (size_t i = 0; i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i], *own = find_note(m, m->beside->group, n->kind);
        if (!own && kind_is(n, slice("firm")))
            own = find_note(m, m->beside->group, slice("employer"));
        if (!own || own == m->asked || n->group == own->group || says(m, own, n) || says(m, n, own))
            continue;
        if (is_studying(m, n) && !is_studying(m, own)) continue;
        if (kind_is(n, slice("degree")) &&
            strcmp(m->record[n->group].level, m->record[own->group].level) == 0)
            continue;
        if (sp_draw_below(&m->random, ++count) == 0) m->swap = n;
    }
}

/* A level is known by its degree. */
static bool is_of_level(const struct sp_maker *m, const struct sp_note *n, const char *level) {
    return of_record(n) && strcmp(m->record[n->group].level, level) == 0 &&
           find_note(m, n->group, slice("degree"));
}

/* Is a note's record, or job, one that has all that the question says? */
static bool fits(const struct sp_maker *m, const struct sp_note *n) {
    struct sp_period p = period_of(m, n);
    if (m->beside && of_record(n) && of_record(m->beside) && p.ongoing != m->period.ongoing)
        return false;
    if ((m->given_y1 && p.y1 != m->period.y1) || (m->given_y2 && p.y2 != m->period.y2))
        return false;
    if (m->given_level && !is_of_level(m, n, m->record[m->beside->group].level)) return false;
    for (uint32_t i = 0; i < m->n_given; i++) {
        bool found = false;
        for (size_t k = 0; !found && k < m->doc->n_note; k++) {
            const struct sp_note *o = &m->doc->note[k];
            found =
                o->group == n->group && kind_is(o, m->given[i]->kind) && says(m, m->given[i], o);
        }
        if (!found) return false;
    }
    return true;
}

/* Does the text say the year, where it speaks of the record? */
static bool shows_year(const struct sp_maker *m, int year) {
    char text[16];
    snprintf(text, sizeof text, "%d", year);
    bool found = memmem(m->doc->s, m->doc->n, text, 4) != NULL;
    for (size_t i = 0; !m->beside && i < m->doc->n_note; i++) {
        struct sp_period p = period_of(m, &m->doc->note[i]);
        found |= p.y1 == year || p.y2 == year;
    }
    if (!m->beside || !of_record(m->beside)) return found;
    for (size_t i = 0; i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        const char *s = m->doc->s + n->start;
        if (n->group == m->beside->group && kind_is(n, slice("year")) &&
            (memmem(s, n->end - n->start, text, 4) || memmem(s, n->end - n->start, text + 2, 2)))
            return true;
    }
    return false;
}

/* And nobody writes "from 2019 to 2019". */
static bool shows_years(const struct sp_maker *m) {
    if (m->given_y1 && m->given_y2 && m->period.y1 == m->period.y2) return false;
    bool beside = m->beside; /* else it is of a year in which nothing was */
    return (!m->given_y1 || shows_year(m, m->period.y1) == beside) &&
           (!m->given_y2 || shows_year(m, m->period.y2) == beside);
}

/* Takes the text over; false: there was none. */
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

/* A note's answer and its place; nothing where it is no answer or is there already. */
static bool add_note(struct sp_maker *m, const struct kind *kind, const struct sp_note *n,
                     struct sp_cv_question *q) {
    struct sp_cv_place place;
    bool fresh = answer_place(m, kind, n, &place) && q->n_place < SP_CV_PLACES_MAX &&
                 place.end - place.start <= ANSWER_MAX;
    for (uint32_t i = 0; fresh && i < q->n_place; i++)
        fresh = q->place[i].start != place.start || q->place[i].end != place.end;
    if (!fresh) return true;
    q->place[q->n_place++] = place;
    return add_answer(q, sp_ask_line(m->doc, place.start, place.end));
}

/* Is a note one of those that the question asks for? */
static bool may_answer(const struct sp_maker *m, const struct kind *kind, const struct sp_note *n) {
    bool asked = m->also.n && kind_is(n, m->also);
    for (int i = 0; i < 2 && kind->note[i] && !m->asked; i++)
        asked |= kind_is(n, slice(kind->note[i]));
    if (m->asked) asked |= kind_is(n, m->asked->kind);
    return asked && answers_kind(m, kind, n);
}

/* Does the question name what the text says of the person, by chance? */
static bool names_noted(const struct sp_maker *m, const char *query) {
    bool found = false;
    for (size_t i = 0; !found && i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        found = memmem(query, strlen(query), m->doc->s + n->start, n->end - n->start) != NULL;
    }
    return found;
}

/* Is a note of a kind that people take for KIND, though it is none of it? */
static bool is_near(const struct sp_maker *m, struct sp_slice kind, const struct sp_note *note) {
    const struct sp_note firm = {.kind = slice("firm")}, inst = {.kind = slice("inst")};
    bool studies = kind_is(&inst, kind), near;
    near = studies ? kind_is(note, slice("other")) || kind_is(note, slice("employer")) ||
                         kind_is(note, slice("firm"))
                   : kind_is(&firm, kind) && kind_is(note, slice("inst"));
    for (size_t i = 0; near && i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        bool own = studies ? kind_is(n, slice("inst"))
                           : kind_is(n, slice("firm")) || kind_is(n, slice("employer"));
        near = !own || (!says(m, n, note) && !says(m, note, n));
    }
    return near;
}

bool sp_ask_other(struct sp_maker *m, struct sp_slice s) {
    const char *space = memchr(s.s, ' ', s.n);
    if (!space || !m->doc)
        return sp_expand_fail(m, SP_E_DATA, "{%%foreign KIND RULE}: in questions");
    const struct sp_slice kind = {s.s, (size_t)(space - s.s)};
    const struct sp_note *drawn = NULL;
    bool near = sp_draw_percent(&m->random, 60);
    uint32_t count = 0;
    for (size_t i = 0; near && i < m->doc->n_note; i++)
        if (is_near(m, kind, &m->doc->note[i]) && sp_draw_below(&m->random, ++count) == 0)
            drawn = &m->doc->note[i];
    if (drawn) {
        char *line = sp_ask_line(m->doc, drawn->start, drawn->end);
        bool ok = line && sp_text_add(&m->out, line, strlen(line));
        free(line);
        m->foreign = true;
        return ok || sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    }
    size_t from = m->out.n;
    bool ok = sp_expand_rule(m, space + 1, s.n - kind.n - 1);
    m->unasked |= ok && memmem(m->doc->s, m->doc->n, m->out.s + from, m->out.n - from);
    return ok;
}

/* How high a record's degree is: 0 below a bachelor's, 3 a doctor's. Of a bachelor's that is not
 * called so nobody knows. */
static uint32_t height(const struct sp_cv_record *r) {
    static const char *const low[] = {"school", "secondary", "senior",    "alevel",
                                      "gcse",   "associate", "vocational"};
    const char *degree = r->value[SP_DEGREE];
    for (size_t i = 0; i < sizeof low / sizeof *low; i++)
        if (strcmp(r->level, low[i]) == 0) return 0;
    if (strcmp(r->level, "doctor") == 0) return 3;
    return strcmp(r->level, "bachelor") == 0 && degree && *degree == 'B' ? 1 : 2;
}

bool sp_ask_lack(struct sp_maker *m, struct sp_slice s) {
    static const char *const level[] = {"bachelor", "master", "doctor"};
    uint32_t highest = 0;
    struct sp_slice part;
    char name[SP_RULE_NAME_MAX];
    for (uint32_t i = 0; i < m->n_record; i++) {
        uint32_t h = height(&m->record[i]);
        if (h > highest) highest = h;
    }
    sp_slice_part(&s, &part);
    if (highest == 3) return !sp_slice_part(&s, &part) || sp_expand(m, part.s, part.n);
    int n = snprintf(name, sizeof name, "%.*s.%s", (int)part.n, part.s,
                     level[highest + sp_draw_below(&m->random, 3 - highest)]);
    m->foreign = true;
    return n < (int)sizeof name && sp_expand_rule(m, name, (size_t)n);
}

/* Whatever in the text fits the question: what was asked for first. */
static bool find_answers(struct sp_maker *m, const struct kind *kind, struct sp_cv_question *q) {
    if (m->asked && !add_note(m, kind, m->asked, q)) return false;
    if (m->asked && !q->n_place) return true;
    for (size_t i = 0; i < m->doc->n_note; i++) {
        const struct sp_note *n = &m->doc->note[i];
        if (may_answer(m, kind, n) && fits(m, n) && !add_note(m, kind, n, q)) return false;
    }
    return q->n_place > 0 || add_answer(q, strdup("unknown"));
}

static void question_clear(struct sp_cv_question *q) {
    free(q->query);
    for (uint32_t i = 0; i < q->n_answer; i++) free(q->answer[i]);
    memset(q, 0, sizeof *q);
}

/* What the question says: the kind's rule, with what is noted beside the answer. */
static bool word(struct sp_maker *m, const struct kind *kind, struct sp_cv_question *q) {
    char rule[SP_RULE_NAME_MAX + 4];
    snprintf(rule, sizeof rule, "ask.%s", kind->name);
    int year = sp_draw_int(&m->random, m->adult_year, m->now_year);
    m->period =
        m->beside ? period_of(m, m->beside) : (struct sp_period){year - 2, 1, year, 1, false};
    m->n_given = 0;
    m->also = (struct sp_slice){0};
    m->given_level = m->given_y1 = m->given_y2 = false;
    m->plain = sp_draw_percent(&m->random, 50);
    m->synonym =
        sp_draw_percent(&m->random, SYNONYM_PERCENT) ? 1 + sp_draw_below(&m->random, 60) : 0;
    m->swapped = m->foreign = m->unasked = false;
    draw_swap(m, kind);
    q->query = sp_expand_apart(m, rule);
    return q->query != NULL;
}

/* One question, or none (q->query NULL): what was drawn cannot be asked. */
static bool ask_one(struct sp_maker *m, struct sp_cv_question *q) {
    memset(q, 0, sizeof *q);
    char *name = sp_expand_apart(m, "ask");
    if (!name) return false;
    size_t n = strlen(name);
    if (n < sizeof q->kind) memcpy(q->kind, name, n + 1);
    const struct kind kind = find_kind(q->kind);
    free(name);
    if (n >= sizeof q->kind)
        return sp_expand_fail(m, SP_E_DATA, "rule ask: the name of a kind is too long");
    if (!draw_target(m, &kind)) return true;
    if (!word(m, &kind, q)) return false;
    if (m->swapped) m->asked = NULL;
    bool fine = !m->unasked && strlen(q->query) < SP_CV_LINE_MAX && shows_years(m) &&
                (m->beside || m->foreign || !names_noted(m, q->query));
    if (fine && !find_answers(m, &kind, q)) return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    if (!q->n_answer) {
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
