/* safetensors: round trips, every cut, flipped bits, forged headers. */
#include "check.h"

#include "../../lib/safetensors.h"

static struct sp_error err;

/* A file in memory: header size, header, n_data bytes counting up. free() it. */
static uint8_t *forge(const char *header, size_t n_data, size_t *n) {
    size_t n_header = strlen(header);
    *n = 8 + n_header + n_data;
    uint8_t *file = malloc(*n);
    for (size_t i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)n_header >> (8 * i));
    memcpy(file + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++) file[8 + n_header + i] = (uint8_t)i;
    return file;
}

/* Sums every byte of every tensor, so that a sanitizer sees a table that points outside. */
static unsigned touch(const struct sp_safetensors *st) {
    unsigned sum = 0;
    for (size_t i = 0; i < sp_safetensors_count(st); i++) {
        const struct sp_tensor *t = &sp_safetensors_entry(st, i)->tensor;
        for (size_t k = 0; t->data && k < t->n_bytes; k++) sum += ((const uint8_t *)t->data)[k];
    }
    return sum;
}

#define N_RANDOM 20
static struct sp_named_tensor tensors[N_RANDOM];
static char names[N_RANDOM][32];

static void make_random(void) {
    static const enum sp_dtype kinds[] = {SP_F32, SP_BF16, SP_F16, SP_I64, SP_U8};
    for (size_t i = 0; i < N_RANDOM; i++) {
        struct sp_tensor *t = &tensors[i].tensor;
        *t = (struct sp_tensor){.dtype = kinds[check_random_int(0, 4)],
                                .rank = (uint32_t)check_random_int(0, 3)};
        for (uint32_t d = 0; d < t->rank; d++) t->dim[d] = (uint64_t)check_random_int(0, 6);
        sp_tensor_bytes(t->dtype, t->rank, t->dim, &t->n_bytes);
        t->data = malloc(t->n_bytes + 1);
        for (size_t k = 0; k < t->n_bytes; k++) ((uint8_t *)t->data)[k] = (uint8_t)check_random();
        snprintf(names[i], sizeof names[i], "t%llu.%zu", (unsigned long long)check_random() % 100,
                 i);
        tensors[i].name = names[i];
    }
}

static void free_random(void) {
    for (size_t i = 0; i < N_RANDOM; i++) free(tensors[i].tensor.data);
}

static bool same_as_written(const struct sp_safetensors *st) {
    for (size_t i = 0; i < N_RANDOM; i++) {
        const struct sp_safetensors_entry *e = sp_safetensors_find(st, names[i]);
        const struct sp_tensor *t = &tensors[i].tensor;
        if (!e || !e->readable || e->tensor.dtype != t->dtype || e->tensor.rank != t->rank ||
            e->tensor.n_bytes != t->n_bytes ||
            memcmp(e->tensor.dim, t->dim, t->rank * sizeof t->dim[0]) != 0 ||
            (t->n_bytes && memcmp(e->tensor.data, t->data, t->n_bytes) != 0))
            return false;
    }
    return sp_safetensors_count(st) == N_RANDOM;
}

static void check_round_trip(void) {
    bool same = true;
    size_t unaligned = 0;
    for (int round = 0; round < 50 && same; round++) {
        make_random();
        char *file = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&file, &n);
        same = sp_safetensors_write(f, tensors, N_RANDOM, &err) == SP_OK;
        fclose(f);
        struct sp_safetensors *st = NULL;
        same = same && sp_safetensors_parse(&st, file, n, "memory", &err) == SP_OK &&
               same_as_written(st) && !sp_safetensors_find(st, "no such name");
        for (size_t i = 0; same && i < N_RANDOM; i++) {
            const struct sp_tensor *t = &sp_safetensors_entry(st, i)->tensor;
            if ((uintptr_t)t->data % sp_dtype_size(t->dtype)) unaligned++;
        }
        sp_safetensors_free(st);
        free(file);
        free_random();
    }
    check_ok(same, "what is written is read again");
    check_ok(unaligned == 0, "every tensor is handed out aligned to its elements");
}

