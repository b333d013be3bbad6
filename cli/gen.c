/* xq gen: writes the specialized sources of a spec. Everything is rendered and compiled before the first
 * file is written, so an error leaves nothing behind. */
#include "../gen/gen.h"
#include "../runtime/compile.h"
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_FILES = 512 };

struct options {
    struct cli_list archs, families;
    const char *out;
    bool list_models, features, print_spec, ptx, cubin;
};

/* A file to be written: DIR/name. */
struct output {
    char *name;
    void *data;
    size_t size;
};

struct job {
    const struct options *options;
    gen *g;
    nvrtc *library; /* only for --ptx and --cubin */
    struct output files[MOST_FILES];
    int file_count;
    char *source; /* of the last kernel, for standard output */
    struct cli_progress progress;
};

/* ---------------------------------------------------------------- collecting files */

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

/* `extension` may be empty, and `arch` NULL. */
static xq_status add_file(struct job *job, const char *name, const char *arch, const char *extension,
                          const void *data, size_t size, error *err)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s%s%s", name, arch ? "." : "", arch ? arch : "", extension);
    if (job->file_count == MOST_FILES)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "more than %d files to write", MOST_FILES);
    struct output *file = &job->files[job->file_count];
    file->name = strdup(full);
    file->data = malloc(size ? size : 1);
    if (!file->name || !file->data) {
        free(file->name);
        free(file->data);
        return out_of_memory(err);
    }
    memcpy(file->data, data, size);
    file->size = size;
    job->file_count++;
    return XQ_OK;
}

static xq_status add_text(struct job *job, const char *name, const char *arch, const char *extension,
                          const char *text, error *err)
{
    return add_file(job, name, arch, extension, text, strlen(text), err);
}

static xq_status add_headers(struct job *job, error *err)
{
    int count = 0;
    const char *const *names, *const *texts;
    gen_headers(job->g, &count, &names, &texts);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        add_text(job, names[i], NULL, "", texts[i], err);
    return err->status;
}

static xq_status add_compiled(struct job *job, const char *family, const char *arch, const char *source,
                              error *err)
{
    compiled c;
    memset(&c, 0, sizeof c);
    if (compile_source(job->library, NULL, job->g, family, source, arch, &c, err) != XQ_OK)
        return err->status;
    if (job->options->ptx)
        add_text(job, family, arch, ".ptx", c.ptx, err);
    if (job->options->cubin && err->status == XQ_OK)
        add_file(job, family, arch, ".cubin", c.cubin, c.cubin_bytes, err);
    compiled_free(&c);
    return err->status;
}

static xq_status add_kernel(struct job *job, const char *completed, const char *family, const char *arch,
                            error *err)
{
    gen_kernel kernel;
    char detail[96];
    snprintf(detail, sizeof detail, "%s for %s", family, arch);
    cli_progress_update(&job->progress, 0, detail);
    if (gen_render(job->g, completed, family, &kernel, err) != XQ_OK)
        return err->status;
    if (add_text(job, family, arch, ".cu", kernel.source, err) == XQ_OK)
        add_text(job, family, arch, ".json", kernel.info, err);
    if (err->status == XQ_OK && job->library)
        add_compiled(job, family, arch, kernel.source, err);
    free(job->source);
    job->source = kernel.source;
    kernel.source = NULL;
    gen_kernel_free(&kernel);
    return err->status;
}

/* ---------------------------------------------------------------- one architecture */

/* The families asked for, or all that serve the spec: those that its tuning names. */
static xq_status add_families(struct job *job, const char *completed, const cJSON *spec, error *err)
{
    const char *arch = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "arch"));
    const struct cli_list *asked = &job->options->families;
    for (int i = 0; i < asked->count && err->status == XQ_OK; i++)
        add_kernel(job, completed, asked->items[i], arch, err);
    const cJSON *family;
    if (asked->count == 0)
        cJSON_ArrayForEach(family, cJSON_GetObjectItemCaseSensitive(spec, "tuning"))
        {
            if (err->status == XQ_OK)
                add_kernel(job, completed, family->string, arch, err);
        }
    return err->status;
}

static xq_status print_spec(const cJSON *spec, error *err)
{
    char *text = cJSON_Print(spec);
    if (!text)
        return out_of_memory(err);
    puts(text);
    free(text);
    return XQ_OK;
}

static xq_status print_features(struct job *job, error *err)
{
    char *page = NULL;
    if (gen_features(job->g, &page, err) == XQ_OK)
        fputs(page, stdout);
    free(page);
    return err->status;
}

static xq_status add_arch(struct job *job, const struct cli_spec *spec_options,
                          const struct cli_common *common, const char *arch, error *err)
{
    char *json = NULL, *completed = NULL;
    cJSON *spec = NULL;
    if (cli_spec_json(spec_options, common, arch, &json, err) == XQ_OK &&
        gen_complete(job->g, json, &completed, err) == XQ_OK) {
        spec = cJSON_Parse(completed);
        if (!spec)
            out_of_memory(err);
        else if (job->options->print_spec)
            print_spec(spec, err);
        else if (add_families(job, completed, spec, err) == XQ_OK)
            add_text(job, "spec", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "arch")),
                     ".json", completed, err);
    }
    cJSON_Delete(spec);
    free(completed);
    free(json);
    return err->status;
}

