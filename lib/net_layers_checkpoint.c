/* Checkpoints of the layers' filter: a run that was killed goes on where it was.
 *
 * A checkpoint is a state segment in a file of its own: a CHECKPOINT record with the place in the
 * input (how many records, and the hash of them), the length up to which the output is on the disk
 * and the hash of it, and the states of the documents that were being read or open. A later run
 * reads the same input again up to that place, computing and writing nothing, so that everything
 * but states comes about as it did before.
 */
#include "io.h"
#include "net_layers_internal.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND "CHECKPOINT"
#define PIECE_BYTES ((size_t)1 << 20) /* of the output, read at once */

/* What a checkpoint's own record says. */
struct place {
    struct sp_hash input, setup, output; /* output: of its out_bytes */
    uint64_t n_record, n_tok;            /* read */
    uint64_t out_bytes;                  /* written and synced */
    uint64_t errors, errors_all;
    uint64_t current; /* number of the document that was being read */
};

struct saved_state {
    uint64_t number; /* of its document */
    struct sp_state *state;
};

struct sp_layers_checkpoint {
    int fd; /* the output */
    struct sp_hasher *input, *output;
    uint64_t n_record, n_tok;
    uint64_t since; /* tokens since the last checkpoint */
    bool skipping;
    struct place saved; /* to be reached while skipping */
    size_t n_state;
    struct saved_state *state; /* (n_state) */
};

static const struct {
    const char *key;
    size_t at;
} numbers[] = {{"records", offsetof(struct place, n_record)},
               {"n_tok", offsetof(struct place, n_tok)},
               {"out", offsetof(struct place, out_bytes)},
               {"errors", offsetof(struct place, errors)},
               {"errors_all", offsetof(struct place, errors_all)},
               {"current", offsetof(struct place, current)}},
  hashes[] = {{"input", offsetof(struct place, input)},
              {"setup", offsetof(struct place, setup)},
              {"output", offsetof(struct place, output)}};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- reading one ---------------------------------------------------------------------------- */

static enum sp_code parse_place(struct place *p, const struct sp_record *rec,
                                struct sp_error *err) {
    const void *bytes;
    size_t n;
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (!sp_record_get_u64(rec, numbers[i].key,
                               (uint64_t *)(void *)((char *)p + numbers[i].at)))
            return sp_error_set(err, SP_E_DATA, "it has no number '%s'", numbers[i].key);
    for (size_t i = 0; i < COUNT(hashes); i++) {
        if (!sp_record_get_bin(rec, hashes[i].key, &bytes, &n) || n != sizeof p->input.byte)
            return sp_error_set(err, SP_E_DATA, "it has no hash '%s'", hashes[i].key);
        memcpy((char *)p + hashes[i].at, bytes, n);
    }
    return SP_OK;
}

/* What has been gathered is the state of document `number`. */
static enum sp_code keep_state(struct sp_layers_checkpoint *c, struct sp_state_gather *g,
                               uint64_t number, struct sp_error *err) {
    if (g->n == 0) return SP_OK;
    struct saved_state *grown = realloc(c->state, (c->n_state + 1) * sizeof *grown);
    if (!grown) return sp_error_memory(err, "a checkpoint");
    c->state = grown;
    grown[c->n_state] = (struct saved_state){.number = number};
    return sp_state_gather_end(g, &grown[c->n_state++].state, err);
}

