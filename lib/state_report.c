/* What `state` says of states. */
#include "state_report.h"

#include "io.h"
#include "wire_show.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct sp_part_report report(const float *x, size_t n) {
    struct sp_stats s = {0};
    sp_stats_add_f32(&s, x, n);
    return (struct sp_part_report){.norm = sp_stats_norm(&s),
                                   .largest = fmax(fabs(s.min), fabs(s.max)),
                                   .n_bad = s.n_nan + s.n_inf};
}

static const float *conv_of(const struct sp_state *s, uint32_t layer) {
    return s->conv + (layer - s->layer_first) * sp_state_conv_size(s);
}

static const float *ssm_of(const struct sp_state *s, uint32_t layer) {
    return s->ssm + (layer - s->layer_first) * sp_state_ssm_size(s);
}

struct sp_layer_report sp_state_report_layer(const struct sp_state *s, uint32_t layer) {
    return (struct sp_layer_report){.conv = report(conv_of(s, layer), sp_state_conv_size(s)),
                                    .ssm = report(ssm_of(s, layer), sp_state_ssm_size(s))};
}

struct sp_part_report sp_state_report_last(const struct sp_state *s) {
    return report(s->last_hidden, (size_t)s->d_model);
}

size_t sp_state_bytes(const struct sp_state *s) {
    size_t layers = s->layer_last - s->layer_first + 1;
    size_t n = layers * (sp_state_conv_size(s) + sp_state_ssm_size(s));
    return n * sp_dtype_size(s->dtype) + (s->has_last ? (size_t)s->d_model * sizeof(float) : 0);
}

enum sp_code sp_state_check_finite(const struct sp_state *s, struct sp_error *err) {
    for (uint32_t l = s->layer_first; l <= s->layer_last; l++) {
        struct sp_layer_report r = sp_state_report_layer(s, l);
        if (r.conv.n_bad + r.ssm.n_bad)
            return sp_error_set(err, SP_E_DATA, "layer %u holds NaN or infinity", l);
    }
    if (s->has_last && sp_state_report_last(s).n_bad)
        return sp_error_set(err, SP_E_DATA, "the last token's vector holds NaN or infinity");
    return SP_OK;
}

static double relative(const float *a, const float *b, size_t n) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        diff += d * d;
        norm += (double)b[i] * b[i];
    }
    /* Equal bits may be NaN; a zero may be -0 in the other. */
    if (diff == 0 || memcmp(a, b, n * sizeof *a) == 0) return 0;
    double r = sqrt(diff / norm);
    return isfinite(r) ? r : INFINITY;
}

double sp_state_diff_conv(const struct sp_state *a, const struct sp_state *b, uint32_t layer) {
    return relative(conv_of(a, layer), conv_of(b, layer), sp_state_conv_size(a));
}

double sp_state_diff_ssm(const struct sp_state *a, const struct sp_state *b, uint32_t layer) {
    return relative(ssm_of(a, layer), ssm_of(b, layer), sp_state_ssm_size(a));
}

static void differs(struct sp_state_diff *d, bool different, const char *field) {
    if (different) d->field[d->n_field++] = field;
}

enum sp_code sp_state_compare(struct sp_state_diff *d, const struct sp_state *a,
                              const struct sp_state *b, double within, struct sp_error *err) {
    *d = (struct sp_state_diff){.has_last = a->has_last && b->has_last};
    if (a->layer_first != b->layer_first || a->layer_last != b->layer_last)
        return sp_error_set(err, SP_E_DATA,
                            "one state has layers %u-%u, the other %u-%u: nothing to compare",
                            a->layer_first, a->layer_last, b->layer_first, b->layer_last);
    if (a->d_model != b->d_model || a->d_inner != b->d_inner || a->d_state != b->d_state ||
        a->d_conv != b->d_conv)
        return sp_error_set(err, SP_E_DATA, "the states are of models of different shapes");
    differs(d, !sp_hash_equal(&a->model, &b->model), "model");
    differs(d, !sp_hash_equal(&a->tokenizer, &b->tokenizer), "tokenizer");
    differs(d, !sp_hash_equal(&a->prefix, &b->prefix), "prefix");
    differs(d, a->n_tok != b->n_tok, "n_tok");
    differs(d, a->origin != b->origin, "origin");
    differs(d, a->n_layer != b->n_layer, "n_layer");
    differs(d, a->has_last != b->has_last, "presence of a last token");
    differs(d, d->has_last && a->last_id != b->last_id, "last token");
    for (uint32_t l = a->layer_first; l <= a->layer_last; l++)
        d->largest =
            fmax(d->largest, fmax(sp_state_diff_conv(a, b, l), sp_state_diff_ssm(a, b, l)));
    if (d->has_last) d->last = relative(a->last_hidden, b->last_hidden, (size_t)a->d_model);
    d->largest = fmax(d->largest, d->last);
    d->equal = d->n_field == 0 && d->largest <= within;
    return SP_OK;
}

static int is_weights(const struct dirent *entry) {
    static const char suffix[] = ".safetensors";
    size_t n = strlen(entry->d_name), m = sizeof suffix - 1;
    return n > m && strcmp(entry->d_name + n - m, suffix) == 0;
}

enum sp_code sp_state_hash_weights(struct sp_hash *hash, const char *dir, struct sp_error *err) {
    struct dirent **entry;
    int n = scandir(dir, &entry, is_weights, alphasort);
    if (n < 0) return sp_error_set(err, SP_E_NOINPUT, "cannot list %s: %s", dir, strerror(errno));
    struct sp_hasher *h = sp_hasher_new();
    enum sp_code code = SP_OK;
    if (!h) code = sp_error_memory(err, "a checksum");
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct sp_map map;
        if (!code) code = sp_path_join(path, sizeof path, dir, entry[i]->d_name, err);
        if (!code) code = sp_map_open(&map, path, err);
        if (!code) {
            sp_hasher_add(h, map.data, map.n);
            sp_map_close(&map);
        }
        free(entry[i]);
    }
    free(entry);
    if (h) sp_hasher_end(h, hash);
    return code;
}
