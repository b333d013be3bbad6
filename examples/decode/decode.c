/* A decode loop. The prompts of three sequences are appended to the caches of three layers. Every step then
 * appends one token per sequence and attends with its query. Pages are allocated as sequences grow. Random
 * numbers stand in for a model's activations and queries. Every output is compared with attention in double
 * precision over the same cache, and the cache is compared with the activations.
 *
 *     make && ./decode [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 */
#define PROGRAM "decode"
#include "../embed/common.h"
#include "../embed/reference.h"

enum {
    LAYERS = 3,
    BATCH = 3,
    STEPS = 8,
    PAGE = 16,
    PAGES = 9,      /* pages in the pool */
    MOST_PAGES = 4, /* most pages of one sequence */
    MOST_ROWS = 86  /* most rows of one append: all prompts */
};
static const int prompts[BATCH] = {30, 12, 44};

static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, "
                           "\"group\": 64, \"page\": 16}}";

/* The input of each layer's K and V projections. A model would compute it. */
static uint16_t x[LAYERS][BATCH][MOST_PAGES * PAGE][HIDDEN];

/* The engine's state of a sequence. */
static struct sequence {
    int length;
    int page_count;
    int32_t pages[MOST_PAGES];
} sequences[BATCH];

static int32_t free_pages[PAGES];
static int free_count;

/* All layers have the same shape, so they share a plan and a workspace. They also share the page table,
 * because each page of a sequence has the same number in the pools of all layers. */
static xq_plan *plan;
static xq_plan_info info;
static uint64_t workspace;
static xq_page_table table;
static struct layer {
    uint64_t weights, pages;
    struct projections projections;
} layers[LAYERS];

/* The arrays of a call, on the device. They are allocated once and overwritten in every step. */
static struct {
    uint64_t x, token_sequence, token_position, q, out;
} device;

/* ------------------------------------------------------------------- set-up */

static void make_plan(void)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_batch = BATCH;
    options.max_tokens = MOST_PAGES * PAGE;
    options.max_append = MOST_ROWS;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, &info), "xq_plan_query");
}

static void make_memory(void)
{
    for (int l = 0; l < LAYERS; l++) {
        layers[l].weights = random_projections(plan, &layers[l].projections);
        layers[l].pages = allocate(PAGES * info.page_bytes);
    }
    workspace = allocate(info.workspace_bytes);
    table.batch = BATCH;
    table.indptr = allocate((BATCH + 1) * sizeof(int32_t));
    table.indices = allocate(PAGES * sizeof(int32_t));
    table.last_page_len = allocate(BATCH * sizeof(int32_t));
    device.x = allocate(MOST_ROWS * HIDDEN * sizeof(uint16_t));
    device.token_sequence = allocate(MOST_ROWS * sizeof(int32_t));
    device.token_position = allocate(MOST_ROWS * sizeof(int32_t));
    device.q = allocate(BATCH * ROW * sizeof(uint16_t));
    device.out = allocate(BATCH * ROW * sizeof(uint16_t));
    for (free_count = 0; free_count < PAGES; free_count++)
        free_pages[free_count] = free_count;
}

