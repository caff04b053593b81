/* UTF-8, after table 3-7 of the Unicode standard (well-formed byte sequences). */
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* Bytes that may follow a lead byte: how many, and the range of the first of them (the others are
 * 80..BF). */
struct lead {
    uint8_t n_more, low, high;
};

static struct lead lead_of(uint8_t c) {
    if (c >= 0xC2 && c <= 0xDF) return (struct lead){1, 0x80, 0xBF};
    if (c == 0xE0) return (struct lead){2, 0xA0, 0xBF};
    if (c == 0xED) return (struct lead){2, 0x80, 0x9F};
    if (c >= 0xE1 && c <= 0xEF) return (struct lead){2, 0x80, 0xBF};
    if (c == 0xF0) return (struct lead){3, 0x90, 0xBF};
    if (c >= 0xF1 && c <= 0xF3) return (struct lead){3, 0x80, 0xBF};
    if (c == 0xF4) return (struct lead){3, 0x80, 0x8F};
    return (struct lead){0, 0, 0};
}

int32_t sp_utf8_decode(const char *s, size_t n, size_t *len) {
    const uint8_t *p = (const uint8_t *)s;
    *len = 1;
    if (p[0] < 0x80) return p[0];
    struct lead lead = lead_of(p[0]);
    if (lead.n_more == 0) return -1;
    uint32_t cp = p[0] & (0x3Fu >> lead.n_more);
    for (size_t i = 1; i <= lead.n_more; i++) {
        uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
        if (i >= n || p[i] < low || p[i] > high) return -1;
        cp = cp << 6 | (p[i] & 0x3Fu);
        *len = i + 1;
    }
    return (int32_t)cp;
}

bool sp_utf8_incomplete(const char *s, size_t n) {
    size_t len;
    return n > 0 && sp_utf8_decode(s, n, &len) < 0 && len == n &&
           lead_of((uint8_t)s[0]).n_more >= n;
}

size_t sp_utf8_valid(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof word;
                continue;
            }
        }
        size_t len;
        if (sp_utf8_decode(s + i, n - i, &len) < 0) return i;
        i += len;
    }
    return i;
}

size_t sp_utf8_encode(char *out, uint32_t cp) {
    uint8_t *p = (uint8_t *)out;
    if (cp < 0x80) {
        p[0] = (uint8_t)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const uint8_t mark[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) p[i] = (uint8_t)(0x80 | (cp & 0x3F));
    p[0] = (uint8_t)(mark[n] | cp);
    return n;
}

char *sp_utf8_repair(const char *s, size_t n, size_t *n_out) {
    enum { GROWTH = 3 }; /* bytes of U+FFFD, which may stand for one */
    char *out = n < SIZE_MAX / GROWTH ? malloc(n * GROWTH + 1) : NULL;
    if (!out) return NULL;
    *n_out = 0;
    for (size_t at = 0, len = 0; at < n; at += len) {
        int32_t cp = sp_utf8_decode(s + at, n - at, &len);
        *n_out += sp_utf8_encode(out + *n_out, cp < 0 ? SP_UTF8_REPLACEMENT : (uint32_t)cp);
    }
    out[*n_out] = 0;
    return out;
}
