/* States as records: sending, receiving, files. */
#include "io.h"
#include "state.h"
#include "state_common.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- sending ------------------------------------------------------------------------------- */

/* Floats as a tensor of the record: a view that it does not own, or a copy of a half type. */
static enum sp_code put_floats(struct sp_record *rec, const char *name, enum sp_dtype dtype,
                               const float *data, uint64_t rows, uint64_t columns,
                               struct sp_error *err) {
    struct sp_tensor t = {.dtype = dtype,
                          .rank = columns ? 2 : 1,
                          .dim = {rows, columns},
                          .data = (void *)(uintptr_t)data};
    if (!sp_tensor_bytes(t.dtype, t.rank, t.dim, &t.n_bytes) || t.n_bytes > SP_TENSOR_BYTES_MAX)
        return sp_error_set(err, SP_E_DATA, "a layer of this state is too large for a stream");
    if (dtype != SP_F32) {
        const uint64_t dim[] = {rows, columns};
        enum sp_code code = sp_tensor_new(&t, dtype, t.rank, dim, err);
        if (code) return code;
        sp_tensor_from_f32(t.data, data, dtype, t.n_bytes / sizeof(uint16_t));
    }
    return sp_record_put_tensor(rec, name, &t, err);
}

static enum sp_code fill_layer(const struct sp_state *s, uint32_t layer, struct sp_record *rec,
                               struct sp_error *err) {
    size_t i = layer - s->layer_first;
    enum sp_code code = sp_record_set_u64(rec, "layer", layer, err);
    if (!code)
        code = put_floats(rec, "conv", s->dtype, s->conv + i * sp_state_conv_size(s),
                          (uint64_t)s->d_conv - 1, (uint64_t)s->d_inner, err);
    if (!code)
        code = put_floats(rec, "ssm", s->dtype, s->ssm + i * sp_state_ssm_size(s),
                          (uint64_t)s->d_inner, (uint64_t)s->d_state, err);
    return code;
}

static enum sp_code fill_last(const struct sp_state *s, struct sp_record *rec,
                              struct sp_error *err) {
    enum sp_code code = sp_record_set_bool(rec, "last", true, err);
    if (!code) code = sp_record_set_u64(rec, "id", s->last_id, err);
    if (!code)
        code = put_floats(rec, "hidden", SP_F32, s->last_hidden, (uint64_t)s->d_model, 0, err);
    return code;
}

