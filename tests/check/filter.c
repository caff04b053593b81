/* The frame of the filters: streams written as words go through a filter that does as it is told,
 * and come out as words.
 *
 *   H h s t  a HELLO of content hidden, hidden with an unknown key, state, tokens
 *   D0 T0 C0 E0   DOC, TEXT, CHUNK, DOCEND of document 0      X0  ERR of document 0
 *   F65      a fatal ERR with exit 65     U  a record of an unknown kind     A  HEAD     S  STATE
 *   N2/1     END, counting 2 documents, 1 error
 */
#include "check.h"
#include "../../lib/wire.h"
#include "stream.h"

#include <poll.h>
#include <sys/wait.h>

#define WORDS_MAX 64

/* ---- words to streams and back ---- */

static struct sp_record *record_of(const char *word) {
    uint64_t n = strtoull(word[1] ? word + 1 : "0", NULL, 10);
    const char *slash = strchr(word, '/');
    struct sp_record *rec;
    switch (word[0]) {
    case 'H': return hello_record(SP_HIDDEN);
    case 'h':
        rec = hello_record(SP_HIDDEN);
        must(sp_record_set_u64(rec, "unknown", 7, &err));
        return rec;
    case 's': return hello_record(SP_STATE);
    case 't': return hello_record(SP_TOKENS);
    case 'D':
        rec = numbers(SP_KIND_DOC, "doc", n, NULL, 0);
        must(sp_record_set_str(rec, "id", "name", 4, &err));
        return rec;
    case 'T': {
        uint64_t five = 5;
        struct sp_tensor t = random_tensor(SP_U8, 1, &five);
        rec = numbers(SP_KIND_TEXT, "doc", n, "off", 0);
        must(sp_record_put_tensor(rec, "text", &t, &err));
        return rec;
    }
    case 'C': return chunk(n, 2, 3);
    case 'E': return numbers(SP_KIND_DOCEND, "doc", n, "n_tok", 2);
    case 'X': return numbers(SP_KIND_ERR, "doc", n, "exit", 1);
    case 'F': return numbers(SP_KIND_ERR, "exit", n, NULL, 0);
    case 'A': return sp_record_new(SP_KIND_HEAD);
    case 'S': return sp_record_new(SP_KIND_STATE);
    case 'N':
        return numbers(SP_KIND_END, "docs", n, "errors", slash ? strtoull(slash + 1, NULL, 10) : 0);
    default:
        rec = sp_record_new(SP_KIND_OTHER);
        strcpy(rec->kind_name, "UNKNOWN");
        return rec;
    }
}

static int stream_of(const char *words) {
    int fd = memory_file(NULL, 0);
    struct sp_writer *w;
    char copy[512];
    bool in_state = false;
    snprintf(copy, sizeof copy, "%s", words);
    must(sp_writer_new(&w, fd, "memory", &err));
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        struct sp_record *rec = record_of(word);
        if (rec->kind == SP_KIND_HELLO) in_state = *word == 's';
        if (in_state || *word == 'S') must(sp_wire_seal(rec, &err));
        send_record(w, rec);
    }
    must(sp_writer_flush(w, &err));
    sp_writer_free(w);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void word_of(const struct sp_record *rec, char out[32]) {
    static const char letters[] = "HDTCEASXNU"; /* by enum sp_kind */
    uint64_t doc = 0, errors = 0, other = 0;
    char letter = letters[rec->kind];
    bool has_doc = sp_record_get_u64(rec, "doc", &doc);
    struct sp_hello h;
    if (rec->kind == SP_KIND_HELLO && !sp_hello_read(&h, rec, &err)) {
        letter = h.content == SP_STATE    ? 's'
                 : h.content == SP_TOKENS ? 't'
                 : h.content == SP_SCORES ? 'O'
                                          : 'H';
        if (letter == 'H' && sp_record_get_u64(rec, "unknown", &other)) letter = 'h';
    }
    if (rec->kind == SP_KIND_ERR && !has_doc) {
        sp_record_get_u64(rec, "exit", &other);
        snprintf(out, 32, "F%llu", (unsigned long long)other);
    } else if (rec->kind == SP_KIND_END) {
        sp_record_get_u64(rec, "docs", &doc);
        sp_record_get_u64(rec, "errors", &errors);
        snprintf(out, 32, "N%llu/%llu", (unsigned long long)doc, (unsigned long long)errors);
    } else if (has_doc) {
        snprintf(out, 32, "%c%llu", letter, (unsigned long long)doc);
    } else {
        snprintf(out, 32, "%c", letter);
    }
}

