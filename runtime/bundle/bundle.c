#include "bundle.h"
#include "../base/check.h"
#include "../device/arch.h"
#include "../launch/plan_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- choosing */

/* Rates how well a device runs code that was compiled for `target`: higher is better; 0: not at all. */
static int fitness(const device_properties *p, const char *target)
{
    enum { PTX = 1, MACHINE_CODE = 1 << 16 };
    int rank = 2 * arch_number(target) + (target[strlen(target) - 1] == 'a');
    if (strncmp(target, "sm_", 3) == 0 && arch_runs_code(p->arch, target))
        return MACHINE_CODE + rank;
    return arch_runs_ptx(p->arch, target) ? PTX + rank : 0;
}

/* Returns the plan's best image among those with a fitness below `below`; NULL: none is left. */
static const xq_bundle_image *next_image(const device_properties *p, const char *name, int below)
{
    const xq_bundle_image *best = NULL;
    for (const xq_bundle_image *i = xq_bundle_images; i->plan; i++) {
        int fit = strcmp(i->plan, name) == 0 ? fitness(p, i->target) : 0;
        if (fit > (best ? fitness(p, best->target) : 0) && fit < below)
            best = i;
    }
    return best;
}

/* Appends to a text of `size` bytes; words that do not fit are left out. */
static void append_word(char *text, size_t size, const char *word)
{
    size_t length = strlen(text);
    snprintf(text + length, size - length, "%s%s", length ? ", " : "", word);
}

static xq_status unknown_name(const char *name, error *err)
{
    char names[512] = "";
    for (const xq_bundle_image *i = xq_bundle_images; i->plan; i++)
        if (i == xq_bundle_images || strcmp(i->plan, i[-1].plan) != 0)
            append_word(names, sizeof names, i->plan);
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "the bundle has no plan '%s'; valid: %s", name, names);
    return error_field(err, "name");
}

/* Reports that no image suits the device. `why` is the failure of the last image that was tried, if any. */
static xq_status no_image(const device_properties *p, const char *name, const error *why, error *err)
{
    char targets[256] = "";
    for (const xq_bundle_image *i = xq_bundle_images; i->plan; i++)
        if (strcmp(i->plan, name) == 0)
            append_word(targets, sizeof targets, i->target);
    if (!*targets)
        return unknown_name(name, err);
    return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                     "plan '%s' is compiled for %s, and %s (%s) runs none of these%s%s", name, targets,
                     p->name, p->arch, why->status == XQ_OK ? "" : ": ", why->message);
}

/* ----------------------------------------------------------------- reading */

static xq_status cannot_read(const char *path, int why, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot read %s: %s", path, strerror(why));
    return error_at(err, path, 0);
}

/* Reads the image's file, all `bytes` bytes of it; the caller frees them. */
static unsigned char *read_file(const char *folder, const xq_bundle_image *image, error *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, image->file) >= (int)sizeof path) {
        cannot_read(image->file, ENAMETOOLONG, err);
        return NULL;
    }
    unsigned char *data = (unsigned char *)malloc(image->bytes + 1);
    FILE *f = data ? fopen(path, "rb") : NULL;
    int why = errno;
    size_t bytes = f ? fread(data, 1, image->bytes + 1, f) : 0;
    if (!data)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    else if (!f || ferror(f))
        cannot_read(path, f ? errno : why, err);
    else if (bytes != image->bytes)
        error_set(err, XQ_ERROR_FORMAT, "file", "%s is not the bundle's file, which has %zu bytes", path,
                  image->bytes);
    if (f)
        fclose(f);
    if (err->status == XQ_OK)
        return data;
    free(data);
    return NULL;
}

/* Returns the image's bytes, which the caller frees. */
static unsigned char *bytes_of(const char *folder, const xq_bundle_image *image, error *err)
{
    if (!image->data)
        return read_file(folder, image, err);
    unsigned char *copy = (unsigned char *)malloc(image->bytes);
    if (!copy) {
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
        return NULL;
    }
    return (unsigned char *)memcpy(copy, image->data, image->bytes);
}

static bool check_folder(const char *folder, error *err)
{
    bool compiled_in = xq_bundle_images[0].data;
    if (compiled_in == !folder)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              compiled_in ? "folder: the images are compiled in; valid: NULL"
                          : "folder must not be NULL: the images are files in it");
    error_field(err, "folder");
    return false;
}

/* ------------------------------------------------------------------ public */

static xq_status load_best(xq_context *context, const char *folder, const char *name, xq_plan **plan,
                           error *err)
{
    const device_properties *p = &context->device->properties;
    error why = ERROR_INIT;
    int below = 1 << 30;
    for (const xq_bundle_image *i; (i = next_image(p, name, below)) != NULL;) {
        unsigned char *bytes = bytes_of(folder, i, err);
        if (!bytes)
            return err->status;
        below = fitness(p, i->target);
        error_clear(&why);
        if (plan_image_check(bytes, i->bytes, &why) != XQ_OK)
            free(bytes);
        else
            plan_from_image(context, bytes, i->bytes, plan, &why);
        if (why.status == XQ_ERROR_UNSUPPORTED)
            continue;
        if (why.status != XQ_OK)
            error_within(&why, "plan '%s' for %s", name, i->target);
        *err = why;
        return err->status;
    }
    no_image(p, name, &why, err);
    error_clear(&why);
    return err->status;
}

xq_status xq_bundle_load(xq_context *context, const char *folder, const char *name, xq_plan **plan)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_plan *opened = NULL;
    if (!check_not_null("name", name, &err) || !check_not_null("plan", plan, &err) ||
        !check_folder(folder, &err) || load_best(context, folder, name, &opened, &err) != XQ_OK)
        return context_fail(context, &err);
    *plan = opened;
    return XQ_OK;
}
