/* Slots against every answer that there is: a model of few tokens, of which four may stand in a
 * slot, so that all answers of up to three tokens can be weighed one by one. */
#include "../../lib/fill.h"
#include "../../lib/model.h"
#include "../../lib/safetensors.h"
#include "check.h"

#include <math.h>
#include <unistd.h>

enum { VOCAB = 104, LETTERS = 4, LONGEST = 3, ANSWERS = 84, ROUNDS = 12, TENSORS_MAX = 64 };
static struct sp_error err;
static struct sp_lm *lm;
static char until[VOCAB + 1]; /* every character but the letters a-d */

static void must(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", err.msg);
    exit(1);
}

/* The tiny model with the first ids of its vocabulary only: bytes up to the letter g. */
static void make_model(const char *dir) {
    struct sp_model *m;
    struct sp_safetensors *st;
    struct sp_named_tensor tensor[TENSORS_MAX];
    must(sp_model_open(&m, "tests/golden/tiny", &err));
    must(sp_safetensors_open(&st, "tests/golden/tiny/model.safetensors", &err));
    struct sp_config *c = malloc(sizeof *c);
    *c = *sp_model_config(m);
    c->vocab_size = VOCAB;
    size_t n = sp_safetensors_count(st);
    for (size_t i = 0; i < n && i < TENSORS_MAX; i++) {
        const struct sp_safetensors_entry *e = sp_safetensors_entry(st, i);
        tensor[i] = (struct sp_named_tensor){e->name, e->tensor};
        struct sp_tensor *t = &tensor[i].tensor;
        if (strcmp(e->name, "backbone.embeddings.weight") != 0) continue;
        t->n_bytes = t->n_bytes / t->dim[0] * VOCAB;
        t->dim[0] = VOCAB;
    }
    must(sp_model_save(dir, c, tensor, n, &err));
    free(c);
    sp_safetensors_free(st);
    sp_model_free(m);
}

