/* Documents to a stream of tokens. Two copies of the text are on the way: the bytes as they came,
 * for TEXT, and the same made valid, for the tokenizer; patches lead from the second to the first.
 */
#include "token_stream.h"
#include "token.h"
#include "utf8.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES SP_WIRE_TEXT_MAX

/* Bytes [raw, raw + n_raw) of the document became the U+FFFD at `clean`. */
struct patch {
    uint64_t clean, raw;
    uint32_t n_raw;
};
#define PATCH_BYTES 3u

struct sp_token_stream {
    const struct sp_tokenizer *tok;
    struct sp_writer *w;
    struct sp_token_stream_options o;
    uint64_t n_doc, n_error, n_left_open;
    uint64_t doc; /* the open one */
    /* Bytes as they came: [raw_at, raw_at + n_raw) of the document; the last n_tail of them are the
     * beginning of a character. */
    struct sp_buffer raw;
    uint64_t raw_at;
    size_t n_raw, n_tail;
    /* Valid text: [clean_at, clean_at + n_clean); places up to `checked` are not safe. */
    struct sp_buffer clean;
    uint64_t clean_at;
    size_t n_clean, checked;
    struct sp_buffer patch;
    size_t n_patch;
    uint64_t n_invalid, first_invalid;
    struct sp_tokens pending; /* with their spans in bytes as they came */
    struct sp_tokens all;     /* passes > 1: all that is encoded of the document */
    uint64_t n_tok;           /* written, in all passes */
    uint32_t pass;            /* of what is written; choices have that of the last reading */
    /* The document that ended open: a choice is encoded with its text in front, and written
     * without. */
    struct sp_buffer id;
    size_t n_id;
    uint64_t n_open;    /* its tokens, in all passes */
    size_t n_front;     /* and in each those in front of its text */
    uint64_t n_skip;    /* tokens still to be left out */
    uint64_t text_from; /* where the choice begins, in bytes */
};

enum sp_code sp_token_stream_new(struct sp_token_stream **out, const struct sp_tokenizer *tok,
                                 struct sp_writer *w, const struct sp_token_stream_options *o,
                                 struct sp_error *err) {
    struct sp_token_stream *s = *out = calloc(1, sizeof *s);
    if (!s) return sp_error_memory(err, "a document");
    s->tok = tok;
    s->w = w;
    s->o = *o;
    return SP_OK;
}

void sp_token_stream_free(struct sp_token_stream *s) {
    if (!s) return;
    free(s->raw.data);
    free(s->clean.data);
    free(s->patch.data);
    free(s->id.data);
    sp_tokens_clear(&s->pending);
    sp_tokens_clear(&s->all);
    free(s);
}

/* ---- records ----------------------------------------------------------------------------------
 */

static enum sp_code write_record(struct sp_token_stream *s, struct sp_record *rec,
                                 enum sp_code code, struct sp_error *err) {
    if (!code) code = sp_writer_write(s->w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code put_tensor(struct sp_record *rec, const char *name, enum sp_dtype dtype,
                               uint64_t rows, uint64_t columns, const void *data,
                               struct sp_error *err) {
    struct sp_tensor t;
    uint64_t dim[2] = {rows, columns};
    enum sp_code code = sp_tensor_new(&t, dtype, columns ? 2 : 1, dim, err);
    if (code) return code;
    if (t.n_bytes) memcpy(t.data, data, t.n_bytes);
    code = sp_record_put_tensor(rec, name, &t, err);
    if (code) sp_tensor_clear(&t);
    return code;
}

static void drop_raw(struct sp_token_stream *s, size_t n) {
    char *raw = s->raw.data;
    memmove(raw, raw + n, s->n_raw - n);
    s->n_raw -= n;
    s->raw_at += n;
}

static enum sp_code write_piece(struct sp_token_stream *s, size_t n, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_TEXT);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_record_set_u64(rec, "doc", s->doc, err);
    if (!code) code = sp_record_set_u64(rec, "off", s->raw_at, err);
    if (!code) code = put_tensor(rec, "text", SP_U8, n, 0, s->raw.data, err);
    drop_raw(s, n);
    return write_record(s, rec, code, err);
}

/* Text up to byte `to`; with whole_pieces only as much of it as fills pieces. */
static enum sp_code write_text(struct sp_token_stream *s, uint64_t to, bool whole_pieces,
                               struct sp_error *err) {
    enum sp_code code = SP_OK;
    uint64_t skip = to < s->text_from ? to : s->text_from;
    if (s->raw_at < skip) drop_raw(s, (size_t)(skip - s->raw_at));
    while (!code && s->raw_at < to) {
        uint64_t left = to - s->raw_at;
        if (whole_pieces && left < TEXT_BYTES) break;
        code = write_piece(s, left < TEXT_BYTES ? (size_t)left : TEXT_BYTES, err);
    }
    return code;
}

/* Tokens [from, from + n) of t as a CHUNK. */
static enum sp_code write_chunk(struct sp_token_stream *s, const struct sp_tokens *t, size_t from,
                                size_t n, uint32_t pass, bool last, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_CHUNK);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_record_set_u64(rec, "doc", s->doc, err);
    if (!code) code = sp_record_set_u64(rec, "pos", s->n_tok, err);
    if (!code) code = sp_record_set_u64(rec, "pass", pass, err);
    if (!code && last) code = sp_record_set_bool(rec, "last", true, err);
    if (!code) code = put_tensor(rec, "ids", SP_U32, n, 0, t->id + from, err);
    if (!code) code = put_tensor(rec, "span", SP_U64, n, 2, t->span + 2 * from, err);
    s->n_tok += n;
    return write_record(s, rec, code, err);
}

