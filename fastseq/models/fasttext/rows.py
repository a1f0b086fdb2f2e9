"""Texts as embedding rows of FastText's classifier (words, character n-grams, word n-grams), and
labels.

Row 0 is the end-of-line token "</s>", which fastText's program appends to every text: a text
without known words is classified by it alone. Then come the words, then the buckets of n-grams that
occur in training; other n-grams have no row and count as zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastseq.errors import DataError, located
from fastseq.kernels.text.ngrams import bucket_ids
from fastseq.kernels.vectors.fasttext_labels import count_rows, fill_rows, hash_words
from fastseq.models.data.examples import ReadReport
from fastseq.models.word_vectors.sampling import runs_of
from fastseq.models.word_vectors.sentences import TokenSpill
from fastseq.store.files import MEMORY, SpillArray
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, encode_slices
from fastseq.text.subwords import Subwords
from fastseq.text.tables import Dictionary
from fastseq.threads import in_order
from fastseq.types import (
    Categories,
    Int32,
    Int64,
    Label,
    Texts,
    Tokens,
    UInt32,
    distinct,
    offsets_of,
    ranges,
)

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

END = "</s>"
SEVERAL = "\x1f"  # separator of labels given as a list

_DENSE = 1 << 24  # maximum buckets for arrays with an element for each
_BLOCK = 1 << 20  # words converted to rows at a time

Encode = Callable[[Categories], tuple[Int32, dict[Label, int]]]


@dataclass(frozen=True, slots=True)
class Ngrams:
    """Which n-grams a text has in addition to its words."""

    longest: int  # maximum length of word n-grams; 1 for none
    subwords: Subwords  # character n-grams
    buckets: int  # shared by both kinds of n-grams; 0 without any

    def maker(self, terms: Texts, own: Int32) -> Callable[[Tokens], Tokens]:
        """A function from texts to their rows, int32: words by their number in `own`, bucket b as
        -1 - b.

        terms  T of them, whose numbers the texts consist of, the last the end-of-line token
        own    int32[T]: the row of each term, -1 for none
        """
        hashes: UInt32 = np.empty(len(terms), np.uint32)
        hash_words(hashes, terms.data, terms.offsets)
        low, high = self.subwords.min_n, self.subwords.max_n
        grams, gram_ends = bucket_ids(terms.data, terms.offsets, low, high, max(self.buckets, 1))
        end = len(terms) - 1

        def made(tokens: Tokens) -> Tokens:
            counts: Int64 = np.empty(len(tokens), np.int64)
            count_rows(counts, tokens.values, tokens.offsets, own, gram_ends, end, self.longest)
            ends = offsets_of(counts)
            rows: Int32 = np.empty(int(ends[-1]), np.int32)
            fill_rows(
                rows, ends, tokens.values, tokens.offsets, own, hashes, grams, gram_ends, end,
                self.longest, max(self.buckets, 1),
            )  # fmt: skip
            return Tokens(rows, ends)

        return made


@dataclass(frozen=True, eq=False)
class TextRows:
    """Encodes texts as the rows of a trained model."""

    analyzer: Analyzer
    ngrams: Ngrams
    words: Texts  # V of them, "</s>" first
    used: Int32  # [B]: the buckets that have rows V … V + B - 1, ascending

    def __len__(self) -> int:
        return len(self.words) + len(self.used)

    @cached_property
    def _dictionary(self) -> Dictionary:
        return Dictionary(self.words)

    @cached_property
    def _places(self) -> Int32 | None:
        """int32[buckets]: the row of each bucket, -1 for none; None for too many buckets."""
        if self.ngrams.buckets > _DENSE:
            return None
        places: Int32 = np.full(self.ngrams.buckets, -1, np.int32)
        places[self.used] = np.arange(len(self.words), len(self), dtype=np.int32)
        return places

    def encode(self, texts: Texts, report: ReadReport | None = None) -> Tokens:
        """The rows of each text, -1 for a bucket without one; counts words in `report`.

        Raises DataError for a text that is not UTF-8; its attribute `row` is the text's number.
        """
        lexicon = Lexicon(self.analyzer)
        tokens = lexicon.encode(texts)
        terms = with_end(lexicon)
        own = self._dictionary.columns(terms)
        if report is not None:
            report.units += len(tokens.values)
            report.unknown += int(np.count_nonzero(own[tokens.values] < 0))
        found = self.ngrams.maker(terms, own)(tokens)
        self.settle(found.values)
        return found

    def settle(self, rows: Int32) -> None:
        """Replace buckets, -1 - b, by their rows, in place."""
        of_buckets = np.flatnonzero(rows < 0)
        if not len(of_buckets):
            return
        wanted = -1 - rows[of_buckets]
        if self._places is not None:
            rows[of_buckets] = self._places[wanted]
            return
        at = np.searchsorted(self.used, wanted)
        known = np.append(self.used, -1)[at] == wanted
        rows[of_buckets] = np.where(known, at + len(self.words), -1)


def with_end(lexicon: Lexicon) -> Texts:
    """The terms of a lexicon, then the end-of-line token."""
    terms, end = lexicon.terms(), Texts.from_strings([END])
    first, last = terms.offsets[0], terms.offsets[-1]
    data = np.concatenate([terms.data[first:last], end.data])
    return Texts(data, np.append(terms.offsets - first, last - first + end.offsets[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """D training texts: text t has the rows rows[ends[t]:ends[t + 1]] and the labels
    labels[label_ends[t]:label_ends[t + 1]]. sizes int32[D]: words of each, with end-of-line."""

    rows: Int32
    ends: Int64
    labels: Int32
    label_ends: Int64
    sizes: Int32

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(slots=True, eq=False)
class Words:
    """The words of a corpus as numbers of a lexicon's terms, and its labels."""

    terms: Texts
    tokens: Int32
    offsets: Int64
    counts: Int64  # [T] occurrences of each term
    labels: Int32
    label_ends: Int64
    report: ReadReport

    @classmethod
    def read(
        cls,
        reader: RowReader,
        analyzer: Analyzer,
        encode: Encode,
        separator: str | None,
        threads: int,
        memory: int = MEMORY,
    ) -> Words:
        """Read all rows, their labels as `encode` numbers them. Raises DataError for what the
        reader refuses, and text that is not UTF-8."""
        lexicon, found, tokens = Lexicon(analyzer), ReadReport(), TokenSpill(memory)
        labels, label_lengths = SpillArray(np.int32, memory), SpillArray(np.int64, memory)
        with located(reader.where):
            for batch, (ids,) in encode_slices(
                lexicon, reader.batches(), lambda row, levels: levels, threads, lambda b: b.text
            ):
                codes, sizes = numbered(batch, encode, separator, found)
                labels.append(codes)
                label_lengths.append(sizes)
                count_rows_of(found, batch, np.diff(ids.offsets))
                found.units += len(ids.values)
                tokens.append(ids)
        values, lengths, counts = tokens.finish(len(lexicon))
        offsets, ends = offsets_of(lengths), offsets_of(label_lengths.finish())
        counts = np.append(counts, len(offsets) - 1)
        return cls(with_end(lexicon), values, offsets, counts, labels.finish(), ends, found)

    def choose(self, min_count: int, known: list[str]) -> tuple[Texts, Int64, Int32]:
        """The vocabulary ("</s>", words by falling frequency, `known` words that do not occur), the
        counts of its words, int64, and the word of each term, int32[T], -1 for none."""
        strings = self.terms.to_strings()
        places = dict.fromkeys(known, -1)
        enough = self.counts >= min_count
        if places:
            enough |= np.array([word in places for word in strings])
        enough[-1] = False
        order = np.flatnonzero(enough)
        order = order[np.argsort(-self.counts[order], kind="stable")]
        names = [END, *(strings[i] for i in order.tolist() if strings[i] != END)]
        seen = set(names)
        names += [word for word in places if word not in seen]
        words = Texts.from_strings(names)
        own: Int32 = Dictionary(words).columns(self.terms)
        total = np.zeros(len(names), np.int64)
        has = own >= 0
        np.add.at(total, own[has], self.counts[has])
        return words, total, own

    def rows(
        self, analyzer: Analyzer, ngrams: Ngrams, words: Texts, own: Int32, memory: int = MEMORY
    ) -> tuple[TextRows, LabelledRows]:
        """The encoder for these words, and the rows of all texts."""
        make = ngrams.maker(self.terms, own)
        spill, ends = SpillArray(np.int32, memory), [np.zeros(1, np.int64)]
        dense = ngrams.buckets <= _DENSE
        occurs = np.zeros(ngrams.buckets if dense else 0, np.bool_)
        several: list[Int32] = []
        for first, last in runs_of(np.diff(self.offsets), _BLOCK):
            start, stop = self.offsets[first], self.offsets[last]
            part = Tokens(self.tokens[start:stop], self.offsets[first : last + 1] - start)
            made = make(part)
            buckets = -1 - made.values[made.values < 0]
            if dense:
                occurs[buckets] = True
            else:
                several.append(distinct(buckets))
            spill.append(made.values)
            ends.append(ends[-1][-1] + made.offsets[1:])
        used = np.flatnonzero(occurs) if dense else distinct(np.concatenate(several))
        encoder = TextRows(analyzer, ngrams, words, used.astype(np.int32))
        rows: Int32 = spill.finish()
        for at in range(0, len(rows), _BLOCK):
            encoder.settle(rows[at : at + _BLOCK])
        sizes = (np.diff(self.offsets) + 1).astype(np.int32)
        return encoder, LabelledRows(
            rows, np.concatenate(ends), self.labels, self.label_ends, sizes
        )


