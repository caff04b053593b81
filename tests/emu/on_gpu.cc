/* The checks of the CUDA kernels on a GPU (tests/gpu-check): the same sources as under the
 * emulator, linked with the kernels that nvcc made and with this in the emulator's place.
 * Everything that a check has, its stack too, is memory that host and device share, so that nothing
 * in it has to be copied; a launch is over when the check asks whether it had a fault. The emulated
 * runtime runs all of this, too (build/gpu-emu), as a check of this file. */
#include "emu_control.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include <ucontext.h>

extern "C" int check_main(int argc, char **argv); /* the check's main */

namespace {

constexpr size_t stack_bytes = 64 << 20;
ucontext_t outside, inside;
int n_argument, status;
char **arguments;

void must(cudaError_t error, const char *what) {
    if (!error) return;
    printf("1..0 # SKIP no GPU to run on: %s: %s\n", what, cudaGetErrorString(error));
    exit(69);
}
void *shared(size_t n_bytes) {
    void *p = nullptr;
    return cudaMallocManaged(&p, n_bytes ? n_bytes : 1, cudaMemAttachGlobal) ? nullptr : p;
}
void run() {
    status = check_main(n_argument, arguments);
}

} // namespace

/* What the check allocates (the linker's --wrap); it is given back when the program ends. */
extern "C" int __wrap_posix_memalign(void **p, size_t, size_t n_bytes) {
    *p = shared(n_bytes); /* aligned to 256 at least */
    return *p ? 0 : 12;
}
extern "C" void __wrap_free(void *p) {
    cudaPointerAttributes a;
    if (!p) return;
    cudaDeviceSynchronize();
    if (!cudaPointerGetAttributes(&a, p) && a.type == cudaMemoryTypeManaged) cudaFree(p);
}

extern "C" const char *emu_fault(void) {
    cudaError_t error = cudaDeviceSynchronize();
    return error ? cudaGetErrorString(error) : nullptr;
}
extern "C" void emu_configure(enum emu_schedule, uint64_t) {}
extern "C" const char *emu_schedule_name(enum emu_schedule) {
    return "the GPU's";
}
extern "C" struct emu_counts emu_counted(void) {
    return {};
}
extern "C" void emu_counts_reset(void) {}

int main(int argc, char **argv) {
    int n = 0, together = 0;
    n_argument = argc;
    arguments = argv;
    must(cudaGetDeviceCount(&n), "looking for devices");
    must(cudaDeviceGetAttribute(&together, cudaDevAttrConcurrentManagedAccess, 0), "asking it");
    if (!together) {
        printf("1..0 # SKIP this system does not let host and GPU share memory\n");
        return 69;
    }
    void *stack = shared(stack_bytes);
    if (!stack || getcontext(&inside)) return 69;
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = stack_bytes;
    inside.uc_link = &outside;
    makecontext(&inside, run, 0);
    if (swapcontext(&outside, &inside)) return 70;
    return status;
}
