/* xq gen: writes the specialized sources of a spec. Everything is rendered and compiled before the first
 * file is written, so an error leaves nothing behind. */
#include "gen.h"
#include "../runtime/compile/compile.h"
#include "../runtime/plan/user_tables.h"
#include "file_set.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct cli_list archs, families;
    const char *out;
    bool list_models, list_parameters, features, print_spec, ptx, cubin;
};

struct job {
    const struct options *options;
    gen *g;
    nvrtc *library; /* opened only for --ptx and --cubin */
    struct cli_file_set files;
    char *source; /* source of the last kernel, for standard output */
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
    return cli_file_set_add(&job->files, data, size, err, "%s%s%s%s", name, arch ? "." : "",
                            arch ? arch : "", extension);
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

/* Adds the families that were asked for, or else all families that serve the spec, which are those in its
 * tuning. */
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

/* Replaces *spec_json by the same spec for this architecture. */
static xq_status set_arch(struct job *job, const char *arch, char **spec_json, error *err)
{
    char *json = NULL;
    cJSON *overrides = cJSON_CreateObject();
    if (cli_override(overrides, "arch", cJSON_CreateString(arch), err) != XQ_OK) {
        cJSON_Delete(overrides);
        return err->status;
    }
    if (cli_spec_override(job->g, *spec_json, overrides, &json, err) == XQ_OK) {
        free(*spec_json);
        *spec_json = json;
    }
    return err->status;
}

/* Lists parameters, for the spec that the options describe, if they describe one. */
static xq_status list_parameters(struct job *job, const struct cli_spec *options,
                                 const struct cli_common *common, error *err)
{
    const struct options *o = job->options;
    char *json = NULL;
    if (cli_names_model(options) && cli_spec_json(options, common, &json, err) == XQ_OK && o->archs.count)
        set_arch(job, o->archs.items[0], &json, err);
    if (err->status == XQ_OK)
        gen_list_parameters(job->g, &o->families, json, common, err);
    free(json);
    return err->status;
}

static xq_status add_spec(struct job *job, const char *spec_json, error *err)
{
    char *completed = NULL;
    if (gen_complete(job->g, spec_json, &completed, err) != XQ_OK)
        return err->status;
    cJSON *spec = cJSON_Parse(completed);
    if (!spec)
        out_of_memory(err);
    else if (job->options->print_spec)
        print_spec(spec, err);
    else if (add_families(job, completed, spec, err) == XQ_OK)
        add_text(job, "spec", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "arch")), ".json",
                 completed, err);
    cJSON_Delete(spec);
    free(completed);
    return err->status;
}

static xq_status add_arch(struct job *job, const char *spec_json, const char *arch, error *err)
{
    char *json = strdup(spec_json);
    if (!json)
        return out_of_memory(err);
    if (set_arch(job, arch, &json, err) == XQ_OK)
        add_spec(job, json, err);
    free(json);
    return err->status;
}

static xq_status add_all(struct job *job, const struct cli_spec *options, const struct cli_common *common,
                         error *err)
{
    const struct cli_list *archs = &job->options->archs;
    char *json = NULL;
    if (cli_spec_json(options, common, &json, err) != XQ_OK)
        return err->status;
    if (archs->count == 0)
        add_spec(job, json, err);
    for (int i = 0; i < archs->count && err->status == XQ_OK; i++)
        add_arch(job, json, archs->items[i], err);
    free(json);
    return err->status;
}

/* ---------------------------------------------------------------- writing */

/* Begins outputs before any work, so that a path that cannot be written is an error at once. */
static xq_status begin_outputs(const struct options *o, const struct cli_spec *spec,
                               const struct cli_common *common, error *err)
{
    cli_reads_common(common, spec);
    if (o->out && cli_begin_folder(o->out, err) != XQ_OK)
        return err->status;
    return cli_begin_json(common, err);
}

