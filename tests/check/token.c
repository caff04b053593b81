/* Tokenizers: ids and spans of the reference (tests/golden/make_tokens.py), BPE against its plain
 * definition, safe boundaries, decoding, and files that are not to be accepted. */
#include "../../lib/io.h"
#include "../../lib/json.h"
#include "../../lib/token.h"
#include "../../lib/utf8.h"
#include "check.h"

#include <unistd.h>

#define GOLDEN "tests/golden/tokens"
#define LINES_MAX 2000

static struct {
    char *text;
    struct sp_json *j;
    sp_json_node row[LINES_MAX];
    size_t n;
} golden;

static bool load_golden(void) {
    char *lines;
    size_t n, k = 0;
    struct sp_error err;
    if (sp_io_slurp(&lines, &n, GOLDEN "/lines.jsonl", 1 << 24, &err)) return false;
    golden.text = malloc(n + 3); /* the lines as one array */
    if (!golden.text) return false;
    golden.text[k++] = '[';
    for (size_t i = 0; i < n; i++) golden.text[k++] = lines[i] == '\n' ? ',' : lines[i];
    golden.text[k - 1] = ']';
    free(lines);
    if (sp_json_parse(&golden.j, golden.text, k, "lines", &err)) return false;
    for (sp_json_node v = sp_json_first(golden.j, 0); v >= 0 && golden.n < LINES_MAX;
         v = sp_json_next(golden.j, v))
        golden.row[golden.n++] = v;
    return golden.n > 1000;
}

/* The text of a line; free it. */
static char *line_text(size_t i, size_t *n) {
    sp_json_node v = sp_json_get(golden.j, golden.row[i], "text");
    if (!sp_json_raw(golden.j, v, n)) return NULL;
    char *s = malloc(*n + 1);
    if (s) *n = (size_t)sp_json_string(golden.j, v, s);
    return s;
}

static uint64_t fnv(uint64_t h, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001B3u;
    return h;
}

static uint64_t hash_tokens(const struct sp_tokens *t) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < t->n; i++) {
        h = fnv(h, &t->id[i], sizeof *t->id);
        h = fnv(h, &t->span[2 * i], 2 * sizeof *t->span);
    }
    return h;
}

static bool equal_tokens(const struct sp_tokens *a, const struct sp_tokens *b) {
    return a->n == b->n &&
           (a->n == 0 || (memcmp(a->id, b->id, a->n * sizeof *a->id) == 0 &&
                          memcmp(a->span, b->span, 2 * a->n * sizeof *a->span) == 0));
}

/* ---- against the reference --------------------------------------------------------------------
 */

static void check_lines(const struct sp_tokenizer *tok, const char *name) {
    struct sp_tokens t = {0};
    struct sp_error err;
    int n_wrong = 0, n_token = 0;
    for (size_t i = 0; i < golden.n; i++) {
        size_t n;
        char *text = line_text(i, &n), hash[20];
        sp_json_node want = sp_json_first(golden.j, sp_json_get(golden.j, golden.row[i], name));
        t.n = 0;
        bool ok = text && sp_tokenizer_encode(tok, text, n, 0, &t, &err) == SP_OK;
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_tokens(&t));
        ok = ok && sp_json_int(golden.j, want, -1) == (int64_t)t.n &&
             sp_json_equal(golden.j, sp_json_next(golden.j, want), hash);
        if (!ok && n_wrong++ < 3) printf("# %s: line %zu differs: %zu tokens\n", name, i + 1, t.n);
        n_token += (int)t.n;
        free(text);
    }
    sp_tokens_clear(&t);
    check_ok(n_wrong == 0 && n_token > 10000, "token: %s: %zu lines as the reference, %d differ",
             name, golden.n, n_wrong);
}

/* ---- safe boundaries --------------------------------------------------------------------------
 */