static void release_all(void)
{
    const uint64_t all[] = {workspace, table.indptr,          table.indices,         table.last_page_len,
                            device.x,  device.token_sequence, device.token_position, device.q,
                            device.out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
    for (int l = 0; l < LAYERS; l++) {
        release(layers[l].weights);
        release(layers[l].pages);
    }
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

/* -------------------------------------------------------------------- pages */

/* Makes a sequence `tokens` longer and gives it the pages that it then needs. */
static void grow(struct sequence *s, int tokens)
{
    s->length += tokens;
    while (s->page_count * PAGE < s->length) {
        if (free_count == 0 || s->page_count == MOST_PAGES) {
            fprintf(stderr, PROGRAM ": no page is left for a sequence of %d tokens\n", s->length);
            exit(1);
        }
        s->pages[s->page_count++] = free_pages[--free_count];
    }
}

/* Writes the page table of all sequences as it is after this step's append. Both append and attend use
 * it. */
static void write_table(void)
{
    int32_t indptr[BATCH + 1] = {0}, indices[PAGES], last[BATCH];
    for (int s = 0; s < BATCH; s++) {
        const struct sequence *q = &sequences[s];
        memcpy(indices + indptr[s], q->pages, sizeof indices[0] * (size_t)q->page_count);
        indptr[s + 1] = indptr[s] + q->page_count;
        last[s] = (q->length - 1) % PAGE + 1;
    }
    write_device(table.indptr, indptr, sizeof indptr);
    write_device(table.indices, indices, sizeof indices[0] * (size_t)indptr[BATCH]);
    write_device(table.last_page_len, last, sizeof last);
}

/* -------------------------------------------------------------------- steps */

/* Prepares a step with count[s] new tokens of each sequence s: its pages, the page table, and the sequence
 * and position of every row. */
static void begin_step(const int *count)
{
    int32_t sequence[MOST_ROWS], position[MOST_ROWS];
    int rows = 0;
    for (int s = 0; s < BATCH; s++) {
        for (int t = 0; t < count[s]; t++, rows++) {
            sequence[rows] = s;
            position[rows] = sequences[s].length + t;
        }
        grow(&sequences[s], count[s]);
    }
    write_table();
    write_device(device.token_sequence, sequence, sizeof sequence[0] * (size_t)rows);
    write_device(device.token_position, position, sizeof position[0] * (size_t)rows);
}

/* Appends the last count[s] tokens of each sequence s. In a model their rows of x are already on the
 * device. */
static void append(const struct layer *l, const int *count)
{
    static uint16_t rows[MOST_ROWS][HIDDEN];
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    for (int s = 0; s < BATCH; s++) {
        memcpy(rows[args.tokens], x[l - layers][s][sequences[s].length - count[s]],
               sizeof rows[0] * (size_t)count[s]);
        args.tokens += count[s];
    }
    write_device(device.x, rows, sizeof rows[0] * (size_t)args.tokens);
    args.x = device.x;
    args.token_sequence = device.token_sequence;
    args.token_position = device.token_position;
    args.table = table;
    args.pages = l->pages;
    args.weights = l->weights;
    check(xq_plan_append(plan, &args, NULL), "xq_plan_append");
}

static int longest(void)
{
    int most = 0;
    for (int s = 0; s < BATCH; s++)
        most = sequences[s].length > most ? sequences[s].length : most;
    return most;
}

/* Attends with one query per sequence, at its last token. q and out [BATCH, ROW] are copied to the host for
 * the comparison. In a model, q (before RoPE) and out stay on the device. */
static void attend(const struct layer *l, uint16_t *q, uint16_t *out)
{
    const size_t bytes = BATCH * ROW * sizeof *q;
    random_halves(q, BATCH * ROW, 3);
    write_device(device.q, q, bytes);
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = longest();
    args.q = device.q;
    args.out = device.out;
    args.table = table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.workspace = workspace;
    args.workspace_bytes = info.workspace_bytes;
    check(xq_plan_attend(plan, &args, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, device.out, bytes), "attend");
}

/* ------------------------------------------------------------------- checks */

static struct deviation cached; /* deviation of the cache from the activations */

/* Compares every output of a layer with double precision over the same cache. */
static void compare_layer(struct deviation *error, const struct layer *l, const uint16_t *q,
                          const uint16_t *out)
{
    static double rows[PAGES * PAGE][HIDDEN];
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    int entry = 0; /* the sequence's first entry in the page table */
    for (int s = 0; s < BATCH; s++)
        args.table_entries += sequences[s].page_count;
    args.table = table;
    args.pages = l->pages;
    read_rows(plan, args, PAGES * PAGE, rows);
    for (int s = 0; s < BATCH; s++) {
        compare_attention(error, &l->projections, q + s * ROW, out + s * ROW, rows + entry * PAGE,
                          sequences[s].length - 1);
        for (int t = 0; t < sequences[s].length; t++)
            for (int c = 0; c < HIDDEN; c++)
                compare(&cached, rows[entry * PAGE + t][c], half_value(x[l - layers][s][t][c]));
        entry += sequences[s].page_count;
    }
}

static double decode_step(void)
{
    static const int one[BATCH] = {1, 1, 1};
    static uint16_t q[BATCH * ROW], out[BATCH * ROW];
    struct deviation error = {0, 0};
    begin_step(one);
    for (int l = 0; l < LAYERS; l++) { /* a model does its other work in between */
        append(&layers[l], one);
        attend(&layers[l], q, out);
        compare_layer(&error, &layers[l], q, out);
    }
    return relative(&error);
}

int main(int argc, char **argv)
{
    double worst = 0;
    int tokens = 0;
    open_context(argc, argv);
    make_plan();
    make_memory();
    random_halves(x[0][0][0], LAYERS * BATCH * MOST_PAGES * PAGE * HIDDEN, 2);
    begin_step(prompts);
    for (int l = 0; l < LAYERS; l++)
        append(&layers[l], prompts);
    for (int step = 1; step <= STEPS; step++) {
        double error = decode_step();
        worst = error > worst || isnan(error) ? error : worst;
        printf("step %-10d tokens %d + %d + %d, pages %d + %d + %d, relative error %.2e\n", step,
               sequences[0].length, sequences[1].length, sequences[2].length, sequences[0].page_count,
               sequences[1].page_count, sequences[2].page_count, error);
    }
    for (int s = 0; s < BATCH; s++)
        tokens += sequences[s].length;
    printf("cache           %.0f bytes for %d tokens of %d layers; fp16 keys and values would take %d\n",
           info.cache_bytes_per_token * tokens * LAYERS, tokens, LAYERS,
           tokens * LAYERS * 2 * KV_WIDTH * 2);
    printf("pages           %d of %d given out, of %zu bytes in every layer\n", PAGES - free_count, PAGES,
           info.page_bytes);
    double distance = relative(&cached);
    printf("relative error  %.2e at most, against double precision on the same cache\n", worst);
    printf("quantization    %.2e from the activations to the cache\n", distance);
    release_all();
    return worst < 2e-3 && distance < 0.1 ? 0 : 1; /* NaN fails too */
}
