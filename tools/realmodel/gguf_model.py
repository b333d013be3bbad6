"""Reads GGUF files: the model's shape, and weights under their Hugging Face names. There is a class for each
architecture."""

import gguf
import numpy

from . import InputError
from .shape import Gemma3, Llama, pattern
from .tensors import require_finite

OTHER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def unpermute(rows, heads):
    """Undoes llama.cpp's order of Q and K rows. llama.cpp rotates neighbours (2i, 2i+1), so its converter interleaves
    the two halves of each head. Hugging Face (NeoX order) rotates (i, i + head_dim/2)."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


class LlamaFile:
    """The differences between a GGUF file of the architecture `llama` and the Hugging Face model."""

    NAMES = {**LAYER_NAMES, "post_attention_layernorm": "ffn_norm"}
    PLAIN = {"rope.scaling.type": ("none",), "expert_count": (0,)}  # other values are refused

    def shape(self, file, common):
        return Llama(**common, rope_theta=float(file.value("rope.freq_base", 10000.0)))

    def restore(self, name, array, shape):
        if name.endswith("q_proj.weight"):
            return unpermute(array, shape.num_attention_heads)
        if name.endswith("k_proj.weight"):
            return unpermute(array, shape.num_key_value_heads)
        return array


class Gemma3File:
    """The architecture `gemma3`. Rows are in Hugging Face's order, and 1 is added to the weights of norms. Files state
    the pattern of layers, the sliding layers' RoPE and the scale of scores only if they differ from llama.cpp's
    constants, which are those of the models without RoPE scaling."""

    NAMES = {**LAYER_NAMES, "post_attention_layernorm": "post_attention_norm",
             "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
             "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
    PLAIN = {"rope.scaling.type": ("none",), "attn_logit_softcapping": (0.0,), "final_logit_softcapping": (0.0,)}

    def shape(self, file, common):
        every = file.value("attention.sliding_window_pattern", 6)
        if not isinstance(every, int) or every < 1:
            raise InputError(f"{file.path}: gemma3.attention.sliding_window_pattern is {every!r}; expected a "
                             "positive integer")
        return Gemma3(**common,
                      rope_theta=float(file.value("rope.freq_base", 1000000.0)),
                      rope_local_base_freq=float(file.value("rope.freq_base_swa", 10000.0)),
                      query_pre_attn_scalar=common["head_dim"],
                      sliding_window=file.value("attention.sliding_window"),
                      layer_types=pattern(common["num_hidden_layers"], every))

    def restore(self, name, array, _shape):
        return array - 1 if name.endswith("norm.weight") else array


ARCHITECTURES = {"llama": LlamaFile(), "gemma3": Gemma3File()}


class Model:
    def __init__(self, path):
        self.path = path
        # gguf checks its input little, so a damaged file can raise any exception.
        try:
            self.reader = gguf.GGUFReader(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except Exception as error:
            raise InputError(f"{path}: not a complete GGUF file ({type(error).__name__}: {error})") from error
        self.architecture = self.field("general.architecture")
        if self.architecture not in ARCHITECTURES:
            raise InputError(f"{path}: general.architecture is {self.architecture!r}; supported: "
                             f"{', '.join(ARCHITECTURES)}")
        self.format = ARCHITECTURES[self.architecture]
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

    def value(self, name, default=None):
        """Returns a metadata field of the architecture."""
        return self.field(f"{self.architecture}.{name}", default)

    def _shape(self):
        for name, plain in self.format.PLAIN.items():
            value = self.value(name, plain[0])
            if value not in plain:
                raise InputError(f"{self.path}: {self.architecture}.{name} is {value!r}, which is not supported")
        integers = {name: self.value(name) for name in
                    ("embedding_length", "attention.head_count", "block_count", "feed_forward_length",
                     "context_length")}
        for name, value in integers.items():
            if not isinstance(value, int) or not 0 < value <= 1 << 24:
                raise InputError(f"{self.path}: {self.architecture}.{name} is {value!r}; expected a positive integer")
        d, heads = integers["embedding_length"], integers["attention.head_count"]
        head_dim = self.value("attention.key_length", d // heads)
        for name in ("rope.dimension_count", "attention.value_length"):
            if self.value(name, head_dim) != head_dim:
                raise InputError(f"{self.path}: {self.architecture}.{name} is {self.value(name)}; only the whole "
                                 f"head ({head_dim}) is supported")
        shape = self.format.shape(self, dict(
            hidden_size=d,
            intermediate_size=integers["feed_forward_length"],
            num_hidden_layers=integers["block_count"],
            num_attention_heads=heads,
            num_key_value_heads=self.value("attention.head_count_kv", heads),
            head_dim=head_dim,
            vocab_size=len(self.field("tokenizer.ggml.tokens")),
            max_position_embeddings=integers["context_length"],
            # GGUF stores this in f32. The original value is taken to be the shortest decimal that gives the same f32.
            rms_norm_eps=float(str(numpy.float32(self.value("attention.layer_norm_rms_epsilon")))),
            tie_word_embeddings="output.weight" not in self.tensors,
        ))
        shape.check(self.path)
        return shape

    def token_id(self, name):
        """Returns the id of a special token: `bos`, `eos` or `unknown`."""
        field = f"tokenizer.ggml.{name}_token_id"
        index = self.field(field)
        if not isinstance(index, int) or not 0 <= index < self.shape.vocab_size:
            raise InputError(f"{self.path}: {field} is {index!r}; expected 0 to {self.shape.vocab_size - 1}")
        return index

    def special_ids(self):
        """Returns the keys of config.json for the tokens that begin and end a text."""
        return {f"{name}_token_id": self.token_id(name) for name in ("bos", "eos")
                if self.reader.get_field(f"tokenizer.ggml.{name}_token_id") is not None}

    def stored_name(self, name):
        if name in OTHER_NAMES:
            return OTHER_NAMES[name]
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{self.format.NAMES[rest.removesuffix('.weight')]}.weight"

    def weight(self, name, shape):
        """Returns the tensor of this Hugging Face name, dequantized to float32, in Hugging Face's order of rows."""
        stored = self.stored_name(name)
        if stored not in self.tensors:
            raise InputError(f"{self.path}: tensor {stored} is missing")
        tensor = self.tensors[stored]
        found = tuple(int(size) for size in reversed(tensor.shape))  # GGUF lists the fastest-varying dimension first
        if found != tuple(shape):
            raise InputError(f"{self.path}: tensor {stored} has shape {list(found)}; expected {list(shape)}")
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32).reshape(shape)
        except Exception as error:
            raise InputError(f"{self.path}: tensor {stored} ({tensor.tensor_type.name}) cannot be read "
                             f"({error})") from error
        require_finite(array, f"{self.path}: tensor {stored}")
        return self.format.restore(name, array, self.shape)
