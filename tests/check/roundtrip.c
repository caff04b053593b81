/* Gold spans to tags and back to records, on synthetic CVs: what a perfect tagger would score. It
 * bounds what any model can reach, and shows what the tag scheme or the grouping loses. */
#include "../../lib/corpus.h"
#include "../../lib/task.h"
#include "check.h"

#include <ctype.h>

#define TOKENS_MAX 65536
#define DOCUMENTS 1500

static struct sp_head head;
static struct {
    uint64_t span[TOKENS_MAX][2];
    int32_t tag[TOKENS_MAX];
    uint32_t use[TOKENS_MAX];
    float p[TOKENS_MAX];
    size_t n;
    uint8_t pack[1 << 20];
    size_t n_pack;
} doc;

static void head_init(void) {
    static const char prefix[] = "NBSI";
    head.type = SP_HEAD_TAG;
    snprintf(head.label[head.n_label++], SP_NAME_MAX, "O");
    for (int f = 0; f < SP_FIELD_COUNT; f++)
        for (const char *c = prefix; *c; c++)
            snprintf(head.label[head.n_label++], SP_NAME_MAX, "%c-%s", *c,
                     sp_field_name((enum sp_field)f));
}

static bool is_word(const char *text, size_t i) {
    bool no_break_space = (uint8_t)text[i] == 0xc2 && (uint8_t)text[i + 1] == 0xa0;
    return isalpha((unsigned char)text[i]) || (text[i] & 0x80 && !no_break_space);
}

/* Words with the blank in front of them in pieces, digits in pairs, other characters one by one:
 * about what a trained vocabulary does. text ends with a NUL. */
static void tokenize(const char *text, size_t n) {
    doc.n = 0;
    for (size_t i = 0; i < n && doc.n < TOKENS_MAX;) {
        size_t start = i, most = (size_t)check_random_int(3, 8);
        if (text[i] == ' ' && i + 1 < n && is_word(text, i + 1)) i++;
        size_t first = i;
        while (i < n && i < first + most && is_word(text, i)) i++;
        while (i == first + 1 && i < n && (text[i] & 0xc0) == 0x80) i++;
        if (i == first)
            i += text[i] & 0x80 ? 2 : 1 + (size_t)(isdigit(text[i]) && isdigit(text[i + 1]));
        doc.span[doc.n][0] = start;
        doc.span[doc.n][1] = i;
        doc.p[doc.n++] = 1;
    }
}

static void put(int b) {
    doc.pack[doc.n_pack++] = (uint8_t)b;
}
static void put_u32(uint64_t v) {
    put(0xce);
    for (int i = 24; i >= 0; i -= 8) put((int)(v >> i & 255));
}
static void pack_spans(const struct sp_cv *cv) {
    doc.n_pack = 0;
    put(0xdc);
    put((int)(cv->n_span >> 8));
    put((int)(cv->n_span & 255));
    for (size_t i = 0; i < cv->n_span; i++) {
        const struct sp_cv_span *s = &cv->span[i];
        const char *name = sp_field_name(s->field);
        put(0x94);
        put_u32(s->start);
        put_u32(s->end);
        put((int)(0xa0 | strlen(name)));
        while (*name) put(*name++);
        put((int)(0x90 | s->n_record));
        for (uint32_t k = 0; k < s->n_record; k++) put_u32(s->record_first + k);
    }
}

/* The gold field of a record: its first span of that field. */
static struct sp_span gold_field(const struct sp_cv *cv, uint32_t rec, enum sp_field field) {
    for (size_t i = 0; i < cv->n_span; i++) {
        const struct sp_cv_span *s = &cv->span[i];
        if (s->field == field && rec >= s->record_first && rec < s->record_first + s->n_record)
            return (struct sp_span){.there = true, .start = s->start, .end = s->end};
    }
    return (struct sp_span){0};
}

