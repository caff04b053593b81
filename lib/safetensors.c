/* Reading safetensors. */
#include "safetensors.h"

#include "io.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

struct sp_safetensors {
    struct sp_map map; /* empty when the bytes are the caller's */
    const char *header;
    size_t n_header;
    const uint8_t *data; /* behind the header */
    size_t n_data;
    char *names; /* arena of all names; they are shorter than the header that spells them */
    size_t n_names;
    struct sp_safetensors_entry *entry; /* (n) */
    size_t n;
};

static const struct {
    const char *name;
    size_t size; /* of an element, in bytes */
    int dtype;   /* -1: struct sp_tensor has no such type; tolerated while nobody asks for it */
} dtypes[] = {
    {"F32", 4, SP_F32}, {"F16", 2, SP_F16}, {"BF16", 2, SP_BF16}, {"I8", 1, SP_I8},
    {"U8", 1, SP_U8},   {"I32", 4, SP_I32}, {"U32", 4, SP_U32},   {"I64", 8, SP_I64},
    {"U64", 8, SP_U64}, {"F64", 8, -1},     {"I16", 2, -1},       {"U16", 2, -1},
    {"BOOL", 1, -1},    {"F8_E4M3", 1, -1}, {"F8_E5M2", 1, -1},
};
#define N_DTYPE (sizeof dtypes / sizeof dtypes[0])

static enum sp_code bad(const char *name, const char *tensor, const char *what,
                        struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA, "%s: tensor %.100s: %s; the file is damaged or incomplete",
                        name, tensor, what);
}

/* The next name, unescaped into the arena. */
static enum sp_code read_name(struct sp_safetensors *st, const struct sp_json *j, sp_json_node key,
                              const char *file, const char **out, struct sp_error *err) {
    size_t n_raw = 0;
    sp_json_raw(j, key, &n_raw);
    char *name = st->names + st->n_names;
    int64_t n = n_raw < SP_TENSOR_NAME_MAX ? sp_json_string(j, key, name) : -1;
    if (n <= 0 || memchr(name, 0, (size_t)n))
        return sp_error_set(err, SP_E_DATA, "%s: a tensor has a name that is empty or too long",
                            file);
    name[n] = 0;
    st->n_names += (size_t)n + 1;
    *out = name;
    return SP_OK;
}

static enum sp_code read_dtype(struct sp_safetensors_entry *e, const struct sp_json *j,
                               sp_json_node node, size_t *element, const char *file,
                               struct sp_error *err) {
    for (size_t i = 0; i < N_DTYPE; i++) {
        if (!sp_json_equal(j, node, dtypes[i].name)) continue;
        snprintf(e->dtype_name, sizeof e->dtype_name, "%s", dtypes[i].name);
        e->readable = dtypes[i].dtype >= 0;
        e->tensor.dtype = e->readable ? (enum sp_dtype)dtypes[i].dtype : SP_U8;
        *element = dtypes[i].size;
        return SP_OK;
    }
    return bad(file, e->name, "its dtype is not known", err);
}

static enum sp_code read_shape(struct sp_safetensors_entry *e, const struct sp_json *j,
                               sp_json_node node, size_t element, size_t *n_bytes, const char *file,
                               struct sp_error *err) {
    if (sp_json_type(j, node) != SP_JSON_ARRAY || sp_json_count(j, node) > SP_TENSOR_RANK_MAX)
        return bad(file, e->name, "its shape is not a list of at most 8 sizes", err);
    size_t total = element;
    for (sp_json_node v = sp_json_first(j, node); v >= 0; v = sp_json_next(j, v)) {
        int64_t dim = sp_json_int(j, v, -1);
        if (dim < 0 || __builtin_mul_overflow(total, (size_t)dim, &total))
            return bad(file, e->name, "its shape is negative or too large", err);
        e->tensor.dim[e->tensor.rank++] = (uint64_t)dim;
    }
    *n_bytes = total;
    return SP_OK;
}

