"""Phrases: neighbouring words that occur together more often than by chance, joined to one word.

    phrases = Phrases(threshold=10.0).fit("corpus.parquet")
    phrases.phrases_[:3]                       # (phrase, score, count), the best first
    phrases.transform([["in", "new", "york"]])  # [["in", "new_york"]]

Source: Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
Compositionality", section 4, with the scale of gensim; Bouma 2009, "Normalized (Pointwise) Mutual
Information in Collocation Extraction".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Self

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.estimator import (
    THREADS,
    BaseEstimator,
    Choice,
    Instance,
    Real,
    Size,
    Whole,
    Words,
    parameter,
    plain,
)
from fastseq.kernels.text import ngrams as kernels
from fastseq.models.word_vectors.sampling import occurrences
from fastseq.models.word_vectors.sentences import read_ids, source_of
from fastseq.settings import parse_size, thread_count
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import FEATURES_TOKENIZER
from fastseq.text.tables import KeyTable
from fastseq.threads import Team
from fastseq.types import Float64, Int32, Int64, UInt8, UInt64
from fastseq.vectors.phrases import Phrase, PhraseTable, connectors

SCORINGS = ("default", "npmi")
_KEY_BYTES = 32  # of memory per pair: its key and count, and merging
_LEAST = 1 << 16  # pairs held at a time, at least
_LEFT, _WORD = np.uint64(32), np.uint64(0xFFFFFFFF)


class Phrases(BaseEstimator["PhraseTable"]):
    """Finds phrases in a corpus and joins them in other texts.

    A pair of neighbours a, b that occurs count(ab) times is a phrase where its score is above the
    threshold. Phrases are joined from left to right, each word in one of them at most; a second
    pass makes phrases of phrases. Pairs do not cross the end of a text.

    Attributes
    ----------
    phrases_ : list of (phrase, score, count), the best first
    passes_ : the phrases of each pass, with their parts
    """

    min_count: int = parameter(
        default=5, check=Whole(0), help="Number of occurrences that a pair must exceed.",
        notes="With npmi as many are enough.",
    )  # fmt: skip
    threshold: float = parameter(default=10.0, check=Real(), help="Minimum score of a phrase.")
    scoring: str = parameter(
        default="default", check=Choice(SCORINGS),
        help="Score: word2vec's, or normalised pointwise mutual information (-1 to 1).",
        notes='"default": (count(ab) - min_count) N / (count(a) count(b)), N being the number of '
        'different words and pairs; "npmi": ln(p(ab) / (p(a) p(b))) / -ln p(ab).',
    )  # fmt: skip
    passes: int = parameter(
        default=1, check=Whole(1, 17), help="Number of passes; further passes join longer phrases.",
        notes="Phrases have up to 2 ** passes words.",
    )  # fmt: skip
    common_words: Collection[str] = parameter(
        default=(), check=Words(), metavar="W,W",
        help="Words that may occur inside a phrase, such as of,the,and.",
        notes='They neither begin nor end one ("bank of america") and are not counted as '
        "neighbours.",
    )  # fmt: skip
    analyzer: Analyzer | None = parameter(
        default=None, check=Instance(Analyzer), help="Analyzer that splits text into words.",
        none=f"Analyzer(tokenizer={FEATURES_TOKENIZER!r})",
    )  # fmt: skip
    threads: int | None = parameter(
        default=None, check=THREADS, help="Number of threads.", none="all cores", run=True
    )
    memory: str | int = parameter(
        default="1GB", check=Size(), run=True, metavar="SIZE",
        help="Working memory for the data, such as 256MB.",
        notes="More goes to a temporary file, or takes several readings of it.",
    )  # fmt: skip

    def fit(self, corpus: Any, *, text_column: str | Sequence[str] | None = None) -> Self:
        """Find the phrases of a corpus: Parquet files, a table or strings, as Word2Vec.fit takes.

        Raises SettingsError for a setting out of its range, DataError where the corpus cannot be
        read or has no words.
        """
        self.check()
        words, tokens, ends, _ = read_ids(
            source_of(corpus, text_column),
            (self.analyzer or Analyzer()).resolved(FEATURES_TOKENIZER),
            thread_count(self.threads), parse_size(self.memory),
        )  # fmt: skip
        if not len(tokens):
            raise DataError("no words in the corpus after analysis")
        self.learn(words.to_strings(), tokens, ends)
        return self

    def learn(self, words: list[str], tokens: Int32, ends: Int64) -> tuple[list[str], Int32]:
        """Find the phrases of a text given as ids, and join them in place.

        words   different strings
        tokens  int32[n], ids of `words`; overwritten
        ends    int64[S], the end of each sentence in `tokens`; changed in place

        Returns the words, new ones at the end, and the remaining tokens, a part of `tokens`.
        """
        common = sorted(self.common_words)
        names = ("min_count", "threshold", "scoring", "passes")
        settings = {**{n: plain(getattr(self, n)) for n in names}, "common_words": common}
        table, team = PhraseTable(settings, []), Team(thread_count(self.threads))
        for _ in range(self.passes):
            found = self._find(words, tokens, ends, team)
            if not found:
                break
            table.passes_.append(found)
            words, tokens = table.join_pass(found, words, tokens, ends)
        self._learned = table
        return words, tokens

    def _find(self, words: list[str], tokens: Int32, ends: Int64, team: Team) -> list[Phrase]:
        """The phrases of one pass, the best first."""
        connector = connectors(words, self.common_words)
        lefts = KeyTable(1024 if len(connector) else 1)
        progress = np.zeros(1, np.int64)
        if len(connector):
            while not kernels.intern_lefts(*lefts.arrays, progress, tokens, ends, connector):
                lefts.grow()
        least = self.min_count + (self.scoring == "default")  # below, no score is above zero
        if self.threshold < 0 and self.scoring == "default":
            least = 1
        keys, counts, distinct = _counted(
            tokens, ends, connector, lefts.slots, team, parse_size(self.memory), least
        )
        often = occurrences(tokens, len(words))
        lefts_of, rights = (keys >> _LEFT).astype(np.int64), (keys & _WORD).astype(np.int64)
        single = often > 0
        if len(connector):
            single &= connector == 0
        scores = self._scores(
            often[_firsts(lefts_of, lefts.keys, len(words))], often[rights], counts,
            int(single.sum()) + distinct, len(tokens),
        )  # fmt: skip
        chosen = np.flatnonzero(scores > self.threshold)
        chains = _chains(lefts_of[chosen], lefts.keys, len(words))
        found = [
            Phrase((*(words[i] for i in chain), words[right]), score, count)
            for chain, right, score, count in zip(
                chains, *(a[chosen].tolist() for a in (rights, scores, counts)), strict=True
            )
        ]
        return sorted(found, key=lambda one: (-one.score, one.parts))

    def _scores(
        self, first: Int64, second: Int64, pairs: Int64, distinct: int, total: int
    ) -> Float64:
        """float64[n]: the scores of pairs, from the occurrences of their words and themselves."""
        a, b, ab = (counts.astype(np.float64) for counts in (first, second, pairs))
        if self.scoring == "default":
            scores: Float64 = (ab - self.min_count) / (a * b) * distinct
            return scores
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.log(ab / total / (a / total * (b / total))) / -np.log(ab / total)
        return np.where(np.isnan(scores), -np.inf, scores)

    @property
    def passes_(self) -> list[list[Phrase]]:
        """The phrases of each pass, the best first. Raises NotFittedError before `fit`."""
        return self.learned.passes_

    @property
    def phrases_(self) -> list[tuple[str, float, int]]:
        """(phrase, score, count), the best first. Raises NotFittedError before `fit`."""
        return self.learned.phrases_

    def join(self, words: list[str], tokens: Int32, ends: Int64) -> tuple[list[str], Int32]:
        """Join the phrases in another text. Arguments and results as in `learn`."""
        return self.learned.join(words, tokens, ends)

    def to_array(self) -> UInt8:
        """Settings and phrases as folders of vectors store them: JSON in UTF-8, uint8[n]."""
        return self.learned.to_array()

    @classmethod
    def from_array(cls, array: Any) -> Self:
        """Restore what `to_array` returned. Raises FormatError for anything else."""
        table = PhraseTable.from_array(array)
        try:
            made = cls.from_settings(table.settings)
            made.check()
        except (ValueError, TypeError) as error:
            raise FormatError(f"damaged vectors: phrases that cannot be read ({error})") from None
        made._learned = table
        return made

    def transform(self, sentences: Iterable[Sequence[str]]) -> list[list[str]]:
        """Lists of words with the phrases joined: ["new", "york"] becomes ["new_york"].

        Raises NotFittedError before `fit`, DataError for a sentence that is a string.
        """
        return self.learned.transform(sentences)


def _firsts(lefts: Int64, keys: UInt64, words: int) -> Int64:
    """The first word of each left part."""
    firsts = lefts.copy()
    while len(longer := np.flatnonzero(firsts >= words)):
        firsts[longer] = (keys[firsts[longer] - words] >> _LEFT).astype(np.int64)
    return firsts


def _chains(lefts: Int64, keys: UInt64, words: int) -> list[list[int]]:
    """The words of each left part."""
    chains = []
    for left in lefts.tolist():
        chain = []
        while left >= words:
            key = int(keys[left - words])
            chain.append(key & 0xFFFFFFFF)
            left = key >> 32
        chains.append([left, *reversed(chain)])
    return chains


def _counted(
    tokens: Int32, ends: Int64, connector: UInt8, lefts: UInt64, team: Team, memory: int,
    least: int,
) -> tuple[UInt64, Int64, int]:  # fmt: skip
    """The keys, ascending, and occurrences of pairs that occur at least `least` times, and the
    number of different pairs.

    Keys are partitioned by their hash; each thread sorts what fits into its share of the memory,
    one partition at a time.
    """
    capacity = min(max(memory // (_KEY_BYTES * team.threads), _LEAST), len(tokens) + 1)
    parts = max(team.threads, -(-len(tokens) * 9 // (capacity * 8)))
    kept = [(np.zeros(0, np.uint64), np.zeros(0, np.int64), 0)] * parts

    def count(part: int) -> None:
        keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        found, place = np.empty(capacity, np.uint64), np.array([0, 0, -1], np.int64)
        n = capacity
        while n == capacity:
            n = kernels.collect_pairs(found, place, tokens, ends, connector, lefts, part, parts)
            some = found[:n]
            some.sort()
            occurrences = np.empty(n, np.int64)
            distinct = kernels.count_runs(occurrences, some)
            keys, counts = _merged(keys, counts, some[:distinct], occurrences[:distinct])
        often = counts >= least
        kept[part] = keys[often], counts[often], len(keys)

    team.run(count, parts)
    keys = np.concatenate([keys for keys, _, _ in kept])
    counts = np.concatenate([counts for _, counts, _ in kept])
    order = np.argsort(keys)
    return keys[order], counts[order], sum(distinct for _, _, distinct in kept)


def _merged(keys: UInt64, counts: Int64, more: UInt64, of_more: Int64) -> tuple[UInt64, Int64]:
    """Merge two ascending lists of different keys with their counts."""
    if not len(keys):
        return more.copy(), of_more.copy()
    both = np.concatenate([keys, more])
    order = np.argsort(both, kind="stable")
    both, total = both[order], np.concatenate([counts, of_more])[order]
    starts = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]]))
    return both[starts], np.add.reduceat(total, starts)
