/* What the checks of the CUDA kernels share: 16-bit buffers, schedules, and the errors allowed. */
#ifndef SP_CHECK_CUDA_H
#define SP_CHECK_CUDA_H

#include "../../kernels/cuda/launch.h"
#include "../check/kernel.h"
#include "emu_control.h"

enum { CUDA_N_TYPE = 3 };
static const char *const cuda_type_name[CUDA_N_TYPE] = {"f32", "bf16", "f16"};
/* Half a unit in the last place of an output of that type, and the kernels' own error. */
static const double cuda_tolerance[CUDA_N_TYPE] = {1e-6, 3e-3, 4e-4};

static inline size_t cuda_size(enum sp_cuda_type type) {
    return type == SP_CUDA_F32 ? 4 : 2;
}
static inline uint16_t cuda_narrow(float x, enum sp_cuda_type type) {
    uint16_t bits;
    if (type == SP_CUDA_F16) {
        _Float16 half = (_Float16)x;
        memcpy(&bits, &half, sizeof bits);
    } else {
        kernel_state.path[0].to_bf16(&bits, &x, 1);
    }
    return bits;
}
static inline float cuda_widen(uint16_t bits, enum sp_cuda_type type) {
    if (type == SP_CUDA_F16) {
        _Float16 half;
        memcpy(&half, &bits, sizeof half);
        return (float)half;
    }
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}
/* x, of n floats, is rounded in place to what `type` holds; a device buffer with the same values is
 * returned, exactly as long (NULL stays NULL). Belongs to the case. */
static inline void *cuda_typed(const float *x, int64_t n, enum sp_cuda_type type) {
    if (!x) return NULL;
    if (type == SP_CUDA_F32) return kernel_copy(x, n);
    uint16_t *typed = kernel_alloc(n, sizeof *typed);
    for (int64_t i = 0; i < n; i++) {
        typed[i] = cuda_narrow(x[i], type);
        ((float *)(uintptr_t)x)[i] = cuda_widen(typed[i], type);
    }
    return typed;
}
/* An output buffer of n elements that hold NaN. */
static inline void *cuda_output(int64_t n, enum sp_cuda_type type) {
    void *p = kernel_alloc(n, cuda_size(type));
    memset(p, 0xff, (size_t)n * cuda_size(type));
    return p;
}
static inline float *cuda_to_floats(const void *typed, int64_t n, enum sp_cuda_type type) {
    float *x = kernel_floats(n);
    if (type == SP_CUDA_F32) {
        if (n > 0) memcpy(x, typed, (size_t)n * sizeof *x);
    } else {
        for (int64_t i = 0; i < n; i++) x[i] = cuda_widen(((const uint16_t *)typed)[i], type);
    }
    return x;
}

/* How many cases of n to run: few under ThreadSanitizer, where each takes long, and where a check
 * is checked (tests/emu/planted), which sets $EMU_SCHEDULE. */
static inline int cuda_cases(int n) {
#ifdef EMU_TSAN
    return (n + 11) / 12;
#else
    return getenv("EMU_SCHEDULE") ? (n + 3) / 4 : n;
#endif
}

/* Another schedule and seed for every launch, or $EMU_SCHEDULE for all. */
static inline void cuda_next_schedule(void) {
    static int n;
    enum emu_schedule schedule = (enum emu_schedule)(n++ % EMU_N_SCHEDULE);
    const char *name = getenv("EMU_SCHEDULE");
    for (int i = 0; name && i < EMU_N_SCHEDULE; i++)
        if (strcmp(name, emu_schedule_name((enum emu_schedule)i)) == 0)
            schedule = (enum emu_schedule)i;
    emu_configure(schedule, check_random());
}
/* After a launch: true when it was accepted and the emulator has nothing to say. */
static inline bool cuda_launched(int error) {
    const char *fault = emu_fault();
    if (fault) printf("# %s\n", fault);
    return error == 0 && !fault;
}
/* Columns of rows of length ld that are not the row's must still hold NaN. */
static inline bool cuda_padding_kept(const float *x, int64_t n_row, int64_t n_col, int64_t ld) {
    for (int64_t i = 0; i < n_row * ld; i++)
        if (i % ld >= n_col && !isnan(x[i])) return false;
    return true;
}

#endif
