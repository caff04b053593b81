/* Gathering: one document of a scores stream. */
#include "gather.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

/* ---- HEAD ---- */

static const struct {
    const char *name;
    enum sp_head_type type;
} head_types[] = {{"lm", SP_HEAD_LM}, {"tag", SP_HEAD_TAG}, {"class", SP_HEAD_CLASS}};

static bool read_type(struct sp_head *head, const struct sp_record *rec) {
    const char *s;
    size_t n;
    if (!sp_record_get_str(rec, "type", &s, &n)) return false;
    for (size_t i = 0; i < sizeof head_types / sizeof *head_types; i++)
        if (strlen(head_types[i].name) == n && memcmp(head_types[i].name, s, n) == 0) {
            head->type = head_types[i].type;
            return true;
        }
    return false;
}

static enum sp_gives read_gives(const struct sp_record *rec) {
    char gives[SP_NAME_MAX] = "";
    struct sp_error none;
    sp_record_copy_str(rec, "gives", gives, sizeof gives, &none);
    return strcmp(gives, "surprisal") == 0 ? SP_GIVES_SURPRISAL
           : strcmp(gives, "choices") == 0 ? SP_GIVES_CHOICES
                                           : SP_GIVES_SCORES;
}

/* An array of short strings. */
static bool read_labels(struct sp_head *head, const struct sp_record *rec) {
    const void *raw;
    size_t n;
    struct sp_wire_item item;
    if (!sp_record_get_raw(rec, "labels", &raw, &n)) return false;
    const uint8_t *p = raw, *end = p + n;
    if (sp_wire_item(p, n, &item) != SP_WIRE_COMPLETE || item.type != SP_WIRE_ARRAY ||
        item.count < 1 || item.count > SP_LABELS_MAX)
        return false;
    head->n_label = (uint32_t)item.count;
    p += item.head;
    for (uint32_t i = 0; i < head->n_label; i++) {
        if (sp_wire_item(p, (size_t)(end - p), &item) != SP_WIRE_COMPLETE ||
            item.type != SP_WIRE_STR || item.body >= SP_NAME_MAX ||
            item.head + item.body > (size_t)(end - p))
            return false;
        memcpy(head->label[i], p + item.head, item.body);
        head->label[i][item.body] = 0;
        p += item.head + item.body;
    }
    return true;
}

void sp_gather_head_clear(struct sp_gather_head *h) {
    free(h->transitions);
    *h = (struct sp_gather_head){0};
}

static enum sp_code read_transitions(struct sp_gather_head *h, struct sp_record *rec,
                                     struct sp_error *err) {
    uint64_t n_label = h->head.n_label, dim[2] = {n_label + 2, n_label};
    struct sp_tensor *t;
    if (!sp_record_tensor(rec, "transitions")) return SP_OK;
    enum sp_code code = sp_record_need_tensor(rec, "transitions", SP_F32, 2, dim, &t, err);
    if (code) return code;
    h->transitions = malloc(t->n_bytes);
    if (!h->transitions) return sp_error_memory(err, "transitions");
    memcpy(h->transitions, t->data, t->n_bytes);
    return SP_OK;
}

static enum sp_code read_floats(struct sp_record *rec, const char *name, float *out, uint64_t n,
                                struct sp_error *err) {
    struct sp_tensor *t;
    if (!sp_record_tensor(rec, name)) return SP_OK;
    enum sp_code code = sp_record_need_tensor(rec, name, SP_F32, 1, &n, &t, err);
    if (!code) memcpy(out, t->data, n * sizeof *out);
    return code;
}

enum sp_code sp_gather_head_read(struct sp_gather_head *h, struct sp_record *rec,
                                 struct sp_error *err) {
    sp_gather_head_clear(h);
    uint64_t delay = 0;
    enum sp_code code = sp_record_copy_str(rec, "name", h->head.name, sizeof h->head.name, err);
    if (code) return sp_error_prefix(err, "HEAD");
    if (!read_type(&h->head, rec))
        return sp_error_set(err, SP_E_DATA, "HEAD '%s' is not of type lm, tag or class",
                            h->head.name);
    if (h->head.type == SP_HEAD_LM) {
        h->gives = read_gives(rec);
        return SP_OK;
    }
    sp_record_get_u64(rec, "delay", &delay);
    if (!read_labels(&h->head, rec) || delay > UINT32_MAX)
        return sp_error_set(err, SP_E_DATA, "HEAD '%s' has no list of 1 to %d labels", h->head.name,
                            SP_LABELS_MAX);
    h->delay = (uint32_t)delay;
    code = read_floats(rec, "doubt", h->head.doubt, SP_RECORD_KINDS, err);
    if (!code) code = read_floats(rec, "calibration", h->head.calibration, 2, err);
    return code ? code : read_transitions(h, rec, err);
}

