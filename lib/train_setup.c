/* The beginning of a run: config, weights, documents for evaluation, buffers. */
#include "train_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "model.h"

/* The folder of a file, or "." */
static enum sp_code folder_of(char *out, size_t size, const char *path, struct sp_error *err) {
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= size) return sp_error_set(err, SP_E_USAGE, "path too long: %.60s...", path);
    if (!slash)
        snprintf(out, size, ".");
    else
        snprintf(out, size, "%.*s", (int)(n ? n : 1), path);
    return SP_OK;
}

static enum sp_code read_config(struct sp_train *run, struct sp_error *err) {
    const struct sp_train_options *o = &run->options;
    if (!o->config && !o->init)
        return sp_error_set(err, SP_E_USAGE,
                            "say what to train: --config FILE (a new model) or --init DIR");
    if (o->init) {
        SP_TRY(sp_model_open(&run->init, o->init, err));
        run->config = *sp_model_config(run->init);
        snprintf(run->source_dir, sizeof run->source_dir, "%s", o->init);
    }
    if (!o->config) return SP_OK;
    char *text;
    size_t n;
    if (!o->init) SP_TRY(folder_of(run->source_dir, sizeof run->source_dir, o->config, err));
    SP_TRY(sp_io_slurp(&text, &n, o->config, SP_CONFIG_BYTES_MAX, err));
    enum sp_code code = sp_config_parse(&run->config, text, n, o->config, err);
    free(text);
    return code;
}

/* What was counted of a model's records is not so of the one that it becomes. */
static void forget_counts(struct sp_config *c) {
    for (uint32_t i = 0; i < c->n_head; i++) {
        memset(c->head[i].doubt, 0, sizeof c->head[i].doubt);
        memset(c->head[i].calibration, 0, sizeof c->head[i].calibration);
    }
}

/* A language model of a config that has no head for one: that head alone. Other heads do not fit
 * layers that move away from them, and what they asked of the text goes with them. */
static void become_lm(struct sp_config *c) {
    for (uint32_t i = 0; i < c->n_head; i++)
        if (c->head[i].type == SP_HEAD_LM) return;
    c->n_head = 1;
    c->head[0] = (struct sp_head){.name = "lm", .type = SP_HEAD_LM};
    snprintf(c->default_head, sizeof c->default_head, "lm");
    c->passes = 1;
    c->delay = 0;
    c->reverse = 0;
    c->reverse_layers = 0;
}

/* The head that is trained: by name, or the first of the task's type. */
static enum sp_code pick_head(struct sp_train *run, uint32_t *index, struct sp_error *err) {
    static const char *const task_name[] = {"tag", "lm", "class"};
    static const enum sp_head_type type[] = {SP_HEAD_TAG, SP_HEAD_LM, SP_HEAD_CLASS};
    const struct sp_train_options *o = &run->options;
    uint32_t i = 0;
    if (o->task == SP_TRAIN_LM) become_lm(&run->config);
    *index = run->config.n_head;
    if (o->task == SP_TRAIN_LM) return SP_OK;
    while (i < run->config.n_head && (run->config.head[i].type != type[o->task] ||
                                      (o->head && strcmp(o->head, run->config.head[i].name) != 0)))
        i++;
    if (i == run->config.n_head)
        return sp_error_set(
            err, SP_E_USAGE,
            "the config has no head %s%sof type %s (statepipe.heads in config.json)",
            o->head ? o->head : "", o->head ? " " : "", task_name[o->task]);
    *index = i;
    run->head = &run->config.head[i];
    return SP_OK;
}

/* The model's tokenizer, where its folder has one: the input must have been made with it. */
static enum sp_code read_tokenizer(struct sp_train *run, struct sp_error *err) {
    char path[4096];
    struct sp_tokenizer *tok;
    bool bytes = strcmp(run->config.tokenizer, "bytes") == 0;
    SP_TRY(sp_path_join(path, sizeof path, run->source_dir, "tokenizer.json", err));
    if (!bytes && access(path, R_OK) != 0) return SP_OK;
    SP_TRY(sp_tokenizer_open(&tok, bytes ? "bytes" : path, err));
    run->tokenizer = *sp_tokenizer_fingerprint(tok);
    run->has_tokenizer = true;
    uint32_t n = sp_tokenizer_vocab_size(tok);
    sp_tokenizer_free(tok);
    if ((int64_t)n <= run->config.vocab_size) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "the tokenizer has %u tokens, the config's vocab_size is "
                        "%lld",
                        n, (long long)run->config.vocab_size);
}

