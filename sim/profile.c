#include "profile.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- tallies */

void sim_tally_difference(sim_tally *to, const device_counters *before, const device_counters *after)
{
    to->read_sectors += after->read_sectors - before->read_sectors;
    to->write_sectors += after->write_sectors - before->write_sectors;
    to->shared_passes += after->shared_passes - before->shared_passes;
    to->shared_conflicts += after->shared_conflicts - before->shared_conflicts;
}

void sim_tally_add(sim_tally *to, const sim_tally *from, int count)
{
    for (int i = 0; i < count; i++) {
        to[i].issued += from[i].issued;
        to[i].read_sectors += from[i].read_sectors;
        to[i].write_sectors += from[i].write_sectors;
        to[i].shared_passes += from[i].shared_passes;
        to[i].shared_conflicts += from[i].shared_conflicts;
    }
}

/* ---------------------------------------------------------------- kernels */

/* A kernel, with copies of what its program says of it. */
struct sim_profile_kernel {
    struct sim_profile_kernel *next;
    char *name;
    int count; /* instructions */
    sim_origin *origins;
    uint8_t *classes;
    sim_tally *tallies;
    char *texts; /* memory of the name and of the texts of the origins */
};

static bool is_same_text(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

static bool is_same(const struct sim_profile_kernel *kernel, const sim_program *p)
{
    if (kernel->count != p->count || !is_same_text(kernel->name, p->name))
        return false;
    for (int i = 0; i < p->count; i++) {
        const sim_origin *a = &kernel->origins[i], *b = &p->origins[i];
        if (a->line != b->line || a->source_line != b->source_line || a->caller_line != b->caller_line ||
            kernel->classes[i] != p->code[i].class || !is_same_text(a->text, b->text) ||
            !is_same_text(a->file, b->file) || !is_same_text(a->caller_file, b->caller_file))
            return false;
    }
    return true;
}

static void kernel_free(struct sim_profile_kernel *kernel)
{
    free(kernel->origins);
    free(kernel->classes);
    free(kernel->tallies);
    free(kernel->texts);
    free(kernel);
}

/* Copies a text to *room, which moves behind it. */
static char *copy_text(char **room, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = memcpy(*room, text, size);
    *room += size;
    return copy;
}

static bool copy_texts(struct sim_profile_kernel *kernel, const sim_program *p)
{
    size_t size = strlen(p->name) + 1;
    for (int i = 0; i < p->count; i++)
        size +=
            strlen(p->origins[i].text) + strlen(p->origins[i].file) + strlen(p->origins[i].caller_file) + 3;
    char *room = kernel->texts = malloc(size);
    if (!room)
        return false;
    kernel->name = copy_text(&room, p->name);
    for (int i = 0; i < p->count; i++) {
        kernel->origins[i] = p->origins[i];
        kernel->origins[i].text = copy_text(&room, p->origins[i].text);
        kernel->origins[i].file = copy_text(&room, p->origins[i].file);
        kernel->origins[i].caller_file = copy_text(&room, p->origins[i].caller_file);
        kernel->classes[i] = p->code[i].class;
    }
    return true;
}

static struct sim_profile_kernel *kernel_new(const sim_program *p)
{
    const size_t count = (size_t)p->count;
    struct sim_profile_kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel)
        return NULL;
    kernel->count = p->count;
    kernel->origins = calloc(count, sizeof *kernel->origins);
    kernel->classes = calloc(count, sizeof *kernel->classes);
    kernel->tallies = calloc(count, sizeof *kernel->tallies);
    if (kernel->origins && kernel->classes && kernel->tallies && copy_texts(kernel, p))
        return kernel;
    kernel_free(kernel);
    return NULL;
}

/* ---------------------------------------------------------------- profiles */

xq_status sim_profile_find(sim_profile *profile, const sim_program *p, sim_tally **tallies, error *err)
{
    struct sim_profile_kernel **at = &profile->first;
    while (*at && !is_same(*at, p))
        at = &(*at)->next;
    if (!*at && !(*at = kernel_new(p)))
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory profiling %s", p->name);
    *tallies = (*at)->tallies;
    return XQ_OK;
}

static void visit_kernel(const struct sim_profile_kernel *kernel, device_profile_visit *visit, void *user)
{
    for (int i = 0; i < kernel->count; i++) {
        const sim_origin *origin = &kernel->origins[i];
        const sim_tally *tally = &kernel->tallies[i];
        const device_profile_entry entry = {.kernel = kernel->name,
                                            .ptx = origin->text,
                                            .ptx_line = origin->line,
                                            .file = origin->file,
                                            .line = origin->source_line,
                                            .caller_file = origin->caller_file,
                                            .caller_line = origin->caller_line,
                                            .kind = kernel->classes[i],
                                            .issued = tally->issued,
                                            .read_sectors = tally->read_sectors,
                                            .write_sectors = tally->write_sectors,
                                            .shared_passes = tally->shared_passes,
                                            .shared_conflicts = tally->shared_conflicts};
        if (tally->issued && kernel->classes[i] != SIM_UNCOUNTED)
            visit(user, &entry);
    }
}

void sim_profile_visit(const sim_profile *profile, device_profile_visit *visit, void *user)
{
    for (const struct sim_profile_kernel *kernel = profile->first; kernel; kernel = kernel->next)
        visit_kernel(kernel, visit, user);
}

void sim_profile_clear(sim_profile *profile)
{
    while (profile->first) {
        struct sim_profile_kernel *next = profile->first->next;
        kernel_free(profile->first);
        profile->first = next;
    }
}
