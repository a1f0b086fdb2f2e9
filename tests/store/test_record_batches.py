"""Columns of Arrow streams, against pyarrow's own reader."""

from __future__ import annotations

import datetime
import random
import struct
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.store.record_batches import RecordBatchReader

STRINGS: list[Any] = ["", "a", "é猫", "x" * 3000, None]
TYPES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [1, -5, None]),
    (pa.uint64(), [2**64 - 1, 0, None]),
    (pa.float32(), [1.5, float("inf"), None]),
    (pa.bool_(), [True, False, None]),
    (pa.string(), STRINGS),
    (pa.binary(), [b"", b"\xff", None]),
    (pa.binary(4), [b"abcd", None]),
    (pa.decimal128(6, 2), [Decimal("1.10"), None]),
    (pa.date32(), [datetime.date(2000, 2, 29), None]),
    (pa.timestamp("ms", "UTC"), [datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), None]),
    (pa.month_day_nano_interval(), [(1, 2, 3), None]),
    (pa.null(), [None]),
    (pa.list_(pa.string()), [[], ["a", None], STRINGS, None]),
    (pa.large_list(pa.int16()), [[1], [], None]),
    (pa.list_(pa.int8(), 2), [[1, 2], [None, 3], None]),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [], None]),
    (pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), [{"a": 1, "b": ["x"]}, None]),
    (pa.struct([("n", pa.null()), ("c", pa.bool_())]), [{"n": None, "c": True}, None]),
]  # fmt: skip
SCHEMA = pa.schema([(f"c{number}", kind) for number, (kind, _) in enumerate(TYPES)])
OPTIONS: dict[str, Any] = {"compression": pa.Codec("zstd", 1)}


def stream(rows: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    chosen = ipc.IpcWriteOptions(**OPTIONS | options)
    with ipc.new_stream(sink, rows.schema, options=chosen) as writer:
        writer.write_batch(rows)
    raw: bytes = sink.getvalue().to_pybytes()
    return raw


def random_rows(rng: random.Random, rows: int) -> pa.RecordBatch:
    columns = [pa.array([rng.choice(values) for _ in range(rows)], kind) for kind, values in TYPES]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def reader_of(parts: list[bytes], schema: pa.Schema) -> tuple[RecordBatchReader, Any]:
    """A reader of streams that follow 3 other bytes, and their bounds."""
    whole = b"xyz" + b"".join(parts)
    ends = np.cumsum([3, *map(len, parts)]).tolist()
    data = np.frombuffer(whole, np.uint8)

    def read(starts: list[int], stops: list[int]) -> list[Any]:
        return [data[start:stop] for start, stop in zip(starts, stops, strict=True)]

    return RecordBatchReader(read, schema), list(pairwise(ends))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=6),
    st.lists(st.integers(0, len(TYPES) - 1), max_size=5),
)
def test_columns_are_those_that_pyarrow_reads(
    seed: int, sizes: list[tuple[int, bool]], columns: list[int]
) -> None:
    rng = random.Random(seed)
    batches = [random_rows(rng, rows) for rows, _ in sizes]
    # another version of Arrow would write the same metadata as other bytes
    parts = [
        stream(batch.replace_schema_metadata({"made": "elsewhere"} if other else None))
        for batch, (_, other) in zip(batches, sizes, strict=True)
    ]
    reader, bounds = reader_of(parts, SCHEMA)
    for _ in range(2):  # the layout is known then
        for apart in (False, True):
            rows, found = reader.columns(bounds, columns, apart)
            assert rows.tolist() == [size for size, _ in sizes]
            for column, arrays in zip(columns, found, strict=True):
                expected = [next(iter(ipc.open_stream(part))).column(column) for part in parts]
                if not apart and len(arrays) == 1:
                    expected = [pa.concat_arrays(expected)]
                assert len(arrays) == len(expected)
                for array, own in zip(arrays, expected, strict=True):
                    assert array.equals(own)
                    array.validate(full=True)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.date32(), pa.string()])
