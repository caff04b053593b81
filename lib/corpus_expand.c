/* The interpreter: bodies of rules to text. Nesting is bounded by SP_EXPAND_DEPTH_MAX, whatever the
 * rules say. */
#include "corpus_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRAY_PERCENT 3 /* how often a once rule forgets its choice, as people do */

bool sp_expand_fail(struct sp_maker *m, enum sp_code code, const char *fmt, ...) {
    if (m->failed) return false;
    m->failed = true;
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    sp_error_set(m->err, code, "%s", msg);
    return false;
}

static bool add(struct sp_maker *m, const char *s, size_t n) {
    return sp_text_add(&m->out, s, n) ||
           sp_expand_fail(m, SP_E_DATA, "the rules make a document of over %zu bytes",
                          SP_CV_BYTES_MAX);
}

size_t sp_slice_closing(const char *s, size_t n) {
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\')
            i++;
        else if (s[i] == '{')
            depth++;
        else if (s[i] == '}' && --depth == 0)
            return i + 1;
    }
    return n;
}

struct sp_slice sp_slice_word(struct sp_slice *s) {
    size_t n = 0;
    while (n < s->n && s->s[n] != ' ') n++;
    struct sp_slice w = {s->s, n};
    if (n < s->n) n++;
    s->s += n;
    s->n -= n;
    return w;
}

bool sp_slice_part(struct sp_slice *rest, struct sp_slice *part) {
    if (!rest->s) return false;
    size_t i = 0;
    for (int depth = 0; i < rest->n; i++) {
        char ch = rest->s[i];
        if (ch == '\\')
            i++;
        else if (ch == '{' || ch == '}')
            depth += ch == '{' ? 1 : -1;
        else if (ch == '|' && depth == 0)
            break;
    }
    if (i >= rest->n) {
        *part = *rest;
        rest->s = NULL;
        return true;
    }
    *part = (struct sp_slice){rest->s, i};
    rest->s += i + 1;
    rest->n -= i + 1;
    return true;
}

static bool escape(struct sp_maker *m, char ch) {
    if (ch == 'n') return add(m, "\n", 1);
    if (ch == 't') return add(m, "\t", 1);
    if (ch == 's') return add(m, " ", 1);
    if (ch == 'f') return add(m, "\f", 1);
    return add(m, &ch, 1);
}

bool sp_slice_perhaps(struct sp_slice s, uint32_t *percent, struct sp_slice *body) {
    size_t i = 1;
    *percent = 0;
    for (; i < s.n && s.s[i] >= '0' && s.s[i] <= '9' && *percent < 100; i++)
        *percent = *percent * 10 + (uint32_t)(s.s[i] - '0');
    if (i == 1) *percent = 50;
    if (i >= s.n || (s.s[i] != ' ' && s.s[i] != '\n')) return false;
    i += s.s[i] == ' ';
    *body = (struct sp_slice){s.s + i, s.n - i};
    return true;
}

static bool perhaps(struct sp_maker *m, struct sp_slice s) {
    uint32_t percent;
    struct sp_slice body;
    if (!sp_slice_perhaps(s, &percent, &body))
        return sp_expand_fail(m, SP_E_DATA, "{%.*s}: a space is missing", (int)s.n, s.s);
    return !sp_draw_percent(&m->random, percent) || sp_expand(m, body.s, body.n);
}

static bool choose(struct sp_maker *m, struct sp_slice s) {
    struct sp_slice rest = s, part;
    uint32_t n = 0;
    while (sp_slice_part(&rest, &part)) n++;
    uint32_t k = sp_draw_below(&m->random, n);
    rest = s;
    do sp_slice_part(&rest, &part);
    while (k--);
    return sp_expand(m, part.s, part.n);
}

bool sp_slice_has_choice(struct sp_slice s) {
    struct sp_slice part;
    return sp_slice_part(&s, &part) && s.s;
}

bool sp_expand(struct sp_maker *m, const char *s, size_t n) {
    if (m->failed) return false;
    if (++m->depth > SP_EXPAND_DEPTH_MAX)
        return sp_expand_fail(m, SP_E_DATA, "rules nest over %d deep", SP_EXPAND_DEPTH_MAX);
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        if (s[i] == '\\' && i + 1 < n) {
            ok = escape(m, s[i + 1]);
            i += 2;
        } else if (s[i] == '{') {
            size_t len = sp_slice_closing(s + i, n - i);
            struct sp_slice in = {s + i + 1, len >= 2 ? len - 2 : 0};
            if (in.n && *in.s == '?')
                ok = perhaps(m, in);
            else if (in.n && *in.s == '%')
                ok = sp_expand_call(m, (struct sp_slice){in.s + 1, in.n - 1});
            else
                ok = sp_slice_has_choice(in) ? choose(m, in) : sp_expand_rule(m, in.s, in.n);
            i += len;
        } else if (m->in_page && sp_page_at_mark(s + i, n - i)) {
            size_t len = 0;
            ok = sp_page_mark(m, s + i, n - i, &len);
            i += len;
        } else {
            size_t j = i + 1;
            while (j < n && s[j] != '{' && s[j] != '\\' &&
                   !(m->in_page && sp_page_at_mark(s + j, n - j)))
                j++;
            ok = m->in_page ? sp_page_text(m, s + i, j - i) : add(m, s + i, j - i);
            i = j;
        }
    }
    m->depth--;
    return ok;
}

