"""Runs rows, each in a process of its own and several at a time. Results are kept, so that a second run continues. A
model's fp16 row comes first, because it records the predictions that the model's other rows are compared with."""

import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

from realmodel import InputError, files

from .rows import row as row_of

FORMAT = 2  # format of the kept results
REFERENCE_WINDOWS = 10  # first windows, in which rows are compared with fp16; KL divergence needs fewer than perplexity


def quarter(windows):
    return max(1, windows // 4)


def records(row):
    """Whether the row records the predictions that the model's other rows are compared with."""
    return row.method == "fp16" and not row.short


class Progress:
    """Prints a line for each finished row, with an estimate of the time that is left."""

    def __init__(self, total, workers):
        self.total, self.workers, self.done, self.begun = total, workers, 0, time.monotonic()
        self.lock = threading.Lock()

    def finished(self, text):
        with self.lock:
            self.done += 1
            left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
            print(f"  [{self.done}/{self.total}] {text}; {minutes(left)} left", file=sys.stderr, flush=True)


def minutes(seconds):
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def call(command, environment=None):
    """Runs a command and returns its standard output. If it fails, raises InputError with the last line of its
    errors."""
    try:
        result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise InputError(f"{command[0]}: {error.strerror}") from error
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        raise InputError(f"`{' '.join(command)}`: {reason}")
    return result.stdout


class Runner:
    """The programs, models and text of the runs. Results are kept in `folder`, under a hash of everything that they
    depend on. `windows` holds the number of windows of the text for each model; short rows take a
    quarter of them."""

    def __init__(self, xq, llama, folder, models, calibrations, text, window, windows, jobs):
        self.xq, self.llama, self.folder, self.models = xq, llama, folder, models
        self.text, self.window, self.windows, self.jobs = text, window, windows, jobs
        self.common = {"format": FORMAT, "program": files.sha256(llama), "text": files.sha256(text),
                       "window": window}
        self.program = files.sha256(xq)
        self.calibrations = calibrations
        self.hashes = {}
        self.preparing = threading.Lock()

    def model_hash(self, name):
        if name not in self.hashes:
            folder = self.models[name]
            self.hashes[name] = [files.sha256(os.path.join(folder, part))
                                 for part in ("config.json", "model.safetensors", "tokenizer.json")]
        return self.hashes[name]

    def calibration_hash(self, row):
        name = dict(row.options).get("calibrated")
        if name is None:
            return None
        path = self.calibrations[row.model][name]
        if path not in self.hashes:
            self.hashes[path] = files.sha256(path)
        return self.hashes[path]

    def windows_of(self, row):
        return quarter(self.windows[row.model]) if row.short else self.windows[row.model]

    def reference_windows(self, model):
        return min(REFERENCE_WINDOWS, self.windows[model])

    def place(self, kind, model, ending, **identity):
        """Returns a file's path, which contains a hash of everything that the file depends on."""
        identity = dict(self.common, model=self.model_hash(model), reference_windows=self.reference_windows(model), **identity)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        return os.path.join(self.folder, kind, digest + ending)

    def kept(self, row):
        return self.place("rows", row.model, ".json", windows=self.windows_of(row), row=row.key(),
                          prepared=self.preparation(row)[1])

    def reference(self, model):
        """Returns the file with the model's predictions under an fp16 cache, which its fp16 row records."""
        return self.place("references", model, ".safetensors")

    def preparation(self, row):
        """Returns the arguments that prepare the row's weights, and the path of the result, with a hash of everything
        that it depends on. Both are None if the row needs no prepared weights."""
        arguments = row.preparation(self.calibrations.get(row.model, {}))
        if arguments is None:
            return None, None
        identity = json.dumps([self.model_hash(row.model), self.program, self.calibration_hash(row), arguments])
        name = hashlib.sha256(identity.encode()).hexdigest()[:24] + ".safetensors"
        return arguments, os.path.join(self.folder, "prepared", name)

    def prepared(self, row):
        """Prepares the row's weights unless they exist, and returns the option that names their file."""
        arguments, path = self.preparation(row)
        if path is None:
            return []
        with self.preparing:  # rows share files
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                call([self.xq, "prepare", self.models[row.model], *arguments, "--out", path, "--quiet"])
        return ["--prepared", path]

    def compared(self, row):
        """Returns the options that record the model's predictions, for its fp16 row, or that compare with them, for
        other rows."""
        path = self.reference(row.model)
        if row.method != "fp16":
            return ["--reference", path]
        if row.short:
            return []
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return ["--record", path, "--reference-windows", str(self.reference_windows(row.model))]

    def measure(self, row):
        command = [self.llama, "perplexity", self.models[row.model], self.text, "--window", str(self.window),
                   "--windows", str(self.windows_of(row)), *row.arguments(), *self.prepared(row), *self.compared(row),
                   "--python", sys.executable, "--quiet", "--json", "-"]
        found = json.loads(call(command, dict(os.environ, OPENBLAS_NUM_THREADS="1")))
        files.write_json(self.kept(row), found)
        return found

    def ordered(self, missing):
        """Returns the rows with fp16 rows first. If a model has rows but no reference yet, its fp16 row is added, even
        if nobody asked for it or it was measured before."""
        fp16 = {row.model: row for row in missing if records(row)}
        for model in dict.fromkeys(row.model for row in missing):
            if model not in fp16 and not os.path.exists(self.reference(model)):
                fp16[model] = row_of("", model, "fp16")
        return [*fp16.values(), *(row for row in missing if not records(row))]

    def run(self, rows):
        """Measures the rows and returns their results by key. A failing row ends the run; the results of finished rows
        are kept."""
        wanted = list({row.key(): row for row in rows}.values())
        found = {row.key(): files.read_json(self.kept(row)) for row in wanted if os.path.exists(self.kept(row))}
        missing = self.ordered([row for row in wanted if row.key() not in found])
        if found:
            print(f"  {len(found)} of {len(wanted)} rows were measured before", file=sys.stderr, flush=True)
        progress = Progress(len(missing), self.jobs)
        references = {}  # jobs that record references, by model

        def measure(row):
            if row.method != "fp16" and row.model in references:
                references[row.model].result()  # no deadlock: jobs begin in the order in which they are submitted
            result = self.measure(row)
            progress.finished(f"{row.model} {describe(row)}: {found_text(result)}, {result['seconds']:.0f} s")
            return row.key(), result

        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            jobs = []
            for row in missing:
                jobs.append(pool.submit(measure, row))
                if records(row):
                    references[row.model] = jobs[-1]
            try:
                found.update(job.result() for job in concurrent.futures.as_completed(jobs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found


def found_text(result):
    divergence = f", KL {result['kl_mean']:.4f}" if "kl_mean" in result else ""
    return f"perplexity {result['ppl']:.3f}{divergence}"


def describe(row):
    if row.method == "fp16":
        return "fp16"
    options = " ".join(name if value is True else f"{name}={value}" for name, value in row.options)
    return f"{row.method} {row.bits} bits {options}".strip()
