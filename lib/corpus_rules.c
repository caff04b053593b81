/* Rules and lists: read from files, put into a hash table. */
#include "corpus_internal.h"
#include "io.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)8 << 20)
#define RULES_MAX 60000
#define FILES_MAX 256
#define HELDOUT_ONE_IN 10 /* lines of a list */

static uint64_t hash_name(const char *s, size_t n) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return h ^ (h >> 32);
}

static uint32_t *find_slot(const struct sp_corpus *c, const char *name, size_t n) {
    uint32_t i = (uint32_t)hash_name(name, n) & (c->n_slot - 1);
    for (; c->slot[i]; i = (i + 1) & (c->n_slot - 1)) {
        const char *other = c->rule[c->slot[i] - 1].name;
        if (strncmp(other, name, n) == 0 && !other[n]) break;
    }
    return &c->slot[i];
}

const struct sp_rule *sp_rule_find(const struct sp_corpus *c, const char *name, size_t n) {
    if (n >= SP_RULE_NAME_MAX) return NULL;
    uint32_t slot = *find_slot(c, name, n);
    return slot ? &c->rule[slot - 1] : NULL;
}

static void *grow(void *p, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) return p;
    uint32_t wanted = *cap ? *cap * 2 : 16;
    void *q = reallocarray(p, wanted, size);
    if (q) *cap = wanted;
    return q;
}

/* The rule of that name, made when it is new. NULL: no memory. */
struct sp_rule *sp_rule_get(struct sp_corpus *c, const char *name, size_t n) {
    uint32_t *slot = find_slot(c, name, n);
    if (*slot) return &c->rule[*slot - 1];
    if (c->n_rule >= RULES_MAX) return NULL;
    struct sp_rule *rule = grow(c->rule, c->n_rule, &c->cap_rule, sizeof *rule);
    if (!rule) return NULL;
    c->rule = rule;
    rule += c->n_rule++;
    *slot = c->n_rule;
    memset(rule, 0, sizeof *rule);
    rule->style = c->n_rule - 1;
    memcpy(rule->name, name, n);
    return rule;
}

bool sp_rule_add(struct sp_rule *r, struct sp_slice body, uint32_t weight, bool heldout) {
    if (!r) return false;
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? r->cap * 2 : 4;
        struct sp_slice *b = reallocarray(r->body, cap, sizeof *b);
        if (b) r->body = b;
        uint32_t *w = reallocarray(r->weight, cap, sizeof *w);
        if (w) r->weight = w;
        bool *h = reallocarray(r->heldout, cap, sizeof *h);
        if (h) r->heldout = h;
        if (!b || !w || !h) return false;
        r->cap = cap;
    }
    r->body[r->n] = body;
    r->weight[r->n] = weight;
    r->heldout[r->n++] = heldout;
    return true;
}

static struct sp_slice trimmed(struct sp_slice s) {
    while (s.n && (*s.s == ' ' || *s.s == '\t')) s.s++, s.n--;
    while (s.n && (s.s[s.n - 1] == ' ' || s.s[s.n - 1] == '\t' || s.s[s.n - 1] == '\r')) s.n--;
    return s;
}

static bool next_line(const char **at, const char *end, struct sp_slice *line) {
    if (*at >= end) return false;
    const char *nl = memchr(*at, '\n', (size_t)(end - *at));
    const char *stop = nl ? nl : end;
    *line = (struct sp_slice){*at, (size_t)(stop - *at)};
    *at = nl ? nl + 1 : end;
    return true;
}

static struct sp_slice column(struct sp_slice line, int number) {
    const char *end = line.s + line.n;
    for (const char *s = line.s; s <= end; number--) {
        const char *tab = memchr(s, '\t', (size_t)(end - s));
        const char *stop = tab ? tab : end;
        if (number == 1) return (struct sp_slice){s, (size_t)(stop - s)};
        s = stop + 1;
    }
    return (struct sp_slice){end, 0};
}

/* Without a byte order mark, and lines end in a line feed alone: some editors write others. */
static void plain_lines(char *text, size_t *n) {
    static const char mark[] = "\xEF\xBB\xBF";
    size_t from = *n >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0, to = 0;
    if (from == 0 && !memchr(text, '\r', *n)) return;
    for (; from < *n; from++)
        if (text[from] != '\r' || from + 1 == *n || text[from + 1] != '\n') text[to++] = text[from];
    *n = to;
}

enum sp_code sp_rule_load_text(struct sp_corpus *c, const char *name, char **text, size_t *n,
                               struct sp_error *err) {
    char path[4096];
    enum sp_code code = sp_path_join(path, sizeof path, c->dir, name, err);
    if (code) return code;
    struct sp_corpus_file *file =
        c->n_file < FILES_MAX ? grow(c->file, c->n_file, &c->cap_file, sizeof *file) : 0;
    if (!file) return sp_error_set(err, SP_E_DATA, "%s: too many files", c->dir);
    c->file = file;
    code = sp_io_slurp(text, n, path, FILE_BYTES_MAX, err);
    if (code) return code;
    plain_lines(*text, n);
    file += c->n_file++;
    *file = (struct sp_corpus_file){.text = *text, .n = *n};
    snprintf(file->name, sizeof file->name, "%s", name);
    return SP_OK;
}

