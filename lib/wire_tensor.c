/* Tensors of a record: by name, and their bytes in the stream. */
#include "wire.h"

#include <stdio.h>
#include <string.h>

struct sp_tensor *sp_record_tensor(struct sp_record *rec, const char *name) {
    for (uint32_t i = 0; i < rec->n_tensor; i++)
        if (strcmp(rec->name[i], name) == 0) return &rec->tensor[i];
    return NULL;
}

enum sp_code sp_record_put_tensor(struct sp_record *rec, const char *name, struct sp_tensor *t,
                                  struct sp_error *err) {
    struct sp_tensor *slot = sp_record_tensor(rec, name);
    if (slot) {
        sp_tensor_clear(slot);
    } else {
        if (rec->n_tensor == SP_RECORD_TENSORS_MAX || strlen(name) >= SP_NAME_MAX || !name[0])
            return sp_error_set(err, SP_E_BUG, "a record cannot hold the tensor '%.40s'", name);
        snprintf(rec->name[rec->n_tensor], SP_NAME_MAX, "%s", name);
        slot = &rec->tensor[rec->n_tensor++];
    }
    *slot = *t;
    *t = (struct sp_tensor){0};
    return SP_OK;
}

void sp_record_drop_tensor(struct sp_record *rec, const char *name) {
    struct sp_tensor *t = sp_record_tensor(rec, name);
    if (!t) return;
    size_t at = (size_t)(t - rec->tensor), after = rec->n_tensor - at - 1;
    sp_tensor_clear(t);
    memmove(t, t + 1, after * sizeof *t);
    memmove(rec->name[at], rec->name[at + 1], after * SP_NAME_MAX);
    rec->n_tensor--;
}

enum sp_code sp_record_need_tensor(struct sp_record *rec, const char *name, enum sp_dtype dtype,
                                   uint32_t rank, const uint64_t *dim, struct sp_tensor **out,
                                   struct sp_error *err) {
    struct sp_tensor *t = sp_record_tensor(rec, name);
    if (!t)
        return sp_error_set(err, SP_E_DATA, "a %s record has no tensor '%s'", rec->kind_name, name);
    if (t->dtype != dtype || t->rank != rank)
        return sp_error_set(
            err, SP_E_DATA, "the tensor '%s' of a %s record is %s of %u dimensions, not %s of %u",
            name, rec->kind_name, sp_dtype_name(t->dtype), t->rank, sp_dtype_name(dtype), rank);
    for (uint32_t i = 0; i < rank; i++)
        if (dim[i] && dim[i] != t->dim[i])
            return sp_error_set(
                err, SP_E_DATA, "dimension %u of the tensor '%s' of a %s record is %llu, not %llu",
                i, name, rec->kind_name, (unsigned long long)t->dim[i], (unsigned long long)dim[i]);
    *out = t;
    return SP_OK;
}

size_t sp_wire_padded(size_t n_bytes) {
    return (n_bytes + 7) / 8 * 8;
}

static uint64_t little_endian(const uint8_t *p) {
    uint64_t v = 0;
    for (size_t i = 8; i-- > 0;) v = v << 8 | p[i];
    return v;
}

enum sp_code sp_wire_tensor_head(struct sp_tensor *t, const uint8_t *p, size_t n, uint32_t body,
                                 size_t *head, struct sp_error *err) {
    *t = (struct sp_tensor){.owned = true};
    if (n < 8 || body < 8) return sp_error_set(err, SP_E_DATA, "has no room for a tensor's header");
    if (p[0] != SP_WIRE_TENSOR_VERSION)
        return sp_error_set(err, SP_E_DATA,
                            "is of tensor version %u; this program knows version %d", p[0],
                            SP_WIRE_TENSOR_VERSION);
    if (p[1] >= SP_DTYPE_COUNT)
        return sp_error_set(err, SP_E_DATA, "has the unknown element type %u", p[1]);
    if (p[2] > SP_TENSOR_RANK_MAX)
        return sp_error_set(err, SP_E_DATA, "has %u dimensions, more than %d", p[2],
                            SP_TENSOR_RANK_MAX);
    if (p[3] | p[4] | p[5] | p[6] | p[7])
        return sp_error_set(err, SP_E_DATA, "has flags that this program does not know");
    t->dtype = (enum sp_dtype)p[1];
    t->rank = p[2];
    *head = 8 + 8 * (size_t)t->rank;
    if (n < *head || body < *head)
        return sp_error_set(err, SP_E_DATA, "has no room for its %u dimensions", t->rank);
    for (uint32_t i = 0; i < t->rank; i++) t->dim[i] = little_endian(p + 8 + 8 * i);
    if (!sp_tensor_bytes(t->dtype, t->rank, t->dim, &t->n_bytes) ||
        t->n_bytes > SP_TENSOR_BYTES_MAX)
        return sp_error_set(err, SP_E_DATA, "has dimensions of more than %zu bytes",
                            SP_TENSOR_BYTES_MAX);
    if (sp_wire_padded(t->n_bytes) != body - *head)
        return sp_error_set(err, SP_E_DATA, "has %zu bytes where its dimensions ask for %zu",
                            body - *head, sp_wire_padded(t->n_bytes));
    return SP_OK;
}

size_t sp_wire_tensor_store(const struct sp_tensor *t, uint8_t *out) {
    size_t body = 8 + 8 * (size_t)t->rank + sp_wire_padded(t->n_bytes);
    out[0] = 0xc9;
    for (size_t i = 0; i < 4; i++) out[1 + i] = (uint8_t)(body >> (24 - 8 * i));
    out[5] = SP_WIRE_EXT_TYPE;
    uint8_t *p = out + SP_WIRE_EXT_HEAD;
    memset(p, 0, 8);
    p[0] = SP_WIRE_TENSOR_VERSION;
    p[1] = (uint8_t)t->dtype;
    p[2] = (uint8_t)t->rank;
    p += 8;
    for (uint32_t i = 0; i < t->rank; i++)
        for (size_t b = 0; b < 8; b++) *p++ = (uint8_t)(t->dim[i] >> (8 * b));
    return (size_t)(p - out);
}
