"""Training steps whose batch is split where working memory is too small for all of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fastseq.errors import warn
from fastseq.models.sequence import FittedState, NetworkTask
from fastseq.seeds import mixed_key
from fastseq.training.checkpoint import Arrays
from fastseq.training.gradient import StepResult
from fastseq.types import Int64

L = TypeVar("L", bound=FittedState)

_PARTS = "parts"  # name of what a checkpoint carries


class SplitTask(NetworkTask[L]):
    """A NetworkTask, of batches int64[B], whose steps on the CPU are split after a MemoryError.

    The batch is divided into twice as many parts, down to one example each, and the step begins
    anew; later batches have as many parts. The gradients of the parts are added, weighted so that
    their sum is that of the whole batch, before the optimiser's update. Each part has its own
    random numbers, which depend on the step and the number of parts alone: a step that is repeated
    has the bits of one that was split at first. A checkpoint has the number of parts.
    """

    _parts: int = 1  # of a batch

    def learn(self, batch: Int64, key: int) -> StepResult:
        before = self._parts
        while True:
            count = min(self._parts, len(batch))
            try:
                if count == 1:
                    result = super().learn(batch, key)
                else:
                    keys = [mixed_key(key, count, part) for part in range(count)]
                    result = self._learn_parts(np.array_split(batch, count), keys)
                break
            except MemoryError:
                on_cpu = self.learned.network.backend.device == "cpu"
                if not on_cpu or not self._splits or count == len(batch):
                    raise
                self._parts = 2 * count
            for layer in self.learned.network.layers.values():
                layer.release()  # arrays of the size of the larger parts
            self.parameters.zero_gradients()
        if self._parts > before:
            sizes = [-(-len(batch) // min(parts, len(batch))) for parts in (before, self._parts)]
            warn(
                f"memory is too small for the activations of {sizes[0]:,} examples: gradients are "
                f"computed for {sizes[1]:,} at a time and added, with the same weight in each step"
            )
        return result

    @property
    def _splits(self) -> bool:
        """Whether the loss is a mean over examples, of which parts can be added."""
        return True

    @abstractmethod
    def _learn_parts(self, parts: Sequence[Int64], keys: Sequence[int]) -> StepResult:
        """`learn` of the parts of a batch, one after the other."""

    def carried(self) -> Arrays:
        return {_PARTS: np.array([self._parts])} if self._parts > 1 else {}

    def restore_carried(self, carried: Arrays) -> None:
        self._parts = int(carried[_PARTS][0]) if _PARTS in carried else 1
