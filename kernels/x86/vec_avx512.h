/* Sixteen floats at a time: what the kernels in *.inc.h are written in, for AVX-512 (F, BW, VL,
 * DQ). vec_avx2.h is the same set for AVX2. */
#ifndef SP_KERNELS_VEC_AVX512_H
#define SP_KERNELS_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define VEC_LANES 16
typedef __m512 vec;
typedef __mmask16 vec_mask;

static inline vec vec_zero(void) {
    return _mm512_setzero_ps();
}
static inline vec vec_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec vec_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
static inline vec vec_sqrt(vec a) {
    return _mm512_sqrt_ps(a);
}
/* a * b + c and c - a * b, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}
/* Where b is NaN the result is b. */
static inline vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
/* -|a| */
static inline vec vec_minus_abs(vec a) {
    return _mm512_or_ps(a, _mm512_set1_ps(-0.0f));
}
/* yes where a >= 0, no elsewhere and where a is NaN */
static inline vec vec_if_positive(vec a, vec yes, vec no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GE_OQ), no, yes);
}

/* Memory: whole vectors, or only the lanes of a mask, the rest being zero or left alone. */
static inline vec_mask vec_first(int64_t n) {
    uint32_t lanes = n >= VEC_LANES ? 0xffffu : (1u << n) - 1u;
    return (vec_mask)lanes;
}
static inline vec vec_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vec_store(float *p, vec a) {
    _mm512_storeu_ps(p, a);
}
static inline vec vec_load_mask(const float *p, vec_mask m) {
    return _mm512_maskz_loadu_ps(m, p);
}
static inline void vec_store_mask(float *p, vec_mask m, vec a) {
    _mm512_mask_storeu_ps(p, m, a);
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
static inline vec vec_load_bf16_first(const uint16_t *p, int64_t n) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vec_first(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline vec vec_load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* To nearest even; NaN stays NaN. */
static inline void vec_store_bf16_first(uint16_t *p, int64_t n, vec a) {
    __m512i u = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x00400000));
    up = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), up, quiet);
    _mm512_mask_cvtepi32_storeu_epi16(p, vec_first(n), _mm512_srli_epi32(up, 16));
}

static inline vec vec_round(vec t) {
    return _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p * 2^n for an integer n, rounded once; denormal results included. */
static inline vec vec_scale(vec p, vec n) {
    return _mm512_scalef_ps(p, n);
}
/* The nearest integer n and the fraction t - n, for a power of 2. */
static inline vec vec_split(vec t, vec *fraction) {
    *fraction = _mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_sub_ps(t, *fraction);
}
/* p * 2^n for n <= 126 and p = 2^fraction of vec_split, where denormal results may be 0. */
static inline vec vec_join(vec p, vec n) {
    return _mm512_scalef_ps(p, n);
}

/* Always in the same order, so that a sum has one value. */
static inline float vec_sum(vec a) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float vec_largest(vec a) {
    return _mm512_reduce_max_ps(a);
}

/* Lane i is the sum over the lanes of r[i]; r is used up. */
static inline vec vec_sums(vec r[VEC_LANES]) {
    for (int i = 0; i < 8; i++)
        r[i] = _mm512_add_ps(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]),
                             _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_castps_pd(r[2 * i]), b = _mm512_castps_pd(r[2 * i + 1]);
        r[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int n = 2; n > 0; n /= 2) /* each quarter of r[i] holds a part of four sums */
        for (int i = 0; i < n; i++)
            r[i] = _mm512_add_ps(_mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x88),
                                 _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xdd));
    return r[0];
}

/* r[i] lane j becomes r[j] lane i. */
static inline void vec_transpose(vec r[VEC_LANES]) {
    vec s[VEC_LANES];
    for (int i = 0; i < 16; i += 4) { /* 4 x 4 blocks, inside each quarter */
        __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        s[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        s[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        s[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        s[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) { /* the quarters themselves */
        vec a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88);
        vec b = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
        vec c = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
        vec d = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif
