/* JSON: a document parsed once (libjsmn) into a flat array of nodes over the caller's text, and a
 * writer of escaped strings. Owns the node array; borrows the text, which must outlive it.
 *
 * Strict RFC 8259, but that numbers may be Infinity, -Infinity and NaN, as Python's json writes
 * them. No recursion; depth and node count are bounded (SP_E_DATA names the byte offset).
 */
#ifndef SP_JSON_H
#define SP_JSON_H

#include "statepipe.h"

struct sp_json;

enum sp_json_type {
    SP_JSON_NULL,
    SP_JSON_BOOL,
    SP_JSON_NUMBER,
    SP_JSON_STRING,
    SP_JSON_ARRAY,
    SP_JSON_OBJECT
};

/* A node index; the root is 0; -1 is "no such node" and is accepted by every function below. */
typedef int32_t sp_json_node;

enum sp_code sp_json_parse(struct sp_json **j, const char *text, size_t n, const char *name,
                           struct sp_error *err);
void sp_json_free(struct sp_json *j);

enum sp_json_type sp_json_type(const struct sp_json *j, sp_json_node v); /* NULL for -1 */
sp_json_node sp_json_get(const struct sp_json *j, sp_json_node object, const char *key);
/* Children of an array or object. Objects: the value nodes; sp_json_key gives a value's key node.
 */
sp_json_node sp_json_first(const struct sp_json *j, sp_json_node v);
sp_json_node sp_json_next(const struct sp_json *j, sp_json_node v);
sp_json_node sp_json_key(const struct sp_json *j, sp_json_node value);
size_t sp_json_count(const struct sp_json *j, sp_json_node v);

/* Values; the fallback is returned for a node of another type, or none. */
bool sp_json_bool(const struct sp_json *j, sp_json_node v, bool fallback);
double sp_json_number(const struct sp_json *j, sp_json_node v, double fallback);
int64_t sp_json_int(const struct sp_json *j, sp_json_node v,
                    int64_t fallback); /* exact or fallback */
/* The string's bytes as they stand in the text, still escaped; NULL for other types. */
const char *sp_json_raw(const struct sp_json *j, sp_json_node v, size_t *n);
/* Unescaped into out (at least as large as the raw string); its length, -1 for other types. Lone
 * surrogates become U+FFFD. */
int64_t sp_json_string(const struct sp_json *j, sp_json_node v, char *out);
/* Is it this string? */
bool sp_json_equal(const struct sp_json *j, sp_json_node v, const char *s);

/* Escaped and quoted, for valid UTF-8 of n bytes; out holds at least 6 * n + 2; returns the length.
 */
size_t sp_json_escape(char *out, const char *s, size_t n);

#endif
