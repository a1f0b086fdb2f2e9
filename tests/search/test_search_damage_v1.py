"""Damaged files of an index of format 1: a clear error or an answer, never a crash, never a hang.

Its arrays are not verified when it is opened, and a file that was written wrong has the checksum of
the manifest: whatever they contain must be harmless. A crash takes its process with it, so the
damage is done and looked at in a child:

    python tests/search/test_search_damage_v1.py FOLDER FILE…
"""

from __future__ import annotations

import faulthandler
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, DPH, PL2, TFIDF, Analyzer, BoW, Dirichlet, FormatError, Index
from fastseq.index import merging
from fastseq.index.words import StoredWords
from fastseq.store.container import ContainerWriter
from fastseq.store.folder import MANIFEST, FileEntry, read_manifest, verify
from tests.naive.commits import as_version_1
from tests.sampling import some

FILES = [
    "document_lengths", "documents.parquet", "large_at", "large_tfs", "posting_docs",
    "posting_tfs", "run_counts", "run_windows", "term_bytes", "term_lengths", "term_runs",
    "term_slots",
]  # fmt: skip
INVERTED = [name for name in FILES if name not in ("documents.parquet", "document_lengths")]
TERMS = 20
SAMPLE = 12  # damages of a file, all with FASTSEQ_TESTS=all
MODELS = [
    BM25(),
    *(BM25(variant=name) for name in BM25.VARIANTS[1:]),
    TFIDF(),
    TFIDF("Lnn.atc"),
    BoW(),
    DPH(),
    Dirichlet(mu=20),
    PL2(),
]
LIMIT = 120  # seconds for some files


def make(folder: Path) -> None:
    """An index of two windows, with frequencies beyond a byte and ids to look up."""
    rows = 66_000
    texts = [f"all w{n % TERMS}" if n % 3 else "all" for n in range(rows)]
    for n in (5, 70, 65_535, 65_536, rows - 1):
        texts[n] = f"w{n % 7} " * (300 + n % 1000) + "w1 w2"
    newer = folder.with_name("newer")
    Index.build(
        pa.table({"id": [f"d{n}" for n in range(rows)], "text": texts}),
        newer,
        store="id",
        analyzer=Analyzer(tokenizer="space"),
    )
    as_version_1(newer, folder)
    queries = [f"w{n}" for n in range(TERMS)]
    for model in MODELS:
        new, old = (Index.open(path).search(queries, 50, model) for path in (newer, folder))
        assert new.rows.tobytes() == old.rows.tobytes()
        assert new.scores.tobytes() == old.scores.tobytes()
        assert new.ids == old.ids


# ---- what damage does to the bytes of a file


def flipped(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :]


