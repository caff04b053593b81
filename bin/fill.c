/* fill: texts with slots in, what stands there out. */
#include "../lib/fill_run.h"
#include "../lib/io.h"
#include "../lib/utf8.h"
#include "cli.h"

#define DOC_BYTES_MAX ((size_t)1 << 30)
#define QUERY_BYTES_SHOWN 100 /* in messages */
#define TOKENS 16
#define TOKENS_BYTES 64 /* where a token is a byte */

static struct {
    const char *model, *load_state, *until, *format, *head, *device, *dtype;
    struct sp_option_list query, choices, doc;
    bool jsonl;
    int64_t n_best, beam, max_tokens, jobs;
    int verbose;
} opt = {.format = "text", .device = "auto", .dtype = "f32", .n_best = 5, .beam = 8};

static const struct sp_option options[] = {
    CLI_OPTION_MODEL(opt.model),
    {SP_OPT_LIST, 'q', "query", "TEXT", "ask this; FILEs are states to ask", &opt.query, 0, 0},
    {SP_OPT_STRING, 0, "load-state", "FILE", "what was read before: a state", &opt.load_state, 0,
     0},
    {SP_OPT_LIST, 0, "doc", "FILE", "what was read before: a document", &opt.doc, 0, 0},
    {SP_OPT_FLAG, 0, "jsonl", NULL, "FILEs have lines {\"id\", \"doc\", \"query\"}", &opt.jsonl, 0,
     0},
    {SP_OPT_INT, 'n', "n-best", "N", "answers (5)", &opt.n_best, 1, SP_FILL_WIDTH_MAX},
    {SP_OPT_LIST, 0, "choices", "A,B,C", "these answers only (\\, is a comma)", &opt.choices, 0, 0},
    {SP_OPT_INT, 0, "max-tokens", "N", "tokens of an answer (16; bytes: 64)", &opt.max_tokens, 1,
     SP_FILL_TOKENS_MAX},
    {SP_OPT_STRING, 0, "until", "CHARS", "an answer ends before these, too", &opt.until, 0, 0},
    {SP_OPT_CHOICE, 'o', "output", "text|jsonl|filled", "output format (text)", &opt.format, 0, 0},
    CLI_OPTION_REST,
    {SP_OPT_INT, 0, "beam", "N", "hypotheses kept while searching (8, or -n)", &opt.beam, 1,
     SP_FILL_WIDTH_MAX},
    {SP_OPT_STRING, 0, "head", "NAME", "the head (a language model, or finds answers)", &opt.head,
     0, 0},
    CLI_OPTION_DTYPE(opt.dtype),
    CLI_OPTION_DEVICE(opt.device),
    CLI_OPTION_JOBS(opt.jobs),
    CLI_OPTION_VERBOSE(opt.verbose),
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "fill",
    .operands = "[FILE...]",
    .summary = "Says what stands in the slots ?__ of a text, after a document or a state.",
    .detail = "Without -q or --jsonl each FILE (or standard input) is a text with slots.",
    .example = "fill --doc cv.pdf -q 'Jane Doe is a ?__'\n"
               "  fill -m LANGUAGE-MODEL -q 'Jane Doe is a ?__' states/*.state",
    .status_1 = "some questions failed",
    .options = options};

static struct sp_lm *lm;
static struct sp_fill_run run;
static char *doc; /* --doc */

static void report(const char *id, const struct sp_error *why) {
    fflush(stdout);
    if (id) id = sp_io_shown(id);
    fprintf(stderr, "%s: %s%s%s\n", program.name, id ? id : "", id ? ": " : "", why->msg);
}

static const char *doc_path(void) {
    return opt.doc.n ? opt.doc.item[0] : NULL;
}

static enum sp_code check_options(int n_operand, struct sp_error *err) {
    if (opt.doc.n > 1)
        return sp_error_set(err, SP_E_USAGE,
                            "--doc is given twice: one document at a time, or lines of --jsonl");
    if (opt.load_state && opt.doc.n)
        return sp_error_set(err, SP_E_USAGE, "--load-state and --doc: one of the two");
    if (opt.query.n > 0 && opt.jsonl)
        return sp_error_set(err, SP_E_USAGE, "-q and --jsonl: one of the two");
    if (opt.query.n > 0 && n_operand > 0 && (opt.load_state || opt.doc.n))
        return sp_error_set(err, SP_E_USAGE,
                            "with -q, FILEs are states to ask; --load-state and --doc go without");
    if (opt.query.n == 0 && n_operand == 0 && isatty(STDIN_FILENO))
        return sp_error_set(err, SP_E_USAGE,
                            "standard input is a terminal; give a text with -q, or name a FILE");
    return SP_OK;
}

