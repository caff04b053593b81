/* What the files of net_layers*.c share. Internal to them; owns what struct sp_layers says. */
#ifndef SP_NET_LAYERS_INTERNAL_H
#define SP_NET_LAYERS_INTERNAL_H

#include "cache.h"
#include "net_layers.h"
#include "net_pack.h"
#include "state.h"
#include "taken.h"

#define SP_LAYERS_ID_MAX 4096 /* bytes of a document's id that are kept */

#define SP_LAYERS_PATH_MAX 4096 /* of a state's file */

#define SP_LAYERS_MARKS_MAX 16 /* of a document */

/* A document that is held, being read, or left open. */
struct sp_layers_doc {
    struct sp_pack_doc pack;     /* first: see net_pack.h */
    struct sp_layers_doc *next;  /* in the list of open or of free ones */
    struct sp_layers_doc *other; /* in the list of all */
    uint64_t doc;                /* its index in the segment */
    uint64_t number;             /* and in the run */
    uint64_t n_row;              /* read since its DOC */
    bool failed;
    struct sp_hash prefix;
    uint64_t n_tok;
    enum sp_origin origin;
    uint32_t last_id;
    float *last_hidden; /* (d_model): of the last row written */
    bool has_last;
    /* With a cache. */
    bool keeps;                  /* its states may be kept */
    bool end_kept;               /* the one at its end will be */
    struct sp_cache_trail trail; /* while it is looked at ahead, that far; else as prefix */
    uint64_t n_held;             /* its tokens computed or held */
    uint64_t pad;                /* padding at its end */
    size_t n_mark;
    uint64_t mark[SP_LAYERS_MARKS_MAX]; /* (n_mark): byte offsets that lie ahead */
    size_t n_id;
    char id[SP_LAYERS_ID_MAX];
};

struct sp_layers {
    struct sp_layers_options o;
    struct sp_filter *filter;
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be;
    struct sp_net *net;
    struct sp_state *state;         /* what documents start from, or NULL */
    struct sp_state_gather arrived; /* STATE records that will replace it */
    struct sp_hello hello;
    struct sp_pack pack;
    size_t docs_max, n_doc; /* documents with a state; how many may be held */
    uint64_t number;
    struct sp_taken files;         /* of states */
    struct sp_layers_doc *current; /* being read, or NULL */
    struct sp_layers_doc *open, *free, *all;
    size_t n_open;
    struct sp_layers_checkpoint *checkpoint; /* or NULL */
    struct sp_layers_cache *cache;           /* or NULL */
};

/* Computes and writes everything held, in the order in which it came. */
enum sp_code sp_layers_flush(struct sp_layers *l, struct sp_writer *w, struct sp_error *err);

/* Takes over a CHUNK of the current document, whose first `known` rows are not to be computed and
 * whose `hidden` is there. */
enum sp_code sp_layers_hold_chunk(struct sp_layers *l, struct sp_record *rec, int64_t known,
                                  struct sp_writer *w, struct sp_error *err);
/* Takes over another record of the current document, which a DOCEND ends. */
enum sp_code sp_layers_hold_other(struct sp_layers *l, struct sp_record *rec, struct sp_writer *w,
                                  struct sp_error *err);

/* Writes the states of the documents that were left open into files, where that is asked for. */
enum sp_code sp_layers_dump_open(struct sp_layers *l, struct sp_error *err);

/* The name of the file for a document's state. */
enum sp_code sp_layers_dump_path(char *out, size_t size, const struct sp_layers *l,
                                 const struct sp_layers_doc *d, struct sp_error *err);

/* The document that a DOC begins or goes on with, with its state; it becomes the current one. */
enum sp_code sp_layers_doc_start(struct sp_layers *l, const struct sp_record *rec,
                                 struct sp_error *err);
/* Is the end of the open document that this DOC goes on with still held? */
bool sp_layers_doc_waits(const struct sp_layers *l, const struct sp_record *rec);
bool sp_layers_doc_stays_open(const struct sp_record *docend);
/* Of its DOCEND: a document that goes on keeps its state; any other gives it back. */
enum sp_code sp_layers_doc_end(struct sp_layers *l, struct sp_layers_doc *d,
                               const struct sp_record *rec, struct sp_error *err);
/* Gives its state back. */
void sp_layers_doc_forget(struct sp_layers *l, struct sp_layers_doc *d);
/* Puts a state into it, NULL for nothing read. */
enum sp_code sp_layers_doc_load(struct sp_layers *l, struct sp_layers_doc *d,
                                const struct sp_state *s, struct sp_error *err);
/* Its state, at the last row that was accounted for. */
enum sp_code sp_layers_doc_state(struct sp_layers *l, const struct sp_layers_doc *d,
                                 struct sp_state **s, struct sp_error *err);
void sp_layers_doc_free_all(struct sp_layers *l);

/* Checkpoints (net_layers_checkpoint.c), where options ask for them. _open: before anything is
 * read; _check: the model is there; _read: every record, before anything else is done with it;
 * _chunk: of a document, with so many rows, held; it may flush. */
enum sp_code sp_layers_checkpoint_open(struct sp_layers *l, struct sp_error *err);
enum sp_code sp_layers_checkpoint_check(struct sp_layers *l, struct sp_error *err);
enum sp_code sp_layers_checkpoint_read(struct sp_layers *l, const struct sp_record *rec,
                                       struct sp_error *err);
enum sp_code sp_layers_checkpoint_chunk(struct sp_layers *l, int64_t n_row, struct sp_writer *w,
                                        struct sp_error *err);
/* What is read now was computed and written by a run before this one. */
bool sp_layers_checkpoint_skips(const struct sp_layers *l);
void sp_layers_checkpoint_free(struct sp_layers *l);

/* The cache (net_layers_cache.c), where options ask for one. _open: the model is there. */
enum sp_code sp_layers_cache_open(struct sp_layers *l, struct sp_error *err);
void sp_layers_cache_free(struct sp_layers *l);
/* The current document begins, or goes on. */
void sp_layers_cache_doc(struct sp_layers *l, const struct sp_record *rec);
/* Its next CHUNK, with `hidden`. *waits: it was taken over. */
enum sp_code sp_layers_cache_chunk(struct sp_layers *l, struct sp_record *rec, bool *waits,
                                   struct sp_writer *w, struct sp_error *err);
/* Its next TEXT, which may not overtake a CHUNK. *waits: it was taken over. */
enum sp_code sp_layers_cache_text(struct sp_layers *l, struct sp_record *rec, bool *waits,
                                  struct sp_error *err);
/* Nothing of the current document waits any more. */
enum sp_code sp_layers_cache_settle(struct sp_layers *l, struct sp_writer *w, struct sp_error *err);
/* The chunk that waits for what follows it does so no more; ends: the document's end follows. As
 * for _plan, there may be no current document then. */
enum sp_code sp_layers_cache_go_on(struct sp_layers *l, bool ends, struct sp_writer *w,
                                   struct sp_error *err);
/* The current document has failed. */
void sp_layers_cache_drop(struct sp_layers *l);
/* Stops of a CHUNK that will be held. The document may fail when what came before is written; there
 * is no current one then. */
enum sp_code sp_layers_cache_plan(struct sp_layers *l, struct sp_held *plan, struct sp_writer *w,
                                  struct sp_error *err);
/* Rows up to h->done are accounted for. */
void sp_layers_cache_rows(struct sp_layers *l, struct sp_layers_doc *d, const struct sp_held *h);
/* All of the document is. */
void sp_layers_cache_docend(struct sp_layers *l, struct sp_layers_doc *d);

#endif
