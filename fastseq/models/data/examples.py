"""Rows encoded for training: ids, targets and characters, read in one pass over the source.

    encoder, train = Encoder.learn(reader, SequenceTokenizer("word"), min_count=2)
    valid = encoder.read(valid_reader)                                # readers: open_rows
    for rows in BucketedBatches(train.offsets, 32, seed=1).epoch(0):  # batches.py
        batch = take(train, rows)
    some = encoder.encode(row_batch)        # for prediction: a batch of rows at a time

Only ids are held, in memory or, beyond a limit, in a temporary file (store/spill.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fastseq.errors import DataError, InvalidTextError, RowError, located
from fastseq.models.data.labels import LabelBuilder, Labels, unseen_message
from fastseq.models.data.tokenizer import SequenceTokenizer
from fastseq.models.data.vocabulary import CharacterTable, Vocabulary, VocabularyBuilder, filled
from fastseq.store.files import MEMORY, SpillArray
from fastseq.types import Categories, Float32, Int32, Int64, Label, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

# numbers labels, and counts those that training did not have: Labels.encode
Coding = Callable[[Categories], tuple[Int32, dict[Label, int]]]

_AT_ONCE = 1 << 20  # ids renumbered at a time
_FILLER = -1  # the one unit of an empty text until ids are known


@dataclass(slots=True)
class ReadReport:
    """Counts of what was read.

    rows     read; nulls: of them, with a null text or list
    empty    texts without a unit, which get one `<unk>` (bytes: a zero byte)
    skipped  lists without a token, which are not examples
    single   documents of one sentence, for the prediction of next sentences
    filler   what an empty text is read as
    pairs    rows are pairs of texts: nulls and empty are those with such a text
    cut      rows truncated to max_length; split: rows read in several parts
    units    in all; unknown: of them, `<unk>`; ends: of them, `<eos>`
    unanswered  questions without an answer; unreachable: questions whose answer no window contains,
                or is longer than a prediction
    targets  labels or tags; unseen: occurrences of each that training did not have
    what     a target's name: "label" or "tag"
    malformed  rows whose tags violate the scheme; violation: which, and the first of them
    series   of numbers; short: of them, with fewer than the `least` rows needed; example: one
    """

    rows: int = 0
    nulls: int = 0
    empty: int = 0
    skipped: int = 0
    single: int = 0
    cut: int = 0
    split: int = 0
    unanswered: int = 0
    unreachable: int = 0
    units: int = 0
    unknown: int = 0
    targets: int = 0
    unseen: dict[Label, int] = field(default_factory=dict)
    what: str = "label"
    ends: int = 0
    malformed: int = 0
    violation: str = ""
    filler: str = "unknown"
    pairs: bool = False
    series: int = 0
    short: int = 0
    least: int = 0
    example: str = ""

    @property
    def unknown_rate(self) -> float:
        """The fraction of units that are not in the vocabulary, without ends of rows."""
        return self.unknown / max(self.units - self.ends, 1)

    def add(self, part: ReadReport) -> None:
        """Add the counts of a batch."""
        for name in (
            "rows", "nulls", "empty", "skipped", "single", "cut", "split", "unanswered",
            "unreachable", "units", "unknown", "targets", "ends",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(part, name))
        for label, count in part.unseen.items():
            self.unseen[label] = self.unseen.get(label, 0) + count
        self.what = part.what
        self.filler, self.pairs = part.filler, part.pairs

    def messages(self) -> list[str]:
        """Notices for the user, one line each."""
        lines = []
        if self.empty:
            nulls = f" ({self.nulls:,} of them null)" if self.nulls else ""
            what = "rows have an empty text" if self.pairs else "texts are empty"
            lines.append(f"{self.empty:,} of {self.rows:,} {what}{nulls}: read as {self.filler}")
        if self.skipped:
            lines.append(f"{self.skipped:,} of {self.rows:,} rows have no token: left out")
        if self.single:
            lines.append(
                f"{self.single:,} of {self.rows:,} rows have a single sentence: none follows it"
            )
        if self.cut:
            lines.append(f"{self.cut:,} of {self.rows:,} rows are cut to the maximum length")
        if self.split:
            lines.append(
                f"{self.split:,} of {self.rows:,} rows exceed the maximum length: split into "
                "windows"
            )
        if self.unreachable:
            lines.append(
                f"the answers of {self.unreachable:,} of {self.rows:,} rows are in no window, or "
                "too long to be predicted"
            )
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
    rows        int64[B]      the row of the source of each
    targets     int32[B] labels, int32[N] tags, or int32[W] tags of words; -1 - i for one unseen in
                training, number i of report.unseen; None without
    spellings   int32[N]      the number of each unit's spelling; None without characters
    characters  of each distinct spelling; None without
    seconds     int64[B]      where in its sequence the second text begins; None without pairs. Of
                several sequences in one, which begin at `words`, int64[W]
    scores      float32[B]    numbers to predict; None without
    words       int64[W]      of words that consist of several values: the first value of each word
                that has a tag. Others are context: a row may be several sequences that overlap, and
                each of its words has a tag in one of them
    word_offsets  int64[B + 1]  sequence b has words[word_offsets[b]:word_offsets[b + 1]]
    spans       int32[B, 2]   the first and the last value of each sequence's answer, (0, 0) for
                none; None without
    report      counts of what was read
    """

    values: Int32
    offsets: Int64
    rows: Int64
    targets: Int32 | None = None
    spellings: Int32 | None = None
    characters: Tokens | None = None
    seconds: Int64 | None = None
    scores: Float32 | None = None
    words: Int64 | None = None
    word_offsets: Int64 | None = None
    spans: Int32 | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """int64[B]"""
        return np.diff(self.offsets)

    def tagged_rows(self) -> tuple[Int64, Int64]:
        """(int64[D + 1], int64[D]): the bounds of each row's tags, and the rows."""
        if self.word_offsets is None:
            return self.offsets, self.rows
        is_first = np.append(True, self.rows[1:] != self.rows[:-1])[: len(self.rows)]
        bounds = np.append(self.word_offsets[:-1][is_first], self.word_offsets[-1])
        return bounds, self.rows[is_first]

    def check_known(self, source: str) -> None:
        """Raise DataError, which names the `source`, unless training had all targets of some
        sequence."""
        assert self.targets is not None
        known = self.targets >= 0
        if self.words is None and len(self.targets) != len(self):
            known = np.logical_and.reduceat(known, self.offsets[:-1])
        if not known.any():
            raise DataError(
                f"{source}: every {self.report.what} is unseen in training: nothing to measure"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """The encoder of rows as examples.

    labels      of rows, or of tokens; None if no target was learned
    chars       None without character features
    max_length  units of a text that are read; rows of tokens are truncated only in training, since
                every token is tagged
    """

    vocabulary: Vocabulary
    labels: Labels | None = None
    chars: CharacterTable | None = None
    max_length: int | None = None

    @classmethod
    def learn(
        cls,
        reader: RowReader,
        tokenizer: SequenceTokenizer,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        chars: bool = False,
        max_length: int | None = None,
        memory: int = MEMORY,
    ) -> tuple[Encoder, Examples]:
        """Learn vocabulary, labels and characters from the training rows, and encode them.

        reader               rows of text, or of tokens, with or without targets
        min_count, max_size  of the vocabulary
        chars                use character features of words
        max_length           units of a row that are read, from its start; None for all
        memory               bytes of ids held in memory; more goes to a temporary file

        Raises DataError as the reader, for text that is not UTF-8 (which row), no row, no unit, or
        fewer than two labels.
        """
        builder = VocabularyBuilder(tokenizer)
        targets: LabelBuilder | None = None
        if reader.label_type is not None or reader.fields.tags is not None:
            what = "tag" if reader.fields.tags is not None else "label"
            targets = LabelBuilder(reader.label_type or "string", what)
        add = None if targets is None else targets.add
        numbered = _numbered(reader.batches(), builder, add, max_length, memory)
        if not len(numbered):
            raise DataError(f"{reader.sources[0].name}: no rows to learn from, or only empty ones")
        vocabulary, id_of = builder.finish(min_count, max_size)
        labels: Labels | None = None
        if targets is not None and numbered.targets is not None:
            labels, order = targets.finish(source=reader.sources[0].name)
            renumber(numbered.targets, order)
        table: CharacterTable | None = None
        characters: Tokens | None = None
        if chars:
            table, characters = CharacterTable.learn(builder.spellings())
        examples = _finished(numbered, vocabulary, id_of, characters, memory)
        return cls(vocabulary, labels, table, max_length), examples

    def encode(self, batch: RowBatch) -> Examples:
        """Encode a batch of rows; `rows` counts from the first row that was read. Thread-safe.
        Raises DataError for text that is not UTF-8 (which row), and labels of another type."""
        return self._encode([batch], MEMORY)

    def read(self, reader: RowReader, memory: int = MEMORY) -> Examples:
        """Encode all rows. Raises DataError as `encode` and the reader, and without any unit."""
        examples = self._encode(reader.batches(), memory)
        if not len(examples):
            raise DataError(f"{reader.sources[0].name}: no examples: every row is empty, or none")
        return examples

    def _encode(self, batches: Iterable[RowBatch], memory: int) -> Examples:
        builder = VocabularyBuilder(self.vocabulary.tokenizer)
        encode = None if self.labels is None else self.labels.encode
        numbered = _numbered(batches, builder, encode, self.max_length, memory, training=False)
        characters = None if self.chars is None else self.chars.characters(builder.spellings())
        id_of = builder.ids_in(self.vocabulary)
        return _finished(numbered, self.vocabulary, id_of, characters, memory)


def learn_stream(
    reader: RowReader,
    tokenizer: SequenceTokenizer,
    *,
    min_count: int = 1,
    max_size: int | None = None,
    memory: int = MEMORY,
) -> tuple[Vocabulary, Int32, ReadReport]:
    """The rows of text as one stream for a language model: the vocabulary, int32[N], the report.

    Rows of words, and of text split at spaces, end with `<eos>`; rows of characters and bytes are
    joined by nothing. Raises DataError as Encoder.learn.
    """
    builder = VocabularyBuilder(tokenizer)
    ended = tokenizer.joiner != ""
    values, report = _stream(reader, builder, ended, memory)
    vocabulary, id_of = builder.finish(min_count, max_size, end=ended)
    _assign_ids(values, vocabulary, id_of, report)
    return vocabulary, values, report


def read_stream(
    reader: RowReader, vocabulary: Vocabulary, memory: int = MEMORY
) -> tuple[Int32, ReadReport]:
    """Other rows of text as one stream with a known vocabulary. Raises DataError as Encoder.learn,
    and without any unit."""
    builder = VocabularyBuilder(vocabulary.tokenizer)
    values, report = _stream(reader, builder, vocabulary.end is not None, memory)
    _assign_ids(values, vocabulary, builder.ids_in(vocabulary), report)
    return values, report


def _stream(
    reader: RowReader, builder: VocabularyBuilder, ended: bool, memory: int
) -> tuple[Int32, ReadReport]:
    """The rows as numbers of the builder, _FILLER after each if rows are `ended`."""
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
    stream = numbers.finish()
    if not len(stream):
        raise DataError(f"{reader.sources[0].name}: no text: every row is empty, or there is none")
    return stream, report


def _numbered(
    batches: Iterable[RowBatch],
    builder: VocabularyBuilder,
    encode: Coding | None,
    max_length: int | None,
    memory: int,
    training: bool = True,
) -> Examples:
    """Examples whose values are numbers of the builder, or _FILLER."""
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
            if len(values) < len(column):  # the tags of truncated tokens
                kept = ranges(batch.token_offsets[:-1], row_lengths)
                column = Categories(column.values, column.codes[kept])
            report.what = "tag"
        if encode is not None and column is not None:
            targets.append(coded(encode, column, batch, report))
            has_targets = True
        numbers.append(values)
        lengths.append(row_lengths[keep])
        rows.append(batch.first_row + keep)
    found = targets.finish() if has_targets else None
    offsets = offsets_of(np.concatenate(lengths))
    return Examples(numbers.finish(), offsets, np.concatenate(rows), found, report=report)


def coded(encode: Coding, column: Categories, batch: RowBatch, report: ReadReport) -> Int32:
    """int32[n]: the numbers of the labels of a batch, counted in `report`; those that training did
    not have are numbered below 0, see Examples. Raises DataError for labels of another type."""
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
    report.targets += len(codes)
    return codes


def _units(
    builder: VocabularyBuilder,
    batch: RowBatch,
    max_length: int | None,
    training: bool,
    report: ReadReport,
) -> tuple[Int32, Int64]:
    """The numbers of each row's units, and how many there are: none in a row without tokens."""
    try:
        if batch.texts is not None:
            tokens = builder.add(batch.texts, max_length)
        else:
            assert batch.tokens is not None
            assert batch.token_offsets is not None
            longest = max_length if training else None
            tokens = builder.add_tokens(batch.tokens, batch.token_offsets, longest)
    except InvalidTextError as error:
        if batch.token_offsets is not None:
            raise row_of_word(error, batch.token_offsets) from None
        raise RowError(error.row, error.problem) from None
    lengths = np.diff(tokens.offsets)
    empty = int(np.count_nonzero(lengths == 0))
    report.rows += batch.rows
    report.nulls += batch.null_texts
    report.cut += builder.cut_rows
    if batch.texts is None:
        report.skipped += empty
        return tokens.values, lengths
    report.empty += empty
    tokens = filled(tokens.values, tokens.offsets, _FILLER)
    return tokens.values, np.diff(tokens.offsets)


def row_of_word(error: InvalidTextError, offsets: Int64) -> RowError:
    """The error of a word, as one of its row; int64[D + 1]: the bounds of the rows' words."""
    row = int(np.searchsorted(offsets, error.row, "right")) - 1
    return RowError(row, error.problem)


def _finished(
    numbered: Examples,
    vocabulary: Vocabulary,
    id_of: Int32,
    characters: Tokens | None,
    memory: int,
) -> Examples:
    """The examples with ids as values and, with `characters` of each number, spellings."""
    numbers = numbered.values
    spellings: Int32 | None = None
    if characters is not None:
        # the filler of an empty text is spelt with one unknown character
        filler = len(characters)
        values, ends = characters.values, characters.offsets
        characters = Tokens(np.append(values, np.int32(0)), np.append(ends, ends[-1] + 1))
        spill = SpillArray(np.int32, memory)
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            spill.append(np.where(part == _FILLER, np.int32(filler), part))
        spellings = spill.finish()
    _assign_ids(numbers, vocabulary, id_of, numbered.report)
    return replace(numbered, spellings=spellings, characters=characters)


def _assign_ids(numbers: Int32, vocabulary: Vocabulary, id_of: Int32, report: ReadReport) -> None:
    """Turn numbers into ids, in place, _FILLER into `<eos>` or else id 0, and count them."""
    filler = 0 if vocabulary.end is None else vocabulary.end
    renumber(numbers, np.append(id_of, np.int32(filler)))
    report.units = len(numbers)
    if vocabulary.unknown is not None:
        steps = range(0, len(numbers), _AT_ONCE)
        report.unknown = sum(int(np.count_nonzero(numbers[i : i + _AT_ONCE] == 0)) for i in steps)


def renumber(values: Int32, mapping: Int32) -> None:
    """values[i] = mapping[values[i]], a part at a time: they may lie in a file."""
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        part[:] = mapping[part]
