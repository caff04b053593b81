/* Text that grows, with labelled spans that follow every rewriting of it. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

/* ---- random numbers ---- */

uint64_t sp_draw(uint64_t *random) {
    uint64_t z = *random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
uint32_t sp_draw_below(uint64_t *random, uint32_t n) {
    return (uint32_t)(((sp_draw(random) >> 32) * n) >> 32);
}
int sp_draw_int(uint64_t *random, int low, int high) {
    return high <= low ? low : low + (int)sp_draw_below(random, (uint32_t)(high - low + 1));
}
bool sp_draw_percent(uint64_t *random, uint32_t percent) {
    return sp_draw_below(random, 100) < percent;
}

/* ---- text ---- */

bool sp_text_add(struct sp_text *t, const char *s, size_t n) {
    if (n > SP_CV_BYTES_MAX || t->n > SP_CV_BYTES_MAX - n) return false;
    if (t->n + n + 1 > t->cap) {
        size_t cap = (t->n + n + 1) * 2;
        char *p = realloc(t->s, cap);
        if (!p) return false;
        t->s = p;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
    return true;
}

bool sp_text_mark(struct sp_text *t, const struct sp_cv_span *span) {
    if (t->n_span == t->cap_span) {
        size_t cap = t->cap_span ? t->cap_span * 2 : 16;
        struct sp_cv_span *p = reallocarray(t->span, cap, sizeof *p);
        if (!p) return false;
        t->span = p;
        t->cap_span = cap;
    }
    t->span[t->n_span++] = *span;
    return true;
}

bool sp_text_note(struct sp_text *t, const struct sp_note *note) {
    if (t->n_note == t->cap_note) {
        size_t cap = t->cap_note ? t->cap_note * 2 : 16;
        struct sp_note *p = reallocarray(t->note, cap, sizeof *p);
        if (!p) return false;
        t->note = p;
        t->cap_note = cap;
    }
    t->note[t->n_note++] = *note;
    return true;
}

void sp_text_free(struct sp_text *t) {
    free(t->s);
    free(t->span);
    free(t->note);
    memset(t, 0, sizeof *t);
}

size_t sp_utf8_next(const char *s, size_t at, size_t n) {
    at++;
    while (at < n && ((uint8_t)s[at] & 0xC0) == 0x80) at++;
    return at;
}
size_t sp_utf8_width(const char *s, size_t n) {
    size_t width = 0;
    for (size_t i = 0; i < n; i++) width += ((uint8_t)s[i] & 0xC0) != 0x80;
    return width;
}

size_t sp_text_column(const struct sp_text *t) {
    const char *nl = t->n ? memrchr(t->s, '\n', t->n) : NULL;
    size_t start = nl ? (size_t)(nl - t->s) + 1 : 0;
    return sp_utf8_width(t->s + start, t->n - start);
}

/* ---- edits ---- */

void sp_edit_start(struct sp_edit *e, struct sp_text *t, size_t from) {
    memset(e, 0, sizeof *e);
    e->text = t;
    e->from = from;
}

static void edit_add(struct sp_edit *e, const char *s, size_t n, uint32_t source, bool follow) {
    if (e->failed || n > SP_CV_BYTES_MAX || e->n > SP_CV_BYTES_MAX - n) {
        e->failed = true;
        return;
    }
    if (e->n + n > e->cap) {
        size_t cap = (e->n + n) * 2 + 64;
        char *p = realloc(e->s, cap);
        if (p) e->s = p;
        uint32_t *q = reallocarray(e->source, cap, sizeof *q);
        if (q) e->source = q;
        if (!p || !q) {
            e->failed = true;
            return;
        }
        e->cap = cap;
    }
    for (size_t i = 0; i < n; i++) {
        e->s[e->n] = s[i];
        e->source[e->n++] = follow ? source + (uint32_t)i : source;
    }
}

void sp_edit_keep(struct sp_edit *e, size_t at, size_t n) {
    edit_add(e, e->text->s + at, n, (uint32_t)(at - e->from + 1), true);
}
void sp_edit_replace(struct sp_edit *e, size_t at, const char *s, size_t n) {
    edit_add(e, s, n, (uint32_t)(at - e->from + 1), false);
}
void sp_edit_insert(struct sp_edit *e, const char *s, size_t n) {
    edit_add(e, s, n, 0, false);
}

/* Where the bytes of the text have gone: the reach of what is left of [*start, *end); false:
 * nothing is. reach (2 a byte of the old text): first and one behind the last new byte; 0, 0: none.
 */
static bool follow(const struct sp_edit *e, const uint32_t *reach, size_t *start, size_t *end) {
    uint32_t first = UINT32_MAX, last = 0;
    if (*start < e->from) return true;
    for (size_t i = *start - e->from; i < *end - e->from; i++) {
        if (!reach[2 * i + 1]) continue;
        if (reach[2 * i] < first) first = reach[2 * i];
        if (reach[2 * i + 1] > last) last = reach[2 * i + 1];
    }
    *start = e->from + first;
    *end = e->from + last;
    return last > 0;
}

/* Spans and notes follow their bytes; one that has nothing left is dropped. */
static bool move_spans(struct sp_edit *e) {
    struct sp_text *t = e->text;
    size_t n_span = 0, n_note = 0;
    if (!t->n_span && !t->n_note) return true;
    uint32_t *reach = calloc(t->n - e->from + 1, 2 * sizeof *reach);
    if (!reach) return false;
    for (size_t i = 0; i < e->n; i++) {
        if (!e->source[i]) continue;
        uint32_t *r = reach + 2 * (size_t)(e->source[i] - 1);
        if (!r[1] || r[0] > i) r[0] = (uint32_t)i;
        if (r[1] <= i) r[1] = (uint32_t)i + 1;
    }
    for (size_t k = 0; k < t->n_span; k++)
        if (follow(e, reach, &t->span[k].start, &t->span[k].end)) t->span[n_span++] = t->span[k];
    for (size_t k = 0; k < t->n_note; k++)
        if (follow(e, reach, &t->note[k].start, &t->note[k].end)) t->note[n_note++] = t->note[k];
    t->n_span = n_span;
    t->n_note = n_note;
    free(reach);
    return true;
}

bool sp_edit_finish(struct sp_edit *e) {
    bool ok = !e->failed && move_spans(e);
    if (ok) {
        e->text->n = e->from;
        ok = sp_text_add(e->text, e->s ? e->s : "", e->n);
    }
    free(e->s);
    free(e->source);
    return ok;
}

/* ---- words ---- */

/* Is "an" said before it? By the first letter; by its name where letters are read one by one, as of
 * an MBA or an M.Sc. */
bool sp_text_takes_an(const char *s, size_t n) {
    size_t word = 0, small = 0, small_rest = 0;
    while (word < n && isalnum((unsigned char)s[word]))
        small += islower((unsigned char)s[word++]) != 0;
    for (size_t i = word; i < n; i++) small_rest += islower((unsigned char)s[i]) != 0;
    bool capitals = n > 1 && isupper((unsigned char)s[0]) && isupper((unsigned char)s[1]);
    bool spelled = n == 1 || (word == 1 && s[1] == '.') ||
                   (capitals && (small || (word <= 4 && (small_rest || n <= 5))));
    if (spelled) return strchr("AEFHILMNORSX", *s) != NULL;
    return n && strchr("AEIOUaeiou", *s) && strncasecmp(s, "uni", 3) != 0 &&
           strncasecmp(s, "eu", 2) != 0 && strncasecmp(s, "one", 3) != 0 &&
           strncasecmp(s, "use", 3) != 0;
}

/* ---- operations ---- */

bool sp_text_case(struct sp_text *t, size_t from, enum sp_case to) {
    struct sp_edit e;
    sp_edit_start(&e, t, from);
    bool inside = false;
    for (size_t i = from, next; i < t->n; i = next) {
        utf8proc_int32_t code;
        next = sp_utf8_next(t->s, i, t->n);
        utf8proc_iterate((const uint8_t *)t->s + i, (utf8proc_ssize_t)(next - i), &code);
        bool upper = to == SP_CASE_UPPER || (to == SP_CASE_TITLE && !inside);
        inside = code >= 0 && utf8proc_category(code) <= UTF8PROC_CATEGORY_LO && code != ' ';
        utf8proc_int32_t other = upper ? utf8proc_toupper(code) : utf8proc_tolower(code);
        uint8_t bytes[4];
        utf8proc_ssize_t n = code < 0 ? 0 : utf8proc_encode_char(other, bytes);
        if (code == 0xDF && upper) /* the capital sharp s of newer Unicode tables is hardly used */
            sp_edit_replace(&e, i, "SS", 2);
        else if (n > 0)
            sp_edit_replace(&e, i, (char *)bytes, (size_t)n);
        else
            sp_edit_keep(&e, i, next - i);
    }
    return sp_edit_finish(&e);
}

bool sp_text_space_letters(struct sp_text *t, size_t from) {
    struct sp_edit e;
    sp_edit_start(&e, t, from);
    for (size_t i = from, next; i < t->n; i = next) {
        next = sp_utf8_next(t->s, i, t->n);
        if (i > from && t->s[i] != '\n' && t->s[i - 1] != '\n') sp_edit_insert(&e, " ", 1);
        sp_edit_keep(&e, i, next - i);
    }
    return sp_edit_finish(&e);
}

/* Lower-case ASCII letters, digits, dots and hyphens only: a mailbox or a path. */
bool sp_text_ascii(struct sp_text *t, size_t from) {
    if (!sp_text_case(t, from, SP_CASE_LOWER)) return false;
    struct sp_edit e;
    sp_edit_start(&e, t, from);
    for (size_t i = from; i < t->n; i++) {
        char ch = t->s[i];
        if ((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '.' || ch == '-')
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

static bool inside_span(const struct sp_text *t, size_t at) {
    for (size_t i = t->n_span; i--;)
        if (t->span[i].start < at && at < t->span[i].end) return true;
    for (size_t i = t->n_note; i--;)
        if (t->note[i].start < at && at < t->note[i].end) return true;
    return false;
}

/* Breaks lines at spaces after at most `width` columns; a line's own indentation is repeated. */
bool sp_text_wrap(struct sp_text *t, size_t from, size_t width, bool keep_spans) {
    struct sp_edit e;
    sp_edit_start(&e, t, from);
    for (size_t line = from; line < t->n;) {
        const char *nl = memchr(t->s + line, '\n', t->n - line);
        size_t end = nl ? (size_t)(nl - t->s) : t->n, margin = line;
        while (margin < end && t->s[margin] == ' ') margin++;
        size_t start = line;
        for (bool first = true; start < end; first = false) {
            size_t room = first ? width : width - (margin - line < width ? margin - line : 0);
            size_t cut = start, at = start;
            for (size_t w = 0; at < end && w < room; w++) {
                at = sp_utf8_next(t->s, at, end);
                if (at < end && t->s[at] == ' ' && at > margin &&
                    !(keep_spans && inside_span(t, at)))
                    cut = at;
            }
            if (at >= end || cut <= start) cut = at >= end ? end : cut;
            if (cut <= start) { /* one long word */
                while (at < end && (t->s[at] != ' ' || (keep_spans && inside_span(t, at)))) at++;
                cut = at;
            }
            if (!first) {
                sp_edit_insert(&e, "\n", 1);
                sp_edit_insert(&e, t->s + line, margin - line);
            }
            sp_edit_keep(&e, start, cut - start);
            start = cut;
            while (start < end && t->s[start] == ' ') start++;
        }
        if (nl) sp_edit_keep(&e, end, 1);
        line = end + 1;
    }
    return sp_edit_finish(&e);
}

bool sp_text_indent(struct sp_text *t, size_t from, size_t width) {
    static const char blank[] = "                                                                ";
    struct sp_edit e;
    if (width >= sizeof blank) width = sizeof blank - 1;
    sp_edit_start(&e, t, from);
    for (size_t i = from; i < t->n; i++) {
        sp_edit_keep(&e, i, 1);
        if (t->s[i] == '\n' && i + 1 < t->n && t->s[i + 1] != '\n')
            sp_edit_insert(&e, blank, width);
    }
    return sp_edit_finish(&e);
}

static size_t line_end(const struct sp_text *t, size_t at, size_t end) {
    const char *nl = at < end ? memchr(t->s + at, '\n', end - at) : NULL;
    return nl ? (size_t)(nl - t->s) : end;
}

bool sp_text_columns(struct sp_text *t, size_t from, size_t middle, size_t width) {
    struct sp_edit e;
    sp_edit_start(&e, t, from);
    size_t left = from, right = middle, end = t->n;
    while (left < middle || right < end) {
        size_t left_end = line_end(t, left, middle), right_end = line_end(t, right, end);
        size_t column = 0;
        if (left < left_end) {
            column = sp_utf8_width(t->s + left, left_end - left);
            sp_edit_keep(&e, left, left_end - left);
        }
        if (right < right_end) {
            sp_edit_insert(&e, " ", column > 0 && column >= width);
            for (; column < width; column++) sp_edit_insert(&e, " ", 1);
            sp_edit_keep(&e, right, right_end - right);
        }
        sp_edit_insert(&e, "\n", 1);
        left = left_end < middle ? left_end + 1 : middle;
        right = right_end < end ? right_end + 1 : end;
    }
    return sp_edit_finish(&e);
}
