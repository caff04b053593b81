/* The CUDA runtime on the CPU, as far as the backend needs it (cuda/cuda_runtime_api.h), made to
 * show what a device forgives: work on a stream runs only when somebody waits for it, in the order
 * of its stream and of events; device memory is filled with NaN (its first 16 MiB), ends at a page
 * that cannot be touched, and cannot be touched by the host at all while no work runs; copies that
 * overlap with work have to be of pinned memory.
 *
 * $STATEPIPE_EMU, a list with commas, chooses: seed=N (work also runs earlier, at random, and
 * threads in a random order), memory=BYTES, sms=N (multiprocessors), and the errors: no-driver,
 * old-driver, no-device, arch=XY, no-image, old-ptx, no-managed, fail=N (the Nth call fails), trace
 * (calls are counted on stderr). */
#include "runtime.h"
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

struct emu_mark { /* how often an event was recorded, and how often that was reached */
    uint64_t recorded, reached;
    emu_stream *stream;
};
struct emu_event {
    std::shared_ptr<emu_mark> mark = std::make_shared<emu_mark>();
};
typedef std::function<void()> emu_work;
struct emu_graph {
    std::vector<emu_work> work;
};
struct emu_graph_exec {
    std::vector<emu_work> work;
};
struct emu_stream {
    std::deque<emu_work> queue;
    emu_graph *capture = nullptr;
    bool invalid = false; /* what was captured */
};

