/* Draws the sequences of verification cases: lengths, rounds of appending, queries, trees, pages. */
#include "case.h"

#include "../../runtime/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* ---------------------------------------------------------------- tokens */

/* The longest sequence: tokens are cheaper where a layer is narrow, and the cost of a case bounds its
 * lengths. */
static int longest_length(const case_spec *s)
{
    double per_token = (double)s->hidden * s->kv_heads * s->head_dim * s->layers;
    return clamp((int)(60e6 / per_token), 100, 560);
}

/* Draws a length near the edges: empty, one token, around tiles, pages and groups of tokens. */
static int draw_length(random_stream *r, const case_spec *s)
{
    int group = s->group ? s->group : 64, most = longest_length(s);
    int edge = random_choice(r, 5, 16, s->page, group, 128, 256) * random_between(r, 1, 2);
    switch (random_between(r, 0, 5)) {
    case 0:
        return random_between(r, 0, 1);
    case 1:
        return random_between(r, 2, 40);
    case 2:
        return clamp(edge, 0, most);
    case 3:
        return clamp(edge + random_between(r, -1, 1), 0, most);
    default:
        return random_between(r, 1, clamp(most, 1, 300));
    }
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Draws the cached tokens after each round: at random, or a prompt and then a few tokens per round. */
static void draw_rounds(random_stream *r, case_sequence *s, int rounds)
{
    int step = random_choice(r, 6, 0, 1, 1, 2, 17, -1);
    for (int i = 0; i < rounds; i++)
        s->end[i] = step < 0 ? random_between(r, 0, s->length)
                             : clamp(s->length - (rounds - 1 - i) * step, 0, s->length);
    qsort(s->end, (size_t)rounds, sizeof s->end[0], ascending);
    s->end[rounds - 1] = s->length;
}

/* Moves half of the far offsets beyond 2^24, at most so far that every position is an int, even one that
 * draw_positions moves. */
static int far_offset(const case_shape *shape, int sequence, int otherwise)
{
    random_stream r = random_begin(shape->order_seed, (uint64_t)sequence); /* other draws stay the same */
    const int last = INT32_MAX - shape->sequence[sequence].length - 1;
    int far =
        random_choice(&r, 3, last, last - random_between(&r, 0, 50), random_between(&r, 1 << 24, last));
    return random_between(&r, 0, 1) ? far : otherwise;
}

static void draw_sequences(random_stream *r, const case_spec *spec, case_shape *shape)
{
    bool shared = shape->kind == CASE_SHARED;
    shape->sequences = random_between(r, 1 + shared, CASE_MAX_SEQUENCES - 1);
    shape->rounds = random_between(r, 0, 2) ? random_between(r, 2, CASE_MAX_ROUNDS) : 1;
    for (int i = 0; i < shape->sequences; i++) {
        case_sequence *s = &shape->sequence[i];
        s->length = draw_length(r, spec);
        if (shared) /* every query's own token is in the part that takes the sink */
            s->length = s->length > 0 ? s->length : 1;
        draw_rounds(r, s, shape->rounds);
        s->offset = shared && i > 0              ? shape->sequence[0].length
                    : shape->kind == CASE_PLACED ? random_choice(r, 4, 0, 5, random_between(r, 1, 3000),
                                                                 random_between(r, 100000, 1000000))
                                                 : 0;
        if (s->offset >= 100000)
            s->offset = far_offset(shape, i, s->offset);
        shape->longest = s->length > shape->longest ? s->length : shape->longest;
        shape->first_token[i + 1] = shape->first_token[i] + s->length;
    }
}

/* Draws the pages of all sequences, scattered over a pool that has a few more. */
static xq_status draw_pages(random_stream *r, const case_spec *spec, case_shape *shape, error *err)
{
    int count = 0, next = 0;
    for (int i = 0; i < shape->sequences; i++)
        count += (shape->sequence[i].length + spec->page - 1) / spec->page;
    shape->pool_pages = count + 3;
    int32_t *order = calloc((size_t)shape->pool_pages, sizeof *order);
    if (!order)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a verification case");
    for (int i = 0; i < shape->pool_pages; i++)
        order[i] = i;
    random_shuffle(r, order, (size_t)shape->pool_pages);
    for (int i = 0; i < shape->sequences; i++) {
        case_sequence *s = &shape->sequence[i];
        for (int p = 0; p * spec->page < s->length; p++)
            s->pages[p] = order[next++];
        s->slot = shape->sequences - i; /* slot 0 belongs to no sequence */
    }
    free(order);
    return XQ_OK;
}

/* ---------------------------------------------------------------- queries */

static void draw_query_counts(random_stream *r, const case_spec *spec, case_shape *shape)
{
    for (int i = case_first_attended(shape); i < shape->sequences; i++) {
        case_sequence *s = &shape->sequence[i];
        s->queries = 1;
        if (spec->many_queries && !(spec->both_kernels && shape->kind == CASE_PLAIN)) {
            int chunk = random_between(r, 9, CASE_MAX_QUERIES);
            s->queries =
                random_choice(r, 6, 0, 1, 1, random_between(r, 2, 8), random_between(r, 2, 8), chunk);
            s->queries = clamp(s->queries, 0, clamp(CASE_MAX_TOTAL_QUERIES - shape->queries, 0, s->length));
        }
        s->first_query = shape->queries;
        shape->queries += s->queries;
        shape->most_queries = s->queries > shape->most_queries ? s->queries : shape->most_queries;
    }
}

/* Draws a tree: each query follows an earlier one, its parent, and sees itself and whatever its parent
 * sees. */
static void draw_tree(random_stream *r, case_shape *shape, const case_sequence *s)
{
    int depth[CASE_MAX_QUERIES];
    for (int j = 0; j < s->queries; j++) {
        int parent = j ? random_between(r, j > 4 ? j - 4 : 0, j - 1) : -1;
        uint32_t *row = shape->tree_mask + (size_t)(s->first_query + j) * (size_t)shape->mask_words;
        if (parent >= 0)
            memcpy(row, shape->tree_mask + (size_t)(s->first_query + parent) * (size_t)shape->mask_words,
                   (size_t)shape->mask_words * sizeof *row);
        row[j / 32] |= 1u << j % 32;
        depth[j] = parent < 0 ? 0 : depth[parent] + 1;
        shape->query_position[s->first_query + j] = s->offset + s->length - s->queries + depth[j];
    }
}

static void draw_positions(random_stream *r, const case_spec *spec, case_shape *shape)
{
    for (int i = case_first_attended(shape); i < shape->sequences; i++) {
        case_sequence *s = &shape->sequence[i];
        bool moved = shape->kind == CASE_PLACED && spec->many_queries && random_between(r, 0, 1);
        for (int j = 0; j < s->queries; j++) {
            int position = s->offset + s->length - s->queries + j;
            if (moved)
                position += random_between(r, -3, 2);
            shape->query_position[s->first_query + j] = position < 0 ? 0 : position;
        }
        if (shape->tree)
            draw_tree(r, shape, s);
    }
}

int case_token_position(const case_shape *shape, int sequence, int token)
{
    const case_sequence *s = &shape->sequence[sequence];
    int draft = shape->tree ? token - (s->length - s->queries) : -1;
    return draft >= 0 ? shape->query_position[s->first_query + draft] : s->offset + token;
}

case_round case_round_of(const case_shape *shape, int round)
{
    case_round r = {.round = round};
    for (int i = 0; i < shape->sequences; i++) {
        r.begin[i] = round ? shape->sequence[i].end[round - 1] : 0;
        r.end[i] = shape->sequence[i].end[round];
    }
    return r;
}

uint16_t case_domain(const case_spec *spec, uint16_t bits)
{
    return spec->bf16 ? rounding_bfloat_to_half(bits) : bits;
}

/* ---------------------------------------------------------------- data */

static uint16_t to_bits(const case_spec *spec, float value)
{
    return spec->bf16 ? rounding_to_bfloat((double)value) : half_from_float(value);
}

/* Draws rows like those of a real model. One channel is much larger than the rest, but less so in narrow
 * rows, so that logits stay within about 10, as in real models. Now and then there is a run of equal
 * values. The rows of later layers differ little from those of the layer before. */
static void draw_rows(random_stream *r, const case_spec *spec, case_shape *shape, float *row)
{
    int outlier = random_between(r, 0, spec->hidden - 1);
    float size = 12 * sqrtf((float)spec->hidden / 768);
    size_t d = (size_t)spec->hidden;
    for (size_t t = 0; t < (size_t)shape->first_token[shape->sequences]; t++) {
        for (int c = 0; c < spec->hidden; c++)
            row[c] = random_normal(r) * (c == outlier ? size : 1.0f);
        if (random_between(r, 0, 15) == 0) {
            /* The usual size, not the outlier's: 64 such values would make logits of 30. */
            float constant = random_normal(r);
            for (int c = 0; c < 64; c++)
                row[c] = constant;
        }
        for (int layer = 0; layer < spec->layers; layer++)
            for (int c = 0; c < spec->hidden; c++) {
                row[c] += layer ? 0.25f * random_normal(r) : 0;
                shape->x[layer][t * d + (size_t)c] = to_bits(spec, ldexpf(row[c], spec->size));
            }
    }
    size_t values = (size_t)shape->queries * (size_t)spec->heads * (size_t)spec->head_dim;
    for (size_t i = 0; i < values; i++)
        shape->q[i] = to_bits(spec, random_normal(r));
}

/* Some tokens are zero except for one number at f16's limit, or in bf16 beyond it. A rounded scale must not
 * let a code represent more than f16 holds. Other values in such a row would be quantized in steps of
 * thousands, and logits would be as large. The number is negative only where zero is itself a code;
 * elsewhere the zeros beside a negative number would be off by up to 64. */
static void draw_limits(const case_spec *spec, case_shape *shape)
{
    random_stream r = random_begin(shape->order_seed, UINT64_MAX); /* other draws stay the same */
    const bool both = verify_chosen(&spec->choice, AXIS_ZERO_POINT, "integer");
    const size_t d = (size_t)spec->hidden;
    for (size_t t = 0; spec->limit_channel >= 0 && t < (size_t)shape->first_token[shape->sequences]; t++) {
        if (random_between(&r, 0, 7))
            continue;
        const float value = both && random_between(&r, 0, 1) ? -65504 : 65504;
        for (int layer = 0; layer < spec->layers; layer++) {
            memset(shape->x[layer] + t * d, 0, d * sizeof *shape->x[layer]);
            shape->x[layer][t * d + (size_t)spec->limit_channel] = to_bits(spec, value);
        }
    }
}

/* If there are several sequences, a token of one of them may be NaN in one channel. The NaN may reach the
 * queries that see the token, and no others. */
static void draw_nan(const case_spec *spec, case_shape *shape)
{
    random_stream r = random_begin(shape->order_seed, CASE_MAX_SEQUENCES); /* other draws stay the same */
    int first = case_first_attended(shape), i = random_between(&r, first, shape->sequences - 1);
    const case_sequence *q = &shape->sequence[i];
    if (spec->cross_layer || q->length == 0 || shape->sequences - first < 2 || random_between(&r, 0, 1))
        return;
    int of_queries = q->queries > 1 ? q->length - q->queries : 0; /* from here on not all queries see it */
    size_t t = (size_t)(shape->first_token[i] + random_between(&r, of_queries, q->length - 1));
    size_t c = (size_t)random_between(&r, 0, spec->hidden - 1);
    shape->x[0][t * (size_t)spec->hidden + c] = 0x7fff; /* NaN as f16 and as bf16 */
}

static xq_status allocate(const case_spec *spec, case_shape *shape, error *err)
{
    size_t tokens = (size_t)shape->first_token[shape->sequences], queries = (size_t)shape->queries;
    bool complete = true;
    shape->mask_words = (shape->most_queries + 31) / 32 + 1; /* one more than needed */
    shape->query_position = calloc(queries + 1, sizeof *shape->query_position);
    if (shape->tree)
        shape->tree_mask = calloc(queries * (size_t)shape->mask_words + 1, sizeof *shape->tree_mask);
    shape->q = calloc(queries * (size_t)spec->heads * (size_t)spec->head_dim + 1, sizeof *shape->q);
    for (int layer = 0; layer < spec->layers; layer++) {
        shape->x[layer] = calloc(tokens * (size_t)spec->hidden + 1, sizeof *shape->x[layer]);
        complete = complete && shape->x[layer];
    }
    if (complete && shape->query_position && shape->q && (!shape->tree || shape->tree_mask))
        return XQ_OK;
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a verification case");
}

xq_status case_shape_draw(random_stream *r, const case_spec *spec, int64_t kind, case_shape *shape,
                          error *err)
{
    memset(shape, 0, sizeof *shape);
    shape->kind = (enum case_kind)(kind % CASE_KINDS);
    if (shape->kind == CASE_SHARED && !spec->many_queries)
        shape->kind = CASE_PLAIN; /* the parts need positions, which only many-query kernels take */
    shape->tree = spec->many_queries && shape->kind == CASE_PLACED && random_between(r, 0, 1);
    shape->shuffled = random_between(r, 0, 1);
    shape->order_seed = random_bits(r);
    draw_sequences(r, spec, shape);
    draw_query_counts(r, spec, shape);
    float *row = malloc((size_t)spec->hidden * sizeof *row);
    if (!row)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a verification case");
    else if (draw_pages(r, spec, shape, err) == XQ_OK && allocate(spec, shape, err) == XQ_OK) {
        draw_positions(r, spec, shape);
        draw_rows(r, spec, shape, row);
        draw_limits(spec, shape);
        draw_nan(spec, shape);
    }
    free(row);
    if (err->status != XQ_OK)
        case_shape_free(shape);
    return err->status;
}

void case_shape_free(case_shape *shape)
{
    for (int layer = 0; layer < CASE_MAX_LAYERS; layer++)
        free(shape->x[layer]);
    free(shape->q);
    free(shape->query_position);
    free(shape->tree_mask);
    memset(shape, 0, sizeof *shape);
}
