/* Which model and which tokenizer a stream belongs to: one rule for all programs. What is opened is
 * the caller's to free. */
#ifndef SP_STREAM_MODEL_H
#define SP_STREAM_MODEL_H

#include "statepipe.h"

/* The model of a stream: dir, else $STATEPIPE_MODEL, else the directory that HELLO names if its
 * fingerprint is HELLO's, else the shipped one. SP_E_DATA when HELLO's fingerprint is of another
 * model. */
enum sp_code sp_stream_model_open(struct sp_model **m, const char *dir,
                                  const struct sp_hello *hello, struct sp_error *err);
/* A later segment: is it of the model that is open? */
enum sp_code sp_stream_model_check(const struct sp_model *m, const struct sp_hello *hello,
                                   struct sp_error *err);
/* The tokenizer, by the same rule; path may also be that of a tokenizer.json or vocab.txt. Bytes
 * need no file, and are found first where nothing is given. */
enum sp_code sp_stream_tokenizer_open(struct sp_tokenizer **tok, const char *path,
                                      const struct sp_hello *hello, struct sp_error *err);
/* The fingerprint of a model's tokenizer; zeros where it has none. */
enum sp_code sp_stream_model_tokenizer(const struct sp_model *m, struct sp_hash *fingerprint,
                                       struct sp_error *err);

#endif
