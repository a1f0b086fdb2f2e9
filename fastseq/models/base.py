"""Common bases of all models: parameters, saving and loading, reading of rows, prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.estimator import SEED, THREADS, BaseEstimator, Flag, Instance, Size, Whole, parameter
from fastseq.models.data.examples import ReadReport
from fastseq.models.folder import Content, ModelFolder, ModelWriter, read_model
from fastseq.settings import thread_count
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import FEATURES_TOKENIZER
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader

training_parameter = partial(parameter, section="Training")
SKIP_BAD_LINES = parameter(
    default=False, check=Flag(), run=True,
    help="Skip damaged lines of the file of vectors to start from.",
)  # fmt: skip

# Any state with `settings` (of the manifest), `fields`, `reports` and `history`.
S = TypeVar("S", bound=Any)


class ModelParameters(BaseEstimator[S]):
    """Parameters of every model."""

    seed: int = training_parameter(default=0, check=SEED, help="Random seed.")
    threads: int | None = parameter(
        default=None, check=THREADS, help="Number of threads.", none="all cores", run=True
    )
    memory: str | int = training_parameter(
        default="1GB", check=Size(), run=True, metavar="SIZE",
        help="Working memory for the data, such as 256MB.", notes="More goes to temporary files.",
    )  # fmt: skip


class WordParameters(ModelParameters[S]):
    """Parameters of models with a vector for each word."""

    dimensions: int = parameter(default=100, check=Whole(1, 1 << 16), help="Embedding dimensions.")
    min_count: int = parameter(
        default=5, check=Whole(1), help="Minimum occurrences of a word in the vocabulary."
    )
    epochs: int = training_parameter(
        default=5, check=Whole(1), help="Passes over the training data."
    )
    analyzer: Analyzer | None = parameter(
        default=None, check=Instance(Analyzer), help="Analyzer that splits text into words.",
        none=f"Analyzer(tokenizer={FEATURES_TOKENIZER!r})",
    )  # fmt: skip
    skip_bad_lines: bool = SKIP_BAD_LINES

    def _analyzer(self) -> Analyzer:
        return (self.analyzer or Analyzer()).resolved(FEATURES_TOKENIZER)

    def settings(self) -> dict[str, Any]:
        found = super().settings()
        return found if self.analyzer is None else {**found, "analyzer": self._analyzer().to_dict()}


class SubwordParameters(WordParameters[S]):
    """Parameters of models with vectors of character n-grams too."""

    min_n: int = parameter(
        default=3, check=Whole(0), help="Minimum character n-gram length.", aliases=("low",),
        notes='"<" and ">" around a word count.',
    )  # fmt: skip
    max_n: int = parameter(
        default=6, check=Whole(0), help="Maximum character n-gram length; 0 for no n-grams.",
        aliases=("high",),
    )  # fmt: skip
    buckets: int = parameter(
        default=2_000_000, check=Whole(1), help="Hash buckets for n-grams.",
        notes="Only those in use take memory.",
    )  # fmt: skip


class SavableModel(ModelParameters[S], ABC):
    """A model of rows that `save` writes and `load` reads. Its fitted state has the settings it was
    fitted with, so that neither saving nor prediction depends on a later `set_params`, except for
    parameters of a single run."""

    kind: ClassVar[str]  # the model's name on disk
    inputs: ClassVar[str]  # what open_rows reads: "text", "tokens" or "values"
    columns: ClassVar[Mapping[str, str]]  # {argument of fit: its name in open_rows}
    supervised: ClassVar[bool] = True  # whether there are targets besides the inputs

    # ---- fitted state

    @property
    def report_(self) -> dict[str, ReadReport]:
        """Counts of what was read, under "training", "validation", and "data" for what was
        evaluated or predicted last."""
        reports: dict[str, ReadReport] = self.learned.reports
        return reports

    # ---- saving

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all.

        Raises SettingsError where the folder is taken, FastseqError where the system refuses.
        """
        learned = self.learned
        with ModelWriter(path, overwrite) as writer:
            writer.commit(self.kind, *self._content(learned))

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, device: str = "auto") -> Self:
        """Load what `save`, or `fit` with a path, wrote.

        Raises FormatError for a folder that is damaged, of another version, or of another kind,
        DeviceError for a device that is not available.
        """
        folder = read_model(path)
        if folder.model != cls.kind:
            raise FormatError(f"{path}: holds a {folder.model}, expected a {cls.kind}")
        return cls.from_folder(folder, threads, device)

    @classmethod
    def from_folder(cls, folder: ModelFolder, threads: int | None, device: str) -> Self:
        """The model of a folder of its kind that was read; raises as `load`."""
        thread_count(threads)
        run = {"threads": threads, **cls._on(device)}
        try:
            model = cls.from_settings(folder.settings, **run)
            model.check()
            state = model._restored(folder)
        except (SettingsError, FormatError) as error:
            raise FormatError(f"{folder.path}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(
                f"{folder.path}: its settings and statistics are not consistent: {error!r}"
            ) from error
        state.settings = model.settings()
        model._learned = state
        return model

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the parameters and, if fitted, the files of `save`."""
        files: dict[str, bytes] = {}
        if self._learned is not None:
            with TemporaryDirectory() as place:
                self.save(place)
                paths = [path for path in Path(place).rglob("*") if path.is_file()]
                files = {str(path.relative_to(place)): path.read_bytes() for path in paths}
        return {"settings": self.get_params(), "files": files}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        if state["files"]:
            with TemporaryDirectory() as place:
                for name, content in state["files"].items():
                    path = Path(place) / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(content)
                device = state["settings"].get("device", "auto")
                self._learned = type(self).load(place, self.threads, device)._learned

    @abstractmethod
    def _content(
        self, learned: S
    ) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Float32], dict[str, Content]]:
        """Settings, statistics, weights and files, for ModelWriter.commit."""

    @abstractmethod
    def _restored(self, folder: ModelFolder) -> S:
        """The fitted state of `_content`. Raises FormatError, KeyError, TypeError, ValueError or
        IndexError for damaged content."""

    @classmethod
    @abstractmethod
    def _on(cls, device: str) -> dict[str, Any]:
        """The parameters of a model that computes on a device. Raises SettingsError for an unknown
        name, DeviceError for a device that is not available."""

    # ---- reading

    def _open(
        self,
        examples: Any,
        y: Any = None,
        columns: Mapping[str, Any] | None = None,
        *,
        fields: Fields | None = None,
        like: RowReader | None = None,
        targets: bool | None = None,
        **more: Any,
    ) -> RowReader:
        """Open examples of any form.

        columns  those named by the caller, from `_named_columns`
        fields   those of training, for all that is not named; not for lists, which have no names
        like     rows whose type of labels is expected
        targets  whether they are read; None: if the model has some
        more     outputs, keep and id, for open_rows
        """
        from fastseq.store.in_memory import as_source, rows_of
        from fastseq.store.rows import open_rows

        examples = rows_of(examples)
        wanted = self.supervised if targets is None else targets
        source = as_source(examples, y, self.inputs)
        named = dict(columns or {})
        if fields is not None and source is examples:
            roles = set(self.columns.values()) - (set() if wanted else {"label", "tags"})
            named = {role: getattr(fields, role) for role in roles} | named
        more.setdefault("outputs", False)
        return open_rows(source, self.inputs, like=like, targets=wanted, **named, **more)

    def _open_valid(self, valid: Any, columns: Mapping[str, Any], like: RowReader) -> RowReader:
        """The rows to validate on, with the columns of training."""
        y = None
        if self.supervised and isinstance(valid, tuple) and len(valid) == 2:
            valid, y = valid
        return self._open(valid, y, columns, fields=like.fields, like=like)

    def _named_columns(self, **named: Any) -> dict[str, Any]:
        """The columns that were named, under their names in open_rows."""
        found = {}
        for name, value in named.items():
            if value is None:
                continue
            if name not in self.columns:
                raise SettingsError(
                    f"a {self.kind} has no {name}; expected {' and '.join(self.columns)}"
                )
            found[self.columns[name]] = value
        return found


class RowPredictor(SavableModel[S]):
    """A model with a prediction for every row."""

    @abstractmethod
    def predict_batches(self, *data: Any, **how: Any) -> Predictions:
        """Arrow tables with a prediction for every row, made on demand."""

    def predict_file(
        self, data: Any, out: str | Path, *, overwrite: bool = False, **how: Any
    ) -> int:
        """Write what `predict_batches` returns for the same arguments to Parquet, a batch at a
        time; returns the number of rows.

        overwrite : replace an existing file that is not known to be predictions of fastseq

        Raises as `predict_batches`, and FastseqError where the system refuses to write.
        """
        return self.predict_batches(data, **how).write(out, overwrite=overwrite)

    def _to_predict(
        self, data: Any, columns: Mapping[str, Any], **outputs: Any
    ) -> tuple[RowReader, ReadReport]:
        """The rows to predict, and the report of reading them.

        columns  those named, by argument
        outputs  keep and id, if the rows are written
        """
        learned, named = self.learned, self._named_columns(**columns)
        if outputs:
            outputs["outputs"] = True
        reader = self._open(data, None, named, fields=learned.fields, targets=False, **outputs)
        report = learned.reports["data"] = ReadReport()
        return reader, report

    def _predictions(
        self,
        data: Any,
        columns: Mapping[str, Any],
        outputs: Mapping[str, str],
        predicted: Callable[[RowReader, ReadReport], Iterator[tuple[RowBatch, Mapping[str, Any]]]],
        **written: Any,
    ) -> Predictions:
        """What `predict_batches` returns.

        columns    those named, by argument
        outputs    the type of each predicted column
        predicted  yields each batch of the reader with these columns, counted in the report
        written    keep and id
        """
        from fastseq.store.predictions import Predictions

        reader, report = self._to_predict(data, columns, **written)
        return Predictions(reader, outputs, predicted(reader, report))


class TextClassifier(RowPredictor[S]):
    """A model that predicts a label for each text, with the probabilities of all labels."""

    estimator_type: ClassVar[str | None] = "classifier"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}

    @abstractmethod
    def _encoded(
        self, learned: S, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Any]]:
        """Each batch of rows and its encoded texts, counted in `report`."""

    @abstractmethod
    def _probabilities(self, learned: S, texts: Any) -> Float32:
        """float32[D, K], of texts from `_encoded`."""

    @abstractmethod
    def evaluate(self, examples: Any, y: Any = None) -> dict[str, float]:
        """Measures on texts with known labels, "accuracy" among them."""

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """array[K], the labels in ascending order, of their own type."""
        labels = self.learned.labels
        return np.array(labels.values, None if labels.type == "string" else labels.type)

    def predict(self, examples: Any, *, text_column: str | Sequence[str] | None = None) -> Any:
        """array[D], the most probable label of each text, of the labels' own type.

        Raises DataError for data that cannot be read.
        """
        return self.classes_[np.argmax(self.predict_proba(examples, text_column=text_column), 1)]

    def predict_proba(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> Float32:
        """float32[D, K], the probability of each of `classes_` for each text."""
        learned = self.learned
        reader, report = self._to_predict(examples, {"text_column": text_column})
        parts = [np.zeros((0, len(learned.labels)), np.float32)]
        for _, texts in self._encoded(learned, reader, report):
            parts.append(self._probabilities(learned, texts))
        return np.concatenate(parts)

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        text_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
        probabilities: bool = False,
    ) -> Predictions:
        """`id`, the columns to keep, `prediction` and its `probability` of every row: Arrow tables,
        made on demand.

        Parameters
        ----------
        probabilities : add a column `probabilities` with those of all of `classes_`

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """
        learned = self.learned
        labels = learned.labels
        outputs = {"prediction": labels.type, "probability": "float"}
        if probabilities:
            outputs["probabilities"] = "list<float>"

        def predicted(
            reader: RowReader, report: ReadReport
        ) -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for rows, texts in self._encoded(learned, reader, report):
                found = self._probabilities(learned, texts)
                best = np.argmax(found, 1)
                columns = {
                    "prediction": labels.decode(best),
                    "probability": found[np.arange(len(best)), best],
                    "probabilities": found,
                }
                yield rows, {name: columns[name] for name in outputs}

        named = {"text_column": text_column}
        return self._predictions(data, named, outputs, predicted, keep=keep, id=id_column)

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]
