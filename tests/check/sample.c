/* Sampling: the cuts against a naive reference, ties, penalties, the distribution of draws. */
#include "../../lib/sample.h"
#include "check.h"

#include <math.h>

enum { VOCAB = 300, ROUNDS = 400 };
static struct sp_error err;

static struct sp_sampler *sampler(const struct sp_sample_options *o, int64_t n,
                                  const uint32_t *never, size_t n_never) {
    struct sp_sampler *s = NULL;
    if (sp_sampler_new(&s, o, n, never, n_never, &err)) {
        check_ok(false, "sampler: %s", err.msg);
        exit(check_end());
    }
    return s;
}

/* ---- a naive reference: probabilities in double, everything sorted --------------------------- */

struct ranked {
    double logit, p;
    uint32_t id;
};

static int by_rank(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void normalise(struct ranked *r, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += r[i].p;
    for (size_t i = 0; i < n; i++) r[i].p /= sum;
}

static size_t naive(const struct sp_sample_options *o, const float *x, size_t n, struct ranked *r) {
    for (size_t i = 0; i < n; i++)
        r[i] = (struct ranked){x[i], exp((double)x[i] / o->temperature), (uint32_t)i};
    qsort(r, n, sizeof *r, by_rank);
    if (o->top_k > 0 && (size_t)o->top_k < n) n = (size_t)o->top_k;
    normalise(r, n);
    double sum = 0;
    for (size_t i = 0; i < n && o->top_p < 1; i++) {
        sum += r[i].p;
        if (sum >= o->top_p) n = i + 1;
    }
    normalise(r, n);
    const double least = o->min_p * r[0].p;
    while (n > 1 && r[n - 1].p < least) n--;
    normalise(r, n);
    return n;
}

/* Half of the rounds have logits of few values, so that ties stand across every border. */
static void check_cuts(void) {
    static struct ranked want[VOCAB];
    static float x[VOCAB];
    int wrong = 0, many = 0;
    double worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = (size_t)check_random_int(1, VOCAB), cut;
        struct sp_sample_options o = {.temperature = check_random_float(0.3f, 3), .repetition = 1};
        o.top_k = check_random_int(0, 2) ? check_random_int(1, VOCAB) : 0;
        o.top_p = check_random_int(0, 2) ? check_random_float(0.01f, 0.999f) : 1;
        o.min_p = check_random_int(0, 2) ? check_random_float(0.001f, 0.5f) : 0;
        check_fill(x, VOCAB, -4, 4);
        for (int i = 0; i < VOCAB && round % 2; i++) x[i] = rintf(x[i]);
        struct sp_sampler *s = sampler(&o, (int64_t)n, NULL, 0);
        const uint32_t *id;
        const double *weight;
        int64_t kept;
        double total = 0;
        sp_sampler_cut(s, x, NULL, &id, &weight, &kept);
        cut = naive(&o, x, n, want);
        wrong += kept != (int64_t)cut;
        many += kept > 1;
        for (int64_t i = 0; i < kept; i++) total += weight[i];
        for (size_t i = 0; i < cut && kept == (int64_t)cut; i++) {
            size_t at = i;
            while (id[at] != want[i].id && cut == n) at = (at + 1) % n; /* in order of id */
            wrong += id[at] != want[i].id;
            worst = fmax(worst, fabs(weight[at] / total - want[i].p));
        }
        sp_sampler_free(s);
    }
    check_ok(wrong == 0 && many > ROUNDS / 4, "cuts: the sets are the naive ones (%d of one)",
             ROUNDS - many);
    check_ok(worst < 1e-6, "cuts: probabilities within %.2g", worst);
}

/* top-p of nearly everything sorts in several steps. */
static void check_large(void) {
    enum { N = 5000 };
    static float x[N];
    static struct ranked want[N];
    const uint32_t *id;
    const double *weight;
    int64_t kept;
    check_fill(x, N, -1, 1);
    struct sp_sample_options o = {.temperature = 1, .top_p = 0.97, .repetition = 1};
    struct sp_sampler *s = sampler(&o, N, NULL, 0);
    sp_sampler_cut(s, x, NULL, &id, &weight, &kept);
    int64_t n = (int64_t)naive(&o, x, N, want);
    int wrong = 0;
    /* The border is a sum of thousands of rounded numbers: one token more or less is no error. */
    for (int64_t i = 0; i < kept && i < n; i++) wrong += id[i] != want[i].id;
    check_ok(wrong == 0 && llabs(kept - n) <= 1 && n > 4096, "large: top-p keeps %lld of %d",
             (long long)kept, N);
    sp_sampler_free(s);
}

static void check_greedy(void) {
    float x[6] = {1, 3, 3, -2, 9, 3};
    const uint32_t never[] = {4};
    struct sp_sample_options o = {.temperature = 0, .top_p = 1, .repetition = 1};
    struct sp_sampler *s = sampler(&o, 6, never, 1);
    check_ok(sp_sampler_next(s, x, NULL, 0, 0) == 1, "greedy: the lowest id of equal ones");
    check_ok(x[4] == 9, "greedy: logits stay as they are");
    sp_sampler_free(s);
    o = (struct sp_sample_options){.temperature = 5, .top_p = 1, .repetition = 1};
    s = sampler(&o, 6, never, 1);
    int seen = 0;
    for (uint64_t i = 0; i < 2000; i++) seen |= 1 << sp_sampler_next(s, x, NULL, 0, i);
    check_ok(seen == 0x2f, "never: everything else is drawn, that not (0x%x)", seen);
    sp_sampler_free(s);
    check_ok(sp_sampler_new(&s, &o, 1, never, 1, &err) == SP_E_BUG, "never: %s", err.msg);
}

