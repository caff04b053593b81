/* A text coloured by how much each of its tokens surprised a language model, as a page or for a
 * terminal. Owns nothing; writes to the file that it is given, whose error flag the caller looks
 * at.
 *
 * The scale is in bits (-log2 of the probability) and always the same, so that two texts, or one
 * text alone and after a state, can be compared by eye.
 */
#ifndef SP_SURPRISAL_H
#define SP_SURPRISAL_H

#include "records_write.h"

/* Before the first document: the head of the page (HTML), and the legend. */
void sp_surprisal_begin(FILE *out, enum sp_records_format format);
/* span (n, 2): bytes of the document's text; bits (n), -1 where nothing is known. Tokens that share
 * a character are coloured as one, by the sum of their bits; those without text are left out. The
 * heading says the mean over all that is known; n_before: the tokens of a state that the document
 * began from, 0 for none. */
void sp_surprisal_write(FILE *out, enum sp_records_format format, const struct sp_document *doc,
                        const uint64_t *span, const float *bits, size_t n, uint64_t n_before);

#endif
