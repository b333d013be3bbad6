#include "nvrtc.h"
#include "nvrtc_find.h"
#include "nvrtc_log.h"

#include <dlfcn.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of nvrtc.h that is used; the interface is stable over versions 12 and 13. */
typedef void *program;
enum { NVRTC_SUCCESS = 0, NVRTC_OUT_OF_MEMORY = 1, NVRTC_INVALID_OPTION = 5 };

struct nvrtc {
    void *handle, *builtins;
    char path[4096];
    int version_number;
    int architecture_count;
    int architectures[64]; /* architectures that it compiles for: 80, 90, ... */
    int (*version)(int *major, int *minor);
    int (*architecture_number)(int *count);
    int (*architecture_list)(int *architectures);
    const char *(*error_string)(int);
    int (*create)(program *, const char *source, const char *name, int headers, const char *const *texts,
                  const char *const *names);
    int (*compile)(program, int count, const char *const *options);
    int (*destroy)(program *);
    int (*log_size)(program, size_t *);
    int (*log)(program, char *);
    int (*ptx_size)(program, size_t *);
    int (*ptx)(program, char *);
    int (*cubin_size)(program, size_t *);
    int (*cubin)(program, char *);
};

/* ---------------------------------------------------------------- loading */

static int resolve(nvrtc *n)
{
    const struct {
        const char *name;
        void *pointer; /* address of the function pointer to fill */
    } symbols[] = {
        {"nvrtcVersion", &n->version},
        {"nvrtcGetNumSupportedArchs", &n->architecture_number},
        {"nvrtcGetSupportedArchs", &n->architecture_list},
        {"nvrtcGetErrorString", &n->error_string},
        {"nvrtcCreateProgram", &n->create},
        {"nvrtcCompileProgram", &n->compile},
        {"nvrtcDestroyProgram", &n->destroy},
        {"nvrtcGetProgramLogSize", &n->log_size},
        {"nvrtcGetProgramLog", &n->log},
        {"nvrtcGetPTXSize", &n->ptx_size},
        {"nvrtcGetPTX", &n->ptx},
        {"nvrtcGetCUBINSize", &n->cubin_size},
        {"nvrtcGetCUBIN", &n->cubin},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(n->handle, symbols[i].name);
        if (!symbol)
            return -1;
        memcpy(symbols[i].pointer, &symbol, sizeof symbol);
    }
    return 0;
}

/* NVRTC loads libnvrtc-builtins.so.MAJOR.MINOR by name while compiling. If NVRTC came from a folder that
 * the loader does not search, loading the builtins beside it first lets NVRTC find them. */
static void *load_builtins(const char *path)
{
    char folder[4096], pattern[4200];
    if (!strchr(path, '/'))
        return NULL;
    snprintf(folder, sizeof folder, "%s", path);
    snprintf(pattern, sizeof pattern, "%s/libnvrtc-builtins.so.*", dirname(folder));
    void *handle = NULL;
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !handle; i++)
            if (!strstr(found.gl_pathv[i], ".alt."))
                handle = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
    globfree(&found);
    return handle;
}

static int read_architectures(nvrtc *n)
{
    int count = 0, most = (int)(sizeof n->architectures / sizeof *n->architectures);
    if (n->architecture_number(&count) != NVRTC_SUCCESS || count < 1 || count > most ||
        n->architecture_list(n->architectures) != NVRTC_SUCCESS)
        return -1;
    n->architecture_count = count;
    return 0;
}

static int try_open(nvrtc *n, const char *path, int most_major)
{
    int major = 0, minor = 0;
    /* The library is never unmapped, because memory that its C++ runtime allocated at start could then not
     * be freed any more. */
    n->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!n->handle)
        return -1;
    if (resolve(n) == 0 && n->version(&major, &minor) == NVRTC_SUCCESS && major >= 12 &&
        major <= most_major && read_architectures(n) == 0) {
        n->builtins = load_builtins(path);
        n->version_number = 1000 * major + 10 * minor;
        snprintf(n->path, sizeof n->path, "%s", path);
        return 0;
    }
    dlclose(n->handle);
    return -1;
}

static int open_first(nvrtc *n, const struct nvrtc_candidates *candidates, int most_major)
{
    for (int i = 0; i < candidates->count; i++)
        if (try_open(n, candidates->paths[i], most_major) == 0)
            return 0;
    return -1;
}

