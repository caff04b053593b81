/* The emulator itself: what a correct kernel gives, and that each kind of bug it must report is
 * reported: provoked here by small kernels that have it. */
#include "../../kernels/cuda/port.h"
#include "../check/check.h"

#include <cmath>
#include <string>
#include <vector>

static std::string launch(void (*kernel)(float *), unsigned n_block, unsigned n_thread,
                          size_t n_shared, float *data) {
    SP_LAUNCH(kernel, dim3(n_block), dim3(n_thread), n_shared * sizeof(float), nullptr, data);
    int error = SP_LAST_ERROR();
    const char *fault = emu_fault();
    if ((error != 0) != (fault != nullptr)) return "an error without a fault, or a fault without";
    return fault ? fault : "";
}
static bool has(const std::string &text, const char *part) {
    return text.find(part) != std::string::npos;
}

/* ---- kernels ----------------------------------------------------------------------------------*/

/* Each thread leaves data[thread] and takes its neighbour's. */
template <bool BARRIER> static void neighbour(float *data) {
    SP_SHARED(float, shared);
    unsigned i = threadIdx.x, n = blockDim.x;
    sp_shared_store(&shared[i], data[i]);
    if (BARRIER) __syncthreads();
    data[n + i] = sp_shared_load(&shared[(i + 1) % n]);
}
/* Two rounds in one buffer; without the second barrier a fast thread overwrites what a slow one has
 * still to read. */
template <bool BARRIER> static void twice(float *data) {
    SP_SHARED(float, shared);
    unsigned i = threadIdx.x, n = blockDim.x;
    float sum = 0;
    for (int round = 1; round <= 2; round++) {
        sp_shared_store(&shared[i], data[i] * (float)round);
        __syncthreads();
        sum += sp_shared_load(&shared[(i + n / 2) % n]);
        if (BARRIER) __syncthreads();
    }
    data[n + i] = sum;
}
static void two_sites(float *) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
static void early_exit(float *) {
    if (threadIdx.x == 5) return;
    __syncthreads();
}
static void exited_lane(float *data) {
    if (threadIdx.x == 3) return;
    data[threadIdx.x] = __shfl_xor_sync(0xffffffffu, data[threadIdx.x], 1);
}
static void missing_lanes(float *data) { /* a block of 20 has no lane 31 */
    data[threadIdx.x] = __shfl_down_sync(0xffffffffu, data[threadIdx.x], 1);
}
static void own_mask(float *data) {
    data[threadIdx.x] = __shfl_sync(0xfffffffeu, data[threadIdx.x], 1);
}
static void two_masks(float *data) {
    unsigned mask = threadIdx.x < 16 ? 0xffffffffu : 0xffff0000u;
    data[threadIdx.x] = __shfl_xor_sync(mask, data[threadIdx.x], 1);
}
static void outside_mask(float *data) {
    if (threadIdx.x < 16) data[threadIdx.x] = __shfl_xor_sync(0xffffu, data[threadIdx.x], 16);
}
static void half_waits(float *data) {
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        data[threadIdx.x] = __shfl_xor_sync(0xffffffffu, data[threadIdx.x], 1);
    }
}
static void uninitialised(float *data) {
    SP_SHARED(float, shared);
    data[threadIdx.x] = sp_shared_load(&shared[threadIdx.x]);
}
static void add_all(float *data) {
    atomicAdd(data, (float)(blockIdx.x * blockDim.x + threadIdx.x));
}
static void shuffles(float *data) {
    unsigned lane = threadIdx.x;
    float x = (float)lane;
    data[lane] = __shfl_up_sync(~0u, x, 3);
    data[32 + lane] = __shfl_down_sync(~0u, x, 5, 16);
    data[64 + lane] = __shfl_xor_sync(~0u, x, 9);
    data[96 + lane] = __shfl_sync(~0u, x, 7, 8);
    data[128 + lane] = (float)(__ballot_sync(~0u, lane % 3 == 0) & 0xffff);
    double wide = __shfl_sync(~0u, 1e100 * (double)lane, 31);
    data[160 + lane] = (float)(wide / 1e99);
    if (lane >= 8 && lane < 24) x = __shfl_sync(0x00ffff00u, x, 8 + (int)lane % 8);
    data[192 + lane] = x;
}
/* ---- checks -----------------------------------------------------------------------------------*/

