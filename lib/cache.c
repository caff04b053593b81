/* The cache: its listing, looking up, keeping. */
#include "cache.h"
#include "cache_folder.h"
#include "state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_BYTES 256
#define HINT_FACTOR 16
#define FRESH_NS ((int64_t)1000000000) /* a folder's time may stand still for less than this */

struct entry {
    uint64_t n_tok;
    struct sp_hash prefix;
    uint32_t hint[SP_CACHE_HINTS];
};

struct sp_cache {
    struct sp_cache_options o;
    char kind[64];         /* "MODEL.DTYPE.": what names of our entries begin with */
    struct timespec mtime; /* of the folder, when it was listed */
    int64_t listed_ns;     /* and when that was; 0: never */
    struct entry *entry;   /* (n), shortest first */
    size_t n, cap;
    /* The document that is looked for: indices of entry. */
    size_t *candidate; /* (cap): may still match, longer than what was read; shortest first */
    size_t n_candidate;
    size_t *match; /* (cap): shortest first */
    size_t n_match;
    bool told; /* that something cannot be kept */
};

static void tell(const struct sp_cache *c, bool warning, const char *message) {
    char line[700];
    snprintf(line, sizeof line, "cache %.100s: %s", c->o.dir, message);
    if (c->o.say) c->o.say(warning, line);
}

/* ---- trails --------------------------------------------------------------------------------- */

/* Tokens before the hint with this number. */
static uint64_t hint_place(size_t i) {
    uint64_t place = SP_CACHE_TOKENS_MIN;
    while (i-- > 0) place *= HINT_FACTOR;
    return place;
}

static uint32_t hint_of(const struct sp_hash *prefix) {
    uint32_t h;
    memcpy(&h, prefix->byte, sizeof h);
    return h;
}

/* Goes on by at most n tokens, and not past the next hint. */
static size_t step(struct sp_cache_trail *t, const uint32_t *id, size_t n) {
    size_t i = 0;
    while (i < SP_CACHE_HINTS && hint_place(i) <= t->n_tok) i++;
    bool hinted = i < SP_CACHE_HINTS && hint_place(i) - t->n_tok <= n;
    if (hinted) n = (size_t)(hint_place(i) - t->n_tok);
    sp_state_hash_ids(&t->prefix, id, n);
    t->n_tok += n;
    if (hinted) t->hint[i] = hint_of(&t->prefix);
    return n;
}

void sp_cache_trail_add(struct sp_cache_trail *t, const uint32_t *id, size_t n) {
    while (n > 0) {
        size_t k = step(t, id, n);
        id += k;
        n -= k;
    }
}

/* ---- names ---------------------------------------------------------------------------------- */

static void entry_name(const struct sp_cache *c, const struct entry *e, char name[NAME_BYTES]) {
    char hex[SP_HASH_HEX_SIZE];
    sp_hash_hex(&e->prefix, hex);
    int at = snprintf(name, NAME_BYTES, "%s%" PRIu64 ".%s.", c->kind, e->n_tok, hex);
    for (size_t i = 0; i < SP_CACHE_HINTS && hint_place(i) <= e->n_tok; i++)
        at += snprintf(name + at, NAME_BYTES - (size_t)at, "%08" PRIx32, e->hint[i]);
    snprintf(name + at, NAME_BYTES - (size_t)at, "%s", SP_CACHE_SUFFIX);
}

static bool read_hex(const char **s, size_t digits, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = *(*s)++;
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0) return false;
        *out = *out * 16 + (uint64_t)v;
    }
    return true;
}

/* Is it the name of an entry of ours? */
static bool parse_name(const struct sp_cache *c, const char *name, struct entry *e) {
    char again[NAME_BYTES], *end;
    uint64_t v;
    size_t n = strlen(c->kind);
    *e = (struct entry){0};
    if (strncmp(name, c->kind, n) != 0) return false;
    errno = 0;
    e->n_tok = strtoull(name + n, &end, 10);
    const char *s = end;
    if (errno || *s++ != '.') return false;
    for (size_t i = 0; i < sizeof e->prefix.byte; i++) {
        if (!read_hex(&s, 2, &v)) return false;
        e->prefix.byte[i] = (uint8_t)v;
    }
    if (*s++ != '.') return false;
    for (size_t i = 0; i < SP_CACHE_HINTS && hint_place(i) <= e->n_tok; i++) {
        if (!read_hex(&s, 8, &v)) return false;
        e->hint[i] = (uint32_t)v;
    }
    entry_name(c, e, again);
    return strcmp(name, again) == 0;
}

