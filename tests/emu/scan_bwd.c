/* The CUDA selective scan backward under the emulator: against the plain C path and finite
 * differences in double precision, with atomics and deterministic, in every type. */
#include "../check/kernel_scan_grad.h"
#include "check_cuda.h"

static const int64_t lengths[] = {0, 1, 2, 7, 8, 9, 33, 63, 64, 65, 130};
static const int64_t inners[] = {1, 2, 7, 8, 31, 34, 70};
static const int64_t state_sizes[] = {1, 3, 4, 5, 6, 16, 24};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

enum { IN_PLACE = 1, DETERMINISTIC = 2 };

/* Backward on the emulated device from r's chunk states; the case's inputs are rounded to `type`.
 * IN_PLACE: gradients of states go from and to the same buffers. */
static bool backward(struct scan_case *s, enum sp_cuda_type type, int how, struct scan_result *r) {
    struct sp_scan a = scan_args(s);
    int64_t wide = s->n_tok * a.ldy, narrow = s->n_tok * a.d_state;
    a.x = cuda_typed(a.x, wide, type);
    a.dt = cuda_typed(a.dt, wide, type);
    a.z = cuda_typed(a.z, wide, type);
    a.B = cuda_typed(a.B, s->n_tok * a.ldb, type);
    a.C = cuda_typed(a.C, s->n_tok * a.ldc, type);
    a.chunk_state = r->chunk;
    r->dB = kernel_floats(narrow);
    r->dC = kernel_floats(narrow);
    r->dA = kernel_floats(s->n_state);
    r->dD = a.D ? kernel_floats(a.d_inner) : NULL;
    r->dbias = a.dt_bias ? kernel_floats(a.d_inner) : NULL;
    r->dstate = how & IN_PLACE ? kernel_copy(s->dstate_out, a.n_seq * s->n_state)
                               : cuda_output(a.n_seq * s->n_state, SP_CUDA_F32);
    struct sp_scan_grad g = {.dy = cuda_typed(s->dy, wide, type),
                             .lddy = a.ldy,
                             .dx = cuda_output(wide, type),
                             .ddt = cuda_output(wide, type),
                             .dz = a.z ? cuda_output(wide, type) : NULL,
                             .lddx = a.ldy,
                             .lddt = a.ldy,
                             .lddz = a.ldy,
                             .dB = r->dB,
                             .dC = r->dC,
                             .dA = r->dA,
                             .dD = r->dD,
                             .ddt_bias = r->dbias};
    const float *dstate_out[SCAN_SEQ_MAX];
    float *dstate_in[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        dstate_in[i] = r->dstate + i * s->n_state;
        dstate_out[i] = how & IN_PLACE ? dstate_in[i] : s->dstate_out + i * s->n_state;
    }
    g.dstate_out = dstate_out;
    g.dstate_in = dstate_in;
    int det = (how & DETERMINISTIC) != 0;
    float *work = cuda_output(sp_scan_bwd_cuda_workspace(&a, s->n_tok, det), SP_CUDA_F32);
    cuda_next_schedule();
    bool ok = cuda_launched(sp_scan_bwd_cuda(&a, &g, type, s->n_tok, det, work, NULL));
    r->dx = cuda_to_floats(g.dx, wide, type);
    r->ddt = cuda_to_floats(g.ddt, wide, type);
    r->dz = g.dz ? cuda_to_floats(g.dz, wide, type) : NULL;
    ok = ok && cuda_padding_kept(r->dx, s->n_tok, a.d_inner, a.ldy) &&
         cuda_padding_kept(r->ddt, s->n_tok, a.d_inner, a.ldy) &&
         (!r->dz || cuda_padding_kept(r->dz, s->n_tok, a.d_inner, a.ldy));
    /* What was left alone between rows is what the plain C path leaves there. */
    for (int64_t i = 0; i < wide; i++)
        if (i % a.ldy >= a.d_inner) r->dx[i] = r->ddt[i] = (r->dz ? r->dz : r->dx)[i] = 0;
    return ok;
}

