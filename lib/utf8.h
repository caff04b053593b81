/* UTF-8: strict decoding (no overlong forms, no surrogates, nothing above U+10FFFF) and encoding.
 * Owns nothing. */
#ifndef SP_UTF8_H
#define SP_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_UTF8_MAX 4 /* bytes of one code point */
#define SP_UTF8_REPLACEMENT 0xFFFDu

/* Length of the longest prefix that is valid. */
size_t sp_utf8_valid(const char *s, size_t n);
/* The code point at s; its length in bytes in *len. For an invalid sequence -1, and in *len the
 * bytes of its maximal subpart (Unicode 15, table 3-8: at least 1), which one U+FFFD replaces. n is
 * at least 1. */
int32_t sp_utf8_decode(const char *s, size_t n, size_t *len);
/* Could these n bytes, an invalid sequence so far, become valid when more follow? */
bool sp_utf8_incomplete(const char *s, size_t n);
/* A valid copy, each invalid sequence replaced by U+FFFD: *n_out bytes and a NUL, to be freed. NULL
 * when out of memory. */
char *sp_utf8_repair(const char *s, size_t n, size_t *n_out);
/* Writes up to SP_UTF8_MAX bytes; returns how many. cp is a scalar value. */
size_t sp_utf8_encode(char *out, uint32_t cp);

/* Length of the sequence that a lead byte of valid UTF-8 begins. */
static inline size_t sp_utf8_length(uint8_t lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}
/* The code point at s, which is known to be valid. */
static inline uint32_t sp_utf8_get(const char *text) {
    const uint8_t *s = (const uint8_t *)text;
    if (s[0] < 0x80) return s[0];
    if (s[0] < 0xE0) return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    if (s[0] < 0xF0) return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

#endif
