/* The fused kernel with every form of cache, and every type of weights and activations. */
#include "../support/spec_text.h"
#include "attend_call.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

// clang-format off
#define G2      HEADS(4, 2, 64)
#define PARTIAL HEADS(8, 4, 64) ALSO("rope": {"type": "neox", "theta": 10000.0, "rotary_dim": 24})

static struct attend_case forms[] = {
    {"2 bits", G2, "", TEXT("method": "latent", "bits": 2, "page": 16, "group": 32)},
    {"3 bits", G2, "", TEXT("method": "latent", "bits": 3, "page": 48, "group": 64)},
    {"3 bits, x", G2, "", TEXT("method": "x", "rotation": false, "bits": 3, "page": 32, "group": "row")},
    {"integer zero points", G2, "",
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 128, "zero_point": "integer")},
    {"integer zero points, 3 bits, x", G2, "",
     TEXT("method": "x", "rotation": false, "bits": 3, "page": 64, "group": 32, "zero_point": "integer")},
    {"channels of k", PARTIAL, "",
     TEXT("method": "latent", "bits": 4, "page": 64, "group": 128, "axis_k": "channel")},
    {"channels of k and v, 2 bits", G2, "",
     TEXT("method": "latent", "bits": 2, "page": 16, "group": 64, "axis_k": "channel",
         "axis_v": "channel")},
    {"channels, integer zero points", G2, "",
     TEXT("method": "latent", "bits": 8, "page": 128, "group": 32, "axis_k": "channel",
         "axis_v": "channel", "zero_point": "integer")},
    {"channels of x", G2, "",
     TEXT("method": "x", "rotation": false, "bits": 4, "page": 16, "group": 32, "axis_k": "channel")},
    {"rotated x, 2 bits", PARTIAL, INT8,
     TEXT("method": "x", "rotation": true, "bits": 2, "page": 16, "group": 128)},
    {"channels of rotated x", G2, BF16,
     TEXT("method": "x", "rotation": true, "bits": 4, "page": 64, "group": 32, "axis_k": "channel")},
    {"grouped latents", PARTIAL, "",
     TEXT("method": "latent", "bits": 4, "page": 16, "group": 128, "groups": 2)},
    {"keys by head, values joint", PARTIAL, "",
     TEXT("method": "latent", "bits": 4, "page": 16, "group": 128, "groups_k": 4)},
    {"keys joint, values by head, int8", G2, INT8,
     TEXT("method": "latent", "bits": 2, "page": 64, "group": "row", "groups_v": 2,
         "zero_point": "integer")},
    {"a latent a head, padded, channels", PARTIAL, "",
     TEXT("method": "latent", "bits": 3, "page": 32, "group": 32, "groups": 4, "rank_k": 80,
         "rank_v": 36, "axis_k": "channel")},
    {"padded ranks", G2, "",
     TEXT("method": "latent", "bits": 4, "page": 16, "group": 64, "rank_k": 70, "rank_v": 100)},
    {"accumulator of 16 bits", PARTIAL, "",
     TEXT("method": "x-cl", "bits": 2, "page": 16, "group": 64, "axis_k": "channel")},
    {"accumulator of 8 bits", G2, "",
     TEXT("method": "latent-cl", "bits": 3, "page": 64, "group": 32, "accumulator_bits": 8)},
    {"accumulator of 4 bits, integer", G2, "",
     TEXT("method": "x-cl", "bits": 3, "page": 64, "group": 128, "accumulator_bits": 4,
         "zero_point": "integer")},
    {"bf16", PARTIAL, BF16, TEXT("method": "latent", "bits": 4, "page": 16, "group": 64)},
    {"bf16 weights", PARTIAL, BF16_WEIGHTS, TEXT("method": "latent", "bits": 4, "page": 16, "group": 64)},
    {"bf16 throughout", G2, BF16 BF16_WEIGHTS,
     TEXT("method": "x", "rotation": false, "bits": 8, "page": 16, "group": 64, "axis_k": "channel")},
    {"int8 weights", PARTIAL, INT8,
     TEXT("method": "latent", "bits": 4, "page": 16, "group": 64, "groups": 2)},
    {"e4m3 weights", PARTIAL, E4M3,
     TEXT("method": "x", "rotation": false, "bits": 4, "page": 16, "group": 64)},
    {"int8 weights of an accumulator", G2, INT8,
     TEXT("method": "x-cl", "bits": 4, "page": 16, "group": 64)},
    {"e4m3 weights, bias, head norm", HEADS(6, 2, 80) ALSO("attention_bias": true, "qk_norm": true), E4M3,
     TEXT("method": "latent", "bits": 8, "page": 16, "group": 64)},
};
// clang-format on

ParameterizedTestParameters(attend_caches, of_every_form)
{
    return cr_make_param_array(struct attend_case, forms, sizeof forms / sizeof *forms);
}

/* Lengths lie around the edges of tiles, groups and pages. Splits are short or long, and there is one query
 * for each sequence, or many. */
ParameterizedTest(struct attend_case *m, attend_caches, of_every_form, .timeout = 240)
{
    static const struct call_sequence ones[] = {{300, 1}, {0, 1},   {1, 1},  {31, 1},
                                                {64, 1},  {128, 1}, {257, 1}};
    static const struct call_sequence mixed[] = {{140, 1}, {0, 0}, {131, 5}, {17, 17}, {96, 37}};
    random_stream r = attend_case_random(m, 34);
    struct attend_layer l;
    attend_layer_open(&l, m, "one", &r);
    struct attend_call c = attend_call_of(7, ones, true), d = attend_call_of(5, mixed, false);
    int tile = fixture_constant(l.attend, "tile_tokens"), most = fixture_constant(l.attend, "split_tokens");
    double split = attend_judge(&l, &r, &c, tile, true),
           whole = attend_judge(&l, &r, &c, most / tile * tile, true);
    attend_layer_close(&l);
    attend_layer_open(&l, m, "many", &r);
    double many = attend_judge(&l, &r, &d, fixture_constant(l.attend, "tile_tokens"), true);
    cr_log_info("%s: errors %.2e, %.2e in one split, many queries %.2e", m->name, split, whole, many);
    attend_layer_close(&l);
}
