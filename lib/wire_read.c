/* The reader: bytes of a descriptor to records, one at a time. */
#include "wire.h"
#include "io.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFER_BYTES (2 * SP_WIRE_HEAD_MAX)
/* Behind a payload, the next record's head: more would only be copied once more. */
#define TAIL_BYTES ((size_t)4096)
/* A tensor's memory grows with what has really arrived: a forged header costs at most this. */
#define FIRST_ALLOCATION_BYTES ((size_t)1 << 20)

enum place { BETWEEN_SEGMENTS, IN_SEGMENT, AFTER_FATAL };

struct sp_reader {
    int fd;
    bool eof;
    enum place place;
    bool in_state; /* the segment is of content: state */
    enum sp_reader_use use;
    uint64_t offset; /* of buf[pos] in the input */
    size_t pos, len; /* buf[pos .. len) is not consumed yet */
    char name[256];
    uint8_t buf[BUFFER_BYTES];
};

enum sp_code sp_reader_new(struct sp_reader **out, int fd, const char *name, struct sp_error *err) {
    struct sp_reader *r = malloc(sizeof *r);
    if (!r) return sp_error_set(err, SP_E_DEVICE, "out of memory for reading %s", name);
    r->fd = fd;
    r->eof = false;
    r->place = BETWEEN_SEGMENTS;
    r->in_state = false;
    r->use = SP_READ_STREAM;
    r->offset = 0;
    r->pos = r->len = 0;
    size_t n = strlen(name);
    if (n >= sizeof r->name) n = sizeof r->name - 1;
    memcpy(r->name, name, n);
    r->name[n] = 0;
    *out = r;
    return SP_OK;
}

void sp_reader_free(struct sp_reader *r) {
    free(r);
}

void sp_reader_expect(struct sp_reader *r, enum sp_reader_use use) {
    r->use = use;
}

uint64_t sp_reader_offset(const struct sp_reader *r) {
    return r->offset;
}

bool sp_reader_ready(struct sp_reader *r) {
    return r->pos < r->len || r->eof || sp_io_ready(r->fd);
}

static size_t buffered(const struct sp_reader *r) {
    return r->len - r->pos;
}

static void consume(struct sp_reader *r, size_t n) {
    r->pos += n;
    r->offset += n;
}

/* Reads once, into dst (n bytes, may be 0) and what is left over into the empty or compacted
 * buffer; *got counts both. Nothing at the end of the file. */
static enum sp_code read_once(struct sp_reader *r, void *dst, size_t n, size_t *got,
                              struct sp_error *err) {
    if (r->pos > 0) {
        memmove(r->buf, r->buf + r->pos, buffered(r));
        r->len -= r->pos;
        r->pos = 0;
    }
    size_t room = sizeof r->buf - r->len;
    struct iovec iov[2] = {{dst, n}, {r->buf + r->len, n && room > TAIL_BYTES ? TAIL_BYTES : room}};
    ssize_t k;
    do k = n ? readv(r->fd, iov, 2) : read(r->fd, iov[1].iov_base, iov[1].iov_len);
    while (k < 0 && sp_wire_again(r->fd, POLLIN));
    if (k < 0) return sp_error_set(err, SP_E_IO, "reading %s: %s", r->name, strerror(errno));
    *got = (size_t)k;
    r->eof = k == 0;
    if ((size_t)k > n) r->len += (size_t)k - n;
    return SP_OK;
}

static enum sp_code died(const struct sp_reader *r, const char *where, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA,
                        "%s ends in the middle of a %s after %llu bytes: an upstream program died, "
                        "the file was cut off, or it is damaged",
                        r->name, where, (unsigned long long)(r->offset + buffered(r)));
}

/* Until n bytes are buffered, n <= BUFFER_BYTES. */
static enum sp_code need(struct sp_reader *r, size_t n, const char *where, struct sp_error *err) {
    while (buffered(r) < n) {
        size_t got;
        enum sp_code code = read_once(r, NULL, 0, &got, err);
        if (code) return code;
        if (got == 0) return died(r, where, err);
    }
    return SP_OK;
}

