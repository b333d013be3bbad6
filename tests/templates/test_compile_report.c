/* The report of ptxas about the kernels on every architecture that they support: there are no spills, and
 * shared memory and registers are within the limits of the architecture. */
#include "../../gen/gen.h"
#include "../../runtime/compile/compile.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Architectures, with the shared memory that a block can ask for (CUDA programming guide, technical
 * specifications per compute capability). */
static const struct {
    const char *arch;
    int shared_bytes;
} architectures[] = {{"sm_80", 163 << 10}, {"sm_86", 99 << 10},   {"sm_89", 99 << 10},
                     {"sm_90", 227 << 10}, {"sm_100", 227 << 10}, {"sm_110", 227 << 10},
                     {"sm_120", 99 << 10}};

enum { ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

struct toolchain {
    gen *generator;
    nvrtc *library;
};

static struct toolchain open_toolchain(void)
{
    struct toolchain t = {0};
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &t.generator, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(nvrtc_open(&t.library, &err), XQ_OK, "%s", err.message);
    return t;
}

static void close_toolchain(struct toolchain *t)
{
    nvrtc_close(t->library);
    gen_destroy(t->generator);
}

static void check_kernel(struct toolchain *t, const char *completed, const char *family, const char *arch,
                         int shared_limit)
{
    error err = ERROR_INIT;
    gen_kernel kernel;
    compiled c = {0};
    cr_assert_eq(gen_render(t->generator, completed, family, &kernel, &err), XQ_OK, "%s", err.message);
    compile_source(t->library, NULL, t->generator, family, kernel.source, arch, &c, &err);
    cr_assert_eq(err.status, XQ_OK, "%s for %s: %s", family, arch, err.message);
    cr_expect_gt(c.resources.registers, 0, "%s for %s: no report", family, arch);
    cr_expect_eq(c.resources.spill_store_bytes, 0, "%s for %s spills: %s", family, arch, c.log);
    cr_expect_eq(c.resources.spill_load_bytes, 0, "%s for %s spills: %s", family, arch, c.log);
    cJSON *info = cJSON_Parse(kernel.info);
    int shared = cJSON_GetObjectItem(info, "shared_bytes")->valueint + c.resources.shared_bytes;
    int threads = cJSON_GetObjectItem(info, "threads")->valueint;
    cr_expect_leq(shared, shared_limit, "%s for %s: %d bytes of shared memory", family, arch, shared);
    cr_expect_leq(threads * c.resources.registers, 65536, "%s for %s: too many registers", family, arch);
    cJSON_Delete(info);
    compiled_free(&c);
    gen_kernel_free(&kernel);
}

/* Checks some families (the list ends with NULL) of one spec, on all architectures that the NVRTC here
 * knows. */
static void check_spec(const char *spec, const char *const *families)
{
    struct toolchain t = open_toolchain();
    for (int a = 0; a < ARCHITECTURES; a++) {
        error err = ERROR_INIT;
        const char *arch = architectures[a].arch;
        int number = atoi(arch + strlen("sm_"));
        if (nvrtc_newest(t.library, number) != number)
            continue; /* Blackwell needs CUDA 12.8, and 11.0 needs CUDA 13.0 */
        char *completed, json[512];
        snprintf(json, sizeof json, "{%s, \"arch\": \"%s\"}", spec, arch);
        cr_assert_eq(gen_complete(t.generator, json, &completed, &err), XQ_OK, "%s", err.message);
        for (int f = 0; families[f]; f++)
            check_kernel(&t, completed, families[f], arch, architectures[a].shared_bytes);
        free(completed);
    }
    close_toolchain(&t);
}

static const char *const ALL[] = {"append",         "attend",         "dequantize", "gemm",
                                  "gemm_kv",        "rope",           "kv_append",  "kv_attend",
                                  "kv_append_e4m3", "kv_attend_e4m3", NULL};
static const char *const KV[] = {"gemm",           "gemm_kv",        "rope",  "kv_append", "kv_attend",
                                 "kv_append_e4m3", "kv_attend_e4m3", "merge", NULL};
static const char *const ATTEND[] = {"append", "attend", "kv_attend", NULL};

Test(compile_report, llama_3_8b_4_bit_latents, .timeout = 600)
{
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 4}", ALL);
}

Test(compile_report, llama_2_7b_8_bit_inputs, .timeout = 600)
{
    check_spec(
        "\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 8}",
        ATTEND);
}

Test(compile_report, smollm2_8_bit_latents, .timeout = 600)
{
    check_spec("\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8, \"group\": \"row\"}", ATTEND);
}

Test(compile_report, small_groups_and_many_query_heads, .timeout = 600)
{
    check_spec(
        "\"model\": {\"hidden_size\": 1024, \"num_attention_heads\": 24, \"num_key_value_heads\": 1, "
        "\"head_dim\": 128, \"rope_theta\": 10000.0}, \"cache\": {\"method\": \"x\", \"rotation\": false, "
        "\"group\": 32}",
        ATTEND);
}

