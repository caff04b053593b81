/* The emulator's fibers, rendezvous and schedules; emu.h says what is emulated. Never instrumented
 * by ThreadSanitizer (EMU_TSAN says that the kernels are): what happens in here is no access of a
 * CUDA thread. A launch that has a fault leaves its fibers where they are: kernels own nothing. */
#include "emu.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifndef __x86_64__
#error "the emulator's fiber switch is written for x86-64"
#endif
/* Saves the registers that a call preserves, leaves the stack pointer in *save, goes on at load. */
extern "C" void emu_switch_stack(void **save, void *load);
asm(R"(
.text
.globl emu_switch_stack
.type emu_switch_stack, @function
emu_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch_stack, .-emu_switch_stack
)");

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t stack_bytes = 128 << 10; /* its frames are large */
#else
constexpr size_t stack_bytes = 32 << 10;
#endif
constexpr size_t guard_bytes = 4096;
constexpr size_t shared_default = 48 << 10;

enum state { RUNNABLE, AT_BARRIER, IN_WARP, DONE };

struct fiber : emu_thread {
    state at;
    unsigned id, lane;
    uint64_t priority;
    size_t place; /* in `runnable` */
    void *sp;
    char *stack;
    void *fake_stack; /* AddressSanitizer's */
    void *tsan;
    const char *file; /* of the barrier */
    int line;
    emu_rendezvous op; /* of the warp's operation, and what the lane gave and gets */
    unsigned mask, arg;
    int width;
    uint64_t bits;
};

struct {
    emu_schedule schedule;
    uint64_t random;
    emu_counts counts;
    cudaError_t error;
    std::string fault, told;
    std::map<const void *, size_t> allowed;
} config;

/* The block that runs. */
std::vector<fiber> fibers;
std::vector<fiber *> runnable;
uint64_t ready[1024 / 64]; /* the same, a bit for each thread */
const std::function<void()> *body;
void *scheduler_sp;
#ifdef __SANITIZE_ADDRESS__
void *scheduler_fake;
const void *scheduler_stack;
size_t scheduler_size;
#endif
#ifdef EMU_TSAN
void *scheduler_tsan;
#endif
size_t n_done, n_barrier;
uint64_t n_release; /* barriers that have opened */
char *shared_memory;
/* Addresses that stand for synchronisation: launch, end, barriers and warps by parity. */
char token_launch, token_end, token_barrier[2], token_warp[32][2];
uint64_t warp_turn[32];

