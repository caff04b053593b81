/* The stream: what is written is read back, bit by bit; what is damaged is refused. */
#include "../../lib/statepipe.h"
#include "../../lib/wire.h"
#include "check.h"
#include "stream.h"

#include <fcntl.h>

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
    int fd = memory_file(NULL, 0);
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
            sent[i] = chunk(0, (uint64_t)check_random_int(0, 300), (uint64_t)check_random_int(0, 900));
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
