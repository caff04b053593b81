/* Errors: a code and a message that the caller owns. */
#include "statepipe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum sp_code sp_error_set(struct sp_error *err, enum sp_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    err->code = code;
    return code;
}

enum sp_code sp_error_prefix(struct sp_error *err, const char *fmt, ...) {
    struct sp_error joined;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(joined.msg, sizeof joined.msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof joined.msg)
        snprintf(joined.msg + n, sizeof joined.msg - (size_t)n, ": %s", err->msg);
    memcpy(err->msg, joined.msg, sizeof err->msg);
    return err->code;
}

enum sp_code sp_error_name(struct sp_error *err, const char *file) {
    static const char reading[] = "reading ";
    const char *at = err->msg;
    if (strncmp(at, reading, strlen(reading)) == 0) at += strlen(reading);
    bool named = strncmp(at, file, strlen(file)) == 0;
    return named ? err->code : sp_error_prefix(err, "%s", file);
}

enum sp_code sp_error_memory(struct sp_error *err, const char *what) {
    return sp_error_set(err, SP_E_DEVICE, "out of memory for %s", what);
}

int sp_error_exit_status(enum sp_code code) {
    switch (code) {
    case SP_OK: return 0;
    case SP_E_USAGE: return 2;
    case SP_E_DATA: return 65;
    case SP_E_NOINPUT: return 66;
    case SP_E_DEVICE: return 69;
    case SP_E_BUG: return 70;
    case SP_E_IO: return 74;
    }
    return 70;
}
