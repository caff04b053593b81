/* The stream: what is written is read back, bit by bit; what is damaged is refused. */
#include "../../lib/statepipe.h"
#include "../../lib/wire.h"
#include "check.h"
#include "stream.h"

#include <fcntl.h>
#include <msgpack.h>
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
    check_ok(!rec, "round_trip: a legal end");
    sp_reader_free(r);
    close(fd);
}

/* ---- scanner ---- */

/* Packs a random value, at most depth levels of it. */
static void pack_random(msgpack_packer *pk, int depth) {
    static const char bytes[300];
    size_t n = (size_t)check_random_int(0, check_random_int(0, 9) ? 20 : 300);
    uint64_t v = check_random() >> check_random_int(0, 63);
    switch (check_random_int(0, depth > 0 ? 9 : 7)) {
    case 0: msgpack_pack_nil(pk); return;
    case 1: msgpack_pack_true(pk); return;
    case 2: msgpack_pack_uint64(pk, v); return;
    case 3: msgpack_pack_int64(pk, -(int64_t)(v >> 1)); return;
    case 4: msgpack_pack_double(pk, 0.5); return;
    case 5: msgpack_pack_str_with_body(pk, bytes, n); return;
    case 6: msgpack_pack_bin_with_body(pk, bytes, n); return;
    case 7: msgpack_pack_ext_with_body(pk, bytes, n, 5); return;
    case 8:
        n = (size_t)check_random_int(0, 20);
        msgpack_pack_array(pk, n);
        for (size_t i = 0; i < n; i++) pack_random(pk, depth - 1);
        return;
    default:
        n = (size_t)check_random_int(0, 5);
        msgpack_pack_map(pk, n);
        for (size_t i = 0; i < 2 * n; i++) pack_random(pk, depth - 1);
    }
}

static void check_scanner(void) {
    const char *why;
    size_t used, n_value = 0, n_prefix = 0;
    bool whole = true, prefixes = true, packed_agrees = true;
    for (int i = 0; i < 3000; i++) {
        msgpack_sbuffer buf;
        msgpack_packer pk;
        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        pack_random(&pk, 3);
        const uint8_t *p = (const uint8_t *)buf.data;
        size_t n = buf.size;
        if (n <= SP_WIRE_HEAD_MAX) {
            n_value++;
            whole = whole &&
                    sp_wire_skip(p, n, SP_WIRE_HEAD_MAX, &used, &why) == SP_WIRE_COMPLETE &&
                    used == n;
            size_t step = n / 50 + 1;
            for (size_t k = 0; k < n; k += step, n_prefix++)
                prefixes =
                    prefixes && sp_wire_skip(p, k, SP_WIRE_HEAD_MAX, &used, &why) == SP_WIRE_MORE;
        }
        msgpack_sbuffer_destroy(&buf);
    }
    check_ok(whole, "scanner: finds the end of %zu packed values", n_value);
    check_ok(prefixes, "scanner: asks for more at %zu cuts of them", n_prefix);
    size_t complete = 0;
    for (int i = 0; i < 300000; i++) {
        uint8_t p[24];
        for (size_t k = 0; k < sizeof p; k++) p[k] = (uint8_t)check_random();
        if (i % 2) p[0] = (uint8_t)(0x80 + p[0] % 0x24); /* containers and short strings */
        if (sp_wire_skip(p, sizeof p, sizeof p, &used, &why) != SP_WIRE_COMPLETE) continue;
        complete++;
        msgpack_unpacked u;
        size_t off = 0;
        msgpack_unpacked_init(&u);
        packed_agrees =
            packed_agrees &&
            msgpack_unpack_next(&u, (const char *)p, used, &off) == MSGPACK_UNPACK_SUCCESS &&
            off == used;
        msgpack_unpacked_destroy(&u);
    }
    check_ok(packed_agrees && complete > 1000,
             "scanner: msgpack-c ends where it does, on %zu random values", complete);
}

