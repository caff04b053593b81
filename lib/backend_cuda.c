/* The CUDA backend: finding a device, its memory, streams and copies. */
#include "backend_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLAS_WORK_BYTES ((size_t)32 << 20) /* NVIDIA's advice for Hopper; or captures allocate */
#define MIB ((size_t)1 << 20)
#define ARCH_MIN 75

enum sp_code sp_cuda_failed(struct sp_error *err, int error, const char *what) {
    return sp_error_set(err, SP_E_DEVICE, "device " SP_CUDA_NAME ": %s: %.200s (CUDA error %d)",
                        what, cudaGetErrorString((cudaError_t)error), error);
}

enum sp_code sp_cuda_blas_failed(struct sp_error *err, cublasStatus_t status, const char *what) {
    return sp_error_set(err, SP_E_DEVICE, "device " SP_CUDA_NAME ": %s: %.200s (cuBLAS status %d)",
                        what, cublasGetStatusString(status), (int)status);
}

void sp_cuda_note(struct sp_cuda *c, cudaError_t error) {
    if (!c->failed) c->failed = error;
}

/* ---- memory --------------------------------------------------------------------------------- */

static enum sp_code too_little(size_t n_bytes, struct sp_error *err) {
    size_t n_free, n_total;
    SP_CUDA_TRY(cudaMemGetInfo(&n_free, &n_total), "asking for free memory");
    return sp_error_set(
        err, SP_E_DEVICE,
        "device " SP_CUDA_NAME ": too little memory: %.1f MiB more are needed, %.1f "
        "of %.1f MiB are free; use a smaller model or batch, --dtype bf16, or "
        "--device cpu",
        (double)n_bytes / (double)MIB, (double)n_free / (double)MIB, (double)n_total / (double)MIB);
}

/* Holds anything. */
static enum sp_code new_memory(struct sp_cuda *c, size_t n_bytes, void **dev,
                               struct sp_error *err) {
    *dev = NULL;
    cudaError_t error = cudaMallocAsync(dev, n_bytes, c->compute);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* or the next launch would be told */
        return too_little(n_bytes, err);
    }
    SP_CUDA_TRY(error, "allocating memory");
    return SP_OK;
}

static enum sp_code cuda_alloc(struct sp_backend *be, size_t n_bytes, void **dev,
                               struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    size_t n = n_bytes ? n_bytes : 1;
    SP_TRY(new_memory(c, n, dev, err));
    cudaError_t error = cudaMemsetAsync(*dev, 0, n, c->compute);
    if (!error) return SP_OK;
    be->release(be, *dev);
    *dev = NULL;
    return sp_cuda_failed(err, error, "clearing memory");
}

static void cuda_release(struct sp_backend *be, void *dev) {
    struct sp_cuda *c = sp_cuda_of(be);
    if (dev) sp_cuda_note(c, cudaFreeAsync(dev, c->compute));
}

enum sp_code sp_cuda_grow(struct sp_cuda *c, struct sp_cuda_room *room, size_t n_bytes,
                          struct sp_error *err) {
    if (room->n_bytes >= n_bytes) return SP_OK;
    sp_cuda_graphs_clear(c);
    cuda_release(&c->be, room->dev);
    *room = (struct sp_cuda_room){0};
    SP_TRY(cuda_alloc(&c->be, n_bytes, &room->dev, err));
    room->n_bytes = n_bytes;
    return SP_OK;
}

static enum sp_code cuda_zero(struct sp_backend *be, void *dev, size_t n_bytes,
                              struct sp_error *err) {
    if (n_bytes > 0)
        SP_CUDA_TRY(cudaMemsetAsync(dev, 0, n_bytes, sp_cuda_of(be)->compute), "clearing memory");
    return SP_OK;
}

static enum sp_code cuda_copy(struct sp_backend *be, void *dst, const void *src, size_t n_bytes,
                              struct sp_error *err) {
    if (n_bytes > 0)
        SP_CUDA_TRY(
            cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToDevice, sp_cuda_of(be)->compute),
            "copying on the device");
    return SP_OK;
}

