/* Continuous batching: requests come and go, and each step appends and attends for the running ones. Some
 * requests begin with the same prefix and share its pages. A request for which there are not enough pages
 * waits until another one ends and frees its pages.
 *
 * Every step attends in two ways. In the simple way, page tables name the shared pages like any others. The
 * merging way attends to the prefix once for all requests that have it, attends to their other tokens with
 * token_offset, and merges both results. At the end every output is compared with the output of the same
 * request alone, in a cache of its own. Outputs of the simple way must be equal bit for bit, those of the
 * merging way within a bound.
 *
 *     make && ./batching [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 */
#define PROGRAM "batching"
#include "../embed/common.h"
#include "../embed/reference.h"

#include "pages.h"

enum {
    PAGE = 16,
    BATCH = 4,   /* requests that can run at the same time */
    PREFIX = 48, /* tokens of the shared prefix, which are whole pages */
    PREFIX_PAGES = PREFIX / PAGE,
    MOST_PAGES = 6, /* most pages of one request, including the prefix */
    MOST_TOKENS = MOST_PAGES * PAGE,
    MOST_OUTPUTS = 12,
    MOST_ROWS = 160 /* most rows of one append */
};

/* Splits have a fixed size of 64 tokens, which is a block's tile here. Attention is then split at the same
 * tokens whatever else is in the batch, so a request's result does not depend on the other requests. */
static const char spec[] =
    "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, "
    "\"group\": 64, \"page\": 16}, "
    "\"tuning\": {\"attend\": {\"warps\": 4, \"m_tiles\": 1, \"split_tokens\": 64}}}";

static struct request {
    int arrival;    /* step in which it arrives */
    int has_prefix; /* whether its first PREFIX tokens are the shared prefix */
    int prompt;     /* tokens of the prompt after the prefix */
    int outputs;    /* outputs to compute; each one after the first appends one more token */
    /* The engine's state of the request. */
    int length, done, page_count;
    int32_t pages[MOST_PAGES];
} requests[] = {
    {.arrival = 0, .has_prefix = 1, .prompt = 10, .outputs = 12},
    {.arrival = 0, .has_prefix = 0, .prompt = 30, .outputs = 8},
    {.arrival = 1, .has_prefix = 1, .prompt = 20, .outputs = 10},
    {.arrival = 2, .has_prefix = 1, .prompt = 5, .outputs = 6},
    {.arrival = 3, .has_prefix = 0, .prompt = 60, .outputs = 9},
    {.arrival = 6, .has_prefix = 1, .prompt = 40, .outputs = 8},
    {.arrival = 9, .has_prefix = 0, .prompt = 40, .outputs = 12},
    {.arrival = 12, .has_prefix = 0, .prompt = 80, .outputs = 8},
    {.arrival = 20, .has_prefix = 1, .prompt = 8, .outputs = 5},
};
enum { REQUESTS = sizeof requests / sizeof requests[0] };

/* Activations and queries, which a model would compute, and the outputs of both ways. */
static uint16_t x[REQUESTS][MOST_TOKENS][HIDDEN], q[REQUESTS][MOST_OUTPUTS][ROW];
static uint16_t simple[REQUESTS][MOST_OUTPUTS][ROW], merged[REQUESTS][MOST_OUTPUTS][ROW];

/* The `count` running requests. The `with_prefix` requests that have the prefix come first. */
static struct request *running[BATCH];
static int count, with_prefix;
static int next; /* the first request that waits or has not arrived yet */

/* The cached prefix holds a reference to its pages, so that it outlives the request that appended it. */
static int32_t prefix_pages[PREFIX_PAGES];
static int prefix_is_cached, prefix_appends;

static xq_plan *plan;
static xq_plan_info info;
static struct projections projections;

/* Device memory of one layer. In a model each layer has its own pool and weights, and all layers share the
 * page tables. */
static uint64_t weights, pages, workspace;
static xq_page_table whole, prefix, rest; /* whole requests, the shared prefix, and the tokens after it */
static struct {
    uint64_t x, token_sequence, token_position, q, out, prefix_out, lse, prefix_lse;
    uint64_t query_indptr, query_position, token_offset;
} device;

/* ------------------------------------------------------------------- set-up */

