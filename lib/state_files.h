/* States into files that a pattern names. Owns what struct sp_state_names has taken. */
#ifndef SP_STATE_FILES_H
#define SP_STATE_FILES_H

#include "state.h"
#include "taken.h"

/* Where they go: a pattern as sp_layers_file_name takes it, or "-" for standard output; input: a
 * file that may not be replaced, or NULL; taken: files written so far, to be cleared in the end. */
struct sp_state_names {
    const char *pattern, *input;
    struct sp_taken taken;
};
/* Writes s, number (from 0) of several if many says so: SP_E_USAGE when its name would be that of
 * all others, SP_E_DATA when it is that of one. */
enum sp_code sp_state_put_named(const struct sp_state *s, struct sp_state_names *names,
                                const char *id, size_t n_id, uint64_t number, bool many,
                                struct sp_error *err);

/* Its layers first..last alone; %i stands for them, as in 0-11. */
enum sp_code sp_state_put_layers(const struct sp_state *s, int64_t first, int64_t last,
                                 struct sp_state_names *names, uint64_t number, bool many,
                                 struct sp_error *err);

/* The states of a stream's documents (mamba-layer --emit-state), each in a file named by the
 * document's id and number. A document that has none is passed over. */
struct sp_state_cut_result {
    uint64_t n_state, n_error; /* n_error: documents that failed upstream */
    int upstream_exit;         /* exit status that a fatal ERR asks for, else 0 */
};
enum sp_code sp_state_cut_files(const char *stream, struct sp_state_names *names,
                                struct sp_state_cut_result *result, struct sp_error *err);

#endif
