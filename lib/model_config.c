/* config.json: reading and checking. */
#include "model.h"

#include "../kernels/kernels.h"
#include "json.h"
#include "task.h"
#include "token_stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(SP_D_STATE_MAX <= SP_SCAN_STATE_MAX && SP_D_CONV_MAX <= SP_CONV_WIDTH_MAX,
               "kernels have room for every model that is opened");

/* What is being read, for messages. */
struct config_text {
    const struct sp_json *j;
    const char *name;
};

static const char *const arch_names[] = {
    [SP_ARCH_MAMBA] = "mamba",
    [SP_ARCH_FALCON_MAMBA] = "falcon_mamba",
};
static const char *const head_types[] = {
    [SP_HEAD_LM] = "lm",
    [SP_HEAD_TAG] = "tag",
    [SP_HEAD_CLASS] = "class",
};

/* A string value into out (size, with its NUL); SP_E_DATA when it is none, too long, or has control
 * characters (lines: others than line ends). */
static enum sp_code copy_text(const struct config_text *t, sp_json_node node, const char *what,
                              bool lines, char *out, size_t size, struct sp_error *err) {
    char text[6 * SP_TEMPLATE_MAX];
    size_t n_raw = 0;
    const char *raw = sp_json_raw(t->j, node, &n_raw);
    int64_t n = raw && n_raw < sizeof text ? sp_json_string(t->j, node, text) : -1;
    bool ok = n > 0 && n < (int64_t)size;
    for (int64_t i = 0; i < n && ok; i++)
        ok = (unsigned char)text[i] >= ' ' || (lines && text[i] == '\n');
    if (!ok)
        return sp_error_set(err, SP_E_DATA, "%s: %s is not a string of 1 to %zu bytes", t->name,
                            what, size - 1);
    memcpy(out, text, (size_t)n);
    out[n] = 0;
    return SP_OK;
}

static enum sp_code copy_string(const struct config_text *t, sp_json_node node, const char *what,
                                char out[SP_NAME_MAX], struct sp_error *err) {
    return copy_text(t, node, what, false, out, SP_NAME_MAX, err);
}

/* A whole number; absent or null: fallback, and with fallback 0 an error. */
static enum sp_code read_size(const struct config_text *t, const char *key, int64_t fallback,
                              int64_t max, int64_t *out, struct sp_error *err) {
    sp_json_node node = sp_json_get(t->j, 0, key);
    bool absent = sp_json_type(t->j, node) == SP_JSON_NULL;
    if (absent && fallback == 0)
        return sp_error_set(err, SP_E_DATA, "%s: \"%s\" is missing", t->name, key);
    *out = absent ? fallback : sp_json_int(t->j, node, -1);
    if (*out < 1 || *out > max)
        return sp_error_set(err, SP_E_DATA, "%s: \"%s\" is not a whole number from 1 to %lld",
                            t->name, key, (long long)max);
    return SP_OK;
}

static enum sp_code read_eps(const struct config_text *t, const char *key, double fallback,
                             double *out, struct sp_error *err) {
    sp_json_node node = sp_json_get(t->j, 0, key);
    *out = node < 0 ? fallback : sp_json_number(t->j, node, NAN);
    if (!(*out > 0 && *out < 1))
        return sp_error_set(err, SP_E_DATA, "%s: \"%s\" is not a number between 0 and 1", t->name,
                            key);
    return SP_OK;
}

static enum sp_code read_arch(const struct config_text *t, struct sp_config *c,
                              struct sp_error *err) {
    char type[SP_NAME_MAX];
    sp_json_node node = sp_json_get(t->j, 0, "model_type");
    if (node < 0)
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"model_type\" is missing; original Mamba checkpoints have to be "
                            "converted to Hugging Face's layout first (the names end in -hf)",
                            t->name);
    enum sp_code code = copy_string(t, node, "\"model_type\"", type, err);
    if (code) return code;
    for (size_t i = 0; i < sizeof arch_names / sizeof arch_names[0]; i++) {
        if (strcmp(type, arch_names[i]) != 0) continue;
        c->arch = (enum sp_arch)i;
        return SP_OK;
    }
    return sp_error_set(err, SP_E_DATA,
                        "%s: model type '%s' is not supported; mamba and falcon_mamba are", t->name,
                        type);
}

