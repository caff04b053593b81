/* What the CUDA kernels do per element, counted by the emulator: no more than state-spaces/mamba's
 * where that is asked for, and (--bench) all of it as a table, beside theirs and beside the bytes
 * that are the least possible: inputs once, outputs once.
 *
 * Each access of each thread counts, also where the lanes of a warp read one address together. Of
 * state-spaces/mamba the counts are of its selective_scan_{fwd,bwd}_kernel.cuh; its bytes were not
 * measured: they are what a block for each channel must move: B and C (and two atomics for dB and
 * dC) for every element and state, beside the rows.
 *
 * Worse than theirs are shuffles only. Forward, 1.00, 2.00 and 4.00 at 16, 8 and 4 items of a
 * thread for their 0.75 at 16: a scan over the warp's 4 threads in time takes 4 shuffles, for the
 * 4, 2 or 1 tokens of a thread, where theirs has as many tokens as items; the thread's other 4 are
 * channels, which share B and C and make most barriers and the scan through shared memory needless
 * (barriers 0.02 for 0.15). 8 and 4 items are for the ends of sequences, of up to 32 tokens, only.
 * Where sequences are cut into segments they are scanned twice, with twice the exponentials, too.
 * Backward, 2.75 for 2.35: sums of dB and dC over channels are made by shuffles, in place of
 * atomics, and 0.31 make accesses of 16 bytes where a thread owns 8 (block.h). */
#include "../check/kernel_conv.h"
#include "../check/kernel_scan.h"
#include "check_cuda.h"

/* SEGMENT: what the backend cuts long sequences into (lib/backend_cuda.h), where it does. */
enum { D_INNER = 64, D_STATE = 16, D_CONV = 4, D_MODEL = 768, LEN = 512, SEGMENT = 256 };

/* Counts per unit (an element and state, or an element), bytes per element. */
struct row {
    double load, store, shared_load, shared_store, shuffle, barrier, exponential, atomic;
    double bytes, least;
};
static bool launched = true;

static struct row counted(int error, double n_element, double n_state, double least) {
    launched = cuda_launched(error) && launched;
    struct emu_counts c = emu_counted();
    double n = n_element * n_state;
    return (struct row){.load = (double)c.global_load / n,
                        .store = (double)c.global_store / n,
                        .shared_load = (double)c.shared_load / n,
                        .shared_store = (double)c.shared_store / n,
                        .shuffle = (double)c.shuffle / n,
                        .barrier = (double)c.barrier / n,
                        .exponential = (double)c.exponential / n,
                        .atomic = (double)c.atomic / n,
                        .bytes = (double)c.global_bytes / n_element,
                        .least = least};
}
static void tell(const char *name, const char *unit, const struct row *r, const char *theirs) {
    if (!check_state.bench) return;
    printf("# %-24s per %s: global loads %.3f stores %.3f, shared loads %.3f stores %.3f, shuffles "
           "%.3f, barriers %.4f, exp %.3f, atomics %.3f; bytes per element %.1f, at least %.1f\n",
           name, unit, r->load, r->store, r->shared_load, r->shared_store, r->shuffle, r->barrier,
           r->exponential, r->atomic, r->bytes, r->least);
    if (theirs) printf("# %-24s %s\n", "  state-spaces/mamba", theirs);
}
static void explain(const char *why) {
    if (check_state.bench) printf("#   %s\n", why);
}
static const char of_state[] = "element and state", of_element[] = "element";

/* The scan of a length, which chooses K; states in and out, as in a document that goes on. x, z and
 * y are of `type`, dt, B and C f32, as a layer with products in bf16 has them. */
