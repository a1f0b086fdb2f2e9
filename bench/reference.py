"""The yardstick that answers are checked against before anything is timed.

Independent of every engine: Python's own regular expression, PyStemmer and NumPy in float64. The
analysis is `(?u)\\b\\w\\w+\\b` over lower-cased text, Lucene's 33 stop words, Porter2; the ranking
is BM25 in Lucene's form, every matching document scored. What it makes of a corpus is kept under
bench/out, since analysing half a million documents this way takes a quarter of a minute.

    python bench/reference.py CORPUS    makes it
"""

from __future__ import annotations

import array
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

LUCENE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
STOP_WORDS = tuple(LUCENE.split())
K1, B = 1.2, 0.75
WORDS = re.compile(r"(?u)\b\w\w+\b").findall
ARRAYS = ("docs", "tfs", "starts", "lengths")
CLOSE = 1e-5  # two scores nearer than this, relative above 1, are the same


def workplace(corpus: Path, column: str, out: Path) -> Path:
    """The folder that keeps what is made of this corpus, as it is now."""
    state = corpus.stat()
    key = f"{corpus.resolve()} {state.st_size} {state.st_mtime_ns} {column}"
    return out / f"{corpus.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def read_texts(corpus: Path, column: str) -> list[str]:
    """The column's strings; null is the empty one."""
    import pyarrow.parquet as pq

    return [text or "" for text in pq.read_table(corpus, columns=[column])[column].to_pylist()]


def id_column(corpus: Path) -> str | None:
    """The column that fastseq takes for the id, where there is one."""
    import pyarrow.parquet as pq

    names = pq.read_schema(corpus).names
    return next((name for name in ("id", "doc_id", "_id") if name in names), None)


class Reference:
    """An exhaustive BM25 over one corpus.

    docs    int32[P]      documents of every term, ascending; term t has
                          docs[starts[t]:starts[t + 1]]
    tfs     int32[P]      how often the term stands in them
    starts  int64[V + 1]
    lengths int32[D]      tokens of every document
    """

    def __init__(self, arrays: dict[str, np.ndarray], vocabulary: dict[str, int]) -> None:
        self.docs, self.tfs = arrays["docs"], arrays["tfs"]
        self.starts, self.lengths = arrays["starts"], arrays["lengths"]
        self.vocabulary = vocabulary
        mean = self.lengths.mean() if len(self.lengths) else 1.0
        self.norm = K1 * (1 - B + B * self.lengths / max(mean, 1e-9))
        self._stem = _stemmer()

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def postings(self) -> int:
        return len(self.docs)

    @staticmethod
    def of(texts: Iterable[str]) -> Reference:
        """Analyse and invert the texts."""
        stem, stop = _stemmer(), set(STOP_WORDS)
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
        """The reference of a corpus, from `folder` where it was made before."""
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
            (folder / "counts.json").write_text(json.dumps(counts))  # the last: all is there
            return made
        arrays = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
        return Reference(arrays, json.loads((folder / "vocabulary.json").read_text()))

    def terms(self, query: str) -> Counter[int]:
        """The query's terms that the corpus has, and how often each is asked for."""
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


def _stemmer() -> Callable[[str], str]:
    import Stemmer

    stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
    return stem


def main() -> None:
    from harness import OUT

    corpus = Path(sys.argv[1])
    column = sys.argv[2] if len(sys.argv) > 2 else "text"
    folder = workplace(corpus, column, OUT) / "reference"
    made = Reference.open(corpus, column, folder)
    print(f"{made.documents:,} documents, {made.postings:,} postings: {folder}")


if __name__ == "__main__":
    main()