def test_numbers_and_strings_of_several_streams_are_one_array(kind: pa.DataType) -> None:
    values = [[3, 1], [0], [2], [5, 0, 4]]
    parts = [pa.array([str(n) * n for n in own] if kind == pa.string() else own) for own in values]
    parts = [pa.array(part.to_pylist(), kind) for part in parts]
    schema = pa.schema([("a", kind)])
    streams = [stream(pa.record_batch([part], schema)) for part in parts]
    reader, bounds = reader_of(streams, schema)
    _, ((whole,),) = reader.columns(bounds, [0])
    assert whole.equals(pa.concat_arrays(parts))
    whole.validate(full=True)
    # with a null, each has an array of its own
    streams[2] = stream(pa.record_batch([pa.nulls(1, kind)], schema))
    reader, bounds = reader_of(streams, schema)
    _, (own,) = reader.columns(bounds, [0])
    assert [len(array) for array in own] == [2, 1, 1, 3]


def test_many_columns_whose_metadata_are_long() -> None:
    names = [f"column {number} " + "x" * 100 for number in range(300)]
    rows = pa.RecordBatch.from_pydict({name: [number] for number, name in enumerate(names)})
    reader, bounds = reader_of([stream(rows)] * 3, rows.schema)
    _, found = reader.columns(bounds, [0, 299, 150], apart=True)
    assert [[part.to_pylist() for part in parts] for parts in found] == [
        [[0]] * 3, [[299]] * 3, [[150]] * 3
    ]  # fmt: skip


def test_unions_and_buffers_that_are_not_compressed() -> None:
    pair = pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]
    )
    numbers = np.random.default_rng(1).integers(-(2**63), 2**63, 3)
    rows = pa.RecordBatch.from_pydict({"n": pa.array(numbers), "pair": pair})
    raw = stream(rows)
    # a buffer with the length -1 is as it is: of random numbers the frame is longer
    frame = struct.pack("<q", 24)
    at = raw.rindex(frame, 0, raw.index(b"\x28\xb5\x2f\xfd") + 4)
    raw = raw[:at] + struct.pack("<q", -1) + numbers.tobytes() + raw[at + 32 :]
    reader, bounds = reader_of([raw], rows.schema)
    _, found = reader.columns(bounds, [0, 1])
    assert found[0][0].equals(rows.column(0))
    assert found[1][0].equals(pair)


@pytest.mark.parametrize("options", [{"compression": None}, {"compression": pa.Codec("lz4")}])
def test_other_compression_is_an_error(options: dict[str, Any]) -> None:
    rows = random_rows(random.Random(1), 5)
    reader, bounds = reader_of([stream(rows, **options)], SCHEMA)
    with pytest.raises(ValueError, match="not compressed as the index is"):
        reader.columns(bounds, [0])


def test_another_schema_is_an_error() -> None:
    rows = pa.RecordBatch.from_pydict({"a": [1]})
    others = pa.RecordBatch.from_pydict({"a": ["x"]})
    reader, bounds = reader_of([stream(rows), stream(others)], rows.schema)
    with pytest.raises(ValueError, match="not the schema"):
        reader.columns(bounds, [0])


def test_damaged_streams_are_errors_and_never_crash() -> None:
    """Any bytes changed, without checksums: an exception of the documented kinds, or some arrays
    that are valid."""
    rng = random.Random(5)
    rows = random_rows(rng, 20)
    raw = stream(rows)
    errors = (ValueError, IndexError, OverflowError, MemoryError, struct.error, OSError)
    failures = 0
    for _ in range(400):
        damaged = bytearray(raw)
        for _ in range(rng.choice([1, 1, 4])):
            # not the lengths of decompressed buffers, which would be allocated
            damaged[rng.randrange(len(raw) // 2)] = rng.randrange(256)
        reader, bounds = reader_of([bytes(damaged)], SCHEMA)
        try:
            _, found = reader.columns(bounds, range(len(TYPES)))
        except (*errors, pa.ArrowException):
            failures += 1
        else:
            assert all(len(parts) == 1 for parts in found)
    assert failures > 100
