/* States as text and JSON. */
#include "state_show.h"

#include "wire_show.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const hash_names[] = {"model", "tokenizer", "prefix"};

static void hashes_of(const struct sp_state *s, char hex[3][SP_HASH_HEX_SIZE]) {
    sp_hash_hex(&s->model, hex[0]);
    sp_hash_hex(&s->tokenizer, hex[1]);
    sp_hash_hex(&s->prefix, hex[2]);
}

/* ---- info ---------------------------------------------------------------------------------- */

static void info_text(FILE *out, const char *path, const struct sp_state *s) {
    char hex[3][SP_HASH_HEX_SIZE];
    hashes_of(s, hex);
    fprintf(out, "%s: %" PRIu64 " tokens (%s), layers %u-%u of %u, %.2f MiB in %s\n", path,
            s->n_tok, sp_origin_name(s->origin), s->layer_first, s->layer_last, s->n_layer,
            (double)sp_state_bytes(s) / (1 << 20), sp_dtype_name(s->dtype));
    for (size_t i = 0; i < 3; i++) fprintf(out, "  %-10s %s\n", hash_names[i], hex[i]);
    fprintf(out, "  shape      d_model %lld, d_inner %lld, d_state %lld, d_conv %lld\n",
            (long long)s->d_model, (long long)s->d_inner, (long long)s->d_state,
            (long long)s->d_conv);
    if (s->has_last)
        fprintf(out, "  last token %u, hidden norm %.6g\n", s->last_id,
                sp_state_report_last(s).norm);
    else
        fprintf(out, "  last token not known (it is with the last layer)\n");
    fprintf(out, "  layer    conv norm     ssm norm  ssm largest  NaN\n");
    for (uint32_t l = s->layer_first; l <= s->layer_last; l++) {
        struct sp_layer_report r = sp_state_report_layer(s, l);
        fprintf(out, "  %5u %12.6g %12.6g %12.6g %4" PRIu64 "\n", l, r.conv.norm, r.ssm.norm,
                r.ssm.largest, r.conv.n_bad + r.ssm.n_bad);
    }
}

static void put_part(FILE *out, const char *name, const struct sp_part_report *p) {
    fprintf(out, "\"%s\":{\"norm\":", name);
    sp_show_number(out, p->norm, 9);
    fprintf(out, ",\"largest\":");
    sp_show_number(out, p->largest, 9);
    fprintf(out, ",\"nan\":%" PRIu64 "}", p->n_bad);
}

static void info_jsonl(FILE *out, const char *path, const struct sp_state *s) {
    char hex[3][SP_HASH_HEX_SIZE];
    hashes_of(s, hex);
    fprintf(out, "{\"file\":");
    sp_show_string(out, path, strlen(path));
    fprintf(out,
            ",\"n_tok\":%" PRIu64 ",\"origin\":\"%s\",\"layers\":[%u,%u],\"n_layer\":%u"
            ",\"d_model\":%lld,\"d_inner\":%lld,\"d_state\":%lld,\"d_conv\":%lld,\"bytes\":%zu"
            ",\"dtype\":\"%s\"",
            s->n_tok, sp_origin_name(s->origin), s->layer_first, s->layer_last, s->n_layer,
            (long long)s->d_model, (long long)s->d_inner, (long long)s->d_state,
            (long long)s->d_conv, sp_state_bytes(s), sp_dtype_name(s->dtype));
    for (size_t i = 0; i < 3; i++) fprintf(out, ",\"%s\":\"%s\"", hash_names[i], hex[i]);
    fprintf(out, ",\"last\":");
    if (s->has_last) {
        struct sp_part_report last = sp_state_report_last(s);
        fprintf(out, "{\"id\":%u,", s->last_id);
        put_part(out, "hidden", &last);
        fprintf(out, "}");
    } else {
        fprintf(out, "null");
    }
    fprintf(out, ",\"norms\":[");
    for (uint32_t l = s->layer_first; l <= s->layer_last; l++) {
        struct sp_layer_report r = sp_state_report_layer(s, l);
        fprintf(out, "%s{\"layer\":%u,", l > s->layer_first ? "," : "", l);
        put_part(out, "conv", &r.conv);
        fprintf(out, ",");
        put_part(out, "ssm", &r.ssm);
        fprintf(out, "}");
    }
    fprintf(out, "]}\n");
}

void sp_state_show_info(FILE *out, const char *path, const struct sp_state *s, bool jsonl) {
    (jsonl ? info_jsonl : info_text)(out, path, s);
}

/* ---- diff ---------------------------------------------------------------------------------- */

