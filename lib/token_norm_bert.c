/* BERT's normaliser: control characters out, white space to spaces, spaces around Chinese
 * characters, accents off, lower case; with the alignments of `tokenizers`. */
#include "token.h"
#include "utf8.h"

#include <string.h>
#include <utf8proc.h>

/* A character of the text as it is so far, and where it came from. */
struct place {
    uint32_t cp;
    struct sp_align align;
};

static bool is_cleaned_away(uint32_t cp) {
    if (cp < 0x80) return (cp < ' ' && cp != '\t' && cp != '\n' && cp != '\r') || cp == 0x7F;
    if (cp == SP_UTF8_REPLACEMENT) return true;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO: return !sp_unicode_in(SP_UNICODE_KEPT, cp);
    default: return false;
    }
}

static bool is_accent(uint32_t cp) {
    if (cp < 0x300) return false;
    if (utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_MN)
        return !sp_unicode_in(SP_UNICODE_UNMARKED, cp);
    return sp_unicode_in(SP_UNICODE_MARKED, cp);
}

static uint32_t to_lower(uint32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp | 0x20 : cp;
    uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return lower == cp && cp > 0x250 ? sp_unicode_lower(cp) : lower;
}

bool sp_bert_is_chinese(uint32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B81F) ||
           (cp >= 0x2B920 && cp <= 0x2CEAF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* Plain ASCII takes one pass. */
static bool bert_ascii(struct sp_scratch *s, const struct sp_bert_options *o, const char *text,
                       size_t n, struct sp_norm *out) {
    char *to = sp_buffer_need(&s->text, n, 1);
    struct sp_align *align = sp_buffer_need(&s->align, n, sizeof *align);
    if (!to || !align) return false;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (o->clean_text && is_cleaned_away((uint8_t)c)) continue;
        if (o->clean_text && (c == '\t' || c == '\n' || c == '\r')) c = ' ';
        if (o->lowercase && c >= 'A' && c <= 'Z') c = (char)(c | 0x20);
        align[k] = (struct sp_align){(uint32_t)i, (uint32_t)i + 1};
        to[k++] = c;
    }
    *out = (struct sp_norm){.text = to, .n = k, .align = align};
    return true;
}

/* The first two steps; each old character gives at most three. */
static bool clean_and_space(struct sp_scratch *s, const struct sp_bert_options *o, const char *text,
                            size_t n, size_t *n_place) {
    struct place *p = sp_buffer_need(&s->chars, 3 * n, sizeof *p);
    if (!p) return false;
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = sp_utf8_get(text + i), len = (uint32_t)sp_utf8_length((uint8_t)text[i]);
        struct sp_align align = {(uint32_t)i, (uint32_t)i + len};
        i += len;
        if (o->clean_text && is_cleaned_away(cp)) continue;
        if (o->clean_text && sp_char_is_space(cp)) cp = ' ';
        bool apart = o->chinese_chars && sp_bert_is_chinese(cp);
        if (apart) {
            p[k] = (struct place){' ', k ? p[k - 1].align : (struct sp_align){0, 0}};
            k++;
        }
        p[k++] = (struct place){cp, align};
        if (apart) p[k++] = (struct place){' ', align};
    }
    *n_place = k;
    return true;
}

/* Decomposes and drops non-spacing marks. A character's further parts take its own place; canonical
 * order moves characters, not places. */
static bool strip_accents(struct sp_scratch *s, size_t *n_place) {
    struct place *p = s->chars.data;
    size_t n_change = 0, k = 0, old = 0;
    for (size_t i = 0; i < *n_place; i++)
        if (!sp_norm_decompose(s, p[i].cp, &n_change)) return false;
    if (!sp_norm_sort(s, 0, n_change)) return false;
    const struct sp_change *c = s->change.data;
    struct place *to = sp_buffer_need(&s->places, n_change, sizeof *to);
    if (!to) return false;
    for (size_t i = 0; i < n_change; i++) {
        size_t at = c[i].change > 0 ? old - (old > 0) : old++;
        if (is_accent((uint32_t)c[i].cp)) continue;
        to[k++] = (struct place){(uint32_t)c[i].cp, p[at].align};
    }
    struct sp_buffer swap = s->chars;
    s->chars = s->places;
    s->places = swap;
    *n_place = k;
    return true;
}

/* Lower case and UTF-8. Only U+0130 becomes two characters. */
static bool finish(struct sp_scratch *s, const struct sp_bert_options *o, size_t n_place,
                   struct sp_norm *out) {
    const struct place *p = s->chars.data;
    size_t n_max = 2 * n_place * SP_UTF8_MAX, k = 0;
    char *text = sp_buffer_need(&s->text, n_max, 1);
    struct sp_align *align = sp_buffer_need(&s->align, n_max, sizeof *align);
    if (!text || !align) return false;
    for (size_t i = 0; i < n_place; i++) {
        uint32_t cp = p[i].cp;
        size_t len;
        if (o->lowercase && cp == 0x130) {
            memcpy(text + k, "i\xcc\x87", 3);
            len = 3;
        } else {
            if (o->lowercase) cp = to_lower(cp);
            len = sp_utf8_encode(text + k, cp);
        }
        for (; len > 0; len--) align[k++] = p[i].align;
    }
    *out = (struct sp_norm){.text = text, .n = k, .align = align};
    return true;
}

enum sp_code sp_norm_bert(struct sp_scratch *s, const struct sp_bert_options *o, const char *text,
                          size_t n, struct sp_norm *out, struct sp_error *err) {
    bool ascii = true;
    for (size_t i = 0; i < n && ascii; i++) ascii = (uint8_t)text[i] < 0x80;
    bool ok;
    if (ascii) {
        ok = bert_ascii(s, o, text, n, out);
    } else {
        size_t n_place;
        ok = clean_and_space(s, o, text, n, &n_place) &&
             (!o->strip_accents || strip_accents(s, &n_place)) && finish(s, o, n_place, out);
    }
    if (ok) return SP_OK;
    return sp_error_set(err, SP_E_DEVICE, "out of memory normalising %zu bytes", n);
}
