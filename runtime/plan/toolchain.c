#include "toolchain.h"
#include "../base/check.h"
#include "user_tables.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------- functions for contexts */

static void toolchain_close(struct toolchain *t)
{
    if (!t)
        return;
    gen_destroy(t->generator);
    nvrtc_close(t->nvrtc);
    stores_close(t->stores);
    cache_close(t->cache);
    pthread_mutex_destroy(&t->lock);
    free(t->template_dir);
    free(t->table);
    free(t);
}

/* Reads whether compiling is allowed. A value of the environment that is not valid is refused. */
static xq_status read_no_compile(const xq_context_options *options, const char **no_compile, error *err)
{
    const char *named = getenv("XQ_NO_COMPILE");
    if (!check_range("no_compile", options->no_compile, 0, 1, err))
        return err->status;
    if (named && *named && strcmp(named, "0") != 0 && strcmp(named, "1") != 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "XQ_NO_COMPILE is '%s'; valid: 0, 1, or empty",
                  named);
        return error_field(err, "XQ_NO_COMPILE");
    }
    *no_compile = options->no_compile                ? "no_compile"
                  : named && strcmp(named, "1") == 0 ? "XQ_NO_COMPILE"
                                                     : NULL;
    return XQ_OK;
}

static xq_status toolchain_open(xq_context *context, const xq_context_options *options, error *err)
{
    struct toolchain *t = context->toolchain = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    atomic_flag_clear(&t->told_target);
    atomic_flag_clear(&t->told_unlisted);
    pthread_mutex_init(&t->lock, NULL);
    t->template_dir = options->template_dir ? strdup(options->template_dir) : NULL;
    if (read_no_compile(options, &t->no_compile, err) != XQ_OK)
        return err->status;
    t->stores = stores_open(options->kernels, &context->log);
    t->cache = cache_open(options->cache_dir, &context->log);
    if (!t->stores || !t->cache || (options->template_dir && !t->template_dir))
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    return XQ_OK;
}

static int toolchain_nvrtc(xq_context *context)
{
    error missing = ERROR_INIT;
    const nvrtc *library = NULL;
    int version = context_nvrtc(context, &library, &missing) == XQ_OK ? nvrtc_version(library) : 0;
    error_clear(&missing); /* a missing NVRTC is an answer here, and not a failure */
    return version;
}

static const struct toolchain_ops ops = {toolchain_open, toolchain_close, toolchain_nvrtc};
const struct toolchain_ops *const context_toolchain = &ops;

/* ------------------------------------------------------- generator, NVRTC */

/* Locks the generator, and opens it at its first use. unlock_generator follows, whatever the result. */
static xq_status lock_generator(xq_context *context, error *err)
{
    const device_properties *p = &context->device->properties;
    const gen_arch arch = {.name = context->arch,
                           .shared_bytes = p->shared_bytes_per_block,
                           .shared_bytes_sm = p->shared_bytes_per_sm,
                           .threads_sm = p->max_threads_per_sm,
                           .registers_sm = p->registers_per_sm,
                           .gpu = p->name,
                           .multiprocessors = p->sm_count};
    struct toolchain *t = context->toolchain;
    pthread_mutex_lock(&t->lock);
    if (t->generator)
        return XQ_OK;
    gen *g = NULL;
    if (gen_create_for(t->template_dir, &arch, &g, err) == XQ_OK &&
        (t->no_tables ? gen_ignore_tables(g, err) : user_tables_add(g, t->table, err)) == XQ_OK)
        t->generator = g;
    else
        gen_destroy(g);
    return err->status;
}

/* Returns the next warning of the generator, on the heap; NULL: there is none. */
static char *take_note(gen *g)
{
    error ignored = ERROR_INIT; /* a warning for which memory ran out is dropped */
    char *note = NULL;
    if (gen_take_note(g, &note, &ignored) != XQ_OK || !*note) {
        error_clear(&ignored);
        free(note);
        return NULL;
    }
    return note;
}

/* Unlocks the generator, and then passes its messages about the device to the log: a log's callback may
 * call back. */