/* ---- documents ---- */

/* Room for `need` elements of `size` bytes; doubles, so that adding is linear. */
static bool grow(void **p, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return true;
    size_t n = *cap < 1024 ? 1024 : *cap;
    while (n < need && n <= SIZE_MAX / 2) n *= 2;
    if (n < need || n > SIZE_MAX / size) return false;
    void *q = realloc(*p, n * size);
    if (!q) return false;
    *p = q;
    *cap = n;
    return true;
}

enum sp_code sp_gather_start(struct sp_gather *g, const struct sp_record *rec,
                             const struct sp_gather_head *h, struct sp_error *err) {
    const char *id = "";
    size_t n_label = h->head.type == SP_HEAD_LM ? 1 : h->head.n_label;
    g->name = h->head.type == SP_HEAD_LM ? "surprisal" : "scores";
    size_t n = 0;
    sp_record_get_str(rec, "id", &id, &n);
    char *copy = malloc(n + 1);
    if (!copy) return sp_error_memory(err, "a document");
    memcpy(copy, id, n);
    copy[n] = 0;
    free(g->id);
    g->id = copy;
    if (n_label != g->n_label) { /* the arrays' rows are of another size now */
        free(g->span);
        free(g->scores);
        g->span = NULL;
        g->scores = NULL;
        g->cap = 0;
        g->n_label = n_label;
    }
    g->n_text = g->n = 0;
    g->pass = 0;
    return SP_OK;
}

static enum sp_code add_text(struct sp_gather *g, struct sp_record *rec, struct sp_error *err) {
    const struct sp_tensor *t = sp_record_tensor(rec, "text");
    uint64_t off = 0;
    sp_record_get_u64(rec, "off", &off);
    if (!t || t->n_bytes == 0) return SP_OK;
    if (g->n_text == 0) g->text_start = off;
    uint64_t next = g->text_start + g->n_text;
    if (off < next && off >= g->text_start && t->n_bytes <= next - off) return SP_OK; /* again */
    if (off != next)
        return sp_error_set(err, SP_E_DATA, "its text jumps from byte %llu to %llu",
                            (unsigned long long)next, (unsigned long long)off);
    if (t->n_bytes > g->text_max - g->n_text)
        return sp_error_set(err, SP_E_DATA,
                            "its text is longer than %zu bytes: allow more with --max-doc, or cut "
                            "it into documents",
                            g->text_max);
    void *p = g->text;
    if (!grow(&p, &g->cap_text, g->n_text + t->n_bytes, 1))
        return sp_error_memory(err, "a document");
    g->text = p;
    memcpy(g->text + g->n_text, t->data, t->n_bytes);
    g->n_text += t->n_bytes;
    return SP_OK;
}

/* One capacity serves both arrays: cap changes only when both have grown. */
static bool grow_rows(struct sp_gather *g, size_t need) {
    size_t cap = g->cap;
    void *p = g->span;
    if (!grow(&p, &cap, need, 2 * sizeof *g->span)) return false;
    g->span = p;
    cap = g->cap;
    p = g->scores;
    if (!grow(&p, &cap, need, g->n_label * sizeof *g->scores)) return false;
    g->scores = p;
    g->cap = cap;
    return true;
}

static enum sp_code check_spans(const struct sp_gather *g, const uint64_t *span, size_t n,
                                struct sp_error *err) {
    for (size_t i = 0; i < n; i++) {
        uint64_t start = span[2 * i], end = span[2 * i + 1];
        if (start > end || (start < end && (g->n_text == 0 || start < g->text_start ||
                                            end > g->text_start + g->n_text)))
            return sp_error_set(err, SP_E_DATA,
                                "the span %llu-%llu of a token is not in the text before it",
                                (unsigned long long)start, (unsigned long long)end);
    }
    return SP_OK;
}

