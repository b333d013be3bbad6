/* Finds the kernels behind the rows of a store: the completed spec that xq tune measured, with the
 * families' own defaults, for the architecture of each device. */
#ifndef CLI_TUNE_KERNELS_H
#define CLI_TUNE_KERNELS_H

#include "cli.h"

/* A generator for the architecture that was requested last. */
struct tune_generators {
    const char *template_dir;
    gen *generator; /* NULL: none yet */
    char arch[256];
};

/* *out is valid until the next call. Errors: those of gen_create. */
xq_status tune_generator_for(struct tune_generators *g, const char *arch, gen **out, error *err);
void tune_generators_close(struct tune_generators *g);

/* The completed spec of the layer that xq tune measures: the first one, or the first one that a cross-layer
 * method stores deltas of. `many`: several queries of each sequence. Caller frees. Errors: those of
 * gen_complete. */
xq_status tune_kernel_spec(struct tune_generators *g, const char *spec_json, const char *arch, bool many,
                           char **completed, error *err);

#endif
