#!/usr/bin/env python3
"""Checks a tokenizer.json that `models.py convert` wrote against independent readings of the GGUF file.

    python -m venv /tmp/check
    /tmp/check/bin/pip install -r tools/requirements.txt transformers==4.57.1 sentencepiece==0.2.3 protobuf
    /tmp/check/bin/python tools/check_tokenizer.py --gguf FILE --model DIR [TEXT...]

Gemma's vocabulary is handed to the SentencePiece library, which the model was trained with; every text, each of
its lines, and 4,000 random strings must give the same token ids. A byte-level vocabulary (SmolLM2) is read by
transformers, which does not know that SmolLM2 splits digits off first (tokenizer.ggml.pre = smollm): texts are
compared without their digits. Exits 1 at a difference. Not part of `make test`, for what it needs.
"""

import argparse
import os
import random
import re
import sys

from realmodel import InputError, tokenizer
from realmodel.gguf_model import Model

# Strings that tokenizers get wrong: runs of spaces and line ends, markup, bytes without a token, combining marks.
PIECES = [*"abc e\t\n<>/tr0h1 ", "\u2581", "é", "ß", "日本", "语", "🤽", "\u0301", "the ", "  ", "\n\n", "<b>",
          "</td>", "\r\n", "\U00010348", "\x07", "ॐ", "क्षि", "нет ", "한국어"]
PLANES = [(0x20, 0x250), (0x370, 0x3000), (0x3000, 0xD7FF), (0xE000, 0x1FFFF)]


def random_strings(count):
    source = random.Random(1)
    for _ in range(count):
        yield "".join(source.choice(PIECES) for _ in range(source.randrange(1, 60)))
        yield "".join(chr(source.randrange(*source.choice(PLANES))) for _ in range(source.randrange(1, 40)))


def sentence_piece(model):
    """Returns the encoder of the SentencePiece library with the vocabulary of the GGUF file."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    unknown = model.field("tokenizer.ggml.unknown_token_id")
    rows = zip(*(model.field(f"tokenizer.ggml.{name}") for name in ("tokens", "scores", "token_type")))
    for index, (token, score, kind) in enumerate(rows):
        # llama.cpp's converter wrote spaces into user-defined tokens, and calls <unk> a control token
        proto.pieces.add(piece=token.replace(" ", "\u2581") if kind == tokenizer.USER_DEFINED else token, score=score,
                         type=tokenizer.UNKNOWN if index == unknown else kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = trainer.BPE, True, len(proto.pieces)
    for name in ("bos", "eos", "unk", "pad"):
        index = model.field("tokenizer.ggml." + {"unk": "unknown", "pad": "padding"}.get(name, name) + "_token_id")
        setattr(trainer, name + "_id", index)
        setattr(trainer, name + "_piece", proto.pieces[index].piece)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(proto.SerializeToString())
    return processor.encode


def byte_level(path):
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(os.path.dirname(os.path.abspath(path)),
                                                        gguf_file=os.path.basename(path))
    return lambda text: theirs(text, add_special_tokens=False)["input_ids"]


def check(options):
    model, ours = Model(options.gguf), tokenizer.load(options.model)
    by_pieces = model.field("tokenizer.ggml.model") == "llama"
    theirs = sentence_piece(model) if by_pieces else byte_level(options.gguf)

    def same(text):
        text = text if by_pieces else re.sub(r"\d", "", text)
        return ours.encode(text, add_special_tokens=False).ids == theirs(text)

    good = True
    for path in options.text:
        text = tokenizer.read_text(path)
        lines = text.splitlines(keepends=True)
        different = sum(not same(line) for line in lines)
        whole = same(text)
        good = good and whole and different == 0
        print(f"{os.path.basename(path)}: {len(theirs(text))} token ids of the whole text "
              f"{'equal' if whole else 'DIFFERENT'}; {different} of {len(lines)} lines differ")
    if by_pieces:
        different = sum(not same(text) for text in random_strings(2000))
        good = good and different == 0
        print(f"random strings: {different} of 4000 differ")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True, metavar="FILE", help="GGUF file with the tokenizer")
    parser.add_argument("--model", required=True, metavar="DIR", help="model directory that `models.py convert` wrote from the GGUF file")
    parser.add_argument("text", nargs="*", default=["/usr/share/common-licenses/GPL-3"], metavar="TEXT",
                        help="text files to encode (/usr/share/common-licenses/GPL-3)")
    try:
        return check(parser.parse_args())
    except InputError as error:
        print(f"check_tokenizer: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
