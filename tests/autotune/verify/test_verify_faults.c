/* Tests that verification finds faults: each of these faults, planted in a template, fails a case that has
 * the feature at fault. */
#include "../../../autotune/verify/verify.h"
#include "../../../gen/embed.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SEED = 20260101, TRIES = 16 };

/* Sanitizers look for faults of memory, and are slow. One fault of each kind is enough to find those. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MOST_FAULTS = 1 };
#else
enum { MOST_FAULTS = 100 };
#endif

/* In `file`, `from` becomes `to`. One of the small tier's cases with `feature` must find this in
 * `implementation`. If that takes two features, "a, b", the cases are those of the full tier with both. */
typedef struct fault {
    const char *what, *file, *from, *to, *feature;
    xq_implementation implementation;
} fault;

static void plant(const fault *f, const char *directory)
{
    const struct embed_file *file = embed_files;
    while (file->name && strcmp(file->name, f->file) != 0)
        file++;
    cr_assert(file->name, "%s: no %s", f->what, f->file);
    const char *place = strstr(file->text, f->from);
    cr_assert(place, "%s: %s has no '%s' any more: plant the fault elsewhere", f->what, f->file, f->from);
    size_t before = (size_t)(place - file->text), rest = strlen(place + strlen(f->from));
    char *text = malloc(before + strlen(f->to) + rest + 1);
    sprintf(text, "%.*s%s%s", (int)before, file->text, f->to, place + strlen(f->from));
    mkdir(files_path(directory, "lib"), 0777);
    files_write(files_path(directory, f->file + strlen("templates/")), text, strlen(text));
    free(text);
}

struct wanted {
    const char *features; /* one, or two as "a, b" */
    int found;
};

static void look_for(void *user, const char *feature)
{
    struct wanted *w = user;
    const char *second = strstr(w->features, ", ");
    size_t first = second ? (size_t)(second - w->features) : strlen(w->features);
    w->found += (strlen(feature) == first && strncmp(feature, w->features, first) == 0) ||
                (second && strcmp(feature, second + 2) == 0);
}

static bool takes_two(const fault *f)
{
    return strstr(f->feature, ", ");
}

static bool has_features(verifier *v, int64_t index, const fault *f)
{
    struct wanted w = {f->feature, 0};
    verifier_features(v, index, look_for, &w);
    return w.found == (takes_two(f) ? 2 : 1);
}

/* Whether a case with the feature fails. */
static bool finds(const char *templates, const fault *f)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    verifier *v = NULL;
    error err = ERROR_INIT;
    bool found = false;
    options.device = "sim";
    options.template_dir = templates;
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    cr_assert_eq(verifier_create(context, templates, SEED, &v, &err), XQ_OK, "%s", err.message);
    const verify_tier tier = takes_two(f) ? VERIFY_FULL : VERIFY_SMALL;
    int tried = 0;
    for (int64_t i = 0; i < verifier_tier_cases(v, tier) && tried < TRIES && !found; i++) {
        verify_result result;
        int64_t index = verifier_tier_case(tier, i);
        if (!has_features(v, index, f))
            continue;
        cr_assert_eq(verifier_run(v, index, &result, &err), XQ_OK, "%s: %s", f->what, err.message);
        const verify_part *part = &result.part[f->implementation];
        tried += part->outcome != VERIFY_UNSUPPORTED;
        found = part->outcome == VERIFY_FAILED;
        cr_assert_null(strstr(part->message, "rror:"), "%s: the fault is no program: %s", f->what,
                       part->message);
    }
    cr_assert_gt(tried, 0, "%s: no case with %s", f->what, f->feature);
    verifier_destroy(v);
    xq_context_destroy(context);
    return found;
}

static void all_are_found(const fault *faults, size_t count)
{
    for (size_t i = 0; i < count && i < MOST_FAULTS; i++) {
        const char *directory = files_directory();
        plant(&faults[i], directory);
        cr_expect(finds(directory, &faults[i]), "not found: %s", faults[i].what);
    }
}

