/* Text coloured by surprisal. */
#include "surprisal.h"
#include "utf8.h"

#include <math.h>
#include <string.h>

/* A level begins at so many bits: a probability of 1/2, 1/4, 1/16, ... */
#define LEVELS 8
static const float level_bits[LEVELS] = {0, 1, 2, 4, 6, 9, 12, 16};

/* From grey over yellow to red in the 256 colours of terminals, under black letters and about as
 * bright, so that on dark and on light the strong ones stand out; the lowest level
 * has none, so that text that was expected looks as always. */
static const int ansi_colour[LEVELS] = {0, 144, 143, 178, 214, 208, 202, 196};

/* Tokens that are shown as one. */
struct piece {
    size_t start, end; /* bytes of the text */
    float bits;        /* -1: not known */
    size_t n_token;
};

static int level_of(float bits) {
    int level = LEVELS - 1;
    while (level > 0 && !(bits >= level_bits[level])) level--;
    return level;
}

static bool inside_character(const struct sp_document *doc, size_t at) {
    return at < doc->n_text && ((uint8_t)doc->text[at] & 0xC0) == 0x80;
}

/* The next piece from token *i on, behind byte `from`; false: there is none. */
static bool next_piece(const struct sp_document *doc, const uint64_t *span, const float *bits,
                       size_t n, size_t *i, size_t from, struct piece *p) {
    *p = (struct piece){.start = from, .end = from, .bits = -1};
    for (; *i < n; (*i)++) {
        size_t start = (size_t)span[2 * *i], end = (size_t)span[2 * *i + 1];
        if (start < from) start = from;
        if (end <= start || end > doc->n_text) continue;
        if (p->n_token > 0 && start >= p->end && !inside_character(doc, start)) break;
        if (p->n_token++ == 0) p->start = start;
        if (end > p->end) p->end = end;
        if (bits[*i] >= 0) p->bits = bits[*i] + (p->bits >= 0 ? p->bits : 0);
    }
    while (inside_character(doc, p->end)) p->end++; /* a token that was cut off */
    return p->n_token > 0;
}

/* ---- colours ------------------------------------------------------------------------------- */

/* Lines end without a colour: a terminal would draw it to its edge. */
static void put_ansi(FILE *out, const char *text, size_t n, int level) {
    while (n > 0) {
        const char *newline = memchr(text, '\n', n);
        size_t line = newline ? (size_t)(newline - text) : n;
        if (line > 0) {
            if (level) fprintf(out, "\033[38;5;16;48;5;%dm", ansi_colour[level]);
            sp_text_put_page(out, SP_RECORDS_ANSI, text, line);
            if (level) fputs("\033[0m", out);
        }
        if (newline) putc('\n', out);
        line += newline != NULL;
        text += line;
        n -= line;
    }
}

static void put_html(FILE *out, const char *text, const struct piece *p, int level) {
    fprintf(out, "<span class=\"s%d\" title=\"", level);
    if (p->bits < 0)
        fputs("nothing before it", out);
    else
        fprintf(out, "%.2f bits, p %.2g", (double)p->bits, exp2(-(double)p->bits));
    if (p->n_token > 1) fprintf(out, ", %zu tokens", p->n_token);
    fputs("\">", out);
    sp_text_put_page(out, SP_RECORDS_HTML, text, p->end - p->start);
    fputs("</span>", out);
}

static void put_text(FILE *out, enum sp_records_format format, const struct sp_document *doc,
                     const uint64_t *span, const float *bits, size_t n) {
    struct piece p;
    size_t at = 0;
    for (size_t i = 0; next_piece(doc, span, bits, n, &i, at, &p);) {
        int level = level_of(p.bits);
        sp_text_put_page(out, format, doc->text + at, p.start - at);
        if (format == SP_RECORDS_ANSI)
            put_ansi(out, doc->text + p.start, p.end - p.start, level);
        else
            put_html(out, doc->text + p.start, &p, level);
        at = p.end;
    }
    sp_text_put_page(out, format, doc->text + at, doc->n_text - at);
    if (doc->n_text > 0 && doc->text[doc->n_text - 1] != '\n') putc('\n', out);
}

/* ---- the legend ---------------------------------------------------------------------------- */