static struct row scan_fwd(int64_t len, int64_t segment, enum sp_cuda_type type,
                           struct scan_case *s, struct scan_result *r) {
    scan_make(s, 1, &len, D_INNER, D_STATE, 0, 0);
    *r = scan_forward(&kernel_state.path[0], s, D_INNER); /* its buffers, and chunk states */
    struct sp_scan a = scan_args(s);
    float *state = r->state;
    a.state_out = &state;
    a.y = r->y;
    a.x = cuda_typed(a.x, len * D_INNER, type);
    a.z = cuda_typed(a.z, len * D_INNER, type);
    emu_counts_reset();
    emu_configure(EMU_NATURAL, 1);
    int error;
    if (segment > 0) {
        float *work = kernel_floats(sp_scan_split_cuda_workspace(&a, len, segment));
        error = sp_scan_split_cuda(&a, type, SP_CUDA_F32, len, len, segment, work, NULL);
    } else {
        error = sp_scan_fwd_cuda(&a, type, SP_CUDA_F32, len, NULL);
    }
    double rows = 4 + 3 * (double)cuda_size(type) + 8. * D_STATE / D_INNER;
    return counted(error, (double)(len * D_INNER), D_STATE,
                   rows + 12. * D_STATE / (double)len); /* states in and out, A */
}
static struct row scan_bwd(int deterministic) {
    struct scan_case s;
    struct scan_result r;
    scan_fwd(LEN, 0, SP_CUDA_F32, &s, &r);
    scan_backward(&kernel_state.path[0], &s, D_INNER, &r); /* for its buffers */
    struct sp_scan a = scan_args(&s);
    a.chunk_state = r.chunk;
    const float *after = s.dstate_out;
    float *before = r.dstate;
    struct sp_scan_grad g = {.dy = s.dy, .lddy = D_INNER, .dx = r.dx, .ddt = r.ddt, .dz = r.dz};
    g.lddx = g.lddt = g.lddz = D_INNER;
    g.dB = r.dB;
    g.dC = r.dC;
    g.dA = r.dA;
    g.dD = r.dD;
    g.ddt_bias = r.dbias;
    g.dstate_out = &after;
    g.dstate_in = &before;
    float *work = kernel_floats(sp_scan_bwd_cuda_workspace(&a, LEN, deterministic));
    emu_counts_reset();
    int error = sp_scan_bwd_cuda(&a, &g, SP_CUDA_F32, LEN, deterministic, work, NULL);
    double rows = 28 + 16. * D_STATE / D_INNER, chunks = 4. * D_STATE / SP_SCAN_CHUNK;
    return counted(error, LEN * D_INNER, D_STATE, rows + chunks + 20. * D_STATE / LEN);
}

static struct row conv(bool backward, int64_t d_conv, enum sp_cuda_type type) {
    struct conv_case s;
    int64_t len = LEN;
    conv_make(&s, 1, &len, 128, d_conv, true, true, 0);
    struct conv_result r = conv_forward(&kernel_state.path[0], &s, 128);
    conv_backward(&kernel_state.path[0], &s, 128, &r); /* for the buffers */
    struct sp_conv a = conv_args(&s);
    const float *after = s.dstate_out;
    float *state = r.state, *before = r.dstate;
    a.state_out = &state;
    a.y = r.y;
    a.x = cuda_typed(a.x, LEN * 128, type);
    struct sp_conv_grad g = {.dy = s.dy, .lddy = 128, .dx = r.dx, .lddx = 128, .dw = r.dw};
    g.dbias = r.dbias;
    g.dstate_out = &after;
    g.dstate_in = &before;
    float *work = kernel_floats(sp_conv_bwd_cuda_workspace(&a, LEN));
    emu_counts_reset();
    int error = backward ? sp_conv_bwd_cuda(&a, &g, SP_CUDA_F32, LEN, work, NULL)
                         : sp_conv_fwd_cuda(&a, type, LEN, NULL);
    /* Weights and states: read; written, too; or with gradients, of which weights' are added to. */
    const double w = (double)(d_conv + 1), states = (double)(d_conv - 1);
    const double once = (backward ? 3 * w + 3 * states : w + 2 * states) * 4 / LEN;
    return counted(error, LEN * 128., 1, (backward ? 3 : 2) * (double)cuda_size(type) + once);
}

static struct row norm(bool backward, enum sp_cuda_type type) {
    enum { ROWS = 64 };
    struct sp_rmsnorm a = {.d = D_MODEL, .ldx = D_MODEL, .ldy = D_MODEL, .eps = 1e-5f};
    a.x = kernel_random(ROWS * D_MODEL, -2, 2);
    a.w = kernel_random(D_MODEL, -1, 1);
    a.y = kernel_floats(ROWS * D_MODEL);
    a.rstd = kernel_random(ROWS, 0.5f, 2);
    struct sp_rmsnorm_grad g = {.dy = a.x, .lddy = D_MODEL, .lddx = D_MODEL};
    g.dx = kernel_floats(ROWS * D_MODEL);
    g.dw = kernel_floats(D_MODEL);
    float *work = kernel_floats(sp_rmsnorm_bwd_cuda_workspace(&a, ROWS));
    emu_counts_reset();
    int error = backward ? sp_rmsnorm_bwd_cuda(&a, &g, SP_CUDA_F32, ROWS, work, NULL)
                         : sp_rmsnorm_fwd_cuda(&a, type, ROWS, NULL);
    const double least = backward ? 16 + 12. / ROWS : 4 + (double)cuda_size(type) + 4. / ROWS;
    return counted(error, ROWS * D_MODEL, 1, least);
}

