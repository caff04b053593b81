/* Words: where a cut between two tokens is none between two tags. */
#include "task.h"
#include "utf8.h"

#include <utf8proc.h>

/* From here on are scripts that put no spaces between words (Thai, Tibetan, kana, Han), with a few
 * that do: there a cut may be anywhere. */
#define RUN_ON_SCRIPTS 0x0e00

enum char_kind { OTHER, LETTER, DIGIT };

static enum char_kind kind_of(int32_t c) {
    if (c < 0 || c >= RUN_ON_SCRIPTS) return OTHER;
    utf8proc_category_t k = utf8proc_category(c);
    if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_MC) return LETTER;
    return k == UTF8PROC_CATEGORY_ND ? DIGIT : OTHER;
}

/* The character that ends at byte i > 0. */
static int32_t before(const char *text, uint64_t i) {
    uint64_t start = i - 1;
    while (start > 0 && i - start < SP_UTF8_MAX && ((uint8_t)text[start] & 0xc0) == 0x80) start--;
    size_t len;
    int32_t c = sp_utf8_decode(text + start, (size_t)(i - start), &len);
    return len == i - start ? c : -1;
}

void sp_words_join(const uint64_t *span, size_t n, const char *text, size_t n_text, bool *joined) {
    for (size_t t = 0; t < n; t++) {
        uint64_t start = span[2 * t], last = t > 0 ? span[2 * t - 1] : 0;
        joined[t] = false;
        if (t == 0 || start >= n_text || start == 0 || span[2 * t + 1] == start) continue;
        size_t len;
        /* Several tokens of one character: bytes that have a span each, or share one. */
        bool inside = ((uint8_t)text[start] & 0xc0) == 0x80 || start < last;
        enum char_kind c = kind_of(sp_utf8_decode(text + start, n_text - start, &len));
        joined[t] = inside || (start == last && c != OTHER && c == kind_of(before(text, start)));
    }
}
