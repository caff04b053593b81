/* States as pictures, in SVG and PGM. */
#include "state_plot.h"

#include "state_report.h"
#include "utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DECADES 4.0

/* ---- magnitudes ----------------------------------------------------------------------------- */

/* One part of a state as a grid of magnitudes. */
struct grid {
    const char *title, *unit;
    size_t rows, columns;
    double *value;    /* (rows, columns); NaN where a number is none */
    double low, high; /* of the scale; high 0: all are zero */
};

/* Of one channel: number k of its n lies at x[k * stride]. */
static double rms(const float *x, size_t n, size_t stride) {
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += (double)x[k * stride] * x[k * stride];
    return n ? sqrt(sum / (double)n) : 0;
}

static double channel(const struct sp_state *s, bool conv, size_t row, size_t c) {
    if (conv)
        return rms(s->conv + row * sp_state_conv_size(s) + c, (size_t)s->d_conv - 1,
                   (size_t)s->d_inner);
    return rms(s->ssm + row * sp_state_ssm_size(s) + c * (size_t)s->d_state, (size_t)s->d_state, 1);
}

static void find_scale(struct grid *g) {
    double least = INFINITY;
    g->high = 0;
    for (size_t i = 0; i < g->rows * g->columns; i++) {
        double v = g->value[i];
        if (!isfinite(v)) continue;
        if (v > g->high) g->high = v;
        if (v > 0 && v < least) least = v;
    }
    g->low = fmax(least, g->high * pow(10, -DECADES));
    if (g->low >= g->high) g->low = g->high / 10; /* all alike */
}

static enum sp_code grid_make(struct grid *g, const struct sp_state *s, bool conv,
                              size_t columns_max, struct sp_error *err) {
    size_t d = (size_t)s->d_inner;
    *g = (struct grid){.title = conv ? "conv" : "ssm",
                       .unit = conv ? "root mean square of a channel's last inputs"
                                    : "root mean square of a channel's state",
                       .rows = s->layer_last - s->layer_first + 1,
                       .columns = d < columns_max ? d : columns_max};
    g->value = calloc(g->rows * g->columns, sizeof *g->value);
    if (!g->value) return sp_error_memory(err, "a picture");
    for (size_t r = 0; r < g->rows; r++)
        for (size_t c = 0; c < d; c++) {
            double *v = &g->value[r * g->columns + c * g->columns / d], x = channel(s, conv, r, c);
            if (!isfinite(x) || !isfinite(*v))
                *v = NAN;
            else if (x > *v)
                *v = x;
        }
    find_scale(g);
    return SP_OK;
}

/* 0 to 1 over the scale; below 0 where there is nothing to see. */
static double level(const struct grid *g, double v) {
    if (v < g->low || g->high <= 0) return -1;
    return log(v / g->low) / log(g->high / g->low);
}

/* ---- PGM ------------------------------------------------------------------------------------ */

enum { PGM_ROW = 8, PGM_GAP = 4 };

static void pgm_part(FILE *out, const struct grid *g, uint8_t *line) {
    for (size_t r = 0; r < g->rows; r++) {
        for (size_t c = 0; c < g->columns; c++) {
            double v = g->value[r * g->columns + c], x = level(g, v);
            line[c] = isnan(v) ? 255 : x < 0 ? 0 : (uint8_t)lround(16 + 239 * x);
        }
        for (int k = 0; k < PGM_ROW; k++) fwrite(line, 1, g->columns, out);
    }
}

enum sp_code sp_state_plot_pgm(const struct sp_state *s, FILE *out, struct sp_error *err) {
    struct grid part[2] = {{0}};
    size_t width = (size_t)s->d_inner;
    enum sp_code code = grid_make(&part[0], s, false, width, err);
    if (!code) code = grid_make(&part[1], s, true, width, err);
    uint8_t *line = code ? NULL : malloc(width);
    if (!code && !line) code = sp_error_memory(err, "a picture");
    if (!code) {
        fprintf(out, "P5\n# layers %u-%u from the top, %d rows each; a column is a channel\n",
                s->layer_first, s->layer_last, PGM_ROW);
        for (int i = 0; i < 2; i++)
            fprintf(out, "# %s %s: %s, logarithmic, 16 is %.3g, 255 is %.3g\n",
                    i ? "below:" : "above:", part[i].title, part[i].unit, part[i].low,
                    part[i].high);
        fprintf(out, "%zu %zu\n255\n", width, 2 * part[0].rows * PGM_ROW + PGM_GAP);
        pgm_part(out, &part[0], line);
        memset(line, 255, width);
        for (int k = 0; k < PGM_GAP; k++) fwrite(line, 1, width, out);
        pgm_part(out, &part[1], line);
    }
    free(line);
    free(part[0].value);
    free(part[1].value);
    return code;
}