def encoded(
    encoder: TextRows, reader: RowReader, report: ReadReport
) -> Iterator[tuple[RowBatch, Tokens]]:
    """Each batch of rows and its encoded texts, counted in `report`; encoded on another thread."""

    def work(batch: RowBatch) -> Tokens:
        assert batch.texts is not None
        with located(batch.where):
            return encoder.encode(batch.texts, report)

    with ThreadPoolExecutor(1, "fastseq-encode") as pool:
        for batch, rows in in_order(pool, work, reader.batches(), 2):
            count_rows_of(report, batch, np.diff(rows.offsets) - 1)
            yield batch, rows


def count_rows_of(report: ReadReport, batch: RowBatch, lengths: Int64) -> None:
    """Count the rows of a batch, and those without a word."""
    report.rows += batch.rows
    report.nulls += batch.null_texts
    report.empty += int(np.count_nonzero(lengths == 0))


def numbered(
    batch: RowBatch, encode: Encode, separator: str | None, report: ReadReport
) -> tuple[Int32, Int64]:
    """The numbers of the labels of a batch, and the number of labels of each row.

    Raises DataError for labels of another type than in training.
    """
    assert batch.labels is not None
    column, lengths = split_labels(batch.labels, separator)
    try:
        codes, unseen = encode(column)
    except DataError as error:
        raise DataError(f"{batch.source}: {error}") from None
    report.targets += len(codes)
    for label, count in unseen.items():
        report.unseen[label] = report.unseen.get(label, 0) + count
    return codes, lengths


