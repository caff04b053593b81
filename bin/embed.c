/* embed: a stream of tokens in, their embeddings out. */
#include "../lib/net_stream.h"
#include "filter.h"

#include <limits.h>

static struct {
    const char *model, *wire, *device;
    bool force;
    int verbose;
} opt = {.wire = "f32", .device = "auto"};

static const struct sp_option options[] = {
    CLI_OPTION_MODEL(opt.model), CLI_OPTION_WIRE(opt.wire),       CLI_OPTION_DEVICE(opt.device),
    CLI_OPTION_FORCE(opt.force), CLI_OPTION_VERBOSE(opt.verbose), CLI_OPTION_END};

static const struct sp_program program = {
    .name = "embed",
    .operands = "[FILE...]",
    .summary = "Looks up the embeddings of a stream of tokens.",
    .example = "tokenize cv.txt | embed | mamba-layer | head | extract",
    .options = options};

struct embed {
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be;    /* NULL: rows of the mapped file are all it takes */
    struct sp_embed_net *net; /* with be */
};

static enum sp_code open_device(struct embed *e, struct sp_error *err) {
    if (strcmp(opt.device, "auto") == 0 || strcmp(opt.device, "cpu") == 0) return SP_OK;
    SP_TRY(sp_backend_open(&e->be, opt.device, 1, err));
    return sp_embed_net_new(&e->net, e->model, e->be, err);
}

static enum sp_code on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err) {
    struct embed *e = ctx;
    (void)rec;
    enum sp_code code;
    if (e->model) {
        code = sp_stream_model_check(e->model, hello, err);
    } else {
        code = sp_stream_model_open(&e->model, opt.model, hello, err);
        if (!code) code = open_device(e, err);
    }
    if (code) return code;
    e->c = sp_model_config(e->model);
    char dir[PATH_MAX];
    if (!realpath(sp_model_dir(e->model), dir) || strlen(dir) >= sizeof hello->model_dir)
        dir[0] = 0;
    strcpy(hello->model_dir, dir);
    hello->model = *sp_model_fingerprint(e->model);
    hello->next_layer = 0;
    hello->n_layer = (uint32_t)e->c->n_layer;
    return SP_OK;
}

static enum sp_code add_hidden(struct embed *e, struct sp_record *chunk, struct sp_error *err) {
    struct sp_tensor *ids, hidden;
    uint64_t dim[2] = {0, 0};
    enum sp_code code = sp_record_need_tensor(chunk, "ids", SP_U32, 1, dim, &ids, err);
    if (code) return code;
    dim[0] = ids->dim[0];
    dim[1] = (uint64_t)e->c->d_model;
    code = sp_tensor_new(&hidden, SP_F32, 2, dim, err);
    if (code) return code;
    const int64_t n = (int64_t)dim[0];
    code = e->net ? sp_embed_net_forward(e->net, ids->data, n, hidden.data, err)
                  : sp_embed(e->model, ids->data, n, hidden.data, err);
    if (!code) return sp_record_put_tensor(chunk, "hidden", &hidden, err);
    sp_tensor_clear(&hidden);
    return code;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    enum sp_code code = SP_OK;
    if (rec->kind == SP_KIND_CHUNK) code = add_hidden(ctx, rec, err);
    if (!code && rec->kind == SP_KIND_CHUNK && strcmp(opt.wire, "bf16") == 0)
        code = sp_stream_to_bf16(rec, "hidden", err);
    if (!code) code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

static void describe(void *ctx, char *out, size_t size) {
    const struct embed *e = ctx;
    snprintf(out, size, "%s, %lld tokens of %lld values", sp_model_dir(e->model),
             (long long)e->c->vocab_size, (long long)e->c->d_model);
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    struct embed e = {0};
    struct sp_filter filter = {
        .in = SP_TOKENS, .out = SP_HIDDEN, .ctx = &e, .on_hello = on_hello, .on_record = on_record};
    enum sp_code code = cli_refuse_terminal(opt.force, &err);
    status =
        filter_main(&program, &filter, opt.verbose ? describe : NULL, n_operand, argv, code, &err);
    sp_embed_net_free(e.net);
    if (e.be) e.be->free(e.be);
    sp_model_free(e.model);
    return cli_close(&program, status);
}
