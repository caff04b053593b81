/* A language model in one process: reading, decoding, logits, scores. */
#include "lm_internal.h"
#include "net_weights.h"

#include <stdlib.h>
#include <string.h>

/* ---- rounds --------------------------------------------------------------------------------- */

/* What a call computes: n_seq sequences, the tokens of each. */
struct job {
    struct sp_lm_seq *const *seq;
    const uint32_t *const *id;
    const size_t *n;
    size_t n_seq;
    bool score; /* the hidden vector of a sequence's last token is not wanted */
    /* A chunk is computed, those before it of its sequence have been seen. hidden (n_row, d). */
    enum sp_code (*each)(void *ctx, const struct sp_lm_chunk *c, const float *hidden,
                         struct sp_error *err);
    void *ctx;
};

static enum sp_code room_for(struct sp_lm *lm, size_t n_seq, struct sp_error *err) {
    if (n_seq <= lm->cap_seq) return SP_OK;
    free(lm->doc);
    free(lm->at);
    lm->doc = calloc(n_seq, sizeof *lm->doc);
    lm->at = calloc(n_seq, sizeof *lm->at);
    lm->cap_seq = lm->doc && lm->at ? n_seq : 0;
    return lm->cap_seq ? SP_OK : sp_error_memory(err, "a batch");
}

/* Rows of a chunk of n tokens that have to be computed. The last is left out where nobody asks for
 * it, unless the others would take another path without it. */
static int64_t rows_of(const struct job *j, size_t s, size_t first, size_t n) {
    int64_t rows = (int64_t)n;
    if (!j->score || first + n < j->n[s]) return rows;
    if (rows == 1) return 0;
    return sp_pack_kind_of(rows) == sp_pack_kind_of(rows - 1) ? rows - 1 : rows;
}

/* Fills a round: chunks in the order of sequences, as long as there is room. */
static enum sp_code fill(struct sp_lm *lm, const struct job *j, size_t *from, size_t *n_chunk,
                         struct sp_error *err) {
    int64_t n_row = 0;
    enum sp_code code = SP_OK;
    *n_chunk = 0;
    while (!code && *from < j->n_seq) {
        size_t s = *from, at = lm->at[s], left = j->n[s] - at;
        if (left == 0) {
            ++*from;
            continue;
        }
        size_t n = left < SP_CHUNK_TOKENS ? left : SP_CHUNK_TOKENS;
        struct sp_lm_chunk c = {.seq = s, .first = at, .n = n, .row = n_row};
        c.n_row = rows_of(j, s, at, n);
        if (n_row + c.n_row > SP_LM_ROWS_MAX || *n_chunk == SP_LM_ROWS_MAX) break;
        if (c.n_row > 0) {
            float *hidden = lm->hidden + n_row * lm->c->d_model;
            code = sp_lm_seq_own(lm, j->seq[s], err);
            if (!code) code = sp_embed(lm->model, j->id[s] + at, c.n_row, hidden, err);
            if (code) return code;
            lm->doc[s].seq = j->seq[s]->memory->seq;
            sp_pack_add(&lm->pack,
                        &(struct sp_held){.doc = &lm->doc[s], .hidden = hidden, .n = c.n_row});
        }
        lm->chunk[(*n_chunk)++] = c;
        lm->at[s] += n;
        n_row += c.n_row;
    }
    return code;
}

static enum sp_code check_ids(const struct sp_lm *lm, const struct job *j, struct sp_error *err) {
    for (size_t s = 0; s < j->n_seq; s++)
        for (size_t i = 0; i < j->n[s]; i++)
            if (j->id[s][i] >= (uint64_t)lm->c->vocab_size)
                return sp_error_set(err, SP_E_DATA,
                                    "token id %u: the model knows ids below %lld only", j->id[s][i],
                                    (long long)lm->c->vocab_size);
    return SP_OK;
}

