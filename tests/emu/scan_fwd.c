/* The CUDA selective scan forward under the emulator: against the plain C path and a
 * double-precision oracle, in every type, and the invariants that states rest on. */
#include "../check/kernel_scan.h"
#include "check_cuda.h"

static const int64_t lengths[] = {0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 130};
static const int64_t inners[] = {1, 4, 7, 16, 31, 32, 36, 70};
static const int64_t state_sizes[] = {1, 4, 5, 8, 16, 17, 24};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

struct outcome {
    float *y, *state, *chunk;
    bool ok;
};

/* The case on the emulated device, cut into segments (0: not); its inputs are rounded to `type` or
 * part_type first. */
static struct outcome run_cut(struct scan_case *s, enum sp_cuda_type type,
                              enum sp_cuda_type part_type, bool in_place, int64_t segment) {
    struct sp_scan a = scan_args(s);
    int64_t wide = s->n_tok * a.ldy, n_len = 0;
    a.x = cuda_typed(a.x, wide, type);
    a.dt = cuda_typed(a.dt, wide, part_type);
    a.z = cuda_typed(a.z, wide, type);
    a.B = cuda_typed(a.B, s->n_tok * a.ldb, part_type);
    a.C = cuda_typed(a.C, s->n_tok * a.ldc, part_type);
    struct outcome o = {.state = cuda_output(a.n_seq * s->n_state, SP_CUDA_F32),
                        .chunk = cuda_output(s->n_chunk * s->n_state, SP_CUDA_F32)};
    float *state_out[SCAN_SEQ_MAX];
    for (int64_t i = 0; i < a.n_seq; i++) {
        state_out[i] = o.state + i * s->n_state;
        if (in_place && a.state_in) {
            memcpy(state_out[i], a.state_in[i], (size_t)s->n_state * sizeof(float));
        }
        int64_t len = a.cu_seqlens[i + 1] - a.cu_seqlens[i];
        n_len = len > n_len ? len : n_len;
    }
    a.state_out = state_out;
    if (in_place && a.state_in) a.state_in = (const float *const *)state_out;
    a.y = cuda_output(wide, type);
    if (in_place) a.y = (float *)(uintptr_t)(n_len % 2 || !a.z ? a.x : a.z);
    a.chunk_state = o.chunk;
    cuda_next_schedule();
    int error;
    if (segment > 0) {
        float *work = cuda_output(sp_scan_split_cuda_workspace(&a, s->n_tok, segment), SP_CUDA_F32);
        error = sp_scan_split_cuda(&a, type, part_type, s->n_tok, n_len, segment, work, NULL);
    } else {
        error = sp_scan_fwd_cuda(&a, type, part_type, n_len, NULL);
    }
    o.ok = cuda_launched(error);
    o.y = cuda_to_floats(a.y, wide, type);
    if (!in_place) o.ok = o.ok && cuda_padding_kept(o.y, s->n_tok, a.d_inner, a.ldy);
    return o;
}

static struct outcome run(struct scan_case *s, enum sp_cuda_type type, bool in_place) {
    return run_cut(s, type, type, in_place, 0);
}

/* Rows of length ld against dense rows in double precision. */
static void compare_rows(struct kernel_error *e, const float *y, int64_t ld, const double *want,
                         int64_t n_row, int64_t n_col) {
    for (int64_t i = 0; i < n_row * n_col; i++) {
        double d = (double)y[i / n_col * ld + i % n_col] - want[i];
        e->diff += isnan(d) ? INFINITY : d * d;
        e->norm += want[i] * want[i];
    }
}
static void compare_oracle(struct kernel_error e[2], const struct scan_case *s,
                           const struct outcome *o) {
    double *h = kernel_alloc(s->n_state, sizeof *h);
    for (int64_t seq = 0; seq < s->a.n_seq; seq++) {
        int64_t start = s->cu_seqlens[seq], len = s->cu_seqlens[seq + 1] - start;
        double *y = kernel_alloc(len * s->a.d_inner, sizeof *y);
        for (int64_t i = 0; i < s->n_state; i++)
            h[i] = s->a.state_in ? (double)s->state_in[seq][i] : 0;
        scan_oracle(s, seq, y, h);
        compare_rows(&e[0], o->y + start * s->a.ldy, s->a.ldy, y, len, s->a.d_inner);
        compare_rows(&e[1], o->state + seq * s->n_state, s->n_state, h, 1, s->n_state);
    }
}

