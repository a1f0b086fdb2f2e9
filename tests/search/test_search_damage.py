"""Damaged index files: an error that names the file, or the right answer.

Every file has checksums, of the whole or of a container's chunks, which are verified before they
are used: no damage gives another result.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, DPH, TFIDF, Analyzer, BoW, Dirichlet, FormatError, Index
from fastseq.index.segment import Field
from fastseq.search.ranking import RankingModel
from fastseq.store.container import CHUNK, ContainerWriter
from fastseq.store.folder import MANIFEST, read_manifest, verify
from fastseq.types import Texts
from tests import sampling
from tests.naive import inverted
from tests.naive.commits import combine, write_manifest
from tests.positions import positions_of

MODELS: list[RankingModel] = [
    BM25(),
    *(BM25(variant=name) for name in BM25.VARIANTS[1:]),
    TFIDF(),
    TFIDF("Lnn.atc"),
    BoW(cosine=True),
    DPH(),
    Dirichlet(mu=20),
]
PARTS = 8  # of the bits of each file
SPACE = Analyzer(tokenizer="space")


def table_of(rows: range) -> pa.Table:
    texts = [f"all w{n % 5} w{n % 3} " * (1 if n < 14 else 16) if n % 4 else "" for n in rows]
    texts[2] = "w1 " * 300 + "often"
    return pa.table(
        {"id": [f"d{n}" for n in rows], "text": texts, "year": [None if n % 3 else n for n in rows]}
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 documents in two segments, one of which has deleted documents. The other one's frequencies
    take a byte each."""
    root = tmp_path_factory.mktemp("small")
    for name, rows in (("a", range(14)), ("b", range(14, 24))):
        Index.build(table_of(rows), root / name, analyzer=SPACE, threads=1, fields="text")
    combine(root / "index", [root / "a", root / "b"], [[1, 6, 9, 13], []])
    return root / "index"


FILES = [MANIFEST, "segment-000001", "segment-000001-1", "deleted-000001"]


def file_of(folder: Path, name: str) -> Path:
    return folder / name if name == MANIFEST else folder / "data-000001" / name


def answers(folder: Path) -> list[Any]:
    """The results of every model, with all stored columns, of documents by their id, and all
    positions, those of a field too."""
    index = Index.open(folder)
    queries = ["all", "w1 w2 often", {"w0": 2.0, "w3": -1.0}, "absent", "w4 w4 all w2"]
    found: list[Any] = [len(index), index.analyzer]
    for model in MODELS:
        hits = index.search(queries, k=30, model=model, threads=1)
        found += [hits.rows.tobytes(), hits.scores.tobytes()]
    found += [hits.ids, list(hits), [index.get(f"d{n}") for n in (0, 6, 17, 23, 99)]]
    found += [all_positions(field) for leaf in index._collection.leaves
              for field in (leaf.segment, leaf.segment.fields["text"])]  # fmt: skip
    return found


def all_positions(field: Field) -> list[Any]:
    """The positions of every term."""
    return [[array.tolist() for array in positions_of(field, term)] for term in range(field.terms)]


def assert_error_or_same(folder: Path, path: Path, expected: list[Any]) -> bool:
    """Returns whether it was an error."""
    try:
        found = answers(folder)
    except FormatError as error:
        said = str(error)
    else:
        assert found == expected
        return False
    assert str(folder if path.name == MANIFEST else path) in said
    assert "\n" not in said
    return True


