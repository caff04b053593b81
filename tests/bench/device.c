/* Tokens a second of the network on a device, for tests/gpu-check:
 *
 *     device MODEL DEVICE [f32|bf16] [TOKENS] [STEPS]
 *
 * Wall time, the best of three: reading TOKENS of one document, and of eight in one batch; decoding
 * (layers and the model's head) 1, 4, 16 and 64 sequences together, STEPS tokens each. */
#include "../../lib/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEQ_MAX = 64, BATCH = 2048, ROUNDS = 3 };

static struct sp_error err;
static struct sp_net *net;
static struct sp_head_net *head;
static struct sp_seq *seq[SEQ_MAX];
static float *hidden, *scores;

static void must(enum sp_code code) {
    if (!code) return;
    fprintf(stderr, "device bench: %s\n", err.msg);
    exit(sp_error_exit_status(code));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* n_seq documents of n tokens, side by side in batches. */
static double prefill(int n_seq, int64_t n) {
    double start = now();
    for (int64_t at = 0, part; at < n; at += part) {
        part = n - at < BATCH / n_seq ? n - at : BATCH / n_seq;
        int64_t cu[SEQ_MAX + 1];
        for (int s = 0; s <= n_seq; s++) cu[s] = s * part;
        struct sp_batch batch = {.n_seq = n_seq, .cu_seqlens = cu, .states = seq};
        must(sp_net_forward(net, &batch, hidden, &err));
    }
    return (double)(n * n_seq) / (now() - start);
}

static double decode(int n_seq, int64_t n) {
    int64_t cu[SEQ_MAX + 1];
    for (int s = 0; s <= n_seq; s++) cu[s] = s;
    struct sp_batch batch = {
        .n_seq = n_seq, .cu_seqlens = cu, .states = seq, .step = true, .one = true};
    double start = now();
    for (int64_t i = 0; i < n; i++) {
        must(sp_net_forward(net, &batch, hidden, &err));
        must(sp_head_net_forward(head, hidden, n_seq, true, scores, &err));
    }
    return (double)(n * n_seq) / (now() - start);
}

static double best(double (*run)(int, int64_t), int n_seq, int64_t n) {
    double most = 0;
    run(n_seq, n < 4 ? n : 4); /* what is made once */
    for (int i = 0; i < ROUNDS; i++) {
        double speed = run(n_seq, n);
        most = speed > most ? speed : most;
    }
    return most;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fprintf(stderr, "usage: device MODEL DEVICE [f32|bf16] [TOKENS] [STEPS]\n"), 2;
    const bool half = argc > 3 && strcmp(argv[3], "bf16") == 0;
    const int64_t n_tok = argc > 4 ? atoll(argv[4]) : 2048, n_step = argc > 5 ? atoll(argv[5]) : 64;
    struct sp_model *m;
    struct sp_backend *be;
    char text[400];
    must(sp_model_open(&m, argv[1], &err));
    must(sp_backend_open(&be, argv[2], 0, &err));
    const struct sp_config *c = sp_model_config(m);
    const enum sp_dtype dtype = half ? SP_BF16 : SP_F32;
    const struct sp_net_options options = {0, (uint32_t)c->n_layer - 1, dtype};
    must(sp_net_new(&net, m, be, &options, &err));
    must(sp_head_net_new(&head, m, be, NULL, dtype, &err));
    for (int s = 0; s < SEQ_MAX; s++) must(sp_seq_new(net, &seq[s], &err));
    hidden = calloc((size_t)(BATCH * c->d_model), sizeof *hidden);
    scores = calloc((size_t)(SEQ_MAX * sp_head_net_outputs(head)), sizeof *scores);
    if (!hidden || !scores) return 69;
    for (int64_t i = 0; i < BATCH * c->d_model; i++) hidden[i] = (float)(i % 7 - 3) / 8;
    be->describe(be, text, sizeof text);
    printf("%s, %s\n", text, sp_dtype_name(dtype));
    printf("  prefill, 1 document    %10.0f tokens/s\n", best(prefill, 1, n_tok));
    printf("  prefill, 8 documents   %10.0f tokens/s\n", best(prefill, 8, n_tok / 8));
    for (int n = 1; n <= SEQ_MAX; n *= 4)
        printf("  decode, %2d sequences   %10.1f tokens/s\n", n, best(decode, n, n_step));
    for (int s = 0; s < SEQ_MAX; s++) sp_seq_free(net, seq[s]);
    sp_head_net_free(head);
    sp_net_free(net);
    be->free(be);
    sp_model_free(m);
    free(hidden);
    free(scores);
    return 0;
}
