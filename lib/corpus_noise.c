/* What copying, converting and scanning do to a CV. Each pass rewrites the whole document; gold
 * spans follow. */
#include "corpus_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef bool (*noise_pass)(struct sp_text *t, uint64_t *random);

static bool is_word(char ch) {
    return isalnum((unsigned char)ch) || (uint8_t)ch >= 0x80;
}

/* Every line end as CR LF. */
static bool pass_crlf(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        if (t->s[i] == '\n') sp_edit_insert(&e, "\r", 1);
        sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Lines run together, as when a form field swallows them. */
static bool pass_flat(struct sp_text *t, uint64_t *random) {
    const char *gap = sp_draw_percent(random, 50) ? "  " : " ";
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        if (t->s[i] == '\n')
            sp_edit_replace(&e, i, gap, strlen(gap));
        else
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Some line ends lost, others put where a space was. */
static bool pass_rewrap(struct sp_text *t, uint64_t *random) {
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        bool single = i && i + 1 < t->n && t->s[i - 1] != '\n' && t->s[i + 1] != '\n';
        if (t->s[i] == '\n' && single && sp_draw_percent(random, 15))
            sp_edit_replace(&e, i, " ", 1);
        else if (t->s[i] == ' ' && single && t->s[i - 1] != ' ' && t->s[i + 1] != ' ' &&
                 sp_draw_percent(random, 3))
            sp_edit_replace(&e, i, "\n", 1);
        else
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

static bool pass_blank_lines(struct sp_text *t, uint64_t *random) {
    uint32_t percent = 20 + sp_draw_below(random, 80);
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        sp_edit_keep(&e, i, 1);
        bool single = i + 1 < t->n && t->s[i + 1] != '\n' && i && t->s[i - 1] != '\n';
        if (t->s[i] == '\n' && single && sp_draw_percent(random, percent))
            sp_edit_insert(&e, "\n", 1);
    }
    return sp_edit_finish(&e);
}

static bool pass_no_blank_lines(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++)
        if (t->s[i] != '\n' || !i || t->s[i - 1] != '\n') sp_edit_keep(&e, i, 1);
    return sp_edit_finish(&e);
}

/* Double, missing, trailing and non-breaking spaces. */
static bool pass_spaces(struct sp_text *t, uint64_t *random) {
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        uint32_t x = sp_draw_below(random, 1000);
        if (t->s[i] == ' ' && x < 6) continue;
        if (t->s[i] == ' ' && x < 40) sp_edit_insert(&e, " ", 1);
        if (t->s[i] == ' ' && x >= 990)
            sp_edit_replace(&e, i, "\xC2\xA0", 2);
        else {
            if (t->s[i] == '\n' && x < 150) sp_edit_insert(&e, "  ", 1 + x % 2);
            sp_edit_keep(&e, i, 1);
        }
    }
    return sp_edit_finish(&e);
}

static bool pass_nbsp(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        if (t->s[i] == ' ')
            sp_edit_replace(&e, i, "\xC2\xA0", 2);
        else
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Letters that scanners take for others. */
static bool pass_ocr(struct sp_text *t, uint64_t *random) {
    static const char *const pair[][2] = {{"l", "1"},  {"I", "l"}, {"O", "0"}, {"rn", "m"},
                                          {"m", "rn"}, {"e", "c"}, {"S", "5"}, {"ti", "ﬁ"},
                                          {"fi", "ﬁ"}, {".", ","}, {"h", "b"}, {"0", "O"}};
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n;) {
        const char *const *p = pair[sp_draw_below(random, sizeof pair / sizeof *pair)];
        size_t n = strlen(p[0]);
        bool hit = i + n <= t->n && memcmp(t->s + i, p[0], n) == 0 && sp_draw_percent(random, 8);
        if (hit)
            sp_edit_replace(&e, i, p[1], strlen(p[1]));
        else
            sp_edit_keep(&e, i, n = 1);
        i += n;
    }
    return sp_edit_finish(&e);
}

static bool pass_ligatures(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        bool f = i + 1 < t->n && t->s[i] == 'f';
        if (f && (t->s[i + 1] == 'i' || t->s[i + 1] == 'l')) {
            sp_edit_replace(&e, i, t->s[i + 1] == 'i' ? "ﬁ" : "ﬂ", 3);
            i++;
        } else {
            sp_edit_keep(&e, i, 1);
        }
    }
    return sp_edit_finish(&e);
}

/* A letter lost, doubled or swapped with its neighbour. */
static bool pass_typos(struct sp_text *t, uint64_t *random) {
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        bool letters =
            i + 1 < t->n && isalpha((unsigned char)t->s[i]) && isalpha((unsigned char)t->s[i + 1]);
        uint32_t x = letters ? sp_draw_below(random, 1000) : 1000;
        if (x == 0) continue;
        if (x == 1) sp_edit_keep(&e, i, 1);
        if (x == 2) {
            sp_edit_replace(&e, i, t->s + i + 1, 1);
            sp_edit_replace(&e, i + 1, t->s + i, 1);
            i++;
            continue;
        }
        sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Words broken at line ends: inside long words a soft hyphen, or a hyphen and a line end. */
static bool pass_hyphens(struct sp_text *t, uint64_t *random) {
    bool soft = sp_draw_percent(random, 50);
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0, run = 0; i < t->n; i++) {
        run = isalpha((unsigned char)t->s[i]) ? run + 1 : 0;
        sp_edit_keep(&e, i, 1);
        bool inside = run > 3 && i + 3 < t->n && isalpha((unsigned char)t->s[i + 1]) &&
                      isalpha((unsigned char)t->s[i + 2]) && isalpha((unsigned char)t->s[i + 3]);
        if (inside && sp_draw_percent(random, 1)) {
            if (soft)
                sp_edit_insert(&e, "\xC2\xAD", 2);
            else
                sp_edit_insert(&e, "-\n", 2);
            run = 0;
        }
    }
    return sp_edit_finish(&e);
}

