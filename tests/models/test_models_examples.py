"""Examples out of Parquet: one pass, any batch size, in memory or in a file; odd rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError
from fastseq.models.data.batches import take
from fastseq.models.data.examples import Encoder, Examples, learn_stream, read_stream
from fastseq.models.data.tokenizer import SequenceTokenizer
from fastseq.store.files import SpillArray
from fastseq.store.in_memory import as_source
from fastseq.store.rows import RowReader, open_rows
from fastseq.types import Tokens
from tests.naive import units as naive

words = st.lists(st.sampled_from(["a", "B", "b", "c.", "dog", "Dog", "é"]), max_size=6)


def labelled(texts: list[str | None], labels: list[Any]) -> RowReader:
    return open_rows(as_source(texts, labels), "text")


def tagged(tokens: list[list[str]], tags: list[list[str]]) -> RowReader:
    return open_rows(as_source(tokens, tags, "tokens"), "tokens")


def lists(values: Any, offsets: Any) -> list[list[Any]]:
    values, at = values.tolist(), offsets.tolist()
    return [values[a:b] for a, b in pairwise(at)]


def same(a: Examples, b: Examples) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("values", "offsets", "rows", "targets", "spellings")
    )


def spelt(examples: Examples, encoder: Encoder) -> list[str]:
    """Every unit by its characters."""
    assert examples.characters is not None
    assert examples.spellings is not None
    assert encoder.chars is not None
    letters = encoder.chars.vocabulary.texts.to_strings()
    written = lists(examples.characters.values, examples.characters.offsets)
    return ["".join(letters[i] for i in written[s]) for s in examples.spellings.tolist()]


@given(st.lists(words, min_size=2, max_size=10), st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_classification(texts: list[list[str]], min_count: int, chars: bool) -> None:
    strings = [" ".join(text) for text in texts]
    labels = [i % 2 for i in range(len(texts))]
    split = [naive.units(text, "word", True) for text in strings]
    known = naive.vocabulary(split, min_count, None)
    reader = labelled(list(strings), labels)
    if not known:
        with pytest.raises(DataError, match="no units are left"):
            Encoder.learn(reader, SequenceTokenizer("word"), min_count=min_count)
        return
    encoder, train = Encoder.learn(
        reader, SequenceTokenizer("word"), min_count=min_count, chars=chars
    )
    ids = {unit: i for i, unit in enumerate(known, 1)}
    assert lists(train.values, train.offsets) == [[ids.get(u, 0) for u in s] or [0] for s in split]
    assert train.targets is not None
    assert train.targets.tolist() == labels
    assert train.rows.tolist() == list(range(len(texts)))
    assert train.report.empty == sum(not s for s in split)
    assert train.report.unknown == int(np.count_nonzero(train.values == 0))
    assert train.report.units == len(train.values)
    again = encoder.read(reader)
    assert np.array_equal(train.values, again.values)
    assert np.array_equal(train.targets, np.asarray(again.targets))
    if chars:
        expected = [u for s in split for u in (s or ["<unk>"])]
        assert spelt(train, encoder) == spelt(again, encoder) == expected


@given(st.lists(words, min_size=2, max_size=10).filter(lambda rows: sum(map(len, rows)) > 1))
@settings(max_examples=60, deadline=None)
def test_tagging(tokens: list[list[str]]) -> None:
    count = iter(range(1000))
    tags = [[f"T{next(count) % 2}" for _ in row] for row in tokens]
    encoder, train = Encoder.learn(tagged(tokens, tags), SequenceTokenizer("word"), chars=True)
    filled = [i for i, row in enumerate(tokens) if row]
    units = encoder.vocabulary.texts.to_strings()
    assert train.rows.tolist() == filled
    found = [[units[i] for i in row] for row in lists(train.values, train.offsets)]
    assert found == [[t.lower() for t in tokens[i]] for i in filled]
    assert spelt(train, encoder) == [t for row in tokens for t in row]
    assert train.targets is not None
    assert encoder.labels is not None
    assert encoder.labels.decode(train.targets).to_list() == [t for row in tags for t in row]
    assert train.report.skipped == len(tokens) - len(filled)
    again = encoder.read(tagged(tokens, tags))
    assert np.array_equal(train.values, again.values)
    assert np.array_equal(train.offsets, again.offsets)
    assert np.array_equal(train.targets, np.asarray(again.targets))
    assert spelt(again, encoder) == spelt(train, encoder)


def test_examples_do_not_depend_on_row_groups_or_memory(tmp_path: Path) -> None:
    texts = [f"word{i % 97} word{i % 13} {'x' * (i % 5)}" for i in range(3000)]
    table = pa.table({"text": texts, "label": [f"l{i % 3}" for i in range(3000)]})
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    pq.write_table(table, whole)
    pq.write_table(table, parts, row_group_size=70)
    found = [
        Encoder.learn(open_rows(path, "text"), SequenceTokenizer(), chars=True, memory=memory)
        for path in (whole, parts, [str(parts)])
        for memory in (1 << 30, 100)
    ]
    encoder, first = found[0]
    for other, examples in found[1:]:
        assert same(first, examples)
        assert other.vocabulary.texts.to_strings() == encoder.vocabulary.texts.to_strings()
        assert examples.values.flags.writeable
        assert type(examples.values) is np.ndarray
    assert same(encoder.read(open_rows(parts, "text"), memory=100), first)
    pieces = [encoder.encode(batch) for batch in open_rows(parts, "text").batches(500)]
    assert len(pieces) > 10
    assert np.array_equal(np.concatenate([p.values for p in pieces]), first.values)
    assert np.array_equal(np.concatenate([p.rows for p in pieces]), first.rows)


def test_empty_and_null_texts_are_one_unknown_unit() -> None:
    reader = labelled(["a b", "", None, " \n", "a"], ["x", "y", "x", "y", "x"])
    encoder, train = Encoder.learn(reader, SequenceTokenizer())
    assert lists(train.values, train.offsets) == [[1, 2], [0], [0], [0], [1]]
    assert (train.report.empty, train.report.nulls, train.report.unknown) == (3, 1, 3)
    assert train.report.messages() == ["3 of 5 texts are empty (1 of them null): read as unknown"]
    some = encoder.encode(next(labelled(["", "b zz"], ["x", "y"]).batches()))
    assert lists(some.values, some.offsets) == [[0], [2, 0]]
    _, raw = Encoder.learn(labelled(["é", ""], [True, False]), SequenceTokenizer("byte"))
    assert lists(raw.values, raw.offsets) == [[0xC3, 0xA9], [0]]
    assert raw.report.unknown == 0


def test_rows_are_cut_to_the_maximum_length() -> None:
    encoder, train = Encoder.learn(
        labelled(["a b c d", "b", "c c c"], [0, 1, 0]), SequenceTokenizer(), max_length=2
    )
    assert lists(train.values, train.offsets) == [[3, 1], [1], [2, 2]]
    assert train.report.cut == 2
    assert "d" not in encoder.vocabulary.texts.to_strings()
    assert np.diff(encoder.read(labelled(["a a a a a"], [0])).offsets).tolist() == [2]
    assert train.report.messages() == ["2 of 3 rows are cut to the maximum length"]


def test_tokens_are_cut_in_training_only() -> None:
    reader = tagged([["a", "b", "c"], [], ["d"]], [["X", "Y", "Z"], [], ["Y"]])
    encoder, train = Encoder.learn(reader, SequenceTokenizer("space"), max_length=2)
    assert encoder.labels is not None
    assert encoder.labels.values == ("X", "Y")
    assert train.targets is not None
    assert encoder.labels.decode(train.targets).to_list() == ["X", "Y", "Y"]
    assert (train.report.cut, train.report.skipped) == (1, 1)
    whole = encoder.read(reader)
    assert np.diff(whole.offsets).tolist() == [3, 1]
    assert whole.targets is not None
    assert whole.targets.tolist() == [0, 1, -1, 1]
    assert whole.report.unseen == {"Z": 1}
    assert whole.report.messages()[-1] == "1 of 4 tokens have a tag unseen in training: 'Z'"
    whole.check_known("data")


def test_unseen_labels_are_counted_and_distinguished() -> None:
    encoder, train = Encoder.learn(labelled(["a", "b", "c"], ["x", "y", "x"]), SequenceTokenizer())
    test = encoder.read(labelled(["a", "b", "c", "a"], ["y", "q", "x", "q"]))
    assert test.targets is not None
    assert test.targets.tolist() == [1, -1, 0, -1]
    test.check_known("data")
    assert test.report.unseen == {"q": 2}
    assert test.report.messages() == ["2 of 4 rows have a label unseen in training: 'q'"]
    train.check_known("data")
    with pytest.raises(DataError, match="every label is unseen"):
        encoder.read(labelled(["a"], ["q"])).check_known("data")
    with pytest.raises(DataError, match="such as 3; expected those of training"):
        encoder.read(labelled(["a"], [3]))
    plain = encoder.encode(next(open_rows(as_source(["a"]), "text", targets=False).batches()))
    assert plain.targets is None


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a single label, 'x', in 2 rows"):
        Encoder.learn(labelled(["a", "b"], ["x", "x"]), SequenceTokenizer())
    with pytest.raises(DataError, match="no units are left"):
        Encoder.learn(labelled(["", ""], ["x", "y"]), SequenceTokenizer())
    path = tmp_path / "bad.parquet"
    raw = pa.array([b"fine", b"b\xff"], pa.binary())
    pq.write_table(pa.table({"text": raw, "label": ["x", "y"]}), path)
    with pytest.raises(DataError, match=r"bad\.parquet: row 1 \(from 0\): .* not valid UTF-8"):
        Encoder.learn(open_rows(path, "text"), SequenceTokenizer())
    Encoder.learn(open_rows(path, "text"), SequenceTokenizer("byte"))
    bad = tagged([["a"], [], ["b", "\ud800"]], [["X"], [], ["Y", "Y"]])
    with pytest.raises(DataError, match=r"row 2 \(from 0\): .* not valid UTF-8"):
        Encoder.learn(bad, SequenceTokenizer())
    with pytest.raises(DataError, match=r"row 1 \(from 0\): .* not valid UTF-8"):
        learn_stream(open_rows(path, "text", targets=False), SequenceTokenizer())
    for nothing in (labelled([], []), tagged([[], []], [[], []])):
        with pytest.raises(DataError, match="no rows to learn from"):
            Encoder.learn(nothing, SequenceTokenizer())
    with pytest.raises(DataError, match="no text: every row is empty"):
        learn_stream(stream("", ""), SequenceTokenizer("byte"))
    encoder, _ = Encoder.learn(tagged([["a", "b"]], [["X", "Y"]]), SequenceTokenizer())
    with pytest.raises(DataError, match="no examples: every row is empty"):
        encoder.read(tagged([[], []], [[], []]))


# ---- streams


def stream(*texts: str) -> RowReader:
    return open_rows(as_source(list(texts)), "text", targets=False)


def test_words_end_their_rows_and_characters_do_not() -> None:
    vocabulary, values, report = learn_stream(stream("a b.", "", "b"), SequenceTokenizer("word"))
    assert vocabulary.decode(values) == "a b . <eos> <eos> b <eos>"
    assert (report.rows, report.units, report.unknown) == (3, 7, 0)
    more, again = read_stream(stream("B c"), vocabulary)
    assert vocabulary.decode(more) == "b <unk> <eos>"
    assert again.unknown == 1
    for unit in ("char", "byte"):
        vocabulary, values, _ = learn_stream(stream("aé\n", "", "b"), SequenceTokenizer(unit))
        assert vocabulary.end is None
        assert vocabulary.decode(values) == "aé\nb"
        with pytest.raises(DataError, match="no text"):
            read_stream(stream("", ""), vocabulary)


def test_streams_spill_to_a_file() -> None:
    texts = [f"row {i} has {i % 7} things" for i in range(500)]
    one = learn_stream(stream(*texts), SequenceTokenizer("space"), min_count=2)
    two = learn_stream(stream(*texts), SequenceTokenizer("space"), min_count=2, memory=64)
    assert np.array_equal(one[1], two[1])
    assert one[2] == two[2]


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_spill_round_trips(sizes: list[int], memory: int) -> None:
    parts = [np.arange(size, dtype=np.int32) + i for i, size in enumerate(sizes)]
    spill = SpillArray(np.int32, memory)
    for part in parts:
        spill.append(part)
    assert len(spill) == sum(sizes)
    whole = spill.finish()
    assert whole.tolist() == [x for part in parts for x in part.tolist()]
    whole[:] = 7
    assert len(spill) == 0
    assert len(spill.finish()) == 0


def test_batches_contain_their_characters() -> None:
    tokens = [["a", "dog", "a"], ["cat"], ["dog", "Dog"]]
    encoder, train = Encoder.learn(
        tagged(tokens, [["X", "Y", "X"], ["Y"], ["Y", "X"]]), SequenceTokenizer(), chars=True
    )
    batch = take(train, np.array([2, 0]))
    assert batch.characters is not None
    assert len(batch.characters.offsets) == 4
    ragged = Tokens(batch.characters.values, batch.characters.offsets)
    assert encoder.chars is not None
    letters = encoder.chars.vocabulary.texts.to_strings()
    written = ["".join(letters[i] for i in w) for w in lists(ragged.values, ragged.offsets)]
    found = [written[i] for i in batch.characters.inverse.tolist()]
    assert found == ["dog", "Dog", "a", "dog", "a"]
    assert batch.offsets.tolist() == [0, 2, 5]
    assert batch.targets is not None
    assert train.targets is not None
    assert batch.targets.tolist() == train.targets[batch.places].tolist()