static void drop_pending(struct sp_token_stream *s, size_t n) {
    struct sp_tokens *t = &s->pending;
    if (n == 0) return; /* an empty document has no arrays either */
    memmove(t->id, t->id + n, (t->n - n) * sizeof *t->id);
    memmove(t->span, t->span + 2 * n, (t->n - n) * 2 * sizeof *t->span);
    t->n -= n;
}

/* Writes every chunk that is full, each behind the text that it covers. */
static enum sp_code write_full_chunks(struct sp_token_stream *s, struct sp_error *err) {
    size_t from = 0, n = s->o.chunk;
    enum sp_code code = SP_OK;
    for (; !code && s->pending.n - from >= n; from += n) {
        uint64_t end = s->raw_at;
        for (size_t i = from; i < from + n; i++)
            if (s->pending.span[2 * i + 1] > end) end = s->pending.span[2 * i + 1];
        code = write_text(s, end, false, err);
        if (!code) code = write_chunk(s, &s->pending, from, n, s->pass, false, err);
    }
    drop_pending(s, from);
    return code;
}

/* ---- encoding ---------------------------------------------------------------------------------
 */

/* A place of the valid text as a place of the bytes that came. */
static uint64_t raw_place(const struct sp_token_stream *s, uint64_t clean, bool is_end) {
    const struct patch *p = s->patch.data;
    size_t low = 0, high = s->n_patch;
    while (low < high) { /* the last patch that begins before (a start: at or before it) */
        size_t mid = low + (high - low) / 2;
        if (is_end ? p[mid].clean < clean : p[mid].clean <= clean)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0) return clean;
    p += low - 1;
    if (clean < p->clean + PATCH_BYTES) return is_end ? p->raw + p->n_raw : p->raw;
    return p->raw + p->n_raw + (clean - p->clean - PATCH_BYTES);
}

/* Forgets patches that end before `clean`, but for the last of them. */
static void drop_patches(struct sp_token_stream *s, uint64_t clean) {
    struct patch *p = s->patch.data;
    size_t k = 0;
    while (k + 1 < s->n_patch && p[k + 1].clean < clean) k++;
    if (k == 0) return;
    s->n_patch -= k;
    memmove(p, p + k, s->n_patch * sizeof *p);
}

static enum sp_code keep_all(struct sp_token_stream *s, size_t from, struct sp_error *err) {
    struct sp_tokens *a = &s->all;
    size_t n = s->pending.n - from;
    if (a->n + n > a->cap) {
        size_t cap = 2 * (a->n + n);
        uint32_t *id = realloc(a->id, cap * sizeof *id);
        if (id) a->id = id;
        uint64_t *span = realloc(a->span, cap * 2 * sizeof *span);
        if (span) a->span = span;
        if (!id || !span) return sp_error_memory(err, "a document");
        a->cap = cap;
    }
    if (n == 0) return SP_OK;
    memcpy(a->id + a->n, s->pending.id + from, n * sizeof *a->id);
    memcpy(a->span + 2 * a->n, s->pending.span + 2 * from, n * 2 * sizeof *a->span);
    a->n += n;
    return SP_OK;
}

/* Leaves out what is pending of the text before a choice. A token that belongs to both is the
 * choice's, as far as its place goes. */
static void leave_out(struct sp_token_stream *s) {
    size_t n = s->n_skip < s->pending.n ? (size_t)s->n_skip : s->pending.n;
    drop_pending(s, n);
    s->n_skip -= n;
    for (size_t i = 0; i < 2 * s->pending.n; i++)
        if (s->pending.span[i] < s->text_from) s->pending.span[i] = s->text_from;
}

