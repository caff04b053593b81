/* Texts and PDF files. */
#include "text_read.h"
#include "io.h"
#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char pdf_start[SP_TEXT_PDF_BYTES] = "%PDF-";

bool sp_text_is_pdf(const char *bytes, size_t n) {
    return n >= sizeof pdf_start && memcmp(bytes, pdf_start, sizeof pdf_start) == 0;
}

bool sp_text_may_be_pdf(const char *bytes, size_t n) {
    return n < sizeof pdf_start && memcmp(bytes, pdf_start, n) == 0;
}

/* Nothing but white space and the form feeds that pdftotext puts between pages. */
static bool is_blank(const char *text, size_t n) {
    size_t at = 0;
    while (at < n && strchr(" \t\r\n\f", text[at]) && text[at]) at++;
    return at == n;
}

/* The text of a PDF: pdftotext reads it at its standard input, so that no file name is taken for an
 * option, and writes into a file without a name. */
static enum sp_code read_pdf(int fd, char **text, size_t *n, const char *name, size_t max,
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
    if (!code && lseek(fileno(out), 0, SEEK_SET) != 0)
        code = sp_error_set(err, SP_E_IO, "reading %s: %s", name, strerror(errno));
    if (!code) code = sp_io_slurp_fd(text, n, fileno(out), name, max, err);
    fclose(out);
    if (!code && is_blank(*text, *n)) {
        free(*text);
        *text = NULL;
        code = sp_error_set(err, SP_E_DATA, "%s: no text in it; a scan? run ocrmypdf first", name);
    }
    return code;
}

/* Standard input cannot be looked at twice: kept in a file without a name. */
static enum sp_code seekable(int fd, const char *name, size_t max, struct sp_error *err) {
    if (lseek(fd, 0, SEEK_SET) == 0) return SP_OK;
    FILE *copy = tmpfile();
    if (!copy) return sp_error_set(err, SP_E_IO, "no temporary file: %s", strerror(errno));
    char buf[16384];
    size_t got = 1, total = 0;
    enum sp_code code = SP_OK;
    while (!code && got > 0) {
        code = sp_io_read(fd, buf, sizeof buf, &got, name, err);
        total += got;
        if (!code && total > max)
            code = sp_error_set(err, SP_E_DATA, "%s has more than %zu bytes", name, max);
        if (!code) code = sp_io_write(fileno(copy), buf, got, "a temporary file", err);
    }
    if (!code && (dup2(fileno(copy), fd) < 0 || lseek(fd, 0, SEEK_SET) != 0))
        code = sp_error_set(err, SP_E_IO, "no temporary file: %s", strerror(errno));
    fclose(copy);
    return code;
}

enum sp_code sp_text_read(char **text, size_t *n, const char *path, size_t max,
                          struct sp_error *err) {
    char first[sizeof pdf_start];
    const char *name = sp_io_shown(path);
    size_t got = 0;
    int fd;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    code = seekable(fd, name, max, err);
    if (!code) code = sp_io_read(fd, first, sizeof first, &got, name, err);
    if (!code && lseek(fd, 0, SEEK_SET) != 0)
        code = sp_error_set(err, SP_E_IO, "reading %s: %s", name, strerror(errno));
    if (!code)
        code = sp_text_is_pdf(first, got) ? read_pdf(fd, text, n, name, max, err)
                                          : sp_io_slurp_fd(text, n, fd, name, max, err);
    close(fd);
    return code;
}

void sp_text_note_invalid(char note[SP_TEXT_NOTE_SIZE], uint64_t first, uint64_t n) {
    snprintf(note, SP_TEXT_NOTE_SIZE,
             "invalid UTF-8 at byte %" PRIu64 ", replaced (%" PRIu64 " time%s in all); of another "
             "encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)",
             first, n, n == 1 ? "" : "s");
}

enum sp_code sp_text_repair(char **text, size_t *n, char note[SP_TEXT_NOTE_SIZE],
                            struct sp_error *err) {
    size_t good = sp_utf8_valid(*text, *n), n_out, len;
    uint64_t n_invalid = 0;
    note[0] = 0;
    if (good == *n) return SP_OK;
    for (size_t at = good; at < *n; at += len)
        n_invalid += sp_utf8_decode(*text + at, *n - at, &len) < 0;
    char *out = sp_utf8_repair(*text, *n, &n_out);
    if (!out) return sp_error_memory(err, "a text");
    sp_text_note_invalid(note, good, n_invalid);
    free(*text);
    *text = out;
    *n = n_out;
    return SP_OK;
}
