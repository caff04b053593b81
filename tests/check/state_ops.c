/* What is made of states: every operation against what it says it does, on random states. */
#include "../../lib/state_ops.h"
#include "../../lib/state_near.h"
#include "../../lib/state_plot.h"
#include "../../lib/state_safetensors.h"
#include "states.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 30 };

static size_t ssm_count(const struct sp_state *s) {
    return (s->layer_last - s->layer_first + 1) * sp_state_ssm_size(s);
}
static size_t conv_count(const struct sp_state *s) {
    return (s->layer_last - s->layer_first + 1) * sp_state_conv_size(s);
}

static bool refused(enum sp_code code, enum sp_code want, const char *message) {
    bool ok = code == want && strcmp(check_err.msg, message) == 0;
    if (!ok) printf("# status %d, '%s', not '%s'\n", code, code ? check_err.msg : "", message);
    return ok;
}

/* ---- parts ---------------------------------------------------------------------------------- */

/* Cut anywhere, joined in any order: the same state. */
static void check_parts(void) {
    bool ok = true;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = (uint32_t)check_random_int(1, 7), parts = 0;
        struct sp_state *s = check_state_random(0, n - 1, n, check_random_int(1, 5)), *joined;
        struct sp_state_part part[7];
        for (uint32_t first = 0; first < n; parts++) {
            uint32_t last = (uint32_t)check_random_int(first, n - 1);
            check_must(sp_state_slice(&part[parts].state, s, first, last, &check_err));
            part[parts].name = "part";
            first = last + 1;
        }
        for (uint32_t i = parts; i > 1; i--) {
            uint32_t k = (uint32_t)check_random_int(0, i - 1);
            struct sp_state_part swap = part[k];
            part[k] = part[i - 1];
            part[i - 1] = swap;
        }
        check_must(sp_state_merge(&joined, part, parts, &check_err));
        ok = ok && check_state_same(s, joined);
        for (uint32_t i = 0; i < parts; i++) sp_state_free(part[i].state);
        sp_state_free(s), sp_state_free(joined);
    }
    check_ok(ok, "parts: %d random states, cut anywhere and joined in any order", ROUNDS);
    struct sp_state *s = check_state_random(1, 3, 5, 4), *cut;
    check_ok(refused(sp_state_slice(&cut, s, 0, 2, &check_err), SP_E_USAGE,
                     "layers 0-2: the state has layers 1-3") &&
                 sp_state_slice(&cut, s, 2, 1, &check_err) == SP_E_USAGE &&
                 sp_state_slice(&cut, s, 2, 4, &check_err) == SP_E_USAGE,
             "parts: layers that are not there");
    sp_state_free(s);
}

static enum sp_code merge_two(const struct sp_state *a, const struct sp_state *b) {
    struct sp_state_part part[] = {{"a", (struct sp_state *)(uintptr_t)a},
                                   {"b", (struct sp_state *)(uintptr_t)b}};
    struct sp_state *out;
    enum sp_code code = sp_state_merge(&out, part, 2, &check_err);
    sp_state_free(out);
    return code;
}