static xq_status write_all(struct job *job, const struct cli_common *common, error *err)
{
    const char *folder = job->options->out;
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "files");
    for (int i = 0; i < job->files.count; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, job->files.files[i].name);
        cJSON_AddItemToArray(list, cJSON_CreateString(path));
    }
    if (cli_file_set_begin(&job->files, "--out", folder, err) == XQ_OK) {
        cli_hold_signals();
        cli_file_set_commit(&job->files, err);
        cli_release_signals();
    }
    if (err->status == XQ_OK) {
        if (!common->quiet && !cli_json_to_stdout(common))
            printf("%d files in %s\n", job->files.count, cli_show(folder).text);
        cli_write_json(common, root, err);
    }
    cJSON_Delete(root);
    return err->status;
}

/* Reports which results of tables of tuned parameters were not used, and why. */
static void print_notes(const struct job *job, const struct cli_common *common)
{
    error ignored = ERROR_INIT;
    char *note = NULL;
    while (!common->quiet && gen_take_note(job->g, &note, &ignored) == XQ_OK && *note) {
        fprintf(stderr, "xq gen: warning: %s\n", cli_show(note).text);
        free(note);
        note = NULL;
    }
    free(note);
    error_clear(&ignored);
}

static xq_status run(struct job *job, const struct cli_spec *spec, const struct cli_common *common,
                     error *err)
{
    const struct options *o = job->options;
    if (begin_outputs(o, spec, common, err) != XQ_OK ||
        gen_create(common->templates, &job->g, err) != XQ_OK)
        return err->status;
    if (o->list_models) {
        fputs(gen_presets(job->g), stdout);
        return XQ_OK;
    }
    if (o->features)
        return print_features(job, err);
    if (user_tables_add(job->g, NULL, err) != XQ_OK)
        return err->status;
    if (o->list_parameters)
        return list_parameters(job, spec, common, err);
    if ((o->ptx || o->cubin) && nvrtc_open(&job->library, err) != XQ_OK)
        return err->status;
    cli_progress_begin(&job->progress, common, o->ptx || o->cubin ? "compiling" : "writing");
    add_all(job, spec, common, err);
    cli_progress_end(&job->progress);
    print_notes(job, common);
    if (err->status != XQ_OK || o->print_spec)
        return err->status;
    if (!o->out) {
        fputs(job->source, stdout);
        return XQ_OK;
    }
    return add_headers(job, err) == XQ_OK ? write_all(job, common, err) : err->status;
}

/* Options that print something instead of sources go together with few other options. */
static int check_modes(const cli_command *command, const struct options *o)
{
#define ALWAYS "--templates", "--quiet", "--verbose", NULL
    static const char *const none[] = {ALWAYS}, *const spec[] = {"--arch", ALWAYS};
    static const char *const parameters[] = {"--family", "--arch", "--json", ALWAYS};
#undef ALWAYS
    int status = CLI_OK;
    if (o->list_models)
        status = cli_takes_only(command, "--list-models", none, false);
    else if (o->features)
        status = cli_takes_only(command, "--features", none, false);
    else if (o->list_parameters)
        status = cli_takes_only(command, "--list-parameters", parameters, true);
    else if (o->print_spec)
        status = cli_takes_only(command, "--print-spec", spec, true);
    else if (!o->out && (o->ptx || o->cubin))
        status = cli_usage("gen", "--ptx and --cubin need --out DIR");
    else if (!o->out && cli_given(command, "--json"))
        status = cli_usage(
            "gen", "--json: has no effect without --out DIR, because it lists the files that are written");
    return status;
}

/* Without a model, options of a spec have no effect. */
static int check_list_parameters(const cli_command *command, const struct options *o, bool model)
{
    if (o->archs.count > 1)
        return cli_usage("gen", "--arch: --list-parameters takes one architecture, and %d are given",
                         o->archs.count);
    for (int i = 0; i < command->given_count && !model; i++)
        if (command->given_of_spec[i] || strcmp(command->given[i], "--arch") == 0)
            return cli_usage("gen", "%s: has no effect on --list-parameters without --model or --spec",
                             command->given[i]);
    return CLI_OK;
}

