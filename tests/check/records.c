/* Records: tags grouped into institution, degree and year. */
#include "../../lib/task.h"
#include "check.h"

#include <math.h>

#define TOKENS 64
#define TEXT 512

static const char *const labels[] = {
    "O",        "N-institution", "B-institution", "S-institution", "I-institution",
    "N-degree", "B-degree",      "S-degree",      "I-degree",      "N-year",
    "B-year",   "S-year",        "I-year",        "N-award",       "I-award"};
#define N_LABEL (sizeof labels / sizeof *labels)

static struct sp_head head;

static void head_init(void) {
    head.type = SP_HEAD_TAG;
    for (; head.n_label < N_LABEL; head.n_label++)
        snprintf(head.label[head.n_label], SP_NAME_MAX, "%s", labels[head.n_label]);
}

static uint32_t label_of(const char *name, size_t n) {
    for (uint32_t i = 0; i < N_LABEL; i++)
        if (strlen(labels[i]) == n && memcmp(labels[i], name, n) == 0) return i;
    abort();
}

/* A text with marked spans, "{N-degree:M.Sc.}": tokens are words, with the blank in front. */
struct tagged {
    char text[TEXT];
    size_t n_text, n;
    uint32_t tag[TOKENS];
    float p[TOKENS];
    uint64_t span[TOKENS][2];
};

/* The word that ends at the text's end is a token, when there is one. */
static void end_token(struct tagged *t, size_t *start, uint32_t *tag) {
    if (t->n_text > *start) {
        t->tag[t->n] = *tag;
        t->p[t->n] = 1.0f - 0.01f * (float)t->n;
        t->span[t->n][0] = *start;
        t->span[t->n++][1] = t->n_text;
        if (*tag) { /* N-x, B-x, S-x: what follows is I-x */
            char inside[SP_NAME_MAX];
            snprintf(inside, sizeof inside, "I%s", labels[*tag] + 1);
            *tag = label_of(inside, strlen(inside));
        }
    }
    *start = t->n_text;
}

static void tagged_init(struct tagged *t, const char *marked) {
    memset(t, 0, sizeof *t);
    uint32_t tag = 0;
    size_t start = 0;
    for (const char *c = marked; *c; c++) {
        if (strchr("{} \n", *c)) end_token(t, &start, &tag);
        if (*c == '{') {
            size_t n = strcspn(c + 1, ":");
            tag = label_of(c + 1, n);
            c += n + 1;
        } else if (*c == '}') {
            tag = 0;
        } else {
            t->text[t->n_text++] = *c;
        }
    }
    end_token(t, &start, &tag);
}

/* "institution|degree|year" of each record, then "; ". */
static void show(char *out, size_t size, const struct tagged *t, const struct sp_records *r) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < r->n; i++)
        for (int f = 0; f < SP_FIELD_COUNT; f++) {
            const struct sp_span *s = &r->item[i].field[f];
            n += (size_t)snprintf(out + n, size - n, "%.*s%s",
                                  s->there ? (int)(s->end - s->start) : 0, t->text + s->start,
                                  f < SP_FIELD_COUNT - 1 ? "|"
                                  : i + 1 < r->n         ? "; "
                                                         : "");
        }
}

