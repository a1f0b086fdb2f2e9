"""Flat buffers and the layers that work on views of them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import FormatError, SettingsError
from fastseq.kernels.core.arrays import ALIGNED, aligned_zeros
from fastseq.nn.layer import Layer, Parameters, joined

SHAPES = {"weight": (3, 5), "scalar": (), "none": (0, 4), "bias": (17,)}

shapes = st.dictionaries(
    st.text(min_size=1, max_size=5), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=6
)


class Affine(Layer):
    """The least layer: y = x weightᵀ + bias."""

    def __init__(self, inputs: int, outputs: int, seed: int = 0) -> None:
        self.inputs, self.outputs = inputs, outputs
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}

    def initialise(self, rng: np.random.Generator) -> None:
        self.values["weight"][...] = rng.normal(size=(self.outputs, self.inputs))

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x @ self.values["weight"].T + self.values["bias"]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0)
        return dy @ self.values["weight"]


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_arrays_are_aligned_views_that_do_not_overlap(drawn: dict[str, tuple[int, ...]]) -> None:
    parameters = Parameters(drawn)
    assert parameters.count == sum(math.prod(shape) for shape in drawn.values())
    for buffer, views in (
        (parameters.values, parameters.views),
        (parameters.gradients, parameters.gradient_views),
    ):
        assert list(views) == list(drawn)
        assert len(buffer) % ALIGNED == 0
        assert buffer.ctypes.data % 64 == 0 or not len(buffer)
        for number, (name, view) in enumerate(views.items(), 1):
            assert view.shape == drawn[name]
            assert view.dtype == np.float32
            assert view.flags.c_contiguous
            if view.size:
                assert view.ctypes.data % 64 == 0
            view[...] = number
        for number, view in enumerate(views.values(), 1):
            assert (view == number).all()
        assert np.count_nonzero(buffer) == parameters.count


@pytest.mark.parametrize("n", [0, 1, 16, 1000])
def test_aligned_zeros(n: int) -> None:
    found = aligned_zeros(n)
    assert found.shape == (n,)
    assert found.ctypes.data % 64 == 0 or n == 0
    assert not found.any()


@settings(max_examples=60, deadline=None)
@given(shapes, st.sets(st.integers(0, 5)))
def test_ranges_cover_unfrozen_parameters(
    drawn: dict[str, tuple[int, ...]], chosen: set[int]
) -> None:
    parameters = Parameters(drawn)
    frozen = {name for number, name in enumerate(drawn) if number in chosen}
    ranges = parameters.ranges(frozen)
    for start, stop in ranges:
        assert 0 <= start < stop <= len(parameters.values)
        assert start % ALIGNED == stop % ALIGNED == 0
        parameters.values[start:stop] += 1
    for name, view in parameters.views.items():
        assert (view == (name not in frozen)).all()
    assert all(a[1] < b[0] for a, b in pairwise(ranges))  # neighbours are one


def test_nothing_frozen_is_one_range() -> None:
    parameters = Parameters(SHAPES)
    assert parameters.ranges() == [(0, len(parameters.values))]
    with pytest.raises(SettingsError, match=r"called 'wait'.*weight, scalar, none, bias"):
        parameters.ranges({"weight", "wait"})


def test_state_dict_round_trips() -> None:
    parameters = Parameters(SHAPES)
    rng = np.random.default_rng(0)
    for view in parameters.views.values():
        view[...] = rng.normal(size=view.shape)
    state = parameters.state_dict()
    other = Parameters(SHAPES)
    other.load_state_dict({name: value.astype(float) for name, value in state.items()})
    assert other.values.tobytes() == parameters.values.tobytes()
    state["weight"][...] = 0  # a copy
    assert parameters.views["weight"].all()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("scalar", None, "lack 'scalar'"),
        ("extra", np.zeros(2), "hold 'extra', which is unknown"),
        ("bias", np.zeros(16), r"bias is of shape \[16\], expected \[17\]"),
        ("weight", np.zeros((5, 3)), r"weight is of shape \[5, 3\], expected \[3, 5\]"),
        ("bias", np.array(["x"] * 17), "bias is of type <U1, expected numbers"),
        ("bias", np.zeros(17, complex), "bias is of type complex128"),
    ],
)
def test_mismatched_state_changes_nothing(name: str, value: np.ndarray | None, said: str) -> None:
    parameters = Parameters(SHAPES)
    state = {key: np.ones(shape, np.float32) for key, shape in SHAPES.items()}
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(FormatError, match=said):
        parameters.load_state_dict(state)
    assert not parameters.values.any()


def test_joined_layers_share_one_buffer() -> None:
    first, second = Affine(4, 3, seed=1), Affine(3, 2, seed=2)
    alone = first.forward(np.ones((1, 4), np.float32)).copy()
    values = {"a": first.state_dict(), "b": second.state_dict()}
    parameters = joined({"a": first, "b": second})
    assert list(parameters) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert (parameters.views["a.weight"] == values["a"]["weight"]).all()
    assert (parameters.views["b.weight"] == values["b"]["weight"]).all()
    x = np.ones((1, 4), np.float32)
    assert (first.forward(x) == alone).all()
    parameters.views["a.bias"][...] = 1
    assert (first.forward(x) == alone + 1).all()
    first.backward(np.ones((1, 3), np.float32))
    first.backward(np.ones((1, 3), np.float32))
    assert (parameters.gradient_views["a.bias"] == 2).all()  # added to
    assert not parameters.gradient_views["b.weight"].any()
    parameters.zero_gradients()
    assert not first.gradients()["weight"].any()


def test_empty_prefix_keeps_plain_names() -> None:
    assert list(joined({"": Affine(1, 1), "head": Affine(1, 1)})) == [
        "weight",
        "bias",
        "head.weight",
        "head.bias",
    ]


def test_single_layer_has_its_own_buffers() -> None:
    first, same, other = Affine(4, 3, seed=1), Affine(4, 3, seed=1), Affine(4, 3, seed=2)
    assert (first.parameters()["weight"] == same.parameters()["weight"]).all()
    assert not (first.parameters()["weight"] == other.parameters()["weight"]).any()
    other.load_state_dict(first.state_dict())
    assert (first.parameters()["weight"] == other.parameters()["weight"]).all()
    first.parameters()["weight"][...] = 0
    assert other.parameters()["weight"].all()
    other.gradients()["bias"][...] = 3
    other.zero_gradients()
    assert not other.gradients()["bias"].any()


def test_state_of_another_layer_is_rejected() -> None:
    layer = Affine(4, 3)
    before = layer.state_dict()
    with pytest.raises(FormatError, match="weight is of shape"):
        layer.load_state_dict(Affine(5, 3).state_dict())
    assert (layer.parameters()["weight"] == before["weight"]).all()
