/* xq emit: writes a folder with kernels and the C code that launches them, for other projects. */
#include "emit.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const default_archs[] = {"sm_80", "sm_86", "sm_90a", "sm_100", "sm_120"};

static const char description[] =
    "Writes a folder that another project compiles in: one C file with the runtime, one with the plans, a\n"
    "header, an example, build files and a README that states shapes, sizes and layouts. It needs a C or\n"
    "C++ compiler and the C library, and at run time the NVIDIA driver; no CUDA toolkit, no xq.\n"
    "\n"
    "The bundle has a plan for each width of --bits and each kind of layer that the model has, and of "
    "each\n"
    "plan an image with machine code and PTX for each architecture. PTX serves GPUs that are newer. The\n"
    "limits of a call (--max-batch and the others) hold for all plans. The same command writes the same\n"
    "bytes. An earlier bundle in DIR is replaced; other files there are left alone.";

/* ----------------------------------------------------------------- options */

static int check_options(const cli_command *command, struct emit_options *o)
{
    if (!o->out)
        return cli_usage("emit", "--out DIR is missing; it names the folder to write to");
    if (cli_needs_folder(command, "--out", o->out, "") != CLI_OK)
        return CLI_BAD_INPUT;
    const char *why = emit_refuse_name(o->name);
    if (why)
        return cli_bad_input("emit",
                             "--name: '%s' %s; valid: 2 to 40 lower-case letters, digits and single "
                             "underscores, with a letter first",
                             cli_show(o->name).text, why);
    if (o->embed && o->files)
        return cli_usage("emit", "--embed and --files: give one of them");
    if (cli_excludes_set(command, "--bits", "cache.bits") != CLI_OK)
        return CLI_USAGE;
    if (o->archs.count > EMIT_MOST_ARCHS)
        return cli_usage("emit", "--arch: %d architectures are too many; valid: at most %d", o->archs.count,
                         EMIT_MOST_ARCHS);
    o->embed = !o->files;
    return cli_needs_model(command);
}

/* ------------------------------------------------------------------- work */

static xq_status find_plans(struct emitting *e, error *err)
{
    const struct emit_options *o = e->o;
    const struct cli_plan_choice choice = {.spec = &o->spec,
                                           .bits = &o->bits,
                                           .base_layer = o->base_layer,
                                           .base_given = o->base_given,
                                           .implementations = {[XQ_FUSED] = true}};
    return cli_plans_find(e->g, &choice, &o->common, &e->plans, err);
}

/* Completes a spec for each architecture, so that an unknown one is an error before the work. */
static xq_status choose_archs(struct emitting *e, error *err)
{
    const struct cli_list *given = &e->o->archs;
    int count = (int)(sizeof default_archs / sizeof default_archs[0]);
    e->arch_count = given->count ? given->count : count;
    for (int i = 0; i < e->arch_count; i++)
        e->archs[i] = given->count ? given->items[i] : default_archs[i];
    for (int i = 0; i < e->arch_count && err->status == XQ_OK; i++) {
        char *completed = NULL;
        gen_complete_with(e->g, e->plans.plans[0].spec, &(gen_completion){.arch = e->archs[i]}, &completed,
                          err);
        free(completed);
    }
    return err->status;
}

static xq_status report(struct emitting *e, error *err)
{
    const struct emit_options *o = e->o;
    size_t bytes = 0;
    cJSON *root = cJSON_CreateObject(), *plans = cJSON_AddArrayToObject(root, "plans"),
          *files = cJSON_AddArrayToObject(root, "files");
    for (int i = 0; i < e->plans.count; i++)
        cJSON_AddItemToArray(plans, cJSON_CreateString(e->plans.plans[i].name));
    for (int i = 0; i < e->files.count; i++) {
        cJSON_AddItemToArray(files, cJSON_CreateString(e->files.files[i].name));
        bytes += e->files.files[i].size;
    }
    cli_write_json(&o->common, root, err);
    cJSON_Delete(root);
    if (err->status != XQ_OK || o->common.quiet || cli_json_to_stdout(&o->common))
        return err->status;
    printf("%s: %d files, %.1f MB; %d plan%s for %d architecture%s:", cli_show(o->out).text, e->files.count,
           (double)bytes * 1e-6, e->plans.count, e->plans.count == 1 ? "" : "s", e->arch_count,
           e->arch_count == 1 ? "" : "s");
    for (int i = 0; i < e->plans.count; i++)
        printf(" %s", e->plans.plans[i].name);
    printf("\n%s/README.md says how to build it\n", cli_show(o->out).text);
    return XQ_OK;
}

