/* The selective scan backward. Channels in the lanes as in scan_fwd. Chunk after chunk, the last
 * first: the states and decays of a chunk are computed again from the state before it and kept in
 * the caller's scratch, then the tokens are gone through in reverse. With dv the gradient of the
 * output before the gate, dh that of a state, e = exp(delta * A):
 *   dh += dv * C;  dC = sum_c dv * h;  dB = sum_c dh * delta * x
 *   dx = dv * D + delta * sum_n dh * B
 *   ddelta = x * sum_n dh * B + sum_n dh * e * h_before * A;  dA = sum_t dh * e * h_before * delta
 *   dh_before = dh * e */

enum { SCAN_GRAD_AHEAD = 4 }; /* tokens to ask for in advance: rows are pages apart */

struct scan_grad_block {
    _Alignas(64) vec A[SP_SCAN_STATE_MAX]; /* times log2(e) */
    vec dh[SP_SCAN_STATE_MAX], dA[SP_SCAN_STATE_MAX];
    vec D, dt_bias, dD, ddt_bias;
    vec_mask mask;
    int64_t c, n_channel;
    /* Of the chunk's tokens; dsoftplus is d delta / d dt. */
    vec x[SP_SCAN_CHUNK], delta[SP_SCAN_CHUNK], dsoftplus[SP_SCAN_CHUNK], dv[SP_SCAN_CHUNK];
    float *h, *decay; /* (SP_SCAN_CHUNK + 1, d_state), (SP_SCAN_CHUNK, d_state) vectors */
};

static void scan_grad_start(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq,
                            int64_t c, int64_t c1, struct scan_grad_block *b) {
    const float *dstate_out = g->dstate_out ? g->dstate_out[seq] : NULL;
    int64_t d_state = a->d_state;
    b->c = c;
    b->n_channel = c1 - c;
    b->mask = vec_first(c1 - c);
    b->D = a->D ? vec_load_mask(a->D + c, b->mask) : vec_zero();
    b->dt_bias = a->dt_bias ? vec_load_mask(a->dt_bias + c, b->mask) : vec_zero();
    b->dD = b->ddt_bias = vec_zero();
    rows_load(b->A, a->A + c * d_state, b->n_channel, d_state);
    rows_load(b->dh, dstate_out ? dstate_out + c * d_state : NULL, dstate_out ? b->n_channel : 0,
              d_state);
    for (int64_t n = 0; n < d_state; n++) {
        b->A[n] = vec_mul(b->A[n], vec_set(LOG2E));
        b->dA[n] = vec_zero();
    }
    /* whole cache lines: the scratch has room for it, sp_scan_bwd_scratch */
    b->h = (float *)(((uintptr_t)g->scratch + 63) / 64 * 64);
    b->decay = b->h + (SP_SCAN_CHUNK + 1) * d_state * VEC_LANES;
}

static void scan_grad_finish(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq,
                             const struct scan_grad_block *b) {
    float *dstate_in = g->dstate_in ? g->dstate_in[seq] : NULL;
    int64_t d_state = a->d_state;
    rows_add(g->dA + b->c * d_state, b->dA, b->n_channel, d_state);
    if (dstate_in) rows_store(dstate_in + b->c * d_state, b->dh, b->n_channel, d_state);
    if (g->dD) {
        vec before = vec_load_mask(g->dD + b->c, b->mask);
        vec_store_mask(g->dD + b->c, b->mask, vec_add(before, b->dD));
    }
    if (g->ddt_bias) {
        vec before = vec_load_mask(g->ddt_bias + b->c, b->mask);
        vec_store_mask(g->ddt_bias + b->c, b->mask, vec_add(before, b->ddt_bias));
    }
}

/* Token i of the chunk, t of all, forward again: its states and decays, and dz. */
static void scan_grad_again(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t t,
                            int64_t i, struct scan_grad_block *b) {
    const float *B = a->B + t * a->ldb, *C = a->C + t * a->ldc;
    float *h = b->h + i * a->d_state * VEC_LANES, *next = h + a->d_state * VEC_LANES;
    float *decays = b->decay + i * a->d_state * VEC_LANES;
    vec_prefetch(a->x, (t + SCAN_GRAD_AHEAD) * a->ldx + b->c);
    vec_prefetch(a->dt, (t + SCAN_GRAD_AHEAD) * a->lddt + b->c);
    if (a->z) vec_prefetch(a->z, (t + SCAN_GRAD_AHEAD) * a->ldz + b->c);
    vec_prefetch(g->dy, (t + SCAN_GRAD_AHEAD) * g->lddy + b->c);
    if (a->z) vec_prefetch(g->dz, (t + SCAN_GRAD_AHEAD) * g->lddz + b->c);
    vec x = b->x[i] = vec_load_mask(a->x + t * a->ldx + b->c, b->mask);
    vec u = vec_add(vec_load_mask(a->dt + t * a->lddt + b->c, b->mask), b->dt_bias);
    vec delta = b->delta[i] = vec_softplus(u), dx = vec_mul(delta, x), v = vec_mul(b->D, x);
    b->dsoftplus[i] = vec_sigmoid(u);
    for (int64_t n = 0; n < a->d_state; n++) {
        vec decay = vec_decay(vec_mul(delta, b->A[n]));
        vec state = vec_fma(decay, vec_load(h + n * VEC_LANES), vec_mul(dx, vec_set(B[n])));
        vec_store(next + n * VEC_LANES, state);
        vec_store(decays + n * VEC_LANES, decay);
        v = vec_fma(vec_set(C[n]), state, v);
    }
    vec dv = vec_load_mask(g->dy + t * g->lddy + b->c, b->mask);
    if (a->z) {
        vec z = vec_load_mask(a->z + t * a->ldz + b->c, b->mask), gate = vec_sigmoid(z);
        vec slope = vec_mul(gate, vec_fma(z, vec_sub(vec_set(1), gate), vec_set(1)));
        vec_store_mask(g->dz + t * g->lddz + b->c, b->mask, vec_mul(vec_mul(dv, v), slope));
        dv = vec_mul(dv, vec_mul(z, gate));
    }
    b->dv[i] = dv;
}

