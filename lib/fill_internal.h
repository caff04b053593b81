/* What the files of fill*.c share. Internal to them. */
#ifndef SP_FILL_INTERNAL_H
#define SP_FILL_INTERNAL_H

#include "beam.h"
#include "fill.h"

/* What comes behind a slot, and so what ends an answer. */
enum sp_fill_mode {
    SP_FILL_OPEN,     /* nothing: the end of a line or of the text, or a character of `until` */
    SP_FILL_FOLLOWED, /* words: the first token of them */
    SP_FILL_BETWEEN,  /* the next slot, with no more between than belongs to its answer's first
                         token: the end of a word */
    SP_FILL_MODES
};
/* How far an answer has come. */
enum sp_fill_phase {
    SP_FILL_BLANK, /* no more than white space so far, or not to the end of a character */
    SP_FILL_WORDS, /* some text */
    SP_FILL_LAST,  /* some text, and as many tokens as it may have */
    SP_FILL_PHASES
};

struct sp_fill_token {
    const char *text; /* (n), what it adds to a text; NULL: nothing that an answer may hold */
    uint32_t n;
};

/* The vocabulary as slots see it (fill_vocab.c). */
struct sp_fill_vocab {
    size_t n;                    /* sp_lm_vocab */
    struct sp_fill_token *token; /* (n) */
    char *words;                 /* texts of tokens that begin with a space of their own */
    size_t text_bytes_max;       /* of a token's text */
    int64_t eos;                 /* -1: none */
    bool ends[128];              /* ASCII characters that no answer holds */
    uint8_t *role[SP_FILL_MODES][SP_FILL_PHASES]; /* (n) of sp_beam_role bits */
    uint8_t *none;                                /* (n) zeros */
};
enum sp_code sp_fill_vocab_init(struct sp_fill_vocab *v, const struct sp_lm *lm, const char *until,
                                struct sp_error *err);
void sp_fill_vocab_clear(struct sp_fill_vocab *v);
/* What a token adding this text to an answer may do. */
uint8_t sp_fill_role(const struct sp_fill_vocab *v, enum sp_fill_mode mode,
                     enum sp_fill_phase phase, const char *text, size_t n);
/* Where an answer would end inside this text: n for nowhere. */
size_t sp_fill_end(const struct sp_fill_vocab *v, const char *text, size_t n);
/* The text of ids, written to out, which has room; its length. */
size_t sp_fill_decode(const struct sp_fill_vocab *v, const uint32_t *id, size_t n, char *out);
/* Without white space around it: *text moves, the length is returned. */
size_t sp_fill_trim(const char **text, size_t n);

/* A slot and what follows it (fill_text.c). Texts are UTF-8 with a NUL. */
struct sp_fill_slot {
    /* Text before the slot that is not read but belongs to the answer's first token: a tokenizer
     * puts the space before a word into the word's token. */
    char *pending;
    size_t n_pending;
    /* The words behind it, up to what is pending for the next slot, or to the end. */
    char *after;
    size_t n_after;
    uint32_t after_id; /* the first token of them, when FOLLOWED */
    enum sp_fill_mode mode;
};
struct sp_fill_text {
    char *string;  /* the text as it was asked */
    size_t n_slot; /* of the text with its template */
    struct sp_fill_slot *slot;
    struct sp_tokens before; /* the first slot: what is read */
    /* Pieces of string around the slots: (n_slot + 1), for FILLED. */
    size_t piece[SP_FILL_SLOTS_MAX + 1][2];
};

struct sp_fill {
    struct sp_lm *lm;
    bool finds; /* the head finds answers in documents (fill_find.c), and writes none */
    struct sp_fill_options o;
    struct sp_fill_vocab vocab;
};

/* sp_fill_ask by a head that finds answers. */
enum sp_code sp_fill_find(struct sp_fill *f, const struct sp_fill_question *q, size_t n,
                          struct sp_fill_answers *out, struct sp_error *err);
/* SP_E_DATA for a document that is no text, or that is empty and to be read before the question. */
enum sp_code sp_fill_doc_check(const struct sp_fill *f, const char *text, size_t n,
                               struct sp_error *err);

#endif
