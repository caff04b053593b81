/* Words of a document that its question has. */
#include "mark.h"
#include "utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define SMALL_MAX 3 /* characters of a word that is too common where it begins small */

struct word {
    size_t end;   /* the byte behind it */
    uint64_t key; /* FNV-1a of its characters in lower case: equal for equal words */
    size_t n_char;
    bool small; /* begins with a small letter */
};

static bool in_word(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_MC) || k == UTF8PROC_CATEGORY_ND;
}

/* The next word at or behind byte i; false: there is none. */
static bool next_word(const char *text, size_t n, size_t i, struct word *w) {
    *w = (struct word){.key = 0xcbf29ce484222325u};
    while (i < n) {
        size_t len;
        int32_t c = sp_utf8_decode(text + i, n - i, &len);
        if (c >= 0 && in_word(c)) {
            if (w->n_char++ == 0) w->small = utf8proc_category(c) == UTF8PROC_CATEGORY_LL;
            w->key = (w->key ^ (uint64_t)utf8proc_tolower(c)) * 0x100000001b3u;
            w->end = i + len;
        } else if (w->n_char > 0 && (c != '.' || w->end < i)) {
            return true; /* a dot goes by where a word goes on behind it */
        }
        i += len;
    }
    return w->n_char > 0;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Keys of the query's words that count, sorted; *n of them. */
static uint64_t *keys_of(const char *query, size_t n_query, size_t *n) {
    uint64_t *key = malloc((n_query + 1) * sizeof *key);
    struct word w;
    *n = 0;
    for (size_t i = 0; key && next_word(query, n_query, i, &w); i = w.end)
        if (w.n_char > (w.small ? SMALL_MAX : 1)) key[(*n)++] = w.key;
    if (*n > 0) qsort(key, *n, sizeof *key, by_key);
    return key;
}

char *sp_mark_words(const char *query, size_t n_query, const char *doc, size_t n_doc, size_t *n_out,
                    size_t **at, size_t *n_mark) {
    size_t n_key, n = 0, marks = 0, from = 0;
    uint64_t *key = keys_of(query, n_query, &n_key);
    char *out = malloc(n_doc + n_doc / 2 + 2); /* a marked word has two bytes at least */
    size_t *where = at ? malloc((n_doc / 2 + 1) * sizeof *where) : NULL;
    struct word w;
    if (!key || !out || (at && !where)) {
        free(key);
        free(out);
        free(where);
        return NULL;
    }
    for (size_t i = 0; next_word(doc, n_doc, i, &w); i = w.end) {
        if (w.n_char < 2 || !bsearch(&w.key, key, n_key, sizeof *key, by_key)) continue;
        memcpy(out + n, doc + from, w.end - from);
        n += w.end - from;
        out[n++] = SP_MARK;
        if (where) where[marks] = w.end;
        marks++;
        from = w.end;
    }
    memcpy(out + n, doc + from, n_doc - from);
    n += n_doc - from;
    out[n] = 0;
    *n_out = n;
    if (at) *at = where;
    if (n_mark) *n_mark = marks;
    free(key);
    return out;
}
