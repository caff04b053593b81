/* States as records: sending, gathering, files. */
#include "io.h"
#include "state.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS_MAX 65536 /* of one gather */

/* What every STATE record of one state has in common, by key. */
struct common {
    struct sp_hash model, tokenizer, prefix;
    uint64_t n_tok, n_layer, d_model, d_inner, d_state, d_conv;
    enum sp_origin origin;
};

static const struct {
    const char *key;
    size_t at;
} common_hashes[] = {{"model", offsetof(struct common, model)},
                     {"tokenizer", offsetof(struct common, tokenizer)},
                     {"prefix", offsetof(struct common, prefix)}},
  common_numbers[] = {
      {"n_tok", offsetof(struct common, n_tok)},     {"n_layer", offsetof(struct common, n_layer)},
      {"d_model", offsetof(struct common, d_model)}, {"d_inner", offsetof(struct common, d_inner)},
      {"d_state", offsetof(struct common, d_state)}, {"d_conv", offsetof(struct common, d_conv)}};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static enum sp_code read_common(const struct sp_record *rec, struct common *c,
                                struct sp_error *err) {
    memset(c, 0, sizeof *c);
    const void *bytes;
    size_t n;
    for (size_t i = 0; i < COUNT(common_hashes); i++) {
        const char *key = common_hashes[i].key;
        if (!sp_record_get_bin(rec, key, &bytes, &n) || n != sizeof c->model.byte)
            return sp_error_set(err, SP_E_DATA, "a STATE record has no hash '%s'", key);
        memcpy((char *)c + common_hashes[i].at, bytes, n);
    }
    for (size_t i = 0; i < COUNT(common_numbers); i++) {
        uint64_t v;
        if (!sp_record_get_u64(rec, common_numbers[i].key, &v))
            return sp_error_set(err, SP_E_DATA, "a STATE record has no number '%s'",
                                common_numbers[i].key);
        memcpy((char *)c + common_numbers[i].at, &v, sizeof v);
    }
    char origin[SP_NAME_MAX];
    enum sp_code code = sp_record_copy_str(rec, "origin", origin, sizeof origin, err);
    if (code) return code;
    while (strcmp(origin, sp_origin_name(c->origin)) != 0)
        if (c->origin++ == SP_ORIGIN_CONVERTED)
            return sp_error_set(err, SP_E_DATA, "the state's origin '%s' is unknown", origin);
    return SP_OK;
}

static enum sp_code store_common(const struct sp_state *s, struct sp_record *rec,
                                 struct sp_error *err) {
    struct common c = {.model = s->model,
                       .tokenizer = s->tokenizer,
                       .prefix = s->prefix,
                       .n_tok = s->n_tok,
                       .n_layer = s->n_layer,
                       .d_model = (uint64_t)s->d_model,
                       .d_inner = (uint64_t)s->d_inner,
                       .d_state = (uint64_t)s->d_state,
                       .d_conv = (uint64_t)s->d_conv};
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < COUNT(common_hashes) && !code; i++)
        code = sp_record_set_bin(rec, common_hashes[i].key, (char *)&c + common_hashes[i].at,
                                 sizeof c.model.byte, err);
    for (size_t i = 0; i < COUNT(common_numbers) && !code; i++) {
        uint64_t v;
        memcpy(&v, (char *)&c + common_numbers[i].at, sizeof v);
        code = sp_record_set_u64(rec, common_numbers[i].key, v, err);
    }
    const char *origin = sp_origin_name(s->origin);
    return code ? code : sp_record_set_str(rec, "origin", origin, strlen(origin), err);
}

enum sp_code sp_state_record_layer(const struct sp_record *rec, bool *is_last, uint32_t *layer,
                                   struct sp_error *err) {
    uint64_t number;
    *is_last = false;
    sp_record_get_bool(rec, "last", is_last);
    if (*is_last) return SP_OK;
    if (!sp_record_get_u64(rec, "layer", &number) || number >= UINT32_MAX)
        return sp_error_set(err, SP_E_DATA, "a STATE record says no layer");
    *layer = (uint32_t)number;
    return SP_OK;
}

/* ---- sending ------------------------------------------------------------------------------- */

/* A view of floats as a tensor of the record; the record does not own it. */
static enum sp_code put_view(struct sp_record *rec, const char *name, const float *data,
                             uint64_t rows, uint64_t columns, struct sp_error *err) {
    struct sp_tensor t = {.dtype = SP_F32,
                          .rank = columns ? 2 : 1,
                          .dim = {rows, columns},
                          .data = (void *)(uintptr_t)data};
    if (!sp_tensor_bytes(t.dtype, t.rank, t.dim, &t.n_bytes) || t.n_bytes > SP_TENSOR_BYTES_MAX)
        return sp_error_set(err, SP_E_DATA, "a layer of this state is too large for a stream");
    return sp_record_put_tensor(rec, name, &t, err);
}