static enum sp_code cuda_sync(struct sp_backend *be, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    SP_CUDA_TRY(c->failed, "freeing memory");
    SP_CUDA_TRY(cudaStreamSynchronize(c->compute), "waiting for the device");
    return SP_OK;
}

/* ---- to the device and back -------------------------------------------------------------------*/

/* The stream that copies runs ahead of the one that computes, as far as there are slots. */
static enum sp_code send_piece(struct sp_cuda *c, struct sp_cuda_slot *s, void *dev, size_t n,
                               struct sp_error *err) {
    const char *what = "copying to the device";
    if (s->busy) SP_CUDA_TRY(cudaStreamWaitEvent(c->in, s->copied, 0), what);
    SP_CUDA_TRY(cudaMemcpyAsync(s->dev, s->host, n, cudaMemcpyHostToDevice, c->in), what);
    s->busy = true;
    SP_CUDA_TRY(cudaEventRecord(s->moved, c->in), what);
    SP_CUDA_TRY(cudaStreamWaitEvent(c->compute, s->moved, 0), what);
    SP_CUDA_TRY(cudaMemcpyAsync(dev, s->dev, n, cudaMemcpyDeviceToDevice, c->compute), what);
    SP_CUDA_TRY(cudaEventRecord(s->copied, c->compute), what);
    return SP_OK;
}

enum sp_code sp_cuda_upload(struct sp_cuda *c, void *dev, size_t n_bytes, sp_cuda_fill fill,
                            const void *ctx, struct sp_error *err) {
    for (size_t at = 0; at < n_bytes; at += SP_CUDA_SLOT_BYTES) {
        size_t n = n_bytes - at < SP_CUDA_SLOT_BYTES ? n_bytes - at : SP_CUDA_SLOT_BYTES;
        struct sp_cuda_slot *s = &c->up[c->up_next++ % SP_CUDA_SLOTS];
        if (s->busy) SP_CUDA_TRY(cudaEventSynchronize(s->moved), "waiting for a copy");
        fill(ctx, s->host, at, n);
        SP_TRY(send_piece(c, s, (char *)dev + at, n, err));
    }
    return SP_OK;
}

static void fill_plain(const void *ctx, void *to, size_t offset, size_t n) {
    memcpy(to, (const char *)ctx + offset, n);
}

static enum sp_code cuda_upload(struct sp_backend *be, void *dev, const void *host, size_t n_bytes,
                                struct sp_error *err) {
    return sp_cuda_upload(sp_cuda_of(be), dev, n_bytes, fill_plain, host, err);
}

static enum sp_code fetch_piece(struct sp_cuda *c, struct sp_cuda_slot *s, const void *dev,
                                size_t n, struct sp_error *err) {
    const char *what = "copying from the device";
    SP_CUDA_TRY(cudaMemcpyAsync(s->dev, dev, n, cudaMemcpyDeviceToDevice, c->compute), what);
    SP_CUDA_TRY(cudaEventRecord(s->copied, c->compute), what);
    SP_CUDA_TRY(cudaStreamWaitEvent(c->out, s->copied, 0), what);
    SP_CUDA_TRY(cudaMemcpyAsync(s->host, s->dev, n, cudaMemcpyDeviceToHost, c->out), what);
    SP_CUDA_TRY(cudaEventRecord(s->moved, c->out), what);
    return SP_OK;
}

/* The next piece is on its way while one is taken out. */
static enum sp_code cuda_download(struct sp_backend *be, void *host, const void *dev,
                                  size_t n_bytes, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    const size_t piece = SP_CUDA_SLOT_BYTES, n_piece = (n_bytes + piece - 1) / piece;
    SP_CUDA_TRY(c->failed, "freeing memory");
    for (size_t i = 0; i < n_piece + SP_CUDA_SLOTS - 1; i++) {
        if (i < n_piece) {
            size_t n = n_bytes - i * piece < piece ? n_bytes - i * piece : piece;
            const char *from = (const char *)dev + i * piece;
            SP_TRY(fetch_piece(c, &c->down[i % SP_CUDA_SLOTS], from, n, err));
        }
        if (i < SP_CUDA_SLOTS - 1) continue;
        size_t k = i - (SP_CUDA_SLOTS - 1), n = n_bytes - k * piece;
        struct sp_cuda_slot *s = &c->down[k % SP_CUDA_SLOTS];
        SP_CUDA_TRY(cudaEventSynchronize(s->moved), "waiting for the device");
        memcpy((char *)host + k * piece, s->host, n < piece ? n : piece);
    }
    return SP_OK;
}

