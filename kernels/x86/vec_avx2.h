/* Eight floats at a time: what the kernels in *.inc.h are written in, for AVX2 with FMA.
 * vec_avx512.h is the same set for AVX-512. */
#ifndef SP_KERNELS_VEC_AVX2_H
#define SP_KERNELS_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define VEC_LANES 8
typedef __m256 vec;
typedef __m256i vec_mask;

static inline vec vec_zero(void) {
    return _mm256_setzero_ps();
}
static inline vec vec_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
static inline vec vec_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
static inline vec vec_sqrt(vec a) {
    return _mm256_sqrt_ps(a);
}
/* a * b + c and c - a * b, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}
/* Where b is NaN the result is b. */
static inline vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}
/* -|a| */
static inline vec vec_minus_abs(vec a) {
    return _mm256_or_ps(a, _mm256_set1_ps(-0.0f));
}
/* yes where a >= 0, no elsewhere and where a is NaN */
static inline vec vec_if_positive(vec a, vec yes, vec no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GE_OQ));
}

/* Memory: whole vectors, or only the lanes of a mask, the rest being zero or left alone. */
static inline vec_mask vec_first(int64_t n) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > VEC_LANES ? VEC_LANES : (int)n), lane);
}
static inline vec vec_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vec_store(float *p, vec a) {
    _mm256_storeu_ps(p, a);
}
static inline vec vec_load_mask(const float *p, vec_mask m) {
    return _mm256_maskload_ps(p, m);
}
static inline void vec_store_mask(float *p, vec_mask m, vec a) {
    _mm256_maskstore_ps(p, m, a);
}

/* Asks for the cache line of p[offset], which may lie past the end: nothing is read. */
static inline void vec_prefetch(const float *p, int64_t offset) {
    _mm_prefetch((const char *)((uintptr_t)p + (uint64_t)offset * sizeof *p), _MM_HINT_T0);
}
/* The last act of every kernel: code without VEX instructions is slowed down many times by upper
 * halves left in use, and gcc 12 forgets the instruction where vectors are passed to functions. */
static inline void vec_done(void) {
    _mm256_zeroupper();
}
/* bfloat16 is the upper half of a float. */
static inline vec vec_load_bf16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline vec vec_load_bf16_first(const uint16_t *p, int64_t n) {
    uint16_t part[VEC_LANES] = {0};
    for (int64_t i = 0; i < n && i < VEC_LANES; i++) part[i] = p[i];
    return vec_load_bf16(part);
}
/* To nearest even; NaN stays NaN. */
static inline void vec_store_bf16_first(uint16_t *p, int64_t n, vec a) {
    __m256i u = _mm256_castps_si256(a);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x00400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    up = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
    uint16_t part[VEC_LANES];
    _mm_storeu_si128((__m128i *)(n >= VEC_LANES ? p : part), half);
    for (int64_t i = 0; n < VEC_LANES && i < n; i++) p[i] = part[i];
}

static inline vec vec_round(vec t) {
    return _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p * 2^n for an integer n in [-250, 250], rounded once; denormal results included. In two
 * factors, as 2^n itself may not be a normal number. */
static inline vec vec_scale(vec p, vec n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), one = _mm256_set1_epi32(127);
    __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    __m256i b = _mm256_slli_epi32(_mm256_add_epi32(rest, one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}

/* The nearest integer n and the fraction t - n, for a power of 2. */
static inline vec vec_split(vec t, vec *fraction) {
    vec n = vec_round(t);
    *fraction = _mm256_sub_ps(t, n);
    return n;
}
/* p * 2^n for n <= 126 and p = 2^fraction of vec_split, where denormal results may be 0: n is added
 * to the exponent. NaN is not less than anything and stays. */
static inline vec vec_join(vec p, vec n) {
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    vec product = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    return _mm256_and_ps(product, _mm256_cmp_ps(n, _mm256_set1_ps(-125), _CMP_NLT_UQ));
}

/* Always in the same order, so that a sum has one value. */
static inline float vec_sum(vec a) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float vec_largest(vec a) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

/* Lane i is the sum over the lanes of r[i]; r is used up. */
static inline vec vec_sums(vec r[VEC_LANES]) {
    for (int i = 0; i < 4; i++)
        r[i] = _mm256_add_ps(_mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]),
                             _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]));
    for (int i = 0; i < 2; i++) {
        __m256d a = _mm256_castps_pd(r[2 * i]), b = _mm256_castps_pd(r[2 * i + 1]);
        r[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    return _mm256_add_ps(_mm256_permute2f128_ps(r[0], r[1], 0x20),
                         _mm256_permute2f128_ps(r[0], r[1], 0x31));
}

/* r[i] lane j becomes r[j] lane i. */
static inline void vec_transpose(vec r[VEC_LANES]) {
    vec s[VEC_LANES];
    for (int i = 0; i < 8; i += 4) { /* 4 x 4 blocks, inside each half */
        __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
        __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
        __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
        s[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        s[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        s[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        s[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) { /* the halves themselves */
        r[i] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
    }
}

#endif
