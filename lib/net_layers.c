/* Layers over a stream of hidden states: documents, their states, and what is held of them. */
#include "net_layers_internal.h"
#include "model.h"
#include "net_stream.h"
#include "net_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- starting ------------------------------------------------------------------------------- */

enum sp_code sp_layers_new(struct sp_layers **l, const struct sp_layers_options *options,
                           struct sp_error *err) {
    *l = calloc(1, sizeof **l);
    if (!*l) return sp_error_memory(err, "a document");
    (*l)->o = *options;
    enum sp_code code = SP_OK;
    if (options->dump_state) code = sp_layers_check_dump(options->dump_state, 0, false, err);
    if (!code && options->checkpoint) code = sp_layers_checkpoint_open(*l, err);
    if (!code) return SP_OK;
    sp_layers_free(*l);
    *l = NULL;
    return code;
}

void sp_layers_free(struct sp_layers *l) {
    if (!l) return;
    sp_layers_checkpoint_free(l);
    sp_layers_cache_free(l);
    sp_layers_doc_free_all(l);
    sp_taken_clear(&l->files);
    sp_pack_clear(&l->pack);
    sp_state_gather_clear(&l->arrived);
    sp_state_free(l->state);
    sp_net_free(l->net);
    sp_model_free(l->model);
    if (l->be) l->be->free(l->be);
    free(l);
}

/* The state that arrived replaces the one there is. */
static enum sp_code use_state(struct sp_layers *l, struct sp_state *s, struct sp_error *err) {
    enum sp_code code = sp_state_check(s, l->model, (uint32_t)l->o.first, (uint32_t)l->o.last, err);
    if (!code) code = sp_state_check_stream(s, &l->hello, err);
    if (code) {
        sp_state_free(s);
        return code;
    }
    sp_state_free(l->state);
    l->state = s;
    return SP_OK;
}

static enum sp_code check_layers(struct sp_layers *l, const struct sp_hello *hello,
                                 struct sp_error *err) {
    if (l->o.first < 0 && hello->next_layer >= l->c->n_layer)
        return sp_error_set(err, SP_E_DATA, "every layer of the model has been run already");
    if (l->o.first < 0) l->o.first = hello->next_layer;
    if (l->o.last < 0) l->o.last = l->c->n_layer - 1;
    if (hello->n_layer != (uint64_t)l->c->n_layer)
        return sp_error_set(err, SP_E_DATA, "the stream is for a model of %u layers, not %lld",
                            hello->n_layer, (long long)l->c->n_layer);
    if (l->o.last >= l->c->n_layer || l->o.first > l->o.last)
        return sp_error_set(err, SP_E_USAGE, "layers %lld-%lld: the model has layers 0-%lld",
                            (long long)l->o.first, (long long)l->o.last,
                            (long long)l->c->n_layer - 1);
    if (hello->next_layer != (uint64_t)l->o.first)
        return sp_error_set(err, SP_E_DATA,
                            "the stream is to go into layer %u next, but this program runs layers "
                            "%lld-%lld: give -l so that every layer is run once, in order",
                            hello->next_layer, (long long)l->o.first, (long long)l->o.last);
    return SP_OK;
}

static enum sp_code load_initial(struct sp_layers *l, struct sp_error *err) {
    struct sp_state *s;
    if (!l->o.load_state) return SP_OK;
    enum sp_code code = sp_state_read(&s, l->o.load_state, err);
    if (code) return code; /* the file is named already */
    code = use_state(l, s, err);
    if (code) return sp_error_prefix(err, "%s", l->o.load_state);
    /* A head's first prediction comes from it, as from a state in the stream, which goes first. */
    struct sp_writer *w = sp_filter_writer(l->filter);
    return w && l->arrived.n == 0 ? sp_state_send_last(s, w, err) : SP_OK;
}

/* What computed rows add to what is known of their document. */
static enum sp_code on_rows(void *ctx, const struct sp_held *h, int64_t first, int64_t n,
                            struct sp_error *err) {
    struct sp_layers *l = ctx;
    struct sp_layers_doc *d = (struct sp_layers_doc *)h->doc;
    const struct sp_tensor *ids = sp_record_tensor(h->rec, "ids");
    (void)err;
    d->n_tok += (uint64_t)n;
    memcpy(d->last_hidden, h->hidden + (first + n - 1) * l->c->d_model,
           (size_t)l->c->d_model * sizeof(float));
    d->has_last = ids != NULL;
    if (!ids) return SP_OK;
    const uint32_t *id = (const uint32_t *)ids->data + first;
    sp_state_hash_ids(&d->prefix, id, (size_t)n);
    d->last_id = id[n - 1];
    if (!d->keeps) return SP_OK;
    sp_cache_trail_add(&d->trail, id, (size_t)n);
    sp_layers_cache_rows(l, d, h);
    return SP_OK;
}

