/* The whole network's gradient: against finite differences along random directions of every group
 * of parameters and of the initial states.
 *
 * The loss is the only thing measured: sums of per-token float losses in double. Of two central
 * differences, of step e and 2 e, the error in e^2 is taken out (Richardson); what is left are the
 * fifth derivative times e^4 and the rounding of the loss over e, for which NOISE allows.
 */
#include "../../lib/model.h"
#include "../../lib/train.h"
#include "check.h"

#include <math.h>

#define TOLERANCE 4e-3
#define STEP 1e-2
#define NOISE 6e-4 /* of a difference: 90 losses near 3, each rounded to float, over the step */
#define DIRECTIONS 3
/* Single against double precision, through two to three layers: relative to a tensor's norm. */
#define GOLDEN_TOLERANCE 1e-5

struct fixture {
    struct sp_config config;
    struct sp_param_set *set;
    struct sp_backend *be;
    struct sp_train_net *net;
    float *value, *grad, *moved; /* (size), host */
    int64_t size;
    struct sp_train_batch batch;
    int64_t cu_seqlens[4];
    uint32_t id[200];
    int32_t target[200];
    float *state, *dstate; /* device: of one sequence, convolution then scan */
    int64_t n_conv, n_ssm;
    const float *conv_in[3], *ssm_in[3];
    float *dconv_in[3], *dssm_in[3];
    struct sp_error err;
};

static void config_make(struct sp_config *c, bool falcon, bool bias, bool tied, uint32_t reverse) {
    *c = (struct sp_config){.arch = falcon ? SP_ARCH_FALCON_MAMBA : SP_ARCH_MAMBA,
                            .d_model = 24,
                            .n_layer = 2,
                            .d_state = 5,
                            .d_conv = 4,
                            .d_inner = 40,
                            .dt_rank = 3,
                            .vocab_size = 31,
                            .norm_eps = 1e-5,
                            .mixer_norm_eps = 1e-6,
                            .use_bias = bias,
                            .use_conv_bias = true,
                            .tied = tied,
                            .n_head = 1,
                            .passes = 1,
                            .reverse = reverse,
                            .reverse_layers = 2};
    c->head[0].type = SP_HEAD_TAG;
    c->head[0].n_label = 7;
    snprintf(c->head[0].name, sizeof c->head[0].name, "tags");
}

/* Weights far from where they begin, and steps of the scan near 1, so that no gradient is small by
 * accident: it is then measured well. */
static void shake(struct fixture *f) {
    sp_param_set_init(f->set, check_state.seed, f->value);
    for (int64_t k = 0; k < f->set->n; k++) {
        const struct sp_param *p = &f->set->item[k];
        float by = p->part == SP_PARAM_DECAYED ? 0.15f : 0.3f, up = 0;
        if (p->init == SP_INIT_DT_BIAS) up = 3;
        if (p->init == SP_INIT_DT || strstr(p->name, "x_proj")) by = 0.8f;
        for (int64_t i = 0; i < p->n; i++)
            f->value[p->offset + i] += up + check_random_float(-by, by);
    }
}

static void batch_make(struct fixture *f, int64_t n_class) {
    f->cu_seqlens[1] = 70; /* longer than a chunk of the scan */
    f->cu_seqlens[2] = 71; /* one token */
    f->cu_seqlens[3] = 90;
    for (int64_t i = 0; i < f->cu_seqlens[3]; i++) {
        f->id[i] = (uint32_t)check_random_int(0, f->config.vocab_size - 1);
        f->target[i] = check_random() % 4 ? (int32_t)check_random_int(0, n_class - 1) : -1;
    }
    f->conv_in[0] = f->state;
    f->ssm_in[0] = f->state + f->n_conv;
    f->dconv_in[0] = f->dstate;
    f->dssm_in[0] = f->dstate + f->n_conv;
    f->batch = (struct sp_train_batch){.n_seq = 3,
                                       .cu_seqlens = f->cu_seqlens,
                                       .id = f->id,
                                       .target = f->target,
                                       .conv_in = f->conv_in,
                                       .ssm_in = f->ssm_in,
                                       .dconv_in = f->dconv_in,
                                       .dssm_in = f->dssm_in};
}

static void need(struct fixture *f, enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", f->err.msg);
    exit(1);
}

static void fixture_new(struct fixture *f, bool falcon, bool bias, bool lm, uint32_t reverse) {
    *f = (struct fixture){0};
    config_make(&f->config, falcon, bias, lm, reverse);
    const struct sp_config *c = &f->config;
    void *p;
    need(f, sp_backend_cpu_new(&f->be, 2, &f->err));
    need(f, sp_param_set_new(&f->set, c, lm ? 1 : 0, &f->err));
    need(f, sp_train_net_new(&f->net, f->set, f->be, 200, 3, &f->err));
    f->size = sp_param_set_size(f->set);
    f->value = calloc((size_t)f->size, sizeof *f->value);
    f->grad = calloc((size_t)f->size, sizeof *f->grad);
    f->moved = calloc((size_t)f->size, sizeof *f->moved);
    f->n_conv = c->n_layer * (c->d_conv - 1) * c->d_inner;
    f->n_ssm = c->n_layer * c->d_inner * c->d_state;
    size_t n_bytes = (size_t)(f->n_conv + f->n_ssm) * sizeof(float);
    need(f, f->be->alloc(f->be, n_bytes, &p, &f->err));
    f->state = p;
    need(f, f->be->alloc(f->be, n_bytes, &p, &f->err));
    f->dstate = p;
    shake(f);
    batch_make(f, f->set->n_class);
}

