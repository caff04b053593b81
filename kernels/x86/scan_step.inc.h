/* One token of the selective scan (decode). Here the states of one channel are the lanes of a
 * vector, as they lie in memory; only the new states are transposed, in registers, so that the sum
 * over them is taken in the order of scan_fwd and has its bits. */

/* What a block of channels reads and writes; rows of A and the states from its first channel. */
struct step_block {
    const float *A, *state_in;
    float *state_out;
    int64_t n_channel, d_state;
    _Alignas(64) float delta[VEC_LANES], dx[VEC_LANES];
};

/* The new states [n, n + VEC_LANES) of all channels, stored, and left in h transposed: h[i] is
 * state n + i. */
static void step_states(const struct step_block *b, int64_t n, const float *B, vec h[VEC_LANES]) {
    vec_mask mask = vec_first(b->d_state - n);
    vec input = vec_load_mask(B + n, mask);
    for (int64_t i = 0; i < VEC_LANES; i++) {
        int64_t at = i * b->d_state + n;
        h[i] = vec_zero();
        if (i >= b->n_channel) continue;
        if (b->state_in) h[i] = vec_load_mask(b->state_in + at, mask);
        vec A = vec_mul(vec_load_mask(b->A + at, mask), vec_set(LOG2E));
        vec decay = vec_decay(vec_mul(vec_set(b->delta[i]), A));
        h[i] = vec_fma(decay, h[i], vec_mul(vec_set(b->dx[i]), input));
        if (b->state_out) vec_store_mask(b->state_out + at, mask, h[i]);
    }
    vec_transpose(h);
}

static void step_channels(const struct sp_scan *a, int64_t t, int64_t c, struct step_block *b) {
    struct scan_channels channels = scan_channels_at(a, c, b->n_channel);
    struct scan_input in = scan_read(a, t, c, &channels);
    vec_store(b->delta, in.delta);
    vec_store(b->dx, in.dx);
    vec y = in.skip;
    for (int64_t n = 0; n < b->d_state; n += VEC_LANES) {
        vec h[VEC_LANES];
        step_states(b, n, a->B + t * a->ldb, h);
        for (int64_t i = 0; i < VEC_LANES && n + i < b->d_state; i++)
            y = vec_fma(vec_set(a->C[t * a->ldc + n + i]), h[i], y);
    }
    vec_store_mask(a->y + t * a->ldy + c, channels.mask, vec_mul(y, in.gate));
}

static void scan_step(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1) {
    int64_t start = a->cu_seqlens[seq];
    if (a->cu_seqlens[seq + 1] != start + 1 || a->chunk_state) {
        scan_fwd(a, seq, c0, c1);
        return;
    }
    const float *state_in = a->state_in ? a->state_in[seq] : NULL;
    float *state_out = a->state_out ? a->state_out[seq] : NULL;
    struct step_block b = {.d_state = a->d_state};
    for (int64_t c = c0; c < c1; c += VEC_LANES) {
        b.n_channel = c1 - c;
        b.A = a->A + c * a->d_state;
        b.state_in = state_in ? state_in + c * a->d_state : NULL;
        b.state_out = state_out ? state_out + c * a->d_state : NULL;
        step_channels(a, start, c, &b);
    }
    vec_done();
}
