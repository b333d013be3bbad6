/* The generator: specs in, CUDA C++ out. Lua modules do the work inside a sandbox; this is the C host.
 *
 * JSON texts go in and come out, so that nothing here depends on how Lua represents them. A generator
 * is used by one thread at a time. */
#ifndef GEN_GEN_H
#define GEN_GEN_H

#include "../runtime/base/error.h"

typedef struct gen gen;
typedef struct cJSON cJSON;

/* `template_dir`: a directory to read templates and Lua modules from (gen/source.h), or NULL for those
 * built in; what it lacks is taken from those built in. All is read here, nothing later. Errors:
 * XQ_ERROR_IO, XQ_ERROR_MEMORY. */
xq_status gen_create(const char *template_dir, gen **out, error *err);

/* An architecture as a device states it; 0 where it does not say. */
typedef struct gen_arch {
    const char *name;                     /* "sm_90" */
    size_t shared_bytes, shared_bytes_sm; /* of a block, at most; of a multiprocessor */
    int threads_sm, registers_sm;
    const char *gpu; /* the device's name, by which tables of tuned parameters know it; NULL: they do not */
    int multiprocessors;
} gen_arch;

/* The same for a device: specs may be for its architecture where gen/arch.lua does not list that either.
 * Its resources are then those stated here, and its tuning is that of gen_tuned_as. `device` NULL: none. */
xq_status gen_create_for(const char *template_dir, const gen_arch *device, gen **out, error *err);

/* The entry of gen/arch.lua whose tuning serves the device: its own where that is listed, else the nearest
 * lower one of its family, else the newest. NULL without a device. Belongs to the generator. */
const char *gen_tuned_as(const gen *g);

void gen_destroy(gen *g);

/* Validates a spec and fills in everything left open. `spec_json` is {"model": NAME | {...}, "cache":
 * {...}, ...}; the result adds "layout", "weights_layout", "choices" and others (docs/spec.md). Unknown
 * keys are refused. Caller frees *completed. */
xq_status gen_complete(gen *g, const char *spec_json, char **completed, error *err);

/* The size of a call: cached tokens of each sequence, sequences, queries of each. */
typedef struct gen_size {
    int64_t tokens, batch, queries;
} gen_size;

/* How a spec is completed. All may be 0. */
typedef struct gen_completion {
    const char *arch; /* of a spec that names none */
    /* Not 0: parameters that the spec does not choose are looked up in tables of tuned parameters for calls
     * of this size. Also those of a completed spec, which otherwise keeps what it has. 0: those of a spec
     * that is not completed, for the usual calls (XQ_PLAN_OPTIONS_INIT). */
    gen_size calls;
    const char *const *untuned; /* families that are not looked up, and keep their defaults */
    int untuned_count;
} gen_completion;
xq_status gen_complete_with(gen *g, const char *spec_json, const gen_completion *how, char **completed,
                            error *err);

/* ---- Tables of tuned parameters (docs/tuning.md). A generator has those that are built in. */

/* Adds a table of the user's, whole or not at all. It comes after those added before and before those built
 * in; a generator that has completed a spec takes no more. `name`, the file's, is for messages. Errors:
 * XQ_ERROR_FORMAT with the name, and the line or the field. */
xq_status gen_add_table(gen *g, const char *name, const char *json, size_t size, error *err);

/* Which parameters of a family serve calls of which size, for a completed spec whose parameters are those
 * for calls of the size `largest`: JSON {"variants": [{...}], "pick": [[...]]}. The first of at most `most`
 * variants is the spec's. pick[t][b] is the number of the variant for sequences of about 2^t tokens, 2^b of
 * them. Caller frees *json. */
xq_status gen_sizes(gen *g, const char *completed_json, const char *family, const gen_size *largest,
                    int most, char **json, error *err);

/* Whether gen_add_table would take the table; nothing is added. Errors: those of gen_add_table. */
xq_status gen_check_table(gen *g, const char *name, const char *json, size_t size, error *err);

/* From now on nothing is looked up, and families have their defaults. */
xq_status gen_ignore_tables(gen *g, error *err);

/* The tables in order: JSON [{"table","results","device","capability","family","stale"}], how many results
 * each has, how many of them are for this device, for others of the capability or of the family of `arch`,
 * and how many are of sources that have changed since. Caller frees *json. */
xq_status gen_list_tables(gen *g, const char *arch, char **json, error *err);

/* The GPUs of an architecture between which the tables tell: JSON [{"name","multiprocessors"}]. Any GPU of
 * that architecture gets parameters that one of them gets. Caller frees *json. */
xq_status gen_list_gpus(gen *g, const char *arch, char **json, error *err);

/* A warning of the completions so far that nobody took yet, such as a result that is not used because its
 * kernels have changed; "" when there is none. Each is given once. Caller frees *note. */
xq_status gen_take_note(gen *g, char **note, error *err);

/* What kernels see of a completed spec, its architecture and tuning aside, as a hash: results are for specs
 * of one shape. Errors: those of gen_complete. */
typedef struct gen_hash {
    char hex[17];
} gen_hash;
xq_status gen_shape(gen *g, const char *completed_json, gen_hash *out, error *err);

/* ---- */

typedef struct gen_overrides {
    const char *spec_json, *overrides_json;
    const char *model_json;  /* replaces the spec's model; NULL: it stays */
    const char *spec_source; /* names spec_json in syntax errors; NULL: "spec" */
} gen_overrides;

