"""xq: attention over a cache of low-bit quantized activations.

    context = xq.Context()                       a GPU if there is one, else the software device
    plan = xq.Plan(context, {"model": "llama-3.1-8b", "cache": {"bits": 4}}, max_tokens=4096)
    cache = xq.PagedCache(plan, pages=512)       pages, page tables, workspace

The package is a layer over the C interface, include/xq/xq.h, which describes every call in more detail. docs/python.md
is the package's manual.
"""

from ._c import Status
from ._cache import PagedCache
from ._context import Context, DeviceInfo
from ._error import ArgumentError, CompileError, DeviceError, Error, FileError, FormatError, OutOfMemoryError, SpecError, \
    UnsupportedError
from ._memory import DeviceBuffer, Memory
from ._plan import PageTable, Plan, PlanInfo, Tails, complete, override
from ._prepared import Prepared
from ._program import prepare
from ._simulate import simulate_cache, simulate_feedback, simulate_weights
from . import _c

for _name in ("ArgumentError", "CompileError", "DeviceError", "Error", "FileError", "FormatError", "OutOfMemoryError",
              "SpecError", "UnsupportedError"):
    globals()[_name].__module__ = __name__  # so that tracebacks show the public name, such as xq.SpecError

__version__: str = _c.lib.xq_version().decode()

__all__ = ["ArgumentError", "CompileError", "Context", "DeviceBuffer", "DeviceError", "DeviceInfo", "Error", "FileError",
           "FormatError", "Memory", "OutOfMemoryError", "PagedCache", "PageTable", "Plan", "PlanInfo", "Prepared", "SpecError",
           "Status", "Tails", "UnsupportedError", "__version__", "complete", "override", "prepare", "simulate_cache",
           "simulate_feedback", "simulate_weights"]
