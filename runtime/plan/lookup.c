/* Finds compiled kernels in the stores and the cache, or compiles them with NVRTC. */
#include "toolchain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A kernel to look up. */
struct wanted {
    xq_context *context;
    const gen *generator;
    const char *family, *source, *arch;
};

static int64_t rank_of(const void *user, const char *built_for, int version)
{
    const struct wanted *w = user;
    return target_rank(&w->context->device->properties, w->arch, built_for, version);
}

static xq_status find_in(const struct wanted *w, cache *c, bool *found, cache_arch *target, compiled *out,
                         error *err)
{
    compile_find(c, w->generator, w->family, w->source, rank_of, w, found, target, out, err);
    if (*found)
        log_message(&w->context->log, XQ_LOG_DEBUG, "kernel %s: found in %s", w->family, cache_dir(c));
    return err->status;
}

static xq_status find_in_stores(const struct wanted *w, bool *found, cache_arch *target, compiled *out,
                                error *err)
{
    const stores *s = w->context->toolchain->stores;
    for (int i = 0; i < stores_count(s) && !*found && err->status == XQ_OK; i++)
        find_in(w, stores_at(s, i), found, target, out, err);
    return err->status;
}

static xq_status compile_with(const struct wanted *w, const nvrtc *library, cache_arch *target,
                              compiled *out, error *err)
{
    kernel_target chosen;
    if (context_target(w->context, w->arch, &chosen, err) != XQ_OK)
        return err->status;
    snprintf(target->text, sizeof target->text, "%s", chosen.arch);
    return compile_source(library, w->context->toolchain->cache, w->generator, w->family, w->source,
                          chosen.arch, out, err);
}

/* ------------------------------------------------------------------ misses */

/* Adds the rest of the line of a source's banner that starts with `begins`: "model hidden_size 256,
 * ...". */
static void add_banner_line(FILE *f, const char *source, const char *begins, const char *name)
{
    const char *line = strstr(source, begins), *code = strstr(source, "\n#line");
    if (!line || (code && line > code))
        return;
    line += strlen(begins);
    int length = (int)strcspn(line, "\n");
    fprintf(f, "; %s %.*s", name, length > 0 && line[length - 1] == '.' ? length - 1 : length, line);
}

/* Describes which kernel of which spec is missing, and the places that were searched. */
static void describe(const struct wanted *w, FILE *f)
{
    const struct toolchain *t = w->context->toolchain;
    const char *dir = cache_dir(t->cache);
    fprintf(f, "kernel %s for %s is neither in a kernel store nor in the cache, and ", w->family, w->arch);
    if (t->no_compile)
        fprintf(f, "%s%s forbids compiling it", t->no_compile,
                strcmp(t->no_compile, "XQ_NO_COMPILE") == 0 ? "=1" : "");
    else
        fputs("there is no NVRTC to compile it", f);
    add_banner_line(f, w->source, "// Model: ", "model");
    add_banner_line(f, w->source, "// Cache: ", "cache");
    fputs("; looked in ", f);
    for (int i = 0; i < stores_count(t->stores); i++)
        fprintf(f, "%s, ", cache_dir(stores_at(t->stores, i)));
    fputs(*dir ? dir : stores_count(t->stores) ? "and there is no cache" : "no store and no cache", f);
}

/* Reports the missing kernel. `missing` is the reason why there is no NVRTC; its log lists the places that
 * were searched. */
static xq_status refuse(const struct wanted *w, const error *missing, error *err)
{
    const char *no_compile = w->context->toolchain->no_compile;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f)
        describe(w, f);
    if (!f || fclose(f) != 0)
        error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
    else
        error_set(err, XQ_ERROR_NO_TOOLCHAIN, "compile", "%s", text);
    free(text);
    if (no_compile)
        error_field(err, no_compile);
    return missing->log ? error_log(err, missing->log) : err->status;
}

/* Without NVRTC, code from any other NVRTC is better than none. */
static xq_status find_in_cache(const struct wanted *w, error *missing, cache_arch *target, compiled *out,
                               error *err)
{
    const struct toolchain *t = w->context->toolchain;
    bool found = false;
    if (find_in(w, t->cache, &found, target, out, err) != XQ_OK || found)
        return err->status;
    if (t->no_compile || stores_count(t->stores) > 0)
        return refuse(w, missing, err);
    *err = *missing;
    missing->log = NULL;
    return err->status;
}

/* ------------------------------------------------------------------ search */

xq_status context_compile(xq_context *context, const char *family, const char *source, const char *arch,
                          cache_arch *target, compiled *out, error *err)
{
    struct wanted w = {context, NULL, family, source, arch};
    const nvrtc *library = NULL;
    error missing = ERROR_INIT;
    bool found = false;
    if (target_check(&context->device->properties, arch, err) != XQ_OK ||
        context_generator(context, &w.generator, err) != XQ_OK ||
        find_in_stores(&w, &found, target, out, err) != XQ_OK || found)
        return err->status;
    if (!context->toolchain->no_compile && context_nvrtc(context, &library, &missing) == XQ_OK)
        return compile_with(&w, library, target, out, err);
    find_in_cache(&w, &missing, target, out, err);
    error_clear(&missing);
    return err->status;
}
