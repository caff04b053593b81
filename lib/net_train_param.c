/* Parameters: which tensors a model has, where they lie in the flat buffers, how they begin. */
#include "train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tensors of a layer and outside of them, an upper bound. */
#define PER_LAYER_MAX 12
#define OUTSIDE_MAX (3 + 2 * SP_HEADS_MAX)

#define PARAMS_MAX ((int64_t)1 << 33) /* floats: far beyond what a CPU trains */

#define DT_MIN 1e-3
#define DT_MAX 1e-1
#define DT_FLOOR 1e-4
#define NORMAL_STD 0.02

uint64_t sp_random_next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Uniform in [0, 1). */
static double random_unit(uint64_t *state) {
    return (double)(sp_random_next(state) >> 11) * 0x1p-53;
}

/* Box and Muller's transform; one of its two values is enough here. */
static double random_normal(uint64_t *state) {
    double u = 1 - random_unit(state), v = random_unit(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

struct shape {
    uint32_t rank;
    int64_t dim[3];
};
#define SHAPE1(a) ((struct shape){1, {(a), 1, 1}})
#define SHAPE2(a, b) ((struct shape){2, {(a), (b), 1}})
#define SHAPE3(a, b, c) ((struct shape){3, {(a), (b), (c)}})

/* Appends a parameter; *slot (if any) will be its offset once the parts are laid out: until then it
 * holds the parameter's index. */
static void add(struct sp_param_set *set, int64_t *slot, enum sp_param_part part,
                enum sp_param_init init, struct shape shape, const char *name) {
    struct sp_param *p = &set->item[set->n];
    if (slot) *slot = set->n;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->part = part;
    p->init = init;
    p->rank = shape.rank;
    p->n = 1;
    for (uint32_t i = 0; i < shape.rank; i++) {
        p->dim[i] = (uint64_t)shape.dim[i];
        p->n *= shape.dim[i];
    }
    set->n++;
}

static void add_layer(struct sp_param_set *set, int64_t index) {
    const struct sp_config *c = &set->config;
    struct sp_layer_offsets *l = &set->layer[index];
    const enum sp_param_part mat = SP_PARAM_DECAYED, vec = SP_PARAM_UNDECAYED;
    char name[SP_PARAM_NAME_MAX];
    int64_t di = c->d_inner;
#define NAMED(suffix)                                                                              \
    (snprintf(name, sizeof name, "backbone.layers.%lld." suffix, (long long)index), name)
    add(set, &l->norm, vec, SP_INIT_ONES, SHAPE1(c->d_model), NAMED("norm.weight"));
    add(set, &l->in_w, mat, SP_INIT_UNIFORM, SHAPE2(2 * di, c->d_model),
        NAMED("mixer.in_proj.weight"));
    if (c->use_bias)
        add(set, &l->in_b, vec, SP_INIT_ZEROS, SHAPE1(2 * di), NAMED("mixer.in_proj.bias"));
    add(set, &l->conv_w, mat, SP_INIT_UNIFORM, SHAPE3(di, 1, c->d_conv),
        NAMED("mixer.conv1d.weight"));
    if (c->use_conv_bias)
        add(set, &l->conv_b, vec, SP_INIT_ZEROS, SHAPE1(di), NAMED("mixer.conv1d.bias"));
    add(set, &l->x_w, mat, SP_INIT_UNIFORM, SHAPE2(c->dt_rank + 2 * c->d_state, di),
        NAMED("mixer.x_proj.weight"));
    add(set, &l->dt_w, mat, SP_INIT_DT, SHAPE2(di, c->dt_rank), NAMED("mixer.dt_proj.weight"));
    add(set, &l->dt_b, vec, SP_INIT_DT_BIAS, SHAPE1(di), NAMED("mixer.dt_proj.bias"));
    add(set, &l->a_log, SP_PARAM_A_LOG, SP_INIT_A_LOG, SHAPE2(di, c->d_state),
        NAMED("mixer.A_log"));
    add(set, &l->d, vec, SP_INIT_ONES, SHAPE1(di), NAMED("mixer.D"));
    add(set, &l->out_w, mat, SP_INIT_OUT, SHAPE2(c->d_model, di), NAMED("mixer.out_proj.weight"));
    if (c->use_bias)
        add(set, &l->out_b, vec, SP_INIT_ZEROS, SHAPE1(c->d_model), NAMED("mixer.out_proj.bias"));
#undef NAMED
}

/* Heads of the model's own: tags and classes. A head of type lm is the language model's. */
static void add_heads(struct sp_param_set *set) {
    const struct sp_config *c = &set->config;
    char name[SP_PARAM_NAME_MAX];
    for (uint32_t i = 0; i < c->n_head; i++) {
        const struct sp_head *h = &c->head[i];
        bool trained = i == set->head;
        if (h->type == SP_HEAD_LM) continue;
        snprintf(name, sizeof name, "statepipe.%s.weight", h->name);
        add(set, trained ? &set->head_w : NULL, trained ? SP_PARAM_DECAYED : SP_PARAM_FROZEN,
            SP_INIT_NORMAL, SHAPE2(h->n_label, c->d_model), name);
        snprintf(name, sizeof name, "statepipe.%s.bias", h->name);
        add(set, trained ? &set->head_b : NULL, trained ? SP_PARAM_UNDECAYED : SP_PARAM_FROZEN,
            SP_INIT_ZEROS, SHAPE1(h->n_label), name);
    }
}

/* Replaces an index by the parameter's offset. */
static void resolve(const struct sp_param_set *set, int64_t *slot) {
    if (*slot >= 0) *slot = set->item[*slot].offset;
}

static void lay_out(struct sp_param_set *set) {
    int64_t at = 0;
    for (int part = 0; part < SP_PARAM_PART_COUNT; part++) {
        at = (at + SP_PARAM_ALIGN - 1) / SP_PARAM_ALIGN * SP_PARAM_ALIGN;
        set->part[part] = at;
        for (int64_t i = 0; i < set->n; i++) {
            struct sp_param *p = &set->item[i];
            if ((int)p->part != part) continue;
            if (part != SP_PARAM_A_LOG)
                at = (at + SP_PARAM_ALIGN - 1) / SP_PARAM_ALIGN * SP_PARAM_ALIGN;
            p->offset = at;
            at += p->n;
        }
    }
    set->part[SP_PARAM_PART_COUNT] = at;
    resolve(set, &set->embed);
    resolve(set, &set->norm_f);
    resolve(set, &set->head_w);
    resolve(set, &set->head_b);
    for (int64_t i = 0; i < set->config.n_layer; i++) {
        struct sp_layer_offsets *l = &set->layer[i];
        int64_t *slot[] = {&l->norm, &l->in_w, &l->in_b,  &l->conv_w, &l->conv_b, &l->x_w,
                           &l->dt_w, &l->dt_b, &l->a_log, &l->d,      &l->out_w,  &l->out_b};
        for (size_t k = 0; k < sizeof slot / sizeof slot[0]; k++) resolve(set, slot[k]);
    }
}

/* The number of floats, in floating point so that it cannot wrap. */
static double size_of(const struct sp_config *c) {
    double di = (double)c->d_inner, d = (double)c->d_model, r = (double)c->dt_rank;
    double s = (double)c->d_state;
    double layer = di * (3 * d + (double)c->d_conv + 2 * r + 3 * s + 6) + 2 * d;
    return layer * (double)c->n_layer + 2 * d * (double)c->vocab_size;
}

enum sp_code sp_param_set_new(struct sp_param_set **out, const struct sp_config *config,
                              uint32_t head, struct sp_error *err) {
    *out = NULL;
    if (head > config->n_head)
        return sp_error_set(err, SP_E_BUG, "head %u of %u", head, config->n_head);
    if (size_of(config) > (double)PARAMS_MAX)
        return sp_error_set(err, SP_E_DATA, "a model of %.0f parameters is too large to train",
                            size_of(config));
    struct sp_param_set *set = calloc(1, sizeof *set);
    size_t n_layer = (size_t)config->n_layer;
    if (set) set->item = calloc(n_layer * PER_LAYER_MAX + OUTSIDE_MAX, sizeof *set->item);
    if (set) set->layer = malloc((n_layer + 1) * sizeof *set->layer);
    if (!set || !set->item || !set->layer) {
        sp_param_set_free(set);
        return sp_error_memory(err, "the list of parameters");
    }
    memset(set->layer, -1, (n_layer + 1) * sizeof *set->layer);
    set->config = *config;
    set->head = head;
    bool lm = head == config->n_head || config->head[head].type == SP_HEAD_LM;
    set->n_class = lm ? config->vocab_size : config->head[head].n_label;
    set->head_w = set->head_b = -1;
    add(set, &set->embed, SP_PARAM_DECAYED, SP_INIT_NORMAL,
        SHAPE2(config->vocab_size, config->d_model), "backbone.embeddings.weight");
    for (int64_t i = 0; i < config->n_layer; i++) add_layer(set, i);
    add(set, &set->norm_f, SP_PARAM_UNDECAYED, SP_INIT_ONES, SHAPE1(config->d_model),
        "backbone.norm_f.weight");
    if (!config->tied)
        add(set, lm ? &set->head_w : NULL, lm ? SP_PARAM_DECAYED : SP_PARAM_FROZEN, SP_INIT_NORMAL,
            SHAPE2(config->vocab_size, config->d_model), "lm_head.weight");
    add_heads(set);
    lay_out(set);
    if (lm && config->tied) set->head_w = set->embed;
    *out = set;
    return SP_OK;
}

void sp_param_set_free(struct sp_param_set *set) {
    if (!set) return;
    free(set->item);
    free(set->layer);
    free(set);
}

int64_t sp_param_set_size(const struct sp_param_set *set) {
    return set->part[SP_PARAM_PART_COUNT];
}

static double draw(const struct sp_param_set *set, const struct sp_param *p, int64_t i,
                   uint64_t *state) {
    const struct sp_config *c = &set->config;
    double fan_in = (double)p->dim[p->rank - 1];
    switch (p->init) {
    case SP_INIT_ONES: return 1;
    case SP_INIT_ZEROS: return 0;
    case SP_INIT_NORMAL: return NORMAL_STD * random_normal(state);
    case SP_INIT_UNIFORM: return (2 * random_unit(state) - 1) / sqrt(fan_in);
    case SP_INIT_OUT: return (2 * random_unit(state) - 1) / sqrt(fan_in * (double)c->n_layer);
    case SP_INIT_DT: return (2 * random_unit(state) - 1) / sqrt((double)c->dt_rank);
    case SP_INIT_DT_BIAS: {
        double dt = exp(log(DT_MIN) + random_unit(state) * (log(DT_MAX) - log(DT_MIN)));
        if (dt < DT_FLOOR) dt = DT_FLOOR;
        return dt + log(-expm1(-dt));
    }
    case SP_INIT_A_LOG: return log((double)(i % c->d_state + 1));
    }
    return 0;
}

void sp_param_set_init(const struct sp_param_set *set, uint64_t seed, float *value) {
    memset(value, 0, (size_t)sp_param_set_size(set) * sizeof *value);
    for (int64_t k = 0; k < set->n; k++) {
        const struct sp_param *p = &set->item[k];
        /* A stream of numbers per tensor: another head or layer does not change the others. */
        uint64_t state = seed * 0x9E3779B97F4A7C15u;
        for (const char *c = p->name; *c; c++) state = (state ^ (unsigned char)*c) * 0x100000001B3u;
        for (int64_t i = 0; i < p->n; i++) value[p->offset + i] = (float)draw(set, p, i, &state);
    }
}

enum sp_code sp_param_set_load(const struct sp_param_set *set, const struct sp_model *m,
                               float *value, struct sp_error *err) {
    for (int64_t k = 0; k < set->n; k++) {
        const struct sp_param *p = &set->item[k];
        const struct sp_tensor *t = sp_model_tensor(m, p->name);
        bool head = strncmp(p->name, "statepipe.", 10) == 0;
        if (!t && head) continue;
        if (!t) return sp_error_set(err, SP_E_DATA, "%s has no %s", sp_model_dir(m), p->name);
        bool same = t->rank == p->rank;
        for (uint32_t i = 0; same && i < p->rank; i++) same = t->dim[i] == p->dim[i];
        if (!same && head)
            return sp_error_set(err, SP_E_DATA,
                                "%s of %s has another number of labels than the config", p->name,
                                sp_model_dir(m));
        if (!same)
            return sp_error_set(err, SP_E_DATA, "%s of %s is not of the shape the config asks for",
                                p->name, sp_model_dir(m));
        sp_tensor_to_f32(value + p->offset, t->data, t->dtype, (size_t)p->n);
    }
    return SP_OK;
}
