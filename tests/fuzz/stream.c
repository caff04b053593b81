/* Any bytes as a stream: through the reader and the frame of the filters into a writer; what comes
 * out must be a stream again, of the same records. */
#include "../../lib/statepipe.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int memory_file(const void *data, size_t n) {
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) abort();
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    (void)ctx;
    uint64_t pos = 1;
    sp_record_get_u64(rec, "pos", &pos);
    /* Some documents fail, so that this path is seen too. */
    enum sp_code code = rec->kind == SP_KIND_CHUNK && pos == 77
                            ? sp_error_set(err, SP_E_DATA, "a chunk at 77")
                            : sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

/* Reads to the end or the first error; counts records. */
static enum sp_code count_records(int fd, size_t *n, struct sp_error *err) {
    struct sp_reader *r;
    struct sp_record *rec;
    if (sp_reader_new(&r, fd, "fuzz", err)) abort();
    enum sp_code code;
    *n = 0;
    while (!(code = sp_reader_read(r, &rec, err)) && rec) {
        ++*n;
        sp_record_free(rec);
    }
    sp_reader_free(r);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    int in = memory_file(data, n), out = memfd_create("fuzz", 0);
    struct sp_error err;
    struct sp_reader *r;
    struct sp_writer *w;
    struct sp_filter_result result;
    struct sp_filter f = {
        .program = "fuzz", .in = SP_HIDDEN, .out = SP_HIDDEN, .on_record = on_record};
    size_t before, after;
    if (sp_reader_new(&r, in, "fuzz", &err) || sp_writer_new(&w, out, "fuzz", &err)) abort();
    enum sp_code code = sp_filter_run(&f, r, w, &result, &err);
    sp_reader_free(r);
    sp_writer_free(w);
    lseek(in, 0, SEEK_SET);
    lseek(out, 0, SEEK_SET);
    enum sp_code in_code = count_records(in, &before, &err);
    /* What a filter wrote is a stream, whatever came in: a fatal ERR ends it. */
    if (count_records(out, &after, &err)) abort();
    if (!code && in_code) abort();
    if (!code && result.n_error == 0 && !result.upstream_exit && before != after) abort();
    close(in);
    close(out);
    return 0;
}
