/* The avx512 path: the kernels of *.inc.h, compiled for the vectors of vec_avx512.h. */
#include "../kernels.h"

#include <stddef.h>

#include "vec_avx512.h"
#include "math.inc.h"
#include "scan_fwd.inc.h"
#include "scan_step.inc.h"

void sp_kernels_avx512(struct sp_kernels *k) {
    k->name = "avx512";
    k->scan_fwd = scan_fwd;
    k->scan_step = scan_step;
}
