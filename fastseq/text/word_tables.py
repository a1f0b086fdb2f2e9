"""The Unicode tables of the tokenizer `unicode`, and the normal forms that they define."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.types import Int64, UInt8, UInt32

if TYPE_CHECKING:
    from fastseq.kernels.text.normal_forms import WordTables

_NOTHING = np.zeros(0x110000 >> 7, np.uint16), np.zeros(128, np.int32)


@cache
def _stored() -> dict[str, npt.NDArray[Any]]:
    with np.load(Path(__file__).with_name("words.npz"), allow_pickle=False) as stored:
        return {name: np.ascontiguousarray(stored[name]) for name in stored.files}


def unicode_version() -> str:
    """The version of the tables, such as "16.0.0"."""
    return str(_stored()["version"].item())


@cache
def word_tables(mapping: str) -> WordTables:
    """The tables with one mapping of characters: "" (none), nfkc, fold, nfkc_bare or fold_bare."""
    from fastseq.kernels.text.normal_forms import WordTables

    stored = _stored()
    map_index, mapped = _NOTHING
    if mapping:
        map_index, mapped = stored[f"{mapping}_index"], stored[mapping]
    return WordTables(
        stored["properties_index"], stored["properties"], map_index, mapped,
        stored["decomposed_index"], stored["decomposed"], stored["pool"], stored["composed"],
    )  # fmt: skip


def mapping_of(lowercase: bool, fold_accents: bool) -> str:
    """The name of the mapping of an analyzer with these settings."""
    return ("fold" if lowercase else "nfkc") + ("_bare" if fold_accents else "")


def code_points(
    text: str, mapping: str, compose: bool = True, raw: bool = False
) -> tuple[UInt32, UInt32, Int64, Int64]:
    """(codes, properties, starts, stops) of the mapped text: the code points of its normal form,
    and the bytes of the UTF-8 text that each comes from.

    compose : NFC or NFKC; else NFD or NFKD. raw : neither
    """
    from fastseq.kernels.text import normal_forms as forms

    data: UInt8 = np.frombuffer(bytearray(text.encode()), np.uint8)
    form = forms.RAW if raw else forms.COMPOSED if compose else forms.DECOMPOSED
    size = 2 * len(text) + 2 * forms.ROOM
    while True:
        codes, spans = np.empty((2, size), np.uint32), np.empty((2, size), np.int64)
        n = forms.normalise(
            codes[0], codes[1], spans[0], spans[1], data, form, *word_tables(mapping)
        )
        if n >= 0:
            return *codes[:, :n], *spans[:, :n]
        size *= 2


def normal_form(text: str, mapping: str, compose: bool = True) -> str:
    """The text, mapped and in a normal form; see `code_points`."""
    codes, *_ = code_points(text, mapping, compose)
    return "".join(map(chr, codes.tolist()))
