/* The network of training beside the one in use, the first weights, the learning rate. */
#include "../../lib/model.h"
#include "../../lib/net.h"
#include "../../lib/train.h"
#include "check.h"

#include <math.h>
#include <unistd.h>

static struct sp_error err;

static void need(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", err.msg);
    exit(1);
}

/* The loss that net.h's forward pass gives, run in pieces. */
static double loss_in_use(const struct sp_model *m, struct sp_backend *be, const uint32_t *id,
                          const int32_t *target, int64_t n, int64_t piece) {
    const struct sp_config *c = sp_model_config(m);
    struct sp_net_options o = {.layer_first = 0, .layer_last = (uint32_t)c->n_layer - 1};
    struct sp_net *net;
    struct sp_seq *seq;
    struct sp_head_net *head;
    float *hidden = malloc((size_t)(n * c->d_model) * sizeof *hidden);
    need(sp_net_new(&net, m, be, &o, &err));
    need(sp_seq_new(net, &seq, &err));
    need(sp_head_net_new(&head, m, be, "tag", SP_F32, &err));
    int64_t k = sp_head_net_outputs(head);
    float *score = malloc((size_t)(n * k) * sizeof *score);
    need(sp_embed(m, id, n, hidden, &err));
    for (int64_t at = 0; at < n; at += piece) {
        int64_t cu[2] = {0, n - at < piece ? n - at : piece};
        struct sp_batch batch = {.n_seq = 1, .cu_seqlens = cu, .states = &seq};
        batch.step = cu[1] < SP_STEP_ROWS;
        batch.one = cu[1] == 1;
        need(sp_net_forward(net, &batch, hidden + at * c->d_model, &err));
    }
    need(sp_head_net_forward(head, hidden, n, false, score, &err));
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) sum += exp((double)score[i * k + j]);
        loss += log(sum) - (double)score[i * k + target[i]];
    }
    sp_head_net_free(head);
    sp_seq_free(net, seq);
    sp_net_free(net);
    free(hidden);
    free(score);
    return loss;
}

/* The model of tests/golden/tiny, its second layer reversed in windows where `reverse` says so. */
static void open_tiny(struct sp_model **m, uint32_t reverse) {
    char dir[] = "/tmp/train_net.XXXXXX", here[3000], path[4096], weights[4096];
    need(sp_model_open(m, "tests/golden/tiny", &err));
    if (!reverse) return;
    struct sp_config c = *sp_model_config(*m);
    c.reverse = reverse;
    c.reverse_layers = 2;
    c.head[0] = c.head[sp_config_head(&c, "tag")]; /* no language model */
    c.n_head = 1;
    sp_model_free(*m);
    if (!mkdtemp(dir) || !getcwd(here, sizeof here)) exit(1);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    if (!f) exit(1);
    need(sp_config_write(f, &c, SP_F32, &err));
    fclose(f);
    snprintf(weights, sizeof weights, "%s/model.safetensors", dir);
    snprintf(path, sizeof path, "%s/tests/golden/tiny/model.safetensors", here);
    if (symlink(path, weights) != 0) exit(1);
    need(sp_model_open(m, dir, &err));
    unlink(weights);
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    rmdir(dir);
}

/* n tokens; in use in pieces; the second layer in windows of `reverse`, or as the first. */
static double check_same_network(int64_t n, int64_t piece, uint32_t reverse) {
    struct sp_model *m;
    struct sp_backend *be;
    struct sp_param_set *set;
    struct sp_train_net *net;
    struct sp_train_result r;
    uint32_t id[300];
    int32_t target[300];
    int64_t cu[2] = {0, n};
    open_tiny(&m, reverse);
    need(sp_backend_cpu_new(&be, 2, &err));
    int head = sp_config_head(sp_model_config(m), "tag");
    need(sp_param_set_new(&set, sp_model_config(m), (uint32_t)head, &err));
    need(sp_train_net_new(&net, set, be, n, 1, &err));
    for (int64_t i = 0; i < n; i++) {
        id[i] = (uint32_t)check_random_int(0, sp_model_config(m)->vocab_size - 1);
        target[i] = (int32_t)check_random_int(0, set->n_class - 1);
    }
    float *value = calloc((size_t)sp_param_set_size(set), sizeof *value);
    need(sp_param_set_load(set, m, value, &err));
    need(be->upload(be, sp_train_net_values(net), value,
                    (size_t)sp_param_set_size(set) * sizeof *value, &err));
    need(sp_train_net_refresh(net, &err));
    struct sp_train_batch b = {.n_seq = 1, .cu_seqlens = cu, .id = id, .target = target};
    need(sp_train_net_evaluate(net, &b, &r, &err));
    double other = loss_in_use(m, be, id, target, n, piece);
    check_ok(fabs(r.loss / other - 1) < 1e-6,
             "network: trains what is run, in pieces of %lld, reversed in %u: loss %.6f and %.6f",
             (long long)piece, reverse, r.loss, other);
    free(value);
    sp_train_net_free(net);
    sp_param_set_free(set);
    be->free(be);
    sp_model_free(m);
    return r.loss;
}

