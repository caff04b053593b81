/* Models: a directory opened, its tensors found and their shapes checked. */
#include "model.h"

#include "io.h"
#include "json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FINGERPRINT_TENSOR_BYTES 4096 /* of each tensor */

struct sp_model {
    struct sp_config config;
    char dir[PATH_MAX];
    struct sp_hash fingerprint;
    struct sp_safetensors **shard; /* (n_shard) */
    size_t n_shard;
    const struct sp_safetensors_entry **entry; /* (n_entry), sorted by name */
    size_t n_entry;
};

static int by_name(const void *a, const void *b) {
    const struct sp_safetensors_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static const struct sp_safetensors_entry *find(const struct sp_model *m, const char *name) {
    struct sp_safetensors_entry key = {.name = name};
    const struct sp_safetensors_entry *p = &key, **hit;
    if (!m->n_entry) return NULL;
    hit = bsearch(&p, m->entry, m->n_entry, sizeof *m->entry, by_name);
    return hit ? *hit : NULL;
}

const struct sp_tensor *sp_model_tensor(const struct sp_model *m, const char *name) {
    const struct sp_safetensors_entry *e = find(m, name);
    return e && e->readable ? &e->tensor : NULL;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static enum sp_code open_shard(struct sp_model *m, const char *file, struct sp_error *err) {
    char path[PATH_MAX];
    enum sp_code code = sp_path_join(path, sizeof path, m->dir, file, err);
    if (code) return code;
    if (m->n_shard == SP_SHARDS_MAX)
        return sp_error_set(err, SP_E_DATA, "%s: more than %d files of weights", m->dir,
                            SP_SHARDS_MAX);
    struct sp_safetensors **grown = realloc(m->shard, (m->n_shard + 1) * sizeof *grown);
    if (!grown) return sp_error_set(err, SP_E_DEVICE, "out of memory opening %s", path);
    m->shard = grown;
    code = sp_safetensors_open(&m->shard[m->n_shard], path, err);
    if (!code) m->n_shard++;
    return code;
}

/* The distinct files of the index, in the order of their first mention. Names may not leave the
 * model's directory. */
static enum sp_code open_indexed(struct sp_model *m, const struct sp_json *j, const char *index,
                                 struct sp_error *err) {
    char(*seen)[NAME_MAX + 1] = calloc(SP_SHARDS_MAX, sizeof *seen);
    if (!seen) return sp_error_set(err, SP_E_DEVICE, "out of memory opening %s", index);
    sp_json_node map = sp_json_get(j, 0, "weight_map");
    enum sp_code code = SP_OK;
    for (sp_json_node v = sp_json_first(j, map); v >= 0 && !code; v = sp_json_next(j, v)) {
        size_t n_raw = 0, i = 0;
        char file[NAME_MAX + 1] = "";
        const char *raw = sp_json_raw(j, v, &n_raw);
        int64_t n = raw && n_raw < sizeof file ? sp_json_string(j, v, file) : -1;
        if (n > 0) file[n] = 0;
        if (n < 1 || file[0] == '.' || strchr(file, '/') || strlen(file) != (size_t)n) {
            code = sp_error_set(err, SP_E_DATA, "%s: a file name in \"weight_map\" is not allowed",
                                index);
            break;
        }
        while (i < m->n_shard && strcmp(seen[i], file) != 0) i++;
        if (i < m->n_shard) continue;
        code = open_shard(m, file, err);
        if (!code) memcpy(seen[m->n_shard - 1], file, sizeof file);
    }
    free(seen);
    if (!code && m->n_shard == 0)
        code = sp_error_set(err, SP_E_DATA, "%s: \"weight_map\" is missing or empty", index);
    return code;
}

static enum sp_code open_weights(struct sp_model *m, struct sp_error *err) {
    char path[PATH_MAX], index[PATH_MAX];
    enum sp_code code = sp_path_join(path, sizeof path, m->dir, "model.safetensors", err);
    if (!code)
        code = sp_path_join(index, sizeof index, m->dir, "model.safetensors.index.json", err);
    if (code) return code;
    if (access(path, F_OK) == 0) return open_shard(m, "model.safetensors", err);
    if (access(index, F_OK) != 0)
        return sp_error_set(err, SP_E_NOINPUT,
                            "%.300s has neither model.safetensors nor model.safetensors.index.json",
                            m->dir);
    char *text = NULL;
    size_t n = 0;
    code = sp_io_slurp(&text, &n, index, SP_SAFETENSORS_HEADER_MAX, err);
    if (code) return code;
    struct sp_json *j = NULL;
    code = sp_json_parse(&j, text, n, index, err);
    if (!code) code = open_indexed(m, j, index, err);
    sp_json_free(j);
    free(text);
    return code;
}

/* One table over all shards. A tensor that the index promises and no shard has shows when its shape
 * is checked. */
static enum sp_code index_tensors(struct sp_model *m, struct sp_error *err) {
    size_t n = 0;
    for (size_t s = 0; s < m->n_shard; s++) n += sp_safetensors_count(m->shard[s]);
    m->entry = malloc((n + 1) * sizeof *m->entry);
    if (!m->entry) return sp_error_set(err, SP_E_DEVICE, "out of memory opening %s", m->dir);
    for (size_t s = 0; s < m->n_shard; s++)
        for (size_t i = 0; i < sp_safetensors_count(m->shard[s]); i++)
            m->entry[m->n_entry++] = sp_safetensors_entry(m->shard[s], i);
    qsort(m->entry, m->n_entry, sizeof *m->entry, by_name);
    for (size_t i = 1; i < m->n_entry; i++)
        if (strcmp(m->entry[i - 1]->name, m->entry[i]->name) == 0)
            return sp_error_set(err, SP_E_DATA, "%s: tensor %.100s is in two files", m->dir,
                                m->entry[i]->name);
    return SP_OK;
}

/* ---- shapes -----------------------------------------------------------------------------------
 */

static void print_shape(char *out, size_t size, uint32_t rank, const uint64_t *dim) {
    size_t at = 0;
    for (uint32_t i = 0; i < rank && at < size; i++) {
        int k = snprintf(out + at, size - at, "%s%llu", i ? ", " : "", (unsigned long long)dim[i]);
        at += k > 0 ? (size_t)k : 0;
    }
}

static enum sp_code check_tensor(const struct sp_model *m, const char *name, uint32_t rank,
                                 const int64_t *want, bool optional, struct sp_error *err) {
    const struct sp_safetensors_entry *e = find(m, name);
    if (!e && optional) return SP_OK;
    if (!e)
        return sp_error_set(err, SP_E_DATA,
                            "%.250s: tensor %.100s is missing; config.json and weights do not "
                            "belong together, or a file is incomplete",
                            m->dir, name);
    if (!e->readable || e->tensor.dtype > SP_BF16)
        return sp_error_set(err, SP_E_DATA,
                            "%.250s: tensor %.100s is %s; only F32, F16 and BF16 weights can be "
                            "used",
                            m->dir, name, e->dtype_name);
    bool same = e->tensor.rank == rank;
    uint64_t dim[SP_TENSOR_RANK_MAX] = {0};
    for (uint32_t i = 0; i < rank; i++) {
        dim[i] = (uint64_t)want[i];
        same = same && e->tensor.dim[i] == dim[i];
    }
    if (same) return SP_OK;
    char is[80] = "", should[80] = "";
    print_shape(is, sizeof is, e->tensor.rank, e->tensor.dim);
    print_shape(should, sizeof should, rank, dim);
    return sp_error_set(err, SP_E_DATA,
                        "%.200s: tensor %.100s is of shape (%s), by config.json it should be (%s)",
                        m->dir, name, is, should);
}

static enum sp_code check_layer(const struct sp_model *m, int64_t layer, struct sp_error *err) {
    const struct sp_config *c = &m->config;
    const int64_t d = c->d_model, inner = c->d_inner;
    const struct {
        const char *name;
        uint32_t rank;
        int64_t dim[3];
        bool wanted;
    } tensors[] = {
        {"norm.weight", 1, {d}, true},
        {"mixer.in_proj.weight", 2, {2 * inner, d}, true},
        {"mixer.in_proj.bias", 1, {2 * inner}, c->use_bias},
        {"mixer.conv1d.weight", 3, {inner, 1, c->d_conv}, true},
        {"mixer.conv1d.bias", 1, {inner}, c->use_conv_bias},
        {"mixer.x_proj.weight", 2, {c->dt_rank + 2 * c->d_state, inner}, true},
        {"mixer.dt_proj.weight", 2, {inner, c->dt_rank}, true},
        {"mixer.dt_proj.bias", 1, {inner}, true},
        {"mixer.A_log", 2, {inner, c->d_state}, true},
        {"mixer.D", 1, {inner}, true},
        {"mixer.out_proj.weight", 2, {d, inner}, true},
        {"mixer.out_proj.bias", 1, {d}, c->use_bias},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        char name[SP_TENSOR_NAME_MAX];
        snprintf(name, sizeof name, "backbone.layers.%lld.%s", (long long)layer, tensors[i].name);
        if (!tensors[i].wanted) continue;
        enum sp_code code = check_tensor(m, name, tensors[i].rank, tensors[i].dim, false, err);
        if (code) return code;
    }
    return SP_OK;
}

/* A language model's head is the embedding or lm_head; other heads bring their own tensors, of
 * which bias and transitions may be absent. */
static enum sp_code check_head(const struct sp_model *m, const struct sp_head *h,
                               struct sp_error *err) {
    const struct sp_config *c = &m->config;
    if (h->type == SP_HEAD_LM) {
        const int64_t dim[] = {c->vocab_size, c->d_model};
        return c->tied ? SP_OK : check_tensor(m, "lm_head.weight", 2, dim, false, err);
    }
    const int64_t n = h->n_label, weight[] = {n, c->d_model}, bias[] = {n}, trans[] = {n + 2, n};
    char name[SP_TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "statepipe.%s.weight", h->name);
    enum sp_code code = check_tensor(m, name, 2, weight, false, err);
    snprintf(name, sizeof name, "statepipe.%s.bias", h->name);
    if (!code) code = check_tensor(m, name, 1, bias, true, err);
    snprintf(name, sizeof name, "statepipe.%s.trans", h->name);
    if (!code) code = check_tensor(m, name, 2, trans, true, err);
    return code;
}

static enum sp_code check_shapes(const struct sp_model *m, struct sp_error *err) {
    const struct sp_config *c = &m->config;
    const int64_t embedding[] = {c->vocab_size, c->d_model};
    enum sp_code code = check_tensor(m, "backbone.embeddings.weight", 2, embedding, false, err);
    if (!code) code = check_tensor(m, "backbone.norm_f.weight", 1, &c->d_model, false, err);
    for (int64_t i = 0; i < c->n_layer && !code; i++) code = check_layer(m, i, err);
    for (uint32_t i = 0; i < c->n_head && !code; i++) code = check_head(m, &c->head[i], err);
    return code;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static enum sp_code fingerprint(struct sp_model *m, const char *text, size_t n_text,
                                struct sp_error *err) {
    struct sp_hasher *h = sp_hasher_new();
    if (!h) return sp_error_set(err, SP_E_DEVICE, "out of memory opening %s", m->dir);
    sp_hasher_add(h, text, n_text);
    for (size_t s = 0; s < m->n_shard; s++) {
        size_t n = 0;
        const void *header = sp_safetensors_header(m->shard[s], &n);
        sp_hasher_add(h, header, n);
    }
    for (size_t i = 0; i < m->n_entry; i++) {
        const struct sp_tensor *t = &m->entry[i]->tensor;
        size_t n = t->n_bytes < FINGERPRINT_TENSOR_BYTES ? t->n_bytes : FINGERPRINT_TENSOR_BYTES;
        if (t->data) sp_hasher_add(h, t->data, n);
    }
    sp_hasher_end(h, &m->fingerprint);
    return SP_OK;
}

static enum sp_code open_into(struct sp_model *m, const char *dir, struct sp_error *err) {
    char given[PATH_MAX], path[PATH_MAX];
    enum sp_code code = SP_OK;
    if (!dir) {
        code = sp_model_default_dir(given, sizeof given, err);
        dir = given;
    }
    if (code) return code;
    /* Absolute, because HELLO carries it to programs that may run elsewhere. */
    if (!realpath(dir, m->dir))
        return sp_error_set(err, SP_E_NOINPUT, "no model directory %.300s (-m, $STATEPIPE_MODEL)",
                            dir);
    code = sp_path_join(path, sizeof path, m->dir, "config.json", err);
    if (code) return code;
    char *text = NULL;
    size_t n = 0;
    code = sp_io_slurp(&text, &n, path, SP_CONFIG_BYTES_MAX, err);
    if (!code) code = sp_config_parse(&m->config, text, n, path, err);
    if (!code) code = open_weights(m, err);
    if (!code) code = index_tensors(m, err);
    if (!code) code = check_shapes(m, err);
    if (!code) code = fingerprint(m, text, n, err);
    free(text);
    return code;
}

enum sp_code sp_model_open(struct sp_model **out, const char *dir, struct sp_error *err) {
    *out = NULL;
    struct sp_model *m = calloc(1, sizeof *m);
    if (!m) return sp_error_set(err, SP_E_DEVICE, "out of memory opening a model");
    enum sp_code code = open_into(m, dir, err);
    if (code) {
        sp_model_free(m);
        return code;
    }
    *out = m;
    return SP_OK;
}

void sp_model_free(struct sp_model *m) {
    if (!m) return;
    for (size_t s = 0; s < m->n_shard; s++) sp_safetensors_free(m->shard[s]);
    free(m->shard);
    free(m->entry);
    free(m);
}

const struct sp_config *sp_model_config(const struct sp_model *m) {
    return &m->config;
}

const char *sp_model_dir(const struct sp_model *m) {
    return m->dir;
}

const struct sp_hash *sp_model_fingerprint(const struct sp_model *m) {
    return &m->fingerprint;
}
