/* Products with few rows, bound by reading w once. Included once for each type of w, with
 *   MATVEC(name)                        the name of a function for this type
 *   MATVEC_WEIGHT                       the type
 *   MATVEC_LOAD(p), MATVEC_FIRST(p, n)  a vector of weights, the first n of one
 * For one row of x, one row of w at a time, so that the memory sees one stream; MATVEC_ROWS rows of
 * x share the weights of MATVEC_OUTS outputs in registers. Every sum has two accumulators of its
 * own, for the even and the odd vectors: its bits depend on neither the number of rows nor the
 * range of outputs, and the additions keep up with the memory. */

#ifndef MATVEC_ROWS
#define MATVEC_ROWS 4
#define MATVEC_OUTS (VEC_LANES == 16 ? 2 : 1) /* as many sums as there are registers for */
#define MATVEC_LINE_BYTES 64
#define MATVEC_EACH(i, n) _Pragma("GCC unroll 4") for (int i = 0; i < (n); i++)
/* How far ahead weights are asked for. Intel's own prefetching stops at every 4 KiB and is slow to
 * start again: on Sapphire Rapids bf16 rows were read at 0.7 of the memory's bandwidth without
 * asking, at all of it with. AMD's follows one stream across pages, and asking only disturbs it: on
 * Zen 4 rows were read at all of the bandwidth without, at 0.6 to 0.9 with. */
static inline uintptr_t matvec_ahead_bytes(void) {
    return __builtin_cpu_is("amd") ? 0 : 8192;
}
#endif

/* sum[o][r] = w[o] . x[r] for n_out rows of w and n_row of x, both constants where it is called. */
static inline __attribute__((always_inline)) void
MATVEC(dot)(const MATVEC_WEIGHT *w, int64_t ldw, int n_out, const float *x, int64_t ldx, int n_row,
            int64_t d_in, uintptr_t ahead, float sum[MATVEC_OUTS][MATVEC_ROWS]) {
    vec even[MATVEC_OUTS][MATVEC_ROWS], odd[MATVEC_OUTS][MATVEC_ROWS];
    MATVEC_EACH(o, n_out) MATVEC_EACH(r, n_row) even[o][r] = odd[o][r] = vec_zero();
    int64_t k = 0;
    for (; k + 2 * VEC_LANES <= d_in; k += 2 * VEC_LANES) {
        const MATVEC_WEIGHT *p = w + k;
        if (ahead)
            for (uintptr_t line = 0; line < 2 * VEC_LANES * sizeof *w; line += MATVEC_LINE_BYTES)
                __builtin_prefetch((const void *)((uintptr_t)p + ahead + line));
        MATVEC_EACH(o, n_out) {
            vec w0 = MATVEC_LOAD(p + o * ldw), w1 = MATVEC_LOAD(p + o * ldw + VEC_LANES);
            MATVEC_EACH(r, n_row) {
                even[o][r] = vec_fma(w0, vec_load(x + r * ldx + k), even[o][r]);
                odd[o][r] = vec_fma(w1, vec_load(x + r * ldx + k + VEC_LANES), odd[o][r]);
            }
        }
    }
    /* What is left, less than two vectors: the first of it is even, the rest odd. */
    const int64_t left = d_in - k, n0 = left < VEC_LANES ? left : VEC_LANES, n1 = left - n0;
    if (left > 0) {
        MATVEC_EACH(o, n_out) {
            vec w0 = MATVEC_FIRST(w + o * ldw + k, n0);
            MATVEC_EACH(r, n_row)
            even[o][r] = vec_fma(w0, vec_load_mask(x + r * ldx + k, vec_first(n0)), even[o][r]);
        }
    }
    if (n1 > 0) {
        k += VEC_LANES;
        MATVEC_EACH(o, n_out) {
            vec w1 = MATVEC_FIRST(w + o * ldw + k, n1);
            MATVEC_EACH(r, n_row)
            odd[o][r] = vec_fma(w1, vec_load_mask(x + r * ldx + k, vec_first(n1)), odd[o][r]);
        }
    }
    MATVEC_EACH(o, n_out)
    MATVEC_EACH(r, n_row) sum[o][r] = vec_sum(vec_add(even[o][r], odd[o][r]));
}

/* Rows [r0, r1) of x with n_out rows of w, in blocks of MATVEC_ROWS while there are as many. */
static inline __attribute__((always_inline)) void
MATVEC(outputs)(const MATVEC_WEIGHT *w, int64_t ldw, int n_out, const float *x, int64_t ldx,
                int64_t r0, int64_t r1, int64_t d_in, uintptr_t ahead, const float *bias, float *y,
                int64_t ldy, int add) {
    for (int64_t r = r0, n; r < r1; r += n) {
        float sum[MATVEC_OUTS][MATVEC_ROWS];
        n = r1 - r < MATVEC_ROWS ? 1 : MATVEC_ROWS;
        if (n == MATVEC_ROWS)
            MATVEC(dot)(w, ldw, n_out, x + r * ldx, ldx, MATVEC_ROWS, d_in, ahead, sum);
        else
            MATVEC(dot)(w, ldw, n_out, x + r * ldx, ldx, 1, d_in, ahead, sum);
        for (int o = 0; o < n_out; o++) {
            for (int64_t i = 0; i < n; i++) {
                float *to = y + (r + i) * ldy + o;
                *to = (add ? *to : bias ? bias[o] : 0) + sum[o][i];
            }
        }
        ahead = 0;
    }
}

static void MATVEC(matvec)(const MATVEC_WEIGHT *w, int64_t ldw, const float *x, int64_t ldx,
                           int64_t n_row, int64_t d_in, const float *bias, float *y, int64_t ldy,
                           int64_t o0, int64_t o1, int add) {
    const uintptr_t ahead = matvec_ahead_bytes();
    /* The first rows of x bring the weights, an output at a time; the others find them cached. */
    const int64_t rest = n_row % MATVEC_ROWS, first = rest ? rest : MATVEC_ROWS;
    for (int64_t o = o0; o < o1; o += MATVEC_OUTS) {
        int64_t n_out = o1 - o < MATVEC_OUTS ? o1 - o : MATVEC_OUTS;
        for (int64_t i = o; i < o + n_out; i++) MATVEC(outputs)
        (w + i * ldw, ldw, 1, x, ldx, 0, n_out < MATVEC_OUTS ? n_row : first, d_in, ahead,
         bias ? bias + i : NULL, y + i, ldy, add);
        if (n_out == MATVEC_OUTS) MATVEC(outputs)
        (w + o * ldw, ldw, MATVEC_OUTS, x, ldx, first, n_row, d_in, 0, bias ? bias + o : NULL,
         y + o, ldy, add);
    }
    vec_done();
}

#undef MATVEC
#undef MATVEC_WEIGHT
#undef MATVEC_LOAD
#undef MATVEC_FIRST
