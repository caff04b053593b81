/* Any bytes as a stream of scores: gathered, decoded, grouped, and written in every format. */
#include "../../lib/choices.h"
#include "../../lib/gather.h"
#include "../../lib/surprisal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct run {
    struct sp_gather_head head;
    struct sp_gather doc;
    struct sp_records records;
    struct sp_choices choices;
    bool have_head, in_doc;
    FILE *out;
};

static void check_records(const struct run *run) {
    for (size_t i = 0; i < run->records.n; i++)
        for (int f = 0; f < SP_FIELD_COUNT; f++) {
            const struct sp_span *s = &run->records.item[i].field[f];
            if (s->there && (s->start >= s->end || s->end > run->doc.n_text)) abort();
            if (s->there && !(s->p >= 0 && s->p <= 1)) abort();
        }
}

static enum sp_code finish_lm(struct run *run, const struct sp_record *end, struct sp_error *err) {
    const struct sp_gather *g = &run->doc;
    struct sp_document doc = {.id = g->id,
                              .text = g->n_text ? g->text : "",
                              .text_start = g->text_start,
                              .n_text = g->n_text};
    if (run->head.gives == SP_GIVES_SURPRISAL) {
        sp_surprisal_write(run->out, SP_RECORDS_HTML, &doc, g->span, g->scores, g->n, 0);
        sp_surprisal_write(run->out, SP_RECORDS_ANSI, &doc, g->span, g->scores, g->n, 7);
        return SP_OK;
    }
    enum sp_code code = sp_choices_add(&run->choices, &doc, end, err);
    for (int f = 0; !code && f <= SP_RECORDS_TABLE; f++)
        sp_choices_write(run->out, (enum sp_records_format)f, g->id, &run->choices);
    return code;
}

static enum sp_code finish(struct run *run, const struct sp_record *end, struct sp_error *err) {
    struct sp_class class[SP_LABELS_MAX];
    const struct sp_gather *g = &run->doc;
    if (run->head.head.type == SP_HEAD_LM) return finish_lm(run, end, err);
    if (run->head.head.type == SP_HEAD_CLASS)
        return g->n ? sp_classes_from_scores(&run->head.head, g->scores, class, err) : SP_OK;
    enum sp_code code = sp_gather_decode(&run->doc, &run->head, &run->records, err);
    if (code) return code;
    check_records(run);
    struct sp_document doc = {
        .id = g->id, .text = g->text, .text_start = g->text_start, .n_text = g->n_text};
    for (int f = 0; !code && f < SP_RECORDS_FORMAT_COUNT; f++)
        code = sp_records_write(run->out, (enum sp_records_format)f, &doc, &run->records, err);
    for (size_t i = 0; !code && i < run->records.n; i++) {
        struct sp_record *rec;
        code = sp_records_pack(&rec, 0, &doc, &run->records.item[i], err);
        if (!code) sp_record_free(rec);
    }
    return code;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    struct run *run = ctx;
    enum sp_code code = SP_OK;
    (void)w;
    if (rec->kind == SP_KIND_HEAD && !run->in_doc) {
        code = sp_gather_head_read(&run->head, rec, err);
        run->have_head = !code && (run->head.head.type != SP_HEAD_LM || run->head.gives);
    } else if (!run->have_head) {
        code = sp_error_set(err, SP_E_DATA, "no head");
    } else if (rec->kind == SP_KIND_DOC) {
        run->in_doc = true;
        code = sp_gather_start(&run->doc, rec, &run->head, err);
    } else if (rec->kind == SP_KIND_DOCEND) {
        run->in_doc = false;
        code = finish(run, rec, err);
    } else {
        code = sp_gather_add(&run->doc, rec, err);
    }
    sp_record_free(rec);
    if (code == SP_E_BUG) abort();
    return code;
}

static void on_drop(void *ctx, uint64_t doc) {
    (void)doc;
    ((struct run *)ctx)->in_doc = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    int fd = memfd_create("fuzz", 0);
    struct run run = {.doc = {.text_max = 1 << 20, .recall = SP_GATHER_RECALL},
                      .out = fopen("/dev/null", "w")};
    struct sp_filter f = {.program = "fuzz",
                          .in = SP_SCORES,
                          .out = SP_RECORDS,
                          .ctx = &run,
                          .on_record = on_record,
                          .on_drop = on_drop,
                          .silent = true};
    struct sp_filter_result result;
    struct sp_reader *r;
    struct sp_error err;
    if (fd < 0 || !run.out || write(fd, data, n) != (ssize_t)n) abort();
    lseek(fd, 0, SEEK_SET);
    if (sp_reader_new(&r, fd, "fuzz", &err)) abort();
    sp_filter_run(&f, r, NULL, &result, &err);
    sp_reader_free(r);
    sp_gather_head_clear(&run.head);
    sp_gather_clear(&run.doc);
    sp_records_clear(&run.records);
    sp_choices_clear(&run.choices);
    fclose(run.out);
    close(fd);
    return 0;
}
