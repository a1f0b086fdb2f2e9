"""Compare ranking models on a test collection: documents, queries and relevance judgments."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ir_measures
import pyarrow.parquet as pq

import fastseq
from fastseq.samples import write_samples

MODELS = {
    "bm25": fastseq.BM25(),
    "bm25 k1=0.9 b=0.4": fastseq.BM25(k1=0.9, b=0.4),
    "bm25l": fastseq.BM25(variant="bm25l"),
    "tfidf ltc.lnc": fastseq.TFIDF(smart="ltc.lnc"),
    "bow": fastseq.BoW(),
}

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    write_samples(folder)  # docs, queries and qrels from the standard library's documentation
    queries = pq.read_table(folder / "queries.parquet").to_pydict()
    qrels = [
        ir_measures.Qrel(str(row["query_id"]), str(row["doc_id"]), row["rel"])
        for row in pq.read_table(folder / "qrels.parquet").to_pylist()
    ]
    index = fastseq.Index.build(folder / "docs.parquet", folder / "index")
    measures = [ir_measures.parse_measure(name) for name in ("nDCG@10", "RR@10", "R@100")]
    print("model".ljust(20), *(str(measure).rjust(9) for measure in measures))
    for name, model in MODELS.items():
        hits = index.search(queries["text"], k=100, model=model)
        run = [
            ir_measures.ScoredDoc(str(query), str(doc), float(score))
            for query, ids, scores in zip(queries["query_id"], hits.ids, hits.scores, strict=True)
            for doc, score in zip(ids, scores, strict=False)
        ]
        found = ir_measures.calc_aggregate(measures, qrels, run)
        print(name.ljust(20), *(f"{found[measure]:9.4f}" for measure in measures))
