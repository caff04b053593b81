/* The rules as a whole: names in bodies must lead somewhere. A misspelt one would otherwise be
 * found when it is drawn, perhaps once in a million documents. */
#include "corpus_internal.h"

#include <stdio.h>
#include <string.h>

/* A rule of that name, or NAME.SUFFIX for a region or language. */
static bool known(const struct sp_corpus *c, struct sp_slice name) {
    if (sp_rule_find(c, name.s, name.n)) return true;
    for (uint32_t i = 0; i < c->n_rule; i++)
        if (strncmp(c->rule[i].name, name.s, name.n) == 0 && c->rule[i].name[name.n] == '.')
            return true;
    return false;
}

void sp_corpus_place(const struct sp_corpus *c, const char *dir, const char *at,
                     struct sp_error *err) {
    for (uint32_t i = 0; i < c->n_file; i++) {
        const struct sp_corpus_file *f = &c->file[i];
        if (at < f->text || at > f->text + f->n) continue;
        int line = 1;
        for (const char *p = f->text; p < at; p++) line += *p == '\n';
        sp_error_prefix(err, "%s%s%s:%d", dir, *dir ? "/" : "", f->name, line);
    }
}

/* `what` is wrong with `name`, which is a part of a body. */
static enum sp_code refuse(const struct sp_corpus *c, const char *what, struct sp_slice name,
                           struct sp_error *err) {
    sp_error_set(err, SP_E_DATA, "%s {%.*s}", what, (int)name.n, name.s);
    sp_corpus_place(c, c->dir, name.s, err);
    return SP_E_DATA;
}

static enum sp_code check_body(const struct sp_corpus *c, struct sp_slice s, struct sp_error *err) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.s[i] == '\\') {
            i++;
        } else if (s.s[i] == '{') { /* what is nested in it, the loop comes to */
            size_t len = sp_slice_closing(s.s + i, s.n - i);
            struct sp_slice in = {s.s + i + 1, len >= 2 ? len - 2 : 0};
            struct sp_slice body;
            uint32_t percent;
            if (in.n && *in.s == '?') {
                if (!sp_slice_perhaps(in, &percent, &body))
                    return refuse(c, "a space is missing before the text of", in, err);
            } else if (in.n && *in.s == '%') {
                if (!sp_expand_knows((struct sp_slice){in.s + 1, in.n - 1}))
                    return refuse(c, "there is no function", in, err);
            } else if (!sp_slice_has_choice(in) && !known(c, in)) {
                return refuse(c, "there is no rule", in, err);
            }
        }
    }
    return SP_OK;
}

/* The header of a page: its region has universities, where there are any, and its levels have
 * years, as all that the rules know. */
static enum sp_code check_header(const struct sp_corpus *c, struct sp_slice about,
                                 struct sp_error *err) {
    static const char list[] = "inst.listed";
    char name[SP_RULE_NAME_MAX];
    struct sp_slice region = sp_slice_word(&about);
    int n = snprintf(name, sizeof name, "%s.%.*s", list, (int)region.n, region.s);
    if (!sp_rule_find(c, name, (size_t)n) && known(c, (struct sp_slice){list, sizeof list - 1}))
        return refuse(c, "there is no university of the region", region, err);
    sp_slice_word(&about);
    for (struct sp_slice level; (level = sp_slice_word(&about)).n;) {
        n = snprintf(name, sizeof name, "years.%.*s", (int)level.n, level.s);
        if (n >= (int)sizeof name || !known(c, (struct sp_slice){name, (size_t)n}))
            return refuse(c, "there is no level", level, err);
    }
    return SP_OK;
}

enum sp_code sp_corpus_check(const struct sp_corpus *c, struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (uint32_t i = 0; i < c->n_rule && !code; i++) {
        if (strncmp(c->rule[i].name, "written.", 8) == 0)
            code = check_header(c, c->rule[i].body[0], err);
        for (uint32_t k = 0; k < c->rule[i].n && !code && !c->rule[i].literal; k++)
            code = check_body(c, c->rule[i].body[k], err);
    }
    return code;
}
