/* The language model in one process: forks, packing and restored states show in no bit; scores are
 * those of one token after another; what is refused. */
#include "../../lib/lm.h"
#include "../../lib/logits.h"
#include "../../lib/net.h"
#include "../../lib/state.h"
#include "check.h"

#include <math.h>

enum { SEQS = 12, ROUNDS = 60, CALLS_MAX = 100, TOKENS_MAX = 700 };
static struct sp_error err;
static const char model[] = "tests/golden/tiny";

static struct sp_lm *open_lm(int n_thread, enum sp_dtype dtype) {
    struct sp_lm_options o = {
        .model = model, .device = "cpu", .n_thread = n_thread, .dtype = dtype};
    struct sp_lm *lm = NULL;
    if (sp_lm_open(&lm, &o, &err)) {
        check_ok(false, "open: %s", err.msg);
        exit(check_end());
    }
    return lm;
}

static void random_ids(uint32_t *id, size_t n) {
    for (size_t i = 0; i < n; i++) id[i] = (uint32_t)check_random_int(0, 255);
}

/* Lengths that meet every path: one token, a few, many, more than a chunk. */
static size_t random_length(void) {
    static const int64_t most[] = {1, 7, 8, 40, TOKENS_MAX};
    return (size_t)check_random_int(1, most[check_random_int(0, 4)]);
}

static bool same_state(const struct sp_state *a, const struct sp_state *b) {
    size_t layers = a->layer_last - a->layer_first + 1;
    return a->n_tok == b->n_tok && a->has_last == b->has_last && a->last_id == b->last_id &&
           sp_hash_equal(&a->prefix, &b->prefix) &&
           memcmp(a->conv, b->conv, layers * sp_state_conv_size(a) * sizeof(float)) == 0 &&
           memcmp(a->ssm, b->ssm, layers * sp_state_ssm_size(a) * sizeof(float)) == 0 &&
           memcmp(a->last_hidden, b->last_hidden, (size_t)a->d_model * sizeof(float)) == 0;
}

static struct sp_state *state_of(struct sp_lm *lm, const struct sp_lm_seq *seq) {
    struct sp_state *s = NULL;
    if (sp_lm_seq_store(lm, seq, &s, &err)) check_ok(false, "store: %s", err.msg);
    return s;
}

/* What a sequence was told, call by call, to be told again. */
struct history {
    struct sp_lm_seq *seq;
    size_t n_call, n[CALLS_MAX];
    uint32_t *id[CALLS_MAX];
};

static void note(struct history *h, const uint32_t *id, size_t n) {
    h->id[h->n_call] = memcpy(malloc(n * sizeof *id), id, n * sizeof *id);
    h->n[h->n_call++] = n;
}

static void history_clear(struct sp_lm *lm, struct history *h) {
    for (size_t i = 0; i < h->n_call; i++) free(h->id[i]);
    sp_lm_seq_free(lm, h->seq);
    *h = (struct history){0};
}

/* b becomes a fork of a, or what a state file of a holds. */
static bool renew(struct sp_lm *lm, struct history *b, const struct history *a, bool by_state) {
    history_clear(lm, b);
    for (size_t i = 0; i < a->n_call; i++) note(b, a->id[i], a->n[i]);
    if (!by_state) return sp_lm_seq_fork(lm, a->seq, &b->seq, &err) == SP_OK;
    struct sp_state *s = state_of(lm, a->seq);
    bool ok = sp_lm_seq_load(lm, s, &b->seq, &err) == SP_OK;
    sp_state_free(s);
    return ok;
}

/* A random set of the sequences, without repetition, reads on or is stepped. */
static bool go_on(struct sp_lm *lm, struct history *h) {
    static uint32_t id[SEQS][TOKENS_MAX];
    struct sp_lm_seq *seq[SEQS];
    const uint32_t *ids[SEQS];
    uint32_t one[SEQS];
    size_t n[SEQS], k = 0;
    bool step = check_random_int(0, 1);
    for (size_t i = 0; i < SEQS; i++) {
        if (check_random_int(0, 2) == 0 || h[i].n_call == CALLS_MAX) continue;
        n[k] = step ? 1 : random_length();
        random_ids(id[k], n[k]);
        note(&h[i], id[k], n[k]);
        ids[k] = id[k];
        one[k] = id[k][0];
        seq[k++] = h[i].seq;
    }
    if (step) return sp_lm_step(lm, seq, one, k, &err) == SP_OK;
    return sp_lm_read(lm, seq, ids, n, k, &err) == SP_OK;
}

