/* States as records of a stream. A content: state segment is HELLO, one STATE record per layer, one
 * STATE record for the last token where it is known, END; each of them sealed by a checksum (man 5
 * statepipe-state).
 *
 * A gather owns what was added to it until sp_state_gather_end or _clear.
 */
#ifndef SP_STATE_H
#define SP_STATE_H

#include "statepipe.h"

/* A STATE record's place: its layer, or the last token's record. SP_E_DATA when it says neither. */
enum sp_code sp_state_record_layer(const struct sp_record *rec, bool *is_last, uint32_t *layer,
                                   struct sp_error *err);

/* Collects STATE records, in any order, into one state. Start with zeros. */
struct sp_state_gather {
    size_t n; /* records so far */
    struct sp_state_rows *rows;
};
/* Takes over rec (also on failure), whose checksum the reader has seen. Refuses a shape that is not
 * what the record says, a layer that is there already, and a record of another model, document or
 * position. */
enum sp_code sp_state_gather_add(struct sp_state_gather *g, struct sp_record *rec,
                                 struct sp_error *err);
bool sp_state_gather_has(const struct sp_state_gather *g, uint32_t layer);
bool sp_state_gather_lacks_last(const struct sp_state_gather *g); /* and has layers */
/* The state of what was added: *s NULL for nothing. Refuses a gap between layers. Leaves the gather
 * empty. */
enum sp_code sp_state_gather_end(struct sp_state_gather *g, struct sp_state **s,
                                 struct sp_error *err);
void sp_state_gather_clear(struct sp_state_gather *g);

/* A segment's parts, for a file that holds more than a state. _sealed seals, writes and frees. */
enum sp_code sp_state_send_hello(const struct sp_state *s, struct sp_writer *w,
                                 struct sp_error *err);
enum sp_code sp_state_send_sealed(struct sp_record *rec, struct sp_writer *w, struct sp_error *err);
enum sp_code sp_state_send_end(struct sp_writer *w, struct sp_error *err);
/* A whole segment: the same bytes, whichever program writes it. */
enum sp_code sp_state_send(const struct sp_state *s, struct sp_writer *w, struct sp_error *err);
/* Its STATE records alone; doc: the document that they are of and stand in (its index in the
 * segment), NULL in a state segment. */
enum sp_code sp_state_send_records(const struct sp_state *s, const uint64_t *doc,
                                   struct sp_writer *w, struct sp_error *err);
/* The segment without its layers: what programs behind the layers have to know of a state that
 * documents start from. Nothing where the last token is not known. */
enum sp_code sp_state_send_last(const struct sp_state *s, struct sp_writer *w,
                                struct sp_error *err);
/* All segments of a stream, as one state. */
enum sp_code sp_state_receive(struct sp_state **s, struct sp_reader *r, struct sp_error *err);

/* As sp_state_write, or to standard output where path is "-". */
enum sp_code sp_state_put(const struct sp_state *s, const char *path, struct sp_error *err);

/* Zeroed memory for the shapes, n_tok and hashes zero; SP_E_DATA for absurd ones. */
enum sp_code sp_state_alloc(struct sp_state **s, const struct sp_state *shape,
                            struct sp_error *err);
/* The same; without rows, conv and ssm are NULL: the caller has them (or sets them) from malloc. */
enum sp_code sp_state_alloc_parts(struct sp_state **s, const struct sp_state *shape, bool rows,
                                  struct sp_error *err);
/* Elements of one layer. */
static inline size_t sp_state_conv_size(const struct sp_state *s) {
    return (size_t)(s->d_conv - 1) * (size_t)s->d_inner;
}
static inline size_t sp_state_ssm_size(const struct sp_state *s) {
    return (size_t)s->d_inner * (size_t)s->d_state;
}

/* Takes over what names a state, but not its numbers, layers and last token: model, tokenizer,
 * prefix, origin, dtype, n_tok. */
void sp_state_copy_names(struct sp_state *to, const struct sp_state *from);

/* Is s of the model, tokenizer (unknown ones pass) and shape of like? Does it have the same layers?
 * SP_E_DATA with the reason; name is like's. */
enum sp_code sp_state_check_like(const struct sp_state *s, const struct sp_state *like,
                                 const char *name, struct sp_error *err);
enum sp_code sp_state_check_layers(const struct sp_state *s, const struct sp_state *like,
                                   const char *name, struct sp_error *err);
/* Was it made with this tokenizer, which owner has; with that of this stream? Unknown (zero)
 * fingerprints pass. */
enum sp_code sp_state_check_tokenizer(const struct sp_state *s, const struct sp_hash *tokenizer,
                                      const char *owner, struct sp_error *err);
enum sp_code sp_state_check_stream(const struct sp_state *s, const struct sp_hello *hello,
                                   struct sp_error *err);
const char *sp_origin_name(enum sp_origin origin); /* "read", ... */
bool sp_origin_find(const char *name, enum sp_origin *origin);

#endif
