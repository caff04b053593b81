/* JSON on libjsmn. jsmn finds where values begin and end but accepts much that is not JSON, so a
 * scan before it bounds depth and nodes (its cost grows with the depth), and a walk after it checks
 * the grammar between the nodes and links siblings. */
#include "json.h"
#include "utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define JSMN_STATIC
#define JSMN_PARENT_LINKS
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <jsmn.h>
#pragma GCC diagnostic pop

#define JSON_BYTES_MAX ((size_t)1 << 30)
#define JSON_NODES_MAX ((size_t)4 << 20)
#define JSON_DEPTH_MAX 64
#define JSON_NUMBER_MAX 512 /* characters */

/* Of a node jsmn's type, start and end are kept. size becomes the number of children, and 1 for the
 * key of a member; parent becomes the next sibling value, or -1. */
struct sp_json {
    const char *text;
    jsmntok_t *node;
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static enum sp_code bad(struct sp_error *err, const char *name, size_t at, const char *what) {
    return sp_error_set(err, SP_E_DATA, "%s: byte %zu: %s", name, at, what);
}

/* The end of a string that begins behind its opening quote: at its closing one, or at the first
 * byte that may not be there. */
static size_t skip_string(const char *text, size_t i, size_t n) {
    for (; i < n && text[i] != '"' && (uint8_t)text[i] >= 0x20; i++)
        if (text[i] == '\\') i++;
    return i < n ? i : n;
}

/* Bounds depth, and counts what can begin a node in *n_node. */
static enum sp_code scan(const char *text, size_t n, size_t *n_node, const char *name,
                         struct sp_error *err) {
    size_t depth = 0;
    *n_node = 1;
    for (size_t i = 0; i < n; i++) {
        switch (text[i]) {
        case '"':
            i = skip_string(text, i + 1, n);
            if (i == n) return bad(err, name, n, "a string is not ended");
            if (text[i] != '"') return bad(err, name, i, "a control character in a string");
            break;
        case '[':
        case '{':
            if (++depth > JSON_DEPTH_MAX) return bad(err, name, i, "nested too deep");
            ++*n_node;
            break;
        case ']':
        case '}':
            if (depth-- == 0) return bad(err, name, i, "a bracket that closes nothing");
            break;
        case ',':
        case ':': ++*n_node; break;
        default:
            if ((uint8_t)text[i] < 0x20 && !is_space(text[i]))
                return bad(err, name, i, "a control character");
        }
    }
    if (*n_node > JSON_NODES_MAX) return bad(err, name, n, "too many values");
    return SP_OK;
}

static size_t skip_digits(const char *s, size_t i, size_t n) {
    while (i < n && s[i] >= '0' && s[i] <= '9') i++;
    return i;
}

static bool is_word(const char *s, size_t n, const char *word) {
    return n == strlen(word) && memcmp(s, word, n) == 0;
}

static bool is_number(const char *s, size_t n) {
    if (n > JSON_NUMBER_MAX) return false;
    size_t i = n > 0 && s[0] == '-';
    if (is_word(s + i, n - i, "Infinity") || is_word(s, n, "NaN")) return true;
    size_t start = i;
    i = skip_digits(s, i, n);
    if (i == start || (s[start] == '0' && i > start + 1)) return false;
    if (i < n && s[i] == '.') {
        start = ++i;
        if ((i = skip_digits(s, i, n)) == start) return false;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        if (++i < n && (s[i] == '+' || s[i] == '-')) i++;
        start = i;
        if ((i = skip_digits(s, i, n)) == start) return false;
    }
    return i == n;
}

/* The walk: where it is in the text, the next node, and the open containers. */
struct walk {
    struct sp_json *j;
    size_t pos, n;
    int32_t i, n_node;
    size_t depth;
    int32_t open[JSON_DEPTH_MAX], last[JSON_DEPTH_MAX]; /* last: child of open so far, or -1 */
};

static char peek(struct walk *w) {
    while (w->pos < w->n && is_space(w->j->text[w->pos])) w->pos++;
    return w->pos < w->n ? w->j->text[w->pos] : 0;
}

/* Takes node i as a value that begins at pos, and links it to its container. */
static bool walk_value(struct walk *w) {
    char c = peek(w);
    if (w->i >= w->n_node) return false;
    int32_t v = w->i++;
    jsmntok_t *t = &w->j->node[v];
    const char *s = w->j->text + t->start;
    size_t n = (size_t)(t->end - t->start);
    if ((size_t)t->start != w->pos + (t->type == JSMN_STRING)) return false;
    if (w->depth > 0) {
        int32_t *last = &w->last[w->depth - 1];
        if (*last >= 0) w->j->node[*last].parent = v;
        *last = v;
        w->j->node[w->open[w->depth - 1]].size++;
    }
    t->size = 0;
    t->parent = -1;
    if (t->type == JSMN_OBJECT || t->type == JSMN_ARRAY) {
        w->open[w->depth] = v;
        w->last[w->depth++] = -1;
        w->pos++;
        return true;
    }
    w->pos = (size_t)t->end + (t->type == JSMN_STRING);
    if (t->type == JSMN_STRING) return c == '"';
    return is_number(s, n) || is_word(s, n, "true") || is_word(s, n, "false") ||
           is_word(s, n, "null");
}

/* A member's key and colon. */
static bool walk_key(struct walk *w) {
    char c = peek(w);
    if (c != '"' || w->i >= w->n_node) return false;
    jsmntok_t *t = &w->j->node[w->i++];
    if (t->type != JSMN_STRING || (size_t)t->start != w->pos + 1) return false;
    t->size = 1;
    t->parent = -1;
    w->pos = (size_t)t->end + 1;
    if (peek(w) != ':') return false;
    w->pos++;
    return true;
}

static bool walk(struct walk *w) {
    if (!walk_value(w)) return false;
    while (w->depth > 0) {
        jsmntok_t *open = &w->j->node[w->open[w->depth - 1]];
        char c = peek(w);
        if (c == (open->type == JSMN_OBJECT ? '}' : ']')) {
            w->pos++;
            w->depth--;
            continue;
        }
        if (open->size > 0) {
            if (c != ',') return false;
            w->pos++;
        }
        if (open->type == JSMN_OBJECT && !walk_key(w)) return false;
        if (!walk_value(w)) return false;
    }
    return peek(w) == 0 && w->pos == w->n && w->i == w->n_node;
}

static enum sp_code parse(struct sp_json *j, size_t n, size_t n_node_max, const char *name,
                          struct sp_error *err) {
    size_t valid = sp_utf8_valid(j->text, n);
    if (valid < n) return bad(err, name, valid, "invalid UTF-8");
    jsmn_parser parser;
    jsmn_init(&parser);
    int got = jsmn_parse(&parser, j->text, n, j->node, (unsigned)n_node_max);
    if (got == JSMN_ERROR_PART) return bad(err, name, n, "the text ends inside a value");
    struct walk w = {.j = j, .n = n, .pos = parser.pos, .n_node = (int32_t)parser.toknext};
    if (got < 0) return bad(err, name, w.pos, "not JSON");
    w.pos = 0;
    if (!walk(&w)) return bad(err, name, w.pos, "not JSON");
    return SP_OK;
}

enum sp_code sp_json_parse(struct sp_json **out, const char *text, size_t n, const char *name,
                           struct sp_error *err) {
    *out = NULL;
    if (n > JSON_BYTES_MAX) return bad(err, name, n, "too long");
    size_t n_node;
    enum sp_code code = scan(text, n, &n_node, name, err);
    if (code) return code;
    struct sp_json *j = malloc(sizeof *j);
    jsmntok_t *node = malloc(n_node * sizeof *node);
    if (!j || !node) {
        free(j);
        free(node);
        return sp_error_set(err, SP_E_DEVICE, "%s: out of memory", name);
    }
    *j = (struct sp_json){.text = text, .node = node};
    code = parse(j, n, n_node, name, err);
    if (code)
        sp_json_free(j);
    else
        *out = j;
    return code;
}

void sp_json_free(struct sp_json *j) {
    if (!j) return;
    free(j->node);
    free(j);
}

/* ---- looking at it ----------------------------------------------------------------------------
 */

enum sp_json_type sp_json_type(const struct sp_json *j, sp_json_node v) {
    if (v < 0) return SP_JSON_NULL;
    switch (j->node[v].type) {
    case JSMN_OBJECT: return SP_JSON_OBJECT;
    case JSMN_ARRAY: return SP_JSON_ARRAY;
    case JSMN_STRING: return SP_JSON_STRING;
    case JSMN_PRIMITIVE:
    case JSMN_UNDEFINED: break;
    }
    switch (j->text[j->node[v].start]) {
    case 't':
    case 'f': return SP_JSON_BOOL;
    case 'n': return SP_JSON_NULL;
    default: return SP_JSON_NUMBER;
    }
}

static bool is_container(const struct sp_json *j, sp_json_node v) {
    return v >= 0 && (j->node[v].type == JSMN_OBJECT || j->node[v].type == JSMN_ARRAY);
}

size_t sp_json_count(const struct sp_json *j, sp_json_node v) {
    return is_container(j, v) ? (size_t)j->node[v].size : 0;
}

sp_json_node sp_json_first(const struct sp_json *j, sp_json_node v) {
    if (sp_json_count(j, v) == 0) return -1;
    return v + (j->node[v].type == JSMN_OBJECT ? 2 : 1);
}

sp_json_node sp_json_next(const struct sp_json *j, sp_json_node v) {
    return v < 0 ? -1 : j->node[v].parent;
}

sp_json_node sp_json_key(const struct sp_json *j, sp_json_node v) {
    bool member = v > 0 && j->node[v - 1].type == JSMN_STRING && j->node[v - 1].size == 1;
    return member ? v - 1 : -1;
}

sp_json_node sp_json_get(const struct sp_json *j, sp_json_node object, const char *key) {
    if (sp_json_type(j, object) != SP_JSON_OBJECT) return -1;
    sp_json_node found = -1; /* the last of several wins, as in Python */
    for (sp_json_node v = sp_json_first(j, object); v >= 0; v = sp_json_next(j, v))
        if (sp_json_equal(j, sp_json_key(j, v), key)) found = v;
    return found;
}

bool sp_json_bool(const struct sp_json *j, sp_json_node v, bool fallback) {
    if (sp_json_type(j, v) != SP_JSON_BOOL) return fallback;
    return j->text[j->node[v].start] == 't';
}

/* The number's text with a NUL; false for other types. */
static bool number_text(const struct sp_json *j, sp_json_node v, char out[JSON_NUMBER_MAX + 1]) {
    if (sp_json_type(j, v) != SP_JSON_NUMBER) return false;
    size_t n = (size_t)(j->node[v].end - j->node[v].start);
    memcpy(out, j->text + j->node[v].start, n);
    out[n] = 0;
    return true;
}

double sp_json_number(const struct sp_json *j, sp_json_node v, double fallback) {
    char text[JSON_NUMBER_MAX + 1];
    return number_text(j, v, text) ? strtod(text, NULL) : fallback;
}

int64_t sp_json_int(const struct sp_json *j, sp_json_node v, int64_t fallback) {
    char text[JSON_NUMBER_MAX + 1], *end;
    if (!number_text(j, v, text)) return fallback;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (*end == 0) return errno ? fallback : whole;
    double d = strtod(text, NULL); /* 1e3 and 5.0 are whole too */
    bool exact = fabs(d) <= 0x1p53 && d == nearbyint(d);
    return exact ? (int64_t)d : fallback;
}

const char *sp_json_raw(const struct sp_json *j, sp_json_node v, size_t *n) {
    if (sp_json_type(j, v) != SP_JSON_STRING) return NULL;
    *n = (size_t)(j->node[v].end - j->node[v].start);
    return j->text + j->node[v].start;
}

/* ---- escapes ----------------------------------------------------------------------------------
 */

/* Four digits, known to be hexadecimal. */
static uint32_t hex4(const char *s) {
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t c = (uint8_t)s[i];
        v = v << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return v;
}

/* One escape, known to be well-formed, at s (a backslash): its bytes in out, its length in *used.
 */
static size_t unescape(const char *s, size_t n, char out[SP_UTF8_MAX], size_t *used) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    *used = 2;
    const char *simple = strchr(from, s[1]);
    if (simple) {
        out[0] = to[simple - from];
        return 1;
    }
    uint32_t cp = hex4(s + 2);
    *used = 6;
    if (cp >= 0xD800 && cp <= 0xDFFF) {
        bool pair = cp <= 0xDBFF && n >= 12 && s[6] == '\\' && s[7] == 'u';
        uint32_t low = pair ? hex4(s + 8) : 0;
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *used = 12;
            cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
        } else {
            cp = SP_UTF8_REPLACEMENT;
        }
    }
    return sp_utf8_encode(out, cp);
}

