/* A line of labelled JSON as a DOC record. */
#include "token_jsonl.h"
#include "json.h"
#include "token.h"
#include "utf8.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_DEPTH_MAX 6 /* of spans and slots: the stream allows 8 in a record */

/* One line on its way. */
struct line {
    const struct sp_json *j;
    const char *text;
    size_t n_text;
    bool code_points;
    /* Where the last span's place was found: most spans come in order. */
    size_t at_char, at_byte;
    struct sp_error *err;
};

static enum sp_code bad(const struct line *l, const char *what) {
    return sp_error_set(l->err, SP_E_DATA, "%s", what);
}

/* ---- JSON to msgpack --------------------------------------------------------------------------
 */

/* A string, unescaped. */
static bool pack_string(msgpack_packer *pk, const struct sp_json *j, sp_json_node v) {
    size_t n_raw = 0;
    if (!sp_json_raw(j, v, &n_raw)) return false;
    char *s = malloc(n_raw + 1);
    if (!s) return false;
    size_t n = (size_t)sp_json_string(j, v, s);
    bool ok = msgpack_pack_str(pk, n) == 0 && msgpack_pack_str_body(pk, s, n) == 0;
    free(s);
    return ok;
}

static bool pack_scalar(msgpack_packer *pk, const struct sp_json *j, sp_json_node v) {
    switch (sp_json_type(j, v)) {
    case SP_JSON_BOOL:
        return (sp_json_bool(j, v, false) ? msgpack_pack_true(pk) : msgpack_pack_false(pk)) == 0;
    case SP_JSON_STRING: return pack_string(pk, j, v);
    case SP_JSON_NUMBER:
        if (sp_json_int(j, v, 0) == sp_json_int(j, v, 1))
            return msgpack_pack_int64(pk, sp_json_int(j, v, 0)) == 0;
        return msgpack_pack_double(pk, sp_json_number(j, v, 0)) == 0;
    default: return msgpack_pack_nil(pk) == 0;
    }
}

static bool is_container(const struct sp_json *j, sp_json_node v) {
    return sp_json_type(j, v) == SP_JSON_ARRAY || sp_json_type(j, v) == SP_JSON_OBJECT;
}

static bool pack_head(msgpack_packer *pk, const struct sp_json *j, sp_json_node v) {
    size_t n = sp_json_count(j, v);
    if (sp_json_type(j, v) == SP_JSON_ARRAY) return msgpack_pack_array(pk, n) == 0;
    return msgpack_pack_map(pk, n) == 0;
}

/* Any value, with a stack of the siblings still to come. */
static enum sp_code pack_value(const struct line *l, msgpack_packer *pk, sp_json_node root) {
    const struct sp_json *j = l->j;
    sp_json_node next[VALUE_DEPTH_MAX] = {root};
    size_t depth = 1;
    while (depth > 0) {
        sp_json_node v = next[depth - 1];
        if (v < 0) {
            depth--;
            continue;
        }
        next[depth - 1] = v == root ? -1 : sp_json_next(j, v);
        bool ok = v == root || sp_json_key(j, v) < 0 || pack_string(pk, j, sp_json_key(j, v));
        if (is_container(j, v)) {
            if (depth == VALUE_DEPTH_MAX) return bad(l, "nested too deep");
            ok = ok && pack_head(pk, j, v);
            next[depth++] = sp_json_first(j, v);
        } else {
            ok = ok && pack_scalar(pk, j, v);
        }
        if (!ok) return sp_error_memory(l->err, "a line of JSON");
    }
    return SP_OK;
}

/* ---- spans ------------------------------------------------------------------------------------
 */

/* Is the byte inside a character? The text is JSON's, and so valid. */
static bool is_inside(const struct line *l, uint64_t byte) {
    return byte < l->n_text && ((uint8_t)l->text[byte] & 0xC0) == 0x80;
}

/* A place in the text in bytes; false: outside of it. */
static bool place(struct line *l, int64_t at, uint64_t *byte) {
    if (at < 0) return false;
    if (!l->code_points) {
        *byte = (uint64_t)at;
        return (uint64_t)at <= l->n_text;
    }
    if ((uint64_t)at < l->at_char) l->at_char = l->at_byte = 0;
    while (l->at_char < (uint64_t)at && l->at_byte < l->n_text) {
        do l->at_byte++;
        while (is_inside(l, l->at_byte));
        l->at_char++;
    }
    *byte = l->at_byte;
    return l->at_char == (uint64_t)at;
}

