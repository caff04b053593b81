/* The layers' filter and its cache of states: documents that start from a state that was kept, and
 * places at which states are kept.
 *
 * A document is looked at ahead until no longer state in the cache can be of its tokens: its chunks
 * wait, with the texts between them, without their hidden states, which the model's embedding gives
 * again. What a document is then never depends on when it comes. Behind that, a full chunk waits
 * for what follows it, which tells whether it is the document's end. Only documents whose hidden
 * states are the embedding's are looked up and kept: for others the tokens do not tell the state.
 * Nor do they with reversed layers, unless every window is whole and counted from the first token.
 */
#include "cache.h"
#include "net_layers_internal.h"
#include "net_weights.h"
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX ((size_t)1 << 16) /* chunks looked at ahead: 16 million tokens */

struct sp_layers_cache {
    struct sp_cache *cache;
    bool looking;                /* the current document waits */
    struct sp_cache_trail start; /* of that document */
    struct sp_record **waiting;  /* (n) its texts, and chunks without `hidden` */
    size_t n, cap;
    struct sp_record *full; /* its chunk that waits for what follows, or NULL */
    int64_t full_known;     /* rows of it */
    bool ends;              /* the chunk that is being planned is its last */
    float *row;             /* (row_cap) */
    size_t row_cap;
};

static void forget_waiting(struct sp_layers_cache *c) {
    for (size_t i = 0; i < c->n; i++) sp_record_free(c->waiting[i]);
    c->n = 0;
    c->looking = false;
    sp_record_free(c->full);
    c->full = NULL;
}

enum sp_code sp_layers_cache_open(struct sp_layers *l, struct sp_error *err) {
    if (l->o.first != 0 || l->o.last != l->c->n_layer - 1)
        return sp_error_set(err, SP_E_USAGE,
                            "--cache needs all layers in one process: what it leaves out, another "
                            "one would miss");
    struct sp_layers_cache *c = l->cache = calloc(1, sizeof *c);
    if (!c) return sp_error_memory(err, "a cache");
    const struct sp_cache_options o = {.dir = l->o.cache,
                                       .bytes_max = (uint64_t)l->o.cache_bytes_max,
                                       .model = l->model,
                                       .dtype = l->o.dtype,
                                       .say = l->o.say};
    return sp_cache_open(&c->cache, &o, err);
}

void sp_layers_cache_free(struct sp_layers *l) {
    struct sp_layers_cache *c = l->cache;
    if (!c) return;
    forget_waiting(c);
    sp_cache_free(c->cache);
    free(c->waiting);
    free(c->row);
    free(c);
    l->cache = NULL;
}

/* ---- which documents ------------------------------------------------------------------------ */

/* Does no window of reversed layers go across the end of so many tokens? */
static bool whole_windows(const struct sp_layers *l, uint64_t n_tok) {
    return !l->c->reverse || n_tok % l->c->reverse == 0;
}

/* DOC's `marks`: byte offsets, growing. */
static void read_marks(struct sp_layers_doc *d, const struct sp_record *rec) {
    const void *raw;
    size_t n;
    struct sp_wire_item item;
    d->n_mark = 0;
    if (!sp_record_get_raw(rec, "marks", &raw, &n)) return;
    const uint8_t *p = raw, *end = p + n;
    if (sp_wire_item(p, n, &item) != SP_WIRE_COMPLETE || item.type != SP_WIRE_ARRAY) return;
    uint64_t count = item.count;
    p += item.head;
    for (uint64_t i = 0; i < count && d->n_mark < SP_LAYERS_MARKS_MAX; i++) {
        if (sp_wire_item(p, (size_t)(end - p), &item) != SP_WIRE_COMPLETE ||
            item.type != SP_WIRE_INT)
            return;
        uint64_t v = item.body ? 0 : p[0];
        for (size_t b = 0; b < item.body; b++) v = v << 8 | p[item.head + b];
        d->mark[d->n_mark++] = v;
        p += item.head + item.body;
    }
}

