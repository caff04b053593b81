/* The pool: one word holds how many items of the job are still to be taken, so that whoever takes
 * one owns a part of a job that cannot change before that part is done. */
#include "pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define JOB_ITEMS_MAX ((int64_t)1 << 30)

struct worker {
    struct sp_pool *pool;
    pthread_t thread;
    int index; /* from 1: the caller is 0 */
};

struct sp_pool {
    int n_thread;
    /* The job. Written by the caller while no item is open, read by whoever took an item. */
    void (*fn)(void *ctx, int64_t item, int thread);
    void *ctx;
    int64_t base;
    uint32_t n_item;
    /* Apart from each other, as every thread hammers on them. */
    _Alignas(64) _Atomic uint32_t open;    /* items that nobody has taken */
    _Alignas(64) _Atomic uint32_t pending; /* items that are not done; futex of the caller */
    _Alignas(64) _Atomic uint32_t epoch;   /* counts jobs; futex of the workers */
    _Atomic int asleep;
    _Atomic bool caller_asleep, rest, stop;
    struct worker worker[];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Takes and does items until none is open. */
static void work(struct sp_pool *p, int thread) {
    uint32_t open = atomic_load_explicit(&p->open, memory_order_acquire);
    while (open > 0) {
        if (!atomic_compare_exchange_weak_explicit(&p->open, &open, open - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        p->fn(p->ctx, p->base + (int64_t)(p->n_item - open), thread);
        if (atomic_fetch_sub_explicit(&p->pending, 1, memory_order_seq_cst) == 1 &&
            atomic_load_explicit(&p->caller_asleep, memory_order_seq_cst))
            futex_wake(&p->pending, 1);
        open = atomic_load_explicit(&p->open, memory_order_acquire);
    }
}

/* Looks out for a job after the one numbered seen, then sleeps until there is one. */
static void wait_for_job(struct sp_pool *p, uint32_t seen) {
    int64_t end = now_ns() + SP_POOL_SPIN_NS;
    for (uint32_t i = 1; !atomic_load_explicit(&p->rest, memory_order_relaxed); i++) {
        if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen) return;
        relax();
        if (i % 64 == 0 && now_ns() > end) break;
    }
    atomic_fetch_add(&p->asleep, 1);
    while (atomic_load(&p->epoch) == seen && !atomic_load(&p->stop)) futex_wait(&p->epoch, seen);
    atomic_fetch_sub(&p->asleep, 1);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct sp_pool *p = w->pool;
    for (;;) {
        uint32_t seen = atomic_load_explicit(&p->epoch, memory_order_acquire);
        work(p, w->index);
        if (atomic_load(&p->stop)) return NULL;
        wait_for_job(p, seen);
    }
}

static void wait_until_done(struct sp_pool *p) {
    int64_t end = now_ns() + SP_POOL_SPIN_NS;
    for (uint32_t i = 1;; i++) {
        if (atomic_load_explicit(&p->pending, memory_order_acquire) == 0) return;
        relax();
        if (i % 64 == 0 && now_ns() > end) break;
    }
    atomic_store(&p->caller_asleep, true);
    uint32_t left;
    while ((left = atomic_load(&p->pending)) != 0) futex_wait(&p->pending, left);
    atomic_store(&p->caller_asleep, false);
}

static void run_job(struct sp_pool *p, int64_t base, uint32_t n_item,
                    void (*fn)(void *ctx, int64_t item, int thread), void *ctx) {
    p->fn = fn;
    p->ctx = ctx;
    p->base = base;
    p->n_item = n_item;
    atomic_store_explicit(&p->rest, false, memory_order_relaxed);
    atomic_store(&p->pending, n_item);
    atomic_store(&p->open, n_item);
    atomic_fetch_add(&p->epoch, 1);
    int asleep = atomic_load(&p->asleep);
    if (asleep > 0) futex_wake(&p->epoch, asleep < (int)n_item ? asleep : (int)n_item - 1);
    work(p, 0);
    wait_until_done(p);
}

void sp_pool_run(struct sp_pool *pool, int64_t n_item,
                 void (*fn)(void *ctx, int64_t item, int thread), void *ctx) {
    if (n_item <= 1 || pool->n_thread == 1) {
        for (int64_t i = 0; i < n_item; i++) fn(ctx, i, 0);
        return;
    }
    for (int64_t base = 0; base < n_item; base += JOB_ITEMS_MAX) {
        int64_t n = n_item - base < JOB_ITEMS_MAX ? n_item - base : JOB_ITEMS_MAX;
        run_job(pool, base, (uint32_t)n, fn, ctx);
    }
}

void sp_pool_rest(struct sp_pool *pool) {
    atomic_store_explicit(&pool->rest, true, memory_order_relaxed);
}

int sp_pool_threads(const struct sp_pool *pool) {
    return pool->n_thread;
}

static int threads_default(void) {
    const char *jobs = getenv("STATEPIPE_JOBS");
    if (jobs && *jobs) {
        char *end;
        long n = strtol(jobs, &end, 10);
        if (*end == 0 && n >= 1 && n <= SP_POOL_THREADS_MAX) return (int)n;
    }
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n < SP_POOL_THREADS_MAX ? n : SP_POOL_THREADS_MAX;
}

enum sp_code sp_pool_new(struct sp_pool **pool, int n_thread, struct sp_error *err) {
    *pool = NULL;
    if (n_thread < 0 || n_thread > SP_POOL_THREADS_MAX)
        return sp_error_set(err, SP_E_USAGE, "%d threads: give 1 to %d, or 0 for all cores",
                            n_thread, SP_POOL_THREADS_MAX);
    if (n_thread == 0) n_thread = threads_default();
    size_t size = sizeof(struct sp_pool) + (size_t)n_thread * sizeof(struct worker);
    struct sp_pool *p = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!p) return sp_error_set(err, SP_E_DEVICE, "out of memory for %d threads", n_thread);
    memset(p, 0, size);
    p->n_thread = 1;
    /* Signals are the caller's business: they must not land on a worker. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = 0;
    for (int i = 1; i < n_thread && !failed; i++) {
        p->worker[i] = (struct worker){.pool = p, .index = i};
        failed = pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i]);
        if (!failed) p->n_thread = i + 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        sp_pool_free(p);
        return sp_error_set(err, SP_E_DEVICE, "cannot start %d threads: %s (use a smaller -j)",
                            n_thread, strerror(failed));
    }
    *pool = p;
    return SP_OK;
}

void sp_pool_free(struct sp_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->epoch, 1);
    futex_wake(&pool->epoch, SP_POOL_THREADS_MAX);
    for (int i = 1; i < pool->n_thread; i++) pthread_join(pool->worker[i].thread, NULL);
    free(pool);
}
