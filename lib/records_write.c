/* Records as lines: JSONL, TSV, CSV, and a table for reading. */
#include "json.h"
#include "records_write.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Columns of a table's field; longer ones push the rest of their line to the right. */
#define TABLE_COLUMNS_MAX 44

const char *sp_records_format_name(enum sp_records_format format) {
    static const char *const name[SP_RECORDS_FORMAT_COUNT] = {"jsonl", "tsv",  "csv",
                                                              "table", "html", "ansi"};
    return name[format];
}

/* ---- text, piece by piece ---- */

/* The next character of text as it is written: valid UTF-8, white space and control characters
 * (a terminal would obey them) as a blank, runs of it as one, none at the ends. Returns its length
 * in out (SP_UTF8_MAX bytes), 0 at the end. */
static size_t next_clean(char *out, const char *text, size_t n, size_t *i, bool *any) {
    bool blank = false;
    while (*i < n) {
        size_t len;
        int32_t c = sp_utf8_decode(text + *i, n - *i, &len);
        utf8proc_category_t k = c < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(c);
        bool space = k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_ZS ||
                     k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
        if (!space && blank && *any) break;
        blank = space;
        if (!space) {
            *any = true;
            *i += len;
            return sp_utf8_encode(out, c < 0 ? SP_UTF8_REPLACEMENT : (uint32_t)c);
        }
        *i += len;
    }
    if (*i == n) return 0;
    out[0] = ' ';
    return 1;
}

size_t sp_text_clean(char *out, const char *text, size_t n) {
    size_t i = 0, len = 0, k;
    bool any = false;
    while ((k = next_clean(out + len, text, n, &i, &any)) > 0) len += k;
    return len;
}

static void put_json_char(FILE *out, const char *c, size_t n) {
    char quoted[6 * SP_UTF8_MAX + 2];
    size_t len = sp_json_escape(quoted, c, n);
    fwrite(quoted + 1, 1, len - 2, out);
}

void sp_text_put_json(FILE *out, const char *s, size_t n) {
    size_t len;
    char c[SP_UTF8_MAX];
    putc('"', out);
    for (size_t i = 0; i < n; i += len) {
        int32_t cp = sp_utf8_decode(s + i, n - i, &len);
        put_json_char(out, c, sp_utf8_encode(c, cp < 0 ? SP_UTF8_REPLACEMENT : (uint32_t)cp));
    }
    putc('"', out);
}

static void put_json_clean(FILE *out, const char *s, size_t n) {
    char c[SP_UTF8_MAX];
    size_t i = 0, k;
    bool any = false;
    putc('"', out);
    while ((k = next_clean(c, s, n, &i, &any)) > 0) put_json_char(out, c, k);
    putc('"', out);
}

void sp_text_put_cell(FILE *out, enum sp_records_format format, const char *s, size_t n) {
    char c[SP_UTF8_MAX];
    size_t i = 0, k;
    bool any = false, quoted = false;
    for (size_t j = 0; j < n && format == SP_RECORDS_CSV; j++)
        quoted = quoted || s[j] == ',' || s[j] == '"';
    if (quoted) putc('"', out);
    while ((k = next_clean(c, s, n, &i, &any)) > 0) {
        if (quoted && c[0] == '"') putc('"', out);
        fwrite(c, 1, k, out);
    }
    if (quoted) putc('"', out);
}

static char separator(enum sp_records_format format) {
    return format == SP_RECORDS_CSV ? ',' : '\t';
}

/* "2014", "present", or the word for none. */
static const char *year_text(char out[16], int year, const char *none) {
    if (year == 0) return none;
    if (year == SP_YEAR_PRESENT) return "present";
    snprintf(out, 16, "%d", year);
    return out;
}

/* ---- JSONL ---- */

static void put_json_year(FILE *out, const char *name, int year) {
    char text[16];
    const char *quote = year == SP_YEAR_PRESENT ? "\"" : "";
    fprintf(out, ", \"%s\": %s%s%s", name, quote, year_text(text, year, "null"), quote);
}

