/* Tasks: gold spans to tags. */
#include "../../lib/task.h"
#include "check.h"

/* ---- msgpack, as tokenize writes it ---- */

struct pack {
    uint8_t byte[65536];
    size_t n;
};

static void put(struct pack *p, int b) {
    p->byte[p->n++] = (uint8_t)b;
}
static void put_uint(struct pack *p, uint64_t v) {
    if (v < 128) {
        put(p, (int)v);
        return;
    }
    put(p, 0xcf);
    for (int i = 56; i >= 0; i -= 8) put(p, (int)(v >> i & 255));
}
static void put_array(struct pack *p, size_t n) {
    put(p, 0xdc);
    put(p, (int)(n >> 8));
    put(p, (int)(n & 255));
}
static void put_str(struct pack *p, const char *s) {
    put(p, (int)(0xa0 | strlen(s)));
    for (; *s; s++) put(p, *s);
}

struct span {
    uint64_t start, end;
    const char *label;
    int n_rec, rec[4];
};

static void pack_spans(struct pack *p, const struct span *s, size_t n) {
    p->n = 0;
    put_array(p, n);
    for (size_t i = 0; i < n; i++) {
        put_array(p, 4);
        put_uint(p, s[i].start);
        put_uint(p, s[i].end);
        put_str(p, s[i].label);
        put_array(p, (size_t)s[i].n_rec);
        for (int k = 0; k < s[i].n_rec; k++) put_uint(p, (uint64_t)s[i].rec[k]);
    }
}

static void head_init(struct sp_head *h, const char *const *label) {
    memset(h, 0, sizeof *h);
    snprintf(h->name, sizeof h->name, "tags");
    h->type = SP_HEAD_TAG;
    for (; label[h->n_label]; h->n_label++)
        snprintf(h->label[h->n_label], SP_NAME_MAX, "%s", label[h->n_label]);
}

static const char *const all_labels[] = {"O",
                                         "N-institution",
                                         "B-institution",
                                         "S-institution",
                                         "I-institution",
                                         "N-degree",
                                         "B-degree",
                                         "S-degree",
                                         "I-degree",
                                         "N-year",
                                         "B-year",
                                         "S-year",
                                         "I-year",
                                         NULL};
static const char *const plain_labels[] = {"O",        "B-institution", "I-institution",
                                           "B-degree", "I-degree",      NULL};

/* Tokens are the words of text (with the blank in front, as byte-level BPE has them); spans are
 * given as words too. The expected tags are written in the same order. */
struct gold_case {
    const char *name, *expect;
    size_t n_token, n_span;
    uint64_t token[12][2];
    struct span span[6];
};

static const struct gold_case gold_cases[] = {
    {"institution first, two degrees",
     "N-institution I-institution B-degree B-year S-degree B-year O",
     7,
     5,
     {{0, 10}, {10, 15}, {15, 18}, {18, 23}, {23, 27}, {27, 32}, {32, 40}},
     {{0, 15, "institution", 2, {0, 1}},
      {16, 18, "degree", 1, {0}},
      {19, 23, "year", 1, {0}},
      {24, 27, "degree", 1, {1}},
      {28, 32, "year", 1, {1}}}},
    {"institution last, two degrees, spans in any order and odd record numbers",
     "N-degree B-year S-degree B-year O B-institution I-institution",
     7,
     5,
     {{0, 3}, {3, 8}, {8, 12}, {12, 17}, {17, 20}, {20, 30}, {30, 40}},
     {{20, 40, "institution", 2, {900, 7}},
      {9, 12, "degree", 1, {900}},
      {13, 17, "year", 1, {900}},
      {4, 8, "year", 1, {7}},
      {0, 3, "degree", 1, {7}}}},
    {"shared institution in the middle",
     "N-degree B-institution S-degree",
     3,
     3,
     {{0, 5}, {5, 10}, {10, 15}},
     {{0, 5, "degree", 1, {0}}, {5, 10, "institution", 2, {1, 0}}, {10, 15, "degree", 1, {1}}}},
    {"two records that share nothing",
     "N-year B-degree B-institution N-year B-degree B-institution",
     6,
     6,
     {{0, 5}, {5, 10}, {10, 15}, {15, 20}, {20, 25}, {25, 30}},
     {{0, 5, "year", 1, {0}},
      {5, 10, "degree", 1, {0}},
      {10, 15, "institution", 1, {0}},
      {15, 20, "year", 1, {1}},
      {20, 25, "degree", 1, {1}},
      {25, 30, "institution", 1, {1}}}},
    {"half a token counts, less does not; no width counts inside",
     "N-degree I-degree I-degree O O",
     5,
     1,
     {{0, 4}, {5, 5}, {5, 8}, {8, 13}, {13, 13}},
     {{2, 10, "degree", 1, {0}}}},
    {"a span without a token begins no record",
     "O N-degree",
     2,
     2,
     {{0, 10}, {10, 13}},
     {{4, 6, "institution", 1, {0}}, {10, 13, "degree", 1, {0}}}},
    {"two passes are tagged alike",
     "O N-degree I-degree O N-degree I-degree",
     6,
     1,
     {{0, 4}, {4, 8}, {8, 12}, {0, 4}, {4, 8}, {8, 12}},
     {{4, 12, "degree", 1, {0}}}},
    {"touching spans of one field stay apart",
     "N-degree I-degree N-degree",
     3,
     2,
     {{0, 3}, {3, 6}, {6, 9}},
     {{0, 6, "degree", 1, {0}}, {6, 9, "degree", 1, {1}}}},
    {"overlapping spans: the earlier one has the bytes",
     "N-degree I-degree N-year",
     3,
     2,
     {{0, 4}, {4, 8}, {8, 12}},
     {{4, 12, "year", 1, {1}}, {0, 8, "degree", 1, {0}}}},
};