int64_t sp_json_string(const struct sp_json *j, sp_json_node v, char *out) {
    size_t n, done = 0;
    const char *s = sp_json_raw(j, v, &n);
    if (!s) return -1;
    for (size_t i = 0; i < n;) {
        const char *escape = memchr(s + i, '\\', n - i);
        size_t plain = escape ? (size_t)(escape - s) - i : n - i;
        memcpy(out + done, s + i, plain);
        done += plain;
        i += plain;
        if (!escape) break;
        size_t used;
        done += unescape(s + i, n - i, out + done, &used);
        i += used;
    }
    return (int64_t)done;
}

bool sp_json_equal(const struct sp_json *j, sp_json_node v, const char *s) {
    size_t n, want = strlen(s), at = 0;
    const char *raw = sp_json_raw(j, v, &n);
    if (!raw) return false;
    for (size_t i = 0; i < n;) {
        char buf[SP_UTF8_MAX] = {raw[i]};
        size_t used = 1, got = 1;
        if (raw[i] == '\\') got = unescape(raw + i, n - i, buf, &used);
        if (want - at < got || memcmp(s + at, buf, got) != 0) return false;
        at += got;
        i += used;
    }
    return at == want;
}

size_t sp_json_escape(char *out, const char *s, size_t n) {
    static const char hex[] = "0123456789abcdef", from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    size_t k = 0;
    out[k++] = '"';
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        const char *simple = c ? strchr(from, c) : NULL;
        if (simple) {
            out[k++] = '\\';
            out[k++] = to[simple - from];
        } else if (c < 0x20) {
            memcpy(out + k, "\\u00", 4);
            out[k + 4] = hex[c >> 4];
            out[k + 5] = hex[c & 15];
            k += 6;
        } else {
            out[k++] = (char)c;
        }
    }
    out[k++] = '"';
    return k;
}
