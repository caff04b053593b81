/* The avx2 path: the kernels of *.inc.h, compiled for the vectors of vec_avx2.h. */
#include "vec_avx2.h"

#define TABLE_NAME "avx2"
#define TABLE_INSTALL sp_kernels_avx2
#include "table.inc.h"
