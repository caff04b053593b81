/* Records: a kind, a map kept as msgpack bytes, tensors by name. */
#include "wire.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[SP_KIND_COUNT] = {
    [SP_KIND_HELLO] = "statepipe", [SP_KIND_DOC] = "DOC",       [SP_KIND_TEXT] = "TEXT",
    [SP_KIND_CHUNK] = "CHUNK",     [SP_KIND_DOCEND] = "DOCEND", [SP_KIND_HEAD] = "HEAD",
    [SP_KIND_STATE] = "STATE",     [SP_KIND_ERR] = "ERR",       [SP_KIND_END] = "END",
    [SP_KIND_OTHER] = "",
};

static struct sp_record *record_alloc(const uint8_t *map, size_t n) {
    struct sp_record *rec = calloc(1, sizeof *rec);
    if (!rec) return NULL;
    rec->map = malloc(n);
    if (!rec->map) {
        free(rec);
        return NULL;
    }
    memcpy(rec->map, map, n);
    rec->map_bytes = n;
    return rec;
}

struct sp_record *sp_record_new(enum sp_kind kind) {
    static const uint8_t empty_map[] = {0x80};
    struct sp_record *rec = record_alloc(empty_map, sizeof empty_map);
    if (!rec) return NULL;
    rec->kind = kind;
    strcpy(rec->kind_name, kind_names[kind]);
    return rec;
}

void sp_record_free(struct sp_record *rec) {
    if (!rec) return;
    for (uint32_t i = 0; i < rec->n_tensor; i++) sp_tensor_clear(&rec->tensor[i]);
    free(rec->map);
    free(rec);
}

/* Copies a msgpack string that must be a name. */
static bool take_name(char out[SP_NAME_MAX], const uint8_t *p, const struct sp_wire_item *item) {
    if (item->type != SP_WIRE_STR || item->body == 0 || item->body >= SP_NAME_MAX) return false;
    memcpy(out, p + item->head, item->body);
    out[item->body] = 0;
    return strlen(out) == item->body;
}

static enum sp_code parse_names(struct sp_record *rec, const uint8_t *p, size_t n,
                                struct sp_error *err) {
    struct sp_wire_item item;
    if (sp_wire_item(p, n, &item) != SP_WIRE_COMPLETE || item.type != SP_WIRE_ARRAY ||
        item.count > SP_RECORD_TENSORS_MAX)
        return sp_error_set(err, SP_E_DATA,
                            "a %s record names more than %d tensors, or not in an "
                            "array",
                            rec->kind_name, SP_RECORD_TENSORS_MAX);
    uint32_t count = (uint32_t)item.count;
    p += item.head;
    n -= item.head;
    for (uint32_t i = 0; i < count; i++) {
        if (sp_wire_item(p, n, &item) != SP_WIRE_COMPLETE || !take_name(rec->name[i], p, &item))
            return sp_error_set(err, SP_E_DATA,
                                "a tensor's name in a %s record is not a string of 1 to %d bytes",
                                rec->kind_name, SP_NAME_MAX - 1);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(rec->name[i], rec->name[j]) == 0)
                return sp_error_set(err, SP_E_DATA, "a %s record names the tensor '%s' twice",
                                    rec->kind_name, rec->name[i]);
        p += item.head + item.body;
        n -= item.head + item.body;
    }
    rec->n_tensor = count;
    return SP_OK;
}

enum sp_code sp_wire_parse_head(struct sp_record **out, const uint8_t *head, size_t n,
                                struct sp_error *err) {
    struct sp_wire_item array, kind;
    char kind_name[SP_NAME_MAX];
    const char *why;
    if (sp_wire_item(head, n, &array) != SP_WIRE_COMPLETE || array.type != SP_WIRE_ARRAY ||
        array.count != 3)
        return sp_error_set(err, SP_E_DATA, "a record is not an array of kind, map and names");
    const uint8_t *p = head + array.head;
    if (sp_wire_item(p, n - array.head, &kind) != SP_WIRE_COMPLETE ||
        !take_name(kind_name, p, &kind))
        return sp_error_set(err, SP_E_DATA, "a record's kind is not a string of 1 to %d bytes",
                            SP_NAME_MAX - 1);
    const uint8_t *map = p + kind.head + kind.body;
    size_t left = n - (size_t)(map - head), map_bytes;
    if (sp_wire_skip(map, left, left, &map_bytes, &why) != SP_WIRE_COMPLETE)
        return sp_error_set(err, SP_E_DATA, "a %s record's map %s", kind_name, why);
    enum sp_code code = sp_wire_check_map(map, map_bytes, err);
    if (code) return code;
    struct sp_record *rec = record_alloc(map, map_bytes);
    if (!rec) return sp_error_memory(err, "a record");
    memcpy(rec->kind_name, kind_name, sizeof kind_name);
    rec->kind = SP_KIND_HELLO;
    while (rec->kind != SP_KIND_OTHER && strcmp(kind_name, kind_names[rec->kind]) != 0) rec->kind++;
    code = parse_names(rec, map + map_bytes, left - map_bytes, err);
    if (code) {
        sp_record_free(rec);
        return code;
    }
    *out = rec;
    return SP_OK;
}

