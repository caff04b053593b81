/* Models: configs good and bad, the golden directories, shapes, fingerprints, saving. */
#include "check.h"

#include "../../lib/io.h"
#include "../../lib/model.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN "tests/golden/"

static struct sp_error err;
static struct sp_config config; /* large: kept off the stack */
static char scratch[64] = "/tmp/statepipe-check-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static enum sp_code parse(const char *text) {
    return sp_config_parse(&config, text, strlen(text), "config.json", &err);
}

/* A config with the required keys and more, written after them. */
static const char *with(const char *more) {
    static char text[2048];
    snprintf(text, sizeof text,
             "{\"model_type\":\"mamba\",\"hidden_size\":33,\"num_hidden_layers\":2,"
             "\"vocab_size\":97%s%s}",
             *more ? "," : "", more);
    return text;
}

static void check_config(void) {
    check_ok(parse(with("")) == SP_OK && config.d_inner == 66 && config.dt_rank == 3 &&
                 config.d_state == 16 && config.d_conv == 4 && config.tied &&
                 config.use_conv_bias && !config.use_bias && config.bos_id == -1,
             "absent keys have the defaults of Hugging Face's class");
    check_ok(config.n_head == 1 && strcmp(config.head[0].name, "lm") == 0 &&
                 strcmp(config.default_head, "lm") == 0 && config.passes == 1,
             "a plain model has the head lm");
    check_ok(parse(with("\"expand\":2,\"intermediate_size\":70,\"time_step_rank\":\"auto\"")) ==
                     SP_OK &&
                 config.d_inner == 70 && config.dt_rank == 3,
             "intermediate_size is believed, expand is not; rank \"auto\" is ceil(33 / 16)");
    check_ok(parse(with("\"time_step_limit\":[0.0,Infinity],\"eos_token_id\":96")) == SP_OK &&
                 config.eos_id == 96,
             "a bare Infinity is read");
    check_ok(parse(with("\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"class\","
                        "\"labels\":[\"a\",\"\\u00e9\"]}},\"passes\":2,\"delay\":5}")) == SP_OK &&
                 config.n_head == 1 && strcmp(config.default_head, "x") == 0 &&
                 strcmp(config.head[0].label[1], "\xc3\xa9") == 0 && config.passes == 2 &&
                 config.delay == 5,
             "a single head is the default head");
#define TAGGER "\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\"]}}"
    check_ok(parse(with("\"statepipe\":{\"format\":2,\"reverse\":64," TAGGER "}")) == SP_OK &&
                 config.reverse == 64 && config.reverse_layers == 2,
             "every second layer is reversed, from layer 1");
    check_ok(parse(with("\"statepipe\":{\"format\":2,\"reverse\":256,"
                        "\"reverse_layers\":[1,0]," TAGGER "}")) == SP_OK &&
                 config.reverse == 256 && config.reverse_layers == 3,
             "or those that are named");
    check_ok(parse(with("\"statepipe\":{\"format\":1,\"reverse\":0}")) == SP_OK &&
                 !config.reverse && !config.reverse_layers,
             "or none");
    check_ok(
        parse(with("\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\","
                   "\"labels\":[\"O\"],\"doubt\":{\"year+institution\":0.5,\"degree\":1}}}}")) ==
                SP_OK &&
            config.head[0].doubt[5] == 0.5f && config.head[0].doubt[2] == 1 &&
            config.head[0].doubt[7] == 0,
        "how often records of some fields are wrong");
    check_ok(parse(with("\"statepipe\":{\"format\":1,\"fill_template\":\"{doc}\\nQ: "
                        "{query}\\nA: {answer}\\n\"}")) == SP_OK &&
                 strcmp(config.fill_template, "{doc}\nQ: {query}\nA: {answer}\n") == 0,
             "a template of questions, of several lines");
}

/* What stands behind the required keys of a config, and what its refusal says. */
struct bad_config {
    const char *more, *says;
};

