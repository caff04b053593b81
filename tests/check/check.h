/* A C check program: prints TAP, one line per named check, and goes on after a failure.
 *
 *   int main(int argc, char **argv) {
 *       check_start(argc, argv);                   // --seed N, --bench, --test=PREFIX
 *       if (check_wanted("scan_fwd")) check_ok(worst < 1e-6, "scan_fwd: error %g", worst);
 *       return check_end();
 *   }
 */
#ifndef SP_CHECK_H
#define SP_CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    int n, n_failed;
    bool bench;
    uint64_t seed, random;
    const char *only;
} check_state = {.seed = 1};

static inline void check_start(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) check_state.bench = true;
        if (strncmp(argv[i], "--test=", 7) == 0) check_state.only = argv[i] + 7;
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            check_state.seed = strtoull(argv[++i], NULL, 10);
    }
    check_state.random = check_state.seed * 0x9E3779B97F4A7C15u + 1;
    printf("# seed %llu\n", (unsigned long long)check_state.seed);
}

static inline bool check_wanted(const char *name) {
    return !check_state.only || strncmp(name, check_state.only, strlen(check_state.only)) == 0;
}

__attribute__((format(printf, 2, 3))) static inline bool check_ok(bool ok, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("%sok %d - ", ok ? "" : "not ", ++check_state.n);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    if (!ok) check_state.n_failed++;
    fflush(stdout);
    return ok;
}

static inline int check_end(void) {
    printf("1..%d\n", check_state.n);
    return check_state.n_failed ? 1 : 0;
}

/* splitmix64 */
static inline uint64_t check_random(void) {
    uint64_t z = check_state.random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline int64_t check_random_int(int64_t low, int64_t high) { /* inclusive */
    return low + (int64_t)(check_random() % (uint64_t)(high - low + 1));
}
static inline float check_random_float(float low, float high) {
    return low + (high - low) * (float)(check_random() >> 40) * 0x1p-24f;
}
static inline void check_fill(float *x, int64_t n, float low, float high) {
    for (int64_t i = 0; i < n; i++) x[i] = check_random_float(low, high);
}
/* ||a - b|| / ||b||; both zero: 0; NaN anywhere: infinity. */
static inline double check_relative_error(const float *a, const float *b, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        diff += d * d;
        norm += (double)b[i] * b[i];
    }
    if (diff == 0) return 0;
    double r = __builtin_sqrt(diff / (norm > 0 ? norm : 1e-300));
    return r == r ? r : __builtin_inf();
}

#endif