static enum sp_code read_dims(const struct config_text *t, struct sp_config *c,
                              struct sp_error *err) {
    enum sp_code code = read_size(t, "hidden_size", 0, SP_D_MODEL_MAX, &c->d_model, err);
    if (!code) code = read_size(t, "num_hidden_layers", 0, SP_N_LAYER_MAX, &c->n_layer, err);
    if (!code) code = read_size(t, "vocab_size", 0, SP_VOCAB_MAX, &c->vocab_size, err);
    if (!code) code = read_size(t, "state_size", 16, SP_D_STATE_MAX, &c->d_state, err);
    if (!code) code = read_size(t, "conv_kernel", 4, SP_D_CONV_MAX, &c->d_conv, err);
    if (code) return code;
    /* intermediate_size is the truth; expand is only how somebody once computed it. */
    double expand = sp_json_number(t->j, sp_json_get(t->j, 0, "expand"), 2);
    double inner = expand * (double)c->d_model;
    int64_t fallback = inner >= 1 && inner <= SP_D_INNER_MAX ? (int64_t)inner : SP_D_INNER_MAX + 1;
    code = read_size(t, "intermediate_size", fallback, SP_D_INNER_MAX, &c->d_inner, err);
    if (code) return code;
    int64_t rank = (c->d_model + 15) / 16;
    if (sp_json_equal(t->j, sp_json_get(t->j, 0, "time_step_rank"), "auto")) {
        c->dt_rank = rank;
        return SP_OK;
    }
    return read_size(t, "time_step_rank", rank, SP_D_INNER_MAX, &c->dt_rank, err);
}

static enum sp_code read_flags(const struct config_text *t, struct sp_config *c,
                               struct sp_error *err) {
    sp_json_node act = sp_json_get(t->j, 0, "hidden_act");
    if (act >= 0 && !sp_json_equal(t->j, act, "silu"))
        return sp_error_set(err, SP_E_DATA, "%s: \"hidden_act\" other than silu is not supported",
                            t->name);
    c->use_bias = sp_json_bool(t->j, sp_json_get(t->j, 0, "use_bias"), false);
    c->use_conv_bias = sp_json_bool(t->j, sp_json_get(t->j, 0, "use_conv_bias"), true);
    c->tied = sp_json_bool(t->j, sp_json_get(t->j, 0, "tie_word_embeddings"), true);
    c->bos_id = sp_json_int(t->j, sp_json_get(t->j, 0, "bos_token_id"), -1);
    c->eos_id = sp_json_int(t->j, sp_json_get(t->j, 0, "eos_token_id"), -1);
    if (c->bos_id < 0 || c->bos_id >= c->vocab_size) c->bos_id = -1;
    if (c->eos_id < 0 || c->eos_id >= c->vocab_size) c->eos_id = -1;
    enum sp_code code = read_eps(t, "layer_norm_epsilon", 1e-5, &c->norm_eps, err);
    if (!code) code = read_eps(t, "mixer_rms_eps", 1e-6, &c->mixer_norm_eps, err);
    return code;
}

