"""What is measured: a row is a model, a cache and its options."""

import dataclasses
import json

# Options of a row are those of a spec (docs/spec.md) and of `llama perplexity`, by these names.
PREPARED = ("rank", "groups", "rotation", "first_layers")  # what prepared weights depend on


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
        return ["--cache", self.method, *bits, *as_flags(self.options)]

    def preparation(self):
        """Arguments of `xq prepare`, or None where no weights are prepared."""
        if self.method not in ("latent", "latent-cl"):
            return None
        cross = self.method == "latent-cl"
        return ["--method", self.method, *as_flags((name, value) for name, value in self.options if name in PREPARED
                                                   and (cross or name != "first_layers"))]


def as_flags(options):
    flags = []
    for name, value in options:
        flags += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
    return flags


def row(section, model, method, bits=16, **options):
    return Row(section, model, method, bits, tuple(sorted(options.items())))
