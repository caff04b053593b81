/* Vocabularies: strings by id and ids by string, in one arena and one hash table, so that tens of
 * thousands of tokens cost a handful of allocations. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOTS_MIN ((size_t)1024)

void *sp_buffer_need(struct sp_buffer *b, size_t n, size_t size) {
    size_t want;
    if (__builtin_mul_overflow(n, size, &want)) return NULL;
    if (want > b->cap || !b->data) {
        size_t cap = want < 256 ? 256 : want + want / 2;
        void *grown = realloc(b->data, cap);
        if (!grown) return NULL;
        b->data = grown;
        b->cap = cap;
    }
    return b->data;
}

static bool grow_ids(struct sp_vocab *v, uint32_t n_id) {
    if (n_id > v->id_cap) {
        uint32_t cap = v->id_cap * 2 > n_id ? v->id_cap * 2 : n_id;
        struct sp_vocab_entry *grown = realloc(v->entry, cap * sizeof *grown);
        if (!grown) return false;
        v->entry = grown;
        v->id_cap = cap;
    }
    for (; v->n_id < n_id; v->n_id++) v->entry[v->n_id] = (struct sp_vocab_entry){0, SP_VOCAB_NONE};
    return true;
}

static bool grow_slots(struct sp_vocab *v, size_t n) {
    size_t n_slot = v->n_slot ? v->n_slot : SLOTS_MIN;
    while (n_slot < 2 * n) n_slot *= 2;
    if (n_slot == v->n_slot) return true;
    uint64_t *slot = calloc(n_slot, sizeof *slot);
    if (!slot) return false;
    for (size_t i = 0; i < v->n_slot; i++) {
        if (!v->slot[i]) continue;
        struct sp_vocab_entry e = v->entry[(uint32_t)v->slot[i] - 1];
        size_t at = (size_t)XXH3_64bits(v->arena + e.offset, e.n) & (n_slot - 1);
        while (slot[at]) at = (at + 1) & (n_slot - 1);
        slot[at] = v->slot[i];
    }
    free(v->slot);
    v->slot = slot;
    v->n_slot = n_slot;
    return true;
}

char *sp_vocab_room(struct sp_vocab *v, size_t n) {
    size_t want;
    if (__builtin_add_overflow(v->n_arena, n, &want) || want >= UINT32_MAX) return NULL;
    if (want > v->arena_cap || !v->arena) {
        size_t cap = want + want / 2 + 64;
        char *grown = realloc(v->arena, cap);
        if (!grown) return NULL;
        v->arena = grown;
        v->arena_cap = cap;
    }
    return v->arena + v->n_arena;
}

enum sp_code sp_vocab_reserve(struct sp_vocab *v, uint32_t n_id, size_t n_bytes,
                              struct sp_error *err) {
    struct sp_vocab_entry *entry = realloc(v->entry, (n_id ? n_id : 1) * sizeof *entry);
    if (!entry) return sp_error_memory(err, "a vocabulary");
    v->entry = entry;
    v->id_cap = n_id;
    if (!sp_vocab_room(v, n_bytes) || !grow_slots(v, n_id))
        return sp_error_memory(err, "a vocabulary");
    return SP_OK;
}

void sp_vocab_clear(struct sp_vocab *v) {
    free(v->arena);
    free(v->entry);
    free(v->slot);
    *v = (struct sp_vocab){0};
}

/* The slot of s, or the free one where it would go. */
static size_t slot_of(const struct sp_vocab *v, uint64_t hash, const char *s, size_t n) {
    size_t mask = v->n_slot - 1, at = (size_t)hash & mask;
    for (;; at = (at + 1) & mask) {
        uint64_t slot = v->slot[at];
        if (!slot) return at;
        if (slot >> 32 != hash >> 32) continue;
        struct sp_vocab_entry e = v->entry[(uint32_t)slot - 1];
        if (e.n == n && memcmp(v->arena + e.offset, s, n) == 0) return at;
    }
}

int64_t sp_vocab_find(const struct sp_vocab *v, const char *s, size_t n) {
    if (!v->n_slot) return -1;
    uint64_t slot = v->slot[slot_of(v, XXH3_64bits(s, n), s, n)];
    return slot ? (int64_t)(uint32_t)slot - 1 : -1;
}

enum sp_code sp_vocab_add(struct sp_vocab *v, uint32_t id, const char *s, size_t n,
                          struct sp_error *err) {
    int shown = (int)(n < 40 ? n : 40);
    if (id >= SP_TOKEN_ID_MAX)
        return sp_error_set(err, SP_E_DATA, "token '%.*s' has id %u, the limit is %u", shown, s, id,
                            SP_TOKEN_ID_MAX - 1);
    if (id < v->n_id && v->entry[id].n != SP_VOCAB_NONE)
        return sp_error_set(err, SP_E_DATA, "two tokens have id %u", id);
    char *room = sp_vocab_room(v, n);
    if (!room || !grow_ids(v, id + 1) || !grow_slots(v, v->n_used + 1))
        return sp_error_memory(err, "a vocabulary");
    uint64_t hash = XXH3_64bits(s, n);
    size_t at = slot_of(v, hash, s, n);
    if (v->slot[at]) return sp_error_set(err, SP_E_DATA, "token '%.*s' is there twice", shown, s);
    if (room != s) memmove(room, s, n);
    v->entry[id] = (struct sp_vocab_entry){(uint32_t)v->n_arena, (uint32_t)n};
    v->n_arena += n;
    v->slot[at] = (hash >> 32) << 32 | (id + 1);
    v->n_used++;
    return SP_OK;
}
