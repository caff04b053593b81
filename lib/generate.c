/* Generation. */
#include "generate.h"
#include "beam.h"
#include "token_out.h"

#include <stdlib.h>
#include <string.h>

/* Texts that are begun and not written: those behind a slow one are decoded and wait. */
#define WINDOW (4 * SP_GENERATE_BATCH_MAX)

struct text {
    struct sp_generated g;
    struct sp_lm_seq *seq;
    struct sp_recent recent;
    struct sp_token_out out;
    uint32_t *prompt; /* (n_prompt); NULL once it is read */
    size_t n_prompt;
    bool done;
};

struct generate {
    struct sp_lm *lm;
    const struct sp_generate_options *o;
    struct sp_sampler *sampler;
    uint8_t *role;            /* (vocabulary) for the beam: of every token of a text that goes on */
    size_t places;            /* texts at a time */
    struct text text[WINDOW]; /* of number i at i % WINDOW */
    uint64_t first, next;     /* numbers: to be written, to be begun */
    bool no_more;
    float *logits; /* (batch, vocabulary) */
    /* The texts that are decoded, in order. */
    struct text *active[SP_GENERATE_BATCH_MAX];
    size_t n_active;
};

const char *sp_generate_end_name(enum sp_generate_end end) {
    static const char *const names[] = {"length", "eos", "stop", "empty"};
    return names[end];
}

static void text_clear(struct generate *g, struct text *t) {
    sp_lm_seq_free(g->lm, t->seq);
    sp_token_out_clear(&t->out);
    free(t->prompt);
    *t = (struct text){0};
}

static struct sp_token_out token_out(const struct generate *g) {
    return (struct sp_token_out){
        .tok = sp_lm_tokenizer(g->lm), .stop = g->o->stop, .n_stop = g->o->n_stop};
}

static void finish(struct text *t, enum sp_generate_end end) {
    t->g.end = end;
    t->done = true;
    sp_token_out_end(&t->out);
}

/* ---- prompts -------------------------------------------------------------------------------- */

static enum sp_code begin(struct generate *g, struct text *t, struct sp_error *err) {
    const struct sp_generate_options *o = g->o;
    t->g.number = g->next++;
    t->out = token_out(g);
    enum sp_code code =
        o->from ? sp_lm_seq_fork(g->lm, o->from, &t->seq, err) : sp_lm_seq_new(g->lm, &t->seq, err);
    if (code) return code;
    t->g.seq = t->seq;
    sp_recent_add(&t->recent, t->prompt, t->n_prompt);
    if (t->n_prompt == 0 && !sp_lm_seq_ready(t->seq)) finish(t, SP_END_EMPTY);
    return SP_OK;
}

/* New prompts for the places that are free. */
static enum sp_code begin_texts(struct generate *g, struct sp_error *err) {
    while (!g->no_more && g->n_active < g->places && g->next - g->first < WINDOW) {
        struct text *t = &g->text[g->next % WINDOW];
        enum sp_generate_next what = SP_NEXT_NONE;
        bool idle = g->n_active == 0;
        enum sp_code code = g->o->next(g->o->ctx, idle, &t->prompt, &t->n_prompt, &what, err);
        g->no_more = what == SP_NEXT_NONE;
        if (!code && what == SP_NEXT_PROMPT) code = begin(g, t, err);
        if (code || what == SP_NEXT_LATER) return code;
        if (what == SP_NEXT_PROMPT && !t->done) g->active[g->n_active++] = t;
    }
    return SP_OK;
}

/* Reads the new prompts, in one batch, as often as the model wants. */
static enum sp_code read_prompts(struct generate *g, struct sp_error *err) {
    struct sp_lm_seq *seq[SP_GENERATE_BATCH_MAX];
    const uint32_t *id[SP_GENERATE_BATCH_MAX];
    size_t n[SP_GENERATE_BATCH_MAX], k = 0;
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < g->n_active; i++) {
        struct text *t = g->active[i];
        if (!t->prompt) continue;
        seq[k] = t->seq;
        id[k] = t->prompt;
        n[k++] = t->n_prompt;
    }
    uint32_t passes = k > 0 ? sp_model_config(sp_lm_model(g->lm))->passes : 0;
    for (uint32_t pass = 0; !code && pass < passes; pass++)
        code = sp_lm_read(g->lm, seq, id, n, k, err);
    for (size_t i = 0; i < g->n_active; i++) {
        free(g->active[i]->prompt);
        g->active[i]->prompt = NULL;
        if (g->o->n_max == 0) finish(g->active[i], SP_END_LENGTH);
    }
    return code;
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* Takes the texts that are done out of the batch. */
static void leave(struct generate *g) {
    size_t k = 0;
    for (size_t i = 0; i < g->n_active; i++)
        if (!g->active[i]->done) g->active[k++] = g->active[i];
    g->n_active = k;
}

/* A text's next token; *read: it is to be read. */
static enum sp_code draw(struct generate *g, struct text *t, const float *logits, uint32_t *id,
                         bool *read, struct sp_error *err) {
    *id = sp_sampler_next(g->sampler, logits, &t->recent, t->g.number, t->g.n_tok);
    *read = (int64_t)*id != sp_lm_eos(g->lm);
    if (!*read) {
        finish(t, SP_END_EOS);
        return SP_OK;
    }
    t->g.n_tok++;
    sp_recent_add(&t->recent, id, 1);
    enum sp_code code = sp_token_out_add(&t->out, *id, err);
    if (t->out.stopped)
        finish(t, SP_END_STOP);
    else if ((int64_t)t->g.n_tok == g->o->n_max)
        finish(t, SP_END_LENGTH);
    *read = !t->done || g->o->whole;
    return code;
}

