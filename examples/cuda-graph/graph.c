/* Decoding under a CUDA graph. A step (append and attend in all layers) is captured once and replayed for
 * every later step. Between replays the host copies the step's page table, positions, activations and
 * queries into the arrays that the graph reads; nothing else changes. Sequences grow, one ends, and another
 * one takes its place.
 *
 *     make && ./graph [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 *
 * The software device has no graphs. On it the program launches the same step call by call, and says so.
 */
#define PROGRAM "graph"
#include "../embed/common.h"
#include "../embed/reference.h"

#include "driver.h"

#include <stddef.h>

enum {
    LAYERS = 2,
    SLOTS = 3, /* rows of a step; each is a sequence or padding */
    STEPS = 10,
    PAGE = 16,
    MOST_PAGES = 12, /* most pages of one sequence */
    PAGES = SLOTS * (MOST_PAGES + 1),
    MOST_TOKENS = MOST_PAGES * PAGE, /* most tokens of one sequence; the graph serves any length up to it */
    MOST_PROMPT = 140
};

/* By default, attention over so few tokens would be a single split. `tuning` asks for splits of 64 tokens,
 * so that the graph's grid has several splits, as it has for long contexts. */
static const char spec[] =
    "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, "
    "\"group\": 64, \"page\": 16}, "
    "\"tuning\": {\"attend\": {\"warps\": 4, \"m_tiles\": 1, \"split_tokens\": 64}}}";

/* The sequences, and when each arrives. Slot 1 has one sequence, then padding, then another sequence. */
static const struct arrival {
    int step, slot, prompt, steps; /* step of arrival, slot, tokens of the prompt, steps of decoding */
} arrivals[] = {{0, 0, 124, 10}, {0, 1, 44, 4}, {0, 2, 7, 10}, {6, 1, 140, 4}};
enum { ARRIVALS = sizeof arrivals / sizeof arrivals[0] };

/* The graph has a row for each slot. A slot without a sequence is padding: its row is appended to a scratch
 * page and attends over that page. Slot s has the pages from s * MOST_PAGES on, where an engine would have
 * a page allocator. */
static struct slot {
    int length; /* tokens; 0: padding */
    int steps;  /* steps left */
} slots[SLOTS];

/* The inputs of a step. The host fills in this struct, and one copy brings all of it to the device. The
 * graph holds the addresses of the members on the device and reads their current contents when it runs. In
 * a model, kernels of the same graph write x and q, and only the rest comes from the host. */
struct inputs {
    uint16_t x[LAYERS][SLOTS][HIDDEN];
    uint16_t q[LAYERS][SLOTS][ROW];
    int32_t indptr[SLOTS + 1], indices[SLOTS * MOST_PAGES], last_page_len[SLOTS];
    int32_t token_sequence[SLOTS], token_position[SLOTS];
};
static struct inputs *host; /* the host's copy, page-locked if there is a driver */
static uint64_t inputs, outputs;
#define INPUT(member) (inputs + offsetof(struct inputs, member))

static xq_plan *plan;
static xq_plan_info info;
static uint64_t workspace;
static struct layer {
    uint64_t weights, pages;
    struct projections projections;
} layers[LAYERS];

/* NULL on the software device. */
static void *stream, *executable;

/* ------------------------------------------------------------------- set-up */

static void make_plan(void)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_batch = SLOTS;
    options.max_tokens = MOST_TOKENS;
    options.max_append = MOST_PROMPT;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, &info), "xq_plan_query");
}

/* Allocates all memory that the graph's launches point to, before the capture. It must not move later. */
static void make_memory(void)
{
    for (int l = 0; l < LAYERS; l++) {
        layers[l].weights = random_projections(plan, &layers[l].projections);
        layers[l].pages = allocate(PAGES * info.page_bytes);
    }
    workspace = allocate(info.workspace_bytes);
    inputs = allocate(sizeof(struct inputs));
    outputs = allocate(sizeof host->q);
}

/* Makes the CUDA context that owns xq's memory current in this thread, because the driver calls need it. */
static void open_driver(void)
{
    void *primary = NULL, *memory = NULL;
    load_driver();
    need(driver.pointer_attribute(&primary, POINTER_CONTEXT, workspace), "cuPointerGetAttribute");
    need(driver.context_push(primary), "cuCtxPushCurrent");
    need(driver.stream_create(&stream, STREAM_NON_BLOCKING), "cuStreamCreate");
    need(driver.host_alloc(&memory, sizeof *host, 0), "cuMemHostAlloc");
    host = memory;
}

static void close_driver(void)
{
    void *ignored;
    need(driver.executable_destroy(executable), "cuGraphExecDestroy");
    need(driver.stream_destroy(stream), "cuStreamDestroy");
    need(driver.host_free(host), "cuMemFreeHost");
    need(driver.context_pop(&ignored), "cuCtxPopCurrent");
}

