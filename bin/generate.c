/* generate: prompts in, the texts that a language model goes on with out. */
#include "../lib/generate.h"
#include "../lib/io.h"
#include "../lib/json.h"
#include "../lib/net_layers.h"
#include "../lib/utf8.h"
#include "sampling.h"

#include <sys/stat.h>
#include <time.h>

#define PROMPT_BYTES_MAX ((size_t)1 << 30)
#define BEAM_TOKENS_MAX 65536

static struct {
    const char *model, *device, *dtype, *load_state, *dump_state, *output;
    int64_t jobs, batch, beam;
    double length_penalty;
    bool lines, null, bare;
    int verbose;
    struct sp_option_list stop;
} opt = {.device = "auto",
         .dtype = "f32",
         .output = "text",
         .batch = SP_GENERATE_BATCH_MAX,
         .length_penalty = 1};

static const struct sp_option options[] = {
    SAMPLING_OPTION_TOKENS,
    SAMPLING_OPTIONS,
    {SP_OPT_INT, 0, "beam", "N", "the most probable text that N beams find", &opt.beam, 1,
     SP_GENERATE_BATCH_MAX},
    {SP_OPT_LIST, 0, "stop", "TEXT", "end before this text (repeatable)", &opt.stop, 0, 0},
    {SP_OPT_STRING, 0, "load-state", "FILE", "go on from this state", &opt.load_state, 0, 0},
    {SP_OPT_STRING, 0, "dump-state", "NAME", "write the final state (%i, %n)", &opt.dump_state, 0,
     0},
    {SP_OPT_FLAG, 'l', "lines", NULL, "each line of standard input is a prompt", &opt.lines, 0, 0},
    {SP_OPT_CHOICE, 'o', "output", "text|jsonl", "what is written (text)", &opt.output, 0, 0},
    CLI_OPTION_MODEL(opt.model),
    CLI_OPTION_REST,
    SAMPLING_OPTION_REPETITION,
    {SP_OPT_FLAG, '0', "null", NULL, "end each text with a NUL", &opt.null, 0, 0},
    {SP_OPT_FLAG, 0, "bare", NULL, "prompts without the tokens of the post-processor", &opt.bare, 0,
     0},
    {SP_OPT_DOUBLE, 0, "length-penalty", "A", "beams: log-probability / tokens^A (1)",
     &opt.length_penalty, 0, 10},
    {SP_OPT_INT, 0, "batch", "N", "texts decoded together (64)", &opt.batch, 1,
     SP_GENERATE_BATCH_MAX},
    CLI_OPTION_DTYPE(opt.dtype),
    CLI_OPTION_DEVICE(opt.device),
    CLI_OPTION_JOBS(opt.jobs),
    CLI_OPTION_VERBOSE(opt.verbose),
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "generate",
    .operands = "[PROMPT...]",
    .summary = "Goes on with texts, token by token. - or no PROMPT: standard input.",
    .example = "generate -t 0.8 --top-p 0.95 -s 7 'Education: '",
    .status_1 = "some prompts were empty",
    .options = options};

struct run {
    struct sp_lm *lm;
    struct sp_generate_options o;
    struct sp_lm_seq *from;
    int n_prompt; /* operands */
    char **prompt;
    int at;     /* of them, done */
    char *line; /* --lines: (n_line) read and not handed out yet */
    size_t n_line, cap_line;
    bool eof, flush, several;
    uint64_t n_read; /* lines */
    uint64_t n_text, n_tok, n_empty;
};

/* ---- prompts -------------------------------------------------------------------------------- */

static enum sp_code to_ids(struct run *r, const char *text, size_t n, uint32_t **id, size_t *n_id,
                           struct sp_error *err) {
    struct sp_tokens t = {0};
    enum sp_code code = sp_lm_encode(r->lm, text, n, !opt.bare, &t, err);
    *id = t.id;
    *n_id = t.n;
    t.id = NULL;
    sp_tokens_clear(&t);
    return code;
}

static enum sp_code next_operand(struct run *r, uint32_t **id, size_t *n,
                                 enum sp_generate_next *what, struct sp_error *err) {
    static char standard_input[] = "-";
    *what = SP_NEXT_NONE;
    if (r->at >= (r->n_prompt > 0 ? r->n_prompt : 1)) return SP_OK;
    char *text = r->n_prompt > 0 ? r->prompt[r->at] : standard_input, *read = NULL;
    size_t n_text = strlen(text);
    enum sp_code code = SP_OK;
    r->at++;
    if (strcmp(text, "-") == 0) {
        code = sp_io_slurp(&read, &n_text, "-", PROMPT_BYTES_MAX, err);
        text = read;
    }
    if (!code) code = to_ids(r, text, n_text, id, n, err);
    *what = SP_NEXT_PROMPT;
    free(read);
    return code;
}