def test_index_of_the_tests_has_every_file(small: Path) -> None:
    index = Index.open(small)
    assert len(index) == 20
    segments = [leaf.segment for leaf in index._collection.leaves]
    assert [one.postings.packed for one in segments] == [1, 0]
    assert [one.fields["text"].postings.packed for one in segments] == [1, 0]
    assert {path.name for path in small.rglob("*") if path.is_file()} == {*FILES}
    assert answers(small) == answers(small)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_an_error_or_changes_nothing(small: Path, name: str, part: int) -> None:
    """All bits with FASTSEQ_TESTS=all, else some of each part of each file."""
    path = file_of(small, name)
    whole, expected = path.read_bytes(), answers(small)
    bits = range(8 * len(whole))[part::PARTS]
    errors = 0
    with open(path, "r+b", buffering=0) as file:
        for bit in sampling.some(bits, 14, f"{name} {part}"):
            at, changed = bit // 8, bytes([whole[bit // 8] ^ 1 << bit % 8])
            os.pwrite(file.fileno(), changed, at)
            try:
                errors += assert_error_or_same(small, path, expected)
            finally:
                os.pwrite(file.fileno(), whole[at : at + 1], at)
    assert errors or name == MANIFEST or len(whole) < 10


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_size_are_an_error(small: Path, name: str) -> None:
    path = file_of(small, name)
    whole, expected = path.read_bytes(), answers(small)
    sizes = sampling.some(range(len(whole)), 25, name)
    try:
        for raw in (*(whole[:size] for size in sizes), whole + b"\0", whole * 2):
            path.write_bytes(raw)
            assert assert_error_or_same(small, path, expected) or name == MANIFEST
            if name != MANIFEST:
                assert verify(small) == [str(path.relative_to(small))]
    finally:
        path.write_bytes(whole)
    assert answers(small) == expected


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_an_error(small: Path, name: str) -> None:
    path = file_of(small, name)
    path.rename(path.with_name("elsewhere"))
    try:
        with pytest.raises(FormatError, match=f"{name}: missing|no {MANIFEST}"):
            Index.open(small)
    finally:
        path.with_name("elsewhere").rename(path)


def test_exchanged_files_are_an_error(small: Path) -> None:
    one, other = (file_of(small, name) for name in FILES[1:3])
    names = [one.read_bytes(), other.read_bytes()]
    try:
        one.write_bytes(names[1])
        other.write_bytes(names[0])
        with pytest.raises(FormatError, match="segment-000001: damaged"):
            Index.open(small)
        other.write_bytes(names[1])
        with pytest.raises(FormatError, match="segment-000001: damaged"):
            Index.open(small)
    finally:
        one.write_bytes(names[0])
        other.write_bytes(names[1])


# ---- an index of many chunks: damage is found where it is used


TERMS = 20
DOCUMENTS = 66_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two windows; `all` has a few chunks of postings, and every w a part of one."""
    return made(tmp_path_factory.mktemp("large"), "all")


@pytest.fixture(scope="module")
def large_bytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with frequencies of a byte each."""
    return made(tmp_path_factory.mktemp("large_bytes"), "all " * 15)


def made(folder: Path, first: str) -> Path:
    texts = [f"{first} w{n % TERMS}" if n % 3 else first for n in range(DOCUMENTS)]
    for n in (5, 70, 65_535, 65_536, DOCUMENTS - 1):
        texts[n] = f"w{n % 7} " * (300 + n % 1000) + "w1 w2"
    table = pa.table({"id": [f"d{n}" for n in range(DOCUMENTS)], "text": texts})
    Index.build(table, folder / "index", store="id", analyzer=SPACE, threads=1)
    return folder / "index"


@pytest.fixture
def folder(array: str, request: pytest.FixtureRequest) -> Path:
    """The index that has an array."""
    path: Path = request.getfixturevalue("large_bytes" if array == "posting_tfs" else "large")
    return path


def places_of(folder: Path) -> dict[str, tuple[str, int, int]]:
    """(dtype, offset, elements) of each array of the one container."""
    (name,) = read_manifest(folder).files
    raw = (folder / name).read_bytes()
    directory = json.loads(raw[-4 - int.from_bytes(raw[-4:], "little") : -4])["arrays"]
    return {array: tuple(place) for array, place in directory.items()}


def flipped(folder: Path, at: int) -> None:
    """Flip a bit of the one container; twice is none."""
    (name,) = read_manifest(folder).files
    with open(folder / name, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 4]), at)


