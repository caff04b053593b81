/* The CUDA kernels that training and choosing tokens need beside the mixer's, under the emulator:
 * AdamW, sum of squares, conversions, bias, the product of few rows, the best logits. */
#include "check_cuda.h"

static const int64_t widths[] = {1, 3, 4, 31, 96, 130, 1024, 1028, 1099, 5000};
#define PICK(list) (list[check_random() % (sizeof(list) / sizeof(list[0]))])

static void check_adamw(void) {
    struct kernel_error e = {0};
    bool ok = true, tail = true;
    for (int i = 0; i < cuda_cases(12); i++) {
        int64_t n = PICK(widths), off = i % 2; /* an odd start takes the narrow path */
        struct sp_adamw want = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
        want.weight_decay = 0.1f;
        want.bias1 = 1 - powf(0.9f, 3);
        want.bias2 = 1 - powf(0.99f, 3);
        want.grad_scale = 0.5f;
        float *p = kernel_random(n + off + 1, -1, 1), *m = kernel_random(n + off, -1, 1),
              *v = kernel_random(n + off, 0, 1);
        want.grad = kernel_random(n + off, -1, 1) + off;
        struct sp_adamw a = want;
        want.param = p + off;
        want.m = m + off;
        want.v = v + off;
        a.param = kernel_copy(p, n + off + 1) + off;
        a.m = kernel_copy(m, n + off) + off;
        a.v = kernel_copy(v, n + off) + off;
        kernel_state.path[0].adamw(&want, 0, n);
        cuda_next_schedule();
        ok = cuda_launched(sp_adamw_cuda(&a, n, NULL)) && ok;
        kernel_compare(&e, a.param, want.param, n);
        kernel_compare(&e, a.m, want.m, n);
        kernel_compare(&e, a.v, want.v, n);
        tail = tail && a.param[n] == p[off + n];
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&e) < 1e-7, "adamw_cuda: %.2g from plain C", kernel_error(&e));
    check_ok(tail, "adamw_cuda: nothing past the end");
}

static void check_squares(void) {
    bool ok = true, same = true;
    double worst = 0;
    for (int i = 0; i < cuda_cases(8); i++) {
        int64_t n = i == 7 ? 20000 : i == 6 ? 0 : PICK(widths);
        float *x = kernel_random(n + 1, -3, 3) + i % 2;
        double want = 0, first = 0;
        for (int64_t j = 0; j < n; j++) want += (double)x[j] * (double)x[j];
        for (int again = 0; again < 2; again++) {
            double *work = cuda_output(2 * sp_sum_squares_cuda_workspace(n), SP_CUDA_F32);
            double *out = cuda_output(2, SP_CUDA_F32);
            cuda_next_schedule();
            ok = cuda_launched(sp_sum_squares_cuda(x, n, work, out, NULL)) && ok;
            worst = kernel_worst(worst, fabs(*out - want) / (want > 0 ? want : 1));
            same = same && (again == 0 || *out == first);
            first = *out;
        }
        kernel_end_case();
    }
    check_ok(ok && worst < 1e-13, "sum_squares_cuda: %.2g from double precision", worst);
    check_ok(same, "sum_squares_cuda: the same bits in every schedule");
}

/* From each type to each: the values that the narrower one holds, rounded as the CPU rounds. */
static void check_convert(enum sp_cuda_type from, enum sp_cuda_type to) {
    bool ok = true;
    for (int i = 0; i < cuda_cases(4); i++) {
        int64_t d = PICK(widths), n_row = check_random_int(1, 4), ld = d + i % 2 * 8, ld_to = d + 3;
        float *x = kernel_random(n_row * ld, -9, 9);
        x[0] = 70000; /* infinity as f16 */
        const void *typed = cuda_typed(x, n_row * ld, from);
        if (i % 2) ld_to = ld;
        void *y = cuda_output(n_row * ld_to, to);
        cuda_next_schedule();
        ok = cuda_launched(sp_convert_cuda(y, to, ld_to, typed, from, ld, n_row, d, NULL)) && ok;
        float *got = cuda_to_floats(y, n_row * ld_to, to);
        cuda_typed(x, n_row * ld, to);
        for (int64_t r = 0; r < n_row; r++)
            ok = ok && kernel_same_bits(got + r * ld_to, x + r * ld, d);
        ok = ok && cuda_padding_kept(got, n_row, d, ld_to);
        kernel_end_case();
    }
    check_ok(ok, "convert_cuda: %s to %s as the CPU rounds, nothing past a row",
             cuda_type_name[from], cuda_type_name[to]);
}

