/* Rows of documents that were left open: kept by id, taken once or forked, the oldest forgotten. */
#include "../../lib/left_open.h"
#include "check.h"

#define WIDTH 3

static struct sp_record *doc(const char *id, bool fork) {
    struct sp_error err;
    struct sp_record *rec = sp_record_new(SP_KIND_DOC);
    if (!rec || sp_record_set_str(rec, "id", id, strlen(id), &err) ||
        (fork && sp_record_set_bool(rec, "fork", true, &err)))
        abort();
    return rec;
}

static void keep(struct sp_left_open **list, const char *id, float value) {
    struct sp_error err;
    float row[WIDTH] = {value, value + 1, value + 2};
    if (sp_left_open_keep(list, id, strlen(id), row, WIDTH, &err)) abort();
}

/* The first number of the row; -1: there is none, and the row is as it was. */
static float take(struct sp_left_open **list, const char *id, bool fork) {
    float row[WIDTH] = {-1, -1, -1};
    struct sp_record *rec = doc(id, fork);
    bool there = sp_left_open_take(list, rec, row, WIDTH);
    sp_record_free(rec);
    if (there ? row[2] != row[0] + 2 : row[2] != -1) return -2;
    return row[0];
}

int main(int argc, char **argv) {
    struct sp_left_open *list = NULL;
    char id[16];
    check_start(argc, argv);
    check_ok(take(&list, "a", false) == -1, "nothing is open");
    keep(&list, "a", 5);
    keep(&list, "ab", 6);
    keep(&list, "", 7);
    check_ok(take(&list, "b", false) == -1, "another id");
    check_ok(take(&list, "a", true) == 5 && take(&list, "a", true) == 5, "forks leave it open");
    check_ok(take(&list, "a", false) == 5 && take(&list, "a", false) == -1, "it goes on once");
    check_ok(take(&list, "", false) == 7 && take(&list, "ab", false) == 6, "the others are there");
    for (int i = 0; i < SP_LEFT_OPEN_MAX + 2; i++) {
        snprintf(id, sizeof id, "%d", i);
        keep(&list, id, (float)i);
    }
    check_ok(take(&list, "0", false) == -1 && take(&list, "1", false) == -1, "the oldest are gone");
    bool all = true;
    for (int i = 2; i < SP_LEFT_OPEN_MAX + 2; i++) {
        snprintf(id, sizeof id, "%d", i);
        all = all && take(&list, id, i % 2) == (float)i;
    }
    check_ok(all, "%d stay", SP_LEFT_OPEN_MAX);
    sp_left_open_free(list);
    return check_end();
}