static void check_damage(void) {
    make_random();
    char *file = NULL;
    size_t n = 0, accepted = 0;
    volatile unsigned sum = 0; /* keeps the reads */
    FILE *f = open_memstream(&file, &n);
    sp_safetensors_write(f, tensors, N_RANDOM, &err);
    fclose(f);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *copy = malloc(cut + 1); /* of exact size: reading on is seen */
        copy = realloc(copy, cut ? cut : 1);
        memcpy(copy, file, cut);
        struct sp_safetensors *st = NULL;
        accepted += sp_safetensors_parse(&st, copy, cut, "cut", &err) == SP_OK;
        sp_safetensors_free(st);
        free(copy);
    }
    check_ok(accepted == 0, "a file cut off anywhere is refused (%zu were not)", accepted);
    for (int i = 0; i < 4000; i++) {
        size_t at = (size_t)check_random_int(0, (int64_t)n - 1);
        char bit = (char)(1 << check_random_int(0, 7));
        file[at] = (char)(file[at] ^ bit);
        struct sp_safetensors *st = NULL;
        if (sp_safetensors_parse(&st, file, n, "flipped", &err) == SP_OK) {
            sum += touch(st);
            accepted++;
        }
        sp_safetensors_free(st);
        file[at] = (char)(file[at] ^ bit);
    }
    check_ok(accepted > 0 && accepted < 4000,
             "flipped bits are refused, or leave a table that can be read (%zu of 4000)", accepted);
    free(file);
    free_random();
}

static void check_forged(void) {
    static const struct {
        const char *header, *says;
        size_t n_data;
    } cases[] = {
        {"[]", "not a safetensors file", 0},
        {"{", "", 0},
        {"{\"a\":1}", "dtype", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "outside", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "follow", 9},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", "gap", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", "size", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "outside", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "negative", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}}", "negative", 8},
        {"{\"a\":{\"dtype\":\"Q4\",\"shape\":[2],\"data_offsets\":[0,8]}}", "dtype", 8},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
         "at most 8", 1},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
         "too large", 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         "overlap", 3},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         "twice", 2},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "name", 1},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "name", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n;
        uint8_t *file = forge(cases[i].header, cases[i].n_data, &n);
        struct sp_safetensors *st = NULL;
        enum sp_code code = sp_safetensors_parse(&st, file, n, "forged", &err);
        check_ok(code == SP_E_DATA && strstr(err.msg, cases[i].says), "refused: %.70s (%s)",
                 cases[i].header, code ? err.msg : "accepted");
        sp_safetensors_free(st);
        free(file);
    }
    uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    struct sp_safetensors *st = NULL;
    check_ok(sp_safetensors_parse(&st, huge, sizeof huge, "huge", &err) == SP_E_DATA,
             "refused: a header of 2^64 - 1 bytes");
}

static void check_tolerated(void) {
    size_t n;
    uint8_t *file = forge("{\"__metadata__\":{\"format\":\"pt\"},"
                          "\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}, "
                          "\"c\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[12,12]}}",
                          12, &n);
    struct sp_safetensors *st = NULL;
    enum sp_code code = sp_safetensors_parse(&st, file, n, "memory", &err);
    check_ok(code == SP_OK && sp_safetensors_count(st) == 3, "three tensors, one of them empty");
    const struct sp_safetensors_entry *a = code ? NULL : sp_safetensors_find(st, "a");
    const struct sp_safetensors_entry *b = code ? NULL : sp_safetensors_find(st, "b");
    check_ok(a && !a->readable && !a->tensor.data && strcmp(a->dtype_name, "F64") == 0,
             "a tensor of a dtype without use is in the table, without data");
    uint8_t want[4] = {8, 9, 10, 11};
    check_ok(b && b->tensor.rank == 0 && memcmp(b->tensor.data, want, 4) == 0,
             "a scalar, unaligned in the file, is read");
    sp_safetensors_free(st);
    free(file);
    check_ok(sp_safetensors_open(&st, "/nonexistent/model.safetensors", &err) == SP_E_NOINPUT,
             "a file that is not there: %s", err.msg);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("round_trip")) check_round_trip();
    if (check_wanted("damage")) check_damage();
    if (check_wanted("forged")) check_forged();
    if (check_wanted("tolerated")) check_tolerated();
    return check_end();
}