static void check_penalty(void) {
    float x[4] = {2, 1.5f, -1, -1.2f};
    struct sp_recent recent = {0};
    const uint32_t seen[] = {0, 2, 0, 2};
    struct sp_sample_options o = {.temperature = 1, .top_p = 1, .repetition = 2};
    struct sp_sampler *s = sampler(&o, 4, NULL, 0);
    const uint32_t *id;
    const double *w;
    int64_t n;
    sp_recent_add(&recent, seen, 4);
    sp_sampler_cut(s, x, &recent, &id, &w, &n); /* 1, 1.5, -2, -1.2 */
    bool ok = n == 4;
    const double want[] = {1, 1.5, -2, -1.2f};
    for (int i = 0; i < 4; i++) ok = ok && fabs(w[i] / w[1] - exp(want[i] - 1.5)) < 1e-6;
    check_ok(ok, "penalty: once a token, towards less on either side of 0");
    uint32_t other[SP_SAMPLE_WINDOW];
    for (size_t i = 0; i < SP_SAMPLE_WINDOW; i++) other[i] = 1;
    sp_recent_add(&recent, other, SP_SAMPLE_WINDOW - 2);
    sp_sampler_cut(s, x, &recent, &id, &w, &n); /* 0 and 2 are still there */
    ok = fabs(w[0] / w[1] - exp(1 - 0.75)) < 1e-6;
    sp_recent_add(&recent, other, SP_SAMPLE_WINDOW);
    sp_sampler_cut(s, x, &recent, &id, &w, &n);
    ok = ok && fabs(w[0] / w[1] - exp(2 - 0.75)) < 1e-6;
    check_ok(ok, "penalty: over the last %d tokens", SP_SAMPLE_WINDOW);
    sp_sampler_free(s);
}

/* Pearson's chi-square against the weights; 19 degrees of freedom are above 50 once in 8,000. */
static double chi_square(struct sp_sampler *s, const float *x, uint64_t stream, int n_draw,
                         const double *p) {
    int count[20] = {0};
    double sum = 0;
    for (int i = 0; i < n_draw; i++) count[sp_sampler_next(s, x, NULL, stream, (uint64_t)i)]++;
    for (int i = 0; i < 20; i++) {
        double e = p[i] * n_draw;
        sum += (count[i] - e) * (count[i] - e) / e;
    }
    return sum;
}

static void check_draws(void) {
    enum { DRAWS = 200000 };
    float x[20];
    struct ranked r[20];
    double p[20], uniform = 0;
    struct sp_sample_options o = {.temperature = 0.8, .top_p = 1, .repetition = 1, .seed = 42};
    struct sp_sampler *s = sampler(&o, 20, NULL, 0);
    check_fill(x, 20, -1, 1);
    naive(&o, x, 20, r);
    for (int i = 0; i < 20; i++) p[r[i].id] = r[i].p;
    double a = chi_square(s, x, 0, DRAWS, p), b = chi_square(s, x, 1, DRAWS, p);
    check_ok(a < 50 && b < 50 && a != b, "draws: chi-square %.1f and %.1f of 19", a, b);
    bool same = true;
    for (uint64_t i = 0; i < 100; i++)
        same = same && sp_sampler_next(s, x, NULL, 3, i) == sp_sampler_next(s, x, NULL, 3, i);
    check_ok(same, "draws: the same for the same seed, stream and step");
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = sp_sample_uniform(i, 0, 0);
        if (!(u >= 0 && u < 1)) same = false;
        uniform += u / DRAWS;
    }
    check_ok(same && fabs(uniform - 0.5) < 0.003, "draws: over seeds, the mean is %.4f", uniform);
    sp_sampler_free(s);
}

/* Extremes: nothing is NaN, and what is drawn is an id. */
static void check_extremes(void) {
    static const double temperature[] = {1e-300, 1e-6, 1, 1e300};
    float x[4] = {-3e38f, 3e38f, 3e38f, 0};
    int wrong = 0;
    for (size_t i = 0; i < 4; i++) {
        struct sp_sample_options o = {
            .temperature = temperature[i], .top_p = 0.9, .min_p = 1e-9, .repetition = 1.5};
        struct sp_sampler *s = sampler(&o, 4, NULL, 0);
        for (uint64_t k = 0; k < 100; k++) {
            uint32_t id = sp_sampler_next(s, x, NULL, 0, k);
            wrong += id > 3 || (i < 3 && id != 1 && id != 2);
        }
        sp_sampler_free(s);
    }
    check_ok(wrong == 0, "extremes: of logits and temperatures");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("cuts")) check_cuts();
    if (check_wanted("large")) check_large();
    if (check_wanted("greedy")) check_greedy();
    if (check_wanted("penalty")) check_penalty();
    if (check_wanted("draws")) check_draws();
    if (check_wanted("extremes")) check_extremes();
    return check_end();
}
