/* The numbers that templates get for RoPE and ALiBi, compared with the formulas of the models' own code
 * (for RoPE in long double). */
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const long double two_pi = 6.283185307179586476925286766559L;

/* A generator with a family "probe", whose template is `text`. */
static gen *open_probe(const char *text)
{
    static const char family[] =
        "return {name = \"probe\", entry = \"probe\", summary = \"a test\", parameters = {}, "
        "resources = function() return {threads = 32, shared_bytes = 0} end}\n";
    const char *directory = files_directory();
    files_write(files_path(directory, "probe.cu.lt"), text, strlen(text));
    files_write(files_path(directory, "probe.spec.lua"), family, strlen(family));
    gen *g = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(directory, &g, &err), XQ_OK, "%s", err.message);
    return g;
}

static char *render_probe(gen *g, const char *spec)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    gen_render(g, spec, "probe", &kernel, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", spec, err.message);
    free(kernel.info);
    return kernel.source;
}

static gen *open_turns(void)
{
    return open_probe("% for i, t in ipairs(rope_turns()) do\nturn ${i - 1} ${t.high} ${t.low}\n% end\n");
}

/* ---------------------------------------------------------------- RoPE */

/* The way in which frequencies are stretched: the parameters of transformers' modeling_rope_utils. */
struct stretch {
    enum { PLAIN, LINEAR, LLAMA3, YARN } kind;
    double factor, beta_fast, beta_slow;
    int context;
    bool truncate;
};

static long double llama3(long double frequency, const struct stretch *s)
{
    long double wavelength = two_pi / frequency;
    long double smooth = (s->context / wavelength - 1) / (4 - 1);
    if (wavelength > s->context / 1.0L)
        return frequency / s->factor;
    if (wavelength < s->context / 4.0L)
        return frequency;
    return (1 - smooth) * frequency / s->factor + smooth * frequency;
}

static long double correction(double rotations, int dim, double theta, const struct stretch *s)
{
    return dim * logl(s->context / (rotations * two_pi)) / (2 * logl(theta));
}

static long double yarn(long double frequency, int i, int dim, double theta, const struct stretch *s)
{
    long double low = correction(s->beta_fast, dim, theta, s),
                high = correction(s->beta_slow, dim, theta, s);
    if (s->truncate) {
        low = floorl(low);
        high = ceill(high);
    }
    low = fmaxl(low, 0);
    high = fminl(high, dim - 1);
    if (low == high)
        high += 0.001L;
    long double keep = 1 - fminl(fmaxl((i - low) / (high - low), 0), 1);
    return frequency / s->factor * (1 - keep) + frequency * keep;
}

/* Frequency of pair i, in turns per token. */
static long double turns_of(int i, int dim, double theta, const struct stretch *s)
{
    long double frequency = powl(theta, -2.0L * i / dim);
    if (s->kind == LINEAR)
        frequency /= s->factor;
    else if (s->kind == LLAMA3)
        frequency = llama3(frequency, s);
    else if (s->kind == YARN)
        frequency = yarn(frequency, i, dim, theta, s);
    return frequency / two_pi;
}

static void print_scaling(char *text, size_t size, const struct stretch *s)
{
    static const char *const names[] = {"default", "linear", "llama3", "yarn"};
    int used = snprintf(text, size, "{\"rope_type\": \"%s\"", names[s->kind]);
    if (s->kind != PLAIN)
        used += snprintf(text + used, size - (size_t)used, ", \"factor\": %.17g", s->factor);
    if (s->kind == LLAMA3)
        used +=
            snprintf(text + used, size - (size_t)used, ", \"low_freq_factor\": 1, \"high_freq_factor\": 4");
    if (s->kind == YARN)
        used += snprintf(text + used, size - (size_t)used,
                         ", \"beta_fast\": %.17g, \"beta_slow\": %.17g, \"truncate\": %s", s->beta_fast,
                         s->beta_slow, s->truncate ? "true" : "false");
    if (s->kind == LLAMA3 || s->kind == YARN)
        used += snprintf(text + used, size - (size_t)used, ", \"original_max_position_embeddings\": %d",
                         s->context);
    snprintf(text + used, size - (size_t)used, "}");
}

