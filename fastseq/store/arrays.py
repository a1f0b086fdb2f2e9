"""Arrow arrays: conversion of all string-like types to the plain arrays that kernels take, and
construction without copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import RowError, SettingsError
from fastseq.types import Int64, Texts, UInt8, offsets_of

INT32_MAX = 2**31 - 1


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column is converted to, also inside of lists, maps and structs: string or
    binary for their large and view variants, the value type of dictionaries and of run-end encoded
    values, the storage type of an extension, lists for large lists and views, nullable fields."""
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if t.is_large_string(kind) or t.is_string_view(kind):
        return pa.string()
    if t.is_large_binary(kind) or t.is_binary_view(kind):
        return pa.binary()
    if t.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if _is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if t.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if t.is_struct(kind):
        return pa.struct(map(_plain_field, kind))
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type)).with_nullable(True)


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    lists = (t.is_list, t.is_large_list, t.is_fixed_size_list, t.is_list_view, t.is_large_list_view)
    return any(is_list(kind) for is_list in lists)


def is_string(kind: pa.DataType) -> bool:
    """Whether a plain type is UTF-8 strings."""
    return bool(pa.types.is_string(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain type can be read as text: strings, bytes, or a column of nulls alone."""
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind))


def element_type(kind: pa.DataType) -> pa.DataType | None:
    """The plain type of the elements of a list type of any kind; None for other types."""
    kind = plain_type(kind)
    return kind.value_type if _is_list(kind) else None


def is_text_list(kind: pa.DataType) -> bool:
    """Whether a plain type is lists of strings or bytes; lists of nulls are all empty."""
    element = element_type(kind)
    return element is not None and is_text(element)


def promoted(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The common type of two plain types: numbers widen, null becomes any type. None where there
    is none; strings and bytes are incompatible, too."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if is_text(a) or is_text(b):
        return None
    try:
        both = [pa.schema([("c", kind)]) for kind in (a, b)]
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def filled(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The plain type `a`, with the types that `b` has in place of null, and of structs without
    fields, inside of it. None where values of `b` are of another kind; those of a wider number or
    a finer unit of time may fit."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if _is_list(a) and _is_list(b):
        inner = filled(a.value_type, b.value_type)
        if inner is None or (pa.types.is_fixed_size_list(a) and promoted(a, b) != a):
            return None
        field = a.value_field.with_type(inner)
        return pa.list_(field, a.list_size if pa.types.is_fixed_size_list(a) else -1)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        if not a.num_fields:
            return b
        names = [field.name for field in a]
        if len(set(names)) < len(names) or not {field.name for field in b} <= set(names):
            return None
        kinds = {field.name: field.type for field in b}
        types = [filled(field.type, kinds.get(field.name, pa.null())) for field in a]
        fields = [field.with_type(kind) for field, kind in zip(a, types, strict=True)]
        return None if None in types else pa.struct(fields)
    return None if promoted(a, b) is None else a


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def byte_lengths(array: pa.Array) -> Int64:
    """int64[n]: bytes of each value of a string-like array of any type, without a copy of the
    text. A null has 0 bytes or those in its slot. Raises RowError where offsets descend."""
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
    if pa.types.is_run_end_encoded(kind):
        lengths = byte_lengths(array.values)[_runs(array)]
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


def text_lengths(array: pa.Array) -> Int64:
    """`byte_lengths`, of lists as `joined` joins them."""
    if isinstance(array, pa.ExtensionArray):
        return text_lengths(array.storage)
    if not _is_list(array.type):
        if element_type(array.type) is None:
            return byte_lengths(array)
        return text_lengths(plain(array, plain_type(array.type)))  # a dictionary of lists
    ends = list_offsets(array)
    of_elements = offsets_of(byte_lengths(array.flatten()))
    lengths: Int64 = np.diff(of_elements[ends]) + np.maximum(np.diff(ends) - 1, 0)
    return lengths


def list_offsets(array: pa.Array) -> Int64:
    """int64[n + 1]: row i of an array of lists of any kind has the elements from offsets[i] to
    offsets[i + 1] of `array.flatten()`; a null has none."""
    if pa.types.is_list(array.type) and not array.null_count:
        raw = array.buffers()[1]
        if len(array) and raw is not None:
            ends: Int64 = np.frombuffer(raw, np.int32, len(array) + 1, 4 * array.offset).astype(
                np.int64
            )
            if np.any(ends[1:] < ends[:-1]):
                raise RowError(0, "an Arrow array of lists is damaged: its offsets descend")
            ends -= ends[0]
            return ends
    import pyarrow.compute as pc  # slow to import, and not needed to read an index

    lengths = pc.list_value_length(array).cast(pa.int64())
    if lengths.null_count:
        lengths = lengths.fill_null(number_array([0])[0])
    # to_numpy would import an installed pandas
    found = np.frombuffer(lengths.buffers()[1] or b"", np.int64)
    return offsets_of(found[lengths.offset : lengths.offset + len(lengths)])


def joined(array: pa.Array) -> pa.Array:
    """Lists of strings or bytes as such, joined by a space. A null list is null, a null element
    empty. Raises RowError for more than 2 GiB of text."""
    import pyarrow.compute as pc

    kind = element_type(array.type)
    assert kind is not None
    kind = pa.string() if pa.types.is_null(kind) else kind
    elements = plain(array.flatten(), kind)
    if elements.null_count:
        elements = elements.fill_null(string_scalar("", kind))
    offsets = number_array(list_offsets(array))
    lists = pa.LargeListArray.from_arrays(offsets, elements, mask=array.is_null())
    return pc.binary_join(lists, string_scalar(" ", kind))


def plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array as `kind`, which is the `plain_type` of its type or one it can be cast to: a type
    with more fields in structs, for example, or with any type in place of null.

    Raises RowError for more than 2 GiB of text, or a value that `kind` cannot hold.
    """
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        # Arrow cannot take from views
        values = plain(array.dictionary, plain_type(array.type))
        return plain(values.take(array.indices), kind)
    if pa.types.is_run_end_encoded(array.type):
        values = plain(array.values, plain_type(array.type))
        return plain(values.take(number_array(_runs(array))), kind)
    if array.type == kind:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    nested = _plain_nested(array, kind)
    if nested is not None:
        return nested
    try:
        if _is_large(array.type) and not pa.types.is_fixed_size_binary(kind):
            return _narrow(array, kind)
        return _cast(array, kind)
    except pa.ArrowException as error:
        row = next((i for i in range(len(array)) if not _fits(array.slice(i, 1), kind)), 0)
        problem = f"a value of type {array.type} that does not fit {kind}: {error}"
        raise RowError(row, problem) from error


def _plain_nested(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """`plain` of lists, maps and structs, as the same kind of type; None for others. Arrow's own
    casts differ between its versions, and reach only some of the types inside."""
    t = pa.types
    mask = array.is_null() if array.null_count else None
    if t.is_fixed_size_list(array.type) and t.is_fixed_size_list(kind):
        size = kind.list_size
        if array.type.list_size != size:
            return None
        # the elements of null lists, too
        inner = array.values.slice(array.offset * size, len(array) * size)
        with _rows_of_elements(lambda element: element // size):
            elements = plain(inner, kind.value_type)
        return pa.FixedSizeListArray.from_arrays(elements, type=kind, mask=mask)
    if _is_list(array.type) and t.is_list(kind):
        ends = list_offsets(array)
        with _rows_of_elements(lambda element: int(np.searchsorted(ends, element, "right")) - 1):
            elements = plain(array.flatten(), kind.value_type)
        if ends[-1] > INT32_MAX:
            raise RowError(0, "lists of more than 2^31 elements, expected shorter ones")
        return pa.ListArray.from_arrays(number_array(ends, np.int32), elements, kind, mask=mask)
    if t.is_map(array.type) and t.is_map(kind):
        offsets = array.offsets
        first, last = offsets[0].as_py(), offsets[len(array)].as_py()
        ends = offsets.to_numpy().astype(np.int64) - first

        def row(element: int) -> int:
            return int(np.searchsorted(ends, element, "right")) - 1

        with _rows_of_elements(row):
            keys = plain(array.keys.slice(first, last - first), kind.key_type)
            items = plain(array.items.slice(first, last - first), kind.item_type)
        starts = number_array(ends, np.int32)
        if mask is not None:  # a null offset is a null map
            valid = np.packbits(np.append(~is_null(array), True), bitorder="little")
            buffers = [pa.py_buffer(valid), starts.buffers()[1]]
            starts = pa.Array.from_buffers(pa.int32(), len(starts), buffers)
        return pa.MapArray.from_arrays(starts, keys, items, kind)
    if t.is_struct(array.type) and t.is_struct(kind):
        own = [field.name for field in array.type]
        if len(set(own)) < len(own) or not set(own) <= {field.name for field in kind}:
            return None
        if not kind.num_fields:
            return array
        parts = array.flatten()  # not `field`, which ignores null structs
        fields = [
            plain(parts[own.index(field.name)], field.type)
            if field.name in own
            else pa.nulls(len(array), field.type)
            for field in kind
        ]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=mask)
    return None


@contextmanager
def _rows_of_elements(row: Callable[[int], int]) -> Iterator[None]:
    """Convert the number of an element in a RowError to that of its row."""
    try:
        yield
    except RowError as error:
        raise RowError(row(error.row), error.problem) from error


def _runs(array: pa.Array) -> Int64:
    """int64[n]: of each value of a run-end encoded array the number of its run."""
    ends = array.run_ends.to_numpy()
    rows = np.arange(array.offset, array.offset + len(array))
    runs: Int64 = np.searchsorted(ends, rows, "right").astype(np.int64)
    return runs


def _may_round(kind: pa.DataType, to: pa.DataType) -> bool:
    """Whether Arrow's cast is silent where it loses digits or the time of day."""
    if pa.types.is_floating(kind):
        narrower = pa.types.is_floating(to) and to.bit_width < kind.bit_width
        return bool(narrower or pa.types.is_decimal(to))
    return bool(pa.types.is_date64(kind) and pa.types.is_date32(to))


def _same(a: pa.Array, b: pa.Array) -> bool:
    """Whether floats or dates of one type are equal, NaN to NaN."""
    import pyarrow.compute as pc

    both_nan = pc.and_(pc.is_nan(a), pc.is_nan(b)) if pa.types.is_floating(a.type) else False
    same: bool | None = pc.all(pc.or_(pc.equal(a, b), both_nan)).as_py()
    return same is not False  # None: all null


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array of another type, not nested. Raises ArrowException for a value that does not
    fit."""
    if pa.types.is_integer(array.type) and pa.types.is_decimal(kind):
        # Arrow wants a precision for all integers of the type
        array = array.cast(pa.decimal256(76, max(kind.scale, 0)))
    cast = array.cast(kind)
    if _may_round(array.type, kind) and not _same(cast.cast(array.type), array):
        raise pa.ArrowInvalid("it would be rounded")
    return cast


def _fits(array: pa.Array, kind: pa.DataType) -> bool:
    try:
        _cast(array, kind)
    except pa.ArrowException:
        return False
    return True


def is_null(array: pa.Array) -> npt.NDArray[np.bool_]:
    """bool[n]: whether each value is null."""
    # to_numpy would import an installed pandas, and an interrupt during that import is lost
    bits = array.is_null().buffers()[1]
    if not len(array):
        return np.empty(0, np.bool_)
    return np.unpackbits(
        np.frombuffer(bits, np.uint8), count=len(array), bitorder="little"
    ).astype(np.bool_)


def first_null(array: pa.Array) -> int:
    """The row of the first null of an array that has one."""
    return int(np.argmax(is_null(array)))


def null_rows(parts: Sequence[pa.Array], partly: bool = False) -> int:
    """The number of rows of which all parts, of one or several columns, are null; `partly`: of
    which any is."""
    counts = [part.null_count for part in parts]
    if not (any if partly else all)(counts):
        return 0
    combine = np.logical_or if partly else np.logical_and
    return int(combine.reduce([is_null(part) for part in parts]).sum())


def texts_of(parts: Sequence[pa.Array]) -> Texts:
    """The texts of one or several plain columns, joined by a space.

    A null is an empty text; among several columns its space remains. A single column without nulls
    is not copied: its bytes must not be written to.
    """
    if len(parts) > 1:
        import pyarrow.compute as pc

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
    return to_texts(joined)


def column_starts(parts: Sequence[pa.Array]) -> Int64:
    """int64[n, columns]: where each of several plain columns starts in the texts of `texts_of`, in
    bytes of the row's text."""
    starts = np.zeros((len(parts[0]), len(parts)), np.int64)
    for column, part in enumerate(parts[:-1]):
        lengths = byte_lengths(part)
        if part.null_count:
            lengths = np.where(part.is_null().to_numpy(False), 0, lengths)
        starts[:, column + 1] = starts[:, column] + lengths + 1
    return starts


def to_texts(array: pa.Array) -> Texts:
    """Texts over the buffers of an array of (large) strings or binaries without nulls.

    Raises RowError where the offsets point outside of the data: the array is damaged.
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
    """The bytes of an Arrow buffer as an array flagged writable; it must not be written to.

    np.frombuffer gives a read-only array, because Arrow's buffers are immutable. That is another
    type to Numba, which would compile every kernel a second time.
    """
    if buffer is None or buffer.size == 0:
        return np.zeros(0, np.uint8)
    return np.asarray(_Borrowed(buffer))


class _Borrowed:
    """An Arrow buffer with NumPy's array interface; the array keeps a reference to it."""

    def __init__(self, buffer: pa.Buffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "version": 3,
            "shape": (buffer.size,),
            "typestr": "|u1",
            "data": (buffer.address, False),
        }


def number_array(values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> pa.Array:
    """The Arrow array over numbers of a dtype. `pa.array` and `pa.scalar` would import an installed
    pandas to test for a Series, which takes half a second."""
    numbers = np.ascontiguousarray(values, dtype)
    kind = pa.from_numpy_dtype(numbers.dtype)
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def text_array(texts: Texts, kind: pa.DataType | None = None) -> pa.Array:
    """The Arrow array over the bytes of texts, of a (large) string or binary type; unless given,
    strings, and large strings beyond 2 GiB."""
    if kind is None:
        kind = pa.large_string() if texts.offsets[-1] > INT32_MAX else pa.string()
    offsets = np.ascontiguousarray(texts.offsets, np.int64 if _is_large(kind) else np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(kind, len(texts), buffers)


def string_array(strings: Sequence[str | None], kind: pa.DataType | None = None) -> pa.Array:
    """The array of Python strings, None for a null, of a type as of `text_array`. A lone surrogate
    becomes invalid UTF-8, which is detected on reading."""
    array = text_array(Texts.from_strings(string or "" for string in strings), kind)
    if None not in strings:
        return array
    known = np.packbits([string is not None for string in strings], bitorder="little")
    buffers = [pa.py_buffer(known), *array.buffers()[1:]]
    return pa.Array.from_buffers(array.type, len(array), buffers)


def string_scalar(value: str, kind: pa.DataType) -> pa.Scalar:
    """An Arrow scalar of a (large) string or binary type."""
    return text_array(Texts.from_strings([value]), kind)[0]


def one_chunk(column: pa.ChunkedArray, kind: pa.DataType | None = None) -> pa.Array:
    """A chunked array as one array, of its own type or `plain` of `kind`."""
    chunks = column.chunks if kind is None else [plain(chunk, kind) for chunk in column.chunks]
    return pa.concat_arrays(chunks) if chunks else pa.nulls(0, kind or column.type)


def arrow_column(values: Any) -> pa.ChunkedArray | None:
    """The column of an object with Arrow's array or stream interface; None for others. Raises
    SettingsError where the interface gives no column."""
    try:
        if isinstance(values, pa.ChunkedArray):
            return values
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        if hasattr(values, "__arrow_c_array__"):
            return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, TypeError) as error:
        raise SettingsError(f"cannot read a {type(values).__name__}: {error}") from error
    return None


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as Python values; those that Python has no type for (nanoseconds, years
    beyond 9999) as strings."""
    columns = []
    for column in table.columns:
        try:
            columns.append(column.to_pylist())
        except (ValueError, OverflowError):
            columns.append(column.cast(pa.string()).to_pylist())
    names = table.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def valid_utf8(array: pa.Array) -> bool:
    """Whether all strings of an array are UTF-8, which Arrow does not check on reading."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def repaired(array: pa.Array) -> pa.Array:
    """The array; if it is strings, with U+FFFD where the bytes are not UTF-8."""
    if not is_string(array.type) or valid_utf8(array):
        return array
    values = array.cast(pa.binary()).to_pylist()
    return pa.array([None if v is None else v.decode("utf-8", "replace") for v in values], "string")


def _offsets(array: pa.Array) -> Int64:
    """The n + 1 offsets of a (large) string or binary array: a view, int32 or int64."""
    kind = np.int64 if _is_large(array.type) else np.int32
    offsets: Int64 = np.frombuffer(array.buffers()[1], kind)
    return offsets[array.offset : array.offset + len(array) + 1]


def _narrow(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A large array with 32-bit offsets. Arrow's own cast fails for a short slice beyond 2 GiB of
    its buffer."""
    if len(array) == 0:
        return pa.array([], kind)
    offsets = _offsets(array)
    first, last = int(offsets[0]), int(offsets[-1])
    if last - first > INT32_MAX:
        raise RowError(0, "a text of more than 2 GiB, expected shorter ones")
    valid = array.is_valid().buffers()[1] if array.null_count else None
    data = array.buffers()[2]
    data = None if data is None else data.slice(first, last - first)
    buffers = [valid, pa.py_buffer((offsets - first).astype(np.int32)), data]
    return pa.Array.from_buffers(kind, len(array), buffers)
