/* The cache: whatever is put in, in whatever pieces tokens come, the longest state of the same
 * beginning is found and no other; what is not fit to be kept is not. */
#include "../../lib/cache.h"
#include "../../lib/state.h"
#include "states.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKENS_MAX = 3000, PUTS = 150, LOOKS = 400 };

static char dir[] = "/tmp/sp-check-cache-XXXXXX";
static struct sp_model *model;
static int n_said;

static void say(bool warning, const char *message) {
    (void)message;
    n_said += warning;
}

static struct sp_cache *open_cache(uint64_t bytes_max, enum sp_dtype dtype) {
    const struct sp_cache_options o = {
        .dir = dir, .bytes_max = bytes_max, .model = model, .dtype = dtype, .say = say};
    struct sp_cache *c;
    check_must(sp_cache_open(&c, &o, &check_err));
    return c;
}

/* Calls each for every file of the folder, and empties it where asked. */
static uint64_t folder(bool empty, size_t *n_file) {
    uint64_t total = 0;
    char path[512];
    struct stat st;
    DIR *d = opendir(dir);
    *n_file = 0;
    for (const struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (stat(path, &st) == 0) total += (uint64_t)st.st_size;
        if (empty) unlink(path);
        *n_file += strstr(e->d_name, ".state") != NULL;
    }
    closedir(d);
    return total;
}

/* A state whose numbers say how many tokens it is of. */
static struct sp_state *state_of(const struct sp_cache_trail *t, enum sp_origin origin) {
    struct sp_state *s;
    check_must(
        sp_state_new(&s, model, 0, (uint32_t)sp_model_config(model)->n_layer - 1, &check_err));
    s->prefix = t->prefix;
    s->n_tok = t->n_tok;
    s->origin = origin;
    s->has_last = true;
    s->ssm[0] = (float)t->n_tok;
    return s;
}

static void put(struct sp_cache *c, const uint32_t *id, size_t n, enum sp_origin origin) {
    struct sp_cache_trail t = {0};
    for (size_t at = 0; at < n;) {
        size_t k = (size_t)check_random_int(1, (int64_t)(n - at));
        sp_cache_trail_add(&t, id + at, k);
        at += k;
    }
    struct sp_state *s = state_of(&t, origin);
    sp_cache_put(c, s, &t);
    sp_state_free(s);
}

/* The tokens of the longest state of a document that is found, feeding until nothing can match. */
static uint64_t look(struct sp_cache *c, const uint32_t *id, size_t n) {
    struct sp_cache_trail t = {0}, whole = {0};
    bool more = sp_cache_look(c, &t);
    for (size_t at = 0; more && at < n;) {
        size_t k = (size_t)check_random_int(1, (int64_t)(n - at < 300 ? n - at : 300));
        more = sp_cache_look_on(c, &t, id + at, k);
        at += k;
    }
    struct sp_state *s = sp_cache_take(c);
    if (!s) return 0;
    uint64_t found = s->n_tok;
    sp_cache_trail_add(&whole, id, (size_t)found);
    bool right = sp_hash_equal(&whole.prefix, &s->prefix) && s->ssm[0] == (float)found;
    sp_state_free(s);
    return right ? found : UINT64_MAX;
}

/* A document that goes the way of another for a while. */
static void branch(uint32_t *id, const uint32_t *from, size_t common, size_t n) {
    memcpy(id, from, common * sizeof *id);
    for (size_t i = common; i < n; i++) id[i] = (uint32_t)check_random_int(0, 50000);
}