static enum sp_code fetch_room(struct sp_cuda *c, struct sp_cuda_fetch *f, size_t n_bytes,
                               struct sp_error *err) {
    void *host = NULL, *dev = NULL;
    if (!f->moved) {
        SP_CUDA_TRY(cudaEventCreateWithFlags(&f->moved, cudaEventDisableTiming), "making an event");
        SP_CUDA_TRY(cudaEventCreateWithFlags(&f->copied, cudaEventDisableTiming),
                    "making an event");
    }
    if (f->size >= n_bytes) return SP_OK;
    if (f->host) SP_CUDA_TRY(cudaFreeHost(f->host), "freeing memory");
    cuda_release(&c->be, f->dev);
    f->host = f->dev = NULL;
    f->size = 0;
    SP_CUDA_TRY(cudaMallocHost(&host, n_bytes), "allocating pinned memory");
    f->host = host;
    SP_TRY(new_memory(c, n_bytes, &dev, err));
    f->dev = dev;
    f->size = n_bytes;
    return SP_OK;
}

/* A copy is taken on the device at once, and travels on a stream of its own. */
static enum sp_code cuda_fetch_begin(struct sp_backend *be, const void *dev, size_t n_bytes,
                                     struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    struct sp_cuda_fetch *f = &c->fetch[c->n_begun % SP_CUDA_FETCHES];
    const char *what = "copying from the device";
    if (c->n_begun - c->n_ended == SP_CUDA_FETCHES)
        return sp_error_set(err, SP_E_BUG, "too many batches under way");
    SP_TRY(fetch_room(c, f, n_bytes, err));
    SP_CUDA_TRY(cudaMemcpyAsync(f->dev, dev, n_bytes, cudaMemcpyDeviceToDevice, c->compute), what);
    SP_CUDA_TRY(cudaEventRecord(f->copied, c->compute), what);
    SP_CUDA_TRY(cudaStreamWaitEvent(c->out, f->copied, 0), what);
    SP_CUDA_TRY(cudaMemcpyAsync(f->host, f->dev, n_bytes, cudaMemcpyDeviceToHost, c->out), what);
    SP_CUDA_TRY(cudaEventRecord(f->moved, c->out), what);
    f->n_bytes = n_bytes;
    c->n_begun++;
    return SP_OK;
}

static enum sp_code cuda_fetch_end(struct sp_backend *be, void *host, struct sp_error *err) {
    struct sp_cuda *c = sp_cuda_of(be);
    const struct sp_cuda_fetch *f = &c->fetch[c->n_ended % SP_CUDA_FETCHES];
    if (c->n_begun == c->n_ended) return sp_error_set(err, SP_E_BUG, "no batch under way");
    SP_CUDA_TRY(c->failed, "freeing memory");
    SP_CUDA_TRY(cudaEventSynchronize(f->moved), "waiting for the device");
    memcpy(host, f->host, f->n_bytes);
    c->n_ended++;
    return SP_OK;
}

/* ---- opening and closing ----------------------------------------------------------------------*/

