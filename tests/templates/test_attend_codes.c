/* The fused kernel where codes are operands of the matrix units: keys of codes and int8 weights, straight
 * to scores or by way of K, and values of codes and integer probabilities. */
#include "../support/spec_text.h"
#include "attend_call.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#define G2  HEADS(4, 2, 64)
#define G4  HEADS(8, 2, 128)
#define MHA HEADS(2, 2, 64)

// clang-format off
static struct attend_case forms[] = {
    {"2 bits, a latent of each head", G2, INT8,
     TEXT("method": "latent", "bits": 2, "page": 16, "group": 64, "groups": 2)},
    {"3 bits, a latent of each head", G2, INT8,
     TEXT("method": "latent", "bits": 3, "page": 48, "group": 64, "groups": 2)},
    {"4 bits, a latent of each head", G4, INT8,
     TEXT("method": "latent", "bits": 4, "page": 32, "group": 128, "groups": 2)},
    {"8 bits, a latent of each head", G4, INT8,
     TEXT("method": "latent", "bits": 8, "page": 64, "group": 128, "groups": 2)},
    {"8 bits, f16 weights", G4, "",
     TEXT("method": "latent", "bits": 8, "page": 64, "group": 128, "groups": 2)},
    {"2 bits, bf16", G2, BF16 BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 2, "page": 64, "group": 64, "groups": 2)},
    {"e4m3 weights", G2, E4M3, TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"integer zero points, 2 bits", G2, INT8,
     TEXT("method": "latent", "bits": 2, "page": 16, "group": 64, "groups": 2, "zero_point": "integer")},
    {"integer zero points, 3 bits", G4, INT8,
     TEXT("method": "latent", "bits": 3, "page": 16, "group": 128, "groups": 2, "zero_point": "integer")},
    {"integer zero points, 8 bits, several groups", G4, INT8,
     TEXT("method": "latent", "bits": 8, "page": 64, "group": 64, "groups": 2, "zero_point": "integer")},
    {"one latent, several groups", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 1)},
    {"one latent, one group", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": "row", "groups": 1)},
    {"one latent, 192 wide in groups of 128", HEADS(6, 3, 64), INT8,
     TEXT("method": "latent", "bits": 3, "page": 64, "group": 128, "groups": 1)},
    {"keys by head, values joint", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups_k": 2, "groups_v": 1)},
    {"keys joint, values by head", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups_k": 1, "groups_v": 2)},
    {"groups of 32", G2, INT8, TEXT("method": "latent", "bits": 4, "page": 64, "group": 32, "groups": 2)},
    {"a padded rank", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 128, "groups": 2, "rank_k": 80,
         "rank_v": 48)},
    {"channels of k", G2, INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2, "axis_k": "channel")},
    {"x, several groups", MHA, INT8,
     TEXT("method": "x", "rotation": false, "bits": 2, "page": 32, "group": 64)},
    {"x, one group, 8 bits", MHA, INT8,
     TEXT("method": "x", "rotation": false, "bits": 8, "page": 32, "group": "row")},
    {"x, one group, 4 bits", MHA, INT8,
     TEXT("method": "x", "rotation": false, "bits": 4, "page": 32, "group": "row")},
    {"an accumulator of 4 bits, integer", G2, INT8,
     TEXT("method": "x-cl", "bits": 3, "page": 64, "group": 128, "accumulator_bits": 4,
         "zero_point": "integer")},
    {"an accumulator of 8 bits, one group", G2, INT8,
     TEXT("method": "latent-cl", "bits": 3, "page": 64, "group": "row", "accumulator_bits": 8)},
    {"head_dim 80, 5 heads of a KV head", HEADS(10, 2, 80), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 128, "groups": 2)},
    {"head_dim 256", HEADS(2, 1, 256), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 256, "groups": 1)},
    {"head_dim 256, several groups", HEADS(2, 1, 256), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 1)},
    {"10 heads of a KV head", HEADS(10, 1, 64), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 1)},
    {"MQA of 71 heads", HEADS(71, 1, 64), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64)},
    {"bias, sinks, window 33, soft-cap",
     HEADS(8, 2, 64) ALSO("attention_bias": true, "attention_sinks": true, "sliding_window": 33,
         "attn_logit_softcapping": 3.0),
     INT8, TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"interleaved, bias, a factor of RoPE",
     HEADS(6, 2, 64) ALSO("attention_bias": true,
         "rope": {"type": "interleaved", "theta": 10000.0, "rotary_dim": 64,
         "attention_factor": 1.3465735902799727}),
     INT8, TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"partial RoPE", HEADS(6, 2, 64) ALSO("rope": {"type": "neox", "theta": 10000.0, "rotary_dim": 24}),
     INT8, TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"head norm", HEADS(4, 2, 64) ALSO("qk_norm": true), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"head norm, 8 bits, 12 heads of a KV head", HEADS(12, 1, 128) ALSO("qk_norm": true), INT8,
     TEXT("method": "latent", "bits": 8, "page": 64, "group": 128, "groups": 1)},
    {"head norm, interleaved, integer zero points",
     HEADS(6, 2, 64) ALSO("qk_norm": true, "rope": {"type": "interleaved", "theta": 10000.0, "rotary_dim": 64}),
     INT8, TEXT("method": "latent", "bits": 2, "page": 64, "group": 64, "groups": 2, "zero_point": "integer")},
    {"head norm, one wide latent", HEADS(6, 3, 128) ALSO("qk_norm": true), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": "row", "groups": 1)},
    {"head norm, bias", HEADS(4, 2, 64) ALSO("attention_bias": true, "qk_norm": true), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
    {"row norm", HEADS(4, 2, 64) ALSO("qk_norm": "row"), INT8,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 64, "groups": 2)},
};
// clang-format on

