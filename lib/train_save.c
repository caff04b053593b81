/* The model directory that a run writes: config.json, model.safetensors, tokenizer.json. */
#include "train_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "model.h"

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)

static enum sp_code copy_file(const char *from_dir, const char *to_dir, const char *name,
                              struct sp_error *err) {
    char from[4096], to[4096];
    struct stat a, b;
    SP_TRY(sp_path_join(from, sizeof from, from_dir, name, err));
    SP_TRY(sp_path_join(to, sizeof to, to_dir, name, err));
    if (stat(from, &a) != 0) return SP_OK;
    if (stat(to, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino) return SP_OK;
    char *text;
    size_t n;
    struct sp_atomic_file file;
    SP_TRY(sp_io_slurp(&text, &n, from, TOKENIZER_BYTES_MAX, err));
    enum sp_code code = sp_atomic_open(&file, to, err);
    if (!code) {
        fwrite(text, 1, n, file.file); /* an error shows when it is closed */
        code = ferror(file.file) ? sp_error_set(err, SP_E_IO, "cannot write %s", to)
                                 : sp_atomic_commit(&file, true, err);
        sp_atomic_abort(&file);
    }
    free(text);
    return code;
}

static struct sp_tensor view(float *data, uint32_t rank, const uint64_t *dim) {
    struct sp_tensor t = {.dtype = SP_F32, .rank = rank, .data = data, .n_bytes = sizeof *data};
    for (uint32_t i = 0; i < rank; i++) {
        t.dim[i] = dim[i];
        t.n_bytes *= dim[i];
    }
    return t;
}

/* Scores already know what was read before; counts in full would say the same twice, and find too
 * little. */
#define TRANSITION_WEIGHT 0.25f

static void weigh_transitions(const struct sp_train *run, float *trans) {
    const size_t n = run->head->n_label;
    sp_bigrams_log(sp_feed_bigrams(run->feed), trans);
    for (size_t i = 0; i < (n + 2) * n; i++) trans[i] *= TRANSITION_WEIGHT;
}

/* Transitions of the tag heads: counted for the one that was trained, carried over for others. */
static size_t add_transitions(const struct sp_train *run, struct sp_named_tensor *tensor, size_t n,
                              char (*name)[SP_PARAM_NAME_MAX], float *trans) {
    for (uint32_t i = 0; i < run->config.n_head; i++) {
        const struct sp_head *h = &run->config.head[i];
        if (h->type != SP_HEAD_TAG) continue;
        snprintf(name[i], sizeof name[i], "statepipe.%s.trans", h->name);
        const struct sp_tensor *old = run->init ? sp_model_tensor(run->init, name[i]) : NULL;
        uint64_t dim[2] = {h->n_label + 2, h->n_label};
        if (h == run->head)
            tensor[n++] = (struct sp_named_tensor){name[i], view(trans, 2, dim)};
        else if (old)
            tensor[n++] = (struct sp_named_tensor){name[i], *old};
    }
    return n;
}

/* What a saved model is put together from; owned by sp_train_save. */
struct parts {
    float *value;   /* (size of the set) */
    uint16_t *half; /* the same elements rounded to bf16, or NULL: saved in f32 */
    float *trans;
    struct sp_named_tensor *tensor;
};

/* Matrices are what is large, and what products round anyway; vectors, and A that goes into an
 * exponential, stay as they are. */
static struct sp_tensor saved_view(const struct parts *parts, const struct sp_param *p) {
    struct sp_tensor t = view(parts->value + p->offset, p->rank, p->dim);
    if (!parts->half || p->rank < 2 || p->part == SP_PARAM_A_LOG) return t;
    uint16_t *half = parts->half + p->offset;
    for (int64_t i = 0; i < p->n; i++) half[i] = sp_bf16_from_f32(parts->value[p->offset + i]);
    t.dtype = SP_BF16;
    t.data = half;
    t.n_bytes = (size_t)p->n * sizeof *half;
    return t;
}

static enum sp_code save(struct sp_train *run, const struct parts *parts, struct sp_error *err) {
    struct sp_named_tensor *tensor = parts->tensor;
    char name[SP_HEADS_MAX][SP_PARAM_NAME_MAX];
    size_t n = 0;
    SP_TRY(sp_optimiser_weights(&run->optimiser, parts->value, err));
    for (int64_t i = 0; i < run->set->n; i++) {
        const struct sp_param *p = &run->set->item[i];
        tensor[n++] = (struct sp_named_tensor){p->name, saved_view(parts, p)};
    }
    if (run->head && run->head->type == SP_HEAD_TAG) weigh_transitions(run, parts->trans);
    n = add_transitions(run, tensor, n, name, parts->trans);
    SP_TRY(sp_model_save(run->options.out, &run->config, tensor, n, err));
    SP_TRY(copy_file(run->source_dir, run->options.out, "tokenizer.json", err));
    return copy_file(run->source_dir, run->options.out, "vocab.txt", err);
}

enum sp_code sp_train_save(struct sp_train *run, struct sp_error *err) {
    size_t n_label = run->head ? run->head->n_label : 0;
    size_t size = (size_t)sp_param_set_size(run->set);
    bool rounded = run->options.save == SP_BF16;
    struct parts parts = {.value = malloc(size * sizeof *parts.value),
                          .half = rounded ? malloc(size * sizeof *parts.half) : NULL,
                          .trans = malloc(((n_label + 2) * n_label + 1) * sizeof *parts.trans),
                          .tensor =
                              malloc(((size_t)run->set->n + SP_HEADS_MAX) * sizeof *parts.tensor)};
    bool ok = parts.value && (parts.half || !rounded) && parts.trans && parts.tensor;
    enum sp_code code = ok ? save(run, &parts, err) : sp_error_memory(err, "saving");
    free(parts.value);
    free(parts.half);
    free(parts.trans);
    free(parts.tensor);
    return code;
}
