/* The functions of the rule language: {%NAME argument body}. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SHUFFLE_MAX 24
#define COLUMN_MAX 200

static bool is(struct sp_slice s, const char *name) {
    return s.n == strlen(name) && memcmp(s.s, name, s.n) == 0;
}

static bool body(struct sp_maker *m, struct sp_slice s) {
    return sp_expand(m, s.s, s.n);
}

/* The part of "a|b" that `second` asks for; a missing b is empty. */
static bool either(struct sp_maker *m, struct sp_slice s, bool second) {
    struct sp_slice part;
    sp_slice_part(&s, &part);
    if (second && !sp_slice_part(&s, &part)) return true;
    return body(m, part);
}

static bool bad(struct sp_maker *m, const char *name) {
    return sp_expand_fail(m, SP_E_DATA, "{%%%s ...}: cannot read its argument", name);
}

static bool no_number(struct sp_maker *m, struct sp_slice w) {
    return sp_expand_fail(m, SP_E_DATA, "'%.*s' is not a number, or one from A to B (A-B)",
                          (int)w.n, w.s);
}

static bool number(struct sp_maker *m, struct sp_slice *s, int *out) {
    struct sp_slice w = sp_slice_word(s);
    char text[16];
    if (!w.n || w.n >= sizeof text) return no_number(m, w);
    memcpy(text, w.s, w.n);
    text[w.n] = 0;
    char *end;
    long v = strtol(text, &end, 10);
    if (*end || v < 0 || v > COLUMN_MAX) return no_number(m, w);
    *out = (int)v;
    return true;
}

/* "A-B" drawn. */
static bool drawn_number(struct sp_maker *m, struct sp_slice *s, int *out) {
    struct sp_slice w = sp_slice_word(s);
    char text[32];
    int low, high;
    if (w.n >= sizeof text) return no_number(m, w);
    memcpy(text, w.s, w.n);
    text[w.n] = 0;
    int n = sscanf(text, "%d-%d", &low, &high);
    if (n < 1 || low < 0) return no_number(m, w);
    *out = n == 1 ? low : sp_draw_int(&m->random, low, high);
    return true;
}

static bool print(struct sp_maker *m, const char *format, int v) {
    char text[16];
    int n = snprintf(text, sizeof text, format, v);
    return sp_text_add(&m->out, text, (size_t)n) ||
           sp_expand_fail(m, SP_E_DATA, "the document grows too large");
}

static bool done(struct sp_maker *m, bool ok) {
    return ok || sp_expand_fail(m, SP_E_DEVICE, "out of memory");
}

/* ---- records ---- */

const char *const sp_slot_name[] = {"inst", "degree", "year", "field"};

static int slot_of(struct sp_slice s) {
    for (int i = 0; i < SP_SLOT_COUNT; i++)
        if (is(s, sp_slot_name[i])) return i;
    return -1;
}

static bool note(struct sp_maker *m, size_t from, struct sp_slice kind, uint32_t group) {
    struct sp_note note = {from, m->out.n, kind, group, m->period};
    return sp_text_note(&m->out, &note);
}

/* {%note KIND body}: something that may be asked for, by the rule ask.KIND. */
static bool call_note(struct sp_maker *m, struct sp_slice s) {
    struct sp_slice kind = sp_slice_word(&s);
    size_t from = m->out.n;
    if (!kind.n) return bad(m, "note");
    if (!body(m, s)) return false;
    return !m->labelled || m->out.n == from || done(m, note(m, from, kind, m->group));
}

/* Bytes from..: a slot of the current record, or of all of its institution. */
bool sp_slot_label(struct sp_maker *m, int k, size_t from) {
    if (!m->labelled || m->out.n == from) return true;
    struct sp_slice kind = {sp_slot_name[k], strlen(sp_slot_name[k])};
    for (uint32_t i = 0; i < m->n_current; i++)
        if (!note(m, from, kind, m->current + i)) return done(m, false);
    if (k == SP_SLOT_FIELD) return true;
    struct sp_cv_span span = {.start = from,
                              .end = m->out.n,
                              .field = (enum sp_field)k,
                              .record_first = m->current,
                              .n_record = m->n_current};
    return done(m, sp_text_mark(&m->out, &span));
}

