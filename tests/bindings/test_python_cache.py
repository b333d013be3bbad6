"""Tests the Python package's PagedCache: its bookkeeping against a plain model, and the results of kernels over forked
sequences."""

import os
import random
import sys
import textwrap
import unittest

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import D, DKV, HEAD_DIM, HEADS, MODEL, PAGE, ROOT, SPEC, attention, context, random_weights, spec, xq

BY_CHANNEL = {"axis_k": "channel", "group": 32}


class Shadow:
    """The expected contents of a cache, kept beside it. Every token is a number. It is written where a kernel would
    write the token: into its page or, if groups consist of tokens, into the tail. Full groups go from the tail into the
    pages."""

    MARK = 4  # bytes of a number

    def __init__(self, cache, group):
        self.cache, self.group, self.tokens, self.next = cache, group, {}, 1
        self.page_bytes = cache.plans[0].info.page_bytes
        self.tail_bytes = cache.plans[0].info.tail_bytes

    def mark(self, pool, place, value=None):
        if value is None:
            return int.from_bytes(pool.read(self.MARK, place), "little")
        pool.write(value.to_bytes(self.MARK, "little"), place)

    def in_page(self, pages, token):
        return pages[token // PAGE] * self.page_bytes + token % PAGE * self.MARK

    def in_tail(self, sequence, token):
        return int(self.cache.slots([sequence])[0]) * self.tail_bytes + token % self.group * self.MARK

    def write(self, sequence, count):
        """Is called once the cache has grown by this many tokens."""
        tokens, pages = self.tokens[sequence], self.cache.pages_of(sequence)
        for _ in range(count):
            tokens.append(self.next)
            self.next += 1
            if self.group == 1:
                self.mark(self.cache.pool(), self.in_page(pages, len(tokens) - 1), tokens[-1])
                continue
            self.mark(self.cache.tails(), self.in_tail(sequence, len(tokens) - 1), tokens[-1])
            if len(tokens) % self.group == 0:
                for token in range(len(tokens) - self.group, len(tokens)):
                    found = self.mark(self.cache.tails(), self.in_tail(sequence, token))
                    self.mark(self.cache.pool(), self.in_page(pages, token), found)

    def read(self, sequence):
        length, pages = self.cache.length(sequence), self.cache.pages_of(sequence)
        begin = length if self.group == 1 else length // self.group * self.group
        return [self.mark(self.cache.pool(), self.in_page(pages, token)) for token in range(begin)] + \
            [self.mark(self.cache.tails(), self.in_tail(sequence, token)) for token in range(begin, length)]

    def state(self):
        cache = self.cache
        return (cache.sequences, cache.free_pages, {s: (cache.pages_of(s), cache.length(s)) for s in cache.sequences})

    def check(self, test):
        cache = self.cache
        test.assertEqual(set(cache.sequences), set(self.tokens))
        used = [page for sequence in cache.sequences for page in cache.pages_of(sequence)]
        test.assertEqual(cache.free_pages, cache.pages - len(set(used)))
        for page in set(used):
            test.assertEqual(cache._pool.shares(page), used.count(page))
        for sequence, tokens in self.tokens.items():
            test.assertEqual(len(cache.pages_of(sequence)), -(-len(tokens) // PAGE))
            test.assertEqual(self.read(sequence), tokens)


class Bookkeeping(unittest.TestCase):
    def run_randomly(self, plan, seed, group, steps=400):
        pick = random.Random(seed)
        cache = xq.PagedCache(plan, 24, **({"sequences": 6} if group > 1 else {}))
        shadow, refused = Shadow(cache, group), 0
        for _ in range(steps):
            alive = list(cache.sequences)
            do = pick.choice(["add", "grow", "grow", "grow", "fork", "free", "truncate"])
            before = shadow.state()
            try:
                if do == "add":
                    shadow.tokens[cache.add()] = []
                elif alive and do == "grow":
                    some = pick.sample(alive, pick.randint(1, len(alive)))
                    counts = [pick.choice([0, 1, 1, 3, 20, 40]) for _ in some]
                    cache.grow(some, counts)
                    for sequence, count in zip(some, counts):
                        shadow.write(sequence, count)
                elif alive and do in ("fork", "truncate"):
                    sequence = pick.choice(alive)
                    count = pick.randint(0, cache.length(sequence))
                    if do == "fork":
                        shadow.tokens[cache.fork(sequence, count)] = shadow.tokens[sequence][:count]
                    else:
                        cache.truncate(sequence, count)
                        del shadow.tokens[sequence][count:]
                elif alive and do == "free":
                    sequence = pick.choice(alive)
                    cache.free(sequence)
                    del shadow.tokens[sequence]
            except (xq.OutOfMemoryError, xq.ArgumentError) as error:
                self.assertIn(error.field, ("pages", "sequences", "tokens", "counts"))
                self.assertEqual(shadow.state(), before)
                refused += 1
            shadow.check(self)
        for sequence in list(cache.sequences):
            cache.free(sequence)
        self.assertEqual(cache.free_pages, 24)
        self.assertGreater(refused, 10)

    def test_random_operations_agree_with_a_plain_model(self):
        plan = xq.Plan(context(), SPEC, max_tokens=200, max_batch=8)
        for seed in range(4):
            self.run_randomly(plan, seed, 1)

    def test_and_so_they_do_with_tails(self):
        plan = xq.Plan(context(), spec(**BY_CHANNEL), max_tokens=200, max_batch=8)
        for seed in range(4):
            self.run_randomly(plan, seed, 32)

    def test_page_tables(self):
        cache = xq.PagedCache(xq.Plan(context(), SPEC, max_batch=4, max_tokens=100), 8)
        a, b, c = cache.add(), cache.add(), cache.add()
        cache.grow([a, b], [2 * PAGE, PAGE + 3])
        indptr, indices, last = cache.page_arrays([b, c, a])
        numpy.testing.assert_array_equal(indptr, [0, 2, 2, 4])
        numpy.testing.assert_array_equal(indices, [*cache.pages_of(b), *cache.pages_of(a)])
        numpy.testing.assert_array_equal(last, [3, 0, PAGE])
        self.assertEqual([array.dtype for array in (indptr, indices, last)], [numpy.dtype("i4")] * 3)
        self.assertEqual(cache.page_arrays([c])[1].size, 1)

    def test_out_of_pages_names_what_is_missing(self):
        cache = xq.PagedCache(xq.Plan(context(), SPEC, max_batch=4, max_tokens=1000), 4)
        a, b = cache.add(), cache.add()
        cache.grow([a, b], [PAGE, PAGE])
        with self.assertRaisesRegex(MemoryError, "pages: 3 are needed for 2 sequences, and 2 of 4 are free") as caught:
            cache.grow([a, b], [2 * PAGE, 1])
        self.assertEqual((caught.exception.field, cache.length(a), cache.free_pages), ("pages", PAGE, 2))

    def test_a_shared_page_is_copied_for_all_writers_but_the_last(self):
        cache = xq.PagedCache(xq.Plan(context(), SPEC, max_batch=4, max_tokens=100), 3)
        a = cache.add()
        cache.grow([a], [5])
        b, c = cache.fork(a), cache.fork(a)
        cache.grow([a, b, c])
        self.assertEqual(sorted(cache.pages_of(a) + cache.pages_of(b) + cache.pages_of(c)), [0, 1, 2])

    def test_arrays_follow_pages_that_change(self):
        cache = xq.PagedCache(xq.Plan(context(), SPEC, max_batch=4, max_tokens=100), 4)
        a, b = cache.add(), cache.add()
        cache.grow([a], [PAGE + 1])
        self.assertEqual(cache.page_table([a]).indices.tolist(), [0, 1])
        cache.truncate(a, PAGE)
        cache.grow([b])
        cache.grow([a])
        self.assertEqual(cache.page_table([a]).indices.tolist(), [0, 2])

    def test_mistakes_are_named(self):
        plan = xq.Plan(context(), SPEC, max_batch=4, max_tokens=40)
        cache = xq.PagedCache(plan, 4)
        a = cache.add()
        for message, use in (("no sequence 7", lambda: cache.free(7)), ("given twice", lambda: cache.grow([a, a])),
                             ("up to 40", lambda: cache.grow([a], [41])), 
                             ("counts: 2 are given for 1", lambda: cache.grow([a], [1, 2])),
                             ("tokens: 1; valid: 0 to 0", lambda: cache.fork(a, 1)), ("layer: 1", lambda: cache.length(a, 1)),
                             ("sequences: it would have no effect", lambda: xq.PagedCache(plan, 4, sequences=3)),
                             ("layers: it would have no effect", lambda: xq.PagedCache([plan, plan], 4, layers=2)),
                             ("weights: 2 are given for 1", lambda: xq.PagedCache(plan, 4, weights=[b"", b""])),
                             ("weights: the weights of layer 0 have 3 bytes", lambda: cache.set_weights(0, b"abc")),
                             ("pages: 0", lambda: xq.PagedCache(plan, 0))):
            self.assertRaisesRegex(xq.ArgumentError, message, use)

    def test_wrong_kinds_are_named(self):
        plan = xq.Plan(context(), SPEC, max_batch=4, max_tokens=40)
        cache = xq.PagedCache(plan, 4)
        a = cache.add()
        x = numpy.zeros((1, D), "f2")
        for message, use in (("plan: NoneType is no plan", lambda: xq.PagedCache(None, 4)),
                             ("plan: int is no plan", lambda: xq.PagedCache([plan, 3], 4)),
                             ("pages: bool", lambda: xq.PagedCache(plan, True)),
                             ("counts: int is no list", lambda: cache.append([a], x, counts=5)),
                             ("counts: str is no list", lambda: cache.grow([a], "1")),
                             ("counts: float", lambda: cache.grow([a], [1.0])),
                             ("sequences: int is no list", lambda: cache.append(a, x)),
                             ("sequences: int is no list", lambda: cache.attend(a, x)),
                             ("sequences: int is no list", lambda: cache.page_table(a)),
                             ("sequences: str is no list", lambda: cache.slots("0")),
                             ("sequences: float", lambda: cache.grow([0.0])),
                             ("sequence: float", lambda: cache.length(0.0)), ("sequence: bool", lambda: cache.free(False)),
                             ("sequence: list", lambda: cache.free([a]))):
            self.assertRaisesRegex(TypeError, message, use)
        for weights in ("abc", True, [True], 3.0):
            self.assertRaisesRegex(xq.ArgumentError, "weights: the weights of layer 0 are a ",
                                   lambda: xq.PagedCache(plan, 4, weights=weights))
        self.assertRaisesRegex(xq.ArgumentError, "weights: the weights of layer 0 are a str",
                               lambda: xq.PagedCache(plan, 4, layers=2, weights="abc"))
        for address in (-1, 2**64):
            self.assertRaisesRegex(xq.ArgumentError, "weights: .* is no address", cache.set_weights, 0, address)
        self.assertRaisesRegex(xq.ArgumentError, "weights: its elements are Python objects", cache.set_weights, 0,
                               numpy.zeros(10**5, object))
        self.assertRaisesRegex(xq.ArgumentError, "plan: the list is empty", xq.PagedCache, [], 4)
        self.assertEqual((cache.length(numpy.int64(a)), cache.free_pages), (0, 4))

    def test_more_than_memory_holds_is_refused_before_the_books_are_made(self):
        most = 2**31 - 1
        self.assertRaises(xq.OutOfMemoryError, xq.PagedCache, xq.Plan(context(), SPEC), most)
        with_tails = xq.Plan(context(), spec(**BY_CHANNEL))
        self.assertRaises(xq.OutOfMemoryError, xq.PagedCache, with_tails, 4, sequences=most)

    def test_a_closed_context_is_named(self):
        with xq.Context("sim") as opened:
            cache = xq.PagedCache(xq.Plan(opened, SPEC), 4)
            a = cache.add()
            cache.append([a], numpy.zeros((1, D), "f2"))
        self.assertRaisesRegex(xq.ArgumentError, "context: it is closed", cache.append, [a], numpy.zeros((1, D), "f2"))

    def test_slots_run_out(self):
        cache = xq.PagedCache(xq.Plan(context(), spec(**BY_CHANNEL), max_tokens=100), 8, sequences=2)
        a, b = cache.add(), cache.add()
        self.assertRaisesRegex(MemoryError, "all 2 tail slots", cache.add)
        self.assertRaisesRegex(MemoryError, "all 2 tail slots", cache.fork, a)
        cache.free(b)
        self.assertEqual(cache.slots([a, cache.add()]).tolist(), [0, 1])

    def test_a_prefix_may_not_end_within_a_quantized_group(self):
        cache = xq.PagedCache(xq.Plan(context(), spec(**BY_CHANNEL), max_tokens=100), 8, sequences=4)
        a = cache.add()
        cache.grow([a], [70])
        for count in (0, 32, 64, 65, 70):
            cache.free(cache.fork(a, count))
        self.assertRaisesRegex(xq.ArgumentError, "tokens: 40 .*multiples of 32, and 64 to 70", cache.fork, a, 40)
        self.assertRaisesRegex(xq.ArgumentError, "tokens: 63 ", cache.truncate, a, 63)


class Engine:
    """A cache and the random activations of its layers. Token t of a sequence with text s always has the same x."""

    def __init__(self, plans, pages=40, **options):
        self.plans = plans
        options = {**options, **({"weights": [pack(plan) for plan in plans]})}
        self.cache = xq.PagedCache(plans if len(plans) > 1 else plans[0], pages, **options)

    def x(self, text, layer, begin, end):
        rows = [numpy.random.default_rng([text, layer, token]).standard_normal(D) for token in range(begin, end)]
        return numpy.array(rows).reshape(len(rows), D).astype("f2")

    def step(self, sequences, texts, counts, q):
        """Appends the next tokens and returns the outputs of every layer."""
        outs = []
        begins = [self.cache.length(sequence) for sequence in sequences]
        for layer in range(self.cache.layers):
            x = numpy.concatenate([self.x(text, layer, begin, begin + count)
                                   for text, begin, count in zip(texts, begins, counts)])
            self.cache.append(sequences, x, counts=counts, layer=layer)
            outs.append(self.cache.attend(sequences, q, layer=layer))
        return outs


def pack(plan):
    draw = numpy.random.default_rng(9)
    shapes = plan.weight_shapes()
    weights = {name: (draw.standard_normal(shape) / D ** 0.5).astype("f4") for name, shape in shapes.items()}
    if "ukv" in weights:
        weights["ukv"] = numpy.linalg.qr(weights["ukv"])[0].astype("f4")
    weights.update({name: numpy.full(1, 0.01, "f4") for name in ("k_scale", "v_scale") if name in weights})
    return plan.pack_weights(**weights)


def plans_of(*caches, **options):
    limits = {"max_batch": 4, "max_tokens": 200, "max_append": 200, **options}
    return [xq.Plan(context(), {"model": MODEL, "cache": {"page": PAGE, **cache}}, **limits) for cache in caches]


X = {"method": "x", "rotation": False, "bits": 4}
LATENT = {"method": "latent", "bits": 4}
CROSS = [{"method": "x-cl", "bits": 4, "base": True}, {"method": "x-cl", "bits": 4}, {"method": "x-cl", "bits": 4}]


class Attention(unittest.TestCase):
    def queries(self, count, seed=2):
        return numpy.random.default_rng(seed).standard_normal((count, HEADS, HEAD_DIM)).astype("f2")

    def test_attention_is_that_of_double_precision(self):
        weights = random_weights()
        plan = plans_of({**X, "bits": 8})[0]
        cache = xq.PagedCache(plan, 20, weights=plan.pack_weights(**weights))
        draw = numpy.random.default_rng(0)
        a, b = cache.add(), cache.add()
        cache.append([a, b], draw.standard_normal((50, D)).astype("f2"), counts=[20, 30])
        cache.append([b, a], draw.standard_normal((2, D)).astype("f2"))
        q = self.queries(2)
        out, lse = cache.attend([a, b], q, lse=True)
        for row, sequence in enumerate((a, b)):
            expected, expected_lse = attention(q[row], cache.dequantize(sequence), weights, lse=True)
            self.assertLess(numpy.abs(out[row] - expected).max(), 2e-3)
            self.assertLess(numpy.abs(lse[row] - expected_lse).max(), 2e-3)
        self.assertEqual((cache.length(a), cache.length(b), cache.free_pages), (21, 31, 16))

    def test_a_sequence_without_tokens_attends_to_nothing(self):
        engine = Engine(plans_of(X))
        a, b = engine.cache.add(), engine.cache.add()
        q = self.queries(2)
        out, lse = engine.cache.attend([a, b], q, lse=True)
        self.assertTrue((out == 0).all() and (lse == -numpy.inf).all())
        engine.cache.append([a, b], engine.x(1, 0, 0, 3), counts=[3, 0])
        out, lse = engine.cache.attend([a, b], q, lse=True)
        self.assertTrue((out[0] != 0).any() and (out[1] == 0).all() and numpy.isfinite(lse[0]).all())
        engine.cache.append([b], engine.x(1, 0, 0, 0), counts=[0])
        self.assertEqual(engine.cache.length(b), 0)

    def forked_equals_independent(self, plans, shared, more, **options):
        """Compares two sequences that fork after `shared` tokens of text 1, and continue with their own texts, with two
        that never shared anything."""
        engine, alone = Engine(plans, **options), Engine(plans, **options)
        q, first = self.queries(2), engine.cache.add()
        begin = engine.step([first], [1], [shared], q[:1])
        used = engine.cache.pages - engine.cache.free_pages
        second = engine.cache.fork(first)
        if not engine.cache.accumulator:
            self.assertEqual(engine.cache.pages - engine.cache.free_pages, used)
        a, b = alone.cache.add(), alone.cache.add()
        for sequence in (a, b):
            for got, expected in zip(alone.step([sequence], [1], [shared], q[:1]), begin):
                numpy.testing.assert_array_equal(got, expected)
        for counts in more:
            for got, expected in zip(engine.step([first, second], [5, 6], counts, q), alone.step([a, b], [5, 6], counts, q)):
                numpy.testing.assert_array_equal(got, expected)
        for layer in range(engine.cache.layers):
            if engine.cache.accumulator is None and not plans[0].info.implementation.endswith("-kv"):
                for got, expected in ((first, a), (second, b)):
                    for x, y in zip(engine.cache.dequantize(got, layer), alone.cache.dequantize(expected, layer)):
                        numpy.testing.assert_array_equal(x, y)

    def test_a_fork_equals_an_independent_sequence(self):
        for cache in (X, LATENT):
            for shared in (PAGE - 1, 2 * PAGE, 2 * PAGE + 5):
                self.forked_equals_independent(plans_of(cache), shared, [[1, 1], [1, 1], [PAGE, 3], [1, 1]])

    def test_also_with_tails(self):
        for shared in (20, 32, 60):
            self.forked_equals_independent(plans_of({**X, **BY_CHANNEL}), shared, [[1, 1], [15, 4], [40, 1], [1, 70]])

    def test_also_across_layers_of_several_kinds(self):
        self.forked_equals_independent(plans_of(X, LATENT), 21, [[1, 1], [4, 20]])
        self.forked_equals_independent(plans_of(*CROSS), 21, [[1, 1], [4, 20]])

    def test_also_with_the_baseline(self):
        for implementation in ("fp16-kv", "fp8-kv"):
            plans = plans_of(X, implementation=implementation)
            self.forked_equals_independent(plans, 21, [[1, 1], [4, 20]])

    def test_pages_that_were_freed_serve_again(self):
        engine = Engine(plans_of(LATENT), pages=3)
        q = self.queries(1)
        outs = []
        for text in (4, 7, 4):
            sequence = engine.cache.add()
            outs.append(engine.step([sequence], [text], [2 * PAGE + 1], q)[0])
            engine.cache.free(sequence)
        numpy.testing.assert_array_equal(outs[0], outs[2])
        self.assertTrue((outs[0] != outs[1]).any())

    def test_drafts_that_are_taken_back_leave_no_trace(self):
        for cache in (X, {**X, **BY_CHANNEL}):
            engine, alone = Engine(plans_of(cache)), Engine(plans_of(cache))
            q = self.queries(1)
            a, b = engine.cache.add(), alone.cache.add()
            engine.step([a], [1], [34], q)
            alone.step([b], [1], [34], q)
            engine.step([a], [9], [6], q)
            engine.cache.truncate(a, 34)
            numpy.testing.assert_array_equal(engine.step([a], [1], [1], q)[0], alone.step([b], [1], [1], q)[0])

    def test_several_queries(self):
        plans = plans_of({**X, "bits": 8}, max_queries=4)
        weights = random_weights()
        cache = xq.PagedCache(plans[0], 20, weights=plans[0].pack_weights(**weights))
        a, b = cache.add(), cache.add()
        cache.append([a, b], numpy.random.default_rng(0).standard_normal((50, D)).astype("f2"), counts=[20, 30])
        q = self.queries(4)
        out = cache.attend([a, b], q, counts=[3, 1])
        for row, (sequence, position) in enumerate(((a, 17), (a, 18), (a, 19), (b, 29))):
            expected = attention(q[row], cache.dequantize(sequence), weights, position)
            self.assertLess(numpy.abs(out[row] - expected).max(), 2e-3)
        again = cache.attend([a, b], q, counts=[3, 1], query_position=numpy.array([17, 18, 19, 29], "i4"))
        numpy.testing.assert_array_equal(again, out)

    def test_a_refused_append_changes_nothing(self):
        engine = Engine(plans_of(LATENT), pages=4)
        q = self.queries(1)
        a = engine.cache.add()
        engine.step([a], [1], [PAGE + 2], q)
        b = engine.cache.fork(a)
        before = engine.cache.attend([a], q)
        state = engine.cache.pages_of(a), engine.cache.pages_of(b), engine.cache.free_pages
        narrow = engine.x(1, 0, 0, 3)[:, :64].copy()
        for x, counts in ((narrow, [3]), (engine.x(1, 0, 0, 2), [3]), (engine.x(1, 0, 0, 60), [60])):
            with self.assertRaises(xq.Error):
                engine.cache.append([b], x, counts=counts)
            self.assertEqual((engine.cache.pages_of(a), engine.cache.pages_of(b), engine.cache.free_pages), state)
            self.assertEqual(engine.cache.length(b), PAGE + 2)
        for sequence in (a, b):
            numpy.testing.assert_array_equal(engine.cache.attend([sequence], q), before)

    def test_layers_of_a_cross_layer_cache_come_in_order(self):
        engine = Engine(plans_of(*CROSS))
        cache, q = engine.cache, self.queries(1)
        a = cache.add()
        self.assertRaisesRegex(xq.ArgumentError, "append the same tokens to layer 0 first", cache.append, [a],
                               engine.x(1, 1, 0, 1), layer=1)
        cache.append([a], engine.x(1, 0, 0, 1))
        cache.append([a], engine.x(1, 1, 0, 1), layer=1)
        self.assertRaisesRegex(xq.ArgumentError, "does not hold layer 0", cache.attend, [a], q)
        self.assertRaisesRegex(xq.ArgumentError, "a step is not complete", cache.fork, a)
        cache.append([a], engine.x(1, 2, 0, 1), layer=2)
        cache.attend([a], q, layer=2)
        self.assertRaisesRegex(xq.ArgumentError, "layer 0 first", cache.append, [a], engine.x(1, 1, 0, 1), layer=1)

    def test_memory_is_counted(self):
        plan = plans_of(X)[0]
        cache = xq.PagedCache(plan, 7, layers=3)
        self.assertEqual(cache.nbytes, 3 * 7 * plan.info.page_bytes + plan.info.workspace_bytes)
        self.assertEqual(cache.pool(2).nbytes, 7 * plan.info.page_bytes)


class Manual(unittest.TestCase):
    def test_the_example_of_docs_python_runs(self):
        with open(os.path.join(ROOT, "docs", "python.md"), encoding="utf-8") as file:
            text = file.read()
        code = textwrap.dedent(text[text.index("    import numpy\n    spec = "):text.index("- **Forks** share")])
        names = {"xq": xq, "context": context()}
        exec(code, names)  # at the end there are sequences b, c and d
        self.assertEqual([names["cache"].length(s) for s in (names["b"], names["c"], names["d"])], [3, 7, 4])


if __name__ == "__main__":
    unittest.main()