static enum sp_code read_labels(const struct config_text *t, struct sp_head *h, sp_json_node labels,
                                struct sp_error *err) {
    size_t n = sp_json_count(t->j, labels);
    if (sp_json_type(t->j, labels) != SP_JSON_ARRAY || n < 1 || n > SP_LABELS_MAX)
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"labels\" of head '%s' is not a list of 1 to %d strings", t->name,
                            h->name, SP_LABELS_MAX);
    for (sp_json_node v = sp_json_first(t->j, labels); v >= 0; v = sp_json_next(t->j, v)) {
        char *label = h->label[h->n_label];
        enum sp_code code = copy_string(t, v, "a label", label, err);
        if (code) return code;
        for (uint32_t i = 0; i < h->n_label; i++)
            if (strcmp(h->label[i], label) == 0)
                return sp_error_set(err, SP_E_DATA, "%s: head '%s' has label '%s' twice", t->name,
                                    h->name, label);
        h->n_label++;
    }
    return SP_OK;
}

/* "degree+year" as bits; -1 for anything else. */
static int record_kind(const char *name) {
    int kind = 0;
    while (*name) {
        int f = 0;
        size_t n = strcspn(name, "+");
        while (f < SP_FIELD_COUNT && (strlen(sp_field_name((enum sp_field)f)) != n ||
                                      memcmp(sp_field_name((enum sp_field)f), name, n) != 0))
            f++;
        if (f == SP_FIELD_COUNT) return -1;
        kind |= 1 << f;
        name += n + (name[n] == '+');
    }
    return kind ? kind : -1;
}

static enum sp_code read_doubt(const struct config_text *t, struct sp_head *h, sp_json_node doubt,
                               struct sp_error *err) {
    if (doubt < 0) return SP_OK;
    for (sp_json_node v = sp_json_first(t->j, doubt); v >= 0; v = sp_json_next(t->j, v)) {
        char name[SP_NAME_MAX];
        enum sp_code code = copy_string(t, sp_json_key(t->j, v), "a kind of record", name, err);
        if (code) return code;
        int kind = record_kind(name);
        double p = sp_json_number(t->j, v, NAN);
        if (kind < 0 || !(p >= 0 && p <= 1))
            return sp_error_set(
                err, SP_E_DATA,
                "%s: \"doubt\" of head '%s': '%s' is not made of institution, degree "
                "and year with + between them, or has no number from 0 to 1",
                t->name, h->name, name);
        h->doubt[kind] = (float)p;
    }
    return SP_OK;
}

static enum sp_code read_calibration(const struct config_text *t, struct sp_head *h,
                                     sp_json_node pair, struct sp_error *err) {
    if (pair < 0) return SP_OK;
    double value[2] = {NAN, NAN};
    int n = 0;
    for (sp_json_node v = sp_json_first(t->j, pair); v >= 0; v = sp_json_next(t->j, v), n++)
        if (n < 2) value[n] = sp_json_number(t->j, v, NAN);
    if (n != 2 || !(value[0] > 0 && value[0] <= 100) || !(fabs(value[1]) <= 100))
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"calibration\" of head '%s' is not [slope, intercept], a slope "
                            "above 0, both of at most 100",
                            t->name, h->name);
    h->calibration[0] = (float)value[0];
    h->calibration[1] = (float)value[1];
    return SP_OK;
}

static enum sp_code read_head(const struct config_text *t, struct sp_config *c, sp_json_node v,
                              struct sp_error *err) {
    if (c->n_head == SP_HEADS_MAX)
        return sp_error_set(err, SP_E_DATA, "%s: more than %d heads", t->name, SP_HEADS_MAX);
    struct sp_head *h = &c->head[c->n_head];
    *h = (struct sp_head){0};
    enum sp_code code = copy_string(t, sp_json_key(t->j, v), "a head's name", h->name, err);
    if (code) return code;
    if (strpbrk(h->name, "\"\\. ") || sp_config_head(c, h->name) >= 0)
        return sp_error_set(err, SP_E_DATA, "%s: head name '%s' is there twice or not allowed",
                            t->name, h->name);
    sp_json_node type = sp_json_get(t->j, v, "type");
    size_t i = 0, n = sizeof head_types / sizeof head_types[0];
    while (i < n && !sp_json_equal(t->j, type, head_types[i])) i++;
    if (i == n)
        return sp_error_set(err, SP_E_DATA, "%s: head '%s' is of no type known (lm, tag, class)",
                            t->name, h->name);
    h->type = (enum sp_head_type)i;
    if (h->type != SP_HEAD_LM) code = read_labels(t, h, sp_json_get(t->j, v, "labels"), err);
    if (!code && h->type == SP_HEAD_TAG)
        code = read_doubt(t, h, sp_json_get(t->j, v, "doubt"), err);
    if (!code && h->type == SP_HEAD_TAG)
        code = read_calibration(t, h, sp_json_get(t->j, v, "calibration"), err);
    if (!code) c->n_head++;
    return code;
}

