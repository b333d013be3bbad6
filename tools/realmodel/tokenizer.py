"""The byte-level BPE tokenizer of SmolLM2: from a GGUF's vocabulary to a tokenizer.json, and use of it."""

import os

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from . import InputError
from .files import published

CONTROL = 3  # token type of special tokens in GGUF


def from_gguf(model):
    kind, split = model.field("tokenizer.ggml.model"), model.field("tokenizer.ggml.pre")
    if (kind, split) != ("gpt2", "smollm"):
        raise InputError(f"{model.path}: tokenizer {kind}/{split} is not supported; expected gpt2/smollm")
    tokens = model.field("tokenizer.ggml.tokens")
    types = model.field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in model.field("tokenizer.ggml.merges")]
    if len(types) != len(tokens):
        raise InputError(f"{model.path}: {len(tokens)} tokens but {len(types)} token types")
    try:
        bpe = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    except Exception as error:
        raise InputError(f"{model.path}: the vocabulary and merges do not fit ({error})") from error
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types) if kind == CONTROL]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in special])
    return tokenizer


def save(tokenizer, path):
    with published(path) as file:
        file.write(tokenizer.to_str(pretty=False).encode())


def encode_file(folder, text_path, tokens, vocab_size):
    """The first `tokens` token ids of a text file."""
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        raise InputError(f"{path}: No such file or directory")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:
        raise InputError(f"{path}: not a tokenizer ({error})") from error
    try:
        with open(text_path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"{text_path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{text_path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if len(ids) < tokens:
        raise InputError(f"{text_path}: only {len(ids)} tokens; --tokens asks for {tokens}")
    ids = ids[:tokens]
    if max(ids) >= vocab_size:
        raise InputError(f"{path}: token id {max(ids)} is beyond the model's vocabulary of {vocab_size}")
    return ids