bool sp_slot_write(struct sp_maker *m, int k) {
    struct sp_cv_record *r = &m->record[m->current];
    struct sp_slice shown = m->shown;
    char rule[SP_RULE_NAME_MAX];
    m->shown = (struct sp_slice){r->value[k] ? r->value[k] : "", 0};
    m->shown.n = strlen(m->shown.s);
    m->period = r->period;
    snprintf(rule, sizeof rule, "shown.%s", sp_slot_name[k]);
    bool ok = sp_expand_rule(m, rule, strlen(rule));
    m->shown = shown;
    return ok;
}

/* A slot of the current record, labelled where it is gold. */
static bool slot(struct sp_maker *m, int k, bool labelled) {
    size_t from = m->out.n;
    if (!m->record[m->current].there[k]) return true;
    if (!sp_slot_write(m, k)) return false;
    if (k == SP_INSTITUTION && m->current == SP_CV_RECORDS_MAX && !m->doc)
        return done(m, note(m, from, (struct sp_slice){"other", 5}, SP_GROUP_NONE));
    uint32_t n = m->n_current;
    if (k != SP_INSTITUTION) m->n_current = 1;
    bool ok = !labelled || sp_slot_label(m, k, from);
    m->n_current = n;
    return ok;
}

static uint32_t group_size(const struct sp_maker *m, uint32_t first) {
    uint32_t n = 1;
    while (first + n < m->n_record && m->record[first + n].group == m->record[first].group) n++;
    return n;
}

/* {%both A}: A for every record of the institution. */
static bool call_both(struct sp_maker *m, struct sp_slice s) {
    uint32_t first = m->current, n = m->n_current;
    bool ok = true;
    for (uint32_t k = 0; ok && k < n; k++) {
        m->current = first + k;
        m->n_current = 1;
        m->period = m->record[m->current].period;
        m->group = m->current;
        ok = body(m, s);
    }
    m->current = m->group = first;
    m->n_current = n;
    return ok;
}

/* B, or A for every record: no layout forgets some. */
static bool several(struct sp_maker *m, struct sp_slice s) {
    struct sp_slice a, b;
    sp_slice_part(&s, &a);
    if (sp_slice_part(&s, &b)) return body(m, b);
    return memmem(a.s, a.n, "{%both ", 7) ? body(m, a) : call_both(m, a);
}

/* {%each A|B}: A for every institution, B for those with several records. */
static bool call_each(struct sp_maker *m, struct sp_slice s, bool reverse) {
    uint32_t current = m->current, n_current = m->n_current, start[SP_CV_RECORDS_MAX], n = 0;
    for (uint32_t i = 0; i < m->n_record; i += group_size(m, i)) start[n++] = i;
    bool ok = true;
    for (uint32_t k = 0; ok && k < n; k++) {
        m->current = start[reverse ? n - 1 - k : k];
        m->n_current = group_size(m, m->current);
        m->period = m->record[m->current].period;
        m->group = m->current;
        ok = m->n_current > 1 ? several(m, s) : either(m, s, false);
    }
    m->group = SP_GROUP_PRESENT;
    m->current = current;
    m->n_current = n_current;
    return ok;
}

/* {%other body}: slots are those of a stranger's studies, and no gold. */
static bool call_other(struct sp_maker *m, struct sp_slice s) {
    struct sp_period period = m->period;
    uint32_t current = m->current, n_current = m->n_current;
    bool labelled = m->labelled;
    if (!sp_person_stranger(m)) return false;
    m->current = SP_CV_RECORDS_MAX;
    m->n_current = 1;
    m->labelled = false;
    m->period = m->record[m->current].period;
    bool ok = body(m, s);
    m->current = current;
    m->n_current = n_current;
    m->labelled = labelled;
    m->period = period;
    return ok;
}

