/* A language model in one process: opening it, text to ids, sequences. */
#include "io.h"
#include "lm_internal.h"
#include "model.h"
#include "state.h"
#include "task.h"
#include "token.h"
#include "token_out.h"
#include "utf8.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening -------------------------------------------------------------------------------- */

/* The head by name; without one the first that will do: the default, then in their order. */
static int choose_head(const struct sp_config *c, const char *name,
                       bool (*will_do)(const struct sp_head *)) {
    int at = sp_config_head(c, name ? name : c->default_head);
    if (at >= 0 && will_do(&c->head[at])) return at;
    for (uint32_t i = 0; !name && i < c->n_head; i++)
        if (will_do(&c->head[i])) return (int)i;
    return -1;
}

static bool is_lm(const struct sp_head *head) {
    return head->type == SP_HEAD_LM;
}

static int find_head(const struct sp_model *m, const struct sp_lm_options *o) {
    const struct sp_config *c = sp_model_config(m);
    int at = choose_head(c, o->head, is_lm);
    return at < 0 && o->or_answers ? choose_head(c, o->head, sp_head_finds_answers) : at;
}

static enum sp_code no_head(const struct sp_model *m, const struct sp_lm_options *o,
                            struct sp_error *err) {
    const char *name = o->head, *dir = sp_model_dir(m);
    if (name && sp_config_head(sp_model_config(m), name) < 0)
        return sp_error_set(err, SP_E_USAGE, "%.300s has no head '%.40s'", dir, name);
    return sp_error_set(err, SP_E_USAGE,
                        "%.300s is no language model%s: %s%.40s%s; name one with -m DIR or "
                        "$STATEPIPE_MODEL",
                        dir, o->or_answers ? " and finds no answers" : "",
                        name ? "head '" : "it has no head of type lm", name ? name : "",
                        name ? "' is of another type" : "");
}

/* The model and its head; where the one that was named answers no questions, that in its folder
 * `fill`. */
static enum sp_code open_model(struct sp_lm *lm, const struct sp_lm_options *o, const char **head,
                               struct sp_error *err) {
    char within[PATH_MAX], config[PATH_MAX];
    enum sp_code code = sp_model_open(&lm->model, o->model, err);
    int at = code ? -1 : find_head(lm->model, o);
    if (!code && at < 0 && o->or_answers) {
        code = sp_path_join(within, sizeof within, sp_model_dir(lm->model), "fill", err);
        if (!code) code = sp_path_join(config, sizeof config, within, "config.json", err);
        if (!code && access(config, R_OK) == 0) {
            sp_model_free(lm->model);
            code = sp_model_open(&lm->model, within, err);
            if (!code) at = find_head(lm->model, o);
        }
    }
    if (code) return code;
    if (at < 0) return no_head(lm->model, o, err);
    lm->c = sp_model_config(lm->model);
    *head = lm->c->head[at].name;
    return SP_OK;
}

static enum sp_code find_textless(struct sp_lm *lm, struct sp_error *err) {
    enum sp_code code =
        sp_token_textless(lm->tok, lm->c->vocab_size, &lm->textless, &lm->n_textless, err);
    if (code || lm->n_textless < (size_t)lm->c->vocab_size) return code;
    return sp_error_set(err, SP_E_DATA, "%.300s: no token of its vocabulary is the tokenizer's",
                        sp_model_dir(lm->model));
}

static enum sp_code alloc_round(struct sp_lm *lm, struct sp_error *err) {
    const size_t d = (size_t)lm->c->d_model;
    lm->hidden = malloc(SP_LM_ROWS_MAX * d * sizeof *lm->hidden);
    lm->chunk = calloc(SP_LM_ROWS_MAX, sizeof *lm->chunk);
    lm->rows = malloc(2 * SP_LM_HEAD_ROWS * d * sizeof *lm->rows);
    if (!lm->hidden || !lm->chunk || !lm->rows) return sp_error_memory(err, "a batch");
    return sp_pack_new(&lm->pack, lm->net, lm->c->d_model, SP_LM_ROWS_MAX, SP_LM_ROWS_MAX, err);
}

static enum sp_code open_all(struct sp_lm *lm, const struct sp_lm_options *o,
                             struct sp_error *err) {
    const char *head = NULL;
    enum sp_code code = open_model(lm, o, &head, err);
    if (code) return code;
    lm->dtype = o->dtype;
    sp_kernels_init(&lm->k);
    code = sp_tokenizer_open(&lm->tok, sp_model_dir(lm->model), err);
    if (!code) code = sp_backend_open(&lm->be, o->device, o->n_thread, err);
    struct sp_net_options net = {0, (uint32_t)lm->c->n_layer - 1, o->dtype};
    if (!code) code = sp_net_new(&lm->net, lm->model, lm->be, &net, err);
    if (!code) code = sp_head_net_new(&lm->head, lm->model, lm->be, head, o->dtype, err);
    if (!code) code = find_textless(lm, err);
    return code ? code : alloc_round(lm, err);
}

