"""Tests the tokenizers that tools/models.py convert writes, and its `tokens` command."""

import os
import random
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tiny_models
from tiny_models import BYTE_LEVEL, PIECES, TEXT, InputError, TinyModel, run

from realmodel import tokenizer


class Tokenizer(TinyModel):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.convert()[0], 0)

    def loaded(self):
        return tokenizer.load(self.model)

    def tokens(self, *options):
        return run("tokens", "--model", self.model, "--text", self.text, "--out", self.path("ids"), *options)

    def refused_change(self, changes, *words):
        self.write_gguf(change=changes)
        self.assert_refused(self.convert(), "tiny.gguf", *words)


class ByteLevel(Tokenizer):
    def test_token_ids_decode_to_the_text(self):
        ids = tokenizer.encode_file(self.model, self.text, 40, 1 << 20)
        words = self.loaded().decode(ids)
        self.assertEqual(len(ids), 40)
        self.assertTrue(TEXT.startswith(words) and len(words) >= 39, words)

    def test_merges_join_and_digits_stay_apart(self):
        found = self.loaded().encode("the 42<end>").ids
        self.assertEqual(found, [BYTE_LEVEL.index(token) for token in ("th", "e", "Ġ", "4", "2", "<end>")])

    def test_damaged_vocabularies_are_refused(self):
        self.refused_change({"tokenizer.ggml.token_type": [1]}, "token types")
        self.refused_change({"tokenizer.ggml.merges": ["t q"]}, "vocabulary and the merges")
        self.refused_change({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges", "missing")
        self.refused_change({"tokenizer.ggml.pre": "qwen2"}, "gpt2/qwen2", "gpt2/smollm or llama/default")

    def test_tokens_are_written_one_a_line(self):
        self.assertEqual(self.tokens("--tokens", "7"), (0, ""))
        with open(self.path("ids"), encoding="ascii") as file:
            self.assertEqual([int(line) for line in file], self.loaded().encode(TEXT).ids[:7])
        self.assertEqual(tokenizer.read_ids(self.path("ids"), 1 << 20), self.loaded().encode(TEXT).ids[:7])

    def test_tokens_after_those_that_are_skipped(self):
        self.assertEqual(self.tokens("--tokens", "8", "--skip", "3"), (0, ""))
        self.assertEqual(tokenizer.read_ids(self.path("ids"), 1 << 20), self.loaded().encode(TEXT).ids[3:11])
        self.assert_refused(self.tokens("--tokens", "8", "--skip", "500"), "--skip and --tokens ask for 508")
        self.assert_refused(self.tokens("--tokens", "8", "--skip", "-1"), "--skip -1")

    def test_tokens_refuses_what_the_text_or_the_model_lacks(self):
        self.assert_refused(self.tokens("--tokens", "512"), "text.txt", "tokens; --tokens asks for 512")
        self.assert_refused(self.tokens("--tokens", "513"), "--tokens 513", "512")
        self.assert_refused(self.tokens("--tokens", "0"), "--tokens 0")

    def test_damaged_token_files_are_refused(self):
        for text in ("", "1 2 x", "-1", "5 300"):
            with self.subTest(text=text):
                with open(self.path("ids"), "w", encoding="ascii") as file:
                    file.write(text)
                with self.assertRaisesRegex(InputError, "ids: .*token id"):
                    tokenizer.read_ids(self.path("ids"), len(BYTE_LEVEL))


class SentencePiece(Tokenizer):
    family = tiny_models.Gemma3()

    def test_token_ids_are_those_of_sentencepieces_rule(self):
        source = random.Random(1)
        pieces = list("abab the over.") + ["aba", " ", "  ", "   ", "\n", "\n\n", "<b>", "é", "語", "\u2581", "Q", "the "]
        tokens, loaded = [row[0] for row in PIECES], self.loaded()
        for _ in range(2000):
            text = "".join(source.choice(pieces) for _ in range(source.randrange(1, 30)))
            found = loaded.encode(text, add_special_tokens=False).ids
            self.assertEqual([tokens[index] for index in found], plain_sentence_piece(text), repr(text))

    def test_a_text_begins_with_bos(self):
        ids = tokenizer.encode_file(self.model, self.text, 5, 1 << 20)
        self.assertEqual(ids[0], 2)
        self.assertEqual(ids, [2] + self.loaded().encode(TEXT, add_special_tokens=False).ids[:4])

    def test_token_ids_decode_to_the_text(self):
        for text in (TEXT, "  two  spaces\n\nand é, 語 of bytes"):
            self.assertEqual(self.loaded().decode(self.loaded().encode(text).ids), text)

    def test_special_tokens_are_found_in_a_text(self):
        self.assertEqual(self.loaded().encode("a<eos>", add_special_tokens=False).ids[-1], 1)

    def test_damaged_vocabularies_are_refused(self):
        types = [kind for _, kind, _ in PIECES]
        self.refused_change({"tokenizer.ggml.scores": [0.5]}, "scores")
        self.refused_change({"tokenizer.ggml.token_type": [1 if kind == 6 else kind for kind in types]}, "byte tokens")
        self.refused_change({"tokenizer.ggml.add_space_prefix": True}, "tokenizer.ggml.add_space_prefix")
        self.refused_change({"tokenizer.ggml.unknown_token_id": None}, "tokenizer.ggml.unknown_token_id", "missing")
        for name in ("unknown", "bos"):
            self.refused_change({f"tokenizer.ggml.{name}_token_id": 100000}, f"tokenizer.ggml.{name}_token_id", "100000")


def plain_sentence_piece(text):
    """Tokenizes a text. User-defined tokens are kept whole, the longest first. In the rest, two neighbours are joined
    if they make a token: first those with the highest score, and of equal ones the leftmost, until none are left. A
    symbol that is no token then is spelled in bytes."""
    scores = {token: score for token, kind, score in PIECES if kind == 1}
    whole = sorted((token.replace(" ", "▁") for token, kind, _ in PIECES if kind == 4), key=len, reverse=True)
    text, symbols = text.replace(" ", "▁"), []  # (text, whether it may be joined)
    while text:
        first = next((token for token in whole if text.startswith(token)), None)
        symbols.append((first or text[0], first is None))
        text = text[len(symbols[-1][0]):]
    while True:
        joins = [(-scores[left + right], index) for index, ((left, free), (right, also))
                 in enumerate(zip(symbols, symbols[1:])) if free and also and left + right in scores]
        if not joins:
            break
        index = min(joins)[1]
        symbols[index:index + 2] = [(symbols[index][0] + symbols[index + 1][0], True)]
    return [token for symbol, free in symbols for token in (
        [f"<0x{byte:02X}>" for byte in symbol.encode()] if free and symbol not in scores
        else [symbol.replace("▁", " ") if not free else symbol])]


if __name__ == "__main__":
    unittest.main()
