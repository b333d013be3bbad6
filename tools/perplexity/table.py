"""The rows of docs/accuracy.md."""

import dataclasses
import os

from realmodel import InputError, files

from .rows import row

BITS = (4, 3, 2)
PAPER_LATENT = {"axis_k": "channel", "rotation": False, "groups": 1}  # keys by channel, values by token, joint latents
# The layers of a model that gain most from a third bit in a cache of 2 bits. For SmolLM2-135M there are six, so that
# they take as much memory as three layers at 4 bits.
SENSITIVE = {"smollm2-135m": (1, 2, 3, 4, 18, 23)}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The properties of a model that decide which rows it can have."""
    heads: int
    kv_heads: int
    head_dim: int
    layers: int

    @property
    def mha(self):
        return self.kv_heads == self.heads

    def rank(self, share):
        """Returns a rank of about `share` times the full rank, as a multiple of 32."""
        return max(32, int(self.kv_heads * self.head_dim * share) // 32 * 32)

    def groups(self):
        """Returns the divisors of the number of KV heads, except 1."""
        return [groups for groups in range(2, self.kv_heads + 1) if self.kv_heads % groups == 0]


def shape_of(folder):
    path = os.path.join(folder, "config.json")
    config = files.read_json(path)
    try:
        heads = config["num_attention_heads"]
        return Shape(heads, config.get("num_key_value_heads", heads),
                     config.get("head_dim") or config["hidden_size"] // heads, config["num_hidden_layers"])
    except KeyError as missing:
        raise InputError(f"{path}: {missing.args[0]} is missing") from None


def paper(model, shape):
    """The methods of the paper's table and the methods that it compares with, as the paper describes them."""
    rows = [row("paper", model, "fp16")] + [row("paper", model, "kivi", bits) for bits in BITS]
    if not shape.mha:
        rows += [row("paper", model, "latent", bits, **PAPER_LATENT) for bits in BITS]
        rows += [row("paper", model, "latent-cl", bits) for bits in BITS]
    rows += [row("paper", model, "x", bits, rotation=False) for bits in BITS]
    return rows + ([row("paper", model, "x-cl", bits) for bits in BITS] if shape.mha else [])


def default(model, shape):
    """The default method of xq, calibrated on the text after the windows."""
    return [row("default", model, "x" if shape.mha else "latent", bits, calibrated="rest") for bits in BITS]


def choices(model, shape):
    """Choices that the paper leaves open."""
    method = "x-cl" if shape.mha else "latent-cl"
    options = [{}, {"first_layers": 1}, {"first_layers": 5}]
    if not shape.mha:  # an accumulator is the same in both methods
        options += [{"accumulator_bits": 8}, {"accumulator_bits": 4}]
    return ([row("choices", model, method, bits, axis_k="channel") for bits in (BITS if shape.mha else (3,))] +
            [row("choices", model, method, 3, **each) for each in options])


def beyond(model, shape):
    """Rows that show the effect of each part of the default, and of other choices, on its own. Latents have keys by head,
    joint values and f16 weights in all of them."""
    plain = "x" if shape.mha else "latent"
    base = {} if shape.mha or shape.kv_heads == 1 else {"groups": f"{shape.kv_heads},1", "weights": "f16"}

    def made(bits, **options):
        return row("beyond", model, plain, bits, **{**base, **options})

    rows = [made(bits) for bits in BITS]
    rows += [made(2, calibrated="gpl-3"), made(2, calibrated="rest", group="row")]
    if shape.mha:
        return rows
    rows.append(made(2, clip=1))
    if model in SENSITIVE:
        rows.append(made(2, calibrated="rest", layer_bits=",".join("3" if layer in SENSITIVE[model] else "2"
                                                                    for layer in range(shape.layers))))
    rows += [row("beyond", model, plain, bits, calibrated="rest", rank=f"{rank},{rank}", weights="f16")
             for bits, rank in ((3, shape.rank(2 / 3)), (4, shape.rank(1 / 2)))]
    rows += [made(4, calibrated="rest", weights=kind) for kind in ("int8", "e4m3")]
    return rows + [row("beyond", model, "latent-cl", 2, rotation=True)]


def groups(model, shape):
    """Joint latents and latents of each KV head, for keys and for values, with f16 weights; and the default, which has
    int8 weights. A group of channels ends with its latent, so a larger group makes no difference if both keys and
    values have a latent for each head."""
    if shape.mha or shape.kv_heads == 1:
        return []
    each, rows = shape.kv_heads, []
    for k, v in ((1, 1), (each, 1), (1, each), (each, each)):
        for group in (64, 128):
            if group > 64 and min(k, v) > 1 and group > shape.head_dim:
                continue
            for bits in BITS:
                for options in ({}, {"calibrated": "rest"}, {"feedback": True}, {"calibrated": "rest", "feedback": True}):
                    rows.append(row("groups", model, "latent", bits, groups=f"{k},{v}", group=group, weights="f16", **options))
    default = {"groups": f"{each},{each}", "group": 64 if shape.head_dim <= 64 else 128, "weights": "int8", "calibrated": "rest"}
    for options in (default, {**default, "feedback": True}):
        rows += [dataclasses.replace(row("groups", model, "latent", bits, **options), spelled=("group", "groups", "weights"))
                 for bits in BITS]
    between = [k for k in shape.groups() if k != each]
    return rows + [row("groups", model, "latent", bits, groups=f"{k},1", group=64, weights="f16", calibrated="rest")
                   for k in between for bits in BITS]


def feedback(model, shape):
    """The default with feedback, and at 2 bits also without a calibration."""
    plain = "x" if shape.mha else "latent"
    return [*(row("feedback", model, plain, bits, calibrated="rest", feedback=True) for bits in BITS),
            row("feedback", model, plain, 2, feedback=True)]


def brief(model, shape):
    """A few rows, which show that a model works and how good its default is."""
    return [row("brief", model, "fp16"), row("brief", model, "kivi", 4), row("brief", model, "kivi", 2),
            *(row("brief", model, "x" if shape.mha else "latent", bits, calibrated="rest") for bits in BITS),
            *(row("brief", model, "x" if shape.mha else "latent", bits, calibrated="rest", feedback=True) for bits in (3, 2))]


def shortened(rows):
    """The same rows over a quarter of the windows, after the fp16 row that they are compared with. Each model's section tells
    choices apart, for which the KL divergence needs no more windows."""
    fp16 = row(rows[0].section, rows[0].model, "fp16")
    return [dataclasses.replace(each, short=True) for each in (fp16, *rows)]


def rows_of(whole, short):
    """Returns all rows of the models in `whole`, and the brief rows of those in `short`; both map names to
    directories."""
    rows = []
    for section in (paper, default, feedback, groups, beyond, choices):
        for name, folder in whole.items():
            made = section(name, shape_of(folder))
            rows += shortened(made) if section in (beyond, choices) else made
    for name, folder in short.items():
        rows += brief(name, shape_of(folder))
    return rows
