/* The files of a cache: writing, making room. Internal to cache*.c; owns nothing. */
#ifndef SP_CACHE_FOLDER_H
#define SP_CACHE_FOLDER_H

#include "statepipe.h"

#define SP_CACHE_SUFFIX ".state"
#define SP_CACHE_PATH_BYTES 4096

/* Makes the folder where it is missing; SP_E_IO where files cannot be put into it. */
enum sp_code sp_cache_folder_make(const char *dir, struct sp_error *err);
/* Calls take for the name of every entry. */
void sp_cache_folder_each(const char *dir, void (*take)(void *ctx, const char *name), void *ctx);
/* dir "/" name; false when that is too long. */
bool sp_cache_folder_path(char out[SP_CACHE_PATH_BYTES], const char *dir, const char *name);
/* It has been used now. */
void sp_cache_folder_touch(const char *path);
/* Writes a state as an entry; those that were used longest ago make room, so that all have
 * bytes_max at most. */
enum sp_code sp_cache_folder_put(const char *dir, const char *name, const struct sp_state *s,
                                 uint64_t bytes_max, struct sp_error *err);

#endif
