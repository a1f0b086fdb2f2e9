"""BertAnswerer: extractive answers to questions, by a checkpoint of BERT that is fine-tuned.

model = BertAnswerer(base="all-MiniLM-L6-v2", epochs=2)
model.fit("train.parquet")  # columns question, context, and answers or answer and answer_start
model.answer("Where is the cat?", "The cat sat on the mat.")
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastseq.errors import DataError
from fastseq.estimator import Real, parameter
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.contexts import BEST, ContextEncoder, ContextExamples, Found, best_spans
from fastseq.models.bert.examples import BertEncoder
from fastseq.models.bert.finetuning import BertModel, BertState, BertTask, ScoreTask
from fastseq.models.bert.network import BertSpanNetwork
from fastseq.models.bert.rows import rows_with_columns
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.folder import ModelFolder
from fastseq.models.scoring import scored
from fastseq.nn.backend import Backend
from fastseq.settings import whole
from fastseq.text.wordpiece import WordPiece
from fastseq.types import Categories

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader

NAMES = ("question", "context")  # columns that are not named
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Answered(NamedTuple):
    """A possible answer.

    text         of the context; None for no answer
    probability  among the best answers
    score        of its start and end together
    start, stop  where it is in the context, in code points; -1 for no answer
    """

    text: str | None
    probability: float
    score: float
    start: int
    stop: int


class AnswerTask(ScoreTask):
    """The training of a model that answers."""

    def _validate(self) -> dict[str, float] | None:
        if self.valid is None:
            return None
        assert isinstance(self.valid, ContextExamples)
        threshold = self.learned.settings.get("null_threshold", 0.0)
        return measured(self.learned, [self.valid], float(threshold))


class BertAnswerer(BertModel):
    """Extractive question answering by fine-tuning BERT: the part of a context that answers a
    question (Devlin et al. 2019, sections 4.2 and 4.3).

    The scores of a start and an end are added; an answer has at most 30 pieces. A long context is
    read in windows, one every 128 pieces, and the best answer of all windows counts. Where training
    had questions without an answer, no answer is predicted if its lowest score in all windows is
    above that of the best answer by more than `null_threshold`.

    Attributes
    ----------
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert answerer"
    estimator_type: ClassVar[str | None] = None
    task: ClassVar[type[BertTask]] = AnswerTask
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}
    measures: ClassVar[Mapping[str, bool]] = {"f1": True, "exact_match": True, "loss": False}

    null_threshold: float = parameter(
        default=0.0, check=Real(),
        help="How far no answer must score above the best one to be predicted.",
        notes="Not used where all questions in training had an answer.",
    )  # fmt: skip

    # ---- prediction and evaluation

    def predict(
        self, examples: Any, *, text_column: Sequence[str] | None = None
    ) -> list[str | None]:
        """The answer to each question, None for no answer. Raises DataError for data that cannot be
        read.

        examples : a list of pairs (question, context), or any data with these columns
        """
        reader, report = self._to_predict(examples, {"text_column": text_column})
        return [best[0].text for _, some in self._answered(reader, report) for best in some]

    def answer(self, question: str, context: str, k: int = 1) -> list[Answered]:
        """The k best answers, the best first. Raises SettingsError for k below 1."""
        whole("k", k, 1)
        reader, report = self._to_predict([(question, context)], {})
        ((_, (found,)),) = self._answered(reader, report)
        return found[:k]

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        text_column: Sequence[str] | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """`id`, the columns to keep, `prediction`, null for no answer, its `probability`, `start`
        and `stop` in code points of the context (-1 for no answer), of every row: Arrow tables,
        made on demand.

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """

        def found(
            reader: RowReader, report: ReadReport
        ) -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for rows, some in self._answered(reader, report):
                best = [each[0] for each in some]
                texts = [each.text for each in best]
                distinct = tuple(dict.fromkeys(text for text in texts if text is not None))
                numbers = {text: number for number, text in enumerate(distinct)}
                codes = np.array([numbers.get(text or "", -1) for text in texts], np.int32)
                yield (
                    rows,
                    {
                        "prediction": Categories(distinct, codes),
                        "probability": np.array([each.probability for each in best], np.float32),
                        "start": np.array([each.start for each in best], np.int64),
                        "stop": np.array([each.stop for each in best], np.int64),
                    },
                )

        outputs = {"prediction": "string", "probability": "float"}
        outputs |= {"start": "int64", "stop": "int64"}
        named = {"text_column": text_column}
        return self._predictions(data, named, outputs, found, keep=keep, id=id_column)

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"f1" and "exact_match", the means over the questions of the best agreement with one of
        their answers, without case, punctuation and articles (Rajpurkar et al. 2016), and "loss",
        in nats}. A question without an answer counts 1 if none is predicted, else 0.

        Raises DataError for data that cannot be read, or without a row.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        reader = self._open(examples, y, columns, fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        parts = []
        for rows in reader.batches():
            parts.append(_encoder_of(learned).encode(rows))
            report.add(parts[-1].report)
        if not any(map(len, parts)):
            raise DataError(f"{reader.sources[0].name}: there are no rows: nothing to measure")
        return measured(learned, parts, self.null_threshold)

    def score(self, examples: Any, y: Any = None) -> float:
        """The F1. Raises as `evaluate`."""
        return self.evaluate(examples, y)["f1"]

    def _answered(
        self, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, list[list[Answered]]]]:
        """Each batch of rows with the answers to its questions."""
        learned = self.learned
        for rows in reader.batches():
            part = _encoder_of(learned).encode(replace(rows, kept=None))
            report.add(part.report)
            yield rows, answered(learned, part, self.null_threshold)[0]

    # ---- reading

    def _open(
        self, examples: Any, y: Any = None, columns: Mapping[str, Any] | None = None, *,
        fields: Fields | None = None, like: RowReader | None = None,
        targets: bool | None = None, **more: Any,
    ) -> RowReader:  # fmt: skip
        from fastseq.store.answers import ANSWERS, with_answers

        named = dict(columns or {})
        answers = named.pop("label", None)
        names = tuple(named.get("text") or ()) or (NAMES if fields is None else fields.text)
        examples, y = rows_with_columns(examples, y, names, answers or ANSWERS)
        named["text"] = names
        more |= {"fields": fields, "like": like, "targets": False}
        reader = super()._open(examples, y, named, **more)
        if targets is False:
            return reader
        return with_answers(reader, answers, () if fields is None else fields.keep)

    # ---- construction and saving

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> ContextEncoder:
        return ContextEncoder(tokenizer, limit)

    def _network(
        self, config: BertConfig, encoder: BertEncoder, backend: Backend
    ) -> BertSpanNetwork:
        return BertSpanNetwork(config, self.dropout, backend, self.seed)

    def _statistics(self, learned: BertState) -> dict[str, Any]:
        return {**super()._statistics(learned), "has_nulls": _encoder_of(learned).has_nulls}

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> BertState:
        learned = super()._rebuilt(folder, backend)
        has_nulls = bool(folder.statistics["has_nulls"])
        learned.encoder = replace(_encoder_of(learned), has_nulls=has_nulls)
        return learned


