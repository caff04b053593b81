/* Distances of states. */
#include "state_near.h"

#include <math.h>
#include <stdlib.h>

static double layer_distance(const float *q, const float *x, size_t n, enum sp_metric metric) {
    double qq = 0, xx = 0, qx = 0, dd = 0;
    for (size_t i = 0; i < n; i++) {
        double a = q[i], b = x[i], d = a - b;
        qq += a * a;
        xx += b * b;
        qx += a * b;
        dd += d * d;
    }
    if (dd == 0) return 0; /* both zero too */
    if (metric == SP_METRIC_L2) return sqrt(dd) / (sqrt(qq) + sqrt(xx));
    if (qq == 0 || xx == 0) return 1;
    double far = 1 - qx / (sqrt(qq) * sqrt(xx));
    return far < 0 ? 0 : far; /* not fmax, which would hide a NaN */
}

double sp_state_distance(const struct sp_state *q, const struct sp_state *x,
                         enum sp_metric metric) {
    size_t layers = q->layer_last - q->layer_first + 1, n = sp_state_ssm_size(q);
    double sum = 0;
    for (size_t i = 0; i < layers; i++)
        sum += layer_distance(q->ssm + i * n, x->ssm + i * n, n, metric);
    return sum / (double)layers;
}

static enum sp_code measure(const struct sp_state *q, const struct sp_state *s,
                            enum sp_metric metric, struct sp_near *near, struct sp_error *err) {
    enum sp_code code = sp_state_check_like(s, q, "the query", err);
    if (!code) code = sp_state_check_layers(s, q, "the query", err);
    if (code) return code;
    near->distance = sp_state_distance(q, s, metric);
    near->n_tok = s->n_tok;
    near->origin = s->origin;
    if (!isnan(near->distance)) return SP_OK;
    return sp_error_set(err, SP_E_DATA, "the state or the query holds NaN or infinity");
}

enum sp_code sp_near_measure(const struct sp_state *q, const char *path, enum sp_metric metric,
                             struct sp_near *near, struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code = sp_state_read(&s, path, err);
    if (code) return code; /* the file is named already */
    near->name = path;
    code = measure(q, s, metric, near, err);
    sp_state_free(s);
    return code ? sp_error_prefix(err, "%s", path) : SP_OK;
}

static int by_distance(const void *a, const void *b) {
    const struct sp_near *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

void sp_near_sort(struct sp_near *near, size_t n) {
    if (n) qsort(near, n, sizeof *near, by_distance);
}
