/* Command lines, from one table per program. */
#include "option.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct sp_option *by_name(const struct sp_program *p, const char *name, size_t n) {
    for (const struct sp_option *o = p->options; o->type != SP_OPT_END; o++)
        if (o->name && strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

static const struct sp_option *by_letter(const struct sp_program *p, char letter) {
    for (const struct sp_option *o = p->options; o->type != SP_OPT_END; o++)
        if (o->letter && o->letter == letter) return o;
    return NULL;
}

static bool takes_value(const struct sp_option *o) {
    return o->type != SP_OPT_FLAG && o->type != SP_OPT_COUNT;
}

/* Is value one of the words of choices, written a|b|c? */
static bool is_choice(const char *choices, const char *value) {
    size_t n = strlen(value);
    for (const char *c = choices; *c;) {
        size_t m = strcspn(c, "|");
        if (m == n && memcmp(c, value, n) == 0) return true;
        c += m + (c[m] == '|');
    }
    return false;
}

static enum sp_code set_int(const struct sp_option *o, const char *shown, const char *value,
                            struct sp_error *err) {
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || (double)v < o->min || (double)v > o->max)
        return sp_error_set(err, SP_E_USAGE, "%s: '%s' is not a whole number from %.0f to %.0f",
                            shown, value, o->min, o->max);
    *(int64_t *)o->value = v;
    return SP_OK;
}

static enum sp_code set_double(const struct sp_option *o, const char *shown, const char *value,
                               struct sp_error *err) {
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !isfinite(v) || v < o->min || v > o->max)
        return sp_error_set(err, SP_E_USAGE, "%s: '%s' is not a number from %g to %g", shown, value,
                            o->min, o->max);
    *(double *)o->value = v;
    return SP_OK;
}

static enum sp_code set_value(const struct sp_option *o, const char *shown, const char *value,
                              struct sp_error *err) {
    struct sp_option_list *list = o->value;
    switch (o->type) {
    case SP_OPT_FLAG: *(bool *)o->value = true; return SP_OK;
    case SP_OPT_COUNT: *(int *)o->value += 1; return SP_OK;
    case SP_OPT_STRING: *(const char **)o->value = value; return SP_OK;
    case SP_OPT_LIST:
        if (list->n == SP_OPTION_LIST_MAX)
            return sp_error_set(err, SP_E_USAGE, "%s: given more than %d times", shown,
                                SP_OPTION_LIST_MAX);
        list->item[list->n++] = value;
        return SP_OK;
    case SP_OPT_INT: return set_int(o, shown, value, err);
    case SP_OPT_DOUBLE: return set_double(o, shown, value, err);
    case SP_OPT_CHOICE:
        if (!is_choice(o->arg, value))
            return sp_error_set(err, SP_E_USAGE, "%s: '%s' is not one of %s", shown, value, o->arg);
        *(const char **)o->value = value;
        return SP_OK;
    case SP_OPT_REST:
    case SP_OPT_END: break;
    }
    return sp_error_set(err, SP_E_BUG, "option table of an unknown type");
}

/* --name, --name=value, --name value. *i is moved over what is used. */
static enum sp_code parse_long(const struct sp_program *p, int argc, char **argv, int *i,
                               enum sp_option_action *action, struct sp_error *err) {
    const char *arg = argv[*i] + 2, *equals = strchr(arg, '=');
    size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
    if (!equals && strcmp(arg, "help") == 0) return *action = SP_OPTION_HELP, SP_OK;
    if (!equals && strcmp(arg, "help-all") == 0) return *action = SP_OPTION_HELP_ALL, SP_OK;
    if (!equals && strcmp(arg, "version") == 0) return *action = SP_OPTION_VERSION, SP_OK;
    const struct sp_option *o = by_name(p, arg, n);
    char shown[64];
    snprintf(shown, sizeof shown, "--%.*s", (int)(n < 50 ? n : 50), arg);
    if (!o)
        return sp_error_set(err, SP_E_USAGE, "unknown option %s (see %s --help)", shown, p->name);
    const char *value = equals ? equals + 1 : NULL;
    if (!takes_value(o) && value) return sp_error_set(err, SP_E_USAGE, "%s takes no value", shown);
    if (takes_value(o) && !value) {
        if (*i + 1 >= argc)
            return sp_error_set(err, SP_E_USAGE, "%s needs a value (%s)", shown, o->arg);
        value = argv[++*i];
    }
    return set_value(o, shown, value, err);
}

/* -v, -vv, -mDIR, -m DIR. */
static enum sp_code parse_short(const struct sp_program *p, int argc, char **argv, int *i,
                                enum sp_option_action *action, struct sp_error *err) {
    for (const char *c = argv[*i] + 1; *c; c++) {
        const struct sp_option *o = by_letter(p, *c);
        char shown[3] = {'-', *c, 0};
        if (!o && *c == 'h') return *action = SP_OPTION_HELP, SP_OK;
        if (!o)
            return sp_error_set(err, SP_E_USAGE, "unknown option %s (see %s --help)", shown,
                                p->name);
        if (!takes_value(o)) {
            enum sp_code code = set_value(o, shown, NULL, err);
            if (code) return code;
            continue;
        }
        const char *value = c[1] ? c + 1 : NULL;
        if (!value && *i + 1 >= argc)
            return sp_error_set(err, SP_E_USAGE, "%s needs a value (%s)", shown, o->arg);
        return set_value(o, shown, value ? value : argv[++*i], err);
    }
    return SP_OK;
}

