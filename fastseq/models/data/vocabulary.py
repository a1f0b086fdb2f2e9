"""Units and their ids.

    vocabulary = Vocabulary.learn(Units("word"), [texts], min_count=2)
    tokens = vocabulary.encode(Texts.from_strings(["A new text."]))   # types.Tokens
    vocabulary.decode(tokens.values)                                  # 'a new text .'

Ids: 0 is `<unk>`, whatever was not learned; with `end`, 1 is `<eos>`, the end of a row; then the
units, the most frequent first, equals in the order of first occurrence. Where text split at white
space holds "<unk>" or "<eos>" itself (prepared corpora do), those are these two. Bytes are their
own ids, 0 to 255, and have neither of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.models.data.ragged import gathered, offsets_of
from fastseq.models.data.units import Units, checked
from fastseq.types import Int32, Int64, Texts, Tokens

if TYPE_CHECKING:
    from fastseq.text.tables import ByteTable, Dictionary

UNKNOWN = "<unk>"
END = "<eos>"
BYTES = 256
PADDING = 8  # bytes readable after the last string, as kernels/text/hashing.py asks for


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A fixed set of units with ids.

    units   how text becomes units
    texts   the unit of each id, `<unk>` and `<eos>` among them; for bytes the 256 of them
    end     the id of `<eos>`, which ends a row of a language model; None without one
    """

    units: Units
    texts: Texts
    end: int | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def unknown(self) -> int | None:
        """The id of what was not learned; None with bytes, which are all known."""
        return None if self.units.unit == "byte" else 0

    @cached_property
    def _dictionary(self) -> Dictionary:
        from fastseq.text.tables import Dictionary

        return Dictionary(self.texts)

    @cached_property
    def _strings(self) -> list[bytes]:
        raw, at = self.texts.data.tobytes(), self.texts.offsets.tolist()
        return [raw[a:b] for a, b in pairwise(at)]

    # ---- learning

    @classmethod
    def learn(
        cls,
        units: Units,
        slices: Iterable[Texts],
        min_count: int = 1,
        max_size: int | None = None,
        end: bool = False,
    ) -> Vocabulary:
        """The vocabulary of some texts; arguments and errors as for VocabularyBuilder."""
        builder = VocabularyBuilder(units)
        for texts in slices:
            builder.add(texts)
        return builder.finish(min_count, max_size, end)[0]

    # ---- using

    def encode(self, texts: Texts) -> Tokens:
        """The ids of each text's units; `<eos>` is not added. Any number of threads may do this.

        Raises InvalidTextError for a text that is not UTF-8 (bytes take anything).
        """
        if self.units.unit == "byte":
            first, last = int(texts.offsets[0]), int(texts.offsets[-1])
            return Tokens(texts.data[first:last].astype(np.int32), texts.offsets - first)
        split = self.units.split(texts)
        return Tokens(self.lookup(Texts(*split.table.texts()))[split.ids], split.offsets)

    def encode_tokens(self, tokens: Texts) -> Int32:
        """int32[n]: the id of each token of text that is already split, lower-cased where the
        units are.

        Raises InvalidTextError for a token that is not UTF-8, SettingsError with bytes.
        """
        split = self.units.split(tokens, whole=True)
        return self.lookup(Texts(*split.table.texts()))[split.ids]

    def lookup(self, units: Texts) -> Int32:
        """int32[n]: the id of each unit as it stands, 0 (`<unk>`) for those that have none."""
        return np.maximum(self._dictionary.columns(units), 0)

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of some ids: words joined by spaces, characters and bytes by nothing.

        Bytes that are not UTF-8 become U+FFFD. Raises DataError for an id that is none.
        """
        wanted = np.asarray(ids, np.int64).reshape(-1)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise DataError(f"ids from {wanted.min()} to {wanted.max()}, expected 0 to {len(self)}")
        joiner = self.units.joiner.encode()
        return joiner.join([self._strings[i] for i in wanted.tolist()]).decode("utf-8", "replace")

    def coverage(self, found: Sequence[int], ids: Int32) -> dict[str, int]:
        """`coverage_of` the units, `<unk>` and `<eos>` excepted, in `ids`: the numbers of those
        that have word vectors are `found`."""
        special = 0 if self.unknown is None else 1 if self.end is None else 2
        counts, has = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        for start in range(0, len(ids), 1 << 20):  # ids may lie in a file
            counts += np.bincount(ids[start : start + (1 << 20)], minlength=len(self))
        has[np.asarray(found, np.int64)] = True
        return coverage_of(counts[special:], has[special:])

    # ---- keeping

    def to_texts(self) -> Texts:
        """The units by id: what a file has to hold beside `to_dict`. Bytes need not be written,
        and are not UTF-8."""
        return self.texts

    def to_dict(self) -> dict[str, Any]:
        """The rest of the vocabulary as JSON has it."""
        return {"units": self.units.to_dict(), "end": self.end, "size": len(self)}

    @classmethod
    def from_texts(cls, texts: Texts | None, saved: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of `to_texts` and `to_dict`; the texts of bytes may be None.

        Raises FormatError when the two do not go together.
        """
        try:
            units, end, size = Units.from_dict(saved["units"]), saved["end"], saved["size"]
        except (KeyError, TypeError) as error:
            raise FormatError(f"the saved vocabulary lacks {error}") from None
        if units.unit == "byte":
            texts = _byte_texts()
        special = [] if units.unit == "byte" else [UNKNOWN] + ([END] if end is not None else [])
        if texts is None or len(texts) != size or end not in (None, 1):
            found = "none" if texts is None else len(texts)
            raise FormatError(f"the saved vocabulary is damaged: {found} units, expected {size}")
        vocabulary = cls(units, texts, end)
        if vocabulary._strings[: len(special)] != [name.encode() for name in special]:
            raise FormatError(f"the saved vocabulary is damaged: it does not begin with {special}")
        return vocabulary


