"""Rows of words encoded for tagging: word pieces between special tokens, long rows in windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastseq.errors import InvalidTextError, located
from fastseq.models.bert.checkpoint import SPECIAL
from fastseq.models.bert.examples import RowEncoder
from fastseq.models.data.examples import (
    Coding,
    Examples,
    ReadReport,
    coded,
    row_of_word,
)
from fastseq.models.data.labels import LabelBuilder, Labels
from fastseq.store.files import MEMORY, SpillArray
from fastseq.text.wordpiece import Sequences, WordPiece
from fastseq.threads import Team
from fastseq.types import Int32, Int64, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

_CONTEXT = 4  # windows overlap by a quarter of their pieces


@dataclass(frozen=True, slots=True, eq=False)
class WordEncoder(RowEncoder):
    """The encoder of rows of words as examples: [CLS] pieces of all words [SEP].

    A row with too many pieces becomes windows that overlap. Each of its words has its tag in the
    window in which it is farther from an end. A word without a piece is [UNK].

    max_length  tokens of a sequence, the special ones among them; longer words are truncated
    labels      the tags of words
    """

    tokenizer: WordPiece
    max_length: int
    labels: Labels | None = None
    pairs: ClassVar[bool] = False

    def learn(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> tuple[WordEncoder, Examples]:
        """As of BertEncoder."""
        return self._learn(LabelBuilder("string", "tag"), reader, team, memory)

    def _read(
        self, batches: Iterable[RowBatch], encode: Coding | None, team: Team | None, memory: int
    ) -> Examples:
        ids, targets = SpillArray(np.int32, memory), SpillArray(np.int32, memory)
        lengths, rows, words, counts = ([np.zeros(0, np.int64)] for _ in range(4))
        report, has_targets, size = ReadReport(what="tag"), False, 0
        for batch in batches:
            with located(batch.where):
                found, numbers, places, tagged = self._sequences(batch, team, report)
            ids.append(found.ids)
            lengths.append(np.diff(found.offsets))
            rows.append(batch.first_row + numbers)
            words.append(size + places)
            counts.append(tagged)
            size += len(found.ids)
            if encode is not None and batch.tags is not None:
                targets.append(coded(encode, batch.tags, batch, report))
                has_targets = True
        return Examples(
            ids.finish(), offsets_of(np.concatenate(lengths)), np.concatenate(rows),
            targets.finish() if has_targets else None, words=np.concatenate(words),
            word_offsets=offsets_of(np.concatenate(counts)), report=report,
        )  # fmt: skip

    def _sequences(
        self, batch: RowBatch, team: Team | None, report: ReadReport
    ) -> tuple[Sequences, Int64, Int64, Int64]:
        """The B sequences of a batch, int64[B] the row of each, int64[W] the first id of each word,
        int64[B] how many words have their tags in it."""
        assert batch.tokens is not None
        assert batch.token_offsets is not None
        try:
            pieces = self.tokenizer.encode(batch.tokens, team)
        except InvalidTextError as error:
            raise row_of_word(error, batch.token_offsets) from None
        limit, of_rows = self.max_length - SPECIAL, batch.token_offsets
        long_words = np.flatnonzero(np.diff(pieces.offsets) > limit)
        values, places = self._fitted(pieces, limit)
        sizes = np.diff(places[of_rows])
        numbers = np.flatnonzero(sizes)
        short = numbers[sizes[numbers] <= limit]
        # the words that a window has, and those that have their tags in it
        first, stop = of_rows[short], of_rows[short + 1]
        windows = [np.stack([short, first, stop, first, stop])]
        for row in numbers[sizes[numbers] > limit].tolist():
            windows.append(_windows(row, int(of_rows[row]), places[: of_rows[row + 1] + 1], limit))
        every = np.concatenate(windows, axis=1)
        numbers, first, stop, own, end = every[:, np.argsort(every[0], kind="stable")]
        starts, counts = places[first], places[stop] - places[first]
        tokens = Tokens(values[ranges(starts, counts)], offsets_of(counts))
        found = self.tokenizer.join(tokens, None, self.max_length)
        tagged = end - own
        before = found.offsets[:-1] + 1 - starts  # of each sequence: [CLS] and earlier ones
        firsts = places[ranges(own, tagged)] + np.repeat(before, tagged)
        report.rows += batch.rows
        report.nulls += batch.null_texts
        report.skipped += int((np.diff(of_rows) == 0).sum())
        report.split += len(windows) - 1
        report.cut += len(np.unique(np.searchsorted(of_rows, long_words, "right")))
        report.units += len(found.ids)
        report.ends += SPECIAL * len(numbers)
        unknown = self.tokenizer.id_of(self.tokenizer.unknown)
        report.unknown += int(np.count_nonzero(found.ids == unknown))
        return found, numbers, firsts, tagged

    def _fitted(self, pieces: Tokens, limit: int) -> tuple[Int32, Int64]:
        """The pieces of words and their bounds, of at least one and at most `limit` for each."""
        counts = np.diff(pieces.offsets)
        if not len(counts) or (counts.min() > 0 and counts.max() <= limit):
            return pieces.values, pieces.offsets
        counts = np.minimum(counts, limit)
        places = offsets_of(np.maximum(counts, 1))
        unknown = self.tokenizer.id_of(self.tokenizer.unknown)
        values = np.full(places[-1], unknown, np.int32)
        values[ranges(places[:-1], counts)] = pieces.values[ranges(pieces.offsets[:-1], counts)]
        return values, places


def _windows(row: int, first: int, places: Int64, limit: int) -> Int64:
    """int64[5, n]: the windows of a row whose words begin with number `first` and have the bounds
    `places`, as (row, first word, past the last, first with a tag, past the last)."""
    last = len(places) - 1
    bounds = [first]
    windows: list[tuple[int, int]] = []
    while True:
        stop = int(np.searchsorted(places, places[first] + limit, "right")) - 1
        if windows:  # a tag is in the middle of what both windows have
            bounds.append((first + windows[-1][1] + 1) // 2)
        windows.append((first, stop))
        if stop == last:
            break
        # enough of the words before, and the next one whole
        least = max(places[stop] - limit // _CONTEXT, places[stop + 1] - limit)
        first = max(int(np.searchsorted(places, least, "left")), first + 1)
    found = np.array(windows, np.int64).T
    own = np.array([*bounds, last], np.int64)
    return np.stack([np.full(len(windows), row), *found, own[:-1], own[1:]])