static enum sp_code find_device(struct sp_cuda *c, struct sp_error *err) {
    int driver, n = 0;
    SP_CUDA_TRY(cudaDriverGetVersion(&driver), "asking for the driver");
    if (driver == 0)
        return sp_error_set(err, SP_E_DEVICE,
                            "device " SP_CUDA_NAME ": there is no NVIDIA driver on this machine; "
                            "install it, or use --device cpu");
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaErrorInsufficientDriver)
        return sp_error_set(
            err, SP_E_DEVICE,
            "device " SP_CUDA_NAME ": the NVIDIA driver is for CUDA %d.%d, %d.%d is "
            "needed: update the driver, or use --device cpu",
            driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorNoDevice || (!error && n == 0))
        return sp_error_set(err, SP_E_DEVICE,
                            "device " SP_CUDA_NAME ": there is no NVIDIA GPU, or "
                            "$CUDA_VISIBLE_DEVICES hides it; use --device cpu");
    SP_CUDA_TRY(error, "looking for devices");
    SP_CUDA_TRY(cudaGetDeviceProperties(&c->prop, 0), "asking what the device is");
    if (c->prop.major * 10 + c->prop.minor < ARCH_MIN || !c->prop.memoryPoolsSupported)
        return sp_error_set(err, SP_E_DEVICE,
                            "device " SP_CUDA_NAME ": %.100s (compute capability %d.%d) is not "
                            "supported: 7.5 (Turing) with memory pools is the least; use --device "
                            "cpu",
                            c->prop.name, c->prop.major, c->prop.minor);
    SP_CUDA_TRY(cudaSetDevice(0), "taking the device");
    return SP_OK;
}

static enum sp_code new_slot(struct sp_cuda *c, struct sp_cuda_slot *s, struct sp_error *err) {
    void *host = NULL, *dev = NULL;
    SP_CUDA_TRY(cudaMallocHost(&host, SP_CUDA_SLOT_BYTES), "allocating pinned memory");
    s->host = host;
    SP_TRY(cuda_alloc(&c->be, SP_CUDA_SLOT_BYTES, &dev, err));
    s->dev = dev;
    SP_CUDA_TRY(cudaEventCreateWithFlags(&s->moved, cudaEventDisableTiming), "making an event");
    SP_CUDA_TRY(cudaEventCreateWithFlags(&s->copied, cudaEventDisableTiming), "making an event");
    return SP_OK;
}

static enum sp_code prepare(struct sp_cuda *c, struct sp_error *err) {
    cudaMemPool_t pool;
    uint64_t keep = UINT64_MAX; /* freed memory stays the process's */
    SP_CUDA_TRY(cudaStreamCreateWithFlags(&c->compute, cudaStreamNonBlocking), "making a stream");
    SP_CUDA_TRY(cudaStreamCreateWithFlags(&c->in, cudaStreamNonBlocking), "making a stream");
    SP_CUDA_TRY(cudaStreamCreateWithFlags(&c->out, cudaStreamNonBlocking), "making a stream");
    SP_CUDA_TRY(cudaDeviceGetDefaultMemPool(&pool, 0), "asking for the memory pool");
    SP_CUDA_TRY(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep),
                "setting up the memory pool");
    for (int i = 0; i < SP_CUDA_SLOTS; i++) {
        SP_TRY(new_slot(c, &c->up[i], err));
        SP_TRY(new_slot(c, &c->down[i], err));
    }
    SP_TRY(sp_cuda_args_new(c, err));
    SP_TRY(new_memory(c, BLAS_WORK_BYTES, &c->blas_work, err));
    const char *what = "starting cuBLAS";
    SP_CUDA_BLAS_TRY(cublasCreate(&c->blas), what);
    SP_CUDA_BLAS_TRY(cublasSetStream(c->blas, c->compute), what);
    SP_CUDA_BLAS_TRY(cublasSetWorkspace(c->blas, c->blas_work, BLAS_WORK_BYTES), what);
    SP_CUDA_BLAS_TRY(cublasSetMathMode(c->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION),
                     what);
    return SP_OK;
}

/* A kernel of this build's runs on this device, or the reason is said here. */
static enum sp_code try_kernel(struct sp_cuda *c, struct sp_error *err) {
    int error = sp_gather_cuda(c->down[0].dev, 1, (const uint32_t *)(void *)c->down[0].dev, 1,
                               c->down[1].dev, SP_CUDA_F32, c->compute);
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion)
        return sp_error_set(err, SP_E_DEVICE,
                            "device " SP_CUDA_NAME ": the plugin was not built for %.100s (compute "
                            "capability %d.%d; %.80s): build it with CUDA_ARCHS=%d%d, or use "
                            "--device cpu",
                            c->prop.name, c->prop.major, c->prop.minor,
                            cudaGetErrorString((cudaError_t)error), c->prop.major, c->prop.minor);
    SP_CUDA_TRY(error, "trying a kernel");
    return cuda_sync(&c->be, err);
}

