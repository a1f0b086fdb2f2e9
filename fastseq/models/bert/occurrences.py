"""The vectors of a word in several texts, each of which gives it another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastseq.errors import DataError, quoted
from fastseq.models.bert.encoding import TextEncoder, TokenVectors
from fastseq.settings import string, strings
from fastseq.types import Float32


class Occurrences(NamedTuple):
    """Where a word occurs, and its vectors.

    texts    int list, the number of the text of each occurrence
    starts   where it begins, in code points
    vectors  float32[n, H], unit vectors: of the mean of the vectors of its pieces
    """

    texts: list[int]
    starts: list[int]
    vectors: Float32


def occurrences(encoder: TextEncoder, word: str, texts: Sequence[str]) -> Occurrences:
    """The occurrences of a word, as a whole word in either case, in texts.

    Raises DataError where it occurs in none, or beyond what the model reads of the text.
    """
    if not string("word", word).strip():
        raise DataError("the word is empty")
    # not \\b: the word may begin or end with a mark
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    given = list(strings("texts", texts))
    found = encoder.encode_tokens(given, normalize=False)
    assert not isinstance(found, TokenVectors)
    numbers, starts, parts = [], [], []
    for number, (text, tokens) in enumerate(zip(given, found, strict=True)):
        for match in pattern.finditer(text):
            begins, ends = tokens.spans.T
            own = (begins >= match.start()) & (ends <= match.end())
            if not own.any():
                raise DataError(
                    f"text {number} (from 0): {quoted(word)} at {match.start()} is beyond the "
                    f"{encoder.max_length} tokens that the model reads"
                )
            vector = tokens.vectors[own].mean(0)
            numbers.append(number)
            starts.append(match.start())
            parts.append(vector / max(float(np.linalg.norm(vector)), 1e-12))
    if not parts:
        raise DataError(f"{quoted(word)} occurs in none of the {len(given)} texts")
    return Occurrences(numbers, starts, np.array(parts, np.float32))