/* ---------------------------------------------------------------- writing */

static xq_status make_directory(const char *path, error *err)
{
    struct stat st;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
        return XQ_OK;
    error_set(err, XQ_ERROR_IO, "file", "cannot create the folder %s: %s", path, strerror(errno));
    return error_at(err, path, 0);
}

static xq_status write_files(const struct job *job, const struct cli_common *common, error *err)
{
    const char *directory = job->options->out;
    make_directory(directory, err);
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < job->file_count && err->status == XQ_OK; i++) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", directory, job->files[i].name) >= (int)sizeof path)
            error_set(err, XQ_ERROR_IO, "file", "--out: the path is too long");
        else if (cli_write_file(path, job->files[i].data, job->files[i].size, err) == XQ_OK)
            cJSON_AddItemToArray(list, cJSON_CreateString(path));
    }
    if (err->status == XQ_OK) {
        cJSON *root = cJSON_CreateObject();
        cJSON_AddItemToObject(root, "files", list);
        if (!common->quiet && !cli_json_to_stdout(common))
            printf("%d files in %s\n", job->file_count, directory);
        cli_write_json(common, root, err);
        list = root;
    }
    cJSON_Delete(list);
    return err->status;
}

static xq_status run(struct job *job, const struct cli_spec *spec, const struct cli_common *common,
                     error *err)
{
    const struct options *o = job->options;
    if (gen_create(common->templates, &job->g, err) != XQ_OK)
        return err->status;
    if (o->list_models) {
        fputs(gen_presets(job->g), stdout);
        return XQ_OK;
    }
    if (o->features)
        return print_features(job, err);
    if ((o->ptx || o->cubin) && nvrtc_open(&job->library, err) != XQ_OK)
        return err->status;
    cli_progress_begin(&job->progress, common, o->ptx || o->cubin ? "compiling" : "writing");
    if (o->archs.count == 0)
        add_arch(job, spec, common, NULL, err);
    for (int i = 0; i < o->archs.count && err->status == XQ_OK; i++)
        add_arch(job, spec, common, o->archs.items[i], err);
    cli_progress_end(&job->progress);
    if (err->status != XQ_OK || o->print_spec)
        return err->status;
    if (!o->out) {
        fputs(job->source, stdout);
        return XQ_OK;
    }
    return add_headers(job, err) == XQ_OK ? write_files(job, common, err) : err->status;
}

static int check_options(const struct options *o)
{
    int kernels = (o->archs.count ? o->archs.count : 1) * o->families.count;
    if (o->list_models || o->features || o->print_spec || o->out)
        return CLI_OK;
    if (o->ptx || o->cubin)
        return cli_usage("gen", "--ptx and --cubin need --out DIR");
    if (kernels != 1)
        return cli_usage("gen", "--out DIR is needed, except to print one --family for one --arch");
    return CLI_OK;
}

int cli_gen(int argc, char **argv)
{
    struct options o = {0};
    struct cli_common common = {0};
    struct cli_spec spec = {0};
    const cli_option options[] = {
        {"--arch", CLI_LIST, &o.archs, "ARCH[,ARCH]", "GPU architectures: sm_80, sm_90a, … (sm_80)"},
        {"--family", CLI_LIST, &o.families, "NAME[,NAME]", "kernels to write: attend, append, … (all)"},
        {"--out", CLI_STRING, &o.out, "DIR", "folder to write to; without it one --family is printed"},
        {"--list-models", CLI_FLAG, &o.list_models, NULL, "print the presets that --model knows"},
        {"--features", CLI_FLAG, &o.features, NULL, "print what each kernel supports (docs/features.md)"},
        {"--print-spec", CLI_FLAG, &o.print_spec, NULL, "print the completed spec, and write nothing"},
        {"--ptx", CLI_FLAG, &o.ptx, NULL, "write PTX too (needs NVRTC)"},
        {"--cubin", CLI_FLAG, &o.cubin, NULL, "write cubins too (needs NVRTC)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "gen",
        .description =
            "Writes FAMILY.ARCH.cu, and FAMILY.ARCH.json with what the host needs to launch it, for every\n"
            "kernel family; the headers that they include; and spec.ARCH.json, the completed spec.",
        .options = options,
        .common = &common,
        .spec = &spec,
    };
    int status;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    struct job *job = calloc(1, sizeof *job);
    error err = ERROR_INIT;
    status = check_options(&o);
    if (!job) {
        out_of_memory(&err);
    } else if (status == CLI_OK) {
        job->options = &o;
        run(job, &spec, &common, &err);
    }
    if (err.status != XQ_OK)
        status = cli_fail("gen", &common, &err);
    for (int i = 0; job && i < job->file_count; i++) {
        free(job->files[i].name);
        free(job->files[i].data);
    }
    if (job) {
        free(job->source);
        gen_destroy(job->g);
        nvrtc_close(job->library);
    }
    free(job);
    cli_list_free(&o.archs);
    cli_list_free(&o.families);
    error_clear(&err);
    return status;
}