static const struct {
    const char *name, *marked, *expect;
} cases[] = {
    {"nothing", "Jane Doe", ""},
    {"one record", "{N-year:2014 - 18}: {B-degree:B.Sc.}, {B-institution:University of X}",
     "University of X|B.Sc.|2014 - 18"},
    {"N begins the next", "{N-degree:BA} {B-year:2014}\n\n{N-degree:MA} {B-institution:Y}",
     "|BA|2014; Y|MA|"},
    {"S shares an institution before it",
     "{N-institution:X U} {B-degree:BA} {B-year:2014} {S-degree:MA} {B-year:2016}",
     "X U|BA|2014; X U|MA|2016"},
    {"S shares an institution behind it", "{N-degree:BA} and {S-degree:MA}, {B-institution:X U}",
     "X U|BA|; X U|MA|"},
    {"S shares with the last record only",
     "{N-institution:X} {B-degree:BA} {N-institution:Y} {B-degree:MA} {S-degree:PhD}",
     "X|BA|; Y|MA|; Y|PhD|"},
    {"S at the very start is a record", "{S-degree:BA} {B-institution:X}", "X|BA|"},
    {"B at the very start is a record", "{B-degree:BA} {B-institution:X}", "X|BA|"},
    {"a second institution begins a record of its own",
     "{N-degree:BA} {B-institution:X} {B-institution:Y} {B-degree:MA}", "X|BA|; Y|MA|"},
    {"places in one list and titles in another, one each",
     "{N-institution:X} {B-year:2014}\n{N-institution:Y} {B-year:2016}\n\n{B-degree:BA}, "
     "{B-degree:MA}",
     "X|BA|2014; Y|MA|2016"},
    {"a list of years is for the last records that lack one",
     "{N-degree:BA} {B-year:2010} {N-degree:MA} {N-degree:PhD} {B-year:2014} {B-year:2019}",
     "|BA|2010; |MA|2014; |PhD|2019"},
    {"a list with no room for all is none",
     "{N-degree:BA} {N-degree:MA} {B-institution:X} {B-institution:Y} {B-institution:Z}",
     "X|BA|; X|MA|; Y||; Z||"},
    {"what one of the records has is no list's",
     "{N-degree:BA} {B-year:2010} {N-degree:MA} {B-year:2012} {B-year:2014}", "|BA|2010; |MA|2012"},
    {"a second year too, but nothing comes of a year alone",
     "{N-degree:BA} {B-year:2014} {B-year:2016}", "|BA|2014"},
    {"a year alone is no record", "{N-year:2014} and {N-institution:X} {B-year:2016}", "X||2016"},
    {"touching spans", "{N-degree:BA}{N-degree:MA}", "|BA|; |MA|"},
    {"fields that are none of ours are left out", "{N-award:Best paper} {N-degree:BA}", "|BA|"},
    {"punctuation at the ends",
     "{N-institution:* [X University],} {B-degree:(B.A.),} {B-year:(2014):}",
     "X University|B.A.|2014"},
    {"dots of abbreviations stay, others go",
     "{N-institution:Univ. X.} {B-degree:Dipl.}\n\n{N-degree:Ph.D.} {B-year:2014.}",
     "Univ. X|Dipl.|; |Ph.D.|2014"},
    {"a full stop behind a long degree goes", "{N-degree:Master of Science.}",
     "|Master of Science|"},
    {"parentheses with their partner stay", "{N-degree:BSc (Hons)} {N-degree:BSc Hons)}",
     "|BSc (Hons)|; |BSc Hons|"},
    {"a parenthesis that the tags left open is closed", "{N-degree:BSc (Hons}) 2014",
     "|BSc (Hons)|"},
    {"words cut by the tags are completed, off their neighbours",
     "{N-institution:University of Ul}m\n\n{N-degree:B}{B-year:2014}",
     "University of Ulm||; |B|2014"},
    {"Markdown links", "{N-institution:[University of X](#)} {B-degree:**MA**}",
     "University of X|MA|"},
    {"an apostrophe in front of a year stays", "{N-degree:BA} {B-year:('99)}", "|BA|'99"},
    {"an open end stays", "{N-degree:BA} {B-year:2019 –}", "|BA|2019 –"},
    {"nothing but punctuation is nothing", "{N-degree:--} {N-degree:BA}", "|BA|"},
    {"halves of a record in one entry are one", "{N-institution:X} {B-year:2014}:\n {N-degree:BA}",
     "X|BA|2014"},
    {"halves in two paragraphs stay two", "{N-institution:X}\n \n{N-degree:BA}", "X||; |BA|"},
    {"what both have is no half", "{N-degree:BA} {B-year:2014} {N-institution:X} {B-year:2016}",
     "X|BA|2014; X||2016"},
    {"a degree has the institution before it in the entry",
     "{N-institution:X} {B-degree:BA} and {N-degree:MA} {B-year:2016}", "X|BA|; X|MA|2016"},
    {"and else that behind it", "{N-degree:BA} and {N-degree:MA} {B-institution:X}",
     "X|BA|; X|MA|"},
    {"but none of another paragraph",
     "{N-institution:X} {B-degree:BA}\n\n{N-degree:MA}\r\n\r\n{N-degree:PhD} {B-institution:Y}",
     "X|BA|; |MA|; Y|PhD|"},
    {"lines inside", "{N-institution:University\nof X}", "University\nof X||"},
};