static void check_refused(const struct bad_config *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        enum sp_code code = parse(with(cases[i].more));
        check_ok(code == SP_E_DATA && strstr(err.msg, cases[i].says), "refused: %s",
                 code ? err.msg : cases[i].more);
    }
}

static void check_bad_reverse(void) {
    static const char divisor[] = "config.json: \"reverse\" is not 0 or a divisor of 256";
    static const char list[] = "\"reverse_layers\" is not a list of layers";
    static const char layer[] = "names what is not a layer from 0 to 1";
    static const char window[] = "\"reverse_layers\" is without \"reverse\"";
    const struct bad_config cases[] = {
        {"\"statepipe\":{\"format\":2,\"reverse\":100}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":-64}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":128.5}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":\"128\"}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":true}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":null}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":[128]}", divisor},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"passes\":2}", "exclude each other"},
        {"\"statepipe\":{\"format\":2,\"reverse\":64}", "a language model's head exclude"},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":1}", list},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":null}", list},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":\"1\"}", list},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":{\"1\":1}}", list},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[64]}", layer},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[2]}", layer},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[-1]}", layer},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[1,\"0\"]}", layer},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[0.5]}", layer},
        {"\"statepipe\":{\"format\":2,\"reverse\":64,\"reverse_layers\":[]}",
         "\"reverse\" is without a layer that is reversed"},
        {"\"statepipe\":{\"format\":2,\"reverse_layers\":[1]}", window},
        {"\"statepipe\":{\"format\":2,\"reverse\":0,\"reverse_layers\":[1]}", window},
        {"\"statepipe\":{\"format\":1,\"reverse\":64}", "with \"reverse\", \"format\" has to be 2"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0]);
    check_ok(parse("{\"model_type\":\"mamba\",\"hidden_size\":8,\"vocab_size\":9,"
                   "\"num_hidden_layers\":1,\"statepipe\":{\"format\":2,\"reverse\":64}}") ==
                     SP_E_DATA &&
                 strstr(err.msg, "without a layer"),
             "refused, where there is no second layer: %s", err.msg);
}

static void check_bad_configs(void) {
    static const struct bad_config cases[] = {
        {"\"state_size\":0", "state_size"},
        {"\"state_size\":257", "\"state_size\" is not a whole number from 1 to 256"},
        {"\"conv_kernel\":17", "\"conv_kernel\" is not a whole number from 1 to 16"},
        {"\"conv_kernel\":0", "conv_kernel"},
        {"\"conv_kernel\":\"4\"", "conv_kernel"},
        {"\"intermediate_size\":1e300", "intermediate_size"},
        {"\"expand\":NaN", "intermediate_size"},
        {"\"time_step_rank\":-1", "time_step_rank"},
        {"\"layer_norm_epsilon\":0", "layer_norm_epsilon"},
        {"\"layer_norm_epsilon\":\"small\"", "layer_norm_epsilon"},
        {"\"hidden_act\":\"gelu\"", "hidden_act"},
        {"\"statepipe\":{\"format\":3}", "of another format than 1 to 2"},
        {"\"statepipe\":{\"format\":1,\"passes\":0}", "passes"},
        {"\"statepipe\":{\"format\":1,\"delay\":1000000}", "delay"},
        {"\"statepipe\":{\"format\":1,\"tokenizer\":\"magic\"}", "tokenizer"},
        {"\"statepipe\":{\"format\":1,\"default_head\":\"x\"}", "default_head"},
        {"\"statepipe\":{\"format\":1,\"fill_template\":\"{query}{doc}{answer}\"}",
         "fill_template"},
        {"\"statepipe\":{\"format\":1,\"fill_template\":\"{doc}\"}", "fill_template"},
        {"\"statepipe\":{\"format\":1,\"fill_template\":\"{doc}{answer}{query}\"}",
         "fill_template"},
        {"\"statepipe\":{\"format\":1,\"fill_template\":\"{doc}{query}{query}\"}", "fill_template"},
        {"\"statepipe\":{\"format\":1,\"fill_template\":7}", "fill_template"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"y\"}}}", "type"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"a b\":{\"type\":\"lm\"}}}", "head name"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\"}}}", "labels"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\",\"O\"]}}"
         "}",
         "twice"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":["
         "\"0123456789012"
         "345678901234567890123\"]}}}",
         "label"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\"],"
         "\"doubt\":{\"degree+town\":0.5}}}}",
         "'degree+town' is not made of"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\"],"
         "\"doubt\":{\"degree\":1.5}}}}",
         "no number from 0 to 1"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\"],"
         "\"calibration\":[0,1]}}}",
         "is not [slope, intercept]"},
        {"\"statepipe\":{\"format\":1,\"heads\":{\"x\":{\"type\":\"tag\",\"labels\":[\"O\"],"
         "\"calibration\":[1,1,1]}}}",
         "is not [slope, intercept]"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0]);
    check_ok(!parse(with("\"state_size\":256,\"conv_kernel\":16")),
             "the largest state and convolution");
    check_ok(parse("{\"model_type\":\"mamba2\",\"hidden_size\":8}") == SP_E_DATA &&
                 strstr(err.msg, "'mamba2'"),
             "refused by name: %s", err.msg);
    check_ok(parse("{\"d_model\":8,\"ssm_cfg\":{}}") == SP_E_DATA && strstr(err.msg, "converted"),
             "refused: %s", err.msg);
    check_ok(parse("[1]") == SP_E_DATA, "refused: no object");
    check_ok(parse("") == SP_E_DATA, "refused: an empty file");
}

