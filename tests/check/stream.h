/* Streams for checks: built in memory, read back. Include after check.h. */
#ifndef SP_CHECK_STREAM_H
#define SP_CHECK_STREAM_H

#include "../../lib/statepipe.h"

#include <sys/mman.h>
#include <unistd.h>

static struct sp_error err;

/* Ends the run: nothing can be checked without it. */
static inline void must(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", err.msg);
    exit(1);
}

/* A file in memory with these bytes, at its start. */
static inline int memory_file(const void *data, size_t n) {
    int fd = memfd_create("check", 0);
    if (fd < 0 || (n && write(fd, data, n) != (ssize_t)n)) abort();
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static inline struct sp_tensor random_tensor(enum sp_dtype dtype, uint32_t rank,
                                             const uint64_t *dim) {
    struct sp_tensor t;
    must(sp_tensor_new(&t, dtype, rank, dim, &err));
    uint8_t *p = t.data;
    for (size_t i = 0; i < t.n_bytes; i++) p[i] = (uint8_t)check_random();
    return t;
}

static inline struct sp_record *hello_record(enum sp_content content) {
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

static inline struct sp_record *numbers(enum sp_kind kind, const char *key, uint64_t v,
                                        const char *key2, uint64_t v2) {
    struct sp_record *rec = sp_record_new(kind);
    must(sp_record_set_u64(rec, key, v, &err));
    if (key2) must(sp_record_set_u64(rec, key2, v2, &err));
    return rec;
}

static inline struct sp_record *chunk(uint64_t doc, uint64_t rows, uint64_t d) {
    struct sp_record *rec = numbers(SP_KIND_CHUNK, "doc", doc, "pos", 0);
    uint64_t span[2] = {rows, 2}, hidden[2] = {rows, d};
    struct sp_tensor t = random_tensor(SP_U32, 1, &rows);
    must(sp_record_put_tensor(rec, "ids", &t, &err));
    t = random_tensor(SP_U64, 2, span);
    must(sp_record_put_tensor(rec, "span", &t, &err));
    t = random_tensor(SP_F32, 2, hidden);
    must(sp_record_put_tensor(rec, "hidden", &t, &err));
    return rec;
}

static inline void send_record(struct sp_writer *w, struct sp_record *rec) {
    must(sp_writer_write(w, rec, &err));
    sp_record_free(rec);
}

/* The bytes of n records as a writer writes them; frees them. */
static inline size_t bytes_of(struct sp_record **rec, size_t n, uint8_t *out, size_t cap) {
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

#endif