static void diff_text(FILE *out, const struct sp_state_diff *d, const struct sp_state *a,
                      const struct sp_state *b) {
    for (size_t i = 0; i < d->n_field; i++) fprintf(out, "%s differs\n", d->field[i]);
    if (d->has_last) fprintf(out, "last token %.3g\n", d->last);
    fprintf(out, "layer        conv          ssm   (||a - b|| / ||b||)\n");
    for (uint32_t l = a->layer_first; l <= a->layer_last; l++)
        fprintf(out, "%5u %11.3g %12.3g\n", l, sp_state_diff_conv(a, b, l),
                sp_state_diff_ssm(a, b, l));
    fprintf(out, "%s\n", d->equal ? "equal" : "different");
}

static void diff_jsonl(FILE *out, const struct sp_state_diff *d, const struct sp_state *a,
                       const struct sp_state *b) {
    fprintf(out, "{\"equal\":%s,\"fields\":[", d->equal ? "true" : "false");
    for (size_t i = 0; i < d->n_field; i++) fprintf(out, "%s\"%s\"", i ? "," : "", d->field[i]);
    fprintf(out, "],\"last\":");
    sp_show_number(out, d->has_last ? d->last : NAN, 9);
    fprintf(out, ",\"largest\":");
    sp_show_number(out, d->largest, 9);
    fprintf(out, ",\"layers\":[");
    for (uint32_t l = a->layer_first; l <= a->layer_last; l++) {
        fprintf(out, "%s{\"layer\":%u,\"conv\":", l > a->layer_first ? "," : "", l);
        sp_show_number(out, sp_state_diff_conv(a, b, l), 9);
        fprintf(out, ",\"ssm\":");
        sp_show_number(out, sp_state_diff_ssm(a, b, l), 9);
        fprintf(out, "}");
    }
    fprintf(out, "]}\n");
}

void sp_state_show_diff(FILE *out, const struct sp_state_diff *d, const struct sp_state *a,
                        const struct sp_state *b, bool jsonl) {
    (jsonl ? diff_jsonl : diff_text)(out, d, a, b);
}

/* ---- verify -------------------------------------------------------------------------------- */

void sp_state_show_fine(FILE *out, const char *path, const struct sp_state *s, bool jsonl) {
    if (jsonl) {
        fprintf(out, "{\"file\":");
        sp_show_string(out, path, strlen(path));
        fprintf(out, ",\"ok\":true}\n");
    } else {
        fprintf(out, "%s: ok, layers %u-%u of %u, %" PRIu64 " tokens (%s)\n", path, s->layer_first,
                s->layer_last, s->n_layer, s->n_tok, sp_origin_name(s->origin));
    }
}

void sp_state_show_bad(FILE *out, const char *path, const char *message) {
    fprintf(out, "{\"file\":");
    sp_show_string(out, path, strlen(path));
    fprintf(out, ",\"ok\":false,\"message\":");
    sp_show_string(out, message, strlen(message));
    fprintf(out, "}\n");
}

void sp_state_show_weights(FILE *out, const char *dir, const struct sp_hash *hash, bool jsonl) {
    char hex[SP_HASH_HEX_SIZE];
    sp_hash_hex(hash, hex);
    if (jsonl) {
        fprintf(out, "{\"model\":");
        sp_show_string(out, dir, strlen(dir));
        fprintf(out, ",\"weights\":\"%s\"}\n", hex);
    } else {
        fprintf(out, "%s: weights %s\n", dir, hex);
    }
}

/* ---- convert, near ------------------------------------------------------------------------- */

void sp_state_show_loss(FILE *out, const char *part, enum sp_dtype dtype,
                        const struct sp_state_loss *loss) {
    fprintf(out,
            "%-4s in %s: relative error at most %.3g, rms %.3g; %" PRIu64 " of %" PRIu64
            " numbers have become 0\n",
            part, sp_dtype_name(dtype), loss->largest, loss->rms, loss->n_zero, loss->n);
}

void sp_state_show_near(FILE *out, const struct sp_near *near, bool jsonl) {
    if (!jsonl) {
        fprintf(out, "%.9g\t%" PRIu64 "\t%s\n", near->distance, near->n_tok, near->name);
        return;
    }
    fprintf(out, "{\"file\":");
    sp_show_string(out, near->name, strlen(near->name));
    fprintf(out, ",\"distance\":%.9g,\"n_tok\":%" PRIu64 ",\"origin\":\"%s\"}\n", near->distance,
            near->n_tok, sp_origin_name(near->origin));
}
