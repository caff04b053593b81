/* States: files come back bit by bit, any flipped bit is found, parts join only when they belong
 * together. */
#include "../../lib/state.h"
#include "../../lib/io.h"
#include "../../lib/state_ops.h"
#include "states.h"

#include <sys/mman.h>
#include <unistd.h>

/* A state's file as bytes. */
struct bytes {
    uint8_t data[16384];
    size_t n;
};

static struct bytes to_bytes(const struct sp_state *s) {
    struct bytes b;
    struct sp_writer *w;
    int fd = memfd_create("state", 0);
    check_must(sp_writer_new(&w, fd, "memory", &check_err));
    check_must(sp_state_send(s, w, &check_err));
    check_must(sp_writer_flush(w, &check_err));
    sp_writer_free(w);
    ssize_t n = pread(fd, b.data, sizeof b.data, 0);
    b.n = n > 0 ? (size_t)n : 0;
    close(fd);
    return b;
}

static enum sp_code from_bytes(struct sp_state **s, const void *data, size_t n) {
    struct sp_reader *r;
    int fd = memfd_create("state", 0);
    if (write(fd, data, n) != (ssize_t)n) abort();
    lseek(fd, 0, SEEK_SET);
    check_must(sp_reader_new(&r, fd, "memory", &check_err));
    enum sp_code code = sp_state_receive(s, r, &check_err);
    sp_reader_free(r);
    close(fd);
    return code;
}

/* The same in front of documents: as a filter without layers passes it on. */
static enum sp_code pass_on(const void *data, size_t n) {
    struct sp_reader *r;
    struct sp_filter_result result;
    struct sp_filter f = {.program = "check", .in = SP_HIDDEN, .out = SP_HIDDEN, .silent = true};
    int fd = memfd_create("state", 0);
    if (write(fd, data, n) != (ssize_t)n) abort();
    lseek(fd, 0, SEEK_SET);
    check_must(sp_reader_new(&r, fd, "memory", &check_err));
    enum sp_code code = sp_filter_run(&f, r, NULL, &result, &check_err);
    sp_reader_free(r);
    close(fd);
    return code;
}

static void check_files(void) {
    bool ok = true;
    for (int i = 0; i < 20; i++) {
        uint32_t n = (uint32_t)check_random_int(1, 6);
        uint32_t first = (uint32_t)check_random_int(0, n - 1);
        uint32_t last = (uint32_t)check_random_int(first, n - 1);
        struct sp_state *a = check_state_random(first, last, n, check_random_int(1, 5)), *b = NULL;
        a->origin = (enum sp_origin)check_random_int(0, 3);
        char path[] = "/tmp/sp-check-state-XXXXXX";
        int fd = mkstemp(path);
        close(fd);
        check_must(sp_state_write(a, path, &check_err));
        check_must(sp_state_read(&b, path, &check_err));
        ok = ok && check_state_same(a, b);
        unlink(path);
        sp_state_free(a);
        sp_state_free(b);
    }
    check_ok(ok, "file: 20 random states come back bit by bit");
}

/* Half types in a file: what f32 can hold of them comes back to the bit, and a state that claims to
 * be as it was read does not claim it any more. */
static void check_half(void) {
    bool ok = true, origin = true;
    for (int i = 0; i < 20; i++) {
        struct sp_state *a = check_state_random(0, 2, 3, check_random_int(1, 5)), *b, *c;
        a->dtype = i % 2 ? SP_BF16 : SP_F16;
        a->origin = (enum sp_origin)check_random_int(0, 3);
        struct bytes x = to_bytes(a);
        check_must(from_bytes(&b, x.data, x.n));
        size_t n = 3 * sp_state_ssm_size(a);
        for (size_t k = 0; k < n; k++)
            ok = ok && b->ssm[k] == (i % 2 ? sp_f32_from_bf16(sp_bf16_from_f32(a->ssm[k]))
                                           : sp_f32_from_f16(sp_f16_from_f32(a->ssm[k])));
        origin =
            origin && b->origin == (a->origin == SP_ORIGIN_READ ? SP_ORIGIN_CONVERTED : a->origin);
        struct bytes y = to_bytes(b);
        check_must(from_bytes(&c, y.data, y.n));
        ok = ok && check_state_same(b, c) && c->dtype == a->dtype;
        sp_state_free(a), sp_state_free(b), sp_state_free(c);
    }
    check_ok(ok, "half: 20 states in bf16 and f16 come back as they were rounded, and stay so");
    check_ok(origin, "half: a state of origin read is one of origin converted");
}

