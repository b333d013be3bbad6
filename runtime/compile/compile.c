#include "compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything that decides what the compiler makes of a source. */
struct request {
    const char *family, *source, *arch;
    char name[128], arch_option[64];
    const char *options[8];
    int option_count;
    int header_count;
    const char *const *header_names, *const *header_texts;
};

static void fill_request(struct request *r, const gen *g, const char *family, const char *source,
                         const char *arch)
{
    *r = (struct request){.family = family, .source = source, .arch = arch};
    snprintf(r->name, sizeof r->name, "%s.cu", family);
    snprintf(r->arch_option, sizeof r->arch_option, "--gpu-architecture=%s", arch);
    r->options[r->option_count++] = "-std=c++17";
    r->options[r->option_count++] = r->arch_option;
    r->options[r->option_count++] = "-lineinfo";
    r->options[r->option_count++] = "-default-device";
    if (strncmp(arch, "sm_", 3) == 0)
        r->options[r->option_count++] = "--ptxas-options=-v"; /* registers and spills, in the log */
    gen_headers(g, &r->header_count, &r->header_names, &r->header_texts);
}

/* The text of options.txt: what is in the key besides source and headers. */
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

/* The comment that a source begins with says which spec it was rendered for. What is compiled comes after
 * it, with a line number of its own: specs that differ in what a kernel does not know share an entry. */
static const char *after_banner(const char *source)
{
    const char *rest = source;
    while (strncmp(rest, "//", 2) == 0) {
        rest += strcspn(rest, "\n");
        rest += *rest == '\n';
    }
    return strncmp(rest, "#line", 5) == 0 ? rest : source;
}

static xq_status make_key(const struct request *r, const char *options, cache_key *key, error *err)
{
    int count = 0;
    const char *source = after_banner(r->source);
    cache_field *fields = calloc((size_t)(2 + 2 * r->header_count), sizeof *fields);
    if (!fields)
        return error_set(err, XQ_ERROR_MEMORY, "cache", "out of memory");
    fields[count++] = (cache_field){source, strlen(source)};
    fields[count++] = (cache_field){options, strlen(options)};
    for (int i = 0; i < r->header_count; i++) {
        fields[count++] = (cache_field){r->header_names[i], strlen(r->header_names[i])};
        fields[count++] = (cache_field){r->header_texts[i], strlen(r->header_texts[i])};
    }
    *key = cache_key_of(fields, count);
    free(fields);
    return XQ_OK;
}

static void set_resources(compiled *c)
{
    if (nvrtc_resource_report(c->log, &c->resources, 1) == 0)
        c->resources = (nvrtc_resources){0};
}

/* Takes what a cache entry holds; false when it lacks what is needed. */
static bool take_entry(cache_entry *entry, bool needs_cubin, compiled *out)
{
    if (!entry->parts[CACHE_PTX].data || !entry->parts[CACHE_LOG].data ||
        (needs_cubin && !entry->parts[CACHE_CUBIN].data)) {
        cache_entry_free(entry);
        return false;
    }
    out->ptx = entry->parts[CACHE_PTX].data;
    out->log = entry->parts[CACHE_LOG].data;
    out->cubin = entry->parts[CACHE_CUBIN].data;
    out->cubin_bytes = entry->parts[CACHE_CUBIN].bytes;
    out->cached = true;
    entry->parts[CACHE_PTX].data = entry->parts[CACHE_LOG].data = entry->parts[CACHE_CUBIN].data = NULL;
    cache_entry_free(entry);
    return true;
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

/* The entry borrows what it is stored from. */
static void store(cache *c, const struct request *r, char *options, const compiled *from)
{
    cache_entry entry = {0};
    entry.parts[CACHE_SOURCE].data = (char *)r->source;
    entry.parts[CACHE_SOURCE].bytes = strlen(r->source);
    entry.parts[CACHE_OPTIONS].data = options;
    entry.parts[CACHE_OPTIONS].bytes = strlen(options);
    entry.parts[CACHE_LOG].data = from->log;
    entry.parts[CACHE_LOG].bytes = strlen(from->log);
    entry.parts[CACHE_PTX].data = from->ptx;
    entry.parts[CACHE_PTX].bytes = strlen(from->ptx);
    entry.parts[CACHE_CUBIN].data = from->cubin;
    entry.parts[CACHE_CUBIN].bytes = from->cubin_bytes;
    cache_store(c, &from->key, &entry);
}

xq_status compile_source(const nvrtc *library, cache *c, const gen *g, const char *family,
                         const char *source, const char *arch, compiled *out, error *err)
{
    struct request r;
    compiled result = {0};
    cache_entry entry;
    fill_request(&r, g, family, source, arch);
    char *options = options_text(&r, library);
    if (!options)
        return error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
    if (make_key(&r, options, &result.key, err) == XQ_OK) {
        bool needs_cubin = strncmp(arch, "sm_", 3) == 0;
        bool found = c && cache_load(c, &result.key, &entry) && take_entry(&entry, needs_cubin, &result);
        if (!found && c)
            log_message(cache_log(c), XQ_LOG_DEBUG, "kernel %s: compiling for %s", family, arch);
        if (!found && run_compiler(library, &r, &result, err) == XQ_OK && c)
            store(c, &r, options, &result);
    }
    free(options);
    if (err->status != XQ_OK)
        return err->status;
    set_resources(&result);
    *out = result;
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
    *c = (compiled){0};
}
