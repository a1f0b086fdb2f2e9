"""Tag schemes, and measures of predicted labels and spans.

    scheme = TagScheme.detect(tags, codes, offsets)          # of the training tags
    best, _ = crf.decode(emissions, offsets, SchemeTags(scheme, tags).constraints())
    counts = SpanCounts(scheme)
    counts.add(tags, expected, predicted, offsets)           # batch after batch
    counts.score(), counts.by_type(), counts.score(strict=True)

A tag is "O" (outside of all spans) or a letter and, if spans have types, the type after "-" or "_"
("B-PER", "B_PER") or, in all tags of the set, before it ("PER-B"):

    IOB1   I; B only if a span directly follows one of its own type (CoNLL-2003's files)
    IOB2   B begins every span, I continues it; also called BIO
    IO     I alone: adjacent spans of one type are one
    BIOES  B begins, I continues and E ends a span of several tokens, S is one of a single token
    BILOU  the same with L for E and U for S
    BMES   the same with M for I; bare B, M, E, S for word segmentation

Sources: Ramshaw & Marcus 1995 (IOB1), Tjong Kim Sang & Veenstra 1999 (IOB2), Ratinov & Roth 2009
(BILOU). Spans are decoded in two ways. Lenient (conlleval, seqeval's default mode): a tag that
cannot continue the previous span begins a new one, so that every token inside is part of a span.
Strict (seqeval's mode="strict"): spans that are not encoded as the scheme requires do not count.

Tags are indices into a list of names; a negative one counts from its end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.nn.crf import Constraints
from fastseq.settings import one_of
from fastseq.types import Int32, Int64

AUTO, NONE = "auto", "none"

# (whether it begins a span, whether it ends one) for each letter
_YES, _NO, _MAYBE = 1, 0, -1
_CHUNKS = {"B": (_YES, _NO), "I": (_NO, _NO), "E": (_NO, _YES), "S": (_YES, _YES)}
_LETTERS: dict[str, dict[str, tuple[int, int]]] = {
    "IOB1": {"B": (_YES, _MAYBE), "I": (_MAYBE, _MAYBE)},
    "IOB2": {"B": (_YES, _MAYBE), "I": (_NO, _MAYBE)},
    "IO": {"I": (_MAYBE, _MAYBE)},
    "BIOES": _CHUNKS,
    "BILOU": {letter: _CHUNKS[of] for letter, of in zip("BILU", "BIES", strict=True)},
    "BMES": {letter: _CHUNKS[of] for letter, of in zip("BMES", "BIES", strict=True)},
}
SCHEMES = (*_LETTERS, NONE)
_ANY = {**_LETTERS["BMES"], **_LETTERS["BILOU"]}  # in lenient decoding
_PREFIXED = re.compile(rf"([{''.join(_ANY)}])(?:[-_](.+))?", re.DOTALL)
_SUFFIXED = re.compile(rf"(?:(.+)[-_])?([{''.join(_ANY)}])", re.DOTALL)

_AT_ONCE = 1 << 20  # tags checked at a time

Bool = npt.NDArray[np.bool_]


class SpanScore(NamedTuple):
    """Precision, recall, F1 and the number of spans expected; a ratio of nothing is 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class TagScheme:
    """How tags encode spans: a name of SCHEMES except "none"; `suffix`: whether the type comes
    before the letter ("PER-B")."""

    name: str
    suffix: bool = False

    @classmethod
    def detect(cls, tags: Sequence[str], codes: Int32, offsets: Int64) -> TagScheme | None:
        """The scheme of training sequences; None if the tags encode no spans.

        Every tag must have the form above: a single tag of another form, as part-of-speech tags
        have, means no spans. The letters decide between BIOES (E or S), BMES (M; or bare B, E and
        S without O), BILOU (L or U) and the others; IO requires an O, all others a B. Of IOB1 and
        IOB2, which have the same letters, it is the one with fewer violations, or IOB2.

        tags            the K tags that occur
        codes, offsets  int32[N] tags, int64[B + 1] bounds of sequences
        """
        for suffix in (False, True):
            parts = [_parts(tag, suffix) for tag in tags]
            if None in parts:
                continue
            inside = [part for part in parts if part is not None and part[0] != "O"]
            name = _by_letters({letter for letter, _ in inside}, len(inside) < len(parts),
                               not any(kind for _, kind in inside))  # fmt: skip
            if name != "IOB2":
                return None if name is None else cls(name, suffix)
            both = cls("IOB2", suffix), cls("IOB1", suffix)
            return min(both, key=lambda one: SchemeTags(one, tags).violations(codes, offsets)[1])
        return None

    @classmethod
    def of(cls, name: str, tags: Sequence[str]) -> TagScheme | None:
        """The scheme `name` for these tags; None for "none". Raises SettingsError for an unknown
        name, or a tag that the scheme does not have."""
        known = checked_scheme(name)
        if known == NONE:
            return None
        letters = {"O", *_LETTERS[known]}
        other: list[str] = []
        for suffix in (False, True):
            found = [t for t in tags if (_parts(t, suffix) or ("", ""))[0] not in letters]
            if not found:
                return cls(known, suffix)
            other += found
        raise SettingsError(
            f"tag_scheme is {known}, but {other[0]!r} is among the tags; expected O and "
            f"{', '.join(f'{letter}-TYPE' for letter in _LETTERS[known])}"
        )


