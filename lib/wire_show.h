/* Records and tensors as a person or a JSON reader wants to see them. Writes to the FILE it is
 * given, whose errors are the caller's to check. Owns nothing. */
#ifndef SP_WIRE_SHOW_H
#define SP_WIRE_SHOW_H

#include "statepipe.h"
#include <stdio.h>

/* Of a tensor's elements: NaN and infinite ones are counted and left out of the rest. */
struct sp_stats {
    uint64_t n, n_nan, n_inf;
    double min, max, sum, sum_squares;
};
/* Adds a tensor's elements. Start with zeros. */
void sp_stats_add(struct sp_stats *s, const struct sp_tensor *t);
void sp_stats_add_f32(struct sp_stats *s, const float *x, size_t n);
uint64_t sp_stats_finite(const struct sp_stats *s);
double sp_stats_norm(const struct sp_stats *s); /* Euclidean */

/* A quoted JSON string; control characters and invalid UTF-8 are escaped, so that it is fit for a
 * terminal too. */
void sp_show_string(FILE *out, const char *s, size_t n);
/* A number JSON can hold; null for NaN and infinity. digits: significant ones. */
void sp_show_number(FILE *out, double x, int digits);

/* offset: of the record in its stream; n_value: how many elements of each tensor to show. */
void sp_show_record_text(FILE *out, const struct sp_record *rec, uint64_t offset, size_t n_value);
void sp_show_record_json(FILE *out, const struct sp_record *rec, uint64_t offset, size_t n_value);

#endif