/* Some lines of the golden set, one behind the other. */
static size_t random_text(char *out, size_t cap) {
    size_t k = 0;
    for (int64_t n_line = check_random_int(1, 30); n_line > 0; n_line--) {
        size_t n;
        char *s = line_text((size_t)check_random_int(0, (int64_t)golden.n - 1), &n);
        if (s && k + n + 1 <= cap) {
            memcpy(out + k, s, n);
            k += n;
            if (check_random_int(0, 2) == 0) out[k++] = "\n .a"[check_random_int(0, 3)];
        }
        free(s);
    }
    return k;
}

/* Encodes text as it would come in small parts. */
static bool encode_in_parts(const struct sp_tokenizer *tok, const char *text, size_t n,
                            int64_t part_max, struct sp_tokens *out, size_t *n_cut) {
    struct sp_error err;
    size_t done = 0, seen = 0;
    for (;;) {
        seen += (size_t)check_random_int(1, part_max);
        if (seen >= n) break;
        while (((uint8_t)text[seen] & 0xC0) == 0x80) seen--;
        if (seen <= done) continue;
        /* An exact copy, so that reading past what has come is seen. */
        char *copy = malloc(seen - done);
        if (!copy) return false;
        memcpy(copy, text + done, seen - done);
        size_t cut = sp_tokenizer_safe_prefix(tok, copy, seen - done);
        bool ok = sp_tokenizer_encode(tok, copy, cut, done, out, &err) == SP_OK;
        free(copy);
        if (!ok) return false;
        done += cut;
        *n_cut += cut > 0;
    }
    return sp_tokenizer_encode(tok, text + done, n - done, done, out, &err) == SP_OK;
}

static void check_safe(const struct sp_tokenizer *tok, const char *name) {
    static char text[16384];
    int n_wrong = 0;
    size_t n_cut = 0;
    struct sp_tokens whole = {0}, parts = {0};
    struct sp_error err;
    for (int round = 0; round < 400; round++) {
        size_t n = random_text(text, sizeof text);
        whole.n = parts.n = 0;
        if (sp_tokenizer_encode(tok, text, n, 0, &whole, &err) ||
            !encode_in_parts(tok, text, n, round % 2 ? 8 : 200, &parts, &n_cut) ||
            !equal_tokens(&whole, &parts))
            n_wrong++;
    }
    sp_tokens_clear(&whole);
    sp_tokens_clear(&parts);
    check_ok(n_wrong == 0 && n_cut > 4000, "token: %s: texts in parts as whole, %zu cuts, %d wrong",
             name, n_cut, n_wrong);
}

/* A text without a boundary is cut, and at the same places whatever is known of the rest. */
static void check_unbroken(const struct sp_tokenizer *tok, const char *name) {
    size_t n = 3 * SP_TOKEN_PIECE_MAX + 12345;
    char *text = malloc(n);
    struct sp_tokens whole = {0}, parts = {0};
    struct sp_error err;
    bool ok = text != NULL;
    for (size_t i = 0; ok && i < n; i++) text[i] = (char)('a' + (i * i + i / 7) % 3);
    ok = ok && sp_tokenizer_encode(tok, text, n, 0, &whole, &err) == SP_OK;
    size_t done = 0, n_cut = 0;
    for (size_t seen = 0; ok && seen < n; seen += 50000) {
        size_t cut = sp_tokenizer_safe_prefix(tok, text + done, seen - done);
        ok = sp_tokenizer_encode(tok, text + done, cut, done, &parts, &err) == SP_OK;
        done += cut;
        n_cut += cut > 0;
    }
    ok = ok && sp_tokenizer_encode(tok, text + done, n - done, done, &parts, &err) == SP_OK;
    check_ok(ok && n_cut == 2 && equal_tokens(&whole, &parts), "token: %s: %zu letters", name, n);
    sp_tokens_clear(&whole);
    sp_tokens_clear(&parts);
    free(text);
}

/* ---- BPE by its definition --------------------------------------------------------------------
 */

#define MERGES_MAX 2000
static struct { uint32_t left, right, merged; } merges[MERGES_MAX];
static size_t n_merge;

