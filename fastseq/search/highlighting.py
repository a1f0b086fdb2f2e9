"""Where the clauses of a query match in texts, for highlighting.

Words and phrases are those of the query's values (fastseq.query), analysed as the documents were.
Clauses that must not match and conditions on columns have no matches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastseq import query as values
from fastseq.errors import SettingsError, quoted
from fastseq.search.groups import has_character_groups, lone_characters
from fastseq.search.occurrences import NOTHING, Found, SlotTokens, Words
from fastseq.search.patterns import Match, Pattern, pattern_match
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import INDEX_TOKENIZER
from fastseq.text.spans import TokenSpans, string_tokens, token_spans
from fastseq.text.splitting import splitter_of
from fastseq.text.tables import Dictionary
from fastseq.text.vocabulary import SortedWords
from fastseq.types import Float64, Int32, Int64, Texts, Tokens, offsets_of, ranges

# terms -> int64[n]: the documents with each
Frequencies = Callable[[Texts], Int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Where clauses match in D texts.

    texts         the texts, in valid UTF-8
    offsets       int64[D + 1]  text d has the occurrences offsets[d] to offsets[d + 1]
    starts, ends  int64[n]  of each occurrence, in bytes of its text; ascending by start
    clauses       int32[n]  its clause, from 0 to below the matcher's `clauses`
    weights       float64[n]
    mark_offsets  int64[D + 1]  text d has the marks mark_offsets[d] to mark_offsets[d + 1]
    mark_starts, mark_ends  int64[m]  what is highlighted, in bytes; ascending by start
    """

    texts: Texts
    offsets: Int64
    starts: Int64
    ends: Int64
    clauses: Int32
    weights: Float64
    mark_offsets: Int64
    mark_starts: Int64
    mark_ends: Int64


@dataclass(frozen=True, slots=True)
class _Single:
    """A single character of a script that is indexed as bigrams: a bigram that begins with it, or
    one that ends with it where `ends`."""

    character: str
    ends: bool


_Slot = str | _Single | Pattern  # what matches: a term; a character in bigrams; words as written


@dataclass(slots=True)
class _Clause:
    """What scores as one.

    field     None: the text
    boost     the sum of its boosts, where it occurs several times
    constant  whether the boost alone is its weight
    """

    field: str | None
    boost: float
    constant: bool