static bool find_field(const struct sp_record *rec, const char *key, struct sp_wire_field *field) {
    struct sp_wire_fields it;
    size_t n = strlen(key);
    if (!sp_wire_fields_start(&it, rec->map, rec->map_bytes)) return false;
    while (sp_wire_fields_next(&it, field))
        if (field->key_bytes == n && memcmp(field->key, key, n) == 0) return true;
    return false;
}

/* The value as msgpack-c sees it. Its zone stays empty for numbers and strings, which point into
 * the map. */
static bool find_object(const struct sp_record *rec, const char *key, msgpack_object *out) {
    struct sp_wire_field field;
    struct sp_wire_item item;
    if (!find_field(rec, key, &field)) return false;
    sp_wire_item(field.value, field.value_bytes, &item);
    if (item.type == SP_WIRE_ARRAY || item.type == SP_WIRE_MAP || item.type == SP_WIRE_EXT)
        return false;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    bool ok = msgpack_unpack_next(&unpacked, (const char *)field.value, field.value_bytes, NULL) ==
              MSGPACK_UNPACK_SUCCESS;
    *out = unpacked.data;
    msgpack_unpacked_destroy(&unpacked);
    return ok;
}

bool sp_record_get_u64(const struct sp_record *rec, const char *key, uint64_t *out) {
    msgpack_object o;
    if (!find_object(rec, key, &o) || o.type != MSGPACK_OBJECT_POSITIVE_INTEGER) return false;
    *out = o.via.u64;
    return true;
}

bool sp_record_get_bool(const struct sp_record *rec, const char *key, bool *out) {
    msgpack_object o;
    if (!find_object(rec, key, &o) || o.type != MSGPACK_OBJECT_BOOLEAN) return false;
    *out = o.via.boolean;
    return true;
}

bool sp_record_get_f64(const struct sp_record *rec, const char *key, double *out) {
    msgpack_object o;
    if (!find_object(rec, key, &o)) return false;
    switch (o.type) {
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: *out = o.via.f64; return true;
    case MSGPACK_OBJECT_POSITIVE_INTEGER: *out = (double)o.via.u64; return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: *out = (double)o.via.i64; return true;
    default: return false;
    }
}

/* Strings and binaries are taken from the map itself. */
static bool get_bytes(const struct sp_record *rec, const char *key, enum sp_wire_type type,
                      const uint8_t **out, size_t *n) {
    struct sp_wire_field field;
    struct sp_wire_item item;
    if (!find_field(rec, key, &field)) return false;
    if (sp_wire_item(field.value, field.value_bytes, &item) != SP_WIRE_COMPLETE) return false;
    if (item.type != type) return false;
    *out = field.value + item.head;
    *n = item.body;
    return true;
}

bool sp_record_get_str(const struct sp_record *rec, const char *key, const char **out, size_t *n) {
    const uint8_t *bytes;
    if (!get_bytes(rec, key, SP_WIRE_STR, &bytes, n)) return false;
    *out = (const char *)bytes;
    return true;
}

bool sp_record_get_bin(const struct sp_record *rec, const char *key, const void **out, size_t *n) {
    const uint8_t *bytes;
    if (!get_bytes(rec, key, SP_WIRE_BIN, &bytes, n)) return false;
    *out = bytes;
    return true;
}

bool sp_record_get_raw(const struct sp_record *rec, const char *key, const void **out, size_t *n) {
    struct sp_wire_field field;
    if (!find_field(rec, key, &field)) return false;
    *out = field.value;
    *n = field.value_bytes;
    return true;
}

