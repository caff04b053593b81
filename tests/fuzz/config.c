/* Fuzz target: config.json. What parses is written, and must parse to the same again. */
#include "../../lib/model.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct sp_config first, second;
    struct sp_error err;
    char *text = NULL;
    size_t n_text = 0;
    if (sp_config_parse(&first, (const char *)data, n, "fuzz", &err)) return 0;
    FILE *f = open_memstream(&text, &n_text);
    if (!f) return 0;
    enum sp_code code = sp_config_write(f, &first, SP_F32, &err);
    fclose(f);
    if (code || sp_config_parse(&second, text, n_text, "written", &err) ||
        second.d_inner != first.d_inner || second.norm_eps != first.norm_eps ||
        strcmp(second.fill_template, first.fill_template) != 0 || second.n_head != first.n_head ||
        memcmp(first.head, second.head, sizeof first.head) != 0)
        abort();
    free(text);
    return 0;
}
