/* The avx512 path: the kernels of *.inc.h, compiled for the vectors of vec_avx512.h. */
#include "vec_avx512.h"

#define TABLE_NAME "avx512"
#define TABLE_INSTALL sp_kernels_avx512
#include "table.inc.h"