static enum sp_code make_weights(struct sp_train *run, struct sp_error *err) {
    size_t n = (size_t)sp_param_set_size(run->set);
    float *value = malloc(n * sizeof *value);
    if (!value) return sp_error_memory(err, "the weights");
    sp_param_set_init(run->set, run->options.seed, value);
    enum sp_code code = run->init ? sp_param_set_load(run->set, run->init, value, err) : SP_OK;
    if (!code)
        code =
            run->be->upload(run->be, sp_train_net_values(run->net), value, n * sizeof *value, err);
    free(value);
    return code ? code : sp_train_net_refresh(run->net, err);
}

static enum sp_code carry_new(struct sp_train *run, struct sp_carry *c, struct sp_error *err) {
    const struct sp_config *g = &run->config;
    size_t n_seq = (size_t)sp_feed_n_seq_max(&run->options.feed);
    size_t conv = (size_t)(g->n_layer * (g->d_conv - 1) * g->d_inner + 1) * sizeof(float);
    size_t ssm = (size_t)(g->n_layer * g->d_inner * g->d_state + 1) * sizeof(float);
    for (int slot = 0; slot < 2; slot++) {
        void *p;
        SP_TRY(run->be->alloc(run->be, conv, &p, err));
        c->conv[slot] = p;
        SP_TRY(run->be->alloc(run->be, ssm, &p, err));
        c->ssm[slot] = p;
    }
    c->conv_in = calloc(n_seq, sizeof *c->conv_in);
    c->ssm_in = calloc(n_seq, sizeof *c->ssm_in);
    c->conv_out = calloc(n_seq, sizeof *c->conv_out);
    c->ssm_out = calloc(n_seq, sizeof *c->ssm_out);
    if (c->conv_in && c->ssm_in && c->conv_out && c->ssm_out) return SP_OK;
    return sp_error_memory(err, "the states");
}

static void carry_clear(struct sp_train *run, struct sp_carry *c) {
    for (int slot = 0; slot < 2; slot++) {
        if (c->conv[slot]) run->be->release(run->be, c->conv[slot]);
        if (c->ssm[slot]) run->be->release(run->be, c->ssm[slot]);
    }
    free(c->conv_in);
    free(c->ssm_in);
    free(c->conv_out);
    free(c->ssm_out);
}

/* Documents for evaluation, in memory. */
static enum sp_code read_eval(struct sp_train *run, struct sp_error *err) {
    const struct sp_train_options *o = &run->options;
    struct sp_doc_source *source;
    if (!o->eval) return SP_OK;
    run->eval = calloc((size_t)o->feed.holdout_max + 1, sizeof *run->eval);
    if (!run->eval) return sp_error_memory(err, "evaluation");
    SP_TRY(sp_doc_source_open(&source, o->eval, &run->config, run->head, err));
    enum sp_code code = SP_OK;
    bool there = true;
    while (!code && there && run->n_eval < o->feed.holdout_max) {
        code = sp_doc_source_next(source, &run->eval[run->n_eval], &there, NULL, err);
        run->n_eval += !code && there;
    }
    sp_doc_source_free(source);
    if (!code && run->n_eval == 0)
        code = sp_error_set(err, SP_E_DATA, "%s holds no document", o->eval);
    return code;
}