/* {%with SLOT A|B}: A where the record has it, else B; in a question A where the text says it. */
static bool call_with(struct sp_maker *m, struct sp_slice s) {
    struct sp_slice name = sp_slice_word(&s);
    if (m->doc) return either(m, s, !sp_ask_note(m, name));
    int k = slot_of(name);
    if (k < 0) return bad(m, "with");
    return either(m, s, !m->record[m->current].there[k]);
}

/* {%local body}: with the region where the record's institution is. */
static bool call_local(struct sp_maker *m, struct sp_slice s) {
    char region[8];
    memcpy(region, m->region, sizeof region);
    if (m->record[m->current].region[0])
        memcpy(m->region, m->record[m->current].region, sizeof region);
    bool ok = body(m, s);
    memcpy(m->region, region, sizeof region);
    return ok;
}

/* ---- periods that are no studies ---- */

static bool call_jobs(struct sp_maker *m, struct sp_slice s) {
    struct sp_period period = m->period;
    int n, end = m->now_year, month = m->now_month;
    if (!drawn_number(m, &s, &n)) return false;
    bool ok = true;
    for (int k = 0; ok && k < n; k++) {
        struct sp_period *p = &m->period;
        p->ongoing = k == 0 && sp_draw_percent(&m->random, 60);
        m->group = p->ongoing ? SP_GROUP_PRESENT : SP_GROUP_JOB + m->n_job++;
        p->y2 = end;
        p->m2 = month;
        p->y1 = end - sp_draw_int(&m->random, 0, 5);
        p->m1 = sp_draw_int(&m->random, 1, p->y1 == end ? month : 12);
        end = p->y1 - (sp_draw_percent(&m->random, 15) ? 1 : 0);
        month = end == p->y1 ? p->m1 : 12;
        ok = body(m, s);
    }
    m->group = SP_GROUP_PRESENT;
    m->period = period;
    return ok;
}

/* {%held A|B}: A in the job that a person has now, B in others. */
static bool call_held(struct sp_maker *m, struct sp_slice s) {
    return either(m, s, m->group != SP_GROUP_PRESENT);
}

static bool during(struct sp_maker *m, struct sp_slice s, struct sp_period p) {
    struct sp_period period = m->period;
    m->period = p;
    bool ok = body(m, s);
    m->period = period;
    return ok;
}

/* {%past body}: a moment, or a stretch of up to 2 years, since the end of school. */
static bool call_past(struct sp_maker *m, struct sp_slice s) {
    struct sp_period p = {.ongoing = false};
    p.y1 = sp_draw_int(&m->random, m->adult_year, m->now_year);
    p.y2 = sp_draw_int(&m->random, p.y1, p.y1 + 2 > m->now_year ? m->now_year : p.y1 + 2);
    p.m1 = sp_draw_int(&m->random, 1, 12);
    p.m2 = sp_draw_int(&m->random, p.y1 == p.y2 ? p.m1 : 1, 12);
    return during(m, s, p);
}

/* {%now body}: the document's own date. */
static bool call_now(struct sp_maker *m, struct sp_slice s) {
    return during(m, s,
                  (struct sp_period){m->now_year, m->now_month, m->now_year, m->now_month, false});
}

/* {%born body}: a birthday. */
static bool call_born(struct sp_maker *m, struct sp_slice s) {
    static const struct sp_slice kind = {"born", 4};
    struct sp_period period = m->period;
    size_t from = m->out.n;
    int y = m->adult_year - 15 - sp_draw_int(&m->random, 0, 5);
    m->period = (struct sp_period){y, sp_draw_int(&m->random, 1, 12), y, 12, false};
    bool ok = body(m, s) && (!m->labelled || done(m, note(m, from, kind, m->group)));
    m->period = period;
    return ok;
}

/* {%nth1 RULE}: the alternative of RULE that the first month counts to. */
static bool nth(struct sp_maker *m, struct sp_slice s, int month) {
    char name[SP_RULE_NAME_MAX];
    const struct sp_rule *r = NULL;
    if (snprintf(name, sizeof name, "%.*s.%s", (int)s.n, s.s, m->lang) < (int)sizeof name)
        r = sp_rule_find(m->c, name, strlen(name));
    if (!r) r = sp_rule_find(m->c, s.s, s.n);
    if (!r || (uint32_t)month > r->n || month < 1) return bad(m, "nth");
    return body(m, r->body[month - 1]);
}

