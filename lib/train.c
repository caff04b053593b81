/* The training loop. */
#include "train_run.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "io.h"

double sp_train_clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double sp_train_elapsed_s(const struct sp_train *run) {
    return run->elapsed_before_s + sp_train_clock_s() - run->start_s;
}

int64_t sp_train_resumed(const struct sp_train *run) {
    return run->resumed;
}
struct sp_left_out sp_train_left_out(const struct sp_train *run) {
    return sp_feed_left_out(run->feed);
}
int64_t sp_train_parameters(const struct sp_train *run) {
    int64_t n = 0;
    for (int64_t i = 0; i < run->set->n; i++) n += run->set->item[i].n;
    return n;
}

/* How much of the run is done: by steps, by time, or by documents, as it was asked for. */
static double progress_of(const struct sp_train *run) {
    const struct sp_train_options *o = &run->options;
    double steps = o->steps ? (double)run->optimiser.step / (double)o->steps : 0;
    double time = o->minutes > 0 ? sp_train_elapsed_s(run) / (60 * o->minutes) : 0;
    double docs = run->n_doc_total && !o->steps && o->minutes <= 0
                      ? (double)sp_feed_documents(run->feed) / (double)run->n_doc_total
                      : 0;
    return fmax(steps, fmax(time, docs));
}

enum sp_code sp_train_next_batch(struct sp_train *run, struct sp_feed_batch *batch,
                                 struct sp_error *err) {
    SP_TRY(sp_feed_next(run->feed, batch, err));
    if (batch->n_seq == 0) return SP_OK;
    sp_hash_bytes(&run->place.last_batch, batch->id,
                  (size_t)batch->cu_seqlens[batch->n_seq] * sizeof *batch->id);
    run->place.n_batch++;
    run->place.n_doc = sp_feed_documents(run->feed);
    if (!run->has_tokenizer || sp_hash_equal(&run->tokenizer, sp_feed_tokenizer(run->feed)))
        return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "the input was made with another tokenizer than that of %s: use "
                        "tokenize -m %s",
                        run->source_dir, run->source_dir);
}

/* The first sequence begins in the state where the last batch's long document was left; the last
 * one leaves its own behind, if it goes on. */
static struct sp_train_batch batch_of(struct sp_carry *c, const struct sp_feed_batch *b) {
    int64_t last = b->n_seq - 1;
    int from = c->now, to = 1 - c->now;
    struct sp_train_batch t = {
        .n_seq = b->n_seq, .cu_seqlens = b->cu_seqlens, .id = b->id, .target = b->target};
    if (b->continues) {
        memset(c->conv_in, 0, (size_t)b->n_seq * sizeof *c->conv_in);
        memset(c->ssm_in, 0, (size_t)b->n_seq * sizeof *c->ssm_in);
        c->conv_in[0] = c->conv[from];
        c->ssm_in[0] = c->ssm[from];
        t.conv_in = c->conv_in;
        t.ssm_in = c->ssm_in;
    }
    if (b->unfinished) {
        memset(c->conv_out, 0, (size_t)b->n_seq * sizeof *c->conv_out);
        memset(c->ssm_out, 0, (size_t)b->n_seq * sizeof *c->ssm_out);
        c->conv_out[last] = c->conv[to];
        c->ssm_out[last] = c->ssm[to];
        t.conv_out = c->conv_out;
        t.ssm_out = c->ssm_out;
        c->now = to;
    }
    return t;
}

static enum sp_code evaluate(struct sp_train *run, struct sp_error *err) {
    struct sp_train_report *r = &run->report;
    const struct sp_train_doc *doc = run->eval;
    int64_t n = run->n_eval, n_target = 0, n_right = 0;
    double loss = 0;
    if (!doc) doc = sp_feed_holdout(run->feed, &n);
    if (n == 0) return SP_OK;
    struct sp_feed *feed;
    SP_TRY(sp_feed_from_docs(&feed, &run->options.feed, doc, n, err));
    enum sp_code code = SP_OK;
    struct sp_feed_batch b = {.n_seq = 1};
    while (!code && b.n_seq > 0) {
        code = sp_feed_next(feed, &b, err);
        if (code || b.n_seq == 0) break;
        struct sp_train_batch batch = batch_of(&run->eval_carry, &b);
        struct sp_train_result result;
        code = sp_train_net_evaluate(run->net, &batch, &result, err);
        if (code) break;
        loss += result.loss;
        n_target += result.n_target;
        n_right += result.n_right;
    }
    sp_feed_free(feed);
    if (code || n_target == 0) return code;
    r->evaluated = true;
    r->eval_loss = loss / (double)n_target;
    r->eval_accuracy = (double)n_right / (double)n_target;
    r->eval_tokens = n_target;
    return SP_OK;
}