static void put_range(FILE *out, int level) {
    if (level + 1 < LEVELS)
        fprintf(out, " %g-%g ", (double)level_bits[level], (double)level_bits[level + 1]);
    else
        fprintf(out, " %g and more ", (double)level_bits[level]);
}

static void begin_page(FILE *out) {
    static const char *const light[LEVELS] = {"",        "#fff6cf", "#ffea99", "#fed66b",
                                              "#feb24c", "#fd8f4c", "#fc6f52", "#ef4a4a"};
    static const char *const dark[LEVELS] = {"",        "#2e2811", "#453a0d", "#604a08",
                                             "#7d4a08", "#943d12", "#ab2f1c", "#c91f2f"};
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Surprisal</title>\n"
        "<style>\n:root { color-scheme: light dark; }\n"
        "body { font-family: sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;\n"
        "  background: #fff; color: #111; }\n"
        "h2 { font-size: 1.1em; margin: 2em 0 0; }\np { margin: 0.3em 0; }\n"
        ".of { color: #555; font-size: 0.9em; }\n"
        "pre { white-space: pre-wrap; overflow-wrap: break-word; line-height: 1.6;\n"
        "  border-left: 3px solid #8884; padding-left: 1em; }\n"
        "span { border-radius: 2px; }\n.legend span { padding: 0.1em 0.4em; white-space: pre; }\n",
        out);
    for (int i = 1; i < LEVELS; i++) fprintf(out, ".s%d { background: %s; }\n", i, light[i]);
    fputs("@media (prefers-color-scheme: dark) {\nbody { background: #111; color: #f2f2f2; }\n"
          ".of { color: #aaa; }\n",
          out);
    for (int i = 1; i < LEVELS; i++) fprintf(out, ".s%d { background: %s; }\n", i, dark[i]);
    fputs("}\n</style>\n</head>\n<body>\n<p class=\"legend\">Bits of surprise:", out);
    for (int i = 0; i < LEVELS; i++) {
        fprintf(out, "\n<span class=\"s%d\">", i);
        put_range(out, i);
        fputs("</span>", out);
    }
    fputs("</p>\n<p class=\"of\">A token of n bits had the probability 1/2<sup>n</sup>, given what "
          "came before it.</p>\n",
          out);
}

void sp_surprisal_begin(FILE *out, enum sp_records_format format) {
    if (format == SP_RECORDS_HTML) {
        begin_page(out);
        return;
    }
    fputs("bits of surprise:", out);
    for (int i = 0; i < LEVELS; i++) {
        if (i) fprintf(out, "\033[38;5;16;48;5;%dm", ansi_colour[i]);
        put_range(out, i);
        if (i) fputs("\033[0m", out);
    }
    putc('\n', out);
}

/* ---- documents ----------------------------------------------------------------------------- */

static void put_mean(FILE *out, const float *bits, size_t n, size_t n_byte, uint64_t n_before) {
    double sum = 0;
    size_t known = 0;
    for (size_t i = 0; i < n; i++)
        if (bits[i] >= 0) {
            sum += (double)bits[i];
            known++;
        }
    if (known > 0)
        fprintf(out, "%.2f bits a token, %.2f a byte; %zu tokens, perplexity %.4g",
                sum / (double)known, n_byte ? sum / (double)n_byte : 0, known,
                exp2(sum / (double)known));
    else
        fputs("no token with something before it", out);
    if (n_before > 0) fprintf(out, "; after a state of %llu tokens", (unsigned long long)n_before);
}

void sp_surprisal_write(FILE *out, enum sp_records_format format, const struct sp_document *doc,
                        const uint64_t *span, const float *bits, size_t n, uint64_t n_before) {
    bool html = format == SP_RECORDS_HTML;
    fputs(html ? "<section>\n<h2>" : "\n==> ", out);
    sp_text_put_page(out, format, doc->id, strlen(doc->id));
    fputs(html ? "</h2>\n<p class=\"of\">" : " <== ", out);
    put_mean(out, bits, n, doc->n_text, n_before);
    fputs(html ? "</p>\n<pre>\n" : "\n", out);
    put_text(out, format, doc, span, bits, n);
    if (html) fputs("</pre>\n</section>\n", out);
}