static void check_golden(void) {
    static const struct {
        const char *dir;
        int64_t d_model, d_inner, n_layer, dt_rank, vocab;
    } models[] = {
        {"mamba-odd", 33, 70, 3, 3, 97},   {"mamba-bias", 24, 48, 2, 5, 260},
        {"mamba-bf16", 48, 96, 2, 3, 120}, {"mamba-deep", 16, 40, 7, 1, 130},
        {"falcon-odd", 23, 37, 3, 7, 131}, {"falcon-tied", 32, 64, 2, 2, 100},
        {"tiny", 32, 64, 2, 2, 264},
    };
    struct sp_hash seen[8];
    size_t n_same = 0;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, GOLDEN "%s", models[i].dir);
        struct sp_model *m = NULL;
        enum sp_code code = sp_model_open(&m, dir, &err);
        const struct sp_config *c = code ? NULL : sp_model_config(m);
        check_ok(c && c->d_model == models[i].d_model && c->d_inner == models[i].d_inner &&
                     c->n_layer == models[i].n_layer && c->dt_rank == models[i].dt_rank &&
                     c->vocab_size == models[i].vocab,
                 "%s opens with its sizes%s%s", models[i].dir, code ? ": " : "",
                 code ? err.msg : "");
        if (!c) continue;
        const struct sp_tensor *t = sp_model_tensor(m, "backbone.layers.1.mixer.A_log");
        bool bf16 = strcmp(models[i].dir, "mamba-bf16") == 0;
        check_ok(t && t->dtype == (bf16 ? SP_BF16 : SP_F32) && t->dim[0] == (uint64_t)c->d_inner &&
                     sp_model_dir(m)[0] == '/' && !sp_model_tensor(m, "backbone.layers.99.mixer.D"),
                 "%s: its tensors are found, in an absolute directory", models[i].dir);
        seen[i] = *sp_model_fingerprint(m);
        for (size_t k = 0; k < i; k++) n_same += sp_hash_equal(&seen[i], &seen[k]);
        sp_model_free(m);
    }
    check_ok(n_same == 0, "fingerprints differ");
}

/* Copies golden/NAME/file to the scratch directory with `from` replaced by `to` in it. */
static bool copy_edited(const char *name, const char *file, const char *from, const char *to) {
    char path[256], *text = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, GOLDEN "%s/%s", name, file);
    if (sp_io_slurp(&text, &n, path, 1 << 24, &err)) return false;
    char *at = *from ? memmem(text, n, from, strlen(from)) : text;
    snprintf(path, sizeof path, "%s/%s", scratch, file);
    FILE *f = at ? fopen(path, "wb") : NULL;
    bool ok = f != NULL;
    if (ok) {
        size_t before = (size_t)(at - text), skip = strlen(from);
        ok = fwrite(text, 1, before, f) == before && fputs(to, f) >= 0 &&
             fwrite(at + skip, 1, n - before - skip, f) == n - before - skip;
        ok = fclose(f) == 0 && ok;
    }
    free(text);
    return ok;
}

