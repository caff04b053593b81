/* Names of the files that states are dumped to. */
#include "net_layers.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* Letters, their marks and digits of any script, and three more. */
static bool harmless(int32_t c) {
    utf8proc_category_t k = c < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) || c == '.' || c == '_' ||
           c == '-';
}

/* An id as part of a name: at most as long. */
static size_t put_id(char *out, const char *id, size_t n_id) {
    size_t n = 0, len;
    for (size_t i = 0; i < n_id; i += len) {
        int32_t c = sp_utf8_decode(id + i, n_id - i, &len);
        bool hides = i == 0 && (c == '.' || c == '-');
        if (!harmless(c) || hides) {
            out[n++] = '_';
        } else {
            memcpy(out + n, id + i, len);
            n += len;
        }
    }
    return n;
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
            at += put_id(out + at, id, n_id);
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

enum sp_code sp_layers_check_dump(const char *pattern, uint64_t n_doc, bool fork,
                                  struct sp_error *err) {
    char path[4096], other[sizeof path];
    bool varies;
    enum sp_code code = sp_layers_file_name(path, sizeof path, pattern, "", 0, 0, &varies, err);
    if (code) return sp_error_prefix(err, "--dump-state");
    if (n_doc > 1 && !varies)
        return sp_error_set(err, SP_E_USAGE,
                            "--dump-state %.200s: a second document would overwrite the first "
                            "one's state; use %%i (its id) or %%n (its number) in the name",
                            pattern);
    if (!fork) return SP_OK;
    code = sp_layers_file_name(other, sizeof other, pattern, "", 0, 1, &varies, err);
    if (code || strcmp(path, other) != 0) return code;
    return sp_error_set(err, SP_E_USAGE,
                        "--dump-state %.200s: choices have the id of their text, whose state they "
                        "would overwrite; use %%n (the number) in the name",
                        pattern);
}