enum sp_code sp_lm_open(struct sp_lm **out, const struct sp_lm_options *options,
                        struct sp_error *err) {
    *out = NULL;
    struct sp_lm *lm = calloc(1, sizeof *lm);
    if (!lm) return sp_error_memory(err, "a language model");
    enum sp_code code = open_all(lm, options, err);
    if (code) {
        sp_lm_free(lm);
        return code;
    }
    *out = lm;
    return SP_OK;
}

void sp_lm_free(struct sp_lm *lm) {
    if (!lm) return;
    for (struct sp_lm_memory *m = lm->free, *next; m; m = next) {
        next = m->next;
        sp_seq_free(lm->net, m->seq);
        free(m);
    }
    sp_pack_clear(&lm->pack);
    sp_head_net_free(lm->head);
    sp_net_free(lm->net);
    if (lm->be) lm->be->free(lm->be);
    sp_tokenizer_free(lm->tok);
    sp_model_free(lm->model);
    void *host[] = {lm->textless, lm->hidden, lm->chunk,  lm->doc,
                    lm->at,       lm->rows,   lm->logits, lm->exps};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    free(lm);
}

void sp_lm_describe(struct sp_lm *lm, char *out, size_t size) {
    char backend[400] = "";
    lm->be->describe(lm->be, backend, sizeof backend);
    snprintf(out, size, "%s, head '%s', products in %s; %s", sp_model_dir(lm->model),
             sp_head_net_head(lm->head)->name, sp_dtype_name(lm->dtype), backend);
}

const struct sp_model *sp_lm_model(const struct sp_lm *lm) {
    return lm->model;
}
const struct sp_tokenizer *sp_lm_tokenizer(const struct sp_lm *lm) {
    return lm->tok;
}
const struct sp_head *sp_lm_head(const struct sp_lm *lm) {
    return sp_head_net_head(lm->head);
}
int64_t sp_lm_vocab(const struct sp_lm *lm) {
    return lm->c->vocab_size;
}
int64_t sp_lm_eos(const struct sp_lm *lm) {
    return lm->c->eos_id;
}
const uint32_t *sp_lm_textless(const struct sp_lm *lm, size_t *n) {
    *n = lm->n_textless;
    return lm->textless;
}

/* ---- text ----------------------------------------------------------------------------------- */

static enum sp_code add_ids(struct sp_tokens *t, const uint32_t *id, size_t n,
                            struct sp_error *err) {
    if (n == 0) return SP_OK;
    if (t->n + n > t->cap) {
        size_t cap = t->n + n;
        uint32_t *ids = realloc(t->id, cap * sizeof *ids);
        if (ids) t->id = ids;
        uint64_t *span = realloc(t->span, cap * 2 * sizeof *span);
        if (span) t->span = span;
        if (!ids || !span) return sp_error_memory(err, "a text");
        t->cap = cap;
    }
    memcpy(t->id + t->n, id, n * sizeof *id);
    memset(t->span + 2 * t->n, 0, n * 2 * sizeof *t->span);
    t->n += n;
    return SP_OK;
}

enum sp_code sp_lm_encode(const struct sp_lm *lm, const char *text, size_t n, bool frame,
                          struct sp_tokens *out, struct sp_error *err) {
    size_t n_prefix;
    const uint32_t *prefix = sp_tokenizer_prefix(lm->tok, &n_prefix);
    char *valid = NULL;
    enum sp_code code = frame ? add_ids(out, prefix, n_prefix, err) : SP_OK;
    if (!code && lm->tok->kind != SP_TOKENIZER_BYTES && sp_utf8_valid(text, n) < n) {
        text = valid = sp_utf8_repair(text, n, &n);
        if (!valid) code = sp_error_memory(err, "a text");
    }
    if (!code) code = sp_tokenizer_encode(lm->tok, text, n, 0, out, err);
    free(valid);
    return code;
}

/* ---- sequences ------------------------------------------------------------------------------ */

enum sp_code sp_lm_seq_new(struct sp_lm *lm, struct sp_lm_seq **out, struct sp_error *err) {
    struct sp_lm_seq *seq =
        calloc(1, sizeof *seq + (size_t)lm->c->d_model * sizeof *seq->last_hidden);
    *out = seq;
    if (!seq) return sp_error_memory(err, "a sequence");
    seq->origin = SP_ORIGIN_READ;
    return SP_OK;
}