static void put_json_field(FILE *out, const struct sp_document *doc, const struct sp_education *e,
                           enum sp_field field) {
    const struct sp_span *s = &e->field[field];
    fprintf(out, "%s\"%s\": ", field ? ", " : "{", sp_field_name(field));
    if (!s->there) {
        fputs("null", out);
        return;
    }
    fputs("{\"text\": ", out);
    put_json_clean(out, doc->text + s->start, (size_t)(s->end - s->start));
    fprintf(out, ", \"span\": [%llu, %llu], \"p\": %.4f",
            (unsigned long long)(doc->text_start + s->start),
            (unsigned long long)(doc->text_start + s->end), (double)s->p);
    if (field == SP_YEAR) {
        put_json_year(out, "start", e->start_year);
        put_json_year(out, "end", e->end_year);
    }
    putc('}', out);
}

static void write_jsonl(FILE *out, const struct sp_document *doc, const struct sp_records *r) {
    fputs("{\"id\": ", out);
    sp_text_put_json(out, doc->id, strlen(doc->id));
    fputs(", \"education\": [", out);
    for (size_t i = 0; i < r->n; i++) {
        if (i) fputs(", ", out);
        for (int f = 0; f < SP_FIELD_COUNT; f++)
            put_json_field(out, doc, &r->item[i], (enum sp_field)f);
        fprintf(out, ", \"p\": %.4f}", (double)r->item[i].p);
    }
    fputs("]}\n", out);
}

/* ---- TSV, CSV ---- */

static void write_cells(FILE *out, enum sp_records_format format, const struct sp_document *doc,
                        const struct sp_education *e) {
    char year[16];
    char tab = separator(format);
    sp_text_put_cell(out, format, doc->id, strlen(doc->id));
    for (int f = 0; f < SP_FIELD_COUNT; f++) {
        const struct sp_span *s = &e->field[f];
        putc(tab, out);
        if (s->there)
            sp_text_put_cell(out, format, doc->text + s->start, (size_t)(s->end - s->start));
    }
    fprintf(out, "%c%s", tab, year_text(year, e->start_year, ""));
    fprintf(out, "%c%s", tab, year_text(year, e->end_year, ""));
    for (int f = 0; f < SP_FIELD_COUNT; f++) {
        putc(tab, out);
        if (e->field[f].there) fprintf(out, "%.4f", (double)e->field[f].p);
    }
    fprintf(out, "%c%.4f\n", tab, (double)e->p);
}

void sp_text_put_header(FILE *out, enum sp_records_format format, const char *const *name) {
    for (int i = 0; name[i]; i++) {
        if (i) putc(separator(format), out);
        fputs(name[i], out);
    }
    putc('\n', out);
}

/* ---- the table ---- */

static size_t columns_of(const char *s, size_t n) {
    size_t columns = 0, len;
    for (size_t i = 0; i < n; i += len) {
        int32_t c = sp_utf8_decode(s + i, n - i, &len);
        int width = c < 0 ? 1 : utf8proc_charwidth(c);
        columns += width > 0 ? (size_t)width : 0;
    }
    return columns;
}

/* What the table shows of a field: the year as numbers where it has any. Owned by the caller; NULL
 * when out of memory. */
static char *table_text(const struct sp_document *doc, const struct sp_education *e,
                        enum sp_field field) {
    const struct sp_span *s = &e->field[field];
    size_t n = s->there ? (size_t)(s->end - s->start) : 0;
    char *text = malloc(3 * n + 40), start[16], end[16];
    if (!text) return NULL;
    if (field == SP_YEAR && e->end_year && e->start_year) {
        snprintf(text, 40, "%s-%s", year_text(start, e->start_year, ""),
                 year_text(end, e->end_year, ""));
    } else if (field == SP_YEAR && e->end_year) {
        snprintf(text, 40, "%s", year_text(end, e->end_year, ""));
    } else {
        size_t k = s->there ? sp_text_clean(text, doc->text + s->start, n) : 0;
        text[k] = 0;
    }
    return text;
}

/* In this order, behind p: what is short first, so that columns line up. */
static const enum sp_field table_order[SP_FIELD_COUNT] = {SP_YEAR, SP_DEGREE, SP_INSTITUTION};

