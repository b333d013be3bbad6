"""The program `xq`, which the wheel carries. It makes prepared weights, tunes and verifies."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple, Union

from ._c import PACKAGE, Status
from ._error import ArgumentError, DeviceError, Error, FileError, argument_error
from ._plan import Spec, spec_text

LOGGER = logging.getLogger("xq")


def program() -> str:
    """The path of the program: $XQ_PROGRAM, else the one in the package. Raises FileError if there is none."""
    chosen = os.environ.get("XQ_PROGRAM")
    path = chosen or str(PACKAGE / "bin" / "xq")
    if not os.access(path, os.X_OK):
        raise FileError(f"{path} is no program; " + ("XQ_PROGRAM names it" if chosen else
                        "this installation of the package has none: install a wheel, or set XQ_PROGRAM to an xq"),
                        status=Status.ERROR_IO, stage="file", file=path)
    return path


def main() -> NoReturn:
    """The entry point `xq`: replaces this process by the program."""
    try:
        path = program()
    except Error as error:
        sys.exit(f"xq: {error}")
    os.execv(path, ["xq", *sys.argv[1:]])


def _run(subcommand: str, arguments: Sequence[str], stdin: bytes = b"") -> Dict[str, Any]:
    """Runs a subcommand with --json and returns the JSON object. The program's warnings go to the logger "xq"."""
    done = subprocess.run([program(), subcommand, *arguments, "--json", "-"], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    text = done.stderr.decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line]
    if done.returncode:
        raise _failure(subcommand, done.returncode, lines, text)
    for line in lines:
        LOGGER.warning("%s", line)
    result: Dict[str, Any] = json.loads(done.stdout)
    return result


def _failure(subcommand: str, code: int, lines: List[str], text: str) -> Error:
    """The exception for a failed run. The program's last line is the message, and its exit status gives the kind of
    error (xq --help)."""
    begin = f"xq {subcommand}: "
    last = lines[-1] if lines else ""
    message = last[len(begin):] if last.startswith(begin) else last
    if code < 0:
        return Error(message or f"xq {subcommand} was ended by signal {-code}", log=text or None)
    if code in (1, 2):
        return ArgumentError(message, status=Status.ERROR_ARGUMENT, stage="argument", log=text)
    if code == 3:
        return DeviceError(message, status=Status.ERROR_NO_DEVICE, stage="device", log=text)
    return Error(message or f"xq {subcommand} ended with status {code}", log=text or None)


def prepare(model_dir: Union[str, os.PathLike[str]], output: Union[str, os.PathLike[str]], *, method: Optional[str] = None,
            rank: Union[int, Tuple[int, int], None] = None, groups: Union[int, Tuple[int, int], None] = None,
            rotation: Optional[bool] = None,
            feedback: bool = False, group: Optional[int] = None, layers: Optional[Sequence[int]] = None,
            base_layer: Optional[int] = None, store: Optional[str] = None, pack: bool = False, weights: Optional[str] = None,
            calibration: Union[str, os.PathLike[str], None] = None, threads: Optional[int] = None,
            spec: Optional[Spec] = None) -> Dict[str, Any]:
    """Prepares the projections of a Hugging Face model directory (config.json and safetensors) for kernels. `output` is
    a safetensors file for `Prepared` (docs/prepare.md), which is written completely or not at all. The call runs the
    program `xq prepare` on the CPU.

    method       the cache method: "x", "latent", "x-cl", "latent-cl"; None: x if every query head has a KV head of its
                 own, else latent
    rank         columns kept of the latents, one number or a pair for keys and values; None: all
    groups       the number of groups of KV heads with a latent each, one number or a pair for keys and values
    rotation     whether the cached values are rotated; None: the method's default
    feedback     whether later channels of a group make up for the quantization errors of earlier ones
    group        elements that share a scale; feedback depends on it
    layers       the layers to prepare; None: all
    base_layer   cross-layer methods: the layer that starts the accumulator
    store        the type of the stored matrices: "f16", "bf16", "f32"; "none": only packed weights are stored
    pack         whether packed weights are stored as well
    weights      the type of packed weights: "f16", "bf16", "int8", "e4m3"
    calibration  a file with the activations of a text; latents are chosen that quantize such activations best
    threads      the number of layers that are worked on at a time
    spec         a spec, which the choices above override

    Returns the result as `xq prepare --json` writes it: {"file": ..., "layers": [{"layer": 0, "method": ..., ...},
    ...]}. Raises ArgumentError with the program's message if it refuses its arguments, and FileError if there is no
    program.
    """
    arguments = [os.fspath(model_dir), "--out", os.fspath(output)]
    ranks, parts = (",".join(str(n) for n in pair) if isinstance(pair, (tuple, list)) else pair for pair in (rank, groups))
    which = None if layers is None else ",".join(str(layer) for layer in layers)
    if which == "":
        raise argument_error("layers", "the list is empty; valid: a list of layers, or None for all of them")
    for option, value in (("--method", method), ("--rank", ranks), ("--groups", parts), ("--group", group), ("--layers", which),
                          ("--base-layer", base_layer), ("--store", store), ("--weights", weights),
                          ("--calibration", calibration), ("--threads", threads), ("--spec", None if spec is None else "-")):
        if value is not None:
            arguments += [option, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    arguments += ["--pack"] * pack + ["--feedback"] * feedback
    if rotation is not None:
        arguments.append("--rotation" if rotation else "--no-rotation")
    return _run("prepare", arguments, b"" if spec is None else spec_text("spec", spec))
