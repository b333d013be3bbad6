/* Profiles of rows: adding up the device's counts by line, and JSON. */
#include "compare_profile.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- reading */

struct reader {
    struct compare_profile *profile;
    bool out_of_memory;
};

/* The kernel of this name. There are few, and the last one is the usual one. */
static struct compare_profile_kernel *kernel_of(struct compare_profile *p, const char *name)
{
    for (int i = p->kernel_count; i-- > 0;)
        if (strcmp(p->kernels[i].name, name) == 0)
            return &p->kernels[i];
    struct compare_profile_kernel *grown =
        realloc(p->kernels, sizeof *grown * ((size_t)p->kernel_count + 1));
    char *copy = strdup(name);
    if (grown)
        p->kernels = grown;
    if (!grown || !copy) {
        free(copy);
        return NULL;
    }
    grown[p->kernel_count] = (struct compare_profile_kernel){.name = copy};
    return &grown[p->kernel_count++];
}

static struct compare_profile_line *add_line(struct compare_profile *p, const char *kernel,
                                             const device_profile_entry *e)
{
    if (p->line_count == p->line_capacity) {
        const int capacity = p->line_capacity ? 2 * p->line_capacity : 256;
        struct compare_profile_line *grown = realloc(p->lines, sizeof *grown * (size_t)capacity);
        if (!grown)
            return NULL;
        p->lines = grown;
        p->line_capacity = capacity;
    }
    struct compare_profile_line *line = &p->lines[p->line_count++];
    *line = (struct compare_profile_line){.kernel = kernel,
                                          .place = {strdup(e->file), e->line},
                                          .caller = {strdup(e->caller_file), e->caller_line}};
    return line->place.file && line->caller.file ? line : NULL;
}

static bool is_at(const struct compare_place *place, const char *file, int line)
{
    return place->line == line && strcmp(place->file, file) == 0;
}

/* `kernel` is the name that the profile keeps. Neighbours in the PTX are mostly of one line. */
static struct compare_profile_line *line_of(struct compare_profile *p, const char *kernel,
                                            const device_profile_entry *e)
{
    for (int i = p->line_count; i-- > 0;) {
        struct compare_profile_line *line = &p->lines[i];
        if (is_at(&line->place, e->file, e->line) && line->kernel == kernel &&
            is_at(&line->caller, e->caller_file, e->caller_line))
            return line;
    }
    return add_line(p, kernel, e);
}

static void read_entry(void *user, const device_profile_entry *e)
{
    struct reader *reader = user;
    if (reader->out_of_memory) /* a line may be half made */
        return;
    struct compare_profile *p = reader->profile;
    struct compare_profile_kernel *kernel = kernel_of(p, e->kernel);
    struct compare_profile_line *line = kernel ? line_of(p, kernel->name, e) : NULL;
    if (!line) {
        reader->out_of_memory = true;
        return;
    }
    kernel->issued += e->issued;
    line->issued += e->issued;
    line->by_class[e->kind] += e->issued;
    line->read_sectors += e->read_sectors;
    line->write_sectors += e->write_sectors;
    line->shared_passes += e->shared_passes;
    line->shared_conflicts += e->shared_conflicts;
}

/* ------------------------------------------------------------------ sorting */

static int by_issued(uint64_t a, uint64_t b)
{
    return (a < b) - (a > b);
}

static int compare_kernels(const void *x, const void *y)
{
    const struct compare_profile_kernel *a = x, *b = y;
    return a->issued != b->issued ? by_issued(a->issued, b->issued) : strcmp(a->name, b->name);
}

static int compare_places(const struct compare_place *a, const struct compare_place *b)
{
    const int files = strcmp(a->file, b->file);
    return files ? files : (a->line > b->line) - (a->line < b->line);
}

/* The lines of a kernel stand together, the hottest first. */
static int compare_lines(const void *x, const void *y)
{
    const struct compare_profile_line *a = x, *b = y;
    if (a->kernel != b->kernel)
        return strcmp(a->kernel, b->kernel);
    if (a->issued != b->issued)
        return by_issued(a->issued, b->issued);
    const int places = compare_places(&a->place, &b->place);
    return places ? places : compare_places(&a->caller, &b->caller);
}

static void sort(struct compare_profile *p)
{
    qsort(p->kernels, (size_t)p->kernel_count, sizeof *p->kernels, compare_kernels);
    qsort(p->lines, (size_t)p->line_count, sizeof *p->lines, compare_lines);
    for (int k = 0; k < p->kernel_count; k++) {
        struct compare_profile_kernel *kernel = &p->kernels[k];
        for (int i = p->line_count; i-- > 0;)
            if (p->lines[i].kernel == kernel->name) {
                kernel->first = i;
                kernel->count++;
            }
    }
}

