/* Fuzz target: JSON. What parses is walked node by node; every string, written again, is the same.
 */
#include "../../lib/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_string(const struct sp_json *j, sp_json_node v) {
    size_t n_raw = 0;
    struct sp_error err;
    struct sp_json *again;
    if (!sp_json_raw(j, v, &n_raw)) return;
    char *s = malloc(n_raw + 1), *out = malloc(6 * n_raw + 2), *back = malloc(6 * n_raw + 2);
    if (!s || !out || !back) abort();
    size_t n = (size_t)sp_json_string(j, v, s), n_out = sp_json_escape(out, s, n);
    if (n > n_raw || sp_json_parse(&again, out, n_out, "again", &err)) abort();
    if (sp_json_string(again, 0, back) != (int64_t)n || memcmp(s, back, n) != 0) abort();
    s[n] = 0;
    if (strlen(s) == n && !sp_json_equal(j, v, s)) abort();
    sp_json_free(again);
    free(s);
    free(out);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct sp_json *j;
    struct sp_error err;
    if (sp_json_parse(&j, (const char *)data, n, "fuzz", &err)) return 0;
    sp_json_node stack[70] = {0}; /* deeper than any that is accepted */
    size_t depth = 1;
    while (depth > 0) {
        sp_json_node v = stack[depth - 1];
        if (v < 0) {
            depth--;
            continue;
        }
        stack[depth - 1] = depth == 1 ? -1 : sp_json_next(j, v);
        check_string(j, v);
        check_string(j, sp_json_key(j, v));
        sp_json_int(j, v, 0);
        sp_json_number(j, v, 0);
        if ((sp_json_first(j, v) >= 0) != (sp_json_count(j, v) > 0)) abort();
        stack[depth++] = sp_json_first(j, v);
    }
    sp_json_free(j);
    return 0;
}
