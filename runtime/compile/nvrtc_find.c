#include "nvrtc_find.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A failed allocation is remembered here, and ends in one error. This keeps the search easy to read. */
struct search {
    struct nvrtc_candidates *out;
    int failed;
};

/* An address within the library or program that contains this code. */
static const char nvrtc_find_anchor;

static void add_path(struct search *s, const char *path)
{
    struct nvrtc_candidates *c = s->out;
    for (int i = 0; i < c->count; i++)
        if (strcmp(c->paths[i], path) == 0)
            return;
    char **larger = realloc(c->paths, sizeof *larger * (size_t)(c->count + 1));
    if (larger)
        c->paths = larger;
    char *copy = strdup(path);
    if (!larger || !copy) {
        free(copy);
        s->failed = 1;
        return;
    }
    c->paths[c->count++] = copy;
}

static void add_tried(struct search *s, const char *what, const char *place)
{
    size_t n = strlen(s->out->tried), more = strlen(what) + strlen(place) + 4;
    char *larger = realloc(s->out->tried, n + more);
    if (!larger) {
        s->failed = 1;
        return;
    }
    s->out->tried = larger;
    snprintf(larger + n, more, "%s%s\n", what, place);
}

/* Adds every file that matches, newest version first: within one folder .13 comes before .12. */
static void add_matches(struct search *s, const char *pattern)
{
    glob_t found;
    add_tried(s, "", pattern);
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = found.gl_pathc; i-- > 0;)
            add_path(s, found.gl_pathv[i]);
    globfree(&found);
}

static void add_toolkit(struct search *s, const char *root)
{
    static const char *const subfolders[] = {"lib64", "lib", "targets/x86_64-linux/lib",
                                             "targets/sbsa-linux/lib", "targets/aarch64-linux/lib"};
    for (size_t i = 0; i < sizeof subfolders / sizeof subfolders[0]; i++) {
        char pattern[4400];
        snprintf(pattern, sizeof pattern, "%s/%s/libnvrtc.so.1[23]", root, subfolders[i]);
        add_matches(s, pattern);
        snprintf(pattern, sizeof pattern, "%s/%s/libnvrtc.so", root, subfolders[i]);
        add_matches(s, pattern);
    }
}

/* Adds the `nvidia` packages of one Python installation: nvidia/cuda_nvrtc (CUDA 12), nvidia/cu13. */
static void add_python(struct search *s, const char *prefix)
{
    static const char *const folders[] = {"site-packages", "dist-packages"};
    for (int i = 0; i < 2; i++) {
        char pattern[4400];
        snprintf(pattern, sizeof pattern, "%s/lib/python3*/%s/nvidia/*/lib/libnvrtc.so.1[23]", prefix,
                 folders[i]);
        add_matches(s, pattern);
    }
}

/* Adds the `nvidia` packages beside the Python package that holds this code, which is in
 * SITE/xq/lib/libxq.so or SITE/xq/bin/xq, where SITE is a folder site-packages or dist-packages. */
static void add_beside_package(struct search *s)
{
    Dl_info info; /* for a program the name is its argv[0] */
    const char *name = dladdr(&nvrtc_find_anchor, &info) ? info.dli_fname : "";
    char *self = realpath(strchr(name, '/') ? name : "/proc/self/exe", NULL);
    char *end = self;
    for (int level = 0; end && level < 3; level++) {
        end = strrchr(self, '/');
        if (end)
            *end = 0;
    }
    const char *folder = end ? strrchr(self, '/') : NULL;
    if (folder && (strcmp(folder, "/site-packages") == 0 || strcmp(folder, "/dist-packages") == 0)) {
        char pattern[4400];
        snprintf(pattern, sizeof pattern, "%s/nvidia/*/lib/libnvrtc.so.1[23]", self);
        add_matches(s, pattern);
    }
    free(self);
}

/* Adds the Python installations whose python3 is on PATH: PREFIX/bin/python3, and PREFIX/shims/python3 of
 * a version manager that keeps its installations in PREFIX/versions. */
static void add_pythons_on_path(struct search *s, const char *path)
{
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char file[2048], prefix[2200];
        snprintf(file, sizeof file, "%.*s/python3", (int)n, path);
        if (n > 0 && n < sizeof file - 16 && access(file, X_OK) == 0) {
            snprintf(prefix, sizeof prefix, "%.*s/..", (int)n, path);
            add_python(s, prefix);
            snprintf(prefix, sizeof prefix, "%.*s/../versions/*", (int)n, path);
            add_python(s, prefix);
        }
        path += n + (path[n] == ':');
    }
}

int nvrtc_find(struct nvrtc_candidates *out)
{
    static const char *const toolkit_variables[] = {"CUDA_HOME", "CUDA_PATH"};
    static const char *const bare_names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    *out = (struct nvrtc_candidates){.tried = strdup("")};
    struct search s = {out, out->tried == NULL};
    if (s.failed)
        return -1;

    const char *chosen = getenv("XQ_NVRTC");
    if (chosen && *chosen) {
        add_tried(&s, "XQ_NVRTC=", chosen);
        add_path(&s, chosen);
        return s.failed ? -1 : 0;
    }
    for (int i = 0; i < 2; i++) {
        const char *root = getenv(toolkit_variables[i]);
        if (root && *root)
            add_toolkit(&s, root);
    }
    add_beside_package(&s);
    for (int i = 0; i < 3; i++) {
        add_tried(&s, "the loader's path for ", bare_names[i]);
        add_path(&s, bare_names[i]);
    }
    add_toolkit(&s, "/usr/local/cuda");
    add_toolkit(&s, "/usr/local/cuda-1[23]*");
    const char *environment = getenv("VIRTUAL_ENV");
    if (environment && *environment)
        add_python(&s, environment);
    add_pythons_on_path(&s, getenv("PATH"));
    const char *home = getenv("HOME");
    if (home && *home) {
        char local[2048];
        snprintf(local, sizeof local, "%s/.local", home);
        add_python(&s, local);
    }
    return s.failed ? -1 : 0;
}

void nvrtc_candidates_free(struct nvrtc_candidates *candidates)
{
    for (int i = 0; i < candidates->count; i++)
        free(candidates->paths[i]);
    free(candidates->paths);
    free(candidates->tried);
    *candidates = (struct nvrtc_candidates){0};
}
