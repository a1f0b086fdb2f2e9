"""An inverted index by definition, and format versions 1 to 3 and 5 read back by their description.

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
PACKED_TFS = "posting_tfs4"  # takes the place of posting_tfs in most segments of version 2
POSITIONS = ["positions", "position_blocks"]
WORDS = ["term_words", "word_bytes", "word_lengths", "word_counts"]
DOCUMENTS = ["documents", "document_schema", "group_rows", "group_bytes"]
PARTS = ["column_parts", "group_parts"]  # in a segment of version 5
IDS = ["id_hashes", "id_rows"]
DTYPES = {
    "posting_docs": "<u2", "posting_tfs": "|u1", "posting_tfs4": "|u1", "run_windows": "<u2",
    "run_counts": "<u2", "large_at": "<i8", "large_tfs": "<i4", "term_bytes": "|u1",
    "term_slots": "<u4", "documents": "|u1", "document_schema": "|u1", "id_hashes": "<u4",
    "id_rows": "<u4", "column_parts": "|u1", "group_parts": "|u1", "positions": "|u1",
    "word_bytes": "|u1", "word_counts": "|u1",
}  # fmt: skip
BLOCK = 128  # postings whose positions' bytes are counted together
COLUMN_GAP = 100  # positions between a document's text columns

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Inverted:
    """terms by id, each term's (document, frequency) pairs, and each document's length.

    positions  of each term, for each of its documents in order; None where they are not stored
    words      (word as it is written, its occurrences) of each term; None where they are not stored
    """

    terms: list[str]
    postings: list[list[tuple[int, int]]]
    lengths: list[int]
    positions: list[list[list[int]]] | None = None
    words: list[list[tuple[str, int]]] | None = field(default=None, compare=False)


@dataclass
class Segment:
    """One segment of an index, its deleted rows, its stored columns and its fields by name."""

    inverted: Inverted
    deleted: set[int] = field(default_factory=set)
    documents: pa.Table | None = None
    fields: dict[str, Inverted] = field(default_factory=dict)


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


def invert_columns(documents: Sequence[Sequence[Sequence[str | None]]]) -> Inverted:
    """The index of D documents with positions, given the tokens of each of their text columns.

    None is a removed word, which has a position but no posting. A column begins COLUMN_GAP
    positions after the last token of the one before.
    """
    tokens: list[list[str]] = []
    positions: dict[str, list[list[int]]] = {}
    for document in documents:
        own: dict[str, list[int]] = {}
        position = 0
        for column in document:
            for token in column:
                if token is not None:
                    own.setdefault(token, []).append(position)
                position += 1
            position += COLUMN_GAP
        for token, found in own.items():
            positions.setdefault(token, []).append(found)
        tokens.append([token for column in document for token in column if token is not None])
    inverted = invert([tokens])
    inverted.positions = [positions[term] for term in inverted.terms]
    return inverted


def words_of(pairs: Sequence[tuple[str, str]], terms: Sequence[str]) -> list[list[tuple[str, int]]]:
    """The words of each term, by (word as it is written, its term) of every token in order."""
    found: dict[str, Counter[str]] = {term: Counter() for term in terms}
    for word, term in pairs:
        found[term][word] += 1
    return [list(found[term].items()) for term in terms]


def live(segments: Sequence[Segment], name: str = "") -> dict[str, list[tuple[int, list[int]]]]:
    """(document, its positions) of each term in the documents that are not deleted, which are
    numbered from the first segment on; an empty list where there are no positions.

    name : of a field, "" for the text
    """
    found: dict[str, list[tuple[int, list[int]]]] = {}
    first = 0
    for segment in segments:
        one = segment.fields[name] if name else segment.inverted
        rows = [row for row in range(len(one.lengths)) if row not in segment.deleted]
        number = {row: first + at for at, row in enumerate(rows)}
        for term, postings in enumerate(one.postings):
            for at, (row, _) in enumerate(postings):
                if row in number:
                    own = [] if one.positions is None else one.positions[term][at]
                    found.setdefault(one.terms[term], []).append((number[row], own))
        first += len(rows)
    return found


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
    assert manifest["format_version"] in (2, 3, 5)
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


# ---- versions 2, 3 and 5: a container for each segment, and a file of deletions; 3 may have words,
# and 5 is 3 with stored columns in parts


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
        stored_positions = settings.get("positions", False)
        fields = {field: _of_field(arrays, field) for field in settings.get("fields", [])}
        segment = Segment(
            _inverted(arrays, stored_positions),
            fields={field: _inverted(own, stored_positions) for field, own in fields.items()},
        )
        rows = len(segment.inverted.lengths)
        if entry["deleted"]:
            size = -(-rows // 8)
            bits = int.from_bytes(bitmaps[:size], "little")
            bitmaps = bitmaps[size:]
            segment.deleted = {row for row in range(rows) if bits >> row & 1}
            assert bits < 1 << rows
        assert all(len(own.lengths) == rows for own in segment.fields.values())
        told = {"name": name, "documents": rows, "deleted": len(segment.deleted)}
        told |= _numbers(segment.inverted, segment.deleted)
        if segment.fields:
            told["fields"] = {
                field: _numbers(own, segment.deleted) for field, own in segment.fields.items()
            }
        assert entry == told
        assert len(segment.deleted) < rows
        totals.update({key: entry[key] for key in ("terms", "postings", "tokens")})
        totals["documents"] += rows - len(segment.deleted)
        both = [segment.inverted, *segment.fields.values()]
        assert manifest["format_version"] != 2 or all(own.words is None for own in both)
        expected = _array_names(segment.inverted)
        for name, own in segment.fields.items():
            expected.update(f"{name}/{array}" for array in _array_names(own))
        if schema.names:
            expected.update(DOCUMENTS)
            if PARTS[0] in arrays:
                assert manifest["format_version"] == 5
                expected.update(PARTS)
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


def _array_names(inverted: Inverted) -> set[str]:
    """The names of the arrays of an inverted index."""
    names = {*POSTINGS}
    if is_packed(frequencies(inverted)):
        names = names - {"posting_tfs"} | {PACKED_TFS}
    names |= set() if inverted.positions is None else {*POSITIONS}
    return names if inverted.words is None else {*names, *WORDS}


def frequencies(inverted: Inverted) -> list[int]:
    """The frequency of every posting, in the order of terms."""
    return [tf for postings in inverted.postings for _, tf in postings]


def is_packed(tfs: Sequence[int]) -> bool:
    """Whether two frequencies share a byte: where at most 1 of 48 needs a whole one."""
    return 48 * sum(15 <= tf < 255 for tf in tfs) <= len(tfs)


def _of_field(arrays: Arrays, name: str) -> Arrays:
    """The arrays of a field, without its name."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _numbers(inverted: Inverted, deleted: set[int]) -> dict[str, int]:
    """The statistics of a segment's text or of one of its fields."""
    lengths = enumerate(inverted.lengths)
    return {
        "tokens": sum(length for row, length in lengths if row not in deleted),
        "terms": len(inverted.terms),
        "postings": sum(len(postings) for postings in inverted.postings),
    }


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
    rows, sizes = arrays["group_rows"].tolist(), arrays["group_bytes"].tolist()
    zeros = [0] * len(schema), [0] * len(rows)
    of_column, of_group = (
        [arrays[name].tolist() for name in PARTS] if PARTS[0] in arrays else zeros
    )
    assert len(of_column) == len(schema)
    columns: dict[str, pa.ChunkedArray] = {}
    batches: dict[int, list[pa.RecordBatch]] = {part: [] for part in of_column}
    schemas = {
        part: pa.schema([f for f, own in zip(schema, of_column, strict=True) if own == part])
        for part in batches
    }
    for count, size, part in zip(rows, sizes, of_group, strict=True):
        with ipc.open_stream(raw[:size]) as stream:
            assert stream.schema.equals(schemas[part])
            (batch,) = stream
        assert 0 < batch.num_rows == count <= 4096
        batches[part].append(batch)
        raw = raw[size:]
    assert raw == b""
    for part, own in batches.items():
        table = pa.Table.from_batches(own, schemas[part])
        columns |= dict(zip(table.schema.names, table.columns, strict=True))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _check_ids(arrays: Arrays, ids: pa.ChunkedArray) -> None:
    """The table of ids: the upper halves of their hashes, ascending, and their rows."""
    hashes, rows = arrays["id_hashes"].tolist(), arrays["id_rows"].tolist()
    pairs = list(zip(hashes, rows, strict=True))
    assert [known for known, _ in pairs] == sorted(known for known, _ in pairs)
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


