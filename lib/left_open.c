/* Documents that were left open. */
#include "left_open.h"

#include <stdlib.h>
#include <string.h>

struct sp_left_open {
    struct sp_left_open *next;
    char *id; /* (n_id) */
    size_t n_id;
    float row[];
};

static void remove_one(struct sp_left_open **at) {
    struct sp_left_open *o = *at;
    *at = o->next;
    free(o->id);
    free(o);
}

void sp_left_open_free(struct sp_left_open *list) {
    while (list) remove_one(&list);
}

enum sp_code sp_left_open_keep(struct sp_left_open **list, const char *id, size_t n_id,
                               const float *row, size_t n, struct sp_error *err) {
    struct sp_left_open *o = malloc(sizeof *o + n * sizeof *row);
    char *copy = malloc(n_id + 1);
    if (!o || !copy) {
        free(o);
        free(copy);
        return sp_error_memory(err, "an open document");
    }
    memcpy(copy, id, n_id);
    memcpy(o->row, row, n * sizeof *row);
    o->id = copy;
    o->n_id = n_id;
    o->next = *list;
    *list = o;
    for (size_t i = 0; *list; i++, list = &(*list)->next)
        if (i == SP_LEFT_OPEN_MAX) {
            remove_one(list);
            break;
        }
    return SP_OK;
}

bool sp_left_open_take(struct sp_left_open **list, const struct sp_record *doc, float *row,
                       size_t n) {
    const char *id = "";
    size_t n_id = 0;
    bool fork = false;
    sp_record_get_str(doc, "id", &id, &n_id);
    sp_record_get_bool(doc, "fork", &fork);
    while (*list && ((*list)->n_id != n_id || memcmp((*list)->id, id, n_id) != 0))
        list = &(*list)->next;
    if (!*list) return false;
    memcpy(row, (*list)->row, n * sizeof *row);
    if (!fork) remove_one(list);
    return true;
}
