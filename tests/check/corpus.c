/* The corpus module: edits keep spans on their words, and every shipped rule can be expanded. */
#include "../../lib/corpus_internal.h"
#include "check.h"

#include <unistd.h>

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

static char scratch[64] = "/tmp/statepipe-check-XXXXXX";

static bool write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "w");
    bool ok = f && fputs(text, f) >= 0;
    return f && fclose(f) == 0 && ok;
}

/* The same with a byte order mark, and CR LF. */
static bool write_dos(const char *name, const char *text) {
    char dos[2048] = "\xEF\xBB\xBF";
    size_t n = 3;
    for (; *text && n + 3 < sizeof dos; text++) {
        if (*text == '\n') dos[n++] = '\r';
        dos[n++] = *text;
    }
    dos[n] = 0;
    return !*text && write_file(name, dos);
}

static const char rules[] =
    "region\n  US en\nrecords\n  master\ncareer\n  9\ngap\n  0\nabroad\n  1*\nmissing\n  1*\n"
    "layout\n  a\nnoise\n  1*\nyears.master\n  2\ninst.master < list.txt\n"
    "degree.master\n  M.Sc.\nfield.master\n  Law\nshown.inst\n  {%text}\nshown.degree\n"
    "  {%text}\nshown.year\n  {%y1}\nshown.field\n  {%text}\ndoc.a\n  {%inst} {%year}\n";
static const char list[] = "MIT\nYale\nYork\nBath\n";
static const char page[] = "=== one-page US en master\nJane {Roe|Doe}\n\n"
                           "⟦i1:Hull⟧, ⟦y1:2019⟧\nend\n";

/* 20 documents of the page behind one another. */
static void make_all(char *out, size_t size, struct sp_error *err) {
    struct sp_corpus *c;
    struct sp_cv cv = {0};
    *out = 0;
    if (sp_corpus_open(&c, scratch, SP_CORPUS_ALL, err)) return;
    for (uint64_t i = 0; i < 20; i++)
        if (!sp_corpus_make(c, 1, i, "one-page", 0, &cv, err))
            snprintf(out + strlen(out), size - strlen(out), "%s--\n", cv.text);
    sp_cv_clear(&cv);
    sp_corpus_free(c);
}

static void check_files(void) {
    static const struct {
        const char *page, *says;
    } bad[] = {
        {"=== one-page US en master\ntext\n\n{a|b\n{c}\n", "/x.pages:4: braces do not match"},
        {"=== one-page US en master\ntext\n{a|b}\n}\n", "/x.pages:4: braces do not match"},
        {"=== one-page US en master\n⟦i1:X⟧\n⟦i2:X⟧\n",
         "/x.pages:3: '⟦i2:X⟧': the mark is of a record without a level"},
        {"=== one-page US en\na\n=== two-page US en\nb ⟦i1:X\n",
         "/x.pages:4: '⟦i1:X': the mark has no end"},
        {"=== one-page US en\na\n=== ab US en\nb\n",
         "/x.pages:3: 'ab US en' is not NAME REGION LANGUAGE LEVEL...: a name of 3 to 39 letters"},
    };
    struct sp_error err = {0};
    static char unix_text[8192], dos_text[8192];
    bool ok = mkdtemp(scratch) && write_file("x.rules", rules) && write_file("list.txt", list) &&
              write_file("x.pages", page);
    make_all(unix_text, sizeof unix_text, &err);
    check_ok(ok && strstr(unix_text, "Jane Doe\n") && strstr(unix_text, "MIT, "), "a page: %s",
             err.msg);
    ok = write_dos("x.rules", rules) && write_dos("list.txt", list) && write_dos("x.pages", page);
    make_all(dos_text, sizeof dos_text, &err);
    check_ok(ok && strcmp(unix_text, dos_text) == 0 && !strchr(dos_text, '\r'),
             "a byte order mark and CR LF change nothing: %s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_dos("x.pages", bad[i].page);
        make_all(dos_text, sizeof dos_text, &err);
        check_ok(err.code == SP_E_DATA && strstr(err.msg, bad[i].says), "refused: %s", err.msg);
    }
    struct sp_corpus *c;
    struct sp_cv cv = {0};
    char says[256];
    snprintf(says, sizeof says,
             "no layout 'none': there is no rule doc.none; to list all: grep -rEh "
             "'^(doc[.]|=== )' %s",
             scratch);
    ok = write_file("x.pages", page) && !sp_corpus_open(&c, scratch, SP_CORPUS_ALL, &err);
    check_ok(ok && sp_corpus_make(c, 1, 0, "none", 0, &cv, &err) == SP_E_USAGE &&
                 strcmp(err.msg, says) == 0,
             "%s", err.msg);
    if (ok) sp_corpus_free(c);
    static const char *const files[] = {"x.rules", "list.txt", "x.pages"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", scratch, files[i]);
        unlink(path);
    }
    rmdir(scratch);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("layout")) check_layout();
    if (check_wanted("noise")) check_noise();
    if (check_wanted("files")) check_files();
    if (check_wanted("documents")) check_documents();
    return check_end();
}
