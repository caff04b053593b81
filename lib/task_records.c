/* Records: tags grouped into (institution, degree, year). */
#include "task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const char *sp_field_name(enum sp_field field) {
    static const char *const name[SP_FIELD_COUNT] = {"institution", "degree", "year"};
    return name[field];
}

void sp_records_clear(struct sp_records *r) {
    free(r->item);
    *r = (struct sp_records){0};
}

static enum sp_code append(struct sp_records *r, struct sp_error *err) {
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        struct sp_education *item =
            cap <= SIZE_MAX / sizeof *item ? realloc(r->item, cap * sizeof *item) : NULL;
        if (!item) return sp_error_set(err, SP_E_DEVICE, "out of memory for %zu records", cap);
        r->item = item;
        r->cap = cap;
    }
    r->item[r->n++] = (struct sp_education){.start_year = 0};
    return SP_OK;
}

/* ---- the ends of a span ---- */

/* A longer span is a model's mistake, not a name. */
#define FIELD_BYTES_MAX 1000

/* The character that starts at i, or ends at i; returns its length, 0 at the end of the span. Bytes
 * that are not UTF-8 are one character each, category Cn. */
static size_t char_at(const char *text, uint64_t i, uint64_t end, utf8proc_int32_t *c) {
    if (i >= end) return 0;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                          (utf8proc_ssize_t)(end - i < 4 ? end - i : 4), c);
    if (k > 0) return (size_t)k;
    *c = 0;
    return 1;
}
static size_t char_before(const char *text, uint64_t start, uint64_t i, utf8proc_int32_t *c) {
    if (i <= start) return 0;
    uint64_t k = i - 1;
    while (k > start && i - k < 4 && ((unsigned char)text[k] & 0xc0) == 0x80) k--;
    if (char_at(text, k, i, c) == i - k) return (size_t)(i - k);
    *c = 0;
    return 1;
}

static bool is_word_char(utf8proc_int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO);
}
static bool is_apostrophe(utf8proc_int32_t c) {
    return c == '\'' || c == 0x2018 || c == 0x2019;
}
static bool is_dash(utf8proc_int32_t c) {
    return c == '-' || c == 0x2192 || utf8proc_category(c) == UTF8PROC_CATEGORY_PD;
}

static bool contains(const char *text, uint64_t start, uint64_t end, char c) {
    return memchr(text + start, c, (size_t)(end - start)) != NULL;
}

/* Is the last character of [start, end) part of the name? A dot is, in an abbreviation ("Ph.D.",
 * "Dipl."); a parenthesis when its partner is inside; a dash behind a year leaves its end open. */
static bool keeps_last(const char *text, uint64_t start, uint64_t end, utf8proc_int32_t c, size_t n,
                       enum sp_field field) {
    if (is_word_char(c)) return true;
    if (c == ')') return contains(text, start, end - n, '(');
    if (c == '.' && field == SP_DEGREE)
        return end - start <= 6 || contains(text, start, end - n, '.');
    return field == SP_YEAR && (is_dash(c) || c == '?');
}
static bool keeps_first(const char *text, uint64_t start, uint64_t end, utf8proc_int32_t c,
                        size_t n, enum sp_field field) {
    utf8proc_int32_t next = 0;
    if (is_word_char(c)) return true;
    if (c == '(') return contains(text, start + n, end, ')') && text[end - 1] != ')';
    return field == SP_YEAR && is_apostrophe(c) && char_at(text, start + n, end, &next) &&
           is_word_char(next);
}

void sp_span_trim(const char *text, struct sp_span *s, enum sp_field field) {
    /* A Markdown link, "[name](where)": the name ends where the link begins. */
    for (uint64_t i = s->start; i + 1 < s->end; i++)
        if (text[i] == ']' && text[i + 1] == '(') s->end = i;
    utf8proc_int32_t c;
    uint64_t before;
    do { /* what is cut at one end may leave the other's parenthesis without its partner */
        size_t n;
        before = s->end - s->start;
        while ((n = char_before(text, s->start, s->end, &c)) > 0 &&
               !keeps_last(text, s->start, s->end, c, n, field))
            s->end -= n;
        while ((n = char_at(text, s->start, s->end, &c)) > 0 &&
               !keeps_first(text, s->start, s->end, c, n, field))
            s->start += n;
    } while (s->end - s->start < before);
}