static enum sp_code write_table(FILE *out, const struct sp_document *doc,
                                const struct sp_records *r, struct sp_error *err) {
    size_t width[SP_FIELD_COUNT] = {0};
    sp_text_put_cell(out, SP_RECORDS_TABLE, doc->id, strlen(doc->id));
    fputs(r->n ? ":\n" : ": no records\n", out);
    /* Twice over the records: the first time to measure. */
    for (size_t i = 0; i < 2 * r->n; i++) {
        for (int k = 0; k < SP_FIELD_COUNT; k++) {
            char *text = table_text(doc, &r->item[i % r->n], table_order[k]);
            if (!text) return sp_error_memory(err, "a table");
            const char *shown = *text ? text : "-";
            size_t columns = columns_of(shown, strlen(shown));
            if (i < r->n && columns > width[k])
                width[k] = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX;
            if (i >= r->n) {
                if (k == 0) fprintf(out, "  %.2f", (double)r->item[i - r->n].p);
                fprintf(out, "  %s", shown);
                for (size_t c = columns; c < width[k] && k + 1 < SP_FIELD_COUNT; c++)
                    putc(' ', out);
            }
            free(text);
        }
        if (i >= r->n) putc('\n', out);
    }
    return SP_OK;
}

/* ---- all of them ---- */

void sp_records_begin(FILE *out, enum sp_records_format format, bool header) {
    static const char *const name[] = {"id",  "institution",   "degree",   "year",   "start",
                                       "end", "p_institution", "p_degree", "p_year", "p",
                                       NULL};
    if (header && (format == SP_RECORDS_TSV || format == SP_RECORDS_CSV))
        sp_text_put_header(out, format, name);
    if (format == SP_RECORDS_HTML) sp_records_page_begin(out);
}

enum sp_code sp_records_write(FILE *out, enum sp_records_format format,
                              const struct sp_document *doc, const struct sp_records *records,
                              struct sp_error *err) {
    switch (format) {
    case SP_RECORDS_JSONL: write_jsonl(out, doc, records); break;
    case SP_RECORDS_TABLE: return write_table(out, doc, records, err);
    case SP_RECORDS_HTML:
    case SP_RECORDS_ANSI: return sp_records_page_write(out, format, doc, records, err);
    case SP_RECORDS_TSV:
    case SP_RECORDS_CSV:
        for (size_t i = 0; i < records->n; i++) write_cells(out, format, doc, &records->item[i]);
        break;
    case SP_RECORDS_FORMAT_COUNT: break;
    }
    return SP_OK;
}

void sp_records_end(FILE *out, enum sp_records_format format) {
    if (format == SP_RECORDS_HTML) sp_records_page_end(out);
}

/* ---- classes ---- */

void sp_classes_begin(FILE *out, enum sp_records_format format, bool header) {
    static const char *const name[] = {"id", "label", "p", NULL};
    if (header && (format == SP_RECORDS_TSV || format == SP_RECORDS_CSV))
        sp_text_put_header(out, format, name);
}

void sp_classes_write(FILE *out, enum sp_records_format format, const char *id,
                      const struct sp_class *item, size_t n) {
    if (format == SP_RECORDS_JSONL) {
        fputs("{\"id\": ", out);
        sp_text_put_json(out, id, strlen(id));
        fputs(", \"class\": [", out);
    }
    for (size_t i = 0; i < n; i++) {
        if (format == SP_RECORDS_JSONL) {
            fputs(i ? ", {\"label\": " : "{\"label\": ", out);
            sp_text_put_json(out, item[i].label, strlen(item[i].label));
            fprintf(out, ", \"p\": %.4f}", (double)item[i].p);
        } else {
            sp_text_put_cell(out, format, id, strlen(id));
            putc(separator(format), out);
            sp_text_put_cell(out, format, item[i].label, strlen(item[i].label));
            fprintf(out, "%c%.4f\n", separator(format), (double)item[i].p);
        }
    }
    if (format == SP_RECORDS_JSONL) fputs("]}\n", out);
}
