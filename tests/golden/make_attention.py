"""Writes attention.json: the results of the attention modules of transformers for tiny models.
tests/autotune/reference/test_golden_attention.c compares them with a model that is read from the same config.json and
the same tensors.

    python3 tests/golden/make_attention.py > tests/golden/attention.json      (transformers 4.57.1, torch 2.8.0)

Inputs and weights are the values of `values` below, which the test computes too. The projection of queries is replaced,
because queries reach our kernels projected and normalized. The projection of outputs is also replaced."""

import importlib
import json

import numpy
import torch
import transformers
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

D, HEADS, KV_HEADS, HEAD_DIM, LAYERS, TOKENS, WINDOW, KEPT = 256, 4, 2, 64, 4, 40, 16, 4
SIZES = {"hidden_size": D, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
         "num_hidden_layers": LAYERS, "max_position_embeddings": 64}
K, V, K_BIAS, V_BIAS, NORM, SINKS, X, Q = range(1, 9)
SCALE = {K: 0.5, V: 0.5, K_BIAS: 1, V_BIAS: 1, NORM: 1, SINKS: 4, X: 4, Q: 2}
OFFSET = {NORM: 1}
PAIRS = HEAD_DIM // 2
LONGROPE = {"type": "longrope", "short_factor": [1 + i / 16 for i in range(PAIRS)],
            "long_factor": [1 + i * i / 8 for i in range(PAIRS)]}

# name: (config.json, layers, the table of LongRoPE or None). With an original context of 32 tokens, TOKENS is a long
# context.
CASES = {
    "llama": ({"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}, (0,), None),
    "yarn": ({"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
              "original_max_position_embeddings": 16}}, (0,), None),
    "qwen2": ({"model_type": "qwen2"}, (0,), None),
    "qwen3": ({"model_type": "qwen3"}, (0,), None),
    "gemma3": ({"model_type": "gemma3_text", "sliding_window": WINDOW, "sliding_window_pattern": 2,
                "query_pre_attn_scalar": 100}, (0, 1), None),
    "glm4": ({"model_type": "glm4", "attention_bias": True}, (0,), None),
    "olmo2": ({"model_type": "olmo2"}, (0,), None),
    "gpt_oss": ({"model_type": "gpt_oss", "sliding_window": WINDOW}, (0, 1), None),
    "cohere": ({"model_type": "cohere"}, (0,), None),
    "cohere2": ({"model_type": "cohere2", "sliding_window": WINDOW}, (0, 3), None),
    "smollm3": ({"model_type": "smollm3"}, (0, 3), None),
    "exaone4": ({"model_type": "exaone4", "sliding_window": WINDOW}, (0, 3), None),
    "exaone4 without a window": ({"model_type": "exaone4", "sliding_window": None, "layer_types":
                                  ["full_attention"] * LAYERS}, (3,), None),
    "ministral": ({"model_type": "ministral", "sliding_window": WINDOW}, (0,), None),
    "qwen3_next": ({"model_type": "qwen3_next"}, (3,), None),
    "olmo": ({"model_type": "olmo"}, (0,), None),
    "phi3, short": ({"model_type": "phi3", "original_max_position_embeddings": 48, "rope_scaling": LONGROPE}, (0,),
                    "short"),
    "phi3, long": ({"model_type": "phi3", "original_max_position_embeddings": 32, "rope_scaling": LONGROPE}, (0,), "long"),
}


def values(tag, layer, rows, columns):
    """Returns [rows, columns] numbers that f16 holds exactly."""
    row, column = numpy.meshgrid(numpy.arange(rows), numpy.arange(columns), indexing="ij")
    mask = 0xffffffff
    h = ((tag + 16 * layer) * 0x9e3779b1 + row * 2654435761 + column * 2246822519) & mask
    h = ((h ^ (h >> 15)) * 2654435761) & mask
    h = ((h ^ (h >> 13)) * 2246822519) & mask
    numbers = ((h >> 16) / 65536 - 0.5) * SCALE[tag] + OFFSET.get(tag, 0)
    return torch.tensor(numbers.astype(numpy.float16).astype(numpy.float64))


class Returns(torch.nn.Module):
    """A projection that returns `make` of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def set_projections(module, layer, q):
    wk, wv = values(K, layer, KV_HEADS * HEAD_DIM, D), values(V, layer, KV_HEADS * HEAD_DIM, D)
    if hasattr(module, "qkv_proj"):
        module.qkv_proj = Returns(lambda x: torch.cat([q, x @ wk.T, x @ wv.T], -1))
        return
    bias = module.k_proj.bias is not None
    bk, bv = (values(tag, layer, KV_HEADS * HEAD_DIM, 1)[:, 0] if bias else 0 for tag in (K_BIAS, V_BIAS))
    module.k_proj, module.v_proj = Returns(lambda x: x @ wk.T + bk), Returns(lambda x: x @ wv.T + bv)
    gated = module.q_proj.out_features == 2 * HEADS * HEAD_DIM
    heads = q.view(1, TOKENS, HEADS, HEAD_DIM)
    gate = torch.full_like(heads, 100.0)  # the sigmoid of this is 1
    module.q_proj = Returns(lambda x: torch.cat([heads, gate], -1).flatten(-2) if gated else q)


def attention(config, layer):
    modeling = importlib.import_module(type(config).__module__.replace("configuration", "modeling"))
    prefix = {"gemma3_text": "Gemma3", "gpt_oss": "GptOss"}.get(config.model_type, type(config).__name__[:-len("Config")])
    module = getattr(modeling, prefix + "Attention")(config, layer).double().eval()
    x, q = values(X, layer, TOKENS, D)[None], values(Q, layer, TOKENS, HEADS * HEAD_DIM)[None]
    with torch.no_grad():
        set_projections(module, layer, q)
        if hasattr(module, "q_norm"):
            module.q_norm = torch.nn.Identity()
            module.k_norm.weight.copy_(values(NORM, layer, module.k_norm.weight.numel(), 1)[:, 0])
        if hasattr(module, "sinks"):
            module.sinks.copy_(values(SINKS, layer, HEADS, 1)[:, 0])
        module.o_proj = torch.nn.Identity()
        rotary = modeling.__dict__[prefix + "RotaryEmbedding"]
        slides = getattr(config, "layer_types", None) and config.layer_types[layer] == "sliding_attention"
        if config.model_type == "gemma3_text" and slides:
            config.rope_theta, config.rope_scaling = config.rope_local_base_freq, {"rope_type": "default"}
        positions = torch.arange(TOKENS)[None]
        embeddings = rotary(config)(x, positions)
        mask = (create_sliding_window_causal_mask if slides else create_causal_mask)(
            config=config, input_embeds=x, attention_mask=None, cache_position=positions[0], past_key_values=None)
        out = module(hidden_states=x, position_embeddings=embeddings, attention_mask=mask, past_key_values=None,
                     cache_position=positions[0])[0]
    return out.reshape(TOKENS, -1)[-1, ::KEPT]


def main():
    cases = []
    for name, (own, layers, table) in CASES.items():
        text = {**SIZES, **own}
        for layer in layers:
            given = json.loads(json.dumps({key: value for key, value in text.items() if key != "model_type"}))
            config = transformers.AutoConfig.for_model(text["model_type"], **given)
            config._attn_implementation = "eager"
            case = {"name": name, "config": text, "layer": layer}
            if table:
                case["table"] = table
            case["out"] = [float(f"{value:.7g}") for value in attention(config, layer)]
            cases.append(case)
    print("[" + ",\n ".join(json.dumps(case) for case in cases) + "]")


if __name__ == "__main__":
    main()
