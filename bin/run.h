/* Running this project's programs as a pipeline: where they are, and what they find in their
 * environment. For the programs that start others (statepipe, cv). */
#ifndef SP_RUN_H
#define SP_RUN_H

#include "cli.h"

#include <limits.h>
#include <sched.h>

#ifndef SP_LIBEXECDIR
#define SP_LIBEXECDIR "/usr/local/libexec/statepipe"
#endif

/* The folder of the programs: ../libexec/statepipe beside an installed dispatcher, else the running
 * program's own folder (build tree, or already in libexec), else the one compiled in. */
static inline enum sp_code run_exec_path(char out[PATH_MAX], struct sp_error *err) {
    char exe[PATH_MAX], probe[PATH_MAX + 64], dir[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) *slash = 0;
    static const char *const places[] = {"/../libexec/statepipe", ""};
    for (size_t i = 0; i < sizeof places / sizeof places[0] && slash; i++) {
        snprintf(dir, sizeof dir, "%s%s", exe, places[i]);
        snprintf(probe, sizeof probe, "%s/tokenize", dir);
        if (access(probe, X_OK) == 0 && realpath(dir, out)) return SP_OK;
    }
    if (access(SP_LIBEXECDIR "/tokenize", X_OK) != 0)
        return sp_error_set(err, SP_E_NOINPUT,
                            "the programs are neither beside %s nor in " SP_LIBEXECDIR
                            "; install statepipe again",
                            exe);
    snprintf(out, PATH_MAX, "%s", SP_LIBEXECDIR);
    return SP_OK;
}

/* How often the word occurs in a command. */
static inline int run_count(const char *command, const char *word) {
    int n = 0;
    for (const char *at = command; (at = strstr(at, word)); at += strlen(word)) n++;
    return n;
}

/* PATH with exec_path in front; large pipes; the CPUs shared out among the programs of the pipeline
 * that use more than one: the layers. jobs 0: all CPUs. What the caller has set himself stays. */
static inline enum sp_code run_environment(const char *exec_path, const char *command, int64_t jobs,
                                           struct sp_error *err) {
    const char *path = getenv("PATH");
    char number[24], *joined = NULL;
    cpu_set_t cpus;
    int64_t n_cpu = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    int64_t n_layer = run_count(command, "mamba-layer");
    int64_t share = (jobs ? jobs : n_cpu) / (n_layer ? n_layer : 1);
    snprintf(number, sizeof number, "%lld", (long long)(share > 1 ? share : 1));
    bool ok = asprintf(&joined, "%s%s%s", exec_path, path ? ":" : "", path ? path : "") >= 0;
    ok = ok && setenv("PATH", joined, 1) == 0;
    ok = ok && setenv("STATEPIPE_JOBS", number, jobs != 0) == 0;
    ok = ok && setenv(CLI_PIPE_SIZE, "1048576", 0) == 0;
    free(joined);
    return ok ? SP_OK : sp_error_memory(err, "the environment");
}

#endif
