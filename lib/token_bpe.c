/* Byte pair encoding: a word's symbols are merged pairwise, the earliest merge of the list first
 * and of equals the leftmost (Sennrich et al., arXiv 1508.07909). Short words by scanning, long
 * ones with a heap, so that no word costs quadratic time; results of short words are kept. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SHORT_SYMBOLS 48 /* up to here scanning beats the heap */
#define CACHE_ENTRIES ((size_t)1 << 14)
#define CACHE_WORD_MAX 23
#define CACHE_IDS_MAX 7
#define NO_RANK UINT32_MAX
#define NONE UINT32_MAX

/* Pairs of ids and what they become; open addressing. */
struct merge {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank, merged;
};
#define FREE_PAIR UINT64_MAX

struct cached {
    uint8_t n_word, n_id; /* n_id 0: free */
    char word[CACHE_WORD_MAX];
    uint8_t end[CACHE_IDS_MAX];
    uint32_t id[CACHE_IDS_MAX];
};

struct sp_bpe {
    struct merge *merge;
    size_t n_slot; /* power of two */
    uint32_t n_rank;
    uint32_t of_byte[256];
    struct cached *cache; /* (CACHE_ENTRIES) */
    struct sp_buffer piece;
};

/* A symbol of a word; in the heap's way also a link of a list. */
struct symbol {
    uint32_t id, start, next, prev;
};
struct candidate {
    uint32_t rank, at, left, right; /* of ids: to tell whether the pair is still there */
};

uint32_t sp_bpe_char_of_byte(uint8_t byte) {
    /* Printable bytes stand for themselves, the others are numbered from U+0100 on. */
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD)) return byte;
    if (byte <= ' ') return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int sp_bpe_byte_of_char(uint32_t cp) {
    if (cp < 0x100) return sp_bpe_char_of_byte((uint8_t)cp) == cp ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

bool sp_bpe_covers_utf8(const struct sp_bpe *bpe) {
    for (size_t byte = 0; byte < 0xF5; byte++)
        if (bpe->of_byte[byte] == NONE && byte != 0xC0 && byte != 0xC1) return false;
    return true;
}

static size_t merge_slot(const struct sp_bpe *bpe, uint64_t pair) {
    uint64_t mixed = pair * 0x9E3779B97F4A7C15u;
    size_t mask = bpe->n_slot - 1, at = (size_t)(mixed >> 32) & mask;
    while (bpe->merge[at].pair != pair && bpe->merge[at].pair != FREE_PAIR) at = (at + 1) & mask;
    return at;
}

enum sp_code sp_bpe_new(struct sp_bpe **out, const struct sp_vocab *vocab, size_t n_merge,
                        struct sp_error *err) {
    struct sp_bpe *bpe = calloc(1, sizeof *bpe);
    *out = bpe;
    if (!bpe) return sp_error_memory(err, "a tokenizer");
    bpe->n_slot = 1024;
    while (bpe->n_slot < 2 * n_merge) bpe->n_slot *= 2;
    bpe->merge = malloc(bpe->n_slot * sizeof *bpe->merge);
    bpe->cache = calloc(CACHE_ENTRIES, sizeof *bpe->cache);
    if (!bpe->merge || !bpe->cache)
        return sp_error_set(err, SP_E_DEVICE, "out of memory for %zu merges", n_merge);
    for (size_t i = 0; i < bpe->n_slot; i++) bpe->merge[i].pair = FREE_PAIR;
    char s[4];
    for (size_t byte = 0; byte < 256; byte++) {
        uint32_t cp = sp_bpe_char_of_byte((uint8_t)byte);
        size_t n = 1;
        s[0] = (char)cp;
        if (cp >= 0x80) {
            s[0] = (char)(0xC0 | cp >> 6);
            s[n++] = (char)(0x80 | (cp & 0x3F));
        }
        int64_t id = sp_vocab_find(vocab, s, n);
        bpe->of_byte[byte] = id < 0 ? NONE : (uint32_t)id;
    }
    return SP_OK;
}

void sp_bpe_free(struct sp_bpe *bpe) {
    if (!bpe) return;
    free(bpe->merge);
    free(bpe->cache);
    free(bpe->piece.data);
    free(bpe);
}

void sp_bpe_add_merge(struct sp_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged) {
    uint64_t pair = (uint64_t)left << 32 | right;
    bpe->merge[merge_slot(bpe, pair)] = (struct merge){pair, bpe->n_rank++, merged};
}

static const struct merge *find_merge(const struct sp_bpe *bpe, uint32_t left, uint32_t right) {
    const struct merge *m = &bpe->merge[merge_slot(bpe, (uint64_t)left << 32 | right)];
    return m->pair == FREE_PAIR ? NULL : m;
}

static uint32_t rank_of(const struct sp_bpe *bpe, uint32_t left, uint32_t right) {
    const struct merge *m = find_merge(bpe, left, right);
    return m ? m->rank : NO_RANK;
}

/* ---- short words ------------------------------------------------------------------------------
 */

static size_t merge_short(const struct sp_bpe *bpe, struct symbol *s, size_t n) {
    uint32_t rank[SHORT_SYMBOLS];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(bpe, s[i].id, s[i + 1].id);
    for (;;) {
        size_t best = 0;
        uint32_t lowest = NO_RANK;
        for (size_t i = 0; i + 1 < n; i++)
            if (rank[i] < lowest) {
                lowest = rank[i];
                best = i;
            }
        if (lowest == NO_RANK) return n;
        s[best].id = find_merge(bpe, s[best].id, s[best + 1].id)->merged;
        n--;
        memmove(s + best + 1, s + best + 2, (n - best - 1) * sizeof *s);
        memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
        if (best > 0) rank[best - 1] = rank_of(bpe, s[best - 1].id, s[best].id);
        if (best + 1 < n) rank[best] = rank_of(bpe, s[best].id, s[best + 1].id);
    }
}

/* ---- long words -------------------------------------------------------------------------------
 */

struct heap {
    struct candidate *item;
    size_t n;
};

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct heap *h, struct candidate c) {
    size_t i = h->n++;
    for (; i > 0 && before(&c, &h->item[(i - 1) / 2]); i = (i - 1) / 2)
        h->item[i] = h->item[(i - 1) / 2];
    h->item[i] = c;
}

