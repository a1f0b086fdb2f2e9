"""Export to and import from the Common Index File Format, against a reader and writer by its
description."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, Analyzer, BoW, DataError, FormatError, Index, SettingsError
from fastseq.index import ciff as index_ciff
from fastseq.store import ciff as store_ciff
from fastseq.store.folder import verify
from tests.index.living import MODELS, Documents, built, hits_of, some_rows, table_of
from tests.naive import ciff, inverted
from tests.search.test_search_damage import flipped, places_of

ENGLISH = Analyzer.for_language("english")
SMALL = ciff.File(
    {1: 1, 2: 3, 3: 4, 4: 3, 5: 4, 6: 600, 7: 150.0, 8: "of another program"},
    [
        ("tea", 3, 302, [(0, 1), (1, 300), (3, 1)]),
        ("猫", 1, 20, [(3, 20)]),
        ("a b", 1, 2, [(2, 2)]),
    ],
    [(0, "x", 5), (1, "y", 590), (2, "", 0), (3, "ü", 5)],
)


def changed(path: Path) -> tuple[Index, Documents]:
    """An index of several segments and deletions, and its documents."""
    documents = Documents(some_rows(range(30)))
    index = built(documents.rows, path)
    rows = some_rows([3, 100, 101], 1)
    index.add(table_of(rows), threads=1)
    documents.add(rows)
    index.delete([5, 101])
    documents.delete([5, 101])
    return index, documents


def file_of(documents: Documents) -> ciff.File:
    """The file by definition."""
    found: dict[str, dict[int, int]] = {}
    records = []
    for number, row in enumerate(documents.rows):
        words = row["text"].split()
        records.append((number, str(row["id"]), len(words)))
        for word in words:
            own = found.setdefault(word, {})
            own[number] = own.get(number, 0) + 1
    lists = [
        (term, len(own), sum(own.values()), sorted(own.items()))
        for term, own in sorted(found.items(), key=lambda pair: pair[0].encode())
    ]
    tokens = sum(length for _, _, length in records)
    header = {1: 1, 2: len(lists), 3: len(records), 4: len(lists), 5: len(records), 6: tokens}
    return ciff.File(header, lists, records)


def test_an_export_has_the_live_documents_and_the_terms_by_their_bytes(tmp_path: Path) -> None:
    index, documents = changed(tmp_path / "index")
    assert len(index._collection.leaves) == 2
    index.to_ciff(tmp_path / "index.ciff")
    raw = (tmp_path / "index.ciff").read_bytes()
    found, expected = ciff.read(raw), file_of(documents)
    assert (found.lists, found.documents) == (expected.lists, expected.documents)
    average = np.frombuffer(found.header.pop(7), "<f8")[0]
    assert average == expected.header[6] / len(documents)
    description = found.header.pop(8).decode()
    assert "fastseq" in description
    assert "tokenizer=space" in description
    assert found.header == expected.header
    # nothing is written that Protocol Buffers leave out
    again = ciff.File({**found.header, 7: average, 8: description}, found.lists, found.documents)
    assert ciff.write(again) == raw


@pytest.mark.parametrize("postings", [1 << 20, 7, 1])
def test_an_export_in_parts_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postings: int
) -> None:
    index, _ = changed(tmp_path / "index")
    index.to_ciff(tmp_path / "whole.ciff")
    monkeypatch.setattr(index_ciff, "_POSTINGS", postings)
    monkeypatch.setattr(index_ciff, "_RECORDS", 4)
    index.to_ciff(tmp_path / "parts.ciff")
    assert (tmp_path / "parts.ciff").read_bytes() == (tmp_path / "whole.ciff").read_bytes()


@pytest.mark.parametrize("suffix", [".ciff", ".ciff.gz", ".ciff.zst"])
def test_all_models_score_alike_after_export_and_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    index, documents = changed(tmp_path / "index")
    file = tmp_path / f"index{suffix}"
    index.to_ciff(file)
    monkeypatch.setattr(store_ciff, "_CHUNK", 50)
    monkeypatch.setattr(store_ciff, "_MOST_MESSAGES", 3)
    back = Index.from_ciff(file, tmp_path / "back", analyzer=index.analyzer)
    assert len(MODELS) >= 11
    ours, theirs = hits_of(index), hits_of(back)
    for key, (ids, bits) in ours.items():
        assert theirs[key] == ([[str(id) for id in some] for some in ids], bits), key
    assert verify(tmp_path / "back") == []
    numbers = ("documents", "tokens")
    assert {n: back.summary[n] for n in numbers} == {n: index.summary[n] for n in numbers}
    stored = [back.get(str(id)) for id in documents.ids]
    assert stored == [{"id": str(id)} for id in documents.ids]
    # and once more the same bytes, but for the description
    back.to_ciff(tmp_path / "again.ciff")
    first, second = (
        ciff.read(path.read_bytes())
        for path in (tmp_path / "again.ciff", plain(file, tmp_path / "plain"))
    )
    assert (first.lists, first.documents) == (second.lists, second.documents)


def plain(file: Path, target: Path) -> Path:
    """A file that is not compressed."""
    from fastseq.store.files import opened

    with opened(file) as unpacked:
        target.write_bytes(unpacked.read())
    return target


def test_stems_positions_fields_and_ids_by_row(tmp_path: Path) -> None:
    rows = [{"title": "Running cats", "text": "the cats ran"}, {"title": None, "text": "dogs run"}]
    index = Index.build(
        rows, tmp_path / "index", text_columns=["title", "text"], fields=["title"],
        analyzer=ENGLISH,
    )  # fmt: skip
    index.to_ciff(tmp_path / "a.ciff")
    found = ciff.read((tmp_path / "a.ciff").read_bytes())
    assert found.documents == [(0, "0", 4), (1, "1", 2)]
    assert found.lists == [
        ("cat", 1, 2, [(0, 2)]), ("dog", 1, 1, [(1, 1)]), ("ran", 1, 1, [(0, 1)]),
        ("run", 2, 2, [(0, 1), (1, 1)]),
    ]  # fmt: skip
    back = Index.from_ciff(tmp_path / "a.ciff", tmp_path / "back", analyzer=ENGLISH)
    assert back.search("the runs of a cat").ids == [["0", "1"]]
    (leaf,) = back._collection.leaves
    assert not leaf.segment.has_words  # which the file does not have
    assert leaf.segment.positions is None
    plain_queries = Index.from_ciff(tmp_path / "a.ciff", tmp_path / "plain")
    assert plain_queries.search("runs").ids == [[]]
    assert plain_queries.search("RUN").ids == [[]]
    assert sorted(plain_queries.search("run").ids[0]) == ["0", "1"]


def test_an_import_can_be_changed(tmp_path: Path) -> None:
    (tmp_path / "a.ciff").write_bytes(ciff.write(SMALL))
    index = Index.from_ciff(tmp_path / "a.ciff", tmp_path / "index")
    assert index.search("tea").ids == [["y", "x", "ü"]]
    assert index.add([{"id": "x", "text": "Tea tea coffee"}])["replaced"] == 1
    index.delete("ü")
    assert index.search("tea coffee").ids == [["x", "y"]]
    index.compact()
    assert index.search("tea coffee").ids == [["x", "y"]]
    assert len(index) == 3
    index.to_ciff(tmp_path / "b.ciff")
    assert [id for _, id, _ in ciff.read((tmp_path / "b.ciff").read_bytes()).documents] == [
        "y", "", "x",
    ]  # fmt: skip


@pytest.mark.parametrize("everything", [False, True])
def test_fields_of_any_order_and_unknown_ones_are_read(tmp_path: Path, everything: bool) -> None:
    (tmp_path / "a.ciff").write_bytes(ciff.write(SMALL, everything))
    index = Index.from_ciff(tmp_path / "a.ciff", tmp_path / "index")
    (segment,) = inverted.read_segments(tmp_path / "index")
    built = segment.inverted
    assert built.terms == [term for term, *_ in SMALL.lists]
    assert built.postings == [postings for *_, postings in SMALL.lists]
    assert built.lengths == [length for *_, length in SMALL.documents]
    assert segment.documents is not None
    assert segment.documents.to_pydict() == {"id": [id for _, id, _ in SMALL.documents]}
    assert index.summary["tokens"] == 600
    assert index.search("猫 tea").counts[0] == 3


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_index_is_imported_as_it_is(tmp_path_factory: Any, data: Any) -> None:
    count = data.draw(st.sampled_from([1, 2, 9, 65_536, 65_537, 200_000]))
    documents = st.integers(0, count - 1)
    terms = data.draw(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=6))
    lists = []
    for term in terms:
        tfs = st.one_of(st.integers(1, 20), st.sampled_from([254, 255, 256, 2**31 - 1]))
        postings = data.draw(st.dictionaries(documents, tfs, min_size=1, max_size=20))
        if any(0xD800 <= ord(character) < 0xE000 for character in term):
            continue
        lists.append((term, len(postings), 0, sorted(postings.items())))
    records = [(n, f"d{n}", n % 7) for n in range(count)]
    if data.draw(st.booleans()):
        records.reverse()
    file = ciff.File({1: 1, 2: len(lists), 3: count}, lists, records)
    folder = tmp_path_factory.mktemp("ciff")
    (folder / "a.ciff").write_bytes(ciff.write(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_ciff, "_CHUNK", data.draw(st.sampled_from([11, 1000, 1 << 20])))
        patch.setattr("os.fsync", lambda handle: None)
        index = Index.from_ciff(folder / "a.ciff", folder / "index")
    (segment,) = inverted.read_segments(folder / "index")
    built = segment.inverted
    assert built.terms == [term for term, *_ in lists]
    assert built.postings == [postings for *_, postings in lists]
    assert built.lengths == [n % 7 for n in range(count)]
    assert len(index) == count
    shutil.rmtree(folder)


# ---- wrong files


def damaged(change: Callable[[ciff.File], Any]) -> bytes:
    file = ciff.File(dict(SMALL.header), list(SMALL.lists), list(SMALL.documents))
    change(file)
    return ciff.write(file)


def set_list(number: int, value: Any) -> Callable[[ciff.File], Any]:
    return lambda file: file.lists.__setitem__(number, value)


def set_document(number: int, value: Any) -> Callable[[ciff.File], Any]:
    return lambda file: file.documents.__setitem__(number, value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "header 1 of 1: the file is truncated"),
        (b"PAR1" + bytes(200), "not a CIFF file: the header: "),
        (b"Green tea and black tea, and so on, and so on. " * 9, "not a CIFF file: the header: "),
        (b'{"id": 1, "text": "' + b"tea " * 40 + b'"}\n', "not a CIFF file: the header: "),
        (b"\xff" * 50, "no message begins here: not a CIFF file"),
        (damaged(lambda f: f.header.update({1: 2})), "the header: its version is 2, expected 1"),
        (damaged(lambda f: f.header.pop(1)), "the header: its version is 0, expected 1"),
        (damaged(lambda f: f.header.update({2: -1})), "the header: .* are no counts"),
        (damaged(lambda f: f.header.update({2: b"x"})), "the header: .* are no counts"),
        (damaged(lambda f: f.header.update({7: 7})), "the header: it is malformed"),
        (damaged(lambda f: f.header.update({3: 0})), "no documents to index"),
        (damaged(lambda f: f.header.update({3: 2**31})), "more than 2,147,483,647 documents"),
        (damaged(lambda f: f.header.update({3: 5})), "document record 5 of 5: .* truncated"),
        (damaged(lambda f: f.header.update({3: 3})), "postings list 1: its documents are not asc"),
        (damaged(lambda f: f.header.update({2: 2})), "document record 1: its text|are not those"),
        (damaged(lambda f: f.lists.pop()), "postings list 3: it has no term|its documents"),
        (damaged(lambda f: f.documents.append((4, "z", 1))), "there is more after the last"),
        (damaged(set_list(1, ("", 1, 1, [(0, 1)]))), "postings list 2: it has no term"),
        (damaged(set_list(1, ("w", 0, 0, []))), "postings list 2: it has no postings"),
        (damaged(set_list(1, ("w", 2, 1, [(0, 1)]))), "list 2: its df is 2, but it has 1 postings"),
        (damaged(set_list(1, ("w", 2, 2, [(1, 1), (1, 1)]))), "list 2: its documents are not"),
        (damaged(set_list(1, ("w", 2, 2, [(2, 1), (1, 1)]))), "list 2: its documents are not"),
        (damaged(set_list(1, ("w", 1, 1, [(4, 1)]))), "are not ascending numbers below 4"),
        (damaged(set_list(1, ("w", 1, 1, [(-1, 1)]))), "are not ascending numbers below 4"),
        (damaged(set_list(1, ("w", 1, 1, [(0, 0)]))), "list 2: a frequency is not from 1 to"),
        (damaged(set_list(1, ("w", 1, 1, [(0, -1)]))), "list 2: a frequency is not from 1 to"),
        (damaged(set_list(1, ("w", 1, 1, [(0, 2**31)]))), "list 2: a frequency is not from 1"),
        (damaged(set_list(1, (b"\xff\xfe", 1, 1, [(0, 1)]))), "list 2: its text is not UTF-8"),
        (damaged(set_list(1, ("tea", 1, 1, [(0, 1)]))), "the term 'tea' has two postings lists"),
        (damaged(set_document(1, (1, "y", -1))), "document record 2: its length is not from 0 to"),
        (damaged(set_document(1, (1, b"\xff", 1))), "document record 2: its text is not UTF-8"),
        (damaged(set_document(1, (1, "x", 1))), "collection_docid: duplicate ids: 'x' (.*0, 1"),
        (damaged(set_document(1, (2, "y", 1))), "are not those of the documents 0 to 3: 1 is miss"),
        (damaged(set_document(1, (-1, "y", 1))), "are not those of the documents 0 to 3"),
    ],
)
def test_foreign_and_damaged_files_are_an_error_that_names_them(
    tmp_path: Path, raw: bytes, said: str
) -> None:
    file = tmp_path / "wrong.ciff"
    file.write_bytes(raw)
    with pytest.raises(DataError, match=said.replace("(.*0", r"\(.*0")) as raised:
        Index.from_ciff(file, tmp_path / "index")
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "index").exists()


def test_a_file_that_ends_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = ciff.write(SMALL)
    file = tmp_path / "cut.ciff"
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match="truncated") as raised:
            Index.from_ciff(file, tmp_path / "index")
        assert str(file) in str(raised.value)
    packed = gzip.compress(whole)
    for size in (20, len(packed) // 2, len(packed) - 1):
        file.write_bytes(packed[:size])
        with pytest.raises(DataError, match=r"cut\.ciff: damaged"):
            Index.from_ciff(file, tmp_path / "index")


def test_flipped_bits_are_an_error_or_another_index(tmp_path: Path) -> None:
    whole = ciff.write(SMALL)
    file = tmp_path / "flipped.ciff"
    errors = []
    for bit in range(0, 8 * len(whole), 5):
        raw = bytearray(whole)
        raw[bit // 8] ^= 1 << bit % 8
        file.write_bytes(raw)
        try:
            Index.from_ciff(file, tmp_path / "index", overwrite=True)
            inverted.read_segments(tmp_path / "index")
        except DataError as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all(str(file) in error for error in errors)


def test_wrong_arguments_are_refused_by_name(tmp_path: Path) -> None:
    index, _ = changed(tmp_path / "index")
    file = tmp_path / "a.ciff"
    index.to_ciff(file)
    with pytest.raises(SettingsError, match="already exists"):
        index.to_ciff(file)
    index.to_ciff(file, overwrite=True)
    with pytest.raises(SettingsError, match="index"):
        index.to_ciff(tmp_path / "index" / "manifest.json", overwrite=True)
    with pytest.raises(SettingsError, match="no such folder"):
        index.to_ciff(tmp_path / "none" / "a.ciff")
    with pytest.raises(SettingsError, match="already exists"):
        Index.from_ciff(file, tmp_path / "index")
    with pytest.raises(DataError, match=r"none\.ciff: cannot be read: No such file"):
        Index.from_ciff(tmp_path / "none.ciff", tmp_path / "new")
    with pytest.raises(DataError, match="Is a directory"):
        Index.from_ciff(tmp_path, tmp_path / "new")
    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("file", lambda value: index.to_ciff(value)),
        ("overwrite", lambda value: index.to_ciff(file, overwrite=value)),
        ("progress", lambda value: index.to_ciff(file, overwrite=True, progress=value)),
        ("file", lambda value: Index.from_ciff(value, tmp_path / "new")),
        ("path", lambda value: Index.from_ciff(file, value)),
        ("analyzer", lambda value: Index.from_ciff(file, tmp_path / "new", analyzer=value)),
        ("overwrite", lambda value: Index.from_ciff(file, tmp_path / "new", overwrite=value)),
        ("progress", lambda value: Index.from_ciff(file, tmp_path / "new", progress=value)),
    ]
    for name, call in calls:
        with pytest.raises(SettingsError, match=name):
            call(5)
    assert not (tmp_path / "new").exists()
    index.delete([*range(200)])
    with pytest.raises(DataError, match="no documents to export"):
        index.to_ciff(tmp_path / "b.ciff")
    assert not (tmp_path / "b.ciff").exists()


def test_an_export_of_a_damaged_index_is_an_error(tmp_path: Path) -> None:
    built(some_rows(range(10)), tmp_path / "index")
    _, offset, _ = places_of(tmp_path / "index")["posting_docs"]
    flipped(tmp_path / "index", offset)
    with pytest.raises(FormatError, match="posting_docs"):
        Index.open(tmp_path / "index").to_ciff(tmp_path / "a.ciff")


def test_progress_ends_with_all_postings_and_documents(tmp_path: Path) -> None:
    index, documents = changed(tmp_path / "index")
    postings = sum(df for _, df, _, _ in file_of(documents).lists)
    for call in (
        lambda report: index.to_ciff(tmp_path / "a.ciff", progress=report),
        lambda report: Index.from_ciff(tmp_path / "a.ciff", tmp_path / "back", progress=report),
    ):
        told: list[tuple[str, int, int | None]] = []
        call(lambda *given: told.append(given))  # noqa: B023
        assert told[-2:] == [("merge", postings, postings), ("commit", 30, 30)]


def test_a_query_of_weights_finds_its_terms(tmp_path: Path) -> None:
    (tmp_path / "a.ciff").write_bytes(ciff.write(SMALL))
    index = Index.from_ciff(tmp_path / "a.ciff", tmp_path / "index")
    for model in (BM25(), TFIDF(), BoW()):
        hits = index.search([{"a b": 2.0, "猫": 1.0}], model=model)
        assert sorted(hits.ids[0]) == ["", "ü"]
