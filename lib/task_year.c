/* Years as people print them in CVs, in any language of the word lists below. */
#include "task.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Characters of a year that are looked at; the rest of a longer text is not. */
#define YEAR_TEXT_MAX 256
#define YEARS_MAX 16
#define WORD_MAX 32

/* "still going on". Compared without case and accents, so written any way here. */
static const char *const present_words[] = {
    "present", "pres.", "now", "current", "currently", "today", "ongoing", "on-going",
    "in progress", "to date", "till date", "until date", "till now", "until now", "nowadays",
    /* German, Dutch, Scandinavian, Finnish */
    "heute", "laufend", "aktuell", "jetzt", "gegenwärtig", "heden", "nu", "momenteel", "nuvarande",
    "pågående", "nuværende", "nåværende", "nå", "nykyinen", "nykyään", "käynnissä",
    /* Romance */
    "présent", "aujourd", "à ce jour", "en cours", "maintenant", "actuel", "actualidad",
    "actualmente", "actual", "presente", "a la fecha", "hoy", "en curso", "cursando", "momento",
    "atual", "atualmente", "hoje", "em curso", "oggi", "in corso", "attuale", "attualmente",
    "prezent", "în curs", "actualitat", "actualment",
    /* Slavic, Baltic, Hungarian, Greek, Turkish */
    "obecnie", "teraz", "nadal", "současnost", "dosud", "súčasnosť", "trenutno", "danas", "sada",
    "по настоящее", "настоящее время", "н. в", "н.в", "сейчас", "теперішній", "дотепер",
    "по теперішній", "досі", "настояще", "сега", "до момента", "садашњост", "jelenleg", "jelen",
    "folyamatban", "σήμερα", "παρόν", "halen", "devam", "günümüz", "dabar", "šobrīd", "praegu",
    /* Asia */
    "至今", "现在", "現在", "目前", "在读", "在讀", "在学", "在學", "현재", "재학", "nay",
    "hiện tại", "hiện nay", "sekarang", "saat ini", "kini", "ปัจจุบัน", "वर्तमान", "अब तक", "الآن",
    "الحاضر", "الوقت الحالي", "حاليا", "כיום", "היום", "הווה", "اکنون", "تاکنون"};

/* In front of a single year: it is where something began that goes on. */
static const char *const since_words[] = {
    "since", "from",  "seit",  "ab",    "depuis", "à partir", "desde", "dal", "da",
    "vanaf", "sinds", "sedan", "siden", "od",     "с",        "з",     "від", "от",
    "din",   "από",   "自",    "从",    "從",     "alkaen",   "kopš",  "nuo"};

/* Behind a single year, with the same meaning. */
static const char *const onward_words[] = {"onwards", "onward",   "起",    "から",
                                           "부터",    "itibaren", "sejak", "alkaen"};

/* A year's text as base characters: no case, no accents, digits of all scripts as ASCII, dashes
 * and apostrophes as one kind each. */
struct plain {
    int32_t c[YEAR_TEXT_MAX + 1]; /* ends with 0 */
    size_t n;
};

static int32_t plain_char(int32_t c) {
    static const int32_t zero[] = {0x0660, 0x06f0, 0x0966, 0x09e6, 0x0e50, 0xff10};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (c >= zero[i] && c < zero[i] + 10) return '0' + c - zero[i];
    if ((c >= 0x2010 && c <= 0x2015) || c == 0x2212 || c == 0x301c || c == '~' || c == 0xff5e ||
        c == 0x2192 || c == 0x30fc)
        return '-';
    if (c == 0x2018 || c == 0x2019 || c == 0x02bc || c == 0x00b4 || c == '`') return '\'';
    if (c == '\t' || c == '\n' || c == '\r') return ' ';
    return c;
}

static void plain_from(struct plain *out, const char *text, size_t n, size_t max) {
    out->n = 0;
    for (size_t i = 0; i < n && out->n < max;) {
        utf8proc_int32_t c, base[8];
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0) { /* not UTF-8: no character */
            i++;
            continue;
        }
        i += (size_t)k;
        if (plain_char(c) != c || c < 0x80) {
            out->c[out->n++] = c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : plain_char(c);
            continue;
        }
        int last = 0;
        k = utf8proc_decompose_char(c, base, 8,
                                    UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD |
                                        UTF8PROC_STRIPMARK | UTF8PROC_IGNORE,
                                    &last);
        for (utf8proc_ssize_t j = 0; j < k && j < 8 && out->n < max; j++)
            out->c[out->n++] = plain_char(base[j]);
    }
    out->c[out->n] = 0;
}