static void check_longest(void) {
    static uint32_t kept[PUTS][TOKENS_MAX], id[TOKENS_MAX];
    static size_t length[PUTS];
    struct sp_cache *mine = open_cache(UINT64_MAX, SP_F32), *other = open_cache(UINT64_MAX, SP_F32);
    size_t n_file;
    int64_t wrong = 0, hits = 0;
    for (size_t i = 0; i < PUTS; i++) {
        length[i] = (size_t)check_random_int(SP_CACHE_TOKENS_MIN, TOKENS_MAX);
        const size_t from = i ? (size_t)check_random_int(0, (int64_t)i - 1) : 0;
        size_t most = i ? (length[from] < length[i] ? length[from] : length[i]) : 0;
        branch(kept[i], kept[from], (size_t)check_random_int(0, (int64_t)most), length[i]);
        put(i % 2 ? mine : other, kept[i], length[i], SP_ORIGIN_READ);
    }
    for (int i = 0; i < LOOKS; i++) {
        const size_t from = (size_t)check_random_int(0, PUTS - 1);
        size_t n = (size_t)check_random_int(1, TOKENS_MAX);
        size_t most = length[from] < n ? length[from] : n;
        size_t common = check_random_int(0, 2) ? (size_t)check_random_int(0, (int64_t)most) : most;
        branch(id, kept[from], common, n);
        uint64_t longest = 0;
        for (size_t k = 0; k < PUTS; k++)
            if (length[k] <= n && length[k] > longest &&
                memcmp(kept[k], id, length[k] * sizeof *id) == 0)
                longest = length[k];
        wrong += look(i % 2 ? mine : other, id, n) != longest;
        hits += longest > 0;
    }
    check_ok(wrong == 0 && hits > LOOKS / 10 && n_said == 0,
             "longest: %d looks among %d states, %lld of them hits", LOOKS, PUTS, (long long)hits);
    folder(true, &n_file);
    check_ok(look(mine, kept[0], length[0]) == 0 && n_said == 0,
             "gone: entries that another process has removed are no hits and no warnings");
    sp_cache_free(mine);
    sp_cache_free(other);
}

static void check_refused(void) {
    static uint32_t id[TOKENS_MAX];
    size_t n_file;
    struct sp_cache *c = open_cache(UINT64_MAX, SP_F32), *half = open_cache(UINT64_MAX, SP_BF16);
    branch(id, id, 0, TOKENS_MAX);
    put(c, id, 100, SP_ORIGIN_MIXED);
    put(c, id, 100, SP_ORIGIN_TUNED);
    put(c, id, 100, SP_ORIGIN_CONVERTED);
    put(c, id, SP_CACHE_TOKENS_MIN - 1, SP_ORIGIN_READ);
    folder(false, &n_file);
    check_ok(n_file == 0, "refused: states that were not read, or of few tokens");
    put(c, id, 100, SP_ORIGIN_READ);
    check_ok(look(half, id, 100) == 0 && look(c, id, 100) == 100,
             "kinds: a state of f32 products is none of bf16 products");
    sp_cache_free(c);
    sp_cache_free(half);
    folder(true, &n_file);
}

static void check_room(void) {
    static uint32_t id[40][TOKENS_MAX];
    size_t n_file, n_kept = 0;
    struct sp_cache *c = open_cache(UINT64_MAX, SP_F32);
    branch(id[0], id[0], 0, 100);
    put(c, id[0], 100, SP_ORIGIN_READ);
    uint64_t one = folder(true, &n_file);
    sp_cache_free(c);
    c = open_cache(10 * one + one / 2, SP_F32);
    bool within = true;
    for (int i = 0; i < 40; i++) {
        branch(id[i], id[0], 0, 100);
        put(c, id[i], 100, SP_ORIGIN_READ);
        if (i >= 2) within = within && look(c, id[2], 100) == 100; /* used all the time */
        within = within && folder(false, &n_file) <= 10 * one + one / 2;
        usleep(5000); /* a file's time is not finer on some systems */
    }
    for (int i = 0; i < 40; i++) n_kept += look(c, id[i], 100) == 100;
    check_ok(within && n_kept == 10 && n_file == 10,
             "room: never more than there is for %zu states", n_kept);
    bool newest = look(c, id[2], 100) == 100;
    for (int i = 31; i < 40; i++) newest = newest && look(c, id[i], 100) == 100;
    check_ok(newest, "room: those that were not used for the longest time have gone");
    sp_cache_free(c);
    folder(true, &n_file);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    check_must(sp_model_open(&model, "tests/golden/tiny", &check_err));
    if (!mkdtemp(dir)) return 1;
    if (check_wanted("longest")) check_longest();
    if (check_wanted("refused")) check_refused();
    if (check_wanted("room")) check_room();
    rmdir(dir);
    sp_model_free(model);
    return check_end();
}
