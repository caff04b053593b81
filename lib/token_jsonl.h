/* Labelled documents, one JSON object a line: {"id", "text", "spans": [[start, end, label,
 * [record...]]], "slots": [[query, [answers]]], "label", "choices": [text...]}. */
#ifndef SP_TOKEN_JSONL_H
#define SP_TOKEN_JSONL_H

#include "statepipe.h"

struct sp_token_line {
    struct sp_record *doc; /* DOC with id ("id", else the number), bytes, spans, slots, label */
    char *text;            /* n_text bytes, and behind them those of the choices */
    size_t n_text, n_choice;
    size_t *choice_end; /* (n_choice), in text; each begins where the one before it ends */
};

/* All of *out is the caller's, doc to be handed on and the rest to be cleared; on failure it is
 * cleared, and SP_E_DATA says why. Spans count bytes of the text, or with code_points Unicode code
 * points; in doc they are in bytes. White space at the end of a text with choices becomes the
 * beginning of each of them, since tokens begin with it. */
enum sp_code sp_token_jsonl_read(const char *line, size_t n, uint64_t number, bool code_points,
                                 struct sp_token_line *out, struct sp_error *err);
void sp_token_line_clear(struct sp_token_line *line); /* but for doc */

#endif
