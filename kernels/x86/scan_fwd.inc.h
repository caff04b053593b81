/* The selective scan forward. The lanes of a vector are VEC_LANES neighbouring channels, a vector
 * for each state, so that the recurrence needs no shuffles; states are transposed when they enter
 * and leave. Channels past the end of a block compute on zeros and are never stored. */

enum { SCAN_TILE = 16 }; /* tokens; divides SP_SCAN_CHUNK */
enum { SCAN_GROUP = 4 }; /* blocks that go through a tile together */

/* One block of channels: its states, and A * log2(e) for a power of 2 in the place of exp. */
struct scan_block {
    _Alignas(64) vec h[SP_SCAN_STATE_MAX], A[SP_SCAN_STATE_MAX];
    vec D, dt_bias;
    vec_mask mask;
};

static void scan_block_start(const struct sp_scan *a, int64_t c, int64_t n_channel,
                             const float *state, struct scan_block *b) {
    b->mask = vec_first(n_channel);
    b->D = a->D ? vec_load_mask(a->D + c, b->mask) : vec_zero();
    b->dt_bias = a->dt_bias ? vec_load_mask(a->dt_bias + c, b->mask) : vec_zero();
    rows_load(b->A, a->A + c * a->d_state, n_channel, a->d_state);
    for (int64_t n = 0; n < a->d_state; n++) b->A[n] = vec_mul(b->A[n], vec_set(LOG2E));
    rows_load(b->h, state ? state + c * a->d_state : NULL, state ? n_channel : 0, a->d_state);
}

static void scan_gate_store(const struct sp_scan *a, int64_t t, int64_t c, vec_mask mask, vec y) {
    if (a->z) {
        vec z = vec_load_mask(a->z + t * a->ldz + c, mask);
        y = vec_mul(y, vec_mul(z, vec_sigmoid(z)));
    }
    vec_store_mask(a->y + t * a->ldy + c, mask, y);
}

/* Tokens [t, t + n): first what does not depend on the state, for all of them, as the long chains
 * of softplus and gate would else delay each token's recurrence; then the recurrence. */
static void scan_tile(const struct sp_scan *a, int64_t t, int64_t n_tok, int64_t c,
                      struct scan_block *b) {
    vec delta[SCAN_TILE], dx[SCAN_TILE], y[SCAN_TILE];
    for (int64_t i = 0; i < n_tok; i++) {
        int64_t ahead = t + i + SCAN_TILE;
        vec_prefetch(a->x + ahead * a->ldx + c);
        vec_prefetch(a->dt + ahead * a->lddt + c);
        if (a->z) vec_prefetch(a->z + ahead * a->ldz + c);
        vec_prefetch(a->y + ahead * a->ldy + c);
        vec x = vec_load_mask(a->x + (t + i) * a->ldx + c, b->mask);
        vec dt = vec_load_mask(a->dt + (t + i) * a->lddt + c, b->mask);
        delta[i] = vec_softplus(vec_add(dt, b->dt_bias));
        dx[i] = vec_mul(delta[i], x);
        y[i] = vec_mul(b->D, x);
    }
    for (int64_t i = 0; i < n_tok; i++) {
        const float *B = a->B + (t + i) * a->ldb, *C = a->C + (t + i) * a->ldc;
        vec sum = y[i];
        for (int64_t n = 0; n < a->d_state; n++) {
            vec decay = vec_decay(vec_mul(delta[i], b->A[n]));
            b->h[n] = vec_fma(decay, b->h[n], vec_mul(dx[i], vec_set(B[n])));
            sum = vec_fma(vec_set(C[n]), b->h[n], sum);
        }
        y[i] = sum;
    }
    for (int64_t i = 0; i < n_tok; i++) scan_gate_store(a, t + i, c, b->mask, y[i]);
}

/* Channels [c, c1), at most SCAN_GROUP blocks, of one sequence. Tile by tile over all blocks: a row
 * of a large buffer is a page, and a page is better visited once for many channels. */
static void scan_group(const struct sp_scan *a, int64_t seq, int64_t c, int64_t c1) {
    int64_t start = a->cu_seqlens[seq], len = a->cu_seqlens[seq + 1] - start;
    const float *state_in = a->state_in ? a->state_in[seq] : NULL;
    float *state_out = a->state_out ? a->state_out[seq] : NULL;
    struct scan_block block[SCAN_GROUP];
    int64_t n_block = (c1 - c + VEC_LANES - 1) / VEC_LANES;
    for (int64_t i = 0; i < n_block; i++)
        scan_block_start(a, c + i * VEC_LANES, c1 - c - i * VEC_LANES, state_in, &block[i]);
    for (int64_t t = 0; t < len; t += SCAN_TILE) {
        int64_t n_tok = len - t < SCAN_TILE ? len - t : SCAN_TILE;
        for (int64_t i = 0; i < n_block; i++) {
            int64_t first = c + i * VEC_LANES;
            if (a->chunk_state && t % SP_SCAN_CHUNK == 0) {
                int64_t row = a->cu_chunks[seq] + t / SP_SCAN_CHUNK;
                rows_store(a->chunk_state + (row * a->d_inner + first) * a->d_state, block[i].h,
                           c1 - first, a->d_state);
            }
            scan_tile(a, start + t, n_tok, first, &block[i]);
        }
    }
    for (int64_t i = 0; state_out && i < n_block; i++)
        rows_store(state_out + (c + i * VEC_LANES) * a->d_state, block[i].h, c1 - c - i * VEC_LANES,
                   a->d_state);
}

static void scan_fwd(const struct sp_scan *a, int64_t seq, int64_t c0, int64_t c1) {
    const int64_t step = SCAN_GROUP * VEC_LANES;
    for (int64_t c = c0; c < c1; c += step) scan_group(a, seq, c, c1 - c < step ? c1 : c + step);
    vec_done();
}
