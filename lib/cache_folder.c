/* The files of a cache. */
#include "cache_folder.h"
#include "io.h"
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define TEMPORARY "tmp."
#define ABANDONED_S 3600 /* a temporary file of that age is of a process that was killed */
#define TRIES_MAX 1000   /* names of temporary files */

bool sp_cache_folder_path(char out[SP_CACHE_PATH_BYTES], const char *dir, const char *name) {
    struct sp_error ignored;
    return sp_path_join(out, SP_CACHE_PATH_BYTES, dir, name, &ignored) == SP_OK;
}

enum sp_code sp_cache_folder_make(const char *dir, struct sp_error *err) {
    struct stat st;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return sp_error_set(err, SP_E_IO, "cannot make the cache %s: %s", dir, strerror(errno));
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    else if (access(dir, R_OK | W_OK | X_OK) == 0)
        return SP_OK;
    return sp_error_set(err, SP_E_IO, "the cache %s: %s", dir, strerror(errno));
}

static bool is_entry(const char *name) {
    size_t n = strlen(name), suffix = strlen(SP_CACHE_SUFFIX);
    return n > suffix && strcmp(name + n - suffix, SP_CACHE_SUFFIX) == 0;
}

void sp_cache_folder_each(const char *dir, void (*take)(void *ctx, const char *name), void *ctx) {
    DIR *d = opendir(dir);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));)
        if (is_entry(e->d_name)) take(ctx, e->d_name);
    closedir(d);
}

void sp_cache_folder_touch(const char *path) {
    utimensat(AT_FDCWD, path, NULL, 0);
}

/* ---- making room ---------------------------------------------------------------------------- */

struct file {
    struct timespec used;
    uint64_t n_bytes;
    char name[256];
};

static int by_use(const void *a, const void *b) {
    const struct file *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec) return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Entries with their sizes; removes what was abandoned. */
static enum sp_code survey(DIR *d, struct file **files, size_t *n, uint64_t *total,
                           struct sp_error *err) {
    size_t cap = 0;
    time_t now = time(NULL);
    struct stat st;
    for (const struct dirent *e; (e = readdir(d));) {
        bool temporary = strncmp(e->d_name, TEMPORARY, strlen(TEMPORARY)) == 0;
        if (!temporary && !is_entry(e->d_name)) continue;
        if (fstatat(dirfd(d), e->d_name, &st, 0) != 0) continue;
        if (temporary && now - st.st_mtim.tv_sec > ABANDONED_S) unlinkat(dirfd(d), e->d_name, 0);
        if (temporary || strlen(e->d_name) >= sizeof(*files)->name) continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 256;
            struct file *grown = realloc(*files, cap * sizeof *grown);
            if (!grown) return sp_error_memory(err, "a cache");
            *files = grown;
        }
        struct file *f = &(*files)[(*n)++];
        *f = (struct file){.used = st.st_mtim, .n_bytes = (uint64_t)st.st_size};
        strcpy(f->name, e->d_name);
        *total += f->n_bytes;
    }
    return SP_OK;
}

static enum sp_code make_room(const char *dir, uint64_t n_bytes, uint64_t bytes_max,
                              struct sp_error *err) {
    struct file *file = NULL;
    size_t n = 0;
    uint64_t total = 0;
    DIR *d = opendir(dir);
    if (!d) return sp_error_set(err, SP_E_IO, "cannot list it: %s", strerror(errno));
    enum sp_code code = survey(d, &file, &n, &total, err);
    if (!code && n > 0 && total + n_bytes > bytes_max) qsort(file, n, sizeof *file, by_use);
    for (size_t i = 0; !code && i < n && total + n_bytes > bytes_max; i++)
        if (unlinkat(dirfd(d), file[i].name, 0) == 0 || errno == ENOENT) total -= file[i].n_bytes;
    if (!code && total + n_bytes > bytes_max)
        code = sp_error_set(err, SP_E_IO, "no room can be made: %s", strerror(errno));
    closedir(d);
    free(file);
    return code;
}

/* ---- writing -------------------------------------------------------------------------------- */

static enum sp_code open_temporary(const char *dir, char path[SP_CACHE_PATH_BYTES], int *fd,
                                   struct sp_error *err) {
    char name[64];
    for (int i = 0; i < TRIES_MAX; i++) {
        snprintf(name, sizeof name, TEMPORARY "%ld.%d", (long)getpid(), i);
        if (!sp_cache_folder_path(path, dir, name)) break;
        *fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) return SP_OK;
        if (errno != EEXIST) break;
    }
    return sp_error_set(err, SP_E_IO, "cannot keep a state: %s", strerror(errno));
}

static enum sp_code write_state(const struct sp_state *s, int fd, const char *path,
                                uint64_t *n_bytes, struct sp_error *err) {
    struct sp_writer *w = NULL;
    struct stat st = {0};
    enum sp_code code = sp_writer_new(&w, fd, path, err);
    if (!code) code = sp_state_send(s, w, err);
    if (!code) code = sp_writer_flush(w, err);
    if (!code && fstat(fd, &st) != 0)
        code = sp_error_set(err, SP_E_IO, "%s: %s", path, strerror(errno));
    sp_writer_free(w);
    *n_bytes = (uint64_t)st.st_size;
    return code;
}

/* Under the lock, so that processes do not make room for one and the same file. */
static enum sp_code publish(const char *dir, const char *from, const char *to, uint64_t n_bytes,
                            uint64_t bytes_max, struct sp_error *err) {
    char path[SP_CACHE_PATH_BYTES];
    int lock = -1;
    if (sp_cache_folder_path(path, dir, LOCK_NAME))
        lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        sp_error_set(err, SP_E_IO, "cannot lock it: %s", strerror(errno));
        if (lock >= 0) close(lock);
        return SP_E_IO;
    }
    enum sp_code code = make_room(dir, n_bytes, bytes_max, err);
    if (!code && rename(from, to) != 0)
        code = sp_error_set(err, SP_E_IO, "cannot keep %s: %s", to, strerror(errno));
    close(lock);
    return code;
}

enum sp_code sp_cache_folder_put(const char *dir, const char *name, const struct sp_state *s,
                                 uint64_t bytes_max, struct sp_error *err) {
    char temporary[SP_CACHE_PATH_BYTES], path[SP_CACHE_PATH_BYTES];
    uint64_t n_bytes = 0;
    int fd = -1;
    if (!sp_cache_folder_path(path, dir, name))
        return sp_error_set(err, SP_E_IO, "its name is too long");
    enum sp_code code = open_temporary(dir, temporary, &fd, err);
    if (code) return code;
    code = write_state(s, fd, temporary, &n_bytes, err);
    close(fd);
    if (!code && n_bytes > bytes_max)
        code = sp_error_set(err, SP_E_IO, "one state has %llu bytes, and all of them may have %llu",
                            (unsigned long long)n_bytes, (unsigned long long)bytes_max);
    if (!code) code = publish(dir, temporary, path, n_bytes, bytes_max, err);
    if (code) unlink(temporary);
    return code;
}
