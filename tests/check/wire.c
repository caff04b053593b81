/* The stream: what is written is read back, bit by bit; records, the writer, HELLO. */
#include "../../lib/io.h"
#include "../../lib/statepipe.h"
#include "../../lib/wire.h"
#include "check.h"
#include "stream.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

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
            sent[i] =
                chunk(0, (uint64_t)check_random_int(0, 300), (uint64_t)check_random_int(0, 900));
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
    check_ok(!rec && sp_reader_offset(r) == (uint64_t)lseek(fd, 0, SEEK_END),
             "round_trip: a legal end, at the right offset");
    sp_reader_free(r);
    close(fd);
}

/* ---- records ---- */

static void check_fields(void) {
    struct sp_record *rec = sp_record_new(SP_KIND_DOC);
    const char *s;
    const void *p;
    uint64_t u = 5;
    bool b = false;
    double f = 0;
    size_t n;
    must(sp_record_set_u64(rec, "u", UINT64_MAX, &err));
    must(sp_record_set_bool(rec, "b", true, &err));
    must(sp_record_set_f64(rec, "f", 1.5, &err));
    must(sp_record_set_str(rec, "s", "a\0b", 3, &err));
    must(sp_record_set_bin(rec, "p", "xyz", 3, &err));
    must(sp_record_set_raw(rec, "raw", "\x93\x01\x02\x03", 4, &err));
    check_ok(sp_record_get_u64(rec, "u", &u) && u == UINT64_MAX &&
                 sp_record_get_bool(rec, "b", &b) && b && sp_record_get_f64(rec, "f", &f) &&
                 f == 1.5 && sp_record_get_str(rec, "s", &s, &n) && n == 3 &&
                 memcmp(s, "a\0b", 3) == 0 && sp_record_get_bin(rec, "p", &p, &n) && n == 3 &&
                 memcmp(p, "xyz", 3) == 0 && sp_record_get_raw(rec, "raw", &p, &n) && n == 4 &&
                 memcmp(p, "\x93\x01\x02\x03", 4) == 0,
             "fields: every type comes back");
    u = 5;
    check_ok(!sp_record_get_u64(rec, "f", &u) && !sp_record_get_u64(rec, "none", &u) &&
                 !sp_record_get_u64(rec, "raw", &u) && !sp_record_get_str(rec, "p", &s, &n) &&
                 !sp_record_get_bool(rec, "u", &b) && u == 5,
             "fields: another type, or no such key, is refused and changes nothing");
    must(sp_record_set_bool(rec, "u", false, &err));
    struct sp_wire_fields it;
    struct sp_wire_field field;
    char order[16] = "";
    sp_wire_fields_start(&it, rec->map, rec->map_bytes);
    while (sp_wire_fields_next(&it, &field)) strncat(order, field.key, 1);
    check_ok(strcmp(order, "ubfspr") == 0 && sp_record_get_bool(rec, "u", &b) && !b,
             "fields: replacing keeps the place");
    char copy[3];
    check_ok(sp_record_copy_str(rec, "s", copy, sizeof copy, &err) == SP_E_DATA &&
                 sp_record_copy_str(rec, "none", copy, sizeof copy, &err) == SP_E_DATA,
             "fields: a copy refuses a NUL inside and what is too long: %s", err.msg);
    sp_record_free(rec);
}