static enum sp_code parse_record(struct sp_layers_checkpoint *c, struct sp_record *rec,
                                 struct sp_state_gather *g, uint64_t *number, bool *found,
                                 struct sp_error *err) {
    enum sp_code code = SP_OK;
    uint64_t doc = 0;
    if (rec->kind == SP_KIND_STATE) {
        if (!sp_record_get_u64(rec, "doc", &doc) || !*found) {
            sp_record_free(rec);
            return sp_error_set(err, SP_E_DATA, "it is a state, not a checkpoint");
        }
        if (doc != *number) code = keep_state(c, g, *number, err);
        *number = doc;
        if (!code) return sp_state_gather_add(g, rec, err);
        sp_record_free(rec);
        return code;
    }
    if (strcmp(rec->kind_name, KIND) == 0) {
        *found = true;
        code = parse_place(&c->saved, rec, err);
    }
    if (!code && rec->kind == SP_KIND_END) code = keep_state(c, g, *number, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code parse(struct sp_layers_checkpoint *c, struct sp_reader *r,
                          struct sp_error *err) {
    struct sp_state_gather g = {0};
    struct sp_record *rec;
    uint64_t number = 0;
    bool found = false;
    enum sp_code code;
    while (!(code = sp_reader_read(r, &rec, err)) && rec)
        if ((code = parse_record(c, rec, &g, &number, &found, err))) break;
    sp_state_gather_clear(&g);
    if (!code && !found) code = sp_error_set(err, SP_E_DATA, "it is no checkpoint");
    return code;
}

/* Where there is a checkpoint, a run that was killed goes on. */
static enum sp_code load(struct sp_layers_checkpoint *c, const char *path, struct sp_error *err) {
    struct sp_reader *r = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return SP_OK;
    if (fd < 0) return sp_error_set(err, SP_E_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    enum sp_code code = sp_reader_new(&r, fd, path, err);
    if (!code) {
        sp_reader_expect(r, SP_READ_CHECKPOINT);
        code = parse(c, r, err);
        if (code) sp_error_name(err, path);
    }
    sp_reader_free(r);
    close(fd);
    c->skipping = !code;
    return code;
}

/* ---- starting ------------------------------------------------------------------------------- */

/* One run at a time writes the output, and with it its checkpoints. */
static enum sp_code open_output(struct sp_layers_checkpoint *c, const char *path,
                                struct sp_error *err) {
    struct stat st;
    c->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (c->fd < 0 || fstat(c->fd, &st) != 0)
        return sp_error_set(err, SP_E_IO, "cannot create %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return sp_error_set(err, SP_E_USAGE,
                            "-o %s is not a regular file, which could be cut off at the last "
                            "checkpoint",
                            path);
    if (flock(c->fd, LOCK_EX | LOCK_NB) != 0)
        return sp_error_set(err, SP_E_IO, "%s is being written by another run", path);
    return SP_OK;
}

static enum sp_code other_output(const struct sp_layers *l, const char *why, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA,
                        "%.200s is not the output that the checkpoint %.200s was made with: %s; "
                        "remove the checkpoint to start anew",
                        l->o.output, l->o.checkpoint, why);
}

/* What the output should have up to the checkpoint; its hash so far is left in c->output. */
static enum sp_code check_output(struct sp_layers *l, struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    char why[100];
    uint8_t *piece = malloc(PIECE_BYTES);
    enum sp_code code = piece ? SP_OK : sp_error_memory(err, "a checkpoint");
    uint64_t left = c->saved.out_bytes;
    while (!code && left > 0) {
        size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, got;
        code = sp_io_read(c->fd, piece, n, &got, l->o.output, err);
        if (!code && got < n) code = other_output(l, "it is shorter", err);
        if (!code) sp_hasher_add(c->output, piece, n);
        left -= n;
    }
    free(piece);
    if (code) return code;
    struct sp_hash hash;
    sp_hasher_now(c->output, &hash);
    if (sp_hash_equal(&hash, &c->saved.output)) return SP_OK;
    snprintf(why, sizeof why, "its first %llu bytes are others",
             (unsigned long long)c->saved.out_bytes);
    return other_output(l, why, err);
}

enum sp_code sp_layers_checkpoint_open(struct sp_layers *l, struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint = calloc(1, sizeof *c);
    if (!c) return sp_error_memory(err, "a checkpoint");
    c->fd = -1;
    c->input = sp_hasher_new();
    c->output = sp_hasher_new();
    if (!c->input || !c->output) return sp_error_memory(err, "a checkpoint");
    enum sp_code code = open_output(c, l->o.output, err);
    if (!code) code = load(c, l->o.checkpoint, err);
    if (code) return code;
    if (!c->skipping && ftruncate(c->fd, 0) != 0)
        return sp_error_set(err, SP_E_IO, "%s: %s", l->o.output, strerror(errno));
    return c->skipping ? check_output(l, err) : SP_OK;
}

int sp_layers_output(const struct sp_layers *l) {
    return l->checkpoint ? l->checkpoint->fd : -1;
}

void sp_layers_checkpoint_free(struct sp_layers *l) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    struct sp_hash ignored;
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    if (c->input) sp_hasher_end(c->input, &ignored);
    if (c->output) sp_hasher_end(c->output, &ignored);
    for (size_t i = 0; i < c->n_state; i++) sp_state_free(c->state[i].state);
    free(c->state);
    free(c);
    l->checkpoint = NULL;
}

/* What has a say in the output besides the input. */
static enum sp_code hash_setup(const struct sp_layers *l, const struct sp_state *initial,
                               struct sp_hash *hash, struct sp_error *err) {
    const int64_t words[] = {l->o.first, l->o.last, l->o.dtype, l->o.wire, l->o.emit_state};
    struct sp_hasher *h = sp_hasher_new();
    if (!h) return sp_error_memory(err, "a checkpoint");
    sp_hasher_add(h, sp_model_fingerprint(l->model), sizeof(struct sp_hash));
    sp_hasher_add(h, words, sizeof words);
    if (initial) {
        size_t layers = initial->layer_last - initial->layer_first + 1;
        sp_hasher_add(h, initial->conv, layers * sp_state_conv_size(initial) * sizeof(float));
        sp_hasher_add(h, initial->ssm, layers * sp_state_ssm_size(initial) * sizeof(float));
        sp_hasher_add(h, &initial->prefix, sizeof initial->prefix);
        sp_hasher_add(h, &initial->origin, sizeof initial->origin);
    }
    sp_hasher_end(h, hash);
    return SP_OK;
}

enum sp_code sp_layers_checkpoint_check(struct sp_layers *l, struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    struct sp_hash setup;
    enum sp_code code = hash_setup(l, l->state, &setup, err);
    if (!code && c->skipping && !sp_hash_equal(&setup, &c->saved.setup))
        return sp_error_set(err, SP_E_DATA,
                            "%.200s was made with another model, other layers, --dtype, --wire, "
                            "--emit-state or --load-state: give the same, or remove it to start "
                            "anew",
                            l->o.checkpoint);
    c->saved.setup = setup;
    return code;
}

/* ---- going on ------------------------------------------------------------------------------- */

static struct sp_layers_doc *find(struct sp_layers *l, uint64_t number) {
    if (l->current && l->current->number == number) return l->current;
    struct sp_layers_doc *d = l->open;
    while (d && d->number != number) d = d->next;
    return d;
}

static bool is_saved(const struct sp_layers_checkpoint *c, uint64_t number) {
    for (size_t i = 0; i < c->n_state; i++)
        if (c->state[i].number == number) return true;
    return false;
}

static enum sp_code other_input(const struct sp_layers *l, struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA,
                        "this is not the input that the checkpoint %.200s was made with: give the "
                        "same, or remove it to start anew",
                        l->o.checkpoint);
}

