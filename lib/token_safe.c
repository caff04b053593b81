/* Safe boundaries: where a text may be cut so that its parts, encoded apart, give the ids and spans
 * of the whole. Whether a place is safe depends on a few characters around it only, so the same
 * places are found however the text arrives. Text without any is cut every SP_TOKEN_PIECE_MAX
 * bytes behind the last. */
#include "token.h"
#include "utf8.h"

#include <string.h>

static bool is_continuation(char c) {
    return ((uint8_t)c & 0xC0) == 0x80;
}

static uint32_t char_before(const char *text, size_t i) {
    do i--;
    while (i > 0 && is_continuation(text[i]));
    return sp_utf8_get(text + i);
}

/* Words of the byte-level pattern never go over from one class to another, but for a space before
 * and for contractions; and white space never goes on behind something else. */
static bool splits_byte_level(uint32_t before, uint32_t cp) {
    enum sp_char_class a = sp_char_class(before), b = sp_char_class(cp);
    if (a == b || a == SP_CHAR_SPACE) return false;
    return !(before == '\'' && b == SP_CHAR_LETTER);
}

static bool splits_bert(const struct sp_tokenizer *tok, uint32_t before, uint32_t cp) {
    if (sp_char_is_space(before)) return false;
    if (cp == ' ' || cp == '\t' || cp == '\n' || cp == '\r') return true;
    if (cp < 0x80) return sp_char_is_punctuation(cp);
    bool apart = tok->normalizer == SP_NORMALIZER_BERT && tok->bert.chinese_chars;
    return apart && sp_bert_is_chinese(cp);
}

static uint8_t fold(char c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : (uint8_t)c;
}

/* Could this token stand at text[at]? What has not come yet may be the rest of it. Upper and lower
 * case are one, so that what a normaliser does to ASCII does not matter. */
static bool stands_at(const struct sp_added *a, const char *text, size_t at, size_t n) {
    size_t i = 0;
    while (i < a->n && at + i < n && fold(text[at + i]) == fold(a->content[i])) i++;
    return i == a->n || at + i == n;
}

/* Would a cut at p change whether or how this token is found: does it stand across p, strip white
 * space behind it, or ask what is on its other side? */
static bool is_cut(const struct sp_added *a, const char *text, size_t p, size_t n, bool space) {
    for (size_t before = 1; a->crosses && before < a->n && before <= p; before++)
        if (stands_at(a, text, p - before, n)) return true;
    bool ends =
        (a->single_word || (a->rstrip && space)) && a->n <= p && stands_at(a, text, p - a->n, n);
    return ends || (a->single_word && stands_at(a, text, p, n));
}

static bool keeps_added(const struct sp_added_set *set, bool normalized, const char *text, size_t p,
                        size_t n, bool space) {
    size_t reach = set->n_reach;
    if (reach == 0) return true;
    /* Where the text is not what is searched, it has to be such that nothing is changed. */
    size_t first = p > reach ? p - reach : 0, last = n - p > reach ? p + reach : n;
    for (size_t i = first; normalized && i < last; i++)
        if (text[i] < ' ' || text[i] > '~') return false;
    for (size_t i = 0; i < set->n; i++)
        if (is_cut(&set->item[i], text, p, n, space)) return false;
    return true;
}

static bool is_safe(const struct sp_tokenizer *tok, const char *text, size_t p, size_t n) {
    if (is_continuation(text[p])) return false;
    uint32_t cp = sp_utf8_get(text + p), before = char_before(text, p);
    bool splits = tok->kind == SP_TOKENIZER_BPE ? splits_byte_level(before, cp)
                                                : splits_bert(tok, before, cp);
    /* Neither character may still be changed by what stands on the other side. */
    return splits && sp_norm_is_boundary(cp) && sp_norm_is_boundary(before) &&
           keeps_added(&tok->raw, false, text, p, n, sp_char_is_space(cp)) &&
           keeps_added(&tok->normalized, true, text, p, n, sp_char_is_space(cp));
}

size_t sp_token_lookahead(const struct sp_tokenizer *tok) {
    size_t raw = tok->raw.n_reach, normalized = tok->normalized.n_reach;
    return SP_UTF8_MAX + (raw > normalized ? raw : normalized);
}

size_t sp_token_safe_behind(const struct sp_tokenizer *tok, const char *text, size_t from,
                            size_t n) {
    if (tok->kind == SP_TOKENIZER_BYTES) return n;
    size_t p = n < SP_TOKEN_PIECE_MAX ? n : SP_TOKEN_PIECE_MAX;
    for (size_t i = p < n ? p : n - (n > 0); i > from; i--)
        if (is_safe(tok, text, i, n)) return i;
    if (n < SP_TOKEN_PIECE_MAX + sp_token_lookahead(tok)) return 0;
    while (p > 0 && is_continuation(text[p])) p--;
    return p;
}

size_t sp_tokenizer_safe_prefix(const struct sp_tokenizer *tok, const char *text, size_t n) {
    return sp_token_safe_behind(tok, text, 0, n);
}
