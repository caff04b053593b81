/* What man 5 statepipe-stream promises of each kind of record, so that no filter has to ask. */
#include "wire.h"

#include <string.h>

/* CHUNK's tensors: a first dimension that all of them share, and these types. */
static const struct {
    const char *name;
    uint32_t rank;
    uint64_t columns; /* of rank 2; 0: any */
    enum sp_dtype dtype, other;
} chunk_tensors[] = {
    {"ids", 1, 0, SP_U32, SP_U32},     {"span", 2, 2, SP_U64, SP_U64},
    {"hidden", 2, 0, SP_F32, SP_BF16}, {"scores", 2, 0, SP_F32, SP_F32},
    {"labels", 1, 0, SP_I32, SP_I32},
};

static enum sp_code check_chunk(struct sp_record *rec, struct sp_error *err) {
    uint64_t rows = 0;
    bool have_rows = false;
    for (size_t i = 0; i < sizeof chunk_tensors / sizeof *chunk_tensors; i++) {
        const struct sp_tensor *t = sp_record_tensor(rec, chunk_tensors[i].name);
        if (!t) continue;
        uint64_t columns = chunk_tensors[i].columns;
        if ((t->dtype != chunk_tensors[i].dtype && t->dtype != chunk_tensors[i].other) ||
            t->rank != chunk_tensors[i].rank || (columns && t->dim[1] != columns))
            return sp_error_set(err, SP_E_DATA,
                                "the tensor '%s' of a CHUNK is of a wrong type or shape",
                                chunk_tensors[i].name);
        if (have_rows && t->dim[0] != rows)
            return sp_error_set(
                err, SP_E_DATA, "the tensor '%s' of a CHUNK has %llu rows, the others %llu",
                chunk_tensors[i].name, (unsigned long long)t->dim[0], (unsigned long long)rows);
        rows = t->dim[0];
        have_rows = true;
    }
    return SP_OK;
}

static enum sp_code check_text(struct sp_record *rec, struct sp_error *err) {
    const struct sp_tensor *t = sp_record_tensor(rec, "text");
    if (!t || t->dtype != SP_U8 || t->rank != 1 || t->n_bytes > SP_WIRE_TEXT_MAX)
        return sp_error_set(err, SP_E_DATA, "a TEXT record has no tensor 'text' of at most %zu u8",
                            SP_WIRE_TEXT_MAX);
    return SP_OK;
}

/* Keys that must be there, as unsigned integers. */
static const struct {
    enum sp_kind kind;
    const char *key;
} required[] = {
    {SP_KIND_DOC, "doc"},   {SP_KIND_TEXT, "doc"},  {SP_KIND_TEXT, "off"},
    {SP_KIND_CHUNK, "doc"}, {SP_KIND_CHUNK, "pos"}, {SP_KIND_DOCEND, "doc"},
    {SP_KIND_ERR, "exit"},  {SP_KIND_END, "docs"},  {SP_KIND_END, "errors"},
};

enum sp_code sp_wire_check_record(struct sp_record *rec, struct sp_error *err) {
    uint64_t ignored;
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        if (required[i].kind == rec->kind && !sp_record_get_u64(rec, required[i].key, &ignored))
            return sp_error_set(err, SP_E_DATA, "a %s record has no number '%s'", rec->kind_name,
                                required[i].key);
    const char *id;
    size_t n;
    if (rec->kind == SP_KIND_DOC && !sp_record_get_str(rec, "id", &id, &n))
        return sp_error_set(err, SP_E_DATA, "a DOC record has no string 'id'");
    if (rec->kind == SP_KIND_CHUNK) return check_chunk(rec, err);
    if (rec->kind == SP_KIND_TEXT) return check_text(rec, err);
    return SP_OK;
}