static enum sp_code run(struct sp_lm *lm, const struct job *j, struct sp_error *err) {
    const int64_t d = lm->c->d_model;
    size_t from = 0, n_chunk;
    enum sp_code code = check_ids(lm, j, err);
    if (!code) code = room_for(lm, j->n_seq, err);
    if (code) return code;
    memset(lm->at, 0, j->n_seq * sizeof *lm->at);
    do {
        lm->pack.n = 0;
        code = fill(lm, j, &from, &n_chunk, err);
        if (!code) code = sp_pack_compute(&lm->pack, err);
        for (size_t i = 0; !code && i < n_chunk; i++) {
            const struct sp_lm_chunk *c = &lm->chunk[i];
            const float *hidden = lm->hidden + c->row * d;
            if (!sp_weights_finite(hidden, SP_F32, (size_t)(c->n_row * d)))
                code = sp_error_set(err, SP_E_DATA, "the layers give NaN or infinity");
            if (!code) code = j->each(j->ctx, c, hidden, err);
        }
    } while (!code && n_chunk > 0);
    /* What a round that failed has left is not computed by the next. */
    lm->pack.n = 0;
    lm->pack.n_row = 0;
    return code;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct reading {
    struct sp_lm *lm;
    const struct job *job;
};

static enum sp_code account(void *ctx, const struct sp_lm_chunk *c, const float *hidden,
                            struct sp_error *err) {
    (void)err;
    const struct reading *r = ctx;
    const size_t d = (size_t)r->lm->c->d_model;
    struct sp_lm_seq *seq = r->job->seq[c->seq];
    const uint32_t *id = r->job->id[c->seq] + c->first;
    memcpy(seq->last_hidden, hidden + (c->n - 1) * d, d * sizeof *hidden);
    seq->has_last = true;
    seq->last_id = id[c->n - 1];
    seq->n_tok += c->n;
    sp_state_hash_ids(&seq->prefix, id, c->n);
    return SP_OK;
}

enum sp_code sp_lm_read(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *const *id,
                        const size_t *n, size_t n_seq, struct sp_error *err) {
    struct job j = {.seq = seq, .id = id, .n = n, .n_seq = n_seq, .each = account};
    struct reading r = {.lm = lm, .job = &j};
    j.ctx = &r;
    return run(lm, &j, err);
}

enum sp_code sp_lm_step(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *id,
                        size_t n_seq, struct sp_error *err) {
    enum { GROUP = 256 };
    const uint32_t *one[GROUP];
    size_t n[GROUP];
    enum sp_code code = SP_OK;
    for (size_t at = 0; !code && at < n_seq; at += GROUP) {
        size_t k = n_seq - at < GROUP ? n_seq - at : GROUP;
        for (size_t i = 0; i < k; i++) {
            one[i] = id + at + i;
            n[i] = 1;
        }
        code = sp_lm_read(lm, seq + at, one, n, k, err);
    }
    return code;
}

/* ---- logits --------------------------------------------------------------------------------- */

static enum sp_code check_ready(const struct sp_lm_seq *const *seq, const size_t *n, size_t n_seq,
                                struct sp_error *err) {
    for (size_t i = 0; i < n_seq; i++)
        if (!seq[i]->has_last && (!n || n[i] > 0))
            return sp_error_set(err, SP_E_USAGE,
                                "nothing has been read that a next token could follow: give a "
                                "prompt, or a state with its last hidden vector");
    return SP_OK;
}

static enum sp_code head(struct sp_lm *lm, const float *rows, int64_t n, bool step, float *logits,
                         struct sp_error *err) {
    enum sp_code code = sp_head_net_forward(lm->head, rows, n, step, logits, err);
    if (code || sp_weights_finite(logits, SP_F32, (size_t)(n * sp_head_net_outputs(lm->head))))
        return code;
    return sp_error_set(err, SP_E_DATA, "the head gives NaN or infinity");
}

enum sp_code sp_lm_logits(struct sp_lm *lm, const struct sp_lm_seq *const *seq, size_t n_seq,
                          float *logits, struct sp_error *err) {
    const size_t d = (size_t)lm->c->d_model, vocab = (size_t)lm->c->vocab_size;
    enum sp_code code = check_ready(seq, NULL, n_seq, err);
    for (size_t at = 0; !code && at < n_seq; at += SP_LM_HEAD_ROWS) {
        size_t k = n_seq - at < SP_LM_HEAD_ROWS ? n_seq - at : SP_LM_HEAD_ROWS;
        for (size_t i = 0; i < k; i++)
            memcpy(lm->rows + i * d, seq[at + i]->last_hidden, d * sizeof *lm->rows);
        code = head(lm, lm->rows, (int64_t)k, true, logits + at * vocab, err);
    }
    return code;
}

/* ---- scores --------------------------------------------------------------------------------- */

/* Rows that wait for the head, by path: what they are to predict, and where the answer goes. */
struct waiting {
    int64_t n;
    uint32_t id[SP_LM_HEAD_ROWS];
    double *out[SP_LM_HEAD_ROWS];
};

struct scoring {
    struct sp_lm *lm;
    const struct job *job;
    double **each; /* (n_seq) the log-probability of each token */
    struct waiting waiting[2];
};

static enum sp_code answer(struct scoring *s, int step, struct sp_error *err) {
    struct sp_lm *lm = s->lm;
    struct waiting *w = &s->waiting[step];
    const int64_t vocab = lm->c->vocab_size;
    const float *rows = lm->rows + step * SP_LM_HEAD_ROWS * lm->c->d_model;
    enum sp_code code = head(lm, rows, w->n, step != 0, lm->logits, err);
    for (int64_t i = 0; !code && i < w->n; i++) {
        const float *x = lm->logits + i * vocab;
        *w->out[i] = (double)x[w->id[i]] - sp_log_sum_exp(&lm->k, x, vocab, lm->exps);
    }
    w->n = 0;
    return code;
}

/* The row before a chunk predicts its first token, and so on. */
static enum sp_code score_chunk(void *ctx, const struct sp_lm_chunk *c, const float *hidden,
                                struct sp_error *err) {
    struct scoring *s = ctx;
    struct sp_lm *lm = s->lm;
    const size_t d = (size_t)lm->c->d_model;
    struct sp_lm_seq *seq = s->job->seq[c->seq];
    const int step = c->n < SP_STEP_ROWS;
    struct waiting *w = &s->waiting[step];
    float *rows = lm->rows + (size_t)step * SP_LM_HEAD_ROWS * d;
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < c->n; i++) {
        const float *row = i == 0 ? seq->last_hidden : hidden + (i - 1) * d;
        memcpy(rows + (size_t)w->n * d, row, d * sizeof *rows);
        w->id[w->n] = s->job->id[c->seq][c->first + i];
        w->out[w->n] = &s->each[c->seq][c->first + i];
        if (++w->n == SP_LM_HEAD_ROWS) code = answer(s, step, err);
    }
    if (c->n_row == (int64_t)c->n)
        memcpy(seq->last_hidden, hidden + (c->n - 1) * d, d * sizeof *hidden);
    return code;
}

