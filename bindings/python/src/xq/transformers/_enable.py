"""Replaces a model's attention, and puts it back."""

from __future__ import annotations

import functools
import inspect
import os
import pathlib
import tempfile
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn
from transformers.generation.configuration_utils import GenerationMode

from .._closing import Unique
from .._context import Context, checked_context
from .._error import argument_error
from .._prepared import Prepared
from .._program import prepare
from . import _model
from ._cache import Cache, Step
from ._graph import DecodeGraph
from ._layers import METHODS, Layers
from ._model import unsupported

_ATTRIBUTE = "_xq_enabled"
_DTYPES = {torch.float32: "f16", torch.float16: "f16", torch.bfloat16: "bf16"}
_TORCH = {"f16": torch.float16, "bf16": torch.bfloat16}
_F16_LARGEST = 65504.0
#: Room for tokens that assisted decoding drafts beyond the end and then removes.
_DRAFTS = 64
PREFILLS = ("torch", "xq")
#: The limits of a plan: sequences, and tokens of one call. A prompt appends the tokens of all sequences in one call.
_BATCH_MOST, _TOKENS_MOST = 65535, 2**30


class Enabled(Unique):
    """A model whose attention cache is xq's. `enable` makes it.

    model       the model
    context     the xq.Context
    layers      the specs and plans of the model's layers
    prefill     "torch" or "xq"
    cache_name  the argument that takes a cache in this release of transformers: "cache" or "past_key_values"
    """

    _unique = "they belong to one model. To copy or save a model as a whole, call xq.transformers.disable(model) first"

    def __init__(self, model: nn.Module, decoder: Any, context: Context, layers: Layers, dtype: str, prefill: str) -> None:
        self.model = model
        self.context = context
        self.layers = layers
        self.prefill = prefill
        self.torch_device = _model.torch_device(decoder)
        self._decoder = decoder
        self._dtype = _TORCH[dtype]
        self._signature = inspect.signature(decoder.forward)
        self.cache_name = "cache" if "cache" in self._signature.parameters else "past_key_values"
        self._attentions = _model.attentions(decoder)
        self._hooks: List[Any] = []
        self._install()

    # ---------------------------------------------------------------- for callers

    def cache(self, batch: int = 1, tokens: int = 4096) -> Cache:
        """Returns an empty cache of `batch` sequences with room for `tokens` tokens each. All of its memory is
        allocated now."""
        for name, value, most in (("batch", batch, _BATCH_MOST), ("tokens", tokens, _TOKENS_MOST)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise argument_error(name, f"{value!r}; valid: whole numbers from 1 to {most}")
        if batch * tokens > _TOKENS_MOST:
            raise argument_error("tokens", f"{tokens} for {batch} sequences; valid: up to {_TOKENS_MOST} tokens in all")
        return Cache(self, batch, tokens)

    def decode_graph(self, cache: Cache) -> DecodeGraph:
        """Returns an object that decodes over `cache` with one CUDA graph per step."""
        self._check_cache(cache)
        return DecodeGraph(self.model, cache)

    def disable(self) -> None:
        """Gives the model its own attention back. Caches of this object can no longer be used. A second call does
        nothing, even if the model has been enabled again since."""
        if getattr(self.model, _ATTRIBUTE, None) is not self:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for attention in self._attentions:
            vars(attention).pop("forward", None)
        vars(self.model).pop("_prepare_cache_for_generation", None)
        vars(self.model).pop(_ATTRIBUTE, None)

    # ----------------------------------------------------- installing the replacements

    def _install(self) -> None:
        for attention in self._attentions:
            attention.forward = functools.partial(self._attention, attention)
        self._hooks = [self._decoder.register_forward_pre_hook(self._before, with_kwargs=True),
                       self._decoder.register_forward_hook(self._after, with_kwargs=True)]
        if hasattr(self.model, "_prepare_cache_for_generation"):
            self.model._prepare_cache_for_generation = self._prepare_cache  # type: ignore[assignment]
        setattr(self.model, _ATTRIBUTE, self)

    def _prepare_cache(self, generation_config: Any, model_kwargs: Dict[str, Any], generation_mode: Any, batch_size: int,
                       max_cache_length: int) -> None:
        """Checks the cache that generate() was given, or makes one that is as large as it needs."""
        if (generation_config.num_beams or 1) != 1:
            raise unsupported("num_beams", f"{generation_config.num_beams}: beam search reorders the cache; valid: 1")
        if generation_config.cache_implementation is not None:
            raise unsupported("cache_implementation", f"{generation_config.cache_implementation!r} is another cache; leave it "
                                                      "out, or call xq.transformers.disable(model)")
        if generation_config.use_cache is False:
            raise unsupported("use_cache", "it is False, and attention through xq needs its cache. xq.transformers.disable(model) puts the "
                                           "model's own attention back")
        given = model_kwargs.get(self.cache_name)
        if given is None:
            sequences = batch_size * (generation_config.num_return_sequences or 1)
            drafts = _DRAFTS if generation_mode == GenerationMode.ASSISTED_GENERATION else 0
            drafts = max(drafts, generation_config.prompt_lookup_num_tokens or 0)
            model_kwargs[self.cache_name] = self.cache(sequences, max_cache_length + 1 + drafts)
        else:
            self._check_cache(given)
            given._is_user_defined = True  # generate() reads this from transformers 5.24 on

    def _check_cache(self, cache: Any) -> None:
        if cache is None:
            raise unsupported("past_key_values", "none is given, and use_cache is off; valid: a cache of Enabled.cache(). "
                                                 "xq.transformers.disable(model) puts the model's own attention back")
        if not isinstance(cache, Cache):
            raise unsupported("past_key_values", f"it is a {type(cache).__name__}; valid: a cache of Enabled.cache()")
        if cache.enabled is not self:
            raise argument_error("past_key_values", "it belongs to another model, or to an earlier enable()")

    def _before(self, decoder: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
        """Runs before the decoder and plans the step. Steps whose attention xq computes need no mask."""
        given = self._signature.bind_partial(*args, **kwargs).arguments
        extra = given.pop("kwargs", {})
        kwargs = {**given, **extra}
        cache = _pop_cache(kwargs)
        if cache is None and kwargs.get("use_cache") is not False and decoder.config.use_cache:
            raise unsupported("past_key_values", "none is given; valid: a cache of Enabled.cache(); generate() makes its own")
        self._check_cache(cache)
        if torch.is_grad_enabled():
            raise unsupported("gradients", "xq computes none; call the model under torch.no_grad() or torch.inference_mode()")
        if kwargs.get("output_attentions") or decoder.config.output_attentions:
            raise unsupported("output_attentions", "xq's kernels do not keep attention weights; valid: False")
        ids = kwargs.get("input_ids")
        inputs = ids if ids is not None else kwargs.get("inputs_embeds")
        if not isinstance(inputs, torch.Tensor) or inputs.dim() < 2:
            raise argument_error("input_ids", "valid: a tensor [batch, tokens], or inputs_embeds [batch, tokens, d] in its place")
        step = cache.begin(inputs.shape[0], inputs.shape[1], kwargs.get("attention_mask"), kwargs.get("position_ids"),
                           self.prefill == "torch", kwargs.get("cache_position"))
        if not step.by_torch:
            kwargs["attention_mask"] = None
        kwargs[self.cache_name] = cache
        return (), kwargs

    def _after(self, _decoder: Any, _args: Any, kwargs: Dict[str, Any], _output: Any) -> None:
        kwargs[self.cache_name].commit()

    def _attention(self, attention: Any, hidden_states: torch.Tensor, position_embeddings: Any = None,
                   attention_mask: Optional[torch.Tensor] = None, **kwargs: Any) -> Tuple[torch.Tensor, None]:
        """Replaces an attention module's forward. hidden_states [batch, columns, d] is x, the input of the
        projections."""
        cache, index = _pop_cache(kwargs), attention.layer_idx
        step = cache.step if isinstance(cache, Cache) else None
        if cache is None or step is None:
            raise unsupported("self_attn", "called outside of its model; valid: calls of the whole model")
        cache.append(index, self._rows(hidden_states, step))
        if step.by_torch:
            result = type(attention).forward(attention, hidden_states, position_embeddings=position_embeddings,
                                             attention_mask=attention_mask, **kwargs)
            return result[0], None
        q = attention.q_proj(hidden_states)
        q = q.view(*q.shape[:-1], -1, attention.head_dim)
        if hasattr(attention, "q_norm"):
            q = attention.q_norm(q)
        attended = self._attended(cache, index, q, step)
        return attention.o_proj(attended), None

    def _attended(self, cache: Cache, index: int, q: torch.Tensor, step: Step) -> torch.Tensor:
        """Attends with q [batch, columns, H, dh] and returns [batch, columns, H * dh]. In steps of several columns, pad
        tokens get zeros."""
        flat = q.reshape(-1, *q.shape[2:])
        if step.single or step.rows is None:
            out = cache.attend(index, self._cast(flat)).to(q.dtype)
        else:
            out = torch.zeros_like(flat)
            out[step.rows] = cache.attend(index, self._cast(flat[step.rows])).to(q.dtype)
        return out.reshape(*q.shape[:2], -1)

    def _rows(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        return self._cast(flat if step.rows is None else flat[step.rows])

    def _cast(self, values: torch.Tensor) -> torch.Tensor:
        """Converts values to the plans' dtype. Values beyond f16's range saturate, as in append."""
        if values.dtype != self._dtype and self._dtype is torch.float16:
            values = values.clamp(-_F16_LARGEST, _F16_LARGEST)
        return values.to(self._dtype).contiguous()


def _pop_cache(kwargs: Dict[str, Any]) -> Any:
    """Removes the cache from a call's arguments, under either of its names, and returns it."""
    new, old = kwargs.pop("cache", None), kwargs.pop("past_key_values", None)
    return old if new is None else new


# ------------------------------------------------------------------------------------------------ enable, disable


def enable(model: nn.Module, bits: int = 4, method: Optional[str] = None, *, device: Optional[str] = None,
           prepared: Union[str, "os.PathLike[str]", None] = None, prefill: str = "torch", weights: Optional[str] = None,
           layer_bits: Optional[Sequence[int]] = None, cache: Optional[Mapping[str, Any]] = None,
           calibration: Union[str, "os.PathLike[str]", None] = None, base_layer: Optional[int] = None,
           context: Optional[Context] = None) -> Enabled:
    """Replaces the attention of a Llama, Qwen2, Qwen3, Gemma 3 (text) or Mistral model. The model then caches quantized
    activations and decodes with xq's kernels.

    model        a transformers model, on the CPU or on one GPU
    bits         bits of each cached value: 2, 3, 4, 8
    method       "latent", "x", "latent-cl", "x-cl"; None: the method of `prepared`, else "latent"
    device       xq's device; None: for a model on the CPU "sim", the software device, else the model's GPU. "sim:h100"
                 and others choose the GPU that the software device models
    prepared     a file that `xq prepare` made from this model; None: the weights are prepared now, in a temporary
                 folder
    prefill      how attention over the prompt is computed, when the cache is empty: "torch" uses the model's own
                 attention over unquantized keys and values; "xq" uses the kernels over the quantized cache, as in every
                 later step
    weights      the type of the packed projections: "f16", "bf16", "int8", "e4m3"; None: the default of
                 specs (docs/spec.md)
    layer_bits   the bits of each layer, instead of `bits`
    cache        other keys of a spec's `cache` (docs/spec.md): {"group": 64, "axis_k": "channel", "rank_k": 128, ...}
    calibration  a file with the activations of a text, for the preparation (docs/prepare.md)
    base_layer   for the preparation of cross-layer methods: the first layer that has the method
    context      an xq.Context on the right device; None: one is opened

    Returns the Enabled, whose `cache` makes caches. `model.generate(...)` does not need it, since it makes its own
    cache. The model's weights must not change afterwards, because xq has copies of them. Raises UnsupportedError for
    features of the model that xq does not support, ArgumentError, SpecError.
    """
    if getattr(model, _ATTRIBUTE, None) is not None:
        raise argument_error("model", "its attention is replaced already; xq.transformers.disable(model) puts it back")
    decoder = _model.decoder_of(model)
    where = _model.torch_device(decoder)
    if prefill not in PREFILLS:
        raise argument_error("prefill", f"{prefill!r}; valid: {', '.join(PREFILLS)}")
    if method is not None and method not in METHODS:
        raise argument_error("method", f"{method!r}; valid: {', '.join(METHODS)}")
    dtype = _DTYPES.get(next(decoder.parameters()).dtype)
    if dtype is None:
        raise unsupported("model", f"its type is {next(decoder.parameters()).dtype}; valid: float32, float16, bfloat16")
    count = decoder.config.num_hidden_layers
    if isinstance(layer_bits, (str, bytes)) or not isinstance(layer_bits, (Iterable, type(None))):
        raise argument_error("layer_bits", f"{layer_bits!r} is no list; valid: a list with the bits of each layer")
    if not isinstance(cache, (Mapping, type(None))):
        raise argument_error("cache", f"{cache!r} is no dict; valid: keys of a spec's cache, for example {{\"group\": 64}}")
    all_bits = list(layer_bits) if layer_bits is not None else [bits] * count
    if len(all_bits) != count:
        raise argument_error("layer_bits", f"{len(all_bits)} numbers are given for {count} layers; valid: one for each layer")
    name = _model.xq_device(device, where)
    context = Context(name) if context is None else checked_context("context", context)
    if context.is_sim != (where.type == "cpu") or not (context.is_sim or context.device.ordinal == where.index):
        raise argument_error("context", f"it is on {context.device.name}, and the model is on {where}")
    chosen = dict(cache or {})
    if chosen.get("groups") is not None:  # groups stands for groups_k and groups_v where they are not given
        both = chosen.pop("groups")
        chosen = {"groups_k": both, "groups_v": both, **chosen}
    for key in ("bits", "method", "base"):
        if key in chosen:
            raise argument_error(f"cache.{key}", "enable() sets it; give it as an argument of its own" if key != "base" else
                                                 "enable() sets it for the base layer")
    opened = _open_prepared(decoder, context, prepared, method, chosen, calibration, base_layer)
    asked = {**chosen, **({} if method is None else {"method": method})}
    layers = Layers(context, where, opened, bits=all_bits, sliding=_model.sliding_layers(decoder), dtype=dtype, weights=weights,
                    cache=asked)
    return Enabled(model, decoder, context, layers, dtype, prefill)


def disable(model: nn.Module) -> None:
    """Gives a model its own attention back. Raises ArgumentError for a model that is not enabled."""
    enabled = getattr(model, _ATTRIBUTE, None)
    if enabled is None:
        raise argument_error("model", "xq.transformers.enable() was not called with it")
    enabled.disable()


# ------------------------------------------------------------------------------------------------ prepared weights


def _open_prepared(decoder: Any, context: Context, path: Union[str, "os.PathLike[str]", None], method: Optional[str],
                   cache: Mapping[str, Any], calibration: Union[str, "os.PathLike[str]", None], base_layer: Optional[int]) -> Prepared:
    """Opens the prepared weights of the model, from a file that was made from this model, or prepares them now."""
    if path is None:
        return _prepare(decoder, context, method or "latent", cache, calibration, base_layer)
    for name, value in (("calibration", calibration), ("base_layer", base_layer)):
        if value is not None:
            raise argument_error(name, "it would have no effect, because `prepared` names a file that is already prepared")
    file = pathlib.Path(path)
    opened = Prepared(context, file)
    layers = decoder.config.num_hidden_layers
    if opened.layers != layers:
        raise argument_error("prepared", f"{file} was prepared from a model of {opened.layers} layers; this one has {layers}")
    _check_shape(decoder, context, file, opened)
    _model.check_prepared(decoder, file, (opened.layer(index) for index in range(layers)))
    return opened


def _prepare(decoder: Any, context: Context, method: str, cache: Mapping[str, Any],
             calibration: Union[str, "os.PathLike[str]", None], base_layer: Optional[int]) -> Prepared:
    """Writes the weights to a temporary folder and prepares them there, in f32. The prepared file stays mapped, so the
    folder can be removed at once."""
    options: Dict[str, Any] = {} if cache.get("rotation") is None else {"rotation": cache["rotation"]}
    for option, names in (("groups", ("groups_k", "groups_v")), ("rank", ("rank_k", "rank_v"))):
        pair = tuple(cache[name] for name in names if cache.get(name) is not None)
        if cache.get(names[1]) is not None and len(pair) == 1:
            raise argument_error(f"cache.{names[1]}", f"it is given without {names[0]}")
        if pair:
            options[option] = pair if len(pair) == 2 else pair[0]
    if cache.get("feedback") or calibration:
        options.update(feedback=bool(cache.get("feedback")), group=cache.get("group"))
    with tempfile.TemporaryDirectory(prefix="xq-") as folder:
        directory, out = pathlib.Path(folder), pathlib.Path(folder, "prepared.safetensors")
        _model.write_checkpoint(decoder, directory)
        prepare(directory, out, method=method, store="f32", calibration=calibration, base_layer=base_layer, **options)
        return Prepared(context, out)


def _check_shape(decoder: Any, context: Context, path: pathlib.Path, opened: Prepared) -> None:
    """Raises ArgumentError unless the file's model is the one that `xq prepare` reads from this model's
    configuration."""
    with tempfile.TemporaryDirectory(prefix="xq-") as folder:
        directory, out = pathlib.Path(folder), pathlib.Path(folder, "prepared.safetensors")
        _model.write_checkpoint(decoder, directory, layers=1)
        prepare(directory, out, method="x", rotation=False, layers=[0])
        own = Prepared(context, out).spec["model"]
    theirs = opened.spec["model"]
    for key in sorted(set(own) | set(theirs)):
        if own.get(key) != theirs.get(key):
            raise argument_error("prepared", f"{path} was prepared from a model with {key} {theirs.get(key)}; this one has "
                                             f"{own.get(key)}")
