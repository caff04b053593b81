/* The network against transformers: golden vectors of small random models (tests/golden), on every
 * kernel path that this CPU has.
 *
 *     parity [--vectors DIR]    DIR: what tests/golden/make_models.py --full DIR has written: each
 *                               layer is checked over 1000 tokens too
 *
 * f32: each layer, fed the reference's own input, within 2e-6; logits end to end within 1e-5;
 * ||a - b|| / ||b||. bf16 products round every input to 8 bits: within 2e-2. */
#include "../../lib/net.h"
#include "../../lib/safetensors.h"
#include "check.h"

static const char *const models[] = {"mamba-odd",  "mamba-bias",  "mamba-bf16", "mamba-deep",
                                     "falcon-odd", "falcon-tied", "tiny"};
static struct sp_error err;

struct golden {
    const char *name;
    struct sp_model *model;
    struct sp_safetensors *vectors;
    const struct sp_config *c;
    struct sp_backend *be;
    enum sp_dtype dtype;
    bool full; /* every row of sequence b is there */
};

static bool bad(const char *what) {
    check_ok(false, "%s: %s", what, err.msg);
    return false;
}

/* A vector of the file as f32 rows; *n_row of them. */
static const float *rows(const struct golden *g, const char *key, int64_t k, int64_t *n_row) {
    char name[64];
    snprintf(name, sizeof name, key, (long long)k);
    const struct sp_safetensors_entry *e = sp_safetensors_find(g->vectors, name);
    if (!e) return NULL;
    *n_row = (int64_t)e->tensor.dim[0];
    return e->tensor.data;
}

static bool forward(struct sp_net *net, float *hidden, int64_t n_row, int64_t d, int64_t piece) {
    struct sp_seq *seq;
    if (sp_seq_new(net, &seq, &err)) return bad("sequence");
    enum sp_code code = SP_OK;
    for (int64_t at = 0; at < n_row && !code; at += piece) {
        int64_t n = n_row - at < piece ? n_row - at : piece, cu[] = {0, n};
        struct sp_batch batch = {.n_seq = 1, .cu_seqlens = cu, .states = &seq};
        batch.step = n < SP_STEP_ROWS;
        code = sp_net_forward(net, &batch, hidden + at * d, &err);
    }
    sp_seq_free(net, seq);
    return code ? bad("forward") : true;
}

static const int64_t lengths[] = {1, 2, 3, 63, 64, 65, 1000};
enum { N_LENGTH = sizeof lengths / sizeof *lengths };

/* Worst error of one layer over prefixes of a sequence, whole and token by token. */
static double layer_error(const struct golden *g, const char *sequence, uint32_t layer) {
    struct sp_net_options options = {layer, layer, g->dtype};
    struct sp_net *net;
    if (sp_net_new(&net, g->model, g->be, &options, &err)) return bad("net"), 1;
    char key[64];
    int64_t n_row = 0, d = g->c->d_model;
    snprintf(key, sizeof key, "%s.hidden.%%lld", sequence);
    const float *in = rows(g, key, layer, &n_row), *want = rows(g, key, layer + 1, &n_row);
    float *hidden = malloc((size_t)(n_row * d) * sizeof(float));
    double worst = in && want ? 0 : 1;
    for (size_t i = 0; worst < 1 && i < 2 * N_LENGTH; i++) {
        int64_t n = lengths[i / 2];
        if (n > n_row) break;
        memcpy(hidden, in, (size_t)(n * d) * sizeof(float));
        if (!forward(net, hidden, n, d, i % 2 ? 1 : n)) worst = 1;
        double e = check_relative_error(hidden, want, n * d);
        if (e > worst) worst = e;
    }
    free(hidden);
    sp_net_free(net);
    return worst;
}

/* The scores of the first n of ids, of which want has the last n_want: 1 on failure. */
static double scores_error(const struct golden *g, struct sp_net *net, struct sp_head_net *h,
                           const uint32_t *id, int64_t n, const float *want, int64_t n_want) {
    int64_t d = g->c->d_model, n_out = sp_head_net_outputs(h);
    float *hidden = malloc((size_t)(n * d) * sizeof(float));
    float *scores = malloc((size_t)(n * n_out) * sizeof(float));
    double e = 1;
    if (!sp_embed(g->model, id, n, hidden, &err) && forward(net, hidden, n, d, 256) &&
        !sp_head_net_forward(h, hidden, n, n < SP_STEP_ROWS, scores, &err))
        e = check_relative_error(scores + (n - n_want) * n_out, want, n_want * n_out);
    free(hidden);
    free(scores);
    return e;
}

