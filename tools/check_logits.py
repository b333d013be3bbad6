#!/usr/bin/env python3
"""Checks tools/smollm2.py against an independent implementation: PyTorch and Hugging Face transformers, which
read the GGUF file by themselves (own dequantization of file and rows, own tokenizer, own forward pass).

    python -m venv /tmp/check && /tmp/check/bin/pip install torch transformers==4.57.1 gguf accelerate
    /tmp/check/bin/python tools/check_logits.py --gguf FILE --model DIR [--text FILE] [--tokens N]

Prints the largest and the relative difference of logits and of the recorded activations; exits 1 beyond
--limit. Not part of `make test`: torch is 2 GB. docs/models.md holds the figures of one run.
"""

import argparse
import os
import re
import sys

import numpy
import torch
import transformers

from realmodel import files, shape, tensors, tokenizer
from realmodel.forward import Forward
from realmodel.llama_gguf import Model


def relative(ours, theirs):
    return float(numpy.linalg.norm(ours - theirs) / numpy.linalg.norm(theirs))


def same_tokens(options):
    """Compares the token ids of the whole text without its digits: transformers' reading of a GGUF file does
    not know that SmolLM2 splits digits off before anything else (tokenizer.ggml.pre = smollm)."""
    theirs = transformers.AutoTokenizer.from_pretrained(
        os.path.dirname(options.gguf), gguf_file=os.path.basename(options.gguf))
    ours = tokenizer.tokenizers.Tokenizer.from_file(os.path.join(options.model, "tokenizer.json"))
    with open(options.text, encoding="utf-8") as file:
        text = re.sub(r"\d", "", file.read())
    our_ids = ours.encode(text, add_special_tokens=False).ids
    same = our_ids == theirs(text, add_special_tokens=False)["input_ids"]
    print(f"token ids of the text without digits: {len(our_ids)}, {'equal' if same else 'DIFFERENT'}")
    return same


def run_theirs(gguf, ids):
    """Logits and, per layer, x, pre-RoPE q, k and v."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype=torch.float32).eval()
    seen = {}

    def record(name):
        def hook(_module, inputs, output):
            seen["x" + name[1:]] = inputs[0][0].numpy()
            seen[name] = output[0].numpy()
        return hook

    for index, layer in enumerate(model.model.layers):
        for name in "qkv":
            getattr(layer.self_attn, name + "_proj").register_forward_hook(record(f"{name}.{index}"))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    return logits, seen


def run_ours(size, weights, ids):
    forward = Forward(size, weights, ids)
    seen = {}
    for layer in range(size.num_hidden_layers):
        for name, array in forward.step().items():
            if name in "xqkv":
                seen[f"{name}.{layer}"] = array.reshape(len(ids), -1)
    return forward.logits(), seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--model", required=True, help="the directory that `smollm2.py convert` wrote")
    parser.add_argument("--text", default="/usr/share/common-licenses/GPL-3")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--limit", type=float, default=1e-4, help="relative difference that is still good")
    options = parser.parse_args()

    config = os.path.join(options.model, "config.json")
    size = shape.from_config(files.read_json(config), config)
    ids = tokenizer.encode_file(options.model, options.text, options.tokens, size.vocab_size)
    good = same_tokens(options)

    logits, seen = run_theirs(options.gguf, ids)
    sources = {
        "weights of the GGUF file": Model(options.gguf).weight,
        "weights of model.safetensors (fp16)":
            tensors.Reader(os.path.join(options.model, "model.safetensors")).read,
    }
    for name, weights in sources.items():
        our_logits, our_seen = run_ours(size, weights, ids)
        same = (our_logits.argmax(-1) == logits.argmax(-1)).mean()
        print(f"{name}:")
        print(f"  logits: largest difference {numpy.abs(our_logits - logits).max():.2e}, relative "
              f"{relative(our_logits, logits):.2e}, same next token at {same:.2%} of the positions")
        for kind in "xqkv":
            worst = max(relative(our_seen[f"{kind}.{i}"], seen[f"{kind}.{i}"])
                        for i in range(size.num_hidden_layers))
            print(f"  {kind}: largest relative difference of a layer {worst:.2e}")
        if name.startswith("weights of the GGUF"):
            good = good and relative(our_logits, logits) < options.limit
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
