"""Arrow arrays of every string-like type, as the plain arrays that kernels take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from fastseq.errors import RowError
from fastseq.types import Int64, Texts, UInt8

INT32_MAX = 2**31 - 1


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column is brought to: string or binary for their large, view and dictionary
    relatives, the value type of any other dictionary, the storage of an extension."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def is_string(kind: pa.DataType) -> bool:
    """Whether a plain type is UTF-8 strings."""
    return bool(pa.types.is_string(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain type can be read as text: strings, bytes, or a column of nulls alone."""
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind))


def byte_lengths(array: pa.Array) -> Int64:
    """int64[n]: bytes of each value of a string-like array of any type, without a copy of the
    text. A null counts 0, or what its slot happens to hold.

    Raises
    ------
    RowError
        The array's offsets descend: it is damaged.
    """
    kind, n = array.type, len(array)
    lengths: Int64
    if isinstance(array, pa.ExtensionArray):
        return byte_lengths(array.storage)
    if n == 0 or pa.types.is_null(kind):
        return np.zeros(n, np.int64)
    if pa.types.is_dictionary(kind):
        of_values = byte_lengths(array.dictionary)
        if len(of_values) == 0:
            return np.zeros(n, np.int64)
        codes = array.indices.fill_null(0) if array.null_count else array.indices
        lengths = of_values[codes.to_numpy(zero_copy_only=False)]
        return lengths
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        # a view is four int32, the first of them the length
        views = np.frombuffer(array.buffers()[1], np.int32)
        lengths = views[4 * array.offset : 4 * (array.offset + n) : 4].astype(np.int64)
    else:
        lengths = np.diff(_offsets(array))
    if lengths.min() < 0:
        raise RowError(0, "an Arrow array of strings is damaged: its offsets descend")
    return lengths


def plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array as `kind`, which is the `plain_type` of its type or one it can be cast to.

    Raises
    ------
    RowError
        More than 2 GiB of text, or a value that `kind` cannot hold.
    """
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        values = array.dictionary
        if pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type):
            values = values.cast(plain_type(values.type))  # Arrow cannot take from views
        return plain(values.take(array.indices), kind)
    if array.type == kind:
        return array
    try:
        if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type):
            return _narrow(array, kind)
        return array.cast(kind)
    except pa.ArrowException as error:
        row = next((i for i in range(len(array)) if not _fits(array.slice(i, 1), kind)), 0)
        problem = f"a value of type {array.type} that does not fit {kind}: {error}"
        raise RowError(row, problem) from error


def _fits(array: pa.Array, kind: pa.DataType) -> bool:
    try:
        array.cast(kind)
    except pa.ArrowException:
        return False
    return True


def first_null(array: pa.Array) -> int:
    """The number of the first null of an array that has one."""
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def texts_of(parts: Sequence[pa.Array]) -> tuple[Texts, int]:
    """The texts of one or several plain columns, joined by a space, and how many rows are null.

    A null is an empty text; beside other columns it leaves its space. A row counts as null when
    every part is. The bytes are those of the Arrow buffers where that can be (one column without
    nulls) and must not be written to.
    """
    import pyarrow.compute as pc  # slow to import, and readers of an index have no need of it

    if any(part.null_count for part in parts):
        empty = parts[0].is_null()
        for part in parts[1:]:
            empty = pc.and_(empty, part.is_null())
        nulls = int(pc.sum(empty).as_py() or 0)
    else:
        nulls = 0
    if len(parts) > 1:
        size = sum(int(byte_lengths(part).sum()) + len(part) for part in parts)
        kind = pa.binary() if size <= INT32_MAX else pa.large_binary()
        joined = pc.binary_join_element_wise(
            *(part.cast(kind) for part in parts),
            string_scalar(" ", kind),
            null_handling="replace",
            null_replacement=b"",
        )
    else:
        joined = parts[0]
        if pa.types.is_null(joined.type):
            joined = joined.cast(pa.string())
        if joined.null_count:
            joined = joined.fill_null(string_scalar("", joined.type))
    return to_texts(joined), nulls


def to_texts(array: pa.Array) -> Texts:
    """Texts over the buffers of an array of (large) strings or binaries without nulls.

    Raises
    ------
    RowError
        The offsets point outside of the data: the array is damaged.
    """
    if len(array) == 0:
        return Texts(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    offsets = _offsets(array).astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    data = writable_bytes(array.buffers()[2])
    if not 0 <= first <= last <= len(data):
        raise RowError(0, "an Arrow array of strings is damaged: its offsets leave its data")
    offsets -= first
    return Texts(data[first:last], offsets)


def writable_bytes(buffer: pa.Buffer | None) -> UInt8:
    """The bytes of an Arrow buffer as an array that says that it is writable. Do not write to it.

    np.frombuffer gives a read-only array, because Arrow's buffers are immutable; to Numba that is
    another type, for which every kernel would be compiled a second time.
    """
    if buffer is None or buffer.size == 0:
        return np.zeros(0, np.uint8)
    return np.asarray(_Borrowed(buffer))


class _Borrowed:
    """An Arrow buffer under NumPy's array interface; the array made of it keeps it alive."""

    def __init__(self, buffer: pa.Buffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "version": 3,
            "shape": (buffer.size,),
            "typestr": "|u1",
            "data": (buffer.address, False),
        }