/* Documents that are open now and had failed then, are not open. */
static void drop_failed(struct sp_layers *l) {
    for (struct sp_layers_doc **at = &l->open, *d; (d = *at);) {
        if (is_saved(l->checkpoint, d->number)) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        l->n_open--;
        sp_layers_doc_forget(l, d);
    }
}

/* The place of the checkpoint is reached. */
static enum sp_code go_on(struct sp_layers *l, struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    struct sp_hash input;
    sp_hasher_now(c->input, &input);
    if (!sp_hash_equal(&input, &c->saved.input) || !l->current ||
        l->current->number != c->saved.current || !is_saved(c, c->saved.current))
        return other_input(l, err);
    drop_failed(l);
    for (size_t i = 0; i < c->n_state; i++) {
        struct sp_layers_doc *d = find(l, c->state[i].number);
        struct sp_state *s = c->state[i].state;
        if (!d) return other_input(l, err);
        enum sp_code code =
            sp_state_check(s, l->model, (uint32_t)l->o.first, (uint32_t)l->o.last, err);
        if (!code) code = sp_layers_doc_load(l, d, s, err);
        if (code) return sp_error_prefix(err, "%s", l->o.checkpoint);
        sp_state_free(s);
        c->state[i].state = NULL;
    }
    if (ftruncate(c->fd, (off_t)c->saved.out_bytes) != 0 || lseek(c->fd, 0, SEEK_END) < 0)
        return sp_error_set(err, SP_E_IO, "%s: %s", l->o.output, strerror(errno));
    sp_filter_set_errors(l->filter, c->saved.errors, c->saved.errors_all);
    c->skipping = l->filter->mute = false;
    c->n_tok = c->saved.n_tok;
    char what[200];
    snprintf(what, sizeof what, "goes on behind the first %llu tokens, at byte %llu of the output",
             (unsigned long long)c->saved.n_tok, (unsigned long long)c->saved.out_bytes);
    if (l->o.say) l->o.say(false, what);
    return SP_OK;
}

enum sp_code sp_layers_checkpoint_read(struct sp_layers *l, const struct sp_record *rec,
                                       struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    if (c->skipping && c->n_record == c->saved.n_record) {
        enum sp_code code = go_on(l, err);
        if (code) return code;
    }
    l->filter->mute = c->skipping;
    struct sp_writer *w = sp_filter_writer(l->filter);
    if (w) sp_writer_hash(w, c->output);
    c->n_record++;
    sp_wire_hash(rec, c->input);
    return SP_OK;
}

