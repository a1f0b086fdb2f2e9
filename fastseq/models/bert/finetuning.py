"""BertClassifier and BertRegressor: labels or numbers of texts, or of pairs of texts, by a
checkpoint of BERT that is fine-tuned.

model = BertClassifier(base="all-MiniLM-L6-v2", epochs=2)
model.fit("train.parquet", valid="valid.parquet")
model.predict(["How far is it?"])

The recipe is that of Devlin et al. 2019, section 4: AdamW without weight decay of biases and norms,
a linear schedule after a warm-up, gradients clipped to norm 1.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import DataError, DeviceError, FormatError, SettingsError
from fastseq.estimator import FRACTION, Choice, Flag, Location, Real, Whole, declared_by, parameter
from fastseq.models.base import training_parameter
from fastseq.models.bert.checkpoint import (
    POOLINGS,
    Sentences,
    check_tokenizer,
    limit_of,
    read_checkpoint,
)
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.examples import BertEncoder, PieceEncoder, TwoTextEncoder
from fastseq.models.bert.network import (
    BertBody,
    BertCosineNetwork,
    BertNetwork,
    BertScorer,
    without_decay,
)
from fastseq.models.bert.rows import LABEL, rows_with_columns
from fastseq.models.bert.split_steps import SplitTask
from fastseq.models.bert.tokenizer_state import (
    restored_tokenizer,
    tokenizer_file,
    tokenizer_statistics,
)
from fastseq.models.bert.writing import CLASSIFICATION, ENCODER, write_checkpoint
from fastseq.models.classifier import NetworkClassifier, SequenceClassifier
from fastseq.models.data.batches import take
from fastseq.models.data.examples import Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.scoring import LabelModel, LabelState, LabelTask, count_malformed, scored
from fastseq.nn.backend import Backend
from fastseq.nn.layer import Parameters
from fastseq.settings import parse_size, thread_count
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.training.checkpoint import fingerprint_of
from fastseq.training.gradient import StepResult, TrainingSettings
from fastseq.types import Float32, Float64, Int64
from fastseq.vectors.evaluation import spearman

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader

PAIR_NAMES = ("a", "b")  # columns of a pair that is not named
_PREPARED = 1024  # examples whose cosines the first predictions are scaled by
_SMALLEST = 1e-6  # deviation of cosines that differ
_WITH_DECAY = ("adam", "adamw")  # optimisers that can leave parameters without weight decay


@dataclass(slots=True, eq=False)
class BertState(LabelState):
    """The fitted state of a fine-tuned model."""

    network: BertBody
    encoder: BertEncoder
    config: BertConfig


class BertTask(SplitTask[BertState], LabelTask[BertState]):
    """The training of a fine-tuned model."""

    def _learn_parts(self, parts: Sequence[Int64], keys: Sequence[int]) -> StepResult:
        network, gradients = self.learned.network, self.parameters.gradients
        mean = weight = 0.0
        units = 0
        for rows, key in zip(parts, keys, strict=True):
            part = self._prepared(rows)
            loss, own = network.loss(network.scores(part, True, key), part, True)
            weight += own
            share = own / weight if weight else 0.0
            mean += share * (float(loss) - mean)
            gradients *= np.float32(1 - share)
            network.scale_gradients(share)
            network.backward()
            units += len(part.values)
        return StepResult(mean, weight, units)

    def fingerprint(self) -> dict[str, Any]:
        """Checksums of the data and, before training, of the weights to start from."""
        found = super().fingerprint()
        for part in (self.train, self.valid):
            if part is not None:
                found["checksums"] += fingerprint_of(part.seconds, part.scores)
                for more in (part.words, part.spans):
                    if more is not None:
                        found["checksums"] += fingerprint_of(more)
        return {**found, "base": fingerprint_of(self.parameters.get(self.parameters.values))}

    def flow(self) -> Float64:
        raise SettingsError("gradient_flow is of recurrent layers: this network has none")


class ScoreTask(BertTask):
    """The training of a model that predicts numbers."""

    def __post_init__(self) -> None:
        valid, self.valid = self.valid, None  # without labels, there is none to be unseen
        super().__post_init__()
        self.valid = valid
        if valid is not None:
            self.learned.reports["validation"] = valid.report

    def _validate(self) -> dict[str, float] | None:
        return None if self.valid is None else measured(self.learned, [self.valid])


class BertModel(LabelModel[BertState]):
    """Parameters, training and saving of fine-tuned models."""

    learning_rates: ClassVar[Mapping[str, float]] = {"adam": 5e-5, "adamw": 5e-5}
    task: ClassVar[type[BertTask]] = BertTask
    base: str | Path | None = parameter(
        default=None, check=Location(), none="required by fit", metavar="CHECKPOINT",
        help="Folder of the checkpoint to start from, in Hugging Face's format.",
    )  # fmt: skip
    max_length: int | None = parameter(
        default=None, check=Whole(4), none="that of the checkpoint",
        help="Truncate texts to this number of tokens, with the special ones.",
    )  # fmt: skip
    dropout: float | None = training_parameter(
        default=None, check=FRACTION, none="those of the checkpoint",
        help="Dropout rate of all layers and of attention.",
    )  # fmt: skip
    warmup_ratio: float = training_parameter(
        default=0.1, check=FRACTION, help="Warm-up of the learning rate, as a share of all steps.",
        notes="Not used where warmup is above 0.",
    )  # fmt: skip
    epochs: int = 3
    optimizer: str = "adamw"
    weight_decay: float = training_parameter(
        default=0.01, check=Real(least=0), help="Weight decay, not of biases and norms.",
    )  # fmt: skip
    schedule: str = "linear"
    clip: float | None = 1.0

    # ---- training

    def _check(self) -> None:
        super()._check()
        if self.base is None:
            raise SettingsError("base must be given: the folder of a checkpoint of BERT")

    @property
    def _has_gpu_network(self) -> bool:
        return False

    def _backend(self) -> Backend:
        if self._has_gpu_network:
            return super()._backend()
        if self.device == "cuda":
            raise DeviceError(f"this {self.kind} has no GPU network: expected device auto or cpu")
        return Backend(Team(thread_count(self.threads)))

    def _training_settings(
        self, checkpoint_seconds: float, parameters: Parameters | None
    ) -> TrainingSettings:
        found = super()._training_settings(checkpoint_seconds, parameters)
        own = dict(found.optimiser_settings)
        if parameters is not None and self.optimizer in _WITH_DECAY:
            own["no_decay"] = without_decay(parameters)
        return dataclasses.replace(
            found, optimiser_settings=own,
            warmup_ratio=0.0 if self.warmup else float(self.warmup_ratio),
        )  # fmt: skip

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> BertTask:
        assert self.base is not None  # checked
        checkpoint, tokenizer = read_checkpoint(self.base), read_tokenizer(self.base)
        config = checkpoint.config
        check_tokenizer(tokenizer, config, self.base)
        blank = self._encoder(tokenizer, limit_of(checkpoint, self.max_length), None)
        if blank.pairs and config.types < 2:
            raise FormatError(f"{self.base}: has no token type of second texts, which pairs need")
        reader = self._open(examples, y, columns)
        memory = parse_size(self.memory)
        encoder, train = blank.learn(reader, backend.team, memory)
        held_out: Examples | None = None
        if valid is not None:
            valid_reader = self._open_valid(valid, columns, reader)
            held_out = encoder.read(valid_reader, backend.team, memory)
            if held_out.targets is not None:
                held_out.check_known(valid_reader.sources[0].name)
        network = self._network(config, encoder, backend)
        network.load(checkpoint)
        learned = BertState(network, reader.fields, encoder, config)
        self._prepare(learned, train)
        self._set_scheme(learned, train)
        count_malformed(learned, train, reader.data.where, train.report)
        if held_out is not None:
            count_malformed(learned, held_out, valid_reader.data.where, held_out.report)
        return self.task(learned, train, held_out, self.batch_size, self.seed)

    def _prepare(self, learned: BertState, train: Examples) -> None:
        """Set what depends on the training data."""

    @abstractmethod
    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> BertEncoder:
        """The encoder of rows; `limit` is the tokens of a sequence."""

    @abstractmethod
    def _network(self, config: BertConfig, encoder: BertEncoder, backend: Backend) -> BertBody:
        """The network for an encoder."""

    def _encoded(
        self, learned: BertState, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Examples]]:
        learned.network.hold()  # fitted weights do not change
        return super()._encoded(learned, reader, report)

    # ---- saving

    def _statistics(self, learned: BertState) -> dict[str, Any]:
        encoder = learned.encoder
        labels = encoder.labels
        return {
            "labels": None if labels is None else labels.to_dict(),
            "config": learned.config.to_dict(),
            "tokenizer": tokenizer_statistics(encoder.tokenizer),
            "max_length": encoder.max_length,
        }

    def _files(self, learned: BertState) -> dict[str, Content]:
        return tokenizer_file(learned.encoder.tokenizer)

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> BertState:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        config = BertConfig.from_dict(saved["config"], "its config")
        tokenizer = restored_tokenizer(folder, saved["tokenizer"])
        check_tokenizer(tokenizer, config, folder.path)
        labels = None if saved["labels"] is None else Labels.from_dict(saved["labels"])
        encoder = self._encoder(tokenizer, int(saved["max_length"]), labels)
        if encoder.max_length > config.positions:
            raise FormatError(f"sequences of {encoder.max_length} tokens exceed the positions")
        network = self._network(config, encoder, backend)
        return BertState(network, Fields.from_dict(saved["fields"]), encoder, config)


class BertNumberModel(BertModel):
    """A fine-tuned model that predicts a number for each text or pair of texts."""

    @abstractmethod
    def _numbers(
        self, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Float32]]:
        """Each batch of rows, counted in the report, and float32[D]: their numbers."""

    def predict(self, examples: Any, *, text_column: str | Sequence[str] | None = None) -> Float32:
        """float32[D], the number of each text or pair of texts. Raises DataError for data that
        cannot be read.

        examples : a list of them, or any data with their columns
        """
        reader, report = self._to_predict(examples, {"text_column": text_column})
        found = [numbers for _, numbers in self._numbers(reader, report)]
        return np.concatenate([np.zeros(0, np.float32), *found])

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        text_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """`id`, the columns to keep and `prediction`, a float32, of every row: Arrow tables, made
        on demand.

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """

        def found(
            reader: RowReader, report: ReadReport
        ) -> Iterator[tuple[RowBatch, dict[str, Float32]]]:
            for rows, numbers in self._numbers(reader, report):
                yield rows, {"prediction": numbers}

        named, outputs = {"text_column": text_column}, {"prediction": "float"}
        return self._predictions(data, named, outputs, found, keep=keep, id=id_column)


class BertTextModel(BertModel):
    """A fine-tuned model with an output for each text or pair of texts."""

    network: ClassVar[type[BertNetwork]] = BertNetwork
    inputs: ClassVar[str] = "text"
    pooling: str = parameter(
        default="mean", check=Choice(POOLINGS),
        help="Pooling of the tokens' vectors; cls is BERT's pooler over [CLS].",
    )  # fmt: skip
    pairs: bool = parameter(
        default=False, check=Flag(), help="Read pairs of texts from two text columns.",
        notes="A pair is the sequence [CLS] a [SEP] b [SEP].",
    )  # fmt: skip

    @property
    def _has_gpu_network(self) -> bool:
        return True

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> BertEncoder:
        return PieceEncoder(tokenizer, limit, self.pairs, labels)

    def _network(self, config: BertConfig, encoder: BertEncoder, backend: Backend) -> BertBody:
        labels = encoder.labels
        return self.network(
            config, 1 if labels is None else len(labels), self.pooling, self.dropout, backend,
            self.seed, self._weights(labels),
        )  # fmt: skip

    def _weights(self, labels: Labels | None) -> Float32 | None:
        """float32[K]: the weight of each label in the loss; None: all 1."""
        return None

    # ---- reading

    def _open(
        self, examples: Any, y: Any = None, columns: Mapping[str, Any] | None = None, *,
        fields: Fields | None = None, like: RowReader | None = None, **more: Any,
    ) -> RowReader:  # fmt: skip
        """`_open` of any model, also of lists of pairs."""
        named, pairs = dict(columns or {}), self._reads_pairs(fields, like)
        if pairs:
            names = fields.text if fields is not None else PAIR_NAMES
            examples, y = rows_with_columns(examples, y, names, self._label_name(fields))
            if "text" in named or fields is None:
                named.setdefault("text", names)
                if isinstance(named["text"], str) or len(named["text"]) != len(names):
                    raise SettingsError(
                        f"text_column is {named['text']!r}; expected the two columns of a pair"
                    )
        reader = super()._open(examples, y, named, fields=fields, like=like, **more)
        if pairs and len(reader.fields.text) != len(PAIR_NAMES):
            raise DataError(f"{reader.sources[0].name}: single texts, expected pairs of texts")
        return reader

    def _reads_pairs(self, fields: Fields | None, like: RowReader | None) -> bool:
        """Whether `_open` gets pairs: a fitted model reads as it was fitted."""
        if fields is None or like is not None:  # of training, or validation
            return self.pairs
        return self.learned.encoder.pairs

    def _label_name(self, fields: Fields | None) -> str:
        return LABEL if fields is None or fields.label is None else fields.label

    # ---- saving

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model as a checkpoint in Hugging Face's format, with the tokenizer.

        With the pooling "cls" it is transformers' BertForSequenceClassification. Other poolings,
        and texts that are read separately, are not part of that: the checkpoint is the encoder with
        the modules of sentence-transformers, and has the last layer as "classifier.weight" and
        ".bias".

        overwrite : replace a checkpoint

        Raises SettingsError for a path that cannot be written or a folder that exists, FastseqError
        where the system refuses.
        """
        learned = self.learned
        network = learned.network
        labels, most = learned.encoder.labels, learned.encoder.max_length
        pooled = not isinstance(network, BertNetwork) or network.pooler is None
        separate = isinstance(network, BertCosineNetwork)
        sentences = Sentences(learned.settings["pooling"], normalize=separate, most=most)
        more = {} if labels is not None else {"problem_type": "regression"}
        write_checkpoint(
            path, ENCODER if pooled else CLASSIFICATION, learned.config,
            network.parameters.views, learned.encoder.tokenizer,
            sentences=sentences if pooled else None, max_length=most,
            labels=["LABEL_0"] if labels is None else list(map(str, labels.values)),
            settings=more, overwrite=overwrite,
        )  # fmt: skip


