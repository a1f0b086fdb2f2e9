"""Words as they are written: the table of each segment, and the words of live documents after
changes and merges, by definition."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, FormatError, Index
from fastseq.index import build as build_module
from fastseq.index import changes, merging
from fastseq.index import words as words_module
from fastseq.index.segment import Field
from fastseq.index.words import live_matches, live_words
from fastseq.store.folder import read_manifest
from fastseq.text.lexicon import Lexicon
from tests.index.living import Documents
from tests.naive import inverted
from tests.search.test_search_damage import rewrite

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FORMS = ["run", "runs", "running", "runner", "cat", "cats", "cat's", "the", "Quietly", "quiet",
         "猫", "tea", "teas", "connection", "connections", "connected", "naïve", "x"]  # fmt: skip


def spaces(text: str) -> list[str]:
    return text.split()


ANALYZERS = {
    "stems": Analyzer(tokenizer="unicode", stopwords="lucene", stemmer="english"),
    "english": Analyzer.for_language("english"),
    "german": Analyzer.for_language("german"),
    "word": Analyzer(tokenizer="word", stemmer="english", min_length=3, max_length=9),
    "space": Analyzer(tokenizer="space", stemmer="porter"),
    "french": Analyzer(normalization="french"),
    "pairs": Analyzer(tokenizer="word", stemmer="english", ngrams=(1, 2)),
    "function": Analyzer(tokenizer=spaces, stemmer="english"),
    "segmented": Analyzer(cjk="words", stopwords=("running",), stemmer="english"),
}
UNCHANGED = {
    "plain": Analyzer(),
    "characters": Analyzer(char_ngrams=(2, 3), stemmer="english"),
    "pairs-alone": Analyzer(stemmer="english", ngrams=(2, 2)),
    "turkish": Analyzer(normalization="azerbaijani"),
}


def pairs_of(analyzer: Analyzer, text: str | None) -> list[tuple[str, str]]:
    """(word as it is written, its term) of every token of a text that has one."""
    one = replace(analyzer, ngrams=(1, 1))
    written = replace(one, stopwords="none", stemmer="none", normalization="none", min_length=None,
                      max_length=None)  # fmt: skip
    found = []
    for word in written.tokens(text or ""):
        terms = replace(one, cjk="none" if word.isascii() else one.cjk).tokens(word)
        if terms:
            (term,) = terms
            found.append((word, term))
    return found


def by_definition(analyzer: Analyzer, texts: list[str | None], terms: list[str]) -> Any:
    pairs = [pair for text in texts for pair in pairs_of(analyzer, text)]
    words = inverted.words_of(pairs, [term for term in terms if " " not in term])
    return [own for own in words if own]


def some_texts(count: int, seed: int = 5) -> list[str | None]:
    chance = np.random.default_rng(seed)
    texts: list[str | None] = []
    for _ in range(count):
        words = [FORMS[i] for i in chance.integers(0, len(FORMS), chance.integers(0, 12))]
        words += [f"w{n}ings" for n in chance.integers(0, 400, 5)]
        words += [f"w{n}ing" for n in chance.integers(0, 400, 5)]
        texts.append(" ".join(words))
    return [None, "", *texts]


def tokenizer_of(analyzer: Analyzer) -> Any:
    return analyzer.tokenizer if callable(analyzer.tokenizer) else None


# ---- the table of a new index


@pytest.mark.parametrize("name", ANALYZERS)
def test_the_table_has_every_word_with_its_term_and_its_occurrences(
    tmp_path: Path, name: str
) -> None:
    if name == "segmented":
        pytest.importorskip("rjieba")
    analyzer = ANALYZERS[name]
    texts = some_texts(50)
    index = Index.build(pa.table({"text": texts}), tmp_path / "index", analyzer=analyzer, threads=2)
    (segment,) = inverted.read_segments(tmp_path / "index")
    built = segment.inverted
    assert built.words is not None
    words = [own for own, term in zip(built.words, built.terms, strict=True) if " " not in term]
    assert words == by_definition(analyzer, texts, built.terms)
    assert any(len(own) > 1 for own in built.words) or name == "french"
    (leaf,) = index._collection.leaves
    assert leaf.segment.has_words
    found, terms = leaf.segment.words()
    expected = [(word, term) for term, own in enumerate(built.words) for word, _ in own]
    assert list(zip(found.to_strings(), terms.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", UNCHANGED)
def test_without_stems_the_words_are_the_terms(tmp_path: Path, name: str) -> None:
    analyzer = UNCHANGED[name]
    index = Index.build(some_texts(9)[2:], tmp_path / "index", analyzer=analyzer)
    (segment,) = inverted.read_segments(tmp_path / "index")
    assert segment.inverted.words is None
    (leaf,) = index._collection.leaves
    assert leaf.segment.has_words
    assert leaf.segment.word_table is None
    words, terms = leaf.segment.words()
    assert words.to_strings() == segment.inverted.terms
    assert terms.tolist() == [*range(len(segment.inverted.terms))]
    every = np.arange(len(words), dtype=np.int32)
    assert live_words(index._collection, leaf, every).all()


@pytest.mark.parametrize("at_a_time", [1 << 17, 50])
@pytest.mark.parametrize("name", ["stems", "pairs", "word"])
def test_words_are_complete_where_their_cache_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at_a_time: int
) -> None:
    analyzer, texts = ANALYZERS[name], some_texts(300)
    table = pa.table({"text": texts, "title": texts[::-1]})
    build = {"text_columns": ["text", "title"], "fields": ["title"], "analyzer": analyzer}
    Index.build(table, tmp_path / "whole", memory="1GB", threads=1, **build)
    cleared = 0
    clear = Lexicon._clear_raw

    def counted(self: Lexicon) -> None:
        nonlocal cleared
        cleared += 1
        clear(self)

    monkeypatch.setattr(Lexicon, "_clear_raw", counted)
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 2 << 10)
    monkeypatch.setattr("fastseq.index.words._AT_A_TIME", at_a_time)
    Index.build(table, tmp_path / "small", memory=20_000, threads=3, **build)
    assert cleared > 10
    files = [next(tmp_path.glob(f"{name}/data-*/segment*")) for name in ("whole", "small")]
    assert files[0].read_bytes() == files[1].read_bytes()


# ---- older formats


def test_words_of_older_formats_are_their_terms(tmp_path: Path) -> None:
    for path, known in (
        (GOLDEN / "v1" / "words", True), (GOLDEN / "v2" / "changed", False),
        (GOLDEN / "v2" / "words", True), (GOLDEN / "v3" / "changed", True),
    ):  # fmt: skip
        for leaf in Index.open(path)._collection.leaves:
            for field in (leaf.segment, *leaf.segment.fields.values()):
                assert field.has_words == known
                words, terms = field.words()
                if not known or path.parent.name < "v3":
                    assert words.to_strings() == field.vocabulary.to_strings()
                    assert terms.tolist() == [*range(field.terms)]
                else:
                    assert len(words) >= field.terms


def test_segments_of_format_2_have_no_words_also_after_merging(tmp_path: Path) -> None:
    path = tmp_path / "index"
    shutil.copytree(GOLDEN / "v2" / "changed", path)
    index = Index.open(path)
    index.add([{"id": "new", "text": "drinking teas", "title": "teas"}])
    assert read_manifest(path).format_version == 3
    *old, new = index._collection.leaves
    assert [leaf.segment.has_words for leaf in old] == [False] * len(old)
    assert new.segment.has_words
    assert new.segment.words()[0].to_strings() == ["drinking", "teas"]
    index.compact()
    (leaf,) = index._collection.leaves
    assert not leaf.segment.has_words
    assert not leaf.segment.fields["title"].has_words
    assert leaf.segment.words()[0].to_strings() == leaf.segment.vocabulary.to_strings()
    inverted.read_segments(path)
    assert index.search("drinks").counts[0] > 0


# ---- changes


def words_by_definition(analyzer: Analyzer, texts: list[str | None]) -> set[tuple[str, str]]:
    return {pair for text in texts for pair in pairs_of(analyzer, text)}


def largest(terms: Any, factors: Any, which: Any) -> dict[int, float]:
    """The largest factor of some words of each term."""
    found: dict[int, float] = {}
    for term, factor in zip(terms[which].tolist(), factors[which].tolist(), strict=True):
        found[term] = max(found.get(term, 0), factor)
    return found


def words_of(index: Index, field: str = "") -> set[tuple[str, str]]:
    """The words of live documents, with their terms."""
    found = set()
    for leaf in index._collection.leaves:
        segment = leaf.segment.fields[field] if field else leaf.segment
        words, terms = segment.words()
        every = np.arange(len(words), dtype=np.int32)
        live = live_words(index._collection, leaf, every, field)
        # of some words the same as of all
        some = every[::-3]
        assert (live_words(index._collection, leaf, some, field) == live[::-3]).all()
        for which in (every, some, every[::2], every[1::2]):
            for own in (1 / (2 + which % 3), None):
                matches = live_matches(index._collection, leaf, which, own, field)
                of_each = np.ones(len(which)) if own is None else own
                assert largest(terms[which], of_each, matches) == largest(
                    terms[which], of_each, live[which]
                )
        names = segment.vocabulary.to_strings()
        for word, term, alive in zip(words.to_strings(), terms.tolist(), live, strict=True):
            if alive:
                found.add((word, names[term]))
    return found


def text_of(row: dict[str, Any], columns: list[str]) -> str:
    return " ".join(row[column] or "" for column in columns)


texts = st.none() | st.lists(st.sampled_from(FORMS), max_size=6).map(" ".join)
rows_of = st.lists(
    st.fixed_dictionaries({"id": st.integers(0, 12), "text": texts, "title": texts}),
    min_size=1, max_size=6, unique_by=lambda row: row["id"],
)  # fmt: skip
changes_of = st.lists(
    st.one_of(
        st.tuples(st.just("add"), rows_of),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 12), min_size=1, max_size=5)),
        st.tuples(st.just("compact"), st.none()),
    ),
    min_size=1,
    max_size=7,
)
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("title", pa.string())])


@settings(deadline=None, max_examples=150)
@given(rows_of, changes_of, st.sampled_from(["english", "word", "function"]), st.integers(2, 4))
def test_the_words_after_any_changes_are_those_of_the_live_documents(
    rows: list[Any], steps: list[Any], name: str, factor: int
) -> None:
    analyzer = ANALYZERS[name]
    columns = ["text", "title"]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        patch.setattr(merging, "FACTOR", factor)
        patch.setattr(merging, "SMALLEST", 2)
        patch.setattr(changes, "_FEW_ROWS", 3)
        index = Index.build(
            pa.Table.from_pylist(rows, SCHEMA), Path(folder) / "index", text_columns=columns,
            fields=["title"], analyzer=analyzer, threads=1,
        )  # fmt: skip
        documents = Documents(rows)
        for step, argument in steps:
            if step == "add":
                index.add(pa.Table.from_pylist(argument, SCHEMA), threads=1)
                documents.add(argument)
            elif step == "delete":
                index.delete(argument)
                documents.delete(argument)
            else:
                index.compact(threads=1)
            for field, own in (("", columns), ("title", ["title"])):
                live = [text_of(row, own) for row in documents.rows]
                assert words_of(index, field) == words_by_definition(analyzer, live), field
        index.compact(threads=1)
        if len(index):
            (segment,) = inverted.read_segments(Path(folder) / "index")
            built = segment.inverted
            live = [text_of(row, columns) for row in documents.rows]
            assert built.words is not None
            ours = [Counter(dict(own)) for own in built.words]
            expected = by_definition(analyzer, live, built.terms)
            assert ours == [Counter(dict(own)) for own in expected]


ROWS = [
    {"id": 1, "text": "running cats", "more": "teas"},
    {"id": 2, "text": "runs cats", "more": "connected"},
    {"id": 3, "text": "run", "more": "tea"},
    {"id": 4, "text": "run cat", "more": "tea connect"},
    {"id": 5, "text": "cat", "more": ""},
]
STEMS = ANALYZERS["stems"]


@pytest.mark.parametrize(
    ("store", "known"), [(None, True), ([], False), (["text"], False), (["text", "more"], True)]
)
def test_where_text_is_not_stored_a_word_is_live_while_its_term_is(
    tmp_path: Path, store: list[str] | None, known: bool
) -> None:
    index = Index.build(
        ROWS, tmp_path / "index", text_columns=["text", "more"], fields=["text"], store=store,
        analyzer=STEMS,
    )  # fmt: skip
    index.delete([1])
    written = {word for word, _ in words_of(index)}
    assert written == {"runs", "run", "cats", "cat", "connected", "connect", "tea"} | (
        set() if known else {"running", "teas"}
    )
    alone = {word for word, _ in words_of(index, "text")}
    stored = store is None or "text" in store
    assert alone == {"runs", "run", "cats", "cat"} | (set() if stored else {"running"})
    index.compact()
    assert {word for word, _ in words_of(index)} == written
    assert {word for word, _ in words_of(index, "text")} == alone
    index.delete([2, 4, 5])
    index.compact()
    forms = {"run"} if known else {"run", "runs", "running"}
    assert {word for word, _ in words_of(index)} == {"tea", *forms} | (set() if known else {"teas"})


def test_text_in_structs_and_lists_is_analysed_again(tmp_path: Path) -> None:
    rows = [
        {"id": row["id"], "doc": {"text": [row["text"], None, "quietly"]}, "more": row["more"]}
        for row in ROWS
    ]
    index = Index.build(rows, tmp_path / "index", text_columns=["doc.text", "more"], analyzer=STEMS)
    index.delete([1, 4])
    written = {"runs", "cats", "quietly", "connected", "run", "tea", "cat"}
    for _ in range(2):
        assert {word for word, _ in words_of(index)} == written
        index.compact()


def test_without_its_function_the_words_of_an_index_stay(tmp_path: Path) -> None:
    analyzer = ANALYZERS["function"]
    for name, tokenizer in (("with", spaces), ("without", None)):
        path = tmp_path / name
        Index.build(ROWS, path, text_columns="text", analyzer=analyzer)
        index = Index.open(path, tokenizer=tokenizer)
        index.delete([1])
        left = {"running"} if tokenizer is None else set()
        assert {word for word, _ in words_of(index)} == {"runs", "run", "cats", "cat"} | left
        index.compact()
        assert {word for word, _ in words_of(index)} == {"runs", "run", "cats", "cat"} | left


def test_only_deleted_documents_that_may_matter_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [{"id": n, "text": "cats " + "running " * (n % 2)} for n in range(40)]
    rows.append({"id": 40, "text": "quietly quiet"})
    index = Index.build([*rows, {"id": 41, "text": "quiet"}], tmp_path / "index", analyzer=STEMS)
    index.delete([3, 40])
    (leaf,) = index._collection.leaves
    words = leaf.segment.words()[0].to_strings()
    read: list[list[int]] = []
    stored = leaf.segment.stored
    assert stored is not None
    take = stored.take

    def taken(rows: Any, columns: Any = None, **options: Any) -> Any:
        read.append(rows.tolist())
        return take(rows, columns, **options)

    monkeypatch.setattr(stored, "take", taken)
    for word, live, rows_read in (
        ("cats", True, []), ("running", True, []), ("quiet", True, [[40]]),
        ("quietly", False, [[40]]),
    ):  # fmt: skip
        ids = np.array([words.index(word)] * 2, np.int32)
        assert live_words(index._collection, leaf, ids).tolist() == [live, live]
        assert read == rows_read
        read.clear()


def test_text_is_read_where_a_term_of_a_pattern_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of words of one term, those that only deleted documents have matter where no other one
    matches; the words of many deleted documents are counted once."""
    rows: list[Any] = [{"id": n, "text": "cat cats"} for n in range(500)]
    rows += [{"id": 500 + n, "text": "running catting connected"} for n in range(80)]
    index = Index.build([*rows, {"id": 600, "text": "run"}], tmp_path / "index", analyzer=STEMS)
    index.delete([*range(500, 580)])
    (leaf,) = index._collection.leaves
    words = leaf.segment.words()[0].to_strings()
    counted: list[int] = []
    count = words_module.StoredWords.count

    def counting(self: Any, segment: Any, field: str, rows: Any) -> Any:
        counted.append(len(rows))
        return count(self, segment, field, rows)

    monkeypatch.setattr(words_module.StoredWords, "count", counting)
    for some, factors, found, read in (
        (["cat", "catting"], None, [True, True], 0),  # cat is there in any case
        (["cat", "catting"], [0.5, 0.5], [True, True], 0),
        (["connected"], None, [False], 0),  # no document has the term
        (["run", "running"], None, [True, True], 0),  # there is no other word of this term
        (["running"], None, [False], 1),
        (["run", "running"], [0.5, 0.75], [True, False], 0),  # counted before
        (["cat", "catting"], [0.5, 0.75], [True, False], 0),
    ):  # fmt: skip
        counted.clear()
        ids = np.array([words.index(word) for word in some], np.int32)
        own = None if factors is None else np.array(factors)
        assert live_matches(index._collection, leaf, ids, own).tolist() == found
        assert counted == [80] * read


