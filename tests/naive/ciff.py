"""The Common Index File Format by its description: Protocol Buffers messages as dictionaries.

Nothing of fastseq is imported.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.naive.inverted import integer, read_integer


@dataclass
class File:
    """header  its fields by number
    lists      (term, df, cf, postings [(document, tf)]) of each
    documents  (number, id, length) of each
    """

    header: dict[int, Any]
    lists: list[tuple[str, int, int, list[tuple[int, int]]]]
    documents: list[tuple[int, str, int]]


def fields_of(raw: bytes) -> list[tuple[int, Any]]:
    """(number, value) of each field: an integer, the eight bytes of a double, or bytes."""
    found = []
    at = 0
    while at < len(raw):
        key, at = read_integer(raw, at)
        if key & 7 == 0:
            value: Any
            value, at = read_integer(raw, at)
        elif key & 7 == 1:
            value, at = raw[at : at + 8], at + 8
        else:
            assert key & 7 == 2
            length, at = read_integer(raw, at)
            value, at = raw[at : at + length], at + length
        found.append((key >> 3, value))
    assert at == len(raw)
    return found


def read(raw: bytes) -> File:
    """Read a file; the numbers of documents become absolute."""
    at = 0

    def message() -> list[tuple[int, Any]]:
        nonlocal at
        length, start = read_integer(raw, at)
        at = start + length
        assert at <= len(raw)
        return fields_of(raw[start:at])

    header = dict(message())
    lists = []
    for _ in range(header.get(2, 0)):
        fields = message()
        one = dict(fields)
        postings, document = [], 0
        for number, value in fields:
            if number == 4:
                posting = dict(fields_of(value))
                document += posting.get(1, 0)
                postings.append((document, posting.get(2, 0)))
        lists.append((one[1].decode(), one.get(2, 0), one.get(3, 0), postings))
    documents = []
    for _ in range(header.get(3, 0)):
        one = dict(message())
        documents.append((one.get(1, 0), one.get(2, b"").decode(), one.get(3, 0)))
    assert at == len(raw)
    return File(header, lists, documents)


def write(file: File, everything: bool = False) -> bytes:
    """Write a file. `everything`: fields of 0 as well, fields from the last to the first, and ones
    that the format does not have."""
    out = []

    def message(fields: Sequence[tuple[int, Any]]) -> bytes:
        parts = []
        for number, value in fields:
            if isinstance(value, int):
                if value or everything:
                    parts.append(integer(number << 3) + integer(value & (1 << 64) - 1))
            elif isinstance(value, float):
                parts.append(integer(number << 3 | 1) + struct.pack("<d", value))
            else:
                raw = value.encode() if isinstance(value, str) else value
                parts.append(integer(number << 3 | 2) + integer(len(raw)) + raw)
        if everything:
            # an integer, eight bytes, bytes and four bytes of unknown fields
            parts += [integer(77 << 3) + integer(1 << 60), integer(78 << 3 | 1) + bytes(8)]
            parts += [integer(79 << 3 | 2) + integer(3) + b"abc", integer(80 << 3 | 5) + bytes(4)]
            parts.reverse()
        return b"".join(parts)

    def delimited(fields: Sequence[tuple[int, Any]]) -> None:
        raw = message(fields)
        out.append(integer(len(raw)) + raw)

    delimited(list(file.header.items()))
    for term, df, cf, postings in file.lists:
        last = 0
        parts: list[tuple[int, Any]] = []
        for document, tf in postings:
            parts.append((4, message([(1, document - last), (2, tf)])))
            last = document
        if everything:
            parts.reverse()  # which `message` reverses again
        delimited([(1, term), (2, df), (3, cf), *parts])
    for number, id, length in file.documents:
        delimited([(1, number), (2, id), (3, length)])
    return b"".join(out)
