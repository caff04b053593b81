/* Element-wise helpers: exp, rounding to bf16, sums of squares. */
#include "ref.h"

#include <math.h>
#include <string.h>

/* Error bound: libm's, below 1 ULP. */
void sp_vexp_ref(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

void sp_to_bf16_ref(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        if ((u & 0x7fffffffu) > 0x7f800000u) {
            u |= 0x00400000u; /* a NaN stays one, whatever its low bits: made quiet, not rounded */
        } else {
            u += 0x7fffu + ((u >> 16) & 1u);
        }
        y[i] = (uint16_t)(u >> 16);
    }
}

double sp_sum_squares_ref(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}
