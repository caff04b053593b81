/* File names that a run has given away, so that no two of its states go to one file.
 *
 * Owns a table of hashes, 24 bytes a slot and at most two slots a name; zero is an empty one.
 */
#ifndef SP_TAKEN_H
#define SP_TAKEN_H

#include "statepipe.h"

struct sp_taken {
    size_t n, cap; /* cap: 0 or a power of two */
    struct sp_taken_slot *slot;
};
/* The file is that of `number` (of a document, a state) from now on. SP_E_DATA where it was that of
 * another before, or where the system would not take a name so long. */
enum sp_code sp_taken_add(struct sp_taken *t, const char *path, uint64_t number,
                          struct sp_error *err);
void sp_taken_clear(struct sp_taken *t);

#endif
