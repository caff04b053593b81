/* Names of the files that states are dumped to. */
#include "net_layers.h"

#include <stdio.h>
#include <string.h>

static bool harmless(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

enum sp_code sp_layers_file_name(char *out, size_t size, const char *pattern, const char *id,
                                 size_t n_id, uint64_t number, bool *varies, struct sp_error *err) {
    size_t at = 0;
    *varies = false;
    for (const char *p = pattern; *p; p++) {
        if (at + 24 >= size || (*p == '%' && p[1] == 'i' && at + n_id + 1 >= size))
            return sp_error_set(err, SP_E_USAGE, "a file's name is too long: %.60s...", pattern);
        if (*p != '%') {
            out[at++] = *p;
            continue;
        }
        p++;
        *varies = *varies || *p == 'i' || *p == 'n';
        if (*p == '%') {
            out[at++] = '%';
        } else if (*p == 'n') {
            at += (size_t)snprintf(out + at, size - at, "%llu", (unsigned long long)number);
        } else if (*p == 'i') {
            for (size_t i = 0; i < n_id; i++) {
                bool ok = harmless(id[i]) && !(i == 0 && id[i] == '.');
                out[at++] = ok ? id[i] : '_';
            }
        } else {
            return sp_error_set(err, SP_E_USAGE,
                                "the file's name %.200s: %%%.1s is not one of %%i (the id), "
                                "%%n (the number), %%%%",
                                pattern, p);
        }
        if (*p == 0) break;
    }
    out[at] = 0;
    return SP_OK;
}
