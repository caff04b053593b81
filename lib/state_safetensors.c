/* States to safetensors and back. */
#include "state_safetensors.h"

#include "io.h"
#include "safetensors.h"
#include "state_common.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT "statepipe state 1"
#define VALUE_MAX 40
#define DIM_MAX ((uint64_t)1 << 20) /* products of three stay below 2^64 */
#define PIPE_BYTES_MAX ((size_t)1 << 30)

/* ---- metadata ------------------------------------------------------------------------------- */

/* In the order in which they are written; FORMAT is the first, the checksum the last. */
enum key {
    FORMAT_KEY,
    MODEL,
    TOKENIZER,
    PREFIX,
    ORIGIN,
    DTYPE,
    N_TOK,
    N_LAYER,
    LAYER_FIRST,
    LAYER_LAST,
    D_MODEL,
    D_INNER,
    D_STATE,
    D_CONV,
    LAST_ID,
    SUM,
    KEYS
};
static const char *const keys[KEYS] = {[FORMAT_KEY] = "statepipe",
                                       [MODEL] = "model",
                                       [TOKENIZER] = "tokenizer",
                                       [PREFIX] = "prefix",
                                       [ORIGIN] = "origin",
                                       [DTYPE] = "dtype",
                                       [N_TOK] = "n_tok",
                                       [N_LAYER] = "n_layer",
                                       [LAYER_FIRST] = "layer_first",
                                       [LAYER_LAST] = "layer_last",
                                       [D_MODEL] = "d_model",
                                       [D_INNER] = "d_inner",
                                       [D_STATE] = "d_state",
                                       [D_CONV] = "d_conv",
                                       [LAST_ID] = "last_id",
                                       [SUM] = "sum"};

struct values {
    char of[KEYS][VALUE_MAX];
};

static void put_number(struct values *v, enum key key, uint64_t number) {
    snprintf(v->of[key], VALUE_MAX, "%" PRIu64, number);
}

static struct values values_of(const struct sp_state *s) {
    struct values v;
    snprintf(v.of[FORMAT_KEY], VALUE_MAX, FORMAT);
    sp_hash_hex(&s->model, v.of[MODEL]);
    sp_hash_hex(&s->tokenizer, v.of[TOKENIZER]);
    sp_hash_hex(&s->prefix, v.of[PREFIX]);
    snprintf(v.of[ORIGIN], VALUE_MAX, "%s", sp_origin_name(s->origin));
    snprintf(v.of[DTYPE], VALUE_MAX, "%s", sp_dtype_name(s->dtype));
    put_number(&v, N_TOK, s->n_tok);
    put_number(&v, N_LAYER, s->n_layer);
    put_number(&v, LAYER_FIRST, s->layer_first);
    put_number(&v, LAYER_LAST, s->layer_last);
    put_number(&v, D_MODEL, (uint64_t)s->d_model);
    put_number(&v, D_INNER, (uint64_t)s->d_inner);
    put_number(&v, D_STATE, (uint64_t)s->d_state);
    put_number(&v, D_CONV, (uint64_t)s->d_conv);
    if (s->has_last)
        put_number(&v, LAST_ID, s->last_id);
    else
        snprintf(v.of[LAST_ID], VALUE_MAX, "none");
    v.of[SUM][0] = 0;
    return v;
}

/* XXH3-128 of all values but the sum, each with its NUL, and of all numbers in memory. */
static enum sp_code sum_up(struct values *v, const struct sp_state *s, struct sp_error *err) {
    struct sp_hash sum;
    struct sp_hasher *h = sp_hasher_new();
    if (!h) return sp_error_memory(err, "a checksum");
    size_t layers = s->layer_last - s->layer_first + 1;
    for (size_t i = 0; i < SUM; i++) sp_hasher_add(h, v->of[i], strlen(v->of[i]) + 1);
    sp_hasher_add(h, s->conv, layers * sp_state_conv_size(s) * sizeof(float));
    sp_hasher_add(h, s->ssm, layers * sp_state_ssm_size(s) * sizeof(float));
    if (s->has_last) sp_hasher_add(h, s->last_hidden, (size_t)s->d_model * sizeof(float));
    sp_hasher_end(h, &sum);
    sp_hash_hex(&sum, v->of[SUM]);
    return SP_OK;
}

