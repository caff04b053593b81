/* The vocabulary as slots see it: which tokens an answer may hold, which ones end it. */
#include "fill_internal.h"
#include "token.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#define CONTROL_END 0x20 /* ASCII characters below are control characters */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

size_t sp_fill_trim(const char **text, size_t n) {
    while (n > 0 && is_space(**text)) ++*text, n--;
    while (n > 0 && is_space((*text)[n - 1])) n--;
    return n;
}

static bool is_blank(const char *text, size_t n) {
    return sp_fill_trim(&text, n) == 0;
}

size_t sp_fill_end(const struct sp_fill_vocab *v, const char *text, size_t n) {
    size_t at = 0;
    while (at < n && ((uint8_t)text[at] >= 0x80 || !v->ends[(uint8_t)text[at]])) at++;
    return at;
}

/* Does a text that goes on like this end a word? What begins inside of a character does not. */
static bool ends_word(const char *text, size_t n) {
    size_t len;
    int32_t cp = sp_utf8_decode(text, n, &len);
    if (cp < 0) return false;
    enum sp_char_class kind = sp_char_class((uint32_t)cp);
    return kind != SP_CHAR_LETTER && kind != SP_CHAR_NUMBER;
}

uint8_t sp_fill_role(const struct sp_fill_vocab *v, enum sp_fill_mode mode,
                     enum sp_fill_phase phase, const char *text, size_t n) {
    size_t end = sp_fill_end(v, text, n);
    bool blank = phase == SP_FILL_BLANK && is_blank(text, end);
    uint8_t role = 0;
    /* An answer that a token ends in its middle is finished with it, if there is an answer. */
    bool fits = end == n || (mode == SP_FILL_OPEN && end > 0 && !blank);
    if (phase != SP_FILL_LAST && fits) role |= SP_BEAM_TEXT;
    if (phase == SP_FILL_BLANK) return role;
    bool cut = phase == SP_FILL_LAST || mode == SP_FILL_BETWEEN;
    if (mode != SP_FILL_FOLLOWED && (end == 0 || (cut && ends_word(text, n)))) role |= SP_BEAM_END;
    return role;
}

static enum sp_code alloc_vocab(struct sp_fill_vocab *v, size_t n_words, struct sp_error *err) {
    v->token = calloc(v->n, sizeof *v->token);
    v->words = malloc(n_words + 1);
    v->none = calloc(v->n, 1);
    bool ok = v->token && v->words && v->none;
    for (int mode = 0; ok && mode < SP_FILL_MODES; mode++)
        for (int phase = 0; ok && phase < SP_FILL_PHASES; phase++) {
            v->role[mode][phase] = calloc(v->n, 1);
            ok = v->role[mode][phase];
        }
    return ok ? SP_OK : sp_error_memory(err, "a vocabulary");
}

/* A word of WordPiece begins with a space, which its text does not have. */
static void read_tokens(struct sp_fill_vocab *v, const struct sp_tokenizer *tok) {
    char *at = v->words;
    for (size_t id = 0; id < v->n; id++) {
        size_t n = 0;
        bool space = false;
        const char *text = sp_tokenizer_token(tok, (uint32_t)id, &n, &space);
        if (!text || n == 0 || sp_tokenizer_is_special(tok, (uint32_t)id)) continue;
        if (space) {
            *at = ' ';
            memcpy(at + 1, text, n);
            text = at;
            at += ++n;
        }
        v->token[id] = (struct sp_fill_token){text, (uint32_t)n};
        if (n > v->text_bytes_max) v->text_bytes_max = n;
    }
}

static void set_roles(struct sp_fill_vocab *v) {
    for (int mode = 0; mode < SP_FILL_MODES; mode++)
        for (int phase = 0; phase < SP_FILL_PHASES; phase++) {
            uint8_t *role = v->role[mode][phase];
            for (size_t id = 0; id < v->n; id++) {
                const struct sp_fill_token *t = &v->token[id];
                if (t->text) role[id] = sp_fill_role(v, mode, phase, t->text, t->n);
            }
            if (v->eos >= 0 && (size_t)v->eos < v->n)
                role[v->eos] = mode == SP_FILL_OPEN && phase != SP_FILL_BLANK ? SP_BEAM_END : 0;
        }
}

enum sp_code sp_fill_vocab_init(struct sp_fill_vocab *v, const struct sp_lm *lm, const char *until,
                                struct sp_error *err) {
    const struct sp_tokenizer *tok = sp_lm_tokenizer(lm);
    size_t n_words = 0;
    *v = (struct sp_fill_vocab){.n = (size_t)sp_lm_vocab(lm), .eos = sp_lm_eos(lm)};
    for (int c = 0; c < CONTROL_END; c++) v->ends[c] = true;
    for (const char *c = until; c && *c; c++) {
        if ((uint8_t)*c >= 0x80)
            return sp_error_set(err, SP_E_USAGE,
                                "'%.40s': an answer can end before ASCII "
                                "characters only",
                                until);
        v->ends[(uint8_t)*c] = true;
    }
    for (size_t id = 0; id < v->n; id++) {
        size_t n = 0;
        bool space = false;
        if (sp_tokenizer_token(tok, (uint32_t)id, &n, &space) && space) n_words += n + 1;
    }
    enum sp_code code = alloc_vocab(v, n_words, err);
    if (code) return code;
    read_tokens(v, tok);
    set_roles(v);
    return SP_OK;
}

void sp_fill_vocab_clear(struct sp_fill_vocab *v) {
    free(v->token);
    free(v->words);
    free(v->none);
    for (int mode = 0; mode < SP_FILL_MODES; mode++)
        for (int phase = 0; phase < SP_FILL_PHASES; phase++) free(v->role[mode][phase]);
}

size_t sp_fill_decode(const struct sp_fill_vocab *v, const uint32_t *id, size_t n, char *out) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sp_fill_token *t = &v->token[id[i]];
        memcpy(out + len, t->text, t->n);
        len += t->n;
    }
    return len;
}
