/* States into files. */
#include "state_files.h"

#include "io.h"
#include "net_layers.h"
#include "state_cut.h"
#include "state_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum sp_code sp_state_put_named(const struct sp_state *s, struct sp_state_names *names,
                                const char *id, size_t n_id, uint64_t number, bool many,
                                struct sp_error *err) {
    char path[4096];
    bool varies;
    enum sp_code code =
        sp_layers_file_name(path, sizeof path, names->pattern, id, n_id, number, &varies, err);
    if (!code && many && !varies)
        code = sp_error_set(err, SP_E_USAGE,
                            "-o %.200s: several states would overwrite one another; use %%i or %%n "
                            "(a number) in the name",
                            names->pattern);
    if (!code && strcmp(path, "-") != 0) code = sp_taken_add(&names->taken, path, number, err);
    if (!code && names->input) code = sp_io_check_output(path, names->input, err);
    return code ? code : sp_state_put(s, path, err);
}

enum sp_code sp_state_put_layers(const struct sp_state *s, int64_t first, int64_t last,
                                 struct sp_state_names *names, uint64_t number, bool many,
                                 struct sp_error *err) {
    char id[64];
    struct sp_state *part;
    snprintf(id, sizeof id, first == last ? "%lld" : "%lld-%lld", (long long)first,
             (long long)last);
    enum sp_code code = sp_state_slice(&part, s, first, last, err);
    if (!code) code = sp_state_put_named(part, names, id, strlen(id), number, many, err);
    sp_state_free(part);
    return code;
}

static enum sp_code cut(struct sp_state_cut *c, struct sp_state_names *names,
                        struct sp_state_cut_result *result, struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code;
    while (!(code = sp_state_cut_next(c, &s, err)) && s) {
        code =
            sp_state_put_named(s, names, c->id, c->n_id, result->n_state, result->n_state > 0, err);
        sp_state_free(s);
        if (code == SP_E_DATA)
            sp_error_prefix(err, "document '%.*s'", (int)(c->n_id < 60 ? c->n_id : 60), c->id);
        if (code) return code;
        result->n_state++;
    }
    result->n_error += c->n_error;
    result->upstream_exit = c->upstream_exit;
    return code;
}

enum sp_code sp_state_cut_files(const char *stream, struct sp_state_names *names,
                                struct sp_state_cut_result *result, struct sp_error *err) {
    int fd;
    struct sp_reader *r = NULL;
    struct sp_state_cut *c = calloc(1, sizeof *c);
    if (!c) return sp_error_memory(err, "a document");
    enum sp_code code = sp_io_open(&fd, stream, err);
    if (!code) {
        const char *name = sp_io_shown(stream);
        code = sp_reader_new(&r, fd, name, err);
        c->r = r;
        if (!code) code = cut(c, names, result, err);
        close(fd);
    }
    if (r) sp_reader_free(r);
    sp_state_cut_clear(c);
    free(c);
    return code;
}
