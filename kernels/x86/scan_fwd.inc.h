/* The selective scan forward. The lanes of a vector are VEC_LANES neighbouring channels, a vector
 * for each state, so that the recurrence needs no shuffles; states are transposed when they enter
 * and leave. Channels past the end of a block compute on zeros and are never stored. */

enum { SCAN_TILE = 16 }; /* tokens; divides SP_SCAN_CHUNK */
enum { SCAN_GROUP = 4 }; /* blocks that go through a tile together */

/* What a vector of channels has beside its states. */
struct scan_channels {
    vec D, dt_bias;
    vec_mask mask;
};

/* One block of channels: its states, and A * log2(e) for a power of 2 in the place of exp. */
struct scan_block {
    _Alignas(64) vec h[SP_SCAN_STATE_MAX], A[SP_SCAN_STATE_MAX];
    struct scan_channels channels;
};

static struct scan_channels scan_channels_at(const struct sp_scan *a, int64_t c, int64_t n) {
    struct scan_channels ch = {.mask = vec_first(n)};
    ch.D = a->D ? vec_load_mask(a->D + c, ch.mask) : vec_zero();
    ch.dt_bias = a->dt_bias ? vec_load_mask(a->dt_bias + c, ch.mask) : vec_zero();
    return ch;
}

static void scan_block_start(const struct sp_scan *a, int64_t c, int64_t n_channel,
                             const float *state, struct scan_block *b) {
    b->channels = scan_channels_at(a, c, n_channel);
    rows_load(b->A, a->A + c * a->d_state, n_channel, a->d_state);
    for (int64_t n = 0; n < a->d_state; n++) b->A[n] = vec_mul(b->A[n], vec_set(LOG2E));
    rows_load(b->h, state ? state + c * a->d_state : NULL, state ? n_channel : 0, a->d_state);
}

/* What the recurrence needs of one token and block. */
struct scan_input {
    vec delta, dx, skip, gate; /* delta * x, D * x, silu(z) */
};

static struct scan_input scan_read(const struct sp_scan *a, int64_t t, int64_t c,
                                   const struct scan_channels *ch) {
    struct scan_input in;
    int64_t ahead = t + SCAN_TILE;
    vec_prefetch(a->x, ahead * a->ldx + c);
    vec_prefetch(a->dt, ahead * a->lddt + c);
    if (a->z) vec_prefetch(a->z, ahead * a->ldz + c);
    vec_prefetch(a->y, ahead * a->ldy + c);
    vec x = vec_load_mask(a->x + t * a->ldx + c, ch->mask);
    vec dt = vec_load_mask(a->dt + t * a->lddt + c, ch->mask);
    in.delta = vec_softplus(vec_add(dt, ch->dt_bias));
    in.dx = vec_mul(in.delta, x);
    in.skip = vec_mul(ch->D, x);
    in.gate = vec_set(1);
    if (a->z) {
        vec z = vec_load_mask(a->z + t * a->ldz + c, ch->mask);
        in.gate = vec_mul(z, vec_sigmoid(z));
    }
    return in;
}

/* One step of the recurrence; the output. */
static vec scan_token(const struct scan_input *in, const float *B, const float *C, int64_t d_state,
                      struct scan_block *b) {
    vec sum = in->skip;
    for (int64_t n = 0; n < d_state; n++) {
        vec decay = vec_decay(vec_mul(in->delta, b->A[n]));
        b->h[n] = vec_fma(decay, b->h[n], vec_mul(in->dx, vec_set(B[n])));
        sum = vec_fma(vec_set(C[n]), b->h[n], sum);
    }
    return vec_mul(sum, in->gate);
}

/* Tokens [t, t + n_tok) of a group. First all that does not depend on the states, row by row: its
 * long chains overlap, and each line of the large buffers is touched once, as rows that are a
 * multiple of 2 KB apart push each other out of the first-level cache. */
static void scan_tile(const struct sp_scan *a, int64_t t, int64_t n_tok, int64_t c, int64_t n_block,
                      struct scan_block block[SCAN_GROUP]) {
    struct scan_input in[SCAN_GROUP][SCAN_TILE];
    for (int64_t i = 0; i < n_tok; i++)
        for (int64_t k = 0; k < n_block; k++)
            in[k][i] = scan_read(a, t + i, c + k * VEC_LANES, &block[k].channels);
    for (int64_t k = 0; k < n_block; k++) {
        for (int64_t i = 0; i < n_tok; i++) {
            vec y = scan_token(&in[k][i], a->B + (t + i) * a->ldb, a->C + (t + i) * a->ldc,
                               a->d_state, &block[k]);
            vec_store_mask(a->y + (t + i) * a->ldy + c + k * VEC_LANES, block[k].channels.mask, y);
        }
    }
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
        for (int64_t i = 0; a->chunk_state && t % SP_SCAN_CHUNK == 0 && i < n_block; i++) {
            int64_t row = a->cu_chunks[seq] + t / SP_SCAN_CHUNK, first = c + i * VEC_LANES;
            rows_store(a->chunk_state + (row * a->d_inner + first) * a->d_state, block[i].h,
                       c1 - first, a->d_state);
        }
        scan_tile(a, start + t, n_tok, c, n_block, block);
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