static enum sp_code bad(const char *path, enum key key, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA, "%s: the metadata's '%s' is missing or wrong", path,
                        keys[key]);
}

static bool get_number(const struct values *v, enum key key, uint64_t most, uint64_t *out) {
    const char *text = v->of[key];
    size_t n = strlen(text);
    if (n == 0 || n > 20 || strspn(text, "0123456789") != n || (n > 1 && text[0] == '0'))
        return false;
    uint64_t x = 0;
    for (; *text; text++)
        if (__builtin_mul_overflow(x, 10u, &x) ||
            __builtin_add_overflow(x, (uint64_t)(*text - '0'), &x))
            return false;
    *out = x;
    return x <= most;
}

static bool get_hash(const struct values *v, enum key key, struct sp_hash *out) {
    const char *text = v->of[key];
    if (strlen(text) != 2 * sizeof out->byte || strspn(text, "0123456789abcdef") != strlen(text))
        return false;
    for (size_t i = 0; i < sizeof out->byte; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        out->byte[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

static bool get_dtype(const struct values *v, enum sp_dtype *out) {
    static const enum sp_dtype known[] = {SP_F32, SP_BF16, SP_F16};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(v->of[DTYPE], sp_dtype_name(known[i])) == 0) return *out = known[i], true;
    return false;
}

/* Everything of a state but its numbers. */
static enum sp_code read_values(const struct values *v, struct sp_state *s, const char *path,
                                struct sp_error *err) {
    const struct {
        enum key key;
        struct sp_hash *to;
    } hashes[] = {{MODEL, &s->model}, {TOKENIZER, &s->tokenizer}, {PREFIX, &s->prefix}};
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++)
        if (!get_hash(v, hashes[i].key, hashes[i].to)) return bad(path, hashes[i].key, err);
    if (!sp_origin_find(v->of[ORIGIN], &s->origin)) return bad(path, ORIGIN, err);
    if (!get_dtype(v, &s->dtype)) return bad(path, DTYPE, err);
    uint64_t number[KEYS] = {0};
    for (enum key key = N_TOK; key <= LAST_ID; key++) {
        bool none = key == LAST_ID && strcmp(v->of[key], "none") == 0;
        uint64_t most = key == N_TOK ? UINT64_MAX : key == LAST_ID ? UINT32_MAX : DIM_MAX;
        if (!none && !get_number(v, key, most, &number[key])) return bad(path, key, err);
        if (key == LAST_ID) s->has_last = !none;
    }
    s->n_tok = number[N_TOK];
    s->n_layer = (uint32_t)number[N_LAYER];
    s->layer_first = (uint32_t)number[LAYER_FIRST];
    s->layer_last = (uint32_t)number[LAYER_LAST];
    s->d_model = (int64_t)number[D_MODEL];
    s->d_inner = (int64_t)number[D_INNER];
    s->d_state = (int64_t)number[D_STATE];
    s->d_conv = (int64_t)number[D_CONV];
    s->last_id = (uint32_t)number[LAST_ID];
    return SP_OK;
}

/* ---- export --------------------------------------------------------------------------------- */

enum { NAME_BYTES = 32 };

/* All tensors of a file, with names and half-type copies. */
struct tensors {
    struct sp_named_tensor *list; /* (n) */
    char (*name)[NAME_BYTES];
    void *half; /* one block for all copies, or NULL */
    size_t n, n_half;
};

static void tensors_clear(struct tensors *t) {
    free(t->list);
    free(t->name);
    free(t->half);
}

static void add(struct tensors *t, enum sp_dtype dtype, const float *x, uint32_t rank,
                uint64_t rows, uint64_t columns) {
    struct sp_tensor tensor = {.dtype = dtype, .rank = rank, .dim = {rows, columns}};
    size_t n = (size_t)(rank == 2 ? rows * columns : rows);
    tensor.n_bytes = n * sp_dtype_size(dtype);
    tensor.data = (void *)(uintptr_t)x;
    if (dtype != SP_F32) {
        tensor.data = (uint16_t *)t->half + t->n_half;
        sp_tensor_from_f32(tensor.data, x, dtype, n);
        t->n_half += n;
    }
    t->list[t->n] = (struct sp_named_tensor){.name = t->name[t->n], .tensor = tensor};
    t->n++;
}

static enum sp_code collect(struct tensors *t, const struct sp_state *s, struct sp_error *err) {
    size_t layers = s->layer_last - s->layer_first + 1;
    size_t conv = sp_state_conv_size(s), ssm = sp_state_ssm_size(s);
    *t = (struct tensors){0};
    t->list = calloc(2 * layers + 1, sizeof *t->list);
    t->name = calloc(2 * layers + 1, sizeof *t->name);
    if (s->dtype != SP_F32) t->half = calloc(layers * (conv + ssm), sizeof(uint16_t));
    if (!t->list || !t->name || (s->dtype != SP_F32 && !t->half))
        return sp_error_memory(err, "a table of tensors");
    for (size_t i = 0; i < layers; i++) {
        snprintf(t->name[t->n], NAME_BYTES, "layers.%zu.conv", s->layer_first + i);
        add(t, s->dtype, s->conv + i * conv, 2, (uint64_t)s->d_conv - 1, (uint64_t)s->d_inner);
        snprintf(t->name[t->n], NAME_BYTES, "layers.%zu.ssm", s->layer_first + i);
        add(t, s->dtype, s->ssm + i * ssm, 2, (uint64_t)s->d_inner, (uint64_t)s->d_state);
    }
    if (s->has_last) {
        snprintf(t->name[t->n], NAME_BYTES, "last.hidden");
        add(t, SP_F32, s->last_hidden, 1, (uint64_t)s->d_model, 0);
    }
    return SP_OK;
}

enum sp_code sp_state_export(const struct sp_state *s, FILE *file, struct sp_error *err) {
    struct values v = values_of(s);
    struct sp_metadata meta[KEYS];
    for (size_t i = 0; i < KEYS; i++)
        meta[i] = (struct sp_metadata){.key = keys[i], .value = v.of[i]};
    enum sp_code code = sum_up(&v, s, err);
    if (code) return code;
    struct tensors t;
    code = collect(&t, s, err);
    if (!code) code = sp_safetensors_write_with(file, meta, KEYS, t.list, t.n, err);
    tensors_clear(&t);
    return code;
}

/* ---- import --------------------------------------------------------------------------------- */

/* One tensor into place; SP_E_DATA when it is not there, or of another type or shape. */
static enum sp_code take(const struct sp_safetensors *st, const char *name, enum sp_dtype dtype,
                         const struct sp_tensor *shape, float *to, const char *path,
                         struct sp_error *err) {
    const struct sp_safetensors_entry *e = sp_safetensors_find(st, name);
    if (!e) return sp_error_set(err, SP_E_DATA, "%s: there is no tensor %s", path, name);
    const struct sp_tensor *t = &e->tensor;
    bool ok = e->readable && t->dtype == dtype && t->rank == shape->rank;
    for (uint32_t i = 0; i < shape->rank; i++) ok = ok && t->dim[i] == shape->dim[i];
    if (!ok)
        return sp_error_set(err, SP_E_DATA,
                            "%s: the tensor %s is not of the type and shape that the metadata say",
                            path, name);
    sp_tensor_to_f32(to, t->data, dtype, t->n_bytes / sp_dtype_size(dtype));
    return SP_OK;
}

static enum sp_code take_all(const struct sp_safetensors *st, struct sp_state *s, const char *path,
                             struct sp_error *err) {
    size_t layers = s->layer_last - s->layer_first + 1;
    const struct sp_tensor conv = {.rank = 2,
                                   .dim = {(uint64_t)s->d_conv - 1, (uint64_t)s->d_inner}},
                           ssm = {.rank = 2, .dim = {(uint64_t)s->d_inner, (uint64_t)s->d_state}},
                           last = {.rank = 1, .dim = {(uint64_t)s->d_model}};
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < layers && !code; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "layers.%zu.conv", s->layer_first + i);
        code = take(st, name, s->dtype, &conv, s->conv + i * sp_state_conv_size(s), path, err);
        snprintf(name, sizeof name, "layers.%zu.ssm", s->layer_first + i);
        if (!code)
            code = take(st, name, s->dtype, &ssm, s->ssm + i * sp_state_ssm_size(s), path, err);
    }
    if (!code && s->has_last)
        code = take(st, "last.hidden", SP_F32, &last, s->last_hidden, path, err);
    if (!code && sp_safetensors_count(st) != 2 * layers + s->has_last)
        code = sp_error_set(err, SP_E_DATA, "%s: there are %zu tensors, not %zu", path,
                            sp_safetensors_count(st), 2 * layers + s->has_last);
    return code;
}