uint64_t next_random() { /* splitmix64 */
    uint64_t z = config.random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void release(char *token) {
#ifdef EMU_TSAN
    __tsan_release(token);
#else
    (void)token;
#endif
}
void acquire(char *token) {
#ifdef EMU_TSAN
    __tsan_acquire(token);
#else
    (void)token;
#endif
}

/* ---- switching --------------------------------------------------------------------------------*/

fiber *self() {
    return static_cast<fiber *>(emu_current);
}

void to_scheduler() {
    fiber *f = self();
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(f->at == DONE ? nullptr : &f->fake_stack, scheduler_stack,
                                   scheduler_size);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(scheduler_tsan, __tsan_switch_to_fiber_no_sync);
#endif
    emu_switch_stack(&f->sp, scheduler_sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(f->fake_stack, &scheduler_stack, &scheduler_size);
#endif
}

void to_fiber(fiber *f) {
    emu_current = f;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, stack_bytes);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(f->tsan, __tsan_switch_to_fiber_no_sync);
#endif
    emu_switch_stack(&scheduler_sp, f->sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
    emu_current = nullptr;
}

void make_runnable(fiber *f) {
    f->at = RUNNABLE;
    f->place = runnable.size();
    runnable.push_back(f);
    ready[f->id / 64] |= uint64_t(1) << f->id % 64;
}
void take_off(fiber *f, state at) {
    runnable.back()->place = f->place;
    runnable[f->place] = runnable.back();
    runnable.pop_back();
    ready[f->id / 64] &= ~(uint64_t(1) << f->id % 64);
    f->at = at;
}

__attribute__((format(printf, 1, 2))) void fault(const char *format, ...) {
    if (!config.fault.empty()) return;
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    config.fault = text;
    config.error = cudaErrorLaunchFailure;
}
/* A fault of the thread that runs: it never runs again. */
[[noreturn]] void stop() {
    to_scheduler();
    abort();
}

fiber *lane_of(const fiber *f, unsigned lane) {
    size_t id = f->id - f->lane + lane;
    return id < fibers.size() ? &fibers[id] : nullptr;
}

void open_barrier() {
    const fiber &first = fibers[0];
    for (fiber &f : fibers)
        if (f.line != first.line || strcmp(f.file, first.file) != 0)
            fault("divergent barrier: thread 0 waits at %s:%d, thread %u at %s:%d", first.file,
                  first.line, f.id, f.file, f.line);
    n_barrier = 0;
    n_release++;
    for (fiber &f : fibers) make_runnable(&f);
}

void finish() {
    fiber *f = self();
    release(&token_end);
    take_off(f, DONE);
    n_done++;
    if (n_barrier > 0) fault("divergent barrier: thread %u exits while %zu wait", f->id, n_barrier);
    for (unsigned lane = 0; lane < 32; lane++) {
        fiber *other = lane_of(f, lane);
        if (other && other->at == IN_WARP && (other->mask >> f->lane & 1))
            fault("thread %u exits while lane %u waits for it in a warp's operation", f->id, lane);
    }
    to_scheduler();
}

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    acquire(&token_launch);
    (*body)();
    finish();
    abort();
}

/* ---- schedules --------------------------------------------------------------------------------*/

fiber *pick() {
    if (config.schedule == EMU_RANDOM) return runnable[next_random() % runnable.size()];
    if (config.schedule == EMU_NATURAL) {
        size_t word = 0;
        while (!ready[word]) word++;
        return &fibers[64 * word + size_t(__builtin_ctzll(ready[word]))];
    }
    fiber *best = runnable[0];
    for (fiber *f : runnable)
        if (f->priority > best->priority) best = f;
    if (next_random() % 64 == 0) best->priority = next_random();
    return best;
}

void tell_deadlock() {
    size_t n_warp = 0;
    for (fiber &f : fibers) n_warp += f.at == IN_WARP;
    fault("deadlock: %zu threads wait at a barrier, %zu in a warp's operation, %zu have exited",
          n_barrier, n_warp, n_done);
}

/* Stacks, and what ThreadSanitizer knows fibers by, are kept for the next block: a thread of that
 * number. (Races of one thread number with itself in another block are not seen.) A launch that has
 * had a fault leaves none. */
struct {
    char *stacks;
    std::vector<void *> tsan;
    size_t n;
} pool;
constexpr size_t stack_stride = stack_bytes + guard_bytes;

void empty_pool() {
    if (pool.n == 0) return;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(pool.stacks, pool.n * stack_stride);
#endif
#ifdef EMU_TSAN
    for (void *fiber : pool.tsan) __tsan_destroy_fiber(fiber);
#endif
    munmap(pool.stacks, pool.n * stack_stride);
    pool.n = 0;
    pool.tsan.clear();
}
void fill_pool(size_t n) {
    if (n <= pool.n) return;
    empty_pool();
    void *p = mmap(nullptr, n * stack_stride, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    pool.stacks = static_cast<char *>(p);
    pool.n = n;
    for (size_t i = 0; i < n; i++) {
        if (mprotect(pool.stacks + i * stack_stride, guard_bytes, PROT_NONE)) abort();
#ifdef EMU_TSAN
        pool.tsan.push_back(__tsan_create_fiber(0));
#endif
    }
}

void make_fiber(fiber *f, unsigned id, dim3 block, dim3 grid, dim3 block_idx) {
    *f = fiber{};
    f->thread_idx = dim3(id % block.x, id / block.x % block.y, id / block.x / block.y);
    f->block_idx = block_idx;
    f->block_dim = block;
    f->grid_dim = grid;
    f->id = id;
    f->lane = id % 32;
    f->priority = next_random();
    f->stack = pool.stacks + id * stack_stride + guard_bytes;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(f->stack, stack_bytes);
#endif
    /* Six registers and the return address, so that fiber_main starts as if it had been called. */
    void **top = reinterpret_cast<void **>(f->stack + stack_bytes) - 1;
    *top = nullptr;
    *--top = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
#ifdef EMU_TSAN
    f->tsan = pool.tsan[id];
#endif
    make_runnable(f);
}

void run_block(dim3 grid, dim3 block, dim3 block_idx) {
    size_t n = size_t(block.x) * block.y * block.z;
    fibers.resize(n);
    runnable.clear();
    memset(ready, 0, sizeof ready);
    n_done = n_barrier = 0;
#ifdef EMU_TSAN
    scheduler_tsan = __tsan_get_current_fiber();
#endif
    release(&token_launch);
    for (size_t i = 0; i < n; i++) make_fiber(&fibers[i], unsigned(i), block, grid, block_idx);
    while (n_done < n && config.fault.empty()) {
        if (runnable.empty()) {
            tell_deadlock();
        } else {
            to_fiber(pick());
        }
    }
}

/* Behind a block's shared memory, bytes that must stay as they are; AddressSanitizer has its own.
 */
#ifdef __SANITIZE_ADDRESS__
constexpr size_t behind = 0;
#else
constexpr size_t behind = 1024;
#endif
char *new_shared(size_t bytes) {
    void *p;
    if (posix_memalign(&p, 16, bytes + behind + 1)) abort();
    return static_cast<char *>(p);
}
void check_behind(size_t bytes) {
    for (size_t i = 0; i < behind; i++)
        if (shared_memory[bytes + i] != char(0xff)) {
            fault("a store past shared memory, %zu bytes from its start", bytes + i);
            return;
        }
}

/* What a driver would refuse. */
bool launch_ok(const void *kernel, dim3 grid, dim3 block, size_t shared) {
    size_t n = size_t(block.x) * block.y * block.z;
    auto allowed = config.allowed.find(kernel);
    size_t most = allowed == config.allowed.end() ? shared_default : allowed->second;
    if (n == 0 || n > 1024 || block.z > 64)
        fault("a block of %u x %u x %u threads", block.x, block.y, block.z);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 ||
        grid.z > 65535)
        fault("a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
    if (shared > most) fault("%zu bytes of shared memory, %zu allowed", shared, most);
    if (!config.fault.empty()) config.error = cudaErrorInvalidConfiguration;
    return config.fault.empty();
}

std::vector<dim3> block_order(dim3 grid) {
    std::vector<dim3> order;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) order.push_back(dim3(x, y, z));
    if (config.schedule != EMU_NATURAL)
        for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[next_random() % i]);
    return order;
}

