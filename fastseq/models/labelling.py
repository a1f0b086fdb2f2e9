"""What a classifier and a tagger do alike: read labelled text, build a network, keep both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from fastseq.errors import FormatError
from fastseq.models.data.characters import CharTable
from fastseq.models.data.examples import Encoder
from fastseq.models.data.labels import Labels
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.predicting import RowPredictor
from fastseq.models.scoring import N, ScoringState, ScoringTask
from fastseq.models.textual import TextModel, restored_vocabulary, texts_of, vocabulary_file
from fastseq.nn.backend import Backend
from fastseq.settings import parse_size

_CHARACTERS = "characters.parquet"


class LabellingModel(TextModel[ScoringState[N]], RowPredictor):
    """A model of text whose network gives scores for labels; settings are those of TextModel."""

    @abstractmethod
    def _reading(self) -> dict[str, Any]:
        """What Encoder.learn takes of the settings that not all such models have."""

    @abstractmethod
    def _network(self, encoder: Encoder, size: int, backend: Backend) -> N:
        """The network for what was read; `size` is that of the units' vectors."""

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> ScoringTask[N]:
        reader = self._open(examples, y, columns)
        memory = parse_size(self.memory)
        encoder, train = Encoder.learn(
            reader,
            self._units(),
            min_count=self.min_count,
            max_size=self.max_vocabulary,
            memory=memory,
            **self._reading(),
        )
        held_out = None
        if valid is not None:
            held_out = encoder.read(self._open_valid(valid, columns, reader), memory)
        vectors = self._vectors(encoder.vocabulary, backend.team)
        size = self.embedding if vectors is None else vectors[1].shape[1]
        assert size is not None
        network = self._network(encoder, size, backend)
        if vectors is not None:
            self._place(network.embedding, vectors)
        learned = ScoringState(network, reader.fields, encoder)
        return ScoringTask(learned, train, held_out, self.batch_size, self.seed)

    def _statistics(self, learned: ScoringState[N]) -> dict[str, Any]:
        size = learned.network.embedding.size
        return {**_statistics_of(learned.encoder), "embedding": size}

    def _files(self, learned: ScoringState[N]) -> dict[str, Content]:
        return _files_of(learned.encoder)

    def _restored(self, folder: ModelFolder, backend: Backend) -> ScoringState[N]:
        from fastseq.store.columns import Fields

        encoder = _restored_encoder(folder)
        network = self._network(encoder, folder.statistics["embedding"], backend)
        return ScoringState(network, Fields.from_dict(folder.statistics["fields"]), encoder)


def _files_of(encoder: Encoder) -> dict[str, Content]:
    """The files of an encoder."""
    files = vocabulary_file(encoder.vocabulary)
    if encoder.chars is not None:
        files[_CHARACTERS] = {"unit": encoder.chars.to_texts().to_strings()}
    return files


def _statistics_of(encoder: Encoder) -> dict[str, Any]:
    """The rest of an encoder, as JSON."""
    return {
        "vocabulary": encoder.vocabulary.to_dict(),
        "labels": None if encoder.labels is None else encoder.labels.to_dict(),
        "characters": None if encoder.chars is None else encoder.chars.to_dict(),
        "max_length": encoder.max_length,
    }


def _restored_encoder(folder: ModelFolder) -> Encoder:
    """The encoder of `_files_of` and `_statistics_of`. Raises FormatError, KeyError or
    TypeError for a damaged one."""
    saved = folder.statistics
    chars: CharTable | None = None
    if saved["characters"] is not None:
        chars = CharTable.from_texts(texts_of(folder, _CHARACTERS), saved["characters"])
    labels = None if saved["labels"] is None else Labels.from_dict(saved["labels"])
    if labels is not None and len(labels) < 2:
        raise FormatError(f"{len(labels)} labels, expected at least 2")
    vocabulary = restored_vocabulary(folder, saved["vocabulary"])
    return Encoder(vocabulary, labels, chars, saved["max_length"])
