#!/usr/bin/env python3
"""Generates text with a transformers model whose attention remembers through xq, and says what its cache takes and costs.

    generate.py MODEL --prompt TEXT [--prompt TEXT ...]     the texts, tokens a second, the cache's bytes against fp16
    generate.py MODEL --perplexity FILE                     of a text, with xq's cache and with the model's own attention

MODEL is a Hugging Face directory of a Llama, Qwen2, Qwen3, Gemma 3 (text) or Mistral model with tokenizer.json. Read it from top to
bottom as a notebook: each step is a cell.
"""

# %% The packages: torch, transformers and xq
import argparse
import math
import os
import sys
import time

import torch
import transformers
import xq
import xq.transformers


# %% The command line
def parse(arguments):
    parser = argparse.ArgumentParser(prog="generate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="directory with config.json, safetensors and tokenizer.json")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="text to continue; prompts form one batch (may be repeated)")
    parser.add_argument("--tokens", type=int, default=24, metavar="N", help="new tokens of each text (24)")
    parser.add_argument("--bits", type=int, default=4, metavar="B", help="bits of a cached element: 2, 3, 4, 8 (4)")
    parser.add_argument("--method", choices=("latent", "x", "latent-cl", "x-cl"), help="what is cached (latent)")
    parser.add_argument("--prepared", metavar="FILE", help="prepared weights of MODEL, written by `xq prepare` (prepared now)")
    parser.add_argument("--prefill", choices=("torch", "xq"), default="torch",
                        help="attention over the prompt: torch is the model's own, xq is the kernels over the cache (torch)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="device of the model; cpu runs xq's software device, at a few tokens a second for small models "
                             "(cuda if there is a GPU, else cpu)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"),
                        help="type of the model's weights (float32 on the CPU, else bfloat16)")
    parser.add_argument("--perplexity", metavar="FILE", help="UTF-8 text whose perplexity is computed")
    parser.add_argument("--window", type=int, default=128, metavar="N", help="tokens of a window of that text (128)")
    parser.add_argument("--windows", type=int, default=1, metavar="N", help="windows of that text (1)")
    options = parser.parse_args(arguments)
    for name, least in (("tokens", 1), ("window", 2), ("windows", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: expected {least} or more")
    if not options.prompt and not options.perplexity:
        parser.error("give --prompt TEXT or --perplexity FILE")
    return options


# %% A model and its tokenizer
def load(options):
    dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, dtype)).to(options.device).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(options.model, "tokenizer.json"))
    return model, tokenizer


def encode(tokenizer, texts, device):
    """Returns ids and mask of a batch, padded on the left. The mask excludes pad tokens, so they may have any id."""
    rows = [tokenizer(text).input_ids for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


# %% Generation: the cache is made for the batch, and generate() fills it
def generate(options, model, tokenizer, enabled):
    ids, mask = encode(tokenizer, options.prompt, model.device)
    cache = enabled.cache(batch=len(ids), tokens=ids.shape[1] + options.tokens)
    began = time.perf_counter()
    out = model.generate(ids, attention_mask=mask, max_new_tokens=options.tokens, do_sample=False, pad_token_id=0,
                         **{enabled.cache_name: cache})  # cache=cache; in older releases past_key_values=cache
    seconds = time.perf_counter() - began
    for row, kept in zip(out, mask):
        print(tokenizer.decode(row[ids.shape[1] - int(kept.sum()):], skip_special_tokens=True))
        print("-" * 20)
    added = out.shape[1] - ids.shape[1]
    print(f"{added} tokens of each text in {seconds:.1f} s: {added * len(ids) / seconds:.2f} tokens/s, kernels compiled where new")
    show_memory(cache)


# %% Memory: the bytes of the cache's pages, compared with keys and values of 16 bits
def show_memory(cache):
    memory = cache.memory()
    print(f"cache: {memory.used:,} bytes for {sum(cache.sequence_lengths)} tokens, in whole pages; "
          f"fp16 keys and values: {memory.fp16:,} bytes; share {memory.share:.3f}")


# %% Perplexity: each window is a sequence of its own, whose tokens all attend over the cache
def losses(model, windows, cache=None):
    """Returns the mean of -log p over all tokens but the first of each window. Without a cache the model's own
    attention runs."""
    total, remembering = 0.0, {"use_cache": False}
    for window in windows:
        if cache is not None:
            cache.reset()
            remembering = {cache.enabled.cache_name: cache}
        logits = model(window[None], **remembering).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
    return total / sum(len(window) - 1 for window in windows)


def perplexity(options, model, tokenizer, enable):
    with open(options.perplexity, encoding="utf-8") as file:
        ids = torch.tensor(tokenizer(file.read()).input_ids, device=model.device)
    if len(ids) < options.window * options.windows:
        sys.exit(f"generate.py: {options.perplexity}: {len(ids)} tokens; {options.windows} windows of {options.window} need more")
    windows = ids[:options.window * options.windows].view(options.windows, options.window)
    with torch.no_grad():
        own = losses(model, windows)
        enabled = enable("xq")
        cache = enabled.cache(1, options.window)
        through_xq = losses(model, windows, cache)
    print(f"perplexity of {options.windows} x {options.window} tokens of {options.perplexity}: {math.exp(through_xq):.4f} with xq's "
          f"cache, {math.exp(own):.4f} with the model's own attention")
    show_memory(cache)
    xq.transformers.disable(model)


# %% The whole program
def main(arguments=None):
    options = parse(arguments)
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = load(options)

    def enable(prefill):
        return xq.transformers.enable(model, options.bits, options.method, prepared=options.prepared, prefill=prefill)

    if options.perplexity:
        perplexity(options, model, tokenizer, enable)
    if options.prompt:
        enabled = enable(options.prefill)
        generate(options, model, tokenizer, enabled)


if __name__ == "__main__":
    try:
        main()
    except (xq.Error, OSError, UnicodeDecodeError) as error:
        sys.exit(f"generate.py: {error}")
