/* head: a stream of hidden states in, the scores of one of the model's heads out. */
#include "../lib/net_scores.h"
#include "filter.h"
#include "sampling.h"

static struct {
    const char *model, *head, *device, *dtype;
    int64_t top, jobs;
    bool score, surprisal, choices, sample, force;
    int verbose;
} opt = {.device = "auto", .dtype = "f32"};

static const struct sp_option options[] = {
    CLI_OPTION_MODEL(opt.model),
    {SP_OPT_STRING, 0, "head", "NAME", "the head (the model's default)", &opt.head, 0, 0},
    {SP_OPT_INT, 0, "top", "K", "lm: the K most probable next tokens", &opt.top, 1, 65536},
    {SP_OPT_FLAG, 0, "score", NULL, "lm: log-probability of each token", &opt.score, 0, 0},
    {SP_OPT_FLAG, 0, "surprisal", NULL, "lm: the same in bits, for `extract`", &opt.surprisal, 0,
     0},
    {SP_OPT_FLAG, 0, "choices", NULL, "lm: of the \"choices\" of `tokenize --jsonl`", &opt.choices,
     0, 0},
    {SP_OPT_FLAG, 0, "sample", NULL, "lm: the next token of each open document", &opt.sample, 0, 0},
    SAMPLING_OPTION_TOKENS,
    CLI_OPTION_JOBS(opt.jobs),
    CLI_OPTION_FORCE(opt.force),
    CLI_OPTION_VERBOSE(opt.verbose),
    CLI_OPTION_REST,
    CLI_OPTION_DTYPE(opt.dtype),
    CLI_OPTION_DEVICE(opt.device),
    SAMPLING_OPTIONS,
    SAMPLING_OPTION_REPETITION,
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "head",
    .operands = "[FILE...]",
    .summary = "Applies the final norm and a head of the model to hidden states.",
    .detail = "Writes raw scores of every token; with --score also a document's perplexity.",
    .example = "tokenize cv.txt | embed | mamba-layer | head --head lm --score | inspect",
    .options = options};

static void describe(void *ctx, char *out, size_t size) {
    sp_scores_describe(ctx, out, size);
}

/* A loop of pipes ends when its last token is written: whoever reads it then sees the end. */
static void close_output(void *ctx) {
    (void)ctx;
    int null = open("/dev/null", O_WRONLY);
    if (null < 0) return;
    dup2(null, STDOUT_FILENO);
    close(null);
}

static enum sp_code check_options(struct sp_error *err) {
    if (opt.sample && (opt.score || opt.surprisal || opt.choices || opt.top))
        return sp_error_set(err, SP_E_USAGE, "--sample writes tokens, and no scores of them");
    return cli_refuse_terminal(opt.force, err);
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    struct sp_scores_options o = {.model = opt.model,
                                  .head = opt.head,
                                  .device = opt.device,
                                  .n_thread = (int)opt.jobs,
                                  .dtype = strcmp(opt.dtype, "bf16") == 0 ? SP_BF16 : SP_F32,
                                  .top = opt.top,
                                  .score = opt.score,
                                  .surprisal = opt.surprisal,
                                  .choices = opt.choices,
                                  .n_max = (uint64_t)sampling.n_max};
    const struct sp_sample_options sample = sampling_options();
    if (opt.sample) o.sample = &sample;
    struct sp_filter filter = {.on_done = close_output};
    struct sp_scores *scores = NULL;
    enum sp_code code = check_options(&err);
    if (!code) code = sp_scores_new(&scores, &o, &err);
    if (!code) sp_scores_install(scores, &filter);
    status =
        filter_main(&program, &filter, opt.verbose ? describe : NULL, n_operand, argv, code, &err);
    sp_scores_free(scores);
    return cli_close(&program, status);
}
