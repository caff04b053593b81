/* Heads over a stream. */
#include "net_scores.h"
#include "left_open.h"
#include "logits.h"
#include "model.h"

#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LM_ROWS 64 /* logits of a language model are made for so many rows at a time */

struct sp_scores {
    struct sp_scores_options o;
    struct sp_kernels k;
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be;
    struct sp_head_net *net;
    bool head_due; /* HEAD has to be written before anything else */
    float *logits; /* (LM_ROWS, vocabulary) */
    float *exps;   /* (vocabulary) */
    float *rows;   /* (rows_cap, d_model): what predicts a chunk's tokens */
    int64_t rows_cap;
    /* --score: the hidden state before the next token, where there is one. */
    float *before; /* (d_model) */
    bool has_before;
    float *start; /* (n_start): every document's, from a state; n_start 0: none */
    int64_t n_start;
    double loglik;
    uint64_t n_scored;
    struct sp_sampling *sampling; /* --sample, or NULL */
    struct sp_filter *filter;
    /* The last n_pad tokens may be padding: they count when others follow them. */
    double *late; /* (n_pad): their log-probabilities, the next to be replaced at n_late % n_pad */
    uint64_t n_pad, n_late;
    bool is_choice, greedy;
    uint64_t n_byte; /* of a choice */
    char *id;        /* (n_id), of the document */
    size_t n_id;
    struct sp_left_open *open; /* documents that may be gone on with */
};

/* ---- starting ------------------------------------------------------------------------------- */

enum sp_code sp_scores_new(struct sp_scores **s, const struct sp_scores_options *options,
                           struct sp_error *err) {
    *s = calloc(1, sizeof **s);
    if (!*s) return sp_error_memory(err, "scores");
    (*s)->o = *options;
    sp_kernels_init(&(*s)->k);
    return SP_OK;
}

void sp_scores_free(struct sp_scores *s) {
    if (!s) return;
    sp_sampling_free(s->sampling);
    sp_head_net_free(s->net);
    if (s->be) s->be->free(s->be);
    sp_model_free(s->model);
    free(s->logits);
    free(s->exps);
    free(s->rows);
    free(s->before);
    free(s->start);
    free(s->late);
    free(s->id);
    sp_left_open_free(s->open);
    free(s);
}

/* Is it about the tokens that came, and not about all that could come next? */
static bool of_tokens(const struct sp_scores *s) {
    return s->o.score || s->o.surprisal || s->o.choices;
}

static enum sp_code check_options(const struct sp_scores *s, struct sp_error *err) {
    const struct sp_head *head = sp_head_net_head(s->net);
    int64_t n = sp_head_net_outputs(s->net);
    const struct sp_head *lm = NULL;
    for (uint32_t i = 0; i < s->c->n_head && !lm; i++)
        if (s->c->head[i].type == SP_HEAD_LM) lm = &s->c->head[i];
    if (head->type != SP_HEAD_LM && (s->o.top || s->o.sample || of_tokens(s)))
        return sp_error_set(err, SP_E_USAGE, "head '%s' is no language model, which %s needs: %s%s",
                            head->name,
                            s->o.top         ? "--top"
                            : s->o.sample    ? "--sample"
                            : s->o.score     ? "--score"
                            : s->o.surprisal ? "--surprisal"
                                             : "--choices",
                            lm ? "choose --head " : "the model has none", lm ? lm->name : "");
    if (s->o.top > n)
        return sp_error_set(err, SP_E_USAGE, "--top %lld: the model has %lld tokens",
                            (long long)s->o.top, (long long)n);
    return SP_OK;
}

static enum sp_code start(struct sp_scores *s, const struct sp_hello *hello, struct sp_error *err) {
    enum sp_code code = sp_stream_model_open(&s->model, s->o.model, hello, err);
    if (!code) code = sp_backend_open(&s->be, s->o.device, s->o.n_thread, err);
    if (code) return code;
    s->c = sp_model_config(s->model);
    code = sp_head_net_new(&s->net, s->model, s->be, s->o.head, s->o.dtype, err);
    if (!code) code = check_options(s, err);
    if (code) return code;
    size_t n = (size_t)sp_head_net_outputs(s->net), d = (size_t)s->c->d_model;
    s->before = malloc(d * sizeof(float));
    if (sp_head_net_head(s->net)->type == SP_HEAD_LM) {
        s->logits = malloc(LM_ROWS * n * sizeof(float));
        s->exps = malloc(n * sizeof(float));
        if (!s->logits || !s->exps) return sp_error_memory(err, "scores");
    }
    if (s->o.sample)
        code = sp_sampling_new(&s->sampling, s->model, s->net, s->o.sample, s->o.n_max, err);
    if (code) return code;
    return s->before ? SP_OK : sp_error_memory(err, "scores");
}