/* As many bytes of tensors as a state of this shape has, before memory for it is taken. */
static enum sp_code check_size(const struct sp_safetensors *st, const struct sp_state *shape,
                               const char *path, struct sp_error *err) {
    uint64_t have = 0, want = 0;
    for (size_t i = 0; i < sp_safetensors_count(st); i++)
        have += sp_safetensors_entry(st, i)->tensor.n_bytes;
    if (shape->layer_last >= shape->layer_first && shape->d_conv > 0)
        want = (shape->layer_last - shape->layer_first + 1) *
                   (sp_state_conv_size(shape) + sp_state_ssm_size(shape)) *
                   sp_dtype_size(shape->dtype) +
               (shape->has_last ? (uint64_t)shape->d_model * sizeof(float) : 0);
    if (want > 0 && have == want) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "%s: the tensors have %" PRIu64 " bytes, a state as the metadata say has "
                        "%" PRIu64,
                        path, have, want);
}

/* The numbers, and whether they are those that were exported. */
static enum sp_code fill(const struct sp_safetensors *st, struct values *v, struct sp_state *s,
                         bool edited, const char *path, struct sp_error *err) {
    char stored[VALUE_MAX] = "";
    enum sp_code code = take_all(st, s, path, err);
    sp_safetensors_metadata(st, keys[SUM], stored, sizeof stored);
    if (!code) code = sum_up(v, s, err);
    if (code || strcmp(stored, v->of[SUM]) == 0) return code;
    if (!edited)
        return sp_error_set(err, SP_E_DATA,
                            "%s: it is not as it was exported: damaged, or edited since; --edited "
                            "takes it all the same, as a state of origin tuned",
                            path);
    s->origin = SP_ORIGIN_TUNED;
    return SP_OK;
}

