/* Shared by the parts of the corpus module: rules (corpus_rules.c), text with spans
 * (corpus_text.c), the interpreter (corpus_expand.c, corpus_call.c), pages (corpus_page.c), people
 * (corpus_person.c), noise (corpus_noise.c), questions (corpus_ask.c). Not for others. */
#ifndef SP_CORPUS_INTERNAL_H
#define SP_CORPUS_INTERNAL_H

#include "corpus.h"

#define SP_RULE_NAME_MAX SP_CV_NAME_MAX
#define SP_RULE_WEIGHT_MAX 10000
#define SP_EXPAND_DEPTH_MAX 64
#define SP_CV_BYTES_MAX ((size_t)256 << 10)
#define SP_CV_RECORDS_MAX 12

struct sp_slice {
    const char *s;
    size_t n;
};

/* ---- rules ---- */

enum sp_rule_mode {
    SP_RULE_ANY = 0, /* a new alternative every time */
    SP_RULE_ONCE,    /* one alternative per document, expanded anew: a style */
    SP_RULE_FIXED    /* one text per document: a name */
};

struct sp_rule {
    char name[SP_RULE_NAME_MAX];
    enum sp_rule_mode mode;
    uint32_t style; /* index of the rule whose choice it shares; itself, mostly */
    bool literal;   /* from a list: braces mean nothing */
    uint32_t n, cap;
    struct sp_slice *body; /* (n), into the files' texts */
    uint32_t *weight;      /* (n); cumulative once loaded */
    bool *heldout;         /* (n) */
};

struct sp_corpus {
    enum sp_corpus_split split;
    struct sp_rule *rule;
    uint32_t n_rule, cap_rule;
    uint32_t *slot; /* hash table of rule index + 1 */
    uint32_t n_slot;
    char *dir;                   /* the folder it was read from */
    struct sp_corpus_file *file; /* the texts that bodies point into */
    uint32_t n_file, cap_file;
};

struct sp_corpus_file {
    char *text;
    size_t n;
    char name[128];
};

/* NULL when there is none. */
const struct sp_rule *sp_rule_find(const struct sp_corpus *c, const char *name, size_t n);
/* Every rule and function that a body names is there, in some region or language at least; else
 * SP_E_DATA with the file and the line (corpus_check.c). */
enum sp_code sp_corpus_check(const struct sp_corpus *c, struct sp_error *err);
/* Puts DIR/FILE:LINE of what a body points at, into the text of its file, before the message. */
void sp_corpus_place(const struct sp_corpus *c, const char *dir, const char *at,
                     struct sp_error *err);

struct sp_rule *sp_rule_get(struct sp_corpus *c, const char *name, size_t n); /* NULL: no memory */
/* r may be NULL; false: no memory. */
bool sp_rule_add(struct sp_rule *r, struct sp_slice body, uint32_t weight, bool heldout);
const char *sp_rule_unmatched(struct sp_slice s); /* a brace without another; NULL: there is none */
/* The text of a file of the folder, which the corpus keeps, without a byte order mark and carriage
 * returns at ends of lines. */
enum sp_code sp_rule_load_text(struct sp_corpus *c, const char *file, char **text, size_t *n,
                               struct sp_error *err);

/* ---- random numbers: splitmix64 ---- */

uint64_t sp_draw(uint64_t *random);
uint32_t sp_draw_below(uint64_t *random, uint32_t n); /* 0 .. n-1 */
int sp_draw_int(uint64_t *random, int low, int high); /* inclusive */
bool sp_draw_percent(uint64_t *random, uint32_t percent);

/* ---- text with spans ---- */

struct sp_period {
    int y1, m1, y2, m2; /* months 1..12 */
    bool ongoing;
};

/* What a piece of the text says, for questions. Notes of one group belong together: a record's
 * number, a job's, or the person's present. */
enum { SP_GROUP_JOB = 100, SP_GROUP_PRESENT = 999, SP_GROUP_NONE };
struct sp_note {
    size_t start, end;
    struct sp_slice kind;
    uint32_t group;
    struct sp_period period;
};

struct sp_text {
    char *s;
    size_t n, cap;
    struct sp_cv_span *span;
    size_t n_span, cap_span;
    struct sp_note *note;
    size_t n_note, cap_note;
};

