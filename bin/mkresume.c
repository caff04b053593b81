/* mkresume: synthetic CVs with gold spans, as JSON lines. */
#include "../lib/corpus.h"
#include "../lib/mark.h"
#include "../lib/json.h"
#include "cli.h"

#include <libgen.h>
#include <limits.h>

static int64_t opt_count = 10, opt_seed = 1, opt_skip, opt_slots;
static const char *opt_split = "train", *opt_layout, *opt_corpus, *opt_form = "cv";
static bool opt_text;

static const struct sp_option options[] = {
    {SP_OPT_INT, 'n', "count", "N", "how many documents (default 10)", &opt_count, 0, 1e9},
    {SP_OPT_INT, 's', "seed", "N", "the series (default 1)", &opt_seed, 0, 1e15},
    {SP_OPT_INT, 0, "skip", "N", "begin at document N of the series", &opt_skip, 0, 1e12},
    {SP_OPT_CHOICE, 0, "split", "train|heldout|all",
     "which names, places and layouts (default train)", &opt_split, 0, 0},
    {SP_OPT_STRING, 0, "layout", "NAME", "one layout: the rule doc.NAME", &opt_layout, 0, 0},
    {SP_OPT_STRING, 0, "corpus", "DIR", "rules and lists (default: the shipped ones)", &opt_corpus,
     0, 0},
    {SP_OPT_INT, 0, "slots", "N", "up to N questions about each (default 0)", &opt_slots, 0,
     SP_CV_QUESTIONS_MAX},
    {SP_OPT_CHOICE, 0, "form", "cv|after|before|marked", "where questions stand (cv: apart)",
     &opt_form, 0, 0},
    {SP_OPT_FLAG, 0, "text", NULL, "the text alone, a form feed behind each", &opt_text, 0, 0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "mkresume",
    .summary = "Write synthetic CVs with labelled institutions, degrees and years.",
    .detail =
        "Output: {\"id\", \"text\", \"spans\": [[start, end, label, [record...]]],\n"
        "\"education\", \"lang\", \"layout\", \"slots\": [[query, [answer...], kind, places]]},\n"
        "offsets in bytes. Document N of a seed is always the same.",
    .example = "mkresume -n 9999 | tokenize --jsonl -m M | train --init M --steps 100 -o OUT",
    .options = options};

/* $STATEPIPE_CORPUS, or beside the program: as installed, or as built in the tree. */
static enum sp_code find_corpus(char *out, size_t size, struct sp_error *err) {
    static const char *const place[] = {"../../share/statepipe/corpus", "../../share/corpus"};
    const char *set = opt_corpus ? opt_corpus : getenv("STATEPIPE_CORPUS");
    if (set) {
        if ((size_t)snprintf(out, size, "%s", set) < size) return SP_OK;
        return sp_error_set(err, SP_E_USAGE, "--corpus: the path is too long");
    }
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    const char *dir = dirname(self);
    for (size_t i = 0; i < sizeof place / sizeof *place; i++)
        if ((size_t)snprintf(out, size, "%s/%s", dir, place[i]) < size && access(out, R_OK) == 0)
            return SP_OK;
    return sp_error_set(err, SP_E_NOINPUT,
                        "the corpus is not installed; name its folder with "
                        "--corpus");
}

/* {"text", "start", "end"} of the first span of a record's field, or null. */
static void print_field(const struct sp_cv *cv, uint32_t record, enum sp_field field,
                        char *scratch) {
    printf("%s\"%s\": ", field ? ", " : "{", sp_field_name(field));
    for (size_t i = 0; i < cv->n_span; i++) {
        const struct sp_cv_span *s = &cv->span[i];
        if (s->field != field || record < s->record_first ||
            record >= s->record_first + s->n_record)
            continue;
        size_t n = sp_json_escape(scratch, cv->text + s->start, s->end - s->start);
        printf("{\"text\": %.*s, \"start\": %zu, \"end\": %zu}", (int)n, scratch, s->start, s->end);
        return;
    }
    printf("null");
}

static void print_education(const struct sp_cv *cv, char *scratch) {
    printf(", \"education\": [");
    for (uint32_t r = 0, shown = 0; r < cv->n_record; r++) {
        bool any = false;
        for (size_t i = 0; i < cv->n_span; i++)
            any |= r >= cv->span[i].record_first &&
                   r < cv->span[i].record_first + cv->span[i].n_record;
        if (!any) continue;
        printf("%s", shown++ ? ", " : "");
        for (int f = 0; f < SP_FIELD_COUNT; f++) print_field(cv, r, (enum sp_field)f, scratch);
        printf("}");
    }
    printf("]");
}

static void print_spans(const struct sp_cv *cv) {
    for (size_t i = 0; i < cv->n_span; i++) {
        const struct sp_cv_span *s = &cv->span[i];
        printf("%s[%zu, %zu, \"%s\", [", i ? ", " : "", s->start, s->end, sp_field_name(s->field));
        for (uint32_t k = 0; k < s->n_record; k++)
            printf("%s%u", k ? ", " : "", s->record_first + k);
        printf("]]");
    }
}

/* Questions from..to-1; places are those in the CV itself. */
static void print_slots(const struct sp_cv *cv, size_t from, size_t to, char *scratch) {
    printf(", \"slots\": [");
    for (size_t i = from; i < to; i++) {
        const struct sp_cv_question *q = &cv->question[i];
        size_t n = sp_json_escape(scratch, q->query, strlen(q->query));
        printf("%s[%.*s, [", i > from ? ", " : "", (int)n, scratch);
        for (uint32_t k = 0; k < q->n_answer; k++) {
            n = sp_json_escape(scratch, q->answer[k], strlen(q->answer[k]));
            printf("%s%.*s", k ? ", " : "", (int)n, scratch);
        }
        printf("], \"%s\", [", q->kind);
        for (uint32_t k = 0; k < q->n_place; k++)
            printf("%s[%zu, %zu]", k ? ", " : "", q->place[k].start, q->place[k].end);
        printf("]]");
    }
    printf("]");
}

/* What is written for a document: its text, and where answers stand in it. */
struct page {
    char *text;
    size_t n;
    size_t answer[SP_CV_QUESTIONS_MAX][2];
    size_t n_answer;
};

/* Is the question in front of the CV? */
static bool is_before(void) {
    return strcmp(opt_form, "before") == 0 || strcmp(opt_form, "marked") == 0;
}

/* The CV with the question's words marked; the answer moves with what stands before it, and has no
 * mark at its end. Closes f. */
static enum sp_code write_marked(const struct sp_cv *cv, const struct sp_cv_question *q, FILE *f,
                                 struct page *page, struct sp_error *err) {
    size_t n, *at = NULL, n_mark = 0;
    char *text = sp_mark_words(q->query, strlen(q->query), cv->text, cv->n, &n, &at, &n_mark);
    if (text) fwrite(text, 1, n, f);
    for (size_t i = 0; i < n_mark * q->n_place; i++) {
        size_t k = i / n_mark, mark = at[i % n_mark];
        page->answer[k][0] += mark <= q->place[k].start;
        page->answer[k][1] += mark < q->place[k].end;
    }
    free(text);
    free(at);
    if (fclose(f) == 0 && text) return SP_OK;
    free(page->text);
    return sp_error_memory(err, "a CV");
}

/* after: questions and answers behind the CV, as fill_template does it; an answer's place takes the
 * end of its line in. before: question `only`, and the CV; marked: the same with
 * marks. */
static enum sp_code make_page(const struct sp_cv *cv, size_t only, struct page *page,
                              struct sp_error *err) {
    *page = (struct page){0};
    FILE *f = open_memstream(&page->text, &page->n);
    if (!f) return sp_error_memory(err, "a CV");
    if (is_before()) {
        const struct sp_cv_question *q = &cv->question[only];
        int n = fprintf(f, "Q: %s\n\n", q->query);
        for (uint32_t k = 0; k < q->n_place; k++) {
            page->answer[k][0] = q->place[k].start + (size_t)n;
            page->answer[k][1] = q->place[k].end + (size_t)n;
        }
        page->n_answer = q->n_place;
        if (strcmp(opt_form, "marked") == 0) return write_marked(cv, q, f, page, err);
    }
    fwrite(cv->text, 1, cv->n, f);
    for (size_t i = 0; i < cv->n_question && strcmp(opt_form, "after") == 0; i++) {
        fprintf(f, "\nQ: %s\nA: ", cv->question[i].query);
        page->answer[i][0] = (size_t)ftell(f);
        fprintf(f, "%s\n", cv->question[i].answer[0]);
        page->answer[page->n_answer++][1] = (size_t)ftell(f);
    }
    if (fclose(f) == 0) return SP_OK;
    free(page->text);
    return sp_error_memory(err, "a CV");
}

static void print_page(const struct sp_cv *cv, const struct page *page, char *scratch) {
    const bool labels = !is_before();
    printf("\"text\": %.*s, \"spans\": [", (int)sp_json_escape(scratch, page->text, page->n),
           scratch);
    if (labels) print_spans(cv);
    for (size_t i = 0; i < page->n_answer; i++)
        printf("%s[%zu, %zu, \"answer\"]", i || (labels && cv->n_span) ? ", " : "",
               page->answer[i][0], page->answer[i][1]);
    printf("]");
    if (labels) print_education(cv, scratch);
    printf(", \"lang\": \"%s\", \"layout\": \"%s\"", cv->lang, cv->layout);
}

/* Line `only` of a document: of its questions with a form that puts them in front, else there is
 * one. */
static enum sp_code print_cv(const struct sp_cv *cv, int64_t index, size_t only,
                             struct sp_error *err) {
    const bool each = is_before();
    struct page page;
    enum sp_code code = make_page(cv, only, &page, err);
    if (code) return code;
    if (opt_text) {
        printf("%s\n\f", page.text);
        free(page.text);
        return SP_OK;
    }
    char *scratch = malloc(6 * (page.n + SP_CV_LINE_MAX) + 2);
    if (scratch) {
        printf("{\"id\": \"%s-%lld-%lld", opt_split, (long long)opt_seed, (long long)index);
        if (each) printf("-%zu", only);
        printf("\", ");
        print_page(cv, &page, scratch);
        if (opt_slots) print_slots(cv, each ? only : 0, each ? only + 1 : cv->n_question, scratch);
        printf("}\n");
    }
    free(page.text);
    free(scratch);
    return scratch ? SP_OK : sp_error_memory(err, "a CV");
}

static enum sp_code run(struct sp_error *err) {
    char dir[PATH_MAX];
    enum sp_corpus_split split = strcmp(opt_split, "train") == 0     ? SP_CORPUS_TRAIN
                                 : strcmp(opt_split, "heldout") == 0 ? SP_CORPUS_HELDOUT
                                                                     : SP_CORPUS_ALL;
    struct sp_corpus *corpus;
    enum sp_code code = find_corpus(dir, sizeof dir, err);
    if (!code) code = sp_corpus_open(&corpus, dir, split, err);
    if (code) return code;
    struct sp_cv cv = {0};
    for (int64_t i = opt_skip; !code && i < opt_skip + opt_count && !ferror(stdout); i++) {
        code = sp_corpus_make(corpus, (uint64_t)opt_seed, (uint64_t)i, opt_layout,
                              (uint32_t)opt_slots, &cv, err);
        if (code) sp_error_prefix(err, "document %lld", (long long)i);
        size_t n_line = is_before() ? cv.n_question : 1;
        for (size_t k = 0; !code && k < n_line; k++) code = print_cv(&cv, i, k, err);
    }
    sp_cv_clear(&cv);
    sp_corpus_free(corpus);
    return code;
}

int main(int argc, char **argv) {
    struct sp_error err;
    int n_operand, status;
    if (!cli_start(&program, argc, argv, &n_operand, &status)) return status;
    if (n_operand > 0) {
        sp_error_set(&err, SP_E_USAGE, "'%s': takes no operands", argv[0]);
        return cli_fail(&program, &err);
    }
    if (strcmp(opt_form, "cv") != 0 && !opt_slots) {
        sp_error_set(&err, SP_E_USAGE, "--form %s: ask for questions with --slots N", opt_form);
        return cli_fail(&program, &err);
    }
    if (run(&err)) return cli_fail(&program, &err);
    return cli_close(&program, 0);
}