static enum sp_code on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err) {
    struct sp_scores *s = ctx;
    (void)rec;
    if (hello->content == SP_STATE) {
        s->n_start = 0;
        return SP_OK;
    }
    enum sp_code code =
        s->model ? sp_stream_model_check(s->model, hello, err) : start(s, hello, err);
    if (code) return code;
    if (hello->next_layer != (uint64_t)s->c->n_layer)
        return sp_error_set(err, SP_E_DATA,
                            "layer %u of %lld is still to run: is a mamba-layer missing?",
                            hello->next_layer, (long long)s->c->n_layer);
    s->head_due = true;
    if (s->o.sample) hello->next_layer = 0;
    return SP_OK;
}

/* ---- HEAD ----------------------------------------------------------------------------------- */

static enum sp_code set_labels(struct sp_record *rec, const struct sp_head *head,
                               struct sp_error *err) {
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    bool failed = msgpack_pack_array(&packer, head->n_label) != 0;
    for (uint32_t i = 0; i < head->n_label && !failed; i++) {
        size_t n = strlen(head->label[i]);
        failed = msgpack_pack_str(&packer, n) != 0 ||
                 msgpack_pack_str_body(&packer, head->label[i], n) != 0;
    }
    enum sp_code code = failed ? sp_error_memory(err, "scores")
                               : sp_record_set_raw(rec, "labels", buffer.data, buffer.size, err);
    msgpack_sbuffer_destroy(&buffer);
    return code;
}

static enum sp_code put_copy(struct sp_record *rec, const char *name, uint32_t rank,
                             const uint64_t *dim, const float *value, struct sp_error *err) {
    struct sp_tensor t;
    enum sp_code code = sp_tensor_new(&t, SP_F32, rank, dim, err);
    if (code) return code;
    memcpy(t.data, value, t.n_bytes);
    return sp_record_put_tensor(rec, name, &t, err);
}

static enum sp_code fill_head(struct sp_scores *s, struct sp_record *rec, struct sp_error *err) {
    static const char *const types[] = {"lm", "tag", "class"};
    const struct sp_head *head = sp_head_net_head(s->net);
    const char *type = types[head->type];
    enum sp_code code = sp_record_set_str(rec, "name", head->name, strlen(head->name), err);
    if (!code) code = sp_record_set_str(rec, "type", type, strlen(type), err);
    const char *gives = s->o.choices ? "choices" : "surprisal";
    if (!code && (s->o.choices || s->o.surprisal))
        code = sp_record_set_str(rec, "gives", gives, strlen(gives), err);
    if (code || head->type == SP_HEAD_LM) return code;
    code = sp_record_set_u64(rec, "delay", s->c->delay, err);
    if (!code) code = set_labels(rec, head, err);
    const float *transitions = sp_head_net_transitions(s->net);
    uint64_t dim[2] = {head->n_label + 2, head->n_label}, kinds[1] = {SP_RECORD_KINDS},
             two[1] = {2};
    static const float none[SP_RECORD_KINDS];
    if (!code && memcmp(head->doubt, none, sizeof none) != 0)
        code = put_copy(rec, "doubt", 1, kinds, head->doubt, err);
    if (!code && head->calibration[0] > 0)
        code = put_copy(rec, "calibration", 1, two, head->calibration, err);
    if (!code && transitions) code = put_copy(rec, "transitions", 2, dim, transitions, err);
    return code;
}

