/* Pages: CVs written by hand, in which studies, names and years are replaced (man 5
 * statepipe-corpus). A page "=== NAME REGION LANGUAGE LEVEL..." becomes an alternative NAME of the
 * rules `written` and pages.LANGUAGE, a layout doc.NAME, and its header written.NAME. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_YEAR 2026       /* of the youngest pages: the document's year, after the shift */
#define KEPT_INST_PERCENT 20 /* marks whose own text stays */
#define KEPT_OTHERS_PERCENT 50
static const char OPEN[] = "\xE2\x9F\xA6", CLOSE[] = "\xE2\x9F\xA7"; /* U+27E6, U+27E7 */
enum { MARK_BYTES = sizeof OPEN - 1 };

struct mark {
    int slot;
    uint32_t first, n; /* records from 0 */
    struct sp_slice text;
};

bool sp_page_at_mark(const char *s, size_t n) {
    return n >= MARK_BYTES && memcmp(s, OPEN, MARK_BYTES) == 0;
}

/* "⟦i1,2:TEXT⟧" at s; NULL, or what is wrong with it. *length: bytes of it all. */
static const char *read_mark(const char *s, size_t n, struct mark *mark, size_t *length) {
    static const char kinds[] = "idyf"; /* by slot */
    const char *end = memmem(s, n, CLOSE, MARK_BYTES), *at = s + MARK_BYTES;
    if (!end) return "has no end";
    const char *kind = at < end && *at ? strchr(kinds, *at) : NULL;
    if (!kind) return "is none of i (institution), d (degree), y (year), f (field)";
    mark->slot = (int)(kind - kinds);
    mark->n = 0;
    do {
        at++;
        if (at >= end || *at < '1' || *at > '9') return "has no record's number from 1 to 9";
        uint32_t record = (uint32_t)(*at++ - '1');
        if (!mark->n++)
            mark->first = record;
        else if (record != mark->first + mark->n - 1)
            return "is of records that are no neighbours";
    } while (at < end && *at == ',');
    if (at >= end || *at++ != ':') return "has no ':' behind its records";
    mark->text = (struct sp_slice){at, (size_t)(end - at)};
    *length = (size_t)(end - s) + MARK_BYTES;
    if (at == end) return "is empty";
    return memmem(at, mark->text.n, OPEN, MARK_BYTES) ? "has another one in it" : NULL;
}

/* ---- reading ---- */

/* *at: where the mark is that is wrong. */
static enum sp_code check_marks(struct sp_slice body, uint32_t n_record, const char **at,
                                struct sp_error *err) {
    for (size_t i = 0, length; i < body.n; i += length) {
        struct mark mark;
        length = 1;
        if (!sp_page_at_mark(body.s + i, body.n - i)) continue;
        const char *wrong = read_mark(body.s + i, body.n - i, &mark, &length);
        if (!wrong && mark.first + mark.n > n_record) wrong = "is of a record without a level";
        if (!wrong) continue;
        *at = body.s + i;
        const char *end = memchr(body.s + i, '\n', body.n - i);
        size_t shown = end ? (size_t)(end - body.s) - i : body.n - i;
        return sp_error_set(err, SP_E_DATA, "'%.*s': the mark %s", shown > 60 ? 60 : (int)shown,
                            body.s + i, wrong);
    }
    return SP_OK;
}

