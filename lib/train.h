/* Training: parameters in flat buffers, the network's forward and backward pass, the optimiser, the
 * documents, and the loop around them. Internal to libstatepipe and bin/train.
 *
 * Ownership: a run (struct sp_train) owns its parameter set, network and documents; a network
 * borrows the parameter set and the backend, and owns every device buffer it works on.
 */
#ifndef SP_TRAIN_H
#define SP_TRAIN_H

#include "backend.h"
#include "statepipe.h"

/* ---- parameters (net_train_param.c) --------------------------------------------------------- */

#define SP_PARAM_NAME_MAX 96
#define SP_PARAM_ALIGN 16 /* floats: a parameter begins on a cache line */

/* Parts of the flat buffers, in this order, so that the optimiser takes a part in one call. */
enum sp_param_part {
    SP_PARAM_DECAYED,   /* matrices */
    SP_PARAM_UNDECAYED, /* norms, biases, D */
    SP_PARAM_A_LOG,     /* of all layers, without gaps; not decayed either */
    SP_PARAM_FROZEN,    /* heads that this run does not train */
    SP_PARAM_PART_COUNT
};

enum sp_param_init {
    SP_INIT_ONES,
    SP_INIT_ZEROS,
    SP_INIT_NORMAL,  /* standard deviation 0.02 */
    SP_INIT_UNIFORM, /* +- 1 / sqrt(fan in) */
    SP_INIT_OUT,     /* as UNIFORM, over sqrt(n_layer): the residual stream adds that many */
    SP_INIT_DT,      /* +- dt_rank^-1/2 */
    SP_INIT_DT_BIAS, /* softplus^-1 of a log-uniform dt in [1e-3, 1e-1], at least 1e-4 */
    SP_INIT_A_LOG,   /* log(1 .. d_state): S4D-real */
};

struct sp_param {
    char name[SP_PARAM_NAME_MAX]; /* as in the safetensors file */
    enum sp_param_part part;
    enum sp_param_init init;
    uint32_t rank;
    uint64_t dim[3];
    int64_t offset, n; /* in floats */
};

/* Where a layer's parameters begin in the flat buffers; -1 for those that the model has not. */
struct sp_layer_offsets {
    int64_t norm, in_w, in_b, conv_w, conv_b, x_w, dt_w, dt_b, a_log, d, out_w, out_b;
};

struct sp_param_set {
    struct sp_config config;
    uint32_t head; /* of config.head: the one that is trained; n_head: the language model's own */
    int64_t n_class;
    struct sp_param *item; /* (n) */
    int64_t n;
    struct sp_layer_offsets *layer; /* (n_layer) */
    int64_t embed, norm_f, head_w, head_b;
    int64_t part[SP_PARAM_PART_COUNT + 1]; /* begin of each part, and the end */
};

/* config.head[head] is trained; head == config.n_head: next-token prediction. */
enum sp_code sp_param_set_new(struct sp_param_set **set, const struct sp_config *config,
                              uint32_t head, struct sp_error *err);
void sp_param_set_free(struct sp_param_set *set);
/* Floats of a flat buffer. */
int64_t sp_param_set_size(const struct sp_param_set *set);
/* value (size): drawn as in the Mamba paper (arXiv 2312.00752, section 3.6, appendix E.2). */
void sp_param_set_init(const struct sp_param_set *set, uint64_t seed, float *value);
/* value from a model; heads it lacks keep what is there. SP_E_DATA for a wrong shape. */
enum sp_code sp_param_set_load(const struct sp_param_set *set, const struct sp_model *m,
                               float *value, struct sp_error *err);

/* splitmix64 */
uint64_t sp_random_next(uint64_t *state);

/* ---- network (net_train.c) ------------------------------------------------------------------- */

struct sp_train_net;

/* Sequences packed one after another. Arrays are the host's; the states they point to are device
 * memory, per sequence for all layers: conv (n_layer, d_conv - 1, d_inner), ssm (n_layer, d_inner,
 * d_state). An array or an entry NULL: zeros, or not wanted. */
struct sp_train_batch {
    int64_t n_seq;
    const int64_t *cu_seqlens; /* (n_seq + 1) */
    const uint32_t *id;        /* (n_tok) */
    const int32_t *target;     /* (n_tok), -1 where nothing is to be predicted */
    const float *const *conv_in, *const *ssm_in;
    float *const *conv_out, *const *ssm_out;
    float *const *dconv_in, *const *dssm_in; /* gradients of the initial states; written */
};

struct sp_train_result {
    double loss;      /* sum of -log p(target) over the counted tokens, in nats */
    int64_t n_target; /* counted tokens */
    int64_t n_right;  /* of them predicted right; only from sp_train_net_evaluate */
};

/* Buffers for batches of up to n_tok_max tokens and n_seq_max sequences. */
enum sp_code sp_train_net_new(struct sp_train_net **net, const struct sp_param_set *set,
                              struct sp_backend *be, int64_t n_tok_max, int64_t n_seq_max,
                              struct sp_error *err);
