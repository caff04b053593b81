/* Backends: the device that net runs on, as a table of operations on opaque buffers.
 *
 * A backend owns its device memory, its threads or streams and its prepared weights. Pointers
 * called device pointers were handed out by its alloc (arithmetic on them is allowed, dereferencing
 * is not); structs with kernel arguments hold device pointers, but for arrays said to be the
 * host's. Operations are queued in order; only download and sync wait. The structs are those of
 * kernels/kernels.h.
 */
#ifndef SP_BACKEND_H
#define SP_BACKEND_H

#include "../kernels/kernels.h"
#include "statepipe.h"

/* A version, and the size of the table: an object that was built against another is refused. */
#define SP_BACKEND_ABI (1 << 16 | (int)sizeof(struct sp_backend))

/* Hands a failure on to the caller, where there is nothing to give back first. */
#define SP_TRY(call)                                                                               \
    do {                                                                                           \
        enum sp_code try_code_ = (call);                                                           \
        if (try_code_) return try_code_;                                                           \
    } while (0)

/* A weight matrix (d_out, d_in) as a linear layer uses it: y = x W^T. Prepared by the backend:
 * mapped memory read in place, a packed copy, or a copy on the device. */
struct sp_weight;

/* Rows of a batch come in two kinds, and their caller says which: `step` rows (fewer than
 * SP_STEP_ROWS of one sequence: decode) take the matrix-vector path, others the tiled path. A row's
 * bits depend on its kind and its values only, never on what else is in the batch. */
#define SP_STEP_ROWS 8

/* A decode step of a mixer between its in_proj and its out_proj (net.c's equations), for n_seq
 * sequences of one token. */
struct sp_mixer {
    int64_t n_seq, d_inner, d_conv, d_state, dt_rank;
    float *xz; /* (n_seq, 2 * d_inner), ldxz: x, then z */
    int64_t ldxz;
    const float *conv_w;    /* (d_inner, d_conv) */
    const float *conv_bias; /* (d_inner) or NULL */
    struct sp_weight *x_proj, *dt_proj;
    float part_norm_eps;          /* dt, B and C are normalised first; negative: not */
    const float *dt_bias, *A, *D; /* (d_inner), (d_inner, d_state), (d_inner) */
    float *const *conv_state;     /* (n_seq), host; of (d_conv - 1, d_inner), moved on */
    float *const *ssm_state;      /* (n_seq), host; of (d_inner, d_state), moved on */
    float *y;                     /* (n_seq, d_inner), ldy */
    int64_t ldy;
};

/* A layer over sequences that are not decoded: u += out_proj(mixer(in_proj(norm(u)))). */
struct sp_layer {
    struct sp_mixer mixer;     /* xz, y: room, as below */
    const int64_t *cu_seqlens; /* (n_seq + 1), host */
    int64_t d_model;
    float *u;          /* (n_tok, d_model): the residual stream */
    const float *norm; /* (d_model) */
    float norm_eps;
    struct sp_weight *in_proj, *out_proj;
    /* Room that holds anything before and after: of n_tok times d_model, dt_rank + 2 * d_state and
     * d_inner floats; mixer.xz and y (d_inner) are more of it. */
    float *normed, *dbc, *dt;
};

struct sp_backend {
    int abi;
    const char *name; /* "cpu", "cuda", "emu" */
    /* A sequence that is cut at a multiple of so many tokens, the state going over, keeps its bits;
     * elsewhere it keeps them but for rounding, unless this is 1. */
    int64_t cut;
    void *ctx;

    void (*free)(struct sp_backend *be);
    /* What runs, for -v: kernel path, instruction set of the products, threads. */
    void (*describe)(struct sp_backend *be, char *out, size_t size);

    /* Zeroed device memory. SP_E_DEVICE with the amount asked for. */
    enum sp_code (*alloc)(struct sp_backend *be, size_t n_bytes, void **dev, struct sp_error *err);
    void (*release)(struct sp_backend *be, void *dev);
    enum sp_code (*upload)(struct sp_backend *be, void *dev, const void *host, size_t n_bytes,
                           struct sp_error *err);
    enum sp_code (*download)(struct sp_backend *be, void *host, const void *dev, size_t n_bytes,
                             struct sp_error *err);
    /* download in two halves, for backends that work beside the host (else NULL): begin queues it,
     * end waits for the one that was begun first, of as many bytes. Two at most are under way. */
    enum sp_code (*fetch_begin)(struct sp_backend *be, const void *dev, size_t n_bytes,
                                struct sp_error *err);
    enum sp_code (*fetch_end)(struct sp_backend *be, void *host, struct sp_error *err);
    enum sp_code (*copy)(struct sp_backend *be, void *dst, const void *src, size_t n_bytes,
                         struct sp_error *err);
    enum sp_code (*zero)(struct sp_backend *be, void *dev, size_t n_bytes, struct sp_error *err);
    enum sp_code (*sync)(struct sp_backend *be, struct sp_error *err);

