"""What is measured: a row is a model, a cache and its options."""

import dataclasses
import json

# Options of a row are those of a spec (docs/spec.md) and of `llama perplexity`, by these names.
PREPARED = ("rank", "groups", "rotation", "feedback")  # what prepared weights depend on
GROUPED = ("feedback", "calibrated")  # with one of these, on the quantization group too


@dataclasses.dataclass(frozen=True)
class Row:
    section: str  # of the page; it groups rows, and names nothing that is computed
    model: str
    method: str
    bits: int = 16
    options: tuple = ()  # pairs, sorted by name

    def key(self):
        """What makes the row the same whatever section it stands in."""
        return json.dumps([self.model, self.method, self.bits, self.options])

    def arguments(self):
        """For `llama perplexity`."""
        bits = [] if self.method == "fp16" else ["--bits", str(self.bits)]
        return ["--cache", self.method, *bits, *as_flags(pair for pair in self.options if pair[0] != "calibrated")]

    def preparation(self, calibrations):
        """Arguments of `xq prepare`, or None where no weights are prepared. `calibrations`: activations of texts, by
        the name that the option `calibrated` gives."""
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
