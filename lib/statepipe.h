/* statepipe: selective state-space (Mamba) language models as Unix filters.
 *
 * The one public header of libstatepipe.
 *
 * Ownership in one sentence: whoever calls a function named _new, _open or _read owns what it hands
 * out and gives it back to the matching _free or _close; every other pointer is borrowed, and lives
 * as long as the object that it was asked of.
 *
 * Errors: a function that can fail returns an enum sp_code (SP_OK is 0) and describes the failure
 * in its last argument, which may not be NULL: what went wrong, where, and what to do. The library
 * never prints and never exits.
 *
 * Shapes are written (rows, columns), row-major; token counts are int64_t; sizes are in bytes.
 */
#ifndef STATEPIPE_H
#define STATEPIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SP_VERSION "0.1.0"

/* ---- errors (error.c) ---------------------------------------------------------------------- */

enum sp_code {
    SP_OK = 0,
    SP_E_USAGE,   /* exit 2: the caller asked for something that makes no sense */
    SP_E_DATA,    /* exit 65: a stream, state, model or text that is not what it should be */
    SP_E_NOINPUT, /* exit 66: a file that is not there or cannot be read */
    SP_E_DEVICE,  /* exit 69: device, library or memory not available */
    SP_E_BUG,     /* exit 70: an invariant of our own is broken */
    SP_E_IO,      /* exit 74: reading or writing failed */
};

struct sp_error {
    enum sp_code code;
    char msg[500];
};

/* Fills *err (message cut to fit) and returns code, so that callers can `return sp_error_set(...)`.
 */