/* More bytes of standard input behind those of r->line. */
static enum sp_code read_some(struct run *r, struct sp_error *err) {
    if (r->n_line == r->cap_line) {
        size_t cap = 2 * r->cap_line + 65536;
        char *grown = cap <= PROMPT_BYTES_MAX ? realloc(r->line, cap) : NULL;
        if (!grown) return sp_error_set(err, SP_E_DATA, "a line is too long for a prompt");
        r->line = grown;
        r->cap_line = cap;
    }
    ssize_t got = read(STDIN_FILENO, r->line + r->n_line, r->cap_line - r->n_line);
    if (got < 0 && errno == EINTR) return SP_OK;
    if (got < 0) return sp_error_set(err, SP_E_IO, "reading standard input: %s", strerror(errno));
    r->n_line += (size_t)got;
    r->eof = got == 0;
    return SP_OK;
}

static enum sp_code next_line(struct run *r, bool idle, uint32_t **id, size_t *n,
                              enum sp_generate_next *what, struct sp_error *err) {
    char *end = NULL;
    *what = SP_NEXT_LATER;
    while (!(end = r->n_line ? memchr(r->line, '\n', r->n_line) : NULL) && !r->eof) {
        if (!idle && !sp_io_ready(STDIN_FILENO)) return SP_OK;
        enum sp_code code = read_some(r, err);
        if (code) return code;
    }
    *what = SP_NEXT_NONE;
    if (r->n_line == 0) return SP_OK;
    if (opt.dump_state && sp_layers_check_dump(opt.dump_state, ++r->n_read, false, err))
        return err->code;
    size_t n_text = end ? (size_t)(end - r->line) : r->n_line;
    size_t taken = n_text + (end != NULL);
    enum sp_code code = to_ids(r, r->line, n_text, id, n, err);
    memmove(r->line, r->line + taken, r->n_line - taken);
    r->n_line -= taken;
    *what = SP_NEXT_PROMPT;
    return code;
}

static enum sp_code next(void *ctx, bool idle, uint32_t **id, size_t *n,
                         enum sp_generate_next *what, struct sp_error *err) {
    if (opt.lines) return next_line(ctx, idle, id, n, what, err);
    return next_operand(ctx, id, n, what, err);
}

/* ---- texts ---------------------------------------------------------------------------------- */

static enum sp_code dump(struct run *r, const struct sp_generated *g, struct sp_error *err) {
    char path[4096], id[24];
    bool varies;
    struct sp_state *s = NULL;
    size_t n = (size_t)snprintf(id, sizeof id, "%llu", (unsigned long long)g->number + 1);
    enum sp_code code =
        sp_layers_file_name(path, sizeof path, opt.dump_state, id, n, g->number, &varies, err);
    if (code) return sp_error_prefix(err, "--dump-state");
    code = sp_lm_seq_store(r->lm, g->seq, &s, err);
    if (!code) code = sp_state_write(s, path, err);
    sp_state_free(s);
    return code;
}

static enum sp_code put_json(const struct sp_generated *g, const char *bytes, size_t n,
                             struct sp_error *err) {
    size_t n_valid = 0;
    char *valid = sp_utf8_repair(bytes ? bytes : "", n, &n_valid);
    char *quoted = valid ? malloc(6 * n_valid + 2) : NULL;
    if (quoted) {
        size_t k = sp_json_escape(quoted, valid, n_valid);
        printf("{\"id\": \"%llu\", \"text\": %.*s, \"n_tok\": %llu, \"end\": \"%s\"}\n",
               (unsigned long long)g->number + 1, (int)k, quoted, (unsigned long long)g->n_tok,
               sp_generate_end_name(g->end));
    }
    enum sp_code code = quoted ? SP_OK : sp_error_memory(err, "a text");
    free(valid);
    free(quoted);
    return code;
}

