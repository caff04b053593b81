/* Opening a tokenizer, and asking it about its tokens. */
#include "io.h"
#include "json.h"
#include "model.h"
#include "token.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void sp_tokenizer_free(struct sp_tokenizer *tok) {
    if (!tok) return;
    sp_vocab_clear(&tok->vocab);
    sp_added_clear(&tok->raw);
    sp_added_clear(&tok->normalized);
    sp_bpe_free(tok->bpe);
    free(tok->decoded);
    free(tok->decoded_entry);
    free(tok->flags);
    if (tok->scratch) {
        struct sp_scratch *s = tok->scratch;
        struct sp_buffer *all[] = {&s->text,   &s->align,  &s->change, &s->chars,
                                   &s->places, &s->sorted, &s->symbol, &s->heap};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
        free(s);
    }
    free(tok);
}

static enum sp_code load_bytes(struct sp_tokenizer *tok, struct sp_error *err) {
    tok->kind = SP_TOKENIZER_BYTES;
    tok->normalizer = SP_NORMALIZER_NONE;
    enum sp_code code = SP_OK;
    for (uint32_t id = 0; !code && id < 256; id++) {
        char byte = (char)id;
        code = sp_vocab_add(&tok->vocab, id, &byte, 1, err);
    }
    if (!code)
        code = sp_vocab_add(&tok->vocab, 256, SP_TOKEN_PAD_NAME, strlen(SP_TOKEN_PAD_NAME), err);
    /* However it was asked for, it is the same tokenizer. */
    sp_hash_bytes(&tok->fingerprint, "bytes", 5);
    return code;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

/* The bytes that a byte-level token stands for; a token of other characters stands for itself. */
static size_t decode_bytes(const char *s, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i += sp_utf8_length((uint8_t)s[i])) {
        int byte = sp_bpe_byte_of_char(sp_utf8_get(s + i));
        if (byte < 0) {
            memcpy(out, s, n);
            return n;
        }
        out[k++] = (char)byte;
    }
    return k;
}

/* Added tokens are written as they are, whatever the alphabet of the others. */
static enum sp_code decode_vocab(struct sp_tokenizer *tok, struct sp_error *err) {
    const struct sp_vocab *v = &tok->vocab;
    tok->decoded = malloc(v->n_arena + 1);
    tok->decoded_entry = calloc(v->n_id + 1, sizeof *tok->decoded_entry);
    if (!tok->decoded || !tok->decoded_entry) return sp_error_memory(err, "a vocabulary");
    uint32_t at = 0;
    for (uint32_t id = 0; id < v->n_id; id++) {
        size_t n = 0;
        const char *s = sp_vocab_get(v, id, &n);
        if (tok->flags[id] & SP_TOKEN_ADDED)
            memcpy(tok->decoded + at, s, n);
        else if (s)
            n = decode_bytes(s, n, tok->decoded + at);
        tok->decoded_entry[id] = (struct sp_vocab_entry){at, (uint32_t)n};
        at += (uint32_t)n;
    }
    return SP_OK;
}

static enum sp_code mark_added(struct sp_tokenizer *tok, struct sp_error *err) {
    const struct sp_added_set *set[] = {&tok->raw, &tok->normalized};
    tok->flags = calloc(tok->vocab.n_id + 1, 1);
    if (!tok->flags) return sp_error_memory(err, "a vocabulary");
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < set[k]->n; i++) {
            const struct sp_added *a = &set[k]->item[i];
            tok->flags[a->id] = (uint8_t)(SP_TOKEN_ADDED | (a->special ? SP_TOKEN_SPECIAL : 0));
        }
    if (tok->kind == SP_TOKENIZER_BYTES) tok->flags[256] = SP_TOKEN_SPECIAL;
    return SP_OK;
}

static size_t skip_space(const char *text, size_t i, size_t n) {
    while (i < n && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) i++;
    return i;
}

/* A JSON object begins with a brace and a quote; in a vocabulary a brace is alone in its line. */
static bool is_json(const char *text, size_t n) {
    size_t brace = skip_space(text, 0, n), next = skip_space(text, brace + 1, n);
    return next < n && text[brace] == '{' && (text[next] == '"' || text[next] == '}');
}

enum sp_code sp_tokenizer_parse(struct sp_tokenizer **out, const char *text, size_t n,
                                const char *name, struct sp_error *err) {
    *out = NULL;
    struct sp_tokenizer *tok = calloc(1, sizeof *tok);
    if (tok) tok->scratch = calloc(1, sizeof *tok->scratch);
    enum sp_code code = SP_OK;
    if (!tok || !tok->scratch)
        code = sp_error_memory(err, "a tokenizer");
    else if (!text)
        code = load_bytes(tok, err);
    else if (is_json(text, n))
        code = sp_token_load_json(tok, text, n, name, err);
    else
        code = sp_token_load_vocab(tok, text, n, name, err);
    if (!code && text) sp_hash_bytes(&tok->fingerprint, text, n);
    if (!code) code = mark_added(tok, err);
    if (!code && tok->kind == SP_TOKENIZER_BPE) code = decode_vocab(tok, err);
    if (code)
        sp_tokenizer_free(tok);
    else
        *out = tok;
    return code;
}

