/* head --sample. */
#include "net_sample.h"
#include "net_stream.h"
#include "net_weights.h"
#include "token_out.h"

#include <stdlib.h>
#include <string.h>

struct document {
    struct document *next; /* of those that go on, or of the free ones */
    char *id;              /* (n_id) */
    size_t n_id;
    uint64_t number;  /* in the run: the stream of its draws */
    uint64_t n_drawn; /* tokens */
    uint64_t pos;     /* of the next token */
    struct sp_recent recent;
    bool ready;     /* hidden is there */
    float hidden[]; /* (d_model): predicts the next token */
};

struct sp_sampling {
    const struct sp_config *c;
    struct sp_head_net *head;
    struct sp_sampler *sampler;
    uint64_t n_max;
    float *logits;      /* (vocabulary) */
    const float *start; /* (d_model) or NULL */
    struct document *going, *current;
    size_t n_going;
    uint64_t n_doc;
};

enum sp_code sp_sampling_new(struct sp_sampling **out, const struct sp_model *m,
                             struct sp_head_net *head, const struct sp_sample_options *o,
                             uint64_t n_max, struct sp_error *err) {
    struct sp_tokenizer *tok = NULL;
    uint32_t *never = NULL;
    size_t n_never = 0;
    *out = NULL;
    struct sp_sampling *s = calloc(1, sizeof *s);
    if (!s) return sp_error_memory(err, "sampling");
    s->c = sp_model_config(m);
    s->head = head;
    s->n_max = n_max;
    s->logits = malloc((size_t)s->c->vocab_size * sizeof *s->logits);
    enum sp_code code = s->logits ? SP_OK : sp_error_memory(err, "sampling");
    if (!code) code = sp_tokenizer_open(&tok, sp_model_dir(m), err);
    if (!code) code = sp_token_textless(tok, s->c->vocab_size, &never, &n_never, err);
    if (!code) code = sp_sampler_new(&s->sampler, o, s->c->vocab_size, never, n_never, err);
    sp_tokenizer_free(tok);
    free(never);
    if (code) {
        sp_sampling_free(s);
        return code;
    }
    *out = s;
    return SP_OK;
}

static void document_free(struct document *d) {
    if (!d) return;
    free(d->id);
    free(d);
}

void sp_sampling_free(struct sp_sampling *s) {
    if (!s) return;
    for (struct document *d = s->going, *next; d; d = next) {
        next = d->next;
        document_free(d);
    }
    document_free(s->current);
    sp_sampler_free(s->sampler);
    free(s->logits);
    free(s);
}

void sp_sampling_start(struct sp_sampling *s, const float *hidden) {
    s->start = hidden;
}

bool sp_sampling_done(const struct sp_sampling *s) {
    return s->n_doc > 0 && s->n_going == 0 && !s->current;
}

void sp_sampling_drop(struct sp_sampling *s) {
    document_free(s->current);
    s->current = NULL;
}

/* ---- documents ------------------------------------------------------------------------------ */

static enum sp_code document_new(struct sp_sampling *s, const char *id, size_t n_id,
                                 struct sp_error *err) {
    const size_t d_model = (size_t)s->c->d_model;
    s->n_doc++;
    if (s->n_going == SP_SAMPLE_DOCS_MAX)
        return sp_error_set(err, SP_E_DATA, "more than %d documents go on", SP_SAMPLE_DOCS_MAX);
    struct document *d = calloc(1, sizeof *d + d_model * sizeof *d->hidden);
    if (d) d->id = malloc(n_id + 1);
    if (!d || !d->id) {
        document_free(d);
        return sp_error_memory(err, "a document");
    }
    memcpy(d->id, id, n_id);
    d->n_id = n_id;
    d->number = s->n_doc - 1;
    d->ready = s->start != NULL;
    if (s->start) memcpy(d->hidden, s->start, d_model * sizeof *d->hidden);
    s->current = d;
    return SP_OK;
}

/* Where the document that goes on under this id hangs; NULL: there is none. */
static struct document **find(struct sp_sampling *s, const char *id, size_t n_id) {
    for (struct document **at = &s->going; *at; at = &(*at)->next)
        if ((*at)->n_id == n_id && memcmp((*at)->id, id, n_id) == 0) return at;
    return NULL;
}

bool sp_sampling_wants(struct sp_sampling *s, const struct sp_record *rec) {
    const char *id = "";
    size_t n_id = 0;
    bool cont = false;
    sp_record_get_str(rec, "id", &id, &n_id);
    sp_record_get_bool(rec, "cont", &cont);
    return !cont || find(s, id, n_id);
}

