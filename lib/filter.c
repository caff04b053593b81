/* The frame that every filter of the pipe shares. */
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum doc_place { NO_DOC, IN_DOC, SWALLOW_DOC };

struct sp_filter_run {
    struct sp_filter *f;
    struct sp_reader *r;
    struct sp_writer *w; /* NULL when silent */
    struct sp_filter_result *result;
    struct sp_hello hello; /* of the segment, as it was read */
    enum doc_place place;
    bool open;                   /* a HELLO has been written, and no END */
    bool passing;                /* a state segment that this filter does not take */
    struct sp_record *hello_due; /* with wants_doc: written in front of the first such document */
    uint64_t n_hidden;           /* documents of this segment that it does not want */
    bool any_doc;                /* in this segment */
    uint64_t doc;                /* its index, or that of the last one */
    uint64_t n_doc, n_error;     /* of this segment */
    char id[64];                 /* of the document, cut to fit */
};

/* Where to write; NULL for nowhere. */
static struct sp_writer *writer(const struct sp_filter_run *run) {
    return run->f->mute ? NULL : run->w;
}

struct sp_writer *sp_filter_writer(const struct sp_filter *f) {
    return writer(f->run);
}

static enum sp_code put(struct sp_filter_run *run, struct sp_record *rec, struct sp_error *err) {
    struct sp_writer *w = writer(run);
    enum sp_code code = w ? sp_writer_write(w, rec, err) : SP_OK;
    sp_record_free(rec);
    return code;
}

static enum sp_code put_hello_due(struct sp_filter_run *run, struct sp_error *err) {
    struct sp_record *rec = run->hello_due;
    run->hello_due = NULL;
    return rec ? put(run, rec, err) : SP_OK;
}

static void forget_hello(struct sp_filter_run *run) {
    sp_record_free(run->hello_due);
    run->hello_due = NULL;
}

static enum sp_code idle(struct sp_filter *f, struct sp_error *err) {
    return f->on_idle ? f->on_idle(f->ctx, writer(f->run), err) : SP_OK;
}

static const char *code_name(enum sp_code code) {
    switch (code) {
    case SP_OK: return "ok";
    case SP_E_USAGE: return "usage";
    case SP_E_DATA: return "data";
    case SP_E_NOINPUT: return "noinput";
    case SP_E_DEVICE: return "device";
    case SP_E_BUG: return "bug";
    case SP_E_IO: return "io";
    }
    return "bug";
}

/* doc NULL: fatal. */
static struct sp_record *err_record(const char *program, const uint64_t *doc,
                                    const struct sp_error *why, struct sp_error *err) {
    struct sp_record *rec = sp_record_new(SP_KIND_ERR);
    if (!rec) return sp_error_memory(err, "a record"), NULL;
    uint64_t status = doc ? 1 : (uint64_t)sp_error_exit_status(why->code);
    const char *name = code_name(why->code);
    enum sp_code code = sp_record_set_str(rec, "stage", program, strlen(program), err);
    if (!code) code = sp_record_set_str(rec, "code", name, strlen(name), err);
    if (!code) code = sp_record_set_str(rec, "message", why->msg, strlen(why->msg), err);
    if (!code) code = sp_record_set_u64(rec, "exit", status, err);
    if (!code && doc) code = sp_record_set_u64(rec, "doc", *doc, err);
    if (!code) return rec;
    sp_record_free(rec);
    return NULL;
}

enum sp_code sp_writer_fail(struct sp_writer *w, const char *program, enum sp_content content,
                            bool in_segment, const struct sp_error *why, struct sp_error *err) {
    enum sp_code code = SP_OK;
    if (!in_segment) {
        struct sp_hello hello = {
            .major = SP_STREAM_MAJOR, .minor = SP_STREAM_MINOR, .content = content};
        snprintf(hello.program, sizeof hello.program, "%s", program);
        struct sp_record *rec = sp_record_new(SP_KIND_HELLO);
        if (!rec) return sp_error_memory(err, "a record");
        code = sp_hello_store(&hello, rec, err);
        if (!code) code = sp_record_set_bool(rec, "failed", true, err);
        if (!code && content == SP_STATE) code = sp_wire_seal(rec, err);
        if (!code) code = sp_writer_write(w, rec, err);
        sp_record_free(rec);
    }
    if (code) return code;
    struct sp_record *rec = err_record(program, NULL, why, err);
    if (!rec) return err->code;
    code = sp_writer_write(w, rec, err);
    sp_record_free(rec);
    return code ? code : sp_writer_flush(w, err);
}

