/* exp, softplus and the logistic function on vectors. Included after vec_*.h.
 *
 * Polynomials: minimax fits of relative error, made by Lawson's algorithm with the coefficients
 * rounded to float one after the other, lowest order first (tests/golden/make_minimax.py). */

#define LOG2E 0x1.715476p+0f /* log2(e), and what rounding took from it: */
#define LOG2E_REST 0x1.4ae0c0p-26f
#define LN2 0x1.62e430p-1f

/* 2^f for |f| <= 1/2, 1 at 0; 3.0e-9 from the true value. */
static inline vec exp2_fraction(vec f) {
    vec p = vec_fma(vec_set(0x1.416b5cp-13f), f, vec_set(0x1.5f0830p-10f));
    p = vec_fma(p, f, vec_set(0x1.3b2de0p-7f));
    p = vec_fma(p, f, vec_set(0x1.c6af7cp-5f));
    p = vec_fma(p, f, vec_set(0x1.ebfbdcp-3f));
    p = vec_fma(p, f, vec_set(0x1.62e430p-1f));
    return vec_fma(p, f, vec_set(1));
}

/* e^x, within 1.02 ULP (checked for every float, kernel_vector --exhaustive); denormal
 * results are rounded like all others, NaN stays. Out of range x is moved to where the result is 0
 * or infinity anyway, because infinity minus itself is NaN. */
static inline vec vec_exp(vec x) {
    x = vec_min(vec_set(89), vec_max(vec_set(-105), x));
    vec n = vec_round(vec_mul(x, vec_set(LOG2E)));
    vec f = vec_fma(x, vec_set(LOG2E), vec_sub(vec_zero(), n)); /* exact, but for LOG2E */
    f = vec_fma(x, vec_set(LOG2E_REST), f);
    return vec_scale(exp2_fraction(f), n);
}

/* log(1 + w) = w * P(w) for 0 <= w <= 1, plus c; P is 5.3e-9 from the true value. */
static inline vec vec_log1p_add(vec w, vec c) {
    vec p = vec_fma(vec_set(-0x1.af49cep-9f), w, vec_set(0x1.4917cep-6f));
    p = vec_fma(p, w, vec_set(-0x1.d6b08cp-5f));
    p = vec_fma(p, w, vec_set(0x1.b4ae08p-4f));
    p = vec_fma(p, w, vec_set(-0x1.3a435ep-3f));
    p = vec_fma(p, w, vec_set(0x1.934b54p-3f));
    p = vec_fma(p, w, vec_set(-0x1.ff23e6p-3f));
    p = vec_fma(p, w, vec_set(0x1.554dd0p-2f));
    p = vec_fma(p, w, vec_set(-0x1.ffffd2p-2f));
    p = vec_fma(p, w, vec_set(1));
    return vec_fma(p, w, c);
}

/* log(1 + e^u) = max(u, 0) + log(1 + e^-|u|), within 3 ULP: no guard is needed, as above 20 the
 * second term is lost in rounding. */
static inline vec vec_softplus(vec u) {
    return vec_log1p_add(vec_exp(vec_minus_abs(u)), vec_max(vec_zero(), u));
}

/* 1 / (1 + e^-u), within 3 ULP. */
static inline vec vec_sigmoid(vec u) {
    vec e = vec_exp(vec_minus_abs(u));
    return vec_div(vec_if_positive(u, vec_set(1), e), vec_add(vec_set(1), e));
}

/* 2^t for t <= 126, where denormal results may be 0: the decay of the scan. Rounding t does no more
 * harm than rounding delta * A does before any exp. */
static inline vec vec_decay(vec t) {
    vec f, n = vec_split(t, &f);
    return vec_join(exp2_fraction(f), n);
}