static bool same_alone(struct sp_lm *lm, struct sp_lm *alone, const struct history *h,
                       const float *logits) {
    struct sp_lm_seq *seq;
    static float again[264];
    bool ok = sp_lm_seq_new(alone, &seq, &err) == SP_OK;
    for (size_t i = 0; ok && i < h->n_call; i++)
        ok =
            sp_lm_read(alone, &seq, (const uint32_t *const *)&h->id[i], &h->n[i], 1, &err) == SP_OK;
    struct sp_state *a = state_of(lm, h->seq), *b = state_of(alone, seq);
    ok = ok && same_state(a, b);
    ok = ok && sp_lm_logits(alone, (const struct sp_lm_seq *const *)&seq, 1, again, &err) == SP_OK;
    ok = ok && memcmp(again, logits, sizeof again) == 0;
    sp_state_free(a);
    sp_state_free(b);
    sp_lm_seq_free(alone, seq);
    return ok;
}

/* Sequences fork, are dumped and restored, read and are stepped together at random; each is then
 * told the same alone, by one thread. */
static void check_forks(const char *path, enum sp_dtype dtype) {
    setenv("STATEPIPE_CPU", path, 1);
    struct sp_lm *lm = open_lm(3, dtype), *alone = open_lm(1, dtype);
    static struct history h[SEQS];
    static float logits[SEQS * 264];
    const struct sp_lm_seq *seq[SEQS];
    int wrong = 0;
    for (size_t i = 0; i < SEQS; i++) {
        static const uint32_t first = 7;
        wrong += sp_lm_seq_new(lm, &h[i].seq, &err) || sp_lm_step(lm, &h[i].seq, &first, 1, &err);
        note(&h[i], &first, 1);
    }
    for (int round = 0; round < ROUNDS; round++) {
        size_t a = (size_t)check_random_int(0, SEQS - 1), b = (size_t)check_random_int(0, SEQS - 1);
        if (a != b && check_random_int(0, 1)) wrong += !renew(lm, &h[b], &h[a], round % 4 == 0);
        wrong += !go_on(lm, h);
    }
    for (size_t i = 0; i < SEQS; i++) seq[i] = h[i].seq;
    wrong += sp_lm_logits(lm, seq, SEQS, logits, &err) != SP_OK;
    for (size_t i = 0; i < SEQS; i++) wrong += !same_alone(lm, alone, &h[i], logits + i * 264);
    check_ok(wrong == 0, "forks: %s, %s: bits are those of each alone", path, sp_dtype_name(dtype));
    for (size_t i = 0; i < SEQS; i++) history_clear(lm, &h[i]);
    sp_lm_free(lm);
    sp_lm_free(alone);
}

/* The sum of the log-probabilities that single steps give. */
static double by_steps(struct sp_lm *lm, const struct sp_lm_seq *from, const uint32_t *id,
                       size_t n) {
    struct sp_lm_seq *seq;
    static float x[264];
    double sum = 0;
    if (sp_lm_seq_fork(lm, from, &seq, &err)) return NAN;
    for (size_t i = 0; i < n; i++) {
        double total = 0;
        if (sp_lm_logits(lm, (const struct sp_lm_seq *const *)&seq, 1, x, &err)) return NAN;
        for (int v = 0; v < 264; v++) total += exp((double)x[v]);
        sum += (double)x[id[i]] - log(total);
        if (sp_lm_step(lm, &seq, &id[i], 1, &err)) return NAN;
    }
    sp_lm_seq_free(lm, seq);
    return sum;
}

/* As the filters do it: hidden vectors of chunks of 256, then the head over the row before each
 * token, by the path of the token's chunk. */
struct filters {
    struct sp_model *model;
    struct sp_backend *be;
    struct sp_net *net;
    struct sp_head_net *head;
    struct sp_kernels k;
};

