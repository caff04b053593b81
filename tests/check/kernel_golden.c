/* Every path against PyTorch's automatic differentiation of the plain formulas
 * (tests/golden/make_kernels.py). */
#include "../golden/kernels.h"
#include "kernel.h"

#define COUNT(x) ((int64_t)(sizeof(x) / sizeof(x[0])))
#define ADD(e, got, want) kernel_compare(e, got, want, COUNT(want))

static const int64_t cu_seqlens[] = {0, 5}, cu_chunks[] = {0, 1};

static void check_scan(const struct sp_kernels *k) {
    enum { TOK = 5, INNER = 3, STATE = 2 };
    float y[15], state_out[6], chunk[6], dx[15], ddt[15], dz[15];
    float dB[10] = {0}, dC[10] = {0}, dA[6] = {0}, dD[3] = {0}, ddt_bias[3] = {0}, dstate_in[6];
    const float *from = scan_state, *grad_from = scan_dstate_out;
    float *to = state_out, *grad_to = dstate_in;
    struct sp_scan a = {.n_seq = 1,
                        .d_inner = INNER,
                        .d_state = STATE,
                        .cu_seqlens = cu_seqlens,
                        .x = scan_x,
                        .dt = scan_dt,
                        .z = scan_z,
                        .B = scan_B,
                        .C = scan_C,
                        .ldx = INNER,
                        .lddt = INNER,
                        .ldz = INNER,
                        .ldb = STATE,
                        .ldc = STATE,
                        .A = scan_A,
                        .D = scan_D,
                        .dt_bias = scan_dt_bias,
                        .state_in = &from,
                        .state_out = &to,
                        .y = y,
                        .ldy = INNER,
                        .chunk_state = chunk,
                        .cu_chunks = cu_chunks};
    struct sp_scan_grad g = {.dy = scan_dy,
                             .lddy = INNER,
                             .dx = dx,
                             .ddt = ddt,
                             .dz = dz,
                             .lddx = INNER,
                             .lddt = INNER,
                             .lddz = INNER,
                             .dB = dB,
                             .dC = dC,
                             .dA = dA,
                             .dD = dD,
                             .ddt_bias = ddt_bias,
                             .dstate_out = &grad_from,
                             .dstate_in = &grad_to,
                             .scratch = kernel_floats(sp_scan_bwd_scratch(STATE))};
    struct kernel_error e = {0};
    k->scan_fwd(&a, 0, 0, INNER);
    ADD(&e, y, scan_y);
    ADD(&e, state_out, scan_state_out);
    k->scan_bwd(&a, &g, 0, 0, INNER);
    ADD(&e, dx, scan_dx);
    ADD(&e, ddt, scan_ddt);
    ADD(&e, dz, scan_dz);
    ADD(&e, dB, scan_dB);
    ADD(&e, dC, scan_dC);
    ADD(&e, dA, scan_dA);
    ADD(&e, dD, scan_dD);
    ADD(&e, ddt_bias, scan_ddt_bias);
    ADD(&e, dstate_in, scan_dstate_in);
    check_ok(kernel_error(&e) < KERNEL_TOLERANCE, "scan %s: both ways, %.2g from PyTorch", k->name,
             kernel_error(&e));
    kernel_end_case();
}