/* A finished model is not overwritten by mistake; one with a checkpoint is gone on with. */
static enum sp_code look_at_out(struct sp_train *run, struct sp_error *err) {
    char model[4096], checkpoint[4096];
    const char *out = run->options.out;
    if (mkdir(out, 0777) != 0 && access(out, W_OK) != 0)
        return sp_error_set(err, SP_E_IO, "cannot write to folder %s", out);
    SP_TRY(sp_path_join(model, sizeof model, out, "model.safetensors", err));
    SP_TRY(sp_path_join(checkpoint, sizeof checkpoint, out, "checkpoint", err));
    if (run->options.force) {
        sp_train_checkpoint_remove(run);
        return SP_OK;
    }
    if (access(checkpoint, F_OK) == 0 || access(model, F_OK) != 0) return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "%s holds a finished model: give another -o, or --force to replace it",
                        out);
}

/* A file is read again and again while --steps or --time ask for more, else once. */
static enum sp_code look_at_input(struct sp_train *run, struct sp_error *err) {
    struct sp_train_options *o = &run->options;
    struct stat st;
    bool limited = o->steps || o->minutes > 0;
    bool file =
        strcmp(o->feed.path, "-") != 0 && stat(o->feed.path, &st) == 0 && S_ISREG(st.st_mode);
    if (!file && (o->feed.epochs > 1 || !limited))
        return sp_error_set(err, SP_E_USAGE,
                            "input from a pipe is read once, and it does not tell how much there "
                            "is: give --steps or --time");
    if (!o->feed.epochs) o->feed.epochs = file && limited ? INT64_MAX : 1;
    return SP_OK;
}

/* No window of reversed layers is cut where a document is. */
static enum sp_code check_piece(const struct sp_train *run, struct sp_error *err) {
    const int64_t window = run->config.reverse;
    if (!window || run->options.feed.n_tok_piece % window == 0) return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "--max-len (as --batch, without it) has to be a multiple of %lld, the "
                        "window of the model's reversed layers",
                        (long long)window);
}

static enum sp_code set_up(struct sp_train *run, struct sp_error *err) {
    const struct sp_train_options *o = &run->options;
    uint32_t head;
    SP_TRY(read_config(run, err));
    forget_counts(&run->config);
    SP_TRY(pick_head(run, &head, err));
    SP_TRY(check_piece(run, err));
    SP_TRY(look_at_out(run, err));
    SP_TRY(read_tokenizer(run, err));
    SP_TRY(look_at_input(run, err));
    SP_TRY(sp_param_set_new(&run->set, &run->config, head, err));
    SP_TRY(sp_train_net_new(&run->net, run->set, run->be, o->feed.n_tok_batch,
                            sp_feed_n_seq_max(&o->feed), err));
    SP_TRY(make_weights(run, err));
    SP_TRY(sp_optimiser_init(&run->optimiser, &o->adamw, run->set, run->be, run->net, err));
    SP_TRY(carry_new(run, &run->carry, err));
    SP_TRY(carry_new(run, &run->eval_carry, err));
    SP_TRY(read_eval(run, err));
    if (!o->steps && o->minutes <= 0)
        SP_TRY(sp_feed_count(&o->feed, &run->config, run->head, &run->n_doc_total, err));
    SP_TRY(sp_feed_new(&run->feed, &o->feed, &run->config, run->head, err));
    return sp_train_checkpoint_resume(run, err);
}

enum sp_code sp_train_new(struct sp_train **out, const struct sp_train_options *options,
                          struct sp_backend *be, struct sp_error *err) {
    *out = NULL;
    struct sp_train *run = calloc(1, sizeof *run);
    if (!run) return sp_error_memory(err, "a run");
    run->options = *options;
    run->be = be;
    enum sp_code code = set_up(run, err);
    if (code) {
        sp_train_free(run);
        return code;
    }
    run->start_s = run->saved_s = sp_train_clock_s();
    *out = run;
    return SP_OK;
}

void sp_train_free(struct sp_train *run) {
    if (!run) return;
    for (int64_t i = 0; i < run->n_eval; i++) sp_train_doc_clear(&run->eval[i]);
    free(run->eval);
    carry_clear(run, &run->carry);
    carry_clear(run, &run->eval_carry);
    sp_optimiser_clear(&run->optimiser);
    sp_train_net_free(run->net);
    sp_param_set_free(run->set);
    sp_feed_free(run->feed);
    sp_model_free(run->init);
    free(run);
}
