/* Reversed layers: which rows they read in which order. Internal to net*.c.
 *
 * A reversed layer reads each window of W tokens of a document from its right end to its left, from
 * a state of zero; windows are aligned to the document's start, and its last one may be shorter. To
 * the kernels a window is a sequence of its own whose rows stand the other way round: row i of it
 * is row order[i] of the batch. Going there and going back is the same, as order[order[i]] = i.
 */
#ifndef SP_NET_REVERSE_H
#define SP_NET_REVERSE_H

#include "statepipe.h"

struct sp_windows {
    int64_t n;           /* windows */
    int64_t *cu_seqlens; /* (n + 1) */
    uint32_t *order;     /* (n_tok) */
    int64_t n_max, n_tok_max;
};

/* The windows of sequences that begin at a multiple of `window` tokens of their documents. Memory
 * is kept from call to call: zero w before the first, sp_windows_clear after the last. */
enum sp_code sp_windows_make(struct sp_windows *w, int64_t window, const int64_t *cu_seqlens,
                             int64_t n_seq, struct sp_error *err);
void sp_windows_clear(struct sp_windows *w);

#endif
