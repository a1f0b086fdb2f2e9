"""A growing vocabulary that turns texts into token ids.

`Lexicon.encode` has three steps. Splitting needs nothing shared: the slice's distinct raw words,
with ids of their own, and its tokens as such ids. Registering is done in turn, slice after slice:
raw words that the collection has not had yet are filtered and stemmed, in Python but once for each
distinct word, and their terms get the next ids. Renaming again needs nothing shared: the slice's
tokens as ids of terms. Word n-grams repeat the three steps for each n, with pairs of ids for
words. So term ids count up in the order of first occurrence in the collection, however it is
sliced and whatever the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from fastseq.errors import DataError, InvalidTextError, RowError
from fastseq.kernels.text import ngrams, tokenize, unicode
from fastseq.text.analyzer import Analyzer
from fastseq.text.filters import Rename, WordFilter, packed, renaming
from fastseq.text.tables import ByteTable, KeyTable
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Int32, Int64, Texts, Tokens, UInt8

Turn = Callable[[int], AbstractContextManager[object]]

_UNITS = {"word": tokenize.WORDS, "space": tokenize.VISIBLE, "char": tokenize.CHARACTERS}
_CJK = {"none": tokenize.AS_WORDS, "bigrams": tokenize.BIGRAMS, "words": tokenize.RUNS}
_SMALL = 1 << 16  # bytes of text up to which sizes are simply taken large enough


class Lexicon:
    """Terms and their ids, growing with every text encoded.

    Several threads may encode slices of one collection at once, each handing in `turn`; ids are
    then those of one thread that encodes the slices in order.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        """Raises MissingExtraError when the analyzer needs a package that is not installed."""
        self.analyzer = analyzer
        self._own = callable(analyzer.tokenizer)
        self._unit = -1 if callable(analyzer.tokenizer) else _UNITS[analyzer.tokenizer]
        self._filter = WordFilter(analyzer)
        self._tables = unicode_tables()
        self._mapping = self._tables.mapping(analyzer.lowercase, analyzer.fold_accents)
        words = analyzer.tokenizer == "word"
        self._shortest = 2 if words and analyzer.min_length != 1 else 1
        self._raw: ByteTable | None = None
        self._grams = [KeyTable(6) for _ in range(analyzer.ngrams[1] - 1)]
        self._lock = threading.Lock()

    # ---- what there is

    def __len__(self) -> int:
        """The number of terms, over all sections."""
        return sum(self.section_sizes)

    @property
    def section_sizes(self) -> list[int]:
        """Terms of each n of the analyzer's n-grams, from low to high; one number without."""
        low, high = self.analyzer.ngrams
        return [self._level_size(n) for n in range(low, high + 1)]

    def terms(self) -> Texts:
        """The terms as UTF-8, by id; section after section, each by its own ids."""
        low, high = self.analyzer.ngrams
        words = left = self._word_texts()
        sections = [words] if low == 1 else []
        for n in range(2, high + 1):
            left = self._ngram_texts(n, left, words)
            if n >= low:
                sections.append(left)
        if len(sections) == 1:
            return Texts(*sections[0])
        offsets = np.zeros(sum(len(o) - 1 for _, o in sections) + 1, np.int64)
        np.cumsum(np.concatenate([np.diff(o) for _, o in sections]), out=offsets[1:])
        return Texts(np.concatenate([data for data, _ in sections]), offsets)

    def _level_size(self, n: int) -> int:
        if n > 1:
            return len(self._grams[n - 2])
        table = self._filter.terms if self._filter.active else self._raw
        return len(table) if table is not None else 0

    def _word_texts(self) -> tuple[UInt8, Int64]:
        table = self._filter.terms if self._filter.active else self._raw
        return (
            table.texts() if table is not None else (np.empty(0, np.uint8), np.zeros(1, np.int64))
        )

    def _ngram_texts(
        self, n: int, left: tuple[UInt8, Int64], words: tuple[UInt8, Int64]
    ) -> tuple[UInt8, Int64]:
        keys = self._grams[n - 2].keys
        lengths = np.empty(len(keys), np.int64)
        ngrams.ngram_lengths(lengths, keys, left[1], words[1])
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        data = np.empty(int(offsets[-1]), np.uint8)
        ngrams.ngram_texts(data, offsets, keys, *left, *words)
        return data, offsets

    # ---- encoding

    def encode(self, texts: Texts, turn: Turn | None = None) -> Tokens:
        """The term ids of each text.

        turn  a function that gives a context manager for each level n = 1 … ngrams[1]: within it
              no other slice of the same level is, and the slices enter in the collection's order.
              Each call enters every level once, unless it fails before. None: a lock of our own,
              ids then follow the order in which calls come.

        With an analyzer of several n, a text's ids are its tokens of the lowest n, then of the
        next, numbered as terms() is at the end of this call: good for a collection encoded in one
        call (see encode_levels for others).

        Raises InvalidTextError, with the text's number in this call, for a text that is not UTF-8,
        unless the analyzer replaces.
        """
        return joined_levels(self.encode_levels(texts, turn), self.section_sizes)

    def encode_levels(self, texts: Texts, turn: Turn | None = None) -> list[Tokens]:
        """The ids of each text's n-grams, one Tokens for each n from low to high.

        Every n counts its ids from 0; section_sizes of the finished lexicon turns them into ids
        of terms(). Arguments and errors as in encode.
        """
        texts = self._checked(texts)
        take_turn = turn if turn is not None else self._take_lock
        ids, ends, table = self._call(texts) if self._own else self._split(texts)
        with take_turn(1):
            rename = self._register(table)
        words = rename(ids, ends)
        low, high = self.analyzer.ngrams
        levels = [words]
        for n in range(2, high + 1):
            levels.append(self._encode_ngrams(n, levels[-1], words, take_turn))
        return levels[low - 1 :]

    def _take_lock(self, level: int) -> AbstractContextManager[object]:
        return self._lock

    def _checked(self, texts: Texts) -> Texts:
        """The texts as valid UTF-8 in arrays that the kernels take."""
        data, offsets = texts.data, texts.offsets
        if not (data.flags.writeable and offsets.flags.writeable):
            data, offsets = data[offsets[0] : offsets[-1]].copy(), offsets - offsets[0]
            texts = Texts(data, offsets)
        row = unicode.first_invalid(data, offsets, 0)
        if row == len(texts):
            return texts
        if self.analyzer.on_invalid == "error":
            raise InvalidTextError(row)
        pieces, lengths, done = [], np.diff(offsets), 0
        while row < len(texts):
            broken = data[offsets[row] : offsets[row + 1]].tobytes()
            whole = broken.decode("utf-8", "replace").encode()
            pieces += [data[offsets[done] : offsets[row]].tobytes(), whole]
            lengths[row] = len(whole)
            done = row + 1
            row = unicode.first_invalid(data, offsets, done)
        pieces.append(data[offsets[done] : offsets[-1]].tobytes())
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Texts(np.frombuffer(bytearray(b"".join(pieces)), np.uint8), offsets)

    def _split(self, texts: Texts) -> tuple[Int32, Int64, ByteTable]:
        """The tokens as ids of their own table of raw words."""
        data, starts = texts.data, texts.offsets
        nbytes = texts.nbytes
        if nbytes <= _SMALL:
            longest = nbytes
            table = ByteTable(nbytes // 6 + 8, 2 * nbytes + 64, tokenize.NEWLINE)
        else:
            longest = int(np.diff(starts).max())
            table = ByteTable(nbytes // 128 + 4096, nbytes // 16 + 65536, tokenize.NEWLINE)
        ids = np.empty(nbytes // (1 if self._unit == tokenize.CHARACTERS else 3) + 16, np.int32)
        ends = np.zeros(len(starts), np.int64)
        progress = np.zeros(1, np.int64)
        scratch = np.empty(longest + 128, np.uint8)
        word = np.empty(min(longest, 4096) + 64, np.uint8)
        edges = np.empty(tokenize.EDGES, np.int64)
        hashes = np.empty(tokenize.EDGES, np.uint64)
        while True:
            status = tokenize.tokenize(
                ids,
                ends,
                progress,
                table.slots,
                table.arena,
                table.offsets,
                table.size,
                scratch,
                word,
                edges,
                hashes,
                data,
                starts,
                self._tables.flags_index,
                self._tables.flags,
                self._mapping.index,
                self._mapping.values,
                self._tables.pool,
                self._unit,
                _CJK[self.analyzer.cjk],
                int(self.analyzer.lowercase),
                self._shortest,
            )
            if status == tokenize.DONE:
                return ids[: ends[-1]], ends, table
            if status == tokenize.GROW_TABLE:
                table.grow()
            elif status == tokenize.GROW_IDS:
                ids = np.concatenate([ids, np.empty(len(ids), np.int32)])
            else:
                word = np.empty(4 * len(word), np.uint8)

    def _call(self, texts: Texts) -> tuple[Int32, Int64, ByteTable]:
        """The tokens that the analyzer's own function makes, as ids of their own table."""
        split = self.analyzer.tokenizer
        assert callable(split)
        lowercase, fold_accents = self.analyzer.lowercase, self.analyzer.fold_accents
        changed: dict[str, str] = {}
        known: dict[str, int] = {}
        ids: list[int] = []
        ends = np.zeros(len(texts.offsets), np.int64)
        for row, text in enumerate(texts.to_strings()):
            for token in split(text):
                if not isinstance(token, str):
                    raise RowError(row, f"the tokenizer gave {token!r}; expected str")
                if token not in changed:
                    changed[token] = self._tables.change(token, lowercase, fold_accents)
                if changed[token]:
                    ids.append(known.setdefault(changed[token], len(known)))
            ends[row + 1] = len(ids)
        try:
            data, starts, gap = packed(list(known), 0)
        except UnicodeEncodeError:
            raise DataError("the tokenizer gave a token that is no valid Unicode text") from None
        table = ByteTable(len(known), len(data), 0)
        table.register(data, starts, gap)
        return np.array(ids, np.int32), ends, table

    def _register(self, local: ByteTable) -> Rename:
        """Take in a slice's raw words; returns what renames its ids. Called in turn."""
        count = len(local)
        if self._raw is None or not len(self._raw):
            self._raw = local
            known = None
        else:
            known = self._raw.register(local.arena, local.offsets[: count + 1], local.gap)
        if self._filter.active:
            self._filter.take(self._raw)
            return self._filter.renaming(known)
        return renaming(known)

    def _encode_ngrams(self, n: int, left: Tokens, words: Tokens, take_turn: Turn) -> Tokens:
        """The n-grams of each text, from its (n-1)-grams and its words."""
        ids = np.empty(len(left.values), np.int32)
        ends = np.zeros(len(left.offsets), np.int64)
        progress = np.zeros(1, np.int64)
        local = KeyTable(len(ids) // 4 + 8)
        while ngrams.word_ngrams(
            ids,
            ends,
            progress,
            local.slots,
            local.room,
            local.size,
            left.values,
            left.offsets,
            words.values,
            words.offsets,
            n,
        ):
            local.grow()
        with take_turn(n):
            grams = self._grams[n - 2]
            if not len(grams):
                self._grams[n - 2] = local
                known = None
            else:
                known = grams.register(local.keys)
        return renaming(known)(ids[: ends[-1]], ends)


def joined_levels(levels: Sequence[Tokens], sizes: Sequence[int]) -> Tokens:
    """One Tokens of several n-gram levels, with the ids of one after those of the other."""
    if len(levels) == 1:
        return levels[0]
    offsets: Int64 = np.sum([level.offsets for level in levels], axis=0, dtype=np.int64)
    values = np.empty(int(offsets[-1]), np.int32)
    cursor = offsets[:-1].copy()
    for level, base in zip(levels, [0, *np.cumsum(sizes)], strict=False):
        ngrams.interleave(values, cursor, level.values, level.offsets, base)
    return Tokens(values, offsets)
