/* Choices. */
#include "choices.h"

#include <stdlib.h>
#include <string.h>

/* ---- gathering ----------------------------------------------------------------------------- */

void sp_choices_forget(struct sp_choices *c) {
    for (size_t i = 0; i < c->n; i++) free(c->item[i].text);
    c->n = 0;
}

void sp_choices_clear(struct sp_choices *c) {
    sp_choices_forget(c);
    free(c->item);
    *c = (struct sp_choices){0};
}

enum sp_code sp_choices_add(struct sp_choices *c, const struct sp_document *text,
                            const struct sp_record *docend, struct sp_error *err) {
    struct sp_choice item = {.n_text = text->n_text};
    if (!sp_record_get_f64(docend, "loglik", &item.loglik) ||
        !sp_record_get_u64(docend, "n_scored", &item.n_token) ||
        !sp_record_get_bool(docend, "greedy", &item.greedy))
        return sp_error_set(err, SP_E_DATA, "a choice without its score");
    sp_record_get_f64(docend, "per_token", &item.per_token);
    sp_record_get_f64(docend, "per_byte", &item.per_byte);
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 8;
        struct sp_choice *grown = realloc(c->item, cap * sizeof *grown);
        if (!grown) return sp_error_memory(err, "choices");
        c->item = grown;
        c->cap = cap;
    }
    item.text = malloc(item.n_text + 1);
    if (!item.text) return sp_error_memory(err, "choices");
    memcpy(item.text, text->text, item.n_text);
    c->item[c->n++] = item;
    return SP_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

static double by_loglik(const struct sp_choice *c) {
    return c->loglik;
}
static double by_token(const struct sp_choice *c) {
    return c->per_token;
}
static double by_byte(const struct sp_choice *c) {
    return c->per_byte;
}

/* The first of the best. */
static size_t best(const struct sp_choices *c, double by(const struct sp_choice *)) {
    size_t at = 0;
    for (size_t i = 1; i < c->n; i++)
        if (by(&c->item[i]) > by(&c->item[at])) at = i;
    return at;
}

static void write_jsonl(FILE *out, const char *id, const struct sp_choices *c) {
    fputs("{\"id\": ", out);
    sp_text_put_json(out, id, strlen(id));
    fputs(", \"choices\": [", out);
    for (size_t i = 0; i < c->n; i++) {
        const struct sp_choice *item = &c->item[i];
        fputs(i ? ", {\"text\": " : "{\"text\": ", out);
        sp_text_put_json(out, item->text, item->n_text);
        fprintf(out,
                ", \"loglik\": %.9g, \"per_token\": %.9g, \"per_byte\": %.9g, \"tokens\": %llu, "
                "\"greedy\": %s}",
                item->loglik, item->per_token, item->per_byte, (unsigned long long)item->n_token,
                item->greedy ? "true" : "false");
    }
    fprintf(out, "], \"best\": %zu, \"best_per_token\": %zu, \"best_per_byte\": %zu}\n",
            best(c, by_loglik), best(c, by_token), best(c, by_byte));
}

static void write_cells(FILE *out, enum sp_records_format format, const char *id, size_t index,
                        const struct sp_choice *item) {
    char tab = format == SP_RECORDS_CSV ? ',' : '\t';
    sp_text_put_cell(out, format, id, strlen(id));
    fprintf(out, "%c%zu%c", tab, index, tab);
    sp_text_put_cell(out, format, item->text, item->n_text);
    fprintf(out, "%c%.9g%c%.9g%c%.9g%c%llu%c%d\n", tab, item->loglik, tab, item->per_token, tab,
            item->per_byte, tab, (unsigned long long)item->n_token, tab, item->greedy);
}

static void write_table(FILE *out, const char *id, const struct sp_choices *c) {
    size_t top = best(c, by_loglik);
    sp_text_put_cell(out, SP_RECORDS_TABLE, id, strlen(id));
    fputs(":\n", out);
    for (size_t i = 0; i < c->n; i++) {
        const struct sp_choice *item = &c->item[i];
        fprintf(out, "%s %10.3f  %8.3f a token  %7.3f a byte  %s", i == top ? "*" : " ",
                item->loglik, item->per_token, item->per_byte,
                item->greedy ? "greedy  " : "        ");
        sp_text_put_cell(out, SP_RECORDS_TABLE, item->text, item->n_text);
        putc('\n', out);
    }
}

void sp_choices_begin(FILE *out, enum sp_records_format format, bool header) {
    static const char *const name[] = {"id",       "choice", "text",   "loglik", "per_token",
                                       "per_byte", "tokens", "greedy", NULL};
    if (header && (format == SP_RECORDS_TSV || format == SP_RECORDS_CSV))
        sp_text_put_header(out, format, name);
}

void sp_choices_write(FILE *out, enum sp_records_format format, const char *id,
                      const struct sp_choices *c) {
    if (format == SP_RECORDS_JSONL) write_jsonl(out, id, c);
    if (format == SP_RECORDS_TABLE) write_table(out, id, c);
    for (size_t i = 0; i < c->n && (format == SP_RECORDS_TSV || format == SP_RECORDS_CSV); i++)
        write_cells(out, format, id, i, &c->item[i]);
}