enum sp_code sp_filter_fail_doc(struct sp_filter *f, uint64_t doc, const char *id, size_t n_id,
                                const struct sp_error *why, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    struct sp_error named = *why;
    if (run->place == IN_DOC && doc == run->doc) run->place = SWALLOW_DOC;
    sp_error_prefix(&named, "document '%.*s'",
                    (int)(n_id < sizeof run->id ? n_id : sizeof run->id - 1), id);
    run->n_error++;
    run->result->n_error++;
    if (f->on_error && !f->mute) f->on_error(f->ctx, &named);
    struct sp_record *rec = err_record(f->program, &doc, &named, err);
    return rec ? put(run, rec, err) : err->code;
}

static enum sp_code damaged(const struct sp_filter_run *run, const char *what,
                            struct sp_error *err) {
    return sp_error_set(err, SP_E_DATA, "the stream is damaged before byte %llu: %s",
                        (unsigned long long)sp_reader_offset(run->r), what);
}

/* Hands a record of a document (or HEAD, STATE) to the filter. */
static enum sp_code hand_over(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    bool in_doc = run->place == IN_DOC;
    uint64_t doc = run->doc;
    if (!f->on_record) return put(run, rec, err);
    enum sp_code code = f->on_record(f->ctx, rec, writer(run), err);
    if (code != SP_E_DATA || !in_doc) return code;
    struct sp_error why = *err;
    code = idle(f, err);
    /* The filter may have failed it by itself meanwhile, with sp_filter_fail_doc. */
    if (!code && run->place == IN_DOC)
        code = sp_filter_fail_doc(f, doc, run->id, strlen(run->id), &why, err);
    if (f->on_drop) f->on_drop(f->ctx, doc);
    return code;
}

static enum sp_code take_doc(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    const char *id = "";
    size_t n = 0;
    uint64_t doc = 0;
    bool cont = false;
    sp_record_get_u64(rec, "doc", &doc);
    sp_record_get_str(rec, "id", &id, &n);
    sp_record_get_bool(rec, "cont", &cont);
    if (run->place != NO_DOC || (run->any_doc && doc <= run->doc)) {
        sp_record_free(rec);
        return damaged(run, "documents interleave or are out of order", err);
    }
    run->place = IN_DOC;
    run->any_doc = true;
    run->doc = doc;
    run->n_doc++;
    if (!cont) run->result->n_doc++;
    snprintf(run->id, sizeof run->id, "%.*s", (int)(n < sizeof run->id ? n : sizeof run->id - 1),
             id);
    if (f->wants_doc && !f->wants_doc(f->ctx, rec)) {
        run->place = SWALLOW_DOC;
        run->n_hidden++;
        sp_record_free(rec);
        return SP_OK;
    }
    enum sp_code code = put_hello_due(run, err);
    if (!code) return hand_over(f, rec, err);
    sp_record_free(rec);
    return code;
}

/* TEXT, CHUNK, DOCEND and a document's own STATE belong to the document that is open. */
static enum sp_code take_part(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    uint64_t doc = 0;
    sp_record_get_u64(rec, "doc", &doc);
    if (run->place == NO_DOC || doc != run->doc) {
        sp_record_free(rec);
        return damaged(run, "a record of a document that is not open", err);
    }
    bool end = rec->kind == SP_KIND_DOCEND, swallow = run->place == SWALLOW_DOC;
    enum sp_code code = SP_OK;
    if (swallow)
        sp_record_free(rec);
    else
        code = hand_over(f, rec, err);
    if (end) run->place = NO_DOC;
    return code;
}