class Matcher:
    """Finds the words of a query in texts.

    A word matches where it has the term of a word in the query; a phrase only as a whole; prefixes,
    wildcards, regular expressions and fuzzy words match words as written.
    """

    def __init__(
        self, query: values.Query | str | Mapping[str, float], analyzer: Analyzer,
        documents: int = 0, df: Frequencies | None = None, fields: Collection[str] = (),
        text: str | None = None,
    ) -> None:  # fmt: skip
        """
        Parameters
        ----------
        query : a query; a text; or a mapping from terms to weights, of which those above 0 count
        documents : of the index
        df : the documents with each term; None: all words weigh the same
        fields : of the index; a clause with another field, a column, has no matches
        text : another name of the text, for clauses with it as field

        Raises SettingsError for something else than a query, and for a regular expression that is
        wrong; RowError for what a tokenizer that is a function returns.
        """
        self.analyzer = analyzer = analyzer.resolved(INDEX_TOKENIZER)
        self._documents, self._df, self._fields = documents, df, frozenset(fields)
        self._text = text
        self._splitter = splitter_of(analyzer)
        self._slots: dict[_Slot, int] = {}
        self._words: dict[tuple[int, Words], None] = {}  # (clause, words): its alternatives
        self._clauses: list[_Clause] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._patterns: dict[int, Match] = {}
        self._is_single: dict[str, bool] = {}
        self._tokens: dict[str, list[tuple[str, ...]]] = {}
        if isinstance(query, Mapping):
            if not all(isinstance(term, str) for term in query):
                raise SettingsError("a query's terms must be strings")
            self._find_single(list(query))
            for term, weight in query.items():
                if weight > 0:
                    self._add_term(term, None, weight, False)
        else:
            query = values.Term(query) if isinstance(query, str) else query
            if not isinstance(query, values.Query):
                raise SettingsError(f"a query must be a query or a string, not {quoted(query)}")
            parts = list(values.walk(query))
            self._analyse(list(dict.fromkeys(text for part in parts for text in _texts_of(part))))
            self._add(query, 1.0, False)

    @property
    def clauses(self) -> int:
        """The number of clauses."""
        return len(self._clauses)

    # ---- from a query to words

    def _analyse(self, texts: Sequence[str]) -> None:
        """Find the terms of each word of the texts, none of a word that is removed."""
        for text, tokens in zip(texts, string_tokens(self.analyzer, texts), strict=True):
            self._tokens[text] = [token.terms for token in tokens]
        self._find_single(list({t for each in self._tokens.values() for own in each for t in own}))

    def _find_single(self, terms: Sequence[str]) -> None:
        if has_character_groups(self.analyzer):
            found = lone_characters(self._splitter, terms)
            self._is_single.update(zip(terms, found, strict=True))

    def _add(self, query: values.Query, boost: float, constant: bool) -> None:
        """Add the clauses of a query whose scores are multiplied by `boost`."""
        match query:
            case values.Boolean():
                for part in (*query.must, *query.should, *query.filter):
                    self._add(part, boost, constant)
            case values.Boost():
                self._add(query.query, boost * query.factor, constant)
            case values.ConstantScore():
                self._add(query.query, boost * query.score, True)
            case values.Term():
                self._add_text(query.text, query.field, boost, constant)
            case values.IndexTerm():
                self._find_single([query.term])
                self._add_term(query.term, query.field, boost, constant)
            case values.Phrase():
                self._add_phrases((query.text,), query.slop, query.field, boost, constant)
            case values.Synonyms():
                self._add_phrases(query.texts, 0, query.field, boost, constant)
            case values.Near():
                self._add_near(query, boost, constant)
            case values.Range():
                self._add_words(Words((self._slot(query),), (0,)), query.field, boost, True)
            case values.Prefix() | values.Wildcard() | values.Regex() | values.Fuzzy():
                slot = self._slot(replace(query, field=None))
                self._add_words(Words((slot,), (0,)), query.field, boost, constant)

    def _add_words(self, words: Words, field: str | None, boost: float, constant: bool) -> None:
        """Add words that are a clause by themselves."""
        self._words[self._clause(field, boost, constant, words), words] = None

    def _add_term(self, term: str, field: str | None, boost: float, constant: bool) -> None:
        slot = self._slot(_Single(term, True) if self._is_single.get(term) else term)
        self._add_words(Words((slot,), (0,)), field, boost, constant)

    def _add_text(self, text: str, field: str | None, boost: float, constant: bool) -> None:
        """Add each term of a text."""
        terms = self._tokens[text]
        low, high = self.analyzer.ngrams
        if high == 1:
            for term in (term for word in terms for term in word):
                self._add_term(term, field, boost, constant)
            return
        slots = [self._slot(word[0]) for word in terms if word]
        for n in range(low, high + 1):
            for first in range(len(slots) - n + 1):
                words = Words(tuple(slots[first : first + n]), tuple(range(n)))
                self._add_words(words, field, boost, constant)

    def _add_phrases(
        self, texts: Sequence[str], slop: int, field: str | None, boost: float, constant: bool
    ) -> None:
        """Add texts as the alternatives of one clause."""
        if self.analyzer.has_ngrams:  # such an index has no positions
            for text in texts:
                self._add_text(text, field, boost, constant)
            return
        found = {self._phrase(text, slop) for text in texts}
        alternatives = sorted((words for words in found if words.slots), key=str)
        if alternatives:
            clause = self._clause(field, boost, constant, *alternatives)
            self._words.update(dict.fromkeys((clause, words) for words in alternatives))

    def _phrase(self, text: str, slop: int = 0) -> Words:
        """The words of a phrase; a lone one is a word of the text, not a part of one."""
        terms = [(at, word[0]) for at, word in enumerate(self._tokens[text]) if word]
        alone = len(terms) == 1
        slots = [
            self._slot(_Single(term, alone) if self._is_single.get(term) else term)
            for _, term in terms
        ]
        return Words(tuple(slots), tuple(at - terms[0][0] for at, _ in terms), 0 if alone else slop)

    def _add_near(self, query: values.Near, boost: float, constant: bool) -> None:
        slots = tuple(slot for text in query.texts for slot in self._phrase(f"{text}").slots)
        if len(slots) <= 1 or self.analyzer.has_ngrams:
            for text in query.texts:
                self._add_text(text, query.field, boost, constant)
            return
        words = Words(slots, (0,) * len(slots), 0, query.distance, query.in_order)
        self._add_words(words, query.field, boost, constant)

    def _slot(self, what: _Slot) -> int:
        known = self._slots.get(what)
        if known is None:
            known = self._slots[what] = len(self._slots)
            if isinstance(what, values.Query):
                found = pattern_match(what, self._splitter)
                if found is not None:
                    self._patterns[known] = found
        return known

    def _clause(self, field: str | None, boost: float, constant: bool, *key: object) -> int:
        """The number of a clause; one that occurs again adds its boost."""
        field = None if field == self._text else field
        whole = (field, constant, *key)
        known = self._numbers.get(whole)
        if known is None:
            known = self._numbers[whole] = len(self._clauses)
            self._clauses.append(_Clause(field, 0.0, constant))
        self._clauses[known].boost += boost
        return known

    # ---- in texts

    def match(self, texts: Texts, field: str | None = None) -> Matches:
        """Where the query matches in texts.

        field : the name of these texts' column: clauses of a field match in the field's alone

        Raises InvalidTextError for a text that is not UTF-8, unless the analyzer replaces; RowError
        for what a tokenizer that is a function returns.
        """
        spans = token_spans(self.analyzer, texts, bool(self._patterns))
        tokens, starts, ends = spans.tokens, spans.starts, spans.ends
        if self.analyzer.ngrams != (1, 1):  # n-grams are made of the words that are not removed
            has_term = np.zeros(len(spans.word_terms), bool)
            has_term[_owners(spans.word_terms)[spans.word_terms.values >= 0]] = True
            kept = has_term[tokens.values]
            tokens = Tokens(tokens.values[kept], offsets_of(kept)[tokens.offsets])
            starts, ends = starts[kept], ends[kept]
        slots = SlotTokens(tokens, *self._pairs(spans), len(self._slots), len(spans.word_terms))
        found, clauses = [], []
        for clause, words in self._words:
            own = self._clauses[clause]
            if own.field is None or (own.field == field and field in self._fields):
                each = slots.find(words)
                if each is NOTHING:
                    continue
                weights = np.ones(len(each.first)) if own.constant else each.weights
                found.append(each._replace(weights=weights * own.boost))
                clauses.append(np.full(len(each.first), clause, np.int32))
        return self._located(spans.texts, tokens.offsets, starts, ends, found, clauses)

    def _pairs(self, spans: TokenSpans) -> tuple[Int64, Int64, Float64]:
        """(words, slots, weights): each slot that a word of the texts matches, once."""
        word_terms = spans.word_terms
        known = word_terms.values >= 0
        owners, terms = _owners(word_terms)[known], word_terms.values[known]
        pairs: list[tuple[Int64, Int64, Float64]] = []
        names = [what for what in self._slots if isinstance(what, str)]
        if names:
            found = Dictionary(Texts.from_strings(names)).columns(spans.terms)[terms]
            own, column = owners[found >= 0], found[found >= 0]
            numbers = np.array([self._slots[name] for name in names])
            pairs.append((own, numbers[column], self._idf(Texts.from_strings(names))[column]))
        if len(names) < len(self._slots) and len(terms):
            words, slots = self._other_pairs(spans, owners, terms)
            distinct = np.unique(words)
            rows = np.isin(owners, distinct)
            used, places = np.unique(terms[rows], return_inverse=True)
            largest = np.zeros(len(word_terms))
            np.maximum.at(largest, owners[rows], self._idf(_taken(spans.terms, used))[places])
            pairs.append((words, slots, largest[words]))
        if not pairs:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        words, slots, weights = (np.concatenate(each) for each in zip(*pairs, strict=True))
        _, once = np.unique(words * len(self._slots) + slots, return_index=True)
        return words[once], slots[once], weights[once]

    def _other_pairs(self, spans: TokenSpans, owners: Int64, terms: Int32) -> tuple[Int64, Int64]:
        """(words, slots) of the slots that are not terms. owners, terms: of each word with a term
        its number and the term's."""
        words: list[Int64] = [np.empty(0, np.int64)]
        slots: list[Int64] = [np.empty(0, np.int64)]
        single = [what for what in self._slots if isinstance(what, _Single)]
        strings = spans.terms.to_strings() if single else []
        for what in single:
            wanted = np.zeros(len(spans.terms), bool)
            wanted[self._with_character(what, strings)] = True
            words.append(owners[wanted[terms]])
            slots.append(np.full(len(words[-1]), self._slots[what]))
        if self._patterns:
            numbers: dict[str, list[int]] = {}
            for number in np.unique(owners).tolist():
                numbers.setdefault(spans.words[number], []).append(number)
            listed = list(numbers.values())
            sorted_words = SortedWords(Texts.from_strings(numbers))
            for slot, match in self._patterns.items():
                found = [number for id in match(sorted_words)[0].tolist() for number in listed[id]]
                words.append(np.array(found, np.int64))
                slots.append(np.full(len(found), slot))
        return np.concatenate(words), np.concatenate(slots)

    def _with_character(self, single: _Single, terms: Sequence[str]) -> list[int]:
        """The numbers of the terms that a single character is, or is a part of."""
        character = single.character
        found = [i for i, term in enumerate(terms) if term == character]
        near = [
            (i, term.removeprefix(character)) for i, term in enumerate(terms)
            if term.startswith(character) and term != character
        ]  # fmt: skip
        if single.ends:
            near += [
                (i, term.removesuffix(character)) for i, term in enumerate(terms)
                if term.endswith(character) and term != character
            ]  # fmt: skip
        others = lone_characters(self._splitter, [other for _, other in near])
        return found + [i for (i, _), is_one in zip(near, others, strict=True) if is_one]

    def _idf(self, terms: Texts) -> Float64:
        """float64[n]: ln(1 + (N - df + ½) / (df + ½)) of each term; 1 without frequencies."""
        if self._df is None:
            return np.ones(len(terms))
        df = np.minimum(self._df(terms), self._documents)
        idf: Float64 = np.log1p((self._documents - df + 0.5) / (df + 0.5))
        return idf

    def _located(
        self, texts: Texts, offsets: Int64, starts: Int64, ends: Int64, found: Sequence[Found],
        clauses: Sequence[Int32],
    ) -> Matches:  # fmt: skip
        """The places of what was found in terms of tokens."""
        if not found:
            found, clauses = [NOTHING], [np.empty(0, np.int32)]
        first, last, weights, marked, until, slots = (
            np.concatenate(each) for each in zip(*found, strict=True)
        )
        clause = np.concatenate(clauses)
        begin, end = starts[first], ends[last]
        order = np.lexsort((clause, end, begin, _texts_with(offsets, first)))
        order = order[begin[order] < end[order]]
        mark_starts, mark_ends = starts[marked], ends[marked].copy()
        joined = until >= 0
        mark_ends[joined] = np.maximum(mark_ends[joined], starts[until[joined]])
        of_marks = _texts_with(offsets, marked)
        singles = {slot: what for what, slot in self._slots.items() if isinstance(what, _Single)}
        if singles:
            base = texts.offsets[of_marks]
            for at in np.flatnonzero(np.isin(slots, list(singles)) & ~joined).tolist():
                left, right = int(base[at] + mark_starts[at]), int(base[at] + mark_ends[at])
                what, bigram = singles[int(slots[at])], texts.data[left:right].tobytes()
                character = what.character.encode()
                if bigram.startswith(character):
                    mark_ends[at] = mark_starts[at] + len(character)
                elif bigram.endswith(character):
                    mark_starts[at] = mark_ends[at] - len(character)
        in_order = np.lexsort((mark_ends, mark_starts, of_marks))
        in_order = in_order[mark_starts[in_order] < mark_ends[in_order]]
        count = len(texts)
        return Matches(
            texts,
            offsets_of(np.bincount(_texts_with(offsets, first[order]), minlength=count)),
            begin[order], end[order], clause[order], weights[order],
            offsets_of(np.bincount(of_marks[in_order], minlength=count)),
            mark_starts[in_order], mark_ends[in_order],
        )  # fmt: skip


def _texts_of(query: values.Query) -> tuple[str, ...]:
    """The texts of a query that are analysed."""
    match query:
        case values.Term() | values.Phrase():
            return (query.text,)
        case values.Near() | values.Synonyms():
            return query.texts
    return ()


def _owners(tokens: Tokens) -> Int64:
    """int64[n]: the text of each token."""
    return np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))


def _texts_with(offsets: Int64, tokens: Int64) -> Int64:
    """The text of some tokens."""
    found: Int64 = np.searchsorted(offsets, tokens, "right") - 1
    return found


def _taken(texts: Texts, numbers: Int32) -> Texts:
    """Some of the texts."""
    lengths = np.diff(texts.offsets)[numbers]
    return Texts(texts.data[ranges(texts.offsets[numbers], lengths)], offsets_of(lengths))
