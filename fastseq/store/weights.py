"""The safetensors format: weights under the parameter names of a model, and word vectors.

A file has eight bytes, the length of a JSON header in little-endian order; the header,
{name: {dtype, shape, data_offsets}, "__metadata__": {…}}, padded with spaces; the arrays, without
gaps. The safetensors library copies every array, and writes metadata in the order of a hash table;
here arrays may be mapped, and the same content gives the same bytes.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError
from fastseq.store.files import private_map, reason, written_whole

Arrays = dict[str, npt.NDArray[Any]]

METADATA = "__metadata__"  # the key of the metadata in the header; no array may have this name
_LENGTH = 8  # bytes of the header's length, at the start of the file
_TYPES = {  # BF16 as its bits
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4",
    "BF16": "<u2", "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "|i1", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}


def write_weights(
    path: str | os.PathLike[str],
    arrays: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays as safetensors, atomically; the same content gives the same bytes.

    Parameters
    ----------
    arrays : floating-point numbers of any width are written as float32; integers and bools (counts,
        states of generators) unchanged
    metadata : short texts for the header

    Raises SettingsError: `path` is a folder, or its folder does not exist; DataError: an array
    holds no numbers, or has a name that the format cannot hold; FastseqError: the system refuses.
    """
    plain = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "fiub":
            raise DataError(f"cannot write {path}: {name} is {array.dtype}, expected numbers")
        kind = "<f4" if array.dtype.kind == "f" else array.dtype.newbyteorder("<")
        # not ascontiguousarray, which changes the shape of a scalar
        plain[name] = np.require(array.astype(kind, copy=False), requirements="C")
    types = list(_NAMES)  # the order of the safetensors library
    plain = dict(sorted(plain.items(), key=lambda each: types.index(each[1].dtype)))
    try:
        header = pack_header(plain, _LENGTH, metadata)
    except ValueError as error:
        raise DataError(f"cannot write {path}: {reason(error)}") from error
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for array in plain.values():
            file.write(array_bytes(array))


def read_weights(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a safetensors file, by name in ascending order, and its metadata.

    Floating-point numbers (float64, float32, float16, bfloat16) are converted to float32, integers
    and bools unchanged; all arrays are writable.

    Raises DataError: the file is missing or cannot be read; FormatError: it is not a safetensors
    file, is cut short or damaged, or holds numbers of another type.
    """
    arrays, metadata = _read(path, _content)
    with np.errstate(over="ignore"):
        for name, array in arrays.items():
            kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
            arrays[name] = array.astype(kind, copy=False)
    return dict(sorted(arrays.items())), dict(sorted(metadata.items()))


def map_weights(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a safetensors file as views of a private mapping, which processes share as long
    as they do not write to it, and its metadata. bfloat16 is converted to float32, all other types
    are as stored. Errors as in `read_weights`."""
    return _read(path, private_map)


def _content(file: BinaryIO, size: int) -> bytearray:
    content = bytearray(size)
    file.readinto(content)  # type: ignore[attr-defined]
    return content


def _read(
    path: str | os.PathLike[str], read: Callable[[BinaryIO, int], mmap.mmap | bytearray]
) -> tuple[Arrays, dict[str, str]]:
    try:
        with open(path, "rb") as file:
            content = read(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected weights in safetensors") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    try:
        return views(content)
    except ValueError as error:
        raise FormatError(
            f"{path}: not a safetensors file, or one cut short ({reason(error)})"
        ) from error


def pack_header(
    arrays: Mapping[str, npt.NDArray[Any]],
    alignment: int,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The start of a file of little-endian arrays in the given order, a multiple of `alignment`
    bytes. Raises ValueError for names and metadata that are not valid Unicode text."""
    entries: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, array in arrays.items():
        if name == METADATA:
            raise ValueError(f"an array may not be called {name}")
        start, at = at, at + array.nbytes
        kind = _NAMES[array.dtype.newbyteorder("<")]
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, at]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(_LENGTH + len(text)) % alignment)
    return len(text).to_bytes(_LENGTH, "little") + text


def array_bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def views(buffer: mmap.mmap | bytearray) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a file as views of its bytes, in the order of the header, and its metadata.

    An array that is not aligned is copied, bfloat16 converted to float32. Raises ValueError for
    anything that is not a safetensors file of numbers.
    """
    start = _LENGTH + int.from_bytes(buffer[:_LENGTH], "little")
    if len(buffer) < start:
        raise ValueError("the header is cut short")
    try:
        entries = json.loads(buffer[_LENGTH:start])
        metadata = entries.pop(METADATA, None) or {}
        ranges = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
        arrays = {name: _view(buffer, start, name, entry) for name, entry in entries.items()}
        texts = all(isinstance(text, str) for text in metadata.values())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged header: {error}") from error
    ends = [0, *(last for _, last in ranges)]
    if ends != [*(first for first, _ in ranges), len(buffer) - start] or not texts:
        raise ValueError("the arrays leave gaps or overlap")
    return arrays, metadata


def _view(
    buffer: mmap.mmap | bytearray, start: int, name: str, entry: Mapping[str, Any]
) -> npt.NDArray[Any]:
    stored, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if stored not in _TYPES:
        raise ValueError(f"{name} is of type {stored}, expected floating-point or whole numbers")
    if any(type(n) is not int or n < 0 for n in (*shape, first, last)):
        raise ValueError("sizes are whole numbers from 0")
    kind, count = np.dtype(_TYPES[stored]), math.prod(shape)
    if first + count * kind.itemsize != last or start + last > len(buffer):
        raise ValueError("an array lies outside of the file")
    values: npt.NDArray[Any] = np.frombuffer(buffer, kind, count, start + first)
    if stored == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif not values.flags.aligned:  # as other programs may write them
        values = values.copy()
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(shape)
