"""The data of BERT's pretraining: a corpus of sentences, and batches of masked pairs made of it.

corpus = PieceCorpus.read(reader, tokenizer, max_length=128)
pairs = Pairs.draw(corpus, 128, key=mixed_key(seed, epoch))
for numbers in pairs.batches(steps, seed): batch = pairs.batch(numbers, masking, key)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastseq.errors import DataError, located
from fastseq.kernels.text import pretraining as kernels
from fastseq.models.data.examples import ReadReport
from fastseq.store.files import MEMORY, SpillArray
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.types import Int32, Int64, UInt8, offsets_of

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

SPECIAL = 3  # tokens of a pair besides its segments: [CLS], [SEP] and [SEP]

_ENDS, _WIDE_ENDS = ".!?", "。！？…"
_CLOSING = "\"')]}»”’）」』】"
_DOCUMENTS = 4096  # that a thread pairs at a time
_SHORT_UNIT = 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class PieceCorpus:
    """Documents of sentences of word pieces.

    values     int32[n]      the pieces
    segments   int64[S + 1]  sentence s has values[segments[s]:segments[s + 1]]
    documents  int64[D + 1]  document d has the sentences documents[d] to documents[d + 1] - 1
    kinds      uint8[V]      of the pieces, as kernels.text.pretraining has them
    report     counts of what was read
    """

    values: Int32
    segments: Int64
    documents: Int64
    kinds: UInt8
    report: ReadReport = field(default_factory=ReadReport)

    def __len__(self) -> int:
        return len(self.documents) - 1

    @classmethod
    def read(
        cls, reader: RowReader, tokenizer: WordPiece, most: int, team: Team | None = None,
        memory: int = MEMORY,
    ) -> PieceCorpus:  # fmt: skip
        """Encode a corpus, of which each row is a document; rows without a piece are left out.

        most : pieces of a sentence, which is cut at the next word
        memory : bytes of pieces held in memory; more goes to a temporary file

        Raises DataError as the reader, for text that is not UTF-8 (which row), and for a corpus
        without a piece.
        """
        kinds, report = kinds_of(tokenizer), ReadReport()
        ids, lengths = SpillArray(np.int32, memory), SpillArray(np.int32, memory)
        sentences: list[Int64] = [np.zeros(0, np.int64)]
        unknown = tokenizer.id_of(tokenizer.unknown)
        for batch in reader.batches():
            with located(batch.where):
                found = _sentences(batch, tokenizer, kinds, most, team)
            ids.append(found[0])
            lengths.append(found[1])
            sentences.append(found[2])
            report.rows += batch.rows
            report.nulls += batch.null_texts
            report.skipped += batch.rows - len(found[2])
            report.single += int(np.count_nonzero(found[2] == 1))
            report.units += len(found[0])
            report.unknown += int(np.count_nonzero(found[0] == unknown))
        if not len(ids):
            raise DataError(f"{reader.sources[0].name}: no text to learn from or to measure")
        segments = offsets_of(lengths.finish())
        return cls(ids.finish(), segments, offsets_of(np.concatenate(sentences)), kinds, report)

    @property
    def has_next(self) -> bool:
        """Whether some document has a sentence that follows another."""
        return len(self.segments) > len(self.documents)

    def counts(self) -> Int64:
        """int64[V]: how often each piece occurs."""
        return np.bincount(self.values, minlength=len(self.kinds)).astype(np.int64)


def kinds_of(tokenizer: WordPiece) -> UInt8:
    """uint8[V]: the kinds of the pieces."""
    kinds: UInt8 = np.zeros(len(tokenizer), np.uint8)
    groups = {kernels.END: _ENDS, kernels.WIDE_END: _WIDE_ENDS, kernels.CLOSING: _CLOSING}
    for kind, chars in groups.items():
        for char in chars:
            if char in tokenizer.vocabulary:
                kinds[tokenizer.vocabulary[char]] = kind
    for word, id in tokenizer.vocabulary.items():
        if word.startswith(tokenizer.prefix) and len(word) > len(tokenizer.prefix):
            kinds[id] = kernels.WITHIN
    return kinds


def _sentences(
    batch: RowBatch, tokenizer: WordPiece, kinds: UInt8, most: int, team: Team | None
) -> tuple[Int32, Int64, Int64]:
    """(pieces, pieces of each sentence, sentences of each row that has some)."""
    found = tokenizer.encode_spans(batch.text, team)
    ids, offsets, texts = found.tokens.values, found.tokens.offsets, found.texts
    ends = np.zeros(len(ids), np.uint8)
    kernels.sentence_ends(
        ends, ids, found.starts, found.stops, offsets, texts.data, texts.offsets, kinds, most
    )
    places = offsets_of(ends)
    counts = np.diff(places[offsets])
    stops = np.flatnonzero(ends) + 1
    return ids, np.diff(stops, prepend=0), counts[counts > 0]


@dataclass(frozen=True, slots=True)
class Masking:
    """How tokens are chosen for prediction.

    ratio        of a sequence's tokens
    most         of a sequence
    whole_words  all pieces of a word or none
    begin, end, mask  ids of [CLS], [SEP] and [MASK]
    """

    ratio: float
    most: int
    whole_words: bool
    begin: int
    end: int
    mask: int

    @classmethod
    def of(cls, tokenizer: WordPiece, ratio: float, most: int, whole_words: bool) -> Masking:
        """With the ids of a tokenizer that has them."""
        specials = tokenizer.specials
        ids = [tokenizer.id_of(name) for name in (specials.begin, specials.end, specials.mask)]
        return cls(ratio, most, whole_words, *(id for id in ids if id is not None))


@dataclass(frozen=True, slots=True, eq=False)
class MaskedBatch:
    """B masked pairs.

    ids      int32[N]      tokens
    types    int32[N]      0 for A, 1 for B
    offsets  int64[B + 1]  of the sequences
    places   int64[M]      of the chosen tokens
    words    int32[M]      that were there
    labels   int32[B]      0 where B follows A, 1 where it is random
    """

    ids: Int32
    types: Int32
    offsets: Int64
    places: Int64
    words: Int32
    labels: Int32

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of segments, in the order of the corpus.

    firsts, seconds  int64[P]     first tokens of A and B in the corpus
    lengths          int32[P, 2]  their tokens
    labels           int32[P]     0 where B follows A, 1 where it is random
    """

    corpus: PieceCorpus
    firsts: Int64
    seconds: Int64
    lengths: Int32
    labels: Int32

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def draw(
        cls, corpus: PieceCorpus, length: int, short: float, key: int, team: Team | None = None
    ) -> Pairs:
        """The pairs of an epoch: they depend on the key, not on the team.

        length : tokens of a sequence at most, the special ones among them
        short : probability that the pairs of a document aim at fewer tokens
        """
        starts = range(0, len(corpus), _DOCUMENTS)
        parts: list[tuple[Int64, Int64, Int32, Int32]] = [None] * len(starts)  # type: ignore[list-item]

        def work(part: int) -> None:
            first, last = starts[part], min(starts[part] + _DOCUMENTS, len(corpus))
            room = int(corpus.documents[last] - corpus.documents[first])
            firsts, seconds = np.empty((2, room), np.int64)
            lengths, labels = np.empty((room, 2), np.int32), np.empty(room, np.int32)
            count = kernels.pair_segments(
                firsts, seconds, lengths, labels, corpus.segments, corpus.documents,
                length - SPECIAL, round(short * _SHORT_UNIT), np.uint64(key),
                np.empty(1, np.uint64), first, last,
            )  # fmt: skip
            found = (firsts, seconds, lengths, labels)
            parts[part] = tuple(array[:count].copy() for array in found)  # type: ignore[assignment]

        (team or Team(1)).run(work, len(parts))
        firsts, seconds, lengths, labels = map(np.concatenate, zip(*parts, strict=True))
        return cls(corpus, firsts, seconds, lengths, labels)

    @property
    def tokens(self) -> Int64:
        """int64[P]: tokens of each sequence."""
        return np.asarray(self.lengths.sum(1, dtype=np.int64) + SPECIAL)

    def batches(self, steps: int, by_tokens: bool, seed: Iterable[int]) -> Iterator[Int64]:
        """The pairs in a random order, in at most `steps` batches of nearly equal numbers of
        sequences, or of tokens; each int64[B]."""
        generator = np.random.Generator(np.random.PCG64(list(seed)))
        order: Int64 = generator.permutation(np.arange(len(self)))
        if by_tokens:
            ends = np.cumsum(self.tokens[order])
            edges = np.searchsorted(ends, np.arange(1, steps) * ends[-1] // steps, "right")
        else:
            edges = np.arange(1, steps) * len(self) // steps
        for part in np.split(order, np.unique(edges)):
            if len(part):
                yield part

    def batch(self, numbers: Int64, masking: Masking, key: int) -> MaskedBatch:
        """Some of the sequences, masked; the masks of each depend on the key and its number."""
        offsets = offsets_of(self.tokens[numbers])
        n = int(offsets[-1])
        ids, types, targets = np.empty((3, n), np.int32)
        longest = int(np.diff(offsets).max())
        kernels.masked_batch(
            ids, types, targets, offsets, numbers, self.firsts[numbers], self.seconds[numbers],
            self.lengths[numbers], self.corpus.values, self.corpus.kinds, masking.begin,
            masking.end, masking.mask, masking.ratio, masking.most, masking.whole_words,
            np.uint64(key), np.empty(1, np.uint64), np.empty((2, longest), np.int32),
        )  # fmt: skip
        places = np.flatnonzero(targets >= 0)
        return MaskedBatch(ids, types, offsets, places, targets[places], self.labels[numbers])