/* ---- what a warp's operation gives ------------------------------------------------------------*/

unsigned source_lane(const fiber *f) {
    unsigned width = unsigned(f->width), first = f->lane & ~(width - 1), source = f->lane;
    switch (f->op) {
    case EMU_SHUFFLE_UP: return f->lane >= first + f->arg ? f->lane - f->arg : f->lane;
    case EMU_SHUFFLE_DOWN: source = f->lane + f->arg; break;
    case EMU_SHUFFLE_XOR: source = f->lane ^ f->arg; break;
    case EMU_SHUFFLE: return first | (f->arg & (width - 1));
    default: break;
    }
    return source < first + width ? source : f->lane;
}

void exchange(fiber *f) {
    uint64_t given[32] = {};
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(f->mask >> lane & 1)) continue;
        given[lane] = lane_of(f, lane)->bits;
        ballot |= unsigned(given[lane] & 1) << lane;
    }
    warp_turn[f->id / 32]++;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(f->mask >> lane & 1)) continue;
        fiber *to = lane_of(f, lane);
        unsigned from = source_lane(to);
        if (!(f->mask >> from & 1))
            fault("thread %u reads lane %u, which is not in the mask %08x", to->id, from, f->mask);
        to->bits = f->op == EMU_BALLOT ? ballot : given[from];
        make_runnable(to);
    }
}

/* Whether all lanes of f's mask have come; a fault when one never will. */
bool all_there(fiber *f) {
    bool all = true;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(f->mask >> lane & 1)) continue;
        fiber *other = lane_of(f, lane);
        if (!other || other->at == DONE) {
            fault("thread %u waits for lane %u, which has exited", f->id, lane);
        } else if (other->at != IN_WARP) {
            all = false;
        } else if (other->op != f->op || other->mask != f->mask || other->width != f->width) {
            fault("lanes of threads %u and %u are in different operations (masks %08x, %08x)",
                  f->id, other->id, f->mask, other->mask);
        }
    }
    return all && config.fault.empty();
}

} // namespace

emu_thread *emu_current;

