"""The CRF against enumeration of all paths, its float64 twin, and itself on other threads."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.nn.crf import CRF, FORBIDDEN, Constraints, bio_constraints
from fastseq.threads import Team
from tests.naive import crf as naive

NAMES = ("transitions", "start", "end")


def made(
    k: int, lengths: list[int], seed: int, scale: float = 2.0, team: Team | None = None
) -> tuple[CRF, np.ndarray, np.ndarray, np.ndarray]:
    """A CRF with parameters of that scale, emissions, tags and offsets."""
    rng = np.random.default_rng(seed)
    crf = CRF(k, team=team)
    for name in NAMES:
        crf.values[name][...] = rng.normal(0, scale, crf.values[name].shape)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    emissions = rng.normal(0, scale, (offsets[-1], k)).astype(np.float32)
    return crf, emissions, rng.integers(0, k, offsets[-1]).astype(np.int32), offsets


def wide(crf: CRF) -> list[np.ndarray]:
    """The parameters in force, float64, in the order the twin takes them."""
    transitions, start, end = (crf.values[name].astype(np.float64) for name in NAMES)
    if crf.constraints is not None:
        transitions = np.where(crf.constraints.transitions, FORBIDDEN, transitions)
        start = np.where(crf.constraints.start, FORBIDDEN, start)
        if crf.constraints.end is not None:
            end = np.where(crf.constraints.end, FORBIDDEN, end)
    return [transitions, start, end]


def expected_gradients(
    crf: CRF, emissions: np.ndarray, tags: np.ndarray, offsets: np.ndarray
) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """The twin's summed loss, gradient of the emissions, gradients of the parameters."""
    total = 0.0
    demissions = np.zeros(emissions.shape)
    slopes = [np.zeros(crf.values[name].shape) for name in NAMES]
    for a, b in pairwise(offsets):
        one, path = emissions[a:b].astype(np.float64), tuple(tags[a:b].tolist())
        total += naive.loss(one, path, *wide(crf))
        demissions[a:b], *rest = naive.gradients(one, path, *wide(crf))
        for slope, part in zip(slopes, rest, strict=True):
            slope += part
    return total, demissions, slopes


def check(
    crf: CRF, emissions: np.ndarray, tags: np.ndarray, offsets: np.ndarray, within: float = 1e-4
) -> None:
    """Loss and gradients of the layer against the twin's."""
    total, demissions, slopes = expected_gradients(crf, emissions, tags, offsets)
    n = len(tags)
    crf.zero_gradients()
    assert crf.loss(emissions, tags, offsets) == pytest.approx(total / n, rel=within, abs=1e-5)
    assert crf.loss(emissions, tags, offsets, False) == pytest.approx(
        total / n, rel=within, abs=1e-5
    )
    assert crf.loss(emissions, tags, offsets, False, "sequence") == pytest.approx(
        total / (len(offsets) - 1), rel=within, abs=1e-4
    )
    got = crf.backward()
    assert got.shape == emissions.shape
    assert got.dtype == np.float32
    got_slopes = [crf.grads[name] for name in NAMES]
    for one, other in zip([got, *got_slopes], [demissions, *slopes], strict=True):
        # where a likelihood is next to 1 all gradients are differences of numbers next to 1
        largest = max(0.01, float(np.abs(other).max()))
        np.testing.assert_allclose(one * n, other, rtol=0, atol=within * largest)


small = st.tuples(
    st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 10**6)
)


@settings(max_examples=60, deadline=None)
@given(small, st.sampled_from([0.0, 1.0, 10.0]))
def test_loss_and_best_path_equal_enumeration(
    sizes: tuple[int, list[int], int], scale: float
) -> None:
    crf, emissions, tags, offsets = made(*sizes, scale=scale)
    best, scores = crf.decode(emissions, offsets)
    shares = crf.marginals(emissions, offsets)
    total = 0.0
    for b, (i, j) in enumerate(pairwise(offsets)):
        one = emissions[i:j].astype(np.float64)
        z, marginals, path, score = naive.by_enumeration(one, *wide(crf))
        total += z - naive.path_score(one, tuple(tags[i:j].tolist()), *wide(crf))
        np.testing.assert_allclose(shares[i:j], marginals, atol=2e-5)
        assert scores[b] == pytest.approx(score, rel=1e-6, abs=1e-6)
        # paths whose scores differ by less than a rounding may change places
        got = naive.path_score(one, tuple(best[i:j].tolist()), *wide(crf))
        assert got == pytest.approx(score, rel=1e-6, abs=1e-5)
        if scale:
            assert scores[b] == pytest.approx(got, rel=1e-12)
        else:
            assert tuple(best[i:j]) == path == (0,) * (j - i)
    assert crf.loss(emissions, tags, offsets) == pytest.approx(total / len(tags), abs=3e-5)


