"""A growing vocabulary: texts to term ids that do not depend on the number of threads.

`Lexicon.encode_levels` has three steps. Splitting shares nothing: it finds the slice's distinct raw
words, with ids of their own, and its tokens as such ids. Registering holds the lock, slice after
slice: raw words that are not cached are filtered and stemmed, in Python, and terms that are new to
the collection get the next ids. Renaming shares nothing again: it turns the
slice's tokens into ids of terms. Word n-grams repeat the three steps for each n, with pairs of ids
in place of words. So term ids follow first occurrence in the collection, however it is sliced
and on any number of threads.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, compress
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import InvalidTextError, RowError
from fastseq.kernels.text import raw_words as word_kernels
from fastseq.kernels.text import tokenize, unicode
from fastseq.text.language import segmenter, stem
from fastseq.text.normalising import FIRST, LANGUAGES, LAST, STEMMED, normalised
from fastseq.text.settings import INDEX_TOKENIZER, AnalysisSettings
from fastseq.text.splitting import HAN, Splitter, packed, splitter_of, stop_words
from fastseq.text.tables import ByteTable, Column, KeyTable, chosen_texts
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, RawWords, Texts, Tokens, UInt8, offsets_of

# enters the critical section of an n-gram level (1 for words), or of one of several lexicons'
Ticket = Callable[[Any], AbstractContextManager[object]]
Rename = Callable[[Int32, Int64], Tokens]
Bools = npt.NDArray[np.bool_]
_SHORT = 1 << 10  # bytes
Slice = TypeVar("Slice")
Result = TypeVar("Result")


class Lexicon:
    """Terms and their ids, growing with every text encoded.

    Several threads may encode slices of one collection at once, each with a ticket; ids are then
    those of one thread that encodes the slices in order.
    """

    def __init__(
        self, analyzer: AnalysisSettings, gaps: bool = False, max_raw_bytes: float = math.inf,
        counts_words: bool = False,
    ) -> None:  # fmt: skip
        """Raises MissingExtraError when the analyzer needs a package that is not installed.

        analyzer : without a tokenizer, that of an index
        gaps : tokens of removed words (stop words and those of another length) are -1 instead of
            left out; not with n-grams
        max_raw_bytes : size at which the cache of raw words is cleared
        counts_words : for raw_words; of an analyzer that changes words
        """
        assert not gaps or not analyzer.has_ngrams
        assert not counts_words or analyzer.changes_words
        self.analyzer = analyzer = analyzer.resolved(INDEX_TOKENIZER)
        self._gaps = gaps
        self._splitter = splitter_of(analyzer)
        self._filter = WordFilter(self._splitter, gaps)
        self._raw: ByteTable | None = None
        self._max_raw_bytes = max_raw_bytes
        self._counts = Column(np.int64) if counts_words else None
        self._cleared: list[RawWords] = []
        self._grams = [KeyTable(6) for _ in range(analyzer.ngrams[1] - 1)]
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of terms, over all sections."""
        return sum(self.section_sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the vocabulary takes; an estimate while other threads encode."""
        raw = self._raw
        tables = self._grams if raw is None else [raw, *self._grams]
        counts = 0 if self._counts is None else self._counts.nbytes
        return self._filter.nbytes + counts + sum(table.nbytes for table in tables)

    @property
    def section_sizes(self) -> list[int]:
        """Terms of each n of the analyzer's n-grams, from low to high; one number without."""
        words = self._word_table
        sizes = [len(table) for table in (words if words is not None else (), *self._grams)]
        return sizes[self.analyzer.ngrams[0] - 1 :]

    @property
    def _word_table(self) -> ByteTable | None:
        return self._filter.terms if self._filter.active else self._raw

    def terms(self) -> Texts:
        """The terms as UTF-8, by id; section after section, each by its own ids."""
        table = self._word_table
        words = Texts(*table.texts()) if table is not None else Texts.from_strings([])
        sections = [words]
        for grams in self._grams:
            sections.append(_ngram_texts(grams.keys, sections[-1], words))
        sections = sections[self.analyzer.ngrams[0] - 1 :]
        if len(sections) == 1:
            return sections[0]
        offsets = offsets_of(np.concatenate([np.diff(texts.offsets) for texts in sections]))
        return Texts(np.concatenate([texts.data for texts in sections]), offsets)

    def raw_words(self) -> RawWords:
        """The raw words that have a term, since their cache was last cleared, and the occurrences
        of each in these texts; in the order of terms, those of a term in the order of first
        occurrence. Not those of a script that is segmented, which are terms as they are."""
        raw, counts = self._raw, self._counts
        assert counts is not None
        if raw is None or not len(raw):
            return RawWords(Texts.from_strings([]), np.empty(0, np.int32), np.empty(0, np.int64))
        terms = self._filter.terms_of_words()
        places = offsets_of(np.bincount(terms[terms >= 0], minlength=1))
        order = np.empty(int(places[-1]), np.int32)
        word_kernels.sort_by_term(order, places, terms)
        words = chosen_texts(raw.arena, raw.offsets[: len(raw) + 1], raw.gap, order)
        return RawWords(words, terms[order], counts.values[order])

    def take_cleared(self) -> list[RawWords]:
        """The `raw_words` before each time that their cache was cleared, since the last call; from
        one thread, while others may encode."""
        found = []
        while self._cleared:
            found.append(self._cleared.pop(0))
        return found

    def encode(self, texts: Texts) -> Tokens:
        """The term ids of each text.

        With an analyzer of several n, a text's ids are its tokens of the lowest n, then of the
        next, numbered as terms() is at the end of this call: good for a collection encoded in one
        call (see encode_levels for others).

        Raises InvalidTextError, with the text's number in this call, for a text that is not UTF-8,
        unless the analyzer replaces.
        """
        return joined_levels(self.encode_levels(texts), self.section_sizes)

    def encode_levels(self, texts: Texts, ticket: Ticket | None = None) -> list[Tokens]:
        """The ids of each text's n-grams, one Tokens for each n from low to high.

        Every n counts its ids from 0; section_sizes of the finished lexicon turns them into ids
        of terms(). Errors as in encode.

        ticket : of a TicketLock. Each call enters every level once, unless it fails before. None:
            a lock of the lexicon; ids then follow the order of the calls.
        """
        texts = valid_texts(texts, self.analyzer.on_invalid)
        enter = ticket if ticket is not None else lambda level: self._lock
        ids, ends, table = self._splitter.split(texts)
        counts = np.zeros(len(table) if self._counts is not None else 0, np.int64)
        if self._counts is not None:
            word_kernels.count_ids(counts, ids)
        with enter(1):
            rename = self._register(table, counts)
        words = rename(ids, ends)
        levels = [words]
        for n in range(2, self.analyzer.ngrams[1] + 1):
            from fastseq.kernels.text import ngrams

            left = levels[-1]  # the (n-1)-grams
            local = KeyTable(len(left.values) // 4 + 8)
            ids, ends = local.intern_tokens(
                ngrams.word_ngrams, len(left), len(left.values), left.values, left.offsets,
                words.values, words.offsets, n,
            )  # fmt: skip
            with enter(n):
                mapping = None
                if len(self._grams[n - 2]):
                    mapping = self._grams[n - 2].register(local.keys)
                else:
                    self._grams[n - 2] = local
            levels.append(renaming(mapping)(ids, ends))
        return levels[self.analyzer.ngrams[0] - 1 :]

    def _register(self, local: ByteTable, counts: Int64) -> Rename:
        """Add a slice's raw words, with their occurrences where these are counted; returns the
        function that renames its ids."""
        active = self._filter.active
        if active and self._raw is not None:
            nbytes = self._raw.nbytes + self._filter.raw_bytes
            if nbytes > self._max_raw_bytes:
                self._clear_raw()
        if self._raw is None or not len(self._raw):
            self._raw, known = local, None
        else:
            known = self._raw.register(local.arena, local.offsets[: len(local) + 1], local.gap)
        if not active:
            return renaming(known)
        if self._counts is not None:
            self._counts.append(np.zeros(len(self._raw) - self._counts.size, np.int64))
            self._counts.values[slice(None) if known is None else known] += counts
        self._filter.add(self._raw)
        return self._filter.renaming(known)

    def _clear_raw(self) -> None:
        if self._counts is not None:
            self._cleared.append(self.raw_words())
            self._counts = Column(np.int64)
        self._raw = None
        self._filter.clear_raw()


def valid_texts(texts: Texts, on_invalid: str) -> Texts:
    """The texts as valid UTF-8 in writable arrays. Raises InvalidTextError where on_invalid is
    "error" and a text is not UTF-8."""
    data, offsets = texts.data, texts.offsets
    if not (data.flags.writeable and offsets.flags.writeable):
        texts = Texts(data[offsets[0] : offsets[-1]].copy(), offsets - offsets[0])
    own = texts.data[texts.offsets[0] : texts.offsets[-1]]
    if len(own) <= _SHORT and int(own.max(initial=0)) < 128:
        return texts  # ASCII: a process that searches once waits for one kernel less
    row = unicode.first_invalid(texts.data, texts.offsets, 0)
    if row == len(texts):
        return texts
    if on_invalid == "error":
        raise InvalidTextError(row)
    return Texts.from_strings(texts.to_strings())  # which replaces


def _ngram_texts(keys: npt.NDArray[np.uint64], left: Texts, words: Texts) -> Texts:
    """The text of each n-gram: its (n-1)-gram, a space, its last word."""
    from fastseq.kernels.text import ngrams

    first, last = keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)
    offsets = offsets_of(np.diff(left.offsets)[first] + 1 + np.diff(words.offsets)[last])
    data = np.empty(int(offsets[-1]), np.uint8)
    ngrams.ngram_texts(data, offsets, keys, left.data, left.offsets, words.data, words.offsets)
    return Texts(data, offsets)


def joined_levels(levels: Sequence[Tokens], sizes: Sequence[int]) -> Tokens:
    """One Tokens of several n-gram levels, with the ids of one after those of the other."""
    if len(levels) == 1:
        return levels[0]
    from fastseq.kernels.text import ngrams

    offsets: Int64 = np.sum([level.offsets for level in levels], axis=0, dtype=np.int64)
    values = np.empty(int(offsets[-1]), np.int32)
    cursor = offsets[:-1].copy()
    for level, base in zip(levels, [0, *np.cumsum(sizes)], strict=False):
        ngrams.interleave(values, cursor, level.values, level.offsets, base)
    return Tokens(values, offsets)


def renaming(mapping: Int32 | None, gaps: bool = False) -> Rename:
    """The function that maps the (ids, ends) of texts in place, without ids mapped to -1 unless
    `gaps`; None: the ids stay."""

    def rename(ids: Int32, ends: Int64) -> Tokens:
        if mapping is not None and gaps:
            ids = mapping[ids]
        elif mapping is not None:
            tokenize.gather(ids, ends, mapping)
            ids = ids[: ends[-1]]
        return Tokens(ids, ends)

    return rename


# ---- filters: length, stop words, stem, character n-grams


class WordFilter:
    """From the raw words of a collection to its terms, once for each distinct word in the cache.

    Raw words come in the order of their ids; terms get ids in the order of first occurrence.
    """

    def __init__(self, splitter: Splitter, gaps: bool = False) -> None:
        """gaps : as of Lexicon

        Raises MissingExtraError when a package that the analyzer needs is not installed.
        """
        analyzer, own = splitter.analyzer, splitter.shortest
        self._splitter = splitter
        self._gaps = gaps
        shortest = analyzer.min_length or own
        self._shortest = shortest if shortest > own else 0  # else the tokenizer drops shorter ones
        self._longest = analyzer.max_length
        self._stop = stop_words(analyzer)
        self._stemmer = analyzer.stemmer
        self._language = analyzer.normalization
        self._cut = segmenter() if analyzer.segments else None
        self._span = analyzer.char_ngrams
        self._changes = bool(
            self._shortest
            or self._longest
            or self._stop
            or self._cut
            or self._stemmer != "none"
            or self._language in LANGUAGES
        )
        self.active = self._changes or self._span is not None
        self.terms: ByteTable | None = None
        # the terms of raw word i: _ids[i], or the several _pieces[_ends[i]:_ends[i + 1]]
        self._several = self._cut is not None or self._span is not None
        self.clear_raw()

    def clear_raw(self) -> None:
        """Clear the cache of raw words, whose terms stay: the next raw word is number 0."""
        self._added = 0
        self._ids = Column(np.int32)
        self._pieces = Column(np.int32)
        self._ends = Column(np.int64)
        self._ends.append(np.zeros(1, np.int64))
        self._segmented = Column(np.bool_)

    def terms_of_words(self) -> Int32:
        """int32[n]: the term of each raw word, -1 for one that is removed or segmented. Not with
        n-grams of characters."""
        if not self._several:
            return self._ids.values
        starts, counts = self._ends.values[:-1], np.diff(self._ends.values)
        single = (counts == 1) & ~self._segmented.values
        terms = np.full(len(counts), -1, np.int32)
        terms[single] = self._pieces.values[starts[single]]
        return terms

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return self.raw_bytes + (0 if self.terms is None else self.terms.nbytes)

    @property
    def raw_bytes(self) -> int:
        """Those for the terms of the raw words."""
        columns = self._ids, self._pieces, self._ends, self._segmented
        return sum(column.nbytes for column in columns)

    def add(self, raw: ByteTable) -> None:
        """Give terms to the raw words added since the last call."""
        count = len(raw)
        if count == self._added:
            return
        starts = raw.offsets[self._added : count + 1]
        data, gap = raw.arena, raw.gap
        keep: Bools | None = None
        owners: Int64 | None = None  # where each raw word's pieces begin, when it is segmented
        if self._changes:
            words = _strings(data, starts, gap)
            if (cut := self._cut) is not None:
                segmented = self._splitter.scripts(words) == HAN
                self._segmented.append(segmented)
                each = zip(words, segmented.tolist(), strict=True)
                pieces = [cut(word) if found else [word] for word, found in each]
                owners = offsets_of([len(several) for several in pieces])
                words = list(chain.from_iterable(pieces))
            words = normalised(FIRST, self._language, words)
            keep = self._kept(words)
            if keep is not None:
                words = list(compress(words, keep.tolist()))
            words = normalised(LAST, self._language, words)
            if self._stemmer != "none":
                words = normalised(STEMMED, self._language, stem(self._stemmer, words))
            data, starts, gap = packed(words, raw.separator)
        if self.terms is None:
            self.terms = ByteTable(len(starts), len(data), 0)
        if self._span is not None:
            from fastseq.kernels.text import ngrams

            longest = int(np.diff(starts).max(initial=0))
            ids, ends = self.terms.intern_tokens(
                ngrams.char_ngrams, len(starts) - 1, 4 * len(data) + 64,
                np.empty(longest + 32, np.uint8), data, starts, np.empty(longest + 8, np.int64),
                *self._span, gap,
            )  # fmt: skip
        else:
            ids = self.terms.register(data, starts, gap)
            ends = np.arange(len(ids) + 1)
        if not self._several:
            if keep is not None:
                kept, ids = ids, np.full(len(keep), -1, np.int32)
                ids[keep] = kept
            self._ids.append(ids)
        else:
            if keep is not None and self._gaps:
                kept, ids = ids, np.full(len(keep), -1, np.int32)
                ids[keep] = kept
                ends = np.arange(len(keep) + 1)
            elif keep is not None:
                counts = np.zeros(len(keep), np.int64)
                counts[keep] = np.diff(ends)
                ends = offsets_of(counts)
            if owners is not None:
                ends = ends[owners]
            self._ends.append(ends[1:] + self._pieces.size)
            self._pieces.append(ids)
        self._added = count

    def renaming(self, known: Int32 | None) -> Rename:
        """The function that turns ids of raw words (after `known`) into Tokens of terms."""
        if not self._several:
            ids = self._ids.values
            return renaming(ids if known is None else ids[known], self._gaps)
        pieces, piece_ends = self._pieces.values, self._ends.values
        to_raw = renaming(known)

        def rename(ids: Int32, ends: Int64) -> Tokens:
            words = to_raw(ids, ends)
            counts = np.diff(piece_ends)
            out = np.empty(int(counts[words.values].sum()), np.int32)
            out_ends = np.zeros(len(ends), np.int64)
            tokenize.expand(out, out_ends, words.values, words.offsets, pieces, piece_ends)
            return Tokens(out, out_ends)

        return rename

    def _kept(self, words: list[str]) -> Bools | None:
        """Which words the filters leave; None for all."""
        keep: Bools | None = None
        if self._shortest or self._longest:
            lengths = np.array(list(map(len, words)), np.int64)
            keep = lengths >= self._shortest
            if self._longest:
                keep &= lengths <= self._longest
            keep |= self._splitter.scripts(words) != 0
        if self._stop:
            stopped = list(map(self._stop.__contains__, words))
            if True in stopped:
                left = np.logical_not(stopped)
                keep = left if keep is None else keep & left
        return keep


def _strings(data: UInt8, starts: Int64, gap: int) -> list[str]:
    """The strings data[starts[i]:starts[i + 1] - gap] (at least one)."""
    if gap:
        return data[starts[0] : starts[-1] - 1].tobytes().decode().split(chr(tokenize.NEWLINE))
    return Texts(data, starts).to_strings()


# ---- the slices of a corpus, on threads


class TicketLock:
    """Ticket lock: slices enter the critical section of each level in corpus order.

    Slices must be started in order, so that a waiting slice waits for one already in progress.
    """

    def __init__(self) -> None:
        self._next: dict[Any, int] = defaultdict(int)
        self._changed = threading.Condition()
        self._failed = math.inf

    def ticket(self, number: int) -> Ticket:
        """The ticket of slice `number`."""

        @contextmanager
        def enter(level: Any) -> Iterator[None]:
            with self._changed:
                self._changed.wait_for(lambda: self._failed < number or self._next[level] == number)
                if self._failed < number:
                    raise AbortedError
            yield
            with self._changed:
                self._next[level] += 1
                self._changed.notify_all()

        return enter

    def abort(self, number: int = -1) -> None:
        """Slice `number` has failed: wake the slices after it (by default all) with AbortedError.

        The slices before it continue, so that the first failure in the corpus is reported.
        """
        with self._changed:
            self._failed = min(self._failed, number)
            self._changed.notify_all()


class AbortedError(Exception):
    """Raised in the thread of a slice when an earlier one failed; never reaches a caller."""


class Encoder(Protocol):
    """What encodes the slices of a corpus; Lexicon is one."""

    def encode_levels(self, texts: Any, ticket: Ticket | None = None) -> Any: ...


REPLACED = 'an analyzer with on_invalid="replace" reads it as U+FFFD'


def encode_slices(
    lexicon: Encoder,
    slices: Iterable[Slice],
    finish: Callable[[int, Any], Result],
    threads: int,
    texts_of: Callable[[Slice], Texts] | None = None,
    remedy: str = REPLACED,
) -> Iterator[tuple[Slice, Result]]:
    """Encode the slices of a corpus on several threads; yield (slice, result) in corpus order.

    Parameters
    ----------
    slices : advanced on the calling thread
    finish : result of a slice, computed on its thread from its first row in the corpus and its
        tokens by n-gram level (see `Lexicon.encode_levels`)
    texts_of : the texts of a slice; None: slices are Texts, or what `lexicon` takes
    remedy : end of the message about a text that is not UTF-8

    Raises RowError, with the row in the corpus, for a text that is not UTF-8.
    """
    lock = TicketLock()

    def numbered() -> Iterator[tuple[int, int, Any, Slice]]:
        row = 0
        for number, one in enumerate(slices):
            texts: Any = one if texts_of is None else texts_of(one)
            yield number, row, texts, one
            row += len(texts)

    def encode(job: tuple[int, int, Any, Slice]) -> Result:
        number, first_row, texts, _ = job
        try:
            return finish(first_row, lexicon.encode_levels(texts, lock.ticket(number)))
        except BaseException as error:
            lock.abort(number)
            if not isinstance(error, RowError):
                raise
            problem = error.problem
            if isinstance(error, InvalidTextError):
                problem += f" ({remedy})"
            raise RowError(first_row + error.row, problem) from None

    with ThreadPoolExecutor(threads, "fastseq-encode") as pool:
        try:
            for (_, _, _, one), result in in_order(pool, encode, numbered(), threads + 1):
                yield one, result
        except BaseException:
            lock.abort()
            if isinstance(slices, Generator):
                slices.close()
            raise
