/* Tensor parallelism with two ranks, each with half of the heads. Each rank has a plan for its own heads
 * and attends with them. Its part of the output projection gives partial sums of all channels, which are
 * added up over the ranks. Three caches show which data is replicated and which is not:
 *
 *   x                    caches the layer's input; every rank caches all of it
 *   latent, joint        caches latents of all KV heads; every rank caches all of them
 *   latent, per group    caches latents of groups of KV heads; every rank caches those of its own heads
 *
 * The same steps are then run on one rank with all heads, and the results must agree.
 *
 *     make && ./parallel [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 *
 * With auto and cuda, rank r takes GPU r if it exists; otherwise it opens DEVICE as given.
 */
#define PROGRAM "parallel"
#include "../embed/common.h"
#include "../embed/reference.h"

#include "ranks.h"
#include "reduce.h"

enum {
    BATCH = 2,
    STEPS = 4,
    PAGE = 16,
    MOST_PAGES = 3, /* most pages of one sequence */
    PAGES = BATCH * MOST_PAGES,
    LATENT = 64, /* columns of the joint latent, and of the latent of each group */
    MOST_ROWS = 64
};
static const int prompts[BATCH] = {40, 17};

enum cache { CACHE_X, CACHE_JOINT, CACHE_GROUPS, CACHES };
static const char *const cache_names[CACHES] = {"x", "latent, joint", "latent, per group"};

/* The heads that a process computes, from first_head on: those of one of two ranks, or all heads. */
static struct part {
    int first_head, heads, first_kv_head, kv_heads;
} part;

/* The matrices of the whole layer, in f32, row major. They are the same in every process, and a rank packs
 * its own columns of them. */
static float wk[HIDDEN][KV_WIDTH], wv[HIDDEN][KV_WIDTH];                   /* method x */
static float uk[HIDDEN][KV_HEADS * LATENT], uv[HIDDEN][KV_HEADS * LATENT]; /* method latent, all groups */
static float ak[LATENT][KV_WIDTH], av[LATENT][KV_WIDTH];
static float wo[ROW][HIDDEN];
static uint16_t x[BATCH][MOST_PAGES * PAGE][HIDDEN], q[STEPS][BATCH][ROW];

/* The results. Each of the two ranks writes the outputs of its own heads, and sums that should be the same
 * on both ranks. */
struct results {
    uint16_t heads[2][CACHES][STEPS][BATCH][ROW];        /* [0]: two ranks; [1]: one rank with all heads */
    double bytes[2][CACHES];                             /* bytes per token on a rank, likewise */
    float sums[RANKS + 1][CACHES][STEPS][BATCH][HIDDEN]; /* each rank; [RANKS]: one rank with all heads */
};
static struct results *results; /* in shared memory */

static xq_plan *plan;
static xq_plan_info info;
static uint64_t weights, pages, workspace, sums;
static xq_page_table table;

/* ------------------------------------------------------------------- set-up */

static void random_matrix(float *values, int count, float scale)
{
    for (int i = 0; i < count; i++) {
        uint16_t bits;
        random_halves(&bits, 1, scale);
        values[i] = (float)half_value(bits);
    }
}

static void make_layer(void)
{
    random_matrix(wk[0], HIDDEN * KV_WIDTH, 1.0f / 16);
    random_matrix(wv[0], HIDDEN * KV_WIDTH, 1.0f / 16);
    random_matrix(uk[0], HIDDEN * KV_HEADS * LATENT, 1.0f / 16);
    random_matrix(uv[0], HIDDEN * KV_HEADS * LATENT, 1.0f / 16);
    random_matrix(ak[0], LATENT * KV_WIDTH, 1.0f / 8);
    random_matrix(av[0], LATENT * KV_WIDTH, 1.0f / 8);
    random_matrix(wo[0], ROW * HIDDEN, 1.0f / 16);
    random_halves(x[0][0], BATCH * MOST_PAGES * PAGE * HIDDEN, 2);
    random_halves(q[0][0], STEPS * BATCH * ROW, 3);
}

/* Writes the spec of a model with this part's heads. hidden_size is that of the whole model, because x is
 * whole on every rank. head_dim must be given, because its default would divide hidden_size by the rank's
 * heads. */
