/* tokenize: text in, a stream of tokens out. */
#include "../lib/io.h"
#include "../lib/model.h"
#include "../lib/token.h"
#include "../lib/token_input.h"
#include "cli.h"

#include <limits.h>
#include <sys/stat.h>

static struct {
    const char *model, *invalid, *span_unit, *id;
    bool lines, jsonl, open, bare, force;
    int64_t chunk, repeat, pad, mark, max_doc;
    int verbose;
} opt = {.chunk = SP_CHUNK_TOKENS, .pad = -1, .mark = -1, .max_doc = (int64_t)64 << 20};

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
    {SP_OPT_FLAG, 0, "open", NULL, "leave the last document open", &opt.open, 0, 0},
    {SP_OPT_FLAG, 'f', "force", NULL, "write to a terminal all the same", &opt.force, 0, 0},
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr what was done", &opt.verbose, 0, 0},
    CLI_OPTION_REST,
    {SP_OPT_INT, 0, "chunk", "N", "tokens of a chunk (256)", &opt.chunk, 1, SP_CHUNK_TOKENS_MAX},
    {SP_OPT_INT, 0, "repeat", "N", "read each document N times (the model's passes)", &opt.repeat,
     1, SP_PASSES_MAX},
    {SP_OPT_INT, 0, "pad", "N", "padding tokens behind documents (the model's delay)", &opt.pad, 0,
     SP_DELAY_MAX},
    {SP_OPT_INT, 0, "mark", "BYTE", "mamba-layer --cache is to keep the state before this byte",
     &opt.mark, 0, 1e15},
    {SP_OPT_FLAG, 0, "bare", NULL, "leave out the tokens put around texts", &opt.bare, 0, 0},
    {SP_OPT_INT, 0, "max-doc", "BYTES", "longest line of --jsonl (67108864)", &opt.max_doc, 1,
     1e12},
    CLI_OPTION_END};

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
    struct sp_token_input in;
};

static void report(void *ctx, const char *message) {
    (void)ctx;
    fprintf(stderr, "%s: %s\n", program.name, message);
}

static enum sp_code open_model(struct run *r, const char *dir, int64_t *eos_id,
                               struct sp_error *err) {
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
    *eos_id = c->eos_id;
    if (!opt.bare) r->o.begin_id = c->bos_id >= 0 ? c->bos_id : c->eos_id;
    sp_model_free(m);
    return SP_OK;
}

static enum sp_code open_all(struct run *r, struct sp_error *err) {
    char dir[PATH_MAX], config[PATH_MAX];
    struct stat st;
    int64_t eos_id = -1;
    enum sp_code code = SP_OK;
    const char *model = opt.model;
    if (!model) code = sp_model_default_dir(dir, sizeof dir, err);
    if (!model) model = dir;
    r->hello.major = SP_STREAM_MAJOR;
    r->hello.minor = SP_STREAM_MINOR;
    r->hello.content = SP_TOKENS;
    memcpy(r->hello.program, program.name, strlen(program.name));
    r->o =
        (struct sp_token_stream_options){.chunk = (size_t)opt.chunk, .passes = 1, .begin_id = -1};
    if (!code) code = sp_path_join(config, sizeof config, model, "config.json", err);
    if (!code && stat(config, &st) == 0) code = open_model(r, model, &eos_id, err);
    if (!code) code = sp_tokenizer_open(&r->tok, model, err);
    if (code) return code;
    r->o.pad_id = sp_tokenizer_pad(r->tok, eos_id);
    if (opt.repeat) r->o.passes = (uint32_t)opt.repeat;
    if (opt.pad >= 0) r->o.pad = (uint32_t)opt.pad;
    r->o.frame = !opt.bare;
    r->o.refuse_invalid = opt.invalid && strcmp(opt.invalid, "refuse") == 0;
    r->o.marked = opt.mark >= 0;
    r->o.mark = r->o.marked ? (uint64_t)opt.mark : 0;
    r->o.max_doc = (size_t)opt.max_doc;
    r->hello.tokenizer = *sp_tokenizer_fingerprint(r->tok);
    r->in = (struct sp_token_input){.mode = opt.jsonl   ? SP_TOKEN_JSONL
                                            : opt.lines ? SP_TOKEN_LINES
                                                        : SP_TOKEN_WHOLE,
                                    .code_points =
                                        opt.span_unit && strcmp(opt.span_unit, "codepoint") == 0,
                                    .id = opt.id,
                                    .line_bytes_max = (size_t)opt.max_doc,
                                    .writer = r->w,
                                    .report = report};
    return sp_token_stream_new(&r->in.stream, r->tok, r->w, &r->o, err);
}

static enum sp_code write_hello(struct run *r, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    if (!rec) return sp_error_memory(err, "a document");
    enum sp_code code = sp_hello_store(&r->hello, rec, err);
    if (!code) code = sp_writer_write(r->w, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code write_end(struct run *r, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_END);
    if (!rec) return sp_error_memory(err, "a document");
    uint64_t n, n_error, n_open;
    sp_token_stream_count(r->in.stream, &n, &n_error, &n_open);
    enum sp_code code = sp_record_set_u64(rec, "docs", n, err);
    if (!code) code = sp_record_set_u64(rec, "errors", n_error, err);
    if (!code) code = sp_record_set_u64(rec, "open", n_open, err);
    if (!code) code = sp_writer_write(r->w, rec, err);
    sp_record_free(rec);
    return code ? code : sp_writer_flush(r->w, err);
}

static enum sp_code take_files(struct run *r, char **file, int n, struct sp_error *err) {
    enum sp_code code = write_hello(r, err);
    for (int i = 0; !code && i < (n ? n : 1); i++) {
        const char *name = n ? file[i] : "-";
        int fd;
        code = sp_io_open(&fd, name, err);
        if (code) break;
        code = sp_token_input_file(&r->in, fd, name, opt.open && i + 1 >= n, err);
        close(fd);
    }
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
    uint64_t n_doc = 0, n_error = 0, n_open;
    if (r.in.stream) sp_token_stream_count(r.in.stream, &n_doc, &n_error, &n_open);
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
                (unsigned long long)r.in.n_byte);
    sp_token_input_clear(&r.in);
    sp_token_stream_free(r.in.stream);
    sp_writer_free(r.w);
    sp_tokenizer_free(r.tok);
    return cli_close(&program, status);
}
