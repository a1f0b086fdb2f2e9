"""The words of a vocabulary in the order of their bytes.

words = SortedWords(Texts.from_strings(["sub", "subproject", "subpar", "super"]))
words.strings(words.prefix(b"subp"))                      # ["subpar", "subproject"]
words.strings(words.matching(wildcard("su*r")))           # ["subpar", "super"]
words.fuzzy("supper", 1)                                  # (ids of "super", [1])
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastseq.kernels.text import vocabulary as kernels
from fastseq.kernels.text.unicode import NOTHING
from fastseq.settings import whole
from fastseq.types import Int32, Int64, Texts, UInt8

if TYPE_CHECKING:
    from fastseq.text.patterns import Automaton


class Similar(NamedTuple):
    """The words within an edit distance, ascending by spelling.

    ids    int32[n]  of words
    edits  uint8[n]  the distance of each
    """

    ids: Int32
    edits: UInt8


class SortedWords:
    """The words of a vocabulary, sorted by their bytes; it never changes.

    Ids are numbers of words in the vocabulary, in results ascending by spelling. Arrays of ids may
    be views: they must not be changed. Several threads may use one object.

    words : distinct, in valid UTF-8
    """

    def __init__(self, words: Texts) -> None:
        n = len(words)
        keys = np.empty(n, np.uint64)
        kernels.first_bytes(keys, words.data, words.offsets)
        self._order = np.argsort(keys).astype(np.int32)
        scratch = np.empty(n, np.int32)
        kernels.sort_ties(self._order, scratch, keys, words.data, words.offsets)
        self._data: UInt8 = np.empty(words.nbytes + kernels.PADDING, np.uint8)
        self._data[words.nbytes :] = 0
        self._offsets: Int64 = np.empty(n + 1, np.int64)
        self._lcp: UInt8 = np.zeros(n + kernels.PADDING, np.uint8)
        self._branches: UInt8 = np.zeros(n + kernels.PADDING, np.uint8)
        kernels.gather_words(
            self._data, self._offsets, self._lcp, self._branches, words.data, words.offsets,
            self._order,
        )  # fmt: skip

    def __len__(self) -> int:
        """The number of words."""
        return len(self._order)

    @property
    def order(self) -> Int32:
        """int32[V]: the ids of all words."""
        return self._order

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self._order, self._data, self._offsets, self._lcp, self._branches)
        return sum(array.nbytes for array in arrays)

    @cached_property
    def _places(self) -> Int32:
        """int32[V]: the place of each word in the order."""
        places = np.empty(len(self), np.int32)
        places[self._order] = np.arange(len(self), dtype=np.int32)
        return places

    def strings(self, ids: Int32) -> list[str]:
        """The words with these ids."""
        places = self._places[ids]
        starts, stops = self._offsets[places].tolist(), self._offsets[places + 1].tolist()
        spans = zip(starts, stops, strict=True)
        return [self._data[a:b].tobytes().decode("utf-8", "replace") for a, b in spans]

    def prefix(self, prefix: bytes) -> Int32:
        """int32[n]: the ids of the words that begin with some bytes."""
        first, stop = self._prefix_range(prefix)
        return self._order[first:stop]

    def range(
        self, low: bytes | None = None, high: bytes | None = None, include_low: bool = True,
        include_high: bool = True,
    ) -> Int32:  # fmt: skip
        """int32[n]: the ids of the words between two, by bytes.

        low, high : None where there is no such limit
        include_low, include_high : whether the words include the limit itself
        """
        first, stop = 0, len(self)
        if low is not None:
            first = self._find(low, kernels.BEFORE if include_low else kernels.THROUGH)
        if high is not None:
            stop = self._find(high, kernels.THROUGH if include_high else kernels.BEFORE)
        return self._order[first : max(first, stop)]

    def matching(self, automaton: Automaton) -> Int32:
        """int32[n]: the ids of the words that a pattern matches (see text/patterns.py)."""
        first, stop = self._prefix_range(automaton.prefix)
        out = np.empty(stop - first, np.int32)
        stack = np.empty(kernels.STACK, np.uint16)
        found = kernels.match_words(
            out, stack, self._order, self._data, self._offsets, self._lcp, first, stop,
            automaton.table, automaton.flags, automaton.ascii_classes, automaton.bounds,
            automaton.classes,
        )  # fmt: skip
        return out[:found].copy()

    def fuzzy(self, word: str, max_edits: int = 2, prefix_length: int = 0) -> Similar:
        """The words within an edit distance of a word, which need not be one of the vocabulary.

        Edits are insertions, deletions, substitutions and transpositions of neighbouring code
        points, none of which changes a part of the word twice (optimal string alignment).

        max_edits : 0 to 2
        prefix_length : code points at the beginning that must be equal

        Raises SettingsError for other numbers.
        """
        max_edits = whole("max_edits", max_edits, 0, kernels.MOST_EDITS + 1)
        prefix_length = whole("prefix_length", prefix_length, 0)
        prefix = word[:prefix_length].encode("utf-8", "surrogatepass")
        first, stop = self._prefix_range(prefix)
        if not max_edits:
            ids = self.range(key := word.encode("utf-8", "surrogatepass"), key)
            return Similar(ids, np.zeros(len(ids), np.uint8))
        rest = word[prefix_length:]
        n, before = len(rest), kernels.QUERY_BEFORE
        query = np.full(before + n + kernels.QUERY_AFTER, NOTHING, np.uint32)
        query[before : before + n] = np.frombuffer(rest.encode("utf-32-le", "surrogatepass"), "<u4")
        leads = np.full(len(query), kernels.NO_LEAD, np.uint8)
        leads[before : before + n] = [c.encode("utf-8", "surrogatepass")[0] for c in rest]
        ids, edits = np.empty(stop - first, np.int32), np.empty(stop - first, np.uint8)
        stack = np.empty(kernels.STACK, np.uint64)
        found = kernels.compare_words(
            ids, edits, stack, self._order, self._data, self._offsets, self._lcp, self._branches,
            first, stop, len(prefix), query, leads, max_edits,
        )  # fmt: skip
        return Similar(ids[:found].copy(), edits[:found].copy())

    def _prefix_range(self, prefix: bytes) -> tuple[int, int]:
        """(first, stop) of the words that begin with some bytes."""
        if not prefix:
            return 0, len(self)
        return self._find(prefix, kernels.BEFORE), self._find(prefix, kernels.STARTING)

    def _find(self, key: bytes, what: int) -> int:
        """See kernels.find_word."""
        key_bytes = np.frombuffer(bytearray(key), np.uint8)
        return kernels.find_word(self._data, self._offsets, key_bytes, what)
