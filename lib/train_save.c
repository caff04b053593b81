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

static enum sp_code save(struct sp_train *run, float *value, float *trans,
                         struct sp_named_tensor *tensor, struct sp_error *err) {
    char name[SP_HEADS_MAX][SP_PARAM_NAME_MAX];
    size_t n = 0;
    SP_TRY(sp_optimiser_weights(&run->optimiser, value, err));
    for (int64_t i = 0; i < run->set->n; i++) {
        const struct sp_param *p = &run->set->item[i];
        tensor[n++] = (struct sp_named_tensor){p->name, view(value + p->offset, p->rank, p->dim)};
    }
    if (run->head && run->head->type == SP_HEAD_TAG)
        sp_bigrams_log(sp_feed_bigrams(run->feed), trans);
    n = add_transitions(run, tensor, n, name, trans);
    SP_TRY(sp_model_save(run->options.out, &run->config, tensor, n, err));
    SP_TRY(copy_file(run->source_dir, run->options.out, "tokenizer.json", err));
    return copy_file(run->source_dir, run->options.out, "vocab.txt", err);
}

enum sp_code sp_train_save(struct sp_train *run, struct sp_error *err) {
    size_t n_label = run->head ? run->head->n_label : 0;
    float *value = malloc((size_t)sp_param_set_size(run->set) * sizeof *value);
    float *trans = malloc(((n_label + 2) * n_label + 1) * sizeof *trans);
    struct sp_named_tensor *tensor = malloc(((size_t)run->set->n + SP_HEADS_MAX) * sizeof *tensor);
    enum sp_code code = value && trans && tensor
                            ? save(run, value, trans, tensor, err)
                            : sp_error_set(err, SP_E_DEVICE, "out of memory for saving");
    free(value);
    free(trans);
    free(tensor);
    return code;
}