ParameterizedTestParameters(attend_codes, one_query)
{
    return cr_make_param_array(struct attend_case, forms, sizeof forms / sizeof *forms);
}

ParameterizedTest(struct attend_case *m, attend_codes, one_query, .timeout = 120)
{
    static const struct call_sequence lengths[] = {{300, 1}, {0, 1},   {1, 1},  {16, 1},
                                                   {127, 1}, {129, 1}, {257, 1}};
    random_stream r = attend_case_random(m, 41);
    struct attend_layer l;
    attend_layer_open(&l, m, "one", &r);
    struct attend_call c = attend_call_of(7, lengths, true);
    const int tile = fixture_constant(l.attend, "tile_tokens"),
              most = fixture_constant(l.attend, "split_tokens");
    const double split = attend_judge(&l, &r, &c, tile, true),
                 whole = attend_judge(&l, &r, &c, most / tile * tile, false);
    c.has_offsets = true;
    for (int i = 0; i < c.batch; i++)
        c.offsets[i] = i * 1000;
    const double late = attend_judge(&l, &r, &c, tile, true);
    cr_log_info("%s: errors %.2e, %.2e in one split, %.2e at later positions", m->name, split, whole, late);
    attend_layer_close(&l);
}

ParameterizedTestParameters(attend_codes, many_queries)
{
    return cr_make_param_array(struct attend_case, forms, sizeof forms / sizeof *forms);
}

ParameterizedTest(struct attend_case *m, attend_codes, many_queries, .timeout = 240)
{
    static const struct call_sequence mixed[] = {{300, 1}, {0, 0}, {131, 5}, {17, 17}, {40, 0}, {190, 37}};
    random_stream r = attend_case_random(m, 42);
    struct attend_layer l;
    attend_layer_open(&l, m, "many", &r);
    const int tile = fixture_constant(l.attend, "tile_tokens");
    struct attend_call c = attend_call_of(6, mixed, false);
    cr_log_info("%s: error %.2e", m->name, attend_judge(&l, &r, &c, tile, true));
    attend_layer_close(&l);
}

/* A token whose codes are at their zero points adds exactly nothing, however large its scale is. */
// clang-format off
static struct attend_case integer_zeros[] = {
    {"2 bits, 2 heads of a KV head", G2, "",
     TEXT("method": "latent", "bits": 2, "page": 16, "group": 64, "groups": 2, "zero_point": "integer")},
    {"3 bits, joint values", G4, INT8,
     TEXT("method": "latent", "bits": 3, "page": 48, "group": "row", "groups_k": 2, "groups_v": 1,
         "zero_point": "integer")},
    {"4 bits, 5 heads of a KV head", HEADS(10, 2, 80), E4M3,
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 128, "groups": 2, "zero_point": "integer")},
    {"8 bits", MHA, INT8,
     TEXT("method": "latent", "bits": 8, "page": 32, "group": 64, "groups": 2, "zero_point": "integer")},
};
// clang-format on

ParameterizedTestParameters(attend_codes, zero_of_a_large_scale)
{
    return cr_make_param_array(struct attend_case, integer_zeros,
                               sizeof integer_zeros / sizeof *integer_zeros);
}

ParameterizedTest(struct attend_case *m, attend_codes, zero_of_a_large_scale, .timeout = 120)
{
    static const struct call_sequence lengths[] = {{300, 1}, {16, 1}, {129, 1}};
    random_stream r = attend_case_random(m, 43);
    struct attend_layer l;
    attend_layer_open(&l, m, "one", &r);
    struct attend_call c = attend_call_of(3, lengths, true);
    c.spread_scales = true;
    const int most = fixture_constant(l.attend, "split_tokens");
    cr_log_info("%s: error %.2e", m->name, attend_judge(&l, &r, &c, most, true));
    attend_layer_close(&l);
}