static enum sp_code start(struct sp_layers *l, const struct sp_hello *hello, struct sp_error *err) {
    enum sp_code code = sp_stream_model_open(&l->model, l->o.model, hello, err);
    if (code) return code;
    l->c = sp_model_config(l->model);
    code = check_layers(l, hello, err);
    if (!code) code = sp_backend_open(&l->be, l->o.device, l->o.n_thread, err);
    if (code) return code;
    struct sp_net_options options = {(uint32_t)l->o.first, (uint32_t)l->o.last, l->o.dtype};
    code = sp_net_new(&l->net, l->model, l->be, &options, err);
    if (!code)
        code = sp_pack_new(&l->pack, l->net, l->c->d_model, SP_LAYERS_ROWS_MAX, SP_LAYERS_HELD_MAX,
                           err);
    if (code) return code;
    l->pack.on_rows = on_rows;
    l->pack.ctx = l;
    int64_t per_layer = l->c->d_inner * (l->c->d_state + l->c->d_conv);
    size_t state_bytes = (size_t)((l->o.last - l->o.first + 1) * per_layer) * sizeof(float);
    l->docs_max = SP_LAYERS_STATE_BYTES_MAX / state_bytes;
    if (l->docs_max > SP_LAYERS_DOCS_MAX) l->docs_max = SP_LAYERS_DOCS_MAX;
    if (l->docs_max < 1) l->docs_max = 1;
    code = load_initial(l, err);
    if (!code && l->checkpoint) code = sp_layers_checkpoint_check(l, err);
    if (!code && l->o.cache) code = sp_layers_cache_open(l, err);
    return code;
}

static enum sp_code on_hello(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err) {
    struct sp_layers *l = ctx;
    (void)rec;
    if (hello->content == SP_STATE) return SP_OK;
    l->hello = *hello;
    enum sp_code code = SP_OK;
    if (!l->model)
        code = start(l, hello, err);
    else if (!(code = sp_stream_model_check(l->model, hello, err)))
        code = check_layers(l, hello, err);
    if (code) return code;
    hello->model = *sp_model_fingerprint(l->model);
    hello->next_layer = (uint32_t)l->o.last + 1;
    if (l->arrived.n == 0) return SP_OK;
    struct sp_state *s;
    code = sp_state_gather_end(&l->arrived, &s, err);
    return code ? code : use_state(l, s, err);
}

/* ---- documents ------------------------------------------------------------------------------ */

/* The document that is being read has failed. */
static void drop_current(struct sp_layers *l) {
    sp_layers_cache_drop(l);
    sp_layers_doc_forget(l, l->current);
    l->current = NULL;
}

static enum sp_code dump(struct sp_layers *l, const struct sp_layers_doc *d,
                         const struct sp_state *s, struct sp_error *err) {
    char path[SP_LAYERS_PATH_MAX];
    enum sp_code code = sp_layers_dump_path(path, sizeof path, l, d, err);
    return code ? code : sp_state_write(s, path, err);
}

/* What is asked for of a document's state when it ends: a file, records in front of its DOCEND. One
 * that is left open goes on, maybe for a token only: its file is written when nothing more comes.
 */
static enum sp_code hand_out_state(struct sp_layers *l, const struct sp_layers_doc *d, bool open,
                                   struct sp_writer *w, struct sp_error *err) {
    bool emit = l->o.emit_state && w, file = l->o.dump_state && !open;
    if (!file && !emit) return SP_OK;
    struct sp_state *s;
    enum sp_code code = sp_layers_doc_state(l, d, &s, err);
    if (!code && file) code = dump(l, d, s, err);
    if (!code && emit) code = sp_state_send_records(s, &d->doc, w, err);
    sp_state_free(s);
    return code;
}