static void check_merge_refusals(void) {
    struct sp_state *a = check_state_random(0, 1, 8, 4), *b = check_state_random(2, 3, 8, 4);
    check_ok(!merge_two(a, b), "merge: two parts of layers");
    struct sp_state *twice = check_state_random(1, 3, 8, 4), *far = check_state_random(5, 7, 8, 4),
                    *next = check_state_random(3, 4, 8, 4);
    check_ok(refused(merge_two(a, twice), SP_E_DATA, "b: layer 1 is in a too"), "merge: overlap");
    check_ok(refused(merge_two(a, far), SP_E_DATA, "layers 2-4 are in none of the files"),
             "merge: a gap");
    check_ok(refused(merge_two(next, a), SP_E_DATA, "layer 2 is in none of the files"),
             "merge: a gap of one layer");
    b->n_tok = 9;
    check_ok(refused(merge_two(a, b), SP_E_DATA,
                     "b: the state has read other tokens (9) than a (3): only parts of one "
                     "document's state are merged (see mix)"),
             "merge: another document");
    b->n_tok = 3;
    b->prefix.byte[3] ^= 1;
    check_ok(merge_two(a, b) == SP_E_DATA, "merge: another prefix");
    b->prefix.byte[3] ^= 1;
    b->origin = SP_ORIGIN_TUNED;
    check_ok(
        refused(merge_two(a, b), SP_E_DATA, "b: the state's origin is tuned, that of a is read"),
        "merge: another origin");
    b->origin = SP_ORIGIN_READ;
    a->has_last = b->has_last = true;
    check_ok(refused(merge_two(a, b), SP_E_DATA, "b: the last token is in a too"),
             "merge: two last tokens");
    a->has_last = b->has_last = false;
    b->tokenizer.byte[0]++;
    check_ok(refused(merge_two(a, b), SP_E_DATA,
                     "b: the state was made with another tokenizer (656566676869) than a "
                     "(646566676869)"),
             "merge: another tokenizer");
    b->tokenizer.byte[0]--;
    b->d_inner++;
    check_ok(
        refused(merge_two(a, b), SP_E_DATA, "b: the state is of another shape: d_inner 6, a has 5"),
        "merge: another shape");
    b->d_inner--;
    b->model.byte[0] = 0xff;
    check_ok(refused(merge_two(a, b), SP_E_DATA,
                     "b: the state belongs to another model (fingerprint ff0203040506) than a "
                     "(010203040506)"),
             "merge: another model");
    sp_state_free(a), sp_state_free(b), sp_state_free(twice), sp_state_free(far);
    sp_state_free(next);
}

/* ---- mixtures ------------------------------------------------------------------------------- */

static void check_mix(void) {
    bool sums = true, names = true, alone = true;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = (uint32_t)check_random_int(1, 4), parts = (uint32_t)check_random_int(1, 5);
        struct sp_state *part[5], *out;
        struct sp_state_mix m = {0};
        double weight[5], largest = -1;
        uint64_t n_tok = 0;
        uint32_t id = 0;
        for (uint32_t i = 0; i < parts; i++) {
            part[i] = check_state_random(0, n - 1, n, 4);
            part[i]->n_tok = (uint64_t)check_random_int(1, 1000);
            part[i]->last_id = i;
            weight[i] = check_random_float(-2, 2);
            n_tok += part[i]->n_tok;
            if (fabs(weight[i]) > largest) id = i;
            largest = fmax(largest, fabs(weight[i]));
            check_must(sp_state_mix_add(&m, part[i], "first", weight[i], &check_err));
        }
        check_must(sp_state_mix_end(&m, &out, &check_err));
        for (size_t k = 0; k < ssm_count(out); k++) {
            double sum = 0;
            for (uint32_t i = 0; i < parts; i++) sum += weight[i] * part[i]->ssm[k];
            sums = sums && out->ssm[k] == (float)sum;
        }
        for (size_t k = 0; k < conv_count(out); k++) {
            double sum = 0;
            for (uint32_t i = 0; i < parts; i++) sum += weight[i] * part[i]->conv[k];
            sums = sums && out->conv[k] == (float)sum;
        }
        double hidden = 0;
        for (uint32_t i = 0; i < parts; i++) hidden += weight[i] * part[i]->last_hidden[1];
        sums = sums && out->last_hidden[1] == (float)hidden;
        names = names && out->origin == SP_ORIGIN_MIXED && out->n_tok == n_tok && out->has_last &&
                out->last_id == id && sp_hash_equal(&out->model, &part[0]->model) &&
                !sp_hash_equal(&out->prefix, &part[0]->prefix);
        sp_state_free(out);
        check_must(sp_state_mix_add(&m, part[0], "first", 1, &check_err));
        check_must(sp_state_mix_end(&m, &out, &check_err));
        alone = alone && memcmp(out->ssm, part[0]->ssm, ssm_count(out) * sizeof(float)) == 0;
        sp_state_free(out);
        for (uint32_t i = 0; i < parts; i++) sp_state_free(part[i]);
    }
    check_ok(sums, "mix: sums of %d random mixtures, rounded once", ROUNDS);
    check_ok(names, "mix: tokens add up, the largest weight's token is the last, origin mixed");
    check_ok(alone, "mix: one state with weight 1 keeps its bits");
}

