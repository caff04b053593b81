/* The JSON parser: what RFC 8259 accepts and refuses, values, escapes, and random documents. */
#include "../../lib/json.h"
#include "check.h"

#include <math.h>

static enum sp_code parse(struct sp_json **j, const char *text, struct sp_error *err) {
    return sp_json_parse(j, text, strlen(text), "text", err);
}

static const char *const good[] = {
    "{}",
    "[]",
    " [ ] ",
    "0",
    "-0",
    "1.5e+3",
    "\"\"",
    "true",
    "null",
    "NaN",
    "-Infinity",
    "{\"a\":1}",
    "{\"a\":{\"b\":[1,2,{}]},\"c\":null}",
    "[[],[[]],{}]",
    "\t\r\n [1 , 2]\n",
    "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "[\"a\",\"b\"]",
    "\"\xc3\xa9\"",
};

static const char *const refused[] = {
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "[1",
    "{\"a\":1",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\" 1}",
    "{\"a\":1,}",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1,,2]",
    "[\"a\" \"b\"]",
    "{\"a\":1 \"b\":2}",
    "{a:1}",
    "{1:1}",
    "{\"a\":1:2}",
    "[1:2]",
    "{\"a\",\"b\"}",
    "[\"a\":1]",
    "1 2",
    "{} {}",
    "[}",
    "{]",
    "[{]}",
    "01",
    "1.",
    ".5",
    "-",
    "+1",
    "1e",
    "1e+",
    "0x10",
    "1a",
    "tru",
    "True",
    "nul",
    "infinity",
    "'a'",
    "\"a",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\\"",
    "\"a\nb\"",
    "\"\x01\"",
    "\x01",
    "\"\xff\"",
    "\"\xc3\"",
    "\"\xed\xa0\x80\"",
    "[1]]",
    "[1]x",
    ":",
    ",",
    "\"a\"\"b\"",
    "\"a\":1",
    "[{\"a\":1},]",
    "{\"a\":1,\"b\"}",
    "{[1]:2}",
    "{{}:1}",
    "\xef\xbb\xbf[]",
};

static void check_accepts(void) {
    struct sp_json *j;
    struct sp_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        bool ok = parse(&j, good[i], &err) == SP_OK;
        check_ok(ok, "json: accepts %zu", i);
        sp_json_free(j);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        bool ok = parse(&j, refused[i], &err) == SP_E_DATA && j == NULL;
        check_ok(ok, "json: refuses %zu", i);
    }
    check_ok(sp_json_parse(&j, "[1\0]", 4, "text", &err) == SP_E_DATA, "json: refuses a NUL");
    parse(&j, "[1, \"\xff\"]", &err);
    check_ok(strcmp(err.msg, "text: byte 5: invalid UTF-8") == 0, "json: names the byte");
}

static void check_limits(void) {
    enum { MANY = 5 << 20 };
    char *text = malloc(MANY + 1);
    if (!text) return;
    struct sp_json *j;
    struct sp_error err;
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    check_ok(sp_json_parse(&j, text, 128, "t", &err) == SP_OK, "json: 64 deep");
    sp_json_free(j);
    memset(text, '[', MANY);
    check_ok(sp_json_parse(&j, text, MANY, "t", &err) == SP_E_DATA, "json: too deep: refused");
    memset(text, ',', MANY);
    text[0] = '[';
    check_ok(sp_json_parse(&j, text, MANY, "t", &err) == SP_E_DATA, "json: too many: refused");
    memset(text, '1', MANY);
    check_ok(sp_json_parse(&j, text, MANY, "t", &err) == SP_E_DATA, "json: long number: refused");
    free(text);
}

