/* Text to ids and spans: the stages in order, and the spans as `tokenizers` gives them. */
#include "token.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* Longer texts are encoded in parts of about this size, at safe boundaries, so that the work space
 * stays in the cache. */
#define BLOCK_BYTES ((size_t)32 << 10)

/* A piece of the caller's text between two added tokens, on its way. */
struct piece {
    const struct sp_tokenizer *tok;
    const char *text; /* as it was */
    size_t n;
    uint64_t offset;
    struct sp_norm norm;
    struct sp_tokens *out;
    struct sp_error *err;
};

void sp_tokens_clear(struct sp_tokens *t) {
    free(t->id);
    free(t->span);
    *t = (struct sp_tokens){0};
}

static enum sp_code tokens_put(struct sp_tokens *t, uint32_t id, uint64_t start, uint64_t end,
                               struct sp_error *err) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 512;
        uint32_t *grown_id = realloc(t->id, cap * sizeof *t->id);
        if (grown_id) t->id = grown_id;
        uint64_t *grown_span = realloc(t->span, cap * 2 * sizeof *t->span);
        if (grown_span) t->span = grown_span;
        if (!grown_id || !grown_span)
            return sp_error_set(err, SP_E_DEVICE, "out of memory for %zu tokens", cap);
        t->cap = cap;
    }
    t->id[t->n] = id;
    t->span[2 * t->n] = start;
    t->span[2 * t->n + 1] = end;
    t->n++;
    return SP_OK;
}

/* ---- spans ------------------------------------------------------------------------------------
 */

static bool is_continuation(char c) {
    return ((uint8_t)c & 0xC0) == 0x80;
}

/* Where bytes [a, b) of the normalised text come from. A token that holds a part of a character
 * spans all of it. */
static struct sp_align origin(const struct piece *p, size_t a, size_t b) {
    if (p->norm.align) return (struct sp_align){p->norm.align[a].start, p->norm.align[b - 1].end};
    while (a > 0 && is_continuation(p->text[a])) a--;
    while (b < p->n && is_continuation(p->text[b])) b++;
    return (struct sp_align){(uint32_t)a, (uint32_t)b};
}

/* The post-processor's trimming: as many characters less as the token has white space. */
static struct sp_align trim(const struct piece *p, struct sp_align at, size_t lead, size_t trail) {
    for (; lead > 0 && at.start < at.end; lead--)
        at.start += (uint32_t)sp_utf8_length((uint8_t)p->text[at.start]);
    for (; trail > 0 && at.end > at.start; trail--) do
            at.end--;
        while (at.end > at.start && is_continuation(p->text[at.end]));
    return at;
}

static enum sp_code put(const struct piece *p, uint32_t id, struct sp_align at) {
    return tokens_put(p->out, id, p->offset + at.start, p->offset + at.end, p->err);
}

/* An added token found at [a, b) of the normalised text. */
static enum sp_code put_added(const struct piece *p, uint32_t id, size_t a, size_t b) {
    struct sp_align at = origin(p, a, b);
    if (!p->tok->trim_offsets) return put(p, id, at);
    const char *s = p->norm.text;
    size_t lead = 0, trail = 0;
    for (size_t i = a; i < b && sp_char_is_space(sp_utf8_get(s + i)); lead++)
        i += sp_utf8_length((uint8_t)s[i]);
    for (size_t i = b; i > a; trail++) {
        do i--;
        while (i > a && is_continuation(s[i]));
        if (!sp_char_is_space(sp_utf8_get(s + i))) break;
    }
    return put(p, id, trim(p, at, lead, trail));
}

/* A token of byte-level BPE: only the space counts as white space. */
static enum sp_code put_bytes(const struct piece *p, uint32_t id, size_t a, size_t b) {
    struct sp_align at = origin(p, a, b);
    const char *s = p->norm.text;
    if (!p->tok->trim_offsets || (s[a] != ' ' && s[b - 1] != ' ')) return put(p, id, at);
    size_t lead = 0, trail = 0;
    while (a + lead < b && s[a + lead] == ' ') lead++;
    while (b - trail > a && s[b - trail - 1] == ' ') trail++;
    return put(p, id, trim(p, at, lead, trail));
}

/* ---- models -----------------------------------------------------------------------------------
 */

