"""An inverted index by definition, and format versions 1 and 2 read back by their description.

Documents are lists of tokens. Nothing of fastseq is imported.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

WINDOW = 65_536
CHUNK = 16_384  # bytes that have a checksum of their own
LOW64 = (1 << 64) - 1

POSTINGS = [
    "posting_docs", "posting_tfs", "run_windows", "run_counts", "large_at", "large_tfs",
    "term_runs", "term_bytes", "term_lengths", "term_slots", "document_lengths",
]  # fmt: skip
DOCUMENTS = ["documents", "document_schema", "group_rows", "group_bytes"]
IDS = ["id_hashes", "id_rows"]
DTYPES = {
    "posting_docs": "<u2", "posting_tfs": "|u1", "run_windows": "<u2", "run_counts": "<u2",
    "large_at": "<i8", "large_tfs": "<i4", "term_bytes": "|u1", "term_slots": "<u4",
    "documents": "|u1", "document_schema": "|u1", "id_hashes": "<u4", "id_rows": "<u4",
}  # fmt: skip

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Inverted:
    """terms by id, each term's (document, frequency) pairs, and each document's length."""

    terms: list[str]
    postings: list[list[tuple[int, int]]]
    lengths: list[int]


@dataclass
class Segment:
    """One segment of an index, its deleted rows and its stored columns."""

    inverted: Inverted
    deleted: set[int] = field(default_factory=set)
    documents: pa.Table | None = None


def invert(levels: Sequence[Sequence[Sequence[str]]]) -> Inverted:
    """The index of D documents, given the tokens of each for every n-gram level.

    Terms are numbered by their first occurrence, level after level.
    """
    terms: list[str] = []
    postings: list[list[tuple[int, int]]] = []
    lengths = [0] * len(levels[0])
    for documents in levels:
        ids: dict[str, int] = {}
        for row, tokens in enumerate(documents):
            lengths[row] += len(tokens)
            for token in tokens:
                if token not in ids:
                    ids[token] = len(terms)
                    terms.append(token)
                    postings.append([])
            for token, count in Counter(tokens).items():
                postings[ids[token]].append((row, count))
    return Inverted(terms, postings, lengths)


def read(folder: Path) -> Inverted:
    """The index in a folder, of one segment without deleted documents."""
    (segment,) = read_segments(folder)
    assert segment.deleted == set()
    return segment.inverted


def read_segments(folder: Path) -> list[Segment]:
    """The segments of the index in a folder, of either version, every invariant of the format
    checked on the way."""
    manifest = json.loads((folder / "manifest.json").read_text("ascii"))
    rest = {name: value for name, value in manifest.items() if name != "crc32"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    assert manifest["crc32"] == zlib.crc32(canonical.encode("ascii"))
    assert manifest["kind"] == "index"
    if manifest["format_version"] == 1:
        return [_read_version_1(folder, manifest)]
    assert manifest["format_version"] == 2
    return _read_version_2(folder, manifest)


# ---- version 1: a file for each array


def _read_version_1(folder: Path, manifest: dict[str, Any]) -> Segment:
    arrays, documents = {}, None
    for path, entry in manifest["files"].items():
        raw = (folder / path).read_bytes()
        name = path.partition("/")[2]
        assert len(raw) == entry["bytes"]
        assert zlib.crc32(raw) == entry["crc32"]
        if name == "documents.parquet":
            documents = pq.read_table(pa.BufferReader(raw))
        else:
            arrays[name] = np.frombuffer(raw, entry["dtype"])
    assert sorted(arrays) == sorted(POSTINGS)
    found = _inverted(arrays)
    assert manifest["statistics"] == {
        "documents": len(found.lengths), "terms": len(found.terms),
        "postings": len(arrays["posting_docs"]), "tokens": sum(found.lengths),
    }  # fmt: skip
    return Segment(found, documents=documents)


# ---- version 2: a container for each segment, and a file of deletions


def _read_version_2(folder: Path, manifest: dict[str, Any]) -> list[Segment]:
    settings, statistics = manifest["settings"], manifest["statistics"]
    raw = base64.b64decode(settings["schema"], validate=True)
    schema = ipc.read_schema(pa.py_buffer(raw))
    assert schema.names == settings["stored_columns"]
    paths = {path.partition("/")[2]: path for path in manifest["files"]}
    names = [entry["name"] for entry in statistics["segments"]]
    bitmaps = b""
    expected = {*names}
    if "deleted" in statistics:
        path = paths[statistics["deleted"]]
        expected.add(statistics["deleted"])
        bitmaps = (folder / path).read_bytes()
        assert manifest["files"][path] == {"bytes": len(bitmaps), "crc32": zlib.crc32(bitmaps)}
    assert len(names) == len(set(names))
    assert paths.keys() == expected
    segments = []
    totals = Counter({"documents": 0, "terms": 0, "postings": 0, "tokens": 0})
    for entry in statistics["segments"]:
        data, _, name = paths[entry["name"]].partition("/")
        assert data.startswith("data-")
        assert name.startswith(f"segment-{data[5:]}")
        arrays = read_container(folder / data / name, manifest["files"][f"{data}/{name}"])
        segment = Segment(_inverted(arrays))
        rows = len(segment.inverted.lengths)
        if entry["deleted"]:
            size = -(-rows // 8)
            bits = int.from_bytes(bitmaps[:size], "little")
            bitmaps = bitmaps[size:]
            segment.deleted = {row for row in range(rows) if bits >> row & 1}
            assert bits < 1 << rows
        lengths = segment.inverted.lengths
        live = [length for row, length in enumerate(lengths) if row not in segment.deleted]
        assert entry == {
            "name": name, "documents": rows, "deleted": len(segment.deleted), "tokens": sum(live),
            "terms": len(segment.inverted.terms), "postings": len(arrays["posting_docs"]),
        }  # fmt: skip
        assert len(segment.deleted) < rows
        totals.update({key: entry[key] for key in ("terms", "postings", "tokens")})
        totals["documents"] += len(live)
        expected = set(POSTINGS)
        if schema.names:
            expected.update(DOCUMENTS)
            segment.documents = _documents(arrays, schema)
            assert segment.documents.num_rows == rows
        column = settings["id_column"]
        if column is not None:
            expected.update(IDS)
            assert segment.documents is not None
            _check_ids(arrays, segment.documents.column(column))
        assert arrays.keys() == expected
        segments.append(segment)
    assert bitmaps == b""
    assert {key: statistics[key] for key in totals} == dict(totals)
    assert statistics.keys() - totals.keys() <= {"segments", "deleted", "commit"}
    return segments


def read_container(path: Path, entry: dict[str, Any]) -> Arrays:
    """The arrays of a container, by its entry in the manifest."""
    raw = path.read_bytes()
    assert entry.keys() == {"bytes", "crc32", "footer"}
    assert len(raw) == entry["bytes"]
    body, footer = raw[: len(raw) - entry["footer"]], raw[len(raw) - entry["footer"] :]
    assert zlib.crc32(footer) == entry["crc32"]
    length = int.from_bytes(footer[-4:], "little")
    content = json.loads(footer[-4 - length : -4].decode("ascii"))
    assert content.keys() == {"arrays"}
    checksums = np.frombuffer(footer[: -4 - length], "<u4").tolist()
    arrays: Arrays = {}
    end = 0
    for name, (dtype, offset, count) in content["arrays"].items():
        assert offset == -(-end // 64) * 64
        assert not any(body[end:offset])
        end = offset + count * np.dtype(dtype).itemsize
        for start in range(offset, end, CHUNK):
            assert zlib.crc32(body[start : min(start + CHUNK, end)]) == checksums.pop(0)
        arrays[name] = np.frombuffer(body[offset:end], dtype)
    assert checksums == []
    assert len(body) == end
    return arrays


def _documents(arrays: Arrays, schema: pa.Schema) -> pa.Table:
    """The stored columns: Arrow IPC streams of one batch."""
    own = ipc.read_schema(pa.py_buffer(arrays["document_schema"].tobytes()))
    assert own.equals(schema, check_metadata=True)
    raw = arrays["documents"].tobytes()
    batches = []
    rows, sizes = arrays["group_rows"].tolist(), arrays["group_bytes"].tolist()
    for count, size in zip(rows, sizes, strict=True):
        with ipc.open_stream(raw[:size]) as stream:
            assert stream.schema.equals(schema)
            (batch,) = stream
        assert 0 < batch.num_rows == count <= 512
        batches.append(batch)
        raw = raw[size:]
    assert raw == b""
    return pa.Table.from_batches(batches, schema)


def _check_ids(arrays: Arrays, ids: pa.ChunkedArray) -> None:
    """The table of ids: the upper halves of their hashes, ascending, and their rows."""
    hashes, rows = arrays["id_hashes"].tolist(), arrays["id_rows"].tolist()
    pairs = list(zip(hashes, rows, strict=True))
    assert pairs == sorted(pairs)
    assert sorted(rows) == [*range(len(ids))]
    values = ids.to_pylist()
    for half, row in pairs:
        if isinstance(values[row], str | int):
            assert half == id_hash(values[row]) >> 32


def id_hash(value: str | int) -> int:
    """The 64-bit hash of an id: SplitMix64's finaliser of an integer, that of the term tables of a
    string's UTF-8."""
    if isinstance(value, int):
        h = value & LOW64
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & LOW64
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & LOW64
        return h ^ (h >> 31)
    return string_hash(value.encode())


