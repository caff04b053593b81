/* Records and tensors as text and JSON. */
#include "wire_show.h"

#include "utf8.h"
#include "wire.h"

#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

#define TEXT_SHOWN_BYTES 60

static double element(const struct sp_tensor *t, size_t i) {
    switch (t->dtype) {
    case SP_F32: return ((const float *)t->data)[i];
    case SP_F16: return sp_f32_from_f16(((const uint16_t *)t->data)[i]);
    case SP_BF16: return sp_f32_from_bf16(((const uint16_t *)t->data)[i]);
    case SP_I8: return ((const int8_t *)t->data)[i];
    case SP_U8: return ((const uint8_t *)t->data)[i];
    case SP_I32: return ((const int32_t *)t->data)[i];
    case SP_U32: return ((const uint32_t *)t->data)[i];
    case SP_I64: return (double)((const int64_t *)t->data)[i];
    case SP_U64: return (double)((const uint64_t *)t->data)[i];
    case SP_DTYPE_COUNT: break;
    }
    return NAN;
}

static void add(struct sp_stats *s, double x) {
    bool first = sp_stats_finite(s) == 0;
    s->n++;
    if (isnan(x)) {
        s->n_nan++;
    } else if (isinf(x)) {
        s->n_inf++;
    } else {
        if (first || x < s->min) s->min = x;
        if (first || x > s->max) s->max = x;
        s->sum += x;
        s->sum_squares += x * x;
    }
}

void sp_stats_add(struct sp_stats *s, const struct sp_tensor *t) {
    size_t n = t->n_bytes / sp_dtype_size(t->dtype);
    for (size_t i = 0; i < n; i++) add(s, element(t, i));
}

void sp_stats_add_f32(struct sp_stats *s, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) add(s, x[i]);
}

uint64_t sp_stats_finite(const struct sp_stats *s) {
    return s->n - s->n_nan - s->n_inf;
}

double sp_stats_norm(const struct sp_stats *s) {
    return sqrt(s->sum_squares);
}

static double mean(const struct sp_stats *s) {
    return s->sum / (double)sp_stats_finite(s);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void put_string_body(FILE *out, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len) {
        int32_t c = sp_utf8_decode(s + i, n - i, &len);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (char)c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0)
            fputs("\\ufffd", out);
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) /* a terminal would obey these */
            fprintf(out, "\\u%04x", (unsigned)c);
        else
            fwrite(s + i, 1, len, out);
    }
}

void sp_show_string(FILE *out, const char *s, size_t n) {
    putc('"', out);
    put_string_body(out, s, n);
    putc('"', out);
}

void sp_show_number(FILE *out, double x, int digits) {
    if (isfinite(x))
        fprintf(out, "%.*g", digits, x);
    else
        fputs("null", out);
}

static void put_hex(FILE *out, const uint8_t *p, size_t n) {
    putc('"', out);
    for (size_t i = 0; i < n; i++) fprintf(out, "%02x", p[i]);
    putc('"', out);
}

