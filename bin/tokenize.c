/* tokenize: text in, a stream of tokens out. */
#include "../lib/io.h"
#include "../lib/model.h"
#include "../lib/token.h"
#include "../lib/token_jsonl.h"
#include "../lib/token_stream.h"
#include "cli.h"

#include <limits.h>
#include <sys/stat.h>

#define READ_BYTES ((size_t)64 << 10)

static struct {
    const char *model, *invalid, *span_unit, *id;
    bool lines, jsonl, open, bare, force;
    int64_t chunk, repeat, pad, max_doc;
    int verbose;
} opt = {.chunk = SP_CHUNK_TOKENS, .pad = -1, .max_doc = (int64_t)64 << 20};

static const struct sp_option options[] = {
    {SP_OPT_STRING, 'm', "model", "MODEL", "model directory, tokenizer.json, vocab.txt, or `bytes`",
     &opt.model, 0, 0},
    {SP_OPT_FLAG, 'l', "lines", NULL, "each line is a document", &opt.lines, 0, 0},
    {SP_OPT_FLAG, 'j', "jsonl", NULL, "each line is a JSON object with \"text\"", &opt.jsonl, 0, 0},
    {SP_OPT_CHOICE, 0, "span-unit", "byte|codepoint", "what \"spans\" of --jsonl count (byte)",
     &opt.span_unit, 0, 0},
    {SP_OPT_STRING, 0, "id", "ID", "id of documents; %f is the file, %n the line", &opt.id, 0, 0},
    {SP_OPT_CHOICE, 0, "invalid", "replace|refuse", "what to do with invalid UTF-8 (replace)",
     &opt.invalid, 0, 0},
    {SP_OPT_INT, 0, "chunk", "N", "tokens of a chunk (256)", &opt.chunk, 1, SP_CHUNK_TOKENS_MAX},
    {SP_OPT_INT, 0, "repeat", "N", "read each document N times (the model's passes)", &opt.repeat,
     1, SP_PASSES_MAX},
    {SP_OPT_INT, 0, "pad", "N", "padding tokens behind documents (the model's delay)", &opt.pad, 0,
     SP_DELAY_MAX},
    {SP_OPT_FLAG, 0, "bare", NULL, "leave out the tokens of the post-processor", &opt.bare, 0, 0},
    {SP_OPT_FLAG, 0, "open", NULL, "leave the last document open", &opt.open, 0, 0},
    {SP_OPT_INT, 0, "max-doc", "BYTES", "longest line of --jsonl (67108864)", &opt.max_doc, 1,
     1e12},
    {SP_OPT_FLAG, 'f', "force", NULL, "write to a terminal all the same", &opt.force, 0, 0},
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr what was done", &opt.verbose, 0, 0},
    {SP_OPT_END, 0, NULL, NULL, NULL, NULL, 0, 0}};

static const struct sp_program program = {
    .name = "tokenize",
    .operands = "[FILE...]",
    .summary = "Writes text as a stream of tokens; each FILE is a document.",
    .example = "pdftotext -layout cv.pdf - | tokenize | embed | mamba-layer | head | extract",
    .options = options};

struct run {
    struct sp_tokenizer *tok;
    struct sp_hello hello;
    struct sp_token_stream_options o;
    struct sp_writer *w;
    struct sp_token_stream *s;
    struct sp_buffer line; /* --jsonl */
    size_t n_line;
    bool in_doc;
    uint64_t n_byte;
};

/* ---- the model --------------------------------------------------------------------------------
 */

static enum sp_code open_model(struct run *r, const char *dir, struct sp_error *err) {
    struct sp_model *m;
    enum sp_code code = sp_model_open(&m, dir, err);
    if (code) return code;
    const struct sp_config *c = sp_model_config(m);
    char path[PATH_MAX];
    if (realpath(dir, path) && strlen(path) < sizeof r->hello.model_dir)
        memcpy(r->hello.model_dir, path, strlen(path) + 1);
    r->hello.model = *sp_model_fingerprint(m);
    r->hello.n_layer = (uint32_t)c->n_layer;
    r->o.passes = c->passes;
    r->o.pad = c->delay;
    r->o.pad_id = c->eos_id >= 0 ? (uint32_t)c->eos_id : 0;
    sp_model_free(m);
    return SP_OK;
}

