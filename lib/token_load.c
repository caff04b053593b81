/* tokenizer.json and vocab.txt: what we can follow exactly is taken, anything else is refused by
 * name. */
#include "token.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* One file being read. */
struct load {
    struct sp_tokenizer *tok;
    const struct sp_json *j;
    const char *name;
    struct sp_error *err;
};

static enum sp_code bad(const struct load *l, const char *what) {
    return sp_error_set(l->err, SP_E_DATA, "%s: %s", l->name, what);
}

/* A part or a setting that we do not have. */
static enum sp_code refuse(const struct load *l, const char *part, sp_json_node type) {
    size_t n = 0;
    const char *s = sp_json_raw(l->j, type, &n);
    return sp_error_set(l->err, SP_E_DATA, "%s: the %s '%.*s' is not supported", l->name, part,
                        (int)(n < 60 ? n : 60), s ? s : "");
}

static bool is_null(const struct sp_json *j, sp_json_node v) {
    return sp_json_type(j, v) == SP_JSON_NULL;
}

/* ---- vocabulary and merges --------------------------------------------------------------------
 */

static enum sp_code add_json_string(const struct load *l, sp_json_node string, int64_t id) {
    size_t n_raw;
    const char *raw = sp_json_raw(l->j, string, &n_raw);
    if (!raw || id < 0 || id >= SP_TOKEN_ID_MAX) return bad(l, "a token without an id in range");
    struct sp_vocab *v = &l->tok->vocab;
    char *room = sp_vocab_room(v, n_raw);
    if (!room) return sp_error_set(l->err, SP_E_DEVICE, "%s: out of memory", l->name);
    size_t n = (size_t)sp_json_string(l->j, string, room);
    enum sp_code code = sp_vocab_add(v, (uint32_t)id, room, n, l->err);
    return code ? sp_error_prefix(l->err, "%s", l->name) : SP_OK;
}

static enum sp_code load_vocab_object(const struct load *l, sp_json_node object) {
    const struct sp_json *j = l->j;
    if (sp_json_type(j, object) != SP_JSON_OBJECT) return bad(l, "no model.vocab object");
    enum sp_code code = sp_vocab_reserve(&l->tok->vocab, (uint32_t)sp_json_count(j, object),
                                         16 * sp_json_count(j, object), l->err);
    for (sp_json_node v = sp_json_first(j, object); !code && v >= 0; v = sp_json_next(j, v))
        code = add_json_string(l, sp_json_key(j, v), sp_json_int(j, v, -1));
    return code;
}

/* "left right", or ["left", "right"]: both in joined, the left one of *n_left bytes. False: neither
 * form. */
static bool merge_text(const struct sp_json *j, sp_json_node v, char *joined, size_t *n_left,
                       size_t *n) {
    if (sp_json_type(j, v) == SP_JSON_ARRAY) {
        sp_json_node left = sp_json_first(j, v), right = sp_json_next(j, left);
        int64_t a = sp_json_string(j, left, joined);
        int64_t b = a < 0 ? -1 : sp_json_string(j, right, joined + a);
        *n_left = (size_t)a;
        *n = (size_t)(a + b);
        return a > 0 && b > 0 && sp_json_count(j, v) == 2;
    }
    int64_t len = sp_json_string(j, v, joined);
    const char *space = len > 0 ? memchr(joined, ' ', (size_t)len) : NULL;
    if (!space) return false;
    *n_left = (size_t)(space - joined);
    *n = (size_t)len - 1;
    memmove(joined + *n_left, space + 1, *n - *n_left);
    return *n_left > 0 && *n > *n_left && !memchr(joined + *n_left, ' ', *n - *n_left);
}

static size_t raw_bytes(const struct sp_json *j, sp_json_node v) {
    size_t n = 0, more = 0;
    if (sp_json_raw(j, v, &n)) return n;
    sp_json_raw(j, sp_json_first(j, v), &n);
    sp_json_raw(j, sp_json_next(j, sp_json_first(j, v)), &more);
    return n + more;
}

