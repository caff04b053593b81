/* Products with few rows, summed in double precision. */
#include "ref.h"

#include <string.h>

static void store(float *y, double sum, const float *bias, int add) {
    if (add) {
        *y += (float)sum;
    } else {
        *y = (float)(sum + (bias ? (double)*bias : 0.0));
    }
}

static float from_bf16(uint16_t half) {
    uint32_t u = (uint32_t)half << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

void sp_matvec_f32_ref(const float *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                       int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                       int64_t o1, int add) {
    for (int64_t o = o0; o < o1; o++) {
        for (int64_t r = 0; r < n_row; r++) {
            double sum = 0;
            for (int64_t k = 0; k < d_in; k++) sum += (double)x[r * ldx + k] * w[o * ldw + k];
            store(&y[r * ldy + o], sum, bias ? &bias[o] : NULL, add);
        }
    }
}

void sp_matvec_bf16_ref(const uint16_t *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                        int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                        int64_t o1, int add) {
    for (int64_t o = o0; o < o1; o++) {
        for (int64_t r = 0; r < n_row; r++) {
            double sum = 0;
            for (int64_t k = 0; k < d_in; k++)
                sum += (double)x[r * ldx + k] * from_bf16(w[o * ldw + k]);
            store(&y[r * ldy + o], sum, bias ? &bias[o] : NULL, add);
        }
    }
}
