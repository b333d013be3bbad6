"""The cache that generate() takes: pages of quantized activations, with one page table for all layers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import torch
import transformers
from transformers.cache_utils import CacheLayerMixin

from .._closing import Unique
from .._error import argument_error
from .._plan import PageTable, Plan, Tails
from ._layers import Owned, is_cross, zeros
from ._model import unsupported

if TYPE_CHECKING:
    from ._enable import Enabled


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """The bytes of a cache in all layers, and of keys and values of 16 bits for comparison.

    used      bytes of the cached tokens: whole pages, tails and accumulator
    reserved  bytes that are allocated: room for `tokens` tokens of every sequence
    fp16      bytes of the cached tokens' keys and values in 16 bits, without padding
    """

    used: int
    reserved: int
    fp16: int

    @property
    def share(self) -> float:
        """used / fp16; 0 for an empty cache."""
        return self.used / self.fp16 if self.fp16 else 0.0


@dataclasses.dataclass(frozen=True)
class Step:
    """The tokens that one forward pass adds, the same for all layers. The n rows are new tokens; pad tokens have no
    row.

    by_torch    whether the model's own attention computes the outputs, because the cache is empty
    single      whether the input has one column, so that every sequence attends with one query, at its last token
    rows        int64 [n]: the places of the tokens among the batch * columns places of the input; None: all places
    sequence    int32 [n]: each token's sequence
    position    int32 [n]: each token's position in its sequence
    indptr      int32 [batch + 1]: the rows of each sequence
    table       the page table after this step
    after_host  the number of tokens of each sequence after this step, on the host
    after       the same, int32 [batch] on the device
    longest     an upper bound on the tokens of each sequence
    columns     columns of the input, including pad tokens
    most        an upper bound on the new tokens of each sequence
    shift       for each sequence, the caller's positions less the tokens' positions in the sequence; None: the caller
                has given no positions
    """

    by_torch: bool
    single: bool
    rows: Optional[torch.Tensor]
    sequence: torch.Tensor
    position: torch.Tensor
    indptr: torch.Tensor
    table: PageTable
    after_host: List[int]
    after: torch.Tensor
    longest: int
    columns: int
    most: int
    shift: List[Optional[int]]


class _Layer(CacheLayerMixin):
    """The interface that transformers uses of a layer when it makes masks. The pages belong to the Cache."""

    is_compileable = False
    supports_early_init = False
    is_sliding = False  # every layer caches all tokens; the kernels apply the window

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise _foreign()

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        raise _foreign()

    def get_seq_length(self) -> int:
        return self._cache.get_seq_length()

    def get_mask_sizes(self, query_length: int) -> Tuple[int, int]:
        return self._cache.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self._cache.tokens

    @property
    def batch_size(self) -> int:
        return self._cache.batch

    @property
    def is_croppable(self) -> bool:
        """Whether any number of the newest tokens can be removed, as assisted decoding does."""
        return not self._cache.has_tails


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype not in (torch.int64, torch.int32):
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise argument_error(name, f"it is of {kind}; valid: a tensor of int64 or int32")


def _foreign() -> Exception:
    return unsupported("past_key_values", "this cache keeps activations, and the model gives it keys and values; "
                                          "valid: the model that xq.transformers.enable() was called with")


class Cache(Unique, transformers.Cache):
    """Quantized activations of `batch` sequences with room for `tokens` tokens each, in all layers of an enabled model.

    `Enabled.cache` makes a cache. `model.generate(..., past_key_values=cache)` fills it, and continues the sequences if
    it is called with the same cache again. The pages of all layers are allocated here, so a step allocates no pages.
    Each sequence has its own pages, and pad tokens take none. Only one thread may use a cache at a time.

    lengths  int32 [batch], on the device: the number of tokens of each sequence
    """

    def __init__(self, enabled: Enabled, batch: int, tokens: int) -> None:
        super().__init__(layers=[_Layer(self) for _ in range(len(enabled.layers))])
        self.enabled = enabled
        self.batch = batch
        self.tokens = tokens
        self.step: Optional[Step] = None
        self.fixed_grid = False  # whether attend's grid is that of the longest possible sequence, for capturing it
        self._seen = 0  # columns of the input so far, including pad tokens
        self._lengths: List[int] = [0] * batch
        self._shift: List[Optional[int]] = [None] * batch
        layers, device = enabled.layers, enabled.torch_device
        self._plans = layers.plans(batch, tokens)
        info = self._plans[0].info
        self._page_tokens = info.page_tokens
        self._room = -(-tokens // info.page_tokens)  # pages per sequence
        self._weights = [layers.packed(index, plan) for index, plan in enumerate(self._plans)]
        self._pages = [zeros(layers.context, device, batch * self._room * plan.info.page_bytes) for plan in self._plans]
        self.lengths = torch.zeros(batch, dtype=torch.int32, device=device)
        self._slots = torch.arange(batch, dtype=torch.int32, device=device)
        self._each = torch.arange(batch + 1, dtype=torch.int32, device=device)
        self._entries = torch.arange(batch * self._room, dtype=torch.int32, device=device)
        self._tails = [Tails(zeros(layers.context, device, batch * plan.info.tail_bytes), self._slots)
                       if plan.info.tail_bytes else None for plan in self._plans]
        pages = max(plan.info.accumulator_page_bytes for plan in self._plans) * batch * self._room
        self._accumulator = zeros(layers.context, device, pages) if pages else None
        self._workspaces: Dict[int, Owned] = {}

    # ------------------------------------------------- the interface that transformers calls

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The number of columns of the input so far, including pad tokens. It is the position of the next column."""
        return self._seen

    def get_max_length(self, layer_idx: Optional[int] = None) -> int:
        return self.tokens

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        raise _foreign()

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        raise unsupported("num_beams", "beam search reorders the cache's sequences, and xq's cannot be; valid: 1")

    def batch_repeat_interleave(self, repeats: int) -> None:
        raise unsupported("past_key_values", "xq's cache cannot repeat its sequences; give a batch of the final size")

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        raise unsupported("past_key_values", "xq's cache cannot drop or reorder sequences")

    def activate_past_recording(self) -> None:
        """Does nothing: `crop` needs no recording."""

    def crop(self, tokens_to_remove: int) -> None:
        """Removes the newest `-tokens_to_remove` tokens, as assisted decoding asks. The cache must have one sequence.
        With per-channel groups (`axis_k` or `axis_v` "channel"), only tokens of the unfinished group can be removed."""
        if tokens_to_remove > 0:
            raise argument_error("tokens_to_remove", f"{tokens_to_remove}; valid: 0, or minus the number of tokens to take back")
        if tokens_to_remove == 0:
            return
        if self.batch != 1:
            raise unsupported("crop", f"the cache has {self.batch} sequences; valid: 1")
        length = self._lengths[0] + tokens_to_remove
        if length < 0:
            raise argument_error("tokens_to_remove", f"{tokens_to_remove} would remove more than the sequence's {self._lengths[0]} tokens")
        for index, plan in enumerate(self._plans):
            group = self.enabled.layers.group(index)
            if plan.info.tail_bytes and length < self._lengths[0] // group * group:
                raise unsupported("crop", f"tokens of layer {index} are quantized in groups of {group}, and a group cannot be taken "
                                          "back; valid for assisted decoding: axis_k and axis_v \"token\"")
        self._lengths[0] = length
        self._seen += tokens_to_remove
        self.lengths.fill_(length)

    def reset(self) -> None:
        """Empties the cache. Its memory stays allocated."""
        self._seen = 0
        self._lengths = [0] * self.batch
        self._shift = [None] * self.batch
        self.lengths.zero_()
        self.step = None

    # ---------------------------------------------------------------- figures

    @property
    def has_tails(self) -> bool:
        """Whether tokens are quantized in per-channel groups, so that there are tails."""
        return any(tails is not None for tails in self._tails)

    @property
    def sequence_lengths(self) -> List[int]:
        """The number of tokens of each sequence, without pad tokens."""
        return list(self._lengths)

    def memory(self) -> MemoryUse:
        """The bytes of the cache, compared with keys and values of 16 bits."""
        pages = sum(-(-length // self._page_tokens) for length in self._lengths)
        held = sum(1 for length in self._lengths if length)
        infos = [plan.info for plan in self._plans]
        shared = max(info.accumulator_page_bytes for info in infos)
        fp16 = sum(4 * info.kv_heads * info.head_dim for info in infos) * sum(self._lengths)
        used = sum(pages * info.page_bytes + held * info.tail_bytes for info in infos) + pages * shared
        all_pages = self.batch * self._room
        reserved = sum(all_pages * info.page_bytes + self.batch * info.tail_bytes for info in infos) + all_pages * shared
        return MemoryUse(used, reserved, fp16)

    def __repr__(self) -> str:
        return f"<xq.transformers.Cache of {self.batch} sequences, {self._lengths} of {self.tokens} tokens>"

    # ---------------------------------------------------------------- a step

    def begin(self, batch: int, columns: int, mask: Optional[torch.Tensor], positions: Optional[torch.Tensor],
              by_torch: bool, cache_position: Optional[torch.Tensor] = None) -> Step:
        """Plans the step of the next `columns` columns: their tokens and pages. `mask` is [batch, columns so far +
        new], with 0 for pad tokens; None means that no new column is a pad token. `positions` is [1 or batch, columns].
        `cache_position` [columns] holds the numbers of the new columns. Without a mask, a step of decoding does not
        wait for the device. A refused step changes nothing."""
        if batch != self.batch:
            raise argument_error("past_key_values", f"the cache has {self.batch} sequences, and the input {batch}")
        kept = self._kept(columns, mask)
        counts = [columns] * batch if kept is None else kept.sum(1).tolist()
        self._check_columns(columns, cache_position)
        shift = self._shift_of(columns, kept, positions)
        after = [length + count for length, count in zip(self._lengths, counts)]
        if max(after) > self.tokens:
            raise argument_error("past_key_values", f"a sequence would have {max(after)} tokens, and the cache has room for {self.tokens}")
        self.step = self._step(columns, kept, counts, after, by_torch and self._seen == 0, shift)
        return self.step

    def commit(self) -> None:
        """Ends the step: its tokens are in all layers."""
        assert self.step is not None
        self._lengths = self.step.after_host
        self._shift = self.step.shift
        self.lengths.copy_(self.step.after)
        self._seen += self.step.columns
        self.step = None

    def advanced(self) -> None:
        """Updates the host's counts after the replay of a captured step, which updates the device's counts itself."""
        self._lengths = [length + 1 for length in self._lengths]
        self._seen += 1

    def restore(self, lengths: List[int], seen: int) -> None:
        """Restores the host's counts after a step that was captured and did not run."""
        self._lengths = lengths
        self._seen = seen

    def check_room(self) -> None:
        """Raises ArgumentError if a sequence has no room for one more token."""
        if max(self._lengths) >= self.tokens:
            raise argument_error("past_key_values", f"a sequence would have {max(self._lengths) + 1} tokens, and the cache has room for "
                                                    f"{self.tokens}")

    def _kept(self, columns: int, mask: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
        """Returns bool [batch, columns] on the host: which of the new columns are tokens; None: all of them."""
        if mask is None:
            return None
        if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
            raise unsupported("attention_mask", "valid: a tensor [batch, tokens] of ones, and zeros for pad tokens")
        if tuple(mask.shape) != (self.batch, self._seen + columns):
            raise argument_error("attention_mask", f"its shape is {list(mask.shape)}; valid: {[self.batch, self._seen + columns]}, "
                                                   "the columns that are cached and the new ones")
        told = mask.bool()
        valid = (mask == told).all(1, keepdim=True)
        both = torch.cat((told[:, :self._seen].sum(1, keepdim=True), told[:, self._seen:], valid), 1).cpu()
        if not bool(both[:, -1].all()):
            raise argument_error("attention_mask", "it has other values than 0 and 1; valid: 1 for a token, 0 for a pad token")
        if both[:, 0].tolist() != self._lengths:
            raise argument_error("attention_mask", f"it has {both[:, 0].tolist()} tokens before the new ones, and the cache "
                                                   f"{self._lengths}; tokens that are cached cannot be masked")
        kept = both[:, 1:-1].bool()
        return None if bool(kept.all()) else kept

    def _check_columns(self, columns: int, told: Optional[torch.Tensor]) -> None:
        """Checks cache_position, which some releases of transformers pass, against the cache's own count. Like
        positions, it is not checked if that would make the host wait for a GPU."""
        if told is None:
            return
        _check_whole("cache_position", told)
        if told.is_cuda and self._seen > 0:
            return
        if told.tolist() != list(range(self._seen, self._seen + columns)):
            raise argument_error("cache_position", f"valid: {self._seen} to {self._seen + columns - 1}, the numbers of the new columns")

    def _shift_of(self, columns: int, kept: Optional[torch.Tensor], positions: Optional[torch.Tensor]) -> List[Optional[int]]:
        """Returns each sequence's shift after the step. Positions must grow by one from token to token; a constant
        shift does not matter, because attention only depends on differences. Positions are not checked if that would
        make the host wait for a GPU during decoding."""
        if positions is None:
            self._check_default()
            return self._shift
        _check_whole("position_ids", positions)
        if positions.is_cuda and self._seen > 0:
            return self._shift
        if positions.dim() != 2 or positions.shape[0] not in (1, self.batch) or positions.shape[1] != columns:
            raise unsupported("position_ids", f"their shape is {list(positions.shape)}; valid: {[self.batch, columns]}")
        told = positions.cpu().expand(self.batch, columns)
        return [self._shift_of_row(row, told[row] if kept is None else told[row][kept[row]]) for row in range(self.batch)]

    def _shift_of_row(self, row: int, positions: torch.Tensor) -> Optional[int]:
        length, known = self._lengths[row], self._shift[row]
        shifts = (positions - torch.arange(length, length + len(positions))).tolist()
        if not shifts:
            return known
        valid = [known] if known is not None else self._default_shifts(row) if length else shifts[:1]
        if shifts[0] not in valid or any(shift != shifts[0] for shift in shifts):
            first = " or ".join(str(length + shift) for shift in sorted(set(valid)))
            raise unsupported("position_ids", f"the positions of sequence {row} do not grow by one from token to token; "
                                              f"valid: from {first} on")
        return int(shifts[0])

    def _check_default(self) -> None:
        """Checks a step without positions. The model then counts columns, which only continues a sequence if its
        earlier positions counted columns or tokens."""
        for row, known in enumerate(self._shift):
            if known is not None and known not in self._default_shifts(row):
                raise unsupported("position_ids", f"none are given, and the positions of sequence {row} end so far at "
                                                  f"{self._lengths[row] + known - 1}; valid: positions that follow")

    def _default_shifts(self, row: int) -> List[int]:
        """The shift of positions that count the sequence's tokens, and of positions that count columns."""
        return [0, self._seen - self._lengths[row]]

    def _step(self, columns: int, kept: Optional[torch.Tensor], counts: Sequence[int], after: List[int], by_torch: bool,
              shift: List[Optional[int]]) -> Step:
        device, batch = self.lengths.device, self.batch
        single = columns == 1
        if kept is None:
            rows = None
            indptr = self._each * columns
            sequence = self._slots if single else self._slots.repeat_interleave(columns, output_size=batch * columns)
            position = self.lengths if single else \
                (self.lengths[:, None] + torch.arange(columns, dtype=torch.int32, device=device)).reshape(-1)
            after_device = self.lengths + columns
        else:
            tokens = kept.to(device)
            rows = torch.nonzero(kept.reshape(-1)).reshape(-1).to(device)
            sequence = (rows // columns).to(torch.int32)
            places = self.lengths[:, None] + tokens.cumsum(1, dtype=torch.int32) - 1
            position = places.reshape(-1)[rows]
            grown = tokens.sum(1, dtype=torch.int32)
            indptr = torch.nn.functional.pad(grown.cumsum(0, dtype=torch.int32), (1, 0))
            after_device = self.lengths + grown
        longest = self.tokens if self.fixed_grid else max(after)
        return Step(by_torch=by_torch, single=single, rows=rows, sequence=sequence, position=position, indptr=indptr,
                    table=self._table(after_device), after_host=after, after=after_device, longest=longest, columns=columns,
                    most=max(counts), shift=shift)

    def _table(self, lengths: torch.Tensor) -> PageTable:
        """The page table of sequences of these lengths. Sequence i has pages i * room, i * room + 1, ... of the pools.
        Entries after those of the last sequence are not read."""
        pages = (lengths + (self._page_tokens - 1)) // self._page_tokens
        indptr = torch.nn.functional.pad(pages.cumsum(0, dtype=torch.int32), (1, 0))
        owner = torch.searchsorted(indptr[1:], self._entries, right=True).clamp(max=self.batch - 1)
        indices = owner.to(torch.int32) * self._room + (self._entries - indptr[owner]).clamp(max=self._room - 1)
        last = (lengths - 1).remainder(self._page_tokens) + 1
        return PageTable(indptr, indices, last.to(torch.int32))

    # ---------------------------------------------------------------- a layer of a step

    def append(self, index: int, x: torch.Tensor) -> None:
        """Appends the step's tokens to a layer. x is [n, d], of the plan's dtype."""
        step, plan = self.step, self._plans[index]
        assert step is not None
        if len(x):
            plan.append(x, step.sequence, step.position, step.table, self._pages[index], self._weights[index],
                        append_indptr=step.indptr, tails=self._tails[index], accumulator=self._accumulator_of(index))
        if is_cross(self.enabled.layers.methods[index]):
            assert self._accumulator is not None
            plan.accumulate(step.table, self._pages[index], self._accumulator, self._weights[index],
                            max_tokens=step.longest, tails=self._tails[index])

    def attend(self, index: int, q: torch.Tensor) -> torch.Tensor:
        """Attends with the queries of the new tokens over the cache. q is [n, H, dh], or [batch, H, dh] in a step of
        one column, before RoPE and after bias and norm, of the plan's dtype. Returns the same shape and dtype."""
        step = self.step
        assert step is not None
        if not len(q):
            return torch.empty_like(q)
        plan = self._plans[index] if step.single else self._plan_of_many(index, step.columns)
        many: Dict[str, Any] = {} if step.single else {"query_indptr": step.indptr, "max_queries": step.most}
        out: torch.Tensor = plan.attend(q, step.table, self._pages[index], self._weights[index], self._workspace(plan),
                                        max_tokens=step.longest, tails=self._tails[index],
                                        accumulator=self._accumulator_of(index), **many)
        return out

    def _plan_of_many(self, index: int, queries: int) -> Plan:
        """A plan for several queries per sequence. It allows the next power of two, so that few plans serve all
        numbers."""
        most = 1 << (queries - 1).bit_length()
        return self.enabled.layers.plans(self.batch, self.tokens, most)[index]

    def _accumulator_of(self, index: int) -> Optional[Owned]:
        return self._accumulator if self._plans[index].info.accumulator_page_bytes else None

    def _workspace(self, plan: Plan) -> Owned:
        if id(plan) not in self._workspaces:
            self._workspaces[id(plan)] = zeros(plan.context, self.lengths.device, plan.info.workspace_bytes)
        return self._workspaces[id(plan)]


__all__ = ["Cache", "MemoryUse", "Step"]