static enum sp_code open_fill(struct sp_fill_choices *choices, struct sp_error *err) {
    struct sp_lm_options o = {.model = opt.model,
                              .head = opt.head,
                              .or_answers = true,
                              .device = opt.device,
                              .n_thread = (int)opt.jobs,
                              .dtype = strcmp(opt.dtype, "bf16") == 0 ? SP_BF16 : SP_F32};
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < opt.choices.n; i++)
        code = sp_fill_choices_parse(&choices[i], opt.choices.item[i], err);
    if (!code) code = sp_lm_open(&lm, &o, err);
    if (code) return code;
    bool bytes = sp_model_config(sp_lm_model(lm))->tokenizer[0] != 0;
    int64_t max_tokens = opt.max_tokens ? opt.max_tokens : bytes ? TOKENS_BYTES : TOKENS;
    struct sp_fill_options f = {
        .n_best = (size_t)opt.n_best,
        .width = (size_t)(opt.beam > opt.n_best ? opt.beam : opt.n_best),
        .max_tokens = (size_t)max_tokens,
        .until = opt.until,
        .n_choices = opt.choices.n,
        .choices = choices,
    };
    char what[700];
    sp_lm_describe(lm, what, sizeof what);
    if (opt.verbose) fprintf(stderr, "%s: %s\n", program.name, what);
    run.lm = lm;
    run.out = stdout;
    run.report = report;
    run.format = strcmp(opt.format, "jsonl") == 0    ? SP_FILL_AS_JSONL
                 : strcmp(opt.format, "filled") == 0 ? SP_FILL_AS_FILLED
                                                     : SP_FILL_AS_TEXT;
    return sp_fill_new(&run.fill, lm, &f, err);
}

/* ---- what was read before ---------------------------------------------------------------------
 */

static enum sp_code load(const char *path, struct sp_lm_seq **seq, struct sp_error *err) {
    struct sp_state *s = NULL;
    enum sp_code code = sp_state_read(&s, path, err);
    if (!code && (code = sp_lm_seq_load(lm, s, seq, err))) sp_error_prefix(err, "%s", path);
    sp_state_free(s);
    return code;
}

/* What is binary will be refused, and is of no encoding. */
static enum sp_code make_valid(char **text, size_t *n, const char *path, struct sp_error *err) {
    if (*n > 0 && memchr(*text, 0, *n)) return SP_OK;
    return cli_make_valid(&program, text, n, path, err);
}

/* What --load-state or --doc says; NULL for neither. */
static enum sp_code load_context(struct sp_lm_seq **seq, struct sp_error *err) {
    *seq = NULL;
    if (opt.load_state) return load(opt.load_state, seq, err);
    const char *path = doc_path();
    if (!path) return SP_OK;
    enum sp_code code = sp_text_read(&doc, &run.n_doc, path, DOC_BYTES_MAX, err);
    if (!code) code = make_valid(&doc, &run.n_doc, path, err);
    run.doc = doc;
    if (code || sp_fill_finds(run.fill)) return code;
    code = sp_fill_read(run.fill, &run.doc, &run.n_doc, 1, seq, err);
    if (code) sp_error_prefix(err, "%s", sp_io_shown(path));
    return code;
}

/* ---- questions --------------------------------------------------------------------------------
 */

/* The text of a -q; errors name it. */
static enum sp_code query_text(struct sp_fill_text **text, size_t i, bool alone,
                               struct sp_error *err) {
    const char *q = opt.query.item[i];
    size_t n = strlen(q), n_shown = n < QUERY_BYTES_SHOWN ? n : QUERY_BYTES_SHOWN;
    enum sp_code code = sp_fill_text_new(text, run.fill, q, n, alone, err);
    if (code) sp_error_prefix(err, "-q '%.*s'", (int)sp_utf8_valid(q, n_shown), q);
    return code;
}

/* -q alone, or after what was read before. */
static enum sp_code ask_queries(struct sp_lm_seq *context, struct sp_error *err) {
    const char *id = opt.load_state ? opt.load_state : opt.doc.n ? doc_path() : "-q";
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < opt.query.n; i++) {
        struct sp_fill_ask_item item = {.context = context, .owns_text = true};
        struct sp_error why;
        if (query_text(&item.text, i, !context, &why)) {
            code = sp_fill_run_fail(&run, NULL, &why, err);
            continue;
        }
        item.id = strdup(id);
        if (!item.id) {
            sp_fill_text_free(item.text);
            return sp_error_memory(err, "a question");
        }
        code = sp_fill_run_add(&run, &item, err);
    }
    return code;
}