Test(verify_faults, in_attention_are_found)
{
    static const fault faults[] = {
        {"scores 2 % too large", "templates/lib/score.cuh", "return product * (float)C::SCALE;",
         "return 1.02f * product * (float)C::SCALE;", "method x", XQ_FUSED},
        {"the same over an fp16 cache", "templates/kv_attend.cu.lt", "constexpr float SCORE_SCALE = ",
         "constexpr float SCORE_SCALE = 1.02f * ", "method x", XQ_FP16_KV},
        {"a counter that is not zero again", "templates/lib/split.cuh", "p.counters[counter] = 0;",
         "p.counters[counter] = 1;", "queries one", XQ_FUSED},
        {"weighted means of small x that lose their bits", "templates/lib/attend_values.cuh",
         "if (WEIGHTS != WEIGHT_BF16 && ", "if (false && ", "size 2^-16", XQ_FUSED},
        {"absorbed queries that stay beyond f16", "templates/absorb.cu.lt", "if (is_middle(most) ||",
         "if (true ||", "size 2^-16, rope none", XQ_FUSED},
        {"positions rounded to f32", "templates/lib/rope.cuh", "(u32)position * (u32)turns.x",
         "(u32)(int)(float)position * (u32)turns.x", "queries many", XQ_UNFUSED},
        {"YaRN's factor on queries alone", "templates/attend.cu.lt",
         "(model.rope.attention_factor or 1) ^ 2", "(model.rope.attention_factor or 1)", "rope yarn",
         XQ_FUSED},
        {"slopes of the head before", "templates/lib/attend_softmax.cuh",
         "C::SLOPES[used ? w.kv_head * work::GROUP_HEADS",
         "C::SLOPES[used && w.rows.head(row) ? -1 + w.kv_head * work::GROUP_HEADS", "rope alibi", XQ_FUSED},
    };
    all_are_found(faults, sizeof faults / sizeof faults[0]);
}

Test(verify_faults, in_masks_are_found)
{
    static const fault faults[] = {
        {"a window of one token more", "templates/lib/queries.cuh", "max(last - (WINDOW - 1), 0)",
         "max(last - WINDOW, 0)", "window 17", XQ_FUSED},
        {"queries that see the token after them", "templates/lib/queries.cuh",
         "s.end = min(last, drafts - 1) + 1;", "s.end = min(last + 1, drafts - 1) + 1;", "queries many",
         XQ_FUSED},
        {"NaN that reaches all rows of a block", "templates/lib/attend_values.cuh",
         "if (partial && !all_finite(z))", "if (false)", "queries many", XQ_FUSED},
        {"the same over an fp16 cache", "templates/kv_attend.cu.lt",
         "const bool bad = !block.all(w, start, start + SLICE) &&", "const bool bad = false &&",
         "queries many", XQ_FP16_KV},
        {"a light sink", "templates/lib/split.cuh", "exp2_approx(sink - top)",
         "0.9f * exp2_approx(sink - top)", "sinks yes", XQ_FUSED},
        {"a tree whose drafts see their siblings", "templates/lib/queries.cuh",
         "if (!(word >> draft % 32 & 1))", "if (!(word >> draft % 32 & 1) && j == 0)", "queries many",
         XQ_FUSED},
        {"parts merged 2 % too large", "templates/merge.cu.lt", "sum != 0 ? 1.0f / sum : 0;",
         "sum != 0 ? 1.02f / sum : 0;", "queries many", XQ_UNFUSED},
    };
    all_are_found(faults, sizeof faults / sizeof faults[0]);
}