static enum sp_code train_batch(struct sp_train *run, const struct sp_feed_batch *b,
                                struct sp_error *err) {
    struct sp_train_report *r = &run->report;
    struct sp_train_result result;
    double began = sp_train_clock_s(), progress = progress_of(run);
    int64_t n_tok = b->cu_seqlens[b->n_seq];
    struct sp_train_batch batch = batch_of(&run->carry, b);
    *r = (struct sp_train_report){.steps = run->options.steps};
    r->lr = sp_optimiser_lr(&run->options.adamw, run->optimiser.step, progress);
    if (b->n_target > 0) {
        SP_TRY(sp_train_net_gradient(run->net, &batch, (float)(1.0 / (double)b->n_target), &result,
                                     err));
        SP_TRY(sp_optimiser_step(&run->optimiser, progress, &r->norm, err));
        r->loss = result.loss / (double)result.n_target;
    } else {
        /* Nothing to learn here, but what follows starts from the state after it. */
        SP_TRY(sp_train_net_evaluate(run->net, &batch, &result, err));
    }
    run->n_token += n_tok;
    r->step = run->optimiser.step;
    r->progress = progress_of(run);
    r->elapsed_s = sp_train_elapsed_s(run);
    r->tokens_per_s = (double)n_tok / (sp_train_clock_s() - began);
    r->n_token = run->n_token;
    r->n_doc = sp_feed_documents(run->feed);
    return SP_OK;
}

static bool checkpoint_due(const struct sp_train *run) {
    double every_s = 60 * run->options.checkpoint_minutes;
    return every_s > 0 && sp_train_clock_s() - run->saved_s >= every_s;
}

/* A model that can be used is written with each checkpoint: trainings are looked at while they run.
 */
static enum sp_code checkpoint(struct sp_train *run, struct sp_error *err) {
    SP_TRY(sp_train_checkpoint_write(run, err));
    SP_TRY(sp_train_save(run, err));
    run->saved_s = sp_train_clock_s();
    return SP_OK;
}

int64_t sp_train_input_ended(const struct sp_train *run) {
    return run->input_ended;
}

enum sp_code sp_train_run(struct sp_train *run, bool (*stop)(void *ctx),
                          void (*report)(void *ctx, const struct sp_train_report *r), void *ctx,
                          bool *stopped, struct sp_error *err) {
    const struct sp_train_options *o = &run->options;
    int64_t evaluated_at = -1;
    *stopped = false;
    while (progress_of(run) < 1) {
        struct sp_feed_batch b;
        struct sp_train_place place = run->place;
        enum sp_code code = sp_train_next_batch(run, &b, err);
        *stopped = stop(ctx);
        if (*stopped) { /* what upstream wrote may have been cut off by the same signal */
            run->place = place;
            return checkpoint(run, err);
        }
        if (code) return code;
        if (b.n_seq == 0) {
            if (o->steps || o->minutes > 0) run->input_ended = run->optimiser.step;
            break;
        }
        SP_TRY(train_batch(run, &b, err));
        int64_t step = run->optimiser.step;
        if (b.n_target > 0 && step % o->eval_every == 0) {
            SP_TRY(evaluate(run, err));
            evaluated_at = step;
        }
        report(ctx, &run->report);
        *stopped = stop(ctx);
        if (*stopped) return checkpoint(run, err);
        if (checkpoint_due(run)) SP_TRY(checkpoint(run, err));
    }
    if (run->optimiser.step == 0)
        return sp_error_set(err, SP_E_DATA, "the input holds no document to train on");
    if (evaluated_at != run->optimiser.step) {
        run->report.last = true;
        SP_TRY(evaluate(run, err));
        report(ctx, &run->report);
    }
    SP_TRY(sp_train_save(run, err));
    sp_train_checkpoint_remove(run);
    return SP_OK;
}
