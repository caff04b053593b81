/* Small arrays of the host that kernels read, and replay: what makes decode, where the same calls
 * come again and again, one launch of a CUDA graph without a copy. */
#include "backend_cuda.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ARGS_BYTES ((size_t)1 << 20)

/* ---- arrays -----------------------------------------------------------------------------------*/

static enum sp_code args_alloc(struct sp_cuda *c, size_t n_bytes, struct sp_error *err) {
    void *host = NULL, *dev = NULL;
    SP_CUDA_TRY(cudaMallocHost(&host, n_bytes), "allocating pinned memory");
    c->args.host = host;
    SP_TRY(c->be.alloc(&c->be, n_bytes, &dev, err));
    c->args.dev = dev;
    c->args.size = n_bytes;
    return SP_OK;
}

enum sp_code sp_cuda_args_new(struct sp_cuda *c, struct sp_error *err) {
    c->args.known = calloc(SP_CUDA_KNOWN, sizeof *c->args.known);
    if (!c->args.known) return sp_error_memory(err, "a backend");
    return args_alloc(c, ARGS_BYTES, err);
}

static void free_memory(struct sp_cuda *c) {
    if (c->args.host) (void)cudaFreeHost(c->args.host);
    c->be.release(&c->be, c->args.dev);
    c->args.host = c->args.dev = NULL;
    c->args.size = 0;
}

void sp_cuda_args_free(struct sp_cuda *c) {
    free_memory(c);
    free(c->args.known);
}

/* Starts anew, with room for n_bytes: nobody reads the old arrays any more. */
static enum sp_code args_reset(struct sp_cuda *c, size_t n_bytes, struct sp_error *err) {
    sp_cuda_graphs_clear(c);
    SP_CUDA_TRY(cudaStreamSynchronize(c->compute), "waiting for the device");
    c->args.used = c->args.n_known = 0;
    memset(c->args.known, 0, SP_CUDA_KNOWN * sizeof *c->args.known);
    if (n_bytes <= c->args.size) return SP_OK;
    free_memory(c);
    return args_alloc(c, 2 * n_bytes, err);
}

static size_t rounded(size_t n_bytes) {
    return (n_bytes + 15) / 16 * 16;
}

/* Where the array is on the device; it is sent when it is not there yet. */
static enum sp_code args_place(struct sp_cuda *c, struct sp_cuda_list *l, struct sp_error *err) {
    struct sp_cuda_args *a = &c->args;
    uint64_t hash = XXH3_64bits(l->host, l->n_bytes);
    struct sp_cuda_known *k = &a->known[hash % SP_CUDA_KNOWN];
    for (; k->n_bytes; k = k + 1 == a->known + SP_CUDA_KNOWN ? a->known : k + 1) {
        bool same = k->hash == hash && k->n_bytes == l->n_bytes &&
                    memcmp(a->host + k->at, l->host, l->n_bytes) == 0;
        if (!same) continue;
        l->dev = a->dev + k->at;
        return SP_OK;
    }
    *k = (struct sp_cuda_known){.hash = hash, .at = a->used, .n_bytes = l->n_bytes};
    a->n_known++;
    a->used += rounded(l->n_bytes);
    memcpy(a->host + k->at, l->host, l->n_bytes);
    l->dev = a->dev + k->at;
    SP_CUDA_TRY(cudaMemcpyAsync(a->dev + k->at, a->host + k->at, l->n_bytes, cudaMemcpyHostToDevice,
                                c->compute),
                "copying to the device");
    return SP_OK;
}

enum sp_code sp_cuda_lists(struct sp_cuda *c, struct sp_cuda_list *list, size_t n,
                           struct sp_error *err) {
    size_t need = 0;
    for (size_t i = 0; i < n; i++) need += list[i].host ? rounded(list[i].n_bytes) : 0;
    c->args_asked += need;
    if (c->args.used + need > c->args.size || c->args.n_known + n > SP_CUDA_KNOWN / 2)
        SP_TRY(args_reset(c, need, err));
    for (size_t i = 0; i < n; i++) {
        list[i].dev = NULL;
        if (list[i].host && list[i].n_bytes > 0) SP_TRY(args_place(c, &list[i], err));
    }
    return SP_OK;
}

/* ---- replay -----------------------------------------------------------------------------------*/

void sp_cuda_graphs_clear(struct sp_cuda *c) {
    for (int i = 0; i < SP_CUDA_GRAPHS; i++)
        if (c->graph[i].exec) sp_cuda_note(c, cudaGraphExecDestroy(c->graph[i].exec));
    memset(c->graph, 0, sizeof c->graph);
}

/* The graph of that key, or the place of the one that was longest not wanted. */
static struct sp_cuda_graph *find_graph(struct sp_cuda *c, const uint64_t key[2]) {
    struct sp_cuda_graph *oldest = c->graph;
    for (struct sp_cuda_graph *g = c->graph; g < c->graph + SP_CUDA_GRAPHS; g++) {
        if (g->used && g->key[0] == key[0] && g->key[1] == key[1]) return g;
        if (g->used < oldest->used) oldest = g;
    }
    if (oldest->exec) sp_cuda_note(c, cudaGraphExecDestroy(oldest->exec));
    *oldest = (struct sp_cuda_graph){.key = {key[0], key[1]}};
    return oldest;
}

/* A run is made as usual the first time, which also grows all work space; captured the second time;
 * and repeated from then on. */
static enum sp_code cuda_replay_begin(struct sp_backend *be, const void *key, size_t n_bytes,
                                      bool *done, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    XXH128_hash_t hash = XXH3_128bits(key, n_bytes);
    const uint64_t both[2] = {hash.low64, hash.high64};
    struct sp_cuda_graph *g = find_graph(c, both);
    bool seen = g->used > 0;
    *done = false;
    g->used = ++c->n_replay;
    if (g->exec) {
        *done = true;
        SP_CUDA_TRY(cudaGraphLaunch(g->exec, c->compute), "launching a graph");
        return SP_OK;
    }
    c->open = g;
    if (!seen) {
        c->args_asked = 0;
        return SP_OK;
    }
    /* In a capture nobody waits: there must be room for arrays, should they have gone. */
    if (c->args.used + g->args_bytes > c->args.size) {
        struct sp_cuda_graph again = *g;
        SP_TRY(args_reset(c, g->args_bytes, err));
        *g = again;
    }
    SP_CUDA_TRY(cudaStreamBeginCapture(c->compute, cudaStreamCaptureModeRelaxed),
                "capturing a graph");
    c->capturing = true;
    return SP_OK;
}

static enum sp_code end_capture(struct sp_cuda *c, struct sp_cuda_graph *g, struct sp_error *err) {
    cudaGraph_t graph = NULL;
    SP_CUDA_TRY(cudaStreamEndCapture(c->compute, &graph), "capturing a graph");
    cudaError_t error = cudaGraphInstantiate(&g->exec, graph, 0);
    sp_cuda_note(c, cudaGraphDestroy(graph));
    SP_CUDA_TRY(error, "instantiating a graph");
    SP_CUDA_TRY(cudaGraphLaunch(g->exec, c->compute), "launching a graph");
    return SP_OK;
}

static enum sp_code cuda_replay_end(struct sp_backend *be, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_cuda_graph *g = c->open;
    bool capturing = c->capturing;
    c->open = NULL;
    c->capturing = false;
    if (capturing) return end_capture(c, g, err);
    if (g) g->args_bytes = c->args_asked;
    return SP_OK;
}

void sp_cuda_args_install(struct sp_backend *be) {
    be->replay_begin = cuda_replay_begin;
    be->replay_end = cuda_replay_end;
}
