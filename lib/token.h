/* Tokenizers, inside: what the token_*.c files share.
 *
 * The stages are those of Hugging Face's `tokenizers`, and give the same ids and spans: text is cut
 * at added tokens that match it as it stands, the rest is normalised, cut at added tokens that
 * match normalised text, cut into words (pre-tokenised), and each word is encoded by the model.
 * A tokenizer owns everything here but `out`; its scratch and cache change while it encodes, so one
 * tokenizer encodes for one caller at a time.
 */
#ifndef SP_TOKEN_H
#define SP_TOKEN_H

#include "json.h"
#include "statepipe.h"

#define SP_TOKEN_ID_MAX ((uint32_t)1 << 22)     /* ids are below */
#define SP_TOKEN_FILE_MAX ((size_t)256 << 20)   /* bytes of a tokenizer.json or vocab.txt */
#define SP_TOKEN_PIECE_MAX ((size_t)256 << 10)  /* text without a safe boundary is cut here */
#define SP_TOKEN_ADDED_BYTES_MAX ((size_t)1024) /* of one added token's content */
#define SP_TOKEN_FRAME_MAX 8                    /* tokens put before, or behind, a document */
#define SP_TOKEN_PAD_NAME "<|pad|>"             /* the last id of the vocabulary of bytes */

/* ---- strings by id and ids by string (token_vocab.c) ------------------------------------------
 */

struct sp_vocab_entry {
    uint32_t offset, n; /* in arena; n SP_VOCAB_NONE: no such id */
};
#define SP_VOCAB_NONE UINT32_MAX

struct sp_vocab {
    char *arena;
    size_t n_arena, arena_cap;
    struct sp_vocab_entry *entry; /* (n_id) */
    uint32_t n_id, id_cap;
    uint64_t *slot; /* open addressing: upper half of the hash, id + 1; 0 is free */
    size_t n_slot, n_used;
};

enum sp_code sp_vocab_reserve(struct sp_vocab *v, uint32_t n_id, size_t n_bytes,
                              struct sp_error *err);
void sp_vocab_clear(struct sp_vocab *v);
/* Space for n bytes at the end of the arena, to be given to sp_vocab_add; NULL: out of memory. */
char *sp_vocab_room(struct sp_vocab *v, size_t n);
/* s, n: bytes anywhere, or in the room just given. A string or an id that is there already is
 * SP_E_DATA. */
enum sp_code sp_vocab_add(struct sp_vocab *v, uint32_t id, const char *s, size_t n,
                          struct sp_error *err);
int64_t sp_vocab_find(const struct sp_vocab *v, const char *s, size_t n); /* -1: none */
static inline const char *sp_vocab_get(const struct sp_vocab *v, uint32_t id, size_t *n) {
    if (id >= v->n_id || v->entry[id].n == SP_VOCAB_NONE) return NULL;
    *n = v->entry[id].n;
    return v->arena + v->entry[id].offset;
}

/* ---- normalised text (token_norm.c, token_norm_bert.c) ----------------------------------------
 */

struct sp_align {
    uint32_t start, end; /* bytes of the piece that was normalised */
};

/* One character on its way: change is `tokenizers`' alignment rule: 0 replaces the next old
 * character, -k replaces it and removes k more, +1 is new (and shares its predecessor's place). */
struct sp_change {
    int32_t cp, change;
};

struct sp_norm {
    const char *text;
    size_t n;
    const struct sp_align *align; /* (n), by byte; NULL: the text is as it was */
};

/* Growing arrays that outlive a piece. */
struct sp_buffer {
    void *data;
    size_t cap; /* bytes */
};
/* At least n elements of size bytes, old contents kept; NULL: out of memory. */
void *sp_buffer_need(struct sp_buffer *b, size_t n, size_t size);

struct sp_scratch {
    struct sp_buffer text, align, change, chars, places, sorted; /* normalisers */
    struct sp_buffer symbol, heap;                               /* BPE of long words */
};

enum sp_code sp_norm_nfc(struct sp_scratch *s, const char *text, size_t n, struct sp_norm *out,
                         struct sp_error *err);