static void check_limits(void) {
    struct sp_record *rec = sp_record_new(SP_KIND_DOC);
    static char big[SP_WIRE_HEAD_MAX];
    char key[40];
    enum sp_code code = SP_OK;
    int n = 0;
    for (; !code; n++) {
        snprintf(key, sizeof key, "key%d", n);
        code = sp_record_set_u64(rec, key, 1, &err);
    }
    check_ok(n == SP_WIRE_FIELDS_MAX + 1, "limits: the 65th key is refused: %s", err.msg);
    sp_record_free(rec);
    rec = sp_record_new(SP_KIND_DOC);
    check_ok(sp_record_set_u64(rec, "a key of thirty-two bytes, too l", 1, &err) == SP_E_DATA,
             "limits: a long key: %s", err.msg);
    check_ok(sp_record_set_bin(rec, "big", big, sizeof big, &err) == SP_E_DATA,
             "limits: 64 KiB of one field: %s", err.msg);
    must(sp_record_set_bin(rec, "a", big, sizeof big / 2, &err));
    check_ok(sp_record_set_bin(rec, "b", big, sizeof big / 2, &err) == SP_E_DATA,
             "limits: and of two");
    must(sp_record_set_raw(rec, "deep", "\x91\x91\x91\x91\x91\x91\x00", 7, &err));
    check_ok(sp_record_set_raw(rec, "deep", "\x91\x91\x91\x91\x91\x91\x91\x00", 8, &err) ==
                     SP_E_DATA &&
                 sp_record_set_raw(rec, "two", "\x01\x02", 2, &err) == SP_E_DATA &&
                 sp_record_set_raw(rec, "cut", "\x92\x02", 2, &err) == SP_E_DATA,
             "limits: raw values that are too deep, two, or cut");
    must(sp_record_set_bin(rec, "b", big, sizeof big / 2 - 25, &err));
    struct sp_writer *w;
    int fd = memory_file(NULL, 0);
    must(sp_writer_new(&w, fd, "memory", &err));
    check_ok(sp_writer_write(w, rec, &err) == SP_E_DATA && !sp_writer_flush(w, &err) &&
                 lseek(fd, 0, SEEK_END) == 0,
             "limits: a head that only its frame makes too long is not written");
    sp_writer_free(w);
    close(fd);
    sp_record_free(rec);
}

static void check_tensors(void) {
    struct sp_record *rec = sp_record_new(SP_KIND_CHUNK);
    struct sp_tensor t, *got;
    char name[SP_NAME_MAX];
    for (uint64_t i = 0; i < SP_RECORD_TENSORS_MAX; i++) {
        snprintf(name, sizeof name, "t%llu", (unsigned long long)i);
        must(sp_tensor_new(&t, SP_U8, 1, &i, &err));
        must(sp_record_put_tensor(rec, name, &t, &err));
    }
    uint64_t two = 2;
    must(sp_tensor_new(&t, SP_U8, 1, &two, &err));
    check_ok(sp_record_put_tensor(rec, "one more", &t, &err) == SP_E_BUG && t.data,
             "tensors: the 17th is refused and stays the caller's: %s", err.msg);
    must(sp_record_put_tensor(rec, "t5", &t, &err));
    check_ok(!t.data && rec->n_tensor == 16 && sp_record_tensor(rec, "t5")->n_bytes == 2,
             "tensors: one is replaced in its place");
    sp_record_drop_tensor(rec, "t5");
    sp_record_drop_tensor(rec, "t15");
    sp_record_drop_tensor(rec, "nothing");
    bool rest = rec->n_tensor == 14 && !sp_record_tensor(rec, "t5");
    for (uint64_t i = 0; i < 15; i++) {
        snprintf(name, sizeof name, "t%llu", (unsigned long long)i);
        got = sp_record_tensor(rec, name);
        rest = rest && (i == 5 || (got && got->dim[0] == i));
    }
    check_ok(rest, "tensors: dropping keeps the others under their names");
    uint64_t any = 0, three = 3;
    check_ok(!sp_record_need_tensor(rec, "t4", SP_U8, 1, &any, &got, &err) && got->dim[0] == 4 &&
                 sp_record_need_tensor(rec, "t4", SP_U8, 1, &three, &got, &err) == SP_E_DATA &&
                 sp_record_need_tensor(rec, "t4", SP_I8, 1, &any, &got, &err) == SP_E_DATA &&
                 sp_record_need_tensor(rec, "t4", SP_U8, 2, (uint64_t[]){0, 0}, &got, &err) ==
                     SP_E_DATA &&
                 sp_record_need_tensor(rec, "t5", SP_U8, 1, &any, &got, &err) == SP_E_DATA,
             "tensors: needed ones are checked: %s", err.msg);
    sp_record_free(rec);
}

/* ---- writer ---- */