/* A list: "NAME < FILE" takes column 1 of every line; "NAME < FILE by K" makes rules NAME.VALUE,
 * one for each value of column K. */
static enum sp_code load_list(struct sp_corpus *c, const char *name, struct sp_slice spec,
                              struct sp_error *err) {
    char file[128];
    int by = 0;
    const char *cut = memchr(spec.s, ' ', spec.n);
    size_t n_file = cut ? (size_t)(cut - spec.s) : spec.n;
    if (n_file >= sizeof file || memchr(spec.s, '/', n_file) ||
        (cut && sscanf(cut, " by %d", &by) != 1))
        return sp_error_set(err, SP_E_DATA, "'%.*s' is not FILE or FILE by COLUMN", (int)spec.n,
                            spec.s);
    memcpy(file, spec.s, n_file);
    file[n_file] = 0;
    char *text;
    size_t n;
    enum sp_code code = sp_rule_load_text(c, file, &text, &n, err);
    if (code) return code;
    struct sp_slice line;
    for (const char *at = text; next_line(&at, text + n, &line);) {
        struct sp_slice value = trimmed(column(line, 1)), key = trimmed(column(line, by));
        if (!value.n || *line.s == '#' || (by && !key.n)) continue;
        char full[SP_RULE_NAME_MAX];
        int len = by ? snprintf(full, sizeof full, "%s.%.*s", name, (int)key.n, key.s)
                     : snprintf(full, sizeof full, "%s", name);
        struct sp_rule *r = len < (int)sizeof full ? sp_rule_get(c, full, (size_t)len) : NULL;
        bool heldout = hash_name(value.s, value.n) % HELDOUT_ONE_IN == 0;
        if (!r || !sp_rule_add(r, value, 1, heldout))
            return sp_error_set(err, SP_E_DATA, "%s: too many or too long names", file);
        r->literal = true;
    }
    return SP_OK;
}

/* "NAME as STYLE": a once rule that takes the same alternative as all others of that style. */
static enum sp_code share_style(struct sp_corpus *c, struct sp_rule *r, struct sp_slice style,
                                struct sp_rule **rule, struct sp_error *err) {
    uint32_t index = (uint32_t)(r - c->rule);
    const struct sp_rule *shared =
        style.n < SP_RULE_NAME_MAX ? sp_rule_get(c, style.s, style.n) : NULL;
    if (!shared) return sp_error_set(err, SP_E_DATA, "'%.*s' is no name", (int)style.n, style.s);
    *rule = &c->rule[index];
    (*rule)->mode = SP_RULE_ONCE;
    (*rule)->style = (uint32_t)(shared - c->rule);
    return SP_OK;
}

/* "NAME", "NAME once", "NAME fixed", "NAME < FILE ...": the line that begins a rule. */
static enum sp_code parse_head(struct sp_corpus *c, struct sp_slice line, struct sp_rule **rule,
                               struct sp_error *err) {
    char name[SP_RULE_NAME_MAX];
    size_t n = 0;
    while (n < line.n && line.s[n] != ' ') n++;
    if (n >= sizeof name || memchr(line.s, '%', n) || memchr(line.s, '{', n))
        return sp_error_set(err, SP_E_DATA, "'%.*s' is not a rule's name", (int)line.n, line.s);
    memcpy(name, line.s, n);
    name[n] = 0;
    struct sp_slice rest = trimmed((struct sp_slice){line.s + n, line.n - n});
    if (rest.n && *rest.s == '<') {
        *rule = NULL;
        return load_list(c, name, trimmed((struct sp_slice){rest.s + 1, rest.n - 1}), err);
    }
    *rule = sp_rule_get(c, name, n);
    if (!*rule) return sp_error_set(err, SP_E_DATA, "too many rules (at most %d)", RULES_MAX);
    if (rest.n == 4 && memcmp(rest.s, "once", 4) == 0)
        (*rule)->mode = SP_RULE_ONCE;
    else if (rest.n == 5 && memcmp(rest.s, "fixed", 5) == 0)
        (*rule)->mode = SP_RULE_FIXED;
    else if (rest.n > 3 && memcmp(rest.s, "as ", 3) == 0)
        return share_style(c, *rule, trimmed((struct sp_slice){rest.s + 3, rest.n - 3}), rule, err);
    else if (rest.n)
        return sp_error_set(err, SP_E_DATA, "'%.*s' is not once, fixed, as STYLE or < FILE",
                            (int)rest.n, rest.s);
    return SP_OK;
}

const char *sp_rule_unmatched(struct sp_slice s) {
    const char *open = NULL;
    int depth = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.s[i] == '\\')
            i++;
        else if (s.s[i] == '{' && depth++ == 0)
            open = s.s + i;
        else if (s.s[i] == '}' && --depth < 0)
            return s.s + i;
    }
    return depth ? open : NULL;
}