/* ---- questions ---- */

/* What a question calls a note: as the text prints it, or the name as it was before layout and
 * noise; free() it; NULL: no memory. */
static char *noted_text(const struct sp_maker *m, const struct sp_note *n) {
    int k = slot_of(n->kind);
    const char *name =
        m->plain && n->group < SP_CV_RECORDS_MAX && k >= 0 ? m->record[n->group].value[k] : NULL;
    char *line = name ? strdup(name) : sp_ask_line(m->doc, n->start, n->end);
    char *other = line && k == SP_DEGREE ? sp_ask_synonym(m, line) : NULL;
    if (other) free(line);
    return other ? other : line;
}

/* {%noted KIND}: what the text says of that kind, beside what is asked for. */
static bool call_noted(struct sp_maker *m, struct sp_slice s) {
    const struct sp_note *found = sp_ask_note(m, s);
    if (!found) return true;
    if (!sp_ask_given(m, found))
        return sp_expand_fail(m, SP_E_DATA, "a question says over %d things", SP_ASK_GIVEN_MAX);
    char *line = noted_text(m, found);
    bool ok = line && sp_text_add(&m->out, line, strlen(line));
    free(line);
    return done(m, ok);
}

/* {%the KIND}: "the " before what is noted, at times, where people say so. */
static bool call_the(struct sp_maker *m, struct sp_slice s) {
    static const char *const start[] = {"University of ", "Institute of ", "College of "};
    const struct sp_note *found = sp_ask_note(m, s);
    bool wanted = false;
    for (size_t i = 0; found && i < sizeof start / sizeof *start; i++)
        wanted |= strncasecmp(m->doc->s + found->start, start[i], strlen(start[i])) == 0;
    if (!wanted || sp_draw_percent(&m->random, 50)) return true;
    return done(m, sp_text_add(&m->out, "the ", 4));
}

/* {%or KIND}: notes of that kind are answers too. */
static bool call_or(struct sp_maker *m, struct sp_slice s) {
    m->also = s;
    return true;
}

/* {%level RULE|B}: the rule RULE.LEVEL of the record where there is one, else B. */
static bool call_level(struct sp_maker *m, struct sp_slice s) {
    char name[SP_RULE_NAME_MAX];
    struct sp_slice rest = s, rule;
    sp_slice_part(&rest, &rule);
    bool known = m->beside && m->beside->group < SP_CV_RECORDS_MAX &&
                 snprintf(name, sizeof name, "%.*s.%s", (int)rule.n, rule.s,
                          m->record[m->beside->group].level) < (int)sizeof name &&
                 sp_rule_find(m->c, name, strlen(name));
    if (!known) return either(m, s, true);
    m->given_level = true;
    return sp_expand_rule(m, name, strlen(name));
}

/* {%an}: the article, by what is asked for, any where that is not there; {%an KIND}: by what is
 * noted. */
static bool call_an(struct sp_maker *m, struct sp_slice s) {
    const struct sp_note *n = s.n ? sp_ask_note(m, s) : m->asked;
    if (!n) return done(m, sp_text_add(&m->out, "an", sp_draw_percent(&m->random, 20) ? 2 : 1));
    char *text = s.n ? noted_text(m, n) : sp_ask_line(m->doc, n->start, n->end);
    bool vowel = text && sp_text_takes_an(text, strlen(text)),
         ok = text && sp_text_add(&m->out, "an", vowel ? 2 : 1);
    free(text);
    return done(m, ok);
}

/* ---- layout ---- */

static bool call_repeat(struct sp_maker *m, struct sp_slice s) {
    int n;
    if (!drawn_number(m, &s, &n)) return false;
    for (int i = 0; i < n; i++)
        if (!body(m, s)) return false;
    return true;
}

static bool call_shuffle(struct sp_maker *m, struct sp_slice s) {
    struct sp_slice part[SHUFFLE_MAX];
    uint32_t n = 0;
    while (n < SHUFFLE_MAX && sp_slice_part(&s, &part[n])) n++;
    for (; n; n--) {
        uint32_t k = sp_draw_below(&m->random, n);
        if (!body(m, part[k])) return false;
        part[k] = part[n - 1];
    }
    return true;
}

