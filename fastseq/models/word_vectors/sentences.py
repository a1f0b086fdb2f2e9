"""A corpus as sentences of word ids: read once, held in memory or in a temporary file.

Every row of the corpus is a sentence, whatever its length. Words are numbered by frequency, so the
rows of frequent words are close together; rare words are dropped before windows are drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.models.word_vectors.sampling import occurrences
from fastseq.store.files import MEMORY, SpillArray
from fastseq.store.locations import Location
from fastseq.store.texts import TextSource, open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, encode_slices
from fastseq.text.tables import Dictionary
from fastseq.types import Int32, Int64, Texts, Tokens

_BLOCK = 1 << 22  # tokens renumbered at a time

# words, tokens and ends of sentences -> words with phrases, tokens; `ends` is changed in place
Join = Callable[[list[str], Int32, Int64], tuple[list[str], Int32]]


@dataclass(frozen=True, slots=True, eq=False)
class Sentences:
    """A corpus as V words and n tokens in S sentences."""

    words: Texts  # different ones; those known before, then by falling frequency
    counts: Int64  # [V] occurrences of each here
    tokens: Int32  # [n] the words of all sentences, one after the other
    ends: Int64  # [S] end of each sentence in `tokens`
    read: int  # tokens of the corpus, including those dropped


def read_sentences(
    source: TextSource,
    analyzer: Analyzer,
    threads: int,
    *,
    min_count: int = 1,
    most: int | None = None,
    known: Texts | None = None,
    fixed: bool = False,
    memory: int = MEMORY,
    join: Join | None = None,
) -> Sentences:
    """Read a whole corpus.

    source : the texts, each a sentence
    analyzer : without n-grams
    min_count : words that occur less often are dropped, unless known
    most : the most frequent words to keep besides the known; None for all
    known : words that come first, in their order, though they may not occur
    fixed : drop all words but the known
    memory : bytes of ids to hold; more goes to a temporary file
    join : joins phrases before words are dropped

    Raises DataError if no word is left, for a text that is not UTF-8, and as reading the corpus
    does; SettingsError for an analyzer with n-grams.
    """
    if analyzer.ngrams != (1, 1) or analyzer.char_ngrams is not None:
        raise SettingsError("word vectors are made of words: expected an analyzer without n-grams")
    words, tokens, ends, counts = read_ids(source, analyzer, threads, memory)
    read = len(tokens)
    if join is not None:
        joined, tokens = join(words.to_strings(), tokens, ends)
        words, counts = Texts.from_strings(joined), occurrences(tokens, len(joined))
    kept, mapping = _chosen(words, counts, min_count, most, known, fixed)
    tokens = _renumbered(tokens, ends, mapping)
    if np.diff(ends, prepend=0).max(initial=0) < 2:
        raise DataError(
            "no row of the corpus has two words of the vocabulary: expected longer rows, or a "
            "lower min_count"
        )
    found = np.zeros(len(kept), np.int64)
    np.add.at(found, mapping[mapping >= 0], counts[mapping >= 0])
    return Sentences(kept, found, tokens, ends, read)


def source_of(corpus: Any, text_column: str | Sequence[str] | None) -> TextSource:
    """The texts of what `fit` of a model takes as a corpus."""
    from fastseq.store.dataset import are_paths  # imports pyarrow

    if are_paths(corpus):
        corpus = [Location(os.fspath(path)) for path in corpus]
    return open_texts(corpus, text_column)


def read_ids(
    source: TextSource, analyzer: Analyzer, threads: int, memory: int
) -> tuple[Texts, Int32, Int64, Int64]:
    """The different words of a corpus, its tokens as their ids, the end of each text, and the
    occurrences of each word. Arguments and errors as in read_sentences."""
    lexicon, tokens = Lexicon(analyzer), TokenSpill(memory)
    with source.located():
        slices = source.slices()
        for _, (ids,) in encode_slices(lexicon, slices, lambda row, levels: levels, threads):
            tokens.append(ids)
    values, lengths, counts = tokens.finish(len(lexicon))
    return lexicon.terms(), values, np.cumsum(lengths), counts


class TokenSpill:
    """Tokens of texts, with their lengths and the occurrences of each id; in a temporary file
    beyond `memory` bytes."""

    def __init__(self, memory: int) -> None:
        self._tokens, self._lengths = SpillArray(np.int32, memory), SpillArray(np.int64, memory)
        self._counts: Int64 = np.zeros(1024, np.int64)

    def append(self, ids: Tokens) -> None:
        """Add the tokens of some texts."""
        self._tokens.append(ids.values.copy())  # the kernel's buffer is longer
        self._lengths.append(np.diff(ids.offsets))
        here = np.bincount(ids.values)
        if len(here) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(len(here), np.int64)])
        self._counts[: len(here)] += here

    def finish(self, size: int) -> tuple[Int32, Int64, Int64]:
        """All tokens, the length of each text, and the occurrences of ids below `size`."""
        return self._tokens.finish(), self._lengths.finish(), self._counts[:size]


def _chosen(
    words: Texts, counts: Int64, min_count: int, most: int | None, known: Texts | None, fixed: bool
) -> tuple[Texts, Int32]:
    """The words of the vocabulary, and the new number of each word, -1 for those dropped."""
    mapping = np.full(len(words), -1, np.int32)
    names: list[str] = []
    if known is not None:
        names = known.to_strings()
        mapping[:] = Dictionary(known).columns(words)
    if not fixed:
        strings = words.to_strings()
        new = np.flatnonzero((mapping < 0) & (counts >= min_count))
        new = new[np.argsort(-counts[new], kind="stable")][:most]
        mapping[new] = np.arange(len(names), len(names) + len(new), dtype=np.int32)
        names += [strings[i] for i in new]
    if (mapping >= 0).any():
        return Texts.from_strings(names), mapping
    if not len(words):
        raise DataError("no words in the corpus after analysis: expected texts with words")
    if fixed:
        raise DataError(f"none of the corpus's {len(words):,} words is in the vocabulary")
    raise DataError(
        f"none of the corpus's {len(words):,} words occurs {min_count:,} times (the most frequent "
        f"{int(counts.max()):,}): expected a lower min_count, or more text"
    )


def _renumbered(tokens: Int32, ends: Int64, mapping: Int32) -> Int32:
    """The remaining tokens under their new numbers; `tokens` and `ends` are changed in place."""
    written = sentence = 0
    for start in range(0, len(tokens), _BLOCK):
        block = mapping[tokens[start : start + _BLOCK]]
        is_kept = block >= 0
        until = int(np.searchsorted(ends, start + len(block), "right"))
        before = np.concatenate([[0], np.cumsum(is_kept)])
        ends[sentence:until] = written + before[ends[sentence:until] - start]
        kept = block[is_kept]
        tokens[written : written + len(kept)] = kept
        written += len(kept)
        sentence = until
    ends[sentence:] = written
    return tokens[:written]
