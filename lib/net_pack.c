/* Batches from held chunks. */
#include "net_pack.h"

#include <stdlib.h>
#include <string.h>

#define START_PARTS 4 /* of the rows that may be held: a batch that is worth starting early */

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
    p->away = calloc(held_max, sizeof *p->away);
    if (p->held && p->hidden && p->cu_seqlens && p->seq && p->part && p->away) return SP_OK;
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
    free(p->away);
    *p = (struct sp_pack){0};
}

void sp_pack_add(struct sp_pack *p, const struct sp_held *h) {
    if (p->n == 0) p->rows_held = 0;
    p->held[p->n] = *h;
    p->held[p->n++].landed = h->done;
    p->n_row += h->n - h->done;
    p->rows_held += h->n - h->done;
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
        /* One token is one step: it is never joined with its neighbours. Nor are chunks where it
         * would show that the next one had been read by then. */
        if (kind == SP_PACK_ONE || take < left || stops || take % sp_net_cut(p->net) != 0)
            doc->slot = -1;
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

/* Puts a batch's output where it belongs. */
static enum sp_code land(struct sp_pack *p, const struct part *parts, size_t n_part,
                         struct sp_error *err) {
    enum sp_code code = SP_OK;
    for (size_t i = 0; !code && i < n_part; i++) {
        const struct part *part = &parts[i];
        struct sp_held *h = &p->held[part->held];
        memcpy(h->hidden + part->first * p->d_model, p->hidden + part->row * p->d_model,
               (size_t)(part->n * p->d_model) * sizeof(float));
        h->landed += part->n;
        if (p->on_rows) code = p->on_rows(p->ctx, h, part->first, part->n, err);
    }
    return code;
}

enum sp_code sp_pack_end(struct sp_pack *p, struct sp_error *err) {
    const size_t n = p->n_away;
    if (n == 0) return SP_OK;
    p->n_away = 0;
    SP_TRY(sp_net_end(p->net, p->hidden, err));
    return land(p, p->away, n, err);
}

/* Counts the batch as done. True when the state behind one of its rows is looked at: before the
 * next batch moves it on. */
static bool account(struct sp_pack *p, size_t n_part) {
    bool stops = false;
    for (size_t i = 0; i < n_part; i++) {
        struct sp_held *h = &p->held[p->part[i].held];
        h->done += p->part[i].n;
        p->n_row -= p->part[i].n;
        stops |= h->n_stop > 0;
    }
    return stops;
}

/* Where the backend works beside the host, the batch before is taken in when this one is on its
 * way. */
static enum sp_code run_batch(struct sp_pack *p, size_t n_part, int64_t n_seq,
                              enum sp_pack_kind kind, struct sp_error *err) {
    lay_out(p, n_part, n_seq);
    struct sp_batch batch = {.n_seq = n_seq,
                             .cu_seqlens = p->cu_seqlens,
                             .states = p->seq,
                             .step = kind != SP_PACK_TILED,
                             .one = kind == SP_PACK_ONE};
    if (!sp_net_overlaps(p->net)) {
        SP_TRY(sp_net_forward(p->net, &batch, p->hidden, err));
        account(p, n_part);
        return land(p, p->part, n_part, err);
    }
    SP_TRY(sp_net_begin(p->net, &batch, p->hidden, err));
    bool stops = account(p, n_part);
    enum sp_code code = sp_pack_end(p, err);
    struct part *parts = p->part;
    p->part = p->away;
    p->away = parts;
    p->n_away = n_part;
    return code || !stops ? code : sp_pack_end(p, err);
}

static enum sp_code run_kind(struct sp_pack *p, enum sp_pack_kind kind, struct sp_error *err) {
    int64_t n_seq;
    size_t n_part = choose(p, kind, &n_seq);
    return n_part == 0 ? SP_OK : run_batch(p, n_part, n_seq, kind, err);
}

enum sp_code sp_pack_begin(struct sp_pack *p, struct sp_error *err) {
    while (p->n_row > 0)
        for (enum sp_pack_kind kind = 0; kind < SP_PACK_KINDS; kind++)
            SP_TRY(run_kind(p, kind, err));
    return SP_OK;
}

enum sp_code sp_pack_compute(struct sp_pack *p, struct sp_error *err) {
    SP_TRY(sp_pack_begin(p, err));
    return sp_pack_end(p, err);
}

enum sp_code sp_pack_start(struct sp_pack *p, struct sp_error *err) {
    if (p->n_row < p->rows_max / START_PARTS || !sp_net_overlaps(p->net)) return SP_OK;
    return run_kind(p, SP_PACK_TILED, err);
}