static enum sp_code take_err(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    uint64_t doc, status = 0;
    bool fatal = !sp_record_get_u64(rec, "doc", &doc);
    bool swallow = !fatal && run->place == SWALLOW_DOC;
    if (!fatal && (run->place == NO_DOC || doc != run->doc)) {
        sp_record_free(rec);
        return damaged(run, "an ERR of a document that is not open", err);
    }
    sp_record_get_u64(rec, "exit", &status);
    enum sp_code code = SP_OK;
    if (!swallow) code = idle(f, err);
    if (!swallow && f->on_drop && run->place == IN_DOC) f->on_drop(f->ctx, run->doc);
    if (fatal) {
        run->result->upstream_exit =
            status >= 1 && status <= 255 ? (int)status : sp_error_exit_status(SP_E_BUG);
    } else {
        run->place = NO_DOC;
        run->n_error += !swallow;
        run->result->n_error += !swallow;
    }
    if (!swallow && !code) code = put_hello_due(run, err);
    if (!swallow && !code) return put(run, rec, err);
    sp_record_free(rec);
    return code;
}

static enum sp_code take_hello(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    run->place = NO_DOC;
    run->any_doc = false;
    run->n_doc = run->n_error = run->n_hidden = 0;
    enum sp_code code = sp_hello_read(&run->hello, rec, err);
    struct sp_hello hello = run->hello;
    bool state = !code && hello.content == SP_STATE, failed = false;
    /* Nothing but the ERR of a program that could not begin: there is no model to compare. */
    sp_record_get_bool(rec, "failed", &failed);
    run->passing = state && !f->takes_states;
    if (!code && !state && !failed && hello.content != f->in)
        code = sp_error_set(err, SP_E_DATA,
                            "%s reads a stream of %s, but %s wrote one of %s: is a program missing "
                            "between them, or are they in the wrong order?",
                            f->program, sp_content_name(f->in), hello.program,
                            sp_content_name(hello.content));
    if (!code && !run->passing && !failed && f->on_hello)
        code = f->on_hello(f->ctx, &hello, rec, err);
    /* The HELLO and END of a state segment are sealed by checksums: they stay as they are. */
    if (!code && !state) {
        hello.content = f->out;
        hello.major = SP_STREAM_MAJOR;
        hello.minor = SP_STREAM_MINOR;
        snprintf(hello.program, sizeof hello.program, "%s", f->program);
        code = sp_hello_store(&hello, rec, err);
    }
    run->open = !code;
    if (!code && !f->wants_doc) return put(run, rec, err);
    if (!code && !state) {
        run->hello_due = rec;
        return SP_OK;
    }
    sp_record_free(rec);
    return code;
}

static enum sp_code take_end(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    uint64_t docs = 0;
    sp_record_get_u64(rec, "docs", &docs);
    enum sp_code code = SP_OK;
    if (run->place != NO_DOC)
        code = damaged(run, "END inside a document", err);
    else if (docs != run->n_doc && !run->passing)
        code = damaged(run, "END counts other documents than there were", err);
    if (!code) code = idle(f, err);
    if (!code && run->hello.content != SP_STATE)
        code = sp_record_set_u64(rec, "errors", run->n_error, err);
    if (!code && run->n_hidden > 0)
        code = sp_record_set_u64(rec, "docs", docs - run->n_hidden, err);
    if (!code && f->done) code = sp_record_set_u64(rec, "open", 0, err);
    bool nothing = run->n_hidden > 0 && run->n_hidden == docs;
    bool written = !f->wants_doc || !(nothing || run->hello.content == SP_STATE);
    if (!code && written) code = put_hello_due(run, err);
    run->open = code != SP_OK;
    if (!code && written) return put(run, rec, err);
    forget_hello(run);
    sp_record_free(rec);
    return code;
}