/* A spec's choices, with `overrides_json` on top, a JSON merge patch (RFC 7386: null takes a choice away).
 * The spec may be completed, and edited since; what follows from its choices is left out of *out, which is
 * to be completed again. Caller frees *out. */
xq_status gen_override(gen *g, const gen_overrides *overrides, char **out, error *err);

/* A Hugging Face config.json text → the `model` object of a spec, as JSON. `source` names it in errors.
 * Caller frees *model. */
xq_status gen_model_from_config(gen *g, const char *config_json, const char *source, char **model,
                                error *err);

/* The kind of a layer (counted from 0) of a spec's model: "full", "sliding" or "nope" where the model mixes
 * kinds, so that specs need "layer_kind"; "" where all layers are alike. The spec may lack layer_kind.
 * Caller frees *kind. Errors: XQ_ERROR_ARGUMENT (field `layer`) where the model has no such layer, or the
 * layer keeps no keys and values; those of gen_complete. */
xq_status gen_layer_kind(gen *g, const char *spec_json, int layer, char **kind, error *err);

/* The same for the first layer that keeps keys and values. */
xq_status gen_any_layer_kind(gen *g, const char *spec_json, char **kind, error *err);

/* The preset names, one a line, in a fixed order; belongs to the generator. */
const char *gen_presets(gen *g);

/* docs/features.md: what each kernel family supports, as the families say themselves. Caller frees *page.
 */
xq_status gen_features(gen *g, char **page, error *err);

/* What can be tuned of kernel families, those of `families` (`count` names; all for 0): a JSON array of
 * {"family","summary","parameters":[{"name","values","default","depends_on","meaning"}],"constraints"}.
 * "depends_on" says what else decides the default, and is absent where nothing does. With a spec (NULL:
 * none) each parameter has also "chosen", its value there. A family that cannot serve the spec has
 * "refused", the reason; others have "combinations":
 * {"all","valid","removed":[{"constraint","combinations"}]}, how many combinations of values there are, and
 * how many each constraint rules out. Caller frees *json. Errors: XQ_ERROR_ARGUMENT for an unknown family,
 * those of gen_complete. */
xq_status gen_parameters(gen *g, const char *const *families, int count, const char *spec_json, char **json,
                         error *err);

/* The tuning parameters of a family as a space to search: JSON {"family", "chosen": {...}, "combinations"
 * as above, "candidates": [{"parameters": {...}, "resources": {...}, "work": {...}}]}. Candidates are the
 * valid combinations of values for this spec, "resources" is what the family states of each ("threads",
 * "shared_bytes", tiles), and "work", absent where it states none, what the kernel has to do
 * (docs/templates.md). Caller frees *json. Errors: XQ_ERROR_ARGUMENT for an unknown family,
 * XQ_ERROR_UNSUPPORTED for one that cannot serve the spec, those of gen_complete. */
xq_status gen_space(gen *g, const char *spec_json, const char *family, char **json, error *err);

/* A hash of everything that a family's kernels are made of: its template, its spec.lua (of a variant, also
 * that of the template's family) and the headers of templates/lib, 16 hexadecimal digits. Comments and
 * blank lines do not count. Results of tuning are for one such source. Errors: XQ_ERROR_ARGUMENT for an
 * unknown family. */
xq_status gen_family_source(const gen *g, const char *family, gen_hash *out, error *err);

/* A text of a bundle, rendered from templates/bundle/NAME.lt. `json` says what the bundle holds
 * (cli/emit.c). Caller frees *text. Errors: XQ_ERROR_TEMPLATE. */
xq_status gen_bundle_text(gen *g, const char *name, const cJSON *json, char **text, error *err);

/* One rendered kernel. `info` is JSON: {"family","entry","threads","shared_bytes", and constants that
 * the host side needs, such as "tile_tokens","split_tokens","cols"}; launch geometry: docs/spec.md. */
typedef struct gen_kernel {
    char *source; /* CUDA C++ with #line directives; starts with the banner */
    char *info;
} gen_kernel;

/* Renders family NAME (templates/NAME.cu.lt) for a completed spec (one that is not is completed first).
 * Nothing is returned on error. Errors: XQ_ERROR_TEMPLATE with `file` and `line`, XQ_ERROR_UNSUPPORTED
 * where this family cannot serve the spec, XQ_ERROR_ARGUMENT for an unknown family, those of gen_complete.
 */
xq_status gen_render(gen *g, const char *completed_json, const char *family, gen_kernel *out, error *err);
void gen_kernel_free(gen_kernel *k);

/* The headers that rendered sources may #include (templates/lib), for NVRTC: `*names` and `*texts`
 * have *count entries and belong to the generator. They never change, so any thread may use them. */
void gen_headers(const gen *g, int *count, const char *const **names, const char *const **texts);

/* The place of every code of one 16-token by 64-channel unit, from gen/layout.lua: (*bit_offset)[(t * 64
 * + c) * bits + i] is the place of bit i (0: lowest) of the code of token t, channel c. order is "k" or
 * "v"; bits 2, 3, 4, 8, or 16 (f16 values themselves). Caller frees. */
xq_status gen_unit_map(gen *g, const char *order, int bits, int32_t **bit_offset, error *err);

#endif
