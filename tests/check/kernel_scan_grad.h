/* The gradients of a selective scan: what finite differences of the double-precision oracle give,
 * and how two results are compared. */
#ifndef SP_CHECK_KERNEL_SCAN_GRAD_H
#define SP_CHECK_KERNEL_SCAN_GRAD_H

#include "kernel_scan.h"

/* The number whose gradient is sought: <dy, y> + <dstate_out, final state>. */
static inline double scan_loss(const struct scan_case *s) {
    static double y[256 * 8], h[8 * 16];
    double sum = 0;
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        for (int64_t i = 0; i < s->n_state; i++)
            h[i] = s->a.state_in ? (double)s->state_in[seq][i] : 0;
        scan_oracle(s, seq, y, h);
        for (int64_t i = 0; i < len * s->a.d_inner; i++)
            sum += y[i] * (double)s->dy[start * s->a.d_inner + i];
        for (int64_t i = 0; i < s->n_state; i++)
            sum += h[i] * (double)s->dstate_out[seq * s->n_state + i];
    }
    return sum;
}

/* Central difference, and again with half the step to cancel the error of second order. The step
 * is what the rounding to float leaves of it. */
static inline double scan_slope(const struct scan_case *s, float *at) {
    float value = *at;
    double d[2];
    for (int i = 0; i < 2; i++) {
        float high = value + (i ? 0.5e-2f : 1e-2f), low = value - (i ? 0.5e-2f : 1e-2f);
        *at = high;
        d[i] = scan_loss(s);
        *at = low;
        d[i] = (d[i] - scan_loss(s)) / ((double)high - (double)low);
    }
    *at = value;
    return (4 * d[1] - d[0]) / 3;
}

static inline double scan_slopes_error(const struct scan_case *s, const float *param,
                                       const float *grad, int64_t n) {
    if (!param) return 0;
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double want = scan_slope(s, (float *)(uintptr_t)(param + i)), d = want - (double)grad[i];
        diff += d * d;
        norm += want * want;
    }
    return diff == 0 ? 0 : sqrt(diff / (norm > 0 ? norm : 1e-300));
}

/* The worst of all gradients of a result. */
static inline double scan_worst_slopes_error(const struct scan_case *s,
                                             const struct scan_result *r) {
    int64_t wide = s->n_tok * s->a.ldy, narrow = s->n_tok * s->a.d_state;
    const double all[] = {scan_slopes_error(s, s->a.x, r->dx, wide),
                          scan_slopes_error(s, s->a.dt, r->ddt, wide),
                          scan_slopes_error(s, s->a.z, r->dz, wide),
                          scan_slopes_error(s, s->a.B, r->dB, narrow),
                          scan_slopes_error(s, s->a.C, r->dC, narrow),
                          scan_slopes_error(s, s->a.A, r->dA, s->n_state),
                          scan_slopes_error(s, s->a.D, r->dD, s->a.d_inner),
                          scan_slopes_error(s, s->a.dt_bias, r->dbias, s->a.d_inner)};
    double worst = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) worst = kernel_worst(worst, all[i]);
    if (!s->a.state_in) return worst;
    return kernel_worst(worst,
                        scan_slopes_error(s, s->state_in[0], r->dstate, s->a.n_seq * s->n_state));
}

/* The gradients of a result as one list, with their lengths. */
enum { SCAN_N_GRAD = 9 };
static inline void scan_list_grads(const struct scan_case *s, const struct scan_result *r,
                                   const float *grad[SCAN_N_GRAD], int64_t n[SCAN_N_GRAD]) {
    int64_t wide = s->n_tok * s->a.ldy, narrow = s->n_tok * s->a.d_state;
    const float *all[SCAN_N_GRAD] = {r->dx, r->ddt, r->dz,    r->dB,    r->dC,
                                     r->dA, r->dD,  r->dbias, r->dstate};
    const int64_t length[SCAN_N_GRAD] = {wide,         wide,         wide,
                                         narrow,       narrow,       s->n_state,
                                         s->a.d_inner, s->a.d_inner, s->a.n_seq * s->n_state};
    memcpy(grad, all, sizeof all);
    for (int i = 0; i < SCAN_N_GRAD; i++) n[i] = all[i] ? length[i] : 0;
}

static inline void scan_compare(const struct scan_case *s, const struct scan_result *a,
                                const struct scan_result *b, struct kernel_error e[SCAN_N_GRAD]) {
    const float *x[SCAN_N_GRAD], *y[SCAN_N_GRAD];
    int64_t n[SCAN_N_GRAD];
    scan_list_grads(s, a, x, n);
    scan_list_grads(s, b, y, n);
    for (int i = 0; i < SCAN_N_GRAD; i++) kernel_compare(&e[i], x[i], y[i], n[i]);
}

static inline bool scan_same_bits(const struct scan_case *s, const struct scan_result *a,
                                  const struct scan_result *b) {
    const float *x[SCAN_N_GRAD], *y[SCAN_N_GRAD];
    int64_t n[SCAN_N_GRAD];
    bool same = true;
    scan_list_grads(s, a, x, n);
    scan_list_grads(s, b, y, n);
    for (int i = 0; i < SCAN_N_GRAD; i++) same = same && kernel_same_bits(x[i], y[i], n[i]);
    return same;
}

#endif