void sp_layers_cache_doc(struct sp_layers *l, const struct sp_record *rec) {
    struct sp_layers_cache *c = l->cache;
    struct sp_layers_doc *d = l->current;
    bool cont = false;
    sp_record_get_bool(rec, "cont", &cont);
    d->end_kept = false;
    d->pad = 0;
    sp_record_get_u64(rec, "pad", &d->pad);
    read_marks(d, rec);
    if (cont) {
        d->keeps = d->keeps && whole_windows(l, d->n_tok);
        return;
    }
    d->keeps = d->origin == SP_ORIGIN_READ && (d->n_tok == 0 || !l->c->reverse);
    d->trail = (struct sp_cache_trail){.prefix = d->prefix, .n_tok = d->n_tok};
    d->n_held = d->n_tok;
    c->start = d->trail;
    c->looking = d->keeps && sp_cache_look(c->cache, &d->trail);
}

static float *row_space(struct sp_layers_cache *c, size_t n) {
    if (n <= c->row_cap) return c->row;
    free(c->row);
    c->row = malloc(n * sizeof *c->row);
    c->row_cap = c->row ? n : 0;
    return c->row;
}

/* Are the rows what the embedding gives for the ids? */
static bool is_embedded(struct sp_layers *l, struct sp_record *rec) {
    const struct sp_tensor *ids = sp_record_tensor(rec, "ids"),
                           *hidden = sp_record_tensor(rec, "hidden");
    struct sp_error ignored;
    if (!ids) return false;
    float *row = row_space(l->cache, hidden->n_bytes / sizeof(float));
    return row && !sp_embed(l->model, ids->data, (int64_t)ids->dim[0], row, &ignored) &&
           memcmp(row, hidden->data, hidden->n_bytes) == 0;
}

/* ---- marks ---------------------------------------------------------------------------------- */

/* The row before which the token at a byte offset begins, or would be cut; -1: not in this chunk.
 */
static int64_t row_of_mark(const struct sp_tensor *span, uint64_t mark) {
    const uint64_t *s = span->data;
    for (uint64_t i = 0; i < span->dim[0]; i++) {
        if (s[2 * i + 1] == mark) return (int64_t)i + 1;
        if (s[2 * i + 1] > mark) return (int64_t)i;
    }
    return -1;
}

/* The marks that lie in a chunk are done with; *row: of the next of them. */
static bool next_mark(struct sp_layers_doc *d, const struct sp_record *rec, int64_t *row) {
    const struct sp_tensor *span = sp_record_tensor((struct sp_record *)(uintptr_t)rec, "span");
    if (!span || d->n_mark == 0) return false;
    *row = row_of_mark(span, d->mark[0]);
    if (*row < 0) return false;
    memmove(d->mark, d->mark + 1, --d->n_mark * sizeof *d->mark);
    return true;
}

/* ---- looking -------------------------------------------------------------------------------- */

static enum sp_code wait_with(struct sp_layers_cache *c, struct sp_record *rec,
                              struct sp_error *err) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct sp_record **grown = realloc(c->waiting, cap * sizeof *grown);
        if (!grown) {
            sp_record_free(rec);
            return sp_error_memory(err, "a document");
        }
        c->waiting = grown;
        c->cap = cap;
    }
    c->waiting[c->n++] = rec;
    return SP_OK;
}

enum sp_code sp_layers_cache_text(struct sp_layers *l, struct sp_record *rec, bool *waits,
                                  struct sp_error *err) {
    *waits = l->cache->looking;
    return *waits ? wait_with(l->cache, rec, err) : SP_OK;
}

void sp_layers_cache_drop(struct sp_layers *l) {
    if (l->cache) forget_waiting(l->cache);
}

/* Hidden states of a chunk that waited: those of its first `known` rows are not needed, but for the
 * last of them, which the cached state brings along. */
static enum sp_code embed_again(struct sp_layers *l, struct sp_record *rec, int64_t known,
                                struct sp_error *err) {
    const struct sp_tensor *ids = sp_record_tensor(rec, "ids");
    uint64_t dim[2] = {ids->dim[0], (uint64_t)l->c->d_model};
    size_t d = (size_t)l->c->d_model;
    struct sp_tensor hidden;
    enum sp_code code = sp_tensor_new(&hidden, SP_F32, 2, dim, err);
    if (code) return code;
    float *row = hidden.data;
    memset(row, 0, (size_t)known * d * sizeof(float));
    if (known > 0)
        memcpy(row + (size_t)(known - 1) * d, l->current->last_hidden, d * sizeof(float));
    code = sp_embed(l->model, (const uint32_t *)ids->data + known, (int64_t)dim[0] - known,
                    row + (size_t)known * d, err);
    if (!code) return sp_record_put_tensor(rec, "hidden", &hidden, err);
    sp_tensor_clear(&hidden);
    return code;
}