class BertClassifier(BertTextModel, NetworkClassifier[BertState]):
    """Text classification by fine-tuning BERT: a label for each text or pair of texts.

    Attributes
    ----------
    classes_ : array[K], the labels in ascending order, of their own type
    history_, report_, n_parameters_
    confusion_ : of the last `evaluate`
    """

    kind: ClassVar[str] = "bert classifier"

    class_weights: Any = declared_by(SequenceClassifier, "class_weights")

    def _weights(self, labels: Labels | None) -> Float32 | None:
        assert labels is not None
        return labels.weights(self.class_weights)


class BertRegressor(BertTextModel, BertNumberModel):
    """Regression by fine-tuning BERT: a number for each text or pair of texts, trained by the
    squared error.

    With `separate`, each text of a pair is a sequence of its own, and the number a linear function
    of the cosine of their vectors (Reimers and Gurevych 2019, "Sentence-BERT", section 3): for
    similarities, which a checkpoint that makes vectors knows something of. `export` then writes
    that encoder.

    Attributes
    ----------
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert regressor"
    estimator_type: ClassVar[str | None] = "regressor"
    task: ClassVar[type[BertTask]] = ScoreTask
    network: ClassVar[type[BertNetwork]] = BertScorer
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "values"}
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "spearman": True, "pearson": True}
    largest_loss: ClassVar[float | None] = None

    separate: bool = parameter(
        default=False, check=Flag(),
        help="Read pairs of texts, and predict by the cosine of the vectors of each two.",
    )  # fmt: skip

    @property
    def _has_gpu_network(self) -> bool:
        return not self.separate

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> BertEncoder:
        if self.separate:
            return TwoTextEncoder(tokenizer, limit)
        return super()._encoder(tokenizer, limit, labels)

    def _network(self, config: BertConfig, encoder: BertEncoder, backend: Backend) -> BertBody:
        if self.separate:
            return BertCosineNetwork(config, self.pooling, self.dropout, backend, self.seed)
        return super()._network(config, encoder, backend)

    def _reads_pairs(self, fields: Fields | None, like: RowReader | None) -> bool:
        if fields is None or like is not None:
            return self.pairs or self.separate
        return isinstance(self.learned.encoder, TwoTextEncoder) or self.learned.encoder.pairs

    def _numbers(
        self, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Float32]]:
        learned = self.learned
        for rows, texts in self._encoded(learned, reader, report):
            yield rows, predicted(learned, texts)

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"pearson" and "spearman", the correlations of predictions and true numbers, "r2", the
        coefficient of determination, and "loss", the mean squared error}; correlations are NaN
        where either has no two different values.

        Raises DataError for data that cannot be read, or without a row.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        reader = self._open(examples, y, columns, fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        found = measured(learned, (texts for _, texts in self._encoded(learned, reader, report)))
        if found is None:
            raise DataError(f"{reader.sources[0].name}: there are no rows: nothing to measure")
        return found

    def score(self, examples: Any, y: Any = None) -> float:
        """The coefficient of determination, R². Raises as `evaluate`."""
        return self.evaluate(examples, y)["r2"]

    def _prepare(self, learned: BertState, train: Examples) -> None:
        """The predictions begin at the mean of the numbers, and those by cosines with their
        deviation, which small steps would take long to reach."""
        assert train.scores is not None
        network, scores = learned.network, train.scores.astype(np.float64)
        mean, output = scores.mean(), network.output
        if isinstance(network, BertCosineNetwork):
            count = min(len(train), _PREPARED)
            some = np.arange(count) * len(train) // count
            cosines = network.cosines(take(train, some))
            scale = scores[some].std() / max(cosines.std(), _SMALLEST)
            if (scores[some] - mean) @ cosines < 0:
                scale = -scale
            output.values["weight"][...] = scale
            mean -= scale * cosines.mean()
        output.values["bias"][...] = mean
        output.push()

    def _open(
        self, examples: Any, y: Any = None, columns: Mapping[str, Any] | None = None, *,
        fields: Fields | None = None, like: RowReader | None = None,
        targets: bool | None = None, **more: Any,
    ) -> RowReader:  # fmt: skip
        named, wanted = dict(columns or {}), targets is None or targets
        if y is not None and not self._reads_pairs(fields, like):
            names = fields.text if fields is not None else ("text",)
            examples, y = rows_with_columns(examples, y, names, self._label_name(fields))
        known = () if fields is None else fields.values
        named["values"] = named.get("values") or known or (LABEL,) if wanted else ()
        more |= {"fields": fields, "like": like, "targets": False}
        return super()._open(examples, y, named, **more)

    def _label_name(self, fields: Fields | None) -> str:
        return LABEL if fields is None or not fields.values else fields.values[0]


# ---- predicted numbers


def predicted(learned: BertState, texts: Examples) -> Float32:
    """float32[D] of examples whose rows are 0 to D - 1."""
    network = learned.network
    out = np.empty(len(texts), np.float32)
    for batch, scores in scored(network, texts):
        out[batch.rows] = network.backend.get(scores)[:, 0]
    return out


def measured(learned: BertState, parts: Iterable[Examples]) -> dict[str, float] | None:
    """The measures of BertRegressor.evaluate, of examples with numbers; None of none. Only the
    numbers of each part are held."""
    both = [np.zeros((2, 0))]
    for part in parts:
        assert part.scores is not None or not len(part)
        if part.scores is not None:
            both.append(np.stack([predicted(learned, part), part.scores]).astype(np.float64))
    found, wanted = np.concatenate(both, axis=1)
    if not len(found):
        return None
    errors = np.square(found - wanted)
    spread = np.square(wanted - wanted.mean()).sum()
    return {
        "pearson": _pearson(found, wanted),
        "spearman": spearman(found, wanted),
        "r2": float(1 - errors.sum() / spread) if spread else float("nan"),
        "loss": float(errors.mean()),
    }


def _pearson(x: Float64, y: Float64) -> float:
    """Pearson's correlation; NaN if either has no two different values."""
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale else float("nan")
