/* Which backend a name means. */
#include "backend.h"

#include <string.h>

enum sp_code sp_backend_open(struct sp_backend **be, const char *device, int n_thread,
                             struct sp_error *err) {
    *be = NULL;
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0)
        return sp_backend_cpu_new(be, n_thread, err);
    if (strcmp(device, "cuda") == 0 || strcmp(device, "emu") == 0)
        return sp_error_set(err, SP_E_DEVICE,
                            "device %s: this build has no plugin for it; use --device cpu", device);
    return sp_error_set(err, SP_E_USAGE, "device '%s' is not one of auto, cpu, cuda, emu", device);
}
