/* Documents: a token stream with gold spans as ids and targets. */
#include "task.h"
#include "train.h"

#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

#define BIGRAM_SMOOTHING 0.1

struct sp_doc_source {
    const struct sp_config *config;
    const struct sp_head *head; /* NULL: next tokens */
    int fd;
    struct sp_reader *reader;
    struct sp_hash tokenizer;
    uint64_t n_doc;
    struct sp_left_out left_out;
    /* The document being read. */
    bool open;
    uint8_t *spans; /* raw msgpack */
    size_t n_spans;
    uint32_t *id;   /* (cap) */
    uint64_t *span; /* (cap, 2) */
    int64_t n, cap;
    int64_t pass_start; /* the first token of the last pass */
    uint64_t pass, pad; /* padding tokens behind the last pass */
};

void sp_train_doc_clear(struct sp_train_doc *doc) {
    free(doc->id);
    free(doc->target);
    *doc = (struct sp_train_doc){0};
}

enum sp_code sp_doc_source_open(struct sp_doc_source **out, const char *path,
                                const struct sp_config *config, const struct sp_head *head,
                                struct sp_error *err) {
    *out = NULL;
    struct sp_doc_source *s = calloc(1, sizeof *s);
    if (!s) return sp_error_memory(err, "reading documents");
    s->config = config;
    s->head = head;
    s->fd = -1;
    enum sp_code code = sp_io_open(&s->fd, path, err);
    if (!code) code = sp_reader_new(&s->reader, s->fd, sp_io_shown(path), err);
    if (code) {
        sp_doc_source_free(s);
        return code;
    }
    *out = s;
    return SP_OK;
}

void sp_doc_source_free(struct sp_doc_source *s) {
    if (!s) return;
    sp_reader_free(s->reader);
    if (s->fd >= 0) close(s->fd);
    free(s->spans);
    free(s->id);
    free(s->span);
    free(s);
}

static enum sp_code on_hello(struct sp_doc_source *s, const struct sp_record *rec,
                             struct sp_error *err) {
    struct sp_hello hello;
    SP_TRY(sp_hello_read(&hello, rec, err));
    if (hello.content != SP_TOKENS)
        return sp_error_set(err, SP_E_DATA,
                            "the input is a stream of %s; train reads the tokens that tokenize "
                            "writes, without another program between them",
                            sp_content_name(hello.content));
    if (s->n_doc && !sp_hash_equal(&s->tokenizer, &hello.tokenizer))
        return sp_error_set(err, SP_E_DATA, "the stream changes its tokenizer after document %llu",
                            (unsigned long long)s->n_doc);
    s->tokenizer = hello.tokenizer;
    return SP_OK;
}

static enum sp_code on_doc(struct sp_doc_source *s, const struct sp_record *rec,
                           struct sp_error *err) {
    const void *raw;
    size_t n;
    s->open = true;
    s->n = s->pass_start = 0;
    s->pass = s->pad = 0;
    sp_record_get_u64(rec, "pad", &s->pad);
    if (s->head && s->head->type == SP_HEAD_TAG && s->pad != s->config->delay)
        return sp_error_set(err, SP_E_DATA,
                            "document %llu ends with %llu tokens of padding, the model's delay is "
                            "%u: use tokenize --pad %u",
                            (unsigned long long)s->n_doc, (unsigned long long)s->pad,
                            s->config->delay, s->config->delay);
    free(s->spans);
    s->spans = NULL;
    s->n_spans = 0;
    if (!sp_record_get_raw(rec, "spans", &raw, &n)) return SP_OK;
    s->spans = malloc(n ? n : 1);
    if (!s->spans) return sp_error_memory(err, "the gold spans");
    memcpy(s->spans, raw, n);
    s->n_spans = n;
    return SP_OK;
}

static enum sp_code reserve(struct sp_doc_source *s, int64_t n, struct sp_error *err) {
    if (n <= s->cap) return SP_OK;
    if (n > SP_TRAIN_DOC_MAX)
        return sp_error_set(err, SP_E_DATA, "document %llu has more than %lld tokens",
                            (unsigned long long)s->n_doc, (long long)SP_TRAIN_DOC_MAX);
    int64_t cap = s->cap ? s->cap : 1024;
    while (cap < n) cap *= 2;
    uint32_t *id = realloc(s->id, (size_t)cap * sizeof *id);
    if (id) s->id = id;
    uint64_t *span = id ? realloc(s->span, 2 * (size_t)cap * sizeof *span) : NULL;
    if (!span) return sp_error_memory(err, "a document");
    s->span = span;
    s->cap = cap;
    return SP_OK;
}