static enum sp_code add_chunk(struct sp_gather *g, struct sp_record *rec, struct sp_error *err) {
    uint64_t pass = 0, dim[2] = {0, g->n_label};
    struct sp_tensor *scores, *span;
    sp_record_get_u64(rec, "pass", &pass);
    if (!sp_record_tensor(rec, g->name) || pass < g->pass) return SP_OK;
    uint32_t rank = strcmp(g->name, "scores") == 0 ? 2 : 1;
    enum sp_code code = sp_record_need_tensor(rec, g->name, SP_F32, rank, dim, &scores, err);
    dim[0] = 0;
    dim[1] = 2;
    if (!code) code = sp_record_need_tensor(rec, "span", SP_U64, 2, dim, &span, err);
    if (code) return code;
    size_t n = (size_t)scores->dim[0];
    if (pass > g->pass) g->n = 0;
    g->pass = pass;
    code = check_spans(g, span->data, n, err);
    if (code) return code;
    if (n > SP_GATHER_SCORES_MAX / (g->n_label * sizeof(float)) - g->n)
        return sp_error_set(err, SP_E_DATA,
                            "its %zu tokens have more than %zu bytes of scores: cut it into "
                            "documents",
                            g->n + n, SP_GATHER_SCORES_MAX);
    if (!grow_rows(g, g->n + n)) return sp_error_memory(err, "a document");
    const uint64_t *from = span->data;
    for (size_t i = 0; i < 2 * n; i++) /* padding has no width and no place */
        g->span[2 * g->n + i] = from[i] > g->text_start ? from[i] - g->text_start : 0;
    memcpy(g->scores + g->n * g->n_label, scores->data, n * g->n_label * sizeof *g->scores);
    g->n += n;
    return SP_OK;
}

enum sp_code sp_gather_add(struct sp_gather *g, struct sp_record *rec, struct sp_error *err) {
    if (rec->kind == SP_KIND_TEXT) return add_text(g, rec, err);
    if (rec->kind == SP_KIND_CHUNK) return add_chunk(g, rec, err);
    return SP_OK;
}

static enum sp_code reserve_tags(struct sp_gather *g, size_t n, struct sp_error *err) {
    if (n <= g->cap_tag) return SP_OK;
    free(g->tag);
    free(g->p);
    free(g->joined);
    g->tag = calloc(n, sizeof *g->tag);
    g->p = calloc(n, sizeof *g->p);
    g->joined = calloc(n, sizeof *g->joined);
    g->cap_tag = g->tag && g->p && g->joined ? n : 0;
    return g->cap_tag ? SP_OK : sp_error_memory(err, "a document");
}

/* Tokens of a span are right together or not at all, but each has its doubt counted: a sequence of
 * likeliest tags leaves out spans that are likelier there than not. Tags of other fields count as
 * none. */
static void favour_fields(const struct sp_head *head, double recall, float *bonus) {
    for (uint32_t i = 0; i < head->n_label; i++) {
        const char *label = head->label[i];
        bonus[i] = 0;
        for (int f = 0; f < SP_FIELD_COUNT; f++)
            if (label[0] && label[1] == '-' &&
                strcmp(label + 2, sp_field_name((enum sp_field)f)) == 0)
                bonus[i] = (float)recall;
    }
}

enum sp_code sp_gather_decode(struct sp_gather *g, const struct sp_gather_head *h,
                              struct sp_records *out, struct sp_error *err) {
    if (h->head.n_label != g->n_label)
        return sp_error_set(err, SP_E_BUG, "a document of %zu labels, a head of %u", g->n_label,
                            h->head.n_label);
    size_t delay = h->delay, n = g->n > delay ? g->n - delay : 0; /* the rest was padding */
    enum sp_code code = reserve_tags(g, n, err);
    if (code) return code;
    sp_words_join(g->span, n, g->text, g->n_text, g->joined);
    float bonus[SP_LABELS_MAX];
    favour_fields(&h->head, g->recall, bonus);
    struct sp_tag_rules rules = {
        .transitions = h->transitions, .bonus = bonus, .joined = g->joined};
    code = sp_viterbi(&h->head, n > 0 ? g->scores + delay * g->n_label : NULL, n, &rules, g->tag,
                      g->p, err);
    if (code) return code;
    return sp_records_from_tags(&h->head, g->tag, g->p, g->span, n, g->text, g->n_text, out, err);
}

void sp_gather_clear(struct sp_gather *g) {
    free(g->id);
    free(g->text);
    free(g->span);
    free(g->scores);
    free(g->tag);
    free(g->p);
    free(g->joined);
    *g = (struct sp_gather){.text_max = g->text_max, .recall = g->recall};
}
