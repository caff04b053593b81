/* Which file names a run has given away. */
#include "taken.h"

#include "io.h"

#include <stdlib.h>
#include <string.h>

#define COMPONENT_BYTES_MAX 240 /* 255 on most systems, less what a temporary name adds */

struct sp_taken_slot {
    struct sp_hash hash;
    uint64_t number; /* and 1; 0: free */
};

static struct sp_taken_slot *find(const struct sp_taken *t, const struct sp_hash *hash) {
    uint64_t at;
    memcpy(&at, hash->byte, sizeof at);
    for (at &= t->cap - 1; t->slot[at].number; at = (at + 1) & (t->cap - 1))
        if (sp_hash_equal(&t->slot[at].hash, hash)) break;
    return &t->slot[at];
}

/* Half of the slots stay free. */
static enum sp_code make_room(struct sp_taken *t, struct sp_error *err) {
    if (2 * (t->n + 1) <= t->cap) return SP_OK;
    struct sp_taken more = {.n = t->n, .cap = t->cap ? 2 * t->cap : 64};
    more.slot = calloc(more.cap, sizeof *more.slot);
    if (!more.slot) return sp_error_memory(err, "the names of files");
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i].number) *find(&more, &t->slot[i].hash) = t->slot[i];
    free(t->slot);
    *t = more;
    return SP_OK;
}

static enum sp_code check_length(const char *path, struct sp_error *err) {
    for (const char *p = path; *p; p += *p == '/') {
        size_t n = strcspn(p, "/");
        if (n > COMPONENT_BYTES_MAX)
            return sp_error_set(err, SP_E_DATA,
                                "the file's name has %zu bytes, more than %d: %.60s...; use %%n "
                                "(the number) in place of %%i",
                                n, COMPONENT_BYTES_MAX, p);
        p += n;
    }
    return SP_OK;
}

enum sp_code sp_taken_add(struct sp_taken *t, const char *path, uint64_t number,
                          struct sp_error *err) {
    struct sp_hash hash;
    enum sp_code code = check_length(path, err);
    if (!code) code = make_room(t, err);
    if (code) return code;
    sp_hash_bytes(&hash, path, strlen(path));
    struct sp_taken_slot *slot = find(t, &hash);
    if (slot->number)
        return sp_error_set(err, SP_E_DATA,
                            "its file would be %.300s, which is that of number %llu of this run "
                            "already: use %%n (the number) in the name",
                            path, (unsigned long long)slot->number - 1);
    *slot = (struct sp_taken_slot){hash, number + 1};
    t->n++;
    return SP_OK;
}

void sp_taken_clear(struct sp_taken *t) {
    free(t->slot);
    *t = (struct sp_taken){0};
}
