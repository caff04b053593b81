/* Answers as lines of text or JSON, or in the text that they belong to. */
#include "fill_internal.h"
#include "json.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* A JSON string; bytes that are not UTF-8 are replaced. False: out of memory. */
static bool put_json(FILE *f, const char *s, size_t n) {
    char *valid = sp_utf8_repair(s, n, &n);
    char *quoted = valid ? malloc(6 * n + 2) : NULL;
    if (quoted) fwrite(quoted, 1, sp_json_escape(quoted, valid, n), f);
    free(valid);
    bool ok = quoted != NULL;
    free(quoted);
    return ok;
}

/* "text" has the answers of all slots, a tab between two; "slots" each of them, where there are
 * several. */
static bool put_answer(FILE *f, const struct sp_fill_answer *a, size_t n_slot) {
    size_t n = 0;
    for (size_t k = 0; k < n_slot; k++) n += strlen(a->text[k]) + 1;
    char *all = malloc(n + 1), *at = all;
    for (size_t k = 0; all && k < n_slot; k++) at = stpcpy(stpcpy(at, k ? "\t" : ""), a->text[k]);
    fputs("{\"text\": ", f);
    bool ok = all && put_json(f, all, (size_t)(at - all));
    free(all);
    fprintf(f, ", \"p\": %.4g", a->p);
    for (size_t k = 0; ok && n_slot > 1 && k < n_slot; k++) {
        fputs(k ? ", " : ", \"slots\": [", f);
        ok = put_json(f, a->text[k], strlen(a->text[k]));
    }
    fputs(n_slot > 1 ? "]}" : "}", f);
    return ok;
}

static bool write_jsonl(FILE *f, const char *id, const struct sp_fill_text *t,
                        const struct sp_fill_answers *a) {
    fputs("{\"id\": ", f);
    bool ok = put_json(f, id, strlen(id));
    fputs(", \"query\": ", f);
    ok = ok && put_json(f, t->string, strlen(t->string));
    fputs(", \"answers\": [", f);
    for (size_t i = 0; ok && i < a->n; i++) {
        if (i) fputs(", ", f);
        ok = put_answer(f, &a->item[i], a->n_slot);
    }
    fputs("]}\n", f);
    return ok;
}

/* A column is one line without tabs, whatever a question or a file's name has. */
static void put_column(FILE *f, const char *s) {
    for (; *s; s++) fputc((uint8_t)*s < ' ' ? ' ' : *s, f);
    fputc('\t', f);
}

static void write_text(FILE *f, const struct sp_fill_layout *layout, const char *id,
                       const struct sp_fill_text *t, const struct sp_fill_answers *a) {
    for (size_t i = 0; i < a->n; i++) {
        if (layout->with_id) put_column(f, id);
        if (layout->with_query) put_column(f, t->string);
        fprintf(f, "%.4f", a->item[i].p);
        for (size_t k = 0; k < a->n_slot; k++) fprintf(f, "\t%s", a->item[i].text[k]);
        fputc('\n', f);
    }
}

/* Slots without an answer stay as they are. */
static void write_filled(FILE *f, const struct sp_fill_text *t, const struct sp_fill_answers *a) {
    size_t n = strlen(t->string);
    for (size_t k = 0; a->n > 0 && k <= a->n_slot; k++) {
        fwrite(t->string + t->piece[k][0], 1, t->piece[k][1] - t->piece[k][0], f);
        if (k < a->n_slot) fputs(a->item[0].text[k], f);
    }
    if (a->n == 0) fputs(t->string, f);
    if (t->string[n - 1] != '\n') fputc('\n', f);
}

enum sp_code sp_fill_write(FILE *f, const struct sp_fill_layout *layout, const char *id,
                           const struct sp_fill_text *t, const struct sp_fill_answers *a,
                           struct sp_error *err) {
    bool ok = true;
    switch (layout->format) {
    case SP_FILL_AS_TEXT: write_text(f, layout, id, t, a); break;
    case SP_FILL_AS_JSONL: ok = write_jsonl(f, id, t, a); break;
    case SP_FILL_AS_FILLED: write_filled(f, t, a); break;
    }
    return ok ? SP_OK : sp_error_memory(err, "answers");
}
