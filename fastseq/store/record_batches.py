"""Reading of some columns of an Arrow IPC stream of one record batch.

pyarrow's reader takes 0.1 ms for a stream, mostly to set up, and wants all of its bytes. The stored
columns of an index are one stream for each group of documents, thousands of them, of which a filter
or a facet needs one column. Here only the bytes of the message's metadata and of the columns are
read.

Format: Arrow's "Columnar Format", section "Serialization and Interprocess Communication (IPC)", and
the tables Message and RecordBatch of its Message.fbs. Metadata are FlatBuffers: a table begins with
the distance back to its vtable, which has the offset of each of its fields, 0 for a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice, repeat
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from fastseq.types import Int64, UInt8, offsets_of

_PREFIX = Struct("<II")  # of a message: a continuation marker and the bytes of its metadata
_CONTINUATION = 0xFFFFFFFF
_HEAD = 4096  # bytes that are read first: they have the metadata of most streams
_RECORD_BATCH = 3  # of MessageHeader
_ZSTD = 1  # of CompressionType
_INT16, _INT32 = Struct("<H"), Struct("<i")
_NONE = np.zeros(8, np.uint8)  # the length, int64, of a buffer without bytes


class _Streams(NamedTuple):
    """Where the buffers of G streams of one schema are.

    rows     int64[G]
    nodes    int64[G, N, 2]: length and nulls of each array, nested ones among them
    starts, stops  int64[G, B]: offsets of each buffer
    """

    rows: Int64
    nodes: Int64
    starts: Int64
    stops: Int64


class _Layout(NamedTuple):
    """Metadata of a stream, which those of other streams equal in all bytes but some.

    end       bytes of the metadata
    variable  (offset, bytes) of the length of the body, the rows, the nodes and the buffers
    is_fixed  bool[end]: the bytes that are not in these
    fixed     uint8[…]: their values
    """

    end: int
    variable: list[tuple[int, int]]
    is_fixed: npt.NDArray[np.bool_]
    fixed: UInt8


class RecordBatchReader:
    """Reads columns of streams that all have the same schema.

    Parameters
    ----------
    read : the bytes of several ranges, from one offset each to another, as objects with the buffer
        interface
    schema : of the streams, without dictionaries, views and run-end encoding
    """

    def __init__(
        self, read: Callable[[list[int], list[int]], Sequence[Any]], schema: pa.Schema
    ) -> None:
        self._read = read
        self._schema = schema
        self._layouts: list[_Layout] = []
        self._codec = pa.Codec("zstd")
        self._first = [(0, 0)]  # (node, buffer) of each column
        for kind in schema.types:
            nodes, buffers = self._first[-1]
            self._first.append((nodes + _nodes(kind), buffers + _buffers(kind)))

    def columns(
        self, bounds: Sequence[tuple[int, int]], numbers: Sequence[int], apart: bool = False
    ) -> tuple[Int64, list[list[pa.Array]]]:
        """int64[G] rows of G streams, and of each of some columns its values in them, in order.

        bounds : (first, last) offset of each stream
        numbers : of the columns
        apart : whether each stream has an array of its own, with memory that goes when the array
            does; otherwise an array may be that of all streams

        Raises ValueError, IndexError, struct.error or ArrowException for a stream that is damaged,
        or of another schema or compression; what `read` raises.
        """
        streams = self._streams(bounds)
        found = []
        for number in numbers:
            kind = self._schema.types[number]
            (node, first), (last_node, last) = self._first[number : number + 2]
            nodes = streams.nodes[:, node:last_node].reshape(len(bounds), 2 * (last_node - node))
            buffers = self._buffers(streams.starts[:, first:last], streams.stops[:, first:last])
            if not apart:
                whole = _joined(kind, nodes, buffers)
                if whole is not None:
                    found.append([whole])
                    continue
            else:
                buffers = [[pa.py_buffer(one.to_pybytes()) for one in many] for many in buffers]
            own = zip(*buffers, strict=True) if buffers else repeat(())
            found.append(list(map(partial(_array, kind), nodes.tolist(), own)))
        return streams.rows, found

    def _streams(self, bounds: Sequence[tuple[int, int]]) -> _Streams:
        nodes, buffers = self._first[-1]
        rows, pairs = [np.zeros((len(bounds), n), np.int64) for n in (1, 2 * (nodes + buffers))]
        bodies = np.zeros((len(bounds), 1), np.int64)
        known = iter(self._layouts.copy())
        left = np.arange(len(bounds))
        while len(left):
            layout = next(known, None) or self._new_layout(*bounds[left[0]])
            begins = [bounds[number][0] for number in left.tolist()]
            cuts = [
                min(bounds[number][1], start + layout.end)
                for number, start in zip(left.tolist(), begins, strict=True)
            ]
            heads = np.zeros((len(left), layout.end), np.uint8)
            for head, found in zip(heads, self._read(begins, cuts), strict=True):
                head[: len(found)] = np.frombuffer(found, np.uint8)
            same = np.all(heads[:, layout.is_fixed] == layout.fixed, axis=1)
            ints = [
                np.ascontiguousarray(heads[same, at : at + size]).view(np.int64)
                for at, size in layout.variable
            ]
            these, left = left[same], left[~same]
            rows[these], pairs[these] = ints[1], np.concatenate(ints[2:], axis=1)
            bodies[these, 0] = np.array(begins)[same] + layout.end
        places = pairs[:, 2 * nodes :].reshape(len(bounds), buffers, 2)
        starts = bodies + places[:, :, 0]
        stops = starts + places[:, :, 1]
        ends = np.array([stop for _, stop in bounds], np.int64).reshape(-1, 1)
        if not np.all((bodies <= starts) & (starts <= stops) & (stops <= ends)):
            raise ValueError("a buffer outside of its stream")
        return _Streams(rows[:, 0], pairs[:, : 2 * nodes].reshape(-1, nodes, 2), starts, stops)

    def _new_layout(self, start: int, stop: int) -> _Layout:
        """The layout of the metadata of a stream, which is one of the known layouts from then on:
        there is one for each version of Arrow that wrote some of the streams."""
        head = self._view(start, min(stop, start + _HEAD))
        begin, end = _metadata(head, 0)
        if end + _PREFIX.size > len(head):
            head = self._view(start, min(stop, start + end + _HEAD))
        if not ipc.read_schema(pa.py_buffer(head[:end])).equals(self._schema):
            raise ValueError("not the schema of the index")
        begin, end = _metadata(head, end)
        if end > len(head):
            head = self._view(start, min(stop, start + end))
        layout = _layout_of(head[:end], begin, self._first[-1])
        self._layouts.append(layout)
        return layout

    def _view(self, start: int, stop: int) -> memoryview:
        (found,) = self._read([start], [stop])
        return memoryview(found)

    def _buffers(self, starts: Int64, stops: Int64) -> list[list[pa.Buffer]]:
        """Of each of B buffers its contents in G streams. They are decompressed together, as one
        sequence of frames: a call takes 20 µs, however few the bytes are.

        starts, stops : int64[G, B]
        """
        if not starts.size:
            return [[] for _ in range(starts.shape[1])]
        low = starts.min(axis=1)
        spans = [
            np.frombuffer(span, np.uint8)
            for span in self._read(low.tolist(), stops.max(axis=1).tolist())
        ]
        raw = np.concatenate([*spans, _NONE])
        places = offsets_of([len(span) for span in spans])[:-1, np.newaxis]
        begin, end = [(at - low[:, np.newaxis] + places).T.reshape(-1) for at in (starts, stops)]
        is_empty = begin == end
        # of an empty one those of the end of `raw`
        heads = np.where(is_empty, len(raw) - len(_NONE), begin)
        begin = np.where(is_empty, end, begin + len(_NONE))
        if np.any(begin > end):
            raise ValueError("a buffer without its length")
        lengths = raw[heads[:, np.newaxis] + np.arange(len(_NONE))].view(np.int64).reshape(-1)
        view = memoryview(raw.data)
        is_compressed = lengths > 0  # -1: stored as they are
        bounds = list(zip(begin.tolist(), end.tolist(), strict=True))
        frames = [view[a:b] for (a, b), one in zip(bounds, is_compressed, strict=True) if one]
        sizes = lengths[is_compressed].tolist()
        parts: Iterator[pa.Buffer] = iter(())
        if frames:
            every = self._codec.decompress(b"".join(frames), sum(sizes))
            if every.size != sum(sizes):
                raise ValueError("a buffer of another length")
            parts = map(every.slice, accumulate(sizes, initial=0), sizes)
        found = [
            next(parts) if one else pa.py_buffer(view[a:b])
            for (a, b), one in zip(bounds, is_compressed.tolist(), strict=True)
        ]
        streams = len(starts)
        return [found[first : first + streams] for first in range(0, len(found), streams)]


def _metadata(view: memoryview, at: int) -> tuple[int, int]:
    """(first byte, end) of the metadata of the message at an offset."""
    marker, size = _PREFIX.unpack_from(view, at)
    if marker != _CONTINUATION or not size:
        raise ValueError("not a message of Arrow")
    return at + _PREFIX.size, at + _PREFIX.size + size


def _layout_of(view: memoryview, at: int, sizes: tuple[int, int]) -> _Layout:
    """The layout of the message of a record batch whose metadata begin at an offset, and end with
    the view.

    sizes : its nodes and buffers
    """
    message = _reference(view, at)
    kind, header = _field(view, message, 1), _field(view, message, 2)
    if not kind or view[kind] != _RECORD_BATCH or not header:
        raise ValueError("not a record batch")
    batch = _reference(view, header)
    compression = _field(view, batch, 3)
    codec = _field(view, _reference(view, compression), 0) if compression else 0
    if not codec or view[codec] != _ZSTD:
        raise ValueError("not compressed as the index is")
    variable = [(_field(view, message, 3), 8), (_field(view, batch, 0), 8)]
    for number, size in enumerate(sizes, 1):
        field = _field(view, batch, number)
        vector = _reference(view, field) if field else 0
        if not vector or _INT32.unpack_from(view, vector)[0] != size:
            raise ValueError("not the arrays of the schema")
        variable.append((vector + 4, 16 * size))
    if not all(0 < at <= at + size <= len(view) for at, size in variable):
        raise ValueError("metadata without its fields")
    is_fixed = np.ones(len(view), np.bool_)
    for at, size in variable:
        is_fixed[at : at + size] = False
    return _Layout(len(view), variable, is_fixed, np.frombuffer(view, np.uint8)[is_fixed])


def _reference(view: memoryview, at: int) -> int:
    """The offset of the table or vector that a field refers to."""
    return at + int(_INT32.unpack_from(view, at)[0])


def _field(view: memoryview, table: int, number: int) -> int:
    """The offset of a field of a table; 0 where it has its default."""
    vtable = table - _INT32.unpack_from(view, table)[0]
    slot = 4 + 2 * number
    if slot >= _INT16.unpack_from(view, vtable)[0]:
        return 0
    offset: int = _INT16.unpack_from(view, vtable + slot)[0]
    return table + offset if offset else 0


def _children(kind: pa.DataType) -> list[pa.DataType]:
    return [kind.field(i).type for i in range(kind.num_fields)]


def _stored(kind: pa.DataType) -> int:
    """The buffers of a type itself in a stream: unions and nulls have no validity there."""
    no_validity = pa.types.is_null(kind) or pa.types.is_union(kind)
    return int(kind.num_buffers) - int(no_validity)


def _nodes(kind: pa.DataType) -> int:
    return 1 + sum(map(_nodes, _children(kind)))


def _buffers(kind: pa.DataType) -> int:
    return _stored(kind) + sum(map(_buffers, _children(kind)))


def _joined(
    kind: pa.DataType, nodes: Int64, buffers: Sequence[Sequence[pa.Buffer]]
) -> pa.Array | None:  # fmt: skip
    """The arrays of G streams as one: of a thousand streams, it takes a tenth of the time of an
    array for each. None unless they are numbers or strings, without nulls and superfluous bytes.

    nodes : int64[G, 2 or more]
    """
    is_string = pa.types.is_string(kind)
    is_number = pa.types.is_primitive(kind) and kind.bit_width >= 8
    if not (is_string or is_number) or nodes[:, 1].any():
        return None
    sizes = np.array([[buffer.size for buffer in many] for many in buffers[1:]], np.int64)
    data = pa.py_buffer(b"".join(buffers[-1]))
    lengths, rows = nodes[:, 0], int(nodes[:, 0].sum())
    if is_number:
        if not np.array_equal(sizes[0], lengths * (kind.bit_width // 8)):
            return None
        return pa.Array.from_buffers(kind, rows, [None, data], 0)
    if not np.array_equal(sizes[0], (lengths + 1) * 4) or data.size >= 1 << 31:
        return None
    offsets = np.frombuffer(b"".join(buffers[1]), np.int32)
    ends = np.cumsum(lengths + 1)
    if offsets[ends - lengths - 1].any() or not np.array_equal(offsets[ends - 1], sizes[1]):
        return None
    before = np.repeat(offsets_of(sizes[1])[:-1].astype(np.int32), lengths + 1)
    moved = np.append(np.delete(offsets + before, ends - 1), np.int32(data.size))
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(moved), data], 0)


def _array(kind: pa.DataType, nodes: Iterable[int], buffers: Iterable[pa.Buffer]) -> pa.Array:
    """The array of some nodes and buffers."""
    array = _next_array(kind, iter(nodes), iter(buffers))
    array.validate()
    return array


def _next_array(kind: pa.DataType, nodes: Iterator[int], buffers: Iterator[pa.Buffer]) -> pa.Array:
    """The array of the next nodes and buffers, after which both are past it."""
    length, nulls = next(nodes), next(nodes)
    own: list[pa.Buffer | None] = list(islice(buffers, _stored(kind)))
    if len(own) < kind.num_buffers:
        own.insert(0, None)
    elif not nulls:
        own[0] = None
    if not kind.num_fields:
        return pa.Array.from_buffers(kind, length, own, nulls)
    children = [_next_array(child, nodes, buffers) for child in _children(kind)]
    return pa.Array.from_buffers(kind, length, own, nulls, children=children)
