/* Sequences of verification cases: lengths, rounds of appending, queries, trees, pages. */
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

/* Tokens are cheaper where a layer is narrow: what a case may cost bounds its lengths. */
static int longest_length(const case_spec *s)
{
    double per_token = (double)s->hidden * s->kv_heads * s->head_dim * s->layers;
    return clamp((int)(60e6 / per_token), 100, 560);
}

/* Lengths that meet the edges: empty, one token, around tiles, pages and groups of tokens. */
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

/* Cached tokens after each round: at random, or a prompt and then a few tokens a step. */
static void draw_rounds(random_stream *r, case_sequence *s, int rounds)
{
    int step = random_choice(r, 6, 0, 1, 1, 2, 17, -1);
    for (int i = 0; i < rounds; i++)
        s->end[i] = step < 0 ? random_between(r, 0, s->length)
                             : clamp(s->length - (rounds - 1 - i) * step, 0, s->length);
    qsort(s->end, (size_t)rounds, sizeof s->end[0], ascending);
    s->end[rounds - 1] = s->length;
}

/* Half of what is far away is beyond 2^24, as far as a position goes: one that is moved, too, is an int. */
static int far_offset(const case_shape *shape, int sequence, int otherwise)
{
    random_stream r = random_begin(shape->order_seed, (uint64_t)sequence); /* so that all else stays */
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
        if (shared) /* every query has its own token in its own part, which takes the sink */
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

/* Pages of all sequences, scattered over a pool that has some more. */
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
        s->slot = shape->sequences - i; /* slot 0 is nobody's */
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

/* Query j follows one before it, its parent, and sees what that sees and itself. */
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

/* Rows like those of a real model: a channel much larger than the rest (by less in narrow rows, so that
 * logits stay where those of real models are, within about 10), and a constant run now and then. The layers
 * after the first differ little from the one before. */
static void draw_rows(random_stream *r, const case_spec *spec, case_shape *shape, float *row)
{
    int outlier = random_between(r, 0, spec->hidden - 1);
    float size = 12 * sqrtf((float)spec->hidden / 768);
    size_t d = (size_t)spec->hidden;
    for (size_t t = 0; t < (size_t)shape->first_token[shape->sequences]; t++) {
        for (int c = 0; c < spec->hidden; c++)
            row[c] = random_normal(r) * (c == outlier ? size : 1.0f);
        if (random_between(r, 0, 15) == 0) {
            float constant = random_normal(r); /* no outlier's: 64 of them would make logits of 30 */
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

/* Some tokens are nothing but a number at f16's limit or, as bf16, beyond it, for which a rounded scale
 * must not let a code stand for more. Whatever else such a row had would be quantized in steps of
 * thousands, and logits would be as large. Negative where zero is a code; elsewhere zeros would be off by
 * up to 64. */
static void draw_limits(const case_spec *spec, case_shape *shape)
{
    random_stream r = random_begin(shape->order_seed, UINT64_MAX); /* so that all else is as without */
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

/* A token of one sequence, if there are several, is NaN in one channel: it may reach the queries that see
 * it, and no others. */
static void draw_nan(const case_spec *spec, case_shape *shape)
{
    random_stream r = random_begin(shape->order_seed, CASE_MAX_SEQUENCES); /* so that all else stays */
    int first = case_first_attended(shape), i = random_between(&r, first, shape->sequences - 1);
    const case_sequence *q = &shape->sequence[i];
    if (spec->cross_layer || q->length == 0 || shape->sequences - first < 2 || random_between(&r, 0, 1))
        return;
    int of_queries = q->queries > 1 ? q->length - q->queries : 0; /* from here on not all see it */
    size_t t = (size_t)(shape->first_token[i] + random_between(&r, of_queries, q->length - 1));
    size_t c = (size_t)random_between(&r, 0, spec->hidden - 1);
    shape->x[0][t * (size_t)spec->hidden + c] = 0x7fff; /* NaN as f16, and as bf16 */
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
        shape->kind = CASE_PLAIN; /* parts want positions, and those the kernels of many queries */
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
