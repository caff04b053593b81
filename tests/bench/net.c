/* How fast the network is, beside what the machine gives in the same run:
 *
 *     net MODEL [f32|bf16] [THREADS] [ROUNDS] [wall|cpu] [TOKENS...]
 *
 * read: the memory's read bandwidth, over as many bytes as the model's weights. products, scan: the
 * matrix products of all layers and the scan kernel of all layers, alone, for the same tokens.
 * Every number is the best of some rounds that take turns: machines drift. `cpu` counts the CPU
 * time of the process instead, for a machine that others use too. */
#include "../../lib/net.h"
#include "../../lib/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 2048, DECODE_STEPS = 24, PIECES = 64 };

/* What is asked for, in wall time: the layers' time beside that of their products and scan, and the
 * part of the read bandwidth that decoding uses. */
static const double prefill_limit = 1.33, decode_limit_f32 = 0.85, decode_limit_bf16 = 0.75;

static struct sp_error err;

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(enum sp_code code) {
    if (!code) return;
    fprintf(stderr, "net bench: %s\n", err.msg);
    exit(sp_error_exit_status(code));
}

struct bench {
    struct sp_model *model;
    const struct sp_config *c;
    struct sp_backend *be;
    struct sp_pool *pool;
    enum sp_dtype dtype;
    struct sp_net *net;
    struct sp_head_net *head;
    struct sp_seq *seq;
    float *hidden, *scores;
    struct sp_weight **weight; /* (layers, 4) */
    float *x, *y, *state, *A;
};

/* ---- read bandwidth ------------------------------------------------------------------------- */

typedef uint64_t vec __attribute__((vector_size(64)));
struct reading {
    const vec *data;
    size_t n; /* of a piece */
    uint64_t sum[PIECES];
};

/* In the widest registers that there are, asking ahead: nothing reads faster. */
__attribute__((target_clones("avx512f", "avx2", "default"))) static void
read_piece(void *ctx, int64_t item, int thread) {
    (void)thread;
    struct reading *r = ctx;
    const vec *p = r->data + (size_t)item * r->n;
    vec a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= r->n; i += 4) {
        for (size_t k = 0; k < 4; k++) __builtin_prefetch(p + i + 128 + k);
        a += p[i], b += p[i + 1], c += p[i + 2], d += p[i + 3];
    }
    a += b + c + d;
    r->sum[item] = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static double read_seconds(struct bench *b, struct reading *r) {
    double start = now();
    sp_pool_run(b->pool, PIECES, read_piece, r);
    return now() - start;
}

/* ---- the network ---------------------------------------------------------------------------- */

static double prefill_seconds(struct bench *b, int64_t n_tok) {
    must(sp_seq_reset(b->net, b->seq, &err));
    double start = now();
    for (int64_t at = 0; at < n_tok; at += BATCH) {
        int64_t cu[] = {0, n_tok - at < BATCH ? n_tok - at : BATCH};
        struct sp_batch batch = {.n_seq = 1, .cu_seqlens = cu, .states = &b->seq};
        must(sp_net_forward(b->net, &batch, b->hidden, &err));
    }
    return now() - start;
}

static double decode_seconds(struct bench *b) {
    double start = now();
    int64_t cu[] = {0, 1};
    struct sp_batch batch = {.n_seq = 1, .cu_seqlens = cu, .states = &b->seq, .step = true};
    for (int i = 0; i < DECODE_STEPS; i++) {
        must(sp_net_forward(b->net, &batch, b->hidden, &err));
        must(sp_head_net_forward(b->head, b->hidden, 1, true, b->scores, &err));
    }
    return (now() - start) / DECODE_STEPS;
}

