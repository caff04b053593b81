/* Texts with slots: cut up, put into the model's template, encoded. */
#include "fill_internal.h"
#include "text_read.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

static const char doc_field[] = "{doc}", query_field[] = "{query}", answer_field[] = "{answer}";

/* A growing string. */
struct string {
    char *text;
    size_t n;
    bool failed;
};

static void put(struct string *s, const char *text, size_t n) {
    char *grown = s->failed ? NULL : realloc(s->text, s->n + n + 1);
    if (!grown) {
        s->failed = true;
        return;
    }
    s->text = grown;
    if (n > 0) memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = 0;
}

/* The next slot at or behind `from`: a question mark and two or more underscores. */
static bool find_slot(const char *text, size_t n, size_t from, size_t *start, size_t *end) {
    for (size_t i = from; i + 2 < n; i++) {
        if (memcmp(text + i, "?__", 3) != 0) continue;
        *start = i;
        *end = i + 3;
        while (*end < n && text[*end] == '_') ++*end;
        return true;
    }
    return false;
}

/* The pieces around the slots. */
static enum sp_code cut(struct sp_fill_text *t, struct sp_error *err) {
    const size_t n = strlen(t->string);
    size_t from = 0, start, end;
    while (find_slot(t->string, n, from, &start, &end)) {
        if (t->n_slot == SP_FILL_SLOTS_MAX)
            return sp_error_set(err, SP_E_DATA, "more than %d slots in one text",
                                SP_FILL_SLOTS_MAX);
        if (t->n_slot > 0 && start == from)
            return sp_error_set(err, SP_E_DATA,
                                "two slots with nothing between them: one slot takes as many words "
                                "as fit");
        t->piece[t->n_slot][0] = from;
        t->piece[t->n_slot++][1] = start;
        from = end;
    }
    t->piece[t->n_slot][0] = from;
    t->piece[t->n_slot][1] = n;
    if (t->n_slot > 0) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "%s: write ?__ where the answer goes",
                        n > 0 ? "no slot in the text" : "the text is empty");
}

static void put_piece(struct string *s, const struct sp_fill_text *t, size_t i) {
    put(s, t->string + t->piece[i][0], t->piece[i][1] - t->piece[i][0]);
}

/* What stands around the slots in all: out (n_slot + 1). With {answer} in the template the text is
 * read as it is, and the one slot is there. */
static enum sp_code expand(const struct sp_fill_text *t, const char *template, struct string *out,
                           struct sp_error *err) {
    const char *query = strstr(template, query_field);
    const char *answer = query ? strstr(query, answer_field) : NULL;
    const char *behind = query ? query + strlen(query_field) : "";
    if (query) {
        const char *front = template + strlen(doc_field);
        put(&out[0], front, (size_t)(query - front));
    }
    if (answer) {
        if (t->n_slot != 1)
            return sp_error_set(err, SP_E_DATA,
                                "%zu slots in the text: this model answers one at a time",
                                t->n_slot);
        put(&out[0], t->string, strlen(t->string));
        put(&out[0], behind, (size_t)(answer - behind));
        behind = answer + strlen(answer_field);
    } else {
        for (size_t i = 0; i <= t->n_slot; i++) put_piece(&out[i], t, i);
    }
    put(&out[t->n_slot], behind, strlen(behind));
    return SP_OK;
}

/* ---- the border of a slot ---------------------------------------------------------------------
 */

/* Does some token begin with this text and go on? Then a text that ends here may not be encoded as
 * it is when more follows. */
static bool may_grow(const struct sp_fill_vocab *v, const char *text, size_t n) {
    for (size_t id = 0; id < v->n; id++)
        if (v->token[id].n > n && memcmp(v->token[id].text, text, n) == 0) return true;
    return false;
}

/* Where what is read of a text before a slot ends: what is behind goes into the answer's first
 * token. tokens are the text's (with others in front); *n_tok of them are left. */
static size_t border(const struct sp_fill *f, const char *text, size_t n,
                     const struct sp_tokens *tokens, size_t *n_tok) {
    *n_tok = tokens->n;
    if (tokens->n == 0 || !sp_tokenizer_byte_level(sp_lm_tokenizer(f->lm))) return n;
    const uint64_t *last = tokens->span + 2 * (tokens->n - 1);
    size_t start = (size_t)last[0];
    bool inside =
        start >= n || ((uint8_t)text[start] & 0xc0) == 0x80 || (tokens->n > 1 && last[-1] > start);
    if (inside || !may_grow(&f->vocab, text + start, n - start)) return n;
    --*n_tok;
    return start;
}

