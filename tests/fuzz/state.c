/* Any bytes as a state. Checksums would stop nearly every mutation at the door, so the records are
 * read once as they are, and once more sealed anew. */
#include "../../lib/state.h"
#include "../../lib/wire.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct sp_reader *open_bytes(const uint8_t *data, size_t n, int *fd) {
    struct sp_error err;
    struct sp_reader *r;
    *fd = memfd_create("fuzz", 0);
    if (*fd < 0 || write(*fd, data, n) != (ssize_t)n) abort();
    lseek(*fd, 0, SEEK_SET);
    if (sp_reader_new(&r, *fd, "fuzz", &err)) abort();
    return r;
}

static void read_resealed(struct sp_reader *r) {
    struct sp_error err;
    struct sp_state_gather g = {0};
    struct sp_record *rec;
    struct sp_state *s;
    while (!sp_reader_read(r, &rec, &err) && rec) {
        if (rec->kind == SP_KIND_STATE && !sp_wire_seal(rec, &err))
            sp_state_gather_add(&g, rec, &err);
        else
            sp_record_free(rec);
    }
    if (!sp_state_gather_end(&g, &s, &err)) sp_state_free(s);
    sp_state_gather_clear(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct sp_error err;
    struct sp_state *s;
    int fd;
    struct sp_reader *r = open_bytes(data, n, &fd);
    if (!sp_state_receive(&s, r, &err)) sp_state_free(s);
    sp_reader_free(r);
    close(fd);
    r = open_bytes(data, n, &fd);
    read_resealed(r);
    sp_reader_free(r);
    close(fd);
    return 0;
}
