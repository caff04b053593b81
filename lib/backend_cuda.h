/* The CUDA backend's inside, shared by its files: backend_cuda.c (device, memory, copies),
 * backend_cuda_args.c (small arrays of the host, replay), backend_cuda_linear.c (weights,
 * products), backend_cuda_kernels.c and backend_cuda_layer.c (a layer in 16 bits). They and
 * kernels/cuda make a plugin (backend.h), which owns all it allocates; built with NVIDIA's headers
 * it is cuda.so, with those of tests/emu/cuda emu.so.
 */
#ifndef SP_BACKEND_CUDA_H
#define SP_BACKEND_CUDA_H

#include "../kernels/cuda/launch.h"
#include "backend.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#ifndef SP_CUDA_NAME
#define SP_CUDA_NAME "cuda"
#endif

/* A piece of pinned memory and its twin on the device: the host fills or empties the one while
 * another is on its way, on a stream of its own, and while kernels run. */
#define SP_CUDA_SLOT_BYTES ((size_t)1 << 20)
#define SP_CUDA_SLOTS 2 /* in each direction */
struct sp_cuda_slot {
    char *host, *dev;
    cudaEvent_t moved;  /* between host and device */
    cudaEvent_t copied; /* between dev and where it belongs */
    bool busy;
};

/* What is fetched while the next batch is computed. */
struct sp_cuda_fetch {
    char *host, *dev; /* (size); host is pinned */
    size_t size, n_bytes;
    cudaEvent_t moved, copied;
};
#define SP_CUDA_FETCHES 2

/* Arrays that kernels read on the device and callers have on the host: each distinct one is sent
 * once, and stays until there is no room for another. */
struct sp_cuda_args {
    char *host, *dev; /* (size); host is pinned */
    size_t size, used;
    struct sp_cuda_known {
        uint64_t hash;
        size_t at, n_bytes; /* 0: free */
    } * known;              /* (SP_CUDA_KNOWN), open addressing */
    size_t n_known;
};
#define SP_CUDA_KNOWN 8192

/* Runs of operations that came before. */
#define SP_CUDA_GRAPHS 32
struct sp_cuda_graph {
    uint64_t key[2], used; /* hash; when it was last wanted */
    cudaGraphExec_t exec;  /* NULL: seen once */
    size_t args_bytes;     /* of lists in the run */
};

/* Sequences keep their bits when they are cut at multiples of this: the scan's segments. */
#define SP_CUDA_CUT 256

struct sp_cuda {
    struct sp_backend be;
    struct cudaDeviceProp prop;
    cudaStream_t compute, in, out;
    cublasHandle_t blas;
    void *blas_work;
    cudaError_t failed; /* of a call whose caller could not be told */
    struct sp_cuda_slot up[SP_CUDA_SLOTS], down[SP_CUDA_SLOTS];
    unsigned up_next;
    struct sp_cuda_fetch fetch[SP_CUDA_FETCHES];
    unsigned n_begun, n_ended;
    struct sp_cuda_args args;
    size_t args_asked; /* bytes of lists, all in all */
    struct sp_cuda_graph graph[SP_CUDA_GRAPHS], *open;
    uint64_t n_replay;
    bool capturing;
    /* Work space, each grown as it is needed. */
    struct sp_cuda_room {
        void *dev;
        size_t n_bytes;
    } work, x, y;
};

static inline struct sp_cuda *sp_cuda_of(struct sp_backend *be) {
    return be->ctx;
}

/* SP_E_DEVICE: "device cuda: WHAT: the runtime's words". */
enum sp_code sp_cuda_failed(struct sp_error *err, int error, const char *what);
#define SP_CUDA_TRY(call, what)                                                                    \
    do {                                                                                           \
        int try_error_ = (int)(call);                                                              \
        if (try_error_) return sp_cuda_failed(err, try_error_, what);                              \
    } while (0)
/* The same of a cuBLAS status, in cuBLAS's words. */
enum sp_code sp_cuda_blas_failed(struct sp_error *err, cublasStatus_t status, const char *what);
#define SP_CUDA_BLAS_TRY(call, what)                                                               \
    do {                                                                                           \
        cublasStatus_t try_status_ = (call);                                                       \
        if (try_status_) return sp_cuda_blas_failed(err, try_status_, what);                       \
    } while (0)
/* Keeps an error for the next operation that can report it. */
void sp_cuda_note(struct sp_cuda *c, cudaError_t error);

/* At least n_bytes, zero when it is new; what was in it is lost. Graphs that knew it are forgotten.
 */
enum sp_code sp_cuda_grow(struct sp_cuda *c, struct sp_cuda_room *room, size_t n_bytes,
                          struct sp_error *err);
/* Sends n_bytes that fill writes, piece by piece (offset, n), into pinned memory. */
typedef void (*sp_cuda_fill)(const void *ctx, void *to, size_t offset, size_t n);
enum sp_code sp_cuda_upload(struct sp_cuda *c, void *dev, size_t n_bytes, sp_cuda_fill fill,
                            const void *ctx, struct sp_error *err);

/* Makes dev of each list point to its bytes on the device (NULL where host is NULL), until the next
 * call. */
struct sp_cuda_list {
    const void *host;
    size_t n_bytes;
    const void *dev;
};
enum sp_code sp_cuda_args_new(struct sp_cuda *c, struct sp_error *err);
void sp_cuda_args_free(struct sp_cuda *c);
enum sp_code sp_cuda_lists(struct sp_cuda *c, struct sp_cuda_list *list, size_t n,
                           struct sp_error *err);
/* All graphs are gone: something that they point to moves. */
void sp_cuda_graphs_clear(struct sp_cuda *c);

/* y (n_row, d_out; ldy) = or += x (n_row, d_in; ldx) W^T + bias, in tiles, by cuBLAS. y of 16 bits:
 * without bias, and not added to. */
struct sp_cuda_rows {
    const void *x;
    enum sp_cuda_type x_type, y_type;
    void *y;
    int64_t ldx, ldy, n_row;
    bool add;
};
enum sp_code sp_cuda_product(struct sp_cuda *c, const struct sp_weight *w,
                             const struct sp_cuda_rows *r, struct sp_error *err);
enum sp_cuda_type sp_cuda_weight_type(const struct sp_weight *w);
bool sp_cuda_weight_biased(const struct sp_weight *w);

/* A convolution and a scan with wide rows (x, z, y) of `type`, and the host's arrays as in
 * backend.h. */
enum sp_code sp_cuda_conv(struct sp_cuda *c, const struct sp_conv *a, enum sp_cuda_type type,
                          struct sp_error *err);
enum sp_code sp_cuda_scan(struct sp_cuda *c, const struct sp_scan *a, enum sp_cuda_type type,
                          struct sp_error *err);

/* Install the operations of their files. */
void sp_cuda_args_install(struct sp_backend *be);
void sp_cuda_linear_install(struct sp_backend *be);
void sp_cuda_kernels_install(struct sp_backend *be);
void sp_cuda_layer_install(struct sp_backend *be);

#endif