enum sp_code sp_error_set(struct sp_error *err, enum sp_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " in front of the message and returns err->code. */
enum sp_code sp_error_prefix(struct sp_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The same with a file's name, where the message does not begin with it. */
enum sp_code sp_error_name(struct sp_error *err, const char *file);
/* SP_E_DEVICE: "out of memory for what". */
enum sp_code sp_error_memory(struct sp_error *err, const char *what);
/* The documented exit status of a code: 0, 2, 65, 66, 69, 70 or 74. */
int sp_error_exit_status(enum sp_code code);

/* ---- tensors (tensor.c) ---------------------------------------------------------------------- */

enum sp_dtype {
    SP_F32 = 0,
    SP_F16,
    SP_BF16,
    SP_I8,
    SP_U8,
    SP_I32,
    SP_U32,
    SP_I64,
    SP_U64,
    SP_DTYPE_COUNT
};

#define SP_TENSOR_RANK_MAX 8
#define SP_TENSOR_BYTES_MAX ((size_t)64 << 20) /* of one tensor in a stream */

struct sp_tensor {
    enum sp_dtype dtype;
    uint32_t rank;
    uint64_t dim[SP_TENSOR_RANK_MAX];
    void *data;     /* row-major; 64-byte aligned when owned */
    size_t n_bytes; /* of data, without padding */
    bool owned;     /* freed by sp_tensor_clear */
};

size_t sp_dtype_size(enum sp_dtype dtype);      /* in bytes */
const char *sp_dtype_name(enum sp_dtype dtype); /* "f32", ... */
/* Checked product of the dimensions times the element size; false on overflow. */
bool sp_tensor_bytes(enum sp_dtype dtype, uint32_t rank, const uint64_t *dim, size_t *n_bytes);
/* Allocates (64-byte aligned, uninitialised, rounded up to 64 bytes). SP_E_DATA over the limit. */
enum sp_code sp_tensor_new(struct sp_tensor *t, enum sp_dtype dtype, uint32_t rank,
                           const uint64_t *dim, struct sp_error *err);
void sp_tensor_clear(struct sp_tensor *t);
/* Element conversion; round to nearest even; NaN stays NaN. */
float sp_f32_from_bf16(uint16_t x);
float sp_f32_from_f16(uint16_t x);
uint16_t sp_bf16_from_f32(float x);
uint16_t sp_f16_from_f32(float x);
/* n elements of dtype f32, f16 or bf16 at src as f32 at dst. */
void sp_tensor_to_f32(float *dst, const void *src, enum sp_dtype dtype, size_t n);
/* And the way back, rounded. */
void sp_tensor_from_f32(void *dst, const float *src, enum sp_dtype dtype, size_t n);

/* 128-bit fingerprints and checksums (XXH3-128), in canonical (big-endian) byte order. */
struct sp_hash {
    uint8_t byte[16];
};
#define SP_HASH_HEX_SIZE 33
void sp_hash_hex(const struct sp_hash *hash, char hex[SP_HASH_HEX_SIZE]);
bool sp_hash_equal(const struct sp_hash *a, const struct sp_hash *b);

/* ---- the stream (wire_*.c; man 5 statepipe-stream) --------------------------------------------
 */

enum sp_content { SP_TOKENS = 0, SP_HIDDEN, SP_SCORES, SP_RECORDS, SP_STATE, SP_CONTENT_COUNT };
const char *sp_content_name(enum sp_content content);

enum sp_kind {
    SP_KIND_HELLO = 0,
    SP_KIND_DOC,
    SP_KIND_TEXT,
    SP_KIND_CHUNK,
    SP_KIND_DOCEND,
    SP_KIND_HEAD,
    SP_KIND_STATE,
    SP_KIND_ERR,
    SP_KIND_END,
    SP_KIND_OTHER, /* passed through untouched */
    SP_KIND_COUNT
};

#define SP_RECORD_TENSORS_MAX 16
#define SP_NAME_MAX 32 /* of a kind, a tensor or a map key, with its final NUL */

/* One record: [kind, map, [names]] and its tensors. The map is kept as the msgpack bytes that were
 * read, so that keys nobody knows travel on untouched. */
struct sp_record {
    enum sp_kind kind;
    char kind_name[SP_NAME_MAX];
    uint8_t *map; /* msgpack, owned */
    size_t map_bytes;
    uint32_t n_tensor;
    char name[SP_RECORD_TENSORS_MAX][SP_NAME_MAX];
    struct sp_tensor tensor[SP_RECORD_TENSORS_MAX];
};

/* A record with an empty map; NULL when out of memory. */
struct sp_record *sp_record_new(enum sp_kind kind);
void sp_record_free(struct sp_record *rec); /* with its tensors; NULL is fine */

/* Map fields. Getters return false where the key is missing or of another type (then *out is left
 * alone); strings are borrowed from rec->map and not NUL-terminated. Setters replace or append. */
bool sp_record_get_u64(const struct sp_record *rec, const char *key, uint64_t *out);
bool sp_record_get_bool(const struct sp_record *rec, const char *key, bool *out);
bool sp_record_get_f64(const struct sp_record *rec, const char *key, double *out);
bool sp_record_get_str(const struct sp_record *rec, const char *key, const char **out, size_t *n);
bool sp_record_get_bin(const struct sp_record *rec, const char *key, const void **out, size_t *n);
/* The raw msgpack bytes of a value of any type (spans, slots, labels, transitions). */
bool sp_record_get_raw(const struct sp_record *rec, const char *key, const void **out, size_t *n);
/* Copies a string with a NUL; SP_E_DATA when missing, too long or with a NUL inside. */
enum sp_code sp_record_copy_str(const struct sp_record *rec, const char *key, char *out,
                                size_t size, struct sp_error *err);
enum sp_code sp_record_set_u64(struct sp_record *rec, const char *key, uint64_t v,
                               struct sp_error *err);
enum sp_code sp_record_set_bool(struct sp_record *rec, const char *key, bool v,
                                struct sp_error *err);
enum sp_code sp_record_set_f64(struct sp_record *rec, const char *key, double v,
                               struct sp_error *err);
enum sp_code sp_record_set_str(struct sp_record *rec, const char *key, const char *v, size_t n,
                               struct sp_error *err);
enum sp_code sp_record_set_bin(struct sp_record *rec, const char *key, const void *v, size_t n,
                               struct sp_error *err);
enum sp_code sp_record_set_raw(struct sp_record *rec, const char *key, const void *msgpack,
                               size_t n, struct sp_error *err);

/* Tensors of a record, by name; NULL where there is none. */
struct sp_tensor *sp_record_tensor(struct sp_record *rec, const char *name);
/* Moves *t into the record under the name, replacing (and freeing) one that is there. */
enum sp_code sp_record_put_tensor(struct sp_record *rec, const char *name, struct sp_tensor *t,
                                  struct sp_error *err);
void sp_record_drop_tensor(struct sp_record *rec, const char *name);
/* The tensor, checked: dtype, rank, and each dim[i] that is not 0 must match. SP_E_DATA otherwise.
 */
enum sp_code sp_record_need_tensor(struct sp_record *rec, const char *name, enum sp_dtype dtype,
                                   uint32_t rank, const uint64_t *dim, struct sp_tensor **out,
                                   struct sp_error *err);

/* What a HELLO says. */
struct sp_hello {
    uint32_t major, minor;
    enum sp_content content;
    char program[SP_NAME_MAX];
    char model_dir[1024]; /* "" when unknown */
    struct sp_hash model, tokenizer;
    uint32_t next_layer, n_layer; /* hidden: the first layer still to run */
};
#define SP_STREAM_MAJOR 1
#define SP_STREAM_MINOR 0

/* Parses and checks version and required features. */
enum sp_code sp_hello_read(struct sp_hello *h, const struct sp_record *rec, struct sp_error *err);
/* Writes the fields into the record's map, keeping unknown keys. */
enum sp_code sp_hello_store(const struct sp_hello *h, struct sp_record *rec, struct sp_error *err);

struct sp_reader;
struct sp_writer;

/* name is for messages. The descriptor stays the caller's. */
enum sp_code sp_reader_new(struct sp_reader **r, int fd, const char *name, struct sp_error *err);
void sp_reader_free(struct sp_reader *r);
/* The next record, owned by the caller; *rec NULL at a legal end of the file. Checks everything
 * that man 5 statepipe-stream promises of a single record and of the order HELLO record* END, and
 * the checksums of states. */
enum sp_code sp_reader_read(struct sp_reader *r, struct sp_record **rec, struct sp_error *err);
/* True when reading on would not block now: bytes are buffered, or the descriptor is readable or at
 * its end. False: write out what you hold first. */
bool sp_reader_ready(struct sp_reader *r);
uint64_t sp_reader_offset(const struct sp_reader *r); /* bytes consumed so far */

enum sp_code sp_writer_new(struct sp_writer **w, int fd, const char *name, struct sp_error *err);
void sp_writer_free(struct sp_writer *w); /* does not flush */
enum sp_code sp_writer_write(struct sp_writer *w, const struct sp_record *rec,
                             struct sp_error *err);
enum sp_code sp_writer_flush(struct sp_writer *w, struct sp_error *err);

/* For a program that cannot go on: a fatal ERR, after a HELLO unless a segment is open, and a
 * flush, so that everyone downstream ends with the same exit status. Filters that run have it done
 * by sp_filter_run. */
enum sp_code sp_writer_fail(struct sp_writer *w, const char *program, enum sp_content content,
                            bool in_segment, const struct sp_error *why, struct sp_error *err);

/* Fields and tensors that records carry beyond what is said at the functions (man 5
 * statepipe-stream has all of it). The reader checks types, and that rows of a CHUNK's tensors
 * agree.
 *   DOC    id str, doc u64 (index in the segment, growing), name str, bytes u64, cont bool, spans,
 *          slots
 *   TEXT   doc, off u64 (of the first byte in the document); tensor text u8 (n <= 65536)
 *   CHUNK  doc, pos u64 (of its first token), pass u64, last bool; tensors ids, span, hidden (f32
 * or bf16), scores, labels DOCEND doc, status str ("ok"; "open": a later DOC with the same id and
 * cont goes on), n_tok u64 ERR    stage, code, message str, exit u64, doc u64 (without it: fatal)
 *   END    docs, errors, open u64
 * Every DOC ends with its DOCEND or with an ERR that names it, also a document that is left open.
 */

/* The frame that every filter of the pipe shares (filter.c): checks the order of segments and
 * documents, hands records to the callbacks, forwards what a filter has no callback for, counts
 * documents and errors, writes what is held before it would block, writes END, and turns a failed
 * document into an ERR. */
struct sp_filter {
    const char *program;
    enum sp_content in, out;
    bool takes_states; /* content: state segments go to on_hello and on_record instead of being
                          passed on; their HELLO and END are written all the same, unchanged */
    void *ctx;
    /* Check and edit the HELLO before it is written. NULL: only content and program are set. */
    enum sp_code (*on_hello)(void *ctx, struct sp_hello *hello, struct sp_record *rec,
                             struct sp_error *err);
    /* Takes over *rec: writes it (now or later), changed or not, or frees it. Called for DOC, TEXT,
     * CHUNK, DOCEND, HEAD and (with takes_states) STATE. SP_E_DATA inside a document fails the
     * document, not the run: the driver calls on_idle, writes the ERR, calls on_drop and swallows
     * the rest of the document. Other codes, and SP_E_DATA elsewhere, are fatal. NULL: forward. */
    enum sp_code (*on_record)(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *err);
    /* Input would block, or the segment ends, or something must not be overtaken: compute and write
     * everything still held. Every error is fatal; a filter that packs documents fails one of them
     * with sp_filter_fail_doc. May be NULL. */
    enum sp_code (*on_idle)(void *ctx, struct sp_writer *w, struct sp_error *err);
    /* The document that is being read has failed, here or upstream: forget what is held of it. No
     * DOCEND will come. May be NULL. */
    void (*on_drop)(void *ctx, uint64_t doc);
    /* Every record as it was read, before anything else is done with it. Every error is fatal. May
     * be NULL. */
    enum sp_code (*on_read)(void *ctx, const struct sp_record *rec, struct sp_error *err);
    /* A document failed here: tell the person. The message names the document. May be NULL. */
    void (*on_error)(void *ctx, const struct sp_error *why);
    /* Set to write nothing at all (mamba-layer --dump-state at a terminal, extract's text). The
     * writer is NULL then. */
    bool silent;
    /* Set by the driver while on_idle is called because input would block: what is done then may
     * not show in what is written. */
    bool waiting;
    /* Set by the callbacks to drop what would be written, and on_error, for a while: what is read
     * now was written and told by a run before this one. */
    bool mute;
    /* For a filter whose output is a stream of its own: is this DOC's document in it? Documents
     * that are not, segments that have only such, state segments and records of unknown kinds are
     * read and not written. NULL: everything is passed on. */
    bool (*wants_doc)(void *ctx, const struct sp_record *rec);
    /* Set by the filter when there is nothing more to write: at the end of the segment the output
     * is flushed and on_done called, so that a program may close it; what still comes is only read.
     */
    bool done;
    void (*on_done)(void *ctx);
    struct sp_filter_run *run; /* the driver's own, */
    uint64_t n_error_before;   /* and documents that failed in the runs before this one */
};
struct sp_filter_result {
    uint64_t n_doc, n_error; /* documents seen; documents failed here or upstream */
    int upstream_exit;       /* exit status that a fatal ERR asks for, else 0 */
};
/* On a fatal error an ERR has been written, as far as that was possible. */
enum sp_code sp_filter_run(struct sp_filter *f, struct sp_reader *r, struct sp_writer *w,
                           struct sp_filter_result *result, struct sp_error *err);
/* For filters that hold records of several documents: writes the ERR of a document in the place of
 * its DOCEND, from on_record or on_idle. If it is the one being read, the driver swallows the rest;
 * the rest of an earlier one is the caller's to free. on_drop is not called. The message names the
 * document by its id. */
enum sp_code sp_filter_fail_doc(struct sp_filter *f, uint64_t doc, const char *id, size_t n_id,
                                const struct sp_error *why, struct sp_error *err);
/* From on_hello: where to write whole segments in front of the one that begins; NULL: nowhere. */
struct sp_writer *sp_filter_writer(const struct sp_filter *f);
/* From a callback: how many documents have failed in this segment and in all runs of the filter;
 * and as if so many had. */
void sp_filter_get_errors(const struct sp_filter *f, uint64_t *segment, uint64_t *all);
void sp_filter_set_errors(struct sp_filter *f, uint64_t segment, uint64_t all);
/* The exit status of a run that returned SP_OK: what a fatal ERR asked for, 1 when documents
 * failed, else 0. */
int sp_filter_exit_status(const struct sp_filter_result *result);

/* ---- tokenizers (token_*.c) ---------------------------------------------------------------------
 */

/* Serves one caller at a time: encoding keeps its working memory in it. Threads open one each. */
struct sp_tokenizer;

/* From a model directory, a tokenizer.json, a bare vocab.txt (WordPiece, BERT uncased), or "bytes".
 */
enum sp_code sp_tokenizer_open(struct sp_tokenizer **tok, const char *path, struct sp_error *err);
void sp_tokenizer_free(struct sp_tokenizer *tok);
const struct sp_hash *sp_tokenizer_fingerprint(const struct sp_tokenizer *tok);
uint32_t sp_tokenizer_vocab_size(const struct sp_tokenizer *tok);
bool sp_tokenizer_byte_level(const struct sp_tokenizer *tok); /* decoding is byte-exact */

struct sp_tokens {
    uint32_t *id;   /* (n) */
    uint64_t *span; /* (n, 2): bytes [start, end) of the input */
    size_t n, cap;
};
void sp_tokens_clear(struct sp_tokens *t);
/* Encodes a whole text, valid UTF-8 (bytes: anything), and appends; offset is added to the spans.
 */
enum sp_code sp_tokenizer_encode(const struct sp_tokenizer *tok, const char *text, size_t n,
                                 uint64_t offset, struct sp_tokens *out, struct sp_error *err);
/* The longest prefix of text after which the rest can be encoded apart with the same result, 0 if
 * none can be told yet. Streams encode up to here and keep the rest until more has come. */
size_t sp_tokenizer_safe_prefix(const struct sp_tokenizer *tok, const char *text, size_t n);
/* The bytes of one token (byte-level: exact; WordPiece: with "##" taken off and a space before a
 * word, as *space tells). NULL for an id outside the vocabulary. */
const char *sp_tokenizer_token(const struct sp_tokenizer *tok, uint32_t id, size_t *n, bool *space);
/* -1 where there is no such token (special tokens by name). */
int64_t sp_tokenizer_id(const struct sp_tokenizer *tok, const char *token, size_t n);
/* What stands behind a document while late tags are read: the tokenizer's own token for it, else
 * the model's eos_id (-1: none), else 0. */
uint32_t sp_tokenizer_pad(const struct sp_tokenizer *tok, int64_t eos_id);

/* ---- models (model_*.c)
 * --------------------------------------------------------------------------- */

enum sp_arch { SP_ARCH_MAMBA = 0, SP_ARCH_FALCON_MAMBA };
enum sp_head_type { SP_HEAD_LM = 0, SP_HEAD_TAG, SP_HEAD_CLASS };

#define SP_HEADS_MAX 8
#define SP_LABELS_MAX 256
#define SP_TEMPLATE_MAX 256 /* bytes of a fill_template, with its final NUL */

#define SP_RECORD_KINDS 8
struct sp_head {
    char name[SP_NAME_MAX];
    enum sp_head_type type;
    uint32_t n_label;
    char label[SP_LABELS_MAX][SP_NAME_MAX];
    /* How often a record that has these fields and no others is wrong, though each of them is
     * right: bit 0 of the index is institution, then degree, year. */
    float doubt[SP_RECORD_KINDS];
    /* Slope and intercept of log odds: a record of probability p is right with 1 / (1 + exp(-(slope
     * log(p / (1 - p)) + intercept))) (Platt scaling). Slope 0: p as it is. */
    float calibration[2];
};

/* config.json, checked. Names are the field's; Hugging Face's keys in brackets. */
struct sp_config {
    enum sp_arch arch;     /* [model_type] */
    int64_t d_model;       /* [hidden_size] */
    int64_t n_layer;       /* [num_hidden_layers] */
    int64_t d_state;       /* [state_size] */
    int64_t d_conv;        /* [conv_kernel] */
    int64_t d_inner;       /* [intermediate_size] */
    int64_t dt_rank;       /* [time_step_rank]; "auto" is ceil(d_model / 16) */
    int64_t vocab_size;    /* [vocab_size], as padded */
    double norm_eps;       /* [layer_norm_epsilon] */
    double mixer_norm_eps; /* [mixer_rms_eps], falcon_mamba */
    bool use_bias;         /* in_proj and out_proj have biases */
    bool use_conv_bias;
    bool tied;              /* lm_head is the embedding */
    int64_t bos_id, eos_id; /* -1 when absent */
    /* "statepipe": what the base format has no room for. Without it: one head, "lm". */
    uint32_t n_head;
    struct sp_head head[SP_HEADS_MAX];
    char default_head[SP_NAME_MAX]; /* "lm" when absent */
    uint32_t passes;                /* >= 1 */
    uint32_t delay;                 /* tag of token t is read at t + delay */
    uint32_t reverse;               /* tokens of a reversed layer's window; 0: there are none */
    uint64_t reverse_layers;        /* which they are: bit i for layer i */
    char tokenizer[SP_NAME_MAX];    /* "bytes", or "": tokenizer.json beside it */
    /* How a document and a question about it are put together, "" for one behind the other
     * (man 5 statepipe-model): {doc}, then {query}, then perhaps {answer} for a language model; for
     * a head that finds answers {query}, then {doc} or {marked_doc}. */
    char fill_template[SP_TEMPLATE_MAX];
};

struct sp_model;

/* dir NULL: $STATEPIPE_MODEL, else the shipped model. */
enum sp_code sp_model_open(struct sp_model **m, const char *dir, struct sp_error *err);
void sp_model_free(struct sp_model *m);
const struct sp_config *sp_model_config(const struct sp_model *m);
const char *sp_model_dir(const struct sp_model *m);
const struct sp_hash *sp_model_fingerprint(const struct sp_model *m);
/* A tensor by its safetensors name, mapped read-only; NULL where there is none. */
const struct sp_tensor *sp_model_tensor(const struct sp_model *m, const char *name);

/* ---- states (state_*.c; man 5 statepipe-state)
 * ------------------------------------------------------- */

enum sp_origin { SP_ORIGIN_READ = 0, SP_ORIGIN_MIXED, SP_ORIGIN_TUNED, SP_ORIGIN_CONVERTED };

/* What layers [layer_first, layer_last] remember of n_tok tokens; fp32 in memory. */
struct sp_state {
    struct sp_hash model, tokenizer, prefix; /* prefix: chained hash of all token ids read */
    enum sp_origin origin;
    enum sp_dtype dtype; /* of conv and ssm in a file: f32, bf16 or f16 */
    uint64_t n_tok;
    uint32_t layer_first, layer_last, n_layer; /* n_layer: of the whole model */
    int64_t d_model, d_inner, d_state, d_conv;
    float *conv;   /* (layers, d_conv - 1, d_inner), oldest input first */
    float *ssm;    /* (layers, d_inner, d_state) */
    bool has_last; /* the next two are there: known to whoever ran the last layer */
    uint32_t last_id;
    float *last_hidden; /* (d_model) before the final norm */
};

enum sp_code sp_state_new(struct sp_state **s, const struct sp_model *m, uint32_t layer_first,
                          uint32_t layer_last, struct sp_error *err); /* zero: nothing read */
void sp_state_free(struct sp_state *s);
/* A file of content: state segments. Refuses a bad checksum or shape. A state of origin read whose
 * file holds half types is of origin converted from here on. */
enum sp_code sp_state_read(struct sp_state **s, const char *path, struct sp_error *err);
/* Temporary name, fsync, rename. Values that s->dtype cannot hold are rounded to it. */
enum sp_code sp_state_write(const struct sp_state *s, const char *path, struct sp_error *err);
/* Is it this model's, and does it have these layers? SP_E_DATA with the reason otherwise. */
enum sp_code sp_state_check(const struct sp_state *s, const struct sp_model *m,
                            uint32_t layer_first, uint32_t layer_last, struct sp_error *err);
/* prefix' = XXH3-128(prefix || ids as u32 LE), one token at a time, so that chunking is invisible.
 */
void sp_state_hash_ids(struct sp_hash *prefix, const uint32_t *id, size_t n);

#ifdef __cplusplus
}
#endif
#endif
