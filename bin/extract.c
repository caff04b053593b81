/* extract: a stream of scores in, what a person wants of it out: tags decoded and grouped to
 * records, classes, choices, text in colours. Never opens the model. */
#include "../lib/choices.h"
#include "../lib/gather.h"
#include "../lib/surprisal.h"
#include "filter.h"

static struct {
    const char *format;
    bool header, force;
    double min_p, record_p, recall;
    int64_t max_doc;
    int verbose;
} opt = {.max_doc = (int64_t)64 << 20, .record_p = SP_RECORD_P, .recall = SP_GATHER_RECALL};

static const struct sp_option options[] = {
    {SP_OPT_CHOICE, 'o', "output", "jsonl|tsv|csv|table|html|ansi|msgpack",
     "output format (jsonl; at a terminal: table)", &opt.format, 0, 0},
    CLI_OPTION_HEADER(opt.header),
    CLI_OPTION_MIN_P(opt.min_p),
    CLI_OPTION_RECORD_P(opt.record_p),
    CLI_OPTION_RECALL(opt.recall),
    {SP_OPT_INT, 0, "max-doc", "BYTES", "longest text of a document (67108864)", &opt.max_doc, 1,
     1e15},
    {SP_OPT_FLAG, 'f', "force", NULL, "write msgpack to a terminal all the same", &opt.force, 0, 0},
    {SP_OPT_COUNT, 'v', "verbose", NULL, "say on stderr how much was read", &opt.verbose, 0, 0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "extract",
    .operands = "[FILE...]",
    .summary = "Reads the scores of a tag head and writes (institution, degree, year) records.",
    .detail = "Each has text, its bytes in the input and a probability; years also as numbers.\n"
              "Other heads: classes and choices (jsonl, tsv, csv, table); after --surprisal the\n"
              "text in colours (ansi, html).",
    .example = "tokenize cv.txt | embed | mamba-layer | head | extract -o tsv -H",
    .options = options};

struct extract {
    enum sp_records_format format;
    bool by_default; /* no -o */
    bool to_stream;  /* -o msgpack */
    bool begun;      /* something is written: the header line is there */
    struct sp_gather_head head;
    bool have_head, in_doc;
    struct sp_gather doc;
    struct sp_records records;
    struct sp_choices choices; /* of the document that was left open */
    bool is_choice, more_choices, choice_lost;
    uint64_t n_before; /* tokens of the state that documents begin from */
    uint64_t n_doc, n_record, n_token;
};

/* ---- one document ---- */

static bool is_surprisal(const struct extract *x) {
    return x->have_head && x->head.gives == SP_GIVES_SURPRISAL;
}

static void begin(struct extract *x) {
    if (x->begun) return;
    x->begun = true;
    if (x->have_head && x->head.head.type == SP_HEAD_CLASS)
        sp_classes_begin(stdout, x->format, opt.header);
    else if (x->have_head && x->head.gives == SP_GIVES_CHOICES)
        sp_choices_begin(stdout, x->format, opt.header);
    else if (is_surprisal(x))
        sp_surprisal_begin(stdout, x->format);
    else
        sp_records_begin(stdout, x->format, opt.header);
}

static enum sp_code write_classes(struct extract *x, struct sp_error *err) {
    struct sp_class class[SP_LABELS_MAX];
    const struct sp_gather *g = &x->doc;
    size_t n_label = g->n > 0 ? g->n_label : 0;
    enum sp_code code = SP_OK;
    if (g->n > 0)
        code =
            sp_classes_from_scores(&x->head.head, g->scores + (g->n - 1) * g->n_label, class, err);
    if (code) return code;
    begin(x);
    sp_classes_write(stdout, x->format, g->id, class, n_label);
    return SP_OK;
}

static enum sp_code write_lm(struct extract *x, const struct sp_document *doc,
                             const struct sp_record *end, struct sp_error *err) {
    x->n_token += x->doc.n;
    if (is_surprisal(x)) {
        begin(x);
        sp_surprisal_write(stdout, x->format, doc, x->doc.span, x->doc.scores, x->doc.n,
                           x->n_before);
        return SP_OK;
    }
    if (!x->is_choice || x->choice_lost) return SP_OK;
    enum sp_code code = sp_choices_add(&x->choices, doc, end, err);
    if (code || x->more_choices) return code;
    begin(x);
    x->n_record += x->choices.n;
    sp_choices_write(stdout, x->format, doc->id, &x->choices);
    sp_choices_forget(&x->choices);
    return SP_OK;
}

static enum sp_code write_document(struct extract *x, const struct sp_record *end,
                                   struct sp_writer *w, struct sp_error *err) {
    struct sp_document doc = {.id = x->doc.id,
                              .text = x->doc.text ? x->doc.text : "",
                              .text_start = x->doc.text_start,
                              .n_text = x->doc.n_text};
    if (x->head.head.type == SP_HEAD_CLASS) return write_classes(x, err);
    if (x->head.head.type == SP_HEAD_LM) return write_lm(x, &doc, end, err);
    enum sp_code code = sp_gather_decode(&x->doc, &x->head, &x->records, err);
    if (code) return code;
    sp_records_drop_unsure(&x->records, (float)opt.min_p, (float)opt.record_p);
    x->n_token += x->doc.n;
    x->n_record += x->records.n;
    if (!x->to_stream) {
        begin(x);
        return sp_records_write(stdout, x->format, &doc, &x->records, err);
    }
    uint64_t index = 0;
    sp_record_get_u64(end, "doc", &index);
    for (size_t i = 0; !code && i < x->records.n; i++) {
        struct sp_record *rec;
        code = sp_records_pack(&rec, index, &doc, &x->records.item[i], err);
        if (code) break;
        code = sp_writer_write(w, rec, err);
        sp_record_free(rec);
    }
    return code;
}

/* ---- the stream ---- */

/* Which formats show what the head gives. */
static enum sp_code check_format(struct extract *x, struct sp_error *err) {
    bool page = x->format == SP_RECORDS_HTML || x->format == SP_RECORDS_ANSI;
    bool class = x->head.head.type == SP_HEAD_CLASS;
    if (is_surprisal(x) && x->by_default) {
        x->format = SP_RECORDS_ANSI;
        return SP_OK;
    }
    if (is_surprisal(x) && (x->to_stream || !page))
        return sp_error_set(err, SP_E_USAGE, "-o %s cannot show surprisal; use ansi or html",
                            opt.format);
    if ((class || x->head.gives == SP_GIVES_CHOICES) && (x->to_stream || page))
        return sp_error_set(err, SP_E_USAGE, "-o %s cannot show %s; use jsonl, tsv, csv or table",
                            opt.format, class ? "classes" : "choices");
    return SP_OK;
}

static enum sp_code take_head(struct extract *x, struct sp_record *rec, struct sp_error *err) {
    if (x->in_doc) return sp_error_set(err, SP_E_DATA, "a HEAD in the middle of a document");
    enum sp_code code = sp_gather_head_read(&x->head, rec, err);
    if (code) return code;
    x->have_head = true;
    if (x->head.head.type == SP_HEAD_LM && x->head.gives == SP_GIVES_SCORES)
        return sp_error_set(err, SP_E_DATA,
                            "these are scores of the language model head '%s', which has no tags; "
                            "choose a tag head with `head --head NAME`, give `head` --surprisal or "
                            "--choices, or look at the scores with `inspect`",
                            x->head.head.name);
    return check_format(x, err);
}

static enum sp_code take_doc(struct extract *x, const struct sp_record *rec, struct sp_error *err) {
    uint64_t choice;
    x->n_doc++;
    x->in_doc = true;
    x->is_choice = sp_record_get_u64(rec, "choice", &choice);
    x->more_choices = false;
    sp_record_get_bool(rec, "fork", &x->more_choices);
    if (!x->is_choice) {
        x->choice_lost = false;
        sp_choices_forget(&x->choices);
    }
    return sp_gather_start(&x->doc, rec, &x->head, err);
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    struct extract *x = ctx;
    enum sp_code code = SP_OK;
    uint64_t doc;
    if (rec->kind == SP_KIND_STATE && !sp_record_get_u64(rec, "doc", &doc)) {
        sp_record_get_u64(rec, "n_tok", &x->n_before);
    } else if (rec->kind == SP_KIND_HEAD) {
        code = take_head(x, rec, err);
    } else if (!x->have_head) {
        code = sp_error_set(err, SP_E_DATA,
                            "a document comes before the HEAD that explains its "
                            "scores");
    } else if (rec->kind == SP_KIND_DOC) {
        code = take_doc(x, rec, err);
    } else if (rec->kind == SP_KIND_DOCEND) {
        code = write_document(x, rec, w, err);
        x->in_doc = false;
    } else {
        code = sp_gather_add(&x->doc, rec, err);
    }
    if (!code && x->to_stream &&
        (rec->kind == SP_KIND_DOC || rec->kind == SP_KIND_STATE || rec->kind == SP_KIND_DOCEND))
        code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code;
}

/* Every segment brings its own HEAD. */
static enum sp_code on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err) {
    struct extract *x = ctx;
    (void)rec;
    (void)err;
    if (hello->content == SP_STATE)
        x->n_before = 0;
    else
        x->have_head = x->in_doc = false;
    return SP_OK;
}