static void check_cases(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tagged t;
        struct sp_records r = {0};
        struct sp_error err;
        char got[TEXT];
        tagged_init(&t, cases[i].marked);
        enum sp_code code =
            sp_records_from_tags(&head, t.tag, t.p, &t.span[0][0], t.n, t.text, t.n_text, &r, &err);
        show(got, sizeof got, &t, &r);
        check_ok(!code && strcmp(got, cases[i].expect) == 0, "group: %s%s%s", cases[i].name,
                 strcmp(got, cases[i].expect) ? ": got " : "",
                 strcmp(got, cases[i].expect) ? got : "");
        sp_records_clear(&r);
    }
}

static void check_fields(void) {
    struct tagged t;
    struct sp_records r = {0};
    struct sp_error err;
    tagged_init(&t, "{N-degree:B A} x {B-year:2014 - now} {N-institution:Y} {B-degree:MA}");
    bool ok =
        !sp_records_from_tags(&head, t.tag, t.p, &t.span[0][0], t.n, t.text, t.n_text, &r, &err) &&
        r.n == 2;
    if (!check_ok(ok, "fields: two records")) return;
    check_ok(fabsf(r.item[0].field[SP_DEGREE].p - 0.99f) < 1e-6f,
             "fields: p is that of the least sure token");
    check_ok(r.item[0].start_year == 2014 && r.item[0].end_year == SP_YEAR_PRESENT,
             "fields: years as numbers");
    /* Every field is less sure than the one before it. */
    float p_year = r.item[0].field[SP_YEAR].p, p_degree = r.item[1].field[SP_DEGREE].p;
    float sum = p_year + r.item[0].field[SP_DEGREE].p + r.item[0].field[SP_INSTITUTION].p;
    float p_whole = r.item[1].p;
    check_ok(fabsf(r.item[0].p - sum / 3) < 1e-6f, "fields: p of a record is the mean of theirs");
    sp_records_drop_unsure(&r, p_degree + 1e-3f, 0);
    check_ok(r.n == 2 && r.item[0].field[SP_YEAR].there && r.item[1].field[SP_INSTITUTION].there &&
                 !r.item[1].field[SP_DEGREE].there,
             "fields: an unsure one is dropped");
    check_ok(fabsf(r.item[1].p - p_whole) < 1e-6f, "fields: p of the record is still of all");
    sp_records_drop_unsure(&r, p_year + 1e-3f, 0);
    check_ok(r.n == 1 && r.item[0].field[SP_DEGREE].there && !r.item[0].field[SP_YEAR].there &&
                 r.item[0].end_year == 0,
             "fields: years with their numbers, records that say nothing then");
    sp_records_clear(&r);
}