static enum sp_code pack_span(struct line *l, msgpack_packer *pk, sp_json_node span) {
    const struct sp_json *j = l->j;
    size_t count = sp_json_count(j, span);
    sp_json_node start = sp_json_first(j, span), end = sp_json_next(j, start);
    sp_json_node label = sp_json_next(j, end), records = sp_json_next(j, label);
    if (sp_json_type(j, span) != SP_JSON_ARRAY || count < 3 || count > 4 ||
        sp_json_type(j, label) != SP_JSON_STRING ||
        (count == 4 && sp_json_type(j, records) != SP_JSON_ARRAY))
        return bad(l, "a span is not [start, end, label] or [start, end, label, [record...]]");
    uint64_t a, b;
    if (!place(l, sp_json_int(j, start, -1), &a) || !place(l, sp_json_int(j, end, -1), &b) || a > b)
        return bad(l, "a span lies outside of the text");
    if (is_inside(l, a) || is_inside(l, b))
        return sp_error_set(l->err, SP_E_DATA,
                            "a span of bytes %" PRIu64 " to %" PRIu64
                            " cuts a character: spans that "
                            "count characters want --span-unit codepoint",
                            a, b);
    bool ok = msgpack_pack_array(pk, count) == 0 && msgpack_pack_uint64(pk, a) == 0 &&
              msgpack_pack_uint64(pk, b) == 0 && pack_string(pk, j, label);
    if (!ok) return sp_error_memory(l->err, "a line of JSON");
    return count == 4 ? pack_value(l, pk, records) : SP_OK;
}

static enum sp_code pack_spans(struct line *l, msgpack_packer *pk, sp_json_node spans) {
    if (sp_json_type(l->j, spans) != SP_JSON_ARRAY) return bad(l, "\"spans\" is not an array");
    if (msgpack_pack_array(pk, sp_json_count(l->j, spans)) != 0)
        return sp_error_memory(l->err, "a line of JSON");
    enum sp_code code = SP_OK;
    for (sp_json_node v = sp_json_first(l->j, spans); !code && v >= 0; v = sp_json_next(l->j, v))
        code = pack_span(l, pk, v);
    return code;
}

/* Places behind which a state is worth keeping. */
static enum sp_code pack_marks(struct line *l, msgpack_packer *pk, sp_json_node marks) {
    const struct sp_json *j = l->j;
    if (sp_json_type(j, marks) != SP_JSON_ARRAY) return bad(l, "\"marks\" is not an array");
    bool ok = msgpack_pack_array(pk, sp_json_count(j, marks)) == 0;
    for (sp_json_node v = sp_json_first(j, marks); ok && v >= 0; v = sp_json_next(j, v)) {
        uint64_t at;
        if (!place(l, sp_json_int(j, v, -1), &at)) return bad(l, "a mark lies outside of the text");
        ok = msgpack_pack_uint64(pk, at) == 0;
    }
    return ok ? SP_OK : sp_error_memory(l->err, "a line of JSON");
}

/* ---- the record -------------------------------------------------------------------------------
 */

static enum sp_code set_packed(struct line *l, struct sp_record *doc, const char *key) {
    sp_json_node v = sp_json_get(l->j, 0, key);
    if (sp_json_type(l->j, v) == SP_JSON_NULL) return SP_OK;
    msgpack_sbuffer buf;
    msgpack_packer pk;
    msgpack_sbuffer_init(&buf);
    msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
    bool spans = strcmp(key, "spans") == 0, marks = strcmp(key, "marks") == 0;
    enum sp_code code = spans   ? pack_spans(l, &pk, v)
                        : marks ? pack_marks(l, &pk, v)
                                : pack_value(l, &pk, v);
    if (!code) code = sp_record_set_raw(doc, key, buf.data, buf.size, l->err);
    msgpack_sbuffer_destroy(&buf);
    return code;
}

/* "id" is a string or a whole number; without one the line's number. */
static enum sp_code set_id(struct line *l, struct sp_record *doc, uint64_t number) {
    sp_json_node v = sp_json_get(l->j, 0, "id");
    char shown[32];
    size_t n_raw = 0;
    if (!sp_json_raw(l->j, v, &n_raw)) {
        if (sp_json_type(l->j, v) == SP_JSON_NUMBER)
            snprintf(shown, sizeof shown, "%" PRId64, sp_json_int(l->j, v, 0));
        else
            snprintf(shown, sizeof shown, "%" PRIu64, number);
        return sp_record_set_str(doc, "id", shown, strlen(shown), l->err);
    }
    char *id = malloc(n_raw + 1);
    if (!id) return sp_error_memory(l->err, "a line of JSON");
    size_t n = (size_t)sp_json_string(l->j, v, id);
    enum sp_code code = sp_record_set_str(doc, "id", id, n, l->err);
    free(id);
    return code;
}

