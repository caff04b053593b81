/* Random norms, their formula in double precision, and the gradients that finite differences of it
 * give. */
#ifndef SP_CHECK_KERNEL_NORM_H
#define SP_CHECK_KERNEL_NORM_H

#include "kernel.h"

struct norm_case {
    struct sp_rmsnorm a; /* x is copied for each run */
    int64_t n_row;
    const float *dy, *dx; /* dx: what is there before */
};
struct norm_result {
    float *x, *y, *rstd, *dx, *dw;
};

static inline void norm_make(struct norm_case *s, int i, int64_t d) {
    *s = (struct norm_case){.n_row = check_random_int(1, 6)};
    s->a.d = d;
    s->a.ldx = s->a.ldy = s->a.ldr = d + check_random_int(0, 3);
    int64_t n = s->n_row * s->a.ldx;
    s->a.x = kernel_random(n, -3, 3);
    s->a.residual = i % 2 ? kernel_random(n, -3, 3) : NULL;
    s->a.w = i % 4 / 2 ? kernel_random(d, -2, 2) : NULL;
    s->a.eps = i % 5 ? 1e-5f : 0.5f;
    s->dy = kernel_random(n, -1, 1);
    s->dx = kernel_random(n, -1, 1);
}

/* <dy, y> of the row whose sum with its residual is x, in double; y may be NULL. */
static inline double norm_row(const struct norm_case *s, const double *x, const double *w,
                              int64_t row, double *y) {
    double squares = 0, sum = 0;
    for (int64_t i = 0; i < s->a.d; i++) squares += x[i] * x[i];
    double scale = 1 / sqrt(squares / (double)s->a.d + (double)s->a.eps);
    for (int64_t i = 0; i < s->a.d; i++) {
        double value = x[i] * scale * w[i];
        sum += value * (double)s->dy[row * s->a.ldx + i];
        if (y) y[i] = value;
    }
    return sum;
}

/* Distance of y, dx and dw from the oracle and its central differences. */
static inline double norm_distance(const struct norm_case *s, const struct norm_result *r) {
    int64_t d = s->a.d;
    double x[1024], w[1024], y[1024], dw[1024] = {0}, diff[3] = {0},
                                      norm[3] = {1e-300, 1e-300, 1e-300};
    for (int64_t i = 0; i < d; i++) w[i] = s->a.w ? (double)s->a.w[i] : 1;
    for (int64_t row = 0; row < s->n_row; row++) {
        int64_t at = row * s->a.ldx;
        for (int64_t i = 0; i < d; i++) {
            float sum = s->a.residual ? s->a.x[at + i] + s->a.residual[at + i] : s->a.x[at + i];
            x[i] = (double)sum;
        }
        norm_row(s, x, w, row, y);
        for (int64_t i = 0; i < d; i++) {
            double slope[2], *side[2] = {&x[i], &w[i]};
            for (int j = 0; j < 2; j++) {
                double keep = *side[j];
                *side[j] = keep + 1e-5;
                slope[j] = norm_row(s, x, w, row, NULL);
                *side[j] = keep - 1e-5;
                slope[j] = (slope[j] - norm_row(s, x, w, row, NULL)) / 2e-5;
                *side[j] = keep;
            }
            double dx = slope[0] + (double)s->dx[at + i];
            diff[0] += pow(y[i] - (double)r->y[at + i], 2);
            norm[0] += y[i] * y[i];
            diff[1] += pow(dx - (double)r->dx[at + i], 2);
            norm[1] += dx * dx;
            dw[i] += slope[1];
        }
    }
    for (int64_t i = 0; s->a.w && i < d; i++) {
        diff[2] += pow(dw[i] - (double)r->dw[i], 2);
        norm[2] += dw[i] * dw[i];
    }
    double worst = 0;
    for (int i = 0; i < 3; i++) worst = fmax(worst, sqrt(diff[i] / norm[i]));
    return worst;
}

#endif