/* What is in the file, as words; damage as "!". */
static void words_of(int fd, char out[512]) {
    struct sp_reader *r;
    struct sp_record *rec;
    enum sp_code code;
    lseek(fd, 0, SEEK_SET);
    out[0] = 0;
    must(sp_reader_new(&r, fd, "memory", &err));
    while (!(code = sp_reader_read(r, &rec, &err)) && rec) {
        char word[32];
        word_of(rec, word);
        if (out[0]) strcat(out, " ");
        strcat(out, word);
        sp_record_free(rec);
    }
    if (code) strcat(out, " !");
    sp_reader_free(r);
}

/* ---- a filter that does as it is told ---- */

struct told {
    const char *fail_at; /* this word fails its document, */
    const char *die_at;  /* this one the run */
    bool hold;           /* everything until idle */
    int fail_held;       /* document to fail from on_idle, or -1 */
    char held_word[WORDS_MAX][32];
    struct sp_record *held[WORDS_MAX];
    int n_held, n_drop, n_error, n_hello, n_idle;
    struct sp_filter *f;
    char message[500];
};

static enum sp_code on_hello(void *ctx, struct sp_hello *h, struct sp_record *rec,
                             struct sp_error *e) {
    struct told *t = ctx;
    (void)rec;
    (void)h;
    t->n_hello++;
    if (t->die_at && strcmp(t->die_at, "H") == 0) return sp_error_set(e, SP_E_NOINPUT, "no model");
    return SP_OK;
}

static enum sp_code on_record(void *ctx, struct sp_record *rec, struct sp_writer *w,
                              struct sp_error *e) {
    struct told *t = ctx;
    char word[32];
    word_of(rec, word);
    enum sp_code code = SP_OK;
    if (t->fail_at && strcmp(word, t->fail_at) == 0)
        code = sp_error_set(e, SP_E_DATA, "told to fail");
    else if (t->die_at && strcmp(word, t->die_at) == 0)
        code = sp_error_set(e, SP_E_DEVICE, "told to die");
    else if (t->hold) {
        strcpy(t->held_word[t->n_held], word);
        t->held[t->n_held++] = rec;
        return SP_OK;
    } else if (w)
        code = sp_writer_write(w, rec, e);
    sp_record_free(rec);
    return code;
}

static enum sp_code on_idle(void *ctx, struct sp_writer *w, struct sp_error *e) {
    struct told *t = ctx;
    enum sp_code code = SP_OK;
    char chunk_word[32], end_word[32];
    snprintf(chunk_word, sizeof chunk_word, "C%d", t->fail_held);
    snprintf(end_word, sizeof end_word, "E%d", t->fail_held);
    t->n_idle++;
    for (int i = 0; i < t->n_held; i++) {
        bool fails = strcmp(t->held_word[i], chunk_word) == 0;
        bool gone = strcmp(t->held_word[i], end_word) == 0;
        struct sp_error why;
        if (fails && !code) {
            sp_error_set(&why, SP_E_DATA, "told to fail when idle");
            code = sp_filter_fail_doc(t->f, (uint64_t)t->fail_held, "held", 4, &why, e);
        } else if (!gone && !code && w) {
            code = sp_writer_write(w, t->held[i], e);
        }
        sp_record_free(t->held[i]);
    }
    t->n_held = 0;
    return code;
}

static void on_drop(void *ctx, uint64_t doc) {
    (void)doc;
    ((struct told *)ctx)->n_drop++;
}

static void on_error(void *ctx, const struct sp_error *why) {
    struct told *t = ctx;
    t->n_error++;
    snprintf(t->message, sizeof t->message, "%s", why->msg);
}

struct outcome {
    enum sp_code code;
    struct sp_error err;
    struct sp_filter_result result;
    char words[512];
};

static struct sp_filter filter_for(struct told *t) {
    return (struct sp_filter){.program = "told",
                              .in = SP_HIDDEN,
                              .out = SP_SCORES,
                              .ctx = t,
                              .on_hello = on_hello,
                              .on_record = on_record,
                              .on_idle = on_idle,
                              .on_drop = on_drop,
                              .on_error = on_error};
}

