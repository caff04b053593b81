/* Tensors of a model as the networks want them: checked, converted, on the device. Internal to
 * net*.c. Owns nothing: what is loaded is the caller's to release.
 */
#ifndef SP_NET_WEIGHTS_H
#define SP_NET_WEIGHTS_H

#include "net.h"

/* "backbone.layers.LAYER.SUFFIX", or SUFFIX alone for layer -1. The tensor is there, of the shape
 * (dim[i] 0: any), of a float type and finite, or SP_E_DATA names it. With optional and no such
 * tensor *out is NULL. */
enum sp_code sp_weights_find(const struct sp_model *m, int64_t layer, const char *suffix,
                             uint32_t rank, const int64_t *dim, bool optional,
                             const struct sp_tensor **out, struct sp_error *err);
/* A tensor's values as f32 on the host: malloc'ed. */
enum sp_code sp_weights_host(const struct sp_tensor *t, float **out, struct sp_error *err);
/* And on the device. */
enum sp_code sp_weights_device(struct sp_backend *be, const struct sp_tensor *t, float **out,
                               struct sp_error *err);
/* True when no value is NaN or infinite. */
bool sp_weights_finite(const void *data, enum sp_dtype dtype, size_t n);

/* Grows *dev (device memory of *have bytes) to n_bytes; what was in it is lost. */
enum sp_code sp_weights_room(struct sp_backend *be, float **dev, size_t *have, size_t n_bytes,
                             struct sp_error *err);

#endif
