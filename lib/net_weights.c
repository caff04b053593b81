/* Finding, checking and converting a model's tensors. */
#include "net_weights.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 256

/* Exponents of all ones are NaN and infinity. Eight sums apart, so that the loop is as fast as
 * memory. */
static bool finite_words(const uint32_t *x, size_t n) {
    uint32_t bad[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) bad[k] |= (x[i + k] & 0x7f800000u) == 0x7f800000u;
    for (; i < n; i++) bad[0] |= (x[i] & 0x7f800000u) == 0x7f800000u;
    return !(bad[0] | bad[1] | bad[2] | bad[3] | bad[4] | bad[5] | bad[6] | bad[7]);
}

static bool finite_halves(const uint16_t *x, size_t n, uint16_t exponent) {
    uint16_t bad[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) bad[k] |= (x[i + k] & exponent) == exponent;
    for (; i < n; i++) bad[0] |= (x[i] & exponent) == exponent;
    for (size_t k = 0; k < 16; k++)
        if (bad[k]) return false;
    return true;
}

bool sp_weights_finite(const void *data, enum sp_dtype dtype, size_t n) {
    if (dtype == SP_F32) return finite_words(data, n);
    return finite_halves(data, n, dtype == SP_BF16 ? 0x7f80 : 0x7c00);
}

static bool same_shape(const struct sp_tensor *t, uint32_t rank, const int64_t *dim) {
    if (t->rank != rank) return false;
    for (uint32_t i = 0; i < rank; i++)
        if (dim[i] && t->dim[i] != (uint64_t)dim[i]) return false;
    return true;
}

enum sp_code sp_weights_find(const struct sp_model *m, int64_t layer, const char *suffix,
                             uint32_t rank, const int64_t *dim, bool optional,
                             const struct sp_tensor **out, struct sp_error *err) {
    char name[NAME_BYTES];
    if (layer >= 0)
        snprintf(name, sizeof name, "backbone.layers.%lld.%s", (long long)layer, suffix);
    else
        snprintf(name, sizeof name, "%s", suffix);
    const struct sp_tensor *t = sp_model_tensor(m, name);
    *out = t;
    if (!t && optional) return SP_OK;
    const char *dir = sp_model_dir(m);
    if (!t) return sp_error_set(err, SP_E_DATA, "%.300s: tensor %s is missing", dir, name);
    if (t->dtype != SP_F32 && t->dtype != SP_F16 && t->dtype != SP_BF16)
        return sp_error_set(err, SP_E_DATA, "%.300s: tensor %s is of type %s, not f32, f16 or bf16",
                            dir, name, sp_dtype_name(t->dtype));
    if (!same_shape(t, rank, dim))
        return sp_error_set(err, SP_E_DATA,
                            "%.300s: tensor %s has not the shape that config.json "
                            "asks for",
                            dir, name);
    if (!sp_weights_finite(t->data, t->dtype, t->n_bytes / sp_dtype_size(t->dtype)))
        return sp_error_set(err, SP_E_DATA,
                            "%.300s: tensor %s holds NaN or infinity: the model is damaged, or its "
                            "training diverged",
                            dir, name);
    return SP_OK;
}

enum sp_code sp_weights_host(const struct sp_tensor *t, float **out, struct sp_error *err) {
    size_t n = t->n_bytes / sp_dtype_size(t->dtype);
    *out = malloc((n ? n : 1) * sizeof(float));
    if (!*out) return sp_error_set(err, SP_E_DEVICE, "out of memory: %zu weights", n);
    sp_tensor_to_f32(*out, t->data, t->dtype, n);
    return SP_OK;
}

enum sp_code sp_weights_device(struct sp_backend *be, const struct sp_tensor *t, float **out,
                               struct sp_error *err) {
    size_t n_bytes = t->n_bytes / sp_dtype_size(t->dtype) * sizeof(float);
    float *host = NULL;
    void *dev = NULL;
    enum sp_code code = sp_weights_host(t, &host, err);
    if (!code) code = be->alloc(be, n_bytes, &dev, err);
    if (!code) code = be->upload(be, dev, host, n_bytes, err);
    if (!code) code = be->sync(be, err);
    free(host);
    if (code) be->release(be, dev);
    *out = code ? NULL : dev;
    return code;
}

enum sp_code sp_weights_room(struct sp_backend *be, float **dev, size_t *have, size_t n_bytes,
                             struct sp_error *err) {
    if (*have >= n_bytes) return SP_OK;
    be->release(be, *dev);
    *dev = NULL;
    *have = 0;
    void *grown = NULL;
    enum sp_code code = be->alloc(be, n_bytes, &grown, err);
    if (code) return code;
    *dev = grown;
    *have = n_bytes;
    return SP_OK;
}