static struct outcome run_filter(struct sp_filter *f, struct told *t, int in) {
    struct outcome o;
    struct sp_reader *r;
    struct sp_writer *w;
    int out = memory_file(NULL, 0);
    t->f = f;
    must(sp_reader_new(&r, in, "in", &err));
    must(sp_writer_new(&w, out, "out", &err));
    o.code = sp_filter_run(f, r, w, &o.result, &o.err);
    for (int i = 0; i < t->n_held; i++) sp_record_free(t->held[i]);
    sp_reader_free(r);
    sp_writer_free(w);
    words_of(out, o.words);
    close(in);
    close(out);
    return o;
}

static struct outcome run_words(struct told *t, const char *words) {
    struct sp_filter f = filter_for(t);
    return run_filter(&f, t, stream_of(words));
}

static void expect(const struct outcome *o, enum sp_code code, const char *words, int status,
                   const char *what) {
    bool ok = o->code == code && strcmp(o->words, words) == 0 &&
              (code || sp_filter_exit_status(&o->result) == status);
    check_ok(ok, "%s", what);
    if (!ok)
        printf("# wrote  %s\n# wanted %s\n# code %d (%s), exit status %d\n", o->words, words,
               o->code, o->code ? o->err.msg : "", sp_filter_exit_status(&o->result));
}

/* ---- what is checked ---- */

static void check_passing(void) {
    struct told t = {.fail_held = -1};
    struct outcome o = run_words(&t, "H A D0 T0 C0 C0 E0 U D1 E1 N2/0 H N0/0");
    expect(&o, SP_OK, "O A D0 T0 C0 C0 E0 U D1 E1 N2/0 O N0/0", 0,
           "pass: every record, in order, with the new content");
    check_ok(o.result.n_doc == 2 && t.n_hello == 2, "pass: documents and HELLOs are counted");
    t = (struct told){.fail_held = -1, .hold = true};
    o = run_words(&t, "H A D0 T0 C0 E0 U D1 C1 E1 N2/0 s S N0/0 H D0 E0 N1/0");
    expect(&o, SP_OK, "O A D0 T0 C0 E0 U D1 C1 E1 N2/0 s S N0/0 O D0 E0 N1/0", 0,
           "pass: what is held is not overtaken, not by unknown kinds and not by states");
    struct sp_filter bare = {.program = "bare", .in = SP_HIDDEN, .out = SP_HIDDEN};
    o = run_filter(&bare, &t, stream_of("h D0 C0 E0 N1/0"));
    expect(&o, SP_OK, "h D0 C0 E0 N1/0", 0, "pass: no callbacks; an unknown key of HELLO is kept");
}

static void check_documents(void) {
    struct told t = {.fail_held = -1, .fail_at = "C1"};
    struct outcome o = run_words(&t, "H D0 C0 E0 D1 T1 C1 C1 T1 E1 D2 C2 E2 N3/0");
    expect(&o, SP_OK, "O D0 C0 E0 D1 T1 X1 D2 C2 E2 N3/1", 1,
           "document: fails here: ERR for DOCEND, the rest swallowed, the others untouched");
    check_ok(t.n_drop == 1 && t.n_error == 1 && o.result.n_error == 1 &&
                 strcmp(t.message, "document 'name': told to fail") == 0,
             "document: dropped once, told once: %s", t.message);
    t = (struct told){.fail_held = -1, .fail_at = "E0"};
    o = run_words(&t, "H D0 C0 E0 D1 E1 N2/0");
    expect(&o, SP_OK, "O D0 C0 X0 D1 E1 N2/1", 1, "document: fails at its end");
    t = (struct told){.fail_held = -1, .fail_at = "D0"};
    o = run_words(&t, "H D0 C0 X0 D1 E1 N2/1");
    expect(&o, SP_OK, "O X0 D1 E1 N2/1", 1,
           "document: fails here and upstream: one ERR, counted once");
    t = (struct told){.fail_held = -1};
    o = run_words(&t, "H D0 C0 X0 D1 C1 E1 N2/1");
    expect(&o, SP_OK, "O D0 C0 X0 D1 C1 E1 N2/1", 1, "document: fails upstream: forwarded");
    check_ok(t.n_drop == 1 && t.n_error == 0 && o.result.n_error == 1,
             "document: dropped here, not told again");
    t = (struct told){.fail_held = 0, .hold = true};
    o = run_words(&t, "H D0 C0 E0 D1 C1 X1 D2 C2 E2 N3/1");
    expect(&o, SP_OK, "O D0 X0 D1 C1 X1 D2 C2 E2 N3/2", 1,
           "document: fails while held: ERR in its place, before those behind it");
    t = (struct told){.fail_held = 1, .hold = true, .fail_at = "T1"};
    o = run_words(&t, "H D0 C0 E0 D1 C1 T1 C1 E1 N2/0");
    expect(&o, SP_OK, "O D0 C0 E0 D1 X1 N2/1", 1,
           "document: fails when read and again when written: one ERR");
}

