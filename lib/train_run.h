/* A training run from the inside: shared by train.c (the loop), train_setup.c (its beginning),
 * train_save.c (the model written) and train_checkpoint.c. */
#ifndef SP_TRAIN_RUN_H
#define SP_TRAIN_RUN_H

#include "train.h"

/* The state in which a long document is left between two batches: read from one slot, written to
 * the other. Device memory; arrays of pointers for one batch (n_seq_max). */
struct sp_carry {
    float *conv[2]; /* (n_layer, d_conv - 1, d_inner) */
    float *ssm[2];  /* (n_layer, d_inner, d_state) */
    int now;        /* the slot written last */
    const float **conv_in, **ssm_in;
    float **conv_out, **ssm_out;
};

/* How far the input has been taken. */
struct sp_train_place {
    uint64_t n_batch, n_doc;
    struct sp_hash last_batch; /* of its ids: is a regenerated input the same? */
};

struct sp_train {
    struct sp_train_options options;
    struct sp_backend *be;
    struct sp_config config;
    const struct sp_head *head; /* NULL: next tokens */
    char source_dir[4096];      /* where tokenizer.json is copied from */
    bool has_tokenizer;
    struct sp_hash tokenizer;
    struct sp_model *init; /* or NULL */
    struct sp_param_set *set;
    struct sp_train_net *net;
    struct sp_optimiser optimiser;
    struct sp_feed *feed;
    struct sp_train_doc *eval; /* from a file; else the feed's holdout is used */
    int64_t n_eval;
    struct sp_carry carry, eval_carry;
    uint64_t n_doc_total; /* of all epochs; 0: not known */
    int64_t n_token;
    struct sp_train_place place;
    double elapsed_before_s, start_s, saved_s;
    int64_t resumed;
    int64_t input_ended; /* after so many steps; 0: it has not */
    struct sp_train_report report;
};

double sp_train_clock_s(void); /* monotonic */
double sp_train_elapsed_s(const struct sp_train *run);
/* The next batch, and the place behind it. */
enum sp_code sp_train_next_batch(struct sp_train *run, struct sp_feed_batch *batch,
                                 struct sp_error *err);

/* train_save.c: the model directory. */
enum sp_code sp_train_save(struct sp_train *run, struct sp_error *err);

/* train_checkpoint.c: OUT/checkpoint. */
enum sp_code sp_train_checkpoint_write(struct sp_train *run, struct sp_error *err);
/* Continues from a checkpoint, when there is one: restores everything and reads the input up to
 * where it was. SP_E_USAGE when it was made with other settings. */
enum sp_code sp_train_checkpoint_resume(struct sp_train *run, struct sp_error *err);
void sp_train_checkpoint_remove(const struct sp_train *run);

#endif
