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

/* Splits of one sequence that keep the partial results within their share. */
static int64_t affordable(const struct split_limits *l, int64_t batch, int64_t max_tokens)
{
    double bytes = l->shared_bytes / (double)batch + (double)max_tokens * l->token_bytes;
    double splits = l->share * bytes / l->partial_bytes;
    return splits < 1e9 ? at_least_one((int64_t)splits) : 1000000000;
}

int64_t split_tokens(const struct split_limits *l, int64_t batch, int64_t max_tokens)
{
    if (max_tokens <= l->tile_tokens)
        return l->tile_tokens;
    int64_t blocks = batch * l->kv_heads; /* of one split each */
    int64_t most = affordable(l, batch, max_tokens);
    int64_t needed = ceil_divide(max_tokens, l->most_tokens); /* the kernel takes no longer splits */
    int64_t splits = lesser(at_least_one(l->resident / blocks), most);
    if (splits < needed)
        splits = needed;
    int64_t waves = ceil_divide(splits * blocks, l->resident);
    int64_t filling = at_least_one(waves * l->resident / blocks);
    if (filling > splits)
        splits = filling <= most ? filling : splits > most ? splits : most;
    int64_t tokens = ceil_divide(ceil_divide(max_tokens, splits), l->tile_tokens) * l->tile_tokens;
    return lesser(tokens, l->most_tokens);
}

int64_t split_count(int64_t max_tokens, int64_t tokens_per_split)
{
    return at_least_one(ceil_divide(max_tokens, tokens_per_split));
}

int64_t split_most(const struct split_limits *l, int64_t max_batch, int64_t max_tokens)
{
    /* Of `splits` above: what the kernel needs, or one wave's room, and at most another wave's to fill the
     * last one. A wave's room is resident / kv_heads splits whatever the batch, or one a sequence. */
    int64_t room = l->resident / l->kv_heads;
    return max_batch * (1 + ceil_divide(max_tokens, l->most_tokens)) + 2 * room;
}