/* Encodes the next n bytes of the valid text, which end at a safe boundary. */
static enum sp_code encode(struct sp_token_stream *s, size_t n, struct sp_error *err) {
    char *text = s->clean.data;
    size_t from = s->pending.n;
    enum sp_code code = sp_tokenizer_encode(s->tok, text, n, s->clean_at, &s->pending, err);
    if (code) return code;
    for (size_t i = from; s->n_patch && i < s->pending.n; i++) {
        uint64_t *span = s->pending.span + 2 * i, start = span[0];
        span[0] = raw_place(s, start, false);
        span[1] = span[1] == start ? span[0] : raw_place(s, span[1], true);
    }
    memmove(text, text + n, s->n_clean - n);
    s->n_clean -= n;
    s->clean_at += n;
    s->checked = 0;
    if (s->text_from) leave_out(s);
    if (s->o.passes > 1) code = keep_all(s, from, err);
    if (!code && s->o.passes == 1) code = write_full_chunks(s, err);
    if (code) return code;
    uint64_t done = raw_place(s, s->clean_at, true);
    drop_patches(s, s->clean_at);
    if (s->o.passes > 1) return SP_OK;
    return write_text(s, done, true, err);
}

static enum sp_code encode_safe(struct sp_token_stream *s, struct sp_error *err) {
    size_t look = sp_token_lookahead(s->tok);
    for (;;) {
        size_t cut = sp_token_safe_behind(s->tok, s->clean.data, s->checked, s->n_clean);
        if (cut == 0) break;
        enum sp_code code = encode(s, cut, err);
        if (code) return code;
    }
    s->checked = s->n_clean > look ? s->n_clean - look : 0;
    return SP_OK;
}

/* ---- bytes to valid text ----------------------------------------------------------------------
 */

static enum sp_code replace(struct sp_token_stream *s, uint64_t raw, size_t n,
                            struct sp_error *err) {
    if (s->n_invalid++ == 0) s->first_invalid = raw;
    if (s->o.refuse_invalid)
        return sp_error_set(err, SP_E_DATA,
                            "invalid UTF-8 at byte %llu (--invalid replace goes on)",
                            (unsigned long long)raw);
    struct patch *p = sp_buffer_need(&s->patch, s->n_patch + 1, sizeof *p);
    if (!p) return sp_error_memory(err, "a document");
    p[s->n_patch++] = (struct patch){s->clean_at + s->n_clean, raw, (uint32_t)n};
    char *clean = (char *)s->clean.data + s->n_clean;
    s->n_clean += sp_utf8_encode(clean, SP_UTF8_REPLACEMENT);
    return SP_OK;
}

/* Takes the bytes of raw from `from` on over into the valid text; final: nothing more will come. */
static enum sp_code clean_bytes(struct sp_token_stream *s, size_t from, bool final,
                                struct sp_error *err) {
    size_t n = s->n_raw - from;
    if (!sp_buffer_need(&s->clean, s->n_clean + PATCH_BYTES * n + 1, 1))
        return sp_error_memory(err, "a document");
    const char *raw = (const char *)s->raw.data + from;
    s->n_tail = 0;
    for (size_t i = 0; i < n;) {
        size_t valid = s->tok->kind == SP_TOKENIZER_BYTES ? n - i : sp_utf8_valid(raw + i, n - i),
               len;
        memcpy((char *)s->clean.data + s->n_clean, raw + i, valid);
        s->n_clean += valid;
        i += valid;
        if (i == n) break;
        if (!final && sp_utf8_incomplete(raw + i, n - i)) {
            s->n_tail = n - i;
            break;
        }
        sp_utf8_decode(raw + i, n - i, &len);
        enum sp_code code = replace(s, s->raw_at + from + i, len, err);
        if (code) return code;
        i += len;
    }
    return SP_OK;
}

/* ---- documents --------------------------------------------------------------------------------
 */

/* Where tokens of the document wait. */
static struct sp_tokens *tokens(struct sp_token_stream *s) {
    return s->o.passes > 1 ? &s->all : &s->pending;
}

static enum sp_code put_frame(struct sp_token_stream *s, const uint32_t *id, size_t n, uint64_t at,
                              struct sp_tokens *t, struct sp_error *err) {
    uint32_t *grown_id = realloc(t->id, (t->n + n + 1) * sizeof *t->id);
    if (grown_id) t->id = grown_id;
    uint64_t *grown_span = realloc(t->span, (t->n + n + 1) * 2 * sizeof *t->span);
    if (grown_span) t->span = grown_span;
    if (!grown_id || !grown_span) return sp_error_memory(err, "a document");
    t->cap = t->n + n + 1;
    for (size_t i = 0; i < n; i++, t->n++) {
        t->id[t->n] = id ? id[i] : s->o.pad_id;
        t->span[2 * t->n] = t->span[2 * t->n + 1] = at;
    }
    return SP_OK;
}

/* Where a line of JSON has not said it. */
static enum sp_code set_mark(const struct sp_token_stream *s, struct sp_record *doc,
                             struct sp_error *err) {
    const void *raw;
    size_t n;
    if (!s->o.marked || sp_record_get_raw(doc, "marks", &raw, &n)) return SP_OK;
    uint8_t marks[10] = {0x91, 0xcf}; /* an array of one u64 */
    for (size_t i = 0; i < 8; i++) marks[2 + i] = (uint8_t)(s->o.mark >> (56 - 8 * i));
    return sp_record_set_raw(doc, "marks", marks, sizeof marks, err);
}

static enum sp_code start(struct sp_token_stream *s, struct sp_record *doc, struct sp_error *err) {
    s->doc = s->n_doc++;
    s->raw_at = s->clean_at = s->n_invalid = s->n_tok = s->n_skip = s->text_from = 0;
    s->n_raw = s->n_tail = s->n_clean = s->checked = s->n_patch = 0;
    s->pending.n = s->all.n = 0;
    return sp_record_set_u64(doc, "doc", s->doc, err);
}

enum sp_code sp_token_stream_begin(struct sp_token_stream *s, struct sp_record *doc,
                                   struct sp_error *err) {
    const char *name = "";
    enum sp_code code = start(s, doc, err);
    s->n_id = 0;
    sp_record_get_str(doc, "id", &name, &s->n_id);
    if (!code && !sp_buffer_need(&s->id, s->n_id + 1, 1)) code = sp_error_memory(err, "a document");
    if (!code) memcpy(s->id.data, name, s->n_id);
    if (!code && s->o.pad) code = sp_record_set_u64(doc, "pad", s->o.pad, err);
    if (!code && s->o.passes > 1) code = sp_record_set_u64(doc, "passes", s->o.passes, err);
    if (!code) code = set_mark(s, doc, err);
    code = write_record(s, doc, code, err);
    size_t n;
    const uint32_t *id = sp_tokenizer_prefix(s->tok, &n);
    s->n_front = s->o.frame ? n : 0;
    return code || s->n_front == 0 ? code : put_frame(s, id, n, 0, tokens(s), err);
}

enum sp_code sp_token_stream_begin_empty(struct sp_token_stream *s, struct sp_error *err) {
    if (s->n_front > 0 || s->o.begin_id < 0) return SP_OK;
    const uint32_t id = (uint32_t)s->o.begin_id;
    s->n_front = 1;
    return put_frame(s, &id, 1, 0, tokens(s), err);
}

enum sp_code sp_token_stream_feed(struct sp_token_stream *s, const char *bytes, size_t n,
                                  struct sp_error *err) {
    if (s->o.passes > 1 && s->raw_at + s->n_raw + n > s->o.max_doc)
        return sp_error_set(
            err, SP_E_DATA,
            "more than %zu bytes, which is too long to be read %u times (--max-doc)", s->o.max_doc,
            s->o.passes);
    char *raw = sp_buffer_need(&s->raw, s->n_raw + n, 1);
    if (!raw) return sp_error_memory(err, "a document");
    memcpy(raw + s->n_raw, bytes, n);
    size_t from = s->n_raw - s->n_tail;
    s->n_raw += n;
    enum sp_code code = clean_bytes(s, from, false, err);
    return code ? code : encode_safe(s, err);
}

/* The tokens of a whole document, from `t`, in chunks. */
static enum sp_code write_pass(struct sp_token_stream *s, const struct sp_tokens *t, uint32_t pass,
                               struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t from = 0; !code && from < t->n; from += s->o.chunk) {
        size_t n = t->n - from < s->o.chunk ? t->n - from : s->o.chunk;
        bool last = pass + 1 == s->pass + s->o.passes && n < s->o.chunk;
        code = write_chunk(s, t, from, n, pass, last, err);
    }
    return code;
}

static enum sp_code write_docend(struct sp_token_stream *s, const char *status,
                                 struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_DOCEND);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_record_set_u64(rec, "doc", s->doc, err);
    if (!code) code = sp_record_set_str(rec, "status", status, strlen(status), err);
    if (!code) code = sp_record_set_u64(rec, "n_tok", s->n_tok, err);
    return write_record(s, rec, code, err);
}