static enum sp_code step(struct generate *g, struct sp_error *err) {
    struct sp_lm_seq *seq[SP_GENERATE_BATCH_MAX];
    uint32_t id[SP_GENERATE_BATCH_MAX];
    size_t k = 0, vocab = (size_t)sp_lm_vocab(g->lm);
    for (size_t i = 0; i < g->n_active; i++) seq[i] = g->active[i]->seq;
    enum sp_code code =
        sp_lm_logits(g->lm, (const struct sp_lm_seq *const *)seq, g->n_active, g->logits, err);
    for (size_t i = 0; !code && i < g->n_active; i++) {
        bool read;
        seq[k] = g->active[i]->seq;
        code = draw(g, g->active[i], g->logits + i * vocab, &id[k], &read, err);
        k += read;
    }
    return code ? code : sp_lm_step(g->lm, seq, id, k, err);
}

/* ---- beam search ---------------------------------------------------------------------------- */

static const uint8_t *follow(void *ctx, size_t start, const uint32_t *id, size_t n) {
    const struct generate *g = ctx;
    struct sp_error ignored;
    (void)start;
    if (n == (size_t)g->o->n_max) return NULL;
    if (n == 0 || g->o->n_stop == 0) return g->role;
    struct sp_token_out t = token_out(g);
    for (size_t i = 0; i < n; i++) sp_token_out_add(&t, id[i], &ignored);
    sp_token_out_clear(&t);
    return t.stopped ? NULL : g->role;
}

/* A text becomes its best hypothesis. */
static enum sp_code take_best(struct generate *g, struct text *t, const struct sp_beam_hyp *h,
                              struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < h->n; i++) {
        code = sp_token_out_add(&t->out, h->id[i], err);
        if (!code && g->o->whole) code = sp_lm_step(g->lm, &t->seq, &h->id[i], 1, err);
    }
    t->g.n_tok = h->n;
    finish(t, t->out.stopped ? SP_END_STOP : h->ended ? SP_END_EOS : SP_END_LENGTH);
    return code;
}

static enum sp_code search(struct generate *g, struct sp_error *err) {
    const struct sp_lm_seq *seq[SP_GENERATE_BATCH_MAX];
    struct sp_beam_list list[SP_GENERATE_BATCH_MAX];
    const struct sp_beam_options o = {.width = (size_t)g->o->beam,
                                      .n_best = (size_t)g->o->beam,
                                      .max_tokens = (size_t)g->o->n_max,
                                      .length_alpha = g->o->length_alpha,
                                      .follow = follow,
                                      .ctx = g};
    for (size_t i = 0; i < g->n_active; i++) seq[i] = g->active[i]->seq;
    enum sp_code code = sp_beam_search(g->lm, seq, g->n_active, &o, list, err);
    if (code) return code;
    for (size_t i = 0; i < g->n_active; i++) {
        if (!code) code = take_best(g, g->active[i], &list[i].item[0], err);
        sp_beam_list_clear(&list[i]);
    }
    return code;
}

static enum sp_code prepare_beam(struct generate *g, const uint32_t *never, size_t n_never,
                                 struct sp_error *err) {
    const size_t vocab = (size_t)sp_lm_vocab(g->lm);
    const int64_t eos = sp_lm_eos(g->lm);
    g->role = malloc(vocab);
    if (!g->role) return sp_error_memory(err, "generation");
    memset(g->role, SP_BEAM_TEXT, vocab);
    for (size_t i = 0; i < n_never; i++) g->role[never[i]] = 0;
    if (eos >= 0 && eos < (int64_t)vocab) g->role[eos] = SP_BEAM_END;
    g->places /= (size_t)g->o->beam;
    if (g->places == 0) g->places = 1;
    return SP_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static enum sp_code write_texts(struct generate *g, struct sp_error *err) {
    enum sp_code code = SP_OK;
    while (!code && g->first < g->next) {
        struct text *t = &g->text[g->first % WINDOW];
        size_t n = t->done || !g->o->at_once ? t->out.n_ready : 0;
        if (n > 0 || t->done) code = g->o->text(g->o->ctx, &t->g, t->out.bytes, n, t->done, err);
        sp_token_out_drop(&t->out, n);
        if (!t->done) break;
        text_clear(g, t);
        g->first++;
    }
    return code;
}

static enum sp_code run(struct generate *g, struct sp_error *err) {
    enum sp_code code = SP_OK;
    while (!code) {
        code = begin_texts(g, err);
        if (!code) code = read_prompts(g, err);
        leave(g);
        if (!code && g->n_active > 0) code = g->role ? search(g, err) : step(g, err);
        leave(g);
        if (!code) code = write_texts(g, err);
        if (g->no_more && g->first == g->next) break;
    }
    return code;
}

enum sp_code sp_generate_run(struct sp_lm *lm, const struct sp_generate_options *o,
                             struct sp_error *err) {
    size_t n_never;
    const uint32_t *never = sp_lm_textless(lm, &n_never);
    struct generate *g = calloc(1, sizeof *g);
    if (!g) return sp_error_memory(err, "generation");
    g->lm = lm;
    g->o = o;
    g->places = (size_t)o->batch;
    g->logits = malloc((size_t)(o->batch * sp_lm_vocab(lm)) * sizeof *g->logits);
    enum sp_code code = g->logits ? SP_OK : sp_error_memory(err, "generation");
    if (!code) code = sp_sampler_new(&g->sampler, &o->sample, sp_lm_vocab(lm), never, n_never, err);
    if (!code && o->beam > 0) code = prepare_beam(g, never, n_never, err);
    if (!code) code = run(g, err);
    for (size_t i = 0; i < WINDOW; i++) text_clear(g, &g->text[i]);
    sp_sampler_free(g->sampler);
    free(g->role);
    free(g->logits);
    free(g);
    return code;
}