bool sp_layers_checkpoint_skips(const struct sp_layers *l) {
    return l->checkpoint && l->checkpoint->skipping;
}

/* ---- writing one ---------------------------------------------------------------------------- */

static enum sp_code send_place(const struct place *p, struct sp_writer *w, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_OTHER);
    if (!rec) return sp_error_memory(err, "a checkpoint");
    snprintf(rec->kind_name, sizeof rec->kind_name, "%s", KIND);
    enum sp_code code = SP_OK;
    for (size_t i = 0; i < COUNT(numbers) && !code; i++) {
        uint64_t v;
        memcpy(&v, (const char *)p + numbers[i].at, sizeof v);
        code = sp_record_set_u64(rec, numbers[i].key, v, err);
    }
    for (size_t i = 0; i < COUNT(hashes) && !code; i++)
        code = sp_record_set_bin(rec, hashes[i].key, (const char *)p + hashes[i].at,
                                 sizeof p->input.byte, err);
    if (!code) return sp_state_send_sealed(rec, w, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code send_doc(struct sp_layers *l, const struct sp_layers_doc *d,
                             struct sp_writer *w, struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code = sp_layers_doc_state(l, d, &s, err);
    if (!code) code = sp_state_send_records(s, &d->number, w, err);
    sp_state_free(s);
    return code;
}

static enum sp_code send_all(struct sp_layers *l, const struct place *p, struct sp_writer *w,
                             struct sp_error *err) {
    struct sp_state *s;
    enum sp_code code = sp_layers_doc_state(l, l->current, &s, err);
    if (!code) code = sp_state_send_hello(s, w, err);
    if (!code) code = send_place(p, w, err);
    if (!code) code = sp_state_send_records(s, &l->current->number, w, err);
    for (struct sp_layers_doc *d = l->open; d && !code; d = d->next) code = send_doc(l, d, w, err);
    if (!code) code = sp_state_send_end(w, err);
    sp_state_free(s);
    return code ? code : sp_writer_flush(w, err);
}

static enum sp_code save(struct sp_layers *l, const struct place *p, struct sp_error *err) {
    struct sp_atomic_file file;
    struct sp_writer *w = NULL;
    enum sp_code code = sp_atomic_open_alone(&file, l->o.checkpoint, err);
    if (code) return code;
    code = sp_writer_new(&w, fileno(file.file), l->o.checkpoint, err);
    if (!code) code = send_all(l, p, w, err);
    if (!code) code = sp_atomic_commit(&file, true, err);
    sp_writer_free(w);
    if (code) sp_atomic_abort(&file);
    return code;
}

enum sp_code sp_layers_checkpoint_chunk(struct sp_layers *l, int64_t n_row, struct sp_writer *w,
                                        struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    c->n_tok += (uint64_t)n_row;
    c->since += (uint64_t)n_row;
    if (c->since < (uint64_t)l->o.every) return SP_OK;
    enum sp_code code = sp_layers_flush(l, w, err);
    /* A document that has just failed is no place to go on from: the next one is. */
    if (code || !l->current) return code;
    code = sp_writer_flush(w, err);
    off_t end = code ? 0 : lseek(c->fd, 0, SEEK_CUR);
    if (!code && (fsync(c->fd) != 0 || end < 0))
        code = sp_error_set(err, SP_E_IO, "writing %s: %s", l->o.output, strerror(errno));
    if (code) return code;
    struct place p = {.setup = c->saved.setup,
                      .n_record = c->n_record,
                      .n_tok = c->n_tok,
                      .out_bytes = (uint64_t)end,
                      .current = l->current->number};
    sp_hasher_now(c->input, &p.input);
    sp_hasher_now(c->output, &p.output);
    sp_filter_get_errors(l->filter, &p.errors, &p.errors_all);
    c->since = 0;
    return save(l, &p, err);
}

enum sp_code sp_layers_finish(struct sp_layers *l, struct sp_error *err) {
    struct sp_layers_checkpoint *c = l->checkpoint;
    if (c && c->skipping) return other_input(l, err);
    enum sp_code code = sp_layers_dump_open(l, err);
    if (code || !c) return code;
    if (fsync(c->fd) != 0)
        return sp_error_set(err, SP_E_IO, "writing %s: %s", l->o.output, strerror(errno));
    if (unlink(l->o.checkpoint) != 0 && errno != ENOENT)
        return sp_error_set(err, SP_E_IO, "cannot remove %s: %s", l->o.checkpoint, strerror(errno));
    return SP_OK;
}
