#include "../kernels.h"

void sp_kernels_avx512(struct sp_kernels *k) {
    k->name = "avx512";
}