enum sp_code sp_record_copy_str(const struct sp_record *rec, const char *key, char *out,
                                size_t size, struct sp_error *err) {
    const char *s;
    size_t n;
    if (!sp_record_get_str(rec, key, &s, &n))
        return sp_error_set(err, SP_E_DATA, "a %s record has no string '%s'", rec->kind_name, key);
    if (n >= size || memchr(s, 0, n))
        return sp_error_set(err, SP_E_DATA,
                            "'%s' of a %s record is longer than %zu bytes or has a NUL in it", key,
                            rec->kind_name, size - 1);
    memcpy(out, s, n);
    out[n] = 0;
    return SP_OK;
}

/* Packs the map anew: every pair as it was, but for key, which gets the value (or is appended). */
static bool pack_with(msgpack_packer *pk, const struct sp_record *rec, const char *key,
                      const void *value, size_t n) {
    struct sp_wire_fields it;
    struct sp_wire_field field;
    size_t key_bytes = strlen(key);
    bool there = find_field(rec, key, &field), ok = true;
    if (!sp_wire_fields_start(&it, rec->map, rec->map_bytes)) return false;
    ok = msgpack_pack_map(pk, (size_t)it.left + (there ? 0 : 1)) == 0;
    while (ok && sp_wire_fields_next(&it, &field)) {
        bool same = field.key_bytes == key_bytes && memcmp(field.key, key, key_bytes) == 0;
        ok = msgpack_pack_str_with_body(pk, field.key, field.key_bytes) == 0 &&
             pk->callback(pk->data, same ? value : (const void *)field.value,
                          same ? n : field.value_bytes) == 0;
    }
    if (there || !ok) return ok;
    return msgpack_pack_str_with_body(pk, key, key_bytes) == 0 &&
           pk->callback(pk->data, value, n) == 0;
}

enum sp_code sp_record_set_raw(struct sp_record *rec, const char *key, const void *msgpack,
                               size_t n, struct sp_error *err) {
    if (!sp_wire_is_field_value(msgpack, n))
        return sp_error_set(err, SP_E_DATA,
                            "'%s' of a %s record is not one msgpack value of at most %zu bytes",
                            key, rec->kind_name, SP_WIRE_HEAD_MAX);
    msgpack_sbuffer buf;
    msgpack_packer pk;
    msgpack_sbuffer_init(&buf);
    msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
    enum sp_code code = SP_OK;
    if (!pack_with(&pk, rec, key, msgpack, n)) code = sp_error_memory(err, "a record's map");
    if (!code) code = sp_wire_check_map((const uint8_t *)buf.data, buf.size, err);
    if (!code && buf.size > SP_WIRE_HEAD_MAX)
        code = sp_error_set(err, SP_E_DATA, "the map of a %s record is over %zu bytes with '%s'",
                            rec->kind_name, SP_WIRE_HEAD_MAX, key);
    if (code) {
        msgpack_sbuffer_destroy(&buf);
        return code;
    }
    free(rec->map);
    rec->map_bytes = buf.size;
    rec->map = (uint8_t *)msgpack_sbuffer_release(&buf);
    return SP_OK;
}

/* Packs one value and sets it. */
#define SET_PACKED(...)                                                                            \
    msgpack_sbuffer buf;                                                                           \
    msgpack_packer pk;                                                                             \
    msgpack_sbuffer_init(&buf);                                                                    \
    msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);                                         \
    enum sp_code code = (__VA_ARGS__) ? sp_error_memory(err, "a record's map")                     \
                                      : sp_record_set_raw(rec, key, buf.data, buf.size, err);      \
    msgpack_sbuffer_destroy(&buf);                                                                 \
    return code

enum sp_code sp_record_set_u64(struct sp_record *rec, const char *key, uint64_t v,
                               struct sp_error *err) {
    SET_PACKED(msgpack_pack_uint64(&pk, v));
}

enum sp_code sp_record_set_bool(struct sp_record *rec, const char *key, bool v,
                                struct sp_error *err) {
    SET_PACKED(v ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk));
}

enum sp_code sp_record_set_f64(struct sp_record *rec, const char *key, double v,
                               struct sp_error *err) {
    SET_PACKED(msgpack_pack_double(&pk, v));
}

enum sp_code sp_record_set_str(struct sp_record *rec, const char *key, const char *v, size_t n,
                               struct sp_error *err) {
    SET_PACKED(msgpack_pack_str_with_body(&pk, v, n));
}

enum sp_code sp_record_set_bin(struct sp_record *rec, const char *key, const void *v, size_t n,
                               struct sp_error *err) {
    SET_PACKED(msgpack_pack_bin_with_body(&pk, v, n));
}