namespace {

constexpr size_t page = 4096, alignment = 256;
constexpr size_t poison_most = 16 << 20; /* protecting pages that are there takes time */

struct allocation {
    char *map, *start;
    size_t map_bytes, n_bytes;
};

struct {
    bool no_driver, old_driver, no_device, no_image, old_ptx, no_managed, trace;
    long seed, arch = 80, fail, sms = 16;
    size_t memory = size_t(1) << 30;
    long n_call;
    uint64_t random;
} config;

std::map<const char *, allocation> device, pinned, managed; /* by start */
emu_stream default_stream;
std::vector<emu_stream *> streams;
size_t used;
int depth; /* of work that runs */
cudaError_t lasting;
std::string told;

long number(const std::string &text, const char *name, long otherwise) {
    size_t n = strlen(name);
    return text.compare(0, n, name) == 0 ? strtol(text.c_str() + n, nullptr, 10) : otherwise;
}

/* For a block that asks, by the CUDA C++ Programming Guide's table of compute capabilities. */
size_t shared_most() {
    const long arch = config.arch;
    const size_t kib = arch < 80 ? 64 : arch == 80 ? 163 : arch == 90 || arch == 100 ? 227 : 99;
    return kib << 10;
}

void configure() {
    static bool done;
    if (done) return;
    done = true;
    const char *value = getenv("STATEPIPE_EMU");
    std::string rest = value ? value : "";
    while (!rest.empty()) {
        size_t n = rest.find(',');
        std::string word = rest.substr(0, n);
        rest = n == std::string::npos ? "" : rest.substr(n + 1);
        config.no_driver |= word == "no-driver";
        config.old_driver |= word == "old-driver";
        config.no_device |= word == "no-device";
        config.no_image |= word == "no-image";
        config.old_ptx |= word == "old-ptx";
        config.no_managed |= word == "no-managed";
        config.trace |= word == "trace";
        config.seed = number(word, "seed=", config.seed);
        config.arch = number(word, "arch=", config.arch);
        config.sms = number(word, "sms=", config.sms);
        config.fail = number(word, "fail=", config.fail);
        config.memory = size_t(number(word, "memory=", long(config.memory)));
    }
    config.random = uint64_t(config.seed) * 0x9E3779B97F4A7C15u;
    emu_configure(config.seed ? EMU_RANDOM : EMU_NATURAL, uint64_t(config.seed));
    emu_shared_most = shared_most();
}

/* What is still there when the program ends was forgotten. */
struct at_exit {
    ~at_exit() {
        if (config.trace) fprintf(stderr, "emu: %ld calls\n", config.n_call);
        if (!device.empty() || !pinned.empty() || !streams.empty())
            fprintf(stderr, "emu: never freed: %zu buffers, %zu pinned, %zu streams\n",
                    device.size(), pinned.size(), streams.size());
    }
} at_exit;

uint64_t next_random() { /* splitmix64 */
    uint64_t z = config.random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void fault(const std::string &what, cudaError_t error) {
    if (lasting) return;
    lasting = error;
    told = what;
}

/* ---- memory -----------------------------------------------------------------------------------*/

void protect(const allocation &a, int how) {
    if (mprotect(a.map, a.map_bytes - page, how)) abort();
}

allocation new_pages(size_t n_bytes, size_t align) {
    size_t rounded = (n_bytes + align - 1) / align * align,
           whole = (rounded + page - 1) / page * page;
    void *p = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    allocation a = {static_cast<char *>(p), nullptr, whole + page, n_bytes};
    a.start = a.map + whole - rounded;
    memset(a.start, 0xff, rounded < poison_most ? rounded : poison_most);
    if (mprotect(a.map + whole, page, PROT_NONE)) abort();
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(a.start + n_bytes, rounded - n_bytes);
#endif
    return a;
}

void free_pages(const allocation &a) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(a.map, a.map_bytes);
#endif
    munmap(a.map, a.map_bytes);
}

const allocation *find(const std::map<const char *, allocation> &all, const void *p,
                       size_t n_bytes) {
    const char *at = static_cast<const char *>(p);
    auto after = all.upper_bound(at);
    if (after == all.begin()) return nullptr;
    const allocation &a = std::prev(after)->second;
    return at + n_bytes <= a.start + a.n_bytes ? &a : nullptr;
}

void free_device(void *p) {
    auto found = device.find(static_cast<char *>(p));
    if (found == device.end()) {
        fault("memory is freed that is not there", cudaErrorInvalidValue);
        return;
    }
    used -= found->second.n_bytes;
    free_pages(found->second);
    device.erase(found);
}

/* ---- streams ----------------------------------------------------------------------------------*/

bool known(const emu_stream *stream) {
    if (!stream) return true; /* the default one */
    for (const emu_stream *s : streams)
        if (s == stream) return true;
    return false;
}

void run_first(emu_stream *stream) {
    emu_work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (lasting) return; /* what follows a fault does not happen */
    if (depth++ == 0)
        for (auto &a : device) protect(a.second, PROT_READ | PROT_WRITE);
    work();
    if (const char *what = emu_fault()) fault(what, cudaErrorLaunchFailure);
    if (--depth == 0)
        for (auto &a : device) protect(a.second, PROT_NONE);
}

void run_all(emu_stream *stream) {
    depth++;
    for (auto &a : device) protect(a.second, PROT_READ | PROT_WRITE);
    while (!stream->queue.empty()) run_first(stream);
    depth--;
    for (auto &a : device) protect(a.second, PROT_NONE);
}

void reach(emu_mark *mark, uint64_t count) {
    while (mark->reached < count && !lasting && !mark->stream->queue.empty())
        run_first(mark->stream);
}

/* A device does not wait until it is asked: with a seed, some work runs now. */
void run_some() {
    while (config.seed && !streams.empty() && next_random() % 3 == 0) {
        emu_stream *s = streams[next_random() % streams.size()];
        if (!s->queue.empty()) run_first(s);
    }
}

/* For calls that are not allowed while a stream captures. */
cudaError_t enter_outside_capture() {
    for (emu_stream *s : streams) {
        if (!s->capture) continue;
        s->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return emu_enter();
}

cudaError_t launch(cudaStream_t stream, emu_work work) {
    cudaError_t error = emu_enter();
    if (!error && config.no_image) error = cudaErrorNoKernelImageForDevice;
    if (!error && config.old_ptx) error = cudaErrorUnsupportedPtxVersion;
    if (!error && !known(stream)) error = cudaErrorInvalidValue;
    if (!error) emu_enqueue(stream, std::move(work));
    return error;
}

} // namespace

cudaError_t emu_enter() {
    configure();
    emu_defer = launch;
    config.n_call++;
    run_some();
    if (config.fail == config.n_call) return cudaErrorUnknown;
    return lasting;
}

void emu_enqueue(cudaStream_t stream, std::function<void()> work) {
    if (!stream) stream = &default_stream;
    if (stream->capture) {
        stream->capture->work.push_back(std::move(work));
    } else {
        stream->queue.push_back(std::move(work));
    }
}

bool emu_device_range(const void *p, size_t n_bytes, const char *what) {
    if (n_bytes == 0 || find(device, p, n_bytes)) return true;
    fault(std::string(what) + ": memory that was not allocated", cudaErrorIllegalAddress);
    return false;
}

/* ---- devices ----------------------------------------------------------------------------------*/

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return told.empty() ? "invalid argument" : told.c_str();
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution";
    case cudaErrorUnsupportedPtxVersion: return "the PTX was compiled with a newer toolchain";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure: return told.c_str();
    case cudaErrorStreamCaptureUnsupported: return "not permitted when the stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "the capture was invalidated";
    case cudaErrorUnknown: break;
    }
    return "unknown error";
}

