/* The filter that runs layers over a stream.
 *
 * struct sp_layers owns the model, the backend, the net, the states of the documents it holds and
 * the records handed to it until they are written.
 */
#ifndef SP_NET_LAYERS_H
#define SP_NET_LAYERS_H

#include "statepipe.h"

struct sp_layers_options {
    const char *model;      /* -m, or NULL */
    const char *device;     /* "auto", ... */
    int n_thread;           /* 0: all cores */
    int64_t first, last;    /* -1: the next layer to run; the model's last */
    enum sp_dtype dtype;    /* of products */
    enum sp_dtype wire;     /* of hidden, as written */
    const char *load_state; /* file, or NULL */
    const char *dump_state; /* pattern with %i (the document's id) and %n (its number), or NULL */
    bool emit_state;        /* STATE records of each document in front of its DOCEND */
    /* A run that is killed goes on: the last place that is safe, the tokens between two of them,
     * and the file that is written instead of standard output; or NULL, 0, NULL. */
    const char *checkpoint;
    int64_t every;
    const char *output;
    /* States that are kept by what was read: a folder or NULL, the tokens between two states of a
     * document, and the bytes of all of them. */
    const char *cache;
    int64_t cache_every, cache_bytes_max;
    /* What a person may want to know, or (warning) should; one line. May be NULL. */
    void (*say)(bool warning, const char *message);
};

#define SP_LAYERS_ROWS_MAX 2048 /* read ahead before something is computed */
#define SP_LAYERS_DOCS_MAX 64   /* documents among them */
#define SP_LAYERS_OPEN_MAX 64   /* documents left open, waiting to be continued */
#define SP_LAYERS_HELD_MAX 4096 /* records */
#define SP_LAYERS_STATE_BYTES_MAX ((size_t)512 << 20) /* of the states of documents held */

struct sp_layers;
enum sp_code sp_layers_new(struct sp_layers **l, const struct sp_layers_options *options,
                           struct sp_error *err);
void sp_layers_free(struct sp_layers *l);
/* The descriptor that the stream has to be written to, -1 for standard output. */
int sp_layers_output(const struct sp_layers *l);
/* All input has been read and its results written: documents that were left open get their files,
 * and the checkpoint is not needed any more. */
enum sp_code sp_layers_finish(struct sp_layers *l, struct sp_error *err);
/* The callbacks of a filter whose ctx is the sp_layers. */
void sp_layers_install(struct sp_layers *l, struct sp_filter *f);
/* What runs; "" before the first HELLO. */
void sp_layers_describe(struct sp_layers *l, char *out, size_t size);

/* --dump-state NAME: before anything is computed, for so many documents (0: not known yet), whether
 * a file's name can be made of it, and one for each: SP_E_USAGE. fork: the last of them has the id
 * of another, so that %i does not tell them apart. */
enum sp_code sp_layers_check_dump(const char *pattern, uint64_t n_doc, bool fork,
                                  struct sp_error *err);
/* A file name from the pattern: %i the id, in which an underscore replaces every character but
 * letters and digits (of any script), dot, underscore and hyphen, every byte that is not UTF-8, and
 * a dot or hyphen at the beginning; %n the number; %% a percent sign. SP_E_USAGE for another
 * letter, or a name too long. *varies: there was an %i or %n. */
enum sp_code sp_layers_file_name(char *out, size_t size, const char *pattern, const char *id,
                                 size_t n_id, uint64_t number, bool *varies, struct sp_error *err);

#endif