/* ---- tags to spans ---- */

struct tag_parts {
    char prefix; /* N, B, S, I; 0: no tag of a record */
    enum sp_field field;
};

static struct tag_parts parts_of(const char *label) {
    struct tag_parts t = {0};
    if (!label[0] || !strchr("NBSI", label[0]) || label[1] != '-') return t;
    for (int f = 0; f < SP_FIELD_COUNT; f++)
        if (strcmp(label + 2, sp_field_name((enum sp_field)f)) == 0)
            t = (struct tag_parts){.prefix = label[0], .field = (enum sp_field)f};
    return t;
}

/* One tagged span at a time. */
struct scan {
    const struct sp_head *head;
    const uint32_t *tag;
    const float *p;
    const uint64_t *span;
    size_t n, i;
    uint64_t done; /* end of the span before */
    const char *text;
    size_t n_text;
};

/* "BSc (Hons" with ")" behind it: the tags stopped one character early. */
static void close_parenthesis(const char *text, uint64_t n_text, struct sp_span *s) {
    if (s->end < n_text && text[s->end] == ')' && contains(text, s->start, s->end, '(') &&
        !contains(text, s->start, s->end, ')'))
        s->end++;
}

/* The tokens of a rare name are pieces of words, and tags may stop at one of them: what begins
 * inside a word begins with the word, and likewise at the end; but it stays in [low, high), off its
 * neighbours. */
static void complete_words(const char *text, uint64_t low, uint64_t high, struct sp_span *s) {
    utf8proc_int32_t inside, outside;
    size_t n;
    while (s->end - s->start < FIELD_BYTES_MAX && char_before(text, s->start, s->end, &inside) &&
           is_word_char(inside) && (n = char_at(text, s->end, high, &outside)) > 0 &&
           is_word_char(outside))
        s->end += n;
    while (s->end - s->start < FIELD_BYTES_MAX && char_at(text, s->start, s->end, &inside) &&
           is_word_char(inside) && (n = char_before(text, low, s->start, &outside)) > 0 &&
           is_word_char(outside))
        s->start -= n;
}

/* Where the next token's span begins when it is part of one, else the end of the text. */
static uint64_t next_start(const struct scan *s) {
    bool tagged = s->i < s->n && parts_of(s->head->label[s->tag[s->i]]).prefix;
    return tagged && s->span[2 * s->i] < s->n_text ? s->span[2 * s->i] : s->n_text;
}

/* The next span; its p is that of its least sure token: tokens of a span are right together or
 * not at all. False at the end. */
static bool next_span(struct scan *s, struct tag_parts *parts, struct sp_span *out) {
    while (s->i < s->n) {
        struct tag_parts first = parts_of(s->head->label[s->tag[s->i]]);
        if (!first.prefix) {
            s->i++;
            continue;
        }
        *parts = first;
        *out = (struct sp_span){
            .there = true, .start = s->span[2 * s->i], .end = s->span[2 * s->i + 1], .p = 1};
        do {
            if (s->span[2 * s->i + 1] > out->end) out->end = s->span[2 * s->i + 1];
            if (s->p[s->i] < out->p) out->p = s->p[s->i];
            if (++s->i == s->n) break;
            first = parts_of(s->head->label[s->tag[s->i]]);
        } while (first.prefix == 'I' && first.field == parts->field);
        if (out->end > s->n_text) out->end = s->n_text;
        if (out->start >= out->end) continue;
        sp_span_trim(s->text, out, parts->field);
        if (out->start < out->end) complete_words(s->text, s->done, next_start(s), out);
        if (out->start < out->end) close_parenthesis(s->text, s->n_text, out);
        if (out->start < out->end && out->end - out->start <= FIELD_BYTES_MAX) {
            s->done = out->end;
            return true;
        }
    }
    return false;
}