static void check_values(void) {
    static const char text[] =
        "{\"s\":\"a\\u00e9\\ud83d\\ude00\\ud800x\\u0000\",\"n\":-12,\"f\":2.5,\"t\":true,\"big\":"
        "9223372036854775808,\"e\":1e3,\"inf\":-Infinity,\"nan\":NaN,\"o\":{\"k\\n\":[1,2,3]},"
        "\"dup\":1,\"dup\":2}";
    struct sp_json *j;
    struct sp_error err;
    if (!check_ok(parse(&j, text, &err) == SP_OK, "json: values parse")) return;
    char out[64];
    int64_t n = sp_json_string(j, sp_json_get(j, 0, "s"), out);
    static const char want[] = "a\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdx\0";
    check_ok(n == (int64_t)sizeof want - 1 && memcmp(out, want, (size_t)n) == 0, "json: escapes");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "n"), 0) == -12, "json: int");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "f"), 7) == 7, "json: no int from 2.5");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "big"), 7) == 7, "json: int out of range");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "e"), 7) == 1000, "json: 1e3 is whole");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "s"), 7) == 7, "json: no int from a string");
    check_ok(sp_json_number(j, sp_json_get(j, 0, "f"), 0) == 2.5, "json: number");
    check_ok(isinf(sp_json_number(j, sp_json_get(j, 0, "inf"), 0)), "json: -Infinity");
    check_ok(isnan(sp_json_number(j, sp_json_get(j, 0, "nan"), 0)), "json: NaN");
    check_ok(sp_json_bool(j, sp_json_get(j, 0, "t"), false), "json: true");
    check_ok(sp_json_int(j, sp_json_get(j, 0, "dup"), 0) == 2, "json: the last of two keys");
    check_ok(sp_json_get(j, 0, "none") == -1 && sp_json_get(j, -1, "x") == -1, "json: no such key");
    sp_json_node list = sp_json_first(j, sp_json_get(j, 0, "o"));
    check_ok(sp_json_equal(j, sp_json_key(j, list), "k\n"), "json: an escaped key");
    check_ok(sp_json_count(j, list) == 3, "json: count");
    int64_t sum = 0;
    for (sp_json_node v = sp_json_first(j, list); v >= 0; v = sp_json_next(j, v))
        sum = sum * 10 + sp_json_int(j, v, 0);
    check_ok(sum == 123, "json: children in order");
    check_ok(sp_json_key(j, sp_json_first(j, list)) == -1, "json: elements have no key");
    check_ok(!sp_json_equal(j, sp_json_key(j, list), "k"), "json: a prefix is not equal");
    sp_json_free(j);
}

/* A random document, and the sum of its numbers, which a walk over the nodes must find again. */
static size_t random_value(char *out, int depth, int64_t *sum) {
    size_t n = 0;
    int64_t kind = check_random_int(0, depth > 0 ? 4 : 2), count = check_random_int(0, 4);
    if (kind == 0) {
        int64_t v = check_random_int(-1000, 1000);
        *sum += v;
        return (size_t)sprintf(out, " %lld", (long long)v);
    }
    if (kind == 1) return (size_t)sprintf(out, "\"[{,:\\\"]\\u0041\"");
    if (kind == 2) return (size_t)sprintf(out, "null ");
    out[n++] = kind == 3 ? '[' : '{';
    for (int64_t i = 0; i < count; i++) {
        if (i) out[n++] = ',';
        if (kind == 4) n += (size_t)sprintf(out + n, "\"k%lld\" : ", (long long)i);
        n += random_value(out + n, depth - 1, sum);
    }
    out[n++] = kind == 3 ? ']' : '}';
    return n;
}

static int64_t sum_of(const struct sp_json *j, sp_json_node v) {
    int64_t sum = sp_json_int(j, v, 0);
    for (sp_json_node c = sp_json_first(j, v); c >= 0; c = sp_json_next(j, c)) sum += sum_of(j, c);
    return sum;
}

static void check_random_documents(void) {
    char *text = malloc(1 << 20);
    if (!text) return;
    int n_wrong = 0, n_accepted = 0;
    struct sp_error err;
    struct sp_json *j;
    for (int round = 0; round < 2000; round++) {
        int64_t sum = 0;
        size_t n = random_value(text, 5, &sum);
        if (sp_json_parse(&j, text, n, "t", &err) || sum_of(j, 0) != sum) n_wrong++;
        sp_json_free(j);
        /* Cut anywhere, a container is no longer JSON. */
        if (text[0] != '[' && text[0] != '{') continue;
        size_t cut = (size_t)check_random_int(0, (int64_t)n - 1);
        char *copy = malloc(cut ? cut : 1); /* of exact size: reads past it are seen by ASan */
        if (!copy) continue;
        memcpy(copy, text, cut);
        if (sp_json_parse(&j, copy, cut, "t", &err) == SP_OK) n_accepted++;
        sp_json_free(j);
        free(copy);
    }
    free(text);
    check_ok(n_wrong == 0, "json: random documents: %d wrong", n_wrong);
    check_ok(n_accepted == 0, "json: cut documents: %d accepted", n_accepted);
}

static void check_escape(void) {
    char raw[256], out[6 * 256 + 2], back[6 * 256 + 2];
    int n_wrong = 0;
    for (int round = 0; round < 500; round++) {
        size_t n = (size_t)check_random_int(0, 255);
        for (size_t i = 0; i < n; i++) raw[i] = (char)check_random_int(0, 127);
        size_t k = sp_json_escape(out, raw, n);
        struct sp_json *j;
        struct sp_error err;
        if (sp_json_parse(&j, out, k, "t", &err) || sp_json_string(j, 0, back) != (int64_t)n ||
            memcmp(back, raw, n) != 0)
            n_wrong++;
        sp_json_free(j);
    }
    check_ok(n_wrong == 0, "json: escape and back: %d wrong", n_wrong);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    check_accepts();
    check_limits();
    check_values();
    check_random_documents();
    check_escape();
    return check_end();
}