enum sp_code sp_state_send_sealed(struct sp_record *rec, struct sp_writer *w,
                                  struct sp_error *err) {
    enum sp_code code = sp_wire_seal(rec, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

enum sp_code sp_state_send_hello(const struct sp_state *s, struct sp_writer *w,
                                 struct sp_error *err) {
    struct sp_hello hello = {.major = SP_STREAM_MAJOR,
                             .minor = SP_STREAM_MINOR,
                             .content = SP_STATE,
                             .program = "statepipe",
                             .model = s->model,
                             .tokenizer = s->tokenizer,
                             .next_layer = s->layer_first,
                             .n_layer = s->n_layer};
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    if (!rec) return sp_error_memory(err, "a record");
    enum sp_code code = sp_hello_store(&hello, rec, err);
    if (!code) return sp_state_send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

enum sp_code sp_state_send_end(struct sp_writer *w, struct sp_error *err) {
    static const char *const keys[] = {"docs", "errors", "open"};
    struct sp_record *rec = sp_record_new(SP_KIND_END);
    if (!rec) return sp_error_memory(err, "a record");
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < COUNT(keys) && !code; i++)
        code = sp_record_set_u64(rec, keys[i], 0, err);
    if (!code) return sp_state_send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

static uint32_t n_layers(const struct sp_state *s) {
    return s->layer_last - s->layer_first + 1;
}

/* The i-th record of a state: its layers, then the last token's. */
static enum sp_code send_record(const struct sp_state *s, uint32_t i, const uint64_t *doc,
                                struct sp_writer *w, struct sp_error *err) {
    struct sp_state_common common = sp_state_common_of(s);
    struct sp_record *rec = sp_record_new(SP_KIND_STATE);
    if (!rec) return sp_error_memory(err, "a record");
    enum sp_code code = doc ? sp_record_set_u64(rec, "doc", *doc, err) : SP_OK;
    if (!code) code = sp_state_common_store(&common, rec, err);
    if (!code)
        code =
            i < n_layers(s) ? fill_layer(s, s->layer_first + i, rec, err) : fill_last(s, rec, err);
    if (!code) return sp_state_send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

enum sp_code sp_state_send_records(const struct sp_state *s, const uint64_t *doc,
                                   struct sp_writer *w, struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (uint32_t i = 0; i < n_layers(s) + s->has_last && !code; i++)
        code = send_record(s, i, doc, w, err);
    return code;
}

enum sp_code sp_state_send_last(const struct sp_state *s, struct sp_writer *w,
                                struct sp_error *err) {
    if (!s->has_last) return SP_OK;
    enum sp_code code = sp_state_send_hello(s, w, err);
    if (!code) code = send_record(s, n_layers(s), NULL, w, err);
    return code ? code : sp_state_send_end(w, err);
}

enum sp_code sp_state_send(const struct sp_state *s, struct sp_writer *w, struct sp_error *err) {
    enum sp_code code = sp_state_send_hello(s, w, err);
    if (!code) code = sp_state_send_records(s, NULL, w, err);
    return code ? code : sp_state_send_end(w, err);
}

/* ---- files --------------------------------------------------------------------------------- */

/* What is no STATE: the frame of a segment. */
static enum sp_code receive_frame(const struct sp_record *rec, struct sp_error *err) {
    if (rec->kind != SP_KIND_HELLO && rec->kind != SP_KIND_END)
        return sp_error_set(err, SP_E_DATA, "a %.31s record in a state", rec->kind_name);
    struct sp_hello hello;
    if (rec->kind == SP_KIND_END) return SP_OK;
    enum sp_code code = sp_hello_read(&hello, rec, err);
    if (code || hello.content == SP_STATE) return code;
    return sp_error_set(err, SP_E_DATA, "it is a stream of %s, not a state",
                        sp_content_name(hello.content));
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
    const char *name = sp_io_shown(path);
    code = sp_reader_new(&r, fd, name, err);
    if (!code) {
        sp_reader_expect(r, SP_READ_STATE);
        code = sp_state_receive(s, r, err);
        if (code) sp_error_name(err, name);
    }
    sp_reader_free(r);
    close(fd);
    return code;
}

static enum sp_code write_to(const struct sp_state *s, struct sp_atomic_file *file,
                             struct sp_error *err) {
    struct sp_writer *w;
    enum sp_code code = sp_writer_new(&w, fileno(file->file), file->path, err);
    if (code) return code;
    code = sp_state_send(s, w, err);
    if (!code) code = sp_writer_flush(w, err);
    sp_writer_free(w);
    return code;
}

static enum sp_code finish(const struct sp_state *s, struct sp_atomic_file *file,
                           struct sp_error *err) {
    enum sp_code code = write_to(s, file, err);
    if (!code) code = sp_atomic_commit(file, true, err);
    if (code) sp_atomic_abort(file);
    return code;
}

enum sp_code sp_state_write(const struct sp_state *s, const char *path, struct sp_error *err) {
    struct sp_atomic_file file;
    enum sp_code code = sp_atomic_open(&file, path, err);
    return code ? code : finish(s, &file, err);
}

enum sp_code sp_state_put(const struct sp_state *s, const char *path, struct sp_error *err) {
    struct sp_atomic_file file;
    enum sp_code code = sp_atomic_open_output(&file, path, err);
    return code ? code : finish(s, &file, err);
}
