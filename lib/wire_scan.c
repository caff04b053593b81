/* The skip-scanner: walks msgpack without recursion and without allocating, and says where a value
 * ends, or that it is not one that a stream may hold. */
#include "wire.h"

#include <string.h>

static uint64_t big_endian(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

/* The bytes 0xc0 to 0xdf. length: size of the length field; fixed: bytes behind the head. */
static const struct {
    uint8_t type, length, fixed;
} formats[32] = {
    {SP_WIRE_NIL, 0, 0},   {SP_WIRE_NIL, 0, 0},   {SP_WIRE_BOOL, 0, 0},  {SP_WIRE_BOOL, 0, 0},
    {SP_WIRE_BIN, 1, 0},   {SP_WIRE_BIN, 2, 0},   {SP_WIRE_BIN, 4, 0},   {SP_WIRE_EXT, 1, 0},
    {SP_WIRE_EXT, 2, 0},   {SP_WIRE_EXT, 4, 0},   {SP_WIRE_FLOAT, 0, 4}, {SP_WIRE_FLOAT, 0, 8},
    {SP_WIRE_INT, 0, 1},   {SP_WIRE_INT, 0, 2},   {SP_WIRE_INT, 0, 4},   {SP_WIRE_INT, 0, 8},
    {SP_WIRE_INT, 0, 1},   {SP_WIRE_INT, 0, 2},   {SP_WIRE_INT, 0, 4},   {SP_WIRE_INT, 0, 8},
    {SP_WIRE_EXT, 0, 1},   {SP_WIRE_EXT, 0, 2},   {SP_WIRE_EXT, 0, 4},   {SP_WIRE_EXT, 0, 8},
    {SP_WIRE_EXT, 0, 16},  {SP_WIRE_STR, 1, 0},   {SP_WIRE_STR, 2, 0},   {SP_WIRE_STR, 4, 0},
    {SP_WIRE_ARRAY, 2, 0}, {SP_WIRE_ARRAY, 4, 0}, {SP_WIRE_MAP, 2, 0},   {SP_WIRE_MAP, 4, 0},
};

enum sp_wire_scan sp_wire_item(const uint8_t *p, size_t n, struct sp_wire_item *item) {
    if (n == 0) return SP_WIRE_MORE;
    uint8_t b = p[0];
    *item = (struct sp_wire_item){.type = SP_WIRE_INT, .head = 1};
    if (b < 0x80 || b >= 0xe0) return SP_WIRE_COMPLETE;
    if (b < 0xc0) {
        item->type = b < 0x90 ? SP_WIRE_MAP : b < 0xa0 ? SP_WIRE_ARRAY : SP_WIRE_STR;
        if (b < 0xa0)
            item->count = b & 15;
        else
            item->body = b & 31;
        return SP_WIRE_COMPLETE;
    }
    if (b == 0xc1) return SP_WIRE_BAD;
    size_t length = formats[b - 0xc0].length;
    item->type = formats[b - 0xc0].type;
    item->body = formats[b - 0xc0].fixed;
    item->head += length + (item->type == SP_WIRE_EXT);
    if (n < item->head) return SP_WIRE_MORE;
    uint64_t value = big_endian(p + 1, length);
    if (item->type == SP_WIRE_ARRAY || item->type == SP_WIRE_MAP)
        item->count = value;
    else if (length)
        item->body = (size_t)value;
    return SP_WIRE_COMPLETE;
}

static enum sp_wire_scan bad(const char **why, const char *reason) {
    *why = reason;
    return SP_WIRE_BAD;
}

/* base: the levels that the value itself lies in. */
static enum sp_wire_scan skip_below(size_t base, const uint8_t *p, size_t n, size_t max,
                                    size_t *used, const char **why) {
    uint64_t left[SP_WIRE_DEPTH_MAX + 1]; /* values still to come at each depth */
    size_t depth = base, at = 0;
    left[base] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == base) {
                *used = at;
                return SP_WIRE_COMPLETE;
            }
            depth--;
        }
        struct sp_wire_item item;
        enum sp_wire_scan s = sp_wire_item(p + at, n - at, &item);
        if (s == SP_WIRE_BAD) return bad(why, "has the byte c1, which msgpack does not use");
        if (s == SP_WIRE_MORE) return n >= max ? bad(why, "is too long") : SP_WIRE_MORE;
        left[depth]--;
        at += item.head;
        if (at > max || item.body > max - at) return bad(why, "is too long");
        if (item.body > n - at) return SP_WIRE_MORE;
        at += item.body;
        if (item.count == 0) continue;
        uint64_t values = item.type == SP_WIRE_MAP ? 2 * item.count : item.count;
        /* Each value takes at least a byte: a forged count is caught before anything is walked. */
        if (values > max - at) return bad(why, "counts more values than it has room for");
        if (depth == SP_WIRE_DEPTH_MAX) return bad(why, "is nested too deeply");
        left[++depth] = values;
    }
}