/* --set must not tune families that are not rendered. */
static int check_tuning(const cli_command *command, const struct options *o)
{
    error err = ERROR_INIT;
    int status = CLI_OK;
    if (cli_spec_check_tuning(command->spec, (const char *const *)o->families.items, o->families.count,
                              &err) != XQ_OK)
        status = cli_usage("gen", "%s", err.message);
    error_clear(&err);
    return status;
}

static int check_options(const cli_command *command, const struct options *o)
{
    if (o->out && cli_needs_folder(command, "--out", o->out,
                                   ". Leave --out out to print one --family there") != CLI_OK)
        return CLI_BAD_INPUT;
    if (cli_excludes_set(command, "--arch", "arch") != CLI_OK)
        return CLI_USAGE;
    if (o->families.count && check_tuning(command, o) != CLI_OK)
        return CLI_USAGE;
    int kernels = (o->archs.count ? o->archs.count : 1) * o->families.count;
    int status = check_modes(command, o);
    if (status != CLI_OK || o->list_models || o->features)
        return status;
    if (o->list_parameters)
        return check_list_parameters(command, o, cli_names_model(command->spec));
    if (!o->print_spec && !o->out && kernels != 1)
        return cli_usage(
            "gen", "--out DIR is missing; only one --family for one --arch can be printed without it");
    return cli_needs_model(command);
}

const char cli_gen_summary[] = "write the specialized sources of a spec";

int cli_gen(int argc, char **argv)
{
    struct options o = {0};
    struct cli_common common = {0};
    struct cli_spec spec = {0};
    const cli_option options[] = {
        {"--arch", CLI_LIST, &o.archs, "ARCH[,ARCH]", "GPU architectures: sm_80, sm_90a, … (sm_80)"},
        {"--family", CLI_LIST, &o.families, "NAME[,NAME]", "kernels to write: attend, append, … (all)"},
        {"--out", CLI_STRING, &o.out, "DIR", "folder to write to; without it, one --family is printed"},
        {"--list-models", CLI_FLAG, &o.list_models, NULL, "print the presets that --model knows"},
        {"--list-parameters", CLI_FLAG, &o.list_parameters, NULL,
         "print the tunable parameters of each family; with a model, also the values in force"},
        {"--features", CLI_FLAG, &o.features, NULL, "print what each kernel supports (docs/features.md)"},
        {"--print-spec", CLI_FLAG, &o.print_spec, NULL, "print the completed spec, and write nothing"},
        {"--ptx", CLI_FLAG, &o.ptx, NULL, "also write PTX; needs NVRTC"},
        {"--cubin", CLI_FLAG, &o.cubin, NULL, "also write cubins; needs NVRTC"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "gen",
        .summary = cli_gen_summary,
        .description =
            "Writes, for every kernel family, FAMILY.ARCH.cu and FAMILY.ARCH.json, which has what the\n"
            "host needs to launch the kernel. Also writes the headers that the sources include, and\n"
            "spec.ARCH.json, the completed spec.",
        .options = options,
        .common = &common,
        .spec = &spec,
        .unused = (const cli_unused[]){{"--device", "--arch names the GPU that kernels are for"},
                                       {"--seed", "nothing is random here"},
                                       {"--cache-dir", "gen does not cache what it compiles"},
                                       {NULL, NULL}},
    };
    int status;
    struct job *job = calloc(1, sizeof *job);
    error err = ERROR_INIT;
    const bool parsed = cli_parse(&command, argc, argv, &status);
    if (parsed)
        status = check_options(&command, &o);
    if (!job) {
        out_of_memory(&err);
    } else if (parsed && status == CLI_OK) {
        job->options = &o;
        run(job, &spec, &common, &err);
    }
    if (err.status != XQ_OK)
        status = cli_fail("gen", &common, &err);
    if (job) {
        cli_file_set_free(&job->files);
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
