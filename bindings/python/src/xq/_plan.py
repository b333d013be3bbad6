"""Plans. A plan is a spec compiled for a device; its methods launch kernels."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import sys
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import numpy

from . import _c
from ._closing import Closing
from ._context import Context, checked_context, encode
from ._error import argument_error, check
from ._memory import Array, Call, DeviceBuffer, Memory, count_of, current_stream, host_bytes, is_tensor, like, see

Spec = Union[str, Mapping[str, Any]]

_IMPLEMENTATIONS = {"fused": _c.Implementation.FUSED, "unfused": _c.Implementation.UNFUSED,
                    "fp16-kv": _c.Implementation.FP16_KV, "fp8-kv": _c.Implementation.FP8_KV}
_NAMES = {int(value): name for name, value in _IMPLEMENTATIONS.items()}
_LAYOUTS = {"fused": "weights_layout", "unfused": "unfused_weights_layout", "fp16-kv": "kv_weights_layout",
            "fp8-kv": "kv_e4m3_weights_layout"}
_FROM = {int(value): value.name.lower() for value in _c.ParametersFrom}
_SCALES = ("k_scale", "v_scale")
WEIGHTS = tuple(field[0] for field in _c.xq_weights._fields_[1:])


def spec_text(name: str, spec: Spec) -> bytes:
    """Returns a spec as JSON for the library."""
    if isinstance(spec, str):
        return encode(name, spec) or b""
    if not isinstance(spec, Mapping):
        raise TypeError(f"{name}: {type(spec).__name__} is no spec; valid: a dict, or JSON text")
    try:
        return json.dumps(spec, allow_nan=False).encode()
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    except ValueError as error:  # NaN, infinity, a dict that holds itself
        raise argument_error(name, str(error)) from None


def _completed(context: Context, function: Any, *texts: bytes) -> Dict[str, Any]:
    out = ctypes.c_void_p()
    context._call(function, *texts, ctypes.byref(out))
    try:
        completed: Dict[str, Any] = json.loads(ctypes.string_at(out))
        return completed
    finally:
        _c.lib.xq_string_free(out)


def complete(spec: Spec, *, context: Optional[Context] = None) -> Dict[str, Any]:
    """Validates a spec and fills in the keys that it leaves open (docs/spec.md). Without a context, the call opens one
    on device "auto".

    Raises SpecError, UnsupportedError, with the spec's key in `field`.
    """
    if context is None:
        with Context() as opened:
            return complete(spec, context=opened)
    return _completed(checked_context("context", context), _c.lib.xq_spec_complete, spec_text("spec", spec))


def override(spec: Spec, overrides: Spec, *, context: Optional[Context] = None) -> Dict[str, Any]:
    """Changes the choices of a spec and returns the completed spec. `overrides`, a dict such as {"cache": {"bits": 8}},
    is merged into the spec's choices; None removes a choice. Values that followed from the old choices are derived
    again.

    Raises SpecError, UnsupportedError, ArgumentError.
    """
    if context is None:
        with Context() as opened:
            return override(spec, overrides, context=opened)
    return _completed(checked_context("context", context), _c.lib.xq_spec_override, spec_text("spec", spec),
                      spec_text("overrides", overrides))


@dataclasses.dataclass(frozen=True)
class PlanInfo:
    """The sizes and limits of a plan (xq_plan_info). Sizes are in bytes."""

    hidden_size: int  #: d
    heads: int  #: H
    kv_heads: int  #: Hkv
    head_dim: int  #: dh
    page_tokens: int  #: tokens per page
    rank_k: int  #: cached columns of the stream of keys, with padding
    rank_v: int
    page_bytes: int  #: size of a page, and the stride between pages
    page_align: int  #: alignment of the pool
    weights_bytes: int  #: size of the packed weights
    workspace_bytes: int  #: size of a workspace, which is zeroed once before its first use; each stream needs its own
    cache_bytes_per_token: float
    tail_bytes: int  #: size of a sequence's slot in the tail pool; 0: there are no tails
    accumulator_page_bytes: int  #: cross-layer methods: size of an accumulator page; 0: there is no accumulator
    accumulator_bytes_per_token: float
    needs_append_indptr: bool  #: whether append needs append_indptr
    latents: int  #: the number of groups of KV heads whose keys have a latent each
    parameters_from: str  #: "default", "spec", "device", "capability" or "family"
    implementation: str  #: "fused", "unfused", "fp16-kv" or "fp8-kv"
    max_batch: int  #: this limit and the following ones are those that the plan was created with
    max_tokens: int
    max_pages: int
    max_append: int
    max_queries: int
    max_total_queries: int
    pool_pages: int  #: 0: unknown
    latents_v: int  #: the number of groups of KV heads whose values have a latent each


@dataclasses.dataclass(frozen=True)
class PageTable:
    """The pages of each sequence, in FlashInfer's format. The arrays are int32, on the device.

    indptr         [batch + 1]: sequence i owns indices[indptr[i]] to indices[indptr[i + 1] - 1]
    indices        [indptr[batch]]: numbers of pages in the pool
    last_page_len  [batch]: tokens in the last page, 1 to page_tokens
    batch          the number of sequences; needed if last_page_len is not a tensor or array
    """

    indptr: Memory
    indices: Memory
    last_page_len: Memory
    batch: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Tails:
    """The tails, which hold the newest, unquantized tokens of sequences.

    pool   slots of tail_bytes, 128-byte aligned
    slots  int32 [batch]: the slot of each sequence of the table
    """

    pool: Memory
    slots: Memory


class Plan(Closing):
    """A spec compiled for a context's device. It states sizes and layouts, and launches kernels over memory that the
    caller owns.

    spec               a dict or JSON text (docs/spec.md)
    implementation     "fused", "unfused", "fp16-kv" or "fp8-kv"
    max_batch          most sequences in one call
    max_tokens         most cached tokens of a sequence
    max_pages          most page-table entries in one call; 0: enough for max_batch sequences of max_tokens
    max_append         most tokens in one append call
    max_queries        most queries of one sequence in one attend call
    max_total_queries  most queries of all sequences in one attend call; 0: max_batch * max_queries
    checked            whether the arrays of each call are checked on a GPU before its kernels run; the software device
                       always checks them
    pool_pages         the number of pages in the pool, so that page numbers beyond it are detected; 0: unknown. On a
                       GPU only checked plans use it

    Compiling takes seconds; the context's cache keeps the kernels. Raises SpecError, UnsupportedError, ArgumentError,
    CompileError, DeviceError. Several threads may launch, with several plans or with one.

    Memory arguments of launches are torch tensors, DeviceBuffers or addresses. With a software device they can also be
    numpy arrays, and tensors are on the CPU. Launches go to `stream`, a torch.cuda.Stream or its number, by default
    torch's current stream, and return at once; on the software device they have ended when they return. Matrices are
    row major.
    """

    def __init__(self, context: Context, spec: Spec, *, implementation: str = "fused", max_batch: int = 1,
                 max_tokens: int = 4096, max_pages: int = 0, max_append: int = 1, max_queries: int = 1,
                 max_total_queries: int = 0, checked: bool = False, pool_pages: int = 0) -> None:
        checked_context("context", context)
        if implementation not in _NAMES.values():
            raise argument_error("implementation", f"{implementation!r}; valid: {', '.join(_IMPLEMENTATIONS)}")
        options = _c.xq_plan_options(
            spec_json=spec_text("spec", spec), implementation=_IMPLEMENTATIONS[implementation],
            max_batch=count_of("max_batch", max_batch, 1, 65535), max_tokens=count_of("max_tokens", max_tokens, 1, 2**30),
            max_pages=count_of("max_pages", max_pages, 0, 2**31 - 1), max_append=count_of("max_append", max_append, 1, 2**30),
            max_queries=count_of("max_queries", max_queries, 1, 2**20),
            max_total_queries=count_of("max_total_queries", max_total_queries, 0, 2**40), checked=int(bool(checked)),
            pool_pages=count_of("pool_pages", pool_pages, 0, 2**31 - 1))
        handle = ctypes.c_void_p()
        context._call(_c.lib.xq_plan_create, ctypes.byref(options), ctypes.byref(handle))
        self._open(context, handle.value)

    @classmethod
    def load(cls, context: Context, image: Any) -> Plan:
        """Loads a plan from an image that `save` returned: bytes or any buffer, which is copied. This needs neither the
        generator nor NVRTC. Raises FormatError, UnsupportedError for a GPU that does not run it, DeviceError. An image
        is code: load only images that you trust."""
        data = host_bytes("image", image)
        handle = ctypes.c_void_p()
        checked_context("context", context)._call(_c.lib.xq_plan_load, data.address, data.nbytes, ctypes.byref(handle))
        plan = cls.__new__(cls)
        plan._open(context, handle.value)
        return plan

    def _open(self, context: Context, handle: Optional[int]) -> None:
        self._handle = handle
        self._context = context
        self._spec: Optional[Dict[str, Any]] = None
        context._children.add(self)
        info = _c.xq_plan_info()
        self._call(_c.lib.xq_plan_query, ctypes.byref(info))
        fields: Dict[str, Any] = {field[0]: getattr(info, field[0]) for field in _c.xq_plan_info._fields_[1:]}
        fields["needs_append_indptr"] = bool(info.needs_append_indptr)
        fields["parameters_from"] = _FROM.get(info.parameters_from, str(info.parameters_from))
        fields["implementation"] = _NAMES[info.implementation]
        self.info: PlanInfo = PlanInfo(**fields)

    # ---------------------------------------------------------------- properties

    @property
    def context(self) -> Context:
        return self._context

    @property
    def handle(self) -> int:
        """The xq_plan. Raises ArgumentError once the plan or its context is closed."""
        if self._handle is None:
            raise argument_error("plan", "it is closed")
        return self._handle

    @property
    def spec_json(self) -> str:
        """The completed spec as JSON text."""
        return str(_c.lib.xq_plan_spec(self.handle), "utf-8")

    @property
    def spec(self) -> Dict[str, Any]:
        """The completed spec. It is parsed once; changing the dict does not change the plan."""
        if self._spec is None:
            self._spec = json.loads(self.spec_json)
        return self._spec

    @property
    def dtype(self) -> str:
        """The type of activations in and out: "f16" or "bf16"."""
        return str(self.spec["dtype"])

    def save(self) -> bytes:
        """Returns the plan's image, which has everything that `load` needs. The same plan always has the same image."""
        count = ctypes.c_size_t()
        self._call(_c.lib.xq_plan_save, None, 0, ctypes.byref(count))
        image = ctypes.create_string_buffer(count.value)
        self._call(_c.lib.xq_plan_save, image, count.value, ctypes.byref(count))
        return image.raw

    def close(self) -> None:
        """Unloads the kernels; launches must have ended. Closing twice is fine, and closing the context closes its
        plans. Raises ArgumentError within the context's log callback."""
        if self._handle is not None:
            self._context._refuse_within_log("plan")
            self._destroy()

    def _destroy(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            _c.lib.xq_plan_destroy(handle)

    def _call(self, function: Any, *arguments: Any) -> None:
        check(function(self.handle, *arguments), self._context.handle)

    # ---------------------------------------------------------------- weights

    def weight_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """The names and shapes of the matrices and vectors that `pack_weights` takes for this plan. k_cost,
        k_scale and v_scale are optional."""
        layout = self.spec[_LAYOUTS[self.info.implementation]]
        names = {item["source"] for kind in ("matrices", "vectors") for item in layout[kind]}
        if self.spec["cache"]["method"] == "latent" and any(item["columns"] == "feedback" for item in layout["matrices"]):
            names.add("k_cost")
        shapes = weight_shapes(self.spec["model"], self.spec["cache"])
        return {name: shapes[name] for name in WEIGHTS if name in names}

    def pack_weights(self, **weights: Any) -> Array:
        """Rounds a layer's projections to the plan's weight type and packs them in the order that the kernels read.

        Names are those of xq_weights, and shapes those of `weight_shapes`: wk and wv [d, dkv] for method x; uk, ak, uv
        and av for latents; bk, bv, k_norm and sinks if the model has them; k_scale and v_scale of
        "fp8-kv", which may be plain numbers; and others. Each is a numpy array or a
        tensor of floating-point numbers, row major with y = x * W (a torch Linear has the transpose), and is converted
        to f32.

        Returns host memory, uint8 [weights_bytes], which `context.upload` copies to the device. Raises ArgumentError
        for weights that are missing, that the plan does not use, or that have another shape or values beyond the type's
        range.
        """
        shapes = self.weight_shapes()
        for name in weights:
            if name not in WEIGHTS:
                raise TypeError(f"pack_weights: there are no weights {name!r}; valid: {', '.join(shapes)}")
        arrays = {name: float_array(f"weights.{name}", value) for name, value in weights.items() if value is not None}
        arrays.update({name: arrays[name].reshape(1) for name in _SCALES if name in arrays and arrays[name].ndim == 0})
        for name, array in arrays.items():
            if array.shape != shapes.get(name, array.shape):  # the library refuses names that it does not pack
                raise argument_error(f"weights.{name}", f"its shape is {list(array.shape)}; valid: {list(shapes[name])}")
        struct = _c.xq_weights(**{name: float_pointer(array) for name, array in arrays.items()})
        packed = numpy.empty(self.info.weights_bytes, numpy.uint8)
        self._call(_c.lib.xq_plan_pack_weights, ctypes.byref(struct), packed.ctypes.data, packed.nbytes)
        return packed

    def workspace(self) -> DeviceBuffer:
        """Allocates a zeroed workspace for this plan. Calls that may run at the same time need one each."""
        return self._context.alloc(self.info.workspace_bytes, fill=0)

    # ---------------------------------------------------------------- launches

    def append(self, x: Memory, token_sequence: Memory, token_position: Memory, table: PageTable, pages: Memory,
               weights: Optional[Memory] = None, workspace: Optional[Memory] = None, *, tokens: Optional[int] = None,
               append_indptr: Optional[Memory] = None, tails: Optional[Tails] = None, accumulator: Optional[Memory] = None,
               rotary_position: Optional[Memory] = None, stream: Any = None) -> None:
        """Writes tokens into their pages.

        x                [tokens, d] of the plan's dtype, 16-byte aligned: the input of the K and V projections
        token_sequence   int32 [tokens]: for each token, the row of the table that it belongs to
        token_position   int32 [tokens]: for each token, its position in the sequence
        table            the page table as it is after the call
        pages            the pool: pages of page_bytes, page_align aligned; written
        weights          packed weights, 256-byte aligned; methods that cache x as it is do not need them
        workspace        needed by "fp16-kv" and "fp8-kv" only; written
        tokens           the number of tokens; needed if x is neither a tensor nor an array
        append_indptr    int32 [batch + 1]: the rows of x of each sequence; needed if info.needs_append_indptr
        tails            needed if info.tail_bytes is not 0; written
        accumulator      cross-layer methods, except base layers: the accumulator of the layers before
        rotary_position  int32 [tokens], for "fp16-kv" and "fp8-kv" only: positions for RoPE

        Without append_indptr, tokens may come in any order, each once. Raises ArgumentError, DeviceError.
        """
        args = _c.xq_append_args()
        call = Call(self._context)
        rows = self._rows("x", x, "tokens", tokens)
        batch = self._add_table(call, args.table, table)
        args.tokens = rows
        call.add(args, "x", x, dtype=self.dtype, shape=(rows, self.info.hidden_size))
        call.add(args, "token_sequence", token_sequence, dtype="int32", shape=(rows,))
        call.add(args, "token_position", token_position, dtype="int32", shape=(rows,))
        call.add(args, "rotary_position", rotary_position, dtype="int32", shape=(rows,))
        call.add(args, "append_indptr", append_indptr, dtype="int32", shape=(batch + 1,))
        call.add(args, "pages", pages, written=True)
        self._add_weights(call, args, weights)
        self._add_workspace(call, args, workspace)
        self._add_tails(call, args.tails, tails, batch, written=True)
        call.add(args, "accumulator", accumulator)
        self._launch(call, _c.lib.xq_plan_append, args, stream)

    def accumulate(self, table: PageTable, pages: Memory, accumulator: Memory, weights: Optional[Memory] = None, *,
                   max_tokens: Optional[int] = None, tails: Optional[Tails] = None, stream: Any = None) -> None:
        """Adds a layer's deltas to the accumulator, for every token of the table. This is for cross-layer methods; the
        base layer starts the accumulator.

        pages        the pages with the layer's deltas
        accumulator  pages of accumulator_page_bytes, with the same numbers, page_align aligned; written
        weights      packed weights; methods that cache deltas as they are do not need them
        max_tokens   an upper bound on the tokens of each sequence in this call; None: the plan's limit

        Raises ArgumentError, DeviceError.
        """
        args = _c.xq_accumulate_args(max_tokens=self._max_tokens(max_tokens))
        call = Call(self._context)
        batch = self._add_table(call, args.table, table)
        call.add(args, "pages", pages)
        self._add_weights(call, args, weights)
        self._add_tails(call, args.tails, tails, batch, written=False)
        call.add(args, "accumulator", accumulator, written=True)
        self._launch(call, _c.lib.xq_plan_accumulate, args, stream)

    def attend(self, q: Memory, table: PageTable, pages: Memory, weights: Optional[Memory], workspace: Memory, *,
               out: Optional[Memory] = None, lse: Union[Memory, bool, None] = None, queries: Optional[int] = None,
               max_tokens: Optional[int] = None, max_queries: Optional[int] = None, query_indptr: Optional[Memory] = None,
               query_position: Optional[Memory] = None, token_offset: Optional[Memory] = None,
               tree_mask: Optional[Memory] = None, mask_words: Optional[int] = None, without_sinks: bool = False,
               tails: Optional[Tails] = None, accumulator: Optional[Memory] = None, stream: Any = None) -> Any:
        """Attends with one or more queries per sequence. Without query_indptr, each sequence has one query, at its last
        token.

        q               [queries, H, dh] of the plan's dtype, before RoPE, 16-byte aligned
        pages           the pool, page_align aligned
        weights         packed weights, 256-byte aligned; "fp16-kv" needs them only for attention sinks, "fp8-kv" for its scales
        workspace       workspace_bytes, 256-byte aligned, zeroed before its first use; written
        out             [queries, H, dh], 16-byte aligned; None: a new array like q. Queries that see no token get zeros
        lse             [queries, H] f32: log-sum-exp, natural logarithm; True: a new array; None: not computed
        queries         the number of queries; needed if q is neither a tensor nor an array
        max_tokens      an upper bound on the tokens of each sequence in this call; None: the plan's limit
        max_queries     an upper bound on the queries of each sequence in this call; None: the plan's limit
        query_indptr    int32 [batch + 1]: the rows of q of each sequence
        query_position  int32 [queries]: the position of each query; None: the last positions of each sequence
        token_offset    int32 [batch]: the position of each sequence's first token; None: zeros
        tree_mask       int32 or uint32 [queries, mask_words], with query_position: which draft tokens each query sees
        without_sinks   whether attention sinks are left out, as in all but one part of a merge
        tails           needed if info.tail_bytes is not 0
        accumulator     cross-layer methods: the accumulator after this layer's accumulate

        Returns out, or (out, lse) if lse is asked for. Raises ArgumentError, DeviceError.
        """
        info, args = self.info, _c.xq_attend_args(max_tokens=self._max_tokens(max_tokens), without_sinks=int(without_sinks))
        call = Call(self._context)
        rows = self._rows("q", q, "queries", queries)
        shape = (rows, info.heads, info.head_dim)
        batch = self._add_table(call, args.table, table)
        args.queries = rows
        args.max_queries = 0 if max_queries is None else count_of("max_queries", max_queries, 1, info.max_queries)
        call.add(args, "q", q, dtype=self.dtype, shape=shape)
        out = self._add_output(call, args, "out", out, q, shape, self.dtype)
        lse = None if lse is False else lse
        lse = self._add_output(call, args, "lse", None if lse is True else lse, q, shape[:2], "f32", wanted=lse is not None)
        call.add(args, "pages", pages)
        self._add_weights(call, args, weights)
        self._add_workspace(call, args, workspace)
        call.add(args, "query_indptr", query_indptr, dtype="int32", shape=(batch + 1,))
        call.add(args, "query_position", query_position, dtype="int32", shape=(rows,))
        call.add(args, "token_offset", token_offset, dtype="int32", shape=(batch,))
        if tree_mask is not None:
            words = mask_words if mask_words is not None else self._columns("tree_mask", tree_mask, "mask_words")
            args.mask_words = count_of("mask_words", words, 1, 2**31 - 1)
            call.add(args, "tree_mask", tree_mask, dtype="uint32", shape=(rows, words))
        elif mask_words is not None:
            raise argument_error("mask_words", "it would have no effect without a tree_mask")
        self._add_tails(call, args.tails, tails, batch, written=False)
        call.add(args, "accumulator", accumulator)
        self._launch(call, _c.lib.xq_plan_attend, args, stream)
        return out if lse is None else (out, lse)

    def merge(self, out_a: Memory, lse_a: Memory, out_b: Memory, lse_b: Memory, *, out: Optional[Memory] = None,
              lse: Union[Memory, bool, None] = None, queries: Optional[int] = None, stream: Any = None) -> Any:
        """Merges attention over two disjoint sets of tokens. Each row is weighted by its log-sum-exp.

        out_a, out_b, out  [queries, H, dh] of the plan's dtype, 16-byte aligned; out may be one of the others; out
                           None: a new array
        lse_a, lse_b, lse  [queries, H] f32; lse True: a new array; lse None: not computed
        queries            the number of queries; needed if out_a is neither a tensor nor an array

        Returns out, or (out, lse) if lse is asked for. Raises ArgumentError, DeviceError.
        """
        args = _c.xq_merge_args()
        call = Call(self._context)
        rows = self._rows("out_a", out_a, "queries", queries)
        shape = (rows, self.info.heads, self.info.head_dim)
        args.queries = rows
        for name, value in (("out_a", out_a), ("out_b", out_b)):
            call.add(args, name, value, dtype=self.dtype, shape=shape)
        for name, value in (("lse_a", lse_a), ("lse_b", lse_b)):
            call.add(args, name, value, dtype="f32", shape=shape[:2])
        out = self._add_output(call, args, "out", out, out_a, shape, self.dtype)
        lse = None if lse is False else lse
        lse = self._add_output(call, args, "lse", None if lse is True else lse, out_a, shape[:2], "f32", wanted=lse is not None)
        self._launch(call, _c.lib.xq_plan_merge, args, stream)
        return out if lse is None else (out, lse)

    def dequantize(self, table: PageTable, pages: Optional[Memory], *, table_entries: Optional[int] = None,
                   k: Optional[Memory] = None, v: Optional[Memory] = None, tails: Optional[Tails] = None,
                   accumulator: Optional[Memory] = None, stream: Any = None) -> Any:
        """Reads the cache as the kernels see it, for inspection. Row p * page_tokens + t is token t of the page that
        entry p of the table names. Rows beyond a sequence's length are not written. "fp16-kv" and "fp8-kv" are
        refused.

        k              [rows, columns] of the plan's dtype, 16-byte aligned, where columns is d for cross-layer methods
                       and rank_k otherwise; None: a new array of zeros
        v              [rows, rank_v] if two streams are cached, else None
        table_entries  indptr[batch]; needed if table.indices is neither a tensor nor an array
        accumulator    cross-layer methods; pages are then not read, and may be None

        Returns k, or (k, v) if two streams are cached. Raises ArgumentError, DeviceError.
        """
        info, args = self.info, _c.xq_dequantize_args()
        call = Call(self._context)
        entries = self._rows("table.indices", table.indices, "table_entries", table_entries)
        batch = self._add_table(call, args.table, table)
        args.table_entries = entries
        rows = entries * info.page_tokens
        cross = info.accumulator_page_bytes > 0
        shape_k = (rows, info.hidden_size if cross else info.rank_k)
        call.add(args, "pages", pages)
        k = self._add_output(call, args, "k", k, table.indices, shape_k, self.dtype, zeros=True)
        v = self._add_output(call, args, "v", v, table.indices, (rows, info.rank_v), self.dtype, zeros=True,
                             wanted=v is not None or (info.rank_v > 0 and not cross))
        self._add_tails(call, args.tails, tails, batch, written=False)
        call.add(args, "accumulator", accumulator)
        self._launch(call, _c.lib.xq_plan_dequantize, args, stream)
        return k if v is None else (k, v)

    # ---------------------------------------------------------------- arguments

    def _launch(self, call: Call, function: Any, args: Any, stream: Any) -> None:
        with call.ready():
            self._call(function, ctypes.byref(args), current_stream(self._context, stream))

    def _rows(self, name: str, value: Memory, count_name: str, count: Optional[int]) -> int:
        seen = see(self._context, name, value)
        if count is not None:
            return count_of(count_name, count, 0, 2**40)
        if seen.shape is None:
            raise argument_error(count_name, f"it is needed, because {name} is neither a tensor nor an array")
        if not seen.shape:
            raise argument_error(name, "it has no dimensions")
        return seen.shape[0]

    def _columns(self, name: str, value: Memory, count_name: str) -> int:
        seen = see(self._context, name, value)
        if seen.shape is None or len(seen.shape) != 2:
            raise argument_error(count_name, f"it is needed, because {name} does not have two dimensions")
        return seen.shape[1]

    def _max_tokens(self, given: Optional[int]) -> int:
        return self.info.max_tokens if given is None else count_of("max_tokens", given, 0, self.info.max_tokens)

    def _add_table(self, call: Call, struct: Any, table: PageTable) -> int:
        batch = self._rows("table.last_page_len", table.last_page_len, "table.batch", table.batch)
        struct.batch = count_of("table.batch", batch, 0, 2**31 - 1)
        call.add(struct, "indptr", table.indptr, name="table.indptr", dtype="int32", shape=(batch + 1,))
        call.add(struct, "indices", table.indices, name="table.indices", dtype="int32")
        call.add(struct, "last_page_len", table.last_page_len, name="table.last_page_len", dtype="int32", shape=(batch,))
        return batch

    def _add_weights(self, call: Call, args: Any, weights: Optional[Memory]) -> None:
        call.add(args, "weights", weights, nbytes=self.info.weights_bytes)

    def _add_workspace(self, call: Call, args: Any, workspace: Optional[Memory]) -> None:
        call.add(args, "workspace", workspace, nbytes=self.info.workspace_bytes, written=True)
        if workspace is not None:
            seen = see(self._context, "workspace", workspace)
            args.workspace_bytes = self.info.workspace_bytes if seen.nbytes is None else seen.nbytes

    def _add_tails(self, call: Call, struct: Any, tails: Optional[Tails], batch: int, written: bool) -> None:
        if tails is not None:
            call.add(struct, "pool", tails.pool, name="tails.pool", nbytes=self.info.tail_bytes, written=written)
            call.add(struct, "slots", tails.slots, name="tails.slots", dtype="int32", shape=(batch,))

    def _add_output(self, call: Call, args: Any, name: str, value: Optional[Memory], beside: Memory, shape: Tuple[int, ...],
                    dtype: str, zeros: bool = False, wanted: bool = True) -> Optional[Memory]:
        if not wanted:
            return None
        made = like(self._context, beside, name, shape, dtype, zeros) if value is None else value
        call.add(args, name, made, dtype=dtype, shape=shape, written=True)
        return made

    def __repr__(self) -> str:
        return f"<xq.Plan {'closed' if self._handle is None else self.info.implementation}>"


def weight_shapes(model: Mapping[str, Any], cache: Mapping[str, Any]) -> Dict[str, Tuple[int, ...]]:
    """The shapes of the matrices and vectors that a layer may have, by the names of xq_weights, from the `model` and
    `cache` of a completed spec. Weights that the method does not use are included."""
    d, head_dim, heads = model["hidden_size"], model["head_dim"], model["num_attention_heads"]
    dkv = model["num_key_value_heads"] * head_dim
    latents = cache["method"].startswith("latent")
    all_k, all_v = (cache["rank_k"], cache.get("rank_v", 0)) if latents else (d, d)
    groups_k, groups_v = (cache["groups_k"], cache["groups_v"]) if latents else (1, 1)
    return {"wk": (d, dkv), "wv": (d, dkv), "uk": (d, all_k), "ak": (all_k // groups_k, dkv), "uv": (d, all_v),
            "av": (all_v // groups_v, dkv), "ukv": (d, all_k), "bk": (dkv,), "bv": (dkv,),
            "k_norm": (dkv if model.get("qk_norm") == "row" else head_dim,), "sinks": (heads,), "k_cost": (dkv, head_dim),
            "k_scale": (1,), "v_scale": (1,)}


def float_array(name: str, value: Any) -> Array:
    """Converts an array or a tensor of floating-point numbers to a contiguous f32 array on the host."""
    if is_tensor(value):
        if not value.is_floating_point():
            raise argument_error(name, f"its elements are {value.dtype}; valid: floating-point numbers")
        rows: Array = value.detach().to(device="cpu", dtype=sys.modules["torch"].float32).contiguous().numpy()
        return rows
    array = numpy.asarray(value)
    if not numpy.issubdtype(array.dtype, numpy.floating):
        raise argument_error(name, f"its elements are {array.dtype}; valid: floating-point numbers")
    return numpy.ascontiguousarray(array, numpy.float32)


def float_pointer(array: Array) -> Any:
    """The address of an array, for a call of the library that reads or writes it."""
    return ctypes.cast(array.ctypes.data, _c.FLOATS)


def checked_plan(name: str, value: Any) -> Plan:
    """Returns the argument `name` if it is a plan. Raises TypeError otherwise."""
    if not isinstance(value, Plan):
        raise TypeError(f"{name}: {type(value).__name__} is no plan; valid: an xq.Plan")
    return value