enum sp_code sp_layers_dump_open(struct sp_layers *l, struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (struct sp_layers_doc *d = l->open; !code && l->o.dump_state && d; d = d->next) {
        struct sp_state *s;
        code = sp_layers_doc_state(l, d, &s, err);
        if (!code) code = dump(l, d, s, err);
        sp_state_free(s);
    }
    return code;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Leaves out the first n rows of a CHUNK. */
static enum sp_code cut_rows(struct sp_record *rec, uint64_t n_row, uint64_t n,
                             struct sp_error *err) {
    uint64_t pos = 0;
    for (uint32_t i = 0; i < rec->n_tensor; i++) {
        struct sp_tensor *t = &rec->tensor[i];
        if (t->rank == 0 || t->dim[0] != n_row) continue;
        size_t row_bytes = t->n_bytes / n_row;
        t->dim[0] -= n;
        t->n_bytes -= n * row_bytes;
        memmove(t->data, (char *)t->data + n * row_bytes, t->n_bytes);
    }
    sp_record_get_u64(rec, "pos", &pos);
    return sp_record_set_u64(rec, "pos", pos + n, err);
}

static enum sp_code finish_chunk(struct sp_layers *l, const struct sp_held *h,
                                 struct sp_error *err) {
    if (!sp_weights_finite(h->hidden, SP_F32, (size_t)(h->n * l->c->d_model)))
        return sp_error_set(err, SP_E_DATA, "layers %lld-%lld give NaN or infinity",
                            (long long)l->o.first, (long long)l->o.last);
    enum sp_code code = SP_OK;
    if (h->known > 1) code = cut_rows(h->rec, (uint64_t)h->n, (uint64_t)h->known - 1, err);
    if (!code && l->o.wire == SP_BF16) code = sp_stream_to_bf16(h->rec, "hidden", err);
    return code;
}

static enum sp_code finish(struct sp_layers *l, struct sp_held *h, struct sp_writer *w,
                           struct sp_error *err) {
    struct sp_layers_doc *d = (struct sp_layers_doc *)h->doc;
    enum sp_code code = SP_OK;
    if (h->rec->kind == SP_KIND_CHUNK) code = finish_chunk(l, h, err);
    if (h->rec->kind == SP_KIND_DOCEND) sp_layers_cache_docend(l, d);
    if (!code && h->rec->kind == SP_KIND_DOCEND)
        code = hand_out_state(l, d, sp_layers_doc_stays_open(h->rec), w, err);
    return code || !w ? code : sp_writer_write(w, h->rec, err);
}

enum sp_code sp_layers_flush(struct sp_layers *l, struct sp_writer *w, struct sp_error *err) {
    if (l->pack.n == 0) return SP_OK;
    enum sp_code code = sp_pack_begin(&l->pack, err);
    for (size_t i = 0; i < l->pack.n && !code; i++) {
        struct sp_held *h = &l->pack.held[i];
        struct sp_layers_doc *d = (struct sp_layers_doc *)h->doc;
        if (h->landed < h->n) code = sp_pack_end(&l->pack, err);
        if (!code && !d->failed) code = finish(l, h, w, err);
        if (code == SP_E_DATA) {
            struct sp_error why = *err;
            d->failed = true;
            code = sp_filter_fail_doc(l->filter, d->doc, d->id, d->n_id, &why, err);
        }
        if (!code && h->rec->kind == SP_KIND_DOCEND) code = sp_layers_doc_end(l, d, h->rec, err);
        sp_record_free(h->rec);
        h->rec = NULL;
    }
    if (code) return code;
    l->pack.n = 0;
    /* The driver swallows the rest of a document that failed while it was read. */
    if (l->current && l->current->failed) drop_current(l);
    return SP_OK;
}

/* What is looked at ahead goes on waiting for input: only what is read decides, and not when. */
static enum sp_code on_idle(void *ctx, struct sp_writer *w, struct sp_error *err) {
    struct sp_layers *l = ctx;
    enum sp_code code = l->filter->waiting ? SP_OK : sp_layers_cache_settle(l, w, err);
    if (!code && !l->filter->waiting) code = sp_layers_cache_go_on(l, false, w, err);
    return code ? code : sp_layers_flush(l, w, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

static enum sp_code take_state(struct sp_layers *l, struct sp_record *rec, struct sp_writer *w,
                               struct sp_error *err) {
    bool is_last;
    uint32_t layer = 0;
    enum sp_code code = sp_state_record_layer(rec, &is_last, &layer, err);
    /* Without -l the first layer is not known yet: the HELLO of hidden states comes later. The last
     * token's record is for a head, and for the state of a document that adds no token. */
    bool ours =
        is_last ? sp_state_gather_lacks_last(&l->arrived)
                : (l->o.first < 0 || layer >= l->o.first) && (l->o.last < 0 || layer <= l->o.last);
    if (!code && (is_last || !ours)) code = w ? sp_writer_write(w, rec, err) : SP_OK;
    if (!code && !ours) {
        sp_record_free(rec);
        return SP_OK;
    }
    if (!code && !is_last && sp_state_gather_has(&l->arrived, layer))
        sp_state_gather_clear(&l->arrived); /* a newer state */
    if (!code) return sp_state_gather_add(&l->arrived, rec, err);
    sp_record_free(rec);
    return code;
}

/* Windows of reversed layers are counted from the document's DOC, and chunks are full of them but
 * for the last: none is cut, and none waits for the next chunk. */
static enum sp_code count_windows(struct sp_layers *l, uint64_t n_row, struct sp_error *err) {
    struct sp_layers_doc *d = l->current;
    const uint32_t window = l->c->reverse;
    const bool cut = window && n_row > 0 && d->n_row % window != 0;
    d->n_row += n_row;
    if (!cut) return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "a CHUNK begins inside a window of the reversed layers: tokenize --chunk "
                        "has to be a multiple of %u",
                        window);
}

/* What a CHUNK of the current document has to bring; *hidden its rows. */
static enum sp_code check_chunk(struct sp_layers *l, struct sp_record *rec,
                                struct sp_tensor **hidden, struct sp_error *err) {
    enum sp_code code = sp_stream_hidden(rec, l->c->d_model, hidden, err);
    if (code) return code;
    if ((l->o.dump_state || l->o.emit_state) && !sp_record_tensor(rec, "ids"))
        return sp_error_set(err, SP_E_DATA, "a CHUNK without `ids`, which a state needs");
    return count_windows(l, (*hidden)->dim[0], err);
}

/* There is room for a record. */
static enum sp_code make_room(struct sp_layers *l, struct sp_writer *w, struct sp_error *err) {
    if (l->pack.rows_held >= SP_LAYERS_ROWS_MAX || l->pack.n == l->pack.cap)
        return sp_layers_flush(l, w, err);
    return sp_pack_start(&l->pack, err);
}

enum sp_code sp_layers_hold_chunk(struct sp_layers *l, struct sp_record *rec, int64_t known,
                                  struct sp_writer *w, struct sp_error *err) {
    struct sp_tensor *hidden = sp_record_tensor(rec, "hidden");
    struct sp_held plan = {.rec = rec, .n = (int64_t)hidden->dim[0], .done = known, .known = known};
    enum sp_code code = sp_layers_cache_plan(l, &plan, w, err);
    if (code || !l->current) {
        sp_record_free(rec);
        return code;
    }
    plan.doc = &l->current->pack;
    plan.hidden = hidden->data;
    sp_pack_add(&l->pack, &plan);
    code = make_room(l, w, err);
    if (!code && l->checkpoint && plan.n > 0) code = sp_layers_checkpoint_chunk(l, plan.n, w, err);
    return code;
}

enum sp_code sp_layers_hold_other(struct sp_layers *l, struct sp_record *rec, struct sp_writer *w,
                                  struct sp_error *err) {
    enum sp_code code = sp_layers_cache_go_on(l, rec->kind == SP_KIND_DOCEND, w, err);
    if (code || !l->current) {
        sp_record_free(rec);
        return code;
    }
    sp_pack_add(&l->pack, &(struct sp_held){.rec = rec, .doc = &l->current->pack});
    if (rec->kind == SP_KIND_DOCEND) l->current = NULL;
    return make_room(l, w, err);
}

/* A record of the current document. */
static enum sp_code hold(struct sp_layers *l, struct sp_record *rec, struct sp_writer *w,
                         struct sp_error *err) {
    enum sp_code code = SP_OK;
    bool waits = false;
    if (rec->kind == SP_KIND_CHUNK) {
        struct sp_tensor *hidden;
        code = check_chunk(l, rec, &hidden, err);
        if (!code && l->cache) code = sp_layers_cache_chunk(l, rec, &waits, w, err);
        if (!code && !waits && l->current) return sp_layers_hold_chunk(l, rec, 0, w, err);
    } else if (rec->kind == SP_KIND_TEXT && l->cache) {
        code = sp_layers_cache_text(l, rec, &waits, err);
    } else if (rec->kind != SP_KIND_DOC) {
        code = sp_layers_cache_settle(l, w, err);
    }
    if (waits) return code;
    if (!code && l->current) return sp_layers_hold_other(l, rec, w, err);
    sp_record_free(rec);
    return code;
}

/* An error of the document stands behind its DOC. */
static enum sp_code begin(struct sp_layers *l, const struct sp_record *rec, struct sp_writer *w,
                          struct sp_error *err) {
    bool cont = false;
    enum sp_code code = SP_OK;
    sp_record_get_bool(rec, "cont", &cont);
    if ((cont && sp_layers_doc_waits(l, rec)) || l->n_doc >= l->docs_max + l->n_open)
        code = sp_layers_flush(l, w, err);
    if (!code) code = sp_layers_doc_start(l, rec, err);
    if (code != SP_E_DATA) return code;
    struct sp_error why = *err;
    code = sp_layers_flush(l, w, err);
    if (!code && w) code = sp_writer_write(w, rec, err);
    if (!code) *err = why;
    return code ? code : SP_E_DATA;
}

/* A record that a run before this one has computed and written: what it means for documents. */
static enum sp_code skip(struct sp_layers *l, struct sp_record *rec, struct sp_error *err) {
    struct sp_tensor *hidden;
    struct sp_layers_doc *d = l->current;
    enum sp_code code = SP_OK;
    if (rec->kind == SP_KIND_DOC) code = sp_layers_doc_start(l, rec, err);
    if (rec->kind == SP_KIND_CHUNK) code = check_chunk(l, rec, &hidden, err);
    if (rec->kind == SP_KIND_DOCEND) {
        l->current = NULL;
        code = sp_layers_doc_end(l, d, rec, err);
    }
    sp_record_free(rec);
    return code;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err) {
    struct sp_layers *l = ctx;
    uint64_t doc;
    if (rec->kind == SP_KIND_STATE && !sp_record_get_u64(rec, "doc", &doc))
        return take_state(l, rec, w, err);
    if (rec->kind == SP_KIND_HEAD) {
        sp_record_free(rec);
        return sp_error_set(err, SP_E_DATA, "a HEAD in a stream of hidden states");
    }
    enum sp_code code = SP_OK;
    bool skips = sp_layers_checkpoint_skips(l);
    if (rec->kind == SP_KIND_DOC && !skips)
        code = begin(l, rec, w, err);
    else if (rec->kind != SP_KIND_DOC && !l->current)
        code = sp_error_set(err, SP_E_BUG, "a record outside of a document");
    if (code) {
        sp_record_free(rec);
        return code;
    }
    if (skips) return skip(l, rec, err);
    if (rec->kind == SP_KIND_DOC && l->cache) sp_layers_cache_doc(l, rec);
    return hold(l, rec, w, err);
}

static enum sp_code on_read(void *ctx, const struct sp_record *rec, struct sp_error *err) {
    return sp_layers_checkpoint_read(ctx, rec, err);
}

static void on_drop(void *ctx, uint64_t doc) {
    struct sp_layers *l = ctx;
    if (l->current && l->current->doc == doc) drop_current(l);
}

void sp_layers_install(struct sp_layers *l, struct sp_filter *f) {
    l->filter = f;
    f->ctx = l;
    f->in = f->out = SP_HIDDEN;
    f->takes_states = true;
    f->on_hello = on_hello;
    f->on_record = on_record;
    f->on_idle = on_idle;
    f->on_drop = on_drop;
    if (l->checkpoint) f->on_read = on_read;
}

void sp_layers_describe(struct sp_layers *l, char *out, size_t size) {
    char backend[400] = "", reversed[400];
    if (size > 0) out[0] = 0;
    if (!l->net) return;
    l->be->describe(l->be, backend, sizeof backend);
    sp_config_describe_reverse(l->c, l->o.first, l->o.last, reversed, sizeof reversed);
    snprintf(out, size, "%s, layers %lld-%lld of %lld%s%s, products in %s; %s",
             sp_model_dir(l->model), (long long)l->o.first, (long long)l->o.last,
             (long long)l->c->n_layer, reversed[0] ? ", " : "", reversed, sp_dtype_name(l->o.dtype),
             backend);
}