static enum sp_code read_entry(struct sp_safetensors *st, const struct sp_json *j,
                               sp_json_node value, const char *file, struct sp_error *err) {
    struct sp_safetensors_entry *e = &st->entry[st->n];
    *e = (struct sp_safetensors_entry){0};
    enum sp_code code = read_name(st, j, sp_json_key(j, value), file, &e->name, err);
    size_t element = 0, n_bytes = 0;
    if (!code) code = read_dtype(e, j, sp_json_get(j, value, "dtype"), &element, file, err);
    if (!code)
        code = read_shape(e, j, sp_json_get(j, value, "shape"), element, &n_bytes, file, err);
    if (code) return code;
    sp_json_node offsets = sp_json_get(j, value, "data_offsets");
    sp_json_node first = sp_json_first(j, offsets), second = sp_json_next(j, first);
    int64_t begin = sp_json_int(j, first, -1), end = sp_json_int(j, second, -1);
    if (sp_json_type(j, offsets) != SP_JSON_ARRAY || sp_json_count(j, offsets) != 2 || begin < 0 ||
        end < begin || (uint64_t)end > st->n_data)
        return bad(file, e->name, "its data lie outside of the file", err);
    if ((uint64_t)(end - begin) != n_bytes)
        return bad(file, e->name, "its data are not of the size that its shape says", err);
    e->begin = (uint64_t)begin;
    e->end = (uint64_t)end;
    e->tensor.n_bytes = n_bytes;
    if (e->readable) e->tensor.data = (void *)(uintptr_t)(st->data + begin);
    st->n++;
    return SP_OK;
}

static int by_offset(const void *a, const void *b) {
    const struct sp_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty tensors come before a full one */
}

