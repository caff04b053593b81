/* The CUDA decode kernels under the emulator: the scan's step alone, and the whole mixer's, against
 * the plain C kernels and products in double precision, states in place. */
#include "check_cuda.h"

#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])
enum { SEQ_MAX = 9 };
static const int64_t inners[] = {1, 4, 7, 31, 32, 36, 130, 256};
static const int64_t state_sizes[] = {1, 4, 5, 16, 17, 24, 40};
static const int64_t ranks[] = {1, 4, 8, 11, 48};

/* ---- the scan alone ---------------------------------------------------------------------------*/

static void check_scan(enum sp_cuda_type type, int n_case) {
    struct kernel_error y = {0}, h = {0};
    bool ok = true, kept = true;
    for (int i = 0; i < n_case; i++) {
        int64_t n_seq = check_random_int(1, SEQ_MAX), d = PICK(inners), N = PICK(state_sizes);
        int64_t pad = i % 3 * 2, n_state = d * N;
        struct sp_scan want = {.n_seq = n_seq, .d_inner = d, .d_state = N};
        want.ldx = want.lddt = want.ldz = want.ldy = d + pad;
        want.ldb = want.ldc = N + pad;
        int64_t wide = n_seq * want.ldx, narrow = n_seq * want.ldb, cu[SEQ_MAX + 1];
        float *x = kernel_random(wide, -2, 2), *A = kernel_random(n_state, -4, 0);
        want.x = x;
        want.dt = kernel_random(wide, -6, 22); /* also above softplus's guard */
        want.z = i % 4 ? kernel_random(wide, -4, 4) : NULL;
        want.B = kernel_random(narrow, -1, 1);
        want.C = kernel_random(narrow, -1, 1);
        want.A = A;
        want.D = i % 5 ? kernel_random(d, -1, 1) : NULL;
        want.dt_bias = i % 2 ? kernel_random(d, -1, 1) : NULL;
        want.cu_seqlens = cu;
        struct sp_scan a = want;
        a.cu_seqlens = NULL;
        a.x = cuda_typed(want.x, wide, type);
        a.dt = cuda_typed(want.dt, wide, type);
        a.z = cuda_typed(want.z, wide, type);
        a.B = cuda_typed(want.B, narrow, type);
        a.C = cuda_typed(want.C, narrow, type);
        float *states = kernel_random(n_seq * n_state, -1, 1);
        float *device = kernel_copy(states, n_seq * n_state);
        float *state[SEQ_MAX], *on_device[SEQ_MAX];
        for (int64_t s = 0; s < n_seq; s++) {
            cu[s] = s;
            state[s] = s == 3 ? NULL : states + s * n_state;
            on_device[s] = s == 3 ? NULL : device + s * n_state;
        }
        cu[n_seq] = n_seq;
        want.state_in = (const float *const *)state;
        a.state_in = (const float *const *)on_device;
        want.state_out = state;
        a.state_out = on_device;
        if (i % 7 == 6) want.state_in = a.state_in = NULL;
        want.y = cuda_output(wide, SP_CUDA_F32);
        a.y = cuda_output(wide, type);
        if (i % 3 == 1) a.y = (float *)(uintptr_t)a.x;
        for (int64_t s = 0; s < n_seq; s++) kernel_state.path[0].scan_step(&want, s, 0, d);
        cuda_next_schedule();
        ok = cuda_launched(sp_scan_step_cuda(&a, type, NULL)) && ok;
        float *got = cuda_to_floats(a.y, wide, type);
        kept = kept && (i % 3 == 1 || cuda_padding_kept(got, n_seq, d, a.ldy));
        for (int64_t s = 0; s < n_seq; s++)
            kernel_compare(&y, got + s * a.ldy, want.y + s * a.ldy, d);
        kernel_compare(&h, device, states, n_seq * n_state);
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    check_ok(ok && kept, "scan_step_cuda %s: %d cases run, nothing stored past a row", name,
             n_case);
    check_ok(kernel_error(&y) < cuda_tolerance[type] && kernel_error(&h) < 1e-6,
             "scan_step_cuda %s: y %.2g, states %.2g from plain C", name, kernel_error(&y),
             kernel_error(&h));
}

/* ---- the mixer --------------------------------------------------------------------------------*/

struct mixer {
    struct sp_mixer_step a;
    const float *x_proj, *dt_proj; /* what the device has of them, as floats */
    float *conv, *ssm;             /* (n_seq, ...): the states before */
    int64_t n_conv, n_ssm, n_out;
};

static void make_mixer(struct mixer *m, int64_t n_seq, int64_t d, int64_t d_conv, int64_t d_state,
                       int64_t rank, enum sp_cuda_type type, int options) {
    struct sp_mixer_step *a = &m->a;
    *a = (struct sp_mixer_step){.n_seq = n_seq, .d_inner = d, .d_conv = d_conv};
    a->d_state = d_state;
    a->dt_rank = rank;
    a->ldxz = 2 * d + (options & 1 ? 3 : 0);
    a->ldy = d + (options & 1);
    a->x_type = type;
    a->dt_type = options & 32 ? SP_CUDA_F32 : type;
    a->round_inputs = (options & 2) != 0;
    a->part_norm_eps = options & 4 ? 1e-6f : -1;
    a->xz = kernel_random(n_seq * a->ldxz, -2, 2);
    a->conv_w = kernel_random(d * d_conv, -1, 1);
    a->conv_bias = options & 8 ? NULL : kernel_random(d, -1, 1);
    m->n_out = rank + 2 * d_state;
    m->x_proj = kernel_random(m->n_out * d, -1, 1);
    m->dt_proj = kernel_random(d * rank, -0.5f, 0.5f);
    a->x_proj = cuda_typed(m->x_proj, m->n_out * d, type);
    a->dt_proj = cuda_typed(m->dt_proj, d * rank, a->dt_type);
    a->dt_bias = options & 8 ? NULL : kernel_random(d, -4, 1);
    a->A = kernel_random(d * d_state, -4, 0);
    a->D = options & 16 ? NULL : kernel_random(d, -1, 1);
    m->n_conv = (d_conv - 1) * d;
    m->n_ssm = d * d_state;
    m->conv = kernel_random(n_seq * m->n_conv, -1, 1);
    m->ssm = kernel_random(n_seq * m->n_ssm, -1, 1);
}

/* Rows of x by W^T, in double precision; x rounded first where the case says so. */
static float *product(const struct mixer *m, const float *x, int64_t ldx, int64_t d_in,
                      const float *w, enum sp_cuda_type type, int64_t d_out) {
    float *y = kernel_floats(m->a.n_seq * d_out);
    for (int64_t r = 0; r < m->a.n_seq; r++)
        for (int64_t o = 0; o < d_out; o++) {
            double sum = 0;
            for (int64_t i = 0; i < d_in; i++) {
                float v = x[r * ldx + i];
                if (m->a.round_inputs && type != SP_CUDA_F32)
                    v = cuda_widen(cuda_narrow(v, type), type);
                sum += (double)v * (double)w[o * d_in + i];
            }
            y[r * d_out + o] = (float)sum;
        }
    return y;
}

/* y (n_seq, d_inner) from the plain C kernels; conv and ssm are moved on. */
static float *plain_mixer(const struct mixer *m, float *conv, float *ssm) {
    const struct sp_mixer_step *a = &m->a;
    const struct sp_kernels *k = &kernel_state.path[0];
    int64_t cu[SEQ_MAX + 1], d = a->d_inner;
    float *conv_state[SEQ_MAX], *ssm_state[SEQ_MAX];
    for (int64_t s = 0; s <= a->n_seq; s++) cu[s] = s;
    for (int64_t s = 0; s < a->n_seq; s++) {
        conv_state[s] = conv + s * m->n_conv;
        ssm_state[s] = ssm + s * m->n_ssm;
    }
    struct sp_conv c = {.n_seq = a->n_seq, .d_inner = d, .d_conv = a->d_conv, .cu_seqlens = cu};
    c.x = a->xz;
    c.ldx = a->ldxz;
    c.w = a->conv_w;
    c.bias = a->conv_bias;
    c.state_in = (const float *const *)conv_state;
    c.state_out = conv_state;
    c.y = kernel_floats(a->n_seq * d);
    c.ldy = d;
    for (int64_t s = 0; s < a->n_seq; s++) k->conv_fwd(&c, s, 0, d);
    float *dbc = product(m, c.y, d, d, m->x_proj, a->x_type, m->n_out);
    const int64_t at[] = {0, a->dt_rank, a->dt_rank + a->d_state};
    for (int i = 0; i < 3 && a->part_norm_eps >= 0; i++) {
        struct sp_rmsnorm n = {.d = i ? a->d_state : a->dt_rank, .ldx = m->n_out, .ldy = m->n_out};
        n.x = n.y = dbc + at[i];
        n.eps = a->part_norm_eps;
        k->rmsnorm_fwd(&n, 0, a->n_seq);
    }
    struct sp_scan s = {.n_seq = a->n_seq, .d_inner = d, .d_state = a->d_state, .cu_seqlens = cu};
    s.x = c.y;
    s.dt = product(m, dbc, m->n_out, a->dt_rank, m->dt_proj, a->dt_type, d);
    s.z = a->xz + d;
    s.B = dbc + at[1];
    s.C = dbc + at[2];
    s.ldx = s.lddt = s.ldy = d;
    s.ldz = a->ldxz;
    s.ldb = s.ldc = m->n_out;
    s.A = a->A;
    s.D = a->D;
    s.dt_bias = a->dt_bias;
    s.state_in = (const float *const *)ssm_state;
    s.state_out = ssm_state;
    s.y = kernel_floats(a->n_seq * d);
    for (int64_t i = 0; i < a->n_seq; i++) k->scan_step(&s, i, 0, d);
    return s.y;
}

/* The sequences from `first` on, n of them, on the device: y (n, ldy). */
static float *device_mixer(const struct mixer *m, int64_t first, int64_t n, float *conv, float *ssm,
                           bool *ok) {
    struct sp_mixer_step a = m->a;
    float *conv_state[SEQ_MAX], *ssm_state[SEQ_MAX];
    a.n_seq = n;
    a.xz += first * a.ldxz;
    for (int64_t s = 0; s < n; s++) {
        conv_state[s] = conv + (first + s) * m->n_conv;
        ssm_state[s] = ssm + (first + s) * m->n_ssm;
    }
    a.conv_state = conv_state;
    a.ssm_state = ssm_state;
    a.y = cuda_output(n * a.ldy, SP_CUDA_F32);
    float *work = cuda_output(sp_mixer_step_cuda_workspace(&a), SP_CUDA_F32);
    cuda_next_schedule();
    *ok = cuda_launched(sp_mixer_step_cuda(&a, work, NULL)) && *ok;
    *ok = *ok && cuda_padding_kept(a.y, n, a.d_inner, a.ldy);
    return a.y;
}

static void check_mixer(enum sp_cuda_type type, int n_case) {
    struct kernel_error y = {0}, conv = {0}, ssm = {0};
    bool ok = true, alone = true;
    for (int i = 0; i < n_case; i++) {
        struct mixer m;
        const int64_t taps[] = {check_random_int(1, SP_CONV_WIDTH_MAX), 4, 8}, d_conv = taps[i % 3];
        make_mixer(&m, check_random_int(1, SEQ_MAX), PICK(inners), d_conv, PICK(state_sizes),
                   PICK(ranks), type, (int)check_random() & 63);
        int64_t n = m.a.n_seq, n_conv = n * m.n_conv, n_ssm = n * m.n_ssm, d = m.a.d_inner;
        float *want_conv = kernel_copy(m.conv, n_conv), *want_ssm = kernel_copy(m.ssm, n_ssm);
        float *got_conv = kernel_copy(m.conv, n_conv), *got_ssm = kernel_copy(m.ssm, n_ssm);
        float *one_conv = kernel_copy(m.conv, n_conv), *one_ssm = kernel_copy(m.ssm, n_ssm);
        const float *want = plain_mixer(&m, want_conv, want_ssm);
        const float *got = device_mixer(&m, 0, n, got_conv, got_ssm, &ok);
        for (int64_t s = 0; s < n; s++) kernel_compare(&y, got + s * m.a.ldy, want + s * d, d);
        kernel_compare(&conv, got_conv, want_conv, n_conv);
        kernel_compare(&ssm, got_ssm, want_ssm, n_ssm);
        int64_t s = check_random_int(0, n - 1);
        const float *one = device_mixer(&m, s, 1, one_conv, one_ssm, &ok);
        alone = alone && kernel_same_bits(one, got + s * m.a.ldy, d) &&
                kernel_same_bits(one_ssm + s * m.n_ssm, got_ssm + s * m.n_ssm, m.n_ssm);
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    check_ok(ok, "mixer_step_cuda %s: %d cases run, nothing stored past a row", name, n_case);
    /* Rounding of what products read may differ by one where sums differ in the last bit. */
    double tolerance = type == SP_CUDA_F32 ? 2e-6 : 1e-3;
    check_ok(kernel_error(&y) < tolerance && kernel_error(&ssm) < tolerance,
             "mixer_step_cuda %s: y %.2g, states %.2g from plain C", name, kernel_error(&y),
             kernel_error(&ssm));
    check_ok(kernel_error(&conv) == 0, "mixer_step_cuda %s: convolution states to the bit", name);
    check_ok(alone, "mixer_step_cuda %s: a sequence alone has the bits it has among others", name);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++) {
        check_scan((enum sp_cuda_type)type, cuda_cases(21));
        check_mixer((enum sp_cuda_type)type, cuda_cases(type ? 10 : 20));
    }
    return check_end();
}
