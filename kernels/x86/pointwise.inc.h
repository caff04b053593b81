/* Runs of numbers: exp, rounding to bf16, sums of squares, AdamW, and the cross-entropy, which is
 * mostly exp. What is left over after whole vectors goes through the same instructions under a
 * mask, so that a number's result does not depend on its place in the run. */

/* vec_exp: within 1.02 ULP. */
static void vexp(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VEC_LANES) {
        vec_mask mask = vec_first(n - i);
        vec_store_mask(y + i, mask, vec_exp(vec_load_mask(x + i, mask)));
    }
    vec_done();
}

static void to_bf16(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VEC_LANES)
        vec_store_bf16_first(y + i, n - i, vec_load_mask(x + i, vec_first(n - i)));
    vec_done();
}

/* Long sums go on in double after this many numbers. */
enum { SUM_RUN = 1024 };

static double sum_squares(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t run = 0; run < n; run += SUM_RUN) {
        int64_t end = n - run < SUM_RUN ? n : run + SUM_RUN;
        vec part = vec_zero();
        for (int64_t i = run; i < end; i += VEC_LANES) {
            vec value = vec_load_mask(x + i, vec_first(end - i));
            part = vec_fma(value, value, part);
        }
        sum += (double)vec_sum(part);
    }
    vec_done();
    return sum;
}

static void adamw(const struct sp_adamw *a, int64_t i0, int64_t i1) {
    vec beta1 = vec_set(a->beta1), beta2 = vec_set(a->beta2), eps = vec_set(a->eps);
    vec rest1 = vec_set(1 - a->beta1), rest2 = vec_set(1 - a->beta2);
    vec bias1 = vec_set(a->bias1), bias2 = vec_set(a->bias2);
    for (int64_t i = i0; i < i1; i += VEC_LANES) {
        vec_mask mask = vec_first(i1 - i);
        vec param = vec_load_mask(a->param + i, mask);
        vec grad = vec_mul(vec_load_mask(a->grad + i, mask), vec_set(a->grad_scale));
        vec m = vec_fma(beta1, vec_load_mask(a->m + i, mask), vec_mul(rest1, grad));
        vec v = vec_fma(beta2, vec_load_mask(a->v + i, mask), vec_mul(rest2, vec_mul(grad, grad)));
        vec step = vec_div(vec_div(m, bias1), vec_add(vec_sqrt(vec_div(v, bias2)), eps));
        step = vec_fma(vec_set(a->weight_decay), param, step);
        vec_store_mask(a->param + i, mask, vec_fnma(vec_set(a->lr), step, param));
        vec_store_mask(a->m + i, mask, m);
        vec_store_mask(a->v + i, mask, v);
    }
    vec_done();
}

/* x[i] = exp(x[i] - top); the sum of them. */
static double xent_exp(float *x, int64_t n, float top) {
    double sum = 0;
    for (int64_t run = 0; run < n; run += SUM_RUN) {
        int64_t end = n - run < SUM_RUN ? n : run + SUM_RUN;
        vec part = vec_zero();
        for (int64_t i = run; i < end; i += VEC_LANES) {
            vec_mask mask = vec_first(end - i);
            vec_store_mask(x + i, mask, vec_exp(vec_sub(vec_load_mask(x + i, mask), vec_set(top))));
            part = vec_add(part, vec_load_mask(x + i, mask)); /* not the lanes past the end */
        }
        sum += (double)vec_sum(part);
    }
    return sum;
}

static float xent_top(const float *x, int64_t n) {
    vec top = vec_set(x[0]);
    int64_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) top = vec_max(top, vec_load(x + i));
    float largest = vec_largest(top);
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static void xent(const struct sp_xent *a, int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        float *x = a->logits + r * a->ldl;
        int32_t target = a->target[r];
        if (target < 0) {
            memset(x, 0, (size_t)a->n_class * sizeof *x);
            a->loss[r] = 0;
            continue;
        }
        float top = xent_top(x, a->n_class), shifted = x[target] - top;
        double sum = xent_exp(x, a->n_class, top);
        vec factor = vec_set((float)(1 / sum) * a->scale);
        for (int64_t i = 0; i < a->n_class; i += VEC_LANES) {
            vec_mask mask = vec_first(a->n_class - i);
            vec_store_mask(x + i, mask, vec_mul(vec_load_mask(x + i, mask), factor));
        }
        x[target] -= a->scale;
        a->loss[r] = (float)(log(sum) - (double)shifted);
    }
    vec_done();
}