static enum sp_code open_scratch(struct sp_hash *hash) {
    struct sp_model *m = NULL;
    enum sp_code code = sp_model_open(&m, scratch, &err);
    if (!code && hash) *hash = *sp_model_fingerprint(m);
    sp_model_free(m);
    return code;
}

static void check_mismatch(void) {
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"\"hidden_size\": 33", "\"hidden_size\": 34", "backbone.embeddings.weight is of shape "},
        {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "backbone.layers.3.norm.weight"},
        {"\"state_size\": 5", "\"state_size\": 6",
         "(13, 70), by config.json it should be (15, 70)"},
        {"\"conv_kernel\": 3", "\"conv_kernel\": 4", "(70, 1, 4)"},
        {"\"use_bias\": false", "\"use_bias\": true", "in_proj.bias is missing"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "lm_head.weight"},
    };
    bool copied = copy_edited("mamba-odd", "model.safetensors", "", "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool made = copy_edited("mamba-odd", "config.json", cases[i].from, cases[i].to);
        enum sp_code code = open_scratch(NULL);
        check_ok(copied && made && code == SP_E_DATA && strstr(err.msg, cases[i].says),
                 "refused: %s", code ? err.msg : cases[i].to);
    }
}

static void check_fingerprint(void) {
    struct sp_hash base, again, other;
    bool ok = copy_edited("mamba-odd", "model.safetensors", "", "") &&
              copy_edited("mamba-odd", "config.json", "", "");
    ok = ok && !open_scratch(&base) && !open_scratch(&again);
    check_ok(ok && sp_hash_equal(&base, &again), "the fingerprint is the same twice");
    ok = copy_edited("mamba-odd", "config.json", "1e-05", "2e-05") && !open_scratch(&other);
    check_ok(ok && !sp_hash_equal(&base, &other), "and another with another config");
    copy_edited("mamba-odd", "config.json", "", "");
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    FILE *f = fopen(path, "r+b");
    fseek(f, -1, SEEK_END);
    int last = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(last ^ 1, f);
    fclose(f);
    check_ok(!open_scratch(&other) && !sp_hash_equal(&base, &other),
             "and another with one bit of a small tensor changed");
}

static void check_shards(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    unlink(path);
    check_ok(open_scratch(NULL) == SP_E_NOINPUT && strstr(err.msg, "neither"), "%s", err.msg);
    bool ok = copy_edited("mamba-bias", "config.json", "", "") &&
              copy_edited("mamba-bias", "model.safetensors.index.json", "", "") &&
              copy_edited("mamba-bias", "model-00001-of-00003.safetensors", "", "") &&
              copy_edited("mamba-bias", "model-00002-of-00003.safetensors", "", "");
    check_ok(ok && open_scratch(NULL) == SP_E_NOINPUT && strstr(err.msg, "00003-of-00003"),
             "a shard that is not there: %s", err.msg);
    ok = copy_edited("mamba-bias", "model-00003-of-00003.safetensors", "", "");
    check_ok(ok && open_scratch(NULL) == SP_OK, "three shards and their index");
    static const char *const names[] = {"../model-00001-of-00003.safetensors", "/etc/passwd", "",
                                        ".hidden"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ok = copy_edited("mamba-bias", "model.safetensors.index.json",
                         "model-00001-of-00003.safetensors", names[i]);
        check_ok(ok && open_scratch(NULL) == SP_E_DATA && strstr(err.msg, "not allowed"),
                 "refused: a shard named '%s'", names[i]);
    }
}

