"""What an index that accepts changes must hold, by definition: a dictionary of the documents, a
freshly built index of them, and the hits of naive scorers."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq import BM25, TFIDF, Analyzer, BoW, FastseqError, FormatError, Index
from fastseq.search.ranking import RankingModel
from fastseq.store.folder import read_manifest, verify
from tests.naive import ranking as naive
from tests.positions import positions_of

ANALYZER = Analyzer(tokenizer="space")
GOLDEN_ANALYZER = Analyzer(tokenizer="word")
WORDS = [f"w{number}" for number in range(12)]
MODELS: list[RankingModel] = [
    BM25(),
    *(BM25(variant=name) for name in BM25.VARIANTS[1:]),
    BM25(0.9, 0.4),
    BM25(b=0),
    TFIDF(),
    TFIDF("Lpc.atn"),
    TFIDF("nnn.lpc"),
    BoW(),
    BoW(cosine=True),
]
QUERIES: list[str | dict[str, float]] = [
    "w0",
    "w1 w2 w2",
    "w3 w4 w5 never",
    "all w0 w9",
    "never",
    "",
    " ".join(WORDS),
    {"w1": -1.5, "w2": 0.25},
    {"w0": -1.0, "all": -2.0, "w11": 1.0},
    {"w3": 0.0, "w4": 1e-3, "never": 2.0},
    {f"w{number}": float(number - 6) for number in range(12)},
]
DEPTHS = (1, 3, 10, 1000)
FEW: dict[str, Any] = {
    "models": MODELS[:1],
    "queries": ["all w0 w9", "w3 w4 never tea cat", {"w1": -1.5, "w2": 0.25, "often": 1.0}],
    "depths": (1000,),
}

Row = dict[str, Any]
Rows = list[Row]


class Documents:
    """The documents of an index, in the order of their last addition, by id."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._by_id: dict[Any, Row] = {}
        self.add(rows)

    @property
    def rows(self) -> Rows:
        return list(self._by_id.values())

    @property
    def ids(self) -> list[Any]:
        return list(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: Any) -> bool:
        return id in self._by_id

    def add(self, rows: Iterable[Row]) -> int:
        """Returns how many replaced another."""
        replaced = 0
        for row in rows:
            replaced += self._by_id.pop(row["id"], None) is not None
            self._by_id[row["id"]] = row
        return replaced

    def delete(self, ids: Iterable[Any]) -> int:
        return sum(self._by_id.pop(id, None) is not None for id in ids)

    def copy(self) -> Documents:
        return Documents(self.rows)


def some_rows(ids: Iterable[Any], seed: int = 0) -> Rows:
    """Rows of a few random words each, now and then one of them often; `all` is in every one."""
    found = []
    for id in ids:
        chance = np.random.default_rng([seed, zlib.crc32(repr(id).encode())])
        words = [WORDS[i] for i in chance.integers(0, len(WORDS), chance.integers(0, 6))]
        if chance.random() < 0.1 and words:
            words += [words[0]] * int(chance.choice([14, 15, 254, 255, 700]))
        found.append({"id": id, "text": " ".join(["all", *words]), "year": 1900 + seed})
    return found


def table_of(rows: Rows, id_type: pa.DataType | None = None) -> pa.Table:
    kind = pa.int64() if id_type is None else id_type
    schema = pa.schema([("id", kind), ("text", pa.string()), ("year", pa.int64())])
    return pa.Table.from_pylist(rows, schema=schema)


def built(rows: Rows, path: Path, **settings: Any) -> Index:
    settings = {"analyzer": ANALYZER, "threads": 1, **settings}
    return Index.build(table_of(rows), path, **settings)


def documents_of(index: Index) -> Rows:
    """The stored columns of the documents that are not deleted, in order."""
    collection = index._collection
    rows = [
        leaf.first_row
        + (np.arange(leaf.segment.documents) if leaf.live is None else np.flatnonzero(leaf.live))
        for leaf in collection.leaves
    ]
    found: Rows = collection.take(np.concatenate([np.empty(0, np.int64), *rows])).to_pylist()
    return found


Postings = dict[str, list[tuple[int, list[int]]]]  # of each term: (row, positions) by document


def postings_of(index: Index, field: str = "") -> Postings:
    """The postings of the text or of a field: live documents alone, numbered without the others."""
    found: Postings = {}
    first = 0
    for leaf in index._collection.leaves:
        own = leaf.of_field(field) if field else leaf
        segment = own.segment
        live = np.ones(segment.documents, bool) if own.live is None else own.live != 0
        assert (own.documents, own.tokens) == (live.sum(), segment.lengths[live].sum())
        rows = np.where(live, first + np.cumsum(live) - 1, -1).tolist()
        places = segment.postings.term_posting.tolist()
        for term, word in enumerate(segment.vocabulary.to_strings()):
            ends, positions = (array.tolist() for array in positions_of(segment, term))
            docs = segment.postings.docs[places[term] : places[term + 1]].tolist()
            for doc, start, end in zip(docs, ends, ends[1:], strict=False):
                if rows[doc] >= 0:
                    found.setdefault(word, []).append((rows[doc], positions[start:end]))
        first += own.documents
    return found


def postings_by_definition(texts: Iterable[str | None]) -> Postings:
    """The postings of texts of words between spaces."""
    found: Postings = {}
    for row, text in enumerate(texts):
        places: dict[str, list[int]] = {}
        for position, word in enumerate((text or "").split()):
            places.setdefault(word, []).append(position)
        for word, positions in places.items():
            found.setdefault(word, []).append((row, positions))
    return found