def int64_array(values: Int64) -> pa.Array:
    """The Arrow array over int64 values. `pa.array` and `pa.scalar` would import pandas, where
    there is one, to ask whether this is a Series: half a second in the life of a short command."""
    values = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def id_array(ids: Iterable[str] | Iterable[int] | pa.Array | pa.ChunkedArray) -> pa.Array:
    """One Arrow array of ids: of Python strings, of integers (a NumPy array, say), or the Arrow
    array that they are already, in one chunk."""
    if isinstance(ids, pa.ChunkedArray):
        whole = ids.combine_chunks()
        return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    if isinstance(ids, pa.Array):
        return ids
    values = ids if isinstance(ids, np.ndarray) else list(ids)
    if isinstance(values, np.ndarray) or (values and not isinstance(values[0], str)):
        numbers = np.asarray(values)
        if numbers.dtype == np.uint64:  # ids beyond the largest int64
            return pa.Array.from_buffers(pa.uint64(), len(numbers), [None, pa.py_buffer(numbers)])
        return int64_array(np.asarray(numbers, np.int64))
    return _string_array(values, pa.string())


def string_scalar(value: str, kind: pa.DataType) -> pa.Scalar:
    """An Arrow scalar of a (large) string or binary type."""
    return _string_array([value], kind)[0]


def _string_array(values: Iterable[str], kind: pa.DataType) -> pa.Array:
    texts = Texts.from_strings(values)
    large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    offsets = texts.offsets if large else texts.offsets.astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(kind, len(texts), buffers)


def valid_utf8(array: pa.Array) -> bool:
    """Whether every string of an array of strings is UTF-8. Arrow does not check it on reading."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def repaired(array: pa.Array) -> pa.Array:
    """An array of strings with U+FFFD where the bytes are not UTF-8."""
    if valid_utf8(array):
        return array
    values = array.cast(pa.binary()).to_pylist()
    return pa.array(
        [None if value is None else value.decode("utf-8", "replace") for value in values],
        pa.string(),
    )


def _offsets(array: pa.Array) -> Int64:
    """The n + 1 offsets of a (large) string or binary array, int32 or int64, a view."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    buffer = array.buffers()[1]
    offsets: Int64 = np.frombuffer(buffer, np.int64 if large else np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]


def _narrow(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A large array with 32-bit offsets. Arrow's own cast refuses a short slice that lies beyond
    2 GiB of its buffer."""
    if len(array) == 0:
        return pa.array([], kind)
    offsets = _offsets(array)
    first, last = int(offsets[0]), int(offsets[-1])
    if last - first > INT32_MAX:
        raise RowError(0, "a text of more than 2 GiB, expected shorter ones")
    buffers = array.buffers()
    return pa.Array.from_buffers(
        kind,
        len(array),
        [
            array.is_valid().buffers()[1] if array.null_count else None,
            pa.py_buffer((offsets - first).astype(np.int32)),
            None if buffers[2] is None else buffers[2].slice(first, last - first),
        ],
    )