static void check_mix_refusals(void) {
    struct sp_state *a = check_state_random(0, 1, 2, 4), *b = check_state_random(0, 1, 2, 4);
    struct sp_state *half = check_state_random(1, 1, 2, 4), *out;
    struct sp_state_mix m = {0};
    check_must(sp_state_mix_add(&m, a, "a", 0.5, &check_err));
    check_ok(refused(sp_state_mix_add(&m, half, "a", 0.5, &check_err), SP_E_DATA,
                     "the state has layers 1-1, a has 0-1"),
             "mix: other layers");
    b->model.byte[0] = 0;
    check_ok(refused(sp_state_mix_add(&m, b, "a", 0.5, &check_err), SP_E_DATA,
                     "the state belongs to another model (fingerprint 000203040506) than a "
                     "(010203040506)"),
             "mix: another model");
    b->model.byte[0] = 1;
    b->has_last = false;
    check_must(sp_state_mix_add(&m, b, "a", 0.5, &check_err));
    check_must(sp_state_mix_end(&m, &out, &check_err));
    check_ok(!out->has_last, "mix: no last token where a part has none");
    sp_state_free(out);
    b->ssm[1] = 3e38f;
    check_must(sp_state_mix_add(&m, b, "b", 2, &check_err));
    check_ok(refused(sp_state_mix_end(&m, &out, &check_err), SP_E_DATA,
                     "the mixture holds NaN, infinity or numbers too large for f32") &&
                 !out && !m.sum,
             "mix: too large for f32");
    check_ok(sp_state_mix_end(&m, &out, &check_err) == SP_E_USAGE, "mix: of nothing");
    sp_state_free(a), sp_state_free(b), sp_state_free(half);
}

static void check_weights(void) {
    static const struct {
        const char *operand;
        size_t n_name;
        double weight;
    } good[] = {{"a:0.7", 1, 0.7}, {"x/y.state:-1", 9, -1}, {"a:b:1e-3", 3, 1e-3},
                {"a:+.5", 1, 0.5}, {"-:2.", 1, 2},          {"a:0", 1, 0}};
    static const char *const bad[] = {"a",     "a:",    ":1",    "a:x",    "a:1x",      "a: 1",
                                      "a:1 ",  "a:inf", "a:nan", "a:0x10", "a:1e999",   "a:1,5",
                                      "a:--1", "a:1:",  "",      "a:1e",   "a:1.2.3",   "a:e5",
                                      "a:.",   "a:+",   "a:-e",  "a:0.5%", "a:INFINITY"};
    bool ok = true, strict = true;
    size_t n = 0;
    double weight = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ok = ok && !sp_state_mix_parse(good[i].operand, &n, &weight, &check_err) &&
             n == good[i].n_name && weight == good[i].weight;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool taken = sp_state_mix_parse(bad[i], &n, &weight, &check_err) != SP_E_USAGE;
        if (taken) printf("# taken: '%s'\n", bad[i]);
        strict = strict && !taken;
    }
    check_ok(ok, "weights: decimal numbers behind the last colon");
    check_ok(strict, "weights: %zu others are refused: %s", sizeof bad / sizeof *bad,
             check_err.msg);
}

/* ---- half types ----------------------------------------------------------------------------- */