static bool load_merges(const struct sp_tokenizer *tok) {
    char *text, s[512];
    size_t n;
    struct sp_error err;
    struct sp_json *j;
    if (sp_io_slurp(&text, &n, GOLDEN "/bpe.json", 1 << 24, &err)) return false;
    if (sp_json_parse(&j, text, n, "bpe", &err)) return free(text), false;
    sp_json_node list = sp_json_get(j, sp_json_get(j, 0, "model"), "merges");
    for (sp_json_node v = sp_json_first(j, list); v >= 0 && n_merge < MERGES_MAX;
         v = sp_json_next(j, v), n_merge++) {
        sp_json_node left = sp_json_first(j, v);
        int64_t a = sp_json_string(j, left, s), b = sp_json_string(j, sp_json_next(j, left), s + a);
        merges[n_merge].left = (uint32_t)sp_tokenizer_id(tok, s, (size_t)a);
        merges[n_merge].right = (uint32_t)sp_tokenizer_id(tok, s + a, (size_t)b);
        merges[n_merge].merged = (uint32_t)sp_tokenizer_id(tok, s, (size_t)(a + b));
    }
    sp_json_free(j);
    free(text);
    return n_merge > 500;
}

/* Each merge of the list in turn, wherever it applies, until none does. */
static size_t plain_bpe(uint32_t *id, size_t n) {
    for (size_t m = 0; m < n_merge;) {
        size_t i = 0;
        while (i + 1 < n && !(id[i] == merges[m].left && id[i + 1] == merges[m].right)) i++;
        if (i + 1 >= n) {
            m++;
            continue;
        }
        id[i] = merges[m].merged;
        memmove(id + i + 1, id + i + 2, (n - i - 2) * sizeof *id);
        n--;
        m = 0;
    }
    return n;
}

static void check_plain_bpe(const struct sp_tokenizer *tok) {
    uint32_t id[200];
    int n_wrong = 0;
    struct sp_error err;
    if (!check_ok(load_merges(tok), "token: merges of the golden tokenizer")) return;
    for (int round = 0; round < 300; round++) {
        char word[200];
        size_t n = (size_t)check_random_int(1, round % 3 ? 60 : 200), n_part;
        for (size_t i = 0; i < n; i++) {
            word[i] = (char)("etaoinsr\xc3\xa9\xb0"[check_random_int(0, round % 2 ? 7 : 10)]);
            char s[4];
            id[i] = (uint32_t)sp_tokenizer_id(
                tok, s, sp_utf8_encode(s, sp_bpe_char_of_byte((uint8_t)word[i])));
        }
        const struct sp_piece *part;
        bool ok = !sp_bpe_encode(tok->bpe, tok->scratch, word, n, &part, &n_part, &err);
        size_t want = plain_bpe(id, n);
        ok = ok && want == n_part;
        for (size_t i = 0; ok && i < want; i++) ok = part[i].id == id[i];
        n_wrong += !ok;
    }
    check_ok(n_wrong == 0, "token: BPE as by its definition: %d words differ", n_wrong);
}

/* ---- decoding, bytes, UTF-8 -------------------------------------------------------------------
 */

/* The tokens' bytes, one behind the other, are the normalised text. */
static void check_decoding(const struct sp_tokenizer *tok) {
    struct sp_tokens t = {0};
    struct sp_error err;
    int n_wrong = 0, n_line = 0;
    for (size_t i = 0; i < golden.n; i++) {
        size_t n, done = 0;
        char *text = line_text(i, &n);
        struct sp_norm norm;
        t.n = 0;
        bool ok = text && !sp_tokenizer_encode(tok, text, n, 0, &t, &err) &&
                  !sp_token_normalize(tok, text, n, &norm, &err);
        /* These take white space with them, or are written in another form. */
        static const char *const other[] = {"<mask>", "<pad>", "<\xc3\xa9t\xc3\xa9>"};
        bool strips = false;
        for (size_t k = 0; ok && k < sizeof other / sizeof *other; k++)
            strips |= memmem(norm.text, norm.n, other[k], strlen(other[k])) != NULL;
        for (size_t k = 0; ok && !strips && k < t.n; k++) {
            size_t n_part;
            bool space;
            const char *s = sp_tokenizer_token(tok, t.id[k], &n_part, &space);
            ok = s && done + n_part <= norm.n && memcmp(norm.text + done, s, n_part) == 0;
            done += n_part;
        }
        n_line += ok && !strips;
        n_wrong += !ok || (!strips && done != norm.n);
        free(text);
    }
    sp_tokens_clear(&t);
    check_ok(n_wrong == 0 && n_line > 1000, "token: bpe: decoding %d lines: %d wrong", n_line,
             n_wrong);
}

