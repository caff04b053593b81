/* state: looks at state files: info, diff, verify. */
#include "../lib/wire_show.h"
#include "../lib/state.h"
#include "../lib/state_report.h"
#include "cli.h"

#include <inttypes.h>
#include <math.h>

static struct {
    const char *model;
    bool jsonl, full;
    double within;
} opt;

static const struct sp_option options[] = {
    {SP_OPT_STRING, 'm', "model", "MODEL", "verify: the model that it must belong to", &opt.model,
     0, 0},
    {SP_OPT_FLAG, 0, "full", NULL, "verify: also hash all weights of the model", &opt.full, 0, 0},
    {SP_OPT_DOUBLE, 0, "within", "R", "diff: relative difference that still counts as equal (0)",
     &opt.within, 0, 1},
    {SP_OPT_FLAG, 'j', "jsonl", NULL, "one JSON object per file", &opt.jsonl, 0, 0},
    {SP_OPT_END, 0, NULL, NULL, NULL, NULL, 0, 0}};

static const struct sp_program program = {
    .name = "state",
    .operands = "info FILE... | diff A B | verify FILE...",
    .summary = "Looks at states: what a model remembers of what it has read.",
    .detail = "info    model, tokens read, origin, layers and their norms\n"
              "diff    relative difference of each layer; exit 0 equal, 1 different\n"
              "verify  checksums, shapes, NaNs and (-m) the model; exit 65 when one is bad",
    .example = "state info cv.state; state diff whole.state joined.state",
    .status_1 = "states differ",
    .options = options};

/* ---- info ---------------------------------------------------------------------------------- */

static void put_hash(const char *name, const struct sp_hash *hash) {
    char hex[SP_HASH_HEX_SIZE];
    sp_hash_hex(hash, hex);
    if (opt.jsonl)
        printf(",\"%s\":\"%s\"", name, hex);
    else
        printf("  %-10s %s\n", name, hex);
}

static void info_text(const char *path, const struct sp_state *s) {
    printf("%s: %" PRIu64 " tokens (%s), layers %u-%u of %u, %.2f MiB\n", path, s->n_tok,
           sp_origin_name(s->origin), s->layer_first, s->layer_last, s->n_layer,
           (double)sp_state_bytes(s) / (1 << 20));
    put_hash("model", &s->model);
    put_hash("tokenizer", &s->tokenizer);
    put_hash("prefix", &s->prefix);
    printf("  shape      d_model %lld, d_inner %lld, d_state %lld, d_conv %lld\n",
           (long long)s->d_model, (long long)s->d_inner, (long long)s->d_state,
           (long long)s->d_conv);
    if (s->has_last)
        printf("  last token %u, hidden norm %.6g\n", s->last_id, sp_state_report_last(s).norm);
    else
        printf("  last token not known (it is with the last layer)\n");
    printf("  layer    conv norm     ssm norm  ssm largest  NaN\n");
    for (uint32_t l = s->layer_first; l <= s->layer_last; l++) {
        struct sp_layer_report r = sp_state_report_layer(s, l);
        printf("  %5u %12.6g %12.6g %12.6g %4" PRIu64 "\n", l, r.conv.norm, r.ssm.norm,
               r.ssm.largest, r.conv.n_bad + r.ssm.n_bad);
    }
}

static void put_part(const char *name, const struct sp_part_report *p) {
    printf("\"%s\":{\"norm\":", name);
    sp_show_number(stdout, p->norm, 9);
    printf(",\"largest\":");
    sp_show_number(stdout, p->largest, 9);
    printf(",\"nan\":%" PRIu64 "}", p->n_bad);
}

static void info_jsonl(const char *path, const struct sp_state *s) {
    printf("{\"file\":");
    sp_show_string(stdout, path, strlen(path));
    printf(",\"n_tok\":%" PRIu64 ",\"origin\":\"%s\",\"layers\":[%u,%u],\"n_layer\":%u", s->n_tok,
           sp_origin_name(s->origin), s->layer_first, s->layer_last, s->n_layer);
    printf(",\"d_model\":%lld,\"d_inner\":%lld,\"d_state\":%lld,\"d_conv\":%lld,\"bytes\":%zu",
           (long long)s->d_model, (long long)s->d_inner, (long long)s->d_state,
           (long long)s->d_conv, sp_state_bytes(s));
    put_hash("model", &s->model);
    put_hash("tokenizer", &s->tokenizer);
    put_hash("prefix", &s->prefix);
    if (s->has_last) {
        struct sp_part_report last = sp_state_report_last(s);
        printf(",\"last\":{\"id\":%u,", s->last_id);
        put_part("hidden", &last);
        printf("}");
    } else {
        printf(",\"last\":null");
    }
    printf(",\"norms\":[");
    for (uint32_t l = s->layer_first; l <= s->layer_last; l++) {
        struct sp_layer_report r = sp_state_report_layer(s, l);
        printf("%s{\"layer\":%u,", l > s->layer_first ? "," : "", l);
        put_part("conv", &r.conv);
        printf(",");
        put_part("ssm", &r.ssm);
        printf("}");
    }
    printf("]}\n");
}

static int run_info(int n, char **path) {
    struct sp_error err;
    struct sp_state *s;
    for (int i = 0; i < n; i++) {
        if (sp_state_read(&s, path[i], &err)) return cli_fail(&program, &err);
        (opt.jsonl ? info_jsonl : info_text)(path[i], s);
        sp_state_free(s);
    }
    return 0;
}

/* ---- diff ---------------------------------------------------------------------------------- */

