/* Words of a document that its question has, marked in the text. Owns nothing.
 *
 * That a word stands in the question too is what a reader goes by first, and the dearest thing to
 * learn; so a model may be given it (the exact match feature of Chen et al., Reading Wikipedia to
 * Answer Open-Domain Questions, arXiv 1704.00051, section 3.2).
 */
#ifndef SP_MARK_H
#define SP_MARK_H

#include <stddef.h>

#define SP_MARK '\x01'

/* A copy of doc (UTF-8) with SP_MARK behind every word that query has: *n_out bytes and a NUL, to
 * be freed; NULL when out of memory. Words are stretches of letters and digits, with the dots that
 * stand inside them left out ("Ph.D" is "PhD"), and without regard to case. One of a single
 * character does not count, nor does one of up to three that begins with a small letter in the
 * query. *at (*n_mark): where in doc the marks are put, ascending, to be freed; may be NULL. */
char *sp_mark_words(const char *query, size_t n_query, const char *doc, size_t n_doc, size_t *n_out,
                    size_t **at, size_t *n_mark);

#endif
