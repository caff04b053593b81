/* A folder of states, found by what was read (man 1 statepipe-mamba-layer, "The cache").
 *
 * An entry is a state file whose name says the model, the type of products, how many tokens were
 * read and their prefix hash (sp_state_hash_ids), so that a listing of the folder tells which there
 * are. Several processes may share a folder: entries appear whole and are only ever removed whole;
 * a lock is held for the time of a listing, while room is made and a name is given. An entry that
 * cannot be used is removed, said, and no error: a cache only saves time.
 *
 * struct sp_cache owns its listing, and serves one document at a time.
 */
#ifndef SP_CACHE_H
#define SP_CACHE_H

#include "statepipe.h"

#define SP_CACHE_TOKENS_MIN 64 /* a state of fewer tokens is not worth a file */
#define SP_CACHE_HINTS 6

struct sp_cache_options {
    const char *dir; /* made where it is missing */
    uint64_t bytes_max;
    const struct sp_model *model;
    enum sp_dtype dtype;                            /* of products */
    void (*say)(bool warning, const char *message); /* one line for a person; may be NULL */
};

/* What has been read of a document. The hints are pieces of its prefix hash after
 * SP_CACHE_TOKENS_MIN tokens, 16 times as many, and so on; 0 where it is not known. Names of
 * entries hold theirs, so that most states of other documents are ruled out early. */
struct sp_cache_trail {
    struct sp_hash prefix;
    uint64_t n_tok;
    uint32_t hint[SP_CACHE_HINTS];
};
void sp_cache_trail_add(struct sp_cache_trail *t, const uint32_t *id, size_t n);

struct sp_cache;
/* SP_E_IO where the folder cannot be made or written to. */
enum sp_code sp_cache_open(struct sp_cache **c, const struct sp_cache_options *o,
                           struct sp_error *err);
void sp_cache_free(struct sp_cache *c);

/* Begins to look for states of a document; t: what it starts from. False: there is none that could
 * match. */
bool sp_cache_look(struct sp_cache *c, const struct sp_cache_trail *t);
/* Its next tokens, which t is advanced by. False: no longer state can match any more. */
bool sp_cache_look_on(struct sp_cache *c, struct sp_cache_trail *t, const uint32_t *id, size_t n);
/* The longest state of the document's tokens so far, now used last; NULL where there is none. */
struct sp_state *sp_cache_take(struct sp_cache *c);

/* Keeps a state of what t says, unless it is there; only of origin read, and with its last token.
 * What has not been used for the longest time makes room. */
void sp_cache_put(struct sp_cache *c, const struct sp_state *s, const struct sp_cache_trail *t);

#endif
