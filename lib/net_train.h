/* The network in training from the inside: shared by net_train.c, which computes, and
 * net_train_memory.c, which allocates. */
#ifndef SP_NET_TRAIN_H
#define SP_NET_TRAIN_H

#include "net_reverse.h"
#include "train.h"

#define SP_TRAIN_BUFFERS_MAX 64
#define SP_TRAIN_NORMED 3 /* falcon_mamba normalises dt, B and C */

/* What a layer's backward pass reads. x_proj gives sp_train_xp_columns columns. */
struct sp_train_kept {
    float *h;       /* (n_tok, d_model): the layer's input */
    float *normed;  /* (n_tok, d_model) */
    float *rstd;    /* (n_tok) */
    float *xz;      /* (n_tok, 2 d_inner): the convolution's input, and the gate */
    float *xc;      /* (n_tok, d_inner): the convolution's output */
    float *xp;      /* (n_tok, dt_rank + 2 d_state): dt, B, C as x_proj gives them */
    float *xn;      /* the same, normalised: xp itself where the model does not */
    float *xn_rstd; /* (SP_TRAIN_NORMED, n_tok) */
    float *dt;      /* (n_tok, d_inner) */
    float *y;       /* (n_tok, d_inner) */
    float *chunk;   /* (n_chunk, d_inner, d_state) */
};

struct sp_train_net {
    const struct sp_param_set *set;
    struct sp_backend *be;
    int64_t n_tok_max, n_seq_max, n_chunk_max, n_block;
    float *value, *grad, *A, *dA;
    struct sp_train_kept *layer; /* (n_layer) */
    float *final_h, *final_normed, *final_rstd;
    float *logits; /* (n_block, n_class) */
    float *loss;   /* (n_tok) */
    float *ones;   /* (n_tok): sums of rows, as products */
    float *eye;    /* (d_state, d_state): copies of columns, as products */
    /* Gradients that are only passed along. */
    float *turned; /* (n_tok, d_model): rows in the order of a reversed layer, or back; or NULL */
    float *dh, *dnormed, *dxz, *dy, *dxc, *ddt, *dB, *dC, *dxp, *dxn;
    /* On the host. */
    float *a_host, *da_host, *loss_host, *logits_host;
    int64_t *cu_chunks; /* (n_seq + 1) */
    struct sp_windows windows;
    int64_t *window_chunks;  /* (n_window + 1); NULL without reversed layers */
    const float **state_ptr; /* (SP_TRAIN_STATE_PTRS, n_seq_max): pointers of one layer */
    void *buffer[SP_TRAIN_BUFFERS_MAX];
    int n_buffer;
};

enum { CONV_IN, SSM_IN, CONV_OUT, SSM_OUT, DCONV_IN, DSSM_IN, SP_TRAIN_STATE_PTRS };

/* Columns of x_proj's output: dt, B and C. */
static inline int64_t sp_train_xp_columns(const struct sp_config *c) {
    return c->dt_rank + 2 * c->d_state;
}

#endif
