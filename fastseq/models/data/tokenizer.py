"""Tokenizers of sequence models: text as words, space-separated tokens, characters or bytes.

SequenceTokenizer("word").tokenize("Don't stop, 東京!")  # ['don', "'", 't', 'stop', ',', '東', …]
SequenceTokenizer("space").tokenize("No <unk> , yet")    # ['No', '<unk>', ',', 'yet']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, InvalidTextError, SettingsError
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Int32, Int64, Texts, UInt8

if TYPE_CHECKING:
    from fastseq.text.tables import ByteTable

UNITS = ("word", "space", "char", "byte")

_SPACE, _HAN_AND_KANA = 2, 1  # of the flags in fastseq/text/unicode.npz
_SCRIPT_SHIFT = 4


class Split(NamedTuple):
    """D texts as units numbered by first occurrence.

    ids      int32[n]
    offsets  int64[D + 1]: text i has ids[offsets[i]:offsets[i + 1]]
    table    the distinct units, by id
    """

    ids: Int32
    offsets: Int64
    table: ByteTable

    @property
    def distinct(self) -> Texts:
        """The distinct units, by id."""
        return Texts(*self.table.texts())


@dataclass(frozen=True)
class SequenceTokenizer:
    """Rules that split a text into units. Equal settings give equal units under every Python.

    unit       "word": the matches of `W[WM]*|[^\\s]M*`, W being a word character (letter, digit,
               underscore) that is neither Han nor kana, M a combining mark or joiner: so runs of
               word characters, and each punctuation mark, Han or kana character alone;
               "space": the result of str.split(), for text that is already tokenised;
               "char": every character, white space too; "byte": every byte of the UTF-8
    lowercase  lower-case the text first (Unicode's full mapping); None: words only, since text
               that is already tokenised has the case its tokenizer chose

    Raises SettingsError for another unit, and for bytes in lower case.
    """

    unit: str = "word"
    lowercase: bool | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise SettingsError(f"unit is {self.unit!r}; expected one of {', '.join(UNITS)}")
        if self.lowercase is None:
            object.__setattr__(self, "lowercase", self.unit == "word")
        elif not isinstance(self.lowercase, bool):
            raise SettingsError(f"lowercase is {self.lowercase!r}; expected True, False or None")
        if self.lowercase and self.unit == "byte":
            raise SettingsError("bytes have no case: expected lowercase None or False with them")

    @property
    def joiner(self) -> str:
        """The separator between units that are joined to text."""
        return " " if self.unit in ("word", "space") else ""

    def tokenize(self, text: str) -> list[str]:
        """The units of one text, for inspection; bytes are chr(0) to chr(255). Raises
        InvalidTextError for a lone surrogate."""
        if self.unit == "byte":
            return [chr(byte) for byte in text.encode("utf-8", "surrogatepass")]
        split = self.split(Texts.from_strings([text]))
        distinct = split.distinct.to_strings()
        return [distinct[i] for i in split.ids.tolist()]

    def split(self, texts: Texts, whole: bool = False) -> Split:
        """The units of some texts. Thread-safe.

        whole  every text is one unit (an empty one too), lower-cased if that is set

        Raises InvalidTextError for a text that is not UTF-8, SettingsError for bytes.
        """
        from fastseq.kernels.text import tokenize as kernels
        from fastseq.text.tables import ByteTable

        if self.unit == "byte" and not whole:
            raise SettingsError("bytes are not split: their values are the ids")
        texts = checked(texts)
        room = len(texts) if whole else texts.nbytes // (1 if self.unit == "char" else 4) + 16
        mode = {"word": kernels.WORDS, "space": kernels.VISIBLE, "char": kernels.CHARACTERS}
        table, lower = ByteTable.for_text(texts.nbytes, 0), bool(self.lowercase)
        ids, ends = table.intern_tokens(
            kernels.tokenize_sequence, len(texts), room, np.empty(512, np.uint8), texts.data,
            texts.offsets, *unicode_tables().characters(lower, False), _classes(),
            kernels.WHOLE if whole else mode[self.unit], int(lower),
        )  # fmt: skip
        return Split(ids, ends, table)

    def to_dict(self) -> dict[str, Any]:
        """The settings and the version of the Unicode tables, as JSON."""
        version = unicode_tables().version
        return {"unit": self.unit, "lowercase": self.lowercase, "unicode": version}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> SequenceTokenizer:
        """The tokenizer of `to_dict`. Raises FormatError for unknown settings."""
        version = unicode_tables().version
        if saved.get("unicode") != version:
            raise FormatError(
                f"the units were saved with Unicode tables {saved.get('unicode')!r}; "
                f"this version of fastseq has {version!r}"
            )
        try:
            return cls(**{name: value for name, value in saved.items() if name != "unicode"})
        except (SettingsError, TypeError) as error:
            raise FormatError(f"the saved units cannot be rebuilt: {error}") from None


def checked(texts: Texts) -> Texts:
    """The texts as writable arrays. Raises InvalidTextError if one is not UTF-8."""
    from fastseq.kernels.text.unicode import first_invalid

    data, offsets = texts.data, texts.offsets
    if not (data.flags.writeable and offsets.flags.writeable):
        # read-only arrays are another type to Numba and would compile every kernel again
        texts = Texts(data[offsets[0] : offsets[-1]].copy(), offsets - offsets[0])
    run = texts.data[texts.offsets[0] : texts.offsets[-1]]
    if not len(run) or run.max() < 0x80:  # faster than one by one if texts are short
        return texts
    row = first_invalid(texts.data, texts.offsets, 0)
    if row < len(texts):
        raise InvalidTextError(row)
    return texts


@cache
def _classes() -> UInt8:
    """uint8[1114112]: the class of each code point, see kernels/text/tokenize.py."""
    from fastseq.kernels.text import tokenize as kernels

    tables = unicode_tables().characters(False, False)
    flags = tables.flags.reshape(-1, 128)[tables.flags_index].reshape(-1)
    script = flags >> _SCRIPT_SHIFT & 3
    classes = np.full(len(flags), kernels.SINGLE, np.uint8)
    classes[(flags & 1 != 0) & (script != _HAN_AND_KANA)] = kernels.WORD_CHARACTER
    classes[flags & _SPACE != 0] = kernels.BLANK
    classes[combining_marks()] = kernels.COMBINING_MARK
    return classes


def combining_marks() -> npt.NDArray[np.bool_]:
    """bool[1114112]: whether each code point is a combining mark (general category Mn, Mc or Me) or
    a joiner (U+200C, U+200D). Unicode 15.1, as the tables of fastseq/text."""
    lengths = [int(run, 16) for run in _RUNS.split()]
    lengths.append(0x110000 - sum(lengths))
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


# lengths, in hexadecimal, of the runs of code points that are alternately not marks and marks
_RUNS = """
300 70 113 7 107 2d 1 1 1 2 1 2 1 1 48 b 30 15 10 1 65 7 2 6 2 2 1 4 23 1 1e 1b 5b b 3a 9 9 1 18 4
1 9 1 3 1 5 2b 3 3c 8 2a 18 1 21 36 3 1 12 1 7 a 2 1d 3 38 1 1 7 2 2 2 3 9 1 a 2 1a 1 2 3 38 1 1 5
4 2 2 3 3 1 1e 2 3 1 b 3 38 1 1 8 1 3 1 3 14 2 16 6 1 3 38 1 1 7 2 2 2 3 7 3 a 2 1e 1 3b 5 3 3 1 4
9 1 28 5 37 1 1 7 1 3 1 4 7 2 b 2 1d 3 38 1 1 7 1 3 1 4 7 2 b 2 f 1 c 4 37 2 1 7 1 3 1 4 9 1 a 2
1d 3 46 1 4 6 1 1 1 8 12 2 3d 1 2 7 c 8 62 1 2 9 b 7 49 2 1b 1 1 1 1 1 4 2 31 14 1 2 5 b 1 24 9 1
64 14 17 4 4 3 1 3 2 7 3 4 d c 1 1 a 4 2bf 3 3b2 4 1c 3 1d 2 1e 2 40 20 9 1 2d 3 1 1 75 2 22 1 76
c 4 c db 5 39 a 1 1d 2 1 30 1f 31 5 2f 11 26 9 c 3 1e d 38 e 30 14 98 3 1 15 4 1 6 1 2 3 c6 40 20c
2 c2 21 bfe 3 8d 1 60 20 22a 6 69 2 75d4 4 1 a 20 2 50 2 110 1 3 1 4 1 17 5 4 1 53 2 32 12 1a 12 d
1 26 8 19 d 2c 4 2f e 24 1 43 e c 1 8 2 2d 3 32 1 1 3 2 2 5 2 1 1 29 5 5 2 ec 8 1 2 4f30 1 2e1 10
10 10 3cd 1 e2 1 95 5 686 3 1 2 5 4 28 3 4 1 a5 2 23d 4 183 2 50 3 46 b 31 4 7a 3 35 f 29 1 2 2 a
4 2d b 7 1 3d 3 24 e 10 2 2c 1 c 3 30 e 8 4 1 2 5c c 6 1 2 1 9d c 15 4 37 2 1 7 2 2 2 3 9 1 a 2 2
7 3 5 c0 12 17 1 51 14 eb 7 2 9 1b 2 52 11 6a d 65 f 100 f f5 6 1 2 2 4 1 1 1 2 8d 7 2 7 3 1 1c a
28 7 1 4 8 1 9 b 2e 10 195 8 1 8 52 16 1 e 7a 6 3 1 1 2 1 7 1 1 42 5 1 2 1 5 15b 4 9 2 1 1 30 7 3
5 14fd 1 6 f 369a 5 3b 7 418 1 1 37 7 4 51 1 b 2 4cab 2 1261 2e 2 17 21e 5 3 6 8 8 2 7 1e 4 94 3
7bb 37 4 32 8 1 e 1 16 5 1 f 550 7 1 11 2 7 1 2 1 5 64 1 a0 7 177 1 3d 4 1fc 4 3e0 7 6d 7 c17b5 f0
"""
