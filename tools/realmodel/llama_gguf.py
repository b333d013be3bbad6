"""GGUF files of the llama architecture: shape, weights under Hugging Face names, tokenizer."""

import gguf
import numpy

from . import InputError
from .shape import Shape, checked
from .tensors import require_finite

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def gguf_name(name):
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def unpermute(rows, heads):
    """Undoes llama.cpp's order of Q and K rows. llama.cpp rotates neighbours (2i, 2i+1) and so interleaves
    the two halves of each head when it converts; Hugging Face (NeoX order) rotates (i, i + head_dim/2)."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


class Model:
    def __init__(self, path):
        self.path = path
        # gguf checks little of what it reads: a damaged file shows as any exception.
        try:
            self.reader = gguf.GGUFReader(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except Exception as error:
            raise InputError(f"{path}: not a complete GGUF file ({type(error).__name__}: {error})") from error
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise InputError(f"{path}: general.architecture is {architecture!r}; only 'llama' is supported")
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.shape = self._shape()

    def field(self, name, default=None):
        field = self.reader.get_field(name)
        if field is None:
            if default is not None:
                return default
            raise InputError(f"{self.path}: metadata {name} is missing")
        try:
            return field.contents()
        except Exception as error:
            raise InputError(f"{self.path}: metadata {name} is damaged ({error})") from error

    def _shape(self):
        for unsupported in ("llama.rope.scaling.type", "llama.expert_count"):
            if self.reader.get_field(unsupported) is not None and self.field(unsupported) not in ("none", 0):
                raise InputError(f"{self.path}: {unsupported} is not supported")
        d, heads = self.field("llama.embedding_length"), self.field("llama.attention.head_count")
        if not (isinstance(d, int) and isinstance(heads, int) and heads > 0):
            raise InputError(f"{self.path}: llama.embedding_length and llama.attention.head_count must be "
                             "positive integers")
        head_dim = self.field("llama.attention.key_length", d // heads)
        rotary = self.field("llama.rope.dimension_count", head_dim)
        if rotary != head_dim:
            raise InputError(f"{self.path}: llama.rope.dimension_count is {rotary}; only full rotary "
                             f"({head_dim}) is supported")
        # GGUF stores these in f32; the shortest decimal that gives the same f32 is what was meant.
        eps = float(str(numpy.float32(self.field("llama.attention.layer_norm_rms_epsilon"))))
        return checked(Shape(
            hidden_size=d,
            intermediate_size=self.field("llama.feed_forward_length"),
            num_hidden_layers=self.field("llama.block_count"),
            num_attention_heads=heads,
            num_key_value_heads=self.field("llama.attention.head_count_kv", heads),
            head_dim=head_dim,
            vocab_size=len(self.field("tokenizer.ggml.tokens")),
            max_position_embeddings=self.field("llama.context_length"),
            rms_norm_eps=eps,
            rope_theta=float(self.field("llama.rope.freq_base", 10000.0)),
            tie_word_embeddings="output.weight" not in self.tensors,
        ), self.path)

    def weight(self, name, shape):
        """The tensor of this Hugging Face name as float32, dequantized, in Hugging Face's row order."""
        stored = gguf_name(name)
        if stored not in self.tensors:
            raise InputError(f"{self.path}: tensor {stored} is missing")
        tensor = self.tensors[stored]
        found = tuple(int(size) for size in reversed(tensor.shape))  # GGUF lists the fastest first
        if found != tuple(shape):
            raise InputError(f"{self.path}: tensor {stored} has shape {list(found)}; expected {list(shape)}")
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32).reshape(shape)
        except Exception as error:
            raise InputError(f"{self.path}: tensor {stored} ({tensor.tensor_type.name}) cannot be read "
                             f"({error})") from error
        require_finite(array, f"{self.path}: tensor {stored}")
        if name.endswith("q_proj.weight"):
            return unpermute(array, self.shape.num_attention_heads)
        if name.endswith("k_proj.weight"):
            return unpermute(array, self.shape.num_key_value_heads)
        return array
