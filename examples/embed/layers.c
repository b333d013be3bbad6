/* A cross-layer cache, driven as an engine does it. The first layer is the base. The other two layers cache
 * only the difference between their input and the reconstructed input of the layer before. The program runs
 * a prompt and then steps of decoding. It compares every layer's attention with double precision over the
 * layer's reconstructed input, which is the accumulator at that moment.
 *
 *     make && ./layers [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 */
#define PROGRAM "layers"
#include "common.h"
#include "reference.h"

enum { LAYERS = 3, PROMPT = 40, STEPS = 4, TOKENS = PROMPT + STEPS, PAGE = 16, PAGES = 3 };

#define CACHE "\"method\": \"x-cl\", \"bits\": 4, \"group\": 64, \"page\": 16"
static const char base_spec[] = "{" MODEL ", \"cache\": {" CACHE ", \"base\": true}}";
static const char delta_spec[] = "{" MODEL ", \"cache\": {" CACHE "}}";

/* The layers. The base layer has its own plan, and the others share one. */
static struct layer {
    xq_plan *plan;
    xq_plan_info info;
    uint64_t weights, pages;
    struct projections projections;
} layers[LAYERS];

/* All layers share these. */
static uint64_t accumulator, workspace;
static xq_page_table table;
static uint16_t x[LAYERS][TOKENS][HIDDEN]; /* the input of each layer */

/* ------------------------------------------------------------------- set-up */

static xq_plan *make_plan(const char *spec, xq_plan_info *info)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    xq_plan *plan;
    *info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_tokens = TOKENS;
    options.max_append = PROMPT;
    options.max_queries = PROMPT;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, info), "xq_plan_query");
    return plan;
}

static void make_layer(struct layer *l, const struct layer *other)
{
    l->plan = other ? other->plan : make_plan(l == layers ? base_spec : delta_spec, &l->info);
    if (other)
        l->info = other->info;
    l->weights = random_projections(l->plan, &l->projections);
    l->pages = allocate(PAGES * l->info.page_bytes);
}

/* Makes inputs that change little from layer to layer, as the residual stream does. */
static void make_inputs(void)
{
    uint16_t change[HIDDEN];
    random_halves(x[0][0], TOKENS * HIDDEN, 2);
    for (int l = 1; l < LAYERS; l++)
        for (int t = 0; t < TOKENS; t++) {
            random_halves(change, HIDDEN, 0.25f);
            for (int i = 0; i < HIDDEN; i++)
                x[l][t][i] = half_bits((float)(half_value(x[l - 1][t][i]) + half_value(change[i])));
        }
}

static void make_cache(void)
{
    const int32_t indptr[] = {0, PAGES}, indices[PAGES] = {1, 0, 2};
    size_t workspace_bytes = 0;
    for (int l = 0; l < LAYERS; l++)
        if (layers[l].info.workspace_bytes > workspace_bytes)
            workspace_bytes = layers[l].info.workspace_bytes;
    workspace = allocate(workspace_bytes);
    accumulator =
        allocate(PAGES * layers[0].info.accumulator_page_bytes); /* same page numbers as in the layers */
    table.indptr = upload(indptr, sizeof indptr);
    table.indices = upload(indices, sizeof indices);
    table.last_page_len = allocate(sizeof(int32_t));
}

/* --------------------------------------------------------------------- steps */

/* Writes the page table for a sequence of `length` tokens. */
static void set_length(int length)
{
    const int32_t pages[] = {0, (length + PAGE - 1) / PAGE}, last = (length - 1) % PAGE + 1;
    table.batch = 1;
    write_device(table.indptr, pages, sizeof pages);
    write_device(table.last_page_len, &last, sizeof last);
}

static void append(const struct layer *l, int before, int count)
{
    int32_t sequence[PROMPT] = {0}, position[PROMPT];
    for (int t = 0; t < count; t++)
        position[t] = before + t;
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    args.tokens = count;
    args.x = upload(x[l - layers][before], sizeof x[0][0] * (size_t)count);
    args.token_sequence = upload(sequence, sizeof sequence[0] * (size_t)count);
    args.token_position = upload(position, sizeof position[0] * (size_t)count);
    args.table = table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.accumulator = accumulator; /* holds the layer before; the base layer does not read it */
    check(xq_plan_append(l->plan, &args, NULL), "xq_plan_append");
    check(xq_device_synchronize(context), "append");
    release(args.x);
    release(args.token_sequence);
    release(args.token_position);
}