Test(verify_faults, in_what_is_cached_are_found)
{
    static const fault faults[] = {
        {"codes rounded down", "templates/lib/quantize.cuh", "rintf(__fdiv_rn(value - zero, scale))",
         "floorf(__fdiv_rn(value - zero, scale))", "method x", XQ_FUSED},
        {"integer zero points rounded down", "templates/lib/quantize.cuh",
         "clamp(rintf(__fdiv_rn(-__fmul_rn(low, clip), scale)))",
         "clamp(floorf(__fdiv_rn(-__fmul_rn(low, clip), scale)))", "zero point integer", XQ_UNFUSED},
        {"clipped codes that begin where the range does", "templates/lib/quantize.cuh",
         "__fadd_rn(low, __fmul_rn(range - span, 0.5f))", "low", "clip 0.7", XQ_FUSED},
        {"codes that stand for more than f16 holds", "templates/lib/quantize.cuh", "if (overflows(count))",
         "if (false && overflows(count))", "method x", XQ_FUSED},
        {"tail rows that are one off", "templates/append_channel.cu.lt",
         "+ token % GROUP_TOKENS * s.tail_width", "+ (token + 1) % GROUP_TOKENS * s.tail_width",
         "axis channel", XQ_UNFUSED},
        {"errors that count double", "templates/lib/quantize.cuh", "fmaxf(cached - value, -65504.0f)",
         "fmaxf(2 * (cached - value), -65504.0f)", "feedback yes", XQ_FUSED},
        {"errors that come a channel late", "templates/append.cu.lt",
         "error = __shfl_sync(0xffffffff, error, lane, GROUP_LANES);",
         "error = __shfl_sync(0xffffffff, error, lane ^ 1, GROUP_LANES);", "feedback yes", XQ_UNFUSED},
        {"a rotation that leaves channels out", "templates/append.cu.lt", "chunk < CHUNKS; chunk++) {",
         "chunk < CHUNKS - 1; chunk++) {", "method x-rotated", XQ_FUSED},
        {"layers that replace those before", "templates/accumulate.cu.lt",
         "constexpr bool BASE = ${cache.base and \"true\" or \"false\"}", "constexpr bool BASE = true",
         "method x-cl", XQ_UNFUSED},
    };
    all_are_found(faults, sizeof faults / sizeof faults[0]);
}

Test(verify_faults, over_an_fp8_cache_are_found)
{
    static const fault faults[] = {
        {"scores 2 % too large", "templates/kv_attend.cu.lt", "scores[sub][tile][i] *= k_scale;",
         "scores[sub][tile][i] *= 1.02f * k_scale;", "method x", XQ_FP8_KV},
        {"values of neighbouring tokens changed over", "templates/kv_attend.cu.lt",
         "cached::widen(v[0], v[1], permute_bytes(words[i], 0, 0x3120));",
         "cached::widen(v[0], v[1], permute_bytes(words[i], 0, 0x1302));", "method x", XQ_FP8_KV},
        {"NaN that reaches all rows of a block", "templates/lib/e4m3.cuh",
         "+ 0x01010101) >> 7 & 0x01010101", "+ 0x01010101) >> 7 & 0", "queries many", XQ_FP8_KV},
        {"keys in half units", "templates/kv_append.cu.lt", "__frcp_rn(*p.k_scale)",
         "2 * __frcp_rn(*p.k_scale)", "method x", XQ_FP8_KV},
    };
    all_are_found(faults, sizeof faults / sizeof faults[0]);
}

Test(verify_faults, in_the_unfused_pipeline_are_found)
{
    static const fault faults[] = {
        {"the bias of the column before", "templates/gemm.cu.lt", "(p.bias + column)",
         "(p.bias + (column ? column - 2 : 0))", "bias yes", XQ_UNFUSED},
        {"8-bit weights with their neighbour's scale", "templates/gemm.cu.lt", "low *= scale.x;",
         "low *= scale.y;", "weights int8", XQ_UNFUSED},
        {"interleaved pairs turned the other way", "templates/lib/key_row.cuh",
         "rope_rotate(v[2 * i], v[2 * i + 1], ", "rope_rotate(v[2 * i + 1], v[2 * i], ", "rope interleaved",
         XQ_UNFUSED},
    };
    all_are_found(faults, sizeof faults / sizeof faults[0]);
}
