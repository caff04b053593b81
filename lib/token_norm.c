/* Normalisation Form C (Unicode Standard Annex 15) with the alignments of `tokenizers`: each
 * character of the result knows the bytes that it came from. Text that is in NFC already, and that
 * is nearly all text, is only looked at. */
#include "token.h"
#include "utf8.h"

#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 32 /* code points of one character; the longest of Unicode has 4 */
#define SORT_SHORT 24

static unsigned combining_class(int32_t cp) {
    if (cp < 0x300) return 0;
    unsigned class = (unsigned)utf8proc_get_property(cp)->combining_class & 0xFF;
    return class && sp_unicode_in(SP_UNICODE_UNORDERED, (uint32_t)cp) ? 0 : class;
}

/* Marks and the later letters of Hangul syllables join; so do a few characters of class 0, all of
 * which are marks. */
bool sp_norm_is_boundary(uint32_t cp) {
    if (cp < 0x300) return true;
    if (cp >= 0x1160 && cp <= 0x11FF) return false;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)cp);
    return p->combining_class == 0 && p->category != UTF8PROC_CATEGORY_MN &&
           p->category != UTF8PROC_CATEGORY_MC && p->category != UTF8PROC_CATEGORY_ME;
}

bool sp_norm_decompose(struct sp_scratch *s, uint32_t cp, size_t *n_change) {
    utf8proc_int32_t part[DECOMPOSED_MAX];
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, part, DECOMPOSED_MAX,
                                                 UTF8PROC_DECOMPOSE, NULL);
    /* U+11938 is of Unicode 13, `tokenizers` normalises by an older one. */
    if (n <= 0 || n > DECOMPOSED_MAX || cp == 0x11938) {
        part[0] = (utf8proc_int32_t)cp;
        n = 1;
    }
    struct sp_change *c = sp_buffer_need(&s->change, *n_change + (size_t)n, sizeof *c);
    if (!c) return false;
    for (size_t i = 0; i < (size_t)n; i++) c[(*n_change)++] = (struct sp_change){part[i], i > 0};
    return true;
}

/* Stable, by combining class: by insertion, and by counting where marks are many. */
static bool sort_marks(struct sp_scratch *s, struct sp_change *c, size_t n) {
    if (n <= SORT_SHORT) {
        for (size_t i = 1; i < n; i++) {
            struct sp_change moved = c[i];
            unsigned class = combining_class(moved.cp);
            size_t k = i;
            for (; k > 0 && combining_class(c[k - 1].cp) > class; k--) c[k] = c[k - 1];
            c[k] = moved;
        }
        return true;
    }
    size_t start[257] = {0};
    struct sp_change *sorted = sp_buffer_need(&s->sorted, n, sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < n; i++) start[combining_class(c[i].cp) + 1]++;
    for (size_t i = 1; i < 257; i++) start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++) sorted[start[combining_class(c[i].cp)]++] = c[i];
    memcpy(c, sorted, n * sizeof *c);
    return true;
}

bool sp_norm_sort(struct sp_scratch *s, size_t from, size_t n) {
    struct sp_change *c = s->change.data;
    for (size_t i = from; i < n;) {
        size_t end = i;
        while (end < n && combining_class(c[end].cp) != 0) end++;
        if (end > i && !sort_marks(s, c + i, end - i)) return false;
        i = end + 1;
    }
    return true;
}

/* The primary composite of two characters, or -1. */
static int32_t compose_pair(int32_t a, int32_t b) {
    utf8proc_int32_t pair[2] = {a, b};
    utf8proc_ssize_t n = utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return n == 1 && b != 0x11930 ? pair[0] : -1;
}

/* Canonical composition of c (n), a segment whose first character alone is a boundary; returns how
 * many are left. A composite stands for all that its parts stood for. */
static size_t compose(struct sp_change *c, size_t n) {
    size_t starter = SIZE_MAX, k = 0;
    unsigned last = 0; /* class of the last mark that stayed behind the starter, 0: none */
    for (size_t i = 0; i < n; i++) {
        unsigned class = combining_class(c[i].cp);
        bool reaches = starter != SIZE_MAX && (last == 0 || last < class);
        int32_t both = reaches ? compose_pair(c[starter].cp, c[i].cp) : -1;
        if (both >= 0) {
            c[starter] = (struct sp_change){both, c[starter].change + c[i].change - 1};
            continue;
        }
        if (class == 0) {
            starter = k;
            last = 0;
        } else if (starter != SIZE_MAX) {
            last = class;
        }
        c[k++] = c[i];
    }
    return k;
}

