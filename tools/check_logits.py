#!/usr/bin/env python3
"""Checks the forward passes of this repository against an independent implementation: PyTorch and Hugging Face
transformers, in float32 with eager attention.

    python -m venv /tmp/check
    /tmp/check/bin/pip install -r tools/requirements.txt torch==2.15.0 transformers==4.57.1 accelerate
    /tmp/check/bin/python tools/check_logits.py --model DIR --ids FILE [--gguf FILE] [--logits FILE]

Both read the weights of DIR (models.py convert); with --gguf both read the GGUF file, each with its own
dequantization and its own handling of what that format changes. "Ours" is tools/realmodel/forward.py, with the
activations that it records, or else what another program computed for the same token ids (a file of `models.py
tokens`) and left as the tensor `logits` [tokens, vocabulary] of --logits FILE, as `llama logits` does.

Prints the largest and the relative difference and the perplexity of both; exits 1 when the relative difference
of the logits is beyond --limit. Not part of `make test`: torch is 2 GB. docs/models.md holds figures.
"""

import argparse
import os
import sys

import torch
import transformers

from realmodel import InputError, agreement, convert, tensors, tokenizer
from realmodel.forward import Forward
from realmodel.gguf_model import Model


def run_theirs(options, ids):
    """Runs transformers. Returns the logits and each layer's x, q, k and v before RoPE; q is after QK-norm if the model
    has it."""
    source = {"pretrained_model_name_or_path": options.model}
    if options.gguf:
        source = {"pretrained_model_name_or_path": os.path.dirname(os.path.abspath(options.gguf)),
                  "gguf_file": os.path.basename(options.gguf)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, attn_implementation="eager").eval()
    seen = {}

    def record(name, of_input=False):
        def hook(_module, inputs, output):
            seen[name] = (inputs[0] if of_input else output)[0].numpy()
        return hook

    for index, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        attention.k_proj.register_forward_hook(record(f"x.{index}", of_input=True))
        for name in "qkv":
            getattr(attention, name + "_proj").register_forward_hook(record(f"{name}.{index}"))
        if hasattr(attention, "q_norm"):
            attention.q_norm.register_forward_hook(record(f"normed.{index}"))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    for index in range(len(model.model.layers)):
        if f"normed.{index}" in seen:  # [H, tokens, dh]
            seen[f"q.{index}"] = seen.pop(f"normed.{index}").swapaxes(0, 1)
    return logits, seen


def run_ours(options, size, ids):
    """Returns the logits of this repository, and each layer's activations unless another program computed the
    logits."""
    if options.logits:
        return tensors.Reader(options.logits).read("logits", (len(ids), size.vocab_size)), None
    weights = Model(options.gguf).weight if options.gguf else tensors.Reader(convert.weights_path(options.model)).read
    forward = Forward(size, weights, ids)
    seen = {}
    for layer in range(size.num_hidden_layers):
        seen.update((f"{name}.{layer}", array) for name, array in forward.step().items() if name in "xqkv")
    return forward.logits(), seen


def check(options):
    size = convert.read_shape(options.model)
    ids = tokenizer.read_ids(options.ids, size.vocab_size)
    ours, our_seen = run_ours(options, size, ids)
    theirs, their_seen = run_theirs(options, ids)
    found = agreement.compare(ours, theirs, ids)
    print(f"{options.logits or 'realmodel/forward.py'} against transformers, weights of {options.gguf or options.model}, "
          f"{len(ids)} tokens")
    print(found)
    for kind in "xqkv" if our_seen else ():
        worst = max(agreement.relative(our_seen[name].reshape(len(ids), -1), their_seen[name].reshape(len(ids), -1))
                    for name in (f"{kind}.{layer}" for layer in range(size.num_hidden_layers)))
        print(f"{kind}: largest relative difference of a layer {worst:.2e}")
    return 0 if found.relative < options.limit else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory that `models.py convert` wrote")
    parser.add_argument("--gguf", metavar="FILE", help="GGUF file to take the weights from (the directory's weights)")
    parser.add_argument("--logits", metavar="FILE", help="safetensors file with another program's logits for the same tokens")
    parser.add_argument("--ids", required=True, metavar="FILE", help="token ids that `models.py tokens` wrote")
    parser.add_argument("--limit", type=float, default=1e-4, help="largest relative difference that passes (1e-4)")
    options = parser.parse_args()
    if options.gguf and options.logits:
        parser.error("--gguf and --logits: give one of them, because another program reads the directory's weights")
    transformers.utils.logging.disable_progress_bar()
    try:
        return check(options)
    except InputError as error:
        print(f"check_logits: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