/* ---- spans to records ---- */

/* Records [first, n) share an institution: it may come before or after the others' fields. */
static void share_institution(struct sp_records *r, size_t first) {
    const struct sp_span *found = NULL;
    for (size_t i = first; i < r->n && !found; i++)
        if (r->item[i].field[SP_INSTITUTION].there) found = &r->item[i].field[SP_INSTITUTION];
    for (size_t i = first; found && i < r->n; i++)
        if (!r->item[i].field[SP_INSTITUTION].there) r->item[i].field[SP_INSTITUTION] = *found;
}

/* Fields further apart, or with an empty line between them, are of two entries. */
#define ENTRY_GAP_MAX 200

/* Do record b's fields begin where a's end, in the same entry? */
static bool is_same_entry(const char *text, const struct sp_education *a,
                          const struct sp_education *b) {
    uint64_t from = 0, to = UINT64_MAX;
    for (int f = 0; f < SP_FIELD_COUNT; f++) {
        if (a->field[f].there && a->field[f].end > from) from = a->field[f].end;
        if (b->field[f].there && b->field[f].start < to) to = b->field[f].start;
    }
    if (to > from && to - from > ENTRY_GAP_MAX) return false;
    int n_newline = 0;
    for (uint64_t i = from; i < to && n_newline < 2; i++)
        n_newline = text[i] == '\n' ? n_newline + 1 : strchr(" \t\r", text[i]) ? n_newline : 0;
    return n_newline < 2;
}

/* One record that was taken for two: each has only what the other lacks. */
static void merge_halves(struct sp_records *r, const char *text) {
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct sp_education *last = kept > 0 ? &r->item[kept - 1] : NULL;
        const struct sp_education *e = &r->item[i];
        bool halves = last && is_same_entry(text, last, e);
        for (int f = 0; f < SP_FIELD_COUNT; f++)
            halves = halves && !(last->field[f].there && e->field[f].there);
        for (int f = 0; halves && f < SP_FIELD_COUNT; f++)
            if (e->field[f].there) last->field[f] = e->field[f];
        if (!halves) r->item[kept++] = *e;
    }
    r->n = kept;
}

/* Two degrees of an institution that is printed once: when the tags did not say so, the degree
 * without one has that of the record before it in the entry, or else of the one behind it. */
static void adopt_institutions(struct sp_records *r, const char *text) {
    for (size_t i = 0; i < r->n; i++) {
        struct sp_education *e = &r->item[i];
        const struct sp_education *before = i > 0 ? e - 1 : NULL;
        const struct sp_education *behind = i + 1 < r->n ? e + 1 : NULL;
        if (e->field[SP_INSTITUTION].there || !e->field[SP_DEGREE].there) continue;
        if (before && before->field[SP_INSTITUTION].there && is_same_entry(text, before, e))
            e->field[SP_INSTITUTION] = before->field[SP_INSTITUTION];
        else if (behind && behind->field[SP_INSTITUTION].there && is_same_entry(text, e, behind))
            e->field[SP_INSTITUTION] = behind->field[SP_INSTITUTION];
    }
}

static bool only_year(const struct sp_education *e) {
    return !e->field[SP_INSTITUTION].there && !e->field[SP_DEGREE].there;
}

/* p is kept off 0 and 1, whose odds know no bounds. */
static float calibrated(float p, const float calibration[2]) {
    if (!(calibration[0] > 0)) return p;
    p = p < 1e-6f ? 1e-6f : p > 1 - 1e-6f ? 1 - 1e-6f : p;
    return 1 / (1 + expf(-(calibration[0] * logf(p / (1 - p)) + calibration[1])));
}

