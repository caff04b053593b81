/* Picks the kernels by the CPU's flags. The table is filled from the plain C path upward, each path
 * overriding what it is better at, so a path may leave any kernel to the one below it. */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif
static int has_always(void) {
    return 1;
}

/* Slowest first; a CPU that lacks one path lacks those after it. */
static const struct path {
    const char *name;
    int (*has)(void);
    void (*install)(struct sp_kernels *k);
} paths[] = {
    {"ref", has_always, sp_kernels_ref},
#if defined(__x86_64__)
    {"avx2", has_avx2, sp_kernels_avx2},
    {"avx512", has_avx512, sp_kernels_avx512},
#endif
};
enum { N_PATH = sizeof paths / sizeof paths[0] };

/* Installs paths up to and with `last` (NULL: all that the CPU has). */
static void install(struct sp_kernels *k, const char *last) {
    for (int i = 0; i < N_PATH && paths[i].has(); i++) {
        paths[i].install(k);
        if (last && strcmp(paths[i].name, last) == 0) break;
    }
}

void sp_kernels_init(struct sp_kernels *k) {
    install(k, getenv("STATEPIPE_CPU"));
}

int sp_kernels_paths(const char *names[4]) {
    int n = 0;
    while (n < N_PATH && paths[n].has()) {
        names[n] = paths[n].name;
        n++;
    }
    return n;
}

int sp_kernels_env_ok(const char **value) {
    *value = getenv("STATEPIPE_CPU");
    if (!*value || !**value) return 1;
    for (int i = 0; i < N_PATH && paths[i].has(); i++)
        if (strcmp(paths[i].name, *value) == 0) return 1;
    return 0;
}

int sp_kernels_get(struct sp_kernels *k, const char *name) {
    install(k, name);
    return strcmp(k->name, name) == 0;
}
