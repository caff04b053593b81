/* Windows of reversed layers. */
#include "net_reverse.h"

#include <stdlib.h>

static enum sp_code room_for(struct sp_windows *w, int64_t n, int64_t n_tok, struct sp_error *err) {
    if (n <= w->n_max && n_tok <= w->n_tok_max) return SP_OK;
    sp_windows_clear(w);
    w->cu_seqlens = malloc((size_t)(n + 1) * sizeof *w->cu_seqlens);
    w->order = malloc((size_t)n_tok * sizeof *w->order);
    if (!w->cu_seqlens || !w->order) {
        sp_windows_clear(w);
        return sp_error_memory(err, "windows");
    }
    w->n_max = n;
    w->n_tok_max = n_tok;
    return SP_OK;
}

enum sp_code sp_windows_make(struct sp_windows *w, int64_t window, const int64_t *cu_seqlens,
                             int64_t n_seq, struct sp_error *err) {
    const int64_t n_tok = cu_seqlens[n_seq];
    enum sp_code code = room_for(w, n_tok / window + n_seq, n_tok, err);
    if (code) return code;
    w->n = 0;
    w->cu_seqlens[0] = 0;
    for (int64_t s = 0; s < n_seq; s++) {
        for (int64_t at = cu_seqlens[s], end; at < cu_seqlens[s + 1]; at = end) {
            end = at + window < cu_seqlens[s + 1] ? at + window : cu_seqlens[s + 1];
            for (int64_t i = at; i < end; i++) w->order[i] = (uint32_t)(at + end - 1 - i);
            w->cu_seqlens[++w->n] = end;
        }
    }
    return SP_OK;
}

void sp_windows_clear(struct sp_windows *w) {
    free(w->cu_seqlens);
    free(w->order);
    *w = (struct sp_windows){0};
}