static enum sp_code text(void *ctx, const struct sp_generated *g, const char *bytes, size_t n,
                         bool end, struct sp_error *err) {
    struct run *r = ctx;
    enum sp_code code = SP_OK;
    if (r->o.at_once)
        code = put_json(g, bytes, n, err);
    else if (n > 0)
        fwrite(bytes, 1, n, stdout);
    if (end && !r->o.at_once && (opt.null || r->several)) putchar(opt.null ? 0 : '\n');
    if (r->flush) fflush(stdout);
    if (ferror(stdout))
        return sp_error_set(err, SP_E_IO, "writing standard output: %s", strerror(errno));
    if (code || !end) return code;
    r->n_text++;
    r->n_tok += g->n_tok;
    r->n_empty += g->end == SP_END_EMPTY;
    if (g->end == SP_END_EMPTY)
        fprintf(stderr, "%s: prompt %llu is empty: give some text, or a state with --load-state\n",
                program.name, (unsigned long long)g->number + 1);
    return opt.dump_state && g->end != SP_END_EMPTY ? dump(r, g, err) : SP_OK;
}

/* ---- the run -------------------------------------------------------------------------------- */

static enum sp_code check(int n_prompt, struct sp_error *err) {
    if (opt.lines && n_prompt > 0)
        return sp_error_set(err, SP_E_USAGE, "--lines reads standard input: no PROMPT beside it");
    if (opt.beam && (sampling_draws() || sampling.temperature > 0 || sampling.repetition != 1))
        return sp_error_set(err, SP_E_USAGE,
                            "--beam looks for the most probable text: no temperature, cuts, seed "
                            "or penalty beside it");
    if (opt.beam && sampling.n_max > BEAM_TOKENS_MAX)
        return sp_error_set(err, SP_E_USAGE, "--beam: at most %d tokens (-n)", BEAM_TOKENS_MAX);
    for (size_t i = 0; i < opt.stop.n; i++)
        if (opt.stop.item[i][0] == 0) return sp_error_set(err, SP_E_USAGE, "--stop '': empty");
    return opt.dump_state ? sp_layers_check_dump(opt.dump_state, (uint64_t)n_prompt, false, err)
                          : SP_OK;
}

static enum sp_code load(struct run *r, struct sp_error *err) {
    if (!opt.load_state) return SP_OK;
    struct sp_state *s;
    enum sp_code code = sp_state_read(&s, opt.load_state, err);
    if (code) return code; /* the file is named already */
    code = sp_lm_seq_load(r->lm, s, &r->from, err);
    sp_state_free(s);
    return code ? sp_error_prefix(err, "%s", opt.load_state) : SP_OK;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum sp_code run(struct run *r, struct sp_error *err) {
    char what[700];
    struct stat st;
    struct sp_lm_options o = {.model = opt.model,
                              .device = opt.device,
                              .n_thread = (int)opt.jobs,
                              .dtype = strcmp(opt.dtype, "bf16") == 0 ? SP_BF16 : SP_F32};
    enum sp_code code = sp_lm_open(&r->lm, &o, err);
    if (!code) code = load(r, err);
    if (code) return code;
    sp_lm_describe(r->lm, what, sizeof what);
    if (opt.verbose) fprintf(stderr, "%s: %s\n", program.name, what);
    r->several = opt.lines || r->n_prompt > 1 || isatty(STDOUT_FILENO);
    r->flush = fstat(STDOUT_FILENO, &st) != 0 || !S_ISREG(st.st_mode);
    r->o = (struct sp_generate_options){.sample = sampling_options(),
                                        .n_max = sampling.n_max,
                                        .beam = opt.beam,
                                        .length_alpha = opt.length_penalty,
                                        .stop = opt.stop.item,
                                        .n_stop = opt.stop.n,
                                        .from = r->from,
                                        .at_once = strcmp(opt.output, "jsonl") == 0,
                                        .whole = opt.dump_state != NULL,
                                        .batch = opt.batch,
                                        .ctx = r,
                                        .next = next,
                                        .text = text};
    double start = seconds();
    code = sp_generate_run(r->lm, &r->o, err);
    double took = seconds() - start;
    if (opt.verbose)
        fprintf(stderr, "%s: %llu texts, %llu tokens, %.2f tokens/s\n", program.name,
                (unsigned long long)r->n_text, (unsigned long long)r->n_tok,
                (double)r->n_tok / (took > 0 ? took : 1e-9));
    return code;
}

int main(int argc, char **argv) {
    struct sp_error err;
    struct run r = {.prompt = argv};
    int status;
    if (!cli_start(&program, argc, argv, &r.n_prompt, &status)) return status;
    enum sp_code code = check(r.n_prompt, &err);
    if (!code) code = run(&r, &err);
    status = code ? cli_fail(&program, &err) : r.n_empty > 0;
    if (r.lm) sp_lm_seq_free(r.lm, r.from);
    sp_lm_free(r.lm);
    free(r.line);
    return cli_close(&program, status);
}