/* May a character of normalised text that stands for cp never join what is before it? */
bool sp_norm_is_boundary(uint32_t cp);
/* Appends the canonical decomposition of cp, then keeps it in canonical order from `from`;
 * *n_change is updated. False: out of memory. */
bool sp_norm_decompose(struct sp_scratch *s, uint32_t cp, size_t *n_change);
bool sp_norm_sort(struct sp_scratch *s, size_t from, size_t n_change);

struct sp_bert_options {
    bool clean_text, chinese_chars, strip_accents, lowercase;
};
enum sp_code sp_norm_bert(struct sp_scratch *s, const struct sp_bert_options *o, const char *text,
                          size_t n, struct sp_norm *out, struct sp_error *err);
bool sp_bert_is_chinese(uint32_t cp);

/* ---- words (token_words.c) --------------------------------------------------------------------
 */

/* Characters that `tokenizers` takes for something else than utf8proc (token_unicode.c). */
enum sp_unicode_list {
    SP_UNICODE_LETTERS,
    SP_UNICODE_NUMBERS,
    SP_UNICODE_KEPT,
    SP_UNICODE_UNMARKED,
    SP_UNICODE_MARKED,
    SP_UNICODE_UNPUNCTUATED,
    SP_UNICODE_PUNCTUATED,
    SP_UNICODE_UNORDERED
};
bool sp_unicode_in(enum sp_unicode_list list, uint32_t cp);
uint32_t sp_unicode_lower(uint32_t cp); /* of a character that utf8proc does not change */

/* What the pattern of ByteLevel tells apart. */
enum sp_char_class { SP_CHAR_OTHER = 0, SP_CHAR_LETTER, SP_CHAR_NUMBER, SP_CHAR_SPACE };
enum sp_char_class sp_char_class(uint32_t cp);
bool sp_char_is_space(uint32_t cp); /* White_Space */
bool sp_char_is_word(uint32_t cp);  /* \w of a regular expression */
bool sp_char_is_punctuation(uint32_t cp);

/* The end of the word of GPT-2's pattern that begins at text[i], i < n. */
size_t sp_words_byte_level(const char *text, size_t i, size_t n);
/* The next word of BERT's pre-tokeniser at or behind *i; false: none. */
bool sp_words_bert(const char *text, size_t *i, size_t *end, size_t n);

/* ---- added tokens (token_added.c) -------------------------------------------------------------
 */

struct sp_added {
    uint32_t id;
    uint32_t n;
    char *content; /* normalised where `normalized` says so */
    bool single_word, lstrip, rstrip, normalized, special;
    bool crosses; /* has a character other than white space before its last: see token_safe.c */
};

struct sp_added_set {
    struct sp_added *item; /* sorted by first byte, longest first */
    size_t n, cap;
    uint32_t first[257]; /* items [first[c], first[c + 1]) begin with c */
    uint8_t pair[8192];  /* bit (a << 8 | b): some item begins with these bytes */
    size_t n_reach;      /* bytes of the longest that a cut of the text beside it could change */
};

/* Moves *a into the set. */
enum sp_code sp_added_put(struct sp_added_set *set, const struct sp_added *a, struct sp_error *err);
void sp_added_index(struct sp_added_set *set); /* after the last put, before any search */
void sp_added_clear(struct sp_added_set *set);

/* A search through one piece. done: end of what has been handed out. */
struct sp_added_search {
    const char *text;
    size_t n, pos, done;
};
/* The next match as [*start, *end), of which *plain .. *start is ordinary text before it; NULL: no
 * more, and done .. n is ordinary. */
const struct sp_added *sp_added_next(const struct sp_added_set *set, struct sp_added_search *s,
                                     size_t *plain, size_t *start, size_t *end);

/* ---- models (token_bpe.c, token_wordpiece.c) --------------------------------------------------
 */

/* A token of a word: bytes [start, end) of it. */
struct sp_piece {
    uint32_t id, start, end;
};

struct sp_bpe;
/* On failure too *bpe is to be freed. */
enum sp_code sp_bpe_new(struct sp_bpe **bpe, const struct sp_vocab *vocab, size_t n_merge,
                        struct sp_error *err);