static void make_plan(void)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_batch = BATCH;
    options.max_tokens = MOST_TOKENS;
    options.max_append = MOST_ROWS;
    options.max_queries = BATCH; /* the prefix is one sequence with a query of each request that has it */
    options.max_total_queries = BATCH;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, &info), "xq_plan_query");
}

static xq_page_table allocate_table(void)
{
    xq_page_table table = {0, 0, 0, 0};
    table.indptr = allocate((BATCH + 1) * sizeof(int32_t));
    table.indices = allocate(BATCH * MOST_PAGES * sizeof(int32_t));
    table.last_page_len = allocate(BATCH * sizeof(int32_t));
    return table;
}

static void make_memory(void)
{
    weights = random_projections(plan, &projections);
    pages = allocate(PAGES * info.page_bytes);
    workspace = allocate(info.workspace_bytes);
    whole = allocate_table();
    prefix = allocate_table();
    rest = allocate_table();
    device.x = allocate(MOST_ROWS * HIDDEN * sizeof(uint16_t));
    device.token_sequence = allocate(MOST_ROWS * sizeof(int32_t));
    device.token_position = allocate(MOST_ROWS * sizeof(int32_t));
    device.q = allocate(BATCH * ROW * sizeof(uint16_t));
    device.out = allocate(BATCH * ROW * sizeof(uint16_t));
    device.prefix_out = allocate(BATCH * ROW * sizeof(uint16_t));
    device.lse = allocate(BATCH * HEADS * sizeof(float));
    device.prefix_lse = allocate(BATCH * HEADS * sizeof(float));
    device.query_indptr = allocate(2 * sizeof(int32_t));
    device.query_position = allocate(BATCH * sizeof(int32_t));
    device.token_offset = allocate(BATCH * sizeof(int32_t));
}

