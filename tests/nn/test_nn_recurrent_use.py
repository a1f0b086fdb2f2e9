"""Recurrent layers in use: threads, dropout, carried states, what they read and refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, FastseqError, SettingsError
from fastseq.nn.layer import joined
from fastseq.nn.layers import dropped
from fastseq.nn.recurrent import GRU, LSTM, RNN, Recurrent
from fastseq.seeds import mixed_key
from tests.nn.recurrent_cases import KINDS, Case, assert_as_twin, normal

LENGTHS = [12, 3, 12, 7, 1, 9, 12, 5, 2, 11, 4, 12, 6, 8, 10, 1, 12]


def large(kind: str, lengths: list[int] | None, **settings: Any) -> Case:
    """Enough work for every kernel to be shared among threads."""
    return Case(kind, 12, 17, 50, 65, 2, bool(lengths), lengths, settings=settings)


# ---- threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("rates", [{}, {"dropout": 0.3, "weight_dropout": 0.2}])
def test_results_do_not_depend_on_threads(
    kind: str, lengths: list[int] | None, rates: dict[str, float]
) -> None:
    for directions in (False, True):
        case = large(kind, lengths, **rates)
        case = Case(
            kind, case.steps, case.batch, case.inputs, case.units, 2, directions, lengths,
            settings=rates,
        )  # fmt: skip
        alone = case.found(case.layer(threads=1), key=9)
        for threads in (2, 3):
            shared = case.found(case.layer(threads=threads), key=9)
            different = [name for name in alone if not np.array_equal(alone[name], shared[name])]
            assert not different, f"{threads} threads, {1 + directions} directions"


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_forward_pass_without_training(kind: str) -> None:
    case = large(kind, LENGTHS)
    alone, _ = case.layer(threads=1).forward(case.x, case.counts, training=False)
    shared, _ = case.layer(threads=3).forward(case.x, case.counts, training=False)
    np.testing.assert_array_equal(alone, shared)


# ---- dropout ---------------------------------------------------------------------------------


def identity_layers(units: int, **rates: float) -> RNN:
    """Two ReLU layers that are the identity on positive inputs."""
    layer = RNN(units, units, 2, nonlinearity="relu", **rates)
    for name, value in layer.parameters().items():
        value[...] = np.eye(units) if name.startswith("weight_ih") else 0
    return layer


def test_dropout_between_layers_preserves_the_mean() -> None:
    layer = identity_layers(64, dropout=0.3)
    x = np.abs(normal(np.random.default_rng(0), 40, 25, 64)) + np.float32(0.1)
    y, _ = layer.forward(x)
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / np.float32(0.7), rtol=1e-6)
    assert kept.mean() == pytest.approx(0.7, abs=4 * (0.21 / x.size) ** 0.5)
    assert y.mean() == pytest.approx(x.mean(), rel=0.01)
    again, _ = layer.forward(x)
    assert ((again != 0) != kept).mean() == pytest.approx(0.42, abs=0.02)  # another mask
    passing, _ = layer.forward(x, training=False)
    np.testing.assert_array_equal(passing, x)


def test_weight_dropout_uses_one_mask_for_all_steps() -> None:
    """From states of one 1 each, ReLU units show the recurrent weights themselves."""
    units = 64
    layer = RNN(1, units, nonlinearity="relu", weight_dropout=0.25)
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 1, (units, units)).astype(np.float32)
    layer.load_state_dict(
        {**{k: np.zeros_like(v) for k, v in layer.parameters().items()}, "weight_hh_l0": weight}
    )
    x = np.zeros((2, units, 1), np.float32)
    y, _ = layer.forward(x, state=np.eye(units, dtype=np.float32)[None])
    used = y[0].T
    kept = used != 0
    np.testing.assert_allclose(used[kept], weight[kept] / np.float32(0.75), rtol=1e-6)
    assert kept.mean() == pytest.approx(0.75, abs=4 * (0.1875 / weight.size) ** 0.5)
    np.testing.assert_allclose(y[1], y[0] @ used.T, rtol=1e-5)
    passing, _ = layer.forward(x, state=np.eye(units, dtype=np.float32)[None], training=False)
    np.testing.assert_array_equal(passing[0].T, weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
def test_dropout_matches_the_naive_twin_with_the_same_masks(
    kind: str, lengths: list[int] | None
) -> None:
    rates = {"dropout": 0.4, "weight_dropout": 0.3}
    case = Case(kind, units=9, layers=2, bidirectional=True, lengths=lengths, settings=rates)
    between = np.empty((int(case.counts.sum()), 18), np.float32)
    dropped(between, np.ones_like(between), 0.4, mixed_key(77, 2))
    masks = {"input_l1": case.padded(between).astype(np.float64)}
    for layer in (0, 1):
        for d, suffix in enumerate((f"l{layer}", f"l{layer}_reverse")):
            mask = np.empty(case.parameters[f"weight_hh_{suffix}"].shape, np.float32)
            mask_key = mixed_key(mixed_key(77, 2 * layer + 1), d)
            dropped(mask, np.ones_like(mask), 0.3, mask_key)
            masks[f"weight_hh_{suffix}"] = mask.astype(np.float64)
    assert 0 < np.mean(between == 0) < 1
    assert_as_twin(case, key=77, masks=masks)


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_backward_uses_the_forward_mask(kind: str) -> None:
    """Along its own gradient a loss changes by the gradient's square, whatever the masks are."""
    rates = {"dropout": 0.5, "weight_dropout": 0.5}
    case = Case(kind, 6, 8, 5, 12, 2, True, [6, 2, 5, 6, 1, 3, 4, 6], settings=rates)
    layer = case.layer()
    gradients = case.found(layer, key=5)
    moved = {
        "dx": case.x,
        **{name: layer.parameters()[name] for name in layer.parameters()},
    }
    slopes = {name: np.array(gradients[name]) for name in moved}
    square = sum(float(np.square(slope, dtype=np.float64).sum()) for slope in slopes.values())
    start = {name: value.copy() for name, value in moved.items()}
    scale = 1e-2 / square**0.5

    def loss(step: float) -> float:
        for name, value in moved.items():
            value[...] = start[name] + np.float32(step) * slopes[name]
        y, state = layer.forward_ragged(
            *case.ragged(case.x), case.state(case.h, case.c), training=True, key=5
        )
        ends = zip(
            state if kind == "lstm" else (state,), (case.dh, case.dc)[: 1 + (kind == "lstm")],
            strict=True,
        )  # fmt: skip
        total = (y.astype(np.float64) * case.ragged(case.dy)[0]).sum()
        return float(total + sum((a.astype(np.float64) * b).sum() for a, b in ends))

    slope = (loss(scale) - loss(-scale)) / (2 * scale)
    assert slope == pytest.approx(square, rel=5e-3)


