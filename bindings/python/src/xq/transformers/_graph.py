"""Decoding steps as one CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import nn

from .._error import argument_error

if TYPE_CHECKING:
    from ._cache import Cache


class DecodeGraph:
    """Decodes one token of every sequence of a cache per step. `Enabled.decode_graph` makes it.

    On a GPU the first step runs without a graph, on a stream of its own. The second step is captured into a CUDA graph,
    and from then on each step is one replay of the graph. Page tables, positions and lengths are computed on the
    device, so the host does not wait for it. On the CPU there are no graphs: every step runs as it is, with the same
    results.

    Prompts run outside the graph, by `model(input_ids, attention_mask=..., past_key_values=cache)` or generate() with
    the cache. The cache may be reset and filled again between steps. A graph can only be used with its cache.
    """

    def __init__(self, model: nn.Module, cache: Cache) -> None:
        self._model = model
        self._cache = cache
        self._ids = torch.zeros((cache.batch, 1), dtype=torch.int64, device=cache.lengths.device)
        self._logits: Optional[torch.Tensor] = None
        self._graph: Any = None
        self._warm = False

    @torch.no_grad()
    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Decodes the newest token of each sequence, ids [batch], which is not cached yet. Returns the logits of the
        next tokens, [batch, vocabulary], which the next step overwrites. Raises ArgumentError if a sequence is full."""
        if tuple(ids.shape) != (self._cache.batch,):
            raise argument_error("ids", f"their shape is {list(ids.shape)}; valid: {[self._cache.batch]}")
        self._cache.check_room()
        self._ids.copy_(ids[:, None])
        if not self._ids.is_cuda:
            return self._forward()
        if not self._warm:
            return self._first()
        if self._graph is None:
            self._capture()
        self._graph.replay()
        self._cache.advanced()
        assert self._logits is not None
        return self._logits

    def _forward(self) -> torch.Tensor:
        """Runs one step whose shapes and addresses are the same every time."""
        cache = self._cache
        cache.fixed_grid = True
        try:
            out = self._model(input_ids=self._ids, position_ids=cache.lengths[:, None].long(), use_cache=True, logits_to_keep=1,
                              **{cache.enabled.cache_name: cache})
            logits: torch.Tensor = out.logits[:, -1]
            return logits
        finally:
            cache.fixed_grid = False

    def _first(self) -> torch.Tensor:
        """Runs the first step on a stream of its own, so that libraries allocate their workspaces before the
        capture."""
        side = torch.cuda.Stream(self._ids.device)
        side.wait_stream(torch.cuda.current_stream(self._ids.device))
        with torch.cuda.stream(side):
            logits = self._forward()
        torch.cuda.current_stream(self._ids.device).wait_stream(side)
        logits.record_stream(torch.cuda.current_stream(self._ids.device))
        self._warm = True
        return logits

    def _capture(self) -> None:
        """Captures a step. Nothing runs, so the host's lengths are restored."""
        cache = self._cache
        lengths, seen = cache.sequence_lengths, cache.get_seq_length()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._forward()
        cache.restore(lengths, seen)
        self._graph = graph


__all__ = ["DecodeGraph"]
