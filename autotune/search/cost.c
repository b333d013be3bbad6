#include "cost.h"
#include "../../runtime/launch/split.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

const char *const cost_limit_names[COST_LIMITS] = {"memory", "latency", "L2", "shared", "matrix", "issue"};

/* The time from a launch to its first instruction, and from its last instruction to the next launch of the
 * stream: together about 2 us on every GPU since Volta. */
#define LAUNCH_SECONDS 2e-6

/* The time from a load of device memory to its arrival, under load: 0.6 to 0.8 us on the GPUs of
 * gen/arch.lua. */
#define MEMORY_LATENCY 0.7e-6

/* Round trips to memory for joining: a sequence's last block learns that it is the last, and then reads the
 * results of the others. */
#define JOIN_TRIPS 2

/* L2 gives one multiprocessor at most 64 bytes a clock (A100 whitepaper). When all of them read, each gets
 * less: microbenchmarks show 16 (RTX 4090) to 32 (A100) bytes a clock. */
#define L2_SM_BYTES_PER_CLOCK  64.0
#define L2_ALL_BYTES_PER_CLOCK 24.0

/* Shared memory gives 128 bytes a clock: 32 banks of 4 bytes. */
#define SHARED_BYTES_PER_CLOCK 128.0

/* A multiprocessor has four parts. Each part has a matrix unit and a scheduler, which issues one warp
 * instruction a clock. */
#define PARTS 4.0

/* The clock that is assumed where the device does not state one. */
#define USUAL_CLOCK 1.5e9

/* ------------------------------------------------------------ stated work */

struct amount {
    double flops, instructions, l2_bytes, shared_bytes;
};

/* The `work` of a family's spec file (docs/templates.md), and the resources that the model needs. */
struct stated {
    double threads, shared_bytes, registers;
    double tile_tokens, split_tokens, partial_share; /* split_tokens 0: blocks have block_tokens tokens */
    double columns, rows, query_rows, window, launches;
    double block_tokens, joined; /* joined: the tokens of all sequences count together */
    double token_bytes, fixed_bytes, split_bytes, partial_bytes, bytes_in_flight;
    double step_tokens, pass_rows;
    struct amount block, step, tile, pass, tile_pass, split;
};

