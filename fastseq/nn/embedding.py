"""Embedding: a vector for each unit of a vocabulary, learned or given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.nn.embedding import distinct, gather, scatter_add
from fastseq.nn.checks import as_numbers, as_rows, kept_by_forward
from fastseq.nn.initialisers import normal
from fastseq.nn.layer import Layer
from fastseq.settings import whole
from fastseq.threads import Team, locked
from fastseq.types import Float32, Int32, Int64

_LEAST = 1 << 16  # floats moved that are worth a thread
_LINE = 16  # floats of a cache line: no two threads write to one


class Embedding(Layer):
    """Rows of a table by number.

    Parameter "weight" [words, size], as in PyTorch. It is drawn from a normal distribution of
    standard deviation `scale`, 0.1: small beside what training adds, so that words seen a few
    times are not left as loud noise (as PyTorch's 1.0 does), and, where an output layer shares
    the table, the first logits are nearly even whatever the vocabulary. Yet large enough that a
    recurrent layer behind it works outside its all-but-zero range from the first step.

    Parameters
    ----------
    words, size : rows of the table (V) and their length (E), both 1 or more
    frozen : keep the table as it is: `backward` adds no gradient
    seed : of the initial values
    team : threads to share large batches; the caller alone without one
    """

    def __init__(
        self,
        words: int,
        size: int,
        *,
        frozen: bool = False,
        scale: float = 0.1,
        seed: int = 0,
        team: Team | None = None,
    ) -> None:
        self.words = whole("words", words, 1)
        self.size = whole("size", size, 1)
        self.frozen = frozen
        self.scale = scale
        self.team = team or Team(1)
        self._ids: Int32 | None = None
        self._places: Int32 = np.full(words, -1, np.int32)
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.words, self.size)}

    def initialise(self, rng: np.random.Generator) -> None:
        weight = self.values["weight"]
        weight[...] = normal(weight.shape, rng, self.scale)

    def load_rows(self, rows: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Set the rows of the given numbers (int[n], in 0..V - 1) to vectors float32[n, E].

        Raises DataError where a number or the shape does not fit.
        """
        numbers = as_numbers(rows, self.words, "the numbers of rows")
        given = as_rows(vectors, self.size, "the array of vectors")
        if len(given) != len(numbers):
            raise DataError(f"{len(given)} vectors were given for {len(numbers)} rows")
        self.values["weight"][numbers] = given

    def prepare(self, ids: Int32, distinct: bool) -> Int64 | None:
        """What layers on a device do before a pass over these ids, each once (they return the
        index) or all; here nothing."""
        return None

    def forward(self, ids: npt.ArrayLike, training: bool = True) -> Float32:
        """float32[N, E], the rows of ids int32[N]; DataError where an id is not in 0..V - 1."""
        numbers = as_numbers(ids, self.words, "the array of ids")
        out = np.empty((len(numbers), self.size), np.float32)
        if training:
            self._ids = numbers
        target, table = out.reshape(-1), self.values["weight"].reshape(-1)

        def part(i: int) -> None:
            gather(target, table, numbers, *ranges[i])

        ranges = self.team.split(len(numbers), -(-_LEAST // self.size), _LINE)
        self.team.run(part, len(ranges))
        return out

    @locked
    def forward_distinct(self, ids: npt.ArrayLike, training: bool = True) -> tuple[Float32, Int64]:
        """The rows of ids int32[N], each once: float32[U, E] and int64[N], which of them each id
        is; what recurrent layers take as input and index. `backward` then takes dy float32[U, E].

        Raises DataError where an id is not in 0..V - 1.
        """
        numbers = as_numbers(ids, self.words, "the array of ids")
        unique, index = np.empty_like(numbers), np.empty(len(numbers), np.int64)
        count = distinct(unique, index, self._places, numbers)
        return self.forward(unique[:count], training), index

    def backward(self, dy: npt.ArrayLike) -> None:
        """Add dy float32[N, E] to the gradient of the rows that came out.

        Threads share the columns, so every sum is taken in the order of the ids.
        """
        numbers = kept_by_forward(self._ids)
        self._ids = None
        given = as_rows(dy, self.size, "the gradient")
        if len(given) != len(numbers):
            raise DataError(f"a gradient of {len(given)} rows, expected {len(numbers)}")
        if self.frozen or not len(numbers):
            return
        source, target = given.reshape(-1), self.grads["weight"].reshape(-1)

        def part(i: int) -> None:
            scatter_add(target, source, numbers, *ranges[i])

        least = max(2 * _LINE, -(-_LEAST // len(numbers)))
        ranges = self.team.split(self.size, least, _LINE)
        self.team.run(part, len(ranges))
