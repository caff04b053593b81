/* Writes a random model of the shapes of mamba-130m, for measuring: make_model DIR [f32|bf16] */
#include "../../lib/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 768, INNER = 1536, STATE = 16, CONV = 4, RANK = 48, VOCAB = 50280, LAYERS = 24 };
enum { PER_LAYER = 10, LABELS = 13, TENSORS = LAYERS * PER_LAYER + 5 };

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

static void add_layer(int layer, enum sp_dtype dtype) {
    const struct {
        const char *name;
        uint32_t rank;
        uint64_t dim[3];
        float low, high;
    } parts[PER_LAYER] = {
        {"norm.weight", 1, {D}, 0.5f, 1.5f},
        {"mixer.in_proj.weight", 2, {2 * INNER, D}, -0.06f, 0.06f},
        {"mixer.conv1d.weight", 3, {INNER, 1, CONV}, -0.5f, 0.5f},
        {"mixer.conv1d.bias", 1, {INNER}, -0.1f, 0.1f},
        {"mixer.x_proj.weight", 2, {RANK + 2 * STATE, INNER}, -0.04f, 0.04f},
        {"mixer.dt_proj.weight", 2, {INNER, RANK}, -0.14f, 0.14f},
        {"mixer.dt_proj.bias", 1, {INNER}, -6, -2},
        {"mixer.A_log", 2, {INNER, STATE}, 0, 2.7f},
        {"mixer.D", 1, {INNER}, 0.5f, 1.5f},
        {"mixer.out_proj.weight", 2, {D, INNER}, -0.01f, 0.01f},
    };
    for (int i = 0; i < PER_LAYER; i++) {
        char name[100];
        snprintf(name, sizeof name, "backbone.layers.%d.%s", layer, parts[i].name);
        add(name, dtype, parts[i].rank, parts[i].dim, parts[i].low, parts[i].high);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: make_model DIR [f32|bf16]\n");
        return 2;
    }
    enum sp_dtype dtype = argc == 3 && strcmp(argv[2], "bf16") == 0 ? SP_BF16 : SP_F32;
    static struct sp_config c = {.arch = SP_ARCH_MAMBA,
                                 .d_model = D,
                                 .n_layer = LAYERS,
                                 .d_state = STATE,
                                 .d_conv = CONV,
                                 .d_inner = INNER,
                                 .dt_rank = RANK,
                                 .vocab_size = VOCAB,
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
    const uint64_t embeddings[] = {VOCAB, D}, norm[] = {D};
    add("backbone.embeddings.weight", dtype, 2, embeddings, -0.05f, 0.05f);
    for (int i = 0; i < LAYERS; i++) add_layer(i, dtype);
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
