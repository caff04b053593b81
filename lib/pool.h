/* Threads: a pool that sleeps on a futex between jobs and is never busy without one.
 * Owns its threads; the caller's thread works too. One caller at a time.
 */
#ifndef SP_POOL_H
#define SP_POOL_H

#include "statepipe.h"

struct sp_pool;

/* n_thread 0: $STATEPIPE_JOBS, else the CPUs this process may run on. */
enum sp_code sp_pool_new(struct sp_pool **pool, int n_thread, struct sp_error *err);
void sp_pool_free(struct sp_pool *pool);
int sp_pool_threads(const struct sp_pool *pool);
/* Calls fn(ctx, item, thread) for item in [0, n_item), thread in [0, threads); returns when all are
 * done. Items are handed out one after another to whoever is free; a result must not depend on who.
 */
void sp_pool_run(struct sp_pool *pool, int64_t n_item,
                 void (*fn)(void *ctx, int64_t item, int thread), void *ctx);
/* No job is coming soon: workers that still look out for one (for SP_POOL_SPIN_NS at most) sleep
 * at once. */
void sp_pool_rest(struct sp_pool *pool);

/* How long a worker looks out for the next job before it sleeps: the jobs of one forward pass
 * follow each other within a few microseconds, and waking a sleeper takes fifty. */
#define SP_POOL_SPIN_NS 50000
#define SP_POOL_THREADS_MAX 256

#endif
