"""The forward pass in numpy and float32, for one sequence from position 0. Symbols are those of docs/method.md."""

import numpy

from . import InputError
from .shape import Gemma3


def rms_norm(x, gain, eps):
    return x / numpy.sqrt(numpy.mean(x * x, axis=-1, keepdims=True) + numpy.float32(eps)) * gain


def rope(x, theta):
    """Rotates x [tokens, heads, dh] in NeoX order: the pair (i, i + dh/2) turns by position * theta^(-2i/dh). Angles
    are computed in double precision, so that far positions stay exact."""
    tokens, _, dh = x.shape
    frequency = float(theta) ** (-numpy.arange(0, dh, 2, dtype=numpy.float64) / dh)
    angle = numpy.arange(tokens, dtype=numpy.float64)[:, None] * frequency
    cos, sin = (f(angle).astype(numpy.float32)[:, None, :] for f in (numpy.cos, numpy.sin))
    low, high = x[..., : dh // 2], x[..., dh // 2:]
    return numpy.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def turn_back(x, theta, position):
    """Inverts `rope` for rows x [rows, dh] at one position."""
    dh = x.shape[-1]
    angle = position * float(theta) ** (-numpy.arange(0, dh, 2, dtype=numpy.float64) / dh)
    cos, sin = numpy.cos(angle).astype(numpy.float32), numpy.sin(angle).astype(numpy.float32)
    low, high = x[:, : dh // 2], x[:, dh // 2:]
    return numpy.concatenate([low * cos + high * sin, high * cos - low * sin], axis=-1)


def probabilities(q, k, scale, window):
    """Yields the causal attention probabilities [tokens, tokens] of each query head, given q [tokens, H, dh] and k
    [tokens, Hkv, dh] after RoPE. A token sees the last `window` tokens, including itself. One head at a time bounds the
    memory."""
    tokens, heads, _ = q.shape
    group = heads // k.shape[1]
    back = numpy.arange(tokens)[:, None] - numpy.arange(tokens)
    hidden = (back < 0) | (back >= window)
    for head in range(heads):
        scores = (q[:, head] * numpy.float32(scale)) @ k[:, head // group].T
        scores[hidden] = -numpy.inf
        scores -= scores.max(axis=-1, keepdims=True)
        numpy.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        yield scores


def attention(q, k, v, scale, window):
    """Returns the attention output [tokens, H * dh], for q and k as in `probabilities` and v [tokens, Hkv, dh]."""
    tokens, heads, dh = q.shape
    group = heads // k.shape[1]
    out = numpy.empty((tokens, heads, dh), dtype=numpy.float32)
    for head, weights in enumerate(probabilities(q, k, scale, window)):
        out[:, head] = weights @ v[:, head // group]
    return out.reshape(tokens, heads * dh)


COST_TOKENS, COST_STRIDE = 1024, 8


def key_costs(q, k, v, theta, scale, window):
    """Returns cost [H, dh, dh]. An error e of a key before RoPE costs e · cost · eᵀ in the output of a query head.

    The error of key n changes its score with query m by e · R(−n) · q, for a q after RoPE. A change of the score
    changes the query's output o by p·(v_n − o) times that change. The cost sums over every COST_STRIDE-th key and the
    queries that see it, among the first COST_TOKENS tokens, and is relative to the mean over heads and dimensions."""
    q, k, v = q[:COST_TOKENS], k[:COST_TOKENS], v[:COST_TOKENS]
    tokens, heads, dh = q.shape
    group = heads // k.shape[1]
    cost = numpy.zeros((heads, dh, dh), dtype=numpy.float32)
    for head, p in enumerate(probabilities(q, k, scale, window)):
        values = v[:, head // group]
        out = p @ values
        apart = (out * out).sum(-1)[:, None] + (values * values).sum(-1) - 2 * out @ values.T
        moved = p * p * numpy.maximum(apart, 0)
        for n in range(0, tokens, COST_STRIDE):
            queries = turn_back(q[n:, head], theta, n)
            cost[head] += (queries.T * moved[n:, n]) @ queries
    return cost / max(float(numpy.trace(cost, axis1=1, axis2=2).mean()) / dh, 1e-30)


def silu(x):
    return x / (1 + numpy.exp(-numpy.clip(x, -80, None)))  # e^80 still fits f32


def gelu_tanh(x):
    return 0.5 * x * (1 + numpy.tanh(numpy.float32((2 / numpy.pi) ** 0.5) * (x + numpy.float32(0.044715) * x * x * x)))


class LlamaForward:
    """Runs a model layer by layer. `weights(name, shape)` returns a float32 tensor by its Hugging Face name."""

    activation = staticmethod(silu)
    before_feed_forward = "post_attention_layernorm"

    def __init__(self, shape, weights, ids):
        if len(ids) > shape.max_position_embeddings:
            raise InputError(f"{len(ids)} tokens are given; the model takes at most {shape.max_position_embeddings}")
        self.shape = shape
        self.weights = weights
        self.layer = 0
        embeddings = weights("model.embed_tokens.weight", (shape.vocab_size, shape.hidden_size))
        self.hidden = embeddings[numpy.asarray(ids)]

    # The following methods differ between families.
    def norm(self, x, weight):
        return rms_norm(x, weight, self.shape.rms_norm_eps)

    def norm_heads(self, q, k, _weight):
        return q, k

    def norm_output(self, out, _weight):
        return out

    def attention_kind(self):
        """Returns this layer's theta of RoPE, scale of scores, and window."""
        return self.shape.rope_theta, self.shape.head_dim ** -0.5, self.shape.max_position_embeddings

    def extras(self, _weight):
        """Returns further arrays that the layer's attention needs, by name."""
        return {}

    def step(self, costs=False):
        """Runs the next layer and returns the inputs of its attention: x, q and k before RoPE, v, and Wk, Wv [d, dkv].
        With `costs` it also returns k_cost, from `key_costs`."""
        shape, prefix, tokens = self.shape, f"model.layers.{self.layer}.", len(self.hidden)
        weight = {name.removeprefix(prefix).removesuffix(".weight"): self.weights(name, size)
                  for name, size in shape.layer_tensors(self.layer).items()}
        x = self.norm(self.hidden, weight["input_layernorm"])
        q = (x @ weight["self_attn.q_proj"].T).reshape(tokens, shape.num_attention_heads, shape.head_dim)
        k = x @ weight["self_attn.k_proj"].T
        v = x @ weight["self_attn.v_proj"].T
        split = (tokens, shape.num_key_value_heads, shape.head_dim)
        q, normed_k = self.norm_heads(q, k.reshape(split), weight)
        theta, scale, window = self.attention_kind()
        turned = rope(q, theta), rope(normed_k, theta), v.reshape(split)
        out = attention(*turned, scale, window) @ weight["self_attn.o_proj"].T
        self.hidden = self.hidden + self.norm_output(out, weight.get("post_attention_layernorm"))
        y = self.norm(self.hidden, weight[self.before_feed_forward])
        gate = self.activation(y @ weight["mlp.gate_proj"].T)
        out = (gate * (y @ weight["mlp.up_proj"].T)) @ weight["mlp.down_proj"].T
        self.hidden = self.hidden + self.norm_output(out, weight.get("post_feedforward_layernorm"))
        seen = {"x": x, "q": q, "k": k, "v": v, "wk": weight["self_attn.k_proj"].T,
                "wv": weight["self_attn.v_proj"].T, **self.extras(weight)}
        if costs:
            seen["k_cost"] = key_costs(*turned, theta, scale, window)
        self.layer += 1
        return seen

    def logits(self):
        """Returns the logits [tokens, vocabulary], after all layers have run."""
        shape = self.shape
        head = "model.embed_tokens.weight" if shape.tie_word_embeddings else "lm_head.weight"
        normed = self.norm(self.hidden, self.weights("model.norm.weight", (shape.hidden_size,)))
        return normed @ self.weights(head, (shape.vocab_size, shape.hidden_size)).T


class Gemma3Forward(LlamaForward):
    """Gemma 3 differs from Llama in these ways. Norms multiply by 1 + w, and there is one before and one after each
    block. Embeddings are scaled. Queries and keys are normalized per head before RoPE, and `q` is recorded after this
    norm. Sliding layers have their own RoPE."""

    activation = staticmethod(gelu_tanh)
    before_feed_forward = "pre_feedforward_layernorm"

    def __init__(self, shape, weights, ids):
        super().__init__(shape, weights, ids)
        self.hidden = self.hidden * numpy.float32(shape.hidden_size ** 0.5)

    def norm(self, x, weight):
        return super().norm(x, 1 + weight)

    def norm_heads(self, q, k, weight):
        return self.norm(q, weight["self_attn.q_norm"]), self.norm(k, weight["self_attn.k_norm"])

    def norm_output(self, out, weight):
        return self.norm(out, weight)

    def attention_kind(self):
        shape = self.shape
        slides = shape.layer_types[self.layer] == "sliding_attention"
        return (shape.rope_local_base_freq if slides else shape.rope_theta, shape.query_pre_attn_scalar ** -0.5,
                shape.sliding_window if slides else shape.max_position_embeddings)

    def extras(self, weight):
        return {"k_norm": 1 + weight["self_attn.k_norm"]}


def Forward(shape, weights, ids):
    return (Gemma3Forward if isinstance(shape, Gemma3) else LlamaForward)(shape, weights, ids)