static void check_forged(void) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } bad[] = {
        {"\xdd\xff\xff\xff\xff", 5, "an array of 2^32 - 1"},
        {"\xdf\x80\x00\x00\x00", 5, "a map of 2^31"},
        {"\xdf\xff\xff\xff\xff", 5, "a map of 2^32 - 1"},
        {"\xc6\xff\xff\xff\xff", 5, "a binary of 2^32 - 1"},
        {"\xdb\x00\x01\x00\x01", 5, "a string of 65537"},
        {"\xc9\xff\xff\xff\xff\x54", 6, "an ext of 2^32 - 1"},
        {"\x92\x00\xc1", 3, "the byte c1"},
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x00", 11, "ten levels"},
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x00", 10, "nine levels"},
    };
    const char *why = "";
    size_t used;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_ok(sp_wire_skip((const uint8_t *)bad[i].bytes, bad[i].n, SP_WIRE_HEAD_MAX, &used,
                              &why) == SP_WIRE_BAD,
                 "forged: %s is refused at once: it %s", bad[i].what, why);
    check_ok(sp_wire_skip((const uint8_t *)"\x91\x91\x91\x91\x91\x91\x91\x91\x00", 9,
                          SP_WIRE_HEAD_MAX, &used, &why) == SP_WIRE_COMPLETE,
             "forged: eight levels are fine");
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

/* ---- reader ---- */

/* The first error of reading these bytes, or "". */
static const char *error_of(const void *bytes, size_t n) {
    struct sp_reader *r;
    struct sp_record *rec;
    int fd = memory_file(bytes, n);
    must(sp_reader_new(&r, fd, "x", &err));
    enum sp_code code;
    while (!(code = sp_reader_read(r, &rec, &err)) && rec) sp_record_free(rec);
    sp_reader_free(r);
    close(fd);
    return code == SP_E_DATA ? err.msg : "";
}

static size_t bytes_of(struct sp_record **rec, size_t n, uint8_t *out, size_t cap) {
    struct sp_writer *w;
    int fd = memory_file(NULL, 0);
    must(sp_writer_new(&w, fd, "memory", &err));
    for (size_t i = 0; i < n; i++) send_record(w, rec[i]);
    must(sp_writer_flush(w, &err));
    sp_writer_free(w);
    ssize_t k = pread(fd, out, cap, 0);
    close(fd);
    return k > 0 ? (size_t)k : 0;
}

/* A literal's bytes, and how many. */
#define B(literal) literal, sizeof literal - 1

static void check_damage(void) {
    static uint8_t hello[4096], b[8192];
    size_t n_hello = bytes_of((struct sp_record *[]){hello_record(SP_TOKENS)}, 1, hello, 4096);
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } after_hello[] = {
        {B("\x92\xa1X\x80"), "not an array of kind, map and names"},
        {B("\x93\x01\x80\x90"), "kind is not a string"},
        {B("\x93\xa0\x80\x90"), "kind is not a string"},
        {B("\x93\xa2X\0\x80\x90"), "kind is not a string"},
        {B("\x93\xa1X\x90\x90"), "not a map"},
        {B("\x93\xa1X\x81\x01\x02\x90"), "key of a record's map is not a string"},
        {B("\x93\xa1X\x82\xa1k\x02\xa1k\x03\x90"), "the key 'k' twice"},
        {B("\x93\xa1X\x80\x01"), "not in an array"},
        {B("\x93\xa1X\x80\x91\x01"), "tensor's name"},
        {B("\x93\xa1X\x80\x92\xa1t\xa1t"), "the tensor 't' twice"},
        {B("\x93\xa1X\x80\xdc\0\x11"), "in the middle of a record"},
        {B("\x93\xa1X\x80\x91\xa1t\xd4\x54\0\0\0\0"), "no tensor at byte"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x04\x54\1\0\0\0"), "no room for a tensor's header"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\2\0\0\0\0\0\0\0"), "tensor version 2"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\1\x9\0\0\0\0\0\0"), "element type 9"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\1\0\x9\0\0\0\0\0"), "9 dimensions"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\1\0\0\1\0\0\0\0"), "flags"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\1\0\2\0\0\0\0\0"), "no room for its 2"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x08\x54\1\0\0\0\0\0\0\0"), "0 bytes where its"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x10\x54\1\0\0\0\0\0\0\0abcdxbcd"), "padding"},
        {B("\x93\xa1X\x80\x91\xa1t\xc9\0\0\0\x10\x54\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\x80"),
         "more than 67108864 bytes"},
        {B("\x93\xa5\x43HUNK\x80\x90"), "a CHUNK record has no number 'doc'"},
        {B("\x93\xa3\x44OC\x81\xa3\x64oc\0\x90"), "a DOC record has no string 'id'"},
        {B("\x93\xa3\x45ND\x80\x90"), "a END record has no number 'docs'"},
        {B("\xc1"), "the byte c1"},
        {B(""), "in the middle of a segment"},
        {B("\x93\xa1X"), "in the middle of a record"},
    };
    memcpy(b, hello, n_hello);
    for (size_t i = 0; i < sizeof after_hello / sizeof *after_hello; i++) {
        memcpy(b + n_hello, after_hello[i].bytes, after_hello[i].n);
        const char *said = error_of(b, n_hello + after_hello[i].n);
        check_ok(strstr(said, after_hello[i].message), "damage: %s", said);
    }
    memcpy(b + n_hello, hello, n_hello);
    check_ok(strstr(error_of(b, 2 * n_hello), "has no END"), "damage: HELLO in a segment: %s",
             err.msg);
    struct sp_record *wrong = chunk(0, 3, 4);
    struct sp_tensor t = random_tensor(SP_U32, 1, (uint64_t[]){2});
    must(sp_record_put_tensor(wrong, "ids", &t, &err));
    size_t n = bytes_of(&wrong, 1, b + n_hello, sizeof b - n_hello);
    check_ok(strstr(error_of(b, n_hello + n), "has 3 rows, the others 2"),
             "damage: rows that differ: %s", err.msg);
}

