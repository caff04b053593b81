/* Softmax and cross-entropy of a row, and its gradient. */
#include "ref.h"

#include <math.h>
#include <string.h>

static float xent_row(float *logits, int64_t n_class, int32_t target, float scale) {
    /* The largest logit is taken out first, so that exp cannot overflow. */
    float top = -INFINITY;
    for (int64_t i = 0; i < n_class; i++) top = fmaxf(top, logits[i]);
    float shifted = logits[target] - top;
    double sum = 0;
    for (int64_t i = 0; i < n_class; i++) {
        logits[i] = expf(logits[i] - top);
        sum += (double)logits[i];
    }
    float factor = (float)(1 / sum) * scale;
    for (int64_t i = 0; i < n_class; i++) logits[i] *= factor;
    logits[target] -= scale;
    return (float)(log(sum) - (double)shifted);
}

void sp_xent_ref(const struct sp_xent *a, int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        float *logits = a->logits + r * a->ldl;
        if (a->target[r] < 0) {
            memset(logits, 0, (size_t)a->n_class * sizeof *logits);
            a->loss[r] = 0;
        } else {
            a->loss[r] = xent_row(logits, a->n_class, a->target[r], a->scale);
        }
    }
}