static void fixture_free(struct fixture *f) {
    f->be->release(f->be, f->state);
    f->be->release(f->be, f->dstate);
    free(f->value);
    free(f->grad);
    free(f->moved);
    sp_train_net_free(f->net);
    sp_param_set_free(f->set);
    f->be->free(f->be);
}

static double loss_at(struct fixture *f, const float *value) {
    struct sp_train_result r;
    need(f, f->be->upload(f->be, sp_train_net_values(f->net), value,
                          (size_t)f->size * sizeof *value, &f->err));
    need(f, sp_train_net_refresh(f->net, &f->err));
    need(f, sp_train_net_evaluate(f->net, &f->batch, &r, &f->err));
    return r.loss;
}

/* The difference of the losses e further and e back along u of length norm, over 2 e. */
static double difference(struct fixture *f, const struct sp_param *p, const float *u, double norm,
                         double e) {
    double side[2];
    for (int s = 0; s < 2; s++) {
        memcpy(f->moved, f->value, (size_t)f->size * sizeof *f->moved);
        for (int64_t i = 0; i < p->n; i++)
            f->moved[p->offset + i] += (float)((s ? -e : e) * (double)u[i] / norm);
        side[s] = loss_at(f, f->moved);
    }
    return (side[0] - side[1]) / (2 * e);
}

/* Derivative along a random unit direction of parameter p: differences and gradient. */
static void differ(struct fixture *f, const struct sp_param *p, double *measured,
                   double *expected) {
    float *u = malloc((size_t)p->n * sizeof *u);
    double norm = 0;
    check_fill(u, p->n, -1, 1);
    for (int64_t i = 0; i < p->n; i++) norm += (double)u[i] * (double)u[i];
    norm = sqrt(norm);
    *expected = 0;
    for (int64_t i = 0; i < p->n; i++)
        *expected += (double)u[i] / norm * (double)f->grad[p->offset + i];
    *measured = (4 * difference(f, p, u, norm, STEP) - difference(f, p, u, norm, 2 * STEP)) / 3;
    free(u);
}

