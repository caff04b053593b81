/* Products against a double reference, and the promise that a row's bits depend on the row alone.
 */
#include "../../lib/gemm.h"
#include "check.h"

static struct sp_error err;
static struct sp_kernels kernels;

static float rounded(float x, bool half) {
    return half ? sp_f32_from_bf16(sp_bf16_from_f32(x)) : x;
}

struct shape {
    int64_t d_out, d_in;
};

static double worst_error(const float *w, const float *bias, const float *x, const float *y0,
                          const float *y, struct shape s, int64_t n_row, bool half) {
    double diff = 0, norm = 0;
    for (int64_t r = 0; r < n_row; r++) {
        for (int64_t o = 0; o < s.d_out; o++) {
            double sum = (bias ? bias[o] : 0) + (y0 ? y0[r * s.d_out + o] : 0);
            for (int64_t k = 0; k < s.d_in; k++)
                sum += (double)rounded(x[r * s.d_in + k], half) * rounded(w[o * s.d_in + k], half);
            double d = y[r * s.d_out + o] - sum;
            diff += d * d;
            norm += sum * sum;
        }
    }
    return __builtin_sqrt(diff / (norm > 0 ? norm : 1));
}

static float *floats(int64_t n) {
    float *x = aligned_alloc(64, ((size_t)n * sizeof(float) + 127) / 64 * 64);
    check_fill(x, n, -1, 1);
    return x;
}

static void check_value(struct sp_gemm *g, struct shape s, enum sp_dtype compute, bool with_bias,
                        bool add) {
    int64_t n_row = check_random_int(1, 200);
    float *w = floats(s.d_out * s.d_in), *bias = with_bias ? floats(s.d_out) : NULL;
    float *x = floats(n_row * s.d_in), *y = floats(n_row * s.d_out);
    float *y0 = floats(n_row * s.d_out);
    memcpy(y0, y, (size_t)(n_row * s.d_out) * sizeof(float));
    struct sp_packed *p;
    enum sp_code code = sp_packed_new(&p, g, w, SP_F32, s.d_out, s.d_in, bias, compute, &err);
    if (!code) code = sp_packed_run(p, x, s.d_in, n_row, y, s.d_out, add, &err);
    double e = code ? 1 : worst_error(w, bias, x, add ? y0 : NULL, y, s, n_row, compute == SP_BF16);
    check_ok(e < 1e-6, "value: %lld x %lld, %lld rows, %s%s%s: error %.2g %s", (long long)s.d_out,
             (long long)s.d_in, (long long)n_row, sp_dtype_name(compute), with_bias ? " bias" : "",
             add ? " add" : "", e, code ? err.msg : "");
    sp_packed_free(p);
    free(w), free(bias), free(x), free(y), free(y0);
}

/* The same rows alone, at every place of a tile, and in larger batches. */
static void check_rows(struct sp_gemm *g, struct shape s, enum sp_dtype compute, bool add) {
    enum { N = 3 * SP_GEMM_TILE };
    float *w = floats(s.d_out * s.d_in), *x = floats(N * s.d_in), *y0 = floats(N * s.d_out);
    float *all = floats(N * s.d_out), *some = floats(N * s.d_out);
    size_t bytes = (size_t)(N * s.d_out) * sizeof(float);
    struct sp_packed *p;
    enum sp_code code = sp_packed_new(&p, g, w, SP_F32, s.d_out, s.d_in, NULL, compute, &err);
    memcpy(all, y0, bytes);
    if (!code) code = sp_packed_run(p, x, s.d_in, N, all, s.d_out, add, &err);
    int64_t wrong = 0;
    for (int64_t first = 0; first < N && !code; first += check_random_int(1, 12)) {
        int64_t n = check_random_int(1, N - first);
        memcpy(some, y0 + first * s.d_out, (size_t)(n * s.d_out) * sizeof(float));
        code = sp_packed_run(p, x + first * s.d_in, s.d_in, n, some, s.d_out, add, &err);
        wrong += memcmp(some, all + first * s.d_out, (size_t)(n * s.d_out) * sizeof(float)) != 0;
    }
    check_ok(!code && wrong == 0, "rows: %lld x %lld, %s%s: bits do not depend on the batch%s",
             (long long)s.d_out, (long long)s.d_in, sp_dtype_name(compute), add ? " add" : "",
             code ? err.msg : "");
    sp_packed_free(p);
    free(w), free(x), free(y0), free(all), free(some);
}