/* Kernels that append tokens of cross-layer methods, with a tail and without one. */
Test(compile_report, deltas_by_channel, .timeout = 600)
{
    static const char *const append_channel[] = {"append_channel", NULL};
    check_spec(
        "\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"bits\": 3, \"base\": false, "
        "\"accumulator_bits\": 4, \"axis_k\": \"channel\", \"group\": 256, \"zero_point\": \"integer\"}, "
        "\"dtype\": \"bf16\", \"weights\": \"bf16\"",
        append_channel);
}

Test(compile_report, deltas_by_token, .timeout = 600)
{
    static const char *const append[] = {"append", NULL};
    check_spec(
        "\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"bits\": 3, \"base\": false, "
        "\"accumulator_bits\": 4, \"group\": 256, \"zero_point\": \"integer\"}, "
        "\"dtype\": \"bf16\", \"weights\": \"bf16\"",
        append);
}

Test(compile_report, appending_with_feedback, .timeout = 600)
{
    static const char *const append[] = {"append", NULL};
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 2, \"feedback\": true}", append);
    check_spec(
        "\"model\": \"llama-2-7b\", \"cache\": {\"bits\": 3, \"group\": 256, \"zero_point\": \"integer\", "
        "\"feedback\": true}, \"dtype\": \"bf16\"",
        append);
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 4, \"group\": 32, \"rank_k\": 1000, "
               "\"feedback\": true}",
               append);
}

static const char *const CROSS_LAYER[] = {"accumulate", "dequantize", NULL};

Test(compile_report, accumulators_of_every_width, .timeout = 600)
{
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"bits\": 3}",
               CROSS_LAYER);
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"bits\": 2, "
               "\"axis_k\": \"channel\", \"zero_point\": \"integer\", \"accumulator_bits\": 4}",
               CROSS_LAYER);
    check_spec("\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"x-cl\", \"bits\": 2, "
               "\"axis_k\": \"channel\", \"accumulator_bits\": 8, \"group\": 256}",
               CROSS_LAYER);
}

Test(compile_report, kv_kernels_of_wide_capped_heads_and_many_queries, .timeout = 600)
{
    check_spec("\"model\": {\"hidden_size\": 2304, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, "
               "\"head_dim\": 256, \"rope_theta\": 10000.0, \"attn_logit_softcapping\": 50.0, "
               "\"sliding_window\": 4096}, \"cache\": {\"bits\": 4}, \"queries\": \"many\"",
               KV);
}

Test(compile_report, kv_kernels_of_sinks_and_many_queries_in_bf16, .timeout = 600)
{
    check_spec(
        "\"model\": {\"hidden_size\": 2048, \"num_attention_heads\": 32, \"num_key_value_heads\": 4, "
        "\"head_dim\": 128, \"rope_theta\": 10000.0, \"qk_norm\": true, \"attention_sinks\": true}, "
        "\"dtype\": \"bf16\", \"weights\": \"int8\", \"queries\": \"many\"",
        KV);
}

Test(compile_report, kv_kernels_of_partial_rotary_heads, .timeout = 600)
{
    check_spec("\"model\": {\"hidden_size\": 2560, \"num_attention_heads\": 32, \"head_dim\": 80, "
               "\"attention_bias\": true, \"rope\": {\"type\": \"neox\", \"rotary_dim\": 20}}, "
               "\"cache\": {\"method\": \"x\", \"rotation\": false}, \"weights\": \"e4m3\"",
               KV);
}

static const char *const FUSED[] = {"attend", NULL};

Test(compile_report, caches_of_every_form, .timeout = 600)
{
    static const char *const specs[] = {
        "\"bits\": 4, \"axis_k\": \"channel\"}",
        "\"bits\": 2, \"method\": \"x-cl\"}, \"weights\": \"e4m3\"",
        "\"bits\": 3, \"groups\": 8, \"axis_k\": \"channel\", \"axis_v\": \"channel\", "
        "\"zero_point\": \"integer\"}, \"weights\": \"bf16\", \"dtype\": \"bf16\"",
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        char spec[400];
        snprintf(spec, sizeof spec, "\"model\": \"llama-3.1-8b\", \"cache\": {%s", specs[i]);
        check_spec(spec, FUSED);
    }
}

Test(compile_report, many_queries, .timeout = 600)
{
    check_spec("\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 4}, \"queries\": \"many\"", FUSED);
}

Test(compile_report, wide_heads_of_gemma, .timeout = 600)
{
    check_spec(
        "\"model\": {\"preset\": \"gemma-2-2b\", \"layer_kind\": \"sliding\"}, \"cache\": {\"bits\": 4}",
        FUSED);
    check_spec(
        "\"model\": {\"preset\": \"gemma-3-4b\", \"layer_kind\": \"full\"}, \"cache\": {\"bits\": 4}",
        FUSED);
}

Test(compile_report, partial_rotary_and_many_queries, .timeout = 600)
{
    static const char *const absorbing[] = {"absorb", "attend", NULL};
    check_spec(
        "\"model\": {\"hidden_size\": 4096, \"num_attention_heads\": 32, \"num_key_value_heads\": 2, "
        "\"head_dim\": 128, \"partial_rotary_factor\": 0.5, \"rope_interleaved\": true, "
        "\"attention_bias\": true}, \"cache\": {\"bits\": 4}, \"queries\": \"many\"",
        absorbing);
}
