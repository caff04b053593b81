/* Checksums of the records of a state segment: a flipped bit anywhere in one is found. */
#include "io.h"
#include "wire.h"

#include <string.h>

#define KEY "sum"

static void hash_tensors(const struct sp_record *rec, struct sp_hasher *h) {
    for (uint32_t i = 0; i < rec->n_tensor; i++) {
        uint8_t head[SP_WIRE_EXT_HEAD + SP_WIRE_TENSOR_HEAD_MAX];
        size_t head_bytes = sp_wire_tensor_store(&rec->tensor[i], head);
        sp_hasher_add(h, rec->name[i], strlen(rec->name[i]) + 1);
        sp_hasher_add(h, head + SP_WIRE_EXT_HEAD, head_bytes - SP_WIRE_EXT_HEAD);
        if (rec->tensor[i].n_bytes) sp_hasher_add(h, rec->tensor[i].data, rec->tensor[i].n_bytes);
    }
}

void sp_wire_hash(const struct sp_record *rec, struct sp_hasher *h) {
    sp_hasher_add(h, rec->kind_name, strlen(rec->kind_name) + 1);
    sp_hasher_add(h, rec->map, rec->map_bytes);
    hash_tensors(rec, h);
}

static enum sp_code sum_of(const struct sp_record *rec, struct sp_hash *sum, struct sp_error *err) {
    static const uint8_t zeros[sizeof sum->byte];
    const void *old;
    size_t n;
    if (!sp_record_get_bin(rec, KEY, &old, &n) || n != sizeof zeros)
        return sp_error_set(err, SP_E_DATA, "a %s record has no checksum", rec->kind_name);
    struct sp_hasher *h = sp_hasher_new();
    if (!h) return sp_error_memory(err, "a checksum");
    size_t before = (size_t)((const uint8_t *)old - rec->map);
    sp_hasher_add(h, rec->kind_name, strlen(rec->kind_name) + 1);
    sp_hasher_add(h, rec->map, before);
    sp_hasher_add(h, zeros, n);
    sp_hasher_add(h, rec->map + before + n, rec->map_bytes - before - n);
    hash_tensors(rec, h);
    sp_hasher_end(h, sum);
    return SP_OK;
}

enum sp_code sp_wire_seal(struct sp_record *rec, struct sp_error *err) {
    struct sp_hash sum = {{0}};
    enum sp_code code = sp_record_set_bin(rec, KEY, sum.byte, sizeof sum.byte, err);
    if (!code) code = sum_of(rec, &sum, err);
    if (!code) code = sp_record_set_bin(rec, KEY, sum.byte, sizeof sum.byte, err);
    return code;
}

enum sp_code sp_wire_check_seal(const struct sp_record *rec, struct sp_error *err) {
    struct sp_hash sum;
    const void *stored;
    size_t n;
    enum sp_code code = sum_of(rec, &sum, err);
    if (code) return code;
    sp_record_get_bin(rec, KEY, &stored, &n);
    if (memcmp(stored, sum.byte, n) == 0) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "the checksum of a %s record does not match: it is damaged",
                        rec->kind_name);
}