static void check_whole_records(void) {
    int fd = memory_file(NULL, 0);
    struct sp_writer *w;
    uint64_t total = 0, n_held = 0, n_written = 0;
    bool whole = true;
    must(sp_writer_new(&w, fd, "memory", &err));
    for (int i = 0; i < 500; i++) {
        struct sp_record *rec =
            i ? chunk(0, (uint64_t)check_random_int(0, 40), (uint64_t)check_random_int(0, 200))
              : hello_record(SP_HIDDEN);
        static uint8_t b[1 << 16];
        must(sp_writer_write(w, rec, &err));
        size_t n = bytes_of(&rec, 1, b, sizeof b);
        uint64_t before = total, there = (uint64_t)lseek(fd, 0, SEEK_END);
        total += n;
        /* Either nothing of this record was written, or all that there is. */
        whole = whole && (there <= before || there == total);
        n_held += there < total;
        n_written += there == total;
    }
    check_ok(whole && n_held > 50 && n_written > 50,
             "writer: never leaves half a record behind (%llu held, %llu written)",
             (unsigned long long)n_held, (unsigned long long)n_written);
    must(sp_writer_flush(w, &err));
    check_ok((uint64_t)lseek(fd, 0, SEEK_END) == total, "writer: a flush writes the rest");
    uint64_t after_flush = total;
    for (int i = 0; i < 50000; i++) send_record(w, numbers(SP_KIND_ERR, "doc", 0, "exit", 1));
    check_ok((uint64_t)lseek(fd, 0, SEEK_END) > after_flush,
             "writer: small records do not pile up");
    sp_writer_free(w);
    close(fd);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    must(sp_writer_new(&w, full, "the disk", &err));
    send_record(w, hello_record(SP_HIDDEN));
    check_ok(sp_writer_flush(w, &err) == SP_E_IO && strstr(err.msg, "the disk: No space left"),
             "writer: a full disk: %s", err.msg);
    struct sp_record *big = chunk(0, 300, 300);
    check_ok(sp_writer_write(w, big, &err) == SP_E_IO && strstr(err.msg, "No space left"),
             "writer: and with a big tensor");
    sp_record_free(big);
    sp_writer_free(w);
    close(full);
}

/* ---- HELLO ---- */