def coverage_of(counts: Int64, found: npt.NDArray[np.bool_]) -> dict[str, int]:
    """{"units": that occur, "found": of them, those with word vectors, "tokens": occurrences of
    units, "tokens_found": of units with word vectors}.

    counts, found  int64[V], bool[V]: how often each unit occurs, and whether it has a vector
    """
    return {
        "units": int(np.count_nonzero(counts)),
        "found": int(np.count_nonzero(counts[found])),
        "tokens": int(counts.sum()),
        "tokens_found": int(counts[found].sum()),
    }


class VocabularyBuilder:
    """Counts units while texts are read, giving them numbers for the time being.

    The numbers count up in the order of first occurrence; `finish` gives the vocabulary and the
    id of each number, so that a collection has to be read only once.
    """

    def __init__(self, units: Units) -> None:
        from fastseq.text.tables import ByteTable

        self.units = units
        self._table = ByteTable(4096, 65536, 0)
        self._counts: Int64 = np.zeros(4096, np.int64)
        self._raw = False  # whether the table holds tokens as they were written
        self.cut_rows = 0  # by the last `add` or `add_tokens`

    def add(self, texts: Texts, longest: int | None = None) -> Tokens:
        """The units of some texts as numbers, of each the first `longest`. Bytes are their ids.

        Raises InvalidTextError for a text that is not UTF-8 (bytes take anything).
        """
        if self.units.unit == "byte":
            tokens = Vocabulary(self.units, _byte_texts()).encode(texts)
            return Tokens(*self._cut(tokens.values, tokens.offsets, longest))
        split = self.units.split(texts)
        ids, offsets = self._cut(split.ids, split.offsets, longest)
        table = split.table
        named = self._table.register(table.arena, table.offsets[: len(table) + 1], 0)
        self._count(named, np.bincount(ids, minlength=len(table)))
        return Tokens(named[ids], offsets)

    def add_tokens(self, tokens: Texts, offsets: Int64, longest: int | None = None) -> Tokens:
        """The same for rows that are already split: row d has tokens offsets[d] to
        offsets[d + 1]. Tokens that differ in case alone have numbers of their own here, and
        become one in `finish` where the units are lower-cased.

        Raises InvalidTextError for a token that is not UTF-8.
        """
        self._raw = True
        tokens = checked(tokens)
        ids, offsets = self._cut(register(self._table, tokens), offsets, longest)
        self._count(np.arange(len(self._table)), np.bincount(ids, minlength=len(self._table)))
        return Tokens(ids, offsets)

    def spellings(self) -> Texts:
        """What each number stands for: a unit, or a token as it was written."""
        return Texts(*self._table.texts())

    def finish(
        self, min_count: int = 1, max_size: int | None = None, end: bool = False
    ) -> tuple[Vocabulary, Int32]:
        """The vocabulary, and int32[n]: the id of each number.

        Parameters
        ----------
        min_count : units that occur less often are unknown
        max_size : the most frequent units to keep, beside `<unk>` and `<eos>`; None for all
        end : whether there is an `<eos>`

        Raises
        ------
        SettingsError
            min_count or max_size below 1, bytes with an `<eos>`.
        DataError
            No unit is left.
        """
        for name, value in (("min_count", min_count), ("max_size", max_size)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; expected at least 1")
        if self.units.unit == "byte":
            if end:
                raise SettingsError("bytes have no <eos>: expected end=False with them")
            return Vocabulary(self.units, _byte_texts()), np.arange(BYTES, dtype=np.int32)
        from fastseq.text.tables import Dictionary

        known, counts = self.spellings(), self._counts[: len(self._table)].copy()
        unit_of: Int32 | None = None
        if self._raw and self.units.lowercase:
            split = self.units.split(known, whole=True)
            known, unit_of = Texts(*split.table.texts()), split.ids
            summed = np.zeros(len(known), np.int64)
            np.add.at(summed, unit_of, counts)
            counts = summed
        total = int(counts.sum())
        special = Texts.from_strings([UNKNOWN, END] if end else [UNKNOWN])
        reserved = Dictionary(special).columns(known)
        counts[reserved >= 0] = 0
        order = np.argsort(-counts, kind="stable")
        kept = order[: int(np.count_nonzero(counts >= min_count))][:max_size].astype(np.int32)
        if not len(kept):
            raise DataError(
                f"no units are left of {total}: expected "
                + (f"min_count below {min_count}" if total else "texts that are not empty")
            )
        mapping = np.maximum(reserved, 0)
        mapping[kept] = np.arange(len(special), len(special) + len(kept), dtype=np.int32)
        texts = _joined(special, known, kept)
        if unit_of is not None:
            mapping = mapping[unit_of]
        return Vocabulary(self.units, texts, 1 if end else None), mapping

    def ids_in(self, vocabulary: Vocabulary) -> Int32:
        """int32[n]: the id of each number in a vocabulary that stands, 0 for what it lacks."""
        if self.units.unit == "byte":
            return np.arange(BYTES, dtype=np.int32)
        if self._raw:
            return vocabulary.encode_tokens(self.spellings())
        return vocabulary.lookup(self.spellings())

    def _cut(self, ids: Int32, offsets: Int64, longest: int | None) -> tuple[Int32, Int64]:
        lengths = np.diff(offsets)
        self.cut_rows = 0 if longest is None else int(np.count_nonzero(lengths > longest))
        if longest is None or not self.cut_rows:
            return ids, offsets
        kept = np.minimum(lengths, longest)
        return gathered(ids, offsets[:-1], kept), offsets_of(kept)

    def _count(self, numbers: npt.NDArray[Any], counts: Int64) -> None:
        if len(self._table) > len(self._counts):
            grown = np.zeros(2 * len(self._table), np.int64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[numbers] += counts


def register(table: ByteTable, strings: Texts) -> Int32:
    """int32[n]: the number of each string in a growing table, new ones added."""
    first = int(strings.offsets[0])
    data = np.zeros(strings.nbytes + PADDING, np.uint8)
    data[: strings.nbytes] = strings.data[first : first + strings.nbytes]
    return table.register(data, strings.offsets - first, 0)


def _joined(special: Texts, known: Texts, kept: Int32) -> Texts:
    """The special units, then those of the known ones that are kept, in that order."""
    lengths = np.diff(known.offsets)[kept]
    data = gathered(known.data, known.offsets[:-1][kept], lengths)
    offsets = offsets_of(np.concatenate([np.diff(special.offsets), lengths]))
    return Texts(np.concatenate([special.data, data]), offsets)


def _byte_texts() -> Texts:
    return Texts(np.arange(BYTES, dtype=np.uint8), np.arange(BYTES + 1, dtype=np.int64))