static void write_spec(char *spec, size_t size, enum cache cache)
{
    char method[160];
    if (cache == CACHE_X)
        snprintf(method, sizeof method, "\"method\": \"x\"");
    else
        snprintf(method, sizeof method,
                 "\"method\": \"latent\", \"rank_k\": %d, \"rank_v\": %d, \"groups\": %d",
                 cache == CACHE_GROUPS ? part.kv_heads * LATENT : LATENT,
                 cache == CACHE_GROUPS ? part.kv_heads * LATENT : LATENT,
                 cache == CACHE_GROUPS ? part.kv_heads : 1);
    snprintf(spec, size,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, \"rope_theta\": 10000}, "
             "\"cache\": {%s, \"rotation\": false, \"bits\": 4, \"group\": 64, \"page\": %d}}",
             HIDDEN, part.heads, part.kv_heads, HEAD_DIM, method, PAGE);
}

static void make_plan(enum cache cache)
{
    char spec[640];
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    write_spec(spec, sizeof spec, cache);
    info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_batch = BATCH;
    options.max_tokens = MOST_PAGES * PAGE;
    options.max_append = MOST_ROWS;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, &info), "xq_plan_query");
}

/* Copies columns [first, first + columns) of a matrix of `width` columns. The caller frees the copy. */
static float *cut_columns(const float *matrix, int rows, int width, int first, int columns)
{
    float *cut = host_memory(sizeof *cut * (size_t)(rows * columns));
    for (int r = 0; r < rows; r++)
        memcpy(cut + (size_t)r * (size_t)columns, matrix + (size_t)r * (size_t)width + first,
               sizeof *cut * (size_t)columns);
    return cut;
}

/* Packs the rank's weights: the columns of Wk, Wv and A for the rank's KV heads, and U, which projects the
 * activations to the cached latents. For the joint latent every rank has the same U. For latents per group
 * it is cut to the columns of the rank's groups. */
static void make_weights(enum cache cache)
{
    const int first = part.first_kv_head * HEAD_DIM, columns = part.kv_heads * HEAD_DIM;
    const int first_latent = cache == CACHE_GROUPS ? part.first_kv_head * LATENT : 0;
    const int latents = cache == CACHE_GROUPS ? part.kv_heads * LATENT : LATENT;
    const int rows = cache == CACHE_X ? HIDDEN : LATENT, width = KV_HEADS * LATENT;
    float *k = cut_columns(cache == CACHE_X ? wk[0] : ak[0], rows, KV_WIDTH, first, columns);
    float *v = cut_columns(cache == CACHE_X ? wv[0] : av[0], rows, KV_WIDTH, first, columns);
    float *to_k = cut_columns(uk[0], HIDDEN, width, first_latent, latents);
    float *to_v = cut_columns(uv[0], HIDDEN, width, first_latent, latents);
    xq_weights matrices = XQ_WEIGHTS_INIT;
    if (cache == CACHE_X) {
        matrices.wk = k;
        matrices.wv = v;
    } else {
        matrices.ak = k;
        matrices.av = v;
        matrices.uk = to_k;
        matrices.uv = to_v;
    }
    weights = upload_weights(plan, &matrices);
    free(k);
    free(v);
    free(to_k);
    free(to_v);
}

/* Allocates the cache. The page table is the same on every rank, because all ranks have the same
 * sequences. */
static void make_memory(void)
{
    pages = allocate(PAGES * info.page_bytes);
    workspace = allocate(info.workspace_bytes);
    sums = allocate(BATCH * HIDDEN * sizeof(float));
    table.batch = BATCH;
    table.indptr = allocate((BATCH + 1) * sizeof(int32_t));
    table.indices = allocate(PAGES * sizeof(int32_t));
    table.last_page_len = allocate(BATCH * sizeof(int32_t));
}

static void release_cache(void)
{
    const uint64_t all[] = {weights,      pages,         workspace,          sums,
                            table.indptr, table.indices, table.last_page_len};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
    xq_plan_destroy(plan);
}

/* -------------------------------------------------------------------- steps */

