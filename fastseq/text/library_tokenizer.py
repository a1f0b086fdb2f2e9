"""Tokenizers of other models than BERT, by the library `tokenizers`: the extra
fastseq[tokenizers]."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import FormatError, MissingExtraError, SettingsError
from fastseq.text.wordpiece import (
    PieceSpans,
    Sequences,
    Specials,
    joined_sequences,
    valid_strings,
)
from fastseq.threads import Team
from fastseq.types import Texts, Tokens, offsets_of


class LibraryTokenizer:
    """The tokenizer of a tokenizer.json that puts one special token before and after a text.

    Attributes
    ----------
    vocabulary : the id of each token
    specials : the tokens before and after a text
    lowercase : False: what it does with letters is not known
    """

    lowercase = False

    def __init__(self, tokenizer: Any, where: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self._names = {id: token for token, id in self.vocabulary.items()}
        around = tokenizer.encode("", add_special_tokens=True).tokens
        if len(around) != 2:
            raise FormatError(
                f"{where}: the special tokens of a text are {' '.join(around) or 'none'}, expected "
                "one before it and one after it"
            )
        self.specials = Specials(*around)
        self._begin, self._end = (self.vocabulary[token] for token in around)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LibraryTokenizer:
        """The tokenizer of a folder with a tokenizer.json.

        Raises FormatError where there is none, or it is damaged or puts other special tokens around
        texts; MissingExtraError without the library.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(
                f"{folder}: its tokenizer needs tokenizers: pip install 'fastseq[tokenizers]'"
            ) from error
        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise FormatError(f"{folder}: has no tokenizer.json")
        try:
            found = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower one
            raise FormatError(f"{path}: not a tokenizer ({error})") from None
        return cls(found, str(path))

    @property
    def options(self) -> dict[str, Any]:
        """All that it does with texts."""
        return {"tokenizer": self._tokenizer.to_str()}

    def __len__(self) -> int:
        """One more than the largest id."""
        return max(self._names, default=-1) + 1

    @property
    def ids(self) -> list[int]:
        """The ids that tokens have."""
        return [*self._names]

    def id_of(self, token: str) -> int | None:
        """The id of a token."""
        return self.vocabulary.get(token)

    def words(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids; an empty one for an id that no token has."""
        return [self._names.get(int(id), "") for id in ids]

    def encode(
        self, texts: Texts | Sequence[str], team: Team | None = None, on_invalid: str = "error"
    ) -> Tokens:
        """The ids of the pieces of each text, without special tokens; the library has threads of
        its own. Arguments and errors as of `WordPiece.encode`."""
        found = self._encodings(valid_strings(texts, on_invalid))
        return _tokens([encoding.ids for encoding in found])

    def encode_spans(
        self, texts: Texts | Sequence[str], team: Team | None = None, on_invalid: str = "error",
        code_points: bool = True,
    ) -> PieceSpans:  # fmt: skip
        """`encode`, with the part of the original text that each piece comes from, in code points.

        Raises SettingsError for spans in bytes.
        """
        if not code_points:
            raise SettingsError("spans of this tokenizer are in code points only")
        texts = valid_strings(texts, on_invalid)
        found = self._encodings(texts)
        spans = [span for encoding in found for span in encoding.offsets]
        both = np.array(spans, np.int64).reshape(-1, 2)
        tokens = _tokens([encoding.ids for encoding in found])
        return PieceSpans(texts, tokens, both[:, 0].copy(), both[:, 1].copy())

    def join(
        self, first: Tokens, second: Tokens | None = None, length: int | None = None
    ) -> Sequences:
        """Texts between the special tokens, as `WordPiece.join`. Raises SettingsError for pairs."""
        if second is not None:
            raise SettingsError("pairs of texts are not supported with this tokenizer")
        return joined_sequences(first, None, length, self._begin, self._end)

    def _encodings(self, texts: Texts) -> list[Any]:
        strings = texts.to_strings()
        return list(self._tokenizer.encode_batch(strings, add_special_tokens=False))


def _tokens(ids: Sequence[Sequence[int]]) -> Tokens:
    counts = [len(own) for own in ids]
    values = np.fromiter(chain.from_iterable(ids), np.int32, sum(counts))
    return Tokens(values, offsets_of(counts))
