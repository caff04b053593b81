/* Checkpoints: all that a run needs to go on as if it had never stopped.
 *
 * OUT/checkpoint: the magic line, a NUL-terminated line of the settings that decide the result, the
 * counters, then weights, moments, [average], carried states as raw f32, and the XXH3-128 of all
 * that. The input is not kept: it is read again up to where it was, which also brings back the
 * shuffling window, the documents kept for evaluation and the counted transitions.
 */
#include "train_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

#define MAGIC "statepipe checkpoint 2\n"
#define SETTINGS_MAX 2048

struct counters {
    uint64_t size;
    struct sp_train_place place;
    int64_t step, n_token;
    double elapsed_s;
    uint64_t slot;
};

/* What must be the same for the run to end in the same weights. */
static void settings(const struct sp_train *run, char out[SETTINGS_MAX]) {
    const struct sp_train_options *o = &run->options;
    const struct sp_feed_options *f = &o->feed;
    const struct sp_adamw_options *a = &o->adamw;
    snprintf(out, SETTINGS_MAX,
             "config %s init %s task %d head %s input %s epochs %lld batch %lld max-len %lld "
             "shuffle %lld holdout %lld eval %s steps %lld time %g seed %llu lr %.9g min-lr %.9g "
             "warmup %lld beta %.9g %.9g weight-decay %.9g clip %.9g ema %.9g layers %lld width "
             "%lld",
             o->config ? o->config : "-", o->init ? o->init : "-", (int)o->task,
             o->head ? o->head : "-", f->path, (long long)f->epochs, (long long)f->n_tok_batch,
             (long long)f->n_tok_piece, (long long)f->shuffle, (long long)f->holdout,
             o->eval ? o->eval : "-", (long long)o->steps, o->minutes, (unsigned long long)o->seed,
             a->lr, a->lr_min, (long long)a->warmup, a->beta1, a->beta2, a->weight_decay, a->clip,
             a->ema, (long long)run->config.n_layer, (long long)run->config.d_model);
}

static enum sp_code path_of(const struct sp_train *run, char out[4096], struct sp_error *err) {
    return sp_path_join(out, 4096, run->options.out, "checkpoint", err);
}

/* The device buffers of a checkpoint, in their order; -1 at the end. */
static float *device_part(const struct sp_train *run, int i, int64_t *n) {
    const struct sp_config *c = &run->config;
    int slot = run->carry.now;
    *n = sp_param_set_size(run->set);
    switch (i) {
    case 0: return sp_train_net_values(run->net);
    case 1: return run->optimiser.m;
    case 2: return run->optimiser.v;
    case 3: *n = c->n_layer * (c->d_conv - 1) * c->d_inner; return run->carry.conv[slot];
    case 4: *n = c->n_layer * c->d_inner * c->d_state; return run->carry.ssm[slot];
    default: *n = -1; return NULL;
    }
}

struct sink {
    FILE *file;
    struct sp_hasher *hash;
};

static void put(struct sink *s, const void *data, size_t n) {
    fwrite(data, 1, n, s->file); /* errors show when the file is committed */
    sp_hasher_add(s->hash, data, n);
}

static enum sp_code write_body(struct sp_train *run, struct sink *s, float *buffer,
                               struct sp_error *err) {
    char text[SETTINGS_MAX];
    int64_t n;
    settings(run, text);
    struct counters c = {.size = (uint64_t)sp_param_set_size(run->set),
                         .place = run->place,
                         .step = run->optimiser.step,
                         .n_token = run->n_token,
                         .elapsed_s = sp_train_elapsed_s(run),
                         .slot = (uint64_t)run->carry.now};
    put(s, MAGIC, strlen(MAGIC));
    put(s, text, strlen(text) + 1);
    put(s, &c, sizeof c);
    for (int i = 0;; i++) {
        const float *part = device_part(run, i, &n);
        if (n < 0) break;
        SP_TRY(run->be->download(run->be, buffer, part, (size_t)n * sizeof *part, err));
        put(s, buffer, (size_t)n * sizeof *buffer);
    }
    if (run->optimiser.ema) put(s, run->optimiser.ema, (size_t)c.size * sizeof(float));
    return SP_OK;
}

/* Large enough for each part. */
static size_t buffer_floats(const struct sp_train *run) {
    size_t most = 1;
    int64_t n;
    for (int i = 0; device_part(run, i, &n), n >= 0; i++)
        if ((size_t)n > most) most = (size_t)n;
    return most;
}