/* Which head answers when nobody says: the one named, else lm, else the only one. */
static enum sp_code read_default_head(const struct config_text *t, struct sp_config *c,
                                      sp_json_node node, struct sp_error *err) {
    if (node >= 0) {
        enum sp_code code = copy_string(t, node, "\"default_head\"", c->default_head, err);
        if (code) return code;
    } else {
        bool lm = sp_config_head(c, "lm") >= 0;
        snprintf(c->default_head, sizeof c->default_head, "%s", lm ? "lm" : c->head[0].name);
    }
    if (sp_config_head(c, c->default_head) < 0)
        return sp_error_set(err, SP_E_DATA, "%s: \"default_head\" '%s' is not among the heads",
                            t->name, c->default_head);
    return SP_OK;
}

/* The field where it stands once; else NULL. */
static const char *once(const char *template, const char *field) {
    const char *at = strstr(template, field);
    return at && !strstr(at + 1, field) ? at : NULL;
}

/* "{doc}", then "{query}", then perhaps "{answer}"; or "{query}" before "{doc}" or "{marked_doc}".
 * Each once. */
static enum sp_code read_template(const struct config_text *t, struct sp_config *c,
                                  sp_json_node node, struct sp_error *err) {
    if (node < 0) return SP_OK;
    enum sp_code code = copy_text(t, node, "\"fill_template\"", true, c->fill_template,
                                  sizeof c->fill_template, err);
    if (code) return code;
    const char *template = c->fill_template, *query = once(template, "{query}");
    const bool marked = strstr(template, "{marked_doc}"), answered = strstr(template, "{answer}");
    const char *doc = once(template, marked ? "{marked_doc}" : "{doc}");
    const char *answer = once(template, "{answer}");
    if (doc && query && !(marked && strstr(template, "{doc}"))) {
        if (!answered && query < doc) return SP_OK;
        if (doc == template && !marked && (!answered || answer > query)) return SP_OK;
    }
    return sp_error_set(err, SP_E_DATA,
                        "%s: \"fill_template\" is not {doc}, then {query}, then perhaps {answer}, "
                        "each once; nor {query}, then {doc} or {marked_doc}",
                        t->name);
}

bool sp_config_reverses(const struct sp_config *c, int64_t i) {
    return c->reverse > 0 && i < SP_REVERSE_LAYERS_MAX && (c->reverse_layers >> i & 1);
}

void sp_config_describe_reverse(const struct sp_config *c, int64_t first, int64_t last, char *out,
                                size_t size) {
    size_t at = 0;
    out[0] = 0;
    for (int64_t i = first; i <= last && at < size; i++)
        if (sp_config_reverses(c, i))
            at += (size_t)snprintf(out + at, size - at, "%s%lld", at ? ", " : "", (long long)i);
    if (at && at < size)
        snprintf(out + at, size - at, " reversed in windows of %u tokens", c->reverse);
}

