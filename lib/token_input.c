/* Files as documents. */
#include "token_input.h"
#include "io.h"
#include "text_read.h"
#include "token_jsonl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)64 << 10)
#define ID_BYTES_MAX 4096

/* Where a document is, for messages and ids. */
struct where {
    const char *file;
    uint64_t line; /* from 1; 0: the whole file */
};

/* ---- documents --------------------------------------------------------------------------------
 */

/* The template with %f, %n and %% put in, cut to fit. */
static void make_id(char out[ID_BYTES_MAX], const char *format, struct where at) {
    size_t n = 0;
    for (const char *c = format; *c && n + 1 < ID_BYTES_MAX; c++) {
        char line[24], plain[2] = {*c, 0};
        const char *put = plain;
        snprintf(line, sizeof line, "%" PRIu64, at.line);
        if (*c == '%' && (c[1] == 'f' || c[1] == 'n' || c[1] == '%')) {
            c++;
            put = *c == 'f' ? at.file : *c == 'n' ? line : "%";
        }
        int k = snprintf(out + n, ID_BYTES_MAX - n, "%s", put);
        n += (size_t)k < ID_BYTES_MAX - n ? (size_t)k : ID_BYTES_MAX - n - 1;
    }
    out[n] = 0;
}

/* Opens a document with the record that its line made, or a new one. */
static enum sp_code begin(struct sp_token_input *in, struct where at, struct sp_record *doc,
                          struct sp_error *err) {
    enum sp_code code = SP_OK;
    bool named = doc && !in->id;
    if (!doc) doc = sp_record_new(SP_KIND_DOC);
    if (!doc) return sp_error_memory(err, "the input");
    if (!named) {
        char id[ID_BYTES_MAX];
        make_id(id, in->id ? in->id : at.line ? "%n" : "%f", at);
        code = sp_record_set_str(doc, "id", id, strlen(id), err);
    }
    if (!code) code = sp_record_set_str(doc, "name", at.file, strlen(at.file), err);
    in->in_doc = true;
    if (!code) return sp_token_stream_begin(in->stream, doc, err);
    sp_record_free(doc);
    return code;
}

/* Ends the open document with the error in *err, which is reported. */
static enum sp_code fail(struct sp_token_input *in, struct where at, struct sp_error *err) {
    struct sp_error why = *err;
    if (at.line)
        sp_error_prefix(&why, "%s: line %" PRIu64, sp_io_shown(at.file), at.line);
    else
        sp_error_prefix(&why, "%s", sp_io_shown(at.file));
    in->report(in->ctx, why.msg);
    in->in_doc = false;
    return sp_token_stream_fail(in->stream, &why, err);
}

static void report_invalid(struct sp_token_input *in, struct where at) {
    uint64_t first, n = sp_token_stream_invalid(in->stream, &first);
    if (n == 0) return;
    char note[SP_TEXT_NOTE_SIZE], message[ID_BYTES_MAX + sizeof note + 40], line[40] = "";
    sp_text_note_invalid(note, first, n);
    if (at.line) snprintf(line, sizeof line, ": line %" PRIu64, at.line);
    snprintf(message, sizeof message, "%s%s: %s", sp_io_shown(at.file), line, note);
    in->report(in->ctx, message);
}

static enum sp_code end(struct sp_token_input *in, struct where at, bool open,
                        struct sp_error *err) {
    if (!in->in_doc) return SP_OK; /* it has failed */
    enum sp_code code = sp_token_stream_end(in->stream, open, err);
    if (code == SP_E_DATA) return fail(in, at, err);
    in->in_doc = false;
    if (!code) report_invalid(in, at);
    return code;
}

static enum sp_code feed(struct sp_token_input *in, struct where at, const char *bytes, size_t n,
                         struct sp_error *err) {
    if (!in->in_doc) return SP_OK; /* the rest of one that has failed */
    enum sp_code code = sp_token_stream_feed(in->stream, bytes, n, err);
    return code == SP_E_DATA ? fail(in, at, err) : code;
}

/* ---- lines ------------------------------------------------------------------------------------
 */

/* A part of a line, and what it is of it. */
struct part {
    const char *text;
    size_t n;
    bool first, last;
};

static enum sp_code take_text(struct sp_token_input *in, struct where at, struct part p,
                              struct sp_error *err) {
    enum sp_code code = p.first ? begin(in, at, NULL, err) : SP_OK;
    if (!code) code = feed(in, at, p.text, p.n, err);
    return code || !p.last ? code : end(in, at, false, err);
}

/* Each choice goes on from the text before it, which has ended as an open document. */
static enum sp_code encode_choices(struct sp_token_input *in, struct where at,
                                   const struct sp_token_line *line, struct sp_error *err) {
    size_t start = line->n_text;
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < line->n_choice; i++) {
        struct sp_token_choice c = {.text = line->text,
                                    .n_text = line->n_text,
                                    .choice = line->text + start,
                                    .n_choice = line->choice_end[i] - start,
                                    .index = i,
                                    .last = i + 1 == line->n_choice};
        start = line->choice_end[i];
        in->in_doc = true;
        code = sp_token_stream_choice(in->stream, &c, err);
        if (code == SP_E_DATA) code = fail(in, at, err);
        in->in_doc = false;
    }
    return code;
}