@settings(max_examples=60, deadline=None)
@given(small)
def test_viterbi_breaks_ties_by_the_lowest_tag_from_the_end(
    sizes: tuple[int, list[int], int],
) -> None:
    """Whole numbers, so that sums are exact and ties many."""
    crf, emissions, _, offsets = made(*sizes)
    for value in (emissions, *crf.values.values()):
        value[...] = np.rint(value / 2)
    best, scores = crf.decode(emissions, offsets)
    for b, (i, j) in enumerate(pairwise(offsets)):
        _, _, path, score = naive.by_enumeration(emissions[i:j].astype(float), *wide(crf))
        assert tuple(best[i:j]) == path
        assert scores[b] == score


@pytest.mark.parametrize(("k", "steps"), [(1, 1), (1, 4), (3, 1), (3, 2), (5, 6)])
def test_naive_gradients_match_finite_differences(k: int, steps: int) -> None:
    rng = np.random.default_rng(k * 10 + steps)
    arrays = [rng.normal(size=shape) for shape in ((steps, k), (k, k), (k,), (k,))]
    path = tuple(rng.integers(0, k, steps).tolist())
    analytic = naive.gradients(arrays[0], path, *arrays[1:])
    step = 1e-5
    for array, slope in zip(arrays, analytic, strict=True):
        numeric = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + step
            above = naive.loss(arrays[0], path, *arrays[1:])
            array[at] = kept - step
            below = naive.loss(arrays[0], path, *arrays[1:])
            array[at] = kept
            numeric[at] = (above - below) / (2 * step)
        scale = max(np.abs(slope).max(), 1e-3)
        assert np.abs(numeric - slope).max() / scale < 1e-6


def test_naive_recursions_equal_enumeration() -> None:
    """The twin's likelihood and best score, which larger tests lean on."""
    crf, emissions, tags, _ = made(3, [5], 1)
    one, path = emissions.astype(float), tuple(tags.tolist())
    z, marginals, _, score = naive.by_enumeration(one, *wide(crf))
    assert naive.loss(one, path, *wide(crf)) == pytest.approx(
        z - naive.path_score(one, path, *wide(crf)), rel=1e-12
    )
    demissions = naive.gradients(one, path, *wide(crf))[0]
    demissions[np.arange(5), path] += 1
    np.testing.assert_allclose(demissions, marginals, atol=1e-12)
    assert naive.viterbi_score(one, *wide(crf)) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 16, 17, 50, 65])
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [9], [3, 1, 30, 2, 8, 1, 5, 4, 2, 7, 11]])
def test_gradients_match_the_naive_twin(k: int, lengths: list[int]) -> None:
    check(*made(k, lengths, seed=k + len(lengths)))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 20), min_size=1, max_size=12),
    st.integers(0, 10**6),
    st.sampled_from([0.1, 3.0, 30.0]),
)
def test_gradients_of_ragged_batches(k: int, lengths: list[int], seed: int, scale: float) -> None:
    check(*made(k, lengths, seed, scale))


@pytest.mark.parametrize("seed", range(6))
def test_extreme_emissions(seed: int) -> None:
    """±1000: every exponential of a difference underflows, in the recursions and in the pairs."""
    crf, emissions, tags, offsets = made(6, [7, 1, 20], seed, scale=1.0)
    emissions *= 1000 / np.abs(emissions).max()
    check(crf, emissions, tags, offsets)
    _, scores = crf.decode(emissions, offsets)
    assert np.isfinite(crf.marginals(emissions, offsets)).all()
    for b, (i, j) in enumerate(pairwise(offsets)):
        assert scores[b] == pytest.approx(naive.viterbi_score(emissions[i:j], *wide(crf)), rel=1e-6)


