/* Tensors: element types, checked sizes, aligned memory, conversion between float formats. */
#include "statepipe.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[SP_DTYPE_COUNT] = {
    [SP_F32] = {"f32", 4}, [SP_F16] = {"f16", 2}, [SP_BF16] = {"bf16", 2},
    [SP_I8] = {"i8", 1},   [SP_U8] = {"u8", 1},   [SP_I32] = {"i32", 4},
    [SP_U32] = {"u32", 4}, [SP_I64] = {"i64", 8}, [SP_U64] = {"u64", 8},
};

size_t sp_dtype_size(enum sp_dtype dtype) {
    return (unsigned)dtype < SP_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

const char *sp_dtype_name(enum sp_dtype dtype) {
    return (unsigned)dtype < SP_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

bool sp_tensor_bytes(enum sp_dtype dtype, uint32_t rank, const uint64_t *dim, size_t *n_bytes) {
    uint64_t n = sp_dtype_size(dtype);
    if (n == 0 || rank > SP_TENSOR_RANK_MAX) return false;
    /* A zero anywhere makes the product zero, but must not hide an overflow of the others. */
    bool empty = false;
    for (uint32_t i = 0; i < rank; i++) {
        if (dim[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(n, dim[i], &n))
            return false;
    }
    if (n > SIZE_MAX) return false;
    *n_bytes = empty ? 0 : (size_t)n;
    return true;
}

enum sp_code sp_tensor_new(struct sp_tensor *t, enum sp_dtype dtype, uint32_t rank,
                           const uint64_t *dim, struct sp_error *err) {
    *t = (struct sp_tensor){.dtype = dtype, .rank = rank, .owned = true};
    if (!sp_tensor_bytes(dtype, rank, dim, &t->n_bytes) || t->n_bytes > SP_TENSOR_BYTES_MAX) {
        *t = (struct sp_tensor){0};
        return sp_error_set(err, SP_E_DATA, "a tensor may have at most %zu bytes",
                            SP_TENSOR_BYTES_MAX);
    }
    if (rank) memcpy(t->dim, dim, rank * sizeof *dim);
    size_t rounded = (t->n_bytes / 64 + 1) * 64;
    t->data = aligned_alloc(64, rounded);
    if (t->data) return SP_OK;
    *t = (struct sp_tensor){0};
    return sp_error_set(err, SP_E_DEVICE, "out of memory for a tensor of %zu bytes", rounded);
}

void sp_tensor_clear(struct sp_tensor *t) {
    if (t->owned) free(t->data);
    *t = (struct sp_tensor){0};
}

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

float sp_f32_from_bf16(uint16_t x) {
    return float_of((uint32_t)x << 16);
}

uint16_t sp_bf16_from_f32(float x) {
    uint32_t u = bits_of(x);
    /* The payload of a NaN may lie in the half that is cut off: keep one bit of it. */
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

float sp_f32_from_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = (x >> 10) & 31, fraction = x & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f; /* exact: zero and subnormals */
    return sign ? -small : small;
}

uint16_t sp_f16_from_f32(float x) {
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 2^16 or more */
    if (a < 0x38800000u) {
        /* Subnormal in f16: adding 0.5 puts the last bit of the result at the last bit of the
         * float's fraction, and the addition rounds to nearest even. */
        return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - bits_of(0.5f)));
    }
    uint32_t rounded = a + 0xfffu + (a >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

void sp_tensor_to_f32(float *dst, const void *src, enum sp_dtype dtype, size_t n) {
    const uint16_t *half = src;
    if (dtype == SP_F32) {
        if (n) memcpy(dst, src, n * sizeof *dst);
    } else if (dtype == SP_BF16) {
        for (size_t i = 0; i < n; i++) dst[i] = sp_f32_from_bf16(half[i]);
    } else {
        for (size_t i = 0; i < n; i++) dst[i] = sp_f32_from_f16(half[i]);
    }
}

void sp_tensor_from_f32(void *dst, const float *src, enum sp_dtype dtype, size_t n) {
    uint16_t *half = dst;
    if (dtype == SP_F32) {
        if (n) memcpy(dst, src, n * sizeof *src);
    } else if (dtype == SP_BF16) {
        for (size_t i = 0; i < n; i++) half[i] = sp_bf16_from_f32(src[i]);
    } else {
        for (size_t i = 0; i < n; i++) half[i] = sp_f16_from_f32(src[i]);
    }
}