/* whole: the tokens and the padding that stand behind a document are put there. */
static enum sp_code finish(struct sp_token_stream *s, bool whole, const char *status,
                           struct sp_error *err) {
    enum sp_code code = clean_bytes(s, s->n_raw - s->n_tail, true, err);
    if (!code) code = encode_safe(s, err);
    if (!code && s->n_clean) code = encode(s, s->n_clean, err);
    uint64_t end = s->raw_at + s->n_raw;
    struct sp_tokens *t = tokens(s);
    size_t n;
    const uint32_t *id = sp_tokenizer_suffix(s->tok, &n);
    if (!code && s->o.frame && n && whole) code = put_frame(s, id, n, end, t, err);
    if (!code && s->o.passes > 1) code = write_text(s, end, false, err);
    for (uint32_t pass = 0; !code && pass + 1 < s->o.passes; pass++)
        code = write_pass(s, t, pass, err);
    if (!code && s->o.pad && whole) code = put_frame(s, NULL, s->o.pad, end, t, err);
    if (!code && s->o.passes == 1) code = write_full_chunks(s, err);
    if (!code) code = write_text(s, end, false, err);
    if (!code) code = write_pass(s, t, s->pass + s->o.passes - 1, err);
    return code ? code : write_docend(s, status, err);
}

enum sp_code sp_token_stream_end(struct sp_token_stream *s, bool open, struct sp_error *err) {
    enum sp_code code = finish(s, !open, open ? "open" : "ok", err);
    s->n_open = s->n_tok;
    s->n_left_open += open && !code;
    return code;
}

static enum sp_code begin_choice(struct sp_token_stream *s, const struct sp_token_choice *c,
                                 struct sp_error *err) {
    struct sp_record *doc = sp_record_new(SP_KIND_DOC);
    if (!doc) return sp_error_memory(err, "a document");
    enum sp_code code = start(s, doc, err);
    if (!code) code = sp_record_set_str(doc, "id", s->id.data, s->n_id, err);
    if (!code) code = sp_record_set_bool(doc, "cont", true, err);
    if (!code && !c->last) code = sp_record_set_bool(doc, "fork", true, err);
    if (!code) code = sp_record_set_u64(doc, "choice", c->index, err);
    if (!code) code = sp_record_set_u64(doc, "bytes", c->n_choice, err);
    return write_record(s, doc, code, err);
}

enum sp_code sp_token_stream_choice(struct sp_token_stream *s, const struct sp_token_choice *c,
                                    struct sp_error *err) {
    const uint32_t passes = s->o.passes;
    enum sp_code code = begin_choice(s, c, err);
    s->n_tok = s->n_open;
    s->n_skip = s->n_open / passes - s->n_front;
    s->text_from = c->n_text;
    s->pass = passes - 1;
    s->o.passes = 1;
    if (!code) code = sp_token_stream_feed(s, c->text, c->n_text, err);
    if (!code) code = sp_token_stream_feed(s, c->choice, c->n_choice, err);
    if (!code) code = finish(s, false, "ok", err);
    s->o.passes = passes;
    s->pass = 0;
    return code;
}

enum sp_code sp_token_stream_fail(struct sp_token_stream *s, const struct sp_error *why,
                                  struct sp_error *err) {
    static const char stage[] = "tokenize", name[] = "data";
    struct sp_record *rec = sp_record_new(SP_KIND_ERR);
    if (!rec) return sp_error_memory(err, "a document");
    s->n_error++;
    enum sp_code code = sp_record_set_str(rec, "stage", stage, sizeof stage - 1, err);
    if (!code) code = sp_record_set_str(rec, "code", name, sizeof name - 1, err);
    if (!code) code = sp_record_set_str(rec, "message", why->msg, strlen(why->msg), err);
    if (!code) code = sp_record_set_u64(rec, "exit", 1, err);
    if (!code) code = sp_record_set_u64(rec, "doc", s->doc, err);
    return write_record(s, rec, code, err);
}

uint64_t sp_token_stream_invalid(const struct sp_token_stream *s, uint64_t *first) {
    *first = s->first_invalid;
    return s->n_invalid;
}

void sp_token_stream_count(const struct sp_token_stream *s, uint64_t *n_doc, uint64_t *n_error,
                           uint64_t *n_open) {
    *n_doc = s->n_doc;
    *n_error = s->n_error;
    *n_open = s->n_left_open;
}
