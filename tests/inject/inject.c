/* Fault injection: preloaded into a program, makes one call of a kind fail, or all of a kind odd.
 *
 *   LD_PRELOAD=build/inject.so INJECT=KIND:N INJECT_LOG=FILE program ...
 *
 * KIND   what fails                                                how
 * read   the N-th read                                             EIO
 * write  the N-th write or writev                                  ENOSPC
 * open   the N-th open, openat or fopen                            EMFILE
 * map    the N-th mmap                                             ENOMEM
 * alloc  the N-th malloc, calloc, realloc, strdup, aligned ...       ENOMEM
 * sync   the N-th fsync or rename                                  EIO
 * kill   the N-th write, writev, fsync, rename, unlink, ftruncate  SIGKILL, half of a write done
 * size   all writes to files behind N bytes (stdio's too)          EFBIG
 * short  nothing: reads give at most N bytes, every third EINTR    -
 *
 * Only calls from the program's own text count (its libraries' would measure them, not us), but
 * for size. FILE is created when the fault was given, so that a caller knows when N is past the
 * last call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, READ, WRITE, OPEN, MAP, ALLOC, SYNC, KILL, SIZE, SHORT };
static const char *const kind_name[] = {"",      "read", "write", "open", "map",
                                        "alloc", "sync", "kill",  "size", "short"};

static struct {
    enum kind kind;
    unsigned long n, count; /* count: calls so far; programs allocate on several threads */
    uintptr_t text_start, text_end;
    char log[4096];
} inject;

/* The program's executable segment, from the headers that the kernel has mapped. */
static void find_text(void) {
    const ElfW(Phdr) *ph = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    size_t n = getauxval(AT_PHNUM);
    uintptr_t base = 0;
    for (size_t i = 0; i < n; i++)
        if (ph[i].p_type == PT_PHDR) base = (uintptr_t)ph - ph[i].p_vaddr;
    for (size_t i = 0; i < n; i++)
        if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_X) {
            inject.text_start = base + ph[i].p_vaddr;
            inject.text_end = inject.text_start + ph[i].p_memsz;
        }
}

static void note(void) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, inject.log, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0) close(fd);
}

__attribute__((constructor)) static void start(void) {
    const char *spec = getenv("INJECT"), *log = getenv("INJECT_LOG");
    const char *colon = spec ? strchr(spec, ':') : NULL;
    if (!colon) return;
    find_text();
    snprintf(inject.log, sizeof inject.log, "%s", log ? log : "/dev/null");
    inject.n = strtoul(colon + 1, NULL, 10);
    for (int k = READ; k <= SHORT; k++)
        if (strlen(kind_name[k]) == (size_t)(colon - spec) &&
            strncmp(kind_name[k], spec, (size_t)(colon - spec)) == 0)
            inject.kind = (enum kind)k;
    if (inject.kind == SIZE) {
        struct rlimit limit = {inject.n, inject.n};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
    }
}

static bool is_ours(const void *caller) {
    return (uintptr_t)caller >= inject.text_start && (uintptr_t)caller < inject.text_end;
}

/* Is this the call that fails? */
static bool hit(enum kind kind, const void *caller) {
    if (inject.kind != kind || !is_ours(caller)) return false;
    if (__atomic_add_fetch(&inject.count, 1, __ATOMIC_RELAXED) != inject.n) return false;
    note();
    return true;
}

/* Is this the call in which the program is killed? */
static bool dies(const void *caller) {
    return inject.kind == KILL && hit(KILL, caller);
}

static void die(void) {
    raise(SIGKILL);
}

#define CALLER __builtin_return_address(0)
#define REAL(name, type) ((type)real(#name))
static void *real(const char *name) {
    void *p = dlsym(RTLD_NEXT, name);
    if (!p) abort();
    return p;
}

ssize_t read(int fd, void *buf, size_t n) {
    if (hit(READ, CALLER)) return errno = EIO, -1;
    if (inject.kind == SHORT && is_ours(CALLER)) {
        if (__atomic_add_fetch(&inject.count, 1, __ATOMIC_RELAXED) % 3 == 0)
            return errno = EINTR, -1;
        if (n > inject.n) n = inject.n;
    }
    return REAL(read, ssize_t(*)(int, void *, size_t))(fd, buf, n);
}