static enum sp_code on_chunk(struct sp_doc_source *s, struct sp_record *rec, struct sp_error *err) {
    struct sp_tensor *id, *span;
    uint64_t any = 0, pass = 0;
    SP_TRY(sp_record_need_tensor(rec, "ids", SP_U32, 1, &any, &id, err));
    uint64_t dim[2] = {id->dim[0], 2};
    int64_t n = (int64_t)id->dim[0];
    if (n == 0) return SP_OK;
    SP_TRY(sp_record_need_tensor(rec, "span", SP_U64, 2, dim, &span, err));
    SP_TRY(reserve(s, s->n + n, err));
    sp_record_get_u64(rec, "pass", &pass);
    if (pass != s->pass) s->pass_start = s->n;
    s->pass = pass;
    const uint32_t *ids = id->data;
    for (int64_t i = 0; i < n; i++)
        if ((int64_t)ids[i] >= s->config->vocab_size)
            return sp_error_set(err, SP_E_DATA,
                                "token %u of document %llu is outside the vocabulary of %lld: was "
                                "the stream made with another tokenizer?",
                                ids[i], (unsigned long long)s->n_doc,
                                (long long)s->config->vocab_size);
    memcpy(s->id + s->n, ids, (size_t)n * sizeof *ids);
    memcpy(s->span + 2 * s->n, span->data, 2 * (size_t)n * sizeof *s->span);
    s->n += n;
    return SP_OK;
}

/* Pairs of neighbouring tags, with the document's start and end. */
static void count_bigrams(struct sp_bigrams *b, const int32_t *tag, int64_t n) {
    uint32_t from = b->n_label;
    for (int64_t i = 0; i < n; i++) {
        if (tag[i] < 0) continue;
        b->count[from * b->n_label + (uint32_t)tag[i]] += 1;
        from = (uint32_t)tag[i];
    }
    if (from < b->n_label) b->count[(b->n_label + 1) * b->n_label + from] += 1;
}

/* What tags and classes are made from; text without it would teach that there is nothing in it. */
static enum sp_code need_spans(const struct sp_doc_source *s, struct sp_error *err) {
    if (s->spans) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "document %llu has no gold spans to learn from: give `tokenize --jsonl` "
                        "lines with \"spans\" ([] where nothing is to be found)",
                        (unsigned long long)s->n_doc);
}

/* A tag is told `delay` tokens late; as many tokens of padding make room for the last ones. */
static enum sp_code tag_targets(struct sp_doc_source *s, int32_t *target,
                                struct sp_bigrams *bigrams, struct sp_error *err) {
    int64_t delay = s->config->delay, n = s->n - s->pass_start - delay;
    SP_TRY(need_spans(s, err));
    if (n <= 0) return SP_OK;
    int32_t *tag = malloc((size_t)n * sizeof *tag);
    if (!tag) return sp_error_memory(err, "tags");
    enum sp_code code = sp_tags_from_spans(s->head, s->spans, s->n_spans,
                                           s->span + 2 * s->pass_start, (size_t)n, tag, err);
    if (!code && bigrams) count_bigrams(bigrams, tag, n);
    for (int64_t i = 0; !code && i < n; i++) {
        target[s->pass_start + i + delay] = tag[i];
        s->left_out.n_tok += tag[i] < 0;
    }
    free(tag);
    if (code) sp_error_prefix(err, "document %llu", (unsigned long long)s->n_doc);
    return code;
}

static void next_token_targets(const struct sp_doc_source *s, int32_t *target) {
    for (int64_t i = s->pass_start; i + 1 < s->n; i++) target[i] = (int32_t)s->id[i + 1];
}

static int32_t label_index(const struct sp_head *head, const msgpack_object *o) {
    if (o->type != MSGPACK_OBJECT_STR) return -1;
    for (uint32_t i = 0; i < head->n_label; i++)
        if (strlen(head->label[i]) == o->via.str.size &&
            memcmp(head->label[i], o->via.str.ptr, o->via.str.size) == 0)
            return (int32_t)i;
    return -1;
}

