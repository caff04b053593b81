/* Files and descriptors: whole reads and writes, mapped files, files that appear whole or not at
 * all. Owns nothing but what its structs say. */
#ifndef SP_IO_H
#define SP_IO_H

#include "statepipe.h"
#include <stdio.h>

/* Reads up to n bytes, restarting after signals; *got < n only at the end of the file. */
enum sp_code sp_io_read(int fd, void *buf, size_t n, size_t *got, const char *name,
                        struct sp_error *err);
enum sp_code sp_io_write(int fd, const void *buf, size_t n, const char *name, struct sp_error *err);
/* Opens for reading; "-" is standard input (dup'ed). SP_E_NOINPUT with the reason. */
enum sp_code sp_io_open(int *fd, const char *path, struct sp_error *err);
/* True when a read would return at once: bytes, end of file or an error. */
bool sp_io_ready(int fd);

struct sp_map {
    const uint8_t *data; /* read-only; NULL for an empty file */
    size_t n;
};
enum sp_code sp_map_open(struct sp_map *map, const char *path, struct sp_error *err);
void sp_map_close(struct sp_map *map);

/* A path as messages name it: "-" is standard input. */
const char *sp_io_shown(const char *path);
/* A whole file in memory with a NUL behind it; at most max bytes. free() it. */
enum sp_code sp_io_slurp_fd(char **text, size_t *n, int fd, const char *name, size_t max,
                            struct sp_error *err);
enum sp_code sp_io_slurp(char **text, size_t *n, const char *path, size_t max,
                         struct sp_error *err);

/* A file written under a temporary name beside path, then synced and renamed. A path that is a
 * device or a pipe is written in place. */
struct sp_atomic_file {
    FILE *file;
    char path[4096], temporary[4096 + 32];
};
enum sp_code sp_atomic_open(struct sp_atomic_file *f, const char *path, struct sp_error *err);
/* "-" too: standard output, written in place. */
enum sp_code sp_atomic_open_output(struct sp_atomic_file *f, const char *path,
                                   struct sp_error *err);
/* The same under the temporary name path.tmp, which nobody else uses: one that was left behind is
 * replaced. */
enum sp_code sp_atomic_open_alone(struct sp_atomic_file *f, const char *path, struct sp_error *err);
enum sp_code sp_atomic_commit(struct sp_atomic_file *f, bool sync, struct sp_error *err);
void sp_atomic_abort(struct sp_atomic_file *f); /* removes the temporary; fine after commit */

/* SP_E_USAGE when writing to output would replace input: they are the same regular file. "-" is
 * standard output or input. */
enum sp_code sp_io_check_output(const char *output, const char *input, struct sp_error *err);

/* out: dir "/" name; SP_E_USAGE when too long. */
enum sp_code sp_path_join(char *out, size_t size, const char *dir, const char *name,
                          struct sp_error *err);

/* XXH3-128. */
void sp_hash_bytes(struct sp_hash *hash, const void *data, size_t n);
struct sp_hasher;
struct sp_hasher *sp_hasher_new(void); /* NULL when out of memory */
void sp_hasher_add(struct sp_hasher *h, const void *data, size_t n);
void sp_hasher_now(const struct sp_hasher *h, struct sp_hash *hash); /* of what came so far */
void sp_hasher_end(struct sp_hasher *h, struct sp_hash *hash);       /* and frees it */

#endif
