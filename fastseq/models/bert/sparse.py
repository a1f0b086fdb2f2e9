"""Learned-sparse vectors of texts by the masked-word head of a BERT checkpoint (SPLADE).

encoder = SparseEncoder.load("splade-tiny")
encoder.encode("a cat")  # {"cat": 1.9, "kitten": 0.4, …}

The weight of a word is log(1 + relu(s)), s being its largest score over the tokens of the text
(Formal et al. 2021, "SPLADE v2", section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastseq.errors import FormatError, SettingsError, located, warn
from fastseq.models.bert.checkpoint import WEIGHTS, Checkpoint, read_checkpoint, tokenizer_of
from fastseq.models.bert.inference import make_encoder
from fastseq.models.bert.inputs import TRUNCATION, EncodeReport, TextInputs, text_source
from fastseq.models.bert.parameters import WORDS, check_shapes
from fastseq.nn.encoder import Affine, Norm
from fastseq.nn.word_scores import HeadWeights, WordScores
from fastseq.settings import one_of, string, thread_count, whole
from fastseq.text.library_tokenizer import LibraryTokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.types import Categories, Float32, Int32, Int64, Texts, offsets_of

if TYPE_CHECKING:
    from fastseq.store.predictions import Column, Predictions
    from fastseq.store.rows import RowBatch, RowReader

IMPACTS = "impacts"  # the default name of the column
_HEAD = "cls.predictions"
_TRANSFORM, _NORM = f"{_HEAD}.transform.dense", f"{_HEAD}.transform.LayerNorm"
_BIAS, _DECODER = f"{_HEAD}.bias", f"{_HEAD}.decoder"


class _Terms(NamedTuple):
    """The terms of D texts, text d having offsets[d] to offsets[d + 1], of descending weight."""

    ids: Int32
    weights: Float32
    offsets: Int64


class SparseEncoder(TextInputs):
    """Makes learned-sparse vectors of texts with a masked-language model. Made by `load`.

    The same text has the same bits alone, in any batch and on any number of threads.

    Attributes
    ----------
    max_length : tokens of a text with its special ones; a longer one is truncated
    top_terms : the largest weights of a text that are taken; None for all
    prompts, default_prompt : as of TextEncoder
    tokenizer : its pieces are the terms
    report : EncodeReport of the last `encode`
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: WordPiece | LibraryTokenizer,
        *,
        max_length: int | None = None,
        top_terms: int | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(checkpoint, tokenizer, max_length, Team(thread_count(threads)))
        self.top_terms = None if top_terms is None else whole("top_terms", top_terms, 1)
        self._documents = EncodeReport()
        self._words = tuple(tokenizer.words(range(len(tokenizer))))
        named = np.zeros(len(tokenizer), np.bool_)
        named[[*tokenizer.ids]] = True
        self._unnamed = np.flatnonzero(~named)
        config = checkpoint.config
        head = _head(checkpoint, len(tokenizer))
        self._head = WordScores(head, config.epsilon, config.is_tanh, self._team)
        self.network = make_encoder(checkpoint.weights, config, self._team)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        max_length: int | None = None,
        top_terms: int | None = None,
        threads: int | None = None,
    ) -> SparseEncoder:
        """Open a checkpoint in Hugging Face's format that has a masked-word head, with or without
        the modules of sentence-transformers' SparseEncoder.

        Parameters and errors as of `TextEncoder.load`; FormatError, too, for a checkpoint without
        the head, whose missing array is named.

        top_terms : the largest weights of a text that are taken, the first of equal ones by the
            terms' ids; None for all
        """
        checkpoint = read_checkpoint(path)
        return cls(
            checkpoint,
            tokenizer_of(checkpoint),
            max_length=max_length,
            top_terms=top_terms,
            threads=threads,
        )

    def encode(
        self, texts: Any, *, prompt: str | None = None, on_truncate: str = "warn"
    ) -> list[dict[str, float]] | dict[str, float]:
        """{term: weight} of each text, of descending weight; of one string, its dict.

        Index.search takes them as queries, and Index.build(…, impacts=…) as documents. A text
        without a token, as a null of a column is, has no terms, with a warning.

        on_truncate : "split" takes the largest weight of a term in any window; others, parameters
            and errors as of `TextEncoder.encode`
        """
        one_of("on_truncate", on_truncate, TRUNCATION)
        report = self.report = EncodeReport()
        found = self._encoded(texts, self._prompt(prompt), on_truncate, report)
        for message in report.messages(self.max_length, on_truncate == "split"):
            warn(message)
        return found[0] if isinstance(texts, str) else found

    def encode_query(self, texts: Any) -> list[dict[str, float]] | dict[str, float]:
        """`encode` with the checkpoint's prompt for queries, where it has one."""
        return self.encode(texts, prompt=self.query_prompt)

    def encode_document(self, texts: Any) -> list[dict[str, float]] | dict[str, float]:
        """`encode` with the checkpoint's prompt for documents or passages, where it has one."""
        return self.encode(texts, prompt=self.document_prompt)

    def predict_batches(
        self,
        reader: RowReader,
        *,
        prompt: str | None = None,
        on_truncate: str = "warn",
        column: str = IMPACTS,
    ) -> Predictions:
        """The terms of rows, a batch at a time, as a column of maps, to iterate over or to write as
        Parquet, which `Index.build(…, impacts=column)` takes; `report` has the counts afterwards.
        A text without a token has a null. Parameters and errors as of `encode`."""
        from fastseq.store.predictions import Continued, Maps, Predictions

        one_of("on_truncate", on_truncate, TRUNCATION)
        if not string("column", column):
            raise SettingsError("the column of terms needs a name")
        report = self.report = EncodeReport()
        start = self._prompt(prompt)

        def found(first: int = 0) -> Iterator[tuple[RowBatch, dict[str, Column]]]:
            for batch in reader.batches():
                if batch.first_row < first:
                    continue
                with located(batch.where):
                    terms, known = self._terms(batch.text, start, on_truncate, report)
                names = Categories(self._words, terms.ids)
                yield batch, {column: Maps(names, terms.weights, terms.offsets, known)}

        settings = partial(
            self._identity, top_terms=self.top_terms, prompt=start, on_truncate=on_truncate
        )
        outputs = {column: "map<string, float>"}
        return Predictions(reader, outputs, found(), Continued(found, report, settings))

    def _own_settings(self) -> list[str]:
        return ["sparse"]

    def _encoded(
        self, texts: Any, prompt: str, on_truncate: str, report: EncodeReport
    ) -> list[dict[str, float]]:
        source = text_source(texts)
        found: list[dict[str, float]] = []
        with source.located():
            for part in source.slices():
                terms, _ = self._terms(part, prompt, on_truncate, report)
                names = [self._words[id] for id in terms.ids.tolist()]
                weights = terms.weights.tolist()
                found += [
                    dict(zip(names[a:b], weights[a:b], strict=True))
                    for a, b in pairwise(terms.offsets.tolist())
                ]
        return found

    def _terms(
        self, texts: Texts, prompt: str, on_truncate: str, report: EncodeReport
    ) -> tuple[_Terms, Any]:
        """The terms of D texts, and which texts have a token, bool[D]."""
        windows = self._windows(texts, prompt, on_truncate, report)
        parts: list[tuple[Int32, Float32]] = [None] * (len(windows.offsets) - 1)  # type: ignore[list-item]

        def reduce(numbers: Int64, hidden: Float32, own: Int64) -> None:
            scores = self._head.maxima(hidden, own)
            scores[:, self._unnamed] = 0
            if not np.isfinite(scores).all():
                raise FormatError(f"{self.path}: its weights give scores that are not finite")
            for number, row in zip(numbers.tolist(), scores, strict=True):
                ids = np.flatnonzero(row > 0).astype(np.int32)
                parts[number] = ids, row[ids]

        self.network.encode(windows.ids, windows.offsets, reduce)
        taken = [
            self._largest(parts[first:last]) for first, last in pairwise(windows.bounds.tolist())
        ]
        offsets = offsets_of([len(ids) for ids, _ in taken])
        ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in taken)])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in taken)])
        weights = np.log1p(scores.astype(np.float64)).astype(np.float32)
        return _Terms(ids, weights, offsets), windows.counts > 0

    def _largest(self, parts: list[tuple[Int32, Float32]]) -> tuple[Int32, Float32]:
        """The terms of the windows of a text with their largest scores, in their order."""
        ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in parts)])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in parts)])
        if len(parts) > 1:
            order = np.lexsort((-scores, ids))
            ids, scores = ids[order], scores[order]
            is_first = np.append(True, ids[1:] != ids[:-1])
            ids, scores = ids[is_first], scores[is_first]
        order = np.argsort(-scores, kind="stable")[: self.top_terms]
        return ids[order], scores[order]