static enum sp_code load_merges(const struct load *l, sp_json_node list) {
    const struct sp_json *j = l->j;
    const struct sp_vocab *vocab = &l->tok->vocab;
    if (sp_json_type(j, list) != SP_JSON_ARRAY) return bad(l, "no model.merges list");
    enum sp_code code = sp_bpe_new(&l->tok->bpe, vocab, sp_json_count(j, list), l->err);
    if (code) return sp_error_prefix(l->err, "%s", l->name);
    size_t rank = 0;
    for (sp_json_node v = sp_json_first(j, list); v >= 0; v = sp_json_next(j, v), rank++) {
        char *joined = sp_buffer_need(&l->tok->scratch->text, raw_bytes(j, v) + 1, 1);
        if (!joined) return sp_error_set(l->err, SP_E_DEVICE, "%s: out of memory", l->name);
        size_t n_left, n;
        bool ok = merge_text(j, v, joined, &n_left, &n);
        int64_t left = ok ? sp_vocab_find(vocab, joined, n_left) : -1;
        int64_t right = ok ? sp_vocab_find(vocab, joined + n_left, n - n_left) : -1;
        int64_t merged = ok ? sp_vocab_find(vocab, joined, n) : -1;
        if (left < 0 || right < 0 || merged < 0)
            return sp_error_set(l->err, SP_E_DATA,
                                "%s: merge %zu is not of two tokens that make a third", l->name,
                                rank + 1);
        sp_bpe_add_merge(l->tok->bpe, (uint32_t)left, (uint32_t)right, (uint32_t)merged);
    }
    return SP_OK;
}

