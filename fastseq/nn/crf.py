"""A linear-chain conditional random field over the tags of ragged batches.

    crf = CRF(len(names), constraints=bio_constraints(names))
    loss = crf.loss(emissions, tags, offsets)
    demissions = crf.backward()
    best, scores = crf.decode(emissions, offsets)

The score of a path y through the emissions e of one sequence is

    start[y_0] + Σ_t e[t, y_t] + Σ_t transitions[y_t, y_t+1] + end[y_last],

and its probability is softmax over all K^T paths (Lafferty, McCallum, Pereira 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.crf import crf_best, crf_paths
from fastseq.kernels.simd.gemm import padded
from fastseq.nn.arrays import as_numbers, as_offsets
from fastseq.nn.layer import Layer
from fastseq.settings import whole
from fastseq.threads import Team
from fastseq.types import Float32, Float64, Int32, Int64

Bool = npt.NDArray[np.bool_]

FORBIDDEN = -1e4  # score of a forbidden transition: far below any other, and finite
PARTS = ("transitions", "start", "end")  # parameters, and what constraints forbid of each
SLOTS = 8  # partial sums of the gradients, independent of the number of threads
SMALL = 50_000  # operations below which one thread does all the work

_LIKELIHOOD, _GRADIENT, _MARGINALS = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """Transitions that no sequence of tags should have.

    transitions  bool[K, K]  true where (from, to) is forbidden
    start        bool[K]     true where a sequence may not begin
    end          bool[K]     true where a sequence may not end; all false by default
    """

    transitions: Bool
    start: Bool
    end: Bool = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.end is None:
            object.__setattr__(self, "end", np.zeros(len(self.start), np.bool_))


def bio_constraints(names: Sequence[str]) -> Constraints:
    """The constraints of IOB2 (BIO): I-X, and E-X, only after B-X or I-X.

    A name is "O", a letter alone, or letter, hyphen and type; other names are not constrained.
    models.metrics.TagScheme has the constraints of all tag schemes.
    """
    parts = [_parts(name) for name in names]
    inside = np.array([prefix in ("I", "E") for prefix, _ in parts], np.bool_)
    opening = {kind for prefix, kind in parts if prefix == "B"}
    # without a B-X, spans of type X could not begin at all
    inside &= np.array([kind in opening for _, kind in parts], np.bool_)
    follows = np.array(
        [[a in ("B", "I") and ka == kb for b, kb in parts] for a, ka in parts], np.bool_
    ).reshape(len(names), len(names))
    return Constraints(inside[None, :] & ~follows, inside)


def _parts(name: str) -> tuple[str, str]:
    prefix, hyphen, kind = name.partition("-")
    return (prefix, kind) if hyphen or prefix in ("B", "I", "E", "S") else ("", name)


class CRF(Layer):
    """Scores of neighbouring tags, trained together with the scores of single tags.

    Parameters
    ----------
    tags : K, the number of tags, at least 1.
    seed : of the initial values, uniform in [-0.1, 0.1].
    team : threads; each takes whole sequences. Results are the same on any number.
    constraints : forbidden transitions score -10,000 in place of their parameter (whose gradient
        is 0) in the loss too, so that they are chosen only where no other path is left.

    Parameters of the layer: "transitions" [K, K] (from, to), "start" [K], "end" [K].

    Raises
    ------
    SettingsError
        `tags` is below 1, or the constraints are of another number of tags.
    """

    def __init__(
        self,
        tags: int,
        seed: int = 0,
        team: Team | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        self.tags = whole("tags", tags, 1)
        if constraints is not None and (
            constraints.transitions.shape != (tags, tags)
            or constraints.start.shape != (tags,)
            or constraints.end.shape != (tags,)
        ):
            raise SettingsError(
                f"the constraints of a CRF of {tags} tags are of shapes "
                f"{list(constraints.transitions.shape)} and {list(constraints.start.shape)}, "
                f"expected {[tags, tags]} and {[tags]}"
            )
        self.team = team or Team(1)
        self.constraints = constraints
        self._demissions: Any = None
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the parameters."""
        return {"transitions": (self.tags, self.tags), "start": (self.tags,), "end": (self.tags,)}

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw every parameter from [-0.1, 0.1]."""
        for value in self.values.values():
            value[...] = rng.uniform(-0.1, 0.1, value.shape)

    def loss(
        self,
        emissions: Float32,
        tags: Int32,
        offsets: Int64,
        training: bool = True,
        per: Literal["token", "sequence"] = "token",
    ) -> Any:
        """The mean negative log-likelihood of tagged sequences, in nats.

        Parameters
        ----------
        emissions : float32[N, K], a score for every tag at every position.
        tags : int32[N], the expected tags.
        offsets : int64[B + 1], sequence b is the positions offsets[b]:offsets[b + 1].
        training : add to the gradients of the parameters, and keep that of the emissions for
            `backward`.
        per : the sum over sequences is divided by N ("token") or by B ("sequence").

        Raises
        ------
        DataError
            Shapes do not fit, a sequence is empty, or a tag is not in 0:K.
        SettingsError
            `per` is neither.
        """
        if per not in ("token", "sequence"):
            raise SettingsError(f'per is {per!r}, expected "token" or "sequence"')
        self.begin(training)
        rows, bounds = self._sequences(emissions, offsets)
        if np.shape(tags) != (len(rows),):
            raise DataError(f"tags are of shape {list(np.shape(tags))}, expected [{len(rows)}]")
        checked = as_numbers(tags, self.tags, "the array of tags")
        count = len(rows) if per == "token" else len(bounds) - 1
        return self._loss(rows, checked, bounds, count, training)

    def backward(self) -> Any:
        """The gradient float32[N, K] of the emissions of the last `loss` with `training`.

        Raises SettingsError if there was none since the last call.
        """
        if self._demissions is None:
            raise SettingsError("CRF.backward() was called without a loss(training=True) before it")
        demissions, self._demissions = self._demissions, None
        return demissions

    def decode(
        self, emissions: Float32, offsets: Int64, constraints: Constraints | None = None
    ) -> tuple[Int32, Float64]:
        """The best tags int32[N] and the scores float64[B] of these paths (Viterbi).

        constraints : transitions not to choose; None: those of the layer

        Of paths with equal scores, the one with the lower tag at the last position where they
        differ. Raises DataError if shapes do not fit or a sequence is empty.
        """
        batch = self._batch(*self._sequences(emissions, offsets))
        width, tables = padded(self.tags), self._tables(constraints or self.constraints)
        best = np.empty(len(batch.flat) // self.tags, np.int32)
        scores = np.empty(len(batch.offsets) - 1, np.float64)
        ranges = self._ranges(batch)

        def work(part: int) -> None:
            pointers = np.empty(batch.longest * width, np.int32)
            crf_best(
                best, scores, pointers, np.empty(2 * width, np.float32), batch.flat, batch.offsets,
                batch.bounds, *ranges[part], tables.transitions, tables.ends,
            )  # fmt: skip

        self.team.run(work, len(ranges))
        return best, scores

    def marginals(self, emissions: Float32, offsets: Int64) -> Float32:
        """float32[N, K]: the marginal probability of every tag at every position.

        Raises DataError if shapes do not fit or a sequence is empty.
        """
        batch = self._batch(*self._sequences(emissions, offsets))
        _, shares, _ = self._paths(batch, np.zeros(0, np.int32), _MARGINALS, 1.0)
        return shares.reshape(-1, self.tags)

    def violations(self, tags: Int32, offsets: Int64) -> int:
        """The number of forbidden transitions, starts and ends in tag sequences.

        Raises DataError if a tag is not in 0:K or a sequence is empty.
        """
        if self.constraints is None:
            return 0
        tags = as_numbers(tags, self.tags, "the array of tags")
        starts = as_offsets(offsets, len(tags))[:-1]
        inner = np.ones(len(tags), np.bool_)
        inner[starts] = False
        at = np.flatnonzero(inner)
        found = int(self.constraints.transitions[tags[at - 1], tags[at]].sum())
        found += int(self.constraints.start[tags[starts]].sum())
        return found + int(self.constraints.end[tags[np.append(starts[1:], len(tags)) - 1]].sum())

    def _sequences(self, emissions: Any, offsets: Int64) -> tuple[Any, Int64]:
        """Emissions and offsets, checked."""
        rows = self.floats(emissions, "emissions")
        if rows.ndim != 2 or rows.shape[1] != self.tags:
            raise DataError(
                f"the emissions of a CRF of {self.tags} tags are of shape {list(rows.shape)}, "
                f"expected [N, {self.tags}]"
            )
        return rows, as_offsets(offsets, len(rows))

    def _loss(self, rows: Any, tags: Int32, offsets: Int64, count: int, training: bool) -> Any:
        batch = self._batch(rows, offsets)
        if not training:
            losses, _, _ = self._paths(batch, tags, _LIKELIHOOD, 1.0)
            return float(losses.sum()) / count
        losses, demissions, gradients = self._paths(batch, tags, _GRADIENT, 1.0 / count)
        self._demissions = demissions.reshape(-1, self.tags)
        self._add_gradients(gradients, 1.0 / count)
        return float(losses.sum()) / count

    def _paths(
        self, batch: _Batch, tags: Int32, mode: int, weight: float
    ) -> tuple[Float64, Float32, Float32]:
        """(float64[B], float32[N * K], float32[slots, W * W + 2 W]): see kernels/nn/crf.py."""
        width, tables = padded(self.tags), self._tables(self.constraints)
        losses = np.empty(len(batch.offsets) - 1, np.float64)
        demissions = np.empty(len(batch.flat) if mode else 0, np.float32)
        slots = len(batch.bounds) - 1 if mode == _GRADIENT else 0
        gradients = np.zeros(slots * width * (width + 2), np.float32)
        ranges = self._ranges(batch)

        def work(part: int) -> None:
            scratch = np.empty((batch.longest + 4) * width, np.float32)
            crf_paths(
                losses, demissions, gradients, scratch, batch.flat, tags, batch.offsets,
                batch.bounds, *ranges[part], *tables, np.float32(weight), mode,
            )  # fmt: skip

        self.team.run(work, len(ranges))
        return losses, demissions, gradients.reshape(slots, width * (width + 2))

    def _add_gradients(self, slots: Float32, weight: float) -> None:
        """Add the slots' partial sums, in their order, to the gradients."""
        total = slots.sum(axis=0, dtype=np.float64) * weight
        k, width = self.tags, padded(self.tags)
        square = total[: width * width].reshape(width, width)[:k, :k].T
        ends = total[width * width :][:k], total[width * (width + 1) :][:k]
        for name, gradient in zip(PARTS, (square, *ends), strict=True):
            if self.constraints is not None:
                gradient = np.where(getattr(self.constraints, name), 0.0, gradient)
            self.grads[name] += gradient

    def _tables(self, constraints: Constraints | None) -> _Tables:
        k, width = self.tags, padded(self.tags)
        transitions = np.full((k, width), -np.inf, np.float32)
        ends = np.full((4, width), -np.inf, np.float32)
        square = transitions[:, :k]
        for name, out in zip(PARTS, (square, ends[0, :k], ends[1, :k]), strict=True):
            out[...] = self.values[name]
            if constraints is not None:
                out[getattr(constraints, name)] = FORBIDDEN
        ends[2, :k] = square.max(axis=0)
        ends[3, :k] = square.max(axis=1)
        into = np.zeros((width, width), np.float32)
        into[:k, :k] = np.exp(square - ends[2, :k])
        into[:k, k:] = 1
        back = np.zeros((width, width), np.float32)
        back[:k, :k] = np.exp(square.T - ends[3, :k])
        back[:k, k:] = 1
        return _Tables(*(table.reshape(-1) for table in (transitions, into, back, ends)))

    def _batch(self, rows: Float32, offsets: Int64) -> _Batch:
        sequences = len(offsets) - 1
        slots = min(SLOTS, sequences)
        # slots of nearly equal numbers of positions, by the offsets alone
        middles = (offsets[:-1] + offsets[1:]) // 2
        cuts = np.searchsorted(middles, np.arange(1, slots) * offsets[-1] // slots)
        bounds = np.concatenate(([0], cuts, [sequences])).astype(np.int64)
        return _Batch(rows.reshape(-1), offsets, bounds, int(np.diff(offsets).max()))

    def _ranges(self, batch: _Batch) -> list[tuple[int, int]]:
        """The slots of each thread."""
        slots = len(batch.bounds) - 1
        small = len(batch.flat) * self.tags < SMALL
        return self.team.split(slots, least=slots if small else 1)


class _Tables(NamedTuple):
    """The parameters as the kernels take them."""

    transitions: Float32
    into: Float32
    back: Float32
    ends: Float32


class _Batch(NamedTuple):
    """Flattened emissions, and the sequences of each slot."""

    flat: Float32
    offsets: Int64
    bounds: Int64
    longest: int
