/* Records as records of a stream. */
#include "records_write.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

/* What is packed; failed: some of it found no memory, and the rest makes no sense. */
struct packed {
    msgpack_sbuffer buf;
    bool failed;
};
static int pack_bytes(void *data, const char *bytes, size_t n) {
    struct packed *p = data;
    if (!p->failed && msgpack_sbuffer_write(&p->buf, bytes, n) != 0) p->failed = true;
    return p->failed ? -1 : 0;
}

static void pack_str(msgpack_packer *pk, const char *s, size_t n) {
    msgpack_pack_str(pk, n);
    msgpack_pack_str_body(pk, s, n);
}
static void pack_key(msgpack_packer *pk, const char *key) {
    pack_str(pk, key, strlen(key));
}

static void pack_year(msgpack_packer *pk, const char *key, int year) {
    pack_key(pk, key);
    if (year == 0)
        msgpack_pack_nil(pk);
    else if (year == SP_YEAR_PRESENT)
        pack_key(pk, "present");
    else
        msgpack_pack_int(pk, year);
}

/* text: room for 3 bytes for each byte of the span. */
static void pack_field(msgpack_packer *pk, const struct sp_document *doc,
                       const struct sp_education *e, enum sp_field field, char *text) {
    const struct sp_span *s = &e->field[field];
    if (!s->there) {
        msgpack_pack_nil(pk);
        return;
    }
    msgpack_pack_map(pk, field == SP_YEAR ? 5 : 3);
    pack_key(pk, "text");
    pack_str(pk, text, sp_text_clean(text, doc->text + s->start, (size_t)(s->end - s->start)));
    pack_key(pk, "span");
    msgpack_pack_array(pk, 2);
    msgpack_pack_uint64(pk, doc->text_start + s->start);
    msgpack_pack_uint64(pk, doc->text_start + s->end);
    pack_key(pk, "p");
    msgpack_pack_double(pk, (double)s->p);
    if (field != SP_YEAR) return;
    pack_year(pk, "start", e->start_year);
    pack_year(pk, "end", e->end_year);
}

static enum sp_code store(struct sp_record *rec, uint64_t doc_index, const struct sp_document *doc,
                          const struct sp_education *e, struct sp_error *err) {
    enum sp_code code = sp_record_set_u64(rec, "doc", doc_index, err);
    for (int f = 0; !code && f < SP_FIELD_COUNT; f++) {
        const struct sp_span *s = &e->field[f];
        struct packed out = {.failed = false};
        msgpack_packer pk;
        msgpack_sbuffer_init(&out.buf);
        msgpack_packer_init(&pk, &out, pack_bytes);
        char *text = malloc(s->there ? 3 * (size_t)(s->end - s->start) : 1);
        if (text) pack_field(&pk, doc, e, (enum sp_field)f, text);
        code = text && !out.failed ? sp_record_set_raw(rec, sp_field_name((enum sp_field)f),
                                                       out.buf.data, out.buf.size, err)
                                   : sp_error_memory(err, "a record");
        free(text);
        msgpack_sbuffer_destroy(&out.buf);
    }
    if (!code) code = sp_record_set_f64(rec, "p", (double)e->p, err);
    return code;
}

enum sp_code sp_records_pack(struct sp_record **rec, uint64_t doc_index,
                             const struct sp_document *doc, const struct sp_education *e,
                             struct sp_error *err) {
    *rec = sp_record_new(SP_KIND_OTHER);
    if (!*rec) return sp_error_memory(err, "a record");
    strcpy((*rec)->kind_name, "RECORD");
    enum sp_code code = store(*rec, doc_index, doc, e, err);
    if (!code) return SP_OK;
    sp_record_free(*rec);
    *rec = NULL;
    return code;
}
