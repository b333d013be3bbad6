#include "tune_kernels.h"
#include "choices.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether a device may have an architecture of this name, like "sm_90". The generator knows any other name
 * only from its list. */
static bool is_of_device(const char *arch)
{
    size_t digits = strncmp(arch, "sm_", 3) == 0 ? strspn(arch + 3, "0123456789") : 0;
    return digits > 0 && digits < 6 && !arch[3 + digits];
}

xq_status tune_generator_for(struct tune_generators *g, const char *arch, gen **out, error *err)
{
    const gen_arch device = {.name = arch};
    if (!g->generator || strcmp(g->arch, arch) != 0) {
        tune_generators_close(g);
        snprintf(g->arch, sizeof g->arch, "%s", arch);
        if (gen_create_for(g->template_dir, is_of_device(arch) ? &device : NULL, &g->generator, err) !=
                XQ_OK ||
            gen_ignore_tables(g->generator, err) != XQ_OK)
            return err->status;
    }
    *out = g->generator;
    return XQ_OK;
}

void tune_generators_close(struct tune_generators *g)
{
    gen_destroy(g->generator);
    g->generator = NULL;
}

/* The choices of the measured layer. */
static xq_status choose_layer(gen *g, const char *spec_json, bool many, char **out, error *err)
{
    struct cli_choices chosen;
    char *any = NULL;
    cli_choices_read(spec_json, &chosen);
    if (chosen.cross_layer)
        return cli_layer_spec(g, spec_json, CLI_BASE_LAYER + 1, CLI_BASE_LAYER, many, out, err);
    if (cli_any_layer_choices(g, spec_json, &any, err) == XQ_OK)
        cli_layer_spec(g, any, -1, CLI_BASE_LAYER, many, out, err);
    free(any);
    return err->status;
}

xq_status tune_kernel_spec(struct tune_generators *g, const char *spec_json, const char *arch, bool many,
                           char **completed, error *err)
{
    const gen_completion how = {.arch = arch};
    gen *generator = NULL;
    char *layer = NULL;
    if (tune_generator_for(g, arch, &generator, err) == XQ_OK &&
        choose_layer(generator, spec_json, many, &layer, err) == XQ_OK)
        gen_complete_with(generator, layer, &how, completed, err);
    free(layer);
    return err->status;
}
