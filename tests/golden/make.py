"""Makes the golden indexes of the format version that this fastseq writes.

    python tests/golden/make.py [FOLDER]

They are written once for each version, into v1, v2, … beside this file or below FOLDER, with what
searches on them gave, and then stay as they are: a later fastseq must read them, or refuse them
with a clear message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa

from fastseq import BM25, TFIDF, Analyzer, BoW, Index
from fastseq.index import VERSION
from fastseq.search.ranking import RankingModel

HERE = Path(__file__).resolve().parent

ANALYZERS = {
    "words": Analyzer(tokenizer="word"),
    "pairs": Analyzer(tokenizer="space", stopwords="lucene", ngrams=(1, 2)),
    "pieces": Analyzer(tokenizer="word", char_ngrams=(2, 3), fold_accents=True),
}
CHANGED = "changed"  # the index of `changed`, from version 2 on
QUERIES = ["green tea", "猫喜欢吃鱼", "the cat", "caffè", "often", "nothing like it", "w7 w3 w7"]
MODELS: dict[str, RankingModel] = {
    "bm25": BM25(),
    "bm25l": BM25(0.9, 0.4, 1.0, "bm25l"),
    "tfidf": TFIDF("ltc.lnc"),
    "bow": BoW(),
}
HITS = 5


def corpus() -> pa.Table:
    """Small, and with something of everything: scripts, nulls, empty texts, large frequencies."""
    texts: list[str | None] = [
        "Green tea and black tea",
        "A cat drinks no tea; the cat drinks milk.",
        "猫喜欢吃鱼，狗喜欢吃肉。",
        None,
        "",
        "Un caffè, per favore: CAFFÈ!",
        "often " * 300 + "seldom",
        "İstanbul’da ß ve ﬁ",
    ]
    texts += [f"w{n % 10} w{n % 4} w{n % 3} tea" for n in range(40)]
    rows = len(texts)
    return pa.table(
        {
            "id": [f"d{n:02}" for n in range(rows)],
            "text": pa.array(texts, pa.string()),
            "year": pa.array([None if n % 7 == 0 else 1990 + n for n in range(rows)], pa.int32()),
            "tags": [["a", "b"][: n % 3] for n in range(rows)],
        }
    )


def changed(path: Path) -> Index:
    """An index of several segments, with a field, and documents replaced and deleted."""
    table = corpus()
    titles = [None if text is None else text[:12] for text in table["text"].to_pylist()]
    table = table.append_column("title", pa.array(titles, pa.string()))
    analyzer = Analyzer.for_language("english")
    Index.build(
        table[:30], path, text_columns=["text"], fields=["title"], analyzer=analyzer, threads=1
    )
    index = Index.open(path)
    index.add(table[30:], threads=1)
    index.delete(["d01", "d31", "d47"])
    index.add(table[3:5], threads=1)
    return Index.open(path)


def results(index: Index) -> dict[str, dict[str, list[list[object]]]]:
    """[id, score] of the best hits, by model and query."""
    return {
        name: {
            query: [
                [hit["id"], hit["score"]] for hit in index.search(query, HITS, model).to_dicts()
            ]
            for query in QUERIES
        }
        for name, model in MODELS.items()
    }


def make(target: Path) -> Path:
    """Write the indexes of the current version below `target`; refuses to write over any."""
    folder = target / f"v{VERSION}"
    made: dict[str, Index] = {}
    for name, analyzer in ANALYZERS.items():
        made[name] = Index.build(corpus(), folder / name, analyzer=analyzer, threads=1)
    made[CHANGED] = changed(folder / CHANGED)
    for name, index in made.items():
        (folder / name / "lock").unlink()
        with open(folder / f"{name}.json", "x", encoding="utf-8") as file:
            json.dump(results(index), file, ensure_ascii=False, indent=1)
            file.write("\n")
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
