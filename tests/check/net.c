/* Invariants of states: splits, packing, threads, layers and restored states show in no bit, on
 * every kernel path; prefill and decode agree. */
#include "../../lib/net.h"
#include "check.h"

enum { TOKENS = 300, SEQS = 5, ROUNDS = 4 };
static const char *const models[] = {"tests/golden/mamba-odd", "tests/golden/falcon-odd"};
static struct sp_error err;

struct setup {
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be, *alone; /* three threads, one */
    enum sp_dtype dtype;
    char label[100];
};

static struct sp_net *open_net(const struct setup *u, struct sp_backend *be, uint32_t first,
                               uint32_t last) {
    struct sp_net_options options = {first, last, u->dtype};
    struct sp_net *net = NULL;
    if (sp_net_new(&net, u->model, be, &options, &err)) check_ok(false, "net: %s", err.msg);
    return net;
}

static float *random_hidden(const struct setup *u, int64_t n) {
    float *x = malloc((size_t)(n * u->c->d_model) * sizeof(float));
    check_fill(x, n * u->c->d_model, -2, 2);
    return x;
}

static float *copy_of(const struct setup *u, const float *x, int64_t n) {
    size_t bytes = (size_t)(n * u->c->d_model) * sizeof(float);
    return memcpy(malloc(bytes), x, bytes);
}

static bool run(struct sp_net *net, struct sp_seq *seq, float *hidden, int64_t n, bool step) {
    int64_t cu[] = {0, n};
    struct sp_batch batch = {.n_seq = 1, .cu_seqlens = cu, .states = &seq, .step = step};
    return sp_net_forward(net, &batch, hidden, &err) == SP_OK;
}

static struct sp_state *state_of(const struct setup *u, struct sp_net *net, struct sp_seq *seq,
                                 uint32_t last) {
    struct sp_state *s = NULL;
    if (sp_state_new(&s, u->model, 0, last, &err) || sp_seq_store(net, seq, s, &err))
        check_ok(false, "state: %s", err.msg);
    return s;
}

static bool same_state(const struct sp_state *a, const struct sp_state *b) {
    size_t layers = a->layer_last - a->layer_first + 1;
    return memcmp(a->conv, b->conv,
                  layers * (size_t)((a->d_conv - 1) * a->d_inner) * sizeof(float)) == 0 &&
           memcmp(a->ssm, b->ssm, layers * (size_t)(a->d_inner * a->d_state) * sizeof(float)) == 0;
}

/* run(a + b) against run(b) from the state after a, at random places, through a stored and loaded
 * state; on one thread against three. */
static void check_split(const struct setup *u) {
    uint32_t last = (uint32_t)u->c->n_layer - 1;
    struct sp_net *net = open_net(u, u->be, 0, last), *single = open_net(u, u->alone, 0, last);
    struct sp_seq *whole, *part, *next;
    sp_seq_new(net, &whole, &err), sp_seq_new(single, &part, &err);
    int wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t n = check_random_int(2, TOKENS), at = 0;
        float *x = random_hidden(u, n), *y = copy_of(u, x, n);
        sp_seq_reset(net, whole, &err), sp_seq_reset(single, part, &err);
        wrong += !run(net, whole, x, n, false);
        while (at < n) {
            int64_t k = check_random_int(1, n - at);
            wrong += !run(single, part, y + at * u->c->d_model, k, false);
            at += k;
            struct sp_state *s = state_of(u, single, part, last);
            sp_seq_new(single, &next, &err);
            wrong += sp_seq_load(single, next, s, &err) != SP_OK;
            sp_seq_free(single, part);
            sp_state_free(s);
            part = next;
        }
        wrong += memcmp(x, y, (size_t)(n * u->c->d_model) * sizeof(float)) != 0;
        struct sp_state *a = state_of(u, net, whole, last), *b = state_of(u, single, part, last);
        wrong += !same_state(a, b);
        sp_state_free(a), sp_state_free(b);
        free(x), free(y);
    }
    check_ok(wrong == 0, "split: %s: bits are those of one run", u->label);
    sp_seq_free(net, whole), sp_seq_free(single, part);
    sp_net_free(net), sp_net_free(single);
}

/* Several sequences in one batch against each alone. */
static void check_packing(const struct setup *u, bool step) {
    uint32_t last = (uint32_t)u->c->n_layer - 1;
    int64_t d = u->c->d_model;
    struct sp_net *net = open_net(u, u->be, 0, last);
    struct sp_seq *packed[SEQS], *alone;
    int wrong = 0;
    for (int s = 0; s < SEQS; s++) sp_seq_new(net, &packed[s], &err);
    sp_seq_new(net, &alone, &err);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t cu[SEQS + 1] = {0}, most = round == 0 ? 1 : step ? SP_STEP_ROWS - 1 : 100;
        for (int s = 0; s < SEQS; s++) cu[s + 1] = cu[s] + check_random_int(step, most);
        cu[SEQS] += cu[SEQS] == 0;
        float *x = random_hidden(u, cu[SEQS]), *y = copy_of(u, x, cu[SEQS]);
        for (int s = 0; s < SEQS; s++) sp_seq_reset(net, packed[s], &err);
        struct sp_batch batch = {.n_seq = SEQS, .cu_seqlens = cu, .states = packed, .step = step};
        wrong += sp_net_forward(net, &batch, x, &err) != SP_OK;
        for (int s = 0; s < SEQS; s++) {
            sp_seq_reset(net, alone, &err);
            wrong += !run(net, alone, y + cu[s] * d, cu[s + 1] - cu[s], step);
            struct sp_state *a = state_of(u, net, packed[s], last);
            struct sp_state *b = state_of(u, net, alone, last);
            wrong += !same_state(a, b);
            sp_state_free(a), sp_state_free(b);
        }
        wrong += memcmp(x, y, (size_t)(cu[SEQS] * d) * sizeof(float)) != 0;
        free(x), free(y);
    }
    check_ok(wrong == 0, "packing: %s, %s: bits are those of each alone", u->label,
             step ? "decode" : "prefill");
    for (int s = 0; s < SEQS; s++) sp_seq_free(net, packed[s]);
    sp_seq_free(net, alone);
    sp_net_free(net);
}