/* A group of forks, which are used up. each[i] has room for n[i]. */
static enum sp_code score_forks(struct sp_lm *lm, struct sp_lm_seq *const *fork,
                                const uint32_t *const *id, const size_t *n, size_t n_seq,
                                double **each, struct sp_error *err) {
    struct job j = {
        .seq = fork, .id = id, .n = n, .n_seq = n_seq, .score = true, .each = score_chunk};
    struct scoring s = {.lm = lm, .job = &j, .each = each};
    j.ctx = &s;
    enum sp_code code = run(lm, &j, err);
    for (int step = 0; step < 2; step++)
        if (!code && s.waiting[step].n > 0) code = answer(&s, step, err);
    return code;
}

static enum sp_code score_group(struct sp_lm *lm, const struct sp_lm_seq *const *seq,
                                const uint32_t *const *id, const size_t *n, size_t n_seq,
                                double *logprob, struct sp_error *err) {
    struct sp_lm_seq *fork[SP_LM_FORKS_MAX] = {0};
    double *each[SP_LM_FORKS_MAX], *all;
    size_t total = 0;
    for (size_t i = 0; i < n_seq; i++) total += n[i];
    all = calloc(total + 1, sizeof *all);
    enum sp_code code = all ? SP_OK : sp_error_memory(err, "scores");
    double *at = all;
    for (size_t i = 0; !code && i < n_seq; i++) {
        each[i] = at;
        at += n[i];
        code = sp_lm_seq_fork(lm, seq[i], &fork[i], err);
    }
    if (!code) code = score_forks(lm, fork, id, n, n_seq, each, err);
    for (size_t i = 0; i < n_seq; i++) {
        double sum = 0;
        for (size_t t = 0; !code && t < n[i]; t++) sum += each[i][t];
        logprob[i] = sum;
        sp_lm_seq_free(lm, fork[i]);
    }
    free(all);
    return code;
}

enum sp_code sp_lm_score(struct sp_lm *lm, const struct sp_lm_seq *const *seq,
                         const uint32_t *const *id, const size_t *n, size_t n_seq, double *logprob,
                         struct sp_error *err) {
    const size_t vocab = (size_t)lm->c->vocab_size;
    size_t group = SP_LM_FORK_BYTES_MAX / sp_seq_bytes(lm->net);
    if (group > SP_LM_FORKS_MAX) group = SP_LM_FORKS_MAX;
    if (group == 0) group = 1;
    if (!lm->logits) lm->logits = malloc(SP_LM_HEAD_ROWS * vocab * sizeof *lm->logits);
    if (!lm->exps) lm->exps = malloc(vocab * sizeof *lm->exps);
    if (!lm->logits || !lm->exps) return sp_error_memory(err, "scores");
    enum sp_code code = check_ready(seq, n, n_seq, err);
    for (size_t at = 0; !code && at < n_seq; at += group) {
        size_t k = n_seq - at < group ? n_seq - at : group;
        code = score_group(lm, seq + at, id + at, n + at, k, logprob + at, err);
    }
    return code;
}

/* ---- tags ----------------------------------------------------------------------------------- */

struct tagging {
    struct reading reading;
    float *const *scores;
};

static enum sp_code tag_chunk(void *ctx, const struct sp_lm_chunk *c, const float *hidden,
                              struct sp_error *err) {
    struct tagging *t = ctx;
    struct sp_lm *lm = t->reading.lm;
    float *scores = t->scores[c->seq] + c->first * (size_t)sp_head_net_outputs(lm->head);
    enum sp_code code = account(&t->reading, c, hidden, err);
    return code ? code : head(lm, hidden, (int64_t)c->n, c->n < SP_STEP_ROWS, scores, err);
}

enum sp_code sp_lm_tag(struct sp_lm *lm, struct sp_lm_seq *const *seq, const uint32_t *const *id,
                       const size_t *n, size_t n_seq, float *const *scores, struct sp_error *err) {
    struct job j = {.seq = seq, .id = id, .n = n, .n_seq = n_seq, .each = tag_chunk};
    struct tagging t = {.reading = {.lm = lm, .job = &j}, .scores = scores};
    j.ctx = &t;
    return run(lm, &j, err);
}
