/* What the filters' mains have in common: each operand (or standard input) through one filter into
 * one stream, errors of documents on standard error as they come, and with -v once what runs. */
#ifndef SP_BIN_FILTER_H
#define SP_BIN_FILTER_H

#include "../lib/io.h"
#include "cli.h"

static inline enum sp_code filter_file(struct sp_filter *f, const char *path, struct sp_writer *w,
                                       struct sp_filter_result *result, struct sp_error *err) {
    struct sp_reader *r = NULL;
    int fd;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    code = sp_reader_new(&r, fd, sp_io_shown(path), err);
    if (!code) code = sp_filter_run(f, r, w, result, err);
    sp_reader_free(r);
    close(fd);
    return code;
}

/* What runs, in a line for -v; "" as long as it is not known. */
typedef void filter_describe(void *ctx, char *out, size_t size);

/* A program is one filter. Its callbacks are given the filter's ctx, which is the library's; this
 * is what the callbacks below need beside it. */
static struct {
    const struct sp_program *program;
    filter_describe *describe; /* NULL: nothing to say, or said */
    const char *output;        /* what standard output is, for messages; NULL: just that */
    enum sp_code (*on_hello)(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err);
} filter_program;

static inline void filter_on_error(void *ctx, const struct sp_error *why) {
    (void)ctx;
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", filter_program.program->name, why->msg);
}

/* The filter's own on_hello, and the line once its model is known. */
static inline enum sp_code filter_on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                                           struct sp_error *err) {
    char what[700] = "";
    enum sp_code code = filter_program.on_hello(ctx, hello, rec, err);
    if (!code && filter_program.describe) filter_program.describe(ctx, what, sizeof what);
    if (!what[0]) return code;
    fprintf(stderr, "%s: %s\n", filter_program.program->name, what);
    filter_program.describe = NULL;
    return code;
}

/* Returns the exit status so far; a fatal error's is the caller's to report (*err, and its code as
 * *code). describe may be NULL. */
static inline int filter_files(const struct sp_program *p, struct sp_filter *f,
                               filter_describe *describe, int n_file, char **file,
                               enum sp_code *code, struct sp_error *err) {
    static char standard_input[] = "-";
    struct sp_writer *w = NULL;
    int status = 0;
    filter_program.program = p;
    filter_program.describe = describe;
    filter_program.on_hello = f->on_hello;
    f->program = p->name;
    f->on_error = filter_on_error;
    if (describe) f->on_hello = filter_on_hello;
    *code = cli_refuse_keyboard(n_file, err);
    if (!*code && !f->silent)
        *code =
            sp_writer_new(&w, STDOUT_FILENO,
                          filter_program.output ? filter_program.output : "standard output", err);
    for (int i = 0; !*code && i < (n_file > 0 ? n_file : 1); i++) {
        struct sp_filter_result result = {0};
        *code = filter_file(f, n_file > 0 ? file[i] : standard_input, w, &result, err);
        int file_status = *code ? 0 : sp_filter_exit_status(&result);
        if (file_status > status) status = file_status;
        if (result.upstream_exit) break;
    }
    sp_writer_free(w);
    return status;
}

/* The same for a program that ends with it: code is of the preparations, in *err where it is not
 * SP_OK. Reports what is fatal; the exit status, for cli_close. */
static inline int filter_main(const struct sp_program *p, struct sp_filter *f,
                              filter_describe *describe, int n_file, char **file, enum sp_code code,
                              struct sp_error *err) {
    int status = 0;
    if (!code) status = filter_files(p, f, describe, n_file, file, &code, err);
    return code ? cli_fail(p, err) : status;
}

#endif
