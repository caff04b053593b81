/* Tensors: sizes that cannot overflow, memory that is aligned, conversions that are exact. */
#include "../../lib/statepipe.h"
#include "check.h"

#include <math.h>

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

/* By the definition of the format, in double. */
static double f16_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 0x3ff;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

static double bf16_value(uint16_t h) {
    int exponent = h >> 7 & 255, fraction = h & 0x7f;
    double v = exponent == 255 ? (fraction ? NAN : INFINITY)
               : exponent      ? ldexp(128 + fraction, exponent - 134)
                               : ldexp(fraction, -133);
    return h & 0x8000 ? -v : v;
}

static bool same_double(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static void check_widening(void) {
    int wrong16 = 0, wrong_b = 0, back16 = 0, back_b = 0;
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = sp_f32_from_f16(h), b = sp_f32_from_bf16(h);
        wrong16 += !same_double(f, f16_value(h));
        wrong_b += !same_double(b, bf16_value(h));
        back16 += isnan(f) ? !isnan(sp_f32_from_f16(sp_f16_from_f32(f))) : sp_f16_from_f32(f) != h;
        back_b +=
            isnan(b) ? !isnan(sp_f32_from_bf16(sp_bf16_from_f32(b))) : sp_bf16_from_f32(b) != h;
    }
    check_ok(wrong16 == 0, "widening: all 65536 f16 by the definition (%d wrong)", wrong16);
    check_ok(wrong_b == 0, "widening: all 65536 bf16 by the definition (%d wrong)", wrong_b);
    check_ok(back16 == 0 && back_b == 0, "widening: and back again (%d, %d wrong)", back16, back_b);
}

/* Is got the nearest of the format's numbers to x, the even one of two? next: one bit further from
 * zero; the largest finite one is followed by what would come, were there no infinity. */
static bool nearest(double x, uint16_t got, double (*value)(uint16_t), uint16_t infinity,
                    double beyond) {
    if (isnan(x)) return isnan(value(got));
    if ((x < 0 || (x == 0 && signbit(x))) != (got >> 15)) return false;
    uint16_t g = got & 0x7fff;
    if (g > infinity) return false;
    double a = fabs(x), at = g == infinity ? beyond : value(g);
    double above = g + 1 >= infinity ? beyond : value((uint16_t)(g + 1));
    double below = g ? value((uint16_t)(g - 1)) : 0;
    if (g == infinity) above = INFINITY;
    double error = fabs(a - at);
    if (g == infinity && isinf(a)) return true;
    if (g && (fabs(a - below) < error || (fabs(a - below) == error && g % 2))) return false;
    if (isinf(above)) return true;
    return fabs(a - above) > error || (fabs(a - above) == error && g % 2 == 0);
}

static void check_rounding(void) {
    int wrong16 = 0, wrong_b = 0;
    for (int i = 0; i < 2000000; i++) {
        uint32_t u = (uint32_t)check_random();
        if (i % 4 == 1) u = (u & 0x80000fffu) | (uint32_t)check_random_int(100, 145) << 23;
        if (i % 4 == 2) u = (u & 0xffff0000u) | 0x8000u;               /* a tie in bf16 */
        if (i % 4 == 3) u = (u & 0x8fffe000u) | 0x1000u | 0x38000000u; /* and in f16 */
        float x = float_of(u);
        wrong16 += !nearest(x, sp_f16_from_f32(x), f16_value, 0x7c00, 65536);
        wrong_b += !nearest(x, sp_bf16_from_f32(x), bf16_value, 0x7f80, 0x1p128);
    }
    check_ok(wrong16 == 0, "rounding: f16 is the nearest, ties to even (%d wrong)", wrong16);
    check_ok(wrong_b == 0, "rounding: bf16 is the nearest, ties to even (%d wrong)", wrong_b);
    check_ok(sp_f16_from_f32(65519.996f) == 0x7bff && sp_f16_from_f32(65520.f) == 0x7c00 &&
                 sp_f16_from_f32(0x1p-25f) == 0 && sp_f16_from_f32(0x1.8p-25f) == 1,
             "rounding: f16 at its largest and smallest");
    float nan_low = float_of(0x7f800001u);
    check_ok(isnan(sp_f32_from_bf16(sp_bf16_from_f32(nan_low))) &&
                 isnan(sp_f32_from_f16(sp_f16_from_f32(nan_low))),
             "rounding: a NaN whose payload is cut off stays NaN");
}

