/* Models, inside: the parts of opening a model that are tested apart, where the shipped model is
 * found, and saving. The public face is in statepipe.h. */
#ifndef SP_MODEL_H
#define SP_MODEL_H

#include "safetensors.h"
#include "statepipe.h"

/* Limits of a config: beyond any published model, below what would overflow a product of three. */
#define SP_D_MODEL_MAX 65536
#define SP_D_INNER_MAX 262144
#define SP_N_LAYER_MAX 1024
#define SP_D_STATE_MAX 256
#define SP_D_CONV_MAX 16
#define SP_VOCAB_MAX (1 << 24)
#define SP_PASSES_MAX 16
#define SP_DELAY_MAX 4096
#define SP_REVERSE_LAYERS_MAX 64 /* bits of sp_config.reverse_layers */
/* Of the "statepipe" object: 2 where layers are reversed, so that who would run them forward
 * refuses them. */
#define SP_CONFIG_FORMAT_MAX 2
#define SP_CONFIG_BYTES_MAX ((size_t)1 << 20)
#define SP_SHARDS_MAX 256

/* Parses and checks the text of a config.json; name is for messages. */
enum sp_code sp_config_parse(struct sp_config *c, const char *text, size_t n, const char *name,
                             struct sp_error *err);
/* The index of a head by name; -1 where there is none. */
int sp_config_head(const struct sp_config *c, const char *name);
/* Does layer i read windows from right to left? */
bool sp_config_reverses(const struct sp_config *c, int64_t i);
/* "1, 3 reversed in windows of 128 tokens": those of layers first to last; "" for none. */
void sp_config_describe_reverse(const struct sp_config *c, int64_t first, int64_t last, char *out,
                                size_t size);
/* A config.json for c, as Hugging Face's classes read it, with the "statepipe" object. dtype: what
 * "torch_dtype" says of the weights. */
enum sp_code sp_config_write(FILE *file, const struct sp_config *c, enum sp_dtype dtype,
                             struct sp_error *err);

/* Where the model is when nobody says: $STATEPIPE_MODEL, else share/ beside the running program
 * (installed or in the build tree), else the folder compiled in. SP_E_NOINPUT says where it looked.
 */
enum sp_code sp_model_default_dir(char *out, size_t size, struct sp_error *err);

/* Writes dir (made when missing): model.safetensors, then config.json, each whole or not at all.
 * Tensors are not checked against the config; opening it does that. "torch_dtype" is the type that
 * most of the weights have. A tokenizer.json is the caller's to copy. */
enum sp_code sp_model_save(const char *dir, const struct sp_config *c,
                           const struct sp_named_tensor *tensor, size_t n, struct sp_error *err);

#endif