static void release(struct sp_lm *lm, struct sp_lm_memory *m) {
    if (!m || --m->n_ref > 0) return;
    m->next = lm->free;
    lm->free = m;
}

void sp_lm_seq_free(struct sp_lm *lm, struct sp_lm_seq *seq) {
    if (!seq) return;
    release(lm, seq->memory);
    free(seq);
}

/* A state with whatever is in it; *zero: nothing. */
static enum sp_code take(struct sp_lm *lm, struct sp_lm_memory **out, bool *zero,
                         struct sp_error *err) {
    struct sp_lm_memory *m = lm->free;
    *zero = !m;
    if (m) {
        lm->free = m->next;
    } else {
        m = calloc(1, sizeof *m);
        enum sp_code code =
            m ? sp_seq_new(lm->net, &m->seq, err) : sp_error_memory(err, "a sequence");
        if (code) {
            free(m);
            return code;
        }
    }
    m->n_ref = 1;
    m->next = NULL;
    *out = m;
    return SP_OK;
}

enum sp_code sp_lm_seq_own(struct sp_lm *lm, struct sp_lm_seq *seq, struct sp_error *err) {
    struct sp_lm_memory *own, *had = seq->memory;
    bool zero;
    if (had && had->n_ref == 1) return SP_OK;
    enum sp_code code = take(lm, &own, &zero, err);
    if (code) return code;
    if (had)
        code = sp_seq_copy(lm->net, own->seq, had->seq, err);
    else if (!zero)
        code = sp_seq_reset(lm->net, own->seq, err);
    release(lm, had);
    seq->memory = own;
    return code;
}

enum sp_code sp_lm_seq_load(struct sp_lm *lm, const struct sp_state *s, struct sp_lm_seq **out,
                            struct sp_error *err) {
    *out = NULL;
    bool zero;
    struct sp_lm_seq *seq = NULL;
    enum sp_code code = sp_state_check(s, lm->model, 0, (uint32_t)lm->c->n_layer - 1, err);
    if (!code)
        code = sp_state_check_tokenizer(s, sp_tokenizer_fingerprint(lm->tok),
                                        sp_model_dir(lm->model), err);
    if (!code) code = sp_lm_seq_new(lm, &seq, err);
    if (!code) code = take(lm, &seq->memory, &zero, err);
    if (!code) code = sp_seq_load(lm->net, seq->memory->seq, s, err);
    if (code) {
        sp_lm_seq_free(lm, seq);
        return code;
    }
    seq->prefix = s->prefix;
    seq->n_tok = s->n_tok;
    seq->origin = s->origin;
    seq->has_last = s->has_last;
    seq->last_id = s->last_id;
    if (s->has_last)
        memcpy(seq->last_hidden, s->last_hidden, (size_t)lm->c->d_model * sizeof(float));
    *out = seq;
    return SP_OK;
}

enum sp_code sp_lm_seq_store(struct sp_lm *lm, const struct sp_lm_seq *seq, struct sp_state **out,
                             struct sp_error *err) {
    enum sp_code code = sp_state_new(out, lm->model, 0, (uint32_t)lm->c->n_layer - 1, err);
    if (code) return code;
    struct sp_state *s = *out;
    s->tokenizer = *sp_tokenizer_fingerprint(lm->tok);
    s->prefix = seq->prefix;
    s->n_tok = seq->n_tok;
    s->origin = seq->origin;
    s->has_last = seq->has_last;
    s->last_id = seq->last_id;
    memcpy(s->last_hidden, seq->last_hidden, (size_t)lm->c->d_model * sizeof(float));
    if (seq->memory) code = sp_seq_store(lm->net, seq->memory->seq, s, err);
    if (!code) return SP_OK;
    sp_state_free(s);
    *out = NULL;
    return code;
}

enum sp_code sp_lm_seq_fork(struct sp_lm *lm, const struct sp_lm_seq *seq, struct sp_lm_seq **out,
                            struct sp_error *err) {
    enum sp_code code = sp_lm_seq_new(lm, out, err);
    if (code) return code;
    memcpy(*out, seq, sizeof *seq + (size_t)lm->c->d_model * sizeof *seq->last_hidden);
    if (seq->memory) seq->memory->n_ref++;
    return SP_OK;
}

uint64_t sp_lm_seq_n_tok(const struct sp_lm_seq *seq) {
    return seq->n_tok;
}
bool sp_lm_seq_ready(const struct sp_lm_seq *seq) {
    return seq->has_last;
}
uint32_t sp_lm_seq_last_id(const struct sp_lm_seq *seq) {
    return seq->last_id;
}
const struct sp_hash *sp_lm_seq_prefix(const struct sp_lm_seq *seq) {
    return &seq->prefix;
}
