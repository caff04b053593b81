/* Questions as lines of JSON. */
#include "fill_run.h"
#include "io.h"
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)1 << 16)
#define LINE_BYTES_MAX ((size_t)64 << 20)

/* A value as a string, numbers as they are written; NULL (SP_OK) where it is of another type. */
static enum sp_code copy_value(const struct sp_json *j, sp_json_node v, char **out, size_t *n,
                               struct sp_error *err) {
    size_t n_raw = 0;
    *out = NULL;
    if (sp_json_type(j, v) == SP_JSON_NUMBER) {
        if (asprintf(out, "%.17g", sp_json_number(j, v, 0)) < 0) *out = NULL;
        *n = *out ? strlen(*out) : 0;
        return *out ? SP_OK : sp_error_memory(err, "a line of JSON");
    }
    if (!sp_json_raw(j, v, &n_raw)) return SP_OK;
    *out = malloc(n_raw + 1);
    if (!*out) return sp_error_memory(err, "a line of JSON");
    *n = (size_t)sp_json_string(j, v, *out);
    (*out)[*n] = 0;
    return SP_OK;
}

static bool of_type(const struct sp_json *j, const char *key, bool needed, bool number) {
    enum sp_json_type type = sp_json_type(j, sp_json_get(j, 0, key));
    return type == SP_JSON_STRING || (type == SP_JSON_NULL && !needed) ||
           (type == SP_JSON_NUMBER && number);
}

static enum sp_code ask_object(struct sp_fill_run *r, const struct sp_json *j, const char *where,
                               struct sp_lm_seq *context, struct sp_error *err) {
    struct sp_fill_ask_item item = {0};
    char *id = NULL, *query = NULL;
    size_t n_id, n_query;
    struct sp_error why;
    if (sp_json_type(j, 0) != SP_JSON_OBJECT || !of_type(j, "query", true, false) ||
        !of_type(j, "doc", false, false) || !of_type(j, "id", false, true)) {
        sp_error_set(&why, SP_E_DATA, "not an object {\"id\", \"doc\", \"query\"} of strings");
        return sp_fill_run_fail(r, where, &why, err);
    }
    enum sp_code code = copy_value(j, sp_json_get(j, 0, "id"), &id, &n_id, err);
    if (!code) code = copy_value(j, sp_json_get(j, 0, "query"), &query, &n_query, err);
    if (!code) code = copy_value(j, sp_json_get(j, 0, "doc"), &item.doc, &item.n_doc, err);
    if (!item.doc) item.context = context;
    if (!code)
        code = sp_fill_run_ask(r, id ? id : strrchr(where, ':') + 1, query, n_query, &item, err);
    else
        free(item.doc);
    free(id);
    free(query);
    return code;
}

static enum sp_code ask_line(struct sp_fill_run *r, const char *line, size_t n, const char *where,
                             struct sp_lm_seq *context, struct sp_error *err) {
    struct sp_json *j = NULL;
    struct sp_error why;
    while (n > 0 && strchr(" \t\r", line[n - 1])) n--;
    if (n == 0) return SP_OK;
    if (sp_json_parse(&j, line, n, "the line", &why)) return sp_fill_run_fail(r, where, &why, err);
    enum sp_code code = ask_object(r, j, where, context, err);
    sp_json_free(j);
    return code;
}

/* What has been read and not asked: a part of a line, and the bytes of the last read. */
struct lines {
    char *text;
    size_t n, cap;
    uint64_t number;
};

/* The whole lines of it; at the end of the file, the last one too. */
static enum sp_code ask_lines(struct sp_fill_run *r, struct lines *l, bool end, const char *name,
                              struct sp_lm_seq *context, struct sp_error *err) {
    char where[300];
    size_t at = 0;
    enum sp_code code = SP_OK;
    while (!code && at < l->n) {
        const char *line = l->text + at, *newline = memchr(line, '\n', l->n - at);
        if (!newline && !end) break;
        size_t n = newline ? (size_t)(newline - line) : l->n - at;
        snprintf(where, sizeof where, "%.200s:%llu", name, (unsigned long long)++l->number);
        code = ask_line(r, line, n, where, context, err);
        at += n + (newline != NULL);
    }
    l->n -= at;
    if (at > 0) memmove(l->text, l->text + at, l->n);
    return code;
}

static enum sp_code read_more(struct lines *l, int fd, const char *name, size_t *got,
                              struct sp_error *err) {
    if (l->cap - l->n < READ_BYTES) {
        size_t cap = 2 * l->cap + READ_BYTES;
        char *grown = l->n <= LINE_BYTES_MAX ? realloc(l->text, cap) : NULL;
        if (!grown && l->n <= LINE_BYTES_MAX) return sp_error_memory(err, "a line of JSON");
        if (!grown)
            return sp_error_set(err, SP_E_DATA, "%s:%llu: a line of more than %zu bytes", name,
                                (unsigned long long)l->number + 1, LINE_BYTES_MAX);
        l->text = grown;
        l->cap = cap;
    }
    ssize_t n;
    do n = read(fd, l->text + l->n, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return sp_error_set(err, SP_E_IO, "reading %s: %s", name, strerror(errno));
    *got = (size_t)n;
    l->n += *got;
    return SP_OK;
}

enum sp_code sp_fill_run_jsonl(struct sp_fill_run *r, int fd, const char *name,
                               struct sp_lm_seq *context, struct sp_error *err) {
    struct lines l = {0};
    size_t got = 1;
    enum sp_code code = SP_OK;
    while (!code && got > 0) {
        if (!sp_io_ready(fd)) code = sp_fill_run_flush(r, err);
        if (!code) code = read_more(&l, fd, name, &got, err);
        if (!code) code = ask_lines(r, &l, got == 0, name, context, err);
    }
    free(l.text);
    return code;
}