static void filters_open(struct filters *f) {
    struct sp_net_options o = {0, 1, SP_F32};
    sp_kernels_init(&f->k);
    if (sp_model_open(&f->model, model, &err) || sp_backend_cpu_new(&f->be, 1, &err) ||
        sp_net_new(&f->net, f->model, f->be, &o, &err) ||
        sp_head_net_new(&f->head, f->model, f->be, "lm", SP_F32, &err))
        check_ok(false, "filters: %s", err.msg);
}

static void filters_close(struct filters *f) {
    sp_head_net_free(f->head);
    sp_net_free(f->net);
    f->be->free(f->be);
    sp_model_free(f->model);
}

/* hidden: row 0 is what predicts the first token, rows 1 .. n are made. */
static bool filters_run(struct filters *f, struct sp_seq *seq, const uint32_t *id, size_t n,
                        float *hidden) {
    bool ok = sp_embed(f->model, id, (int64_t)n, hidden + 32, &err) == SP_OK;
    for (size_t at = 0; ok && at < n; at += 256) {
        int64_t k = n - at < 256 ? (int64_t)(n - at) : 256, cu[] = {0, k};
        struct sp_batch b = {
            .n_seq = 1, .cu_seqlens = cu, .states = &seq, .step = k < SP_STEP_ROWS};
        ok = sp_net_forward(f->net, &b, hidden + (at + 1) * 32, &err) == SP_OK;
    }
    return ok;
}

/* Of n tokens behind n_before others. */
static double by_filters(struct filters *f, const uint32_t *before, size_t n_before,
                         const uint32_t *id, size_t n) {
    static float hidden[(TOKENS_MAX + 1) * 32], logits[264], scratch[264];
    struct sp_seq *seq = NULL;
    double sum = 0;
    bool ok = sp_seq_new(f->net, &seq, &err) == SP_OK;
    ok = ok && filters_run(f, seq, before, n_before, hidden);
    memcpy(hidden, hidden + n_before * 32, 32 * sizeof *hidden);
    ok = ok && filters_run(f, seq, id, n, hidden);
    for (size_t i = 0; ok && i < n; i++) {
        size_t chunk = i / 256 * 256, rows = n - chunk < 256 ? n - chunk : 256;
        ok = sp_head_net_forward(f->head, hidden + i * 32, 1, rows < SP_STEP_ROWS, logits, &err) ==
             SP_OK;
        sum += (double)logits[id[i]] - sp_log_sum_exp(&f->k, logits, 264, scratch);
    }
    sp_seq_free(f->net, seq);
    return ok ? sum : NAN;
}

static void check_scores(void) {
    enum { N = 150, BASES = 4 };
    struct sp_lm *lm = open_lm(3, SP_F32);
    static uint32_t id[N][TOKENS_MAX];
    static uint32_t first[BASES][TOKENS_MAX];
    size_t n_first[BASES];
    struct filters filters;
    struct sp_lm_seq *base[BASES];
    const struct sp_lm_seq *seq[N];
    const uint32_t *ids[N];
    size_t n[N];
    double together[N], alone, worst = 0;
    int wrong = 0, other = 0;
    filters_open(&filters);
    for (size_t i = 0; i < BASES; i++) {
        n_first[i] = random_length();
        ids[0] = first[i];
        random_ids(first[i], n_first[i]);
        wrong += sp_lm_seq_new(lm, &base[i], &err) ||
                 sp_lm_read(lm, &base[i], ids, &n_first[i], 1, &err);
    }
    for (size_t i = 0; i < N; i++) {
        seq[i] = base[i % BASES];
        ids[i] = id[i];
        n[i] = i == 0 ? 0 : i == 1 ? 8 : i == 2 ? 2 : i == 3 ? 257 : random_length();
        random_ids(id[i], n[i]);
    }
    struct sp_state *before = state_of(lm, base[0]);
    wrong += sp_lm_score(lm, seq, ids, n, N, together, &err) != SP_OK;
    struct sp_state *after = state_of(lm, base[0]);
    check_ok(same_state(before, after), "scores: the sequences are left as they were");
    for (size_t i = 0; i < N; i++) {
        wrong += sp_lm_score(lm, &seq[i], &ids[i], &n[i], 1, &alone, &err) != SP_OK;
        wrong += alone != together[i];
        other += by_filters(&filters, first[i % BASES], n_first[i % BASES], id[i], n[i]) != alone;
        double e = fabs(by_steps(lm, seq[i], id[i], n[i]) - alone) / (1 + fabs(alone));
        if (!(e <= worst)) worst = e;
    }
    check_ok(wrong == 0, "scores: bits are those of each alone");
    check_ok(other == 0, "scores: bits are those of the filters (%d of %d differ)", other, N);
    check_ok(together[0] == 0 && worst < 1e-6, "scores: within %.2g of single steps", worst);
    filters_close(&filters);
    sp_state_free(before);
    sp_state_free(after);
    for (size_t i = 0; i < BASES; i++) sp_lm_seq_free(lm, base[i]);
    sp_lm_free(lm);
}

