/* Fuzz target: safetensors. Every byte of every tensor in an accepted table can be read. */
#include "../../lib/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct sp_safetensors *st = NULL;
    struct sp_error err;
    if (sp_safetensors_parse(&st, data, n, "fuzz", &err)) return 0;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < sp_safetensors_count(st); i++) {
        const struct sp_safetensors_entry *e = sp_safetensors_entry(st, i);
        for (size_t k = 0; e->tensor.data && k < e->tensor.n_bytes; k++)
            sum = (uint8_t)(sum + ((const uint8_t *)e->tensor.data)[k]);
    }
    sp_safetensors_free(st);
    return 0;
}