# ---- damage


@pytest.mark.parametrize(
    ("array", "change", "said"),
    [
        ("term_words", lambda a: a[:-1], "term_words: .* entries|its total is not"),
        ("term_words", lambda a: a + 1, "term_words: its total is not"),
        ("term_words", lambda a: a[:-1] if not a[-1] else a[1:], "entries, expected|its total"),
        ("word_lengths", lambda a: a + 1, "word_lengths: its total is not"),
        ("word_lengths", lambda a: a.astype(np.int64), "word_lengths: not counts"),
        ("word_bytes", lambda a: a[1:], "word_lengths: its total is not"),
        ("word_counts", lambda a: a[:0], "word_counts: not .* counts"),
        ("word_counts", lambda a: np.append(a, a[:1]), "word_counts: not .* counts"),
        ("word_counts", lambda a: np.append(a, np.uint8(200)), "word_counts: not .* counts"),
    ],
)
def test_damaged_tables_are_an_error(
    tmp_path: Path, array: str, change: Callable[[Any], Any], said: str
) -> None:
    path = tmp_path / "index"
    Index.build(some_texts(20)[2:], path, analyzer=STEMS)
    (file,) = read_manifest(path).files
    rewrite(path, {array: lambda arrays: change(arrays[array])})
    index = Index.open(path)
    (leaf,) = index._collection.leaves
    assert index.search("running").counts[0] > 0  # which needs no words
    field: Field = leaf.segment
    with pytest.raises(FormatError, match=said) as raised:
        field.words()
    assert str(path / file) in str(raised.value)