static void check_gold_case(const struct gold_case *c) {
    struct sp_head head;
    struct sp_error err;
    struct pack p;
    int32_t tag[12];
    char got[512] = "";
    head_init(&head, all_labels);
    pack_spans(&p, c->span, c->n_span);
    enum sp_code code =
        sp_tags_from_spans(&head, p.byte, p.n, &c->token[0][0], c->n_token, tag, &err);
    for (size_t i = 0; !code && i < c->n_token; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "",
                 tag[i] < 0 ? "-1" : head.label[tag[i]]);
    check_ok(!code && strcmp(got, c->expect) == 0, "gold: %s: %s", c->name, code ? err.msg : got);
}

static void check_gold_fallback(void) {
    struct sp_head head;
    struct sp_error err;
    struct pack p;
    int32_t tag[4];
    const uint64_t token[4][2] = {{0, 4}, {4, 8}, {8, 12}, {12, 16}};
    const struct span span[] = {{0, 8, "degree", 1, {0}}, {8, 12, "year", 1, {0}}};
    head_init(&head, plain_labels);
    pack_spans(&p, span, 2);
    bool ok = !sp_tags_from_spans(&head, p.byte, p.n, &token[0][0], 4, tag, &err);
    check_ok(ok && tag[0] == 3 && tag[1] == 4 && tag[2] == -1 && tag[3] == 0,
             "gold: a plain BIO set gets B, an unknown field -1");
}

/* Whatever the bytes are: an answer or SP_E_DATA, and tags in range. */
static void check_gold_bytes(void) {
    struct sp_head head;
    struct sp_error err;
    struct pack p;
    int32_t tag[7];
    int n_bad = 0, n_range = 0;
    head_init(&head, all_labels);
    for (int round = 0; round < 20000; round++) {
        const struct gold_case *c = &gold_cases[round % 2];
        pack_spans(&p, c->span, c->n_span);
        for (int64_t k = check_random_int(0, 3); k > 0; k--)
            p.byte[check_random_int(0, (int64_t)p.n - 1)] = (uint8_t)check_random();
        size_t n = (size_t)check_random_int(0, (int64_t)p.n);
        uint8_t *exact = malloc(n + !n); /* so that a sanitizer sees a read behind it */
        memcpy(exact, p.byte, n);
        enum sp_code code = sp_tags_from_spans(&head, exact, n, &c->token[0][0], 7, tag, &err);
        free(exact);
        if (code && code != SP_E_DATA) n_bad++;
        for (int i = 0; !code && i < 7; i++) n_range += tag[i] < -1 || tag[i] >= 13;
    }
    check_ok(n_bad == 0 && n_range == 0, "gold: damaged and cut bytes are refused, or read");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("gold")) {
        for (size_t i = 0; i < sizeof gold_cases / sizeof *gold_cases; i++)
            check_gold_case(&gold_cases[i]);
        check_gold_fallback();
        check_gold_bytes();
    }
    return check_end();
}