/* Updates the accumulator, which then is this layer's reconstructed input. */
static void accumulate(const struct layer *l, int length)
{
    xq_accumulate_args args = XQ_ACCUMULATE_ARGS_INIT;
    args.max_tokens = length;
    args.table = table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.accumulator = accumulator;
    check(xq_plan_accumulate(l->plan, &args, NULL), "xq_plan_accumulate");
}

/* Attends with `count` random queries, at the last of `length` tokens. */
static void attend(const struct layer *l, int length, int count, uint16_t *q, uint16_t *out)
{
    const int32_t starts[] = {0, count};
    size_t bytes = sizeof *q * (size_t)count * ROW;
    random_halves(q, count * ROW, 3);
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = length;
    args.q = upload(q, bytes);
    args.out = allocate(bytes);
    args.table = table;
    args.accumulator = accumulator;
    args.weights = l->weights;
    args.workspace = workspace;
    args.workspace_bytes = l->info.workspace_bytes;
    args.queries = count;
    args.query_indptr = upload(starts, sizeof starts);
    check(xq_plan_attend(l->plan, &args, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, args.out, bytes), "attend");
    release(args.q);
    release(args.out);
    release(args.query_indptr);
}

/* ------------------------------------------------------------------- checks */

static double rows[PAGES * PAGE][HIDDEN];

static void read_accumulator(const struct layer *l, int length)
{
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = (length + PAGE - 1) / PAGE;
    args.table = table;
    args.accumulator = accumulator;
    read_rows(l->plan, args, PAGES * PAGE, rows);
}

/* The relative distance of the accumulator's rows from the layer's true input. */
static double distance(const struct layer *l, int length)
{
    struct deviation error = {0, 0};
    for (int t = 0; t < length; t++)
        for (int i = 0; i < HIDDEN; i++)
            compare(&error, rows[t][i], half_value(x[l - layers][t][i]));
    return relative(&error);
}

static double relative_error(const struct layer *l, int length, int count, const uint16_t *q,
                             const uint16_t *out)
{
    struct deviation error = {0, 0};
    for (int j = 0; j < count; j++)
        compare_attention(&error, &l->projections, q + j * ROW, out + j * ROW, rows, length - count + j);
    return relative(&error);
}

/* One engine step: runs `count` new tokens through all layers. Returns the largest error of a layer. */
static double step(int before, int count)
{
    static uint16_t q[PROMPT * ROW], out[PROMPT * ROW];
    double worst = 0;
    int length = before + count;
    set_length(length);
    for (struct layer *l = layers; l < layers + LAYERS; l++) {
        append(l, before, count);
        accumulate(l, length);
        attend(l, length, count, q, out);
        read_accumulator(l, length);
        double error = relative_error(l, length, count, q, out);
        worst = error > worst || isnan(error) ? error : worst;
    }
    return worst;
}

int main(int argc, char **argv)
{
    open_context(argc, argv);
    make_inputs();
    for (int l = 0; l < LAYERS; l++)
        make_layer(&layers[l], l > 1 ? &layers[1] : NULL);
    make_cache();
    double worst = step(0, PROMPT);
    for (int t = PROMPT; t < TOKENS && worst < 2e-3; t++)
        worst = step(t, 1);
    double off = distance(&layers[LAYERS - 1], TOKENS);
    const xq_plan_info *info = &layers[1].info;
    printf("cache           %.1f bytes per token and layer, and %.1f once; fp16 keys and values would take "
           "%d\n",
           info->cache_bytes_per_token, info->accumulator_bytes_per_token, 2 * KV_WIDTH * 2);
    printf("relative error  %.2e against double precision on the same accumulator\n", worst);
    printf("reconstruction  %.2e from the last layer's input\n", off);

    for (int l = 0; l < LAYERS; l++) {
        release(layers[l].weights);
        release(layers[l].pages);
    }
    const uint64_t all[] = {accumulator, workspace, table.indptr, table.indices, table.last_page_len};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
    xq_plan_destroy(layers[0].plan);
    xq_plan_destroy(layers[1].plan);
    xq_context_destroy(context);
    return worst < 2e-3 && off < 2e-2 ? 0 : 1; /* NaN fails too */
}
