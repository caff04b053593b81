/* What every program's main does first and last: read the command line, report an error, close
 * standard output so that a full disk or a closed pipe is noticed. */
#ifndef SP_CLI_H
#define SP_CLI_H

#include "../lib/io.h"
#include "../lib/option.h"
#include "../lib/text_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Rows of option tables that several programs have, with where the value goes. */
#define CLI_OPTION_MODEL(value)                                                                    \
    { SP_OPT_STRING, 'm', "model", "DIR", "the model's directory", &(value), 0, 0 }
#define CLI_OPTION_DTYPE(value)                                                                    \
    {                                                                                              \
        SP_OPT_CHOICE, 0, "dtype", "f32|bf16", "type of weights and inputs in products (f32)",     \
            &(value), 0, 0                                                                         \
    }
#define CLI_OPTION_WIRE(value)                                                                     \
    {                                                                                              \
        SP_OPT_CHOICE, 0, "wire", "f32|bf16", "type of the hidden states written (f32)", &(value), \
            0, 0                                                                                   \
    }
#define CLI_OPTION_DEVICE(value)                                                                   \
    { SP_OPT_CHOICE, 0, "device", "auto|cpu|cuda|emu", "where to compute (auto)", &(value), 0, 0 }
#define CLI_OPTION_JOBS(value)                                                                     \
    { SP_OPT_INT, 'j', "jobs", "N", "threads (all cores)", &(value), 0, 256 }
#define CLI_OPTION_FORCE(value)                                                                    \
    { SP_OPT_FLAG, 'f', "force", NULL, "write to a terminal all the same", &(value), 0, 0 }
#define CLI_OPTION_VERBOSE(value)                                                                  \
    { SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr what runs", &(value), 0, 0 }
#define CLI_OPTION_HEADER(value)                                                                   \
    {                                                                                              \
        SP_OPT_FLAG, 'H', "header", NULL, "begin with a line of column names (tsv, csv)",          \
            &(value), 0, 0                                                                         \
    }
#define CLI_OPTION_MIN_P(value)                                                                    \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "min-p", "P", "leave out fields with a probability below P (0)",         \
            &(value), 0, 1                                                                         \
    }
#define CLI_OPTION_RECORD_P(value)                                                                 \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "record-p", "P", "leave out records with a probability below P (0.35)",  \
            &(value), 0, 1                                                                         \
    }
#define CLI_OPTION_RECALL(value)                                                                   \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "recall", "NATS", "favour fields over none by so much a token (0.75)",   \
            &(value), -100, 100                                                                    \
    }
#define CLI_OPTION_REST                                                                            \
    { SP_OPT_REST, 0, NULL, NULL, NULL, NULL, 0, 0 }
#define CLI_OPTION_END                                                                             \
    { SP_OPT_END, 0, NULL, NULL, NULL, NULL, 0, 0 }

/* Prints "program: message" and returns the exit status. */
static inline int cli_fail(const struct sp_program *p, const struct sp_error *err) {
    fflush(stdout);
    fprintf(stderr, "%.*s: %s\n", sp_program_name_length(p), p->name, err->msg);
    return sp_error_exit_status(err->code);
}

/* Flushes and closes standard output; the exit status to end with. */
static inline int cli_close(const struct sp_program *p, int status) {
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fclose(stdout) == 0 && !failed) return status;
    int io = sp_error_exit_status(SP_E_IO);
    if (status != io) /* else it has been said */
        fprintf(stderr, "%.*s: writing standard output: %s\n", sp_program_name_length(p), p->name,
                errno ? strerror(errno) : "failed");
    return io;
}

/* Bytes that pipes at standard input and output are widened to, where it is set (statepipe sh sets
 * it): a chunk of tensors then fits, and the programs do not take turns at every 64 KiB. */
#define CLI_PIPE_SIZE "STATEPIPE_PIPE_SIZE"

/* What the kernel refuses stays as it is; descriptors that are no pipes do not mind being asked. */
static inline void cli_widen_pipes(void) {
    const char *size = getenv(CLI_PIPE_SIZE);
    int n = size ? atoi(size) : 0;
    for (int fd = STDIN_FILENO; n > 0 && fd <= STDOUT_FILENO; fd++)
        if (fcntl(fd, F_GETPIPE_SZ) < n) (void)fcntl(fd, F_SETPIPE_SZ, n);
}

/* Parses; answers --help and --version. False: end with *status. */
static inline bool cli_start(const struct sp_program *p, int argc, char **argv, int *n_operand,
                             int *status) {
    struct sp_error err;
    enum sp_option_action action;
    cli_widen_pipes();
    if (sp_option_parse(p, argc, argv, n_operand, &action, &err)) {
        *status = cli_fail(p, &err);
        return false;
    }
    if (action == SP_OPTION_RUN) return true;
    if (action == SP_OPTION_HELP || action == SP_OPTION_HELP_ALL)
        sp_option_help(p, action == SP_OPTION_HELP_ALL, stdout);
    else
        printf("%.*s (statepipe) %s\n", sp_program_name_length(p), p->name, SP_VERSION);
    *status = cli_close(p, 0);
    return false;
}

/* Replaces what is not UTF-8 in a text of the user's and says where; *text may move. */
static inline enum sp_code cli_make_valid(const struct sp_program *p, char **text, size_t *n,
                                          const char *path, struct sp_error *err) {
    char note[SP_TEXT_NOTE_SIZE];
    enum sp_code code = sp_text_repair(text, n, note, err);
    if (!code && note[0]) fprintf(stderr, "%s: %s: %s\n", p->name, sp_io_shown(path), note);
    return code;
}

/* SP_E_USAGE where binary output would go to a terminal. */
static inline enum sp_code cli_refuse_terminal(bool force, struct sp_error *err) {
    if (force || !isatty(STDOUT_FILENO)) return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "the output is binary and standard output is a terminal; pipe it into the "
                        "next program or `inspect`, or force it with -f");
}

/* SP_E_USAGE where a stream would be read from the keyboard: nobody can type one. */
static inline enum sp_code cli_refuse_keyboard(int n_operand, struct sp_error *err) {
    if (n_operand > 0 || !isatty(STDIN_FILENO)) return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "standard input is a terminal; pipe a stream into it, or name a FILE");
}

#endif