static void check_bytes(void) {
    struct sp_tokenizer *tok;
    struct sp_tokens t = {0};
    struct sp_error err;
    if (!check_ok(!sp_tokenizer_open(&tok, "bytes", &err), "token: bytes")) return;
    bool ok = !sp_tokenizer_encode(tok, "a\0\xff", 3, 7, &t, &err) && t.n == 3 && t.id[1] == 0 &&
              t.id[2] == 255 && t.span[4] == 9 && t.span[5] == 10;
    check_ok(ok, "token: bytes are their own ids");
    check_ok(sp_tokenizer_vocab_size(tok) == 257 && sp_tokenizer_byte_level(tok) &&
                 sp_tokenizer_id(tok, "<|pad|>", 7) == 256,
             "token: bytes have one more id, for padding");
    size_t n;
    bool space;
    check_ok(sp_tokenizer_token(tok, 257, &n, &space) == NULL, "token: no token outside");
    sp_tokens_clear(&t);
    sp_tokenizer_free(tok);
}

static void check_utf8(void) {
    /* Table 3-8 of the Unicode standard: one replacement for each maximal subpart. */
    static const struct {
        const char *s;
        size_t n, subpart;
    } bad[] = {{"\xc0\xaf", 2, 1},         {"\xe0\x9f\x80", 3, 1}, {"\xed\xa0\x80", 3, 1},
               {"\xf4\x91\x92\x93", 4, 1}, {"\xff", 1, 1},         {"\xe1\x80", 2, 2},
               {"\xf0\x91\x92\x41", 4, 3}, {"\xf1\x41", 2, 1},     {"\x80", 1, 1}};
    size_t len;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_ok(sp_utf8_decode(bad[i].s, bad[i].n, &len) < 0 && len == bad[i].subpart &&
                     sp_utf8_valid(bad[i].s, bad[i].n) == 0,
                 "utf8: maximal subpart %zu", i);
    int n_wrong = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[SP_UTF8_MAX];
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        size_t n = sp_utf8_encode(s, cp);
        n_wrong += sp_utf8_decode(s, n, &len) != (int32_t)cp || len != n || sp_utf8_get(s) != cp ||
                   sp_utf8_valid(s, n) != n || sp_utf8_length((uint8_t)s[0]) != n ||
                   (n > 1 && !sp_utf8_incomplete(s, n - 1)) || sp_utf8_incomplete(s, n);
    }
    check_ok(n_wrong == 0, "utf8: every code point there and back: %d wrong", n_wrong);
}

/* ---- files that are refused -------------------------------------------------------------------
 */

#define MODEL(settings)                                                                            \
    "\"model\":{\"type\":\"BPE\"" settings ",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
#define REST(norm, pre, post)                                                                      \
    ",\"normalizer\":" norm ",\"pre_tokenizer\":" pre ",\"post_processor\":" post "}"
#define MERGES "\"merges\":[\"a b\"]}"
#define PLAIN REST("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "null")

