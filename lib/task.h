/* Tasks: from the scores of a head to what a person asked for. No model, no stream: plain arrays
 * in, plain structs out.
 *
 * Tags are written PREFIX-FIELD, or O for none. Prefixes of a span's first token: N begins a new
 * record, B belongs to the record before, S begins a new record that shares the last one's
 * institution (two degrees of one university). I continues a span. A label set need not have all.
 */
#ifndef SP_TASK_H
#define SP_TASK_H

#include "statepipe.h"

/* What decoding goes by besides the scores; each may be NULL: zeros, no token. */
struct sp_tag_rules {
    const float *transitions; /* (n_label + 2, n_label): from, then start, end */
    const float *bonus;       /* (n_label): added to the scores of a tag, but not in p */
    const bool *joined;       /* (n): token t goes on with the word of token t - 1 */
};
/* Best tag sequence under the rules and two hard ones: I-x only follows a tag of field x; inside a
 * word a tag only goes on, x with I-x, O with O. tag (n); p (n): the tag's posterior by the
 * forward-backward algorithm, under the same rules without the bonus. n may be 0. */
enum sp_code sp_viterbi(const struct sp_head *head, const float *scores, size_t n,
                        const struct sp_tag_rules *rules, uint32_t *tag, float *p,
                        struct sp_error *err);
/* Which tokens go on with the word of the token before: letters or digits on both sides of the cut,
 * in a script that puts spaces between words. span (n, 2) are bytes of text; joined (n). */
void sp_words_join(const uint64_t *span, size_t n, const char *text, size_t n_text, bool *joined);

enum sp_field { SP_INSTITUTION = 0, SP_DEGREE, SP_YEAR, SP_FIELD_COUNT };
const char *sp_field_name(enum sp_field field);

struct sp_span {
    bool there;
    uint64_t start, end; /* bytes of the text */
    float p;
};
struct sp_education {
    struct sp_span field[SP_FIELD_COUNT];
    int start_year, end_year; /* 0: none; SP_YEAR_PRESENT: still going on */
    float p; /* the mean of the fields', less the head's doubt about such records, calibrated */
};
#define SP_YEAR_PRESENT 9999

struct sp_records {
    struct sp_education *item;
    size_t n, cap;
};
void sp_records_clear(struct sp_records *r);
/* Tags of n tokens and their byte spans (n, 2), grouped into records; span ends are trimmed of
 * white space and of stray punctuation against text (n_text bytes). */
enum sp_code sp_records_from_tags(const struct sp_head *head, const uint32_t *tag, const float *p,
                                  const uint64_t *span, size_t n, const char *text, size_t n_text,
                                  struct sp_records *out, struct sp_error *err);
/* Drops fields less sure than p_field, and records of which nothing but a year is left or that are
 * less sure than p_record. p of a record stays what it was, of all fields that were found: doubt
 * and calibration count how often whole records are right, and say nothing of what is left of one.
 */
#define SP_RECORD_P 0.35 /* right in fewer than two of five cases below it */
void sp_records_drop_unsure(struct sp_records *r, float p_field, float p_record);
/* "Sept. 2014 - present", "2015-09", "'99", "2014/18": years as numbers, 0 where there is none. */
void sp_year_parse(const char *text, size_t n, int *start_year, int *end_year);

/* Ends of a span without white space and stray punctuation, as the field has them. */
void sp_span_trim(const char *text, struct sp_span *s, enum sp_field field);

/* ---- answers: one stretch of a document for a question that was read before it ----------------
 */

/* A tag head with the tags O, B-answer and I-answer; others may be there, and do not count. */
bool sp_head_finds_answers(const struct sp_head *head);
struct sp_answer {
    uint64_t start, end; /* bytes of the text, trimmed */
    double p;
};
struct sp_answers {
    size_t n;
    struct sp_answer *item; /* (n), best first, all of them different words */
    double p_none;          /* that the document has no answer */
};
/* The text that n tokens are of. */
struct sp_answer_text {
    const char *bytes; /* (n_bytes) */
    size_t n_bytes;
    const uint64_t *span; /* (n, 2) */
    const bool *joined;   /* (n), sp_words_join; NULL: none is */
    size_t from;          /* the first token that may be in an answer */
};
/* What stretch of n tokens is the answer: one of up to n_token_max tokens (or one longer word) that
 * begins and ends between words, or none. Softmax over the scores of O, B-answer and I-answer gives
 * for every token that an answer begins there, b, and that it goes on there, i: what per-token
 * cross-entropy trains. A stretch from f to l has the weight b[f] (i[f+1] / b[f]) ... (i[l] /
 * i[l-1]) (1 - i[l+1] / i[l]), no quotient being more than 1, and 0 where the next word is too
 * long; none has the product of all 1 - b. p is the share of the sum of both; stretches of the same
 * words count as one. The caller clears out. */
enum sp_code sp_answers_from_scores(const struct sp_head *head, const float *scores, size_t n,
                                    const struct sp_answer_text *text, size_t n_token_max,
                                    struct sp_answers *out, struct sp_error *err);
void sp_answers_clear(struct sp_answers *a);

/* A class head's labels, best first: softmax of one row of scores (n_label). class (n_label)
 * borrows the labels of head. SP_E_DATA when the scores are not finite. */
struct sp_class {
    const char *label;
    float p;
};
enum sp_code sp_classes_from_scores(const struct sp_head *head, const float *scores,
                                    struct sp_class *class, struct sp_error *err);

/* Gold spans to tags, the inverse, for training: spans of a DOC (raw msgpack array of [start, end,
 * label, [record...]], in any order, the records being any numbers) to one label index per token,
 * -1 where the label set has no such tag.
 *
 * A token carries the span that holds at least half of its bytes; spans without a token do not
 * count. In document order a span counts for one of its records: the latest begun one, or when
 * none is, the one whose first span of its own comes first. The span that a record begins with has
 * prefix N, or S when some institution span names both this record and the one begun before it
 * (that institution may come before or after); every other span's is B, also one that goes back to
 * an earlier record. Where the set has no S-x, N-x is used, and B-x for both. A token that starts
 * before the one in front of it starts the document anew (several passes).
 */
enum sp_code sp_tags_from_spans(const struct sp_head *head, const void *msgpack, size_t n_msgpack,
                                const uint64_t *span, size_t n, int32_t *tag, struct sp_error *err);

#endif
