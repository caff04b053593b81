/* The optimiser: AdamW (arXiv 1711.05101) over the parts of the flat buffers. */
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum sp_code sp_optimiser_init(struct sp_optimiser *o, const struct sp_adamw_options *options,
                               const struct sp_param_set *set, struct sp_backend *be,
                               struct sp_train_net *net, struct sp_error *err) {
    size_t n_bytes = (size_t)sp_param_set_size(set) * sizeof(float);
    void *p;
    *o = (struct sp_optimiser){.options = *options, .set = set, .be = be, .net = net};
    SP_TRY(be->alloc(be, n_bytes, &p, err));
    o->m = p;
    SP_TRY(be->alloc(be, n_bytes, &p, err));
    o->v = p;
    if (options->ema <= 0) return SP_OK;
    o->ema = malloc(n_bytes);
    o->scratch = malloc(n_bytes);
    if (!o->ema || !o->scratch) return sp_error_memory(err, "the average of the weights");
    return be->download(be, o->ema, sp_train_net_values(net), n_bytes, err);
}

void sp_optimiser_clear(struct sp_optimiser *o) {
    if (!o->be) return;
    o->be->release(o->be, o->m);
    o->be->release(o->be, o->v);
    free(o->ema);
    free(o->scratch);
    *o = (struct sp_optimiser){0};
}

double sp_optimiser_lr(const struct sp_adamw_options *options, int64_t step, double progress) {
    double cosine = 0.5 * (1 + cos(3.141592653589793 * (progress < 1 ? progress : 1)));
    double lr = options->lr_min + (options->lr - options->lr_min) * cosine;
    if (step < options->warmup) lr *= (double)(step + 1) / (double)(options->warmup + 1);
    return lr;
}

static enum sp_code update(struct sp_optimiser *o, int64_t from, int64_t to, double weight_decay,
                           double lr, double grad_scale, struct sp_error *err) {
    const struct sp_adamw_options *p = &o->options;
    double t = (double)o->step;
    struct sp_adamw a = {.param = sp_train_net_values(o->net) + from,
                         .m = o->m + from,
                         .v = o->v + from,
                         .grad = sp_train_net_grads(o->net) + from,
                         .lr = (float)lr,
                         .beta1 = (float)p->beta1,
                         .beta2 = (float)p->beta2,
                         .eps = (float)p->eps,
                         .weight_decay = (float)weight_decay,
                         .bias1 = (float)(1 - pow(p->beta1, t)),
                         .bias2 = (float)(1 - pow(p->beta2, t)),
                         .grad_scale = (float)grad_scale};
    return o->be->adamw(o->be, &a, to - from, err);
}

/* Early on the average would remember the random start: it looks back over a tenth of the run. */
static enum sp_code average(struct sp_optimiser *o, struct sp_error *err) {
    int64_t n = sp_param_set_size(o->set);
    double t = (double)o->step, decay = (1 + t) / (10 + t);
    if (decay > o->options.ema) decay = o->options.ema;
    float keep = (float)decay, take = (float)(1 - decay);
    SP_TRY(o->be->download(o->be, o->scratch, sp_train_net_values(o->net),
                           (size_t)n * sizeof *o->scratch, err));
    for (int64_t i = 0; i < n; i++) o->ema[i] = keep * o->ema[i] + take * o->scratch[i];
    return SP_OK;
}

enum sp_code sp_optimiser_step(struct sp_optimiser *o, double progress, double *norm,
                               struct sp_error *err) {
    const int64_t *part = o->set->part;
    double squares, lr = sp_optimiser_lr(&o->options, o->step, progress);
    SP_TRY(o->be->sum_squares(o->be, sp_train_net_grads(o->net), part[SP_PARAM_FROZEN], &squares,
                              err));
    *norm = sqrt(squares);
    if (!isfinite(*norm))
        return sp_error_set(err, SP_E_DATA,
                            "the gradient is not finite at step %lld: try a lower --lr or --clip",
                            (long long)o->step + 1);
    double scale = o->options.clip > 0 && *norm > o->options.clip ? o->options.clip / *norm : 1;
    o->step++;
    SP_TRY(update(o, part[SP_PARAM_DECAYED], part[SP_PARAM_UNDECAYED], o->options.weight_decay, lr,
                  scale, err));
    SP_TRY(update(o, part[SP_PARAM_UNDECAYED], part[SP_PARAM_FROZEN], 0, lr, scale, err));
    SP_TRY(sp_train_net_refresh(o->net, err));
    return o->ema ? average(o, err) : SP_OK;
}

enum sp_code sp_optimiser_weights(struct sp_optimiser *o, float *value, struct sp_error *err) {
    size_t n_bytes = (size_t)sp_param_set_size(o->set) * sizeof *value;
    if (!o->ema) return o->be->download(o->be, value, sp_train_net_values(o->net), n_bytes, err);
    memcpy(value, o->ema, n_bytes);
    return SP_OK;
}