/* Before the first slot: what is read and what is pending. */
static enum sp_code encode_first(struct sp_fill_text *t, const struct sp_fill *f,
                                 const struct string *s, bool alone, struct sp_error *err) {
    const struct sp_config *c = sp_model_config(sp_lm_model(f->lm));
    struct sp_tokens tokens = {0}, frame = {0};
    size_t n_tok = 0;
    enum sp_code code = sp_lm_encode(f->lm, s->text, s->n, false, &tokens, err);
    if (!code) code = sp_lm_encode(f->lm, "", 0, alone, &frame, err);
    size_t from = code ? 0 : border(f, s->text, s->n, &tokens, &n_tok);
    bool bare = !code && alone && frame.n + n_tok == 0; /* but something has to be read */
    int64_t begin = c->bos_id >= 0 ? c->bos_id : c->eos_id;
    if (bare && begin < 0) {
        n_tok = tokens.n;
        from = s->n;
        bare = false;
        if (n_tok == 0)
            code = sp_error_set(err, SP_E_DATA,
                                "nothing stands before the slot; give words before it, or "
                                "--doc FILE or --load-state FILE");
    }
    t->before.id = calloc(frame.n + n_tok + 1, sizeof *t->before.id);
    if (!code && !t->before.id) code = sp_error_memory(err, "a text");
    if (!code) {
        if (frame.n > 0) memcpy(t->before.id, frame.id, frame.n * sizeof *frame.id);
        t->before.n = frame.n;
        if (bare) t->before.id[t->before.n++] = (uint32_t)begin;
        if (n_tok > 0) memcpy(t->before.id + t->before.n, tokens.id, n_tok * sizeof *tokens.id);
        t->before.n += n_tok;
        t->slot[0].pending = strdup(s->text + from);
        t->slot[0].n_pending = s->n - from;
        if (!t->slot[0].pending) code = sp_error_memory(err, "a text");
    }
    sp_tokens_clear(&tokens);
    sp_tokens_clear(&frame);
    return code;
}

/* Behind slot i: the words that follow, but for what is pending for the next. */
static enum sp_code encode_after(struct sp_fill_text *t, size_t i, const struct sp_fill *f,
                                 const struct string *s, struct sp_error *err) {
    struct sp_fill_slot *slot = &t->slot[i];
    const bool last = i + 1 == t->n_slot;
    struct sp_tokens tokens = {0};
    size_t n = s->n, n_tok;
    const char *text = s->text;
    if (last) /* white space says nothing of an answer */
        while (n > 0 && strchr(" \t\n\v\f\r", text[n - 1])) n--;
    enum sp_code code = sp_lm_encode(f->lm, text, n, false, &tokens, err);
    size_t to = n;
    if (!code && !last) to = border(f, text, n, &tokens, &n_tok);
    slot->n_after = to;
    slot->mode =
        to == 0 || tokens.n == 0 ? (last ? SP_FILL_OPEN : SP_FILL_BETWEEN) : SP_FILL_FOLLOWED;
    if (!code && tokens.n > 0) slot->after_id = tokens.id[0];
    slot->after = strndup(text, to);
    if (!last) {
        t->slot[i + 1].pending = strdup(text + to);
        t->slot[i + 1].n_pending = n - to;
    }
    if (!code && (!slot->after || (!last && !t->slot[i + 1].pending)))
        code = sp_error_memory(err, "a text");
    sp_tokens_clear(&tokens);
    return code;
}

/* ---- texts ------------------------------------------------------------------------------------
 */

static enum sp_code check_text(const char *what, const char *text, size_t n, struct sp_error *err) {
    if (n > 0 && memchr(text, 0, n))
        return sp_error_set(err, SP_E_DATA, "%s is binary, not text (states: --load-state FILE)",
                            what);
    if (sp_text_is_pdf(text, n))
        return sp_error_set(
            err, SP_E_DATA,
            "%s is a PDF file, not text; pdftotext -layout FILE - first (--doc FILE "
            "does that)",
            what);
    return SP_OK;
}

void sp_fill_text_free(struct sp_fill_text *t) {
    if (!t) return;
    for (size_t i = 0; t->slot && i < t->n_slot; i++) {
        free(t->slot[i].pending);
        free(t->slot[i].after);
    }
    sp_tokens_clear(&t->before);
    free(t->slot);
    free(t->string);
    free(t);
}

