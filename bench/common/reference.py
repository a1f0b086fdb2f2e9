"""The reference that rankings are checked against before anything is timed.

Independent of every engine: Python's own regular expression, PyStemmer and NumPy in float64. The
analysis is `(?u)\\b\\w\\w+\\b` over lower-cased text, Lucene's 33 stop words, Porter2; the ranking
is BM25 in Lucene's form, every matching document scored. The inverted corpus is cached below
bench/out, since analysing half a million documents this way takes a quarter of a minute.

    python -m bench.common.reference CORPUS COLUMN FOLDER    writes it
"""

from __future__ import annotations

import array
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import Stemmer

from bench.common.harness import Check

LUCENE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
STOP_WORDS = tuple(LUCENE.split())
K1, B = 1.2, 0.75
WORDS = re.compile(r"(?u)\b\w\w+\b").findall
ARRAYS = ("docs", "tfs", "starts", "lengths")
CLOSE = 1e-5  # tolerance of scores, relative above 1


class Ranking(NamedTuple):
    """rows int32[Q, k], -1 past the last hit; scores float32[Q, k], 0 past the last hit."""

    rows: np.ndarray
    scores: np.ndarray


def workplace(corpus: Path, column: str, out: Path) -> Path:
    """The folder of the reference and the indexes of this corpus in its present state."""
    state = corpus.stat()
    key = f"{corpus.resolve()} {state.st_size} {state.st_mtime_ns} {column}"
    return out / f"{corpus.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def read_texts(corpus: Path, column: str) -> list[str]:
    """The column's strings; null becomes the empty one."""
    return [text or "" for text in pq.read_table(corpus, columns=[column])[column].to_pylist()]


def read_batches(corpus: Path, column: str, size: int, number: int) -> list[pa.Table]:
    """The first rows in batches of `size`, at most `number` of them: id column and text."""
    columns = [name for name in (id_column(corpus), column) if name is not None]
    table = pq.read_table(corpus, columns=columns)
    rows = min(len(table), size * number)
    return [table.slice(first, min(size, rows - first)) for first in range(0, rows, size)]


def id_column(corpus: Path) -> str | None:
    """The column that fastseq takes for the id, or None."""
    names = pq.read_schema(corpus).names
    return next((name for name in ("id", "doc_id", "_id") if name in names), None)