def checked_scheme(name: object) -> str:
    """The name in SCHEMES, or "auto", of a name in any case. Raises SettingsError for another
    one."""
    known = {scheme.lower(): scheme for scheme in (AUTO, *SCHEMES)}
    if not isinstance(name, str) or name.lower() not in known:
        one_of("tag_scheme", name, known.values())
    return known[str(name).lower()]


def is_bio(names: Iterable[str]) -> bool:
    """Whether all tags have the form of IOB2 or BIOES with a hyphen, a B or an I among them, by
    which models written before `tag_scheme` decide."""
    tags = list(names)
    found = [re.fullmatch(r"O|[BIES](-.+)?", tag, re.DOTALL) for tag in tags]
    return all(found) and any(tag[0] in "BI" for tag in tags)


class SchemeTags:
    """K tags of a scheme, and the sorted `types` of their spans. A tag of another form is outside
    of spans, and never well formed."""

    def __init__(self, scheme: TagScheme, tags: Sequence[str]) -> None:
        self._names = list(tags)
        # the last is the outside of a sequence
        parts = [_parts(tag, scheme.suffix) or ("", "") for tag in tags] + [("O", "")]
        self.types = sorted({kind for letter, kind in parts if letter in _ANY})
        number = {kind: k for k, kind in enumerate(self.types)}
        self._kind = np.array([number[k] if letter in _ANY else -1 for letter, k in parts])
        own = {"O": (_MAYBE, _MAYBE), **_LETTERS[scheme.name]}
        self._begins, self._ends = np.array([own.get(x, (_NO, _NO)) for x, _ in parts]).T
        self._opens, self._closes = np.array([_ANY.get(x, (_NO, _NO)) for x, _ in parts]).T == _YES
        # of IOB1: letters that must follow a span of their type
        self._adjacent = np.array([scheme.name == "IOB1" and x == "B" for x, _ in parts])

    def constraints(self) -> Constraints:
        """The constraints under which decoded tags are well formed.

        A tag that requires a missing one (there is no B-X, or in BIOES no E-X) may occur anywhere:
        otherwise it could not be predicted at all.
        """
        begins, ends, adjacent = self._begins.copy(), self._ends.copy(), self._adjacent.copy()
        for kind in range(len(self.types)):
            own = self._kind == kind
            if not (own & (self._begins != _NO) & (self._ends != _YES)).any():
                begins[own & (begins == _NO)] = _MAYBE
            if not (own & (self._ends != _NO) & (self._begins != _YES)).any():
                ends[own & (ends == _NO)] = _MAYBE
            if not (own & (self._begins == _MAYBE)).any():
                adjacent[own] = False
        wrong = ~self._legal(begins, ends, adjacent)
        return Constraints(wrong[:-1, :-1], wrong[-1, :-1], wrong[:-1, -1])

    def _legal(
        self, begins: npt.NDArray[np.int_], ends: npt.NDArray[np.int_], adjacent: Bool
    ) -> Bool:
        """bool[K + 1, K + 1]: whether the second tag may follow the first."""
        same = (self._kind[:, None] == self._kind) & (self._kind >= 0)
        new = (ends[:, None] != _NO) & (begins != _NO)
        further = same & (ends[:, None] != _YES) & (begins != _YES)
        allowed: Bool = (new | further) & (same | ~adjacent)
        return allowed

    def violations(self, codes: Int32, offsets: Int64) -> tuple[Int64, int, str]:
        """The sequences that are not well formed, the number of transitions that are not, and a
        description of the first.

        codes, offsets  int32[N] tags, int64[B + 1] bounds of sequences of at least one tag
        """
        legal, K = self._legal(self._begins, self._ends, self._adjacent), len(self._names)
        found, steps, first = [np.zeros(0, np.int64)], 0, ""
        cuts = np.searchsorted(offsets, np.arange(0, offsets[-1], _AT_ONCE), "right") - 1
        for start, stop in pairwise([*dict.fromkeys(cuts.tolist()), len(offsets) - 1]):
            ends = offsets[start : stop + 1] - offsets[start]
            part = np.asarray(codes[offsets[start] : offsets[stop]], np.int64)
            at = np.insert(part % K, ends, K)  # each sequence between two outsides
            wrong = np.flatnonzero(~legal[at[:-1], at[1:]])
            rows = np.searchsorted(ends + np.arange(len(ends)), wrong, "right") - 1
            found.append(start + np.unique(rows))
            steps += len(wrong)
            if len(wrong) and not first:
                before, tag = at[wrong[0] : wrong[0] + 2].tolist()
                names = [*map(repr, self._names), ""]
                after = f"after {names[before]}" if names[before] else "at the start"
                first = f"{names[tag]} {after}" if names[tag] else f"{names[before]} at the end"
        return np.concatenate(found), steps, first

    def spans(self, codes: Int32, offsets: Int64, strict: bool) -> tuple[Int64, Int64, Int64]:
        """Starts, stops and types of the spans of sequences, in order.

        codes, offsets  int32[N] tags, int64[B + 1] bounds of sequences

        In IOB1 seqeval's strict mode does not count a B that follows no span of its type, only
        the tags after it, nor a span that ends with a B before a B of another type.
        """
        n, K, kind = len(codes), len(self._names), self._kind
        at: Int64 = np.asarray(codes, np.int64) % max(K, 1)
        before = np.concatenate([[K], at])[:n]
        before[offsets[:-1][offsets[:-1] < n]] = K
        inside, same = kind[at] >= 0, kind[before] == kind[at]
        begins = inside & ~(same & ~self._opens[at] & ~self._closes[before])
        bounds = np.append(np.flatnonzero(begins | ~inside | (before == K)), n)
        starts = np.flatnonzero(begins)
        stops = bounds[np.searchsorted(bounds, starts, "right")]
        if strict:
            last, following = at[stops - 1], np.append(at, K)[stops]
            following[np.append(before, K)[stops] == K] = K  # of another sequence
            good = (self._begins[at[starts]] != _NO) & (self._ends[last] != _NO)
            apart = kind[last] != kind[following]
            good &= ~(self._adjacent[last] & self._adjacent[following] & apart)
            starts = starts + (self._adjacent[at[starts]] & ~same[starts])
            good &= starts < stops
            starts, stops = starts[good], stops[good]
        return starts, stops, kind[at[starts]]


