"""MaskedLanguageModel: the words that fit the masks of a text.

model = MaskedLanguageModel.load("bert-base-uncased")
model.fill("the cat sat on the [MASK] .", k=3)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastseq.errors import DataError, FormatError, quoted
from fastseq.models.bert.checkpoint import check_tokenizer, is_checkpoint, read_checkpoint
from fastseq.models.bert.pretraining import BertPretrainer
from fastseq.models.bert.pretraining_network import PretrainingNetwork, has_head
from fastseq.models.folder import read_model
from fastseq.nn.backend import Backend
from fastseq.nn.losses import softmax
from fastseq.settings import thread_count, whole
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team


class Word(NamedTuple):
    """A word for a mask, and its probability."""

    word: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class MaskedLanguageModel:
    """A network with a head for masked words, and its tokenizer."""

    network: PretrainingNetwork
    tokenizer: WordPiece

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> MaskedLanguageModel:
        """Load a checkpoint in Hugging Face's format that has the head (BertForMaskedLM or
        BertForPreTraining), or a model of BertPretrainer.

        Raises DataError or FormatError for a folder that is neither, or is damaged.
        """
        if not is_checkpoint(path):
            folder = read_model(path)
            if folder.model != BertPretrainer.kind:
                raise FormatError(
                    f"{path}: holds a {folder.model}, which has no head for masked words"
                )
            return cls.of(BertPretrainer.from_folder(folder, threads, "cpu"))
        checkpoint, tokenizer = read_checkpoint(path), read_tokenizer(path)
        check_tokenizer(tokenizer, checkpoint.config, path)
        if not has_head(checkpoint.others):
            raise FormatError(
                f"{path}: an encoder without a head for masked words (cls.predictions)"
            )
        network = PretrainingNetwork(
            checkpoint.config, 0.0, Backend(Team(thread_count(threads))), 0
        )
        network.load(checkpoint)
        return cls(network, tokenizer)

    @classmethod
    def of(cls, model: BertPretrainer) -> MaskedLanguageModel:
        """Of a fitted model."""
        return cls(model.learned.network, model.learned.tokenizer)

    def fill(self, text: str, k: int = 5) -> list[list[Word]]:
        """The k most probable words for each mask of a text, in descending order.

        The mask is written as the tokenizer has it, [MASK]; each has its own words, given the
        text with all of them masked.

        Raises DataError for a text without a mask, or with more tokens than there are positions.
        """
        whole("k", k, 1)
        mask = self.tokenizer.specials.mask
        number = self.tokenizer.id_of(mask)
        found = self.tokenizer.encode_pairs([text])
        places = np.flatnonzero(found.ids == (-1 if number is None else number))
        if not len(places):
            raise DataError(f"the text has no {mask}: {quoted(text)}")
        positions = self.network.embeddings.positions.words
        if len(found.ids) > positions:
            raise DataError(
                f"the text has {len(found.ids):,} tokens, but the model {positions} positions"
            )
        rows = self.network.rows(found.ids, None, found.offsets)[places]
        probabilities = softmax(self.network.words.forward(rows), self.network.backend.team)
        if not np.isfinite(probabilities).all():
            raise DataError("the weights of the model give probabilities that are not finite")
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return [
            [
                Word(word, float(row[id]))
                for word, id in zip(self.tokenizer.words(ids), ids, strict=True)
            ]
            for ids, row in zip(best, probabilities, strict=True)
        ]
