/* Batches from held chunks. */
#include "net_pack.h"

#include <stdlib.h>
#include <string.h>

enum sp_pack_kind sp_pack_kind_of(int64_t n_row) {
    return n_row == 1 ? SP_PACK_ONE : n_row < SP_STEP_ROWS ? SP_PACK_STEP : SP_PACK_TILED;
}

enum sp_code sp_pack_new(struct sp_pack *p, struct sp_net *net, int64_t d_model, int64_t rows_max,
                         size_t held_max, struct sp_error *err) {
    *p = (struct sp_pack){.net = net, .d_model = d_model, .rows_max = rows_max, .cap = held_max};
    p->held = calloc(held_max, sizeof *p->held);
    p->hidden = malloc((size_t)(rows_max * d_model) * sizeof(float));
    p->cu_seqlens = calloc(held_max + 1, sizeof *p->cu_seqlens);
    p->seq = calloc(held_max, sizeof(struct sp_seq *));
    p->part = calloc(held_max, sizeof *p->part);
    if (p->held && p->hidden && p->cu_seqlens && p->seq && p->part) return SP_OK;
    sp_pack_clear(p);
    return sp_error_set(err, SP_E_DEVICE, "out of memory for a batch of %lld rows",
                        (long long)rows_max);
}

void sp_pack_clear(struct sp_pack *p) {
    for (size_t i = 0; i < p->n; i++) sp_record_free(p->held[i].rec);
    free(p->held);
    free(p->hidden);
    free(p->cu_seqlens);
    free(p->seq);
    free(p->part);
    *p = (struct sp_pack){0};
}

void sp_pack_add(struct sp_pack *p, const struct sp_held *h) {
    p->held[p->n++] = *h;
    p->n_row += h->n - h->done;
}

/* Rows up to the next stop, or all that are left. */
static int64_t rows_of(const struct sp_held *h, bool *stops) {
    int64_t end = h->n;
    *stops = false;
    for (int64_t i = h->n_stop - 1; i >= 0 && h->stop[i] > h->done; i--) {
        end = h->stop[i];
        *stops = true;
    }
    return end - h->done;
}

/* Chooses the parts of one batch of a kind, in input order. A document takes part with its first
 * chunk that is not computed and those that follow it, as long as they are of the kind: its rows
 * stand in order whoever else is there. Returns the number of parts. */
static size_t choose(struct sp_pack *p, enum sp_pack_kind kind, int64_t *n_seq) {
    size_t n_part = 0;
    int64_t n_row = 0;
    p->round++;
    *n_seq = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct sp_held *h = &p->held[i];
        struct sp_pack_doc *doc = h->doc;
        if (h->done == h->n) continue;
        bool seen = doc->round == p->round;
        if (seen && doc->slot < 0) continue;
        doc->round = p->round;
        bool stops;
        int64_t left = rows_of(h, &stops), room = p->rows_max - n_row;
        /* A chunk larger than a whole batch is the only one that is cut. */
        int64_t take = left <= room ? left : n_row == 0 ? room : 0;
        if (sp_pack_kind_of(h->n - h->known) != kind || take == 0) {
            doc->slot = -1;
            continue;
        }
        if (!seen) doc->slot = (*n_seq)++;
        p->part[n_part++] =
            (struct part){.held = i, .slot = doc->slot, .first = h->done, .n = take};
        n_row += take;
        /* One token is one step: it is never joined with its neighbours. */
        if (kind == SP_PACK_ONE || take < left || stops) doc->slot = -1;
    }
    return n_part;
}

/* Rows of a sequence lie together: sequences are numbered by their first part, parts of one slot
 * follow in order. */
static void lay_out(struct sp_pack *p, size_t n_part, int64_t n_seq) {
    memset(p->cu_seqlens, 0, (size_t)(n_seq + 1) * sizeof *p->cu_seqlens);
    for (size_t i = 0; i < n_part; i++) p->cu_seqlens[p->part[i].slot + 1] += p->part[i].n;
    for (int64_t s = 0; s < n_seq; s++) p->cu_seqlens[s + 1] += p->cu_seqlens[s];
    /* cu_seqlens[s] serves as the next free row of s, and is put back below. */
    for (size_t i = 0; i < n_part; i++) {
        struct part *part = &p->part[i];
        const struct sp_held *h = &p->held[part->held];
        part->row = p->cu_seqlens[part->slot];
        p->cu_seqlens[part->slot] += part->n;
        p->seq[part->slot] = h->doc->seq;
        memcpy(p->hidden + part->row * p->d_model, h->hidden + part->first * p->d_model,
               (size_t)(part->n * p->d_model) * sizeof(float));
    }
    for (int64_t s = n_seq; s > 0; s--) p->cu_seqlens[s] = p->cu_seqlens[s - 1];
    p->cu_seqlens[0] = 0;
}

static enum sp_code run_batch(struct sp_pack *p, size_t n_part, int64_t n_seq,
                              enum sp_pack_kind kind, struct sp_error *err) {
    lay_out(p, n_part, n_seq);
    struct sp_batch batch = {.n_seq = n_seq,
                             .cu_seqlens = p->cu_seqlens,
                             .states = p->seq,
                             .step = kind != SP_PACK_TILED,
                             .one = kind == SP_PACK_ONE};
    enum sp_code code = sp_net_forward(p->net, &batch, p->hidden, err);
    for (size_t i = 0; !code && i < n_part; i++) {
        const struct part *part = &p->part[i];
        struct sp_held *h = &p->held[part->held];
        memcpy(h->hidden + part->first * p->d_model, p->hidden + part->row * p->d_model,
               (size_t)(part->n * p->d_model) * sizeof(float));
        h->done += part->n;
        p->n_row -= part->n;
        if (p->on_rows) code = p->on_rows(p->ctx, h, part->first, part->n, err);
    }
    return code;
}

enum sp_code sp_pack_compute(struct sp_pack *p, struct sp_error *err) {
    while (p->n_row > 0) {
        for (enum sp_pack_kind kind = 0; kind < SP_PACK_KINDS; kind++) {
            int64_t n_seq;
            size_t n_part = choose(p, kind, &n_seq);
            if (n_part == 0) continue;
            enum sp_code code = run_batch(p, n_part, n_seq, kind, err);
            if (code) return code;
        }
    }
    return SP_OK;
}