/* Distance of the two parts of a frequency from the expected one, in turns. Whole turns do not matter. */
static long double turns_off(int32_t high, int32_t low, long double expected)
{
    long double difference = high * 0x1p-32L + low * 0x1p-64L - expected;
    return fabsl(difference - roundl(difference));
}

static void check_turns(gen *g, int head_dim, double share, double theta, const struct stretch *s)
{
    char scaling[256], spec[640];
    print_scaling(scaling, sizeof scaling, s);
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 4, \"head_dim\": %d, "
             "\"rope_theta\": %.17g, \"partial_rotary_factor\": %.17g, \"rope_scaling\": %s}}",
             head_dim, theta, share, scaling);
    char *source = render_probe(g, spec), *rest = source;
    int count = 0, dim = (int)(head_dim * share);
    for (char *line; (line = strsep(&rest, "\n"));) {
        int i;
        int32_t high, low;
        if (sscanf(line, "turn %d %" SCNd32 " %" SCNd32, &i, &high, &low) != 3)
            continue;
        long double off = turns_off(high, low, turns_of(i, dim, theta, s));
        cr_assert_lt(off, 0x1p-56L, "%s, pair %d: %Lg", spec, i, off);
        count++;
    }
    cr_assert_eq(count, dim / 2);
    free(source);
}

static const double thetas[] = {10000, 100000, 500000, 1e6, 1e9, 1.5, 150000};
enum { THETAS = sizeof thetas / sizeof *thetas };

Test(rope, frequencies_are_those_of_transformers_to_56_bits_of_a_turn, .timeout = 120)
{
    static const struct stretch stretches[] = {
        {PLAIN, 0, 0, 0, 0, false},     {LINEAR, 8, 0, 0, 0, false},     {LINEAR, 2.5, 0, 0, 0, false},
        {LLAMA3, 8, 0, 0, 8192, false}, {LLAMA3, 32, 0, 0, 8192, false},
    };
    gen *g = open_turns();
    for (int i = 0; i < THETAS; i++)
        for (size_t k = 0; k < sizeof stretches / sizeof *stretches; k++) {
            check_turns(g, 64, 1, thetas[i], &stretches[k]);
            check_turns(g, 128, 1, thetas[i], &stretches[k]);
        }
    gen_destroy(g);
}

/* The two tables are rendered one after the other, so that one that is taken for the other shows. */
Test(rope, longrope_divides_each_pair_by_its_factor, .timeout = 120)
{
    static const char *const presets[] = {"phi-4-mini-4k", "phi-4-mini-128k"},
                             *const lists[] = {"model.rope.scaling.short_factor",
                                               "model.rope.scaling.long_factor"};
    gen *g = open_turns();
    for (int t = 0; t < 2; t++) {
        char spec[64];
        snprintf(spec, sizeof spec, "{\"model\": \"%s\"}", presets[t]);
        cJSON *completed = generator_complete_parsed(spec);
        const cJSON *factors = generator_member(completed, lists[t]);
        char *source = render_probe(g, spec), *rest = source;
        int count = 0;
        for (char *line; (line = strsep(&rest, "\n"));) {
            int i;
            int32_t high, low;
            if (sscanf(line, "turn %d %" SCNd32 " %" SCNd32, &i, &high, &low) != 3)
                continue;
            long double expected =
                powl(10000, -2.0L * i / 96) / cJSON_GetArrayItem(factors, i)->valuedouble / two_pi;
            cr_assert_lt(turns_off(high, low, expected), 0x1p-56L, "%s, pair %d", spec, i);
            count++;
        }
        cr_assert_eq(count, 48);
        free(source);
        cJSON_Delete(completed);
    }
    gen_destroy(g);
}

Test(rope, yarn_is_that_of_transformers, .timeout = 120)
{
    static const struct stretch stretches[] = {
        {YARN, 32, 32, 1, 4096, false}, /* gpt-oss */
        {YARN, 4, 32, 1, 32768, true},  /* Qwen 2.5 */
        {YARN, 40, 16, 2, 4096, true},  {YARN, 1.5, 64, 0.25, 200, false}, {YARN, 8, 2, 1.9999, 16, true},
    };
    gen *g = open_turns();
    for (int i = 0; i < THETAS; i++)
        for (size_t k = 0; k < sizeof stretches / sizeof *stretches; k++)
            check_turns(g, 64, 1, thetas[i], &stretches[k]);
    gen_destroy(g);
}