/* ---- SVG ------------------------------------------------------------------------------------ */

enum { LEVELS = 48, LEFT = 56, TOP = 64, WIDTH = 768, RIGHT = 112, PANEL_GAP = 96, BAR = 192 };

/* viridis (Smith and van der Walt, matplotlib): equal steps look equal, also in grey. */
static void colour(double x, char hex[8]) {
    static const uint8_t anchor[][3] = {{68, 1, 84},    {71, 45, 123},  {59, 82, 139},
                                        {44, 114, 142}, {33, 145, 140}, {40, 174, 128},
                                        {94, 201, 98},  {173, 220, 48}, {253, 231, 37}};
    const int last = (int)(sizeof anchor / sizeof *anchor) - 1;
    int i = (int)(x * last);
    if (i >= last) i = last - 1;
    int rgb[3];
    for (int k = 0; k < 3; k++)
        rgb[k] = (int)lround(anchor[i][k] + (x * last - i) * (anchor[i + 1][k] - anchor[i][k]));
    snprintf(hex, 8, "#%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
}

/* Which of the LEVELS colours; LEVELS for what is no number, -1 for nothing. */
static int cell(const struct grid *g, size_t i) {
    double v = g->value[i], x = level(g, v);
    if (isnan(v)) return LEVELS;
    return x < 0 ? -1 : (int)fmin(x * LEVELS, LEVELS - 1);
}

/* Runs of one colour, as one path of rectangles in units of cells. */
static void svg_level(FILE *out, const struct grid *g, int which) {
    char hex[8] = "#e00000";
    bool begun = false;
    if (which < LEVELS) colour((which + 0.5) / LEVELS, hex);
    for (size_t r = 0; r < g->rows; r++)
        for (size_t c = 0, n; c < g->columns; c += n) {
            for (n = 1; c + n < g->columns; n++)
                if (cell(g, r * g->columns + c + n) != cell(g, r * g->columns + c)) break;
            if (cell(g, r * g->columns + c) != which) continue;
            if (!begun) fprintf(out, "<path fill=\"%s\" d=\"", hex);
            begun = true;
            fprintf(out, "M%zu %zuh%zuv1h-%zuz", c, r, n, n);
        }
    if (begun) fputs("\"/>\n", out);
}

static void svg_text(FILE *out, double x, double y, const char *anchor, const char *text) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

/* The scale from low to high, with its decades. */
static void svg_bar(FILE *out, const struct grid *g, double x, double y) {
    char text[64], hex[8];
    if (g->high <= 0) {
        svg_text(out, x + BAR, y + 9, "end", "all are zero");
        return;
    }
    for (int i = 0; i < LEVELS; i++) {
        colour((i + 0.5) / LEVELS, hex);
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"4\" height=\"10\" fill=\"%s\"/>\n",
                x + i * (BAR / LEVELS), y, hex);
    }
    snprintf(text, sizeof text, "%.2g", g->low);
    svg_text(out, x - 4, y + 9, "end", text);
    snprintf(text, sizeof text, "%.2g", g->high);
    svg_text(out, x + BAR + 4, y + 9, "start", text);
    for (double decade = pow(10, ceil(log10(g->low))); decade <= g->high; decade *= 10) {
        double at = x + BAR * level(g, decade);
        fprintf(out, "<path stroke=\"#000\" d=\"M%.1f %.1fv4\"/>\n", at, y + 10);
        snprintf(text, sizeof text, "%g", decade);
        svg_text(out, at, y + 24, "middle", text);
    }
}

