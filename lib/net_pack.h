/* Chunks of several documents, held together and computed in few batches. Internal to net_*.c.
 * Owns the records it holds until they are taken out.
 *
 * Which path a chunk takes (SP_PACK_*) depends on its own number of rows, and which rows share a
 * batch does not show in any bit: see backend.h.
 */
#ifndef SP_NET_PACK_H
#define SP_NET_PACK_H

#include "net.h"

enum sp_pack_kind { SP_PACK_TILED, SP_PACK_STEP, SP_PACK_ONE, SP_PACK_KINDS };

/* The path of a chunk of so many rows. */
enum sp_pack_kind sp_pack_kind_of(int64_t n_row);

#define SP_PACK_STOPS_MAX 4

struct sp_pack_doc;
struct sp_held {
    struct sp_record *rec;   /* NULL where there is no stream */
    struct sp_pack_doc *doc; /* whose record it is */
    float *hidden;           /* of a CHUNK: (n, d_model), replaced by the output; else NULL */
    int64_t n, done;         /* rows; of them computed, or under way */
    int64_t landed;          /* of them in hidden */
    int64_t known;           /* rows at its beginning that were never to be computed */
    int64_t n_stop;          /* rows behind which its document's state is looked at: */
    int64_t stop[SP_PACK_STOPS_MAX]; /* (n_stop), ascending, in [1, n] */
};
/* A document's place in a batch; the filter's own struct begins with it. */
struct sp_pack_doc {
    struct sp_seq *seq;
    uint64_t round; /* of the batch that last looked at it */
    int64_t slot;   /* its sequence there, -1 when it has to wait */
};

struct sp_pack {
    struct sp_net *net;
    int64_t d_model, rows_max;
    struct sp_held *held; /* (cap) */
    size_t n, cap;
    int64_t n_row;     /* held and not computed */
    int64_t rows_held; /* and all that were added since nothing was held */
    uint64_t round;
    /* Called for rows [first, first + n) of h when they are computed, in order within a document;
     * at a stop, its state is that behind them. NULL: not wanted. */
    enum sp_code (*on_rows)(void *ctx, const struct sp_held *h, int64_t first, int64_t n,
                            struct sp_error *err);
    void *ctx;
    /* One batch; and the parts of the one before, which may still be under way. */
    float *hidden;       /* (rows_max, d_model) */
    int64_t *cu_seqlens; /* (cap + 1) */
    struct sp_seq **seq; /* (cap) */
    struct part {
        size_t held;
        int64_t slot, first, n, row; /* rows [first, first + n) of held, at row of the batch */
    } * part, *away;                 /* (cap) */
    size_t n_away;
};

enum sp_code sp_pack_new(struct sp_pack *p, struct sp_net *net, int64_t d_model, int64_t rows_max,
                         size_t held_max, struct sp_error *err);
void sp_pack_clear(struct sp_pack *p);
/* There is room: p->n < p->cap. The copy's record is owned. */
void sp_pack_add(struct sp_pack *p, const struct sp_held *h);
/* Computes all chunks held. The caller then takes the records out and sets n to 0. */
enum sp_code sp_pack_compute(struct sp_pack *p, struct sp_error *err);
/* The same, but the last batch may be under way still: of chunks that have not landed (landed < n)
 * sp_pack_end waits for the rows. */
enum sp_code sp_pack_begin(struct sp_pack *p, struct sp_error *err);
enum sp_code sp_pack_end(struct sp_pack *p, struct sp_error *err);
/* Sends a batch on its way where the backend works beside the host and there are rows enough, so
 * that it is computed while the caller reads on. */
enum sp_code sp_pack_start(struct sp_pack *p, struct sp_error *err);

#endif
