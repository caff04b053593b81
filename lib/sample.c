/* Sampling the next token. */
#include "sample.h"
#include "logits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sp_sampler {
    struct sp_sample_options o;
    struct sp_kernels k;
    int64_t n_vocab;
    uint32_t *never; /* (n_never) */
    size_t n_never;
    float *x;       /* (n_vocab) logits, penalised */
    float *w;       /* (n_vocab) exp((x - best) / temperature) */
    uint32_t *id;   /* (n_vocab) kept */
    double *weight; /* (n_vocab) kept */
};

void sp_recent_add(struct sp_recent *r, const uint32_t *id, size_t n) {
    for (size_t i = n > SP_SAMPLE_WINDOW ? n - SP_SAMPLE_WINDOW : 0; i < n; i++)
        r->id[r->n++ % SP_SAMPLE_WINDOW] = id[i];
}

static uint64_t mix(uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double sp_sample_uniform(uint64_t seed, uint64_t stream, uint64_t step) {
    return (double)(mix(mix(mix(seed) ^ stream) ^ step) >> 11) * 0x1p-53;
}

enum sp_code sp_sampler_new(struct sp_sampler **out, const struct sp_sample_options *o,
                            int64_t n_vocab, const uint32_t *never, size_t n_never,
                            struct sp_error *err) {
    *out = NULL;
    if (n_vocab <= (int64_t)n_never)
        return sp_error_set(err, SP_E_BUG, "no token is left to choose");
    struct sp_sampler *s = calloc(1, sizeof *s);
    if (!s) return sp_error_memory(err, "a sampler");
    size_t n = (size_t)n_vocab;
    s->o = *o;
    s->n_vocab = n_vocab;
    s->n_never = n_never;
    sp_kernels_init(&s->k);
    s->never = malloc((n_never + 1) * sizeof *s->never);
    s->x = malloc(n * sizeof *s->x);
    s->w = malloc(n * sizeof *s->w);
    s->id = malloc(n * sizeof *s->id);
    s->weight = malloc(n * sizeof *s->weight);
    if (!s->never || !s->x || !s->w || !s->id || !s->weight) {
        sp_sampler_free(s);
        return sp_error_memory(err, "a sampler");
    }
    if (n_never > 0) memcpy(s->never, never, n_never * sizeof *never);
    *out = s;
    return SP_OK;
}

void sp_sampler_free(struct sp_sampler *s) {
    if (!s) return;
    free(s->never);
    free(s->x);
    free(s->w);
    free(s->id);
    free(s->weight);
    free(s);
}

/* Each token of the window once, however often it is there. */
static void penalise(struct sp_sampler *s, const struct sp_recent *recent) {
    const float by = (float)s->o.repetition;
    size_t n = recent->n < SP_SAMPLE_WINDOW ? (size_t)recent->n : SP_SAMPLE_WINDOW;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = recent->id[i];
        size_t before = 0;
        while (recent->id[before] != id) before++;
        if (before < i || id >= (uint64_t)s->n_vocab) continue;
        s->x[id] = s->x[id] > 0 ? s->x[id] / by : s->x[id] * by;
    }
}

/* s->x: the logits as the cuts see them. */
static void prepare(struct sp_sampler *s, const float *logits, const struct sp_recent *recent) {
    memcpy(s->x, logits, (size_t)s->n_vocab * sizeof *s->x);
    if (recent && s->o.repetition != 1) penalise(s, recent);
    for (size_t i = 0; i < s->n_never; i++) s->x[s->never[i]] = -INFINITY;
}

/* How many ids min-p leaves. */
static int64_t count_min_p(const struct sp_sampler *s, float best) {
    const double least = log(s->o.min_p);
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_vocab; i++)
        n += ((double)s->x[i] - (double)best) / s->o.temperature >= least;
    return n;
}

/* How many of the best k, which are all there are to choose from, top-p leaves; s->id is sorted so
 * far. Few are enough most of the time, so few are sorted at first. */
static int64_t count_top_p(struct sp_sampler *s, int64_t k) {
    double total = 0, sum = 0;
    int64_t sorted = k;
    if (k < s->n_vocab) {
        sp_logits_top(s->x, s->n_vocab, k, s->id);
        for (int64_t i = 0; i < k; i++) total += (double)s->w[s->id[i]];
    } else {
        for (int64_t i = 0; i < k; i++) total += (double)s->w[i];
        sorted = 0;
    }
    for (int64_t i = 0; i < k; i++) {
        if (i == sorted) {
            sorted = sorted == 0 ? 64 : 4 * sorted;
            if (sorted > k) sorted = k;
            sp_logits_top(s->x, s->n_vocab, sorted, s->id);
        }
        sum += (double)s->w[s->id[i]];
        if (sum >= s->o.top_p * total) return i + 1;
    }
    return k;
}

void sp_sampler_cut(struct sp_sampler *s, const float *logits, const struct sp_recent *recent,
                    const uint32_t **id, const double **weight, int64_t *n) {
    uint32_t first;
    prepare(s, logits, recent);
    sp_logits_top(s->x, s->n_vocab, 1, &first);
    const float best = s->x[first];
    const int64_t all = s->n_vocab;
    *id = s->id;
    *weight = s->weight;
    *n = 1;
    s->id[0] = first;
    s->weight[0] = 1;
    if (s->o.temperature <= 0) return;
    for (int64_t i = 0; i < all; i++)
        s->w[i] = (float)(((double)s->x[i] - (double)best) / s->o.temperature);
    s->k.vexp(s->w, s->w, all);
    int64_t keep = s->o.top_k > 0 && s->o.top_k < all ? s->o.top_k : all;
    if (s->o.top_p < 1) keep = count_top_p(s, keep);
    if (s->o.min_p > 0) {
        int64_t most = count_min_p(s, best);
        if (most < keep) keep = most;
    }
    if (keep < all)
        sp_logits_top(s->x, all, keep, s->id);
    else
        for (int64_t i = 0; i < all; i++) s->id[i] = (uint32_t)i;
    for (int64_t i = 0; i < keep; i++) s->weight[i] = (double)s->w[s->id[i]];
    *n = keep;
}

uint32_t sp_sampler_next(struct sp_sampler *s, const float *logits, const struct sp_recent *recent,
                         uint64_t stream, uint64_t step) {
    const uint32_t *id;
    const double *weight;
    double total = 0, sum = 0;
    int64_t n, last = 0;
    sp_sampler_cut(s, logits, recent, &id, &weight, &n);
    if (n == 1) return id[0];
    for (int64_t i = 0; i < n; i++) total += weight[i];
    const double at = sp_sample_uniform(s->o.seed, stream, step) * total;
    for (int64_t i = 0; i < n; i++) {
        if (weight[i] <= 0) continue;
        sum += weight[i];
        last = i;
        if (sum > at) break;
    }
    return id[last];
}
