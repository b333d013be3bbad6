"""A paged cache: the pages of several sequences and layers, and their bookkeeping."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from ._c import Status
from ._closing import Unique
from ._context import Context
from ._error import OutOfMemoryError, argument_error
from ._memory import Array, DeviceBuffer, Memory, address_of, count_of, host_bytes, is_tensor, whole, wholes
from ._plan import PageTable, Plan, Tails, checked_plan


def out_of(field: str, message: str) -> OutOfMemoryError:
    return OutOfMemoryError(f"{field}: {message}", status=Status.ERROR_DEVICE_MEMORY, stage="argument", field=field)


class PagePool:
    """Tracks which pages are free, and how many sequences share each page. It does not touch device memory."""

    def __init__(self, pages: int) -> None:
        self._free = list(range(pages - 1, -1, -1))  # page 0 is taken first
        self._shares = [0] * pages

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> int:
        page = self._free.pop()
        self._shares[page] = 1
        return page

    def share(self, page: int) -> None:
        self._shares[page] += 1

    def give(self, page: int) -> None:
        self._shares[page] -= 1
        if self._shares[page] == 0:
            self._free.append(page)

    def shares(self, page: int) -> int:
        return self._shares[page]


@dataclasses.dataclass
class _Sequence:
    pages: List[int]
    lengths: List[int]  # tokens in each layer
    slot: int = -1  # slot in the tail pools; -1: there are no tails
    accumulated: int = -1  # cross-layer methods: the layer whose input the accumulator holds; -1: none


class _Table(NamedTuple):
    """A page table on the device, and the tail slots of its sequences."""

    pages: PageTable
    slots: Any


class _Rows(NamedTuple):
    """The rows of an append call, on the device."""

    sequence: Any
    position: Any
    indptr: Any


class PagedCache(Unique):
    """Pages for the sequences of an engine, in one or several layers that cache the same tokens.

    plan       the plan of every layer, or a list with a plan for each layer (full and sliding layers, or a cross-layer
               cache with its base layer first). All plans have the same page_tokens, hidden_size, heads, kv_heads and
               head_dim
    pages      the number of pages in the pool of each layer
    layers     the number of layers, if a single plan is given
    sequences  plans with tails: the number of sequences that can exist at a time; None: max_batch. Plans without tails
               have no such limit
    weights    the packed weights of each layer: a list, or for one layer the memory itself. Host memory, such as
               `Plan.pack_weights` returns, is copied to the device; device memory is used as it is. `set_weights` can
               set them later

    The cache owns the pools, tails, accumulator and one workspace. On a GPU with torch they are torch tensors, so that
    torch accounts for them; otherwise they are memory of the context. Launches and copies go to torch's current stream,
    or to the default stream without torch. All launches of one cache must go to the same stream, since they share the
    workspace. A cache is not thread-safe.

    A sequence is a number that `add` or `fork` returns. `append` adds its tokens, layer by layer, and allocates the
    pages. A forked sequence shares the pages of its prefix: when a sequence is about to write into a page that others
    share, it gets a copy of the page.

    A call that raises ArgumentError or OutOfMemoryError has changed nothing.
    """

    def __init__(self, plan: Union[Plan, Sequence[Plan]], pages: int, *, layers: int = 1, sequences: Optional[int] = None,
                 weights: Union[Memory, Sequence[Memory], None] = None) -> None:
        self._plans = _plans_of(plan, layers)
        first = self._plans[0]
        self._context: Context = first.context
        self._torch = None if self._context.is_sim else _torch()
        self.pages = count_of("pages", pages, 1, 2**31 - 1)
        self.page_tokens: int = first.info.page_tokens
        self.layers: int = len(self._plans)
        self.max_tokens: int = min(p.info.max_tokens for p in self._plans)
        self._sequences: Dict[int, _Sequence] = {}
        self._next = 0
        self._version = 0
        # The arrays of the latest call, which all layers of a step share.
        self._table: Tuple[Any, Optional[_Table]] = (None, None)
        self._rows: Tuple[Any, Optional[_Rows]] = (None, None)
        self._cross = any(p.info.accumulator_page_bytes for p in self._plans)
        # Tokens in a per-channel group. A call writes whole groups when they are complete.
        self._group = max(_group_of(p) for p in self._plans)
        self._allocate(sequences)
        self._pool = PagePool(self.pages)  # after the memory, which fails first if there are too many pages for lists
        self._weights: List[Optional[Memory]] = [None] * self.layers
        given = [] if weights is None else weights if isinstance(weights, (list, tuple)) else [weights]
        for layer, memory in enumerate(given):
            _check_kind(layer, memory)
        if given and len(given) != self.layers:
            raise argument_error("weights", f"{len(given)} are given for {self.layers} layers; valid: one for each layer")
        for layer, memory in enumerate(given):
            self.set_weights(layer, memory)

    def _allocate(self, sequences: Optional[int]) -> None:
        def most(name: str) -> int:
            return max(int(getattr(p.info, name)) for p in self._plans)

        self._memory = [self._device_bytes(self.pages * p.info.page_bytes) for p in self._plans]
        slots = count_of("sequences", most("max_batch") if sequences is None else sequences, 1, 2**31 - 1)
        if not most("tail_bytes") and sequences is not None:
            raise argument_error("sequences", "it would have no effect: the plans have no tails")
        self._slots = slots
        self._tails = [self._device_bytes(slots * p.info.tail_bytes) if p.info.tail_bytes else None for p in self._plans]
        self._free_slots = list(range(slots - 1, -1, -1)) if most("tail_bytes") else None
        self._accumulator = self._device_bytes(self.pages * most("accumulator_page_bytes")) if self._cross else None
        self._workspace = self._device_bytes(most("workspace_bytes"), zeros=True)

    def _device_bytes(self, nbytes: int, zeros: bool = False) -> Memory:
        if self._torch is not None:
            make = self._torch.zeros if zeros else self._torch.empty
            tensor: Memory = make(nbytes, dtype=self._torch.uint8, device=f"cuda:{self._context.device.ordinal}")
            return tensor
        return self._context.alloc(nbytes, fill=0 if zeros else None)

    # ----------------------------------------------------------------- properties

    @property
    def plans(self) -> Tuple[Plan, ...]:
        """The plan of each layer."""
        return tuple(self._plans)

    @property
    def free_pages(self) -> int:
        return self._pool.free

    @property
    def nbytes(self) -> int:
        """Device memory that the cache owns: pools, tails, accumulator and workspace."""
        owned = [*self._memory, *self._tails, self._accumulator, self._workspace]
        return sum(_nbytes(memory) for memory in owned if memory is not None)

    @property
    def sequences(self) -> Tuple[int, ...]:
        """The sequences that exist, in the order in which they were made."""
        return tuple(self._sequences)

    def length(self, sequence: int, layer: int = 0) -> int:
        """The number of tokens of a sequence in a layer."""
        return self._find(sequence).lengths[self._layer(layer)]

    def pages_of(self, sequence: int) -> Tuple[int, ...]:
        """The page numbers of a sequence in the pools, in order."""
        return tuple(self._find(sequence).pages)

    def pool(self, layer: int = 0) -> Memory:
        """The page pool of a layer. Page n begins at byte n * page_bytes, by the layer's plan."""
        return self._memory[self._layer(layer)]

    @property
    def workspace(self) -> Memory:
        return self._workspace

    def tails(self, layer: int = 0) -> Optional[Memory]:
        """The tail pool of a layer; None if its plan has no tails."""
        return self._tails[self._layer(layer)]

    @property
    def accumulator(self) -> Optional[Memory]:
        """The accumulator: pages of accumulator_page_bytes, with the same numbers as in the pools; None unless the
        method is cross-layer."""
        return self._accumulator

    def weights(self, layer: int = 0) -> Optional[Memory]:
        return self._weights[self._layer(layer)]

    def set_weights(self, layer: int, memory: Any) -> None:
        """Sets the packed weights of a layer. Host memory is copied to the device; device memory is used as it is."""
        layer = self._layer(layer)
        needed = self._plans[layer].info.weights_bytes
        _check_kind(layer, memory)
        on_host = isinstance(memory, _HOST) or (is_tensor(memory) and memory.device.type == "cpu")
        if on_host:
            host_bytes("weights", memory)
        if not isinstance(memory, int) and _nbytes(memory) < needed:
            raise argument_error("weights", f"the weights of layer {layer} have {_nbytes(memory)} bytes; valid: {needed} bytes")
        self._weights[layer] = self._context.upload(memory) if on_host else memory

    # ---------------------------------------------------------------- sequences

    def add(self) -> int:
        """Adds a sequence without tokens and returns its number. Raises OutOfMemoryError if no tail slot is left."""
        slot = self._take_slot()
        return self._insert(_Sequence([], [0] * self.layers, slot))

    def free(self, sequence: int) -> None:
        """Ends a sequence. Its pages become free, except those that other sequences share."""
        record = self._find(sequence)
        del self._sequences[sequence]
        for page in record.pages:
            self._pool.give(page)
        if record.slot >= 0 and self._free_slots is not None:
            self._free_slots.append(record.slot)
        self._version += 1

    def fork(self, sequence: int, tokens: Optional[int] = None) -> int:
        """Adds a sequence that begins with the first `tokens` tokens of another sequence (default: all), and returns
        its number.

        Full pages are shared. The last, partial page is shared until one of the two sequences writes into it and gets a
        copy. Cross-layer caches share no pages: all pages are copied at once, since an accumulator page belongs to one
        sequence.

        With tails, the prefix must end at the end of a group of tokens, or within the unfinished group. All layers must
        have the same length. Raises ArgumentError, OutOfMemoryError.
        """
        record = self._find(sequence)
        length = self._even_length(sequence, record)
        count = length if tokens is None else count_of("tokens", tokens, 0, length)
        self._check_end("tokens", length, count)
        kept = record.pages[:_ceil(count, self.page_tokens)]
        if self._cross and len(kept) > self._pool.free:
            raise out_of("pages", f"{len(kept)} are needed for the copy, and {self._pool.free} of {self.pages} are free")
        slot = self._take_slot()
        if slot >= 0 and count % self._group:
            self._copy_slot(record.slot, slot)
        copy = _Sequence(list(kept), [count] * self.layers, slot)
        if self._cross:
            copy.pages = [self._pool.take() for _ in kept]
            for source, target in zip(kept, copy.pages):
                self._copy_page(source, target)
        else:
            for page in kept:
                self._pool.share(page)
        return self._insert(copy)

    def truncate(self, sequence: int, tokens: int) -> None:
        """Removes the last tokens of a sequence, so that `tokens` are left. With tails, it must then end at the end of
        a group of tokens, or within the unfinished group. All layers must have the same length. Raises
        ArgumentError."""
        record = self._find(sequence)
        length = self._even_length(sequence, record)
        count = count_of("tokens", tokens, 0, length)
        self._check_end("tokens", length, count)
        keep = _ceil(count, self.page_tokens)
        for page in record.pages[keep:]:
            self._pool.give(page)
        del record.pages[keep:]
        record.lengths = [count] * self.layers
        record.accumulated = -1
        self._version += 1

    # ---------------------------------------------------------------- launches

    def append(self, sequences: Sequence[int], x: Memory, *, counts: Optional[Sequence[int]] = None, layer: int = 0) -> None:
        """Appends tokens to sequences in a layer and allocates pages for them. In a cross-layer cache it also updates
        the accumulator.

        sequences  different sequences, at most max_batch
        x          [sum(counts), d] of the plan's dtype: the tokens of the first sequence, then those of the second, ...
        counts     the number of tokens of each sequence; None: one each

        All layers of a step take the same tokens. The first layer of the step allocates the pages for all layers.
        Raises ArgumentError, OutOfMemoryError if pages run out (the message says how many are needed and free),
        DeviceError.
        """
        layer = self._layer(layer)
        sequences, records = self._chosen(sequences)
        plan = self._plans[layer]
        amounts = _amounts(len(records), counts)
        before = [record.lengths[layer] for record in records]
        after = [length + count for length, count in zip(before, amounts)]
        self._check_order(sequences, records, layer, after)
        undo = self._make_room(sequences, records, before, after)
        accumulator = self._accumulator if plan.info.accumulator_page_bytes else None
        try:
            for record, length in zip(records, after):
                record.lengths[layer] = length
            table, rows = self._table_of(sequences, records, layer), self._rows_of(sequences, before, amounts)
            tails = self._tails_of(layer, table)
            pages, weights = self._memory[layer], self._weights[layer]
            plan.append(x, rows.sequence, rows.position, table.pages, pages, weights, self._workspace,
                        append_indptr=rows.indptr, tails=tails, tokens=sum(amounts), accumulator=accumulator)
            if accumulator is not None:
                plan.accumulate(table.pages, pages, accumulator, weights, max_tokens=max([1, *after]), tails=tails)
        except BaseException:
            for record, length in zip(records, before):
                record.lengths[layer] = length
            self._restore(records, undo)
            raise
        for record in records:
            record.accumulated = layer
        self._settle(records, undo)

    def attend(self, sequences: Sequence[int], q: Memory, *, counts: Optional[Sequence[int]] = None, layer: int = 0,
               out: Optional[Memory] = None, lse: Union[Memory, bool, None] = None, query_position: Optional[Memory] = None,
               tree_mask: Optional[Memory] = None, without_sinks: bool = False) -> Any:
        """Attends over the tokens that sequences have in a layer.

        q               [sum(counts), H, dh] of the plan's dtype, before RoPE: the queries of the first sequence, then ...
        counts          the number of queries of each sequence, for plans with several; None: one each. The queries are
                        at the sequence's last tokens, unless query_position is given
        out, lse        as in Plan.attend: out None and lse True allocate the output like q
        query_position  int32 [sum(counts)]
        tree_mask       int32 or uint32 [sum(counts), words]

        Returns out, or (out, lse) if lse is asked for. Raises ArgumentError, DeviceError.
        """
        layer = self._layer(layer)
        sequences, records = self._chosen(sequences)
        plan = self._plans[layer]
        self._check_accumulated(sequences, records, layer)
        amounts = _amounts(len(records), counts)
        table = self._table_of(sequences, records, layer)
        return plan.attend(q, table.pages, self._memory[layer], self._weights[layer], self._workspace, out=out, lse=lse,
                           queries=sum(amounts), max_tokens=max([1, *(record.lengths[layer] for record in records)]),
                           max_queries=None if counts is None else max([1, *amounts]),
                           query_indptr=None if counts is None else self._ints(_offsets(amounts)),
                           query_position=query_position, tree_mask=tree_mask, without_sinks=without_sinks,
                           tails=self._tails_of(layer, table),
                           accumulator=self._accumulator if plan.info.accumulator_page_bytes else None)

    def dequantize(self, sequence: int, layer: int = 0) -> Any:
        """Returns the dequantized tokens of a sequence, for inspection: rows [tokens, columns], or a pair of them for
        methods with two streams (Plan.dequantize). They are numpy arrays on the software device and tensors on a GPU,
        which needs torch."""
        layer = self._layer(layer)
        plan, record = self._plans[layer], self._find(sequence)
        self._check_accumulated([sequence], [record], layer)
        table = self._table_of([sequence], [record], layer)
        found = plan.dequantize(table.pages, self._memory[layer], tails=self._tails_of(layer, table),
                                accumulator=self._accumulator if plan.info.accumulator_page_bytes else None)
        length = record.lengths[layer]
        return tuple(part[:length] for part in found) if isinstance(found, tuple) else found[:length]

    # ---------------------------------------------------------------- launches of one's own

    def page_table(self, sequences: Sequence[int], layer: int = 0) -> PageTable:
        """The page table of sequences, as arrays on the device."""
        sequences, records = self._chosen(sequences)
        return self._table_of(sequences, records, self._layer(layer)).pages

    def page_arrays(self, sequences: Sequence[int], layer: int = 0) -> Tuple[Array, Array, Array]:
        """The page table of sequences on the host: indptr, indices and last_page_len, int32."""
        layer = self._layer(layer)
        return _table_arrays([(record.pages, record.lengths[layer]) for record in self._chosen(sequences)[1]], self.page_tokens)

    def slots(self, sequences: Sequence[int]) -> Array:
        """The slot of each sequence in the tail pools, int32; -1 if there are no tails."""
        return numpy.array([record.slot for record in self._chosen(sequences)[1]], "i4")

    def grow(self, sequences: Sequence[int], counts: Optional[Sequence[int]] = None) -> None:
        """Makes sequences longer and allocates the pages, for tokens that the caller writes into all layers with its
        own launches (`page_arrays`, `pool`). counts: the number of tokens of each sequence; None: one each. Raises
        ArgumentError, OutOfMemoryError."""
        sequences, records = self._chosen(sequences)
        amounts = _amounts(len(records), counts)
        before = [self._even_length(sequence, record) for sequence, record in zip(sequences, records)]
        after = [length + count for length, count in zip(before, amounts)]
        undo = self._make_room(sequences, records, before, after)
        for record, length in zip(records, after):
            record.lengths = [length] * self.layers
            record.accumulated = -1
        self._settle(records, undo)

    # ---------------------------------------------------------------- pages

    def _make_room(self, sequences: Sequence[int], records: List[_Sequence], before: List[int],
                   after: List[int]) -> List[List[int]]:
        """Gives sequences the pages for their new lengths, and copies of shared pages that they are about to write.
        Returns the pages that they had before: _settle then frees the replaced pages, or _restore undoes the call."""
        for sequence, length in zip(sequences, after):
            if length > self.max_tokens:
                raise argument_error("counts", f"sequence {sequence} would have {length} tokens; valid: up to "
                                               f"{self.max_tokens}")
        growing = [record for record, begin, end in zip(records, before, after) if end > begin]
        missing = [max(0, _ceil(end, self.page_tokens) - len(record.pages)) for record, end in zip(records, after)]
        copies = self._shared_ahead(growing, [begin for begin, end in zip(before, after) if end > begin])
        needed = sum(missing) + len(copies)
        if needed > self._pool.free:
            raise out_of("pages", f"{needed} are needed for {len(growing)} sequences, and {self._pool.free} of "
                                  f"{self.pages} are free")
        undo = [list(record.pages) for record in records]
        if needed:
            self._version += 1
        try:
            for record, place in copies:
                source, record.pages[place] = record.pages[place], self._pool.take()
                self._copy_page(source, record.pages[place])
            for record, count in zip(records, missing):
                record.pages.extend(self._pool.take() for _ in range(count))
        except BaseException:
            self._restore(records, undo)
            raise
        return undo

    def _shared_ahead(self, records: List[_Sequence], begins: List[int]) -> List[Tuple[_Sequence, int]]:
        """Returns the pages, as places in a sequence, that must be copied before tokens are written from `begins` on.
        If all sequences that share a page are about to write into it, the last of them keeps it. A per-channel group is
        written as a whole when it is complete, so pages from its first token on count as written."""
        copies: List[Tuple[_Sequence, int]] = []
        left: Dict[int, int] = {}
        for record, begin in zip(records, begins):
            for place in range(begin // self._group * self._group // self.page_tokens, len(record.pages)):
                page = record.pages[place]
                shares = left.setdefault(page, self._pool.shares(page))
                if shares > 1:
                    left[page] = shares - 1
                    copies.append((record, place))
        return copies

    def _settle(self, records: List[_Sequence], undo: List[List[int]]) -> None:
        for record, old in zip(records, undo):
            for place, page in enumerate(old):
                if record.pages[place] != page:
                    self._pool.give(page)

    def _restore(self, records: List[_Sequence], undo: List[List[int]]) -> None:
        for record, old in zip(records, undo):
            for place, page in enumerate(record.pages):
                if place >= len(old) or page != old[place]:
                    self._pool.give(page)
            record.pages = old
        self._version += 1

    def _copy_page(self, source: int, target: int) -> None:
        for plan, memory in zip(self._plans, self._memory):
            _copy(memory, plan.info.page_bytes, source, target)
        if self._accumulator is not None:
            _copy(self._accumulator, max(plan.info.accumulator_page_bytes for plan in self._plans), source, target)

    # ---------------------------------------------------------------- slots

    def _take_slot(self) -> int:
        if self._free_slots is None:
            return -1
        if not self._free_slots:
            raise out_of("sequences", f"all {self._slots} tail slots are in use")
        return self._free_slots.pop()

    def _copy_slot(self, source: int, target: int) -> None:
        for plan, memory in zip(self._plans, self._tails):
            if memory is not None:
                _copy(memory, plan.info.tail_bytes, source, target)

    def _check_end(self, name: str, length: int, count: int) -> None:
        begin = length // self._group * self._group
        if count < begin and count % self._group:
            raise argument_error(name, f"{count} lies within a group of tokens that is quantized; valid: multiples of "
                                       f"{self._group}, and {begin} to {length}")

    # ---------------------------------------------------------------- sequences

    def _insert(self, record: _Sequence) -> int:
        number = self._next
        self._next += 1
        self._sequences[number] = record
        return number

    def _find(self, sequence: int) -> _Sequence:
        record = self._sequences.get(whole("sequence", sequence))
        if record is None:
            raise argument_error("sequence", f"there is no sequence {sequence!r}")
        return record

    def _chosen(self, sequences: Sequence[int]) -> Tuple[List[int], List[_Sequence]]:
        """Checks that the sequences exist and are different, and returns their numbers and records."""
        numbers = wholes("sequences", sequences)
        if len(set(numbers)) != len(numbers):
            raise argument_error("sequences", "one sequence is given twice; valid: each sequence once")
        return numbers, [self._find(number) for number in numbers]

    def _layer(self, layer: int) -> int:
        return count_of("layer", layer, 0, self.layers - 1)

    def _even_length(self, sequence: int, record: _Sequence) -> int:
        if len(set(record.lengths)) > 1:
            raise argument_error("sequence", f"the layers of sequence {sequence} have {min(record.lengths)} to "
                                             f"{max(record.lengths)} tokens: a step is not complete")
        return record.lengths[0]

    def _is_later(self, layer: int) -> bool:
        """Whether the layer adds to the accumulator of the layer before, as all cross-layer layers but the base do."""
        plan = self._plans[layer]
        return plan.info.accumulator_page_bytes > 0 and not plan.spec["cache"].get("base", False)

    def _check_order(self, sequences: Sequence[int], records: List[_Sequence], layer: int, after: List[int]) -> None:
        """Cross-layer caches: checks that the accumulator holds the layer before, at the length that this layer will
        have."""
        if not self._is_later(layer):
            return
        for sequence, record, length in zip(sequences, records, after):
            if record.accumulated != layer - 1 or record.lengths[layer - 1] != length:
                raise argument_error("layer", f"sequence {sequence}: append the same tokens to layer {layer - 1} first; the "
                                              "layers of a cross-layer cache take every step in order")

    def _check_accumulated(self, sequences: Sequence[int], records: List[_Sequence], layer: int) -> None:
        if not self._plans[layer].info.accumulator_page_bytes:
            return
        for sequence, record in zip(sequences, records):
            if record.accumulated != layer:
                raise argument_error("layer", f"sequence {sequence}: the accumulator does not hold layer {layer}; attend after "
                                              "the layer's append and before the next layer's")

    # ---------------------------------------------------------------- arrays

    def _ints(self, values: Array) -> Memory:
        array = numpy.ascontiguousarray(values, "i4")
        if self._context.is_sim:
            return array
        if self._torch is None:
            return self._context.upload(array)
        tensor: Memory = self._torch.from_numpy(array).to(f"cuda:{self._context.device.ordinal}")
        return tensor

    def _table_of(self, sequences: Sequence[int], records: List[_Sequence], layer: int) -> _Table:
        lengths = tuple(record.lengths[layer] for record in records)
        key = (tuple(sequences), lengths, self._version)
        kept, table = self._table
        if table is None or kept != key:
            arrays = _table_arrays([(record.pages, length) for record, length in zip(records, lengths)], self.page_tokens)
            slots = None if self._free_slots is None else self._ints(numpy.array([record.slot for record in records]))
            indptr, indices, last = (self._ints(array) for array in arrays)
            table = _Table(PageTable(indptr, indices, last, len(records)), slots)
            self._table = (key, table)
        return table

    def _rows_of(self, sequences: Sequence[int], before: List[int], amounts: List[int]) -> _Rows:
        key = (tuple(sequences), tuple(before), tuple(amounts))
        kept, rows = self._rows
        if rows is None or kept != key:
            positions = [numpy.arange(begin, begin + count) for begin, count in zip(before, amounts)]
            rows = _Rows(self._ints(numpy.repeat(numpy.arange(len(amounts)), amounts)),
                         self._ints(numpy.concatenate([numpy.arange(0), *positions])), self._ints(_offsets(amounts)))
            self._rows = (key, rows)
        return rows

    def _tails_of(self, layer: int, table: _Table) -> Optional[Tails]:
        pool = self._tails[layer]
        return None if pool is None else Tails(pool, table.slots)

    def __repr__(self) -> str:
        return f"<xq.PagedCache: {len(self._sequences)} sequences, {self.free_pages} of {self.pages} pages free>"


def _plans_of(plan: Union[Plan, Sequence[Plan]], layers: int) -> List[Plan]:
    if isinstance(plan, Plan):
        return [plan] * count_of("layers", layers, 1, 2**20)
    if not isinstance(plan, (list, tuple)):
        raise TypeError(f"plan: {type(plan).__name__} is no plan; valid: an xq.Plan, or a list with a plan for each layer")
    if not plan:
        raise argument_error("plan", "the list is empty; valid: a plan for each layer")
    plans = [checked_plan("plan", p) for p in plan]
    if layers != 1:
        raise argument_error("layers", "it would have no effect: plan is a list with a plan for each layer")
    for i, p in enumerate(plans):
        if p.context is not plans[0].context:
            raise argument_error("plan", f"the plan of layer {i} belongs to another context")
        for name in ("page_tokens", "hidden_size", "heads", "kv_heads", "head_dim"):
            if getattr(p.info, name) != getattr(plans[0].info, name):
                raise argument_error("plan", f"the plan of layer {i} has {name} {getattr(p.info, name)}, and the plan of layer 0 has "
                                             f"{getattr(plans[0].info, name)}")
    return plans


_HOST = (bytes, bytearray, memoryview, numpy.ndarray)


def _check_kind(layer: int, memory: Any) -> None:
    """Raises unless `memory` can be a layer's weights: host memory, device memory, or an address."""
    if isinstance(memory, bool) or not (isinstance(memory, (*_HOST, int, DeviceBuffer)) or is_tensor(memory)):
        raise argument_error("weights", f"the weights of layer {layer} are a {type(memory).__name__}; valid: what Plan.pack_weights "
                                        "gives, or device memory")
    if isinstance(memory, int):
        address_of("weights", memory)


def _group_of(plan: Plan) -> int:
    """The number of tokens that are quantized together: a group, if the plan has per-channel groups, else 1."""
    return plan.spec["cache"]["group"] if plan.info.tail_bytes else 1


def _amounts(count: int, given: Optional[Sequence[int]]) -> List[int]:
    if given is None:
        return [1] * count
    amounts = [count_of("counts", value, 0, 2**30) for value in wholes("counts", given)]
    if len(amounts) != count:
        raise argument_error("counts", f"{len(amounts)} are given for {count} sequences; valid: one for each sequence")
    return amounts


def _offsets(amounts: List[int]) -> Array:
    return numpy.concatenate([[0], numpy.cumsum(amounts, dtype="i8")])


def _table_arrays(sequences: List[Tuple[List[int], int]],
                  page_tokens: int) -> Tuple[Array, Array, Array]:
    """Returns indptr, indices and last_page_len of sequences with these pages and lengths. If there is no page at all,
    indices has one element, so that it has an address."""
    used = [pages[:_ceil(length, page_tokens)] for pages, length in sequences]
    indices = [page for pages in used for page in pages] or [0]
    last = [(length - 1) % page_tokens + 1 if length else 0 for _, length in sequences]
    return _offsets([len(pages) for pages in used]).astype("i4"), numpy.array(indices, "i4"), numpy.array(last, "i4")


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit)


def _nbytes(memory: Any) -> int:
    return len(memory) if isinstance(memory, (bytes, bytearray)) else int(memory.nbytes)


def _copy(memory: Any, stride: int, source: int, target: int) -> None:
    """Copies piece `source` of `stride` bytes over piece `target`."""
    if isinstance(memory, DeviceBuffer):
        memory.write(memory.read(stride, source * stride), target * stride)
    else:
        memory[target * stride:(target + 1) * stride].copy_(memory[source * stride:(source + 1) * stride])


def _torch() -> Any:
    """The torch module if it can be imported and has a GPU, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None