/* Every -q of every state: the texts are encoded once, and serve all. */
static enum sp_code ask_states(struct sp_fill_text *const *text, char **path, int n_path,
                               struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (int i = 0; !code && i < n_path; i++) {
        struct sp_error why;
        struct sp_lm_seq *seq = NULL;
        if (load(path[i], &seq, &why)) {
            code = sp_fill_run_fail(&run, NULL, &why, err);
            continue;
        }
        for (size_t k = 0; !code && k < opt.query.n; k++) {
            struct sp_fill_ask_item item = {.text = text[k], .owns_context = true};
            item.id = strdup(path[i]);
            code = item.id ? sp_lm_seq_fork(lm, seq, &item.context, err)
                           : sp_error_memory(err, "a question");
            if (code)
                free(item.id);
            else
                code = sp_fill_run_add(&run, &item, err);
        }
        sp_lm_seq_free(lm, seq);
    }
    return code ? code : sp_fill_run_flush(&run, err);
}

static enum sp_code ask_all_states(char **path, int n_path, struct sp_error *err) {
    struct sp_fill_text *text[SP_OPTION_LIST_MAX] = {0};
    enum sp_code code = SP_OK;
    for (size_t k = 0; !code && k < opt.query.n; k++) code = query_text(&text[k], k, false, err);
    if (!code) code = ask_states(text, path, n_path, err);
    for (size_t k = 0; k < opt.query.n; k++) sp_fill_text_free(text[k]);
    return code;
}

/* A text with slots, or lines of JSON. */
static enum sp_code ask_file(const char *path, struct sp_lm_seq *context, struct sp_error *err) {
    const char *name = sp_io_shown(path);
    struct sp_error why;
    enum sp_code code;
    if (opt.jsonl) {
        int fd;
        if (sp_io_open(&fd, path, &why)) return sp_fill_run_fail(&run, NULL, &why, err);
        code = sp_fill_run_jsonl(&run, fd, name, context, err);
        close(fd);
        return code;
    }
    char *text = NULL;
    size_t n = 0;
    if (sp_io_slurp(&text, &n, path, SP_FILL_QUERY_BYTES_MAX, &why))
        return sp_fill_run_fail(&run, NULL, &why, err);
    const struct sp_fill_ask_item item = {.context = context};
    code = make_valid(&text, &n, path, err);
    if (!code) code = sp_fill_run_ask(&run, path, text, n, &item, err);
    free(text);
    return code;
}

static enum sp_code ask_all(char **path, int n_path, struct sp_error *err) {
    static char standard_input[] = "-";
    static char *no_operand[] = {standard_input};
    struct sp_lm_seq *context;
    if (sp_fill_finds(run.fill) && (opt.load_state || (opt.query.n > 0 && n_path > 0)))
        return sp_error_set(err, SP_E_USAGE,
                            "%.300s finds answers in documents, behind the question: give --doc "
                            "FILE, and no state",
                            sp_model_dir(sp_lm_model(lm)));
    if (opt.query.n > 0 && n_path > 0) return ask_all_states(path, n_path, err);
    enum sp_code code = load_context(&context, err);
    if (!code && opt.query.n > 0) code = ask_queries(context, err);
    if (n_path == 0) path = no_operand, n_path = 1;
    for (int i = 0; opt.query.n == 0 && !code && i < n_path; i++)
        code = ask_file(path[i], context, err);
    if (!code) code = sp_fill_run_flush(&run, err);
    sp_fill_run_clear(&run);
    sp_lm_seq_free(lm, context);
    return code;
}

int main(int argc, char **argv) {
    struct sp_error err;
    struct sp_fill_choices choices[SP_OPTION_LIST_MAX] = {{0}};
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    status = 0;
    enum sp_code code = check_options(n_operand, &err);
    if (!code) code = open_fill(choices, &err);
    run.with_id = opt.jsonl || n_operand > 1;
    run.with_query = opt.query.n > 1;
    if (!code) code = ask_all(argv, n_operand, &err);
    if (code)
        status = cli_fail(&program, &err);
    else if (run.n_failed > 0)
        status = run.n_asked > 1 ? 1 : sp_error_exit_status(run.failed_code);
    if (opt.verbose && !code)
        fprintf(stderr, "%s: %llu questions\n", program.name, (unsigned long long)run.n_asked);
    sp_fill_run_clear(&run);
    sp_fill_free(run.fill);
    for (size_t i = 0; i < opt.choices.n; i++) sp_fill_choices_clear(&choices[i]);
    sp_lm_free(lm);
    free(doc);
    return cli_close(&program, status);
}
