/* train: a labelled token stream in, a model directory out. */
#include "../lib/train.h"
#include "cli.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20) /* a batch fits, so that the upstream works while we do */
#define REPORT_EVERY_S 0.5

/* Both are blocked, in all threads, and looked for between steps. */
static sigset_t stop_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

static bool stop_asked(void *ctx) {
    (void)ctx;
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

/* What main asks for; defaults are written here, once. */
static struct sp_train_options options = {.feed = {.path = "-",
                                                   .n_tok_batch = 8192,
                                                   .n_tok_piece = 0,
                                                   .shuffle = 64,
                                                   .holdout = 0,
                                                   .holdout_max = 64},
                                          .eval_every = 100,
                                          .adamw = {.lr = 2e-3,
                                                    .lr_min = -1,
                                                    .warmup = 50,
                                                    .beta1 = 0.9,
                                                    .beta2 = 0.95,
                                                    .eps = 1e-8,
                                                    .weight_decay = 0.1,
                                                    .clip = 1},
                                          .checkpoint_minutes = 5,
                                          .seed = 1};
static const char *task = "tag", *save_dtype = "f32", *device = "auto";
static int64_t seed = 1, threads;
static int verbose;

static const struct sp_option option_table[] = {
    {SP_OPT_STRING, 'o', "output", "DIR", "model directory to write", &options.out, 0, 0},
    {SP_OPT_STRING, 0, "config", "FILE", "a new model of this config.json", &options.config, 0, 0},
    {SP_OPT_STRING, 0, "init", "DIR", "go on from this model", &options.init, 0, 0},
    {SP_OPT_CHOICE, 0, "task", "tag|lm|class", "what to learn (tag)", &task, 0, 0},
    {SP_OPT_INT, 0, "steps", "N", "optimiser steps", &options.steps, 1, 1e9},
    {SP_OPT_INT, 0, "epochs", "N", "passes over FILE", &options.feed.epochs, 1, 1e6},
    {SP_OPT_INT, 0, "batch", "N", "tokens of a batch (8192)", &options.feed.n_tok_batch, 8, 1e6},
    {SP_OPT_DOUBLE, 0, "lr", "X", "learning rate (2e-3)", &options.adamw.lr, 0, 10},
    {SP_OPT_STRING, 0, "eval", "FILE", "token stream to evaluate on", &options.eval, 0, 0},
    {SP_OPT_INT, 'j', "threads", "N", "threads (all cores)", &threads, 1, 1024},
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr what runs, and every step", &verbose, 0, 0},
    CLI_OPTION_REST,
    {SP_OPT_STRING, 0, "head", "NAME", "head to train (first of the task)", &options.head, 0, 0},
    {SP_OPT_DOUBLE, 0, "time", "MIN", "minutes instead of steps", &options.minutes, 0, 1e6},
    {SP_OPT_INT, 0, "max-len", "N", "cut documents here (--batch)", &options.feed.n_tok_piece, 1,
     1e6},
    {SP_OPT_INT, 0, "shuffle", "N", "documents to draw from (64)", &options.feed.shuffle, 0, 1e6},
    {SP_OPT_DOUBLE, 0, "min-lr", "X", "learning rate at the end (lr / 20)", &options.adamw.lr_min,
     0, 10},
    {SP_OPT_INT, 0, "warmup", "N", "steps of rising rate (50)", &options.adamw.warmup, 0, 1e9},
    {SP_OPT_DOUBLE, 0, "weight-decay", "X", "weight decay of matrices (0.1)",
     &options.adamw.weight_decay, 0, 10},
    {SP_OPT_DOUBLE, 0, "clip", "X", "largest gradient norm (1; 0: any)", &options.adamw.clip, 0,
     1e9},
    {SP_OPT_DOUBLE, 0, "ema", "X", "average the weights (0.999; 0: no)", &options.adamw.ema, 0,
     0.999999},
    {SP_OPT_INT, 0, "holdout", "N", "evaluate on every Nth document", &options.feed.holdout, 2,
     1e9},
    {SP_OPT_INT, 0, "eval-docs", "N", "documents to evaluate on (64)", &options.feed.holdout_max, 1,
     1e6},
    {SP_OPT_INT, 0, "eval-every", "N", "steps between evaluations (100)", &options.eval_every, 1,
     1e9},
    {SP_OPT_DOUBLE, 0, "checkpoint-minutes", "X", "minutes between checkpoints (5; 0: none)",
     &options.checkpoint_minutes, 0, 1e6},
    {SP_OPT_CHOICE, 0, "save-dtype", "f32|bf16", "type of matrices as saved (f32)", &save_dtype, 0,
     0},
    CLI_OPTION_DEVICE(device),
    {SP_OPT_INT, 0, "seed", "N", "of weights and shuffling (1)", &seed, 0, 9e15},
    {SP_OPT_FLAG, 0, "force", NULL, "start afresh, whatever DIR holds", &options.force, 0, 0},
    CLI_OPTION_END,
};

static const struct sp_program program = {
    .name = "train",
    .operands = "[FILE]",
    .summary = "Trains a model on a labelled token stream (of tokenize --jsonl).",
    .detail = "The same command again goes on from DIR/checkpoint after an interruption.",
    .example = "mkresume -n 9999 | tokenize --jsonl -m M | train --init M --steps 100 -o OUT",
    .options = option_table};

struct progress {
    bool terminal;
    double shown_s;
};

static void show_time(char *out, size_t size, double s) {
    if (!(s >= 0) || s > 1e7)
        snprintf(out, size, "?");
    else if (s < 3600)
        snprintf(out, size, "%d:%02d", (int)s / 60, (int)s % 60);
    else
        snprintf(out, size, "%d:%02d:%02d", (int)s / 3600, (int)s / 60 % 60, (int)s % 60);
}

/* On a terminal one line that is written over; elsewhere a line per --eval-every steps (-v: per
 * step). */
static void on_report(void *ctx, const struct sp_train_report *r) {
    struct progress *p = ctx;
    char left[32], eval[96] = "";
    bool line = r->last || verbose || r->step % options.eval_every == 0;
    if (!line && (!p->terminal || r->elapsed_s - p->shown_s < REPORT_EVERY_S)) return;
    p->shown_s = r->elapsed_s;
    show_time(left, sizeof left, r->elapsed_s / r->progress - r->elapsed_s);
    if (r->evaluated)
        snprintf(eval, sizeof eval, "  eval %.4f, %.2f %% right", r->eval_loss,
                 100 * r->eval_accuracy);
    fprintf(stderr,
            "%sstep %lld  loss %.4f  norm %.2f  lr %.2g  %.0f tokens/s  %.0f %%  left %s%s%s",
            p->terminal ? "\r\033[K" : "", (long long)r->step, r->loss, r->norm, r->lr,
            r->tokens_per_s, 100 * r->progress, left, eval, line ? "\n" : "");
}

/* A pipe is read once, and may hold less than was asked for. */
static void report_end(int64_t n_step) {
    if (n_step == 0) return;
    if (options.steps)
        fprintf(stderr, "train: the input ended after %lld of %lld steps\n", (long long)n_step,
                (long long)options.steps);
    else
        fprintf(stderr, "train: the input ended after %lld steps, before the %g minutes\n",
                (long long)n_step, options.minutes);
}

/* *failed: documents of the input had failed upstream. */
static enum sp_code run_training(struct sp_backend *be, bool *failed, struct sp_error *err) {
    struct sp_train *run;
    struct progress progress = {.terminal = isatty(STDERR_FILENO)};
    bool stopped;
    SP_TRY(sp_train_new(&run, &options, be, err));
    if (verbose) fprintf(stderr, "train: %lld parameters\n", (long long)sp_train_parameters(run));
    if (sp_train_resumed(run))
        fprintf(stderr, "train: going on after step %lld\n", (long long)sp_train_resumed(run));
    enum sp_code code = sp_train_run(run, stop_asked, on_report, &progress, &stopped, err);
    if (!code && stopped)
        fprintf(stderr, "%strain: stopped; the same command goes on from %s/checkpoint\n",
                progress.terminal ? "\n" : "", options.out);
    if (!code) report_end(sp_train_input_ended(run));
    struct sp_left_out left_out = sp_train_left_out(run);
    *failed = left_out.n_doc > 0;
    if (!code && *failed)
        fprintf(stderr, "train: %llu documents of the input had failed and were left out\n",
                (unsigned long long)left_out.n_doc);
    if (!code && left_out.n_tok)
        fprintf(stderr,
                "train: %llu tokens stand in spans with labels that the head has not; nothing was "
                "learnt there\n",
                (unsigned long long)left_out.n_tok);
    sp_train_free(run);
    return code;
}

static enum sp_code check_options(int n_operand, char **operand, struct sp_error *err) {
    if (n_operand > 1) return sp_error_set(err, SP_E_USAGE, "one FILE at most");
    if (n_operand == 1) options.feed.path = operand[0];
    if (!options.out) return sp_error_set(err, SP_E_USAGE, "say where the model goes: -o DIR");
    if (strcmp(options.feed.path, "-") == 0 && isatty(STDIN_FILENO))
        return sp_error_set(err, SP_E_USAGE, "standard input is a terminal; pipe tokens into it");
    if (options.eval && options.feed.holdout)
        return sp_error_set(err, SP_E_USAGE, "--eval and --holdout: one of the two");
    if (options.adamw.lr_min < 0) options.adamw.lr_min = options.adamw.lr / 20;
    if (!options.feed.n_tok_piece) options.feed.n_tok_piece = options.feed.n_tok_batch;
    if (options.feed.n_tok_piece > options.feed.n_tok_batch)
        return sp_error_set(err, SP_E_USAGE, "--max-len is more than --batch");
    options.save = strcmp(save_dtype, "bf16") == 0 ? SP_BF16 : SP_F32;
    options.seed = options.feed.seed = (uint64_t)seed;
    options.task = strcmp(task, "tag") == 0  ? SP_TRAIN_TAG
                   : strcmp(task, "lm") == 0 ? SP_TRAIN_LM
                                             : SP_TRAIN_CLASS;
    return SP_OK;
}

int main(int argc, char **argv) {
    int n_operand, status;
    struct sp_error err;
    struct sp_backend *be;
    sigset_t set = stop_signals();
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    if (check_options(n_operand, argv, &err)) return cli_fail(&program, &err);
    fcntl(STDIN_FILENO, F_SETPIPE_SZ, PIPE_BYTES); /* smaller is only slower */
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (sp_backend_open(&be, device, (int)threads, &err)) return cli_fail(&program, &err);
    if (verbose) {
        char text[512];
        be->describe(be, text, sizeof text);
        fprintf(stderr, "train: %s\n", text);
    }
    bool failed;
    enum sp_code code = run_training(be, &failed, &err);
    be->free(be);
    if (code) return cli_fail(&program, &err);
    return cli_close(&program, failed ? 1 : 0);
}
