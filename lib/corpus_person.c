/* Who a CV is about: what they studied, where and when, drawn before anything is written. */
#include "corpus_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW_YEAR_LAST 2026
#define NOW_YEARS 14

void sp_record_clear(struct sp_cv_record *r) {
    for (int i = 0; i < SP_SLOT_COUNT; i++) free(r->value[i]);
    memset(r, 0, sizeof *r);
}

/* A number that a rule gives. */
static bool draw_number(struct sp_maker *m, const char *rule, int *out) {
    char *text = sp_expand_apart(m, rule);
    if (!text) return false;
    char *end;
    long v = strtol(text, &end, 10);
    bool ok = end != text && !*end && v >= 0 && v <= 100;
    if (!ok) sp_expand_fail(m, SP_E_DATA, "rule %s: '%s' is not a number", rule, text);
    *out = (int)v;
    free(text);
    return ok;
}

/* NAME.LEVEL where there is such a rule, in any language, else NAME. */
static char *expand_level(struct sp_maker *m, const char *name, const char *level) {
    char full[SP_RULE_NAME_MAX];
    if (snprintf(full, sizeof full, "%s.%s", name, level) >= (int)sizeof full) {
        sp_expand_fail(m, SP_E_DATA, "rule %s.%s: the name is too long", name, level);
        return NULL;
    }
    return sp_expand_apart(m, full);
}

/* Institution, degree and field of a record whose level, region and group are known. The
 * institution is that of `same` where it is not NULL. */
static bool fill_record(struct sp_maker *m, struct sp_cv_record *r,
                        const struct sp_cv_record *same) {
    char region[8];
    memcpy(region, m->region, sizeof region);
    memcpy(m->region, r->region, sizeof m->region);
    r->value[SP_INSTITUTION] =
        same ? strdup(same->value[SP_INSTITUTION]) : expand_level(m, "inst", r->level);
    r->value[SP_DEGREE] = expand_level(m, "degree", r->level);
    r->value[SP_SLOT_FIELD] = expand_level(m, "field", r->level);
    memcpy(m->region, region, sizeof region);
    if (!r->value[SP_INSTITUTION] || !r->value[SP_DEGREE] || !r->value[SP_SLOT_FIELD])
        return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    char *missing = sp_expand_apart(m, "missing");
    if (!missing) return false;
    for (int i = 0; i < SP_SLOT_COUNT; i++)
        r->there[i] = !strstr(missing, sp_slot_name[i]) && (i == SP_YEAR || r->value[i][0]);
    free(missing);
    return true;
}

/* Starts `years` before *end (year and month), and moves *end there. */
static bool draw_period(struct sp_maker *m, struct sp_cv_record *r, int *end_year) {
    int years, gap;
    char level[SP_RULE_NAME_MAX];
    if (snprintf(level, sizeof level, "years.%s", r->level) >= (int)sizeof level)
        return sp_expand_fail(m, SP_E_DATA, "level %s: the name is too long", r->level);
    if (!draw_number(m, level, &years) || !draw_number(m, "gap", &gap)) return false;
    struct sp_period *p = &r->period;
    p->y2 = *end_year;
    p->y1 = p->y2 - years;
    p->m1 = sp_draw_percent(&m->random, 70) ? 8 + sp_draw_int(&m->random, 0, 2)
                                            : sp_draw_int(&m->random, 1, 12);
    p->m2 = sp_draw_percent(&m->random, 70) ? 5 + sp_draw_int(&m->random, 0, 2)
                                            : sp_draw_int(&m->random, 1, 12);
    if (years == 0 && p->m1 > p->m2) p->m1 = p->m2;
    *end_year = p->y1 - gap;
    return true;
}

static bool draw_place(struct sp_maker *m, struct sp_cv_record *r) {
    char *text = sp_expand_apart(m, "abroad");
    if (!text) return false;
    const char *region = *text ? text : m->region;
    bool ok = strlen(region) < sizeof r->region;
    if (ok) memcpy(r->region, region, strlen(region) + 1);
    free(text);
    return ok || sp_expand_fail(m, SP_E_DATA, "rule abroad: a region's name is too long");
}

/* The rule `records` gives levels, newest first: "master+bachelor school"; + is the same place. A
 * page gives its own. */
static bool draw_levels(struct sp_maker *m, const struct sp_slice *levels) {
    char *text = levels ? strndup(levels->s, levels->n) : sp_expand_apart(m, "records");
    if (!text) return sp_expand_fail(m, SP_E_DEVICE, "out of memory");
    uint32_t group = 0;
    bool ok = true;
    for (char *s = text; *s && ok;) {
        size_t n = strcspn(s, " +");
        if (n && m->n_record < SP_CV_RECORDS_MAX) {
            struct sp_cv_record *r = &m->record[m->n_record++];
            ok = n < sizeof r->level;
            if (ok) memcpy(r->level, s, n);
            r->group = group;
        }
        group += s[n] == ' ';
        s += n + (s[n] != 0);
    }
    if (!ok) sp_expand_fail(m, SP_E_DATA, "rule records: '%s': a name is too long", text);
    free(text);
    return ok;
}

bool sp_person_draw(struct sp_maker *m, const struct sp_slice *levels) {
    m->now_year = NOW_YEAR_LAST - sp_draw_int(&m->random, 0, NOW_YEARS);
    m->now_month = sp_draw_int(&m->random, 1, 12);
    if (!draw_levels(m, levels)) return false;
    int since;
    if (!draw_number(m, "career", &since)) return false;
    int end = m->now_year - since;
    bool ongoing = m->n_record && since == 0;
    for (uint32_t i = 0; i < m->n_record; i++) {
        struct sp_cv_record *r = &m->record[i];
        bool joined = i && r->group == r[-1].group;
        if (joined)
            memcpy(r->region, r[-1].region, sizeof r->region);
        else if (!draw_place(m, r))
            return false;
        if (!fill_record(m, r, joined ? r - 1 : NULL) || !draw_period(m, r, &end)) return false;
        r->period.ongoing = ongoing && i == 0;
        if (r->period.ongoing) r->period.y2 += sp_draw_int(&m->random, 0, 2);
        if (joined) r->there[SP_INSTITUTION] = r[-1].there[SP_INSTITUTION];
    }
    m->adult_year = m->n_record ? m->record[m->n_record - 1].period.y1 : m->now_year - since;
    return true;
}

bool sp_person_stranger(struct sp_maker *m) {
    struct sp_cv_record *r = &m->record[SP_CV_RECORDS_MAX];
    sp_record_clear(r);
    char *level = sp_expand_apart(m, "stranger");
    if (!level) return false;
    bool ok = strlen(level) < sizeof r->level;
    if (ok) memcpy(r->level, level, strlen(level));
    free(level);
    if (!ok) return sp_expand_fail(m, SP_E_DATA, "rule stranger: a name is too long");
    int end = sp_draw_int(&m->random, m->adult_year, m->now_year);
    if (!draw_place(m, r) || !fill_record(m, r, NULL)) return false;
    for (int i = 0; i < SP_SLOT_COUNT; i++)
        r->there[i] = true; /* whatever the document leaves out */
    return draw_period(m, r, &end);
}