void sp_bpe_free(struct sp_bpe *bpe);
/* Is there a token for each byte of valid UTF-8? Others are dropped. */
bool sp_bpe_covers_utf8(const struct sp_bpe *bpe);
/* rank is the order of the call; the three are ids. */
void sp_bpe_add_merge(struct sp_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged);
/* Tokens of a word of n bytes (n <= SP_TOKEN_PIECE_MAX + a character); *out borrowed until the next
 * call. */
enum sp_code sp_bpe_encode(struct sp_bpe *bpe, struct sp_scratch *s, const char *word, size_t n,
                           const struct sp_piece **out, size_t *n_out, struct sp_error *err);
/* The character that stands for a byte in byte-level vocabularies, and back (-1: none). */
uint32_t sp_bpe_char_of_byte(uint8_t byte);
int sp_bpe_byte_of_char(uint32_t cp);

struct sp_wordpiece {
    uint32_t unk_id;
    char prefix[16]; /* "##" */
    size_t n_prefix;
    size_t max_chars;   /* longer words are unknown */
    size_t n_token_max; /* bytes of the longest token, more than the prefix */
};
enum sp_code sp_wordpiece_encode(const struct sp_wordpiece *w, const struct sp_vocab *vocab,
                                 struct sp_scratch *s, const char *word, size_t n,
                                 const struct sp_piece **out, size_t *n_out, struct sp_error *err);

/* ---- the tokenizer (token_open.c, token_load.c, token_encode.c, token_safe.c) -----------------
 */

enum sp_tokenizer_kind { SP_TOKENIZER_BYTES, SP_TOKENIZER_BPE, SP_TOKENIZER_WORDPIECE };
enum { SP_TOKEN_SPECIAL = 1, SP_TOKEN_ADDED = 2 };
enum sp_normalizer { SP_NORMALIZER_NONE, SP_NORMALIZER_NFC, SP_NORMALIZER_BERT };

struct sp_tokenizer {
    enum sp_tokenizer_kind kind;
    enum sp_normalizer normalizer;
    struct sp_bert_options bert;
    bool trim_offsets;
    struct sp_vocab vocab;                /* strings as the file writes them; added tokens too */
    char *decoded;                        /* BPE: the bytes that they stand for, */
    struct sp_vocab_entry *decoded_entry; /* (vocab.n_id) by id */
    struct sp_bpe *bpe;
    struct sp_wordpiece wordpiece;
    struct sp_added_set raw, normalized;
    uint32_t prefix[SP_TOKEN_FRAME_MAX], suffix[SP_TOKEN_FRAME_MAX];
    size_t n_prefix, n_suffix;
    uint8_t *flags; /* (vocab.n_id) SP_TOKEN_SPECIAL, SP_TOKEN_ADDED */
    struct sp_hash fingerprint;
    struct sp_scratch *scratch;
};

enum sp_code sp_token_load_json(struct sp_tokenizer *tok, const char *text, size_t n,
                                const char *name, struct sp_error *err);
enum sp_code sp_token_load_vocab(struct sp_tokenizer *tok, const char *text, size_t n,
                                 const char *name, struct sp_error *err);
/* From the text of a tokenizer.json or vocab.txt; NULL: bytes. name is for messages. */
enum sp_code sp_tokenizer_parse(struct sp_tokenizer **tok, const char *text, size_t n,
                                const char *name, struct sp_error *err);
enum sp_code sp_token_normalize(const struct sp_tokenizer *tok, const char *text, size_t n,
                                struct sp_norm *out, struct sp_error *err);
/* Like sp_tokenizer_safe_prefix, but places up to `from` are known to be unsafe. */
size_t sp_token_safe_behind(const struct sp_tokenizer *tok, const char *text, size_t from,
                            size_t n);
/* How many bytes behind a place decide whether it is safe. */
size_t sp_token_lookahead(const struct sp_tokenizer *tok);
/* Tokens that the post-processor puts before and behind a document. */
const uint32_t *sp_tokenizer_prefix(const struct sp_tokenizer *tok, size_t *n);
const uint32_t *sp_tokenizer_suffix(const struct sp_tokenizer *tok, size_t *n);
bool sp_tokenizer_is_special(const struct sp_tokenizer *tok, uint32_t id);

#endif