static void random_case(struct scan_case *s, bool most_states) {
    int64_t n_seq = check_random_int(1, 4), len[4];
    for (int i = 0; i < 4; i++) len[i] = PICK(lengths);
    const bool wide = check_random() % 5 < 2; /* as accesses of 16 bytes want it */
    int64_t pad = check_random_int(0, 2) * (wide ? 8 : 2);
    int64_t d_state = wide ? 4 * check_random_int(1, 6) : PICK(state_sizes);
    scan_make(s, n_seq, len, wide ? 8 * check_random_int(1, 9) : PICK(inners),
              most_states ? SP_SCAN_STATE_MAX : d_state, (int)(check_random() % SCAN_N_OPTIONS),
              pad);
}

static void check_random_shapes(enum sp_cuda_type type, int n_case) {
    struct kernel_error oracle[2] = {0}, chunk = {0}, plain = {0};
    bool launched = true;
    for (int i = 0; i < n_case; i++) {
        struct scan_case s;
        random_case(&s, i == 7);
        struct outcome o = run(&s, type, false);
        struct scan_result r = scan_forward(&kernel_state.path[0], &s, s.a.d_inner);
        launched = launched && o.ok;
        compare_oracle(oracle, &s, &o);
        kernel_compare(&chunk, o.chunk, r.chunk, s.n_chunk * s.n_state);
        kernel_compare(&plain, o.state, r.state, s.a.n_seq * s.n_state);
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    check_ok(launched, "scan_fwd_cuda %s: %d cases run, nothing stored past a row", name, n_case);
    check_ok(kernel_error(&oracle[0]) < cuda_tolerance[type],
             "scan_fwd_cuda %s: y %.2g from double precision", name, kernel_error(&oracle[0]));
    check_ok(kernel_error(&oracle[1]) < 1e-6,
             "scan_fwd_cuda %s: final states %.2g from double precision", name,
             kernel_error(&oracle[1]));
    check_ok(kernel_error(&plain) < 1e-6, "scan_fwd_cuda %s: final states %.2g from plain C", name,
             kernel_error(&plain));
    check_ok(kernel_error(&chunk) < 1e-6, "scan_fwd_cuda %s: chunk states %.2g from plain C", name,
             kernel_error(&chunk));
}

/* The same bits whatever the schedule, and where y is x or z and the state one buffer. */
static void check_schedules(void) {
    bool same = true, place = true;
    for (int i = 0; i < cuda_cases(6); i++) {
        struct scan_case s;
        random_case(&s, false);
        struct outcome first = run(&s, SP_CUDA_F32, false);
        for (int j = 0; j < 2; j++) {
            struct outcome o = run(&s, SP_CUDA_F32, false);
            same = same && o.ok && kernel_same_bits(o.state, first.state, s.a.n_seq * s.n_state);
            for (int64_t t = 0; t < s.n_tok; t++)
                same =
                    same && kernel_same_bits(o.y + t * s.a.ldy, first.y + t * s.a.ldy, s.a.d_inner);
        }
        struct outcome o = run(&s, SP_CUDA_F32, true);
        place = place && o.ok && kernel_same_bits(o.state, first.state, s.a.n_seq * s.n_state);
        for (int64_t t = 0; t < s.n_tok; t++)
            place =
                place && kernel_same_bits(o.y + t * s.a.ldy, first.y + t * s.a.ldy, s.a.d_inner);
        kernel_end_case();
    }
    check_ok(same, "scan_fwd_cuda: the same bits in every schedule");
    check_ok(place, "scan_fwd_cuda: y in x's or z's place, states in place");
}

/* A document in two parts through its state is the document in one, up to rounding; and what is
 * packed beside it changes no bit of it, whatever tiles the others need. */
static void check_states(void) {
    static const int64_t middle[] = {10, 16, 17, 30, 97};
    struct kernel_error e = {0};
    bool alone = true, ok = true;
    for (int i = 0; i < cuda_cases(10); i++) {
        struct scan_case s;
        int64_t n = middle[i % 5], len[3] = {PICK(lengths), n, PICK(lengths)};
        int64_t cut = check_random_int(1, n - 1);
        scan_make(&s, 3, len, PICK(inners), PICK(state_sizes), i % 8, 0);
        struct outcome whole = run(&s, SP_CUDA_F32, false);
        struct sp_scan a = scan_args(&s);
        int64_t ends[2] = {s.cu_seqlens[1], s.cu_seqlens[2]};
        float *y = cuda_output(s.n_tok * a.ldy, SP_CUDA_F32), *state = kernel_floats(s.n_state);
        const float *from = a.state_in ? a.state_in[1] : NULL;
        for (int part = 0; part < 3; part++) { /* alone; then its two parts */
            int64_t part_ends[2] = {part == 2 ? ends[0] + cut : ends[0],
                                    part == 1 ? ends[0] + cut : ends[1]};
            a.n_seq = 1;
            a.cu_seqlens = part_ends;
            const float *before = part == 2 ? state : from;
            a.state_in = &before;
            a.state_out = &state;
            a.y = y;
            cuda_next_schedule();
            int64_t part_len = part_ends[1] - part_ends[0];
            ok =
                cuda_launched(sp_scan_fwd_cuda(&a, SP_CUDA_F32, SP_CUDA_F32, part_len, NULL)) && ok;
            if (part == 0)
                alone = kernel_same_bits(state, whole.state + s.n_state, s.n_state) && alone &&
                        kernel_same_bits(y + ends[0] * a.ldy, whole.y + ends[0] * a.ldy, n * a.ldy);
        }
        kernel_compare(&e, state, whole.state + s.n_state, s.n_state);
        kernel_compare(&e, y + ends[0] * a.ldy, whole.y + ends[0] * a.ldy, n * a.ldy);
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&e) < 1e-6, "scan_fwd_cuda: in two parts %.2g from in one",
             kernel_error(&e));
    check_ok(alone, "scan_fwd_cuda: packing changes no bit");
}

