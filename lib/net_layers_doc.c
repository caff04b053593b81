/* Documents of the layers' filter: where they start from, and what is kept of them. */
#include "net_layers_internal.h"

#include <stdlib.h>
#include <string.h>

static void document_free(struct sp_layers *l, struct sp_layers_doc *d) {
    if (!d) return;
    sp_seq_free(l->net, d->pack.seq);
    free(d->last_hidden);
    free(d);
}

void sp_layers_doc_free_all(struct sp_layers *l) {
    for (struct sp_layers_doc *d = l->all, *other; d; d = other) {
        other = d->other;
        document_free(l, d);
    }
    l->all = l->open = l->free = l->current = NULL;
}

void sp_layers_doc_forget(struct sp_layers *l, struct sp_layers_doc *d) {
    d->next = l->free;
    l->free = d;
    l->n_doc--;
}

enum sp_code sp_layers_doc_load(struct sp_layers *l, struct sp_layers_doc *d,
                                const struct sp_state *s, struct sp_error *err) {
    static const struct sp_state nothing = {.origin = SP_ORIGIN_READ};
    enum sp_code code =
        s ? sp_seq_load(l->net, d->pack.seq, s, err) : sp_seq_reset(l->net, d->pack.seq, err);
    if (code) return code;
    if (!s) s = &nothing;
    d->prefix = s->prefix;
    d->n_tok = s->n_tok;
    d->origin = s->origin;
    d->has_last = s->has_last;
    d->last_id = s->last_id;
    if (d->has_last) memcpy(d->last_hidden, s->last_hidden, (size_t)l->c->d_model * sizeof(float));
    return SP_OK;
}

/* With a state of its own, whatever is in it. */
static enum sp_code document_take(struct sp_layers *l, struct sp_layers_doc **out,
                                  struct sp_error *err) {
    struct sp_layers_doc *d = l->free;
    if (d) {
        l->free = d->next;
    } else {
        d = calloc(1, sizeof *d);
        if (d) d->last_hidden = malloc((size_t)l->c->d_model * sizeof(float));
        enum sp_code code = d && d->last_hidden ? sp_seq_new(l->net, &d->pack.seq, err)
                                                : sp_error_memory(err, "a document");
        if (code) {
            document_free(l, d);
            return code;
        }
        d->other = l->all;
        l->all = d;
    }
    l->n_doc++;
    d->next = NULL;
    d->failed = false;
    *out = d;
    return SP_OK;
}

static enum sp_code document_new(struct sp_layers *l, struct sp_layers_doc **out,
                                 struct sp_error *err) {
    enum sp_code code = document_take(l, out, err);
    if (code) return code;
    code = sp_layers_doc_load(l, *out, l->state, err);
    if (code) sp_layers_doc_forget(l, *out);
    return code;
}

/* A document of its own that has read what d has. */
static enum sp_code document_fork(struct sp_layers *l, const struct sp_layers_doc *d,
                                  struct sp_layers_doc **out, struct sp_error *err) {
    enum sp_code code = document_take(l, out, err);
    if (code) return code;
    struct sp_layers_doc *copy = *out;
    code = sp_seq_copy(l->net, copy->pack.seq, d->pack.seq, err);
    if (code) {
        sp_layers_doc_forget(l, copy);
        return code;
    }
    copy->prefix = d->prefix;
    copy->n_tok = d->n_tok;
    copy->origin = d->origin;
    copy->last_id = d->last_id;
    copy->has_last = d->has_last;
    memcpy(copy->last_hidden, d->last_hidden, (size_t)l->c->d_model * sizeof(float));
    copy->n_id = d->n_id;
    memcpy(copy->id, d->id, d->n_id);
    return SP_OK;
}

static bool has_id(const struct sp_layers_doc *d, const struct sp_record *rec) {
    const char *id = "";
    size_t n_id = 0;
    sp_record_get_str(rec, "id", &id, &n_id);
    return d->n_id == n_id && memcmp(d->id, id, n_id) == 0;
}

bool sp_layers_doc_stays_open(const struct sp_record *docend) {
    const char *status = "";
    size_t n = 0;
    sp_record_get_str(docend, "status", &status, &n);
    return n == 4 && memcmp(status, "open", 4) == 0;
}

bool sp_layers_doc_waits(const struct sp_layers *l, const struct sp_record *rec) {
    for (size_t i = 0; i < l->pack.n; i++) {
        const struct sp_held *h = &l->pack.held[i];
        if (h->rec->kind == SP_KIND_DOCEND && sp_layers_doc_stays_open(h->rec) &&
            has_id((const struct sp_layers_doc *)h->doc, rec))
            return true;
    }
    return false;
}

