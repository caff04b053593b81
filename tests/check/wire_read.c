/* Reading a stream: where values end, what is refused, and that pieces do not matter. */
#include "../../lib/wire.h"
#include "check.h"
#include "stream.h"

#include <fcntl.h>
#include <msgpack.h>
#include <sys/wait.h>

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
    wrong = chunk(0, 3, 4);
    t = random_tensor(SP_U64, 2, (uint64_t[]){3, 3});
    must(sp_record_put_tensor(wrong, "span", &t, &err));
    n = bytes_of(&wrong, 1, b + n_hello, sizeof b - n_hello);
    check_ok(strstr(error_of(b, n_hello + n), "'span' of a CHUNK is of a wrong type or shape"),
             "damage: a span of three columns: %s", err.msg);
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
    fcntl(fd[0], F_SETFL, O_NONBLOCK); /* as ssh leaves what it shares */
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

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("scanner")) check_scanner();
    if (check_wanted("forged")) check_forged();
    if (check_wanted("damage")) check_damage();
    if (check_wanted("pieces")) check_pieces();
    return check_end();
}