/* Windows are those of the document, whatever pieces it comes in; and reversing is no nothing. */
static void check_network(void) {
    check_same_network(100, 100, 0);
    for (int64_t n = 253; n <= 300; n += 4) {
        uint64_t random = check_state.random;
        double forward = check_same_network(n, 64, 0);
        check_state.random = random;
        double reversed = check_same_network(n, 64, 32);
        check_ok(fabs(forward / reversed - 1) > 1e-4, "network: reversed, it is another");
        check_same_network(n, n, 64);
        check_same_network(n, 256, 256);
    }
}

static void check_init(void) {
    static const char text[] =
        "{\"model_type\": \"mamba\", \"hidden_size\": 32, \"num_hidden_layers\": 2, "
        "\"state_size\": 8,"
        "\"intermediate_size\": 64, \"time_step_rank\": 2, \"vocab_size\": 64}";
    struct sp_config c;
    struct sp_param_set *set;
    need(sp_config_parse(&c, text, strlen(text), "config", &err));
    need(sp_param_set_new(&set, &c, c.n_head, &err));
    float *v = calloc((size_t)sp_param_set_size(set), sizeof *v);
    sp_param_set_init(set, 1, v);
    const struct sp_layer_offsets *l = &set->layer[1];
    bool a_ok = true, dt_ok = true, aligned = true;
    double in = 0, out = 0, embed = 0;
    for (int64_t i = 0; i < 64 * 8; i++)
        a_ok &= fabs(exp((double)v[l->a_log + i]) - (double)(i % 8 + 1)) < 1e-5;
    for (int64_t i = 0; i < 64; i++) {
        double dt = log1p(exp((double)v[l->dt_b + i]));
        dt_ok &= dt > 0.999e-3 && dt < 0.1001;
    }
    for (int64_t i = 0; i < 32 * 64; i++) {
        in += pow((double)v[l->in_w + i], 2) / (32 * 64);
        out += pow((double)v[l->out_w + i], 2) / (32 * 64);
        embed += pow((double)v[set->embed + i], 2) / (32 * 64);
    }
    for (int64_t i = 0; i < set->n; i++)
        aligned &= set->item[i].part == SP_PARAM_A_LOG || set->item[i].offset % SP_PARAM_ALIGN == 0;
    check_ok(a_ok && dt_ok, "init: A = -1 .. -d_state, dt between 0.001 and 0.1");
    /* Uniform within +-1/sqrt(n): variance 1/(3 n); out_proj's divided by the layers. */
    check_ok(fabs(in * 3 * 32 - 1) < 0.1 && fabs(out * 3 * 64 * 2 - 1) < 0.1 &&
                 fabs(sqrt(embed) - 0.02) < 0.001,
             "init: sizes of in_proj, out_proj and the embedding");
    check_ok(aligned, "init: parameters begin on cache lines");
    free(v);
    sp_param_set_free(set);
}

static void check_rate(void) {
    struct sp_adamw_options o = {.lr = 1, .lr_min = 0.1, .warmup = 9};
    check_ok(fabs(sp_optimiser_lr(&o, 0, 0) - 0.1) < 1e-12 &&
                 fabs(sp_optimiser_lr(&o, 8, 0) - 0.9) < 1e-12 &&
                 fabs(sp_optimiser_lr(&o, 9, 0) - 1) < 1e-12 &&
                 fabs(sp_optimiser_lr(&o, 99, 0.5) - 0.55) < 1e-12 &&
                 fabs(sp_optimiser_lr(&o, 99, 1) - 0.1) < 1e-12 &&
                 fabs(sp_optimiser_lr(&o, 99, 7) - 0.1) < 1e-12,
             "rate: rises, then a cosine down to the last");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("network")) check_network();
    if (check_wanted("init")) check_init();
    if (check_wanted("rate")) check_rate();
    return check_end();
}
