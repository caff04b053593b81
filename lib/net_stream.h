/* What the filters that open a model share: finding it, and the tensor of hidden states. */
#ifndef SP_NET_STREAM_H
#define SP_NET_STREAM_H

#include "net.h"
#include "state.h"
#include "stream_model.h"

/* The tensor `hidden` of a CHUNK, (n, d_model) of f32 or bf16 and finite, as f32: converted in
 * place where it is not. */
enum sp_code sp_stream_hidden(struct sp_record *chunk, int64_t d_model, struct sp_tensor **hidden,
                              struct sp_error *err);
/* Replaces an f32 tensor of the record by its rounding to bf16. */
enum sp_code sp_stream_to_bf16(struct sp_record *rec, const char *name, struct sp_error *err);

#endif