/* All layers in one net against one net per layer. */
static void check_layers(const struct setup *u) {
    int64_t n = 70;
    struct sp_net *net = open_net(u, u->be, 0, (uint32_t)u->c->n_layer - 1);
    struct sp_seq *seq;
    float *x = random_hidden(u, n), *y = copy_of(u, x, n);
    sp_seq_new(net, &seq, &err);
    bool ok = run(net, seq, x, n, false);
    sp_seq_free(net, seq), sp_net_free(net);
    for (uint32_t i = 0; i < u->c->n_layer && ok; i++) {
        net = open_net(u, u->be, i, i);
        sp_seq_new(net, &seq, &err);
        ok = run(net, seq, y, n, false);
        sp_seq_free(net, seq), sp_net_free(net);
    }
    check_ok(ok && memcmp(x, y, (size_t)(n * u->c->d_model) * sizeof(float)) == 0,
             "layers: %s: one net a layer gives the same bits", u->label);
    free(x), free(y);
}

static void check_decode(const struct setup *u) {
    int64_t n = 80, d = u->c->d_model;
    struct sp_net *net = open_net(u, u->be, 0, (uint32_t)u->c->n_layer - 1);
    struct sp_seq *seq;
    float *x = random_hidden(u, n), *y = copy_of(u, x, n);
    sp_seq_new(net, &seq, &err);
    bool ok = run(net, seq, x, n, false) && sp_seq_reset(net, seq, &err) == SP_OK;
    for (int64_t at = 0; at < n && ok;) {
        int64_t k = check_random_int(1, SP_STEP_ROWS - 1);
        if (k > n - at) k = n - at;
        ok = run(net, seq, y + at * d, k, true);
        at += k;
    }
    double e = check_relative_error(y, x, n * d), limit = u->dtype == SP_F32 ? 2e-6 : 1e-2;
    check_ok(ok && e <= limit, "decode: %s: within %.2g of prefill", u->label, e);
    free(x), free(y);
    sp_seq_free(net, seq), sp_net_free(net);
}

static void check_refused(const struct setup *u) {
    struct sp_net_options options = {1, (uint32_t)u->c->n_layer, SP_F32};
    struct sp_net *net;
    check_ok(sp_net_new(&net, u->model, u->be, &options, &err) == SP_E_USAGE && !net,
             "refused: layers that are not there: %s", err.msg);
    options = (struct sp_net_options){1, 1, SP_F32};
    struct sp_state *s = NULL;
    struct sp_seq *seq = NULL;
    if (sp_net_new(&net, u->model, u->be, &options, &err) || sp_seq_new(net, &seq, &err) ||
        sp_state_new(&s, u->model, 0, 0, &err))
        check_ok(false, "refused: %s", err.msg);
    check_ok(sp_seq_load(net, seq, s, &err) == SP_E_DATA, "refused: a state of other layers: %s",
             err.msg);
    sp_state_free(s);
    sp_seq_free(net, seq);
    sp_net_free(net);
    struct sp_head_net *h;
    check_ok(sp_head_net_new(&h, u->model, u->be, "nose", SP_F32, &err) == SP_E_USAGE && !h,
             "refused: a head that is not there: %s", err.msg);
    uint32_t id = (uint32_t)u->c->vocab_size;
    float hidden[100];
    check_ok(sp_embed(u->model, &id, 1, hidden, &err) == SP_E_DATA,
             "refused: an id out of range: %s", err.msg);
}

static void check_all(struct setup *u) {
    if (check_wanted("split")) check_split(u);
    if (check_wanted("packing")) check_packing(u, false), check_packing(u, true);
    if (check_wanted("layers")) check_layers(u);
    if (check_wanted("decode")) check_decode(u);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    const char *paths[4];
    int n_path = sp_kernels_paths(paths);
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct setup u = {0};
        if (sp_model_open(&u.model, models[m], &err)) {
            check_ok(false, "%s: %s", models[m], err.msg);
            continue;
        }
        u.c = sp_model_config(u.model);
        for (int i = 0; i < n_path; i++) {
            setenv("STATEPIPE_CPU", paths[i], 1);
            if (sp_backend_cpu_new(&u.be, 3, &err) || sp_backend_cpu_new(&u.alone, 1, &err)) {
                check_ok(false, "backend: %s", err.msg);
                return check_end();
            }
            for (int half = 0; half < 2; half++) {
                u.dtype = half ? SP_BF16 : SP_F32;
                snprintf(u.label, sizeof u.label, "%s, %s, %s", models[m] + 13, paths[i],
                         sp_dtype_name(u.dtype));
                check_all(&u);
            }
            if (i == 0 && check_wanted("refused")) check_refused(&u);
            u.be->free(u.be);
            u.alone->free(u.alone);
        }
        sp_model_free(u.model);
    }
    return check_end();
}