/* "reverse_layers": the numbers of reversed layers, else every second one, from layer 1. */
static enum sp_code read_reverse_layers(const struct config_text *t, struct sp_config *c,
                                        sp_json_node layers, struct sp_error *err) {
    const int64_t most = c->n_layer < SP_REVERSE_LAYERS_MAX ? c->n_layer : SP_REVERSE_LAYERS_MAX;
    for (int64_t i = 1; layers < 0 && i < most; i += 2) c->reverse_layers |= (uint64_t)1 << i;
    if (layers >= 0 && sp_json_type(t->j, layers) != SP_JSON_ARRAY)
        return sp_error_set(err, SP_E_DATA, "%s: \"reverse_layers\" is not a list of layers",
                            t->name);
    for (sp_json_node v = layers < 0 ? -1 : sp_json_first(t->j, layers); v >= 0;
         v = sp_json_next(t->j, v)) {
        int64_t i = sp_json_int(t->j, v, -1);
        if (i < 0 || i >= most)
            return sp_error_set(err, SP_E_DATA,
                                "%s: \"reverse_layers\" names what is not a layer from 0 to %lld",
                                t->name, (long long)most - 1);
        c->reverse_layers |= (uint64_t)1 << i;
    }
    if (!c->reverse_layers)
        return sp_error_set(err, SP_E_DATA, "%s: \"reverse\" is without a layer that is reversed",
                            t->name);
    return SP_OK;
}

/* "reverse": the window of reversed layers in tokens, which fills chunks, so that no chunk's end
 * cuts one. */
static enum sp_code read_reverse(const struct config_text *t, struct sp_config *c, sp_json_node own,
                                 int64_t format, struct sp_error *err) {
    sp_json_node reverse = sp_json_get(t->j, own, "reverse");
    sp_json_node layers = sp_json_get(t->j, own, "reverse_layers");
    int64_t window = reverse < 0 ? 0 : sp_json_int(t->j, reverse, -1);
    if (window < 0 || (window > 0 && SP_CHUNK_TOKENS % window != 0))
        return sp_error_set(err, SP_E_DATA, "%s: \"reverse\" is not 0 or a divisor of %d", t->name,
                            SP_CHUNK_TOKENS);
    if (window == 0 && layers >= 0)
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"reverse_layers\" is without \"reverse\", their window", t->name);
    if (window > 0 && format < SP_CONFIG_FORMAT_MAX)
        return sp_error_set(err, SP_E_DATA, "%s: with \"reverse\", \"format\" has to be %d",
                            t->name, SP_CONFIG_FORMAT_MAX);
    c->reverse = (uint32_t)window;
    return window ? read_reverse_layers(t, c, layers, err) : SP_OK;
}

/* What a model with reversed layers cannot be. */
static enum sp_code check_reverse(const struct config_text *t, const struct sp_config *c,
                                  struct sp_error *err) {
    if (!c->reverse) return SP_OK;
    if (c->passes > 1)
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"reverse\" and several \"passes\" exclude each other", t->name);
    for (uint32_t i = 0; i < c->n_head; i++)
        if (c->head[i].type == SP_HEAD_LM)
            return sp_error_set(err, SP_E_DATA,
                                "%s: \"reverse\" and a language model's head exclude each other: "
                                "the layers would have read what it predicts",
                                t->name);
    return SP_OK;
}

