"""Spans of BIO tags against a twin made of regular expressions, and against known counts."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseq.errors import DataError
from fastseq.models.spans import (
    Span,
    SpanCounts,
    SpanScore,
    is_bio,
    span_f1,
    span_f1_by_kind,
    spans,
)

NAMES = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))]
LETTERS = {name: chr(ord("a") + i) for i, name in enumerate(NAMES)}


def by_expression(tags: list[str]) -> list[Span]:
    """One letter a tag; of each type a span is an opener with what goes on, or such a run alone.

    B or a stray I or E opens, I goes on, E closes, S stands alone.
    """
    text = "".join(LETTERS[tag] for tag in tags)
    found = []
    for kind in ("PER", "LOC"):
        b, i, e, s = (LETTERS[f"{prefix}-{kind}"] for prefix in "BIES")
        for match in re.finditer(f"{s}|{b}{i}*{e}?|{i}+{e}?|{e}", text):
            found.append(Span(match.start(), match.end(), kind))
    return sorted(found)


@given(st.lists(st.sampled_from(NAMES), max_size=25))
def test_spans_equal_the_expression(tags: list[str]) -> None:
    assert spans(tags) == by_expression(tags)


@given(st.lists(st.sampled_from(NAMES[:5]), max_size=25))
def test_spans_of_plain_bio(tags: list[str]) -> None:
    found = spans(tags)
    assert found == by_expression(tags)
    covered = [i for span in found for i in range(span.start, span.stop)]
    assert covered == [i for i, tag in enumerate(tags) if tag != "O"]


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
    ],
)
def test_spans_by_hand(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == expected


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


def test_f1_by_hand() -> None:
    """The example of seqeval's own page: two spans wanted, two given, one right."""
    gold = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    given_tags = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert span_f1(gold, given_tags) == SpanScore(0.5, 0.5, 0.5)
    assert span_f1_by_kind(gold, given_tags) == {
        "MISC": SpanScore(0.0, 0.0, 0.0),
        "PER": SpanScore(1.0, 1.0, 1.0),
    }
    # precision and recall apart: one of three given is right, one of two wanted is found
    more = [["B-MISC", "O", "O", "B-MISC", "O", "O", "O"], ["B-PER", "I-PER", "O"]]
    score = span_f1(gold, more)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == 0.5
    assert score.f1 == pytest.approx(0.4)


def test_counted_batch_after_batch() -> None:
    rng = random.Random(4)
    tags = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    gold = [rng.choices(tags, k=rng.randrange(9)) for _ in range(50)]
    found = [rng.choices(tags, k=len(row)) for row in gold]
    counts = SpanCounts()
    for start in range(0, 50, 7):
        counts.add(gold[start : start + 7], found[start : start + 7], start)
    assert counts.score() == span_f1(gold, found)
    assert counts.by_kind() == span_f1_by_kind(gold, found)
    assert counts.score().f1 > 0
    with pytest.raises(DataError, match="row 71: tag 'X'"):
        counts.add([["O"], ["X"]], [["O"], ["O"]], 70)


def test_f1_of_nothing() -> None:
    zero = SpanScore(0.0, 0.0, 0.0)
    assert span_f1([], []) == zero
    assert span_f1([["O"]], [["O"]]) == zero
    assert span_f1([["B-X"]], [["O"]]) == zero
    assert span_f1([["O"]], [["B-X"]]) == zero
    assert span_f1_by_kind([["O"]], [["O"]]) == {}


tag_lists = st.lists(st.sampled_from(NAMES), min_size=1, max_size=12)


@given(st.lists(st.tuples(tag_lists, st.randoms(use_true_random=False)), max_size=6))
def test_f1_equals_sets_of_spans(rows: list[tuple[list[str], object]]) -> None:
    gold = [tags for tags, _ in rows]
    guess = [[source.choice([tag, tag, "O", "B-PER"]) for tag in tags] for tags, source in rows]  # type: ignore[attr-defined]
    wanted = {(row, span) for row, tags in enumerate(gold) for span in by_expression(tags)}
    given_spans = {(row, span) for row, tags in enumerate(guess) for span in by_expression(tags)}
    score = span_f1(gold, guess)
    both = len(wanted & given_spans)
    assert score.precision == (both / len(given_spans) if given_spans else 0)
    assert score.recall == (both / len(wanted) if wanted else 0)
    total = len(wanted) + len(given_spans)
    assert score.f1 == pytest.approx(2 * both / total if total else 0)


def test_wrong_tags_are_refused() -> None:
    with pytest.raises(DataError, match="tag 'NOUN' at position 1 is not a BIO tag"):
        spans(["O", "NOUN"])
    with pytest.raises(DataError, match="row 1: tag 'X' at position 0"):
        span_f1([["O"], ["O"]], [["O"], ["X"]])
    with pytest.raises(DataError, match="row 1: 2 tags are predicted, expected 1"):
        span_f1([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(DataError, match="1 tag sequences are predicted, expected 2"):
        span_f1([["O"], ["O"]], [["O"]])
