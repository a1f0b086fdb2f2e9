"""BertEmbedder: vectors of texts, by a checkpoint of BERT that is fine-tuned on pairs of texts with
the same meaning (a bi-encoder).

model = BertEmbedder(base="all-MiniLM-L6-v2", epochs=1)
model.fit("pairs.parquet")  # columns a and b, such as a question and its answer
model.export("encoder")     # for fastseq.TextEncoder.load, embed and index --dense
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import Choice, Real, parameter
from fastseq.models.base import training_parameter
from fastseq.models.bert.checkpoint import POOLINGS, SPECIAL, Checkpoint, Sentences
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.encoding import TextEncoder
from fastseq.models.bert.examples import BertEncoder, TwoTextEncoder
from fastseq.models.bert.finetuning import PAIR_NAMES, BertModel, BertState, BertTask, ScoreTask
from fastseq.models.bert.inputs import EncodeReport
from fastseq.models.bert.network import PREFIX, BertEmbeddingNetwork
from fastseq.models.bert.rows import LABEL, rows_with_columns
from fastseq.models.bert.writing import ENCODER, write_checkpoint
from fastseq.models.data.batches import take
from fastseq.models.data.examples import Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.nn.backend import Backend
from fastseq.text.wordpiece import WordPiece
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowReader


class EmbedTask(ScoreTask):
    """The training of a model that makes vectors."""

    @property
    def _splits(self) -> bool:
        """No: the loss of an example depends on the other examples of its batch."""
        return False

    def _validate(self) -> dict[str, float] | None:
        if self.valid is None:
            return None
        return measured(self.learned, self.valid, self.batch_size)


class BertEmbedder(BertModel):
    """Vectors of texts by fine-tuning BERT on pairs of texts (Reimers and Gurevych 2019,
    "Sentence-BERT").

    The loss is the cross-entropy of the cosines of a first text with all second ones of its batch,
    divided by the temperature: a pair's own second text is the right one (Henderson et al. 2017,
    "Efficient Natural Language Response Suggestion", section 4.4). Larger batches are harder.

    Attributes
    ----------
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert embedder"
    estimator_type: ClassVar[str | None] = None
    task: ClassVar[type[BertTask]] = EmbedTask
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text"}
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "accuracy": True}

    pooling: str = parameter(
        default="mean", check=Choice(POOLINGS),
        help="Pooling of the tokens' vectors; cls is the vector of [CLS].",
    )  # fmt: skip
    temperature: float = training_parameter(
        default=0.05, check=Real(above=0),
        help="What cosines are divided by in the loss of vectors.",
    )  # fmt: skip

    def encoder(self) -> TextEncoder:
        """A TextEncoder of the weights as they are. Its digest is not that of the checkpoint which
        `export` writes: to search an index later, build it with the latter."""
        learned = self.learned
        prefix = f"{PREFIX}."
        views = learned.network.parameters.views
        weights = {name.removeprefix(prefix): view for name, view in views.items()}
        checkpoint = Checkpoint(
            Path(self.kind), learned.config, weights, {}, self._sentences(learned), has_folder=False
        )
        tokenizer = learned.encoder.tokenizer
        return TextEncoder(checkpoint, tokenizer, threads=self.threads)

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a checkpoint in Hugging Face's format, with the modules of sentence-transformers.

        overwrite : replace a checkpoint

        Raises SettingsError for a path that cannot be written or a folder that exists, FastseqError
        where the system refuses.
        """
        learned = self.learned
        write_checkpoint(
            path, ENCODER, learned.config, learned.network.parameters.views,
            learned.encoder.tokenizer, sentences=self._sentences(learned),
            max_length=learned.encoder.max_length, overwrite=overwrite,
        )  # fmt: skip

    # of the last prediction, whose state it was of, and what empty texts get
    _predicted: tuple[BertState, EncodeReport, str] | None = None

    @property
    def report_(self) -> dict[str, ReadReport]:
        """As of any model."""
        reports, last = super().report_, self._predicted
        if last is not None and last[0] is self.learned:
            counts = last[1]
            reports["data"] = ReadReport(
                rows=counts.texts, empty=counts.empty, cut=counts.truncated, units=counts.tokens,
                ends=SPECIAL * (counts.texts - counts.empty), filler=last[2],
            )  # fmt: skip
        return reports

    def predict(self, examples: Any) -> Float32:
        """float32[D, H], the unit vector of each text, as `TextEncoder.encode` makes them: of an
        empty text or a null of a column zeros, with a warning, and counted in `report_`."""
        encoder = self.encoder()
        vectors = encoder.encode(examples)
        self._predicted = self.learned, encoder.report, "a vector of zeros"
        return vectors

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        text_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """`id`, the columns to keep and `vector`, of every row: as `TextEncoder.predict_batches`,
        which also has the errors. Of an empty text or a null it is null, counted in `report_`."""
        from fastseq.store.rows import Corpus

        reader = Corpus.open(data, id_column, text_column, keep)
        encoder = self.encoder()
        found = encoder.predict_batches(reader)
        self._predicted = self.learned, encoder.report, "null"  # counted with each batch
        return found

    def evaluate(
        self, examples: Any, y: Any = None, *, text_column: Sequence[str] | None = None
    ) -> dict[str, float]:
        """{"loss", "accuracy"} of pairs, in batches of `batch_size` as they come; accuracy is the
        fraction of first texts that are nearest to their own second text in the batch.

        Raises DataError for data that cannot be read, or without a row.
        """
        learned = self.learned
        reader = self._open(
            examples, y, self._named_columns(text_column=text_column), fields=learned.fields
        )
        found = learned.encoder.read(reader)
        self._predicted = None
        learned.reports["data"] = found.report
        return measured(learned, found, self.batch_size)

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]

    def _open(
        self, examples: Any, y: Any = None, columns: Mapping[str, Any] | None = None, *,
        fields: Fields | None = None, like: RowReader | None = None,
        targets: bool | None = None, **more: Any,
    ) -> RowReader:  # fmt: skip
        named = dict(columns or {})
        names = tuple(named.get("text") or (PAIR_NAMES if fields is None else fields.text))
        if len(names) != len(PAIR_NAMES):
            raise SettingsError(f"text_column is {names!r}; expected the two columns of a pair")
        examples, y = rows_with_columns(examples, y, names, LABEL)
        named["text"] = names
        return super()._open(examples, y, named, fields=fields, like=like, targets=False, **more)

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> TwoTextEncoder:
        return TwoTextEncoder(tokenizer, limit)

    def _network(
        self, config: BertConfig, encoder: BertEncoder, backend: Backend
    ) -> BertEmbeddingNetwork:
        return BertEmbeddingNetwork(
            config, self.pooling, self.temperature, self.dropout, backend, self.seed
        )

    def _sentences(self, learned: BertState) -> Sentences:
        return Sentences(self.pooling, normalize=True, most=learned.encoder.max_length)


def measured(learned: BertState, examples: Examples, size: int) -> dict[str, float]:
    """The measures of BertEmbedder.evaluate, of batches of `size` rows."""
    loss = right = 0.0
    network = learned.network
    assert isinstance(network, BertEmbeddingNetwork)
    with network.held():
        for first in range(0, len(examples), size):
            batch = take(examples, np.arange(first, min(first + size, len(examples))))
            vectors = network.scores(batch)
            loss += float(network.loss(vectors, batch, False)[0]) * len(batch)
            right += float((network.cosines(vectors).argmax(1) == np.arange(len(batch))).sum())
    return {"loss": loss / len(examples), "accuracy": right / len(examples)}