void sp_train_net_free(struct sp_train_net *net);
/* Device, flat, sp_param_set_size floats. */
float *sp_train_net_values(struct sp_train_net *net);
float *sp_train_net_grads(struct sp_train_net *net);
/* To be called whenever the values have changed: derives A from A_log. */
enum sp_code sp_train_net_refresh(struct sp_train_net *net, struct sp_error *err);
/* Forward and backward; grads is overwritten with that of scale * loss. */
enum sp_code sp_train_net_gradient(struct sp_train_net *net, const struct sp_train_batch *batch,
                                   float scale, struct sp_train_result *result,
                                   struct sp_error *err);
/* Forward alone, with the tokens predicted right counted. */
enum sp_code sp_train_net_evaluate(struct sp_train_net *net, const struct sp_train_batch *batch,
                                   struct sp_train_result *result, struct sp_error *err);

/* ---- documents (train_doc.c) ------------------------------------------------------------------
 */

#define SP_TRAIN_DOC_MAX ((int64_t)1 << 24) /* tokens of one document */

struct sp_train_doc {
    uint32_t *id;    /* (n), owned */
    int32_t *target; /* (n), owned; -1 where nothing is to be predicted */
    int64_t n;
    uint64_t index; /* of the document in its stream, from 0 */
};
void sp_train_doc_clear(struct sp_train_doc *doc);

/* What the tags of a training corpus follow each other like. */
struct sp_bigrams {
    uint32_t n_label;
    double *count; /* (n_label + 2, n_label), owned: from label i; at the start; at the end */
};

/* A token stream as labelled documents. Owns its reader. */
struct sp_doc_source;

/* path "-" is standard input. head NULL: targets are the next tokens. vocab_size bounds the ids. */
enum sp_code sp_doc_source_open(struct sp_doc_source **source, const char *path,
                                const struct sp_config *config, const struct sp_head *head,
                                struct sp_error *err);
void sp_doc_source_free(struct sp_doc_source *source);
/* The next document with a target; *there false at the end. Tag pairs are counted into *bigrams,
 * when that is given. */
enum sp_code sp_doc_source_next(struct sp_doc_source *source, struct sp_train_doc *doc, bool *there,
                                struct sp_bigrams *bigrams, struct sp_error *err);
/* What nothing is learnt from. */
struct sp_left_out {
    uint64_t n_doc; /* documents that have failed upstream */
    uint64_t n_tok; /* tokens in gold spans whose label the head has not */
};
/* Fingerprint of the tokenizer of the stream (zero before the first document). */
const struct sp_hash *sp_doc_source_tokenizer(const struct sp_doc_source *source);
struct sp_left_out sp_doc_source_left_out(const struct sp_doc_source *source);
/* log((count + a) / (row sum + a n_label)), a = 0.1, rows as in struct sp_bigrams; out the same
 * shape. */
void sp_bigrams_log(const struct sp_bigrams *bigrams, float *out);

/* ---- batches (train_feed.c) -------------------------------------------------------------------
 */

struct sp_feed_options {
    const char *path;                 /* "-": standard input, one pass */
    int64_t n_tok_batch, n_tok_piece; /* of a batch; of a piece of a document that is cut */
    int64_t epochs;  /* passes over a file; 0: as many as asked for, once if nothing is */
    int64_t shuffle; /* documents in the window that the next one is drawn from; 0 or 1: in order */
    int64_t holdout; /* every so many documents one is kept for evaluation; 0: none */
    int64_t holdout_max; /* documents */
    uint64_t seed;
};

/* A batch of whole documents, or of pieces of one that is longer than n_tok_piece. */
struct sp_feed_batch {
    int64_t n_seq, n_target;
    const int64_t *cu_seqlens;
    const uint32_t *id;
    const int32_t *target;
    bool continues;  /* the first sequence goes on where the last of the batch before ended */
    bool unfinished; /* the last sequence goes on in the next batch */
};

struct sp_feed;
enum sp_code sp_feed_new(struct sp_feed **feed, const struct sp_feed_options *options,
                         const struct sp_config *config, const struct sp_head *head,
                         struct sp_error *err);
void sp_feed_free(struct sp_feed *feed);
/* The next batch, valid until the next call; n_seq 0 at the end. The sequence of batches depends on
 * the input and the options only. */
enum sp_code sp_feed_next(struct sp_feed *feed, struct sp_feed_batch *batch, struct sp_error *err);
/* Sequences a batch can have at most. */
int64_t sp_feed_n_seq_max(const struct sp_feed_options *options);
/* The same packing over documents in memory, in order, once; they are borrowed. */
enum sp_code sp_feed_from_docs(struct sp_feed **feed, const struct sp_feed_options *options,
                               const struct sp_train_doc *doc, int64_t n, struct sp_error *err);
