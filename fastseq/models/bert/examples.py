"""Rows encoded for fine-tuning: word pieces between special tokens, with labels or scores.

encoder, train = PieceEncoder(tokenizer, max_length=256).learn(reader)
valid = encoder.read(valid_reader)
some = encoder.encode(row_batch)        # for prediction: a batch of rows at a time
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from fastseq.errors import DataError, located
from fastseq.models.data.examples import Coding, Examples, ReadReport, coded, renumber
from fastseq.models.data.labels import LabelBuilder, Labels
from fastseq.store.files import MEMORY, SpillArray
from fastseq.text.wordpiece import Sequences, WordPiece
from fastseq.threads import Team
from fastseq.types import Float32, Float64, Int64, Tokens, offsets_of

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

PAIR = (0, 1)  # the text columns of a pair


class BertEncoder(Protocol):
    """An encoder of rows for fine-tuning.

    tokenizer   of all texts
    max_length  tokens of a sequence, the special ones among them
    labels      of rows, or the tags of words; None without
    pairs       whether sequences have second texts
    """

    @property
    def tokenizer(self) -> WordPiece: ...
    @property
    def max_length(self) -> int: ...
    @property
    def labels(self) -> Labels | None: ...
    @property
    def pairs(self) -> bool: ...

    def learn(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> tuple[BertEncoder, Examples]:
        """Encode the training rows; the encoder that is returned has their labels.

        memory  bytes of ids held in memory; more goes to a temporary file

        Raises DataError as the reader, for text that is not UTF-8 (which row), no row, or fewer
        than two labels.
        """

    def encode(self, batch: RowBatch) -> Examples:
        """Encode a batch of rows; `rows` counts from the first row that was read. Thread-safe.
        Raises DataError for text that is not UTF-8 (which row), and labels of another type."""

    def read(self, reader: RowReader, team: Team | None = None, memory: int = MEMORY) -> Examples:
        """Encode all rows. Raises DataError as `encode` and the reader, and without a row."""


class RowEncoder(ABC):
    """The methods of a BertEncoder by its `_read`, of any batches."""

    __slots__ = ()

    @abstractmethod
    def _read(
        self, batches: Iterable[RowBatch], encode: Coding | None, team: Team | None, memory: int
    ) -> Examples:
        """Encode batches of rows, and their labels by `encode`."""

    def learn(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> tuple[Any, Examples]:
        """As of BertEncoder, without labels."""
        return self, self.read(reader, team, memory)

    def encode(self, batch: RowBatch) -> Examples:
        """As of BertEncoder."""
        return self._read([batch], self._coding, None, MEMORY)

    def read(self, reader: RowReader, team: Team | None = None, memory: int = MEMORY) -> Examples:
        """As of BertEncoder."""
        examples = self._read(reader.batches(), self._coding, team, memory)
        check_rows(examples, reader)
        return examples

    def _learn(
        self, builder: LabelBuilder, reader: RowReader, team: Team | None, memory: int
    ) -> tuple[Any, Examples]:
        """The encoder with the labels of the rows, and the rows."""
        examples = self._read(reader.batches(), builder.add, team, memory)
        check_rows(examples, reader)
        assert examples.targets is not None
        labels, order = builder.finish(source=reader.sources[0].name)
        renumber(examples.targets, order)
        encoder: Any = self
        return replace(encoder, labels=labels), examples

    @property
    def _coding(self) -> Coding | None:
        labels: Labels | None = self.labels  # type: ignore[attr-defined]  # of the subclass
        return None if labels is None else labels.encode


@dataclass(frozen=True, slots=True, eq=False)
class PieceEncoder(RowEncoder):
    """The encoder of rows of text as examples: [CLS] a [SEP], of pairs [CLS] a [SEP] b [SEP].

    max_length  tokens of a sequence, the special ones among them; longer texts are truncated
    pairs       whether a row has two text columns, the texts of a pair
    labels      of rows; None for numbers to predict
    """

    tokenizer: WordPiece
    max_length: int
    pairs: bool = False
    labels: Labels | None = None

    def learn(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> tuple[PieceEncoder, Examples]:
        """As of BertEncoder; the reader may have no labels."""
        if reader.label_type is None:
            return self, self.read(reader, team, memory)
        return self._learn(LabelBuilder(reader.label_type), reader, team, memory)

    def _read(
        self, batches: Iterable[RowBatch], encode: Coding | None, team: Team | None, memory: int
    ) -> Examples:
        ids, targets = SpillArray(np.int32, memory), SpillArray(np.int32, memory)
        lengths, rows, seconds = ([np.zeros(0, np.int64)] for _ in range(3))
        scores: list[Float32] = []
        filler = "no tokens" if self.pairs else "[CLS] [SEP]"
        report, has_targets = ReadReport(filler=filler, pairs=self.pairs), False
        for batch in batches:
            with located(batch.where):
                found = self._sequences(batch, team, report)
            ids.append(found.ids)
            lengths.append(np.diff(found.offsets))
            rows.append(batch.first_row + np.arange(batch.rows))
            if self.pairs:
                seconds.append(second_texts(found))
            if batch.values is not None:
                scores.append(_as_float32(batch.values[:, 0], batch))
            if encode is not None and batch.labels is not None:
                targets.append(coded(encode, batch.labels, batch, report))
                has_targets = True
        return Examples(
            ids.finish(), offsets_of(np.concatenate(lengths)), np.concatenate(rows),
            targets.finish() if has_targets else None,
            seconds=np.concatenate(seconds) if self.pairs else None,
            scores=np.concatenate(scores) if scores else None, report=report,
        )  # fmt: skip

    def _sequences(self, batch: RowBatch, team: Team | None, report: ReadReport) -> Sequences:
        texts = [batch.columns((number,)) for number in PAIR] if self.pairs else [batch.text]
        tokens: list[Tokens] = [self.tokenizer.encode(text, team) for text in texts]
        found = self.tokenizer.join(tokens[0], tokens[1] if self.pairs else None, self.max_length)
        empty = np.zeros(batch.rows, np.bool_)
        for each in tokens:
            empty |= np.diff(each.offsets) == 0
        report.rows += batch.rows
        report.nulls += batch.partly_null if self.pairs else batch.null_texts
        report.empty += int(empty.sum())
        report.cut += found.truncated_count
        report.units += len(found.ids)
        report.ends += (len(texts) + 1) * batch.rows
        unknown = self.tokenizer.id_of(self.tokenizer.unknown)
        report.unknown += int(np.count_nonzero(found.ids == unknown))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TwoTextEncoder(RowEncoder):
    """The encoder of rows of two texts as two sequences, [CLS] a [SEP] and [CLS] b [SEP].

    An example is a row: its `seconds` are the tokens of the first sequence. Rows may have numbers.

    max_length  tokens of a sequence; longer texts are truncated
    """

    tokenizer: WordPiece
    max_length: int
    labels: ClassVar[Labels | None] = None
    pairs: ClassVar[bool] = False

    def _read(
        self, batches: Iterable[RowBatch], encode: Coding | None, team: Team | None, memory: int
    ) -> Examples:
        ids, report = SpillArray(np.int32, memory), ReadReport(filler="[CLS] [SEP]", pairs=True)
        lengths, rows, seconds = ([np.zeros(0, np.int64)] for _ in range(3))
        scores: list[Float32] = []
        for batch in batches:
            with located(batch.where):
                both = [self.tokenizer.encode(batch.columns((side,)), team) for side in PAIR]
            found = [self.tokenizer.join(tokens, None, self.max_length) for tokens in both]
            first, second = (np.diff(sequences.offsets) for sequences in found)
            places = offsets_of(first + second)
            values = np.empty(places[-1], np.int32)
            is_first = np.arange(places[-1]) < np.repeat(places[:-1] + first, first + second)
            values[is_first], values[~is_first] = found[0].ids, found[1].ids
            ids.append(values)
            lengths.append(first + second)
            rows.append(batch.first_row + np.arange(batch.rows))
            seconds.append(first)
            if batch.values is not None:
                scores.append(_as_float32(batch.values[:, 0], batch))
            empty = np.logical_or(*(np.diff(tokens.offsets) == 0 for tokens in both))
            report.rows += batch.rows
            report.nulls += batch.partly_null
            report.empty += int(empty.sum())
            report.cut += int(np.logical_or(found[0].truncated, found[1].truncated).sum())
            report.units += len(values)
            report.ends += 4 * batch.rows
        return Examples(
            ids.finish(), offsets_of(np.concatenate(lengths)), np.concatenate(rows), None,
            seconds=np.concatenate(seconds), scores=np.concatenate(scores) if scores else None,
            report=report,
        )  # fmt: skip


def _as_float32(values: Float64, batch: RowBatch) -> Float32:
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    beyond = ~np.isfinite(found)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise DataError(f"{batch.where(row)}: the number {values[row]} is beyond float32")
    return found


def second_texts(found: Sequences) -> Int64:
    """int64[B]: where in each sequence the token type 1 begins."""
    if not len(found):
        return np.zeros(0, np.int64)
    return np.add.reduceat(found.types == 0, found.offsets[:-1], dtype=np.int64)


def check_rows(examples: Examples, reader: RowReader) -> None:
    if not len(examples):
        raise DataError(f"{reader.sources[0].name}: no rows to learn from or to measure")
