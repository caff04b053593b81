/* Gathering: one document of a scores stream, whole, as decoding needs it.
 *
 * Owns its text, spans and scores; borrowed pointers into it live until the next call. Reuses its
 * memory from document to document.
 */
#ifndef SP_GATHER_H
#define SP_GATHER_H

#include "task.h"

/* Bytes of scores of one document: about 20 million tokens of 13 labels. */
#define SP_GATHER_SCORES_MAX ((size_t)1 << 30)
/* The recall that found the most whole records right on synthetic CVs, with the shipped model. */
#define SP_GATHER_RECALL 0.75

/* What a HEAD says about the scores that follow. */
enum sp_gives { SP_GIVES_SCORES = 0, SP_GIVES_SURPRISAL, SP_GIVES_CHOICES };
struct sp_gather_head {
    struct sp_head head;
    enum sp_gives gives; /* of a language model's head */
    uint32_t delay;
    float *transitions; /* (n_label + 2, n_label) or NULL; owned */
};
/* SP_E_DATA when labels or transitions do not fit together. Replaces what *h held; of a language
 * model's head only name, type and what it gives are read. */
enum sp_code sp_gather_head_read(struct sp_gather_head *h, struct sp_record *rec,
                                 struct sp_error *err);
void sp_gather_head_clear(struct sp_gather_head *h);

struct sp_gather {
    size_t text_max; /* bytes; set by the caller */
    double recall;   /* nats by which fields are favoured; set by the caller */
    char *id;        /* of the document, with a NUL */
    char *text;      /* of the document, from byte text_start on */
    uint64_t text_start;
    size_t n_text, cap_text;
    uint64_t pass;    /* of the tokens held */
    uint64_t *span;   /* (n, 2): bytes of text */
    float *scores;    /* (n, n_label) */
    const char *name; /* of the tensor: "surprisal" has one column */
    size_t n, n_label, cap;
    uint32_t *tag; /* (cap_tag): of the last decoding */
    float *p;      /* (cap_tag) */
    bool *joined;  /* (cap_tag) */
    size_t cap_tag;
};

/* Forgets the document before; rec is its DOC. */
enum sp_code sp_gather_start(struct sp_gather *g, const struct sp_record *rec,
                             const struct sp_gather_head *h, struct sp_error *err);
/* TEXT and CHUNK. Only the tokens of the last pass are kept. SP_E_DATA for a document over the
 * limits, scores of a wrong width, spans that are not in the text. */
enum sp_code sp_gather_add(struct sp_gather *g, struct sp_record *rec, struct sp_error *err);
/* The document's records, when its last TEXT and CHUNK are there: the tag of token t is read delay
 * rows later. h is the head that the document was started with. */
enum sp_code sp_gather_decode(struct sp_gather *g, const struct sp_gather_head *h,
                              struct sp_records *out, struct sp_error *err);
void sp_gather_clear(struct sp_gather *g);

#endif