def split_labels(column: Categories, separator: str | None) -> tuple[Categories, Int64]:
    """The labels of rows one after the other, and the number of each row's, int64[D]; one per row
    without a separator. White space around labels, empty labels and duplicates are dropped."""
    if separator is None:
        return column, np.ones(len(column), np.int64)
    parts = [
        list(dict.fromkeys(filter(None, map(str.strip, str(value).split(separator)))))
        for value in column.values
    ]
    distinct = dict.fromkeys(name for part in parts for name in part)
    names = {name: number for number, name in enumerate(distinct)}
    flat = np.array([names[name] for part in parts for name in part], np.int32)
    offsets = offsets_of(np.array([len(part) for part in parts], np.int64))
    lengths = np.diff(offsets)[column.codes] if len(parts) else np.zeros(0, np.int64)
    starts = offsets[:-1][column.codes] if len(parts) else np.zeros(0, np.int64)
    return Categories(tuple(names), flat[ranges(starts, lengths)]), lengths


def joined_labels(y: Iterable[object]) -> list[str] | None:
    """Lists of labels as one string per row, joined by SEVERAL; None if y has no lists.

    Raises DataError, naming the row, for a row of another kind.
    """
    kinds = (list, tuple, set, frozenset, np.ndarray)
    rows = list(y) if isinstance(y, list | tuple | np.ndarray) else []
    if not rows or not isinstance(rows[0], kinds):
        return None
    joined = []
    for number, row in enumerate(rows):
        if not isinstance(row, kinds) or not all(isinstance(name, str) for name in row):
            raise DataError(f"row {number} (from 0): expected a list of labels, all of them str")
        joined.append(SEVERAL.join(sorted(row) if isinstance(row, set | frozenset) else row))
    return joined