enum sp_code sp_layers_cache_go_on(struct sp_layers *l, bool ends, struct sp_writer *w,
                                   struct sp_error *err) {
    struct sp_layers_cache *c = l->cache;
    if (!c || !c->full) return SP_OK;
    struct sp_record *rec = c->full;
    c->full = NULL;
    c->ends = ends;
    enum sp_code code = sp_layers_hold_chunk(l, rec, c->full_known, w, err);
    c->ends = false;
    return code;
}

static bool is_short(const struct sp_record *rec) {
    bool last = false;
    sp_record_get_bool(rec, "last", &last);
    return last;
}

/* A CHUNK follows. *waits: it was taken over, as it may be the document's last. */
static enum sp_code follow(struct sp_layers *l, struct sp_record *rec, int64_t known, bool *waits,
                           struct sp_writer *w, struct sp_error *err) {
    struct sp_layers_cache *c = l->cache;
    enum sp_code code = sp_layers_cache_go_on(l, false, w, err);
    *waits = !code && l->current && l->current->keeps && !is_short(rec);
    if (!*waits) return code;
    c->full = rec;
    c->full_known = known;
    return SP_OK;
}

/* A chunk of the document in which `skip` tokens are known; none of its rows if they are known
 * before the last of them. */
static enum sp_code let_go(struct sp_layers *l, struct sp_record *rec, uint64_t at, uint64_t skip,
                           struct sp_writer *w, struct sp_error *err) {
    uint64_t n = sp_record_tensor(rec, "ids")->dim[0];
    int64_t row;
    if (skip > 0 && at + n < skip) {
        l->current->n_held += n;
        while (next_mark(l->current, rec, &row)) continue;
        sp_record_free(rec);
        return SP_OK;
    }
    bool waits = false;
    int64_t known = skip <= at ? 0 : (int64_t)(skip - at < n ? skip - at : n);
    enum sp_code code = embed_again(l, rec, known, err);
    if (!code) code = follow(l, rec, known, &waits, w, err);
    if (waits) return code;
    if (code || !l->current) {
        sp_record_free(rec);
        return code;
    }
    return sp_layers_hold_chunk(l, rec, known, w, err);
}

static void say_hit(struct sp_layers *l, const struct sp_layers_doc *d, uint64_t skip) {
    char what[200];
    if (!l->o.say) return;
    snprintf(what, sizeof what, "document '%.*s': %llu tokens are in the cache and not read again",
             (int)(d->n_id < 80 ? d->n_id : 80), d->id, (unsigned long long)skip);
    l->o.say(false, what);
}

enum sp_code sp_layers_cache_settle(struct sp_layers *l, struct sp_writer *w,
                                    struct sp_error *err) {
    struct sp_layers_cache *c = l->cache;
    struct sp_layers_doc *d = l->current;
    if (!c || !c->looking) return SP_OK;
    c->looking = false;
    struct sp_state *s = sp_cache_take(c->cache);
    uint64_t skip = s ? s->n_tok - c->start.n_tok : 0, at = 0;
    enum sp_code code = s ? sp_layers_doc_load(l, d, s, err) : SP_OK;
    sp_state_free(s);
    d->trail.prefix = d->prefix;
    d->trail.n_tok = d->n_tok;
    if (!code && skip) say_hit(l, d, skip);
    for (size_t i = 0; i < c->n; i++) {
        struct sp_record *rec = c->waiting[i];
        c->waiting[i] = NULL; /* all that are there are dropped where the document fails */
        bool text = rec->kind == SP_KIND_TEXT;
        uint64_t n = text ? 0 : sp_record_tensor(rec, "ids")->dim[0];
        if (code || !l->current) /* it may fail when what came before is written */
            sp_record_free(rec);
        else
            code = text ? sp_layers_hold_other(l, rec, w, err) : let_go(l, rec, at, skip, w, err);
        at += n;
    }
    c->n = 0;
    return code;
}

