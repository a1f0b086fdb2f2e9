"""Sequences drawn from a model that gives the next token's logits: sampling and beam search.

Everything here works on a `Stepper`, so any model that can be advanced token by token will do:

    for token in sample(stepper, prompt, 200, temperature=0.8, rng=np.random.default_rng(1)):
        ...
    for ids, log_probability in beam_search(stepper, prompt, 40, beams=4, stop=eos):
        ...

A stop token ends a sequence and is not given out. A sequence shorter than the length asked for
therefore ended by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.settings import real, whole
from fastseq.types import Float32, Float64, Int32, Int64

State = TypeVar("State")


class Stepper(Protocol[State]):
    """A model advanced by one token at a time, several rows at once.

    The state is opaque: arrays of any shape that belong to the rows. No method changes a state
    it was given.
    """

    def start(self, rows: int) -> State:
        """The state of `rows` sequences of which nothing has been read."""
        ...

    def step(self, tokens: Int32, state: State) -> tuple[Float32, State]:
        """Read tokens int32[rows]; logits float32[rows, V] of what comes next, and the new state.

        The logits need not be normalised; -inf marks a token that cannot come.
        """
        ...

    def select(self, state: State, rows: Int64) -> State:
        """The state whose row i is the row rows[i] of `state`; rows may repeat and be left out."""
        ...


class Hypothesis(NamedTuple):
    """A sequence that beam search found."""

    ids: list[int]  # without the prompt and without the stop token
    log_probability: float  # natural, given the prompt, the stop token's included


def check_settings(
    length: int,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    beams: int | None = None,
    length_penalty: float = 0.0,
) -> None:
    """Raise SettingsError where a setting of generation is out of range or contradicts another.

    None is a setting that was not given.
    """
    whole("length", length, 1)
    if temperature is not None:
        real("temperature", temperature, _not_negative, "a number of at least 0")
    if top_k is not None:
        whole("top_k", top_k, 1)
    if top_p is not None:
        real("top_p", top_p, lambda share: 0 < share <= 1, "above 0 and at most 1")
    if beams is not None:
        whole("beams", beams, 1)
    real("length_penalty", length_penalty, lambda power: 0 <= power <= 10, "a number of 0 to 10")
    drawn = {
        "temperature": temperature is not None,
        "top_k": top_k is not None,
        "top_p": top_p is not None,
    }
    named = [name for name, given in drawn.items() if given]
    if beams is not None and (named or greedy):
        raise SettingsError(
            f"beams and {(named or ['greedy'])[0]} exclude each other: beam search draws nothing"
        )
    if greedy and named:
        raise SettingsError(f"greedy and {named[0]} exclude each other: greedy draws nothing")
    if length_penalty and beams is None:
        raise SettingsError("length_penalty is for beam search: give beams too")


def _not_negative(number: float) -> bool:
    return 0 <= number < math.inf


def sample(
    stepper: Stepper[State],
    prompt: Sequence[int] | Int32,
    length: int,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    rng: np.random.Generator | None = None,
    stop: int | None = None,
) -> Iterator[int]:
    """Draw a continuation of the prompt, token by token, each given out as soon as it is drawn.

    Parameters
    ----------
    prompt : ids read first, at least one.
    length : at most so many tokens.
    temperature : logits are divided by it (1 if not given); 0 is `greedy`.
    top_k : draw from the k most probable tokens only, of equals those with the lowest ids.
    top_p : draw from the smallest set of most probable tokens whose probability, after
        `temperature` and `top_k`, is at least p (nucleus sampling, Holtzman et al. 2020).
    greedy : take the most probable token, of equals the one with the lowest id.
    rng : source of one uniform number a token; seeded with 0 if not given.
    stop : a token that ends the sequence; it is not given out.

    Raises
    ------
    SettingsError
        A setting is out of range, two exclude each other, or the prompt is empty; at once, not
        when the first token is asked for.
    DataError
        The model's logits hold NaN or +inf, or nothing above -inf.
    """
    choice = _Choice(length, temperature, top_k, top_p, greedy)
    start = _prompt(prompt)
    return _stream(stepper, start, length, choice, rng or np.random.default_rng(0), stop)


def _stream(
    stepper: Stepper[State],
    prompt: Int32,
    length: int,
    choice: _Choice,
    rng: np.random.Generator,
    stop: int | None,
) -> Iterator[int]:
    logits, state = _read(stepper, prompt)
    for n in range(length):
        token = choice.draw(logits[0], rng.random())
        if token == stop:
            return
        yield token
        if n + 1 < length:
            logits, state = stepper.step(np.array([token], np.int32), state)


def sample_many(
    stepper: Stepper[State],
    prompt: Sequence[int] | Int32,
    length: int,
    count: int,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    rng: np.random.Generator | None = None,
    stop: int | None = None,
) -> list[list[int]]:
    """`count` continuations of one prompt, drawn side by side; settings and errors as `sample`.

    Every step takes `count` numbers from `rng`, however many sequences still go on, so what one
    row becomes does not depend on when the others stop.
    """
    choice = _Choice(length, temperature, top_k, top_p, greedy)
    whole("count", count, 1)
    rng = rng or np.random.default_rng(0)
    found: list[list[int]] = [[] for _ in range(count)]
    rows = np.arange(count)
    logits, state = _read(stepper, _prompt(prompt))
    sources = np.zeros(count, np.int64)  # the row of the logits that each sequence goes on from
    for n in range(length):
        uniform = rng.random(count)
        drawn = [
            choice.draw(logits[source], uniform[row])
            for source, row in zip(sources, rows, strict=True)
        ]
        kept = [i for i, token in enumerate(drawn) if token != stop]
        for i in kept:
            found[rows[i]].append(drawn[i])
        if not kept or n + 1 == length:
            break
        state = stepper.select(state, sources[kept])
        logits, state = stepper.step(np.array([drawn[i] for i in kept], np.int32), state)
        rows, sources = rows[kept], np.arange(len(kept))
    return found


def beam_search(
    stepper: Stepper[State],
    prompt: Sequence[int] | Int32,
    length: int,
    beams: int,
    stop: int | None = None,
    length_penalty: float = 0.0,
) -> list[Hypothesis]:
    """The most probable continuations of the prompt that a beam of width `beams` finds.

    At every step the `beams` best sequences that have not stopped are gone on with; those that
    stopped are kept beside them and take no place in the beam. With beams of at least
    V^(length - 1) the result is that of trying every sequence.

    Parameters
    ----------
    prompt : ids read first, at least one.
    length : a sequence has so many tokens, or fewer and then `stop` behind them.
    beams : width, and the largest number of hypotheses given.
    stop : a token that ends a sequence.
    length_penalty : sequences are ranked by log-probability / n^length_penalty, where n counts
        their tokens, the stop token among them; 0 ranks by probability, 1 by its mean a token.

    Returns
    -------
    At most `beams` hypotheses, best first. Equals are in the order they were found in: shorter
    first, then by rank of what they continue, then by the lower last id.

    Raises
    ------
    SettingsError
        A setting is out of range or the prompt is empty.
    DataError
        The model's logits hold NaN or +inf, or nothing above -inf.
    """
    check_settings(length, beams=beams, length_penalty=length_penalty)
    logits, state = _read(stepper, _prompt(prompt))
    going: list[list[int]] = [[]]
    scores = np.zeros(1)
    ended: list[tuple[float, Hypothesis]] = []  # (rank, hypothesis), best first, at most `beams`
    for n in range(1, length + 1):
        totals = scores[:, None] + log_softmax(logits)
        size = totals.shape[1]
        scale = float(n) ** length_penalty
        if stop is not None and 0 <= stop < size:
            closing = totals[:, stop].copy()
            totals[:, stop] = -np.inf
            ended = _ranked(ended, going, closing, scale, beams)
        best = largest(totals.reshape(-1), beams)
        parents, tokens = best // size, best % size
        going = [[*going[p], int(t)] for p, t in zip(parents, tokens, strict=True)]
        scores = totals[parents, tokens]
        if n == length:
            ended = _ranked(ended, going, scores, scale, beams)
        # a sequence only loses probability, and is ranked best at its full length
        bound = scores[0] / float(length) ** length_penalty if going else -np.inf
        if n == length or not going or (len(ended) == beams and bound < ended[-1][0]):
            break
        state = stepper.select(state, parents)
        logits, state = stepper.step(tokens.astype(np.int32), state)
    return [hypothesis for _, hypothesis in ended]


def _ranked(
    ended: list[tuple[float, Hypothesis]],
    ids: list[list[int]],
    scores: Float64,
    scale: float,
    beams: int,
) -> list[tuple[float, Hypothesis]]:
    """The best `beams` of those ended and those that end now with these scores."""
    now = [
        (score / scale, Hypothesis(list(each), score))
        for each, score in zip(ids, scores.tolist(), strict=True)
        if score > -math.inf
    ]
    return sorted([*ended, *now], key=lambda item: -item[0])[:beams]


def log_probability(stepper: Stepper[State], ids: Sequence[int] | Int32, given: int = 1) -> float:
    """log p(ids[given:] | ids[:given]), natural, summed in float64.

    Raises SettingsError when `given` is not in 1:len(ids) + 1, DataError when an id is outside
    the model's vocabulary or its logits hold NaN or +inf, or nothing above -inf.
    """
    sequence = _prompt(ids)
    if not 1 <= given <= len(sequence):
        raise SettingsError(f"given is {given}, expected 1 to {len(sequence)}, the number of ids")
    if given == len(sequence):
        return 0.0
    logits, state = _read(stepper, sequence[:given])
    total = 0.0
    for n in range(given, len(sequence)):
        token = int(sequence[n])
        if not 0 <= token < logits.shape[1]:
            raise DataError(f"id {token} at {n} is not in 0:{logits.shape[1]}")
        total += float(log_softmax(logits)[0, token])
        if n + 1 < len(sequence):
            logits, state = stepper.step(sequence[n : n + 1], state)
    return total


def log_softmax(logits: Float32) -> Float64:
    """log-probabilities float64[rows, V] of logits float32[rows, V].

    Raises DataError when a row holds NaN or +inf, or nothing above -inf.
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise DataError("the model's logits hold NaN or +inf, or nothing above -inf")
    wide -= top
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def distribution(
    logits: Float32,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[Int64, Float64]:
    """What `sample` draws from: ids int64[n] and their probabilities float64[n], summing to 1.

    `logits` is float32[V]; the settings and their order are those of `sample`. Temperature 0
    leaves the most probable id alone. Raises DataError as `log_softmax`.
    """
    top = float(logits.max())
    if not math.isfinite(top):
        raise DataError("the model's logits hold NaN or +inf, or nothing above -inf")
    if temperature == 0:
        return np.array([logits.argmax()], np.int64), np.ones(1)
    ids = largest(logits, top_k) if top_k is not None else np.flatnonzero(logits > -np.inf)
    with np.errstate(over="ignore"):  # a temperature near 0
        weights = np.exp((logits[ids].astype(np.float64) - top) / temperature)
    weights /= weights.sum()
    if top_p is not None and top_p < 1:
        # what lies below (1 - p) / n is less than 1 - p together: never in the set
        likely = np.flatnonzero(weights >= (1 - top_p) / len(weights))
        order = likely[np.lexsort((ids[likely], -weights[likely]))]
        count = int(np.searchsorted(np.cumsum(weights[order]), top_p)) + 1
        ids, weights = ids[order[:count]], weights[order[:count]]
        weights /= weights.sum()
    return ids, weights


def largest(values: Float32 | Float64, count: int) -> Int64:
    """Where the `count` largest of values[n] above -inf are, best first, equals by position."""
    count = min(count, len(values))
    floor = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero((values >= floor) & (values > -np.inf))
    return found[np.argsort(-values[found], kind="stable")[:count]]


class _Choice:
    """How the next token is chosen from the logits of one row."""

    def __init__(
        self,
        length: int,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        greedy: bool,
    ) -> None:
        check_settings(length, temperature, top_k, top_p, greedy)
        self.temperature = 0.0 if greedy else 1.0 if temperature is None else temperature
        self.top_k = top_k
        self.top_p = top_p

    def draw(self, logits: npt.NDArray[np.float32], uniform: float) -> int:
        """The token that `uniform`, in [0, 1), falls on."""
        ids, weights = distribution(logits, self.temperature, self.top_k, self.top_p)
        above = np.cumsum(weights)
        place = int(np.searchsorted(above, uniform * above[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])


def _prompt(ids: Sequence[int] | Int32) -> Int32:
    prompt = np.asarray(ids, np.int32)
    if prompt.ndim != 1 or len(prompt) == 0:
        raise SettingsError("the prompt is empty, expected at least one token id")
    return prompt


def _read(stepper: Stepper[State], prompt: Int32) -> tuple[Float32, State]:
    """Logits float32[1, V] and state behind the prompt."""
    state = stepper.start(1)
    for n in range(len(prompt) - 1):
        _, state = stepper.step(prompt[n : n + 1], state)
    return stepper.step(prompt[-1:], state)
