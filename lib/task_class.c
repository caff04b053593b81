/* Classes of a whole document. */
#include "task.h"

#include <math.h>
#include <stdlib.h>

static int by_p(const void *a, const void *b) {
    const struct sp_class *x = a, *y = b;
    return x->p > y->p ? -1 : x->p < y->p;
}

enum sp_code sp_classes_from_scores(const struct sp_head *head, const float *scores,
                                    struct sp_class *class, struct sp_error *err) {
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < head->n_label; i++) {
        if (!isfinite(scores[i]))
            return sp_error_set(err, SP_E_DATA, "the score of class '%s' is not finite",
                                head->label[i]);
        most = scores[i] > most ? (double)scores[i] : most;
    }
    for (uint32_t i = 0; i < head->n_label; i++) sum += exp((double)scores[i] - most);
    for (uint32_t i = 0; i < head->n_label; i++)
        class[i] = (struct sp_class){.label = head->label[i],
                                     .p = (float)(exp((double)scores[i] - most) / sum)};
    qsort(class, head->n_label, sizeof *class, by_p);
    return SP_OK;
}
