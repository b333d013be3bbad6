/* The state that the parts of xq emit share: the plans of a bundle, and their images. */
#ifndef CLI_EMIT_H
#define CLI_EMIT_H

#include "../runtime/plan/create.h"
#include "../runtime/plan/spec_view.h"
#include "cli.h"
#include "file_set.h"
#include "plans.h"

enum { EMIT_MOST_ARCHS = 16 };

struct emit_options {
    struct cli_common common;
    struct cli_spec spec;
    struct cli_list archs, bits;
    const char *out, *name, *table;
    bool embed, files;
    int64_t base_layer, max_batch, max_tokens, max_pages, max_append, max_queries, max_total_queries;
    bool base_given;
};

struct emitting {
    const struct emit_options *o;
    gen *g;
    const char *archs[EMIT_MOST_ARCHS]; /* as given by --arch, or the defaults */
    int arch_count;
    struct cli_plans plans;
    struct blueprint images[CLI_MOST_PLANS][EMIT_MOST_ARCHS];
    int nvrtc; /* version, 1000 * major + 10 * minor */
    struct cli_file_set files;
    struct cli_progress progress;
};

/* Makes the image of every plan for every architecture. */
xq_status emit_make_images(struct emitting *e, error *err);

/* Adds all files of the bundle to e->files. */
xq_status emit_add_texts(struct emitting *e, error *err);

/* Why a name cannot be the prefix of a bundle; NULL where it can. */
const char *emit_refuse_name(const char *name);

/* ---- The folder. A bundle lists its files in bundle.json. The files of an earlier bundle are replaced or
 * removed, and any other file is left alone. */

/* Refuses a folder that is neither empty nor the folder of a bundle. */
xq_status emit_check_folder(const char *folder, error *err);

/* Only one process at a time may write into a folder. Errors: XQ_ERROR_IO where another process does. */
xq_status emit_lock_folder(const char *folder, error *err);

/* Writes all files; bundle.json, which was added last, is written last. Then removes the files that an
 * earlier bundle had and this one has not. */
xq_status emit_write_folder(struct emitting *e, error *err);

#endif
