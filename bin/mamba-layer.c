/* mamba-layer: a stream of hidden states in, the same after some or all layers of the model out. */
#include "../lib/net_layers.h"
#include "filter.h"

#define CHECKPOINT_TOKENS 65536
#define CACHE_TOKENS 4096
#define CACHE_MIB 1024

static struct {
    const char *model, *layers, *load_state, *dump_state, *device, *dtype, *wire;
    const char *checkpoint, *output, *cache;
    int64_t jobs, every, cache_every, cache_mib;
    bool force, emit_state;
    int verbose;
} opt = {.device = "auto",
         .dtype = "f32",
         .wire = "f32",
         .cache_every = CACHE_TOKENS,
         .cache_mib = CACHE_MIB};

static const struct sp_option options[] = {
    CLI_OPTION_MODEL(opt.model),
    {SP_OPT_STRING, 'l', "layers", "A-B", "run layers A to B, from 0 (all that are left)",
     &opt.layers, 0, 0},
    {SP_OPT_STRING, 0, "load-state", "FILE", "start every document from this state",
     &opt.load_state, 0, 0},
    {SP_OPT_STRING, 0, "dump-state", "NAME", "write final states (%i: id, %n: number)",
     &opt.dump_state, 0, 0},
    {SP_OPT_FLAG, 0, "emit-state", NULL, "put final states into the stream too", &opt.emit_state, 0,
     0},
    {SP_OPT_STRING, 0, "checkpoint", "FILE", "run again after a kill: go on here; needs -o",
     &opt.checkpoint, 0, 0},
    {SP_OPT_INT, 0, "every", "N", "tokens between two checkpoints (65536)", &opt.every, 1, 1e15},
    {SP_OPT_STRING, 'o', "output", "FILE", "with --checkpoint: where the stream goes", &opt.output,
     0, 0},
    {SP_OPT_STRING, 0, "cache", "DIR", "start from states kept here; keep states here", &opt.cache,
     0, 0},
    CLI_OPTION_VERBOSE(opt.verbose),
    CLI_OPTION_REST,
    {SP_OPT_INT, 0, "cache-every", "N", "keep a document's state every N tokens (4096)",
     &opt.cache_every, 256, 1e15},
    {SP_OPT_INT, 0, "cache-max", "MIB", "of all states in --cache, in MiB (1024)", &opt.cache_mib,
     0, 1e12},
    CLI_OPTION_JOBS(opt.jobs),
    CLI_OPTION_DTYPE(opt.dtype),
    CLI_OPTION_WIRE(opt.wire),
    CLI_OPTION_DEVICE(opt.device),
    CLI_OPTION_FORCE(opt.force),
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "mamba-layer",
    .operands = "[FILE...]",
    .summary = "Runs layers of a Mamba model over a stream of hidden states.",
    .detail = "A state segment before the stream sets the initial state as --load-state does.",
    .example = "tokenize cv.txt | embed | mamba-layer --dump-state cv.state | head | extract",
    .options = options};

static enum sp_dtype dtype_of(const char *name) {
    return strcmp(name, "bf16") == 0 ? SP_BF16 : SP_F32;
}

static void say(bool warning, const char *message) {
    if (warning || opt.verbose) fprintf(stderr, "%s: %s\n", program.name, message);
}

/* Options that make sense together only. */
static enum sp_code check_options(struct sp_error *err) {
    if (opt.checkpoint && !opt.output)
        return sp_error_set(err, SP_E_USAGE,
                            "--checkpoint needs -o FILE: only a file can be cut off where a run "
                            "that was killed goes on");
    if (opt.output && !opt.checkpoint)
        return sp_error_set(err, SP_E_USAGE,
                            "-o is for --checkpoint FILE; without it, redirect standard output");
    if (opt.cache && opt.checkpoint)
        return sp_error_set(err, SP_E_USAGE,
                            "--cache and --checkpoint exclude each other: what a cache leaves out "
                            "may be another part when the run goes on");
    if (!opt.cache && (opt.cache_every != CACHE_TOKENS || opt.cache_mib != CACHE_MIB))
        return sp_error_set(err, SP_E_USAGE, "--cache-every and --cache-max need --cache DIR");
    if (opt.every && !opt.checkpoint)
        return sp_error_set(err, SP_E_USAGE, "--every needs --checkpoint FILE");
    return SP_OK;
}

/* What would be written over before it is read. A pattern's files are not known yet. */
static enum sp_code check_inputs(int n_file, char **file, struct sp_error *err) {
    static char standard_input[] = "-";
    static char *no_file[] = {standard_input};
    const char *const output[] = {opt.output, opt.checkpoint,
                                  opt.dump_state && !strchr(opt.dump_state, '%') ? opt.dump_state
                                                                                 : NULL};
    enum sp_code code = SP_OK;
    if (n_file == 0) n_file = 1, file = no_file;
    for (size_t i = 0; i < sizeof output / sizeof *output && !code; i++) {
        for (int k = 0; k < n_file && output[i] && !code; k++)
            code = sp_io_check_output(output[i], file[k], err);
        for (size_t k = i + 1; k < sizeof output / sizeof *output && output[i] && !code; k++)
            if (output[k] && strcmp(output[i], output[k]) == 0)
                code = sp_error_set(err, SP_E_USAGE, "two things would be written to %.300s",
                                    output[i]);
    }
    return code;
}

/* Where -o says, in place of standard output. */
static enum sp_code redirect(const struct sp_layers *layers, struct sp_error *err) {
    if (!opt.output) return SP_OK;
    filter_program.output = opt.output;
    if (dup2(sp_layers_output(layers), STDOUT_FILENO) >= 0) return SP_OK;
    return sp_error_set(err, SP_E_IO, "%s: %s", opt.output, strerror(errno));
}

static void describe(void *ctx, char *out, size_t size) {
    sp_layers_describe(ctx, out, size);
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    struct sp_layers_options o = {.model = opt.model,
                                  .device = opt.device,
                                  .n_thread = (int)opt.jobs,
                                  .dtype = dtype_of(opt.dtype),
                                  .wire = dtype_of(opt.wire),
                                  .load_state = opt.load_state,
                                  .dump_state = opt.dump_state,
                                  .emit_state = opt.emit_state,
                                  .checkpoint = opt.checkpoint,
                                  .every = opt.every ? opt.every : CHECKPOINT_TOKENS,
                                  .output = opt.output,
                                  .cache = opt.cache,
                                  .cache_every = opt.cache_every,
                                  .cache_bytes_max = opt.cache_mib << 20,
                                  .say = say};
    struct sp_filter filter = {0};
    struct sp_layers *layers = NULL;
    filter.silent = opt.dump_state && !opt.output && !opt.force && isatty(STDOUT_FILENO);
    o.first = o.last = -1;
    enum sp_code code =
        opt.layers ? sp_option_range(opt.layers, "-l", &o.first, &o.last, &err) : SP_OK;
    if (!code) code = check_options(&err);
    if (!code) code = check_inputs(n_operand, argv, &err);
    if (!code && !filter.silent && !opt.output) code = cli_refuse_terminal(opt.force, &err);
    if (!code) code = sp_layers_new(&layers, &o, &err);
    if (!code) code = redirect(layers, &err);
    if (!code) sp_layers_install(layers, &filter);
    status =
        filter_main(&program, &filter, opt.verbose ? describe : NULL, n_operand, argv, code, &err);
    if (status <= 1 && sp_layers_finish(layers, &err)) status = cli_fail(&program, &err);
    sp_layers_free(layers);
    return cli_close(&program, status);
}