bool sp_text_add(struct sp_text *t, const char *s, size_t n); /* false: too large or no memory */
bool sp_text_mark(struct sp_text *t, const struct sp_cv_span *span);
bool sp_text_note(struct sp_text *t, const struct sp_note *note);
void sp_text_free(struct sp_text *t);

/* A rewritten copy of bytes [from, t->n) of a text: every new byte says which byte it came from, so
 * that spans can follow. */
struct sp_edit {
    struct sp_text *text;
    size_t from;
    char *s;
    uint32_t *source; /* offset from `from` + 1; 0: inserted */
    size_t n, cap;
    bool failed;
};
void sp_edit_start(struct sp_edit *e, struct sp_text *t, size_t from);
void sp_edit_keep(struct sp_edit *e, size_t at, size_t n); /* bytes at..at+n of the text */
void sp_edit_replace(struct sp_edit *e, size_t at, const char *s, size_t n);
void sp_edit_insert(struct sp_edit *e, const char *s, size_t n);
bool sp_edit_finish(struct sp_edit *e);

size_t sp_utf8_next(const char *s, size_t at, size_t n); /* offset of the next code point */
size_t sp_utf8_width(const char *s, size_t n);           /* code points */

bool sp_text_takes_an(const char *s, size_t n); /* is "an" said before it, in English? */

/* Layout operations on [from, end). All false when out of memory. */
enum sp_case { SP_CASE_UPPER, SP_CASE_LOWER, SP_CASE_TITLE };
bool sp_text_case(struct sp_text *t, size_t from, enum sp_case to);
bool sp_text_space_letters(struct sp_text *t, size_t from);
/* keep_spans: no line end inside a gold span. */
bool sp_text_wrap(struct sp_text *t, size_t from, size_t width, bool keep_spans);
bool sp_text_indent(struct sp_text *t, size_t from, size_t width);
/* Lines of [from, middle) left, of [middle, end) right of column `width`. */
bool sp_text_columns(struct sp_text *t, size_t from, size_t middle, size_t width);
bool sp_text_ascii(struct sp_text *t, size_t from);
size_t sp_text_column(const struct sp_text *t); /* width of the last line */

/* ---- noise ---- */

/* Applies the pass of that name; false when there is none, or no memory. */
bool sp_noise_apply(struct sp_text *t, uint64_t *random, const char *name, size_t n);

/* ---- people and the interpreter ---- */

/* "inst", "degree", "year", "field" */
extern const char *const sp_slot_name[];

enum { SP_SLOT_FIELD = SP_FIELD_COUNT, SP_SLOT_COUNT }; /* the field of study: not a label */

struct sp_cv_record {
    char level[SP_RULE_NAME_MAX], region[8];
    char *value[SP_SLOT_COUNT]; /* of the year: NULL, drawn from the period */
    bool there[SP_SLOT_COUNT];
    struct sp_period period;
    uint32_t group; /* records of one institution in a row */
};

enum { SP_ASK_GIVEN_MAX = 8 };

struct sp_maker {
    const struct sp_corpus *c;
    uint64_t random;
    struct sp_text out;
    uint32_t *sticky; /* (n_rule): alternative + 1 of once rules */
    char **fixed;     /* (n_rule): text of fixed rules */
    char region[8], lang[8];
    int now_year, now_month, adult_year; /* the document's date; the end of school */
    struct sp_cv_record
        record[SP_CV_RECORDS_MAX + 1]; /* newest first; the last one is a stranger's */
    uint32_t n_record;
    uint32_t current, n_current; /* the record, and the group, that slots mean */
    bool labelled;
    uint32_t group, n_job;        /* of notes; jobs that are over */
    const struct sp_text *doc;    /* while asking: the finished document, */
    const struct sp_note *asked;  /* what is asked for; NULL: something that it does not say, */
    const struct sp_note *beside; /* in the record or the job of this; or NULL */
    const struct sp_note *given[SP_ASK_GIVEN_MAX]; /* (n_given): what the question says of it, */
    uint32_t n_given;
    struct sp_slice also;       /* notes of this kind answer it too */
    const struct sp_note *swap; /* said in place of what is beside it: of other studies or jobs; */
    bool swapped, foreign;      /* whether the question says so, or names others' things, */
    bool unasked;               /* or cannot be asked */
    uint32_t synonym;           /* degrees go by another of their names; 0: by their own */
    bool plain;                 /* names of studies as they were, whatever the text prints */
    bool given_level, given_y1, given_y2; /* and whether it says its years */
    struct sp_period period;
    struct sp_slice shown; /* what {%text} is */
    bool in_page;          /* the layout is a page: its years move by `shift`, and what follows a */
    int shift, drift;      /* replaced text on its line has moved by `drift` columns */
    int depth;
    struct sp_error *err;
    bool failed, placed; /* the error says where */
};

