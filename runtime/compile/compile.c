#include "compile.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything that determines the compiler's output for a source. `arch` is NULL if it is left open. */
struct request {
    const char *family, *source, *arch;
    char name[128], arch_option[64];
    const char *options[8];
    int option_count;
    int header_count;
    const char *const *header_names, *const *header_texts;
};

/* This text is part of the keys. It names the form of the compiled code, so that code of another form is
 * not found: earlier cubins held the working directory. */
static const char form[] = "names below /xq";
static const char *const always[] = {"-std=c++17", "-lineinfo", "-default-device"};
static const char for_cubins[] = "--ptxas-options=-v"; /* registers and spills, in the log */
enum { ALWAYS = sizeof always / sizeof always[0] };

/* Whether code for this architecture is a cubin. */
static bool is_real(const char *arch)
{
    return strncmp(arch, "sm_", 3) == 0;
}

static void fill_request(struct request *r, const gen *g, const char *family, const char *source,
                         const char *arch)
{
    *r = (struct request){.family = family, .source = source, .arch = arch};
    snprintf(r->name, sizeof r->name, "%s.cu", family);
    snprintf(r->arch_option, sizeof r->arch_option, "--gpu-architecture=%s", arch ? arch : "");
    for (int i = 0; i < ALWAYS; i++)
        r->options[r->option_count++] = always[i];
    r->options[r->option_count++] = r->arch_option;
    if (arch && is_real(arch))
        r->options[r->option_count++] = for_cubins;
    gen_headers(g, &r->header_count, &r->header_names, &r->header_texts);
}

/* The text of options.txt: the parts of the key other than source and headers. */
static char *options_text(const struct request *r, const nvrtc *library)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fprintf(f, "name %s\narch %s\nnvrtc %d.%d\nxq %s\n", r->family, r->arch, nvrtc_version(library) / 1000,
            nvrtc_version(library) % 1000 / 10, xq_version());
    for (int i = 0; i < r->option_count; i++)
        fprintf(f, "%s\n", r->options[i]);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Skips the comment at the beginning of a source, which says which spec it was rendered for. The compiled
 * text comes after it, with a line number of its own. So specs share an entry if they differ only in values
 * that the kernel does not depend on. */
static const char *after_banner(const char *source)
{
    const char *rest = source;
    while (strncmp(rest, "//", 2) == 0) {
        rest += strcspn(rest, "\n");
        rest += *rest == '\n';
    }
    return strncmp(rest, "#line", 5) == 0 ? rest : source;
}

/* Hashes what is compiled. Architecture and NVRTC version are not in the hash, because the key names
 * them. */
static xq_status make_hash(const struct request *r, cache_hash *hash, error *err)
{
    int count = 0;
    const char *source = after_banner(r->source);
    const char *const texts[] = {source,    r->family, xq_version(), always[0],
                                 always[1], always[2], for_cubins,   form};
    enum { TEXTS = sizeof texts / sizeof texts[0] };
    static_assert(ALWAYS == 3, "all of them are in the hash");
    cache_field *fields = calloc((size_t)(TEXTS + 2 * r->header_count), sizeof *fields);
    if (!fields)
        return error_set(err, XQ_ERROR_MEMORY, "cache", "out of memory");
    for (int i = 0; i < TEXTS; i++)
        fields[count++] = (cache_field){texts[i], strlen(texts[i])};
    for (int i = 0; i < r->header_count; i++) {
        fields[count++] = (cache_field){r->header_names[i], strlen(r->header_names[i])};
        fields[count++] = (cache_field){r->header_texts[i], strlen(r->header_texts[i])};
    }
    *hash = cache_hash_of(fields, count);
    free(fields);
    return XQ_OK;
}

static void set_resources(compiled *c)
{
    if (nvrtc_resource_report(c->log, &c->resources, 1) == 0)
        c->resources = (nvrtc_resources){0};
}

static char *take(cache_entry *entry, enum cache_part part)
{
    char *data = entry->parts[part].data;
    entry->parts[part].data = NULL;
    return data;
}

/* Takes the parts of a cache entry; false if it lacks a part that is needed. */
static bool take_entry(cache_entry *entry, bool needs_cubin, compiled *out)
{
    bool whole = true;
    for (int i = 0; i < CACHE_PARTS; i++)
        whole = whole && (entry->parts[i].data || (i == CACHE_CUBIN && !needs_cubin));
    if (whole) {
        out->cubin_bytes = entry->parts[CACHE_CUBIN].bytes;
        out->source = take(entry, CACHE_SOURCE);
        out->options = take(entry, CACHE_OPTIONS);
        out->ptx = take(entry, CACHE_PTX);
        out->log = take(entry, CACHE_LOG);
        out->cubin = take(entry, CACHE_CUBIN);
        out->cached = true;
    }
    cache_entry_free(entry);
    return whole;
}