static double grad_norm(const float *g, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

static void check_params(struct fixture *f, const char *what) {
    struct sp_train_result r;
    loss_at(f, f->value);
    need(f, sp_train_net_gradient(f->net, &f->batch, 1, &r, &f->err));
    need(f, f->be->download(f->be, f->grad, sp_train_net_grads(f->net),
                            (size_t)f->size * sizeof *f->grad, &f->err));
    for (int64_t k = 0; k < f->set->n; k++) {
        const struct sp_param *p = &f->set->item[k];
        double norm = grad_norm(f->grad + p->offset, p->n), worst = 0;
        for (int i = 0; i < DIRECTIONS; i++) {
            double measured, expected;
            differ(f, p, &measured, &expected);
            /* A random direction meets about norm / sqrt(n) of the gradient. */
            double meets = norm / sqrt((double)p->n);
            double error = fmax(0, fabs(measured - expected) - NOISE) / (meets + 1e-9);
            if (error > worst) worst = error;
        }
        bool used = p->part != SP_PARAM_FROZEN;
        check_ok(worst < TOLERANCE && (norm > 0) == used, "%s %s: gradient %.3g, error %.2g", what,
                 p->name, norm, worst);
    }
}

/* The same for the initial states of the first sequence. */
static void check_states(struct fixture *f, const char *what) {
    int64_t n = f->n_conv + f->n_ssm;
    size_t n_bytes = (size_t)n * sizeof(float);
    float *state = calloc((size_t)n, sizeof *state), *moved = calloc((size_t)n, sizeof *moved);
    float *u = calloc((size_t)n, sizeof *u), *d = calloc((size_t)n, sizeof *d);
    struct sp_train_result r;
    const double e = 1e-1;
    check_fill(state, n, -1, 1);
    need(f, f->be->upload(f->be, f->state, state, n_bytes, &f->err));
    loss_at(f, f->value);
    need(f, sp_train_net_gradient(f->net, &f->batch, 1, &r, &f->err));
    need(f, f->be->download(f->be, d, f->dstate, n_bytes, &f->err));
    for (int part = 0; part < 2; part++) {
        int64_t from = part ? f->n_conv : 0, to = part ? n : f->n_conv;
        double norm = 0, worst = 0, g = grad_norm(d + from, to - from);
        for (int k = 0; k < DIRECTIONS; k++) {
            double expected = 0, side[2];
            check_fill(u, n, -1, 1);
            norm = grad_norm(u + from, to - from);
            for (int64_t i = from; i < to; i++) expected += (double)u[i] / norm * (double)d[i];
            for (int s = 0; s < 2; s++) {
                memcpy(moved, state, n_bytes);
                for (int64_t i = from; i < to; i++)
                    moved[i] += (float)((s ? -e : e) * (double)u[i] / norm);
                need(f, f->be->upload(f->be, f->state, moved, n_bytes, &f->err));
                need(f, sp_train_net_evaluate(f->net, &f->batch, &r, &f->err));
                side[s] = r.loss;
            }
            double error = fabs((side[0] - side[1]) / (2 * e) - expected) /
                           (g / sqrt((double)(to - from)) + 1e-4);
            if (error > worst) worst = error;
        }
        check_ok(g > 0 && worst < TOLERANCE, "%s initial %s state: gradient %.3g, error %.2g", what,
                 part ? "scan" : "convolution", g, worst);
    }
    free(state);
    free(moved);
    free(u);
    free(d);
}

/* Against PyTorch's autograd in double precision: tests/golden/make_grads.py says what of. */
static void check_golden(const char *name) {
    char path[256];
    struct fixture f = {0};
    struct sp_model *m;
    struct sp_safetensors *golden, *vectors;
    snprintf(path, sizeof path, "tests/golden/%s", name);
    need(&f, sp_model_open(&m, path, &f.err));
    snprintf(path, sizeof path, "tests/golden/%s/grads.safetensors", name);
    need(&f, sp_safetensors_open(&golden, path, &f.err));
    snprintf(path, sizeof path, "tests/golden/%s/vectors.safetensors", name);
    need(&f, sp_safetensors_open(&vectors, path, &f.err));
    const struct sp_config *c = sp_model_config(m);
    const struct sp_tensor *id = &sp_safetensors_find(vectors, "a.ids")->tensor;
    const struct sp_tensor *target = &sp_safetensors_find(golden, "target")->tensor;
    int head = sp_config_head(c, "tag");
    int64_t cu_seqlens[3] = {0, 40, 65}, n_target = 0;
    need(&f, sp_backend_cpu_new(&f.be, 2, &f.err));
    need(&f, sp_param_set_new(&f.set, c, head < 0 ? c->n_head : (uint32_t)head, &f.err));
    need(&f, sp_train_net_new(&f.net, f.set, f.be, 65, 2, &f.err));
    f.size = sp_param_set_size(f.set);
    size_t n_bytes = (size_t)f.size * sizeof(float);
    f.value = calloc(1, n_bytes);
    f.grad = calloc(1, n_bytes);
    need(&f, sp_param_set_load(f.set, m, f.value, &f.err));
    f.batch = (struct sp_train_batch){
        .n_seq = 2, .cu_seqlens = cu_seqlens, .id = id->data, .target = target->data};
    for (int i = 0; i < 65; i++) n_target += f.batch.target[i] >= 0;
    loss_at(&f, f.value);
    struct sp_train_result r;
    need(&f, sp_train_net_gradient(f.net, &f.batch, 1.0f / (float)n_target, &r, &f.err));
    need(&f, f.be->download(f.be, f.grad, sp_train_net_grads(f.net), n_bytes, &f.err));
    double expected = *(const float *)sp_safetensors_find(golden, "loss")->tensor.data;
    double error = fabs(r.loss / (double)r.n_target / expected - 1);
    check_ok(error < 1e-6, "golden %s: loss %.6f, relative error %.2g", name, expected, error);
    for (int64_t k = 0; k < f.set->n; k++) {
        const struct sp_param *p = &f.set->item[k];
        const struct sp_safetensors_entry *e = sp_safetensors_find(golden, p->name);
        bool same = e && e->tensor.n_bytes == (size_t)p->n * sizeof(float);
        error = same ? check_relative_error(f.grad + p->offset, e->tensor.data, p->n) : 1;
        check_ok(error < GOLDEN_TOLERANCE, "golden %s %s: relative error %.2g", name, p->name,
                 error);
    }
    free(f.value);
    free(f.grad);
    sp_train_net_free(f.net);
    sp_param_set_free(f.set);
    f.be->free(f.be);
    sp_safetensors_free(golden);
    sp_safetensors_free(vectors);
    sp_model_free(m);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    static const struct {
        const char *name;
        bool falcon, bias, lm;
        uint32_t reverse; /* window of the second layer */
    } model[] = {{"mamba-tag", false, false, false, 0},
                 {"mamba-bias-lm-tied", false, true, true, 0},
                 {"falcon-tag", true, false, false, 0},
                 {"mamba-reverse", false, true, false, 32},
                 {"falcon-reverse", true, false, true, 128}};
    for (size_t i = 0; i < sizeof model / sizeof model[0]; i++) {
        struct fixture f;
        if (!check_wanted(model[i].name)) continue;
        fixture_new(&f, model[i].falcon, model[i].bias, model[i].lm, model[i].reverse);
        check_params(&f, model[i].name);
        check_states(&f, model[i].name);
        fixture_free(&f);
    }
    static const char *const golden[] = {"mamba-odd", "mamba-bias", "falcon-odd", "tiny"};
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
        if (check_wanted("golden")) check_golden(golden[i]);
    return check_end();
}
