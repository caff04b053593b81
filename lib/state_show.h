/* What `state` says of states, as text or JSON. Writes to the FILE it is given, whose errors are
 * the caller's to check. Owns nothing. */
#ifndef SP_STATE_SHOW_H
#define SP_STATE_SHOW_H

#include "state_near.h"
#include "state_ops.h"
#include "state_report.h"
#include <stdio.h>

void sp_state_show_info(FILE *out, const char *path, const struct sp_state *s, bool jsonl);
void sp_state_show_diff(FILE *out, const struct sp_state_diff *d, const struct sp_state *a,
                        const struct sp_state *b, bool jsonl);
/* A file that is in order, and (JSON only) one that is not. */
void sp_state_show_fine(FILE *out, const char *path, const struct sp_state *s, bool jsonl);
void sp_state_show_bad(FILE *out, const char *path, const char *message);
/* The hash of all weights of the model in dir. */
void sp_state_show_weights(FILE *out, const char *dir, const struct sp_hash *hash, bool jsonl);
/* One line for people: what rounding to dtype has cost. */
void sp_state_show_loss(FILE *out, const char *part, enum sp_dtype dtype,
                        const struct sp_state_loss *loss);
/* TSV has distance, tokens and name, the name as it is. */
void sp_state_show_near(FILE *out, const struct sp_near *near, bool jsonl);

#endif
