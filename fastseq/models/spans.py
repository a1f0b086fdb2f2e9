"""Tag schemes: the spans that tags encode, and precision, recall and F1 of spans.

    scheme = TagScheme.detect(tags, codes, offsets)      # of the training tags
    best, _ = crf.decode(emissions, offsets, scheme.constraints(tags))
    counts = SpanCounts(scheme)
    counts.add(tags, expected, predicted, offsets)
    counts.score(), counts.by_type(), counts.score(strict=True)

A tag is "O" (outside of all spans) or a letter and, where spans have types, the type behind "-" or
"_" ("B-PER", "B_PER") or, in all tags of the set, before it ("PER-B"):

    IOB1   I; B only where a span follows one of its own type directly (CoNLL-2003's files)
    IOB2   B begins every span, I continues it; also called BIO
    IO     I alone: adjacent spans of one type are one
    BIOES  B begins, I continues and E ends a span of several tokens, S is one of a single token
    BILOU  the same with L for E and U for S
    BMES   the same with M for I; bare B, M, E, S for word segmentation

Sources: Ramshaw & Marcus 1995 (IOB1), Tjong Kim Sang & Veenstra 1999 (IOB2), Ratinov & Roth 2009
(BILOU). Spans are read in two ways. Lenient (conlleval, seqeval's default mode): a tag that cannot
continue the span before it begins a new one, so that every token inside is part of a span. Strict
(seqeval's mode="strict"): spans that are not encoded as the scheme requires do not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.models.data.ragged import offsets_of
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
# in lenient reading, those of all schemes
_ANY = {letter: flags for name in ("BIOES", "BILOU", "BMES") for letter, flags in
        _LETTERS[name].items()}  # fmt: skip
_PREFIXED = re.compile(rf"([{''.join(_ANY)}])(?:[-_](.+))?", re.DOTALL)
_SUFFIXED = re.compile(rf"(?:(.+)[-_])?([{''.join(_ANY)}])", re.DOTALL)

Bool = npt.NDArray[np.bool_]


class Span(NamedTuple):
    """Positions start:stop of a sequence, of one type ("" where spans have none)."""

    start: int
    stop: int
    kind: str


class SpanScore(NamedTuple):
    """Precision, recall, F1 and the number of spans expected; a ratio of nothing is 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class TagScheme:
    """How tags encode spans.

    name    one of SCHEMES except "none"
    suffix  whether the type comes before the letter ("PER-B")
    """

    name: str
    suffix: bool = False

    @classmethod
    def detect(cls, tags: Sequence[str], codes: Int32, offsets: Int64) -> TagScheme | None:
        """The scheme of training sequences; None where the tags encode no spans.

        Every tag must have the form above: a single tag of another form, as part-of-speech tags
        have, means no spans. The letters decide between BIOES (I or O beside E and S), BMES (M,
        or bare B, E and S without O), BILOU (L or U) and the others; IO requires an O, all others
        a B. IOB1 and IOB2 have the same letters: it is the scheme that fewer steps from tag to tag
        violate (a B that follows no span of its type against an I that does not continue one),
        IOB2 if equally many do.

        Parameters
        ----------
        tags : the K tags that occur
        codes, offsets : int32[N] numbers of tags, and int64[B + 1], where sequences begin and end
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
            return min(both, key=lambda one: one.violations(tags, codes, offsets)[1])
        return None

    @classmethod
    def of(cls, name: str, tags: Sequence[str]) -> TagScheme | None:
        """The scheme `name` for these tags; None for "none".

        Raises SettingsError for an unknown name, or a tag that the scheme does not have.
        """
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

    def constraints(self, tags: Sequence[str]) -> Constraints:
        """What a decoder must not choose so that its tags are well formed.

        Where `tags` lack the tag that one requires (there is no B-X, or in BIOES no E-X), it may
        come anywhere: otherwise it could not be predicted at all.
        """
        table = _Table(self, tags, relaxed=True)
        legal = table.legal()
        return Constraints(~legal[:-1, :-1], ~legal[-1, :-1], ~legal[:-1, -1])

    def violations(self, tags: Sequence[str], codes: Int32, offsets: Int64) -> tuple[Int64, int]:
        """The sequences that are not well formed, and how many steps from tag to tag are not.

        Parameters
        ----------
        codes : int32[N], numbers of `tags`; those below 0 count from the end
        offsets : int64[B + 1], of sequences with at least one tag
        """
        legal = _Table(self, tags).legal()
        found, steps = [np.zeros(0, np.int64)], 0
        for first, last in _parts_of(offsets):
            ends = offsets[first : last + 1] - offsets[first]
            part = np.asarray(codes[offsets[first] : offsets[last]], np.int64) % len(tags)
            after = np.append(part[1:], -1)
            after[ends[1:] - 1] = -1
            wrong = ~legal[part, after]
            at = np.concatenate([np.flatnonzero(wrong), ends[:-1][~legal[-1, part[ends[:-1]]]]])
            steps += len(at)
            found.append(first + np.unique(np.searchsorted(ends, at, "right") - 1))
        return np.concatenate(found), steps

    def violation(self, tags: Sequence[str]) -> str:
        """The first step of a sequence that is not well formed, in words."""
        legal = _Table(self, tags).legal()
        for at in range(len(tags) + 1):
            if not legal[at - 1, at]:
                tag = repr(tags[min(at, len(tags) - 1)])
                if at == len(tags):
                    return f"{tag} at the end"
                return f"{tag} after {tags[at - 1]!r}" if at else f"{tag} at the start"
        return ""


def checked_scheme(name: object) -> str:
    """The name of a scheme, "auto" or "none", in any case, as SCHEMES has it. Raises SettingsError
    for another one."""
    known = {scheme.lower(): scheme for scheme in (AUTO, *SCHEMES)}
    if not isinstance(name, str) or name.lower() not in known:
        one_of("tag_scheme", name, known.values())
    return known[str(name).lower()]


def is_bio(names: Iterable[str]) -> bool:
    """Whether all tags have the form of IOB2 or BIOES with a hyphen, a B or an I among them; what
    models written before `tag_scheme` go by."""
    tags = list(names)
    found = [re.fullmatch(r"O|[BIES](-.+)?", tag, re.DOTALL) for tag in tags]
    return all(found) and any(tag[0] in "BI" for tag in tags)


def spans(tags: Sequence[str], scheme: TagScheme | None = None, strict: bool = False) -> list[Span]:
    """The spans of one sequence, from left to right; they do not overlap.

    scheme : required with `strict`; lenient reading is the same for all schemes

    Raises DataError for a tag of another form, with its position.
    """
    scheme = scheme or TagScheme("IOB2")
    for position, tag in enumerate(tags):
        if _parts(tag, scheme.suffix) is None:
            raise DataError(f"tag {tag!r} at position {position} is no {scheme.name} tag")
    known = sorted(set(tags))
    codes = np.array([known.index(tag) for tag in tags], np.int32)
    table = _Table(scheme, known)
    found = table.spans(codes, np.array([0, len(tags)]), strict)
    return [
        Span(start, stop, table.types[kind])
        for start, stop, kind in zip(*(part.tolist() for part in found), strict=True)
    ]


class SpanCounts:
    """Spans of each type, expected, predicted and both, counted batch after batch."""

    def __init__(self, scheme: TagScheme | None = None) -> None:
        self.scheme = scheme or TagScheme("IOB2")
        # of each reading, lenient and strict
        self._expected, self._predicted, self._correct = (
            (Counter[str](), Counter[str]()) for _ in range(3)
        )
        self._tables: dict[tuple[str, ...], _Table] = {}

    def add(self, tags: Sequence[str], expected: Int32, predicted: Int32, offsets: Int64) -> None:
        """Count the spans of more sequences.

        Parameters
        ----------
        tags : what the numbers of tags stand for, numbers below 0 counted from the end
        expected, predicted : int32[N], numbers of tags
        offsets : int64[B + 1], where sequences begin and end

        Raises DataError for a tag that is not of the scheme's form.
        """
        table = self._tables.get(tuple(tags))
        if table is None:
            table = self._tables[tuple(tags)] = _Table(self.scheme, tags)
        for strict in (False, True):
            sides = [table.spans(codes, offsets, strict) for codes in (expected, predicted)]
            at = np.full((2, len(expected)), -1)  # where its span stops, and its type
            start, *rest = sides[0]
            at[:, start] = rest
            start, *rest = sides[1]
            right = (at[:, start] == rest).all(0)
            for counts, kinds in (
                (self._expected, sides[0][2]),
                (self._predicted, sides[1][2]),
                (self._correct, sides[1][2][right]),
            ):
                found = np.bincount(kinds, minlength=len(table.types)).tolist()
                counts[strict].update({k: n for k, n in zip(table.types, found, strict=True) if n})

    def score(self, strict: bool = False) -> SpanScore:
        """Scores of the spans of all types together (micro-averaged)."""
        three = (self._correct, self._predicted, self._expected)
        return _score(*(counts[strict].total() for counts in three))

    def by_type(self, strict: bool = False) -> dict[str, SpanScore]:
        """Scores of each type that is expected or predicted, in the order of their names."""
        three = [counts[strict] for counts in (self._correct, self._predicted, self._expected)]
        return {k: _score(*(c[k] for c in three)) for k in sorted({*three[1], *three[2]})}


def span_f1(
    expected: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    scheme: TagScheme | None = None,
    strict: bool = False,
) -> SpanScore:
    """Scores of the spans of all sequences, all types together (micro-averaged).

    A predicted span is correct if one of the same start, stop and type is expected.

    Raises DataError if the sequences differ in number or length (with the row), or for a tag of
    another form.
    """
    return _counted(expected, predicted, scheme).score(strict)


def span_f1_by_kind(
    expected: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    scheme: TagScheme | None = None,
    strict: bool = False,
) -> dict[str, SpanScore]:
    """The same for each type that is expected or predicted, in the order of their names."""
    return _counted(expected, predicted, scheme).by_type(strict)


def _counted(
    expected: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    scheme: TagScheme | None,
) -> SpanCounts:
    if len(expected) != len(predicted):
        raise DataError(f"{len(predicted)} tag sequences are predicted, expected {len(expected)}")
    counts = SpanCounts(scheme)
    for row, pair in enumerate(zip(expected, predicted, strict=True)):
        if len(pair[0]) != len(pair[1]):
            found, wanted = len(pair[1]), len(pair[0])
            raise DataError(f"row {row}: {found} tags are predicted, expected {wanted}")
        for position, tag in chain(*map(enumerate, pair)):
            if _parts(tag, counts.scheme.suffix) is None:
                raise DataError(
                    f"row {row}: tag {tag!r} at position {position} is no {counts.scheme.name} tag"
                )
    number: dict[str, int] = {}
    first, second = (
        np.array([number.setdefault(tag, len(number)) for row in side for tag in row], np.int32)
        for side in (expected, predicted)
    )
    offsets = offsets_of(np.array([len(row) for row in expected], np.int64))
    counts.add(list(number), first, second, offsets)
    return counts


class _Table:
    """What the letters and types of K tags say, one more entry for the outside of a sequence.

    types           of spans
    begins, ends    int[K + 1], of the letters in the scheme
    relaxed         see TagScheme.constraints
    """

    def __init__(self, scheme: TagScheme, tags: Sequence[str], relaxed: bool = False) -> None:
        # a tag of another form is outside, and never legal
        parts = [_parts(tag, scheme.suffix) or ("", "") for tag in tags] + [("O", "")]
        self.types = sorted({kind for letter, kind in parts if letter in _ANY})
        number = {kind: k for k, kind in enumerate(self.types)}
        self._iob1 = scheme.name == "IOB1"
        self._is_b = np.array([letter == "B" for letter, _ in parts])
        self._kind = np.array([number[k] if letter in _ANY else -1 for letter, k in parts])
        own = {"O": (_MAYBE, _MAYBE), **_LETTERS[scheme.name]}
        self._begins, self._ends = np.array([own.get(x, (_NO, _NO)) for x, _ in parts]).T
        lenient = np.array([_ANY.get(x, (_NO, _NO)) for x, _ in parts]).T == _YES
        self._opens, self._closes = lenient
        if relaxed:
            self._relax()

    def _relax(self) -> None:
        for kind in range(len(self.types)):
            own = self._kind == kind
            begins, ends = self._begins[own], self._ends[own]
            if not ((begins != _NO) & (ends != _YES)).any():
                self._begins[own & (self._begins == _NO)] = _MAYBE
            if not ((ends != _NO) & (begins != _YES)).any():
                self._ends[own & (self._ends == _NO)] = _MAYBE
            if self._iob1 and not (begins == _MAYBE).any():
                self._is_b[own] = False

    def legal(self) -> Bool:
        """bool[K + 1, K + 1]: whether the second tag may follow the first."""
        same = (self._kind[:, None] == self._kind) & (self._kind >= 0)
        new = (self._ends[:, None] != _NO) & (self._begins != _NO)
        further = same & (self._ends[:, None] != _YES) & (self._begins != _YES)
        allowed: Bool = new | further
        return allowed & (same | ~self._is_b) if self._iob1 else allowed

    def spans(self, codes: Int32, offsets: Int64, strict: bool) -> tuple[Int64, Int64, Int64]:
        """Starts, stops and types of the spans of sequences with these offsets, in order.

        In IOB1 seqeval's strict mode does not count a B that follows no span of its type, only
        what comes after it, nor a span that ends with a B where a B of another type comes next.
        """
        n, K = len(codes), len(self._kind) - 1
        at: Int64 = np.asarray(codes, np.int64) % max(K, 1)
        before = np.concatenate([[K], at])[:n]
        before[offsets[:-1][offsets[:-1] < n]] = K
        inside = self._kind[at] >= 0
        same = self._kind[before] == self._kind[at]
        begins = inside & ~(same & ~self._opens[at] & ~self._closes[before])
        bounds = np.append(np.flatnonzero(begins | ~inside | (before == K)), n)
        starts = np.flatnonzero(begins)
        stops = bounds[np.searchsorted(bounds, starts, "right")]
        if strict:
            good = (self._begins[at[starts]] != _NO) & (self._ends[at[stops - 1]] != _NO)
            if self._iob1:
                is_b, following = self._is_b, np.append(at, K)[stops]
                following[np.append(before, K)[stops] == K] = K  # of another sequence
                last = at[stops - 1]
                good &= ~(is_b[last] & is_b[following]) | (
                    self._kind[last] == self._kind[following]
                )
                starts = starts + (is_b[at[starts]] & ~same[starts])
                good &= starts < stops
            starts, stops = starts[good], stops[good]
        return starts, stops, self._kind[at[starts]]


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
    """The scheme that has these letters, IOB2 also for IOB1; whether there is an O, and whether
    there are no types."""
    if letters == {"I"}:
        return "IO" if outside else None
    if "B" not in letters or (letters == {"B"} and not outside):
        return None
    if letters <= {*"BES"} and "I" not in letters and letters != {"B"} and bare and not outside:
        return "BMES"
    for name in ("IOB2", "BILOU", "BIOES", "BMES"):
        if letters <= _LETTERS[name].keys():
            return name
    return None


def _parts_of(offsets: Int64, at_once: int = 1 << 20) -> Iterator[tuple[int, int]]:
    """Runs of sequences of about `at_once` tags."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + at_once, "right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def _score(correct: int, predicted: int, expected: int) -> SpanScore:
    precision = correct / predicted if predicted else 0.0
    recall = correct / expected if expected else 0.0
    both = precision + recall
    return SpanScore(precision, recall, 2 * precision * recall / both if both else 0.0, expected)
