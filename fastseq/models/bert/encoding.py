"""Vectors of texts by a BERT checkpoint.

encoder = TextEncoder.load("all-MiniLM-L6-v2")
vectors = encoder.encode(["a cat", "a dog"])  # float32[2, H]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, RowError, SettingsError, located, warn
from fastseq.models.bert.checkpoint import (
    POOLINGS,
    SPECIAL,
    WEIGHTS,
    Checkpoint,
    check_tokenizer,
    limit_of,
    read_checkpoint,
)
from fastseq.models.bert.inference import make_encoder, pool_rows
from fastseq.nn.precisions import PRECISIONS, has_instructions
from fastseq.settings import flag, one_of, string, thread_count
from fastseq.store.files import reason
from fastseq.store.texts import open_texts
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.threads import Team
from fastseq.types import Float32, Int64, Texts, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader

TRUNCATION = ("warn", "error", "split")
TYPES_OF_VECTORS = {"float32": "float", "float16": "halffloat"}
# names of prompts, the first that a checkpoint has
_QUERIES, _DOCUMENTS = ("query",), ("document", "passage", "corpus")
_READ = 1 << 20  # bytes of a file at a time
_SMALLEST = np.float32(1e-12)  # norm that a vector is divided by, as in sentence-transformers


@dataclass(slots=True)
class EncodeReport:
    """Counts of the texts that were encoded."""

    texts: int = 0
    empty: int = 0  # without a token: their vectors are zeros
    truncated: int = 0  # or split
    tokens: int = 0  # encoded, with special ones

    def messages(self, most: int, is_split: bool) -> list[str]:
        """The notices on texts that have no vector, or not one of their whole text."""
        found = []
        if self.empty:
            found.append(f"{_count(self.empty, 'text')} of {self.texts:,} without a token")
        if self.truncated:
            done = "split into windows" if is_split else "truncated"
            found.append(
                f"{_count(self.truncated, 'text')} of {self.texts:,} with more than {most} tokens "
                f"{'was' if self.truncated == 1 else 'were'} {done}"
            )
        return found


class TextEncoder:
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
    tokenizer, network : the WordPiece and the Encoder
    report : EncodeReport of the last `encode`
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: WordPiece,
        *,
        max_length: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        config, given = checkpoint.config, checkpoint.sentences
        check_tokenizer(tokenizer, config, checkpoint.path)
        if given.lowercases and not tokenizer.lowercase:
            raise FormatError(
                f"{checkpoint.path}: lower-casing of texts before the tokenizer (do_lower_case) is "
                "not supported"
            )
        self._config = config
        self.size = config.hidden
        self.max_length = limit_of(checkpoint, max_length)
        self.pooling = given.pooling
        if pooling is not None:
            self.pooling = one_of("pooling", pooling, POOLINGS)
        self.normalize = given.normalize if normalize is None else flag("normalize", normalize)
        self.prompts: Mapping[str, str] = given.prompts
        self.default_prompt = given.default_prompt
        self.path = checkpoint.path
        self._documents = EncodeReport()
        self.tokenizer = tokenizer
        self.report = EncodeReport()
        self._team = Team(thread_count(threads))
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
        return cls(
            read_checkpoint(path),
            read_tokenizer(path),
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
        """`encode` with the checkpoint's prompt for queries, where it has one, else its default."""
        return self.encode(texts, prompt=self._prompt_of(_QUERIES))

    def encode_document(self, texts: Any) -> Float32:
        """`encode` with the checkpoint's prompt for documents ("document", "passage" or "corpus"),
        where it has one, else its default. Truncated texts and those without a token are counted
        for `take_messages`, without a warning; whether vectors are finite is not checked."""
        prompt = self._prompt(self._prompt_of(_DOCUMENTS))
        return self._encoded(texts, prompt, "warn", self._documents, None)

    def take_messages(self) -> list[str]:
        """The notices on the texts of `encode_document` since the last call."""
        report, self._documents = self._documents, EncodeReport()
        return report.messages(self.max_length, False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what vectors depend on, in hexadecimal: the file of weights, the vocabulary
        and the options of the tokenizer, heads and activation, pooling and prompts; not of
        `max_length`, since vectors with different limits can be compared. Raises DataError where
        the file cannot be read."""
        config = self._config
        own = [
            self.pooling, self.tokenizer.vocabulary, self.tokenizer.options, config.layers,
            config.heads, config.is_tanh, config.epsilon, dict(self.prompts), self.default_prompt,
        ]  # fmt: skip
        found = sha256(json.dumps(own, sort_keys=True, default=asdict).encode())
        path = self.path / WEIGHTS
        try:
            with open(path, "rb") as file:
                while part := file.read(_READ):
                    found.update(part)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error
        return found.hexdigest()

    def _encoded(
        self, texts: Any, prompt: str, on_truncate: str, report: EncodeReport,
        kind: str | None = "float32",
    ) -> Float32:  # fmt: skip
        """`_vectors` of any texts; of one string float32[H]."""
        is_one = isinstance(texts, str)
        source = open_texts([texts] if is_one else texts)
        parts: list[Float32] = []
        row = 0
        for part in source.slices():
            with located(source.where, row):
                parts.append(self._vectors(part, prompt, on_truncate, report, kind))
            row += len(part)
        vectors = np.concatenate(parts) if parts else np.empty((0, self.size), np.float32)
        return vectors[0] if is_one else vectors

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

        column, kind : name of the column of vectors, and the type of their elements: "float32" or
            "float16"

        Others as in `encode`, which also has the errors.
        """
        from fastseq.store.predictions import Predictions

        one_of("on_truncate", on_truncate, TRUNCATION)
        one_of("kind", kind, TYPES_OF_VECTORS)
        if not string("column", column):
            raise SettingsError("the column of vectors needs a name")
        report = self.report = EncodeReport()
        start = self._prompt(prompt)

        def found() -> Iterator[tuple[RowBatch, dict[str, Float32]]]:
            for batch in reader.batches():
                with located(batch.where):
                    vectors = self._vectors(batch.text, start, on_truncate, report, kind, np.nan)
                yield batch, {column: vectors}

        outputs = {column: f"vector<{TYPES_OF_VECTORS[kind]}>[{self.size}]"}
        return Predictions(reader, outputs, found())

    # ---- of some texts

    def _prompt_of(self, names: Sequence[str]) -> str | None:
        """The name of the first prompt that the checkpoint has; None for the default."""
        return next((name for name in names if name in self.prompts), None)

    def _prompt(self, prompt: str | None) -> str:
        """The text of a prompt. Raises SettingsError for one that leaves no room for a text."""
        if prompt is None:
            prompt = self.default_prompt
        else:
            prompt = self.prompts.get(string("prompt", prompt), prompt)
        own = len(self.tokenizer.encode(Texts.from_strings([prompt])).values) + SPECIAL
        if own >= self.max_length:
            raise SettingsError(
                f"the prompt has {own:,} tokens, with special ones, and a text {self.max_length:,} "
                "at most: no text remains"
            )
        return prompt

    def _tokens(self, texts: Texts, prompt: str) -> Tokens:
        """The tokens of texts after a prompt; a text without a token remains without."""
        tokens = self.tokenizer.encode(texts, self._team)
        if not prompt:
            return tokens
        prompted = with_prompt(texts, prompt, np.diff(tokens.offsets) > 0)
        return self.tokenizer.encode(prompted, self._team)

    def _vectors(
        self, texts: Texts, prompt: str, on_truncate: str, report: EncodeReport,
        kind: str | None = "float32", empty: float = 0.0,
    ) -> Float32:  # fmt: skip
        """float32[D, H], of texts without a token filled with `empty`. Raises RowError for numbers
        that are not finite as of the type `kind`; None: they are not checked."""
        tokens = self._tokens(texts, prompt)
        lengths = np.diff(tokens.offsets)
        limit = self.max_length - SPECIAL
        report.texts += len(texts)
        report.empty += int((lengths == 0).sum())
        longer = lengths > limit
        report.truncated += int(longer.sum())
        if on_truncate == "error" and longer.any():
            row = int(np.argmax(longer))
            raise RowError(
                row,
                f"its text has {int(lengths[row]) + SPECIAL:,} tokens, the model takes "
                f"{self.max_length}; on_truncate=… says what to do",
            )
        # the windows of all texts follow each other in the tokens
        windows = -(-lengths // limit) if on_truncate == "split" else np.minimum(lengths, 1)
        owner = np.repeat(np.arange(len(texts)), windows)
        place = np.arange(len(owner)) - np.repeat(offsets_of(windows)[:-1], windows)
        starts = tokens.offsets[owner] + place * limit
        parts = Tokens(tokens.values, np.append(starts, tokens.offsets[-1]))
        inputs = self.tokenizer.join(parts, None, self.max_length)
        sizes = np.diff(inputs.offsets)
        report.tokens += len(inputs.ids)
        pooled = np.empty((len(owner), self.size), np.float32)

        def pool(numbers: Int64, hidden: Float32, own: Int64) -> None:
            pooled[numbers] = pool_rows(hidden, own, self.pooling)

        self.network.encode(inputs.ids, inputs.offsets, pool)
        if (windows == 1).all():
            vectors = pooled
        else:
            vectors = np.full((len(texts), self.size), np.float32(empty))
            first = offsets_of(windows)[:-1]
            once = windows == 1
            vectors[once] = pooled[first[once]]
            for text in np.flatnonzero(windows > 1):
                own = slice(first[text], first[text] + windows[text])
                vectors[text] = np.average(pooled[own], axis=0, weights=sizes[own] - SPECIAL)
        if self.normalize:
            norms = np.sqrt((vectors * vectors).sum(1))
            vectors /= np.maximum(norms, _SMALLEST)[:, None]
        if kind is not None:
            _check_numbers(vectors, kind, lengths > 0)
        return vectors


def _check_numbers(vectors: Float32, kind: str, known: npt.NDArray[np.bool_]) -> None:
    """Raise RowError for a vector of bool[D] `known` with a number that is not finite, or beyond
    the type `kind`."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(vectors.astype(kind, copy=False)).all(axis=1)
    wrong = known & ~finite
    if wrong.any():
        row = int(np.argmax(wrong))
        if np.isfinite(vectors[row]).all():
            raise RowError(row, f"its vector has a number beyond {kind}, expected float32")
        raise RowError(row, "its vector has a number that is not finite")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def with_prompt(texts: Texts, prompt: str, chosen: npt.NDArray[np.bool_]) -> Texts:
    """Each text of bool[D] `chosen` after a prompt, others as they are."""
    start = np.frombuffer(prompt.encode(), np.uint8)
    lengths = np.diff(texts.offsets)
    before = np.where(chosen, len(start), 0)
    offsets = offsets_of(lengths + before)
    data = np.empty(offsets[-1], np.uint8)
    data[ranges(offsets[:-1], before)] = np.tile(start, int(chosen.sum()))
    own = texts.data[texts.offsets[0] : texts.offsets[-1]]
    data[ranges(offsets[:-1] + before, lengths)] = own
    return Texts(data, offsets)
