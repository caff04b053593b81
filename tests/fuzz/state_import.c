/* Any bytes as a state in safetensors, edited since: its checksum would stop nearly every mutation.
 */
#include "../../lib/state_safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct sp_error err;
    struct sp_state *s;
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!sp_state_import(&s, path, true, &err)) sp_state_free(s);
    close(fd);
    return 0;
}