def scattered(raw: bytes, chance: random.Random) -> bytes:
    out = bytearray(raw)
    for _ in range(max(len(raw) // 50, 1)):
        out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out)


def patched(raw: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(raw)), chance.randrange(1, 4097)
    fill = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80"])
    return (raw[:at] + fill * min(length, len(raw) - at) + raw[at + length :])[: len(raw)]


def shuffled(raw: bytes, chance: random.Random) -> bytes:
    pages = [raw[i : i + 4096] for i in range(0, len(raw), 4096)]
    last = pages.pop() if len(pages) > 1 else b""
    chance.shuffle(pages)
    return b"".join(pages) + last


SAME_SIZE: list[Callable[[bytes, random.Random], bytes]] = [
    flipped,
    scattered,
    patched,
    shuffled,
    lambda raw, chance: bytes(len(raw)),
    lambda raw, chance: b"\xff" * len(raw),
    lambda raw, chance: b"\x7f" * len(raw),
    lambda raw, chance: b"\x80" * len(raw),
    lambda raw, chance: b"\x01" * len(raw),
    lambda raw, chance: raw[::-1],
    lambda raw, chance: raw[len(raw) // 2 :] + raw[: len(raw) // 2],
    lambda raw, chance: raw[1:] + raw[:1],
    lambda raw, chance: chance.randbytes(len(raw)),
]
OTHER_SIZE: list[Callable[[bytes, random.Random], bytes]] = [
    lambda raw, chance: b"",
    lambda raw, chance: raw[: len(raw) // 2],
    lambda raw, chance: raw[:-1],
    lambda raw, chance: raw[:-8],
    lambda raw, chance: raw + b"\0",
    lambda raw, chance: raw + b"\xff" * 8,
    lambda raw, chance: raw + chance.randbytes(4096),
    lambda raw, chance: raw * 2,
]


def damages(raw: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of everything done to one file."""
    for number, change in enumerate(SAME_SIZE + OTHER_SIZE):
        for turn in range(8 if change in SAME_SIZE[:4] else 1):
            damaged = change(raw, random.Random(100 * seed + 10 * number + turn))
            if damaged != raw:
                yield f"{number}.{turn}", damaged


# ---- looking at a damaged index


def look(folder: Path, model: BM25 | TFIDF | BoW, k: int) -> None:
    """Search for every term; what comes is hits or a FormatError."""
    try:
        index = Index.open(folder)
        queries = [f"w{n}" for n in range(TERMS)] + ["all", "all w1 w2 w3", "never", "w5 " * 9]
        hits = index.search(queries, k=k, model=model, threads=1)
        rows = hits.rows
        assert rows.shape == (len(queries), k)
        assert rows.min() >= -1
        assert rows.max() < len(index)
        index.search({f"w{n}": float(n - 9) for n in range(TERMS)}, k=k, model=model, threads=1)
        assert len(hits.ids) == len(queries)
        said = ""
    except FormatError as error:
        said = str(error)
    assert not said or str(folder) in said
    assert "\n" not in said


def merge_postings(folder: Path) -> None:
    """Merge the inverted index into a container, as the first change of the index does; what comes
    is a file or a FormatError."""
    target = folder.with_name("merged")
    container = ContainerWriter(target)
    try:
        collection = Index.open(folder)._collection
        merging.merge(
            collection.leaves, container, None, pa.schema([]), StoredWords(collection), 1 << 20, 2,
            lambda done, total: None,
        )  # fmt: skip
        container.finish()
        said = str(folder)
    except FormatError as error:
        said = str(error)
    finally:
        container.close()
        target.unlink()
    assert str(folder) in said


def child(folder: Path, name: str) -> None:
    """Damage one file in every way; print each case."""
    path = next(folder.glob(f"data-*/{name}"))
    relative = path.relative_to(folder).as_posix()
    whole, manifest = path.read_bytes(), read_manifest(folder)
    seed = FILES.index(name)
    for turn, (damage, raw) in enumerate(some(list(damages(whole, seed)), SAMPLE, name)):
        entry = manifest.files[relative]
        forged = entry if len(raw) == len(whole) else _forged(entry, raw)
        for told in ("as it is", "as the manifest says") if forged else ("as it is",):
            print(name, damage, told, flush=True)
            _write(path, raw)
            if told != "as it is":
                assert forged is not None
                files = {**manifest.files, relative: forged}
                _write(folder / MANIFEST, replace(manifest, files=files).to_bytes())
            else:
                assert verify(folder) == [relative]
            started = time.monotonic()
            for shift in (0, 4):
                model = MODELS[(turn + shift) % len(MODELS)]
                look(folder, model, (10, 1, 300)[turn % 3])
            if name in INVERTED:
                merge_postings(folder)
            assert time.monotonic() - started < 10
            _write(folder / MANIFEST, manifest.to_bytes())
    _write(path, whole)
    assert verify(folder) == []


def _forged(entry: FileEntry, raw: bytes) -> FileEntry | None:
    """The entry of a file that was written wrong rather than damaged later."""
    if entry.dtype is None:
        return None
    items, rest = divmod(len(raw), np.dtype(entry.dtype).itemsize)
    return None if rest else replace(entry, bytes=len(raw), shape=(items,))


def _write(path: Path, raw: bytes) -> None:
    # another file under the name, so that who has mapped the old one keeps it
    new = path.with_name(path.name + ".new")
    new.write_bytes(raw)
    os.replace(new, path)


# ---- the tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "index"
    make(path)
    return path


def test_damage_test_covers_every_file(folder: Path) -> None:
    assert sorted(path.name for path in folder.glob("data-*/*")) == FILES


@pytest.mark.parametrize("names", [FILES[i::4] for i in range(4)], ids="-".join)
def test_damaged_files_never_crash_a_search(folder: Path, names: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, __file__, folder, *names],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    said = ran.stdout.splitlines()
    assert ran.returncode == 0, f"at {said[-1:]}: {ran.stderr[-3000:]}"
    assert len(said) >= SAMPLE * len(names)
    assert Index.open(folder).search("all", k=3).counts[0] == 3


def test_another_format_version_is_rejected(folder: Path, tmp_path: Path) -> None:
    for version in (0, 8, 99):
        manifest = replace(read_manifest(folder), format_version=version)
        (tmp_path / MANIFEST).write_bytes(manifest.to_bytes())
        with pytest.raises(FormatError, match=f"format version {version} is too"):
            Index.open(tmp_path)


@pytest.mark.parametrize("name", ["term_runs", "term_lengths", "document_lengths"])
@pytest.mark.parametrize("large", [1 << 63, 1 << 62, 1 << 49])
def test_counts_whose_total_overflows_are_rejected(folder: Path, name: str, large: int) -> None:
    """Offsets with a correct end that leave the array in between."""
    whole = read_manifest(folder)
    relative = next(file for file in whole.files if file.endswith(f"/{name}"))
    raw, entry = (folder / relative).read_bytes(), whole.files[relative]
    counts = np.frombuffer(raw, entry.dtype).astype(np.uint64)
    counts[0] += np.uint64(large)
    counts[1:5] += np.uint64((1 << 64) - large >> 2)  # together 2^64 more
    forged = replace(entry, bytes=counts.nbytes, dtype="<u8", shape=(len(counts),))
    files = {**whole.files, relative: forged}
    _write(folder / relative, counts.tobytes())
    _write(folder / MANIFEST, replace(whole, files=files).to_bytes())
    try:
        with pytest.raises(FormatError, match=f"{name}: damaged: not counts"):
            Index.open(folder)
    finally:
        _write(folder / relative, raw)
        _write(folder / MANIFEST, whole.to_bytes())


@pytest.mark.parametrize(
    ("settings", "statistics", "said"),
    [
        ({"analyzer": None}, {}, "no setting 'analyzer'"),
        ({"analyzer": {"unicode": "1.0"}}, {}, "Unicode tables '1.0'"),
        ({"stored_columns": "text"}, {}, "no setting 'stored_columns'"),
        ({}, {"documents": 65_999}, "document_lengths"),
        ({}, {"documents": None}, "document_lengths"),
    ],
)
def test_manifest_contradicting_its_files_is_rejected(
    folder: Path, settings: dict[str, object], statistics: dict[str, object], said: str
) -> None:
    whole = read_manifest(folder)
    changed = replace(
        whole,
        settings={**whole.settings, **settings},
        statistics={**whole.statistics, **statistics},
    )
    _write(folder / MANIFEST, changed.to_bytes())
    try:
        with pytest.raises(FormatError) as caught:
            Index.open(folder)
        assert said in str(caught.value)
    finally:
        _write(folder / MANIFEST, whole.to_bytes())


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("error")  # a warning would be a second line
    for file in sys.argv[2:]:
        child(Path(sys.argv[1]), file)
