/* Pictures of a state: how large each channel of each layer is. Writes to the FILE it is given,
 * whose errors are the caller's to check. */
#ifndef SP_STATE_PLOT_H
#define SP_STATE_PLOT_H

#include "state.h"
#include <stdio.h>

/* One row per layer, one column per channel (SVG: at most 256 columns, each showing the largest of
 * its channels): the root mean square of the channel's d_state numbers (ssm), and of its d_conv - 1
 * inputs (conv), each on a logarithmic scale of at most four decades below the largest. name is
 * what the title says. SP_E_DEVICE without memory. */
enum sp_code sp_state_plot_svg(const struct sp_state *s, const char *name, FILE *out,
                               struct sp_error *err);
/* Grey values, 8 rows of pixels per layer, ssm above conv; black is zero or below the scale. */
enum sp_code sp_state_plot_pgm(const struct sp_state *s, FILE *out, struct sp_error *err);

#endif
