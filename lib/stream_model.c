/* Which model and which tokenizer a stream belongs to. */
#include "stream_model.h"
#include "model.h"

#include <limits.h>
#include <stdlib.h>

/* A model or a tokenizer, to the rule that finds it. */
struct part {
    const char *name;
    enum sp_code (*open)(void **out, const char *path, struct sp_error *err);
    const struct sp_hash *(*fingerprint)(const void *it);
    void (*free)(void *it);
};

static enum sp_code model_open(void **out, const char *path, struct sp_error *err) {
    struct sp_model *m;
    enum sp_code code = sp_model_open(&m, path, err);
    *out = m;
    return code;
}

static const struct sp_hash *model_fingerprint(const void *it) {
    return sp_model_fingerprint(it);
}

static void model_free(void *it) {
    sp_model_free(it);
}

static enum sp_code tokenizer_open(void **out, const char *path, struct sp_error *err) {
    struct sp_tokenizer *tok;
    enum sp_code code = sp_tokenizer_open(&tok, path, err);
    *out = tok;
    return code;
}

static const struct sp_hash *tokenizer_fingerprint(const void *it) {
    return sp_tokenizer_fingerprint(it);
}

static void tokenizer_free(void *it) {
    sp_tokenizer_free(it);
}

static const struct part the_model = {"model", model_open, model_fingerprint, model_free};
static const struct part the_tokenizer = {"tokenizer", tokenizer_open, tokenizer_fingerprint,
                                          tokenizer_free};

static bool known(const struct sp_hash *hash) {
    static const struct sp_hash zero;
    return !sp_hash_equal(hash, &zero);
}

/* SP_E_DATA where the stream says that it was made with another one; dir is where ours is. */
static enum sp_code check(const struct part *part, const void *it, const char *dir,
                          const struct sp_hash *wanted, const struct sp_hello *hello,
                          struct sp_error *err) {
    const struct sp_hash *ours = part->fingerprint(it);
    if (!known(wanted) || sp_hash_equal(wanted, ours)) return SP_OK;
    char theirs_hex[SP_HASH_HEX_SIZE], ours_hex[SP_HASH_HEX_SIZE];
    sp_hash_hex(wanted, theirs_hex);
    sp_hash_hex(ours, ours_hex);
    return sp_error_set(err, SP_E_DATA,
                        "the stream was made with another %s (%.12s, %.120s) than %.120s (%.12s): "
                        "give every program of the pipe the same -m",
                        part->name, theirs_hex,
                        hello->model_dir[0] ? hello->model_dir : "unknown directory", dir,
                        ours_hex);
}

/* Opens what is at path if the stream was made with it; NULL otherwise, and without a word: the
 * path may be another machine's. */
static void *open_matching(const struct part *part, const char *path,
                           const struct sp_hash *wanted) {
    void *it;
    struct sp_error ignored;
    if (!known(wanted) || part->open(&it, path, &ignored)) return NULL;
    if (sp_hash_equal(wanted, part->fingerprint(it))) return it;
    part->free(it);
    return NULL;
}

static enum sp_code open_part(const struct part *part, void **out, const char *path,
                              const struct sp_hello *hello, const struct sp_hash *wanted,
                              struct sp_error *err) {
    const char *variable = getenv("STATEPIPE_MODEL");
    char found[PATH_MAX];
    *out = NULL;
    if (!path && !(variable && *variable) && hello->model_dir[0])
        *out = open_matching(part, hello->model_dir, wanted);
    if (*out) return SP_OK;
    enum sp_code code = SP_OK;
    if (!path) {
        code = sp_model_default_dir(found, sizeof found, err);
        path = found;
    }
    if (!code) code = part->open(out, path, err);
    if (code) return code;
    code = check(part, *out, path, wanted, hello, err);
    if (!code) return SP_OK;
    part->free(*out);
    *out = NULL;
    return code;
}

enum sp_code sp_stream_model_check(const struct sp_model *m, const struct sp_hello *hello,
                                   struct sp_error *err) {
    return check(&the_model, m, sp_model_dir(m), &hello->model, hello, err);
}

enum sp_code sp_stream_model_open(struct sp_model **m, const char *dir,
                                  const struct sp_hello *hello, struct sp_error *err) {
    void *it;
    enum sp_code code = open_part(&the_model, &it, dir, hello, &hello->model, err);
    *m = it;
    return code;
}

enum sp_code sp_stream_tokenizer_open(struct sp_tokenizer **tok, const char *path,
                                      const struct sp_hello *hello, struct sp_error *err) {
    void *it = path ? NULL : open_matching(&the_tokenizer, "bytes", &hello->tokenizer);
    enum sp_code code = SP_OK;
    if (!it) code = open_part(&the_tokenizer, &it, path, hello, &hello->tokenizer, err);
    *tok = it;
    return code;
}

enum sp_code sp_stream_model_tokenizer(const struct sp_model *m, struct sp_hash *fingerprint,
                                       struct sp_error *err) {
    struct sp_tokenizer *tok;
    *fingerprint = (struct sp_hash){{0}};
    enum sp_code code = sp_tokenizer_open(&tok, sp_model_dir(m), err);
    if (code == SP_E_NOINPUT) return SP_OK;
    if (code) return code;
    *fingerprint = *sp_tokenizer_fingerprint(tok);
    sp_tokenizer_free(tok);
    return SP_OK;
}
