"""What the models of text share: units, their vocabulary, their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.models.base import SequenceModel
from fastseq.models.data.units import Units
from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.task import L
from fastseq.nn.backend import Backend
from fastseq.nn.embedding import Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.settings import whole
from fastseq.threads import Team
from fastseq.types import Float32, Texts

_VOCABULARY = "vocabulary.parquet"


class TextModel(SequenceModel[L]):
    """What the models of text share.

    Parameters
    ----------
    unit, lowercase : what is read one after the other, as models.units.Units has it
    embedding : size of the units' vectors; with `embeddings` it may be None: that of the file
    embeddings : a file of word vectors to begin with (store/vectors.py says which kinds); all
        scaled by one number, to the spread of random ones, where they are learned further
    freeze_embeddings : leave them as they are
    min_count : units that occur less often are unknown
    max_vocabulary : the most frequent units to keep; None for all

    The others are those of SequenceModel.
    """

    unit: str
    lowercase: bool | None
    embedding: int | None
    embeddings: str | Path | None
    freeze_embeddings: bool
    min_count: int
    max_vocabulary: int | None

    def _check(self) -> None:
        self._units()
        if self.embedding is not None:
            whole("embedding", self.embedding, 1)
        elif self.embeddings is None:
            raise SettingsError("embedding is None: expected a size, or a file of embeddings")
        if self.freeze_embeddings and self.embeddings is None:
            raise SettingsError("freeze_embeddings needs embeddings: vectors drawn by chance")
        whole("min_count", self.min_count, 1)
        if self.max_vocabulary is not None:
            whole("max_vocabulary", self.max_vocabulary, 1)

    def _units(self) -> Units:
        return Units(self.unit, self.lowercase)

    def _frozen(self) -> tuple[str, ...]:
        return ("embedding.weight",) if self.freeze_embeddings else ()

    def _vectors(self, vocabulary: Vocabulary, team: Team) -> tuple[list[int], Float32] | None:
        """The numbers of the units that the file of word vectors has, and their vectors.

        A unit that is not there is looked up in lower case too, as is any other form of a word in
        a file of lower-cased words. Raises DataError for a file that has none of them,
        SettingsError where their size is not `embedding`.
        """
        if self.embeddings is None:
            return None
        from fastseq.vectors.formats import read_word_vectors

        units = vocabulary.texts.to_strings()
        lowered = [unit.lower() for unit in units]
        words, vectors = read_word_vectors(
            self.embeddings, {*units, *lowered}, threads=team.threads, make_unknown=True
        )
        if self.embedding not in (None, vectors.shape[1]):
            raise SettingsError(
                f"{self.embeddings}: vectors of {vectors.shape[1]} numbers, but embedding is "
                f"{self.embedding}; expected the same, or embedding None"
            )
        place = {word: number for number, word in enumerate(words)}
        found = {
            number: place.get(unit, place.get(low, -1))
            for number, (unit, low) in enumerate(zip(units, lowered, strict=True))
        }
        numbers = [number for number, at in found.items() if at >= 0]
        if not numbers:
            raise DataError(
                f"{self.embeddings}: holds none of the {len(units):,} units of the vocabulary"
            )
        return numbers, vectors[[found[number] for number in numbers]]

    def _embedding(self, vocabulary: Vocabulary, size: int, backend: Backend) -> Embedding:
        return backend.embedding(
            len(vocabulary),
            size,
            frozen=self.freeze_embeddings,
            seed=mixed_key(self.seed, 0),
        )

    def _place(self, table: Embedding, vectors: tuple[list[int], Float32]) -> None:
        """Set the rows of the units that have vectors, and give all rows one spread.

        Vectors that stay as they are give theirs to the others. Vectors that are learned further
        are scaled down to that of random ones, small beside what training adds: on SST-2, those of
        Word2Vec (spread 0.23) gave 79.7 % as they came, less than random ones, and 81.9 % scaled.
        """
        rows, found = vectors
        spread = float(found.std())
        if spread > 0 and table.frozen:
            table.parameters()["weight"] *= np.float32(spread / table.scale)
            table.push()
        elif spread > 0:
            found = found * np.float32(table.scale / spread)
        table.load_rows(rows, found)


def kind_of(model: SequenceModel[Any], backend: Backend) -> Callable[..., Recurrent]:
    """What makes recurrent layers of the kind that a model's settings ask for."""
    kind = backend.recurrent[model.cell]
    return partial(kind, nonlinearity=model.nonlinearity) if model.cell == "rnn" else kind


def recurrent(
    model: SequenceModel[Any], inputs: int, bidirectional: bool, backend: Backend
) -> Recurrent:
    """The recurrent layers that a model's settings ask for."""
    return kind_of(model, backend)(
        inputs,
        model.hidden,
        model.layers,
        bidirectional=bidirectional,
        dropout=model.dropout,
        weight_dropout=model.recurrent_dropout,
        seed=mixed_key(model.seed, 1),
    )


# ---- keeping vocabularies


def vocabulary_file(vocabulary: Vocabulary) -> dict[str, Content]:
    """The file of a vocabulary: {name: columns}, none for bytes."""
    if vocabulary.units.unit == "byte":
        return {}
    return {_VOCABULARY: {"unit": vocabulary.to_texts().to_strings()}}


def restored_vocabulary(folder: ModelFolder, saved: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of `vocabulary_file` and Vocabulary.to_dict. Raises FormatError for a
    damaged one."""
    texts = texts_of(folder, _VOCABULARY) if _VOCABULARY in folder.names else None
    return Vocabulary.from_texts(texts, saved)


def texts_of(folder: ModelFolder, name: str) -> Texts:
    """The units of a file that keeps some."""
    return Texts.from_strings(folder.columns(name)["unit"])