static bool says(const char *what) {
    return strstr(check_err.msg, what) != NULL;
}

/* A message says that bytes are missing only where they are, or that it may be something else. */
static bool fair_of_flip(void) {
    return says("or it is damaged") || says(": damaged: ") || says("it is damaged") ||
           says("has no checksum") || says("it looks like") || says("is no tensor");
}

/* What is left of a file, alone and in front of a whole one. */
static void check_cuts(const struct bytes *good) {
    struct sp_state *b;
    uint8_t two[2 * sizeof good->data];
    size_t accepted = 0, unfair = 0;
    for (size_t n = 0; n < good->n; n++) {
        accepted += !from_bytes(&b, good->data, n);
        unfair += n > 0 && !says("the file was cut off, or it is damaged");
    }
    check_ok(accepted == 0, "damage: each of %zu cuts is found", good->n);
    check_ok(unfair == 0, "damage: and told as one (%zu not)", unfair);
    unfair = 0;
    for (size_t n = 1; n < good->n; n++) {
        memcpy(two, good->data, n);
        memcpy(two + n, good->data, good->n);
        accepted += !from_bytes(&b, two, n + good->n);
        accepted += !pass_on(two, n + good->n);
        unfair += !says("cut off") && !says("damaged") && !says("no checksum") && !says("it looks");
    }
    check_ok(accepted == 0, "damage: in front of a whole segment, too");
    check_ok(unfair == 0, "damage: as a cut or as damage (%zu not)", unfair);
}