static void check_convert(void) {
    bool bounds = true, same = true, names = true;
    for (int round = 0; round < ROUNDS; round++) {
        struct sp_state *s = check_state_random(0, 2, 3, 4), *before;
        enum sp_dtype dtype = round % 2 ? SP_BF16 : SP_F16;
        s->origin = (enum sp_origin)check_random_int(0, 3);
        check_must(sp_state_slice(&before, s, 0, 2, &check_err));
        struct sp_state_loss conv, ssm;
        check_must(sp_state_convert(s, dtype, &conv, &ssm, &check_err));
        double limit = dtype == SP_BF16 ? 0x1p-8 : 0x1p-11, worst = 0;
        for (size_t i = 0; i < ssm_count(s); i++)
            worst = fmax(worst, fabs((double)s->ssm[i] - before->ssm[i]) / fabs(before->ssm[i]));
        /* numbers from -2 to 2 on: subnormal in f16 below 2^-14 only */
        bounds = bounds && ssm.largest == worst && ssm.rms <= limit && ssm.rms > 0 &&
                 ssm.n == ssm_count(s) && (worst <= limit || dtype == SP_F16) && conv.rms <= limit;
        names =
            names && s->dtype == dtype &&
            s->origin == (before->origin == SP_ORIGIN_READ ? SP_ORIGIN_CONVERTED : before->origin);
        sp_state_free(before);
        check_must(sp_state_slice(&before, s, 0, 2, &check_err));
        check_must(sp_state_convert(s, dtype, &conv, &ssm, &check_err));
        same = same && check_state_same(s, before) && ssm.largest == 0 && conv.rms == 0;
        check_must(sp_state_convert(s, SP_F32, &conv, &ssm, &check_err));
        same = same && s->dtype == SP_F32 && s->origin == before->origin &&
               memcmp(s->ssm, before->ssm, ssm_count(s) * sizeof(float)) == 0;
        sp_state_free(s), sp_state_free(before);
    }
    check_ok(bounds, "convert: errors are what is said, below 2^-8 and 2^-11");
    check_ok(names, "convert: type, and origin converted where it was read");
    check_ok(same, "convert: a second time, and to f32, loses nothing");
}

static void check_convert_range(void) {
    struct sp_state *s = check_state_random(0, 2, 3, 4), *before;
    struct sp_state_loss conv, ssm;
    s->ssm[sp_state_ssm_size(s)] = -1e5f;
    check_must(sp_state_slice(&before, s, 0, 2, &check_err));
    enum sp_code code = sp_state_convert(s, SP_F16, &conv, &ssm, &check_err);
    check_ok(refused(code, SP_E_DATA,
                     "layer 1: ssm holds -100000, and f16 goes to 65504 only: use bf16") &&
                 check_state_same(s, before),
             "convert: too large for f16, and nothing is changed");
    s->ssm[sp_state_ssm_size(s)] = 1e-9f;
    s->conv[0] = NAN;
    check_must(sp_state_convert(s, SP_F16, &conv, &ssm, &check_err));
    check_ok(ssm.n_zero == 1 && ssm.largest == 1 && s->ssm[sp_state_ssm_size(s)] == 0 &&
                 isnan(s->conv[0]) && conv.n == conv_count(s) - 1,
             "convert: what becomes 0 is counted, NaN stays");
    sp_state_free(s), sp_state_free(before);
}

/* ---- safetensors ---------------------------------------------------------------------------- */

/* A file in memory, by descriptor and by name. */
static int file = -1;
static char path[64];

static void file_put(const uint8_t *bytes, size_t n) {
    if (ftruncate(file, 0) || pwrite(file, bytes, n, 0) != (ssize_t)n) abort();
}

static void export_to_file(const struct sp_state *s) {
    char *bytes;
    size_t n;
    FILE *f = open_memstream(&bytes, &n);
    check_must(sp_state_export(s, f, &check_err));
    fclose(f);
    file_put((uint8_t *)bytes, n);
    free(bytes);
}