def string_hash(raw: bytes) -> int:
    """Multiply and fold, eight bytes at a time; the last eight overlap those before."""
    one, two = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
    n = len(raw)
    if n > 8:
        h = n
        for at in range(0, n - 8, 8):
            h = _fold(h ^ int.from_bytes(raw[at : at + 8], "little") ^ one, two)
        return _fold(h ^ int.from_bytes(raw[-8:], "little") ^ two, one)
    value = 0
    if n >= 4:
        value = int.from_bytes(raw[:4] + raw[-4:], "little")
    elif n > 0:
        value = int.from_bytes([raw[0], raw[n >> 1], raw[-1]], "little")
    return _fold(value ^ one, n ^ two)


def _fold(a: int, b: int) -> int:
    return (a * b & LOW64) ^ (a * b >> 64)


# ---- the arrays, which are the same in both versions


def _inverted(arrays: Arrays) -> Inverted:
    for name, dtype in DTYPES.items():
        assert name not in arrays or arrays[name].dtype == dtype
    narrow = {"term_runs", "term_lengths", "document_lengths", "group_rows", "group_bytes"}
    for name in narrow & arrays.keys():
        largest = int(arrays[name].max(initial=0))
        assert arrays[name].dtype == np.min_scalar_type(largest)  # the narrowest that fits
    raw_terms = arrays["term_bytes"].tobytes()
    ends = np.cumsum(arrays["term_lengths"], dtype=np.int64).tolist()
    terms = [raw_terms[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert len(raw_terms) == (ends[-1] if ends else 0)
    assert len(terms) == len(arrays["term_runs"])
    lengths = arrays["document_lengths"].tolist()
    large = dict(zip(arrays["large_at"].tolist(), arrays["large_tfs"].tolist(), strict=True))
    assert list(large) == sorted(large)
    docs, tfs = arrays["posting_docs"].tolist(), arrays["posting_tfs"].tolist()
    assert [at for at, tf in enumerate(tfs) if tf == 255] == list(large)
    windows, counts = arrays["run_windows"].tolist(), arrays["run_counts"].tolist()
    postings = []
    at = run = 0
    for runs in arrays["term_runs"].tolist():
        own = windows[run : run + runs]
        assert own == sorted(set(own))
        found = []
        for window, count in zip(own, counts[run : run + runs], strict=True):
            rows = docs[at : at + count + 1]
            assert rows == sorted(set(rows))
            for i, row in enumerate(rows, at):
                found.append((window * WINDOW + row, large.get(i, tfs[i])))
            at += count + 1
        postings.append(found)
        run += runs
    assert at == len(docs) == len(tfs)
    assert run == len(windows) == len(counts)
    _check_slots(arrays["term_slots"].tolist(), [term.encode() for term in terms])
    return Inverted(terms, postings, lengths)


def _check_slots(slots: list[int], terms: list[bytes]) -> None:
    """A hash table with linear probing: each term is found before an empty slot."""
    assert len(slots) & (len(slots) - 1) == 0
    assert len(slots) > len(terms)
    assert sorted(slot for slot in slots if slot) == [*range(1, len(terms) + 1)]
    for number, term in enumerate(terms, 1):
        slot = string_hash(term) & (len(slots) - 1)
        while slots[slot] != number:
            assert slots[slot]
            slot = (slot + 1) & (len(slots) - 1)