def test_dropout_depends_on_the_key_only() -> None:
    case = Case("gru", layers=2, settings={"dropout": 0.5, "weight_dropout": 0.5})
    first, again, other = (case.found(key=key)["y"] for key in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- states ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_carried_state_equals_one_long_sequence(kind: str) -> None:
    case = Case(kind, 11, 3, 5, 17, 2)
    long = case.found()
    first, second = case.layer(), case.layer()
    y1, middle = first.forward(case.x[:4], state=case.state(case.h, case.c))
    y2, last = second.forward(case.x[4:], state=middle)
    np.testing.assert_array_equal(np.concatenate([y1, y2]), long["y"])
    np.testing.assert_array_equal(last[0] if kind == "lstm" else last, long["h"])
    dx2 = second.backward(case.dy[4:], case.state(case.dh, case.dc))
    dx1 = first.backward(case.dy[:4], second.dstate)
    np.testing.assert_allclose(np.concatenate([dx1, dx2]), long["dx"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        first.dstate[0] if kind == "lstm" else first.dstate, long["dh"], rtol=1e-4, atol=1e-6
    )
    for name, slope in first.gradients().items():
        whole = slope + second.gradients()[name]
        np.testing.assert_allclose(whole, long[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_and_earlier_results_are_not_modified(kind: str) -> None:
    """What one pass returns, or is given, no later pass writes to; but dstate, as it says."""
    case = Case(kind, 6, 4, 5, 9, 2, True, [6, 2, 5, 1])
    layer = case.layer()
    state, dstate = case.state(case.h, case.c), case.state(case.dh, case.dc)
    given = [case.x, case.dy, case.counts, *parts(state)]
    before = [array.copy() for array in given]
    y, last = layer.forward(case.x, case.counts, state)
    dx = layer.backward(case.dy, dstate)
    results = [y, dx, *parts(last), *parts(layer.dstate)]
    kept = [array.copy() for array in results]
    for array, first in zip(parts(dstate), parts(layer.dstate), strict=True):
        np.testing.assert_array_equal(array, first)
    layer.forward(case.x + 1, case.counts)
    layer.backward(case.dy + 1)
    layer.forward(case.x + 1, case.counts, training=False)
    for array, copy in zip(given + results, before + kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind", KINDS)
def test_inference_does_not_disturb_a_pending_backward(kind: str) -> None:
    case = Case(
        kind, 6, 4, 5, 9, 2, True, [6, 2, 5, 1], settings={"dropout": 0.3, "weight_dropout": 0.3}
    )
    expected = case.found(key=2)
    layer = case.layer()
    values, offsets = case.ragged(case.x)
    layer.forward_ragged(values, offsets, case.state(case.h, case.c), True, 2)
    other = Case(kind, 15, 9, 5, 9, 2, True, seed=4)
    layer.forward(other.x, training=False)
    layer.forward_ragged(*other.ragged(other.x), training=False, key=8)
    dx = layer.backward_ragged(case.ragged(case.dy)[0], case.state(case.dh, case.dc))
    np.testing.assert_array_equal(case.padded(dx), expected["dx"])
    for name, slope in layer.gradients().items():
        np.testing.assert_array_equal(slope, expected[name])


# ---- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind: str) -> None:
    case = Case(kind, 7, 5, 6, 18, 2, True, [3, 7, 1, 6, 2])
    expected = case.found()
    past = np.arange(7)[:, None] >= case.counts
    case.x[past] = np.nan
    case.dy[past] = np.nan
    found = case.found()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert not found["y"][past].any()
    assert not found["dx"][past].any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_changed_in_place_take_effect_in_the_next_pass(kind: str, training: bool) -> None:
    case, other = (Case(kind, layers=2, bidirectional=True, seed=seed) for seed in (0, 1))
    layer = case.layer()
    before, _ = layer.forward(case.x, training=training)
    for name, value in layer.parameters().items():
        value[...] = other.parameters[name]
    found, _ = layer.forward(case.x, training=training)
    expected, _ = other.layer().forward(case.x, training=training)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(before, found)


@pytest.mark.parametrize("kind", KINDS)
def test_held_weights_are_those_of_the_block_start(kind: str) -> None:
    """For passes without training; those with it see every change, and leave what is held."""
    case, other = (Case(kind, layers=2, bidirectional=True, seed=seed) for seed in (0, 1))
    layer, changed = case.layer(), other.layer()
    expected, _ = layer.forward(case.x, training=False)
    with layer.weights_held():
        for name, value in layer.parameters().items():
            value[...] = other.parameters[name]
        held, _ = layer.forward(case.x, training=False)
        trained, _ = layer.forward(case.x)
        layer.backward(case.dy)
        again, _ = layer.forward(case.x, training=False)
    np.testing.assert_array_equal(held, expected)
    np.testing.assert_array_equal(again, expected)
    new, _ = changed.forward(case.x, training=False)
    np.testing.assert_array_equal(trained, new)
    np.testing.assert_array_equal(layer.forward(case.x, training=False)[0], new)


def test_joined_layers_share_common_buffers() -> None:
    case = Case("lstm", layers=2, bidirectional=True)
    layer, alone = case.layer(), case.layer()
    parameters = joined({"lstm": layer, "gru": GRU(3, 5)})
    expected, found = case.found(alone), case.found(layer)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    for name, slope in alone.gradients().items():
        np.testing.assert_array_equal(parameters.gradient_views[f"lstm.{name}"], slope)
    parameters.values *= 2
    for value in alone.parameters().values():
        value *= 2
    np.testing.assert_array_equal(layer.forward(case.x)[0], alone.forward(case.x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_input_gradient_is_optional(kind: str) -> None:
    case = Case(kind, layers=2, lengths=[5, 1, 3])
    expected = case.found(key=0)
    layer = case.layer()
    values, offsets = case.ragged(case.x)
    layer.forward_ragged(values, offsets, case.state(case.h, case.c))
    slopes = case.ragged(case.dy)[0]
    dstate = case.state(case.dh, case.dc)
    assert layer.backward_ragged(slopes, dstate, want_dx=False) is None
    for name, slope in layer.gradients().items():
        np.testing.assert_array_equal(slope, expected[name])


def test_initial_weights() -> None:
    lstm = LSTM(20, 16, 2, bidirectional=True, seed=1)
    same, other = LSTM(20, 16, 2, True, seed=1), LSTM(20, 16, 2, True, seed=2)
    for name, value in lstm.parameters().items():
        np.testing.assert_array_equal(value, same.parameters()[name])
        if name.startswith("weight_hh"):
            for block in np.split(value.astype(np.float64), 4):
                np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-5)
        elif name.startswith("weight_ih"):
            bound = (6 / (16 + value.shape[1])) ** 0.5
            assert 0.9 * bound < np.abs(value).max() <= bound
        else:
            ones = 16 if name.startswith("bias_ih") else 0
            assert value.sum() == ones == value[16:32].sum()
        if name.startswith("weight"):
            assert not np.array_equal(value, other.parameters()[name])
    assert not any(v.any() for k, v in GRU(3, 4).parameters().items() if k.startswith("bias"))


# ---- refusals --------------------------------------------------------------------------------


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


WRONG: dict[str, tuple[Callable[[Recurrent], Any], str]] = {
    "two dimensions": (lambda m: m.forward(zeros(5, 4)), r"x is of shape \[5, 4\]"),
    "features": (lambda m: m.forward(zeros(5, 2, 3)), r"expected \[steps, batch, 4\]"),
    "no step": (lambda m: m.forward(zeros(0, 2, 4)), "expected at least one"),
    "no row": (lambda m: m.forward(zeros(5, 0, 4)), "expected at least one"),
    "a length of 0": (lambda m: m.forward(zeros(5, 2, 4), [3, 0]), r"lengths\[1\] is 0"),
    "a negative length": (lambda m: m.forward(zeros(5, 2, 4), [-1, 3]), r"lengths\[0\] is -1"),
    "a long length": (lambda m: m.forward(zeros(5, 2, 4), [3, 6]), r"expected 1 to 5"),
    "lengths too few": (lambda m: m.forward(zeros(5, 2, 4), [3]), "2 whole numbers"),
    "lengths of floats": (lambda m: m.forward(zeros(5, 2, 4), [3.0, 2.0]), "whole numbers"),
    "state of one": (lambda m: m.forward(zeros(5, 2, 4), None, zeros(2, 2, 7)), "expected"),
    "state's shape": (
        lambda m: m.forward(zeros(5, 2, 4), None, (zeros(2, 3, 7), zeros(2, 3, 7))),
        r"state is of shape \[2, 3, 7\], expected \[2, 2, 7\]",
    ),
    "text": (lambda m: m.forward("abc"), "x is of type <U3, expected real numbers"),
    "complex": (lambda m: m.forward(zeros(5, 2, 4) * 1j), "x is of type complex"),
    "rows of two lengths": (lambda m: m.forward([[1.0], [2.0, 3.0]]), "x is no array"),
    "a state of text": (lambda m: m.forward(zeros(5, 2, 4), None, ("a", "b")), "state is of type"),
    "an empty sequence": (
        lambda m: m.forward_ragged(zeros(5, 4), np.array([0, 2, 2, 5])),
        "sequence 1",
    ),
    "no sequence": (lambda m: m.forward_ragged(zeros(0, 4), np.array([0])), "offsets must be"),
    "offsets that end early": (
        lambda m: m.forward_ragged(zeros(5, 4), np.array([0, 2, 4])),
        "ends at 5 rows",
    ),
    "offsets that begin late": (
        lambda m: m.forward_ragged(zeros(5, 4), np.array([1, 2, 5])),
        "starts at 0",
    ),
    "offsets that begin below": (
        lambda m: m.forward_ragged(zeros(5, 4), np.array([-3, 2, 5])),
        "starts at 0",
    ),
    "offsets that fall": (
        lambda m: m.forward_ragged(zeros(5, 4), np.array([0, 4, 2, 5])),
        "sequence 1",
    ),
    "an index past the table": (
        lambda m: m.forward(zeros(3, 4), index=np.array([[0, 1], [3, 0]])),
        "3",
    ),
    "an index below 0": (
        lambda m: m.forward_ragged(zeros(3, 4), np.array([0, 2]), index=np.array([0, -1])),
        "-1",
    ),
    "an index in one dimension": (
        lambda m: m.forward(zeros(3, 4), index=np.array([0, 1])),
        "index is of 1 dim",
    ),
    "an index shorter than the batch": (
        lambda m: m.forward_ragged(zeros(3, 4), np.array([0, 3]), index=np.array([0, 1])),
        "offsets must",
    ),
    "ragged features": (
        lambda m: m.forward_ragged(zeros(5, 3), np.array([0, 5])),
        r"shape \[5, 3\], expected \[N, 4\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_rejected(case: str) -> None:
    call, said = WRONG[case]
    layer = LSTM(4, 7, bidirectional=True)
    with pytest.raises(DataError, match=said):
        call(layer)
    with pytest.raises(FastseqError):  # and left nothing behind
        layer.backward(zeros(5, 2, 14))


def test_wrong_gradient_is_rejected_and_can_be_corrected() -> None:
    layer = LSTM(4, 7)
    layer.forward(zeros(5, 2, 4), [5, 2])
    with pytest.raises(DataError, match=r"dy is of shape \[5, 2, 8\], expected \[5, 2, 7\]"):
        layer.backward(zeros(5, 2, 8))
    with pytest.raises(DataError, match="dstate is of shape"):
        layer.backward(zeros(5, 2, 7), (zeros(1, 1, 7), zeros(1, 1, 7)))
    with pytest.raises(DataError, match="dstate is 1 arrays"):
        layer.backward(zeros(5, 2, 7), zeros(1, 2, 7))
    layer.backward(zeros(5, 2, 7))
    layer.forward_ragged(zeros(7, 4), np.array([0, 5, 7]))
    with pytest.raises(DataError, match=r"expected \[7, 7\]"):
        layer.backward_ragged(zeros(6, 7))
    layer.backward_ragged(zeros(7, 7))


@pytest.mark.parametrize("kind", KINDS)
def test_backward_runs_once_per_forward(kind: str) -> None:
    case = Case(kind)
    layer = case.layer()
    with pytest.raises(FastseqError, match="forward"):
        layer.backward(case.dy)
    layer.forward(case.x, training=False)
    with pytest.raises(FastseqError, match="forward"):
        layer.backward(case.dy)
    layer.forward(case.x)
    layer.backward(case.dy)
    with pytest.raises(FastseqError, match="forward"):
        layer.backward(case.dy)
    with pytest.raises(FastseqError, match="forward"):
        layer.backward_ragged(case.dy.reshape(15, 7))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: LSTM(0, 4), "input_size must be a whole number of at least 1, not 0"),
        (lambda: LSTM(4, -1), "hidden_size"),
        (lambda: LSTM(4, 2.5), "hidden_size must be .* not 2.5"),
        (lambda: LSTM(4, 4, seed=-1), "seed must be a whole number of at least 0, not -1"),
        (lambda: LSTM(4, 4, seed="a"), "seed must be .*, not 'a'"),
        (lambda: LSTM(4, 4, dropout="a"), "dropout must be at least 0 and below 1, not 'a'"),
        (lambda: LSTM("4", 4), "input_size must be .*, not '4'"),
        (lambda: GRU(4, 4, num_layers=0), "num_layers"),
        (lambda: GRU(4, 4, num_layers=True), "num_layers"),
        (lambda: GRU(4, 4, dropout=1.0), "dropout must be .*, not 1.0"),
        (lambda: RNN(4, 4, weight_dropout=-0.1), "weight_dropout must be .*, not -0.1"),
        (
            lambda: RNN(4, 4, nonlinearity="sigmoid"),
            "nonlinearity is 'sigmoid'; expected one of tanh, relu",
        ),
    ],
)
def test_wrong_settings_are_rejected(made: Callable[[], Recurrent], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("batch", [2, 3, 7])
def test_ragged_batches_of_fewer_and_more_rows_than_threads(
    batch: int, threads: int, training: bool
) -> None:
    """Threads to spare make the input's products before the loop: their rows must be there."""
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((90, batch, 40), dtype=np.float32)
    lengths = np.linspace(50, 90, batch).astype(int)
    alone, shared = (LSTM(40, 60, threads=count) for count in (1, threads))
    expected, _ = alone.forward(x, lengths, training=training)
    found, _ = shared.forward(x, lengths, training=training)
    np.testing.assert_array_equal(found, expected)
    if training:
        np.testing.assert_array_equal(
            shared.backward(x @ np.ones((40, 60), np.float32)),
            alone.backward(x @ np.ones((40, 60), np.float32)),
        )
        for name, gradient in shared.gradients().items():
            np.testing.assert_array_equal(gradient, alone.gradients()[name])