def _inverted(arrays: Arrays, positions: bool = False) -> Inverted:
    for name, dtype in DTYPES.items():
        assert name not in arrays or arrays[name].dtype == dtype
    narrow = {"term_runs", "term_lengths", "document_lengths", "group_rows", "group_bytes"}
    narrow |= {"position_blocks", "term_words", "word_lengths"}
    for name in narrow & arrays.keys():
        largest = int(arrays[name].max(initial=0))
        assert arrays[name].dtype == np.min_scalar_type(largest)  # the narrowest that fits
    raw_terms = arrays["term_bytes"].tobytes()
    ends = np.cumsum(arrays["term_lengths"], dtype=np.int64).tolist()
    terms = [raw_terms[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert len(raw_terms) == (ends[-1] if ends else 0)
    assert len(terms) == len(arrays["term_runs"])
    lengths = arrays["document_lengths"].tolist()
    docs = arrays["posting_docs"].tolist()
    tfs = _read_frequencies(arrays, len(docs))
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
                found.append((window * WINDOW + row, tfs[i]))
            at += count + 1
        postings.append(found)
        run += runs
    assert at == len(docs) == len(tfs)
    assert run == len(windows) == len(counts)
    _check_slots(arrays["term_slots"].tolist(), [term.encode() for term in terms])
    found_positions = _positions(arrays, postings) if positions else None
    words = _words(arrays, terms, postings) if "term_words" in arrays else None
    return Inverted(terms, postings, lengths, found_positions, words)


def _words(
    arrays: Arrays, terms: list[str], postings: list[list[tuple[int, int]]]
) -> list[list[tuple[str, int]]]:
    """The words of every term; one without any in the arrays is its only word."""
    raw, packed = arrays["word_bytes"].tobytes(), arrays["word_counts"].tobytes()
    lengths = arrays["word_lengths"].tolist()
    start = word = at = 0
    found = []
    assert len(arrays["term_words"]) == len(terms)
    for term, own_postings, count in zip(
        terms, postings, arrays["term_words"].tolist(), strict=True
    ):
        occurrences = sum(tf for _, tf in own_postings)
        own = []
        for _ in range(count):
            text = raw[start : start + lengths[word]].decode()
            times, end = read_integer(packed, at)
            assert packed[at:end] == integer(times)
            own.append((text, times))
            start, word, at = start + lengths[word], word + 1, end
        if own:
            assert [text for text, _ in own] != [term]
            assert all(times > 0 for _, times in own)
            # more where words of deleted documents could not be subtracted
            assert sum(times for _, times in own) >= occurrences
        found.append(own or [(term, occurrences)])
    assert (start, word, at) == (len(raw), len(lengths), len(packed))
    every = [text for own in found for text, _ in own]
    assert len(every) == len(set(every))
    return found


def _read_frequencies(arrays: Arrays, postings: int) -> list[int]:
    """The frequency of every posting: bytes, or halves of them, the lower first."""
    if PACKED_TFS in arrays:
        mark, stored = 15, []
        for byte in arrays[PACKED_TFS].tolist():
            stored += [byte & 15, byte >> 4]
        assert len(stored) == postings + postings % 2
        assert stored[postings:] in ([], [0])
        del stored[postings:]
    else:
        mark, stored = 255, arrays["posting_tfs"].tolist()
    places, values = arrays["large_at"].tolist(), arrays["large_tfs"].tolist()
    assert [at for at, tf in enumerate(stored) if tf == mark] == places
    assert all(tf >= mark for tf in values)
    large = dict(zip(places, values, strict=True))
    return [large.get(at, tf) for at, tf in enumerate(stored)]


def _positions(arrays: Arrays, postings: list[list[tuple[int, int]]]) -> list[list[list[int]]]:
    """The positions of every posting: the first and the distances to each next one, in bytes of
    seven bits, the lowest first; the last byte of a number is below 128."""
    raw = arrays["positions"].tobytes()
    at = 0
    sizes: list[int] = []  # bytes of each posting's
    found: list[list[list[int]]] = []
    for term in postings:
        of_term = []
        for _, tf in term:
            start, position, own = at, 0, []
            for _ in range(tf):
                value, end = read_integer(raw, at)
                assert raw[at:end] == integer(value)  # no longer than needed
                assert value > 0 or not own
                position, at = position + value, end
                own.append(position)
            sizes.append(at - start)
            of_term.append(own)
        found.append(of_term)
    assert at == len(raw)
    blocks = [sum(sizes[start : start + BLOCK]) for start in range(0, len(sizes) + 1, BLOCK)]
    assert arrays["position_blocks"].tolist() == blocks
    return found


def integer(value: int) -> bytes:
    """A number in bytes of seven bits, the lowest first, all but the last with the high bit."""
    raw = bytearray()
    while value >= 128:
        raw.append(value & 127 | 128)
        value >>= 7
    return bytes([*raw, value])


def read_integer(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and the place after it."""
    value = shift = 0
    while True:
        value |= (raw[at] & 127) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 128:
            return value, at


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
