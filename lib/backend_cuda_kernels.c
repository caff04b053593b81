/* The CUDA backend's kernels: launches of kernels/cuda with the host's arrays sent along. */
#include "backend_cuda.h"

/* Of the longest sequence. */
static int64_t longest(const int64_t *cu_seqlens, int64_t n_seq) {
    int64_t most = 0;
    for (int64_t s = 0; s < n_seq; s++) {
        int64_t n = cu_seqlens[s + 1] - cu_seqlens[s];
        if (n > most) most = n;
    }
    return most;
}

static enum sp_code work_floats(struct sp_cuda *c, int64_t n, struct sp_error *err) {
    return sp_cuda_grow(c, &c->work, (size_t)n * sizeof(float), err);
}

/* ---- norms ------------------------------------------------------------------------------------*/

static enum sp_code cuda_rmsnorm_fwd(struct sp_backend *be, const struct sp_rmsnorm *a,
                                     int64_t n_row, struct sp_error *err) {
    SP_CUDA_TRY(sp_rmsnorm_fwd_cuda(a, SP_CUDA_F32, n_row, sp_cuda_of(be)->compute), "a norm");
    return SP_OK;
}

static enum sp_code cuda_rmsnorm_bwd(struct sp_backend *be, const struct sp_rmsnorm *a,
                                     const struct sp_rmsnorm_grad *g, int64_t n_row,
                                     struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    SP_TRY(work_floats(c, sp_rmsnorm_bwd_cuda_workspace(a, n_row), err));
    SP_CUDA_TRY(sp_rmsnorm_bwd_cuda(a, g, SP_CUDA_F32, n_row, c->work.dev, c->compute),
                "a norm's gradient");
    return SP_OK;
}

/* ---- convolution ------------------------------------------------------------------------------*/

/* The host's arrays with an entry per sequence, of a convolution or a scan; NULL: it has none. The
 * last two are those of a gradient. */
struct sequences {
    const int64_t **cu_seqlens, **cu_chunks;
    const float *const **state_in, *const **dstate_out;
    float *const **state_out, *const **dstate_in;
};

/* Sends them, and puts the device's in their places. */
static enum sp_code send_sequences(struct sp_cuda *c, int64_t n_seq, const struct sequences *s,
                                   struct sp_error *err) {
    enum { LENGTHS, CHUNKS, STATE_IN, STATE_OUT, DSTATE_IN, DSTATE_OUT, N_LIST };
    const size_t n_at = ((size_t)n_seq + 1) * sizeof(int64_t), n = (size_t)n_seq * sizeof(float *);
    struct sp_cuda_list l[N_LIST] = {
        [LENGTHS] = {*s->cu_seqlens, n_at, NULL},
        [CHUNKS] = {s->cu_chunks ? *s->cu_chunks : NULL, n_at, NULL},
        [STATE_IN] = {*s->state_in, n, NULL},
        [STATE_OUT] = {*s->state_out, n, NULL},
        [DSTATE_IN] = {s->dstate_in ? *s->dstate_in : NULL, n, NULL},
        [DSTATE_OUT] = {s->dstate_out ? *s->dstate_out : NULL, n, NULL}};
    SP_TRY(sp_cuda_lists(c, l, N_LIST, err));
    *s->cu_seqlens = l[LENGTHS].dev;
    if (s->cu_chunks) *s->cu_chunks = l[CHUNKS].dev;
    *s->state_in = l[STATE_IN].dev;
    *s->state_out = (float *const *)l[STATE_OUT].dev;
    if (s->dstate_in) *s->dstate_in = (float *const *)l[DSTATE_IN].dev;
    if (s->dstate_out) *s->dstate_out = l[DSTATE_OUT].dev;
    return SP_OK;
}

static enum sp_code conv_lists(struct sp_cuda *c, struct sp_conv *a, struct sp_conv_grad *g,
                               struct sp_error *err) {
    struct sequences s = {
        .cu_seqlens = &a->cu_seqlens, .state_in = &a->state_in, .state_out = &a->state_out};
    if (g) s.dstate_in = &g->dstate_in;
    if (g) s.dstate_out = &g->dstate_out;
    return send_sequences(c, a->n_seq, &s, err);
}

