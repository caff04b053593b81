/* Files as documents: whole, by lines, or as lines of JSON, into a token stream. Before a read
 * would block, everything that is done is written. Borrows all that its struct points to. */
#ifndef SP_TOKEN_INPUT_H
#define SP_TOKEN_INPUT_H

#include "token.h"
#include "token_stream.h"

enum sp_token_mode { SP_TOKEN_WHOLE, SP_TOKEN_LINES, SP_TOKEN_JSONL };

struct sp_token_input {
    enum sp_token_mode mode;
    bool code_points;      /* what spans of JSONL count; else bytes */
    const char *id;        /* of documents: %f is the file, %n the line; NULL: as it comes */
    size_t line_bytes_max; /* of a line of JSONL */
    struct sp_token_stream *stream;
    struct sp_writer *writer;
    /* What a person should know: a document that failed, invalid text. One line without its end. */
    void (*report)(void *ctx, const char *message);
    void *ctx;
    uint64_t n_byte; /* read so far */
    struct sp_buffer line;
    size_t n_line;
    bool in_doc;
};

/* Reads fd to its end; name is for ids and messages. open: the document stays open (whole files).
 * A document that fails is reported and does not end the run. */
enum sp_code sp_token_input_file(struct sp_token_input *in, int fd, const char *name, bool open,
                                 struct sp_error *err);
void sp_token_input_clear(struct sp_token_input *in);

#endif