static enum sp_code fill_layer(const struct sp_state *s, uint32_t layer, struct sp_record *rec,
                               struct sp_error *err) {
    size_t i = layer - s->layer_first;
    enum sp_code code = sp_record_set_u64(rec, "layer", layer, err);
    if (!code)
        code = put_view(rec, "conv", s->conv + i * sp_state_conv_size(s), (uint64_t)s->d_conv - 1,
                        (uint64_t)s->d_inner, err);
    if (!code)
        code = put_view(rec, "ssm", s->ssm + i * sp_state_ssm_size(s), (uint64_t)s->d_inner,
                        (uint64_t)s->d_state, err);
    return code;
}

static enum sp_code fill_last(const struct sp_state *s, struct sp_record *rec,
                              struct sp_error *err) {
    enum sp_code code = sp_record_set_bool(rec, "last", true, err);
    if (!code) code = sp_record_set_u64(rec, "id", s->last_id, err);
    if (!code) code = put_view(rec, "hidden", s->last_hidden, (uint64_t)s->d_model, 0, err);
    return code;
}

/* Seals, writes and frees. */
static enum sp_code send_sealed(struct sp_record *rec, struct sp_writer *w, struct sp_error *err) {
    enum sp_code code = sp_wire_seal(rec, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code send_hello(const struct sp_state *s, const char *program, struct sp_writer *w,
                               struct sp_error *err) {
    struct sp_hello hello = {.major = SP_STREAM_MAJOR,
                             .minor = SP_STREAM_MINOR,
                             .content = SP_STATE,
                             .model = s->model,
                             .tokenizer = s->tokenizer,
                             .next_layer = s->layer_first,
                             .n_layer = s->n_layer};
    strncpy(hello.program, program, sizeof hello.program - 1);
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    if (!rec) return sp_error_memory(err, "a record");
    enum sp_code code = sp_hello_store(&hello, rec, err);
    if (!code) return send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code send_end(struct sp_writer *w, struct sp_error *err) {
    static const char *const keys[] = {"docs", "errors", "open"};
    struct sp_record *rec = sp_record_new(SP_KIND_END);
    if (!rec) return sp_error_memory(err, "a record");
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < COUNT(keys) && !code; i++)
        code = sp_record_set_u64(rec, keys[i], 0, err);
    if (!code) return send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

enum sp_code sp_state_send_records(const struct sp_state *s, const uint64_t *doc,
                                   struct sp_writer *w, struct sp_error *err) {
    uint32_t layers = s->layer_last - s->layer_first + 1;
    enum sp_code code = SP_OK;
    for (uint32_t i = 0; i < layers + s->has_last && !code; i++) {
        struct sp_record *rec = sp_record_new(SP_KIND_STATE);
        if (!rec) return sp_error_memory(err, "a record");
        if (doc) code = sp_record_set_u64(rec, "doc", *doc, err);
        if (!code) code = store_common(s, rec, err);
        if (!code)
            code =
                i < layers ? fill_layer(s, s->layer_first + i, rec, err) : fill_last(s, rec, err);
        if (!code)
            code = send_sealed(rec, w, err);
        else
            sp_record_free(rec);
    }
    return code;
}

enum sp_code sp_state_send(const struct sp_state *s, const char *program, struct sp_writer *w,
                           struct sp_error *err) {
    enum sp_code code = send_hello(s, program, w, err);
    if (!code) code = sp_state_send_records(s, NULL, w, err);
    return code ? code : send_end(w, err);
}

/* ---- gathering ----------------------------------------------------------------------------- */

void sp_state_gather_clear(struct sp_state_gather *g) {
    for (size_t i = 0; i < g->n; i++) sp_record_free(g->rec[i]);
    free(g->rec);
    *g = (struct sp_state_gather){0};
}

/* The tensors are what the record's own numbers say. */
static enum sp_code check_tensors(struct sp_record *rec, bool is_last, const struct common *c,
                                  struct sp_error *err) {
    struct sp_tensor *t;
    uint64_t hidden[1] = {c->d_model}, conv[2] = {c->d_conv - 1, c->d_inner},
             ssm[2] = {c->d_inner, c->d_state}, id;
    if (!c->d_model || !c->d_conv || !c->d_inner || !c->d_state)
        return sp_error_set(err, SP_E_DATA, "a STATE record with a dimension of 0");
    if (is_last) {
        if (!sp_record_get_u64(rec, "id", &id) || id > UINT32_MAX)
            return sp_error_set(err, SP_E_DATA, "the state's last token has no id");
        return sp_record_need_tensor(rec, "hidden", SP_F32, 1, hidden, &t, err);
    }
    enum sp_code code = sp_record_need_tensor(rec, "conv", SP_F32, 2, conv, &t, err);
    if (!code && t->dim[0] != conv[0])
        code = sp_error_set(err, SP_E_DATA, "a state's convolution has %llu rows, not %llu",
                            (unsigned long long)t->dim[0], (unsigned long long)conv[0]);
    return code ? code : sp_record_need_tensor(rec, "ssm", SP_F32, 2, ssm, &t, err);
}

/* Against what is there already. */
static enum sp_code check_fits(const struct sp_state_gather *g, const struct common *c,
                               bool is_last, uint32_t layer, struct sp_error *err) {
    struct common first;
    for (size_t i = 0; i < g->n; i++) {
        bool other_last;
        uint32_t other = 0;
        enum sp_code code = sp_state_record_layer(g->rec[i], &other_last, &other, err);
        if (code) return code;
        if (is_last && other_last)
            return sp_error_set(err, SP_E_DATA, "the state has two last tokens");
        if (!is_last && !other_last && layer == other)
            return sp_error_set(err, SP_E_DATA, "the state has layer %u twice", layer);
    }
    if (g->n == 0) return SP_OK;
    enum sp_code code = read_common(g->rec[0], &first, err);
    if (code) return code;
    if (memcmp(&first, c, sizeof first) != 0)
        return sp_error_set(err, SP_E_DATA,
                            "the state's parts do not belong together: they differ in model, "
                            "tokens read, origin or shape");
    return SP_OK;
}

static enum sp_code gather_check(const struct sp_state_gather *g, struct sp_record *rec,
                                 struct sp_error *err) {
    struct common c;
    bool is_last;
    uint32_t layer = 0;
    if (g->n == RECORDS_MAX)
        return sp_error_set(err, SP_E_DATA, "a state of more than %d records", RECORDS_MAX);
    enum sp_code code = sp_wire_check_seal(rec, err);
    if (!code) code = sp_state_record_layer(rec, &is_last, &layer, err);
    if (!code) code = read_common(rec, &c, err);
    if (code) return code;
    if (!is_last && layer >= c.n_layer)
        return sp_error_set(err, SP_E_DATA, "the state's layer %u is not one of %llu", layer,
                            (unsigned long long)c.n_layer);
    code = check_tensors(rec, is_last, &c, err);
    return code ? code : check_fits(g, &c, is_last, layer, err);
}

enum sp_code sp_state_gather_add(struct sp_state_gather *g, struct sp_record *rec,
                                 struct sp_error *err) {
    enum sp_code code = gather_check(g, rec, err);
    if (!code && g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        struct sp_record **grown = realloc(g->rec, cap * sizeof *grown);
        if (grown) {
            g->rec = grown;
            g->cap = cap;
        } else {
            code = sp_error_memory(err, "a record");
        }
    }
    if (code)
        sp_record_free(rec);
    else
        g->rec[g->n++] = rec;
    return code;
}

/* The range of layers; SP_E_DATA unless each is there. They are distinct already. */
static enum sp_code find_range(const struct sp_state_gather *g, struct sp_state *shape,
                               struct sp_error *err) {
    uint32_t first = UINT32_MAX, last = 0, n = 0;
    for (size_t i = 0; i < g->n; i++) {
        bool is_last;
        uint32_t layer = 0;
        enum sp_code code = sp_state_record_layer(g->rec[i], &is_last, &layer, err);
        if (code) return code;
        if (is_last) continue;
        if (layer < first) first = layer;
        if (layer > last) last = layer;
        n++;
    }
    if (n == 0) return sp_error_set(err, SP_E_DATA, "the state has no layers");
    if (last - first + 1 != n)
        return sp_error_set(err, SP_E_DATA, "the state has %u of the layers %u-%u: %u are missing",
                            n, first, last, last - first + 1 - n);
    shape->layer_first = first;
    shape->layer_last = last;
    return SP_OK;
}

static void copy_record(struct sp_state *s, struct sp_record *rec) {
    bool is_last;
    uint32_t layer = 0;
    uint64_t id = 0;
    struct sp_error ignored;
    sp_state_record_layer(rec, &is_last, &layer, &ignored);
    if (is_last) {
        sp_record_get_u64(rec, "id", &id);
        s->has_last = true;
        s->last_id = (uint32_t)id;
        const struct sp_tensor *t = sp_record_tensor(rec, "hidden");
        memcpy(s->last_hidden, t->data, t->n_bytes);
        return;
    }
    size_t i = layer - s->layer_first;
    const struct sp_tensor *conv = sp_record_tensor(rec, "conv"),
                           *ssm = sp_record_tensor(rec, "ssm");
    memcpy(s->conv + i * sp_state_conv_size(s), conv->data, conv->n_bytes);
    memcpy(s->ssm + i * sp_state_ssm_size(s), ssm->data, ssm->n_bytes);
}

enum sp_code sp_state_gather_end(struct sp_state_gather *g, struct sp_state **out,
                                 struct sp_error *err) {
    struct common c;
    struct sp_state shape = {0};
    *out = NULL;
    if (g->n == 0) return SP_OK;
    enum sp_code code = read_common(g->rec[0], &c, err);
    if (!code) code = find_range(g, &shape, err);
    if (!code) {
        /* Tensors of these dimensions exist, so that they fit. */
        shape.n_layer = (uint32_t)(c.n_layer > UINT32_MAX ? UINT32_MAX : c.n_layer);
        shape.d_model = (int64_t)(c.d_model > INT32_MAX ? INT32_MAX : c.d_model);
        shape.d_inner = (int64_t)c.d_inner;
        shape.d_state = (int64_t)c.d_state;
        shape.d_conv = (int64_t)c.d_conv;
        code = sp_state_alloc(out, &shape, err);
    }
    if (!code) {
        (*out)->model = c.model;
        (*out)->tokenizer = c.tokenizer;
        (*out)->prefix = c.prefix;
        (*out)->n_tok = c.n_tok;
        (*out)->origin = c.origin;
        for (size_t i = 0; i < g->n; i++) copy_record(*out, g->rec[i]);
    }
    sp_state_gather_clear(g);
    return code;
}

/* ---- files --------------------------------------------------------------------------------- */

/* Every record of a state segment is sealed; none of an unknown kind is let through, since a
 * damaged STATE could pass for one. */
static enum sp_code receive_frame(const struct sp_record *rec, struct sp_error *err) {
    if (rec->kind != SP_KIND_HELLO && rec->kind != SP_KIND_END)
        return sp_error_set(err, SP_E_DATA, "a %.31s record in a state", rec->kind_name);
    struct sp_hello hello;
    if (rec->kind == SP_KIND_HELLO) {
        enum sp_code code = sp_hello_read(&hello, rec, err);
        if (code) return code;
        if (hello.content != SP_STATE)
            return sp_error_set(err, SP_E_DATA, "it is a stream of %s, not a state",
                                sp_content_name(hello.content));
    }
    return sp_wire_check_seal(rec, err);
}

enum sp_code sp_state_receive(struct sp_state **out, struct sp_reader *r, struct sp_error *err) {
    struct sp_state_gather g = {0};
    struct sp_record *rec;
    *out = NULL;
    enum sp_code code;
    while (!(code = sp_reader_read(r, &rec, err)) && rec) {
        if (rec->kind == SP_KIND_STATE) {
            code = sp_state_gather_add(&g, rec, err);
        } else {
            code = receive_frame(rec, err);
            sp_record_free(rec);
        }
        if (code) break;
    }
    if (!code) code = sp_state_gather_end(&g, out, err);
    if (!code && !*out) code = sp_error_set(err, SP_E_DATA, "the state has no layers");
    sp_state_gather_clear(&g);
    return code;
}

enum sp_code sp_state_read(struct sp_state **s, const char *path, struct sp_error *err) {
    int fd;
    struct sp_reader *r = NULL;
    *s = NULL;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    code = sp_reader_new(&r, fd, name, err);
    if (!code) {
        sp_reader_expect(r, SP_READ_STATE);
        code = sp_state_receive(s, r, err);
        if (code && !strstr(err->msg, name)) sp_error_prefix(err, "%s", name);
    }
    sp_reader_free(r);
    close(fd);
    return code;
}

enum sp_code sp_state_write(const struct sp_state *s, const char *path, struct sp_error *err) {
    struct sp_atomic_file file;
    struct sp_writer *w = NULL;
    enum sp_code code = sp_atomic_open(&file, path, err);
    if (code) return code;
    code = sp_writer_new(&w, fileno(file.file), path, err);
    if (!code) code = sp_state_send(s, "statepipe", w, err);
    if (!code) code = sp_writer_flush(w, err);
    if (!code) code = sp_atomic_commit(&file, true, err);
    sp_writer_free(w);
    if (code) sp_atomic_abort(&file);
    return code;
}
