"""Sampling and beam search on tables of probabilities, against enumeration and statistics."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastseq.errors import DataError, SettingsError
from fastseq.models.generation import (
    beam_search,
    check_settings,
    distribution,
    largest,
    log_softmax,
    sample,
)
from tests.naive import beam as naive


class Chain:
    """Tokens that depend on the last two: logits float32[V, V, V]. The state is [2, rows]."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits.astype(np.float32)
        self.steps = 0
        self.rows = 0

    def start(self, rows: int) -> list[np.ndarray]:
        return [np.zeros((2, rows), np.int64)]

    def step(
        self, tokens: np.ndarray, state: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        assert tokens.dtype == np.int32
        assert tokens.shape == state[0].shape[1:]
        self.steps += 1
        self.rows += len(tokens)
        new = np.stack([state[0][1], tokens])
        return self.logits[new[0], new[1]], [new]

    def select(self, state: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
        assert rows.dtype == np.int64
        return [state[0][:, rows]]

    def table(self, ids: tuple[int, ...]) -> np.ndarray:
        before = (0, *ids)[-2:]
        wide = np.exp(self.logits[before].astype(np.float64))
        return wide / wide.sum()


class Tree:
    """Other logits after every sequence, so that no two have equal probability by design.

    The state holds all that was read, a row for each.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def logits(self, ids: tuple[int, ...]) -> np.ndarray:
        if ids not in self.known:
            source = np.random.default_rng([self.seed, *ids])
            self.known[ids] = source.normal(0, 1.5, self.size).astype(np.float32)
        return self.known[ids]

    def start(self, rows: int) -> np.ndarray:
        return np.zeros((rows, 0), np.int32)

    def step(self, tokens: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = np.concatenate([state, tokens[:, None]], axis=1)
        return np.stack([self.logits(tuple(row)) for row in state.tolist()]), state

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[rows]

    def table(self, ids: tuple[int, ...]) -> np.ndarray:
        wide = np.exp(self.logits(ids).astype(np.float64))
        return wide / wide.sum()


def chain(size: int, seed: int, scale: float = 1.5) -> Chain:
    return Chain(np.random.default_rng(seed).normal(0, scale, (size, size, size)))


def constant(logits: list[float] | np.ndarray) -> Chain:
    """The same distribution after anything."""
    row = np.asarray(logits, np.float32)
    return Chain(np.broadcast_to(row, (len(row), len(row), len(row))))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- sampling -------------------------------------------------------------------------------


def test_sampling_follows_the_model() -> None:
    """Chi-square over all sequences of three tokens, two thousand draws."""
    model = chain(3, 1)
    expected = naive.endings(model.table, (2,), 3, None)
    source = rng(5)
    drawn = Counter(tuple(sample(model, [2], 3, rng=source)) for _ in range(2000))
    found = [drawn[ids] for ids in expected]
    wanted = [2000 * math.exp(p) for p in expected.values()]
    assert sum(found) == 2000
    assert stats.chisquare(found, np.array(wanted) * 2000 / sum(wanted)).pvalue > 0.001


def test_sampling_follows_the_model_with_a_stop() -> None:
    model, source = chain(3, 4), rng(1)
    expected = naive.endings(model.table, (1, 0), 3, 2)
    drawn = Counter(tuple(sample(model, [1, 0], 3, rng=source, stop=2)) for _ in range(3000))
    assert set(drawn) <= set(expected)
    found = np.array([drawn[ids] for ids in expected])
    wanted = 3000 * np.exp(list(expected.values()))
    often = wanted >= 5
    found = [*found[often], found[~often].sum()]
    wanted = [*wanted[often], wanted[~often].sum()]
    assert stats.chisquare(found, np.array(wanted) * 3000 / sum(wanted)).pvalue > 0.001
    assert (0,) in expected or (1,) in expected


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature(temperature: float) -> None:
    logits = np.array([1.0, 0.5, -1.0, 2.0])
    ids, weights = distribution(logits.astype(np.float32), temperature)
    expected = np.exp(logits / temperature)
    np.testing.assert_allclose(weights[np.argsort(ids)], expected / expected.sum(), rtol=1e-12)
    drawn = np.bincount(
        list(sample(constant(logits), [0], 3000, temperature=temperature, rng=rng(2))), minlength=4
    )
    assert stats.chisquare(drawn, 3000 * expected / expected.sum()).pvalue > 0.001


def test_greedy_breaks_ties_by_lowest_id() -> None:
    model = constant([0.5, 2.0, 2.0, 1.0])
    assert list(sample(model, [0], 4, greedy=True)) == [1] * 4
    assert list(sample(model, [0], 4, temperature=0)) == [1] * 4
    # a temperature next to 0 draws among the equals alone, and does not overflow
    assert set(sample(model, [0], 50, temperature=1e-300, rng=rng())) == {1, 2}


def test_greedy_follows_the_context() -> None:
    model = chain(5, 3)
    ids = [4]
    for _ in range(6):
        ids.append(int(np.argmax(model.table(tuple(ids)))))
    assert list(sample(model, [4], 6, greedy=True)) == ids[1:]


def test_top_k() -> None:
    logits = np.array([0.0, 3.0, 1.0, 3.0, 1.0], np.float32)
    for k, kept in ((1, [1]), (2, [1, 3]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])):
        ids, weights = distribution(logits, top_k=k)
        assert sorted(ids.tolist()) == kept
        expected = np.exp(logits[ids].astype(float))
        np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-12)
    assert set(sample(constant(logits), [0], 60, top_k=2, rng=rng())) == {1, 3}


def test_top_p_takes_the_smallest_set_that_reaches_p() -> None:
    equal = np.zeros(4, np.float32)  # a quarter each, exactly
    for p, kept in ((1e-9, 1), (0.25, 1), (0.2500001, 2), (0.5, 2), (0.51, 3), (0.75, 3), (1, 4)):
        ids, weights = distribution(equal, top_p=p)
        assert sorted(ids.tolist()) == list(range(kept))
        np.testing.assert_allclose(weights, 1 / kept)
    # behind top-k: a half each of what is left
    assert distribution(equal, top_k=2, top_p=0.5)[0].tolist() == [0]
    assert sorted(distribution(equal, top_k=2, top_p=0.6)[0].tolist()) == [0, 1]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=40),
    st.floats(0.01, 1.0),
    st.one_of(st.none(), st.integers(1, 45)),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_nucleus_matches_its_definition(
    values: list[int], p: float, k: int | None, temperature: float
) -> None:
    logits = np.array(values, np.float32) / 3
    wide = np.exp(logits.astype(np.float64) / temperature)
    if k is not None:
        order = sorted(range(len(values)), key=lambda i: (-values[i], i))
        wide[order[k:]] = 0
    wide /= wide.sum()
    expected = naive.nucleus(wide, p) if p < 1 else set(np.flatnonzero(wide))
    ids, weights = distribution(logits, temperature, k, p)
    if set(ids.tolist()) != expected:  # only where a sum and p are one rounding apart
        shorter = min(len(ids), len(expected))
        assert abs(len(ids) - len(expected)) == 1
        assert np.sort(wide)[::-1][:shorter].sum() == pytest.approx(p, rel=1e-12)
    else:
        inside = wide[ids]
        np.testing.assert_allclose(weights, inside / inside.sum(), rtol=1e-9)


def test_masked_tokens_are_never_drawn() -> None:
    model = constant([-math.inf, 0.0, -math.inf, 0.0])
    assert set(sample(model, [0], 100, rng=rng())) == {1, 3}
    assert set(sample(model, [0], 100, top_k=4, rng=rng())) == {1, 3}
    assert set(sample(model, [0], 100, top_p=1.0, rng=rng())) == {1, 3}


class Ends(np.random.Generator):
    """Numbers at the ends of [0, 1)."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.turn = 0

    def random(self, *_: object) -> float:  # type: ignore[override]
        self.turn += 1
        return 0.0 if self.turn % 2 else float(np.nextafter(1, 0))


def test_extreme_random_numbers_pick_possible_tokens() -> None:
    # the second and the last are so unlikely that their probability is 0 in float64
    model = constant([-math.inf, -5000.0, 1.0, 0.3, -5000.0])
    assert list(sample(model, [0], 2, rng=Ends())) == [2, 3]


def test_stop_token_is_not_returned() -> None:
    model = constant([0.0, 0.0, 1.0])
    for seed in range(30):
        drawn = list(sample(model, [0], 50, rng=rng(seed), stop=2))
        assert 2 not in drawn
        assert len(drawn) < 50
    assert list(sample(constant([0.0, 9.0]), [0], 5, greedy=True, stop=1)) == []


def test_tokens_are_streamed() -> None:
    model = chain(4, 2)
    stream = sample(model, [1, 2, 3], 10**9, rng=rng())
    assert model.steps == 0
    assert len(list(islice(stream, 5))) == 5
    assert model.steps == 3 + 4
    # nothing is computed behind the last token
    model.steps = 0
    assert len(list(sample(model, [1, 2], 5, rng=rng()))) == 5
    assert model.steps == 2 + 4


def test_same_seed_gives_the_same_tokens() -> None:
    model = chain(6, 2)
    drawn = [list(sample(model, [1], 40, rng=rng(seed))) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert list(sample(model, [1], 40)) == list(sample(model, [1], 40))


# ---- beam search ----------------------------------------------------------------------------


def same(
    found: list[tuple[list[int], float]], expected: list[tuple[tuple[int, ...], float]]
) -> None:
    assert [tuple(ids) for ids, _ in found] == [ids for ids, _ in expected]
    np.testing.assert_allclose(
        [p for _, p in found], [p for _, p in expected], rtol=1e-9, atol=1e-12
    )


@settings(max_examples=80, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_wide_beam_equals_enumeration(
    size: int, length: int, seed: int, stops: bool, penalty: float
) -> None:
    model = Tree(size, seed)
    stop = seed % size if stops else None
    beams = size ** (length - 1)
    found = beam_search(model, [seed % size, 1], length, beams, stop, penalty)
    same(found, naive.best(model.table, (seed % size, 1), length, beams, stop, penalty))


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_a_narrow_beam_matches_its_definition(
    size: int, length: int, beams: int, seed: int
) -> None:
    model = Tree(size, seed)
    for stop in (None, 0):
        found = beam_search(model, [1], length, beams, stop)
        same(found, naive.beam(model.table, (1,), length, beams, stop))


def test_one_beam_is_greedy() -> None:
    model = chain(6, 9)
    ((ids, _),) = beam_search(model, [2], 8, 1)
    assert ids == list(sample(model, [2], 8, greedy=True))


def test_finished_hypotheses_end_the_search_early() -> None:
    # stopping at once has .9; everything longer has less than .1
    model = constant(np.log([0.9, 0.05, 0.05]))
    found = beam_search(model, [1], 50, 1, stop=0)
    assert [(ids, round(math.exp(p), 6)) for ids, p in found] == [([], 0.9)]
    assert model.steps <= 2
    # its mean a token is the best too, until a longer one could be better
    assert beam_search(model, [1], 4, 1, stop=0, length_penalty=1.0)[0].ids == []
    # a penalty that prefers length: 4 tokens of log p -1.6 against 1 of -1.2
    model = constant(np.log([0.3, 0.5, 0.2]))
    assert beam_search(model, [1], 4, 1, stop=0)[0].ids == []
    longest = beam_search(model, [1], 4, 1, stop=0, length_penalty=1.0)[0]
    assert longest.ids == [1, 1, 1, 1]
    assert longest.log_probability == pytest.approx(4 * math.log(0.5))


def test_length_penalty_can_reorder_hypotheses() -> None:
    logits = np.log(np.full((3, 3, 3), 1 / 3))
    logits[:, 2] = np.log([0.6, 0.39, 0.01])
    logits[:, 1] = np.log([0.001, 0.998, 0.001])
    (found,) = beam_search(Chain(logits), [2], 6, 1, stop=0, length_penalty=1.0)
    assert found.ids == [1] * 6
    assert beam_search(Chain(logits), [2], 6, 1, stop=0)[0].ids == []


def test_equal_beams_are_in_the_order_of_ids() -> None:
    found = beam_search(constant([0.0, 0.0, 0.0]), [0], 2, 5)
    assert [ids for ids, _ in found] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]


def test_impossible_tokens_make_no_hypotheses() -> None:
    model = constant([-math.inf, 0.0, -math.inf])
    same(beam_search(model, [1], 3, 4), [((1, 1, 1), 0.0)])
    assert beam_search(model, [1], 3, 4, stop=0)[0].ids == [1, 1, 1]
    same(beam_search(model, [1], 3, 4, stop=1), [((), 0.0)])


def test_states_follow_their_rows() -> None:
    """Each row's state must be its own: log-probabilities tell when they are mixed up."""
    model = chain(7, 12, scale=3)
    found = beam_search(model, [3, 1, 4], 9, 6)
    assert len({tuple(ids) for ids, _ in found}) == 6
    for ids, p in found:
        whole = (3, 1, 4, *ids)
        expected = sum(math.log(model.table(whole[:n])[whole[n]]) for n in range(3, len(whole)))
        assert expected == pytest.approx(p, rel=1e-6)


# ---- logits and settings --------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 40))
def test_largest(values: list[int], count: int) -> None:
    array = np.where(np.array(values) == -3, -np.inf, np.array(values)).astype(np.float64)
    finite = [i for i in range(len(values)) if values[i] > -3]
    assert largest(array, count).tolist() == sorted(finite, key=lambda i: (-values[i], i))[:count]


def test_log_softmax_takes_large_logits() -> None:
    logits = np.array([[1e30, 1e30, -1e30], [-1e4, -1e4, -math.inf]], np.float32)
    expected = [[-math.log(2), -math.log(2), -2e30], [-math.log(2), -math.log(2), -math.inf]]
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [[0.0, math.nan], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_non_finite_logits_are_rejected(bad: list[float]) -> None:
    model = constant(bad)
    for settings_ in ({}, {"greedy": True}, {"top_k": 1}, {"top_p": 0.5}):
        with pytest.raises(DataError, match="logits contain NaN"):
            list(sample(model, [0], 3, **settings_))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="logits contain NaN"):
        beam_search(model, [0], 3, 2)


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"length": 0}, "length must be a whole number of at least 1, not 0"),
        ({"length": 2.5}, "length must be a whole number of at least 1, not 2.5"),
        ({"temperature": "a"}, "temperature must be a number of at least 0, not 'a'"),
        ({"temperature": -0.1}, "temperature must be a number of at least 0, not -0.1"),
        ({"temperature": math.nan}, "temperature must be .*nan"),
        ({"temperature": math.inf}, "temperature must be .*inf"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.1}, "top_p must be .*1.1"),
        ({"top_p": math.nan}, "top_p must be .*nan"),
        ({"beams": 0}, "beams must be"),
        ({"beams": 2, "length_penalty": -1.0}, "length_penalty must be .*-1.0"),
        ({"beams": 2, "length_penalty": 400.0}, "length_penalty must be a number of 0 to 10"),
        ({"beams": 2, "temperature": 1.0}, "beams and temperature exclude"),
        ({"beams": 2, "top_k": 3}, "beams and top_k exclude"),
        ({"beams": 2, "top_p": 0.3}, "beams and top_p exclude"),
        ({"beams": 2, "greedy": True}, "beams and greedy exclude"),
        ({"greedy": True, "temperature": 0.5}, "greedy and temperature exclude"),
        ({"greedy": True, "top_k": 5}, "greedy and top_k exclude"),
        ({"length_penalty": 1.0}, "give beams too"),
    ],
)
def test_wrong_settings_are_rejected(settings_: dict[str, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_settings(**{"length": 5, **settings_})  # type: ignore[arg-type]
    model = chain(3, 1)
    rest = {"length": 5, **settings_}
    if set(rest) & {"beams", "length_penalty"}:
        if set(rest) <= {"length", "beams", "length_penalty"} and "beams" in rest:
            with pytest.raises(SettingsError, match=said):
                beam_search(model, [0], **rest)  # type: ignore[arg-type]
    else:
        # at once, before a token is requested
        with pytest.raises(SettingsError, match=said):
            sample(model, [0], **rest)  # type: ignore[arg-type]


def test_empty_prompt_is_rejected() -> None:
    model = chain(3, 1)
    with pytest.raises(SettingsError, match="prompt is empty"):
        sample(model, [], 3)
    with pytest.raises(SettingsError, match="prompt is empty"):
        beam_search(model, [], 3, 2)
