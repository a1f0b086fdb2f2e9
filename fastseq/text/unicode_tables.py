"""The Unicode tables that every analyzer reads, and the same rules for a single Python string.

unicode.npz is written by tools/make_unicode_tables.py, which says how it is laid out. That the
tables are ours makes an index mean the same under every Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from fastseq.types import Int32, UInt8, UInt16

_MULTIPLE = 1 << 24  # as in fastseq/kernels/text/unicode.py, which would bring Numba with it
_CASED, _IGNORABLE = 4, 8


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """What becomes of every code point: a two-stage table (block of 128, then its entry).

    index   uint16[8704]
    values  int32[128 * blocks]  added to the code point; from 1 << 24 on a piece of the pool
    """

    index: UInt16
    values: Int32


@dataclass(frozen=True, slots=True, eq=False)
class UnicodeTables:
    """The tables of one Unicode version.

    version      such as "15.1.0"
    flags_index  uint16[8704]
    flags        uint8[128 * blocks]  bits: word, space, cased, case-ignorable, script (2), assigned
    pool         int32[n]             code points of the mappings to none or to several characters
    """

    version: str
    flags_index: UInt16
    flags: UInt8
    pool: Int32
    keep: Mapping
    lower: Mapping
    fold: Mapping
    lower_fold: Mapping

    def mapping(self, lowercase: bool, fold_accents: bool) -> Mapping:
        """The mapping of an analyzer with these two settings."""
        if lowercase:
            return self.lower_fold if fold_accents else self.lower
        return self.fold if fold_accents else self.keep

    def flags_of(self, code: int) -> int:
        """The flags of a code point."""
        return int(self.flags[int(self.flags_index[code >> 7]) << 7 | code & 127])

    def change(self, text: str, lowercase: bool, fold_accents: bool) -> str:
        """The text lower-cased and folded as the kernels do it, one character after another."""
        table = self.mapping(lowercase, fold_accents)
        out: list[str] = []
        for i, character in enumerate(text):
            code = ord(character)
            if lowercase and character == "Σ":
                out.append("ς" if self._sigma_is_final(text, i) else "σ")
                continue
            change = int(table.values[int(table.index[code >> 7]) << 7 | code & 127])
            if change < _MULTIPLE:
                out.append(chr(code + change))
            else:
                start, length = (change - _MULTIPLE) >> 5, change & 31
                out.extend(map(chr, self.pool[start : start + length].tolist()))
        return "".join(out)

    def _sigma_is_final(self, text: str, at: int) -> bool:
        def cased(characters: str) -> bool:
            for character in characters:
                flags = self.flags_of(ord(character))
                if not flags & _IGNORABLE:
                    return bool(flags & _CASED)
            return False

        return cased(text[:at][::-1]) and not cased(text[at + 1 :])


@cache
def unicode_tables() -> UnicodeTables:
    """The tables, read once."""
    with np.load(Path(__file__).with_name("unicode.npz"), allow_pickle=False) as stored:
        arrays = {name: np.ascontiguousarray(stored[name]) for name in stored.files}

    def mapping(name: str) -> Mapping:
        return Mapping(arrays[f"{name}_index"], arrays[name])

    return UnicodeTables(
        version=str(arrays["version"].item()),
        flags_index=arrays["flags_index"],
        flags=arrays["flags"],
        pool=arrays["pool"],
        keep=Mapping(np.zeros(0x110000 >> 7, np.uint16), np.zeros(128, np.int32)),
        lower=mapping("lower"),
        fold=mapping("fold"),
        lower_fold=mapping("lower_fold"),
    )