class Reference:
    """An exhaustive BM25 over one corpus.

    docs    int32[P]      documents of every term, ascending; term t has
                          docs[starts[t]:starts[t + 1]]
    tfs     int32[P]      its frequency in each of them
    starts  int64[V + 1]
    lengths int32[D]      tokens of each document
    """

    def __init__(self, arrays: dict[str, np.ndarray], vocabulary: dict[str, int]) -> None:
        self.docs, self.tfs = arrays["docs"], arrays["tfs"]
        self.starts, self.lengths = arrays["starts"], arrays["lengths"]
        self.vocabulary = vocabulary
        mean = self.lengths.mean() if len(self.lengths) else 1.0
        self.norm = K1 * (1 - B + B * self.lengths / max(mean, 1e-9))
        self._stem = stemmer()

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def postings(self) -> int:
        return len(self.docs)

    @staticmethod
    def of(texts: Iterable[str]) -> Reference:
        """Analyse and invert the texts."""
        stem, stop = stemmer(), set(STOP_WORDS)
        vocabulary: dict[str, int] = {}
        known: dict[str, int] = dict.fromkeys(stop, -1)
        values, lengths = array.array("i"), array.array("i")
        for text in texts:
            ids = []
            for word in WORDS(text.lower()):
                term = known.get(word)
                if term is None:
                    term = vocabulary.setdefault(stem(word), len(vocabulary))
                    known[word] = term
                if term >= 0:
                    ids.append(term)
            values.extend(ids)
            lengths.append(len(ids))
        length = np.array(lengths, np.int32)
        document = np.repeat(np.arange(len(length), dtype=np.int64), length)
        pairs, tfs = np.unique(
            np.array(values, np.int64) * max(len(length), 1) + document, return_counts=True
        )
        terms, docs = np.divmod(pairs, max(len(length), 1))
        starts = np.searchsorted(terms, np.arange(len(vocabulary) + 1))
        arrays = {
            "docs": docs.astype(np.int32),
            "tfs": tfs.astype(np.int32),
            "starts": starts.astype(np.int64),
            "lengths": length,
        }
        return Reference(arrays, vocabulary)

    @staticmethod
    def open(corpus: Path, column: str, folder: Path) -> Reference:
        """The reference of a corpus, cached in `folder`."""
        if not (folder / "counts.json").exists():
            made = Reference.of(read_texts(corpus, column))
            folder.mkdir(parents=True, exist_ok=True)
            for name in ARRAYS:
                np.save(folder / f"{name}.npy", getattr(made, name))
            counts = {
                "documents": made.documents,
                "postings": made.postings,
                "id_column": id_column(corpus),
            }
            (folder / "vocabulary.json").write_text(json.dumps(made.vocabulary))
            (folder / "counts.json").write_text(json.dumps(counts))  # last: the folder is complete
            return made
        arrays = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
        return Reference(arrays, json.loads((folder / "vocabulary.json").read_text()))

    def terms(self, query: str) -> Counter[int]:
        """The query's terms that the corpus has, with their frequency in the query."""
        stems = (self._stem(word) for word in WORDS(query.lower()) if word not in STOP_WORDS)
        return Counter(self.vocabulary[stem] for stem in stems if stem in self.vocabulary)

    def score(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """Every matching document, int32 ascending, and its score, float64."""
        total = np.zeros(self.documents)
        matched = np.zeros(self.documents, bool)
        for term, count in self.terms(query).items():
            at = slice(self.starts[term], self.starts[term + 1])
            docs, tfs = self.docs[at], self.tfs[at].astype(np.float64)
            idf = np.log(1 + (self.documents - len(docs) + 0.5) / (len(docs) + 0.5))
            total[docs] += count * idf * tfs / (tfs + self.norm[docs])
            matched[docs] = True
        rows = np.flatnonzero(matched).astype(np.int32)
        return rows, total[rows]


class Judge:
    """Compares rankings with the reference's scores for an even sample of the queries."""

    def __init__(self, reference: Reference, queries: Sequence[str], sample: int) -> None:
        size = min(sample, len(queries))
        self.asked = np.unique(np.linspace(0, len(queries) - 1, size).astype(int)).tolist()
        self.scored = [reference.score(queries[at]) for at in self.asked]
        self.terms = [len(reference.terms(queries[at])) for at in self.asked]

    def exact(self, k: int, ties_in_order: bool) -> Callable[[Ranking], Check]:
        """Require the same scores rank by rank, each document with its own score, none twice or
        missing; with `ties_in_order` documents of equal float32 score in the order of their rows.
        """
        return lambda ranking: self._exact(ranking, k, ties_in_order)

    def overlap(self, k: int, least: float) -> Callable[[Ranking], Check]:
        """Require a mean recall of the true top k of at least `least`."""
        return lambda ranking: self._overlap(ranking, k, least)

    def analysis(self, counts: np.ndarray) -> Check:
        """Check the number of distinct known terms of every query, int[Q]."""
        wrong = [at for at, n in zip(self.asked, self.terms, strict=True) if counts[at] != n]
        right = f"the known terms of {len(self.asked)} queries"
        return Check(not wrong, f"query {wrong[0]}: not its terms" if wrong else right)

    def _exact(self, ranking: Ranking, k: int, ties_in_order: bool) -> Check:
        worst = 0.0
        for at, (rows, scores) in zip(self.asked, self.scored, strict=True):
            hits = ranking.rows[at][ranking.rows[at] >= 0]
            given = ranking.scores[at][: len(hits)].astype(np.float64)
            best = np.sort(scores)[::-1][:k]
            if len(hits) != len(best) or len(np.unique(hits)) != len(hits):
                return Check(False, f"query {at}: {len(hits)} hits for {len(best)}, or one twice")
            if not np.isin(hits, rows).all():
                return Check(False, f"query {at}: a document without any query word")
            own = scores[np.searchsorted(rows, hits)]
            scale = np.maximum(1.0, best)
            off = np.max([np.abs(given - best) / scale, np.abs(given - own) / scale], initial=0.0)
            if not off <= CLOSE:
                return Check(False, f"query {at}: a score is off by {off:.2g}")
            worst = max(worst, float(off))
            drop = np.diff(ranking.scores[at][: len(hits)])
            if (drop > 0).any() or (ties_in_order and (np.diff(hits)[drop == 0] <= 0).any()):
                return Check(False, f"query {at}: hits out of order")
        return Check(
            True,
            f"the exact top {k} of {len(self.asked)} queries, scores within {worst:.1g}",
        )

    def _overlap(self, ranking: Ranking, k: int, least: float) -> Check:
        shares = []
        for at, (rows, scores) in zip(self.asked, self.scored, strict=True):
            wanted = min(k, len(scores))
            if not wanted:
                continue
            hits = np.unique(ranking.rows[at][ranking.rows[at] >= 0])
            hits = hits[np.isin(hits, rows)]
            bar = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
            own = scores[np.searchsorted(rows, hits)]
            shares.append(min(1.0, np.count_nonzero(own >= bar - CLOSE) / wanted))
        share = float(np.mean(shares)) if shares else 1.0
        return Check(
            share >= least,
            f"{share:.1%} of the true top {k} (mean of {len(shares)} queries; "
            f"at least {least:.0%} required)",
        )


def stemmer() -> Callable[[str], str]:
    stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
    return stem


def main() -> None:
    corpus, column, folder = sys.argv[1:]
    Reference.open(Path(corpus), column, Path(folder))


if __name__ == "__main__":
    main()