static struct candidate heap_pop(struct heap *h) {
    struct candidate top = h->item[0], last = h->item[--h->n];
    size_t i = 0;
    for (size_t child = 1; child < h->n; child = 2 * i + 1) {
        if (child + 1 < h->n && before(&h->item[child + 1], &h->item[child])) child++;
        if (!before(&h->item[child], &last)) break;
        h->item[i] = h->item[child];
        i = child;
    }
    h->item[i] = last;
    return top;
}

static void push_pair(const struct sp_bpe *bpe, struct heap *h, const struct symbol *s,
                      uint32_t at) {
    if (at == NONE || s[at].next == NONE) return;
    uint32_t left = s[at].id, right = s[s[at].next].id, rank = rank_of(bpe, left, right);
    if (rank != NO_RANK) heap_push(h, (struct candidate){rank, at, left, right});
}

/* Each merge takes one symbol and pushes at most two pairs: the heap never holds 3 n. */
static size_t merge_long(const struct sp_bpe *bpe, struct heap *h, struct symbol *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        s[i].prev = i ? (uint32_t)i - 1 : NONE;
        s[i].next = i + 1 < n ? (uint32_t)i + 1 : NONE;
    }
    for (size_t i = 0; i < n; i++) push_pair(bpe, h, s, (uint32_t)i);
    while (h->n > 0) {
        struct candidate c = heap_pop(h);
        uint32_t right = s[c.at].next;
        if (s[c.at].id != c.left || right == NONE || s[right].id != c.right) continue;
        s[c.at].id = find_merge(bpe, c.left, c.right)->merged;
        s[c.at].next = s[right].next;
        s[right].id = NONE; /* no candidate finds it alive */
        if (s[right].next != NONE) s[s[right].next].prev = c.at;
        push_pair(bpe, h, s, s[c.at].prev);
        push_pair(bpe, h, s, c.at);
    }
    size_t k = 0;
    for (uint32_t i = n ? 0 : NONE; i != NONE; i = s[i].next) s[k++] = s[i];
    return k;
}