/* Does the config.json of a model directory say that its tokens are bytes? One that cannot be read
 * says nothing, but for want of memory. */
static enum sp_code says_bytes(const char *dir, bool *bytes, struct sp_error *err) {
    char path[4096], *text = NULL;
    size_t n;
    struct sp_config *c = malloc(sizeof *c);
    *bytes = false;
    if (!c) return sp_error_memory(err, "a config");
    enum sp_code code = sp_path_join(path, sizeof path, dir, "config.json", err);
    if (!code) code = sp_io_slurp(&text, &n, path, SP_CONFIG_BYTES_MAX, err);
    if (!code) code = sp_config_parse(c, text, n, path, err);
    *bytes = !code && strcmp(c->tokenizer, "bytes") == 0;
    free(text);
    free(c);
    return code == SP_E_DEVICE ? code : SP_OK;
}

/* tokenizer.json of a directory, else its vocab.txt, else "bytes" where its config says so. */
static enum sp_code resolve(char *out, size_t size, const char *path, struct sp_error *err) {
    struct stat st;
    if (strcmp(path, "bytes") == 0) return memcpy(out, "bytes", 6), SP_OK;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        if (strlen(path) >= size)
            return sp_error_set(err, SP_E_USAGE, "path too long: %.60s", path);
        memcpy(out, path, strlen(path) + 1);
        return SP_OK;
    }
    enum sp_code code = sp_path_join(out, size, path, "tokenizer.json", err);
    if (code || stat(out, &st) == 0) return code;
    code = sp_path_join(out, size, path, "vocab.txt", err);
    if (code || stat(out, &st) == 0) return code;
    bool bytes;
    code = says_bytes(path, &bytes, err);
    if (code) return code;
    if (bytes) {
        memcpy(out, "bytes", sizeof "bytes");
        return SP_OK;
    }
    return sp_error_set(err, SP_E_NOINPUT, "%s has neither tokenizer.json nor vocab.txt", path);
}

enum sp_code sp_tokenizer_open(struct sp_tokenizer **out, const char *path, struct sp_error *err) {
    *out = NULL;
    char file[4096], *text;
    size_t n;
    enum sp_code code = resolve(file, sizeof file, path, err);
    if (code) return code;
    if (strcmp(file, "bytes") == 0) return sp_tokenizer_parse(out, NULL, 0, file, err);
    code = sp_io_slurp(&text, &n, file, SP_TOKEN_FILE_MAX, err);
    if (code) return code;
    code = sp_tokenizer_parse(out, text, n, file, err);
    free(text);
    return code;
}

/* ---- questions --------------------------------------------------------------------------------
 */

const struct sp_hash *sp_tokenizer_fingerprint(const struct sp_tokenizer *tok) {
    return &tok->fingerprint;
}

uint32_t sp_tokenizer_vocab_size(const struct sp_tokenizer *tok) {
    return tok->vocab.n_id;
}

bool sp_tokenizer_byte_level(const struct sp_tokenizer *tok) {
    if (tok->kind == SP_TOKENIZER_BPE) return sp_bpe_covers_utf8(tok->bpe);
    return tok->kind == SP_TOKENIZER_BYTES;
}

const char *sp_tokenizer_token(const struct sp_tokenizer *tok, uint32_t id, size_t *n,
                               bool *space) {
    const char *s = sp_vocab_get(&tok->vocab, id, n);
    *space = false;
    if (!s || tok->kind == SP_TOKENIZER_BYTES) return s;
    if (tok->kind == SP_TOKENIZER_BPE) {
        *n = tok->decoded_entry[id].n;
        return tok->decoded + tok->decoded_entry[id].offset;
    }
    const struct sp_wordpiece *w = &tok->wordpiece;
    *space = *n < w->n_prefix || memcmp(s, w->prefix, w->n_prefix) != 0;
    if (*space) return s;
    *n -= w->n_prefix;
    return s + w->n_prefix;
}

int64_t sp_tokenizer_id(const struct sp_tokenizer *tok, const char *token, size_t n) {
    return sp_vocab_find(&tok->vocab, token, n);
}

uint32_t sp_tokenizer_pad(const struct sp_tokenizer *tok, int64_t eos_id) {
    int64_t id = sp_tokenizer_id(tok, SP_TOKEN_PAD_NAME, strlen(SP_TOKEN_PAD_NAME));
    if (id < 0) id = eos_id;
    return id < 0 ? 0 : (uint32_t)id;
}

const uint32_t *sp_tokenizer_prefix(const struct sp_tokenizer *tok, size_t *n) {
    *n = tok->n_prefix;
    return tok->prefix;
}

const uint32_t *sp_tokenizer_suffix(const struct sp_tokenizer *tok, size_t *n) {
    *n = tok->n_suffix;
    return tok->suffix;
}

bool sp_tokenizer_is_special(const struct sp_tokenizer *tok, uint32_t id) {
    return id < tok->vocab.n_id && (tok->flags[id] & SP_TOKEN_SPECIAL);
}
