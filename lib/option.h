/* Command lines: one table per program gives its options, its --help and (through tests) what its
 * man page and completions must mention. Owns no memory; strings point into argv. */
#ifndef SP_OPTION_H
#define SP_OPTION_H

#include "statepipe.h"
#include <stdio.h>

enum sp_option_type {
    SP_OPT_END = 0,
    SP_OPT_FLAG,   /* bool *value: set to true */
    SP_OPT_COUNT,  /* int *value: counted up (-v -v) */
    SP_OPT_STRING, /* const char **value */
    SP_OPT_LIST,   /* struct sp_option_list *value: may be given more than once */
    SP_OPT_INT,    /* int64_t *value in [min, max]; k, M, G suffixes of 1000 are not accepted */
    SP_OPT_DOUBLE, /* double *value in [min, max] */
    SP_OPT_CHOICE, /* const char **value: one of arg, written a|b|c */
    SP_OPT_REST, /* no option: --help leaves out the rows behind this one, --help-all shows them */
};

#define SP_OPTION_LIST_MAX 64
struct sp_option_list {
    size_t n;
    const char *item[SP_OPTION_LIST_MAX];
};

struct sp_option {
    enum sp_option_type type;
    char letter;      /* 0 for none */
    const char *name; /* without the dashes; NULL for none */
    const char *arg;  /* placeholder in --help, or the choices */
    const char *help; /* without a final dot; broken into lines where it is long */
    void *value;
    double min, max; /* for numbers */
};

struct sp_program {
    const char *name;                /* "state", or of one of its commands "state mix" */
    const char *operands;            /* "[FILE...]"; NULL for none */
    const char *summary;             /* one line: what it does */
    const char *detail;              /* a few lines below the options, or NULL */
    const char *example;             /* one or more shell lines */
    const char *status_1;            /* what exit status 1 says; NULL: "some documents failed" */
    const struct sp_option *options; /* ended by SP_OPT_END; help and version are implied */
};

/* Of the program's own name, without that of a command: what messages begin with. */
static inline int sp_program_name_length(const struct sp_program *p) {
    int n = 0;
    while (p->name[n] && p->name[n] != ' ') n++;
    return n;
}

enum sp_option_action { SP_OPTION_RUN, SP_OPTION_HELP, SP_OPTION_HELP_ALL, SP_OPTION_VERSION };

/* Options and operands may be mixed, "--" ends options, "-" is an operand. Operands are moved to
 * the front: argv[0 .. *n_operand). SP_E_USAGE says which argument and what is accepted. */
enum sp_code sp_option_parse(const struct sp_program *p, int argc, char **argv, int *n_operand,
                             enum sp_option_action *action, struct sp_error *err);
/* "A-B" or "A", whole numbers from 0, A <= B < 2^31. shown: the option, for the message. */
enum sp_code sp_option_range(const char *value, const char *shown, int64_t *first, int64_t *last,
                             struct sp_error *err);
/* At most 80 columns; without all, what stands before SP_OPT_REST, meant to be 24 lines at most. */
void sp_option_help(const struct sp_program *p, bool all, FILE *out);

#endif
