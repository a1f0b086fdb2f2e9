"""A conditional random field on the device; see nn/crf.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.cuda.nn import crf as kernels
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import crf
from fastseq.nn.crf import FORBIDDEN, PARTS, Constraints
from fastseq.nn.cuda.layer import DeviceLayer, Pending
from fastseq.types import Float32, Float64, Int32, Int64


class CRF(DeviceLayer, crf.CRF):
    """As nn.crf.CRF: emissions on the device, tags and offsets from the host."""

    def __init__(self, *settings: Any, **named: Any) -> None:
        self._masks: dict[Constraints, list[Any]] = {}
        super().__init__(*settings, **named)

    def _loss(self, rows: Any, tags: Int32, offsets: Int64, count: int, training: bool) -> Any:
        B, bounds = len(offsets) - 1, self.whole_numbers(offsets, "offsets")
        seen = self.feed.send(tags, np.int32)
        terms = self.space.array(("terms", training), B, dtype=np.float64)
        scores = self._scores(self.constraints)
        if not training:
            kernels.crf_paths(terms, rows, rows, seen, bounds, *scores, 1.0, kernels.LIKELIHOOD)
            return Pending(terms, 1 / count)
        gradient = self._demissions = self.space.array("demissions", *rows.shape)
        gradients = tuple(self.grads_on_device[name] for name in PARTS)
        if self.constraints is not None:
            gradients = tuple(
                self.output((name, "gradient"), *total.shape, zero=True)
                for name, total in zip(PARTS, gradients, strict=True)
            )
        kernels.crf_paths(
            terms, gradient, rows, seen, bounds, *scores, 1 / count, kernels.GRADIENT, gradients
        )
        if self.constraints is not None:
            masks = self._masks_of(self.constraints)
            for name, each, mask in zip(PARTS, gradients, masks, strict=True):
                kernels.forbid(each, each, mask, 0.0)
                row_kernels.add(self.grads_on_device[name], each)
        return Pending(terms, 1 / count)

    def decode(
        self, emissions: Any, offsets: Int64, constraints: Constraints | None = None
    ) -> tuple[Int32, Float64]:
        self.begin(False)
        rows, given = self._sequences(emissions, offsets)
        bounds = self.whole_numbers(given, "offsets")
        best = self.space.array("best", len(rows), dtype=np.int32)
        scores = self.space.array("scores", len(given) - 1, dtype=np.float64)
        kernels.crf_best(best, scores, rows, bounds, *self._scores(constraints or self.constraints))
        return memory.get(best), memory.get(scores)

    def marginals(self, emissions: Any, offsets: Int64) -> Float32:
        self.begin(False)
        rows, given = self._sequences(emissions, offsets)
        bounds = self.whole_numbers(given, "offsets")
        terms = self.space.array(("terms", False), len(given) - 1, dtype=np.float64)
        out = self.space.array("marginals", *rows.shape)
        kernels.crf_paths(
            terms, out, rows, bounds, bounds, *self._scores(self.constraints), 1.0,
            kernels.MARGINALS,
        )  # fmt: skip
        return memory.get(out)

    def _scores(self, constraints: Constraints | None) -> tuple[Any, Any, Any]:
        """Transitions, start and end, with what is forbidden."""
        scores = [self.on_device[name] for name in PARTS]
        if constraints is not None:
            masks, free = self._masks_of(constraints), scores
            scores = [self.space.array(n, *x.shape) for n, x in zip(PARTS, free, strict=True)]
            for out, own, mask in zip(scores, free, masks, strict=True):
                kernels.forbid(out, own, mask, FORBIDDEN)
        return scores[0], scores[1], scores[2]

    def _masks_of(self, constraints: Constraints) -> list[Any]:
        """What is forbidden of transitions, start and end, as int32."""
        if constraints not in self._masks:
            parts = [getattr(constraints, name).astype(np.int32) for name in PARTS]
            self._masks[constraints] = [memory.put(part) for part in parts]
        return self._masks[constraints]