static bool same_tensors(const struct sp_model *a, const struct sp_model *b,
                         const struct sp_named_tensor *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct sp_tensor *x = sp_model_tensor(a, list[i].name);
        const struct sp_tensor *y = sp_model_tensor(b, list[i].name);
        if (!x || !y || x->n_bytes != y->n_bytes || memcmp(x->data, y->data, x->n_bytes) != 0)
            return false;
    }
    return true;
}

static void check_save(void) {
    struct sp_safetensors *st = NULL;
    struct sp_model *m = NULL, *saved = NULL;
    static struct sp_named_tensor list[64];
    size_t n = 0;
    char dir[96];
    snprintf(dir, sizeof dir, "%s/saved", scratch);
    bool ok = !sp_model_open(&m, GOLDEN "tiny", &err) &&
              !sp_safetensors_open(&st, GOLDEN "tiny/model.safetensors", &err);
    for (; ok && n < sp_safetensors_count(st); n++) {
        const struct sp_safetensors_entry *e = sp_safetensors_entry(st, n);
        list[n] = (struct sp_named_tensor){e->name, e->tensor};
    }
    struct sp_config doubting = {0};
    if (ok) doubting = *sp_model_config(m);
    doubting.head[1].doubt[3] = 0.1f;
    doubting.head[1].doubt[4] = 0.95f;
    doubting.head[1].calibration[0] = 0.5f;
    doubting.head[1].calibration[1] = -0.25f;
    ok = ok && !sp_model_save(dir, &doubting, list, n, &err) && !sp_model_open(&saved, dir, &err);
    check_ok(ok, "a model is saved and opened again%s%s", ok ? "" : ": ", ok ? "" : err.msg);
    check_ok(ok && memcmp(&doubting, sp_model_config(saved), sizeof config) == 0,
             "its config is the same, heads and labels and doubt too");
    check_ok(ok && same_tensors(m, saved, list, n), "its weights are the same");
    sp_model_free(saved);
    saved = NULL;
    ok =
        !sp_model_save(dir, sp_model_config(m), list, n, &err) && !sp_model_open(&saved, dir, &err);
    check_ok(ok, "and saved over itself");
    check_ok(sp_model_save("/proc/statepipe", sp_model_config(m), list, n, &err) == SP_E_IO,
             "a directory that cannot be made: %s", err.msg);
    sp_model_free(saved);
    sp_model_free(m);
    sp_safetensors_free(st);
}

static void check_default(void) {
    char dir[4096];
    setenv("STATEPIPE_MODEL", GOLDEN "tiny", 1);
    check_ok(!sp_model_default_dir(dir, sizeof dir, &err) && strcmp(dir, GOLDEN "tiny") == 0,
             "$STATEPIPE_MODEL names the model");
    check_ok(sp_model_default_dir(dir, 4, &err) == SP_E_USAGE, "a path that does not fit");
    struct sp_model *m = NULL;
    check_ok(!sp_model_open(&m, NULL, &err), "and is opened when no other is named");
    sp_model_free(m);
    setenv("STATEPIPE_MODEL", "/nonexistent", 1);
    check_ok(sp_model_open(&m, NULL, &err) == SP_E_NOINPUT && strstr(err.msg, "/nonexistent"),
             "a model that is not there: %s", err.msg);
    check_ok(sp_model_open(&m, "/nonexistent", &err) == SP_E_NOINPUT, "named: %s", err.msg);
    check_ok(sp_model_open(&m, "/tmp", &err) == SP_E_NOINPUT, "a directory of no model: %s",
             err.msg);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (!mkdtemp(scratch)) return 70;
    if (check_wanted("config")) check_config();
    if (check_wanted("bad_configs")) check_bad_configs();
    if (check_wanted("bad_reverse")) check_bad_reverse();
    if (check_wanted("golden")) check_golden();
    if (check_wanted("mismatch")) check_mismatch();
    if (check_wanted("fingerprint")) check_fingerprint();
    if (check_wanted("shards")) check_shards();
    if (check_wanted("save")) check_save();
    if (check_wanted("default")) check_default();
    nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return check_end();
}