/* Dashes and quotes as a keyboard has them. */
static bool pass_plain(struct sp_text *t, uint64_t *random) {
    static const char *const pair[][2] = {{"–", "-"},  {"—", "-"},  {"’", "'"}, {"‘", "'"},
                                          {"“", "\""}, {"”", "\""}, {"•", "*"}, {"·", "-"}};
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n;) {
        size_t k = 0, n_pair = sizeof pair / sizeof *pair, n = 1;
        while (k < n_pair && strncmp(t->s + i, pair[k][0], strlen(pair[k][0])) != 0) k++;
        if (k < n_pair) {
            n = strlen(pair[k][0]);
            sp_edit_replace(&e, i, pair[k][1], 1);
        } else {
            sp_edit_keep(&e, i, 1);
        }
        i += n;
    }
    return sp_edit_finish(&e);
}

/* Bytes outside ASCII lost, as a wrong encoding does. */
static bool pass_mojibake(struct sp_text *t, uint64_t *random) {
    static const char *const signs[] = {"?", "\xEF\xBF\xBD", " "};
    const char *sign = signs[sp_draw_below(random, 3)];
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0, next; i < t->n; i = next) {
        next = sp_utf8_next(t->s, i, t->n);
        if (next - i > 1)
            sp_edit_replace(&e, i, sign, strlen(sign));
        else
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Bytes outside ASCII written out, as some exports do: \xe2\x80\xa2. */
static bool pass_escapes(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        char written[8];
        if ((uint8_t)t->s[i] < 0x80) {
            sp_edit_keep(&e, i, 1);
        } else {
            snprintf(written, sizeof written, "\\x%02x", (uint8_t)t->s[i]);
            sp_edit_replace(&e, i, written, 4);
        }
    }
    return sp_edit_finish(&e);
}

/* Signs as HTML writes them. */
static bool pass_entities(struct sp_text *t, uint64_t *random) {
    const char *quote = sp_draw_percent(random, 50) ? "&#39;" : "&apos;";
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        const char *name = t->s[i] == '&'    ? "&amp;"
                           : t->s[i] == '\'' ? quote
                           : t->s[i] == '"'  ? "&quot;"
                                             : NULL;
        if (name)
            sp_edit_replace(&e, i, name, strlen(name));
        else
            sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

/* Words run together at commas and dashes. */
static bool pass_tight(struct sp_text *t, uint64_t *random) {
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        bool after = t->s[i] == ' ' && i && !is_word(t->s[i - 1]);
        if (!after || !sp_draw_percent(random, 25)) sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

static bool pass_margin(struct sp_text *t, uint64_t *random) {
    static const char blank[] = "                ";
    size_t width = 1 + sp_draw_below(random, 16);
    struct sp_edit e;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        if ((!i || t->s[i - 1] == '\n') && t->s[i] != '\n') sp_edit_insert(&e, blank, width);
        sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

static bool pass_no_margin(struct sp_text *t, uint64_t *random) {
    (void)random;
    struct sp_edit e;
    bool start = true;
    sp_edit_start(&e, t, 0);
    for (size_t i = 0; i < t->n; i++) {
        if (start && t->s[i] == ' ') continue;
        start = t->s[i] == '\n';
        sp_edit_keep(&e, i, 1);
    }
    return sp_edit_finish(&e);
}

static const struct {
    const char *name;
    noise_pass pass;
} pass_table[] = {
    {"crlf", pass_crlf},
    {"flat", pass_flat},
    {"rewrap", pass_rewrap},
    {"blank_lines", pass_blank_lines},
    {"no_blank_lines", pass_no_blank_lines},
    {"spaces", pass_spaces},
    {"nbsp", pass_nbsp},
    {"ocr", pass_ocr},
    {"ligatures", pass_ligatures},
    {"typos", pass_typos},
    {"hyphens", pass_hyphens},
    {"plain", pass_plain},
    {"mojibake", pass_mojibake},
    {"escapes", pass_escapes},
    {"entities", pass_entities},
    {"tight", pass_tight},
    {"margin", pass_margin},
    {"no_margin", pass_no_margin},
};

bool sp_noise_apply(struct sp_text *t, uint64_t *random, const char *name, size_t n) {
    for (size_t i = 0; i < sizeof pass_table / sizeof *pass_table; i++)
        if (strlen(pass_table[i].name) == n && memcmp(pass_table[i].name, name, n) == 0)
            return pass_table[i].pass(t, random);
    return false;
}