/* Documents that the whole input will give: reads a file through once. */
enum sp_code sp_feed_count(const struct sp_feed_options *options, const struct sp_config *config,
                           const struct sp_head *head, uint64_t *n_doc, struct sp_error *err);
uint64_t sp_feed_documents(const struct sp_feed *feed); /* given out so far */
/* Of the first pass, as far as it has been read. Not for a feed from memory. */
struct sp_left_out sp_feed_left_out(const struct sp_feed *feed);
const struct sp_bigrams *sp_feed_bigrams(const struct sp_feed *feed);
const struct sp_hash *sp_feed_tokenizer(const struct sp_feed *feed);
/* Documents kept for evaluation so far. */
const struct sp_train_doc *sp_feed_holdout(const struct sp_feed *feed, int64_t *n);

/* ---- the optimiser (train_adamw.c) ------------------------------------------------------------
 */

struct sp_adamw_options {
    double lr, lr_min; /* at the end of the warm-up; at the end of the run */
    int64_t warmup;    /* steps */
    double beta1, beta2, eps, weight_decay;
    double clip; /* largest norm of the whole gradient; 0: none */
    double ema;  /* of the weights, per step; 0: none */
};

/* AdamW with clipping and an average of the weights. Owns its moments; borrows the network. */
struct sp_optimiser {
    struct sp_adamw_options options;
    const struct sp_param_set *set;
    struct sp_backend *be;
    struct sp_train_net *net;
    float *m, *v;   /* device, (size) */
    float *ema;     /* host, (size), or NULL */
    float *scratch; /* host, (size) */
    int64_t step;   /* steps taken */
};

enum sp_code sp_optimiser_init(struct sp_optimiser *o, const struct sp_adamw_options *options,
                               const struct sp_param_set *set, struct sp_backend *be,
                               struct sp_train_net *net, struct sp_error *err);
void sp_optimiser_clear(struct sp_optimiser *o);
/* Linear warm-up, then a cosine from lr to lr_min; progress of the run in [0, 1]. */
double sp_optimiser_lr(const struct sp_adamw_options *options, int64_t step, double progress);
/* From the network's gradients to its next values. *norm: of the gradient, before clipping. */
enum sp_code sp_optimiser_step(struct sp_optimiser *o, double progress, double *norm,
                               struct sp_error *err);
/* The weights to save: the average where there is one. value (size), host. */
enum sp_code sp_optimiser_weights(struct sp_optimiser *o, float *value, struct sp_error *err);

/* ---- the run (train.c) ------------------------------------------------------------------------
 */

enum sp_train_task { SP_TRAIN_TAG, SP_TRAIN_LM, SP_TRAIN_CLASS };

struct sp_train_options {
    const char *out;    /* the model directory to write */
    enum sp_dtype save; /* of its matrices: SP_F32 or SP_BF16 */
    const char *config; /* a config.json, or NULL */
    const char *init;   /* a model directory to go on from, or NULL; one of the two */
    enum sp_train_task task;
    const char *head; /* its name; NULL: the first of the task's type */
    struct sp_feed_options feed;
    const char *eval;   /* a token stream, or NULL */
    int64_t eval_every; /* steps */
    struct sp_adamw_options adamw;
    int64_t steps;             /* 0: as long as the input or the time lasts */
    double minutes;            /* 0: no limit */
    double checkpoint_minutes; /* 0: none */
    uint64_t seed;
    bool force; /* start afresh over what is in `out` */
};

struct sp_train_report {
    int64_t step, steps; /* steps 0: not known */
    double progress, loss, norm, lr, tokens_per_s, elapsed_s;
    int64_t n_token;
    uint64_t n_doc;
    bool last;      /* step of the run */
    bool evaluated; /* the next two are there */
    double eval_loss, eval_accuracy;
    int64_t eval_tokens;
};

struct sp_train;
enum sp_code sp_train_new(struct sp_train **run, const struct sp_train_options *options,
                          struct sp_backend *be, struct sp_error *err);
void sp_train_free(struct sp_train *run);
/* Steps that a checkpoint had taken already: 0 for a new run. */
int64_t sp_train_resumed(const struct sp_train *run);
struct sp_left_out sp_train_left_out(const struct sp_train *run);
/* Steps after which the input ended, before the steps or minutes asked for; 0: it did not. */
int64_t sp_train_input_ended(const struct sp_train *run);
int64_t sp_train_parameters(const struct sp_train *run);
/* Trains to the end, or until stop says true (then *stopped, and a checkpoint is left); calls
 * report after every step. Writes the model. stop must not rely on a signal's handler: one that
 * interrupts oneDNN's generated products writes its frame over memory that they use below the stack
 * pointer. */
enum sp_code sp_train_run(struct sp_train *run, bool (*stop)(void *ctx),
                          void (*report)(void *ctx, const struct sp_train_report *r), void *ctx,
                          bool *stopped, struct sp_error *err);

#endif
