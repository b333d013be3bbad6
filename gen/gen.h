/* The generator: it takes specs and writes CUDA C++. Lua modules do the work inside a sandbox; this is the
 * interface of their C host.
 *
 * Values are passed as JSON texts, so that nothing here depends on how Lua represents them. Only one thread
 * may use a generator at a time. */
#ifndef GEN_GEN_H
#define GEN_GEN_H

#include "../runtime/base/error.h"

typedef struct gen gen;
typedef struct cJSON cJSON;

/* `template_dir` is a directory to read templates and Lua modules from (gen/source.h), or NULL for the
 * built-in ones. Files that the directory lacks are taken from the built-in ones. All files are read here
 * and never again. Errors: XQ_ERROR_IO, XQ_ERROR_MEMORY. */
xq_status gen_create(const char *template_dir, gen **out, error *err);

/* An architecture as a device reports it. A number is 0 where the device does not report it. */
typedef struct gen_arch {
    const char *name;                     /* "sm_90" */
    size_t shared_bytes, shared_bytes_sm; /* at most for one block; for one multiprocessor */
    int threads_sm, registers_sm;
    const char *gpu; /* the device's name in tables of tuned parameters; NULL: it has none there */
    int multiprocessors;
} gen_arch;

/* gen_create for a device. Specs may then name the device's architecture even where gen/arch.lua does not
 * list it: its resources are those stated here, and its tuning is that of gen_tuned_as. `device` may be
 * NULL. */
xq_status gen_create_for(const char *template_dir, const gen_arch *device, gen **out, error *err);

/* The entry of gen/arch.lua whose tuning serves the device: the device's own entry where there is one, else
 * the nearest lower one of its family, else the newest. NULL without a device. The text belongs to the
 * generator. */
const char *gen_tuned_as(const gen *g);

void gen_destroy(gen *g);

/* Validates a spec and fills in every value that was left open. `spec_json` is {"model": NAME | {...},
 * "cache": {...}, ...}; the result adds "layout", "weights_layout", "choices" and others (docs/spec.md).
 * Unknown keys are refused. Caller frees *completed. */
xq_status gen_complete(gen *g, const char *spec_json, char **completed, error *err);

/* The size of a call: cached tokens of each sequence, number of sequences, and queries of each sequence. */
typedef struct gen_size {
    int64_t tokens, batch, queries;
} gen_size;

/* How a spec is completed. Every member may be 0. */
typedef struct gen_completion {
    const char *arch; /* for a spec that names no architecture */
    /* The size of the calls to choose tuning parameters for. Where `tokens` is not 0, parameters that the
     * spec does not choose are looked up in the tables of tuned parameters for calls of this size, even if
     * the spec is completed. Where `tokens` is 0, a completed spec keeps its parameters, and the parameters
     * of any other spec are looked up for the usual calls (XQ_PLAN_OPTIONS_INIT). */
    gen_size calls;
    const char *const *untuned; /* families that are not looked up, and keep their default parameters */
    int untuned_count;
} gen_completion;
xq_status gen_complete_with(gen *g, const char *spec_json, const gen_completion *how, char **completed,
                            error *err);

/* ---- Tables of tuned parameters (docs/tuning.md). A generator starts with the built-in tables. */

/* Adds a table that the user gives, either whole or not at all. It comes after tables that were added
 * earlier and before the built-in ones. A generator that has completed a spec takes no more tables. `name`
 * is the file's name, for messages. Errors: XQ_ERROR_FORMAT with the name, and the line or the field. */
xq_status gen_add_table(gen *g, const char *name, const char *json, size_t size, error *err);

/* Chooses parameters of a family for calls of every size up to `largest`. The parameters of the completed
 * spec are those for calls of the size `largest`. The result is JSON {"variants": [{...}], "pick": [[...]]}
 * with at most `most` variants; the first one has the spec's parameters. pick[t][b] is the number of the
 * variant for 2^b sequences of about 2^t tokens. Caller frees *json. */