enum sp_code sp_train_checkpoint_write(struct sp_train *run, struct sp_error *err) {
    char path[4096];
    struct sp_atomic_file file;
    struct sp_hash hash;
    SP_TRY(path_of(run, path, err));
    float *buffer = malloc(buffer_floats(run) * sizeof *buffer);
    struct sink s = {.hash = sp_hasher_new()};
    enum sp_code code = SP_OK;
    if (!buffer || !s.hash) code = sp_error_set(err, SP_E_DEVICE, "out of memory: checkpoint");
    if (!code) code = sp_atomic_open(&file, path, err);
    if (!code) {
        s.file = file.file;
        code = write_body(run, &s, buffer, err);
        sp_hasher_end(s.hash, &hash);
        s.hash = NULL;
        fwrite(&hash, 1, sizeof hash, s.file);
        if (!code && ferror(s.file)) code = sp_error_set(err, SP_E_IO, "cannot write %s", path);
        if (!code) code = sp_atomic_commit(&file, true, err);
        sp_atomic_abort(&file);
    }
    if (s.hash) sp_hasher_end(s.hash, &hash);
    free(buffer);
    return code;
}

void sp_train_checkpoint_remove(const struct sp_train *run) {
    char path[4096];
    struct sp_error ignored;
    if (path_of(run, path, &ignored) == SP_OK) unlink(path);
}

/* ---- going on ----------------------------------------------------------------------------------
 */

struct cursor {
    const uint8_t *p;
    size_t left;
};

static bool take(struct cursor *c, void *out, size_t n) {
    if (c->left < n) return false;
    memcpy(out, c->p, n);
    c->p += n;
    c->left -= n;
    return true;
}

static enum sp_code damaged(const char *path, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA, "%s is damaged; remove it, or use --force, to start afresh",
                        path);
}

static enum sp_code read_head(const struct sp_train *run, struct cursor *c,
                              struct counters *counters, const char *path, struct sp_error *err) {
    char text[SETTINGS_MAX];
    size_t magic = strlen(MAGIC);
    struct sp_hash stored, hash;
    if (c->left < magic + sizeof hash || memcmp(c->p, MAGIC, magic) != 0) return damaged(path, err);
    c->left -= sizeof hash;
    memcpy(&stored, c->p + c->left, sizeof stored);
    sp_hash_bytes(&hash, c->p, c->left);
    if (!sp_hash_equal(&hash, &stored)) return damaged(path, err);
    c->p += magic;
    c->left -= magic;
    settings(run, text);
    size_t n = strlen(text) + 1;
    if (c->left < n || memcmp(c->p, text, n) != 0)
        return sp_error_set(err, SP_E_USAGE,
                            "%s was made with other settings: give the same options to go on with "
                            "it, or --force to start afresh",
                            path);
    c->p += n;
    c->left -= n;
    if (!take(c, counters, sizeof *counters)) return damaged(path, err);
    if (counters->size != (uint64_t)sp_param_set_size(run->set) || counters->slot > 1)
        return damaged(path, err);
    return SP_OK;
}

static enum sp_code read_body(struct sp_train *run, struct cursor *c, const char *path,
                              struct sp_error *err) {
    int64_t n;
    for (int i = 0;; i++) {
        float *part = device_part(run, i, &n);
        if (n < 0) break;
        size_t n_bytes = (size_t)n * sizeof *part;
        if (c->left < n_bytes) return damaged(path, err);
        SP_TRY(run->be->upload(run->be, part, c->p, n_bytes, err));
        c->p += n_bytes;
        c->left -= n_bytes;
    }
    size_t ema = run->optimiser.ema ? (size_t)sp_param_set_size(run->set) * sizeof(float) : 0;
    if (ema && !take(c, run->optimiser.ema, ema)) return damaged(path, err);
    if (c->left) return damaged(path, err);
    return sp_train_net_refresh(run->net, err);
}

/* Reads the input up to where the checkpoint was made. */
static enum sp_code replay(struct sp_train *run, const struct sp_train_place *to,
                           struct sp_error *err) {
    struct sp_feed_batch b;
    while (run->place.n_batch < to->n_batch) {
        SP_TRY(sp_train_next_batch(run, &b, err));
        if (b.n_seq == 0) break;
    }
    if (run->place.n_batch == to->n_batch && run->place.n_doc == to->n_doc &&
        sp_hash_equal(&run->place.last_batch, &to->last_batch))
        return SP_OK;
    return sp_error_set(err, SP_E_DATA,
                        "the input is not the one that the checkpoint in %s was made with",
                        run->options.out);
}

static enum sp_code resume(struct sp_train *run, const struct sp_map *map, const char *path,
                           struct sp_error *err) {
    struct cursor cursor = {.p = map->data, .left = map->n};
    struct counters c;
    SP_TRY(read_head(run, &cursor, &c, path, err));
    run->carry.now = (int)c.slot;
    SP_TRY(read_body(run, &cursor, path, err));
    SP_TRY(replay(run, &c.place, err));
    run->optimiser.step = run->resumed = c.step;
    run->n_token = c.n_token;
    run->elapsed_before_s = c.elapsed_s;
    return SP_OK;
}

enum sp_code sp_train_checkpoint_resume(struct sp_train *run, struct sp_error *err) {
    char path[4096];
    struct sp_map map;
    SP_TRY(path_of(run, path, err));
    if (access(path, F_OK) != 0) return SP_OK;
    SP_TRY(sp_map_open(&map, path, err));
    enum sp_code code = resume(run, &map, path, err);
    sp_map_close(&map);
    return code;
}