/* The 130m shape; per channel of a sequence. */
static struct row mixer_step(int64_t n_seq, enum sp_cuda_type type) {
    enum { D = 1536, RANK = 48, N_OUT = RANK + 2 * D_STATE, SEQ_MAX = 4 };
    struct sp_mixer_step a = {.n_seq = n_seq, .d_inner = D, .d_conv = D_CONV, .d_state = D_STATE};
    a.dt_rank = RANK;
    a.xz = kernel_random(n_seq * 2 * D, -1, 1);
    a.ldxz = 2 * D;
    a.conv_w = kernel_random(D * D_CONV, -1, 1);
    a.conv_bias = kernel_random(D, -1, 1);
    a.x_proj = cuda_typed(kernel_random(N_OUT * D, -0.1f, 0.1f), N_OUT * D, type);
    a.dt_proj = cuda_typed(kernel_random(D * RANK, -0.1f, 0.1f), D * RANK, type);
    a.x_type = a.dt_type = type;
    a.part_norm_eps = -1;
    a.dt_bias = kernel_random(D, -4, 0);
    a.A = kernel_random(D * D_STATE, -4, 0);
    a.D = kernel_random(D, -1, 1);
    float *conv_state[SEQ_MAX], *ssm_state[SEQ_MAX];
    for (int64_t i = 0; i < n_seq; i++) {
        conv_state[i] = kernel_floats(D * (D_CONV - 1));
        ssm_state[i] = kernel_floats(D * D_STATE);
    }
    a.conv_state = conv_state;
    a.ssm_state = ssm_state;
    a.y = kernel_floats(n_seq * D);
    a.ldy = D;
    float *work = kernel_floats(sp_mixer_step_cuda_workspace(&a));
    emu_counts_reset();
    int error = sp_mixer_step_cuda(&a, work, NULL);
    double weights = (double)cuda_size(type) * (N_OUT + RANK) + 4 * (D_CONV + 3 + D_STATE);
    return counted(error, (double)(n_seq * D), 1, 12 + 24 + 8. * D_STATE + weights / (double)n_seq);
}

/* Of 4 taps, which are told beside those of 8. */
static void count_convs(struct row *fwd, struct row *half, struct row *bwd) {
    *fwd = conv(false, D_CONV, SP_CUDA_F32);
    *half = conv(false, D_CONV, SP_CUDA_BF16);
    *bwd = conv(true, D_CONV, SP_CUDA_F32);
    struct row fwd8 = conv(false, 8, SP_CUDA_F32), half8 = conv(false, 8, SP_CUDA_BF16);
    struct row bwd8 = conv(true, 8, SP_CUDA_F32);
    kernel_end_case();
    tell("conv_fwd", of_element, fwd, NULL);
    tell("conv_fwd, bf16", of_element, half, NULL);
    tell("conv_bwd", of_element, bwd, NULL);
    tell("conv_fwd, 8 taps", of_element, &fwd8, NULL);
    tell("conv_fwd, 8 taps, bf16", of_element, &half8, NULL);
    tell("conv_bwd, 8 taps", of_element, &bwd8, NULL);
    explain("the taps' 3 or 7 rows before a run of 16 tokens are read again, of one of 32 backward "
            "as many before and after");
}

static void count_norms(struct row *fwd, struct row *half, struct row *bwd) {
    *fwd = norm(false, SP_CUDA_F32);
    *half = norm(false, SP_CUDA_BF16);
    *bwd = norm(true, SP_CUDA_F32);
    kernel_end_case();
    tell("rmsnorm_fwd", of_element, fwd, NULL);
    tell("rmsnorm_fwd, bf16", of_element, half, NULL);
    tell("rmsnorm_bwd", of_element, bwd, NULL);
    explain("w is read for each row that a warp takes, here one: 4 bytes; dw has a part per block");
}

/* bc: the scan's least bytes per element for B and C (and their gradients), which more channels
 * share there than here. */
static void tell_layer(const char *name, const struct row *norm_row, const struct row *conv_row,
                       const struct row *scan_row, double bc) {
    if (!check_state.bench) return;
    const double inner = 2 * D_MODEL, scan_least = scan_row->least - bc + bc * D_INNER / inner;
    printf("# %s, a layer of the 130m shape without its products: %.1f KB of global memory per "
           "token, at least %.1f\n",
           name, (norm_row->bytes * D_MODEL + (conv_row->bytes + scan_row->bytes) * inner) / 1000,
           (norm_row->least * D_MODEL + (conv_row->least + scan_least) * inner) / 1000);
}