/* ---- its parts ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    enum { WIDE, INNER, RANK, MODEL, PARTS } in, out;
} shapes[] = {{"in_proj", MODEL, WIDE},
              {"x_proj", INNER, PARTS},
              {"dt_proj", RANK, INNER},
              {"out_proj", INNER, MODEL}};

static int64_t width(const struct bench *b, int what) {
    const struct sp_config *c = b->c;
    const int64_t widths[] = {2 * c->d_inner, c->d_inner, c->dt_rank, c->d_model,
                              c->dt_rank + 2 * c->d_state};
    return widths[what];
}

static void load_products(struct bench *b) {
    b->weight = calloc((size_t)b->c->n_layer * 4, sizeof *b->weight);
    for (int64_t i = 0; i < b->c->n_layer * 4; i++) {
        char name[100];
        snprintf(name, sizeof name, "backbone.layers.%lld.mixer.%s.weight", (long long)(i / 4),
                 shapes[i % 4].name);
        must(b->be->weight_new(b->be, sp_model_tensor(b->model, name), NULL,
                               shapes[i % 4].in == RANK ? SP_F32 : b->dtype, &b->weight[i], &err));
    }
}

static double products_seconds(struct bench *b, int64_t n_tok) {
    double start = now();
    for (int64_t at = 0; at < n_tok; at += BATCH) {
        int64_t n = n_tok - at < BATCH ? n_tok - at : BATCH;
        for (int64_t i = 0; i < b->c->n_layer * 4; i++) {
            int64_t in = width(b, (int)shapes[i % 4].in), out = width(b, (int)shapes[i % 4].out);
            must(b->be->linear(b->be, b->weight[i], b->x, in, n, false, b->y, out, false, &err));
        }
    }
    return now() - start;
}

static double scan_seconds(struct bench *b, int64_t n_tok) {
    const struct sp_config *c = b->c;
    const float *in[] = {b->state};
    float *out[] = {b->state};
    double start = now();
    for (int64_t at = 0; at < n_tok; at += BATCH) {
        int64_t cu[] = {0, n_tok - at < BATCH ? n_tok - at : BATCH};
        struct sp_scan a = {.n_seq = 1, .d_inner = c->d_inner, .d_state = c->d_state};
        a.cu_seqlens = cu;
        a.x = b->x;
        a.dt = b->x + BATCH * c->d_inner;
        a.z = a.dt + BATCH * c->d_inner;
        a.B = a.z + BATCH * c->d_inner;
        a.C = a.B + c->d_state;
        a.ldx = a.lddt = a.ldz = a.ldy = c->d_inner;
        a.ldb = a.ldc = 2 * c->d_state;
        a.A = b->A;
        a.y = b->y;
        a.state_in = in;
        a.state_out = out;
        for (int64_t i = 0; i < c->n_layer; i++) must(b->be->scan_fwd(b->be, &a, false, &err));
    }
    return now() - start;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static void best(double *least, double seconds) {
    if (*least == 0 || seconds < *least) *least = seconds;
}

static void measure_prefill(struct bench *b, int64_t n_tok, int rounds) {
    double prefill = 0, products = 0, scan = 0;
    for (int i = 0; i < rounds; i++) {
        best(&prefill, prefill_seconds(b, n_tok));
        best(&products, products_seconds(b, n_tok));
        best(&scan, scan_seconds(b, n_tok));
    }
    double flops = 0, n = (double)n_tok, ratio = prefill / (products + scan);
    for (int i = 0; i < 4; i++)
        flops += 2.0 * n * (double)b->c->n_layer * (double)width(b, (int)shapes[i].in) *
                 (double)width(b, (int)shapes[i].out);
    printf("prefill %5lld tokens: %7.0f tokens/s; products alone %7.0f (%.0f GFLOP/s), scan alone "
           "%7.0f; time is %.2f x products + scan (at most %.2f: %s)\n",
           (long long)n_tok, n / prefill, n / products, flops / products * 1e-9, n / scan, ratio,
           prefill_limit, ratio <= prefill_limit ? "met" : "missed");
}

static size_t weight_bytes(const struct bench *b) {
    size_t n = (size_t)(b->c->vocab_size * b->c->d_model), d = (size_t)b->c->n_layer;
    for (int i = 0; i < 4; i++)
        n += d * (size_t)(width(b, (int)shapes[i].in) * width(b, (int)shapes[i].out));
    return n * (b->dtype == SP_BF16 ? 2 : 4);
}

static void measure_decode(struct bench *b, int rounds) {
    struct reading r = {0};
    size_t bytes = weight_bytes(b);
    r.n = bytes / PIECES / sizeof(vec);
    vec *data = aligned_alloc(64, r.n * PIECES * sizeof(vec));
    if (!data) exit(69);
    memset(data, 1, r.n * PIECES * sizeof(vec));
    r.data = data;
    double read = 0, decode = 0;
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < 5; k++) best(&read, read_seconds(b, &r));
        best(&decode, decode_seconds(b));
    }
    double limit = b->dtype == SP_BF16 ? decode_limit_bf16 : decode_limit_f32;
    double bandwidth = (double)(r.n * PIECES * sizeof(vec)) / read, used = (double)bytes / decode;
    printf("decode: %.1f tokens/s, %.0f MB of weights a token at %.1f GB/s; reading memory %.1f "
           "GB/s: %.0f %% (at least %.0f %%: %s)\n",
           1 / decode, (double)bytes * 1e-6, used * 1e-9, bandwidth * 1e-9, 100 * used / bandwidth,
           100 * limit, used >= limit * bandwidth ? "met" : "missed");
    free(data);
}

static float *floats(int64_t n, float low, float high) {
    float *x = malloc((size_t)n * sizeof(float));
    if (!x) exit(69);
    for (int64_t i = 0; i < n; i++)
        x[i] = low + (high - low) * (float)((uint64_t)(i * 2654435761) % 1000) / 1000;
    return x;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return fprintf(stderr,
                       "usage: net MODEL [f32|bf16] [THREADS] [ROUNDS] [wall|cpu] [TOKENS...]\n"),
               2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 5 && strcmp(argv[5], "cpu") == 0) clock_used = CLOCK_PROCESS_CPUTIME_ID;
    struct bench b = {.dtype = argc > 2 && strcmp(argv[2], "bf16") == 0 ? SP_BF16 : SP_F32};
    int threads = argc > 3 ? atoi(argv[3]) : 0, rounds = argc > 4 ? atoi(argv[4]) : 5;
    must(sp_model_open(&b.model, argv[1], &err));
    must(sp_backend_cpu_new(&b.be, threads, &err));
    must(sp_pool_new(&b.pool, threads, &err));
    b.c = sp_model_config(b.model);
    const struct sp_config *c = b.c;
    struct sp_net_options options = {0, (uint32_t)c->n_layer - 1, b.dtype};
    must(sp_net_new(&b.net, b.model, b.be, &options, &err));
    must(sp_head_net_new(&b.head, b.model, b.be, "lm", b.dtype, &err));
    must(sp_seq_new(b.net, &b.seq, &err));
    load_products(&b);
    b.hidden = floats(BATCH * c->d_model, -1, 1);
    b.scores = floats(c->vocab_size, 0, 0);
    b.x = floats(BATCH * (3 * c->d_inner + 2 * c->d_state), -1, 1);
    b.y = floats(BATCH * 2 * c->d_inner, 0, 0);
    b.state = floats(c->d_inner * c->d_state, 0, 0);
    b.A = floats(c->d_inner * c->d_state, -8, -1);
    char what[400];
    b.be->describe(b.be, what, sizeof what);
    printf("%s, products in %s: %s\n", argv[1], sp_dtype_name(b.dtype), what);
    measure_decode(&b, rounds);
    static const int64_t lengths[] = {512, 2048, 8192};
    for (size_t i = 0; argc <= 6 && i < sizeof lengths / sizeof *lengths; i++)
        measure_prefill(&b, lengths[i], i == 2 ? (rounds + 2) / 3 : rounds);
    for (int i = 6; i < argc; i++) measure_prefill(&b, atoll(argv[i]), rounds);
    for (int64_t i = 0; i < c->n_layer * 4; i++) b.be->weight_free(b.be, b.weight[i]);
    free(b.weight), free(b.hidden), free(b.scores);
    free(b.x), free(b.y), free(b.state), free(b.A);
    sp_seq_free(b.net, b.seq), sp_head_net_free(b.head), sp_net_free(b.net);
    sp_pool_free(b.pool), b.be->free(b.be), sp_model_free(b.model);
    return 0;
}
