/* statepipe: the one command on a user's PATH. Runs a program of the project, or a pipeline of
 * them. */
#include "../lib/model.h"
#include "run.h"

#include <dirent.h>

static const struct sp_program program = {.name = "statepipe"};

static const char usage[] =
    "usage: statepipe COMMAND [ARGUMENT...]\n"
    "Selective state-space (Mamba) language models as Unix filters.\n"
    "\n"
    "  statepipe cv FILE...        education records of CVs, text or PDF\n"
    "  statepipe sh [-j N] 'PIPE'  run a pipeline, these programs in front of PATH\n"
    "  statepipe doctor            what this machine, the model and the libraries are\n"
    "  statepipe PROGRAM ...       run one program: statepipe tokenize --help\n"
    "  statepipe help [PROGRAM]    this text, or a program's manual\n"
    "  statepipe --exec-path       the folder of the programs\n"
    "  statepipe --model-path      the folder of the model used where none is named\n"
    "  statepipe --version         the version\n"
    "\n"
    "Programs:";

static const char closing[] =
    "\n\nExample:\n"
    "  statepipe sh 'tokenize cv.txt | embed | mamba-layer | head | extract'\n"
    "\n"
    "Exit status: that of the program or pipeline (the last that failed); 2 usage,\n"
    "66 no such program. More: man statepipe\n";

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_program(const struct dirent *d) {
    return d->d_name[0] != '.' && strcmp(d->d_name, "statepipe") != 0;
}

/* The usage text with the programs that are really there. */
static int print_help(void) {
    char dir[PATH_MAX];
    struct sp_error err;
    struct dirent **list = NULL;
    fputs(usage, stdout);
    int n = run_exec_path(dir, &err) ? 0 : scandir(dir, &list, is_program, by_name);
    size_t column = 80;
    for (int i = 0; i < n; i++) {
        column += strlen(list[i]->d_name) + 1;
        if (column > 76) {
            fputs("\n ", stdout);
            column = 2 + strlen(list[i]->d_name);
        }
        printf(" %s", list[i]->d_name);
        free(list[i]);
    }
    free(list);
    fputs(closing, stdout);
    return cli_close(&program, 0);
}

/* Becomes the program; comes back only with an error. */
static enum sp_code exec_program(char **argv, struct sp_error *err) {
    char dir[PATH_MAX], path[PATH_MAX + 256];
    enum sp_code code = run_exec_path(dir, err);
    if (code) return code;
    snprintf(path, sizeof path, "%s/%.200s", dir, argv[0]);
    if (!strchr(argv[0], '/') && strcmp(argv[0], "statepipe") != 0) execv(path, argv);
    return sp_error_set(err, SP_E_NOINPUT, "no program '%.60s' (see statepipe help)", argv[0]);
}

/* sh [-j N] 'PIPELINE' [ARGUMENT...]: bash with pipefail; arguments become $1 and so on. */
static enum sp_code exec_shell(int argc, char **argv, struct sp_error *err) {
    char dir[PATH_MAX];
    int64_t jobs = 0;
    int at = 1;
    if (at < argc && strncmp(argv[at], "-j", 2) == 0) {
        const char *value = argv[at][2] ? argv[at] + 2 : at + 1 < argc ? argv[++at] : "";
        char *end;
        jobs = strtoll(value, &end, 10);
        if (*end || jobs < 1 || jobs > 1024)
            return sp_error_set(err, SP_E_USAGE,
                                "sh: -j '%.20s' is not a number of threads from 1 "
                                "to 1024",
                                value);
        at++;
    }
    if (at < argc && strcmp(argv[at], "--") == 0) at++;
    if (at >= argc)
        return sp_error_set(err, SP_E_USAGE,
                            "sh: needs a pipeline, quoted: statepipe sh 'tokenize cv.txt | embed "
                            "| ...'");
    if (argv[at][0] == '-')
        return sp_error_set(err, SP_E_USAGE, "sh: unknown option %.20s (see statepipe help)",
                            argv[at]);
    enum sp_code code = run_exec_path(dir, err);
    if (!code) code = run_environment(dir, argv[at], jobs, err);
    if (code) return code;
    char **args = calloc((size_t)(argc - at) + 6, sizeof *args);
    if (!args) return sp_error_memory(err, "a command line");
    static char bash[] = "bash", option[] = "-o", pipefail[] = "pipefail", command[] = "-c",
                name[] = "statepipe";
    char *fixed[] = {bash, option, pipefail, command, argv[at], name};
    memcpy(args, fixed, sizeof fixed);
    for (int i = at + 1; i < argc; i++) args[i - at + 5] = argv[i];
    execvp("bash", args);
    free(args);
    return sp_error_set(err, SP_E_NOINPUT, "sh: cannot run bash: %s", strerror(errno));
}

/* The manual where there is one, else --help. */
static enum sp_code exec_help(char *name, struct sp_error *err) {
    char page[300];
    static char help[] = "--help";
    if (isatty(STDOUT_FILENO)) {
        snprintf(page, sizeof page, "man -w statepipe-%.200s >/dev/null 2>&1", name);
        bool plain = strspn(name, "abcdefghijklmnopqrstuvwxyz-") == strlen(name);
        if (plain && system(page) == 0) {
            snprintf(page, sizeof page, "statepipe-%.200s", name);
            execlp("man", "man", page, (char *)NULL);
        }
    }
    char *argv[] = {name, help, NULL};
    return exec_program(argv, err);
}

static int print_line(const char *line) {
    printf("%s\n", line);
    return cli_close(&program, 0);
}

int main(int argc, char **argv) {
    struct sp_error err = {0};
    char dir[PATH_MAX];
    const char *word = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        sp_error_set(&err, SP_E_USAGE, "say what to run; statepipe --help lists it");
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
               (strcmp(word, "help") == 0 && argc == 2)) {
        return print_help();
    } else if (strcmp(word, "--version") == 0) {
        return print_line("statepipe " SP_VERSION);
    } else if (strcmp(word, "--exec-path") == 0) {
        if (run_exec_path(dir, &err)) return cli_fail(&program, &err);
        return print_line(dir);
    } else if (strcmp(word, "--model-path") == 0) {
        char real[PATH_MAX];
        if (sp_model_default_dir(dir, sizeof dir, &err)) return cli_fail(&program, &err);
        return print_line(realpath(dir, real) ? real : dir);
    } else if (strcmp(word, "help") == 0) {
        exec_help(argv[2], &err);
    } else if (strcmp(word, "sh") == 0) {
        exec_shell(argc - 1, argv + 1, &err);
    } else if (word[0] == '-') {
        sp_error_set(&err, SP_E_USAGE, "unknown option %.60s (see statepipe --help)", word);
    } else {
        exec_program(argv + 1, &err);
    }
    return cli_fail(&program, &err);
}
