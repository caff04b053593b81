/* inspect: what a person wants to see of a stream or a state. */
#include "../lib/io.h"
#include "../lib/wire_show.h"
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#define REPORT_SECONDS 1.0
#define NAMES_MAX 32 /* tensors that --tee keeps count of */

static struct {
    bool json, tee, force;
    int64_t n_value;
} opt;

static const struct sp_option options[] = {
    {SP_OPT_FLAG, 'j', "json", NULL, "one JSON object per record", &opt.json, 0, 0},
    {SP_OPT_INT, 'n', "values", "N", "show the first N values of each tensor", &opt.n_value, 0,
     1e12},
    {SP_OPT_FLAG, 't', "tee", NULL, "pass the stream on; report on stderr at its end", &opt.tee, 0,
     0},
    {SP_OPT_FLAG, 'f', "force", NULL, "with --tee, write to a terminal all the same", &opt.force, 0,
     0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "inspect",
    .operands = "[FILE...]",
    .summary = "Shows the records of streams and state files, with summaries of their tensors.",
    .detail = "With --tee: documents, tokens per second, norms and NaNs on stderr, every second\n"
              "when that is a terminal.",
    .example = "tokenize cv.txt | embed | inspect --tee | mamba-layer | inspect -n 4",
    .options = options};

/* What --tee has seen. */
struct tally {
    double start, reported; /* seconds */
    uint64_t n_doc, n_tok;
    size_t n_name;
    char name[NAMES_MAX][SP_NAME_MAX];
    struct sp_stats stats[NAMES_MAX];
};

struct run {
    struct sp_writer *w;
    bool in_segment;
    enum sp_content content; /* of the last segment */
    struct tally tally;
    uint64_t n_error;
    int upstream_exit;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void report(struct tally *t) {
    double seconds = now() - t->start;
    t->reported = now();
    fprintf(stderr,
            "inspect: %" PRIu64 " documents, %" PRIu64 " tokens in %.2f s (%.0f tokens/s)\n",
            t->n_doc, t->n_tok, seconds, seconds > 0 ? (double)t->n_tok / seconds : 0);
    for (size_t i = 0; i < t->n_name; i++) {
        const struct sp_stats *s = &t->stats[i];
        uint64_t n = sp_stats_finite(s);
        double rms = n ? sp_stats_norm(s) / sqrt((double)n) : 0;
        double largest = fmax(fabs(s->min), fabs(s->max));
        fprintf(stderr, "inspect: %s: rms %.6g, largest %.6g, NaN %" PRIu64 ", inf %" PRIu64 "\n",
                t->name[i], rms, largest, s->n_nan, s->n_inf);
    }
}

/* Only of tensors of floats: the others have no norms. */
static void count_tensors(struct tally *t, struct sp_record *rec) {
    for (uint32_t i = 0; i < rec->n_tensor; i++) {
        const struct sp_tensor *tensor = &rec->tensor[i];
        if (strcmp(rec->name[i], "ids") == 0) t->n_tok += tensor->dim[0];
        if (tensor->dtype != SP_F32 && tensor->dtype != SP_F16 && tensor->dtype != SP_BF16)
            continue;
        size_t k = 0;
        while (k < t->n_name && strcmp(t->name[k], rec->name[i]) != 0) k++;
        if (k == NAMES_MAX) continue;
        if (k == t->n_name) memcpy(t->name[t->n_name++], rec->name[i], SP_NAME_MAX);
        sp_stats_add(&t->stats[k], tensor);
    }
}

static void count(struct run *run, struct sp_record *rec) {
    uint64_t status;
    bool cont = false;
    sp_record_get_bool(rec, "cont", &cont);
    run->tally.n_doc += rec->kind == SP_KIND_DOC && !cont;
    if (rec->kind == SP_KIND_ERR && sp_record_get_u64(rec, "doc", &status))
        run->n_error++;
    else if (rec->kind == SP_KIND_ERR && sp_record_get_u64(rec, "exit", &status))
        run->upstream_exit = status >= 1 && status <= 255 ? (int)status : 70;
}

static enum sp_code take(struct run *run, struct sp_record *rec, uint64_t offset,
                         struct sp_error *err) {
    count(run, rec);
    if (!opt.tee) {
        (opt.json ? sp_show_record_json : sp_show_record_text)(stdout, rec, offset,
                                                               (size_t)opt.n_value);
        return SP_OK;
    }
    struct sp_hello hello;
    if (rec->kind == SP_KIND_HELLO) {
        enum sp_code code = sp_hello_read(&hello, rec, err);
        if (code) return code;
        run->content = hello.content;
    }
    count_tensors(&run->tally, rec);
    if (isatty(STDERR_FILENO) && now() - run->tally.reported > REPORT_SECONDS) report(&run->tally);
    run->in_segment = rec->kind != SP_KIND_END;
    return sp_writer_write(run->w, rec, err);
}

/* Nothing may be held back while the next record is waited for. */
static enum sp_code let_go(struct run *run, struct sp_error *err) {
    if (opt.tee) return sp_writer_flush(run->w, err);
    fflush(stdout);
    return SP_OK;
}

static enum sp_code read_stream(struct run *run, const char *path, struct sp_error *err) {
    int fd;
    struct sp_reader *r = NULL;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    code = sp_reader_new(&r, fd, sp_io_shown(path), err);
    while (!code) {
        struct sp_record *rec;
        uint64_t offset = sp_reader_offset(r);
        if (!sp_reader_ready(r)) code = let_go(run, err);
        if (!code) code = sp_reader_read(r, &rec, err);
        if (code || !rec) break;
        code = take(run, rec, offset, err);
        sp_record_free(rec);
    }
    sp_reader_free(r);
    close(fd);
    return code;
}

/* The end of --tee: everything is written, or downstream is told why not. */
static enum sp_code end_tee(struct run *run, enum sp_code code, struct sp_error *err) {
    struct sp_error ignored;
    if (!code)
        code = sp_writer_flush(run->w, err);
    else if (code != SP_E_IO)
        sp_writer_fail(run->w, program.name, run->content, run->in_segment, err, &ignored);
    report(&run->tally);
    sp_writer_free(run->w);
    return code;
}

int main(int argc, char **argv) {
    struct sp_error err;
    struct run run = {.tally.start = now()};
    int n, status;
    if (!cli_start(&program, argc, argv, &n, &status)) return status;
    if (opt.tee && cli_refuse_terminal(opt.force, &err)) return cli_fail(&program, &err);
    if (opt.tee && (opt.json || opt.n_value)) {
        sp_error_set(&err, SP_E_USAGE,
                     "--tee passes the stream on: it goes with neither --json nor -n");
        return cli_fail(&program, &err);
    }
    enum sp_code code = cli_refuse_keyboard(n, &err);
    if (!code && opt.tee) code = sp_writer_new(&run.w, STDOUT_FILENO, "standard output", &err);
    if (code) return cli_fail(&program, &err);
    for (int i = 0; i < (n ? n : 1) && !code && !run.upstream_exit; i++)
        code = read_stream(&run, n ? argv[i] : "-", &err);
    if (opt.tee) code = end_tee(&run, code, &err);
    status = run.upstream_exit ? run.upstream_exit : run.n_error ? 1 : 0;
    return cli_close(&program, code ? cli_fail(&program, &err) : status);
}
