"""Questions and contexts encoded for extractive answers, long contexts in windows; and the best
spans of their scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fastseq.errors import RowError, SettingsError, located
from fastseq.models.bert.examples import check_rows, second_texts
from fastseq.models.data.examples import Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.store.answers import Answer, read_answers
from fastseq.store.files import MEMORY, SpillArray
from fastseq.text.wordpiece import PieceSpans, WordPiece
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

STRIDE = 128  # pieces from a window to the next
MOST_QUESTION = 64  # pieces of a question
MOST_ANSWER = 30  # pieces of an answer
BEST = 20  # starts and ends of a window that are combined
_SPECIAL = 3  # [CLS] question [SEP] context [SEP]
_LEAST = 8  # tokens of a sequence: with two of each


@dataclass(frozen=True, slots=True, eq=False)
class ContextExamples(Examples):
    """Windows with what a prediction needs.

    contexts  of the D rows
    answers   to their questions; None where they were not read
    pieces    of the contexts, with spans in code points
    first     int64[B]: the number of each window's first piece, among those of its row
    """

    contexts: tuple[str, ...] = ()
    answers: list[list[Answer]] | None = None
    pieces: tuple[PieceSpans, ...] = ()
    first: Int64 | None = None


class Found(NamedTuple):
    """A span of a context: its score, and its place in code points."""

    score: float
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class ContextEncoder:
    """The encoder of rows of a question and a context as [CLS] question [SEP] context [SEP].

    A context with too many pieces becomes windows, one every STRIDE pieces, or half of a window.
    The pieces of a question beyond MOST_QUESTION are left out.

    max_length  tokens of a sequence
    has_nulls   whether a question may have no answer
    """

    tokenizer: WordPiece
    max_length: int
    has_nulls: bool = False
    labels: ClassVar[Labels | None] = None
    pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_length < _LEAST:
            raise SettingsError(
                f"max_length is {self.max_length}; expected {_LEAST} or more for a question and "
                "a context"
            )

    def learn(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> tuple[ContextEncoder, Examples]:
        """As of BertEncoder."""
        examples = self._read(reader.batches(), team, memory, False)
        check_rows(examples, reader)
        return replace(self, has_nulls=examples.report.unanswered > 0), examples

    def encode(self, batch: RowBatch) -> ContextExamples:
        """As of BertEncoder, with what a prediction needs; rows are from 0."""
        found = self._read([batch], None, MEMORY, True)
        return replace(found, rows=found.rows - batch.first_row)

    def read(
        self, reader: RowReader, team: Team | None = None, memory: int = MEMORY
    ) -> ContextExamples:
        """As of BertEncoder, with what a prediction needs."""
        examples = self._read(reader.batches(), team, memory, True)
        check_rows(examples, reader)
        return examples

    def _read(
        self, batches: Iterable[RowBatch], team: Team | None, memory: int, predicts: bool
    ) -> ContextExamples:
        ids, report = SpillArray(np.int32, memory), ReadReport(filler="no tokens", pairs=True)
        lengths, rows, seconds, firsts = ([np.zeros(0, np.int64)] for _ in range(4))
        spans = [np.zeros((0, 2), np.int32)]
        contexts: list[str] = []
        answers: list[list[Answer]] | None = None
        pieces: list[PieceSpans] = []
        for batch in batches:
            own = None
            with located(batch.where):
                texts = batch.columns((1,))
                question = self.tokenizer.encode(batch.columns((0,)), team)
                context = self.tokenizer.encode_spans(texts, team, code_points=True)
                if batch.kept is not None:
                    own = read_answers(batch)
            size = min(MOST_QUESTION, (self.max_length - _SPECIAL) // 2)
            asked = np.minimum(np.diff(question.offsets), size)
            room = self.max_length - _SPECIAL - asked
            counts = np.diff(context.tokens.offsets)
            stride = np.minimum(STRIDE, np.maximum(room // 2, 1))
            windows = 1 + np.maximum(-(-(counts - room) // stride), 0)
            owner = np.repeat(np.arange(batch.rows), windows)
            first = ranges(np.zeros(batch.rows, np.int64), windows) * stride[owner]
            taken = np.minimum(counts[owner] - first, room[owner])
            start = context.tokens.offsets[owner] + first
            found = self.tokenizer.join(
                _parts(question, question.offsets[owner], asked[owner]),
                _parts(context.tokens, start, taken),
                self.max_length,
            )
            ids.append(found.ids)
            lengths.append(np.diff(found.offsets))
            rows.append(batch.first_row + owner)
            seconds.append(second_texts(found))
            firsts.append(first)
            if own is not None or predicts:
                strings = texts.to_strings()
            if own is not None:
                with located(batch.where):
                    places = _places(strings, own, context)
                inside = _inside(places[owner], first, taken, asked[owner] + 2)
                spans.append(inside)
                report.unanswered += sum(not some for some in own)
                reached = np.zeros(batch.rows, np.bool_)
                reached[owner[inside.any(1)]] = True
                reached &= places[:, 1] - places[:, 0] < MOST_ANSWER
                asks = np.array([bool(some) for some in own])
                report.unreachable += int((asks & ~reached).sum())
            if predicts:
                contexts += strings
                pieces.append(context)
                answers = None if own is None else [*(answers or []), *own]
            report.rows += batch.rows
            report.nulls += batch.partly_null
            report.cut += int((np.diff(question.offsets) > size).sum())
            report.empty += int(((np.diff(question.offsets) == 0) | (counts == 0)).sum())
            report.split += int((windows > 1).sum())
            report.units += len(found.ids)
        return ContextExamples(
            ids.finish(), offsets_of(np.concatenate(lengths)), np.concatenate(rows),
            seconds=np.concatenate(seconds), spans=np.concatenate(spans), report=report,
            contexts=tuple(contexts), answers=answers, pieces=tuple(pieces),
            first=np.concatenate(firsts),
        )  # fmt: skip


def _parts(tokens: Tokens, starts: Int64, counts: Int64) -> Tokens:
    return Tokens(tokens.values[ranges(starts, counts)], offsets_of(counts))


def _places(contexts: list[str], answers: list[list[Answer]], pieces: PieceSpans) -> Int64:
    """int64[D, 2]: the first and the last piece of the first answer of each row, -1 for none.
    Raises RowError for an answer that is not a text of the context."""
    found = np.full((len(contexts), 2), -1)
    offsets = pieces.tokens.offsets
    for row, some in enumerate(answers):
        if not some:
            continue
        text, start = some[0]
        at = _nearest(contexts[row], text, start or 0)
        own = slice(offsets[row], offsets[row + 1])
        if at < 0:
            raise RowError(row, f"the answer {text!r:.80} is not in its context")
        first = int(np.searchsorted(pieces.stops[own], at, "right"))
        last = int(np.searchsorted(pieces.starts[own], at + len(text), "left")) - 1
        if first <= last:  # else of what has no piece
            found[row] = first, last
    return found


def _nearest(context: str, text: str, start: int) -> int:
    """Where the occurrence of a text begins that is nearest to `start`; -1 for none."""
    before, after = context.rfind(text, 0, start + len(text)), context.find(text, start)
    if min(before, after) < 0:
        return max(before, after)
    return before if start - before < after - start else after


def _inside(places: Int64, first: Int64, taken: Int64, before: Int64) -> Int32:
    """int32[B, 2]: the first and the last token of each window's answer; 0, [CLS], where the
    window does not contain the whole answer."""
    whole = (places[:, 0] >= first) & (places[:, 1] < first + taken) & (places[:, 0] >= 0)
    found = np.where(whole[:, None], places - first[:, None] + before[:, None], 0)
    return found.astype(np.int32)


def best_spans(
    scores: Float32, offsets: Int64, seconds: Int64, best: int = BEST, most: int = MOST_ANSWER
) -> list[tuple[float, list[tuple[float, int, int]]]]:
    """For each window the score of no answer, and its spans as (score, first, last), the best
    first; places count from the first piece of the context.

    scores  float32[N, 2], of the start and of the end of an answer
    """
    found = []
    for b, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        null = float(scores[begin].sum())
        own = scores[begin + int(seconds[b]) : end - 1].astype(np.float64)
        starts, ends = (np.argsort(-own[:, side], kind="stable")[:best] for side in (0, 1))
        sums = own[starts, 0][:, None] + own[ends, 1]
        length = ends - starts[:, None]
        valid = (length >= 0) & (length < most)
        order = np.argsort(np.where(valid, -sums, np.inf), axis=None, kind="stable")
        order = order[: min(best, int(valid.sum()))]
        i, j = np.unravel_index(order, sums.shape)
        triples = zip(sums[i, j].tolist(), starts[i].tolist(), ends[j].tolist(), strict=True)
        found.append((null, list(triples)))
    return found