enum sp_code sp_cuda_conv(struct sp_cuda *c, const struct sp_conv *a, enum sp_cuda_type type,
                          struct sp_error *err) {
    struct sp_conv k = *a;
    SP_TRY(conv_lists(c, &k, NULL, err));
    SP_CUDA_TRY(sp_conv_fwd_cuda(&k, type, longest(a->cu_seqlens, a->n_seq), c->compute),
                "a convolution");
    return SP_OK;
}

static enum sp_code cuda_conv_fwd(struct sp_backend *be, const struct sp_conv *a,
                                  struct sp_error *err) {
    return sp_cuda_conv(sp_cuda_of(be), a, SP_CUDA_F32, err);
}

static enum sp_code cuda_conv_bwd(struct sp_backend *be, const struct sp_conv *a,
                                  const struct sp_conv_grad *g, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_conv k = *a;
    struct sp_conv_grad d = *g;
    const int64_t len_max = longest(a->cu_seqlens, a->n_seq);
    SP_TRY(conv_lists(c, &k, &d, err));
    SP_TRY(work_floats(c, sp_conv_bwd_cuda_workspace(&k, len_max), err));
    SP_CUDA_TRY(sp_conv_bwd_cuda(&k, &d, SP_CUDA_F32, len_max, c->work.dev, c->compute),
                "a convolution's gradient");
    return SP_OK;
}

/* ---- scan -------------------------------------------------------------------------------------*/

static enum sp_code scan_lists(struct sp_cuda *c, struct sp_scan *a, struct sp_scan_grad *g,
                               struct sp_error *err) {
    struct sequences s = {
        .cu_seqlens = &a->cu_seqlens, .state_in = &a->state_in, .state_out = &a->state_out};
    if (!a->chunk_state) a->cu_chunks = NULL;
    s.cu_chunks = &a->cu_chunks;
    if (g) s.dstate_in = &g->dstate_in;
    if (g) s.dstate_out = &g->dstate_out;
    return send_sequences(c, a->n_seq, &s, err);
}

/* Few blocks for many multiprocessors: sequences are cut into segments that run in parallel. Always
 * or never for a model, and at places that do not depend on what had been read by then or is packed
 * beside it: else these would show in the bits. */
static bool splits(const struct sp_cuda *c, const struct sp_scan *a) {
    return a->d_inner < (int64_t)c->prop.multiProcessorCount * SP_CUDA_SCAN_CHANNELS;
}

enum sp_code sp_cuda_scan(struct sp_cuda *c, const struct sp_scan *a, enum sp_cuda_type type,
                          struct sp_error *err) {
    struct sp_scan k = *a;
    const int64_t len_max = longest(a->cu_seqlens, a->n_seq);
    const int64_t n_tok = a->cu_seqlens[a->n_seq] - a->cu_seqlens[0];
    SP_TRY(scan_lists(c, &k, NULL, err));
    if (len_max < SP_CUDA_CUT || !splits(c, a)) {
        SP_CUDA_TRY(sp_scan_fwd_cuda(&k, type, SP_CUDA_F32, len_max, c->compute), "a scan");
        return SP_OK;
    }
    SP_TRY(work_floats(c, sp_scan_split_cuda_workspace(&k, n_tok, SP_CUDA_CUT), err));
    SP_CUDA_TRY(sp_scan_split_cuda(&k, type, SP_CUDA_F32, n_tok, len_max, SP_CUDA_CUT, c->work.dev,
                                   c->compute),
                "a scan");
    return SP_OK;
}

static enum sp_code cuda_scan_fwd(struct sp_backend *be, const struct sp_scan *a, bool step,
                                  struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    if (!step) return sp_cuda_scan(c, a, SP_CUDA_F32, err);
    struct sp_scan k = *a;
    SP_TRY(scan_lists(c, &k, NULL, err));
    SP_CUDA_TRY(sp_scan_step_cuda(&k, SP_CUDA_F32, c->compute), "a scan");
    return SP_OK;
}

