/* Weighted sums of states. */
#include "state_ops.h"

#include "io.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t count_rows(const struct sp_state *s, size_t *conv, size_t *ssm) {
    size_t layers = s->layer_last - s->layer_first + 1;
    *conv = layers * sp_state_conv_size(s);
    *ssm = layers * sp_state_ssm_size(s);
    return *conv + *ssm;
}

void sp_state_mix_clear(struct sp_state_mix *m) {
    sp_state_free(m->first);
    free(m->sum);
    *m = (struct sp_state_mix){0};
}

static enum sp_code begin(struct sp_state_mix *m, const struct sp_state *s, const char *name,
                          struct sp_error *err) {
    size_t conv, ssm, n = count_rows(s, &conv, &ssm);
    enum sp_code code = sp_state_alloc_parts(&m->first, s, false, err);
    if (code) return code;
    m->first_name = name;
    m->sum = calloc(n + (size_t)s->d_model, sizeof *m->sum);
    if (!m->sum) return sp_error_memory(err, "a mixture of states");
    sp_state_copy_names(m->first, s);
    m->first->prefix = (struct sp_hash){0};
    m->first->n_tok = 0;
    m->first->has_last = true; /* until a part has none */
    return SP_OK;
}

static void accumulate(double *sum, const float *x, size_t n, double weight) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * x[i];
}

/* prefix' = XXH3-128(prefix || the part's prefix || its weight as f64 LE). */
static void chain(struct sp_hash *prefix, const struct sp_hash *part, double weight) {
    uint8_t link[2 * sizeof prefix->byte + 8];
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    memcpy(link, prefix->byte, sizeof prefix->byte);
    memcpy(link + sizeof prefix->byte, part->byte, sizeof part->byte);
    for (size_t i = 0; i < 8; i++) link[2 * sizeof prefix->byte + i] = (uint8_t)(bits >> (8 * i));
    sp_hash_bytes(prefix, link, sizeof link);
}

enum sp_code sp_state_mix_add(struct sp_state_mix *m, const struct sp_state *s, const char *name,
                              double weight, struct sp_error *err) {
    enum sp_code code = SP_OK;
    if (!m->first) {
        code = begin(m, s, name, err);
    } else {
        code = sp_state_check_like(s, m->first, m->first_name, err);
        if (!code) code = sp_state_check_layers(s, m->first, m->first_name, err);
    }
    if (code) return code;
    struct sp_state *f = m->first;
    size_t conv, ssm, n = count_rows(s, &conv, &ssm);
    accumulate(m->sum, s->conv, conv, weight);
    accumulate(m->sum + conv, s->ssm, ssm, weight);
    accumulate(m->sum + n, s->last_hidden, (size_t)s->d_model, weight);
    if (m->n == 0 || fabs(weight) > m->largest) {
        m->largest = fabs(weight);
        f->last_id = s->last_id;
    }
    f->has_last = f->has_last && s->has_last;
    f->n_tok = f->n_tok > UINT64_MAX - s->n_tok ? UINT64_MAX : f->n_tok + s->n_tok;
    chain(&f->prefix, &s->prefix, weight);
    m->n++;
    return SP_OK;
}

/* False where a number is none that f32 can hold. */
static bool round_all(float *to, const double *sum, size_t n) {
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        ok = ok && fabs(sum[i]) <= (double)FLT_MAX;
        to[i] = (float)sum[i];
    }
    return ok;
}

enum sp_code sp_state_mix_end(struct sp_state_mix *m, struct sp_state **out, struct sp_error *err) {
    *out = NULL;
    if (!m->first) return sp_error_set(err, SP_E_USAGE, "a mixture of no states");
    enum sp_code code = sp_state_alloc(out, m->first, err);
    if (!code) {
        struct sp_state *s = *out;
        size_t conv, ssm, n = count_rows(s, &conv, &ssm);
        sp_state_copy_names(s, m->first);
        s->origin = SP_ORIGIN_MIXED;
        s->dtype = SP_F32;
        bool ok = round_all(s->conv, m->sum, conv) && round_all(s->ssm, m->sum + conv, ssm);
        if (m->first->has_last) {
            s->has_last = true;
            s->last_id = m->first->last_id;
            ok = round_all(s->last_hidden, m->sum + n, (size_t)s->d_model) && ok;
        }
        if (!ok)
            code = sp_error_set(err, SP_E_DATA,
                                "the mixture holds NaN, infinity or numbers too large for f32");
    }
    if (code) {
        sp_state_free(*out);
        *out = NULL;
    }
    sp_state_mix_clear(m);
    return code;
}

enum sp_code sp_state_mix_parse(const char *operand, size_t *n_name, double *weight,
                                struct sp_error *err) {
    const char *colon = strrchr(operand, ':');
    char *end = NULL;
    errno = 0;
    if (colon && colon > operand && strspn(colon + 1, "+-.0123456789eE") == strlen(colon + 1)) {
        *weight = strtod(colon + 1, &end);
        *n_name = (size_t)(colon - operand);
        if (end != colon + 1 && *end == 0 && isfinite(*weight)) return SP_OK;
    }
    return sp_error_set(err, SP_E_USAGE,
                        "'%.200s' does not end in a weight: write FILE:NUMBER, as in a.state:0.7",
                        operand);
}
