/* What predicts the next token of documents that were left open, by their ids: the last hidden
 * vector of each. A list owns its rows; start with NULL. */
#ifndef SP_LEFT_OPEN_H
#define SP_LEFT_OPEN_H

#include "statepipe.h"

#define SP_LEFT_OPEN_MAX 64 /* as many documents as mamba-layer keeps the states of */

struct sp_left_open;
/* Copies id and row (n floats). The oldest one is forgotten when there are more than the limit. */
enum sp_code sp_left_open_keep(struct sp_left_open **list, const char *id, size_t n_id,
                               const float *row, size_t n, struct sp_error *err);
/* The row of the document that this DOC goes on with, which is then no longer open, unless the DOC
 * is a fork of it. False: there is none. */
bool sp_left_open_take(struct sp_left_open **list, const struct sp_record *doc, float *row,
                       size_t n);
void sp_left_open_free(struct sp_left_open *list);

#endif
