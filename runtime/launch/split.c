#include "split.h"

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t at_least_one(int64_t n)
{
    return n < 1 ? 1 : n;
}

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Returns the number of splits that keeps the partial results within their share. Every block of query
 * rows reads all tokens. */
static int64_t affordable(const struct split_limits *l, const struct split_load *load)
{
    double bytes = l->shared_bytes / (double)load->batch + (double)load->max_tokens * l->token_bytes;
    double splits = l->share * bytes * (double)load->blocks / ((double)load->queries * l->partial_bytes);
    return splits < 1e9 ? at_least_one((int64_t)splits) : 1000000000;
}

int64_t split_tokens(const struct split_limits *l, const struct split_load *load)
{
    if (load->max_tokens <= l->tile_tokens)
        return l->tile_tokens;
    int64_t blocks = load->blocks * l->kv_heads; /* blocks with one split each */
    int64_t most = affordable(l, load);
    int64_t needed = ceil_divide(load->max_tokens, l->most_tokens); /* the kernel limits a split's length */
    int64_t splits = lesser(at_least_one(l->resident / blocks), most);
    if (splits < needed)
        splits = needed;
    int64_t waves = ceil_divide(splits * blocks, l->resident);
    int64_t filling = at_least_one(waves * l->resident / blocks);
    if (filling > splits)
        splits = filling <= most ? filling : splits > most ? splits : most;
    int64_t room = at_least_one(l->partials / load->queries);
    if (splits > room)
        splits = room > needed ? room : needed;
    int64_t tokens = ceil_divide(ceil_divide(load->max_tokens, splits), l->tile_tokens) * l->tile_tokens;
    return lesser(tokens, l->most_tokens);
}

int64_t split_count(int64_t max_tokens, int64_t tokens_per_split)
{
    return at_least_one(ceil_divide(max_tokens, tokens_per_split));
}

int64_t split_partials(const struct split_limits *l, int64_t max_queries, int64_t queries_per_block,
                       int64_t max_tokens)
{
    /* A call that fills the GPU with one split of each block leaves no partial results. A call with fewer
     * blocks takes the room of one wave, which is resident / kv_heads splits of a block, or fills a second
     * wave. */
    int64_t needed = ceil_divide(max_tokens, l->most_tokens);
    return (needed > 1 ? max_queries * needed : 0) +
           2 * at_least_one(l->resident / l->kv_heads) * queries_per_block;
}
