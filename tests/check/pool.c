/* The pool: every item once, by a thread of its own number, at any size and after any pause. */
#include "../../lib/pool.h"
#include "check.h"

#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { ITEMS_MAX = 5000, THREADS = 4 };

static struct sp_error err;
static _Atomic int seen[ITEMS_MAX];
static _Atomic int busy[THREADS], wrong_thread;

static void item(void *ctx, int64_t i, int thread) {
    if (thread < 0 || thread >= *(int *)ctx || atomic_fetch_add(&busy[thread], 1) != 0)
        atomic_store(&wrong_thread, 1);
    atomic_fetch_add(&seen[i], 1);
    atomic_fetch_sub(&busy[thread], 1);
}

static bool run_once(struct sp_pool *pool, int64_t n) {
    int threads = sp_pool_threads(pool);
    for (int64_t i = 0; i < ITEMS_MAX; i++) atomic_store(&seen[i], 0);
    sp_pool_run(pool, n, item, &threads);
    for (int64_t i = 0; i < ITEMS_MAX; i++)
        if (atomic_load(&seen[i]) != (i < n)) return false;
    return true;
}

static void check_items(int threads) {
    struct sp_pool *pool;
    if (!check_ok(sp_pool_new(&pool, threads, &err) == SP_OK, "start: %d threads", threads)) return;
    bool right = true;
    for (int i = 0; i < 300 && right; i++) {
        if (i % 50 == 49) usleep(300); /* long enough for workers to fall asleep */
        if (i % 7 == 3) sp_pool_rest(pool);
        right = run_once(pool, i < 10 ? i : check_random_int(0, i % 30 ? 40 : ITEMS_MAX));
    }
    check_ok(right && !wrong_thread, "items: each once, with %d threads", threads);
    sp_pool_free(pool);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A generous bound on CPU time, not on the clock: a spinning worker would use all of the pause. */
static void check_idle(void) {
    struct sp_pool *pool;
    if (sp_pool_new(&pool, THREADS, &err)) return;
    run_once(pool, 100);
    double before = cpu_seconds();
    usleep(200000);
    double used = cpu_seconds() - before;
    check_ok(used < 0.02, "idle: %.4f s of CPU time in 0.2 s", used);
    sp_pool_free(pool);
}

static void check_limits(void) {
    struct sp_pool *pool;
    check_ok(sp_pool_new(&pool, -1, &err) == SP_E_USAGE && !pool, "limits: -1 threads: %s",
             err.msg);
    check_ok(sp_pool_new(&pool, SP_POOL_THREADS_MAX + 1, &err) == SP_E_USAGE && !pool,
             "limits: too many threads");
    setenv("STATEPIPE_JOBS", "3", 1);
    check_ok(sp_pool_new(&pool, 0, &err) == SP_OK && sp_pool_threads(pool) == 3,
             "limits: STATEPIPE_JOBS");
    sp_pool_free(pool);
    setenv("STATEPIPE_JOBS", "many", 1);
    check_ok(sp_pool_new(&pool, 0, &err) == SP_OK && sp_pool_threads(pool) >= 1,
             "limits: a bad STATEPIPE_JOBS is not used");
    sp_pool_free(pool);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("items"))
        for (int threads = 1; threads <= THREADS; threads++) check_items(threads);
    if (check_wanted("idle")) check_idle();
    if (check_wanted("limits")) check_limits();
    return check_end();
}