static void remove_model(const char *dir) {
    static const char *const file[] = {"model.safetensors", "config.json"};
    char path[100];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, file[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* ---- by brute force ------------------------------------------------------------------------- */

struct found {
    char text[2][LONGEST + 1]; /* of one slot or two */
    double logprob, p;
};

static bool ends(uint32_t id) {
    return id < 32 || strchr(until, (int)id);
}

/* The logarithm of the probability of the text behind seq and, with end, of an end behind it. */
static double weigh(const struct sp_lm_seq *seq, const char *text, bool end) {
    struct sp_lm_seq *fork;
    uint32_t id[64];
    const uint32_t *ids = id;
    size_t n = strlen(text);
    double logprob, all = 0, ended = 0;
    for (size_t i = 0; i < n; i++) id[i] = (uint8_t)text[i];
    must(sp_lm_score(lm, &seq, &ids, &n, 1, &logprob, &err));
    if (!end) return logprob;
    float logits[VOCAB];
    must(sp_lm_seq_fork(lm, seq, &fork, &err));
    must(sp_lm_read(lm, &fork, &ids, &n, 1, &err));
    const struct sp_lm_seq *read = fork;
    must(sp_lm_logits(lm, &read, 1, logits, &err));
    sp_lm_seq_free(lm, fork);
    for (uint32_t i = 0; i < VOCAB; i++) all += exp(logits[i]);
    for (uint32_t i = 0; i < VOCAB; i++) ended += ends(i) ? exp(logits[i]) : 0;
    return logprob + log(ended / all);
}

/* The i-th of all answers, shorter ones first; false behind those of `longest` letters. */
static bool nth(size_t i, size_t longest, char *out) {
    size_t n = 1, count = LETTERS;
    for (; i >= count; n++, count *= LETTERS) i -= count;
    for (size_t k = 0; k < n && n <= longest; k++, i /= LETTERS) out[k] = (char)('a' + i % LETTERS);
    out[n <= longest ? n : 0] = 0;
    return n <= longest;
}

static int by_logprob(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return x->logprob < y->logprob ? 1 : x->logprob > y->logprob ? -1 : 0;
}

/* Best first, with p: as it is where `whole`, else of what all of them have together. */
static void rank(struct found *all, size_t n, bool whole) {
    double sum = 0;
    qsort(all, n, sizeof *all, by_logprob);
    for (size_t i = 0; i < n; i++) sum += exp(all[i].logprob);
    for (size_t i = 0; i < n; i++) all[i].p = exp(all[i].logprob) / (whole ? 1 : sum);
}

/* Of one slot, with `after` behind it. */
static size_t enumerate(const struct sp_lm_seq *seq, const char *after, struct found *all) {
    size_t n = 0;
    for (char text[64]; nth(n, LONGEST, all[n].text[0]); n++) {
        snprintf(text, sizeof text, "%s%s", all[n].text[0], after);
        all[n].logprob = weigh(seq, text, !*after);
    }
    rank(all, n, !*after);
    return n;
}

/* ---- checks --------------------------------------------------------------------------------- */

static struct sp_fill_answers ask(const struct sp_fill_options *o, const char *text,
                                  const struct sp_lm_seq *context) {
    struct sp_fill *f;
    struct sp_fill_text *t;
    struct sp_fill_answers a;
    must(sp_fill_new(&f, lm, o, &err));
    must(sp_fill_text_new(&t, f, text, strlen(text), !context, &err));
    const struct sp_fill_question q = {.text = t, .context = context};
    must(sp_fill_ask(f, &q, 1, &a, &err));
    sp_fill_text_free(t);
    sp_fill_free(f);
    return a;
}

/* The first n of a and of all: the same texts and probabilities. */
static bool same(const struct sp_fill_answers *a, const struct found *all, size_t n) {
    bool ok = a->n == n;
    for (size_t i = 0; ok && i < n; i++) {
        ok = fabs(a->item[i].p - all[i].p) < 1e-4 * all[i].p + 1e-9;
        for (size_t k = 0; ok && k < a->n_slot; k++)
            ok = strcmp(a->item[i].text[k], all[i].text[k]) == 0;
    }
    return ok;
}

/* What was read before, at random; the text goes on with b. */
static struct sp_lm_seq *random_context(void) {
    struct sp_lm_seq *seq;
    uint32_t id[16];
    const uint32_t *ids = id;
    size_t n = (size_t)check_random_int(1, 16);
    for (size_t i = 0; i < n; i++) id[i] = (uint32_t)check_random_int(1, VOCAB - 1);
    must(sp_lm_seq_new(lm, &seq, &err));
    must(sp_lm_read(lm, &seq, &ids, &n, 1, &err));
    return seq;
}

/* The same with "b" read, as a text that begins with it has it. */
static struct sp_lm_seq *behind_b(const struct sp_lm_seq *context) {
    struct sp_lm_seq *seq;
    const uint32_t b = 'b', *id = &b;
    const size_t n = 1;
    must(sp_lm_seq_fork(lm, context, &seq, &err));
    must(sp_lm_read(lm, &seq, &id, &n, 1, &err));
    return seq;
}

static const struct sp_fill_options wide = {
    .n_best = ANSWERS, .width = 256, .max_tokens = LONGEST, .until = until};

static void check_one_slot(const char *text, const char *after) {
    struct found all[ANSWERS + 1];
    int wrong = 0, found = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct sp_lm_seq *context = random_context(), *seq = behind_b(context);
        size_t n = enumerate(seq, after, all);
        struct sp_fill_options narrow = wide;
        narrow.n_best = 1;
        narrow.width = 8;
        struct sp_fill_answers a = ask(&wide, text, context), best = ask(&narrow, text, context);
        wrong += n != ANSWERS || !same(&a, all, n);
        found += best.n == 1 && strcmp(best.item[0].text[0], all[0].text[0]) == 0;
        sp_fill_answers_clear(&a);
        sp_fill_answers_clear(&best);
        sp_lm_seq_free(lm, context);
        sp_lm_seq_free(lm, seq);
    }
    check_ok(wrong == 0, "%s: all answers, in order, with their probabilities", text);
    check_ok(4 * found >= 3 * ROUNDS, "%s: the default beam finds the best in %d of %d", text,
             found, ROUNDS);
}

static void check_two_slots(void) {
    static struct found all[20 * 20];
    struct sp_fill_options o = wide;
    int wrong = 0;
    o.max_tokens = 2;
    o.n_best = 200;
    for (int i = 0; i < ROUNDS; i++) {
        struct sp_lm_seq *context = random_context(), *seq = behind_b(context);
        size_t n = 0;
        for (size_t x = 0; x < 20; x++)
            for (size_t y = 0; y < 20; y++, n++) {
                char text[16];
                nth(x, 2, all[n].text[0]);
                nth(y, 2, all[n].text[1]);
                snprintf(text, sizeof text, "%se%s", all[n].text[0], all[n].text[1]);
                all[n].logprob = weigh(seq, text, true);
            }
        rank(all, n, false);
        struct sp_fill_answers a = ask(&o, "b?__e?__", context);
        wrong += !same(&a, all, 200);
        sp_fill_answers_clear(&a);
        sp_lm_seq_free(lm, context);
        sp_lm_seq_free(lm, seq);
    }
    check_ok(wrong == 0, "two slots: the best pairs of all, with their shares");
}

static void check_choices(void) {
    static char *choice[] = {"a", "dab", "bacd", "cc"};
    const struct sp_fill_choices choices = {4, choice};
    struct sp_fill_options o = wide;
    int wrong = 0;
    o.choices = &choices;
    o.n_choices = 1;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        struct sp_lm_seq *context = random_context(), *seq = behind_b(context);
        struct found all[4] = {0};
        struct sp_fill_answers a = ask(&o, i % 2 ? "b?__" : "b?__de", context);
        bool ok = a.n == 4;
        for (size_t k = 0; k < 4; k++) {
            char text[16];
            snprintf(text, sizeof text, "%s%s", choice[k], i % 2 ? "" : "de");
            all[k].logprob = weigh(seq, text, i % 2);
            all[k].p = (double)k;
        }
        double sum = 0;
        for (size_t k = 0; k < 4; k++) sum += exp(all[k].logprob);
        for (size_t k = 0, at; ok && k < 4; k++) {
            for (at = 0; at < 4 && strcmp(a.item[at].text[0], choice[k]) != 0; at++) continue;
            ok = at < 4 && fabs(a.item[at].p - exp(all[k].logprob) / sum) < 1e-4;
        }
        wrong += !ok;
        sp_fill_answers_clear(&a);
        sp_lm_seq_free(lm, context);
        sp_lm_seq_free(lm, seq);
    }
    check_ok(wrong == 0, "choices: their shares, by what follows or by their end");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    char dir[] = "/tmp/sp-check-fill-XXXXXX";
    if (!mkdtemp(dir)) return 1;
    size_t n = 0;
    for (int c = 32; c < VOCAB; c++)
        if (c < 'a' || c >= 'a' + LETTERS) until[n++] = (char)c;
    make_model(dir);
    const struct sp_lm_options o = {.model = dir, .device = "cpu", .n_thread = 1, .dtype = SP_F32};
    must(sp_lm_open(&lm, &o, &err));
    if (check_wanted("open")) check_one_slot("b?__", "");
    if (check_wanted("followed")) check_one_slot("b?__de", "de"), check_one_slot("b?__aac", "aac");
    if (check_wanted("two")) check_two_slots();
    if (check_wanted("choices")) check_choices();
    sp_lm_free(lm);
    remove_model(dir);
    return check_end();
}
