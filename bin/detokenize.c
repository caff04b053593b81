/* detokenize: a stream of tokens in, text out. */
#include "../lib/model.h"
#include "../lib/stream_model.h"
#include "../lib/token.h"
#include "../lib/token_out.h"
#include "filter.h"

static struct {
    const char *model;
    bool no_special, null;
    int verbose;
} opt;

static const struct sp_option options[] = {
    {SP_OPT_STRING, 'm', "model", "MODEL", "model directory, tokenizer.json, vocab.txt, or `bytes`",
     &opt.model, 0, 0},
    {SP_OPT_FLAG, 's', "skip-special", NULL, "leave out special tokens", &opt.no_special, 0, 0},
    {SP_OPT_FLAG, '0', "null", NULL, "end each document with a NUL", &opt.null, 0, 0},
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr what was done", &opt.verbose, 0, 0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "detokenize",
    .operands = "[FILE...]",
    .summary = "Writes the text that the tokens of a stream stand for.",
    .detail = "Exact for byte-level vocabularies (of the normalised text); for WordPiece words\n"
              "are put together and spaced as usual. Padding and repeated passes are left out.",
    .example = "tokenize -m bytes file | detokenize | cmp - file",
    .options = options};

struct run {
    struct sp_tokenizer *tok;
    bool at_start; /* of a document: no space before its first word */
    uint64_t pad;  /* padding tokens at the end of the document */
    /* Tokens that may turn out to be the padding: a ring of `pad` ids. */
    uint32_t held[SP_DELAY_MAX];
    uint64_t n_held, n_doc, n_token;
};

static enum sp_code put(struct run *r, uint32_t id, struct sp_error *err) {
    const char *s;
    size_t n;
    bool blank;
    if (!sp_token_text(r->tok, id, r->at_start, &s, &n, &blank))
        return sp_error_set(err, SP_E_DATA, "token %u is not in the vocabulary of %u", id,
                            sp_tokenizer_vocab_size(r->tok));
    if (opt.no_special && sp_tokenizer_is_special(r->tok, id)) return SP_OK;
    if (blank) putchar(' ');
    fwrite(s, 1, n, stdout);
    r->at_start = false;
    r->n_token++;
    return SP_OK;
}

/* ---- records ----------------------------------------------------------------------------------
 */

static enum sp_code take_chunk(struct run *r, struct sp_record *rec, struct sp_error *err) {
    uint64_t pass = 0, any = 0;
    struct sp_tensor *t;
    sp_record_get_u64(rec, "pass", &pass);
    if (pass > 0) r->pad = 0; /* another pass: what was held is text */
    enum sp_code code = sp_record_need_tensor(rec, "ids", SP_U32, 1, &any, &t, err);
    for (uint64_t i = 0; !code && pass == 0 && i < t->dim[0]; i++) {
        uint32_t id = ((const uint32_t *)t->data)[i];
        if (r->pad == 0) {
            code = put(r, id, err);
            continue;
        }
        uint32_t *slot = &r->held[r->n_held % r->pad];
        if (r->n_held >= r->pad) code = put(r, *slot, err);
        *slot = id;
        r->n_held++;
    }
    return code;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    (void)w;
    struct run *r = ctx;
    enum sp_code code = SP_OK;
    uint64_t passes = 1;
    if (rec->kind == SP_KIND_DOC) {
        bool goes_on = false;
        sp_record_get_bool(rec, "cont", &goes_on);
        r->at_start = !goes_on;
        r->n_held = r->pad = 0;
        sp_record_get_u64(rec, "passes", &passes);
        /* Padding stands behind the last pass only, and the first is the one that is written. */
        if (passes == 1) sp_record_get_u64(rec, "pad", &r->pad);
        if (r->pad > SP_DELAY_MAX)
            code = sp_error_set(err, SP_E_DATA, "more than %d padding tokens", SP_DELAY_MAX);
        r->n_doc++;
    } else if (rec->kind == SP_KIND_CHUNK) {
        code = take_chunk(r, rec, err);
    } else if (rec->kind == SP_KIND_DOCEND) {
        if (opt.null) putchar(0);
    }
    sp_record_free(rec);
    return code;
}

static enum sp_code on_idle(void *ctx, struct sp_writer *w, struct sp_error *err) {
    (void)ctx;
    (void)w;
    (void)err;
    fflush(stdout);
    return SP_OK;
}

static enum sp_code on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err) {
    (void)rec;
    struct run *r = ctx;
    sp_tokenizer_free(r->tok);
    return sp_stream_tokenizer_open(&r->tok, opt.model, hello, err);
}

int main(int argc, char **argv) {
    int n_operand, status;
    struct sp_error err;
    static struct run r;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    struct sp_filter filter = {.in = SP_TOKENS,
                               .out = SP_TOKENS,
                               .ctx = &r,
                               .silent = true,
                               .on_hello = on_hello,
                               .on_record = on_record,
                               .on_idle = on_idle};
    status = filter_main(&program, &filter, NULL, n_operand, argv, SP_OK, &err);
    if (opt.verbose)
        fprintf(stderr, "%s: %llu documents, %llu tokens\n", program.name,
                (unsigned long long)r.n_doc, (unsigned long long)r.n_token);
    sp_tokenizer_free(r.tok);
    return cli_close(&program, status);
}