static void check_arrays(void) {
    enum { N = 1001 };
    float x[N], y[N];
    uint16_t b[N], h[N];
    bool ok = true;
    check_fill(x, N, -100, 100);
    for (int i = 0; i < N; i++) {
        b[i] = sp_bf16_from_f32(x[i]);
        h[i] = sp_f16_from_f32(x[i]);
    }
    sp_tensor_to_f32(y, x, SP_F32, N);
    ok = ok && memcmp(x, y, sizeof x) == 0;
    sp_tensor_to_f32(y, b, SP_BF16, N);
    for (int i = 0; i < N; i++) ok = ok && bits_of(y[i]) == bits_of(sp_f32_from_bf16(b[i]));
    sp_tensor_to_f32(y, h, SP_F16, N);
    for (int i = 0; i < N; i++) ok = ok && bits_of(y[i]) == bits_of(sp_f32_from_f16(h[i]));
    check_ok(ok, "arrays: f32, bf16 and f16 to f32, element by element");
}

static void check_sizes(void) {
    int wrong = 0;
    for (int i = 0; i < 200000; i++) {
        uint64_t dim[SP_TENSOR_RANK_MAX];
        uint32_t rank = (uint32_t)check_random_int(0, SP_TENSOR_RANK_MAX);
        enum sp_dtype dtype = (enum sp_dtype)check_random_int(0, SP_DTYPE_COUNT - 1);
        /* Products around 2^64 and far from it. */
        unsigned __int128 n = sp_dtype_size(dtype);
        bool too_big = false, zero = false;
        for (uint32_t d = 0; d < rank; d++) {
            dim[d] = check_random() >> check_random_int(0, 63);
            if (check_random_int(0, 30) == 0) dim[d] = 0;
            zero = zero || dim[d] == 0;
            if (dim[d]) n *= dim[d];
            if (n > UINT64_MAX) {
                too_big = true;
                n = 1;
            }
        }
        size_t got = 12345;
        bool ok = sp_tensor_bytes(dtype, rank, dim, &got);
        wrong += ok == too_big || (ok && got != (zero ? 0 : (size_t)n));
    }
    check_ok(wrong == 0, "sizes: as 128-bit products say (%d wrong)", wrong);
    size_t n;
    uint64_t one = 1;
    check_ok(!sp_tensor_bytes(SP_DTYPE_COUNT, 1, &one, &n) && !sp_tensor_bytes(SP_F32, 9, &one, &n),
             "sizes: no such type, no such rank");
}

static void check_memory(void) {
    struct sp_error err;
    struct sp_tensor t;
    bool ok = true;
    for (uint64_t n = 0; n < 200; n++) {
        ok = ok && !sp_tensor_new(&t, SP_U8, 1, &n, &err) && t.n_bytes == n && t.owned &&
             ((uintptr_t)t.data & 63) == 0 && t.dim[0] == n;
        memset(t.data, 1, (n / 64 + 1) * 64);
        sp_tensor_clear(&t);
        ok = ok && !t.data && !t.n_bytes;
    }
    check_ok(ok, "memory: 64-byte aligned, rounded up, cleared");
    uint64_t most = SP_TENSOR_BYTES_MAX, more = most + 1, huge[2] = {1ull << 40, 1ull << 40};
    check_ok(!sp_tensor_new(&t, SP_U8, 1, &most, &err), "memory: 64 MiB is allowed");
    sp_tensor_clear(&t);
    check_ok(sp_tensor_new(&t, SP_U8, 1, &more, &err) == SP_E_DATA && !t.data &&
                 sp_tensor_new(&t, SP_F32, 2, huge, &err) == SP_E_DATA && !t.data,
             "memory: more is refused: %s", err.msg);
    check_ok(!sp_tensor_new(&t, SP_F32, 0, NULL, &err) && t.n_bytes == 4, "memory: a scalar");
    sp_tensor_clear(&t);
    check_ok(strcmp(sp_dtype_name(SP_BF16), "bf16") == 0 && sp_dtype_size(SP_I64) == 8 &&
                 strcmp(sp_dtype_name(SP_DTYPE_COUNT), "unknown") == 0,
             "memory: names and sizes");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("widening")) check_widening();
    if (check_wanted("rounding")) check_rounding();
    if (check_wanted("arrays")) check_arrays();
    if (check_wanted("sizes")) check_sizes();
    if (check_wanted("memory")) check_memory();
    return check_end();
}