@pytest.mark.parametrize(
    ("array", "size"), [("posting_docs", 2.0), ("posting_tfs", 1.0), ("posting_tfs4", 0.5)]
)
def test_damaged_postings_are_an_error_of_their_terms(
    folder: Path, array: str, size: float
) -> None:
    """size : bytes of a posting"""
    index = Index.open(folder)
    segment = index._collection.leaves[0].segment
    expected = {n: index.search(f"w{n}", k=5).to_dicts() for n in range(TERMS)}
    _, offset, _ = places_of(folder)[array]
    starts = segment.postings.term_posting
    chunks: dict[int, set[int]] = {}
    for n in range(TERMS):
        term = int(segment.lookup(Texts.from_strings([f"w{n}"]))[0])
        first, stop = int(starts[term]), int(starts[term + 1])
        chunks[n] = {*range(int(first * size / CHUNK), math.ceil(stop * size / CHUNK))}
    damaged = max(chunks[3])
    users = {n for n in chunks if damaged in chunks[n]}
    assert 0 < len(users) < TERMS
    flipped(folder, offset + damaged * CHUNK)
    try:
        again = Index.open(folder)  # no postings are read
        for n in range(TERMS):
            if n in users:
                said = f"segment-000001: damaged: the checksum of {array} is wrong"
                with pytest.raises(FormatError, match=said):
                    again.search(f"w{n}", k=5)
                with pytest.raises(FormatError, match=said):
                    again.search([f"w{n}", "w4"], k=5, threads=2)
            else:
                assert again.search(f"w{n}", k=5).to_dicts() == expected[n]
        with pytest.raises(FormatError, match=f"checksum of {array} is wrong"):
            again.search("w4", model=TFIDF())  # whose norms read all postings
        assert verify(folder) == ["data-000001/segment-000001"]
    finally:
        flipped(folder, offset + damaged * CHUNK)
    assert verify(folder) == []
    assert Index.open(folder).search("w3", k=5).to_dicts() == expected[3]


def test_words_after_one_of_damaged_postings_have_their_own_documents(tmp_path: Path) -> None:
    """The document frequencies of deleted documents read postings, as do groups of bigrams."""
    analyzer = Analyzer(tokenizer="unicode")
    filler = [f"x{n} y{n}" for n in range(8000)]  # the second chunk begins with 犬
    texts = [["all tea", "tea 猫", "cat", *filler], ["all cat", "tea", *filler, "犬猫犬 zz"]]
    for name, rows in zip("ab", texts, strict=True):
        table = pa.table({"id": [f"{name}{n}" for n in range(len(rows))], "text": rows})
        Index.build(table, tmp_path / name, analyzer=analyzer, store="id")
    path = tmp_path / "index"
    combine(path, [tmp_path / name for name in "ab"], [[2], [1]])
    expected = {q: Index.open(path).search(q).to_dicts() for q in ("zz", "猫", "tea", "cat", "all")}
    segment = Index.open(path)._collection.leaves[1].segment
    term = int(segment.lookup(Texts.from_strings(["犬猫"]))[0])
    file = path / "data-000001" / "segment-000001-1"
    raw = file.read_bytes()
    directory = json.loads(raw[-4 - int.from_bytes(raw[-4:], "little") : -4])["arrays"]
    at = directory["posting_docs"][1] + 2 * int(segment.postings.term_posting[term])
    assert at // CHUNK > directory["posting_docs"][1] // CHUNK
    file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    index = Index.open(path)
    for _ in range(2):
        for query in ("zz", "猫"):
            with pytest.raises(FormatError, match="checksum of posting_docs is wrong"):
                index.search(query)
        for query in ("tea", "all", "cat"):
            assert index.search(query).to_dicts() == expected[query]
            assert index.search([query, "absent"], threads=1).to_dicts(0) == expected[query]


def test_damaged_documents_are_an_error_when_they_are_read(large: Path) -> None:
    _, offset, count = places_of(large)["documents"]
    index = Index.open(large)
    hits = index.search("all", k=100)
    expected = hits.ids
    rows = index._collection.leaves[0].segment.stored
    assert rows is not None
    assert count > 3 * CHUNK
    flipped(large, offset + count - 1)
    try:
        again = Index.open(large)
        hits = again.search("all", k=100)
        assert hits.rows.max() < DOCUMENTS // 2
        assert hits.ids == expected
        last = again.search({"w3": 1.0}, k=DOCUMENTS)
        with pytest.raises(FormatError, match="checksum of documents is wrong"):
            _ = last.ids
        with pytest.raises(FormatError, match="checksum of documents is wrong"):
            again.get(f"d{DOCUMENTS - 1}")
        assert again.get("d0") == {"id": "d0"}
    finally:
        flipped(large, offset + count - 1)