xq_status gen_sizes(gen *g, const char *completed_json, const char *family, const gen_size *largest,
                    int most, char **json, error *err);

/* Checks whether gen_add_table would take the table; adds nothing. Errors: those of gen_add_table. */
xq_status gen_check_table(gen *g, const char *name, const char *json, size_t size, error *err);

/* From now on no table is looked up, and all families have their default parameters. */
xq_status gen_ignore_tables(gen *g, error *err);

/* Lists the tables in order as JSON [{"table","results","device","capability","family","stale"}]: the
 * number of results in each table, how many of them are for this device, how many are for other devices of
 * the capability or of the family of `arch`, and how many were measured with sources that have changed
 * since. Caller frees *json. */
xq_status gen_list_tables(gen *g, const char *arch, char **json, error *err);

/* Lists the GPUs of an architecture for which the tables may give different parameters, as JSON
 * [{"name","multiprocessors"}]. Every GPU of the architecture gets the same parameters as one of them.
 * Caller frees *json. */
xq_status gen_list_gpus(gen *g, const char *arch, char **json, error *err);

/* Takes one warning that completions have left so far, for example that a result is not used because its
 * kernels have changed; "" when there is none. Each warning is given once. Caller frees *note. */
xq_status gen_take_note(gen *g, char **note, error *err);

/* A hash of the parts of a completed spec that kernels depend on, without its architecture and tuning.
 * Tuning results belong to one such shape. Errors: those of gen_complete. */
typedef struct gen_hash {
    char hex[17];
} gen_hash;
xq_status gen_shape(gen *g, const char *completed_json, gen_hash *out, error *err);

/* ---- */

typedef struct gen_overrides {
    const char *spec_json, *overrides_json;
    const char *model_json;  /* replaces the spec's model; NULL: the model stays */
    const char *spec_source; /* names spec_json in syntax errors; NULL: "spec" */
} gen_overrides;

/* Gives the choices of a spec with `overrides_json` on top, a JSON merge patch (RFC 7386: null removes a
 * choice). The spec may be completed, and may have been edited after completion. Values that completion
 * derives from choices are left out of *out, so it has to be completed again. Caller frees *out. */
xq_status gen_override(gen *g, const gen_overrides *overrides, char **out, error *err);

/* Converts the text of a Hugging Face config.json to the `model` object of a spec, as JSON. `source` names
 * the text in errors. Caller frees *model. */
xq_status gen_model_from_config(gen *g, const char *config_json, const char *source, char **model,
                                error *err);

/* The kind of a layer (counted from 0) of a spec's model: "full", "sliding" or "nope" where the model mixes
 * kinds, so that specs need "layer_kind"; "" where all layers are alike. The spec may lack layer_kind.
 * Caller frees *kind. Errors: XQ_ERROR_ARGUMENT (field `layer`) where the model has no such layer, or where
 * the layer keeps no keys and values; those of gen_complete. */
xq_status gen_layer_kind(gen *g, const char *spec_json, int layer, char **kind, error *err);

/* gen_layer_kind for the first layer that keeps keys and values. */
xq_status gen_any_layer_kind(gen *g, const char *spec_json, char **kind, error *err);

/* The names of the presets, one on each line, in a fixed order. The text belongs to the generator. */
const char *gen_presets(gen *g);

/* The text of docs/features.md: what each kernel family supports, as the families themselves declare it.
 * Caller frees *page. */
xq_status gen_features(gen *g, char **page, error *err);

/* Lists the tuning parameters of kernel families (the `count` names of `families`; all families where
 * `count` is 0): a JSON array of
 * {"family","summary","parameters":[{"name","values","default","depends_on","meaning"}],"constraints"}.
 * "depends_on" names what else decides the default, and is absent where nothing does. With a spec (NULL:
 * none), each parameter also has "chosen", its value there. A family that cannot serve the spec has
 * "refused", the reason. Other families have "combinations":
 * {"all","valid","removed":[{"constraint","combinations"}]}: how many combinations of values there are, and
 * how many each constraint rules out. Caller frees *json. Errors: XQ_ERROR_ARGUMENT for an unknown family;
 * those of gen_complete. */
