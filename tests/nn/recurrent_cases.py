"""Recurrent layers made to order, and compared with their float64 twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastseq.nn.recurrent import GRU, LSTM, RNN, Recurrent
from tests.naive import recurrent as naive

KINDS = ("lstm", "gru", "tanh", "relu")
SMALLEST = 0.05  # relative to inputs, weights and gradients of y of about 1


@dataclass
class Case:
    """One layer and one batch, drawn from `seed`.

    lengths : None: every sequence has `steps` steps, and the layer is not told
    """

    kind: str
    steps: int = 5
    batch: int = 3
    inputs: int = 4
    units: int = 7
    layers: int = 1
    bidirectional: bool = False
    lengths: list[int] | None = None
    seed: int = 0
    threads: int = 1
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        directions = 1 + self.bidirectional
        state = (self.layers * directions, self.batch, self.units)
        self.counts = np.array(self.lengths or [self.steps] * self.batch, np.int64)
        self.parameters = {
            name: value.astype(np.float32).astype(np.float64)
            for name, value in naive.drawn(
                self.kind, self.inputs, self.units, self.layers, self.bidirectional, rng
            ).items()
        }
        self.x = normal(rng, self.steps, self.batch, self.inputs)
        self.h, self.c = normal(rng, *state), normal(rng, *state)
        self.dy = normal(rng, self.steps, self.batch, directions * self.units)
        self.dh, self.dc = normal(rng, *state), normal(rng, *state)

    def layer(self, **settings: Any) -> Recurrent:
        made = {
            "num_layers": self.layers,
            "bidirectional": self.bidirectional,
            "threads": self.threads,
            **self.settings,
            **settings,
        }
        if self.kind in ("tanh", "relu"):
            made["nonlinearity"] = self.kind
        cell = {"lstm": LSTM, "gru": GRU}.get(self.kind, RNN)
        layer = cell(self.inputs, self.units, **made)
        layer.load_state_dict(self.parameters)
        return layer

    def state(self, h: np.ndarray, c: np.ndarray) -> Any:
        """As the layer takes it, in fresh arrays."""
        return (h.copy(), c.copy()) if self.kind == "lstm" else h.copy()

    def twin(self, masks: naive.Named | None = None) -> naive.Pass:
        wide = [array.astype(np.float64) for array in (self.x, self.h, self.c)]
        return naive.forward(
            self.kind, self.parameters, wide[0], self.counts, *wide[1:], layers=self.layers,
            bidirectional=self.bidirectional, masks=masks,
        )  # fmt: skip

    def expected(self, masks: naive.Named | None = None) -> dict[str, np.ndarray]:
        """The twin's y, last state and gradients."""
        run = self.twin(masks)
        slopes = [array.astype(np.float64) for array in (self.dy, self.dh, self.dc)]
        found = naive.backward(run, *slopes)
        renamed = {"dx": found.pop("x"), "dh": found.pop("h"), "dc": found.pop("c")}
        return self.without_c({"y": run.y, "h": run.h, "c": run.c, **renamed, **found})

    def without_c(self, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        unknown = () if self.kind == "lstm" else ("c", "dc")
        return {name: value for name, value in named.items() if name not in unknown}

    def found(self, layer: Recurrent | None = None, key: int | None = None) -> dict[str, Any]:
        """The same of the layer: through `forward`, or `forward_ragged` when given a key."""
        layer = layer or self.layer()
        layer.zero_gradients()
        dstate = self.state(self.dh, self.dc)
        if key is None:
            lengths = None if self.lengths is None else np.array(self.lengths)
            y, state = layer.forward(self.x, lengths, self.state(self.h, self.c))
            dx = layer.backward(self.dy, dstate)
        else:
            values, offsets = self.ragged(self.x)
            rows, state = layer.forward_ragged(
                values, offsets, self.state(self.h, self.c), True, key
            )
            slopes = layer.backward_ragged(self.ragged(self.dy)[0], dstate)
            assert slopes is not None
            y, dx = self.padded(rows), self.padded(slopes)
        return {"y": y, "dx": dx, **parts("h", state), **parts("dh", dstate), **layer.gradients()}

    def ragged(self, padded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows of each sequence after the other, offsets)."""
        rows = [padded[:count, b] for b, count in enumerate(self.counts)]
        return np.concatenate(rows), np.concatenate([[0], self.counts.cumsum()])

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """The backward pass, zeros past a sequence's end."""
        whole = np.zeros((self.steps, self.batch, rows.shape[1]), rows.dtype)
        ends = np.concatenate([[0], self.counts.cumsum()])
        for b, count in enumerate(self.counts):
            whole[:count, b] = rows[ends[b] : ends[b + 1]]
        return whole


def parts(name: str, state: Any) -> dict[str, np.ndarray]:
    """h, c or dh, dc of a state as a layer gives it."""
    if not isinstance(state, tuple):
        return {name: state}
    return {name: state[0], name.replace("h", "c"): state[1]}


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def errors(found: dict[str, Any], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Each array's largest difference over the expected one's largest value, or over SMALLEST.

    Where every unit is saturated, 1 - h² has lost its digits to the rounding of h: the gradients
    are small, and so are their errors, but not beside each other.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == np.float32, name
    return {
        name: float(np.abs(found[name] - true).max()) / max(float(np.abs(true).max()), SMALLEST)
        for name, true in expected.items()
    }


def assert_as_twin(case: Case, key: int | None = None, masks: naive.Named | None = None) -> None:
    """Outputs, states and gradients within 1e-4 of the twin's largest."""
    off = errors(case.found(key=key), case.expected(masks))
    wrong = {name: error for name, error in off.items() if not error < 1e-4}
    assert not wrong, f"{case.kind} {case}: {wrong}"