ssize_t readv(int fd, const struct iovec *v, int n) {
    if (hit(READ, CALLER)) return errno = EIO, -1;
    if (inject.kind == SHORT && is_ours(CALLER) && n > 0) {
        if (__atomic_add_fetch(&inject.count, 1, __ATOMIC_RELAXED) % 3 == 0)
            return errno = EINTR, -1;
        size_t most = v[0].iov_len > inject.n ? inject.n : v[0].iov_len;
        if (most > 0) return REAL(read, ssize_t(*)(int, void *, size_t))(fd, v[0].iov_base, most);
    }
    return REAL(readv, ssize_t(*)(int, const struct iovec *, int))(fd, v, n);
}

ssize_t write(int fd, const void *buf, size_t n) {
    if (hit(WRITE, CALLER)) return errno = ENOSPC, -1;
    if (dies(CALLER)) {
        REAL(write, ssize_t(*)(int, const void *, size_t))(fd, buf, n / 2);
        die();
    }
    if (inject.kind == SHORT && is_ours(CALLER) && n > inject.n) n = inject.n;
    return REAL(write, ssize_t(*)(int, const void *, size_t))(fd, buf, n);
}

ssize_t writev(int fd, const struct iovec *v, int n) {
    if (hit(WRITE, CALLER)) return errno = ENOSPC, -1;
    if (dies(CALLER)) {
        REAL(writev, ssize_t(*)(int, const struct iovec *, int))(fd, v, (n + 1) / 2);
        die();
    }
    return REAL(writev, ssize_t(*)(int, const struct iovec *, int))(fd, v, n);
}

int open(const char *path, int flags, ...) {
    if (hit(OPEN, CALLER)) return errno = EMFILE, -1;
    __builtin_va_list ap;
    __builtin_va_start(ap, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? __builtin_va_arg(ap, int) : 0;
    __builtin_va_end(ap);
    return REAL(open, int (*)(const char *, int, int))(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    if (hit(OPEN, CALLER)) return errno = EMFILE, NULL;
    return REAL(fopen, FILE * (*)(const char *, const char *))(path, mode);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    if (hit(MAP, CALLER)) return errno = ENOMEM, MAP_FAILED;
    return REAL(mmap, void *(*)(void *, size_t, int, int, int, off_t))(at, n, protection, flags, fd,
                                                                       offset);
}

int fsync(int fd) {
    if (hit(SYNC, CALLER)) return errno = EIO, -1;
    if (dies(CALLER)) die();
    return REAL(fsync, int (*)(int))(fd);
}

int rename(const char *from, const char *to) {
    if (hit(SYNC, CALLER)) return errno = EIO, -1;
    if (dies(CALLER)) die();
    return REAL(rename, int (*)(const char *, const char *))(from, to);
}

int unlink(const char *path) {
    if (dies(CALLER)) die();
    return REAL(unlink, int (*)(const char *))(path);
}

int ftruncate(int fd, off_t n) {
    if (dies(CALLER)) die();
    return REAL(ftruncate, int (*)(int, off_t))(fd, n);
}

/* glibc's own names: dlsym allocates, and would come back here. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) {
    if (hit(ALLOC, CALLER)) return errno = ENOMEM, NULL;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    if (hit(ALLOC, CALLER)) return errno = ENOMEM, NULL;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
    if (hit(ALLOC, CALLER)) return errno = ENOMEM, NULL;
    return __libc_realloc(p, n);
}

char *strdup(const char *s) {
    if (hit(ALLOC, CALLER)) return errno = ENOMEM, NULL;
    char *copy = __libc_malloc(strlen(s) + 1);
    return copy ? strcpy(copy, s) : NULL;
}

void *aligned_alloc(size_t align, size_t n) {
    if (hit(ALLOC, CALLER)) return errno = ENOMEM, NULL;
    return __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n) {
    if (hit(ALLOC, CALLER)) return ENOMEM;
    *out = __libc_memalign(align, n);
    return *out ? 0 : ENOMEM;
}
