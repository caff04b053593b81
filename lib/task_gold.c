/* Gold spans to tags: what a tagger is trained on. */
#include "task.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Distinct records that one document's spans may name: bounds the work on hostile input. */
#define GOLD_RECORDS_MAX 1024

struct gold_span {
    uint64_t start, end;
    const char *label; /* borrowed */
    uint32_t n_label_bytes;
    uint32_t rec, n_rec; /* its records: rec[rec .. rec + n_rec) of struct gold */
    bool used;           /* a token carries it */
    char prefix;
};

struct gold {
    struct gold_span *span;
    size_t n_span;
    uint32_t *rec; /* dense record numbers, all spans' lists one after another */
    size_t n_rec;
    uint64_t *name; /* (GOLD_RECORDS_MAX): the number that the input gave a record */
    uint32_t n_name;
};

/* ---- the few msgpack types that spans are made of ---- */

struct cursor {
    const uint8_t *p, *end;
};

static uint64_t big_endian(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

/* A header byte with n bytes of length or value behind it. */
static bool take_wide(struct cursor *c, size_t n, uint64_t *v) {
    if ((size_t)(c->end - c->p) < 1 + n) return false;
    *v = big_endian(c->p + 1, n);
    c->p += 1 + n;
    return true;
}

static bool take_short(struct cursor *c, uint8_t mask, uint64_t *v) {
    *v = *c->p++ & mask;
    return true;
}

static bool take_array(struct cursor *c, uint64_t *n) {
    if (c->p == c->end) return false;
    uint8_t b = *c->p;
    if ((b & 0xf0) == 0x90) return take_short(c, 0x0f, n);
    if (b == 0xdc) return take_wide(c, 2, n);
    return b == 0xdd && take_wide(c, 4, n);
}

static bool take_unsigned(struct cursor *c, uint64_t *v) {
    if (c->p == c->end) return false;
    uint8_t b = *c->p;
    if (b < 0x80) return take_short(c, 0x7f, v);
    if (b >= 0xcc && b <= 0xcf) return take_wide(c, (size_t)1 << (b - 0xcc), v);
    if (b < 0xd0 || b > 0xd3) return false;
    size_t n = (size_t)1 << (b - 0xd0);
    return take_wide(c, n, v) && *v >> (8 * n - 1) == 0;
}

static bool take_string(struct cursor *c, const char **s, uint64_t *n) {
    if (c->p == c->end) return false;
    uint8_t b = *c->p;
    bool ok = (b & 0xe0) == 0xa0
                  ? take_short(c, 0x1f, n)
                  : b >= 0xd9 && b <= 0xdb && take_wide(c, (size_t)1 << (b - 0xd9), n);
    if (!ok || *n > (uint64_t)(c->end - c->p)) return false;
    *s = (const char *)c->p;
    c->p += *n;
    return true;
}

/* ---- reading ---- */

static bool take_record(struct gold *g, struct cursor *c) {
    uint64_t name;
    uint32_t i = 0;
    if (!take_unsigned(c, &name)) return false;
    while (i < g->n_name && g->name[i] != name) i++;
    if (i == GOLD_RECORDS_MAX) return false;
    if (i == g->n_name) g->name[g->n_name++] = name;
    g->rec[g->n_rec++] = i;
    return true;
}

static bool take_span(struct gold *g, struct cursor *c) {
    struct gold_span *s = &g->span[g->n_span];
    uint64_t n_item, n_label_bytes, n_rec = 0;
    if (!take_array(c, &n_item) || n_item < 3 || n_item > 4) return false;
    if (!take_unsigned(c, &s->start) || !take_unsigned(c, &s->end) || s->end <= s->start ||
        !take_string(c, &s->label, &n_label_bytes))
        return false;
    if (n_item == 4 && !take_array(c, &n_rec)) return false;
    s->n_label_bytes = (uint32_t)n_label_bytes;
    s->rec = (uint32_t)g->n_rec;
    for (uint64_t i = 0; i < n_rec; i++)
        if (!take_record(g, c)) return false;
    s->n_rec = (uint32_t)n_rec;
    g->n_span++;
    return true;
}

static int by_place(const void *a, const void *b) {
    const struct gold_span *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Sorted and free of overlaps: of two spans over the same bytes the one that starts first has them.
 */
static void put_in_order(struct gold *g) {
    qsort(g->span, g->n_span, sizeof *g->span, by_place);
    size_t kept = 0;
    uint64_t end = 0;
    for (size_t i = 0; i < g->n_span; i++) {
        struct gold_span s = g->span[i];
        if (s.start < end) s.start = end;
        if (s.end <= s.start) continue;
        end = s.end;
        g->span[kept++] = s;
    }
    g->n_span = kept;
}

static void gold_free(struct gold *g) {
    free(g->span);
    free(g->rec);
    free(g->name);
}

static enum sp_code gold_read(struct gold *g, const void *msgpack, size_t n_msgpack,
                              struct sp_error *err) {
    struct cursor c = {.p = msgpack, .end = (const uint8_t *)msgpack + n_msgpack};
    uint64_t n;
    /* A span takes four bytes at least, a record one: no list is longer than its bytes allow. */
    if (n_msgpack > UINT32_MAX || !take_array(&c, &n) || n > n_msgpack / 4)
        return sp_error_set(err, SP_E_DATA,
                            "spans are not an array of [start, end, label, "
                            "[record...]]");
    g->span = calloc((size_t)n + 1, sizeof *g->span);
    g->rec = calloc(n_msgpack + 1, sizeof *g->rec);
    g->name = calloc(GOLD_RECORDS_MAX, sizeof *g->name);
    if (!g->span || !g->rec || !g->name)
        return sp_error_set(err, SP_E_DEVICE, "out of memory for %llu gold spans",
                            (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++)
        if (!take_span(g, &c))
            return sp_error_set(err, SP_E_DATA,
                                "gold span %llu is not [start, end, label, [record...]] with "
                                "start < end and at most %d records in the document",
                                (unsigned long long)i, GOLD_RECORDS_MAX);
    put_in_order(g);
    return SP_OK;
}

/* ---- which token carries which span ---- */

/* The span that token [start, end) carries: at least half of its bytes lie in it; a token of no
 * width has to be strictly inside. -1 for none. */
static int64_t span_of_token(const struct gold *g, uint64_t start, uint64_t end) {
    size_t low = 0, high = g->n_span;
    while (low < high) { /* the first span that ends behind the token's start */
        size_t mid = low + (high - low) / 2;
        if (g->span[mid].end > start)
            high = mid;
        else
            low = mid + 1;
    }
    if (end <= start) return low < g->n_span && g->span[low].start < start ? (int64_t)low : -1;
    int64_t best = -1;
    uint64_t most = 0;
    for (size_t i = low; i < g->n_span && g->span[i].start < end; i++) {
        uint64_t a = g->span[i].start > start ? g->span[i].start : start;
        uint64_t b = g->span[i].end < end ? g->span[i].end : end;
        if (b - a > most) most = b - a, best = (int64_t)i;
    }
    return best >= 0 && most >= end - start - most ? best : -1;
}

/* ---- prefixes ---- */

static bool is_institution(const struct gold_span *s) {
    const char *name = sp_field_name(SP_INSTITUTION);
    return s->n_label_bytes == strlen(name) && memcmp(s->label, name, s->n_label_bytes) == 0;
}

static bool names_record(const struct gold *g, const struct gold_span *s, uint32_t rec) {
    for (uint32_t i = 0; i < s->n_rec; i++)
        if (g->rec[s->rec + i] == rec) return true;
    return false;
}

static bool share_institution(const struct gold *g, uint32_t a, uint32_t b) {
    for (size_t i = 0; i < g->n_span; i++) {
        const struct gold_span *s = &g->span[i];
        if (s->used && s->n_rec > 1 && is_institution(s) && names_record(g, s, a) &&
            names_record(g, s, b))
            return true;
    }
    return false;
}

/* The one record that a span counts for: of those begun the latest; when none is, the one that
 * comes first with a span of its own. */
static uint32_t owner_of(const struct gold *g, const struct gold_span *s, const int64_t *begun,
                         const size_t *first_own) {
    uint32_t best = g->rec[s->rec];
    for (uint32_t i = 1; i < s->n_rec; i++) {
        uint32_t r = g->rec[s->rec + i];
        if (begun[r] > begun[best] ||
            (begun[r] < 0 && begun[best] < 0 && first_own[r] < first_own[best]))
            best = r;
    }
    return best;
}

static void set_prefixes(struct gold *g, int64_t *begun, size_t *first_own) {
    for (uint32_t r = 0; r < g->n_name; r++) begun[r] = -1, first_own[r] = SIZE_MAX;
    for (size_t i = g->n_span; i-- > 0;)
        if (g->span[i].used && g->span[i].n_rec == 1) first_own[g->rec[g->span[i].rec]] = i;
    int64_t n_begun = 0;
    uint32_t last = 0;
    for (size_t i = 0; i < g->n_span; i++) {
        struct gold_span *s = &g->span[i];
        s->prefix = 'B';
        if (!s->used || s->n_rec == 0) continue;
        uint32_t owner = owner_of(g, s, begun, first_own);
        if (begun[owner] >= 0) continue;
        s->prefix = n_begun > 0 && share_institution(g, last, owner) ? 'S' : 'N';
        begun[owner] = n_begun++;
        last = owner;
    }
}

static int32_t label_index(const struct sp_head *head, char prefix, const struct gold_span *s) {
    for (uint32_t i = 0; i < head->n_label; i++) {
        const char *l = head->label[i];
        if (l[0] == prefix && l[1] == '-' && strlen(l + 2) == s->n_label_bytes &&
            memcmp(l + 2, s->label, s->n_label_bytes) == 0)
            return (int32_t)i;
    }
    return -1;
}

/* A set without S says N for it, one without N (plain BIO) B. */
static int32_t first_label(const struct sp_head *head, const struct gold_span *s) {
    int32_t tag = label_index(head, s->prefix, s);
    if (tag < 0 && s->prefix == 'S') tag = label_index(head, 'N', s);
    if (tag < 0) tag = label_index(head, 'B', s);
    return tag;
}

static int32_t outside_label(const struct sp_head *head) {
    for (uint32_t i = 0; i < head->n_label; i++)
        if (strcmp(head->label[i], "O") == 0) return (int32_t)i;
    return -1;
}

enum sp_code sp_tags_from_spans(const struct sp_head *head, const void *msgpack, size_t n_msgpack,
                                const uint64_t *span, size_t n, int32_t *tag,
                                struct sp_error *err) {
    struct gold g = {0};
    int64_t begun[GOLD_RECORDS_MAX];
    size_t first_own[GOLD_RECORDS_MAX];
    enum sp_code code = gold_read(&g, msgpack, n_msgpack, err);
    if (code) {
        gold_free(&g);
        return code;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t s = span_of_token(&g, span[2 * i], span[2 * i + 1]);
        if (s >= 0) g.span[s].used = true;
    }
    set_prefixes(&g, begun, first_own);
    int32_t outside = outside_label(head);
    int64_t last = -1;
    for (size_t i = 0; i < n; i++) {
        /* A document that is read twice starts again. */
        if (i > 0 && span[2 * i] < span[2 * i - 2]) last = -1;
        int64_t s = span_of_token(&g, span[2 * i], span[2 * i + 1]);
        if (s < 0)
            tag[i] = outside;
        else
            tag[i] = s == last ? label_index(head, 'I', &g.span[s]) : first_label(head, &g.span[s]);
        last = s;
    }
    gold_free(&g);
    return SP_OK;
}
