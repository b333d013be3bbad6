"""Checks of a model before its attention is replaced, and access to the model's weights that xq needs."""

from __future__ import annotations

import pathlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from .._c import Status
from .._error import UnsupportedError, argument_error

Array = NDArray[Any]

#: The supported models, by the class that holds their layers.
ARCHITECTURES: Tuple[str, ...] = ("LlamaModel", "Qwen2Model", "Qwen3Model", "Gemma3TextModel", "MistralModel")
#: Models whose QK-norms multiply by 1 + weight.
_NORM_ADDS_ONE = ("Gemma3TextModel",)


def unsupported(field: str, message: str) -> UnsupportedError:
    """The exception for a feature of the model or a call that xq does not support."""
    return UnsupportedError(f"{field}: {message}", status=Status.ERROR_UNSUPPORTED, stage="argument", field=field)


def decoder_of(model: nn.Module) -> Any:
    """The part of `model` that holds the layers. Raises UnsupportedError if xq cannot replace its attention."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: {type(model).__name__} is no torch module")
    decoder: Any = getattr(model, "base_model", model)
    name = type(decoder).__name__
    if name not in ARCHITECTURES:
        raise unsupported("model", f"{type(model).__name__} ({name}); valid: models of {', '.join(ARCHITECTURES)}")
    for index, layer in enumerate(decoder.layers):
        _check_attention(f"model.layers.{index}.self_attn", layer.self_attn)
    return decoder


def _check_attention(name: str, attention: Any) -> None:
    if "forward" in vars(attention):
        raise unsupported(name, "its forward is replaced already: by enable(), by device_map or by another package")
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        projection = getattr(attention, part)
        if type(projection) is not nn.Linear:
            raise unsupported(f"{name}.{part}", f"it is a {type(projection).__name__}; valid: a plain Linear. "
                                                "Merge adapters, and do not quantize the projections")
        if not projection.weight.is_floating_point() or projection.weight.element_size() < 2:
            raise unsupported(f"{name}.{part}", f"its weight is {projection.weight.dtype}; valid: floats of 16 bits or more")


def attentions(decoder: Any) -> List[nn.Module]:
    """The attention modules, layer by layer."""
    return [layer.self_attn for layer in decoder.layers[:decoder.config.num_hidden_layers]]


def torch_device(decoder: Any) -> torch.device:
    """The device of all parameters. Raises UnsupportedError if they are on several devices."""
    devices = {parameter.device for parameter in decoder.parameters()}
    if len(devices) != 1:
        raise unsupported("model", f"its parameters are on {', '.join(sorted(map(str, devices)))}; valid: one device")
    device: torch.device = devices.pop()
    if device.type not in ("cpu", "cuda"):
        raise unsupported("model", f"it is on {device}; valid: cpu, cuda")
    return device


def xq_device(device: Optional[str], where: torch.device) -> str:
    """xq's name for the device that the model is on: `device` if it is given, which must agree, else "sim" or
    "cuda:N"."""
    if where.type == "cpu":
        if device is not None and device.split(":")[0] != "sim":
            raise argument_error("device", f"{device!r} for a model on the CPU; valid: sim, sim:h100, sim:h200, sim:a100, "
                                           "sim:rtx4090; or move the model to a GPU")
        return device or "sim"
    own = f"cuda:{where.index}"
    if device not in (None, "auto", "cuda", own):
        raise argument_error("device", f"{device!r} for a model on {where}; valid: {own}")
    return own


def sliding_layers(decoder: Any) -> List[bool]:
    """Whether each layer has a sliding window."""
    config = decoder.config
    types = getattr(config, "layer_types", None)
    if types:
        return [kind == "sliding_attention" for kind in types[:config.num_hidden_layers]]
    return [getattr(config, "sliding_window", None) is not None] * config.num_hidden_layers


# ------------------------------------------------------------------------------------------------ weights


def layer_tensors(decoder: Any, index: int) -> Dict[str, torch.Tensor]:
    """The weights of a layer that `xq prepare` reads, on the CPU, by their names within the layer's self_attn."""
    attention = decoder.layers[index].self_attn
    tensors = {}
    for part in ("k_proj", "v_proj", "k_norm"):
        for name, parameter in getattr(attention, part, nn.Module()).named_parameters():
            tensors[f"{part}.{name}"] = parameter.detach().cpu().contiguous()
    return tensors


