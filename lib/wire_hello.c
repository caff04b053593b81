/* HELLO: what a segment's first record says. */
#include "wire.h"

#include <msgpack.h>
#include <string.h>

static const char *const content_names[SP_CONTENT_COUNT] = {
    [SP_TOKENS] = "tokens",   [SP_HIDDEN] = "hidden", [SP_SCORES] = "scores",
    [SP_RECORDS] = "records", [SP_STATE] = "state",
};

const char *sp_content_name(enum sp_content content) {
    return (unsigned)content < SP_CONTENT_COUNT ? content_names[content] : "unknown";
}

/* version: [major, minor], small numbers. */
static bool read_version(const struct sp_record *rec, uint32_t *major, uint32_t *minor) {
    const void *raw;
    size_t n;
    if (!sp_record_get_raw(rec, "version", &raw, &n)) return false;
    const uint8_t *p = raw;
    if (n != 3 || p[0] != 0x92 || p[1] > 0x7f || p[2] > 0x7f) return false;
    *major = p[1];
    *minor = p[2];
    return true;
}

/* No feature is defined in this version, so any that is asked for is unknown. */
static enum sp_code refuse_features(const struct sp_record *rec, struct sp_error *err) {
    const void *raw;
    size_t n;
    struct sp_wire_item array, first;
    if (!sp_record_get_raw(rec, "features", &raw, &n)) return SP_OK;
    const uint8_t *p = raw;
    if (sp_wire_item(p, n, &array) != SP_WIRE_COMPLETE || array.type != SP_WIRE_ARRAY)
        return sp_error_set(err, SP_E_DATA, "the stream's list of features is not an array");
    if (array.count == 0) return SP_OK;
    p += array.head;
    if (sp_wire_item(p, n - array.head, &first) != SP_WIRE_COMPLETE || first.type != SP_WIRE_STR)
        return sp_error_set(err, SP_E_DATA, "a feature's name in the stream is not a string");
    return sp_error_set(err, SP_E_DATA,
                        "the stream needs the feature '%.*s', which this version of statepipe does "
                        "not have",
                        (int)(first.body > 60 ? 60 : first.body), p + first.head);
}

static enum sp_code read_hash(const struct sp_record *rec, const char *key, struct sp_hash *hash,
                              struct sp_error *err) {
    const void *bytes;
    size_t n;
    *hash = (struct sp_hash){{0}};
    if (!sp_record_get_raw(rec, key, &bytes, &n)) return SP_OK;
    if (!sp_record_get_bin(rec, key, &bytes, &n) || n != sizeof hash->byte)
        return sp_error_set(err, SP_E_DATA, "the stream's fingerprint '%s' is not of %zu bytes",
                            key, sizeof hash->byte);
    memcpy(hash->byte, bytes, n);
    return SP_OK;
}

static enum sp_code read_content(const struct sp_record *rec, enum sp_content *out,
                                 struct sp_error *err) {
    char name[SP_NAME_MAX];
    enum sp_code code = sp_record_copy_str(rec, "content", name, sizeof name, err);
    if (code) return code;
    for (unsigned c = 0; c < SP_CONTENT_COUNT; c++)
        if (strcmp(name, content_names[c]) == 0) return *out = (enum sp_content)c, SP_OK;
    return sp_error_set(err, SP_E_DATA, "the stream's content '%s' is not one this version knows",
                        name);
}

enum sp_code sp_hello_read(struct sp_hello *h, const struct sp_record *rec, struct sp_error *err) {
    *h = (struct sp_hello){0};
    if (!read_version(rec, &h->major, &h->minor))
        return sp_error_set(err, SP_E_DATA, "the stream does not say its version");
    if (h->major != SP_STREAM_MAJOR)
        return sp_error_set(err, SP_E_DATA,
                            "the stream is of version %u.%u, this program reads %d.x", h->major,
                            h->minor, SP_STREAM_MAJOR);
    enum sp_code code = refuse_features(rec, err);
    if (!code) code = read_content(rec, &h->content, err);
    if (!code) code = sp_record_copy_str(rec, "program", h->program, sizeof h->program, err);
    const char *dir;
    size_t n;
    if (!code && sp_record_get_str(rec, "model_dir", &dir, &n))
        code = sp_record_copy_str(rec, "model_dir", h->model_dir, sizeof h->model_dir, err);
    if (!code) code = read_hash(rec, "model", &h->model, err);
    if (!code) code = read_hash(rec, "tokenizer", &h->tokenizer, err);
    if (code) return code;
    uint64_t next = 0, layers = 0;
    sp_record_get_u64(rec, "next_layer", &next);
    sp_record_get_u64(rec, "n_layer", &layers);
    if (next > layers || layers > UINT32_MAX)
        return sp_error_set(err, SP_E_DATA, "the stream's next layer is %llu of %llu",
                            (unsigned long long)next, (unsigned long long)layers);
    h->next_layer = (uint32_t)next;
    h->n_layer = (uint32_t)layers;
    return SP_OK;
}

enum sp_code sp_hello_store(const struct sp_hello *h, struct sp_record *rec, struct sp_error *err) {
    if (h->major > 0x7f || h->minor > 0x7f)
        return sp_error_set(err, SP_E_BUG, "a stream version above 127");
    const uint8_t version[3] = {0x92, (uint8_t)h->major, (uint8_t)h->minor};
    const char *content = sp_content_name(h->content);
    enum sp_code code = sp_record_set_raw(rec, "version", version, sizeof version, err);
    if (!code) code = sp_record_set_str(rec, "content", content, strlen(content), err);
    if (!code) code = sp_record_set_str(rec, "program", h->program, strlen(h->program), err);
    if (!code) code = sp_record_set_str(rec, "model_dir", h->model_dir, strlen(h->model_dir), err);
    if (!code) code = sp_record_set_bin(rec, "model", h->model.byte, sizeof h->model.byte, err);
    if (!code)
        code =
            sp_record_set_bin(rec, "tokenizer", h->tokenizer.byte, sizeof h->tokenizer.byte, err);
    if (!code) code = sp_record_set_u64(rec, "next_layer", h->next_layer, err);
    if (!code) code = sp_record_set_u64(rec, "n_layer", h->n_layer, err);
    return code;
}