/* ---------------------------------------------------------------- sequences */

static int32_t page_of(int slot, int number)
{
    return slots[slot].length ? slot * MOST_PAGES + number : SLOTS * MOST_PAGES + slot;
}

/* Appends a prompt outside the graph, because prompts have different numbers of rows. */
static void append_prompt(const struct arrival *a)
{
    static uint16_t x[MOST_PROMPT * HIDDEN];
    const int32_t indptr[] = {0, (a->prompt + PAGE - 1) / PAGE}, last = (a->prompt - 1) % PAGE + 1;
    int32_t sequence[MOST_PROMPT] = {0}, position[MOST_PROMPT], indices[MOST_PAGES];
    slots[a->slot].length = a->prompt;
    slots[a->slot].steps = a->steps;
    for (int t = 0; t < a->prompt; t++)
        position[t] = t;
    for (int p = 0; p < indptr[1]; p++)
        indices[p] = page_of(a->slot, p);
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    args.tokens = a->prompt;
    args.x = allocate(sizeof x);
    args.token_sequence = upload(sequence, sizeof sequence);
    args.token_position = upload(position, sizeof position);
    args.table.batch = 1;
    args.table.indptr = upload(indptr, sizeof indptr);
    args.table.indices = upload(indices, sizeof indices);
    args.table.last_page_len = upload(&last, sizeof last);
    for (int l = 0; l < LAYERS; l++) {
        random_halves(x, a->prompt * HIDDEN, 2);
        write_device(args.x, x, sizeof x);
        args.pages = layers[l].pages;
        args.weights = layers[l].weights;
        check(xq_plan_append(plan, &args, stream), "xq_plan_append");
    }
    check(xq_device_synchronize(context), "append");
    const uint64_t all[] = {args.x,
                            args.token_sequence,
                            args.token_position,
                            args.table.indptr,
                            args.table.indices,
                            args.table.last_page_len};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
}

/* Removes sequences that have ended, adds those that arrive, and makes every sequence one token longer. */
static void schedule(int step)
{
    for (int s = 0; s < SLOTS; s++)
        if (slots[s].steps == 0)
            slots[s].length = 0;
    for (int a = 0; a < ARRIVALS; a++)
        if (arrivals[a].step == step)
            append_prompt(&arrivals[a]);
    for (int s = 0; s < SLOTS; s++)
        if (slots[s].length) {
            slots[s].length++;
            slots[s].steps--;
        }
}

/* Writes the step's inputs to host memory. */
static void fill_inputs(void)
{
    for (int s = 0; s < SLOTS; s++) {
        int length = slots[s].length ? slots[s].length : 1, pages = (length + PAGE - 1) / PAGE;
        for (int p = 0; p < pages; p++)
            host->indices[host->indptr[s] + p] = page_of(s, p);
        host->indptr[s + 1] = host->indptr[s] + pages;
        host->last_page_len[s] = (length - 1) % PAGE + 1;
        host->token_sequence[s] = s;
        host->token_position[s] = length - 1;
    }
    random_halves(host->x[0][0], LAYERS * SLOTS * HIDDEN, 2);
    random_halves(host->q[0][0], LAYERS * SLOTS * ROW, 3);
}

/* ---------------------------------------------------------------- the graph */

/* The launches that are captured. All arguments are fixed from then on: max_tokens, the batch, the number
 * of rows, and all pointers. Only the contents of memory can change. */
static void launch_step(void)
{
    const xq_page_table table = {SLOTS, INPUT(indptr), INPUT(indices), INPUT(last_page_len)};
    for (int l = 0; l < LAYERS; l++) {
        xq_append_args append = XQ_APPEND_ARGS_INIT;
        append.tokens = SLOTS;
        append.x = INPUT(x) + (size_t)l * sizeof host->x[0];
        append.token_sequence = INPUT(token_sequence);
        append.token_position = INPUT(token_position);
        append.table = table;
        append.pages = layers[l].pages;
        append.weights = layers[l].weights;
        check(xq_plan_append(plan, &append, stream), "xq_plan_append");
        xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
        attend.max_tokens = MOST_TOKENS;
        attend.q = INPUT(q) + (size_t)l * sizeof host->q[0];
        attend.out = outputs + (size_t)l * sizeof host->q[0];
        attend.table = table;
        attend.pages = layers[l].pages;
        attend.weights = layers[l].weights;
        attend.workspace = workspace;
        attend.workspace_bytes = info.workspace_bytes;
        check(xq_plan_attend(plan, &attend, stream), "xq_plan_attend");
    }
}