static void check_safetensors(void) {
    bool ok = true;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = (uint32_t)check_random_int(1, 6), first = (uint32_t)check_random_int(0, n - 1);
        uint32_t last = (uint32_t)check_random_int(first, n - 1);
        struct sp_state *s = check_state_random(first, last, n, check_random_int(1, 5)), *back;
        struct sp_state_loss loss[2];
        s->origin = (enum sp_origin)check_random_int(0, 3);
        s->n_tok = check_random();
        enum sp_dtype dtype = (enum sp_dtype)check_random_int(SP_F32, SP_BF16);
        check_must(sp_state_convert(s, dtype, &loss[0], &loss[1], &check_err));
        export_to_file(s);
        check_must(sp_state_import(&back, path, false, &check_err));
        ok = ok && check_state_same(s, back);
        sp_state_free(s), sp_state_free(back);
    }
    check_ok(ok, "safetensors: %d random states of all types come back bit by bit", ROUNDS);
}

/* Each flipped bit is refused, or leaves the state as it was (in a name's padding, say). */
static void check_safetensors_damage(void) {
    struct sp_state *s = check_state_random(0, 0, 1, 3), *back;
    export_to_file(s);
    uint8_t bytes[8192];
    size_t n = (size_t)pread(file, bytes, sizeof bytes, 0), wrong = 0, edited = 0;
    for (size_t i = 0; i < n * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        file_put(bytes, n);
        if (!sp_state_import(&back, path, false, &check_err)) {
            wrong += !check_state_same(s, back);
            sp_state_free(back);
        }
        if (!sp_state_import(&back, path, true, &check_err)) {
            edited += !check_state_same(s, back) && back->origin != SP_ORIGIN_TUNED;
            sp_state_free(back);
        }
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    check_ok(wrong == 0, "safetensors: each of %zu flipped bits is refused or harmless", n * 8);
    check_ok(edited == 0, "safetensors: with --edited what is taken is of origin tuned");
    wrong = 0;
    for (size_t cut = 0; cut < n; cut++) {
        file_put(bytes, cut);
        if (sp_state_import(&back, path, true, &check_err)) continue;
        wrong++;
        sp_state_free(back);
    }
    check_ok(wrong == 0, "safetensors: each of %zu cuts is refused", n);
    sp_state_free(s);
}

/* ---- distances ------------------------------------------------------------------------------ */

static void check_near(void) {
    bool zero = true, symmetric = true, bounded = true, scaled = true;
    for (int round = 0; round < ROUNDS; round++) {
        struct sp_state *a = check_state_random(0, 2, 3, 4), *b = check_state_random(0, 2, 3, 4);
        for (int metric = SP_METRIC_COSINE; metric <= SP_METRIC_L2; metric++) {
            double ab = sp_state_distance(a, b, (enum sp_metric)metric);
            zero = zero && sp_state_distance(a, a, (enum sp_metric)metric) == 0;
            symmetric = symmetric && ab == sp_state_distance(b, a, (enum sp_metric)metric);
            bounded = bounded && ab > 0 && ab <= (metric == SP_METRIC_L2 ? 1 : 2);
        }
        double before = sp_state_distance(a, b, SP_METRIC_L2);
        size_t n = sp_state_ssm_size(a);
        for (size_t i = 0; i < n; i++) a->ssm[n + i] *= 1024, b->ssm[n + i] *= 1024;
        scaled = scaled && sp_state_distance(a, b, SP_METRIC_L2) == before;
        sp_state_free(a), sp_state_free(b);
    }
    check_ok(zero && symmetric && bounded, "near: 0 for the same, symmetric, within bounds");
    check_ok(scaled, "near: a layer of larger numbers counts no more");
    struct sp_state *a = check_state_random(0, 0, 1, 4), *b = check_state_random(0, 0, 1, 4);
    for (size_t i = 0; i < ssm_count(a); i++) b->ssm[i] = -2 * a->ssm[i];
    bool opposite = fabs(sp_state_distance(a, b, SP_METRIC_COSINE) - 2) < 1e-12 &&
                    sp_state_distance(a, b, SP_METRIC_L2) == 1;
    memset(b->ssm, 0, ssm_count(b) * sizeof(float));
    check_ok(opposite && sp_state_distance(a, b, SP_METRIC_COSINE) == 1 &&
                 sp_state_distance(b, b, SP_METRIC_COSINE) == 0 &&
                 sp_state_distance(b, b, SP_METRIC_L2) == 0,
             "near: opposites, and zeros");
    b->ssm[0] = NAN;
    check_ok(isnan(sp_state_distance(a, b, SP_METRIC_COSINE)) &&
                 isnan(sp_state_distance(a, b, SP_METRIC_L2)),
             "near: NaN is not hidden");
    struct sp_near near[] = {{.place = 0, .distance = 2},
                             {.place = 1, .distance = 1},
                             {.place = 2, .distance = 2},
                             {.place = 3, .distance = 0}};
    sp_near_sort(near, 4);
    check_ok(near[0].place == 3 && near[1].place == 1 && near[2].place == 0 && near[3].place == 2,
             "near: sorted, equal ones in order");
    sp_state_free(a), sp_state_free(b);
}

/* ---- pictures ------------------------------------------------------------------------------- */

static char *drawn(const struct sp_state *s, bool svg, size_t *n) {
    char *text;
    FILE *f = open_memstream(&text, n);
    check_must(svg ? sp_state_plot_svg(s, "a<b&\x01.state", f, &check_err)
                   : sp_state_plot_pgm(s, f, &check_err));
    fclose(f);
    return text;
}

static void check_plot(void) {
    struct sp_state *s = check_state_random(0, 2, 3, 4);
    /* channel 2 of layer 1 is the largest, channel 0 of layer 0 is zero */
    s->ssm[0] = s->ssm[1] = 0;
    s->ssm[sp_state_ssm_size(s) + 4] = 50;
    size_t n;
    char *pgm = drawn(s, false, &n);
    const char *head = strstr(pgm, "\n5 52\n255\n");
    size_t at = head ? (size_t)(head - pgm) + strlen("\n5 52\n255\n") : 0;
    const uint8_t *pixel = (const uint8_t *)pgm + at;
    check_ok(head && n == at + 5 * 52 && strncmp(pgm, "P5\n# layers 0-2", 15) == 0,
             "plot: PGM of 5 channels, 2 times 3 layers");
    check_ok(head && pixel[0] == 0 && pixel[8 * 5 + 2] == 255 && pixel[8 * 5 + 1] < 255 &&
                 pixel[24 * 5] == 255 && pixel[27 * 5 + 4] == 255,
             "plot: zero is black, the largest white, then a white line");
    free(pgm);
    s->ssm[1] = NAN;
    char *svg = drawn(s, true, &n);
    check_ok(strncmp(svg, "<svg ", 5) == 0 && strstr(svg, "a&lt;b&amp;\xef\xbf\xbd.state") &&
                 strstr(svg, "</svg>\n") == svg + n - 7 && strstr(svg, "red is no number") &&
                 strstr(svg, ">35<"),
             "plot: SVG with an escaped name, NaN, and the scale's end");
    free(svg);
    memset(s->ssm, 0, ssm_count(s) * sizeof(float));
    svg = drawn(s, true, &n);
    check_ok(strstr(svg, "all are zero") && !strstr(svg, "nan") && !strstr(svg, "inf"),
             "plot: SVG of zeros");
    free(svg);
    sp_state_free(s);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    file = memfd_create("safetensors", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (check_wanted("parts")) check_parts();
    if (check_wanted("merge")) check_merge_refusals();
    if (check_wanted("mix")) check_mix(), check_mix_refusals();
    if (check_wanted("weights")) check_weights();
    if (check_wanted("convert")) check_convert(), check_convert_range();
    if (check_wanted("safetensors")) check_safetensors(), check_safetensors_damage();
    if (check_wanted("near")) check_near();
    if (check_wanted("plot")) check_plot();
    close(file);
    return check_end();
}