static bool fill_to(struct sp_maker *m, size_t column, size_t at_least) {
    size_t have = sp_text_column(&m->out), n = have + at_least > column ? at_least : column - have;
    for (size_t i = 0; i < n; i++)
        if (!sp_text_add(&m->out, " ", 1)) return done(m, false);
    return true;
}

/* {%pad N body}: and spaces up to column N, at least one. */
static bool call_pad(struct sp_maker *m, struct sp_slice s) {
    int n;
    return number(m, &s, &n) && body(m, s) && fill_to(m, (size_t)n, 1);
}

/* {%right N left|right}: right ends in column N. */
static bool call_right(struct sp_maker *m, struct sp_slice s) {
    int n;
    struct sp_slice part;
    if (!number(m, &s, &n) || !sp_slice_part(&s, &part) || !body(m, part)) return false;
    size_t from = m->out.n;
    if (!sp_slice_part(&s, &part) || !body(m, part)) return false;
    size_t len = m->out.n - from, width = sp_utf8_width(m->out.s + from, len);
    m->out.n = from;
    size_t left = sp_text_column(&m->out);
    m->out.n = from + len;
    if (!len) return true;
    struct sp_edit e;
    sp_edit_start(&e, &m->out, from);
    size_t gap = left + width + 2 > (size_t)n ? 2 : (size_t)n - left - width;
    for (size_t i = 0; i < gap; i++) sp_edit_insert(&e, " ", 1);
    sp_edit_keep(&e, from, len);
    return done(m, sp_edit_finish(&e));
}

static bool call_columns(struct sp_maker *m, struct sp_slice s) {
    int n;
    struct sp_slice left;
    if (!number(m, &s, &n) || !sp_slice_part(&s, &left)) return false;
    size_t from = m->out.n;
    if (!body(m, left)) return false;
    size_t middle = m->out.n;
    return either(m, s, false) && done(m, sp_text_columns(&m->out, from, middle, (size_t)n));
}

static bool wrap(struct sp_maker *m, struct sp_slice s, bool keep_spans) {
    int n;
    if (!number(m, &s, &n)) return false;
    size_t from = m->out.n;
    return body(m, s) && done(m, sp_text_wrap(&m->out, from, n < 10 ? 10 : (size_t)n, keep_spans));
}

static bool call_indent(struct sp_maker *m, struct sp_slice s) {
    int n;
    if (!number(m, &s, &n)) return false;
    size_t from = m->out.n;
    return body(m, s) && done(m, sp_text_indent(&m->out, from, (size_t)n));
}

/* ---- the table ---- */