enum sp_code sp_layers_cache_chunk(struct sp_layers *l, struct sp_record *rec, bool *waits,
                                   struct sp_writer *w, struct sp_error *err) {
    struct sp_layers_cache *c = l->cache;
    struct sp_layers_doc *d = l->current;
    enum sp_code code = SP_OK;
    *waits = false;
    if (d->keeps && !is_embedded(l, rec)) d->keeps = false;
    if (!d->keeps) code = sp_layers_cache_settle(l, w, err);
    if (code || !l->current) return code;
    if (!c->looking) return follow(l, rec, 0, waits, w, err);
    const struct sp_tensor *ids = sp_record_tensor(rec, "ids");
    bool more = sp_cache_look_on(c->cache, &d->trail, ids->data, (size_t)ids->dim[0]);
    sp_record_drop_tensor(rec, "hidden");
    code = wait_with(c, rec, err);
    *waits = true;
    if (code || (more && c->n < WAITING_MAX)) return code;
    return sp_layers_cache_settle(l, w, err);
}

/* ---- keeping -------------------------------------------------------------------------------- */

static void keep(struct sp_layers *l, struct sp_layers_doc *d) {
    struct sp_error err;
    struct sp_state *s;
    if (!d->keeps || d->n_tok < SP_CACHE_TOKENS_MIN || !whole_windows(l, d->n_tok)) return;
    if (sp_layers_doc_state(l, d, &s, &err)) {
        if (l->o.say) l->o.say(true, err.msg);
        return;
    }
    size_t layers = s->layer_last - s->layer_first + 1;
    if (sp_weights_finite(s->ssm, SP_F32, layers * sp_state_ssm_size(s)) &&
        sp_weights_finite(s->conv, SP_F32, layers * sp_state_conv_size(s)) &&
        sp_weights_finite(s->last_hidden, SP_F32, (size_t)s->d_model))
        sp_cache_put(l->cache->cache, s, &d->trail);
    sp_state_free(s);
}

/* A stop behind a row, or where its window begins. *before: that is in front of the chunk. */
static void add_stop(const struct sp_layers *l, struct sp_held *h, int64_t row, bool *before) {
    int64_t i = h->n_stop;
    if (l->c->reverse) row -= row % l->c->reverse;
    *before = *before || row == 0;
    if (row <= h->done || row > h->n || h->n_stop == SP_PACK_STOPS_MAX) return;
    for (; i > 0 && h->stop[i - 1] >= row; i--)
        if (h->stop[i - 1] == row) return;
    memmove(h->stop + i + 1, h->stop + i, (size_t)(h->n_stop - i) * sizeof *h->stop);
    h->stop[i] = row;
    h->n_stop++;
}

/* Rows of a chunk behind which the state is to be kept; *before: also in front of it. */
static void choose_stops(struct sp_layers *l, struct sp_layers_doc *d, struct sp_held *h,
                         bool *before) {
    uint64_t every = (uint64_t)l->o.cache_every;
    uint64_t multiple = (d->n_held + (uint64_t)h->n) / every * every;
    if (multiple > d->n_held) add_stop(l, h, (int64_t)(multiple - d->n_held), before);
    bool last = l->cache->ends || is_short(h->rec);
    int64_t end = h->n - 1 - (int64_t)(d->pad < INT32_MAX ? d->pad : INT32_MAX);
    if (last && end >= 0) {
        d->end_kept = true;
        add_stop(l, h, end, before);
    }
    int64_t row;
    while (next_mark(d, h->rec, &row)) add_stop(l, h, row, before);
    /* Fewer rows take the path of decoding, where one token and several are not the same. */
    if (h->n - h->known < SP_STEP_ROWS && h->n_stop > 0) {
        h->n_stop = h->stop[h->n_stop - 1] == h->n;
        h->stop[0] = h->n;
    }
}

enum sp_code sp_layers_cache_plan(struct sp_layers *l, struct sp_held *plan, struct sp_writer *w,
                                  struct sp_error *err) {
    struct sp_layers_doc *d = l->current;
    bool before = false;
    if (!l->cache || plan->n == 0) return SP_OK;
    if (d->keeps) choose_stops(l, d, plan, &before);
    if (before && plan->known == 0 && d->n_held >= SP_CACHE_TOKENS_MIN) {
        enum sp_code code = sp_layers_flush(l, w, err);
        if (code || !l->current) return code;
        keep(l, d);
    }
    d->n_held += (uint64_t)plan->n;
    return SP_OK;
}

void sp_layers_cache_rows(struct sp_layers *l, struct sp_layers_doc *d, const struct sp_held *h) {
    for (int64_t i = 0; i < h->n_stop; i++)
        if (h->stop[i] == h->done) keep(l, d);
}

void sp_layers_cache_docend(struct sp_layers *l, struct sp_layers_doc *d) {
    if (l->cache && !d->end_kept) keep(l, d);
}
