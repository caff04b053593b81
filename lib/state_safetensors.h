/* States as safetensors files, for other programs and for Python. */
#ifndef SP_STATE_SAFETENSORS_H
#define SP_STATE_SAFETENSORS_H

#include "state.h"
#include <stdio.h>

/* Tensors layers.N.conv (d_conv - 1, d_inner) and layers.N.ssm (d_inner, d_state) of the state's
 * dtype, last.hidden f32 (d_model) where it is known; what else a state says is in __metadata__, as
 * strings (man 5 statepipe-state). */
enum sp_code sp_state_export(const struct sp_state *s, FILE *file, struct sp_error *err);
/* The way back: an exported file gives the same state, bit by bit. SP_E_DATA for anything else, and
 * when the file is not as it was written; edited: then take it all the same, as a state of origin
 * tuned. */
enum sp_code sp_state_import(struct sp_state **s, const char *path, bool edited,
                             struct sp_error *err);

#endif