static enum sp_code encode_json(struct sp_token_input *in, struct where at, struct sp_error *err) {
    struct sp_token_line line;
    struct sp_error why;
    enum sp_code bad =
        sp_token_jsonl_read(in->line.data, in->n_line, at.line, in->code_points, &line, &why);
    enum sp_code code = begin(in, at, line.doc, err);
    if (!code && bad) {
        *err = why;
        code = bad == SP_E_DATA ? fail(in, at, err) : bad;
    }
    if (!code) code = feed(in, at, line.text, line.n_text, err);
    if (!code && in->in_doc && line.n_choice > 0 && line.n_text == 0)
        code = sp_token_stream_begin_empty(in->stream, err);
    uint64_t n, n_open_before, n_open;
    sp_token_stream_count(in->stream, &n, &n, &n_open_before);
    if (!code) code = end(in, at, line.n_choice > 0, err);
    sp_token_stream_count(in->stream, &n, &n, &n_open);
    if (!code && n_open > n_open_before) code = encode_choices(in, at, &line, err);
    sp_token_line_clear(&line);
    return code;
}

static bool is_blank(const char *s, size_t n) {
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r')) n--;
    return n == 0;
}

static enum sp_code take_json(struct sp_token_input *in, struct where at, struct part p,
                              struct sp_error *err) {
    if (p.first) in->n_line = 0;
    bool fits = in->n_line <= in->line_bytes_max && p.n <= in->line_bytes_max - in->n_line;
    if (fits) {
        char *line = sp_buffer_need(&in->line, in->n_line + p.n, 1);
        if (!line) return sp_error_memory(err, "a line");
        memcpy(line + in->n_line, p.text, p.n);
        in->n_line += p.n;
    } else {
        in->n_line = in->line_bytes_max + 1; /* the rest of it is skipped */
    }
    if (!p.last) return SP_OK;
    if (in->n_line <= in->line_bytes_max)
        return is_blank(in->line.data, in->n_line) ? SP_OK : encode_json(in, at, err);
    enum sp_code code = begin(in, at, NULL, err);
    if (code) return code;
    sp_error_set(err, SP_E_DATA, "a line of more than %zu bytes (--max-doc)", in->line_bytes_max);
    return fail(in, at, err);
}

/* ---- files ------------------------------------------------------------------------------------
 */

/* One read, before which everything that is done is written if it would block. */
static enum sp_code read_some(struct sp_token_input *in, int fd, const char *name, char *buf,
                              size_t *got, struct sp_error *err) {
    enum sp_code code = sp_io_ready(fd) ? SP_OK : sp_writer_flush(in->writer, err);
    if (code) return code;
    ssize_t n;
    do n = read(fd, buf, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return sp_error_set(err, SP_E_IO, "reading %s: %s", name, strerror(errno));
    *got = (size_t)n;
    in->n_byte += *got;
    return SP_OK;
}

static enum sp_code take_lines(struct sp_token_input *in, int fd, const char *name, char *buf,
                               struct sp_error *err) {
    struct where at = {.file = name};
    bool in_line = false;
    size_t got = 1;
    enum sp_code code = SP_OK;
    while (!code && got > 0) {
        code = read_some(in, fd, name, buf, &got, err);
        bool end_of_file = !code && got == 0 && in_line;
        for (size_t i = 0; !code && (i < got || end_of_file);) {
            char *newline = end_of_file ? NULL : memchr(buf + i, '\n', got - i);
            struct part p = {.text = buf + i,
                             .n = newline ? (size_t)(newline - buf) - i : got - i,
                             .first = !in_line,
                             .last = newline || end_of_file};
            at.line += p.first;
            code =
                in->mode == SP_TOKEN_JSONL ? take_json(in, at, p, err) : take_text(in, at, p, err);
            in_line = !p.last;
            i += p.n + (newline != NULL);
            end_of_file = false;
        }
    }
    return code;
}

static enum sp_code take_whole(struct sp_token_input *in, int fd, const char *name, char *buf,
                               bool open, struct sp_error *err) {
    struct where at = {.file = name};
    enum sp_code code = begin(in, at, NULL, err);
    size_t got = 1, held = 0; /* bytes of a beginning that may be a PDF file's */
    bool at_start = true;
    while (!code && got > 0) {
        code = read_some(in, fd, name, buf + held, &got, err);
        if (code) break;
        held += got;
        if (at_start && got > 0 && sp_text_may_be_pdf(buf, held)) continue;
        if (at_start && sp_text_is_pdf(buf, held)) {
            sp_error_set(err, SP_E_DATA,
                         "a PDF file and not text; `statepipe cv` reads it, and so does "
                         "pdftotext -layout FILE - | tokenize");
            return fail(in, at, err);
        }
        at_start = false;
        if (held > 0) code = feed(in, at, buf, held, err);
        held = 0;
    }
    return code ? code : end(in, at, open, err);
}

enum sp_code sp_token_input_file(struct sp_token_input *in, int fd, const char *name, bool open,
                                 struct sp_error *err) {
    char *buf = malloc(READ_BYTES + SP_TEXT_PDF_BYTES);
    if (!buf) return sp_error_memory(err, "the input");
    enum sp_code code = in->mode == SP_TOKEN_WHOLE ? take_whole(in, fd, name, buf, open, err)
                                                   : take_lines(in, fd, name, buf, err);
    free(buf);
    return code;
}

void sp_token_input_clear(struct sp_token_input *in) {
    free(in->line.data);
    in->line = (struct sp_buffer){0};
}
