"""The Llama forward pass in numpy, float32, one sequence from position 0. Symbols as in docs/method.md."""

import numpy

from . import InputError


def rms_norm(x, weight, eps):
    return x / numpy.sqrt(numpy.mean(x * x, axis=-1, keepdims=True) + numpy.float32(eps)) * weight


def rope(x, theta):
    """Rotates [tokens, heads, dh], NeoX order: the pair (i, i + dh/2) turns by position * theta^(-2i/dh).
    Angles in double, so that far positions stay exact."""
    tokens, _, dh = x.shape
    frequency = float(theta) ** (-numpy.arange(0, dh, 2, dtype=numpy.float64) / dh)
    angle = numpy.arange(tokens, dtype=numpy.float64)[:, None] * frequency
    cos, sin = (f(angle).astype(numpy.float32)[:, None, :] for f in (numpy.cos, numpy.sin))
    low, high = x[..., : dh // 2], x[..., dh // 2:]
    return numpy.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def attention(q, k, v):
    """Causal; q [tokens, H, dh] and k, v [tokens, Hkv, dh] after RoPE → [tokens, H * dh]. One head at a
    time, which bounds the memory to one [tokens, tokens] matrix."""
    tokens, heads, dh = q.shape
    group = heads // k.shape[1]
    future = numpy.triu(numpy.ones((tokens, tokens), dtype=bool), 1)
    out = numpy.empty((tokens, heads, dh), dtype=numpy.float32)
    for head in range(heads):
        scores = (q[:, head] * numpy.float32(dh ** -0.5)) @ k[:, head // group].T
        scores[future] = -numpy.inf
        scores -= scores.max(axis=-1, keepdims=True)
        numpy.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        out[:, head] = scores @ v[:, head // group]
    return out.reshape(tokens, heads * dh)


class Forward:
    """Runs layer after layer. `weights(name, shape)` gives a float32 tensor by Hugging Face name."""

    def __init__(self, shape, weights, ids):
        if len(ids) > shape.max_position_embeddings:
            raise InputError(f"{len(ids)} tokens; the model takes at most {shape.max_position_embeddings}")
        self.shape = shape
        self.weights = weights
        self.layer = 0
        embeddings = weights("model.embed_tokens.weight", (shape.vocab_size, shape.hidden_size))
        self.hidden = embeddings[numpy.asarray(ids)]

    def step(self):
        """Runs the next layer; returns what its attention saw: x, pre-RoPE q, k and v, and Wk, Wv [d, dkv]."""
        shape, prefix = self.shape, f"model.layers.{self.layer}."
        weight = {name.removeprefix(prefix).removesuffix(".weight"): self.weights(name, size)
                  for name, size in shape.layer_tensors(self.layer).items()}
        tokens = len(self.hidden)

        x = rms_norm(self.hidden, weight["input_layernorm"], shape.rms_norm_eps)
        q = (x @ weight["self_attn.q_proj"].T).reshape(tokens, shape.num_attention_heads, shape.head_dim)
        k = x @ weight["self_attn.k_proj"].T
        v = x @ weight["self_attn.v_proj"].T
        split = (tokens, shape.num_key_value_heads, shape.head_dim)
        out = attention(rope(q, shape.rope_theta), rope(k.reshape(split), shape.rope_theta), v.reshape(split))
        self.hidden = self.hidden + out @ weight["self_attn.o_proj"].T

        y = rms_norm(self.hidden, weight["post_attention_layernorm"], shape.rms_norm_eps)
        gate = y @ weight["mlp.gate_proj"].T
        gate = gate / (1 + numpy.exp(-numpy.clip(gate, -80, None)))  # SiLU; e^80 still fits f32
        self.hidden = self.hidden + (gate * (y @ weight["mlp.up_proj"].T)) @ weight["mlp.down_proj"].T
        self.layer += 1
        return {"x": x, "q": q, "k": k, "v": v,
                "wk": weight["self_attn.k_proj"].T, "wv": weight["self_attn.v_proj"].T}

    def logits(self):
        """[tokens, vocabulary], after all layers."""
        shape = self.shape
        head = "model.embed_tokens.weight" if shape.tie_word_embeddings else "lm_head.weight"
        normed = rms_norm(self.hidden, self.weights("model.norm.weight", (shape.hidden_size,)), shape.rms_norm_eps)
        return normed @ self.weights(head, (shape.vocab_size, shape.hidden_size)).T