static void check_hello(void) {
    struct sp_hello a = {.major = SP_STREAM_MAJOR,
                         .minor = 9,
                         .content = SP_SCORES,
                         .program = "head",
                         .model_dir = "/a/model",
                         .next_layer = 24,
                         .n_layer = 24},
                    b;
    for (size_t i = 0; i < 16; i++) a.model.byte[i] = a.tokenizer.byte[15 - i] = (uint8_t)i;
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    must(sp_record_set_u64(rec, "later", 1, &err));
    must(sp_hello_store(&a, rec, &err));
    must(sp_hello_read(&b, rec, &err));
    uint64_t later = 0;
    check_ok(a.minor == b.minor && a.content == b.content && strcmp(a.program, b.program) == 0 &&
                 strcmp(a.model_dir, b.model_dir) == 0 && sp_hash_equal(&a.model, &b.model) &&
                 sp_hash_equal(&a.tokenizer, &b.tokenizer) && b.next_layer == 24 &&
                 b.n_layer == 24 && sp_record_get_u64(rec, "later", &later) && later == 1,
             "hello: comes back, a higher minor version and unknown keys with it");
    static const struct {
        const char *key, *value;
        size_t n;
        const char *message;
    } bad[] = {
        {"version", "\x92\x02\x00", 3, "version 2.0, this program reads 1.x"},
        {"version", "\x91\x01", 2, "does not say its version"},
        {"content", "\xa3odd", 4, "content 'odd'"},
        {"content", "\x01", 1, "no string 'content'"},
        {"program", "\x01", 1, "no string 'program'"},
        {"model", "\xc4\x01x", 3, "'model' is not of 16 bytes"},
        {"tokenizer", "\xa1x", 2, "'tokenizer' is not of 16 bytes"},
        {"features", "\x91\xa4zstd", 6, "needs the feature 'zstd'"},
        {"features", "\x01", 1, "not an array"},
        {"next_layer", "\x19", 1, "next layer is 25 of 24"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sp_record *damaged = sp_record_new(SP_KIND_HELLO);
        must(sp_hello_store(&a, damaged, &err));
        must(sp_record_set_raw(damaged, bad[i].key, bad[i].value, bad[i].n, &err));
        enum sp_code code = sp_hello_read(&b, damaged, &err);
        check_ok(code == SP_E_DATA && strstr(err.msg, bad[i].message), "hello: %s", err.msg);
        sp_record_free(damaged);
    }
    must(sp_record_set_raw(rec, "features", "\x90", 1, &err));
    check_ok(!sp_hello_read(&b, rec, &err), "hello: an empty list of features is fine");
    sp_record_free(rec);
}

/* ---- speed ---- */

static double cpu_seconds(int who) {
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* What the stream costs a filter: CPU time, user and system, of a process that only reads and of
 * one that only writes, at the two ends of a pipe. */
static void bench(uint64_t rows, uint64_t d, int n) {
    int fd[2];
    if (pipe(fd)) abort();
    fcntl(fd[1], F_SETPIPE_SZ, 1 << 20);
    pid_t child = fork();
    if (child == 0) {
        struct sp_writer *w;
        close(fd[0]);
        must(sp_writer_new(&w, fd[1], "pipe", &err));
        send_record(w, hello_record(SP_HIDDEN));
        struct sp_record *rec = chunk(0, rows, d);
        for (int i = 0; i < n; i++) must(sp_writer_write(w, rec, &err));
        send_record(w, numbers(SP_KIND_END, "docs", 0, "errors", 0));
        must(sp_writer_flush(w, &err));
        _exit(0);
    }
    close(fd[1]);
    struct sp_reader *r;
    struct sp_record *rec;
    double read_cost = cpu_seconds(RUSAGE_SELF), write_cost = cpu_seconds(RUSAGE_CHILDREN);
    must(sp_reader_new(&r, fd[0], "pipe", &err));
    enum sp_code code;
    while (!(code = sp_reader_read(r, &rec, &err)) && rec) sp_record_free(rec);
    must(code);
    waitpid(child, NULL, 0);
    read_cost = cpu_seconds(RUSAGE_SELF) - read_cost;
    write_cost = cpu_seconds(RUSAGE_CHILDREN) - write_cost;
    double bytes = (double)sp_reader_offset(r);
    printf("# chunks of %llu x %llu f32, %.0f MB: reading %.2f, writing %.2f GB per CPU second; "
           "%.2f + %.2f us per chunk\n",
           (unsigned long long)rows, (unsigned long long)d, bytes * 1e-6, bytes * 1e-9 / read_cost,
           bytes * 1e-9 / write_cost, read_cost * 1e6 / n, write_cost * 1e6 / n);
    sp_reader_free(r);
    close(fd[0]);
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

/* In pieces that take one path or the other of lib/hash.c; the whole takes the plain one. */
static void check_hashes(void) {
    enum { N = 20000 };
    static uint8_t bytes[N + 64];
    bool ok = true;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)check_random();
    for (int i = 0; i < 300; i++) {
        const uint8_t *p = bytes + check_random_int(0, 64);
        size_t n = (size_t)check_random_int(0, N), at = 0;
        struct sp_hasher *h = sp_hasher_new();
        struct sp_hash whole, pieces;
        while (at < n) {
            size_t left = n - at, piece = (size_t)check_random_int(0, i % 2 ? 3000 : 300);
            if (piece > left) piece = left;
            sp_hasher_add(h, p + at, piece);
            at += piece;
        }
        sp_hasher_end(h, &pieces);
        sp_hash_bytes(&whole, p, n);
        ok = ok && sp_hash_equal(&whole, &pieces);
    }
    check_ok(ok, "hashes: 300 of pieces are those of the whole, on any path");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--example") == 0) return write_example(), 0;
    check_start(argc, argv);
    if (check_wanted("round_trip")) check_round_trip();
    if (check_wanted("fields")) check_fields();
    if (check_wanted("limits")) check_limits();
    if (check_wanted("tensors")) check_tensors();
    if (check_wanted("writer")) check_whole_records();
    if (check_wanted("hello")) check_hello();
    if (check_wanted("hashes")) check_hashes();
    if (check_state.bench) {
        bench(256, 768, 2000);
        bench(256, 64, 10000);
        bench(1, 768, 100000);
    }
    return check_end();
}