Test(rope, a_part_of_a_head_has_the_frequencies_of_a_smaller_head, .timeout = 60)
{
    static const struct stretch plain = {PLAIN, 0, 0, 0, 0, false}, oss = {YARN, 32, 32, 1, 4096, false};
    gen *g = open_turns();
    check_turns(g, 128, 0.5, 10000, &plain); /* GLM-4 */
    check_turns(g, 96, 0.25, 10000, &plain); /* GPT-NeoX */
    check_turns(g, 80, 0.4, 10000, &plain);  /* Phi-2 */
    check_turns(g, 128, 0.5, 10000, &oss);
    gen_destroy(g);
}

Test(rope, without_rope_nothing_turns)
{
    gen *g = open_probe("% assert(#rope_turns() == 0)\nint a;\n");
    free(render_probe(
        g,
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"rope\": {\"type\": \"none\"}}}"));
    gen_destroy(g);
}

/* The attention factor of YaRN, as in transformers' _compute_yarn_parameters. */
Test(rope, yarn_scales_attention_as_transformers_does)
{
    static const struct {
        const char *keys;
        double factor;
    } cases[] = {
        {"\"factor\": 32.0", 1.3465735902799727},
        {"\"factor\": 4.0", 1.138629436111989},
        {"\"factor\": 1.0", 1},
        {"\"factor\": 40.0, \"mscale\": 1.0, \"mscale_all_dim\": 1.0", 1},
        {"\"factor\": 40.0, \"mscale\": 0.707, \"mscale_all_dim\": 1.0",
         (0.0707 * 3.6888794541139363 + 1) / 1.3688879454113937},
        {"\"factor\": 40.0, \"mscale\": 0.707, \"mscale_all_dim\": 0", 1.3688879454113937},
        {"\"factor\": 40.0, \"attention_factor\": 0.75, \"mscale\": 2.0, \"mscale_all_dim\": 1.0", 0.75},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char spec[400];
        snprintf(spec, sizeof spec,
                 "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8, "
                 "\"max_position_embeddings\": 4096, "
                 "\"rope_scaling\": {\"rope_type\": \"yarn\", %s}}}",
                 cases[i].keys);
        cJSON *completed = generator_complete_parsed(spec);
        cr_assert_float_eq(generator_number(completed, "model.rope.attention_factor"), cases[i].factor,
                           1e-8, "%s", cases[i].keys);
        cr_assert_eq(generator_number(completed, "model.rope.scaling.original_max_position_embeddings"),
                     4096);
        cJSON_Delete(completed);
    }
}

/* ---------------------------------------------------------------- ALiBi */

/* As in BLOOM's build_alibi_tensor. */
static double slope_of(int head, int heads)
{
    int power = 1 << (int)floor(log2(heads));
    double base = pow(2, -pow(2, -(log2(power) - 3)));
    if (head < power)
        return pow(base, head + 1);
    double extra = pow(2, -pow(2, -(log2(2 * power) - 3)));
    return pow(extra, 2 * (head - power) + 1);
}

Test(alibi, slopes_are_those_of_transformers)
{
    gen *g = open_probe(
        "% for i, s in ipairs(alibi_slopes()) do\nslope ${i - 1} ${format(\"%.17g\", s)}\n% end\n");
    static const int counts[] = {1, 2, 8, 12, 16, 32, 71, 112};
    for (size_t k = 0; k < 2 * sizeof counts / sizeof *counts; k++) {
        int heads = counts[k / 2], found = 0;
        char spec[256];
        snprintf(spec, sizeof spec,
                 "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": %d, \"head_dim\": 64, "
                 "\"alibi\": true%s}}",
                 heads, k % 2 ? ", \"alibi_scale\": 0.125" : "");
        char *source = render_probe(g, spec), *rest = source;
        for (char *line; (line = strsep(&rest, "\n"));) {
            int head;
            double slope;
            if (sscanf(line, "slope %d %lf", &head, &slope) != 2)
                continue;
            double expected = slope_of(head, heads) * (k % 2 ? 0.125 : 1);
            cr_assert_float_eq(slope, expected, 1e-12 * expected, "head %d of %d", head, heads);
            found++;
        }
        cr_assert_eq(found, heads);
        free(source);
    }
    gen_destroy(g);
}