/* Sequences cut into segments, beside some that are not: the same as in one piece up to rounding,
 * to the bit where a sequence has no whole segment, in every schedule the same bits. */
static void check_split(enum sp_cuda_type type, enum sp_cuda_type part_type, int n_case) {
    static const int64_t longer[] = {63, 64, 65, 127, 128, 129, 200, 257};
    struct kernel_error oracle[2] = {0}, chunk = {0};
    bool ok = true, same = true, uncut = true;
    for (int i = 0; i < n_case; i++) {
        struct scan_case s;
        int64_t segment = 64 * (1 + i % 2);
        int64_t len[3] = {PICK(longer), i % 2 ? 15 : 60, PICK(longer)};
        scan_make(&s, check_random_int(1, 3), len, PICK(inners), PICK(state_sizes),
                  i % SCAN_N_OPTIONS, i % 3 * 2);
        struct outcome o = run_cut(&s, type, part_type, false, segment);
        struct outcome again = run_cut(&s, type, part_type, i % 2, segment);
        struct outcome whole = run_cut(&s, type, part_type, false, 0);
        struct scan_result r = scan_forward(&kernel_state.path[0], &s, s.a.d_inner);
        ok = ok && o.ok && again.ok && whole.ok;
        compare_oracle(oracle, &s, &o);
        kernel_compare(&chunk, o.chunk, r.chunk, s.n_chunk * s.n_state);
        same = same && kernel_same_bits(o.state, again.state, s.a.n_seq * s.n_state);
        for (int64_t t = 0; t < s.n_tok; t++)
            same = same && kernel_same_bits(o.y + t * s.a.ldy, again.y + t * s.a.ldy, s.a.d_inner);
        for (int64_t q = 0; q < s.a.n_seq; q++)
            if (len[q] < segment)
                uncut = uncut && kernel_same_bits(o.state + q * s.n_state,
                                                  whole.state + q * s.n_state, s.n_state);
        kernel_end_case();
    }
    const char *name = cuda_type_name[type];
    const char *with = part_type == type ? "" : " with dt, B, C in f32";
    check_ok(ok && kernel_error(&oracle[0]) < cuda_tolerance[type] &&
                 kernel_error(&oracle[1]) < 1e-6,
             "scan_split_cuda %s%s: y %.2g, final states %.2g from double precision", name, with,
             kernel_error(&oracle[0]), kernel_error(&oracle[1]));
    check_ok(kernel_error(&chunk) < 1e-6, "scan_split_cuda %s%s: chunk states %.2g from plain C",
             name, with, kernel_error(&chunk));
    check_ok(same, "scan_split_cuda %s%s: the same bits in every schedule, also in place", name,
             with);
    check_ok(uncut, "scan_split_cuda %s%s: what is not cut has the bits it has in one piece", name,
             with);
}

