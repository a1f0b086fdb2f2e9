"""SequenceTagger: a tag for each token.

model = SequenceTagger(bidirectional=True, chars=True)
model.fit([["a", "dog", "barks"]], [["DET", "NOUN", "VERB"]])
model.predict([["the", "dog"]])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import Choice, Flag, Whole, parameter
from fastseq.models.data.examples import Encoder, Examples, ReadReport
from fastseq.models.folder import ModelFolder
from fastseq.models.metrics import (
    AUTO,
    NONE,
    SCHEMES,
    SchemeTags,
    SpanScore,
    TagScheme,
    checked_scheme,
    is_bio,
)
from fastseq.models.scoring import (
    LS,
    CharacterWords,
    LabelModel,
    ScoringModel,
    ScoringNetwork,
    ScoringState,
    scored,
)
from fastseq.nn.backend import Backend
from fastseq.nn.crf import bio_constraints
from fastseq.seeds import mixed_key
from fastseq.settings import one_of
from fastseq.types import offsets_of

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions, TagLists
    from fastseq.store.rows import RowBatch, RowReader


class _TagScheme(Choice):
    """The name of a tag scheme, in any case."""

    def __call__(self, name: str, value: Any) -> Any:
        return checked_scheme(value)


class NetworkTagger(LabelModel[LS]):
    """A tagger with a network."""

    estimator_type: ClassVar[str | None] = None  # scikit-learn has none for taggers
    inputs: ClassVar[str] = "tokens"
    columns: ClassVar[Mapping[str, str]] = {"tokens_column": "tokens", "tags_column": "tags"}
    measures: ClassVar[Mapping[str, bool]] = {
        "accuracy": True, "loss": False, "macro_f1": True, "f1": True,
    }  # fmt: skip

    tag_scheme: str = parameter(
        default=AUTO, check=_TagScheme((AUTO, *SCHEMES)),
        help="Encoding of spans by the tags; auto detects it from all training tags.",
        notes="See models.metrics.",
    )  # fmt: skip

    # ---- fitted state

    @property
    def classes_(self) -> np.ndarray[Any, np.dtype[np.str_]]:
        """str[K], the tags in ascending order."""
        return np.array(self.learned.labels.values, np.str_)

    @property
    def tag_scheme_(self) -> str:
        """How tags encode spans: "IOB2", …; "none" if they do not."""
        return NONE if self.learned.scheme is None else self.learned.scheme.name

    # ---- prediction and evaluation

    def predict(self, examples: Any, *, tokens_column: str | None = None) -> list[list[str]]:
        """The tags of each row, one for each token. Raises DataError for data that cannot be
        read."""
        found: list[list[str]] = []
        named = {"tokens_column": tokens_column}
        for _, tags in self._predicted(*self._to_predict(examples, named)):
            every = tags.tags.to_list()
            found += [every[a:b] for a, b in pairwise(tags.offsets.tolist())]
        return found

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        tokens_column: str | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """`id`, the columns to keep and `prediction`, the list of its tags, of every row: Arrow
        tables, made on demand.

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """

        def found(
            reader: RowReader, report: ReadReport
        ) -> Iterator[tuple[RowBatch, dict[str, TagLists]]]:
            for rows, tags in self._predicted(reader, report):
                yield rows, {"prediction": tags}

        named, outputs = {"tokens_column": tokens_column}, {"prediction": "list<string>"}
        return self._predictions(data, named, outputs, found, keep=keep, id=id_column)

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        tokens_column: str | None = None,
        tags_column: str | None = None,
    ) -> dict[str, float]:
        """{"accuracy" and "macro_f1" over tokens, "loss" in nats per token, "unknown_rate" of the
        tokens}, and if tags encode spans their micro-averaged "precision", "recall" and "f1" as
        conlleval counts them and "strict_precision", "strict_recall" and "strict_f1" as seqeval
        does in strict mode; `span_scores_` and `strict_span_scores_` have those of each type.

        A tag unseen in training counts as wrong, and not in the loss.

        Raises DataError for data that cannot be read, or whose tags are all unseen.
        """
        columns = {"tokens_column": tokens_column, "tags_column": tags_column}
        measures, evaluation = self._evaluate(examples, y, **columns)
        spans = evaluation.spans
        self.span_scores_: dict[str, SpanScore] = {} if spans is None else spans.by_type()
        self.strict_span_scores_ = {} if spans is None else spans.by_type(strict=True)
        return measures

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy over tokens. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]

    def _predicted(
        self, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, TagLists]]:
        """Each batch of rows with the tags of its rows."""
        from fastseq.store.predictions import TagLists

        learned = self.learned
        for rows, part in self._encoded(learned, reader, report):
            count = len(part.values) if part.words is None else len(part.words)
            codes = np.empty(count, np.int32)
            for batch, scores in scored(learned.network, part):
                codes[batch.places] = learned.network.best(scores, batch)
            lengths = np.zeros(rows.rows, np.int64)
            bounds, numbers = part.tagged_rows()
            lengths[numbers] = np.diff(bounds)
            yield rows, TagLists(learned.labels.decode(codes), offsets_of(lengths))

    def _set_scheme(self, learned: LS, train: Examples) -> None:
        """Set the scheme of the training tags."""
        names, targets = learned.names(train.report), train.targets
        assert targets is not None
        if checked_scheme(self.tag_scheme) == AUTO:
            learned.scheme = TagScheme.detect(names, targets, train.tagged_rows()[0])
        else:
            learned.scheme = TagScheme.of(self.tag_scheme, names)
        if learned.scheme is None and self.monitor == "f1":
            raise SettingsError(
                "monitor is 'f1', but the tags encode no spans (tag_scheme none); expected "
                "accuracy, loss or macro_f1"
            )

    def _all_statistics(self, learned: LS) -> dict[str, Any]:
        scheme = NONE if learned.scheme is None else learned.scheme.name
        return {**super()._all_statistics(learned), "tag_scheme": scheme}


class SequenceTagger(ScoringModel, NetworkTagger[ScoringState]):
    """Sequence labelling: a tag for each token of a row.

    Attributes
    ----------
    classes_ : array[K], the tags in ascending order
    tag_scheme_ : how tags encode spans, given or detected
    span_scores_, strict_span_scores_ : {type: SpanScore} of the last `evaluate`
    vocabulary_, history_, report_, gradient_flow_, n_parameters_

    Notes
    -----
    The CRF is trained without the constraints of the scheme: its likelihood is normalised over all
    tag sequences, so a training sequence that violates the scheme has a finite loss and the right
    gradient, while a constrained model gives it probability 0. Prediction is constrained and exact:
    conditioning on being well formed divides the probability of all well-formed sequences by the
    same number.
    """

    kind: ClassVar[str] = "tagger"
    reading: ClassVar[tuple[str, ...]] = ("chars",)

    bidirectional: bool = parameter(
        default=False, check=Flag(), help="Read in both directions.",
        flag="bidirectional/no-bidirectional",
    )  # fmt: skip
    crf: bool = parameter(
        default=False, check=Flag(), help="Conditional random field over the tags.",
        notes="Scores neighbouring tags too and predicts the best sequence that is well formed in "
        "the tag scheme (Lafferty, McCallum, Pereira 2001).",
    )  # fmt: skip
    chars: bool = parameter(
        default=False, check=Flag(), help="Character-level features of each token.",
        notes="The last states of a bidirectional layer over its characters are concatenated with "
        "the token's embedding (Lample et al. 2016).",
    )  # fmt: skip
    char_embedding: int = parameter(
        default=32, check=Whole(1), help="Character embedding dimensions, with chars."
    )
    char_hidden: int = parameter(
        default=32, check=Whole(1), help="Hidden units of the character layer, with chars."
    )
    dropout: float = 0.3

    # ---- construction

    def _check(self) -> None:
        super()._check()
        one_of("unit, where tokens are given,", self.unit, ("word", "space"))

    def _network(self, encoder: Encoder, size: int, backend: Backend) -> ScoringNetwork:
        labels = encoder.labels
        assert labels is not None
        words: CharacterWords | None = None
        if encoder.chars is not None:
            width, seed = self.char_embedding, mixed_key(self.seed, 4)
            table = backend.embedding(len(encoder.chars), width, seed=seed)
            reader = self._recurrent_class(backend)(
                width, self.char_hidden, bidirectional=True, seed=mixed_key(self.seed, 5)
            )
            words = CharacterWords(self.cell, table, reader, backend)
        inputs = size if words is None else size + words.size
        layer = self._recurrent(inputs, self.bidirectional, backend)
        embedding = self._embedding(encoder.vocabulary, size, backend)
        output = backend.dense(layer.output_size, len(labels), seed=mixed_key(self.seed, 3))
        crf = backend.crf(len(labels), mixed_key(self.seed, 6)) if self.crf else None
        return ScoringNetwork(
            self.cell, embedding, layer, output, self.dropout, backend, words=words, crf=crf
        )

    def _set_scheme(self, learned: ScoringState, train: Examples) -> None:
        super()._set_scheme(learned, train)
        if learned.scheme is not None:
            names = learned.names(train.report)
            learned.network.constraints = SchemeTags(learned.scheme, names).constraints()

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> ScoringState:
        learned = super()._rebuilt(folder, backend)
        names, saved = learned.names(ReadReport()), folder.statistics.get("tag_scheme")
        if saved is not None:
            learned.scheme = TagScheme.of(saved, names)
            if learned.scheme is not None:
                learned.network.constraints = SchemeTags(learned.scheme, names).constraints()
        elif is_bio(names):  # of an earlier version, which predicts as it did
            ends = any(name[0] in "ES" for name in names)
            learned.scheme = TagScheme("BIOES" if ends else "IOB2")
            learned.network.constraints = bio_constraints(names)
        return learned
