/* One path: every kernel of *.inc.h for the vectors that are included before it, and its table.
 * TABLE_NAME is the path's name, TABLE_INSTALL the function that fills in the table. */
#include "../kernels.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "math.inc.h"
#include "rows.inc.h"
#include "conv.inc.h"
#include "scan_fwd.inc.h"
#include "scan_step.inc.h"
#include "scan_bwd.inc.h"
#include "rmsnorm.inc.h"
#include "pointwise.inc.h"

#define MATVEC(name) name##_f32
#define MATVEC_WEIGHT float
#define MATVEC_LOAD vec_load
#define MATVEC_FIRST(p, n) vec_load_mask(p, vec_first(n))
#include "matvec.inc.h"

#define MATVEC(name) name##_bf16
#define MATVEC_WEIGHT uint16_t
#define MATVEC_LOAD vec_load_bf16
#define MATVEC_FIRST vec_load_bf16_first
#include "matvec.inc.h"

void TABLE_INSTALL(struct sp_kernels *k) {
    k->name = TABLE_NAME;
    k->conv_fwd = conv_fwd;
    k->conv_bwd = conv_bwd;
    k->scan_fwd = scan_fwd;
    k->scan_step = scan_step;
    k->scan_bwd = scan_bwd;
    k->rmsnorm_fwd = rmsnorm_fwd;
    k->rmsnorm_bwd = rmsnorm_bwd;
    k->xent = xent;
    k->matvec_f32 = matvec_f32;
    k->matvec_bf16 = matvec_bf16;
    k->adamw = adamw;
    k->vexp = vexp;
    k->to_bf16 = to_bf16;
    k->sum_squares = sum_squares;
}
