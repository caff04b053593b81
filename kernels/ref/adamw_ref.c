/* AdamW, one element after another: arXiv 1711.05101, algorithm 2. */
#include "ref.h"

#include <math.h>

void sp_adamw_ref(const struct sp_adamw *a, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; i++) {
        float grad = a->grad[i] * a->grad_scale;
        float m = a->beta1 * a->m[i] + (1 - a->beta1) * grad;
        float v = a->beta2 * a->v[i] + (1 - a->beta2) * grad * grad;
        float step = (m / a->bias1) / (sqrtf(v / a->bias2) + a->eps);
        a->param[i] -= a->lr * (step + a->weight_decay * a->param[i]);
        a->m[i] = m;
        a->v[i] = v;
    }
}