/* What the head knows of its records goes into their p. */
static void check_head_knows(void) {
    struct tagged t;
    struct sp_records r = {0};
    struct sp_error err;
    struct sp_head measured = head, doubtful = head;
    tagged_init(&t, "{N-degree:B A}");
    measured.calibration[0] = 0.5f;
    measured.calibration[1] = -0.25f;
    bool ok = !sp_records_from_tags(&measured, t.tag, t.p, &t.span[0][0], t.n, t.text, t.n_text, &r,
                                    &err) &&
              r.n == 1;
    if (!check_ok(ok, "p: one record")) return;
    float p = r.item[0].field[SP_DEGREE].p, odds = p / (1 - p);
    check_ok(fabsf(r.item[0].p - 1 / (1 + expf(0.25f) / sqrtf(odds))) < 1e-5f,
             "p: calibrated, of the log odds");
    doubtful.doubt[1 << SP_DEGREE] = 0.75f;
    ok = !sp_records_from_tags(&doubtful, t.tag, t.p, &t.span[0][0], t.n, t.text, t.n_text, &r,
                               &err) &&
         r.n == 1;
    if (!check_ok(ok, "p: one record, doubted")) return;
    check_ok(fabsf(r.item[0].p - p / 4) < 1e-6f, "p: the head's doubt about a degree alone");
    sp_records_drop_unsure(&r, 0, p / 4 - 1e-4f);
    check_ok(r.n == 1, "p: a record that is sure enough stays");
    sp_records_drop_unsure(&r, 0, p / 4 + 1e-4f);
    check_ok(r.n == 0, "p: a doubtful record is dropped");
    sp_records_clear(&r);
}

/* Whatever tags and spans are: spans in the text, in records that say something. */
static void check_random_tags(void) {
    struct sp_records r = {0};
    struct sp_error err;
    char text[100];
    uint32_t tag[40];
    uint64_t span[40][2];
    float p[40];
    int n_bad = 0;
    for (int round = 0; round < 20000; round++) {
        static const char alphabet[] = "aZ9 .,()[]-'\n\xc3\xa9\xe2\x80\x93\xff";
        size_t n_text = (size_t)check_random_int(0, 100), n = (size_t)check_random_int(0, 40);
        for (size_t i = 0; i < n_text; i++)
            text[i] = alphabet[check_random_int(0, (int64_t)sizeof alphabet - 2)];
        for (size_t i = 0; i < n; i++) {
            tag[i] = (uint32_t)check_random_int(0, (int64_t)N_LABEL - 1);
            p[i] = check_random_float(0, 1);
            span[i][0] = (uint64_t)check_random_int(0, (int64_t)n_text);
            span[i][1] = (uint64_t)check_random_int((int64_t)span[i][0], (int64_t)n_text);
        }
        char *exact = malloc(n_text + !n_text);
        memcpy(exact, text, n_text);
        n_bad += sp_records_from_tags(&head, tag, p, &span[0][0], n, exact, n_text, &r, &err) != 0;
        for (size_t i = 0; i < r.n; i++) {
            const struct sp_span *s = r.item[i].field;
            n_bad += !s[SP_INSTITUTION].there && !s[SP_DEGREE].there;
            for (int f = 0; f < SP_FIELD_COUNT; f++)
                n_bad += s[f].there && (s[f].start >= s[f].end || s[f].end > n_text);
        }
        free(exact);
    }
    check_ok(n_bad == 0, "random: 20000 random taggings give records inside the text");
    sp_records_clear(&r);
}

static void check_classes(void) {
    struct sp_head h = {.type = SP_HEAD_CLASS, .n_label = 3, .label = {"a", "b", "c"}};
    struct sp_class class[3];
    struct sp_error err;
    float scores[3] = {0, 1000, logf(3) + 1000};
    bool ok = !sp_classes_from_scores(&h, scores, class, &err);
    check_ok(ok && strcmp(class[0].label, "c") == 0 && fabsf(class[0].p - 0.75f) < 1e-3f &&
                 fabsf(class[1].p - 0.25f) < 1e-3f && class[2].p == 0,
             "class: softmax, best first");
    scores[1] = NAN;
    check_ok(sp_classes_from_scores(&h, scores, class, &err) == SP_E_DATA, "class: NaN refused: %s",
             err.msg);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    head_init();
    if (check_wanted("group")) check_cases();
    if (check_wanted("fields")) check_fields();
    if (check_wanted("p")) check_head_knows();
    if (check_wanted("random")) check_random_tags();
    if (check_wanted("class")) check_classes();
    return check_end();
}