def assert_postings(index: Index, documents: Documents, *fields: str) -> None:
    """The postings and positions of the text and of fields are those of these documents."""
    for field in ("", *fields):
        texts = [row[field or "text"] for row in documents.rows]
        assert postings_of(index, field) == postings_by_definition(texts), field or "text"


Hits = dict[tuple[int, int], tuple[list[list[Any]], list[list[bytes]]]]


def hits_of(
    index: Index,
    models: Sequence[RankingModel] = MODELS,
    queries: Sequence[str | Mapping[str, float]] = QUERIES,
    depths: Sequence[int] = DEPTHS,
    threads: int = 1,
) -> Hits:
    """The ids and the bits of the scores of all hits, by the number of the model and by k."""
    found = {}
    for number, model in enumerate(models):
        for k in depths:
            hits = index.search(queries, k=k, model=model, threads=threads)
            bits = [
                [score.tobytes() for score in scores[: len(ids)]]
                for scores, ids in zip(hits.scores, hits.ids, strict=True)
            ]
            found[number, k] = hits.ids, bits
    return found


def fresh_hits(rows: Rows, build: Callable[[Rows, Path], Index] = built, **asked: Any) -> Hits:
    """The hits of a new index of some documents."""
    if not rows:
        queries = asked.get("queries", QUERIES)
        none: Any = ([[]] * len(queries), [[]] * len(queries))
        models, depths = asked.get("models", MODELS), asked.get("depths", DEPTHS)
        return {(number, k): none for number in range(len(models)) for k in depths}
    with tempfile.TemporaryDirectory() as folder:
        return hits_of(build(rows, Path(folder) / "fresh"), **asked)


def assert_holds(index: Index, documents: Documents, expected: Hits | None = None) -> None:
    """The index has exactly these documents, and the hits of a new index of them."""
    rows = documents.rows
    assert len(index) == len(rows)
    assert documents_of(index) == rows
    assert hits_of(index) == (fresh_hits(rows) if expected is None else expected)


def assert_tidy(path: Path) -> None:
    """The folder is intact, and has no files but those of its commit."""
    assert verify(path) == []
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert files - {"lock"} == {"manifest.json", *read_manifest(path).files}
    assert all(any(folder.iterdir()) for folder in path.iterdir() if folder.is_dir())


def assert_near(index: Index, documents: Documents, query: Any, k: int, model: Any) -> None:
    """Hits agree with the naive float64 scorer: the scores, and what is among them."""
    texts = [(row["text"] or "").split() for row in documents.rows]
    asked = query if isinstance(query, Mapping) else query.split()
    scores, found = naive_scores(model, texts, asked)
    hits = index.search(query, k=k, model=model, threads=1)
    ids = documents.ids
    place = {id: row for row, id in enumerate(ids)}
    rows = [place[id] for id in hits.ids[0]]
    assert len(rows) == min(k, int(found.sum()))
    assert found[rows].all()
    given = hits.scores[0][: len(rows)].astype(np.float64)
    # what was added up may cancel out
    weights = asked.values() if isinstance(asked, Mapping) else [1.0] * len(asked)
    size = max([1.0, *map(abs, scores.tolist())]) * max(1.0, sum(map(abs, weights)))
    np.testing.assert_allclose(given, scores[rows], rtol=1e-5, atol=2e-5 * size)
    left = found.copy()
    left[rows] = False
    if len(rows) and left.any():
        assert scores[left].max() <= given[-1] + 4e-5 * size


def naive_scores(model: RankingModel, texts: Sequence[Sequence[str]], query: Any) -> naive.Scores:
    if isinstance(model, BM25):
        return naive.bm25(texts, query, model.variant, model.k1, model.b, model.delta)
    if isinstance(model, TFIDF):
        return naive.smart(texts, query, model.smart)
    assert isinstance(model, BoW)
    return naive.bag_of_words(texts, query, model.cosine)


_known_hits: dict[str, Hits] = {}


def cached_hits(documents: Documents) -> Hits:
    """A few of `fresh_hits`, for states that are looked at again and again."""
    rows = documents.rows
    key = repr(rows)
    if key not in _known_hits:
        golden = bool(rows) and "tags" in rows[0]
        _known_hits[key] = fresh_hits(rows, build=built_golden if golden else built, **FEW)
    return _known_hits[key]


def built_golden(rows: Rows, path: Path) -> Index:
    """A new index like those of tests/golden/v1/words."""
    schema = pa.schema([
        ("id", pa.string()), ("text", pa.string()), ("year", pa.int32()),
        ("tags", pa.list_(pa.string())),
    ])  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schema)
    return Index.build(table, path, analyzer=GOLDEN_ANALYZER, threads=1)


def state_of(path: Path, states: Mapping[str, Documents | None]) -> str:
    """Which of the states a folder is in: documents, hits and all checksums. None: no index.

    Raises AssertionError where it is in none of them.
    """
    try:
        index = Index.open(path)
    except FormatError as error:
        if "damaged" in str(error) or "missing" in str(error):
            raise AssertionError(f"a damaged index: {error}") from error
        for name, documents in states.items():
            if documents is None:
                return name
        raise AssertionError(f"the index is gone: {error}") from error
    try:
        rows = documents_of(index)
        for name, documents in states.items():
            if documents is not None and rows == documents.rows:
                found = hits_of(index, **FEW)
                assert found == cached_hits(documents), "other hits than a new index has"
                assert verify(path) == []
                return name
    except FastseqError as error:
        raise AssertionError(f"a damaged index: {error}") from error
    raise AssertionError(f"a state that was never committed: {[row['id'] for row in rows]}")
