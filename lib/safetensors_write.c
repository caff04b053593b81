/* Writing safetensors. */
#include "safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const dtype_names[SP_DTYPE_COUNT] = {
    [SP_F32] = "F32", [SP_F16] = "F16", [SP_BF16] = "BF16", [SP_I8] = "I8",   [SP_U8] = "U8",
    [SP_I32] = "I32", [SP_U32] = "U32", [SP_I64] = "I64",   [SP_U64] = "U64",
};

static void write_entry(FILE *f, const struct sp_named_tensor *t, uint64_t begin) {
    fprintf(f, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, dtype_names[t->tensor.dtype]);
    for (uint32_t d = 0; d < t->tensor.rank; d++)
        fprintf(f, "%s%llu", d ? "," : "", (unsigned long long)t->tensor.dim[d]);
    fprintf(f, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
            (unsigned long long)(begin + t->tensor.n_bytes));
}

/* The header, padded with spaces so that the data start at a multiple of 64 bytes. */
static char *make_header(const struct sp_metadata *meta, size_t n_meta,
                         const struct sp_named_tensor *tensor, size_t n, size_t *n_header) {
    char *text = NULL;
    FILE *f = open_memstream(&text, n_header);
    if (!f) return NULL;
    fputs("{\"__metadata__\":{\"format\":\"pt\"", f);
    for (size_t i = 0; i < n_meta; i++) fprintf(f, ",\"%s\":\"%s\"", meta[i].key, meta[i].value);
    fputc('}', f);
    uint64_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        write_entry(f, &tensor[i], begin);
        begin += tensor[i].tensor.n_bytes;
    }
    fputc('}', f);
    for (long at = ftell(f); at >= 0 && (at + 8) % 64 != 0; at++) fputc(' ', f);
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

enum sp_code sp_safetensors_write(FILE *file, const struct sp_named_tensor *tensor, size_t n,
                                  struct sp_error *err) {
    return sp_safetensors_write_with(file, NULL, 0, tensor, n, err);
}

enum sp_code sp_safetensors_write_with(FILE *file, const struct sp_metadata *meta, size_t n_meta,
                                       const struct sp_named_tensor *tensor, size_t n,
                                       struct sp_error *err) {
    for (size_t i = 0; i < n; i++)
        if (strlen(tensor[i].name) >= SP_TENSOR_NAME_MAX || strpbrk(tensor[i].name, "\"\\"))
            return sp_error_set(err, SP_E_BUG, "tensor name %.40s cannot be written",
                                tensor[i].name);
    size_t n_header = 0;
    char *header = make_header(meta, n_meta, tensor, n, &n_header);
    if (!header) return sp_error_set(err, SP_E_DEVICE, "out of memory writing a tensor table");
    if (n_header > SP_SAFETENSORS_HEADER_MAX) {
        free(header);
        return sp_error_set(err, SP_E_USAGE, "too many tensors for one file: %zu", n);
    }
    uint8_t size[8];
    for (size_t i = 0; i < 8; i++) size[i] = (uint8_t)(n_header >> (8 * i));
    bool ok = fwrite(size, 1, 8, file) == 8 && fwrite(header, 1, n_header, file) == n_header;
    for (size_t i = 0; i < n && ok; i++)
        ok = tensor[i].tensor.n_bytes == 0 ||
             fwrite(tensor[i].tensor.data, tensor[i].tensor.n_bytes, 1, file) == 1;
    free(header);
    if (!ok) return sp_error_set(err, SP_E_IO, "writing tensors: %s", strerror(errno));
    return SP_OK;
}
