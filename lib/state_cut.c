/* States of documents out of a stream. */
#include "state_cut.h"

#include <string.h>

static void begin(struct sp_state_cut *c, const struct sp_record *rec) {
    const char *id = "";
    size_t n = 0;
    sp_record_get_str(rec, "id", &id, &n);
    c->n_id = n < sizeof c->id ? n : sizeof c->id;
    memcpy(c->id, id, c->n_id);
    c->n_doc++;
    sp_state_gather_clear(&c->g);
}

static void failed(struct sp_state_cut *c, const struct sp_record *rec) {
    uint64_t doc, status = 0;
    sp_state_gather_clear(&c->g);
    if (sp_record_get_u64(rec, "doc", &doc)) {
        c->n_error++;
        return;
    }
    sp_record_get_u64(rec, "exit", &status);
    c->upstream_exit = status >= 1 && status <= 255 ? (int)status : sp_error_exit_status(SP_E_BUG);
}

static enum sp_code take(struct sp_state_cut *c, struct sp_record *rec, struct sp_state **s,
                         struct sp_error *err) {
    uint64_t doc;
    if (rec->kind == SP_KIND_STATE && sp_record_get_u64(rec, "doc", &doc))
        return sp_state_gather_add(&c->g, rec, err);
    enum sp_code code = SP_OK;
    if (rec->kind == SP_KIND_DOC) begin(c, rec);
    if (rec->kind == SP_KIND_ERR) failed(c, rec);
    if (rec->kind == SP_KIND_DOCEND) code = sp_state_gather_end(&c->g, s, err);
    sp_record_free(rec);
    return code;
}

enum sp_code sp_state_cut_next(struct sp_state_cut *c, struct sp_state **s, struct sp_error *err) {
    *s = NULL;
    while (!*s) {
        struct sp_record *rec;
        enum sp_code code = sp_reader_read(c->r, &rec, err);
        if (code || !rec) return code;
        code = take(c, rec, s, err);
        if (code)
            return sp_error_prefix(err, "document '%.*s'", (int)(c->n_id < 60 ? c->n_id : 60),
                                   c->id);
    }
    return SP_OK;
}

void sp_state_cut_clear(struct sp_state_cut *c) {
    sp_state_gather_clear(&c->g);
}
