/* state: what is done with states: looking at them, cutting, joining, converting, mixing. */
#include "state.h"
#include "../lib/io.h"
#include "../lib/state_files.h"
#include "../lib/state_plot.h"
#include "../lib/state_safetensors.h"
#include "../lib/state_show.h"
#include "../lib/stream_model.h"

static int exit_status; /* of a command that has run to its end */

/* An input (NULL: none) that the output would replace is refused, and so is a terminal. */
static enum sp_code check_output(const char *input, struct sp_error *err) {
    enum sp_code code = input ? sp_io_check_output(opt.output, input, err) : SP_OK;
    if (code || strcmp(opt.output, "-") != 0) return code;
    return cli_refuse_terminal(opt.force, err);
}

/* ---- looking -------------------------------------------------------------------------------- */

static enum sp_code run_info(int n, char **path, struct sp_error *err) {
    struct sp_state *s;
    for (int i = 0; i < n; i++) {
        enum sp_code code = sp_state_read(&s, path[i], err);
        if (code) return code;
        sp_state_show_info(stdout, path[i], s, opt.jsonl);
        sp_state_free(s);
    }
    return SP_OK;
}

static enum sp_code run_diff(int n, char **path, struct sp_error *err) {
    struct sp_state *a = NULL, *b = NULL;
    struct sp_state_diff d;
    (void)n;
    enum sp_code code = sp_state_read(&a, path[0], err);
    if (!code) code = sp_state_read(&b, path[1], err);
    if (!code) code = sp_state_compare(&d, a, b, opt.within, err);
    if (!code) sp_state_show_diff(stdout, &d, a, b, opt.jsonl);
    if (!code && !d.equal) exit_status = 1;
    sp_state_free(a);
    sp_state_free(b);
    return code;
}

static enum sp_code verify(const char *path, const struct sp_model *m,
                           const struct sp_hash *tokenizer, struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code = sp_state_read(&s, path, err);
    if (code) return code;
    code = sp_state_check_finite(s, err);
    if (!code && m) code = sp_state_check(s, m, s->layer_first, s->layer_last, err);
    if (!code && m) code = sp_state_check_tokenizer(s, tokenizer, sp_model_dir(m), err);
    if (code)
        sp_error_prefix(err, "%s", path);
    else
        sp_state_show_fine(stdout, path, s, opt.jsonl);
    sp_state_free(s);
    return code;
}

/* The first failure gives the exit status; the other files are looked at all the same. */
static enum sp_code run_verify(int n, char **path, struct sp_error *err) {
    struct sp_model *m = NULL;
    struct sp_hash hash, tokenizer;
    enum sp_code code = SP_OK;
    if (opt.model || opt.full) code = sp_model_open(&m, opt.model, err);
    if (!code && m) code = sp_stream_model_tokenizer(m, &tokenizer, err);
    /* The fingerprint reads a piece of every tensor; this reads all, to compare machines by. */
    if (!code && opt.full) code = sp_state_hash_weights(&hash, sp_model_dir(m), err);
    if (!code && opt.full) sp_state_show_weights(stdout, sp_model_dir(m), &hash, opt.jsonl);
    for (int i = 0; i < n && !code; i++) {
        enum sp_code bad = verify(path[i], m, &tokenizer, err);
        if (!bad) continue;
        cli_fail(&program, err);
        if (opt.jsonl) sp_state_show_bad(stdout, path[i], err->msg);
        if (!exit_status) exit_status = sp_error_exit_status(bad);
    }
    sp_model_free(m);
    return code;
}

/* States that cannot be compared are said, and left out. */
static enum sp_code run_near(int n, char **path, struct sp_error *err) {
    struct sp_state *q;
    enum sp_metric metric = strcmp(opt.metric, "l2") == 0 ? SP_METRIC_L2 : SP_METRIC_COSINE;
    enum sp_code code = sp_state_read(&q, path[0], err);
    if (code) return code;
    size_t found = 0, shown;
    struct sp_near *near = calloc((size_t)n, sizeof *near);
    if (!near) code = sp_error_memory(err, "a list of states");
    for (int i = 1; i < n && !code; i++) {
        near[found].place = (size_t)i;
        if (!sp_near_measure(q, path[i], metric, &near[found], err)) {
            found++;
            continue;
        }
        cli_fail(&program, err);
        exit_status = 1;
    }
    shown = opt.n && (size_t)opt.n < found ? (size_t)opt.n : found;
    if (!code) sp_near_sort(near, found);
    for (size_t i = 0; i < shown && !code; i++)
        sp_state_show_near(stdout, &near[i], strcmp(opt.rows, "jsonl") == 0);
    free(near);
    sp_state_free(q);
    return code;
}

