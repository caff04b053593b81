/* Characters and words: the classes of Unicode that the patterns of pre-tokenisers ask for, and the
 * two pre-tokenisers, written as scanners. */
#include "token.h"
#include "utf8.h"

#include <string.h>
#include <utf8proc.h>

bool sp_char_is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static enum sp_char_class class_of_unassigned(uint32_t cp) {
    if (sp_unicode_in(SP_UNICODE_LETTERS, cp)) return SP_CHAR_LETTER;
    return sp_unicode_in(SP_UNICODE_NUMBERS, cp) ? SP_CHAR_NUMBER : SP_CHAR_OTHER;
}

enum sp_char_class sp_char_class(uint32_t cp) {
    if (cp < 0x80) {
        if ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z') return SP_CHAR_LETTER;
        if (cp >= '0' && cp <= '9') return SP_CHAR_NUMBER;
        return sp_char_is_space(cp) ? SP_CHAR_SPACE : SP_CHAR_OTHER;
    }
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return SP_CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return SP_CHAR_NUMBER;
    case UTF8PROC_CATEGORY_CN: return class_of_unassigned(cp);
    default: return sp_char_is_space(cp) ? SP_CHAR_SPACE : SP_CHAR_OTHER;
    }
}

bool sp_char_is_word(uint32_t cp) {
    if (cp == '_' || sp_char_class(cp) == SP_CHAR_LETTER) return true;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC: return true;
    default:
        /* Join_Control, and the Other_Alphabetic symbols. */
        return cp == 0x200C || cp == 0x200D || (cp >= 0x24B6 && cp <= 0x24E9) ||
               (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
               (cp >= 0x1F170 && cp <= 0x1F189);
    }
}

bool sp_char_is_punctuation(uint32_t cp) {
    if (cp < 0x80) return cp > ' ' && cp < 0x7F && sp_char_class(cp) == SP_CHAR_OTHER;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return !sp_unicode_in(SP_UNICODE_UNPUNCTUATED, cp);
    default: return sp_unicode_in(SP_UNICODE_PUNCTUATED, cp);
    }
}

/* ---- GPT-2's pattern: contractions | ?letters | ?numbers | ?others | spaces -------------------
 */

static size_t contraction(const char *s, size_t n) {
    if (n < 2 || s[0] != '\'') return 0;
    switch (s[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd': return 2;
    case 'r':
    case 'v': return n >= 3 && s[2] == 'e' ? 3 : 0;
    case 'l': return n >= 3 && s[2] == 'l' ? 3 : 0;
    default: return 0;
    }
}

static size_t skip_class(const char *text, size_t i, size_t n, enum sp_char_class class) {
    while (i < n && sp_char_class(sp_utf8_get(text + i)) == class)
        i += sp_utf8_length((uint8_t)text[i]);
    return i;
}

/* White space leaves its last character to the word that follows it, unless it is the only one. */
static size_t skip_space(const char *text, size_t i, size_t n) {
    size_t last = i, end = i;
    while (end < n && sp_char_class(sp_utf8_get(text + end)) == SP_CHAR_SPACE) {
        last = end;
        end += sp_utf8_length((uint8_t)text[end]);
    }
    return end == n || last == i ? end : last;
}

size_t sp_words_byte_level(const char *text, size_t i, size_t n) {
    size_t end = i + contraction(text + i, n - i);
    if (end > i) return end;
    size_t start = i + (text[i] == ' ' && i + 1 < n);
    enum sp_char_class class = sp_char_class(sp_utf8_get(text + start));
    if (class == SP_CHAR_SPACE) return skip_space(text, i, n);
    return skip_class(text, start, n, class);
}

/* ---- BERT: white space removed, punctuation alone ---------------------------------------------
 */

bool sp_words_bert(const char *text, size_t *i, size_t *end, size_t n) {
    size_t at = *i;
    while (at < n && sp_char_is_space(sp_utf8_get(text + at)))
        at += sp_utf8_length((uint8_t)text[at]);
    if (at >= n) return false;
    *i = at;
    do {
        uint32_t cp = sp_utf8_get(text + at);
        bool alone = sp_char_is_punctuation(cp);
        if (at > *i && (alone || sp_char_is_space(cp))) break;
        at += sp_utf8_length((uint8_t)text[at]);
        if (alone) break;
    } while (at < n);
    *end = at;
    return true;
}