/* Anything but an array or a map. */
static void put_scalar(FILE *out, const uint8_t *p, const struct sp_wire_item *item) {
    const char *body = (const char *)p + item->head;
    if (item->type == SP_WIRE_STR) {
        sp_show_string(out, body, item->body);
        return;
    }
    if (item->type == SP_WIRE_BIN || item->type == SP_WIRE_EXT) {
        put_hex(out, p + item->head, item->body);
        return;
    }
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, (const char *)p, item->head + item->body, NULL) ==
        MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *o = &unpacked.data;
        switch (o->type) {
        case MSGPACK_OBJECT_BOOLEAN: fputs(o->via.boolean ? "true" : "false", out); break;
        case MSGPACK_OBJECT_POSITIVE_INTEGER: fprintf(out, "%" PRIu64, o->via.u64); break;
        case MSGPACK_OBJECT_NEGATIVE_INTEGER: fprintf(out, "%" PRId64, o->via.i64); break;
        case MSGPACK_OBJECT_FLOAT32: sp_show_number(out, o->via.f64, 9); break;
        case MSGPACK_OBJECT_FLOAT64: sp_show_number(out, o->via.f64, 17); break;
        default: fputs("null", out);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

/* One msgpack value that the scanner has accepted, as JSON; binaries as strings of hex digits. */
static void show_msgpack(FILE *out, const void *msgpack, size_t n) {
    /* values still to come at each depth; in maps, those before an odd count's last are keys. */
    struct {
        uint64_t left;
        bool is_map, begun;
    } level[SP_WIRE_DEPTH_MAX + 1] = {{.left = 1}};
    size_t depth = 0;
    for (const uint8_t *p = msgpack, *end = p + n; p < end;) {
        struct sp_wire_item item;
        if (sp_wire_item(p, (size_t)(end - p), &item) != SP_WIRE_COMPLETE) return;
        bool in_map = level[depth].is_map, is_key = in_map && level[depth].left % 2 == 0;
        if (level[depth].begun) fputs(in_map && !is_key ? ":" : ",", out);
        level[depth].begun = true;
        level[depth].left--;
        bool container = item.type == SP_WIRE_ARRAY || item.type == SP_WIRE_MAP;
        if (is_key && container) {
            /* JSON has no such keys: shown as its bytes. */
            size_t used;
            const char *why;
            if (sp_wire_skip(p, (size_t)(end - p), (size_t)(end - p), &used, &why)) return;
            put_hex(out, p, used);
            p += used;
        } else if (container) {
            if (depth == SP_WIRE_DEPTH_MAX) return;
            bool is_map = item.type == SP_WIRE_MAP;
            level[++depth].left = is_map ? 2 * item.count : item.count;
            level[depth].is_map = is_map;
            level[depth].begun = false;
            putc(is_map ? '{' : '[', out);
            p += item.head;
        } else {
            bool quote = is_key && item.type != SP_WIRE_STR && item.type != SP_WIRE_BIN &&
                         item.type != SP_WIRE_EXT;
            if (quote) putc('"', out);
            put_scalar(out, p, &item);
            if (quote) putc('"', out);
            p += item.head + item.body;
        }
        while (depth > 0 && level[depth].left == 0) putc(level[depth--].is_map ? '}' : ']', out);
    }
}

static void put_element(FILE *out, const struct sp_tensor *t, size_t i) {
    if (t->dtype == SP_U64)
        fprintf(out, "%" PRIu64, ((const uint64_t *)t->data)[i]);
    else if (t->dtype == SP_I64)
        fprintf(out, "%" PRId64, ((const int64_t *)t->data)[i]);
    else
        sp_show_number(out, element(t, i), t->dtype == SP_F32 ? 9 : 10);
}

static void put_elements(FILE *out, const struct sp_tensor *t, size_t n, const char *between) {
    size_t total = t->n_bytes / sp_dtype_size(t->dtype);
    if (n > total) n = total;
    for (size_t i = 0; i < n; i++) {
        if (i) fputs(between, out);
        put_element(out, t, i);
    }
}

static bool is_text(const struct sp_record *rec, uint32_t i) {
    return rec->kind == SP_KIND_TEXT && strcmp(rec->name[i], "text") == 0 &&
           rec->tensor[i].dtype == SP_U8;
}

static void tensor_json(FILE *out, const struct sp_record *rec, uint32_t i, size_t n_value) {
    const struct sp_tensor *t = &rec->tensor[i];
    struct sp_stats s = {0};
    sp_stats_add(&s, t);
    sp_show_string(out, rec->name[i], strlen(rec->name[i]));
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", sp_dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->rank; d++) fprintf(out, "%s%" PRIu64, d ? "," : "", t->dim[d]);
    putc(']', out);
    if (is_text(rec, i)) {
        fputs(",\"text\":", out);
        sp_show_string(out, t->data, t->n_bytes);
        putc('}', out);
        return;
    }
    if (sp_stats_finite(&s)) {
        fputs(",\"min\":", out);
        sp_show_number(out, s.min, 17);
        fputs(",\"max\":", out);
        sp_show_number(out, s.max, 17);
        fputs(",\"mean\":", out);
        sp_show_number(out, mean(&s), 9);
        fputs(",\"norm\":", out);
        sp_show_number(out, sp_stats_norm(&s), 9);
    }
    fprintf(out, ",\"nan\":%" PRIu64 ",\"inf\":%" PRIu64, s.n_nan, s.n_inf);
    if (n_value) {
        fputs(",\"values\":[", out);
        put_elements(out, t, n_value, ",");
        putc(']', out);
    }
    putc('}', out);
}

void sp_show_record_json(FILE *out, const struct sp_record *rec, uint64_t offset, size_t n_value) {
    fprintf(out, "{\"at\":%" PRIu64 ",\"kind\":", offset);
    sp_show_string(out, rec->kind_name, strlen(rec->kind_name));
    fputs(",\"map\":", out);
    show_msgpack(out, rec->map, rec->map_bytes);
    fputs(",\"tensors\":{", out);
    for (uint32_t i = 0; i < rec->n_tensor; i++) {
        if (i) putc(',', out);
        tensor_json(out, rec, i, n_value);
    }
    fputs("}}\n", out);
}

/* ---- text ---------------------------------------------------------------------------------- */

static void tensor_text(FILE *out, const struct sp_record *rec, uint32_t i, size_t n_value) {
    const struct sp_tensor *t = &rec->tensor[i];
    struct sp_stats s = {0};
    sp_stats_add(&s, t);
    char shape[SP_TENSOR_RANK_MAX * 24];
    size_t k = 0;
    for (uint32_t d = 0; d < t->rank; d++)
        k += (size_t)snprintf(shape + k, sizeof shape - k, "%s%" PRIu64, d ? "," : "", t->dim[d]);
    shape[k] = 0;
    fputs("    ", out);
    put_string_body(out, rec->name[i], strlen(rec->name[i]));
    fprintf(out, " %s (%s)", sp_dtype_name(t->dtype), shape);
    if (is_text(rec, i)) {
        putc(' ', out);
        sp_show_string(out, t->data, t->n_bytes < TEXT_SHOWN_BYTES ? t->n_bytes : TEXT_SHOWN_BYTES);
        fputs(t->n_bytes > TEXT_SHOWN_BYTES ? "...\n" : "\n", out);
        return;
    }
    if (sp_stats_finite(&s))
        fprintf(out, " min %.7g max %.7g mean %.5g norm %.6g", s.min, s.max, mean(&s),
                sp_stats_norm(&s));
    if (s.n_nan) fprintf(out, " NaN %" PRIu64, s.n_nan);
    if (s.n_inf) fprintf(out, " inf %" PRIu64, s.n_inf);
    putc('\n', out);
    if (n_value && s.n) {
        fputs("        ", out);
        put_elements(out, t, n_value, " ");
        fputs(s.n > n_value ? " ...\n" : "\n", out);
    }
}

void sp_show_record_text(FILE *out, const struct sp_record *rec, uint64_t offset, size_t n_value) {
    struct sp_wire_fields it;
    struct sp_wire_field field;
    fprintf(out, "%10" PRIu64 "  ", offset);
    const char *kind = rec->kind == SP_KIND_HELLO ? "HELLO" : rec->kind_name;
    put_string_body(out, kind, strlen(kind));
    if (sp_wire_fields_start(&it, rec->map, rec->map_bytes))
        while (sp_wire_fields_next(&it, &field)) {
            putc(' ', out);
            put_string_body(out, field.key, field.key_bytes);
            putc('=', out);
            show_msgpack(out, field.value, field.value_bytes);
        }
    putc('\n', out);
    for (uint32_t i = 0; i < rec->n_tensor; i++) tensor_text(out, rec, i, n_value);
}