static bool call_inst(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return slot(m, SP_INSTITUTION, true);
}
static bool call_degree(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return slot(m, SP_DEGREE, true);
}
static bool call_year(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return slot(m, SP_YEAR, true);
}
static bool call_field(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return slot(m, SP_SLOT_FIELD, true);
}
static bool call_echo(struct sp_maker *m, struct sp_slice s) {
    int k = slot_of(s);
    return k < 0 ? bad(m, "echo") : slot(m, k, false);
}
static bool call_text(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return done(m, sp_text_add(&m->out, m->shown.s, m->shown.n));
}
static bool call_newest(struct sp_maker *m, struct sp_slice s) {
    return call_each(m, s, false);
}
static bool call_oldest(struct sp_maker *m, struct sp_slice s) {
    return call_each(m, s, true);
}
static bool call_any(struct sp_maker *m, struct sp_slice s) {
    return either(m, s, !m->n_record);
}
static bool call_ongoing(struct sp_maker *m, struct sp_slice s) {
    return either(m, s, !m->period.ongoing);
}
static bool call_y1(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    m->given_y1 = true;
    return print(m, "%d", m->period.y1);
}
static bool call_y2(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    m->given_y2 = true;
    return print(m, "%d", m->period.y2);
}
static bool call_yy1(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return print(m, "%02d", m->period.y1 % 100);
}
static bool call_yy2(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return print(m, "%02d", m->period.y2 % 100);
}
static bool call_m1(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return print(m, "%02d", m->period.m1);
}
static bool call_m2(struct sp_maker *m, struct sp_slice s) {
    (void)s;
    return print(m, "%02d", m->period.m2);
}
static bool call_nth1(struct sp_maker *m, struct sp_slice s) {
    return nth(m, s, m->period.m1);
}
static bool call_nth2(struct sp_maker *m, struct sp_slice s) {
    return nth(m, s, m->period.m2);
}
static bool call_wrap(struct sp_maker *m, struct sp_slice s) {
    return wrap(m, s, false);
}
static bool call_fold(struct sp_maker *m, struct sp_slice s) {
    return wrap(m, s, true);
}
static bool call_int(struct sp_maker *m, struct sp_slice s) {
    int n;
    return drawn_number(m, &s, &n) && print(m, "%d", n);
}
static bool call_case(struct sp_maker *m, struct sp_slice s, enum sp_case to) {
    size_t from = m->out.n;
    return body(m, s) && done(m, sp_text_case(&m->out, from, to));
}
static bool call_upper(struct sp_maker *m, struct sp_slice s) {
    return call_case(m, s, SP_CASE_UPPER);
}
static bool call_lower(struct sp_maker *m, struct sp_slice s) {
    return call_case(m, s, SP_CASE_LOWER);
}
static bool call_title(struct sp_maker *m, struct sp_slice s) {
    return call_case(m, s, SP_CASE_TITLE);
}
static bool call_spaced(struct sp_maker *m, struct sp_slice s) {
    size_t from = m->out.n;
    return body(m, s) && done(m, sp_text_space_letters(&m->out, from));
}
static bool call_ascii(struct sp_maker *m, struct sp_slice s) {
    size_t from = m->out.n;
    return body(m, s) && done(m, sp_text_ascii(&m->out, from));
}

static const struct {
    const char *name;
    bool (*call)(struct sp_maker *m, struct sp_slice s);
} call_table[] = {
    {"inst", call_inst},      {"degree", call_degree},   {"year", call_year},
    {"field", call_field},    {"echo", call_echo},       {"text", call_text},
    {"with", call_with},      {"each", call_newest},     {"oldest", call_oldest},
    {"both", call_both},      {"any", call_any},         {"other", call_other},
    {"local", call_local},    {"jobs", call_jobs},       {"past", call_past},
    {"now", call_now},        {"born", call_born},       {"ongoing", call_ongoing},
    {"y1", call_y1},          {"y2", call_y2},           {"yy1", call_yy1},
    {"yy2", call_yy2},        {"m1", call_m1},           {"m2", call_m2},
    {"nth1", call_nth1},      {"nth2", call_nth2},       {"int", call_int},
    {"repeat", call_repeat},  {"shuffle", call_shuffle}, {"upper", call_upper},
    {"lower", call_lower},    {"title", call_title},     {"spaced", call_spaced},
    {"note", call_note},      {"held", call_held},       {"noted", call_noted},
    {"an", call_an},          {"ascii", call_ascii},     {"pad", call_pad},
    {"right", call_right},    {"columns", call_columns}, {"wrap", call_wrap},
    {"indent", call_indent},  {"fold", call_fold},       {"the", call_the},
    {"or", call_or},          {"level", call_level},     {"foreign", sp_ask_other},
    {"lacking", sp_ask_lack},
};

static int find_call(struct sp_slice name) {
    for (int i = 0; i < (int)(sizeof call_table / sizeof *call_table); i++)
        if (is(name, call_table[i].name)) return i;
    return -1;
}

bool sp_expand_knows(struct sp_slice call) {
    return find_call(sp_slice_word(&call)) >= 0;
}

bool sp_expand_call(struct sp_maker *m, struct sp_slice call) {
    struct sp_slice name = sp_slice_word(&call);
    int i = find_call(name);
    if (i >= 0) return call_table[i].call(m, call);
    return sp_expand_fail(m, SP_E_DATA, "no function {%%%.*s}", (int)name.n, name.s);
}