/* NAME.REGION, NAME.LANG, NAME or NAME.en, the first that there is. */
static const struct sp_rule *resolve(struct sp_maker *m, const char *name, size_t n) {
    char full[SP_RULE_NAME_MAX];
    const char *suffix[] = {m->region, m->lang, "", "en"};
    const struct sp_rule *r = NULL;
    for (size_t i = 0; !r && i < sizeof suffix / sizeof *suffix; i++) {
        int len =
            snprintf(full, sizeof full, "%.*s%s%s", (int)n, name, *suffix[i] ? "." : "", suffix[i]);
        if (len < (int)sizeof full) r = sp_rule_find(m->c, full, (size_t)len);
    }
    return r;
}

static uint32_t draw_alternative(struct sp_maker *m, const struct sp_rule *r) {
    uint32_t x = sp_draw_below(&m->random, r->weight[r->n - 1]), low = 0, high = r->n - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (r->weight[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool expand_body(struct sp_maker *m, const struct sp_rule *r, uint32_t k) {
    struct sp_slice body = r->body[k];
    if (r->literal) return add(m, body.s, body.n);
    if (sp_expand(m, body.s, body.n)) return true;
    if (!m->placed) sp_corpus_place(m->c, "", body.s, m->err);
    m->placed = true;
    return false;
}

static bool expand_fixed(struct sp_maker *m, const struct sp_rule *r) {
    char **text = &m->fixed[r - m->c->rule];
    if (*text) return add(m, *text, strlen(*text));
    size_t from = m->out.n;
    if (!expand_body(m, r, draw_alternative(m, r))) return false;
    *text = strndup(m->out.s ? m->out.s + from : "", m->out.n - from);
    return *text || sp_expand_fail(m, SP_E_DEVICE, "out of memory");
}

bool sp_expand_rule(struct sp_maker *m, const char *name, size_t n) {
    const struct sp_rule *r = resolve(m, name, n);
    if (!r || !r->n)
        return sp_expand_fail(m, SP_E_DATA, "no rule {%.*s} for region %s, language %s", (int)n,
                              name, m->region, m->lang);
    if (r->mode == SP_RULE_FIXED) return expand_fixed(m, r);
    uint32_t *sticky = &m->sticky[r->style], k;
    if (r->mode == SP_RULE_ONCE && *sticky && !sp_draw_percent(&m->random, STRAY_PERCENT)) {
        k = (*sticky - 1) % r->n;
    } else {
        k = draw_alternative(m, r);
        if (!*sticky) *sticky = k + 1;
    }
    return expand_body(m, r, k);
}

char *sp_expand_apart(struct sp_maker *m, const char *name) {
    struct sp_text kept = m->out;
    bool labelled = m->labelled;
    memset(&m->out, 0, sizeof m->out);
    m->labelled = false;
    bool ok = sp_expand_rule(m, name, strlen(name)) && add(m, "", 0);
    char *text = m->out.s;
    free(m->out.span);
    free(m->out.note);
    m->out = kept;
    m->labelled = labelled;
    if (ok) return text;
    free(text);
    return NULL;
}

/* ---- documents ---- */

static bool copy_name(char *out, size_t size, const char *s, size_t n) {
    if (n >= size) return false;
    memcpy(out, s, n);
    out[n] = 0;
    return true;
}

/* The rule `region` gives "REGION LANGUAGE". */
static bool draw_region(struct sp_maker *m) {
    char *text = sp_expand_apart(m, "region");
    if (!text) return false;
    char *cut = strchr(text, ' ');
    bool ok = cut && copy_name(m->region, sizeof m->region, text, (size_t)(cut - text)) &&
              copy_name(m->lang, sizeof m->lang, cut + 1, strlen(cut + 1));
    if (!ok) sp_expand_fail(m, SP_E_DATA, "rule region: '%s' is not REGION LANGUAGE", text);
    free(text);
    return ok;
}

static bool add_noise(struct sp_maker *m) {
    char *names = sp_expand_apart(m, "noise");
    if (!names) return false;
    bool ok = true;
    for (char *s = names; ok && *s;) {
        size_t n = strcspn(s, " ");
        if (n && !sp_noise_apply(&m->out, &m->random, s, n))
            ok =
                sp_expand_fail(m, SP_E_DATA, "rule noise: no pass '%.*s', or no memory", (int)n, s);
        s += n + (s[n] == ' ');
    }
    free(names);
    return ok;
}

/* The rule doc.LAYOUT; a page says itself what and where its person has studied. */
static bool make(struct sp_maker *m, const char *layout, struct sp_cv *cv) {
    char name[SP_RULE_NAME_MAX];
    if (!draw_region(m)) return false;
    char *drawn = layout ? strdup(layout) : sp_expand_apart(m, "layout");
    if (!drawn) return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    int len = snprintf(name, sizeof name, "doc.%s", drawn);
    if (len < (int)sizeof name) memcpy(cv->layout, name + 4, (size_t)len - 3);
    free(drawn);
    if (len >= (int)sizeof name || !sp_rule_find(m->c, name, (size_t)len))
        return sp_expand_fail(m, SP_E_USAGE,
                              "no layout '%s': there is no rule %s; to list all: grep -rEh "
                              "'^(doc[.]|=== )' %.300s",
                              cv->layout, name, m->c->dir);
    struct sp_slice levels;
    bool page = sp_page_begin(m, cv->layout, &levels);
    if (!sp_person_draw(m, page ? &levels : NULL)) return false;
    if (page) sp_page_years(m);
    m->labelled = true;
    m->current = 0;
    m->group = SP_GROUP_PRESENT;
    if (!sp_expand_rule(m, name, (size_t)len)) return false;
    m->in_page = false;
    return add_noise(m);
}

/* White space at the ends of a label is nobody's. */
static void trim_spans(struct sp_text *t) {
    for (size_t i = 0; i < t->n_span; i++) {
        struct sp_cv_span *s = &t->span[i];
        while (s->start < s->end && strchr(" \n\r\t", t->s[s->start])) s->start++;
        while (s->start < s->end && strchr(" \n\r\t", t->s[s->end - 1])) s->end--;
    }
}

static int by_start(const void *a, const void *b) {
    const struct sp_cv_span *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static void maker_free(struct sp_maker *m) {
    for (uint32_t i = 0; m->fixed && i < m->c->n_rule; i++) free(m->fixed[i]);
    for (uint32_t i = 0; i <= SP_CV_RECORDS_MAX; i++) sp_record_clear(&m->record[i]);
    free(m->fixed);
    free(m->sticky);
    sp_text_free(&m->out);
}

enum sp_code sp_corpus_make(const struct sp_corpus *corpus, uint64_t seed, uint64_t index,
                            const char *layout, uint32_t n_question, struct sp_cv *cv,
                            struct sp_error *err) {
    sp_cv_clear(cv);
    struct sp_maker m = {.c = corpus, .err = err, .random = seed};
    m.random = sp_draw(&m.random) ^ index;
    sp_draw(&m.random);
    m.sticky = calloc(corpus->n_rule, sizeof *m.sticky);
    m.fixed = calloc(corpus->n_rule, sizeof *m.fixed);
    if (!m.sticky || !m.fixed)
        sp_expand_fail(&m, SP_E_DEVICE, "out of memory");
    else
        make(&m, layout, cv);
    if (!m.failed && !sp_text_add(&m.out, "", 0)) sp_expand_fail(&m, SP_E_DEVICE, "out of memory");
    if (!m.failed && n_question) sp_ask(&m, n_question, cv);
    if (!m.failed) {
        trim_spans(&m.out);
        cv->text = m.out.s;
        cv->n = m.out.n;
        cv->span = m.out.span;
        cv->n_span = m.out.n_span;
        cv->n_record = m.n_record;
        memcpy(cv->lang, m.lang, sizeof cv->lang);
        if (cv->n_span) qsort(cv->span, cv->n_span, sizeof *cv->span, by_start);
        m.out.s = NULL;
        m.out.span = NULL;
    }
    maker_free(&m);
    return m.failed ? err->code : SP_OK;
}

void sp_cv_clear(struct sp_cv *cv) {
    free(cv->text);
    free(cv->span);
    for (size_t i = 0; i < cv->n_question; i++) {
        free(cv->question[i].query);
        for (uint32_t k = 0; k < cv->question[i].n_answer; k++) free(cv->question[i].answer[k]);
    }
    free(cv->question);
    memset(cv, 0, sizeof *cv);
}
