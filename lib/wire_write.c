/* The writer: records to bytes of a descriptor. Small things are gathered in a buffer; big tensors
 * are handed to the kernel from where they lie. A record is either wholly in the buffer or wholly
 * written, so that a reader never waits in the middle of one while we compute. */
#include "io.h"
#include "wire.h"

#include <errno.h>
#include <msgpack.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define HELD_BYTES_MAX ((size_t)64 << 10) /* written when more than this is held */
#define COPY_BYTES_MAX ((size_t)16 << 10) /* larger payloads are not copied */
#define PIECES_MAX (2 * SP_RECORD_TENSORS_MAX + 1)
/* What is held, and one more record whose payloads are all small. */
#define BUFFER_BYTES                                                                               \
    (HELD_BYTES_MAX + SP_WIRE_HEAD_MAX +                                                           \
     SP_RECORD_TENSORS_MAX *                                                                       \
         (SP_WIRE_EXT_HEAD + SP_WIRE_TENSOR_HEAD_MAX + COPY_BYTES_MAX + sizeof(uint64_t)))

struct sp_writer {
    int fd;
    struct sp_hasher *hash; /* of what is written, or NULL */
    char name[256];
    size_t n; /* bytes in buf */
    uint8_t buf[BUFFER_BYTES];
};

/* A record on its way out: pieces of the buffer and payloads in turn. */
struct pieces {
    struct iovec iov[PIECES_MAX];
    int n;
    size_t start; /* of the piece of the buffer that is being filled */
};

enum sp_code sp_writer_new(struct sp_writer **out, int fd, const char *name, struct sp_error *err) {
    struct sp_writer *w = malloc(sizeof *w);
    if (!w) return sp_error_set(err, SP_E_DEVICE, "out of memory for writing %s", name);
    w->fd = fd;
    w->hash = NULL;
    w->n = 0;
    size_t n = strlen(name);
    if (n >= sizeof w->name) n = sizeof w->name - 1;
    memcpy(w->name, name, n);
    w->name[n] = 0;
    *out = w;
    return SP_OK;
}

void sp_writer_free(struct sp_writer *w) {
    free(w);
}

void sp_writer_hash(struct sp_writer *w, struct sp_hasher *h) {
    w->hash = h;
}

bool sp_wire_again(int fd, short events) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) return false;
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

static enum sp_code write_pieces(struct sp_writer *w, struct iovec *iov, int n,
                                 struct sp_error *err) {
    for (int i = 0; w->hash && i < n; i++) sp_hasher_add(w->hash, iov[i].iov_base, iov[i].iov_len);
    while (n > 0) {
        ssize_t k = writev(w->fd, iov, n);
        if (k < 0 && sp_wire_again(w->fd, POLLOUT)) continue;
        if (k < 0) return sp_error_set(err, SP_E_IO, "writing %s: %s", w->name, strerror(errno));
        size_t done = (size_t)k;
        while (n > 0 && done >= iov->iov_len) {
            done -= iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + done;
            iov->iov_len -= done;
        }
    }
    return SP_OK;
}

enum sp_code sp_writer_flush(struct sp_writer *w, struct sp_error *err) {
    struct iovec all = {w->buf, w->n};
    w->n = 0;
    return all.iov_len ? write_pieces(w, &all, 1, err) : SP_OK;
}

/* msgpack-c's way out of the packer: the head may not be longer than a reader accepts. */
struct head_sink {
    uint8_t *out;
    size_t n;
};
static int sink_write(void *data, const char *bytes, size_t n) {
    struct head_sink *sink = data;
    if (n > SP_WIRE_HEAD_MAX - sink->n) return -1;
    memcpy(sink->out + sink->n, bytes, n);
    sink->n += n;
    return 0;
}

static enum sp_code pack_head(struct sp_writer *w, const struct sp_record *rec,
                              struct sp_error *err) {
    struct head_sink sink = {.out = w->buf + w->n};
    msgpack_packer pk;
    msgpack_packer_init(&pk, &sink, sink_write);
    bool ok = msgpack_pack_array(&pk, 3) == 0 &&
              msgpack_pack_str_with_body(&pk, rec->kind_name, strlen(rec->kind_name)) == 0 &&
              sink_write(&sink, (const char *)rec->map, rec->map_bytes) == 0 &&
              msgpack_pack_array(&pk, rec->n_tensor) == 0;
    for (uint32_t i = 0; ok && i < rec->n_tensor; i++)
        ok = msgpack_pack_str_with_body(&pk, rec->name[i], strlen(rec->name[i])) == 0;
    if (!ok)
        return sp_error_set(err, SP_E_DATA, "a %s record's map is over %zu bytes", rec->kind_name,
                            SP_WIRE_HEAD_MAX);
    w->n += sink.n;
    return SP_OK;
}

static void end_piece(struct pieces *ps, const struct sp_writer *w, size_t end) {
    if (end > ps->start)
        ps->iov[ps->n++] = (struct iovec){(void *)(uintptr_t)(w->buf + ps->start), end - ps->start};
    ps->start = end;
}

static void put_tensor(struct sp_writer *w, struct pieces *ps, const struct sp_tensor *t) {
    static const uint8_t zeros[8];
    w->n += sp_wire_tensor_store(t, w->buf + w->n);
    if (t->n_bytes > COPY_BYTES_MAX) {
        end_piece(ps, w, w->n);
        ps->iov[ps->n++] = (struct iovec){t->data, t->n_bytes};
    } else if (t->n_bytes) {
        memcpy(w->buf + w->n, t->data, t->n_bytes);
        w->n += t->n_bytes;
    }
    size_t padding = sp_wire_padded(t->n_bytes) - t->n_bytes;
    memcpy(w->buf + w->n, zeros, padding);
    w->n += padding;
}

enum sp_code sp_writer_write(struct sp_writer *w, const struct sp_record *rec,
                             struct sp_error *err) {
    for (uint32_t i = 0; i < rec->n_tensor; i++)
        if (rec->tensor[i].n_bytes > SP_TENSOR_BYTES_MAX)
            return sp_error_set(err, SP_E_DATA, "the tensor '%s' is over %zu bytes", rec->name[i],
                                SP_TENSOR_BYTES_MAX);
    struct pieces ps = {.n = 0, .start = 0};
    enum sp_code code = pack_head(w, rec, err);
    if (code) return code;
    for (uint32_t i = 0; i < rec->n_tensor; i++) put_tensor(w, &ps, &rec->tensor[i]);
    if (ps.n == 0 && w->n <= HELD_BYTES_MAX) return SP_OK;
    end_piece(&ps, w, w->n);
    w->n = 0;
    return write_pieces(w, ps.iov, ps.n, err);
}
