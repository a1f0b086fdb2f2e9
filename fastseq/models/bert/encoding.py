"""Vectors of texts by a BERT checkpoint.

encoder = TextEncoder.load("all-MiniLM-L6-v2")
vectors = encoder.encode(["a cat", "a dog"])  # float32[2, H]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import RowError, SettingsError, located, warn
from fastseq.models.bert.checkpoint import POOLINGS, Checkpoint, read_checkpoint, tokenizer_of
from fastseq.models.bert.inference import make_encoder, pool_rows
from fastseq.models.bert.inputs import TRUNCATION, EncodeReport, TextInputs, text_source
from fastseq.nn.precisions import PRECISIONS, has_instructions
from fastseq.settings import flag, one_of, string, thread_count
from fastseq.text.library_tokenizer import LibraryTokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.types import Categories, Float32, Int32, Int64, Texts, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.predictions import Column, Predictions
    from fastseq.store.rows import RowBatch, RowReader

TYPES_OF_VECTORS = {"float32": "float", "float16": "halffloat", "int8": "int8"}
_INT8 = "int8"
_OF_TOKENS = ("tokens", "starts", "ends")  # columns beside the vectors of tokens
SCALE = "scale"  # ends the name of the column of scales
_SMALLEST = np.float32(1e-12)  # norm that a vector is divided by, as in sentence-transformers
_TOKEN_BYTES = 1 << 17  # of text whose tokens' vectors are in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """The word pieces of a text with their contextual vectors.

    tokens   the n pieces, without special tokens, those of a prompt, and those beyond the limit
    spans    int64[n, 2]    where each begins and ends in the text, in code points
    vectors  float32[n, H]
    """

    tokens: list[str]
    spans: Int64
    vectors: Float32

    def __len__(self) -> int:
        return len(self.tokens)


class TextEncoder(TextInputs):
    """Makes vectors of texts with the encoder of a checkpoint. Made by `load`.

    The same text has the same bits alone, in any batch and on any number of threads.

    Attributes
    ----------
    size : length of a vector (H)
    max_length : tokens of a text with its special ones; a longer one is truncated
    pooling : how the vectors of tokens become that of a text: "mean", "cls" or "max"
    normalize : whether vectors have the Euclidean norm 1
    prompts : {name: what texts of a kind begin with}
    default_prompt : what texts begin with unless another prompt is given
    tokenizer, network : the tokenizer and the Encoder
    report : EncodeReport of the last `encode`
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: WordPiece | LibraryTokenizer,
        *,
        max_length: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        config, given = checkpoint.config, checkpoint.sentences
        super().__init__(checkpoint, tokenizer, max_length, Team(thread_count(threads)))
        self.size = config.hidden
        self.pooling = given.pooling
        if pooling is not None:
            self.pooling = one_of("pooling", pooling, POOLINGS)
        self.normalize = given.normalize if normalize is None else flag("normalize", normalize)
        self._documents = EncodeReport()
        one_of("precision", precision, PRECISIONS)
        if not has_instructions(precision):
            warn(f"this CPU has no instructions for {precision}: float32 is faster here")
        self.network = make_encoder(checkpoint.weights, config, self._team, precision)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        max_length: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> TextEncoder:
        """Open a checkpoint in Hugging Face's format: a folder of config.json, model.safetensors
        and tokenizer.json or vocab.txt, and of the modules of sentence-transformers where there
        are.

        Parameters
        ----------
        max_length : tokens of a text with its special ones, 3 or more; by default that of the
            checkpoint
        pooling, normalize : instead of those of the checkpoint, which by default are "mean" and
            False
        precision : of the products: "float32", "bfloat16" or "int8"; the latter two are faster on
            CPUs that have instructions for them, elsewhere as exact but not faster, with a warning
        threads : None for every core

        Raises
        ------
        DataError
            The folder or a file is missing or cannot be read.
        FormatError
            Not a checkpoint of BERT, a damaged one, or one that needs what is not implemented; the
            message names the file and the setting or array.
        SettingsError
            `max_length` is more than the model has positions, or another parameter is invalid.
        """
        checkpoint = read_checkpoint(path)
        return cls(
            checkpoint,
            tokenizer_of(checkpoint),
            max_length=max_length,
            pooling=pooling,
            normalize=normalize,
            precision=precision,
            threads=threads,
        )

    def encode(
        self, texts: Any, *, prompt: str | None = None, on_truncate: str = "warn"
    ) -> Float32:
        """The vectors of texts, float32[D, H]; of one string, float32[H].

        Parameters
        ----------
        texts : a string, strings, an Arrow column, or a source of Corpus.open. A text without a
            token, as a null of a column is, has a vector of zeros, with a warning
        prompt : what each text begins with: the name of one of `prompts`, or the text itself; None:
            `default_prompt`
        on_truncate : what happens with texts of more than `max_length` tokens: "warn" leaves out
            the end, with a warning; "error"; "split" encodes windows of `max_length` tokens, and
            averages their vectors by their numbers of tokens

        Raises DataError: a text is not valid UTF-8, or too long with on_truncate="error", or its
        vector is not finite; SettingsError: an invalid parameter, or a prompt of as many tokens as
        `max_length`.
        """
        one_of("on_truncate", on_truncate, TRUNCATION)
        report = self.report = EncodeReport()
        vectors = self._encoded(texts, self._prompt(prompt), on_truncate, report)
        for message in report.messages(self.max_length, on_truncate == "split"):
            warn(message)
        return vectors

    def encode_query(self, texts: Any) -> Float32:
        """`encode` with `query_prompt`."""
        return self.encode(texts, prompt=self.query_prompt)

    def encode_document(self, texts: Any) -> Float32:
        """`encode` with `document_prompt`. Truncated texts and those without a token are counted
        for `take_messages`, without a warning; whether vectors are finite is not checked."""
        prompt = self._prompt(self.document_prompt)
        return self._encoded(texts, prompt, "warn", self._documents, None)

    def take_messages(self) -> list[str]:
        """The notices on the texts of `encode_document` since the last call."""
        report, self._documents = self._documents, EncodeReport()
        return report.messages(self.max_length, False)

    def _own_settings(self) -> list[str]:
        return [self.pooling]

    def _encoded(
        self, texts: Any, prompt: str, on_truncate: str, report: EncodeReport,
        kind: str | None = "float32",
    ) -> Float32:  # fmt: skip
        """`_vectors` of any texts; of one string float32[H]."""
        source = text_source(texts)
        parts: list[Float32] = []
        row = 0
        for part in source.slices():
            with located(source.where, row):
                parts.append(self._vectors(part, prompt, on_truncate, report, kind))
            row += len(part)
        vectors = np.concatenate(parts) if parts else np.empty((0, self.size), np.float32)
        return vectors[0] if isinstance(texts, str) else vectors

    def predict_batches(
        self,
        reader: RowReader,
        *,
        prompt: str | None = None,
        on_truncate: str = "warn",
        column: str = "vector",
        kind: str = "float32",
    ) -> Predictions:
        """The vectors of rows, a batch at a time, to iterate over or to write as Parquet; `report`
        has the counts afterwards. A text without a token has a null.

        column, kind : name of the column of vectors, and the type of their elements: "float32",
            "float16" or "int8", which has the scales of `to_int8` in the column "{column}_scale"

        Others as in `encode`, which also has the errors.
        """
        from fastseq.store.predictions import Continued, Predictions, Rows

        one_of("on_truncate", on_truncate, TRUNCATION)
        one_of("kind", kind, TYPES_OF_VECTORS)
        if not string("column", column):
            raise SettingsError("the column of vectors needs a name")
        report = self.report = EncodeReport()
        start = self._prompt(prompt)

        def found(first: int = 0) -> Iterator[tuple[RowBatch, dict[str, Column]]]:
            for batch in reader.batches():
                if batch.first_row < first:
                    continue
                with located(batch.where):
                    vectors = self._vectors(batch.text, start, on_truncate, report, kind, np.nan)
                if kind == _INT8:
                    values, scales = to_int8(vectors)
                    known = Rows(values, ~np.isnan(scales))
                    yield batch, {column: known, f"{column}_{SCALE}": scales}
                else:
                    yield batch, {column: vectors}

        outputs = {column: f"vector<{TYPES_OF_VECTORS[kind]}>[{self.size}]"}
        if kind == _INT8:
            outputs[f"{column}_{SCALE}"] = "float"
        settings = partial(
            self._identity, pooling=self.pooling, normalize=self.normalize, prompt=start,
            on_truncate=on_truncate, precision=self.network.precision,
        )  # fmt: skip
        return Predictions(reader, outputs, found(), Continued(found, report, settings))

    def encode_tokens(
        self, texts: Any, *, prompt: str | None = None, on_truncate: str = "warn",
        normalize: bool = False,
    ) -> list[TokenVectors] | TokenVectors:  # fmt: skip
        """The contextual vectors of the word pieces of each text; of one string, its TokenVectors.

        on_truncate : "warn", the pieces beyond the limit are left out; "error"; "split", they get
            the vectors that they have in windows of `max_length` tokens
        normalize : divide each vector by its Euclidean norm

        Others and errors as of `encode`.
        """
        one_of("on_truncate", on_truncate, TRUNCATION)
        flag("normalize", normalize)
        report, source = EncodeReport(), text_source(texts)
        self.report, start = report, self._prompt(prompt)
        found: list[TokenVectors] = []
        for part in source.slices():
            with located(source.where, len(found)):
                ids, offsets, spans, vectors = self._token_vectors(
                    part, start, on_truncate, report, normalize
                )
            words = self.tokenizer.words(ids)
            found += [
                TokenVectors(words[a:b], spans[a:b], vectors[a:b])
                for a, b in pairwise(offsets.tolist())
            ]
        for message in report.messages(self.max_length, on_truncate == "split"):
            warn(message)
        return found[0] if isinstance(texts, str) else found

    def predict_token_batches(
        self,
        reader: RowReader,
        *,
        prompt: str | None = None,
        on_truncate: str = "warn",
        column: str = "vector",
        kind: str = "float32",
        normalize: bool = False,
    ) -> Predictions:
        """The vectors of `encode_tokens` of rows, a batch of bounded memory at a time: columns
        "tokens", "starts" and "ends" (their spans) and `column`, lists of vectors; with the kind
        "int8", "{column}_scale" too. A text without a token has empty lists.

        Others as in `predict_batches`, errors as of `encode`.
        """
        from fastseq.store.predictions import Continued, Lists, Predictions, TagLists

        one_of("on_truncate", on_truncate, TRUNCATION)
        one_of("kind", kind, TYPES_OF_VECTORS)
        if not string("column", column) or column in _OF_TOKENS:
            raise SettingsError(
                f"the column of vectors is {column!r}; expected a name other than "
                f"{', '.join(_OF_TOKENS)}"
            )
        report = self.report = EncodeReport()
        start = self._prompt(prompt)
        names = tuple(self.tokenizer.words(range(len(self.tokenizer))))

        def found(first: int = 0) -> Iterator[tuple[RowBatch, dict[str, Column]]]:
            for batch in reader.batches(_TOKEN_BYTES):
                if batch.first_row < first:
                    continue
                with located(batch.where):
                    ids, offsets, spans, vectors = self._token_vectors(
                        batch.text, start, on_truncate, report, normalize
                    )
                columns: dict[str, Column] = {
                    "tokens": TagLists(Categories(names, ids), offsets),
                    "starts": Lists(spans[:, 0], offsets),
                    "ends": Lists(spans[:, 1], offsets),
                }
                if kind == _INT8:
                    values, scales = to_int8(vectors)
                    columns[column] = Lists(values, offsets)
                    columns[f"{column}_{SCALE}"] = Lists(scales, offsets)
                else:
                    columns[column] = Lists(vectors, offsets)
                yield batch, columns

        outputs = {"tokens": "list<string>", "starts": "list<int32>", "ends": "list<int32>"}
        outputs[column] = f"list<vector<{TYPES_OF_VECTORS[kind]}>[{self.size}]>"
        if kind == _INT8:
            outputs[f"{column}_{SCALE}"] = "list<float>"
        settings = partial(
            self._identity, pooling="none", normalize=normalize, prompt=start,
            on_truncate=on_truncate, precision=self.network.precision,
        )  # fmt: skip
        return Predictions(reader, outputs, found(), Continued(found, report, settings))

    # ---- of some texts

    def _vectors(
        self, texts: Texts, prompt: str, on_truncate: str, report: EncodeReport,
        kind: str | None = "float32", empty: float = 0.0,
    ) -> Float32:  # fmt: skip
        """float32[D, H], of texts without a token filled with `empty`. Raises RowError for numbers
        that are not finite as of the type `kind`; None: they are not checked."""
        windows = self._windows(texts, prompt, on_truncate, report)
        pooled = np.empty((len(windows.offsets) - 1, self.size), np.float32)

        def pool(numbers: Int64, hidden: Float32, own: Int64) -> None:
            pooled[numbers] = pool_rows(hidden, own, self.pooling)

        self.network.encode(windows.ids, windows.offsets, pool)
        counts, bounds = windows.counts, windows.bounds
        if (counts == 1).all():
            vectors = pooled
        else:
            vectors = np.full((len(texts), self.size), np.float32(empty))
            once = counts == 1
            vectors[once] = pooled[bounds[:-1][once]]
            for text in np.flatnonzero(counts > 1):
                own = slice(bounds[text], bounds[text + 1])
                vectors[text] = np.average(pooled[own], axis=0, weights=windows.pieces[own])
        if self.normalize:
            _normalise(vectors)
        if kind is not None:
            _check_numbers(vectors, kind, counts > 0)
        return vectors

    def _token_vectors(
        self, texts: Texts, prompt: str, on_truncate: str, report: EncodeReport, normalize: bool
    ) -> tuple[Int32, Int64, Int64, Float32]:
        """(ids int32[n], offsets int64[D + 1] of the texts in them, spans int64[n, 2], vectors
        float32[n, H]) of the pieces of D texts but for those of the prompt."""
        split = self._spans(texts, prompt)
        windows = self._windows_of(split.tokens, on_truncate, report)
        pieces = windows.pieces
        ends = offsets_of(pieces)
        vectors = np.empty((ends[-1], self.size), np.float32)

        def inner(numbers: Int64, hidden: Float32, own: Int64) -> None:
            counts = pieces[numbers]
            vectors[ranges(ends[numbers], counts)] = hidden[ranges(own[:-1] + 1, counts)]

        self.network.encode(windows.ids, windows.offsets, inner)
        if not np.isfinite(vectors).all():
            text = int(np.searchsorted(ends, np.argmin(np.isfinite(vectors).all(1)), "right")) - 1
            row = int(np.searchsorted(windows.bounds, text, "right")) - 1
            raise RowError(row, "a vector of its tokens has a number that is not finite")
        offsets = ends[windows.bounds]
        taken = ranges(split.tokens.offsets[:-1], np.diff(offsets))
        spans = np.stack([split.starts[taken], split.stops[taken]], axis=1) - len(prompt)
        ids = split.tokens.values[taken]
        if prompt:
            own = spans[:, 1] > 0
            ids, spans, vectors = ids[own], np.maximum(spans[own], 0), vectors[own]
            offsets = offsets_of(own)[offsets]
        if normalize:
            _normalise(vectors)
        return ids, offsets, spans, vectors


