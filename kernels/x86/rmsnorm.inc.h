/* RMSNorm. The sum over a row is taken in VEC_LANES parts, always the same ones. */

static float rmsnorm_row_rstd(const struct sp_rmsnorm *a, int64_t r) {
    float *x = a->x + r * a->ldx;
    const float *residual = a->residual ? a->residual + r * a->ldr : NULL;
    vec sum = vec_zero();
    for (int64_t i = 0; i < a->d; i += VEC_LANES) {
        vec_mask mask = vec_first(a->d - i);
        vec value = vec_load_mask(x + i, mask);
        if (residual) {
            value = vec_add(value, vec_load_mask(residual + i, mask));
            vec_store_mask(x + i, mask, value);
        }
        sum = vec_fma(value, value, sum);
    }
    return (float)(1 / sqrt((double)vec_sum(sum) / (double)a->d + (double)a->eps));
}

static void rmsnorm_fwd(const struct sp_rmsnorm *a, int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        const float *x = a->x + r * a->ldx;
        float *y = a->y + r * a->ldy, rstd = rmsnorm_row_rstd(a, r);
        for (int64_t i = 0; i < a->d; i += VEC_LANES) {
            vec_mask mask = vec_first(a->d - i);
            vec value = vec_mul(vec_load_mask(x + i, mask), vec_set(rstd));
            if (a->w) value = vec_mul(value, vec_load_mask(a->w + i, mask));
            vec_store_mask(y + i, mask, value);
        }
        if (a->rstd) a->rstd[r] = rstd;
    }
    vec_done();
}

/* dy * w */
static vec rmsnorm_pull(const struct sp_rmsnorm *a, const float *dy, int64_t i, vec_mask mask) {
    vec u = vec_load_mask(dy + i, mask);
    return a->w ? vec_mul(u, vec_load_mask(a->w + i, mask)) : u;
}

static void rmsnorm_bwd(const struct sp_rmsnorm *a, const struct sp_rmsnorm_grad *g, int64_t r0,
                        int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        const float *x = a->x + r * a->ldx, *dy = g->dy + r * g->lddy;
        float *dx = g->dx + r * g->lddx, rstd = a->rstd[r];
        vec sum = vec_zero();
        for (int64_t i = 0; i < a->d; i += VEC_LANES) {
            vec_mask mask = vec_first(a->d - i);
            sum = vec_fma(rmsnorm_pull(a, dy, i, mask), vec_load_mask(x + i, mask), sum);
        }
        vec mean = vec_set((float)((double)vec_sum(sum) / (double)a->d) * rstd * rstd);
        for (int64_t i = 0; i < a->d; i += VEC_LANES) {
            vec_mask mask = vec_first(a->d - i);
            vec value = vec_load_mask(x + i, mask);
            vec d = vec_fnma(value, mean, rmsnorm_pull(a, dy, i, mask));
            vec_store_mask(dx + i, mask, vec_fma(vec_set(rstd), d, vec_load_mask(dx + i, mask)));
            if (!g->dw) continue;
            vec scaled = vec_mul(vec_load_mask(dy + i, mask), vec_mul(value, vec_set(rstd)));
            vec_store_mask(g->dw + i, mask, vec_add(vec_load_mask(g->dw + i, mask), scaled));
        }
    }
    vec_done();
}
