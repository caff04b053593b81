/* Runs a fuzz target without a fuzzer: the seeds as they are, then mutations of them, the same at
 * every run. `make check` does this for a few seconds per target; `make fuzz` links the same
 * targets with libFuzzer instead.
 *
 *   build/fuzz/NAME SEED_DIR [--runs N] [--only K]
 *
 * A target is a file with LLVMFuzzerTestOneInput and a folder of seeds, tests/fuzz/seeds/NAME. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SEEDS_MAX 256
#define SEED_BYTES_MAX ((size_t)256 << 10)
#define MUTATIONS_MAX 6
#define RUNS 3000
#define SECONDS_PER_RUN 10
#define RESIDENT_KIB_MAX ((long)1 << 20) /* forged sizes must not become allocations */

static struct {
    uint8_t *data;
    size_t n;
} seeds[SEEDS_MAX];
static size_t n_seed;
static uint64_t random_state;

static uint64_t next_random(void) { /* splitmix64 */
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t n) {
    return n ? (size_t)(next_random() % n) : 0;
}

static void load(const char *path) {
    struct stat st;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (!f || n_seed == SEEDS_MAX) exit(70);
    seeds[n_seed].data = malloc(SEED_BYTES_MAX);
    if (!seeds[n_seed].data) exit(70);
    seeds[n_seed].n = fread(seeds[n_seed].data, 1, SEED_BYTES_MAX, f);
    n_seed++;
    fclose(f);
}

static int visible(const struct dirent *d) {
    return d->d_name[0] != '.';
}

/* In the order of their names, so that run K is the same everywhere. */
static void load_folder(const char *folder) {
    struct dirent **list;
    int n = scandir(folder, &list, visible, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        load(path);
        free(list[i]);
    }
    if (n >= 0) free(list);
}

/* One change in place: a bit, a byte, an extreme number, a run of bytes gone, doubled or taken from
 * another seed, the end cut off. n stays within SEED_BYTES_MAX. */
static size_t mutate(uint8_t *data, size_t n) {
    static const uint64_t extreme[] = {0,          1,          0x7f,       0x80,
                                       0xff,       0xffff,     0x7fffffff, 0x80000000,
                                       0xffffffff, UINT64_MAX, 1ull << 63, 1ull << 40};
    size_t at = below(n), len = 1 + below(32), width = (size_t)1 << below(4);
    uint64_t value = extreme[below(sizeof extreme / sizeof extreme[0])];
    if (n == 0) return 0;
    if (len > n - at) len = n - at;
    switch (below(7)) {
    case 0: data[at] = (uint8_t)(data[at] ^ (1u << below(8))); return n;
    case 1: data[at] = (uint8_t)next_random(); return n;
    case 2: /* in either byte order */
        for (size_t i = 0, big = below(2); i < width && at + i < n; i++)
            data[at + i] = (uint8_t)(value >> (8 * (big ? width - 1 - i : i)));
        return n;
    case 3: memmove(data + at, data + at + len, n - at - len); return n - len;
    case 4:
        if (n + len > SEED_BYTES_MAX) return n;
        memmove(data + at + len, data + at, n - at);
        return n + len;
    case 5: {
        size_t other = below(n_seed), from = below(seeds[other].n);
        if (len > seeds[other].n - from) len = seeds[other].n - from;
        memcpy(data + at, seeds[other].data + from, len);
        return n;
    }
    default: return below(8) ? n : at;
    }
}

static void run_one(uint64_t k) {
    size_t n;
    uint8_t *data = malloc(SEED_BYTES_MAX);
    if (!data) exit(70);
    random_state = k * 0x9E3779B97F4A7C15u;
    size_t seed = k < n_seed ? (size_t)k : below(n_seed);
    n = seeds[seed].n;
    memcpy(data, seeds[seed].data, n);
    if (k >= n_seed)
        for (size_t i = below(MUTATIONS_MAX) + 1; i > 0; i--) n = mutate(data, n);
    uint8_t *exact = malloc(n ? n : 1); /* a read past the end is a read past the allocation */
    if (!exact) exit(70);
    memcpy(exact, data, n);
    free(data);
    alarm(SECONDS_PER_RUN);
    LLVMFuzzerTestOneInput(exact, n);
    alarm(0);
    free(exact);
}

int main(int argc, char **argv) {
    uint64_t runs = RUNS, only = UINT64_MAX;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only = strtoull(argv[++i], NULL, 10);
        else
            load_folder(argv[i]);
    }
    if (n_seed == 0) {
        printf("not ok 1 - no seeds\n1..1\n");
        return 1;
    }
    if (only != UINT64_MAX) {
        run_one(only);
        return 0;
    }
    /* A child runs them and counts in shared memory, so that the parent can say which one failed.
     */
    uint64_t *at =
        mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return 70;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (*at = 0; *at < n_seed + runs; ++*at) run_one(*at);
        exit(0);
    }
    int status = 1;
    struct rusage use;
    if (child < 0 || wait4(child, &status, 0, &use) != child) return 70;
    printf("%sok 1 - %llu inputs of %zu seeds%s", status ? "not " : "", (unsigned long long)*at,
           n_seed, status ? "" : "\n");
    if (status)
        printf("; input %llu ended with status %#x; again: %s %s --only %llu\n",
               (unsigned long long)*at, (unsigned)status, argv[0], argc > 1 ? argv[1] : "",
               (unsigned long long)*at);
    int fat = use.ru_maxrss > RESIDENT_KIB_MAX;
    printf("%sok 2 - %ld MiB of memory at most\n1..2\n", fat ? "not " : "", use.ru_maxrss >> 10);
    for (size_t i = 0; i < n_seed; i++) free(seeds[i].data);
    return status || fat ? 1 : 0;
}
