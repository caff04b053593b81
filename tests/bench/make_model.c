/* Writes a random model of the shapes of mamba-130m, for measuring:
 *
 *     make_model DIR [f32|bf16|thin]
 *
 * thin: hidden states of that width, but one layer with next to nothing in it, and a vocabulary of
 * bytes. What a pipe of it costs is the pipe. */
#include "../../lib/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 768, CONV = 4, LAYERS_MAX = 24, PER_LAYER = 10, LABELS = 13 };
enum { TENSORS = LAYERS_MAX * PER_LAYER + 5 };

struct shape {
    int64_t d_inner, d_state, dt_rank, vocab_size, n_layer;
};
static const struct shape full = {1536, 16, 48, 50280, LAYERS_MAX}, thin = {8, 1, 1, 264, 1};

static uint64_t seed = 1;

static float uniform(float low, float high) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (float)(seed >> 40) * 0x1p-24f;
}

static struct sp_named_tensor tensors[TENSORS];
static size_t n_tensor;

static void add(const char *name, enum sp_dtype dtype, uint32_t rank, const uint64_t *dim,
                float low, float high) {
    struct sp_tensor t = {.dtype = dtype, .rank = rank, .owned = true};
    memcpy(t.dim, dim, rank * sizeof *dim);
    if (!sp_tensor_bytes(dtype, rank, dim, &t.n_bytes) || !(t.data = malloc(t.n_bytes))) exit(69);
    for (size_t i = 0; i < t.n_bytes / sp_dtype_size(dtype); i++) {
        float x = uniform(low, high);
        if (dtype == SP_BF16)
            ((uint16_t *)t.data)[i] = sp_bf16_from_f32(x);
        else
            ((float *)t.data)[i] = x;
    }
    tensors[n_tensor++] = (struct sp_named_tensor){.name = strdup(name), .tensor = t};
}

static void add_layer(int64_t layer, const struct shape *s, enum sp_dtype dtype) {
    const uint64_t inner = (uint64_t)s->d_inner, state = (uint64_t)s->d_state,
                   rank = (uint64_t)s->dt_rank;
    const struct {
        const char *name;
        uint32_t rank;
        uint64_t dim[3];
        float low, high;
    } parts[PER_LAYER] = {
        {"norm.weight", 1, {D}, 0.5f, 1.5f},
        {"mixer.in_proj.weight", 2, {2 * inner, D}, -0.06f, 0.06f},
        {"mixer.conv1d.weight", 3, {inner, 1, CONV}, -0.5f, 0.5f},
        {"mixer.conv1d.bias", 1, {inner}, -0.1f, 0.1f},
        {"mixer.x_proj.weight", 2, {rank + 2 * state, inner}, -0.04f, 0.04f},
        {"mixer.dt_proj.weight", 2, {inner, rank}, -0.14f, 0.14f},
        {"mixer.dt_proj.bias", 1, {inner}, -6, -2},
        {"mixer.A_log", 2, {inner, state}, 0, 2.7f},
        {"mixer.D", 1, {inner}, 0.5f, 1.5f},
        {"mixer.out_proj.weight", 2, {D, inner}, -0.01f, 0.01f},
    };
    for (int i = 0; i < PER_LAYER; i++) {
        char name[100];
        snprintf(name, sizeof name, "backbone.layers.%lld.%s", (long long)layer, parts[i].name);
        add(name, dtype, parts[i].rank, parts[i].dim, parts[i].low, parts[i].high);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: make_model DIR [f32|bf16|thin]\n");
        return 2;
    }
    const struct shape *s = argc == 3 && strcmp(argv[2], "thin") == 0 ? &thin : &full;
    enum sp_dtype dtype = argc == 3 && strcmp(argv[2], "bf16") == 0 ? SP_BF16 : SP_F32;
    struct sp_config c = {.arch = SP_ARCH_MAMBA,
                          .d_model = D,
                          .n_layer = s->n_layer,
                          .d_state = s->d_state,
                          .d_conv = CONV,
                          .d_inner = s->d_inner,
                          .dt_rank = s->dt_rank,
                          .vocab_size = s->vocab_size,
                          .norm_eps = 1e-5,
                          .mixer_norm_eps = 1e-6,
                          .use_conv_bias = true,
                          .tied = true,
                          .n_head = 2,
                          .head = {{.name = "lm", .type = SP_HEAD_LM},
                                   {.name = "tag", .type = SP_HEAD_TAG, .n_label = LABELS}},
                          .default_head = "tag",
                          .passes = 1,
                          .tokenizer = "bytes"};
    const uint64_t embeddings[] = {(uint64_t)s->vocab_size, D}, norm[] = {D};
    add("backbone.embeddings.weight", dtype, 2, embeddings, -0.05f, 0.05f);
    for (int64_t i = 0; i < s->n_layer; i++) add_layer(i, s, dtype);
    add("backbone.norm_f.weight", dtype, 1, norm, 0.5f, 1.5f);
    static const char *const fields[] = {"institution", "degree", "year"};
    snprintf(c.head[1].label[0], SP_NAME_MAX, "O");
    for (int i = 1; i < LABELS; i++)
        snprintf(c.head[1].label[i], SP_NAME_MAX, "%c-%s", "NBSI"[(i - 1) / 3],
                 fields[(i - 1) % 3]);
    const uint64_t tag[] = {LABELS, D}, transitions[] = {LABELS + 2, LABELS};
    add("statepipe.tag.weight", SP_F32, 2, tag, -0.1f, 0.1f);
    add("statepipe.tag.bias", SP_F32, 1, tag, 0, 1);
    add("statepipe.tag.trans", SP_F32, 2, transitions, -1, 1);
    struct sp_error err;
    if (sp_model_save(argv[1], &c, tensors, n_tensor, &err)) {
        fprintf(stderr, "make_model: %s\n", err.msg);
        return sp_error_exit_status(err.code);
    }
    for (size_t i = 0; i < n_tensor; i++) {
        free((char *)(uintptr_t)tensors[i].name);
        free(tensors[i].tensor.data);
    }
    return 0;
}