xq_status gen_parameters(gen *g, const char *const *families, int count, const char *spec_json, char **json,
                         error *err);

/* The tuning parameters of a family as a space to search: JSON {"family", "chosen": {...}, "combinations"
 * as above, "candidates": [{"parameters": {...}, "resources": {...}, "work": {...}}]}. Candidates are the
 * combinations of values that are valid for this spec. "resources" is what the family states for a
 * candidate ("threads", "shared_bytes", tiles). "work" is the work of the kernel (docs/templates.md), and
 * is absent where the family does not state it. Caller frees *json. Errors: XQ_ERROR_ARGUMENT for an
 * unknown family, XQ_ERROR_UNSUPPORTED for a family that cannot serve the spec, those of gen_complete. */
xq_status gen_space(gen *g, const char *spec_json, const char *family, char **json, error *err);

/* Draws valid tuning parameters for every family that can serve a spec: JSON {FAMILY: {parameter: value}},
 * as the spec's "tuning". Every valid combination of a family's values is equally likely, and the same seed
 * draws the same ones wherever a block may have as much shared memory. Caller frees *json. Errors: those of
 * gen_complete. */
xq_status gen_draw_tuning(gen *g, const char *spec_json, int seed, char **json, error *err);

/* A hash of all sources of a family's kernels: its template, its spec.lua (of a variant also that of the
 * template's family) and the headers of templates/lib, as 16 hexadecimal digits. Comments and blank lines
 * do not count. Tuning results are valid for one such hash. Errors: XQ_ERROR_ARGUMENT for an unknown
 * family. */
xq_status gen_family_source(const gen *g, const char *family, gen_hash *out, error *err);

/* Renders a text of a bundle from templates/bundle/NAME.lt. `json` describes the contents of the bundle
 * (cli/emit.c). Caller frees *text. Errors: XQ_ERROR_TEMPLATE. */
xq_status gen_bundle_text(gen *g, const char *name, const cJSON *json, char **text, error *err);

/* One rendered kernel. `info` is JSON {"family","entry","threads","shared_bytes", and constants that the
 * host side needs, such as "tile_tokens","split_tokens","cols"}; docs/spec.md describes the launch
 * geometry. */
typedef struct gen_kernel {
    char *source; /* CUDA C++ with #line directives; starts with the banner */
    char *info;
} gen_kernel;

/* Renders family NAME (templates/NAME.cu.lt) for a spec, which is completed first where it is not. Nothing
 * is returned on error. Errors: XQ_ERROR_TEMPLATE with `file` and `line`, XQ_ERROR_UNSUPPORTED where this
 * family cannot serve the spec, XQ_ERROR_ARGUMENT for an unknown family, those of gen_complete. */
xq_status gen_render(gen *g, const char *completed_json, const char *family, gen_kernel *out, error *err);
void gen_kernel_free(gen_kernel *k);

/* The headers that rendered sources may #include (templates/lib), for NVRTC: `*names` and `*texts`
 * have *count entries and belong to the generator. They never change, so any thread may use them. */
void gen_headers(const gen *g, int *count, const char *const **names, const char *const **texts);

/* Line `number` (from 1) of a template or header, by the name that diagnostics and profiles give, e.g.
 * "templates/lib/rope.cuh". Without surrounding blanks; "" where there is no such line. */
void gen_source_line(const gen *g, const char *file, int number, char *line, size_t size);

/* The position of every code in one unit of 16 tokens by 64 channels, from gen/layout.lua: (*bit_offset)[(t
 * * 64 + c) * bits + i] is the position of bit i (0: lowest) of the code of token t, channel c. `order` is
 * "k" or "v"; `bits` is 2, 3, 4, 8, or 16 (the f16 values themselves). Caller frees. */
xq_status gen_unit_map(gen *g, const char *order, int bits, int32_t **bit_offset, error *err);

#endif