def write_checkpoint(decoder: Any, directory: pathlib.Path, layers: Optional[int] = None) -> None:
    """Writes a model directory with the parts that `xq prepare` reads: the configuration, and the weights of K and V
    for every layer, or for the first `layers` layers."""
    (directory / "config.json").write_text(decoder.config.to_json_string(use_diff=False), encoding="utf-8")
    tensors = {}
    for index in range(decoder.config.num_hidden_layers if layers is None else layers):
        for name, tensor in layer_tensors(decoder, index).items():
            tensors[f"model.layers.{index}.self_attn.{name}"] = tensor
    safetensors.torch.save_file(tensors, directory / "model.safetensors")


def check_prepared(decoder: Any, path: pathlib.Path, weights: "Iterator[Mapping[str, Array]]") -> None:
    """Raises ArgumentError unless the prepared file at `path` was made from this model's weights.

    `weights` yields each layer's prepared matrices, y = x * W. Their products are compared with the model's
    projections. A file with truncated ranks states how much of the projections it loses, which is added to the
    tolerance.
    """
    with safetensors.safe_open(path, "numpy") as file:
        lost = {name: file.get_tensor(name) for name in file.keys() if name.endswith(".lost")}
    for index, matrices in enumerate(weights):
        own = {name: tensor.float().numpy() for name, tensor in layer_tensors(decoder, index).items()}
        for which, (name, cut) in enumerate((("k", "rank_k"), ("v", "rank_v"))):
            product = _projection(matrices, name, own[f"{name}_proj.weight"].T)
            allowed = 0.01 + float(lost.get(f"layers.{index}.lost", numpy.zeros(2))[which])
            _compare(path, index, f"{name}_proj.weight", product, own[f"{name}_proj.weight"].T, allowed)
            if matrices.get(f"b{name}") is not None:
                _compare(path, index, f"{name}_proj.bias", matrices[f"b{name}"], own[f"{name}_proj.bias"], 0.01)
        if matrices.get("k_norm") is not None:
            gain = own["k_norm.weight"] + (type(decoder).__name__ in _NORM_ADDS_ONE)
            _compare(path, index, "k_norm.weight", matrices["k_norm"], gain, 0.01)


def _projection(matrices: Mapping[str, Array], name: str, own: Array) -> Array:
    """Wk or Wv of a prepared layer: the stored matrix, or the product of its factors U and A for each group of KV
    heads."""
    whole, a = matrices.get(f"w{name}"), matrices.get(f"a{name}")
    if whole is not None:
        return whole
    u = matrices.get(f"u{name}")
    u = matrices["uk"] if u is None else u
    assert u is not None and a is not None
    if a.shape[0] == u.shape[1]:
        return u @ a
    groups, rank, cols = u.shape[1] // a.shape[0], a.shape[0], a.shape[1] // (u.shape[1] // a.shape[0])
    return numpy.concatenate([u[:, g * rank:(g + 1) * rank] @ a[:, g * cols:(g + 1) * cols] for g in range(groups)], axis=1)


def _compare(path: pathlib.Path, layer: int, name: str, found: Array, own: Array, allowed: float) -> None:
    if found.shape != own.shape:
        raise argument_error("prepared", f"{path} has a {name} of shape {list(found.shape)} in layer {layer}, and the model "
                                         f"{list(own.shape)}: it was prepared from another model")
    size = float(numpy.linalg.norm(own))
    error = float(numpy.linalg.norm(found - own)) / size if size else float(numpy.abs(found).max())
    if not error <= allowed:
        raise argument_error("prepared", f"{path} differs from the model's {name} of layer {layer} by {error:.2g} of its size: it "
                                         "was prepared from other weights")


__all__ = ["ARCHITECTURES", "attentions", "check_prepared", "decoder_of", "sliding_layers", "torch_device",
           "unsupported", "write_checkpoint", "xq_device"]
