/* The stream: what is written is read back, bit by bit; what is damaged is refused. */
#include "../../lib/statepipe.h"
#include "../../lib/wire.h"
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static struct sp_error err;

/* Ends the run: nothing can be checked without it. */
static void must(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", err.msg);
    exit(1);
}

static int memory_file(void) {
    int fd = memfd_create("wire", 0);
    if (fd < 0) abort();
    return fd;
}

static struct sp_tensor random_tensor(enum sp_dtype dtype, uint32_t rank, const uint64_t *dim) {
    struct sp_tensor t;
    must(sp_tensor_new(&t, dtype, rank, dim, &err));
    uint8_t *p = t.data;
    for (size_t i = 0; i < t.n_bytes; i++) p[i] = (uint8_t)check_random();
    return t;
}

static struct sp_record *hello_record(enum sp_content content) {
    struct sp_hello h = {.major = SP_STREAM_MAJOR,
                         .minor = SP_STREAM_MINOR,
                         .content = content,
                         .program = "check",
                         .next_layer = 3,
                         .n_layer = 24};
    for (size_t i = 0; i < 16; i++) h.model.byte[i] = (uint8_t)i;
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    must(sp_hello_store(&h, rec, &err));
    return rec;
}

static struct sp_record *numbers(enum sp_kind kind, const char *key, uint64_t v, const char *key2,
                                 uint64_t v2) {
    struct sp_record *rec = sp_record_new(kind);
    must(sp_record_set_u64(rec, key, v, &err));
    if (key2) must(sp_record_set_u64(rec, key2, v2, &err));
    return rec;
}

static struct sp_record *chunk(uint64_t rows, uint64_t d) {
    struct sp_record *rec = numbers(SP_KIND_CHUNK, "doc", 0, "pos", 0);
    uint64_t span[2] = {rows, 2}, hidden[2] = {rows, d};
    struct sp_tensor t = random_tensor(SP_U32, 1, &rows);
    must(sp_record_put_tensor(rec, "ids", &t, &err));
    t = random_tensor(SP_U64, 2, span);
    must(sp_record_put_tensor(rec, "span", &t, &err));
    t = random_tensor(SP_F32, 2, hidden);
    must(sp_record_put_tensor(rec, "hidden", &t, &err));
    return rec;
}

static void send_record(struct sp_writer *w, struct sp_record *rec) {
    must(sp_writer_write(w, rec, &err));
    sp_record_free(rec);
}

static bool same_record(const struct sp_record *a, const struct sp_record *b) {
    bool same = a->kind == b->kind && strcmp(a->kind_name, b->kind_name) == 0 &&
                a->map_bytes == b->map_bytes && memcmp(a->map, b->map, a->map_bytes) == 0 &&
                a->n_tensor == b->n_tensor;
    for (uint32_t i = 0; same && i < a->n_tensor; i++) {
        const struct sp_tensor *s = &a->tensor[i], *t = &b->tensor[i];
        same = strcmp(a->name[i], b->name[i]) == 0 && s->dtype == t->dtype && s->rank == t->rank &&
               memcmp(s->dim, t->dim, sizeof s->dim) == 0 && s->n_bytes == t->n_bytes &&
               ((uintptr_t)t->data & 63) == 0 && memcmp(s->data, t->data, s->n_bytes) == 0;
    }
    return same;
}

static void check_round_trip(void) {
    enum { N = 40 };
    struct sp_record *sent[N];
    int fd = memory_file();
    struct sp_writer *w;
    must(sp_writer_new(&w, fd, "memory", &err));
    for (int i = 0; i < N; i++) {
        if (i == 0)
            sent[i] = hello_record(SP_HIDDEN);
        else if (i == 1)
            sent[i] = numbers(SP_KIND_END, "docs", 0, "errors", 0);
        else if (i == 2)
            sent[i] = hello_record(SP_TOKENS);
        else if (i == N - 1)
            sent[i] = numbers(SP_KIND_END, "docs", 7, "errors", 1);
        else
            sent[i] = chunk((uint64_t)check_random_int(0, 300), (uint64_t)check_random_int(0, 900));
        must(sp_writer_write(w, sent[i], &err));
    }
    must(sp_writer_flush(w, &err));
    sp_writer_free(w);
    lseek(fd, 0, SEEK_SET);
    struct sp_reader *r;
    must(sp_reader_new(&r, fd, "memory", &err));
    bool same = true;
    for (int i = 0; i < N; i++) {
        struct sp_record *rec;
        must(sp_reader_read(r, &rec, &err));
        same = same && rec && same_record(sent[i], rec);
        sp_record_free(rec);
        sp_record_free(sent[i]);
    }
    struct sp_record *rec;
    must(sp_reader_read(r, &rec, &err));
    check_ok(same, "round_trip: %d records come back as they were", N);
    check_ok(!rec, "round_trip: a legal end");
    sp_reader_free(r);
    close(fd);
}

/* The worked example of man 5 statepipe-stream: the suite of the stream compares its bytes. */
static void write_example(void) {
    static const uint32_t ids[2] = {72, 105};
    static const uint64_t span[2][2] = {{0, 1}, {1, 2}};
    struct sp_writer *w;
    struct sp_tensor t;
    must(sp_writer_new(&w, STDOUT_FILENO, "standard output", &err));
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    struct sp_hello hello = {
        .major = 1, .minor = 0, .content = SP_TOKENS, .program = "tokenize", .model_dir = ""};
    must(sp_hello_store(&hello, rec, &err));
    send_record(w, rec);
    rec = sp_record_new(SP_KIND_DOC);
    must(sp_record_set_str(rec, "id", "a.txt", 5, &err));
    must(sp_record_set_u64(rec, "doc", 0, &err));
    send_record(w, rec);
    rec = numbers(SP_KIND_TEXT, "doc", 0, "off", 0);
    must(sp_tensor_new(&t, SP_U8, 1, (uint64_t[]){2}, &err));
    memcpy(t.data, "Hi", 2);
    must(sp_record_put_tensor(rec, "text", &t, &err));
    send_record(w, rec);
    rec = numbers(SP_KIND_CHUNK, "doc", 0, "pos", 0);
    must(sp_record_set_u64(rec, "pass", 0, &err));
    must(sp_record_set_bool(rec, "last", true, &err));
    must(sp_tensor_new(&t, SP_U32, 1, (uint64_t[]){2}, &err));
    memcpy(t.data, ids, sizeof ids);
    must(sp_record_put_tensor(rec, "ids", &t, &err));
    must(sp_tensor_new(&t, SP_U64, 2, (uint64_t[]){2, 2}, &err));
    memcpy(t.data, span, sizeof span);
    must(sp_record_put_tensor(rec, "span", &t, &err));
    send_record(w, rec);
    rec = numbers(SP_KIND_DOCEND, "doc", 0, "n_tok", 2);
    must(sp_record_set_str(rec, "status", "ok", 2, &err));
    send_record(w, rec);
    rec = numbers(SP_KIND_END, "docs", 1, "errors", 0);
    must(sp_record_set_u64(rec, "open", 0, &err));
    send_record(w, rec);
    must(sp_writer_flush(w, &err));
    sp_writer_free(w);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--example") == 0) return write_example(), 0;
    check_start(argc, argv);
    if (check_wanted("round_trip")) check_round_trip();
    return check_end();
}