static enum sp_code take(struct sp_filter *f, struct sp_record *rec, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    enum sp_code code = SP_OK;
    if (run->passing && rec->kind != SP_KIND_END && rec->kind != SP_KIND_HELLO &&
        rec->kind != SP_KIND_ERR)
        return put(run, rec, err);
    switch (rec->kind) {
    case SP_KIND_HELLO: return take_hello(f, rec, err);
    case SP_KIND_DOC: return take_doc(f, rec, err);
    case SP_KIND_TEXT:
    case SP_KIND_CHUNK:
    case SP_KIND_DOCEND: return take_part(f, rec, err);
    case SP_KIND_ERR: return take_err(f, rec, err);
    case SP_KIND_END: return take_end(f, rec, err);
    case SP_KIND_HEAD: return hand_over(f, rec, err);
    case SP_KIND_STATE:
        if (run->hello.content != SP_STATE) return take_part(f, rec, err);
        if (f->takes_states) return hand_over(f, rec, err);
        break;
    case SP_KIND_OTHER:
    case SP_KIND_COUNT: break;
    }
    /* Passed on, but not past what the filter still holds. */
    if (!f->wants_doc) code = idle(f, err);
    if (!code && !f->wants_doc) return put(run, rec, err);
    sp_record_free(rec);
    return code;
}

/* Nothing more will be written. */
static enum sp_code end_output(struct sp_filter *f, struct sp_error *err) {
    enum sp_code code = f->run->w ? sp_writer_flush(f->run->w, err) : SP_OK;
    f->run->w = NULL;
    f->on_hello = NULL;
    f->on_record = NULL;
    f->on_idle = NULL;
    f->on_drop = NULL;
    if (!code && f->on_done) f->on_done(f->ctx);
    f->on_done = NULL;
    return code;
}

static enum sp_code run_all(struct sp_filter *f, struct sp_error *err) {
    struct sp_filter_run *run = f->run;
    for (;;) {
        enum sp_code code = SP_OK;
        struct sp_record *rec;
        if (!sp_reader_ready(run->r)) {
            f->waiting = true;
            code = idle(f, err);
            f->waiting = false;
            if (!code && writer(run)) code = sp_writer_flush(run->w, err);
        }
        if (code) return code;
        code = sp_reader_read(run->r, &rec, err);
        if (code) {
            /* What came before the damage is written whatever the timing was. */
            struct sp_error ignored;
            idle(f, &ignored);
            return code;
        }
        if (!rec) return SP_OK;
        if (f->on_read) code = f->on_read(f->ctx, rec, err);
        if (code) {
            sp_record_free(rec);
            return code;
        }
        code = take(f, rec, err);
        if (!code && f->done && !run->open) code = end_output(f, err);
        if (code || run->result->upstream_exit) return code;
    }
}

enum sp_code sp_filter_run(struct sp_filter *f, struct sp_reader *r, struct sp_writer *w,
                           struct sp_filter_result *result, struct sp_error *err) {
    *result = (struct sp_filter_result){0};
    struct sp_filter_run run = {
        .f = f, .r = r, .w = f->silent || f->done ? NULL : w, .result = result};
    f->run = &run;
    enum sp_code code = run_all(f, err);
    if (code) {
        /* Best effort: the error to report is the first one. */
        struct sp_error why = *err, ignored;
        if (writer(&run))
            sp_writer_fail(run.w, f->program, f->out, run.open && !run.hello_due, &why, &ignored);
    } else if (writer(&run)) {
        code = sp_writer_flush(run.w, err);
    }
    forget_hello(&run);
    f->run = NULL;
    f->n_error_before += result->n_error;
    return code;
}

void sp_filter_get_errors(const struct sp_filter *f, uint64_t *segment, uint64_t *all) {
    *segment = f->run->n_error;
    *all = f->n_error_before + f->run->result->n_error;
}

void sp_filter_set_errors(struct sp_filter *f, uint64_t segment, uint64_t all) {
    f->run->n_error = segment;
    f->run->result->n_error = all > f->n_error_before ? all - f->n_error_before : 0;
}

int sp_filter_exit_status(const struct sp_filter_result *result) {
    if (result->upstream_exit) return result->upstream_exit;
    return result->n_error ? 1 : 0;
}