def _encoder_of(learned: BertState) -> ContextEncoder:
    assert isinstance(learned.encoder, ContextEncoder)
    return learned.encoder


def answered(
    learned: BertState, examples: ContextExamples, threshold: float
) -> tuple[list[list[Answered]], float]:
    """The best answers to each question, the best first, and the loss of all windows together,
    where the answers are known."""
    network, encoder, first = learned.network, _encoder_of(learned), examples.first
    assert first is not None
    D, loss = len(examples.contexts), 0.0
    spans: list[list[tuple[float, int, int]]] = [[] for _ in range(D)]
    nulls = [math.inf] * D
    for batch, scores in scored(network, examples):
        if len(examples.spans if examples.spans is not None else ()):
            loss += float(network.loss(scores.copy(), batch, False)[0]) * len(batch)
        assert batch.seconds is not None
        found = best_spans(scores, batch.offsets, batch.seconds)
        for window, (lowest, best) in zip(batch.rows.tolist(), found, strict=True):
            row, at = int(examples.rows[window]), int(first[window])
            nulls[row] = min(nulls[row], lowest)
            spans[row] += [(score, start + at, stop + at) for score, start, stop in best]
    results = []
    places = _piece_places(examples)
    for row, context in enumerate(examples.contexts):
        starts, stops = places[row]
        scored_places: dict[tuple[int, int], float] = {}  # of pieces in several windows
        for score, i, j in sorted(spans[row], key=lambda span: (-span[0], span[1:])):
            scored_places.setdefault((int(starts[i]), int(stops[j])), score)
        some = [
            Found(score, *place) for place, score in scored_places.items() if place[0] < place[1]
        ][:BEST]
        null = Found(nulls[row], -1, -1)
        if encoder.has_nulls or not some:
            beaten = bool(some) and null.score - some[0].score <= threshold
            some = [*some, null] if beaten else [null, *some]
        scores = np.array([each.score for each in some])
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        results.append([
            Answered(
                context[each.start : each.stop] if each.start >= 0 else None, float(share), *each
            )
            for each, share in zip(some, shares, strict=True)
        ])  # fmt: skip
    return results, loss / max(len(examples), 1)


def _piece_places(examples: ContextExamples) -> list[tuple[Any, Any]]:
    """Where the pieces of each context begin and end, in code points."""
    found = []
    for part in examples.pieces:
        offsets = part.tokens.offsets.tolist()
        for begin, end in pairwise(offsets):
            found.append((part.starts[begin:end], part.stops[begin:end]))
    return found


# ---- measures


def measured(
    learned: BertState, parts: Sequence[ContextExamples], threshold: float
) -> dict[str, float]:
    """The measures of BertAnswerer.evaluate, of examples with answers."""
    exact: list[float] = []
    overlap: list[float] = []
    loss = weight = 0.0
    for part in parts:
        found, mean = answered(learned, part, threshold)
        loss, weight = loss + mean * len(part), weight + len(part)
        for best, answers in zip(found, part.answers or [], strict=True):
            texts = [text for text, _ in answers] or [""]
            exact.append(max(exact_match(best[0].text or "", text) for text in texts))
            overlap.append(max(word_f1(best[0].text or "", text) for text in texts))
    return {
        "f1": float(np.mean(overlap)), "exact_match": float(np.mean(exact)),
        "loss": loss / weight,
    }  # fmt: skip


def normalized(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles, as in SQuAD's script."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(found: str, expected: str) -> float:
    """1 where both have the same words in the same order, else 0."""
    return float(normalized(found) == normalized(expected))


def word_f1(found: str, expected: str) -> float:
    """The F1 of the words that both have; 1 where neither has one."""
    a, b = normalized(found), normalized(expected)
    if not a or not b:
        return float(a == b)
    same = (Counter(a) & Counter(b)).total()
    return 2 * same / (len(a) + len(b))
