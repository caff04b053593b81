/* Batches: documents drawn from a window, some kept for evaluation, the rest packed. */
#include "train.h"

#include <stdlib.h>
#include <string.h>

/* A batch of many tiny documents is closed early: buffers are made for one sequence per so many
 * tokens. */
#define TOKENS_PER_SEQ_MIN 8

struct sp_feed {
    struct sp_feed_options options;
    const struct sp_config *config;
    const struct sp_head *head;
    struct sp_doc_source *source;
    struct sp_bigrams bigrams;
    struct sp_hash tokenizer;
    uint64_t random, n_given, n_doc_epoch;
    struct sp_left_out left_out; /* of the first epoch, once it is over */
    int64_t epoch;
    bool ended;
    struct sp_train_doc *window; /* (n_window_max) */
    int64_t n_window, n_window_max;
    struct sp_train_doc *holdout; /* (holdout_max) */
    int64_t n_holdout;
    struct sp_train_doc doc; /* the one being packed, from token `at` on */
    int64_t at;
    bool has_doc;
    const struct sp_train_doc *list; /* instead of a source: borrowed documents, or NULL */
    int64_t n_list, list_at;
    /* The batch. */
    uint32_t *id;        /* (n_tok_batch) */
    int32_t *target;     /* (n_tok_batch) */
    int64_t *cu_seqlens; /* (n_seq_max + 1) */
};

int64_t sp_feed_n_seq_max(const struct sp_feed_options *options) {
    return options->n_tok_batch / TOKENS_PER_SEQ_MIN + 1;
}

static bool feed_memory(struct sp_feed *f) {
    const struct sp_feed_options *o = &f->options;
    size_t n_tok = (size_t)o->n_tok_batch, n_label = f->head ? f->head->n_label : 0;
    f->n_window_max = o->shuffle > 1 ? o->shuffle : 1;
    f->window = calloc((size_t)f->n_window_max, sizeof *f->window);
    f->holdout = calloc((size_t)o->holdout_max + 1, sizeof *f->holdout);
    f->id = malloc(n_tok * sizeof *f->id);
    f->target = malloc(n_tok * sizeof *f->target);
    f->cu_seqlens = malloc((size_t)(sp_feed_n_seq_max(o) + 1) * sizeof *f->cu_seqlens);
    f->bigrams.n_label = (uint32_t)n_label;
    f->bigrams.count = calloc((n_label + 2) * n_label + 1, sizeof *f->bigrams.count);
    return f->window && f->holdout && f->id && f->target && f->cu_seqlens && f->bigrams.count;
}

static struct sp_feed *feed_alloc(const struct sp_feed_options *options,
                                  const struct sp_config *config, const struct sp_head *head,
                                  struct sp_error *err) {
    struct sp_feed *f = calloc(1, sizeof *f);
    if (f) {
        f->options = *options;
        f->config = config;
        f->head = head;
        f->random = options->seed;
        if (feed_memory(f)) return f;
    }
    sp_feed_free(f);
    sp_error_memory(err, "batches");
    return NULL;
}

enum sp_code sp_feed_new(struct sp_feed **out, const struct sp_feed_options *options,
                         const struct sp_config *config, const struct sp_head *head,
                         struct sp_error *err) {
    *out = NULL;
    struct sp_feed *f = feed_alloc(options, config, head, err);
    if (!f) return err->code;
    enum sp_code code = sp_doc_source_open(&f->source, options->path, config, head, err);
    if (code) {
        sp_feed_free(f);
        return code;
    }
    *out = f;
    return SP_OK;
}

enum sp_code sp_feed_from_docs(struct sp_feed **out, const struct sp_feed_options *options,
                               const struct sp_train_doc *doc, int64_t n, struct sp_error *err) {
    *out = feed_alloc(options, NULL, NULL, err);
    if (!*out) return err->code;
    (*out)->list = doc;
    (*out)->n_list = n;
    return SP_OK;
}

void sp_feed_free(struct sp_feed *f) {
    if (!f) return;
    for (int64_t i = 0; i < f->n_window; i++) sp_train_doc_clear(&f->window[i]);
    for (int64_t i = 0; i < f->n_holdout; i++) sp_train_doc_clear(&f->holdout[i]);
    if (f->has_doc && !f->list) sp_train_doc_clear(&f->doc);
    sp_doc_source_free(f->source);
    free(f->window);
    free(f->holdout);
    free(f->id);
    free(f->target);
    free(f->cu_seqlens);
    free(f->bigrams.count);
    free(f);
}

/* Is document `index` of the stream one that is never trained on? */
static bool is_held_out(const struct sp_feed *f, uint64_t index) {
    uint64_t every = (uint64_t)f->options.holdout;
    return every && index % every == every - 1 && index / every < (uint64_t)f->options.holdout_max;
}

/* The end of the input: once more from the start, or never again. */
static enum sp_code next_epoch(struct sp_feed *f, struct sp_error *err) {
    f->epoch++;
    if (f->epoch == 1) f->left_out = sp_doc_source_left_out(f->source);
    sp_doc_source_free(f->source);
    f->source = NULL;
    f->ended = f->epoch >= f->options.epochs || f->n_doc_epoch == 0;
    if (f->ended) return SP_OK;
    f->n_doc_epoch = 0;
    return sp_doc_source_open(&f->source, f->options.path, f->config, f->head, err);
}