/* Ends may differ by what is trimmed: punctuation. */
static bool same_span(const struct sp_span *a, const struct sp_span *b) {
    if (a->there != b->there) return false;
    return !a->there || (a->start < b->end && b->start < a->end &&
                         llabs((long long)a->start - (long long)b->start) <= 2 &&
                         llabs((long long)a->end - (long long)b->end) <= 2);
}

static bool found(const struct sp_records *r, const struct sp_span gold[SP_FIELD_COUNT]) {
    for (size_t i = 0; i < r->n; i++) {
        bool same = true;
        for (int f = 0; f < SP_FIELD_COUNT; f++)
            same = same && same_span(&r->item[i].field[f], &gold[f]);
        if (same) return true;
    }
    return false;
}

static void show(const struct sp_cv *cv, const struct sp_span *gold, const char *what) {
    printf("# %s (%s, %s):", what, cv->layout, cv->lang);
    for (int f = 0; f < SP_FIELD_COUNT; f++)
        printf(" [%.*s]", gold[f].there ? (int)(gold[f].end - gold[f].start) : 0,
               cv->text + gold[f].start);
    printf("\n");
}

static struct { size_t n_gold, n_found, n_made, n_error; } total;

static void one_document(const struct sp_cv *cv, bool verbose) {
    struct sp_records r = {0};
    struct sp_error err;
    tokenize(cv->text, cv->n);
    pack_spans(cv);
    if (sp_tags_from_spans(&head, doc.pack, doc.n_pack, &doc.span[0][0], doc.n, doc.tag, &err)) {
        total.n_error++;
        printf("# %s\n", err.msg);
        return;
    }
    for (size_t i = 0; i < doc.n; i++) doc.use[i] = (uint32_t)doc.tag[i];
    total.n_error += sp_records_from_tags(&head, doc.use, doc.p, &doc.span[0][0], doc.n, cv->text,
                                          cv->n, &r, &err) != SP_OK;
    total.n_made += r.n;
    bool missed = false;
    for (uint32_t rec = 0; rec < cv->n_record; rec++) {
        struct sp_span gold[SP_FIELD_COUNT];
        for (int f = 0; f < SP_FIELD_COUNT; f++) gold[f] = gold_field(cv, rec, (enum sp_field)f);
        if (!gold[SP_INSTITUTION].there && !gold[SP_DEGREE].there) continue;
        bool there = found(&r, gold);
        total.n_gold++;
        total.n_found += there;
        missed = missed || !there;
        if (verbose && !there) show(cv, gold, "lost");
    }
    for (size_t i = 0; verbose && missed && i < r.n; i++) show(cv, r.item[i].field, "made");
    sp_records_clear(&r);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    bool verbose = argc > 1 && strcmp(argv[argc - 1], "--verbose") == 0;
    struct sp_corpus *corpus;
    struct sp_error err;
    struct sp_cv cv = {0};
    head_init();
    if (!check_ok(!sp_corpus_open(&corpus, "share/corpus", SP_CORPUS_ALL, &err),
                  "the corpus opens"))
        return check_end();
    for (uint64_t i = 0; i < DOCUMENTS; i++) {
        if (sp_corpus_make(corpus, check_state.seed, i, NULL, 0, &cv, &err))
            total.n_error++;
        else
            one_document(&cv, verbose);
    }
    sp_cv_clear(&cv);
    sp_corpus_free(corpus);
    double recall = (double)total.n_found / (double)total.n_gold;
    double precision = (double)total.n_found / (double)total.n_made;
    check_ok(total.n_error == 0, "no errors on %d documents", DOCUMENTS);
    /* The rest is noise that joins a word to a label, and pages of people, whose exams with no
     * school stand in the entry of another one's. */
    check_ok(recall > 0.996, "%zu of %zu records come back (%.4f)", total.n_found, total.n_gold,
             recall);
    check_ok(precision > 0.996, "and %zu were made (%.4f of them right)", total.n_made, precision);
    return check_end();
}