/* ---- listing -------------------------------------------------------------------------------- */

static int by_length(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->n_tok != y->n_tok) return x->n_tok < y->n_tok ? -1 : 1;
    return memcmp(x->prefix.byte, y->prefix.byte, sizeof x->prefix.byte);
}

static bool reserve(struct sp_cache *c) {
    if (c->n < c->cap) return true;
    size_t cap = c->cap ? 2 * c->cap : 256;
    struct entry *entry = realloc(c->entry, cap * sizeof *entry);
    if (entry) c->entry = entry;
    size_t *candidate = realloc(c->candidate, cap * sizeof *candidate);
    if (candidate) c->candidate = candidate;
    size_t *match = realloc(c->match, cap * sizeof *match);
    if (match) c->match = match;
    if (!entry || !candidate || !match) return false;
    c->cap = cap;
    return true;
}

static void take_name(void *ctx, const char *name) {
    struct sp_cache *c = ctx;
    struct entry e;
    if (!parse_name(c, name, &e) || !reserve(c)) return;
    c->entry[c->n++] = e;
}

static int64_t nanoseconds(const struct timespec *t) {
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

/* What other processes have added since. */
static void list(struct sp_cache *c) {
    struct stat st;
    struct timespec now;
    if (stat(c->o.dir, &st) != 0) return;
    clock_gettime(CLOCK_REALTIME, &now);
    bool changed = memcmp(&st.st_mtim, &c->mtime, sizeof c->mtime) != 0;
    if (!changed && c->listed_ns - nanoseconds(&c->mtime) > FRESH_NS) return;
    c->n = 0;
    sp_cache_folder_each(c->o.dir, take_name, c);
    if (c->n) qsort(c->entry, c->n, sizeof *c->entry, by_length);
    c->mtime = st.st_mtim;
    c->listed_ns = nanoseconds(&now);
}

enum sp_code sp_cache_open(struct sp_cache **out, const struct sp_cache_options *o,
                           struct sp_error *err) {
    char hex[SP_HASH_HEX_SIZE];
    *out = NULL;
    enum sp_code code = sp_cache_folder_make(o->dir, err);
    if (code) return code;
    struct sp_cache *c = calloc(1, sizeof *c);
    if (!c) return sp_error_memory(err, "a cache");
    c->o = *o;
    sp_hash_hex(sp_model_fingerprint(o->model), hex);
    snprintf(c->kind, sizeof c->kind, "%.16s.%s.", hex, sp_dtype_name(o->dtype));
    *out = c;
    return SP_OK;
}

void sp_cache_free(struct sp_cache *c) {
    if (!c) return;
    free(c->entry);
    free(c->candidate);
    free(c->match);
    free(c);
}

/* ---- looking up ----------------------------------------------------------------------------- */

/* Is the entry, which is longer than the trail, ruled out by a hint? */
static bool differs(const struct entry *e, const struct sp_cache_trail *t) {
    for (size_t i = 0; i < SP_CACHE_HINTS && hint_place(i) <= t->n_tok; i++)
        if (e->hint[i] && t->hint[i] && e->hint[i] != t->hint[i]) return true;
    return false;
}

bool sp_cache_look(struct sp_cache *c, const struct sp_cache_trail *t) {
    list(c);
    c->n_candidate = c->n_match = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->entry[i].n_tok > t->n_tok && !differs(&c->entry[i], t))
            c->candidate[c->n_candidate++] = i;
    return c->n_candidate > 0;
}