/* The document that was left open under the id of rec. */
static enum sp_code document_continue(struct sp_layers *l, const struct sp_record *rec, bool fork,
                                      struct sp_layers_doc **out, struct sp_error *err) {
    struct sp_layers_doc **at = &l->open, *d;
    while (*at && !has_id(*at, rec)) at = &(*at)->next;
    d = *at;
    if (!d)
        return sp_error_set(err, SP_E_DATA, "it goes on with a document that was not left open");
    if (fork) return document_fork(l, d, out, err);
    *at = d->next;
    d->next = NULL;
    l->n_open--;
    *out = d;
    return SP_OK;
}

enum sp_code sp_layers_dump_path(char *out, size_t size, const struct sp_layers *l,
                                 const struct sp_layers_doc *d, struct sp_error *err) {
    bool varies;
    enum sp_code code =
        sp_layers_file_name(out, size, l->o.dump_state, d->id, d->n_id, d->number, &varies, err);
    return code ? sp_error_prefix(err, "--dump-state") : SP_OK;
}

/* Before anything of it is computed: its state, if it is to be dumped, has a file of its own. */
static enum sp_code take_file(struct sp_layers *l, const struct sp_layers_doc *d, bool fork,
                              struct sp_error *err) {
    char path[SP_LAYERS_PATH_MAX];
    if (!l->o.dump_state) return SP_OK;
    enum sp_code code = sp_layers_check_dump(l->o.dump_state, l->number + 1, fork, err);
    if (!code) code = sp_layers_dump_path(path, sizeof path, l, d, err);
    if (code) return code;
    code = sp_taken_add(&l->files, path, d->number, err);
    return code ? sp_error_prefix(err, "--dump-state") : SP_OK;
}

enum sp_code sp_layers_doc_start(struct sp_layers *l, const struct sp_record *rec,
                                 struct sp_error *err) {
    const char *id = "";
    size_t n_id = 0;
    bool cont = false, fork = false;
    struct sp_layers_doc *d = NULL;
    sp_record_get_str(rec, "id", &id, &n_id);
    sp_record_get_bool(rec, "cont", &cont);
    sp_record_get_bool(rec, "fork", &fork);
    if (n_id > SP_LAYERS_ID_MAX)
        return sp_error_set(err, SP_E_DATA, "its id has more than %d bytes", SP_LAYERS_ID_MAX);
    enum sp_code code = cont ? document_continue(l, rec, fork, &d, err) : document_new(l, &d, err);
    if (code) return code;
    if (!cont) {
        d->n_id = n_id;
        memcpy(d->id, id, n_id);
    }
    if (!cont || fork) {
        d->number = l->number;
        code = take_file(l, d, fork, err);
        if (code) {
            sp_layers_doc_forget(l, d);
            return code;
        }
        l->number++;
    }
    sp_record_get_u64(rec, "doc", &d->doc);
    d->n_row = 0;
    l->current = d;
    return SP_OK;
}

enum sp_code sp_layers_doc_end(struct sp_layers *l, struct sp_layers_doc *d,
                               const struct sp_record *rec, struct sp_error *err) {
    if (d->failed || !sp_layers_doc_stays_open(rec)) {
        sp_layers_doc_forget(l, d);
        return SP_OK;
    }
    if (l->n_open == SP_LAYERS_OPEN_MAX)
        return sp_error_set(err, SP_E_USAGE, "more than %d documents are left open",
                            SP_LAYERS_OPEN_MAX);
    d->next = l->open;
    l->open = d;
    l->n_open++;
    return SP_OK;
}

enum sp_code sp_layers_doc_state(struct sp_layers *l, const struct sp_layers_doc *d,
                                 struct sp_state **out, struct sp_error *err) {
    enum sp_code code = sp_state_new(out, l->model, (uint32_t)l->o.first, (uint32_t)l->o.last, err);
    if (code) return code;
    struct sp_state *s = *out;
    s->tokenizer = l->hello.tokenizer;
    s->prefix = d->prefix;
    s->n_tok = d->n_tok;
    s->origin = d->origin;
    s->has_last = d->has_last && l->o.last == l->c->n_layer - 1;
    s->last_id = d->last_id;
    if (s->has_last) memcpy(s->last_hidden, d->last_hidden, (size_t)l->c->d_model * sizeof(float));
    code = sp_seq_store(l->net, d->pack.seq, s, err);
    if (!code) return SP_OK;
    sp_state_free(s);
    *out = NULL;
    return code;
}
