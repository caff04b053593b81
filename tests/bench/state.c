/* How fast a state is dumped and restored, in memory and through files, and where the time goes:
 *
 *     state MODEL DIR [ROUNDS]
 *
 * DIR is where the file is written. Every number is the best and the median of ROUNDS. */
#include "../../lib/io.h"
#include "../../lib/net.h"
#include "../../lib/state.h"
#include "../../lib/state_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 1000 };

/* What is asked for: a restored state in less than this. */
static const double restore_limit_ms = 1.0;

static struct sp_error err;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void must(enum sp_code code) {
    if (!code) return;
    fprintf(stderr, "state bench: %s\n", err.msg);
    exit(sp_error_exit_status(code));
}

struct bench {
    struct sp_model *model;
    struct sp_backend *be;
    struct sp_net *net;
    struct sp_seq *seq;
    struct sp_state *state;
    char path[4096], *bytes; /* of the file, n of them */
    size_t n;
};

/* ---- what is timed -------------------------------------------------------------------------- */

static void load(struct bench *b) {
    must(sp_seq_load(b->net, b->seq, b->state, &err));
}

static void store(struct bench *b) {
    must(sp_seq_store(b->net, b->seq, b->state, &err));
}

static void read_file(struct bench *b) {
    struct sp_state *s;
    must(sp_state_read(&s, b->path, &err));
    sp_state_free(s);
}

/* From a file to a sequence that goes on, as --load-state does it. */
static void read_and_load(struct bench *b) {
    struct sp_state *s;
    must(sp_state_read(&s, b->path, &err));
    must(sp_state_check(s, b->model, s->layer_first, s->layer_last, &err));
    must(sp_seq_load(b->net, b->seq, s, &err));
    sp_state_free(s);
}

static void write_file(struct bench *b, bool sync) {
    struct sp_atomic_file file;
    struct sp_writer *w;
    must(sp_atomic_open(&file, b->path, &err));
    must(sp_writer_new(&w, fileno(file.file), b->path, &err));
    must(sp_state_send(b->state, w, &err));
    must(sp_writer_flush(w, &err));
    sp_writer_free(w);
    must(sp_atomic_commit(&file, sync, &err));
}

static void write_only(struct bench *b) {
    write_file(b, false);
}

static void write_synced(struct bench *b) {
    write_file(b, true);
}

static void checksum(struct bench *b) {
    size_t layers = b->state->layer_last - b->state->layer_first + 1;
    struct sp_hash hash;
    struct sp_hasher *h = sp_hasher_new();
    if (!h) must(sp_error_memory(&err, "a checksum"));
    sp_hasher_add(h, b->state->ssm, layers * sp_state_ssm_size(b->state) * sizeof(float));
    sp_hasher_add(h, b->state->conv, layers * sp_state_conv_size(b->state) * sizeof(float));
    sp_hasher_end(h, &hash);
}

/* The same number of bytes in one write to a new file that replaces the old one. */
static void write_bytes(struct bench *b) {
    struct sp_atomic_file file;
    must(sp_atomic_open(&file, b->path, &err));
    must(sp_io_write(fileno(file.file), b->bytes, b->n, b->path, &err));
    must(sp_atomic_commit(&file, false, &err));
}

static void copy_bytes(struct bench *b) {
    char *buf;
    size_t n;
    must(sp_io_slurp(&buf, &n, b->path, (size_t)1 << 30, &err));
    free(buf);
}

static void allocate(struct bench *b) {
    struct sp_state *s;
    must(sp_state_alloc(&s, b->state, &err));
    size_t layers = s->layer_last - s->layer_first + 1;
    memset(s->conv, 1, layers * sp_state_conv_size(s) * sizeof(float));
    memset(s->ssm, 1, layers * sp_state_ssm_size(s) * sizeof(float));
    sp_state_free(s);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static const struct {
    const char *what;
    void (*run)(struct bench *);
    bool limited;
} timed[] = {
    {"restore in memory: state to sequence", load, true},
    {"dump in memory: sequence to state", store, false},
    {"restore a file: read, verify, to sequence", read_and_load, true},
    {"  read and verify alone", read_file, false},
    {"  of it, checksums (XXH3-128)", checksum, false},
    {"  of it, fresh memory for a state", allocate, false},
    {"  beside it: the file's bytes, nothing more", copy_bytes, false},
    {"dump to a file, renamed, not synced", write_only, false},
    {"  beside it: the file's bytes, nothing more", write_bytes, false},
    {"dump to a file, synced and renamed", write_synced, false},
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, size_t i, int rounds) {
    static double ms[ROUNDS_MAX];
    timed[i].run(b);
    for (int r = 0; r < rounds; r++) {
        double start = now_ms();
        timed[i].run(b);
        ms[r] = now_ms() - start;
    }
    qsort(ms, (size_t)rounds, sizeof *ms, by_size);
    double median = ms[rounds / 2];
    printf("%-44s best %7.3f ms, median %7.3f ms", timed[i].what, ms[0], median);
    if (timed[i].limited)
        printf(" (under %.0f ms: %s)", restore_limit_ms,
               median < restore_limit_ms ? "met" : "missed");
    printf("\n");
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: state MODEL DIR [ROUNDS]\n"), 2;
    int rounds = argc > 3 ? atoi(argv[3]) : 200;
    if (rounds < 1 || rounds > ROUNDS_MAX) rounds = ROUNDS_MAX;
    struct bench b = {0};
    must(sp_path_join(b.path, sizeof b.path, argv[2], "bench.state", &err));
    must(sp_model_open(&b.model, argv[1], &err));
    must(sp_backend_cpu_new(&b.be, 1, &err));
    const struct sp_config *c = sp_model_config(b.model);
    struct sp_net_options options = {0, (uint32_t)c->n_layer - 1, SP_F32};
    must(sp_net_new(&b.net, b.model, b.be, &options, &err));
    must(sp_seq_new(b.net, &b.seq, &err));
    must(sp_state_new(&b.state, b.model, 0, (uint32_t)c->n_layer - 1, &err));
    size_t n = sp_state_bytes(b.state) / sizeof(float);
    size_t conv = (size_t)c->n_layer * sp_state_conv_size(b.state);
    for (size_t i = 0; i < n; i++) /* no two alike, so that nothing is easier than it is */
        *(i < conv ? b.state->conv + i : b.state->ssm + i - conv) =
            (float)((uint64_t)i * 2654435761u % 1000003u) * 1e-6f;
    b.state->n_tok = 1;
    b.state->has_last = true;
    write_only(&b);
    must(sp_io_slurp(&b.bytes, &b.n, b.path, (size_t)1 << 30, &err));
    printf("state of %lld layers, d_inner %lld, d_state %lld, d_conv %lld: %.2f MiB of numbers, "
           "file %.2f MiB\n",
           (long long)c->n_layer, (long long)c->d_inner, (long long)c->d_state,
           (long long)c->d_conv, (double)sp_state_bytes(b.state) / (1 << 20),
           (double)b.n / (1 << 20));
    for (size_t i = 0; i < sizeof timed / sizeof *timed; i++) measure(&b, i, rounds);
    unlink(b.path);
    free(b.bytes);
    sp_state_free(b.state), sp_seq_free(b.net, b.seq), sp_net_free(b.net);
    b.be->free(b.be), sp_model_free(b.model);
    return 0;
}