/* Captures a step. The launches are recorded and do not run. */
static void capture_step(void)
{
    void *graph = NULL;
    need(driver.capture_begin(stream, CAPTURE_THREAD_LOCAL), "cuStreamBeginCapture");
    launch_step();
    need(driver.capture_end(stream, &graph), "cuStreamEndCapture");
    need(driver.graph_instantiate(&executable, graph, 0), "cuGraphInstantiate");
    need(driver.graph_destroy(graph), "cuGraphDestroy");
}

static void read_outputs(uint16_t (*out)[SLOTS][ROW])
{
    check(xq_device_read(context, out, outputs, sizeof host->q), "the step");
}

/* Runs a step under the graph; out [LAYERS]. The copy and the launches run one after another on the stream.
 * The host may overwrite its inputs once the copy has ended; here it waits for the whole step. */
static void replay_step(uint16_t (*out)[SLOTS][ROW])
{
    need(driver.copy_to_device(inputs, host, sizeof *host, stream), "cuMemcpyHtoDAsync");
    need(driver.graph_launch(executable, stream), "cuGraphLaunch");
    need(driver.stream_synchronize(stream), "cuStreamSynchronize");
    read_outputs(out);
}

/* Runs a step without a graph. */
static void direct_step(uint16_t (*out)[SLOTS][ROW])
{
    write_device(inputs, host, sizeof *host);
    check(xq_device_fill(context, outputs, 0xff, sizeof host->q), "xq_device_fill");
    launch_step();
    read_outputs(out);
}

/* ------------------------------------------------------------------- checks */

/* Compares a layer's outputs with double precision over the cache as the step left it. */
static void compare_layer(struct deviation *error, int l, uint16_t (*out)[ROW])
{
    static double rows[SLOTS * MOST_TOKENS][HIDDEN];
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = host->indptr[SLOTS];
    args.table = (xq_page_table){SLOTS, INPUT(indptr), INPUT(indices), INPUT(last_page_len)};
    args.pages = layers[l].pages;
    read_rows(plan, args, SLOTS * MOST_TOKENS, rows);
    for (int s = 0; s < SLOTS; s++)
        if (slots[s].length)
            compare_attention(error, &layers[l].projections, host->q[l][s], out[s],
                              rows + host->indptr[s] * PAGE, slots[s].length - 1);
}

static void print_step(int step, double error)
{
    printf("step %-10d tokens", step + 1);
    for (int s = 0; s < SLOTS; s++)
        if (slots[s].length)
            printf(" %d", slots[s].length);
        else
            printf(" padding");
    printf(", relative error %.2e\n", error);
}

/* Runs a step by plain launches and, if there is a graph, also by a replay. Returns the relative error, or
 * infinity if the graph's outputs differ from those of plain launches. The first step is launched before
 * anything is captured, so that the driver has loaded every kernel by then. */
static double run_step(int step, int is_sim)
{
    static uint16_t out[LAYERS][SLOTS][ROW], direct[LAYERS][SLOTS][ROW];
    struct deviation error = {0, 0};
    schedule(step);
    fill_inputs();
    if (!is_sim && step > 0)
        replay_step(out);
    direct_step(direct);
    if (is_sim || step == 0)
        memcpy(out, direct, sizeof out);
    if (memcmp(out, direct, sizeof out) != 0) {
        fprintf(stderr, PROGRAM ": step %d: the graph's outputs are not those of plain launches\n",
                step + 1);
        return INFINITY;
    }
    for (int l = 0; l < LAYERS; l++)
        compare_layer(&error, l, out[l]);
    if (!is_sim && step == 0)
        capture_step();
    return relative(&error);
}

static void release_all(void)
{
    release(workspace);
    release(inputs);
    release(outputs);
    for (int l = 0; l < LAYERS; l++) {
        release(layers[l].weights);
        release(layers[l].pages);
    }
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

int main(int argc, char **argv)
{
    double worst = 0;
    int is_sim = open_context(argc, argv);
    make_plan();
    make_memory();
    if (is_sim)
        host = host_memory(sizeof *host);
    else
        open_driver();
    memset(host, 0, sizeof *host);
    for (int step = 0; step < STEPS; step++) {
        double error = run_step(step, is_sim);
        worst = error > worst || isnan(error) ? error : worst;
        print_step(step, error);
    }
    if (is_sim)
        printf("graph           none: the software device has no graphs, the steps were launched call by "
               "call\n");
    else
        printf("graph           captured after step 1 for up to %d tokens, replayed in %d steps: bit for "
               "bit what "
               "plain launches give\n",
               MOST_TOKENS, STEPS - 1);
    printf("relative error  %.2e at most, against double precision on the same cache\n", worst);
    if (is_sim)
        free(host);
    else
        close_driver();
    release_all();
    return worst < 2e-3 ? 0 : 1; /* NaN fails too */
}
