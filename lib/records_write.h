/* Records as text: lines for programs, a table or colours for people. Owns nothing; writes to the
 * file that it is given, whose error flag the caller looks at. */
#ifndef SP_RECORDS_WRITE_H
#define SP_RECORDS_WRITE_H

#include "task.h"
#include <stdio.h>

enum sp_records_format {
    SP_RECORDS_JSONL = 0, /* one line a document */
    SP_RECORDS_TSV,       /* one line a record */
    SP_RECORDS_CSV,       /* the same, quoted as RFC 4180 has it */
    SP_RECORDS_TABLE,     /* for reading */
    SP_RECORDS_HTML,      /* the documents with their records marked, as a page */
    SP_RECORDS_ANSI,      /* the documents with their records in colour, for a terminal */
    SP_RECORDS_FORMAT_COUNT
};
const char *sp_records_format_name(enum sp_records_format format);

/* One document's text: the bytes from text_start on; spans are bytes of text, and
 * are written as bytes of the document. */
struct sp_document {
    const char *id;
    const char *text;
    uint64_t text_start;
    size_t n_text;
};

/* Once before the first and after the last document; header: a line of column names (TSV, CSV). */
void sp_records_begin(FILE *out, enum sp_records_format format, bool header);
enum sp_code sp_records_write(FILE *out, enum sp_records_format format,
                              const struct sp_document *doc, const struct sp_records *records,
                              struct sp_error *err);
void sp_records_end(FILE *out, enum sp_records_format format);

/* Classes of a document, best first (JSONL, TSV, CSV, TABLE). */
void sp_classes_begin(FILE *out, enum sp_records_format format, bool header);
void sp_classes_write(FILE *out, enum sp_records_format format, const char *id,
                      const struct sp_class *item, size_t n);

/* The same for a stream of records: a RECORD of document number doc_index, with a map for each
 * field as in JSONL, nil for one that is not there. */
enum sp_code sp_records_pack(struct sp_record **rec, uint64_t doc_index,
                             const struct sp_document *doc, const struct sp_education *e,
                             struct sp_error *err);

/* Text with runs of white space as one blank and bytes that are not UTF-8 as U+FFFD; returns its
 * length in out (at least 3 * n bytes). */
size_t sp_text_clean(char *out, const char *text, size_t n);

/* What the writers share. A string of JSON, as it is but for bytes that are not UTF-8; a cell: TSV
 * needs no quotes, white space being blanks, CSV as RFC 4180 has it; a line of
 * names, up to a NULL. */
void sp_text_put_json(FILE *out, const char *s, size_t n);
void sp_text_put_cell(FILE *out, enum sp_records_format format, const char *s, size_t n);
void sp_text_put_header(FILE *out, enum sp_records_format format, const char *const *name);
/* Text for a page or a terminal: control characters as their pictures (a terminal would obey them,
 * HTML has none), and for HTML its own characters escaped. */
void sp_text_put_page(FILE *out, enum sp_records_format format, const char *s, size_t n);

/* For records_write.c and records_page.c. */
void sp_records_page_begin(FILE *out);
enum sp_code sp_records_page_write(FILE *out, enum sp_records_format format,
                                   const struct sp_document *doc, const struct sp_records *records,
                                   struct sp_error *err);
void sp_records_page_end(FILE *out);

#endif
