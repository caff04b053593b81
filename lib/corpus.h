/* Synthetic CVs with gold spans, made from rules and lists (man 5 statepipe-corpus).
 *
 * A corpus owns its rules; it is read-only once opened, so that one corpus serves many documents. A
 * document is a pure function of the corpus, the split, the seed and its index: the generator is
 * our own and nothing depends on the locale or the C library.
 */
#ifndef SP_CORPUS_H
#define SP_CORPUS_H

#include "statepipe.h"
#include "task.h"

/* Which alternatives and list lines are used: those not held out, only held-out ones (where a rule
 * has some), or all. */
enum sp_corpus_split { SP_CORPUS_TRAIN = 0, SP_CORPUS_HELDOUT, SP_CORPUS_ALL };

struct sp_corpus;

/* Reads DIR/ *.rules and *.pages in the order of their names and the lists that they name.
 * SP_E_DATA with file and line for a rule that cannot be read. */
enum sp_code sp_corpus_open(struct sp_corpus **corpus, const char *dir, enum sp_corpus_split split,
                            struct sp_error *err);
void sp_corpus_free(struct sp_corpus *corpus);

/* A labelled piece of the text: bytes [start, end), which may belong to several records in a row
 * (one institution, two degrees). */
struct sp_cv_span {
    size_t start, end;
    enum sp_field field;
    uint32_t record_first, n_record;
};

#define SP_CV_NAME_MAX 48
#define SP_CV_ANSWERS_MAX 12
#define SP_CV_PLACES_MAX 24
#define SP_CV_QUESTIONS_MAX 64
#define SP_CV_LINE_MAX 512 /* bytes of a query or an answer */

/* Bytes [start, end) of the text. */
struct sp_cv_place {
    size_t start, end;
};

/* A question with a slot ("Jane Doe is a ?__"), and all that may stand in it by the text, as it is
 * printed but without line ends; places are where, the first one that of the first answer. No
 * places: the text does not say it, and the answer is "unknown". */
struct sp_cv_question {
    char kind[SP_CV_NAME_MAX];
    char *query, *answer[SP_CV_ANSWERS_MAX]; /* less than SP_CV_LINE_MAX bytes each */
    uint32_t n_answer, n_place;
    struct sp_cv_place place[SP_CV_PLACES_MAX];
};

struct sp_cv {
    char *text; /* UTF-8, n bytes, with a NUL behind */
    size_t n;
    struct sp_cv_span *span; /* by start */
    size_t n_span;
    uint32_t n_record;
    struct sp_cv_question *question;
    size_t n_question;
    char lang[8];
    char layout[SP_CV_NAME_MAX];
};

/* Document `index` of the endless series `seed`. layout NULL: one is drawn; else the rule
 * doc.LAYOUT. n_question (at most SP_CV_QUESTIONS_MAX) are asked, fewer where the text gives no
 * more; the text is the same for any number. Frees what *cv held before; zero it first. */
enum sp_code sp_corpus_make(const struct sp_corpus *corpus, uint64_t seed, uint64_t index,
                            const char *layout, uint32_t n_question, struct sp_cv *cv,
                            struct sp_error *err);
void sp_cv_clear(struct sp_cv *cv);

#endif
