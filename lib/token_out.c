/* Tokens to text. */
#include "token_out.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* Blanks that BERT's decoder takes out again: before punctuation and in contractions. */
static bool joins(const char *s, size_t n) {
    static const char *const joined[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++)
        if (strlen(joined[i]) == n && memcmp(joined[i], s, n) == 0) return true;
    return false;
}

bool sp_token_text(const struct sp_tokenizer *tok, uint32_t id, bool at_start, const char **s,
                   size_t *n, bool *blank) {
    bool space;
    *s = sp_tokenizer_token(tok, id, n, &space);
    if (!*s) return false;
    *blank = space && !at_start && !joins(*s, *n);
    return true;
}

enum sp_code sp_token_textless(const struct sp_tokenizer *tok, int64_t n_vocab, uint32_t **id,
                               size_t *n, struct sp_error *err) {
    size_t n_byte;
    bool space;
    *n = 0;
    *id = malloc((size_t)n_vocab * sizeof **id);
    if (!*id) return sp_error_memory(err, "a vocabulary");
    for (uint32_t i = 0; i < (uint64_t)n_vocab; i++)
        if (!sp_tokenizer_token(tok, i, &n_byte, &space)) (*id)[(*n)++] = i;
    return SP_OK;
}

static enum sp_code append(struct sp_token_out *t, const char *s, size_t n, struct sp_error *err) {
    if (t->n + n > t->cap) {
        size_t cap = 2 * (t->n + n) + 64;
        char *bytes = realloc(t->bytes, cap);
        if (!bytes) return sp_error_memory(err, "a text");
        t->bytes = bytes;
        t->cap = cap;
    }
    memcpy(t->bytes + t->n, s, n);
    t->n += n;
    return SP_OK;
}

/* Ends the text before the stop string that is complete first, wherever tokens begin and end; of
 * several the longest. What is ready has none of them in it. */
static void find_stop(struct sp_token_out *t) {
    size_t start = t->n, end = SIZE_MAX;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t k = strlen(t->stop[i]);
        const char *at = memmem(t->bytes + t->n_ready, t->n - t->n_ready, t->stop[i], k);
        if (!at) continue;
        size_t from = (size_t)(at - t->bytes);
        if (from + k > end || (from + k == end && from >= start)) continue;
        start = from;
        end = from + k;
    }
    t->stopped = end != SIZE_MAX;
    t->n = start;
}

/* Bytes at the end that a stop string could begin with. */
static size_t begun(const struct sp_token_out *t) {
    size_t most = 0;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t k = strlen(t->stop[i]) - 1;
        if (k > t->n - t->n_ready) k = t->n - t->n_ready;
        while (k > most && memcmp(t->bytes + t->n - k, t->stop[i], k) != 0) k--;
        if (k > most) most = k;
    }
    return most;
}

/* A character whose end is not there yet is not ready. */
static void set_ready(struct sp_token_out *t, size_t n) {
    for (size_t k = 1; k < SP_UTF8_MAX && t->n_ready + k <= n; k++)
        if (sp_utf8_incomplete(t->bytes + n - k, k)) {
            n -= k;
            break;
        }
    t->n_ready = n;
}

enum sp_code sp_token_out_add(struct sp_token_out *t, uint32_t id, struct sp_error *err) {
    const char *s;
    size_t n;
    bool blank;
    if (t->stopped || !sp_token_text(t->tok, id, false, &s, &n, &blank)) return SP_OK;
    enum sp_code code = blank ? append(t, " ", 1, err) : SP_OK;
    if (!code) code = append(t, s, n, err);
    if (code) return code;
    find_stop(t);
    if (t->stopped)
        sp_token_out_end(t);
    else
        set_ready(t, t->n - begun(t));
    return SP_OK;
}

void sp_token_out_end(struct sp_token_out *t) {
    t->n_ready = t->n;
}

void sp_token_out_drop(struct sp_token_out *t, size_t n) {
    if (n == 0) return;
    memmove(t->bytes, t->bytes + n, t->n - n);
    t->n -= n;
    t->n_ready -= n;
}

void sp_token_out_clear(struct sp_token_out *t) {
    free(t->bytes);
    t->bytes = NULL;
    t->n = t->cap = t->n_ready = 0;
}
