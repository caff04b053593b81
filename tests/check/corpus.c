/* The corpus module: edits keep spans on their words, and every shipped rule can be expanded. */
#include "../../lib/corpus_internal.h"
#include "check.h"

static void start_text(struct sp_text *t, const char *s, const char *labelled) {
    memset(t, 0, sizeof *t);
    sp_text_add(t, s, strlen(s));
    const char *at = strstr(t->s, labelled);
    struct sp_cv_span span = {.start = (size_t)(at - t->s), .n_record = 1};
    span.end = span.start + strlen(labelled);
    sp_text_mark(t, &span);
}

static bool span_is(const struct sp_text *t, const char *wanted) {
    size_t n = strlen(wanted);
    return t->n_span == 1 && t->span[0].end - t->span[0].start == n &&
           memcmp(t->s + t->span[0].start, wanted, n) == 0;
}

static void check_layout(void) {
    struct sp_text t;
    start_text(&t, "one two University of Ulm, 2018 three", "University of Ulm");
    sp_text_wrap(&t, 0, 20, true);
    check_ok(span_is(&t, "University of Ulm") &&
                 strcmp(t.s, "one two\nUniversity of Ulm,\n2018 three") == 0,
             "fold: breaks beside a span, not in it");
    sp_text_free(&t);
    start_text(&t, "one two University of Ulm, 2018 three", "University of Ulm");
    sp_text_wrap(&t, 0, 20, false);
    check_ok(span_is(&t, "University\nof Ulm"), "wrap: a span may hold a line end");
    sp_text_free(&t);
    start_text(&t, "a\nb\nMIT, 2001\nc", "MIT");
    sp_text_columns(&t, 0, 4, 6);
    check_ok(span_is(&t, "MIT") && strcmp(t.s, "a     MIT, 2001\nb     c\n") == 0, "columns: %s",
             t.s);
    sp_text_free(&t);
    start_text(&t, "x große Universität y", "große Universität");
    sp_text_case(&t, 0, SP_CASE_UPPER);
    check_ok(span_is(&t, "GROSSE UNIVERSITÄT"), "case: %s", t.s);
    sp_text_free(&t);
    start_text(&t, "x MIT y", "MIT");
    sp_text_space_letters(&t, 2);
    check_ok(span_is(&t, "M I T"), "spaced letters: %s", t.s);
    sp_text_free(&t);
}

/* A pass may damage a label's letters, never its place: first and last byte come from the label. */
static void check_noise(void) {
    static const char *const pass[] = {
        "crlf",  "flat",   "rewrap",    "blank_lines", "no_blank_lines", "spaces",  "nbsp",
        "plain", "margin", "no_margin", "tight",       "escapes",        "entities"};
    uint64_t random = check_random();
    for (size_t k = 0; k < sizeof pass / sizeof *pass; k++) {
        bool ok = true;
        for (int i = 0; ok && i < 200; i++) {
            struct sp_text t;
            start_text(&t, "A, B\n\n  line – two\nx (MITx) 2001\n  end “q”\n", "MITx");
            ok = sp_noise_apply(&t, &random, pass[k], strlen(pass[k])) && span_is(&t, "MITx");
            sp_text_free(&t);
        }
        check_ok(ok, "noise %s: the label stays on its word", pass[k]);
    }
    struct sp_text t;
    start_text(&t, "a", "a");
    check_ok(!sp_noise_apply(&t, &random, "nonesuch", 8), "noise: an unknown pass is refused");
    sp_text_free(&t);
}

/* Documents of every layout and split; the corpus is found from the test's folder. */
static void check_documents(void) {
    static const enum sp_corpus_split split[] = {SP_CORPUS_TRAIN, SP_CORPUS_HELDOUT, SP_CORPUS_ALL};
    for (int k = 0; k < 3; k++) {
        struct sp_corpus *corpus;
        struct sp_error err = {0};
        if (sp_corpus_open(&corpus, "share/corpus", split[k], &err)) {
            check_ok(false, "open: %s", err.msg);
            continue;
        }
        struct sp_cv cv = {0};
        size_t n_span = 0, n_bad = 0;
        enum sp_code code = SP_OK;
        for (uint64_t i = 0; !code && i < 3000; i++) {
            code = sp_corpus_make(corpus, check_state.seed, i, NULL, 4, &cv, &err);
            n_span += cv.n_span;
            n_bad += cv.text && strspn(cv.text, " \r\n\t\f") == cv.n;
            for (size_t s = 0; !code && s < cv.n_span; s++)
                n_bad += cv.span[s].end > cv.n || cv.span[s].start >= cv.span[s].end;
        }
        check_ok(!code && n_span > 9000 && n_bad == 0, "split %d: %zu spans, %zu bad or empty: %s",
                 k, n_span, n_bad, code ? err.msg : "fine");
        sp_cv_clear(&cv);
        sp_corpus_free(corpus);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("layout")) check_layout();
    if (check_wanted("noise")) check_noise();
    if (check_wanted("documents")) check_documents();
    return check_end();
}
