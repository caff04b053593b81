/* Theoretical occupancy by NVIDIA's own calculator, which runs on the host: reads lines of "sm_NN
 * registers threads shared_bytes", writes a percentage each. Built where nvcc is (tests/emu/ptxas).
 */
#include <cstdio>
#include <cuda_occupancy.h>

namespace {

/* Of an SM, from the CUDA C++ Programming Guide's table of compute capabilities: threads, and KiB
 * of shared memory in all and for a block that asks. 64 Ki registers and 1 KiB reserved by block
 * (from 8.0 on) are common to all. */
struct sm {
    int arch, threads, shared, shared_block;
};
const sm table[] = {{75, 1024, 64, 64},  {80, 2048, 164, 163}, {86, 1536, 100, 99},
                    {89, 1536, 100, 99}, {90, 2048, 228, 227}, {100, 2048, 228, 227},
                    {120, 1536, 100, 99}};

int percent(const sm &s, int registers, int threads, size_t shared) {
    cudaOccDeviceProp device;
    device.computeMajor = s.arch / 10;
    device.computeMinor = s.arch % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = s.threads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 << 10;
    device.sharedMemPerMultiprocessor = (size_t)s.shared << 10;
    device.numSms = 1;
    device.sharedMemPerBlockOptin = (size_t)s.shared_block << 10;
    device.reservedSharedMemPerBlock = s.arch >= 80 ? 1024 : 0;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = threads;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = 0;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = shared;
    kernel.numBlockBarriers = 1;
    cudaOccDeviceState state;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads,
                                                shared) != CUDA_OCC_SUCCESS)
        return -1;
    return 100 * result.activeBlocksPerMultiprocessor * threads / s.threads;
}

} // namespace

int main() {
    int arch, registers, threads;
    size_t shared;
    while (scanf(" sm_%d %d %d %zu", &arch, &registers, &threads, &shared) == 4) {
        int found = -1;
        for (const sm &s : table)
            if (s.arch == arch) found = percent(s, registers, threads, shared);
        if (found < 0) {
            fprintf(stderr, "occupancy: sm_%d with %d registers, %d threads, %zu bytes\n", arch,
                    registers, threads, shared);
            return 1;
        }
        printf("%d\n", found);
    }
    return 0;
}