    /* w is (d_out, d_in) as stored (f32, f16 or bf16), on the host, and outlives the weight; bias
     * (d_out), host f32 or NULL. compute is SP_F32 or SP_BF16 (inputs rounded to bf16, sums in
     * f32). Packed copies are made once it has met many rows. */
    enum sp_code (*weight_new)(struct sp_backend *be, const struct sp_tensor *w, const float *bias,
                               enum sp_dtype compute, struct sp_weight **out, struct sp_error *err);
    void (*weight_free)(struct sp_backend *be, struct sp_weight *w);
    /* y (n_row, d_out; ldy) = x (n_row, d_in; ldx) W^T + bias, or y += with add (bias included). */
    enum sp_code (*linear)(struct sp_backend *be, struct sp_weight *w, const float *x, int64_t ldx,
                           int64_t n_row, bool step, float *y, int64_t ldy, bool add,
                           struct sp_error *err);
    /* C (m, n; ldc) = or += op(A) op(B): training's products; f32. op is transposition where asked.
     */
    enum sp_code (*gemm)(struct sp_backend *be, bool trans_a, bool trans_b, int64_t m, int64_t n,
                         int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                         float *c, int64_t ldc, bool add, struct sp_error *err);

    /* Kernels. cu_seqlens, cu_chunks and the arrays of state pointers are the host's; the states
     * they point to are on the device. In the gradients dB, dC, dw of the norm and `scratch` are
     * the backend's business: it adds complete sums to dB (n_tok, d_state), dC and dw, in an order
     * that depends only on the number of threads. */
    enum sp_code (*rmsnorm_fwd)(struct sp_backend *be, const struct sp_rmsnorm *a, int64_t n_row,
                                struct sp_error *err);
    enum sp_code (*rmsnorm_bwd)(struct sp_backend *be, const struct sp_rmsnorm *a,
                                const struct sp_rmsnorm_grad *g, int64_t n_row,
                                struct sp_error *err);
    enum sp_code (*conv_fwd)(struct sp_backend *be, const struct sp_conv *a, struct sp_error *err);
    enum sp_code (*conv_bwd)(struct sp_backend *be, const struct sp_conv *a,
                             const struct sp_conv_grad *g, struct sp_error *err);
    /* step: every sequence is of one token; takes scan_step. */
    enum sp_code (*scan_fwd)(struct sp_backend *be, const struct sp_scan *a, bool step,
                             struct sp_error *err);
    enum sp_code (*scan_bwd)(struct sp_backend *be, const struct sp_scan *a,
                             const struct sp_scan_grad *g, struct sp_error *err);
    enum sp_code (*xent)(struct sp_backend *be, const struct sp_xent *a, int64_t n_row,
                         struct sp_error *err);
    enum sp_code (*adamw)(struct sp_backend *be, const struct sp_adamw *a, int64_t n,
                          struct sp_error *err);
    /* *out (host) = sum of squares; waits. In an order fixed by n. */
    enum sp_code (*sum_squares)(struct sp_backend *be, const float *x, int64_t n, double *out,
                                struct sp_error *err);
    /* y[i] = table[id[i]] and table_grad[id[i]] += dy[i], rows of d; ids (host) are in range. */
    enum sp_code (*gather)(struct sp_backend *be, const float *table, int64_t d, const uint32_t *id,
                           int64_t n, float *y, struct sp_error *err);
    enum sp_code (*scatter_add)(struct sp_backend *be, float *table_grad, int64_t d,
                                const uint32_t *id, int64_t n, const float *dy,
                                struct sp_error *err);

    /* The step in one operation, where the backend has one; else NULL, and it is made of the
     * operations above, whose bits may be others. */
    enum sp_code (*mixer_step)(struct sp_backend *be, const struct sp_mixer *m,
                               struct sp_error *err);

    /* The layer in one operation, where the backend keeps what is wide between its products in 16
     * bits; NULL or *done false (these weights are not of 16 bits): not offered, as above. */
    enum sp_code (*layer)(struct sp_backend *be, const struct sp_layer *a, bool *done,
                          struct sp_error *err);

    /* Runs of operations that come again with the same arguments, as in decode; NULL: not offered.
     * key (n_bytes) tells runs apart. begin: *done when this run was made as a whole from an
     * earlier one, and the caller leaves its operations out; else it calls them, and end also when
     * one of them fails. Between the two nothing is allocated, sent, fetched or waited for. */
    enum sp_code (*replay_begin)(struct sp_backend *be, const void *key, size_t n_bytes, bool *done,
                                 struct sp_error *err);
    enum sp_code (*replay_end)(struct sp_backend *be, struct sp_error *err);
};

/* n_thread as in pool.h. */
enum sp_code sp_backend_cpu_new(struct sp_backend **be, int n_thread, struct sp_error *err);
/* By name: "auto" (which is the CPU), "cpu", "cuda", "emu". SP_E_DEVICE says what is missing. */
enum sp_code sp_backend_open(struct sp_backend **be, const char *device, int n_thread,
                             struct sp_error *err);

/* A plugin is a shared object NAME.so with this symbol, a struct sp_plugin. It is looked for in
 * $STATEPIPE_PLUGINS, else in build/plugin or lib/statepipe, as seen from the program. */
#define SP_PLUGIN_SYMBOL "sp_plugin"
struct sp_plugin {
    int abi; /* SP_BACKEND_ABI; nothing else is looked at when it is another */
    enum sp_code (*open)(struct sp_backend **be, struct sp_error *err);
};
/* Where plugin `name` ("cuda") is: false when it is nowhere. */
bool sp_plugin_find(const char *name, char *path, size_t size);

#endif
