#!/usr/bin/env python3
"""Compares xq with the attention of other libraries on one GPU, in one run (docs/compare.md).

For each batch and number of cached tokens, `xq compare` measures its four rows, and then the same decode step (one
query for each sequence, over keys and values of the model's shape) runs in PyTorch's scaled_dot_product_attention with
each of its backends, and in FlashInfer's batch decode over paged caches in fp16 and e4m3, where that package is
installed. A library that cannot run the step gets a row with the reason instead of a time. Every output is compared
with attention in double precision on the same keys and values.

Times are taken as `xq compare` takes them: after a warm-up, the median of 30 runs between events, each of as many steps
as last about 300 microseconds, over so many distinct caches that L2 cannot hold them; once step after step on a stream,
and once as a CUDA graph.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 30  # timed runs of a row
RUN_SECONDS = 300e-6  # the least time of a run
PAGE = 64  # tokens of a page of FlashInfer's caches, as in xq's


class Failure(Exception):
    """The comparison cannot be made. The text goes to the user."""


class Unsupported(Exception):
    """A library cannot run this step. The text goes into its row."""


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- input

def counts(text):
    """Parses whole numbers above 0, separated by commas."""
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if not all(numbers) or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; valid: whole numbers above 0, each once, as in 1024,8192")
    return numbers


def parse(arguments):
    parser = argparse.ArgumentParser(prog="peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", metavar="PRESET", help="shape of the model (llama-3.1-8b)")
    parser.add_argument("--bits", default="4", choices=["2", "3", "4", "8"], help="bits of xq's codes (4)")
    parser.add_argument("--tokens", type=counts, default=[4096], metavar="N,N...", help="cached tokens of each sequence (4096)")
    parser.add_argument("--batch", type=counts, default=[4], metavar="N,N...", help="sequences (4)")
    parser.add_argument("--xq", default="build/xq", metavar="FILE", help="the program xq (build/xq)")
    parser.add_argument("--option", action="append", default=[], metavar="TEXT",
                        help="an option for `xq compare`, as in --option=--groups=8; several times")
    parser.add_argument("--device", default="cuda", metavar="NAME",
                        help="cuda[:N] (cuda); sim tries the script without a GPU: xq on the software device, PyTorch on "
                             "the CPU. Their times then say nothing about each other")
    parser.add_argument("--json", metavar="FILE|-", help="write all rows as JSON to a file or stdout")
    return parser.parse_args(arguments)


def xq_compare(options):
    """The result of `xq compare` for all batches and numbers of tokens, from its JSON."""
    command = [options.xq, "compare", "--model", options.model, "--synthetic", "--bits", options.bits,
               "--tokens", ",".join(map(str, options.tokens)), "--batch", ",".join(map(str, options.batch)),
               "--device", options.device, *options.option, "--quiet", "--json", "-"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise Failure(f"--xq {options.xq}: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Failure(f"`{' '.join(command)}`: {lines[-1]}")
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise Failure(f"`{' '.join(command)}` printed no JSON") from error


def load_torch(device):
    try:
        import torch
        import torch.nn.attention
    except ImportError as error:
        raise Failure(f"PyTorch cannot be loaded: {error}; `make torch` installs it") from error
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Failure(f"--device {device}: PyTorch sees no GPU")
    return torch


# ---------------------------------------------------------------- times

class Timer:
    """Times steps. step(i) runs the step over cache i of `count`."""

    def __init__(self, torch, device):
        self.torch, self.device = torch, device

    def measure(self, step, count):
        """The quartiles of a step's time in microseconds, step after step; and as a CUDA graph, or None."""
        for i in range(count):
            step(i)
        steps = self.steps_of_a_run(step, count)
        plain = self.quartiles(lambda: self.run(step, steps, count), steps)
        if self.device == "cpu":
            return plain, None
        try:
            graph = self.record(step, steps, count)
        except RuntimeError as error:  # some libraries synchronize within a step
            say(f"no graph: {first_line(error)}")
            return plain, None
        return plain, self.quartiles(graph.replay, steps)

    @staticmethod
    def run(step, steps, count):
        for i in range(steps):
            step(i % count)

    def steps_of_a_run(self, step, count):
        """So many steps that a run is long enough, and that each cache is used equally often."""
        seconds = self.seconds(lambda: self.run(step, count, count))
        return count * max(1, math.ceil(RUN_SECONDS / max(seconds, 1e-9)))

    def seconds(self, work):
        if self.device == "cpu":
            begin = time.perf_counter()
            work()
            return time.perf_counter() - begin
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def quartiles(self, work, steps):
        work()
        times = [self.seconds(work) / steps * 1e6 for _ in range(RUNS)]
        return statistics.quantiles(times, n=4)

    def record(self, step, steps, count):
        side = self.torch.cuda.Stream()
        with self.torch.cuda.stream(side):  # a library's first call on a stream may allocate
            step(0)
        side.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            self.run(step, steps, count)
        return graph


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------- one step