static enum sp_code encode_bpe(const struct piece *p, size_t from, size_t to) {
    for (size_t i = from; i < to;) {
        size_t end = sp_words_byte_level(p->norm.text, i, to), n;
        const struct sp_piece *part;
        enum sp_code code = sp_bpe_encode(p->tok->bpe, p->tok->scratch, p->norm.text + i, end - i,
                                          &part, &n, p->err);
        for (size_t k = 0; !code && k < n; k++)
            code = put_bytes(p, part[k].id, i + part[k].start, i + part[k].end);
        if (code) return code;
        i = end;
    }
    return SP_OK;
}

static enum sp_code encode_wordpiece(const struct piece *p, size_t from, size_t to) {
    const struct sp_tokenizer *tok = p->tok;
    size_t end;
    for (size_t i = from; sp_words_bert(p->norm.text, &i, &end, to); i = end) {
        const struct sp_piece *part;
        size_t n;
        enum sp_code code = sp_wordpiece_encode(&tok->wordpiece, &tok->vocab, tok->scratch,
                                                p->norm.text + i, end - i, &part, &n, p->err);
        for (size_t k = 0; !code && k < n; k++)
            code = put(p, part[k].id, origin(p, i + part[k].start, i + part[k].end));
        if (code) return code;
    }
    return SP_OK;
}

static enum sp_code encode_model(const struct piece *p, size_t from, size_t to) {
    if (p->tok->kind == SP_TOKENIZER_BPE) return encode_bpe(p, from, to);
    return encode_wordpiece(p, from, to);
}

/* ---- stages -----------------------------------------------------------------------------------
 */

enum sp_code sp_token_normalize(const struct sp_tokenizer *tok, const char *text, size_t n,
                                struct sp_norm *out, struct sp_error *err) {
    switch (tok->normalizer) {
    case SP_NORMALIZER_NFC: return sp_norm_nfc(tok->scratch, text, n, out, err);
    case SP_NORMALIZER_BERT: return sp_norm_bert(tok->scratch, &tok->bert, text, n, out, err);
    case SP_NORMALIZER_NONE: break;
    }
    *out = (struct sp_norm){.text = text, .n = n};
    return SP_OK;
}

static enum sp_code encode_plain(struct piece *p) {
    enum sp_code code = sp_token_normalize(p->tok, p->text, p->n, &p->norm, p->err);
    struct sp_added_search s = {.text = p->norm.text, .n = p->norm.n};
    size_t plain, start, end;
    const struct sp_added *a;
    while (!code && (a = sp_added_next(&p->tok->normalized, &s, &plain, &start, &end))) {
        if (plain < start) code = encode_model(p, plain, start);
        if (!code) code = put_added(p, a->id, start, end);
    }
    return code ? code : encode_model(p, s.done, s.n);
}

static enum sp_code encode_block(const struct sp_tokenizer *tok, const char *text, size_t n,
                                 uint64_t offset, struct sp_tokens *out, struct sp_error *err) {
    struct sp_added_search s = {.text = text, .n = n};
    struct piece p = {.tok = tok, .out = out, .err = err};
    size_t plain, start, end;
    const struct sp_added *a;
    enum sp_code code = SP_OK;
    while (!code && (a = sp_added_next(&tok->raw, &s, &plain, &start, &end))) {
        p.text = text + plain;
        p.n = start - plain;
        p.offset = offset + plain;
        if (plain < start) code = encode_plain(&p);
        p.text = text;
        p.n = n;
        p.offset = offset;
        p.norm = (struct sp_norm){.text = text, .n = n};
        if (!code) code = put_added(&p, a->id, start, end);
    }
    p.text = text + s.done;
    p.n = n - s.done;
    p.offset = offset + s.done;
    return code || p.n == 0 ? code : encode_plain(&p);
}

static enum sp_code encode_bytes(const char *text, size_t n, uint64_t offset, struct sp_tokens *out,
                                 struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = tokens_put(out, (uint8_t)text[i], offset + i, offset + i + 1, err);
    return code;
}

enum sp_code sp_tokenizer_encode(const struct sp_tokenizer *tok, const char *text, size_t n,
                                 uint64_t offset, struct sp_tokens *out, struct sp_error *err) {
    if (tok->kind == SP_TOKENIZER_BYTES) return encode_bytes(text, n, offset, out, err);
    while (n > BLOCK_BYTES) {
        size_t cut = sp_tokenizer_safe_prefix(tok, text, BLOCK_BYTES);
        if (cut == 0) cut = sp_tokenizer_safe_prefix(tok, text, n);
        if (cut == 0) break;
        enum sp_code code = encode_block(tok, text, cut, offset, out, err);
        if (code) return code;
        text += cut;
        n -= cut;
        offset += cut;
    }
    return encode_block(tok, text, n, offset, out, err);
}
