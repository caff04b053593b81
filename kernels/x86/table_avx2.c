#include "../kernels.h"

void sp_kernels_avx2(struct sp_kernels *k) {
    k->name = "avx2";
}
