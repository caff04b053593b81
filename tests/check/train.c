/* Training around the network: documents, batches, whole runs. */
#include "../../lib/io.h"
#include "../../lib/model.h"
#include "../../lib/net.h"
#include "../../lib/train.h"
#include "check.h"

#include <math.h>
#include <msgpack.h>
#include <unistd.h>

#define VOCAB 64
#define TRIGGER 5 /* the token after which a span of one or two tokens begins */

static struct sp_error err;
static char dir[64];

static void need(enum sp_code code) {
    if (!code) return;
    printf("Bail out! %s\n", err.msg);
    exit(1);
}

static const char *in_dir(const char *name) {
    static char path[16][4200];
    static int next;
    next = (next + 1) % 16;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

/* ---- token streams ---- */

struct doc_spec {
    int64_t n, pad; /* tokens of a pass; padding behind the last */
    uint64_t passes;
    const char *class_label; /* instead of spans */
};

static void put(struct sp_writer *w, struct sp_record *rec) {
    need(sp_writer_write(w, rec, &err));
    sp_record_free(rec);
}

static struct sp_record *record(enum sp_kind kind, uint64_t doc) {
    struct sp_record *rec = sp_record_new(kind);
    need(sp_record_set_u64(rec, "doc", doc, &err));
    return rec;
}

/* Token t of a pass covers bytes [2 t, 2 t + 1). */
static void put_chunk(struct sp_writer *w, uint64_t doc, uint64_t pass, const uint32_t *id,
                      int64_t from, int64_t to) {
    uint64_t dim[2] = {(uint64_t)(to - from), 2};
    struct sp_tensor ids, span;
    struct sp_record *rec = record(SP_KIND_CHUNK, doc);
    need(sp_record_set_u64(rec, "pos", (uint64_t)from, &err));
    need(sp_record_set_u64(rec, "pass", pass, &err));
    need(sp_tensor_new(&ids, SP_U32, 1, dim, &err));
    need(sp_tensor_new(&span, SP_U64, 2, dim, &err));
    memcpy(ids.data, id + from, (size_t)(to - from) * sizeof *id);
    for (int64_t i = from; i < to; i++) {
        ((uint64_t *)span.data)[2 * (i - from)] = 2 * (uint64_t)i;
        ((uint64_t *)span.data)[2 * (i - from) + 1] = 2 * (uint64_t)i + 1;
    }
    need(sp_record_put_tensor(rec, "ids", &ids, &err));
    need(sp_record_put_tensor(rec, "span", &span, &err));
    put(w, rec);
}

/* Length of the span that begins behind token t, 0 for none. */
static int64_t span_behind(const uint32_t *id, int64_t n, int64_t t) {
    if (id[t] != TRIGGER || t + 3 >= n) return 0;
    if (id[t + 1] == TRIGGER || id[t + 2] == TRIGGER) return 0; /* spans do not overlap */
    return 1 + id[t + 1] % 2;
}

static void put_spans(struct sp_record *rec, const uint32_t *id, int64_t n, const char *label) {
    msgpack_sbuffer buf;
    msgpack_packer pk;
    uint32_t n_span = 0;
    msgpack_sbuffer_init(&buf);
    msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
    for (int64_t t = 0; t < n; t++) n_span += !label && span_behind(id, n, t) > 0;
    msgpack_pack_array(&pk, label ? 1 : n_span);
    for (int64_t t = 0; t < n; t++) {
        int64_t len = label ? (t == 0) * n : span_behind(id, n, t);
        const char *text = label ? label : "degree";
        if (len == 0) continue;
        msgpack_pack_array(&pk, 4);
        msgpack_pack_uint64(&pk, 2 * (uint64_t)(label ? 0 : t + 1));
        msgpack_pack_uint64(&pk, 2 * (uint64_t)(label ? n : t + 1 + len) - 1);
        msgpack_pack_str(&pk, strlen(text));
        msgpack_pack_str_body(&pk, text, strlen(text));
        msgpack_pack_array(&pk, 1);
        msgpack_pack_uint64(&pk, (uint64_t)t);
    }
    need(sp_record_set_raw(rec, "spans", buf.data, buf.size, &err));
    msgpack_sbuffer_destroy(&buf);
}

static void put_doc(struct sp_writer *w, uint64_t doc, const struct doc_spec *spec) {
    int64_t n = spec->n, all = n + spec->pad;
    uint32_t *id = calloc((size_t)all + 1, sizeof *id);
    for (int64_t i = 0; i < n; i++)
        id[i] = check_random() % 5 ? (uint32_t)check_random_int(6, VOCAB - 1) : TRIGGER;
    struct sp_record *rec = record(SP_KIND_DOC, doc);
    need(sp_record_set_str(rec, "id", "d", 1, &err));
    need(sp_record_set_u64(rec, "pad", (uint64_t)spec->pad, &err));
    put_spans(rec, id, n, spec->class_label);
    put(w, rec);
    for (uint64_t pass = 0; pass < spec->passes; pass++) {
        int64_t end = pass + 1 < spec->passes ? n : all;
        for (int64_t from = 0; from < end; from += 50)
            put_chunk(w, doc, pass, id, from, from + 50 < end ? from + 50 : end);
    }
    rec = record(SP_KIND_DOCEND, doc);
    need(sp_record_set_str(rec, "status", "ok", 2, &err));
    put(w, rec);
    free(id);
}

/* n_doc documents of the given kind, the n-th of n_min + n % n_more tokens. */
static void write_stream(const char *path, uint64_t n_doc, struct doc_spec spec, int64_t n_more) {
    FILE *f = fopen(path, "wb");
    struct sp_writer *w;
    struct sp_hello hello = {.major = SP_STREAM_MAJOR, .content = SP_TOKENS, .program = "check"};
    struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
    need(sp_writer_new(&w, fileno(f), path, &err));
    need(sp_hello_store(&hello, rec, &err));
    put(w, rec);
    for (uint64_t doc = 0; doc < n_doc; doc++) {
        struct doc_spec s = spec;
        s.n += (int64_t)(doc % (uint64_t)n_more);
        put_doc(w, doc, &s);
    }
    rec = sp_record_new(SP_KIND_END);
    need(sp_record_set_u64(rec, "docs", n_doc, &err));
    need(sp_record_set_u64(rec, "errors", 0, &err));
    put(w, rec);
    need(sp_writer_flush(w, &err));
    sp_writer_free(w);
    fclose(f);
}

/* ---- models ---- */

static const char config_text[] =
    "{\"model_type\": \"mamba\", \"architectures\": [\"MambaForCausalLM\"], \"hidden_size\": 32,"
    "\"num_hidden_layers\": 2, \"state_size\": 8, \"conv_kernel\": 4, \"intermediate_size\": 64,"
    "\"time_step_rank\": 2, \"vocab_size\": 64, \"layer_norm_epsilon\": 1e-5, \"use_bias\": false,"
    "\"use_conv_bias\": true, \"tie_word_embeddings\": true, \"statepipe\": {\"format\": 1,"
    "\"default_head\": \"tags\", \"passes\": 1, \"delay\": 2, \"heads\": {\"tags\": {\"type\":"
    "\"tag\", \"labels\": [\"O\", \"N-degree\", \"I-degree\"]}, \"kind\": {\"type\": \"class\","
    "\"labels\": [\"cv\", \"letter\"]}}}}";

static struct sp_config config_read(void) {
    struct sp_config c;
    need(sp_config_parse(&c, config_text, strlen(config_text), "config", &err));
    return c;
}

static const char *config_file(void) {
    FILE *f = fopen(in_dir("config.json"), "w");
    fputs(config_text, f);
    fclose(f);
    return in_dir("config.json");
}

/* ---- documents ---- */

static void check_tags(void) {
    struct sp_config c = config_read();
    struct sp_doc_source *s;
    struct sp_train_doc doc;
    bool there;
    double count[5 * 3] = {0};
    struct sp_bigrams b = {.n_label = 3, .count = count};
    int64_t n = 0, wrong = 0, masked = 0, n_pair = 0;
    write_stream(in_dir("s"), 5, (struct doc_spec){.n = 120, .pad = 2, .passes = 2}, 7);
    need(sp_doc_source_open(&s, in_dir("s"), &c, &c.head[0], &err));
    while (need(sp_doc_source_next(s, &doc, &there, &b, &err)), there) {
        int64_t len = (doc.n - 2) / 2;
        const uint32_t *id = doc.id + len;
        int32_t *expected = calloc((size_t)len, sizeof *expected);
        for (int64_t t = 0; t < len; t++)
            for (int64_t k = 1; k <= span_behind(id, len, t); k++) expected[t + k] = k == 1 ? 1 : 2;
        for (int64_t t = 0; t < len; t++) wrong += doc.target[len + t + 2] != expected[t];
        for (int64_t t = 0; t < len + 2; t++) masked += doc.target[t] == -1;
        n += len;
        n_pair += len + 1;
        masked -= len + 2;
        free(expected);
        sp_train_doc_clear(&doc);
    }
    sp_doc_source_free(s);
    check_ok(n == 5 * 120 + 10 && wrong == 0 && masked == 0,
             "tags: read two tokens late, in the last pass alone (%lld wrong)", (long long)wrong);
    double sum = 0, p = 0;
    float log_p[5 * 3];
    for (int i = 0; i < 15; i++) sum += count[i];
    sp_bigrams_log(&b, log_p);
    for (int i = 0; i < 3; i++) p += exp((double)log_p[3 * 2 + i]);
    check_ok(sum == (double)n_pair && count[3 * 3] == 5 && fabs(p - 1) < 1e-6 &&
                 log_p[2] < log_p[0],
             "tags: pairs are counted, with start and end, and smoothed");
}

static void check_lm_and_class(void) {
    struct sp_config c = config_read();
    struct sp_doc_source *s;
    struct sp_train_doc doc;
    bool there;
    int64_t wrong = 0, n = 0;
    write_stream(in_dir("s"), 3, (struct doc_spec){.n = 60, .passes = 1, .class_label = "letter"},
                 2);
    need(sp_doc_source_open(&s, in_dir("s"), &c, NULL, &err));
    while (need(sp_doc_source_next(s, &doc, &there, NULL, &err)), there) {
        for (int64_t t = 0; t + 1 < doc.n; t++) wrong += doc.target[t] != (int32_t)doc.id[t + 1];
        wrong += doc.target[doc.n - 1] != -1;
        n += doc.n;
        sp_train_doc_clear(&doc);
    }
    sp_doc_source_free(s);
    check_ok(wrong == 0 && n == 181, "language model: targets are the next tokens");
    wrong = n = 0;
    need(sp_doc_source_open(&s, in_dir("s"), &c, &c.head[1], &err));
    while (need(sp_doc_source_next(s, &doc, &there, NULL, &err)), there) {
        for (int64_t t = 0; t < doc.n; t++) wrong += doc.target[t] != (t == doc.n - 1 ? 1 : -1);
        n++;
        sp_train_doc_clear(&doc);
    }
    sp_doc_source_free(s);
    check_ok(wrong == 0 && n == 3, "class: its target is at the last token");
}

static void check_bad_input(void) {
    struct sp_config c = config_read();
    struct sp_doc_source *s;
    struct sp_train_doc doc;
    bool there;
    write_stream(in_dir("s"), 2, (struct doc_spec){.n = 60, .passes = 1}, 1);
    c.vocab_size = 20;
    need(sp_doc_source_open(&s, in_dir("s"), &c, NULL, &err));
    enum sp_code code = sp_doc_source_next(s, &doc, &there, NULL, &err);
    check_ok(code == SP_E_DATA && strstr(err.msg, "outside the vocabulary"),
             "bad input: a token outside the vocabulary (%s)", err.msg);
    sp_doc_source_free(s);
    need(sp_doc_source_open(&s, in_dir("s"), &c, &c.head[0], &err));
    code = sp_doc_source_next(s, &doc, &there, NULL, &err);
    check_ok(code == SP_E_DATA && strstr(err.msg, "--pad 2"),
             "bad input: documents without the padding that the delay asks for");
    sp_doc_source_free(s);
    check_ok(sp_doc_source_open(&s, in_dir("none"), &c, NULL, &err) == SP_E_NOINPUT,
             "bad input: no such file");
}

/* ---- batches ---- */

/* Runs a feed through; per document of the stream how often each of its tokens came. */
static void check_feed_with(const char *what, struct sp_feed_options o, int64_t n_doc) {
    struct sp_config c = config_read();
    struct sp_feed *feed;
    struct sp_feed_batch b;
    struct sp_hash first = {0};
    uint64_t n_all = 0, n_kept, n_counted;
    int64_t n_held, n_tok = 0, over = 0, broken = 0, expected = 0;
    o.path = in_dir("s");
    for (int64_t i = 0; i < n_doc; i++) {
        bool held = o.holdout && i % o.holdout == o.holdout - 1 && i / o.holdout < o.holdout_max;
        expected += held ? 0 : o.epochs * (30 + i % 40);
        n_all += held ? 0 : (uint64_t)o.epochs;
    }
    for (int round = 0; round < 2; round++) {
        uint64_t hash = 1;
        bool unfinished = false;
        n_tok = 0;
        need(sp_feed_new(&feed, &o, &c, NULL, &err));
        while (need(sp_feed_next(feed, &b, &err)), b.n_seq > 0) {
            int64_t n = b.cu_seqlens[b.n_seq];
            over += n > o.n_tok_batch;
            broken += b.continues != unfinished;
            for (int64_t s = 0; s < b.n_seq; s++)
                over += b.cu_seqlens[s + 1] - b.cu_seqlens[s] > o.n_tok_piece;
            for (int64_t i = 0; i < n; i++) hash = hash * 31 + b.id[i];
            unfinished = b.unfinished;
            n_tok += n;
        }
        n_kept = sp_feed_documents(feed);
        sp_feed_holdout(feed, &n_held);
        sp_feed_free(feed);
        broken += unfinished || (round && memcmp(&hash, first.byte, sizeof hash) != 0);
        memcpy(first.byte, &hash, sizeof hash);
    }
    need(sp_feed_count(&o, &c, NULL, &n_counted, &err));
    check_ok(n_tok == expected && n_kept == n_all && n_counted == n_all && !over && !broken,
             "feed %s: every document once per epoch, no batch too long, twice the same "
             "(%lld of %lld tokens)",
             what, (long long)n_tok, (long long)expected);
}

static void check_feed(void) {
    write_stream(in_dir("s"), 50, (struct doc_spec){.n = 30, .passes = 1}, 40);
    struct sp_feed_options o = {.n_tok_batch = 200, .n_tok_piece = 200, .epochs = 1, .seed = 3};
    check_feed_with("in order", o, 50);
    o.shuffle = 16;
    o.epochs = 3;
    check_feed_with("shuffled", o, 50);
    o.holdout = 5;
    o.holdout_max = 4;
    check_feed_with("with documents held out", o, 50);
    o.n_tok_piece = 25;
    o.n_tok_batch = 64;
    check_feed_with("in pieces", o, 50);
}

/* ---- runs ---- */

struct watch {
    struct sp_train_report last, first;
    bool stop;
    int64_t stop_at;
};

static void on_report(void *ctx, const struct sp_train_report *r) {
    struct watch *w = ctx;
    if (!w->first.step) w->first = *r;
    w->last = *r;
    if (r->step == w->stop_at) w->stop = true;
}

static bool stop_asked(void *ctx) {
    const struct watch *w = ctx;
    return w->stop;
}

static struct sp_train_options run_options(const char *out) {
    return (struct sp_train_options){.out = out,
                                     .config = config_file(),
                                     .task = SP_TRAIN_TAG,
                                     .feed = {.path = in_dir("s"),
                                              .n_tok_batch = 600,
                                              .n_tok_piece = 100,
                                              .shuffle = 4,
                                              .holdout = 6,
                                              .holdout_max = 5,
                                              .seed = 1},
                                     .eval_every = 1000,
                                     .adamw = {.lr = 1e-2,
                                               .lr_min = 1e-3,
                                               .warmup = 5,
                                               .beta1 = 0.9,
                                               .beta2 = 0.95,
                                               .eps = 1e-8,
                                               .weight_decay = 0.1,
                                               .clip = 1},
                                     .steps = 150,
                                     .seed = 1};
}

/* False: stopped. */
static bool run_once(struct sp_train_options o, struct watch *w) {
    struct sp_backend *be;
    struct sp_train *run;
    bool stopped;
    need(sp_backend_cpu_new(&be, 2, &err));
    need(sp_train_new(&run, &o, be, &err));
    need(sp_train_run(run, stop_asked, on_report, w, &stopped, &err));
    sp_train_free(run);
    be->free(be);
    return !stopped;
}

static bool same_file(const char *a, const char *b, const char *name) {
    char path[2][4200];
    struct sp_map map[2];
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    need(sp_map_open(&map[0], path[0], &err));
    need(sp_map_open(&map[1], path[1], &err));
    bool same = map[0].n == map[1].n && memcmp(map[0].data, map[1].data, map[0].n) == 0;
    sp_map_close(&map[0]);
    sp_map_close(&map[1]);
    return same;
}

static void check_learns(void) {
    struct watch w = {0};
    struct sp_model *m;
    write_stream(in_dir("s"), 60, (struct doc_spec){.n = 60, .pad = 2, .passes = 1}, 60);
    run_once(run_options(in_dir("learns")), &w);
    check_ok(w.last.step == 150 && w.last.evaluated && w.last.eval_accuracy > 0.99 &&
                 w.last.eval_loss < 0.1 * w.first.loss,
             "run: learns where spans are: loss %.3f, then %.4f, %.2f %% right", w.first.loss,
             w.last.eval_loss, 100 * w.last.eval_accuracy);
    need(sp_model_open(&m, in_dir("learns"), &err));
    const struct sp_tensor *t = sp_model_tensor(m, "statepipe.tags.trans");
    check_ok(t && t->rank == 2 && t->dim[0] == 5 && t->dim[1] == 3 &&
                 sp_model_tensor(m, "statepipe.kind.weight") &&
                 access(in_dir("learns/checkpoint"), F_OK) != 0,
             "run: leaves a model with all heads and transitions, and no checkpoint");
    sp_model_free(m);
}

/* Scores (n, labels) of the head tags, from the model that a run has written. */
static float *scores_of(const char *model, struct sp_backend *be, int64_t n, size_t *n_score) {
    struct sp_model *m;
    struct sp_net *net;
    struct sp_seq *seq;
    struct sp_head_net *head;
    int64_t cu[2] = {0, n};
    need(sp_model_open(&m, model, &err));
    const struct sp_config *c = sp_model_config(m);
    need(sp_net_new(&net, m, be, &(struct sp_net_options){.layer_last = (uint32_t)c->n_layer - 1},
                    &err));
    need(sp_seq_new(net, &seq, &err));
    need(sp_head_net_new(&head, m, be, "tags", SP_F32, &err));
    *n_score = (size_t)(n * sp_head_net_outputs(head));
    uint32_t *id = malloc((size_t)n * sizeof *id);
    float *hidden = malloc((size_t)(n * c->d_model) * sizeof *hidden);
    float *score = malloc(*n_score * sizeof *score);
    for (int64_t i = 0; i < n; i++) id[i] = (uint32_t)(i * i + i / 7) % VOCAB;
    need(sp_embed(m, id, n, hidden, &err));
    need(sp_net_forward(net, &(struct sp_batch){.n_seq = 1, .cu_seqlens = cu, .states = &seq},
                        hidden, &err));
    need(sp_head_net_forward(head, hidden, n, false, score, &err));
    free(id);
    free(hidden);
    sp_head_net_free(head);
    sp_seq_free(net, seq);
    sp_net_free(net);
    sp_model_free(m);
    return score;
}

static void check_saved_as_bf16(void) {
    struct watch w = {0};
    struct sp_backend *be;
    struct sp_train_options o = run_options(in_dir("f32"));
    size_t n;
    double error = 0, size = 0;
    o.steps = 40;
    write_stream(in_dir("s"), 60, (struct doc_spec){.n = 60, .pad = 2, .passes = 1}, 60);
    run_once(o, &w);
    o.out = in_dir("bf16");
    o.save = SP_BF16;
    run_once(o, &w);
    need(sp_backend_cpu_new(&be, 1, &err));
    float *x = scores_of(in_dir("f32"), be, 200, &n), *y = scores_of(in_dir("bf16"), be, 200, &n);
    for (size_t i = 0; i < n; i++) {
        error += pow((double)x[i] - (double)y[i], 2);
        size += pow((double)x[i], 2);
    }
    /* Each weight is off by 2^-9 of itself at most. */
    check_ok(error > 0 && sqrt(error / size) < 0x1p-6,
             "run: saved in bf16, scores are off by %.2g of their size", sqrt(error / size));
    free(x);
    free(y);
    be->free(be);
}

static void check_resumes(bool ema) {
    struct watch whole = {0}, first = {.stop_at = 7}, second = {.stop_at = 20}, third = {0};
    struct sp_train_options o = run_options(in_dir("whole"));
    o.steps = 30;
    o.adamw.ema = ema ? 0.99 : 0;
    o.force = true;
    write_stream(in_dir("s"), 60, (struct doc_spec){.n = 60, .pad = 2, .passes = 1}, 90);
    run_once(o, &whole);
    o.out = in_dir("again");
    run_once(o, &third);
    check_ok(same_file(in_dir("whole"), in_dir("again"), "model.safetensors"),
             "run%s: twice the same bits", ema ? " with average" : "");
    o.out = in_dir("parts");
    bool done = run_once(o, &first);
    o.force = false;
    done |= run_once(o, &second);
    check_ok(!done && second.first.step == 8, "run: goes on where it was stopped");
    third = (struct watch){0};
    check_ok(run_once(o, &third) && third.last.step == 30 &&
                 same_file(in_dir("whole"), in_dir("parts"), "model.safetensors"),
             "run%s: in three parts the same bits as in one", ema ? " with average" : "");
}

static enum sp_code refusal(struct sp_train_options o) {
    struct sp_backend *be;
    struct sp_train *run;
    need(sp_backend_cpu_new(&be, 1, &err));
    enum sp_code code = sp_train_new(&run, &o, be, &err);
    sp_train_free(run);
    be->free(be);
    return code;
}

static void check_refuses(void) {
    struct watch w = {.stop_at = 3};
    struct sp_train_options o = run_options(in_dir("stopped"));
    write_stream(in_dir("s"), 60, (struct doc_spec){.n = 60, .pad = 2, .passes = 1}, 60);
    run_once(o, &w);
    o.adamw.lr *= 2;
    check_ok(refusal(o) == SP_E_USAGE && strstr(err.msg, "other settings"),
             "checkpoint: refused with other settings");
    o = run_options(in_dir("stopped"));
    write_stream(in_dir("s"), 60, (struct doc_spec){.n = 61, .pad = 2, .passes = 1}, 60);
    check_ok(refusal(o) == SP_E_DATA && strstr(err.msg, "input is not the one"),
             "checkpoint: refused with other input");
    FILE *f = fopen(in_dir("stopped/checkpoint"), "r+b");
    fseek(f, 5000, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, 5000, SEEK_SET);
    fputc(byte ^ 1, f);
    fclose(f);
    check_ok(refusal(o) == SP_E_DATA && strstr(err.msg, "damaged"),
             "checkpoint: a flipped bit is seen");
    o.force = true;
    o.steps = 2;
    w = (struct watch){0};
    check_ok(run_once(o, &w) && w.first.step == 1, "checkpoint: --force starts afresh");
    o.force = false;
    check_ok(refusal(o) == SP_E_USAGE && strstr(err.msg, "finished model"),
             "a finished model is not overwritten");
    o.out = in_dir("new");
    o.head = "kind";
    check_ok(refusal(o) == SP_E_USAGE && strstr(err.msg, "no head kind"),
             "a head of another type is refused");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    snprintf(dir, sizeof dir, "/tmp/sp-train-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    if (check_wanted("tags")) check_tags();
    if (check_wanted("targets")) check_lm_and_class();
    if (check_wanted("bad")) check_bad_input();
    if (check_wanted("feed")) check_feed();
    if (check_wanted("learns")) check_learns();
    if (check_wanted("bf16")) check_saved_as_bf16();
    if (check_wanted("resumes")) check_resumes(false);
    if (check_wanted("average")) check_resumes(true);
    if (check_wanted("refuses")) check_refuses();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return check_end() | (system(command) != 0);
}