/* Turing has too little shared memory for the most states. */
static enum sp_code has_room_for_states(const struct sp_cuda *c, int64_t d_state,
                                        struct sp_error *err) {
    const size_t shared = c->prop.sharedMemPerBlockOptin;
    const int64_t most = sp_scan_bwd_cuda_state_max(shared);
    if (d_state <= most) return SP_OK;
    return sp_error_set(err, SP_E_DEVICE,
                        "device " SP_CUDA_NAME ": training with a d_state of %d takes more shared "
                        "memory than the %zu KiB that a block has on %.100s (compute capability "
                        "%d.%d), which is enough for %d; use a GPU of compute capability 8.0 or "
                        "later, or --device cpu",
                        (int)d_state, shared >> 10, c->prop.name, c->prop.major, c->prop.minor,
                        (int)most);
}

static enum sp_code cuda_scan_bwd(struct sp_backend *be, const struct sp_scan *a,
                                  const struct sp_scan_grad *g, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_scan k = *a;
    struct sp_scan_grad d = *g;
    const int64_t n_tok = a->cu_seqlens[a->n_seq];
    SP_TRY(has_room_for_states(c, a->d_state, err));
    SP_TRY(scan_lists(c, &k, &d, err));
    SP_TRY(work_floats(c, sp_scan_bwd_cuda_workspace(&k, n_tok, 1), err));
    SP_CUDA_TRY(sp_scan_bwd_cuda(&k, &d, SP_CUDA_F32, n_tok, 1, c->work.dev, c->compute),
                "a scan's gradient");
    return SP_OK;
}

/* ---- training's rest --------------------------------------------------------------------------*/

static enum sp_code cuda_xent(struct sp_backend *be, const struct sp_xent *a, int64_t n_row,
                              struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_xent k = *a;
    struct sp_cuda_list l = {a->target, (size_t)n_row * sizeof *a->target, NULL};
    SP_TRY(sp_cuda_lists(c, &l, 1, err));
    k.target = l.dev;
    SP_CUDA_TRY(sp_xent_cuda(&k, n_row, c->compute), "cross-entropy");
    return SP_OK;
}

static enum sp_code cuda_adamw(struct sp_backend *be, const struct sp_adamw *a, int64_t n,
                               struct sp_error *err) {
    SP_CUDA_TRY(sp_adamw_cuda(a, n, sp_cuda_of(be)->compute), "an optimiser's step");
    return SP_OK;
}

static enum sp_code cuda_sum_squares(struct sp_backend *be, const float *x, int64_t n, double *out,
                                     struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    const int64_t n_work = sp_sum_squares_cuda_workspace(n);
    *out = 0;
    SP_TRY(sp_cuda_grow(c, &c->work, (size_t)(n_work + 1) * sizeof(double), err));
    double *sum = c->work.dev;
    SP_CUDA_TRY(sp_sum_squares_cuda(x, n, sum + 1, sum, c->compute), "a sum");
    return be->download(be, out, sum, sizeof *out, err);
}

static enum sp_code cuda_gather(struct sp_backend *be, const float *table, int64_t d,
                                const uint32_t *id, int64_t n, float *y, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_cuda_list l = {id, (size_t)n * sizeof *id, NULL};
    SP_TRY(sp_cuda_lists(c, &l, 1, err));
    SP_CUDA_TRY(sp_gather_cuda(table, d, l.dev, n, y, SP_CUDA_F32, c->compute), "taking rows");
    return SP_OK;
}

static enum sp_code cuda_scatter_add(struct sp_backend *be, float *table_grad, int64_t d,
                                     const uint32_t *id, int64_t n, const float *dy,
                                     struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_cuda_list l = {id, (size_t)n * sizeof *id, NULL};
    SP_TRY(sp_cuda_lists(c, &l, 1, err));
    SP_CUDA_TRY(sp_scatter_add_cuda(table_grad, d, l.dev, n, dy, SP_CUDA_F32, c->compute),
                "adding rows");
    return SP_OK;
}

void sp_cuda_kernels_install(struct sp_backend *be) {
    be->rmsnorm_fwd = cuda_rmsnorm_fwd;
    be->rmsnorm_bwd = cuda_rmsnorm_bwd;
    be->conv_fwd = cuda_conv_fwd;
    be->conv_bwd = cuda_conv_bwd;
    be->scan_fwd = cuda_scan_fwd;
    be->scan_bwd = cuda_scan_bwd;
    be->xent = cuda_xent;
    be->adamw = cuda_adamw;
    be->sum_squares = cuda_sum_squares;
    be->gather = cuda_gather;
    be->scatter_add = cuda_scatter_add;
}
