#include "plan_fixture.h"
#include "files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_cuda_state *fake;
xq_context *context;

static void open_on(const char *name, const char *template_dir)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = name;
    options.template_dir = template_dir;
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
}

void plan_open(const char *template_dir)
{
    fake = fake_cuda_use();
    open_on("cuda", template_dir);
}

/* -------------------------------------------------------------------- stubs */

static void write_text(const char *folder, const char *family, const char *suffix, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", family, suffix);
    files_write(files_path(folder, name), text, strlen(text));
}

static void write_stub(const char *folder, const char *family, const char *params, const char *resources)
{
    char text[1024];
    snprintf(
        text, sizeof text,
        "return {name = \"%s\", entry = \"xq_%s\", summary = \"\", parameters = {}, constraints = {},\n"
        "resources = function(spec)\n"
        "  local many = spec.queries == \"many\"\n"
        "  return {threads = 32, shared_bytes = 0, %s}\n"
        "end}\n",
        family, family, resources);
    write_text(folder, family, ".spec.lua", text);
    snprintf(text, sizeof text,
             "#include \"params.h\"\n"
             "extern \"C\" __global__ void ${kernel.entry}(const __grid_constant__ "
             "${params(\"xq_%s_params\")} p)\n"
             "{${guard}}\n",
             params);
    write_text(folder, family, ".cu.lt", text);
}

/* Writes a copy of gen/features.lua that refuses no feature. */
static void write_features(const char *folder)
{
    size_t size;
    char *text = files_read("gen/features.lua", &size), *grown = malloc(size + 128);
    char *end = strstr(text, "\nreturn features");
    cr_assert_not_null(end);
    *end = 0;
    sprintf(grown, "%s\nfunction features.refusal() end\nreturn features\n", text);
    write_text(folder, "features", ".lua", grown);
    free(grown);
    free(text);
}

/* Makes a folder with the stubs. */
static const char *write_stubs(void)
{
    const char *folder = files_directory();
    char columns[64], sums[96], attention[192], fused[256], kv[256], gemm[64], heads[32], rows[32],
        tile[32], channel[128];
    snprintf(columns, sizeof columns, "column_blocks = %d", STUB_COLUMN_BLOCKS);
    snprintf(sums, sizeof sums, "%s, tiles = %d", columns, STUB_SUM_TILES);
    snprintf(channel, sizeof channel,
             "column_blocks = %d, group_tokens = spec.cache.group, steps = spec.cache.base and %d or 1",
             STUB_COLUMN_BLOCKS + 1, STUB_STEPS);
    snprintf(attention, sizeof attention,
             "query_rows = many and %d or %d, tile_tokens = %d, split_tokens = many and 1 << 20 or %d, "
             "bytes_in_flight = 1",
             STUB_MANY_ROWS, STUB_ONE_ROWS, STUB_TILE, STUB_SPLIT);
    snprintf(fused, sizeof fused, "%s, partial_share = many and 0.5 or 0.047", attention);
    snprintf(kv, sizeof kv, "%s, partial_share = 0.10", attention);
    snprintf(gemm, sizeof gemm, "rows = %d, cols = %d", STUB_GEMM_ROWS, STUB_GEMM_COLS);
    snprintf(heads, sizeof heads, "head_blocks = %d", STUB_HEAD_BLOCKS);
    snprintf(tile, sizeof tile, "tile_tokens = %d", STUB_TILE);
    snprintf(rows, sizeof rows, "rows = %d", STUB_MERGE_ROWS);
    write_features(folder);
    write_stub(folder, "append", "append", columns);
    write_stub(folder, "append_channel", "append", channel);
    write_stub(folder, "accumulate", "accumulate", sums);
    write_stub(folder, "dequantize", "dequantize", columns);
    write_stub(folder, "absorb", "absorb", attention);
    write_stub(folder, "attend", "attend", fused);
    write_stub(folder, "kv_attend", "kv_attend", kv);
    write_stub(folder, "kv_append", "kv_append", "");
    write_stub(folder, "gemm", "gemm", gemm);
    write_stub(folder, "rope", "rope", heads);
    write_stub(folder, "merge", "merge", rows);
    write_stub(folder, "key_norms", "key_norms", tile);
    return folder;
}

void plan_open_stubs(void)
{
    plan_open(write_stubs());
}

void plan_open_stubs_on_sim(void)
{
    open_on("sim", write_stubs());
}

/* -------------------------------------------------------------------- plans */

const xq_error_detail *plan_error(void)
{
    static xq_error_detail detail;
    detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    return &detail;
}

xq_plan_options plan_options(const char *spec, xq_implementation implementation)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json = spec;
    o.implementation = implementation;
    o.max_batch = 3;
    o.max_tokens = 1000;
    o.max_append = 100;
    return o;
}

xq_plan *plan_make_with(const xq_plan_options *options)
{
    xq_plan *plan = NULL;
    if (!context)
        plan_open(NULL);
    cr_assert_eq(xq_plan_create(context, options, &plan), XQ_OK, "%s", plan_error()->message);
    return plan;
}

xq_plan *plan_make(const char *spec, xq_implementation implementation)
{
    xq_plan_options o = plan_options(spec, implementation);
    return plan_make_with(&o);
}

xq_plan_info plan_info(const xq_plan *plan)
{
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    return info;
}

void plan_close(xq_plan *plan)
{
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    context = NULL;
    cr_assert_eq(fake->modules, 0, "a module was not unloaded");
    cr_assert_eq(fake->retained, 0);
}

/* ---------------------------------------------------------------- arguments */

call_cache plan_cache(const xq_plan *plan)
{
    return (call_cache){
        .table = {2, INDPTR, INDICES, LAST},
        .pages = PAGES,
        .weights = WEIGHTS,
        .workspace = WORKSPACE,
        .workspace_bytes = plan_info(plan).workspace_bytes,
        .accumulator = plan_info(plan).accumulator_page_bytes ? ACCUMULATOR : 0,
        .tails = plan_info(plan).tail_bytes ? (xq_tail_pool){TAILS, SLOTS} : (xq_tail_pool){0, 0},
    };
}

xq_append_args plan_append_args(const xq_plan *plan)
{
    const call_cache cached = plan_cache(plan);
    xq_append_args a = call_append(&cached);
    a.tokens = 40;
    a.x = X;
    a.token_sequence = SEQUENCE;
    a.token_position = POSITION;
    a.append_indptr = APPEND_INDPTR;
    if (shape_is_kv(plan->implementation))
        a.rotary_position = ROTARY;
    return a;
}

xq_attend_args plan_attend_args(const xq_plan *plan)
{
    const call_cache cached = plan_cache(plan);
    xq_attend_args a = call_attend(&cached);
    a.max_tokens = 700;
    a.q = Q;
    a.out = OUT;
    a.lse = LSE;
    return a;
}

const void *plan_launched(int back, const char *name, unsigned x, unsigned y, unsigned z)
{
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, back);
    cr_assert_str_eq(l->name, name);
    cr_assert(l->grid[0] == x && l->grid[1] == y && l->grid[2] == z, "%s: grid is %u %u %u, not %u %u %u",
              name, l->grid[0], l->grid[1], l->grid[2], x, y, z);
    return l->params;
}