/* "[!][WEIGHT*] body". */
static enum sp_code parse_alternative(struct sp_rule *r, struct sp_slice line,
                                      struct sp_error *err) {
    bool heldout = line.n && *line.s == '!';
    if (heldout) line = trimmed((struct sp_slice){line.s + 1, line.n - 1});
    uint32_t weight = 1;
    size_t digits = 0;
    while (digits < line.n && isdigit((unsigned char)line.s[digits])) digits++;
    if (digits && digits < 6 && digits < line.n && line.s[digits] == '*') {
        weight = (uint32_t)strtoul(line.s, NULL, 10);
        digits += digits + 1 < line.n && line.s[digits + 1] == ' ' ? 2 : 1;
        line.s += digits; /* one space parts weight and body; more belong to the body */
        line.n -= digits;
    }
    if (weight == 0 || weight > SP_RULE_WEIGHT_MAX)
        return sp_error_set(err, SP_E_DATA, "weight not from 1 to %d", SP_RULE_WEIGHT_MAX);
    if (sp_rule_unmatched(line)) return sp_error_set(err, SP_E_DATA, "braces do not match");
    if (!sp_rule_add(r, line, weight, heldout)) return sp_error_memory(err, "the corpus");
    return SP_OK;
}

static enum sp_code load_rules(struct sp_corpus *c, const char *name, struct sp_error *err) {
    char *text;
    size_t n;
    enum sp_code code = sp_rule_load_text(c, name, &text, &n, err);
    struct sp_rule *rule = NULL;
    struct sp_slice line;
    const char *at = text;
    for (int number = 1; !code && next_line(&at, text + n, &line); number++) {
        bool indented = line.n && (*line.s == ' ' || *line.s == '\t');
        line = trimmed(line);
        if (!line.n || *line.s == '#') continue;
        if (!indented)
            code = parse_head(c, line, &rule, err);
        else if (rule)
            code = parse_alternative(rule, line, err);
        else
            code = sp_error_set(err, SP_E_DATA, "an alternative before any rule");
        if (code) sp_error_prefix(err, "%s/%s:%d", c->dir, name, number);
    }
    return code;
}

/* Drops what the split leaves out and makes weights cumulative. */
static void settle(struct sp_rule *r, enum sp_corpus_split split) {
    uint32_t n_heldout = 0, kept = 0, sum = 0;
    for (uint32_t i = 0; i < r->n; i++) n_heldout += r->heldout[i];
    bool only = split == SP_CORPUS_HELDOUT && n_heldout;
    bool without = split == SP_CORPUS_TRAIN && n_heldout < r->n;
    for (uint32_t i = 0; i < r->n; i++) {
        if ((only && !r->heldout[i]) || (without && r->heldout[i])) continue;
        sum += r->weight[i];
        r->body[kept] = r->body[i];
        r->weight[kept++] = sum;
    }
    r->n = kept;
}

static bool is_pages(const char *name) {
    size_t n = strlen(name);
    return n > 6 && strcmp(name + n - 6, ".pages") == 0;
}
static int is_ours(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return is_pages(d->d_name) || (n > 6 && strcmp(d->d_name + n - 6, ".rules") == 0);
}
/* Not alphasort, which follows the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

enum sp_code sp_corpus_open(struct sp_corpus **corpus, const char *dir, enum sp_corpus_split split,
                            struct sp_error *err) {
    *corpus = NULL;
    struct dirent **entry;
    int n = scandir(dir, &entry, is_ours, by_bytes);
    if (n <= 0) {
        if (n == 0) free(entry);
        return sp_error_set(err, SP_E_NOINPUT,
                            "%s: no *.rules files there; name their folder with "
                            "--corpus",
                            dir);
    }
    struct sp_corpus *c = calloc(1, sizeof *c);
    enum sp_code code = SP_OK;
    if (c) c->slot = calloc(1 << 17, sizeof *c->slot);
    if (c) c->dir = strdup(dir);
    if (!c || !c->slot || !c->dir) code = sp_error_memory(err, "the corpus");
    if (!code) c->n_slot = 1 << 17, c->split = split;
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        if (!code) code = (is_pages(name) ? sp_page_load : load_rules)(c, name, err);
        free(entry[i]);
    }
    free(entry);
    if (!code) code = sp_corpus_check(c, err);
    if (code) {
        sp_corpus_free(c);
        return code;
    }
    for (uint32_t i = 0; i < c->n_rule; i++) settle(&c->rule[i], split);
    *corpus = c;
    return SP_OK;
}

void sp_corpus_free(struct sp_corpus *c) {
    if (!c) return;
    for (uint32_t i = 0; i < c->n_rule; i++) {
        free(c->rule[i].body);
        free(c->rule[i].weight);
        free(c->rule[i].heldout);
    }
    for (uint32_t i = 0; i < c->n_file; i++) free(c->file[i].text);
    free(c->file);
    free(c->rule);
    free(c->slot);
    free(c->dir);
    free(c);
}