static void svg_axes(FILE *out, const struct sp_state *s, const struct grid *g, bool conv,
                     double row, double top) {
    char text[64];
    size_t step = (size_t)ceil(12 / row);
    for (size_t r = 0; r < g->rows; r += step) {
        uint32_t layer = s->layer_first + (uint32_t)r;
        double y = top + (double)r * row + row / 2 + 4;
        struct sp_layer_report report = sp_state_report_layer(s, layer);
        snprintf(text, sizeof text, "%u", layer);
        svg_text(out, LEFT - 8, y, "end", text);
        snprintf(text, sizeof text, "%.4g", conv ? report.conv.norm : report.ssm.norm);
        svg_text(out, LEFT + WIDTH + 8, y, "start", text);
    }
    double bottom = top + (double)g->rows * row;
    for (int i = 0; i <= 4; i++) {
        double x = LEFT + WIDTH * i / 4.0;
        fprintf(out, "<path stroke=\"#000\" d=\"M%.1f %.1fv5\"/>\n", x, bottom);
        snprintf(text, sizeof text, "%lld", (long long)(s->d_inner * i / 4));
        svg_text(out, x, bottom + 18, i == 0 ? "start" : i == 4 ? "end" : "middle", text);
    }
    svg_text(out, LEFT + WIDTH / 8.0, bottom + 18, "middle", "channel");
    svg_text(out, LEFT - 8, top - 8, "end", "layer");
    svg_text(out, LEFT + WIDTH + 8, top - 8, "start", "norm");
    fprintf(out,
            "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"none\" "
            "stroke=\"#888\"/>\n",
            LEFT, top, WIDTH, (double)g->rows * row);
}

static void svg_panel(FILE *out, const struct sp_state *s, const struct grid *g, bool conv,
                      double row, double top) {
    char text[200];
    bool less = false, none = false;
    for (size_t i = 0; i < g->rows * g->columns; i++) {
        less = less || cell(g, i) < 0;
        none = none || cell(g, i) == LEVELS;
    }
    snprintf(text, sizeof text, "<tspan font-weight=\"bold\">%s</tspan>: %s%s%s%s", g->title,
             g->unit, g->columns < (size_t)s->d_inner ? ", the largest in each column" : "",
             less ? "; white is less" : "", none ? "; red is no number" : "");
    svg_text(out, LEFT, top - 8, "start", text);
    svg_bar(out, g, LEFT + WIDTH - BAR - 48, top - 34);
    fprintf(out,
            "<g transform=\"translate(%d %.1f) scale(%.6f %.6f)\" shape-rendering=\"crispEdges\">\n"
            "<rect width=\"%zu\" height=\"%zu\" fill=\"#f2f2f2\"/>\n",
            LEFT, top, (double)WIDTH / (double)g->columns, row, g->columns, g->rows);
    for (int i = 0; i <= LEVELS; i++) svg_level(out, g, i);
    fputs("</g>\n", out);
    svg_axes(out, s, g, conv, row, top);
}

/* A name that may be anything, as text of an XML document. */
static void svg_name(FILE *out, const char *s) {
    for (size_t n = strlen(s), i = 0, len; i < n; i += len) {
        int32_t c = sp_utf8_decode(s + i, n - i, &len);
        if (c < 0x20 || c == 0x7f || c == 0xfffe || c == 0xffff)
            fputs("\xef\xbf\xbd", out);
        else if (c == '<' || c == '&')
            fputs(c == '<' ? "&lt;" : "&amp;", out);
        else
            fwrite(s + i, 1, len, out);
    }
}

static void svg_head(FILE *out, const struct sp_state *s, const char *name, double height) {
    char model[SP_HASH_HEX_SIZE];
    int width = LEFT + WIDTH + RIGHT;
    sp_hash_hex(&s->model, model);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
            "viewBox=\"0 0 %d %.0f\" font-family=\"sans-serif\" font-size=\"11\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"15\">",
            width, height, width, height, LEFT);
    svg_name(out, name);
    fprintf(out,
            "</text>\n<text x=\"%d\" y=\"38\">%" PRIu64
            " tokens (%s), layers %u-%u of %u, model %.12s</text>\n",
            LEFT, s->n_tok, sp_origin_name(s->origin), s->layer_first, s->layer_last, s->n_layer,
            model);
}

enum sp_code sp_state_plot_svg(const struct sp_state *s, const char *name, FILE *out,
                               struct sp_error *err) {
    struct grid part[2] = {{0}};
    enum sp_code code = grid_make(&part[0], s, false, 256, err);
    if (!code) code = grid_make(&part[1], s, true, 256, err);
    if (!code) {
        double rows = (double)part[0].rows, row = fmin(24, fmax(4, 320 / rows));
        double panel = rows * row + PANEL_GAP, top = TOP + 24;
        svg_head(out, s, name, top + 2 * panel - PANEL_GAP + 32);
        svg_panel(out, s, &part[0], false, row, top);
        svg_panel(out, s, &part[1], true, row, top + panel);
        fputs("</svg>\n", out);
    }
    free(part[0].value);
    free(part[1].value);
    return code;
}