static void check_conv(const struct sp_kernels *k) {
    enum { INNER = 3, WIDTH = 4 };
    float y[15], state_out[9], dx[15], dw[12] = {0}, dbias[3] = {0}, dstate_in[9];
    const float *from = conv_state, *grad_from = conv_dstate_out;
    float *to = state_out, *grad_to = dstate_in;
    struct sp_conv a = {.n_seq = 1,
                        .d_inner = INNER,
                        .d_conv = WIDTH,
                        .cu_seqlens = cu_seqlens,
                        .x = conv_x,
                        .ldx = INNER,
                        .w = conv_w,
                        .bias = conv_bias,
                        .state_in = &from,
                        .state_out = &to,
                        .y = y,
                        .ldy = INNER};
    struct sp_conv_grad g = {.dy = conv_dy,
                             .lddy = INNER,
                             .dx = dx,
                             .lddx = INNER,
                             .dw = dw,
                             .dbias = dbias,
                             .dstate_out = &grad_from,
                             .dstate_in = &grad_to};
    struct kernel_error e = {0};
    k->conv_fwd(&a, 0, 0, INNER);
    ADD(&e, y, conv_y);
    ADD(&e, state_out, conv_state_out);
    k->conv_bwd(&a, &g, 0, 0, INNER);
    ADD(&e, dx, conv_dx);
    ADD(&e, dw, conv_dw);
    ADD(&e, dbias, conv_dbias);
    ADD(&e, dstate_in, conv_dstate_in);
    check_ok(kernel_error(&e) < KERNEL_TOLERANCE, "conv %s: both ways, %.2g from PyTorch", k->name,
             kernel_error(&e));
}

static void check_rmsnorm(const struct sp_kernels *k) {
    float x[10], y[10], rstd[2], dx[10] = {0}, dw[5] = {0};
    memcpy(x, rmsnorm_x, sizeof x);
    struct sp_rmsnorm a = {.d = 5,
                           .x = x,
                           .ldx = 5,
                           .residual = rmsnorm_residual,
                           .ldr = 5,
                           .w = rmsnorm_w,
                           .eps = 1e-5f,
                           .y = y,
                           .ldy = 5,
                           .rstd = rstd};
    struct sp_rmsnorm_grad g = {.dy = rmsnorm_dy, .lddy = 5, .dx = dx, .lddx = 5, .dw = dw};
    struct kernel_error e = {0};
    k->rmsnorm_fwd(&a, 0, 2);
    ADD(&e, y, rmsnorm_y);
    k->rmsnorm_bwd(&a, &g, 0, 2);
    ADD(&e, dx, rmsnorm_dx);
    ADD(&e, dw, rmsnorm_dw);
    check_ok(kernel_error(&e) < KERNEL_TOLERANCE, "rmsnorm %s: both ways, %.2g from PyTorch",
             k->name, kernel_error(&e));
}

static void check_xent(const struct sp_kernels *k) {
    float logits[21], loss[3];
    static const int32_t target[] = {2, -100, 6};
    memcpy(logits, xent_logits, sizeof logits);
    struct sp_xent a = {7, logits, 7, target, 0.5f, loss};
    struct kernel_error e = {0};
    k->xent(&a, 0, 3);
    ADD(&e, loss, xent_loss);
    ADD(&e, logits, xent_grad);
    check_ok(kernel_error(&e) < KERNEL_TOLERANCE, "xent %s: %.2g from PyTorch", k->name,
             kernel_error(&e));
}

static void check_adamw(const struct sp_kernels *k) {
    float param[6], m[6] = {0}, v[6] = {0};
    memcpy(param, adamw_param, sizeof param);
    for (int step = 1; step <= 3; step++) {
        struct sp_adamw a = {param,
                             m,
                             v,
                             adamw_grad + 6 * (step - 1),
                             0.01f,
                             0.9f,
                             0.95f,
                             1e-8f,
                             0.1f,
                             (float)(1 - pow(0.9, step)),
                             (float)(1 - pow(0.95, step)),
                             1};
        k->adamw(&a, 0, 6);
    }
    struct kernel_error e = {0};
    ADD(&e, param, adamw_after);
    check_ok(kernel_error(&e) < KERNEL_TOLERANCE, "adamw %s: three steps, %.2g from PyTorch",
             k->name, kernel_error(&e));
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int p = 0; p < kernel_state.n_path; p++) {
        const struct sp_kernels *k = &kernel_state.path[p];
        if (check_wanted("scan")) check_scan(k);
        if (check_wanted("conv")) check_conv(k);
        if (check_wanted("rmsnorm")) check_rmsnorm(k);
        if (check_wanted("xent")) check_xent(k);
        if (check_wanted("adamw")) check_adamw(k);
    }
    return check_end();
}
