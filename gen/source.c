#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LARGEST_FILE = 4 << 20 };

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct embed_file *)a)->name, ((const struct embed_file *)b)->name);
}

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory reading templates");
}

/* Reports that the caller's folder lacks something, or cannot be read. */
static xq_status refuse_folder(const char *directory, const char *why, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "template_dir: %s: %s", directory, why);
    return error_field(err, "template_dir");
}

static char *read_text(const char *path, size_t *size, error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        refuse_folder(path, strerror(errno), err);
        return NULL;
    }
    char *text = malloc(LARGEST_FILE + 1);
    if (!text) {
        out_of_memory(err);
        fclose(file);
        return NULL;
    }
    *size = fread(text, 1, LARGEST_FILE + 1, file);
    if (ferror(file))
        error_set(err, XQ_ERROR_IO, "file", "%s: cannot be read", path);
    else if (*size > LARGEST_FILE)
        error_set(err, XQ_ERROR_IO, "file", "%s: larger than %d MiB", path, LARGEST_FILE >> 20);
    fclose(file);
    if (err->status != XQ_OK) {
        free(text);
        return NULL;
    }
    text[*size] = 0;
    char *fitted = realloc(text, *size + 1);
    // cppcheck-suppress memleak
    return fitted ? fitted : text;
}

static xq_status keep(source *s, char *memory, error *err)
{
    char **grown = memory ? realloc(s->owned, (s->owned_count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(memory);
        return out_of_memory(err);
    }
    s->owned = grown;
    s->owned[s->owned_count++] = memory;
    return XQ_OK;
}

/* Adds or replaces a file. `s->files` is not sorted until all files are in. */
static xq_status put(source *s, const char *name, const char *text, size_t size, error *err)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->files[i].name, name)) {
            s->files[i].text = text;
            s->files[i].size = size;
            return XQ_OK;
        }
    struct embed_file *grown = realloc(s->files, (s->count + 1) * sizeof *grown);
    if (!grown)
        return out_of_memory(err);
    s->files = grown;
    s->files[s->count++] = (struct embed_file){name, text, size};
    return XQ_OK;
}

static int ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), e = strlen(ending);
    return n > e && !strcmp(name + n - e, ending);
}

static const char *home_of(const char *name, const char *fallback)
{
    if (ends_with(name, ".cu.lt") || ends_with(name, ".spec.lua"))
        return "templates";
    return ends_with(name, ".lua") ? "gen" : fallback;
}

static xq_status read_file(source *s, const char *directory, const char *home, const char *entry,
                           error *err)
{
    char path[4096], name[512];
    if (snprintf(path, sizeof path, "%s/%s", directory, entry) >= (int)sizeof path ||
        snprintf(name, sizeof name, "%s/%s", home, entry) >= (int)sizeof name)
        return refuse_folder(directory, "the path is too long", err);
    struct stat info;
    if (stat(path, &info) != 0)
        return refuse_folder(path, strerror(errno), err);
    if (S_ISDIR(info.st_mode) && !home_of(entry, NULL))
        return XQ_OK; /* a folder in lib/ */
    if (!S_ISREG(info.st_mode))
        return refuse_folder(path, "is no regular file", err);
    size_t size;
    char *text = read_text(path, &size, err);
    if (!text || keep(s, text, err) != XQ_OK)
        return err->status;
    if (!ends_with(entry, ".lua") && memchr(text, 0, size)) /* a C string would end at the NUL */
        return refuse_folder(path, "holds a NUL character, so it is no text", err);
    char *kept_name = strdup(name);
    if (keep(s, kept_name, err) != XQ_OK)
        return err->status;
    return put(s, kept_name, text, size, err);
}

/* Reads those files of the directory that have a place among the sources (home_of). `fallback` is the
 * folder for all other files; where it is NULL, they are not read. */