static void check_fatal(void) {
    struct told t = {.fail_held = -1, .hold = true};
    struct outcome o = run_words(&t, "H D0 C0 E0 D1 C1 F69");
    expect(&o, SP_OK, "O D0 C0 E0 D1 C1 F69", 69,
           "fatal: from upstream: what is held is written, the ERR forwarded, its status taken");
    o = run_words(&t, "H F700");
    expect(&o, SP_OK, "O F700", 70, "fatal: an impossible status is a bug's");
    t = (struct told){.fail_held = -1, .die_at = "C1"};
    o = run_words(&t, "H D0 C0 E0 D1 C1 E1 N2/0");
    expect(&o, SP_E_DEVICE, "O D0 C0 E0 D1 F69", 69, "fatal: here: an ERR with our status");
    t = (struct told){.fail_held = -1, .die_at = "H"};
    o = run_words(&t, "H D0 C0 E0 N1/0");
    expect(&o, SP_E_NOINPUT, "O F66", 66, "fatal: before HELLO is out: a HELLO, then the ERR");
    t = (struct told){.fail_held = -1, .fail_at = "A"};
    o = run_words(&t, "H A N0/0");
    expect(&o, SP_E_DATA, "O F65", 65, "fatal: bad data outside a document");
    t = (struct told){.fail_held = -1, .hold = true};
    o = run_words(&t, "H D0 C0 E0 D1");
    expect(&o, SP_E_DATA, "O D0 C0 E0 D1 F65", 65,
           "fatal: a cut stream: what came before it is written all the same");
    o = run_words(&t, "t D0 C0 E0 N1/0");
    expect(&o, SP_E_DATA, "O F65", 65, "fatal: another content");
    check_ok(strstr(o.err.msg, "told reads a stream of hidden, but check wrote one of tokens"),
             "fatal: and it is said which: %s", o.err.msg);
    o = run_words(&t, "");
    expect(&o, SP_E_DATA, "O F65", 65, "fatal: an empty stream");
}

static void check_order(void) {
    static const char *const bad[] = {"H C0 E0 N0/0",       "H D0 C1 E0 N1/0", "H D0 D1 E1 N2/0",
                                      "H D1 E1 D0 E0 N2/0", "H D0 C0 N1/0",    "H D0 E0 N2/0",
                                      "H X0 N0/1",          "H D0 E0 E0 N1/0", "H D0 X1 N1/1",
                                      "H D0 E0 D0 E0 N2/0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct told t = {.fail_held = -1};
        struct outcome o = run_words(&t, bad[i]);
        size_t n = strlen(o.words);
        check_ok(o.code == SP_E_DATA && n > 4 && strcmp(o.words + n - 4, " F65") == 0,
                 "order: %s is refused: %s", bad[i], o.err.msg);
    }
}

/* Are the first n bytes of two files the same? */
static bool same_start(int x, int y, size_t n) {
    uint8_t *a = malloc(n), *b = malloc(n);
    bool same = a && b && pread(x, a, n, 0) == (ssize_t)n && pread(y, b, n, 0) == (ssize_t)n &&
                memcmp(a, b, n) == 0;
    free(a);
    free(b);
    return same;
}

