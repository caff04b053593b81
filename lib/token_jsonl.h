/* Labelled documents, one JSON object a line: {"id", "text", "spans": [[start, end, label,
 * [record...]]], "slots": [[query, [answers]]], "label"}. */
#ifndef SP_TOKEN_JSONL_H
#define SP_TOKEN_JSONL_H

#include "statepipe.h"

/* doc: a DOC record with id ("id", else `number`), bytes, spans in bytes, slots
 * and label; text: a copy. Both are the caller's, and NULL on failure: SP_E_DATA says why. Spans
 * count bytes of the text, or with code_points Unicode code points. */
enum sp_code sp_token_jsonl_read(const char *line, size_t n, uint64_t number, bool code_points,
                                 struct sp_record **doc, char **text, size_t *n_text,
                                 struct sp_error *err);

#endif