@pytest.mark.parametrize("size", [100.0, 300.0, 1000.0])
@pytest.mark.parametrize("k", [5, 40])
def test_extreme_transitions_need_the_exact_sums(k: int, size: float) -> None:
    """The only way from one favoured tag to the next is far less likely than all others."""
    crf, emissions, tags, offsets = made(k, [6, 2 * k], 3, scale=0.5)
    emissions[np.arange(2 * k + 6), np.arange(2 * k + 6) % k] += size
    crf.values["transitions"][...] += np.linspace(-size, size, k * k).reshape(k, k)
    crf.values["transitions"][np.arange(k), (np.arange(k) + 1) % k] = -size
    check(crf, emissions, tags, offsets, within=2e-4)


def test_long_sequences_are_stable() -> None:
    crf, emissions, tags, offsets = made(9, [2000, 3], 5, scale=3.0)
    check(crf, emissions, tags, offsets)
    shares = crf.marginals(emissions, offsets)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    _, scores = crf.decode(emissions, offsets)
    expected = naive.viterbi_score(emissions[:2000].astype(float), *wide(crf))
    assert scores[0] == pytest.approx(expected, rel=1e-7)


def test_exact_sums_for_some_vectors_only() -> None:
    """Tags 0:16 lead to nothing that is likely, tags 16:40 do: two ways of one step meet."""
    crf, emissions, tags, offsets = made(40, [5, 12], 4, scale=1.0)
    emissions += np.where(np.arange(40) < 16, 140, np.where(np.arange(40) < 39, 0, 120))
    crf.values["transitions"][:16, 39] -= 130
    crf.values["transitions"][:16, :16] -= 130
    crf.values["transitions"][:16, 16] += 20
    check(crf, emissions, tags, offsets, within=2e-4)


def test_best_of_long_sequences_of_large_scores() -> None:
    """Scores of millions, decided by differences of hundredths."""
    crf, emissions, _, offsets = made(6, [2000], 11, scale=0.05)
    emissions += np.random.default_rng(1).choice([-1000, 1000], (2000, 1)).astype(np.float32)
    emissions[:] += 600
    _, scores = crf.decode(emissions, offsets)
    expected = naive.viterbi_score(emissions.astype(float), *wide(crf))
    assert abs(expected) > 5e5
    assert scores[0] == pytest.approx(expected, abs=5e-3)


def test_likely_paths_are_exact() -> None:
    """A nearly certain path: the loss is a difference of two large numbers."""
    crf, emissions, tags, offsets = made(4, [500], 8, scale=1.0)
    emissions[np.arange(500), tags] += 20
    loss = crf.loss(emissions, tags, offsets, per="sequence")
    expected = naive.loss(emissions.astype(float), tuple(tags.tolist()), *wide(crf))
    assert loss == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("k", [3, 17, 50])
def test_results_do_not_depend_on_threads(k: int) -> None:
    lengths = [int(n) for n in np.random.default_rng(k).integers(1, 90, 41)]
    results = []
    for threads in (1, 2, 3, 8):
        crf, emissions, tags, offsets = made(k, lengths, k, team=Team(threads))
        assert len(crf._ranges(crf._batch(emissions, offsets))) == (threads if k > 3 else 1)
        loss = crf.loss(emissions, tags, offsets)
        best, scores = crf.decode(emissions, offsets)
        arrays = [crf.backward(), best, scores, crf.marginals(emissions, offsets)]
        arrays += [crf.grads[name] for name in NAMES]
        results.append((loss, [array.tobytes() for array in arrays]))
    assert results[1:] == results[:1] * 3


def test_gradients_are_added() -> None:
    crf, emissions, tags, offsets = made(4, [5, 2], 1)
    crf.loss(emissions, tags, offsets)
    once = {name: slope.copy() for name, slope in crf.grads.items()}
    crf.loss(emissions, tags, offsets, training=False)
    crf.loss(emissions, tags, offsets)
    for name in NAMES:
        np.testing.assert_array_equal(crf.grads[name], 2 * once[name])
        assert np.abs(once[name]).max() > 0.01


def test_read_only_and_strided_arrays_are_accepted() -> None:
    crf, emissions, tags, offsets = made(3, [4, 2], 2)
    expected = crf.loss(emissions, tags, offsets, training=False)
    strided = np.asfortranarray(emissions)
    strided.flags.writeable = False
    assert crf.loss(strided, tags.astype(np.int64), offsets, training=False) == expected


def test_nan_emissions_give_a_nan_loss() -> None:
    crf, emissions, tags, offsets = made(3, [4, 2], 2)
    emissions[1, 1] = np.nan
    assert np.isnan(crf.loss(emissions, tags, offsets))
    best, _ = crf.decode(emissions, offsets)
    assert ((best >= 0) & (best < 3)).all()


