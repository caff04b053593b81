/* Products with few rows, bound by reading w once. Included once for each type of w, with
 *   MATVEC(name)                        the name of a function for this type
 *   MATVEC_WEIGHT                       the type
 *   MATVEC_LOAD(p), MATVEC_FIRST(p, n)  a vector of weights, the first n of one
 * Four outputs at a time are enough to keep as many bytes under way as the memory gives, and their
 * weights stay in the first-level cache for the other rows of x. Every sum has its own accumulator,
 * so its bits depend on neither the number of rows nor the range of outputs. */

/* How far ahead weights are asked for. The CPU's own prefetching stops at every 4 KiB and is slow
 * to start again: bf16 rows were read at 0.7 of the memory's bandwidth without this, at all of it
 * with. */
#ifndef MATVEC_AHEAD_BYTES
#define MATVEC_AHEAD_BYTES 8192
#define MATVEC_LINE_BYTES 64
#endif

static void MATVEC(dot4)(const MATVEC_WEIGHT *const w[4], const float *x, int64_t d_in,
                         float sum[4]) {
    vec s0 = vec_zero(), s1 = vec_zero(), s2 = vec_zero(), s3 = vec_zero();
    /* The four rows lie one behind another, but for a wider ldw. */
    uintptr_t ahead = (uintptr_t)w[0] + MATVEC_AHEAD_BYTES;
    const uintptr_t per_step = 4 * VEC_LANES * sizeof(MATVEC_WEIGHT);
    int64_t k = 0;
    for (; k + VEC_LANES <= d_in; k += VEC_LANES) {
        vec value = vec_load(x + k);
        for (uintptr_t end = ahead + per_step; ahead < end; ahead += MATVEC_LINE_BYTES)
            __builtin_prefetch((const void *)ahead);
        s0 = vec_fma(MATVEC_LOAD(w[0] + k), value, s0);
        s1 = vec_fma(MATVEC_LOAD(w[1] + k), value, s1);
        s2 = vec_fma(MATVEC_LOAD(w[2] + k), value, s2);
        s3 = vec_fma(MATVEC_LOAD(w[3] + k), value, s3);
    }
    if (k < d_in) {
        int64_t n = d_in - k;
        vec value = vec_load_mask(x + k, vec_first(n));
        s0 = vec_fma(MATVEC_FIRST(w[0] + k, n), value, s0);
        s1 = vec_fma(MATVEC_FIRST(w[1] + k, n), value, s1);
        s2 = vec_fma(MATVEC_FIRST(w[2] + k, n), value, s2);
        s3 = vec_fma(MATVEC_FIRST(w[3] + k, n), value, s3);
    }
    sum[0] = vec_sum(s0);
    sum[1] = vec_sum(s1);
    sum[2] = vec_sum(s2);
    sum[3] = vec_sum(s3);
}

static void MATVEC(matvec)(const MATVEC_WEIGHT *w, int64_t ldw, const float *x, int64_t ldx,
                           int64_t n_row, int64_t d_in, const float *bias, float *y, int64_t ldy,
                           int64_t o0, int64_t o1, int add) {
    for (int64_t o = o0; o < o1; o += 4) {
        int64_t n_out = o1 - o < 4 ? o1 - o : 4;
        const MATVEC_WEIGHT *row[4]; /* the last output again where there are no four */
        for (int64_t i = 0; i < 4; i++) row[i] = w + (o + (i < n_out ? i : n_out - 1)) * ldw;
        for (int64_t r = 0; r < n_row; r++) {
            float sum[4], *to = y + r * ldy + o;
            MATVEC(dot4)(row, x + r * ldx, d_in, sum);
            for (int64_t i = 0; i < n_out; i++) {
                if (add) {
                    to[i] += sum[i];
                } else {
                    to[i] = sum[i] + (bias ? bias[o + i] : 0);
                }
            }
        }
    }
    vec_done();
}

#undef MATVEC
#undef MATVEC_WEIGHT
#undef MATVEC_LOAD
#undef MATVEC_FIRST
