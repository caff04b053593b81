/* cv: the main job in one command. Texts and PDF files become the documents of one pipeline. */
#include "../lib/gather.h"
#include "../lib/io.h"
#include "../lib/json.h"
#include "run.h"

#include <signal.h>
#include <sys/wait.h>

#define DOC_BYTES_MAX ((size_t)64 << 20) /* what extract holds of one document by default */
#define SNIFF_BYTES 4096

static struct {
    const char *format, *model, *head, *dtype;
    bool header;
    int verbose;
    double min_p, record_p, recall;
    int64_t jobs;
} opt = {.record_p = SP_RECORD_P, .recall = SP_GATHER_RECALL};

static const struct sp_option options[] = {
    {SP_OPT_CHOICE, 'o', "output", "jsonl|tsv|csv|table|html|ansi",
     "output format (jsonl; at a terminal: table)", &opt.format, 0, 0},
    CLI_OPTION_HEADER(opt.header),
    CLI_OPTION_RECORD_P(opt.record_p),
    CLI_OPTION_MIN_P(opt.min_p),
    {SP_OPT_STRING, 'm', "model", "DIR", "model directory ($STATEPIPE_MODEL, else the shipped one)",
     &opt.model, 0, 0},
    CLI_OPTION_JOBS(opt.jobs),
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say what runs: model, layers, kernels, threads",
     &opt.verbose, 0, 0},
    CLI_OPTION_REST,
    CLI_OPTION_RECALL(opt.recall),
    {SP_OPT_STRING, 0, "head", "NAME", "head of the model (its default)", &opt.head, 0, 0},
    CLI_OPTION_DTYPE(opt.dtype),
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "cv",
    .operands = "FILE...",
    .summary = "Prints the (institution, degree, year) records of CVs: text, PDF, - for stdin.",
    .detail = "Each FILE is a document; PDF files go through pdftotext -layout first. The same\n"
              "as tokenize FILE... | embed | mamba-layer | head | extract. Spans count bytes of\n"
              "the text.",
    .example = "statepipe cv -o tsv -H cv.pdf other.txt",
    .options = options};

/* A text or a PDF file, and nothing else. */
static enum sp_code read_document(const char *file, char **text, size_t *n, struct sp_error *err) {
    enum sp_code code = sp_text_read(text, n, file, DOC_BYTES_MAX, err);
    if (code || !memchr(*text, 0, *n < SNIFF_BYTES ? *n : SNIFF_BYTES)) return code;
    return sp_error_set(err, SP_E_DATA,
                        "%s is neither text nor PDF; convert it first (pandoc -t plain, "
                        "libreoffice --convert-to pdf)",
                        sp_io_shown(file));
}

/* {"id": FILE, "text": ...} for tokenize --jsonl. */
static enum sp_code write_document(FILE *out, const char *file, struct sp_error *err) {
    char *text = NULL, *id = strdup(file), *line = NULL;
    size_t n = 0, n_id = strlen(file);
    enum sp_code code =
        id ? read_document(file, &text, &n, err) : sp_error_memory(err, "a document");
    if (!code) code = cli_make_valid(&program, &text, &n, file, err);
    if (!code) code = cli_make_valid(&program, &id, &n_id, "a file name", err);
    if (!code) {
        line = n + n_id < SIZE_MAX / 8 ? malloc(6 * (n + n_id) + 64) : NULL;
        if (!line) code = sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", file);
    }
    if (!code) {
        size_t at = (size_t)sprintf(line, "{\"id\":");
        at += sp_json_escape(line + at, id, n_id);
        at += (size_t)sprintf(line + at, ",\"text\":");
        at += sp_json_escape(line + at, text, n);
        at += (size_t)sprintf(line + at, "}\n");
        if (fwrite(line, 1, at, out) != at || fflush(out) != 0)
            code = sp_error_set(err, SP_E_IO, "the pipeline has ended");
    }
    free(line);
    free(text);
    free(id);
    return code;
}

/* The options that were given, for the programs they belong to: "$1" and so on keep their quoting.
 */
static pid_t start_pipeline(int input, struct sp_error *err) {
    static const char script[] =
        "tokenize ${1:+-m \"$1\"} --jsonl - | embed ${1:+-m \"$1\"} |"
        " mamba-layer ${1:+-m \"$1\"} ${2:+--dtype \"$2\"} ${6:+-v} |"
        " head ${1:+-m \"$1\"} ${3:+--head \"$3\"} |"
        " extract ${4:+-o \"$4\"} ${5:+-H} --min-p \"$7\" --record-p \"$8\""
        " --recall \"$9\"";
    char dir[PATH_MAX], min_p[32], record_p[32], recall[32];
    snprintf(min_p, sizeof min_p, "%.17g", opt.min_p);
    snprintf(record_p, sizeof record_p, "%.17g", opt.record_p);
    snprintf(recall, sizeof recall, "%.17g", opt.recall);
    if (run_exec_path(dir, err) || run_environment(dir, script, opt.jobs, err)) return -1;
    pid_t child = fork();
    if (child < 0) sp_error_set(err, SP_E_DEVICE, "cannot start bash: %s", strerror(errno));
    if (child != 0) return child;
    dup2(input, STDIN_FILENO);
    execlp("bash", "bash", "-o", "pipefail", "-c", script, "cv", opt.model ? opt.model : "",
           opt.dtype ? opt.dtype : "", opt.head ? opt.head : "", opt.format ? opt.format : "",
           opt.header ? "1" : "", opt.verbose ? "1" : "", min_p, record_p, recall, (char *)NULL);
    fprintf(stderr, "%s: cannot run bash: %s\n", program.name, strerror(errno));
    _exit(69);
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n_file, status, ends[2];
    if (!cli_start(&program, argc, argv, &n_file, &status)) return status;
    if (n_file == 0) {
        sp_error_set(&err, SP_E_USAGE, "names of CVs are missing (- is standard input)");
        return cli_fail(&program, &err);
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        sp_error_set(&err, SP_E_DEVICE, "no pipe: %s", strerror(errno));
        return cli_fail(&program, &err);
    }
    pid_t child = start_pipeline(ends[0], &err);
    if (child < 0) return cli_fail(&program, &err);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN); /* a pipeline that ends early tells why by its exit status */
    FILE *out = fdopen(ends[1], "w");
    if (!out) return 70;
    int failed = 0;
    for (int i = 0; i < n_file && !ferror(out); i++) {
        if (!write_document(out, argv[i], &err)) continue;
        if (!ferror(out)) failed = cli_fail(&program, &err);
    }
    fclose(out);
    if (waitpid(child, &status, 0) != child) return 70;
    int end = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (end == 0 && failed) return n_file > 1 ? 1 : failed;
    return end;
}