enum sp_code sp_option_parse(const struct sp_program *p, int argc, char **argv, int *n_operand,
                             enum sp_option_action *action, struct sp_error *err) {
    *action = SP_OPTION_RUN;
    int kept = 0;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        enum sp_code code = SP_OK;
        if (strcmp(arg, "--") == 0) {
            while (++i < argc) argv[kept++] = argv[i];
        } else if (arg[0] != '-' || arg[1] == 0) {
            argv[kept++] = arg;
        } else if (arg[1] == '-') {
            code = parse_long(p, argc, argv, &i, action, err);
        } else {
            code = parse_short(p, argc, argv, &i, action, err);
        }
        if (code || *action != SP_OPTION_RUN) return code;
    }
    *n_operand = kept;
    return SP_OK;
}

enum sp_code sp_option_range(const char *value, const char *shown, int64_t *first, int64_t *last,
                             struct sp_error *err) {
    const char *second = value;
    char *end = NULL;
    errno = 0;
    bool ok = value[0] >= '0' && value[0] <= '9';
    if (ok) *first = *last = strtoll(value, &end, 10);
    if (ok && *end == '-') {
        second = end + 1;
        ok = *second >= '0' && *second <= '9';
        if (ok) *last = strtoll(second, &end, 10);
    }
    if (ok && *end == 0 && errno == 0 && *first <= *last && *last < INT32_MAX) return SP_OK;
    return sp_error_set(err, SP_E_USAGE,
                        "%s '%s': write the first and the last layer, counted from 0, as in 0-11",
                        shown, value);
}

#define HELP_COLUMNS 80
#define HELP_LEFT_MAX 32 /* an option that is longer has a line of its own */
#define HELP_LEFT_MIN 21 /* that of "--help, --version" */

/* "-m, --model DIR", as it stands in the left column. */
static void help_left(const struct sp_option *o, char *out, size_t size) {
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c%s", o->letter, o->name ? ", " : "");
    const char *arg = takes_value(o) ? o->arg : NULL;
    snprintf(out, size, "%s%s%s%s%s", letter, o->name ? "--" : "", o->name ? o->name : "",
             arg ? " " : "", arg ? arg : "");
}

/* An option's two columns, the right one of them broken between words. */
static void help_row(const char *left, const char *text, int width, FILE *out) {
    size_t room = (size_t)(HELP_COLUMNS - 2 - width);
    if (strlen(left) > HELP_LEFT_MAX)
        fprintf(out, "  %s\n  %*s", left, width, "");
    else
        fprintf(out, "  %-*s", width, left);
    while (strlen(text) > room) {
        size_t n = room;
        while (n > 0 && text[n] != ' ') n--;
        if (n == 0) break;
        fprintf(out, "%.*s\n  %*s", (int)n, text, width, "");
        text += n + 1;
    }
    fprintf(out, "%s\n", text);
}

static void help_options(const struct sp_program *p, bool all, FILE *out) {
    char left[96];
    int width = HELP_LEFT_MIN, n_rest = 0;
    bool rest = false;
    for (const struct sp_option *o = p->options; o->type != SP_OPT_END; o++) {
        rest = rest || o->type == SP_OPT_REST;
        n_rest += rest && o->type != SP_OPT_REST;
        if (o->type == SP_OPT_REST || (rest && !all)) continue;
        help_left(o, left, sizeof left);
        int n = (int)strlen(left);
        if (n <= HELP_LEFT_MAX && n > width) width = n;
    }
    width += 2;
    for (const struct sp_option *o = p->options; o->type != SP_OPT_END; o++) {
        if (o->type == SP_OPT_REST && !all) break;
        if (o->type == SP_OPT_REST) continue;
        help_left(o, left, sizeof left);
        help_row(left, o->help, width, out);
    }
    char more[48];
    snprintf(more, sizeof more, "the same with %d more options", n_rest);
    if (all) help_row("    --help", "show this and exit", width, out);
    if (n_rest) help_row("    --help-all", more, width, out);
    if (all) help_row("    --version", "show the version and exit", width, out);
    if (!all) help_row("    --help, --version", "show this; show the version", width, out);
}

void sp_option_help(const struct sp_program *p, bool all, FILE *out) {
    fprintf(out, "usage: %s [options]%s%s\n%s\n\n", p->name, p->operands ? " " : "",
            p->operands ? p->operands : "", p->summary);
    help_options(p, all, out);
    if (p->detail) fprintf(out, "\n%s\n", p->detail);
    if (p->example) fprintf(out, "\nExample:\n  %s\n", p->example);
    fprintf(out,
            "\nExit status: 0 ok, 1 %s, 2 usage, 65 bad data, 66 no input,\n"
            "69 device not available, 70 a bug, 74 I/O. More: man statepipe-%.*s\n",
            p->status_1 ? p->status_1 : "some documents failed", sp_program_name_length(p),
            p->name);
}