/* Appends; false: m->err is set. */
bool sp_expand(struct sp_maker *m, const char *s, size_t n);
bool sp_expand_rule(struct sp_maker *m, const char *name, size_t n);
bool sp_expand_call(struct sp_maker *m, struct sp_slice call); /* what stands behind {% */
/* The text of a rule, apart from the document; free() it; NULL: m->err is set. */
char *sp_expand_apart(struct sp_maker *m, const char *name);
bool sp_expand_fail(struct sp_maker *m, enum sp_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool sp_expand_knows(struct sp_slice call);        /* is there such a function? */
struct sp_slice sp_slice_word(struct sp_slice *s); /* cuts the first word off, and a space */
/* Cuts the next part off at a `|` outside braces; false at the end. */
bool sp_slice_part(struct sp_slice *rest, struct sp_slice *part);
bool sp_slice_has_choice(struct sp_slice s); /* a `|` outside braces */
/* "?PERCENT body"; "? body" is one in two. False: neither a space nor a line end before the body.
 */
bool sp_slice_perhaps(struct sp_slice s, uint32_t *percent, struct sp_slice *body);
/* The offset behind the brace that closes the one at s[0]. */
size_t sp_slice_closing(const char *s, size_t n);

/* The value of a slot of the current record, by its rule shown.SLOT, where {%text} is it. */
bool sp_slot_write(struct sp_maker *m, int slot);
/* Bytes from.. of the text are that slot of the current records: gold, and noted. */
bool sp_slot_label(struct sp_maker *m, int slot, size_t from);

/* ---- pages ---- */

enum sp_code sp_page_load(struct sp_corpus *c, const char *file, struct sp_error *err);
/* Is the layout a page? Then the maker's region and language are its own, and *levels its records'.
 */
bool sp_page_begin(struct sp_maker *m, const char *layout, struct sp_slice *levels);
/* Its years will move to the document's date. */
void sp_page_years(struct sp_maker *m);
bool sp_page_at_mark(const char *s, size_t n);
/* Writes the mark at s, replaced or not, and labels it. *length: bytes that were read. */
bool sp_page_mark(struct sp_maker *m, const char *s, size_t n, size_t *length);
bool sp_page_text(struct sp_maker *m, const char *s, size_t n); /* between marks and braces */

/* Asks n questions about m->out, fewer where it gives no more. */
bool sp_ask(struct sp_maker *m, uint32_t n, struct sp_cv *cv);
/* While asking: the note of that kind in the group of what is asked for, or NULL. */
const struct sp_note *sp_ask_note(const struct sp_maker *m, struct sp_slice kind);
/* The question says what the note says: an answer has to fit it. False: it says too much. */
bool sp_ask_given(struct sp_maker *m, const struct sp_note *note);
/* A degree by another of its names, as the rule ask.same lists them, where the question wants that;
 * else NULL. */
char *sp_ask_synonym(const struct sp_maker *m, const char *degree);
/* {%foreign KIND RULE} and {%lacking RULE|B}: see man 5 statepipe-corpus. */
bool sp_ask_other(struct sp_maker *m, struct sp_slice s);
bool sp_ask_lack(struct sp_maker *m, struct sp_slice s);
/* A note's text on one line; free() it; NULL: no memory. */
char *sp_ask_line(const struct sp_text *t, size_t start, size_t end);

/* Records of these levels, or of those that the rule `records` draws. */
bool sp_person_draw(struct sp_maker *m, const struct sp_slice *levels);
/* Draws a record that is not the person's into the last place of m->record. */
bool sp_person_stranger(struct sp_maker *m);
void sp_record_clear(struct sp_cv_record *r);

#endif
