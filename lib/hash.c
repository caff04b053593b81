/* Hashes: XXH3-128. Its author's code, compiled once for any CPU and once for AVX2, which is twice
 * as fast over long pieces. */
#include "hash.h"
#include "../kernels/kernels.h"
#include "io.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define WIDE_BYTES_MIN ((size_t)1024)

/* As the kernels' paths are chosen. */
static bool has_avx2(void) {
    static atomic_int known; /* 1: no, 2: yes */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (k == 0) {
        struct sp_kernels kernels;
        sp_kernels_init(&kernels);
        k = strcmp(kernels.name, "ref") == 0 ? 1 : 2;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 2;
}

static void canonical(struct sp_hash *hash, XXH128_hash_t value) {
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, value);
    memcpy(hash->byte, c.digest, sizeof hash->byte);
}

void sp_hash_bytes(struct sp_hash *hash, const void *data, size_t n) {
    canonical(hash, XXH3_128bits(data, n));
}

struct sp_hasher *sp_hasher_new(void) {
    XXH3_state_t *state = XXH3_createState();
    if (state) XXH3_128bits_reset(state);
    return (struct sp_hasher *)state;
}

void sp_hasher_add(struct sp_hasher *h, const void *data, size_t n) {
    if (n >= WIDE_BYTES_MIN && has_avx2())
        sp_hasher_add_avx2(h, data, n);
    else
        XXH3_128bits_update((XXH3_state_t *)h, data, n);
}

void sp_hasher_now(const struct sp_hasher *h, struct sp_hash *hash) {
    canonical(hash, XXH3_128bits_digest((const XXH3_state_t *)h));
}

void sp_hasher_end(struct sp_hasher *h, struct sp_hash *hash) {
    sp_hasher_now(h, hash);
    XXH3_freeState((XXH3_state_t *)h);
}

void sp_hash_hex(const struct sp_hash *hash, char hex[SP_HASH_HEX_SIZE]) {
    for (size_t i = 0; i < sizeof hash->byte; i++) snprintf(hex + 2 * i, 3, "%02x", hash->byte[i]);
}

bool sp_hash_equal(const struct sp_hash *a, const struct sp_hash *b) {
    return memcmp(a->byte, b->byte, sizeof a->byte) == 0;
}