static xq_status run(struct emitting *e, error *err)
{
    const struct emit_options *o = e->o;
    cli_reads_common(&o->common, &o->spec);
    cli_reads("--table", o->table);
    if (cli_begin_folder(o->out, err) != XQ_OK || emit_lock_folder(o->out, err) != XQ_OK ||
        emit_check_folder(o->out, err) != XQ_OK || cli_begin_json(&o->common, err) != XQ_OK ||
        gen_create(o->common.templates, &e->g, err) != XQ_OK || find_plans(e, err) != XQ_OK ||
        choose_archs(e, err) != XQ_OK)
        return err->status;
    cli_progress_begin(&e->progress, &o->common, "compiling");
    emit_make_images(e, err);
    cli_progress_end(&e->progress);
    if (err->status == XQ_OK && emit_add_texts(e, err) == XQ_OK && emit_write_folder(e, err) == XQ_OK)
        report(e, err);
    return err->status;
}

static void release(struct emitting *e)
{
    for (int p = 0; p < e->plans.count; p++)
        for (int a = 0; a < e->arch_count; a++)
            blueprint_free(&e->images[p][a]);
    cli_plans_free(&e->plans);
    cli_file_set_free(&e->files);
    gen_destroy(e->g);
    free(e);
}

static int work(const struct emit_options *o)
{
    int status = CLI_OK;
    error err = ERROR_INIT;
    struct emitting *e = calloc(1, sizeof *e);
    if (e) {
        e->o = o;
        run(e, &err);
        release(e);
    } else {
        error_set(&err, XQ_ERROR_MEMORY, "file", "out of memory");
    }
    if (err.status != XQ_OK)
        status = cli_fail("emit", &o->common, &err);
    error_clear(&err);
    return status;
}

const char cli_emit_summary[] = "write kernels and a C runtime for other projects";

int cli_emit(int argc, char **argv)
{
    struct emit_options o = {.name = "xq",
                             .base_layer = CLI_BASE_LAYER,
                             .max_batch = 16,
                             .max_tokens = 32768,
                             .max_append = 2048,
                             .max_queries = 1};
    const cli_option options[] = {
        {"--out", CLI_STRING, &o.out, "DIR", "folder to write to"},
        {"--name", CLI_STRING, &o.name, "PREFIX", "beginning of the names of symbols and files (xq)"},
        {"--arch", CLI_LIST, &o.archs, "ARCH[,ARCH]",
         "GPU architectures: sm_80, sm_86, sm_90a, sm_100, sm_120, … (these five)"},
        {"--bits", CLI_LIST, &o.bits, "N[,N]", "bit widths, each with plans of its own: 2, 3, 4, 8 (4)"},
        {"--base-layer", CLI_INT, &o.base_layer, "N",
         "cross-layer: the layer that starts the accumulator (2)"},
        {"--embed", CLI_FLAG, &o.embed, NULL, "put the images into the C code as arrays (default)"},
        {"--files", CLI_FLAG, &o.files, NULL,
         "put the images into separate files, which the program reads"},
        {"--table", CLI_STRING, &o.table, "FILE",
         "table of tuned parameters (docs/tuning.md), searched before the user's tables"},
        {"--max-batch", CLI_INT, &o.max_batch, "N", "sequences in one call (16)"},
        {"--max-tokens", CLI_INT, &o.max_tokens, "N", "cached tokens of the longest sequence (32768)"},
        {"--max-pages", CLI_INT, &o.max_pages, "N",
         "page-table entries in one call; 0: enough for all sequences (0)"},
        {"--max-append", CLI_INT, &o.max_append, "N", "tokens in one append call (2048)"},
        {"--max-queries", CLI_INT, &o.max_queries, "N", "queries of a sequence in one attend call (1)"},
        {"--max-total-queries", CLI_INT, &o.max_total_queries, "N",
         "queries of all sequences in one attend call; 0: as many as --max-queries allows (0)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "emit",
        .summary = cli_emit_summary,
        .description = description,
        .options = options,
        .common = &o.common,
        .spec = &o.spec,
        .bounds = (const cli_bounds[]){{"--base-layer", 0, LAYER_MOST_LAYERS - 1},
                                       {"--max-batch", 1, PLAN_MOST_BLOCKS},
                                       {"--max-tokens", 1, PLAN_MOST_TOKENS},
                                       {"--max-pages", 0, INT32_MAX},
                                       {"--max-append", 1, PLAN_MOST_TOKENS},
                                       {"--max-queries", 1, PLAN_MOST_QUERIES},
                                       {"--max-total-queries", 0, INT32_MAX},
                                       {NULL, 0, 0}},
        .unused = (const cli_unused[]){{"--device", "--arch names the GPUs that the bundle is for"},
                                       {"--kernels", "a bundle is compiled by the NVRTC that is here"},
                                       {"--no-compile", "a bundle is compiled by the NVRTC that is here"},
                                       {"--seed", "nothing is random here"},
                                       {"--base", "--base-layer names the layer"},
                                       {"arch", "--arch names the architectures"},
                                       {NULL, NULL}},
    };
    int status;
    if (cli_parse(&command, argc, argv, &status) && (status = check_options(&command, &o)) == CLI_OK) {
        o.base_given = cli_given(&command, "--base-layer");
        status = work(&o);
    }
    cli_list_free(&o.archs);
    cli_list_free(&o.bits);
    return status;
}