/* ----------------------------------------------------------------- profiles */

static void profile_free(struct compare_profile *p)
{
    for (int i = 0; i < p->kernel_count; i++)
        free(p->kernels[i].name);
    for (int i = 0; i < p->line_count; i++) {
        free(p->lines[i].place.file);
        free(p->lines[i].caller.file);
    }
    free(p->kernels);
    free(p->lines);
    free(p);
}

xq_status compare_profile_read(struct compare_profiles *profiles, device *d, double tokens,
                               const device_counters *counters, const struct compare_profile **out,
                               error *err)
{
    struct reader reader = {.profile = calloc(1, sizeof *reader.profile)};
    if (!reader.profile)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    reader.profile->tokens = tokens;
    reader.profile->counters = *counters;
    d->ops->profile_read(d, read_entry, &reader, err);
    if (reader.out_of_memory)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    if (err->status != XQ_OK) {
        profile_free(reader.profile);
        return err->status;
    }
    sort(reader.profile);
    reader.profile->next = profiles->first;
    *out = profiles->first = reader.profile;
    return XQ_OK;
}

void compare_profiles_free(struct compare_profiles *profiles)
{
    while (profiles->first) {
        struct compare_profile *next = profiles->first->next;
        profile_free(profiles->first);
        profiles->first = next;
    }
}

/* --------------------------------------------------------------------- JSON */

static const char *const class_names[INSTRUCTION_CLASSES] = {
    [INSTRUCTION_INTEGER] = "integer",
    [INSTRUCTION_FLOAT] = "float",
    [INSTRUCTION_HALF] = "half",
    [INSTRUCTION_CONVERT] = "convert",
    [INSTRUCTION_SPECIAL] = "special",
    [INSTRUCTION_MATRIX] = "matrix",
    [INSTRUCTION_GLOBAL] = "global",
    [INSTRUCTION_SHARED] = "shared",
    [INSTRUCTION_OTHER_MEMORY] = "other_memory",
    [INSTRUCTION_EXCHANGE] = "exchange",
    [INSTRUCTION_CONTROL] = "control",
    [INSTRUCTION_SYNC] = "sync",
};

/* Adds the classes that have counts. */
static void add_classes(cJSON *o, const uint64_t *by_class)
{
    cJSON *classes = cJSON_AddObjectToObject(o, "by_class");
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        if (by_class[i])
            cJSON_AddNumberToObject(classes, class_names[i], (double)by_class[i]);
}

static void add_memory(cJSON *o, uint64_t read, uint64_t written, uint64_t passes, uint64_t conflicts)
{
    cJSON_AddNumberToObject(o, "read_sectors", (double)read);
    cJSON_AddNumberToObject(o, "write_sectors", (double)written);
    cJSON_AddNumberToObject(o, "shared_passes", (double)passes);
    cJSON_AddNumberToObject(o, "bank_conflicts", (double)conflicts);
}

static cJSON *line_json(const struct compare_profile_line *line, const gen *generator)
{
    char source[256];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kernel", line->kernel);
    cJSON_AddStringToObject(o, "file", line->place.file);
    cJSON_AddNumberToObject(o, "line", line->place.line);
    gen_source_line(generator, line->place.file, line->place.line, source, sizeof source);
    cJSON_AddStringToObject(o, "source", source);
    if (*line->caller.file) {
        cJSON_AddStringToObject(o, "caller_file", line->caller.file);
        cJSON_AddNumberToObject(o, "caller_line", line->caller.line);
    }
    cJSON_AddNumberToObject(o, "instructions", (double)line->issued);
    add_classes(o, line->by_class);
    add_memory(o, line->read_sectors, line->write_sectors, line->shared_passes, line->shared_conflicts);
    return o;
}

cJSON *compare_profile_json(const struct compare_profile *p, const gen *generator)
{
    const device_counters *c = &p->counters;
    uint64_t instructions = 0;
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        instructions += c->instructions[i];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "cached_tokens", p->tokens);
    cJSON_AddNumberToObject(o, "instructions", (double)instructions);
    add_classes(o, c->instructions);
    add_memory(o, c->read_sectors, c->write_sectors, c->shared_passes, c->shared_conflicts);
    cJSON *lines = cJSON_AddArrayToObject(o, "lines");
    for (int k = 0; k < p->kernel_count; k++)
        for (int i = 0; i < p->kernels[k].count; i++)
            cJSON_AddItemToArray(lines, line_json(&p->lines[p->kernels[k].first + i], generator));
    return o;
}
