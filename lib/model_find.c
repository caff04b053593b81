/* Where the model is when nobody says. */
#include "model.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SP_DATADIR
#define SP_DATADIR "/usr/local/share/statepipe"
#endif

enum sp_code sp_model_default_dir(char *out, size_t size, struct sp_error *err) {
    const char *named = getenv("STATEPIPE_MODEL");
    char exe[PATH_MAX], dir[2 * PATH_MAX], probe[2 * PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) *slash = 0;
    /* Installed in libexec/statepipe, installed in bin, built in build/bin, compiled in. */
    static const char *const places[] = {"../../share/statepipe/model", "../share/statepipe/model",
                                         "../../share/model"};
    if (named && *named) {
        snprintf(dir, sizeof dir, "%.*s", PATH_MAX, named);
    } else {
        snprintf(dir, sizeof dir, "%s", SP_DATADIR "/model");
        for (size_t i = 0; i < sizeof places / sizeof places[0] && slash; i++) {
            snprintf(probe, sizeof probe, "%s/%s/config.json", exe, places[i]);
            if (access(probe, R_OK) != 0) continue;
            snprintf(dir, sizeof dir, "%s/%s", exe, places[i]);
            break;
        }
    }
    snprintf(probe, sizeof probe, "%s/config.json", dir);
    if (access(probe, R_OK) != 0)
        return sp_error_set(err, SP_E_NOINPUT,
                            "no model in %.300s%s; name one with -m DIR or $STATEPIPE_MODEL", dir,
                            named && *named ? " ($STATEPIPE_MODEL)" : "");
    if (strlen(dir) >= size) return sp_error_set(err, SP_E_USAGE, "path too long: %.60s...", dir);
    memcpy(out, dir, strlen(dir) + 1);
    return SP_OK;
}