enum { N = 64 };
#ifndef EMU_TSAN
/* How many of n seeds show a kernel's missing barrier in a wrong result. */
static int found(void (*kernel)(float *), emu_schedule schedule, int n) {
    int count = 0;
    for (int seed = 0; seed < n; seed++) {
        float data[2 * N];
        for (int i = 0; i < N; i++) data[i] = (float)i;
        emu_configure(schedule, (uint64_t)seed);
        bool wrong = !launch(kernel, 1, N, N, data).empty();
        bool two = kernel == twice<false> || kernel == twice<true>;
        for (int i = 0; i < N; i++) {
            float want = two ? 3 * (float)((i + N / 2) % N) : (float)((i + 1) % N);
            wrong = wrong || !(data[N + i] == want);
        }
        count += wrong;
    }
    return count;
}

static void check_barriers() {
    for (int s = 0; s < EMU_N_SCHEDULE; s++) {
        emu_schedule schedule = (emu_schedule)s;
        const char *name = emu_schedule_name(schedule);
        check_ok(found(neighbour<true>, schedule, 20) == 0 && found(twice<true>, schedule, 20) == 0,
                 "%s: barriers hold", name);
        if (schedule == EMU_NATURAL) continue;
        int first = found(neighbour<false>, schedule, 20),
            second = found(twice<false>, schedule, 20);
        check_ok(first == 20, "%s: a missing barrier before a read is found by %d of 20 seeds",
                 name, first);
        check_ok(second >= 15, "%s: a missing barrier after a read is found by %d of 20 seeds",
                 name, second);
    }
}

#endif

static void check_faults() {
    const struct {
        const char *what, *report;
        void (*kernel)(float *);
        unsigned n_thread;
    } faults[] = {
        {"two barriers of one block", "divergent barrier", two_sites, N},
        {"a thread that exits before a barrier", "divergent barrier", early_exit, N},
        {"an exited lane in a shuffle", "exit", exited_lane, 32},
        {"lanes that a block does not have", "has exited", missing_lanes, 20},
        {"a lane that is not in its own mask", "own mask", own_mask, 32},
        {"lanes with different masks", "lane", two_masks, 32},
        {"reading a lane that is not in the mask", "not in the mask", outside_mask, 32},
        {"half a warp at a barrier, half in a shuffle", "deadlock", half_waits, 32},
    };
    for (const auto &f : faults) {
        bool all = true;
        std::string last;
        for (int i = 0; i < 15; i++) {
            float data[N] = {};
            emu_configure((emu_schedule)(i % EMU_N_SCHEDULE), (uint64_t)i);
            last = launch(f.kernel, 1, f.n_thread, 0, data);
            all = all && has(last, f.report);
        }
        check_ok(all, "%s: reported in every schedule: %s", f.what, last.c_str());
    }
}

static void check_launches() {
    float data[2 * N] = {};
    emu_configure(EMU_NATURAL, 0);
    check_ok(has(launch(add_all, 0, 32, 0, data), "grid"), "an empty grid is refused");
    check_ok(has(launch(add_all, 1, 2048, 0, data), "block"), "2048 threads are refused");
    size_t large = (64 << 10) / sizeof(float);
    check_ok(has(launch(add_all, 1, 32, large, data), "allowed"), "64 KiB unasked are refused");
    check_ok(SP_ALLOW_SHARED(add_all, 64 << 10) == 0 && launch(add_all, 1, 32, large, data).empty(),
             "64 KiB are there for the kernel that has asked");
    check_ok(SP_ALLOW_SHARED(add_all, 1 << 20) != 0, "1 MiB is not to be had");
    launch(uninitialised, 1, N, N, data);
    bool all = true;
    for (int i = 0; i < N; i++) all = all && std::isnan(data[i]);
    check_ok(all, "shared memory starts as NaN");
}

