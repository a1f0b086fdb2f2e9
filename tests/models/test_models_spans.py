"""Spans of every tag scheme against a twin in pure Python, all short sequences, known counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.models import metrics as module
from fastseq.models.metrics import (
    SCHEMES,
    SchemeTags,
    SpanCounts,
    SpanScore,
    TagScheme,
    checked_scheme,
    is_bio,
)
from fastseq.nn.crf import CRF
from tests.models.tag_lists import IOB2, codes_of, counted, span_f1, spans, violation
from tests.naive import spans as naive

NAMED = [name for name in SCHEMES if name != "none"]
KINDS = ("PER", "LOC")


def tags_of(scheme: str, kinds: tuple[str, ...] = KINDS) -> list[str]:
    return ["O", *(f"{letter}-{kind}" for letter in naive.LETTERS[scheme] for kind in kinds)]


def span_sets(length: int) -> Iterator[naive.Spans]:
    """All sets of spans of two types in a sequence."""

    def after(start: int) -> Iterator[naive.Spans]:
        yield []
        for begin in range(start, length):
            for stop in range(begin + 1, length + 1):
                for kind in KINDS:
                    yield from ([(begin, stop, kind), *more] for more in after(stop))

    return after(0)


drawn_tags = st.sampled_from(NAMED).flatmap(
    lambda scheme: st.tuples(
        st.just(scheme), st.lists(st.sampled_from(tags_of(scheme)), min_size=1, max_size=25)
    )
)


# ---- reading


@settings(max_examples=300)
@given(drawn_tags)
def test_spans_equal_conlleval_and_seqeval(drawn: tuple[str, list[str]]) -> None:
    scheme, tags = drawn
    found = spans(tags, TagScheme(scheme))
    assert found == naive.lenient(tags)
    assert spans(tags, TagScheme(scheme), strict=True) == naive.strict(tags, scheme)
    covered = [i for start, stop, _ in found for i in range(start, stop)]
    assert covered == [i for i, tag in enumerate(tags) if tag != "O"]
    behind = [tag if tag == "O" else "-".join(reversed(tag.split("-"))) for tag in tags]
    for strict in (False, True):
        expected = spans(tags, TagScheme(scheme), strict)
        assert spans(behind, TagScheme(scheme, suffix=True), strict) == expected
        bars = [tag.replace("-", "_") for tag in tags]
        assert spans(bars, TagScheme(scheme), strict) == expected


# as conlleval and seqeval's default mode have them
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-X I-X O B-Y", [(0, 2, "X"), (3, 4, "Y")]),
        ("B-X B-X", [(0, 1, "X"), (1, 2, "X")]),
        ("O I-X I-X", [(1, 3, "X")]),
        ("B-X I-Y I-Y", [(0, 1, "X"), (1, 3, "Y")]),
        ("I-X B-X I-X", [(0, 1, "X"), (1, 3, "X")]),
        ("B I O I", [(0, 2, ""), (3, 4, "")]),
        ("B-X I-X E-X I-X S-X", [(0, 3, "X"), (3, 4, "X"), (4, 5, "X")]),
        ("S-X E-X", [(0, 1, "X"), (1, 2, "X")]),
        ("B-a-b I-a-b I-a", [(0, 2, "a-b"), (2, 3, "a")]),
        ("B I-X", [(0, 1, ""), (1, 2, "X")]),
        ("B M M E S B E", [(0, 4, ""), (4, 5, ""), (5, 7, "")]),
        ("U-X B-X I-X L-X L-X", [(0, 1, "X"), (1, 4, "X"), (4, 5, "X")]),
        ("B_X I_X B_X-Y", [(0, 2, "X"), (2, 3, "X-Y")]),
    ],
)
def test_spans_by_hand(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == expected


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("IOB2", "I-X O B-X I-X I-Y", [(2, 4, "X")]),
        ("IOB1", "I-X B-X O B-X I-X", [(0, 1, "X"), (1, 2, "X"), (4, 5, "X")]),
        ("BIOES", "B-X I-X O B-X E-X S-Y E-Y", [(3, 5, "X"), (5, 6, "Y")]),
        ("BILOU", "B-X I-X O B-X L-X U-Y L-Y", [(3, 5, "X"), (5, 6, "Y")]),
        ("BMES", "B E S M E B", [(0, 2, ""), (2, 3, "")]),
    ],
)
def test_strict_spans_by_hand(scheme: str, tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert spans(tags.split(), TagScheme(scheme), strict=True) == expected


@pytest.mark.parametrize("scheme", NAMED)
def test_encoding_then_decoding_returns_the_spans(scheme: str) -> None:
    for some in span_sets(5):
        tags = naive.encoded(some, 5, scheme)
        apart = all(a[1:] != (b[0], b[2]) for a, b in pairwise(some))
        if scheme != "IO" or apart:
            assert spans(tags, TagScheme(scheme)) == some
            assert spans(tags, TagScheme(scheme), strict=True) == some


# ---- well-formed sequences


@pytest.mark.parametrize("scheme", NAMED)
def test_only_encoded_spans_are_well_formed(scheme: str) -> None:
    names, length = tags_of(scheme), 4 if len(naive.LETTERS[scheme]) < 4 else 3
    good = {tuple(naive.encoded(some, length, scheme)) for some in span_sets(length)}
    rows = [list(row) for row in product(names, repeat=length)]
    broken, steps, _ = SchemeTags(TagScheme(scheme), names).violations(*codes_of(names, rows))
    assert {tuple(rows[i]) for i in broken} == {*map(tuple, rows)} - good
    assert steps >= len(broken)
    for row in rows:
        assert (violation(row, TagScheme(scheme)) == "") == (tuple(row) in good)


@pytest.mark.parametrize("scheme", NAMED)
def test_constrained_decoding_is_well_formed(scheme: str) -> None:
    names, rng = tags_of(scheme), np.random.default_rng(3)
    crf = CRF(len(names))
    lengths = rng.integers(1, 7, 300)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    emissions = rng.normal(0, 3, (offsets[-1], len(names))).astype(np.float32)
    best, _ = crf.decode(emissions, offsets, SchemeTags(TagScheme(scheme), names).constraints())
    assert SchemeTags(TagScheme(scheme), names).violations(best, offsets)[1] == 0
    free, _ = crf.decode(emissions, offsets)
    assert scheme == "IO" or SchemeTags(TagScheme(scheme), names).violations(free, offsets)[1] > 0
    assert {names[code] for code in best} == {*names}


@pytest.mark.parametrize(
    ("scheme", "names", "allowed"),
    [
        ("IOB2", ["O", "I-X", "B-Y", "I-Y"], "O I-X B-Y I-Y O"),  # no B-X
        ("IOB1", ["O", "B-X", "I-Y"], "O B-X I-Y"),  # no I-X
        ("BIOES", ["O", "B-X", "I-X", "S-Y"], "B-X I-X S-Y B-X O"),  # no E-X
        ("BIOES", ["O", "E-X", "B-Y", "E-Y"], "E-X O E-X B-Y E-Y"),  # no B-X
        ("BMES", ["M", "S"], "M S M"),
    ],
)
def test_unreachable_tags_are_allowed(scheme: str, names: list[str], allowed: str) -> None:
    """A tag that the training set lacks must not make those that require it impossible."""
    limits = SchemeTags(TagScheme(scheme), names).constraints()
    path = [names.index(tag) for tag in allowed.split()]
    assert limits.end is not None
    assert not limits.start[path[0]]
    assert not limits.end[path[-1]]
    assert not limits.transitions[path[:-1], path[1:]].any()


def test_violations_are_described() -> None:
    scheme = TagScheme("BIOES")
    assert violation(["O", "B-X", "E-X"], scheme) == ""
    assert violation(["O", "B-X", "O"], scheme) == "'O' after 'B-X'"
    assert violation(["I-X"], scheme) == "'I-X' at the start"
    assert violation(["O", "B-X"], scheme) == "'B-X' at the end"
    assert violation(["O", "NOUN"], IOB2) == "'NOUN' after 'O'"


@pytest.mark.parametrize("at_once", [3, 100, 1 << 20])
def test_violations_of_many_sequences(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    names, rng = tags_of("IOB2"), random.Random(2)
    rows = [rng.choices(names, k=rng.randrange(1, 6)) for _ in range(400)]
    found, steps, first = SchemeTags(IOB2, names).violations(*codes_of(names, rows))
    wrong = [bool(violation(row, IOB2)) for row in rows]
    assert first == next(filter(None, (violation(row, IOB2) for row in rows)))
    assert found.tolist() == np.flatnonzero(wrong).tolist()
    one_by_one = sum(SchemeTags(IOB2, names).violations(*codes_of(names, [row]))[1] for row in rows)
    assert steps == one_by_one > len(found)


# ---- detection


def detected(rows: list[list[str]]) -> str:
    names = sorted({tag for row in rows for tag in row})
    scheme = TagScheme.detect(names, *codes_of(names, rows))
    return "none" if scheme is None else scheme.name + (" suffix" if scheme.suffix else "")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["O I-PER I-PER O", "I-LOC B-LOC O"], "IOB1"),
        (["O B-PER I-PER O", "B-LOC B-LOC O"], "IOB2"),
        (["O I-PER I-PER O I-LOC"], "IO"),
        (["O B-PER O"], "IOB2"),
        (["O B-PER E-PER S-LOC", "B-LOC I-LOC E-LOC"], "BIOES"),
        (["O B-PER L-PER U-LOC", "B-LOC I-LOC L-LOC"], "BILOU"),
        (["O B-PER E-PER S-LOC", "B-LOC M-LOC E-LOC"], "BMES"),
        (["B M E S S"], "BMES"),
        (["B E S S"], "BMES"),
        (["B E S O"], "BIOES"),
        (["B I B I"], "IOB2"),
        (["O B_PER I_PER"], "IOB2"),
        (["O PER-B PER-I"], "IOB2 suffix"),
        (["O PER_B PER_L LOC_U"], "BILOU suffix"),
        (["DET NOUN VERB"], "none"),
        (["B-adv X-Y NOUN"], "none"),
        (["O B-PER I-PER", "-X-"], "none"),
        (["O S-PER S-LOC"], "none"),
        (["M-sg M-pl"], "none"),
        (["B-flat B-sharp"], "none"),
        (["I-a I-b"], "none"),
        (["O O"], "none"),
        (["O B- I-"], "none"),
        (["O B-X M-X I-X"], "none"),
    ],
)
def test_detected_schemes(rows: list[str], expected: str) -> None:
    assert detected([row.split() for row in rows]) == expected


def test_iob1_or_iob2_by_fewer_violations() -> None:
    clean = [["O", "B-X", "I-X", "O", "B-X", "B-X"]] * 20
    assert detected([*clean, ["O", "I-X"]]) == "IOB2"
    assert detected([*clean[:1], *[["O", "I-X", "O", "I-X", "B-X"]] * 20]) == "IOB1"
    assert detected([["O", "I-X"], ["B-X", "O"]]) == "IOB2", "of equally many"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(NAMED))
def test_encoded_spans_are_detected(seed: int, scheme: str) -> None:
    rng = random.Random(seed)
    sets = list(span_sets(5))
    rows = [naive.encoded(rng.choice(sets), 5, scheme) for _ in range(40)]
    expected = scheme
    if scheme == "IOB1" and not any(tag[0] == "B" for row in rows for tag in row):
        expected = "IO"
    assert detected(rows) == expected


def test_named_schemes_check_the_tags() -> None:
    assert TagScheme.of("none", ["B-X"]) is None
    assert TagScheme.of("iob1", ["O", "B-X", "I-X"]) == TagScheme("IOB1")
    assert TagScheme.of("IOB2", ["O", "X-B", "X-I"]) == TagScheme("IOB2", suffix=True)
    wrong = "tag_scheme is IOB2, but 'E-X' is among the tags; expected O and B-TYPE, I-TYPE"
    with pytest.raises(SettingsError, match=wrong):
        TagScheme.of("IOB2", ["O", "B-X", "E-X"])
    for name in ("BIO", None, 3):
        with pytest.raises(SettingsError, match=r"tag_scheme is .*expected one of auto, IOB1"):
            checked_scheme(name)
    assert checked_scheme("AUTO") == "auto"
    assert checked_scheme("Bilou") == "BILOU"


def test_is_bio() -> None:
    for names in (["O", "B-PER", "I-PER"], ["I-X"], ["B", "I"], ["B-X", "E-X", "S-X", "O"]):
        assert is_bio(names)
    for names in (
        [],
        ["O"],
        ["NOUN", "VERB"],
        ["B-X", "NOUN"],
        ["B-"],
        ["B_X"],
        ["b-x"],
        ["S-X", "O"],
        ["B", "M", "E", "S"],
        [""],
    ):
        assert not is_bio(names)


# ---- scores


def test_f1_by_hand() -> None:
    """The example of seqeval's own page: two spans expected, two predicted, one correct."""
    gold = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    given_tags = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert span_f1(gold, given_tags) == SpanScore(0.5, 0.5, 0.5, 2)
    assert counted(gold, given_tags).by_type() == {
        "MISC": SpanScore(0.0, 0.0, 0.0, 1),
        "PER": SpanScore(1.0, 1.0, 1.0, 1),
    }
    # precision and recall apart: one of three predicted is correct, one of two expected is found
    more = [["B-MISC", "O", "O", "B-MISC", "O", "O", "O"], ["B-PER", "I-PER", "O"]]
    score = span_f1(gold, more)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == 0.5
    assert score.f1 == pytest.approx(0.4)


