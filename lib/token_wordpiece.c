/* WordPiece: the longest token that the rest of the word begins with, again and again; a word that
 * cannot be covered is unknown as a whole (Schuster and Nakajima 2012, as BERT uses it). */
#include "token.h"
#include "utf8.h"

#include <string.h>

static size_t count_chars(const char *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)s[i] & 0xC0) != 0x80;
    return k;
}

/* The longest token at word[start], its end in *end; -1: none. key holds the prefix and room. */
static int64_t longest(const struct sp_wordpiece *w, const struct sp_vocab *vocab, char *key,
                       const char *word, size_t start, size_t n, size_t *end) {
    size_t shift = start > 0 ? w->n_prefix : 0, most = w->n_token_max - shift;
    size_t len = n - start < most ? n - start : most;
    memcpy(key + shift, word + start, len);
    for (; len > 0; len--) {
        if (start + len < n && ((uint8_t)word[start + len] & 0xC0) == 0x80) continue;
        int64_t id = sp_vocab_find(vocab, key, shift + len);
        *end = start + len;
        if (id >= 0) return id;
    }
    return -1;
}

enum sp_code sp_wordpiece_encode(const struct sp_wordpiece *w, const struct sp_vocab *vocab,
                                 struct sp_scratch *s, const char *word, size_t n,
                                 const struct sp_piece **out, size_t *n_out, struct sp_error *err) {
    size_t n_char = n > w->max_chars ? count_chars(word, n) : n;
    size_t most = n_char > w->max_chars ? 1 : n;
    struct sp_piece *piece = sp_buffer_need(&s->symbol, most, sizeof *piece);
    char *key = sp_buffer_need(&s->heap, w->n_token_max + w->n_prefix, 1);
    if (!piece || !key)
        return sp_error_set(err, SP_E_DEVICE, "out of memory for a word of %zu bytes", n);
    *out = piece;
    *n_out = 1;
    piece[0] = (struct sp_piece){w->unk_id, 0, (uint32_t)n};
    if (n_char > w->max_chars) return SP_OK;
    size_t k = 0;
    for (size_t start = 0, end; start < n; start = end) {
        memcpy(key, w->prefix, w->n_prefix);
        int64_t id = longest(w, vocab, key, word, start, n, &end);
        if (id < 0) {
            piece[0] = (struct sp_piece){w->unk_id, 0, (uint32_t)n};
            return SP_OK;
        }
        piece[k++] = (struct sp_piece){(uint32_t)id, (uint32_t)start, (uint32_t)end};
    }
    *n_out = k;
    return SP_OK;
}
