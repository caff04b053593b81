/* The plain C path: what every other path is checked against, and falls back to. */
#include "ref.h"

void sp_kernels_ref(struct sp_kernels *k) {
    *k = (struct sp_kernels){
        .name = "ref",
        .conv_fwd = sp_conv_fwd_ref,
        .conv_bwd = sp_conv_bwd_ref,
        .scan_fwd = sp_scan_fwd_ref,
        .scan_step = sp_scan_fwd_ref, /* one channel at a time: nothing to transpose anyway */
        .scan_bwd = sp_scan_bwd_ref,
        .rmsnorm_fwd = sp_rmsnorm_fwd_ref,
        .rmsnorm_bwd = sp_rmsnorm_bwd_ref,
        .xent = sp_xent_ref,
        .matvec_f32 = sp_matvec_f32_ref,
        .matvec_bf16 = sp_matvec_bf16_ref,
        .adamw = sp_adamw_ref,
        .vexp = sp_vexp_ref,
        .to_bf16 = sp_to_bf16_ref,
        .sum_squares = sp_sum_squares_ref,
    };
}