/* Adds the sums of VEC_LANES vectors over their lanes to n numbers. */
static void scan_grad_add(float *to, int64_t n, vec r[VEC_LANES]) {
    vec_mask mask = vec_first(n);
    vec_store_mask(to, mask, vec_add(vec_load_mask(to, mask), vec_sums(r)));
}

/* The same token backward. */
static void scan_grad_token(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t t,
                            int64_t i, struct scan_grad_block *b) {
    int64_t d_state = a->d_state;
    const float *B = a->B + t * a->ldb, *C = a->C + t * a->ldc;
    const float *h = b->h + i * d_state * VEC_LANES, *next = h + d_state * VEC_LANES;
    const float *decays = b->decay + i * d_state * VEC_LANES;
    vec_prefetch(g->dx, (t - SCAN_GRAD_AHEAD) * g->lddx + b->c);
    vec_prefetch(g->ddt, (t - SCAN_GRAD_AHEAD) * g->lddt + b->c);
    vec dv = b->dv[i], delta = b->delta[i], x = b->x[i], dx = vec_mul(delta, x);
    vec sum_B = vec_zero(), sum_A = vec_zero();
    for (int64_t n0 = 0; n0 < d_state; n0 += VEC_LANES) {
        int64_t left = d_state - n0 < VEC_LANES ? d_state - n0 : VEC_LANES;
        vec dB[VEC_LANES], dC[VEC_LANES];
        for (int64_t j = left; j < VEC_LANES; j++) dB[j] = dC[j] = vec_zero();
        for (int64_t j = 0; j < left; j++) {
            int64_t n = n0 + j;
            vec dh = vec_fma(dv, vec_set(C[n]), b->dh[n]);
            dC[j] = vec_mul(dv, vec_load(next + n * VEC_LANES));
            dB[j] = vec_mul(dh, dx);
            sum_B = vec_fma(dh, vec_set(B[n]), sum_B);
            vec before = vec_mul(dh, vec_load(decays + n * VEC_LANES));
            vec inner = vec_mul(before, vec_load(h + n * VEC_LANES));
            sum_A = vec_fma(inner, b->A[n], sum_A);
            b->dA[n] = vec_fma(inner, delta, b->dA[n]);
            b->dh[n] = before;
        }
        scan_grad_add(g->dB + t * d_state + n0, left, dB);
        scan_grad_add(g->dC + t * d_state + n0, left, dC);
    }
    vec ddelta = vec_fma(x, sum_B, vec_mul(sum_A, vec_set(LN2)));
    vec ddt = vec_mul(ddelta, b->dsoftplus[i]);
    vec_store_mask(g->ddt + t * g->lddt + b->c, b->mask, ddt);
    vec_store_mask(g->dx + t * g->lddx + b->c, b->mask, vec_fma(delta, sum_B, vec_mul(dv, b->D)));
    b->dD = vec_fma(dv, x, b->dD);
    b->ddt_bias = vec_add(b->ddt_bias, ddt);
}

static void scan_bwd(const struct sp_scan *a, const struct sp_scan_grad *g, int64_t seq, int64_t c0,
                     int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    int64_t n_chunk = (len + SP_SCAN_CHUNK - 1) / SP_SCAN_CHUNK;
    struct scan_grad_block b;
    for (int64_t c = c0; c < c1; c += VEC_LANES) {
        scan_grad_start(a, g, seq, c, c1, &b);
        for (int64_t chunk = n_chunk - 1; chunk >= 0; chunk--) {
            int64_t t = chunk * SP_SCAN_CHUNK, row = a->cu_chunks[seq] + chunk;
            int64_t n_tok = len - t < SP_SCAN_CHUNK ? len - t : SP_SCAN_CHUNK;
            vec state[SP_SCAN_STATE_MAX];
            rows_load(state, a->chunk_state + (row * a->d_inner + c) * a->d_state, b.n_channel,
                      a->d_state);
            for (int64_t n = 0; n < a->d_state; n++) vec_store(b.h + n * VEC_LANES, state[n]);
            for (int64_t i = 0; i < n_tok; i++) scan_grad_again(a, g, start + t + i, i, &b);
            for (int64_t i = n_tok - 1; i >= 0; i--) scan_grad_token(a, g, start + t + i, i, &b);
        }
        scan_grad_finish(a, g, seq, &b);
    }
    vec_done();
}
