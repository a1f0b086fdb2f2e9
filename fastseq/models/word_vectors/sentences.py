"""A corpus as sentences of word ids: read once, kept in memory or in a temporary file.

Every row of the corpus is a sentence, however long. Words are numbered by their frequency, so
that the rows of frequent words lie together; those that occur too seldom are left out before
windows are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.models.word_vectors.sampling import occurrences
from fastseq.store.files import MEMORY, SpillArray
from fastseq.store.texts import TextSource, open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, encode_slices
from fastseq.text.tables import Dictionary
from fastseq.types import Int32, Int64, Texts

if TYPE_CHECKING:
    from fastseq.models.word_vectors.phrases import Phrases
    from fastseq.vectors.phrases import PhraseTable

_PIECE = 1 << 22  # tokens renumbered at a time


@dataclass(frozen=True, slots=True, eq=False)
class Sentences:
    """What was read.

    words    V different ones; those known before, then by falling frequency
    counts   int64[V]  occurrences of each here
    tokens   int32[n]  the words of all sentences, one after the other
    ends     int64[S]  where each sentence ends in `tokens`
    read     tokens of the corpus, those left out among them
    phrases  that were joined; None where nobody asked for them
    """

    words: Texts
    counts: Int64
    tokens: Int32
    ends: Int64
    read: int
    phrases: PhraseTable | None = None


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
    phrases: PhraseTable | None = None,
    finder: Phrases | None = None,
) -> Sentences:
    """Read a corpus to its end.

    Parameters
    ----------
    source : the texts, each a sentence
    analyzer : without n-grams
    min_count : words that occur less often are left out, unless known
    most : the most frequent words to keep, beside the known; None for all
    known : words that come first, in their order, though they may not occur
    fixed : no others
    memory : bytes of ids to hold; more goes to a temporary file
    phrases : joined before words are left out; None: none
    finder : finds the phrases in this corpus; used where `phrases` is None

    Raises
    ------
    DataError
        No word is left, a text that is not UTF-8, and what reading the corpus raises.
    SettingsError
        The analyzer makes n-grams.
    """
    if analyzer.ngrams != (1, 1) or analyzer.char_ngrams is not None:
        raise SettingsError("word vectors are made of words: expected an analyzer without n-grams")
    words, tokens, ends, counts = read_ids(source, analyzer, threads, memory)
    read = len(tokens)
    if phrases is not None or finder is not None:
        if phrases is not None:
            joined, tokens = phrases.join(words.to_strings(), tokens, ends)
        elif finder is not None:
            joined, tokens = finder.learn(words.to_strings(), tokens, ends)
            phrases = finder.learned
        words, counts = Texts.from_strings(joined), occurrences(tokens, len(joined))
    kept, mapping = _chosen(words, counts, min_count, most, known, fixed)
    tokens = _renumbered(tokens, ends, mapping)
    if np.diff(ends, prepend=0).max(initial=0) < 2:
        raise DataError(
            "no row of the corpus has two words that are kept: expected rows of several, or a "
            "lower min_count"
        )
    found = np.zeros(len(kept), np.int64)
    np.add.at(found, mapping[mapping >= 0], counts[mapping >= 0])
    return Sentences(kept, found, tokens, ends, read, phrases)


def source_of(corpus: Any, text_column: str | Sequence[str] | None) -> TextSource:
    """A corpus as read_sentences takes it, of what the models' `fit` takes."""
    listed = isinstance(corpus, list | tuple)
    if listed and any(isinstance(part, str) and part.endswith(".parquet") for part in corpus):
        raise SettingsError(
            "strings in a list are sentences, and one ends in .parquet: give files as Path objects"
        )
    return open_texts(corpus, text_column)


def read_ids(
    source: TextSource, analyzer: Analyzer, threads: int, memory: int
) -> tuple[Texts, Int32, Int64, Int64]:
    """The different words of a corpus, its tokens as their ids, where each text ends, and how
    often each word occurs. Arguments and errors as in read_sentences."""
    lexicon = Lexicon(analyzer)
    with source.located():
        tokens, lengths, counts = _encoded(lexicon, source.slices(), threads, memory)
    return lexicon.terms(), tokens, np.cumsum(lengths), counts


def _encoded(
    lexicon: Lexicon, slices: Iterable[Texts], threads: int, memory: int
) -> tuple[Int32, Int64, Int64]:
    """Tokens as ids of the lexicon, tokens of each text, occurrences of each id."""
    spill, lengths = SpillArray(np.int32, memory), SpillArray(np.int64, memory)
    counts = np.zeros(1024, np.int64)
    for _, (found,) in encode_slices(lexicon, slices, lambda row, levels: levels, threads):
        spill.append(found.values.copy())  # the kernel's buffer is longer
        lengths.append(np.diff(found.offsets))
        here = np.bincount(found.values)
        if len(here) > len(counts):
            counts = np.concatenate([counts, np.zeros(len(here), np.int64)])
        counts[: len(here)] += here
    sizes: Int64 = lengths.finish()
    return spill.finish(), sizes, counts[: len(lexicon)]


def _chosen(
    words: Texts, counts: Int64, min_count: int, most: int | None, known: Texts | None, fixed: bool
) -> tuple[Texts, Int32]:
    """The words of the vocabulary, and the new number of each word, -1 for what is left out."""
    mapping = np.full(len(words), -1, np.int32)
    strings = words.to_strings()
    first: list[str] = []
    if known is not None:
        first = known.to_strings()
        mapping[:] = Dictionary(known).columns(words)
    if not fixed:
        new = np.flatnonzero((mapping < 0) & (counts >= min_count))
        new = new[np.argsort(-counts[new], kind="stable")][:most]
        mapping[new] = np.arange(len(first), len(first) + len(new), dtype=np.int32)
        first += [strings[i] for i in new]
    if not (mapping >= 0).any():
        raise DataError(_nothing_left(len(words), counts, min_count, fixed))
    return Texts.from_strings(first), mapping


def _nothing_left(words: int, counts: Int64, min_count: int, fixed: bool) -> str:
    if not words:
        return "no words in the corpus, as the analyzer takes them: expected texts that have some"
    if fixed:
        return f"none of the corpus's {words:,} words is in the vocabulary"
    return (
        f"none of the corpus's {words:,} words occurs {min_count:,} times (the most frequent "
        f"{int(counts.max()):,}): expected a lower min_count, or more text"
    )


def _renumbered(tokens: Int32, ends: Int64, mapping: Int32) -> Int32:
    """The tokens that are kept under their new numbers, in place; `ends` moves along."""
    written = 0
    sentence = 0
    for start in range(0, len(tokens), _PIECE):
        piece = mapping[tokens[start : start + _PIECE]]
        is_kept = piece >= 0
        until = int(np.searchsorted(ends, start + len(piece), "right"))
        before = np.concatenate([[0], np.cumsum(is_kept)])
        ends[sentence:until] = written + before[ends[sentence:until] - start]
        kept = piece[is_kept]
        tokens[written : written + len(kept)] = kept
        written += len(kept)
        sentence = until
    ends[sentence:] = written
    return tokens[:written]