def _head(checkpoint: Checkpoint, words: int) -> HeadWeights:
    """The masked-word head of a checkpoint, for the first `words` words. Raises FormatError where
    an array is missing or of another shape."""
    size, every = checkpoint.config.hidden, checkpoint.config.words
    others = dict(checkpoint.others)
    if _BIAS not in others and f"{_DECODER}.bias" in others:
        others[_BIAS] = others[f"{_DECODER}.bias"]
    shapes = {
        f"{_TRANSFORM}.weight": (size, size), f"{_TRANSFORM}.bias": (size,),
        f"{_NORM}.weight": (size,), f"{_NORM}.bias": (size,), _BIAS: (every,),
    }  # fmt: skip
    tied = f"{_DECODER}.weight" not in others
    if not tied:
        shapes[f"{_DECODER}.weight"] = (every, size)
    where = f"{checkpoint.path / WEIGHTS}: no masked-word head"
    found = check_shapes(others, shapes, where)
    w = {name: array.astype(np.float32, copy=False) for name, array in found.items()}
    table = checkpoint.weights[WORDS] if tied else w[f"{_DECODER}.weight"]
    return HeadWeights(
        Affine(w[f"{_TRANSFORM}.weight"], w[f"{_TRANSFORM}.bias"]),
        Norm(w[f"{_NORM}.weight"], w[f"{_NORM}.bias"]),
        Affine(table[:words], w[_BIAS][:words]),
    )