/* What is written of a DOC is that it goes on: text, spans and padding were the prompt's. */
static enum sp_code write_doc(uint64_t doc, const char *id, size_t n_id, struct sp_writer *w,
                              struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_DOC);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_record_set_str(rec, "id", id, n_id, err);
    if (!code) code = sp_record_set_u64(rec, "doc", doc, err);
    if (!code) code = sp_record_set_bool(rec, "cont", true, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

/* An error stands behind the DOC. */
static enum sp_code take_doc(struct sp_sampling *s, const struct sp_record *rec,
                             struct sp_writer *w, struct sp_error *err) {
    const char *id = "";
    size_t n_id = 0;
    uint64_t doc = 0;
    bool cont = false;
    sp_record_get_str(rec, "id", &id, &n_id);
    sp_record_get_u64(rec, "doc", &doc);
    sp_record_get_bool(rec, "cont", &cont);
    enum sp_code code = write_doc(doc, id, n_id, w, err);
    struct document **at = cont ? find(s, id, n_id) : NULL;
    if (code) return code;
    if (!at) return document_new(s, id, n_id, err);
    s->current = *at;
    *at = s->current->next;
    s->n_going--;
    return SP_OK;
}

/* The last row predicts the next token. */
static enum sp_code take_chunk(struct sp_sampling *s, struct sp_record *rec, struct sp_error *err) {
    struct document *d = s->current;
    struct sp_tensor *hidden, *ids;
    uint64_t any[1] = {0};
    const size_t d_model = (size_t)s->c->d_model;
    enum sp_code code = sp_stream_hidden(rec, s->c->d_model, &hidden, err);
    if (!code) code = sp_record_need_tensor(rec, "ids", SP_U32, 1, any, &ids, err);
    if (code || ids->dim[0] == 0) return code;
    const float *last = (const float *)hidden->data + (size_t)(hidden->dim[0] - 1) * d_model;
    memcpy(d->hidden, last, d_model * sizeof *last);
    d->ready = true;
    sp_record_get_u64(rec, "pos", &d->pos);
    d->pos += ids->dim[0];
    sp_recent_add(&d->recent, ids->data, (size_t)ids->dim[0]);
    return SP_OK;
}

/* ---- tokens --------------------------------------------------------------------------------- */

/* *id -1: the document ends here. */
static enum sp_code draw(struct sp_sampling *s, int64_t *id, struct sp_error *err) {
    struct document *d = s->current;
    *id = -1;
    if (d->n_drawn >= s->n_max) return SP_OK;
    if (!d->ready)
        return sp_error_set(err, SP_E_DATA,
                            "nothing has been read that a next token could follow: give a text, "
                            "or a state with its last hidden vector");
    enum sp_code code = sp_head_net_forward(s->head, d->hidden, 1, true, s->logits, err);
    if (code) return code;
    if (!sp_weights_finite(s->logits, SP_F32, (size_t)s->c->vocab_size))
        return sp_error_set(err, SP_E_DATA, "the head gives NaN or infinity");
    uint32_t next = sp_sampler_next(s->sampler, s->logits, &d->recent, d->number, d->n_drawn);
    if ((int64_t)next == s->c->eos_id) return SP_OK;
    d->n_drawn++;
    *id = next;
    return SP_OK;
}

static enum sp_code write_chunk(const struct document *d, uint64_t doc, uint32_t id,
                                struct sp_writer *w, struct sp_error *err) {
    struct sp_tensor ids;
    uint64_t dim[1] = {1};
    struct sp_record *rec = sp_record_new(SP_KIND_CHUNK);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_tensor_new(&ids, SP_U32, 1, dim, err);
    if (!code) {
        memcpy(ids.data, &id, sizeof id);
        code = sp_record_put_tensor(rec, "ids", &ids, err);
    }
    if (!code) code = sp_record_set_u64(rec, "doc", doc, err);
    if (!code) code = sp_record_set_u64(rec, "pos", d->pos, err);
    if (!code) code = sp_record_set_u64(rec, "pass", 0, err);
    if (!code) code = sp_record_set_bool(rec, "last", false, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code write_end(uint64_t doc, bool open, uint64_t n_tok, struct sp_writer *w,
                              struct sp_error *err) {
    const char *status = open ? "open" : "ok";
    struct sp_record *rec = sp_record_new(SP_KIND_DOCEND);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_record_set_u64(rec, "doc", doc, err);
    if (!code) code = sp_record_set_str(rec, "status", status, strlen(status), err);
    if (!code) code = sp_record_set_u64(rec, "n_tok", n_tok, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code take_end(struct sp_sampling *s, const struct sp_record *rec,
                             struct sp_writer *w, struct sp_error *err) {
    struct document *d = s->current;
    const char *status = "";
    size_t n = 0;
    uint64_t doc = 0;
    int64_t id;
    sp_record_get_str(rec, "status", &status, &n);
    sp_record_get_u64(rec, "doc", &doc);
    if (n != 4 || memcmp(status, "open", 4) != 0)
        return sp_error_set(err, SP_E_DATA,
                            "it is not left open, so that nothing can go on with it: tokenize it "
                            "with --open");
    enum sp_code code = draw(s, &id, err);
    if (!code && id >= 0) code = write_chunk(d, doc, (uint32_t)id, w, err);
    if (code) return code;
    bool open = id >= 0 && d->n_drawn < s->n_max;
    s->current = NULL;
    if (open) {
        d->next = s->going;
        s->going = d;
        s->n_going++;
    } else {
        document_free(d);
    }
    return write_end(doc, open, id >= 0, w, err);
}

enum sp_code sp_sampling_record(struct sp_sampling *s, struct sp_record *rec, struct sp_writer *w,
                                struct sp_error *err) {
    if (rec->kind == SP_KIND_DOC) return take_doc(s, rec, w, err);
    if (rec->kind == SP_KIND_CHUNK) return take_chunk(s, rec, err);
    if (rec->kind == SP_KIND_DOCEND) return take_end(s, rec, w, err);
    return SP_OK;
}