/* The "statepipe" object; without one a model is a plain language model. */
static enum sp_code read_extension(const struct config_text *t, struct sp_config *c,
                                   struct sp_error *err) {
    sp_json_node own = sp_json_get(t->j, 0, "statepipe");
    int64_t format = sp_json_int(t->j, sp_json_get(t->j, own, "format"), 0);
    if (own >= 0 && (format < 1 || format > SP_CONFIG_FORMAT_MAX))
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"statepipe\" is of another format than 1 to %d; a newer version "
                            "of statepipe may read it",
                            t->name, SP_CONFIG_FORMAT_MAX);
    int64_t passes = sp_json_int(t->j, sp_json_get(t->j, own, "passes"), 1);
    int64_t delay = sp_json_int(t->j, sp_json_get(t->j, own, "delay"), 0);
    if (passes < 1 || passes > SP_PASSES_MAX || delay < 0 || delay > SP_DELAY_MAX)
        return sp_error_set(err, SP_E_DATA,
                            "%s: \"passes\" is not in 1 to %d, or \"delay\" not in 0 to %d",
                            t->name, SP_PASSES_MAX, SP_DELAY_MAX);
    c->passes = (uint32_t)passes;
    c->delay = (uint32_t)delay;
    sp_json_node tokenizer = sp_json_get(t->j, own, "tokenizer");
    if (tokenizer >= 0) {
        enum sp_code code = copy_string(t, tokenizer, "\"tokenizer\"", c->tokenizer, err);
        if (code) return code;
        if (strcmp(c->tokenizer, "bytes") != 0)
            return sp_error_set(err, SP_E_DATA, "%s: \"tokenizer\" '%s' is not known (bytes)",
                                t->name, c->tokenizer);
    }
    enum sp_code code = read_template(t, c, sp_json_get(t->j, own, "fill_template"), err);
    if (!code) code = read_reverse(t, c, own, format, err);
    if (code) return code;
    sp_json_node heads = sp_json_get(t->j, own, "heads");
    for (sp_json_node v = sp_json_first(t->j, heads); v >= 0; v = sp_json_next(t->j, v)) {
        code = read_head(t, c, v, err);
        if (code) return code;
    }
    if (c->n_head == 0) {
        c->n_head = 1;
        c->head[0] = (struct sp_head){.name = "lm", .type = SP_HEAD_LM};
    }
    code = check_reverse(t, c, err);
    return code ? code : read_default_head(t, c, sp_json_get(t->j, own, "default_head"), err);
}

enum sp_code sp_config_parse(struct sp_config *c, const char *text, size_t n, const char *name,
                             struct sp_error *err) {
    memset(c, 0, sizeof *c);
    struct sp_json *j = NULL;
    enum sp_code code = sp_json_parse(&j, text, n, name, err);
    if (code) return code;
    struct config_text t = {j, name};
    if (sp_json_type(j, 0) != SP_JSON_OBJECT)
        code = sp_error_set(err, SP_E_DATA, "%s: not a JSON object", name);
    if (!code) code = read_arch(&t, c, err);
    if (!code) code = read_dims(&t, c, err);
    if (!code) code = read_flags(&t, c, err);
    if (!code) code = read_extension(&t, c, err);
    sp_json_free(j);
    return code;
}

int sp_config_head(const struct sp_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_head; i++)
        if (strcmp(c->head[i].name, name) == 0) return (int)i;
    return -1;
}

/* A JSON string of one of the config's. */
static void write_string(FILE *f, const char *s) {
    char text[6 * SP_TEMPLATE_MAX + 2];
    size_t n = sp_json_escape(text, s, strlen(s));
    fwrite(text, 1, n, f);
}

static void write_doubt(FILE *f, const struct sp_head *h) {
    bool any = false;
    for (unsigned kind = 0; kind < SP_RECORD_KINDS; kind++) {
        if (h->doubt[kind] <= 0) continue;
        fputs(any ? ", \"" : ", \"doubt\": {\"", f);
        any = true;
        const char *plus = "";
        for (int i = 0; i < SP_FIELD_COUNT; i++) {
            if (!(kind >> i & 1)) continue;
            fprintf(f, "%s%s", plus, sp_field_name((enum sp_field)i));
            plus = "+";
        }
        fprintf(f, "\": %.9g", (double)h->doubt[kind]);
    }
    if (any) putc('}', f);
}