static void check_text(void) {
    struct sp_lm *lm = open_lm(1, SP_F32);
    struct sp_tokens t = {0};
    bool ok = sp_lm_encode(lm, "a\xff", 2, true, &t, &err) == SP_OK && t.n == 2 && t.id[1] == 255;
    ok = ok && sp_lm_encode(lm, "b", 1, true, &t, &err) == SP_OK && t.n == 3 && t.id[2] == 'b';
    size_t n;
    const uint32_t *none = sp_lm_textless(lm, &n);
    check_ok(ok && n == 7 && none[0] == 257 && none[6] == 263 && sp_lm_eos(lm) == 0,
             "text: bytes as they are, behind what is there; ids without a text");
    sp_tokens_clear(&t);
    sp_lm_free(lm);
}

static void check_refused(void) {
    struct sp_lm_options o = {.model = "share/model", .device = "cpu", .dtype = SP_F32};
    struct sp_lm *lm;
    check_ok(sp_lm_open(&lm, &o, &err) == SP_E_USAGE && !lm, "refused: a tagger: %s", err.msg);
    o.model = model;
    o.head = "tag";
    check_ok(sp_lm_open(&lm, &o, &err) == SP_E_USAGE && !lm, "refused: a tag head: %s", err.msg);
    o.head = "nose";
    check_ok(sp_lm_open(&lm, &o, &err) == SP_E_USAGE && !lm, "refused: no such head: %s", err.msg);
    lm = open_lm(1, SP_F32);
    struct sp_lm_seq *seq, *other = NULL;
    float logits[264];
    double logprob;
    uint32_t id[] = {3, 264};
    const uint32_t *ids = id;
    size_t n = 2;
    bool ok = sp_lm_seq_new(lm, &seq, &err) == SP_OK;
    const struct sp_lm_seq *const *view = (const struct sp_lm_seq *const *)&seq;
    check_ok(ok && !sp_lm_seq_ready(seq) && sp_lm_logits(lm, view, 1, logits, &err) == SP_E_USAGE &&
                 sp_lm_score(lm, view, &ids, &n, 1, &logprob, &err) == SP_E_USAGE,
             "refused: nothing read: %s", err.msg);
    check_ok(sp_lm_read(lm, &seq, &ids, &n, 1, &err) == SP_E_DATA && sp_lm_seq_n_tok(seq) == 0,
             "refused: an id out of range: %s", err.msg);
    struct sp_state *s = state_of(lm, seq);
    s->model.byte[0] ^= 1;
    check_ok(sp_lm_seq_load(lm, s, &other, &err) == SP_E_DATA && !other,
             "refused: another model's state: %s", err.msg);
    s->model.byte[0] ^= 1;
    s->tokenizer.byte[0] ^= 1;
    check_ok(sp_lm_seq_load(lm, s, &other, &err) == SP_E_DATA && !other,
             "refused: another tokenizer's state: %s", err.msg);
    sp_state_free(s);
    sp_lm_seq_free(lm, seq);
    sp_lm_free(lm);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    const char *paths[4];
    int n_path = check_wanted("forks") ? sp_kernels_paths(paths) : 0;
    for (int i = 0; i < n_path; i++) {
        check_forks(paths[i], SP_F32);
        check_forks(paths[i], SP_BF16);
    }
    if (check_wanted("scores")) check_scores();
    if (check_wanted("text")) check_text();
    if (check_wanted("refused")) check_refused();
    return check_end();
}
