/* Records shown in their documents: an HTML page, or colours for a terminal. */
#include "records_write.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* A span to mark; where two records share one, it is there once. */
struct mark {
    uint64_t start, end;
    enum sp_field field;
    size_t record; /* from 1 */
    float p;
};

static int by_place(const void *a, const void *b) {
    const struct mark *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->record < y->record ? -1 : x->record > y->record;
}

/* Sorted, none inside another; NULL when out of memory. */
static struct mark *marks_of(const struct sp_records *r, size_t *n) {
    *n = 0;
    struct mark *mark = calloc(r->n + 1, SP_FIELD_COUNT * sizeof *mark);
    if (!mark) return NULL;
    for (size_t i = 0; i < r->n; i++)
        for (int f = 0; f < SP_FIELD_COUNT; f++) {
            const struct sp_span *s = &r->item[i].field[f];
            if (s->there)
                mark[(*n)++] = (struct mark){.start = s->start,
                                             .end = s->end,
                                             .field = (enum sp_field)f,
                                             .record = i + 1,
                                             .p = s->p};
        }
    qsort(mark, *n, sizeof *mark, by_place);
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (kept == 0 || mark[i].start >= mark[kept - 1].end) mark[kept++] = mark[i];
    *n = kept;
    return mark;
}

void sp_text_put_page(FILE *out, enum sp_records_format format, const char *s, size_t n) {
    char bytes[SP_UTF8_MAX];
    size_t len;
    bool html = format == SP_RECORDS_HTML;
    for (size_t i = 0; i < n; i += len) {
        int32_t c = sp_utf8_decode(s + i, n - i, &len);
        if (c == '\r' && i + 1 < n && s[i + 1] == '\n') continue;
        if (c < 0 || (c >= 0x7f && c < 0xa0)) c = SP_UTF8_REPLACEMENT;
        if (c < ' ' && c != '\n' && c != '\t') c = 0x2400 + c;
        if (html && c == '&')
            fputs("&amp;", out);
        else if (html && c == '<')
            fputs("&lt;", out);
        else if (html && c == '>')
            fputs("&gt;", out);
        else if (html && c == '"')
            fputs("&quot;", out);
        else
            fwrite(bytes, 1, sp_utf8_encode(bytes, (uint32_t)c), out);
    }
}

static void open_mark(FILE *out, enum sp_records_format format, const struct mark *m) {
    /* Bold blue, green, yellow: readable on dark and on light. */
    static const char *const colour[SP_FIELD_COUNT] = {"1;34", "1;32", "1;33"};
    if (format == SP_RECORDS_ANSI)
        fprintf(out, "\033[%sm", colour[m->field]);
    else
        fprintf(out, "<mark class=\"%s\" title=\"%s of record %zu, p %.3f\">",
                sp_field_name(m->field), sp_field_name(m->field), m->record, (double)m->p);
}

static void close_mark(FILE *out, enum sp_records_format format) {
    fputs(format == SP_RECORDS_ANSI ? "\033[0m" : "</mark>", out);
}

void sp_records_page_begin(FILE *out) {
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<title>Education records</title>\n<style>\n"
          "body { font-family: sans-serif; margin: 2em; }\n"
          "pre { white-space: pre-wrap; border-left: 3px solid #ccc; padding-left: 1em; }\n"
          "mark { border-radius: 3px; padding: 0 2px; color: inherit; }\n"
          ".institution { background: #cfe3ff; }\n.degree { background: #cdf2cd; }\n"
          ".year { background: #ffe9a8; }\n"
          "</style>\n</head>\n<body>\n",
          out);
}

void sp_records_page_end(FILE *out) {
    fputs("</body>\n</html>\n", out);
}

enum sp_code sp_records_page_write(FILE *out, enum sp_records_format format,
                                   const struct sp_document *doc, const struct sp_records *records,
                                   struct sp_error *err) {
    bool html = format == SP_RECORDS_HTML;
    size_t n_mark;
    struct mark *mark = marks_of(records, &n_mark);
    if (!mark) return sp_error_set(err, SP_E_DEVICE, "out of memory for %zu records", records->n);
    fputs(html ? "<section>\n<h2>" : "==> ", out);
    sp_text_put_page(out, format, doc->id, strlen(doc->id));
    fputs(html ? "</h2>\n<pre>\n" : " <==\n", out);
    const char *text = doc->text ? doc->text : ""; /* NULL where no TEXT came */
    size_t at = 0;
    for (size_t i = 0; i < n_mark; i++) {
        sp_text_put_page(out, format, text + at, (size_t)mark[i].start - at);
        open_mark(out, format, &mark[i]);
        sp_text_put_page(out, format, text + mark[i].start, (size_t)(mark[i].end - mark[i].start));
        close_mark(out, format);
        at = (size_t)mark[i].end;
    }
    sp_text_put_page(out, format, text + at, doc->n_text - at);
    if (doc->n_text && text[doc->n_text - 1] != '\n') putc('\n', out);
    if (html) fputs("</pre>\n</section>\n", out);
    free(mark);
    return SP_OK;
}
