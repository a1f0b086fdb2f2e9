"""Weights in safetensors files, under the parameter names of the model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FastseqError, FormatError
from fastseq.store.files import reason, written_whole

Arrays = dict[str, npt.NDArray[Any]]

METADATA = "__metadata__"  # the key of the metadata in the header; no array may have this name
_LENGTH = 8  # bytes of the header's length, at the start of the file
_TYPE = re.compile(r"([FIU])(8|16|32|64)")  # besides BOOL and BF16


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
    from safetensors import SafetensorError
    from safetensors.numpy import save

    plain = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "fiub":
            raise DataError(f"cannot write {path}: {name} is {array.dtype}, expected numbers")
        if name == METADATA:
            raise DataError(f"cannot write {path}: an array may not be called {name}")
        kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        # not ascontiguousarray, which changes the shape of a scalar
        plain[name] = np.require(array.astype(kind, copy=False), requirements="C")
    try:
        content = save(plain, dict(metadata) if metadata else None)
    except (SafetensorError, UnicodeEncodeError, TypeError) as error:
        raise DataError(f"cannot write {path} as safetensors: {reason(error)}") from error
    header = _ordered_header(content)
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        file.write(memoryview(content)[len(header) :])


def read_weights(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a safetensors file, by name in ascending order, and its metadata.

    Floating-point numbers (float64, float32, float16, bfloat16) are converted to float32, integers
    and bools unchanged; all arrays are writable.

    Raises DataError: the file is missing or cannot be read; FormatError: it is not a safetensors
    file, is cut short or damaged, or holds numbers of another type.
    """
    from safetensors import SafetensorError, deserialize

    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected weights in safetensors") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    try:
        found = dict(deserialize(content))  # type: ignore[no-untyped-call]
        end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
        header = json.loads(content[_LENGTH:end])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: not a safetensors file, or one cut short ({reason(error)})"
        ) from error
    del content  # deserialize has copied the arrays
    arrays = {name: _array(found.pop(name), f"{path}: {name}") for name in sorted(found)}
    return arrays, dict(sorted((header.get(METADATA) or {}).items()))


def _array(stored: Mapping[str, Any], where: str) -> npt.NDArray[Any]:
    """A stored array, in a writable buffer of its own."""
    kind, data = stored["dtype"], stored["data"]
    if not isinstance(data, bytearray):  # from old versions of the library
        data = bytearray(data)
    values: npt.NDArray[Any]
    if kind == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind == "BOOL":
        values = np.frombuffer(data, np.bool_)
    elif (parts := _TYPE.fullmatch(kind)) and kind != "F8":
        dtype = np.dtype(f"{parts[1].lower()}{int(parts[2]) // 8}")
        values = np.frombuffer(data, dtype.newbyteorder("<"))
        with np.errstate(over="ignore"):
            values = values.astype(np.float32 if dtype.kind == "f" else dtype, copy=False)
    else:
        raise FormatError(f"{where} is of type {kind}, expected floating-point or whole numbers")
    return values.reshape(stored["shape"])


def _ordered_header(content: bytes) -> bytes:
    """The header with sorted metadata, which the library writes in the order of a hash table."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    fields = json.loads(content[_LENGTH:end])
    if METADATA in fields:
        fields[METADATA] = dict(sorted(fields[METADATA].items()))
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    header = text.ljust(end - _LENGTH)
    if len(header) != end - _LENGTH:
        raise FastseqError("safetensors wrote a header of another form than expected")
    return content[:_LENGTH] + header