/* *at, the header at first: where an error is. */
static enum sp_code add_page(struct sp_corpus *c, struct sp_slice head, struct sp_slice body,
                             const char **at, struct sp_error *err) {
    char name[SP_RULE_NAME_MAX];
    struct sp_slice rest = head, id = sp_slice_word(&rest), about = rest;
    bool heldout = id.n && *id.s == '!';
    if (heldout) id.s++, id.n--;
    uint32_t n_record = 0;
    struct sp_slice region = sp_slice_word(&rest), lang = sp_slice_word(&rest);
    for (struct sp_slice level; (level = sp_slice_word(&rest)).n;) n_record++;
    bool ok = id.n > 2 && region.n == 2 && isupper((unsigned char)*region.s) && lang.n == 2 &&
              islower((unsigned char)*lang.s) && n_record <= SP_CV_RECORDS_MAX;
    if (!ok || id.n + sizeof "written." > sizeof name)
        return sp_error_set(err, SP_E_DATA,
                            "'%.*s' is not NAME REGION LANGUAGE LEVEL...: a name of 3 to %zu "
                            "letters, a region as US, a language as en, at most %d levels",
                            (int)head.n, head.s, sizeof name - sizeof "written.",
                            SP_CV_RECORDS_MAX);
    int n = snprintf(name, sizeof name, "doc.%.*s", (int)id.n, id.s);
    if (sp_rule_find(c, name, (size_t)n))
        return sp_error_set(err, SP_E_DATA, "there is a layout %s already", name + 4);
    const char *brace = sp_rule_unmatched(body);
    if (brace) {
        *at = brace;
        return sp_error_set(err, SP_E_DATA, "braces do not match");
    }
    enum sp_code code = check_marks(body, n_record, at, err);
    if (code) return code;
    ok = sp_rule_add(sp_rule_get(c, name, (size_t)n), body, 1, false);
    n = snprintf(name, sizeof name, "written.%.*s", (int)id.n, id.s);
    struct sp_rule *header = sp_rule_get(c, name, (size_t)n);
    ok = ok && sp_rule_add(header, about, 1, false);
    if (ok) header->literal = true;
    ok = ok && sp_rule_add(sp_rule_get(c, "written", 7), id, 1, heldout);
    n = snprintf(name, sizeof name, "pages.%.*s", (int)lang.n, lang.s);
    ok = ok && sp_rule_add(sp_rule_get(c, name, (size_t)n), id, 1, heldout);
    return ok ? SP_OK : sp_error_memory(err, "the corpus");
}

enum sp_code sp_page_load(struct sp_corpus *c, const char *file, struct sp_error *err) {
    static const char mark[] = "\n=== ";
    char *text;
    size_t n;
    enum sp_code code = sp_rule_load_text(c, file, &text, &n, err);
    if (code) return code;
    if (n < 4 || memcmp(text, mark + 1, 4) != 0)
        return sp_error_set(err, SP_E_DATA, "%s/%s:1: a page begins with '=== NAME ...'", c->dir,
                            file);
    const char *end = text + n, *at = text;
    while (at < end && !code) {
        const char *nl = memchr(at, '\n', (size_t)(end - at)), *body = nl ? nl + 1 : end;
        const char *next = nl ? memmem(nl, (size_t)(end - nl), mark, sizeof mark - 1) : NULL;
        next = next ? next + 1 : end;
        struct sp_slice head = {at + 4, (size_t)((nl ? nl : end) - at) - 4};
        const char *wrong = head.s;
        code = add_page(c, head, (struct sp_slice){body, (size_t)(next - body)}, &wrong, err);
        if (code) sp_corpus_place(c, c->dir, wrong, err);
        at = next;
    }
    return code;
}

/* ---- writing ---- */

bool sp_page_begin(struct sp_maker *m, const char *layout, struct sp_slice *levels) {
    char name[SP_RULE_NAME_MAX];
    int n = snprintf(name, sizeof name, "written.%s", layout);
    const struct sp_rule *r = n < (int)sizeof name ? sp_rule_find(m->c, name, (size_t)n) : NULL;
    *levels = (struct sp_slice){NULL, 0};
    if (!r) return false;
    *levels = r->body[0];
    struct sp_slice region = sp_slice_word(levels), lang = sp_slice_word(levels);
    memcpy(m->region, region.s, region.n);
    m->region[region.n] = 0;
    memcpy(m->lang, lang.s, lang.n);
    m->lang[lang.n] = 0;
    return true;
}

void sp_page_years(struct sp_maker *m) {
    m->in_page = true;
    m->shift = m->now_year - PAGE_YEAR;
    for (uint32_t i = 0; i < m->n_record; i++) {
        for (int k = 0; k < SP_SLOT_COUNT; k++) m->record[i].there[k] = true;
        m->record[i].period.ongoing = false;
    }
}

/* The year of four digits, and no more, that begins at s[i], or 0. */
static int year_at(const char *s, size_t n, size_t i) {
    if (i && isdigit((unsigned char)s[i - 1])) return 0;
    int year = 0;
    for (size_t k = i; k < i + 4; k++) {
        if (k >= n || !isdigit((unsigned char)s[k])) return 0;
        year = year * 10 + (s[k] - '0');
    }
    bool more = i + 4 < n && isdigit((unsigned char)s[i + 4]);
    return !more && year >= 1930 && year < 2050 ? year : 0;
}

