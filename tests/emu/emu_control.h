/* How a check drives the CUDA emulator (emu.h): schedules, faults, counts. For C and C++. */
#ifndef SP_EMU_CONTROL_H
#define SP_EMU_CONTROL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which of the threads that can run runs next. Natural: the lowest, until it has to wait; it finds
 * almost no missing barrier. Random: any, also at a part of the memory accesses. Priority: always
 * the one of highest priority, priorities being drawn anew now and then, so that some threads run
 * far ahead and others lag (Burckhardt et al., "A Randomized Scheduler with Probabilistic
 * Guarantees of Finding Bugs", ASPLOS 2010). Blocks are run in a random order but for natural. */
enum emu_schedule { EMU_NATURAL, EMU_RANDOM, EMU_PRIORITY, EMU_N_SCHEDULE };
void emu_configure(enum emu_schedule schedule, uint64_t seed);
const char *emu_schedule_name(enum emu_schedule schedule);

/* What a launch was stopped for since the last call, in one line, or NULL: a divergent barrier, a
 * lane that has exited or named another mask in a warp's operation, a deadlock, a launch that the
 * hardware would refuse. The launch returns an error too. */
const char *emu_fault(void);

/* Sums over all threads since the last emu_counts_reset. An access of 16 bytes is one load or
 * store; bytes are counted beside them. */
struct emu_counts {
    uint64_t global_load, global_store, shared_load, shared_store, shuffle, barrier, exponential,
        atomic;
    uint64_t global_bytes; /* read, written, and once per atomic */
    uint64_t shared_limit; /* the largest dynamic shared memory of a launch, bytes */
};
struct emu_counts emu_counted(void);
void emu_counts_reset(void);

#ifdef __cplusplus
}
#endif

#endif
