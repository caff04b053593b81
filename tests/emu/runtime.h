/* What the emulated runtime and the emulated cuBLAS share. */
#ifndef SP_EMU_RUNTIME_H
#define SP_EMU_RUNTIME_H

#include "cuda/cuda_runtime_api.h"

#include <functional>

/* Every call of the API begins with this: an error that was provoked or that stays. */
cudaError_t emu_enter();
/* Puts work at the end of a stream: it runs when somebody waits for it, not before. */
void emu_enqueue(cudaStream_t stream, std::function<void()> work);
/* Work calls these before it touches device memory: [p, p + n_bytes) must lie in one allocation; a
 * fault is told and stays, as on a device. */
bool emu_device_range(const void *p, size_t n_bytes, const char *what);

#endif
