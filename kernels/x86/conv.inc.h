/* Causal convolution and SiLU. As in ref/conv_ref.c, the rows of the state and of x are one
 * sequence of extended rows: token t reads rows t .. t + d_conv - 1 of it. The lanes of a vector
 * are channels; CONV_GROUP vectors go through the tokens together, to use more of a row (a page).
 */

enum { CONV_GROUP = 4, CONV_AHEAD = 4 }; /* vectors; tokens to ask for in advance */

struct conv_block {
    vec w[SP_CONV_WIDTH_MAX], bias;
    vec_mask mask;
    int64_t c;
    /* backward only */
    vec du[SP_CONV_WIDTH_MAX]; /* of the last d_conv tokens, see conv_bwd_row */
    vec dw[SP_CONV_WIDTH_MAX], dbias;
};

/* Fills the blocks of channels [c, c1); their number. */
static int64_t conv_blocks(const struct sp_conv *a, int64_t c, int64_t c1,
                           struct conv_block block[CONV_GROUP]) {
    int64_t n = 0;
    for (; n < CONV_GROUP && c < c1; n++, c += VEC_LANES) {
        struct conv_block *b = &block[n];
        b->c = c;
        b->mask = vec_first(c1 - c);
        b->bias = a->bias ? vec_load_mask(a->bias + c, b->mask) : vec_zero();
        b->dbias = vec_zero();
        rows_load(b->w, a->w + c * a->d_conv, c1 - c, a->d_conv);
        for (int64_t k = 0; k < a->d_conv; k++) b->du[k] = b->dw[k] = vec_zero();
    }
    return n;
}

/* Extended row e, or NULL: zeros. */
static const float *conv_row(const struct sp_conv *a, int64_t seq, int64_t e) {
    int64_t n_state = a->d_conv - 1;
    if (e >= n_state) return a->x + (a->cu_seqlens[seq] + e - n_state) * a->ldx;
    const float *state = a->state_in ? a->state_in[seq] : NULL;
    return state ? state + e * a->d_inner : NULL;
}

static vec conv_sum(const struct sp_conv *a, const float *const row[SP_CONV_WIDTH_MAX],
                    const struct conv_block *b) {
    vec u = b->bias;
    for (int64_t k = 0; k < a->d_conv; k++)
        if (row[k]) u = vec_fma(b->w[k], vec_load_mask(row[k] + b->c, b->mask), u);
    return u;
}

static void conv_final_state(const struct sp_conv *a, int64_t seq, int64_t c0, int64_t c1) {
    int64_t len = a->cu_seqlens[seq + 1] - a->cu_seqlens[seq];
    float *state = a->state_out ? a->state_out[seq] : NULL;
    if (!state) return;
    /* Upward, because the two states may be one buffer and row j comes from row j + len or x. */
    for (int64_t j = 0; j < a->d_conv - 1; j++) {
        const float *row = conv_row(a, seq, len + j);
        for (int64_t c = c0; c < c1; c += VEC_LANES) {
            vec_mask mask = vec_first(c1 - c);
            vec value = row ? vec_load_mask(row + c, mask) : vec_zero();
            vec_store_mask(state + j * a->d_inner + c, mask, value);
        }
    }
}

static void conv_fwd(const struct sp_conv *a, int64_t seq, int64_t c0, int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    struct conv_block block[CONV_GROUP];
    for (int64_t c = c0; c < c1; c += CONV_GROUP * VEC_LANES) {
        int64_t n_block = conv_blocks(a, c, c1, block);
        for (int64_t t = 0; t < len; t++) {
            const float *row[SP_CONV_WIDTH_MAX];
            for (int64_t k = 0; k < a->d_conv; k++) row[k] = conv_row(a, seq, t + k);
            for (int64_t i = 0; i < n_block; i++) {
                vec_prefetch(a->x, (start + t + CONV_AHEAD) * a->ldx + block[i].c);
                vec_prefetch(a->y, (start + t + CONV_AHEAD) * a->ldy + block[i].c);
                vec u = conv_sum(a, row, &block[i]);
                vec_store_mask(a->y + (start + t) * a->ldy + block[i].c, block[i].mask,
                               vec_mul(u, vec_sigmoid(u)));
            }
        }
    }
    conv_final_state(a, seq, c0, c1);
    vec_done();
}