/* Reads a number that may be missing. */
static double number(const cJSON *object, const char *name, double otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static struct amount amount(const cJSON *work, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(work, name);
    return (struct amount){number(item, "flops", 0), number(item, "instructions", 0),
                           number(item, "l2_bytes", 0), number(item, "shared_bytes", 0)};
}

/* The largest number that a candidate may state, because sizes are counted in 32 bits. */
static const double most_stated = INT32_MAX;

static xq_status demand(double value, const char *name, error *err)
{
    return value >= 1 && value <= most_stated
               ? XQ_OK
               : error_set(err, XQ_ERROR_INTERNAL, "template",
                           "a candidate has no %s from 1 to %.0f, which the cost model needs", name,
                           most_stated);
}

static xq_status read_stated(const cJSON *candidate, struct stated *s, error *err)
{
    const cJSON *resources = cJSON_GetObjectItemCaseSensitive(candidate, "resources"),
                *work = cJSON_GetObjectItemCaseSensitive(candidate, "work");
    *s = (struct stated){
        .threads = number(resources, "threads", 0),
        .shared_bytes = number(resources, "shared_bytes", 0),
        .tile_tokens = number(resources, "tile_tokens", 0),
        .split_tokens = number(resources, "split_tokens", 0),
        .partial_share = number(resources, "partial_share", 0),
        .registers = number(work, "registers", 0),
        .columns = number(work, "columns", 0),
        .rows = number(work, "rows", 0),
        .query_rows = number(work, "query_rows", 1),
        .window = number(work, "window", 0),
        .launches = number(work, "launches", 1),
        .block_tokens = number(work, "block_tokens", 0),
        .joined = number(work, "joined", 0),
        .token_bytes = number(work, "token_bytes", 0),
        .fixed_bytes = number(work, "fixed_bytes", 0),
        .split_bytes = number(work, "split_bytes", 0),
        .partial_bytes = number(work, "partial_bytes", 0),
        .bytes_in_flight = number(work, "bytes_in_flight", 0),
        .step_tokens = number(work, "step_tokens", 0),
        .pass_rows = number(work, "pass_rows", 0),
        .block = amount(work, "block"),
        .step = amount(work, "step"),
        .tile = amount(work, "tile"),
        .pass = amount(work, "pass"),
        .tile_pass = amount(work, "tile_pass"),
        .split = amount(work, "split"),
    };
    if (demand(s->threads, "resources.threads", err) != XQ_OK ||
        demand(s->columns, "work.columns", err) != XQ_OK ||
        demand(s->query_rows, "work.query_rows", err) != XQ_OK ||
        (s->rows != 0 && demand(s->rows, "work.rows", err) != XQ_OK) ||
        (s->block_tokens != 0 && demand(s->block_tokens, "work.block_tokens", err) != XQ_OK))
        return err->status;
    if (s->block_tokens == 0 && demand(s->tile_tokens, "resources.tile_tokens", err) == XQ_OK &&
        demand(s->split_tokens, "resources.split_tokens", err) == XQ_OK)
        demand(s->partial_bytes, "work.partial_bytes", err);
    return err->status;
}

/* ------------------------------------------------------------------ the grid */

struct grid {
    double blocks, per_sm; /* blocks in all, and blocks that a multiprocessor holds at once */
    double rounds;         /* blocks that the busiest multiprocessor runs */
    double tokens;         /* tokens of one block */
    double passes; /* passes of a block over its rows, on average: a sequence's last row block has fewer */
    double splits; /* splits of one sequence */
    double warps;  /* warps with tokens that a multiprocessor holds at once */
};

static double whole(double part, double of)
{
    return of > 0 ? ceil(part / of) : 1;
}

/* Blocks that a multiprocessor holds at once, by the rules of runtime/launch/occupancy.h. The family states
 * its registers. */
static double occupancy(const struct stated *s, const struct cost_device *d)
{
    double most = 32;
    if (d->threads_sm > 0)
        most = fmin(most, floor(d->threads_sm / s->threads));
    if (d->shared_bytes_sm > 0)
        most = fmin(most, floor((double)d->shared_bytes_sm / (s->shared_bytes + 1024)));
    if (d->registers_sm > 0 && s->registers > 0)
        most = fmin(most, floor(d->registers_sm / (s->threads * s->registers)));
    return fmax(most, 1);
}

/* Tokens of a split, as a plan splits a call (runtime/launch/split.h). A sequence has `row_blocks` blocks
 * of query rows. */
static double tokens_of_split(const struct stated *s, const struct cost_device *d,
                              const struct cost_load *l, double per_sm, double row_blocks)
{
    const int64_t tile = (int64_t)s->tile_tokens;
    const struct split_limits limits = {
        .tile_tokens = (int32_t)tile,
        .most_tokens = (int64_t)s->split_tokens / tile * tile,
        .resident = (int64_t)per_sm * d->multiprocessors,
        .kv_heads = (int32_t)s->columns,
        .partial_bytes = s->partial_bytes,
        .token_bytes = s->token_bytes,
        .shared_bytes = s->split_bytes,
        .share = s->partial_share,
        .partials = INT32_MAX,
    };
    const struct split_load load = {l->batch, l->batch * l->queries, (int64_t)row_blocks * l->batch,
                                    l->tokens};
    return (double)split_tokens(&limits, &load);
}

static struct grid grid_of(const struct stated *s, const struct cost_device *d, const struct cost_load *l)
{
    double seen = (double)l->tokens, batch = s->joined > 0 ? 1 : (double)l->batch;
    double rows = (double)l->queries * s->query_rows, row_blocks = whole(rows, s->rows);
    struct grid g = {.per_sm = occupancy(s, d)};
    double block_tokens =
        s->block_tokens > 0 ? s->block_tokens : tokens_of_split(s, d, l, g.per_sm, row_blocks);
    if (s->joined > 0)
        seen *= (double)l->batch;
    if (s->window > 0) /* the window may begin within a split */
        seen = fmin(seen, s->window + (double)l->queries - 1 + block_tokens);
    g.splits = whole(seen, block_tokens);
    g.tokens = fmin(seen, block_tokens);
    double of_full = whole(s->rows, s->pass_rows), rest = rows - (row_blocks - 1) * s->rows;
    g.passes = (of_full * (row_blocks - 1) + whole(rest, s->pass_rows)) / row_blocks;
    g.blocks = g.splits * s->columns * row_blocks * batch;
    g.rounds = ceil(g.blocks / d->multiprocessors);
    double warps = s->threads / 32 * fmin(1, s->step_tokens > 0 ? g.tokens / s->step_tokens : 1);
    g.warps = fmin(g.per_sm, g.rounds) * fmax(warps, 1);
    return g;
}

/* ------------------------------------------------------------------ the time */

static void add(struct amount *sum, const struct amount *a, double times)
{
    sum->flops += times * a->flops;
    sum->instructions += times * a->instructions;
    sum->l2_bytes += times * a->l2_bytes;
    sum->shared_bytes += times * a->shared_bytes;
}

/* The work of one block, without the joining of splits. */
static struct amount block_work(const struct stated *s, const struct grid *g)
{
    double tiles = whole(g->tokens, 16);
    struct amount sum = s->block;
    add(&sum, &s->step, s->step_tokens > 0 ? whole(g->tokens, s->step_tokens) : 0);
    add(&sum, &s->tile, tiles);
    add(&sum, &s->pass, g->passes);
    add(&sum, &s->tile_pass, tiles * g->passes);
    return sum;
}

/* The seconds to move `bytes`, the same number for each block, if the device moves `all` bytes a second and
 * one multiprocessor `one`. */
static double transfer(const struct grid *g, double bytes, double all, double one)
{
    return fmax(bytes / all, bytes / g->blocks * g->rounds / one);
}

static bool joins(const struct stated *s, const struct grid *g)
{
    return s->partial_bytes > 0 && g->splits > 1;
}

static double memory_bytes(const struct stated *s, const struct grid *g, const struct cost_load *l)
{
    double seen =
        s->window > 0 ? fmin((double)l->tokens, s->window + (double)l->queries - 1) : (double)l->tokens;
    double bytes = s->fixed_bytes + s->token_bytes * seen * (double)l->batch;
    return bytes + (joins(s, g) ? g->splits * (double)(l->batch * l->queries) * s->partial_bytes : 0);
}

/* The time in which blocks, wave after wave, read their parts of the cache: one piece of bytes_in_flight
 * after the other, each after a memory latency. */
static double latency(const struct stated *s, const struct grid *g, const struct cost_device *d)
{
    if (s->bytes_in_flight <= 0)
        return 0;
    double tiles = whole(g->tokens, 16);
    double bytes = tiles * (s->tile.l2_bytes + g->passes * s->tile_pass.l2_bytes);
    double filled = s->step_tokens > 0 ? fmin(1, g->tokens / s->step_tokens) : 1;
    double waves = ceil(g->blocks / (g->per_sm * d->multiprocessors));
    double trips = waves * bytes / (s->bytes_in_flight * filled);
    return (trips + (joins(s, g) ? JOIN_TRIPS : 0)) * MEMORY_LATENCY;
}

static void set_times(const struct stated *s, const struct grid *g, const struct cost_device *d,
                      const struct cost_load *l, struct cost *out)
{
    const double clock = d->clock_hz > 0 ? d->clock_hz : USUAL_CLOCK;
    const double parts = fmin(PARTS, g->warps); /* parts that have something to do */
    struct amount one = block_work(s, g);
    out->flops = one.flops * g->blocks * s->launches;
    out->instructions = one.instructions * g->blocks * s->launches;
    out->l2_bytes = one.l2_bytes * g->blocks * s->launches;
    if (joins(s, g)) /* each sequence's last block joins its splits; the busiest multiprocessor has one such
                        block */
        add(&one, &s->split, g->splits / g->rounds);
    out->times[COST_LATENCY] = latency(s, g, d);
    out->times[COST_MEMORY] =
        transfer(g, memory_bytes(s, g, l), d->copy_bytes_per_second, L2_SM_BYTES_PER_CLOCK * clock);
    out->times[COST_L2] =
        transfer(g, out->l2_bytes / s->launches, L2_ALL_BYTES_PER_CLOCK * clock * d->multiprocessors,
                 L2_SM_BYTES_PER_CLOCK * clock);
    out->times[COST_SHARED] = g->rounds * one.shared_bytes / (SHARED_BYTES_PER_CLOCK * clock);
    out->times[COST_MATRIX] =
        g->rounds * one.flops * d->multiprocessors * (PARTS / parts) / d->matrix_flops_per_second;
    out->times[COST_ISSUE] = g->rounds * one.instructions / (parts * clock);
}

/* While a warp waits for one resource, others use the rest, so the times overlap. With w warps for each
 * scheduler, the total is the longest time and about 1/w of the other times. */
static double together(const struct grid *g, struct cost *out)
{
    double sum = 0;
    for (int i = 0; i < COST_LIMITS; i++) {
        sum += out->times[i];
        if (out->times[i] > out->times[out->limit])
            out->limit = (enum cost_limit)i;
    }
    double longest = out->times[out->limit];
    return longest + (sum - longest) / fmax(1, g->warps / PARTS);
}

xq_status cost_predict(const cJSON *candidate, const struct cost_device *d, const struct cost_load *l,
                       struct cost *out, error *err)
{
    struct stated s;
    *out = (struct cost){.blocks_per_sm = 0};
    if (!cJSON_GetObjectItemCaseSensitive(candidate, "work"))
        return XQ_OK;
    if (read_stated(candidate, &s, err) != XQ_OK)
        return err->status;
    const struct grid g = grid_of(&s, d, l);
    set_times(&s, &g, d, l, out);
    out->seconds = s.launches * (LAUNCH_SECONDS + together(&g, out));
    out->blocks = (int64_t)g.blocks;
    out->blocks_per_sm = (int)g.per_sm;
    return XQ_OK;
}