class SpanCounts:
    """Spans of each type, expected, predicted and both, counted batch after batch."""

    def __init__(self, scheme: TagScheme) -> None:
        self._scheme = scheme
        # lenient and strict
        self._expected, self._predicted, self._correct = (
            (Counter[str](), Counter[str]()) for _ in range(3)
        )
        self._tags: dict[tuple[str, ...], SchemeTags] = {}

    def add(self, tags: Sequence[str], expected: Int32, predicted: Int32, offsets: Int64) -> None:
        """Count the spans of more sequences: a predicted span is correct if one of the same start,
        stop and type is expected.

        tags                 names of the tags
        expected, predicted  int32[N] tags, with bounds of sequences in `offsets`, int64[B + 1]
        """
        table = self._tags.get(tuple(tags))
        if table is None:
            table = self._tags[tuple(tags)] = SchemeTags(self._scheme, tags)
        for strict in (False, True):
            start, *rest = table.spans(expected, offsets, strict)
            at = np.full((2, len(expected)), -1)  # stop and type of the span that starts here
            at[:, start] = rest
            start, *found = table.spans(predicted, offsets, strict)
            correct = found[1][(at[:, start] == found).all(0)]
            for counts, kinds in (
                (self._expected, rest[1]), (self._predicted, found[1]), (self._correct, correct),
            ):  # fmt: skip
                numbers, times = np.unique(kinds, return_counts=True)
                names = (table.types[number] for number in numbers)
                counts[strict].update(dict(zip(names, times.tolist(), strict=True)))

    def score(self, strict: bool = False) -> SpanScore:
        """Scores of the spans of all types together (micro-averaged)."""
        three = (self._correct, self._predicted, self._expected)
        return _score(*(counts[strict].total() for counts in three))

    def by_type(self, strict: bool = False) -> dict[str, SpanScore]:
        """Scores of each type that is expected or predicted, in the order of their names."""
        three = [counts[strict] for counts in (self._correct, self._predicted, self._expected)]
        return {k: _score(*(c[k] for c in three)) for k in sorted({*three[1], *three[2]})}


