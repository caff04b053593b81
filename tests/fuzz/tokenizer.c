/* Fuzz target: a tokenizer.json or vocab.txt, a NUL, and a text. The text is encoded whole and in
 * parts at safe boundaries, with the same result. */
#include "../../lib/token.h"
#include "../../lib/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define PART_BYTES 7 /* that come at a time */

static void encode_parts(const struct sp_tokenizer *tok, const char *text, size_t n,
                         struct sp_tokens *out) {
    struct sp_error err;
    size_t done = 0;
    for (size_t seen = PART_BYTES; seen < n; seen += PART_BYTES) {
        size_t have = done + sp_utf8_valid(text + done, seen - done);
        size_t cut = sp_tokenizer_safe_prefix(tok, text + done, have - done);
        if (sp_tokenizer_encode(tok, text + done, cut, done, out, &err)) abort();
        done += cut;
    }
    if (sp_tokenizer_encode(tok, text + done, n - done, done, out, &err)) abort();
}

static void check_tokens(const struct sp_tokenizer *tok, const struct sp_tokens *t, size_t n) {
    for (size_t i = 0; i < t->n; i++) {
        size_t n_token;
        bool space;
        if (t->span[2 * i] > t->span[2 * i + 1] || t->span[2 * i + 1] > n) abort();
        if (!sp_tokenizer_token(tok, t->id[i], &n_token, &space)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
    size_t n_file = nul ? (size_t)(nul - data) : n;
    struct sp_tokenizer *tok;
    struct sp_error err;
    if (sp_tokenizer_parse(&tok, (const char *)data, n_file, "fuzz", &err)) return 0;
    size_t n_text = nul ? n - n_file - 1 : 0;
    char *text = malloc(n_text + 1); /* exact but for one byte: a text may be empty */
    if (!text) abort();
    if (nul) memcpy(text, nul + 1, n_text);
    n_text = sp_utf8_valid(text, n_text);
    struct sp_tokens whole = {0}, parts = {0};
    if (sp_tokenizer_encode(tok, text, n_text, 0, &whole, &err)) abort();
    check_tokens(tok, &whole, n_text);
    encode_parts(tok, text, n_text, &parts);
    if (whole.n != parts.n) abort();
    if (whole.n && (memcmp(whole.id, parts.id, whole.n * sizeof *whole.id) != 0 ||
                    memcmp(whole.span, parts.span, 2 * whole.n * sizeof *whole.span) != 0))
        abort();
    sp_tokens_clear(&whole);
    sp_tokens_clear(&parts);
    sp_tokenizer_free(tok);
    free(text);
    return 0;
}