/* The reader may be fed in any pieces. */
static void check_pieces(void) {
    static uint8_t b[1 << 16];
    struct sp_record *rec[] = {hello_record(SP_HIDDEN), chunk(0, 7, 5), chunk(0, 0, 3),
                               chunk(0, 40, 90), numbers(SP_KIND_END, "docs", 0, "errors", 0)};
    size_t n = bytes_of(rec, 5, b, sizeof b);
    int fd[2];
    if (pipe(fd)) abort();
    pid_t child = fork();
    if (child == 0) {
        close(fd[0]);
        for (size_t i = 0; i < n;) {
            size_t k = i < 800 ? 1 : (size_t)check_random_int(1, 700);
            if (k > n - i) k = n - i;
            if (write(fd[1], b + i, k) != (ssize_t)k) _exit(1);
            i += k;
        }
        _exit(0);
    }
    close(fd[1]);
    struct sp_reader *r;
    struct sp_writer *w;
    struct sp_record *got;
    int out = memory_file(NULL, 0);
    must(sp_reader_new(&r, fd[0], "pipe", &err));
    must(sp_writer_new(&w, out, "memory", &err));
    enum sp_code code;
    while (!(code = sp_reader_read(r, &got, &err)) && got) send_record(w, got);
    must(sp_writer_flush(w, &err));
    static uint8_t back[1 << 16];
    ssize_t m = pread(out, back, sizeof back, 0);
    check_ok(!code && m == (ssize_t)n && memcmp(b, back, n) == 0 && sp_reader_offset(r) == n,
             "pieces: %zu bytes, one by one and in random pieces, come back the same", n);
    waitpid(child, NULL, 0);
    sp_reader_free(r);
    sp_writer_free(w);
    close(fd[0]);
    close(out);
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

/* What a filter costs that only reads and writes: this process's CPU time per byte, between two
 * pipes, with the other ends' time left out. */
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
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    must(sp_reader_new(&r, fd[0], "pipe", &err));
    enum sp_code code;
    while (!(code = sp_reader_read(r, &rec, &err)) && rec) sp_record_free(rec);
    must(code);
    getrusage(RUSAGE_SELF, &after);
    struct rusage children;
    waitpid(child, NULL, 0);
    getrusage(RUSAGE_CHILDREN, &children);
    double bytes = (double)sp_reader_offset(r);
    double user = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
                  (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) * 1e-6;
    double sys = (double)(after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
                 (double)(after.ru_stime.tv_usec - before.ru_stime.tv_usec) * 1e-6;
    printf("# chunks of %llu x %llu f32: %.0f MB; reading %.2f GB per CPU second (user %.0f %%), "
           "%.2f us per chunk\n",
           (unsigned long long)rows, (unsigned long long)d, bytes * 1e-6,
           bytes * 1e-9 / (user + sys), 100 * user / (user + sys), (user + sys) * 1e6 / n);
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

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--example") == 0) return write_example(), 0;
    check_start(argc, argv);
    if (check_wanted("round_trip")) check_round_trip();
    if (check_wanted("scanner")) check_scanner();
    if (check_wanted("forged")) check_forged();
    if (check_wanted("fields")) check_fields();
    if (check_wanted("limits")) check_limits();
    if (check_wanted("tensors")) check_tensors();
    if (check_wanted("damage")) check_damage();
    if (check_wanted("pieces")) check_pieces();
    if (check_wanted("writer")) check_whole_records();
    if (check_wanted("hello")) check_hello();
    if (check_state.bench) {
        bench(256, 768, 2000);
        bench(256, 64, 10000);
        bench(1, 768, 100000);
    }
    return check_end();
}