enum sp_wire_scan sp_wire_skip(const uint8_t *p, size_t n, size_t max, size_t *used,
                               const char **why) {
    return skip_below(0, p, n, max, used, why);
}

bool sp_wire_is_field_value(const uint8_t *p, size_t n) {
    enum { LEVELS_ABOVE = 2 }; /* the head's array, its map */
    size_t used;
    const char *why;
    return skip_below(LEVELS_ABOVE, p, n, SP_WIRE_HEAD_MAX, &used, &why) == SP_WIRE_COMPLETE &&
           used == n;
}

bool sp_wire_fields_start(struct sp_wire_fields *it, const uint8_t *map, size_t n) {
    struct sp_wire_item item;
    if (sp_wire_item(map, n, &item) != SP_WIRE_COMPLETE || item.type != SP_WIRE_MAP) return false;
    *it = (struct sp_wire_fields){.next = map + item.head, .end = map + n, .left = item.count};
    return true;
}

bool sp_wire_fields_next(struct sp_wire_fields *it, struct sp_wire_field *field) {
    struct sp_wire_item item;
    const char *why;
    if (it->left == 0) return false;
    size_t left = (size_t)(it->end - it->next);
    if (sp_wire_item(it->next, left, &item) != SP_WIRE_COMPLETE || item.type != SP_WIRE_STR ||
        item.body > left - item.head)
        return false;
    field->key = (const char *)it->next + item.head;
    field->key_bytes = item.body;
    field->value = it->next + item.head + item.body;
    left -= item.head + item.body;
    if (sp_wire_skip(field->value, left, left, &field->value_bytes, &why) != SP_WIRE_COMPLETE)
        return false;
    it->next = field->value + field->value_bytes;
    it->left--;
    return true;
}

enum sp_code sp_wire_check_map(const uint8_t *map, size_t n, struct sp_error *err) {
    struct sp_wire_fields it;
    struct sp_wire_field field[SP_WIRE_FIELDS_MAX];
    if (!sp_wire_fields_start(&it, map, n))
        return sp_error_set(err, SP_E_DATA, "a record's second part is not a map");
    if (it.left > SP_WIRE_FIELDS_MAX)
        return sp_error_set(err, SP_E_DATA, "a record's map has more than %d keys",
                            SP_WIRE_FIELDS_MAX);
    size_t count = (size_t)it.left;
    for (size_t i = 0; i < count; i++) {
        if (!sp_wire_fields_next(&it, &field[i]) || field[i].key_bytes >= SP_NAME_MAX)
            return sp_error_set(err, SP_E_DATA,
                                "a key of a record's map is not a string of at most %d bytes",
                                SP_NAME_MAX - 1);
        for (size_t j = 0; j < i; j++)
            if (field[i].key_bytes == field[j].key_bytes &&
                memcmp(field[i].key, field[j].key, field[i].key_bytes) == 0)
                return sp_error_set(err, SP_E_DATA, "a record's map has the key '%.*s' twice",
                                    (int)field[i].key_bytes, field[i].key);
    }
    return SP_OK;
}
