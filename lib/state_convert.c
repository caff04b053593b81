/* States in half types: what a file of bf16 or f16 will hold, and what that costs. */
#include "state_ops.h"

#include <math.h>
#include <string.h>

#define F16_MAX 65504.0

static float rounded(float x, enum sp_dtype dtype) {
    if (dtype == SP_BF16) return sp_f32_from_bf16(sp_bf16_from_f32(x));
    return sp_f32_from_f16(sp_f16_from_f32(x));
}

/* No finite number may become infinite: x of (layers, per_layer). */
static enum sp_code check_range(const struct sp_state *s, const char *what, const float *x,
                                size_t per_layer, enum sp_dtype dtype, struct sp_error *err) {
    size_t n = (s->layer_last - s->layer_first + 1) * per_layer;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]) && !isfinite(rounded(x[i], dtype)))
            return sp_error_set(err, SP_E_DATA, "layer %zu: %s holds %g, and %s goes to %g only%s",
                                s->layer_first + i / per_layer, what, (double)x[i],
                                sp_dtype_name(dtype), dtype == SP_F16 ? F16_MAX : 0x1.fep127,
                                dtype == SP_F16 ? ": use bf16" : "");
    return SP_OK;
}

static void round_part(float *x, size_t n, enum sp_dtype dtype, struct sp_state_loss *loss) {
    double lost = 0, all = 0;
    *loss = (struct sp_state_loss){0};
    for (size_t i = 0; i < n; i++) {
        double before = x[i];
        x[i] = rounded(x[i], dtype);
        if (before == 0 || !isfinite(before)) continue;
        double off = fabs(x[i] - before);
        loss->n++;
        loss->n_zero += x[i] == 0;
        loss->largest = fmax(loss->largest, off / fabs(before));
        lost += off * off;
        all += before * before;
    }
    loss->rms = all > 0 ? sqrt(lost / all) : 0;
}

enum sp_code sp_state_convert(struct sp_state *s, enum sp_dtype dtype, struct sp_state_loss *conv,
                              struct sp_state_loss *ssm, struct sp_error *err) {
    *conv = *ssm = (struct sp_state_loss){0};
    size_t layers = s->layer_last - s->layer_first + 1;
    size_t n_conv = sp_state_conv_size(s), n_ssm = sp_state_ssm_size(s);
    if (dtype != SP_F32) {
        enum sp_code code = check_range(s, "conv", s->conv, n_conv, dtype, err);
        if (!code) code = check_range(s, "ssm", s->ssm, n_ssm, dtype, err);
        if (code) return code;
        round_part(s->conv, layers * n_conv, dtype, conv);
        round_part(s->ssm, layers * n_ssm, dtype, ssm);
        if (s->origin == SP_ORIGIN_READ) s->origin = SP_ORIGIN_CONVERTED;
    }
    s->dtype = dtype;
    return SP_OK;
}