# ---- constraints ----------------------------------------------------------------------------

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_bio_constraints_table() -> None:
    constraints = bio_constraints(BIO)
    allowed = {
        (a, b)
        for i, a in enumerate(BIO)
        for j, b in enumerate(BIO)
        if ~constraints.transitions[i, j]
    }
    assert allowed == {
        (a, b) for a in BIO for b in BIO if not b.startswith("I") or a in (b, b.replace("I-", "B-"))
    }
    assert constraints.start.tolist() == [False, False, True, False, True]
    assert not bio_constraints(["NOUN", "VERB", "I"]).transitions.any()
    # without a B of its type, an I may begin
    assert not bio_constraints(["O", "I-PER"]).start.any()
    bioes = ["O", "B", "I", "E", "S"]
    assert bio_constraints(bioes).start.tolist() == [False, False, True, True, False]
    assert bio_constraints(bioes).transitions[bioes.index("S")].tolist() == [0, 0, 1, 1, 0]


BIOES = Constraints(  # of O, B, I, E, S: I and E follow B and I only
    np.array([[0, 0, 1, 1, 0], [1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]])
    > 0,
    np.array([0, 0, 1, 1, 0]) > 0,
    np.array([0, 1, 1, 0, 0]) > 0,
)


def constrained(
    seed: int, lengths: list[int], constraints: Constraints | None = None
) -> tuple[CRF, np.ndarray, np.ndarray, np.ndarray]:
    plain, emissions, _, offsets = made(5, lengths, seed, scale=3.0)
    crf = CRF(5, constraints=constraints or bio_constraints(BIO))
    crf.load_state_dict(plain.state_dict())
    tags, _ = crf.decode(np.random.default_rng(seed).normal(size=emissions.shape), offsets)
    return crf, emissions, tags, offsets


@pytest.mark.parametrize("constraints", [None, BIOES], ids=["IOB2", "BIOES"])
@pytest.mark.parametrize("seed", range(5))
def test_constraints_in_loss_decode_and_marginals(
    seed: int, constraints: Constraints | None
) -> None:
    crf, emissions, tags, offsets = constrained(seed, [6, 1, 3], constraints)
    assert crf.constraints is not None
    check(crf, emissions, tags, offsets)
    assert not crf.grads["transitions"][crf.constraints.transitions].any()
    assert not crf.grads["start"][crf.constraints.start].any()
    if crf.constraints.end is not None:
        assert not crf.grads["end"][crf.constraints.end].any()
    best, _ = crf.decode(emissions, offsets)
    assert crf.violations(best, offsets) == 0
    free = CRF(5)
    free.load_state_dict(crf.state_dict())
    unbound = [free.decode(e * 3, offsets)[0] for e in (emissions, -emissions)]
    assert sum(crf.violations(path, offsets) for path in unbound) > 0
    shares = crf.marginals(emissions, offsets)
    for i, j in pairwise(offsets):
        _, marginals, path, _ = naive.by_enumeration(emissions[i:j].astype(float), *wide(crf))
        np.testing.assert_allclose(shares[i:j], marginals, atol=2e-5)
        assert tuple(best[i:j]) == path


def test_constraints_with_extreme_emissions() -> None:
    """All the weight on a tag that may not follow: the sums over what may are taken exactly."""
    crf, emissions, tags, offsets = constrained(9, [8, 5])
    emissions[:, 0] += 900
    emissions[3, 2] += 1000  # I-PER behind O
    check(crf, emissions, tags, offsets, within=2e-4)
    best, _ = crf.decode(emissions, offsets)
    assert crf.violations(best, offsets) == 0


def test_violations_are_located() -> None:
    crf = CRF(5, constraints=bio_constraints(BIO))
    tags = np.array([2, 2, 0, 4, 1, 2, 4, 3], np.int32)
    assert crf.violations(tags, np.array([0, 8], np.int64)) == 3  # start, O I-LOC, I-PER I-LOC
    assert crf.violations(tags, np.array([0, 1, 2, 8], np.int64)) == 4
    assert CRF(5).violations(tags, np.array([0, 8], np.int64)) == 0
    # a forbidden path has a finite loss
    emissions = np.zeros((8, 5), np.float32)
    loss = crf.loss(emissions, tags, np.array([0, 8], np.int64), per="sequence")
    assert loss == pytest.approx(-3 * FORBIDDEN, rel=1e-2)
    assert crf.constraints is not None
    assert not crf.grads["transitions"][crf.constraints.transitions].any()
    assert not crf.grads["start"][crf.constraints.start].any()
    assert crf.grads["end"].any()