static void random_case(struct scan_case *s, int i) {
    int64_t n_seq = check_random_int(1, 4), len[4];
    for (int j = 0; j < 4; j++) len[j] = PICK(lengths);
    const bool wide = check_random() % 5 < 2; /* as accesses of 16 bytes want it */
    const bool most = i == 7;                 /* where a block has 64 KiB of shared memory */
    scan_make(s, most ? 1 : n_seq, len, wide ? 8 * check_random_int(1, 9) : PICK(inners),
              most ? 248 : PICK(state_sizes), i % SCAN_N_OPTIONS,
              check_random_int(0, 2) * (wide ? 8 : 1));
}

static void check_random_shapes(enum sp_cuda_type type, int n_case) {
    struct kernel_error e[SCAN_N_GRAD] = {0};
    bool ok = true, same = true;
    for (int i = 0; i < n_case; i++) {
        struct scan_case s;
        random_case(&s, i);
        struct scan_result got = {0}, again;
        /* Rounds the inputs first: the plain C path is to have the same. */
        got.chunk = kernel_floats(s.n_chunk * s.n_state);
        ok = backward(&s, type, 0, &got) && ok;
        struct scan_result want = scan_forward(&kernel_state.path[0], &s, s.a.d_inner);
        scan_backward(&kernel_state.path[0], &s, s.a.d_inner, &want);
        got.chunk = again.chunk = want.chunk;
        ok = backward(&s, type, i % 4, &got) && ok;
        scan_compare(&s, &got, &want, e);
        if (i % 4 & DETERMINISTIC) {
            ok = backward(&s, type, i % 4, &again) && ok;
            same = same && scan_same_bits(&s, &got, &again);
        }
        kernel_end_case();
    }
    double typed = 0, sums = 0; /* dx, ddt, dz; the others */
    for (int i = 0; i < SCAN_N_GRAD; i++) {
        double *worst = i < 3 ? &typed : &sums;
        *worst = kernel_worst(*worst, kernel_error(&e[i]));
    }
    const char *name = cuda_type_name[type];
    check_ok(ok, "scan_bwd_cuda %s: %d cases run, nothing stored past a row", name, n_case);
    check_ok(typed < cuda_tolerance[type], "scan_bwd_cuda %s: dx, ddt, dz %.2g from plain C", name,
             typed);
    check_ok(sums < 1e-6, "scan_bwd_cuda %s: the other gradients %.2g from plain C", name, sums);
    check_ok(same, "scan_bwd_cuda %s: deterministic: the same bits in every schedule", name);
}

static void check_differences(void) {
    double worst = 0;
    bool ok = true;
    for (int options = 0; options < SCAN_N_OPTIONS; options += 5) {
        struct scan_case s;
        int64_t len[3] = {3, 0, options == 0 ? 67 : 6};
        scan_make(&s, 3, len, 3, 5, options, 0);
        struct scan_result r = scan_forward(&kernel_state.path[0], &s, 3);
        ok = backward(&s, SP_CUDA_F32, 0, &r) && ok;
        worst = kernel_worst(worst, scan_worst_slopes_error(&s, &r));
        kernel_end_case();
    }
    check_ok(ok && worst < 1e-4, "scan_bwd_cuda: %.2g from finite differences in double precision",
             worst);
}

/* The largest state asks for more shared memory than a kernel gets unasked. */
static void check_large_state(void) {
    struct kernel_error e[SCAN_N_GRAD] = {0};
    struct scan_case s;
    int64_t len = 70;
    double worst = 0;
    scan_make(&s, 1, &len, 34, SP_SCAN_STATE_MAX, 0, 0);
    struct scan_result want = scan_forward(&kernel_state.path[0], &s, s.a.d_inner), got = want;
    scan_backward(&kernel_state.path[0], &s, s.a.d_inner, &want);
    bool ok = backward(&s, SP_CUDA_F32, DETERMINISTIC, &got);
    scan_compare(&s, &got, &want, e);
    kernel_end_case();
    for (int i = 0; i < SCAN_N_GRAD; i++) worst = kernel_worst(worst, kernel_error(&e[i]));
    check_ok(ok && worst < 1e-6, "scan_bwd_cuda: d_state %d: %.2g from plain C", SP_SCAN_STATE_MAX,
             worst);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++)
        check_random_shapes((enum sp_cuda_type)type, cuda_cases(type == 0 ? 24 : 8));
    check_differences();
    check_large_state();
    return check_end();
}
