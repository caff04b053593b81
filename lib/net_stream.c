/* The tensors of a stream, for the filters that open a model. */
#include "net_stream.h"
#include "net_weights.h"

enum sp_code sp_stream_hidden(struct sp_record *chunk, int64_t d_model, struct sp_tensor **out,
                              struct sp_error *err) {
    struct sp_tensor *t = sp_record_tensor(chunk, "hidden");
    *out = t;
    if (!t) return sp_error_set(err, SP_E_DATA, "a CHUNK without `hidden`: is embed missing?");
    if (t->rank != 2 || t->dim[1] != (uint64_t)d_model ||
        (t->dtype != SP_F32 && t->dtype != SP_BF16))
        return sp_error_set(err, SP_E_DATA,
                            "`hidden` is %s with %llu columns, the model has %lld: was it made "
                            "with another model?",
                            sp_dtype_name(t->dtype),
                            (unsigned long long)(t->rank == 2 ? t->dim[1] : 0), (long long)d_model);
    size_t n = t->n_bytes / sp_dtype_size(t->dtype);
    if (!sp_weights_finite(t->data, t->dtype, n))
        return sp_error_set(err, SP_E_DATA, "`hidden` holds NaN or infinity");
    if (t->dtype == SP_F32) return SP_OK;
    struct sp_tensor f32;
    enum sp_code code = sp_tensor_new(&f32, SP_F32, 2, t->dim, err);
    if (code) return code;
    sp_tensor_to_f32(f32.data, t->data, t->dtype, n);
    code = sp_record_put_tensor(chunk, "hidden", &f32, err);
    *out = sp_record_tensor(chunk, "hidden");
    return code;
}

enum sp_code sp_stream_to_bf16(struct sp_record *rec, const char *name, struct sp_error *err) {
    struct sp_tensor *t = sp_record_tensor(rec, name), half;
    enum sp_code code = sp_tensor_new(&half, SP_BF16, t->rank, t->dim, err);
    if (code) return code;
    const float *from = t->data;
    uint16_t *to = half.data;
    for (size_t i = 0; i < t->n_bytes / sizeof(float); i++) to[i] = sp_bf16_from_f32(from[i]);
    return sp_record_put_tensor(rec, name, &half, err);
}