@pytest.mark.parametrize("array", ["id_hashes", "id_rows"])
def test_damaged_tables_of_ids_are_an_error_when_they_are_used(large: Path, array: str) -> None:
    _, offset, _ = places_of(large)[array]
    flipped(large, offset + CHUNK + 9)
    try:
        index = Index.open(large)
        assert index.search("w3", k=3).counts[0] == 3
        with pytest.raises(FormatError, match=f"checksum of {array} is wrong"):
            index.get("d7")
    finally:
        flipped(large, offset + CHUNK + 9)


def zeroed(raw: bytes, chance: random.Random) -> bytes:
    return bytes(len(raw))


def scattered(raw: bytes, chance: random.Random) -> bytes:
    out = bytearray(raw)
    for _ in range(max(len(raw) // 50, 1)):
        out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out)


def shuffled(raw: bytes, chance: random.Random) -> bytes:
    pages = [raw[i : i + 4096] for i in range(0, len(raw), 4096)]
    chance.shuffle(pages)
    return b"".join(pages)


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    zeroed,
    scattered,
    shuffled,
    lambda raw, chance: b"\xff" * len(raw),
    lambda raw, chance: raw[::-1],
    lambda raw, chance: raw[1:] + raw[:1],
    lambda raw, chance: chance.randbytes(len(raw)),
]
ARRAYS = [
    "posting_docs", "posting_tfs", "posting_tfs4", "run_windows", "run_counts", "large_at",
    "large_tfs", "term_runs", "term_bytes", "term_lengths", "term_slots", "document_lengths",
    "documents", "document_schema", "group_rows", "group_bytes", "id_hashes", "id_rows",
    "positions", "position_blocks",
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_of_nonsense_are_an_error(folder: Path, array: str) -> None:
    places = places_of(folder)
    other = "posting_tfs4" if array == "posting_tfs" else "posting_tfs"
    assert {*places} == {*ARRAYS} - {other}
    dtype, offset, count = places[array]
    (name,) = read_manifest(folder).files
    path = folder / name
    whole = path.read_bytes()
    stop = offset + count * np.dtype(dtype).itemsize
    for number, change in enumerate(CHANGES):
        changed = change(whole[offset:stop], random.Random(number))
        if changed == whole[offset:stop]:
            continue
        path.write_bytes(whole[:offset] + changed + whole[stop:])
        try:
            with pytest.raises(FormatError, match=f"damaged: the checksum of {array} is wrong"):
                use(folder)
        finally:
            path.write_bytes(whole)


def use(folder: Path) -> None:
    """Read everything."""
    index = Index.open(folder)
    hits = index.search("all", k=DOCUMENTS, model=TFIDF())
    assert len(hits.ids[0]) > 60_000
    index.get("d3")
    assert index._collection.leaves[0].segment.positions is not None


def rewrite(folder: Path, changed: dict[str, Callable[[Any], Any] | None]) -> None:
    """Write the one container with other arrays."""
    content = json.loads((folder / MANIFEST).read_text())
    ((name, entry),) = content["files"].items()
    arrays = inverted.read_container(folder / name, entry)
    arrays |= {name: change(arrays) for name, change in changed.items() if change is not None}
    (folder / name).unlink()
    writer = ContainerWriter(folder / name)
    for array, values in arrays.items():
        if changed.get(array, True):
            writer.array(array, values)
    writer.finish()
    content["files"][name] = {"bytes": writer.bytes, "footer": writer.footer, "crc32": writer.crc32}
    write_manifest(folder, content)


@pytest.mark.parametrize(
    ("repeats", "changed", "said"),
    [
        (1, {"posting_tfs4": lambda a: a["posting_tfs4"][:-1]}, "tfs4: 16 entries, expected 17"),
        (1, {"posting_tfs4": lambda a: a["term_bytes"][:18]}, "tfs4: 18 entries, expected 17"),
        (1, {"posting_tfs4": lambda a: a["posting_tfs4"].view("i1")}, "posting_tfs4 is int8"),
        (1, {"posting_tfs4": None}, "no array 'posting_tfs'"),
        (1, {"posting_tfs": lambda a: a["posting_tfs4"], "posting_tfs4": None},
         "posting_tfs: 17 entries, expected 34"),
        (16, {"posting_tfs4": lambda a: a["posting_tfs"]}, "tfs4: 34 entries, expected 17"),
        (16, {"posting_tfs": lambda a: a["posting_tfs"][:-1]}, "tfs: 33 entries, expected 34"),
        (1, {"large_at": lambda a: a["large_at"][:-1]}, "large_tfs: 1 entries, expected 0"),
        (1, {"large_tfs": lambda a: a["large_tfs"][:-1]}, "large_tfs: 0 entries, expected 1"),
    ],
)  # fmt: skip
def test_frequencies_of_another_number_are_rejected(
    tmp_path: Path, repeats: int, changed: dict[str, Callable[[Any], Any] | None], said: str
) -> None:
    """In arrays whose checksums are right. A function has the new array; None: there is none."""
    texts = [f"all w{n % 5} x{n} " * repeats for n in range(11)] + ["all " * 300]
    Index.build(pa.table({"text": texts}), tmp_path / "index", analyzer=SPACE)
    assert len(Index.open(tmp_path / "index")) == 12
    rewrite(tmp_path / "index", changed)
    with pytest.raises(FormatError, match=said):
        Index.open(tmp_path / "index")


def test_damaged_positions_do_not_affect_searches_without_them(large: Path) -> None:
    expected = Index.open(large).search("w3 w4", k=20, model=TFIDF()).to_dicts()
    places = [(name, places_of(large)[name][1]) for name in ("positions", "position_blocks")]
    for name, offset in places:
        flipped(large, offset + 9)
        try:
            index = Index.open(large)
            assert index.search("w3 w4", k=20, model=TFIDF()).to_dicts() == expected
            segment = index._collection.leaves[0].segment
            for _ in range(2):
                with pytest.raises(FormatError, match=f"damaged: the checksum of {name} is wrong"):
                    positions_of(segment, 0)
        finally:
            flipped(large, offset + 9)


# ---- manifests


def test_another_format_version_is_rejected(small: Path, tmp_path: Path) -> None:
    content = json.loads((small / MANIFEST).read_text())
    for version in (0, 8, 99):
        write_manifest(tmp_path, {**content, "format_version": version})
        said = f"format version {version} is too .* 1 or 2 or 3 or 4 or 5 or 6 or 7"
        with pytest.raises(FormatError, match=said):
            Index.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["settings"].pop("analyzer"), "no setting 'analyzer'"),
        (lambda m: m["settings"].update(stored_columns="text"), "no setting 'stored_columns'"),
        (lambda m: m["settings"].update(schema="AAAA"), "index: damaged"),
        (lambda m: m["statistics"].pop("segments"), "no statistics of its segments"),
        (lambda m: m["statistics"].update(segments={}), "no statistics of its segments"),
        (lambda m: m["statistics"].update(segments=[{}]), "no statistics of its segments"),
        (lambda m: m["statistics"]["segments"][1].update(name="x"), "names no file 'x'"),
        (lambda m: m["statistics"]["segments"][1].update(documents=9), "document_lengths"),
        (lambda m: m["statistics"]["segments"][1].update(deleted=1), "bitmaps of the segments"),
        (lambda m: m["statistics"]["segments"][0].update(deleted=3), "the deletions of segment"),
        (lambda m: m["statistics"].pop("deleted"), "the deletions of segment-000001"),
        (lambda m: m["statistics"].update(deleted="x"), "names no file 'x'"),
        (lambda m: m["files"]["data-000001/segment-000001"].pop("footer"), "not a container"),
    ],
)
def test_manifest_contradicting_its_files_is_rejected(
    small: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    before = (small / MANIFEST).read_bytes()
    content = json.loads(before)
    change(content)
    write_manifest(small, content)
    try:
        with pytest.raises(FormatError, match=said) as caught:
            answers(small)
        assert str(small) in str(caught.value)
    finally:
        (small / MANIFEST).write_bytes(before)