/* Bytes without a token are dropped, and what follows them moves up, as in `tokenizers`. */
static size_t split_bytes(const struct sp_bpe *bpe, const char *word, size_t n, struct symbol *s) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = bpe->of_byte[(uint8_t)word[i]];
        if (id == NONE) continue;
        s[k] = (struct symbol){.id = id, .start = (uint32_t)k};
        k++;
    }
    return k;
}

static enum sp_code merge_word(struct sp_bpe *bpe, struct sp_scratch *scratch, const char *word,
                               size_t n, size_t *n_out, struct sp_error *err) {
    struct symbol short_word[SHORT_SYMBOLS], *s = short_word;
    struct heap heap = {0};
    if (n > SHORT_SYMBOLS) {
        s = sp_buffer_need(&scratch->symbol, n, sizeof *s);
        heap.item = sp_buffer_need(&scratch->heap, 3 * n, sizeof *heap.item);
        if (!s || !heap.item)
            return sp_error_set(err, SP_E_DEVICE, "out of memory for a word of %zu bytes", n);
    }
    struct sp_piece *piece = sp_buffer_need(&bpe->piece, n, sizeof *piece);
    if (!piece) return sp_error_set(err, SP_E_DEVICE, "out of memory for a word of %zu bytes", n);
    size_t n_symbol = split_bytes(bpe, word, n, s);
    size_t k =
        n > SHORT_SYMBOLS ? merge_long(bpe, &heap, s, n_symbol) : merge_short(bpe, s, n_symbol);
    for (size_t i = 0; i < k; i++)
        piece[i] =
            (struct sp_piece){s[i].id, s[i].start, i + 1 < k ? s[i + 1].start : (uint32_t)n_symbol};
    *n_out = k;
    return SP_OK;
}

/* ---- the cache --------------------------------------------------------------------------------
 */

static void remember(struct cached *c, const char *word, size_t n, const struct sp_piece *piece,
                     size_t n_piece) {
    if (n_piece == 0 || n_piece > CACHE_IDS_MAX) return;
    c->n_word = (uint8_t)n;
    c->n_id = (uint8_t)n_piece;
    memcpy(c->word, word, n);
    for (size_t i = 0; i < n_piece; i++) {
        c->id[i] = piece[i].id;
        c->end[i] = (uint8_t)piece[i].end;
    }
}

enum sp_code sp_bpe_encode(struct sp_bpe *bpe, struct sp_scratch *s, const char *word, size_t n,
                           const struct sp_piece **out, size_t *n_out, struct sp_error *err) {
    struct cached *c = NULL;
    if (n <= CACHE_WORD_MAX) {
        c = &bpe->cache[(size_t)XXH3_64bits(word, n) & (CACHE_ENTRIES - 1)];
        if (c->n_id && c->n_word == n && memcmp(c->word, word, n) == 0) {
            struct sp_piece *piece = sp_buffer_need(&bpe->piece, CACHE_IDS_MAX, sizeof *piece);
            if (!piece) return sp_error_memory(err, "a word");
            for (size_t i = 0; i < c->n_id; i++)
                piece[i] = (struct sp_piece){c->id[i], i ? c->end[i - 1] : 0, c->end[i]};
            *out = piece;
            *n_out = c->n_id;
            return SP_OK;
        }
    }
    enum sp_code code = merge_word(bpe, s, word, n, n_out, err);
    *out = bpe->piece.data;
    if (!code && c) remember(c, word, n, *out, *n_out);
    return code;
}
