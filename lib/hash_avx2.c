/* XXH3-128 in AVX2: this file is compiled for it, and the author's header does the rest. */
#include "hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

void sp_hasher_add_avx2(struct sp_hasher *h, const void *data, size_t n) {
    XXH3_128bits_update((XXH3_state_t *)h, data, n);
}
