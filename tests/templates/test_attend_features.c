/* The fused kernel with every feature of a model, and with every kind of query. */
#include "../support/spec_text.h"
#include "attend_call.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#define LATENT "\"method\": \"latent\", \"bits\": 4, \"page\": 16, \"group\": 64"
#define X      "\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"page\": 16, \"group\": 64"

// clang-format off
static struct attend_case models[] = {
    {"head_dim 64", HEADS(4, 2, 64), "", LATENT},
    {"head_dim 80, g 5", HEADS(10, 2, 80), "", LATENT},
    {"head_dim 96, MHA", HEADS(2, 2, 96), "", X},
    {"head_dim 112, g 7", HEADS(14, 2, 112), "", LATENT},
    {"head_dim 128, g 6", HEADS(6, 1, 128), "", LATENT},
    {"head_dim 160", HEADS(3, 1, 160), "", LATENT},
    {"head_dim 192", HEADS(2, 2, 192), "", LATENT},
    {"head_dim 256, window 33, capped",
     HEADS(2, 1, 256) ALSO("sliding_window": 33, "attn_logit_softcapping": 3.0,
         "query_pre_attn_scalar": 300),
     "", LATENT},
    {"MQA of 71 heads", HEADS(71, 1, 64), "", LATENT},
    {"MQA of 128 heads", HEADS(128, 1, 128), "", LATENT},
    {"interleaved, 3 pairs, bias",
     HEADS(6, 2, 64) ALSO("attention_bias": true,
         "rope": {"type": "interleaved", "theta": 10000.0, "rotary_dim": 6}),
     "", LATENT},
    {"12 pairs, head norm",
     HEADS(6, 2, 80) ALSO("qk_norm": true, "rope": {"type": "neox", "theta": 10000.0, "rotary_dim": 24}),
     "", LATENT},
    {"24 dimensions turn, x",
     HEADS(4, 4, 96) ALSO("rope": {"type": "neox", "theta": 10000.0, "rotary_dim": 24}), "", X},
    {"ALiBi, 5 heads, bias", HEADS(5, 1, 64) ALSO("alibi": true, "attention_bias": true), "", LATENT},
    {"ALiBi with scaled slopes, x", HEADS(4, 4, 64) ALSO("alibi": true, "alibi_scale": 0.125), "", X},
    {"no RoPE, MQA of 40", HEADS(40, 1, 128) ALSO("rope": {"type": "none"}), "", LATENT},
    {"head norm without RoPE", HEADS(2, 2, 64) ALSO("qk_norm": true, "rope": {"type": "none"}), "", X},
    {"sinks, bias, window 128, YaRN's factor",
     HEADS(8, 1, 64) ALSO("attention_sinks": true, "attention_bias": true, "sliding_window": 128,
         "rope": {"type": "neox", "theta": 150000.0, "rotary_dim": 64,
         "attention_factor": 1.3465735902799727}),
     "", LATENT},
    {"bias, head norm, scale",
     HEADS(4, 2, 128) ALSO("attention_bias": true, "qk_norm": true, "attention_scale": 0.0625), "", LATENT},
    {"row norm, bias", HEADS(6, 3, 80) ALSO("attention_bias": true, "qk_norm": "row"), "", LATENT},
    {"row norm, partly turning, x",
     HEADS(5, 5, 64) ALSO("qk_norm": "row",
         "rope": {"type": "interleaved", "theta": 10000.0, "rotary_dim": 24}),
     "", X},
    {"window 1", HEADS(4, 2, 64) ALSO("sliding_window": 1), "", LATENT},
};
// clang-format on

ParameterizedTestParameters(attend_features, one_query)
{
    return cr_make_param_array(struct attend_case, models, sizeof models / sizeof *models);
}

