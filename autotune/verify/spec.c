/* Makes the specs of verification cases: sizes, and JSON from the table of axes. */
#include "case.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int chosen_number(const verify_choice *c, enum verify_axis axis, int which)
{
    return verify_value_number(axis, c->value[axis], which);
}

/* ---------------------------------------------------------------- sizes */

/* Draws the columns of one latent, at most `full`, according to AXIS_RANKS. */
static int draw_rank(random_stream *r, const verify_choice *c, int full)
{
    if (verify_chosen(c, AXIS_RANKS, "low") && full > 64)
        return 64 * random_between(r, 1, (full - 1) / 64);
    if (verify_chosen(c, AXIS_RANKS, "padded"))
        return random_between(r, full > 24 ? full - 24 : 1, full - 1);
    return full;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The number of latents of keys (which: 0) or of values (which: 1). */
static int count_latents(const case_spec *s, int which)
{
    const int stated = chosen_number(&s->choice, AXIS_LATENTS, which);
    return !s->latent ? 1 : stated > 0 ? stated : s->kv_heads;
}

static void draw_ranks(random_stream *r, case_spec *s)
{
    const int dkv = s->kv_heads * s->head_dim;
    s->groups_k = count_latents(s, 0);
    s->groups_v = count_latents(s, 1);
    /* hidden bounds the rank of each latent, and not their sum, so that many latents do not become too
     * narrow */
    int full_k = s->latent_cross ? least(s->hidden, 2 * dkv) : least(s->hidden, dkv / s->groups_k);
    if (s->latent || s->latent_cross)
        s->rank_k = draw_rank(r, &s->choice, full_k) * s->groups_k;
    if (s->latent)
        s->rank_v = draw_rank(r, &s->choice, least(s->hidden, dkv / s->groups_v)) * s->groups_v;
}

/* ---------------------------------------------------------------- JSON */

typedef struct writer {
    char *text;
    size_t size, used;
    bool first; /* no member of the object has been written yet */
} writer;

static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->used, w->size - w->used, format, args);
    va_end(args);
    w->used = least((int)w->used + n, (int)w->size - 1);
}

static void put_member(writer *w, const char *text)
{
    if (*text)
        put(w, "%s%s", w->first ? "" : ", ", text);
    w->first = w->first && !*text;
}

static void put_section(writer *w, const verify_choice *c, enum verify_section section)
{
    for (int a = 0; a < VERIFY_AXES; a++)
        if (verify_axis_applies((enum verify_axis)a, c))
            put_member(w, verify_value_json((enum verify_axis)a, c->value[a], section));
}

static void write_json(const case_spec *s, bool base, char *text, size_t size)
{
    writer w = {text, size, 0, false};
    put(&w, "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d",
        s->hidden, s->heads, s->kv_heads);
    put_section(&w, &s->choice, SECTION_MODEL);
    put(&w, "}, \"cache\": {");
    w.first = true;
    put_section(&w, &s->choice, SECTION_CACHE);
    if (s->rank_k)
        put(&w, ", \"rank_k\": %d", s->rank_k);
    if (s->rank_v)
        put(&w, ", \"rank_v\": %d", s->rank_v);
    if (s->latent)
        put(&w, ", \"groups_k\": %d, \"groups_v\": %d", s->groups_k, s->groups_v);
    if (s->cross_layer)
        put(&w, ", \"base\": %s", base ? "true" : "false");
    put(&w, "}");
    w.first = false;
    put_section(&w, &s->choice, SECTION_TOP);
    put(&w, "}");
}

/* Whether a spec can have tokens at f16's limit. It cannot where codes begin well within the range, because
 * zeros beside such a number would then be read as thousands. */
static bool has_limits(const case_spec *s)
{
    return s->size == 0 && verify_chosen(&s->choice, AXIS_CLIP, "1");
}

void case_spec_make(uint64_t seed, int64_t index, verify_choice choice, case_spec *s)
{
    random_stream r = random_begin(seed, (uint64_t)index * 2);
    memset(s, 0, sizeof *s);
    s->choice = choice;
    s->latent = verify_chosen(&choice, AXIS_METHOD, "latent");
    s->rotated = verify_chosen(&choice, AXIS_METHOD, "x-rotated");
    s->latent_cross = verify_chosen(&choice, AXIS_METHOD, "latent-cl");
    s->cross_layer = s->latent_cross || verify_chosen(&choice, AXIS_METHOD, "x-cl");
    s->layers = s->cross_layer ? CASE_MAX_LAYERS : 1;
    s->both_kernels = !verify_chosen(&choice, AXIS_QUERIES, "many") && index % 32 == 1;
    s->many_queries = s->both_kernels || verify_chosen(&choice, AXIS_QUERIES, "many");
    s->bf16 = verify_chosen(&choice, AXIS_DTYPE, "bf16");
    s->weights = (rounding_type)choice.value[AXIS_WEIGHTS];
    s->heads = chosen_number(&choice, AXIS_HEADS, 0);
    s->kv_heads = chosen_number(&choice, AXIS_HEADS, 1);
    s->head_dim = chosen_number(&choice, AXIS_HEAD_DIM, 0);
    s->page = chosen_number(&choice, AXIS_PAGE, 0);
    s->group = chosen_number(&choice, AXIS_GROUP, 0);
    s->size = chosen_number(&choice, AXIS_SIZE, 0);
    s->hidden = 64 * random_between(&r, 2, s->cross_layer ? 4 : 6);
    s->limit_channel = has_limits(s) ? s->hidden / 2 + 5 : -1;
    draw_ranks(&r, s);
    write_json(s, true, s->json, sizeof s->json);
    if (s->cross_layer)
        write_json(s, false, s->delta_json, sizeof s->delta_json);
}
