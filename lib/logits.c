/* Rows of logits. */
#include "logits.h"

#include <math.h>

double sp_log_sum_exp(const struct sp_kernels *k, const float *x, int64_t n, float *scratch) {
    float most = x[0];
    for (int64_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < n; i++) scratch[i] = x[i] - most;
    k->vexp(scratch, scratch, n);
    double sum[4] = {0};
    for (int64_t i = 0; i < n; i++) sum[i % 4] += (double)scratch[i];
    return (double)most + log(sum[0] + sum[1] + (sum[2] + sum[3]));
}

/* a comes before b */
static bool above(const float *x, uint32_t a, uint32_t b) {
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* A heap with the last of the best on top: most of n are turned away by one comparison. */
static void sift(const float *x, uint32_t *heap, int64_t n, int64_t at) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && above(x, heap[child], heap[child + 1])) child++;
        if (!above(x, heap[at], heap[child])) return;
        uint32_t held = heap[at];
        heap[at] = heap[child];
        heap[child] = held;
        at = child;
    }
}

void sp_logits_top(const float *x, int64_t n, int64_t k, uint32_t *index) {
    for (int64_t i = 0; i < k; i++) index[i] = (uint32_t)i;
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift(x, index, k, i);
    for (int64_t i = k; i < n; i++) {
        if (!above(x, (uint32_t)i, index[0])) continue;
        index[0] = (uint32_t)i;
        sift(x, index, k, 0);
    }
    for (int64_t i = k - 1; i > 0; i--) {
        uint32_t last = index[0];
        index[0] = index[i];
        index[i] = last;
        sift(x, index, i, 0);
    }
}
