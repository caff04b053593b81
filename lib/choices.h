/* The choices of a text, as `head --choices` has scored them, gathered and written as lines.
 *
 * Owns what is gathered, until it is written or forgotten; its memory is used again.
 */
#ifndef SP_CHOICES_H
#define SP_CHOICES_H

#include "records_write.h"

struct sp_choice {
    char *text; /* (n_text), owned */
    size_t n_text;
    uint64_t n_token;
    double loglik, per_token, per_byte; /* natural logarithms; per_ 0 for a choice of no tokens */
    bool greedy;                        /* each token was the most probable one */
};
struct sp_choices {
    struct sp_choice *item;
    size_t n, cap;
};

/* docend: of the choice, whose text it is. SP_E_DATA when it says no score. */
enum sp_code sp_choices_add(struct sp_choices *c, const struct sp_document *text,
                            const struct sp_record *docend, struct sp_error *err);
/* JSONL: a line of all, with the best by each of the three; TSV, CSV: a line a choice; TABLE: for
 * reading, the best first marked. */
void sp_choices_begin(FILE *out, enum sp_records_format format, bool header);
void sp_choices_write(FILE *out, enum sp_records_format format, const char *id,
                      const struct sp_choices *c);
void sp_choices_forget(struct sp_choices *c);
void sp_choices_clear(struct sp_choices *c);

#endif