/* A document's class is the first of its spans whose label is one; it is told at the last token. */
static enum sp_code class_target(const struct sp_doc_source *s, int32_t *target,
                                 struct sp_error *err) {
    SP_TRY(need_spans(s, err));
    if (s->n == s->pass_start) return SP_OK;
    msgpack_unpacked u;
    size_t at = 0;
    msgpack_unpacked_init(&u);
    bool ok = msgpack_unpack_next(&u, (const char *)s->spans, s->n_spans, &at) ==
                  MSGPACK_UNPACK_SUCCESS &&
              u.data.type == MSGPACK_OBJECT_ARRAY;
    for (uint32_t i = 0; ok && i < u.data.via.array.size; i++) {
        const msgpack_object *span = &u.data.via.array.ptr[i];
        if (span->type != MSGPACK_OBJECT_ARRAY || span->via.array.size < 3) continue;
        int32_t label = label_index(s->head, &span->via.array.ptr[2]);
        if (label < 0) continue;
        target[s->n - 1] = label;
        break;
    }
    msgpack_unpacked_destroy(&u);
    if (ok) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "document %llu: spans are not an array",
                        (unsigned long long)s->n_doc);
}

static enum sp_code finish(struct sp_doc_source *s, struct sp_train_doc *doc,
                           struct sp_bigrams *bigrams, struct sp_error *err) {
    size_t n = (size_t)s->n;
    *doc = (struct sp_train_doc){.n = s->n, .index = s->n_doc};
    doc->id = malloc(n * sizeof *doc->id);
    doc->target = malloc(n * sizeof *doc->target);
    enum sp_code code = SP_OK;
    if (!doc->id || !doc->target) {
        code = sp_error_memory(err, "a document");
    } else {
        memcpy(doc->id, s->id, n * sizeof *doc->id);
        memset(doc->target, -1, n * sizeof *doc->target);
        if (!s->head)
            next_token_targets(s, doc->target);
        else if (s->head->type == SP_HEAD_TAG)
            code = tag_targets(s, doc->target, bigrams, err);
        else
            code = class_target(s, doc->target, err);
    }
    if (code) sp_train_doc_clear(doc);
    return code;
}

static enum sp_code on_err(struct sp_doc_source *s, const struct sp_record *rec,
                           struct sp_error *err) {
    const char *message = "";
    size_t n = 0;
    uint64_t doc;
    const char *name;
    size_t n_name;
    if (sp_record_get_u64(rec, "doc", &doc) || sp_record_get_str(rec, "doc", &name, &n_name)) {
        s->left_out.n_doc++;
        s->open = false;
        return SP_OK;
    }
    sp_record_get_str(rec, "message", &message, &n);
    return sp_error_set(err, SP_E_DATA, "a program upstream failed: %.*s", (int)(n < 300 ? n : 300),
                        message);
}

/* *done: *doc holds a document. */
static enum sp_code on_record(struct sp_doc_source *s, struct sp_record *rec,
                              struct sp_train_doc *doc, bool *done, struct sp_bigrams *bigrams,
                              struct sp_error *err) {
    switch (rec->kind) {
    case SP_KIND_HELLO: return on_hello(s, rec, err);
    case SP_KIND_DOC: return on_doc(s, rec, err);
    case SP_KIND_CHUNK: return s->open ? on_chunk(s, rec, err) : SP_OK;
    case SP_KIND_ERR: return on_err(s, rec, err);
    case SP_KIND_DOCEND:
        if (s->open && s->n > 0) {
            SP_TRY(finish(s, doc, bigrams, err));
            *done = true;
        }
        s->n_doc += s->open;
        s->open = false;
        return SP_OK;
    default: return SP_OK;
    }
}

enum sp_code sp_doc_source_next(struct sp_doc_source *s, struct sp_train_doc *doc, bool *there,
                                struct sp_bigrams *bigrams, struct sp_error *err) {
    *there = false;
    while (!*there) {
        struct sp_record *rec;
        SP_TRY(sp_reader_read(s->reader, &rec, err));
        if (!rec) return SP_OK;
        enum sp_code code = on_record(s, rec, doc, there, bigrams, err);
        sp_record_free(rec);
        if (code) return code;
    }
    return SP_OK;
}

const struct sp_hash *sp_doc_source_tokenizer(const struct sp_doc_source *s) {
    return &s->tokenizer;
}
struct sp_left_out sp_doc_source_left_out(const struct sp_doc_source *s) {
    return s->left_out;
}

void sp_bigrams_log(const struct sp_bigrams *b, float *out) {
    uint32_t n = b->n_label;
    for (uint32_t from = 0; from < n + 2; from++) {
        double sum = 0;
        for (uint32_t to = 0; to < n; to++) sum += b->count[from * n + to] + BIGRAM_SMOOTHING;
        for (uint32_t to = 0; to < n; to++)
            out[from * n + to] = (float)log((b->count[from * n + to] + BIGRAM_SMOOTHING) / sum);
    }
}