def test_violations_at_the_end_are_counted() -> None:
    crf = CRF(5, constraints=BIOES)
    tags = np.array([1, 3, 4, 2, 1], np.int32)  # B E S I B: S I, I B and the end
    assert crf.violations(tags, np.array([0, 5], np.int64)) == 3
    assert crf.violations(tags, np.array([0, 2, 3, 5], np.int64)) == 3  # I begins a sequence
    assert crf.violations(tags, np.array([0, 2, 3, 4, 5], np.int64)) == 3


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "tags", "offsets", "said"),
    [
        ((4, 3), [0, 0, 0, 0], [0, 2, 4], r"shape \[4, 3\], expected \[N, 2\]"),
        ((8,), [0] * 8, [0, 8], r"shape \[8\]"),
        ((4, 2), [0, 0, 0], [0, 2, 4], r"tags are of shape \[3\], expected \[4\]"),
        ((4, 2), [0, 0, 2, 0], [0, 2, 4], "holds 2 at 2, expected 0 to 1"),
        ((4, 2), [0, -1, 0, 0], [0, 2, 4], "holds -1 at 1, expected 0 to 1"),
        ((4, 2), [0, 0, 0, 0], [0, 2, 2, 4], "sequence 1 is empty"),
        ((4, 2), [0, 0, 0, 0], [0, 5, 4], "sequence 1 is empty"),
        ((4, 2), [0, 0, 0, 0], [0, 2, 3], "starts at 0 and ends at 4"),
        ((4, 2), [0, 0, 0, 0], [1, 2, 4], "starts at 0"),
        ((0, 2), [], [0], "starts at 0"),
    ],
)
def test_wrong_batches_are_rejected(
    shape: tuple[int, ...], tags: list[int], offsets: list[int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        CRF(2).loss(np.zeros(shape, np.float32), np.array(tags, np.int32), np.array(offsets))


def test_wrong_settings_are_rejected() -> None:
    with pytest.raises(SettingsError, match="tags must be a whole number of at least 1"):
        CRF(0)
    with pytest.raises(SettingsError, match=r"expected \[3, 3\] and \[3\]"):
        CRF(3, constraints=Constraints(np.zeros((2, 2), bool), np.zeros(3, bool)))
    crf, emissions, tags, offsets = made(2, [3], 1)
    with pytest.raises(SettingsError, match="per is 'row'"):
        crf.loss(emissions, tags, offsets, per="row")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="without a loss"):
        crf.backward()
    crf.loss(emissions, tags, offsets)
    crf.backward()
    with pytest.raises(SettingsError, match="without a loss"):
        crf.backward()


def test_training_learns_transitions() -> None:
    """Plain gradient descent on uninformative emissions finds the transitions of the data."""
    rng = np.random.default_rng(0)
    tags = (np.arange(120) % 3).astype(np.int32)
    offsets = np.arange(0, 121, 12, dtype=np.int64)
    emissions = rng.normal(0, 0.1, (120, 3)).astype(np.float32)
    crf = CRF(3)
    first = crf.loss(emissions, tags, offsets, training=False)
    for _ in range(150):
        crf.zero_gradients()
        crf.loss(emissions, tags, offsets)
        for name in NAMES:
            crf.values[name] -= 1.0 * crf.grads[name]
    assert crf.loss(emissions, tags, offsets, training=False) < 0.1 * first
    assert crf.decode(emissions, offsets)[0].tolist() == tags.tolist()


@pytest.mark.parametrize("tags", [[0, math.nan, 2, 0, 1], [0, 1.5, 2, 0, 1], ["a"] * 5])
def test_non_integer_tags_are_rejected(tags: list[object]) -> None:
    with pytest.raises(DataError, match="whole numbers"):
        CRF(3).loss(np.zeros((5, 3), np.float32), np.array(tags), np.array([0, 5]))


@pytest.mark.parametrize("offsets", [[0, 2.9, 5], [0, 2**62, -(2**62), 5], [0, 3, 2, 5]])
def test_offsets_outside_the_batch_are_rejected(offsets: list[object]) -> None:
    with pytest.raises(DataError):
        CRF(3).decode(np.zeros((5, 3), np.float32), np.array(offsets))
