"""Compare ranking models, one of your own and relevance feedback, and test the differences."""

from __future__ import annotations

import tempfile

import ir_measures
import numpy as np
from ir_measures import AP

import fastseq

TOPICS, DOCUMENTS = 40, 1200


def idf(statistics):
    return np.log(1 + statistics.documents / statistics.df)


def saturated(tf, length, statistics):
    return tf / (tf + np.sqrt(length / statistics.average_length))


RUNS = {
    "BM25": {"model": fastseq.BM25()},
    "BM25 + RM3": {"model": fastseq.BM25(), "feedback": fastseq.RM3()},
    "QL, Dirichlet": {"model": fastseq.Dirichlet(mu=200)},
    "QL, Jelinek-Mercer": {"model": fastseq.JelinekMercer(lam=0.1)},
    "DPH": {"model": fastseq.DPH()},
    "PL2": {"model": fastseq.PL2(c=2)},
    "own formula": {"model": fastseq.Ranking(weight=idf, part=saturated)},
}


def collection(seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """(documents, queries, the topic of each document): a third of the words of a document are of
    its topic, a sixth of another one, and the others of no topic. A query is two words of a topic,
    and the documents of that topic are relevant."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(TOPICS, size=DOCUMENTS)
    texts = []
    for topic in topics:
        length = int(rng.lognormal(3.5, 0.7)) + 5
        of = rng.choice([topic, rng.integers(TOPICS), TOPICS], length, p=[1 / 3, 1 / 6, 1 / 2])
        words = rng.zipf(1.4, length) % 25
        common = rng.zipf(1.2, length) % 2000
        texts.append(
            " ".join(
                f"common{c}" if t == TOPICS else f"topic{t}word{w}"
                for t, w, c in zip(of, words, common, strict=True)
            )
        )
    queries = [
        " ".join(f"topic{t}word{w}" for w in rng.choice(np.arange(2, 12), 2, replace=False))
        for t in range(TOPICS)
    ]
    return texts, queries, topics


def randomization_test(differences: np.ndarray, rounds: int = 10_000) -> float:
    """p of a two-sided paired test: how often random signs give as large a mean difference."""
    signs = np.random.default_rng(1).choice([-1, 1], (rounds, len(differences)))
    means = np.abs((signs * differences).mean(axis=1))
    return float((1 + (means >= abs(differences.mean()) - 1e-12).sum()) / (1 + rounds))


documents, queries, topics = collection(seed=1)
qrels = [ir_measures.Qrel(str(t), str(d), 1) for d, t in enumerate(topics)]
evaluator = ir_measures.evaluator([AP], qrels)

with tempfile.TemporaryDirectory() as folder:
    index = fastseq.Index.build(documents, f"{folder}/index")
    base = None
    print("run".ljust(20), "MAP".rjust(8), "p".rjust(8))
    for label, options in RUNS.items():
        hits = index.search(queries, k=1000, **options)
        run = [
            ir_measures.ScoredDoc(str(query), str(doc), float(score))
            for query, (ids, scores) in enumerate(zip(hits.ids, hits.scores, strict=True))
            for doc, score in zip(ids, scores, strict=False)
        ]
        found = {metric.query_id: metric.value for metric in evaluator.iter_calc(run)}
        values = np.array([found.get(str(query), 0.0) for query in range(TOPICS)])
        base = values if base is None else base
        p = "" if base is values else f"{randomization_test(values - base):.4f}"
        print(label.ljust(20), f"{values.mean():8.4f}", p.rjust(8))
