/* head --sample: hidden states in, a stream of tokens out, each document's next token. Internal to
 * net_*.c.
 *
 * A sampling owns its documents, sampler and buffers; it borrows the model and the head. For each
 * document that was left open it writes DOC cont, a CHUNK of one token and DOCEND; embed takes
 * that, so that with the output led back to embed the filters generate text. When the document has
 * n_max tokens, or the model's end of text comes (which is not written), DOCEND says "ok" in place
 * of "open"; when that is so of all documents, the filter is done (sp_filter.done).
 */
#ifndef SP_NET_SAMPLE_H
#define SP_NET_SAMPLE_H

#include "net.h"
#include "sample.h"

#define SP_SAMPLE_DOCS_MAX 64 /* documents that go on at a time */

struct sp_sampling;
/* head is a language model's. */
enum sp_code sp_sampling_new(struct sp_sampling **s, const struct sp_model *m,
                             struct sp_head_net *head, const struct sp_sample_options *o,
                             uint64_t n_max, struct sp_error *err);
void sp_sampling_free(struct sp_sampling *s);
/* A state in front: the hidden vector (d_model), borrowed, that predicts the first token of
 * documents that begin with none; NULL: none. */
void sp_sampling_start(struct sp_sampling *s, const float *hidden);
/* Is this DOC's document to be written: one that begins, or that goes on (sp_filter.wants_doc)?
 * What was led back of one that has ended is not. */
bool sp_sampling_wants(struct sp_sampling *s, const struct sp_record *rec);
/* DOC, TEXT, CHUNK and DOCEND; rec stays the caller's. SP_E_DATA fails the document. */
enum sp_code sp_sampling_record(struct sp_sampling *s, struct sp_record *rec, struct sp_writer *w,
                                struct sp_error *err);
/* The document that is being read has failed. */
void sp_sampling_drop(struct sp_sampling *s);
/* Documents were there, and none of them goes on. */
bool sp_sampling_done(const struct sp_sampling *s);

#endif