static void check_states(void) {
    struct told t = {.fail_held = -1};
    struct sp_filter f = filter_for(&t);
    int segment = stream_of("s S S N0/0"), in = stream_of("s S S N0/0 H D0 E0 N1/0");
    int out = memory_file(NULL, 0);
    struct sp_reader *r;
    struct sp_writer *w;
    struct sp_filter_result result;
    must(sp_reader_new(&r, in, "in", &err));
    must(sp_writer_new(&w, out, "out", &err));
    must(sp_filter_run(&f, r, w, &result, &err));
    sp_reader_free(r);
    sp_writer_free(w);
    size_t n = (size_t)lseek(segment, 0, SEEK_END);
    check_ok(n > 100 && same_start(segment, out, n) && t.n_hello == 1,
             "state: a segment that is not taken passes byte by byte");
    close(segment);
    close(in);
    close(out);
    t = (struct told){.fail_held = -1};
    f = filter_for(&t);
    f.takes_states = true;
    struct outcome o = run_filter(&f, &t, stream_of("s S S N0/0 H D0 E0 N1/0"));
    expect(&o, SP_OK, "s S S N0/0 O D0 E0 N1/0", 0, "state: a taken one keeps its frame");
    check_ok(t.n_hello == 2, "state: and its HELLO is shown");
    t = (struct told){.fail_held = -1, .die_at = "S"};
    f = filter_for(&t);
    o = run_filter(&f, &t, stream_of("s S N0/0 H N0/0"));
    expect(&o, SP_OK, "s S N0/0 O N0/0", 0,
           "state: records go to the filter only when it takes them");
}

static void check_silent(void) {
    struct told t = {.fail_held = -1, .fail_at = "C1"};
    struct sp_filter f = filter_for(&t);
    f.silent = true;
    struct outcome o = run_filter(&f, &t, stream_of("H D0 C0 E0 D1 C1 E1 N2/0"));
    expect(&o, SP_OK, " !", 1, "silent: nothing is written, errors still count");
    check_ok(t.n_error == 1, "silent: and are told");
}

/* A child filters from one pipe to another; half a stream must come out before more goes in. */
static void check_blocking(void) {
    int in[2], out[2];
    if (pipe(in) || pipe(out)) abort();
    pid_t child = fork();
    if (child == 0) {
        struct told t = {.fail_held = -1, .hold = true};
        struct sp_filter f = filter_for(&t);
        struct sp_reader *r;
        struct sp_writer *w;
        struct sp_filter_result result;
        close(in[1]);
        close(out[0]);
        t.f = &f;
        must(sp_reader_new(&r, in[0], "in", &err));
        must(sp_writer_new(&w, out[1], "out", &err));
        _exit(sp_filter_run(&f, r, w, &result, &err) ? 1 : 0);
    }
    close(in[0]);
    close(out[1]);
    struct sp_writer *w;
    struct sp_reader *r;
    must(sp_writer_new(&w, in[1], "to child", &err));
    must(sp_reader_new(&r, out[0], "from child", &err));
    static const char *const parts[] = {"H D0 C0", "C0", "E0", "D1 C1 E1 N2/0"};
    int n = 0;
    bool in_time = true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && in_time; i++) {
        char copy[64];
        snprintf(copy, sizeof copy, "%s", parts[i]);
        int sent = 0;
        for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "), sent++)
            send_record(w, record_of(word));
        must(sp_writer_flush(w, &err));
        for (int k = 0; k < sent && in_time; k++) {
            struct pollfd p = {.fd = out[0], .events = POLLIN};
            in_time = sp_reader_ready(r) || poll(&p, 1, 5000) == 1;
            struct sp_record *rec = NULL;
            if (in_time) must(sp_reader_read(r, &rec, &err));
            sp_record_free(rec);
            n += rec != NULL;
        }
    }
    check_ok(in_time && n == 9, "blocking: what has come in is out before more is asked for");
    close(in[1]);
    int status;
    waitpid(child, &status, 0);
    check_ok(status == 0, "blocking: and it ends well");
    sp_reader_free(r);
    sp_writer_free(w);
    close(out[0]);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("pass")) check_passing();
    if (check_wanted("document")) check_documents();
    if (check_wanted("fatal")) check_fatal();
    if (check_wanted("order")) check_order();
    if (check_wanted("state")) check_states();
    if (check_wanted("silent")) check_silent();
    if (check_wanted("blocking")) check_blocking();
    return check_end();
}
