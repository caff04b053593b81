/* What the checks of the kernels share: the paths of this machine, buffers that live as long as a
 * case, comparison, and the table of --bench. */
#ifndef SP_CHECK_KERNEL_H
#define SP_CHECK_KERNEL_H

#include "../../kernels/kernels.h"
#include "check.h"

#include <math.h>
#include <time.h>

/* The vector paths' distance from the plain C path, ||a - b|| / ||b||, per output buffer. */
#define KERNEL_TOLERANCE 1e-6

static struct {
    int n_path;
    struct sp_kernels path[4]; /* slowest first; path[0] is the plain C one */
    int n_buffer;
    void *buffer[256];
} kernel_state;

static inline void kernel_start(int argc, char **argv) {
    check_start(argc, argv);
    const char *names[4];
    kernel_state.n_path = sp_kernels_paths(names);
    for (int i = 0; i < kernel_state.n_path; i++)
        if (!sp_kernels_get(&kernel_state.path[i], names[i])) abort();
}

/* Exactly n zeros of their own, so that a sanitizer sees one float read too many; aligned like the
 * backend's buffers. Belongs to the case: released by kernel_end_case. */
static inline void *kernel_alloc(int64_t n, size_t size) {
    if (kernel_state.n_buffer == 256) abort();
    void *p;
    size_t bytes = (size_t)(n > 0 ? n : 1) * size;
    if (posix_memalign(&p, 64, bytes)) abort();
    memset(p, 0, bytes);
    return kernel_state.buffer[kernel_state.n_buffer++] = p;
}
static inline float *kernel_floats(int64_t n) {
    return kernel_alloc(n, sizeof(float));
}
static inline float *kernel_random(int64_t n, float low, float high) {
    float *p = kernel_floats(n);
    check_fill(p, n, low, high);
    return p;
}
static inline float *kernel_copy(const float *from, int64_t n) {
    float *p = kernel_floats(n);
    if (n > 0) memcpy(p, from, (size_t)n * sizeof *p);
    return p;
}
static inline void kernel_end_case(void) {
    while (kernel_state.n_buffer > 0) free(kernel_state.buffer[--kernel_state.n_buffer]);
}

static inline bool kernel_same_bits(const float *a, const float *b, int64_t n) {
    return n <= 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0;
}
/* Infinity unless both have their NaN and infinities at the same places; else the relative error of
 * the rest, where what is as small as denormal numbers does not count. */
static inline double kernel_special_error(const float *a, const float *b, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(a[i]) != isnan(b[i]) || isinf(a[i]) != isinf(b[i])) return INFINITY;
        if (isinf(a[i]) && a[i] != b[i]) return INFINITY;
        if (!isfinite(a[i])) continue;
        double d = fabs((double)a[i] - (double)b[i]);
        diff += d < 1e-37 ? 0 : d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return diff == 0 ? 0 : sqrt(diff / (norm > 0 ? norm : 1e-300));
}
/* ||a - b|| / ||b|| over all cases of a check: in one small case alone, all that makes up a sum may
 * cancel and leave nothing but rounding. NaN is an infinite error. */
struct kernel_error {
    double diff, norm;
};
static inline void kernel_compare(struct kernel_error *e, const float *a, const float *b,
                                  int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        e->diff += isnan(d) ? INFINITY : d * d;
        e->norm += (double)b[i] * (double)b[i];
    }
}
static inline double kernel_error(const struct kernel_error *e) {
    return e->diff == 0 ? 0 : sqrt(e->diff / e->norm);
}
static inline double kernel_worst(double a, double b) {
    return isnan(b) || b > a ? (isnan(b) ? INFINITY : b) : a;
}

/* Seconds of this thread in one call: the best of many, because what the machine adds is never
 * negative. */
static inline double kernel_seconds(void (*run)(void *), void *context) {
    double best = INFINITY, total = 0;
    for (int i = 0; i < 5 || (total < 0.3 && i < 10000); i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        run(context);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        best = s < best ? s : best;
        total += s;
    }
    return best;
}
/* One row of the table; `work` counts what `unit` names (elements, bytes) in one call, and
 * `seconds_ref` is the plain C path's time. */
static inline void kernel_bench_row(const char *kernel, const char *shape, const char *path,
                                    double seconds, double seconds_ref, double work,
                                    const char *unit) {
    printf("# %-12s %-30s %-7s %10.1f us %7.1f x %9.2f %s\n", kernel, shape, path, seconds * 1e6,
           seconds_ref / seconds, work / seconds * 1e-9, unit);
    fflush(stdout);
}

#endif