static enum sp_code open_all(struct run *r, struct sp_error *err) {
    char dir[PATH_MAX], config[PATH_MAX];
    struct stat st;
    enum sp_code code = SP_OK;
    const char *model = opt.model;
    if (!model) code = sp_model_default_dir(dir, sizeof dir, err);
    if (!model) model = dir;
    r->hello.major = SP_STREAM_MAJOR;
    r->hello.minor = SP_STREAM_MINOR;
    r->hello.content = SP_TOKENS;
    memcpy(r->hello.program, program.name, strlen(program.name));
    r->o = (struct sp_token_stream_options){.chunk = (size_t)opt.chunk, .passes = 1};
    if (!code) code = sp_path_join(config, sizeof config, model, "config.json", err);
    if (!code && stat(config, &st) == 0) code = open_model(r, model, err);
    if (!code) code = sp_tokenizer_open(&r->tok, model, err);
    if (code) return code;
    int64_t pad = sp_tokenizer_id(r->tok, SP_TOKEN_PAD_NAME, strlen(SP_TOKEN_PAD_NAME));
    if (!r->hello.n_layer && pad >= 0) r->o.pad_id = (uint32_t)pad;
    if (opt.repeat) r->o.passes = (uint32_t)opt.repeat;
    if (opt.pad >= 0) r->o.pad = (uint32_t)opt.pad;
    r->o.frame = !opt.bare;
    r->o.refuse_invalid = opt.invalid && strcmp(opt.invalid, "refuse") == 0;
    r->o.max_doc = (size_t)opt.max_doc;
    r->hello.tokenizer = *sp_tokenizer_fingerprint(r->tok);
    return sp_token_stream_new(&r->s, r->tok, r->w, &r->o, err);
}

/* ---- documents --------------------------------------------------------------------------------
 */

/* --id with %f and %n put in; without it the line's number, or the file. */
static void make_id(char *out, size_t size, const char *file, uint64_t line) {
    const char *format = opt.id ? opt.id : line ? "%n" : "%f";
    size_t n = 0;
    for (const char *c = format; *c && n + 1 < size; c++) {
        int k = 1;
        if (*c == '%' && (c[1] == 'f' || c[1] == 'n' || c[1] == '%'))
            c++;
        else
            k = 0;
        if (k && *c == 'f')
            k = snprintf(out + n, size - n, "%s", file);
        else if (k && *c == 'n')
            k = snprintf(out + n, size - n, "%llu", (unsigned long long)line);
        else
            k = snprintf(out + n, size - n, "%c", *c);
        n += (size_t)k < size - n ? (size_t)k : size - n - 1;
    }
    out[n] = 0;
}

static enum sp_code begin(struct run *r, const char *file, uint64_t line, struct sp_record *doc,
                          struct sp_error *err) {
    char id[PATH_MAX];
    make_id(id, sizeof id, file, line);
    enum sp_code code = SP_OK;
    if (!doc || opt.id) {
        if (!doc) doc = sp_record_new(SP_KIND_DOC);
        if (!doc) return sp_error_set(err, SP_E_DEVICE, "out of memory");
        code = sp_record_set_str(doc, "id", id, strlen(id), err);
    }
    if (!code) code = sp_record_set_str(doc, "name", file, strlen(file), err);
    r->in_doc = true;
    if (!code) return sp_token_stream_begin(r->s, doc, err);
    sp_record_free(doc);
    return code;
}

static enum sp_code fail(struct run *r, const char *file, uint64_t line, struct sp_error *err) {
    struct sp_error why = *err;
    if (line)
        sp_error_prefix(&why, "%s: line %llu", file, (unsigned long long)line);
    else
        sp_error_prefix(&why, "%s", file);
    fprintf(stderr, "%s: %s\n", program.name, why.msg);
    r->in_doc = false;
    return sp_token_stream_fail(r->s, &why, err);
}