def test_lenient_and_strict_scores_differ() -> None:
    gold, found = [["O", "B-X", "I-X"]], [["O", "I-X", "I-X"]]
    assert span_f1(gold, found).f1 == 1
    assert span_f1(gold, found, IOB2, strict=True) == SpanScore(0, 0, 0, 1)
    assert counted(gold, found).by_type(strict=True) == {"X": SpanScore(0, 0, 0, 1)}


def test_counts_accumulate_over_batches() -> None:
    rng = random.Random(4)
    tags = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    gold = [rng.choices(tags, k=rng.randrange(9)) for _ in range(50)]
    found = [rng.choices(tags, k=len(row)) for row in gold]
    counts = SpanCounts(IOB2)
    for start in range(0, 50, 7):
        (expected, offsets), (predicted, _) = (
            codes_of(tags, side[start : start + 7]) for side in (gold, found)
        )
        counts.add(tags, expected, predicted, offsets)
    for strict in (False, True):
        assert counts.score(strict) == span_f1(gold, found, strict=strict)
        assert counts.by_type(strict) == counted(gold, found).by_type(strict)
        assert counts.score(strict).f1 > 0
    assert counts.score().support > counts.score(strict=True).support


def test_unseen_tags_have_numbers_from_the_end() -> None:
    """-1 is the last name, and so on: expected tags that training did not have."""
    counts = SpanCounts(IOB2)
    names = ["B-X", "I-X", "O", "NOUN", "I-Y", "B-Y"]
    expected = np.array([0, 1, -1, -2, -3, 2], np.int32)
    predicted = np.array([0, 1, 0, 1, 2, 2], np.int32)
    counts.add(names, expected, predicted, np.array([0, 6]))
    assert counts.by_type() == {"X": SpanScore(0.5, 1.0, pytest.approx(2 / 3), 1),
                                "Y": SpanScore(0.0, 0.0, 0.0, 1)}  # fmt: skip