def _check_numbers(vectors: Float32, kind: str, known: npt.NDArray[np.bool_]) -> None:
    """Raise RowError for a vector of bool[D] `known` with a number that is not finite, or beyond
    the type `kind`."""
    if kind == _INT8:  # which has a scale
        kind = "float32"
    with np.errstate(over="ignore"):
        finite = np.isfinite(vectors.astype(kind, copy=False)).all(axis=1)
    wrong = known & ~finite
    if wrong.any():
        row = int(np.argmax(wrong))
        if np.isfinite(vectors[row]).all():
            raise RowError(row, f"its vector has a number beyond {kind}, expected float32")
        raise RowError(row, "its vector has a number that is not finite")


def to_int8(vectors: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Vectors float32[D, H] as (int8[D, H], scales float32[D]): scale · values is a vector but for
    half a scale an element. The scale of a vector is its largest magnitude / 127, 0 for zeros; for
    a vector with a NaN it is NaN, and its values are 0."""
    largest = np.abs(vectors).max(axis=1, initial=0)
    scales = (largest / 127).astype(np.float32)
    known = scales > 0
    rows = np.divide(vectors, scales[:, None], where=known[:, None], out=np.zeros_like(vectors))
    # a rounded scale gives a bit more than 127, a subnormal one much more
    values = np.clip(np.rint(rows), -127, 127).astype(np.int8)
    return values, scales


def _normalise(vectors: Float32) -> None:
    norms = np.sqrt((vectors * vectors).sum(1))
    vectors /= np.maximum(norms, _SMALLEST)[:, None]