static void check_refusals(void) {
    static const struct {
        const char *text, *message; /* NULL: accepted */
    } file[] = {
        {"{" MODEL("") MERGES PLAIN, NULL},
        {"{" MODEL("") "\"merges\":[[\"a\",\"b\"]]}" PLAIN, NULL},
        {"{" MODEL("") "\"merges\":[\"a c\"]}" PLAIN, "merge 1 is not of two tokens"},
        {"{" MODEL("") "\"merges\":[\"ab\"]}" PLAIN, "merge 1 is not of two tokens"},
        {"{" MODEL("") "\"merges\":[\"a b \"]}" PLAIN, "merge 1 is not of two tokens"},
        {"{" MODEL("") "\"merges\":[[\"a\"]]}" PLAIN, "merge 1 is not of two tokens"},
        {"{" MODEL("") "\"merges\":7}" PLAIN, "no model.merges list"},
        {"{" MODEL(",\"byte_fallback\":true") MERGES PLAIN, "byte_fallback is not supported"},
        {"{" MODEL(",\"dropout\":0.1") MERGES PLAIN, "dropout is not supported"},
        {"{" MODEL(",\"unk_token\":\"a\"") MERGES PLAIN, "unk_token is not supported"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "the model 'Unigram' is not supported"},
        {"{\"a\":1}", "the model '' is not supported"},
        {"{" MODEL("") MERGES REST("{\"type\":\"NFKC\"}", "null", "null"),
         "the normalizer 'NFKC' is not supported"},
        {"{" MODEL("") MERGES REST("null", "{\"type\":\"Metaspace\"}", "null"),
         "the pre_tokenizer of a BPE model 'Metaspace' is not supported"},
        {"{" MODEL("") MERGES REST("null", "{\"type\":\"ByteLevel\"}", "null"),
         "ByteLevel with add_prefix_space"},
        {"{" MODEL("") MERGES REST("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
                                   "{\"type\":\"Sequence\"}"),
         "the post_processor 'Sequence' is not supported"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4194304},\"merges\":[]}}", "id in range"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "id in range"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", "have id 1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]}}", "there twice"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}", "no token for unknown words"},
        {"{\"added_tokens\":[{\"id\":9,\"content\":\"a\"}]," MODEL("") MERGES PLAIN,
         "another id in the vocabulary"},
        {"{\"added_tokens\":[{\"id\":9,\"content\":\"\"}]," MODEL("") MERGES PLAIN,
         "an added token without content"},
        {"[UNK]\na\na\n", "there twice"},
        {"a\nb\n", "no token for unknown words"},
        {"[UNK]\n\xff\n", "invalid UTF-8"},
        {"", "no token for unknown words"},
    };
    char path[] = "/tmp/statepipe-token-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) return;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        struct sp_error err = {0};
        struct sp_tokenizer *tok = NULL;
        FILE *f = fopen(path, "w");
        if (!f) break;
        fputs(file[i].text, f);
        fclose(f);
        enum sp_code code = sp_tokenizer_open(&tok, path, &err);
        bool ok = file[i].message ? code == SP_E_DATA && !tok && strstr(err.msg, file[i].message)
                                  : code == SP_OK;
        if (!check_ok(ok, "token: file %zu: %s", i, file[i].message ? file[i].message : "accepted"))
            printf("# code %d: %s\n", code, err.msg);
        sp_tokenizer_free(tok);
    }
    close(fd);
    remove(path);
    struct sp_error err;
    struct sp_tokenizer *tok;
    check_ok(sp_tokenizer_open(&tok, "/nonexistent", &err) == SP_E_NOINPUT, "token: no such file");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    struct sp_tokenizer *bpe = NULL, *wordpiece = NULL;
    struct sp_error err;
    bool ok = load_golden() && !sp_tokenizer_open(&bpe, GOLDEN "/bpe.json", &err) &&
              !sp_tokenizer_open(&wordpiece, GOLDEN "/wordpiece.json", &err);
    if (check_ok(ok, "token: golden files")) {
        check_lines(bpe, "bpe");
        check_lines(wordpiece, "wordpiece");
        check_safe(bpe, "bpe");
        check_safe(wordpiece, "wordpiece");
        check_unbroken(bpe, "bpe");
        check_unbroken(wordpiece, "wordpiece");
        check_plain_bpe(bpe);
        check_decoding(bpe);
    }
    check_bytes();
    check_utf8();
    check_refusals();
    sp_tokenizer_free(bpe);
    sp_tokenizer_free(wordpiece);
    sp_json_free(golden.j);
    free(golden.text);
    return check_end();
}