/* Settings of a BPE model that would change its result, and the value at which they do not. */
static enum sp_code check_bpe(const struct load *l, sp_json_node model) {
    static const char *const empty[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix"};
    static const char *const off[] = {"byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        sp_json_node v = sp_json_get(l->j, model, empty[i]);
        if (!is_null(l->j, v) && !sp_json_equal(l->j, v, ""))
            return sp_error_set(l->err, SP_E_DATA, "%s: BPE with %s is not supported", l->name,
                                empty[i]);
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (sp_json_bool(l->j, sp_json_get(l->j, model, off[i]), false))
            return sp_error_set(l->err, SP_E_DATA, "%s: BPE with %s is not supported", l->name,
                                off[i]);
    return SP_OK;
}

/* WordPiece's own settings; the vocabulary is there. */
static enum sp_code set_wordpiece(const struct load *l, const char *unk, size_t n_unk,
                                  const char *prefix, size_t n_prefix, int64_t max_chars) {
    struct sp_wordpiece *w = &l->tok->wordpiece;
    int64_t id = sp_vocab_find(&l->tok->vocab, unk, n_unk);
    if (id < 0) return bad(l, "the vocabulary has no token for unknown words");
    if (n_prefix >= sizeof w->prefix || max_chars < 1 || max_chars > 65536)
        return bad(l, "continuing_subword_prefix or max_input_chars_per_word out of range");
    memcpy(w->prefix, prefix, n_prefix);
    w->n_prefix = n_prefix;
    w->unk_id = (uint32_t)id;
    w->max_chars = (size_t)max_chars;
    w->n_token_max = n_prefix + 1;
    for (uint32_t i = 0; i < l->tok->vocab.n_id; i++) {
        uint32_t n = l->tok->vocab.entry[i].n;
        if (n != SP_VOCAB_NONE && n > w->n_token_max) w->n_token_max = n;
    }
    return SP_OK;
}

static enum sp_code load_wordpiece(const struct load *l, sp_json_node model) {
    char unk[64] = "[UNK]", prefix[64] = "##";
    size_t n_raw;
    sp_json_node u = sp_json_get(l->j, model, "unk_token");
    sp_json_node p = sp_json_get(l->j, model, "continuing_subword_prefix");
    int64_t n_unk = 5, n_prefix = 2;
    if (sp_json_raw(l->j, u, &n_raw) && n_raw < sizeof unk) n_unk = sp_json_string(l->j, u, unk);
    if (sp_json_raw(l->j, p, &n_raw) && n_raw < sizeof prefix)
        n_prefix = sp_json_string(l->j, p, prefix);
    int64_t max = sp_json_int(l->j, sp_json_get(l->j, model, "max_input_chars_per_word"), 100);
    return set_wordpiece(l, unk, (size_t)n_unk, prefix, (size_t)n_prefix, max);
}

static enum sp_code load_model(const struct load *l, sp_json_node model) {
    sp_json_node type = sp_json_get(l->j, model, "type");
    bool bpe = sp_json_equal(l->j, type, "BPE");
    if (!bpe && !sp_json_equal(l->j, type, "WordPiece")) return refuse(l, "model", type);
    l->tok->kind = bpe ? SP_TOKENIZER_BPE : SP_TOKENIZER_WORDPIECE;
    enum sp_code code = bpe ? check_bpe(l, model) : SP_OK;
    if (!code) code = load_vocab_object(l, sp_json_get(l->j, model, "vocab"));
    if (code) return code;
    return bpe ? load_merges(l, sp_json_get(l->j, model, "merges")) : load_wordpiece(l, model);
}

/* ---- the other stages -------------------------------------------------------------------------
 */

static enum sp_code load_normalizer(const struct load *l, sp_json_node v) {
    sp_json_node type = sp_json_get(l->j, v, "type");
    struct sp_tokenizer *tok = l->tok;
    if (is_null(l->j, v)) {
        tok->normalizer = SP_NORMALIZER_NONE;
    } else if (sp_json_equal(l->j, type, "NFC")) {
        tok->normalizer = SP_NORMALIZER_NFC;
    } else if (sp_json_equal(l->j, type, "BertNormalizer")) {
        tok->normalizer = SP_NORMALIZER_BERT;
        struct sp_bert_options *o = &tok->bert;
        o->clean_text = sp_json_bool(l->j, sp_json_get(l->j, v, "clean_text"), true);
        o->chinese_chars = sp_json_bool(l->j, sp_json_get(l->j, v, "handle_chinese_chars"), true);
        o->lowercase = sp_json_bool(l->j, sp_json_get(l->j, v, "lowercase"), true);
        o->strip_accents = sp_json_bool(l->j, sp_json_get(l->j, v, "strip_accents"), o->lowercase);
    } else {
        return refuse(l, "normalizer", type);
    }
    return SP_OK;
}

static enum sp_code load_pre_tokenizer(const struct load *l, sp_json_node v) {
    sp_json_node type = sp_json_get(l->j, v, "type");
    bool bpe = l->tok->kind == SP_TOKENIZER_BPE;
    if (!sp_json_equal(l->j, type, bpe ? "ByteLevel" : "BertPreTokenizer"))
        return refuse(
            l, bpe ? "pre_tokenizer of a BPE model" : "pre_tokenizer of a WordPiece model", type);
    if (!bpe) return SP_OK;
    if (sp_json_bool(l->j, sp_json_get(l->j, v, "add_prefix_space"), true) ||
        !sp_json_bool(l->j, sp_json_get(l->j, v, "use_regex"), true))
        return bad(l, "ByteLevel with add_prefix_space or without use_regex is not supported");
    return SP_OK;
}

/* The id of a token of the post-processor, put before or behind documents. */
static enum sp_code add_frame(const struct load *l, sp_json_node token, bool before) {
    struct sp_tokenizer *tok = l->tok;
    size_t n_raw;
    size_t *n = before ? &tok->n_prefix : &tok->n_suffix;
    if (!sp_json_raw(l->j, token, &n_raw)) return bad(l, "a post_processor without its tokens");
    if (*n == SP_TOKEN_FRAME_MAX) return bad(l, "a post_processor with too many tokens");
    char *s = sp_buffer_need(&tok->scratch->text, n_raw + 1, 1);
    if (!s) return sp_error_set(l->err, SP_E_DEVICE, "%s: out of memory", l->name);
    int64_t id = sp_vocab_find(&tok->vocab, s, (size_t)sp_json_string(l->j, token, s));
    if (id < 0) return refuse(l, "post_processor's unknown token", token);
    (before ? tok->prefix : tok->suffix)[(*n)++] = (uint32_t)id;
    return SP_OK;
}

static enum sp_code load_template(const struct load *l, sp_json_node single) {
    enum sp_code code = SP_OK;
    bool before = true;
    for (sp_json_node v = sp_json_first(l->j, single); !code && v >= 0; v = sp_json_next(l->j, v)) {
        sp_json_node special = sp_json_get(l->j, v, "SpecialToken");
        if (sp_json_get(l->j, v, "Sequence") >= 0)
            before = false;
        else
            code = add_frame(l, sp_json_get(l->j, special, "id"), before);
    }
    return code;
}

static enum sp_code load_post_processor(const struct load *l, sp_json_node v) {
    const struct sp_json *j = l->j;
    sp_json_node type = sp_json_get(j, v, "type");
    bool roberta = sp_json_equal(j, type, "RobertaProcessing");
    if (is_null(j, v)) return SP_OK;
    if (sp_json_equal(j, type, "ByteLevel") || roberta)
        l->tok->trim_offsets = sp_json_bool(j, sp_json_get(j, v, "trim_offsets"), true);
    else if (sp_json_equal(j, type, "TemplateProcessing"))
        return load_template(l, sp_json_get(j, v, "single"));
    else if (!sp_json_equal(j, type, "BertProcessing"))
        return refuse(l, "post_processor", type);
    if (sp_json_equal(j, type, "ByteLevel")) return SP_OK;
    enum sp_code code = add_frame(l, sp_json_first(j, sp_json_get(j, v, "cls")), true);
    return code ? code : add_frame(l, sp_json_first(j, sp_json_get(j, v, "sep")), false);
}

/* ---- added tokens -----------------------------------------------------------------------------
 */

static enum sp_code add_token(const struct load *l, sp_json_node v) {
    const struct sp_json *j = l->j;
    struct sp_tokenizer *tok = l->tok;
    sp_json_node content = sp_json_get(j, v, "content");
    int64_t id = sp_json_int(j, sp_json_get(j, v, "id"), -1);
    size_t n_raw = 0;
    if (!sp_json_raw(j, content, &n_raw) || n_raw == 0 || n_raw > SP_TOKEN_ADDED_BYTES_MAX)
        return bad(l, "an added token without content, or with too long a one");
    char text[SP_TOKEN_ADDED_BYTES_MAX];
    size_t n = (size_t)sp_json_string(j, content, text);
    int64_t known = sp_vocab_find(&tok->vocab, text, n);
    if (known >= 0 && known != id) return bad(l, "an added token has another id in the vocabulary");
    enum sp_code code = known >= 0 ? SP_OK : add_json_string(l, content, id);
    if (code) return code;
    struct sp_added a = {
        .id = (uint32_t)id,
        .single_word = sp_json_bool(j, sp_json_get(j, v, "single_word"), false),
        .lstrip = sp_json_bool(j, sp_json_get(j, v, "lstrip"), false),
        .rstrip = sp_json_bool(j, sp_json_get(j, v, "rstrip"), false),
        .special = sp_json_bool(j, sp_json_get(j, v, "special"), false),
        .normalized = sp_json_bool(j, sp_json_get(j, v, "normalized"), true),
    };
    struct sp_norm norm = {.text = text, .n = n};
    if (a.normalized) code = sp_token_normalize(tok, text, n, &norm, l->err);
    if (code || norm.n == 0) return code;
    a.content = malloc(norm.n);
    if (!a.content) return sp_error_set(l->err, SP_E_DEVICE, "%s: out of memory", l->name);
    memcpy(a.content, norm.text, norm.n);
    a.n = (uint32_t)norm.n;
    code = sp_added_put(a.normalized ? &tok->normalized : &tok->raw, &a, l->err);
    if (code) free(a.content);
    return code;
}

static enum sp_code load_added(const struct load *l, sp_json_node list) {
    enum sp_code code = SP_OK;
    for (sp_json_node v = sp_json_first(l->j, list); !code && v >= 0; v = sp_json_next(l->j, v))
        code = add_token(l, v);
    sp_added_index(&l->tok->raw);
    sp_added_index(&l->tok->normalized);
    return code;
}

enum sp_code sp_token_load_json(struct sp_tokenizer *tok, const char *text, size_t n,
                                const char *name, struct sp_error *err) {
    struct sp_json *j;
    enum sp_code code = sp_json_parse(&j, text, n, name, err);
    if (code) return code;
    struct load l = {.tok = tok, .j = j, .name = name, .err = err};
    sp_json_node model = sp_json_get(j, 0, "model");
    code = load_model(&l, model);
    if (!code) code = load_normalizer(&l, sp_json_get(j, 0, "normalizer"));
    if (!code) code = load_pre_tokenizer(&l, sp_json_get(j, 0, "pre_tokenizer"));
    if (!code) code = load_added(&l, sp_json_get(j, 0, "added_tokens"));
    if (!code) code = load_post_processor(&l, sp_json_get(j, 0, "post_processor"));
    sp_json_free(j);
    return code;
}

/* One token a line, ids in order: BERT uncased. */
enum sp_code sp_token_load_vocab(struct sp_tokenizer *tok, const char *text, size_t n,
                                 const char *name, struct sp_error *err) {
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct load l = {.tok = tok, .name = name, .err = err};
    tok->kind = SP_TOKENIZER_WORDPIECE;
    tok->normalizer = SP_NORMALIZER_BERT;
    tok->bert = (struct sp_bert_options){true, true, true, true};
    size_t valid = sp_utf8_valid(text, n);
    if (valid < n) return sp_error_set(err, SP_E_DATA, "%s: byte %zu: invalid UTF-8", name, valid);
    uint32_t id = 0;
    for (size_t i = 0; i < n; id++) {
        const char *newline = memchr(text + i, '\n', n - i);
        size_t end = newline ? (size_t)(newline - text) : n, len = end - i;
        if (len > 0 && text[i + len - 1] == '\r') len--;
        enum sp_code code = sp_vocab_add(&tok->vocab, id, text + i, len, err);
        if (code) return sp_error_prefix(err, "%s: line %u", name, id + 1);
        i = end + 1;
    }
    enum sp_code code = set_wordpiece(&l, "[UNK]", 5, "##", 2, 100);
    for (size_t i = 0; !code && i < sizeof special / sizeof *special; i++) {
        size_t len = strlen(special[i]);
        int64_t found = sp_vocab_find(&tok->vocab, special[i], len);
        if (found < 0) continue;
        struct sp_added a = {.id = (uint32_t)found, .n = (uint32_t)len, .special = true};
        a.content = strdup(special[i]);
        code = a.content ? sp_added_put(&tok->raw, &a, err)
                         : sp_error_set(err, SP_E_DEVICE, "%s: out of memory", name);
    }
    sp_added_index(&tok->raw);
    sp_added_index(&tok->normalized);
    return code;
}