static enum sp_code end(struct run *r, const char *file, uint64_t line, bool open,
                        struct sp_error *err) {
    if (!r->in_doc) return SP_OK;
    enum sp_code code = sp_token_stream_end(r->s, open, err);
    if (code == SP_E_DATA) return fail(r, file, line, err);
    r->in_doc = false;
    uint64_t first, n = sp_token_stream_invalid(r->s, &first);
    if (n > 0)
        fprintf(stderr, "%s: %s%s%.0llu: invalid UTF-8 replaced, %llu times, first at byte %llu\n",
                program.name, file, line ? ": line " : "", (unsigned long long)line,
                (unsigned long long)n, (unsigned long long)first);
    return code;
}

static enum sp_code feed(struct run *r, const char *file, uint64_t line, const char *bytes,
                         size_t n, struct sp_error *err) {
    if (!r->in_doc) return SP_OK; /* the rest of one that has failed */
    enum sp_code code = sp_token_stream_feed(r->s, bytes, n, err);
    return code == SP_E_DATA ? fail(r, file, line, err) : code;
}

/* ---- input ------------------------------------------------------------------------------------
 */

/* One read, before which everything that is done is written if it would block. */
static enum sp_code read_some(struct run *r, int fd, const char *file, char *buf, size_t *got,
                              struct sp_error *err) {
    enum sp_code code = sp_io_ready(fd) ? SP_OK : sp_writer_flush(r->w, err);
    if (code) return code;
    ssize_t n;
    do n = read(fd, buf, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return sp_error_set(err, SP_E_IO, "reading %s: %s", file, strerror(errno));
    *got = (size_t)n;
    r->n_byte += *got;
    return SP_OK;
}

/* A part of line `number`, or with last its end. */
static enum sp_code take_text_line(struct run *r, const char *file, uint64_t number,
                                   const char *part, size_t n, bool first, bool last,
                                   struct sp_error *err) {
    enum sp_code code = first ? begin(r, file, number, NULL, err) : SP_OK;
    if (!code) code = feed(r, file, number, part, n, err);
    return code || !last ? code : end(r, file, number, false, err);
}

static enum sp_code encode_json_line(struct run *r, const char *file, uint64_t number,
                                     struct sp_error *err) {
    struct sp_record *doc;
    struct sp_error why;
    char *text;
    size_t n;
    bool code_points = opt.span_unit && strcmp(opt.span_unit, "codepoint") == 0;
    enum sp_code bad =
        sp_token_jsonl_read(r->line.data, r->n_line, number, code_points, &doc, &text, &n, &why);
    enum sp_code code = begin(r, file, number, doc, err);
    if (!code && bad) {
        *err = why;
        code = bad == SP_E_DATA ? fail(r, file, number, err) : bad;
    }
    if (!code) code = feed(r, file, number, text, n, err);
    if (!code) code = end(r, file, number, false, err);
    free(text);
    return code;
}

static enum sp_code take_json_line(struct run *r, const char *file, uint64_t number,
                                   const char *part, size_t n, bool first, bool last,
                                   struct sp_error *err) {
    if (first) r->n_line = 0;
    size_t max = (size_t)opt.max_doc;
    if (r->n_line + n <= max) {
        char *line = sp_buffer_need(&r->line, r->n_line + n + 1, 1);
        if (!line) return sp_error_set(err, SP_E_DEVICE, "out of memory for a line");
        memcpy(line + r->n_line, part, n);
        line[r->n_line + n] = 0;
    }
    r->n_line = r->n_line > max ? r->n_line : r->n_line + n; /* above max: to be skipped */
    if (!last) return SP_OK;
    const char *line = r->line.data;
    if (r->n_line <= max && strspn(line, " \t\r") >= r->n_line) return SP_OK;
    if (r->n_line <= max) return encode_json_line(r, file, number, err);
    enum sp_code code = begin(r, file, number, NULL, err);
    if (code) return code;
    sp_error_set(err, SP_E_DATA, "more than %zu bytes (--max-doc)", max);
    return fail(r, file, number, err);
}

static enum sp_code take_lines(struct run *r, int fd, const char *file, char *buf,
                               struct sp_error *err) {
    uint64_t number = 0;
    bool in_line = false;
    size_t got;
    for (;;) {
        enum sp_code code = read_some(r, fd, file, buf, &got, err);
        if (code) return code;
        bool eof = got == 0;
        if (eof && !in_line) return SP_OK;
        for (size_t i = 0; i < got || eof;) {
            char *newline = eof ? NULL : memchr(buf + i, '\n', got - i);
            size_t n = newline ? (size_t)(newline - buf) - i : got - i;
            bool first = !in_line, last = newline || eof;
            number += first;
            code = (opt.jsonl ? take_json_line : take_text_line)(r, file, number, buf + i, n, first,
                                                                 last, err);
            if (code || eof) return code;
            in_line = !last;
            i += n + (newline != NULL);
        }
    }
}

static enum sp_code take_whole(struct run *r, int fd, const char *file, char *buf, bool open,
                               struct sp_error *err) {
    enum sp_code code = begin(r, file, 0, NULL, err);
    size_t got = 1;
    while (!code && got > 0) {
        code = read_some(r, fd, file, buf, &got, err);
        if (!code && got > 0) code = feed(r, file, 0, buf, got, err);
    }
    return code ? code : end(r, file, 0, open, err);
}

static enum sp_code write_hello(struct run *r, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    if (!rec) return sp_error_set(err, SP_E_DEVICE, "out of memory");
    enum sp_code code = sp_hello_store(&r->hello, rec, err);
    if (!code) code = sp_writer_write(r->w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code write_end(struct run *r, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_END);
    if (!rec) return sp_error_set(err, SP_E_DEVICE, "out of memory");
    uint64_t n_error, n = sp_token_stream_docs(r->s, &n_error);
    enum sp_code code = sp_record_set_u64(rec, "docs", n, err);
    if (!code) code = sp_record_set_u64(rec, "errors", n_error, err);
    if (!code && opt.open) code = sp_record_set_bool(rec, "open", true, err);
    if (!code) code = sp_writer_write(r->w, rec, err);
    sp_record_free(rec);
    return code ? code : sp_writer_flush(r->w, err);
}

static enum sp_code take_files(struct run *r, char **file, int n, struct sp_error *err) {
    static char *const standard_input[] = {"-"};
    char *buf = malloc(READ_BYTES);
    if (!buf) return sp_error_set(err, SP_E_DEVICE, "out of memory");
    if (n == 0) file = (char **)(uintptr_t)standard_input;
    enum sp_code code = write_hello(r, err);
    for (int i = 0; !code && i < (n ? n : 1); i++) {
        int fd;
        code = sp_io_open(&fd, file[i], err);
        if (code) break;
        bool lines = opt.lines || opt.jsonl, open = opt.open && i + 1 >= n;
        code = lines ? take_lines(r, fd, file[i], buf, err)
                     : take_whole(r, fd, file[i], buf, open, err);
        close(fd);
    }
    free(buf);
    return code ? code : write_end(r, err);
}

int main(int argc, char **argv) {
    int n_operand, status;
    struct sp_error err;
    struct run r = {0};
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    enum sp_code code = cli_refuse_terminal(opt.force, &err);
    if (!code && opt.lines + opt.jsonl + opt.open > 1)
        code = sp_error_set(&err, SP_E_USAGE, "--lines, --jsonl and --open exclude each other");
    if (!code) code = sp_writer_new(&r.w, STDOUT_FILENO, "standard output", &err);
    if (code) return cli_fail(&program, &err);
    code = open_all(&r, &err);
    bool in_segment = !code;
    if (!code) code = take_files(&r, argv, n_operand, &err);
    uint64_t n_error = 0, n_doc = r.s ? sp_token_stream_docs(r.s, &n_error) : 0;
    if (code) {
        status = cli_fail(&program, &err);
        struct sp_error why = err;
        if (r.w && code != SP_E_IO)
            sp_writer_fail(r.w, program.name, SP_TOKENS, in_segment, &why, &err);
    } else {
        status = n_error > 0;
    }
    if (opt.verbose)
        fprintf(stderr, "%s: %llu documents, %llu failed, %llu bytes\n", program.name,
                (unsigned long long)n_doc, (unsigned long long)n_error,
                (unsigned long long)r.n_byte);
    free(r.line.data);
    sp_token_stream_free(r.s);
    sp_writer_free(r.w);
    sp_tokenizer_free(r.tok);
    return cli_close(&program, status);
}
