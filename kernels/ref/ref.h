/* The plain C path: fp32 data, one loop nest per formula. It is the oracle that every other path is
 * checked against, so its long sums run in double and its exp, log1p and sqrt are libm's; no fused
 * multiply-add is used (-ffp-contract=off). Contracts: kernels/kernels.h. */
#ifndef SP_KERNELS_REF_H
#define SP_KERNELS_REF_H

#include "../kernels.h"

void sp_conv_fwd_ref(const struct sp_conv *a, int64_t seq, int64_t c0, int64_t c1);
void sp_conv_bwd_ref(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq, int64_t c0,
                     int64_t c1);
void sp_scan_fwd_ref(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1);
void sp_scan_bwd_ref(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq, int64_t c0,
                     int64_t c1);
void sp_rmsnorm_fwd_ref(const struct sp_rmsnorm *a, int64_t r0, int64_t r1);
void sp_rmsnorm_bwd_ref(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g, int64_t r0,
                        int64_t r1);
void sp_xent_ref(const struct sp_xent *a, int64_t r0, int64_t r1);
void sp_matvec_f32_ref(const float *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                       int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                       int64_t o1, int add);
void sp_matvec_bf16_ref(const uint16_t *w, int64_t ldw, const float *x, int64_t ldx, int64_t n_row,
                        int64_t d_in, const float *bias, float *y, int64_t ldy, int64_t o0,
                        int64_t o1, int add);
void sp_adamw_ref(const struct sp_adamw *a, int64_t i0, int64_t i1);
void sp_vexp_ref(float *y, const float *x, int64_t n);
void sp_to_bf16_ref(uint16_t *y, const float *x, int64_t n);
double sp_sum_squares_ref(const float *x, int64_t n);

#endif