static void tell_decode(int64_t n_seq, const char *type, const struct row *step) {
    if (!check_state.bench) return;
    const double channels = 2 * D_MODEL / 1000.;
    printf("# decode of %d in %s, a mixer of the 130m shape between in_proj and out_proj: %.1f KB "
           "of global memory per token, at least %.1f\n",
           (int)n_seq, type, step->bytes * channels, step->least * channels);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    struct scan_case s;
    struct scan_result res;
    const char theirs[] = "loads 1.77 stores 0.62 (global and shared), shuffles 0.75, barriers "
                          "0.15; bytes per element, by reckoning from its source, 144 or more";
    const enum sp_cuda_type f32 = SP_CUDA_F32, bf16 = SP_CUDA_BF16;
    struct row k1 = scan_fwd(16, 0, f32, &s, &res), k2 = scan_fwd(32, 0, f32, &s, &res);
    kernel_end_case();
    struct row fwd = scan_fwd(LEN, 0, f32, &s, &res), half = scan_fwd(LEN, 0, bf16, &s, &res);
    struct row split = scan_fwd(LEN, SEGMENT, f32, &s, &res);
    struct row split_half = scan_fwd(LEN, SEGMENT, bf16, &s, &res);
    kernel_end_case();
    tell("scan_fwd, 4 items", of_state, &k1, NULL);
    tell("scan_fwd, 8 items", of_state, &k2, NULL);
    tell("scan_fwd, 16 items", of_state, &fwd, theirs);
    explain("more shuffles: 4 per scan over a warp's 4 threads in time, of 4, 2 or 1 tokens each, "
            "where "
            "theirs has as many tokens as items; in exchange, fewer loads, stores and barriers");
    tell("scan_fwd, bf16", of_state, &half, NULL);
    tell("scan_split", of_state, &split, NULL);
    tell("scan_split, bf16", of_state, &split_half, NULL);
    explain("in segments of 256 tokens, for which x, dt and B are read twice");
    struct row bwd = scan_bwd(0), same = scan_bwd(1);
    kernel_end_case();
    tell("scan_bwd", of_state, &bwd,
         "loads 4.53 stores 2.76 (global and shared), shuffles 2.35, barriers 0.30, atomics 2.00; "
         "bytes per element, by reckoning from its source, 284 or more");
    explain("more shuffles: they add dB and dC over channels, in place of atomics, and make "
            "accesses of 16 bytes (0.31 of them)");
    tell("scan_bwd, deterministic", of_state, &same, NULL);
    struct row conv_fwd, conv_half, conv_bwd, norm_fwd, norm_half, norm_bwd;
    count_convs(&conv_fwd, &conv_half, &conv_bwd);
    count_norms(&norm_fwd, &norm_half, &norm_bwd);
    const double bc = 8. * D_STATE / D_INNER;
    tell_layer("forward", &norm_fwd, &conv_fwd, &fwd, bc);
    tell_layer("forward in segments", &norm_fwd, &conv_fwd, &split, bc);
    tell_layer("forward in bf16", &norm_half, &conv_half, &half, bc);
    tell_layer("forward in bf16, in segments", &norm_half, &conv_half, &split_half, bc);
    tell_layer("backward", &norm_bwd, &conv_bwd, &bwd, 2 * bc);
    tell_layer("backward, deterministic", &norm_bwd, &conv_bwd, &same, 2 * bc);
    for (int64_t n = 1; n <= 4; n += 3) {
        struct row step = mixer_step(n, f32), step_half = mixer_step(n, bf16);
        kernel_end_case();
        tell(n == 1 ? "mixer_step, f32 x 1" : "mixer_step, f32 x 4", of_element, &step, NULL);
        tell(n == 1 ? "mixer_step, bf16 x 1" : "mixer_step, bf16 x 4", of_element, &step_half,
             NULL);
        tell_decode(n, "f32", &step);
        tell_decode(n, "bf16", &step_half);
    }
    check_ok(launched, "all launches run");
    check_ok(bwd.atomic < 0.1 && same.atomic == 0,
             "scan_bwd_cuda: %.3f atomics per element and state, %.3f when deterministic",
             bwd.atomic, same.atomic);
    check_ok(fwd.bytes <= 144 && split.bytes <= 144 && bwd.bytes <= 284 && same.bytes <= 284,
             "scans: %.0f bytes of global memory per element forward, %.0f in segments, %.0f "
             "backward: no more than a block per channel moves",
             fwd.bytes, split.bytes, bwd.bytes);
    check_ok(fwd.load + fwd.shared_load <= 1.77 && fwd.store + fwd.shared_store <= 0.62 &&
                 fwd.barrier <= 0.15 && bwd.load + bwd.shared_load <= 4.53 &&
                 bwd.store + bwd.shared_store <= 2.76 && bwd.barrier <= 0.30,
             "scans: loads, stores and barriers no more than state-spaces/mamba's");
    check_ok(fwd.exponential <= 1.001 && bwd.exponential <= 1.001 && split.exponential <= 2.02,
             "scans: one exponential per element and state, two in segments");
    return check_end();
}