/* The text being built: what is copied and what is changed, with its alignment. */
struct build {
    char *text;
    struct sp_align *align;
    size_t n;
};

static bool build_room(struct sp_scratch *s, struct build *b, size_t more) {
    b->text = sp_buffer_need(&s->text, b->n + more, 1);
    b->align = sp_buffer_need(&s->align, b->n + more, sizeof *b->align);
    return b->text && b->align;
}

static void build_char(struct build *b, uint32_t cp, struct sp_align align) {
    size_t len = sp_utf8_encode(b->text + b->n, cp);
    for (size_t i = 0; i < len; i++) b->align[b->n++] = align;
}

static bool build_copy(struct sp_scratch *s, struct build *b, const char *text, size_t start,
                       size_t end) {
    if (!build_room(s, b, end - start)) return false;
    for (size_t i = start; i < end;) {
        uint32_t len = (uint32_t)sp_utf8_length((uint8_t)text[i]);
        struct sp_align align = {(uint32_t)i, (uint32_t)i + len};
        memcpy(b->text + b->n, text + i, len);
        for (uint32_t k = 0; k < len; k++) b->align[b->n++] = align;
        i += len;
    }
    return true;
}

/* Normalises the segment [start, end) of the text. */
static bool build_segment(struct sp_scratch *s, struct build *b, const char *text, size_t start,
                          size_t end) {
    size_t n_change = 0, n_char = 0;
    for (size_t i = start; i < end; i += sp_utf8_length((uint8_t)text[i])) {
        struct sp_align *place = sp_buffer_need(&s->places, n_char + 1, sizeof *place);
        if (!place || !sp_norm_decompose(s, sp_utf8_get(text + i), &n_change)) return false;
        place[n_char++] =
            (struct sp_align){(uint32_t)i, (uint32_t)(i + sp_utf8_length((uint8_t)text[i]))};
    }
    if (!sp_norm_sort(s, 0, n_change)) return false;
    struct sp_change *c = s->change.data;
    const struct sp_align *place = s->places.data;
    n_change = compose(c, n_change);
    if (!build_room(s, b, n_change * SP_UTF8_MAX)) return false;
    size_t old = 0;
    for (size_t i = 0; i < n_change; i++) {
        bool added = c[i].change > 0;
        size_t at = added && old > 0 ? old - 1 : old < n_char ? old : n_char - 1;
        build_char(b, (uint32_t)c[i].cp, place[at]);
        if (!added) old += 1 + (size_t)-c[i].change;
    }
    return true;
}

/* Is a character that stands alone (no mark behind it) its own NFC? */
static bool is_own_nfc(uint32_t cp) {
    if (cp < 0x340) return true;
    if (cp >= 0xAC00 && cp <= 0xD7A3) return true;
    return utf8proc_get_property((utf8proc_int32_t)cp)->decomp_seqindex == UINT16_MAX ||
           utf8proc_get_property((utf8proc_int32_t)cp)->decomp_type != 0;
}

/* The next segment at or behind i that may change: it begins at *start, ends at *end. */
static bool find_segment(const char *text, size_t i, size_t n, size_t *start, size_t *end) {
    for (size_t begin = i; i < n;) {
        uint8_t lead = (uint8_t)text[i];
        if (lead < 0xCC) { /* below U+0300 */
            begin = i;
            i += lead < 0x80 ? 1 : 2;
            continue;
        }
        uint32_t cp = sp_utf8_get(text + i);
        bool boundary = sp_norm_is_boundary(cp);
        if (boundary) begin = i;
        i += sp_utf8_length(lead);
        if (boundary && is_own_nfc(cp)) continue;
        while (i < n && !sp_norm_is_boundary(sp_utf8_get(text + i)))
            i += sp_utf8_length((uint8_t)text[i]);
        *start = begin;
        *end = i;
        return true;
    }
    return false;
}

enum sp_code sp_norm_nfc(struct sp_scratch *s, const char *text, size_t n, struct sp_norm *out,
                         struct sp_error *err) {
    *out = (struct sp_norm){.text = text, .n = n};
    size_t start, end, done = 0;
    if (!find_segment(text, 0, n, &start, &end)) return SP_OK;
    struct build b = {0};
    do {
        if (!build_copy(s, &b, text, done, start) || !build_segment(s, &b, text, start, end))
            return sp_error_memory(err, "normalised text");
        done = end;
    } while (find_segment(text, done, n, &start, &end));
    if (!build_copy(s, &b, text, done, n)) return sp_error_memory(err, "normalised text");
    *out = (struct sp_norm){.text = b.text, .n = b.n, .align = b.align};
    return SP_OK;
}
