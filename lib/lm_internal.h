/* What the files of lm*.c share. Internal to them; owns what struct sp_lm says. */
#ifndef SP_LM_INTERNAL_H
#define SP_LM_INTERNAL_H

#include "lm.h"
#include "logits.h"
#include "net_pack.h"
#include "token_stream.h"

#define SP_LM_ROWS_MAX 2048                      /* computed in one round */
#define SP_LM_HEAD_ROWS 64                       /* logits are made for so many rows at a time */
#define SP_LM_FORKS_MAX 64                       /* sequences that are scored at a time, */
#define SP_LM_FORK_BYTES_MAX ((size_t)512 << 20) /* and bytes of their states */

/* A state on the device, shared by the sequences that have read the same. */
struct sp_lm_memory {
    struct sp_seq *seq;
    size_t n_ref;
    struct sp_lm_memory *next; /* in the list of free ones */
};

struct sp_lm_seq {
    struct sp_lm_memory *memory; /* NULL: nothing read */
    struct sp_hash prefix;
    uint64_t n_tok;
    enum sp_origin origin;
    bool has_last;
    uint32_t last_id;
    float last_hidden[]; /* (d_model) */
};

/* A part of a sequence that is computed at once: tokens [first, first + n). */
struct sp_lm_chunk {
    size_t seq, first, n;
    int64_t row, n_row; /* its hidden vectors: rows [row, row + n_row) of sp_lm.hidden */
};

struct sp_lm {
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_tokenizer *tok;
    struct sp_backend *be;
    struct sp_net *net;
    struct sp_head_net *head;
    enum sp_dtype dtype;
    struct sp_kernels k;
    uint32_t *textless; /* (n_textless) */
    size_t n_textless;
    struct sp_lm_memory *free; /* to be used again */
    /* One round. */
    struct sp_pack pack;
    float *hidden;             /* (SP_LM_ROWS_MAX, d_model) */
    struct sp_lm_chunk *chunk; /* (SP_LM_ROWS_MAX) */
    struct sp_pack_doc *doc;   /* (cap_seq) of the sequences of a call */
    size_t *at;                /* (cap_seq) tokens that have been put into a round */
    size_t cap_seq;
    float *rows;   /* (2, SP_LM_HEAD_ROWS, d_model): what waits for the head */
    float *logits; /* (SP_LM_HEAD_ROWS, vocabulary); NULL before the first scores */
    float *exps;   /* (vocabulary) */
};

/* Gives the sequence a state that is its alone. */
enum sp_code sp_lm_seq_own(struct sp_lm *lm, struct sp_lm_seq *seq, struct sp_error *err);

#endif