/* Backward, extended row e after all later ones: it was read by the tokens e - d_conv + 1 .. e.
 * du[k] is the gradient of token e - k before SiLU, moved on by one from row to row; `from` and
 * `to` are the row's gradient from the final state and where the whole goes, or NULL. */
static void conv_bwd_row(const struct sp_conv *a, int64_t seq, int64_t e, const float *dy,
                         const float *from, float *to, struct conv_block *b) {
    int64_t last = a->d_conv - 1;
    for (int64_t k = 0; k < last; k++) b->du[k] = b->du[k + 1];
    b->du[last] = vec_zero();
    if (dy) {
        const float *row[SP_CONV_WIDTH_MAX];
        for (int64_t k = 0; k <= last; k++) row[k] = conv_row(a, seq, e - last + k);
        vec u = conv_sum(a, row, b), gate = vec_sigmoid(u);
        vec slope = vec_mul(gate, vec_fma(u, vec_sub(vec_set(1), gate), vec_set(1)));
        vec du = b->du[last] = vec_mul(vec_load_mask(dy + b->c, b->mask), slope);
        b->dbias = vec_add(b->dbias, du);
        for (int64_t k = 0; k <= last; k++)
            if (row[k]) b->dw[k] = vec_fma(du, vec_load_mask(row[k] + b->c, b->mask), b->dw[k]);
    }
    if (!to) return;
    vec sum = from ? vec_load_mask(from + b->c, b->mask) : vec_zero();
    for (int64_t k = 0; k <= last; k++) sum = vec_fma(b->w[k], b->du[k], sum);
    vec_store_mask(to + b->c, b->mask, sum);
}

static void conv_bwd_group(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq,
                           int64_t n_block, struct conv_block block[CONV_GROUP]) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    int64_t n_state = a->d_conv - 1;
    const float *dstate_out = g->dstate_out ? g->dstate_out[seq] : NULL;
    float *dstate_in = g->dstate_in ? g->dstate_in[seq] : NULL;
    for (int64_t e = len + n_state - 1; e >= 0; e--) {
        int64_t t = e - n_state; /* the earliest token that reads row e; row e is x[t] */
        const float *dy = t >= 0 ? g->dy + (start + t) * g->lddy : NULL;
        const float *from = dstate_out && e >= len ? dstate_out + (e - len) * a->d_inner : NULL;
        float *to = dstate_in ? dstate_in + e * a->d_inner : NULL;
        if (t >= 0) to = g->dx + (start + t) * g->lddx;
        for (int64_t i = 0; i < n_block; i++) {
            vec_prefetch(a->x, (start + t - a->d_conv - CONV_AHEAD) * a->ldx + block[i].c);
            vec_prefetch(g->dy, (start + t - CONV_AHEAD) * g->lddy + block[i].c);
            vec_prefetch(g->dx, (start + t - CONV_AHEAD) * g->lddx + block[i].c);
            conv_bwd_row(a, seq, e, dy, from, to, &block[i]);
        }
    }
}

static void conv_bwd(const struct sp_conv *a, const struct sp_conv_grad *g, int64_t seq, int64_t c0,
                     int64_t c1) {
    struct conv_block block[CONV_GROUP];
    for (int64_t c = c0; c < c1; c += CONV_GROUP * VEC_LANES) {
        int64_t n_block = conv_blocks(a, c, c1, block);
        conv_bwd_group(a, g, seq, n_block, block);
        for (int64_t i = 0; i < n_block; i++) {
            struct conv_block *b = &block[i];
            rows_add(g->dw + b->c * a->d_conv, b->dw, c1 - b->c, a->d_conv);
            if (!g->dbias) continue;
            vec dbias = vec_load_mask(g->dbias + b->c, b->mask);
            vec_store_mask(g->dbias + b->c, b->mask, vec_add(dbias, b->dbias));
        }
    }
    vec_done();
}
