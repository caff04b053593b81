/* Marked words: by example, and on random text. */
#include "../../lib/mark.h"
#include "check.h"

static const struct {
    const char *query, *doc, *marked;
} sample[] = {
    {"Jane Doe has a Ph.D. from ?__", "JANE DOE\nPhD, 2010; Ph.D. in Art",
     "JANE| DOE|\nPhD|, 2010; Ph.D|. in Art"},
    {"In 2015, she was at Indiana University", "(2015) 2015-2017 indiana universities",
     "(2015|) 2015|-2017 indiana| universities"},
    {"A B of the year studied", "A B of the YEAR, studied", "A B of the YEAR|, studied|"},
    {"Élodie Çelik", "ÉLODIE çelik élodies", "ÉLODIE| çelik| élodies"},
    {"IT in U.S. law", "it It in u.s us. U.S.A.", "it| It| in u.s| us|. U.S.A."},
    {"?__", "nothing", "nothing"},
    {"", "", ""},
};

static void check_samples(void) {
    for (size_t i = 0; i < sizeof sample / sizeof *sample; i++) {
        size_t n;
        char *got = sp_mark_words(sample[i].query, strlen(sample[i].query), sample[i].doc,
                                  strlen(sample[i].doc), &n, NULL, NULL);
        for (size_t k = 0; got && k < n; k++)
            if (got[k] == SP_MARK) got[k] = '|';
        check_ok(got && n == strlen(got) && strcmp(got, sample[i].marked) == 0, "'%s': %s",
                 sample[i].query, got ? got : "");
        free(got);
    }
}

/* Without the marks it is the document again; they are where they are said to be. */
static void check_random_text(void) {
    static const char *const piece[] = {"ab", "AB", "x", "é", "2015", " ", ".", "-", "\n", "\xff"};
    int n_wrong = 0, n_marks = 0;
    for (int round = 0; round < 500; round++) {
        char doc[300] = "", query[100] = "";
        for (int k = (int)check_random_int(0, 60); k > 0; k--)
            strcat(doc, piece[check_random_int(0, 9)]);
        for (int k = (int)check_random_int(0, 12); k > 0; k--)
            strcat(query, piece[check_random_int(0, 9)]);
        size_t n, *at = NULL, n_mark = 0, from = 0, mark = 0;
        char *got = sp_mark_words(query, strlen(query), doc, strlen(doc), &n, &at, &n_mark);
        for (size_t k = 0; k < n; k++) {
            if (got[k] == SP_MARK)
                n_wrong += mark >= n_mark || at[mark++] != from;
            else
                n_wrong += doc[from++] != got[k];
        }
        n_wrong += doc[from] != 0 || mark != n_mark;
        n_marks += (int)n_mark;
        free(got);
        free(at);
    }
    check_ok(n_wrong == 0 && n_marks > 100, "random text: %d marks", n_marks);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("samples")) check_samples();
    if (check_wanted("random")) check_random_text();
    return check_end();
}