cudaError_t cudaGetLastError(void) {
    return cudaError_t(emu_last_error());
}

cudaError_t cudaDriverGetVersion(int *version) {
    cudaError_t error = emu_enter();
    *version = config.no_driver ? 0 : config.old_driver ? 12040 : CUDART_VERSION;
    return error;
}

cudaError_t cudaGetDeviceCount(int *n) {
    cudaError_t error = emu_enter();
    *n = 0;
    if (error) return error;
    if (config.no_driver || config.old_driver) return cudaErrorInsufficientDriver;
    if (config.no_device) return cudaErrorNoDevice;
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int number) {
    cudaError_t error = emu_enter();
    if (error) return error;
    if (number != 0) return cudaErrorInvalidValue;
    *prop = {};
    snprintf(prop->name, sizeof prop->name, "emulator");
    prop->totalGlobalMem = config.memory;
    prop->major = int(config.arch / 10);
    prop->minor = int(config.arch % 10);
    prop->multiProcessorCount = int(config.sms);
    prop->memoryPoolsSupported = 1;
    prop->sharedMemPerBlockOptin = shared_most();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) {
    cudaError_t error = emu_enter();
    return error || number == 0 ? error : cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(size_t *n_free, size_t *n_total) {
    cudaError_t error = emu_enter();
    *n_total = config.memory;
    *n_free = config.memory - used;
    return error;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int) {
    *pool = nullptr;
    return emu_enter();
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, enum cudaMemPoolAttr, void *) {
    return emu_enter();
}

/* ---- memory -----------------------------------------------------------------------------------*/

cudaError_t cudaMallocAsync(void **p, size_t n_bytes, cudaStream_t stream) {
    *p = nullptr;
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    if (!known(stream) || n_bytes == 0) return cudaErrorInvalidValue;
    if (used + n_bytes > config.memory) run_all(stream); /* what it frees can be had again */
    if (lasting) return lasting;
    if (n_bytes > config.memory || used + n_bytes > config.memory) return cudaErrorMemoryAllocation;
    allocation a = new_pages(n_bytes, alignment);
    protect(a, PROT_NONE);
    device[a.start] = a;
    used += n_bytes;
    *p = a.start;
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) {
    cudaError_t error = enter_outside_capture();
    if (!known(stream)) return cudaErrorInvalidValue;
    emu_enqueue(stream, [=] { free_device(p); }); /* one that fails by chance gives back, too */
    return error;
}

cudaError_t cudaMallocHost(void **p, size_t n_bytes) {
    *p = nullptr;
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    allocation a = new_pages(n_bytes, 64);
    pinned[a.start] = a;
    *p = a.start;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    auto found = pinned.find(static_cast<char *>(p));
    if (found == pinned.end()) return cudaErrorInvalidValue;
    free_pages(found->second);
    pinned.erase(found);
    return enter_outside_capture();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    cudaError_t error = emu_enter();
    if (!error && !known(stream)) error = cudaErrorInvalidValue;
    if (error || n_bytes == 0) return error;
    bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
    if ((to_host && !find(pinned, to, n_bytes)) || (from_host && !find(pinned, from, n_bytes))) {
        fault("an asynchronous copy of memory that is not pinned", cudaErrorInvalidValue);
        return lasting;
    }
    emu_enqueue(stream, [=] {
        if (!to_host && !emu_device_range(to, n_bytes, "a copy")) return;
        if (!from_host && !emu_device_range(from, n_bytes, "a copy")) return;
        memmove(to, from, n_bytes);
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream) {
    cudaError_t error = emu_enter();
    if (!error && !known(stream)) error = cudaErrorInvalidValue;
    if (error) return error;
    emu_enqueue(stream, [=] {
        if (emu_device_range(p, n_bytes, "a fill")) memset(p, value, n_bytes);
    });
    return cudaSuccess;
}

/* ---- memory that host and device share --------------------------------------------------------*/

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr, int) {
    *value = !config.no_managed;
    return emu_enter();
}

/* Of the default stream's work: nobody uses another beside such memory. */
cudaError_t cudaDeviceSynchronize(void) {
    cudaError_t error = emu_enter();
    if (error) return error;
    run_all(&default_stream);
    return lasting;
}

cudaError_t cudaMallocManaged(void **p, size_t n_bytes, unsigned) {
    *p = nullptr;
    cudaError_t error = emu_enter();
    if (error) return error;
    allocation a = new_pages(n_bytes, alignment);
    managed[a.start] = a;
    *p = a.start;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    auto found = managed.find(static_cast<char *>(p));
    if (found == managed.end()) return cudaErrorInvalidValue;
    free_pages(found->second);
    managed.erase(found);
    return emu_enter();
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *p) {
    attributes->type = find(managed, p, 1) ? cudaMemoryTypeManaged : cudaMemoryTypeUnregistered;
    return emu_enter();
}

/* ---- streams and events -----------------------------------------------------------------------*/

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = nullptr;
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    *stream = new emu_stream;
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (!known(stream)) return cudaErrorInvalidValue;
    depth++;
    for (auto &a : device) protect(a.second, PROT_READ | PROT_WRITE);
    while (!stream->queue.empty()) run_first(stream);
    depth--;
    std::erase(streams, stream);
    delete stream;
    if (streams.empty() && lasting) { /* a device that had a fault gives all back */
        for (auto &a : device) free_pages(a.second);
        device.clear();
    }
    return emu_enter();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    if (!known(stream)) return cudaErrorInvalidValue;
    run_all(stream);
    return lasting;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = nullptr;
    cudaError_t error = emu_enter();
    if (!error) *event = new emu_event;
    return error;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return emu_enter();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    cudaError_t error = enter_outside_capture();
    if (!error && !known(stream)) error = cudaErrorInvalidValue;
    if (error) return error;
    std::shared_ptr<emu_mark> mark = event->mark;
    uint64_t count = ++mark->recorded;
    mark->stream = stream;
    emu_enqueue(stream, [=] { mark->reached = count; });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cudaError_t error = enter_outside_capture();
    if (!error) reach(event->mark.get(), event->mark->recorded);
    return error ? error : lasting;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    std::shared_ptr<emu_mark> mark = event->mark;
    uint64_t count = mark->recorded;
    emu_enqueue(stream, [=] { reach(mark.get(), count); });
    return cudaSuccess;
}

/* ---- graphs -----------------------------------------------------------------------------------*/

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    stream->capture = new emu_graph;
    stream->invalid = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = stream->capture;
    stream->capture = nullptr;
    cudaError_t error = emu_enter();
    if (*graph && !stream->invalid && !error) return cudaSuccess;
    delete *graph;
    *graph = nullptr;
    return error ? error : cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = nullptr;
    cudaError_t error = enter_outside_capture();
    if (!error) *exec = new emu_graph_exec{graph->work};
    return error;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    cudaError_t error = enter_outside_capture();
    if (error) return error;
    for (const emu_work &work : exec->work) emu_enqueue(stream, work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return emu_enter();
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return emu_enter();
}