static void write_heads(FILE *f, const struct sp_config *c) {
    fputs(",\n  \"heads\": {", f);
    for (uint32_t i = 0; i < c->n_head; i++) {
        const struct sp_head *h = &c->head[i];
        fputs(i ? ",\n   " : "\n   ", f);
        write_string(f, h->name);
        fprintf(f, ": {\"type\": \"%s\"", head_types[h->type]);
        for (uint32_t k = 0; k < h->n_label; k++) {
            fputs(k ? ", " : ", \"labels\": [", f);
            write_string(f, h->label[k]);
        }
        if (h->n_label) putc(']', f);
        write_doubt(f, h);
        if (h->calibration[0] > 0)
            fprintf(f, ", \"calibration\": [%.9g, %.9g]", (double)h->calibration[0],
                    (double)h->calibration[1]);
        putc('}', f);
    }
    fputs("\n  }\n }\n}\n", f);
}

static void write_reverse(FILE *f, const struct sp_config *c) {
    if (!c->reverse) return;
    const char *comma = "";
    fprintf(f, ",\n  \"reverse\": %u,\n  \"reverse_layers\": [", c->reverse);
    for (int i = 0; i < SP_REVERSE_LAYERS_MAX; i++) {
        if (!sp_config_reverses(c, i)) continue;
        fprintf(f, "%s%d", comma, i);
        comma = ", ";
    }
    putc(']', f);
}

/* PyTorch's name for a type of weights. */
static const char *torch_name(enum sp_dtype dtype) {
    return dtype == SP_BF16 ? "bfloat16" : dtype == SP_F16 ? "float16" : "float32";
}

enum sp_code sp_config_write(FILE *f, const struct sp_config *c, enum sp_dtype dtype,
                             struct sp_error *err) {
    fprintf(f, "{\n \"model_type\": \"%s\",\n \"architectures\": [\"%s\"]", arch_names[c->arch],
            c->arch == SP_ARCH_MAMBA ? "MambaForCausalLM" : "FalconMambaForCausalLM");
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {
        {"hidden_size", c->d_model},       {"num_hidden_layers", c->n_layer},
        {"state_size", c->d_state},        {"conv_kernel", c->d_conv},
        {"intermediate_size", c->d_inner}, {"time_step_rank", c->dt_rank},
        {"vocab_size", c->vocab_size},     {"bos_token_id", c->bos_id},
        {"eos_token_id", c->eos_id},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].value >= 0)
            fprintf(f, ",\n \"%s\": %lld", sizes[i].key, (long long)sizes[i].value);
    fprintf(f, ",\n \"expand\": %.17g", (double)c->d_inner / (double)c->d_model);
    fprintf(f, ",\n \"layer_norm_epsilon\": %.17g", c->norm_eps);
    if (c->arch == SP_ARCH_FALCON_MAMBA)
        fprintf(f, ",\n \"mixer_rms_eps\": %.17g", c->mixer_norm_eps);
    const struct {
        const char *key;
        bool value;
    } flags[] = {
        {"use_bias", c->use_bias},
        {"use_conv_bias", c->use_conv_bias},
        {"tie_word_embeddings", c->tied},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        fprintf(f, ",\n \"%s\": %s", flags[i].key, flags[i].value ? "true" : "false");
    fprintf(f, ",\n \"hidden_act\": \"silu\",\n \"torch_dtype\": \"%s\"", torch_name(dtype));
    fprintf(f, ",\n \"statepipe\": {\n  \"format\": %d,\n  \"passes\": %u,\n  \"delay\": %u",
            c->reverse ? 2 : 1, c->passes, c->delay);
    write_reverse(f, c);
    if (c->tokenizer[0]) {
        fputs(",\n  \"tokenizer\": ", f);
        write_string(f, c->tokenizer);
    }
    if (c->fill_template[0]) {
        fputs(",\n  \"fill_template\": ", f);
        write_string(f, c->fill_template);
    }
    if (c->default_head[0]) {
        fputs(",\n  \"default_head\": ", f);
        write_string(f, c->default_head);
    }
    write_heads(f, c);
    if (ferror(f)) return sp_error_set(err, SP_E_IO, "writing config.json failed");
    return SP_OK;
}
