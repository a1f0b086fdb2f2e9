"""An index is the naive inverted index, for any memory, threads, slices and row groups."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, Corpus, DataError, Index, SettingsError
from fastseq.index import build as build_module
from fastseq.index import segment_writer
from fastseq.index.collection import Collection
from fastseq.index.slices import SliceStore
from fastseq.store.files import SpillFile
from fastseq.text.language import LUCENE
from fastseq.types import Texts
from tests.naive import inverted
from tests.naive import text as naive_text
from tests.sampling import some

ANALYZERS = {
    "words": Analyzer(tokenizer="word", stopwords="lucene", stemmer="english"),
    "unicode": Analyzer(tokenizer="unicode", stopwords="lucene", stemmer="english"),
    "ngrams": Analyzer(tokenizer="space", ngrams=(1, 2)),
    "trigrams": Analyzer(tokenizer="space", ngrams=(2, 3)),
    "char_ngrams": Analyzer(tokenizer="word", char_ngrams=(2, 4)),
    "char": Analyzer(tokenizer="char"),
}


def files_of(path: Path) -> dict[str, bytes]:
    """Every file of an index, by name."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def expected(analyzer: Analyzer, texts: Sequence[str | None]) -> inverted.Inverted:
    """The naive index: of the tokens with their positions, or of each level of n-grams."""
    low, high = analyzer.ngrams
    if analyzer.char_ngrams is not None:
        return inverted.invert([[analyzer.tokens(text or "") for text in texts]])
    if (low, high) == (1, 1):
        return inverted.invert_columns([[tokens_of(analyzer, text or "")] for text in texts])
    words = [naive_text.visible(text or "") for text in texts]
    return inverted.invert(
        [[naive_text.word_ngrams(tokens, n, n) for tokens in words] for n in range(low, high + 1)]
    )


