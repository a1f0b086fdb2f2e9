"""The Unicode tables of the tokenizer `unicode`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