/* Keeps the candidates that go on behind the trail, and notes those that end there and match. */
static void filter(struct sp_cache *c, const struct sp_cache_trail *t) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n_candidate; i++) {
        const struct entry *e = &c->entry[c->candidate[i]];
        if (e->n_tok == t->n_tok) {
            if (sp_hash_equal(&e->prefix, &t->prefix)) c->match[c->n_match++] = c->candidate[i];
        } else if (!differs(e, t)) {
            c->candidate[kept++] = c->candidate[i];
        }
    }
    c->n_candidate = kept;
}

bool sp_cache_look_on(struct sp_cache *c, struct sp_cache_trail *t, const uint32_t *id, size_t n) {
    while (n > 0) {
        size_t k = n;
        uint64_t before = t->n_tok;
        if (c->n_candidate > 0) {
            uint64_t left = c->entry[c->candidate[0]].n_tok - t->n_tok;
            if (left < k) k = (size_t)left;
        }
        k = step(t, id, k);
        id += k;
        n -= k;
        bool hinted = false;
        for (size_t i = 0; i < SP_CACHE_HINTS; i++)
            hinted = hinted || (hint_place(i) > before && hint_place(i) <= t->n_tok);
        if (c->n_candidate > 0 && (hinted || c->entry[c->candidate[0]].n_tok == t->n_tok))
            filter(c, t);
    }
    return c->n_candidate > 0;
}

/* The state of an entry, if it is what its name says. */
static enum sp_code load(const struct sp_cache *c, const struct entry *e, const char *path,
                         struct sp_state **s, struct sp_error *err) {
    uint32_t last = (uint32_t)sp_model_config(c->o.model)->n_layer - 1;
    enum sp_code code = sp_state_read(s, path, err);
    if (code) return code;
    code = sp_state_check(*s, c->o.model, 0, last, err);
    if (!code && ((*s)->n_tok != e->n_tok || !sp_hash_equal(&(*s)->prefix, &e->prefix) ||
                  (*s)->origin != SP_ORIGIN_READ || !(*s)->has_last))
        code = sp_error_set(err, SP_E_DATA, "%s is not the state that its name says", path);
    if (!code) return SP_OK;
    sp_state_free(*s);
    *s = NULL;
    return code;
}

struct sp_state *sp_cache_take(struct sp_cache *c) {
    char name[NAME_BYTES], path[SP_CACHE_PATH_BYTES];
    struct sp_error err;
    c->n_candidate = 0;
    while (c->n_match > 0) {
        const struct entry *e = &c->entry[c->match[--c->n_match]];
        struct sp_state *s = NULL;
        entry_name(c, e, name);
        if (!sp_cache_folder_path(path, c->o.dir, name)) continue;
        enum sp_code code = load(c, e, path, &s, &err);
        if (!code) {
            sp_cache_folder_touch(path);
            return s;
        }
        if (code == SP_E_NOINPUT) continue; /* it has made room for another meanwhile */
        if (code == SP_E_DATA) {
            sp_error_prefix(&err, "removed, and written again when it is read the next time");
            unlink(path);
        }
        tell(c, true, err.msg);
        c->listed_ns = 0;
    }
    return NULL;
}

/* ---- keeping -------------------------------------------------------------------------------- */

void sp_cache_put(struct sp_cache *c, const struct sp_state *s, const struct sp_cache_trail *t) {
    char name[NAME_BYTES], path[SP_CACHE_PATH_BYTES];
    struct sp_error err;
    if (s->origin != SP_ORIGIN_READ || !s->has_last || s->n_tok < SP_CACHE_TOKENS_MIN ||
        s->n_tok != t->n_tok || !sp_hash_equal(&s->prefix, &t->prefix))
        return;
    struct entry e = {.n_tok = t->n_tok, .prefix = t->prefix};
    memcpy(e.hint, t->hint, sizeof e.hint);
    entry_name(c, &e, name);
    if (!sp_cache_folder_path(path, c->o.dir, name)) return;
    if (access(path, F_OK) == 0) {
        sp_cache_folder_touch(path);
        return;
    }
    if (!sp_cache_folder_put(c->o.dir, name, s, c->o.bytes_max, &err) || c->told) return;
    c->told = true;
    tell(c, true, err.msg);
}
