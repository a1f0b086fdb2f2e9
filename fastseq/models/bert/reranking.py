"""BertReranker: the relevance of texts to a query, by a checkpoint of BERT that is fine-tuned as a
cross-encoder.

model = BertReranker(base="all-MiniLM-L6-v2", epochs=1)
model.fit("train.parquet")  # columns query, passage, label; or query, positive, negatives
model.rank("the query", ["a text", "another text"])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.estimator import declared_by
from fastseq.models.bert.candidates import CandidateEncoder
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.examples import BertEncoder
from fastseq.models.bert.finetuning import (
    BertNumberModel,
    BertState,
    BertTask,
    BertTextModel,
    ScoreTask,
)
from fastseq.models.bert.network import BertRankNetwork
from fastseq.models.bert.rows import LABEL, rows_with_columns
from fastseq.models.data.examples import Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.scoring import scored
from fastseq.nn.backend import Backend
from fastseq.settings import whole
from fastseq.text.wordpiece import WordPiece
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.rows import RowBatch, RowReader

PASSAGES, LISTS = ("query", "passage"), ("query", "positive")  # columns that are not named
NEGATIVES = "negatives"


class RankTask(ScoreTask):
    """The training of a model that ranks."""

    def _validate(self) -> dict[str, float] | None:
        return None if self.valid is None else measured(self.learned, [self.valid])


class BertReranker(BertNumberModel):
    """Relevance of texts to queries by fine-tuning BERT as a cross-encoder, which reads both
    together (Nogueira and Cho 2019, "Passage Re-ranking with BERT").

    With labels from 0 to 1 it is trained by the binary cross-entropy; with lists of negatives, by
    the softmax over the texts of a query. Predictions are the logarithms of the odds that a text is
    relevant.

    Attributes
    ----------
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert reranker"
    estimator_type: ClassVar[str | None] = None
    task: ClassVar[type[BertTask]] = RankTask
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "accuracy": True}

    pooling: Any = declared_by(BertTextModel, "pooling")

    # ---- prediction and evaluation

    def score_texts(self, query: str, texts: Sequence[str]) -> Float32:
        """float32[D]: the score of each text, as `Hits.rerank` takes it."""
        pairs = [(query, text) for text in texts]
        return self.predict(pairs) if pairs else np.zeros(0, np.float32)

    def rank(
        self, query: str, texts: Sequence[str], k: int | None = None
    ) -> list[tuple[int, float]]:
        """(number, score) of the k best texts, the best first, ties by number; None for all."""
        if k is not None:
            whole("k", k, 1)
        scores = self.score_texts(query, texts)
        order = np.argsort(-scores, kind="stable")[:k].tolist()
        return [(number, float(scores[number])) for number in order]

    def _numbers(
        self, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Float32]]:
        """The score of each pair of a query and a text: the logarithm of the odds of its relevance.
        Columns to keep are no negatives."""
        learned = self.learned
        for rows in reader.batches():
            part = learned.encoder.encode(replace(rows, kept=None))
            report.add(part.report)
            yield rows, scores_of(learned, part)

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"loss", "accuracy"}; accuracy is the fraction of pairs whose score is above 0 where the
        label is 0.5 or more, and of lists whose positive has the highest score.

        Raises DataError for data that cannot be read, or without a row.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        reader = self._open(examples, y, columns, fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        parts = [texts for _, texts in self._encoded(learned, reader, report)]
        if not any(map(len, parts)):
            raise DataError(f"{reader.sources[0].name}: there are no rows: nothing to measure")
        return measured(learned, parts)

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]

    # ---- reading

    def _open(
        self, examples: Any, y: Any = None, columns: Mapping[str, Any] | None = None, *,
        fields: Fields | None = None, like: RowReader | None = None,
        targets: bool | None = None, **more: Any,
    ) -> RowReader:  # fmt: skip
        from fastseq.store.answers import with_lists
        from fastseq.store.dataset import open_sources
        from fastseq.store.in_memory import rows_of

        named, wanted = dict(columns or {}), targets is not False
        label, given = named.pop("label", None), tuple(named.get("text") or ())
        names = given or (PASSAGES if fields is None else fields.text)
        examples, y = rows_with_columns(rows_of(examples), y, names, label or LABEL)
        if fields is None or (wanted and label is None):
            data = open_sources(examples, names)
            if not given and fields is None and names[1] not in data.types:
                names = LISTS if LISTS[1] in data.types else names
            if label is None:
                known: tuple[str, ...]
                known = (LABEL, "score", NEGATIVES) if names != LISTS else (NEGATIVES,)
                if fields is not None:
                    known = (*fields.values, *fields.keep)
                label = next((name for name in known if name in data.types), known[0])
        if len(names) != 2:
            raise SettingsError(
                f"text_column is {names!r}; expected the columns of queries and texts"
            )
        is_lists = wanted and label in (() if fields is None else fields.keep)
        is_lists |= wanted and fields is None and label == NEGATIVES
        named |= {"text": names, "values": (label,) if wanted and not is_lists else ()}
        reader = super()._open(examples, y, named, fields=fields, like=like, targets=False, **more)
        return with_lists(reader, label) if is_lists else reader

    # ---- construction

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> CandidateEncoder:
        return CandidateEncoder(tokenizer, limit)

    def _network(
        self, config: BertConfig, encoder: BertEncoder, backend: Backend
    ) -> BertRankNetwork:
        return BertRankNetwork(config, 1, self.pooling, self.dropout, backend, self.seed)


def scores_of(learned: BertState, examples: Examples) -> Float32:
    """float32[W]: the score of each candidate."""
    network, firsts = learned.network, examples.words
    assert firsts is not None
    out = np.empty(len(firsts), np.float32)
    for batch, scores in scored(network, examples):
        out[batch.places] = network.backend.get(scores)[:, 0]
    return out


def measured(learned: BertState, parts: Sequence[Examples]) -> dict[str, float]:
    """The measures of BertReranker.evaluate, of examples with scores or negatives."""
    loss = right = count = 0.0
    network = learned.network
    for part in parts:
        for batch, scores in scored(network, part):
            loss += float(network.loss(scores, batch, False)[0]) * len(batch)
            found = network.backend.get(scores)[:, 0]
            if batch.scores is not None:
                right += float(((found > 0) == (batch.scores >= 0.5)).sum())
            else:
                assert batch.words is not None
                starts = np.searchsorted(batch.words, batch.offsets[:-1])
                right += float((found[starts] >= np.maximum.reduceat(found, starts)).sum())
            count += len(batch)
    return {"loss": loss / count, "accuracy": right / count}