/* ---- making --------------------------------------------------------------------------------- */

static enum sp_code run_merge(int n, char **path, struct sp_error *err) {
    struct sp_state_part *part = calloc((size_t)n, sizeof *part);
    struct sp_state *s = NULL;
    if (!part) return sp_error_memory(err, "a list of states");
    enum sp_code code = SP_OK;
    for (int i = 0; i < n && !code; i++) {
        part[i].name = path[i];
        code = check_output(path[i], err);
        if (!code) code = sp_state_read(&part[i].state, path[i], err);
    }
    if (!code) code = sp_state_merge(&s, part, (size_t)n, err);
    if (!code) code = sp_state_put(s, opt.output, err);
    for (int i = 0; i < n; i++) sp_state_free(part[i].state);
    free(part);
    sp_state_free(s);
    return code;
}

static enum sp_code run_split(int n, char **path, struct sp_error *err) {
    struct sp_state *s;
    (void)n;
    enum sp_code code = check_output(NULL, err);
    if (!code) code = sp_state_read(&s, path[0], err);
    if (code) return code;
    struct sp_state_names names = {.pattern = opt.output, .input = path[0]};
    size_t parts = opt.layers.n ? opt.layers.n : s->layer_last - s->layer_first + 1;
    bool many = parts > 1 && strcmp(opt.output, "-") != 0; /* there they follow one another */
    for (size_t i = 0; i < parts && !code; i++) {
        int64_t first = s->layer_first + (int64_t)i, last = first;
        if (opt.layers.n) code = sp_option_range(opt.layers.item[i], "-l", &first, &last, err);
        if (!code) code = sp_state_put_layers(s, first, last, &names, i, many, err);
    }
    sp_taken_clear(&names.taken);
    sp_state_free(s);
    return code;
}

static enum sp_code run_cut(int n, char **path, struct sp_error *err) {
    struct sp_state_names names = {.pattern = opt.names};
    struct sp_state_cut_result cut = {0};
    enum sp_code code = cli_refuse_keyboard(n, err);
    for (int i = 0; i < (n ? n : 1) && !code; i++)
        code = sp_state_cut_files(n ? path[i] : "-", &names, &cut, err);
    sp_taken_clear(&names.taken);
    exit_status = cut.upstream_exit ? cut.upstream_exit : cut.n_error > 0;
    if (!code && !exit_status && cut.n_state == 0)
        code = sp_error_set(err, SP_E_DATA,
                            "no document brings a state: mamba-layer --emit-state adds them");
    return code;
}

static enum sp_code run_convert(int n, char **path, struct sp_error *err) {
    struct sp_state *s = NULL;
    struct sp_state_loss conv, ssm;
    (void)n;
    if (!opt.dtype) return sp_error_set(err, SP_E_USAGE, "say the type: --dtype f32, bf16 or f16");
    enum sp_dtype dtype = strcmp(opt.dtype, "f32") == 0    ? SP_F32
                          : strcmp(opt.dtype, "bf16") == 0 ? SP_BF16
                                                           : SP_F16;
    enum sp_code code = check_output(path[0], err);
    if (!code) code = sp_state_read(&s, path[0], err);
    if (!code && sp_state_convert(s, dtype, &conv, &ssm, err))
        code = sp_error_prefix(err, "%s", path[0]);
    if (!code) code = sp_state_put(s, opt.output, err);
    if (!code && dtype != SP_F32) {
        sp_state_show_loss(stderr, "conv", dtype, &conv);
        sp_state_show_loss(stderr, "ssm", dtype, &ssm);
    }
    sp_state_free(s);
    return code;
}

static enum sp_code run_mix(int n, char **operand, struct sp_error *err) {
    struct sp_state_mix mix = {0};
    struct sp_state *mixed = NULL;
    double *weight = calloc((size_t)n, sizeof *weight);
    enum sp_code code = weight ? SP_OK : sp_error_memory(err, "a list of weights");
    for (int i = 0; i < n && !code; i++) {
        size_t n_name = 0;
        code = sp_state_mix_parse(operand[i], &n_name, &weight[i], err);
        if (!code) operand[i][n_name] = 0; /* the weight is cut off */
        if (!code) code = sp_io_check_output(opt.output, operand[i], err);
    }
    if (!code) code = check_output(NULL, err);
    for (int i = 0; i < n && !code; i++) {
        struct sp_state *s;
        code = sp_state_read(&s, operand[i], err);
        if (!code && sp_state_mix_add(&mix, s, operand[0], weight[i], err))
            code = sp_error_prefix(err, "%s", operand[i]);
        sp_state_free(s);
    }
    if (!code) code = sp_state_mix_end(&mix, &mixed, err);
    if (!code) code = sp_state_put(mixed, opt.output, err);
    sp_state_mix_clear(&mix);
    sp_state_free(mixed);
    free(weight);
    return code;
}