/* What a person may have given by mistake: what it is by its first bytes, and what makes a stream
 * of it. */
struct foreign {
    const char *bytes, *what, *remedy;
};

static struct foreign guess_foreign(const uint8_t *p, size_t n) {
    static const struct foreign known[] = {
        {"\x1f\x8b", "gzip data", "decompress it first"},
        {"\x28\xb5\x2f\xfd", "zstd data", "decompress it first"},
        {"\xfd"
         "7zXZ",
         "xz data", "decompress it first"},
        {"PK\x03\x04", "a zip archive", NULL},
        {"%PDF", "a PDF", "run pdftotext first, then `tokenize`"},
        {"\x7f"
         "ELF",
         "a program", NULL},
        {"\xff\xfe", "UTF-16 text", "convert it with iconv -f utf-16 -t utf-8, then `tokenize`"},
        {"\xfe\xff", "UTF-16 text", "convert it with iconv -f utf-16 -t utf-8, then `tokenize`"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t m = strlen(known[i].bytes);
        if (n >= m && memcmp(p, known[i].bytes, m) == 0) return known[i];
    }
    size_t text = 0;
    while (text < n && (p[text] >= 0x20 || (p[text] >= 9 && p[text] <= 13)) && p[text] != 0x7f)
        text++;
    if (text == n && p[0] == '{')
        return (struct foreign){NULL, "JSON lines", "run `tokenize --jsonl` first"};
    if (text == n && p[0] < 0x80) return (struct foreign){NULL, "text", "run `tokenize` first"};
    if ((p[0] >= 0x80 && p[0] < 0xa0) || (p[0] >= 0xdc && p[0] <= 0xdf))
        return (struct foreign){NULL, "msgpack, but not of statepipe", NULL};
    return (struct foreign){NULL, "binary data of another kind", NULL};
}

static enum sp_code refuse_foreign(const struct sp_reader *r, const uint8_t *p, size_t n,
                                   struct sp_error *err) {
    struct foreign f = guess_foreign(p, n);
    if (r->use == SP_READ_STATE)
        return sp_error_set(err, SP_E_DATA,
                            "%s is not a state: it looks like %s; `mamba-layer --dump-state` "
                            "writes states",
                            r->name, f.what);
    if (r->use == SP_READ_CHECKPOINT)
        return sp_error_set(err, SP_E_DATA,
                            "%s is not a checkpoint: it looks like %s; give another name for it",
                            r->name, f.what);
    return sp_error_set(err, SP_E_DATA, "%s is not a statepipe stream%s: it looks like %s%s%s",
                        r->name, r->offset ? " any more after its END" : "", f.what,
                        f.remedy ? ": " : "", f.remedy ? f.remedy : "");
}

static enum sp_code refuse_empty(const struct sp_reader *r, struct sp_error *err) {
    static const char *const expected[] = {
        [SP_READ_STREAM] = "statepipe stream was expected: an upstream program failed, or was left "
                           "out",
        [SP_READ_STATE] = "state was expected: did what should have written it fail?",
        [SP_READ_CHECKPOINT] = "checkpoint was expected: remove it to start anew"};
    return sp_error_set(err, SP_E_DATA, "%s is empty, where a %s", r->name, expected[r->use]);
}

/* At the start of a segment. *end: the input ended here, as it may after an END. */
static enum sp_code expect_magic(struct sp_reader *r, bool *end, struct sp_error *err) {
    *end = false;
    for (;;) {
        size_t n = buffered(r), m = n < SP_WIRE_MAGIC_BYTES ? n : SP_WIRE_MAGIC_BYTES, got;
        const uint8_t *p = r->buf + r->pos;
        if (memcmp(p, SP_WIRE_MAGIC, m) != 0) return refuse_foreign(r, p, n < 64 ? n : 64, err);
        if (m == SP_WIRE_MAGIC_BYTES) return SP_OK;
        if (r->eof && n > 0) return died(r, "record", err);
        if (r->eof) break;
        enum sp_code code = read_once(r, NULL, 0, &got, err);
        if (code) return code;
    }
    if (r->offset == 0) return refuse_empty(r, err);
    *end = true;
    return SP_OK;
}

static enum sp_code read_head(struct sp_reader *r, struct sp_record **rec, struct sp_error *err) {
    for (;;) {
        size_t used, got;
        const char *why;
        enum sp_wire_scan s =
            sp_wire_skip(r->buf + r->pos, buffered(r), SP_WIRE_HEAD_MAX, &used, &why);
        if (s == SP_WIRE_BAD)
            return sp_error_set(err, SP_E_DATA, "%s: damaged: the record at byte %llu %s", r->name,
                                (unsigned long long)r->offset, why);
        if (s == SP_WIRE_COMPLETE) {
            enum sp_code code = sp_wire_parse_head(rec, r->buf + r->pos, used, err);
            if (code)
                return sp_error_prefix(err, "%s: damaged: the record at byte %llu", r->name,
                                       (unsigned long long)r->offset);
            consume(r, used);
            return SP_OK;
        }
        enum sp_code code = read_once(r, NULL, 0, &got, err);
        if (code) return code;
        if (got == 0) return died(r, buffered(r) ? "record" : "segment", err);
    }
}

/* The payload with its padding, into memory that grows as bytes arrive. */
static enum sp_code read_payload(struct sp_reader *r, struct sp_tensor *t, struct sp_error *err) {
    size_t total = sp_wire_padded(t->n_bytes), done = 0;
    size_t cap = total < FIRST_ALLOCATION_BYTES ? total : FIRST_ALLOCATION_BYTES;
    for (;;) {
        uint8_t *grown = aligned_alloc(64, (cap / 64 + 1) * 64);
        if (!grown)
            return sp_error_set(err, SP_E_DEVICE, "out of memory for a tensor of %zu bytes", total);
        if (done) memcpy(grown, t->data, done);
        free(t->data);
        t->data = grown;
        size_t held = buffered(r) < cap - done ? buffered(r) : cap - done;
        memcpy(grown + done, r->buf + r->pos, held);
        consume(r, held);
        done += held;
        while (done < cap) {
            size_t got;
            enum sp_code code = read_once(r, grown + done, cap - done, &got, err);
            if (code) return code;
            if (got == 0) return died(r, "tensor", err);
            size_t mine = got < cap - done ? got : cap - done;
            done += mine;
            r->offset += mine;
        }
        if (done == total) break;
        cap = total / 2 < cap ? total : 2 * cap;
    }
    for (size_t i = t->n_bytes; i < total; i++)
        if (((const uint8_t *)t->data)[i] != 0)
            return sp_error_set(err, SP_E_DATA, "%s: damaged: padding before byte %llu is not zero",
                                r->name, (unsigned long long)r->offset);
    return SP_OK;
}

static enum sp_code read_tensor(struct sp_reader *r, struct sp_tensor *t, struct sp_error *err) {
    enum sp_code code = need(r, SP_WIRE_EXT_HEAD, "record", err);
    if (code) return code;
    const uint8_t *p = r->buf + r->pos;
    unsigned long long at = r->offset;
    uint32_t body = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
    if (p[0] != 0xc9 || p[5] != SP_WIRE_EXT_TYPE)
        return sp_error_set(err, SP_E_DATA, "%s: damaged: no tensor at byte %llu", r->name, at);
    consume(r, SP_WIRE_EXT_HEAD);
    size_t head = body < SP_WIRE_TENSOR_HEAD_MAX ? body : SP_WIRE_TENSOR_HEAD_MAX;
    code = need(r, head, "tensor", err);
    if (code) return code;
    code = sp_wire_tensor_head(t, r->buf + r->pos, head, body, &head, err);
    if (code) return sp_error_prefix(err, "%s: damaged: the tensor at byte %llu", r->name, at);
    consume(r, head);
    return read_payload(r, t, err);
}

/* HELLO record* END, and nothing after an ERR that names no document. */
static enum sp_code follow_order(struct sp_reader *r, const struct sp_record *rec,
                                 struct sp_error *err) {
    uint64_t doc;
    if (rec->kind == SP_KIND_HELLO && r->place == IN_SEGMENT)
        return sp_error_set(err, SP_E_DATA,
                            "%s: a new segment starts before byte %llu, but the one before has no "
                            "END: an upstream program died, or a file was cut off",
                            r->name, (unsigned long long)r->offset);
    r->place = IN_SEGMENT;
    if (rec->kind == SP_KIND_END) r->place = BETWEEN_SEGMENTS;
    if (rec->kind == SP_KIND_ERR && !sp_record_get_u64(rec, "doc", &doc)) r->place = AFTER_FATAL;
    return SP_OK;
}

/* In place of what is wrong with a record whose first n tensors are there, where one of them has
 * taken the beginning of another segment for numbers of its own. */
static enum sp_code explain(const struct sp_reader *r, const struct sp_record *rec, uint32_t n,
                            struct sp_error *err) {
    bool swallowed = false;
    for (uint32_t i = 0; i < n && !swallowed; i++)
        swallowed = rec->tensor[i].n_bytes && memmem(rec->tensor[i].data, rec->tensor[i].n_bytes,
                                                     SP_WIRE_MAGIC, SP_WIRE_MAGIC_BYTES);
    if (!swallowed || err->code != SP_E_DATA) return err->code;
    return sp_error_set(err, SP_E_DATA,
                        "%s: a new segment begins inside of a %s record: what stands in front of "
                        "it was cut off",
                        r->name, rec->kind_name);
}

/* Every record of a state segment is sealed, of whatever kind: a damaged STATE could pass for one
 * of another. But for the ERR of a program that could not write it to its end. */
static enum sp_code check_seal(struct sp_reader *r, const struct sp_record *rec,
                               struct sp_error *err) {
    const char *content = "";
    const void *sum;
    size_t n = 0;
    if (rec->kind == SP_KIND_HELLO) {
        sp_record_get_str(rec, "content", &content, &n);
        r->in_state = n == 5 && memcmp(content, "state", 5) == 0;
        /* Content may be what is damaged. */
        r->in_state = r->in_state || sp_record_get_bin(rec, "sum", &sum, &n);
    }
    bool sealed = r->in_state ? rec->kind != SP_KIND_ERR : rec->kind == SP_KIND_STATE;
    if (!sealed || !sp_wire_check_seal(rec, err)) return SP_OK;
    sp_error_prefix(err, "%s", r->name);
    return explain(r, rec, rec->n_tensor, err);
}

enum sp_code sp_reader_read(struct sp_reader *r, struct sp_record **out, struct sp_error *err) {
    *out = NULL;
    enum sp_code code = SP_OK;
    if (r->place == AFTER_FATAL) return SP_OK;
    if (r->place == BETWEEN_SEGMENTS) {
        bool end;
        code = expect_magic(r, &end, err);
        if (code || end) return code;
    }
    struct sp_record *rec = NULL;
    unsigned long long at = r->offset;
    code = read_head(r, &rec, err);
    if (code) return code;
    uint32_t n = rec->n_tensor;
    rec->n_tensor = 0;
    for (uint32_t i = 0; i < n && !code; i++) {
        rec->n_tensor = i + 1;
        code = read_tensor(r, &rec->tensor[i], err);
        if (code) explain(r, rec, i, err);
    }
    if (!code) code = check_seal(r, rec, err);
    if (!code && sp_wire_check_record(rec, err))
        code = sp_error_prefix(err, "%s: the record at byte %llu", r->name, at);
    if (!code) code = follow_order(r, rec, err);
    if (code) {
        sp_record_free(rec);
        return code;
    }
    *out = rec;
    return SP_OK;
}
