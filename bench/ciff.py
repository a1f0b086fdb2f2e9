"""PISA as the oracle of `fastseq export-ciff`: the same hits for BM25 from the exported file.

    python -m bench.ciff --data DATA

PISA's Python package reads such files only with pyciff, which has no wheels: it must be compiled
with Rust. So the file is read here, by its description, and written as the uncompressed inverted
index that PISA's tools begin with: each list is its length and its numbers, uint32. PISA compresses
it and searches with exact scores. Its BM25 is that of Robertson, with the factor k1 + 1 and an idf
of at least 1e-6. Compared are the scores of the best ten hits, and the hits but for ties.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.common.reference import K1, B
from bench.common.report import Parser, Report, optional
from fastseq import BM25, Analyzer, Index
from fastseq.search.query_words import analysed

K = 10
CLOSE = 1e-4  # relative: PISA's lengths and weights are float32
LEAST = 0.01  # scores of words that half of the documents have, 0 here, are not compared


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("ciff", options, ("pyterrier-pisa",))
    pisa = optional("pyterrier_pisa")
    if pisa is None:
        print("no pyterrier-pisa: nothing compared")
        return report.end()
    queries = pq.read_table(options.queries, columns=["text"])["text"].to_pylist()
    corpus = pq.read_table(options.corpus).slice(0, options.documents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = Index.build(corpus, folder / "index", analyzer=Analyzer.for_language("english"))
        index.to_ciff(folder / "index.ciff")
        names = write_pisa((folder / "index.ciff").read_bytes(), folder / "pisa")
        report.check(names == [str(id) for id in corpus["id"].to_pylist()], "the ids of documents")
        # one more, which may have the score of the last
        hits = index.search(queries, K + 1, BM25(K1, B, variant="robertson"))
        theirs = searched(pisa, folder / "pisa", index, queries)
    found = wrong = 0
    for ids, scores, (names, others) in zip(hits.ids, hits.scores, theirs, strict=True):
        own = scores[: len(ids)] * (K1 + 1)
        own = own[own > LEAST]
        n = min(len(own), K)
        found += n
        alone = np.abs(np.diff(own, append=0.0)) > CLOSE * own.max(initial=0)
        alone &= np.append(True, alone[:-1])
        same = len(names) >= n and np.allclose(own[:n], others[:n], rtol=CLOSE)
        wrong += not same or any(str(ids[i]) != names[i] for i in range(n) if alone[i])
    print(f"{len(queries):,} queries, {found:,} hits compared: {wrong} queries differ")
    report.results = {"queries": len(queries), "hits": found, "different": wrong}
    report.check(wrong == 0, f"{wrong} of {len(queries):,} queries have other hits in PISA")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"documents": 500})
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet, columns id and text")
    parser.add_file("--queries", "text/wiki_simple_queries.parquet", "Parquet, column text")
    parser.add_argument("--documents", type=int, default=50_000, help="of the corpus, the first")
    return parser.parse(arguments)


def searched(
    pisa: Any, path: Path, index: Index, queries: Sequence[str]
) -> list[tuple[list[str], np.ndarray]]:
    """(ids, scores) of PISA's hits of each query, which has the terms of the index's analyzer."""
    from pyterrier_pisa import _pisathon

    made = pisa.PisaIndex(str(path), stemmer="none", stops="none", threads=1)
    retriever = made.bm25(k1=K1, b=B, threads=1, query_weighted=True)
    terms, tokens = analysed(index._collection, queries)
    asked = []
    for number in range(len(queries)):
        own = tokens.values[tokens.offsets[number] : tokens.offsets[number + 1]].tolist()
        counts = Counter(terms[id] for id in own)
        asked.append((number, {term: float(count) for term, count in counts.items()}))
    size = len(asked) * K
    query, rank = np.empty(size, np.int32), np.empty(size, np.int32)
    name, score = np.empty(size, object), np.empty(size, np.float32)
    found = _pisathon.retrieve(
        retriever._ctxt, "ranked_or", asked, k=K, threads=1, pretokenised=True, query_weighted=1,
        result_qidxs=query, result_docnos=name, result_ranks=rank, result_scores=score,
    )  # fmt: skip
    places = np.searchsorted(query[:found], np.arange(len(asked) + 1))
    return [(name[a:b].tolist(), score[a:b]) for a, b in pairwise(places)]


def write_pisa(raw: bytes, path: Path) -> list[str]:
    """Write a CIFF file as an index of PISA; returns the ids of the documents."""
    from pyterrier_pisa import _pisathon

    path.mkdir()
    messages = _messages(raw)
    header = dict(_fields(next(messages)))
    terms = []
    with open(path / "inv.docs", "wb") as docs, open(path / "inv.freqs", "wb") as freqs:
        np.array([1, header[3]], np.uint32).tofile(docs)
        for _ in range(header[2]):
            own, postings, document = {}, [], 0
            for number, value in _fields(next(messages)):
                if number == 4:
                    posting = dict(_fields(value))
                    document += posting.get(1, 0)
                    postings.append((document, posting[2]))
                else:
                    own[number] = value
            terms.append(own[1].decode())
            for file, values in zip((docs, freqs), zip(*postings, strict=True), strict=True):
                np.array([len(values), *values], np.uint32).tofile(file)
    names, lengths = [], []
    for _ in range(header[3]):
        one = dict(_fields(next(messages)))
        names.append(one[2].decode())
        lengths.append(one.get(3, 0))
    np.array([len(lengths), *lengths], np.uint32).tofile(path / "inv.sizes")
    for kind, lines in (("terms", terms), ("documents", names)):
        lexicon = {"terms": "termlex", "documents": "doclex"}[kind]
        (path / f"fwd.{kind}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        _pisathon.build_binlex(str(path / f"fwd.{kind}"), str(path / f"fwd.{lexicon}"))
    described = {"type": "sparse_index", "format": "pisa", "package_hint": "pyterrier-pisa"}
    (path / "pt_meta.json").write_text(json.dumps({**described, "stemmer": "none"}))
    return names


def _messages(raw: bytes) -> Iterator[bytes]:
    """The messages of a file, each after its length."""
    at = 0
    while at < len(raw):
        length, start = _integer(raw, at)
        at = start + length
        yield raw[start:at]


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a Protocol Buffers message."""
    at = 0
    while at < len(raw):
        key, at = _integer(raw, at)
        value: Any
        if key & 7 == 0:
            value, at = _integer(raw, at)
        else:
            length, at = (8, at) if key & 7 == 1 else _integer(raw, at)
            value, at = raw[at : at + length], at + length
        yield key >> 3, value


def _integer(raw: bytes, at: int) -> tuple[int, int]:
    """(varint, where the next byte is)."""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


if __name__ == "__main__":
    sys.exit(main())