static void on_drop(void *ctx, uint64_t doc) {
    struct extract *x = ctx;
    (void)doc;
    x->in_doc = false;
    x->choice_lost = true; /* choices are compared, or nothing is said of them */
}

/* A document's records go out before the next one is waited for. */
static enum sp_code on_idle(void *ctx, struct sp_writer *w, struct sp_error *err) {
    (void)ctx;
    (void)w;
    if (fflush(stdout) == 0) return SP_OK;
    return sp_error_set(err, SP_E_IO, "writing standard output: %s", strerror(errno));
}

static enum sp_code choose_format(struct extract *x, struct sp_error *err) {
    x->by_default = !opt.format;
    if (!opt.format) opt.format = isatty(STDOUT_FILENO) ? "table" : "jsonl";
    x->to_stream = strcmp(opt.format, "msgpack") == 0;
    for (int f = 0; f < SP_RECORDS_FORMAT_COUNT; f++)
        if (strcmp(opt.format, sp_records_format_name((enum sp_records_format)f)) == 0)
            x->format = (enum sp_records_format)f;
    return x->to_stream ? cli_refuse_terminal(opt.force, err) : SP_OK;
}

int main(int argc, char **argv) {
    struct extract x = {0};
    struct sp_error err;
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    status = 0;
    x.doc.text_max = (size_t)opt.max_doc;
    x.doc.recall = opt.recall;
    enum sp_code code = choose_format(&x, &err);
    struct sp_filter filter = {.in = SP_SCORES,
                               .out = SP_RECORDS,
                               .takes_states = true,
                               .ctx = &x,
                               .on_hello = on_hello,
                               .on_record = on_record,
                               .on_drop = on_drop,
                               .on_idle = on_idle,
                               .silent = !x.to_stream};
    if (!code) status = filter_files(&program, &filter, NULL, n_operand, argv, &code, &err);
    if (!code && !x.to_stream) {
        begin(&x);
        sp_records_end(stdout, x.format);
    }
    if (code) status = cli_fail(&program, &err);
    if (opt.verbose)
        fprintf(stderr, "%s: %llu documents, %llu tokens, %llu records\n", program.name,
                (unsigned long long)x.n_doc, (unsigned long long)x.n_token,
                (unsigned long long)x.n_record);
    sp_gather_head_clear(&x.head);
    sp_gather_clear(&x.doc);
    sp_records_clear(&x.records);
    sp_choices_clear(&x.choices);
    return code ? status : cli_close(&program, status);
}