static xq_status run_compiler(const nvrtc *library, const struct request *r, compiled *out, error *err)
{
    nvrtc_input input = {
        .name = r->name,
        .source = r->source,
        .header_count = r->header_count,
        .header_names = r->header_names,
        .header_texts = r->header_texts,
        .option_count = r->option_count,
        .options = r->options,
    };
    nvrtc_output result;
    if (nvrtc_compile(library, &input, &result, err) != XQ_OK)
        return err->status;
    out->ptx = result.ptx;
    out->cubin = result.cubin;
    out->cubin_bytes = result.cubin_bytes;
    out->log = result.log;
    return XQ_OK;
}

/* Makes an entry, which borrows the texts and code of `from`. */
static cache_entry entry_of(const compiled *from)
{
    cache_entry entry = {0};
    char *const texts[CACHE_PARTS] = {[CACHE_SOURCE] = from->source,
                                      [CACHE_OPTIONS] = from->options,
                                      [CACHE_LOG] = from->log,
                                      [CACHE_PTX] = from->ptx};
    for (int i = 0; i < CACHE_PARTS; i++) {
        entry.parts[i].data = texts[i];
        entry.parts[i].bytes = texts[i] ? strlen(texts[i]) : 0;
    }
    entry.parts[CACHE_CUBIN].data = from->cubin;
    entry.parts[CACHE_CUBIN].bytes = from->cubin_bytes;
    return entry;
}

xq_status compiled_put(const compiled *c, cache *into, bool *was_there, error *err)
{
    cache_entry entry = entry_of(c);
    return cache_put(into, c->key.name, &entry, was_there, err);
}

static xq_status compile(const nvrtc *library, const struct request *r, cache *c, compiled *out, error *err)
{
    if (c)
        log_message(cache_log(c), XQ_LOG_DEBUG, "kernel %s: compiling for %s", r->family, r->arch);
    out->source = strdup(r->source);
    out->options = options_text(r, library);
    if (!out->source || !out->options)
        return error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
    if (run_compiler(library, r, out, err) == XQ_OK && c) {
        cache_entry entry = entry_of(out);
        cache_store(c, &out->key, &entry);
    }
    return err->status;
}

xq_status compile_source(const nvrtc *library, cache *c, const gen *g, const char *family,
                         const char *source, const char *arch, compiled *out, error *err)
{
    struct request r;
    compiled result = {0};
    cache_entry entry;
    cache_hash hash;
    fill_request(&r, g, family, source, arch);
    if (make_hash(&r, &hash, err) != XQ_OK)
        return err->status;
    result.key = cache_key_of(&hash, arch, nvrtc_version(library));
    bool found = c && cache_load(c, &result.key, &entry) && take_entry(&entry, is_real(arch), &result);
    if (!found && compile(library, &r, c, &result, err) != XQ_OK) {
        compiled_free(&result);
        return err->status;
    }
    set_resources(&result);
    *out = result;
    return XQ_OK;
}

xq_status compile_find(cache *c, const gen *g, const char *family, const char *source, cache_rank *rank,
                       const void *user, bool *found, cache_arch *arch, compiled *out, error *err)
{
    struct request r;
    compiled result = {0};
    cache_entry entry;
    cache_hash hash;
    fill_request(&r, g, family, source, NULL);
    if (make_hash(&r, &hash, err) != XQ_OK)
        return err->status;
    *found = cache_load_best(c, &hash, rank, user, &result.key, &entry);
    if (!*found)
        return XQ_OK;
    *arch = cache_key_arch(result.key.name);
    *found = take_entry(&entry, is_real(arch->text), &result);
    if (*found) {
        set_resources(&result);
        *out = result;
    }
    return XQ_OK;
}

const void *compiled_image(const compiled *c, size_t *bytes)
{
    *bytes = c->cubin ? c->cubin_bytes : strlen(c->ptx);
    return c->cubin ? c->cubin : c->ptx;
}

void compiled_free(compiled *c)
{
    free(c->ptx);
    free(c->cubin);
    free(c->log);
    free(c->source);
    free(c->options);
    *c = (compiled){0};
}