static void cuda_describe(struct sp_backend *be, char *out, size_t size) {
    struct sp_cuda *c = sp_cuda_of(be);
    size_t n_free = 0, n_total = 0;
    sp_cuda_note(c, cudaMemGetInfo(&n_free, &n_total));
    snprintf(out, size,
             SP_CUDA_NAME ": %s, compute capability %d.%d, %zu of %zu MiB free, products by cuBLAS",
             c->prop.name, c->prop.major, c->prop.minor, n_free / MIB, n_total / MIB);
}

static void free_slot(struct sp_cuda *c, struct sp_cuda_slot *s) {
    if (s->moved) (void)cudaEventDestroy(s->moved);
    if (s->copied) (void)cudaEventDestroy(s->copied);
    if (s->host) (void)cudaFreeHost(s->host);
    cuda_release(&c->be, s->dev);
}

/* Errors at the end have been met before, or hurt nobody any more. */
static void cuda_free(struct sp_backend *be) {
    struct sp_cuda *c = sp_cuda_of(be);
    cudaStream_t stream[] = {c->in, c->out, c->compute};
    sp_cuda_graphs_clear(c);
    for (int i = 0; i < 3; i++)
        if (stream[i]) (void)cudaStreamSynchronize(stream[i]);
    if (c->blas) (void)cublasDestroy(c->blas);
    cuda_release(be, c->blas_work);
    for (int i = 0; i < SP_CUDA_SLOTS; i++) {
        free_slot(c, &c->up[i]);
        free_slot(c, &c->down[i]);
    }
    for (int i = 0; i < SP_CUDA_FETCHES; i++) {
        struct sp_cuda_fetch *f = &c->fetch[i];
        if (f->moved) (void)cudaEventDestroy(f->moved);
        if (f->copied) (void)cudaEventDestroy(f->copied);
        if (f->host) (void)cudaFreeHost(f->host);
        cuda_release(be, f->dev);
    }
    sp_cuda_args_free(c);
    cuda_release(be, c->work.dev);
    cuda_release(be, c->x.dev);
    cuda_release(be, c->y.dev);
    for (int i = 0; i < 3; i++)
        if (stream[i]) (void)cudaStreamDestroy(stream[i]);
    free(c);
}

static enum sp_code cuda_open(struct sp_backend **be, struct sp_error *err) {
    *be = NULL;
    struct sp_cuda *c = calloc(1, sizeof *c);
    if (!c) return sp_error_memory(err, "a backend");
    c->be = (struct sp_backend){.abi = SP_BACKEND_ABI,
                                .name = SP_CUDA_NAME,
                                .cut = SP_CUDA_CUT,
                                .ctx = c,
                                .free = cuda_free,
                                .describe = cuda_describe,
                                .alloc = cuda_alloc,
                                .release = cuda_release,
                                .upload = cuda_upload,
                                .download = cuda_download,
                                .fetch_begin = cuda_fetch_begin,
                                .fetch_end = cuda_fetch_end,
                                .copy = cuda_copy,
                                .zero = cuda_zero,
                                .sync = cuda_sync};
    sp_cuda_args_install(&c->be);
    sp_cuda_linear_install(&c->be);
    sp_cuda_kernels_install(&c->be);
    sp_cuda_layer_install(&c->be);
    enum sp_code code = find_device(c, err);
    if (!code) code = prepare(c, err);
    if (!code) code = try_kernel(c, err);
    if (code) {
        cuda_free(&c->be);
        return code;
    }
    *be = &c->be;
    return SP_OK;
}

__attribute__((visibility("default"))) extern const struct sp_plugin sp_plugin;
const struct sp_plugin sp_plugin = {.abi = SP_BACKEND_ABI, .open = cuda_open};