static void diff_text(const struct sp_state_diff *d, const struct sp_state *a,
                      const struct sp_state *b) {
    for (size_t i = 0; i < d->n_field; i++) printf("%s differs\n", d->field[i]);
    if (d->has_last) printf("last token %.3g\n", d->last);
    printf("layer        conv          ssm   (||a - b|| / ||b||)\n");
    for (uint32_t l = a->layer_first; l <= a->layer_last; l++)
        printf("%5u %11.3g %12.3g\n", l, sp_state_diff_conv(a, b, l), sp_state_diff_ssm(a, b, l));
    printf("%s\n", d->equal ? "equal" : "different");
}

static void diff_jsonl(const struct sp_state_diff *d, const struct sp_state *a,
                       const struct sp_state *b) {
    printf("{\"equal\":%s,\"fields\":[", d->equal ? "true" : "false");
    for (size_t i = 0; i < d->n_field; i++) printf("%s\"%s\"", i ? "," : "", d->field[i]);
    printf("],\"last\":");
    sp_show_number(stdout, d->has_last ? d->last : NAN, 9);
    printf(",\"largest\":");
    sp_show_number(stdout, d->largest, 9);
    printf(",\"layers\":[");
    for (uint32_t l = a->layer_first; l <= a->layer_last; l++) {
        printf("%s{\"layer\":%u,\"conv\":", l > a->layer_first ? "," : "", l);
        sp_show_number(stdout, sp_state_diff_conv(a, b, l), 9);
        printf(",\"ssm\":");
        sp_show_number(stdout, sp_state_diff_ssm(a, b, l), 9);
        printf("}");
    }
    printf("]}\n");
}

static int run_diff(char **path) {
    struct sp_error err;
    struct sp_state *a = NULL, *b = NULL;
    struct sp_state_diff d;
    enum sp_code code = sp_state_read(&a, path[0], &err);
    if (!code) code = sp_state_read(&b, path[1], &err);
    if (!code) code = sp_state_compare(&d, a, b, opt.within, &err);
    if (!code) (opt.jsonl ? diff_jsonl : diff_text)(&d, a, b);
    int status = code ? cli_fail(&program, &err) : d.equal ? 0 : 1;
    sp_state_free(a);
    sp_state_free(b);
    return status;
}

/* ---- verify -------------------------------------------------------------------------------- */

static enum sp_code verify(const char *path, const struct sp_model *m, struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code = sp_state_read(&s, path, err);
    if (code) return code;
    code = sp_state_check_finite(s, err);
    if (!code && m) code = sp_state_check(s, m, s->layer_first, s->layer_last, err);
    if (code) {
        sp_error_prefix(err, "%s", path);
    } else if (opt.jsonl) {
        printf("{\"file\":");
        sp_show_string(stdout, path, strlen(path));
        printf(",\"ok\":true}\n");
    } else {
        printf("%s: ok, layers %u-%u of %u, %" PRIu64 " tokens (%s)\n", path, s->layer_first,
               s->layer_last, s->n_layer, s->n_tok, sp_origin_name(s->origin));
    }
    sp_state_free(s);
    return code;
}

static void verify_failed(const char *path, const struct sp_error *err) {
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", program.name, err->msg);
    if (!opt.jsonl) return;
    printf("{\"file\":");
    sp_show_string(stdout, path, strlen(path));
    printf(",\"ok\":false,\"message\":");
    sp_show_string(stdout, err->msg, strlen(err->msg));
    printf("}\n");
}

/* The fingerprint reads a piece of every tensor; this reads all, to compare between machines. */
static enum sp_code print_weights(const struct sp_model *m, struct sp_error *err) {
    struct sp_hash hash;
    char hex[SP_HASH_HEX_SIZE];
    enum sp_code code = sp_state_hash_weights(&hash, sp_model_dir(m), err);
    if (code) return code;
    sp_hash_hex(&hash, hex);
    if (opt.jsonl) {
        printf("{\"model\":");
        sp_show_string(stdout, sp_model_dir(m), strlen(sp_model_dir(m)));
        printf(",\"weights\":\"%s\"}\n", hex);
    } else {
        printf("%s: weights %s\n", sp_model_dir(m), hex);
    }
    return SP_OK;
}

/* The first failure gives the exit status; the other files are looked at all the same. */
static int run_verify(int n, char **path) {
    struct sp_error err;
    struct sp_model *m = NULL;
    int status = 0;
    if (opt.model || opt.full) {
        enum sp_code code = sp_model_open(&m, opt.model, &err);
        if (!code && opt.full) code = print_weights(m, &err);
        if (code) {
            sp_model_free(m);
            return cli_fail(&program, &err);
        }
    }
    for (int i = 0; i < n; i++) {
        enum sp_code code = verify(path[i], m, &err);
        if (!code) continue;
        verify_failed(path[i], &err);
        if (!status) status = sp_error_exit_status(code);
    }
    sp_model_free(m);
    return status;
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n, status;
    if (!cli_start(&program, argc, argv, &n, &status)) return status;
    const char *command = n > 0 ? argv[0] : "";
    if (strcmp(command, "info") == 0 && n > 1)
        status = run_info(n - 1, argv + 1);
    else if (strcmp(command, "diff") == 0 && n == 3)
        status = run_diff(argv + 1);
    else if (strcmp(command, "verify") == 0 && n > 1)
        status = run_verify(n - 1, argv + 1);
    else {
        sp_error_set(&err, SP_E_USAGE,
                     "say what to do: info FILE..., diff A B or verify FILE... (see state --help)");
        return cli_fail(&program, &err);
    }
    return cli_close(&program, status);
}