static enum sp_code write_head(struct sp_scores *s, struct sp_writer *w, struct sp_error *err) {
    if (!s->head_due) return SP_OK;
    s->head_due = false;
    struct sp_record *rec = sp_record_new(SP_KIND_HEAD);
    if (!rec) return sp_error_memory(err, "scores");
    enum sp_code code = fill_head(s, rec, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

/* ---- a language model's scores -------------------------------------------------------------- */

/* Calls each for every row of hidden with the row's logits. step: the path of the whole chunk. */
static enum sp_code each_row(struct sp_scores *s, const float *hidden, int64_t n, bool step,
                             void (*each)(struct sp_scores *s, int64_t row, const float *logits,
                                          void *ctx),
                             void *ctx, struct sp_error *err) {
    int64_t width = sp_head_net_outputs(s->net);
    for (int64_t at = 0; at < n; at += LM_ROWS) {
        int64_t k = n - at < LM_ROWS ? n - at : LM_ROWS;
        enum sp_code code =
            sp_head_net_forward(s->net, hidden + at * s->c->d_model, k, step, s->logits, err);
        if (code) return code;
        for (int64_t r = 0; r < k; r++) each(s, at + r, s->logits + r * width, ctx);
    }
    return SP_OK;
}

struct top {
    uint32_t *id;   /* (n, top) */
    float *logprob; /* (n, top) */
};

static void top_row(struct sp_scores *s, int64_t row, const float *logits, void *ctx) {
    const struct top *t = ctx;
    int64_t n = sp_head_net_outputs(s->net), k = s->o.top;
    double total = sp_log_sum_exp(&s->k, logits, n, s->exps);
    uint32_t *id = t->id + row * k;
    sp_logits_top(logits, n, k, id);
    for (int64_t i = 0; i < k; i++)
        t->logprob[row * k + i] = (float)((double)logits[id[i]] - total);
}

static enum sp_code add_top(struct sp_scores *s, struct sp_record *rec, const float *hidden,
                            int64_t n, struct sp_error *err) {
    struct sp_tensor id = {0}, logprob = {0};
    uint64_t dim[2] = {(uint64_t)n, (uint64_t)s->o.top};
    enum sp_code code = sp_tensor_new(&id, SP_U32, 2, dim, err);
    if (!code) code = sp_tensor_new(&logprob, SP_F32, 2, dim, err);
    struct top t = {.id = id.data, .logprob = logprob.data};
    if (!code) code = each_row(s, hidden, n, n < SP_STEP_ROWS, top_row, &t, err);
    if (!code) code = sp_record_put_tensor(rec, "top_id", &id, err);
    if (!code) code = sp_record_put_tensor(rec, "top_logprob", &logprob, err);
    sp_tensor_clear(&id);
    sp_tensor_clear(&logprob);
    return code;
}

struct score {
    const uint32_t *id; /* the token that row predicts */
    float *logprob;
};

static bool is_greedy(const float *logits, int64_t n, uint32_t id) {
    for (int64_t i = 0; i < n; i++)
        if (logits[i] > logits[id] || (logits[i] == logits[id] && i < (int64_t)id)) return false;
    return true;
}

static void count(struct sp_scores *s, double logprob) {
    s->loglik += logprob;
    s->n_scored++;
}

static void score_row(struct sp_scores *s, int64_t row, const float *logits, void *ctx) {
    const struct score *c = ctx;
    int64_t n = sp_head_net_outputs(s->net);
    double logprob = (double)logits[c->id[row]] - sp_log_sum_exp(&s->k, logits, n, s->exps);
    c->logprob[row] = (float)logprob;
    if (s->is_choice) s->greedy = s->greedy && is_greedy(logits, n, c->id[row]);
    if (s->n_pad == 0) {
        count(s, logprob);
        return;
    }
    double *late = &s->late[s->n_late % s->n_pad];
    if (s->n_late++ >= s->n_pad) count(s, *late);
    *late = logprob;
}

/* What predicts n tokens: the row before them, where it is known, and all of theirs but the last,
 * which is kept for the token to come. */
static enum sp_code shift_rows(struct sp_scores *s, const float *hidden, int64_t n,
                               struct sp_error *err) {
    size_t d = (size_t)s->c->d_model, at = s->has_before ? d : 0;
    if (n > s->rows_cap) {
        free(s->rows);
        s->rows = malloc((size_t)n * d * sizeof(float));
        s->rows_cap = s->rows ? n : 0;
        if (!s->rows) return sp_error_memory(err, "scores");
    }
    if (s->has_before) memcpy(s->rows, s->before, d * sizeof(float));
    memcpy(s->rows + at, hidden, (size_t)(n - 1) * d * sizeof(float));
    memcpy(s->before, hidden + (size_t)(n - 1) * d, d * sizeof(float));
    return SP_OK;
}

static enum sp_code put_surprisal(struct sp_record *rec, const float *logprob, int64_t n,
                                  int64_t skip, struct sp_error *err) {
    struct sp_tensor bits;
    uint64_t dim[1] = {(uint64_t)n};
    enum sp_code code = sp_tensor_new(&bits, SP_F32, 1, dim, err);
    if (code) return code;
    float *out = bits.data;
    for (int64_t i = 0; i < n; i++)
        out[i] = i < skip ? -1 : logprob[i] < 0 ? -logprob[i] * (float)(1 / M_LN2) : 0;
    code = sp_record_put_tensor(rec, "surprisal", &bits, err);
    sp_tensor_clear(&bits);
    return code;
}

/* The row before a chunk predicts its first token, and so on; the first token of a document has
 * none, unless a state came with its last hidden vector or it goes on with an open one: it gets 0
 * (surprisal: -1) and is not counted. */
static enum sp_code add_score(struct sp_scores *s, struct sp_record *rec, const float *hidden,
                              int64_t n, struct sp_error *err) {
    struct sp_tensor *ids, logprob;
    uint64_t dim[1] = {(uint64_t)n};
    enum sp_code code = sp_record_need_tensor(rec, "ids", SP_U32, 1, dim, &ids, err);
    if (code || n == 0) return code;
    const uint32_t *id = ids->data;
    for (int64_t i = 0; i < n; i++)
        if (id[i] >= (uint64_t)s->c->vocab_size)
            return sp_error_set(err, SP_E_DATA, "token id %u is not the model's", id[i]);
    int64_t skip = s->has_before ? 0 : 1;
    if (skip && s->is_choice)
        return sp_error_set(err, SP_E_DATA,
                            "nothing stands before the choice that its first token could be "
                            "predicted from: give a text or a state (for an empty text `tokenize`, "
                            "without --bare, puts the bos_token_id or eos_token_id of config.json "
                            "where there is one)");
    code = shift_rows(s, hidden, n, err);
    if (!code) code = sp_tensor_new(&logprob, SP_F32, 1, dim, err);
    if (code) return code;
    s->has_before = true;
    float *out = logprob.data;
    out[0] = 0;
    struct score c = {.id = id + skip, .logprob = out + skip};
    code = each_row(s, s->rows, n - skip, n < SP_STEP_ROWS, score_row, &c, err);
    if (!code && s->o.surprisal) code = put_surprisal(rec, out, n, skip, err);
    if (!code && (s->o.score || s->o.choices))
        code = sp_record_put_tensor(rec, "logprob", &logprob, err);
    sp_tensor_clear(&logprob);
    return code;
}

/* Of what comes before a choice only the last row counts. */
static void pass_over(struct sp_scores *s, const float *hidden, int64_t n) {
    if (n == 0) return;
    size_t d = (size_t)s->c->d_model;
    memcpy(s->before, hidden + (size_t)(n - 1) * d, d * sizeof(float));
    s->has_before = true;
}

/* ---- records -------------------------------------------------------------------------------- */

static enum sp_code add_scores(struct sp_scores *s, struct sp_record *rec, const float *hidden,
                               int64_t n, struct sp_error *err) {
    struct sp_tensor scores;
    uint64_t dim[2] = {(uint64_t)n, (uint64_t)sp_head_net_outputs(s->net)};
    enum sp_code code = sp_tensor_new(&scores, SP_F32, 2, dim, err);
    if (code) {
        if (sp_head_net_head(s->net)->type == SP_HEAD_LM)
            sp_error_prefix(err, "all scores of a chunk; use --top or --score");
        return code;
    }
    code = sp_head_net_forward(s->net, hidden, n, n < SP_STEP_ROWS, scores.data, err);
    if (!code) code = sp_record_put_tensor(rec, "scores", &scores, err);
    sp_tensor_clear(&scores);
    return code;
}

/* Earlier readings of a document that is read more than once have no scores. */
static enum sp_code take_chunk(struct sp_scores *s, struct sp_record *rec, struct sp_error *err) {
    struct sp_tensor *hidden;
    uint64_t pass = 0;
    sp_record_get_u64(rec, "pass", &pass);
    enum sp_code code = sp_stream_hidden(rec, s->c->d_model, &hidden, err);
    if (code) return code;
    int64_t n = (int64_t)hidden->dim[0];
    if (pass + 1 >= s->c->passes) {
        struct sp_tensor view = *hidden;
        if (s->o.top) code = add_top(s, rec, view.data, n, err);
        bool score = s->o.score || s->o.surprisal || s->is_choice;
        if (!code && score) code = add_score(s, rec, view.data, n, err);
        if (s->o.choices && !score) pass_over(s, view.data, n);
        if (!code && !s->o.top && !of_tokens(s)) code = add_scores(s, rec, view.data, n, err);
    }
    sp_record_drop_tensor(rec, "hidden");
    return code;
}

/* ---- the end of a document ------------------------------------------------------------------- */

static enum sp_code set_choice(struct sp_scores *s, struct sp_record *rec, struct sp_error *err) {
    enum sp_code code = sp_record_set_bool(rec, "greedy", s->greedy, err);
    if (!code && s->n_scored > 0)
        code = sp_record_set_f64(rec, "per_token", s->loglik / (double)s->n_scored, err);
    if (!code && s->n_byte > 0)
        code = sp_record_set_f64(rec, "per_byte", s->loglik / (double)s->n_byte, err);
    return code;
}

static enum sp_code take_end(struct sp_scores *s, struct sp_record *rec, struct sp_error *err) {
    const char *status = "";
    size_t n = 0;
    if (!of_tokens(s)) return SP_OK;
    sp_record_get_str(rec, "status", &status, &n);
    bool open = n == 4 && memcmp(status, "open", 4) == 0;
    uint64_t n_late = s->n_late < s->n_pad ? s->n_late : s->n_pad;
    for (uint64_t i = 0; open && i < n_late; i++) count(s, s->late[i]); /* nothing was padding */
    enum sp_code code = SP_OK;
    if (s->is_choice && s->n_scored == 0)
        return sp_error_set(err, SP_E_DATA,
                            s->n_byte == 0 ? "a choice without text"
                                           : "the choice adds no token to its text");
    if (open && s->has_before)
        code = sp_left_open_keep(&s->open, s->id, s->n_id, s->before, (size_t)s->c->d_model, err);
    if (code || (s->o.choices && !s->is_choice)) return code;
    code = sp_record_set_f64(rec, "loglik", s->loglik, err);
    if (!code) code = sp_record_set_u64(rec, "n_scored", s->n_scored, err);
    if (!code && s->is_choice) code = set_choice(s, rec, err);
    if (code || s->n_scored == 0) return code;
    return sp_record_set_f64(rec, "perplexity", exp(-s->loglik / (double)s->n_scored), err);
}

/* A state's last hidden vector predicts the first token of every document behind it. The model may
 * not be open yet: its width is checked when a document begins. */
static enum sp_code take_state(struct sp_scores *s, struct sp_record *rec, struct sp_error *err) {
    bool is_last;
    uint32_t layer;
    struct sp_tensor *hidden;
    uint64_t any[1] = {0}, doc;
    if (sp_record_get_u64(rec, "doc", &doc)) return SP_OK; /* of a document: no other's start */
    enum sp_code code = sp_state_record_layer(rec, &is_last, &layer, err);
    if (code || !is_last || !(of_tokens(s) || s->o.sample)) return code;
    code = sp_record_need_tensor(rec, "hidden", SP_F32, 1, any, &hidden, err);
    if (code) return code;
    free(s->start);
    s->start = malloc(hidden->n_bytes + 1);
    if (!s->start) return sp_error_memory(err, "scores");
    memcpy(s->start, hidden->data, hidden->n_bytes);
    s->n_start = (int64_t)hidden->dim[0];
    return SP_OK;
}

static enum sp_code keep_id(struct sp_scores *s, const struct sp_record *doc,
                            struct sp_error *err) {
    const char *id = "";
    s->n_id = 0;
    sp_record_get_str(doc, "id", &id, &s->n_id);
    free(s->id);
    s->id = malloc(s->n_id + 1);
    if (!s->id) return sp_error_memory(err, "a document");
    memcpy(s->id, id, s->n_id);
    return SP_OK;
}

static enum sp_code begin_document(struct sp_scores *s, const struct sp_record *doc,
                                   struct sp_error *err) {
    bool cont = false;
    uint64_t choice, n_pad = 0;
    sp_record_get_bool(doc, "cont", &cont);
    s->n_byte = s->n_late = s->n_scored = 0;
    s->loglik = 0;
    s->greedy = true;
    s->is_choice = s->o.choices && sp_record_get_u64(doc, "choice", &choice);
    sp_record_get_u64(doc, "bytes", &s->n_byte);
    sp_record_get_u64(doc, "pad", &n_pad);
    if (n_pad > SP_DELAY_MAX)
        return sp_error_set(err, SP_E_DATA, "%llu tokens of padding", (unsigned long long)n_pad);
    if (n_pad > s->n_pad) {
        free(s->late);
        s->late = malloc(n_pad * sizeof *s->late);
    }
    s->n_pad = n_pad;
    if (n_pad && !s->late) return sp_error_memory(err, "scores");
    if (!cont && s->n_start != 0 && s->n_start != s->c->d_model)
        return sp_error_set(err, SP_E_DATA, "the state in front of it is of another model");
    s->has_before =
        cont ? sp_left_open_take(&s->open, doc, s->before, (size_t)s->c->d_model) : s->n_start != 0;
    if (!cont && s->has_before) memcpy(s->before, s->start, (size_t)s->c->d_model * sizeof(float));
    return of_tokens(s) ? keep_id(s, doc, err) : SP_OK;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    struct sp_scores *s = ctx;
    enum sp_code code = write_head(s, w, err);
    if (!code && rec->kind == SP_KIND_DOC) {
        struct sp_error why;
        enum sp_code failed = begin_document(s, rec, &why);
        code = sp_writer_write(w, rec, err); /* an error stands behind its DOC */
        if (!code && failed) *err = why;
        sp_record_free(rec);
        return code ? code : failed;
    }
    if (!code && rec->kind == SP_KIND_CHUNK) code = take_chunk(s, rec, err);
    if (!code && rec->kind == SP_KIND_DOCEND) code = take_end(s, rec, err);
    if (!code && rec->kind == SP_KIND_STATE) code = take_state(s, rec, err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code on_sample(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    struct sp_scores *s = ctx;
    struct sp_error why;
    enum sp_code code = SP_OK, failed = SP_OK;
    if (rec->kind == SP_KIND_STATE) {
        code = take_state(s, rec, err);
    } else {
        if (rec->kind == SP_KIND_DOC) failed = begin_document(s, rec, &why);
        sp_sampling_start(s->sampling, !failed && s->has_before ? s->before : NULL);
        code = sp_sampling_record(s->sampling, rec, w, err);
        if (!code && failed) *err = why;
        s->filter->done = sp_sampling_done(s->sampling);
    }
    sp_record_free(rec);
    return code ? code : failed;
}

static void on_sample_drop(void *ctx, uint64_t doc) {
    struct sp_scores *s = ctx;
    (void)doc;
    sp_sampling_drop(s->sampling);
    s->filter->done = sp_sampling_done(s->sampling);
}

static bool wants_doc(void *ctx, const struct sp_record *rec) {
    struct sp_scores *s = ctx;
    return sp_sampling_wants(s->sampling, rec);
}

static enum sp_code on_idle(void *ctx, struct sp_writer *w, struct sp_error *err) {
    return write_head(ctx, w, err);
}

void sp_scores_install(struct sp_scores *s, struct sp_filter *f) {
    f->ctx = s;
    f->in = SP_HIDDEN;
    f->out = SP_SCORES;
    f->takes_states = true;
    f->on_hello = on_hello;
    f->on_record = on_record;
    f->on_idle = on_idle;
    s->filter = f;
    if (!s->o.sample) return;
    f->out = SP_TOKENS;
    f->on_record = on_sample;
    f->on_idle = NULL;
    f->on_drop = on_sample_drop;
    f->wants_doc = wants_doc;
}

void sp_scores_describe(struct sp_scores *s, char *out, size_t size) {
    char backend[400] = "";
    if (size > 0) out[0] = 0;
    if (!s->net) return;
    s->be->describe(s->be, backend, sizeof backend);
    snprintf(out, size, "%s, head '%s', products in %s; %s", sp_model_dir(s->model),
             sp_head_net_head(s->net)->name, sp_dtype_name(s->o.dtype), backend);
}
