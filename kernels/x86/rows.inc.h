/* Matrices with a row per channel and few columns (states, taps), held as one vector per column
 * with the channels in the lanes. At most VEC_LANES rows; `columns` of them have room for d rounded
 * up to VEC_LANES. */

static void rows_load(vec *columns, const float *rows, int64_t n_row, int64_t d) {
    for (int64_t n = 0; n < d; n += VEC_LANES) {
        vec r[VEC_LANES];
        vec_mask mask = vec_first(d - n);
        for (int64_t i = 0; i < VEC_LANES; i++)
            r[i] = i < n_row ? vec_load_mask(rows + i * d + n, mask) : vec_zero();
        vec_transpose(r);
        for (int64_t i = 0; i < VEC_LANES; i++) columns[n + i] = r[i];
    }
}

static void rows_store(float *rows, const vec *columns, int64_t n_row, int64_t d) {
    for (int64_t n = 0; n < d; n += VEC_LANES) {
        vec r[VEC_LANES];
        vec_mask mask = vec_first(d - n);
        for (int64_t i = 0; i < VEC_LANES; i++) r[i] = columns[n + i];
        vec_transpose(r);
        for (int64_t i = 0; i < n_row && i < VEC_LANES; i++)
            vec_store_mask(rows + i * d + n, mask, r[i]);
    }
}

static void rows_add(float *rows, const vec *columns, int64_t n_row, int64_t d) {
    for (int64_t n = 0; n < d; n += VEC_LANES) {
        vec r[VEC_LANES];
        vec_mask mask = vec_first(d - n);
        for (int64_t i = 0; i < VEC_LANES; i++) r[i] = columns[n + i];
        vec_transpose(r);
        for (int64_t i = 0; i < n_row && i < VEC_LANES; i++) {
            float *row = rows + i * d + n;
            vec_store_mask(row, mask, vec_add(vec_load_mask(row, mask), r[i]));
        }
    }
}
