"""The terms of texts and where in them each token is, for highlighting.

Words are *as written*: as the tokenizer returns them, lower-cased and folded, but neither stemmed
nor removed. Prefixes, wildcards and fuzzy words are compared with those. A token is a word; of
Chinese that is segmented, one of the words of its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastseq.text.lexicon import WordFilter, valid_texts
from fastseq.text.settings import INDEX_TOKENIZER, AnalysisSettings
from fastseq.text.splitting import splitter_of
from fastseq.text.tables import ByteTable
from fastseq.types import Int64, Texts, Tokens, offsets_of, ranges


@dataclass(frozen=True, slots=True, eq=False)
class TokenSpans:
    """The n tokens of D texts.

    texts       the texts as they were split: valid UTF-8
    tokens      the words of each text, by number; the place of a token in its text, from 0, is its
                position in an index
    starts      int64[n]  where in its text each token begins, in bytes
    ends        int64[n]  and ends; equal to its start where that is not known
    word_terms  the terms of each of the W words, by number, -1 for a word that is removed; several
                where terms are n-grams of characters
    terms       the distinct terms
    words       the W words as written, if asked for; pieces of Chinese may be equal
    """

    texts: Texts
    tokens: Tokens
    starts: Int64
    ends: Int64
    word_terms: Tokens
    terms: Texts
    words: list[str]


def token_spans(analyzer: AnalysisSettings, texts: Texts, words: bool = False) -> TokenSpans:
    """The tokens of texts with their spans in the original text, and their terms as in an index.

    A span has the whole characters that a token comes from, with marks that were removed: that of
    `fi` in `ﬁ` is the ligature. Of an analyzer with n-grams of words the terms are those of single
    words. Without a tokenizer that of an index is taken.

    words : whether to return the words as written

    Raises InvalidTextError for a text that is not UTF-8, unless the analyzer replaces; RowError for
    what a tokenizer that is a function returns.
    """
    analyzer = replace(analyzer.resolved(INDEX_TOKENIZER), ngrams=(1, 1))
    texts = valid_texts(texts, analyzer.on_invalid)
    split, starts, ends = splitter_of(analyzer).spans(texts)
    tokens = Tokens(split.ids, split.ends)
    word_terms, terms = _terms_of(analyzer, split.table)
    strings: list[str] = []
    if analyzer.segments and analyzer.char_ngrams is None:
        pieces, texts_of_pieces = _pieces(analyzer, split.table)
        tokens, starts, ends = _cut(pieces, texts_of_pieces, tokens, starts, ends, texts)
        word_terms = Tokens(word_terms.values, np.arange(len(word_terms.values) + 1))
        if words:
            distinct = texts_of_pieces.to_strings()
            strings = [distinct[i] for i in pieces.values.tolist()]
    elif words:
        strings = Texts(*split.table.texts()).to_strings()
    return TokenSpans(texts, tokens, starts, ends, word_terms, terms, strings)


class Token(NamedTuple):
    """A token of a string: its terms, none of a removed word; and its place in code points."""

    terms: tuple[str, ...]
    start: int
    end: int


def string_tokens(analyzer: AnalysisSettings, strings: Sequence[str]) -> list[list[Token]]:
    """The tokens of each of some short strings. Raises as `token_spans`."""
    spans = token_spans(analyzer, Texts.from_strings(strings))
    terms, word_terms = spans.terms.to_strings(), spans.word_terms
    words = [
        tuple(terms[i] for i in word_terms.values[first:last].tolist() if i >= 0)
        for first, last in pairwise(word_terms.offsets.tolist())
    ]
    numbers, starts, ends = (
        array.tolist() for array in (spans.tokens.values, spans.starts, spans.ends)
    )
    found: list[list[Token]] = []
    texts = spans.texts.to_strings()
    for text, (first, last) in zip(texts, pairwise(spans.tokens.offsets.tolist()), strict=True):
        sizes = offsets_of([len(character.encode()) for character in text]).tolist()
        place = {byte: at for at, byte in enumerate(sizes)}
        found.append([
            Token(words[numbers[i]], place[starts[i]], place[ends[i]]) for i in range(first, last)
        ])  # fmt: skip
    return found


def _terms_of(analyzer: AnalysisSettings, raw: ByteTable) -> tuple[Tokens, Texts]:
    """The terms of each raw word as numbers, -1 for none, and these terms."""
    every = Tokens(np.arange(len(raw), dtype=np.int32), np.arange(len(raw) + 1))
    filter = WordFilter(splitter_of(analyzer), gaps=analyzer.char_ngrams is None)
    if not (filter.active and len(raw)):
        return every, Texts(*raw.texts())
    filter.add(raw)
    assert filter.terms is not None
    return filter.renaming(None)(every.values, every.offsets), Texts(*filter.terms.texts())


def _pieces(analyzer: AnalysisSettings, raw: ByteTable) -> tuple[Tokens, Texts]:
    """The words of each raw word that is a run of Chinese, as numbers, and these words."""
    plain = replace(
        analyzer, stopwords="none", stemmer="none", normalization="none", min_length=None,
        max_length=None,
    )  # fmt: skip
    return _terms_of(plain, raw)


def _cut(
    pieces: Tokens, strings: Texts, tokens: Tokens, starts: Int64, ends: Int64, texts: Texts
) -> tuple[Tokens, Int64, Int64]:
    """The tokens as pieces of the raw words, by number, with their spans.

    The pieces of a token whose length in bytes was changed by folding have the span of the whole
    token.
    """
    lengths = np.diff(strings.offsets)[pieces.values]
    inner = offsets_of(lengths)  # where each piece begins, in all raw words
    first = inner[pieces.offsets]
    counts = np.diff(pieces.offsets)[tokens.values]
    values = ranges(pieces.offsets[tokens.values], counts)
    owners = np.repeat(np.arange(len(starts)), counts)
    same = (ends - starts == np.diff(first)[tokens.values])[owners]
    begin = starts[owners]
    at = begin + inner[values] - first[tokens.values[owners]]
    cut = Tokens(values.astype(np.int32), offsets_of(counts)[tokens.offsets])
    base = np.repeat(texts.offsets[:-1], np.diff(cut.offsets))
    data = np.append(texts.data, np.uint8(0))
    both = []
    for of_piece, of_token in ((at, begin), (at + lengths[values], ends[owners])):
        places = np.where(same, of_piece, of_token)
        for _ in range(3):  # folding may have changed the lengths of single characters
            places -= (data[base + places] & 0xC0) == 0x80
        both.append(places)
    return cut, both[0], both[1]