def tokens_of(analyzer: Analyzer, text: str) -> list[str | None]:
    """The tokens of a text, None for a stop word."""
    stemmed = replace(analyzer, stopwords="none").tokens(text)
    plain = replace(analyzer, stopwords="none", stemmer="none").tokens(text)
    stopped = LUCENE if analyzer.stopwords == "lucene" else ()
    return [None if word in stopped else stem for word, stem in zip(plain, stemmed, strict=True)]


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Slices of some kilobytes, spilled a few at a time, merged in chunks of some postings.

    Gives a count of what happened.
    """
    seen = {"spills": 0, "spilled": 0, "chunks": 0}
    spill, chunk = SliceStore.spill, build_module.Merge._merge

    def counted_spill(self: SliceStore) -> None:
        seen["spilled"] += len(self.slices) - self._spilled
        seen["spills"] += 1
        spill(self)

    def counted_chunk(self: build_module.Merge, *args: Any) -> Any:
        seen["chunks"] += 1
        return chunk(self, *args)

    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 4 << 10)
    monkeypatch.setattr(segment_writer, "SMALLEST_CHUNK", 50)
    monkeypatch.setattr(SliceStore, "spill", counted_spill)
    monkeypatch.setattr(build_module.Merge, "_merge", counted_chunk)
    return seen


# ---- against the naive inverted index


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.lists(st.sampled_from(["a", "b", "猫", "dd", "e" * 40]), max_size=9).map(" ".join),
            st.sampled_from(["a " * 255, "b " * 254 + "a " * 256, "猫 " * 70_000]),
            st.sampled_from(["a " * 14 + "b " * 15, "a " * 16]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(sorted(ANALYZERS)),
)
def test_postings_match_the_naive_index(texts: list[str | None], name: str) -> None:
    analyzer = ANALYZERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        table = pa.table({"text": pa.array(texts, pa.string())})
        summary = Index.build(table, path, analyzer=analyzer, threads=2).summary
        (stored,) = inverted.read_segments(path)
        built = stored.inverted
        assert built == expected(analyzer, texts)
        assert (built.words is not None) == (analyzer.stemmer != "none")
        assert stored.documents == table
        assert summary["null_texts"] == texts.count(None)
        assert summary["terms"] == len(built.terms)
        (leaf,) = Collection.open(path).leaves
        segment = leaf.segment
        assert segment.lengths.tolist() == built.lengths
        assert segment.df.tolist() == [len(postings) for postings in built.postings]
        assert (segment.documents, segment.tokens) == (len(texts), sum(built.lengths))
        words = [*built.terms, "", "unknown", "a b c d"]
        ids = segment.lookup(Texts.from_strings(words)).tolist()
        assert ids == [*range(len(built.terms)), -1, -1, -1]


@pytest.mark.parametrize("name", sorted(ANALYZERS))
def test_many_small_slices_give_the_same_postings(
    tmp_path: Path, tiny_pieces: dict[str, int], name: str
) -> None:
    analyzer = ANALYZERS[name]
    texts = some_texts(400)
    path = tmp_path / "index"
    Index.build(pa.table({"text": texts}), path, analyzer=analyzer, memory=30_000, threads=2)
    assert tiny_pieces["spills"] >= 2
    assert tiny_pieces["spilled"] >= 10
    assert tiny_pieces["chunks"] >= 5
    assert inverted.read(path) == expected(analyzer, texts)


def test_slices_that_share_a_window_or_cross_its_border(
    tmp_path: Path, tiny_pieces: dict[str, int]
) -> None:
    """Runs belong to windows, not to slices; row numbers continue across the border."""
    count = 2 * inverted.WINDOW + 10
    texts = [f"w{n % 7} w{n % 11}" if n % 13 else "" for n in range(count)]
    texts[inverted.WINDOW - 1] = texts[inverted.WINDOW] = "edge edge"
    texts[-1] = "edge " * 300
    path = tmp_path / "index"
    table = pa.table({"text": texts})
    corpus = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(table.slice(0, 40_013), corpus[0])
    pq.write_table(table.slice(40_013), corpus[1], row_group_size=30_011)
    read = [(b.first_row, b.rows) for b in Corpus.open(corpus).batches(4 << 10)]
    assert any(row < inverted.WINDOW < row + rows for row, rows in read)  # a batch crosses
    Index.build(
        corpus,
        path,
        store=[],
        analyzer=Analyzer(tokenizer="space"),
        memory=400_000,
        threads=2,
    )
    assert tiny_pieces["spilled"] >= 100
    built = inverted.read(path)
    assert built == inverted.invert_columns([[text.split()] for text in texts])
    edge = built.postings[built.terms.index("edge")]
    assert edge == [(inverted.WINDOW - 1, 2), (inverted.WINDOW, 2), (count - 1, 300)]


# ---- the same bytes


def some_texts(count: int) -> list[str | None]:
    """Texts of very different lengths, some null or empty, one of frequencies beyond a byte."""
    chance = np.random.default_rng(11)
    ids = np.minimum(chance.pareto(0.8, 40 * count) * 4, 3000).astype(int).tolist()
    words = [f"{'cat' if n % 3 else 'running猫'}{n}" for n in range(3001)]
    texts: list[str | None] = []
    at = 0
    for length in chance.integers(0, 40, count).tolist():
        texts.append(" ".join(words[n] for n in ids[at : at + length]))
        at += length
    texts[3] = None
    texts[count // 2] = "often " * 700 + "twice twice"
    texts[count - 1] = "last"
    return texts


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """One collection in several forms: one row group, many, several files, an Arrow table."""
    folder = tmp_path_factory.mktemp("layouts")
    texts = some_texts(6000)
    table = pa.table(
        {
            "id": [f"document-{n}" for n in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            "year": [1900 + n % 120 for n in range(len(texts))],
            "place": [None if n % 5 else f"place {n % 9}" for n in range(len(texts))],
        }
    )
    pq.write_table(table, folder / "one.parquet", row_group_size=len(texts))
    pq.write_table(table, folder / "many.parquet", row_group_size=97, use_dictionary=False)
    for number, (start, stop) in enumerate(itertools.pairwise([0, 1, 2500, 2500, 6000])):
        part = table.slice(start, stop - start)
        pq.write_table(part, folder / f"part{number}.parquet", row_group_size=1000)
    wide = table.set_column(1, "text", table.column("text").cast(pa.large_string()))
    return [
        folder / "one.parquet",
        folder / "many.parquet",
        str(folder / "part*.parquet"),
        table,
        wide.to_reader(max_chunksize=333).read_all(),
    ]


def test_files_do_not_depend_on_memory_threads_or_row_groups(
    tmp_path: Path, layouts: list[Any]
) -> None:
    first: dict[str, bytes] = {}
    sources = itertools.cycle(layouts)
    for memory, threads in itertools.product(["16MB", "64MB", "1GB"], [1, 2, 3]):
        for source in (next(sources), next(sources)):
            path = tmp_path / "index"
            Index.build(source, path, analyzer=ANALYZERS["words"], memory=memory, threads=threads)
            first = first or files_of(path)
            assert files_of(path) == first, (memory, threads, source)
            _remove(path)
    assert first.keys() == {"data-000001/segment-000001", "lock", "manifest.json"}


@pytest.mark.parametrize("analyzer", [Analyzer(), ANALYZERS["unicode"]], ids=["words", "stems"])
def test_vocabulary_and_ids_leave_less_memory_for_slices(
    tmp_path: Path, tiny_pieces: dict[str, int], analyzer: Analyzer
) -> None:
    """As many tokens, of 20,000 words or of ten; in documents of one token with and without ids."""
    spills = []
    for words, length, ids in ((20_000, 10, False), (10, 10, False), (10, 1, False), (10, 1, True)):
        rows = range(0, 20_000, length)
        texts = [" ".join(f"w{i % words:05}" for i in range(n, n + length)) for n in rows]
        table = pa.table({"text": texts, **({"id": list(rows)} if ids else {})})
        tiny_pieces.update(spills=0, spilled=0, chunks=0)
        Index.build(
            table, tmp_path / f"{len(spills)}", memory=200_000, threads=1, analyzer=analyzer,
            positions=False,
        )  # fmt: skip
        spills.append(tiny_pieces["spills"])
    assert spills[0] > spills[1], spills
    assert spills[3] > spills[2], spills


@pytest.mark.parametrize("fails", [False, True])
def test_a_build_short_of_memory_returns_it_and_closes_its_files(
    tmp_path: Path, tiny_pieces: dict[str, int], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    files: list[SpillFile] = []
    pools: dict[str, set[str]] = {"index": set(), "merge": set()}
    released = 0
    create = SpillFile.__init__

    def created(self: SpillFile, path: Path) -> None:
        create(self, path)
        files.append(self)

    def release() -> None:
        nonlocal released
        released += 1

    def progress(stage: str, done: int, total: int | None) -> None:
        pools.setdefault(stage, set()).add(pa.default_memory_pool().backend_name)
        if fails and stage == "merge":
            raise KeyError

    monkeypatch.setattr(SpillFile, "__init__", created)
    monkeypatch.setattr(build_module, "release_memory", release)
    before = pa.default_memory_pool().backend_name
    table = pa.table({"title": some_texts(600), "text": some_texts(600)})
    with pytest.raises(KeyError) if fails else nullcontext():
        Index.build(
            table, tmp_path / "index", memory=20_000, threads=2, text_columns=["title", "text"],
            fields=["title"], progress=progress,
        )  # fmt: skip
    assert len(files) == 2
    assert all(file._file.closed for file in files)
    assert pools["index"] == {"system"}
    assert pools["merge"] == {before}
    # after each spill and before the merge; after a chunk of the text and of its field, at the end
    assert released >= tiny_pieces["spills"] // 2 + (1 if fails else 4)


@pytest.mark.parametrize("name", sorted(ANALYZERS))
def test_small_slices_and_chunks_change_no_byte(
    tmp_path: Path, layouts: list[Any], tiny_pieces: dict[str, int], name: str
) -> None:
    analyzer = ANALYZERS[name]
    table = layouts[3].slice(2800, 450)
    pq.write_table(table, tmp_path / "many.parquet", row_group_size=31)
    whole = tmp_path / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "_LARGEST_SLICE", 8 << 20)
        Index.build(table, whole, analyzer=analyzer, memory="1GB", threads=1)
    assert tiny_pieces.pop("spills") == tiny_pieces.pop("spilled") == 0
    cases = [(10_000, 1), (20_000, 2), (40_000, 3), (1 << 30, 3)]
    for memory, threads in some(cases, 2, name):
        tiny_pieces.update(spills=0, spilled=0, chunks=0)
        path = tmp_path / "index"
        Index.build(
            tmp_path / "many.parquet", path, analyzer=analyzer, memory=memory, threads=threads
        )
        assert files_of(path) == files_of(whole), (memory, threads)
        assert (tiny_pieces["spilled"] > 0) == (memory < 1 << 30)
        assert tiny_pieces["chunks"] > 4
        _remove(path)


def test_rebuilding_writes_the_same_files_to_the_next_folder(tmp_path: Path) -> None:
    table = pa.table({"id": [3, 1, 2], "text": ["a b", None, "b"]})
    Index.build(table, tmp_path / "index")
    first = files_of(tmp_path / "index")
    Index.build(table, tmp_path / "index", overwrite=True)
    second = files_of(tmp_path / "index")
    assert second.keys() == {"data-000002/segment-000002", "lock", "manifest.json"}
    assert second["data-000002/segment-000002"] == first["data-000001/segment-000001"]


# ---- unusual collections


@pytest.mark.parametrize("name", sorted(ANALYZERS))
@pytest.mark.parametrize("texts", [[None], [""], ["", None, " "], ["the"], ["猫"]])
def test_nearly_empty_texts(tmp_path: Path, texts: list[str | None], name: str) -> None:
    index = Index.build(
        pa.table({"text": pa.array(texts, pa.string())}),
        tmp_path / "index",
        analyzer=ANALYZERS[name],
    )
    assert inverted.read(tmp_path / "index") == expected(ANALYZERS[name], texts)
    assert len(index) == len(texts)
    assert index.summary["null_texts"] == texts.count(None)
    assert index.search("the 猫").counts[0] <= 1


def test_documents_longer_than_any_slice(tmp_path: Path, tiny_pieces: dict[str, int]) -> None:
    long = " ".join(f"w{n}" for n in range(20_000))  # 128 KB in slices of 1 KB
    texts = ["w1", long, "", long + " w1", "w19999"]
    Index.build(pa.table({"text": texts}), tmp_path / "index", memory=1 << 10, threads=3)
    columns = [[text.split()] for text in texts]
    assert inverted.read(tmp_path / "index") == inverted.invert_columns(columns)
    assert tiny_pieces["spilled"] >= 4


def test_stored_columns_belong_to_their_documents(tmp_path: Path, layouts: list[Any]) -> None:
    index = Index.build(layouts[1], tmp_path / "index", store=["year"], memory="16MB")
    hits = index.search("often", k=3)
    assert hits.rows[0, 0] == 3000
    assert hits.fields(0)[0] == {"id": "document-3000", "year": 1900 + 3000 % 120}
    assert index.search("last", k=1).ids == [["document-5999"]]


def test_progress_is_reported_in_order(tmp_path: Path, layouts: list[Any]) -> None:
    told: list[tuple[str, int, int | None]] = []
    Index.build(
        layouts[0],
        tmp_path / "index",
        memory="16MB",
        threads=2,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    stages = [stage for stage, _, _ in told]
    assert list(dict.fromkeys(stages)) == ["index", "merge", "commit"]
    for stage in ("index", "merge"):
        counts = [done for name, done, _ in told if name == stage]
        assert counts == sorted(counts)
        assert counts[-1] == next(total for name, _, total in told if name == stage)


def _remove(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def test_texts_are_never_read_as_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for texts in (["cat sat", "index"], ("index", "cat sat"), ["cat sat", "a\0b"]):
        index = Index.build(texts, "index", overwrite=True)
        assert index.search("cat").ids == [[texts.index("cat sat")]]
    with pytest.raises(DataError, match=r"row 1 \(from 0\): its text is not valid UTF-8"):
        Index.build(["the cat", "x \ud800"], "index", overwrite=True)
    pq.write_table(pa.table({"text": ["cat"]}), "index/a.parquet")
    with pytest.raises(SettingsError, match="holds the input"):
        Index.build(["index/a.parquet"], "index", overwrite=True)
