"""The rows to measure. A row is a model, a cache method and its options."""

import dataclasses
import json

# The options of a row have the names that they have in a spec (docs/spec.md) and in `llama perplexity`.
PREPARED = ("rank", "groups", "rotation", "feedback")  # options that prepared weights depend on
GROUPED = ("feedback", "calibrated")  # with one of these, prepared weights also depend on the quantization group


@dataclasses.dataclass(frozen=True)
class Row:
    section: str  # section of the page; it only groups rows and changes nothing that is computed
    model: str
    method: str
    bits: int = 16
    options: tuple = ()  # pairs (name, value), sorted by name

    def key(self):
        """Identifies the row's measurement. Rows of several sections may share it."""
        return json.dumps([self.model, self.method, self.bits, self.options])

    def arguments(self):
        """Returns the row's arguments for `llama perplexity`."""
        bits = [] if self.method == "fp16" else ["--bits", str(self.bits)]
        return ["--cache", self.method, *bits, *as_flags(pair for pair in self.options if pair[0] != "calibrated")]

    def preparation(self, calibrations):
        """Returns the arguments of `xq prepare`, or None if the row needs no prepared weights. `calibrations` holds
        files with the activations of texts, by the names that the option `calibrated` takes."""
        options = dict(self.options)
        if not (self.method.startswith("latent") or self.method == "x" and options.get("rotation", True)):
            return None
        kept = (*PREPARED, "group") if any(options.get(name) for name in GROUPED) else PREPARED
        arguments = ["--method", self.method, *as_flags(pair for pair in self.options if pair[0] in kept)]
        if self.method == "latent-cl" and "first_layers" in options:
            arguments += ["--base-layer", str(options["first_layers"] - 1)]
        if "calibrated" in options:
            arguments += ["--calibration", calibrations[options["calibrated"]]]
        return arguments


def as_flags(options):
    flags = []
    for name, value in options:
        if value is False:
            name = "no-" + name
        flags += ["--" + name.replace("_", "-")] + ([] if isinstance(value, bool) else [str(value)])
    return flags


def row(section, model, method, bits=16, **options):
    return Row(section, model, method, bits, tuple(sorted(options.items())))