class Step:
    """A decode step: q [batch, H, dh], and keys and values [batch, Hkv, tokens, dh] in fp16, in several caches that
    together are larger than L2."""

    def __init__(self, torch, device, model, batch, tokens):
        self.torch, self.device, self.batch, self.tokens = torch, device, batch, tokens
        self.heads, self.kv_heads = model["num_attention_heads"], model["num_key_value_heads"]
        self.head_dim, self.scale = model["head_dim"], model["attention_scale"]
        generator = torch.Generator(device).manual_seed(batch * 1000003 + tokens)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(torch.float16)

        self.q = normal(batch, self.heads, self.head_dim)
        size = 4 * batch * self.kv_heads * tokens * self.head_dim
        self.caches = [(normal(batch, self.kv_heads, tokens, self.head_dim), normal(batch, self.kv_heads, tokens, self.head_dim))
                       for _ in range(self.caches_beyond_l2(size))]

    def caches_beyond_l2(self, size):
        if self.device == "cpu":
            return 1
        l2 = self.torch.cuda.get_device_properties(self.device).L2_cache_size
        return 1 + math.ceil(2 * l2 / size)

    def reference(self):
        """The output over the first cache, in double precision."""
        q = self.q.double().view(self.batch, self.kv_heads, -1, self.head_dim)
        k, v = (part.double() for part in self.caches[0])
        return ((q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v).reshape(self.q.shape)

    def paged(self, dtype, scales):
        """The caches as pages [pages, 2, PAGE, Hkv, dh], divided by the scales of keys and values."""
        if self.tokens % PAGE:
            raise Unsupported(f"tokens: a multiple of {PAGE}, not {self.tokens}")

        def pages(part, scale):
            rows = (part.float() / scale).to(dtype).transpose(1, 2)
            return rows.reshape(-1, PAGE, self.kv_heads, self.head_dim)

        return [self.torch.stack([pages(k, scales[0]), pages(v, scales[1])], 1).contiguous() for k, v in self.caches]


def sdpa(backend):
    """PyTorch's scaled_dot_product_attention with one backend."""
    def prepare(step):
        attention = step.torch.nn.attention
        chosen = getattr(attention.SDPBackend, backend, None)
        if chosen is None:
            raise Unsupported(f"this PyTorch has no backend {backend}")
        q = step.q.unsqueeze(2)

        def run(i):
            with attention.sdpa_kernel([chosen]):
                return step.torch.nn.functional.scaled_dot_product_attention(
                    q, *step.caches[i], scale=step.scale, enable_gqa=step.heads != step.kv_heads)
        return run
    return prepare


def flashinfer(dtype):
    """FlashInfer's batch decode over a paged cache of fp16 or e4m3 values."""
    def prepare(step):
        try:
            import flashinfer as library
        except ImportError as error:
            raise Unsupported(f"FlashInfer cannot be loaded: {first_line(error)}") from error
        torch = step.torch
        kind = getattr(torch, dtype)
        scales = [1.0, 1.0]
        if dtype != "float16":  # nothing saturates, as in xq's fp8-kv
            scales = [float(part.abs().max()) / 448 for part in step.caches[0]]
        caches = step.paged(kind, scales)
        pages = step.tokens // PAGE
        wrapper = library.BatchDecodeWithPagedKVCacheWrapper(
            torch.empty(128 << 20, dtype=torch.uint8, device=step.device), "NHD",
            use_tensor_cores=step.heads // step.kv_heads >= 4)
        wrapper.plan(torch.arange(step.batch + 1, dtype=torch.int32, device=step.device) * pages,
                     torch.arange(step.batch * pages, dtype=torch.int32, device=step.device),
                     torch.full((step.batch,), PAGE, dtype=torch.int32, device=step.device),
                     step.heads, step.kv_heads, step.head_dim, PAGE, sm_scale=step.scale, q_data_type=torch.float16,
                     kv_data_type=kind)
        given = {} if dtype == "float16" else {"k_scale": scales[0], "v_scale": scales[1]}
        return lambda i: wrapper.run(step.q, caches[i], **given)
    return prepare


PEERS = {
    "sdpa-flash": sdpa("FLASH_ATTENTION"),
    "sdpa-cudnn": sdpa("CUDNN_ATTENTION"),
    "sdpa-efficient": sdpa("EFFICIENT_ATTENTION"),
    "sdpa-math": sdpa("MATH"),
    "flashinfer-fp16": flashinfer("float16"),
    "flashinfer-fp8": flashinfer("float8_e4m3fn"),
}


def peer_row(name, step, reference, timer):
    row = {"name": name, "tokens": step.tokens, "batch": step.batch}
    try:
        run = PEERS[name](step)
        out = run(0).double().reshape(reference.shape)
        row["rel_err"] = float((out - reference).norm() / reference.norm())
        plain, graph = timer.measure(run, len(step.caches))
    except (Unsupported, RuntimeError, ValueError, TypeError) as error:  # libraries raise these for what they lack
        return {**row, "refused": first_line(error)}
    row.update(time_us=plain[1], time_us_low=plain[0], time_us_high=plain[2])
    if graph:
        row.update(graph_time_us=graph[1], graph_time_us_low=graph[0], graph_time_us_high=graph[2])
    return row


def xq_row(row):
    kept = ("tokens", "batch", "bits", "time_us", "time_us_low", "time_us_high", "graph_time_us", "graph_time_us_low",
            "graph_time_us_high", "time_kind")
    return {"name": f"xq {row['name']}", "rel_err": row["kernel_rel_err"], **{key: row[key] for key in kept if row.get(key) is not None}}


# ---------------------------------------------------------------- output

class JsonFile:
    """The file of --json. It is tried before the work, and appears when it is complete."""

    def __init__(self, path):
        self.path, self.part = path, None
        if path and path != "-":
            handle, self.part = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path) or ".")
            os.close(handle)

    def write(self, text):
        if self.part:
            with open(self.part, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(self.part, 0o644)
            os.replace(self.part, self.path)
            self.part = None

    def close(self):
        if self.part:
            os.unlink(self.part)


def shown(value, form):
    return "-" if value is None else format(value, form)


def table(rows):
    lines = [f"{'':18} {'tokens':>8} {'batch':>6} {'time us':>10} {'in a graph':>11} {'error':>9}"]
    for row in rows:
        if "refused" in row:
            lines.append(f"{row['name']:18} {row['tokens']:8} {row['batch']:6}  cannot run: {row['refused'][:90]}")
        else:
            lines.append(f"{row['name']:18} {row['tokens']:8} {row['batch']:6} {row['time_us']:10.2f} "
                         f"{shown(row.get('graph_time_us'), '11.2f'):>11} {row['rel_err']:9.1e}")
    return "\n".join(lines)


def versions(torch, device):
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    try:
        import flashinfer as library
        found["flashinfer"] = library.__version__
    except ImportError:
        found["flashinfer"] = None
    return found


def compare(options):
    on_gpu = options.device.startswith("cuda")
    torch = load_torch(options.device)
    result = xq_compare(options)
    device = options.device if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(torch.device(device if ":" in device else f"{device}:0"))
    timer, rows = Timer(torch, device), []
    for batch in options.batch:
        for tokens in options.tokens:
            rows += [xq_row(row) for row in result["rows"] if (row["batch"], row["tokens"]) == (batch, tokens)]
            step = Step(torch, device, result["spec"]["model"], batch, tokens)
            reference = step.reference()
            for name in PEERS:
                say(f"{name}, {batch} x {tokens} tokens")
                rows.append(peer_row(name, step, reference, timer))
    return {"command": sys.argv, "device": result["device"], "driver": result["driver"], **versions(torch, device),
            "model": options.model, "rows": rows}


def stop(*_):
    raise KeyboardInterrupt


def main(arguments=None):
    options = parse(arguments)
    signal.signal(signal.SIGTERM, stop)  # a time limit must not leave a file behind
    try:
        file = JsonFile(options.json)
    except OSError as error:
        say(f"--json {options.json}: {error.strerror}")
        return 1
    try:
        found = compare(options)
        text = json.dumps(found, indent=1)
        file.write(text + "\n")
        print(text if options.json == "-" else table(found["rows"]))
    except Failure as failure:
        say(str(failure))
        return 1
    except OSError as error:
        say(f"--json {options.json}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        return 1
    finally:
        file.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
