/* mkresume: synthetic CVs with gold spans, as JSON lines. */
#include "../lib/corpus.h"
#include "../lib/json.h"
#include "cli.h"

#include <libgen.h>
#include <limits.h>

static int64_t opt_count = 10, opt_seed = 1, opt_skip;
static const char *opt_split = "train", *opt_layout, *opt_corpus;
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
    {SP_OPT_FLAG, 0, "text", NULL, "the text alone, a form feed behind each", &opt_text, 0, 0},
    CLI_OPTION_END};

static const struct sp_program program = {
    .name = "mkresume",
    .summary = "Write synthetic CVs with labelled institutions, degrees and years.",
    .detail = "Output: {\"id\", \"text\", \"spans\": [[start, end, label, [record...]]],\n"
              "\"education\", \"lang\", \"layout\"}, a line per document, offsets in bytes.\n"
              "Document N of a seed is always the same.",
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

static void print_spans(const struct sp_cv *cv) {
    printf(", \"spans\": [");
    for (size_t i = 0; i < cv->n_span; i++) {
        const struct sp_cv_span *s = &cv->span[i];
        printf("%s[%zu, %zu, \"%s\", [", i ? ", " : "", s->start, s->end, sp_field_name(s->field));
        for (uint32_t k = 0; k < s->n_record; k++)
            printf("%s%u", k ? ", " : "", s->record_first + k);
        printf("]]");
    }
    printf("]");
}

static enum sp_code print_cv(const struct sp_cv *cv, int64_t index, struct sp_error *err) {
    char *scratch = malloc(6 * cv->n + 2);
    if (!scratch) return sp_error_memory(err, "a CV");
    size_t n = sp_json_escape(scratch, cv->text, cv->n);
    printf("{\"id\": \"%s-%lld-%lld\", \"text\": %.*s", opt_split, (long long)opt_seed,
           (long long)index, (int)n, scratch);
    print_spans(cv);
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
    printf("], \"lang\": \"%s\", \"layout\": \"%s\"}\n", cv->lang, cv->layout);
    free(scratch);
    return SP_OK;
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
        code = sp_corpus_make(corpus, (uint64_t)opt_seed, (uint64_t)i, opt_layout, &cv, err);
        if (code)
            sp_error_prefix(err, "document %lld", (long long)i);
        else if (opt_text)
            printf("%s\n\f", cv.text);
        else
            code = print_cv(&cv, i, err);
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
    if (run(&err)) return cli_fail(&program, &err);
    return cli_close(&program, 0);
}