static enum sp_code run_import(int n, char **path, struct sp_error *err) {
    struct sp_state *s = NULL;
    (void)n;
    enum sp_code code = check_output(path[0], err);
    if (!code) code = sp_state_import(&s, path[0], opt.edited, err);
    if (!code) code = sp_state_put(s, opt.output, err);
    sp_state_free(s);
    return code;
}

/* A file that is no state: a picture or (NULL) safetensors. */
static enum sp_code put_file(const struct sp_state *s, const char *name, const char *format,
                             struct sp_error *err) {
    struct sp_atomic_file file;
    enum sp_code code = sp_atomic_open_output(&file, opt.output, err);
    if (code) return code;
    if (!format)
        code = sp_state_export(s, file.file, err);
    else if (strcmp(format, "pgm") == 0)
        code = sp_state_plot_pgm(s, file.file, err);
    else
        code = sp_state_plot_svg(s, name, file.file, err);
    if (!code) return sp_atomic_commit(&file, true, err);
    sp_atomic_abort(&file);
    return sp_error_prefix(err, "%s", file.path);
}

/* export, and plot, which has set the format. */
static enum sp_code run_export(int n, char **path, struct sp_error *err) {
    struct sp_state *s = NULL;
    (void)n;
    enum sp_code code = check_output(path[0], err);
    if (!code) code = sp_state_read(&s, path[0], err);
    if (!code) code = put_file(s, path[0], opt.format, err);
    sp_state_free(s);
    return code;
}

static enum sp_code run_plot(int n, char **path, struct sp_error *err) {
    const char *dot = strrchr(opt.output, '.');
    bool standard = strcmp(opt.output, "-") == 0;
    if (!opt.format && (standard || (dot && strcmp(dot, ".svg") == 0))) opt.format = "svg";
    if (!opt.format && dot && strcmp(dot, ".pgm") == 0) opt.format = "pgm";
    if (opt.format) return run_export(n, path, err);
    return sp_error_set(err, SP_E_USAGE,
                        "-o %.200s: the name ends in neither .svg nor .pgm; give --format",
                        opt.output);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static const struct {
    const struct sp_program *program;
    int n_min, n_max; /* operands; n_max 0: any number */
    enum sp_code (*run)(int n, char **operand, struct sp_error *err);
} commands[] = {
    {&info_program, 1, 0, run_info},     {&diff_program, 2, 2, run_diff},
    {&verify_program, 1, 0, run_verify}, {&near_program, 2, 0, run_near},
    {&merge_program, 1, 0, run_merge},   {&split_program, 1, 1, run_split},
    {&cut_program, 0, 0, run_cut},       {&convert_program, 1, 1, run_convert},
    {&export_program, 1, 1, run_export}, {&import_program, 1, 1, run_import},
    {&mix_program, 1, 0, run_mix},       {&plot_program, 1, 1, run_plot},
};

/* argv[0] is the command's own name. */
static int run_command(size_t i, int argc, char **argv) {
    struct sp_error err;
    int n, status;
    const struct sp_program *p = commands[i].program;
    if (!cli_start(p, argc, argv, &n, &status)) return status;
    if (n < commands[i].n_min || (commands[i].n_max && n > commands[i].n_max)) {
        sp_error_set(&err, SP_E_USAGE, "%s takes %s (see %s --help)", p->name, p->operands,
                     p->name);
        return cli_fail(p, &err);
    }
    if (commands[i].run(n, argv, &err)) exit_status = cli_fail(p, &err);
    return cli_close(p, exit_status);
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n, status;
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], strchr(commands[i].program->name, ' ') + 1) == 0)
            return run_command(i, argc - 1, argv + 1);
    if (!cli_start(&program, argc, argv, &n, &status)) return status;
    sp_error_set(&err, SP_E_USAGE, "'%.60s' is not a command (see state --help)",
                 n > 0 ? argv[0] : "");
    return cli_fail(&program, &err);
}
