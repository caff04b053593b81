/* doctor: what statepipe finds on this machine, and what to do about what is missing. */
#include "../kernels/kernels.h"
#include "../lib/backend.h"
#include "../lib/lm.h"
#include "../lib/model.h"
#include "../lib/pool.h"
#include "cli.h"

#include <cpuid.h>

static struct { const char *model; } opt;

static const struct sp_option options[] = {
    {SP_OPT_STRING, 'm', "model", "DIR", "model directory ($STATEPIPE_MODEL, else the shipped one)",
     &opt.model, 0, 0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "doctor",
    .operands = NULL,
    .summary = "Says what CPU path, libraries, model and devices statepipe finds here.",
    .detail = "Each line is one finding; `do:` lines say what would help. The exit status is 0\n"
              "when the main job can run.",
    .example = "statepipe doctor",
    .options = options};

static void line(const char *what, const char *finding) {
    printf("%-10s %s\n", what, finding);
}

static void advise(const char *what) {
    printf("%-10s do: %s\n", "", what);
}

static void report_cpu(void) {
    char name[49] = "", text[200];
    unsigned reg[12] = {0}, a, b, c = 0, d = 0;
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &reg[4 * i], &reg[4 * i + 1], &reg[4 * i + 2],
                         &reg[4 * i + 3]))
            break;
    memcpy(name, reg, sizeof reg);
    line("cpu", name[0] ? name : "no name");

    const char *paths[4];
    struct sp_kernels kernels;
    int n = sp_kernels_paths(paths);
    sp_kernels_init(&kernels);
    size_t at = (size_t)snprintf(text, sizeof text, "%s, of", kernels.name);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, " %s", paths[i]);
    line("kernels", text);
    if (strcmp(kernels.name, paths[n - 1]) != 0)
        advise("unset STATEPIPE_CPU, which holds the kernels back");

    /* CPUID leaf 7, EDX: AMX-BF16 is bit 22, AMX-TILE bit 24, AMX-INT8 bit 25. */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) d = 0;
    snprintf(text, sizeof text, "%s%s%s", d & 1u << 24 ? "tiles" : "none; bf16 gains little here",
             d & 1u << 22 ? ", bf16" : "", d & 1u << 25 ? ", int8" : "");
    line("amx", text);
}

static void report_device(const char *name) {
    struct sp_backend *be;
    struct sp_error err;
    char text[300];
    if (sp_backend_open(&be, name, 0, &err)) {
        line(name, err.msg);
        return;
    }
    be->describe(be, text, sizeof text);
    line(name, text);
    be->free(be);
}

static bool report_backend(void) {
    struct sp_backend *be;
    struct sp_error err;
    char text[300];
    if (sp_backend_cpu_new(&be, 0, &err)) {
        line("products", err.msg);
        return false;
    }
    be->describe(be, text, sizeof text);
    line("products", text);
    be->free(be);
    const char *jobs = getenv("STATEPIPE_JOBS");
    if (jobs && *jobs) {
        snprintf(text, sizeof text, "$STATEPIPE_JOBS is %.20s", jobs);
        line("threads", text);
    }
    report_device("cuda");
    char path[4096];
    if (sp_plugin_find("emu", path, sizeof path)) report_device("emu");
    return true;
}

static void report_sizes(const struct sp_model *m) {
    static const char *const archs[] = {"mamba", "falcon_mamba"};
    const struct sp_config *c = sp_model_config(m);
    char text[500], hex[SP_HASH_HEX_SIZE];
    sp_hash_hex(sp_model_fingerprint(m), hex);
    snprintf(text, sizeof text,
             "%s, %lld layers of %lld (inner %lld, state %lld), vocabulary %lld, fingerprint %.8s",
             archs[c->arch], (long long)c->n_layer, (long long)c->d_model, (long long)c->d_inner,
             (long long)c->d_state, (long long)c->vocab_size, hex);
    line("", text);
    size_t at = (size_t)snprintf(text, sizeof text, "layers ");
    sp_config_describe_reverse(c, 0, c->n_layer - 1, text + at, sizeof text - at);
    if (text[at]) line("", text);
}

static void report_head(const struct sp_head *h, bool is_default) {
    static const char *const types[] = {"lm", "tag", "class"};
    char text[100];
    snprintf(text, sizeof text, "head %s (%s%s)", h->name, types[h->type],
             is_default ? ", default" : "");
    line("", text);
}

/* What answers questions: this model, or the one in its folder. The main job runs without it. */
static void report_fill(void) {
    struct sp_lm *lm = NULL;
    struct sp_error err;
    struct sp_lm_options o = {.model = opt.model, .or_answers = true, .device = "cpu"};
    if (sp_lm_open(&lm, &o, &err)) {
        line("fill", err.msg);
        return;
    }
    line("fill", sp_model_dir(sp_lm_model(lm)));
    report_sizes(sp_lm_model(lm));
    report_head(sp_lm_head(lm), false);
    sp_lm_free(lm);
}

static bool report_model(void) {
    struct sp_model *m = NULL;
    struct sp_tokenizer *tok = NULL;
    struct sp_error err;
    char text[100];
    if (sp_model_open(&m, opt.model, &err)) {
        line("model", err.msg);
        advise("install statepipe with its model, or name a directory: -m DIR, $STATEPIPE_MODEL");
        return false;
    }
    const struct sp_config *c = sp_model_config(m);
    line("model", sp_model_dir(m));
    report_sizes(m);
    for (uint32_t i = 0; i < c->n_head; i++)
        report_head(&c->head[i], strcmp(c->head[i].name, c->default_head) == 0);
    bool ok = sp_tokenizer_open(&tok, sp_model_dir(m), &err) == SP_OK;
    if (ok)
        snprintf(text, sizeof text, "%u tokens, %s", sp_tokenizer_vocab_size(tok),
                 sp_tokenizer_byte_level(tok) ? "byte-exact" : "normalising");
    line("tokenizer", ok ? text : err.msg);
    sp_tokenizer_free(tok);
    sp_model_free(m);
    return ok;
}

/* Is a program on PATH? */
static bool on_path(const char *name) {
    const char *path = getenv("PATH");
    char probe[4096 + 64];
    for (size_t n; path && *path; path += n + (path[n] == ':')) {
        n = strcspn(path, ":");
        if (n > 4096) continue;
        snprintf(probe, sizeof probe, "%.*s/%s", (int)n, path, name);
        if (access(probe, X_OK) == 0) return true;
    }
    return false;
}

static void report_tools(void) {
    bool pdf = on_path("pdftotext"), bash = on_path("bash");
    line("pdf", pdf ? "pdftotext is there" : "pdftotext is not there: `cv` reads texts only");
    if (!pdf) advise("apt-get install poppler-utils");
    if (bash) return;
    line("bash", "not there: `statepipe sh` and `cv` cannot run");
    advise("apt-get install bash");
}

int main(int argc, char **argv) {
    int n_operand, status;
    struct sp_error err;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    if (n_operand > 0) {
        sp_error_set(&err, SP_E_USAGE, "no argument is expected, but there is '%.60s'", argv[0]);
        return cli_fail(&program, &err);
    }
    printf("statepipe %s\n", SP_VERSION);
    report_cpu();
    bool products = report_backend();
    bool model = report_model();
    if (model) report_fill();
    report_tools();
    if (!products) return cli_close(&program, sp_error_exit_status(SP_E_DEVICE));
    return cli_close(&program, model ? 0 : sp_error_exit_status(SP_E_NOINPUT));
}