static int by_name(const void *a, const void *b) {
    const struct sp_safetensors_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Data covered once, to the last byte; names different; entries sorted by name. */
static enum sp_code check_table(struct sp_safetensors *st, const char *file, struct sp_error *err) {
    if (st->n) qsort(st->entry, st->n, sizeof *st->entry, by_offset);
    uint64_t at = 0;
    for (size_t i = 0; i < st->n; i++) {
        if (st->entry[i].begin != at)
            return bad(file, st->entry[i].name, "a gap or an overlap lies before its data", err);
        at = st->entry[i].end;
    }
    if (at != st->n_data)
        return sp_error_set(err, SP_E_DATA,
                            "%s: %llu bytes follow the last tensor; the file is damaged", file,
                            (unsigned long long)(st->n_data - at));
    if (st->n) qsort(st->entry, st->n, sizeof *st->entry, by_name);
    for (size_t i = 1; i < st->n; i++)
        if (strcmp(st->entry[i - 1].name, st->entry[i].name) == 0)
            return bad(file, st->entry[i].name, "it is there twice", err);
    return SP_OK;
}

/* Old writers did not pad the header: floats then lie at odd addresses and have to be copied. */
static enum sp_code align_tensors(struct sp_safetensors *st, const char *file,
                                  struct sp_error *err) {
    for (size_t i = 0; i < st->n; i++) {
        struct sp_tensor *t = &st->entry[i].tensor;
        if (!t->data || (uintptr_t)t->data % sp_dtype_size(t->dtype) == 0) continue;
        void *copy = aligned_alloc(64, (t->n_bytes + 64) & ~(size_t)63);
        if (!copy) return sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", file);
        memcpy(copy, t->data, t->n_bytes);
        t->data = copy;
        t->owned = true;
    }
    return SP_OK;
}

static enum sp_code read_header(struct sp_safetensors *st, const char *file, struct sp_error *err) {
    struct sp_json *j = NULL;
    enum sp_code code = sp_json_parse(&j, st->header, st->n_header, file, err);
    if (code) return code;
    size_t n = sp_json_count(j, 0);
    if (sp_json_type(j, 0) != SP_JSON_OBJECT || n > SP_SAFETENSORS_TENSORS_MAX) {
        sp_json_free(j);
        return sp_error_set(err, SP_E_DATA,
                            "%s: not a safetensors file (its header is no table of at most %d "
                            "tensors)",
                            file, SP_SAFETENSORS_TENSORS_MAX);
    }
    st->entry = calloc(n + 1, sizeof *st->entry);
    st->names = malloc(st->n_header + 1);
    if (!st->entry || !st->names)
        code = sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", file);
    for (sp_json_node v = sp_json_first(j, 0); v >= 0 && !code; v = sp_json_next(j, v))
        if (!sp_json_equal(j, sp_json_key(j, v), "__metadata__"))
            code = read_entry(st, j, v, file, err);
    sp_json_free(j);
    return code;
}

static enum sp_code parse_into(struct sp_safetensors *st, const uint8_t *data, size_t n,
                               const char *file, struct sp_error *err) {
    uint64_t n_header = 0;
    for (size_t i = 0; i < 8 && n >= 8; i++) n_header |= (uint64_t)data[i] << (8 * i);
    if (n < 10 || n_header < 2 || n_header > n - 8)
        return sp_error_set(err, SP_E_DATA,
                            "%s: not a safetensors file, or cut off within its header", file);
    if (n_header > SP_SAFETENSORS_HEADER_MAX)
        return sp_error_set(err, SP_E_DATA, "%s: its header has more than %zu bytes", file,
                            SP_SAFETENSORS_HEADER_MAX);
    st->header = (const char *)data + 8;
    st->n_header = (size_t)n_header;
    st->data = data + 8 + st->n_header;
    st->n_data = n - 8 - st->n_header;
    enum sp_code code = read_header(st, file, err);
    if (!code) code = check_table(st, file, err);
    if (!code) code = align_tensors(st, file, err);
    return code;
}

enum sp_code sp_safetensors_parse(struct sp_safetensors **out, const void *data, size_t n,
                                  const char *name, struct sp_error *err) {
    *out = NULL;
    struct sp_safetensors *st = calloc(1, sizeof *st);
    if (!st) return sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", name);
    enum sp_code code = parse_into(st, data, n, name, err);
    if (code) {
        sp_safetensors_free(st);
        return code;
    }
    *out = st;
    return SP_OK;
}

enum sp_code sp_safetensors_open(struct sp_safetensors **out, const char *path,
                                 struct sp_error *err) {
    *out = NULL;
    struct sp_map map;
    enum sp_code code = sp_map_open(&map, path, err);
    if (code) return code;
    code = sp_safetensors_parse(out, map.data, map.n, path, err);
    if (code)
        sp_map_close(&map);
    else
        (*out)->map = map;
    return code;
}

void sp_safetensors_free(struct sp_safetensors *st) {
    if (!st) return;
    for (size_t i = 0; i < st->n; i++)
        if (st->entry[i].tensor.owned) free(st->entry[i].tensor.data);
    free(st->entry);
    free(st->names);
    sp_map_close(&st->map);
    free(st);
}

size_t sp_safetensors_count(const struct sp_safetensors *st) {
    return st->n;
}

const struct sp_safetensors_entry *sp_safetensors_entry(const struct sp_safetensors *st, size_t i) {
    return &st->entry[i];
}

const struct sp_safetensors_entry *sp_safetensors_find(const struct sp_safetensors *st,
                                                       const char *name) {
    if (!st->n) return NULL;
    struct sp_safetensors_entry key = {.name = name};
    return bsearch(&key, st->entry, st->n, sizeof *st->entry, by_name);
}

const void *sp_safetensors_header(const struct sp_safetensors *st, size_t *n) {
    *n = st->n_header;
    return st->header;
}

bool sp_safetensors_metadata(const struct sp_safetensors *st, const char *key, char *out,
                             size_t size) {
    struct sp_error ignored; /* it was parsed before */
    struct sp_json *j;
    if (sp_json_parse(&j, st->header, st->n_header, "", &ignored)) return false;
    sp_json_node value = sp_json_get(j, sp_json_get(j, 0, "__metadata__"), key);
    size_t n_raw = 0;
    const char *raw = sp_json_raw(j, value, &n_raw);
    bool ok = raw && n_raw < size;
    if (ok) {
        size_t n = (size_t)sp_json_string(j, value, out);
        out[n] = 0;
        ok = !memchr(out, 0, n);
    }
    sp_json_free(j);
    return ok;
}