static void release_all(void)
{
    const xq_page_table *const tables[] = {&whole, &prefix, &rest};
    const uint64_t all[] = {weights,
                            pages,
                            workspace,
                            device.x,
                            device.q,
                            device.token_sequence,
                            device.out,
                            device.token_position,
                            device.prefix_out,
                            device.lse,
                            device.prefix_lse,
                            device.query_indptr,
                            device.query_position,
                            device.token_offset};
    for (int t = 0; t < 3; t++) {
        release(tables[t]->indptr);
        release(tables[t]->indices);
        release(tables[t]->last_page_len);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

static void make_inputs(void)
{
    random_halves(x[0][0], REQUESTS * MOST_TOKENS * HIDDEN, 2);
    random_halves(q[0][0], REQUESTS * MOST_OUTPUTS * ROW, 3);
    for (int r = 1; r < REQUESTS; r++)
        if (requests[r].has_prefix)
            memcpy(x[r], x[0], PREFIX * sizeof x[0][0]);
}

/* --------------------------------------------------------------- scheduling */

static int pages_for(int tokens)
{
    return (tokens + PAGE - 1) / PAGE;
}

/* The number of pages that a request has when it ends. */
static int most_pages(const struct request *r)
{
    return pages_for((r->has_prefix ? PREFIX : 0) + r->prompt + r->outputs - 1);
}

/* The number of pages that running requests will still take. They are reserved, so that every request that
 * was let in can run to its end. An engine that cannot know how long a request becomes would instead
 * preempt a request when pages run out: it drops the request's pages and appends its tokens again later. */
static int promised(void)
{
    int sum = 0;
    for (int i = 0; i < count; i++)
        sum += most_pages(running[i]) - running[i]->page_count;
    return sum;
}

/* Adds a request to the running ones. Requests with the prefix stay in front of the others. */
static void insert(struct request *r)
{
    int at = r->has_prefix ? with_prefix : count;
    memmove(running + at + 1, running + at, sizeof running[0] * (size_t)(count - at));
    running[at] = r;
    with_prefix += r->has_prefix;
    count++;
}

static void drop_prefix(void)
{
    for (int p = 0; p < PREFIX_PAGES; p++)
        drop_page(prefix_pages[p]);
    prefix_is_cached = 0;
}

/* Lets a request in if there are pages for all of it. Returns 1, or 0 if the request has to wait. A cached
 * prefix only costs a reference to each of its pages. A cached prefix that no running request has is
 * dropped when its pages are needed. */
static int let_in(struct request *r)
{
    int shared = r->has_prefix && prefix_is_cached ? PREFIX_PAGES : 0;
    int lacking = most_pages(r) - shared - (pool.free_count - promised());
    if (count == BATCH)
        return 0;
    if (lacking > 0 && lacking <= PREFIX_PAGES && prefix_is_cached && with_prefix == 0 && !shared) {
        drop_prefix();
        lacking -= PREFIX_PAGES;
    }
    if (lacking > 0)
        return 0;
    for (int p = 0; p < shared; p++)
        r->pages[r->page_count++] = share_page(prefix_pages[p]);
    r->length = shared * PAGE; /* cached tokens are not appended again */
    insert(r);
    return 1;
}

static void grow(struct request *r, int tokens)
{
    r->length += tokens;
    if (pages_for(r->length) > MOST_PAGES)
        give_up("a request is longer than the plan's max_tokens");
    while (r->page_count < pages_for(r->length))
        r->pages[r->page_count++] = take_page();
}

/* Keeps the prefix in the cache after the first request with the prefix has appended it. */
static void keep_prefix(const struct request *r)
{
    for (int p = 0; p < PREFIX_PAGES; p++)
        prefix_pages[p] = share_page(r->pages[p]);
    prefix_is_cached = 1;
    prefix_appends++;
}

static void end_requests(void)
{
    for (int i = count - 1; i >= 0; i--) {
        struct request *r = running[i];
        if (r->done < r->outputs)
            continue;
        while (r->page_count > 0)
            drop_page(r->pages[--r->page_count]);
        with_prefix -= r->has_prefix;
        count--;
        memmove(running + i, running + i + 1, sizeof running[0] * (size_t)(count - i));
    }
}

/* -------------------------------------------------------------------- steps */

/* Writes the page table of `n` requests. With skips_prefix it leaves out the pages of the shared prefix. */
static void write_table(xq_page_table *table, struct request *const *of, int n, int skips_prefix)
{
    int32_t indptr[BATCH + 1] = {0}, indices[BATCH * MOST_PAGES], last[BATCH];
    for (int i = 0; i < n; i++) {
        int from = skips_prefix && of[i]->has_prefix ? PREFIX_PAGES : 0, entries = of[i]->page_count - from;
        memcpy(indices + indptr[i], of[i]->pages + from, sizeof indices[0] * (size_t)entries);
        indptr[i + 1] = indptr[i] + entries;
        last[i] = (of[i]->length - 1) % PAGE + 1;
    }
    table->batch = n;
    write_device(table->indptr, indptr, sizeof indptr[0] * (size_t)(n + 1));
    write_device(table->indices, indices, sizeof indices[0] * (size_t)indptr[n]);
    write_device(table->last_page_len, last, sizeof last[0] * (size_t)n);
}

/* Appends the tokens [from[i], length) of each request: a prompt, or one token. */
static void append(struct request *const *of, const int *from, int n, uint64_t to_pages)
{
    static uint16_t rows[MOST_ROWS][HIDDEN];
    int32_t sequence[MOST_ROWS], position[MOST_ROWS];
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    for (int i = 0; i < n; i++)
        for (int t = from[i]; t < of[i]->length; t++, args.tokens++) {
            if (args.tokens == MOST_ROWS)
                give_up("a step has more rows than append takes");
            memcpy(rows[args.tokens], x[of[i] - requests][t], sizeof rows[0]);
            sequence[args.tokens] = i;
            position[args.tokens] = t;
        }
    write_table(&whole, of, n, 0);
    write_device(device.x, rows, sizeof rows[0] * (size_t)args.tokens);
    write_device(device.token_sequence, sequence, sizeof sequence[0] * (size_t)args.tokens);
    write_device(device.token_position, position, sizeof position[0] * (size_t)args.tokens);
    args.x = device.x;
    args.token_sequence = device.token_sequence;
    args.token_position = device.token_position;
    args.table = whole;
    args.pages = to_pages;
    args.weights = weights;
    check(xq_plan_append(plan, &args, NULL), "xq_plan_append");
}

static int longest(struct request *const *of, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++)
        most = of[i]->length > most ? of[i]->length : most;
    return most;
}

/* The arguments that both ways have in common. */
static xq_attend_args attend_args(uint64_t of_pages)
{
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.q = device.q;
    args.pages = of_pages;
    args.weights = weights;
    args.workspace = workspace;
    args.workspace_bytes = info.workspace_bytes;
    return args;
}

/* Attends with one query per request, at its last token, over all of the request's pages. */
static void attend_simply(struct request *const *of, int n, uint64_t of_pages, uint16_t (*out)[ROW])
{
    xq_attend_args args = attend_args(of_pages);
    for (int i = 0; i < n; i++)
        write_device(device.q + (size_t)i * sizeof q[0][0], q[of[i] - requests][of[i]->done],
                     sizeof q[0][0]);
    args.max_tokens = longest(of, n);
    args.out = device.out;
    args.table = whole;
    check(xq_plan_attend(plan, &args, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, device.out, sizeof out[0] * (size_t)n), "attend");
}

/* Attends to the prefix, once for all requests that have it. The prefix is one sequence with the queries of
 * all these requests, at their true positions. */
static void attend_prefix(void)
{
    const int32_t indptr[] = {0, PREFIX_PAGES}, last = PAGE, queries[] = {0, with_prefix};
    int32_t position[BATCH];
    for (int i = 0; i < with_prefix; i++)
        position[i] = running[i]->length - 1;
    prefix.batch = 1;
    write_device(prefix.indptr, indptr, sizeof indptr);
    write_device(prefix.indices, prefix_pages, sizeof prefix_pages);
    write_device(prefix.last_page_len, &last, sizeof last);
    write_device(device.query_indptr, queries, sizeof queries);
    write_device(device.query_position, position, sizeof position[0] * (size_t)with_prefix);
    xq_attend_args args = attend_args(pages);
    args.max_tokens = PREFIX;
    args.out = device.prefix_out;
    args.lse = device.prefix_lse;
    args.table = prefix;
    args.queries = with_prefix;
    args.query_indptr = device.query_indptr;
    args.query_position = device.query_position;
    check(xq_plan_attend(plan, &args, NULL), "xq_plan_attend, prefix");
}

/* Attends to each request's own tokens. With the prefix, token_offset says that they begin after it. */
static void attend_rest(void)
{
    int32_t offset[BATCH];
    for (int i = 0; i < count; i++)
        offset[i] = running[i]->has_prefix ? PREFIX : 0;
    write_table(&rest, running, count, 1);
    write_device(device.token_offset, offset, sizeof offset[0] * (size_t)count);
    xq_attend_args args = attend_args(pages);
    args.max_tokens = longest(running, count);
    args.out = device.out;
    args.lse = device.lse;
    args.table = rest;
    args.token_offset = device.token_offset;
    check(xq_plan_attend(plan, &args, NULL), "xq_plan_attend, rest");
}

/* Requests with the prefix have the first rows, so that one call merges all their outputs in place. */
static void attend_merging(uint16_t (*out)[ROW])
{
    attend_rest();
    if (with_prefix) {
        attend_prefix();
        xq_merge_args args = XQ_MERGE_ARGS_INIT;
        args.queries = with_prefix;
        args.out_a = device.prefix_out;
        args.lse_a = device.prefix_lse;
        args.out_b = args.out = device.out;
        args.lse_b = device.lse;
        check(xq_plan_merge(plan, &args, NULL), "xq_plan_merge");
    }
    check(xq_device_read(context, out, device.out, sizeof out[0] * (size_t)count), "merge");
}

/* Prints a line if the running or waiting requests have changed. */
static void print_step(int step)
{
    static int printed; /* the running and waiting requests of the last line, one bit each */
    int shared = with_prefix > 1 ? PREFIX_PAGES : 0, now = 0;
    for (int i = 0; i < count; i++)
        now |= 1 << (running[i] - requests);
    for (int r = next; r < REQUESTS && requests[r].arrival <= step; r++)
        now |= 1 << (REQUESTS + r);
    if (now == printed)
        return;
    printed = now;
    printf("step %-10d running", step + 1);
    for (int i = 0; i < count; i++)
        printf(" %d", (int)(running[i] - requests));
    for (int r = next; r < REQUESTS && requests[r].arrival <= step; r++)
        printf("%s %d", r == next ? "; waiting" : "", r);
    printf("; pages %d of %d, %d of them shared\n", PAGES - pool.free_count, PAGES, shared);
}

/* Runs a step: requests that there is room for are let in, in the order of arrival; all running requests
 * append and attend together; and requests that have ended leave. */
static void run_step(int step)
{
    uint16_t out[2][BATCH][ROW];
    int from[BATCH];
    while (next < REQUESTS && requests[next].arrival <= step && let_in(&requests[next])) {
        next++;
        if (!prefix_is_cached && requests[next - 1].has_prefix) {
            struct request *r = &requests[next - 1];
            grow(r, PREFIX);
            append(&r, (const int[]){0}, 1, pages);
            keep_prefix(r);
        }
    }
    for (int i = 0; i < count; i++) {
        from[i] = running[i]->length;
        grow(running[i], running[i]->done ? 1 : running[i]->prompt);
    }
    print_step(step);
    if (count == 0 && next < REQUESTS && requests[next].arrival <= step)
        give_up("a request needs more pages than the pool has");
    if (count == 0)
        return;
    append(running, from, count, pages);
    attend_simply(running, count, pages, out[0]);
    attend_merging(out[1]);
    for (int i = 0; i < count; i++) {
        int r = (int)(running[i] - requests), n = running[i]->done++;
        memcpy(simple[r][n], out[0][i], sizeof out[0][i]);
        memcpy(merged[r][n], out[1][i], sizeof out[1][i]);
    }
    end_requests();
}

/* ------------------------------------------------------------------- checks */

/* Compares the last output of a request that ran alone with double precision over its cache. */
static void compare_reference(struct deviation *error, const struct request *r, uint64_t own_pages,
                              const uint16_t *query, const uint16_t *out)
{
    static double rows[MOST_TOKENS][HIDDEN];
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = r->page_count;
    args.table = whole;
    args.pages = own_pages;
    read_rows(plan, args, MOST_TOKENS, rows);
    compare_attention(error, &projections, query, out, rows, r->length - 1);
}

static struct {
    int same; /* outputs of the simple way that equal those of the request alone, bit for bit */
    struct deviation merged, reference;
} checks;

/* Runs a request again, alone, in pages of its own, and compares its outputs with both ways. */
static void check_alone(int number, uint64_t own_pages)
{
    uint16_t out[1][ROW];
    struct request alone = requests[number], *const one[] = {&requests[number]};
    struct request *r = one[0];
    for (int p = 0; p < MOST_PAGES; p++)
        r->pages[p] = p;
    for (r->done = 0; r->done < r->outputs; r->done++) {
        const int n = r->done, length = (r->has_prefix ? PREFIX : 0) + r->prompt + n;
        const int from = n ? length - 1 : 0;
        r->length = length;
        r->page_count = pages_for(length);
        append(one, &from, 1, own_pages);
        attend_simply(one, 1, own_pages, out);
        checks.same += memcmp(out[0], simple[number][n], sizeof out[0]) == 0;
        for (int i = 0; i < ROW; i++)
            compare(&checks.merged, half_value(merged[number][n][i]), half_value(out[0][i]));
    }
    compare_reference(&checks.reference, r, own_pages, q[number][r->outputs - 1], out[0]);
    *r = alone;
}

int main(int argc, char **argv)
{
    int outputs = 0, prefixed = 0;
    open_context(argc, argv);
    make_plan();
    make_memory();
    make_inputs();
    fill_pool();
    for (int step = 0; next < REQUESTS || count > 0; step++)
        run_step(step);
    if (prefix_is_cached)
        drop_prefix();

    uint64_t own_pages = allocate(MOST_PAGES * info.page_bytes);
    for (int r = 0; r < REQUESTS; r++) {
        check_alone(r, own_pages);
        outputs += requests[r].outputs;
        prefixed += requests[r].has_prefix;
    }
    release(own_pages);
    double of_merging = relative(&checks.merged), of_reference = relative(&checks.reference);
    printf("simple way      %d of %d outputs are bit for bit those of the request alone\n", checks.same,
           outputs);
    printf("merging         relative error %.2e against the request alone\n", of_merging);
    printf("alone           relative error %.2e against double precision on the same cache\n",
           of_reference);
    printf("prefix          appended %d times for %d requests\n", prefix_appends, prefixed);
    printf("pages           %d taken from a pool of %d; at the end %d are free\n", pool.taken, PAGES,
           pool.free_count);
    int whole_pool = pool_is_whole();
    if (!whole_pool)
        fprintf(stderr, PROGRAM ": pages were lost, or freed twice\n");
    release_all();
    return checks.same == outputs && of_merging < 2e-3 && of_reference < 2e-3 && whole_pool ? 0 : 1;
}