static void check_damage(enum sp_dtype dtype) {
    struct sp_state *a = check_state_random(0, 1, 2, 4), *b;
    struct sp_state_loss loss[2];
    check_must(sp_state_convert(a, dtype, &loss[0], &loss[1], &check_err));
    struct bytes good = to_bytes(a);
    size_t accepted = 0, passed = 0, at = 0, unfair = 0;
    for (size_t i = 0; i < good.n * 8; i++) {
        good.data[i / 8] ^= (uint8_t)(1u << i % 8);
        if (!from_bytes(&b, good.data, good.n)) {
            accepted++;
            at = i;
            sp_state_free(b);
        }
        unfair += !fair_of_flip();
        passed += !pass_on(good.data, good.n);
        unfair += !fair_of_flip();
        good.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    check_ok(accepted == 0,
             "damage: each of %zu flipped bits of a file in %s is found (%zu not, last %zu)",
             good.n * 8, sp_dtype_name(dtype), accepted, at);
    check_ok(passed == 0 && !pass_on(good.data, good.n),
             "damage: and in a stream, by a filter that passes it on (%zu not)", passed);
    check_ok(unfair == 0, "damage: no message says more than is known (%zu do)", unfair);
    check_cuts(&good);
    enum sp_code code = from_bytes(&b, good.data, good.n);
    check_ok(!code && check_state_same(a, b), "damage: the whole file is fine");
    sp_state_free(a);
    sp_state_free(b);
}

/* Two files one after another, as cat joins them. */
static enum sp_code joined(const struct sp_state *a, const struct sp_state *b,
                           struct sp_state **out) {
    struct bytes x = to_bytes(a), y = to_bytes(b);
    if (x.n + y.n > sizeof x.data) abort();
    memcpy(x.data + x.n, y.data, y.n);
    return from_bytes(out, x.data, x.n + y.n);
}

static void check_join(void) {
    struct sp_state *a = check_state_random(0, 1, 5, 4), *b = check_state_random(2, 4, 5, 4), *c;
    enum sp_code code = joined(b, a, &c);
    check_ok(!code && c->layer_first == 0 && c->layer_last == 4 && c->has_last &&
                 memcmp(c->ssm, a->ssm, 2 * sp_state_ssm_size(a) * sizeof(float)) == 0 &&
                 memcmp(c->ssm + 2 * sp_state_ssm_size(a), b->ssm,
                        3 * sp_state_ssm_size(a) * sizeof(float)) == 0,
             "join: cat of two ranges of layers, in any order, is their state");
    sp_state_free(c);
    code = joined(a, a, &c);
    check_ok(code == SP_E_DATA && strstr(check_err.msg, "twice"), "join: a layer twice: %s",
             check_err.msg);
    b->n_tok = 4;
    code = joined(a, b, &c);
    check_ok(code == SP_E_DATA && strstr(check_err.msg, "belong together"),
             "join: other document: %s", check_err.msg);
    struct sp_state *d = check_state_random(3, 4, 5, 4);
    code = joined(a, d, &c);
    check_ok(code == SP_E_DATA && strstr(check_err.msg, "1 are missing"), "join: a gap: %s",
             check_err.msg);
    a->has_last = true;
    b->n_tok = a->n_tok;
    code = joined(a, b, &c);
    check_ok(code == SP_E_DATA && strstr(check_err.msg, "two last tokens"), "join: %s",
             check_err.msg);
    /* Rows arrive in any order, more than are expected after the first one. */
    struct sp_state *one[5];
    struct bytes all = {.n = 0};
    const uint32_t order[] = {3, 0, 4, 1, 2};
    bool ok = true;
    for (uint32_t i = 0; i < 5; i++) {
        one[i] = check_state_random(order[i], order[i], 5, 2);
        struct bytes x = to_bytes(one[i]);
        memcpy(all.data + all.n, x.data, x.n);
        all.n += x.n;
    }
    check_must(from_bytes(&c, all.data, all.n));
    for (uint32_t i = 0; i < 5; i++) {
        size_t n = sp_state_ssm_size(c), m = sp_state_conv_size(c), at = order[i];
        ok = ok && memcmp(c->ssm + at * n, one[i]->ssm, n * sizeof(float)) == 0 &&
             memcmp(c->conv + at * m, one[i]->conv, m * sizeof(float)) == 0;
        sp_state_free(one[i]);
    }
    check_ok(ok && c->has_last, "join: five layers in an order of their own");
    sp_state_free(a);
    sp_state_free(b);
    sp_state_free(c);
    sp_state_free(d);
}

/* Files that were written once: what their checksums cover must stay what the man page says. */
static void check_old_files(void) {
    static const char *const files[] = {"whole", "part", "last-layer"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[80];
        struct sp_state *s;
        snprintf(path, sizeof path, "tests/fuzz/seeds/state/%s", files[i]);
        enum sp_code code = sp_state_read(&s, path, &check_err);
        check_ok(!code && s->n_tok == 1000 && s->n_layer == 3, "old: %s is still read", path);
        sp_state_free(s);
    }
}

static void check_hash(void) {
    uint32_t id[100];
    struct sp_hash whole = {{0}}, parts = {{0}};
    for (size_t i = 0; i < 100; i++) id[i] = (uint32_t)check_random();
    sp_state_hash_ids(&whole, id, 100);
    for (size_t i = 0; i < 100;) {
        size_t n = (size_t)check_random_int(0, (int64_t)(100 - i));
        sp_state_hash_ids(&parts, id + i, n);
        i += n;
    }
    check_ok(sp_hash_equal(&whole, &parts), "hash: the prefix does not see chunks");
    id[50] ^= 1;
    parts = (struct sp_hash){{0}};
    sp_state_hash_ids(&parts, id, 100);
    check_ok(!sp_hash_equal(&whole, &parts), "hash: another token, another prefix");
}

/* Each way in which a state may not fit, and that a state of one layer fits what needs that layer.
 */
static void check_fits(void) {
    struct sp_model *m;
    struct sp_state *s;
    check_must(sp_model_open(&m, "tests/golden/mamba-deep", &check_err));
    const struct sp_config *c = sp_model_config(m);
    uint32_t last = (uint32_t)c->n_layer - 1;
    check_must(sp_state_new(&s, m, 0, last, &check_err));
    check_ok(!sp_state_check(s, m, 0, last, &check_err) &&
                 !sp_state_check(s, m, last, last, &check_err),
             "fits: a new state of %u layers, whole and in part", last + 1);
    struct {
        int64_t *dim;
        const char *message;
    } dims[] = {{&s->d_model, "another shape: d_model"},
                {&s->d_inner, "another shape: d_inner"},
                {&s->d_state, "another shape: d_state"},
                {&s->d_conv, "another shape: d_conv"}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        ++*dims[i].dim;
        enum sp_code code = sp_state_check(s, m, 0, last, &check_err);
        check_ok(code == SP_E_DATA && strstr(check_err.msg, dims[i].message), "fits: %s",
                 check_err.msg);
        --*dims[i].dim;
    }
    s->n_layer++;
    check_ok(sp_state_check(s, m, 0, last, &check_err) == SP_E_DATA &&
                 strstr(check_err.msg, "layers in all"),
             "fits: %s", check_err.msg);
    s->n_layer--;
    s->model.byte[7] ^= 1;
    check_ok(sp_state_check(s, m, 0, last, &check_err) == SP_E_DATA &&
                 strstr(check_err.msg, "another model"),
             "fits: %s", check_err.msg);
    sp_state_free(s);
    check_must(sp_state_new(&s, m, 1, last, &check_err));
    check_ok(sp_state_check(s, m, 0, last, &check_err) == SP_E_DATA &&
                 strstr(check_err.msg, "but 0-") && !sp_state_check(s, m, 1, 1, &check_err),
             "fits: missing layers");
    struct sp_hello hello = {.n_layer = 1};
    enum sp_code unknown = sp_state_check_stream(s, &hello, &check_err);
    s->tokenizer.byte[0] = 1;
    enum sp_code half_known = sp_state_check_stream(s, &hello, &check_err);
    hello.tokenizer.byte[0] = 2;
    check_ok(!unknown && !half_known && sp_state_check_stream(s, &hello, &check_err) == SP_E_DATA,
             "fits: %s", check_err.msg);
    hello.tokenizer.byte[0] = 1;
    check_ok(!sp_state_check_stream(s, &hello, &check_err), "fits: the same tokenizer");
    sp_state_free(s);
    sp_model_free(m);
}

/* For the suites of the programs: state --write MODEL FILE SEED FIRST LAST. */
static int write_for(char **arg) {
    struct sp_model *m;
    struct sp_state *s;
    check_state.random = strtoull(arg[2], NULL, 10);
    check_must(sp_model_open(&m, arg[0], &check_err));
    check_must(sp_state_new(&s, m, (uint32_t)atoi(arg[3]), (uint32_t)atoi(arg[4]), &check_err));
    size_t layers = s->layer_last - s->layer_first + 1;
    check_fill(s->conv, (int64_t)(layers * sp_state_conv_size(s)), -2, 2);
    check_fill(s->ssm, (int64_t)(layers * sp_state_ssm_size(s)), -2, 2);
    s->n_tok = 3;
    sp_state_hash_ids(&s->prefix, (uint32_t[]){1, 2, 3}, 3);
    s->has_last = s->layer_last + 1 == s->n_layer;
    s->last_id = 3;
    check_must(sp_state_write(s, arg[1], &check_err));
    sp_state_free(s);
    sp_model_free(m);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 7 && strcmp(argv[1], "--write") == 0) return write_for(argv + 2);
    check_start(argc, argv);
    if (check_wanted("file")) check_files();
    if (check_wanted("half")) check_half();
    if (check_wanted("damage")) check_damage(SP_F32), check_damage(SP_BF16);
    if (check_wanted("join")) check_join();
    if (check_wanted("old")) check_old_files();
    if (check_wanted("hash")) check_hash();
    if (check_wanted("fits")) check_fits();
    return check_end();
}