static void write_table(const int *length)
{
    int32_t indptr[BATCH + 1] = {0}, indices[PAGES], last[BATCH];
    for (int s = 0; s < BATCH; s++) {
        indptr[s + 1] = indptr[s];
        for (int p = 0; p * PAGE < length[s]; p++)
            indices[indptr[s + 1]++] = p * BATCH + s;
        last[s] = (length[s] - 1) % PAGE + 1;
    }
    write_device(table.indptr, indptr, sizeof indptr);
    write_device(table.indices, indices, sizeof indices[0] * (size_t)indptr[BATCH]);
    write_device(table.last_page_len, last, sizeof last);
}

/* Appends tokens [from[s], length[s]) of each sequence s. Every rank appends the same rows of x. */
static void append(const int *from, const int *length)
{
    static uint16_t rows[MOST_ROWS][HIDDEN];
    int32_t sequence[MOST_ROWS], position[MOST_ROWS];
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    for (int s = 0; s < BATCH; s++) {
        for (int t = from[s]; t < length[s]; t++, args.tokens++) {
            memcpy(rows[args.tokens], x[s][t], sizeof rows[0]);
            sequence[args.tokens] = s;
            position[args.tokens] = t;
        }
    }
    write_table(length);
    args.x = upload(rows, sizeof rows);
    args.token_sequence = upload(sequence, sizeof sequence);
    args.token_position = upload(position, sizeof position);
    args.table = table;
    args.pages = pages;
    args.weights = weights;
    check(xq_plan_append(plan, &args, NULL), "xq_plan_append");
    check(xq_device_synchronize(context), "append");
    release(args.x);
    release(args.token_sequence);
    release(args.token_position);
}

/* Attends with the part's heads of the step's queries; out [BATCH, heads, dh]. */
static void attend(int step, uint16_t *out)
{
    const size_t row = sizeof *out * (size_t)(part.heads * HEAD_DIM);
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = MOST_PAGES * PAGE;
    args.q = allocate(BATCH * row);
    args.out = allocate(BATCH * row);
    for (int s = 0; s < BATCH; s++)
        write_device(args.q + (size_t)s * row, q[step][s] + part.first_head * HEAD_DIM, row);
    args.table = table;
    args.pages = pages;
    args.weights = weights;
    args.workspace = workspace;
    args.workspace_bytes = info.workspace_bytes;
    check(xq_plan_attend(plan, &args, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, args.out, BATCH * row), "attend");
    release(args.q);
    release(args.out);
}

/* Multiplies out by the rows of Wo that belong to the part's heads. The result is a partial sum for every
 * channel. A model does this on the GPU. */
static void project_output(const uint16_t *out, float (*partial)[HIDDEN])
{
    for (int s = 0; s < BATCH; s++)
        for (int c = 0; c < HIDDEN; c++) {
            partial[s][c] = 0;
            for (int i = 0; i < part.heads * HEAD_DIM; i++)
                partial[s][c] += (float)half_value(out[s * part.heads * HEAD_DIM + i]) *
                                 wo[part.first_head * HEAD_DIM + i][c];
        }
}

/* Runs all steps with one cache. The places are the first indices into results->heads and results->sums. */
static void run_cache(enum cache cache, int heads_place, int sums_place)
{
    uint16_t out[BATCH * ROW];
    int from[BATCH] = {0}, length[BATCH];
    memcpy(length, prompts, sizeof length);
    make_plan(cache);
    make_weights(cache);
    make_memory();
    results->bytes[heads_place][cache] = info.cache_bytes_per_token;
    for (int step = 0; step < STEPS; step++) {
        float(*total)[HIDDEN] = results->sums[sums_place][cache][step];
        append(from, length);
        attend(step, out);
        for (int s = 0; s < BATCH; s++)
            memcpy(results->heads[heads_place][cache][step][s] + part.first_head * HEAD_DIM,
                   out + s * part.heads * HEAD_DIM, sizeof out[0] * (size_t)(part.heads * HEAD_DIM));
        project_output(out, total);
        if (part.heads < HEADS)
            all_reduce(total[0], BATCH * HIDDEN, sums);
        for (int s = 0; s < BATCH; s++)
            from[s] = length[s]++;
    }
    release_cache();
}

/* ------------------------------------------------------------------- ranks */

static const char *device_name; /* as given on the command line */

/* Opens a device. Returns 0 if it does not exist and is not the one that the user named. */

static int open_named(const char *name)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = name;
    xq_status status = xq_context_create(&options, &context);
    if (status == XQ_ERROR_NO_DEVICE && strcmp(name, device_name) != 0) {
        xq_context_destroy(context);
        context = NULL;
        return 0;
    }
    check(status, "xq_context_create");
    return 1;
}