ParameterizedTest(struct attend_case *m, attend_features, one_query, .timeout = 120)
{
    static const struct call_sequence lengths[] = {{300, 1}, {0, 1},   {1, 1},  {16, 1},
                                                   {127, 1}, {129, 1}, {257, 1}};
    random_stream r = attend_case_random(m, 31);
    struct attend_layer l;
    attend_layer_open(&l, m, "one", &r);
    struct attend_call c = attend_call_of(7, lengths, true);
    int tile = fixture_constant(l.attend, "tile_tokens"), most = fixture_constant(l.attend, "split_tokens");
    double split = attend_judge(&l, &r, &c, tile, true),
           whole = attend_judge(&l, &r, &c, most / tile * tile, false);
    c.has_offsets = true;
    for (int i = 0; i < c.batch; i++)
        c.offsets[i] = i * 1000;
    double late = attend_judge(&l, &r, &c, tile, true);
    cr_log_info("%s: errors %.2e, %.2e in one split, %.2e at later positions", m->name, split, whole, late);
    attend_layer_close(&l);
}

ParameterizedTestParameters(attend_features, many_queries)
{
    return cr_make_param_array(struct attend_case, models, sizeof models / sizeof *models);
}

/* The sequences are decode steps, speculative steps, a prompt, a chunk of a prompt, an empty sequence, and
 * one without queries. */
ParameterizedTest(struct attend_case *m, attend_features, many_queries, .timeout = 240)
{
    static const struct call_sequence mixed[] = {{400, 1}, {0, 0}, {131, 5}, {17, 17}, {40, 0}, {290, 37}};
    static const struct call_sequence trees[] = {{150, 1}, {141, 7}, {90, 33}, {20, 20}};
    random_stream r = attend_case_random(m, 32);
    struct attend_layer l;
    attend_layer_open(&l, m, "many", &r);
    int tile = fixture_constant(l.attend, "tile_tokens"), most = fixture_constant(l.attend, "split_tokens");
    struct attend_call c = attend_call_of(6, mixed, false), t = attend_call_of(4, trees, false);
    double split = attend_judge(&l, &r, &c, tile, true),
           whole = attend_judge(&l, &r, &c, most / tile * tile, true);
    attend_call_causal(&t);
    static const int parents[] = {-1, -1, 0, 0, 1, 2, 5}; /* depth 4 */
    for (int child = 0; child < 7; child++)
        attend_call_draft(&t, 1, child, parents[child], 1);
    for (int child = 0; child < 20; child++) /* positions far apart, and not in order */
        attend_call_draft(&t, 3, child, child < 2 ? -1 : child / 2, child % 3 ? 1 : 23);
    double tree = attend_judge(&l, &r, &t, tile, false);
    cr_log_info("%s: errors %.2e, %.2e in long splits, trees %.2e", m->name, split, whole, tree);
    attend_layer_close(&l);
}

/* Queries after a cached prefix, within it, or before it. A query before the prefix sees no token of it. */
ParameterizedTestParameters(attend_features, queries_elsewhere)
{
    return cr_make_param_array(struct attend_case, models, sizeof models / sizeof *models);
}

ParameterizedTest(struct attend_case *m, attend_features, queries_elsewhere, .timeout = 120)
{
    static const struct call_sequence parts[] = {{150, 3}, {33, 2}, {16, 4}, {0, 2}};
    random_stream r = attend_case_random(m, 33);
    struct attend_layer l;
    attend_layer_open(&l, m, "many", &r);
    struct attend_call c = attend_call_of(4, parts, false);
    c.has_offsets = c.has_positions = true;
    c.offsets[1] = 100000;
    c.offsets[2] = 50;
    const int32_t positions[] = {149, 160, 12, 100032, 100010, 49, 50, 65, 66, 3, 4};
    memcpy(c.positions, positions, sizeof positions);
    double e = attend_judge(&l, &r, &c, fixture_constant(l.attend, "tile_tokens"), true);
    cr_log_info("%s: error %.2e", m->name, e);
    attend_layer_close(&l);
}
