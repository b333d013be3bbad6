"""The rows of docs/accuracy.md."""

import os

from realmodel import files

from .rows import row

BITS = (4, 3, 2)
PAPER_LATENT = {"axis_k": "channel", "rotation": False}  # keys by channel, values by token


def is_mha(folder):
    config = files.read_json(os.path.join(folder, "config.json"))
    heads = config.get("num_attention_heads")
    return config.get("num_key_value_heads", heads) == heads


def paper(model, mha):
    """The methods of the paper's table, and what it compares with, as it describes them."""
    rows = [row("paper", model, "fp16")] + [row("paper", model, "kivi", bits) for bits in BITS]
    if not mha:
        rows += [row("paper", model, "latent", bits, **PAPER_LATENT) for bits in BITS]
        rows += [row("paper", model, "latent-cl", bits) for bits in BITS]
    rows += [row("paper", model, "x", bits, rotation=False) for bits in BITS]
    return rows + ([row("paper", model, "x-cl", bits) for bits in BITS] if mha else [])


def default(model, mha):
    """What xq does where nothing else is asked for, calibrated on the text after the windows."""
    return [row("default", model, "x" if mha else "latent", bits, calibrated="rest") for bits in BITS]


def choices(model, mha):
    """What the paper leaves open."""
    method = "x-cl" if mha else "latent-cl"
    options = [{"axis_k": "channel"}, {"accumulator_bits": 8}, {"accumulator_bits": 4}, {"first_layers": 1},
               {"first_layers": 5}]
    return [row("choices", model, method, 3)] + [row("choices", model, method, 3, **each) for each in options]


def beyond(model, mha):
    """Each part of the default, and others, on its own."""
    plain = "x" if mha else "latent"
    rows = [row("beyond", model, plain, bits) for bits in BITS]
    rows += [row("beyond", model, plain, 2, clip=1),
             row("beyond", model, plain, 2, calibrated="gpl-3"),
             row("beyond", model, plain, 2, calibrated="rest", clip=1),
             row("beyond", model, plain, 2, calibrated="rest", group="row"),
             row("beyond", model, plain, 2, calibrated="rest", first_layers=0)]
    if mha:
        return rows
    return rows + [row("beyond", model, "latent", 3, calibrated="rest", rank="128,128"),
                   row("beyond", model, "latent", 4, calibrated="rest", rank="96,96"),
                   *(row("beyond", model, "latent", bits, calibrated="rest", groups=3) for bits in (4, 2)),
                   *(row("beyond", model, "latent", 4, calibrated="rest", weights=kind) for kind in ("int8", "e4m3")),
                   row("beyond", model, "latent-cl", 2, rotation=True)]


def brief(model, mha):
    """Enough to see that a model works, and how its default does."""
    return [row("brief", model, "fp16"), row("brief", model, "kivi", 4), row("brief", model, "kivi", 2),
            *(row("brief", model, "x" if mha else "latent", bits, calibrated="rest") for bits in BITS)]


def rows_of(whole, short):
    """Rows of models to be measured whole, and of those to be measured in short: names to directories."""
    rows = []
    for section in (paper, default, beyond, choices):
        for name, folder in whole.items():
            rows += section(name, is_mha(folder))
    for name, folder in short.items():
        rows += brief(name, is_mha(folder))
    return rows