def test_f1_of_nothing() -> None:
    assert span_f1([], []) == SpanScore(0.0, 0.0, 0.0, 0)
    assert span_f1([["O"]], [["O"]]) == SpanScore(0.0, 0.0, 0.0, 0)
    assert span_f1([["B-X"]], [["O"]]) == SpanScore(0.0, 0.0, 0.0, 1)
    assert span_f1([["O"]], [["B-X"]]) == SpanScore(0.0, 0.0, 0.0, 0)
    assert counted([["O"]], [["O"]]).by_type() == {}


@settings(max_examples=200)
@given(st.lists(st.tuples(drawn_tags, st.integers(0, 10**6)), max_size=6), st.booleans())
def test_f1_equals_sets_of_spans(
    rows: list[tuple[tuple[str, list[str]], int]], strict: bool
) -> None:
    scheme = rows[0][0][0] if rows else "IOB2"
    gold = [tags for (name, tags), _ in rows if name == scheme]
    guess = []
    for tags, (_, seed) in zip(gold, rows, strict=False):
        rng = random.Random(seed)
        guess.append([rng.choice([tag, tag, "O", tags_of(scheme)[1]]) for tag in tags])

    def read(side: list[list[str]]) -> list[naive.Spans]:
        return [naive.strict(row, scheme) if strict else naive.lenient(row) for row in side]

    expected = naive.score(read(gold), read(guess))
    assert span_f1(gold, guess, TagScheme(scheme), strict) == pytest.approx(expected)
    for kind, score in counted(gold, guess, TagScheme(scheme)).by_type(strict).items():
        both = [[[s for s in row if s[2] == kind] for row in read(side)] for side in (gold, guess)]
        assert score == pytest.approx(naive.score(*both))