/* Tokens [first, end) of the case's only sequence, from `from` into state and y; false: it failed.
 */
static bool run_part(const struct scan_case *s, int64_t first, int64_t end, int64_t segment,
                     const float *from, float *state, float *y) {
    struct sp_scan a = scan_args(s);
    const int64_t ends[2] = {first, end}, n_tok = end - first;
    a.cu_seqlens = ends;
    a.state_in = &from;
    a.state_out = &state;
    a.y = y;
    cuda_next_schedule();
    if (segment == 0)
        return cuda_launched(sp_scan_fwd_cuda(&a, SP_CUDA_F32, SP_CUDA_F32, n_tok, NULL));
    float *work = cuda_output(sp_scan_split_cuda_workspace(&a, n_tok, segment), SP_CUDA_F32);
    return cuda_launched(
        sp_scan_split_cuda(&a, SP_CUDA_F32, SP_CUDA_F32, n_tok, n_tok, segment, work, NULL));
}

/* A document that is cut where its pieces may be cut keeps its bits, whatever tiles its end takes;
 * aligned, as others have one tile only. */
static void check_cuts(void) {
    static const int64_t rests[] = {0, 1, 15, 16, 17, 31, 32, 33, 63};
    bool same[2] = {true, true}, ok = true;
    for (int i = 0; i < cuda_cases(12); i++) {
        struct scan_case s;
        int64_t segment = i % 2 * 64, unit = 64, whole = check_random_int(1, 3) * unit;
        int64_t len = whole + PICK(rests), cut = check_random_int(1, whole / unit) * unit;
        scan_make(&s, 1, &len, 16 * check_random_int(1, 3), 8, i % SCAN_N_OPTIONS, 0);
        float *y[2] = {cuda_output(len * s.a.ldy, SP_CUDA_F32),
                       cuda_output(len * s.a.ldy, SP_CUDA_F32)};
        float *state[2] = {kernel_floats(s.n_state), kernel_floats(s.n_state)};
        const float *from = s.a.state_in ? s.state_in[0] : NULL;
        ok = run_part(&s, 0, len, segment, from, state[0], y[0]) && ok;
        ok = run_part(&s, 0, cut, segment, from, state[1], y[1]) && ok;
        if (cut < len) ok = run_part(&s, cut, len, segment, state[1], state[1], y[1]) && ok;
        same[segment > 0] = same[segment > 0] && kernel_same_bits(y[0], y[1], len * s.a.ldy) &&
                            kernel_same_bits(state[0], state[1], s.n_state);
        kernel_end_case();
    }
    check_ok(ok && same[0], "scan_fwd_cuda: cut at a multiple of %d tokens, the same bits",
             SP_SCAN_CHUNK);
    check_ok(ok && same[1], "scan_split_cuda: cut at a multiple of its segment, the same bits");
}

/* The largest state asks for more shared memory than a kernel gets unasked on most devices; A and
 * chunk states and all options absent. */
static void check_large_state(void) {
    struct kernel_error e[2] = {0};
    struct scan_case s;
    int64_t len = 20;
    scan_make(&s, 1, &len, 34, SP_SCAN_STATE_MAX, 0, 2);
    struct outcome o = run(&s, SP_CUDA_F32, false);
    compare_oracle(e, &s, &o);
    kernel_end_case();
    check_ok(o.ok && kernel_error(&e[0]) < 1e-6 && kernel_error(&e[1]) < 1e-6,
             "scan_fwd_cuda: d_state %d: %.2g from double precision", SP_SCAN_STATE_MAX,
             kernel_error(&e[0]));
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    for (int type = 0; type < CUDA_N_TYPE; type++)
        check_random_shapes((enum sp_cuda_type)type, cuda_cases(type == 0 ? 24 : 9));
    check_schedules();
    check_states();
    for (int type = 0; type < CUDA_N_TYPE; type++)
        check_split((enum sp_cuda_type)type, (enum sp_cuda_type)type,
                    cuda_cases(type == 0 ? 12 : 4));
    check_split(SP_CUDA_BF16, SP_CUDA_F32, cuda_cases(4));
    check_cuts();
    check_large_state();
    return check_end();
}
