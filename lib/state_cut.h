/* The states of documents that a stream carries (mamba-layer --emit-state), cut out one by one.
 *
 * A cut owns what it has gathered; it borrows the reader.
 */
#ifndef SP_STATE_CUT_H
#define SP_STATE_CUT_H

#include "state.h"

struct sp_state_cut {
    struct sp_reader *r; /* of a stream of any content; set by the caller, the rest zero */
    struct sp_state_gather g;
    uint64_t n_doc; /* DOC records so far; continued documents count once more */
    uint64_t n_error;
    int upstream_exit; /* exit status that a fatal ERR asks for, else 0 */
    char id[4096];     /* of the last document, cut to fit; not NUL-terminated */
    size_t n_id;
};

/* The next document's state; *s NULL at the end of the stream. A document that failed has none.
 * Refuses what sp_state_gather refuses. */
enum sp_code sp_state_cut_next(struct sp_state_cut *c, struct sp_state **s, struct sp_error *err);
void sp_state_cut_clear(struct sp_state_cut *c);

#endif
