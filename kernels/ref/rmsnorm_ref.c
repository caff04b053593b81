/* RMSNorm and its gradient, row by row: arXiv 1910.07467, equation 4. */
#include "ref.h"

#include <math.h>

static float row_rstd(const float *x, int64_t d, float eps) {
    return (float)(1 / sqrt(sp_sum_squares_ref(x, d) / (double)d + (double)eps));
}

void sp_rmsnorm_fwd_ref(const struct sp_rmsnorm *a, int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        float *x = a->x + r * a->ldx, *y = a->y + r * a->ldy;
        if (a->residual) {
            const float *residual = a->residual + r * a->ldr;
            for (int64_t i = 0; i < a->d; i++) x[i] += residual[i];
        }
        float rstd = row_rstd(x, a->d, a->eps);
        for (int64_t i = 0; i < a->d; i++) y[i] = x[i] * rstd * (a->w ? a->w[i] : 1);
        if (a->rstd) a->rstd[r] = rstd;
    }
}

/* With u = dy * w: dx = rstd * (u - x * rstd^2 * mean(u * x)), dw = dy * x * rstd. */
void sp_rmsnorm_bwd_ref(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g, int64_t r0,
                        int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        const float *x = a->x + r * a->ldx, *dy = g->dy + r * g->lddy;
        float *dx = g->dx + r * g->lddx, rstd = a->rstd[r];
        double dot = 0;
        for (int64_t i = 0; i < a->d; i++)
            dot += (double)dy[i] * (double)(a->w ? a->w[i] : 1) * x[i];
        float pull = (float)(dot / (double)a->d) * rstd * rstd;
        for (int64_t i = 0; i < a->d; i++) {
            float u = dy[i] * (a->w ? a->w[i] : 1);
            dx[i] += rstd * (u - x[i] * pull);
            if (g->dw) g->dw[i] += dy[i] * x[i] * rstd;
        }
    }
}
