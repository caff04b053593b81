/* Added tokens: found in the text as they stand, leftmost first, the longest of those that begin at
 * one place. */
#include "token.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

enum sp_code sp_added_put(struct sp_added_set *set, const struct sp_added *a,
                          struct sp_error *err) {
    if (set->n == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 32;
        struct sp_added *grown = realloc(set->item, cap * sizeof *grown);
        if (!grown) return sp_error_memory(err, "added tokens");
        set->item = grown;
        set->cap = cap;
    }
    set->item[set->n++] = *a;
    return SP_OK;
}

static int by_first_byte_then_length(const void *a, const void *b) {
    const struct sp_added *x = a, *y = b;
    uint8_t cx = (uint8_t)x->content[0], cy = (uint8_t)y->content[0];
    if (cx != cy) return cx < cy ? -1 : 1;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool crosses(const struct sp_added *a) {
    for (size_t i = 0; i + 1 < a->n; i++) {
        size_t len = sp_utf8_length((uint8_t)a->content[i]);
        if (i + len >= a->n) return false;
        if (!sp_char_is_space(sp_utf8_get(a->content + i))) return true;
        i += len - 1;
    }
    return false;
}

void sp_added_index(struct sp_added_set *set) {
    if (set->n) qsort(set->item, set->n, sizeof *set->item, by_first_byte_then_length);
    size_t i = 0;
    for (size_t c = 0; c < 256; c++) {
        set->first[c] = (uint32_t)i;
        for (; i < set->n && (uint8_t)set->item[i].content[0] == c; i++) {
            struct sp_added *a = &set->item[i];
            a->crosses = crosses(a);
            bool sensitive = a->crosses || a->rstrip || a->single_word;
            if (sensitive && a->n > set->n_reach) set->n_reach = a->n;
            if (a->n == 1)
                memset(set->pair + c * 32, 0xFF, 32);
            else
                set->pair[c * 32 + (uint8_t)a->content[1] / 8] |=
                    (uint8_t)(1u << ((uint8_t)a->content[1] % 8));
        }
    }
    set->first[256] = (uint32_t)i;
}

void sp_added_clear(struct sp_added_set *set) {
    for (size_t i = 0; i < set->n; i++) free(set->item[i].content);
    free(set->item);
    *set = (struct sp_added_set){0};
}

/* By its first two bytes: nearly every place of a text is settled here. */
static inline bool may_begin(const struct sp_added_set *set, const char *text, size_t i, size_t n) {
    size_t c = (uint8_t)text[i];
    if (set->first[c] == set->first[c + 1]) return false;
    if (i + 1 >= n) return true;
    uint8_t next = (uint8_t)text[i + 1];
    return set->pair[c * 32 + next / 8] >> (next % 8) & 1;
}

/* The longest item at text[i], or NULL. */
static const struct sp_added *longest_at(const struct sp_added_set *set, const char *text, size_t i,
                                         size_t n) {
    size_t c = (uint8_t)text[i];
    for (uint32_t k = set->first[c]; k < set->first[c + 1]; k++) {
        const struct sp_added *a = &set->item[k];
        if (a->n <= n - i && memcmp(text + i, a->content, a->n) == 0) return a;
    }
    return NULL;
}

static size_t char_before(const char *text, size_t i) {
    do i--;
    while (i > 0 && ((uint8_t)text[i] & 0xC0) == 0x80);
    return i;
}

static bool stands_alone(const char *text, size_t start, size_t end, size_t n) {
    if (start > 0 && sp_char_is_word(sp_utf8_get(text + char_before(text, start)))) return false;
    return end == n || !sp_char_is_word(sp_utf8_get(text + end));
}

/* Widens [*start, *end) over white space, to the left not over what is taken already. */
static void strip(const struct sp_added *a, const struct sp_added_search *s, size_t *start,
                  size_t *end) {
    if (a->lstrip) {
        size_t at = *start;
        while (at > 0 && sp_char_is_space(sp_utf8_get(s->text + char_before(s->text, at))))
            at = char_before(s->text, at);
        *start = at > s->done ? at : s->done;
    }
    while (a->rstrip && *end < s->n && sp_char_is_space(sp_utf8_get(s->text + *end)))
        *end += sp_utf8_length((uint8_t)s->text[*end]);
}

const struct sp_added *sp_added_next(const struct sp_added_set *set, struct sp_added_search *s,
                                     size_t *plain, size_t *start, size_t *end) {
    if (set->n == 0) return NULL;
    for (;;) {
        while (s->pos < s->n && !may_begin(set, s->text, s->pos, s->n)) s->pos++;
        if (s->pos >= s->n) return NULL;
        const struct sp_added *a = longest_at(set, s->text, s->pos, s->n);
        if (!a) {
            s->pos++;
            continue;
        }
        *start = s->pos;
        *end = s->pos += a->n;
        if (a->single_word && !stands_alone(s->text, *start, *end, s->n)) continue;
        strip(a, s, start, end);
        *plain = s->done;
        s->done = *end;
        return a;
    }
}