static enum sp_code import(const struct sp_safetensors *st, struct sp_state **out, bool edited,
                           const char *path, struct sp_error *err) {
    struct values v = {0};
    struct sp_state shape = {0};
    for (enum key key = FORMAT_KEY; key < SUM; key++) {
        bool there = sp_safetensors_metadata(st, keys[key], v.of[key], VALUE_MAX);
        if (key == FORMAT_KEY && (!there || strcmp(v.of[key], FORMAT) != 0))
            return sp_error_set(err, SP_E_DATA,
                                "%s: no state in safetensors: __metadata__ does not say \"%s\": "
                                "\"%s\"",
                                path, keys[key], FORMAT);
        if (!there) return bad(path, key, err);
    }
    enum sp_code code = read_values(&v, &shape, path, err);
    if (!code) code = check_size(st, &shape, path, err);
    if (!code && sp_state_alloc(out, &shape, err)) code = sp_error_prefix(err, "%s", path);
    if (code) return code;
    sp_state_copy_names(*out, &shape);
    (*out)->has_last = shape.has_last;
    (*out)->last_id = shape.last_id;
    return fill(st, &v, *out, edited, path, err);
}

/* What cannot be mapped is read into *bytes, which the caller frees behind st. */
static enum sp_code open_tensors(struct sp_safetensors **st, char **bytes, const char *path,
                                 const char *name, struct sp_error *err) {
    struct stat info;
    size_t n;
    bool mapped = strcmp(path, "-") != 0 && (stat(path, &info) != 0 || S_ISREG(info.st_mode));
    if (mapped) return sp_safetensors_open(st, path, err);
    enum sp_code code = sp_io_slurp(bytes, &n, path, PIPE_BYTES_MAX, err);
    return code ? code : sp_safetensors_parse(st, *bytes, n, name, err);
}

enum sp_code sp_state_import(struct sp_state **out, const char *path, bool edited,
                             struct sp_error *err) {
    const char *name = sp_io_shown(path);
    struct sp_safetensors *st = NULL;
    char *bytes = NULL;
    *out = NULL;
    enum sp_code code = open_tensors(&st, &bytes, path, name, err);
    if (!code) code = import(st, out, edited, name, err);
    sp_safetensors_free(st);
    free(bytes);
    if (code) {
        sp_state_free(*out);
        *out = NULL;
    }
    return code;
}