def _score(correct: int, predicted: int, expected: int) -> SpanScore:
    precision, recall = correct / max(predicted, 1), correct / max(expected, 1)
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return SpanScore(precision, recall, f1, expected)


def _parts(tag: str, suffix: bool) -> tuple[str, str] | None:
    """Letter and type; None for a tag of another form."""
    if tag == "O":
        return "O", ""
    found = (_SUFFIXED if suffix else _PREFIXED).fullmatch(tag)
    if found is None:
        return None
    kind, letter = found.groups() if suffix else found.groups()[::-1]
    return letter, kind or ""


def _by_letters(letters: set[str], outside: bool, bare: bool) -> str | None:
    """The scheme that has these letters, IOB2 also for IOB1; `outside`: whether there is an O,
    `bare`: whether there are no types."""
    if letters == {"I"}:
        return "IO" if outside else None
    if "B" not in letters or (letters == {"B"} and not outside):
        return None
    if letters <= {*"BES"} and bare and not outside:
        return "BMES"
    names = ("IOB2", "BILOU", "BIOES", "BMES")
    return next((name for name in names if letters <= _LETTERS[name].keys()), None)


# ---- labels


class Confusion(NamedTuple):
    """counts[i, j] examples of label labels[i] were predicted as labels[j]."""

    labels: npt.NDArray[Any]  # [K], ascending
    counts: Int64  # [K, K]


class LabelCounts:
    """Counts of K labels, numbered from 0, for accuracy, macro-F1 and, with `confusion`, the
    confusion matrix.

    total  of all labels added
    """

    def __init__(self, labels: int, confusion: bool = False) -> None:
        self.total = 0
        self._correct, self._predicted, self._expected = np.zeros((3, labels), np.int64)
        self._pairs = np.zeros((labels, labels), np.int64) if confusion else None

    def add(self, expected: Int32, predicted: Int32) -> None:
        """Count more labels; an expected one below 0 is unseen in training, never correct."""
        K, known = len(self._expected), expected >= 0
        self.total += len(expected)
        self._expected += np.bincount(expected[known], minlength=K)
        self._predicted += np.bincount(predicted, minlength=K)
        self._correct += np.bincount(expected[expected == predicted], minlength=K)
        if self._pairs is not None:
            np.add.at(self._pairs, (expected[known], predicted[known]), 1)

    @property
    def known(self) -> int:
        """How many expected labels training had."""
        return int(self._expected.sum())

    @property
    def accuracy(self) -> float:
        """The fraction of all labels that are correct."""
        return float(self._correct.sum() / self.total)

    def macro_f1(self, unseen: int = 0) -> float:
        """The mean F1 of the labels that are expected or predicted, unweighted; `unseen` more
        labels that training did not have count 0 each."""
        both = self._predicted + self._expected
        f1 = 2 * self._correct / np.maximum(both, 1)
        return float(f1.sum() / (np.count_nonzero(both) + unseen))

    def confusion(self, labels: npt.NDArray[Any]) -> Confusion:
        """The confusion matrix of the known labels, named by `labels`."""
        assert self._pairs is not None, "confusion was not asked for"
        return Confusion(labels, self._pairs)