/* Opens the rank's device. Returns 1 if the rank has a GPU of its own. */
static int open_device(void)
{
    char own[32];
    xq_device_info device = XQ_DEVICE_INFO_INIT;
    snprintf(own, sizeof own, "cuda:%d", rank);
    int any = strcmp(device_name, "auto") == 0 || strcmp(device_name, "cuda") == 0;
    int has_own = any && open_named(own);
    if (!has_own)
        open_named(device_name);
    check(xq_context_device(context, &device), "xq_context_device");
    printf("rank %d          heads %d to %d, KV head%s %d to %d, on %s\n", rank, part.first_head,
           part.first_head + part.heads - 1, part.kv_heads == 1 ? "" : "s", part.first_kv_head,
           part.first_kv_head + part.kv_heads - 1, device.name);
    fflush(stdout);
    return has_own;
}

static int run_rank(void)
{
    part.heads = HEADS / RANKS;
    part.kv_heads = KV_HEADS / RANKS;
    part.first_head = rank * part.heads;
    part.first_kv_head = rank * part.kv_heads;
    int has_own_gpu = open_device();
    uint64_t memory = allocate(256);
    open_reduction(has_own_gpu, memory);
    for (int cache = 0; cache < CACHES; cache++)
        run_cache((enum cache)cache, 0, rank);
    if (rank == 0)
        printf("sums            by %s\n", communicator ? "NCCL" : "shared memory");
    close_reduction();
    release(memory);
    xq_context_destroy(context);
    return 0;
}

/* Runs all heads in this process. */
static void run_alone(void)
{
    rank = 0;
    part = (struct part){0, HEADS, 0, KV_HEADS};
    open_named(device_name);
    for (int cache = 0; cache < CACHES; cache++)
        run_cache((enum cache)cache, 1, RANKS);
    xq_context_destroy(context);
}

/* ------------------------------------------------------------------- checks */

/* Compares the results of two ranks with those of one rank. Heads agree within the rounding errors of
 * attention. If they are equal bit for bit, sums differ only by the order of their f32 terms. Both ranks
 * must have the same sums bit for bit, because both continue with them. */
static int compare_cache(enum cache cache)
{
    struct deviation heads = {0, 0}, total = {0, 0};
    const uint16_t *two = results->heads[0][cache][0][0], *one = results->heads[1][cache][0][0];
    const float *sum = results->sums[0][cache][0][0], *expected = results->sums[RANKS][cache][0][0];
    int same = 0;
    for (int i = 0; i < STEPS * BATCH * ROW; i++) {
        compare(&heads, half_value(two[i]), half_value(one[i]));
        same += two[i] == one[i];
    }
    for (int i = 0; i < STEPS * BATCH * HIDDEN; i++)
        compare(&total, (double)sum[i], (double)expected[i]);
    int all_same = same == STEPS * BATCH * ROW;
    printf("%-19s %3.0f bytes a token a rank, %3.0f on one rank; heads %.1e, sums %.1e from one rank's%s\n",
           cache_names[cache], results->bytes[0][cache], results->bytes[1][cache], relative(&heads),
           relative(&total), all_same ? ", heads bit for bit" : "");
    if (memcmp(results->sums[0][cache], results->sums[1][cache], sizeof results->sums[0][cache]) != 0) {
        fprintf(stderr, PROGRAM ": %s: the ranks have different sums\n", cache_names[cache]);
        return 0;
    }
    return relative(&heads) < 2e-3 && relative(&total) < (all_same ? 1e-5 : 2e-3); /* NaN fails too */
}

int main(int argc, char **argv)
{
    int ok = 1;
    device_name = device_argument(argc, argv);
    results = shared_memory(sizeof *results);
    reduction = shared_memory(sizeof *reduction);
    make_layer();
    if (!run_ranks(run_rank))
        return 1;
    run_alone();
    for (int cache = 0; cache < CACHES; cache++)
        ok &= compare_cache((enum cache)cache);
    printf("fp16 KV         %d bytes a token a rank, %d on one rank\n", 2 * 2 * KV_WIDTH / RANKS,
           2 * 2 * KV_WIDTH);
    return ok ? 0 : 1;
}