static void unlock_generator(xq_context *context)
{
    gen *g = context->toolchain->generator;
    const char *tuned_as = g ? gen_tuned_as(g) : context->arch;
    enum { MOST_NOTES = 16 };
    char *notes[MOST_NOTES];
    int count = 0;
    while (g && count < MOST_NOTES && (notes[count] = take_note(g)))
        count++;
    pthread_mutex_unlock(&context->toolchain->lock);
    for (int i = 0; i < count; i++) {
        log_message(&context->log, XQ_LOG_WARNING, "%s", notes[i]);
        free(notes[i]);
    }
    if (strcmp(tuned_as, context->arch) != 0 &&
        !atomic_flag_test_and_set(&context->toolchain->told_unlisted))
        log_message(&context->log, XQ_LOG_WARNING,
                    "%s is %s, which this version of xq does not know. The driver states its resources, "
                    "and kernels are tuned as for %s",
                    context->device->properties.name, context->arch, tuned_as);
}

xq_status context_generator(xq_context *context, const gen **out, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        *out = context->toolchain->generator;
    unlock_generator(context);
    return err->status;
}

xq_status context_nvrtc(xq_context *context, const nvrtc **out, error *err)
{
    pthread_mutex_lock(&context->toolchain->lock);
    if (context->toolchain->nvrtc ||
        nvrtc_open_for(context->device->properties.driver, &context->toolchain->nvrtc, err) == XQ_OK)
        *out = context->toolchain->nvrtc;
    pthread_mutex_unlock(&context->toolchain->lock);
    return err->status;
}

xq_status context_target(xq_context *context, const char *arch, kernel_target *out, error *err)
{
    const device_properties *p = &context->device->properties;
    const nvrtc *library = NULL;
    if (context_nvrtc(context, &library, err) != XQ_OK ||
        target_choose(p, arch, library, out, err) != XQ_OK)
        return err->status;
    if (out->older_nvrtc && !atomic_flag_test_and_set(&context->toolchain->told_target))
        log_message(&context->log, XQ_LOG_WARNING,
                    "%s is %s, which NVRTC %d.%d does not know. Kernels are PTX for %s, which the driver "
                    "compiles when it loads them; a newer CUDA toolkit compiles for %s",
                    p->name, arch, nvrtc_version(library) / 1000, nvrtc_version(library) % 1000 / 10,
                    out->arch, arch);
    return XQ_OK;
}

xq_status context_render(xq_context *context, const char *completed_json, const char *family,
                         gen_kernel *out, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_render(context->toolchain->generator, completed_json, family, out, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_space(xq_context *context, const char *completed_json, const char *family, char **json,
                        error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_space(context->toolchain->generator, completed_json, family, json, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_complete_with(xq_context *context, const char *spec_json, gen_completion how,
                                char **completed, error *err)
{
    how.arch = context->arch;
    if (lock_generator(context, err) == XQ_OK)
        gen_complete_with(context->toolchain->generator, spec_json, &how, completed, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_complete(xq_context *context, const char *spec_json, char **completed, error *err)
{
    return context_complete_with(context, spec_json, (gen_completion){0}, completed, err);
}

xq_status context_sizes(xq_context *context, const char *completed_json, const char *family,
                        const gen_size *largest, int most, char **json, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_sizes(context->toolchain->generator, completed_json, family, largest, most, json, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_list_tables(xq_context *context, char **json, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_list_tables(context->toolchain->generator, context->arch, json, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_add_table(xq_context *context, const char *path, error *err)
{
    context->toolchain->table = strdup(path);
    return context->toolchain->table ? XQ_OK : error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
}

void context_ignore_tables(xq_context *context)
{
    context->toolchain->no_tables = true;
}

xq_status context_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **out, error *err)
{
    const gen_overrides overrides = {.spec_json = spec_json, .overrides_json = overrides_json};
    if (lock_generator(context, err) == XQ_OK)
        gen_override(context->toolchain->generator, &overrides, out, err);
    unlock_generator(context);
    return err->status;
}
