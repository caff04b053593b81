/* cv: the main job in one command. Texts and PDF files become the documents of one pipeline. */
#include "../lib/gather.h"
#include "../lib/io.h"
#include "../lib/json.h"
#include "../lib/utf8.h"
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

/* Replaces what is not UTF-8 and says where; *text is freed and replaced where that is needed. */
static enum sp_code make_valid(char **text, size_t *n, const char *name, struct sp_error *err) {
    size_t good = sp_utf8_valid(*text, *n);
    if (good == *n) return SP_OK;
    fprintf(stderr, "%s: %s: invalid UTF-8 from byte %zu on is replaced by U+FFFD\n", program.name,
            name, good);
    size_t done;
    char *out = sp_utf8_repair(*text, *n, &done);
    if (!out) return sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", name);
    free(*text);
    *text = out;
    *n = done;
    return SP_OK;
}

/* Nothing but white space and the form feeds that pdftotext puts between pages. */
static bool is_blank(const char *text, size_t n) {
    size_t at = 0;
    while (at < n && strchr(" \t\r\n\f", text[at]) && text[at]) at++;
    return at == n;
}

/* The text of a PDF: pdftotext reads it at its standard input, so that no file name is taken for an
 * option, and writes into a file without a name. */
static enum sp_code read_pdf(int fd, char **text, size_t *n, const char *name,
                             struct sp_error *err) {
    FILE *out = tmpfile();
    if (!out) return sp_error_set(err, SP_E_IO, "no temporary file: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        dup2(fd, STDIN_FILENO);
        dup2(fileno(out), STDOUT_FILENO);
        execlp("pdftotext", "pdftotext", "-q", "-layout", "-enc", "UTF-8", "-", "-", (char *)NULL);
        _exit(127);
    }
    int status = -1;
    enum sp_code code = SP_OK;
    if (child < 0 || waitpid(child, &status, 0) != child)
        code = sp_error_set(err, SP_E_DEVICE, "cannot start pdftotext: %s", strerror(errno));
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        code = sp_error_set(err, SP_E_DEVICE, "%s: pdftotext is not there; install poppler-utils",
                            name);
    else if (status != 0)
        code =
            sp_error_set(err, SP_E_DATA, "%s: pdftotext cannot read it (damaged or locked)", name);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(out));
    if (!code) code = sp_io_slurp(text, n, path, DOC_BYTES_MAX, err);
    fclose(out);
    if (!code && is_blank(*text, *n)) {
        free(*text);
        *text = NULL;
        code = sp_error_set(err, SP_E_DATA, "%s: no text in it; a scan? run ocrmypdf first", name);
    }
    return code;
}

/* Standard input cannot be looked at twice: kept in a file without a name. */
static enum sp_code seekable(int fd, const char *name, struct sp_error *err) {
    if (lseek(fd, 0, SEEK_SET) == 0) return SP_OK;
    FILE *copy = tmpfile();
    if (!copy) return sp_error_set(err, SP_E_IO, "no temporary file: %s", strerror(errno));
    char buf[16384];
    size_t got = 1, total = 0;
    enum sp_code code = SP_OK;
    while (!code && got > 0) {
        code = sp_io_read(fd, buf, sizeof buf, &got, name, err);
        total += got;
        if (!code && total > DOC_BYTES_MAX)
            code = sp_error_set(err, SP_E_DATA, "%s has more than %zu bytes", name, DOC_BYTES_MAX);
        if (!code) code = sp_io_write(fileno(copy), buf, got, "a temporary file", err);
    }
    if (!code && (dup2(fileno(copy), fd) < 0 || lseek(fd, 0, SEEK_SET) != 0))
        code = sp_error_set(err, SP_E_IO, "no temporary file: %s", strerror(errno));
    fclose(copy);
    return code;
}

/* What is at the descriptor's start decides, not the name of the file. */
static enum sp_code read_text_or_pdf(int fd, const char *file, char **text, size_t *n,
                                     struct sp_error *err) {
    char first[SNIFF_BYTES], path[32];
    size_t got = 0;
    enum sp_code code = sp_io_read(fd, first, sizeof first, &got, file, err);
    if (code) return code;
    if (lseek(fd, 0, SEEK_SET) != 0)
        return sp_error_set(err, SP_E_IO, "reading %s: %s", file, strerror(errno));
    if (got >= 5 && memcmp(first, "%PDF-", 5) == 0) return read_pdf(fd, text, n, file, err);
    if (memchr(first, 0, got))
        return sp_error_set(err, SP_E_DATA,
                            "%s is neither text nor PDF; convert it first (pandoc -t plain, "
                            "libreoffice --convert-to pdf)",
                            file);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return sp_io_slurp(text, n, path, DOC_BYTES_MAX, err);
}

static enum sp_code read_document(const char *file, char **text, size_t *n, struct sp_error *err) {
    int fd;
    enum sp_code code = sp_io_open(&fd, file, err);
    if (code) return code;
    code = seekable(fd, file, err);
    if (!code) code = read_text_or_pdf(fd, file, text, n, err);
    close(fd);
    return code;
}

/* {"id": FILE, "text": ...} for tokenize --jsonl. */
static enum sp_code write_document(FILE *out, const char *file, struct sp_error *err) {
    char *text = NULL, *id = strdup(file), *line = NULL;
    size_t n = 0, n_id = strlen(file);
    enum sp_code code =
        id ? read_document(file, &text, &n, err) : sp_error_memory(err, "a document");
    if (!code) code = make_valid(&text, &n, file, err);
    if (!code) code = make_valid(&id, &n_id, "a file name", err);
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
