"""What a sequence model reads one after the other: words, characters or bytes.

Units("word").pieces("Don't stop, 東京!")  # ['don', "'", 't', 'stop', ',', '東', '京', '!']
Units("space").pieces("No <unk> , yet")    # ['No', '<unk>', ',', 'yet']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import FormatError, InvalidTextError, SettingsError
from fastseq.models.data.marks import is_mark
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Int32, Int64, Texts, UInt8

if TYPE_CHECKING:
    from fastseq.text.tables import ByteTable

UNITS = ("word", "space", "char", "byte")

_SPACE, _HAN_AND_KANA = 2, 1  # of the flags in fastseq/text/unicode.npz
_SCRIPT_SHIFT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """D texts as units that are numbered by first occurrence.

    ids      int32[n]      offsets  int64[D + 1]: text i holds ids[offsets[i]:offsets[i + 1]]
    table    the distinct units, by id
    """

    ids: Int32
    offsets: Int64
    table: ByteTable


@dataclass(frozen=True)
class Units:
    """How a text becomes units. Equal settings give equal units under every Python.

    unit       "word": the matches of `W[WM]*|[^\\s]M*`, W being a word character (letter, digit,
               underscore) that is neither Han nor kana, M a combining mark or joiner: so runs of
               word characters, and every punctuation mark, Han or kana character alone;
               "space": what str.split() gives, for text that is already tokenised;
               "char": every character, white space too; "byte": every byte of the UTF-8
    lowercase  lower-case the text first (Unicode's full mapping); None: with words only. Text
               split at spaces keeps its case, since whoever tokenised it chose the case too

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
        """What stands between units when they become text again."""
        return " " if self.unit in ("word", "space") else ""

    def pieces(self, text: str) -> list[str]:
        """The units of one text; for looking at, not for speed. Bytes come as chr(0) to chr(255).

        Raises InvalidTextError for a lone surrogate, which no UTF-8 holds.
        """
        if self.unit == "byte":
            return [chr(byte) for byte in text.encode("utf-8", "surrogatepass")]
        split = self.split(Texts.from_strings([text]))
        distinct = Texts(*split.table.texts()).to_strings()
        return [distinct[i] for i in split.ids.tolist()]

    def split(self, texts: Texts, whole: bool = False) -> Split:
        """The units of some texts. Any number of threads may do this at once.

        whole  every text is one unit as it is (an empty one too), lower-cased where that is set

        Raises
        ------
        InvalidTextError
            A text is not valid UTF-8.
        SettingsError
            The unit is the byte, which needs no splitting.
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
            texts.offsets, *unicode_tables().characters(lower, False), _kinds(),
            kernels.WHOLE if whole else mode[self.unit], int(lower),
        )  # fmt: skip
        return Split(ids, ends, table)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them, and the version of the Unicode tables."""
        return {
            "unit": self.unit,
            "lowercase": self.lowercase,
            "unicode": unicode_tables().version,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Units:
        """The units that to_dict wrote.

        Raises FormatError for settings that this version does not know.
        """
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
    """The texts in arrays that the kernels take, once they are known to be UTF-8.

    Raises InvalidTextError when one is not.
    """
    from fastseq.kernels.text.unicode import first_invalid

    data, offsets = texts.data, texts.offsets
    if not (data.flags.writeable and offsets.flags.writeable):
        # read-only arrays are another type to Numba and would compile every kernel again
        texts = Texts(data[offsets[0] : offsets[-1]].copy(), offsets - offsets[0])
    run = texts.data[texts.offsets[0] : texts.offsets[-1]]
    if not len(run) or run.max() < 0x80:  # quicker than one by one, where texts are short
        return texts
    row = first_invalid(texts.data, texts.offsets, 0)
    if row < len(texts):
        raise InvalidTextError(row)
    return texts


@cache
def _kinds() -> UInt8:
    """uint8[1114112]: the kind of each code point, as kernels/text/tokenize.py numbers them."""
    from fastseq.kernels.text import tokenize as kernels

    tables = unicode_tables().characters(False, False)
    flags = tables.flags.reshape(-1, 128)[tables.flags_index].reshape(-1)
    script = flags >> _SCRIPT_SHIFT & 3
    kinds = np.full(len(flags), kernels.SINGLE, np.uint8)
    kinds[(flags & 1 != 0) & (script != _HAN_AND_KANA)] = kernels.WORD_CHARACTER
    kinds[flags & _SPACE != 0] = kernels.BLANK
    kinds[is_mark()] = kernels.COMBINING_MARK
    return kinds