static bool is_digit(int32_t c) {
    return c >= '0' && c <= '9';
}
static bool is_letter(int32_t c) {
    if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_MC;
}
static int32_t at(const struct plain *t, size_t i) {
    return i < t->n ? t->c[i] : 0;
}
static int32_t before(const struct plain *t, size_t i) {
    return i > 0 && i <= t->n ? t->c[i - 1] : 0;
}
static size_t skip_blank(const struct plain *t, size_t i) {
    while (at(t, i) == ' ') i++;
    return i;
}
static size_t digits_at(const struct plain *t, size_t i) {
    size_t n = 0;
    while (is_digit(at(t, i + n))) n++;
    return n;
}
static int number_at(const struct plain *t, size_t i, size_t n) {
    int v = 0;
    for (size_t k = 0; k < n; k++) v = v * 10 + (int)(at(t, i + k) - '0');
    return v;
}
/* Scripts that put no space between words. */
static bool runs_on(int32_t c) {
    return c >= 0x0e00;
}

/* Does p stand at i, as a word? Long ones may go on ("actualmente"). */
static bool stands_at(const struct plain *t, size_t i, const struct plain *p) {
    if (p->n == 0 || i + p->n > t->n || memcmp(t->c + i, p->c, p->n * sizeof *p->c) != 0)
        return false;
    if (runs_on(p->c[0])) return true;
    int32_t left = before(t, i), right = at(t, i + p->n);
    return !is_letter(left) && !is_digit(left) &&
           (p->n > 5 || (!is_letter(right) && !is_digit(right)));
}

/* Does one of the words stand anywhere in [first, last]? A word is brought to its plain form once,
 * not once per place: that costs more than all the comparing. */
static bool any_between(const struct plain *t, size_t first, size_t last, const char *const *word,
                        size_t n_word) {
    bool has_letter = false;
    for (size_t i = first; i < t->n && i <= last; i++)
        has_letter = has_letter || is_letter(t->c[i]);
    for (size_t w = 0; has_letter && w < n_word; w++) {
        struct plain p;
        plain_from(&p, word[w], strlen(word[w]), WORD_MAX);
        for (size_t i = first; i < t->n && i <= last; i++)
            if (stands_at(t, i, &p)) return true;
    }
    return false;
}
#define WORD_AT(t, i, list) any_between(t, i, i, list, sizeof(list) / sizeof *(list))
#define WORD_FROM(t, i, list) any_between(t, i, (t)->n, list, sizeof(list) / sizeof *(list))

/* ---- the years of a text ---- */

struct years {
    int year[YEARS_MAX];
    size_t n;
    size_t end; /* behind the last year and what belongs to it */
};

static void add_year(struct years *y, int year, size_t end) {
    if (y->n == YEARS_MAX) y->n--; /* the first and the last count */
    y->year[y->n++] = year;
    y->end = end;
}

static bool is_date_mark(int32_t c) {
    return c == '-' || c == '/' || c == '.';
}
static int century(int two_digits) {
    return two_digits < 50 ? 2000 + two_digits : 1900 + two_digits;
}

/* Behind a year that ends at i: "-09-01", a month and a day. Returns where they end, or i. */
static size_t month_and_day(const struct plain *t, size_t i) {
    size_t month = is_date_mark(at(t, i)) ? digits_at(t, i + 1) : 0;
    if (month < 1 || month > 2 || !is_date_mark(at(t, i + 1 + month))) return i;
    size_t day = digits_at(t, i + 2 + month);
    return day == 1 || day == 2 ? i + 2 + month + day : i;
}

/* Behind a year that ends at i: "-18" or "/ 18", two digits that are a second year or a month. */
struct tail {
    bool there, spaced;
    int value;
    size_t end;
};
static struct tail tail_at(const struct plain *t, size_t i) {
    struct tail r = {0};
    size_t mark = at(t, i) == ' ' ? i + 1 : i;
    if (!is_date_mark(at(t, mark))) return r;
    size_t first = at(t, mark + 1) == ' ' ? mark + 2 : mark + 1;
    if (digits_at(t, first) != 2) return r;
    size_t next = at(t, first + 2) == ' ' ? first + 3 : first + 2;
    if (is_date_mark(at(t, next)) && is_digit(at(t, next + 1))) return r;
    return (struct tail){.there = true,
                         .spaced = mark > i || first > mark + 1,
                         .value = number_at(t, first, 2),
                         .end = first + 2};
}

/* Four digits at i. Two tails in one text ("2015-09 - 2018-06") are months. */
static size_t take_year(const struct plain *t, size_t i, bool months, struct years *y) {
    int year = number_at(t, i, 4);
    size_t end = month_and_day(t, i + 4);
    struct tail tail = end == i + 4 ? tail_at(t, end) : (struct tail){0};
    int k = tail.value, low = year % 100;
    add_year(y, year, end);
    if (!tail.there) return end;
    bool month = k >= 1 && k <= 12;
    if (!(months && month) && (k == (low + 1) % 100 || (k > low && (!month || tail.spaced))))
        add_year(y, year / 100 * 100 + k + (k < low ? 100 : 0), tail.end);
    else if (month)
        y->end = tail.end;
    else
        return end;
    return tail.end;
}

static bool is_year(const struct plain *t, size_t i) {
    if (digits_at(t, i) != 4 || is_digit(before(t, i))) return false;
    int v = number_at(t, i, 4);
    return v >= 1600 && v < 2100;
}

