"""Rows as what a model trains on: ids, targets, characters; one pass over the source.

    encoder, train = Encoder.learn(reader, Units("word"), min_count=2)      # reader: open_rows
    valid = encoder.read(valid_reader)
    for rows in BucketedBatches(train.offsets, 32, seed=1).epoch(0):        # batches.py
        batch = take(train, rows)
    some = encoder.encode(row_batch)                 # while predicting: a batch of rows at a time

Text is never held whole: ids are, in memory or beyond that in a temporary file (store.files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastseq.errors import DataError, InvalidTextError, RowError, SettingsError, located
from fastseq.models.data.characters import CharTable
from fastseq.models.data.labels import LabelBuilder, Labels, unseen_message
from fastseq.models.data.ragged import fitted, offsets_of, places
from fastseq.models.data.units import Units
from fastseq.models.data.vocabulary import Vocabulary, VocabularyBuilder
from fastseq.store.files import MEMORY, SpillArray
from fastseq.types import Categories, Int32, Int64, Label, Tokens

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

_AT_ONCE = 1 << 20  # ids renumbered at a time
_FILLER = -1  # stands for the one unit of an empty text until ids are settled


@dataclass(slots=True)
class ReadReport:
    """Counts of what was read.

    rows     read; nulls: of them, with a null text or list
    empty    texts without a unit, which get one `<unk>` (bytes: a zero byte)
    skipped  lists without a token, which are no examples
    cut      rows truncated to max_length
    units    in all; unknown: of them, `<unk>`
    targets  labels or tags; unseen: how often each occurs that training did not have
    what     a target's name: "label" or "tag"
    ends     of the units, `<eos>`
    malformed  rows whose tags violate the scheme; violation: which, and the first of them
    series   of numbers; short: of them, with fewer than the `least` rows needed; example: of these
    """

    rows: int = 0
    nulls: int = 0
    empty: int = 0
    skipped: int = 0
    cut: int = 0
    units: int = 0
    unknown: int = 0
    targets: int = 0
    unseen: dict[Label, int] = field(default_factory=dict)
    what: str = "label"
    ends: int = 0
    malformed: int = 0
    violation: str = ""
    series: int = 0
    short: int = 0
    least: int = 0
    example: str = ""

    @property
    def unknown_rate(self) -> float:
        """The fraction of units that are not in the vocabulary; ends of rows do not count."""
        return self.unknown / max(self.units - self.ends, 1)

    def messages(self) -> list[str]:
        """Notices for the user, one line each."""
        lines = []
        if self.empty:
            nulls = f" ({self.nulls:,} of them null)" if self.nulls else ""
            lines.append(f"{self.empty:,} of {self.rows:,} texts are empty{nulls}: read as unknown")
        if self.skipped:
            lines.append(f"{self.skipped:,} of {self.rows:,} rows have no token: left out")
        if self.cut:
            lines.append(f"{self.cut:,} of {self.rows:,} rows are cut to the maximum length")
        if self.malformed:
            lines.append(
                f"the tags of {self.malformed:,} of {self.rows:,} rows violate {self.violation}"
            )
        if self.short:
            more = ", …" if self.short > 1 else ""
            lines.append(
                f"{self.short:,} of {self.series:,} series have fewer than {self.least:,} rows: "
                f"left out: {self.example}{more}"
            )
        unseen = unseen_message(self.unseen, self.targets, self.what)
        return [*lines, unseen] if unseen else lines


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """B sequences, each of at least one unit.

    values      int32[N]      ids, sequence after sequence
    offsets     int64[B + 1]  sequence b is values[offsets[b]:offsets[b + 1]]
    rows        int64[B]      the row of the source that each comes from
    targets     int32[B] labels, or int32[N] tags; -1 - i for one unseen in training, number i of
                report.unseen; None without
    spellings   int32[N]      which of `characters` spells each unit; None without characters
    characters  of each distinct spelling; None without
    report      counts of what was read
    """

    values: Int32
    offsets: Int64
    rows: Int64
    targets: Int32 | None = None
    spellings: Int32 | None = None
    characters: Tokens | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """int64[B]"""
        return np.diff(self.offsets)

    def known_rows(self) -> Int64:
        """int64[b]: the sequences without a target that training did not have.

        Raises DataError when there are none, or no targets at all.
        """
        if self.targets is None:
            raise DataError("the examples have no targets")
        known = self.targets >= 0
        if len(self.targets) != len(self):
            known = np.logical_and.reduceat(known, self.offsets[:-1])
        found = np.flatnonzero(known)
        if not len(found):
            raise DataError(f"every {self.report.what} is unseen in training: nothing to measure")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """The encoder of rows as examples.

    labels      of rows, or of tokens; None where no target was learned
    chars       None without character features
    max_length  units of a text that are read; rows of tokens are truncated only in training, since
                every token is tagged
    """

    vocabulary: Vocabulary
    labels: Labels | None = None
    chars: CharTable | None = None
    max_length: int | None = None

    @classmethod
    def learn(
        cls,
        reader: RowReader,
        units: Units,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        chars: bool = False,
        max_length: int | None = None,
        memory: int = MEMORY,
    ) -> tuple[Encoder, Examples]:
        """Learn vocabulary, labels and characters from the training rows, and encode them.

        Parameters
        ----------
        reader : rows of text, or of tokens, with or without targets
        min_count, max_size : of the vocabulary
        chars : use character features of words
        max_length : units of a row that are read, from its start; None for all
        memory : bytes of ids held in memory; more goes to a temporary file

        Raises
        ------
        DataError
            What the reader raises; text that is not UTF-8 (which row); no row, no unit; fewer
            than two labels.
        SettingsError
            A parameter outside its range, characters of units that are not words.
        """
        if max_length is not None and max_length < 1:
            raise SettingsError(f"max_length is {max_length}; expected at least 1")
        if units.joiner == "" and (chars or reader.fields.tokens is not None):
            what = "characters of words" if chars else "rows of tokens"
            raise SettingsError(f"{what} are read, but the unit is {units.unit!r}; expected a word")
        builder = VocabularyBuilder(units)
        targets: LabelBuilder | None = None
        if reader.label_type is not None or reader.fields.tags is not None:
            what = "tag" if reader.fields.tags is not None else "label"
            targets = LabelBuilder(reader.label_type or "string", what)
        add = None if targets is None else targets.add
        numbered = _numbered(reader.batches(), builder, add, max_length, memory)
        if not len(numbered.rows):
            raise DataError(f"{reader.sources[0].name}: no rows to learn from, or only empty ones")
        vocabulary, id_of = builder.finish(min_count, max_size)
        labels: Labels | None = None
        if targets is not None and numbered.targets is not None:
            labels, order = targets.finish(source=reader.sources[0].name)
            _renumber(numbered.targets, order)
        table: CharTable | None = None
        characters: Tokens | None = None
        if chars:
            table, characters = CharTable.learn(builder.spellings())
        examples = _finished(numbered, vocabulary, id_of, characters, memory)
        return cls(vocabulary, labels, table, max_length), examples

    def encode(self, batch: RowBatch) -> Examples:
        """Encode a batch of rows; `rows` counts from the first row that was read. Thread-safe.

        Targets are encoded where the batch has them and labels were learned.

        Raises DataError for text that is not UTF-8 (which row), and labels of another type.
        """
        return self._encode([batch], MEMORY)

    def read(self, reader: RowReader, memory: int = MEMORY) -> Examples:
        """Encode all rows.

        Raises DataError as `encode`, what the reader raises, and if there is no unit at all.
        """
        examples = self._encode(reader.batches(), memory)
        if not len(examples):
            raise DataError(f"{reader.sources[0].name}: no examples: every row is empty, or none")
        return examples

    def _encode(self, batches: Iterable[RowBatch], memory: int) -> Examples:
        builder = VocabularyBuilder(self.vocabulary.units)
        encode = None if self.labels is None else self.labels.encode
        numbered = _numbered(batches, builder, encode, self.max_length, memory, training=False)
        characters = None if self.chars is None else self.chars.characters(builder.spellings())
        id_of = builder.ids_in(self.vocabulary)
        return _finished(numbered, self.vocabulary, id_of, characters, memory)


def learn_stream(
    reader: RowReader,
    units: Units,
    *,
    min_count: int = 1,
    max_size: int | None = None,
    memory: int = MEMORY,
) -> tuple[Vocabulary, Int32, ReadReport]:
    """The rows of text as one stream for a language model: the vocabulary, int32[N], the report.

    Every row of words (and of text split at spaces) ends with `<eos>`; rows of characters and of
    bytes are joined by nothing. An empty row is its end alone.

    Raises DataError and SettingsError as Encoder.learn.
    """
    builder = VocabularyBuilder(units)
    ended = units.joiner != ""
    values, report = _stream(reader, builder, ended, memory)
    if not len(values):
        raise DataError(f"{reader.sources[0].name}: no text: every row is empty, or there is none")
    vocabulary, id_of = builder.finish(min_count, max_size, end=ended)
    return vocabulary, *_settled(values, vocabulary, id_of, report)


def read_stream(
    reader: RowReader, vocabulary: Vocabulary, memory: int = MEMORY
) -> tuple[Int32, ReadReport]:
    """Other rows of text as one stream with a vocabulary that was learned.

    Raises DataError as Encoder.learn, and where there is no unit.
    """
    builder = VocabularyBuilder(vocabulary.units)
    values, report = _stream(reader, builder, vocabulary.end is not None, memory)
    if not len(values):
        raise DataError(f"{reader.sources[0].name}: no text: every row is empty, or there is none")
    return _settled(values, vocabulary, builder.ids_in(vocabulary), report)


@dataclass(slots=True, eq=False)
class _Numbered:
    """Examples whose units are numbers of a VocabularyBuilder, or _FILLER."""

    numbers: Int32
    offsets: Int64
    rows: Int64
    targets: Int32 | None
    report: ReadReport


def _numbered(
    batches: Iterable[RowBatch],
    builder: VocabularyBuilder,
    encode: Callable[[Categories], tuple[Int32, dict[Label, int]]] | None,
    max_length: int | None,
    memory: int,
    training: bool = True,
) -> _Numbered:
    numbers, targets = SpillArray(np.int32, memory), SpillArray(np.int32, memory)
    lengths: list[Int64] = [np.zeros(0, np.int64)]
    rows: list[Int64] = [np.zeros(0, np.int64)]
    report, has_targets = ReadReport(), False
    for batch in batches:
        column = None if encode is None else batch.labels or batch.tags
        with located(batch.where):
            values, row_lengths = _units(builder, batch, max_length, training, report)
        keep = np.flatnonzero(row_lengths)
        if batch.tokens is not None and column is not None and batch.token_offsets is not None:
            if len(values) < len(column):  # tags go with the tokens that are left
                kept = places(batch.token_offsets[:-1], row_lengths)
                column = Categories(column.values, column.codes[kept])
            report.what = "tag"
        if encode is not None and column is not None:
            try:
                codes, unseen = encode(column)
            except DataError as error:
                raise DataError(f"{batch.source}: {error}") from None
            for label, count in unseen.items():
                report.unseen[label] = report.unseen.get(label, 0) + count
            if unseen:  # each has a number of its own, below 0
                order = {label: -1 - i for i, label in enumerate(report.unseen)}
                own = np.array([order.get(label, 0) for label in column.values], np.int32)
                codes = np.where(codes < 0, own[column.codes], codes)
            targets.append(codes)
            has_targets = True
            report.targets += len(codes)
        numbers.append(values)
        lengths.append(row_lengths[keep])
        rows.append(batch.first_row + keep)
    offsets = offsets_of(np.concatenate(lengths))
    found = targets.finish() if has_targets else None
    return _Numbered(numbers.finish(), offsets, np.concatenate(rows), found, report)


def _units(
    builder: VocabularyBuilder,
    batch: RowBatch,
    max_length: int | None,
    training: bool,
    report: ReadReport,
) -> tuple[Int32, Int64]:
    """The units of each row as numbers, and how many there are: none in a row without tokens."""
    try:
        if batch.texts is not None:
            tokens = builder.add(batch.texts, max_length)
        else:
            assert batch.tokens is not None
            assert batch.token_offsets is not None
            longest = max_length if training else None
            tokens = builder.add_tokens(batch.tokens, batch.token_offsets, longest)
    except InvalidTextError as error:
        row = error.row
        if batch.token_offsets is not None:
            row = int(np.searchsorted(batch.token_offsets, row, "right")) - 1
        raise RowError(row, error.problem) from None
    lengths = np.diff(tokens.offsets)
    empty = int(np.count_nonzero(lengths == 0))
    report.rows += batch.rows
    report.nulls += batch.null_texts
    if batch.texts is None:
        report.skipped += empty
        whole = batch.token_offsets
        assert whole is not None
        report.cut += int(np.count_nonzero(np.diff(whole) > lengths))
        return tokens.values, lengths
    report.empty += empty
    report.cut += builder.cut_rows
    values, offsets = fitted(tokens.values, tokens.offsets, None, _FILLER)
    return values, np.diff(offsets)


def _finished(
    numbered: _Numbered,
    vocabulary: Vocabulary,
    id_of: Int32,
    characters: Tokens | None,
    memory: int,
) -> Examples:
    spellings: Int32 | None = None
    if characters is not None:
        # what stands for an empty text is spelt with one unknown character
        filler = len(characters)
        characters = Tokens(
            np.append(characters.values, np.int32(0)),
            np.append(characters.offsets, characters.offsets[-1] + 1),
        )
        spill = SpillArray(np.int32, memory)
        for start in range(0, len(numbered.numbers), _AT_ONCE):
            part = numbered.numbers[start : start + _AT_ONCE]
            spill.append(np.where(part == _FILLER, np.int32(filler), part))
        spellings = spill.finish()
    report = numbered.report
    values, report = _settled(numbered.numbers, vocabulary, id_of, report)
    rows, targets = numbered.rows, numbered.targets
    return Examples(values, numbered.offsets, rows, targets, spellings, characters, report)


def _settled(
    numbers: Int32, vocabulary: Vocabulary, id_of: Int32, report: ReadReport
) -> tuple[Int32, ReadReport]:
    """Numbers become ids, in place; _FILLER the last of `id_of`, which is `<eos>` or unit 0."""
    filler = 0 if vocabulary.end is None else vocabulary.end
    _renumber(numbers, np.append(id_of, np.int32(filler)))
    report.units = len(numbers)
    if vocabulary.unknown is not None:
        steps = range(0, len(numbers), _AT_ONCE)
        report.unknown = sum(int(np.count_nonzero(numbers[i : i + _AT_ONCE] == 0)) for i in steps)
    return numbers, report


def _renumber(values: Int32, mapping: Int32) -> None:
    """values[i] = mapping[values[i]], a part at a time: they may lie in a file."""
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        part[:] = mapping[part]


def _stream(
    reader: RowReader, builder: VocabularyBuilder, ended: bool, memory: int
) -> tuple[Int32, ReadReport]:
    numbers, report = SpillArray(np.int32, memory), ReadReport()
    for batch in reader.batches():
        assert batch.texts is not None
        with located(batch.where):
            tokens = builder.add(batch.texts)
        report.rows += batch.rows
        report.nulls += batch.null_texts
        report.ends += batch.rows if ended else 0
        values = tokens.values
        numbers.append(np.insert(values, tokens.offsets[1:], _FILLER) if ended else values)
    return numbers.finish(), report
