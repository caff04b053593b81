/* What is done with a row of logits, wherever it comes from. Pure functions; they own nothing. */
#ifndef SP_LOGITS_H
#define SP_LOGITS_H

#include "../kernels/kernels.h"
#include "statepipe.h"

/* Logarithm of the sum of exp(x): n values, any finite ones. scratch (n). The sum is taken in
 * double and in an order that depends on n only. */
double sp_log_sum_exp(const struct sp_kernels *k, const float *x, int64_t n, float *scratch);

/* Indices of the k largest of n values, largest first, equal ones by index; k <= n. */
void sp_logits_top(const float *x, int64_t n, int64_t k, uint32_t *index);

#endif