/* A run of spaces in front of more text on its line, or of a mark or braces, which are not part of
 * s: made longer or shorter, so that what follows a replaced text stands in the column where it
 * was. */
static size_t column_gap(struct sp_maker *m, const char *s, size_t n) {
    size_t run = 0;
    while (run < n && s[run] == ' ') run++;
    if (run < 2 || (run < n && s[run] == '\n')) return run;
    int wanted = (int)run - m->drift;
    int gap = wanted < 2 ? 2 : wanted;
    m->drift = gap - wanted;
    return (size_t)gap;
}

bool sp_page_text(struct sp_maker *m, const char *s, size_t n) {
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        char number[16];
        int year = year_at(s, n, i);
        if (year) {
            snprintf(number, sizeof number, "%d", year + m->shift);
            ok = sp_text_add(&m->out, number, 4);
            i += 4;
        } else if (s[i] == ' ' && m->drift) {
            size_t gap = column_gap(m, s + i, n - i);
            while (i < n && s[i] == ' ') i++;
            for (; ok && gap; gap--) ok = sp_text_add(&m->out, " ", 1);
        } else {
            if (s[i] == '\n') m->drift = 0;
            ok = sp_text_add(&m->out, s + i++, 1);
        }
    }
    return ok || sp_expand_fail(m, SP_E_DATA, "the document grows too large");
}

/* Does the text say that studies go on: with a word of the rule `present`, or a year to come? */
static bool goes_on(struct sp_maker *m, const char *s, size_t n, int last) {
    if (last > m->now_year) return true;
    char name[16];
    const char *suffix[] = {m->lang, "en"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "present.%s", suffix[i]);
        const struct sp_rule *r = sp_rule_find(m->c, name, strlen(name));
        if (!r && i) r = sp_rule_find(m->c, "present", 7);
        for (uint32_t k = 0; r && k < r->n; k++)
            if (r->body[k].n && memmem(s, n, r->body[k].s, r->body[k].n)) return true;
    }
    return false;
}

/* The period that a record's printed years say. */
static void read_period(struct sp_maker *m, struct sp_cv_record *r, const char *s, size_t n) {
    int first = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        int year = year_at(s, n, i);
        if (!year) continue;
        if (!first) first = year;
        last = year;
    }
    if (!first) return;
    struct sp_period *p = &r->period;
    int years = p->y2 - p->y1;
    p->ongoing = goes_on(m, s, n, last);
    p->y1 = first == last && !p->ongoing ? last - years : first;
    p->y2 = last;
}

/* What is printed is what the records of a mark have, for questions. */
static bool keep_value(struct sp_maker *m, const struct mark *mark, size_t from) {
    for (uint32_t i = 0; i < mark->n; i++) {
        char **value = &m->record[mark->first + i].value[mark->slot];
        char *copy = sp_ask_line(&m->out, from, m->out.n);
        if (!copy) return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
        free(*value);
        *value = copy;
    }
    return true;
}

bool sp_page_mark(struct sp_maker *m, const char *s, size_t n, size_t *length) {
    struct mark mark;
    const char *wrong = read_mark(s, n, &mark, length);
    if (wrong) return sp_expand_fail(m, SP_E_DATA, "a mark %s", wrong);
    size_t from = m->out.n;
    uint32_t kept = mark.slot == SP_INSTITUTION ? KEPT_INST_PERCENT : KEPT_OTHERS_PERCENT;
    struct sp_cv_record *r = &m->record[mark.first];
    bool own = mark.slot == SP_YEAR || !r->value[mark.slot] || !*r->value[mark.slot] ||
               sp_draw_percent(&m->random, kept);
    m->current = m->group = mark.first;
    m->n_current = mark.n;
    bool ok = own ? sp_expand(m, mark.text.s, mark.text.n) : sp_slot_write(m, mark.slot);
    if (ok && mark.slot == SP_YEAR) {
        for (uint32_t i = 0; i < mark.n; i++)
            read_period(m, r + i, m->out.s + from, m->out.n - from);
        m->period = r->period;
    }
    if (ok && mark.slot != SP_YEAR && (own || mark.n > 1)) ok = keep_value(m, &mark, from);
    ok = ok && sp_slot_label(m, mark.slot, from);
    m->group = SP_GROUP_PRESENT;
    m->drift += (int)sp_utf8_width(m->out.s + from, m->out.n - from) -
                (int)sp_utf8_width(mark.text.s, mark.text.n);
    return ok;
}