/* The next document of the input that is trained on. */
static enum sp_code read_doc(struct sp_feed *f, struct sp_train_doc *doc, bool *there,
                             struct sp_error *err) {
    *there = false;
    while (!f->ended && !*there) {
        /* Later epochs hold no new pairs. */
        struct sp_bigrams *bigrams = f->epoch == 0 && f->head ? &f->bigrams : NULL;
        SP_TRY(sp_doc_source_next(f->source, doc, there, bigrams, err));
        f->tokenizer = *sp_doc_source_tokenizer(f->source);
        if (!*there) {
            SP_TRY(next_epoch(f, err));
            continue;
        }
        if (!is_held_out(f, doc->index)) {
            f->n_doc_epoch++;
            continue;
        }
        if (f->epoch == 0)
            f->holdout[f->n_holdout++] = *doc;
        else
            sp_train_doc_clear(doc);
        *there = false;
    }
    return SP_OK;
}

static enum sp_code draw_doc(struct sp_feed *f, struct sp_error *err) {
    f->at = 0;
    if (f->list) {
        f->has_doc = f->list_at < f->n_list;
        if (f->has_doc) f->doc = f->list[f->list_at++];
        return SP_OK;
    }
    while (!f->ended && f->n_window < f->n_window_max) {
        bool there;
        SP_TRY(read_doc(f, &f->window[f->n_window], &there, err));
        f->n_window += there;
    }
    f->has_doc = f->n_window > 0;
    if (!f->has_doc) return SP_OK;
    int64_t pick = 0;
    if (f->n_window_max > 1) pick = (int64_t)(sp_random_next(&f->random) % (uint64_t)f->n_window);
    f->doc = f->window[pick];
    f->window[pick] = f->window[--f->n_window];
    return SP_OK;
}

/* Appends up to n tokens of the current document as one sequence. */
static void append(struct sp_feed *f, struct sp_feed_batch *b, int64_t n) {
    int64_t to = f->cu_seqlens[b->n_seq];
    memcpy(f->id + to, f->doc.id + f->at, (size_t)n * sizeof *f->id);
    memcpy(f->target + to, f->doc.target + f->at, (size_t)n * sizeof *f->target);
    for (int64_t i = to; i < to + n; i++) b->n_target += f->target[i] >= 0;
    f->cu_seqlens[++b->n_seq] = to + n;
    f->at += n;
    if (f->at < f->doc.n) return;
    if (!f->list) sp_train_doc_clear(&f->doc);
    f->has_doc = false;
    f->n_given++;
}

enum sp_code sp_feed_next(struct sp_feed *f, struct sp_feed_batch *b, struct sp_error *err) {
    int64_t limit = f->options.n_tok_batch, piece = f->options.n_tok_piece;
    *b = (struct sp_feed_batch){.cu_seqlens = f->cu_seqlens, .id = f->id, .target = f->target};
    f->cu_seqlens[0] = 0;
    b->continues = f->has_doc && f->at > 0;
    while (b->n_seq < sp_feed_n_seq_max(&f->options)) {
        if (!f->has_doc) SP_TRY(draw_doc(f, err));
        if (!f->has_doc) break;
        int64_t left = f->doc.n - f->at, n = left < piece ? left : piece;
        if (f->cu_seqlens[b->n_seq] + n > limit) break;
        append(f, b, n);
        b->unfinished = f->has_doc;
        if (b->unfinished) break;
    }
    return SP_OK;
}

enum sp_code sp_feed_count(const struct sp_feed_options *options, const struct sp_config *config,
                           const struct sp_head *head, uint64_t *n_doc, struct sp_error *err) {
    struct sp_feed *f;
    struct sp_feed_options once = *options;
    struct sp_train_doc doc;
    bool there = true;
    once.epochs = 1;
    *n_doc = 0;
    SP_TRY(sp_feed_new(&f, &once, config, head, err));
    enum sp_code code = SP_OK;
    while (!code && there) {
        code = read_doc(f, &doc, &there, err);
        if (code || !there) break;
        sp_train_doc_clear(&doc);
        ++*n_doc;
    }
    sp_feed_free(f);
    *n_doc *= (uint64_t)options->epochs;
    return code;
}
uint64_t sp_feed_documents(const struct sp_feed *f) {
    return f->n_given;
}
struct sp_left_out sp_feed_left_out(const struct sp_feed *f) {
    return f->epoch == 0 ? sp_doc_source_left_out(f->source) : f->left_out;
}
const struct sp_bigrams *sp_feed_bigrams(const struct sp_feed *f) {
    return &f->bigrams;
}
const struct sp_hash *sp_feed_tokenizer(const struct sp_feed *f) {
    return &f->tokenizer;
}
const struct sp_train_doc *sp_feed_holdout(const struct sp_feed *f, int64_t *n) {
    *n = f->n_holdout;
    return f->holdout;
}