void emu_barrier(const char *file, int line) {
    if (emu_planted_at("barrier", file, line)) return;
    fiber *f = self();
    config.counts.barrier++;
    f->file = file;
    f->line = line;
    char *token = &token_barrier[n_release % 2];
    release(token);
    take_off(f, AT_BARRIER);
    n_barrier++;
    if (n_done > 0)
        fault("divergent barrier: thread %u waits at %s:%d, %zu have exited", f->id, file, line,
              n_done);
    if (n_barrier == fibers.size()) open_barrier();
    if (!config.fault.empty()) stop();
    to_scheduler();
    acquire(token);
}

uint64_t emu_warp(emu_rendezvous op, unsigned mask, uint64_t bits, unsigned arg, int width) {
    fiber *f = self();
    config.counts.shuffle += op != EMU_SYNCWARP;
    f->op = op;
    f->mask = mask;
    f->bits = bits;
    f->arg = arg;
    f->width = width;
    unsigned warp = f->id / 32;
    char *token = &token_warp[warp][warp_turn[warp] % 2];
    if (op == EMU_SYNCWARP) release(token);
    take_off(f, IN_WARP);
    if (!(mask >> f->lane & 1)) fault("thread %u is not in its own mask %08x", f->id, mask);
    if (all_there(f)) exchange(f);
    if (!config.fault.empty()) stop();
    to_scheduler();
    if (op == EMU_SYNCWARP) acquire(token);
    return f->bits;
}

void *emu_shared() {
    return shared_memory;
}

void emu_touch(emu_access kind, size_t bytes) {
    emu_counts &c = config.counts;
    switch (kind) {
    case EMU_GLOBAL_LOAD: c.global_load++; break;
    case EMU_GLOBAL_STORE: c.global_store++; break;
    case EMU_SHARED_LOAD: c.shared_load++; break;
    case EMU_SHARED_STORE: c.shared_store++; break;
    case EMU_ATOMIC: c.atomic++; break;
    }
    if (kind == EMU_GLOBAL_LOAD || kind == EMU_GLOBAL_STORE || kind == EMU_ATOMIC)
        c.global_bytes += bytes;
    if (config.schedule != EMU_NATURAL && next_random() % 32 == 0) to_scheduler();
}

void emu_count_exponential() {
    config.counts.exponential++;
}

cudaError_t (*emu_defer)(cudaStream_t stream, std::function<void()> work);
size_t emu_shared_most = 227 << 10;

static void run_launch(dim3 grid, dim3 block, size_t shared, const std::function<void()> &call) {
    fill_pool(size_t(block.x) * block.y * block.z);
    if (shared > config.counts.shared_limit) config.counts.shared_limit = shared;
    body = &call;
    std::vector<char *> memory;
    for (dim3 at : block_order(grid)) {
#ifdef EMU_TSAN
        bool fresh = true; /* or blocks would seem to race for memory that is not the same */
#else
        bool fresh = memory.empty();
#endif
        if (fresh) memory.push_back(new_shared(shared));
        shared_memory = memory.back();
        memset(shared_memory, 0xff, shared + behind); /* NaN as float, half and bfloat16 */
        run_block(grid, block, at);
        check_behind(shared);
        if (!config.fault.empty()) break;
    }
    acquire(&token_end);
    for (char *p : memory) free(p);
    if (!config.fault.empty()) empty_pool();
}

void emu_launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                std::function<void()> call) {
    if (!config.fault.empty() || !launch_ok(kernel, grid, block, shared)) return;
    auto run = [=] { run_launch(grid, block, shared, call); };
    if (emu_defer) {
        config.error = emu_defer(stream, run);
    } else {
        run();
    }
}

cudaError_t emu_allow_shared(const void *kernel, int bytes) {
    if (bytes < 0 || size_t(bytes) > emu_shared_most) return cudaErrorInvalidValue;
    config.allowed[kernel] = size_t(bytes);
    return cudaSuccess;
}

cudaError_t emu_last_error() {
    cudaError_t error = config.error;
    config.error = cudaSuccess;
    return error;
}

void emu_configure(enum emu_schedule schedule, uint64_t seed) {
    config.schedule = schedule;
    config.random = seed * 0xD1342543DE82EF95u + schedule;
}

const char *emu_schedule_name(enum emu_schedule schedule) {
    const char *const names[] = {"natural", "random", "priority"};
    return names[schedule];
}

const char *emu_fault() {
    if (config.fault.empty()) return nullptr;
    config.told.swap(config.fault);
    config.fault.clear();
    return config.told.c_str();
}

struct emu_counts emu_counted() {
    return config.counts;
}
void emu_counts_reset() {
    config.counts = {};
}
