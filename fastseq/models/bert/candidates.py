"""Queries with candidate texts encoded for ranking: a sequence for each candidate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastseq.errors import DataError, RowError, located, quoted
from fastseq.models.bert.examples import RowEncoder, second_texts
from fastseq.models.data.examples import Coding, Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.store.files import SpillArray
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.types import Float32, Int64, Texts, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch


@dataclass(frozen=True, slots=True, eq=False)
class CandidateEncoder(RowEncoder):
    """The encoder of rows of a query and a text as [CLS] query [SEP] text [SEP].

    An example is a query: its `words` are where the sequences of its candidates begin, and
    `seconds` where their second texts do. A row with a list of negatives has its text as the first
    candidate, which is the right one; others have one candidate, and a score.

    max_length  tokens of a sequence; longer texts are truncated
    """

    tokenizer: WordPiece
    max_length: int
    labels: ClassVar[Labels | None] = None
    pairs: ClassVar[bool] = True

    def _read(
        self, batches: Iterable[RowBatch], encode: Coding | None, team: Team | None, memory: int
    ) -> Examples:
        ids, report = SpillArray(np.int32, memory), ReadReport(filler="no tokens", pairs=True)
        lengths, rows, firsts, counts, seconds = ([np.zeros(0, np.int64)] for _ in range(5))
        scores: list[Float32] = []
        size = 0
        for batch in batches:
            with located(batch.where):
                query, text = (self.tokenizer.encode(batch.columns((n,)), team) for n in (0, 1))
                candidates = np.ones(batch.rows, np.int64)
                if batch.kept is not None and batch.values is None:
                    others, negatives = _negatives(batch)
                    more = self.tokenizer.encode(negatives, team)
                    text, candidates = _merged(text, more, others), 1 + others
            owner = np.repeat(np.arange(batch.rows), candidates)
            own = np.diff(query.offsets)[owner]
            asked = Tokens(query.values[ranges(query.offsets[owner], own)], offsets_of(own))
            found = self.tokenizer.join(asked, text, self.max_length)
            groups = offsets_of(candidates)
            ids.append(found.ids)
            lengths.append(np.diff(found.offsets[groups]))
            rows.append(batch.first_row + np.arange(batch.rows))
            firsts.append(size + found.offsets[:-1])
            counts.append(candidates)
            seconds.append(second_texts(found))
            size += len(found.ids)
            if batch.values is not None:
                labels = batch.values[:, 0]
                wrong = ~((labels >= 0) & (labels <= 1))
                if wrong.any():
                    row = int(np.argmax(wrong))
                    raise DataError(
                        f"{batch.where(row)}: the label {labels[row]:g}, expected a number from 0 "
                        "to 1"
                    )
                scores.append(labels.astype(np.float32))
            empty = (np.diff(query.offsets) == 0) | (np.diff(text.offsets)[groups[:-1]] == 0)
            report.rows += batch.rows
            report.nulls += batch.partly_null
            report.empty += int(empty.sum())
            report.cut += len(np.unique(owner[found.truncated]))
            report.units += len(found.ids)
        return Examples(
            ids.finish(), offsets_of(np.concatenate(lengths)), np.concatenate(rows),
            words=np.concatenate(firsts), word_offsets=offsets_of(np.concatenate(counts)),
            seconds=np.concatenate(seconds), scores=np.concatenate(scores) if scores else None,
            report=report,
        )  # fmt: skip


def _negatives(batch: RowBatch) -> tuple[Int64, Texts]:
    """How many negatives each row has, and their texts. Raises RowError for what is no list of
    strings."""
    (column,) = batch.kept.column_names
    counts = np.zeros(batch.rows, np.int64)
    texts: list[str] = []
    for row, some in enumerate(batch.kept.column(0).to_pylist()):
        if not all(isinstance(text, str) for text in some or []):
            raise RowError(row, f"a negative in column {quoted(column)} is null, expected a text")
        counts[row] = len(some or [])
        texts += some or []
    return counts, Texts.from_strings(texts)


def _merged(first: Tokens, others: Tokens, counts: Int64) -> Tokens:
    """The tokens of each first text and of `counts` others after it."""
    places = offsets_of(1 + counts)
    lengths = np.empty(places[-1], np.int64)
    is_first = np.zeros(places[-1], np.bool_)
    is_first[places[:-1]] = True
    lengths[is_first], lengths[~is_first] = np.diff(first.offsets), np.diff(others.offsets)
    values = np.empty(lengths.sum(), np.int32)
    at_first = np.repeat(is_first, lengths)
    values[at_first], values[~at_first] = first.values, others.values
    return Tokens(values, offsets_of(lengths))