/* Strided inputs and outputs give the bits of dense ones and leave what is between alone. */
static void check_strides(struct sp_gemm *g, enum sp_dtype compute) {
    struct shape s = {40, 36};
    enum { N = 100, LDX = 50, LDY = 61 };
    float *w = floats(s.d_out * s.d_in), *x = floats(N * LDX), *y = floats(N * LDY);
    float *dense_x = floats(N * s.d_in), *dense_y = floats(N * s.d_out);
    for (int64_t r = 0; r < N; r++)
        memcpy(dense_x + r * s.d_in, x + r * LDX, (size_t)s.d_in * sizeof(float));
    for (int64_t i = 0; i < N * LDY; i++) y[i] = 7;
    struct sp_packed *p;
    enum sp_code code = sp_packed_new(&p, g, w, SP_F32, s.d_out, s.d_in, NULL, compute, &err);
    if (!code) code = sp_packed_run(p, x, LDX, N, y, LDY, false, &err);
    if (!code) code = sp_packed_run(p, dense_x, s.d_in, N, dense_y, s.d_out, false, &err);
    bool same = !code, left = true;
    for (int64_t r = 0; r < N && same; r++) {
        same = memcmp(y + r * LDY, dense_y + r * s.d_out, (size_t)s.d_out * sizeof(float)) == 0;
        for (int64_t i = s.d_out; i < LDY; i++) left = left && y[r * LDY + i] == 7;
    }
    check_ok(same && left, "strides: %s", sp_dtype_name(compute));
    sp_packed_free(p);
    free(w), free(x), free(y), free(dense_x), free(dense_y);
}

static void check_plain(struct sp_gemm *g, struct sp_gemm *other) {
    for (int i = 0; i < 16; i++) {
        bool ta = i & 1, tb = i & 2, add = i & 4;
        int64_t m = check_random_int(1, 300), n = check_random_int(1, 300);
        int64_t k = check_random_int(1, 90);
        int64_t lda = (ta ? m : k) + check_random_int(0, 3);
        int64_t ldb = (tb ? k : n) + check_random_int(0, 3), ldc = n + check_random_int(0, 3);
        float *a = floats((ta ? k : m) * lda), *b = floats((tb ? n : k) * ldb);
        float *c = floats(m * ldc), *c0 = floats(m * ldc), *d = floats(m * ldc);
        memcpy(c, c0, (size_t)(m * ldc) * sizeof(float));
        memcpy(d, c0, (size_t)(m * ldc) * sizeof(float));
        enum sp_code code = sp_gemm_plain(g, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, add, &err);
        if (!code) code = sp_gemm_plain(other, ta, tb, m, n, k, a, lda, b, ldb, d, ldc, add, &err);
        double diff = 0, norm = 0;
        for (int64_t r = 0; r < m; r++) {
            for (int64_t o = 0; o < ldc; o++) {
                double sum = add || o >= n ? c0[r * ldc + o] : 0;
                for (int64_t j = 0; o < n && j < k; j++)
                    sum += (double)(ta ? a[j * lda + r] : a[r * lda + j]) *
                           (tb ? b[o * ldb + j] : b[j * ldb + o]);
                diff += (c[r * ldc + o] - sum) * (c[r * ldc + o] - sum);
                norm += sum * sum;
            }
        }
        double e = __builtin_sqrt(diff / norm);
        bool same = memcmp(c, d, (size_t)(m * ldc) * sizeof(float)) == 0;
        check_ok(!code && e < 1e-6 && same, "plain: %lld x %lld x %lld%s%s%s: error %.2g%s",
                 (long long)m, (long long)n, (long long)k, ta ? " at" : "", tb ? " bt" : "",
                 add ? " add" : "", e, same ? "" : ", bits depend on threads");
        free(a), free(b), free(c), free(c0), free(d);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    sp_kernels_init(&kernels);
    struct sp_pool *pool, *alone;
    struct sp_gemm *g, *single;
    if (sp_pool_new(&pool, 3, &err) || sp_gemm_new(&g, pool, &kernels, &err) ||
        sp_pool_new(&alone, 1, &err) || sp_gemm_new(&single, alone, &kernels, &err)) {
        check_ok(false, "start: %s", err.msg);
        return check_end();
    }
    static const struct shape shapes[] = {{1, 1},   {3, 1},     {5, 33},    {70, 33},  {140, 33},
                                          {80, 64}, {1536, 48}, {1000, 17}, {520, 130}};
    static const enum sp_dtype types[] = {SP_F32, SP_BF16};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int t = 0; t < 2; t++) {
            if (check_wanted("value")) check_value(g, shapes[i], types[t], i % 2, i / 2 % 2);
            if (check_wanted("value")) check_value(g, shapes[i], types[t], i / 2 % 2, !(i % 2));
            if (check_wanted("rows")) check_rows(g, shapes[i], types[t], i % 2);
        }
    }
    if (check_wanted("strides")) check_strides(g, SP_F32), check_strides(g, SP_BF16);
    if (check_wanted("plain")) check_plain(g, single);
    sp_gemm_free(g), sp_gemm_free(single);
    sp_pool_free(pool), sp_pool_free(alone);
    return check_end();
}
