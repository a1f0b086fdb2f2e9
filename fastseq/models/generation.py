"""Generating sequences from a model of the next token's logits: sampling and beam search.

They work on a `Decoder`, that is any model that reads token by token:

    for token in sample(decoder, prompt, 200, temperature=0.8, rng=np.random.default_rng(1)):
        ...
    for ids, log_probability in beam_search(decoder, prompt, 40, beams=4, stop=eos):
        ...

A stop token ends a sequence and is not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.settings import real, whole
from fastseq.types import Float32, Float64, Int32, Int64

State = TypeVar("State")


class Decoder(Protocol[State]):
    """A model that reads one token at a time, several rows in parallel.

    The state is opaque; no method changes a state passed to it.
    """

    def start(self, rows: int) -> State:
        """The initial state of `rows` sequences."""
        ...

    def step(self, tokens: Int32, state: State) -> tuple[Float32, State]:
        """Read tokens int32[rows]; logits float32[rows, V] of the next tokens, and the new state.

        The logits need not be normalised; -inf marks a token that is impossible.
        """
        ...

    def select(self, state: State, rows: Int64) -> State:
        """The state whose row i is the row rows[i] of `state`."""
        ...


class Hypothesis(NamedTuple):
    """A result of beam search."""

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
    """Raise SettingsError if a setting is out of range or contradicts another. None is a setting
    that was not given."""
    whole("length", length, 1)
    if temperature is not None:
        real("temperature", temperature, lambda t: 0 <= t < math.inf, "a number of at least 0")
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
            f"beams and {(named or ['greedy'])[0]} exclude each other: beam search does not sample"
        )
    if greedy and named:
        raise SettingsError(f"greedy and {named[0]} exclude each other: greedy does not sample")
    if length_penalty and beams is None:
        raise SettingsError("length_penalty is for beam search: give beams too")


def sample(
    decoder: Decoder[State],
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
    """Draw a continuation of the prompt, token by token.

    Parameters
    ----------
    prompt : ids read first
    length : maximum number of tokens
    temperature : logits are divided by it (1 if not given); 0 is `greedy`
    top_k : draw from the k most probable tokens only, ties by the lowest ids
    top_p : draw from the smallest set of most probable tokens whose probability, after
        `temperature` and `top_k`, is at least p (nucleus sampling, Holtzman et al. 2020)
    greedy : take the most probable token, ties by the lowest id
    rng : source of one uniform number per token; seeded with 0 if not given
    stop : a token that ends the sequence and is not returned

    Raises SettingsError (at once, not when the first token is drawn) if a setting is out of range,
    two exclude each other, or the prompt is empty; DataError as `log_softmax`.
    """
    check_settings(length, temperature, top_k, top_p, greedy)
    heat = 0.0 if greedy else 1.0 if temperature is None else temperature
    start, source = _prompt(prompt), rng or np.random.default_rng(0)

    def drawn() -> Iterator[int]:
        logits, state = _read(decoder, start)
        for n in range(length):
            ids, weights = distribution(logits[0], heat, top_k, top_p)
            above = np.cumsum(weights)
            place = int(np.searchsorted(above, source.random() * above[-1], side="right"))
            token = int(ids[min(place, len(ids) - 1)])
            if token == stop:
                return
            yield token
            if n + 1 < length:
                logits, state = decoder.step(np.array([token], np.int32), state)

    return drawn()


def beam_search(
    decoder: Decoder[State],
    prompt: Sequence[int] | Int32,
    length: int,
    beams: int,
    stop: int | None = None,
    length_penalty: float = 0.0,
) -> list[Hypothesis]:
    """The most probable continuations of the prompt by beam search.

    Every step continues the `beams` best unfinished sequences; finished ones take no place in the
    beam. With beams of at least V^(length - 1) the search is exhaustive.

    Parameters
    ----------
    prompt : ids read first, at least one
    length : number of tokens of a sequence, fewer if `stop` ends it
    beams : width, and the maximum number of hypotheses
    stop : a token that ends a sequence
    length_penalty : sequences are ranked by log-probability / n^length_penalty, where n counts
        their tokens with the stop token; 0 ranks by probability, 1 by its mean per token

    Returns
    -------
    At most `beams` hypotheses, best first. Ties are in the order in which they were found: shorter
    first, then by rank of the sequence they continue, then by the lower last id.

    Raises SettingsError if a setting is out of range or the prompt is empty, DataError as
    `log_softmax`.
    """
    check_settings(length, beams=beams, length_penalty=length_penalty)
    logits, state = _read(decoder, _prompt(prompt))
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
        # a sequence only loses probability, and ranks best at its full length
        bound = scores[0] / float(length) ** length_penalty if going else -np.inf
        if n == length or not going or (len(ended) == beams and bound < ended[-1][0]):
            break
        state = decoder.select(state, parents)
        logits, state = decoder.step(tokens.astype(np.int32), state)
    return [hypothesis for _, hypothesis in ended]


def _ranked(
    ended: list[tuple[float, Hypothesis]],
    ids: list[list[int]],
    scores: Float64,
    scale: float,
    beams: int,
) -> list[tuple[float, Hypothesis]]:
    """The best `beams` of the ended sequences and those that end now with these scores."""
    now = [
        (score / scale, Hypothesis(list(each), score))
        for each, score in zip(ids, scores.tolist(), strict=True)
        if score > -math.inf
    ]
    return sorted([*ended, *now], key=lambda item: -item[0])[:beams]


def log_softmax(logits: Float32) -> Float64:
    """log-probabilities float64[rows, V] of logits float32[rows, V].

    Raises DataError when a row holds NaN or +inf, or nothing above -inf.
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise DataError("the model's logits contain NaN or +inf, or nothing above -inf")
    wide -= top
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def distribution(
    logits: Float32,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[Int64, Float64]:
    """The distribution of `sample`: ids int64[n] and their probabilities float64[n], summing to 1.

    `logits` is float32[V]; settings are those of `sample`. Raises DataError as `log_softmax`.
    """
    top = float(logits.max())
    if not math.isfinite(top):
        raise DataError("the model's logits contain NaN or +inf, or nothing above -inf")
    if temperature == 0:
        return np.array([logits.argmax()], np.int64), np.ones(1)
    ids = largest(logits, top_k) if top_k is not None else np.flatnonzero(logits > -np.inf)
    with np.errstate(over="ignore"):  # a temperature near 0
        weights = np.exp((logits[ids].astype(np.float64) - top) / temperature)
    weights /= weights.sum()
    if top_p is not None and top_p < 1:
        # weights below (1 - p) / n sum to less than 1 - p: never in the set
        likely = np.flatnonzero(weights >= (1 - top_p) / len(weights))
        order = likely[np.lexsort((ids[likely], -weights[likely]))]
        count = int(np.searchsorted(np.cumsum(weights[order]), top_p)) + 1
        ids, weights = ids[order[:count]], weights[order[:count]]
        weights /= weights.sum()
    return ids, weights


def largest(values: Float32 | Float64, count: int) -> Int64:
    """Positions of the `count` largest of values[n] above -inf, best first, ties by position."""
    count = min(count, len(values))
    floor = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero((values >= floor) & (values > -np.inf))
    return found[np.argsort(-values[found], kind="stable")[:count]]


def _prompt(ids: Sequence[int] | Int32) -> Int32:
    prompt = np.asarray(ids, np.int32)
    if prompt.ndim != 1 or len(prompt) == 0:
        raise SettingsError("the prompt is empty, expected at least one token id")
    return prompt


def _read(decoder: Decoder[State], prompt: Int32) -> tuple[Float32, State]:
    """Logits float32[1, V] and state after the prompt."""
    state = decoder.start(1)
    for n in range(len(prompt) - 1):
        _, state = decoder.step(prompt[n : n + 1], state)
    return decoder.step(prompt[-1:], state)
