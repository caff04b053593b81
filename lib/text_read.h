/* Documents as people have them: texts in UTF-8, or nearly so, and PDF files. What is read is the
 * caller's, to be freed. */
#ifndef SP_TEXT_READ_H
#define SP_TEXT_READ_H

#include "statepipe.h"

/* A file, "-" being standard input: its bytes as they stand, at most max, with a NUL behind them;
 * of a PDF file, told by how it begins, what pdftotext -layout prints. SP_E_DATA for a PDF file
 * that is damaged or without text, SP_E_DEVICE where there is no pdftotext. */
enum sp_code sp_text_read(char **text, size_t *n, const char *path, size_t max,
                          struct sp_error *err);

/* Do these bytes begin a PDF file; are there too few of them to say no? */
#define SP_TEXT_PDF_BYTES 5
bool sp_text_is_pdf(const char *bytes, size_t n);
bool sp_text_may_be_pdf(const char *bytes, size_t n);

/* Replaces what is not UTF-8 by U+FFFD (*text is freed then). note: what to tell the user, or "".
 */
#define SP_TEXT_NOTE_SIZE 256
enum sp_code sp_text_repair(char **text, size_t *n, char note[SP_TEXT_NOTE_SIZE],
                            struct sp_error *err);
/* The same words for n invalid sequences that were replaced elsewhere, the first at that byte. */
void sp_text_note_invalid(char note[SP_TEXT_NOTE_SIZE], uint64_t first, uint64_t n);

#endif
