#!/usr/bin/env python3
"""Text to token ids and back, for the llama program: it needs the Python package `tokenizers`.

    tokens.py encode MODEL_DIR FILE         prints the id that a text begins with (-1: none), then those of the text
    tokens.py encode-text MODEL_DIR TEXT    the same for TEXT itself
    tokens.py decode MODEL_DIR              prints the text of the ids on standard input as they come
"""

import os
import sys


def fail(message):
    print(f"llama: {message}", file=sys.stderr)
    raise SystemExit(1)


def open_tokenizer(folder):
    try:
        import tokenizers
    except ImportError as error:
        fail(f"--python: {sys.executable} has no package 'tokenizers' ({error}); pip install tokenizers")
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        fail(f"{path}: No such file or directory")
    try:
        return tokenizers.Tokenizer.from_file(path)
    except Exception as error:
        fail(f"{path}: this is no tokenizer ({error})")


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{path}: this is not UTF-8 text ({error.reason} at byte {error.start})")


def encode(tokenizer, text):
    around = tokenizer.encode("").ids
    print(around[0] if around else -1)
    print(*tokenizer.encode(text, add_special_tokens=False).ids)


def decode(tokenizer):
    """Prints the text of ids as they come. A token may end within a character, which then waits for the next token."""
    ids, done = [], ""
    for line in sys.stdin:
        ids.append(int(line))
        text = tokenizer.decode(ids)
        if not text.endswith("\ufffd"):
            sys.stdout.write(text[len(done):])
            sys.stdout.flush()
            done = text
    if ids:
        print(tokenizer.decode(ids)[len(done):])


def main(arguments):
    if len(arguments) == 3 and arguments[0] == "encode":
        text = read_text(arguments[2])
        encode(open_tokenizer(arguments[1]), text)
    elif len(arguments) == 3 and arguments[0] == "encode-text":
        encode(open_tokenizer(arguments[1]), arguments[2])
    elif len(arguments) == 2 and arguments[0] == "decode":
        decode(open_tokenizer(arguments[1]))
    else:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
