"""Tokenizers: makes a tokenizer.json from the vocabulary of a GGUF file, and uses it. There are two kinds: byte-level
BPE (SmolLM2) and SentencePiece's BPE (Gemma)."""

import os

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from . import InputError
from .files import published

# Token types in GGUF.
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
SPACE = "\u2581"  # the character that SentencePiece writes for a space


def bpe(path, **options):
    try:
        return tokenizers.Tokenizer(models.BPE(**options))
    except Exception as error:
        raise InputError(f"{path}: the vocabulary and the merges do not match ({error})") from error


def byte_level(model, tokens, types):
    merges = [tuple(merge.split(" ", 1)) for merge in model.field("tokenizer.ggml.merges")]
    tokenizer = bpe(model.path, vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def merges_by_score(scores):
    """Returns the merges that give the same tokens as SentencePiece's BPE, which repeatedly joins the two neighbours
    that make the token of the highest score. The list has every pair of tokens that makes a token, with the highest
    scores first."""
    order = {token: index for index, token in enumerate(scores)}
    merges = []
    for token, score in scores.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in scores and right in scores:
                merges.append((-score, order[token], order[left], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def sentence_piece(model, tokens, types):
    if model.field("tokenizer.ggml.add_space_prefix", True):
        raise InputError(f"{model.path}: tokenizer.ggml.add_space_prefix is true, which is not supported")
    scores = model.field("tokenizer.ggml.scores")
    if len(scores) != len(tokens):
        raise InputError(f"{model.path}: {len(tokens)} tokens but {len(scores)} scores")
    if types.count(BYTE) != 256:
        raise InputError(f"{model.path}: {types.count(BYTE)} byte tokens; expected 256")
    whole = {CONTROL, UNKNOWN, USER_DEFINED, BYTE}  # token types that are never a part or the result of a merge
    parts = {token: score for token, score, kind in zip(tokens, scores, types) if kind not in whole}
    tokenizer = bpe(model.path, vocab={token: index for index, token in enumerate(tokens)},
                    merges=merges_by_score(parts), byte_fallback=True, fuse_unk=True,
                    unk_token=tokens[model.token_id("unknown")])
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    # Added tokens are found before any merge, the longest first, in the text after normalization.
    tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=True)
                          for token, kind in zip(tokens, types) if kind == USER_DEFINED])
    return tokenizer


def gemma_tokens(tokens, types):
    """Restores U+2581 in Gemma's user-defined tokens, in which llama.cpp writes spaces."""
    return [token.replace(" ", SPACE) if kind == USER_DEFINED else token for token, kind in zip(tokens, types)]


def from_gguf(model):
    kind, split = model.field("tokenizer.ggml.model"), model.field("tokenizer.ggml.pre", "default")
    kinds = {("gpt2", "smollm"): byte_level, ("llama", "default"): sentence_piece}
    if (kind, split) not in kinds:
        raise InputError(f"{model.path}: tokenizer {kind}/{split} is not supported; expected "
                         + " or ".join("/".join(known) for known in kinds))
    tokens, types = model.field("tokenizer.ggml.tokens"), model.field("tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise InputError(f"{model.path}: {len(tokens)} tokens but {len(types)} token types")
    if kind == "llama":
        tokens = gemma_tokens(tokens, types)
    tokenizer = kinds[kind, split](model, tokens, types)
    special = [token for token, kind in zip(tokens, types) if kind in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in special])
    if model.field("tokenizer.ggml.add_bos_token", False):
        first = model.token_id("bos")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[first]} $A", special_tokens=[(tokens[first], first)])
    return tokenizer


def save(tokenizer, path):
    with published(path) as file:
        file.write(tokenizer.to_str(pretty=False).encode())


def load(folder):
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        raise InputError(f"{path}: No such file or directory")
    try:
        return tokenizers.Tokenizer.from_file(path)
    except Exception as error:
        raise InputError(f"{path}: this is no tokenizer ({error})") from error


def read_text(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not UTF-8 text ({error.reason} at byte {error.start})") from error


def encode_file(folder, text_path, tokens, vocab_size, skip=0):
    """Returns `tokens` token ids of a text file: the special tokens that the model puts before a text, then the text's
    tokens from number `skip` on."""
    vocabulary = load(folder)
    before = vocabulary.encode("").ids
    ids = vocabulary.encode(read_text(text_path)).ids
    if len(ids) < skip + tokens:
        asked = f"--skip and --tokens ask for {skip + tokens}" if skip else f"--tokens asks for {tokens}"
        raise InputError(f"{text_path}: the text has only {len(ids)} tokens; {asked}")
    ids = (before + ids[len(before) + skip:])[:tokens]
    if max(ids) >= vocab_size:
        raise InputError(f"{folder}/tokenizer.json: token id {max(ids)} is beyond the model's vocabulary of {vocab_size}")
    return ids


def write_ids(path, ids):
    """Writes token ids to a text file, one per line."""
    with published(path) as file:
        file.write("".join(f"{index}\n" for index in ids).encode())


def read_ids(path, vocab_size):
    try:
        ids = [int(word) for word in read_text(path).split()]
    except ValueError as error:
        raise InputError(f"{path}: this is no list of token ids ({error})") from error
    if not ids or min(ids) < 0 or max(ids) >= vocab_size:
        raise InputError(f"{path}: expected at least one token id, from 0 to {vocab_size - 1}")
    return ids