static void check_operations() {
    bool sums = true, exchanged = true;
    for (int i = 0; i < 9; i++) {
        emu_configure((emu_schedule)(i % EMU_N_SCHEDULE), (uint64_t)i);
        float sum = 0, data[224];
        emu_counts_reset();
        sums = sums && launch(add_all, 7, N, 0, &sum).empty() && sum == 7 * N * (7 * N - 1) / 2 &&
               emu_counted().atomic == 7 * N;
        exchanged = exchanged && launch(shuffles, 1, 32, 0, data).empty();
        for (int lane = 0; lane < 32; lane++) {
            const float want[] = {(float)(lane < 3 ? lane : lane - 3),
                                  (float)(lane % 16 + 5 < 16 ? lane + 5 : lane),
                                  (float)(lane ^ 9),
                                  (float)(lane / 8 * 8 + 7),
                                  (float)0x9249,
                                  310,
                                  (float)(lane >= 8 && lane < 24 ? 8 + lane % 8 : lane)};
            for (int j = 0; j < 7; j++) exchanged = exchanged && data[32 * j + lane] == want[j];
        }
    }
    check_ok(sums, "atomics of all blocks arrive, and are counted");
    check_ok(exchanged, "shuffles and ballot as the CUDA guide has them, also in part of a warp");
}

static void check_half() {
    bool back = true, between = true;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        float x = emu_from_half((uint16_t)bits), next = emu_from_half((uint16_t)(bits + 1));
        int exponent = (int)(bits >> 10);
        float want = exponent == 0 ? std::ldexp((float)bits, -24)
                                   : std::ldexp((float)(bits % 1024 + 1024), exponent - 25);
        back = back && x == want && emu_to_half(x) == bits && emu_to_half(-x) == (bits | 0x8000);
        if (bits == 0x7bff) next = 65536;
        float middle = x / 2 + next / 2; /* exact: of 12 bits */
        uint32_t even = bits + (bits & 1);
        between = between && emu_to_half(middle) == even &&
                  emu_to_half(std::nextafter(middle, 0.f)) == bits &&
                  emu_to_half(std::nextafter(middle, 1e9f)) == bits + 1;
    }
    check_ok(back, "half precision: every finite value there and back");
    check_ok(between, "half precision: to the nearest, ties to even");
    check_ok(std::isinf(emu_from_half(0x7c00)) && emu_to_half(INFINITY) == 0x7c00 &&
                 std::isnan(emu_from_half(emu_to_half(NAN))),
             "half precision: infinity and NaN");
}

#ifdef EMU_TSAN
static int n_race;
extern "C" void __tsan_on_report(void *) {
    n_race++;
}
/* A race is seen in the natural schedule too, where the result is right. */
static void check_races() {
    for (int missing = 0; missing < 2; missing++) {
        int before = n_race;
        emu_configure(EMU_NATURAL, 0);
        float data[2 * N] = {};
        launch(missing ? twice<false> : twice<true>, 1, N, N, data);
        check_ok((n_race > before) == (missing == 1), "ThreadSanitizer: %s",
                 missing ? "a missing barrier is a race" : "barriers order what they should");
    }
}
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sys/wait.h>
#include <unistd.h>
static void past_shared(float *data) {
    SP_SHARED(float, shared);
    sp_shared_store(&shared[threadIdx.x + 1], data[threadIdx.x]);
}
static void check_bounds() {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        float data[N] = {};
        launch(past_shared, 1, N, N, data);
        _exit(0);
    }
    int status;
    check_ok(waitpid(child, &status, 0) == child &&
                 !(WIFEXITED(status) && WEXITSTATUS(status) == 0),
             "AddressSanitizer: a store past shared memory ends the run");
}
#endif

int main(int argc, char **argv) {
    check_start(argc, argv);
    check_launches();
    check_operations();
    check_half();
    check_faults();
#ifdef EMU_TSAN
    check_races();
    int status = check_end();
    fflush(stdout);
    _Exit(status); /* not ThreadSanitizer's status: the races were provoked */
#else
    check_barriers();
#ifdef __SANITIZE_ADDRESS__
    check_bounds();
#endif
    return check_end();
#endif
}
