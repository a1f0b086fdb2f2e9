"""Texts as the inputs of a checkpoint's encoder: prompts, special tokens, truncation, windows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, RowError, SettingsError
from fastseq.machine import versions
from fastseq.models.bert.checkpoint import (
    SPECIAL,
    WEIGHTS,
    Checkpoint,
    check_tokenizer,
    limit_of,
)
from fastseq.settings import string
from fastseq.store.files import reason
from fastseq.store.texts import TextSource, open_texts
from fastseq.text.library_tokenizer import LibraryTokenizer
from fastseq.text.wordpiece import PieceSpans, WordPiece
from fastseq.threads import Team
from fastseq.types import Int32, Int64, Texts, Tokens, offsets_of, ranges

TRUNCATION = ("warn", "error", "split")
# names of prompts, the first that a checkpoint has
_QUERIES, _DOCUMENTS = ("query",), ("document", "passage", "corpus")
_READ = 1 << 20  # bytes of a file at a time


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


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The inputs of D texts, window after window, each between [CLS] and [SEP].

    counts   int64[D]      windows of each text; 0 of one without a token, else 1 unless it is split
    ids      int32[n]      of the tokens of all windows
    offsets  int64[W + 1]  window w has ids[offsets[w]:offsets[w + 1]]
    """

    counts: Int64
    ids: Int32
    offsets: Int64

    @property
    def bounds(self) -> Int64:
        """int64[D + 1]: text d has the windows bounds[d] to bounds[d + 1] - 1."""
        return offsets_of(self.counts)

    @property
    def pieces(self) -> Int64:
        """int64[W]: tokens of each window without the special ones."""
        return np.diff(self.offsets) - SPECIAL


class TextInputs:
    """What all encoders of a checkpoint do with texts before the network; the base of them.

    Attributes
    ----------
    max_length : tokens of a text with its special ones; a longer one is truncated
    prompts : {name: what texts of a kind begin with}
    default_prompt : what texts begin with unless another prompt is given
    tokenizer : of the checkpoint
    path : of the checkpoint; None for a model in memory
    report : EncodeReport of the last `encode`
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: WordPiece | LibraryTokenizer,
        max_length: int | None,
        team: Team,
    ) -> None:
        given = checkpoint.sentences
        check_tokenizer(tokenizer, checkpoint.config, checkpoint.path)
        if given.lowercases and not tokenizer.lowercase:
            raise FormatError(
                f"{checkpoint.path}: lower-casing of texts before the tokenizer (do_lower_case) is "
                "not supported"
            )
        self._config = checkpoint.config
        self.max_length = limit_of(checkpoint, max_length)
        self.prompts: Mapping[str, str] = given.prompts
        self.default_prompt = given.default_prompt
        self.path: Path | None = checkpoint.path if checkpoint.has_folder else None
        self._weights = checkpoint.weights
        self.tokenizer = tokenizer
        self.report = EncodeReport()
        self._team = team

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the results depend on, in hexadecimal: the file of weights, the
        vocabulary and the options of the tokenizer, heads and activation, prompts, and the
        encoder's own settings; not of `max_length`, since results with different limits can be
        compared. Raises DataError where the file cannot be read."""
        config = self._config
        own = [
            *self._own_settings(), self.tokenizer.vocabulary, self.tokenizer.options, config.layers,
            config.heads, config.is_tanh, config.epsilon, dict(self.prompts), self.default_prompt,
        ]  # fmt: skip
        found = sha256(json.dumps(own, sort_keys=True, default=asdict).encode())
        if self.path is None:
            for name in sorted(self._weights):
                found.update(np.ascontiguousarray(self._weights[name]).tobytes())
            return found.hexdigest()
        path = self.path / WEIGHTS
        try:
            with open(path, "rb") as file:
                while part := file.read(_READ):
                    found.update(part)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error
        return found.hexdigest()

    def _own_settings(self) -> list[str]:
        """Settings that the digest depends on."""
        return []

    def _identity(self, **settings: Any) -> dict[str, Any]:
        """What the rows of an output depend on, for a run that continues."""
        version = versions()["fastseq"]
        return {
            "model": self.digest, "max_length": self.max_length, "fastseq": version, **settings
        }  # fmt: skip

    @property
    def query_prompt(self) -> str:
        """The checkpoint's prompt for queries, where it has one, else its default."""
        return self._first_prompt(_QUERIES)

    @property
    def document_prompt(self) -> str:
        """The checkpoint's prompt for documents ("document", "passage" or "corpus"), where it has
        one, else its default."""
        return self._first_prompt(_DOCUMENTS)

    def _first_prompt(self, names: Sequence[str]) -> str:
        found = (self.prompts[name] for name in names if name in self.prompts)
        return next(found, self.default_prompt)

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

    def _windows(
        self, texts: Texts, prompt: str, on_truncate: str, report: EncodeReport
    ) -> Windows:
        """The inputs of texts, counted in the report."""
        tokens = self.tokenizer.encode(self._prompted(texts, prompt), self._team)
        return self._windows_of(tokens, on_truncate, report)

    def _prompted(self, texts: Texts, prompt: str) -> Texts:
        """Texts after a prompt; a text without a token remains without."""
        if not prompt:
            return texts
        tokens = self.tokenizer.encode(texts, self._team)
        return with_prompt(texts, prompt, np.diff(tokens.offsets) > 0)

    def _windows_of(self, tokens: Tokens, on_truncate: str, report: EncodeReport) -> Windows:
        lengths = np.diff(tokens.offsets)
        limit = self.max_length - SPECIAL
        report.texts += len(lengths)
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
        counts = -(-lengths // limit) if on_truncate == "split" else np.minimum(lengths, 1)
        owner = np.repeat(np.arange(len(lengths)), counts)
        place = np.arange(len(owner)) - np.repeat(offsets_of(counts)[:-1], counts)
        starts = tokens.offsets[owner] + place * limit
        parts = Tokens(tokens.values, np.append(starts, tokens.offsets[-1]))
        inputs = self.tokenizer.join(parts, None, self.max_length)
        report.tokens += len(inputs.ids)
        return Windows(counts, inputs.ids, inputs.offsets)

    def _spans(self, texts: Texts, prompt: str) -> PieceSpans:
        """The pieces of texts after a prompt, with spans in code points of the prompted text."""
        prompted = self._prompted(texts, prompt)
        return self.tokenizer.encode_spans(prompted, self._team, code_points=True)


def text_source(texts: Any) -> TextSource:
    """The texts of one string, or of what `open_texts` takes."""
    return open_texts([texts] if isinstance(texts, str) else texts)


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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