static xq_status read_directory(source *s, const char *directory, const char *fallback, int required,
                                error *err)
{
    DIR *handle = opendir(directory);
    if (!handle)
        return required || (errno != ENOENT && errno != ENOTDIR)
                   ? refuse_folder(directory, strerror(errno), err)
                   : XQ_OK;
    struct dirent *entry;
    while (err->status == XQ_OK && (entry = readdir(handle))) {
        const char *home = home_of(entry->d_name, fallback);
        if (entry->d_name[0] != '.' && home)
            read_file(s, directory, home, entry->d_name, err);
    }
    closedir(handle);
    return err->status;
}

/* The generator finds families by their spec.lua, so a template without one would never be read. */
static xq_status check_template(const source *s, const char *directory, const char *name, error *err)
{
    char partner[512];
    size_t stem = strlen(name) - strlen(".cu.lt");
    snprintf(partner, sizeof partner, "%.*s.spec.lua", (int)stem, name);
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->files[i].name, partner) == 0)
            return XQ_OK;
    char path[4608];
    snprintf(path, sizeof path, "%s/%s", directory, strrchr(name, '/') + 1);
    return refuse_folder(path, "is a template without a family: there is no NAME.spec.lua beside it", err);
}

static int is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static xq_status overlay(source *s, const char *directory, error *err)
{
    char templates[4096], lib[4112], modules[4096];
    if (strlen(directory) > 4000)
        return refuse_folder(directory, "the path is too long", err);
    snprintf(templates, sizeof templates, "%s/templates", directory);
    snprintf(modules, sizeof modules, "%s/gen", directory);
    if (!is_directory(templates))
        snprintf(templates, sizeof templates, "%s", directory);
    snprintf(lib, sizeof lib, "%s/lib", templates);
    if (read_directory(s, templates, NULL, 1, err) == XQ_OK &&
        read_directory(s, lib, "templates/lib", 0, err) == XQ_OK)
        read_directory(s, modules, NULL, 0, err);
    for (size_t i = 0; i < s->count && err->status == XQ_OK; i++)
        if (ends_with(s->files[i].name, ".cu.lt"))
            check_template(s, templates, s->files[i].name, err);
    if (err->status == XQ_OK && s->owned_count == 0)
        refuse_folder(
            directory,
            "holds no template; valid: a folder with NAME.cu.lt, NAME.spec.lua, or headers in lib/", err);
    return err->status;
}

xq_status source_open(source *s, const char *directory, error *err)
{
    memset(s, 0, sizeof *s);
    for (const struct embed_file *f = embed_files; f->name && err->status == XQ_OK; f++)
        put(s, f->name, f->text, f->size, err);
    if (err->status == XQ_OK && directory)
        overlay(s, directory, err);
    if (err->status == XQ_OK && s->count)
        qsort(s->files, s->count, sizeof *s->files, by_name);
    return err->status;
}

void source_close(source *s)
{
    for (size_t i = 0; i < s->owned_count; i++)
        free(s->owned[i]);
    free(s->owned);
    free(s->files);
    memset(s, 0, sizeof *s);
}

const struct embed_file *source_find(const source *s, const char *name)
{
    struct embed_file key = {name, NULL, 0};
    return s->count ? bsearch(&key, s->files, s->count, sizeof *s->files, by_name) : NULL;
}

void source_template(const source *s, const char *family, char *name, size_t size)
{
    const char *last = strrchr(family, '_');
    snprintf(name, size, "templates/%.100s.cu.lt", family);
    if (!source_find(s, name) && last)
        snprintf(name, size, "templates/%.*s.cu.lt", (int)(last - family), family);
}

void source_line(const char *text, int number, char *line, size_t size)
{
    for (int n = 1; n < number && *text; text++)
        n += *text == '\n';
    text += strspn(text, " \t");
    size_t length = strcspn(text, "\r\n");
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    snprintf(line, size, "%.*s", (int)(length < size ? length : size - 1), text);
}
