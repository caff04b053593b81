/* safetensors: a table of named tensors over mapped bytes, and writing one.
 *
 * The format: a u64 LE header size, a JSON object {name: {"dtype", "shape", "data_offsets"}}, then
 * the data that it covers without gap or overlap. Everything is checked when it is opened, so that
 * a tensor which is handed out can be read to its end.
 *
 * Owns the mapping (of _open), the table, and copies of tensors that lie unaligned in the file;
 * _parse borrows the bytes.
 */
#ifndef SP_SAFETENSORS_H
#define SP_SAFETENSORS_H

#include "statepipe.h"
#include <stdio.h>

#define SP_SAFETENSORS_HEADER_MAX ((size_t)16 << 20)
#define SP_SAFETENSORS_TENSORS_MAX 65536
#define SP_TENSOR_NAME_MAX 256 /* of a tensor's name in a file, with its final NUL */

struct sp_safetensors_entry {
    const char *name;
    char dtype_name[12];     /* as the file writes it */
    bool readable;           /* false: a dtype that struct sp_tensor cannot say; data is NULL */
    struct sp_tensor tensor; /* mapped, read-only */
    uint64_t begin, end;     /* bytes in the data part */
};

struct sp_safetensors;

/* SP_E_NOINPUT when it cannot be opened, SP_E_DATA with what is wrong and where. */
enum sp_code sp_safetensors_open(struct sp_safetensors **st, const char *path,
                                 struct sp_error *err);
enum sp_code sp_safetensors_parse(struct sp_safetensors **st, const void *data, size_t n,
                                  const char *name, struct sp_error *err);
void sp_safetensors_free(struct sp_safetensors *st);

/* Entries are sorted by name (bytewise). */
size_t sp_safetensors_count(const struct sp_safetensors *st);
const struct sp_safetensors_entry *sp_safetensors_entry(const struct sp_safetensors *st, size_t i);
const struct sp_safetensors_entry *sp_safetensors_find(const struct sp_safetensors *st,
                                                       const char *name);
/* The JSON header's bytes, for fingerprints. */
const void *sp_safetensors_header(const struct sp_safetensors *st, size_t *n);

/* A string of the header's __metadata__, copied with a NUL: false where there is no such key, or a
 * string that is too long or has a NUL inside. */
bool sp_safetensors_metadata(const struct sp_safetensors *st, const char *key, char *out,
                             size_t size);

struct sp_named_tensor {
    const char *name;
    struct sp_tensor tensor;
};

struct sp_metadata {
    const char *key, *value; /* plain ASCII without quotes, as names are */
};
/* Writes a whole file: tensors in the order given, data 64-byte aligned at its start, metadata
 * {"format": "pt"} as Hugging Face's loader asks, and meta (n_meta) after it. Names are plain ASCII
 * without quotes. */
enum sp_code sp_safetensors_write_with(FILE *file, const struct sp_metadata *meta, size_t n_meta,
                                       const struct sp_named_tensor *tensor, size_t n,
                                       struct sp_error *err);
/* Without further metadata. */
enum sp_code sp_safetensors_write(FILE *file, const struct sp_named_tensor *tensor, size_t n,
                                  struct sp_error *err);

#endif
