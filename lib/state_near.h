/* Ranking states by their distance to one. */
#ifndef SP_STATE_NEAR_H
#define SP_STATE_NEAR_H

#include "state.h"

enum sp_metric { SP_METRIC_COSINE = 0, SP_METRIC_L2 };

/* The mean over layers of the distance of their ssm, each layer by its own measure, so that none
 * counts for more because its numbers are larger:
 *   cosine  1 - <q, x> / (||q|| ||x||), from 0 to 2
 *   l2      ||q - x|| / (||q|| + ||x||), from 0 to 1
 * Equal states have 0. NaN where a state holds NaN or infinity. The convolution's inputs, the last
 * few tokens alone, are left out. Both are of one shape and have the same layers. */
double sp_state_distance(const struct sp_state *q, const struct sp_state *x, enum sp_metric metric);

struct sp_near {
    const char *name; /* borrowed */
    size_t place;     /* in the order of the caller */
    double distance;  /* not NaN */
    uint64_t n_tok;
    enum sp_origin origin;
};
/* Reads the state at path and fills all of near but its place. SP_E_DATA when it is not comparable
 * with q, which the message calls the query. */
enum sp_code sp_near_measure(const struct sp_state *q, const char *path, enum sp_metric metric,
                             struct sp_near *near, struct sp_error *err);
/* Nearest first; of equal distances the first place. */
void sp_near_sort(struct sp_near *near, size_t n);

#endif