/* "20140901" and "201409". */
static bool is_compact_date(const struct plain *t, size_t i) {
    size_t n = digits_at(t, i);
    if ((n != 6 && n != 8) || is_digit(before(t, i))) return false;
    int year = number_at(t, i, 4), month = number_at(t, i + 4, 2);
    return year >= 1900 && year < 2100 && month >= 1 && month <= 12;
}

/* "20142018", from columns that were run together. */
static bool is_double_year(const struct plain *t, size_t i) {
    if (digits_at(t, i) != 8 || is_digit(before(t, i))) return false;
    int first = number_at(t, i, 4), last = number_at(t, i + 4, 4);
    return first >= 1900 && first <= last && last < 2100;
}

static void find_years(const struct plain *t, struct years *y) {
    size_t n_tail = 0;
    for (size_t i = 0; i < t->n; i++)
        if (is_year(t, i) && month_and_day(t, i + 4) == i + 4) n_tail += tail_at(t, i + 4).there;
    for (size_t i = 0; i < t->n;) {
        size_t n = digits_at(t, i);
        if (is_year(t, i)) {
            i = take_year(t, i, n_tail > 1, y);
        } else if (is_compact_date(t, i)) {
            add_year(y, number_at(t, i, 4), i + n);
            i += n;
        } else if (is_double_year(t, i)) {
            add_year(y, number_at(t, i, 4), i + 4);
            add_year(y, number_at(t, i + 4, 4), i + n);
            i += n;
        } else if (at(t, i) == '\'' && digits_at(t, i + 1) == 2 && !is_letter(before(t, i)) &&
                   !is_digit(before(t, i))) {
            add_year(y, century(number_at(t, i + 1, 2)), i + 3);
            i += 3;
        } else {
            i += n ? n : 1;
        }
    }
}

/* Without a year of four digits: "09/14 - 06/18" and "Sep 14 - Jun 18", or nothing but "14" or
 * "14-18". */
static void find_short_years(const struct plain *t, struct years *y) {
    size_t n_group = 0, n_other = 0;
    for (size_t i = 0; i < t->n;) {
        size_t n = digits_at(t, i);
        int32_t left = before(t, i), left2 = i > 1 ? t->c[i - 2] : 0;
        bool after_month = (is_date_mark(left) && left != '-' && is_digit(left2)) ||
                           ((left == ' ' || left == '-') && (is_letter(left2) || left2 == '.'));
        bool followed = is_date_mark(at(t, i + n)) && at(t, i + n) != '-' && at(t, i + n) != '.';
        if (n == 2 && after_month && !followed) add_year(y, century(number_at(t, i, 2)), i + 2);
        n_group += n > 0;
        n_other += is_letter(at(t, i)) || n > 2 || (n == 1);
        i += n ? n : 1;
    }
    if (y->n > 0 || n_other > 0 || n_group < 1 || n_group > 2) return;
    for (size_t i = 0; i < t->n; i++)
        if (digits_at(t, i) == 2 && !is_digit(before(t, i)))
            add_year(y, century(number_at(t, i, 2)), i + 2);
}

/* ---- what is said about them ---- */

/* "2019 -", "2019 – ?": the end is left open. */
static bool ends_open(const struct plain *t, size_t i) {
    bool dash = false;
    for (; i < t->n; i++) {
        int32_t c = t->c[i];
        if (c == '-' || c == 0x2192) dash = true;
        if (c != '-' && c != '>' && c != ' ' && c != '?' && c != '.' && c != 0x2192) return false;
    }
    return dash;
}

static bool is_since(const struct plain *t, size_t year_end) {
    size_t i = skip_blank(t, 0);
    while (at(t, i) == '(' || at(t, i) == '[') i = skip_blank(t, i + 1);
    return WORD_AT(t, i, since_words) || WORD_FROM(t, year_end, onward_words);
}

/* Is there a dash or "to" between the last year and the word for the present? */
static bool range_goes_on(const struct plain *t, size_t i) {
    static const char *const to[] = {"to", "till", "until", "bis", "a",
                                     "al", "à",    "до",    "по",  "至"};
    i = skip_blank(t, i);
    return at(t, i) == '-' || WORD_AT(t, i, to);
}

void sp_year_parse(const char *text, size_t n, int *start_year, int *end_year) {
    struct plain t;
    struct years y = {.n = 0};
    *start_year = *end_year = 0;
    plain_from(&t, text, n, YEAR_TEXT_MAX);
    find_years(&t, &y);
    if (y.n == 0) find_short_years(&t, &y);
    if (y.n == 0) {
        if (WORD_FROM(&t, 0, present_words)) *end_year = SP_YEAR_PRESENT;
    } else if (y.n == 1) {
        bool open = WORD_FROM(&t, 0, present_words) || ends_open(&t, y.end) || is_since(&t, y.end);
        if (open) *start_year = y.year[0];
        *end_year = open ? SP_YEAR_PRESENT : y.year[0];
    } else {
        bool open = range_goes_on(&t, y.end) && WORD_FROM(&t, y.end, present_words);
        *start_year = y.year[0];
        *end_year = open || ends_open(&t, y.end) ? SP_YEAR_PRESENT : y.year[y.n - 1];
    }
}