static void check_bias(void) {
    bool ok = true;
    for (int i = 0; i < cuda_cases(6); i++) {
        int64_t d = PICK(widths), n_row = check_random_int(1, 5), ld = d + i % 3;
        float *y = kernel_random(n_row * ld, -1, 1), *bias = kernel_random(d, -1, 1);
        float *want = kernel_copy(y, n_row * ld);
        for (int64_t r = 0; r < n_row; r++)
            for (int64_t c = 0; c < d; c++) want[r * ld + c] += bias[c];
        cuda_next_schedule();
        ok = cuda_launched(sp_add_bias_cuda(y, ld, n_row, d, bias, NULL)) && ok;
        ok = ok && kernel_same_bits(y, want, n_row * ld);
        kernel_end_case();
    }
    check_ok(ok, "add_bias_cuda: the bits of plain C");
}

/* Also that a row has the same bits alone as among others. */
static void check_matvec(enum sp_cuda_type type) {
    struct kernel_error e = {0};
    bool ok = true, alone = true;
    for (int i = 0; i < cuda_cases(12); i++) {
        int64_t d_in = PICK(widths) % 1100, d_out = check_random_int(1, 9), pad = i % 3 * 4;
        struct sp_cuda_matvec a = {.w_type = type, .d_in = d_in, .d_out = d_out};
        a.ldw = d_in + pad;
        a.ldx = d_in + pad;
        a.ldy = d_out + i % 2;
        a.n_row = check_random_int(1, 10);
        a.add = i % 4 == 3;
        a.round_x = i % 2;
        float *w = kernel_random(d_out * a.ldw, -1, 1), *x = kernel_random(a.n_row * a.ldx, -1, 1);
        a.w = cuda_typed(w, d_out * a.ldw, type);
        a.bias = i % 5 ? kernel_random(d_out, -1, 1) : NULL;
        float *before = kernel_random(a.n_row * a.ldy, -1, 1);
        float *want = kernel_copy(before, a.n_row * a.ldy), *one = kernel_copy(before, a.ldy);
        a.x = x;
        a.y = kernel_copy(before, a.n_row * a.ldy);
        cuda_next_schedule();
        ok = cuda_launched(sp_matvec_cuda(&a, NULL)) && ok;
        if (a.round_x) {
            a.x = kernel_copy(x, a.n_row * a.ldx);
            cuda_typed(x, a.n_row * a.ldx, type);
        }
        for (int64_t r = 0; r < a.n_row; r++)
            for (int64_t o = 0; o < d_out; o++) {
                double sum = a.bias ? (double)a.bias[o] : 0;
                for (int64_t c = 0; c < d_in; c++)
                    sum += (double)w[o * a.ldw + c] * (double)x[r * a.ldx + c];
                float *y = &want[r * a.ldy + o];
                *y = (float)(sum + (a.add ? (double)*y : 0));
            }
        kernel_compare(&e, a.y, want, a.n_row * a.ldy);
        float *all = a.y;
        a.y = one;
        a.n_row = 1;
        cuda_next_schedule();
        ok = cuda_launched(sp_matvec_cuda(&a, NULL)) && ok;
        alone = alone && kernel_same_bits(one, all, a.ldy);
        kernel_end_case();
    }
    check_ok(ok && kernel_error(&e) < 1e-6, "matvec_cuda %s: %.2g from double precision",
             cuda_type_name[type], kernel_error(&e));
    check_ok(alone, "matvec_cuda %s: a row alone has the bits it has among others",
             cuda_type_name[type]);
}

