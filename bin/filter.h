/* The filters' main loop: each operand (or standard input) through one filter into one stream. */
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
    code = sp_reader_new(&r, fd, strcmp(path, "-") == 0 ? "standard input" : path, err);
    if (!code) code = sp_filter_run(f, r, w, result, err);
    sp_reader_free(r);
    close(fd);
    return code;
}

/* Prints the errors of documents as they come. Returns the exit status so far; a fatal error's is
 * the caller's to report (*err, and its code as *code). */
static inline int filter_files(struct sp_filter *f, int n_file, char **file, enum sp_code *code,
                               struct sp_error *err) {
    static char standard_input[] = "-";
    struct sp_writer *w = NULL;
    int status = 0;
    *code = cli_refuse_keyboard(n_file, err);
    if (!*code && !f->silent) *code = sp_writer_new(&w, STDOUT_FILENO, "standard output", err);
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

#endif