static xq_status not_found(const struct nvrtc_candidates *candidates, error *err)
{
    const char *chosen = getenv("XQ_NVRTC");
    if (chosen && *chosen)
        error_set(err, XQ_ERROR_NO_TOOLCHAIN, "compile",
                  "XQ_NVRTC names %s, which is not an NVRTC library of CUDA 12 or 13", chosen);
    else
        error_set(err, XQ_ERROR_NO_TOOLCHAIN, "compile",
                  "NVRTC of CUDA 12 or 13 was not found (tried CUDA_HOME, CUDA_PATH, the loader's path, "
                  "/usr/local/cuda*, the nvidia packages of Python environments); install a CUDA toolkit "
                  "or `pip install nvidia-cuda-nvrtc-cu12`, or set XQ_NVRTC to the library");
    return error_log(err, candidates->tried);
}

xq_status nvrtc_open_for(int driver, nvrtc **out, error *err)
{
    struct nvrtc_candidates candidates;
    nvrtc *n = calloc(1, sizeof *n);
    int found = nvrtc_find(&candidates);
    if (!n || found != 0)
        error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
    else if ((driver <= 0 || open_first(n, &candidates, driver / 1000) != 0) &&
             open_first(n, &candidates, INT_MAX) != 0)
        not_found(&candidates, err);
    nvrtc_candidates_free(&candidates);
    if (err->status == XQ_OK)
        *out = n;
    else
        free(n);
    return err->status;
}

xq_status nvrtc_open(nvrtc **out, error *err)
{
    return nvrtc_open_for(0, out, err);
}

void nvrtc_close(nvrtc *library)
{
    if (!library)
        return;
    dlclose(library->handle);
    if (library->builtins)
        dlclose(library->builtins);
    free(library);
}

int nvrtc_version(const nvrtc *library)
{
    return library->version_number;
}

int nvrtc_newest(const nvrtc *library, int most)
{
    int newest = 0;
    for (int i = 0; i < library->architecture_count; i++)
        if (library->architectures[i] <= most && library->architectures[i] > newest)
            newest = library->architectures[i];
    return newest;
}

const char *nvrtc_path(const nvrtc *library)
{
    return library->path;
}

/* --------------------------------------------------------------- compiling */

/* Fetches a result of the program. It ends with a NUL; *bytes is the size that NVRTC counts. Absent
 * results have size 0. */
static xq_status fetch(program p, int (*get_size)(program, size_t *), int (*get)(program, char *),
                       char **data, size_t *bytes, error *err)
{
    size_t n = 0;
    if (get_size(p, &n) != NVRTC_SUCCESS)
        n = 0;
    char *buffer = calloc(1, n + 1);
    if (!buffer)
        return error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
    if (n > 0 && get(p, buffer) != NVRTC_SUCCESS)
        n = 0;
    buffer[n] = 0;
    *data = buffer;
    if (bytes)
        *bytes = n;
    return XQ_OK;
}

static xq_status compile_error(const nvrtc *library, const nvrtc_input *input, int code,
                               const nvrtc_output *out, error *err)
{
    struct nvrtc_diagnostic first;
    if (code == NVRTC_OUT_OF_MEMORY)
        return error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory in NVRTC");
    if (code == NVRTC_INVALID_OPTION) {
        error_set(err, XQ_ERROR_COMPILE, "compile",
                  "%s: NVRTC %d.%d refuses an option (%.*s); a newer GPU needs a newer CUDA toolkit",
                  input->name, library->version_number / 1000, library->version_number % 1000 / 10,
                  (int)strcspn(out->log, "\n"), out->log);
    } else if (nvrtc_log_first_error(out->log, out->ptx, input, &first)) {
        if (first.file[0])
            error_set(err, XQ_ERROR_COMPILE, "compile", "%s:%d: %s", first.file, first.line, first.message);
        else
            error_set(err, XQ_ERROR_COMPILE, "compile", "%s: %s", input->name, first.message);
        if (first.file[0])
            error_at(err, first.file, first.line);
    } else {
        error_set(err, XQ_ERROR_COMPILE, "compile", "%s: NVRTC %d.%d: %s", input->name,
                  library->version_number / 1000, library->version_number % 1000 / 10,
                  library->error_string(code));
    }
    return error_log(err, out->log);
}

/* ------------------------------------------------------------------- names
 * NVRTC makes the names of files absolute, and writes them into PTX and cubin. With the working directory
 * in them, the same source would give different bytes in each directory, and the code would tell where it
 * was compiled. So the names are made absolute before NVRTC sees them, below a folder that does not
 * exist. */
static const char anchor[] = "/xq/";

