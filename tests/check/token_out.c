/* Tokens to text as they come: against the whole text, for random tokens and stop strings. */
#include "../../lib/token_out.h"
#include "../../lib/utf8.h"
#include "check.h"

enum { TOKENS = 60, ROUNDS = 3000, STOPS = 3 };
static struct sp_error err;

static struct sp_tokenizer *open_tokenizer(const char *path) {
    struct sp_tokenizer *tok = NULL;
    if (sp_tokenizer_open(&tok, path, &err)) {
        check_ok(false, "tokenizer: %s", err.msg);
        exit(check_end());
    }
    return tok;
}

/* All that the tokens stand for. */
static size_t whole(const struct sp_tokenizer *tok, const uint32_t *id, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const char *s;
        size_t n_s;
        bool blank;
        if (!sp_token_text(tok, id[i], false, &s, &n_s, &blank)) continue;
        if (blank) out[k++] = ' ';
        memcpy(out + k, s, n_s);
        k += n_s;
    }
    return k;
}

/* Where the stop string begins that ends first; n: nowhere. Byte by byte. */
static size_t naive_stop(const char *text, size_t n, const char *const *stop, size_t n_stop) {
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stop; i++) {
            size_t k = strlen(stop[i]);
            if (k <= end && k > longest && memcmp(text + end - k, stop[i], k) == 0) longest = k;
        }
        if (longest > 0) return end - longest;
    }
    return n;
}

/* What of a text that may go on can be written: as much as no stop string can begin in, without the
 * beginning of a character. */
static size_t naive_ready(const char *text, size_t n, const char *const *stop, size_t n_stop) {
    size_t ready = n;
    for (size_t at = n; at-- > 0;)
        for (size_t i = 0; i < n_stop; i++)
            if (n - at < strlen(stop[i]) && memcmp(text + at, stop[i], n - at) == 0) ready = at;
    for (size_t k = 1; k < SP_UTF8_MAX && k <= ready; k++)
        if (sp_utf8_incomplete(text + ready - k, k)) return ready - k;
    return ready;
}

/* Few different tokens, so that stop strings are met; bytes of characters among them. */
static void random_text(uint32_t *id, size_t n, const uint32_t *from, int64_t n_from) {
    for (size_t i = 0; i < n; i++) id[i] = from[check_random_int(0, n_from - 1)];
}

static bool one_round(const struct sp_tokenizer *tok, const uint32_t *id, size_t n,
                      const char *const *stop, size_t n_stop, bool *stopped) {
    static char text[TOKENS * 64], seen[TOKENS * 64];
    size_t n_text = whole(tok, id, n, text), n_seen = 0;
    size_t end = naive_stop(text, n_text, stop, n_stop), so_far;
    struct sp_token_out t = {.tok = tok, .stop = stop, .n_stop = n_stop};
    bool ok = true;
    for (size_t i = 0; ok && i < n && !t.stopped; i++) {
        ok = sp_token_out_add(&t, id[i], &err) == SP_OK;
        so_far = whole(tok, id, i + 1, text);
        if (!t.stopped) ok = ok && n_seen + t.n_ready == naive_ready(text, so_far, stop, n_stop);
        /* Sometimes it is written at once, sometimes later. */
        size_t k = (size_t)check_random_int(0, (int64_t)t.n_ready);
        memcpy(seen + n_seen, t.bytes, k);
        n_seen += k;
        sp_token_out_drop(&t, k);
    }
    sp_token_out_end(&t);
    if (t.n > 0) memcpy(seen + n_seen, t.bytes, t.n);
    n_seen += t.n;
    *stopped = t.stopped;
    whole(tok, id, n, text);
    ok = ok && t.stopped == (end < n_text) && n_seen == end && memcmp(seen, text, end) == 0;
    sp_token_out_clear(&t);
    return ok;
}

static void check_random_texts(const char *name, const char *path, const uint32_t *from,
                               int64_t n_from) {
    struct sp_tokenizer *tok = open_tokenizer(path);
    static const char *const stops[] = {"aa",   "ab",    "aab",  "\xc3\xa4",
                                        "\xa4", "b\xc3", "aaba", "a"};
    int wrong = 0, n_stopped = 0;
    uint32_t id[TOKENS];
    for (int round = 0; round < ROUNDS; round++) {
        const char *stop[STOPS];
        size_t n = (size_t)check_random_int(0, TOKENS), n_stop = (size_t)check_random_int(0, STOPS);
        for (size_t i = 0; i < n_stop; i++) stop[i] = stops[check_random_int(0, 7)];
        bool stopped;
        random_text(id, n, from, n_from);
        wrong += !one_round(tok, id, n, stop, n_stop, &stopped);
        n_stopped += stopped;
    }
    check_ok(wrong == 0 && n_stopped > ROUNDS / 10 && n_stopped < ROUNDS,
             "random: %s: as much as can be, as soon as it can be (%d of %d stopped)", name,
             n_stopped, ROUNDS);
    sp_tokenizer_free(tok);
}

/* Each token apart and many in one: the same place. */
static void check_borders(void) {
    struct sp_tokenizer *tok = open_tokenizer("bytes");
    static const char *const stop[] = {"abcd", "bc"};
    struct sp_token_out t = {.tok = tok, .stop = stop, .n_stop = 2};
    bool ok = true;
    for (const char *s = "xabcd"; *s; s++)
        ok = ok && sp_token_out_add(&t, (uint32_t)(uint8_t)*s, &err) == SP_OK;
    check_ok(ok && t.stopped && t.n == 2 && memcmp(t.bytes, "xa", 2) == 0,
             "borders: the stop text that is complete first ends it");
    sp_token_out_clear(&t);
    sp_tokenizer_free(tok);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    const uint32_t bytes[] = {'a', 'a', 'b', 0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xff};
    if (check_wanted("random")) {
        check_random_texts("bytes", "bytes", bytes, 9);
        struct sp_tokenizer *tok = open_tokenizer("tests/golden/tokens/bpe.json");
        uint32_t from[400];
        int64_t n = 0;
        for (uint32_t id = 0; id < sp_tokenizer_vocab_size(tok) && n < 400; id++) {
            size_t n_s;
            bool space;
            const char *s = sp_tokenizer_token(tok, id, &n_s, &space);
            if (s && n_s < 32 && (memchr(s, 'a', n_s) || memchr(s, 0xc3, n_s))) from[n++] = id;
        }
        sp_tokenizer_free(tok);
        check_random_texts("BPE", "tests/golden/tokens/bpe.json", from, n);
    }
    if (check_wanted("borders")) check_borders();
    return check_end();
}
