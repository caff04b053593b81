/* What the stream's reader, writer and records share. Internal to lib/ and to the programs that
 * show a stream (inspect, state). Owns nothing.
 *
 * A record's head is the msgpack array [kind, map, [names]]; "head" below means its bytes. Nothing
 * is ever unpacked that the skip-scanner has not walked through to its end, so counts are known to
 * be backed by bytes and depth is known to be small.
 */
#ifndef SP_WIRE_H
#define SP_WIRE_H

#include "statepipe.h"

#define SP_WIRE_DEPTH_MAX 8
#define SP_WIRE_HEAD_MAX ((size_t)64 << 10) /* bytes of a record's head */
#define SP_WIRE_FIELDS_MAX 64               /* keys of a record's map */
#define SP_WIRE_TEXT_MAX ((size_t)64 << 10) /* bytes of one TEXT record's text */

/* array of 3, str of 9, "statepipe": no other record of a stream may start it. */
#define SP_WIRE_MAGIC "\x93\xa9statepipe"
#define SP_WIRE_MAGIC_BYTES ((size_t)11)

#define SP_WIRE_EXT_TYPE 84
#define SP_WIRE_TENSOR_VERSION 1
#define SP_WIRE_EXT_HEAD ((size_t)6)                                   /* c9, length, type */
#define SP_WIRE_TENSOR_HEAD_MAX ((size_t)(8 + 8 * SP_TENSOR_RANK_MAX)) /* header, dimensions */

enum sp_wire_type {
    SP_WIRE_NIL,
    SP_WIRE_BOOL,
    SP_WIRE_INT,
    SP_WIRE_FLOAT,
    SP_WIRE_STR,
    SP_WIRE_BIN,
    SP_WIRE_ARRAY,
    SP_WIRE_MAP,
    SP_WIRE_EXT
};

/* One msgpack value's first bytes. */
struct sp_wire_item {
    enum sp_wire_type type;
    size_t head;    /* bytes of type, length and (ext) type code */
    size_t body;    /* bytes that follow: a number's, a string's */
    uint64_t count; /* elements of an array, pairs of a map */
};

enum sp_wire_scan { SP_WIRE_COMPLETE, SP_WIRE_MORE, SP_WIRE_BAD };

/* MORE: n is too small to tell. BAD: the byte 0xc1, which msgpack never uses. */
enum sp_wire_scan sp_wire_item(const uint8_t *p, size_t n, struct sp_wire_item *item);
/* Walks one whole value. *used: its length. BAD also for depth, or a value longer than max; *why
 * (static) says which. */
enum sp_wire_scan sp_wire_skip(const uint8_t *p, size_t n, size_t max, size_t *used,
                               const char **why);

/* Exactly one value, fit for a record's map. */
bool sp_wire_is_field_value(const uint8_t *p, size_t n);

/* The pairs of a map that the scanner has accepted. */
struct sp_wire_fields {
    const uint8_t *next, *end;
    uint64_t left;
};
struct sp_wire_field {
    const char *key; /* not NUL-terminated */
    size_t key_bytes;
    const uint8_t *value; /* msgpack */
    size_t value_bytes;
};
/* False when map is not a map. */
bool sp_wire_fields_start(struct sp_wire_fields *it, const uint8_t *map, size_t n);
bool sp_wire_fields_next(struct sp_wire_fields *it, struct sp_wire_field *field);
/* Keys are strings shorter than SP_NAME_MAX, each there once, at most SP_WIRE_FIELDS_MAX. */
enum sp_code sp_wire_check_map(const uint8_t *map, size_t n, struct sp_error *err);

/* rec with its map, kind and names (but no tensors) from a head. */
enum sp_code sp_wire_parse_head(struct sp_record **rec, const uint8_t *head, size_t n,
                                struct sp_error *err);
/* What man 5 statepipe-stream promises of the tensors and required fields of a kind. */
enum sp_code sp_wire_check_record(struct sp_record *rec, struct sp_error *err);

/* A tensor's bytes in the stream without the ext head: header, dimensions, padded payload. */
size_t sp_wire_padded(size_t n_bytes);
/* Parses header and dimensions (n bytes are there, body of them in the ext); SP_E_DATA unless all
 * of it fits together. *head: their length. Allocates nothing. */
enum sp_code sp_wire_tensor_head(struct sp_tensor *t, const uint8_t *p, size_t n, uint32_t body,
                                 size_t *head, struct sp_error *err);
/* Writes ext head, header and dimensions to out (SP_WIRE_EXT_HEAD + SP_WIRE_TENSOR_HEAD_MAX bytes);
 * returns their length. */
size_t sp_wire_tensor_store(const struct sp_tensor *t, uint8_t *out);

/* Seals a record of a state segment: sets its key "sum" to the XXH3-128 of the kind and a NUL, the
 * map with those 16 bytes zero, and for each tensor its name and a NUL, header, dimensions and
 * payload. Checking: SP_E_DATA when it is missing or another. */
enum sp_code sp_wire_seal(struct sp_record *rec, struct sp_error *err);
enum sp_code sp_wire_check_seal(const struct sp_record *rec, struct sp_error *err);

/* All of a record as it goes into a checksum: kind, map, tensors. */
struct sp_hasher;
void sp_wire_hash(const struct sp_record *rec, struct sp_hasher *h);

/* From now on what goes to the descriptor goes into *h too, which outlives the writer. */
void sp_writer_hash(struct sp_writer *w, struct sp_hasher *h);

/* After a read or write that failed: true when it is to be tried again. A descriptor may be
 * non-blocking because another program that has it made it so (ssh does): then waits for it. */
bool sp_wire_again(int fd, short events);

/* What a reader's input should be, for the advice when it is something else (a stream, unless said
 * otherwise). */
enum sp_reader_use { SP_READ_STREAM, SP_READ_STATE, SP_READ_CHECKPOINT };
void sp_reader_expect(struct sp_reader *r, enum sp_reader_use use);

#endif