/* Returns the text with `anchor` before the names of its #line directives; heap. */
static char *anchored(const char *text)
{
    size_t count = 1;
    for (const char *at = text; (at = strstr(at, "#line ")); at++)
        count++;
    char *copy = malloc(strlen(text) + count * sizeof anchor), *out = copy;
    while (copy && *text) {
        size_t line = strcspn(text, "\n"), quote = strcspn(text, "\"\n");
        if (strncmp(text, "#line ", 6) == 0 && quote < line && text[quote + 1] != '/') {
            out = mempcpy(out, text, quote + 1);
            out = mempcpy(out, anchor, sizeof anchor - 1);
            out = mempcpy(out, text + quote + 1, line - quote - 1);
        } else {
            out = mempcpy(out, text, line);
        }
        text += line;
        if (*text)
            *out++ = *text++;
    }
    if (copy)
        *out = 0;
    return copy;
}

/* The same for a header. It gets a #line directive at its beginning if it has none there. */
static char *anchored_header(const char *name, const char *text)
{
    char *named = NULL;
    if (strncmp(text, "#line ", 6) == 0)
        return anchored(text);
    if (asprintf(&named, "#line 1 \"%s\"\n%s", name, text) < 0)
        return NULL;
    char *copy = anchored(named);
    free(named);
    return copy;
}

/* Removes `anchor` from PTX and logs, so that they name templates as every other message does. */
static void strip_anchor(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        if (strncmp(from, anchor, sizeof anchor - 1) == 0)
            from += sizeof anchor - 1;
        else
            *to++ = *from++;
    }
    *to = 0;
}

/* The input as NVRTC gets it, with anchored names. */
struct named_input {
    char *source, *name;
    char **headers;
    int header_count;
};

static void named_free(struct named_input *n)
{
    for (int i = 0; n->headers && i < n->header_count; i++)
        free(n->headers[i]);
    free(n->headers);
    free(n->source);
    free(n->name);
}

static xq_status name_input(const nvrtc_input *input, struct named_input *out, error *err)
{
    *out = (struct named_input){.source = anchored(input->source),
                                .headers = calloc((size_t)input->header_count + 1, sizeof *out->headers),
                                .header_count = input->header_count};
    bool good = asprintf(&out->name, "%s%s", anchor, input->name) >= 0 && out->source && out->headers;
    for (int i = 0; good && i < input->header_count; i++)
        good = (out->headers[i] = anchored_header(input->header_names[i], input->header_texts[i])) != NULL;
    if (good)
        return XQ_OK;
    named_free(out);
    return error_set(err, XQ_ERROR_MEMORY, "compile", "out of memory");
}

static xq_status collect(const nvrtc *n, program p, nvrtc_output *out, error *err)
{
    char *cubin = NULL;
    if (fetch(p, n->log_size, n->log, &out->log, NULL, err) != XQ_OK ||
        fetch(p, n->ptx_size, n->ptx, &out->ptx, NULL, err) != XQ_OK ||
        fetch(p, n->cubin_size, n->cubin, &cubin, &out->cubin_bytes, err) != XQ_OK)
        return err->status;
    strip_anchor(out->ptx);
    strip_anchor(out->log);
    if (out->cubin_bytes > 0)
        out->cubin = cubin;
    else
        free(cubin);
    return XQ_OK;
}

static xq_status compile_named(const nvrtc *library, const nvrtc_input *input,
                               const struct named_input *named, nvrtc_output *out, error *err)
{
    program p = NULL;
    int code = library->create(&p, named->source, named->name, named->header_count,
                               (const char *const *)named->headers, input->header_names);
    if (code != NVRTC_SUCCESS)
        return error_set(err, code == NVRTC_OUT_OF_MEMORY ? XQ_ERROR_MEMORY : XQ_ERROR_COMPILE, "compile",
                         "%s: NVRTC: %s", input->name, library->error_string(code));
    code = library->compile(p, input->option_count, input->options);
    xq_status status = collect(library, p, out, err);
    library->destroy(&p);
    return status == XQ_OK && code != NVRTC_SUCCESS ? compile_error(library, input, code, out, err)
                                                    : status;
}

xq_status nvrtc_compile(const nvrtc *library, const nvrtc_input *input, nvrtc_output *out, error *err)
{
    struct named_input named;
    nvrtc_output result = {0};
    if (name_input(input, &named, err) != XQ_OK)
        return err->status;
    xq_status status = compile_named(library, input, &named, &result, err);
    named_free(&named);
    if (status == XQ_OK)
        *out = result;
    else
        nvrtc_output_free(&result);
    return status;
}

void nvrtc_output_free(nvrtc_output *out)
{
    free(out->ptx);
    free(out->cubin);
    free(out->log);
    *out = (nvrtc_output){0};
}
