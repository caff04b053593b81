/* Writing a model directory. */
#include "model.h"

#include "io.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* Opens dir/name under its temporary name. */
static enum sp_code create(struct sp_atomic_file *f, const char *dir, const char *name,
                           struct sp_error *err) {
    char path[PATH_MAX];
    enum sp_code code = sp_path_join(path, sizeof path, dir, name, err);
    return code ? code : sp_atomic_open(f, path, err);
}

/* The type that most of the elements have. */
static enum sp_dtype main_dtype(const struct sp_named_tensor *tensor, size_t n) {
    uint64_t count[SP_DTYPE_COUNT] = {0};
    enum sp_dtype most = SP_F32;
    for (size_t i = 0; i < n; i++) {
        enum sp_dtype dtype = tensor[i].tensor.dtype;
        count[dtype] += tensor[i].tensor.n_bytes / sp_dtype_size(dtype);
    }
    for (int i = 0; i < SP_DTYPE_COUNT; i++)
        if (count[i] > count[most]) most = (enum sp_dtype)i;
    return most;
}

enum sp_code sp_model_save(const char *dir, const struct sp_config *c,
                           const struct sp_named_tensor *tensor, size_t n, struct sp_error *err) {
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return sp_error_set(err, SP_E_IO, "cannot make %.300s: %s", dir, strerror(errno));
    struct sp_atomic_file weights = {0}, config = {0};
    enum sp_code code = create(&weights, dir, "model.safetensors", err);
    if (!code) code = sp_safetensors_write(weights.file, tensor, n, err);
    if (!code) code = create(&config, dir, "config.json", err);
    if (!code) code = sp_config_write(config.file, c, main_dtype(tensor, n), err);
    /* Renamed one after the other once both are complete: a crash in between leaves two files that
     * the shape check of opening compares. */
    if (!code) code = sp_atomic_commit(&weights, true, err);
    if (!code) code = sp_atomic_commit(&config, true, err);
    sp_atomic_abort(&weights);
    sp_atomic_abort(&config);
    return code;
}