/* What a language model reads of it. */
static enum sp_code encode_all(struct sp_fill_text *t, const struct sp_fill *f, bool alone,
                               struct sp_error *err) {
    struct string s[SP_FILL_SLOTS_MAX + 1] = {{0}};
    enum sp_code code = expand(t, sp_model_config(sp_lm_model(f->lm))->fill_template, s, err);
    for (size_t i = 0; !code && i <= t->n_slot; i++)
        if (s[i].failed) code = sp_error_memory(err, "a text");
    if (!code) code = encode_first(t, f, &s[0], alone, err);
    for (size_t i = 0; !code && i < t->n_slot; i++) code = encode_after(t, i, f, &s[i + 1], err);
    for (size_t i = 0; i <= SP_FILL_SLOTS_MAX; i++) free(s[i].text);
    return code;
}

enum sp_code sp_fill_text_new(struct sp_fill_text **out, const struct sp_fill *f, const char *text,
                              size_t n, bool alone, struct sp_error *err) {
    struct sp_fill_text *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return sp_error_memory(err, "a text");
    enum sp_code code = check_text("the text", text, n, err);
    if (!code && n > SP_FILL_QUERY_BYTES_MAX)
        code = sp_error_set(err, SP_E_DATA,
                            "the text has %zu bytes, more than %zu; give what comes before with "
                            "--doc FILE",
                            n, SP_FILL_QUERY_BYTES_MAX);
    if (!code) t->string = sp_utf8_repair(text, n, &n);
    if (!code && !t->string) code = sp_error_memory(err, "a text");
    if (!code) code = cut(t, err);
    if (!code) t->slot = calloc(t->n_slot, sizeof *t->slot);
    if (!code && !t->slot) code = sp_error_memory(err, "a text");
    if (!code && f->finds) {
        if (t->n_slot > 1)
            code =
                sp_error_set(err, SP_E_DATA,
                             "%zu slots in the text: this model answers one at a time", t->n_slot);
    } else if (!code) {
        code = encode_all(t, f, alone, err);
    }
    if (code) {
        sp_fill_text_free(t);
        return code;
    }
    *out = t;
    return SP_OK;
}

/* ---- documents --------------------------------------------------------------------------------
 */

enum sp_code sp_fill_doc_check(const struct sp_fill *f, const char *text, size_t n,
                               struct sp_error *err) {
    const char *start = text;
    if (!f->finds && sp_fill_trim(&start, n) == 0)
        return sp_error_set(err, SP_E_DATA, "the document is empty");
    return check_text("the document", text, n, err);
}

static enum sp_code encode_doc(const struct sp_fill *f, const char *text, size_t n,
                               struct sp_tokens *out, struct sp_error *err) {
    enum sp_code code = sp_fill_doc_check(f, text, n, err);
    if (code) return code;
    struct string s = {0};
    put(&s, text, n);
    if (!sp_model_config(sp_lm_model(f->lm))->fill_template[0] && text[n - 1] != '\n')
        put(&s, "\n", 1);
    code = s.failed ? sp_error_memory(err, "a document")
                    : sp_lm_encode(f->lm, s.text, s.n, true, out, err);
    free(s.text);
    return code;
}

enum sp_code sp_fill_read(struct sp_fill *f, const char *const *text, const size_t *n_text,
                          size_t n, struct sp_lm_seq **seq, struct sp_error *err) {
    struct sp_tokens *tokens = calloc(n + 1, sizeof *tokens);
    const uint32_t **id = calloc(n + 1, sizeof *id);
    size_t *n_id = calloc(n + 1, sizeof *n_id);
    memset(seq, 0, n * sizeof *seq);
    enum sp_code code = tokens && id && n_id ? SP_OK : sp_error_memory(err, "documents");
    for (size_t i = 0; !code && i < n; i++) {
        code = encode_doc(f, text[i], n_text[i], &tokens[i], err);
        if (!code) code = sp_lm_seq_new(f->lm, &seq[i], err);
        id[i] = tokens[i].id;
        n_id[i] = tokens[i].n;
    }
    /* Each pass is cut into chunks of its own, as in the pipe. */
    for (uint32_t pass = 0; !code && pass < sp_model_config(sp_lm_model(f->lm))->passes; pass++)
        code = sp_lm_read(f->lm, seq, id, n_id, n, err);
    for (size_t i = 0; i < n; i++) {
        if (tokens) sp_tokens_clear(&tokens[i]);
        if (!code) continue;
        sp_lm_seq_free(f->lm, seq[i]);
        seq[i] = NULL;
    }
    free(tokens);
    free(id);
    free(n_id);
    return code;
}
