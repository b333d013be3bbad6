"""A Llama-family model's shape, as a Hugging Face config.json states it, and the tensors it implies."""

import dataclasses

from . import InputError


@dataclasses.dataclass(frozen=True)
class Shape:
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    def layer_tensors(self, layer):
        """Hugging Face name (within the layer's prefix) → shape, [out, in] as torch stores them."""
        d, ffn = self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        prefix = f"model.layers.{layer}."
        return {
            prefix + "input_layernorm.weight": (d,),
            prefix + "self_attn.q_proj.weight": (q, d),
            prefix + "self_attn.k_proj.weight": (kv, d),
            prefix + "self_attn.v_proj.weight": (kv, d),
            prefix + "self_attn.o_proj.weight": (d, q),
            prefix + "post_attention_layernorm.weight": (d,),
            prefix + "mlp.gate_proj.weight": (ffn, d),
            prefix + "mlp.up_proj.weight": (ffn, d),
            prefix + "mlp.down_proj.weight": (d, ffn),
        }

    def tensors(self):
        """All tensors of the model."""
        shapes = {"model.embed_tokens.weight": (self.vocab_size, self.hidden_size)}
        for layer in range(self.num_hidden_layers):
            shapes.update(self.layer_tensors(layer))
        shapes["model.norm.weight"] = (self.hidden_size,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        return shapes

    def to_config(self):
        """A config.json that transformers and `xq` read."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **dataclasses.asdict(self),
            "rope_scaling": None,
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "torch_dtype": "float16",
        }


def checked(shape, source):
    """The same shape, or an error that names the field."""
    for field in dataclasses.fields(shape):
        value = getattr(shape, field.name)
        if field.type in (int, "int"):
            good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 24
        elif field.type in (float, "float"):
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12
        else:
            good = isinstance(value, bool)
        if not good:
            raise InputError(f"{source}: {field.name} is {value!r}; expected a positive {field.type}"
                             if field.name != "tie_word_embeddings" else
                             f"{source}: {field.name} is {value!r}; expected true or false")
    if shape.num_attention_heads % shape.num_key_value_heads:
        raise InputError(f"{source}: num_attention_heads ({shape.num_attention_heads}) must be a multiple of "
                         f"num_key_value_heads ({shape.num_key_value_heads})")
    if shape.head_dim % 2:
        raise InputError(f"{source}: head_dim ({shape.head_dim}) must be even")
    return shape


def from_config(config, source):
    """Reads a config.json's object. What the forward pass does not do is refused by name."""
    if config.get("model_type") != "llama":
        raise InputError(f"{source}: model_type is {config.get('model_type')!r}; this tool runs 'llama' only")
    for name, plain in (("rope_scaling", (None,)), ("attention_bias", (False, None)), ("mlp_bias", (False, None)),
                        ("hidden_act", ("silu", None))):
        if config.get(name) not in plain:
            raise InputError(f"{source}: {name} is {config[name]!r}, which this tool does not support")

    def get(name, default=None):
        value = config.get(name, default)
        if value is None:
            raise InputError(f"{source}: {name} is missing")
        return value

    d, heads = get("hidden_size"), get("num_attention_heads")
    if not (isinstance(d, int) and isinstance(heads, int) and heads > 0):
        raise InputError(f"{source}: hidden_size and num_attention_heads must be positive integers")
    return checked(Shape(
        hidden_size=d,
        intermediate_size=get("intermediate_size"),
        num_hidden_layers=get("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=get("num_key_value_heads", heads),
        head_dim=get("head_dim", d // heads),
        vocab_size=get("vocab_size"),
        max_position_embeddings=get("max_position_embeddings"),
        rms_norm_eps=get("rms_norm_eps"),
        rope_theta=get("rope_theta", 10000.0),
        tie_word_embeddings=get("tie_word_embeddings", False),
    ), source)
