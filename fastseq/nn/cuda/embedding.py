"""Embedding on the device; see nn/embedding.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn import embedding as kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.nn.embedding import distinct
from fastseq.nn import embedding
from fastseq.nn.checks import as_numbers, kept_by_forward
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.types import Int32, Int64


class Embedding(DeviceLayer, embedding.Embedding):
    """As nn.embedding.Embedding: ids from the host, rows on the device."""

    def load_rows(self, rows: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        self.parameters_of.pull()
        super().load_rows(rows, vectors)
        self.parameters_of.push()

    def prepare(self, ids: Int32, distinct: bool) -> Int64 | None:
        """Send what passes over these ids need, each once (the index is returned) or all."""
        index: Int64 | None = None
        if distinct:
            ids, index = self._distinct(ids)
        self.whole_numbers(ids, "ids")
        if not self.frozen:
            self._groups(ids)
        return index

    def forward(self, ids: npt.ArrayLike, training: bool = True) -> Any:
        self.begin(training)
        numbers = as_numbers(ids, self.words, "the array of ids")
        shape = len(numbers), self.size
        out = self.space.array("y", *shape) if training else memory.empty(shape)
        kernels.gather(out, self.on_device["weight"], self.whole_numbers(numbers, "ids"))
        if training:
            self._ids = numbers
        return out

    def forward_distinct(self, ids: npt.ArrayLike, training: bool = True) -> tuple[Any, Int64]:
        numbers = as_numbers(ids, self.words, "the array of ids")
        unique, index = self._distinct(numbers)
        return self.forward(unique, training), index

    def backward(self, dy: Any) -> None:
        numbers = kept_by_forward(self._ids)
        self._ids = None
        given = self.rows(dy, self.size, "the gradient")
        if len(given) != len(numbers):
            raise DataError(f"a gradient of {len(given)} rows, expected {len(numbers)}")
        if not self.frozen and len(numbers):
            kernels.add_rows(self.grads_on_device["weight"], given, *self._groups(numbers))

    def _distinct(self, ids: Int32) -> tuple[Int32, Int64]:
        def make() -> tuple[Int32, Int64]:
            unique, index = np.empty_like(ids), np.empty(len(ids), np.int64)
            count = distinct(unique, index, self._places, ids)
            return unique[:count].copy(), index

        return self.feed.made("distinct", (ids,), make)

    def _groups(self, ids: Int32) -> tuple[Any, ...]:
        """What the gradients of these rows are added up by: see kernels.cuda.embedding.groups."""

        def make() -> tuple[Any, ...]:
            return tuple(self.feed.send(part, np.int32) for part in kernels.groups(ids))

        return self.feed.made("groups", (ids,), make)