/* ---- choices ----------------------------------------------------------------------------------
 */

/* Where the white space at the end of a text begins. */
static size_t without_space(const char *text, size_t n) {
    size_t end = 0, len;
    for (size_t i = 0; i < n; i += len) {
        int32_t c = sp_utf8_decode(text + i, n - i, &len);
        if (c < 0 || !sp_char_is_space((uint32_t)c)) end = i + len;
    }
    return end;
}

/* Puts the choices behind the text, each with the white space that the text ended with. */
static enum sp_code add_choices(const struct line *l, sp_json_node array,
                                struct sp_token_line *out) {
    const struct sp_json *j = l->j;
    size_t n_space = out->n_text - without_space(out->text, out->n_text), n_raw = 0;
    size_t total = out->n_text - n_space, count = sp_json_count(j, array);
    if (sp_json_type(j, array) != SP_JSON_ARRAY || count == 0)
        return bad(l, "\"choices\" is not an array of strings");
    for (sp_json_node v = sp_json_first(j, array); v >= 0; v = sp_json_next(j, v)) {
        if (!sp_json_raw(j, v, &n_raw)) return bad(l, "\"choices\" is not an array of strings");
        total += n_space + n_raw;
    }
    char *text = malloc(total + 1);
    out->choice_end = calloc(count, sizeof *out->choice_end);
    if (!text || !out->choice_end) {
        free(text);
        return sp_error_memory(l->err, "a line of JSON");
    }
    size_t at = out->n_text - n_space;
    memcpy(text, out->text, at);
    for (sp_json_node v = sp_json_first(j, array); v >= 0; v = sp_json_next(j, v)) {
        memcpy(text + at, out->text + out->n_text - n_space, n_space);
        at += n_space;
        size_t n_choice = (size_t)sp_json_string(j, v, text + at);
        if (n_space + n_choice == 0) {
            free(text);
            return bad(l, "a choice without text");
        }
        at += n_choice;
        out->choice_end[out->n_choice++] = at;
    }
    free(out->text);
    out->text = text;
    out->n_text -= n_space;
    return SP_OK;
}

static enum sp_code read_line(struct line *l, uint64_t number, struct sp_token_line *out) {
    const struct sp_json *j = l->j;
    sp_json_node v = sp_json_get(j, 0, "text"), choices = sp_json_get(j, 0, "choices");
    size_t n_raw = 0;
    if (!sp_json_raw(j, v, &n_raw)) return bad(l, "no string \"text\"");
    out->doc = sp_record_new(SP_KIND_DOC);
    out->text = malloc(n_raw + 1);
    if (!out->doc || !out->text) return sp_error_memory(l->err, "a line of JSON");
    out->n_text = (size_t)sp_json_string(j, v, out->text);
    enum sp_code code = choices < 0 ? SP_OK : add_choices(l, choices, out);
    l->text = out->text;
    l->n_text = out->n_text;
    if (!code) code = set_id(l, out->doc, number);
    if (!code) code = sp_record_set_u64(out->doc, "bytes", l->n_text, l->err);
    if (!code) code = set_packed(l, out->doc, "spans");
    if (!code) code = set_packed(l, out->doc, "slots");
    if (!code) code = set_packed(l, out->doc, "label");
    return code ? code : set_packed(l, out->doc, "marks");
}

void sp_token_line_clear(struct sp_token_line *line) {
    free(line->text);
    free(line->choice_end);
    *line = (struct sp_token_line){0};
}

enum sp_code sp_token_jsonl_read(const char *line, size_t n, uint64_t number, bool code_points,
                                 struct sp_token_line *out, struct sp_error *err) {
    struct sp_json *j;
    *out = (struct sp_token_line){0};
    enum sp_code code = sp_json_parse(&j, line, n, "JSON", err);
    if (code) return code;
    struct line l = {.j = j, .code_points = code_points, .err = err};
    code = read_line(&l, number, out);
    sp_json_free(j);
    if (!code) return SP_OK;
    sp_record_free(out->doc);
    sp_token_line_clear(out);
    return code;
}
