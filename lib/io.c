/* Files and descriptors. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum sp_code sp_io_read(int fd, void *buf, size_t n, size_t *got, const char *name,
                        struct sp_error *err) {
    size_t done = 0;
    while (done < n) {
        ssize_t k = read(fd, (char *)buf + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return sp_error_set(err, SP_E_IO, "reading %s: %s", name, strerror(errno));
        if (k == 0) break;
        done += (size_t)k;
    }
    *got = done;
    return SP_OK;
}

enum sp_code sp_io_write(int fd, const void *buf, size_t n, const char *name,
                         struct sp_error *err) {
    for (size_t done = 0; done < n;) {
        ssize_t k = write(fd, (const char *)buf + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return sp_error_set(err, SP_E_IO, "writing %s: %s", name, strerror(errno));
        done += (size_t)k;
    }
    return SP_OK;
}

const char *sp_io_shown(const char *path) {
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

enum sp_code sp_io_open(int *fd, const char *path, struct sp_error *err) {
    bool input = strcmp(path, "-") == 0;
    const char *name = sp_io_shown(path);
    *fd = input ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (*fd < 0)
        return sp_error_set(err, SP_E_NOINPUT, "cannot open %s: %s", name, strerror(errno));
    if (fstat(*fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(*fd);
        return sp_error_set(err, SP_E_NOINPUT, "%s is a directory", name);
    }
    return SP_OK;
}

bool sp_io_ready(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

enum sp_code sp_map_open(struct sp_map *map, const char *path, struct sp_error *err) {
    *map = (struct sp_map){0};
    int fd;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        code = sp_error_set(err, SP_E_NOINPUT, "%s is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            code = sp_error_set(err, SP_E_IO, "cannot map %s: %s", path, strerror(errno));
        else
            *map = (struct sp_map){.data = p, .n = (size_t)st.st_size};
    }
    close(fd);
    return code;
}

void sp_map_close(struct sp_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->n);
    *map = (struct sp_map){0};
}

enum sp_code sp_io_slurp_fd(char **text, size_t *n, int fd, const char *name, size_t max,
                            struct sp_error *err) {
    *text = NULL;
    enum sp_code code = SP_OK;
    size_t cap = 0, len = 0, got = 0;
    char *buf = NULL;
    do {
        if (len > max) {
            code = sp_error_set(err, SP_E_DATA, "%s has more than %zu bytes", name, max);
            break;
        }
        if (cap - len < 65536) {
            cap = cap ? cap * 2 : 131072;
            char *grown = realloc(buf, cap);
            if (!grown) {
                code = sp_error_set(err, SP_E_DEVICE, "out of memory reading %s", name);
                break;
            }
            buf = grown;
        }
        code = sp_io_read(fd, buf + len, cap - len - 1, &got, name, err);
        len += got;
    } while (!code && got > 0);
    if (code) {
        free(buf);
        return code;
    }
    buf[len] = 0;
    *text = buf;
    *n = len;
    return SP_OK;
}

enum sp_code sp_io_slurp(char **text, size_t *n, const char *path, size_t max,
                         struct sp_error *err) {
    int fd;
    enum sp_code code = sp_io_open(&fd, path, err);
    if (code) return code;
    code = sp_io_slurp_fd(text, n, fd, path, max, err);
    close(fd);
    return code;
}

enum sp_code sp_atomic_open(struct sp_atomic_file *f, const char *path, struct sp_error *err) {
    *f = (struct sp_atomic_file){0};
    if (strlen(path) >= sizeof f->path)
        return sp_error_set(err, SP_E_USAGE, "path too long: %.60s...", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    /* A device or a pipe is written to: a rename would put a file in its place. */
    struct stat st;
    bool in_place = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (!in_place) snprintf(f->temporary, sizeof f->temporary, "%s.%ld.tmp", path, (long)getpid());
    f->file = in_place ? fopen(path, "wbe") : fopen(f->temporary, "wbxe");
    if (!f->file)
        return sp_error_set(err, SP_E_IO, "cannot create %s: %s", in_place ? path : f->temporary,
                            strerror(errno));
    return SP_OK;
}

enum sp_code sp_atomic_open_output(struct sp_atomic_file *f, const char *path,
                                   struct sp_error *err) {
    if (strcmp(path, "-") != 0) return sp_atomic_open(f, path, err);
    *f = (struct sp_atomic_file){.path = "standard output"};
    int fd = dup(STDOUT_FILENO);
    f->file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f->file) return SP_OK;
    sp_error_set(err, SP_E_IO, "cannot write standard output: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return SP_E_IO;
}

enum sp_code sp_atomic_open_alone(struct sp_atomic_file *f, const char *path,
                                  struct sp_error *err) {
    *f = (struct sp_atomic_file){0};
    if (strlen(path) >= sizeof f->path)
        return sp_error_set(err, SP_E_USAGE, "path too long: %.60s...", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(f->temporary, sizeof f->temporary, "%s.tmp", path);
    f->file = fopen(f->temporary, "wbe");
    if (f->file) return SP_OK;
    return sp_error_set(err, SP_E_IO, "cannot create %s: %s", f->temporary, strerror(errno));
}

enum sp_code sp_atomic_commit(struct sp_atomic_file *f, bool sync, struct sp_error *err) {
    bool in_place = !f->temporary[0];
    bool ok = fflush(f->file) == 0 && (!sync || in_place || fsync(fileno(f->file)) == 0);
    ok = fclose(f->file) == 0 && ok;
    f->file = NULL;
    if (ok && (in_place || rename(f->temporary, f->path) == 0)) return SP_OK;
    sp_error_set(err, SP_E_IO, "cannot write %s: %s", f->path, strerror(errno));
    if (!in_place) unlink(f->temporary);
    return SP_E_IO;
}

void sp_atomic_abort(struct sp_atomic_file *f) {
    if (!f->file) return;
    fclose(f->file);
    f->file = NULL;
    if (f->temporary[0]) unlink(f->temporary);
}

enum sp_code sp_io_check_output(const char *output, const char *input, struct sp_error *err) {
    struct stat out, in;
    int got_out = strcmp(output, "-") == 0 ? fstat(STDOUT_FILENO, &out) : stat(output, &out);
    int got_in = strcmp(input, "-") == 0 ? fstat(STDIN_FILENO, &in) : stat(input, &in);
    if (got_out != 0 || got_in != 0 || !S_ISREG(out.st_mode) || out.st_dev != in.st_dev ||
        out.st_ino != in.st_ino)
        return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "the output would replace the input %.200s: write to another file", input);
}

enum sp_code sp_path_join(char *out, size_t size, const char *dir, const char *name,
                          struct sp_error *err) {
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    int k = snprintf(out, size, "%s%s%s", dir, slash, name);
    if (k < 0 || (size_t)k >= size)
        return sp_error_set(err, SP_E_USAGE, "path too long: %.60s.../%.60s", dir, name);
    return SP_OK;
}