static const float *sort_row;
static int by_value(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = sort_row[i], y = sort_row[j];
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y) ? (i < j ? -1 : 1) : isnan(x) ? 1 : -1;
    return x != y ? (x > y ? -1 : 1) : i < j ? -1 : 1;
}

/* Many equal values, all the best in one thread's share, infinities and NaN. */
static void check_top_k(void) {
    bool ok = true;
    for (int i = 0; i < cuda_cases(16); i++) {
        int64_t n = PICK(widths), ld = n + i % 3, n_row = check_random_int(1, 2);
        int64_t k = check_random_int(1, n < 40 ? n : 40);
        float *x = kernel_random(n_row * ld, -9, 9);
        for (int64_t j = 0; j < n_row * ld; j++) {
            if (i % 4 == 1) x[j] = roundf(x[j]);
            if (i % 4 == 2 && j % 1024 < 4) x[j] += 100;
            if (i % 4 == 3 && j % 3 < 2) x[j] = j % 3 ? NAN : j % 2 ? -INFINITY : INFINITY;
        }
        if (i % 5 == 0) k = 1;
        if (i == 6) k = n < SP_CUDA_TOP_MAX ? n : SP_CUDA_TOP_MAX;
        float *value = cuda_output(n_row * k, SP_CUDA_F32);
        uint32_t *id = cuda_output(n_row * k, SP_CUDA_F32), *order = kernel_alloc(n, sizeof *order);
        cuda_next_schedule();
        ok = cuda_launched(sp_top_k_cuda(x, ld, n_row, n, k, value, id, NULL)) && ok;
        for (int64_t r = 0; r < n_row; r++) {
            for (int64_t j = 0; j < n; j++) order[j] = (uint32_t)j;
            sort_row = x + r * ld;
            qsort(order, (size_t)n, sizeof *order, by_value);
            ok = ok && memcmp(order, id + r * k, (size_t)k * sizeof *id) == 0;
            for (int64_t j = 0; j < k; j++)
                ok = ok && kernel_same_bits(&value[r * k + j], &sort_row[order[j]], 1);
        }
        kernel_end_case();
    }
    check_ok(ok, "top_k_cuda: the order of a sort, equal ones by id, NaN last");
}

static void check_log_sum_exp(void) {
    double worst = 0;
    bool ok = true;
    for (int i = 0; i < cuda_cases(8); i++) {
        int64_t n = PICK(widths), ld = n + i % 3 * 2, n_row = check_random_int(1, 3);
        float *x = kernel_random(n_row * ld, -40, 40), *out = cuda_output(n_row, SP_CUDA_F32);
        if (i % 2) x[0] = -INFINITY;
        cuda_next_schedule();
        ok = cuda_launched(sp_log_sum_exp_cuda(x, ld, n_row, n, out, NULL)) && ok;
        for (int64_t r = 0; r < n_row; r++) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++) sum += exp((double)x[r * ld + j]);
            if (sum > 0)
                worst = kernel_worst(worst, fabs(log(sum) - (double)out[r]));
            else
                ok = ok && isinf(out[r]) && out[r] < 0;
        }
        kernel_end_case();
    }
    check_ok(ok && worst < 1e-5, "log_sum_exp_cuda: %.2g from double precision", worst);
}

int main(int argc, char **argv) {
    kernel_start(argc, argv);
    check_adamw();
    check_squares();
    for (int from = 0; from < CUDA_N_TYPE; from++)
        for (int to = 0; to < CUDA_N_TYPE; to++)
            check_convert((enum sp_cuda_type)from, (enum sp_cuda_type)to);
    check_bias();
    for (int type = 0; type < CUDA_N_TYPE; type++) check_matvec((enum sp_cuda_type)type);
    check_top_k();
    check_log_sum_exp();
    return check_end();
}
