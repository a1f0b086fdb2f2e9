"""The Unicode tables of all tokenizers, and the same rules for a single Python string.

tools/make_unicode_tables.py writes unicode.npz and describes its layout. With tables of its own,
fastseq gives the same tokens under every Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.types import Int32, UInt8, UInt16

_MULTIPLE = 1 << 24  # as in fastseq/kernels/text/unicode.py, which would bring Numba with it
_CASED, _IGNORABLE = 4, 8


class CharacterTables(NamedTuple):
    """Flags and a mapping of every code point, as kernels take them.

    Two-stage tables: an index of blocks of 128, then the entry of the code point.
    """

    flags_index: UInt16  # [8704]
    flags: UInt8  # [128 * blocks] bits: word, space, cased, case-ignorable, script (2), assigned
    map_index: UInt16  # [8704]
    mapped: Int32  # [128 * blocks] added to the code point; from 1 << 24 on a piece of the pool
    pool: Int32  # [n] code points of the mappings to none or to several characters


class UnicodeTables:
    """The tables of one Unicode version, such as "15.1.0"."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.version = str(arrays["version"].item())
        self._arrays = arrays

    @cache  # noqa: B019 (there is one instance)
    def characters(self, lowercase: bool, fold_accents: bool) -> CharacterTables:
        """The tables of an analyzer with these two settings."""
        arrays = self._arrays
        index, mapped = np.zeros(0x110000 >> 7, np.uint16), np.zeros(128, np.int32)
        if lowercase or fold_accents:
            name = "_".join(["lower"] * lowercase + ["fold"] * fold_accents)
            index, mapped = arrays[f"{name}_index"], arrays[name]
        return CharacterTables(
            arrays["flags_index"], arrays["flags"], index, mapped, arrays["pool"]
        )

    def flags_of(self, code: Any) -> Any:
        """The flags of a code point or an array of them."""
        index, flags, *_ = self.characters(False, False)
        return flags[index[code >> 7].astype(np.int32) << 7 | code & 127]

    def change(self, text: str, lowercase: bool, fold_accents: bool) -> str:
        """The text lower-cased and folded as by the kernels."""
        tables = self.characters(lowercase, fold_accents)
        out: list[str] = []
        for i, character in enumerate(text):
            code = ord(character)
            if lowercase and character == "Σ":
                out.append("ς" if self._sigma_is_final(text, i) else "σ")
                continue
            change = int(tables.mapped[int(tables.map_index[code >> 7]) << 7 | code & 127])
            if change < _MULTIPLE:
                out.append(chr(code + change))
            else:
                start, length = (change - _MULTIPLE) >> 5, change & 31
                out.extend(map(chr, tables.pool[start : start + length].tolist()))
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
        return UnicodeTables({name: np.ascontiguousarray(stored[name]) for name in stored.files})
