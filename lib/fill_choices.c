/* Choices for a slot, as they are written on a command line. */
#include "fill_internal.h"

#include <stdlib.h>
#include <string.h>

void sp_fill_choices_clear(struct sp_fill_choices *c) {
    for (size_t i = 0; i < c->n; i++) free(c->item[i]);
    free(c->item);
    *c = (struct sp_fill_choices){0};
}

/* The next choice, unescaped into out; *text is behind its comma, or NULL at the end. */
static size_t next_choice(const char **text, char *out) {
    size_t n = 0;
    const char *at = *text;
    for (; *at && *at != ','; at++) {
        if (*at == '\\' && (at[1] == ',' || at[1] == '\\')) at++;
        out[n++] = *at;
    }
    *text = *at ? at + 1 : NULL;
    return n;
}

enum sp_code sp_fill_choices_parse(struct sp_fill_choices *c, const char *text,
                                   struct sp_error *err) {
    size_t n = 1, len = strlen(text);
    const char *whole = text;
    for (const char *at = text; (at = strchr(at, ',')); at++) n++;
    *c = (struct sp_fill_choices){.item = calloc(n, sizeof *c->item)};
    char *one = malloc(len + 1);
    enum sp_code code = c->item && one ? SP_OK : sp_error_memory(err, "choices");
    while (!code && text) {
        const char *start = one;
        n = sp_fill_trim(&start, next_choice(&text, one));
        if (n == 0)
            code = sp_error_set(err, SP_E_USAGE,
                                "'%.200s': a choice without text (write \\, for a comma in one)",
                                whole);
        else if (!(c->item[c->n++] = strndup(start, n)))
            code = sp_error_memory(err, "choices");
    }
    free(one);
    if (code) sp_fill_choices_clear(c);
    return code;
}
