/* The network: Mamba's residual blocks, written once on struct sp_backend.
 *
 * Forward only (net.c); training's forward and backward, which keep activations, are in net_train.c
 * and share the mixer. A net owns its prepared weights and its work space; it borrows the model and
 * the backend. Not thread-safe: one net, one caller.
 */
#ifndef SP_NET_H
#define SP_NET_H

#include "backend.h"
#include "statepipe.h"

struct sp_net;

/* What a sequence remembers, on the device, for the layers of one net. */
struct sp_seq;

/* n_seq sequences packed one after another: rows [cu_seqlens[s], cu_seqlens[s+1]) of (n_tok,
 * d_model) continue from states[s] and leave it advanced. step: each is of fewer than SP_STEP_ROWS
 * rows and takes the decode path (see backend.h); one: and these are chunks of one token, which are
 * never in a batch with others. */
struct sp_batch {
    int64_t n_seq;
    const int64_t *cu_seqlens; /* (n_seq + 1) */
    struct sp_seq **states;    /* (n_seq), distinct; zero for reversed layers, whose windows begin
                                  with each sequence */
    bool step, one;
};

struct sp_net_options {
    uint32_t layer_first, layer_last; /* inclusive */
    enum sp_dtype dtype;              /* SP_F32 or SP_BF16: of weights and inputs in products */
};

/* Layers only; SP_E_DATA for weights of a wrong shape or with NaN. */
enum sp_code sp_net_new(struct sp_net **net, const struct sp_model *m, struct sp_backend *be,
                        const struct sp_net_options *options, struct sp_error *err);
void sp_net_free(struct sp_net *net);

enum sp_code sp_seq_new(struct sp_net *net, struct sp_seq **seq, struct sp_error *err); /* zero */
void sp_seq_free(struct sp_net *net, struct sp_seq *seq);
enum sp_code sp_seq_reset(struct sp_net *net, struct sp_seq *seq, struct sp_error *err);
/* to remembers what from does. */
enum sp_code sp_seq_copy(struct sp_net *net, struct sp_seq *to, const struct sp_seq *from,
                         struct sp_error *err);
/* Bytes of what a sequence of this net remembers. */
size_t sp_seq_bytes(const struct sp_net *net);
/* Between device and host; the state's layers must contain (load) or equal (store) the net's. */
enum sp_code sp_seq_load(struct sp_net *net, struct sp_seq *seq, const struct sp_state *s,
                         struct sp_error *err);
enum sp_code sp_seq_store(struct sp_net *net, const struct sp_seq *seq, struct sp_state *s,
                          struct sp_error *err);

/* hidden (n_tok, d_model), host, f32: replaced by the output of the last layer. */
enum sp_code sp_net_forward(struct sp_net *net, const struct sp_batch *batch, float *hidden,
                            struct sp_error *err);

/* The same in two halves, where the backend works beside the host (sp_net_overlaps): begin has read
 * hidden and batch when it returns, end waits for the output of the batch that was begun first. Two
 * batches at most are under way. */
bool sp_net_overlaps(const struct sp_net *net);
int64_t sp_net_cut(const struct sp_net *net); /* as in backend.h */
enum sp_code sp_net_begin(struct sp_net *net, const struct sp_batch *batch, const float *hidden,
                          struct sp_error *err);
enum sp_code sp_net_end(struct sp_net *net, float *hidden, struct sp_error *err);

/* Embedding look-up, from the mapped weights: hidden (n, d_model). SP_E_DATA for an id out of
 * range. */
enum sp_code sp_embed(const struct sp_model *m, const uint32_t *id, int64_t n, float *hidden,
                      struct sp_error *err);

/* The same on a device, which gets the whole table first. */
struct sp_embed_net;
enum sp_code sp_embed_net_new(struct sp_embed_net **e, const struct sp_model *m,
                              struct sp_backend *be, struct sp_error *err);
void sp_embed_net_free(struct sp_embed_net *e);
enum sp_code sp_embed_net_forward(struct sp_embed_net *e, const uint32_t *id, int64_t n,
                                  float *hidden, struct sp_error *err);

/* A head: final norm, product, bias. */
struct sp_head_net;
enum sp_code sp_head_net_new(struct sp_head_net **h, const struct sp_model *m,
                             struct sp_backend *be, const char *name, enum sp_dtype dtype,
                             struct sp_error *err);
void sp_head_net_free(struct sp_head_net *h);
const struct sp_head *sp_head_net_head(const struct sp_head_net *h);
int64_t
sp_head_net_outputs(const struct sp_head_net *h); /* columns of scores: vocabulary or labels */
/* Tag heads: (n_label + 2, n_label): row i: from i; then start, end in the last two; or NULL. */
const float *sp_head_net_transitions(const struct sp_head_net *h);
/* scores (n_row, outputs) = head(norm(hidden)); step as in struct sp_batch. */
enum sp_code sp_head_net_forward(struct sp_head_net *h, const float *hidden, int64_t n_row,
                                 bool step, float *scores, struct sp_error *err);

#endif
