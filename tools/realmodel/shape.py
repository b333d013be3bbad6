"""A model's shape, as a Hugging Face config.json states it, and its tensors. There is a class for each family."""

import dataclasses

from . import InputError


LAYER_KINDS = ("full_attention", "sliding_attention")
# Keys of config.json that change the computation. They are refused unless they are null or false.
UNSUPPORTED = ("rope_parameters", "use_bidirectional_attention")


@dataclasses.dataclass(frozen=True)
class Llama:
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

    # Further keys of config.json and their only supported values.
    FIXED = {"model_type": "llama", "rope_scaling": None, "attention_bias": False, "mlp_bias": False,
             "hidden_act": "silu"}
    ARCHITECTURE = "LlamaForCausalLM"
    COMPUTED_IN = "float16"
    DEFAULTS = {"rope_theta": 10000.0, "tie_word_embeddings": False}
    BLOCK_NORMS = ("input_layernorm", "post_attention_layernorm")
    HEAD_NORMS = ()

    def layer_tensors(self, layer):
        """Returns the shapes of a layer's tensors by Hugging Face name; matrices are [out, in], as torch stores
        them."""
        d, ffn = self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        shapes = {name: (d,) for name in self.BLOCK_NORMS}
        shapes.update({name: (self.head_dim,) for name in self.HEAD_NORMS})
        shapes.update({
            "self_attn.q_proj": (q, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, q),
            "mlp.gate_proj": (ffn, d),
            "mlp.up_proj": (ffn, d),
            "mlp.down_proj": (d, ffn),
        })
        return {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}

    def tensors(self):
        """Returns the shapes of all tensors of the model."""
        shapes = {"model.embed_tokens.weight": (self.vocab_size, self.hidden_size)}
        for layer in range(self.num_hidden_layers):
            shapes.update(self.layer_tensors(layer))
        shapes["model.norm.weight"] = (self.hidden_size,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        return shapes

    def to_config(self):
        """Returns a config.json that transformers and `xq` can read."""
        return {"architectures": [self.ARCHITECTURE], **self.FIXED, **dataclasses.asdict(self),
                "torch_dtype": self.COMPUTED_IN}

    def check(self, source):
        """Raises InputError with the name of a field if its value is not valid."""
        for field in dataclasses.fields(self):
            check_field(field, getattr(self, field.name), source)
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(f"{source}: num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                             f"num_key_value_heads ({self.num_key_value_heads})")
        if self.head_dim % 2:
            raise InputError(f"{source}: head_dim ({self.head_dim}) must be even")


@dataclasses.dataclass(frozen=True)
class Gemma3(Llama):
    """The text model of Gemma 3. It has norms before and after each block, QK-norm, and layers of two kinds."""

    query_pre_attn_scalar: float
    sliding_window: int
    rope_local_base_freq: float
    layer_types: tuple

    FIXED = {"model_type": "gemma3_text", "rope_scaling": None, "attention_bias": False,
             "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": None,
             "final_logit_softcapping": None}
    ARCHITECTURE = "Gemma3ForCausalLM"
    COMPUTED_IN = "bfloat16"  # the weights fit fp16; the activations between layers (1e5) do not
    DEFAULTS = {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 256,
                "tie_word_embeddings": True}
    BLOCK_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                   "post_feedforward_layernorm")
    HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")

    def check(self, source):
        super().check(source)
        if len(self.layer_types) != self.num_hidden_layers:
            raise InputError(f"{source}: layer_types has {len(self.layer_types)} entries for "
                             f"{self.num_hidden_layers} layers")


FAMILIES = {family.FIXED["model_type"]: family for family in (Llama, Gemma3)}


def pattern(layers, every):
    """Returns layer_types in which every `every`-th layer attends to all tokens and the others have a sliding
    window."""
    return tuple("sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers))


def check_field(field, value, source):
    expected = {int: "a positive integer", float: "a positive number", bool: "true or false",
                tuple: f"a list of {' and '.join(LAYER_KINDS)}"}[field.type]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    good = {
        int: isinstance(value, int) and number and 0 < value <= 1 << 24,
        float: number and 0 < value < 1e12,
        bool: isinstance(value, bool),
        tuple: isinstance(value, (tuple, list)) and all(kind in LAYER_KINDS for kind in value),
    }[field.type]
    if not good:
        raise InputError(f"{source}: {field.name} is {value!r}; expected {expected}")


def from_config(config, source):
    """Reads the object of a config.json. Features that the forward pass does not support are refused by name."""
    family = FAMILIES.get(config.get("model_type"))
    if family is None:
        raise InputError(f"{source}: model_type is {config.get('model_type')!r}; this tool runs "
                         f"{' and '.join(FAMILIES)}")
    for name, plain in {**dict.fromkeys(UNSUPPORTED, False), **family.FIXED}.items():
        if config.get(name) not in (plain, None):
            raise InputError(f"{source}: {name} is {config[name]!r}, which this tool does not support")

    def get(name, default=None):
        value = default if config.get(name) is None else config[name]
        if value is None:
            raise InputError(f"{source}: {name} is missing")
        return value

    d, heads, layers = get("hidden_size"), get("num_attention_heads"), get("num_hidden_layers")
    for name, value in (("hidden_size", d), ("num_attention_heads", heads), ("num_hidden_layers", layers)):
        if not isinstance(value, int) or not 0 < value <= 1 << 24:
            raise InputError(f"{source}: {name} is {value!r}; expected a positive integer")
    defaults = {"num_key_value_heads": heads, "head_dim": d // heads, **family.DEFAULTS}
    if family is Gemma3:
        defaults["layer_types"] = pattern(layers, get("sliding_window_pattern", 6))
    shape = family(**{field.name: get(field.name, defaults.get(field.name))
                      for field in dataclasses.fields(family)})
    shape.check(source)
    return shape