/* Worst error of a head's scores over prefixes of a sequence, from ids on; where the vectors hold
 * the last rows of the sequence only, over these. */
static double head_error(const struct golden *g, const char *sequence, const char *head,
                         const char *vector) {
    char key[64];
    int64_t n_row = 0, n_want = 0;
    snprintf(key, sizeof key, "%s.ids", sequence);
    const uint32_t *id = (const void *)rows(g, key, 0, &n_row);
    snprintf(key, sizeof key, "%s.%s", sequence, vector);
    const float *want = rows(g, key, 0, &n_want);
    struct sp_net_options options = {0, (uint32_t)g->c->n_layer - 1, g->dtype};
    struct sp_net *net = NULL;
    struct sp_head_net *h = NULL;
    double worst = 1;
    if (id && want && !sp_net_new(&net, g->model, g->be, &options, &err) &&
        !sp_head_net_new(&h, g->model, g->be, head, g->dtype, &err)) {
        worst = 0;
        for (int i = 0; i < N_LENGTH; i++) {
            int64_t n = lengths[i];
            if (n > n_row || (n < n_row && n_want < n_row)) continue;
            double e = scores_error(g, net, h, id, n, want, n < n_want ? n : n_want);
            if (e > worst) worst = e;
        }
    }
    sp_head_net_free(h);
    sp_net_free(net);
    return worst;
}

static void check_model(struct golden *g, const char *path) {
    char label[160];
    double layer_limit = g->dtype == SP_F32 ? 2e-6 : 2e-2, limit = g->dtype == SP_F32 ? 1e-5 : 2e-2;
    snprintf(label, sizeof label, "%s, %s, %s", g->name, path, sp_dtype_name(g->dtype));
    double worst = 0;
    for (uint32_t k = 0; k < g->c->n_layer; k++) {
        double e = layer_error(g, "a", k), more = g->full ? layer_error(g, "b", k) : 0;
        worst = e > worst ? e : worst;
        worst = more > worst ? more : worst;
    }
    check_ok(worst <= layer_limit, "layers: %s: error %.2g", label, worst);
    for (int i = 0; i < 2; i++) {
        double e = head_error(g, i ? "b" : "a", "lm", "logits");
        check_ok(e <= limit, "logits: %s, %s: error %.2g", label, i ? "1000 tokens" : "1 to 65", e);
    }
    if (g->c->n_head < 2) return;
    double e = head_error(g, "a", "tag", "tag");
    check_ok(e <= limit, "tags: %s: error %.2g", label, e);
}

static void check_golden(const char *vectors, const char *name) {
    char path[512];
    struct golden g = {.name = name, .full = vectors != NULL};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    if (sp_model_open(&g.model, path, &err)) {
        bad(path);
        return;
    }
    snprintf(path, sizeof path, "%s/%s/vectors.safetensors", vectors ? vectors : "tests/golden",
             name);
    if (sp_safetensors_open(&g.vectors, path, &err)) {
        bad(path);
        sp_model_free(g.model);
        return;
    }
    g.c = sp_model_config(g.model);
    const char *paths[4];
    int n_path = sp_kernels_paths(paths);
    for (int i = 0; i < n_path; i++) {
        setenv("STATEPIPE_CPU", paths[i], 1);
        if (sp_backend_cpu_new(&g.be, 2, &err)) {
            bad(paths[i]);
            continue;
        }
        for (int half = 0; half < 2; half++) {
            g.dtype = half ? SP_BF16 : SP_F32;
            check_model(&g, paths[i]);
        }
        g.be->free(g.be);
    }
    sp_safetensors_free(g.vectors);
    sp_model_free(g.model);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    const char *vectors = argc > 2 && strcmp(argv[1], "--vectors") == 0 ? argv[2] : NULL;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) check_golden(vectors, models[i]);
    return check_end();
}