static void weigh(struct sp_education *e, const struct sp_head *head) {
    float sum = 0, n = 0;
    unsigned kind = 0;
    for (int f = 0; f < SP_FIELD_COUNT; f++) {
        if (!e->field[f].there) continue;
        sum += e->field[f].p;
        n++;
        kind |= 1U << f;
    }
    e->p = n > 0 ? calibrated(sum / n * (1 - head->doubt[kind]), head->calibration) : 0;
}

void sp_records_drop_unsure(struct sp_records *r, float p_field, float p_record) {
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct sp_education e = r->item[i];
        for (int f = 0; f < SP_FIELD_COUNT; f++)
            if (e.field[f].there && e.field[f].p < p_field) e.field[f].there = false;
        if (!e.field[SP_YEAR].there) e.start_year = e.end_year = 0;
        if (!only_year(&e) && e.p >= p_record) r->item[kept++] = e;
    }
    r->n = kept;
}

static void finish(struct sp_records *r, const struct sp_head *head, const char *text) {
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct sp_education e = r->item[i];
        const struct sp_span *y = &e.field[SP_YEAR];
        if (only_year(&e)) continue;
        if (y->there)
            sp_year_parse(text + y->start, (size_t)(y->end - y->start), &e.start_year, &e.end_year);
        weigh(&e, head);
        r->item[kept++] = e;
    }
    r->n = kept;
}

/* ---- lists ---- */

/* Spans of one field in a row, none of which begins a record: places in one list and their titles
 * in another, or years in a column of their own. */
#define RUN_MAX 16
struct run {
    struct sp_span span[RUN_MAX];
    size_t n;
    enum sp_field field;
};

static enum sp_code add_span(struct sp_records *r, struct tag_parts parts,
                             const struct sp_span *span, size_t *family, struct sp_error *err) {
    bool taken = r->n > 0 && r->item[r->n - 1].field[parts.field].there;
    if (r->n == 0 || parts.prefix == 'N' || parts.prefix == 'S' || taken) {
        if (parts.prefix != 'S') {
            share_institution(r, *family);
            *family = r->n;
        }
        enum sp_code code = append(r, err);
        if (code) return code;
    }
    r->item[r->n - 1].field[parts.field] = *span;
    return SP_OK;
}

/* One each for the last records, in their order, where all of these lack the field. */
static enum sp_code end_run(struct sp_records *r, struct run *run, size_t *family,
                            struct sp_error *err) {
    size_t n = run->n;
    bool list = n > 1 && n <= r->n;
    for (size_t i = 0; list && i < n; i++) list = !r->item[r->n - n + i].field[run->field].there;
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < n && !code; i++) {
        if (list)
            r->item[r->n - n + i].field[run->field] = run->span[i];
        else
            code = add_span(r, (struct tag_parts){'B', run->field}, &run->span[i], family, err);
    }
    run->n = 0;
    return code;
}

enum sp_code sp_records_from_tags(const struct sp_head *head, const uint32_t *tag, const float *p,
                                  const uint64_t *span, size_t n, const char *text, size_t n_text,
                                  struct sp_records *out, struct sp_error *err) {
    struct scan s = {
        .head = head, .tag = tag, .p = p, .span = span, .n = n, .text = text, .n_text = n_text};
    struct tag_parts parts;
    struct sp_span found;
    struct run run = {.n = 0};
    size_t family = 0; /* the first record of those that share an institution */
    enum sp_code code = SP_OK;
    out->n = 0;
    while (!code && next_span(&s, &parts, &found)) {
        bool begins = parts.prefix == 'N' || parts.prefix == 'S';
        if (begins || parts.field != run.field || run.n == RUN_MAX)
            code = end_run(out, &run, &family, err);
        if (!code && begins) {
            code = add_span(out, parts, &found, &family, err);
        } else if (!code) {
            run.field = parts.field;
            run.span[run.n++] = found;
        }
    }
    if (!code) code = end_run(out, &run, &family, err);
    if (code) return code;
    share_institution(out, family);
    merge_halves(out, text);
    adopt_institutions(out, text);
    finish(out, head, text);
    return SP_OK;
}
