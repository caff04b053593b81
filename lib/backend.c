/* Which backend a name means, and plugins. */
#include "backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SP_PLUGINDIR
#define SP_PLUGINDIR "/usr/local/lib/statepipe"
#endif

bool sp_plugin_find(const char *name, char *path, size_t size) {
    const char *named = getenv("STATEPIPE_PLUGINS");
    char exe[PATH_MAX];
    if (named && *named) {
        int n = snprintf(path, size, "%s/%s.so", named, name);
        return n > 0 && (size_t)n < size && access(path, R_OK) == 0;
    }
    ssize_t n_exe = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n_exe > 0 ? n_exe : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) *slash = 0;
    /* Built in build/bin or build/check; installed, in libexec/statepipe; compiled in. */
    const char *const places[][2] = {
        {exe, "/../plugin"}, {exe, "/../../lib/statepipe"}, {SP_PLUGINDIR, ""}};
    for (size_t i = slash ? 0 : 2; i < sizeof places / sizeof *places; i++) {
        int n = snprintf(path, size, "%s%s/%s.so", places[i][0], places[i][1], name);
        if (n > 0 && (size_t)n < size && access(path, R_OK) == 0) return true;
    }
    return false;
}

/* The object stays loaded: drivers and sanitizers do not bear it going. */
static enum sp_code open_plugin(struct sp_backend **be, const char *name, struct sp_error *err) {
    char path[PATH_MAX];
    if (!sp_plugin_find(name, path, sizeof path))
        return sp_error_set(err, SP_E_DEVICE,
                            "device %s: there is no plugin %s.so: %s; use --device cpu", name, name,
                            strcmp(name, "emu") == 0
                                ? "it is for tests only, and made by `make check`"
                                : "statepipe was built without nvcc");
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return sp_error_set(err, SP_E_DEVICE, "device %s: %.400s", name, dlerror());
    const struct sp_plugin *plugin = dlsym(object, SP_PLUGIN_SYMBOL);
    if (!plugin)
        return sp_error_set(err, SP_E_DEVICE, "device %s: %.300s is no plugin of statepipe's", name,
                            path);
    if (plugin->abi != SP_BACKEND_ABI)
        return sp_error_set(err, SP_E_DEVICE,
                            "device %s: %.300s is of another version of statepipe (plugin ABI %d, "
                            "%d is needed): build and install both together",
                            name, path, plugin->abi, SP_BACKEND_ABI);
    return plugin->open(be, err);
}

enum sp_code sp_backend_open(struct sp_backend **be, const char *device, int n_thread,
                             struct sp_error *err) {
    *be = NULL;
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0)
        return sp_backend_cpu_new(be, n_thread, err);
    if (strcmp(device, "cuda") == 0 || strcmp(device, "emu") == 0)
        return open_plugin(be, device, err);
    return sp_error_set(err, SP_E_USAGE, "device '%s' is not one of auto, cpu, cuda, emu", device);
}
