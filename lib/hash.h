/* What lib/hash.c (declared in io.h) is made of. */
#ifndef SP_HASH_H
#define SP_HASH_H

#include <stddef.h>

struct sp_hasher;
/* sp_hasher_add on a CPU that has AVX2: the same result. */
void sp_hasher_add_avx2(struct sp_hasher *h, const void *data, size_t n);

#endif
